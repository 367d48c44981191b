"""Positions. Each member is always put at places of its own, lest two of them be equally far from any place."""

from __future__ import annotations

from random import Random

from comparing import same_scores

from grammars import Slot, words

MEMBERS = words("a|b|c|d|e|f|aa|B|10||\x00\xff|a b")
LONGITUDES = words("13.361389|15.087269|-0.5|0|179.9999|-180|180|-122.27652|0x10|1e1")
LATITUDES = words("38.115556|37.502669|51.5|0|85.05112878|-85.05112878|-33.86|37.80574|1e-3")
WRONG = words("181|-181|86|-86|inf|nan|abc||1e400")


def place(random: Random) -> list[bytes]:
    """Fill a slot with a longitude, a latitude and a member."""
    number = random.randrange(len(MEMBERS))
    longitude = float(random.choice(LONGITUDES[:-2])) * 0.9 + number / 64
    latitude = float(random.choice(LATITUDES[:-1])) * 0.9 + number / 128
    position = [repr(longitude).encode(), repr(latitude).encode()]
    if random.random() < 0.05:
        position[random.randrange(2)] = random.choice(WRONG)
    return [*position, MEMBERS[number]]


def near(random: Random) -> list[bytes]:
    """Fill a slot with a position that is no member's."""
    position = [random.choice(LONGITUDES), random.choice(LATITUDES)]
    if random.random() < 0.05:
        position[random.randrange(2)] = random.choice(WRONG)
    return position


def many(random: Random) -> list[bytes]:
    """Fill a slot with places of many members."""
    numbers = random.sample(range(400), random.randrange(2, 60))
    return [
        word for number in numbers for word in (b"%.6f" % (number / 3 - 60), b"%.6f" % (number / 7), b"m%d" % number)
    ]


GRAMMAR = """
GEOADD key place
GEOADD key place
GEOADD key place
GEOADD key place place
GEOADD key place place place
GEOADD key many
GEOADD key many
GEOADD key add_option place
GEOADD key add_option add_option place
GEOADD key 180 85.05112878 a
GEOADD key 180 -85.05112878 b
GEOADD key -180 85.05112878 c
GEODIST key member member
GEODIST key member member unit
GEOHASH key member*
GEOPOS key member*
ZRANGE key 0 -1 WITHSCORES
ZREM key member
ZADD key score member
GEOSEARCH key center area
GEOSEARCH key center area shown+
GEOSEARCH key center area ASC shown*
GEOSEARCH key center area DESC count_option?
GEOSEARCH key area count_option shown* center
GEOSEARCH key search_option search_option search_option shown*
GEOSEARCHSTORE key key center area
GEOSEARCHSTORE key key center area count_option
GEOSEARCHSTORE key key center area STOREDIST
GEOSEARCHSTORE key key search_option search_option search_option
GEORADIUS key near length unit
GEORADIUS key near length unit shown+
GEORADIUS key near length unit count_option shown*
GEORADIUS key near length unit store_option
GEORADIUS key near length unit radius_option radius_option*
GEORADIUS_RO key near length unit radius_option*
GEORADIUSBYMEMBER key member length unit
GEORADIUSBYMEMBER key member length unit shown+
GEORADIUSBYMEMBER key member length unit store_option
GEORADIUSBYMEMBER key member length unit radius_option radius_option*
GEORADIUSBYMEMBER_RO key member length unit radius_option*
"""
OFTEN = """
GEOADD key place place place place
GEOADD key place place
GEOADD key many
GEODIST key member member km
GEOPOS key member member
GEOSEARCH key FROMLONLAT near BYRADIUS 9000 km ASC COUNT 7
GEOSEARCH key FROMMEMBER member BYBOX 20000 9000 km DESC WITHDIST
GEOSEARCHSTORE key key FROMLONLAT near BYRADIUS 15000 km
GEORADIUSBYMEMBER key member 9000 km ASC
"""
SLOTS: dict[str, Slot] = {
    "place": place,
    "near": near,
    "many": many,
    "member": MEMBERS,
    "score": words("0|1|-1|3479099956230698|1e17|-0.5|inf|-inf|4503599627370496"),
    "length": words("0|1|10|200|300.5|1000|5000|1e5|2e7|1e9|-1|abc|inf"),
    "unit": words("m|km|km|km|ft|mi|KM|x"),
    "add_option": words("NX|XX|CH|ch|junk"),
    "center": lambda random: [b"FROMLONLAT", *near(random)] if random.random() < 0.6 else from_member(random),
    "area": lambda random: random.choice([circle, box])(random),
    "shown": words("WITHDIST|WITHCOORD|WITHHASH|withdist|ASC|DESC"),
    "count_option": words("COUNT 1|COUNT 2|COUNT 3|COUNT 100|COUNT 0|COUNT -1|COUNT abc|COUNT|count 2 desc"),
    "store_option": words("STORE key|STOREDIST key|STORE key STOREDIST key|STORE|store key COUNT 2"),
    "radius_option": words("WITHDIST|WITHCOORD|WITHHASH|ASC|DESC|COUNT 2|COUNT 2 ANY|ANY|STORE key|COUNT|junk|any"),
    "search_option": words(
        "FROMMEMBER a|FROMMEMBER b|FROMLONLAT 15 37|BYRADIUS 500 km|BYBOX 300 400 mi|BYBOX 1 1|BYRADIUS -1 m|"
        "BYBOX -1 1 m|COUNT 2 ANY|ANY|ASC|STOREDIST|BYRADIUS abc m|BYRADIUS 1 yd|FROMMEMBER|BYBOX 1 abc m"
    ),
}


def from_member(random: Random) -> list[bytes]:
    return [b"FROMMEMBER", random.choice(MEMBERS)]


def circle(random: Random) -> list[bytes]:
    return [b"BYRADIUS", random.choice(SLOTS["length"]), random.choice(SLOTS["unit"])]  # type: ignore[arg-type]


def box(random: Random) -> list[bytes]:
    lengths = [random.choice(SLOTS["length"]) for _ in range(2)]  # type: ignore[arg-type]
    return [b"BYBOX", *lengths, random.choice(SLOTS["unit"])]  # type: ignore[arg-type]


LENIENT = {
    b"ZRANGE": (same_scores, "redis-server 7.0 prints 17 digits; 7.2 as many as are needed"),
    b"ZADD": (same_scores, "as for ZRANGE"),
}
REPEATS = {b"GEOSEARCHSTORE", b"GEORADIUS", b"GEORADIUSBYMEMBER"}  # they log their result
