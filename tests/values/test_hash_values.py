"""Hashes: fields with values, some of which have deadlines, against two dicts."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from soak import THOROUGHNESS

from values import sorted_sets, table
from values.entry import NO_DEADLINE
from values.hashes import HASH, Hash

FIELDS = st.integers(0, 40).map(lambda number: b"%d" % number)
TIMES = st.integers(1, 30)


class Machine(RuleBasedStateMachine):
    """A hash, its copies, and what each should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(table, "CAP", 8)
        self.patch.setattr(table, "PACKED_ENTRIES", 4)
        self.patch.setattr(sorted_sets, "SMALL", 4)
        self.hashes: list[tuple[Hash, dict[bytes, bytes], dict[bytes, int]]] = [(Hash(), {}, {})]

    def teardown(self) -> None:
        self.patch.undo()

    @rule(which=st.integers(0, 2), field=FIELDS, value=st.binary(max_size=3))
    def put(self, which: int, field: bytes, value: bytes) -> None:
        made, values, _ = self.hashes[which % len(self.hashes)]
        assert made.set(field, value) is (field not in values)
        values[field] = value

    @rule(which=st.integers(0, 2), first=st.integers(0, 30), count=st.integers(1, 15))
    def put_many(self, which: int, first: int, count: int) -> None:
        made, values, _ = self.hashes[which % len(self.hashes)]
        items = {b"%d" % number: b"many" for number in range(first, first + count)}
        assert made.update(items.items()) == len(items.keys() - values.keys())
        values.update(items)

    @rule(which=st.integers(0, 2), index=st.integers(0, 99), deadline_ms=TIMES)
    def set_deadline(self, which: int, index: int, deadline_ms: int) -> None:
        made, values, deadlines = self.hashes[which % len(self.hashes)]
        if values:
            field = list(values)[index % len(values)]
            made.set_deadline(field, deadline_ms)
            deadlines[field] = deadline_ms

    @rule(which=st.integers(0, 2), field=FIELDS)
    def persist(self, which: int, field: bytes) -> None:
        made, _, deadlines = self.hashes[which % len(self.hashes)]
        assert made.persist(field) == (deadlines.pop(field, None) is not None)

    @rule(which=st.integers(0, 2), field=FIELDS)
    def remove(self, which: int, field: bytes) -> None:
        made, values, deadlines = self.hashes[which % len(self.hashes)]
        assert made.pop(field) == values.pop(field, None)
        deadlines.pop(field, None)

    @rule(which=st.integers(0, 2), until_ms=TIMES, most=st.integers(1, 40))
    def remove_due(self, which: int, until_ms: int, most: int) -> None:
        made, values, deadlines = self.hashes[which % len(self.hashes)]
        due = sorted((at_ms, field) for field, at_ms in deadlines.items() if at_ms <= until_ms)
        assert made.due_count(until_ms) == len(due)
        found = made.due(until_ms, most)
        assert found == [field for _, field in due[:most]]
        for field in found:
            made.pop(field)
            del values[field], deadlines[field]

    @rule(which=st.integers(0, 2))
    def copy(self, which: int) -> None:
        if len(self.hashes) < 3:
            made, values, deadlines = self.hashes[which % len(self.hashes)]
            copied = made.copy()
            assert copied == made
            self.hashes.append((copied, dict(values), dict(deadlines)))

    @rule(which=st.integers(0, 2))
    def free(self, which: int) -> None:
        if which < len(self.hashes) > 1:
            made, _, _ = self.hashes.pop(which)
            while made:
                before = len(made)
                made.free_some()
                assert len(made) < before

    @invariant()
    def all_agree(self) -> None:
        for made, values, deadlines in self.hashes:
            made.check()
            assert dict(made.items()) == values
            for field in values:
                assert made.deadline_ms(field) == deadlines.get(field, NO_DEADLINE)
            assert made.first_deadline_ms() == min(deadlines.values(), default=NO_DEADLINE)
            assert (made.deadlines is None) == (not deadlines)


TestHash = Machine.TestCase
TestHash.settings = settings(max_examples=50 * THOROUGHNESS, stateful_step_count=40)


def test_what_rebuilds_a_hash_sets_its_deadlines_together() -> None:
    made = Hash([(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")])
    for field, deadline_ms in ((b"c", 7000), (b"a", 9000), (b"d", 7000)):
        made.set_deadline(field, deadline_ms)
    assert list(HASH.rebuild(b"k", made, 5)) == [
        (b"DEL", b"k"),
        (b"HSET", b"k", b"a", b"1", b"b", b"2", b"c", b"3", b"d", b"4"),
        (b"HPEXPIREAT", b"k", b"7000", b"FIELDS", b"2", b"c", b"d"),
        (b"HPEXPIREAT", b"k", b"9000", b"FIELDS", b"1", b"a"),
        (b"PEXPIREAT", b"k", b"5"),
    ]


def test_a_hash_without_deadlines_pays_one_reference_for_them() -> None:
    assert Hash([(b"a", b"1")]).size_bytes() - table.Table([(b"a", b"1")]).size_bytes() <= 16
