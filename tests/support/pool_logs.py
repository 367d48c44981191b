"""Random logs of a pool, and what a member makes of each: a digest of its replies and of its store."""

from __future__ import annotations

import random
from functools import cache
from hashlib import sha256

import random_commands
from pool_member import START_MS, THEM, US, Member, add, copy_of

from commands import READONLY, TABLE, WRITE, fold
from commands.long_commands import AT_ONCE_WORDS
from pool.entry import Body, pack
from protocol import encode
from replies import LongArray


def random_log(seed: int, length: int, family: str = "") -> list[bytes]:
    """Make entries as instances would: many commands, skewed clocks, repetitions, several databases, large values.

    The commands are those of a family's grammar; without one, strings that end soon and are now and then large.
    """
    chance = random.Random(seed)
    clock_ms = START_MS
    seqs = {US: 0, THEM: 0}
    found: list[bytes] = []
    for _ in range(length):
        clock_ms += chance.choice([0, 1, 30, 700, 2500])
        instance = chance.choice([US, THEM])
        body = Body()
        for _ in range(chance.randrange(12)):
            argv = of_family(chance, family) if family else random_command(chance, clock_ms)
            add(body, chance.choice([0, 0, 0, 1, 3]), [argv])
        skew_ms = chance.choice([0, 0, -120_000])
        entries = list(pack(instance, seqs[instance] + 1, clock_ms + skew_ms, chance.choice([0, 4000]), body))
        seqs[instance] += len(entries)
        found += entries
        if chance.random() < 0.1:
            found.append(found[-1])
    return found


def of_family(chance: random.Random, family: str) -> list[bytes]:
    """Make up a command on keys. Reads are among them: they show whether chance falls alike on all instances."""
    if chance.random() < 0.05:
        return [b"PEXPIRE", chance.choice(random_commands.KEYS), b"%d" % chance.randrange(100_000)]
    while True:
        argv = random_commands.random_command(chance, family)
        row = TABLE.get(fold(argv[0]))
        if row is not None and row.flags & (READONLY | WRITE):
            return argv


def random_command(chance: random.Random, clock_ms: int) -> list[bytes]:
    key, other = (b"k%d" % chance.randrange(60) for _ in range(2))
    seconds = b"%d" % chance.randrange(1, 8)
    lines: list[list[bytes]] = [
        [b"SET", key, b"%d" % chance.randrange(100)],
        [b"SET", key, b"v", b"EX", seconds],
        [b"SET", key, b"v", b"PXAT", b"%d" % (clock_ms + chance.choice([-5000, 1000, 200_000_000]))],
        [b"SET", key, b"v", b"NX", b"GET"],
        [b"MSET", key, b"1", other, b"2"],
        [b"MSETNX", key, b"1", other, b"2"],
        [b"INCR", key],
        [b"INCRBYFLOAT", key, b"0.1"],
        [b"APPEND", key, b"x" * chance.choice([1, 1, 1, 70_000])],
        [b"SETRANGE", key, b"3", b"abc"],
        [b"GETDEL", key],
        [b"GETEX", key, b"PERSIST"],
        [b"DEL", key, other],
        [b"UNLINK", key],
        [b"EXPIRE", key, seconds, b"GT"],
        [b"PEXPIREAT", key, b"%d" % clock_ms],
        [b"PERSIST", key],
        [b"RENAME", key, other],
        [b"COPY", key, other, b"DB", b"3", b"REPLACE"],
        [b"MOVE", key, b"1"],
        [b"SWAPDB", b"0", b"3"],
        [b"NOSUCH", key],
        [b"GET"],
        [b"SELECT", b"9"],
    ]
    if chance.random() >= 0.006:
        return chance.choice(lines[:-1])
    if chance.random() < 0.5:
        return chance.choice([[b"FLUSHDB"], [b"FLUSHALL"]])
    many = [b"m%d" % chance.randrange(99) for _ in range(AT_ONCE_WORDS)]
    return chance.choice(
        [[b"DEL", key, *many], [b"MSET", key, b"1", *many], [b"MSETNX", b"k1", b"1", *many], [b"UNLINK", key, *many]]
    )


def read(member: Member, *more: bytes) -> None:
    """Do what the clients of a member may do between entries, and in the middle of a long one."""
    member.replica.tick(START_MS + member.replica.version * 900)
    for line in (b"GET k1", b"MGET k1 k2 k3", b"EXISTS k5", *more):
        member.ask(line)


def outcome(log: list[bytes], snapshot_every: int, pauses: bool = False) -> str:
    """Apply a log, going on from a snapshot of itself every so often; say what came out, replies included."""
    member = Member(paused=read if pauses else None)
    digest = sha256()
    for number, data in enumerate(log, 1):
        for reply in member.apply(data).replies or []:
            encode(reply.members() if isinstance(reply, LongArray) else reply, digest.update, resp3=True)
        if snapshot_every and number % snapshot_every == 0:
            member = copy_of(member, piece=100)
        elif number % 7 == 0:
            read(member, b"RANDOMKEY", b"SCAN 0", b"KEYS k*", b"TTL k7")
    for db in member.store.databases:
        db.check()
    digest.update(member.replica.dump())
    digest.update(repr(sorted(map(str, member.replica.describe().items()))).encode())
    return digest.hexdigest()


@cache
def outcomes(every: int, pauses: bool = False) -> list[str]:
    """Return what comes of random logs, with a restart from a snapshot every so many entries, and with pauses."""
    plain = [outcome(random_log(seed, 400), every, pauses) for seed in range(2)]
    families = random_commands.FAMILIES
    return plain + [f"{family}:{outcome(random_log(9, 60, family), every, pauses)}" for family in families]
