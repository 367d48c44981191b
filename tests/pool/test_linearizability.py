"""The checker of linearizability itself: histories known to be good or bad, and a checker that tries every order."""

from __future__ import annotations

from itertools import combinations, permutations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linearizability import Impossible, Operation, State, Undecided, find_violation, step
from tables import for_each

REQUESTS = {"SET": 2, "GET": 1, "INCR": 1, "APPEND": 2}


def history(*lines: str) -> list[Operation]:
    """Read a history: `0-3 SET 1`, `1-2 GET -> 1`, `4-5 GET -> nil`; `0- INCR` has no reply."""
    return [read(line) for line in lines]


def read(line: str) -> Operation:
    times, name, *words = line.split()
    invoked, _, returned = times.partition("-")
    request = (name.encode(), *(word.encode() for word in words[: REQUESTS[name] - 1]))
    if not returned:
        return Operation(request, float(invoked))
    reply: bytes | int | None = b"OK"
    if "->" in words:
        text = words[-1]
        reply = None if text == "nil" else text.encode() if name == "GET" else int(text)
    return Operation(request, float(invoked), float(returned), reply)


GOOD = {
    "nothing": [],
    "one after the other": ["0-1 GET -> nil", "2-3 SET 1", "4-5 GET -> 1"],
    "a read beside a write sees it, or not": ["0-9 SET 1", "1-2 GET -> nil", "3-4 GET -> 1"],
    "two writes beside each other come in either order": ["0-9 SET 1", "0-9 SET 2", "10-11 GET -> 1"],
    "reads agree on an order of two writes": ["0-9 SET 1", "0-9 SET 2", "1-2 GET -> 2", "3-4 GET -> 1"],
    "a write without a reply never happened": ["0-1 SET 1", "2- SET 2", "3-4 GET -> 1"],
    "a write without a reply happened": ["0-1 SET 1", "2- SET 2", "3-4 GET -> 2"],
    "a write without a reply happens later": ["0-1 SET 1", "2- SET 2", "3-4 GET -> 1", "5-6 GET -> 2"],
    "a read without a reply says nothing": ["0- GET", "1-2 SET 1", "3-4 GET -> 1"],
    "counting": ["0-1 INCR -> 1", "2-3 INCR -> 2", "4-5 GET -> 2"],
    "counting beside each other": ["0-9 INCR -> 2", "0-9 INCR -> 1", "0-9 INCR -> 3"],
    "a count without a reply fills a gap": ["0- INCR", "1-2 INCR -> 1", "3-4 INCR -> 3"],
    "replies and requests of the same moment are beside each other": ["0-1 SET 1", "1-2 GET -> nil"],
    "appending": ["0-3 APPEND a -> 2", "1-4 APPEND b -> 1", "5-6 GET -> ba"],
}

BAD = {
    "a stale read": ["0-1 SET 1", "2-3 SET 2", "4-5 GET -> 1"],
    "a read that goes back": ["0-1 SET 1", "2-9 SET 2", "3-4 GET -> 2", "5-6 GET -> 1"],
    "reads that disagree on an order": ["0-1 SET 1", "0-1 SET 2", "2-3 GET -> 1", "4-5 GET -> 2"],
    "a lost write": ["0-1 SET 1", "2-3 GET -> nil"],
    "a lost update": ["0-3 INCR -> 1", "1-2 INCR -> 1"],
    "a lost count": ["0-1 INCR -> 1", "2-3 INCR -> 2", "4-5 GET -> 1"],
    "a write that was applied twice": ["0-1 INCR -> 1", "2-3 INCR -> 2", "4-5 GET -> 3"],
    "a write without a reply that was applied twice": ["0- INCR", "1-2 INCR -> 3"],
    "a repeated SET that undoes another": ["0- SET 1", "1-2 GET -> 1", "3-4 SET 2", "5-6 GET -> 1"],
    "a value that nobody wrote": ["0-1 SET 1", "2-3 GET -> 7"],
    "a value before it was asked for": ["0-1 GET -> 1", "2-3 SET 1"],
    "a write without a reply that was undone": ["0-1 SET 1", "2- SET 2", "3-4 GET -> 2", "5-6 GET -> 1"],
    "appended twice": ["0-1 APPEND a -> 1", "2-3 GET -> aa"],
}


@for_each("lines", GOOD.values(), ids=GOOD.keys())
def test_accepts(lines: list[str]) -> None:
    assert find_violation(history(*lines)) is None


@for_each("lines", BAD.values(), ids=BAD.keys())
def test_refuses(lines: list[str]) -> None:
    assert find_violation(history(*lines)) is not None


