"""Bitmaps: strings whose bits are set, counted, combined, and read as integers."""

from __future__ import annotations

from random import Random

from comparing import Compare

from grammars import Slot, words

GRAMMAR = """
SETBIT key bit_offset bit
SETBIT key bit_offset bit
SETBIT key bit_offset bit
SETBIT key far_offset bit
GETBIT key bit_offset
GETBIT key bit_offset
GETBIT key far_offset
BITCOUNT key
BITCOUNT key place place
BITCOUNT key place place unit
BITCOUNT key place place unit
BITCOUNT nokey place
BITPOS key bit
BITPOS key bit place
BITPOS key bit place place
BITPOS key bit place place unit
BITPOS key bit place place unit
BITOP operation key key+
BITOP operation key key+
BITOP NOT key key
! BITOP first_operation key key key+
! BITOP first_operation key key key+
! BITOP first_operation key key
BITFIELD key field_option
BITFIELD key field_option+
BITFIELD key field_option field_option field_option field_option
BITFIELD key
BITFIELD_RO key get_option
BITFIELD_RO key get_option+
BITFIELD_RO key field_option
SET key value
SET key bytes
SETRANGE key place bytes
SETRANGE key far_place bytes
APPEND key bytes
APPEND key long
GETRANGE key place place
GETRANGE key far_place place
GETSET key bytes
GET key
STRLEN key
COPY key key REPLACE
RENAME key key
DEL key
"""


def _bytes(random: Random) -> bytes:
    size = random.choice([0, 1, 2, 3, 8, 9, 40])
    return random.choice([b"\0" * size, b"\xff" * size, random.randbytes(size)])


OFTEN = """
SETBIT key near 1
SETBIT key near 0
GETBIT key near
GETBIT key near
BITCOUNT key 0 -2
BITPOS key 1 0 -2
BITPOS key 0 1
BITOP AND key key key
BITOP XOR key key key key
"""
SLOTS: dict[str, Slot] = {
    "near": words("0|1|2|3|7|8|9|15|16|20|31|33"),
    "bit_offset": words("0|1|5|7|8|9|15|16|63|64|65|100|321|-1|abc|4294967296|007|"),
    "far_offset": words("524287|524288|524289|1000000|2000000"),
    "far_place": words("65535|65536|65537|100000|131072|131073|200000"),
    "bit": words("0|1|1|0|1|0|2|-1|abc|01|"),
    "place": words("0|1|2|3|5|7|8|9|15|-1|-2|-3|-7|-8|-9|-100|100|65536|9223372036854775807|-9223372036854775808|abc"),
    "unit": words("BIT|BYTE|bit|byte|Bits"),
    "operation": words("AND|OR|XOR|and|xor|or|NOT|NAND"),
    "first_operation": words("DIFF|DIFF1|ANDOR|ONE|one|diff"),
    "bytes": _bytes,
    "long": [b"\xff" * 70_000, b"\x00\x81" * 50_000, bytes(131_072)],
    "encoding": words("u1|u2|u5|u8|u16|u32|u63|i1|i2|i5|i8|i16|i32|i63|i64|u64|i65|u0|x8|i|U8|i08"),
    "field_place": words("0|1|3|7|8|60|63|64|100|1000|#0|#1|#2|#5|524280|#a|-1|#-1||4294967296|#4294967296"),
    "amount": words(
        "0|1|-1|2|-2|10|100|-100|127|128|255|256|1000000|9223372036854775807|-9223372036854775808|"
        "4611686018427387904|9223372036854775808|abc"
    ),
    "field_option": words(
        "GET encoding field_place|SET encoding field_place amount|INCRBY encoding field_place amount|"
        "OVERFLOW overflow INCRBY encoding field_place amount|OVERFLOW overflow SET encoding field_place amount|"
        "set encoding field_place amount|OVERFLOW overflow|GET encoding"
    ),
    "get_option": words("GET encoding field_place|get encoding field_place|GET encoding|OVERFLOW overflow"),
    "overflow": words("WRAP|SAT|FAIL|sat|fail|junk"),
}

LENIENT: dict[bytes, tuple[Compare, str]] = {}
REPEATS = {b"BITOP", b"GETSET", b"SETRANGE"}
