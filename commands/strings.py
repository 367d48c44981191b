"""Commands on whole strings: one, or several at once. Parts are in `string_parts.py`, INCR and others in `numbers.py`.

1. A string value is `bytes`, or a `LongString` if it is long and a part of it was written.
2. A command that sets a whole string logs a SET with its absolute deadline.

The module has more than 400 lines because SET, GETEX, MSETEX and the forms for many keys share their options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from commands import ALL, DENYOOM, FAST, FIRST, PAIRS, QUICK, READONLY, WRITE, Counted, command, fold, for_many
from commands.arguments import EXPIRY_OPTIONS, check_option_words, parse_bounded, parse_deadline
from commands.long_commands import (
    PART_WORDS,
    Run,
    get_in_slices,
    in_parts,
    is_long,
    lock_keys,
    run_locked,
    run_parts,
    string_or_none,
    words_of,
)
from commands.string_conditions import VALUE_CONDITIONS, holds
from errors import INVALID_NUMKEYS, SYNTAX, TEXT_NO_VALUE, WRONG_ARITY, WRONG_PAIRS, CommandError
from keyspace.key_locks import KeyLock
from keyspace.many_keys import put_many, read_strings
from replies import OK, Reply, Work
from session import Session
from store import Keyspace
from values.entry import NO_DEADLINE
from wire.columns import all_alike

INT_MAX = 2**31 - 1


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
