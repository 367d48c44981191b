"""The program as its operator meets it: usage, settings, start, refusals in one line, and the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest
import redis
from instances import Bench
from log_model import set_, write_log
from program import assert_refused, run, run_here
from servers import GODIS, HOST, PATIENCE_SECONDS, ROOT, GodisProcess, encode, free_port, require, wait_until

from config import SETTINGS
from version import VERSION

# ---- the command line


def test_help_and_the_page_of_settings_show_every_flag_and_its_default(tmp_path: Path) -> None:
    done = run_here(tmp_path, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Godis")
    flags = {setting.option: setting.default for setting in SETTINGS if setting.option}
    section = (ROOT / "docs" / "settings.md").read_text().split("\n## Flags\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(--[\w-]+)`[ *]*\|([^|]*)\|", section, re.MULTILINE))
    assert flags.keys() - {"--appendonly"} == rows.keys() - {"--no-log", "--embedded", "--test-commands"}
    for flag, default in flags.items():
        described = re.search(rf"^  {flag} [A-Z]+ (.*?)(?=^  -|\n\n)", done.stdout, re.MULTILINE | re.DOTALL)
        assert described, flag
        assert ("(default:" in described[1]) == bool(default), flag
        assert not default or f"(default: {default})" in re.sub(r"\s+", " ", described[1])
        assert f"`{default}`" == rows.get(flag, f"`{default}`").strip() or not default
    assert list(tmp_path.iterdir()) == []


def test_version_is_shown(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"Godis {VERSION}")


@pytest.mark.parametrize("args", [["--nosuch"], ["serve"], ["--port"], ["ping", "pong"], ["--no-log=1"]])
def test_a_wrong_command_line_gets_the_usage_and_code_2(tmp_path: Path, args: list[str]) -> None:
    done = run_here(tmp_path, *args)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "abc"),
        ("--port", "65536"),
        ("--port", "-1"),
        ("--appendfsync", "sometimes"),
        ("--default-ttl", "6 hours"),
        ("--default-ttl", "-1"),
        ("--databases", "0"),
        ("--maxclients", "0"),
        ("--timeout", "soon"),
        ("--loglevel", "loud"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_flag(tmp_path: Path, flag: str, value: str) -> None:
    done = run_here(tmp_path, f"{flag}={value}")
    assert_refused(done, 1, flag, value)
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bad_variable_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    assert_refused(run(tmp_path, env={"GODIS_DEFAULT_TTL": "long"}), 1, "GODIS_DEFAULT_TTL", "long")


def test_a_flag_counts_more_than_a_variable_and_a_variable_more_than_the_default(tmp_path: Path) -> None:
    variables = {"GODIS_DEFAULT_TTL": "30m", "GODIS_MAXCLIENTS": "77", "GODIS_INSTANCE_ID": "from-env"}
    with GodisProcess(tmp_path, "--maxclients", "88", env=variables) as godis, godis.client() as client:
        client.set("k", "v")
        assert 1790 < client.ttl("k") <= 1800
        assert client.config_get("maxclients") == {"maxclients": "88"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert "from-env" in client.info("server").values()


class BareGodis(GodisProcess):
    """A Godis without a single flag."""

    def command(self) -> list[str]:
        return [sys.executable, str(GODIS)]


def test_the_port_and_the_log_can_come_from_variables(tmp_path: Path) -> None:
    port = free_port()
    variables = {"GODIS_PORT": str(port), "GODIS_LOG": "named.txt", "GODIS_REQUIREPASS": "secret"}
    with BareGodis(tmp_path, port=port, env=variables) as godis:
        assert run_here(tmp_path, "ping", env=variables).returncode == 0
        assert godis.terminate() == 0
    assert (tmp_path / "named.txt").exists()


@pytest.mark.parametrize(
    ("given", "seconds"), [("0", -1), ("100", 100), ("100s", 100), ("30m", 1800), ("6h", 21600), ("2d", 172800)]
)
def test_the_default_ttl_has_units(given: str, seconds: int) -> None:
    client = Bench(default_ttl=given).connect()
    client.ask("SET", "k", "v")
    assert client.ask("TTL", "k") == seconds


def test_the_number_of_databases_can_be_set(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--databases", "2") as godis, godis.raw() as raw:
        assert raw.ask("SELECT", 1) == b"+OK\r\n"
        assert raw.ask("SELECT", 2) == b"-ERR DB index is out of range\r\n"


def test_one_client_too_many_is_told_so_and_closed(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--maxclients", "2") as godis, godis.raw() as first:
        wait_until(lambda: b"connected_clients:1\r\n" in first.ask("INFO", "clients"), 5, "the starter is gone")
        second = godis.raw()
        assert second.ask("PING") == b"+PONG\r\n"
        with godis.raw() as third:
            assert third.read_all() == b"-ERR max number of clients reached\r\n"
        second.close()
        wait_until(lambda: accepts(godis), 5, "a place is free again")


def accepts(godis: GodisProcess) -> bool:
    with godis.raw() as raw:
        raw.send(encode("PING"))
        return raw.read_line() == b"+PONG"


def test_an_idle_client_is_closed_after_the_timeout(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--timeout", "1") as godis, godis.raw() as idle:
        assert idle.ask("PING") == b"+PONG\r\n"
        assert idle.read_all() == b""


# ---- ping


def test_ping_exits_0_while_the_server_serves_and_1_after(godis: GodisProcess, tmp_path: Path) -> None:
    port = str(godis.port)
    done = run(tmp_path, "ping", "--port", port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "PONG\n", "")
    godis.kill9()
    done = run(tmp_path, "ping", "--host", HOST, "--port", port)
    assert_refused(done, 1, port)


def test_ping_needs_the_password(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--requirepass", "secret") as godis:
        port = str(godis.port)
        assert run_here(tmp_path, "ping", "--port", port, "--requirepass", "secret").returncode == 0
        assert run_here(tmp_path, "ping", "--port", port, env={"GODIS_REQUIREPASS": "secret"}).returncode == 0
        assert_refused(run_here(tmp_path, "ping", "--port", port), 1, "NOAUTH")
        assert_refused(run_here(tmp_path, "ping", "--port", port, "--requirepass", "guess"), 1, "WRONGPASS")


# ---- the password from a file


def test_the_password_can_come_from_the_first_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b" s\xc3\xa9\xffcret\r\nnot this\n")
    password = b" s\xc3\xa9\xffcret"
    with GodisProcess(tmp_path, "--requirepass-file", str(file)) as godis, godis.raw() as raw:
        assert raw.ask("AUTH", b"s\xc3\xa9\xffcret").startswith(b"-WRONGPASS")
        assert raw.ask("AUTH", password) == b"+OK\r\n"
        assert password not in Path(f"/proc/{godis.pid}/cmdline").read_bytes()
        assert password not in raw.ask("INFO")
        port = str(godis.port)
        assert run_here(tmp_path, "ping", "--port", port, env={"GODIS_REQUIREPASS_FILE": str(file)}).returncode == 0
        assert_refused(run_here(tmp_path, "ping", "--port", port), 1, "NOAUTH")
        assert raw.ask("CONFIG", "SET", "requirepass-file", "x").startswith(b"-ERR CONFIG SET failed")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"", "empty"), (b"\nsecret\n", "empty"), (b"x" * 5000, "too long")]
)
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    for mode in ([], ["ping"]):
        assert_refused(
            run_here(tmp_path, *mode, "--requirepass-file", "password"), 1, "--requirepass-file password", said
        )
    assert not (tmp_path / "log.txt").exists()
    (tmp_path / "some.log").touch()
    assert run_here(tmp_path, "check", "some.log", env={"GODIS_REQUIREPASS_FILE": "password"}).returncode == 0


def test_a_wrong_file_of_users_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text("user bob on +nosuch\n")
    refused = run_here(tmp_path, "--aclfile", "users.acl")
    assert_refused(refused, 1, "--aclfile: users.acl:1: Error in applying operation +nosuch: Unknown command")
    assert_refused(run_here(tmp_path, "--aclfile", "nosuch"), 1, "--aclfile: nosuch: No such file")


def test_two_passwords_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    refused = run_here(tmp_path, "--requirepass", "other", "--requirepass-file", "password")
    assert_refused(refused, 2, "--requirepass-file", "--requirepass as well")
    assert "other" not in refused.stderr
    refused = run_here(tmp_path, "--requirepass-file", "password", env={"GODIS_REQUIREPASS": "other"})
    assert_refused(refused, 2, "--requirepass-file")


def test_each_refused_password_is_a_line_of_the_servers_log(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--requirepass", "secret") as godis, godis.raw() as raw:
        address = "{}:{}".format(*raw.sock.getsockname())
        for words in (["AUTH", "guess1"], ["AUTH", "guess2", "secret"], ["HELLO", "3", "AUTH", "default", "guess3"]):
            assert raw.ask(*words).startswith(b"-WRONGPASS")
        assert raw.ask("AUTH", "secret") == b"+OK\r\n"
        lines = [line for line in godis.stderr().splitlines() if " WARNING " in line]
        assert len(lines) == 3
        assert all(address in line for line in lines)
        assert not re.search(r"guess|secret", godis.stderr())


# ---- start


def test_the_start_says_what_an_operator_wants_to_know(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--instance-id", "one") as godis:
        with godis.client() as client:
            client.mset({f"k{number}": number for number in range(10)})
        godis.kill9()
        godis.start()
        said = godis.stderr()
        assert f"Godis {VERSION}" in said
        assert "instance one" in said
        assert f"{HOST}:{godis.port}" in said
        assert str(godis.log) in said
        assert "10 keys recovered in" in said
        assert "6 hours" in said
        assert "--default-ttl 0" in said
        assert "WARNING" not in said
        assert len(said.splitlines()) <= 12  # of two starts


def test_a_default_ttl_of_none_is_not_talked_about(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis:
        assert "default-ttl" not in godis.stderr()


def test_the_log_lies_in_the_working_directory_by_default(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, log=None) as godis:
        with godis.client() as client:
            client.set("k", "v")
        assert b"SET" in (tmp_path / "log.txt").read_bytes()


def test_without_a_log_nothing_is_written_and_nothing_kept(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--no-log", log=None) as godis:
        with godis.client() as client:
            client.set("k", "v")
        assert godis.terminate() == 0
        assert [path.name for path in tmp_path.iterdir()] == [godis.stderr_path.name]
        godis.start()
        with godis.client() as client:
            assert client.get("k") is None


def test_a_limit_on_memory_below_what_the_process_takes_is_warned_about_with_the_number(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--maxmemory", "10mb") as godis, godis.client() as client:
        base_bytes = client.info("memory")["used_memory_startup"]
        assert base_bytes > 10 << 20

        def warnings() -> list[str]:
            return [line for line in godis.stderr().splitlines() if "maxmemory is" in line]

        assert len(warnings()) == 1
        assert (
            f"maxmemory is {10 << 20} bytes, and the process takes {base_bytes} bytes without any key" in warnings()[0]
        )
        with pytest.raises(redis.OutOfMemoryError):
            client.set("k", "v")
        client.config_set("timeout", 60)
        client.config_set("maxmemory", base_bytes + (10 << 20))
        assert client.set("k", "v")
        assert len(warnings()) == 1
        client.config_set("maxmemory", base_bytes)
        wait_until(lambda: len(warnings()) == 2, what="a second warning")


@pytest.mark.parametrize(
    ("args", "warns"),
    [
        (["--host", "0.0.0.0"], True),
        (["--host", "0.0.0.0", "--requirepass", "secret"], False),
        (["--host", "localhost"], False),
    ],
)
def test_an_open_server_without_a_password_is_warned_about_once(tmp_path: Path, args: list[str], warns: bool) -> None:
    with GodisProcess(tmp_path, *args) as godis:
        warnings = [line for line in godis.stderr().splitlines() if "WARNING" in line]
        assert len(warnings) == warns
        assert all("--requirepass" in line for line in warnings)


# ---- refusals


def test_a_port_in_use_is_refused(godis: GodisProcess, tmp_path: Path) -> None:
    done = run(tmp_path, "--port", str(godis.port), "--log", "other.txt")
    assert_refused(done, 1, str(godis.port), "in use")


def test_a_host_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    assert_refused(run(tmp_path, "--host", "192.0.2.1", "--port", str(free_port())), 1, "192.0.2.1")
    assert_refused(run(tmp_path, "--host", "no.such.host.invalid", "--port", str(free_port())), 1, "no.such.host")


def test_a_log_that_another_process_owns_is_refused_and_its_owner_named(godis: GodisProcess, tmp_path: Path) -> None:
    with godis.client() as client:
        client.set("k", "v")
    done = run(tmp_path, "--port", str(free_port()), "--log", str(godis.log))
    assert_refused(done, 1, "log.txt", str(godis.pid))
    godis.kill9()
    godis.start()  # a dead owner's lock holds nobody off
    with godis.client() as client:
        assert client.get("k") == b"v"


@pytest.mark.parametrize("when", ["at once", "after rewrites"])
def test_a_log_whose_lock_was_removed_takes_no_second_server(tmp_path: Path, when: str) -> None:
    lock = tmp_path / "log.txt.lock"
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        raw.ask("SET", "first", 1)
        for number in range(2 if when == "after rewrites" else 0):
            raw.ask("BGREWRITEAOF")
            wait_until(lambda: godis.stderr().count("the log is rewritten") > number, what="a rewrite")  # noqa: B023
        lock.unlink()
        done = run(tmp_path, "--port", str(free_port()), "--log", str(godis.log))
        assert_refused(done, 1, f"the log {godis.log} is in use by another process, whose {lock} was removed")
        done = run(tmp_path, "check", "--repair", str(godis.log))
        assert done.returncode == 2
        assert "is in use by another process" in done.stderr
        assert not lock.exists()
        raw.ask("SET", "second", 1)
        godis.kill9()
        godis.start()
        with godis.raw() as other:
            assert other.ask("EXISTS", "first", "second") == b":2\r\n"


@pytest.mark.parametrize("content", [b"no log at all", b"REDIS0011"], ids=["another file", "a snapshot of Redis"])
def test_no_lock_stays_behind_a_refusal_or_a_stop(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(content)
    assert_refused(run(tmp_path, "--port", str(free_port()), "--log", str(log)), 1, str(log))
    assert list(tmp_path.iterdir()) == [log]
    log.unlink()
    with GodisProcess(tmp_path) as godis:
        assert (tmp_path / "log.txt.lock").exists()
        assert godis.terminate() == 0
    assert not (tmp_path / "log.txt.lock").exists()


@pytest.mark.parametrize("in_use", ["--port", "--unixsocket"])
def test_an_address_in_use_is_told_before_the_log_is_opened(tmp_path: Path, in_use: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "log.txt").write_bytes(b"no log at all")
    with GodisProcess(tmp_path, "--unixsocket", str(tmp_path / "sock")) as godis:
        flags = {"--port": str(free_port()), in_use: str(godis.port if in_use == "--port" else tmp_path / "sock")}
        done = run(other, *(word for flag in flags.items() for word in flag))
        assert_refused(done, 1, f"{flags[in_use]}: Address already in use")
        assert "log.txt" not in done.stderr
        assert [path.name for path in other.iterdir()] == ["log.txt"]
        assert godis.answers()


def test_nobody_is_served_before_the_log_is_loaded(tmp_path: Path) -> None:
    count = 20_000
    write_log(tmp_path / "log.txt", [[set_(b"k%d" % number, b"v")] for number in range(count)])
    with GodisProcess(tmp_path) as godis:
        for _ in range(3):
            godis.kill9()
            godis.launch()
            refused = 0
            while True:
                try:
                    with godis.raw() as raw:
                        assert raw.ask("DBSIZE") == b":%d\r\n" % count
                    break
                except ConnectionRefusedError:
                    refused += 1
            assert refused
        godis.stop()


class ClaimingGodis(GodisProcess):
    """Godis that claims a directory in `data`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "--data-dir", "data", log=None)

    def warnings(self) -> list[str]:
        return [line for line in self.stderr().splitlines() if "WARNING" in line]


