"""Reads JSON documents from etcd and checks their fields, because any program may write under a pool's prefix.

It knows neither etcd nor the meaning of the documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class NotOurs(Exception):
    """No instance of a pool wrote this document; the message says what is wrong with it."""


def read_document(data: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    """Return a JSON object that has at least these fields, of exactly these types. Raises NotOurs."""
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
