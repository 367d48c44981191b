"""How far an instance's clock may be ahead, for the log's clock never goes back.

It owns the bound; what time etcd's members have it is told. A key ends for all when the greatest time that any entry
brought has passed its deadline. So one instance whose clock is a year ahead would end all keys with one write.
Therefore

- no entry brings a time that is more than the limit ahead of etcd's clocks: `entry_ms`;
- an instance whose clock is further ahead refuses whatever touches keys (`is_wrong`), reads included, since by its
  clock keys have ended that live on elsewhere.

A clock within the limit counts as it is, and one that is behind does no harm.

Refused: to let `apply` bound what an entry brings, by the entries of the others. It would have to be a function of the
log alone, which knows nothing of time but what instances claim; of two, nobody could say which one is right.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time

Clock = Callable[[], float]


class PoolClock:
    """An instance's clock beside those of etcd's members; `etcd_time` is None while none was heard of."""

    def __init__(self, etcd_time: Callable[[], float | None], wall_time: Clock = time) -> None:
        self.limit_ms = 0  # 0: none
        self._etcd_time = etcd_time
        self._wall_time = wall_time

    def ahead_ms(self) -> int:
        """Say by how much this instance's clock is ahead; less than 0: behind; 0 also where that is not known."""
        etcd_time = self._etcd_time()
        return 0 if etcd_time is None else round((self._wall_time() - etcd_time) * 1000)

    @property
    def is_wrong(self) -> bool:
        """Return True if it is too far ahead."""
        return bool(self.limit_ms) and self.ahead_ms() > self.limit_ms

    def entry_ms(self) -> int:
        """Return the time for an entry."""
        beyond_ms = max(0, self.ahead_ms() - self.limit_ms) if self.limit_ms else 0
        return int(self._wall_time() * 1000) - beyond_ms