def test_a_claimed_directory_beside_a_newer_log_is_warned_about(tmp_path: Path) -> None:
    with ClaimingGodis(tmp_path) as first:
        assert first.warnings() == []
        with first.client() as client:
            client.set("a", 1)
        first.terminate()
        first.start()
        assert first.warnings() == [], "its own log is the newest"
        with ClaimingGodis(tmp_path) as second:  # before the first ends, as in a rolling update
            (warning,) = second.warnings()
            assert "serves data/2/log.txt, which is empty, and does not see what is in data/1/log.txt" in warning
            first.terminate()
            with second.client() as client:
                client.set("b", 1)
            assert second.terminate() == 0
    with ClaimingGodis(tmp_path) as third:
        (warning,) = third.warnings()
        assert "serves data/1/log.txt, which was last written 2" in warning
        assert "does not see what is in data/2/log.txt, which was last written 2" in warning
        with third.client() as client:
            assert client.mget("a", "b") == [b"1", None]


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_log_is_not_begun_beside_claimed_ones_of_an_older_image(tmp_path: Path, content: bytes | None) -> None:
    data, log = tmp_path / "data", tmp_path / "data" / "log.txt"
    with ClaimingGodis(tmp_path) as godis, godis.client() as client:
        client.set("a", 1)
        godis.terminate()
    if content is not None:
        log.write_bytes(content)
    before = sorted(data.rglob("*"))
    done = run(tmp_path, "--port", str(free_port()), "--log", "data/log.txt")
    assert_refused(done, 1, "the log data/log.txt is not there yet, but data/1/log.txt is", "--data-dir data")
    assert sorted(data.rglob("*")) == before
    (data / "1" / "log.txt").replace(log)
    with GodisProcess(tmp_path, log="data/log.txt") as godis, godis.client() as client:
        assert client.get("a") == b"1"


