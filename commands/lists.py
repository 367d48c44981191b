"""Commands of lists.

1. A change goes through `Keyspace.change` or `create`, one operation of the value (`values/lists.py`), and `done`.
2. A long reply is a `LongArray` of the value's chunks, which are unpacked as they are sent.
3. A search in a long list runs in slices. A command that then changes the list locks its key meanwhile, and changes it
   in one step: see `_with_key_locked`. So does a push of thousands of elements: they become a list of their own first.

The commands that wait are in `commands/blocking_lists.py`; they try `pop_first` and `move`. The module is longer than
most because lists have seventeen commands besides, and what several of them share stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from commands import DENYOOM, FAST, FIRST, FIRST_TWO, READONLY, WRITE, command, fold, for_many
from commands.arguments import (
    MAX_INTEGER,
    MIN_INTEGER,
    check_option_words,
    check_read_words,
    parse_bounded,
    parse_integer,
)
from commands.key_positions import Counted
from commands.long_commands import AT_ONCE_WORDS, collected, is_long, with_keys_locked, words_of
from errors import (
    COUNT_NEGATIVE,
    COUNT_NOT_POSITIVE,
    INDEX_OUT_OF_RANGE,
    LPOS_COUNT_NEGATIVE,
    LPOS_MAXLEN_NEGATIVE,
    LPOS_RANK_OUT_OF_RANGE,
    LPOS_RANK_ZERO,
    NO_SUCH_KEY,
    NUMKEYS_NOT_POSITIVE,
    SYNTAX,
    WRONG_ARITY,
    CommandError,
)
from replies import NULL_ARRAY, OK, LongArray, Reply, Strings, Work
from session import Session
from store import EffectLog, Keyspace
from values import LIST
from values.chunks import elements_of
from values.entry import NO_DEADLINE
from values.lists import List
from wire.columns import all_alike

LONG_REPLY = 512  # elements; a longer reply is sent in parts
AT_ONCE_STEPS = 128  # of a search, with some hundred elements each: a millisecond at most
FEW_REMOVED = 16  # elements that are removed one by one; else the list is made anew without them
MANY_CHUNKS = 64  # more are freed in slices
SIDES = {b"LEFT": True, b"RIGHT": False}  # True: the left end
NAMES_OF_SIDES = {True: b"LEFT", False: b"RIGHT"}
BEFORE_OR_AFTER = {b"BEFORE": 0, b"AFTER": 1}


# ---- push


@command("LPUSH", "key element [element ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def lpush(session: Session, argv: list[bytes]) -> Reply:
    """Add elements before the first one of a list, which is created if there is none."""
    if is_long(argv):
        return _push_in_parts(session, argv, List.push_left, List.join_left)
    _, key, *elements = argv
    items = session.db.create(key, LIST)
    items.push_left(elements)
    session.db.done(key, items, b"LPUSH", key, *elements)
    return items.length  # type: ignore[no-any-return]


@command("RPUSH", "key element [element ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def rpush(session: Session, argv: list[bytes]) -> Reply:
    """Add elements behind the last one of a list, which is created if there is none."""
    if is_long(argv):
        return _push_in_parts(session, argv, List.push_right, List.join_right)
    _, key, *elements = argv
    items = session.db.create(key, LIST)
    items.push_right(elements)
    session.db.done(key, items, b"RPUSH", key, *elements)
    return items.length  # type: ignore[no-any-return]


@for_many("LPUSH")
def lpush_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run a pipeline of LPUSH for one list. It is logged as one LPUSH."""
    return _push_many(session, keys, columns, b"LPUSH", List.push_left)


