"""TLS, with real certificates, clients and sockets: who gets in, who does not, and that nobody suffers from others."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from certificates import KEY_PASSWORD, Certificates
from program import assert_refused, run, run_here
from servers import (
    HOST,
    PATIENCE_SECONDS,
    GodisProcess,
    Raw,
    RedisProcess,
    encode,
    free_port,
    outward_address,
    parse,
    require,
    wait_until,
)
from tls_clients import Hand, TlsGodis, override, redis_py, tls_flags

from net.tls import DONE, MOST_RECORDS, RECORD_BYTES, SEND_BYTES, TlsSocket
from net.turn import RECEIVE_BYTES

MEBIBYTE = 1 << 20
PING = encode("PING")
PONG = b"+PONG\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[TlsGodis]:
    """One Godis for the tests that change no settings."""
    with TlsGodis(tmp_path_factory.mktemp("tls"), certificates) as godis:
        yield godis


def descriptors(godis: GodisProcess) -> int:
    return len(os.listdir(f"/proc/{godis.pid}/fd"))


def says_handshake_failed(godis: GodisProcess, why: str) -> bool:
    return any("TLS handshake failed: " + why in line for line in godis.stderr().splitlines())


# ---- clients as they are


def redis_cli(port: int, *words: str) -> str:
    require(shutil.which("redis-cli"), "redis-cli is not installed")
    command = ["redis-cli", "-h", HOST, "-p", str(port), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return (done.stdout + done.stderr).strip()


def test_redis_cli_speaks_tls(shared: TlsGodis, certificates: Certificates) -> None:
    trusting = ["--tls", "--cacert", certificates.cert("authority")]
    showing = ["--cert", certificates.cert("client"), "--key", certificates.key("client")]
    assert redis_cli(shared.port, *trusting, *showing, "SET", "by-cli", "value") == "OK"
    assert redis_cli(shared.port, *trusting, *showing, "-3", "GET", "by-cli") == "value"
    assert "value" not in redis_cli(shared.port, *trusting, "GET", "by-cli")
    assert "value" not in redis_cli(shared.port, "GET", "by-cli")
    untrusting = ["--tls", "--cacert", certificates.cert("foreign-authority")]
    assert "certificate verify failed" in redis_cli(shared.port, *untrusting, *showing, "GET", "by-cli")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_speaks_tls(shared: TlsGodis, protocol: int) -> None:
    with shared.client(protocol=protocol) as client:
        assert client.set("by-py", b"\x00\xff")
        assert client.get("by-py") == b"\x00\xff"
        assert 21500 < client.ttl("by-py") <= 21600


# --tls-auth-clients, who comes, whether it is served
LET_IN = [
    ("yes", "client", True),
    ("yes", None, False),
    ("yes", "foreign-client", False),
    ("yes", "server-only", False),
    ("optional", "client", True),
    ("optional", None, True),
    ("optional", "foreign-client", False),
    ("no", "client", True),
    ("no", None, True),
    ("no", "foreign-client", True),
]


@pytest.mark.parametrize("mode", ["yes", "optional", "no"])
def test_who_is_let_in(tmp_path: Path, certificates: Certificates, mode: str) -> None:
    with (
        GodisProcess(tmp_path, *tls_flags(certificates, tls_port := free_port())[2:]) as godis,
        godis.client() as operator,
    ):
        operator.config_set("tls-auth-clients", mode)
        for who, served in [(who, served) for its_mode, who, served in LET_IN if its_mode == mode]:
            with redis_py(tls_port, certificates, who) as client:
                if served:
                    assert client.ping(), who
                else:
                    with pytest.raises(redis.ConnectionError):
                        client.ping()
        if mode == "yes":
            wait_until(lambda: says_handshake_failed(godis, "peer did not return a certificate"))
        if mode != "no":
            wait_until(lambda: says_handshake_failed(godis, "certificate of the client refused: unable to get"))
        assert "Traceback" not in godis.stderr()


def test_a_client_that_does_not_trust_the_server_leaves_and_others_stay(
    shared: TlsGodis, certificates: Certificates
) -> None:
    with shared.raw() as bystander:
        distrustful = certificates.client_context(authority="foreign-authority")
        with pytest.raises(ssl.SSLCertVerificationError):
            shared.raw(context=distrustful)
        wait_until(lambda: says_handshake_failed(shared, "tlsv1 alert unknown ca"))
        assert bystander.ask("PING") == PONG


def s_client(port: int, certificates: Certificates, *words: str) -> str:
    shown = ["-cert", certificates.cert("client"), "-key", certificates.key("client")]
    command = ["openssl", "s_client", "-connect", f"{HOST}:{port}", *shown, *words]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return done.stdout + done.stderr


def test_tls_1_2_is_spoken_and_1_1_is_refused(shared: TlsGodis, certificates: Certificates) -> None:
    lax = ["-cipher", "DEFAULT@SECLEVEL=0"]
    assert "Protocol  : TLSv1.2" in s_client(shared.port, certificates, "-tls1_2")
    for version in ("-tls1_1", "-tls1"):
        assert "alert protocol version" in s_client(shared.port, certificates, version, *lax)
    wait_until(lambda: says_handshake_failed(shared, "unsupported protocol"))


def test_the_versions_can_be_chosen(tmp_path: Path, certificates: Certificates) -> None:
    with TlsGodis(tmp_path, certificates, "--tls-protocols", "TLSv1.3") as godis:
        with godis.raw() as client:
            assert client.ask("CONFIG", "SET", "tls-protocols", "TLSv1.1").startswith(b"-ERR CONFIG SET failed")
            assert client.ask("CONFIG", "GET", "tls-protocols") == encode("tls-protocols", "TLSv1.3")
        assert "alert protocol version" in s_client(godis.port, certificates, "-tls1_2")
        with godis.raw() as client:
            assert client.ask("CONFIG", "SET", "tls-protocols", "tlsv1.2") == b"+OK\r\n"
        with godis.raw() as client:
            assert client.sock.version() == "TLSv1.2"
            assert client.ask("PING") == PONG


# ---- ports


def test_both_ports_serve_the_same_keys(tmp_path: Path, certificates: Certificates) -> None:
    tls_port = free_port()
    with GodisProcess(tmp_path, *tls_flags(certificates, tls_port)[2:]) as godis, godis.raw() as plain:
        with redis_py(tls_port, certificates) as client:
            client.set("k", "v")
            assert client.client_info()["laddr"] == f"{HOST}:{tls_port}"
            assert client.info("server")["tcp_port"] == godis.port
        assert plain.ask("GET", "k") == b"$1\r\nv\r\n"
        assert f"serving on {HOST}:{godis.port}\n" in godis.stderr()
        assert f"serving on {HOST}:{tls_port} (TLS)\n" in godis.stderr()


def test_port_0_beside_a_tls_port_is_no_port(shared: TlsGodis) -> None:
    assert shared.stderr().count("serving on") == 1
    with shared.raw() as client:
        assert client.ask("CONFIG", "GET", "port") == encode("port", "0")
        assert b"\r\ntcp_port:%d\r\n" % shared.port in client.ask("INFO", "server")


def test_a_plain_client_at_the_tls_port_is_closed(shared: TlsGodis) -> None:
    with shared.raw() as bystander:
        for request in (PING, b"PING\r\n", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"\x16\x03" + bytes(300)):
            with Raw(shared.connect()) as client:
                client.send(request)
                with contextlib.suppress(ConnectionResetError):
                    assert PONG not in client.read_all()
        assert bystander.ask("PING") == PONG
        wait_until(lambda: says_handshake_failed(shared, "wrong version number"))


def test_a_tls_client_at_the_plain_port_is_told_at_once(shared_godis: GodisProcess) -> None:
    with (
        socket.create_connection((HOST, shared_godis.port), 20) as sock,
        pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number"),
    ):
        ssl.create_default_context().wrap_socket(sock, server_hostname=HOST)


# ---- the same turn, the same bytes


def test_a_record_fits_into_the_receive_buffer() -> None:
    """Else a rest of it would be decrypted and pending while the loop waits for the socket."""
    assert RECEIVE_BYTES >= RECORD_BYTES
    assert SEND_BYTES % RECORD_BYTES == 0


@pytest.mark.parametrize("size", [1, 2, RECORD_BYTES // len(PING)])
def test_all_of_a_record_is_answered_without_another_byte(shared: TlsGodis, size: int) -> None:
    with shared.raw() as client:
        client.send(PING * size)
        assert client.read_exactly(len(PONG) * size) == PONG * size


def test_records_that_come_at_once_are_all_answered(shared: TlsGodis) -> None:
    """Also those that come with the last flight of the handshake."""
    with shared.hand() as client:
        wire = client.finish()
        wire += b"".join(client.sealed(PING) for _ in range(50)) + client.sealed(PING * (RECORD_BYTES // len(PING)))
        client.sock.sendall(wire)
        count = 50 + RECORD_BYTES // len(PING)
        assert client.read_exactly(len(PONG) * count) == PONG * count


def test_a_pipeline_of_10_000_sets_and_gets(shared: TlsGodis) -> None:
    with shared.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.set(f"key{number}", f"value{number}")
        assert pipe.execute() == [True] * 10_000
        for number in range(10_000):
            pipe.get(f"key{number}")
        assert pipe.execute() == [b"value%d" % number for number in range(10_000)]


def test_a_line_of_text_is_answered_in_text(shared: TlsGodis) -> None:
    with shared.raw() as client:
        assert client.ask_line(b"SET line 'a b'") == b"OK"
        assert client.ask_line(b"GET line") == b"a b"
        client.send(b"exit\r\n")
        assert client.read_all() == b""  # by close_notify: without it this raises


@pytest.fixture
def big_value(shared: TlsGodis) -> bytes:
    value = os.urandom(MEBIBYTE) * 8
    with shared.client() as client:
        client.set("big", value)
    return value


def test_megabytes_go_to_a_slow_reader_and_others_are_served(shared: TlsGodis, big_value: bytes) -> None:
    reply = b"$%d\r\n%b\r\n" % (len(big_value), big_value)
    with shared.raw() as client, shared.raw() as bystander:
        before = shared.resident_bytes
        client.send(encode("GET", "big") * 20 + PING)
        wait_until(lambda: b" events=rw " in bystander.ask("CLIENT", "LIST"), what="the reader is behind")
        for _ in range(20):
            assert client.read_exactly(len(reply)) == reply
            assert bystander.ask("PING") == PONG
        assert client.read_reply() == PONG
        assert shared.resident_bytes - before < 60 * MEBIBYTE  # of 160 asked for


def test_who_never_reads_is_dropped_at_the_limit(tmp_path: Path, certificates: Certificates) -> None:
    with TlsGodis(tmp_path, certificates) as godis, godis.raw() as bystander:
        bystander.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 8mb 0 0")
        bystander.ask("SET", "big", bytes(MEBIBYTE))
        with godis.raw() as client:
            client.send(encode("MGET", *["big"] * 32))
            wait_until(lambda: "bytes of replies not read" in godis.stderr(), what="the slow reader is dropped")
            with pytest.raises((ConnectionError, OSError)):
                client.read_reply()
        assert bystander.ask("PING") == PONG


class Typist:
    """s_client as one who types: a line of K asks for new keys on both sides (1.3), one of R for a handshake (1.2)."""

    def __init__(self, port: int, certificates: Certificates, version: str) -> None:
        shown = ["-cert", certificates.cert("client"), "-key", certificates.key("client")]
        command = ["openssl", "s_client", "-connect", f"{HOST}:{port}", version, "-brief", *shown]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(command, bufsize=0, **pipes)  # type: ignore[call-overload]

    def __enter__(self) -> Typist:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def type(self, line: str, expected: bytes) -> bool:
        """Type a line; say whether what is expected is shown before the end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        shown = b""
        while expected not in shown and (chunk := self.process.stdout.read(4096)):
            shown += chunk
        return expected in shown


