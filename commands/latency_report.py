"""The texts of LATENCY DOCTOR and LATENCY GRAPH."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from measuring.latency import Event
from session import Instance

GRAPH_ROWS = 4
GRAPH_COLUMNS = 80
RAMP = "_o#"  # of a row: its lower, middle and upper third
LATENCY_OFF = (
    "Nothing is recorded, because latency-monitor-threshold is 0. "
    'Send "CONFIG SET latency-monitor-threshold <milliseconds>" to record what takes longer.\n'
)
NO_SPIKES = "Nothing took longer than latency-monitor-threshold so far.\n"
ADVICE = {
    b"command": 'A slow command delays all clients: see SLOWLOG GET, and "INFO commandstats".',
    b"fast-command": "Even short commands took long: the machine may be short of processor time or of memory.",
    b"aof-write": "A write of the log took long: the disk is busy. Another disk for the log, or appendfsync no, helps.",
    b"aof-fsync-always": "An fsync took long, and appendfsync always makes clients wait for it: everysec does not.",
    b"expire-cycle": "Many keys expire in the same second. Deadlines that differ by some seconds spread the work.",
    b"eviction-cycle": "Evicting keys took long. A higher maxmemory, or fewer large values, helps.",
}


def summary_of(name: bytes, event: Event, now_second: int) -> str:
    """Describe an event in a line."""
    times_ms = [milliseconds for _, milliseconds in event.samples]
    return (
        f"{name.decode()}: {len(times_ms)} times longer than the threshold, {sum(times_ms) / len(times_ms):.0f} ms on "
        f"average, {event.most_ms} ms at most, last {max(0, now_second - event.samples[-1][0])} seconds ago."
    )


def advice(instance: Instance, names: Iterable[bytes]) -> Iterator[str]:
    """Yield a line of advice for each of some events."""
    for name in sorted(names):
        if name in ADVICE:
            yield f"- {ADVICE[name]}"
    if not 0 <= instance.config.slowlog_slower_than_us <= instance.measures.latency.threshold_ms * 1000:
        yield "- SLOWLOG does not record all of these commands: lower slowlog-log-slower-than to the same time."


def graph(name: bytes, event: Event, now_second: int) -> str:
    """Draw the last samples of an event: a column each, as high as it took long, with its age below."""
    samples = list(event.samples)[-GRAPH_COLUMNS:]
    times_ms = [milliseconds for _, milliseconds in samples]
    high, low = max(times_ms), min(times_ms)
    steps = GRAPH_ROWS * len(RAMP)
    heights = [1 + (each - low) * (steps - 1) // max(1, high - low) for each in times_ms]
    rows = [
        "".join(_cell(height - row * len(RAMP)) for height in heights).rstrip() for row in reversed(range(GRAPH_ROWS))
    ]
    ages = [_age(max(0, now_second - second)) for second, _ in samples]
    below = ["".join(age[place] if place < len(age) else " " for age in ages) for place in range(max(map(len, ages)))]
    title = f"{name.decode()} - high {high} ms, low {low} ms (all time high {event.most_ms} ms)"
    return "\n".join([title, "-" * GRAPH_COLUMNS, *rows, "", *below, ""])


def _cell(height: int) -> str:
    return " " if height <= 0 else RAMP[min(height, len(RAMP)) - 1] if height < len(RAMP) else "#"


def _age(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
