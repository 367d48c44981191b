"""The table under hashes, sets and sorted sets: its content against a plain dict, its shape, chance and scan."""

from __future__ import annotations

import random
from collections import Counter
from sys import getsizeof
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from soak import THOROUGHNESS

from values import table
from values.table import CAP, HASHES, PACKED_BYTES, PACKED_ENTRIES, Table

KEYS = st.one_of(
    st.integers(0, 60).map(lambda number: b"%d" % number),
    st.integers(0, 3).map(lambda number: b"long" * 20 + b"%d" % number),
)
VALUES = st.one_of(st.none(), st.floats(), st.binary(max_size=3), st.just(b"x" * (PACKED_BYTES + 1)))


def colliding(count: int) -> list[bytes]:
    """Return keys with one hash. CRC-32 is linear: what turns one key into another of its hash does so with any key."""
    crc = crc32(bytes(8))
    basis: dict[int, tuple[int, int]] = {}
    zeros: list[int] = []
    for bit in range(64):
        key = 1 << bit
        effect = crc32(key.to_bytes(8, "big")) ^ crc
        while effect and effect.bit_length() in basis:
            other_key, other = basis[effect.bit_length()]
            key, effect = key ^ other_key, effect ^ other
        if effect:
            basis[effect.bit_length()] = key, effect
        else:
            zeros.append(key)
    keys = [0]
    for zero in zeros:
        if len(keys) >= count:
            break
        keys += [key ^ zero for key in keys]
    found = [key.to_bytes(8, "big") for key in keys[:count]]
    assert len(set(found)) == count
    assert len(set(map(crc32, found))) == 1
    return found


COLLIDING = colliding(64)


class Machine(RuleBasedStateMachine):
    """A table, its copies, and a dict of what each should hold."""

    cap = 8
    packed_entries = 4

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(table, "CAP", self.cap)
        self.patch.setattr(table, "PACKED_ENTRIES", self.packed_entries)
        self.pairs: list[tuple[Table, dict[bytes, Any]]] = [(Table(), {})]
        self.scans: list[tuple[int, int, set[bytes], set[bytes]]] = []  # which, cursor, still to be found, found

    def teardown(self) -> None:
        self.patch.undo()

    def pick(self, number: int) -> tuple[Table, dict[bytes, Any]]:
        return self.pairs[number % len(self.pairs)]

    def keep_scans(self, which: int, key: bytes) -> None:
        """A scan need not find a key that was removed."""
        for index, _, wanted, _ in self.scans:
            if index == which % len(self.pairs):
                wanted.discard(key)

    @rule(which=st.integers(0, 3), key=st.one_of(KEYS, st.sampled_from(COLLIDING)), value=VALUES)
    def set_one(self, which: int, key: bytes, value: Any) -> None:
        made, model = self.pick(which)
        assert made.set(key, value) is (key not in model)
        model[key] = value

    @rule(which=st.integers(0, 3), keys=st.lists(KEYS, max_size=40), value=VALUES)
    def update(self, which: int, keys: list[bytes], value: Any) -> None:
        made, model = self.pick(which)
        assert made.update((key, value) for key in keys) == len(set(keys) - model.keys())
        model.update((key, value) for key in keys)

    @rule(which=st.integers(0, 3), keys=st.lists(KEYS, max_size=40), values=st.lists(VALUES, min_size=40, max_size=40))
    def set_each(self, which: int, keys: list[bytes], values: list[Any]) -> None:
        made, model = self.pick(which)
        expected = []
        for key, value in zip(keys, values, strict=False):
            expected.append(0 if key in model else 1)
            model[key] = value
        assert made.set_each(keys, values[: len(keys)]) == expected

    @rule(which=st.integers(0, 3), keys=st.sets(KEYS, max_size=30))
    def pop_some(self, which: int, keys: set[bytes]) -> None:
        for key in sorted(keys):
            self.pop(which, key)

    @rule(which=st.integers(0, 3), index=st.integers(0, 99))
    def pop_one_that_is_there(self, which: int, index: int) -> None:
        _, model = self.pick(which)
        if model:
            self.pop(which, list(model)[index % len(model)])

    def pop(self, which: int, key: bytes) -> None:
        made, model = self.pick(which)
        self.keep_scans(which, key)
        assert repr(made.pop(key, "none")) == repr(model.pop(key, "none"))

    @rule(which=st.integers(0, 3))
    def copy(self, which: int) -> None:
        if len(self.pairs) < 4:
            made, model = self.pick(which)
            self.pairs.append((made.copy(), dict(model)))

    @rule(which=st.integers(0, 3))
    def forget(self, which: int) -> None:
        if which < len(self.pairs) > 1:
            made, _ = self.pairs.pop(which)
            self.scans = []
            while made:
                before = len(made)
                made.free_some()
                assert len(made) < before

    @rule(which=st.integers(0, 3))
    def go_on_with_what_a_snapshot_makes(self, which: int) -> None:
        """Replace a table by one that is built anew: it has to go on alike."""
        made, model = self.pick(which)
        self.pairs[which % len(self.pairs)] = (Table(made.items()), model)

    @rule(which=st.integers(0, 3), seed=st.integers(0, 99))
    def choose(self, which: int, seed: int) -> None:
        made, model = self.pick(which)
        if model:
            rebuilt = Table()
            for key, value in made.items():
                rebuilt.set(key, value)
            mine, theirs = random.Random(seed), random.Random(seed)
            for _ in range(5):
                key, value = made.random_item(mine)
                assert repr(model[key]) == repr(value)
                assert rebuilt.random_item(theirs)[0] == key

    @rule(which=st.integers(0, 3))
    def begin_scan(self, which: int) -> None:
        _, model = self.pick(which)
        self.scans.append((which % len(self.pairs), 0, set(model), set()))

    @rule(count=st.integers(1, 12))
    def scan_on(self, count: int) -> None:
        if self.scans:
            which, cursor, wanted, found = self.scans.pop(0)
            made, model = self.pairs[which]
            cursor, items = made.scan(cursor, count)
            assert all(repr(model[key]) == repr(value) for key, value in items)
            found |= {key for key, _ in items}
            if cursor:
                self.scans.append((which, cursor, wanted, found))
            else:
                assert wanted <= found

    @invariant()
    def all_agree(self) -> None:
        for made, model in self.pairs:
            made.check()
            assert len(made) == len(model)
            assert sorted(made) == sorted(model)
            assert {key: repr(value) for key, value in made.items()} == {key: repr(model[key]) for key in model}
            assert list(map(repr, made.values())) == [repr(model[key]) for key in made]
            get = made.getter()
            assert all(key in made and repr(made.get(key)) == repr(get(key)) == repr(model[key]) for key in model)
            assert b"nosuch" not in made
            assert made.get(b"nosuch", 7) == 7


