"""What DEBUG does in a server for tests (`--test-commands`): CLOCK moves the time, STATE saves and loads all keys."""

from __future__ import annotations

from commands import fold
from commands.arguments import parse_bounded
from config import MAX_SECONDS
from errors import (
    NAMED_BYTES,
    NO_SUCH_STATE,
    NOT_AN_INTEGER,
    STATE_EXISTS,
    TEST_COMMANDS_OFF,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    CommandError,
)
from keyspace.saved_states import SavedState
from replies import OK, Reply
from session import Session
from values import rebuild
from values.entry import deadline_of, value_of


def debug_for_tests(session: Session, argv: list[bytes]) -> Reply:
    """Run DEBUG CLOCK or DEBUG STATE. Raises CommandError unless the server was started for tests."""
    if session.instance.clock is None:
        raise CommandError(TEST_COMMANDS_OFF)
    subcommand, action, words = fold(argv[1]), fold(argv[2]) if len(argv) > 2 else b"", argv[3:]
    clock = session.instance.clock
    if subcommand == b"CLOCK" and action == b"ADVANCE" and len(words) == 1:
        clock.advance(parse_bounded(words[0], 0, MAX_SECONDS * 1000, NOT_AN_INTEGER))
    elif subcommand == b"CLOCK" and action == b"FREEZE" and not words:
        clock.freeze()
    elif subcommand == b"CLOCK" and action == b"RESET" and not words:
        clock.reset()
    elif subcommand == b"STATE" and action == b"SAVE" and len(words) == 1:
        _save(session, words[0])
    elif subcommand == b"STATE" and action == b"LOAD" and len(words) == 1:
        _load(session, words[0])
    else:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1][:NAMED_BYTES], b"DEBUG"))
    return OK


def _save(session: Session, name: bytes) -> None:
    states = session.instance.saved_states
    if name in states:
        raise CommandError(STATE_EXISTS % name[:NAMED_BYTES])
    states[name] = SavedState(session.store)


def _load(session: Session, name: bytes) -> None:
    state = session.instance.saved_states.get(name)
    if state is None:
        raise CommandError(NO_SUCH_STATE % name[:NAMED_BYTES])
    state.load(session.store)
    if session.instance.config.appendonly:
        session.db.effect(b"FLUSHALL")
        for index, saved in state.databases.items():
            for key, entry in saved.entries.items():
                for argv in rebuild(key, value_of(entry), deadline_of(entry)):
                    session.store.databases[index].effect(*argv)
