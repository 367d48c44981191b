"""What a command may return, beyond plain Python values.

    memoryview  the same, of a part of a long string
    bytes  bulk string     int    integer        None  null           bool   boolean (RESP3; 1/0 in RESP2)
    list   array           dict   map            set   set            float  double
    Status simple string   CommandError (returned or raised)  error    LongArray  array, sent bit by bit

Commands build these and never wire bytes; `protocol` alone knows how each dialect spells them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Union


class Status(bytes):
    """A simple string, such as OK. Must hold no CR or LF."""


class Verbatim(bytes):
    """A text for people: a verbatim string in RESP3, a bulk string in RESP2."""


class Computed(bytes):
    """A bulk string that may have taken long to make, so that the server looks at the clock behind it."""


class NullArray:
    """The null array of RESP2 (`*-1`); a plain null in RESP3."""


class Members(list[Any]):
    """A set whose members keep their order, or cannot be hashed: a set in RESP3, an array in RESP2."""


class Push(list[Any]):
    """A message that no request asked for: a push in RESP3, an array in RESP2."""


class Deleted(int):
    """How many keys DEL removed; `values` holds the removed value of each key, None where there was none.

    RESP answers the number; the text dialect answers the values, as the original program did.
    """

    values: list[Any]


class LongArray:
    """An array that is sent bit by bit: its members by chunks, in order.

    The chunks are tuples since the collector of cycles looks at a tuple of bytes once, at a list time and again.
    """

    def __init__(self, chunks: list[tuple[Any, ...]], held_bytes: int = 0) -> None:
        self.chunks = chunks  # taken out as they are sent
        self.held_bytes = held_bytes  # of values that may be kept in memory by nothing but this reply
        self.size = sum(map(len, chunks))

    def members(self) -> list[Any]:
        """Return what has not been taken out, at once."""
        return [member for chunk in self.chunks for member in chunk]


class NoReply:
    """Nothing is answered (SHUTDOWN, CLIENT REPLY OFF)."""


class Deferred(NoReply):
    """The request did not run; which object it is says what the connection has to do before it is answered."""


class Farewell(Status):
    """A status after which the connection closes (QUIT)."""


Reply = Union[
    "Generator[None, None, Any]",  # a reply that takes long to make: see `Work`
    None,
    bool,
    int,
    float,
    bytes,
    memoryview,
    list[Any],
    dict[Any, Any],
    set[Any],
    LongArray,
    NullArray,
    NoReply,
    Exception,
]
Work = Generator[None, None, Reply]  # a reply that takes long to make, in steps of some microseconds; see `slices`

OK = Status(b"OK")
PONG = Status(b"PONG")
NO_REPLY = NoReply()
HELD_BACK = Deferred()  # wait until a pause or a long command is over, then run the request
SUBMIT = Deferred()  # bring the request into the pool's log
CONFIRM = Deferred()  # wait until this instance has all that the pool's log held, then run the request
NULL_ARRAY = NullArray()
