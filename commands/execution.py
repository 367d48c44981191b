"""Run one request past all gates, and turn whatever goes wrong in it into a reply.

A transaction runs its requests by `execute`. `engine.Engine.run_one`, the way of all other requests, does the same
inline for the sake of speed, and uses the three functions here that make an error's reply.
"""

from __future__ import annotations

import logging
from types import GeneratorType

from commands import HIDDEN, SCRIPT, TABLE, Command, fold
from commands.keyspace_walk import at_once
from commands.permissions import check
from errors import INTERNAL, NO_MEMORY, CommandError
from replies import LongArray, Reply, Work
from session import Instance, Session

logger = logging.getLogger("godis")


def execute(session: Session, argv: list[bytes], may_take_slices: bool = False) -> Reply:
    """Run a request whose name and arity are right, from start to end, and return its reply. Raises nothing.

    With `may_take_slices` a script that takes long returns its work, for `in_slices`.
    """
    name = fold(argv[0])
    return run(session, TABLE.get(name) or HIDDEN[name], argv, may_take_slices)


def run(session: Session, row: Command, argv: list[bytes], may_take_slices: bool = False) -> Reply:
    """Run a request of a command as `execute` does."""
    try:
        if session.user.is_restricted:
            check(session, row.of(argv), argv)
        reply = run_row(session, row, argv)
        if may_take_slices and row.flags & SCRIPT and type(reply) is GeneratorType:
            return reply
        while type(reply) is GeneratorType:
            reply = at_once(reply)
        if isinstance(reply, LongArray):  # it becomes a part of another array
            reply = reply.members()
    except Exception as error:
        reply = _refused(session.instance, row.name, error)
    return reply


def in_slices(instance: Instance, argv: list[bytes], work: Work) -> Work:
    """Run work of `execute` in slices; return its reply. Raises nothing."""
    try:
        return (yield from work)
    except Exception as error:
        return _refused(instance, fold(argv[0]), error)


def _refused(instance: Instance, name: bytes, error: Exception) -> CommandError:
    if isinstance(error, CommandError):
        return refuse(instance, error)
    return no_memory(instance, name) if isinstance(error, MemoryError) else internal_error(instance, name)


def run_row(session: Session, row: Command, argv: list[bytes]) -> Reply:
    """Run a request of a row, under the eyes of those who want to know what it changes. Raises CommandError."""
    observer = session.instance.observer
    return row.run(session, argv) if observer is None else observer.run(session, row, argv)


def refuse(instance: Instance, error: CommandError) -> CommandError:
    """Count an error that becomes a reply, and return it."""
    instance.statistics.count_error(error.text)
    # The traceback holds the frames that the error passed, and they hold the error: a cycle that only the garbage
    # collector would free.
    error.__traceback__ = error.__context__ = None
    return error


def internal_error(instance: Instance, name: bytes) -> CommandError:
    """Report the bug whose exception is being handled, and return the reply. Arguments are private: not logged."""
    logger.exception("internal error in %s", name[:64].decode(errors="backslashreplace"))
    instance.statistics.count_error(INTERNAL)
    return CommandError(INTERNAL)


def no_memory(instance: Instance, name: bytes) -> CommandError:
    """Report that the system had no memory for a command, and return the reply. The command changed nothing."""
    logger.warning("not enough memory for a %s", name[:64].decode(errors="backslashreplace"))
    instance.statistics.count_error(NO_MEMORY)
    return CommandError(NO_MEMORY)
