"""Hostile and unlucky clients against a real process: others are served meanwhile, and nothing is left behind.

What is proven here is proven by order and by counters, never by a clock: the other client's replies come while the
attack still runs, and memory and descriptors return to what they were. How long it waits at most is measured by
`bench.hostile`. Commands with thousands of arguments are in test_long_commands.py; the rest of the clients who
misbehave is in test_listener.py (bytes that are no requests, HTTP, limits of replies) and in test_fuzz.py. GODIS_SOAK
makes the crowds and the values as large as the limits allow.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import PATIENCE_SECONDS, GodisProcess, Raw, RedisProcess, encode, parse, require, wait_until

from commands import NO_AUTH, TABLE, Command
from errors import NO_AUTH as NO_AUTH_TEXT

MEBIBYTE = 1 << 20
SOAK = "GODIS_SOAK" in os.environ
SOAK_ROUNDS = 500 if SOAK else 5
CROWD = min(10_000 if SOAK else 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
IDLE_CONNECTION_BYTES = 16 * 1024
HUGE_ANNOUNCED = b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$536870912\r\n"


def descriptors(godis: GodisProcess) -> int:
    """Count the open descriptors of the process."""
    return len(os.listdir(f"/proc/{godis.pid}/fd"))


def field(client: Raw, name: str) -> int:
    """Return a number of INFO."""
    section = "clients" if name == "connected_clients" else "stats"
    found = re.search(rb"^%b:(\d+)\r$" % name.encode(), parse(client.ask("INFO", section)), re.MULTILINE)
    assert found
    return int(found[1])


class Witness:
    """A well-behaved client: it asks, and each answer must be right and come while the attack goes on."""

    def __init__(self, client: Raw) -> None:
        self.client = client
        self.count = 0

    def is_served(self) -> bool:
        """Return True if a write, a read and a PING are answered as they should be."""
        self.count += 1
        self.client.send(encode("SET", "witness", self.count) + encode("GET", "witness") + encode("PING"))
        value = b"%d" % self.count
        expected = b"+OK\r\n$%d\r\n%b\r\n+PONG\r\n" % (len(value), value)
        return self.client.read_exactly(len(expected)) == expected


@pytest.fixture
def witness(godis: GodisProcess) -> Iterator[Witness]:
    """A well-behaved client of a server of its own; at the end no other client and no descriptor may be left."""
    with godis.raw() as client:
        witness = Witness(client)
        assert witness.is_served()
        wait_until(lambda: field(client, "connected_clients") == 1, what="the first client is gone")
        before = descriptors(godis)
        yield witness
        assert witness.is_served()
        wait_until(lambda: field(witness.client, "connected_clients") == 1, 20, "the others are gone")
        wait_until(lambda: descriptors(godis) <= before, 20, "their descriptors are closed")
        assert "Traceback" not in godis.stderr()
        witness.client.close()


def crowd_of(godis: GodisProcess, witness: Witness) -> list[Raw]:
    """Let a crowd in beside the witness."""
    assert witness.client.ask("CONFIG", "SET", "maxclients", CROWD + 1) == b"+OK\r\n"
    crowd = [godis.raw() for _ in range(CROWD)]
    wait_until(lambda: field(witness.client, "connected_clients") == CROWD + 1, 60, "all are let in")
    return crowd


# ---- slow ones


def test_readers_that_do_not_read_cost_little_and_hold_up_nobody(godis: GodisProcess, witness: Witness) -> None:
    with godis.client() as client:
        client.set("large", os.urandom(MEBIBYTE) * 8)
    before = godis.resident_bytes
    readers = [godis.raw() for _ in range(20)]
    for reader in readers:
        reader.send(encode("GET", "large") * 10)
        assert witness.is_served()
    # 20 x 80 MB are asked for; the value itself is there once, and what the sockets hold is the system's
    assert godis.resident_bytes - before < 60 * MEBIBYTE
    assert readers[0].read_exactly(16).startswith(b"$8388608\r\n")
    for reader in readers:
        reader.close()


def test_a_reply_of_twenty_gigabytes_drops_its_client_and_costs_no_memory(
    godis: GodisProcess, witness: Witness
) -> None:
    with godis.client() as client:
        client.set("large", bytes(MEBIBYTE))
    before = godis.resident_bytes
    with godis.raw() as greedy:
        greedy.send(encode("MGET", *["large"] * 20_000))
        wait_until(lambda: "bytes of replies not read" in godis.stderr(), 20, "the greedy one is dropped")
        assert witness.is_served()
        assert godis.resident_bytes - before < 60 * MEBIBYTE
    assert field(witness.client, "client_output_buffer_limit_disconnections") == 1


def test_a_client_that_sends_a_byte_at_a_time_is_served_in_the_end(godis: GodisProcess, witness: Witness) -> None:
    wire = encode("SET", "slowly", "written") + b"GET slowly\r\n" + encode("GET", "slowly")
    with godis.raw() as slow:
        for position in range(len(wire)):
            slow.send(wire[position : position + 1])
            assert witness.is_served()
        assert slow.read_reply() == b"+OK\r\n"
        assert slow.read_line() == b"written"
        assert slow.read_reply() == b"$7\r\nwritten\r\n"


def test_announced_bytes_take_memory_only_when_they_come(godis: GodisProcess, witness: Witness) -> None:
    before = godis.resident_bytes
    crowd = crowd_of(godis, witness)
    for slow in crowd:
        slow.send(HUGE_ANNOUNCED + b"x")
    for slow in crowd[:200]:
        slow.send(b"x" * 1000)
        assert witness.is_served()
    wait_until(lambda: field(witness.client, "total_net_input_bytes") > 200_000, what="the bytes have come")
    assert godis.resident_bytes - before < CROWD * IDLE_CONNECTION_BYTES + 200 * 1000 + 8 * MEBIBYTE
    for slow in crowd:
        slow.close()


# ---- crowds


def test_a_crowd_that_says_nothing_costs_little(godis: GodisProcess, witness: Witness) -> None:
    before = godis.resident_bytes
    crowd = crowd_of(godis, witness)
    assert witness.is_served()
    assert godis.resident_bytes - before < CROWD * IDLE_CONNECTION_BYTES + 4 * MEBIBYTE
    for silent in crowd:
        silent.close()
    assert witness.is_served()
    wait_until(lambda: field(witness.client, "connected_clients") == 1, 60, "all are gone")


def test_clients_that_come_and_go_leave_nothing_behind(godis: GodisProcess, witness: Witness) -> None:
    sizes = []
    rounds = 10 * SOAK_ROUNDS
    for _ in range(rounds):
        guests = [godis.raw() for _ in range(40)]
        for guest in guests:
            guest.send(HUGE_ANNOUNCED + b"x" * 100)
        wait_until(lambda: field(witness.client, "connected_clients") == 41, what="all are let in")
        for guest in guests:
            guest.close()
        wait_until(lambda: field(witness.client, "connected_clients") == 1, what="all are gone")
        sizes.append(godis.resident_bytes)
    # not even a kilobyte a client; what is noise here does not grow with their number
    assert sizes[-1] - sizes[rounds // 5] < rounds * 40 * 1000


def hang_up(godis: GodisProcess, first: bytes, reset: bool, enough: threading.Event) -> None:
    """Connect, send something, and go, again and again; with `reset` as who pulls the plug."""
    while not enough.is_set():
        with contextlib.suppress(OSError), godis.raw() as raw:
            raw.send(first)
            if reset:
                raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("first", "reset"),
    [(b"", False), (b"", True), (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", False), (HUGE_ANNOUNCED, True)],
)
def test_a_flood_of_connections_holds_up_nobody(
    godis: GodisProcess, witness: Witness, first: bytes, reset: bool
) -> None:
    enough = threading.Event()
    flood = [threading.Thread(target=hang_up, args=(godis, first, reset, enough)) for _ in range(4)]
    for thread in flood:
        thread.start()
    try:
        for _ in range(SOAK_ROUNDS):
            came = field(witness.client, "total_connections_received")
            assert witness.is_served()
            wait_until(lambda: field(witness.client, "total_connections_received") > came + 5, what="the flood")  # noqa: B023
    finally:
        enough.set()
        for thread in flood:
            thread.join()


def test_a_client_that_leaves_at_any_byte_leaves_nothing(godis: GodisProcess, witness: Witness) -> None:
    """By a reset, before a byte of the request or of its reply; that it may end well is in test_listener.py."""
    request = encode("SET", "cut", "value") + encode("GET", "cut")
    reply = b"+OK\r\n$5\r\nvalue\r\n"
    for sent, read in [(size, 0) for size in range(len(request))] + [
        (len(request), size) for size in range(len(reply))
    ]:
        with godis.raw() as client:
            client.send(request[:sent])
            assert client.read_exactly(read) == reply[:read]
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert witness.is_served()


# ---- greedy ones


def long_strings(godis: GodisProcess) -> None:
    """Set two strings that take some milliseconds to compare."""
    with godis.client() as client:
        client.mset({"left": bytes(range(250)) * 12, "right": bytes(range(249, -1, -1)) * 12})


@pytest.mark.parametrize(
    "wire",
    [
        encode("LCS", "left", "right"),
        encode("LCS", "left", "right", "LEN"),
        encode("LCS", "left", "right", "IDX"),
        b"LCS left right\r\n",
    ],
    ids=["a string", "a number", "a map", "text"],
)
def test_a_pipeline_of_slow_commands_lets_others_in_between(godis: GodisProcess, witness: Witness, wire: bytes) -> None:
    long_strings(godis)
    count = 300  # they fit into one receive
    with godis.raw() as greedy:
        before = field(witness.client, "keyspace_hits")
        greedy.send(wire * count)
        assert greedy.sock.recv(1, socket.MSG_PEEK)
        executed = (field(witness.client, "keyspace_hits") - before) / 2
        assert witness.is_served()
        assert 0 < executed < count / 2  # most of them were still to be done


def asks_for_a_password(godis: GodisProcess, witness: Witness, wanted: bool) -> None:
    """Let those who come from now on need a password, or not; the witness is in."""
    assert witness.client.ask("CONFIG", "SET", "requirepass", "secret" if wanted else "") == b"+OK\r\n"


@pytest.mark.parametrize("before_auth", [False, True], ids=["", "before AUTH"])
def test_of_many_long_lines_one_is_read_a_turn(godis: GodisProcess, witness: Witness, before_auth: bool) -> None:
    asks_for_a_password(godis, witness, before_auth)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(godis.raw()) for _ in range(30)]
        line = b"EXISTS" + b" ''" * 20_000
        for greedy in crowd:
            greedy.send(line)
        wait_until(lambda: field(witness.client, "total_net_input_bytes") > 30 * len(line), what="they are there")
        for greedy in crowd:
            greedy.send(b"\n")
        assert witness.is_served()
        for greedy in crowd:
            greedy.sock.setblocking(False)
        answered = 0
        for greedy in crowd:
            with contextlib.suppress(BlockingIOError):
                answered += bool(greedy.sock.recv(1, socket.MSG_PEEK))
            greedy.sock.setblocking(True)
        assert answered < len(crowd)
        assert {greedy.read_line() for greedy in crowd} == {NO_AUTH_TEXT if before_auth else b"0"}


@pytest.mark.parametrize("request_", [b"a\n", encode("a")], ids=["lines", "RESP"])
def test_before_auth_a_pipeline_lets_others_in_between(godis: GodisProcess, witness: Witness, request_: bytes) -> None:
    asks_for_a_password(godis, witness, True)
    count = 16384 // len(request_)  # they fit into one receive
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(godis.raw()) for _ in range(20)]
        witness.client.ask("CONFIG", "RESETSTAT")
        for greedy in crowd:
            greedy.send(request_ * count)
        assert crowd[0].sock.recv(1, socket.MSG_PEEK)
        done = field(witness.client, "total_error_replies")
        assert 0 < done < len(crowd) * count  # most of them were still to be done
        for greedy in crowd:
            answers = [greedy.read_line() for _ in range(count)]
            assert all(b"unknown command 'a'" in answer for answer in answers)


def test_a_long_list_is_sent_in_parts_between_which_others_are_served(godis: GodisProcess, witness: Witness) -> None:
    values = {f"key:{number}": b"value %d" % number for number in range(50_000)}
    with godis.client() as client:
        client.mset(values)
    with godis.raw() as greedy:
        greedy.send(encode("MGET", *values))
        assert greedy.read_line() == b"*50000"
        made = field(witness.client, "total_net_output_bytes")
        assert witness.is_served()
        reply = b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in values.values())
        assert greedy.read_exactly(len(reply)) == reply
        # when the other was let in, part of the reply was still to be made
        assert made < field(witness.client, "total_net_output_bytes") - len(reply) // 4


def pour(godis: GodisProcess, wire: bytes, enough: threading.Event) -> None:
    """Send the same again and again, and read all that is answered."""
    with contextlib.suppress(OSError), godis.raw() as raw:

        def read() -> None:
            with contextlib.suppress(OSError):
                while raw.sock.recv(MEBIBYTE):
                    pass

        reader = threading.Thread(target=read)
        reader.start()
        with contextlib.suppress(OSError):
            while not enough.is_set():
                raw.send(wire)
        raw.sock.shutdown(socket.SHUT_RDWR)
        reader.join()


def test_pipelines_without_end_let_others_in_between(godis: GodisProcess, witness: Witness) -> None:
    enough = threading.Event()
    wire = (encode("SET", "k", "v") + encode("GET", "k") + encode("INFO") + encode("NOSUCH") + b"GET k\n") * 50
    threads = [threading.Thread(target=pour, args=(godis, wire, enough)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(SOAK_ROUNDS):
            assert witness.is_served()
            hits = field(witness.client, "keyspace_hits")
            wait_until(lambda: field(witness.client, "keyspace_hits") > hits + 100, what="the attack")  # noqa: B023
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_who_kills_a_whole_crowd_holds_up_nobody_for_it(godis: GodisProcess, witness: Witness) -> None:
    crowd = crowd_of(godis, witness)
    assert parse(witness.client.ask("CLIENT", "KILL", "TYPE", "normal")) == CROWD
    for client in crowd:
        with contextlib.suppress(OSError):
            client.send(encode("SET", "by a dead one", "1"))
    assert witness.is_served()
    assert parse(witness.client.ask("CLIENT", "LIST")).count(b"\n") == 1
    for client in crowd:
        assert client.is_closed()
        client.close()
    assert witness.client.ask("EXISTS", "by a dead one") == b":0\r\n"


# ---- idle and vanished ones


def test_the_timeout_closes_who_is_idle_and_nobody_else(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--timeout", "2") as godis, godis.raw() as busy, godis.raw() as slow:
        idle = godis.raw()
        wire = encode("SET", "k", "v" * 100_000)
        sent = 0

        def idle_has_gone() -> bool:
            """Go on with the other two, and say whether it has."""
            nonlocal sent
            slow.send(wire[sent : sent + 1])
            sent += 1
            assert busy.ask("PING") == b"+PONG\r\n"
            return has_gone(idle)

        wait_until(idle_has_gone, 20, "the idle client is closed")
        slow.send(wire[sent:])
        assert slow.read_reply() == b"+OK\r\n"
        assert busy.ask("PING") == b"+PONG\r\n"
        idle.close()


def test_the_timeout_closes_nobody_who_waits_for_the_server(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--timeout", "1") as godis, godis.raw() as waiting, godis.raw() as operator:
        operator.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        idle = godis.raw()
        waiting.send(encode("SET", "k", "v"))
        wait_until(lambda: operator.ask("PING") and has_gone(idle), 10, "the idle client is closed")
        operator.ask("CLIENT", "UNPAUSE")
        assert waiting.read_reply() == b"+OK\r\n"
        assert waiting.ask("PING") == b"+PONG\r\n"
        idle.close()


def test_the_timeout_closes_nobody_who_takes_a_long_reply_bit_by_bit_but_who_takes_nothing(tmp_path: Path) -> None:
    value = bytes(64 * MEBIBYTE)
    with GodisProcess(tmp_path) as godis, godis.raw() as reader, godis.raw() as operator:
        assert operator.ask("SET", "large", value) == b"+OK\r\n"
        deaf = godis.raw()
        operator.ask("CONFIG", "SET", "timeout", 1)
        deaf.send(encode("GET", "large") + encode("QUIT"))
        reader.send(encode("GET", "large"))
        assert reader.read_line() == b"$%d" % len(value)
        left = len(value)

        def take() -> int:
            nonlocal left
            left -= len(reader.read_exactly(MEBIBYTE // 16))
            return left

        wait_until(lambda: take() and field(operator, "connected_clients") == 2, 10, "the deaf client is dropped")
        assert reader.read_exactly(left + 2) == bytes(left) + b"\r\n"
        deaf.close()


def has_gone(client: Raw) -> bool:
    """Return True if the server has closed a connection by now."""
    client.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return client.sock.recv(1) == b""
    return False


def keepalive_timer(godis: GodisProcess, client: Raw) -> str:
    """Return what `ss` says of the timer of the server's end of a connection."""
    require(shutil.which("ss"), "ss (iproute2) is not installed")
    place = f"sport = :{godis.port} and dport = :{client.sock.getsockname()[1]}"
    done = subprocess.run(["ss", "-tnoH", place], capture_output=True, text=True, check=True)
    return done.stdout


