"""One runtime of Lua: its sandbox, the scripts compiled in it, and how it calls back.

1. An instance alone has one `Runtime` as long as it lives. It is made for the first script, and `lupa` is imported
   then: who uses no script pays nothing.
2. It knows no commands: `Host` has the functions that scripts call. They return what lupa passes on by itself, and
   raise nothing, so a script never holds an object of Python, not even an exception. `sandbox.lua` has what it sees.
3. Memory is bounded: by lupa, which counts each allocation. Lua code that finds no memory gets an error. But a function
   of Python that cannot hand over a value would stop the process for ever, because Lua's jump out of it passes over
   Python's frames, and the lock of the interpreter stays taken. So none but `tick`, which hands over a number, is
   called beyond FULL_BYTES, and a large value is handed over only if there is room for it.
4. Time is bounded by a hook: `Host.tick` is called each TICK_INSTRUCTIONS, in all coroutines, and may return the error
   that ends the script. What C does in one call, such as the search for a pattern, is not interrupted, as in Redis.

In a pool each script runs in a runtime of its own (`is_pool`), because all that it can observe must be the same on
every instance: when memory ends, how often `tick` is called, the numbers of objects. What differs between processes is
the address of an object. So objects are shown with a number; tables whose keys are objects cannot be visited in a
pool; and such a table may grow a little earlier or later, so that what collectgarbage counts, and when it frees what,
is hidden: weak tables are refused. What remains is a script that fills a gigabyte to the last kilobyte. Strings are
hashed alike everywhere: Lua 5.1 has no seed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from errors import (
    FUNCTION_LOAD_TIMEOUT,
    NO_LUA,
    SCRIPT_ENDED,
    SCRIPT_KILLED,
    SCRIPT_NOT_COMPILED,
    SCRIPT_TOO_LONG,
    CommandError,
)
from scripts.bytecode import traceable
from scripts.libraries import LIBRARIES, SHARED, code_of, load_libraries
from version import REDIS_VERSION

# A value of 512 MB, the longest, can be read and changed once. Redis has no limit.
MEMORY_BYTES = 1 << 30
FULL_BYTES = MEMORY_BYTES - (4 << 20)
USUAL_BYTES = 16 << 20  # a script that leaves more behind is followed by a collection
TICK_INSTRUCTIONS = 100_000
MOST_WORDS = 200  # keys and arguments that are passed on Lua's stack
WORD_BYTES = 64
USUAL_WORDS_BYTES = 1 << 16  # for so much there is always room
ENDINGS = (SCRIPT_KILLED, SCRIPT_TOO_LONG, SCRIPT_ENDED, FUNCTION_LOAD_TIMEOUT)
AS_FUNCTIONS = b"""
local as_function = ...
return function(host)
    local functions = {}
    for name, callable in pairs(host) do
        functions[name] = as_function(callable)
    end
    return functions
