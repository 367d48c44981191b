"""Scripts: EVAL, EVALSHA and SCRIPT. How a script runs is in `script_runs.py`."""

from __future__ import annotations

from functools import lru_cache

from commands import (
    ALLOW_BUSY,
    EVERYWHERE,
    LOADING,
    MAY_REPLICATE,
    NO_MANDATORY_KEYS,
    NOSCRIPT,
    READONLY,
    SCRIPT,
    SKIP_MONITOR,
    STALE,
    TABLE,
    Counted,
    command,
    container,
    fold,
    measured,
)
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_bounded
from commands.introspection import describe_subcommands
from commands.permissions import catalogue
from commands.script_runs import Run, Scripts, scripts_of
from errors import (
    NO_SCRIPT,
    NO_SCRIPT_RUNS,
    NOT_AN_INTEGER,
    NUMKEYS_NEGATIVE,
    NUMKEYS_TOO_LARGE,
    OUT_OF_MEMORY,
    OUT_OF_MEMORY_FOR_SCRIPT,
    SCRIPT_DEBUG_REFUSED,
    SCRIPT_FLUSH_OPTION,
    UNKNOWN_COMMAND,
    CommandError,
)
from replies import OK, Reply
from scripts.shebang import Script, parse
from session import Session
from users.rules import changed
from users.user import User

KEYS = Counted(2)
RUNS = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | SCRIPT
MAY_WRITE = RUNS | MAY_REPLICATE | EVERYWHERE
MANAGES = NOSCRIPT | EVERYWHERE
SHA_BYTES = 40
SCRIPT_ENTRY = b"SCRIPT-ENTRY"
SYNTAX = "numkeys [key [key ...]] [arg [arg ...]]"


@command("EVAL", f"script {SYNTAX}", arity=-3, flags=MAY_WRITE, keys=KEYS, since="2.6.0")
def eval_(session: Session, argv: list[bytes]) -> Reply:
    """Run a script in Lua: nothing else runs meanwhile, and its changes come into the log as one."""
    return _eval(session, argv, read_only=False)


@command("EVAL_RO", f"script {SYNTAX}", arity=-3, flags=RUNS | READONLY, keys=KEYS, since="7.0.0")
def eval_ro(session: Session, argv: list[bytes]) -> Reply:
    """Run a script that must not write."""
    return _eval(session, argv, read_only=True)


@command("EVALSHA", f"sha1 {SYNTAX}", arity=-3, flags=MAY_WRITE, keys=KEYS, since="2.6.0")
def evalsha(session: Session, argv: list[bytes]) -> Reply:
    """Run a script that the server knows, by its SHA-1."""
    return _evalsha(session, argv, read_only=False)


@command("EVALSHA_RO", f"sha1 {SYNTAX}", arity=-3, flags=RUNS | READONLY, keys=KEYS, since="7.0.0")
def evalsha_ro(session: Session, argv: list[bytes]) -> Reply:
    """Run a script that the server knows, by its SHA-1, and that must not write."""
    return _evalsha(session, argv, read_only=True)


def show(session: Session, argv: list[bytes]) -> None:
    """Show a request to monitors before what its script calls."""
    if session.instance.is_observed:
        measured.show(session, argv)


def _eval(session: Session, argv: list[bytes], *, read_only: bool) -> Reply:
    show(session, argv)
    key_count = key_count_of(argv)
    script = scripts_of(session.instance).load(argv[1])
    return _run(session, script, key_count, argv, read_only)


def _evalsha(session: Session, argv: list[bytes], *, read_only: bool) -> Reply:
    show(session, argv)
    key_count = key_count_of(argv)
    if session.instance.pool is not None and not session.id:
        raise CommandError(NO_SCRIPT)  # the instance that submitted it did not know it, so none does
    return _run(session, _known(session, argv[1]), key_count, argv, read_only)


def require_room_for_script(session: Session) -> None:
    """Raise CommandError if there is no memory for a client's script. An entry of a pool runs on every instance."""
    instance = session.instance
    if session.id and instance.eviction.limit_bytes and not instance.script_has_room:
        raise CommandError(OUT_OF_MEMORY_FOR_SCRIPT if session.is_executing else OUT_OF_MEMORY)


def text_of(session: Session, argv: list[bytes]) -> bytes:
    """Return the script that EVALSHA names. Raises CommandError if it is not known or its keys are miscounted."""
    key_count_of(argv)
    return _known(session, argv[1]).text


def with_permissions(session: Session, argv: list[bytes]) -> list[bytes]:
    """Return a request as an entry of a pool holds it: a script of a restricted user comes with its permissions.

    Users are an instance's own, and the script of an entry must do the same everywhere.
    """
    if session.user.is_restricted and measured.row_of(argv).flags & SCRIPT:
        return [SCRIPT_ENTRY, b" ".join(session.user.permissions()), *argv]
    return argv


