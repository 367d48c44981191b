"""The limit on open files of this process, and so on its clients.

1. As in Redis, the limit is raised to what `maxclients` needs. If the system refuses that, `maxclients` is lowered.
2. RESERVED descriptors are never used for clients. The log, its rewrite, the fsync of its directory, the listeners and
   the event loop need them, and so do clients that are about to be refused.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from contextlib import suppress

from config import Config, SettingError
from errors import TOO_FEW_DESCRIPTORS, StartError

if sys.platform != "win32":
    import resource

RESERVED = 32
STEP = 16  # difference between two limits that are tried

logger = logging.getLogger("godis")


def provide_for_clients(config: Config) -> None:
    """Raise the limit on open files, or else lower `maxclients`; check each later CONFIG SET. Raises StartError."""
    clients = _clients_at_most(config.maxclients)
    if clients < 1:
        raise StartError(
            f"this process may open {clients + RESERVED} files and needs {RESERVED} for itself: "
            "raise the limit (ulimit -n)"
        )
    if clients < config.maxclients:
        logger.warning(
            "maxclients is lowered from %d to %d: this process may open %d files and keeps %d of them for itself; "
            "raise the limit (ulimit -n) to have more clients",
            config.maxclients,
            clients,
            clients + RESERVED,
            RESERVED,
        )
        config.maxclients = clients
    config.before_change.append(_refuse_too_many)


def _refuse_too_many(config: Config, names: Collection[str]) -> None:
    """Raise SettingError if these settings ask for more clients than the system allows."""
    if "maxclients" in names and (clients := _clients_at_most(config.maxclients)) < config.maxclients:
        raise SettingError("maxclients", (TOO_FEW_DESCRIPTORS % clients).decode())


def _clients_at_most(wanted: int) -> int:
    """Raise the limit on open files for `wanted` clients if possible; return how many of them there can be."""
    return min(wanted, _raise_limit(wanted + RESERVED) - RESERVED)


def _raise_limit(wanted: int) -> int:
    """Raise the limit on open files as far towards `wanted` as the system allows; return the limit."""
    if sys.platform == "win32":  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    endless = bool(hard == resource.RLIM_INFINITY)
    allowed = wanted if endless else min(wanted, hard)
    for limit in (wanted, *range(allowed, soft, -STEP)):  # only root may go beyond the hard limit
        with suppress(OSError, ValueError):  # macOS allows less than its hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard if endless else max(hard, limit)))
            return int(limit)
    return int(soft)
