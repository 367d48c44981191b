"""Streams and consumer groups as values: their content against plain dicts, what copies share, their size, freeing."""

from __future__ import annotations

import gc
import tracemalloc
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tables import for_each

from replies import Block
from values import consumer_groups, stream_chunks, streams
from values.consumer_groups import UNKNOWN, Group, IdMap, Pending
from values.stream_chunks import MOST_ID, SEQUENCE_BITS, format_id
from values.streams import Stream

Fields = tuple[bytes, ...]
STEPS = st.sampled_from([1, 2, 3, 255, 1 << 16, 1 << SEQUENCE_BITS, 3 << SEQUENCE_BITS, 1 << 40 + SEQUENCE_BITS])
FIELDS = st.one_of(
    st.tuples(st.just(b"f"), st.binary(max_size=3)),
    st.tuples(st.just(b"f"), st.binary(max_size=3)),
    st.tuples(st.just(b"f"), st.binary(max_size=3), st.sampled_from([b"f", b"g"]), st.just(b"")),
    st.tuples(st.just(b"f"), st.just(b"x" * 5000)),
)
CHUNKS = streams.CHUNK, consumer_groups.CHUNK
NAMES = st.sampled_from([b"c", b"d", b"e"])


class Model:
    """What a stream should hold, in dicts."""

    def __init__(self) -> None:
        self.entries: dict[int, Fields] = {}
        self.last_id = self.added = self.max_deleted = 0
        self.groups: dict[bytes, dict[int, Pending]] = {}

    def copy(self) -> Model:
        copied = Model()
        copied.entries = dict(self.entries)
        copied.last_id, copied.added, copied.max_deleted = self.last_id, self.added, self.max_deleted
        copied.groups = {name: dict(pending) for name, pending in self.groups.items()}
        return copied


