"""Geohashes, distances and the cells of an area. That they are those of Redis is tested with random commands, too."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from values.geohash import LATITUDE, LONGITUDE, Area, decode, distance_m, encode, is_valid, to_text

PALERMO, CATANIA = (13.361389, 38.115556), (15.087269, 37.502669)
# Not at the upper ends: there a position is rounded to a cell beyond the last one, as in Redis.
POSITIONS = st.tuples(st.floats(LONGITUDE[0], LONGITUDE[1] - 1e-9), st.floats(LATITUDE[0], LATITUDE[1] - 1e-9))
LENGTHS = st.floats(0.1, 3e7)


def test_the_examples_of_redis() -> None:
    assert encode(PALERMO) == 3479099956230698
    assert encode(CATANIA) == 3479447370796909
    assert to_text(encode(PALERMO)) == b"sqc8b49rny0"
    assert to_text(encode(CATANIA)) == b"sqdtr74hyu0"
    assert decode(encode(PALERMO)) == (13.361389338970184, 38.115556395496299)
    assert f"{distance_m(decode(encode(PALERMO)), decode(encode(CATANIA))):.4f}" == "166274.1516"


@given(POSITIONS)
def test_a_position_is_within_a_cell_of_its_hash(position: tuple[float, float]) -> None:
    score = encode(position)
    assert 0 <= score < 2**52
    assert score == int(score)
    found = decode(score)
    assert abs(found[0] - position[0]) <= 360 / 2**26
    assert abs(found[1] - position[1]) <= 180 / 2**26
    assert encode(found) == score
    assert is_valid(found)


@for_each("score", [-1.0, -0.5, 1e18, 1e19, 1e300, math.inf, -math.inf, 2.0**63])
def test_a_score_that_is_no_hash_has_a_position_all_the_same(score: float) -> None:
    assert is_valid(decode(score))
    assert len(to_text(score)) == 11


@given(POSITIONS, POSITIONS, LENGTHS, st.one_of(st.none(), LENGTHS))
def test_what_is_in_an_area_is_in_one_of_its_cells(
    center: tuple[float, float], other: tuple[float, float], width: float, height: float | None
) -> None:
    area = Area(center, 1.0, width, height)
    score = encode(other)
    cells = list(area.cells())
    assert 1 <= len(cells) <= 9
    is_near = all(abs(each) < 60 for each in (center[1], other[1])) and abs(center[0]) < 90 and width < 4e6
    if is_near and (height is None or height < 4e6) and area.distance_m(decode(score)) is not None:
        assert any(low <= score < high for low, high in cells)


@pytest.mark.parametrize("length", [0.0, 1e-300, 1e300, math.inf])
def test_an_area_of_any_size_has_cells(length: float) -> None:
    for area in (Area((0.0, 0.0), 1.0, length), Area((10.0, -85.0), 1000.0, length, length)):
        assert list(area.cells())


def test_a_distance_to_the_other_side_of_the_earth_is_one() -> None:
    for latitude in (0.0, 10.1, 33.3, 85.0):
        assert distance_m((0.0, latitude), (180.0, -latitude)) == pytest.approx(math.pi * 6372797.560856)
