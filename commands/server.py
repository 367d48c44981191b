"""Commands for the operator: settings, time, shutdown, debugging, memory.

What they want done to the process they note in the `Instance`, since they know neither the loop nor the log's file.
INFO has a module of its own.

DEBUG SLEEP holds up every client, as in Redis: it is how a test or an operator sees what a stalled server does.
"""

from __future__ import annotations

import sys

from commands import (
    ADMIN,
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NOSCRIPT,
    READONLY,
    STALE,
    Keys,
    command,
    container,
    fold,
)
from commands.arguments import check_option_words, parse_integer
from commands.introspection import describe_subcommands
from commands.long_commands import word_by_word
from config import BY_NAME, MAX_SECONDS, Config, SettingError
from errors import (
    DEBUG_REFUSED,
    LOG_FAILED,
    LOG_IN_POOL,
    NAMED_BYTES,
    NO_CONFIG_FILE,
    NO_LOG,
    NO_SHUTDOWN,
    NOT_A_FLOAT,
    QUOTED_BYTES,
    REWRITING,
    SETTING_REFUSED,
    SHUTDOWN_REFUSED,
    SLEEP_TOO_LONG,
    SYNTAX,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    UNKNOWN_SETTING,
    CommandError,
)
from replies import NO_REPLY, OK, Reply, Status, Work
from session import Session
from values import size_of
from values.entry import NO_DEADLINE
from values.glob import MAX_PATTERN_BYTES, Pattern

GLOB = b"*?["
MANY_PATTERNS = 64  # of CONFIG GET; each is matched with every setting's name
MAX_VALUE_BYTES = 1 << 16  # of a setting
POINTER_BYTES = 8
OPERATOR = ADMIN | NOSCRIPT | LOADING | STALE

container("CONFIG", since="2.0.0")
container("MEMORY", since="4.0.0")


# ---- settings


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")


@command("CONFIG|GET", "parameter [parameter ...]", arity=-3, flags=OPERATOR, since="2.0.0")
def config_get(session: Session, argv: list[bytes]) -> Reply:
    """Get the settings whose names match a pattern.

    Differs from Redis: the settings are those of Godis, listed in the README.
    """
    return word_by_word(argv, _settings(session.instance.config, argv[2:]), MANY_PATTERNS)


def _settings(config: Config, words: list[bytes]) -> Work:
    found: dict[Reply, Reply] = {}
    for word in words:
        yield
        word = word[: MAX_PATTERN_BYTES + 1]  # noqa: PLW2901 - a longer one is no name, and too long for a pattern
        if any(character in word for character in GLOB):
            matches = Pattern(word.lower()).matches
            found |= {name.encode(): _to_bytes(config.get(name)) for name in BY_NAME if matches(name.encode())}
        elif (name := _to_text(word).lower()) in BY_NAME:
            found[word] = _to_bytes(config.get(name))  # the name as it was asked for
    return found


@command("CONFIG|SET", "parameter value [parameter value ...]", arity=-4, flags=OPERATOR, since="2.0.0")
def config_set(session: Session, argv: list[bytes]) -> Reply:
    """Change settings, all of them or none."""
    if len(argv) % 2:
        raise CommandError(SYNTAX)
    values: dict[str, str] = {}
    for word, value in zip(argv[2::2], argv[3::2], strict=True):
        name = _to_text(fold(word)).lower()
        if name not in BY_NAME:
            raise CommandError(UNKNOWN_SETTING % word[:QUOTED_BYTES])
        if name in values:
            raise CommandError(SETTING_REFUSED % (word, b"duplicate parameter"))
        if len(value) > MAX_VALUE_BYTES:
            raise CommandError(SETTING_REFUSED % (word, b"argument is too long"))
        values[name] = _to_text(value)
    try:
        session.instance.config.change(values)
    except SettingError as error:
        raise CommandError(SETTING_REFUSED % (_to_bytes(error.name), _to_bytes(error.reason))) from None
    session.instance.apply_settings()
    return OK


@command("CONFIG|RESETSTAT", arity=2, flags=OPERATOR, since="2.0.0")
def config_resetstat(session: Session, argv: list[bytes]) -> Reply:
    """Count from zero again what INFO shows."""
    session.instance.statistics.reset()
    store = session.store
    store.expired_keys = store.evicted_keys = store.hits = store.misses = 0
    return OK


@command("CONFIG|REWRITE", arity=2, flags=OPERATOR, since="2.8.0")
def config_rewrite(session: Session, argv: list[bytes]) -> Reply:
    """Refuse, as Redis does without a configuration file: settings come from flags and environment."""
    raise CommandError(NO_CONFIG_FILE)


