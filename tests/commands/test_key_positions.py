"""Where the keys of a request stand, whatever the request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Raw, parse
from tables import for_each

from commands.key_positions import FIRST, NO_KEYS, AfterWord, Counted, Keys, StoreOption

CASES: list[tuple[Any, str, str]] = [  # positions, request, keys
    (NO_KEYS, "PING a", ""),
    (FIRST, "GET a", "a"),
    (Keys(1, -1, 2), "MSET a 1 b 2", "a b"),
    (Counted(1), "SINTERCARD 2 a b LIMIT 1", "a b"),
    (Counted(1), "SINTERCARD 3 a b", "a b"),
    (Counted(1), "SINTERCARD x a b", ""),
    (Counted(1), "SINTERCARD", ""),
    (Counted(1, step=2), "MSETEX 2 a 1 b 2 NX", "a b"),
    (Counted(2, FIRST), "ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
    (Counted(2, FIRST), "ZUNIONSTORE d -2 a b", "d"),
    (AfterWord(b"STREAMS", 1), "XREAD COUNT 2 streams a b 0 1", "a b"),
    (AfterWord(b"STREAMS", 1), "XREAD COUNT 2 STREAMS", ""),
    (AfterWord(b"STREAMS", 4), "XREADGROUP GROUP STREAMS c STREAMS a 0", "a"),
    (StoreOption((b"STORE",), 2), "SORT a BY x STORE b store c", "a c"),
    (StoreOption((b"STORE",), 2), "SORT a STORE", "a"),
    (StoreOption((b"STORE", b"STOREDIST"), 6), "GEORADIUS a 1 2 3 m STOREDIST d", "a d"),
]


@for_each(("positions", "request_", "keys"), CASES)
def test_the_keys_of_a_request_are_found(positions: Any, request_: str, keys: str) -> None:
    assert b" ".join(positions.find(request_.encode().split())) == keys.encode()


@given(
    st.sampled_from([case[0] for case in CASES]),
    st.lists(st.sampled_from([b"2", b"-1", b"99999999999999999999", b"\xb2", b"STREAMS", b"STORE", b"k"]), max_size=8),
)
def test_a_request_that_is_wrong_raises_nothing(positions: Any, words: list[bytes]) -> None:
    assert set(positions.find([b"NAME", *words])) <= set(words)


DESCRIBED: list[tuple[str, Any]] = [
    ("SINTERCARD", Counted(1)),
    ("ZUNIONSTORE", Counted(2, FIRST)),
    ("XREADGROUP", AfterWord(b"STREAMS", 4)),
    ("GEORADIUS", StoreOption((b"STORE", b"STOREDIST"), 6)),
]


@pytest.mark.parametrize(("name", "positions"), DESCRIBED)
def test_positions_are_described_as_redis_describes_them(real: Raw, name: str, positions: Any) -> None:
    real.ask("HELLO", "3")
    (info,) = parse(real.ask("COMMAND", "INFO", name))
    assert tuple(info[3:6]) == tuple(positions.fixed)
    theirs = [dict(each) for each in info[8]]
    for each in theirs:
        each.pop(b"flags")
    assert nested(theirs) == nested(positions.specifications())


def nested(value: Any) -> Any:
    """Return maps, which are tuples of pairs, as dicts."""
    if isinstance(value, dict):
        return {key: nested(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        pairs = bool(value) and all(isinstance(each, tuple) and len(each) == 2 for each in value)
        return {key: nested(each) for key, each in value} if pairs else [nested(each) for each in value]
    return value
