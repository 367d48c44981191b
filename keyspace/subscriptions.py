"""Who has subscribed to which channels and patterns, and so receives what is published.

1. Three kinds of subscription are independent: to a channel, to the channels that match a pattern, and to a shard
   channel. (Without a cluster a shard channel is a channel of its own kind.)
2. Receivers are in the order in which they subscribed. It knows neither requests nor connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from replies import Push
from values.glob import Pattern

LEFT_AT_ONCE = 256
CHANNEL, PATTERN, SHARD = KINDS = ("channel", "pattern", "shard channel")


class Subscriber(Protocol):
    """A client, with the names to which it has subscribed."""

    subscribed: dict[str, dict[bytes, None]]  # kind -> names
    push: Callable[[Push], None]  # sends it a message


class Subscriptions:
    """The subscribers of all channels and patterns of an instance."""

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[bytes, dict[Subscriber, None]]] = {kind: {} for kind in KINDS}
        self._patterns: dict[bytes, Pattern] = {}

    def add(self, kind: str, name: bytes, subscriber: Subscriber) -> None:
        """Subscribe a client; no effect if it has. Raises CommandError if a pattern is too long."""
        if kind == PATTERN and name not in self._patterns:
            self._patterns[name] = Pattern(name)
        self._subscribers[kind].setdefault(name, {})[subscriber] = None
        subscriber.subscribed[kind][name] = None

    def remove(self, kind: str, name: bytes, subscriber: Subscriber) -> None:
        """End a subscription; no effect if there is none."""
        if subscriber.subscribed[kind].pop(name, self) is self:
            return
        subscribers = self._subscribers[kind][name]
        del subscribers[subscriber]
        if not subscribers:
            del self._subscribers[kind][name]
            self._patterns.pop(name, None) if kind == PATTERN else None

    def remove_all(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a client. O(its subscriptions)."""
        for kind in KINDS:
            for name in list(subscriber.subscribed[kind]):
                self.remove(kind, name, subscriber)

    def subscribers(self, kind: str, name: bytes) -> list[Subscriber]:
        """Return who has subscribed to a name."""
        return list(self._subscribers[kind].get(name, ()))

    def count(self, kind: str) -> int:
        """Return how many names of a kind have subscribers."""
        return len(self._subscribers[kind])

    def names(self, kind: str) -> list[bytes]:
        """Return all names of a kind with subscribers."""
        return list(self._subscribers[kind])

    def matching(self, channel: bytes) -> Iterator[tuple[bytes, list[Subscriber]] | None]:
        """Yield each pattern that matches a channel, with its subscribers; None for one that does not. O(patterns)."""
        for name, pattern in list(self._patterns.items()):
            if pattern.matches(channel) and name in self._subscribers[PATTERN]:
                yield name, self.subscribers(PATTERN, name)
            else:
                yield None

    def deliveries(self, channel: bytes, message: bytes) -> Iterator[tuple[list[Subscriber], Push] | None]:
        """Yield who receives what is published on a channel; None for a pattern that does not match. O(patterns)."""
        if subscribers := self.subscribers(CHANNEL, channel):
            yield subscribers, Push([b"message", channel, message])
        for found in self.matching(channel):
            yield found and (found[1], Push([b"pmessage", found[0], channel, message]))

    def send(self, channel: bytes, message: bytes) -> None:
        """Publish a message. O(patterns)."""
        for delivery in self.deliveries(channel, message):
            for subscriber in delivery[0] if delivery else ():
                subscriber.push(delivery[1])  # type: ignore[index]


class Leaving:
    """The subscriptions of a client that is gone. They end in slices (`Store.garbage`): there may be a million."""

    def __init__(self, subscriptions: Subscriptions, subscriber: Subscriber) -> None:
        self._subscriptions = subscriptions
        self._subscriber = subscriber

    def __len__(self) -> int:
        return sum(map(len, self._subscriber.subscribed.values()))

    def free_some(self) -> None:
        """End some of the subscriptions."""
        for kind, names in self._subscriber.subscribed.items():
            for name in list(islice(names, LEFT_AT_ONCE)):
                self._subscriptions.remove(kind, name, self._subscriber)