def test_keepalive_is_set_on_the_socket(godis: GodisProcess) -> None:
    with godis.raw() as first:
        assert first.ask("PING") == b"+PONG\r\n"
        assert re.search(r"timer:\(keepalive,(4min\d\dsec|5min)", keepalive_timer(godis, first))
        assert first.ask("CONFIG", "SET", "tcp-keepalive", "0") == b"+OK\r\n"
        with godis.raw() as second:
            assert second.ask("PING") == b"+PONG\r\n"
            assert "keepalive" not in keepalive_timer(godis, second)


def test_a_keepalive_longer_than_the_system_takes_keeps_nobody_out(godis: GodisProcess) -> None:
    with godis.raw() as first:
        assert first.ask("CONFIG", "SET", "tcp-keepalive", 2**31 - 1) == b"+OK\r\n"
        with godis.raw() as second:
            assert second.ask("PING") == b"+PONG\r\n"
            assert "keepalive" in keepalive_timer(godis, second)
    assert "Traceback" not in godis.stderr()


def vanish(client: Raw) -> None:
    """Close a socket without a word to the other end, as a machine that loses its power does."""
    tcp_repair = 19
    try:
        client.sock.setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
    except PermissionError:
        require(False, "a connection can vanish only as root")
    client.close()


def test_a_client_that_vanished_is_found_out_by_keepalive(godis: GodisProcess, witness: Witness) -> None:
    witness.client.ask("CONFIG", "SET", "tcp-keepalive", "1")
    with godis.raw() as client:
        client.send(encode("PING") + HUGE_ANNOUNCED)
        assert client.read_reply() == b"+PONG\r\n"
        vanish(client)
    assert field(witness.client, "connected_clients") == 2
    wait_until(lambda: field(witness.client, "connected_clients") == 1, 10, "it is found out")


