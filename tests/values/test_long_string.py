"""A long string is what `bytes` would be, whatever is written, however it is copied; its memory is counted."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule
from tables import for_each

from values import LongString
from values.long_string import CHUNK_BYTES, LONG_STRING, overwritten

SIZES = st.one_of(
    st.integers(0, 3 * CHUNK_BYTES),
    st.builds(lambda chunks, more: max(0, chunks * CHUNK_BYTES + more), st.integers(0, 9), st.integers(-2, 2)),
)
FILLS = st.sampled_from([b"\0", b"a", b"xyz"])
MEBIBYTE = 1 << 20


def filled(fill: bytes, size: int) -> bytes:
    return (fill * size)[:size]


class Strings(RuleBasedStateMachine):
    """Long strings and copies of them, each beside a bytearray."""

    pairs = Bundle("pairs")

    @rule(target=pairs, size=SIZES, fill=FILLS)
    def make(self, size: int, fill: bytes) -> Any:
        value = filled(fill, size)
        return LongString(value), bytearray(value)

    @rule(target=pairs, pair=pairs)
    def copy(self, pair: Any) -> Any:
        return pair[0].copy(), bytearray(pair[1])

    @rule(pair=pairs, start=SIZES, size=SIZES, fill=FILLS)
    def write(self, pair: Any, start: int, size: int, fill: bytes) -> None:
        string, model = pair
        patch = filled(fill, size)
        string.write(start, patch)
        if patch:
            model.extend(bytes(max(0, start + size - len(model))))
            model[start : start + size] = patch
        self.compare(pair)

    @rule(pair=pairs, place=SIZES, byte=st.integers(0, 255))
    def set_a_byte(self, pair: Any, place: int, byte: int) -> None:
        string, model = pair
        if place < len(model):
            string[place] = model[place] = byte
            assert string[place] == byte
        self.compare(pair)

    @rule(pair=pairs, start=SIZES, end=SIZES)
    def read(self, pair: Any, start: int, end: int) -> None:
        string, model = pair
        assert string[start:end] == model[start:end]
        assert string[-end - 1 :] == model[-end - 1 :]

    @rule(pair=pairs)
    def rebuild(self, pair: Any) -> None:
        string, model = pair
        file = io.BytesIO()
        name, *writes = LONG_STRING.rebuild(b"k", string, -1)
        assert name == (b"DEL", b"k")
        for word, _, start, part in writes:
            assert word == b"SETRANGE"
            assert len(part) <= CHUNK_BYTES
            file.seek(int(start))
            file.write(part)
        assert file.getvalue() == model

    @rule(pair=consumes(pairs))
    def free(self, pair: Any) -> None:
        string, _ = pair
        while string:
            before = len(string)
            string.free_some()
            assert len(string) < before

    @staticmethod
    def compare(pair: Any) -> None:
        string, model = pair
        string.check()
        assert len(string) == len(model)
        assert string == bytes(model)


TestStrings = Strings.TestCase
TestStrings.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@for_each("size", [10, CHUNK_BYTES - 3, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@for_each("start", [0, 1, CHUNK_BYTES - 1, 5 * CHUNK_BYTES])
@for_each("patch", [b"p", b"p" * 3 * CHUNK_BYTES])
def test_what_is_overwritten_is_what_redis_makes_of_it(size: int, start: int, patch: bytes) -> None:
    value = filled(b"ab", size)
    expected = bytearray(max(size, start + len(patch)))
    expected[:size] = value
    expected[start : start + len(patch)] = patch
    written = overwritten(value, start, patch)
    assert written == bytes(expected)
    assert (type(written) is LongString) == (len(expected) > CHUNK_BYTES)
    assert overwritten(written, 0, b"z") == b"z" + expected[1:]


def test_a_string_with_one_byte_far_away_takes_little_memory() -> None:
    string = LongString()
    string.write(512 * MEBIBYTE - 1, b"x")
    assert len(string) == 512 * MEBIBYTE
    assert string.size_bytes < 300_000
    assert len(list(LONG_STRING.rebuild(b"k", string, -1))) == 2


@pytest.mark.parametrize("how", ["written all over", "its bytes viewed", "half of it moved", "nearly empty"])
def test_the_size_is_the_memory_that_it_takes(how: str) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        if how == "nearly empty":
            string = LongString()
            string.write(100 * MEBIBYTE, b"x")
        else:
            string = LongString(b"v" * (8 * MEBIBYTE))
            step = {"written all over": 1, "its bytes viewed": 100, "half of it moved": 16}[how]
            for place in range(0, len(string), step * CHUNK_BYTES):
                string[place] = 0
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert string.size_bytes == pytest.approx(after - before, rel=0.1)


def test_a_write_for_which_there_is_no_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    string = LongString(b"v" * (2 * CHUNK_BYTES + 5))
    known, calls = bytes(string), []

    def owned(self: LongString, index: int) -> bytearray:
        calls.append(index)
        if len(calls) == 3:
            raise MemoryError
        return real(self, index)

    real = LongString._owned
    monkeypatch.setattr(LongString, "_owned", owned)
    with pytest.raises(MemoryError):
        string.write(CHUNK_BYTES, b"w" * (4 * CHUNK_BYTES))
    string.check()
    assert string == known