def test_a_log_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--port", str(free_port()), "--log", str(tmp_path / "nosuch" / "log.txt"))
    assert_refused(done, 1, "nosuch")


def test_a_log_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    assert_refused(run(tmp_path, "--port", str(free_port()), "--log", str(tmp_path)), 1, str(tmp_path))


def test_a_log_in_a_directory_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    require(not os.access(closed, os.W_OK) or os.geteuid() == 0, "modes mean nothing here")
    place = Path("/proc/1") if os.access(closed, os.W_OK) else closed  # root writes anywhere but there
    require(place.is_dir(), "no directory that is closed to root")
    done = run(tmp_path, "--port", str(free_port()), "--log", str(place / "log.txt"))
    assert_refused(done, 1, str(place))


def test_a_damaged_log_is_refused_with_file_and_offset(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        for number in range(3):
            with godis.client() as client:
                client.set("k", number)
        godis.kill9()
        log = tmp_path / "log.txt"
        content = bytearray(log.read_bytes())
        content[content.index(b"SET")] ^= 1
        log.write_bytes(content)
        done = run(tmp_path, "--port", str(godis.port), "--log", "log.txt")
        assert_refused(done, 1, "log.txt", "byte 0")
        assert log.read_bytes() == content


# ---- the end


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=lambda sent: sent.name)
def test_a_signal_ends_it_with_code_0_and_everything_kept(tmp_path: Path, sent: signal.Signals) -> None:
    with GodisProcess(tmp_path, "--appendfsync", "no") as godis:
        with godis.client() as client:
            client.mset({f"k{number}": number for number in range(1000)})
            assert godis.terminate(sent) == 0
        godis.start()
        with godis.client() as client:
            assert client.dbsize() == 1000
        assert "Traceback" not in godis.stderr()


