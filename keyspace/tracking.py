"""Client-side caching: which clients must drop what they keep of a key, because it has changed.

1. It is a listener to all changes while a client has CLIENT TRACKING on; else it is not there, and costs nothing.
2. In the default mode the keys that a client reads are remembered (`remember`). The first change of a key invalidates
   it at each client that has read it, and the key is forgotten. At most `most_keys` keys are remembered: what is more
   is invalidated, the oldest first.
3. A client in the mode BCAST gets all changes of keys with one of its prefixes, once a request.
4. As in Redis, keys of all databases with the same name are one key, and a flush invalidates everything (`None`).

    table     key -> the id of the client that has read it, or a set of ids     may name clients that are gone
    prefixes  prefix -> ids of the clients
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from keyspace.notifications import Request, Running
from replies import Push
from store import Keyspace

INVALIDATE_CHANNEL = b"__redis__:invalidate"
NOBODY = 0  # no client has this id
MOST_FORGOTTEN = 100  # keys that one read invalidates, because there are too many


@dataclass(eq=False, repr=False)
class Mode:
    """How a client tracks keys: the options of CLIENT TRACKING, and what CLIENT CACHING said of the next request."""

    redirect: int = 0  # id of the client that gets the messages; 0: the client itself
    bcast: bool = False
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    prefixes: dict[bytes, None] = field(default_factory=dict)
    caching: bool = False  # CLIENT CACHING was sent
    is_broken: bool = False  # the client that gets the messages is gone

    @property
    def remembers(self) -> bool:
        """Return True if the keys that the client reads are to be remembered."""
        return not self.bcast and (self.caching if self.optin else not (self.optout and self.caching))


class Client(Protocol):
    """A session, as far as it matters here."""

    id: int
    resp3: bool
    tracking: Mode | None
    push: Callable[[Push], None]

    @property
    def is_subscribed(self) -> bool: ...


class Tracking:
    """The keys that clients have read, and the messages to them."""

    def __init__(self, clients: Mapping[int, Any], running: Running, garbage: list[Any]) -> None:
        self.most_keys = 0  # 0: no limit
        self.ids: set[int] = set()  # of the clients that track
        self.prefixes: dict[bytes, dict[int, None]] = {}
        self._lengths: list[int] = []  # of the prefixes
        self.items = 0  # ids in the table
        self.table: OrderedDict[bytes, int | set[int]] = OrderedDict()
        self.follow: Callable[[], None] = lambda: None  # called when the first client begins, and the last one ends
        self._clients = clients
        self._running = running
        self._garbage = garbage
        self._changed: dict[bytes, dict[bytes, int]] = {}  # by the request that runs: prefix -> key -> client
        self._flush: Request | None = None  # the last request that flushed

    def begin(self, client: Client, mode: Mode) -> None:
        """Track for a client. In the mode BCAST the prefixes that it has go on."""
        if client.tracking is not None:
            mode.caching = client.tracking.caching
            mode.prefixes = {**client.tracking.prefixes, **mode.prefixes}
        client.tracking = mode
        self.ids.add(client.id)
        if len(self.ids) == 1:
            self.follow()
        for prefix in mode.prefixes:
            self.prefixes.setdefault(prefix, {})[client.id] = None
        self._lengths = sorted(set(map(len, self.prefixes)))

    def end(self, client: Client) -> None:
        """Track for a client no more; no effect if it does not track."""
        if client.tracking is None:
            return
        for prefix in client.tracking.prefixes:
            del self.prefixes[prefix][client.id]
            if not self.prefixes[prefix]:
                del self.prefixes[prefix]
        self._lengths = sorted(set(map(len, self.prefixes)))
        client.tracking = None
        self.ids.discard(client.id)
        if not self.ids:
            self._forget_all()
            self.follow()

    def remember(self, client: Client, keys: Iterable[bytes]) -> None:
        """Remember that a client has read keys."""
        table, client_id = self.table, client.id
        for key in keys:
            known = table.get(key)
            if known is None:
                table[key] = client_id
            elif isinstance(known, set):
                if client_id in known:
                    continue
                known.add(client_id)
            elif known != client_id:
                table[key] = {known, client_id}
            else:
                continue
            self.items += 1
        for _ in range(MOST_FORGOTTEN if self.most_keys else 0):
            if len(table) <= self.most_keys:
                break
            self._invalidate(next(iter(table)))

    def end_request(self) -> None:
        """Send what the request that has run made invalid for clients in the mode BCAST."""
        if self._changed:
            changed, self._changed = self._changed, {}
            for prefix, keys in changed.items():
                for client, mode in self._tracking(self.prefixes.get(prefix, ())):
                    if others := [key for key in sorted(keys) if not (mode.noloop and keys[key] == client.id)]:
                        self._send(client, others)

    def _changer_id(self) -> int:
        """Return the id of the client that NOLOOP spares: not that of a script, whose changes it cannot know."""
        request = self._running.request
        return NOBODY if request is None or request.client.runs_script else request.client.id

    def _tracking(self, ids: Iterable[int]) -> Iterator[tuple[Client, Mode]]:
        """Yield those of some clients that are there and track."""
        for client_id in list(ids):
            client = self._clients.get(client_id)
            if client is not None and client.tracking is not None:
                yield client, client.tracking

    def _forget_all(self) -> None:
        self._garbage.append(self.table)
        self.table = OrderedDict()
        self.items = 0

    def _invalidate(self, key: bytes) -> None:
        """Tell the clients that have read a key, and forget it."""
        known = self.table.pop(key, None)
        if known is None:
            return
        ids = known if isinstance(known, set) else {known}
        self.items -= len(ids)
        changer = self._changer_id()
        for client, mode in self._tracking(ids):
            if not mode.bcast and not (mode.noloop and changer == client.id):
                self._send(client, [key])

    def _send(self, client: Client, keys: list[bytes] | None) -> None:
        """Send a client, or the one that gets its messages, the keys that are invalid; None: all."""
        mode = client.tracking
        assert mode is not None
        receiver = client
        if mode.redirect:
            receiver = self._clients.get(mode.redirect)  # type: ignore[assignment]
            mode.is_broken = receiver is None
        if mode.is_broken:
            if client.resp3:
                client.push(Push([b"tracking-redir-broken", mode.redirect]))
        elif receiver.resp3:
            receiver.push(Push([b"invalidate", keys]))
        elif mode.redirect and receiver.is_subscribed:
            receiver.push(Push([b"message", INVALIDATE_CHANNEL, keys]))

    # ---- as a ChangeListener

    def changed(self, db: Keyspace, key: bytes) -> None:
        """Invalidate a key."""
        self._invalidate(key)
        for length in self._lengths:  # there may be many prefixes
            if (prefix := key[:length]) in self.prefixes:
                self._changed.setdefault(prefix, {})[key] = self._changer_id()
        if self._running.request is None:
            self.end_request()

    def all_changed(self, db: Keyspace) -> None:
        """Invalidate all keys."""
        request = self._running.request
        if request is None or request is not self._flush:  # FLUSHALL reports each database
            self._flush = request
            self._forget_all()
            for client, _ in self._tracking(self.ids):
                self._send(client, None)

    def event(self, db: Keyspace, key: bytes, name: bytes) -> None:
        """Do nothing: a change says it all."""