class Machine(RuleBasedStateMachine):
    """Some streams, copies of each other, and the model of each."""

    chunk = 4

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[Stream, Model]] = [(Stream(), Model())]

    @initialize()
    def make_chunks_small(self) -> None:
        streams.CHUNK = consumer_groups.CHUNK = self.chunk

    def teardown(self) -> None:
        streams.CHUNK, consumer_groups.CHUNK = CHUNKS

    def pick(self, which: int) -> tuple[Stream, Model]:
        return self.all[which % len(self.all)]

    @rule(which=st.integers(0, 2), added=st.lists(st.tuples(STEPS, FIELDS), min_size=1, max_size=12))
    def append(self, which: int, added: list[tuple[int, Fields]]) -> None:
        stream, model = self.pick(which)
        for step, fields in added:
            if model.last_id + step > MOST_ID:
                return
            model.last_id += step
            model.added += 1
            model.entries[model.last_id] = fields
            stream.append(model.last_id, fields)

    @rule(which=st.integers(0, 2), places=st.lists(st.integers(0, 40), max_size=12), other=st.integers(0, 10))
    def delete(self, which: int, places: list[int], other: int) -> None:
        stream, model = self.pick(which)
        ids = list(model.entries)
        chosen = [ids[place % len(ids)] for place in places if ids] + [other, MOST_ID]
        there = sorted(set(chosen) & model.entries.keys())
        assert stream.delete(chosen) == there
        for entry_id in there:
            del model.entries[entry_id]
            model.max_deleted = max(model.max_deleted, entry_id)

    @rule(which=st.integers(0, 2), excess=st.integers(0, 20))
    def trim(self, which: int, excess: int) -> None:
        stream, model = self.pick(which)
        excess = min(excess, len(model.entries))
        stream.trim(excess)
        for entry_id in list(model.entries)[:excess]:
            del model.entries[entry_id]

    @rule(which=st.integers(0, 2), first=st.integers(0, 40), last=st.integers(0, 40), shift=st.integers(-1, 1))
    def read_a_range(self, which: int, first: int, last: int, shift: int) -> None:
        stream, model = self.pick(which)
        shown = [0, *model.entries, MOST_ID]
        start, end = shown[first % len(shown)] + shift, shown[last % len(shown)]
        expected = [(entry_id, fields) for entry_id, fields in model.entries.items() if start <= entry_id <= end]
        assert list(stream.entries(start, end)) == expected
        assert list(stream.entries(start, end, is_reverse=True)) == expected[::-1]
        for is_reverse in (False, True):
            blocks = stream.blocks(start, end, stream.length, is_reverse)
            found = [entry for block in blocks for entry in block.entries()]
            some = stream.blocks(start, end, last, is_reverse)
            assert list(chain.from_iterable(map(Block.entries, some))) == found[:last]
            spelled = [(format_id(entry_id), fields) for entry_id, fields in expected]
            assert found == (spelled[::-1] if is_reverse else spelled)
            spans, size = stream.spans(start, end, last, is_reverse)
            assert [entry for span in spans for entry in stream.read_span(span, is_reverse)] == found[:last]
            assert size == min(last, len(found))
        assert stream.find([start, end]) == {
            each: model.entries[each] for each in (start, end) if each in model.entries
        }
        assert stream.count_below(start) == bisect_left(list(model.entries), start)

    @rule(which=st.integers(0, 2))
    def copy(self, which: int) -> None:
        if len(self.all) < 3:
            stream, model = self.pick(which)
            copied = stream.copy()
            assert copied == stream
            self.all.append((copied, model.copy()))

    @rule(which=st.integers(0, 2))
    def free(self, which: int) -> None:
        if which < len(self.all) > 1:
            stream, _ = self.all.pop(which)
            while stream:
                known = len(stream) + len(stream.groups)
                stream.free_some()
                assert known - len(stream) <= max(self.chunk * streams.FREED_CHUNKS, 20)

    # ---- groups

    @rule(which=st.integers(0, 2), name=st.sampled_from([b"g", b"h"]))
    def add_or_remove_group(self, which: int, name: bytes) -> None:
        stream, model = self.pick(which)
        if name in model.groups:
            group = stream.remove_group(name)
            assert isinstance(group, Group)
            while group:
                group.free_some()
            del model.groups[name]
        else:
            stream.add_group(name, 0, UNKNOWN)
            model.groups[name] = {}

    @rule(which=st.integers(0, 2), name=NAMES, ids=st.lists(st.integers(0, 60), max_size=20), count=st.integers(1, 3))
    def deliver(self, which: int, name: bytes, ids: list[int], count: int) -> None:
        stream, model = self.pick(which)
        for group_name, pending in model.groups.items():
            group = stream.groups[group_name]
            group.consumer(name, 5)
            for entry_id in ids:
                pending[entry_id] = Pending(name, 7, count)
                group.deliver(entry_id, pending[entry_id])

    @rule(which=st.integers(0, 2), ids=st.lists(st.integers(0, 60), max_size=20))
    def acknowledge(self, which: int, ids: list[int]) -> None:
        stream, model = self.pick(which)
        for group_name, pending in model.groups.items():
            for entry_id in ids:
                was_there = pending.pop(entry_id, None) is not None
                assert stream.groups[group_name].acknowledge(entry_id) is was_there

    @rule(which=st.integers(0, 2), name=NAMES)
    def remove_consumer(self, which: int, name: bytes) -> None:
        stream, model = self.pick(which)
        for group_name, pending in model.groups.items():
            if name in stream.groups[group_name].consumers:
                stream.groups[group_name].remove_consumer(name)
            for entry_id in [each for each, record in pending.items() if record.consumer == name]:
                del pending[entry_id]

    @invariant()
    def all_hold_what_they_should(self) -> None:
        for stream, model in self.all:
            stream.check()
            assert list(stream.entries()) == list(model.entries.items())
            assert stream.length == len(model.entries)
            assert stream.first_id() == min(model.entries, default=0)
            assert stream.newest_id() == max(model.entries, default=0)
            assert (stream.last_id, stream.entries_added) == (model.last_id, model.added)
            assert stream.max_deleted_id == model.max_deleted
            assert stream.groups.keys() == model.groups.keys()
            for name, pending in model.groups.items():
                assert list(stream.groups[name].pending.items()) == sorted(pending.items())
                for consumer_name, consumer in stream.groups[name].consumers.items():
                    own = sorted(each for each, record in pending.items() if record.consumer == consumer_name)
                    assert [entry_id for entry_id, _ in consumer.pending.items()] == own