def test_a_client_that_says_its_last_word_is_answered_and_closed(godis: GodisProcess, witness: Witness) -> None:
    with godis.raw() as client:
        client.send(encode("PING") + HUGE_ANNOUNCED)
        client.end_of_input()
        assert client.read_all() == b"+PONG\r\n"


# ---- out of descriptors, out of memory


def test_without_descriptors_nobody_is_accepted_and_those_who_are_in_are_served(
    godis: GodisProcess, witness: Witness
) -> None:
    limits = resource.prlimit(godis.pid, resource.RLIMIT_NOFILE)
    free = 10
    resource.prlimit(godis.pid, resource.RLIMIT_NOFILE, (descriptors(godis) + free, limits[1]))
    crowd = [godis.raw() for _ in range(free)]
    wait_until(lambda: field(witness.client, "connected_clients") == free + 1, what="there is no descriptor left")
    late = [godis.raw() for _ in range(20)]
    wait_until(lambda: "cannot accept more clients now: Too many open files" in godis.stderr(), what="a warning")
    for _ in range(20):
        assert witness.is_served()
    for client in crowd:
        client.close()
    for client in late[:free]:
        assert client.ask("PING") == b"+PONG\r\n"
        assert witness.is_served()
    resource.prlimit(godis.pid, resource.RLIMIT_NOFILE, limits)
    for client in late:
        assert client.ask("PING") == b"+PONG\r\n"
        client.close()
    assert godis.stderr().count("cannot accept") <= 1 + free


