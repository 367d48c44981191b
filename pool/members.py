"""The instances of a pool: the settings that all must share, and one key with a lease for each instance.

    <prefix>/settings        JSON: the settings of the first instance; others must have the same
    <prefix>/instances/ID    JSON: name, address, last applied entry; etcd deletes it LEASE_SECONDS after its instance

The lock under which an instance writes a snapshot belongs to the same lease.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import gevent

from config import Config
from errors import StartError
from pool.documents import NotOurs, read_document
from pool.etcd import Channel, KeyValue, Refused, Unreachable, after_prefix, text64
from session import PoolMember, PoolState

FORMAT = 1
FIELDS = {"name": str, "address": str, "index": int, "entries": int, "started_ms": int}
ANNOUNCE_SECONDS = 2.0
LEASE_SECONDS = 10
SECONDS = 2.0  # for one call
JOIN_SECONDS = 5.0

logger = logging.getLogger("godis")


def agree_on_settings(channel: Channel, config: Config) -> None:
    """Raise StartError if the pool has other settings: its entries would have another meaning here.

    The first instance stores its settings. Raises Unreachable, Refused.
    """
    assert config.pool is not None
    key = config.pool.prefix.encode() + b"/settings"
    mine = {"format": FORMAT, "databases": config.databases}
    absent = {"key": text64(key), "target": "CREATE", "create_revision": 0}
    found: list[KeyValue] = []
    while not found:  # the key may be deleted between the two calls
        if channel.put_if([absent], key, json.dumps(mine).encode(), JOIN_SECONDS):
            return
        found = channel.range(key, JOIN_SECONDS)
    try:
        theirs = read_document(found[0].value, {"format": int, "databases": int})
    except NotOurs as reason:
        raise StartError(
            f"the pool's settings cannot be read ({reason}): delete etcd's key {key.decode()}, and start this instance "
            "again with the --databases of the others"
        ) from None
    if theirs["format"] != FORMAT:
        raise StartError("the pool's settings are of another version of Godis")
    if theirs["databases"] != config.databases:
        here = f"this instance has {config.databases}"
        raise StartError(f"the pool has {theirs['databases']} databases, and {here}: --databases must be alike")


class Membership:
    """This instance's key, and the list of members read from all keys; `lease` is 0 while there is none."""

    def __init__(
        self, channel: Channel, prefix: str, state: PoolState, describe: Callable[[str], dict[str, Any]]
    ) -> None:
        self.lease = 0
        self._channel = channel
        self._state = state
        self._describe = describe
        self._keys = prefix.encode() + b"/instances/"
        self._mine = self._keys + state.id.encode()
        self._foreign: set[bytes] = set()  # keys that are in the program's log

    def leave(self) -> None:
        """Revoke the lease, so that the other instances see at once that this one is gone."""
        try:
            if self.lease:
                self._channel.revoke_lease(self.lease, SECONDS)
        except (Unreachable, Refused):
            pass  # the lease expires

    def run(self) -> None:
        """Renew this instance's key and read those of the others every ANNOUNCE_SECONDS, for ever."""
        while True:
            try:
                self._put_member()
                found = self._channel.range(self._keys, 2.0, after_prefix(self._keys))
                self._state.members = [member for each in found if (member := self._member(each)) is not None]
            except (Unreachable, Refused) as error:
                logger.debug("not announced: %s", error)
            gevent.sleep(ANNOUNCE_SECONDS)

    def _put_member(self) -> None:
        if not self.lease or not self._channel.keep_alive(self.lease, 2.0):
            self.lease = self._channel.grant_lease(LEASE_SECONDS, 2.0)
        self._channel.put(self._mine, json.dumps(self._describe(self._channel.local_host)).encode(), 2.0, self.lease)

    def _member(self, found: KeyValue) -> PoolMember | None:
        name = found.key[len(self._keys) :].decode(errors="backslashreplace")
        try:
            fields = read_document(found.value, FIELDS)
            if not (fields["name"] + fields["address"]).isprintable():
                raise NotOurs("its name or address is not printable")
        except NotOurs as reason:
            if found.key not in self._foreign:
                self._foreign.add(found.key)
                key = f"{self._keys.decode()}{name}"
                logger.warning("etcd's key %s is no instance and is passed over (%s): delete it", key, reason)
            return None
        room_bytes = fields.get("room_bytes")  # missing in the key of Godis 1.1.0
        return PoolMember(
            name,
            fields["name"],
            fields["address"],
            fields["index"],
            fields["entries"],
            fields["started_ms"],
            room_bytes if isinstance(room_bytes, int) else 0,
        )