def test_new_keys_in_the_middle_are_taken_and_given(shared: TlsGodis, certificates: Certificates) -> None:
    with shared.raw() as bystander, Typist(shared.port, certificates, "-tls1_3") as typist:
        for _ in range(20):
            assert typist.type("PING", b"+PONG\r\n")
            assert typist.type("K", b"KEYUPDATE\n")
        assert typist.type("PING", b"+PONG\r\n")
        assert bystander.ask("PING") == PONG


def test_a_second_handshake_is_refused_and_hurts_nobody(shared: TlsGodis, certificates: Certificates) -> None:
    with shared.raw() as bystander, Typist(shared.port, certificates, "-tls1_2") as typist:
        assert typist.type("PING", b"+PONG\r\n")
        assert typist.type("R", b"no renegotiation")
        wait_until(lambda: typist.process.poll() is not None, what="s_client gives up")
        assert bystander.ask("PING") == PONG
        wait_until(lambda: b"connected_clients:1\r\n" in bystander.ask("INFO", "clients"), what="it is gone")


# ---- the end of a connection


def test_requests_before_close_notify_are_answered_after_it(shared: TlsGodis, big_value: bytes) -> None:
    with shared.hand() as client:
        client.sock.sendall(client.finish() + client.sealed(PING + encode("GET", "big") + PING))
        client.end_of_input()
        reply = PONG + b"$%d\r\n%b\r\n" % (len(big_value), big_value) + PONG
        assert client.read_exactly(len(reply)) == reply
        with pytest.raises(ssl.SSLZeroReturnError):  # the server's close_notify
            client.read_exactly(1)


