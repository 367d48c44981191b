"""Requests of thousands of options: read in slices, and shortened to the options that count.

Redis takes an option as often as somebody names it, and the last one counts: `SET k v EX 1 EX 2 …`. To read a million
of them takes 0.1 to 0.8 s. So a long request is read option by option first, each of them checked by the command's own
reading, which may refuse it. The last of each kind is left, and the request is executed as if it had come so:

    SET k v EX 1 EX 2 EX 3 GET GET   ->   SET k v EX 3 GET       HELD_BACK without a work: execute it again

In a pool and in a replay a request is read from start to end; an entry of a pool's log is a megabyte at most.

Refused: a limit on how often an option may be named, since Redis has none; to go on where the options were read, since
in the meantime a pause may have begun, or the log may have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from commands import fold
from replies import HELD_BACK, Reply, Work
from session import Session


def shorten(
    session: Session, argv: list[bytes], first: int, values: Mapping[bytes, int], read: Callable[[list[bytes]], object]
) -> Reply:
    """Leave it to the server to shorten a request.

    Its options begin at place `first`; `values` says how many words follow an option, if any do. `read` raises
    CommandError for an option that is wrong by itself.
    """
    return _shortening(session, argv, first, values, read)


def _shortening(
    session: Session, argv: list[bytes], first: int, values: Mapping[bytes, int], read: Callable[[list[bytes]], object]
) -> Work:
    rest = argv[first:]
    rest.reverse()
    del argv[first:]  # so that they are freed bit by bit
    last: dict[bytes, list[bytes]] = {}
    try:
        while rest:
            words = [rest.pop()]
            option = fold(words[0])
            for _ in range(min(values.get(option, 0), len(rest))):
                words.append(rest.pop())
            read(words)
            last[option] = words
            yield
    finally:
        if rest:
            session.store.garbage.append(rest)
    for words in last.values():
        argv += words
    return HELD_BACK