class LargeChunks(Machine):
    """The same with chunks as they are."""

    chunk = 64

    @initialize(count=st.integers(100, 300), size=st.sampled_from([0, 3, 3000]))
    def fill(self, count: int, size: int) -> None:
        self.append(0, [(1 + number % 3, (b"f", bytes(size))) for number in range(count)])


TestSmallChunks = Machine.TestCase
TestSmallChunks.settings = settings(max_examples=150, stateful_step_count=40)
TestLargeChunks = LargeChunks.TestCase
TestLargeChunks.settings = settings(max_examples=20, stateful_step_count=20)


# ---- parts


def filled(count: int, fields: Fields = (b"field1", b"value", b"field2", b"value"), step: int = 1) -> Stream:
    stream = Stream()
    for number in range(count):
        stream.append((1_700_000_000_000 + number // 10) << SEQUENCE_BITS | (number % 10) * step, fields)
    return stream


@for_each(
    "rows",
    [
        [(b"f", b"v")] * 3,
        [(b"f", b"v", b"f", b"w")] * 3,
        [(b"f", b"1"), (b"g", b"2"), (b"f", b"3")],
        [(b"f", b"1"), (b"f", b"2", b"g", b"3")],
        [(b"f", b"x" * 3000)] * 2,
        [(b"", b"")],
    ],
)
@for_each("ids", [[1, 2, 3], [5 << 64, 5 << 64 | 2**64 - 1, 9 << 64], [2**127, 2**127 + 1, MOST_ID]])
def test_a_sealed_chunk_holds_what_was_put_in(rows: list[Fields], ids: list[int]) -> None:
    ids = ids[: len(rows)]
    chunk = stream_chunks.pack(ids, rows, sum(map(stream_chunks.open_bytes_of, rows)))
    unpacked = stream_chunks.unpack(chunk) if isinstance(chunk, bytes) else chunk
    assert (list(unpacked[0]), list(unpacked[1])) == (ids, rows)


def test_ids_are_written_as_in_redis() -> None:
    assert format_id(5 << 64 | 3) == b"5-3"
    assert format_id(MOST_ID) == b"18446744073709551615-18446744073709551615"


def test_the_next_id_is_of_now_or_follows_the_last() -> None:
    stream = Stream()
    assert format_id(stream.next_id(7)) == b"7-0"
    stream.append(7 << 64, (b"f", b"v"))
    assert format_id(stream.next_id(7)) == b"7-1"
    assert format_id(stream.next_id(6)) == b"7-1"
    assert format_id(stream.next_id(8)) == b"8-0"
    stream.last_id = 7 << 64 | stream_chunks.MOST_SEQUENCE
    assert format_id(stream.next_id(7)) == b"8-0"


def test_a_copy_shares_chunks_and_pending_entries() -> None:
    stream = filled(10_000)
    group = stream.add_group(b"g", 0, 0)
    group.consumer(b"c", 0)
    for entry_id, _ in stream.entries():
        group.deliver(entry_id, Pending(b"c", 1, 1))
    copied = stream.copy()
    assert all(mine is theirs for mine, theirs in zip(stream._chunks, copied._chunks, strict=True))
    chunks = group.pending._chunks
    assert all(mine is theirs for mine, theirs in zip(chunks, copied.groups[b"g"].pending._chunks, strict=True))
    group.acknowledge(stream.first_id())
    assert (
        sum(mine is not theirs for mine, theirs in zip(chunks, copied.groups[b"g"].pending._chunks, strict=True)) == 1
    )
    assert len(copied.groups[b"g"].pending) == 10_000
    stream.check()
    copied.check()


def test_trimming_one_entry_at_a_time_unpacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = filled(1000)
    monkeypatch.setattr(streams, "unpack", None)
    monkeypatch.setattr(streams, "pack", None)
    for _ in range(500):
        stream.trim(1)
    monkeypatch.undo()
    stream.check()
    assert stream.length == 500


@pytest.mark.parametrize("group_count", [0, 3])
def test_a_large_stream_is_freed_in_small_steps(group_count: int) -> None:
    stream = filled(5000)
    for number in range(group_count):
        group = stream.add_group(b"g%d" % number, 0, 0)
        for name in (b"c", b"d", b"e"):
            group.consumer(name, 0)
        for place, (entry_id, _) in enumerate(stream.entries()):
            group.deliver(entry_id, Pending(b"cde"[place % 3 : place % 3 + 1], 1, 1))
    steps = 0
    while stream:
        known = len(stream)
        stream.free_some()
        assert known - len(stream) <= 64 * streams.FREED_CHUNKS
        steps += 1
    assert steps < 200


def made_of(kind: str) -> Iterator[Any]:
    """Make a stream of many entries, or of many pending ones, step by step."""
    fields = {
        "short": (b"f", b"1"),
        "usual": (b"field1", b"value", b"field2", b"value"),
        "long": (b"field", bytes(300)),
        "huge": (b"field", bytes(20_000)),
    }.get(kind, (b"f", b"1"))
    stream = Stream()
    yield stream
    count = 100 if kind == "huge" else 6_000
    group = stream.add_group(b"g", 0, 0)
    group.consumer(b"c", 0)
    for number in range(count):
        entry_id = (1_700_000_000_000 + number) << SEQUENCE_BITS
        own = tuple(bytes(bytearray(word)) for word in fields)  # no object is shared, as in requests
        if kind == "pending":
            group.deliver(entry_id, Pending(b"c", 1_700_000_000_000, 1))
        else:
            stream.append(entry_id, own)


@pytest.mark.parametrize("kind", ["short", "usual", "long", "huge", "pending"])
def test_the_size_is_what_the_process_takes(kind: str) -> None:
    steps = made_of(kind)
    gc.collect()
    tracemalloc.start()
    stream = next(steps)
    known_bytes = stream.size_bytes()
    for _ in steps:
        pass
    gc.collect()  # free lists of tuples are no part of it
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stream.size_bytes() - known_bytes == pytest.approx(taken_bytes, rel=0.1)


def test_the_size_of_an_open_chunk_is_right_too() -> None:
    gc.collect()
    tracemalloc.start()
    many = []
    for _ in range(40):
        stream = Stream()
        for number in range(50):
            stream.append(number << SEQUENCE_BITS, tuple(bytes(bytearray(b"word%d" % place)) for place in range(4)))
        many.append(stream)
    gc.collect()  # free lists of tuples are no part of it
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(stream.size_bytes() for stream in many) == pytest.approx(taken_bytes, rel=0.1)


# ---- maps by ID


def test_a_map_by_id_is_in_order_whatever_the_order_of_adding() -> None:
    made = IdMap()
    ids = [(number * 7919) % 5003 for number in range(5003)]
    for entry_id in ids:
        made.put(entry_id, -entry_id)
    made.check()
    assert list(made.items()) == [(each, -each) for each in range(5003)]
    assert list(made.items(4999)) == [(each, -each) for each in range(4999, 5003)]
    assert (made.first(), made.last()) == (0, 5002)
    for entry_id in ids[:5000]:
        assert made.pop(entry_id) == -entry_id
        assert made.pop(entry_id) is None
    made.check()
    assert [each for each, _ in made.items()] == sorted(ids[5000:])
