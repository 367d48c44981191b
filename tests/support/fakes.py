"""Commands below the server, as lines of text: what they answer, and what they log."""

from __future__ import annotations

import shlex
from typing import Any

from canonical import all_of
from instances import Bench, Client, Replay

from errors import CommandError

START_S = 1_700_000_000
START_MS = START_S * 1000  # a whole second, so that tables of deadlines can be read


class Dialogue:
    """An instance and a client of it that asks in lines, quoted as in a shell, with escapes such as \\xff."""

    def __init__(self, default_ttl: str = "0") -> None:
        self.bench = Bench(default_ttl=default_ttl)
        self.store = self.bench.store
        self.store.tick(START_MS)
        self.client: Client = self.bench.connect()

    def ask(self, *lines: str) -> Any:
        """Run lines and return the last one's reply, of an error its text."""
        reply: Any = None
        for line in lines:
            words = [word.encode().decode("unicode_escape").encode("latin-1") for word in shlex.split(line)]
            reply = self.client.ask(*words)
        return reply.text if isinstance(reply, CommandError) else reply

    def effects(self) -> list[str]:
        """Return what was logged since the last call, a line an effect."""
        records = [" ".join(word.decode("latin-1") for word in argv) for argv in self.bench.log.records]
        self.bench.log.records.clear()
        self.bench.log.databases.clear()
        return records

    def let_pass(self, milliseconds: int) -> None:
        """Let time pass."""
        self.store.tick(self.store.now_ms + milliseconds)


def answers_and_logs(before: str, line: str, reply: Any, effects: list[str], start_ms: int = START_MS) -> None:
    """Assert what a line answers and logs after other lines ("; " stands between lines).

    Assert also that the log gives the same store when it is replayed, and that no invariant is broken.
    """
    dialogue = Dialogue()
    dialogue.store.tick(start_ms)
    dialogue.ask(*filter(None, before.split("; ")))
    records = list(zip(dialogue.bench.log.databases, dialogue.bench.log.records, strict=True))
    dialogue.effects()
    assert dialogue.ask(*line.split("; ")) == reply
    records += zip(dialogue.bench.log.databases, dialogue.bench.log.records, strict=True)
    assert dialogue.effects() == effects
    for db in dialogue.store.databases:
        db.check()
    replay = Replay()
    replay.store.tick(start_ms)
    for db_index, argv in records:
        replay.engine.apply(db_index, argv)
    assert all_of(replay.store) == all_of(dialogue.store)
