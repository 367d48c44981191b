"""The list of chunks, against a plain Python list."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from sys import getsizeof

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from soak import THOROUGHNESS
from tables import for_each

from values import chunks, lists
from values.chunks import elements_of
from values.lists import LIST, List

TINY = {"CHUNK": 4, "MOST_LOOSE": 6, "SMALL": 3, "SMALL_BYTES": 12, "MOST_PACKED_BYTES": 20}
elements = st.one_of(st.sampled_from([b"", b"a", b"b", b"s\x01\0\0\0a", b"x" * 9, b"y" * 300]), st.binary(max_size=4))
several = st.lists(elements, min_size=1, max_size=20)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Let a few elements be many."""
    for module in (chunks, lists):
        for name in TINY.keys() & vars(module).keys():
            patch.setattr(module, name, TINY[name])


@pytest.fixture(params=[True, False], ids=["tiny chunks", "chunks of the program"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        shrink(monkeypatch)


def finished(work: Iterator[None]) -> List:
    """Run work to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: List = end.value
            return found


class Pushed(RuleBasedStateMachine):
    """A list, what it should hold, and copies that should stay as they are."""

    tiny = True

    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        if self.tiny:
            shrink(self.patch)
        self.list, self.plain = List(), list[bytes]()
        self.copies: list[tuple[List, list[bytes]]] = []

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()

    def place(self, data: st.DataObject, more: int = 0) -> int:
        return data.draw(st.integers(0, len(self.plain) - 1 + more))

    @rule(pushed=several, times=st.sampled_from([1, 1, 1, 40]))
    def push_right(self, pushed: list[bytes], times: int) -> None:
        self.list.push_right(pushed * times)
        self.plain += pushed * times

    @rule(pushed=several, times=st.sampled_from([1, 1, 1, 40]))
    def push_left(self, pushed: list[bytes], times: int) -> None:
        self.list.push_left(pushed * times)
        self.plain[:0] = (pushed * times)[::-1]

    @precondition(lambda self: self.plain)
    @rule(times=st.integers(1, 30), left=st.booleans())
    def pop(self, times: int, left: bool) -> None:
        for _ in range(min(times, len(self.plain))):
            if left:
                assert self.list.pop_left() == self.plain.pop(0)
            else:
                assert self.list.pop_right() == self.plain.pop()
            self.list.check()

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), element=elements)
    def insert(self, data: st.DataObject, element: bytes) -> None:
        for _ in range(data.draw(st.integers(1, 8))):
            index = self.place(data)
            self.list.insert(index, element)
            self.plain.insert(index, element)

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), element=elements)
    def replace(self, data: st.DataObject, element: bytes) -> None:
        index = self.place(data)
        self.list[index] = element
        self.plain[index] = element

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, min(30, len(self.plain))))):
            index = self.place(data)
            del self.list[index], self.plain[index]
            self.list.check()

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        start, stop = self.place(data, 1), self.place(data, 1)
        dropped = self.list.trim(start, stop)
        gone = self.plain[:start] + self.plain[stop:] if start < stop else self.plain
        assert set(chain.from_iterable(map(elements_of, dropped))) <= set(gone)
        self.plain = self.plain[start:stop]

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        start, stop = self.place(data, 1), self.place(data, 1)
        assert self.list.between(start, stop) == self.plain[start:stop]
        if self.plain:
            index = self.place(data)
            assert self.list[index] == self.plain[index]
        assert list(reversed(self.list)) == self.plain[::-1]

    @rule(data=st.data(), backward=st.booleans())
    def search(self, data: st.DataObject, backward: bool) -> None:
        element = data.draw(st.one_of(elements, st.sampled_from(self.plain or [b""])))
        places = [index for index, each in enumerate(self.plain) if each == element]
        found = [index for index in self.list.search(element, backward) if index is not None]
        assert found == (places[::-1] if backward else places)

    @rule(data=st.data(), backward=st.booleans(), most=st.sampled_from([1, 2, 5, 1000]))
    def remove(self, data: st.DataObject, backward: bool, most: int) -> None:
        element = data.draw(st.one_of(elements, st.sampled_from(self.plain or [b""])))
        before = self.plain.copy()
        made = finished(self.list.without(element, most, backward))
        assert list(self.list) == before, "it makes another list"
        if backward:
            self.plain.reverse()
        while most and element in self.plain:
            self.plain.remove(element)
            most -= 1
        if backward:
            self.plain.reverse()
        self.list = made

    @rule(pushed=several, times=st.sampled_from([1, 40]), left=st.booleans())
    def join(self, pushed: list[bytes], times: int, left: bool) -> None:
        if left:
            self.list.join_left(List(pushed * times))
            self.plain[:0] = pushed * times
        else:
            self.list.join_right(List(pushed * times))
            self.plain += pushed * times

    @rule()
    def copy(self) -> None:
        self.copies.append((self.list, self.plain.copy()))
        self.list = self.list.copy()

    @rule()
    def free(self) -> None:
        copied = self.list.copy()
        while copied:
            known = len(copied)
            copied.free_some()
            copied.check()
            assert len(copied) < known
        copied.free_some()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "list"):
            return
        self.list.check()
        assert len(self.list) == len(self.plain)
        assert list(self.list) == self.plain
        for copied, plain in self.copies:
            assert list(copied) == plain
        assert self.list == List(self.plain)


class PushedInLargeChunks(Pushed):
    """The same with the limits of the program."""

    tiny = False


TestList = Pushed.TestCase
TestList.settings = settings(max_examples=25 * THOROUGHNESS, stateful_step_count=40)
TestListInLargeChunks = PushedInLargeChunks.TestCase
TestListInLargeChunks.settings = settings(max_examples=8 * THOROUGHNESS, stateful_step_count=40)


@for_each("count", [1, 5, 16, 17, 100, 1000])
@for_each("size", [0, 5, 100, 1000])
def test_the_size_is_what_the_list_takes(count: int, size: int) -> None:
    many = 100 if count < 1000 else 20  # lists, because a few bytes are of something else
    tracemalloc.start()
    made = [List(b"%0*d" % (size, number) if size else b"" for number in range(count)) for _ in range(many)]
    gc.collect()  # free lists of tuples are no part of it
    taken = sum(-(-trace.size // 16) * 16 for trace in tracemalloc.take_snapshot().traces)  # malloc's rounding
    tracemalloc.stop()
    if size == 0 and count > 16:
        return  # Python has one object for all empty strings
    assert sum(map(LIST.size_bytes, made)) == pytest.approx(taken, rel=0.1, abs=many * 32)


def test_a_list_of_a_few_short_elements_is_two_objects() -> None:
    assert LIST.size_bytes(List(b"elem%d" % number for number in range(5))) < 200
    assert getsizeof(List()) <= 64


def test_a_copy_of_a_million_shares_all_but_the_ends() -> None:
    made = List(b"%d" % number for number in range(100_000))
    copied = made.copy()
    assert all(mine is theirs for mine, theirs in zip(made.parts()[1:-1], copied.parts()[1:-1], strict=True))
    tracemalloc.start()
    held = made.copy()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 25 * len(made) / 100
    assert held == made
