"""Tools that send lines of text, or expect what only Redis has, as they are: each works, or fails at once.

- monit's test of the protocol and HAProxy's `redis-check` send RESP.
- Checks that people write for HAProxy, monit and Nagios send AUTH, PING, INFO and QUIT as lines, and look for `+OK`,
  `+PONG` and `role:master`.
- PING_INLINE of redis-benchmark is a line, and so is what `redis-cli --pipe` is given.
- `redis-cli --rdb` and `--replica` send SYNC as a line, and read on for ever unless the answer begins with `-`.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import HOST, GodisProcess, dies_with_parent, free_port, require, wait_until
from tables import for_each

PASSWORD = "secret"
CHECK_TCP = "/usr/lib/nagios/plugins/check_tcp"
TOOL_SECONDS = 20


@pytest.fixture(scope="module", params=["", PASSWORD], ids=["open", "password"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    """A Godis without a password, and one with."""
    flags = ["--requirepass", request.param] if request.param else []
    with GodisProcess(tmp_path_factory.mktemp("godis"), *flags) as process:
        yield process


def has_password(server: GodisProcess) -> bool:
    return PASSWORD in server.args


# ---- HAProxy

HAPROXY = """
global
    stats socket ipv4@{host}:{stats} level user
defaults
    mode tcp
    timeout connect 10s
    timeout client 10s
    timeout server 10s
backend it
    option {option}
{checks}
    server godis {host}:{port} check inter 1s fall 1 rise 1
