"""ioredis: pipelines, transactions, scripts, scans, subscriptions, streams, and a connection that is cut."""

from __future__ import annotations

from applications import node_packages
from servers import GodisProcess
from workers import ask

NODE_PATH = node_packages("ioredis")


def test_a_program_gets_what_it_asks_for(server: GodisProcess) -> None:
    assert ask(server, "node", "ioredis_client.js", NODE_PATH=NODE_PATH) == {
        "pong": "PONG",
        "automatic": ["OK", 2, "2"],
        "pipeline": [2, ["2", "1"], "WRONGTYPE Operation against a key holding the wrong kind of value"],
        "multi": [[None, "OK"], [None, 60]],
        "watched": None,
        "script": ["a", "changed!"],
        "hash": {"one": "1", "two": "zwei"},
        "buffer": len("changed"),
        "scanned": 500,
        "heard": ["news.*", "news.today", "hello"],
        "popped": ["jobs", "job"],
        "read": [["stream", [["1-1", ["field", "value"]]]]],
        "error": ["ReplyError", "WRONGTYPE Operation against a key holding the wrong kind of value"],
        "again": "three",
    }