def limit_memory(godis: GodisProcess, more_bytes: int) -> None:
    """Let the process take so much more memory than it has now."""
    resource.prlimit(godis.pid, resource.RLIMIT_AS, (address_space_bytes(godis) + more_bytes, resource.RLIM_INFINITY))


def address_space_bytes(godis: GodisProcess) -> int:
    """Return how much memory the process has, used or not."""
    return int(Path(f"/proc/{godis.pid}/statm").read_text().split()[0]) * resource.getpagesize()


def test_a_value_for_which_there_is_no_memory_costs_only_its_own_client(godis: GodisProcess, witness: Witness) -> None:
    limit_memory(godis, 64 * MEBIBYTE)
    with godis.raw() as client, contextlib.suppress(ConnectionError):
        client.send(encode("SET", "before", "1") + b"*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$209715200\r\n")
        for _ in range(200):
            client.send(bytes(MEBIBYTE))
        client.send(b"\r\n")
        assert client.read_reply() == b"+OK\r\n"
        assert not client.read_reply().startswith(b"+")
    assert witness.is_served()
    assert witness.client.ask("EXISTS", "huge", "before") == b":1\r\n"


def test_a_command_for_which_there_is_no_memory_is_refused_and_changes_nothing(
    godis: GodisProcess, witness: Witness
) -> None:
    value = bytes(32 * MEBIBYTE) + b"v"
    before_bytes = address_space_bytes(godis)
    with godis.client() as client:
        client.setrange("k", 32 * MEBIBYTE, "v")
    wait_until(lambda: address_space_bytes(godis) < before_bytes + 40 * MEBIBYTE, what="its buffers are freed")
    limit_memory(godis, 24 * MEBIBYTE)
    for command in [("BITOP", "NOT", "k", "k"), ("BITOP", "NOT", "new", "k")] * 2:
        assert witness.client.ask(*command) == b"-ERR not enough memory for this command\r\n"
        assert witness.is_served()
    with godis.client() as client:
        assert client.get("k") == value
        assert not client.exists("new")
    godis.kill9()
    godis.start()
    with godis.client() as client:
        assert client.get("k") == value
    witness.client.close()
    witness.client = godis.raw()


