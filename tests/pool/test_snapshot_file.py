"""The file with a pool's snapshot: whole or not there, and used only where it is of this log and of this Godis."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pool.snapshot_file import MAGIC, LocalSnapshot, Unusable

IDENTITY = {"cluster": "14841639068965178418", "prefix": "/godis", "first": 3}
META = {"index": 7, "version": 5, "clock_ms": 1_700_000_000_000, "seen": [[1, 2, 3, 4]]}
CHUNKS = [b"first" * 1000, b"", os.urandom(1 << 20), b"last"]


def at(path: Path, identity: dict[str, Any] | None = None, writer: str = "one") -> LocalSnapshot:
    return LocalSnapshot(str(path), writer, lambda: identity or IDENTITY)


def write(path: Path, chunks: list[bytes] | None = None, **options: Any) -> None:
    with at(path, **options).begin() as copy:
        for chunk in chunks or CHUNKS[:1]:
            copy.add(chunk)
        copy.finish(META)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot"


def test_what_was_written_is_read(path: Path) -> None:
    chunks = [chunk for chunk in CHUNKS if chunk]
    write(path, chunks)
    snapshot = at(path)
    assert snapshot.read_meta().items() >= META.items()
    assert list(snapshot.chunks()) == chunks
    assert os.listdir(path.parent) == ["snapshot"]


def test_an_empty_store_has_no_chunks(path: Path) -> None:
    with at(path).begin() as copy:
        copy.finish(META)
    assert at(path).read_meta()["index"] == 7
    assert list(at(path).chunks()) == []


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1], "checksum"),
        (lambda data: data[1:], "no snapshot"),
        (lambda data: data + b"x", "checksum"),
        (lambda data: data[: len(data) // 2], "checksum"),
        (lambda _data: b"", "too short"),
        (lambda _data: MAGIC, "too short"),
        (lambda data: flip(data, len(MAGIC) + 1), "checksum"),
        (lambda data: flip(data, len(data) // 2), "checksum"),
        (lambda data: flip(data, len(data) - 1), "checksum"),
        (lambda data: flip(data, len(data) - 6), "checksum"),
        (lambda _data: b"SET k v\r\n" * 100, "no snapshot"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Unusable, match=reason):
        at(path).read_meta()


def test_a_flipped_bit_anywhere_is_noticed(path: Path) -> None:
    write(path, [b"chunk"])
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(flip(data, place))
        with pytest.raises(Unusable):
            at(path).read_meta()


@pytest.mark.parametrize(("name", "value"), [("cluster", "1"), ("prefix", "/other"), ("first", 4)])
def test_a_snapshot_of_another_log_is_refused(path: Path, name: str, value: Any) -> None:
    write(path)
    with pytest.raises(Unusable, match="another pool"):
        at(path, {**IDENTITY, name: value}).read_meta()


def test_a_snapshot_of_another_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pool.snapshot_file.VERSION", "0.9.0")
        write(path)
    with pytest.raises(Unusable, match=r"written by Godis 0\.9\.0"):
        at(path).read_meta()


def test_a_file_that_is_not_there_is_no_snapshot(path: Path) -> None:
    with pytest.raises(Unusable, match="No such file"):
        at(path).read_meta()


def test_one_that_is_not_finished_leaves_the_last_one_there(path: Path) -> None:
    write(path, [b"old"])
    with at(path).begin() as copy:
        copy.add(b"new")
        assert len(os.listdir(path.parent)) == 2
    assert os.listdir(path.parent) == ["snapshot"]
    assert list(at(path).chunks()) == [b"old"]


def test_instances_that_share_a_path_write_beside_each_other(path: Path) -> None:
    with at(path, writer="a/b").begin() as one, at(path, writer="c").begin() as other:
        one.add(b"one")
        other.add(b"other")
        one.finish(META)
        assert list(at(path).chunks()) == [b"one"]
        other.finish(META)
    assert at(path).read_meta()["version"] == 5
    assert list(at(path).chunks()) == [b"other"]


def test_what_cannot_be_written_is_told_and_hurts_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "no" / "such" / "directory")
    assert "no local snapshot was written" in caplog.text
    assert "No such file or directory" in caplog.text


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with LocalSnapshot("", "one", lambda: IDENTITY).begin() as copy:
        copy.add(b"chunk")
        copy.finish(META)
    assert os.listdir(tmp_path) == []
