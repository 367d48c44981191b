"""The commands of sorted sets that wait for a member: BZPOPMIN, BZPOPMAX, BZMPOP.

Each does what its kin in `commands/sorted_set_pops.py` does, and is logged as that. Where that finds nothing, the
client waits.
"""

from __future__ import annotations

from commands import BLOCKING, FAST, NOSCRIPT, WRITE, Counted, command
from commands.arguments import check_read_words
from commands.blocking import parse_timeout, wait_for
from commands.blocking_lists import ALL_BUT_LAST
from commands.sorted_set_pops import parse_mpop, pop_first
from replies import NULL_ARRAY, Reply
from session import Session
from values.sorted_sets import SORTED_SET

FLAGS = WRITE | NOSCRIPT | FAST | BLOCKING


@command("BZPOPMIN", "key [key ...] timeout", arity=-3, flags=FLAGS, keys=ALL_BUT_LAST, since="5.0.0")
def bzpopmin(session: Session, argv: list[bytes]) -> Reply:
    """Remove the member with the lowest score of the first sorted set that is not empty; wait for one if all are."""
    return _pop(session, argv, highest=False)


@command("BZPOPMAX", "key [key ...] timeout", arity=-3, flags=FLAGS, keys=ALL_BUT_LAST, since="5.0.0")
def bzpopmax(session: Session, argv: list[bytes]) -> Reply:
    """Remove the member with the highest score of the first sorted set that is not empty; wait for one if all are."""
    return _pop(session, argv, highest=True)


def _pop(session: Session, argv: list[bytes], highest: bool) -> Reply:
    check_read_words(argv)
    name, *keys, timeout = argv
    seconds = parse_timeout(timeout)
    popped = pop_first(session, keys, highest, 1)
    if not isinstance(popped, list):
        return wait_for(session, keys, SORTED_SET, seconds, NULL_ARRAY, lambda key: [name, key, timeout])
    key, [[member, score]] = popped
    return [key, member, score]


@command(
    "BZMPOP",
    "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
    arity=-5,
    flags=WRITE | BLOCKING,
    keys=Counted(2),
    since="7.0.0",
)
def bzmpop(session: Session, argv: list[bytes]) -> Reply:
    """Pop members of the first sorted set that is not empty, with its key and their scores; wait if all are empty."""
    check_read_words(argv)
    seconds = parse_timeout(argv[1])
    keys, highest, count = parse_mpop(argv[2:])
    popped = pop_first(session, keys, highest, count)
    if popped is not None:
        return popped
    words = argv[3 + len(keys) :]
    return wait_for(session, keys, SORTED_SET, seconds, NULL_ARRAY, lambda key: [*argv[:2], b"1", key, *words])
