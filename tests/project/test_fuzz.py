"""Each fuzz target for a moment, after every input that once failed; `make fuzz` goes on for long."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace

import old_forms
import pytest
from fuzzing import corpus, logs, parsers, payloads, scripts
from random_commands import of_any_family
from tables import for_each
from watched import WatchedGodis

from log.reader import frame
from protocol import encode_command

SEED = int(os.environ.get("GODIS_SEED", "0"))


def name(path: Path) -> str:
    return path.name


def mutated(content: bytes, tokens: list[bytes], random: Random) -> bytes:
    """Change an input here and there: a word put in, bytes lost, changed, or said twice."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(changed) + 1)
        size = random.randint(1, 4)
        match random.randrange(4):
            case 0:
                changed[at:at] = random.choice(tokens)
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at : at + size] = random.randbytes(size)
            case _:
                changed[at:at] = changed[at : at + 4 * size]
    return bytes(changed)


# ---- what was found


@for_each("path", corpus.files("parser"), ids=name)
def test_both_parsers_agree_on_the_corpus(path: Path) -> None:
    parsers.check(path.read_bytes())


@pytest.mark.usefixtures("fast_disk")
@pytest.mark.parametrize("path", corpus.files("log"), ids=name)
def test_replay_check_and_repair_agree_on_the_corpus(path: Path, tmp_path: Path) -> None:
    logs.check(path.read_bytes(), tmp_path)


@for_each("path", corpus.files("payload"), ids=name)
def test_values_of_the_corpus_are_restored_or_refused(path: Path) -> None:
    payloads.check(path.read_bytes())


@pytest.mark.parametrize("path", corpus.files("server"), ids=name)
def test_a_server_bears_the_scripts_of_the_corpus(path: Path, tmp_path: Path) -> None:
    with WatchedGodis(tmp_path, "--default-ttl", "0") as godis:
        scripts.play(godis, scripts.read(path.read_text()))
        scripts.assert_recovers(godis)


# ---- what chance brings


def test_both_parsers_agree_on_changed_input() -> None:
    random = Random(SEED)
    seeds = [path.read_bytes() for path in corpus.files("parser")]
    for _ in range(800):
        parsers.check(mutated(random.choice(seeds), parsers.TOKENS, random))


def test_changed_values_are_restored_or_refused() -> None:
    random = Random(SEED)
    seeds = [path.read_bytes() for path in corpus.files("payload")]
    for _ in range(600):
        payloads.check(mutated(random.choice(seeds), payloads.TOKENS, random))


@pytest.mark.usefixtures("fast_disk")
def test_replay_check_and_repair_agree_on_changed_logs(tmp_path: Path) -> None:
    random = Random(SEED)
    seeds = [path.read_bytes() for path in corpus.files("log")]
    for number in range(200):
        changed = mutated(random.choice(seeds), logs.TOKENS, random)
        logs.check(changed if number % 3 else logs.with_right_checksums(changed), tmp_path)


def test_a_server_bears_whatever_its_clients_send(tmp_path: Path) -> None:
    with WatchedGodis(tmp_path, "--default-ttl", "0") as godis:
        scripts.run(godis, Random(SEED), [scripts.random_command, of_any_family], 2, [])


def test_a_script_is_read_as_it_was_written() -> None:
    actions = [*scripts.random_actions(Random(SEED), [scripts.random_command], 50)]
    assert scripts.read("# a remark\n" + scripts.show(actions)) == actions


# ---- the targets find what they are to find


def test_a_parser_that_takes_what_redis_refuses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol._other_types", lambda _text: 0)
    wires = [parsers.PING + b"*1\r\n+$PING%d\r\n" % number + parsers.PING for number in range(20)]
    with pytest.raises(AssertionError):
        check_all(parsers.check, wires)


def test_a_log_whose_checksums_nobody_looks_at_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("log.reader.zlib", SimpleNamespace(crc32=lambda _data, _start=0: 0))
    command = encode_command([b"SET", b"key", b"value" * 20])
    contents = [frame(command, number) + frame(command, number + 1) for number in range(100)]
    with pytest.raises(AssertionError):
        check_all(partial(logs.check, work=tmp_path), contents)


def test_a_command_that_fails_amid_a_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdb.objects._score", lambda text: text)
    with pytest.raises(AssertionError):
        payloads.check(b"\x0c" + old_forms.string(old_forms.ziplist([b"a", 1, b"b", b"x"])))


def check_all(check: Callable[[bytes], None], contents: list[bytes]) -> None:
    for content in contents:
        check(content)
