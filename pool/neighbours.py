"""Pools that share an etcd: what each needs of the history, since a compaction concerns all keys of an etcd.

It owns the keys `/godis-pools<prefix>`, one a pool, beside all prefixes. The value is the first revision that the pool
needs; its last snapshot but one is as of then, or its log begins there. A pool counts while it has a log.
"""

from __future__ import annotations

import logging

from pool.etcd import Channel, after_prefix

KEYS = b"/godis-pools"
SECONDS = 10.0  # for one call

logger = logging.getLogger("godis")


class Neighbours:
    """The pools of an etcd, as one of them sees them."""

    def __init__(self, channel: Channel, prefix: str) -> None:
        self._channel = channel
        self._mine = KEYS + prefix.encode()
        self._told: set[bytes] = set()

    def need(self, revision: int) -> None:
        """Let the other pools keep the history from a revision on. Raises Unreachable, Refused."""
        self._channel.put(self._mine, b"%d" % revision, SECONDS)

    def may_forget(self, revision: int) -> int:
        """Return this revision, or the first one that another pool needs. Raises Unreachable, Refused."""
        start = KEYS + b"/"
        for found in self._channel.range(start, SECONDS, after_prefix(start)):
            if found.key != self._mine and self._has_log(found.key):
                revision = min(revision, self._needed_by(found.key, found.value, revision))
        return revision

    def _has_log(self, key: bytes) -> bool:
        return bool(self._channel.range(key[len(KEYS) :] + b"/log", SECONDS, keys_only=True))

    def _needed_by(self, key: bytes, value: bytes, revision: int) -> int:
        name = key[len(KEYS) :].decode(errors="backslashreplace")
        if not value.isdigit():
            self._tell(key, "the key %s%s is no pool's and is passed over: delete it", KEYS.decode(), name)
            return revision
        if int(value) < revision:
            self._tell(key, "etcd keeps its history from revision %d on for the pool %s, too", int(value), name)
        return int(value)

    def _tell(self, key: bytes, text: str, *arguments: object) -> None:
        if key not in self._told:
            self._told.add(key)
            logger.warning(text, *arguments)
