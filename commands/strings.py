"""Commands on strings: whole values, parts of values, numbers.

1. A string value is `bytes`, or a `LongString` if it is long and a part of it was written. A number is stored as its
   decimal text.
2. A command that changes a part of a string (APPEND, SETRANGE, INCRBY) logs itself: that is shorter than the new value
   and as deterministic. A command that sets a whole string logs a SET with its absolute deadline.
3. APPEND and SETRANGE copy a short value. A longer one becomes a `LongString`, which they write in place. More than
   HUGE_BYTES are written in slices.

The module has more than 500 lines because the family has some twenty commands; each of them is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from commands import (
    ALL,
    DENYOOM,
    FAST,
    FIRST,
    FIRST_TWO,
    PAIRS,
    QUICK,
    READONLY,
    WRITE,
    Counted,
    command,
    fold,
    for_many,
)
from commands.arguments import (
    EXPIRY_OPTIONS,
    MAX_INTEGER,
    MIN_INTEGER,
    check_option_words,
    parse_bounded,
    parse_deadline,
    parse_integer,
)
from commands.long_commands import (
    HUGE_BYTES,
    PART_WORDS,
    Run,
    get_in_slices,
    in_parts,
    is_long,
    lock_keys,
    run_locked,
    run_parts,
    string_or_none,
    with_keys_locked,
    words_of,
)
from commands.string_conditions import VALUE_CONDITIONS, holds
from errors import (
    DECREMENT_OVERFLOW,
    INVALID_NUMKEYS,
    LCS_LENGTH_AND_RANGES,
    LCS_NOT_STRINGS,
    LCS_TOO_LARGE,
    NAN_OR_INFINITY,
    NOT_A_FLOAT,
    OFFSET_OUT_OF_RANGE,
    OVERFLOW,
    STRING_TOO_LONG,
    SYNTAX,
    TEXT_NO_VALUE,
    WRONG_ARITY,
    WRONG_PAIRS,
    CommandError,
)
from keyspace.key_locks import KeyLock
from keyspace.many_keys import put_many, read_strings, replace_many, short_strings
from replies import OK, Computed, Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values import STRING, LongString, is_string
from values.entry import NO_DEADLINE, VALUE
from values.long_string import overwritten
from values.subsequence import MAX_BYTES, MAX_PAIRS, common_length, common_ranges, is_too_large
from wire.columns import all_alike

INT_MAX = 2**31 - 1
MAX_STRING_BYTES = 512 * 1024 * 1024  # the default of proto-max-bulk-len: the longest word of a request
STEP_BYTES = 1 << 20
FAR = 1 << 62  # the sum of two smaller numbers fits in 64 bits


def assign(db: Keyspace, key: bytes, value: bytes, deadline_ms: int) -> None:
    """Set a string value and its deadline (Unix ms), and log a SET."""
    db.put(key, value, deadline_ms)
    db.store.log.append_set(db.index, key, value, deadline_ms)


def assign_many(db: Keyspace, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None:
    """Call `assign` for each key and its value, at once."""
    put_many(db, keys, values, deadline_ms)
    db.store.log.append_sets(db.index, keys, values, deadline_ms)


# ---- whole strings


@command("GET", "key", arity=2, flags=READONLY | FAST, keys=FIRST, text_null=TEXT_NO_VALUE)
def get(session: Session, argv: list[bytes]) -> Reply:
    """Get the string value of a key."""
    _, key = argv
    return session.db.string(key)


@for_many("GET")
def get_many(session: Session, keys: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run GETs of these keys."""
    return read_strings(session.db, keys)


