"""What the server did: MONITOR, SLOWLOG, LATENCY.

The commands show what the folder `measuring` holds. None of them is logged, and in a pool each shows its own instance.
"""

from __future__ import annotations

from commands import (
    ADMIN,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NOSCRIPT,
    READONLY,
    STALE,
    TABLE,
    command,
    container,
    fold,
)
from commands.arguments import MAX_INTEGER, parse_bounded
from commands.introspection import describe_subcommands
from commands.latency_report import LATENCY_OFF, NO_SPIKES, advice, graph, summary_of
from commands.long_commands import word_by_word
from errors import (
    MONITOR_IN_TRANSACTION,
    NAMED_BYTES,
    NO_LATENCY_SAMPLES,
    NO_MODULES,
    SLOWLOG_COUNT,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    CommandError,
)
from measuring.command_counts import CommandCounts
from replies import NO_REPLY, OK, FlatMap, Messages, Reply, Verbatim, Work
from session import Session
from version import REDIS_VERSION

OPERATOR = ADMIN | LOADING | STALE
HELP = LOADING | STALE
SHOWN_SLOW = 10  # entries that SLOWLOG GET shows without a count

container("SLOWLOG", since="2.2.12")
container("LATENCY", since="2.8.13")


@command("MONITOR", arity=1, flags=OPERATOR | NOSCRIPT)
def monitor(session: Session, argv: list[bytes]) -> Reply:
    """Show every request that the server runs from now on, until RESET or the end of the connection.

    Differs from Redis: words of more than 64 KiB are cut.
    """
    if session.is_executing:
        raise CommandError(MONITOR_IN_TRANSACTION)
    if session.is_monitor:
        return NO_REPLY
    session.is_monitor = True
    return Messages([OK])  # so that also a client that sent a line gets lines


# ---- SLOWLOG


@command("SLOWLOG|GET", "[count]", arity=-2, flags=OPERATOR, since="2.2.12")
def slowlog_get(session: Session, argv: list[bytes]) -> Reply:
    """List the last requests that took longer than `slowlog-log-slower-than`, the newest first.

    Differs from Redis: the time of work that runs in slices is that of its slices. Of quick commands, such as GET, one
    call in 256 is measured, unless the threshold is below 1000 or `latency-monitor-threshold` is set.
    """
    if len(argv) > 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1][:NAMED_BYTES], b"SLOWLOG"))
    count = parse_bounded(argv[2], -1, MAX_INTEGER, SLOWLOG_COUNT) if len(argv) == 3 else SHOWN_SLOW
    entries = list(session.instance.measures.slow_log.entries)[::-1]
    return [
        [each.number, each.second, each.microseconds, each.words, each.address, each.client_name]
        for each in (entries if count < 0 else entries[:count])
    ]


@command("SLOWLOG|LEN", arity=2, flags=OPERATOR, since="2.2.12")
def slowlog_len(session: Session, argv: list[bytes]) -> Reply:
    """Count the entries of the slow log."""
    return len(session.instance.measures.slow_log.entries)


@command("SLOWLOG|RESET", arity=2, flags=OPERATOR, since="2.2.12")
def slowlog_reset(session: Session, argv: list[bytes]) -> Reply:
    """Delete the entries of the slow log."""
    session.instance.measures.slow_log.entries.clear()
    return OK


