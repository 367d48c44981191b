"""node-redis by RESP2 and RESP3: pipelines, transactions, scripts, streams, pools, and a cache at the client's side."""

from __future__ import annotations

from applications import node_packages
from servers import GodisProcess
from workers import ask

NODE_PATH = node_packages("redis")


def test_a_program_gets_what_it_asks_for_by_both_protocols(server: GodisProcess) -> None:
    expected = {
        "pong": "PONG",
        "pipelined": ["OK", 2, "2"],
        "multi": ["OK", 60],
        "watched": True,
        "script": 12,
        "hash": {"one": "1", "two": "zwei"},
        "scores": [{"value": "one", "score": 1.5}, {"value": "two", "score": 2}],
        "scanned": 500,
        "heard": ["news.today", "hello"],
        "popped": {"key": "jobs", "element": "job"},
        "read": [{"name": "stream", "messages": [{"id": "1-1", "message": {"field": "value"}}]}],
        "pool": [1, 2, 3, 4],
        "error": "WRONGTYPE Operation against a key holding the wrong kind of value",
    }
    assert ask(server, "node", "node_redis_client.js", "2", NODE_PATH=NODE_PATH) == expected
    with server.client() as client:
        client.flushall()
    told = ask(server, "node", "node_redis_client.js", "3", NODE_PATH=NODE_PATH)
    assert told == expected | {"cached": ["12", "12", "new"], "asked": False}