@command(
    "SET",
    "key value [NX | XX | IFEQ comparison-value | IFNE comparison-value | IFDEQ digest | IFDNE digest] [GET]"
    " [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
    arity=-3,
    flags=WRITE | DENYOOM,
    keys=FIRST,
)
def set_string(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key, whatever its type was; with IFEQ and its like, if its value or digest allows it.

    Differs from Redis: without a time to live and without KEEPTTL the key gets the default TTL, unless that is 0.
    """
    if len(argv) == 3:  # the most frequent write has the shortest way
        _, key, value = argv
        db, store = session.db, session.store
        db.put(key, value, store.default_deadline_ms)
        store.log.append_set(db.index, key, value, store.default_deadline_ms)
        return OK
    return _set_with_options(session, argv)


def _set_with_options(session: Session, argv: list[bytes]) -> Reply:
    check_option_words(argv)
    _, key, value, *words = argv
    db = session.db
    expiry, conditions = _parse_set_options(words)
    deadline_ms = expiry.deadline_ms(session, b"set")
    returns_old = b"GET" in conditions
    old = None
    on_value = conditions.keys() & VALUE_CONDITIONS  # one at most
    if returns_old or on_value:
        old = db.string(key)
    elif conditions or expiry.option == b"KEEPTTL":
        old = db.get(key)
    if (
        (b"NX" in conditions and old is not None)
        or (b"XX" in conditions and old is None)
        or not all(holds(condition, conditions[condition], old) for condition in on_value)
    ):
        return old if returns_old else None
    if expiry.option == b"KEEPTTL":
        deadline_ms = NO_DEADLINE if old is None else db.deadline_ms(key)
    assign(db, key, value, deadline_ms)
    return old if returns_old else OK


@for_many("SET")
def set_many(
    session: Session, keys: Sequence[bytes], values: Sequence[bytes], *columns: Sequence[bytes]
) -> Sequence[Reply] | None:
    """Run SETs without options, or with one equal EX, PX, EXAT or PXAT."""
    if not columns:
        assign_many(session.db, keys, values, session.store.default_deadline_ms)
        return [OK] * len(keys)
    if len(columns) != 2:
        return None
    options, amounts = columns
    return _set_many_with(session, fold(options[0]) if all_alike(options) else b"", keys, values, amounts)


def _set_many_with(
    session: Session, option: bytes, keys: Sequence[bytes], values: Sequence[bytes], amounts: Sequence[bytes]
) -> Sequence[Reply] | None:
    """Run SETs with one expiry option; return None unless all have the same valid amount."""
    if option not in EXPIRY_OPTIONS or not all_alike(amounts):
        return None
    try:
        deadline_ms = parse_deadline(option, amounts[0], session.store.now_ms, b"set")
    except CommandError:
        return None
    assign_many(session.db, keys, values, deadline_ms)
    return [OK] * len(keys)


class Expiry(NamedTuple):
    """The expiry option of SET or GETEX: EX, PX, EXAT or PXAT with an amount; KEEPTTL; PERSIST; or none (empty)."""

    option: bytes
    amount: bytes

    def deadline_ms(self, session: Session, command: bytes) -> int:
        """Return the deadline in Unix ms; without an amount, the default deadline. Raises CommandError."""
        if self.option in EXPIRY_OPTIONS:
            return parse_deadline(self.option, self.amount, session.store.now_ms, command)
        return session.store.default_deadline_ms


Conditions = dict[bytes, bytes]  # NX, XX, GET, and one on the value with its operand


def _parse_set_options(words: list[bytes]) -> tuple[Expiry, Conditions]:
    return _parse_options(words, without_amount={b"KEEPTTL"}, conditions={b"NX", b"XX", b"GET", *VALUE_CONDITIONS})


def _parse_getex_options(words: list[bytes]) -> Expiry:
    expiry, _ = _parse_options(words, without_amount={b"PERSIST"}, conditions=set())
    return expiry


def _parse_options(words: list[bytes], without_amount: set[bytes], conditions: set[bytes]) -> tuple[Expiry, Conditions]:
    """Parse the options of SET, GETEX or MSETEX. Raises CommandError if two contradict."""
    expiry = Expiry(b"", b"")
    met: Conditions = {}
    rest = iter(words)
    for word in rest:
        option = fold(word)
        if option in conditions:
            takes_operand = option in VALUE_CONDITIONS
            operand = next(rest, None) if takes_operand else b""
            if operand is None or (takes_operand and option in met):
                raise CommandError(SYNTAX)
            met[option] = operand
            continue
        takes_amount = option in EXPIRY_OPTIONS
        amount = next(rest, None) if takes_amount else b""
        if amount is None or not (takes_amount or option in without_amount) or expiry.option not in (b"", option):
            raise CommandError(SYNTAX)
        expiry = Expiry(option, amount)
    if len(met.keys() & {b"NX", b"XX", *VALUE_CONDITIONS}) > 1:
        raise CommandError(SYNTAX)
    return expiry, met


@command("SETEX", "key seconds value", arity=4, flags=WRITE | DENYOOM, keys=FIRST, since="2.0.0")
def setex(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key and its time to live in seconds."""
    _, key, seconds, value = argv
    assign(session.db, key, value, parse_deadline(b"EX", seconds, session.store.now_ms, b"setex"))
    return OK


@command("PSETEX", "key milliseconds value", arity=4, flags=WRITE | DENYOOM | QUICK, keys=FIRST, since="2.6.0")
def psetex(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key and its time to live in milliseconds."""
    _, key, milliseconds, value = argv
    assign(session.db, key, value, parse_deadline(b"PX", milliseconds, session.store.now_ms, b"psetex"))
    return OK


@for_many("SETEX")
def setex_many(
    session: Session, keys: Sequence[bytes], seconds: Sequence[bytes], values: Sequence[bytes]
) -> Sequence[Reply] | None:
    """Run SETEXs that have the same number of seconds."""
    return _set_many_with(session, b"EX", keys, values, seconds)


@command("SETNX", "key value", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def setnx(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key if the key does not exist.

    Differs from Redis: the key gets the default TTL, unless that is 0.
    """
    _, key, value = argv
    if session.db.get(key) is not None:
        return 0
    assign(session.db, key, value, session.store.default_deadline_ms)
    return 1


@command("GETSET", "key value", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def getset(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key and return the old value.

    Differs from Redis: the key gets the default TTL, unless that is 0.
    """
    _, key, value = argv
    old = session.db.string(key)
    assign(session.db, key, value, session.store.default_deadline_ms)
    return old


@command("GETDEL", "key", arity=2, flags=WRITE | FAST, keys=FIRST, since="6.2.0", text_null=TEXT_NO_VALUE)
def getdel(session: Session, argv: list[bytes]) -> Reply:
    """Return the string value of a key and delete the key."""
    _, key = argv
    db = session.db
    value = db.string(key)
    if value is not None:
        db.remove(key)
        db.effect(b"DEL", key)
    return value


@command(
    "GETEX",
    "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
    arity=-2,
    flags=WRITE | FAST,
    keys=FIRST,
    since="6.2.0",
    text_null=TEXT_NO_VALUE,
)
def getex(session: Session, argv: list[bytes]) -> Reply:
    """Return the string value of a key and change its expiry."""
    check_option_words(argv)
    _, key, *words = argv
    db = session.db
    expiry = _parse_getex_options(words)
    value = db.string(key)
    if value is None or not expiry.option:
        return value
    if expiry.option == b"PERSIST":
        if db.persist(key):
            db.effect(b"PERSIST", key)
    else:
        db.end_at(key, expiry.deadline_ms(session, b"getex"))
    return value


@command("MGET", "key [key ...]", arity=-2, flags=READONLY | FAST, keys=ALL)
def mget(session: Session, argv: list[bytes]) -> Reply:
    """Get the string values of keys; null for a key that does not exist or does not hold a string."""
    if is_long(argv):
        return get_in_slices(session, argv)
    return _values(session.db, argv[1:])


def _values(db: Keyspace, keys: list[bytes]) -> list[Any]:
    return read_strings(db, keys) or [string_or_none(value) for value in map(db.read, keys)]


@command("MSET", "key value [key value ...]", arity=-3, flags=WRITE | DENYOOM | QUICK, keys=PAIRS, since="1.0.1")
def mset(session: Session, argv: list[bytes]) -> Reply:
    """Set the string values of several keys atomically.

    Differs from Redis: the keys get the default TTL, unless that is 0.
    """
    _check_pairs(argv, b"mset")
    if is_long(argv):
        return _set_in_parts(session, argv)
    keys, values = argv[1::2], argv[2::2]
    assign_many(session.db, keys, values, session.store.default_deadline_ms)
    return OK


def _set_in_parts(session: Session, argv: list[bytes]) -> Work:
    yield from in_parts(session, argv, mset, step=2)
    return OK


@command("MSETNX", "key value [key value ...]", arity=-3, flags=WRITE | DENYOOM | QUICK, keys=PAIRS, since="1.0.1")
def msetnx(session: Session, argv: list[bytes]) -> Reply:
    """Set the string values of several keys atomically, if none of the keys exists.

    Differs from Redis: the keys get the default TTL, unless that is 0.
    """
    _check_pairs(argv, b"msetnx")
    if is_long(argv):
        return _set_if_in_parts(session, argv, {b"NX": b""}, mset)
    keys, values = argv[1::2], argv[2::2]
    if not _may_set(session.db, keys, {b"NX": b""}):
        return 0
    assign_many(session.db, keys, values, session.store.default_deadline_ms)
    return 1


def _may_set(db: Keyspace, keys: Sequence[bytes], conditions: Conditions) -> bool:
    """Return True if, with NX, none of the keys exists, and with XX all of them do."""
    if b"NX" in conditions:
        return all(db.get(key) is None for key in keys)
    return b"XX" not in conditions or all(db.get(key) is not None for key in keys)


def _set_if_in_parts(session: Session, argv: list[bytes], conditions: Conditions, run: Run) -> Work:
    lock = yield from lock_keys(session, argv, step=2)
    is_set = yield from run_locked(session, lock, _set_if(session, lock, argv, conditions, run))
    for _ in words_of(argv):  # if nothing was set, the words are still here: free them in slices
        yield
    return is_set


def _set_if(session: Session, lock: KeyLock, argv: list[bytes], conditions: Conditions, run: Run) -> Work:
    for start in range(1, len(argv) if conditions else 0, PART_WORDS):
        if not _may_set(session.db, argv[start : start + PART_WORDS : 2], conditions):
            return 0
        yield
    yield from run_parts(session, lock.effects, argv, run)
    return 1


@command(
    "MSETEX",
    "numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds"
    " | PXAT unix-time-milliseconds | KEEPTTL]",
    arity=-4,
    flags=WRITE | DENYOOM,
    keys=Counted(1, step=2),
    since="8.4.0",
)
def msetex(session: Session, argv: list[bytes]) -> Reply:
    """Set the string values and one time to live of several keys atomically, if all or none of them exist.

    Differs from Redis: without a time to live and without KEEPTTL the keys get the default TTL, unless that is 0.
    """
    end = 2 + 2 * parse_bounded(argv[1], 1, INT_MAX, INVALID_NUMKEYS)
    if end > len(argv):
        raise CommandError(WRONG_PAIRS)
    options = argv[end:]
    check_option_words([argv[0], *options])
    expiry, conditions = _parse_options(options, without_amount={b"KEEPTTL"}, conditions={b"NX", b"XX"})
    deadline_ms = expiry.deadline_ms(session, b"msetex")

    def assign_pairs(session: Session, argv: list[bytes]) -> Reply:
        keys, values, db = argv[1::2], argv[2::2], session.db
        if expiry.option != b"KEEPTTL":
            assign_many(db, keys, values, deadline_ms)
            return OK
        for key, value in zip(keys, values, strict=True):
            assign(db, key, value, db.deadline_ms(key) if db.get(key) is not None else NO_DEADLINE)
        return OK

    pairs = [argv[0], *argv[2:end]]
    if is_long(pairs):
        argv.clear()
        return _set_if_in_parts(session, pairs, conditions, assign_pairs)
    if not _may_set(session.db, pairs[1::2], conditions):
        return 0
    assign_pairs(session, pairs)
    return 1


def _check_pairs(argv: list[bytes], command: bytes) -> None:
    if len(argv) % 2 == 0:
        raise CommandError(WRONG_ARITY % command)


# ---- parts of strings


@command("STRLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="2.2.0")
def strlen(session: Session, argv: list[bytes]) -> Reply:
    """Get the length of a string in bytes."""
    _, key = argv
    return len(session.db.value(key, STRING) or b"")


@command("APPEND", "key value", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0")
def append(session: Session, argv: list[bytes]) -> Reply:
    """Append to a string; create the key, without a TTL, if it does not exist."""
    _, key, tail = argv
    db = session.db
    value: bytes | LongString | None = db.change(key, STRING)
    if value is None:
        value = tail
    elif not tail:
        db.touched(key)
        return len(value)
    else:
        _check_length(len(value) + len(tail))
        if len(tail) > HUGE_BYTES:
            return _write_huge(session, argv, None, tail)
        value = overwritten(value, len(value), tail)
    db.done(key, value, b"APPEND", key, tail)
    return len(value)


def _check_length(length: int) -> None:
    if length > MAX_STRING_BYTES:
        raise CommandError(STRING_TOO_LONG)


@command("GETRANGE", "key start end", arity=4, flags=READONLY, keys=FIRST, since="2.4.0")
def getrange(session: Session, argv: list[bytes]) -> Reply:
    """Get a substring, start and end included; a negative index counts from the end."""
    _, key, first, last = argv
    start, end = parse_integer(first), parse_integer(last)
    value: bytes | LongString = session.db.value(key, STRING) or b""
    if 0 > start > end:
        return b""
    # Redis reads an index before the string's beginning as 0.
    start, end = (place if place >= 0 else max(0, len(value) + place) for place in (start, end))
    end = min(end + 1, len(value))
    if end - start <= HUGE_BYTES:
        return value[start:end]
    return memoryview(value)[start:end] if isinstance(value, bytes) else _part_of(value.copy(), start, end)


def _part_of(value: LongString, start: int, end: int) -> Work:
    """Copy a part of a string that nothing changes, in slices."""
    part = LongString()
    for at in range(start, end, STEP_BYTES):
        part.write(at - start, value[at : min(at + STEP_BYTES, end)])
        yield
    return part


command("SUBSTR", "key start end", arity=4, flags=READONLY, keys=FIRST)(getrange)


@command("SETRANGE", "key offset value", arity=4, flags=WRITE | DENYOOM, keys=FIRST, since="2.2.0")
def setrange(session: Session, argv: list[bytes]) -> Reply:
    """Overwrite a part of a string; a gap before the offset is filled with zero bytes."""
    _, key, start, patch = argv
    db = session.db
    offset = parse_integer(start)
    if offset < 0:
        raise CommandError(OFFSET_OUT_OF_RANGE)
    value: bytes | LongString = db.create(key, STRING)
    if not patch:
        return len(value)
    _check_length(offset + len(patch))
    if len(patch) > HUGE_BYTES:
        return _write_huge(session, argv, offset, patch)
    value = overwritten(value, offset, patch)
    db.done(key, value, b"SETRANGE", key, start, patch)
    return len(value)


def _write_huge(session: Session, argv: list[bytes], offset: int | None, patch: bytes) -> Work:
    """Write a part of a string in slices; None: at its end."""
    return with_keys_locked(
        session, [argv[1]], lambda effects: _write_in_steps(session.db, effects, argv, offset, patch)
    )


def _write_in_steps(db: Keyspace, effects: EffectLog, argv: list[bytes], offset: int | None, patch: bytes) -> Work:
    known: bytes | LongString = db.create(argv[1], STRING)
    value = LongString(known) if isinstance(known, bytes) else known.copy()
    begin = len(value) if offset is None else offset
    _check_length(begin + len(patch))
    for start in range(0, len(patch), STEP_BYTES):
        value.write(begin + start, patch[start : start + STEP_BYTES])
        yield
    db.done(argv[1], value)
    effects.append(db.index, [argv[0].upper(), *argv[1:]])
    return len(value)


# ---- numbers


@command("INCR", "key", arity=2, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def incr(session: Session, argv: list[bytes]) -> Reply:
    """Increment the integer value of a key by one; a key that does not exist counts as 0."""
    _, key = argv
    return _increment(session.db, key, 1)


@command("DECR", "key", arity=2, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def decr(session: Session, argv: list[bytes]) -> Reply:
    """Decrement the integer value of a key by one; a key that does not exist counts as 0."""
    _, key = argv
    return _increment(session.db, key, -1)


@command("INCRBY", "key increment", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def incrby(session: Session, argv: list[bytes]) -> Reply:
    """Increment the integer value of a key by a number; a key that does not exist counts as 0."""
    _, key, amount = argv
    return _increment(session.db, key, parse_integer(amount))


@command("DECRBY", "key decrement", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def decrby(session: Session, argv: list[bytes]) -> Reply:
    """Decrement the integer value of a key by a number; a key that does not exist counts as 0."""
    _, key, amount = argv
    decrement = parse_integer(amount)
    if decrement == MIN_INTEGER:
        raise CommandError(DECREMENT_OVERFLOW)
    return _increment(session.db, key, -decrement)


@for_many("INCR")
def incr_many(session: Session, keys: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run INCRs of these keys."""
    return _increment_many(session.db, keys, 1)


@for_many("INCRBY")
def incrby_many(session: Session, keys: Sequence[bytes], amounts: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run INCRBYs that have the same increment."""
    try:
        return _increment_many(session.db, keys, parse_integer(amounts[0])) if all_alike(amounts) else None
    except CommandError:
        return None


def _increment_many(db: Keyspace, keys: Sequence[bytes], amount: int) -> list[int] | None:
    """Run INCRBYs at once; change nothing and return None if one could be refused or needs the general way."""
    distinct = list(dict.fromkeys(keys))
    entries = short_strings(db, distinct) if -FAR < amount < FAR else None
    if entries is None:
        return None
    texts = [b"0" if entry is None else entry[VALUE] for entry in entries]
    try:
        numbers = list(map(int, texts))
    except ValueError:
        return None
    if [b"%d" % number for number in numbers] != texts:  # one is not canonical: see `parse_integer`
        return None
    totals = dict(zip(distinct, numbers, strict=True))
    replies = []
    for key in keys:
        totals[key] = total = totals[key] + amount
        replies.append(total)
    if not -FAR < min(replies) <= max(replies) < FAR:
        return None
    replace_many(db, distinct, [b"%d" % total for total in totals.values()])
    db.store.log.append_alike(db.index, b"INCRBY", keys, b"%d" % amount)
    return replies


def _increment(db: Keyspace, key: bytes, amount: int) -> int:
    value = db.change(key, STRING)
    total = amount if value is None else parse_integer(value) + amount
    if not MIN_INTEGER <= total <= MAX_INTEGER:
        raise CommandError(OVERFLOW)
    db.done(key, b"%d" % total, b"INCRBY", key, b"%d" % amount)
    return total


@command("INCRBYFLOAT", "key increment", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.6.0")
def incrbyfloat(session: Session, argv: list[bytes]) -> Reply:
    """Increment the floating-point value of a key by a number; a key that does not exist counts as 0."""
    from commands.long_double import add, parse, to_text  # noqa: PLC0415

    _, key, amount = argv
    db = session.db
    value = db.change(key, STRING)
    infinite = False
    numbers = []
    for text in (b"0" if value is None else value, amount):
        try:
            numbers.append(parse(text))
        except ValueError:
            raise CommandError(NOT_A_FLOAT) from None
        except OverflowError:
            infinite = True
    try:
        if infinite:
            raise OverflowError
        total = to_text(add(*numbers))
    except OverflowError:
        raise CommandError(NAN_OR_INFINITY) from None
    db.done(key, total, b"SET", key, total, b"KEEPTTL")
    return total


# ---- two strings


@command(
    "LCS",
    "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    arity=-3,
    flags=READONLY,
    keys=FIRST_TWO,
    since="7.0.0",
)
def lcs(session: Session, argv: list[bytes]) -> Reply:
    """Find the longest common subsequence of two strings.

    Differs from Redis: strings of more than 64 KiB, or with more than 2**24 pairs of bytes, are refused.
    """
    check_option_words(argv)
    _, key1, key2, *words = argv
    read = session.db.read
    left, right = [b"" if value is None else value for value in map(read, (key1, key2))]
    if not (is_string(left) and is_string(right)):
        raise CommandError(LCS_NOT_STRINGS)
    options, shortest = _parse_lcs_options(words)
    if {b"LEN", b"IDX"} <= options:
        raise CommandError(LCS_LENGTH_AND_RANGES)
    if is_too_large(left, right):
        raise CommandError(LCS_TOO_LARGE % (MAX_BYTES, MAX_PAIRS))
    left, right = bytes(left), bytes(right)
    if b"LEN" in options:
        return common_length(left, right)
    ranges = common_ranges(left, right)
    if b"IDX" not in options:
        return Computed(b"".join(left[start : start + length] for start, _, length in reversed(ranges)))
    matches = [
        [[start, start + length - 1], [other, other + length - 1]] + [length] * (b"WITHMATCHLEN" in options)
        for start, other, length in ranges
        if length >= shortest
    ]
    return {b"matches": matches, b"len": sum(length for _, _, length in ranges)}


def _parse_lcs_options(words: list[bytes]) -> tuple[set[bytes], int]:
    options: set[bytes] = set()
    shortest = 0
    rest = iter(words)
    for word in rest:
        option = fold(word)
        options.add(option)
        if option == b"MINMATCHLEN":
            length = next(rest, None)
            if length is None:
                raise CommandError(SYNTAX)
            shortest = parse_integer(length)
        elif option not in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            raise CommandError(SYNTAX)
    return options, shortest
