"""Streams and their consumer groups."""

from __future__ import annotations

from random import Random
from typing import Any

from comparing import same_shape

from grammars import Slot, words

GRAMMAR = """
XADD key new_id field value
XADD key new_id field value
XADD key new_id field value
XADD key new_id field value field value
XADD key new_id field value field
XADD key add_option* new_id pair
XADD key add_option* new_id field value
XADD key NOMKSTREAM new_id field value
XADD key MAXLEN = length new_id field value
XADD key trim_option new_id field value
!! XADD key * field value
!! XADD key MAXLEN ~ 3 * field value
XLEN key
XRANGE key start end
XRANGE key start end COUNT count
XRANGE key - + read_option*
XREVRANGE key end start
XREVRANGE key + - COUNT count
XREVRANGE key end start read_option*
XDEL key id
XDEL key id+
XDEL key id+
XTRIM key MAXLEN length
XTRIM key trim_option
XTRIM key add_option*
XTRIM key MINID id
XTRIM key MINID ~ 18446744073709551615-9
! XDELEX key delete_mode? numbered_ids
! XDELEX key delete_mode numbered_ids
! XDELEX key numbered_ids delete_mode
! XDELEX key delete_mode? IDS numids id id
! XACKDEL key group delete_mode? numbered_ids
! XACKDEL key group delete_mode numbered_ids
! XACKDEL key group IDS numids id id
! XTRIM key DELREF MAXLEN length
! XTRIM key MAXLEN length DELREF
! XTRIM key KEEPREF MINID id
! XTRIM key DELREF MINID id delete_mode?
! XADD key DELREF MAXLEN length new_id field value
! XADD key add_option* DELREF new_id field value
!! XTRIM key ACKED MAXLEN length
!! XTRIM key MINID id ACKED
!! XADD key ACKED MAXLEN length new_id field value
XSETID key id
XSETID key top_id
XSETID key top_id setid_option*
XREAD STREAMS key id
XREAD STREAMS key key id id
XREAD COUNT count STREAMS key key id id
XREAD read_option* STREAMS key $
XREAD read_option* STREAMS key id
XREAD STREAMS key >
XREAD STREAMS key key id
XREAD COUNT junk STREAMS key id
XREAD STREAMS key junk
XREAD junk key id
XGROUP CREATE key group id
XGROUP CREATE key group 0 MKSTREAM
XGROUP CREATE key group $ group_option*
XGROUP CREATE key group id group_option*
XGROUP SETID key group id
XGROUP SETID key group id group_option*
XGROUP SETID key group $
XGROUP DESTROY key group
XGROUP CREATECONSUMER key group consumer
XGROUP CREATECONSUMER key group consumer
XGROUP DELCONSUMER key group consumer
XGROUP nosuch key group
XREADGROUP GROUP group consumer STREAMS key >
XREADGROUP GROUP group consumer STREAMS key >
XREADGROUP GROUP group consumer COUNT count STREAMS key >
XREADGROUP GROUP group consumer COUNT 2 STREAMS key key > >
XREADGROUP GROUP group consumer COUNT 2 STREAMS key key > id
XREADGROUP GROUP group consumer read_option* STREAMS key >
XREADGROUP GROUP group consumer read_option* STREAMS key id
!! XREADGROUP GROUP group consumer CLAIM idle STREAMS key >
!! XREADGROUP GROUP group consumer CLAIM 0 COUNT count STREAMS key key > id
XREADGROUP GROUP group consumer STREAMS key 0
XREADGROUP GROUP group consumer STREAMS key $
XREADGROUP read_option* STREAMS key > key >
XREADGROUP GROUP group consumer STREAMS key junk
XREADGROUP GROUP group consumer STREAMS key key junk
XREADGROUP GROUP group consumer junk STREAMS key
XACK key group id
XACK key group id+
XACK key group id+
XCLAIM key group consumer idle id+
XCLAIM key group consumer 0 id+ claim_option*
XCLAIM key group consumer 0 id+ claim_option*
XCLAIM key group consumer idle id+ claim_option*
XAUTOCLAIM key group consumer 0 start
XAUTOCLAIM key group consumer idle start autoclaim_option*
XPENDING key group
XPENDING key group - + count
XPENDING key group start end count
XPENDING key group - + count consumer
XPENDING key group IDLE idle - + count
XPENDING key group IDLE idle start end count consumer
XINFO STREAM key
XINFO STREAM key FULL
XINFO STREAM key FULL COUNT count
XINFO STREAM key junk
XINFO GROUPS key
XINFO CONSUMERS key group
XINFO nosuch key
"""


