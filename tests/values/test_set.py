"""Sets against plain sets of Python: members, algebra, chance; and what OBJECT ENCODING says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from itertools import combinations
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tables import for_each

from values import sets, table
from values.entry import NO_DEADLINE
from values.sets import (
    SET_TYPE,
    Set,
    count_common,
    difference,
    distinct,
    intersection,
    rebuild,
    repeated,
    union,
)
from values.table import Table

T = TypeVar("T")
MEMBERS = st.one_of(
    st.integers(0, 40).map(lambda number: b"%d" % number), st.just(b""), st.binary(max_size=2), st.just(b"x" * 65)
)
WHICH = st.integers(0, 3)


def result_of(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


class Machine(RuleBasedStateMachine):
    """Some sets, and what each should hold. The limits of the forms are small, so that all forms are met."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(table, "CAP", 8)
        self.patch.setattr(table, "PACKED_ENTRIES", 4)
        self.patch.setattr(sets, "PART_MEMBERS", 3)  # also the size from which a set that comes twice is known
        self.made = [Set(), Set(), Set(), Set()]
        self.models: list[set[bytes]] = [set(), set(), set(), set()]

    @initialize(few_sets=st.sampled_from([2, 2048]))
    def start(self, few_sets: int) -> None:
        self.patch.setattr(sets, "FEW_SETS", few_sets)

    def teardown(self) -> None:
        self.patch.undo()

    @rule(which=WHICH, member=MEMBERS)
    def add(self, which: int, member: bytes) -> None:
        assert self.made[which].add(member) is (member not in self.models[which])
        self.models[which].add(member)

    @rule(which=WHICH, members=st.lists(MEMBERS, max_size=30))
    def add_all(self, which: int, members: list[bytes]) -> None:
        added = [member for member in dict.fromkeys(members) if member not in self.models[which]]
        assert self.made[which].add_all(members) == added
        self.models[which].update(members)

    @rule(which=WHICH, member=MEMBERS)
    def discard(self, which: int, member: bytes) -> None:
        assert self.made[which].discard(member) is (member in self.models[which])
        self.models[which].discard(member)

    @rule(which=WHICH, seed=st.integers(0, 99), count=st.integers(1, 9))
    def pop(self, which: int, seed: int, count: int) -> None:
        made, model, random = self.made[which], self.models[which], Random(seed)
        twin = Set.of(made)  # one that was rebuilt chooses the same members
        for _ in range(min(count, len(made))):
            state = random.getstate()
            member = made.random_member(random)
            random.setstate(state)
            assert twin.pop_random(random) == member
            assert made.discard(member)
            assert member not in twin
            model.remove(member)
        assert made == twin

    @rule(source=WHICH, into=WHICH)
    def copy(self, source: int, into: int) -> None:
        self.made[into] = self.made[source].copy()
        self.models[into] = set(self.models[source])

    @rule(chosen=st.lists(WHICH, min_size=1, max_size=4), into=WHICH, limit=st.integers(0, 5))
    def combine(self, chosen: list[int], into: int, limit: int) -> None:
        made, models = [self.made[which] for which in chosen], [self.models[which] for which in chosen]
        first, *others = models
        expected: list[tuple[Callable[[Sequence[Set]], Any], set[bytes]]] = [
            (union, first.union(*others)),
            (intersection, first.intersection(*others)),
            (difference, first.difference(*others)),
        ]
        for operation, members in expected:
            result: Set = result_of(operation(made))
            result.check()
            assert sorted(result) == sorted(members), operation
            assert result == Set.of(result), "it goes on like one that was rebuilt"
        common = len(expected[1][1])
        assert result_of(count_common(made, limit)) == (min(limit, common) if limit else common)
        self.made[into], self.models[into] = result, expected[2][1]

    @rule(which=WHICH, count=st.integers(0, 30), seed=st.integers(0, 99))
    def choose(self, which: int, count: int, seed: int) -> None:
        made, model = self.made[which], self.models[which]
        some = [member for part in distinct(made, min(count, len(made)), Random(seed)) for member in part]
        assert len(some) == len(set(some)) == min(count, len(model))
        assert model.issuperset(some)
        if made:
            some = [member for part in repeated(made, count, Random(seed)) for member in part]
            assert len(some) == count
            assert model.issuperset(some)

    @invariant()
    def they_hold_what_they_should(self) -> None:
        for made, model in zip(self.made, self.models, strict=True):
            made.check()
            assert len(made) == len(model)
            assert sorted(made) == sorted(model)
            assert b"".join(b"".join(part) for part in made.parts()) == b"".join(made)
            assert all(member in made for member in model)
            commands = list(rebuild(b"k", made, NO_DEADLINE))
            assert [member for argv in commands[1:] for member in argv[2:]] == list(made)


