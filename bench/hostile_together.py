"""The attacks of `bench.hostile` by clients that act together: transactions, blocking, publish and subscribe.

Those who wait, watch or have subscribed come before the clock runs, and stay until the server ends: `prepare` returns
their connections.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable

from servers import encode

from bench.attacks import CROWD, MEBIBYTE, SETTLE_SECONDS, Act, Attack, ask, connect, once, pour
from bench.rig import most_connections

MILLION = 1_000_000
WATCHED_EACH = 1000  # by a client: each WATCH of redis-server looks through all that the client watches
NAMES = 100_000
PART = 1000  # words of a request
MESSAGE = b"x" * 1024


def requests(name: bytes, words: Iterable[bytes], *last: bytes) -> bytes:
    """Make requests of PART words each."""
    rest = list(words)
    return b"".join(encode(name, *rest[start : start + PART], *last) for start in range(0, len(rest), PART))


def names(kind: bytes, count: int) -> list[bytes]:
    """Name keys, channels or patterns."""
    return [b"%b:%07d" % (kind, number) for number in range(count)]


def ask_and_stay(port: int, wire: bytes) -> socket.socket:
    """Send requests; return the connection when all are answered. What they replied is not looked at."""
    client = connect(port)
    sender = threading.Thread(target=client.sendall, args=(wire + encode(b"PING", b"the end"),))
    sender.start()
    seen = b""
    while not seen.endswith(b"the end\r\n"):
        chunk = client.recv(MEBIBYTE)
        if not chunk:
            raise SystemExit("the server hung up before the attack")
        seen = (seen + chunk)[-16:]
    sender.join()
    return client


# ---- watches


def watch_a_million(port: int) -> list[socket.socket]:
    """Let a thousand clients watch a million keys that exist."""
    ask(port, requests(b"MSET", [word for key in names(b"key", MILLION) for word in (key, b"v")]))
    keys = names(b"key", MILLION)
    parts = [keys[start : start + WATCHED_EACH] for start in range(0, MILLION, WATCHED_EACH)]
    return [ask_and_stay(port, requests(b"WATCH", part)) for part in parts]


def watch_and_hang_up(port: int, _seconds: float) -> None:
    """Watch a million keys, and hang up on all watchers at once."""
    for client in watch_a_million(port):
        client.close()
    time.sleep(SETTLE_SECONDS)


def watch_one_key(port: int) -> list[socket.socket]:
    """Let thousands watch the same key."""
    return [ask_and_stay(port, encode(b"WATCH", b"k")) for _ in range(most_connections(CROWD))]


def queue_without_end(port: int, seconds: float) -> None:
    """Queue as fast as it is taken, on four connections, without an EXEC."""
    with contextlib.suppress(OSError):
        pour(port, seconds, encode(b"MULTI") + encode(b"SET", b"k", b"v") * 1000)


def queued(count: int, last: bytes) -> bytes:
    """Make a transaction of so many requests."""
    return encode(b"MULTI") + b"".join(encode(b"SET", key, b"v") for key in names(b"key", count)) + encode(last)


# ---- waiting


def crowd_that(*words: bytes) -> Callable[[int], list[socket.socket]]:
    """Let thousands send a request that waits, and be there when all of them do."""

    def come(port: int) -> list[socket.socket]:
        clients = [connect(port) for _ in range(most_connections(CROWD))]
        for client in clients:
            client.sendall(encode(*words))
        with connect(port) as observer:
            while True:
                observer.sendall(encode(b"INFO", b"clients"))
                waiting = observer.recv(MEBIBYTE).partition(b"blocked_clients:")[2].split()[0]
                if int(waiting) == len(clients):
                    return clients
                time.sleep(0.05)

    return come


def crowd_that_subscribes(*words: bytes) -> Callable[[int], list[socket.socket]]:
    """Let thousands subscribe."""
    return lambda port: [ask_and_stay(port, encode(*words)) for _ in range(most_connections(CROWD))]


def push_for_all(port: int, _seconds: float) -> None:
    """Push an element for each who waits, in one request."""
    ask(port, encode(b"RPUSH", b"list", *names(b"e", CROWD)))
    time.sleep(SETTLE_SECONDS)


def asked(*words: bytes) -> Act:
    """Make an attack that is one short request."""
    return once(lambda: encode(*words))


# ---- subscriptions


def subscribed(name: bytes, kind: bytes, last: bytes = b"") -> Callable[[int], list[socket.socket]]:
    """Subscribe one client to a hundred thousand names."""
    return lambda port: [ask_and_stay(port, requests(name, [each + last for each in names(kind, NAMES)]))]


def subscribe_and_hang_up(port: int, _seconds: float) -> None:
    """Subscribe to all channels and all patterns, and hang up."""
    for client in subscribed(b"SUBSCRIBE", b"c")(port) + subscribed(b"PSUBSCRIBE", b"p", b"*")(port):
        client.close()
    time.sleep(SETTLE_SECONDS)


def deaf(port: int) -> list[socket.socket]:
    """Let twenty subscribe who will read nothing."""
    return [ask_and_stay(port, encode(b"SUBSCRIBE", b"c")) for _ in range(20)]


def publish_to_the_deaf(port: int, seconds: float) -> None:
    """Publish messages of a kilobyte as fast as they are taken."""
    pour(port, seconds, encode(b"PUBLISH", b"c", MESSAGE) * 64, 1)


ATTACKS: dict[str, Attack] = {
    "a million keys are watched, and the watchers hang up": Attack(watch_and_hang_up),
    "FLUSHALL with a million watched keys": Attack(asked(b"FLUSHALL"), watch_a_million),
    "SWAPDB with a million watched keys": Attack(asked(b"SWAPDB", b"0", b"1"), watch_a_million),
    "WATCH of 65,000 keys": Attack(once(lambda: encode(b"WATCH", *names(b"key", 65_000)))),
    "SET of a key that thousands watch": Attack(asked(b"SET", b"k", b"v"), watch_one_key),
    "MULTI, and requests without end": Attack(queue_without_end),
    "MULTI of a million requests, EXEC": Attack(once(lambda: queued(MILLION, b"EXEC"))),
    "MULTI of a million requests, DISCARD": Attack(once(lambda: queued(MILLION, b"DISCARD"))),
    "RPUSH for thousands that wait in BLPOP": Attack(push_for_all, crowd_that(b"BLPOP", b"list", b"0")),
    "RPUSH one by one for thousands that wait": Attack(
        once(lambda: encode(b"RPUSH", b"list", b"e") * CROWD), crowd_that(b"BLPOP", b"list", b"0")
    ),
    "ZADD for thousands that wait in BZPOPMIN": Attack(
        once(lambda: encode(b"ZADD", b"zset", *(word for each in names(b"e", CROWD) for word in (b"1", each)))),
        crowd_that(b"BZPOPMIN", b"zset", b"0"),
    ),
    "XADD for thousands that wait in XREAD": Attack(
        asked(b"XADD", b"stream", b"*", b"f", b"v"), crowd_that(b"XREAD", b"BLOCK", b"0", b"STREAMS", b"stream", b"$")
    ),
    "SET of a key at which thousands wait in BLPOP": Attack(
        asked(b"SET", b"list", b"v"), crowd_that(b"BLPOP", b"list", b"0")
    ),
    "thousands that wait, and whose time is up at once": Attack(
        lambda port, seconds: time.sleep(2 * seconds), crowd_that(b"BLPOP", b"list", b"2")
    ),
    "BLPOP of a million keys": Attack(once(lambda: encode(b"BLPOP", *names(b"key", MILLION), b"0.1"))),
    "PUBLISH to thousands": Attack(asked(b"PUBLISH", b"c", MESSAGE), crowd_that_subscribes(b"SUBSCRIBE", b"c")),
    "PUBLISH to thousands by their patterns": Attack(
        asked(b"PUBLISH", b"c", MESSAGE), crowd_that_subscribes(b"PSUBSCRIBE", b"*")
    ),
    "a hundred thousand channels and patterns, then gone": Attack(subscribe_and_hang_up),
    "SUBSCRIBE to 100,000 channels in one request": Attack(once(lambda: encode(b"SUBSCRIBE", *names(b"c", NAMES)))),
    "UNSUBSCRIBE from 100,000 channels": Attack(
        once(lambda: encode(b"SUBSCRIBE", *names(b"c", NAMES)) + encode(b"UNSUBSCRIBE"))
    ),
    "PUBLISH beside 100,000 patterns": Attack(asked(b"PUBLISH", b"c", b"m"), subscribed(b"PSUBSCRIBE", b"p")),
    "PUBLISH to 100,000 patterns of one client": Attack(
        asked(b"PUBLISH", b"p:", b"m"), subscribed(b"PSUBSCRIBE", b"p:*", b"*")
    ),
    "PUBSUB CHANNELS of 100,000": Attack(asked(b"PUBSUB", b"CHANNELS", b"*1*"), subscribed(b"SUBSCRIBE", b"c")),
    "subscribers that do not read": Attack(publish_to_the_deaf, deaf),
}