@command("SLOWLOG|HELP", arity=2, flags=HELP, since="6.2.0")
def slowlog_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of SLOWLOG."""
    return describe_subcommands(b"SLOWLOG")


# ---- LATENCY


@command("LATENCY|LATEST", arity=2, flags=OPERATOR | NOSCRIPT, since="2.8.13")
def latency_latest(session: Session, argv: list[bytes]) -> Reply:
    """Show for each event when it last took longer than `latency-monitor-threshold`, that time and the longest."""
    events = session.instance.measures.latency.events
    return [[name, *event.samples[-1], event.most_ms] for name, event in events.items()]


@command("LATENCY|HISTORY", "event", arity=3, flags=OPERATOR | NOSCRIPT, since="2.8.13")
def latency_history(session: Session, argv: list[bytes]) -> Reply:
    """List the Unix second and the milliseconds of each time that an event took long."""
    event = session.instance.measures.latency.events.get(argv[2])
    return [] if event is None else [list(sample) for sample in event.samples]


@command("LATENCY|RESET", "[event [event ...]]", arity=-2, flags=OPERATOR | NOSCRIPT, since="2.8.13")
def latency_reset(session: Session, argv: list[bytes]) -> Reply:
    """Forget the history of some events, or of all; returns how many of them had one."""
    events = session.instance.measures.latency.events
    return sum([events.pop(name, None) is not None for name in argv[2:] or list(events)])


@command("LATENCY|GRAPH", "event", arity=3, flags=OPERATOR | NOSCRIPT, since="2.8.13")
def latency_graph(session: Session, argv: list[bytes]) -> Reply:
    """Draw the history of an event as a graph of characters."""
    event = session.instance.measures.latency.events.get(argv[2])
    if event is None:
        raise CommandError(NO_LATENCY_SAMPLES % argv[2][:NAMED_BYTES])
    return Verbatim(graph(argv[2], event, session.store.now_ms // 1000).encode())


@command("LATENCY|DOCTOR", arity=2, flags=OPERATOR | NOSCRIPT, since="2.8.13")
def latency_doctor(session: Session, argv: list[bytes]) -> Reply:
    """Explain the events that took long, and what helps.

    Differs from Redis: the text is another one.
    """
    latency = session.instance.measures.latency
    if not latency.threshold_ms:
        return Verbatim(LATENCY_OFF.encode())
    if not latency.events:
        return Verbatim(NO_SPIKES.encode())
    lines = [summary_of(name, event, session.store.now_ms // 1000) for name, event in sorted(latency.events.items())]
    return Verbatim("\n".join([*lines, "", *advice(session.instance, latency.events), ""]).encode())


@command("LATENCY|HISTOGRAM", "[command [command ...]]", arity=-2, flags=OPERATOR | NOSCRIPT, since="7.0.0")
def latency_histogram(session: Session, argv: list[bytes]) -> Reply:
    """Show how many calls of some commands, or of all, took at most so many microseconds.

    Differs from Redis: after the first 128 calls of a quick command, such as GET, one in 256 is measured and stands for
    all of them.
    """
    counts = session.instance.measures.counts
    if len(argv) == 2:
        return FlatMap(part for name in list(counts) for part in _histogram(name, counts))
    return word_by_word(argv, _histograms(argv[2:], counts))


def _histograms(words: list[bytes], counts: CommandCounts) -> Work:
    found = FlatMap()
    for word in words:
        yield
        parent, _, child = fold(word).partition(b"|")
        row = TABLE.get(parent)
        if row is not None and child:
            row = row.subcommands.get(child)
        if row is not None:
            for name in (row.name, *[each.name for each in row.subcommands.values()]):
                found += _histogram(name, counts)
    return found


def _histogram(name: bytes, counts: CommandCounts) -> list[Reply]:
    count = counts.get(name)
    if count is None or not count.sampled:
        return []
    levels = FlatMap(number for level in count.levels() for number in level)
    return [name.lower(), {b"calls": count.sampled, b"histogram_usec": levels}]


@command("LATENCY|HELP", arity=2, flags=HELP, since="2.8.13")
def latency_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of LATENCY."""
    return describe_subcommands(b"LATENCY")


# ---- what the server is


@command("ROLE", arity=1, flags=NOSCRIPT | LOADING | STALE | FAST, since="2.8.12")
def role(session: Session, argv: list[bytes]) -> Reply:
    """Say that the server is a primary without replicas."""
    return [b"master", 0, []]


container("MODULE", since="4.0.0")


@command("MODULE|LIST", arity=2, flags=ADMIN | NOSCRIPT, since="4.0.0")
def module_list(session: Session, argv: list[bytes]) -> Reply:
    """List the loaded modules: there are none."""
    return []


@command("MODULE|LOAD", "path [arg [arg ...]]", arity=-3, flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING, since="4.0.0")
@command("MODULE|UNLOAD", "name", arity=3, flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING, since="4.0.0")
def module_load(session: Session, argv: list[bytes]) -> Reply:
    """Refuse, because there are no modules."""
    raise CommandError(NO_MODULES)


@command("MODULE|HELP", arity=2, flags=HELP, since="5.0.0")
def module_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of MODULE."""
    return describe_subcommands(b"MODULE")


@command("LOLWUT", "[VERSION version]", arity=-1, flags=READONLY | FAST, since="5.0.0")
def lolwut(session: Session, argv: list[bytes]) -> Reply:
    """Show the version, and no picture."""
    return Verbatim(f"Redis ver. {REDIS_VERSION}\n".encode())
