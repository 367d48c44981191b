"""What each signal does to the program: those that stop it, those that it ignores, those of the terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import GODIS, GodisProcess, dies_with_parent, encode, require, wait_until

from net.signals import LEFT_ALONE, STOPPING, ignored_signals, name_of, stopping_signals

SLOW_LOG = encode("INCR", "n") * 50_000  # single commands, which are replayed a hundred times slower than SETs


def send(godis: GodisProcess, number: int) -> None:
    """Send a signal; on Windows SIGBREAK is an event of the console."""
    godis.process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", number) if name_of(number) == "SIGBREAK" else number)


def launch_with_slow_log(godis: GodisProcess, log: Path) -> None:
    """Start a stopped Godis anew, and return while it loads this log."""
    log.write_bytes(SLOW_LOG)
    godis.args = ("--log", str(log))
    said = len(godis.stderr())
    godis.launch()
    wait_until(lambda: "instance" in godis.stderr()[said:], 20, "it loads")


@pytest.mark.parametrize("number", stopping_signals(), ids=name_of)
def test_a_stopping_signal_ends_it_with_code_0_and_everything_kept(tmp_path: Path, number: int) -> None:
    with GodisProcess(tmp_path, "--appendfsync", "no") as godis:
        with godis.client() as client:
            client.set("k", "v")
        send(godis, number)
        assert godis.process.wait(20) == 0
        said = godis.stderr()
        assert f"told to stop by {name_of(number)}" in said
        assert "stopped; everything is in the log" in said
        assert "Traceback" not in said
        godis.start()
        with godis.client() as client:
            assert client.get("k") == b"v"


@pytest.mark.parametrize("number", stopping_signals(), ids=name_of)
def test_a_stopping_signal_while_it_loads_ends_it_with_code_0(tmp_path: Path, number: int) -> None:
    log = tmp_path / "slow.txt"
    with GodisProcess(tmp_path, "--no-log", log=None) as godis:
        assert godis.terminate() == 0
        launch_with_slow_log(godis, log)
        send(godis, number)
        assert godis.process.wait(20) == 0
        assert "told to stop while loading" in godis.stderr()
        assert "Traceback" not in godis.stderr()
    assert log.read_bytes() == SLOW_LOG


def test_every_other_signal_is_ignored_and_named(godis: GodisProcess) -> None:
    with godis.raw() as raw:
        for number in ignored_signals():
            said = f"WARNING {name_of(number)} is ignored"
            godis.process.send_signal(number)
            wait_until(lambda said=said: said in godis.stderr(), 10, said)  # type: ignore[misc]
            assert raw.ask("SET", "k", number) == b"+OK\r\n"
    assert godis.terminate() == 0


def test_every_other_signal_is_ignored_while_it_loads(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--no-log", log=None) as godis:
        assert godis.terminate() == 0
        launch_with_slow_log(godis, tmp_path / "slow.txt")
        for number in ignored_signals():
            godis.process.send_signal(number)
        godis.wait_until_it_answers()
        with godis.client() as client:
            assert client.get("n") == b"50000"


def test_the_signals_of_a_terminal_and_of_failed_calls_leave_it_serving(godis: GodisProcess) -> None:
    for name in ("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGSTOP", "SIGWINCH", "SIGURG", "SIGCHLD", "SIGPIPE", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            godis.process.send_signal(number)
            godis.process.send_signal(signal.SIGCONT)
            assert godis.answers(), name
    assert godis.terminate() == 0


def test_each_signal_of_this_system_has_one_answer() -> None:
    assert not {*STOPPING} & {*LEFT_ALONE}
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR"):
        assert not hasattr(signal, name) or getattr(signal, name) in ignored_signals()
    left_alone = {getattr(signal, name, None) for name in LEFT_ALONE}
    assert {*signal.valid_signals()} == {*stopping_signals(), *ignored_signals(), *left_alone} - {None}


def test_it_serves_on_and_stops_well_when_its_terminal_is_closed(tmp_path: Path) -> None:
    require(shutil.which("setsid"), "setsid is not installed")

    class OnTerminal(GodisProcess):
        """A Godis whose terminal is a pseudo terminal."""

        def launch(self) -> None:
            self.terminal, end = os.openpty()
            command = ["setsid", "--ctty", *dies_with_parent(self.command())]
            self.process = subprocess.Popen(command, cwd=tmp_path, stdin=end, stdout=end, stderr=end)
            os.close(end)

    with OnTerminal(tmp_path) as godis:
        os.close(godis.terminal)  # the system sends SIGHUP, and writes to the terminal fail from now on
        with godis.raw() as raw:
            assert raw.ask("SET", "k", "v") == b"+OK\r\n"
        assert godis.terminate() == 0
    assert b"SET" in (tmp_path / "log.txt").read_bytes()


@pytest.mark.parametrize(
    ("module", "args"), [("docopt", ["ping"]), ("gevent", ["--no-log"]), ("hiredis", ["check", "x"])]
)
def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path: Path, module: str, args: list[str]) -> None:
    (tmp_path / f"{module}.py").write_text("import time\nopen('reached', 'x').close()\ntime.sleep(60)\n")
    inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's job in the background ignores it
    try:
        process = subprocess.Popen(
            [sys.executable, str(GODIS), *args],
            cwd=tmp_path,
            env={name: text for name, text in os.environ.items() if name[:6] != "GODIS_"}
            | {"PYTHONPATH": str(tmp_path)},
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, inherited)
    try:
        wait_until((tmp_path / "reached").exists, 20, f"{module} is imported")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (-signal.SIGINT, b"")