TestSets = Machine.TestCase
TestSets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# ---- chance

CHI_SQUARED = {9: 27.9, 99: 148.2, 499: 603.0}  # degrees of freedom -> exceeded by chance once in a thousand


def is_uniform(counts: Counter[Any], choices: int) -> bool:
    """Return True if the counts of so many choices agree with the same probability for each."""
    expected = counts.total() / choices
    assert expected >= 5
    squares = sum((count - expected) ** 2 for count in counts.values()) + (choices - len(counts)) * expected**2
    return squares / expected < CHI_SQUARED[choices - 1]


@pytest.mark.parametrize("size", [10, 100, 500])  # packed, a dict, chunks
def test_each_member_is_equally_likely_to_be_chosen(size: int) -> None:
    members, random = Set.of(b"member%d" % number for number in range(size)), Random(1)
    assert is_uniform(Counter(members.random_member(random) for _ in range(40 * size)), size)


def test_each_member_is_equally_likely_to_be_chosen_after_most_were_removed() -> None:
    members, random = Set.of(b"member%d" % number for number in range(5000)), Random(2)
    for number in range(4500):
        members.discard(b"member%d" % number)
    assert is_uniform(Counter(members.random_member(random) for _ in range(40 * 500)), 500)


@pytest.mark.parametrize(("size", "count"), [(100, 20), (100, 70), (500, 100), (500, 499)])
def test_each_member_is_equally_likely_to_be_among_several(size: int, count: int) -> None:
    members, random = Set.of(b"member%d" % number for number in range(size)), Random(3)
    chosen = Counter(member for _ in range(200) for part in distinct(members, count, random) for member in part)
    assert chosen.total() == 200 * count
    # The counts of drawings without a repetition vary less: by the part that is not drawn.
    expected = chosen.total() / size
    squares = sum((chosen[member] - expected) ** 2 for member in members) / expected
    assert squares / (1 - count / size) < CHI_SQUARED[size - 1]


@pytest.mark.parametrize("count", [2, 3])
def test_each_choice_of_several_members_is_equally_likely(count: int) -> None:
    members, random = Set.of([b"a", b"b", b"c", b"d", b"e"]), Random(4)
    chosen = Counter(
        tuple(sorted(member for part in distinct(members, count, random) for member in part)) for _ in range(2000)
    )
    assert set(chosen) == set(combinations(sorted(members), count))
    assert is_uniform(chosen, 10)


# ---- the row

ENCODINGS = [
    ([b"1"], b"intset"),
    ([b"%d" % number for number in range(512)], b"intset"),
    ([b"%d" % number for number in range(513)], b"hashtable"),
    ([b"9223372036854775807", b"-9223372036854775808"], b"intset"),
    ([b"9223372036854775808"], b"listpack"),
    ([b"1", b"01"], b"listpack"),
    ([b""], b"listpack"),
    ([b"a%d" % number for number in range(128)], b"listpack"),
    ([b"a%d" % number for number in range(129)], b"hashtable"),
    ([*(b"%d" % number for number in range(128)), b"a"], b"hashtable"),
    ([b"x" * 64], b"listpack"),
    ([b"x" * 65], b"hashtable"),
]


@for_each(("members", "encoding"), ENCODINGS)
def test_the_encoding_is_that_of_redis_7_2(members: list[bytes], encoding: bytes) -> None:
    assert SET_TYPE.encoding(Set.of(members)) == encoding


@pytest.mark.parametrize("size", [5, 100, 3000])
def test_a_copy_of_a_set_is_independent(size: int) -> None:
    made = Set.of(b"member%d" % number for number in range(size))
    copied = made.copy()
    made.discard(b"member1")
    copied.add(b"new")
    assert (b"member1" in made, b"member1" in copied) == (False, True)
    assert (b"new" in made, b"new" in copied) == (False, True)
    for each in (made, copied):
        each.check()


@for_each(
    ("members", "is_shorter"),
    [
        ([b"0", b"7", b"300", b"70000", b"9223372036854775807"], True),
        ([b"1", b"2", b"x"], False),
        ([b"1", b"007"], False),
        ([b"1", b"-2"], False),
        ([b"1", b""], False),
        ([b"1", "\N{SUPERSCRIPT TWO}".encode()], False),
    ],
)
def test_a_small_set_of_integers_is_packed_as_numbers(members: list[bytes], is_shorter: bool) -> None:
    found, texts = Set.of(members), Table(dict.fromkeys(members).items())
    assert list(found) == members
    assert all(member in found for member in members)
    assert (found.size_bytes() < texts.size_bytes()) == is_shorter
    while members:  # whatever remains has the form of a set that was made so
        found.discard(members.pop())
        assert found == Set.of(members)
        assert found.size_bytes() == Set.of(members).size_bytes()
