"""A runtime of Lua that has libraries of functions instead of scripts; `functions.lua` has what they see."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from errors import FUNCTION_NOT_COMPILED, FUNCTION_NOT_REGISTERED, CommandError
from scripts.libraries import code_of
from scripts.runtime import Runtime

SOURCE = os.path.join(os.path.dirname(__file__), "functions.lua")


class Registered(NamedTuple):
    """A function as its library has registered it."""

    name: bytes
    description: bytes | None
    flags: frozenset[bytes]
    callback: Any


class FunctionRuntime(Runtime):
    """A runtime whose `run` calls a function that a library has registered."""

    def _empty_globals(self) -> None:
        functions = self._lua.compile(code_of(SOURCE))
        self._load_library, self._run = functions(self._parts)
        super()._empty_globals()

    def load_library(self, body: bytes) -> list[Registered]:
        """Run the code of a library, and return the functions that it registers. Raises CommandError."""
        self._make_room(len(body) * 8)
        kind, value = self._load_library(body)
        if kind != b"registered":
            raise CommandError((FUNCTION_NOT_COMPILED if kind == b"uncompiled" else FUNCTION_NOT_REGISTERED) % value)
        parts = iter(value.values())
        return [
            Registered(name, description or None, frozenset(flags.split()), callback)
            for name, description, flags, callback in zip(parts, parts, parts, parts, strict=True)
        ]
