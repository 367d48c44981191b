"""File names that a user or a client gives: what is no regular file is refused at once, and the process never waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Certificates
from program import run
from servers import GodisProcess, encode, require
from tls_clients import TlsGodis

from errors import StartError
from pool.etcd import tls_context
from pool.snapshot_file import LocalSnapshot, Unusable
from wire.files import MAX_PEM_BYTES, NotRegular, check_pem, open_regular

PEM_SETTINGS = ["tls-cert-file", "tls-key-file", "tls-ca-cert-file"]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A FIFO that nobody writes to."""
    require(hasattr(os, "mkfifo"), "this system has no FIFOs")
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "args",
    [
        *([["--port", "0", "--log", "fifo"], ["check", "fifo"], ["check", "fifo", "--repair"], ["export", "fifo"]]),
        ["check", "fifo", "--until", "1", "--output", "new"],
        *([["--requirepass-file", "fifo"], ["ping", "--requirepass-file", "fifo"]]),
        *(["--tls-port", "7777", f"--{setting}", "fifo"] for setting in PEM_SETTINGS),
        ["ping", "--port", "0", "--tls-port", "7777", "--tls-ca-cert-file", "fifo"],
    ],
    ids=" ".join,
)
def test_a_fifo_is_refused_on_the_command_line(
    fifo: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, args: list[str]
) -> None:
    certificates = Certificates(tmp_path_factory.mktemp("certificates")) if "--tls-port" in args else None
    if certificates is not None:
        files = {"--tls-cert-file": certificates.cert("server"), "--tls-key-file": certificates.key("server")}
        args = [*args, *(word for flag, name in files.items() if flag not in args for word in (flag, name))]
    done = run(tmp_path, *args)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("godis: ")
    assert len(done.stderr.splitlines()) == 1
    assert "not a regular file" in done.stderr
    assert not (tmp_path / "new").exists()


def test_config_set_refuses_a_fifo_a_device_and_proc_and_serves_on(tmp_path: Path, fifo: Path) -> None:
    certificates = Certificates(tmp_path)
    with TlsGodis(tmp_path, certificates) as godis, godis.raw() as client, godis.raw() as other:
        for setting in PEM_SETTINGS:
            before = client.ask("CONFIG", "GET", setting)
            for path in (str(fifo), "/dev/zero", "/proc/self/maps", str(tmp_path)):
                said = client.ask("CONFIG", "SET", setting, path)
                assert said.startswith(b"-ERR CONFIG SET failed"), (setting, path, said)
                assert other.ask("PING") == b"+PONG\r\n"
            assert client.ask("CONFIG", "GET", setting) == before
        assert "not a regular file" in godis.stderr()


def test_a_log_that_is_replaced_by_a_fifo_holds_up_nobody(godis: GodisProcess, tmp_path: Path) -> None:
    with godis.raw() as client:
        client.ask("SET", "k", "v")
        assert godis.log is not None
        godis.log.rename(tmp_path / "moved.txt")
        os.mkfifo(godis.log)
        client.send(encode("BGREWRITEAOF"))
        client.read_reply()
        for _ in range(20):
            assert client.ask("GET", "k") == b"$1\r\nv\r\n"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_pools_certificates_are_no_fifo(fifo: Path, place: int) -> None:
    files = ["", "", ""]
    files[place] = str(fifo)
    with pytest.raises(StartError, match="not a regular file"):
        tls_context(*files)


def test_the_pools_local_snapshot_is_no_fifo(fifo: Path) -> None:
    with pytest.raises(Unusable, match="not a regular file"):
        LocalSnapshot(str(fifo), "one", dict).read_meta()


@pytest.mark.parametrize("opened", [open_regular, check_pem])
def test_only_regular_files_are_opened(fifo: Path, tmp_path: Path, opened: Callable[[str], object]) -> None:
    (tmp_path / "link").symlink_to(fifo)
    for path in (fifo, tmp_path / "link", Path(os.devnull)):
        with pytest.raises(NotRegular):
            opened(str(path))
    with pytest.raises(IsADirectoryError):
        opened(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        opened(str(tmp_path / "missing"))


def test_a_regular_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(str(tmp_path / "link")) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("size", [0, MAX_PEM_BYTES + 1])
def test_a_pem_file_has_a_size_that_openssl_reads_at_once(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file.pem"
    path.touch()
    os.truncate(path, size)
    with pytest.raises(OSError, match=f"it has {size} bytes"):
        check_pem(str(path))


# ---- the password file

UTF16_LE, UTF16_BE, UTF8 = ("secret\n".encode(name) for name in ("utf-16-le", "utf-16-be", "utf-8"))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"\xef\xbb\xbf" + UTF8, "byte-order mark"),
        (b"\xff\xfe" + UTF16_LE, "UTF-16"),
        (b"\xfe\xff" + UTF16_BE, "UTF-16"),
        (UTF16_LE, "UTF-16"),
        (UTF16_BE, "UTF-16"),
    ],
)
def test_a_password_file_in_another_encoding_is_refused_with_a_hint(tmp_path: Path, content: bytes, hint: str) -> None:
    (tmp_path / "password").write_bytes(content)
    for mode in ([], ["ping"]):
        done = run(tmp_path, *mode, "--requirepass-file", "password")
        assert done.returncode == 1
        assert done.stderr.startswith("godis: no password in --requirepass-file password: ")
        assert hint in done.stderr
        assert "UTF-8" in done.stderr


@pytest.mark.parametrize("content", [b"s", b"se\0cret", "пароль".encode(), bytes(range(128, 255))])
def test_an_unusual_password_is_no_other_encoding(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "password").write_bytes(content + b"\n")
    with GodisProcess(tmp_path, "--requirepass-file", "password") as godis, godis.raw() as client:
        assert client.ask("AUTH", content) == b"+OK\r\n"


@pytest.mark.parametrize(("password", "warns"), [("secret\r", True), (" secret", True), ("se cret", False)])
def test_white_space_around_the_password_is_warned_about(tmp_path: Path, password: str, warns: bool) -> None:
    with GodisProcess(tmp_path, env={"GODIS_REQUIREPASS": password}) as godis, godis.raw() as client:
        assert client.ask("AUTH", password) == b"+OK\r\n"
        assert ("white space" in godis.stderr()) == warns
