"""Which values are read by somebody beside the keyspace, so that they must not change in place.

A point-in-time view that has yet to write a large value shares it. `Keyspace.change` then hands out a copy, and the
view goes on with the value as it was. A value that the keyspace lets go of is freed in slices by `Store.expire_cycle`;
one that is shared, when the last view is done with it.
"""

from __future__ import annotations

from typing import Any


class SharedValues:
    """The values of a store that views read; `garbage` takes what nobody needs any more."""

    def __init__(self, garbage: list[Any]) -> None:
        self._garbage = garbage
        self._readers: dict[int, int] = {}  # id of a value -> how many views read it; they hold the value itself
        self._dropped: set[int] = set()  # ids of values that only views need

    def __contains__(self, value: object) -> bool:
        return id(value) in self._readers

    def share(self, value: Any) -> None:
        """Note one more view that reads a value, and holds it until `end_sharing`."""
        self._readers[id(value)] = self._readers.get(id(value), 0) + 1

    def end_sharing(self, value: Any) -> None:
        """Note that a view is done with a value."""
        self._readers[id(value)] -= 1
        if not self._readers[id(value)]:
            del self._readers[id(value)]
            if id(value) in self._dropped:
                self._dropped.discard(id(value))
                self._garbage.append(value)

    def drop(self, value: Any) -> None:
        """Free a large value that the keyspace does not hold any more, in slices."""
        if value in self:
            self._dropped.add(id(value))
        else:
            self._garbage.append(value)
