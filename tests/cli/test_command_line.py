"""The command line and the environment: what is refused, how it is named, and that no input ends in a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from program import run, run_here
from servers import GODIS, GodisProcess, encode, require
from tables import for_each

from cli.command_line import read_variables
from cli.log_tools import UNUSABLE

USAGE = 2

KUBERNETES = {
    "GODIS_SERVICE_HOST": "10.43.0.7",
    "GODIS_SERVICE_PORT": "6379",
    "GODIS_SERVICE_PORT_REDIS": "6379",
    "GODIS_PORT": "tcp://10.43.0.7:6379",
    "GODIS_PORT_6379_TCP": "tcp://10.43.0.7:6379",
    "GODIS_PORT_6379_TCP_PROTO": "tcp",
    "GODIS_PORT_6379_TCP_PORT": "6379",
    "GODIS_PORT_6379_TCP_ADDR": "10.43.0.7",
}


# ---- the command line


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--prot", "1"], "there is no flag '--prot': did you mean --port?"),
        (["--protected", "no"], "there is no flag '--protected': did you mean --protected-mode?"),
        (["--max=1"], "there is no flag '--max': did you mean --maxmemory?"),
        (["--bind", "::"], "there is no flag '--bind': did you mean --host?"),
        (["--auto-aof-rewrite-min-size", "1"], "did you mean --auto-rewrite-min-size?"),
        (["--xyzzy"], "there is no flag '--xyzzy'; see"),
        (["-p", "6379"], "there is no flag '-p'; see"),
        (["--vers"], "there is no flag '--vers': did you mean --version?"),
        (["--port"], "--port needs a value"),
        (["--port", "1", "--port", "2"], "--port is given twice"),
        (["--no-log=yes"], "--no-log takes no value"),
        (["pnig"], "there is no command 'pnig': did you mean ping?"),
        (["ping", "pong"], "do not go together"),
        (["check"], "do not go together"),
        (["check", "log.txt", "--until", "1"], "do not go together"),
    ],
)
def test_a_wrong_command_line_is_told_what_is_wrong_in_it(tmp_path: Path, args: list[str], said: str) -> None:
    done = run_here(tmp_path, *args)
    assert done.returncode == USAGE
    first, _, usage = done.stderr.partition("\n\n")
    assert said in first
    assert len(first.splitlines()) == 1
    assert usage.startswith("Usage:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args", [["--requirepass", "s3cr3t", "--prot", "1"], ["--requirepass=s3cr3t", "--requirepass", "s3cr3t"]]
)
def test_a_wrong_command_line_does_not_show_the_password(tmp_path: Path, args: list[str]) -> None:
    done = run_here(tmp_path, *args)
    assert done.returncode == USAGE
    assert "s3cr3t" not in done.stderr + done.stdout


def test_the_value_of_a_flag_may_look_like_a_flag(tmp_path: Path) -> None:
    done = run_here(tmp_path, "--port", "--prot")
    assert done.stderr == "godis: --port '--prot': argument couldn't be parsed into an integer; see --help\n"


@pytest.mark.parametrize(
    ("args", "env", "said"),
    [
        (["--port", "abc"], {}, "--port 'abc': argument couldn't be parsed into an integer"),
        (
            ["--appendfsync=never"],
            {},
            "--appendfsync 'never': argument(s) must be one of the following: always, everysec",
        ),
        ([], {"GODIS_NO_LOG": "maybe"}, "GODIS_NO_LOG 'maybe': argument must be 'yes' or 'no'"),
        ([], {"GODIS_TIMEOUT": "soon"}, "GODIS_TIMEOUT 'soon': argument must be seconds"),
        (["--instance-id", "caf\udce9"], {}, "--instance-id 'caf\\udce9': argument must be printable UTF-8"),
        (["--instance-id", "a\nrole:master"], {}, "--instance-id 'a\\nrole:master': argument must be printable UTF-8"),
        (["--log", ""], {}, "--log '': argument must be the name of a file"),
    ],
)
def test_a_bad_value_is_named_with_where_it_is_from(
    tmp_path: Path, args: list[str], env: dict[str, str], said: str
) -> None:
    done = run_here(tmp_path, *args, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith(f"godis: {said}")
    assert done.stderr.endswith("; see --help\n")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_help_can_be_shown_in_any_encoding(tmp_path: Path) -> None:
    done = run(tmp_path, "--help", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("args", [["check"], ["check", "--until=1", "--output=caf\udce9"], ["check", "--repair"]])
def test_a_path_that_stdout_cannot_spell_is_shown_escaped(tmp_path: Path, args: list[str]) -> None:
    log = tmp_path / "caf\udce9.txt"
    log.write_bytes(b"")
    done = run(tmp_path, args[0], log.name, *args[1:], env={"PYTHONIOENCODING": "ascii:strict"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "caf\\udce9" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("args", "code"), [(["--help"], 1), (["check", "log.txt"], UNUSABLE), (["export", "log.txt"], UNUSABLE)]
)
def test_what_cannot_be_written_to_stdout_is_one_line_and_a_failure(
    tmp_path: Path, args: list[str], code: int, unbuffered: str
) -> None:
    require(Path("/dev/full").exists(), "there is no /dev/full")
    (tmp_path / "log.txt").write_bytes(encode("SET", "k", "v"))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, str(GODIS), *args],
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == code
    assert re.fullmatch("godis: .* to stdout: No space left on device\n", done.stderr)


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


def with_closed(closed: str, command: list[str]) -> list[str]:
    return ["sh", "-c", f'exec "$@" {closed}', "sh", *command]


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_standard_streams_are_no_traceback(tmp_path: Path, closed: str) -> None:
    (tmp_path / "log.txt").write_bytes(encode("SET", "k", "v"))
    for args in (["export", "log.txt"], ["check", "log.txt"]):
        command = with_closed(closed, [sys.executable, str(GODIS), *args])
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == (UNUSABLE if ">&-" in closed.split() else 0)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", CLOSED)
def test_the_log_of_a_server_does_not_become_a_closed_standard_stream(tmp_path: Path, closed: str) -> None:
    class ClosedGodis(GodisProcess):
        """A Godis that is started with closed streams."""

        def command(self) -> list[str]:
            return with_closed(closed, super().command())

    with ClosedGodis(tmp_path) as godis, godis.client() as client:
        assert not any("log.txt" in os.readlink(f"/proc/{godis.pid}/fd/{number}") for number in range(3))
        assert client.set("k", "v")
        assert godis.terminate() == 0
    assert run_here(tmp_path, "check", "log.txt").returncode == 0


# ---- the environment


def test_what_kubernetes_sets_for_a_service_named_godis_stops_nothing(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, env=KUBERNETES) as godis:
        warnings = [line for line in godis.stderr().splitlines() if "WARNING" in line]
        assert len(warnings) == 1
        assert "GODIS_PORT is ignored: 'tcp://10.43.0.7:6379'" in warnings[0]
        assert "--port" in warnings[0]
        for args in (["ping", "--port", str(godis.port)], ["check", "log.txt"]):
            done = run_here(tmp_path, *args, env=KUBERNETES)
            assert (done.returncode, done.stderr) == (0, "")


@for_each(
    ("name", "value", "warning"),
    [
        ("GODIS_PORT", "tcp://10.43.0.7:6379", "--port sets the port"),
        ("GODIS_TLS_PORT", "tcp://[fd00::7]:6379", "--tls-port sets the port"),
        ("GODIS_CACHE_PORT", "udp://10.43.0.7:53", None),
        ("GODIS_CACHE_SERVICE_PORT", "6379", None),
        ("GODIS_CACHE_PORT_53_UDP_ADDR", "10.43.0.7", None),
        ("GODIS_PROT", "6380", "'GODIS_PROT' is no setting and is ignored: did you mean GODIS_PORT?"),
        ("GODIS_MAX_MEMORY", "6380", "did you mean GODIS_MAXMEMORY?"),
        ("GODIS_XYZZY", "6380", "'GODIS_XYZZY' is no setting and is ignored"),
        ("GODIS_TEST_STRICT", "1", "'GODIS_TEST_STRICT' is no setting and is ignored"),
        ("GODIS_NOLOG", "yes", "did you mean GODIS_NO_LOG?"),
        ("GODIS_PORT", "", None),
        ("PORT", "tcp://10.43.0.7:6379", None),
    ],
)
def test_a_variable_that_is_no_setting_is_ignored(name: str, value: str, warning: str | None) -> None:
    found, warnings = read_variables({name: value})
    assert found == {}
    assert len(warnings) == (warning is not None)
    assert not warning or warnings[0].endswith(warning)


def test_a_password_that_looks_like_an_address_is_a_password() -> None:
    assert read_variables({"GODIS_REQUIREPASS": "tcp://1.2.3.4:5"}) == ({"GODIS_REQUIREPASS": "tcp://1.2.3.4:5"}, [])


def test_an_empty_variable_is_as_if_it_were_not_set(tmp_path: Path) -> None:
    empty = dict.fromkeys(
        ["GODIS_LOG", "GODIS_HOST", "GODIS_PORT", "GODIS_DATABASES", "GODIS_NO_LOG", "GODIS_POOL"], ""
    )
    with GodisProcess(tmp_path, log=None, env=empty) as godis, godis.client() as client:
        assert client.config_get("databases") == {"databases": "16"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
    assert (tmp_path / "log.txt").exists()