@for_many("RPUSH")
def rpush_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run a pipeline of RPUSH for one list. It is logged as one RPUSH."""
    return _push_many(session, keys, columns, b"RPUSH", List.push_right)


def _push_many(
    session: Session,
    keys: Sequence[bytes],
    columns: Sequence[Sequence[bytes]],
    name: bytes,
    push: Callable[[List, Sequence[bytes]], None],
) -> Sequence[Reply] | None:
    key, step = keys[0], len(columns)
    if not all_alike(keys) or len(keys) * step > AT_ONCE_WORDS or session.db.listener is not None:
        return None  # a client may wait for the first element
    elements = columns[0] if step == 1 else [word for words in zip(*columns, strict=True) for word in words]
    try:
        items = session.db.create(key, LIST)
    except CommandError:
        return None
    length = len(items)
    push(items, elements)
    session.db.done(key, items, name, key, *elements)
    return list(range(length + step, len(items) + 1, step))


@command("LPUSHX", "key element [element ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.2.0")
def lpushx(session: Session, argv: list[bytes]) -> Reply:
    """Add elements before the first one of a list, if it exists."""
    if is_long(argv):
        return _push_in_parts(session, argv, List.push_left, List.join_left, if_exists=True)
    return lpush(session, argv) if session.db.change(argv[1], LIST) is not None else 0


@command("RPUSHX", "key element [element ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.2.0")
def rpushx(session: Session, argv: list[bytes]) -> Reply:
    """Add elements behind the last one of a list, if it exists."""
    if is_long(argv):
        return _push_in_parts(session, argv, List.push_right, List.join_right, if_exists=True)
    return rpush(session, argv) if session.db.change(argv[1], LIST) is not None else 0


def _push_in_parts(
    session: Session,
    argv: list[bytes],
    push: Callable[[List, list[bytes]], None],
    join: Callable[[List, List], None],
    if_exists: bool = False,
) -> Work:
    """Make a list of the elements in slices, and join it with the list of the key in one step."""
    db, key = session.db, argv.pop(1)  # not before the work begins: the request is shown to monitors
    name = b"LPUSH" if push is List.push_left else b"RPUSH"

    def run(all_effects: EffectLog) -> Work:
        added, effects = List(), session.store.log.begin()
        for words in words_of(argv):
            push(added, words)
            effects.append(db.index, (name, key, *words))
            yield
        if if_exists and db.change(key, LIST) is None:
            return 0
        items = db.create(key, LIST)
        join(items, added)
        all_effects.commit(effects, [{key}], session.store.garbage)
        db.done(key, items)
        return items.length  # type: ignore[no-any-return]

    return (yield from with_keys_locked(session, [key], run))


# ---- pop, move


@command("LPOP", "key [count]", arity=-2, flags=WRITE | FAST, keys=FIRST)
def lpop(session: Session, argv: list[bytes]) -> Reply:
    """Remove the first elements of a list and return them; without a count, one."""
    if len(argv) > 2:
        return _pop_several(session, argv, from_left=True)
    _, key = argv
    items = session.db.change(key, LIST)
    if items is None:
        return None
    element: bytes = items.pop_left()
    session.db.done(key, items, b"LPOP", key)
    return element


@command("RPOP", "key [count]", arity=-2, flags=WRITE | FAST, keys=FIRST)
def rpop(session: Session, argv: list[bytes]) -> Reply:
    """Remove the last elements of a list and return them, the last one first; without a count, one."""
    if len(argv) > 2:
        return _pop_several(session, argv, from_left=False)
    _, key = argv
    items = session.db.change(key, LIST)
    if items is None:
        return None
    element: bytes = items.pop_right()
    session.db.done(key, items, b"RPOP", key)
    return element


@for_many("LPOP")
def lpop_many(session: Session, keys: Sequence[bytes], *counts: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run a pipeline of LPOP for one list. It is logged as one LPOP."""
    return None if counts else _pop_many(session, keys, b"LPOP", List.pop_left)


