"""Python's collector of cycles: that it never walks through the keyspace, and that nothing needs it to be freed."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from certificates import Certificates
from servers import HOST, ROOT, GodisProcess, Raw, encode, parse, wait_until
from tls_clients import TlsGodis
from uncollected import UncollectedGodis

from keyspace import gc_policy as collector
from net import turn

TIMES = 10
Act = Callable[[Any, Raw], None]


def talk(godis: GodisProcess, _: Raw) -> None:
    with godis.raw() as raw:
        raw.ask("HELLO", "3")
        raw.ask("SET", "a", "1")
        raw.send(b"GET a\nDEL a\nQUIT\n")
        raw.read_all()


def be_refused(godis: GodisProcess, _: Raw) -> None:
    with godis.raw() as raw:
        raw.ask("SET", "text", "x")
        for words in (["NOSUCH"], ["GET"], ["INCR", "text"], ["SCAN", "x"], ["CONFIG", "SET", "port", "x"]):
            assert raw.ask(*words).startswith(b"-")
        assert raw.ask_line(b'SET "unbalanced').startswith(b"ERR unbalanced quotes")
    with godis.raw() as raw:
        raw.send(b"*1\r\n$-4\r\n")
        raw.read_all()


def be_killed(godis: GodisProcess, operator: Raw) -> None:
    with godis.raw() as raw:
        operator.ask("CLIENT", "KILL", "ID", parse(raw.ask("CLIENT", "ID")))
        with suppress(ssl.SSLError):  # who is killed is told nothing more, not even by TLS
            raw.read_all()


def be_one_too_many(godis: GodisProcess, operator: Raw) -> None:
    operator.ask("CONFIG", "SET", "maxclients", "1")
    with godis.raw() as raw:
        assert raw.read_all().startswith(b"-ERR max number of clients")
    operator.ask("CONFIG", "SET", "maxclients", "1000")


def read_nothing(godis: GodisProcess, _: Raw) -> None:
    raw = Raw(socket.create_connection((HOST, godis.port)))
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.ask("SET", "big", bytes(3_000_000))
    raw.send(encode("GET", "big") * 3 + encode("KEYS", "*"))
    raw.close()


def reset(godis: GodisProcess, _: Raw) -> None:
    raw = godis.raw()
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.send(b"*3\r\n$3")
    raw.close()


def list_keys(godis: GodisProcess, _: Raw) -> None:
    with godis.raw() as raw:
        assert raw.ask("KEYS", "nothing") == b"*0\r\n"
        assert len(raw.ask("KEYS", "*")) > 10_000
        raw.send(encode("KEYS", "*"))


def pause(godis: GodisProcess, operator: Raw) -> None:
    with godis.raw() as raw:
        operator.ask("CLIENT", "PAUSE", "10000", "WRITE")
        raw.send(encode("SET", "a", "1"))
        wait_until(lambda: b"blocked_clients:1" in operator.ask("INFO", "clients"), what="the client waits")
        operator.ask("CLIENT", "UNPAUSE")
        assert raw.read_reply() == b"+OK\r\n"


def rewrite(_: GodisProcess, operator: Raw) -> None:
    operator.ask("BGREWRITEAOF")
    wait_until(lambda: b"aof_rewrite_in_progress:0" in operator.ask("INFO", "persistence"), what="it is rewritten")


def expire(_: GodisProcess, operator: Raw) -> None:
    operator.ask("SET", "short", "1", "PX", "1")
    wait_until(lambda: operator.ask("EXISTS", "short") == b":0\r\n")


@pytest.fixture(scope="module")
def uncollected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UncollectedGodis]:
    with UncollectedGodis(tmp_path_factory.mktemp("uncollected")) as godis:
        with godis.raw() as raw:
            for start in range(0, 5000, 1000):
                raw.ask("MSET", *[word for number in range(start, start + 1000) for word in (f"key:{number}", "")])
        yield godis


@pytest.mark.parametrize(
    "act",
    [talk, be_refused, be_killed, be_one_too_many, read_nothing, reset, list_keys, pause, rewrite, expire],
    ids=lambda act: act.__name__,
)
def test_what_ends_is_freed_without_the_collector(uncollected: UncollectedGodis, act: Act) -> None:
    assert 0 <= fewest_unreachable(uncollected, act) < TIMES


def fewest_unreachable(uncollected: UncollectedGodis, act: Act) -> int:
    """Act, and return how many objects that leaves to a collector at the best of some attempts."""
    with uncollected.raw() as operator:
        alone = b"connected_clients:1\r\n"
        act(uncollected, operator)
        wait_until(lambda: alone in operator.ask("INFO", "clients"), what="the clients are gone")
        counts = []
        for _ in range(3):  # what is loaded late, once, leaves cycles as well
            uncollected.count_unreachable()
            for _ in range(TIMES):
                act(uncollected, operator)
            wait_until(lambda: alone in operator.ask("INFO", "clients"), what="the clients are gone")
            counts.append(uncollected.count_unreachable())
            if counts[-1] < TIMES:
                break
        return min(counts)


# ---- over TLS


class UncollectedTlsGodis(TlsGodis, UncollectedGodis):
    """Both."""


def show_no_certificate(godis: TlsGodis, _: Raw) -> None:
    with suppress(ssl.SSLError, OSError), godis.raw(who=None) as raw:
        raw.read_all()


def speak_plainly(godis: TlsGodis, _: Raw) -> None:
    with Raw(godis.connect()) as raw, suppress(OSError):
        raw.send(encode("PING"))
        raw.read_all()


def leave_amid_the_handshake(godis: TlsGodis, _: Raw) -> None:
    with godis.hand() as hand:
        hand.sock.sendall(hand.flight()[:100])
    with godis.hand() as hand:
        hand.finish()


def say_close_notify(godis: TlsGodis, _: Raw) -> None:
    with godis.hand() as hand:
        hand.sock.sendall(hand.finish() + hand.sealed(encode("PING")))
        assert hand.read_exactly(7) == b"+PONG\r\n"
        hand.end_of_input()


def break_a_record(godis: TlsGodis, _: Raw) -> None:
    with godis.hand() as hand, suppress(OSError):
        hand.sock.sendall(hand.finish())
        hand.sock.sendall(hand.sealed(encode("PING"))[:-1] + b"?")
        while hand.sock.recv(1000):
            pass


def read_nothing_by_tls(godis: TlsGodis, _: Raw) -> None:
    with godis.raw() as raw:
        raw.ask("SET", "big", bytes(3_000_000))
        raw.send(encode("GET", "big") * 10)


@pytest.fixture(scope="module")
def uncollected_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UncollectedTlsGodis]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    with UncollectedTlsGodis(tmp_path_factory.mktemp("uncollected"), certificates) as godis:
        yield godis


@pytest.mark.parametrize(
    "act",
    [
        *(talk, be_refused, be_killed, show_no_certificate, speak_plainly, leave_amid_the_handshake),
        *(say_close_notify, break_a_record, read_nothing_by_tls),
    ],
    ids=lambda act: act.__name__,
)
def test_a_client_of_tls_is_freed_without_the_collector(uncollected_tls: UncollectedTlsGodis, act: Act) -> None:
    assert 0 <= fewest_unreachable(uncollected_tls, act) < TIMES


WALKED = """
import gc
from keyspace import gc_policy as collector
collector.begin()
order = []
collector.keep_off(collector.MANY_KEYS + {more})
order += [b"%d" % number for number in range(1000)]
print(any(known is order for known in gc.get_objects()))
"""


@pytest.mark.parametrize(("more", "walked"), [(0, "True"), (1, "False")])
def test_with_many_keys_a_list_is_hidden_and_may_grow(more: int, walked: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALKED.format(more=more)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == walked


def test_objects_of_thousands_of_clients_are_frozen_before_there_is_a_key() -> None:
    made = "kept = [[] for _ in range(2 * collector.YOUNG_OBJECTS)]\n"
    script = WALKED.format(more=0).replace("order = []", made + "order = []").replace("+ 0)", "* 0)")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_first_generation_is_large_enough_for_a_receive_of_requests() -> None:
    assert turn.RECEIVE_BYTES // len(encode("PING")) < collector.YOUNG_OBJECTS
    assert gc.isenabled(), "nothing here may change the collector of the tests themselves"
