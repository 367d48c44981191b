"""Sorted sets and their order against plain lists: every change, every rank, copies that share chunks, algebra."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Generator
from fractions import Fraction
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from soak import THOROUGHNESS

from values import score_order, sorted_sets, table
from values.score_order import ScoreOrder
from values.sets import Set
from values.sorted_sets import (
    SORTED_SET,
    SortedSet,
    Source,
    add,
    count_common,
    difference,
    intersection,
    larger,
    smaller,
    union,
)

T = TypeVar("T")
INF = math.inf
MEMBERS = st.one_of(
    st.integers(0, 40).map(lambda number: b"%d" % number),
    st.integers(0, 3).map(lambda number: b"long" * 20 + b"%d" % number),
)
SCORES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([-0.0, 0.5, INF, -INF, 1e300]))
RANKS = st.integers(0, 50)


def end(steps: Generator[None, None, T]) -> T:
    """Run steps to their end."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def made(scores: dict[bytes, float]) -> SortedSet:
    """Make a set member by member."""
    members = SortedSet()
    for member, score in scores.items():
        members.put(member, score, members.get(member))
    return members


def in_order(scores: dict[bytes, float]) -> list[tuple[float, bytes]]:
    return sorted((score, member) for member, score in scores.items())


def listed(members: SortedSet) -> list[tuple[float, bytes]]:
    return list(zip(*members.by_rank.slice(0, len(members)), strict=True))


