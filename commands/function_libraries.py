"""The libraries of functions of an instance, as they are registered, and how a function is run.

1. The store owns the codes (`Store.libraries`): they are what is logged and what snapshots hold. `Functions` is what
   follows from them. It is made when somebody asks for it: replay only remembers codes, and needs no Lua.
2. A library is loaded into one runtime, which it keeps as long as it is there. In a pool a function that may write runs
   in a new runtime, into which its library is loaded again: what a library remembers from call to call would differ
   between instances that began at different times.
3. A library that cannot be loaded again, which another version or a Redis may cause, is kept without functions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from re import compile as compile_pattern
from typing import Any

from commands.script_runs import Run, Scripts, scripts_of
from errors import (
    FUNCTION_ENGINE,
    FUNCTION_EXISTS,
    LIBRARY_EXISTS,
    LIBRARY_METADATA_INVALID,
    LIBRARY_METADATA_MISSING,
    LIBRARY_NAME_INVALID,
    LIBRARY_NAME_MISSING,
    LIBRARY_NAME_REPEATED,
    LIBRARY_OPTION,
    LIBRARY_WITHOUT_FUNCTIONS,
    CommandError,
)
from protocol import split_line
from replies import Reply
from scripts.function_runtime import FunctionRuntime, Registered
from session import Instance

MARK, NAME = b"#!", b"name="
VALID_NAME = compile_pattern(rb"[A-Za-z0-9_]+")

logger = logging.getLogger("godis")


@dataclass(eq=False, repr=False)
class Library:
    """A library, and its functions by their names."""

    name: bytes
    code: bytes
    body: bytes
    functions: dict[bytes, Registered] = field(default_factory=dict)


def read_library(code: bytes) -> Library:
    """Return a library without functions. Raises CommandError if its first line is wrong."""
    if not code.startswith(MARK):
        raise CommandError(LIBRARY_METADATA_MISSING)
    line, newline, rest = code.partition(b"\n")
    words = split_line(line[len(MARK) :]) if newline else None
    if words is None:
        raise CommandError(LIBRARY_METADATA_INVALID)
    if line[len(MARK) : len(MARK) + 1].isspace() or not words:
        words = [b"", *words]
    name = None
    for word in words[1:]:
        if not word.lower().startswith(NAME):
            raise CommandError(LIBRARY_OPTION % word)
        if name is not None:
            raise CommandError(LIBRARY_NAME_REPEATED)
        name = word[len(NAME) :]
    if name is None:
        raise CommandError(LIBRARY_NAME_MISSING)
    if not VALID_NAME.fullmatch(name):
        raise CommandError(LIBRARY_NAME_INVALID)
    if words[0].lower() != b"lua":
        raise CommandError(FUNCTION_ENGINE % words[0])
    return Library(name, code, b"\n" + rest)  # the lines keep their numbers


class Functions:
    """The libraries of an instance, and their functions by name."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._scripts: Scripts = scripts_of(instance)
        self._runtime: FunctionRuntime | None = None
        self.libraries: dict[bytes, Library] = {}
        self._by_name: dict[bytes, tuple[Library, Registered]] = {}  # names in lower case
        for code in instance.store.libraries.values():
            library = read_library(code)
            try:
                library = self.loaded(code)
            except CommandError as error:
                logger.warning("%s has no functions: %s", library.name.decode(), error.text.decode(errors="replace"))
            self._link(library)

    @property
    def _is_pool(self) -> bool:
        return self._instance.pool is not None

    @property
    def count(self) -> int:
        """Return the number of functions."""
        return len(self._by_name)

    @property
    def used_bytes(self) -> int:
        """Return how much memory the runtime of the libraries has taken."""
        return self._runtime.used_bytes if self._runtime is not None else 0

    def _runtime_of_reads(self) -> FunctionRuntime:
        if self._runtime is None:
            self._runtime = FunctionRuntime(self._scripts)
        return self._runtime

    def loaded(self, code: bytes) -> Library:
        """Return a library with its functions, which are not known by their names yet. Raises CommandError."""
        library = read_library(code)
        self._load(library, FunctionRuntime(self._scripts, is_pool=True) if self._is_pool else self._runtime_of_reads())
        if not library.functions:
            raise CommandError(LIBRARY_WITHOUT_FUNCTIONS)
        return library

    def _load(self, library: Library, runtime: FunctionRuntime) -> None:
        with self._scripts.loading():
            registered = runtime.load_library(library.body)
        library.functions = {each.name: each for each in registered}

    def add(self, libraries: Sequence[Library], *, replace: bool, alone: bool) -> None:
        """Add libraries, all or none, or keep them `alone`. Raises CommandError for a name that is there already."""
        added = {library.name for library in libraries} | (self.libraries.keys() if alone else set())
        if not replace:
            for library in libraries:  # in their order: a set has another one in each process of a pool
                if library.name in self.libraries:
                    raise CommandError(LIBRARY_EXISTS % library.name)
        known = {name for name, (library, _) in self._by_name.items() if library.name not in added}
        for library in libraries:
            for name in library.functions:
                if name.lower() in known:
                    raise CommandError(FUNCTION_EXISTS % name)
                known.add(name.lower())
        for name in added:
            self.remove(name)
        for library in libraries:
            self._link(library)

    def _link(self, library: Library) -> None:
        self.libraries[library.name] = library
        for function in library.functions.values():
            self._by_name[function.name.lower()] = library, function

    def remove(self, name: bytes) -> None:
        """Remove a library, if it is there."""
        library = self.libraries.pop(name, None)
        if library is not None:
            for function in library.functions:
                self._by_name.pop(function.lower(), None)

    def find(self, name: bytes) -> tuple[Library, Registered] | None:
        """Return a function and its library; case does not matter."""
        return self._by_name.get(name.lower())

    def start(self, library: Library, function: Registered, run: Run, key_count: int, words: Sequence[bytes]) -> Reply:
        """Run a function; return its reply, or the work that waits for it. Raises CommandError."""
        runtime, callback = self._runtime, function.callback
        if self._is_pool:
            runtime, callback = self._anew(library, function.name, is_entry=not run.session.id)
        assert runtime is not None
        return self._scripts.begin(run, runtime, partial(runtime.run, callback, key_count, words))

    def _anew(self, library: Library, name: bytes, *, is_entry: bool) -> tuple[FunctionRuntime, Any]:
        runtime = FunctionRuntime(self._scripts, is_pool=is_entry)
        copy = read_library(library.code)
        self._load(copy, runtime)
        return runtime, copy.functions[name].callback


def functions_of(instance: Instance) -> Functions:
    """Return the functions of an instance."""
    if instance.functions is None:
        instance.functions = Functions(instance)
    found: Functions = instance.functions
    return found


def names_of(codes: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return codes of libraries by their names. Raises CommandError."""
    return {read_library(code).name: code for code in codes}
