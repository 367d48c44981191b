"""Appends an entry to the log: a put that is repeated, at other members of etcd, too, until its outcome is known.

It owns the attempts. It must not know what an entry holds. It may send the same bytes any number of times, because an
entry that is in the log twice is applied once.

    put -> attempt at the member that answered last
             no answer in PATIENCE_SECONDS  -> one more, at another member, while the first one goes on
             another leader (`send_again`)  -> one more, at once: the old leader may have lost the first one
           until one is answered, or the watch shows the entry, or etcd has refused each of them

**An etcd that is full** may find that out when it has put the entry already. So such a refusal counts only when all
that the log holds has been read, and the entry was not there.

**Why attempts run in parallel.** A member that knows no leader keeps a put until there is a leader, and then the put
succeeds at once. A member whose leader has just died forwards the put to it, and waits for 7 seconds of its own. A
client cannot distinguish the two, so it leaves both attempts open for a while.
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
PATIENCE_SECONDS = 0.5  # more where etcd is slow, because repeated puts would make it slower
SLOW = 4  # times the usual time of a put: then it is repeated
MOST_ATTEMPTS = 3  # in parallel
RETRY_SECONDS = 0.02
REFUSED_SECONDS = 0.5

Spawn = Callable[[Callable[[], None]], None]


class Put:
    """The attempts to put one entry."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.since = monotonic()
        self.next_at = 0.0
        self.unknown = 0  # attempts that may succeed yet, or may have succeeded
        self.refusal: Refused | None = None
        self.acknowledged = False

    @property
    def is_refused(self) -> bool:
        """Return True if it is certain that the entry is not and will not be in the log."""
        return self.refusal is not None and not self.unknown


class Appender:
    """Appends entries to the log, one at a time."""

    def __init__(
        self,
        etcd: Etcd,
        state: PoolState,
        confirmed: Callable[[float], None],
        spawn: Spawn,
        read_to_end: Callable[[], bool],
    ) -> None:
        self._free = deque(etcd.channel() for _ in range(MOST_ATTEMPTS))
        self._busy: set[Channel] = set()
        self._state = state
        self._confirmed = confirmed  # called with the time at which a call began that etcd has answered
        self._spawn = spawn
        self._read_to_end = read_to_end  # waits until all that the log holds now is read; False: etcd did not answer
        self._put: Put | None = None
        self._changed = Event()
        self._own_seq = 0  # of our last entry that was read from the log

    def put(self, data: bytes, seq: int) -> Refused | None:
        """Put an entry; return None when it is in the log, or the refusal when it is certain that it is not.

        It waits as long as the outcome is not known. One call at a time.
        """
        put = self._put = Put(data)
        while not put.acknowledged and self._own_seq < seq and not put.is_refused:
            now = monotonic()
            if now >= put.next_at and self._free:
                put.next_at = now + self._patience_seconds()
                put.unknown += 1
                self._spawn(partial(self._attempt, put, self._take_channel()))
            self._changed.clear()
            self._changed.wait(max(RETRY_SECONDS, put.next_at - now))
        refusal = put.refusal if put.is_refused else None
        if refusal is not None and refusal.is_full:
            while self._own_seq < seq and not self._read_to_end():
                pass
        self._put = None
        return refusal if self._own_seq < seq else None

    def _patience_seconds(self) -> float:
        return min(APPEND_SECONDS, max(PATIENCE_SECONDS, SLOW * self._state.append_ms / 1000))

    def _take_channel(self) -> Channel:
        channel = self._free.popleft()
        used = {other.endpoint for other in self._busy}
        if channel.endpoint in used:
            channel.move(used)
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
            put.acknowledged = True
            self._confirmed(start)
            self._free.appendleft(channel)
        self._busy.discard(channel)
        self._changed.set()

    def came_back(self, seq: int) -> None:
        """Record that an entry of ours was read from the log, whatever the results of its attempts are."""
        self._own_seq = seq
        self._changed.set()

    def send_again(self) -> None:
        """Make another attempt at once, if an entry is under way."""
        if self._put is not None:
            self._put.next_at = 0.0
            self._changed.set()

    def under_way_seconds(self, now: float) -> float:
        """Return for how many seconds the present entry has been under way; 0 if there is none."""
        return now - self._put.since if self._put is not None else 0.0