def test_a_close_without_close_notify_is_a_close(shared: TlsGodis) -> None:
    with shared.raw() as bystander:
        for number in range(20):
            client = shared.raw()
            client.ask("PING")
            if number % 2:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            client.close()
        wait_until(lambda: b"connected_clients:1\r\n" in bystander.ask("INFO", "clients"), what="all are gone")


def test_a_client_can_be_killed_in_use_and_in_its_handshake(shared: TlsGodis) -> None:
    with shared.raw() as chief, shared.raw() as client, Raw(shared.connect()) as silent:
        number = parse(client.ask("CLIENT", "ID"))
        assert chief.ask("CLIENT", "KILL", "ID", number) == b":1\r\n"
        # It only reads: a write to the closed connection fails, and OpenSSL 3.6 then reports that to the next read of
        # another connection of this process.
        with contextlib.suppress(ssl.SSLEOFError):  # some releases of OpenSSL report the end, others do not
            assert client.read_all() == b""
        address = "{}:{}".format(*silent.sock.getsockname())
        wait_until(lambda: address.encode() in chief.ask("CLIENT", "LIST"), what="it is in the list")
        assert chief.ask("CLIENT", "KILL", "ADDR", address) == b":1\r\n"
        assert silent.is_closed()


def test_the_end_of_the_process_answers_what_it_has_read(tmp_path: Path, certificates: Certificates) -> None:
    with TlsGodis(tmp_path, certificates) as godis:
        with godis.raw() as client, Raw(godis.connect()), godis.raw() as idle:
            client.send(b"".join(encode("SET", f"key{number}", number) for number in range(1000)))
            assert client.read_reply() == b"+OK\r\n"
            assert godis.terminate() == 0
            acknowledged = 1 + (client.read_all().count(b"+OK\r\n"))
            assert idle.read_all() == b""
        assert "Traceback" not in godis.stderr()
        godis.start()
        with godis.raw() as client:
            assert parse(client.ask("DBSIZE")) >= acknowledged


