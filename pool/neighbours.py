"""Pools that share an etcd: the history that each of them needs, because a compaction affects all keys of an etcd.

1. Each pool has one key, `/godis-pools<prefix>`, outside all prefixes. Its value is the first revision that the pool
   needs: that of its last snapshot but one, or of its log's first entry.
2. A pool compacts no further than the smallest of these revisions.
3. The key of a pool without a log does not count.
"""

from __future__ import annotations

import logging

from pool.etcd import Channel, after_prefix

KEYS = b"/godis-pools"
SECONDS = 10.0  # for one call

logger = logging.getLogger("godis")


class Neighbours:
    """The needs of all pools of an etcd, for the pool with this prefix."""

    def __init__(self, channel: Channel, prefix: str) -> None:
        self._channel = channel
        self._mine = KEYS + prefix.encode()
        self._reported: set[bytes] = set()  # keys that are in the program's log

    def need(self, revision: int) -> None:
        """Ask the other pools to keep the history from a revision on. Raises Unreachable, Refused."""
        self._channel.put(self._mine, b"%d" % revision, SECONDS)

    def compactable(self, revision: int) -> int:
        """Return the smaller of this revision and the first one that another pool needs. Raises Unreachable, Refused.

        It costs a call, and one more for each other pool.
        """
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
            self._warn_once(key, "the key %s%s is no pool's and is passed over: delete it", KEYS.decode(), name)
            return revision
        if int(value) < revision:
            self._warn_once(key, "etcd keeps its history from revision %d on for the pool %s, too", int(value), name)
        return int(value)

    def _warn_once(self, key: bytes, text: str, *arguments: object) -> None:
        if key not in self._reported:
            self._reported.add(key)
            logger.warning(text, *arguments)