def test_names_the_operation_that_fits_nowhere_and_what_came_before() -> None:
    found = find_violation(history("0-1 SET 1", "2-3 SET 2", "4-5 GET -> 1"))
    assert found is not None
    assert "after 2 of 3" in found
    assert "fits never 4.000000-5.000000  GET -> b'1'" in found


def test_gives_up_rather_than_to_search_for_ever() -> None:
    values = [f"0-9 SET {number}" for number in range(12)]
    with pytest.raises(Undecided):
        find_violation(history(*values, "10-11 GET -> never"), most_steps=1000)


def test_many_operations_without_a_reply_do_not_make_it_slow() -> None:
    """Fifty clients that lost their connection at once: 2 ** 50 orders for a search that tries them all."""
    lost = [f"{number}- INCR" for number in range(50)]
    sets = [f"{number}- SET {number}" for number in range(50)]
    assert find_violation(history(*lost, "60-61 INCR -> 51", "62-63 GET -> 51")) is None
    assert find_violation(history(*lost, "60-61 INCR -> 52")) is not None
    assert find_violation(history(*sets, "60-61 GET -> 7", "62-63 GET -> nil")) is not None
    pieces = [f"{number}- APPEND {number}," for number in range(50)]
    assert find_violation(history(*pieces, "60-61 APPEND x -> 4", "62-63 GET -> 17,x")) is None
    assert find_violation(history(*pieces, "60-61 APPEND x -> 2", "62-63 GET -> 17,x")) is not None


def is_linearizable_by_trying_it_all(operations: list[Operation]) -> bool:
    """Judge as the definition says: every order of every choice of the operations without a reply."""
    known = [operation for operation in operations if operation.is_known]
    unknown = [operation for operation in operations if not operation.is_known]
    return any(
        fits(order)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*known, *chosen])
    )


def fits(order: tuple[Operation, ...]) -> bool:
    if any(later.returned < earlier.invoked for earlier, later in combinations(order, 2)):
        return False
    state: State = None
    for operation in order:
        try:
            state = step(state, operation)
        except Impossible:
            return False
    return True


MOMENTS = st.integers(0, 8)
ASKED = st.sampled_from(
    [(b"GET",), (b"GET",), (b"SET", b"1"), (b"SET", b"2"), (b"SET", b"3"), (b"INCR",), (b"APPEND", b"4")]
)


@st.composite
def real_histories(draw: st.DrawFn) -> list[Operation]:
    """Let a real register do operations at moments of their own, and tell each client what it answered, or nothing."""
    size = draw(st.integers(1, 5))
    asked = []
    for _ in range(size):
        first, moment, last = sorted(draw(st.tuples(MOMENTS, MOMENTS, MOMENTS)))
        asked.append((moment, draw(ASKED), first, last, draw(st.sampled_from(["yes", "yes", "yes", "lost", "never"]))))
    state: State = None
    seen = []
    for _, request, first, last, answered in sorted(asked, key=lambda row: row[0]):
        if answered == "never":
            seen.append(Operation(request, first))
            continue
        reply: bytes | int | None = state if request == (b"GET",) else b"OK"
        state = step(state, Operation(request, first))
        if request[0] in (b"INCR", b"APPEND"):
            assert state is not None
            reply = int(state) if request == (b"INCR",) else len(state)
        seen.append(Operation(request, first, last, reply) if answered == "yes" else Operation(request, first))
    return seen


@st.composite
def spoilt_histories(draw: st.DrawFn) -> list[Operation]:
    """Change what one or two clients of a real history saw, or when."""
    operations = draw(real_histories())
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(operations) - 1))
        old = operations[at]
        first, last = sorted(draw(st.tuples(MOMENTS, MOMENTS)))
        reply = old.reply
        if old.request == (b"GET",):
            reply = draw(st.sampled_from([None, b"1", b"2", b"3", b"4", b"14"]))
        elif old.request[0] in (b"INCR", b"APPEND"):
            reply = draw(st.integers(1, 4))
        operations[at] = Operation(old.request, first, last if old.is_known else inf, reply)
    return operations


@given(real_histories())
def test_accepts_what_a_real_register_answered(operations: list[Operation]) -> None:
    assert find_violation(operations) is None


@settings(max_examples=100)
@given(spoilt_histories())
def test_judges_as_one_that_tries_every_order(operations: list[Operation]) -> None:
    assert (find_violation(operations) is None) == is_linearizable_by_trying_it_all(operations)
