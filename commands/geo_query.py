"""The arguments of the commands on positions: positions, units, and what a search asks for.

GEOSEARCH names its center and its area; GEORADIUS and GEORADIUSBYMEMBER have both in fixed places.
"""

from __future__ import annotations

from dataclasses import dataclass

from commands import fold
from commands.arguments import parse_integer
from commands.scored import parse_score
from errors import (
    GEO_ANY_WITHOUT_COUNT,
    GEO_BOX_NEGATIVE,
    GEO_COUNT,
    GEO_NO_MEMBER,
    GEO_NOT_NUMERIC,
    GEO_POSITION,
    GEO_RADIUS_NEGATIVE,
    GEO_STORE_OPTIONS,
    GEO_UNIT,
    CommandError,
)
from values.geohash import Area, Position, decode, is_valid
from values.sorted_sets import SortedSet

UNITS_M = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}


def parse_position(longitude: bytes, latitude: bytes) -> Position:
    """Parse a position. Raises CommandError if an index cannot have it."""
    position = parse_score(longitude), parse_score(latitude)
    if not is_valid(position):
        raise CommandError(GEO_POSITION % position)
    return position


def parse_unit(text: bytes) -> float:
    """Return the meters of a unit. Raises CommandError."""
    unit_m = UNITS_M.get(fold(text))
    if unit_m is None:
        raise CommandError(GEO_UNIT)
    return unit_m


@dataclass(eq=False, repr=False)
class Query:
    """What a search asks for. The center is None while it is not known; without an area, `width` is None."""

    destination: bytes | None = None
    center: Position | None = None
    has_member: bool = False
    has_position: bool = False
    unit_m: float = 1.0
    width: float | None = None
    height: float | None = None
    shown: frozenset[bytes] = frozenset()
    order: bytes = b""  # ASC or DESC
    count: int = 0
    any: bool = False
    stores_distance: bool = False

    def set_radius(self, radius: bytes, unit: bytes) -> None:
        """Search in a circle."""
        self.width, self.height = parse_score(radius, GEO_NOT_NUMERIC % b"radius"), None
        if self.width < 0:
            raise CommandError(GEO_RADIUS_NEGATIVE)
        self.unit_m = parse_unit(unit)

    def set_box(self, width: bytes, height: bytes, unit: bytes) -> None:
        """Search in a box."""
        self.width = parse_score(width, GEO_NOT_NUMERIC % b"width")
        self.height = parse_score(height, GEO_NOT_NUMERIC % b"height")
        if self.width < 0 or self.height < 0:
            raise CommandError(GEO_BOX_NEGATIVE)
        self.unit_m = parse_unit(unit)

    def set_center(self, members: SortedSet | None, name: bytes) -> None:
        """Search around a member."""
        self.has_member = True
        if members is not None:
            score = members.get(name)
            if score is None:
                raise CommandError(GEO_NO_MEMBER)
            self.center = decode(score)

    def take_option(self, words: list[bytes], may_store: bool) -> bool:
        """Remove an option that all searches have, or STORE; return False if the first word is none."""
        option = fold(words[0])
        if option in (b"WITHCOORD", b"WITHDIST", b"WITHHASH"):
            self.shown |= {option}
        elif option == b"ANY":
            self.any = True
        elif option in (b"ASC", b"DESC"):
            self.order = option
        elif option == b"COUNT" and len(words) > 1:
            self.count = parse_integer(words.pop(1))
            if self.count <= 0:
                raise CommandError(GEO_COUNT)
        elif may_store and option in (b"STORE", b"STOREDIST") and len(words) > 1:
            self.destination = words.pop(1)
            self.stores_distance = option == b"STOREDIST"
        else:
            return False
        del words[0]
        return True

    def take_area(self, words: list[bytes], members: SortedSet | None) -> bool:
        """Remove the center or the area of a GEOSEARCH; return False if the first word is none of their options."""
        option, left = fold(words[0]), len(words) - 1
        if option == b"STOREDIST" and self.destination is not None:
            self.stores_distance = True
            taken = 0
        elif option == b"FROMMEMBER" and left >= 1 and not self.has_position:
            self.set_center(members, words[1])
            taken = 1
        elif option == b"FROMLONLAT" and left >= 2 and not self.has_member:
            self.center, self.has_position = parse_position(*words[1:3]), True
            taken = 2
        elif option == b"BYRADIUS" and left >= 2 and self.height is None:
            self.set_radius(*words[1:3])
            taken = 2
        elif option == b"BYBOX" and left >= 3 and (self.width is None or self.height is not None):
            self.set_box(*words[1:4])
            taken = 3
        else:
            return False
        del words[: taken + 1]
        return True

    def check_store(self, name: bytes) -> None:
        """Raise CommandError if a search that stores its result should also show something of it."""
        if self.destination is not None and self.shown:
            raise CommandError(GEO_STORE_OPTIONS % name)

    def check_any(self) -> None:
        """Raise CommandError for ANY without COUNT."""
        if self.any and not self.count:
            raise CommandError(GEO_ANY_WITHOUT_COUNT)

    @property
    def area(self) -> Area:
        """Return the area. Only if there is a set."""
        assert self.center is not None
        assert self.width is not None
        return Area(self.center, self.unit_m, self.width, self.height)