# ---- handshakes


def test_a_handshake_that_ends_at_any_byte_disturbs_nobody(tmp_path: Path, certificates: Certificates) -> None:
    def cut(godis: TlsGodis, first: int | None, second: int | None) -> int:
        """Send so much of the client's two flights, and leave; return how much there was of the last."""
        with godis.hand(None) as client:
            if second is None:
                flight = client.flight()
                client.sock.sendall(flight[:first])
            else:
                flight = client.finish()
                client.sock.sendall(flight[:second])
            return len(flight)

    with TlsGodis(tmp_path, certificates, "--tls-auth-clients", "no") as godis, godis.raw() as bystander:
        bystander.ask("PING")
        before = descriptors(godis)
        for size in range(cut(godis, 0, None)):
            cut(godis, size, None)
            assert size % 16 or bystander.ask("PING") == PONG
        for size in range(cut(godis, None, 0)):
            cut(godis, None, size)
            assert bystander.ask("PING") == PONG
        wait_until(lambda: b"connected_clients:1\r\n" in bystander.ask("INFO", "clients"), what="all are gone")
        assert descriptors(godis) == before
        assert "Traceback" not in godis.stderr()
        assert "handshake failed" not in godis.stderr()  # who leaves is no news


def test_a_handshake_byte_by_byte_is_a_handshake(shared: TlsGodis) -> None:
    def drip(sock: socket.socket, data: bytes) -> None:
        for at in range(len(data)):
            sock.sendall(data[at : at + 1])

    with shared.hand() as client:
        drip(client.sock, client.flight())
        while not (last := client.flight()):
            client.take()
        drip(client.sock, last + client.sealed(PING))
        assert client.read_exactly(len(PONG)) == PONG


class HastyGodis(TlsGodis):
    """Godis with less patience for handshakes."""

    def command(self) -> list[str]:
        python, program, *rest = super().command()
        code = (
            f"import sys; sys.path.insert(0, {str(Path(program).parent)!r}); import godis, server;"
            "server.HANDSHAKE_SECONDS = 0.5; sys.exit(godis.main(sys.argv[1:]))"
        )
        return [python, "-c", code, *rest]


