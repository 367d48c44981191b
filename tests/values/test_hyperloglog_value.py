"""A HyperLogLog in both representations is what a list of registers says, and its hashes are MurmurHash64A."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import for_each

from values import hyperloglog, murmur
from values.hyperloglog import DENSE_BYTES, EMPTY, HEAD_BYTES, REGISTERS, SPARSE_BYTES, Corrupt


def reference(data: bytes, seed: int = 0xADC83B19) -> int:
    """Return MurmurHash64A, written down from its definition."""
    factor, word = 0xC6A4A7935BD1E995, 2**64
    result = seed ^ len(data) * factor % word
    for start in range(0, len(data) - 7, 8):
        block = int.from_bytes(data[start : start + 8], "little") * factor % word
        block = (block ^ block >> 47) * factor % word
        result = (result ^ block) * factor % word
    rest = data[len(data) // 8 * 8 :]
    if rest:
        result = (result ^ int.from_bytes(rest, "little")) * factor % word
    result = (result ^ result >> 47) * factor % word
    return result ^ result >> 47


def selected(element: bytes) -> tuple[int, int]:
    """Return the register of an element, and its rank."""
    number = reference(element)
    bits = bin(number >> 14 | 1 << 50)[2:]
    return number % REGISTERS, 1 + len(bits) - len(bits.rstrip("0"))


@for_each("size", [*range(26), 100, 255, 256, 1000, 40_003])
@for_each("count", [1, 3, 4, 16, 64])
def test_the_hashes_of_elements_are_murmurs(size: int, count: int) -> None:
    chance = Random(size)
    elements = [chance.randbytes(size) for _ in range(count)]
    assert list(murmur.hashes_of(elements)) == list(map(reference, elements))
    assert [murmur.hash_of(element) for element in elements] == list(map(reference, elements))


def test_elements_of_several_lengths_are_hashed() -> None:
    elements = [b"a", b"bb", b"", b"c" * 20, b"d" * 9]
    assert list(murmur.hashes_of(elements)) == list(map(reference, elements))


ELEMENTS = st.integers(0, 5000).map(lambda number: b"e%d" % number)
BATCHES = st.lists(ELEMENTS, max_size=40)


def added(value: bytes, elements: list[bytes]) -> bytes:
    return hyperloglog.add(value, [murmur.hash_of(element) for element in elements]).value


def model_of(elements: list[bytes]) -> bytes:
    registers = bytearray(REGISTERS)
    for index, rank in map(selected, elements):
        registers[index] = max(registers[index], rank)
    return bytes(registers)


@settings(max_examples=50)
@given(st.lists(BATCHES, max_size=20), st.sampled_from(["sparse", "dense"]))
def test_what_is_added_is_in_the_registers(batches: list[list[bytes]], form: str) -> None:
    value = EMPTY if form == "sparse" else hyperloglog.densified(EMPTY)
    known: list[bytes] = []
    for batch in batches:
        registers = hyperloglog.registers_of(value)
        value, changes = hyperloglog.add(value, [murmur.hash_of(element) for element in batch])
        for element, changed in zip(batch, changes, strict=True):
            before = registers
            known.append(element)
            registers = model_of(known)
            assert changed == (registers != before)
        assert hyperloglog.registers_of(value) == registers
        assert hyperloglog.is_valid(value)
        assert (value == EMPTY) or (True not in changes) or hyperloglog.cached(value) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_sparse_one_becomes_dense_when_it_is_too_long(seed: int) -> None:
    chance, value, known = Random(seed), EMPTY, []
    while hyperloglog.is_sparse(value):
        assert len(value) <= SPARSE_BYTES
        known.append(b"%d" % chance.getrandbits(40))
        value = added(value, known[-1:])
    assert len(value) == DENSE_BYTES
    assert hyperloglog.registers_of(value) == model_of(known)
    assert 800 < len(known) < 3000


def test_a_rank_that_a_sparse_one_cannot_hold_makes_it_dense() -> None:
    index = 5
    value, changes = hyperloglog.add(EMPTY, [1 << (14 + 32) | index])
    assert (len(value), changes) == (DENSE_BYTES, [True])
    assert hyperloglog.registers_of(value)[index] == 33
    value, _ = hyperloglog.add(value, [index])
    assert hyperloglog.registers_of(value)[index] == 51


@settings(max_examples=30)
@given(st.lists(ELEMENTS, max_size=300), st.lists(ELEMENTS, max_size=300), st.booleans(), st.booleans())
def test_a_union_holds_what_both_hold(one: list[bytes], other: list[bytes], is_dense: bool, wants_dense: bool) -> None:
    left = added(hyperloglog.densified(EMPTY) if is_dense else EMPTY, one)
    right = hyperloglog.registers_of(added(EMPTY, other))
    united = hyperloglog.raised(left, right, not is_dense and not wants_dense)
    assert hyperloglog.registers_of(united) == model_of([*one, *other])
    assert hyperloglog.is_sparse(united) == (not is_dense and not wants_dense)


@pytest.mark.parametrize("seed", range(3))
def test_dense_registers_are_packed_and_compared(seed: int) -> None:
    chance = Random(seed)
    one, other = (bytes(byte & 63 for byte in chance.randbytes(REGISTERS)) for _ in range(2))
    packed = hyperloglog.raised(hyperloglog.densified(EMPTY), one, False)
    assert hyperloglog.registers_of(packed) == one
    bits = int.from_bytes(packed[HEAD_BYTES:], "little")
    assert all(bits >> 6 * index & 63 == one[index] for index in range(0, REGISTERS, 611))
    assert hyperloglog.greatest(one, other) == bytes(map(max, one, other))


@for_each("size", [0, 1, 2, 10, 100, 1000, 10_000, 100_000])
def test_the_estimate_is_near(size: int) -> None:
    registers = model_of([b"element%d" % number for number in range(size)])
    assert hyperloglog.count(registers) == pytest.approx(size, rel=0.03)


def test_the_cardinality_is_kept_beside_the_registers() -> None:
    value = hyperloglog.with_cached(added(EMPTY, [b"a"]), 300)
    assert hyperloglog.cached(value) == 300
    assert hyperloglog.cached(hyperloglog.stale(value)) is None
    assert hyperloglog.stale(value)[8:15] == value[8:15]


BAD = [b"", b"\x7f", b"\x3f", b"\x7f\xff\x80", b"\x80" * 5]


@pytest.mark.parametrize("runs", BAD)
def test_runs_that_are_not_of_all_registers_are_corrupt(runs: bytes) -> None:
    with pytest.raises(Corrupt):
        hyperloglog.registers_of(EMPTY[:HEAD_BYTES] + runs)


@pytest.mark.parametrize("runs", BAD[:3])
def test_an_element_whose_register_is_missing_is_an_error(runs: bytes) -> None:
    with pytest.raises(Corrupt):
        hyperloglog.add(EMPTY[:HEAD_BYTES] + runs, [REGISTERS - 1])


def test_a_head_is_checked() -> None:
    dense = hyperloglog.densified(EMPTY)
    valid = [EMPTY, dense, EMPTY[:HEAD_BYTES]]
    wrong = [b"", b"HYLL", EMPTY[:15], b"hyll" + EMPTY[4:], dense[:-1], dense + b"x", EMPTY[:4] + b"\2" + EMPTY[5:]]
    assert all(map(hyperloglog.is_valid, valid))
    assert not any(map(hyperloglog.is_valid, wrong))