def pairs(random: Random) -> list[bytes]:
    """Make the fields of a long entry, or of one that has the same name several times."""
    return [word for number in range(random.choice([1, 3, 30])) for word in (b"f%d" % (number % 7), b"v" * number)]


def numbered_ids(random: Random) -> list[bytes]:
    """Make IDS, a number, and so many IDs."""
    ids = [b"50-%d" % random.randrange(9) for _ in range(random.choice([1, 2, 3, 9]))]
    return [b"IDS", b"%d" % len(ids), *ids]


IDS = words("50-0|50-1|50-2|50-3|50-4|50-5|50-6|50-7|50-9|50|3|7-0|7-1|20|20-1|60-1|0|0-1")
ODD_IDS = words(
    "007-01|+5| 6|-|+|(5|5-|-5|x|5-x|18446744073709551615|18446744073709551616|9-18446744073709551615|1-2-3|*"
)
OFTEN = """
XADD key 50-* field value
XADD key 50-* field value field value
XADD key 50-* field value
XGROUP CREATE key group 0
XGROUP CREATE key group 50-2
XGROUP CREATE key group 0 MKSTREAM
XREADGROUP GROUP group consumer STREAMS key >
XREADGROUP GROUP group consumer COUNT 3 STREAMS key >
XREADGROUP GROUP group consumer STREAMS key 0
XREADGROUP GROUP group consumer NOACK COUNT 1 STREAMS key >
XACK key group entry entry
XDEL key entry
XCLAIM key group consumer 0 entry entry entry
XCLAIM key group consumer 0 entry entry JUSTID
XCLAIM key group consumer 0 entry FORCE RETRYCOUNT 3
XAUTOCLAIM key group consumer 0 - COUNT 5
XAUTOCLAIM key group consumer 0 entry COUNT 2 JUSTID
XPENDING key group
XPENDING key group - + 10
XPENDING key group - + 10 consumer
XPENDING key group entry + 3
XRANGE key - + COUNT 5
XRANGE key entry entry
XREVRANGE key + entry COUNT 3
XREAD COUNT 3 STREAMS key entry
XTRIM key MAXLEN 12
XADD key 50-* pair
XADD key 50-* field value
XINFO STREAM key FULL
XINFO GROUPS key
XINFO CONSUMERS key group
XGROUP DELCONSUMER key group consumer
XGROUP SETID key group entry
"""
SLOTS: dict[str, Slot] = {
    "delete_mode": words("KEEPREF|DELREF|ACKED|delref|acked|ACKED"),
    "numbered_ids": numbered_ids,
    "numids": words("2|2|2|1|3|0|-1|abc"),
    "entry": [b"50-%d" % number for number in range(8)],
    "key": words("a|b|a|b|k:1|\x00\xff\r\n"),
    "field": words("f|g|name||\x00\r\n"),
    "value": [*words("|hello|10|-5|\x00\r\n\xff\xfe"), b"x" * 70, b"y" * 2000],
    "pair": pairs,
    "new_id": [  # most are accepted whatever came before: a larger one would have the others refused for long
        *words("50-*|3|7-*|7-1|20-*|20-1|0-*|0-0|50-3") * 2,
        *words("50-*") * 30,
        *words("60-1|18446744073709551615-*"),
        *ODD_IDS[:8],
    ],
    "id": [*IDS, *IDS, *IDS, *ODD_IDS],
    "top_id": words("50-20|50-20|50-30|50-30|61|50-0"),
    "start": [*IDS, *words("-|-|-|-|(50-1|(0|+|(-"), *ODD_IDS],
    "end": [*IDS, *words("+|+|+|+|(50-6|(0-0|-|(+"), *ODD_IDS],
    "length": words("0|1|2|3|5|100|-1|x"),
    "bad_limit": words("0|-1|x"),
    "limit": words("0|1|100|-1|x"),
    "group": words("g|g|g|h|"),
    "consumer": words("c|c|d|e|"),
    "idle": words("0|0|1000000|-1|x"),
    "trim_option": words(
        "MAXLEN length|MAXLEN = length|MAXLEN ~ 0|MAXLEN ~ 9999|MINID id|MINID = id|MINID ~ 18446744073709551615-9"
    ),
    # With `~` Redis trims whole nodes only; these thresholds leave nothing, or all.
    "add_option": words(
        "NOMKSTREAM|nomkstream|MAXLEN length|MAXLEN = length|MAXLEN ~ 0|MAXLEN ~ 9999 LIMIT limit|MINID id|"
        "LIMIT bad_limit|LIMIT bad_limit|"
        "MINID ~ 0-1|MINID ~ 18446744073709551615-9 LIMIT 0|maxlen 4|MAXLEN"
    ),
    "read_option": words("COUNT count|COUNT 1|NOACK|BLOCK 1|BLOCK -1|BLOCK x|GROUP group consumer|count 3|COUNT|junk"),
    "setid_option": words("ENTRIESADDED number|ENTRIESADDED 30|MAXDELETEDID id|MAXDELETEDID|junk"),
    "group_option": words("MKSTREAM|ENTRIESREAD number|ENTRIESREAD 2|ENTRIESREAD -1|ENTRIESREAD|junk"),
    "claim_option": words(
        "FORCE|FORCE|JUSTID|justid|RETRYCOUNT 5|RETRYCOUNT -1|RETRYCOUNT x|TIME 1000|TIME x|IDLE 5000|IDLE -1|"
        "LASTID id|IDLE|junk"
    ),
    "autoclaim_option": words("COUNT count|COUNT 1|JUSTID|COUNT|junk"),
}


