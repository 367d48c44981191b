"""Functions: FUNCTION, FCALL and FCALL_RO. `function_libraries.py` has what they work on.

Libraries are logged as `FUNCTION LOAD REPLACE code`, FUNCTION DELETE and FUNCTION FLUSH. While a log is replayed, a
library is only remembered.
"""

from __future__ import annotations

from typing import Any

from commands import (
    ALLOW_BUSY,
    DENYOOM,
    LOADING,
    NOSCRIPT,
    READONLY,
    STALE,
    WRITE,
    command,
    container,
    fold,
)
from commands.function_libraries import Library, functions_of, names_of, read_library
from commands.introspection import describe_subcommands
from commands.keyspace_walk import at_once
from commands.script_runs import Run
from commands.scripting import KEYS, MAY_WRITE, RUNS, key_count_of, require_room_for_script, script_may_write, show
from errors import (
    BAD_DATA_FORMAT,
    FUNCTION_FLUSH_OPTION,
    FUNCTION_LIST_ARGUMENT,
    FUNCTION_LOAD_OPTION,
    FUNCTION_NOT_FOUND,
    FUNCTION_RESTORE_OPTION,
    FUNCTION_WRITES,
    LIBRARY_EXISTS,
    LIBRARY_NOT_FOUND,
    LIBRARY_PATTERN_MISSING,
    NO_SCRIPT_RUNS,
    NUMKEYS_BAD,
    PAYLOAD_WITHOUT_FUNCTION,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    WRONG_PAYLOAD,
    CommandError,
)
from replies import OK, Members, Reply
from session import Session
from values.glob import Pattern

CHANGES = NOSCRIPT | WRITE
SYNTAX = "function numkeys [key [key ...]] [arg [arg ...]]"
FLAGS = (b"no-writes", b"allow-oom", b"allow-stale", b"no-cluster", b"allow-cross-slot-keys")


# ---- calls


@command("FCALL", SYNTAX, arity=-3, flags=MAY_WRITE, keys=KEYS, since="7.0.0")
def fcall(session: Session, argv: list[bytes]) -> Reply:
    """Call a function of a library: nothing else runs meanwhile, and its changes come into the log as one.

    Differs from Redis: in a pool the library of a function is loaded anew for each call.
    """
    return _call(session, argv, read_only=False)


@command("FCALL_RO", SYNTAX, arity=-3, flags=RUNS | READONLY, keys=KEYS, since="7.0.0")
def fcall_ro(session: Session, argv: list[bytes]) -> Reply:
    """Call a function that has the flag no-writes."""
    return _call(session, argv, read_only=True)


def _call(session: Session, argv: list[bytes], *, read_only: bool) -> Reply:
    instance = session.instance
    show(session, argv)
    functions = functions_of(instance)
    found = functions.find(argv[1])
    if found is None:
        raise CommandError(FUNCTION_NOT_FOUND)
    key_count = key_count_of(argv, NUMKEYS_BAD)
    library, function = found
    no_writes = b"no-writes" in function.flags
    if read_only and not no_writes:
        raise CommandError(FUNCTION_WRITES)
    allow_oom = no_writes or b"allow-oom" in function.flags
    if not allow_oom:
        require_room_for_script(session)
    if instance.read_observer is not None:
        instance.read_observer.observe_any_key(session)
    run = Run(session, argv[1], no_writes, allow_oom)
    run.request = argv
    return functions.start(library, function, run, key_count, argv[3:])


def may_write(session: Session, name: bytes, argv: list[bytes]) -> bool:
    """Return False if what EVAL, EVALSHA or FCALL runs has the flag no-writes."""
    if name != b"FCALL":
        return name == b"EXEC" or script_may_write(session, argv)
    found = functions_of(session.instance).find(argv[1])
    return found is None or b"no-writes" not in found[1].flags


# ---- libraries


container("FUNCTION", since="7.0.0")


def _is_replayed(session: Session) -> bool:
    return not session.id and session.instance.pool is None


