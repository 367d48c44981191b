"""What the parts cost, one by one: nanoseconds of CPU time an operation, in this process, without a network.

    python -m bench.micro [parser] [encoder] [store] [engine] [log]

Each figure is the best of many short passes; those of a table take turns, so that noise hits all alike. 100 000 keys in
random order, values of 64 bytes and the default TTL: waiting for memory is part of the cost.

parser: `hiredis` is the C parser without any check, the best that the fast path could reach; `feed` is what the server
does; `machine` is the state machine alone; `suspect` is the fast path with a value that looks like another RESP type.
engine: `run` is all that is between parser and encoder; `command` what lies below it; `store` what lies below that.
log: a record, by the size of its value and how many make a batch: one by one (`append_set`), as requests that come
alone, and by column (`append_sets`), as pipelines; with its share of the write to a file, and without an fsync.
"""

from __future__ import annotations

import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import hiredis

from aof import AppendOnlyLog, NullLog
from bench.rig import Report, key, parser
from config import Config
from engine import Engine
from keyspace.many_keys import put_many, read_strings
from protocol import RequestParser, encode, encode_command, text_pieces
from replies import OK
from session import Instance, Session
from store import Store

KEYS, REQUESTS, PASSES = 100_000, 20_000, 40
REPEATED = 4000  # requests of a pass that is one request, again and again
DEPTHS = (1, 16, 100)
VALUE = b"x" * 64
NAMES = [key(number).encode() for number in range(KEYS)]
CHOSEN = Random(1).choices(NAMES, k=REQUESTS)
RECEIVE_BYTES = 65536

Pass = Callable[[], object]


