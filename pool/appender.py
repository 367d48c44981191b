"""The way of an entry into the log: a put that is repeated, at other members of etcd, too, until its outcome is known.

It owns the attempts. It must not know what an entry holds; it may send the same bytes as often as it likes, since an
entry that stands in the log twice is applied once.

    put -> attempt at the member that answered last
             no answer in PATIENCE_SECONDS -> one more, at another member, while the first one goes on
             another leader (`send_again`)  -> one more, at once: the old one may have taken it to its grave
           until one is answered, or the entry comes back by the watch, or etcd has refused each of them

**Why attempts go on beside each other.** A member that knows no leader keeps a put until there is one, and then it is
there at once; but one that follows a leader which just died sends it into the void and waits for its own 7 seconds.
Nobody can tell the two apart, so both kinds are left standing for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic

from gevent.event import Event

from pool.etcd import Channel, Etcd, Refused, Unreachable
from session import PoolState

APPEND_SECONDS = 1.5  # for one attempt
PATIENCE_SECONDS = 0.5  # or more where etcd is slow: else it would be made slower
SLOW = 4  # so many times the usual time
MOST_ATTEMPTS = 3  # beside each other
RETRY_SECONDS = 0.02
REFUSED_SECONDS = 0.5

Spawn = Callable[[Callable[[], None]], None]


class Put:
    """The attempts to put one entry."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.since = monotonic()
        self.next_at = 0.0
        self.unknown = 0  # attempts that may yet succeed, or may have
        self.refusal: Refused | None = None
        self.taken = False

    @property
    def is_refused(self) -> bool:
        """Return True if it is certain that the entry is not and will not be in the log."""
        return self.refusal is not None and not self.unknown


class Appender:
    """Brings entries into the log, one at a time."""

    def __init__(self, etcd: Etcd, state: PoolState, confirmed: Callable[[float], None], spawn: Spawn) -> None:
        self._free = deque(etcd.channel() for _ in range(MOST_ATTEMPTS))
        self._busy: set[Channel] = set()
        self._state = state
        self._confirmed = confirmed  # to be told when the log has answered what was sent then
        self._spawn = spawn
        self._put: Put | None = None
        self._news = Event()
        self._own_seq = 0  # of our last entry that came back

    def put(self, data: bytes, seq: int) -> Refused | None:
        """Put an entry; return when it is in the log, or the refusal when it is certain that it is not."""
        put = self._put = Put(data)
        while not put.taken and self._own_seq < seq and not put.is_refused:
            now = monotonic()
            if now >= put.next_at and self._free:
                put.next_at = now + self._patience_seconds()
                put.unknown += 1
                self._spawn(partial(self._attempt, put, self._take_channel()))
            self._news.clear()
            self._news.wait(max(RETRY_SECONDS, put.next_at - now))
        self._put = None
        return put.refusal if put.is_refused and self._own_seq < seq else None

    def _patience_seconds(self) -> float:
        return min(APPEND_SECONDS, max(PATIENCE_SECONDS, SLOW * self._state.append_ms / 1000))

    def _take_channel(self) -> Channel:
        channel = self._free.popleft()
        asked = {other.endpoint for other in self._busy}
        if channel.endpoint in asked:
            channel.move(asked)
        self._busy.add(channel)
        return channel

    def _attempt(self, put: Put, channel: Channel) -> None:
        start = monotonic()
        try:
            channel.call("kv/put", put.data, APPEND_SECONDS)
        except Unreachable as error:
            self._state.trouble = str(error)
            put.next_at = min(put.next_at, monotonic() + RETRY_SECONDS)
            self._free.append(channel)
        except Refused as error:
            self._state.trouble = str(error)
            put.refusal = error
            put.unknown -= 1
            put.next_at = monotonic() + REFUSED_SECONDS
            self._free.append(channel)
        else:
            put.taken = True
            self._confirmed(start)
            self._free.appendleft(channel)
        self._busy.discard(channel)
        self._news.set()

    def came_back(self, seq: int) -> None:
        """Note that an entry of ours is in the log, whatever its attempts may say."""
        self._own_seq = seq
        self._news.set()

    def send_again(self) -> None:
        """Make another attempt at once, if an entry is under way."""
        if self._put is not None:
            self._put.next_at = 0.0
            self._news.set()

    def under_way_seconds(self, now: float) -> float:
        """Say for how long the present entry has been under way; 0 if there is none."""
        return now - self._put.since if self._put is not None else 0.0
