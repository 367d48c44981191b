"""A failing sequence, cut down to the shortest one that still fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def shortest(
    items: list[Item], fails: Callable[[list[Item]], Found | None], ran: Callable[[Found], int]
) -> tuple[list[Item], Found] | None:
    """Return None if the items do not fail; else the shortest sequence that does, and how.

    `ran` says how many items it took to fail.
    """
    found = fails(items)
    if found is None:
        return None
    items = items[: ran(found)]
    size = len(items) // 2
    while size:
        start = 0
        while start < len(items):
            shorter = items[:start] + items[start + size :]
            if (again := fails(shorter)) is not None:
                items, found = shorter[: ran(again)], again
            else:
                start += size
        size //= 2
    return items, found
