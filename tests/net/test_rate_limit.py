"""Lines that clients can cause without end: the first are written, the others counted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from servers import GodisProcess, wait_until

from net.rate_limit import MOST_LINES, LogRateLimit


def test_of_one_kind_the_first_lines_of_a_second_are_written_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("godis.test")
    now = [100.0]
    lines = LogRateLimit(logger, clock=lambda: now[0])
    with caplog.at_level(logging.INFO, logger.name):
        for number in range(MOST_LINES + 7):
            logger.warning("refused %d", number)
            logger.info("told %d", number)
        logger.error("something else")
        now[0] += 1
        logger.warning("refused %s", "again")
        now[0] += 1
        lines.report()
        logger.warning("refused %s", "for another reason")
        lines.close()
    written = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert written == [
        *(f"refused {number}" for number in range(MOST_LINES)),
        "something else",
        "7 more like the last one were left out: refused %d",
        "refused again",
        "refused for another reason",
    ]
    assert sum(record.levelno == logging.INFO for record in caplog.records) == MOST_LINES + 7
    assert not logger.filters


def test_who_guesses_passwords_without_end_fills_no_disk(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--requirepass", "secret") as godis, godis.raw() as guesser:
        guesser.send(b"AUTH wrong\n" * 5000)
        for _ in range(5000):
            assert guesser.read_line().startswith(b"-WRONGPASS")
        wait_until(lambda: "left out" in godis.stderr(), what="the others are counted")
        refusal = f"refused a wrong password or user from 127.0.0.1:{guesser.sock.getsockname()[1]}"
        assert MOST_LINES <= godis.stderr().count(refusal) <= 100
