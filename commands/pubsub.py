"""Publish and subscribe: SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE and their opposites, PUBLISH, SPUBLISH, PUBSUB.

1. A message is a `Push`. It goes to a connection at once (`Session.push`), and leaves with the replies of the turn, in
   order. A client that does not read is dropped by the output-buffer limit of its class, `pubsub`.
2. Nothing of this is logged: who was not there has missed it, as in Redis.
3. In RESP2, and in text, a client with a subscription may send nothing but these commands, PING, QUIT and RESET.
4. In a pool PUBLISH is an entry of the log, so it reaches the subscribers of all instances, in one order. Its reply
   counts those of the publisher's instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from commands import EVERYWHERE, FAST, LOADING, NOSCRIPT, PUBSUB, STALE, Keys, command, container, for_many
from commands.introspection import describe_subcommands
from commands.keyspace_walk import at_once
from errors import UNKNOWN_OR_WRONG_SUBCOMMAND, CommandError
from keyspace.subscriptions import CHANNEL, PATTERN, SHARD, Subscriber
from replies import Messages, Published, Push, Reply, Work
from session import Session
from values.glob import Pattern

SUBSCRIBING = PUBSUB | NOSCRIPT | LOADING | STALE
PUBLISHING = PUBSUB | LOADING | STALE | FAST | EVERYWHERE
ASKING = PUBSUB | LOADING | STALE
SHARD_CHANNELS = Keys(1, -1, 1)
SHARD_CHANNEL = Keys(1, 1, 1)
AT_ONCE_NAMES = 4096
Change = Callable[[str, bytes, Session], None]  # of `Subscriptions`: add, remove


def _count(session: Session, kind: str) -> int:
    """Return the number in a confirmation: shard channels are counted apart."""
    subscribed = session.subscribed
    return len(subscribed[SHARD]) if kind == SHARD else len(subscribed[CHANNEL]) + len(subscribed[PATTERN])


def _subscribe(session: Session, argv: list[bytes], kind: str) -> Reply:
    return _change(session, argv[0], argv[1:], kind, session.instance.subscriptions.add)


def _unsubscribe(session: Session, argv: list[bytes], kind: str) -> Reply:
    names = argv[1:] or list(session.subscribed[kind])
    if not names:
        return Messages([Push([argv[0].lower(), None, _count(session, kind)])])
    return _change(session, argv[0], names, kind, session.instance.subscriptions.remove)


def _change(session: Session, command: bytes, names: list[bytes], kind: str, change: Change) -> Reply:
    work = _change_each(session, command.lower(), names, kind, change)
    return work if len(names) > AT_ONCE_NAMES else at_once(work)


def _change_each(session: Session, command: bytes, names: list[bytes], kind: str, change: Change) -> Work:
    messages: list[Reply] = []
    try:
        for name in names:
            change(kind, name, session)
            messages.append(Push([command, name, _count(session, kind)]))
            yield
    finally:
        session.update_restricted()
    return Messages(messages)


@command("SUBSCRIBE", "channel [channel ...]", arity=-2, flags=SUBSCRIBING, since="2.0.0")
def subscribe(session: Session, argv: list[bytes]) -> Reply:
    """Receive what is published on some channels."""
    return _subscribe(session, argv, CHANNEL)


@command("UNSUBSCRIBE", "[channel [channel ...]]", arity=-1, flags=SUBSCRIBING, since="2.0.0")
def unsubscribe(session: Session, argv: list[bytes]) -> Reply:
    """End the subscriptions to some channels, or to all."""
    return _unsubscribe(session, argv, CHANNEL)


@command("PSUBSCRIBE", "pattern [pattern ...]", arity=-2, flags=SUBSCRIBING, since="2.0.0")
def psubscribe(session: Session, argv: list[bytes]) -> Reply:
    """Receive what is published on the channels that match a pattern."""
    return _subscribe(session, argv, PATTERN)


@command("PUNSUBSCRIBE", "[pattern [pattern ...]]", arity=-1, flags=SUBSCRIBING, since="2.0.0")
def punsubscribe(session: Session, argv: list[bytes]) -> Reply:
    """End the subscriptions to some patterns, or to all."""
    return _unsubscribe(session, argv, PATTERN)


@command(
    "SSUBSCRIBE",
    "shardchannel [shardchannel ...]",
    arity=-2,
    flags=SUBSCRIBING,
    keys=SHARD_CHANNELS,
    since="7.0.0",
)
def ssubscribe(session: Session, argv: list[bytes]) -> Reply:
    """Receive what is published on some shard channels."""
    return _subscribe(session, argv, SHARD)


@command(
    "SUNSUBSCRIBE",
    "[shardchannel [shardchannel ...]]",
    arity=-1,
    flags=SUBSCRIBING,
    keys=SHARD_CHANNELS,
    since="7.0.0",
)
def sunsubscribe(session: Session, argv: list[bytes]) -> Reply:
    """End the subscriptions to some shard channels, or to all."""
    return _unsubscribe(session, argv, SHARD)


# ---- publish


@command("PUBLISH", "channel message", arity=3, flags=PUBLISHING, since="2.0.0")
def publish(session: Session, argv: list[bytes]) -> Reply:
    """Send a message to all who have subscribed to a channel, or to a pattern that matches it; return their number."""
    _, channel, message = argv
    patterns = session.instance.subscriptions.count(PATTERN)
    if not patterns:
        return _publish_on_one(session, CHANNEL, channel, Push([b"message", channel, message]))
    work = _publish(session, channel, message)
    return work if patterns > AT_ONCE_NAMES else at_once(work)


@for_many("PUBLISH")
def publish_many(session: Session, channels: Sequence[bytes], messages: Sequence[bytes]) -> Sequence[Reply] | None:
    """Send messages to all who have subscribed to one channel, to each as one."""
    channel, subscriptions = channels[0], session.instance.subscriptions
    subscribers = subscriptions.subscribers(CHANNEL, channel)
    if subscriptions.count(PATTERN) or session in subscribers or channels.count(channel) != len(channels):
        return None
    if subscribers:
        _send(session, subscribers, Published([channel, *messages]), [])
    return [len(subscribers)] * len(messages)


def _publish(session: Session, channel: bytes, message: bytes) -> Work:
    """Send a message to the subscribers of its channel and of each pattern that matches."""
    subscriptions = session.instance.subscriptions
    own: list[Reply] = []
    count = 0
    for delivery in subscriptions.deliveries(channel, message):
        if delivery is not None:
            count += _send(session, *delivery, own)
        yield
    return Messages([*own, count]) if own else count


@command("SPUBLISH", "shardchannel message", arity=3, flags=PUBLISHING, keys=SHARD_CHANNEL, since="7.0.0")
def spublish(session: Session, argv: list[bytes]) -> Reply:
    """Send a message to all who have subscribed to a shard channel, and return their number."""
    _, channel, message = argv
    return _publish_on_one(session, SHARD, channel, Push([b"smessage", channel, message]))


def _publish_on_one(session: Session, kind: str, channel: bytes, message: Push) -> Reply:
    """Send a message to the subscribers of a channel, and to nobody else."""
    own: list[Reply] = []
    count = _send(session, session.instance.subscriptions.subscribers(kind, channel), message, own)
    return Messages([*own, count]) if own else count


def _send(session: Session, subscribers: list[Subscriber], message: Push, own: list[Reply]) -> int:
    """Send a message; append it to `own` for the publisher itself, whose earlier replies come before it."""
    for subscriber in subscribers:
        if subscriber is session:
            own.append(message)
        else:
            subscriber.push(message)
    return len(subscribers)


# ---- PUBSUB


container("PUBSUB", since="2.8.0")


@command("PUBSUB|CHANNELS", "[pattern]", arity=-2, flags=ASKING, since="2.8.0")
def pubsub_channels(session: Session, argv: list[bytes]) -> Reply:
    """List the channels that have subscribers, or those that match a pattern."""
    return _names(session, argv, CHANNEL)


@command("PUBSUB|SHARDCHANNELS", "[pattern]", arity=-2, flags=ASKING, since="7.0.0")
def pubsub_shardchannels(session: Session, argv: list[bytes]) -> Reply:
    """List the shard channels that have subscribers, or those that match a pattern."""
    return _names(session, argv, SHARD)


def _names(session: Session, argv: list[bytes], kind: str) -> Reply:
    if len(argv) > 3:
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"PUBSUB"))
    names = session.instance.subscriptions.names(kind)
    if len(argv) == 2:
        return list(names)
    work = _matching(names, Pattern(argv[2]))
    return work if len(names) > AT_ONCE_NAMES else at_once(work)


def _matching(names: list[bytes], pattern: Pattern) -> Work:
    found: list[Reply] = []
    for name in names:
        if pattern.matches(name):
            found.append(name)
        yield
    return found


@command("PUBSUB|NUMSUB", "[channel [channel ...]]", arity=-2, flags=ASKING, since="2.8.0")
def pubsub_numsub(session: Session, argv: list[bytes]) -> Reply:
    """Return the number of subscribers of each channel; subscribers to patterns do not count."""
    return _numbers(session, argv, CHANNEL)


@command("PUBSUB|SHARDNUMSUB", "[shardchannel [shardchannel ...]]", arity=-2, flags=ASKING, since="7.0.0")
def pubsub_shardnumsub(session: Session, argv: list[bytes]) -> Reply:
    """Return the number of subscribers of each shard channel."""
    return _numbers(session, argv, SHARD)


def _numbers(session: Session, argv: list[bytes], kind: str) -> Reply:
    subscriptions = session.instance.subscriptions
    return [each for name in argv[2:] for each in (name, len(subscriptions.subscribers(kind, name)))]


@command("PUBSUB|NUMPAT", arity=2, flags=ASKING, since="2.8.0")
def pubsub_numpat(session: Session, argv: list[bytes]) -> Reply:
    """Return the number of patterns that have subscribers."""
    return session.instance.subscriptions.count(PATTERN)


@command("PUBSUB|HELP", arity=2, flags=LOADING | STALE, since="6.2.0")
def pubsub_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands of PUBSUB."""
    return describe_subcommands(b"PUBSUB")
