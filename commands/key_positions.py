"""Where the keys of a request stand, and how COMMAND describes it.

    Keys(first, last, step)      fixed positions: GET key; MSET key value [key value ...]
    Counted(position)            behind their number: SINTERCARD numkeys key [key ...]
    AfterWord(word, start)       the first half of what follows a word: XREAD ... STREAMS key ... id ...
    StoreOption(words, start)    the first argument, and the one that follows an option: SORT key ... STORE key
                                 (`patterns`: options with which a request reads more keys than it names)

A request may be wrong in every way: `find` returns what can be found, and raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Union

Specification = dict[Any, Any]


class Keys(NamedTuple):
    """The positions of the keys: first, last (negative: counted from the end) and step, as in COMMAND's reply."""

    first: int
    last: int
    step: int

    @property
    def fixed(self) -> Keys:
        """Return the three numbers of COMMAND's reply."""
        return self

    def find(self, argv: Sequence[bytes]) -> list[bytes]:
        """Return the keys of a request."""
        first, last, step = self
        if not first:
            return []
        return list(argv[first : (last if last > 0 else len(argv) + last) + 1 : step])

    def specifications(self) -> list[Specification]:
        """Return how COMMAND describes the positions."""
        if not self.first:
            return []
        last = self.last - self.first if self.last > 0 else self.last
        return [_specification(_index(self.first), _range(last, self.step))]


NO_KEYS = Keys(0, 0, 0)
FIRST = Keys(1, 1, 1)
FIRST_TWO = Keys(1, 2, 1)
ALL = Keys(1, -1, 1)
PAIRS = Keys(1, -1, 2)


class Counted(NamedTuple):
    """Keys that follow their number, which is at `position`; the keys at `fixed` positions come before them."""

    position: int
    fixed: Keys = NO_KEYS
    step: int = 1

    def find(self, argv: Sequence[bytes]) -> list[bytes]:
        """Return the keys of a request. A number that is wrong counts no keys."""
        number = argv[self.position] if len(argv) > self.position else b""
        count = int(number) if number.isdigit() and len(number) < 10 else 0
        first = self.position + 1
        return [*self.fixed.find(argv), *argv[first : first + count * self.step : self.step]]

    def specifications(self) -> list[Specification]:
        """Return how COMMAND describes the positions."""
        counted = {b"type": b"keynum", b"spec": {b"keynumidx": 0, b"firstkey": 1, b"keystep": self.step}}
        return [*self.fixed.specifications(), _specification(_index(self.position), counted)]


class AfterWord(NamedTuple):
    """Keys that are the first half of what follows a word; the word is searched from position `start`."""

    word: bytes
    start: int
    fixed: Keys = NO_KEYS

    def find(self, argv: Sequence[bytes]) -> list[bytes]:
        """Return the keys of a request."""
        for position in range(self.start, len(argv)):
            if argv[position].upper() == self.word:
                rest = argv[position + 1 :]
                return list(rest[: len(rest) // 2])
        return []

    def specifications(self) -> list[Specification]:
        """Return how COMMAND describes the positions."""
        return [_specification(_word(self.word, self.start), _range(-1, 1, limit=2))]


class StoreOption(NamedTuple):
    """The first argument, and the one that follows an option with one of these names; of several, the last counts."""

    words: tuple[bytes, ...]
    start: int
    fixed: Keys = FIRST
    patterns: tuple[bytes, ...] = ()

    def find(self, argv: Sequence[bytes]) -> list[bytes]:
        """Return the keys of a request."""
        found = self.fixed.find(argv)
        for position in range(len(argv) - 2, self.start - 1, -1):
            if argv[position].upper() in self.words:
                return [*found, argv[position + 1]]
        return found

    def pattern_option(self, argv: Sequence[bytes]) -> bytes | None:
        """Return the first option that may read keys that the request does not name: its pattern has a `*`."""
        for word, pattern in zip(argv[self.start :], argv[self.start + 1 :]):  # noqa: B905 - each word and the next one
            if b"*" in pattern and word.upper() in self.patterns:
                return word.upper()
        return None

    def specifications(self) -> list[Specification]:
        """Return how COMMAND describes the positions."""
        options = [_specification(_word(word, self.start), _range(0, 1)) for word in self.words]
        return [*self.fixed.specifications(), *options]


class Listed(NamedTuple):
    """Keys that are known: those of all requests of a transaction."""

    keys: list[bytes]
    fixed: Keys = NO_KEYS

    def find(self, argv: Sequence[bytes]) -> list[bytes]:
        """Return the keys."""
        return self.keys

    def specifications(self) -> list[Specification]:
        """Return nothing: COMMAND does not describe a transaction."""
        return []


Positions = Union[Keys, Counted, AfterWord, StoreOption, Listed]


def _specification(begin: Specification, keys: Specification) -> Specification:
    return {b"begin_search": begin, b"find_keys": keys}


def _index(position: int) -> Specification:
    return {b"type": b"index", b"spec": {b"index": position}}


def _word(word: bytes, start: int) -> Specification:
    return {b"type": b"keyword", b"spec": {b"keyword": word, b"startfrom": start}}


def _range(last: int, step: int, limit: int = 0) -> Specification:
    return {b"type": b"range", b"spec": {b"lastkey": last, b"keystep": step, b"limit": limit}}
