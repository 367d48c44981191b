"""Commands for the operator: settings, time, shutdown, debugging, memory. INFO is in `commands/info.py`.

1. The commands know neither the event loop nor the log's file. They set flags of the `Instance` or call its methods.
2. DEBUG SLEEP stalls every client, as in Redis: a test or an operator can observe a stalled server.
"""

from __future__ import annotations

import sys

from commands import (
    ADMIN,
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NO_MULTI,
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
from commands.memory_report import memory_advice, memory_stats
from config import BY_NAME, MAX_SECONDS, Config, SettingError
from errors import (
    DEBUG_REFUSED,
    LOG_FAILED,
    LOG_IN_POOL,
    NAMED_BYTES,
    NO_CONFIG_FILE,
    NO_LOG,
    NO_LOG_TO_SAVE,
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
from replies import NO_REPLY, OK, Reply, Status, Verbatim, Work
from session import Session
from values import size_of
from values.entry import NO_DEADLINE
from values.glob import MAX_PATTERN_BYTES, Pattern

GLOB = b"*?["
MANY_PATTERNS = 64  # a CONFIG GET of more words runs in slices; each pattern is matched with every setting's name
MAX_VALUE_BYTES = 1 << 16  # of a setting's value
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

    Differs from Redis: the settings are those of docs/settings.md.
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
            found[word] = _to_bytes(config.get(name))  # the reply has the name as the client spelled it
    return found


@command("CONFIG|SET", "parameter value [parameter value ...]", arity=-4, flags=OPERATOR, since="2.0.0")
def config_set(session: Session, argv: list[bytes]) -> Reply:
    """Change settings, all or none."""
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
    """Reset the statistics of INFO to zero."""
    session.instance.statistics.reset()
    session.instance.measures.counts.reset()
    store = session.store
    store.expired_keys = store.evicted_keys = store.hits = store.misses = 0
    return OK


@command("CONFIG|REWRITE", arity=2, flags=OPERATOR, since="2.8.0")
def config_rewrite(session: Session, argv: list[bytes]) -> Reply:
    """Refuse, as Redis without a configuration file does; settings come from flags and environment variables."""
    raise CommandError(NO_CONFIG_FILE)


@command("CONFIG|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def config_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of CONFIG."""
    return describe_subcommands(b"CONFIG")


# ---- time, log, shutdown


@command("TIME", arity=1, flags=LOADING | STALE | FAST, since="2.6.0")
def time(session: Session, argv: list[bytes]) -> Reply:
    """Get the time as Unix seconds and microseconds.

    Differs from Redis: the time has a resolution of a millisecond and is the same for all commands of one turn of the
    event loop.
    """
    seconds, milliseconds = divmod(session.store.now_ms, 1000)
    return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]


@command("LASTSAVE", arity=1, flags=LOADING | STALE | FAST)
def lastsave(session: Session, argv: list[bytes]) -> Reply:
    """Get the Unix time in seconds when the whole log was last synced to disk.

    Differs from Redis, which returns the time of the last snapshot.
    """
    return session.instance.last_save_second


@command("SAVE", arity=1, flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI)
def save(session: Session, argv: list[bytes]) -> Reply:
    """Sync the log to disk, and reply when that is done.

    Differs from Redis, which writes a snapshot and serves nobody meanwhile. The log is what a backup copies.
    """
    return _saving(session)


def _saving(session: Session) -> Work:
    _begin_save(session)
    while session.instance.save_requested:
        yield
    if session.instance.log.failure is not None:
        raise CommandError(LOG_FAILED % session.instance.log.failure)
    return OK


@command("BGSAVE", "[SCHEDULE]", arity=-1, flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING)
def bgsave(session: Session, argv: list[bytes]) -> Reply:
    """Begin to sync the log to disk: LASTSAVE tells when that is done.

    Differs from Redis, which writes a snapshot. The log is what a backup copies.
    """
    if len(argv) > 2 or (len(argv) == 2 and fold(argv[1]) != b"SCHEDULE"):
        raise CommandError(SYNTAX)
    _begin_save(session)
    return Status(b"Background saving started")


def _begin_save(session: Session) -> None:
    """Write and sync the log. A pool has everything in its log before it replies. Raises CommandError without a log."""
    instance = session.instance
    if instance.log.failure is not None:
        raise CommandError(LOG_FAILED % instance.log.failure)
    if instance.pool is None and not instance.config.appendonly:
        raise CommandError(NO_LOG_TO_SAVE)
    instance.statistics.saves += 1
    if instance.pool is None:
        instance.save()
    else:
        instance.last_save_second = session.store.now_ms // 1000


@command("BGREWRITEAOF", arity=1, flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING)
def bgrewriteaof(session: Session, argv: list[bytes]) -> Reply:
    """Rewrite the log to its minimal size while clients are served.

    Differs from Redis: there is no fork, so a rewrite always starts at once; without a log the command is refused.
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


@command("SHUTDOWN", "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", arity=-1, flags=OPERATOR | ALLOW_BUSY | NO_MULTI)
def shutdown(session: Session, argv: list[bytes]) -> Reply:
    """Write and sync the log, and stop the server.

    Differs from Redis: SAVE and NOSAVE have no effect, because there are no snapshots. While the log cannot be written,
    only FORCE stops the server.
    """
    check_option_words(argv)
    options = _parse_shutdown_options(argv[1:])
    if b"ABORT" in options:
        raise CommandError(NO_SHUTDOWN if len(options) == 1 else SYNTAX)
    if session.instance.log.failure is not None and b"FORCE" not in options:
        raise CommandError(SHUTDOWN_REFUSED)  # effects that are not in the log would be lost
    session.instance.shutdown = True
    return NO_REPLY


def _parse_shutdown_options(words: list[bytes]) -> set[bytes]:
    options = set(map(fold, words))
    if options - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"} or {b"NOSAVE", b"SAVE"} <= options:
        raise CommandError(SYNTAX)
    return options


# ---- DEBUG, MEMORY


@command("DEBUG", "SLEEP seconds", arity=-2, flags=OPERATOR)
def debug(session: Session, argv: list[bytes]) -> Reply:
    """Stall the whole server, to test clients; `enable-debug-command` sets which connections may do so.

    Differs from Redis: besides SLEEP there is ERROR alone, which answers with the error that it is given. SLEEP refuses
    an argument that is not a number. In a server for tests (`--test-commands`) CLOCK moves the time, and STATE saves
    and loads all keys.
    """
    allowed = session.instance.config.debug_command
    if allowed == "no" or (allowed == "local" and not session.is_local):
        raise CommandError(DEBUG_REFUSED)
    if fold(argv[1]) in (b"CLOCK", b"STATE"):
        from commands.debugging import debug_for_tests  # noqa: PLC0415

        return debug_for_tests(session, argv)
    if fold(argv[1]) == b"ERROR" and len(argv) == 3:
        raise CommandError(argv[2])
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
    """Get the bytes that a key takes: key, value and a share of the tables.

    Differs from Redis: sizes are those of Python's objects, and each key has an equal share of the tables. SAMPLES has
    no effect, because the size of a whole value is known.
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


@command("MEMORY|STATS", arity=2, since="4.0.0")
def memory_stats_(session: Session, argv: list[bytes]) -> Reply:
    """Show what takes memory.

    Differs from Redis: Python's allocator is not asked; what Godis does not have is 0.
    """
    return memory_stats(session.instance)


@command("MEMORY|DOCTOR", arity=2, since="4.0.0")
def memory_doctor(session: Session, argv: list[bytes]) -> Reply:
    """Say what is wrong with the use of memory.

    Differs from Redis: the text is another one.
    """
    return Verbatim(memory_advice(session.instance).encode())


@command("MEMORY|PURGE", arity=2, since="4.0.0")
def memory_purge(session: Session, argv: list[bytes]) -> Reply:
    """Do nothing: Python gives memory back to the system by itself."""
    return OK


@command("MEMORY|MALLOC-STATS", arity=2, since="4.0.0")
def memory_malloc_stats(session: Session, argv: list[bytes]) -> Reply:
    """Say that there are no statistics of the allocator."""
    return Verbatim(b"Stats not supported for the current allocator")


@command("MEMORY|HELP", arity=2, flags=LOADING | STALE, since="4.0.0")
def memory_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of MEMORY."""
    return describe_subcommands(b"MEMORY")
