"""What a server listens on: addresses of IPv4 and IPv6, the Unix socket, and what `ping` asks."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from instances import Bench
from program import assert_refused, run, run_here
from servers import GODIS, HOST, GodisProcess, Raw, free_port, require, wait_until

from config import Config, SettingError
from net.addresses import remove_unix

NO_ADDRESS = "192.0.2.1"  # of a network for documentation: no machine has it
NO_ADDRESS_6 = "2001:db8::1"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def answers(host: str, port: int) -> bool:
    try:
        with Raw(socket.create_connection((host, port), 10)) as client:
            return client.ask("PING") == b"+PONG\r\n"
    except ConnectionRefusedError:
        return False


# ---- addresses


@pytest.mark.parametrize(
    ("hosts", "v4", "v6"),
    [
        ("0.0.0.0 ::", True, True),
        (":: 0.0.0.0", True, True),
        ("* ::*", True, True),
        ("127.0.0.1 -::1", True, True),
        ("::1 127.0.0.1", True, True),
        ("127.0.0.1", True, False),
        ("localhost", True, False),
        ("::", True, True),
        ("-::", True, True),
        ("127.0.0.1 -::1 -" + NO_ADDRESS + " -" + NO_ADDRESS_6, True, True),
    ],
)
def test_addresses_of_both_families_are_listened_on(tmp_path: Path, hosts: str, v4: bool, v6: bool) -> None:
    require(has_ipv6(), "this machine has no IPv6")
    with GodisProcess(tmp_path, "--host", hosts) as godis:
        assert (answers("127.0.0.1", godis.port), answers("::1", godis.port)) == (v4, v6)
        assert run_here(tmp_path, "ping", "--host", hosts, "--port", str(godis.port)).returncode == 0
        with godis.client() as client:
            assert client.config_get("bind") == {"bind": hosts}


def test_a_client_of_this_machine_is_local_whatever_it_connects_to(tmp_path: Path) -> None:
    require(has_ipv6(), "this machine has no IPv6")
    with GodisProcess(tmp_path, "--host", "::") as godis:
        for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
            with Raw(socket.create_connection((host, godis.port), 10)) as client:
                assert client.ask("DEBUG", "SLEEP", 0) == b"+OK\r\n"  # enable-debug-command is local
                info = client.ask("CLIENT", "INFO").decode()
                port = client.sock.getsockname()[1]
                assert f" addr={shown}:{port} laddr={shown}:{godis.port} " in info
        assert "not listening" not in godis.stderr()


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ("no.such.host.invalid", ["no.such.host.invalid", "ame"]),  # Name or service not known; its words differ
        ("a..b", ["a..b", "no name of a host"]),
        (NO_ADDRESS, [NO_ADDRESS, "Cannot assign requested address", "--host"]),
        (f"-{NO_ADDRESS}", ["nothing to listen on", "--host", "--unixsocket"]),
        ("-no.such.host.invalid", ["no.such.host.invalid"]),
        ("", ["nothing to listen on"]),
        (" ", ["nothing to listen on"]),
        ("-", ["argument must name an address behind '-'"]),
    ],
)
def test_a_host_that_cannot_be_used_is_named_in_words(tmp_path: Path, hosts: str, said: list[str]) -> None:
    done = run(tmp_path, "--host", hosts, "--port", str(free_port()))
    assert_refused(done, 1, *said)
    assert "Unknown error" not in done.stderr


def test_an_optional_address_that_is_in_use_is_refused_as_in_redis(godis: GodisProcess, tmp_path: Path) -> None:
    done = run(tmp_path, "--host", f"-{HOST}", "--port", str(godis.port), "--log", "other.txt")
    assert_refused(done, 1, f"{HOST}:{godis.port}", "in use")


# ---- the Unix socket


def ask_unix(path: Path, *words: str) -> bytes:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    with Raw(sock) as client:
        return client.ask(*words)


def test_a_socket_in_use_is_refused_and_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with GodisProcess(tmp_path, "--unixsocket", str(path)) as godis:
        done = run(tmp_path, "--port", "0", "--unixsocket", str(path), "--log", "other.txt")
        assert_refused(done, 1, str(path), "in use")
        assert ask_unix(path, "PING") == b"+PONG\r\n"
        assert godis.terminate() == 0
    assert not path.exists()


def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with GodisProcess(tmp_path, "--unixsocket", str(path)) as godis:
        godis.kill9()
        assert path.exists()
        godis.start()
        assert ask_unix(path, "PING") == b"+PONG\r\n"


def test_only_who_made_a_socket_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with GodisProcess(tmp_path, "--unixsocket", str(path)) as godis:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as another:
            another.bind(str(path))
            assert godis.terminate() == 0
            assert path.exists()


def test_a_missing_socket_is_nothing_to_remove(tmp_path: Path) -> None:
    status = os.stat(tmp_path)
    remove_unix(str(tmp_path / "missing"), status)
    assert tmp_path.exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "it is a directory"),
        (lambda path: path.write_text("precious"), "it is a file and no socket"),
        (lambda path: path.symlink_to("/dev/null"), "it is a file and no socket"),
        (lambda path: path.parent.joinpath("s" * 120).touch(), "path too long"),
    ],
    ids=["directory", "file", "link", "long"],
)
def test_what_is_no_socket_is_refused_and_not_removed(tmp_path: Path, make: object, said: str) -> None:
    path = tmp_path / "s"
    make(path)  # type: ignore[operator]
    before = sorted(tmp_path.iterdir())
    name = "s" * 120 if "long" in said else "s"
    done = run(tmp_path, "--no-log", "--port", "0", "--unixsocket", str(tmp_path / name if name == "s" else name * 2))
    assert_refused(done, 1, name, said, "--unixsocket")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("given", "mode"), [("700", 0o700), ("777", 0o777), ("0600", 0o600)])
def test_the_sockets_permissions_can_be_set(tmp_path: Path, given: str, mode: int) -> None:
    path = tmp_path / "s"
    with (
        GodisProcess(tmp_path, "--unixsocket", str(path), "--unixsocketperm", given) as godis,
        godis.client() as client,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert client.config_get("unixsocketperm") == {"unixsocketperm": f"{mode:o}"}


@pytest.mark.parametrize("value", ["0", "7", "770", "777", "1000", "-1", "8", "abc"])
def test_permissions_are_read_as_redis_reads_them(tmp_path: Path, value: str) -> None:
    require(shutil.which("redis-server"), "redis-server is not installed")
    command = ["redis-server", "--port", "0", "--unixsocketperm", value]  # it listens on nothing, and ends
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    printed = said.stdout + said.stderr
    if "FATAL" not in printed:
        assert Config({"--unixsocketperm": value}, {}).unixsocketperm == int(value, 8)
    else:
        with pytest.raises(SettingError) as refusal:
            Config({"--unixsocketperm": value}, {})
        assert refusal.value.reason in printed


def open_files(pid: int) -> list[str]:
    """Return what the descriptors of a process stand for; one that is being closed may be left out."""
    targets = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return targets


def test_a_server_on_a_socket_alone_has_no_port_and_answers_ping(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for args in (["--port", "0", "--unixsocket", str(path)], ["--host", "", "--unixsocket", str(path)]):
        process = subprocess.Popen([sys.executable, str(GODIS), "--no-log", *args], cwd=tmp_path)
        try:
            wait_until(lambda args=args: run_here(tmp_path, "ping", *args).returncode == 0, 20, "ping")  # type: ignore[misc]
            targets = open_files(process.pid)
            inodes = {target[8:-1] for target in targets if target.startswith("socket:[")}
            tcp = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
            assert not inodes & {line.split()[9] for line in tcp.splitlines()}
        finally:
            process.terminate()
            assert process.wait(20) == 0


# ---- ping


def test_ping_tries_each_address_and_names_all_that_do_not_answer(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        port = str(godis.port)
        assert run_here(tmp_path, "ping", "--host", f"-{NO_ADDRESS_6} {HOST}", "--port", port).returncode == 0
        assert run_here(tmp_path, "ping", "--host", f"127.0.0.2 {HOST}", "--port", port).returncode == 0
        godis.kill9()
        done = run_here(tmp_path, "ping", "--host", f"127.0.0.2 {HOST}", "--port", port)
        assert_refused(done, 1, f"127.0.0.2:{port}", f"{HOST}:{port}")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", ""], "ping needs --host, --port or --unixsocket"),
        (["--host", "a..b"], "a..b"),
        (["--host", "caf\udce9"], "no answer from"),
        (["--host", "", "--unixsocket", "missing"], "no answer from missing"),
        (["--port", "0", "--unixsocket", "s" * 200], "path too long"),
    ],
)
def test_ping_of_nothing_is_one_line(tmp_path: Path, args: list[str], said: str) -> None:
    assert_refused(run_here(tmp_path, "ping", *args), 1, said)


def test_the_setting_of_the_permissions_cannot_be_changed_while_it_runs() -> None:
    client = Bench().connect()
    with pytest.raises(AssertionError, match="immutable"):
        assert client.ask("CONFIG", "SET", "unixsocketperm", "700") is None
