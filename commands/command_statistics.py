"""INFO commandstats, latencystats and errorstats."""

from __future__ import annotations

from collections.abc import Iterable

from commands import HIDDEN
from commands.memory_report import Field
from session import Instance


def errorstats(instance: Instance) -> Iterable[Field]:
    """Return how often each code of an error was replied."""
    return [
        (f"errorstat_{code.decode()}", f"count={count}") for code, count in sorted(instance.statistics.errors.items())
    ]


def commandstats(instance: Instance) -> Iterable[Field]:
    """Return how often each command was called, and how long it took."""
    return [
        (
            f"cmdstat_{name.decode().lower()}",
            f"calls={count.calls},usec={count.seconds * 1e6:.0f},"
            f"usec_per_call={count.seconds * 1e6 / max(1, count.calls):.2f},"
            f"rejected_calls={count.rejected},failed_calls={count.failed}",
        )
        for name, count in instance.measures.counts.items()
        if (count.calls or count.rejected) and name not in HIDDEN
    ]


def latencystats(instance: Instance) -> Iterable[Field]:
    """Return the percentiles of the times of each command."""
    if not instance.config.latency_tracking:
        return []
    wanted = instance.config.latency_percentiles
    return [
        (
            f"latency_percentiles_usec_{name.decode().lower()}",
            ",".join(
                [f"p{each:g}={time_us:.3f}" for each, time_us in zip(wanted, count.percentiles(wanted), strict=True)]
            ),
        )
        for name, count in instance.measures.counts.items()
        if count.sampled and name not in HIDDEN
    ]
