"""Mistakes in the log that a model of power loss must find: each syncs less than it should."""

from __future__ import annotations

import pytest

import aof
from aof import AppendOnlyLog
from log import replay as log_replay


def forget_directories(patch: pytest.MonkeyPatch) -> None:
    """A rename or a new file is not followed by an fsync of the directory."""
    patch.setattr(aof, "sync_directory", lambda _path: None)


def forget_the_copy(patch: pytest.MonkeyPatch) -> None:
    """A rewrite renames a file whose bytes were never synced, and syncs the directory alone."""
    sync = aof._sync

    def sync_but_not_a_copy(log: AppendOnlyLog) -> None:
        if log._renamed:
            log_replay.sync_directory(log.real_path)
            log._renamed = False
        elif not log.path.endswith(".rewrite"):
            sync(log._descriptor)

    patch.setattr(AppendOnlyLog, "_sync", sync_but_not_a_copy)


def promise_what_is_written(patch: pytest.MonkeyPatch) -> None:
    """Acknowledge before the fsync."""
    write = AppendOnlyLog._write_batch

    def write_and_promise(log: AppendOnlyLog, batch: list[bytes], link: bytes) -> None:
        write(log, batch, link)
        log.synced_bytes = log.written_bytes

    patch.setattr(AppendOnlyLog, "_write_batch", write_and_promise)


def believe_the_second_fsync(patch: pytest.MonkeyPatch) -> None:
    """After a failed fsync only sync again, as if that wrote the pages."""

    def sync_again(log: AppendOnlyLog) -> None:
        log._sync()
        log.synced_bytes = log.written_bytes
        log.fsync_failure = log.failure = None

    patch.setattr(AppendOnlyLog, "_repair", sync_again)
