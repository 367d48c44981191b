"""The limit on how far an instance's clock may be ahead of etcd's clocks.

A key expires on all instances when the greatest time of any entry has passed its deadline, and that time never goes
back. So one write of an instance whose clock is a year ahead would expire all keys with a deadline. Therefore:

1. No entry carries a time that is more than the limit ahead of etcd's clocks: `entry_ms`.
2. An instance whose clock is further ahead refuses every command that touches keys (`is_wrong`), reads included,
   because by its clock keys have expired that are still there on other instances.
3. A clock within the limit is used unchanged. A clock that is behind does no harm.

Refused: to let `Replica.apply` bound the time of an entry by the entries of other instances. The bound would have to be
a function of the log alone, and the log has no other time than that of its instances: with two instances, it does not
show which of them is right.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time

Clock = Callable[[], float]


class PoolClock:
    """An instance's clock, compared with `etcd_time`, in seconds, which returns None while it is not known."""

    def __init__(self, etcd_time: Callable[[], float | None], wall_time: Clock = time) -> None:
        self.limit_ms = 0  # 0: no limit
        self._etcd_time = etcd_time
        self._wall_time = wall_time

    def ahead_ms(self) -> int:
        """Return by how many ms this instance's clock is ahead; negative if it is behind, 0 if etcd's is not known."""
        etcd_time = self._etcd_time()
        return 0 if etcd_time is None else round((self._wall_time() - etcd_time) * 1000)

    @property
    def is_wrong(self) -> bool:
        """Return True if this clock is more than the limit ahead."""
        return bool(self.limit_ms) and self.ahead_ms() > self.limit_ms

    def entry_ms(self) -> int:
        """Return the wall-clock time for an entry, at most the limit ahead of etcd's."""
        excess_ms = max(0, self.ahead_ms() - self.limit_ms) if self.limit_ms else 0
        return int(self._wall_time() * 1000) - excess_ms