class MachineOfRealSize(Machine):
    """The same with chunks of real size: it begins with hundreds of keys."""

    cap = CAP
    packed_entries = PACKED_ENTRIES

    @initialize(count=st.integers(CAP - 20, 4 * CAP), width=st.integers(1, 5))
    def fill(self, count: int, width: int) -> None:
        made, model = self.pairs[0]
        model.update((b"%*d" % (width, number), None) for number in range(100, 100 + count))
        made.update(model.items())


TestTable = Machine.TestCase
TestTable.settings = settings(max_examples=50 * THOROUGHNESS, stateful_step_count=40)
TestTableOfRealSize = MachineOfRealSize.TestCase
TestTableOfRealSize.settings = settings(max_examples=8 * THOROUGHNESS, stateful_step_count=25)


def filled(count: int) -> Table:
    return Table((b"member:%d" % number, b"%d" % number) for number in range(count))


@pytest.mark.parametrize("count", [5, CAP, 3000])
def test_items_are_chosen_uniformly(count: int) -> None:
    made, chance = filled(count), random.Random(1)
    draws = 40 * count
    seen = Counter(made.random_item(chance)[0] for _ in range(draws))
    squares = sum((seen[key] - 40) ** 2 / 40 for key in made)
    assert abs(squares - count) < 6 * (2 * count) ** 0.5 + 6, "chi-squared is not near its mean"


def test_items_of_one_hash_are_chosen_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CAP", 8)
    made = Table((key, None) for key in [*COLLIDING, *(b"%d" % number for number in range(36))])
    chance = random.Random(2)
    seen = Counter(made.random_item(chance)[0] for _ in range(4000))
    squares = sum((seen[key] - 40) ** 2 / 40 for key in made)
    assert abs(squares - 100) < 6 * 200**0.5
    assert len(made._data.chunks) < 100, "keys of one hash take a chunk, not a chunk a bit"


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_a_scan_answers_about_as_many_as_it_is_asked_for(count: int) -> None:
    sizes: list[int] = []
    made, cursor, found = filled(20_000), 0, list[bytes]()
    while cursor or not sizes:
        cursor, items = made.scan(cursor, count)
        assert 0 <= cursor < HASHES
        sizes.append(len(items))
        found += [key for key, _ in items]
    assert sorted(found) == sorted(made), "each once"
    assert max(sizes) <= 3 * count + 10
    assert len(sizes) < 4 * 20_000 / count + 20


def test_a_copy_copies_only_the_chunks_that_change() -> None:
    made = filled(20_000)
    copied = made.copy()
    chunks = list(made._data.chunks)
    assert all(mine is theirs for mine, theirs in zip(chunks, copied._data.chunks, strict=True))
    made.set(b"member:7", b"new")
    made.pop(b"member:9")
    changed = [chunk for chunk, before in zip(made._data.chunks, chunks, strict=True) if chunk is not before]
    assert 1 <= len(changed) <= 2
    assert (copied.get(b"member:7"), copied.get(b"member:9")) == (b"7", b"9")
    made.check()
    copied.check()


@pytest.mark.parametrize("count", [5, 100, 50_000])
def test_the_size_is_that_of_all_parts(count: int) -> None:
    made = filled(count)
    if made.is_large:
        parts = [*made, *made.values(), *made._data.chunks, *made._data.starts, made._data.chunks, made._data.starts]
    else:
        parts = [made._data] if type(made._data) is bytes else [made._data, *made, *made.values()]
    true_bytes = sum((getsizeof(part) + 15) // 16 * 16 for part in parts)
    assert made.size_bytes() == pytest.approx(true_bytes, rel=0.02, abs=100)
    for number in range(0, count, 2):
        made.pop(b"member:%d" % number)
    made.check()