@command(SCRIPT_ENTRY.decode(), arity=-3, flags=MAY_WRITE, hidden=True)
def script_entry(session: Session, argv: list[bytes]) -> Reply:
    """Run the script of an entry with some permissions; a client that sends this command is refused."""
    if session.id:
        raise CommandError(UNKNOWN_COMMAND % (SCRIPT_ENTRY, b""))
    _, permissions, *request = argv
    before, session.user = session.user, _user_with(permissions)
    try:
        return TABLE[fold(request[0])].run(session, request)
    finally:
        session.user = before


@lru_cache(64)
def _user_with(permissions: bytes) -> User:
    return changed(User(b""), permissions.split(), catalogue())


def _known(session: Session, sha: bytes) -> Script:
    scripts: Scripts | None = session.instance.scripts
    if scripts is not None and len(sha) == SHA_BYTES:
        script = scripts.texts.get(sha) or scripts.texts.get(sha.lower())
        if script is not None:
            return script
    raise CommandError(NO_SCRIPT)


def script_may_write(session: Session, argv: list[bytes]) -> bool:
    """Return False if the script of an EVAL or EVALSHA has the flag no-writes."""
    try:
        script = parse(b"", argv[1]) if fold(argv[0]) == b"EVAL" else _known(session, argv[1])
    except CommandError:
        return True
    return script.flags is None or b"no-writes" not in script.flags


def key_count_of(argv: list[bytes], not_an_integer: bytes = NOT_AN_INTEGER) -> int:
    """Return how many keys a call names. Raises CommandError if the words do not hold as many."""
    count = parse_bounded(argv[2], MIN_INTEGER, MAX_INTEGER, not_an_integer)
    if count > len(argv) - 3:
        raise CommandError(NUMKEYS_TOO_LARGE)
    if count < 0:
        raise CommandError(NUMKEYS_NEGATIVE)
    return count


def _run(session: Session, script: Script, key_count: int, argv: list[bytes], read_only: bool) -> Reply:
    instance, allow_oom = session.instance, False
    if script.flags is not None:
        read_only, allow_oom = read_only or b"no-writes" in script.flags, b"allow-oom" in script.flags
        if not (allow_oom or b"no-writes" in script.flags):
            require_room_for_script(session)
    if instance.read_observer is not None:
        instance.read_observer.observe_any_key(session)
    scripts: Scripts = instance.scripts
    return scripts.start(script, key_count, argv[3:], Run(session, script.sha, read_only, allow_oom))


container("SCRIPT", since="2.6.0")


@command("SCRIPT|LOAD", "script", arity=3, flags=MANAGES | STALE, since="2.6.0")
def script_load(session: Session, argv: list[bytes]) -> Reply:
    """Compile a script and remember it; return its SHA-1."""
    return scripts_of(session.instance).load(argv[2]).sha


@command("SCRIPT|EXISTS", "sha1 [sha1 ...]", arity=-3, flags=NOSCRIPT, since="2.6.0")
def script_exists(session: Session, argv: list[bytes]) -> Reply:
    """Return for each SHA-1 whether the server knows its script."""
    scripts = session.instance.scripts
    known = {} if scripts is None else scripts.texts
    return [int(sha.lower() in known) for sha in argv[2:]]


@command("SCRIPT|FLUSH", "[ASYNC | SYNC]", arity=-2, flags=MANAGES, since="2.6.0")
def script_flush(session: Session, argv: list[bytes]) -> Reply:
    """Forget all scripts."""
    if len(argv) > 3 or (len(argv) == 3 and fold(argv[2]) not in (b"SYNC", b"ASYNC")):
        raise CommandError(SCRIPT_FLUSH_OPTION)
    if session.instance.scripts is not None:
        session.instance.scripts.flush()
    return OK


@command("SCRIPT|KILL", arity=2, flags=NOSCRIPT | ALLOW_BUSY, since="2.6.0")
def script_kill(session: Session, argv: list[bytes]) -> Reply:
    """End the script that takes long, if it has not written yet.

    Differs from Redis: in a pool a script that may write cannot be ended, since every instance runs it. It ends with an
    error by itself after some seconds.
    """
    scripts = session.instance.scripts
    if scripts is None:
        raise CommandError(NO_SCRIPT_RUNS)
    scripts.kill(is_function=False)
    return OK


@command("SCRIPT|DEBUG", "<YES | SYNC | NO>", arity=3, flags=NOSCRIPT, since="3.2.0")
def script_debug(session: Session, argv: list[bytes]) -> Reply:
    """Refuse: there is no debugger of scripts. NO changes nothing."""
    if fold(argv[2]) == b"NO":
        return OK
    raise CommandError(SCRIPT_DEBUG_REFUSED)


@command("SCRIPT|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def script_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of SCRIPT."""
    return describe_subcommands(b"SCRIPT")
