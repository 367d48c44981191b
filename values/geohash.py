"""Positions on the earth as numbers of 52 bits, distances, and which numbers an area may have.

1. A position is a longitude and a latitude in degrees. Its hash has their bits in turns, so that positions that are
   near each other mostly have near numbers. A sorted set with the hashes as scores is an index of positions.
2. All is computed in the same order of operations as in Redis, so that hashes, distances and the order of what a
   search finds are equal.
3. A search covers its area with at most nine cells of one size, each of which is one range of hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import asin, cos, isinf, nan, pi, sin, sqrt
from typing import NamedTuple

LONGITUDE = (-180.0, 180.0)
LATITUDE = (-85.05112878, 85.05112878)  # of the square Mercator map
ALL_LATITUDES = (-90.0, 90.0)
STEPS = 26  # bits of each coordinate
EARTH_RADIUS_M = 6372797.560856
MERCATOR_MAX_M = 20037726.37
DEGREE = pi / 180.0  # in radians
ALPHABET = b"0123456789bcdefghjkmnpqrstuvwxyz"
TEXT_LENGTH = 11

Position = tuple[float, float]  # longitude, latitude
Range = tuple[float, float]


def is_valid(position: Position) -> bool:
    """Return True if a position can be in an index."""
    longitude, latitude = position
    return LONGITUDE[0] <= longitude <= LONGITUDE[1] and LATITUDE[0] <= latitude <= LATITUDE[1]


# ---- hashes


def _spread(number: int) -> int:
    """Put a 0 before each bit of a number of 32 bits."""
    number = (number | number << 16) & 0x0000FFFF0000FFFF
    number = (number | number << 8) & 0x00FF00FF00FF00FF
    number = (number | number << 4) & 0x0F0F0F0F0F0F0F0F
    number = (number | number << 2) & 0x3333333333333333
    return (number | number << 1) & 0x5555555555555555


def _gather(number: int) -> int:
    """Return every second bit of a number of 64 bits, from the lowest on."""
    number &= 0x5555555555555555
    number = (number | number >> 1) & 0x3333333333333333
    number = (number | number >> 2) & 0x0F0F0F0F0F0F0F0F
    number = (number | number >> 4) & 0x00FF00FF00FF00FF
    number = (number | number >> 8) & 0x0000FFFF0000FFFF
    return (number | number >> 16) & 0x00000000FFFFFFFF


def _cell(position: Position, steps: int, latitudes: Range = LATITUDE) -> tuple[int, int]:
    """Return the column and the row of a position among 2**steps each."""
    longitude, latitude = position
    column = (longitude - LONGITUDE[0]) / (LONGITUDE[1] - LONGITUDE[0])
    row = (latitude - latitudes[0]) / (latitudes[1] - latitudes[0])
    return int(column * (1 << steps)), int(row * (1 << steps))


def encode(position: Position) -> float:
    """Return the hash of a position, as a score."""
    column, row = _cell(position, STEPS)
    return float(_spread(row) | _spread(column) << 1)


def decode(score: float) -> Position:
    """Return the middle of the cell of a hash. A score that is no hash is taken as C converts it."""
    bits = _to_unsigned(score)
    longitudes, latitudes = _bounds(_gather(bits >> 1), _gather(bits), STEPS)
    return _middle(longitudes, LONGITUDE), _middle(latitudes, LATITUDE)


def _to_unsigned(score: float) -> int:
    """Convert a double to 64 bits without a sign, as C does on most machines."""
    if -(2.0**63) <= score < 2.0**64:
        return int(score) & 0xFFFFFFFFFFFFFFFF
    return 0 if score > 0 else 1 << 63


def _bounds(column: int, row: int, steps: int) -> tuple[Range, Range]:
    """Return from where to where a cell extends."""
    width, height = LONGITUDE[1] - LONGITUDE[0], LATITUDE[1] - LATITUDE[0]
    cells = 1 << steps
    return (
        (LONGITUDE[0] + (column * 1.0 / cells) * width, LONGITUDE[0] + ((column + 1) * 1.0 / cells) * width),
        (LATITUDE[0] + (row * 1.0 / cells) * height, LATITUDE[0] + ((row + 1) * 1.0 / cells) * height),
    )


def _middle(bounds: Range, limits: Range) -> float:
    return min(max((bounds[0] + bounds[1]) / 2, limits[0]), limits[1])


def to_text(score: float) -> bytes:
    """Return the standard geohash of a position, which has other limits of latitude: 11 characters."""
    column, row = _cell(decode(score), STEPS, ALL_LATITUDES)
    bits = _spread(row) | _spread(column) << 1
    shifts = range(2 * STEPS - 5, -5, -5)
    digits = [bits >> shift & 31 if shift >= 0 else 0 for shift in shifts]
    return bytes(ALPHABET[digit] for digit in digits[:TEXT_LENGTH])


# ---- distances


def distance_m(one: Position, other: Position) -> float:
    """Return the distance of two positions in meters, by the haversine formula."""
    v = sin((other[0] * DEGREE - one[0] * DEGREE) / 2)
    if v == 0:
        return latitude_distance_m(one[1], other[1])
    latitude, other_latitude = one[1] * DEGREE, other[1] * DEGREE
    u = sin((other_latitude - latitude) / 2)
    a = u * u + cos(latitude) * cos(other_latitude) * v * v
    return 2.0 * EARTH_RADIUS_M * asin(min(1.0, sqrt(a)))


def latitude_distance_m(one: float, other: float) -> float:
    """Return the distance of two latitudes in meters."""
    return EARTH_RADIUS_M * abs(other * DEGREE - one * DEGREE)


# ---- areas


class Area(NamedTuple):
    """A circle, or a box if it has a height; lengths are in the unit of the request."""

    center: Position
    unit_m: float
    width: float  # of a circle the radius
    height: float | None = None

    def distance_m(self, position: Position) -> float | None:
        """Return the distance of a position from the center, or None if it is outside."""
        if self.height is None:
            distance = distance_m(self.center, position)
            return None if distance > self.width * self.unit_m else distance
        longitude, latitude = self.center
        if latitude_distance_m(position[1], latitude) > self.height * self.unit_m / 2:
            return None
        if distance_m(position, (longitude, position[1])) > self.width * self.unit_m / 2:
            return None
        return distance_m(self.center, position)

    def _limits(self) -> tuple[Range, Range]:
        """Return the longitudes and the latitudes between which the area lies."""
        longitude, latitude = self.center
        height = self.unit_m * (self.width if self.height is None else self.height / 2)
        width = self.unit_m * (self.width if self.height is None else self.width / 2)
        by_latitude = height / EARTH_RADIUS_M / DEGREE
        nearest = latitude - by_latitude if latitude < 0 else latitude + by_latitude
        by_longitude = width / EARTH_RADIUS_M / (nan if isinf(nearest) else cos(nearest * DEGREE)) / DEGREE
        return (longitude - by_longitude, longitude + by_longitude), (latitude - by_latitude, latitude + by_latitude)

    def _steps(self) -> int:
        """Return how many bits of each coordinate a cell has that is as large as the area."""
        if self.height is None:
            length_m = self.width * self.unit_m
        else:
            length_m = sqrt(self.width / 2 * (self.width / 2) + self.height / 2 * (self.height / 2)) * self.unit_m
        if length_m == 0:
            return STEPS
        steps = -1
        while length_m < MERCATOR_MAX_M:
            length_m *= 2
            steps += 1
        latitude = abs(self.center[1])
        steps -= (latitude > 66) + (latitude > 80)
        return min(max(steps, 1), STEPS)

    def cells(self) -> Iterator[Range]:
        """Yield the ranges of hashes that the area may have, from a lowest one up to one that is not included."""
        (west, east), (south, north) = self._limits()
        steps = self._steps()
        if steps > 1 and not self._is_covered(steps):
            steps -= 1
        column, row = _cell(self.center, steps)
        longitudes, latitudes = _bounds(column, row, steps)
        last: int | None = None
        for index, (right, up) in enumerate(AROUND):
            if steps >= 2 and (
                (up < 0 and latitudes[0] < south)
                or (up > 0 and latitudes[1] > north)
                or (right < 0 and longitudes[0] < west)
                or (right > 0 and longitudes[1] > east)
            ):
                continue
            bits = _spread(_moved(row, up, steps)) | _spread(_moved(column, right, steps)) << 1
            if bits == last:
                continue
            shift = 2 * (STEPS - steps)
            yield float(bits << shift), float(bits + 1 << shift)
            last = bits if index else None

    def _is_covered(self, steps: int) -> bool:
        """Return True if the area lies in a cell of the center and the eight around it."""
        (west, east), (south, north) = self._limits()
        column, row = _cell(self.center, steps)
        left, _ = _bounds(_moved(column, -1, steps), row, steps)
        right, _ = _bounds(_moved(column, 1, steps), row, steps)
        _, below = _bounds(column, _moved(row, -1, steps), steps)
        _, above = _bounds(column, _moved(row, 1, steps), steps)
        return not (above[1] < north or below[0] > south or right[1] < east or left[0] > west)


def _moved(number: int, by: int, steps: int) -> int:
    """Return the number of the next column or row, around the earth.

    A position on the far border is in a column or a row behind the last one, which stays so if it is not moved: there
    Redis, and so a search here, does not find all that is near.
    """
    return number + by & (1 << steps) - 1 if by else number


# the cell of the center, and those to the north, south, east, west, and between
AROUND = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