"""
# The check that HAProxy's own documentation and most configurations show.
LINES = ["send PING\\r\\n", "expect string +PONG", "send info\\ replication\\r\\n", "expect string role:master"]
FAREWELL = ["send QUIT\\r\\n", "expect string +OK"]
LOGIN = [f"send AUTH\\ {PASSWORD}\\r\\n", "expect string +OK"]
WRONG_LOGIN = ["send AUTH\\ wrong\\r\\n", "expect string +OK"]


@contextlib.contextmanager
def haproxy(directory: Path, server: GodisProcess, option: str, checks: list[str]) -> Iterator[int]:
    """Run HAProxy with a check of Godis; yield the port that tells of it."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    require(program, "haproxy is not installed")
    stats = free_port()
    rules = "\n".join(f"    tcp-check {rule}" for rule in checks)
    text = HAPROXY.format(host=HOST, port=server.port, stats=stats, option=option, checks=rules)
    path = directory / "haproxy.cfg"
    path.write_text(text)
    with subprocess.Popen(
        dies_with_parent([str(program), "-db", "-f", str(path)]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield stats
        finally:
            process.kill()


def check_status(stats: int) -> str:
    """Ask HAProxy how its last check ended: L7OK, L7RSP and so on; nothing while there was none."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, stats), TOOL_SECONDS) as sock:
        sock.sendall(b"show stat\n")
        with sock.makefile(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["svname"] == "godis":
                    return row["check_status"].removeprefix("* ")
    return ""


def last_check(stats: int) -> str:
    """Wait until a check has ended, and say how."""
    wait_until(lambda: check_status(stats).startswith("L"), TOOL_SECONDS, "a check has ended")
    return check_status(stats)


@pytest.mark.parametrize("farewell", [[], FAREWELL], ids=["", "and QUIT"])
def test_the_lines_of_haproxy_are_answered_as_it_expects(
    tmp_path: Path, server: GodisProcess, farewell: list[str]
) -> None:
    checks = ["connect", *(LOGIN if has_password(server) else []), *LINES, *farewell]
    with haproxy(tmp_path, server, "tcp-check", checks) as stats:
        assert last_check(stats) == "L7OK"


def test_haproxy_sees_that_its_password_is_wrong(tmp_path: Path, server: GodisProcess) -> None:
    """As with Redis: it waits for `+OK` until the time of the check is up."""
    with haproxy(tmp_path, server, "tcp-check", ["connect", *WRONG_LOGIN, *LINES, *FAREWELL]) as stats:
        assert last_check(stats) == "L7TOUT"


def test_the_redis_check_of_haproxy_works(tmp_path: Path, server: GodisProcess) -> None:
    """With a password it fails, as with Redis: it cannot log in."""
    with haproxy(tmp_path, server, "redis-check", []) as stats:
        assert last_check(stats) == ("L7TOUT" if has_password(server) else "L7OK")


# ---- monit

MONIT = """
set daemon 1
set pidfile {directory}/monit.pid
set idfile {directory}/monit.id
set statefile {directory}/monit.state
check host own with address {host}
    if failed port {port} protocol redis then alert
check host lines with address {host}
    if failed port {port} {login} send "PING\\r\\n" expect "\\+PONG" send "QUIT\\r\\n" expect "\\+OK" then alert
"""


def test_monit_is_content(tmp_path: Path, server: GodisProcess) -> None:
    """With its own test of the protocol, and with lines."""
    require(shutil.which("monit"), "monit is not installed")
    login = f'send "AUTH {PASSWORD}\\r\\n" expect "\\+OK"' if has_password(server) else ""
    path = tmp_path / "monitrc"
    path.write_text(MONIT.format(directory=tmp_path, host=HOST, port=server.port, login=login))
    path.chmod(0o600)
    output = tmp_path / "output"
    with (
        open(output, "wb") as file,
        subprocess.Popen(dies_with_parent(["monit", "-I", "-v", "-c", str(path)]), stdout=file, stderr=file) as monit,
    ):
        try:
            for end in ("testing protocol [REDIS]", "testing protocol [generic]"):
                wait_until(lambda: end in output.read_text(errors="replace"), TOOL_SECONDS, end)  # noqa: B023
        finally:
            monit.kill()
    assert "failed protocol test" not in output.read_text(errors="replace")


# ---- Nagios and Icinga


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("PING\\r\\n", "+PONG"), ("INFO\\r\\n", "role:master"), ("INFO stats\\r\\n", "keyspace_hits")],
)
def test_check_tcp_of_nagios_is_content(server: GodisProcess, asked: str, expected: str) -> None:
    require(Path(CHECK_TCP).exists(), "check_tcp (monitoring-plugins-basic) is not installed")
    login = f"AUTH {PASSWORD}\\r\\n" if has_password(server) else ""
    words = ["-E", "-s", login + asked, "-e", expected, "-A", "-q", "QUIT\\r\\n", "-w", "5", "-c", str(TOOL_SECONDS)]
    done = subprocess.run(
        [CHECK_TCP, "-H", HOST, "-p", str(server.port), *words],
        capture_output=True,
        text=True,
        timeout=2 * TOOL_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


# ---- redis-cli and redis-benchmark


def redis_tool(name: str, server: GodisProcess, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a tool of Redis to its end."""
    require(shutil.which(name), f"{name} is not installed")
    login = ["-a", PASSWORD] if has_password(server) else []
    return subprocess.run(
        [name, "-p", str(server.port), *login, *words],
        input=given,
        capture_output=True,
        timeout=TOOL_SECONDS,
        check=False,
    )


KEYS = 3000
SETS = b"".join(b"SET key:%d value\n" % number for number in range(KEYS))


def test_redis_cli_loads_lines_after_hello(server: GodisProcess) -> None:
    done = redis_tool("redis-cli", server, "--pipe", given=b"HELLO 2\n" + SETS)
    assert b"errors: 0, replies: %d" % (KEYS + 1) in done.stdout
    assert redis_tool("redis-cli", server, "DBSIZE").stdout == b"%d\n" % KEYS


@for_each(
    ("words", "given", "reason"),
    [
        (["--pipe"], SETS, b"Error reading replies from server"),
        (["--rdb", "-"], b"", b"SYNC with master failed: -ERR SYNC is not supported"),
        (["--replica"], b"", b"SYNC with master failed: -ERR SYNC is not supported"),
        (["--functions-rdb", "-"], b"", b"Failed requesting functions only RDB from server, aborting"),
    ],
    ids=["pipe", "rdb", "replica", "functions-rdb"],
)
def test_what_redis_cli_cannot_have_fails_at_once(
    server: GodisProcess, words: list[str], given: bytes, reason: bytes
) -> None:
    done = redis_tool("redis-cli", server, *words, given=given)
    assert done.returncode == 1
    assert reason in done.stderr


def test_redis_benchmark_pings_by_lines(server: GodisProcess) -> None:
    for pipeline in ("1", "16"):
        done = redis_tool("redis-benchmark", server, "-q", "-t", "ping_inline", "-n", "5000", "-P", pipeline)
        assert b"PING_INLINE: " in done.stdout
        assert b"requests per second" in done.stdout