def _log(session: Session, *words: bytes) -> None:
    session.store.log.append(session.db.index, (b"FUNCTION", *words))


def _remember(session: Session, codes: dict[bytes, bytes], *, replace: bool) -> None:
    """Keep libraries of a log without loading them."""
    known = session.store.libraries
    if not replace:
        for name in codes:
            if name in known:
                raise CommandError(LIBRARY_EXISTS % name)
    known.update(codes)
    session.instance.functions = None


def _add(session: Session, libraries: list[Library], *, replace: bool, alone: bool = False) -> None:
    """Keep libraries that are loaded, with those that are there or alone, and log them."""
    functions_of(session.instance).add(libraries, replace=replace or alone, alone=alone)
    if alone:
        _flush(session)
    for library in libraries:
        session.store.libraries[library.name] = library.code
        _log(session, b"LOAD", b"REPLACE", library.code)


@command("FUNCTION|LOAD", "[REPLACE] function-code", arity=-3, flags=CHANGES | DENYOOM, since="7.0.0")
def function_load(session: Session, argv: list[bytes]) -> Reply:
    """Load a library, which registers its functions, and return its name."""
    _, _, *options, code = argv
    for option in options:
        if fold(option) != b"REPLACE":
            raise CommandError(FUNCTION_LOAD_OPTION % option)
    library = read_library(code)
    replace = bool(options)
    if _is_replayed(session):
        _remember(session, {library.name: code}, replace=replace)
        return library.name
    if not replace and library.name in session.store.libraries:
        raise CommandError(LIBRARY_EXISTS % b"'%b'" % library.name)
    _add(session, [functions_of(session.instance).loaded(code)], replace=replace)
    return library.name


@command("FUNCTION|DELETE", "library-name", arity=3, flags=CHANGES, since="7.0.0")
def function_delete(session: Session, argv: list[bytes]) -> Reply:
    """Delete a library with its functions."""
    _, _, name = argv
    if session.store.libraries.pop(name, None) is None:
        raise CommandError(LIBRARY_NOT_FOUND)
    if session.instance.functions is not None:
        session.instance.functions.remove(name)
    _log(session, b"DELETE", name)
    return OK


@command("FUNCTION|FLUSH", "[ASYNC | SYNC]", arity=-2, flags=CHANGES, since="7.0.0")
def function_flush(session: Session, argv: list[bytes]) -> Reply:
    """Delete all libraries."""
    if len(argv) > 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"FUNCTION"))
    if len(argv) == 3 and fold(argv[2]) not in (b"SYNC", b"ASYNC"):
        raise CommandError(FUNCTION_FLUSH_OPTION)
    _flush(session)
    session.instance.functions = None
    return OK


def _flush(session: Session) -> None:
    if session.store.libraries:
        _log(session, b"FLUSH")
    session.store.libraries.clear()


@command("FUNCTION|DUMP", arity=2, flags=NOSCRIPT, since="7.0.0")
def function_dump(session: Session, argv: list[bytes]) -> Reply:
    """Return all libraries as a payload, which FUNCTION RESTORE takes, here or in a redis-server 7."""
    from rdb.payload import seal_libraries  # noqa: PLC0415

    return at_once(seal_libraries(session.store.libraries.values()))


@command(
    "FUNCTION|RESTORE",
    "serialized-value [FLUSH | APPEND | REPLACE]",
    arity=-3,
    flags=CHANGES | DENYOOM,
    since="7.0.0",
)
def function_restore(session: Session, argv: list[bytes]) -> Reply:
    """Add the libraries of a payload: to those that are there (APPEND), instead of them (FLUSH), or over them."""
    _, _, payload, *options = argv
    if len(options) > 1:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"FUNCTION"))
    policy = fold(options[0]) if options else b"APPEND"
    if policy not in (b"FLUSH", b"APPEND", b"REPLACE"):
        raise CommandError(FUNCTION_RESTORE_OPTION)
    codes = names_of(_codes_of(payload))
    if _is_replayed(session):
        if policy == b"FLUSH":
            _flush(session)
        _remember(session, codes, replace=policy != b"APPEND")
        return OK
    libraries = [functions_of(session.instance).loaded(code) for code in codes.values()]
    _add(session, libraries, replace=policy == b"REPLACE", alone=policy == b"FLUSH")
    return OK


