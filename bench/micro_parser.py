"""Measure what a request costs to parse: ns a request, by pipeline depth, for each way to parse it.

    python bench/micro_parser.py [VALUE_BYTES]

Run it on an idle machine. Each figure is the best of many short rounds, taken in turn, so that noise hits all alike.
`hiredis` is the C parser without any check (what the fast path could reach at best), `fast` is what the server does,
`machine` is the state machine alone, `suspect` is the fast path with a value that looks like another RESP type.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable, Iterable
from pathlib import Path

import hiredis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from protocol import RequestParser, encode_command

ROUNDS = 40
REQUESTS_A_ROUND = 4000
DEPTHS = (1, 16, 100)
KEY = b"key:000000012345"


def without_fast_path(buffer: bytearray, size: int) -> Callable[[], Iterable[list[bytes]]]:
    parser = RequestParser()
    return lambda: parser._rest(bytes(buffer[:size]))


def with_fast_path(buffer: bytearray, size: int) -> Callable[[], Iterable[list[bytes]]]:
    parser = RequestParser()
    return lambda: parser.feed(buffer, size)


def hiredis_alone(buffer: bytearray, size: int) -> Callable[[], Iterable[list[bytes]]]:
    reader = hiredis.Reader()

    def parse() -> list[list[bytes]]:
        reader.feed(buffer, 0, size)  # type: ignore[arg-type]  # its stub knows only bytes
        return list(iter(reader.gets, False))

    return parse


def buffer_of(request: bytes, depth: int) -> tuple[bytearray, int]:
    wire = request * depth
    return bytearray(wire + b"?" * 65536), len(wire)  # the rest of a receive buffer holds what came before


def main() -> None:
    value = b"x" * int(sys.argv[1] if len(sys.argv) > 1 else 64)
    requests = {"SET": encode_command([b"SET", KEY, value]), "GET": encode_command([b"GET", KEY])}
    suspect = encode_command([b"SET", KEY, b"=" + value[1:]])
    print(f"{'':8}{'hiredis':>9}{'fast':>9}{'machine':>9}{'suspect':>9}   ns a request, values of {len(value)} bytes")
    for name, request in requests.items():
        for depth in DEPTHS:
            usual = buffer_of(request, depth)
            ways = [hiredis_alone(*usual), with_fast_path(*usual), without_fast_path(*usual)]
            if name == "SET":
                ways.append(with_fast_path(*buffer_of(suspect, depth)))
            for way in ways:
                if len(list(way())) != depth:
                    raise RuntimeError("a parser lost a request")
            repeat = max(1, REQUESTS_A_ROUND // depth)
            rounds = [[timeit.timeit(way, number=repeat) for way in ways] for _ in range(ROUNDS)]
            best = [min(times) for times in zip(*rounds, strict=True)]
            print(f"{name} P={depth:<4}" + "".join(f"{seconds / repeat / depth * 1e9:9.0f}" for seconds in best))


if __name__ == "__main__":
    main()