@for_many("RPOP")
def rpop_many(session: Session, keys: Sequence[bytes], *counts: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run a pipeline of RPOP for one list. It is logged as one RPOP."""
    return None if counts else _pop_many(session, keys, b"RPOP", List.pop_right)


def _pop_many(
    session: Session, keys: Sequence[bytes], name: bytes, pop: Callable[[List], bytes]
) -> Sequence[Reply] | None:
    key, requests = keys[0], len(keys)
    if not all_alike(keys):
        return None
    try:
        items = session.db.change(key, LIST)
    except CommandError:
        return None
    count = min(requests, len(items)) if items is not None else 0
    popped: list[Reply] = [pop(items) for _ in range(count)]
    if count:
        session.db.done(key, items, name, key, *_unless_one(count))
    return popped + [None] * (requests - count)


def _unless_one(count: int) -> list[bytes]:
    """Return the count of a pop for the log; one element needs none."""
    return [b"%d" % count] if count > 1 else []


def _pop_several(session: Session, argv: list[bytes], from_left: bool) -> Reply:
    name, key, number = argv[:3]
    if len(argv) > 3:
        raise CommandError(WRONG_ARITY % name.lower())
    count = parse_bounded(number, 0, MAX_INTEGER, COUNT_NEGATIVE)
    items = session.db.change(key, LIST)
    if items is None:
        return NULL_ARRAY
    return _take(session.db, key, items, count, from_left) if count else []


def _take(db: Keyspace, key: bytes, items: List, most: int, from_left: bool) -> list[bytes] | LongArray:
    """Remove elements from an end of a list, and return them in the order in which they are removed."""
    count, length = min(most, len(items)), len(items)
    if from_left:
        taken = _range(items, 0, count)
        items.trim(count, length)
    else:
        taken = _range(items, length - count, length, backward=True)
        items.trim(0, length - count)
    db.done(key, items, b"LPOP" if from_left else b"RPOP", key, *_unless_one(count))
    return taken


@command(
    "LMPOP",
    "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    arity=-4,
    flags=WRITE,
    keys=Counted(1),
    since="7.0.0",
)
def lmpop(session: Session, argv: list[bytes]) -> Reply:
    """Remove elements from the first list that is not empty, and return them with its key."""
    check_read_words(argv)
    numkeys = parse_bounded(argv[1], 1, MAX_INTEGER, NUMKEYS_NOT_POSITIVE)
    keys, words = argv[2 : 2 + numkeys], argv[2 + numkeys :]
    if not words:
        raise CommandError(SYNTAX)
    from_left = parse_side(words[0])
    count = 1
    if words[1:]:
        if len(words) == 2 or fold(words[1]) != b"COUNT":
            raise CommandError(SYNTAX)
        count = parse_bounded(words[2], 1, MAX_INTEGER, COUNT_NOT_POSITIVE)
        if len(words) > 3:
            raise CommandError(SYNTAX)
    popped = pop_first(session.db, keys, count, from_left)
    if popped is None:
        return NULL_ARRAY
    key, elements = popped
    return elements.behind(key) if isinstance(elements, LongArray) else [key, elements]


def pop_first(
    db: Keyspace, keys: list[bytes], count: int, from_left: bool
) -> tuple[bytes, list[bytes] | LongArray] | None:
    """Remove elements from the first of these lists that exists; return its key and them, or None."""
    for key in keys:
        items = db.change(key, LIST)
        if items is not None:
            return key, _take(db, key, items, count, from_left)
    return None


@command(
    "LMOVE",
    "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
    arity=5,
    flags=WRITE | DENYOOM,
    keys=FIRST_TWO,
    since="6.2.0",
)
def lmove(session: Session, argv: list[bytes]) -> Reply:
    """Move an element from an end of a list to an end of another list, and return it."""
    _, source, destination, wherefrom, whereto = argv
    return move(session.db, source, destination, parse_side(wherefrom), parse_side(whereto))


@command("RPOPLPUSH", "source destination", arity=3, flags=WRITE | DENYOOM, keys=FIRST_TWO, since="1.2.0")
def rpoplpush(session: Session, argv: list[bytes]) -> Reply:
    """Move the last element of a list before the first one of another list, and return it."""
    _, source, destination = argv
    return move(session.db, source, destination, from_left=False, to_left=True)


def parse_side(word: bytes) -> bool:
    """Return True for LEFT, and False for RIGHT."""
    found = SIDES.get(fold(word))
    if found is None:
        raise CommandError(SYNTAX)
    return found


def move(db: Keyspace, source: bytes, destination: bytes, from_left: bool, to_left: bool) -> bytes | None:
    """Move an element between two lists, or between the ends of one; return it, or None if there is none."""
    items = db.change(source, LIST)
    if items is None:
        return None
    if source == destination and (len(items) == 1 or from_left == to_left):  # it changes nothing
        db.touched(source)
        return items[0 if from_left else len(items) - 1]  # type: ignore[no-any-return]
    target = items if source == destination else db.create(destination, LIST)
    element: bytes = items.pop_left() if from_left else items.pop_right()
    if to_left:
        target.push_left([element])
    else:
        target.push_right([element])
    if target is not items:
        db.done(source, items)
    db.done(destination, target, b"LMOVE", source, destination, NAMES_OF_SIDES[from_left], NAMES_OF_SIDES[to_left])
    return element


# ---- read


@command("LLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST)
def llen(session: Session, argv: list[bytes]) -> Reply:
    """Return the number of elements of a list."""
    _, key = argv
    return len(session.db.value(key, LIST) or ())


@command("LINDEX", "key index", arity=3, flags=READONLY, keys=FIRST)
def lindex(session: Session, argv: list[bytes]) -> Reply:
    """Return an element of a list by its index; a negative one counts from the end."""
    _, key, number = argv
    items = session.db.value(key, LIST)
    if items is None:
        return None
    index = _index(items, number)
    return None if index is None else items[index]


def _index(items: List, number: bytes) -> int | None:
    """Return an index from 0; None if it is out of range."""
    index = parse_integer(number)
    if index < 0:
        index += len(items)
    return index if 0 <= index < len(items) else None


@command("LRANGE", "key start stop", arity=4, flags=READONLY, keys=FIRST)
def lrange(session: Session, argv: list[bytes]) -> Reply:
    """Return the elements of a list from one index to another, both included."""
    _, key, first, last = argv
    start, stop = parse_integer(first), parse_integer(last)
    items = session.db.value(key, LIST)
    if items is None:
        return []
    start, stop = _bounds(items.length, start, stop)
    if stop - start <= LONG_REPLY:
        return Strings(items.between(start, stop))
    return _range(items, start, stop)


def _bounds(length: int, start: int, stop: int) -> tuple[int, int]:
    """Return the part from `start` to `stop`, which may be negative, as one that ends before its second number."""
    if start < 0:
        start = max(0, start + length)
    stop += 1 if stop >= 0 else length + 1
    stop = min(stop, length)
    return (start, stop) if start < stop else (0, 0)


def _range(items: List, start: int, stop: int, backward: bool = False) -> list[bytes] | LongArray:
    """Return elements of a list; many in the parts in which the list has them."""
    if stop - start <= LONG_REPLY:
        found = items.between(start, stop)
        return found[::-1] if backward else found
    parts: list[Any] = items.parts_between(start, stop)
    held_bytes = items.payload_bytes * (stop - start) // len(items)  # about
    if backward:
        return LongArray(parts[::-1], held_bytes, stop - start, lambda part: elements_of(part)[::-1])
    return LongArray(parts, held_bytes, stop - start, elements_of)


@command(
    "LPOS",
    "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
    arity=-3,
    flags=READONLY,
    keys=FIRST,
    since="6.0.6",
)
def lpos(session: Session, argv: list[bytes]) -> Reply:
    """Return the index of an element in a list, or with COUNT the indexes of several that are equal."""
    check_option_words(argv)
    _, key, element, *words = argv
    options = {b"RANK": 1, b"COUNT": -1, b"MAXLEN": 0}
    if len(words) % 2:
        _parse_position(words[:-1], options)
        raise CommandError(SYNTAX)
    _parse_position(words, options)
    rank, count, most = options.values()
    items = session.db.value(key, LIST)
    if items is None:
        return None if count < 0 else []
    return _begun(_positions(items.search(element, rank < 0, most or len(items)), abs(rank), count))


def _parse_position(words: list[bytes], options: dict[bytes, int]) -> None:
    """Enter pairs of an option and a number into the options. Raises CommandError."""
    for word, number in zip(words[::2], words[1::2], strict=True):
        option = fold(word)
        if option == b"RANK":
            options[option] = _parse_rank(number)
        elif option == b"COUNT":
            options[option] = parse_bounded(number, 0, MAX_INTEGER, LPOS_COUNT_NEGATIVE)
        elif option == b"MAXLEN":
            options[option] = parse_bounded(number, 0, MAX_INTEGER, LPOS_MAXLEN_NEGATIVE)
        else:
            raise CommandError(SYNTAX)


def _parse_rank(number: bytes) -> int:
    rank = parse_integer(number)
    if not rank:
        raise CommandError(LPOS_RANK_ZERO)
    if rank == MIN_INTEGER:
        raise CommandError(LPOS_RANK_OUT_OF_RANGE)
    return rank


def _positions(search: Iterator[int | None], rank: int, count: int) -> Work:
    """Return the indexes that a search finds, from the one with this rank on; `count` -1: one or None, 0: all."""
    found: list[Any] = []
    for index in search:
        if index is None:
            yield
        elif rank > 1:
            rank -= 1
        elif count < 0:
            return index
        else:
            found.append(index)
            if len(found) == count:
                break
    return found if count >= 0 else None


# ---- change in the middle


@command("LSET", "key index element", arity=4, flags=WRITE | DENYOOM, keys=FIRST)
def lset(session: Session, argv: list[bytes]) -> Reply:
    """Replace an element of a list by its index; a negative one counts from the end."""
    _, key, number, element = argv
    items = session.db.change(key, LIST)
    if items is None:
        raise CommandError(NO_SUCH_KEY)
    index = _index(items, number)
    if index is None:
        raise CommandError(INDEX_OUT_OF_RANGE)
    if items[index] != element:
        items[index] = element
        session.db.done(key, items, b"LSET", key, number, element)
    else:
        session.db.touched(key)
    return OK


@command("LTRIM", "key start stop", arity=4, flags=WRITE, keys=FIRST)
def ltrim(session: Session, argv: list[bytes]) -> Reply:
    """Remove all elements of a list but those from one index to another, both included."""
    _, key, first, last = argv
    start, stop = parse_integer(first), parse_integer(last)
    items = session.db.change(key, LIST)
    if items is None:
        return OK
    start, stop = _bounds(len(items), start, stop)
    if stop - start < len(items):
        dropped = items.trim(start, stop)
        session.db.done(key, items, b"LTRIM", key, first, last)
        if len(dropped) > MANY_CHUNKS:
            session.store.garbage.append(dropped)
    else:
        session.db.touched(key)
    return OK


@command(
    "LINSERT",
    "key <BEFORE | AFTER> pivot element",
    arity=5,
    flags=WRITE | DENYOOM,
    keys=FIRST,
    since="2.2.0",
)
def linsert(session: Session, argv: list[bytes]) -> Reply:
    """Insert an element before or behind the first one that is equal to the pivot."""
    _, key, where, pivot, element = argv
    behind = BEFORE_OR_AFTER.get(fold(where))
    if behind is None:
        raise CommandError(SYNTAX)
    db = session.db

    def run(items: List) -> Generator[None, None, int]:
        for index in items.search(pivot):
            if index is not None:
                changed = db.change(key, LIST)  # it may have expired meanwhile
                return _insert(changed, index + behind) if changed is not None else 0
            yield
        return -1

    def _insert(items: List, index: int) -> int:
        if index < len(items):
            items.insert(index, element)
        else:
            items.push_right([element])
        db.done(key, items, b"LINSERT", key, fold(where), pivot, element)
        return len(items)

    return _with_key_locked(session, key, run)


@command("LREM", "key count element", arity=4, flags=WRITE, keys=FIRST)
def lrem(session: Session, argv: list[bytes]) -> Reply:
    """Remove the first, or with a negative count the last, elements that are equal to this; with 0 all of them."""
    _, key, number, element = argv
    count = parse_integer(number)
    db = session.db

    def remove_few(items: List) -> Generator[None, None, int]:
        found: list[int] = []
        for index in items.search(element, count < 0):
            if index is None:
                yield
            else:
                found.append(index)
                if len(found) == abs(count):
                    break
        changed = db.change(key, LIST) if found else None  # it may have expired meanwhile
        if changed is None:
            return 0
        for index in sorted(found, reverse=True):
            del changed[index]
        db.done(key, changed, b"LREM", key, number, element)
        return len(found)

    def remove_many(items: List) -> Generator[None, None, int]:
        made = yield from items.without(element, abs(count) or len(items), count < 0)
        removed = len(items) - len(made)
        replaced = db.change(key, LIST) if removed else None  # it may have expired meanwhile
        if replaced is None:
            return 0
        db.done(key, made, b"LREM", key, number, element)
        if made:
            db.drop((replaced, NO_DEADLINE))
        return removed

    return _with_key_locked(session, key, remove_few if 0 < abs(count) <= FEW_REMOVED else remove_many)


def _with_key_locked(session: Session, key: bytes, run: Callable[[List], Generator[None, None, int]]) -> Reply:
    """Run work on a list: at once if it is short, else in slices with the key locked. 0 if there is no list.

    The work only reads the list before its last step, so it can begin again.
    """
    items = session.db.change(key, LIST)
    if items is None:
        return 0
    reply = _begun(run(items))
    return _in_slices(session, key, run) if isinstance(reply, Generator) else reply


def _begun(work: Work) -> Reply:
    """Do the first steps of some work; return its reply, or the work if that is not all."""
    try:
        for _ in range(AT_ONCE_STEPS):
            next(work)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
    return work


def _in_slices(session: Session, key: bytes, run: Callable[[List], Generator[None, None, int]]) -> Work:
    db = session.db

    def run_on_list(effects: EffectLog) -> Work:
        items = db.change(key, LIST)  # another list may stand there since
        return 0 if items is None else (yield from collected(session, effects, run(items)))

    return with_keys_locked(session, [key], run_on_list)
