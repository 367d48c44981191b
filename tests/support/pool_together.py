"""Clients of a pool that act together, beside those of `pool_load`: a queue with its workers, and transfers.

    producer   LPUSH queue job                               each job is pushed once
    worker     BLMOVE queue processing:n …, then LREM        what it was given and has not acknowledged it finds again
    payer      WATCH two accounts, GET both, MULTI … EXEC    balances and a token in its journal change as one
    auditor    MULTI, GET of all accounts, EXEC              the balances always sum up to nothing

A worker whose BLMOVE got no reply looks into its own list, as a worker that was restarted does. Whatever happens, each
job that was acknowledged is in exactly one place: queued, being processed, or done. The journals say which transfers
were made, and so what each balance must be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any, Protocol

import hiredis

ACCOUNTS = [b"account:%d" % number for number in range(4)]
PRODUCERS, WORKERS, PAYERS, AUDITORS = 3, 4, 4, 1
REFUSALS = ("POOLDOWN", "POOLSTALE", "LOADING", "EXECABORT")  # it was not done
TOKEN = re.compile(rb"(\d+)>(\d+):(\d+)#[^,]*")

Found = Mapping[bytes, tuple[Any, float]]  # key -> value, deadline


class Connection(Protocol):
    def ask(self, *words: bytes) -> Any: ...


class Uncertain(Exception):
    """A request was refused, or nobody knows what became of it."""


@dataclass
class Notes:
    """What all of these clients saw."""

    acknowledged: Callable[[], None]  # a write was
    refused: Callable[[str], None]
    pushed: set[bytes] = field(default_factory=set)  # jobs that were acknowledged
    pushed_perhaps: set[bytes] = field(default_factory=set)
    given: Counter[bytes] = field(default_factory=Counter)  # by a reply to BLMOVE, or found after one without a reply
    owner: dict[bytes, int] = field(default_factory=dict)  # the worker that was given a job
    done: set[bytes] = field(default_factory=set)
    done_perhaps: set[bytes] = field(default_factory=set)  # LREM was sent
    transfers: set[bytes] = field(default_factory=set)  # tokens of those that were acknowledged
    transfers_perhaps: set[bytes] = field(default_factory=set)
    conflicts: int = 0
    audits: int = 0
    faults: list[str] = field(default_factory=list)


class _Client:
    def __init__(self, number: int, notes: Notes, random: Random) -> None:
        self.number = number
        self.notes = notes
        self.random = random
        self.made = 0

    def ask(self, connection: Connection, *words: bytes) -> Any:
        """Ask, and return the reply; raise Uncertain for an error that a pool in trouble may give."""
        reply = connection.ask(*words)
        if isinstance(reply, hiredis.ReplyError):
            code = str(reply).partition(" ")[0]
            if code in REFUSALS:
                self.notes.refused(code)
            elif code != "POOLUNKNOWN":
                self.notes.faults.append(f"{words[0]!r} of {self.number} got {reply}")
            raise Uncertain(code)
        return reply


class Producer(_Client):
    """Pushes jobs, each once."""

    def do_one(self, connection: Connection) -> None:
        self.made += 1
        job = b"%d.%d" % (self.number, self.made)
        self.notes.pushed_perhaps.add(job)
        try:
            self.ask(connection, b"LPUSH", b"queue", job)
        except Uncertain as error:
            if str(error) in REFUSALS:
                self.notes.pushed_perhaps.discard(job)
            return
        self.notes.acknowledged()
        self.notes.pushed.add(job)


class Worker(_Client):
    """Takes a job and acknowledges it."""

    looks_back = False  # it does not know what is in its list

    def do_one(self, connection: Connection) -> None:
        processing = b"processing:%d" % self.number
        looked_back, self.looks_back = self.looks_back, True
        try:
            if looked_back:
                jobs = self.ask(connection, b"LRANGE", processing, b"0", b"-1")
                for job in jobs:
                    self.notes.given[job] += job not in self.notes.given
            else:
                job = self.ask(connection, b"BLMOVE", b"queue", processing, b"RIGHT", b"LEFT", b"0.5")
                jobs = [] if job is None else [job]
                self.notes.given.update(jobs)
            for job in jobs:
                self.acknowledge(connection, processing, job)
        except Uncertain:
            return
        self.looks_back = False

    def acknowledge(self, connection: Connection, processing: bytes, job: bytes) -> None:
        if self.notes.owner.setdefault(job, self.number) != self.number:
            self.notes.faults.append(f"job {job!r} was given to workers {self.notes.owner[job]} and {self.number}")
        again = job in self.notes.done_perhaps
        self.notes.done_perhaps.add(job)
        try:
            removed = self.ask(connection, b"LREM", processing, b"1", job)
        except Uncertain as error:
            if str(error) in REFUSALS and not again:
                self.notes.done_perhaps.discard(job)
            raise
        self.notes.acknowledged()
        self.notes.done.add(job)
        if not (removed or again):
            self.notes.faults.append(f"job {job!r} has left {processing!r} by itself")


class Payer(_Client):
    """Moves an amount from one account to another."""

    def do_one(self, connection: Connection) -> None:
        self.made += 1
        source, target = self.random.sample(range(len(ACCOUNTS)), 2)
        amount = self.random.randint(1, 9)
        token = b"%d>%d:%d#%d.%d" % (source, target, amount, self.number, self.made)
        try:
            while not self.has_moved(connection, ACCOUNTS[source], ACCOUNTS[target], amount, token):
                self.notes.conflicts += 1
        except Uncertain:
            connection.ask(b"DISCARD")
            connection.ask(b"UNWATCH")

    def has_moved(self, connection: Connection, source: bytes, target: bytes, amount: int, token: bytes) -> bool:
        self.ask(connection, b"WATCH", source, target)
        here, there = (int(self.ask(connection, b"GET", key) or 0) for key in (source, target))
        self.ask(connection, b"MULTI")
        self.ask(connection, b"SET", source, b"%d" % (here - amount))
        self.ask(connection, b"SET", target, b"%d" % (there + amount))
        self.ask(connection, b"APPEND", b"transfers:%d" % self.number, token + b",")
        self.notes.transfers_perhaps.add(token)
        try:
            replies = self.ask(connection, b"EXEC")
        except Uncertain as error:
            if str(error) in REFUSALS:
                self.notes.transfers_perhaps.discard(token)
            raise
        if replies is None:
            self.notes.transfers_perhaps.discard(token)
            return False
        self.notes.acknowledged()
        self.notes.transfers.add(token)
        return True


class Auditor(_Client):
    """Reads all accounts at one moment."""

    def do_one(self, connection: Connection) -> None:
        try:
            self.ask(connection, b"MULTI")
            for account in ACCOUNTS:
                self.ask(connection, b"GET", account)
            balances = [int(balance or 0) for balance in self.ask(connection, b"EXEC")]
        except Uncertain:
            connection.ask(b"DISCARD")
            return
        self.notes.audits += 1
        if sum(balances):
            self.notes.faults.append(f"at {monotonic():.3f} the balances were {balances}")


def clients(notes: Notes, seed: str) -> list[Producer | Worker | Payer | Auditor]:
    """Make all of them."""
    roles = [Producer] * PRODUCERS + [Worker] * WORKERS + [Payer] * PAYERS + [Auditor] * AUDITORS
    return [role(number, notes, Random(f"{seed}together{number}")) for number, role in enumerate(roles)]


def judge(notes: Notes, found: Found) -> tuple[int, int, list[str]]:
    """Return how many jobs and transfers are lost, how many are doubled, and other faults."""
    places: Counter[bytes] = Counter()  # where a job is at the end
    tokens: Counter[bytes] = Counter()
    for key, (value, _) in found.items():
        if key == b"queue" or key.startswith(b"processing:"):
            places.update(value)
        elif key.startswith(b"transfers:"):
            tokens.update(value.split(b",")[:-1])
    places.update(notes.done)
    lost = sum(not places[job] for job in notes.pushed - notes.done_perhaps)
    lost += sum(not tokens[token] for token in notes.transfers)
    doubled = sum(count - 1 for each in (places, tokens, notes.given) for count in each.values())
    faults = list(notes.faults)
    faults += [f"job {job!r} was never pushed" for job in places if job not in notes.pushed_perhaps]
    faults += [f"transfer {token!r} was never made" for token in tokens if token not in notes.transfers_perhaps]
    balances = [0] * len(ACCOUNTS)
    for token in tokens.elements():
        source, target, amount = map(int, TOKEN.fullmatch(token).groups())  # type: ignore[union-attr]
        balances[source] -= amount
        balances[target] += amount
    held = [int(found[account][0]) if account in found else 0 for account in ACCOUNTS]
    if held != balances:
        faults.append(f"the balances are {held}, and by the journals {balances}")
    return lost, doubled, faults
