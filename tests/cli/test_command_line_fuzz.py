"""Random command lines, environments and settings: whatever a user gives, there is an answer and no traceback.

The program runs here, up to where it would serve. Names of hosts are not looked up, and no limit of the process of the
tests is changed.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from instances import Bench
from program import run_here

import server
from cli import command_line
from cli.command_line import VARIABLES
from config import SETTINGS, Setting
from net import signals
from net.listener import Server

FLAGS = [*(setting.option for setting in SETTINGS if setting.option), "--no-log", "--repair", "--until", "--output"]
EXIT_CODES = {0, 1, 2}
REAL_GETADDRINFO = socket.getaddrinfo

# As the system hands them over: any bytes but NUL. No path leads out of the directory of the test.
odd_text = st.binary(max_size=12).map(lambda data: os.fsdecode(data.replace(b"\0", b"").replace(b"/", b"_")))
KNOWN_VALUES = [
    *("", " ", "0", "1", "2", "16", "-1", "65536", "9" * 19, "9" * 40, "1e3", "0x10", "٣", "1_0", "10mb", "7.5"),
    *("yes", "no", "maybe", "always", "everysec", "noeviction", "allkeys-lru", "local", "debug", "TLSv1.3"),
    *("127.0.0.1", "::1", "0.0.0.0 ::", "*", "::*", "-::1", "-", "a..b", "localhost", "[::1]", "fe80::1%nosuch"),
    *("log.txt", "directory", "fifo", "fifo/log.txt", "missing/log.txt", "x" * 300, "caf\udce9", "a\nb", "-x"),
    *("tcp://10.0.0.1:6379", "etcd://[", "etcd://a:b@[::1]:x/p", "etcds://h:99999", "http://h", "etcd://h:1?x"),
    *("normal 1 2 3", "1700000000", "2026-11-23T15:04:05", "99999999999999", "6h", "700", "800"),
]
values = odd_text | st.sampled_from(KNOWN_VALUES)


def is_taken(setting: Setting, text: str) -> bool:
    try:
        setting.parse(text)
    except ValueError:
        return False
    return True


# What each flag takes: the start goes on, until something in the values does not hold.
plausible = {
    str(setting.option): st.sampled_from([text for text in KNOWN_VALUES if is_taken(setting, text)])
    for setting in SETTINGS
    if setting.option
}
given_flags = st.lists(st.sampled_from(sorted(plausible)), max_size=5, unique=True).flatmap(
    lambda flags: st.tuples(*(st.tuples(st.just(flag), plausible[flag]) for flag in flags))
)
started = st.builds(
    lambda mode, flags: [*mode, "--port=0", *(f"{flag}={value}" for flag, value in flags if flag != "--port")],
    st.sampled_from([[], [], [], [], ["ping"]]),
    given_flags,
)
log_commands = st.builds(
    lambda mode, path, more: [mode, path, *more],
    st.sampled_from(["check", "export", "import"]),
    values,
    st.one_of(
        st.sampled_from([[], ["--repair"]]),
        st.builds(lambda until, output: ["--until", until, "--output", output], values, values),
    ),
)
mangled = st.builds(lambda flag, cut, more: flag[:cut] + more, st.sampled_from(FLAGS), st.integers(1, 30), odd_text)
flag_words = st.one_of(
    st.sampled_from(FLAGS).map(lambda flag: [flag]),
    st.builds(lambda flag, value: [flag, value], st.sampled_from(FLAGS), values),
    st.builds(lambda flag, value: [f"{flag}={value}"], st.sampled_from(FLAGS), values),
    st.builds(lambda flag, value: [flag, value], mangled, values),
    st.sampled_from([["--help"], ["-h"], ["--version"], ["--"], ["-"], ["-1"], ["-x"], [""]]),
)
modes = st.sampled_from(
    [[], [], [], ["ping"], ["check", "log.txt"], ["export", "log.txt"], ["import", "log.txt"], ["check"], ["serve"]]
)
command_lines = st.builds(
    lambda mode, flags, more: [*mode, *(word for words in flags for word in words), *more],
    modes | st.lists(values, max_size=2),
    st.lists(flag_words, max_size=4),
    st.lists(values, max_size=1),
)
variable_names = st.sampled_from(sorted(VARIABLES)) | st.builds(
    lambda name, cut, more: name[:cut] + more.replace("=", ""),
    st.sampled_from(sorted(VARIABLES)),
    st.integers(6),
    odd_text,
)
environments = st.dictionaries(variable_names, values, max_size=3)


def numeric_only(
    host: Any, port: Any, family: int = 0, kind: int = 0, protocol: int = 0, flags: int = 0
) -> list[tuple[Any, ...]]:
    """Look up an address without asking a name server."""
    return REAL_GETADDRINFO(host, port, family, kind, protocol, flags | socket.AI_NUMERICHOST)


def refuse(*_: object, **__: object) -> None:
    """Be a host where nobody listens."""
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def listen_and_end(server: Server) -> None:
    """Do at once what the end of a server does."""
    for listener in server.listeners:
        listener.close()
    server.lines.close()


def prepare(patch: pytest.MonkeyPatch) -> None:
    """Keep the process of the tests as it is."""
    patch.setattr(socket, "getaddrinfo", numeric_only)
    patch.setattr(socket, "create_connection", refuse)
    patch.setattr(server, "serve_in_pool", lambda _config: 0)
    patch.setattr(server, "provide_for_clients", lambda _config: None)
    patch.setattr(server, "start_threads", lambda _count: None)
    patch.setattr(signals, "on_stop", lambda _handler: None)
    patch.setattr(signals, "ignore_others", lambda: None)
    patch.setattr(Server, "serve_until_stopped", listen_and_end)


@example([], {})
@example(["--port", "0"], {"GODIS_NO_LOG": "maybe"})
@example(["--host", ""], {})
@example(["ping", "--host", " "], {})
@example(["--instance-id", "caf\udce9", "--port", "0"], {})
@example(["check", "caf\udce9"], {})
@example(["--port", "0", "--unixsocket", "directory"], {})
@example(["--port", "0", "--unixsocket", "s", "--unixsocketperm", "700"], {})
@example(["check", "log.txt", "--until", "99999999999999", "--output", "new"], {})
@given(started | started | log_commands | command_lines, environments)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_command_line_and_no_environment_ends_in_a_traceback(args: list[str], env: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        directory = Path(name)
        (directory / "directory").mkdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(directory / "fifo")
        (directory / "log.txt").write_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
        done = run_here(directory, *args, env=env)
    assert done.returncode in EXIT_CODES
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or done.stdout or "godis: " in done.stderr


@given(st.dictionaries(st.sampled_from([setting.name for setting in SETTINGS]), values, min_size=1, max_size=3))
def test_no_value_of_config_set_is_an_internal_error(changes: dict[str, str]) -> None:
    client = Bench().connect()
    words = [os.fsencode(word) for change in changes.items() for word in change]
    assert b"internal error" not in client.wire("CONFIG", "SET", *words)
    assert b"internal error" not in client.wire("CONFIG", "GET", "*")


def test_a_traceback_is_found() -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        patch.setattr(command_line, "check_flags", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_here(Path(name), "--port", "0")


def test_names_of_hosts_are_not_looked_up() -> None:
    with pytest.raises(socket.gaierror):
        numeric_only("localhost", 1, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    assert numeric_only("127.0.0.1", 1, socket.AF_INET, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 1)
