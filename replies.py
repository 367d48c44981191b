"""The replies that a command may return, beyond plain Python values.

Commands build these values and never wire bytes. Only `protocol` knows how each dialect encodes them.

    bytes         bulk string                int       integer
    memoryview    bulk string, a part of a long value
    None          null                       bool      boolean (RESP3); 1 or 0 (RESP2)
    LongBulk      bulk string, in pieces
    list          array                      LongArray array, sent in parts
    dict          map                        set       set
    float         double                     Status    simple string
    Pairs         array of pairs             FlatMap   map
    CommandError  error, returned or raised
    Push          a message of publish and subscribe; Messages: several, as the reply to SUBSCRIBE

A reply that is not ready is `Work` (a generator, which returns it), or a `Deferred`, of which `Blocked` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, Union


class Status(bytes):
    """A simple string, such as OK. It must not contain CR or LF."""


class Verbatim(bytes):
    """A text for people: a verbatim string in RESP3, a bulk string in RESP2."""

    form = b"txt"  # what RESP3 says of it: three characters


class BigNumber(bytes):
    """Digits: a big number in RESP3, a bulk string in RESP2. It must not contain CR or LF."""


class Computed(bytes):
    """A bulk string that may have taken long to compute. The engine checks the clock after such a command."""


class LongBulk:
    """A bulk string in pieces, which nothing changes until it is sent. See `values/long_string.py`."""

    __slots__ = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, place: Any) -> Any:
        """Return a byte or the `bytes` of a slice."""
        raise NotImplementedError

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in pieces of some ten kilobytes."""
        raise NotImplementedError


class NullArray:
    """The null array of RESP2 (`*-1`); a plain null in RESP3."""


class Replies(list[Any]):
    """The replies to the requests of a transaction: an array, of which a member may be a long array."""


class Members(list[Any]):
    """A set whose members are ordered or not hashable: a set in RESP3, an array in RESP2."""


class Pairs(list[Any]):
    """Members with scores, or fields with values, one behind the other.

    RESP3 sends an array of arrays of two, RESP2 one array. The text dialect has a line for each pair.
    """


class FlatMap(Pairs):
    """Fields with values, one behind the other: a map in RESP3, one array in RESP2, a line for each pair in text."""


class AnyMap(FlatMap):
    """A `FlatMap` of any replies, which are not all strings."""


class Plain(float):
    """A double that is written without an exponent, with 17 digits behind the point at most: a coordinate."""

    def __repr__(self) -> str:
        """Return the text."""
        text = f"{self:.17f}".rstrip("0").rstrip(".")
        return "0" if text == "-0" else text


class Block(NamedTuple):
    """Some entries of a stream by column: their IDs as text, the names that all have, and the values of each name.

    Where the names differ, `names` is None, and `columns` has the fields of each entry.
    """

    ids: Sequence[bytes]
    names: tuple[bytes, ...] | None
    columns: Sequence[Sequence[bytes]]

    def entries(self) -> list[tuple[bytes, tuple[bytes, ...]]]:
        """Return the entries: of each its ID and its fields."""
        rows: Iterable[Any] = self.columns
        if self.names is not None:
            rows = zip(*chain.from_iterable(zip(map(repeat, self.names), self.columns)))  # noqa: B905
        return list(zip(self.ids, rows))  # noqa: B905