def count_of_failed_handshakes(godis: GodisProcess) -> int:
    """Count those that it told of, and those of which it told how many more there were, a second later."""
    told = godis.stderr().count("TLS handshake failed: took too long")
    return told + sum(map(int, re.findall(r"(\d+) more like .* TLS handshake failed", godis.stderr())))


def test_who_does_not_shake_hands_holds_up_nobody_and_is_closed(tmp_path: Path, certificates: Certificates) -> None:
    with HastyGodis(tmp_path, certificates) as godis, godis.raw() as bystander:
        silent = [Raw(godis.connect()) for _ in range(30)]
        halfway = [godis.hand() for _ in range(30)]
        for client in halfway:
            client.sock.sendall(client.flight()[:-1])
        assert bystander.ask("PING") == PONG
        assert all(raw.is_closed() for raw in silent)
        for client in halfway:
            with client:
                assert client.sock.recv(1) == b""
        wait_until(lambda: b"connected_clients:1\r\n" in bystander.ask("INFO", "clients"), what="all are gone")
        wait_until(lambda: count_of_failed_handshakes(godis) == 60, what="each is told, or counted with others")
        for raw in silent:
            raw.close()


def test_a_handshake_counts_against_maxclients(tmp_path: Path, certificates: Certificates) -> None:
    with TlsGodis(tmp_path, certificates, "--maxclients", "2") as godis, godis.raw() as first:
        wait_until(lambda: b"connected_clients:1\r\n" in first.ask("INFO", "clients"), what="the starter is gone")
        with Raw(godis.connect()) as silent:
            wait_until(lambda: b"connected_clients:2\r\n" in first.ask("INFO", "clients"), what="it counts")
            with pytest.raises(OSError):  # noqa: PT011  # an SSLEOFError or a reset
                godis.raw()
            assert b"rejected_connections:1\r\n" in first.ask("INFO", "stats")
            silent.close()
        wait_until(lambda: b"connected_clients:1\r\n" in first.ask("INFO", "clients"), what="it is gone")
        with godis.raw() as second:
            assert second.ask("PING") == PONG


def test_a_flood_of_clients_that_leave_costs_no_descriptor_and_no_memory(
    tmp_path: Path, certificates: Certificates
) -> None:
    def wave(godis: TlsGodis, operator: Raw) -> None:
        context = certificates.client_context()
        for _ in range(80):
            with godis.raw(context=context) as client:
                client.send(PING)
        wait_until(lambda: b"connected_clients:1\r\n" in operator.ask("INFO", "clients"), what="all are gone")

    with TlsGodis(tmp_path, certificates) as godis, godis.raw() as operator:
        wave(godis, operator)
        before, resident = descriptors(godis), godis.resident_bytes
        wave(godis, operator)
        assert descriptors(godis) == before
        assert godis.resident_bytes - resident < 2 * MEBIBYTE


# ---- password and protected mode


def test_auth_is_as_on_a_plain_port(tmp_path: Path, certificates: Certificates) -> None:
    with TlsGodis(tmp_path, certificates, "--requirepass", "secret") as godis, godis.raw() as client:
        assert client.ask("GET", "k") == b"-NOAUTH Authentication required.\r\n"
        assert client.ask("AUTH", "secret") == b"+OK\r\n"
        assert client.ask("GET", "k") == b"$-1\r\n"
        with godis.client(password="secret") as other:
            assert other.ping()


def test_protected_mode_refuses_by_tls_too(tmp_path: Path, certificates: Certificates) -> None:
    address = outward_address()
    require(address != HOST, "this machine has no address but loopback")
    with TlsGodis(tmp_path, certificates, "--host", "0.0.0.0") as godis:
        context = certificates.client_context()
        context.check_hostname = False
        with socket.create_connection((address, godis.port), 20) as sock, context.wrap_socket(sock) as client:
            assert client.recv(100).startswith(b"-DENIED Redis is running in protected mode")
        assert "without a password" not in godis.stderr()  # only those with a certificate can reach it


def test_an_http_request_by_tls_is_closed(shared: TlsGodis) -> None:
    with shared.raw() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: here\r\n\r\nSET smuggled 1\r\n")
        assert client.read_all() == b""
    with shared.raw() as client:
        assert client.ask("EXISTS", "smuggled") == b":0\r\n"


# ---- certificates that change


def shown_serial_number(godis: TlsGodis) -> str:
    with godis.raw() as client:
        return str(client.sock.getpeercert()["serialNumber"])  # type: ignore[attr-defined]