def same_stream(ours: Any, theirs: Any) -> bool:
    """Compare two descriptions, without what each server counts in its own way."""
    return bool(_plain(ours) == _plain(theirs))


def _plain(reply: Any) -> Any:
    """Return a description as nested pairs, without clocks, ages and the nodes of Redis's radix tree."""
    if isinstance(reply, tuple):
        return tuple(map(_plain, reply))
    if isinstance(reply, list):
        if reply and len(reply) % 2 == 0 and all(type(name) is bytes for name in reply[::2]):
            reply = list(zip(reply[::2], reply[1::2], strict=True))  # a map in RESP2; in RESP3 it has pairs already
        return [_plain(each) for each in reply if not (isinstance(each, tuple) and each[0] in OWN)]
    return b"a clock" if isinstance(reply, int) and reply > 10**9 else reply


OWN = words("radix-tree-keys|radix-tree-nodes|seen-time|active-time|idle|inactive")


def same_pending(ours: Any, theirs: Any) -> bool:
    """Compare pending entries without the time since their delivery."""
    if not isinstance(ours, list) or not isinstance(theirs, list) or not ours or not isinstance(ours[0], list):
        return bool(ours == theirs)
    return [[*each[:2], *each[3:]] for each in ours] == [[*each[:2], *each[3:]] for each in theirs]


LENIENT = {
    b"XINFO STREAM": (same_stream, "the nodes of a radix tree; when a consumer was active is of Redis 7.2"),
    b"XINFO CONSUMERS": (same_stream, "clocks; `inactive` is of Redis 7.2"),
    b"XPENDING": (same_pending, "clocks"),
    b"XINFO HELP": (same_shape, "prose"),
    b"XGROUP HELP": (same_shape, "prose"),
}
NEVER_SPOILT = {b"XREAD", b"XREADGROUP"}  # a BLOCK of 0 never ends