class Machine(RuleBasedStateMachine):
    """Sets with small chunks, copies of them, and a dict of what each should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module, name, value in (
            (score_order, "MOST", 8),
            (score_order, "LEAST", 3),
            (score_order, "JOINED", 6),
            (score_order, "GROUP", 2),
            (sorted_sets, "SMALL", 4),
            (table, "CAP", 8),
            (table, "PACKED_ENTRIES", 4),
        ):
            self.patch.setattr(module, name, value)
        self.pairs: list[tuple[SortedSet, dict[bytes, float]]] = [(SortedSet(), {})]

    def teardown(self) -> None:
        self.patch.undo()

    def pick(self, which: int) -> tuple[SortedSet, dict[bytes, float]]:
        return self.pairs[which % len(self.pairs)]

    @rule(which=RANKS, changes=st.lists(st.tuples(MEMBERS, SCORES), min_size=1, max_size=12))
    def put(self, which: int, changes: list[tuple[bytes, float]]) -> None:
        members, model = self.pick(which)
        for member, score in changes:
            assert members.get(member) == model.get(member)
            members.put(member, score, members.get(member))
            model[member] = score

    @rule(which=RANKS, changes=st.lists(st.tuples(MEMBERS, SCORES), min_size=1, max_size=12))
    def exchange(self, which: int, changes: list[tuple[bytes, float]]) -> None:
        members, model = self.pick(which)
        for member, score in changes:
            assert members.exchange(member, score) == model.get(member)
            model[member] = score

    @rule(which=RANKS, member=MEMBERS)
    def remove(self, which: int, member: bytes) -> None:
        members, model = self.pick(which)
        assert members.remove(member) == (model.pop(member, None) is not None)

    @rule(which=RANKS, start=RANKS, count=st.integers(0, 12))
    def take(self, which: int, start: int, count: int) -> None:
        members, model = self.pick(which)
        expected = in_order(model)[start : start + count]
        assert list(zip(*members.take(start, start + count), strict=True)) == expected
        for _, member in expected:
            del model[member]

    @rule(which=RANKS)
    def copy(self, which: int) -> None:
        members, model = self.pick(which)
        self.pairs = [*self.pairs[-3:], (SORTED_SET.copy(members), dict(model))]

    @rule(which=RANKS, start=RANKS, stop=RANKS)
    def read(self, which: int, start: int, stop: int) -> None:
        members, model = self.pick(which)
        order, expected = members.by_rank, in_order(model)
        assert list(zip(*order.slice(start, stop), strict=True)) == expected[start:stop]
        assert order.slice(start, stop, with_scores=False)[1] == [member for _, member in expected[start:stop]]
        if start < len(expected):
            score, member = expected[start]
            assert order.at(start) == (score, member)
            assert order.rank(score, member) == start

    @rule(which=RANKS, score=SCORES, behind=st.booleans())
    def find_score(self, which: int, score: float, behind: bool) -> None:
        members, model = self.pick(which)
        scores = [each for each, _ in in_order(model)]
        expected = bisect_right(scores, score) if behind else bisect_left(scores, score)
        assert members.by_rank.rank_of_score(score, behind) == expected

    @invariant()
    def all_hold_what_they_should(self) -> None:
        for members, model in self.pairs:
            members.check()
            assert dict(members.items()) == model
            assert listed(members) == in_order(model)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40 * THOROUGHNESS, stateful_step_count=40, deadline=None)


@given(st.sets(MEMBERS, max_size=40), MEMBERS, st.booleans())
def test_with_one_score_for_all_a_member_is_found_by_its_name(names: set[bytes], name: bytes, behind: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_order, "MOST", 8)
        order = made(dict.fromkeys(sorted(names), 1.0)).by_rank
    bisect = bisect_right if behind else bisect_left
    assert order.rank_of_member(name, behind) == bisect(sorted(names), name)


def large(count: int) -> SortedSet:
    """Make a set of so many members, in no order."""
    chance = random.Random(count)
    return made({b"member:%d" % number: float(chance.randrange(count)) for number in range(count)})


def test_ranks_in_many_chunks_are_right_while_they_grow_and_shrink() -> None:
    members = large(20_000)
    members.check()
    for _ in range(2):
        elements = listed(members)
        for rank in range(0, len(elements), 997):
            assert members.by_rank.at(rank) == elements[rank]
            assert members.by_rank.rank(*elements[rank]) == rank
        for _, member in elements[::3]:
            members.remove(member)
        members.take(1000, 4000)
        members.check()


def test_a_copy_shares_all_chunks_and_keeps_its_content() -> None:
    members = large(20_000)
    copied = SORTED_SET.copy(members)
    before = listed(copied)
    assert all(mine is theirs for mine, theirs in zip(members.by_rank._chunks, copied.by_rank._chunks, strict=True))
    members.put(b"new", 5.0, None)
    members.take(0, 3000)
    copied.put(b"other", 7.0, None)
    assert copied.remove(b"other")
    assert listed(copied) == before
    members.check()
    copied.check()


def test_a_member_whose_score_changes_is_still_one_object() -> None:
    members = large(1000)
    name = b"member:7"
    members.put(bytes(bytearray(name)), 123.5, members.get(name))
    rank = members.by_rank.rank(123.5, name)
    (key,) = [key for key in members if key == name]
    assert members.by_rank.at(rank)[1] is key


def test_a_set_that_nobody_uses_any_more_is_freed_in_small_steps() -> None:
    members = large(20_000)
    sizes = [len(members)]
    while members:
        members.free_some()
        sizes.append(len(members))
    assert max(before - after for before, after in pairwise(sizes)) <= table.CAP


@pytest.mark.parametrize("count", [0, 1, 16, 17, 340, 342, 5000])
def test_the_size_is_that_of_what_is_referred_to(count: int) -> None:
    members = made({b"member:%d" % number: number + 0.5 for number in range(count)})
    order = members._order
    lists = [] if order is None else [part for chunk in order._chunks for part in (chunk, chunk.scores, chunk.members)]
    expected = table.Table.size_bytes(members) + sum(each.__sizeof__() for each in lists)
    assert members.size_bytes() == pytest.approx(expected, rel=0.1, abs=600)


# ---- the row


@pytest.mark.parametrize("deadline_ms", [-1, 5000])
def test_a_set_is_rebuilt_by_commands_of_some_dozen_words(deadline_ms: int) -> None:
    members = made({b"m%d" % number: number / 8 for number in range(80)})  # as many as one chunk has
    commands = [list(argv) for argv in SORTED_SET.rebuild(b"k", members, deadline_ms)]
    assert commands[0] == [b"DEL", b"k"]
    assert commands[1][:6] == [b"ZADD", b"k", b"0", b"m0", b"0.125", b"m1"]
    assert max(map(len, commands)) <= 50
    assert (commands[-1] == [b"PEXPIREAT", b"k", b"5000"]) == (deadline_ms > 0)


@pytest.mark.parametrize(
    ("names", "encoding"),
    [([b"a"], b"listpack"), ([b"%d" % number for number in range(128)], b"listpack"), ([b"x" * 64], b"listpack"),
     ([b"x" * 65], b"skiplist"), ([b"%d" % number for number in range(129)], b"skiplist")],
)  # fmt: skip
def test_the_encoding_is_that_of_redis(names: list[bytes], encoding: bytes) -> None:
    assert SORTED_SET.encoding(made(dict.fromkeys(names, 1.0))) == encoding


# ---- algebra


SETS = st.lists(
    st.one_of(
        st.dictionaries(MEMBERS, SCORES, max_size=30),
        st.dictionaries(MEMBERS, st.none(), max_size=30),  # a plain set
    ),
    min_size=1,
    max_size=4,
)
WEIGHTS = st.lists(st.sampled_from([1.0, 1.0, 0.0, -2.0, 0.5, INF]), min_size=4, max_size=4)
AGGREGATES = {"sum": add, "min": smaller, "max": larger}


def sources_of(sets: list[dict[bytes, Any]], weights: list[float]) -> list[Source]:
    tables = [Set.of(each) if None in each.values() else made(each) for each in sets]
    return list(map(Source, tables, weights))


def exact(values: list[float], aggregate: str) -> float:
    """Aggregate scores that are all finite."""
    if aggregate == "sum":
        return float(sum(map(Fraction, values)))
    return min(values) if aggregate == "min" else max(values)


@settings(deadline=None)
@given(SETS, WEIGHTS, st.sampled_from(sorted(AGGREGATES)))
def test_union_and_intersection_are_those_of_plain_sets(
    sets: list[dict[bytes, Any]], weights: list[float], aggregate: str
) -> None:
    sources = sources_of(sets, weights)
    everywhere = set.intersection(*(set(each) for each in sets))
    anywhere = set().union(*sets)
    for names, result in (
        (anywhere, end(union(sources, AGGREGATES[aggregate]))),
        (everywhere, end(intersection(sources, AGGREGATES[aggregate]))),
    ):
        result.check()
        assert set(result) == names
        for name in names:
            pairs = zip(sets, weights, strict=False)
            values = [(1.0 if each[name] is None else each[name]) * weight for each, weight in pairs if name in each]
            # Of infinity times 0 Redis makes 0 in a union; in an intersection only where it comes first.
            if all(abs(value) < 1e100 for value in values):
                assert result.get(name) == exact(values, aggregate)
            else:
                assert not math.isnan(result.get(name))
    for limit in range(len(everywhere) + 2):
        assert end(count_common(sources, limit)) == min(limit or len(everywhere), len(everywhere))


@settings(deadline=None)
@given(SETS)
def test_a_difference_keeps_the_scores_of_the_first_set(sets: list[dict[bytes, Any]]) -> None:
    first, *others = sets
    expected = {
        name: 1.0 if score is None else score
        for name, score in first.items()
        if not any(name in other for other in others)
    }
    result = end(difference(sources_of(sets, [1.0] * 4)))
    result.check()
    assert dict(result.items()) == expected


def test_a_large_result_is_put_in_order_in_steps() -> None:
    sources = [Source(large(6000)), Source(large(9000), 2.0)]
    assert sum(1 for _ in union(sources, add)) > 90
    result = end(union(sources, add))
    result.check()
    assert len(result) == 9000


def test_a_small_set_and_a_large_one_are_combined_in_few_steps() -> None:
    small, huge = Source(made({b"member:7": 5.0, b"new": 1.0})), Source(large(20_000))
    before = listed(huge.table)  # type: ignore[arg-type]
    for steps in (union([huge, small], add), difference([huge, small])):
        assert sum(1 for _ in steps) < 5
    assert len(end(union([small, huge], larger))) == 20_001
    assert len(end(difference([huge, small]))) == 19_999
    assert listed(huge.table) == before  # type: ignore[arg-type]


def test_an_order_is_made_of_any_number_of_elements() -> None:
    for count in (0, 1, 1024, 1025, 5000):
        order = ScoreOrder([float(number) for number in range(count)], [b"%d" % number for number in range(count)])
        order.check()
        assert len(order) == count