# ---- at the limits


@pytest.mark.timeout(300)
def test_keys_and_values_of_the_largest_size_are_kept(godis: GodisProcess) -> None:
    size = (512 if SOAK else 8) * MEBIBYTE
    key, value = b"k" * size, b"v" * size
    with godis.raw(timeout=PATIENCE_SECONDS) as client:
        client.send(b"*3\r\n$3\r\nSET\r\n$%d\r\n" % size + key + b"\r\n$%d\r\n" % size + value + b"\r\n")
        assert client.read_reply() == b"+OK\r\n"
        client.send(b"*2\r\n$6\r\nSTRLEN\r\n$%d\r\n" % size + key + b"\r\n")
        assert client.read_reply() == b":%d\r\n" % size
        client.send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % size + key + b"\r\n")
        assert client.read_reply() == b"$%d\r\n" % size + value + b"\r\n"
        assert client.ask("APPEND", key[:1], "x") == b":1\r\n"
    godis.kill9()
    godis.start()
    with godis.raw(timeout=PATIENCE_SECONDS) as client:
        client.send(b"*2\r\n$6\r\nSTRLEN\r\n$%d\r\n" % size + key + b"\r\n")
        assert client.read_reply() == b":%d\r\n" % size


# ---- before AUTH


def smallest_request(row: Command) -> tuple[str, ...]:
    """Return a request that has as many words as the command needs."""
    words = row.name.decode().split("|")
    return (*words, *["1"] * (abs(row.arity) - len(words)))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GodisProcess, RedisProcess]]:
    """Godis and redis-server behind a password."""
    require(shutil.which("redis-server"), "redis-server is not installed")
    directory = tmp_path_factory.mktemp("locked")
    options = ("--requirepass", "secret")
    with GodisProcess(directory, *options) as godis, RedisProcess(directory, *options) as real:
        yield godis, real


