"""The line that says how far a reading is."""

from __future__ import annotations

import io
import sys

import pytest

from cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_the_line_has_a_share_and_a_rate_and_is_only_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    now = 100.0
    progress = Progress("reading a\nb", lambda: now)
    progress.show(1 << 20, 100 << 20)  # too early
    now += 2
    progress.show(50 << 20, 100 << 20)
    line = "reading a\\nb: 50 % of 100 MB, 25 MB/s"
    assert stderr.getvalue() == (f"\r{line}" if terminal else "")
    progress.clear()
    assert stderr.getvalue() == (f"\r{line}\r{' ' * len(line)}\r" if terminal else "")
