"""Count requests, book their times, show them to monitors, and note the slow ones.

1. `Engine.run` measures what comes alone inline, and what comes in a pipeline by the functions here. A transaction runs
   its requests by `execute`.
2. The time of work in slices is that of its slices. The time for which a client waits is not counted.
3. No function here reads the clock but by `Measures.clock`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from commands import ADMIN, FAST, HIDDEN, SKIP_MONITOR, SKIP_SLOWLOG, TABLE, Command, execution, fold
from errors import CommandError
from measuring.command_counts import CommandCount
from measuring.measures import Measures
from replies import QUEUED, Deferred, Reply
from session import Session


def row_of(argv: list[bytes], table: Mapping[bytes, Command] = TABLE) -> Command:
    """Return the row of a request whose command exists, or that of its subcommand."""
    name = fold(argv[0])
    return (table.get(name) or HIDDEN[name]).of(argv)


def execute(session: Session, argv: list[bytes], may_take_slices: bool = False) -> Reply:
    """Run a request as `execution.execute` does, and measure it."""
    if not session.id:  # the log's own
        return execution.execute(session, argv, may_take_slices)
    name, measures = fold(argv[0]), session.instance.measures
    row = TABLE.get(name) or HIDDEN[name]
    count = measures.counts[row.of(argv).name if row.subcommands else row.name]
    count.calls += 1
    began = measures.clock()
    reply = execution.run(session, row, argv, may_take_slices)
    seconds = measures.clock() - began
    count.failed += type(reply) is CommandError
    _book(session, row, argv, count, seconds, reply)
    return reply


def run_alone(session: Session, row: Command, argv: list[bytes], count: CommandCount) -> tuple[Reply, float]:
    """Run a request of a pipeline that is perhaps slow; return its reply and its time. Raises CommandError."""
    clock = session.instance.measures.clock
    began = clock()
    reply = execution.run_row(session, row, argv)
    seconds = clock() - began
    _book(session, row, argv, count, seconds, reply)
    return reply, seconds


def _book(session: Session, row: Command, argv: list[bytes], count: CommandCount, seconds: float, reply: Reply) -> None:
    count.seconds += seconds
    if count.calls > count.next_sample:
        count.sample(seconds)
    if seconds > session.instance.measures.notable_seconds:
        note(session, row, argv, seconds, reply)


def book_columns(session: Session, row: Command, requests: Sequence[list[bytes]], calls: int, seconds: float) -> None:
    """Count a pipeline that ran by column, and book its time."""
    measures = session.instance.measures
    count = measures.counts[row.name]
    count.calls += calls
    count.seconds += seconds
    if count.calls > count.next_sample:
        count.sample(seconds / calls)
    if seconds > measures.notable_seconds:
        note(session, row, requests[0], seconds, None)


def book_pipeline(
    session: Session,
    table: Mapping[bytes, Command],
    requests: Sequence[list[bytes]],
    replies: Sequence[Reply],
    seconds: float,
) -> None:
    """Book the time of the swift requests of a pipeline on one of them, each in turn.

    If they took long, the one with the most bytes is of note, because nobody knows which of them it was.
    """
    measures = session.instance.measures
    measures.pipelines += 1
    ran = len(requests)
    start = measures.pipelines % ran
    for place in (*range(start, ran), *range(start)):
        row = table.get(requests[place][0])
        if row is not None and row.swift and replies[place] is not QUEUED:
            count = measures.counts[row.name]
            count.seconds += seconds
            if count.calls > count.next_sample:
                count.sample(seconds / ran)
            break
    if seconds > measures.notable_seconds:
        rows = [(table.get(fold(argv[0])), argv) for argv in requests]
        swift = [(row, argv) for row, argv in rows if row is not None and row.swift]
        if swift:
            note(session, *max(swift, key=lambda pair: sum(map(len, pair[1]))), seconds, None)


def finish_work(session: Session, argv: list[bytes], seconds: float, reply: Reply) -> None:
    """Book the time of work that ran in slices; `reply` is what it returned."""
    if isinstance(reply, Deferred):
        return  # it made room for the request, which has yet to run
    row = row_of(argv)
    count = session.instance.measures.counts[row.name]
    count.seconds += seconds
    count.failed += isinstance(reply, CommandError)
    if count.calls > count.next_sample:
        count.sample(seconds)
    _note_time(session, row, argv, seconds)


def uncount(session: Session, argv: list[bytes]) -> None:
    """Take back a call that did not run, because it waits."""
    session.instance.measures.counts[row_of(argv).name].calls -= 1


def count_refused(
    measures: Measures, table: Mapping[bytes, Command], argv: list[bytes], count: CommandCount | None
) -> CommandCount | None:
    """Count a request that ended with an error; return None if it was refused before it ran."""
    row = table.get(fold(argv[0]))
    if row is None:
        return None
    row = row.of(argv)
    if count is None:
        measures.counts[row.name].rejected += 1
        return None
    if row.subcommands or not row.accepts(len(argv)):  # the row of the container has refused the subcommand
        count.calls -= 1
        count.rejected += not row.subcommands
        return None
    count.failed += 1
    return count


def note(session: Session, row: Command, argv: list[bytes], seconds: float, reply: Reply) -> None:
    """Show a request that ran to monitors, and note its time, unless `reply` is work that has just begun."""
    row = row.of(argv)
    if not isinstance(reply, Generator):
        _note_time(session, row, argv, seconds)
    if not row.flags & (ADMIN | SKIP_MONITOR):
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