def _codes_of(payload: bytes) -> list[bytes]:
    from rdb.payload import NoFunction, WrongChecksum, open_libraries  # noqa: PLC0415
    from rdb.source import BadFormat  # noqa: PLC0415

    steps = open_libraries(payload)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        codes: list[bytes] = end.value
        return codes
    except WrongChecksum:
        raise CommandError(WRONG_PAYLOAD) from None
    except NoFunction:
        raise CommandError(PAYLOAD_WITHOUT_FUNCTION) from None
    except BadFormat:
        raise CommandError(BAD_DATA_FORMAT) from None


# ---- what there is


@command("FUNCTION|LIST", "[LIBRARYNAME library-name-pattern] [WITHCODE]", arity=-2, flags=NOSCRIPT, since="7.0.0")
def function_list(session: Session, argv: list[bytes]) -> Reply:
    """List the libraries and their functions."""
    words = iter(argv[2:])
    pattern: Pattern | None = None
    with_code = False
    for word in words:
        if fold(word) == b"WITHCODE" and not with_code:
            with_code = True
        elif fold(word) == b"LIBRARYNAME" and pattern is None:
            name = next(words, None)
            if name is None:
                raise CommandError(LIBRARY_PATTERN_MISSING)
            pattern = Pattern(name)
        else:
            raise CommandError(FUNCTION_LIST_ARGUMENT % word)
    libraries = functions_of(session.instance).libraries.values() if session.store.libraries else ()
    return [_described(each, with_code) for each in libraries if pattern is None or pattern.matches(each.name)]


def _described(library: Library, with_code: bool) -> dict[bytes, Any]:
    functions = [
        {
            b"name": each.name,
            b"description": each.description,
            b"flags": Members([flag for flag in FLAGS if flag in each.flags]),
        }
        for each in library.functions.values()
    ]
    described = {b"library_name": library.name, b"engine": b"LUA", b"functions": functions}
    return {**described, b"library_code": library.code} if with_code else described


@command("FUNCTION|STATS", arity=2, flags=NOSCRIPT | ALLOW_BUSY, since="7.0.0")
def function_stats(session: Session, argv: list[bytes]) -> Reply:
    """Show the function that runs, and how many libraries and functions there are."""
    instance = session.instance
    scripts = instance.scripts
    running: Any = None
    if scripts is not None and scripts.is_busy:
        run = scripts.busy
        if run.request is None:
            raise CommandError(scripts.busy_text)
        duration_ms = int((instance.apart.now() - run.began) * 1000) if instance.apart is not None else 0
        running = {b"name": run.name, b"command": list(run.request), b"duration_ms": duration_ms}
    libraries = functions_of(instance).libraries.values() if session.store.libraries else ()
    count = sum(len(library.functions) for library in libraries)
    engine = {b"libraries_count": len(libraries), b"functions_count": count}
    return {b"running_script": running, b"engines": {b"LUA": engine}}


@command("FUNCTION|KILL", arity=2, flags=NOSCRIPT | ALLOW_BUSY, since="7.0.0")
def function_kill(session: Session, argv: list[bytes]) -> Reply:
    """End the function that takes long, if it has not written yet."""
    scripts = session.instance.scripts
    if scripts is None:
        raise CommandError(NO_SCRIPT_RUNS)
    scripts.kill(is_function=True)
    return OK


@command("FUNCTION|HELP", arity=2, flags=LOADING | STALE, since="7.0.0")
def function_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of FUNCTION."""
    return describe_subcommands(b"FUNCTION")