def test_what_was_read_before_the_signal_is_answered(godis: GodisProcess) -> None:
    with godis.raw() as raw:
        raw.send(b"".join(encode("INCR", "n") for _ in range(500)))  # read at once: what is not, the end resets
        assert raw.read_reply() == b":1\r\n"
        godis.process.send_signal(signal.SIGTERM)
        rest = raw.read_all()
        assert rest.endswith(b"\r\n")
        answered = int(rest.split(b"\r\n")[-2][1:])
    assert godis.process.wait(PATIENCE_SECONDS) == 0
    godis.start()
    with godis.client() as client:
        assert int(client.get("n")) == answered


def test_shutdown_ends_it_with_code_0(godis: GodisProcess) -> None:
    with godis.raw() as raw:
        raw.ask("SET", "k", "v")
        raw.send(encode("SHUTDOWN"))
        assert raw.read_all() == b""
    assert godis.process.wait(PATIENCE_SECONDS) == 0


def test_a_second_signal_does_no_harm(godis: GodisProcess) -> None:
    godis.process.send_signal(signal.SIGTERM)
    assert godis.terminate() == 0
    assert "Traceback" not in godis.stderr()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def test_a_second_signal_ends_the_wait_for_who_does_not_read(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--shutdown-timeout", "600") as godis, godis.raw() as raw:
        raw.ask("SET", "large", b"x" * 2**20)
        raw.send(encode("MGET", *["large"] * 32))
        with godis.client() as client:
            wait_until(lambda: max(int(each["omem"]) for each in client.client_list()) > 0, what="unread replies")
        godis.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_listening(godis.port), what="it stops")
        assert godis.process.poll() is None
        assert godis.terminate() == 0
        godis.start()
        with godis.client() as client:
            assert client.strlen("large") == 2**20


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=lambda sent: sent.name)
def test_a_signal_while_the_log_is_loaded_ends_it_with_code_0(tmp_path: Path, sent: signal.Signals) -> None:
    log = tmp_path / "log.txt"
    # Single commands, which are replayed a hundred times slower than batches of SETs.
    log.write_bytes(encode("INCR", "n") * 1_000_000)
    with GodisProcess(tmp_path, "--no-log", log=None) as godis:
        assert godis.terminate() == 0
        godis.args = ("--log", str(log))
        said = len(godis.stderr())
        godis.launch()
        wait_until(lambda: "instance" in godis.stderr()[said:], 20, "it loads")
        assert godis.terminate(sent) == 0
        assert "told to stop while loading" in godis.stderr()
        assert "Traceback" not in godis.stderr()
    assert log.read_bytes() == encode("INCR", "n") * 1_000_000


