"""Count requests, book their times, show them to monitors, and note the slow ones.

1. `Engine.run_one` counts each request, and runs by `run` those whose turn it is to be measured. A transaction runs its
   requests by `execute`.
2. The time of work in slices is that of its slices. The time for which a client waits is not counted.
3. No function here reads the clock but by `Measures.clock`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from types import GeneratorType

from commands import ADMIN, FAST, HIDDEN, SKIP_MONITOR, SKIP_SLOWLOG, TABLE, Command, execution, fold
from errors import CommandError
from measuring.command_counts import CommandCount, CommandCounts
from replies import Deferred, Reply
from session import Session


def row_of(argv: list[bytes]) -> Command:
    """Return the row of a request whose command exists, or that of its subcommand."""
    name = fold(argv[0])
    return (TABLE.get(name) or HIDDEN[name]).of(argv)


def counted(row: Command, counts: CommandCounts) -> Command:
    """Return a row of an engine, which counts its calls."""
    row = copy(row)
    row.count = CommandCount() if row.subcommands else counts.of(row.name, row.swift)
    return row


def _count_of(session: Session, row: Command, argv: list[bytes]) -> CommandCount:
    named = row.of(argv)
    return session.instance.measures.counts.of(named.name, named.swift)


def execute(session: Session, argv: list[bytes], may_take_slices: bool = False) -> Reply:
    """Run a request as `execution.execute` does, count it, and measure it if it is its turn."""
    if not session.id:  # the log's own
        return execution.execute(session, argv, may_take_slices)
    row = TABLE.get(argv[0])
    if row is None:
        name = fold(argv[0])
        row = TABLE.get(name) or HIDDEN[name]
    count = _count_of(session, row, argv) if row.subcommands else session.instance.measures.counts[row.name]
    return execute_counted(session, row, argv, count, may_take_slices)


def execute_counted(
    session: Session, row: Command, argv: list[bytes], count: CommandCount, may_take_slices: bool = False
) -> Reply:
    """Run a request as `execute` does. `count`: that of its command."""
    instance = session.instance
    count.left -= 1
    if count.left > 0 and not instance.is_observed:
        reply = execution.run(session, row, argv, may_take_slices)
    else:
        calls, began = count.take(), instance.measures.clock()
        reply = execution.run(session, row, argv, may_take_slices)
        _book(session, row, argv, count, calls, began, reply)
    count.failed += type(reply) is CommandError
    return reply


def run(session: Session, row: Command, argv: list[bytes], count: CommandCount) -> Reply:
    """Run a request that is counted already and is to be measured; return its reply. Raises what the command raises."""
    clock = session.instance.measures.clock
    if row.subcommands:  # `count` only brings it here
        count.take()
        count = _count_of(session, row, argv)
        count.left -= 1
    calls, began = count.take(), clock()
    try:
        reply = execution.run_row(session, row, argv)
    except CommandError as error:
        named = row.of(argv)
        if named.accepts(len(argv)) and not named.subcommands:  # else its container has refused it
            _book(session, row, argv, count, calls, began, error)
        raise
    _book(session, row, argv, count, calls, began, reply)
    return reply


def _book(
    session: Session, row: Command, argv: list[bytes], count: CommandCount, calls: int, began: float, reply: Reply
) -> None:
    seconds = session.instance.measures.clock() - began
    if type(reply) is not GeneratorType:  # else `finish_work` does it
        count.add(seconds, calls)
    if seconds > session.instance.measures.notable_seconds:
        note(session, row, argv, seconds, reply)


def book_columns(session: Session, row: Command, requests: Sequence[list[bytes]], calls: int, seconds: float) -> None:
    """Book the time of a pipeline that ran by column, whose requests are counted already."""
    row.count.add(seconds / calls, row.count.take())
    if seconds > session.instance.measures.notable_seconds:
        note(session, row, requests[0], seconds, None)


def finish_work(session: Session, argv: list[bytes], seconds: float, reply: Reply) -> None:
    """Book the time of work that ran in slices; `reply` is what it returned."""
    if isinstance(reply, Deferred):
        return  # it made room for the request, which has yet to run
    row = row_of(argv)
    count = _count_of(session, row, argv)
    count.failed += isinstance(reply, CommandError)
    count.add(seconds, 1)
    _note_time(session, row, argv, seconds)
    if row.name == b"EXEC":  # it is shown behind what it has run
        show(session, argv)


def uncount(session: Session, argv: list[bytes]) -> None:
    """Take back a call that did not run, because it waits."""
    _count_of(session, row_of(argv), argv).take_back()


def count_refused(session: Session, row: Command | None, argv: list[bytes], *, ran: bool) -> None:
    """Count a request that ended with an error, before it ran or when it `ran`; `row` is None if there is none."""
    if row is None:
        return
    count, named = _count_of(session, row, argv), row.of(argv)
    if not ran:
        count.rejected += 1
    elif named.subcommands or not named.accepts(len(argv)):  # the row of the container has refused the subcommand
        count.take_back()
        count.rejected += not named.subcommands
    else:
        count.failed += 1


def note(session: Session, row: Command, argv: list[bytes], seconds: float, reply: Reply) -> None:
    """Show a request that ran to monitors, and note its time, unless `reply` is work that has just begun."""
    row, has_ended = row.of(argv), type(reply) is not GeneratorType
    if has_ended:
        _note_time(session, row, argv, seconds)
    if not row.flags & (ADMIN | SKIP_MONITOR) and (has_ended or row.name != b"EXEC"):
        show(session, argv)


def show(session: Session, argv: list[bytes]) -> None:
    """Show a request to monitors."""
    monitors = session.instance.measures.monitors
    if monitors:
        origin = f"unix:{session.instance.config.unixsocket}" if session.on_unix_socket else session.address
        monitors.show(argv, session.db.index, "lua" if session.runs_script else origin)


def _note_time(session: Session, row: Command, argv: list[bytes], seconds: float) -> None:
    measures = session.instance.measures
    if not row.flags & SKIP_SLOWLOG:
        measures.slow_log.note(argv, seconds, session.store.now_ms // 1000, session.address, session.name)
    measures.latency.note(b"fast-command" if row.flags & FAST else b"command", seconds)
