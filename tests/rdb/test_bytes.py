"""The lowest parts of the format: the checksum, LZF, lengths and strings, and the packed collections."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import old_forms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import driven
from soak import THOROUGHNESS
from tables import for_each

from rdb import lzf, packed, primitives
from rdb.crc64 import _tables, crc64
from rdb.source import LONG_BYTES, BadFormat, FileSource, Source

INTEGERS = [0, 12, 13, 127, 128, -1, -128, -129, 4095, 4096, -4096, -4097, 2**15, -(2**15), 2**23 - 1, 2**31, -(2**63)]
ELEMENTS: list[bytes | int] = [*INTEGERS, b"", b"a", b"x" * 63, b"y" * 64, b"z" * 300, b"long" * 5000]


def plain_crc64(data: bytes, crc: int = 0) -> int:
    for byte in data:
        crc = _tables()[0][(crc ^ byte) & 255] ^ crc >> 8
    return crc


def test_the_checksum_is_the_one_that_redis_documents() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 70_000), st.integers(0, 2**64 - 1))
def test_the_checksum_by_folds_is_that_of_the_plain_way(pattern: bytes, size: int, crc: int) -> None:
    data = (pattern * (size // max(1, len(pattern)) + 1))[:size]
    assert crc64(data, crc) == plain_crc64(data, crc)


@for_each("size", [0, 7, 8, 9, 169, 170, 171, 65_535, 65_536, 65_537, 200_001])
def test_the_checksum_of_each_size_and_in_parts(size: int) -> None:
    data = bytes(place * 7 & 255 for place in range(size))
    assert crc64(data) == plain_crc64(data) == crc64(data[size // 3 :], crc64(data[: size // 3]))


@given(st.lists(st.sampled_from([b"abc", b"abcabcabc", b"\0", b"x" * 300, b"q9"]), max_size=30).map(b"".join))
def test_what_was_compressed_is_the_same_again(data: bytes) -> None:
    assert lzf.decompress(old_forms.lzf(data), len(data)) == data


@settings(max_examples=100 * THOROUGHNESS)
@given(st.binary(max_size=200), st.integers(0, 1000))
def test_damaged_lzf_is_an_error_and_never_longer_than_it_says(data: bytes, size: int) -> None:
    with suppress(lzf.Damaged):
        assert len(lzf.decompress(data, size)) == size


def test_a_long_compressed_string_is_decompressed_in_steps() -> None:
    data = b"".join(b"%d " % (number * number) for number in range(40_000))
    source = Source(old_forms.compressed(data) + b"\x01z")
    assert source.string() is None
    string, steps = driven(source.expand())
    assert string == data
    assert steps >= len(old_forms.lzf(data)) // LONG_BYTES
    assert source.string() == b"z"
    assert Source(old_forms.compressed(data)).whole_string() == data


@for_each("number", [0, 63, 64, 16_383, 16_384, 2**32 - 1, 2**32, 2**64 - 1])
def test_a_length_has_four_forms(number: int) -> None:
    assert Source(old_forms.length(number)).length() == number
    assert primitives.length(number) == old_forms.length(number)


@given(st.one_of(st.integers(-(2**33), 2**33).map(lambda n: b"%d" % n), st.binary(max_size=20), st.just(b"007")))
def test_a_string_is_read_as_it_was_written(value: bytes) -> None:
    assert Source(primitives.string(value)).string() == value


@pytest.mark.parametrize("data", [b"", b"\x05abc", b"\x80\xff\xff\xff\xffabc", b"\xc4", b"\x81" + b"\x01" * 8, b"\x82"])
def test_a_string_that_is_not_there_is_an_error(data: bytes) -> None:
    with pytest.raises(BadFormat):
        Source(data).string()


def test_a_length_that_lies_allocates_nothing() -> None:
    for data in (b"\x81" + (2**40).to_bytes(8, "big") + b"abc", b"\xc3\x03\x81" + (2**40).to_bytes(8, "big") + b"abc"):
        for source in (Source(data), FileSource(io.BytesIO(data), len(data))):
            with pytest.raises(BadFormat):
                source.string()


def test_a_file_is_read_as_bytes_are() -> None:
    strings = [b"%d" % number * (number % 50) for number in range(60_000)] + [b"x" * 3_000_000, b"end"]
    data = b"".join(map(old_forms.string, strings))
    source = FileSource(io.BytesIO(b"before" + data), 6 + len(data), 6)
    assert [source.string() for _ in strings] == strings
    assert source.position == 6 + len(data)
    assert source.checksum() == crc64(data)


PAIRS = [(b"a", b"b" * 300), (b"", b"c")]
PACKED: list[tuple[Callable[[bytes], Iterator[bytes]], bytes, Sequence[bytes | int]]] = [
    (packed.ziplist, old_forms.ziplist(ELEMENTS), ELEMENTS),
    (packed.listpack, old_forms.listpack(ELEMENTS), ELEMENTS),
    (packed.ziplist, old_forms.ziplist([]), []),
    (packed.listpack, old_forms.listpack([]), []),
    (packed.ziplist, old_forms.ziplist([b"a"] * 70_000), [b"a"] * 70_000),
    (packed.listpack, old_forms.listpack([b"a"] * 70_000), [b"a"] * 70_000),
    (packed.intset, old_forms.intset([-5, 0, 9], 2), [-5, 0, 9]),
    (packed.intset, old_forms.intset([-5, 0, 9], 4), [-5, 0, 9]),
    (packed.intset, old_forms.intset([-5, 0, 9], 8), [-5, 0, 9]),
    (packed.zipmap, old_forms.zipmap(PAIRS, 0), [b"a", b"b" * 300, b"", b"c"]),
    (packed.zipmap, old_forms.zipmap(PAIRS, 3), [b"a", b"b" * 300, b"", b"c"]),
]


@for_each(("read", "data", "elements"), PACKED)
def test_a_packed_collection_has_its_elements(
    read: Callable[[bytes], Iterator[bytes]], data: bytes, elements: Sequence[bytes | int]
) -> None:
    assert list(read(data)) == [each if isinstance(each, bytes) else b"%d" % each for each in elements]


@for_each("size", [63, 64, 126, 127, 128, 4095, 4096, 16_379, 16_380, 16_381, 2_097_144, 2_097_147])
def test_an_element_of_a_listpack_of_any_size_has_its_size_behind_it(size: int) -> None:
    assert list(packed.listpack(old_forms.listpack([b"x" * size, b"y"]))) == [b"x" * size, b"y"]


@settings(max_examples=100 * THOROUGHNESS)
@given(st.data())
def test_a_damaged_packed_collection_is_an_error_or_a_list_of_strings(data: st.DataObject) -> None:
    read, good, _ = data.draw(st.sampled_from([each for each in PACKED if len(each[1]) < 500]))
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(bad[: data.draw(st.integers(0, len(bad)))]) if data.draw(st.booleans()) else bytes(bad)
    with suppress(BadFormat):
        assert all(isinstance(element, bytes) for element in read(cut))