def test_a_renewed_certificate_is_shown_to_clients_to_come(tmp_path: Path, certificates: Certificates) -> None:
    cert, key = tmp_path / "current.crt", tmp_path / "current.key"

    def install(name: str) -> None:
        cert.write_bytes(Path(certificates.cert(name)).read_bytes())
        key.write_bytes(Path(certificates.key(name)).read_bytes())

    install("server")
    with TlsGodis(tmp_path, certificates, "--tls-cert-file", str(cert), "--tls-key-file", str(key)) as godis:
        with godis.raw() as old:
            assert shown_serial_number(godis) == certificates.serial_number("server")
            install("renewed")
            assert shown_serial_number(godis) == certificates.serial_number("server")
            assert old.ask("CONFIG", "SET", "tls-cert-file", str(cert)) == b"+OK\r\n"  # the same name: read anew
            assert shown_serial_number(godis) == certificates.serial_number("renewed")
            assert old.ask("PING") == PONG
            key.write_text("no key")
            assert old.ask("CONFIG", "SET", "tls-key-file", str(key)).startswith(b"-ERR CONFIG SET failed")
            assert shown_serial_number(godis) == certificates.serial_number("renewed")
        assert "TLS stays as it was: --tls-key-file" in godis.stderr()


class TlsRedis(RedisProcess):
    """The real redis-server, by TLS beside its plain port."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        super().__init__(directory, *tls_flags(certificates, free_port())[2:])


def test_a_change_that_makes_no_tls_is_refused_as_by_redis_and_changes_nothing(
    tmp_path: Path, certificates: Certificates
) -> None:
    changes = [
        ["tls-cert-file", "nosuch"],
        ["tls-key-file", certificates.key("client")],
        ["tls-key-file", ""],
        ["tls-ca-cert-file", "nosuch"],
        ["tls-ca-cert-file", ""],
        ["tls-auth-clients", "maybe"],
        ["maxclients", "77", "tls-cert-file", "nosuch"],
        ["tls-cert-file", certificates.cert("renewed"), "tls-key-file", certificates.key("renewed"), "port", "x"],
    ]
    with TlsRedis(tmp_path, certificates) as real, TlsGodis(tmp_path, certificates) as godis, godis.raw() as client:
        before = client.ask("CONFIG", "GET", "*")
        with real.raw() as its_client:
            for change in changes[:-1]:
                answer = client.ask("CONFIG", "SET", *change)
                assert answer == its_client.ask("CONFIG", "SET", *change), change
                assert answer.startswith(b"-ERR CONFIG SET failed")
        assert client.ask("CONFIG", "SET", *changes[-1]).startswith(b"-ERR CONFIG SET failed")
        assert client.ask("CONFIG", "GET", "*") == before
        assert shown_serial_number(godis) == certificates.serial_number("server")


def test_without_a_tls_port_the_settings_are_only_noted(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as client:
        assert client.ask("CONFIG", "SET", "tls-cert-file", "nosuch") == b"+OK\r\n"
        assert client.ask("CONFIG", "SET", "tls-cert-file", "") == b"+OK\r\n"
        assert client.ask("CONFIG", "SET", "tls-port", "1").startswith(b"-ERR CONFIG SET failed")


# ---- start


BadStart = Callable[[Certificates], list[str]]
BAD_STARTS: list[tuple[str, BadStart, tuple[str, ...]]] = [
    ("nothing", lambda _: [], ("--tls-cert-file", "not given")),
    ("no key", lambda c: ["--tls-cert-file", c.cert("server")], ("--tls-key-file", "not given")),
    (
        "no such certificate",
        lambda c: ["--tls-cert-file", "nosuch.crt", "--tls-key-file", c.key("server")],
        ("--tls-cert-file nosuch.crt", "No such file"),
    ),
    (
        "no such key",
        lambda c: ["--tls-cert-file", c.cert("server"), "--tls-key-file", "nosuch.key"],
        ("--tls-key-file nosuch.key", "No such file"),
    ),
    (
        "another's key",
        lambda c: ["--tls-cert-file", c.cert("server"), "--tls-key-file", c.key("client")],
        ("--tls-key-file", "client.key", "key values mismatch"),
    ),
    (
        "a key for a certificate",
        lambda c: ["--tls-cert-file", c.key("server"), "--tls-key-file", c.key("server")],
        ("--tls-cert-file", "server.key", "no certificate"),
    ),
    (
        "a locked key",
        lambda c: ["--tls-cert-file", c.cert("server"), "--tls-key-file", c.key("locked")],
        ("--tls-key-file", "locked.key", "--tls-key-file-pass"),
    ),
    (
        "no authority",
        lambda c: ["--tls-cert-file", c.cert("server"), "--tls-key-file", c.key("server")],
        ("--tls-auth-clients yes", "--tls-ca-cert-file", "--tls-auth-clients no"),
    ),
    (
        "no such authority",
        lambda c: [
            *["--tls-cert-file", c.cert("server"), "--tls-key-file", c.key("server"), "--tls-ca-cert-file", "nosuch"]
        ],
        ("--tls-ca-cert-file nosuch", "No such file"),
    ),
    (
        "no such directory",
        lambda c: [
            *["--tls-cert-file", c.cert("server"), "--tls-key-file", c.key("server"), "--tls-ca-cert-dir", "nosuch"]
        ],
        ("--tls-ca-cert-dir nosuch", "No such file"),
    ),
]


@pytest.mark.parametrize(("flags", "said"), [row[1:] for row in BAD_STARTS], ids=[row[0] for row in BAD_STARTS])
def test_a_start_without_what_it_takes_is_refused_in_one_line(
    tmp_path: Path, certificates: Certificates, flags: BadStart, said: tuple[str, ...]
) -> None:
    done = run(tmp_path, "--port", "0", "--tls-port", str(free_port()), *flags(certificates))
    assert_refused(done, 1, "no TLS: ", *said)
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_tls_port_in_use_is_refused(shared: TlsGodis, tmp_path: Path) -> None:
    done = run(tmp_path, *tls_flags(shared.certificates, shared.port))
    assert_refused(done, 1, str(shared.port), "in use", "--tls-port")


def test_a_locked_key_is_opened_by_its_password(tmp_path: Path, certificates: Certificates) -> None:
    locked = ["--tls-key-file", certificates.key("locked")]
    with TlsGodis(tmp_path, certificates, *locked, env={"GODIS_TLS_KEY_FILE_PASS": KEY_PASSWORD}) as godis:
        with godis.raw() as client:
            assert client.ask("PING") == PONG
        assert KEY_PASSWORD not in godis.stderr()


def test_authorities_can_come_from_a_directory(tmp_path: Path, certificates: Certificates) -> None:
    directory = tmp_path / "authorities"
    directory.mkdir()
    authority = certificates.cert("authority")
    command = ["openssl", "x509", "-in", authority, "-noout", "-hash"]
    name = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout.strip()
    (directory / f"{name}.0").write_bytes(Path(authority).read_bytes())
    flags = ["--tls-ca-cert-file", "", "--tls-ca-cert-dir", str(directory)]
    with TlsGodis(tmp_path, certificates, *flags) as godis, godis.raw() as client:
        assert client.ask("PING") == PONG
        with pytest.raises(OSError), godis.raw(who="foreign-client") as stranger:  # noqa: PT011
            stranger.ask("PING")


# ---- ping


def test_ping_asks_a_server_that_has_only_tls(tmp_path: Path, certificates: Certificates) -> None:
    with TlsGodis(tmp_path, certificates, "--requirepass", "secret") as godis:
        flags = [*tls_flags(certificates, godis.port), "--requirepass", "secret"]
        done = run_here(tmp_path, "ping", *flags)
        assert (done.returncode, done.stdout, done.stderr) == (0, "PONG\n", "")
        assert_refused(run_here(tmp_path, "ping", *flags[:-2]), 1, "NOAUTH")
        variables = {
            "GODIS_" + flag[2:].upper().replace("-", "_"): value
            for flag, value in zip(flags[::2], flags[1::2], strict=True)
        }
        assert run_here(tmp_path, "ping", env=variables).returncode == 0
        certless = ["--tls-cert-file", "", "--tls-key-file", ""]
        distrustful = [*certless, "--tls-ca-cert-file", certificates.cert("foreign-authority")]
        assert_refused(
            run_here(tmp_path, "ping", *override(flags, distrustful)), 1, str(godis.port), "certificate verify failed"
        )
        assert_refused(run_here(tmp_path, "ping", *override(flags, certless)), 1, str(godis.port))
        wait_until(lambda: says_handshake_failed(godis, "peer did not return a certificate"))
        assert_refused(
            run_here(tmp_path, "ping", *override(flags, ["--tls-ca-cert-file", "nosuch"])), 1, "no TLS", "nosuch"
        )
        godis.kill9()
        assert_refused(run_here(tmp_path, "ping", *flags), 1, str(godis.port), "refused")


def test_ping_can_have_a_certificate_of_its_own(tmp_path: Path, certificates: Certificates) -> None:
    """For a server's certificate that is good for servers only, and names another address than the one asked."""
    flags = ["--tls-cert-file", certificates.cert("server-only"), "--tls-key-file", certificates.key("server-only")]
    own = ["--tls-client-cert-file", certificates.cert("client"), "--tls-client-key-file", certificates.key("client")]

    class ServerOnly(TlsGodis):
        def context(self, who: str | None) -> ssl.SSLContext:
            context = super().context(who)
            context.check_hostname = False
            return context

    with ServerOnly(tmp_path, certificates, *flags) as godis:
        all_flags = override(tls_flags(certificates, godis.port), flags)
        assert_refused(run_here(tmp_path, "ping", *all_flags), 1, str(godis.port))
        wait_until(lambda: says_handshake_failed(godis, "certificate of the client refused: unsuitable certificate"))
        assert run_here(tmp_path, "ping", *all_flags, *own).returncode == 0