def test_before_auth_every_command_but_these_is_refused(locked: tuple[GodisProcess, RedisProcess]) -> None:
    godis, _ = locked
    rows = [row for parent in TABLE.values() for row in (parent, *parent.subcommands.values())]
    with godis.raw() as client:
        allowed = set()
        for row in rows:
            if row.subcommands:
                continue
            if row.flags & NO_AUTH:
                allowed.add(row.name)
            else:
                assert client.ask(*smallest_request(row)).endswith(b"%b\r\n" % NO_AUTH_TEXT), row.name
        assert allowed == {b"AUTH", b"HELLO", b"QUIT", b"EXIT", b"RESET"}
        assert client.ask("HELLO", "3").startswith(
            b"-NOAUTH HELLO must be called with the client already authenticated"
        )
        assert client.ask("RESET") == b"+RESET\r\n"
        assert client.ask_line(b"GET k") == NO_AUTH_TEXT
        assert client.ask("AUTH", "wrong").startswith(b"-WRONGPASS ")
        assert client.ask("PING") == b"-%b\r\n" % NO_AUTH_TEXT
        assert client.ask("QUIT") == b"+OK\r\n"
        assert client.is_closed()


BEFORE_AUTH = [
    b"*11\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
    encode(*["PING"] * 10) + encode("QUIT"),
    encode("AUTH", "x" * 16384) + encode("QUIT"),
    encode("AUTH", "default", "secret", "x") + encode("QUIT"),
    encode("PING") * 200 + encode("AUTH", "secret") + encode(*["PING"] * 11) + encode("PING") + encode("QUIT"),
]