end
"""
SOURCE = os.path.join(os.path.dirname(__file__), "sandbox.lua")


class Host(Protocol):
    """The functions that scripts call. They raise nothing."""

    def call(self, *argv: Any) -> Any: ...

    def may_run(self, *argv: Any) -> Any: ...

    def tick(self) -> bytes | None: ...  # None, or one of ENDINGS

    def random(self) -> int: ...  # of 32 bits

    def setresp(self, version: int) -> None: ...

    def log(self, level: int, text: bytes) -> None: ...


def _refuse(obj: object, name: object, is_setting: bool) -> None:
    raise AttributeError("no script reaches an object of Python")


def sha_of(text: bytes) -> bytes:
    """Return the SHA-1 of a script, as it is named by EVALSHA."""
    from hashlib import sha1  # noqa: PLC0415

    return sha1(text, usedforsecurity=False).hexdigest().encode()


class Runtime:
    """A runtime of Lua, and the scripts that it has compiled. Raises CommandError where lupa is missing."""

    def __init__(self, host: Host, *, is_pool: bool = False) -> None:
        try:
            from lupa.lua51 import LuaRuntime  # noqa: PLC0415 - imported for the first script
        except ImportError:
            raise CommandError(NO_LUA) from None
        self._lua: Any = LuaRuntime(
            encoding=None,
            source_encoding="latin-1",
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_refuse,
            max_memory=MEMORY_BYTES,
        )
        self.table_from = self._lua.table_from
        load_libraries(self._lua)

        def tick() -> int | None:
            """Return the place of a text, and not the text, because there may be no memory for it."""
            reason = host.tick()
            return None if reason is None else ENDINGS.index(reason) + 1

        as_function = self._lua.globals()[b"python"][b"as_function"]
        wrap = self._lua.execute(AS_FUNCTIONS, as_function)
        functions = {
            b"call": host.call,
            b"may_run": host.may_run,
            b"tick": tick,
            b"random": host.random,
            b"setresp": host.setresp,
            b"log": host.log,
            b"sha1hex": sha_of,
            b"traceable": traceable,
        }
        major, minor, patch = map(int, REDIS_VERSION.split("."))
        options = {
            b"full_kb": FULL_BYTES // 1024,
            b"is_pool": is_pool,
            b"endings": self.table_from(ENDINGS),
            b"instructions": TICK_INSTRUCTIONS,
            b"version": REDIS_VERSION.encode(),
            b"version_number": major << 16 | minor << 8 | patch,
            b"libraries": self.table_from([name.encode() for name in LIBRARIES]),
        }
        hidden = {
            b"@sandbox": True,
            b"@functions": True,
            b"=(tail call)": True,
            **{f"@{name}".encode(): True for name in (*SHARED, *LIBRARIES)},
        }
        setup = self._lua.compile(code_of(SOURCE))
        self._compile, self._run, self._parts = setup(
            wrap(self.table_from(functions)), self.table_from(options), self.table_from(hidden)
        )
        self._kept_bytes = 0  # after the last collection
        self._functions: dict[bytes, Any] = {}
        self._empty_globals()

    def _empty_globals(self) -> None:
        """Leave nothing in the global table of the runtime, where only functions of lupa look."""
        names = self._lua.globals()
        for name in list(names.keys()):
            names[name] = None

    @property
    def used_bytes(self) -> int:
        """Return how much memory Lua has taken."""
        return int(self._lua.get_memory_used(total=True))

    def free_bytes(self) -> int:
        """Return how many bytes may still be handed over to Lua."""
        return FULL_BYTES - self.used_bytes

    def compile(self, sha: bytes, text: bytes) -> Any:
        """Return a script as a function of Lua. Raises CommandError if it is none."""
        function = self._functions.get(sha)
        if function is None:
            self._make_room(len(text) * 8)
            made = self._compile(text, b"@user_script")
            if isinstance(made, tuple):
                raise CommandError(SCRIPT_NOT_COMPILED % made[1])
            self._functions[sha] = function = made
        return function

    def forget(self) -> None:
        """Forget all scripts."""
        self._functions.clear()

    def _make_room(self, needed_bytes: int) -> None:
        if needed_bytes > self.free_bytes():
            raise MemoryError

    def run(self, function: Any, key_count: int, words: Sequence[bytes]) -> Any:
        """Run a script; return what `result` in sandbox.lua makes. Raises MemoryError if the words do not fit."""
        if (needed_bytes := sum(map(len, words)) + WORD_BYTES * len(words)) > USUAL_WORDS_BYTES:
            self._make_room(needed_bytes)
        try:
            if len(words) <= MOST_WORDS:
                return self._run(function, key_count, *words)
            return self._run(function, key_count, self.table_from(words))
        finally:
            if self._lua.get_memory_used(total=True) > self._kept_bytes + USUAL_BYTES:
                self._lua.gccollect()
                self._kept_bytes = self.used_bytes
