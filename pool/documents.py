"""JSON documents under a pool's prefix, each of which somebody else may have put there.

It owns the check that a document is ours, and knows nothing of etcd or of what the documents mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class NotOurs(Exception):
    """No instance of a pool has put that; the message says what is wrong with it."""


def read_document(data: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    """Read a JSON object, which must have at least these fields, of these types. Raises NotOurs."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise NotOurs("it is no JSON") from None
    if not isinstance(found, dict):
        raise NotOurs("it is no JSON object")
    for name, kind in fields.items():
        if type(found.get(name)) is not kind:
            raise NotOurs(f"it has no {name}" if name not in found else f"its {name} is of another type")
    return found
