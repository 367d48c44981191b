"""How replies of two servers are compared: by default to the byte, and where that is not promised, in these ways.

A comparison gets both replies as `servers.parse` makes them, ours first. A grammar names it in `LENIENT`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TOLERANCE_MS = 3000  # what a slow machine may need between asking the one and asking the other

Compare = Callable[[Any, Any], bool]
Ask = Callable[..., Any]  # runs a command on our server, and returns its reply
Settle = Callable[[Ask, "list[bytes]", Any, Any], None]


def same_items(ours: Any, theirs: Any) -> bool:
    """Return True for lists of the same items in any order."""
    return bool(sorted(ours, key=repr) == sorted(theirs, key=repr))


def same_shape(ours: Any, theirs: Any) -> bool:
    """Return True if both are null, or values of one type, lists of one length."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same_shape, ours, theirs))
    return type(ours) is type(theirs)


def same_length(ours: Any, theirs: Any) -> bool:
    """Return True for values of one type, lists of one length."""
    return type(ours) is type(theirs) and (not isinstance(ours, list) or len(ours) == len(theirs))


def same_scores(ours: Any, theirs: Any) -> bool:
    """Return True for equal values, where texts are equal if they stand for the same double."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same_scores, ours, theirs))
    if type(ours) is not type(theirs):
        return False
    if ours == theirs:
        return True
    try:
        return isinstance(ours, bytes) and float(ours) == float(theirs)
    except ValueError:
        return False


def same_pairs(ours: Any, theirs: Any) -> bool:
    """Return True for the same pairs in any order: a map in RESP3, a flat list in RESP2."""
    return same_items(_pairs(ours), _pairs(theirs))


def same_fields(ours: Any, theirs: Any) -> bool:
    """Return True for the same field names in the same order, whatever their values."""
    return [name for name, _ in _pairs(ours)] == [name for name, _ in _pairs(theirs)]


def _pairs(reply: list[Any]) -> list[Any]:
    """Return the pairs of a map, of a list of pairs, or of a flat list."""
    if all(isinstance(item, (tuple, list)) and len(item) == 2 for item in reply):
        return [tuple(item) for item in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def close_in_seconds(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= TOLERANCE_MS // 1000 and (ours < 0) == (theirs < 0)


def close_in_ms(ours: int, theirs: int) -> bool:
    return abs(ours - theirs) <= TOLERANCE_MS and (ours < 0) == (theirs < 0)


def each_close_in_seconds(ours: list[int], theirs: list[int]) -> bool:
    return len(ours) == len(theirs) and all(map(close_in_seconds, ours, theirs))


def each_close_in_ms(ours: list[int], theirs: list[int]) -> bool:
    return len(ours) == len(theirs) and all(map(close_in_ms, ours, theirs))


def typed(wire: bytes) -> Any:
    """Return a reply with the type of each part, so that replies are equal but for the order of maps and sets."""
    value, rest = _typed(wire, 0)
    if rest != len(wire):
        raise ValueError(f"more than one reply: {wire!r}")
    return value


def _typed(wire: bytes, start: int) -> tuple[Any, int]:
    end = wire.index(b"\r\n", start)
    kind, text, at = wire[start : start + 1], wire[start + 1 : end], end + 2
    if kind in b"$=!" and text != b"-1":
        return (kind, wire[at : at + int(text)]), at + int(text) + 2
    if kind not in b"*~>%" or text == b"-1":
        return (kind, text), at
    items = []
    for _ in range(int(text) * (2 if kind == b"%" else 1)):
        item, at = _typed(wire, at)
        items.append(item)
    if kind == b"%":
        items = list(zip(items[::2], items[1::2], strict=True))
    return (kind, sorted(items, key=repr) if kind in b"~%" else items), at


# ---- commands that change what chance chose: afterwards our server is given what the other one has


def settle_pop(ask: Ask, argv: list[bytes], ours: Any, theirs: Any) -> None:
    """Put back what our SPOP took, and take what the other one's took."""
    if ours in (None, []) or isinstance(ours, int):
        return
    took, must_take = ([reply] if isinstance(reply, bytes) else reply for reply in (ours, theirs))
    back = [member for member in took if member not in must_take]
    out = [member for member in must_take if member not in took]
    if back:
        assert ask(b"SADD", argv[1], *back) == len(back), "SPOP returned what it did not take"
        assert ask(b"SREM", argv[1], *out) == len(out), "the two sets differed before"