def test_ping_asks_the_plain_port_where_there_is_one(tmp_path: Path, certificates: Certificates) -> None:
    flags = tls_flags(certificates, free_port())[2:]
    with GodisProcess(tmp_path, *flags) as godis:
        assert run_here(tmp_path, "ping", "--port", str(godis.port), *flags).returncode == 0


# ---- records without data


def connected_pair(certificates: Certificates) -> tuple[TlsSocket, Hand]:
    """Make both ends of a TLS connection in this process."""
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert("server"), certificates.key("server"))
    server, client = TlsSocket(ours, context), Hand(theirs, certificates.client_context(None))
    while flight := client.flight():
        theirs.sendall(flight)
        if server.shake_hands() == DONE:
            break
        client.take()
    return server, client


class NoData:
    """What OpenSSL does with a record that holds no data, such as a KeyUpdate."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, size: int, buffer: object) -> int:
        self.reads += 1
        raise ssl.SSLWantReadError

    def unwrap(self) -> None:
        raise ssl.SSLWantReadError


@pytest.mark.parametrize(
    "record", [b"\x17\x03\x03\x00\x16" + bytes(22), b"\x17\x03\x03\x00\x00"], ids=["full", "empty"]
)
def test_of_records_without_data_some_are_read_in_a_call(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, record: bytes
) -> None:
    """The rest stays in the socket, whose other clients have their turn."""
    server, client = connected_pair(certificates)
    with contextlib.closing(server), client:
        no_data = NoData()
        monkeypatch.setattr(server, "_tls", no_data)
        client.sock.sendall(record * 1000)
        for call in range(1, 1000 // MOST_RECORDS):
            with pytest.raises(BlockingIOError):
                server.recv_into(bytearray(RECEIVE_BYTES))
            assert no_data.reads == call * MOST_RECORDS
            assert len(server.recv(10**6, socket.MSG_PEEK)) == len(record) * (1000 - call * MOST_RECORDS)


def test_records_are_read_however_they_are_cut(certificates: Certificates) -> None:
    server, client = connected_pair(certificates)
    with contextlib.closing(server), client:
        buffer = bytearray(RECEIVE_BYTES)
        data = os.urandom(RECORD_BYTES)
        wire = client.sealed(b"short") + client.sealed(data) + client.sealed(b"last")
        read = []
        for start in range(0, len(wire), 7):
            client.sock.sendall(wire[start : start + 7])
            with contextlib.suppress(BlockingIOError):
                read.append(bytes(buffer[: server.recv_into(buffer)]))
        assert read == [b"short", data, b"last"]
        client.end_of_input()
        assert server.recv_into(buffer) == 0


def test_a_record_that_is_sent_in_part_does_not_count(certificates: Certificates) -> None:
    """What the caller gives again is sent once."""
    server, client = connected_pair(certificates)
    with contextlib.closing(server), client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        rest = memoryview(data := os.urandom(MEBIBYTE))
        read = b""
        while rest or len(read) < len(data):
            with contextlib.suppress(BlockingIOError):
                rest = rest[server.send(rest) :] if rest else rest
            client.incoming.write(client.sock.recv(1000))
            with contextlib.suppress(ssl.SSLWantReadError):
                while chunk := client.tls.read(MEBIBYTE):
                    read += chunk
        assert read == data
