"""Commands on positions: what they answer and what they log, and searches among thousands of members."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import pytest
from canonical import all_of
from fakes import answers_and_logs
from instances import Bench, Client, Replay, driven, listed, work_of
from tables import for_each

import commands.geo
import commands.scored
import errors
from protocol import text_pieces
from replies import HELD_BACK, NULL_ARRAY, Plain
from values.geohash import decode, distance_m, encode

SICILY = "GEOADD k 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"
SCORES = "3479099956230698 Palermo 3479447370796909 Catania"
NEAR = "FROMLONLAT 15 37 BYRADIUS 100 km"

CASES: list[tuple[str, str, Any, list[str]]] = [
    # before, command, reply, effects
    ("", SICILY, 2, [f"ZADD k {SCORES}"]),
    (SICILY, SICILY, 0, []),
    (SICILY, "GEOADD k NX 1 1 Palermo 0 0 z", 1, ["ZADD k 3377699720527872 z"]),
    (SICILY, "GEOADD k XX CH 0 0 Palermo 0 0 z", 1, ["ZADD k 3377699720527872 Palermo"]),
    ("", "GEOADD k NX XX 1 1 a", errors.SYNTAX, []),
    ("", "GEOADD k 1 1 a 2", errors.SYNTAX, []),
    ("", "GEOADD k CH CH CH", errors.SYNTAX, []),
    ("", "GEOADD k 1 x a", errors.NOT_A_FLOAT, []),
    ("", "GEOADD k 1 1 a 200 1 b", b"ERR invalid longitude,latitude pair 200.000000,1.000000", []),
    ("", "GEOADD k inf 1 a", b"ERR invalid longitude,latitude pair inf,1.000000", []),
    ("SET k v", "GEOADD k 1 1 a", errors.WRONG_TYPE, []),
    (SICILY, "GEODIST k Palermo Catania", b"166274.1516", []),
    (SICILY, "GEODIST k Palermo Catania mi", b"103.3182", []),
    (SICILY, "GEODIST k Palermo x", None, []),
    ("", "GEODIST k Palermo x", None, []),
    ("", "GEODIST k Palermo x yd", errors.GEO_UNIT, []),
    ("", "GEODIST k Palermo x m m", errors.SYNTAX, []),
    (SICILY, "GEOHASH k Palermo x Catania", [b"sqc8b49rny0", None, b"sqdtr74hyu0"], []),
    (SICILY, "GEOHASH k", [], []),
    (SICILY, "GEOPOS k x Palermo", [NULL_ARRAY, [13.361389338970184, 38.115556395496299]], []),
    ("", "GEOPOS k x", [NULL_ARRAY], []),
    (SICILY, f"GEOSEARCH k {NEAR}", [b"Catania"], []),
    (SICILY, "GEOSEARCH k FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST",
     [[b"Catania", b"56.4413"], [b"Palermo", b"190.4424"]], []),
    (SICILY, "GEOSEARCH k FROMMEMBER Palermo BYRADIUS 0 m WITHHASH", [[b"Palermo", 3479099956230698]], []),
    (SICILY, "GEOSEARCH k FROMMEMBER x BYRADIUS 1 m", errors.GEO_NO_MEMBER, []),
    ("", "GEOSEARCH k FROMMEMBER x BYRADIUS 1 m", [], []),
    (SICILY, "GEOSEARCH k BYRADIUS 1 m ASC COUNT 1", errors.GEO_ONE_CENTER % b"GEOSEARCH", []),
    (SICILY, "geosearch k FROMLONLAT 1 1 ASC COUNT 1", errors.GEO_ONE_AREA % b"geosearch", []),
    (SICILY, f"GEOSEARCH k {NEAR} ANY", errors.GEO_ANY_WITHOUT_COUNT, []),
    (SICILY, f"GEOSEARCH k {NEAR} COUNT 0", errors.GEO_COUNT, []),
    (SICILY, f"GEOSEARCH k {NEAR} BYBOX 1 1 m", errors.SYNTAX, []),
    (SICILY, f"GEOSEARCH k {NEAR} FROMMEMBER Palermo", errors.SYNTAX, []),
    (SICILY, f"GEOSEARCH k {NEAR} STOREDIST", errors.SYNTAX, []),
    (SICILY, "GEOSEARCH k FROMLONLAT 1 1 BYRADIUS -1 m", errors.GEO_RADIUS_NEGATIVE, []),
    (SICILY, "GEOSEARCH k FROMLONLAT 1 1 BYBOX 1 -1 m", errors.GEO_BOX_NEGATIVE, []),
    (SICILY, "GEOSEARCH k FROMLONLAT 1 1 BYBOX 1 x m", errors.GEO_NOT_NUMERIC % b"height", []),
    ("SET s v", f"GEOSEARCH s {NEAR} junk", errors.WRONG_TYPE, []),
    (SICILY, f"GEOSEARCHSTORE d k {NEAR}", 1, ["ZADD d 3479447370796909 Catania"]),
    (SICILY + "; SET d v", f"GEOSEARCHSTORE d k {NEAR}", 1, ["DEL d", "ZADD d 3479447370796909 Catania"]),
    (SICILY, "GEOSEARCHSTORE d k FROMMEMBER Palermo BYRADIUS 0 m STOREDIST", 1, ["ZADD d 0 Palermo"]),
    (SICILY + "; ZADD d 1 x", "GEOSEARCHSTORE d k FROMLONLAT 0 0 BYRADIUS 1 m", 0, ["DEL d"]),
    ("ZADD d 1 x", f"GEOSEARCHSTORE d none {NEAR}", 0, ["DEL d"]),
    ("", f"GEOSEARCHSTORE d none {NEAR}", 0, []),
    (SICILY, f"GEOSEARCHSTORE d k {NEAR} WITHDIST", errors.GEO_STORE_OPTIONS % b"GEOSEARCHSTORE", []),
    (SICILY, "GEORADIUS k 15 37 100 km", [b"Catania"], []),
    (SICILY, "GEORADIUS k 15 37 200 km WITHCOORD WITHDIST DESC COUNT 1",
     [[b"Palermo", b"190.4424", [13.361389338970184, 38.115556395496299]]], []),
    (SICILY, "GEORADIUS k 15 37 100 km STORE d", 1, ["ZADD d 3479447370796909 Catania"]),
    (SICILY, "GEORADIUS k 15 37 200 km STORE k COUNT 1", 1, ["DEL k", "ZADD k 3479447370796909 Catania"]),
    (SICILY, "GEORADIUS k 15 37 100 km STORE d WITHDIST", errors.GEO_STORE_OPTIONS % b"STORE option in GEORADIUS", []),
    (SICILY, "GEORADIUS_RO k 15 37 100 km STORE d", errors.SYNTAX, []),
    (SICILY, "GEORADIUSBYMEMBER k Catania 1 km STOREDIST d", 1, ["ZADD d 0 Catania"]),
    (SICILY, "GEORADIUSBYMEMBER_RO k Catania 200 km ASC", [b"Catania", b"Palermo"], []),
    ("", "GEORADIUSBYMEMBER none Catania x y", [], []),
    (SICILY, "GEORADIUSBYMEMBER k Catania x y", errors.GEO_NOT_NUMERIC % b"radius", []),
]  # fmt: skip


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


@pytest.mark.parametrize(
    ("coordinate", "text"),
    [(13.361389338970184, b"13.36138933897018433"), (-0.0, b"0"), (1.5, b"1.5"), (1e-9, b"0.000000001"),
     (0.1, b"0.10000000000000001")],
)  # fmt: skip
def test_a_coordinate_is_written_without_an_exponent(coordinate: float, text: bytes) -> None:
    assert b"".join(text_pieces(Plain(coordinate))) == text + b"\r\n"
    client = Bench().connect()
    client.ask("GEOADD", "k", "13.361389", "38.115556", "a")
    for protocol, expected in (
        (2, b"*1\r\n*2\r\n$20\r\n13.36138933897018433\r\n$20\r\n38.11555639549629859\r\n"),
        (3, b"*1\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n"),
    ):
        client.wire("HELLO", protocol)
        assert client.wire("GEOPOS", "k", "a") == expected


# ---- thousands of members

FEW = 20


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (commands.geo, commands.scored):
        monkeypatch.setattr(module, "AT_ONCE_MEMBERS", FEW)
        monkeypatch.setattr(module, "SLICE_MEMBERS", 7)


CENTER = (10.0, 50.0)


def filled(count: int) -> tuple[Client, dict[bytes, float]]:
    """Return a client of an instance with so many positions, and the distance of each from the center in km."""
    client = Bench(default_ttl="0").connect()
    chance = random.Random(count)
    places = {b"m%d" % number: (chance.uniform(0, 20), chance.uniform(40, 60)) for number in range(count)}
    for name, (longitude, latitude) in places.items():
        client.ask("GEOADD", "k", repr(longitude), repr(latitude), name)
    return client, {name: distance_m(CENTER, decode(encode(place))) / 1000 for name, place in places.items()}


def within(distances: dict[bytes, float], radius: float, descending: bool = False) -> list[bytes]:
    found = [name for name in distances if distances[name] <= radius]
    return sorted(found, key=distances.__getitem__, reverse=descending)


@pytest.mark.usefixtures("_few")
@for_each("radius", [300, 900, 5000])
@for_each("options", ["", "ASC", "DESC", "COUNT 30", "DESC COUNT 5", "COUNT 25 ANY", "COUNT 3 ANY ASC"])
def test_a_search_among_many_is_of_the_moment_when_it_was_asked(radius: int, options: str) -> None:
    client, distances = filled(300)
    words = f"GEOSEARCH k FROMLONLAT 10 50 BYRADIUS {radius} km {options}".split()
    changes = iter(["ZREM k m3 m31 m40", "GEOADD k 10 50 new", "ZPOPMIN k 50", "DEL k", "SET k v"] * 200)
    reply, steps = driven(work_of(client.ask(*words)), lambda: client.ask(*next(changes).split()))
    assert steps > 1
    found, expected = listed(reply), within(distances, radius, "DESC" in options)
    if "ANY" in options:
        count = int(words[words.index("COUNT") + 1])
        assert len(set(found)) == len(found) == min(count, len(expected))
        assert set(found) <= set(expected)
        assert "ASC" not in options or found == [name for name in expected if name in found]
    elif "COUNT" in options:
        assert found == expected[: int(words[-1])]
    elif options:
        assert found == expected
    else:
        assert sorted(found) == sorted(expected)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("line", ["GEOSEARCHSTORE d k FROMLONLAT 10 50 BYRADIUS 900 km STOREDIST",
                                  "GEORADIUS k 10 50 900 km STOREDIST d"])  # fmt: skip
@pytest.mark.parametrize("expires", [-1, 3, 12])
def test_a_search_among_many_that_stores_logs_its_result(line: str, expires: int) -> None:
    client, distances = filled(300)
    client.ask("ZADD", "d", "1", "old")
    client.ask("PEXPIRE", "k", 1000)
    records = client.bench.log.records
    known, held_back, steps = len(records), list[Any](), iter(range(1000))

    def meanwhile() -> None:
        if client.bench.store.key_lock is not None:
            held_back.append(client.ask("ZADD", "k", "1", "new"))
        if next(steps) == expires:
            client.bench.advance(2)
            client.bench.store.expire_cycle(lambda: False)

    reply, _ = driven(work_of(client.ask(*line.split())), meanwhile)
    expected = within(distances, 900)
    assert reply == len(expected) > FEW
    assert set(held_back) == {HELD_BACK}
    found = client.ask("ZRANGE", "d", 0, -1)
    assert listed(driven(found)[0] if isinstance(found, Generator) else found) == expected
    assert {argv[0] for argv in records[known:]} == {b"DEL", b"ZADD"}
    replay = Replay()
    for argv in records:
        replay.engine.apply(0, argv)
    assert all_of(replay.store)[0, b"d"] == all_of(client.bench.store)[0, b"d"]


def test_thousands_of_places_are_set_and_read_in_slices() -> None:
    client = Bench(default_ttl="0").connect()
    words = [word for number in range(3000) for word in (f"{number / 100}", f"{number / 50}", f"m{number}")]
    assert driven(work_of(client.ask("GEOADD", "k", "CH", *words)))[0] == 3000
    names = [f"m{number}" for number in range(3001)]
    places = listed(driven(work_of(client.ask("GEOPOS", "k", *names)))[0])
    assert places[100] == pytest.approx([1, 2], abs=1e-5)
    assert places[-1] is NULL_ARRAY
    texts = listed(driven(work_of(client.ask("GEOHASH", "k", *names)))[0])
    assert (len(set(texts)), texts[-1]) == (3001, None)
    words[-2] = "100"
    before = len(client.bench.log.records)
    with pytest.raises(errors.CommandError, match="invalid longitude,latitude pair"):
        driven(work_of(client.ask("GEOADD", "other", *words)))
    assert len(client.bench.log.records) == before