class Entries:
    """Entries of a stream, in blocks: an array of an array for each, of its ID and its fields."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return sum([len(block.ids) for block in self.blocks])

    def members(self) -> list[tuple[bytes, tuple[bytes, ...]]]:
        """Return all entries."""
        return [entry for block in self.blocks for entry in block.entries()]


class PairMap(list[Any]):
    """A list of pairs: a map in RESP3, whose names may repeat; an array of arrays of two in RESP2.

    A value may be a `LongArray`.
    """


class Strings(list[bytes]):
    """An array of strings, none of which is null: it is encoded in a third of the time."""


class Push(list[Any]):
    """An out-of-band message: a push in RESP3, an array in RESP2. `pieces`: it, encoded, by whether that is RESP3."""

    __slots__ = ("pieces",)

    def __init__(self, members: list[Any]) -> None:
        super().__init__(members)
        self.pieces: dict[bool, list[bytes]] = {}

    def each(self) -> list[Push]:
        """Return the message, or the messages that are sent together."""
        return [self]


class Published(Push):
    """What a pipeline has published on one channel: the channel and the texts of the messages."""

    __slots__ = ()

    def each(self) -> list[Push]:
        """Return the messages."""
        channel, *texts = self
        return [Push([b"message", channel, text]) for text in texts]


class Messages:
    """Messages and replies, one after another, in no array: SUBSCRIBE and its kin return a message for each name.

    PUBLISH of a client that receives its own message returns the message and its reply.
    """

    def __init__(self, messages: list[Reply]) -> None:
        self.messages = messages


class Deleted(int):
    """The number of keys that DEL removed, and in `values` the removed value of each key, or None.

    RESP sends the number. The text dialect shows the values, as the original program did.
    """

    values: list[Any]


class LongArray:
    """An array that is sent in parts: its members in chunks, in order.

    The chunks are tuples, because Python's garbage collector untracks a tuple of bytes after one visit, a list never.
    Or they are of a form that `unpack` makes members of when the chunk is sent; then `size` is the number of members.
    """

    kind: type[list[Any]] = list  # of `members`

    def __init__(
        self,
        chunks: list[Any],
        held_bytes: int = 0,
        size: int = -1,
        unpack: Callable[[Any], Sequence[Any]] | None = None,
    ) -> None:
        self.chunks = chunks  # removed as they are sent
        self.held_bytes = held_bytes  # of values that perhaps only this reply keeps in memory
        self.size = sum(map(len, chunks)) if unpack is None else size
        self.unpack = unpack
        self.before: bytes | None = None  # then the reply is an array of two: this, and the long array

    def behind(self, first: bytes) -> LongArray:
        """Make the reply an array of `first` and the long array, and return it."""
        self.before = first
        return self

    def take(self) -> Sequence[Any]:
        """Remove the last chunk, and return its members."""
        chunk: Sequence[Any] = self.chunks.pop()
        return chunk if self.unpack is None else self.unpack(chunk)

    def members(self) -> list[Any]:
        """Return the reply, with all members that are not sent yet, as one list."""
        members = self.kind([each for chunk in self.chunks for each in (self.unpack(chunk) if self.unpack else chunk)])
        return members if self.before is None else [self.before, members]


class LongEntries(LongArray):
    """Many entries of a stream, as tuples of an ID and a tuple of fields."""


class LongSet(LongArray):
    """A long array that is a set in RESP3."""

    kind = Members


class LongPairs(LongArray):
    """A long array of pairs, as `Pairs`. A chunk holds whole pairs."""

    kind = Pairs


class LongMap(LongPairs):
    """A long `FlatMap`. A chunk holds whole pairs."""

    kind = FlatMap


class NoReply:
    """No reply is sent (SHUTDOWN, CLIENT REPLY OFF)."""


class Deferred(NoReply):
    """The request did not run. The constants below say what the connection must do before the reply."""


class Blocked(Deferred):
    """The request waits until a key holds a value of a type, and then runs again for this key, as `request(key)`.

    `keys` says what each of them was when the request ran (`blocked_clients.state_of`). `null` is the reply when
    `timeout_seconds` are over; 0: it waits for ever. It runs after each `again_seconds`, too.
    """

    def __init__(
        self,
        keys: Mapping[bytes, object],
        python_type: type,
        timeout_seconds: float,
        null: Any,
        request: Callable[[bytes], list[bytes]],
        again_seconds: float | None = None,
    ) -> None:
        self.keys = keys
        self.python_type = python_type
        self.timeout_seconds = timeout_seconds
        self.null = null
        self.request = request
        self.again_seconds = again_seconds


class UntilSynced(Blocked):
    """The request waits until what is in the log now is on the disk (WAITAOF). `null` is the reply at its timeout."""

    def __init__(self, timeout_seconds: float, null: Any) -> None:
        super().__init__({}, object, timeout_seconds, null, lambda _: [])


class Farewell(Status):
    """A status reply after which the connection closes (QUIT)."""


Reply = Union[
    "Generator[None, None, Any]",  # see `Work`
    None,
    bool,
    int,
    float,
    bytes,
    memoryview,
    LongBulk,
    list[Any],
    dict[Any, Any],
    set[Any],
    Entries,
    LongArray,
    Messages,
    NullArray,
    NoReply,
    Exception,
]
Work = Generator[None, None, Reply]  # work that returns the reply; a step takes some µs; see net/scheduler.py

OK = Status(b"OK")
PONG = Status(b"PONG")
QUEUED = Status(b"QUEUED")
NO_REPLY = NoReply()
HELD_BACK = Deferred()  # wait for the end of a pause or a long command, then run the request
SUBMIT = Deferred()  # append the request to the pool's log; the reply comes when its entry is applied
CONFIRM = Deferred()  # wait until this instance has applied the pool's log up to now, then run the request
NULL_ARRAY = NullArray()