@command("CONFIG|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def config_help(session: Session, argv: list[bytes]) -> Reply:
    """Show what CONFIG can do."""
    return describe_subcommands(b"CONFIG")


# ---- time and end


@command("TIME", arity=1, flags=LOADING | STALE | FAST, since="2.6.0")
def time(session: Session, argv: list[bytes]) -> Reply:
    """Get the time as Unix seconds and microseconds.

    Differs from Redis: it is the time of the turn, in whole milliseconds, the same for all commands of the turn.
    """
    seconds, milliseconds = divmod(session.store.now_ms, 1000)
    return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]


@command("LASTSAVE", arity=1, flags=LOADING | STALE | FAST)
def lastsave(session: Session, argv: list[bytes]) -> Reply:
    """Get the Unix second when the log last was whole on the disk.

    Differs from Redis, where it is the time of the last snapshot.
    """
    return session.instance.last_save_second


@command("BGREWRITEAOF", arity=1, flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING)
def bgrewriteaof(session: Session, argv: list[bytes]) -> Reply:
    """Write the log anew, as short as the keys allow, while clients are served.

    Differs from Redis: nothing is forked, so it always starts at once; without a log it is refused.
    """
    instance = session.instance
    if not instance.config.appendonly:
        raise CommandError(NO_LOG if instance.pool is None else LOG_IN_POOL)
    if instance.rewrite.in_progress:
        raise CommandError(REWRITING)
    if instance.log.failure is not None:
        raise CommandError(LOG_FAILED % instance.log.failure)
    instance.rewrite.requested = True
    return Status(b"Background append only file rewriting started")


@command("SHUTDOWN", "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", arity=-1, flags=OPERATOR | ALLOW_BUSY)
def shutdown(session: Session, argv: list[bytes]) -> Reply:
    """Write and sync the log, and end the server.

    Differs from Redis: SAVE and NOSAVE make no difference, since there are no snapshots. While the log cannot be
    written, only FORCE ends the server.
    """
    check_option_words(argv)
    options = _parse_shutdown_options(argv[1:])
    if b"ABORT" in options:
        raise CommandError(NO_SHUTDOWN if len(options) == 1 else SYNTAX)
    if session.instance.log.failure is not None and b"FORCE" not in options:
        raise CommandError(SHUTDOWN_REFUSED)  # what is not in the log would be lost
    session.instance.shutdown = True
    return NO_REPLY


def _parse_shutdown_options(words: list[bytes]) -> set[bytes]:
    options = set(map(fold, words))
    if options - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"} or {b"NOSAVE", b"SAVE"} <= options:
        raise CommandError(SYNTAX)
    return options


# ---- looking inside


@command("DEBUG", "SLEEP seconds", arity=-2, flags=OPERATOR)
def debug(session: Session, argv: list[bytes]) -> Reply:
    """Hold up the whole server, to see how clients bear it; `enable-debug-command` says who may.

    Differs from Redis: there is no other subcommand, and SLEEP refuses what is no number.
    """
    allowed = session.instance.config.debug_command
    if allowed == "no" or (allowed == "local" and not session.is_local):
        raise CommandError(DEBUG_REFUSED)
    if fold(argv[1]) != b"SLEEP" or len(argv) != 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1][:NAMED_BYTES], b"DEBUG"))
    try:
        seconds = float(argv[2])
    except ValueError:
        raise CommandError(NOT_A_FLOAT) from None
    if not 0 <= seconds < float("inf"):
        raise CommandError(NOT_A_FLOAT)
    if seconds > MAX_SECONDS:
        raise CommandError(SLEEP_TOO_LONG)
    session.instance.sleep(seconds)
    return OK


@command("MEMORY|USAGE", "key [SAMPLES count]", arity=-3, flags=READONLY, keys=Keys(2, 2, 1), since="4.0.0")
def memory_usage(session: Session, argv: list[bytes]) -> Reply:
    """Count the bytes of a key, its value and its share of the tables.

    Differs from Redis: objects count what Python says, and each key has an equal share of the tables. SAMPLES is
    taken and has no effect: of each value it is known what all its elements take.
    """
    check_option_words(argv)
    key = argv[2]
    _check_samples(argv[3:])
    db = session.db
    if not db.is_live(key):
        return None
    share_bytes = sys.getsizeof(db.entries) // len(db)
    places = 1 + (db.deadline_ms(key) != NO_DEADLINE)  # in the key order, and in `due`
    return sys.getsizeof(key) + size_of(db.entries[key]) + share_bytes + places * POINTER_BYTES


def _check_samples(words: list[bytes]) -> None:
    rest = iter(words)
    for word in rest:
        count = next(rest, None)
        if fold(word) != b"SAMPLES" or count is None or parse_integer(count) < 0:
            raise CommandError(SYNTAX)


@command("MEMORY|HELP", arity=2, flags=LOADING | STALE, since="4.0.0")
def memory_help(session: Session, argv: list[bytes]) -> Reply:
    """Show what MEMORY can do."""
    return describe_subcommands(b"MEMORY")