@pytest.mark.parametrize("wire", BEFORE_AUTH)
def test_the_narrow_limits_before_auth_are_those_of_redis(
    locked: tuple[GodisProcess, RedisProcess], wire: bytes
) -> None:
    answers = []
    for server in locked:
        with server.raw() as client:
            client.send(wire)
            answers.append(client.read_all())
    assert answers[0] == answers[1]


def test_a_crowd_before_auth_can_take_no_more_than_its_limits(locked: tuple[GodisProcess, RedisProcess]) -> None:
    godis, _ = locked
    request = b"*10\r\n" + b"".join(b"$16384\r\n" + b"x" * 16384 + b"\r\n" for _ in range(9)) + b"$16384\r\nx"
    with godis.raw() as friend:
        assert friend.ask("AUTH", "secret") == b"+OK\r\n"
        before = godis.resident_bytes
        crowd = [godis.raw() for _ in range(100)]
        for stranger in crowd:
            stranger.send(request)
        wait_until(lambda: field(friend, "total_net_input_bytes") > 100 * 9 * 16384, what="all has come")
        assert godis.resident_bytes - before < 100 * 11 * 16384 + 8 * MEBIBYTE
        assert friend.ask("PING") == b"+PONG\r\n"
        for stranger in crowd:
            stranger.close()
