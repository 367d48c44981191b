"""Judges whether what clients saw can have come from one single copy of each key: a checker of linearizability.

A history is linearizable if each operation can be given one moment between its request and its reply, such that the
operations, done one after the other at these moments, give just the replies that were seen:

    A   |---- SET 1 ----|
    B          |-- GET -> 1 --|                     yes: A's moment, then B's
    C                            |-- GET -> nil --|     never: B saw 1, and B was over when C began
    D      |---- SET 2 - - - - - - - - - - - - - -      no reply: it has its moment at any time later, or never

It owns the model of a key (`step`) and the search. Keys are independent of each other, so a history is judged key by
key; who asks for several keys at once records them as one. It knows no clients and no clock: times are numbers.

The search is Wing and Gong's with what Lowe added, as in Porcupine: requests and replies in the order of time; try the
requests before the first reply, one after the other, take out the one that fits, and begin again; a reply that is come
upon means that its operation cannot be put off, so go one step back. A set of operations that are done, with the state
that they left, is tried only once. What has no reply would double that with each such operation; two rules prevent it:
of those that ask for the same, the first goes first; and what nobody saw, though somebody looked, never happened.

Porcupine itself is in Go, Knossos in Clojure, and PyPI has neither one like them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

MOST_STEPS = 5_000_000

State = bytes | None
Reply = bytes | int | None


@dataclass(frozen=True)
class Operation:
    """What a client asked of one key, and what it saw. Without a reply, `returned` is inf."""

    request: tuple[bytes, ...]  # without the key: (b"SET", b"1")
    invoked: float
    returned: float = inf
    reply: Reply = None
    client: str = ""

    @property
    def is_known(self) -> bool:
        """Return True if there was a reply, so that it surely was done."""
        return self.returned != inf

    def __str__(self) -> str:
        asked = b" ".join(self.request).decode(errors="replace")
        seen = f"-> {self.reply!r}" if self.is_known else "(no reply)"
        return f"{self.invoked:.6f}-{self.returned:.6f} {self.client} {asked} {seen}"


class Undecided(Exception):
    """The search was given up."""


class Impossible(Exception):
    """An operation would have been answered otherwise."""


def step(state: State, operation: Operation) -> State:
    """Return what a key holds after an operation; raise Impossible if that would have been answered otherwise."""
    after: State
    reply: Reply
    match operation.request:
        case (b"GET",):
            after = reply = state
        case (b"SET", value):
            after, reply = value, b"OK"
        case (b"INCR",):
            number = int(state or 0) + 1
            after, reply = b"%d" % number, number
        case (b"APPEND", piece):
            after = (state or b"") + piece
            reply = len(after)
        case _:
            raise ValueError(f"no model of {operation.request}")
    if operation.is_known and reply != operation.reply:
        raise Impossible
    return after


def find_violation(history: Iterable[Operation], most_steps: int = MOST_STEPS) -> str | None:
    """Judge the history of one key; None if it is linearizable, else what could not be put into any order."""
    search = _Search(_that_matter(list(history)))
    return None if search.run(most_steps) else search.explain()


def _that_matter(history: Sequence[Operation]) -> list[Operation]:
    """Leave out what says nothing: reads without a reply, and writes without one that no read shows."""
    reads = [operation for operation in history if operation.is_known and operation.request == (b"GET",)]
    values = {operation.reply for operation in reads if isinstance(operation.reply, bytes)}
    names = {operation.request[0] for operation in history}

    def matters(operation: Operation) -> bool:
        if operation.is_known:
            return True
        if names <= {b"GET", b"SET"}:
            return len(operation.request) == 2 and operation.request[1] in values
        if names <= {b"GET", b"APPEND"} and _ends_with_a_read(history, reads):  # which shows all that was appended
            return len(operation.request) == 2 and any(operation.request[1] in value for value in values)
        return operation.request != (b"GET",)

    return sorted(filter(matters, history), key=lambda operation: operation.invoked)


def _ends_with_a_read(history: Sequence[Operation], reads: Sequence[Operation]) -> bool:
    last_write = max((each.returned for each in history if each.is_known and each.request != (b"GET",)), default=-inf)
    return any(read.invoked > last_write for read in reads)


class _Search:
    """The events of a history in a doubly linked list of numbers, from which operations are taken out and put back.

    Event i < n is the request of operation i, event n + i its reply, and event 2n is both ends of the list.
    """

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        n = len(operations)
        times = [(operation.invoked, 0, index) for index, operation in enumerate(operations)]
        times += [
            (operation.returned, 1, n + index) for index, operation in enumerate(operations) if operation.is_known
        ]
        order = [event for _, _, event in sorted(times)]
        self.end = 2 * n
        self.after = [self.end] * (2 * n + 1)
        self.before = [self.end] * (2 * n + 1)
        for left, right in zip([self.end, *order], [*order, self.end], strict=True):
            self.after[left], self.before[right] = right, left
        self.twins = self._find_twins()
        self.most_done: list[int] = []  # in the longest order that was found
        self.stuck_at: Operation | None = None

    def _find_twins(self) -> list[int]:
        """Find for each operation without a reply the last such one before that asks for the same, as a bit."""
        last: dict[tuple[bytes, ...], int] = {}
        twins = []
        for index, operation in enumerate(self.operations):
            twins.append(0 if operation.is_known else last.get(operation.request, 0))
            if not operation.is_known:
                last[operation.request] = 1 << index
        return twins

    def run(self, most_steps: int) -> bool:
        """Search for an order of all operations with a reply."""
        n = len(self.operations)
        missing = sum(operation.is_known for operation in self.operations)
        state: State = None
        done = 0
        path: list[tuple[int, State]] = []
        tried: set[tuple[int, State]] = set()
        event = self.after[self.end]
        while missing:
            most_steps -= 1
            if most_steps < 0:
                raise Undecided(self.explain())
            if event < n:
                taken = self._try(event, done, state)
                if taken is not None and taken not in tried:
                    tried.add(taken)
                    path.append((event, state))
                    done, state = taken
                    missing -= self.operations[event].is_known
                    self._take_out(event)
                    event = self.after[self.end]
                else:
                    event = self.after[event]
                continue
            if len(path) >= len(self.most_done):
                self.most_done = [index for index, _ in path]
                self.stuck_at = self.operations[event - n]
            if not path:
                return False
            event, state = path.pop()
            done ^= 1 << event
            missing += self.operations[event].is_known
            self._put_back(event)
            event = self.after[event]
        return True

    def _try(self, index: int, done: int, state: State) -> tuple[int, State] | None:
        twin = self.twins[index]
        if twin and not done & twin:
            return None
        try:
            return done | 1 << index, step(state, self.operations[index])
        except Impossible:
            return None

    def _events(self, index: int) -> tuple[int, ...]:
        return (index, len(self.operations) + index) if self.operations[index].is_known else (index,)

    def _take_out(self, index: int) -> None:
        for event in self._events(index):
            self.after[self.before[event]] = self.after[event]
            self.before[self.after[event]] = self.before[event]

    def _put_back(self, index: int) -> None:
        for event in reversed(self._events(index)):
            self.after[self.before[event]] = event
            self.before[self.after[event]] = event

    def explain(self) -> str:
        """Say which operation fits nowhere, after the longest order that was found, and what else was going on."""
        last = [f"  done       {self.operations[index]}" for index in self.most_done[-5:]]
        stuck = self.stuck_at
        assert stuck is not None
        done = set(self.most_done)
        others = [
            f"  open       {operation}"
            for index, operation in enumerate(self.operations)
            if index not in done and operation is not stuck and operation.invoked <= stuck.returned
        ]
        return "\n".join(
            [f"after {len(done)} of {len(self.operations)}:", *last, f"  fits never {stuck}", *others[:10]]
        )