def test_it_starts_again_on_its_port_at_once(godis: GodisProcess) -> None:
    """Connections that the last process closed must not keep the port."""
    with godis.raw() as raw:
        raw.ask("PING")
        assert godis.terminate() == 0
        godis.start()
    with godis.raw() as raw:
        assert raw.ask("PING") == b"+PONG\r\n"


# ---- what it writes


def test_no_data_of_a_user_is_written_to_stderr(tmp_path: Path) -> None:
    secret = "s3cr3t"
    with GodisProcess(tmp_path, "--loglevel", "debug", "--requirepass", f"{secret}-password") as godis:
        with godis.client(password=f"{secret}-password") as client:
            client.set(f"{secret}-key", f"{secret}-value")
            client.get(f"{secret}-key")
        for request in (encode(f"{secret}-command", f"{secret}-argument"), f"{secret} line\r\n".encode()):
            with godis.raw() as raw:
                raw.send(encode("AUTH", f"{secret}-password") + request + b"*1\r\n$" + secret.encode() + b"\r\n")
                raw.end_of_input()
                raw.read_all()
        godis.kill9()
        godis.start()
        assert godis.terminate() == 0
        assert secret not in godis.stderr()
        assert "Traceback" not in godis.stderr()


def test_clients_that_misbehave_leave_no_traceback(godis: GodisProcess) -> None:
    for data in (b"", b"\x00\xff" * 100, b"*3\r\n$3\r\nSET\r\n", encode("GET", "k") * 5000, b"GET k" * 20_000):
        with godis.raw() as raw:
            raw.send(data)
        with godis.raw() as raw:
            raw.send(data)
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # ends in a reset
    with godis.raw() as raw:
        assert raw.ask("PING") == b"+PONG\r\n"
    assert godis.terminate() == 0
    assert not re.search(r"Traceback|ERROR", godis.stderr())