def best_ns(passes: dict[str, Pass], operations: int, rounds: int, requests: int) -> dict[str, float]:
    """Time each, in turns; an operation's share of the shortest pass."""
    repeat = max(1, requests // operations)
    best = dict.fromkeys(passes, float("inf"))
    for _ in range(rounds):
        for name, run in passes.items():
            seconds = timeit.timeit(run, timer=time.process_time, number=repeat)
            best[name] = min(best[name], seconds / repeat / operations * 1e9)
    return best


def each(run: Callable[[int], object]) -> Pass:
    """Make a pass over all requests."""

    def all_of_them() -> None:
        for number in range(REQUESTS):
            run(number)

    return all_of_them


# ---- parser


def feeding(buffer: bytearray, size: int) -> Callable[[], Iterable[list[bytes]]]:
    """Parse as the server does."""
    request_parser = RequestParser()
    return lambda: request_parser.feed(buffer, size)


def machine(buffer: bytearray, size: int) -> Callable[[], Iterable[list[bytes]]]:
    """Parse without the fast path."""
    request_parser = RequestParser()
    return lambda: request_parser._parse_rest(bytes(buffer[:size]))


def hiredis_alone(buffer: bytearray, size: int) -> Callable[[], Iterable[list[bytes]]]:
    """Parse without proof."""
    reader = hiredis.Reader()

    def parse() -> list[list[bytes]]:
        reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # its stub knows only bytes
        return list(iter(reader.gets, False))

    return parse


def buffer_of(request: bytes, depth: int) -> tuple[bytearray, int]:
    """Make a receive buffer: behind the requests it holds what came before."""
    wire = request * depth
    return bytearray(wire + b"?" * RECEIVE_BYTES), len(wire)


def parsers(report: Report, rounds: int = PASSES, requests: int = REPEATED) -> None:
    """Add the table of the parser."""
    report.table("parser, ns a request", "hiredis", "feed", "machine", "suspect")
    usual = {"SET": encode_command([b"SET", NAMES[0], VALUE]), "GET": encode_command([b"GET", NAMES[0]])}
    suspect = {
        "SET": encode_command([b"SET", NAMES[0], b"=" + VALUE[1:]]),
        "GET": encode_command([b"GET", b"=" + NAMES[0]]),
    }
    for name, request in usual.items():
        for depth in DEPTHS:
            buffer = buffer_of(request, depth)
            ways = {
                "hiredis": hiredis_alone(*buffer),
                "feed": feeding(*buffer),
                "machine": machine(*buffer),
                "suspect": feeding(*buffer_of(suspect[name], depth)),
            }
            if any(len(list(way())) != depth for way in ways.values()):
                raise SystemExit("a parser lost a request")
            found = best_ns({**ways}, depth, rounds, requests)
            report.row(f"{name} P={depth}", *(f"{ns:.0f}" for ns in found.values()))


# ---- encoder


def encoders(report: Report, rounds: int = PASSES, requests: int = REPEATED) -> None:
    """Add the table of the encoder: a reply to pieces."""
    report.table("encoder, ns a reply", "RESP2", "RESP3", "text")
    replies = {"OK": OK, "null": None, "an integer": 12345, "64 bytes": VALUE, "a list of ten": [VALUE] * 10}
    for name, reply in replies.items():
        pieces: list[bytes] = []

        def resp2(reply: object = reply, pieces: list[bytes] = pieces) -> None:
            pieces.clear()
            encode(reply, pieces.append, False)

        def resp3(reply: object = reply, pieces: list[bytes] = pieces) -> None:
            pieces.clear()
            encode(reply, pieces.append, True)

        def text(reply: object = reply, pieces: list[bytes] = pieces) -> None:
            pieces.clear()
            pieces += text_pieces(reply)

        found = best_ns({"RESP2": resp2, "RESP3": resp3, "text": text}, 1, rounds, requests)
        report.row(name, *(f"{ns:.0f}" for ns in found.values()))


# ---- store and engine


class Parts:
    """An engine over a full store, without a server."""

    def __init__(self) -> None:
        log = NullLog()
        self.store = Store(1, log)
        instance = Instance(self.store, log, Config({}, {}), "bench", run_id="", started_ms=0)
        instance.apply_settings()
        self.store.tick(int(time.time() * 1000))
        self.engine, self.session = Engine(instance), Session(instance, 1)
        for name in NAMES:
            self.engine.run(self.session, [[b"SET", name, VALUE]])


def stores(report: Report, rounds: int = PASSES, requests: int = REPEATED) -> None:
    """Add the table of the store."""
    parts = Parts()
    db, deadline_ms, values = parts.session.db, parts.store.default_deadline_ms, [VALUE] * REQUESTS

    def new_then_gone(number: int) -> None:
        name = b"new:%d" % number
        db.put(name, VALUE, deadline_ms)
        db.remove(name)

    passes: dict[str, Pass] = {
        "string": each(lambda number: db.string(CHOSEN[number])),
        "strings, by column": lambda: read_strings(db, CHOSEN),
        "put": each(lambda number: db.put(CHOSEN[number], VALUE, deadline_ms)),
        "put_many, by column": lambda: put_many(db, CHOSEN, values, deadline_ms),
        "put a new key, and remove it": each(new_then_gone),
        "set_deadline": each(lambda number: db.set_deadline(CHOSEN[number], deadline_ms + 1)),
        "the loop alone": each(lambda number: CHOSEN[number]),
    }
    show(report, "store, a key", best_ns(passes, REQUESTS, rounds, requests))


def engines(report: Report, rounds: int = PASSES, requests: int = REPEATED) -> None:
    """Add the table of the engine."""
    parts = Parts()
    engine, session = parts.engine, parts.session
    gets: list[list[bytes]] = [[b"GET", name] for name in CHOSEN]
    sets: list[list[bytes]] = [[b"SET", name, VALUE] for name in CHOSEN]
    ttls: list[list[bytes]] = [[b"TTL", name] for name in CHOSEN]
    expires: list[list[bytes]] = [[b"EXPIRE", name, b"90000"] for name in CHOSEN]
    incrs: list[list[bytes]] = [[b"INCR", b"counter:" + name] for name in CHOSEN]
    bodies = [[*sets[start : start + 3], *gets[start : start + 2]] for start in range(REQUESTS - 3)]
    transactions: list[list[list[bytes]]] = [[[b"MULTI"], *body, [b"EXEC"]] for body in bodies]
    mixed = [pair[number % 10 == 0] for number, pair in enumerate(zip(gets, sets, strict=True))]

    def at_once(argvs: Sequence[list[bytes]]) -> Pass:
        pipelines = [list(argvs[start : start + 100]) for start in range(0, REQUESTS, 100)]

        def run() -> None:
            for pipeline in pipelines:
                done = 0
                while done < len(pipeline):
                    done += len(engine.run(session, pipeline[done:]))

        return run

    passes: dict[str, Pass] = {}
    for name, argvs in (("GET", gets), ("SET", sets), ("TTL", ttls), ("EXPIRE", expires), ("INCR", incrs)):
        passes[f"{name} run"] = each(lambda number, argvs=argvs: engine.run(session, [argvs[number]]))  # type: ignore[misc]
        command = engine.lookup([name.encode()]).run
        passes[f"{name} command"] = each(lambda number, argvs=argvs, run=command: run(session, argvs[number]))  # type: ignore[misc]
        passes[f"{name} run, of 100"] = at_once(argvs)
    passes["nine GETs to a SET, run"] = each(lambda number: engine.run(session, [mixed[number]]))
    passes["nine GETs to a SET, run, of 100"] = at_once(mixed)
    passes["MULTI, 3 SET, 2 GET, EXEC, run"] = each(
        lambda number: engine.run(session, transactions[number % len(bodies)])
    )
    passes["the five without MULTI and EXEC, run"] = each(
        lambda number: engine.run(session, bodies[number % len(bodies)])
    )
    show(report, "engine, a request", best_ns(passes, REQUESTS, rounds, requests))


# ---- log


def logs(report: Report, rounds: int = PASSES, requests: int = REPEATED) -> None:
    """Add the table of the log: sizes down, batches across."""
    batches = (1, 10, 100, 1000)
    report.table("log, ns a record (MB/s)", *(f"{batch} a batch" for batch in batches))
    for way, size in [(way, size) for way in (one_by_one, by_column) for size in (16, 64, 1024, 16384)]:
        cells = []
        for batch in batches:
            with tempfile.TemporaryDirectory(prefix="bench-log-") as directory:
                log = AppendOnlyLog(str(Path(directory) / "log.txt"))
                log.open()
                run = way(log, CHOSEN[:batch], [b"x" * size] * batch)
                (ns,) = best_ns({"": run}, batch, rounds, max(1, requests * 64 // max(64, size))).values()
                log.close()
            cells.append(f"{ns:.0f} ({size / ns * 1000:.0f})")
        report.row(f"{way.__name__.replace('_', ' ')}, {size} B", *cells)


def one_by_one(log: AppendOnlyLog, keys: list[bytes], values: list[bytes]) -> Pass:
    """Append each record, and write the batch."""

    def run() -> None:
        for name, value in zip(keys, values, strict=True):
            log.append_set(0, name, value, 1_800_000_000_000)
        log.write(1_700_000_000_000)

    return run


def by_column(log: AppendOnlyLog, keys: list[bytes], values: list[bytes]) -> Pass:
    """Append all records at once, and write the batch."""

    def run() -> None:
        log.append_sets(0, keys, values, 1_800_000_000_000)
        log.write(1_700_000_000_000)

    return run


# ---- the report

TABLES = {"parser": parsers, "encoder": encoders, "store": stores, "engine": engines, "log": logs}


def show(report: Report, title: str, found: dict[str, float]) -> None:
    """Add a table of one column."""
    report.table(title, "ns")
    for name, ns in found.items():
        report.row(name, f"{ns:.0f}")


def micro(
    report: Report, tables: Sequence[str] = tuple(TABLES), rounds: int = PASSES, requests: int = REPEATED
) -> None:
    """Add the tables."""
    for name in tables:
        TABLES[name](report, rounds, requests)


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all if not given")
    made.add_argument("--rounds", type=int, default=PASSES)
    made.add_argument("--requests", type=int, default=REPEATED, help="in a pass, where they are all the same")
    arguments = made.parse_args()
    if unknown := set(arguments.tables) - set(TABLES):
        made.error(f"unknown: {', '.join(unknown)}")
    report = Report("micro", arguments.output)
    micro(report, arguments.tables or list(TABLES), arguments.rounds, arguments.requests)
    report.close()


if __name__ == "__main__":
    main()
