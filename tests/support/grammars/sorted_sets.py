"""Sorted sets. Those that are read by member (`lexkey`) are made of plain sets, so that all scores are equal."""

from __future__ import annotations

from random import Random

from comparing import same_scores, same_shape

from grammars import Slot, words


def many(random: Random) -> list[bytes]:
    """Fill a slot with scores and members, for a set that outgrows the compact forms."""
    numbers = random.sample(range(600), random.randrange(2, 250))
    return [word for number in numbers for word in (b"%d" % (number % 40), b"m%d" % number)]


GRAMMAR = """
ZADD key score member
ZADD key score member
ZADD key score member
ZADD key score member score member
ZADD key score member score member score member
ZADD key many
ZADD key many
ZADD key zadd_option score member
ZADD key zadd_option zadd_option score member
ZADD key zadd_option* score member score member
ZADD key INCR score member
ZINCRBY key score member
ZINCRBY key score member
ZREM key member+
ZREM key member+
ZCARD key
ZSCORE key member
ZSCORE key member
ZMSCORE key member+
ZRANK key member
ZREVRANK key member
! ZRANK key member WITHSCORE
! ZREVRANK key member withscore
! ZRANK key member junk
ZCOUNT key bound bound
ZRANGE key index index
ZRANGE key index index WITHSCORES
ZRANGE key index index range_option+
ZRANGE key bound bound BYSCORE range_option*
ZRANGE key bound bound BYSCORE WITHSCORES LIMIT index index
ZRANGE key bound bound BYSCORE REV LIMIT index index
ZRANGE key index index REV WITHSCORES
ZRANGE lexkey lex lex BYLEX range_option*
ZRANGE lexkey lex lex BYLEX REV
ZRANGESTORE key key index index
ZRANGESTORE key key bound bound BYSCORE store_option*
ZRANGESTORE key key bound bound BYSCORE REV LIMIT index index
ZRANGESTORE key lexkey lex lex BYLEX store_option*
ZRANGESTORE key key index index store_option+
ZREVRANGE key index index
ZREVRANGE key index index WITHSCORES
ZRANGEBYSCORE key bound bound
ZRANGEBYSCORE key bound bound WITHSCORES LIMIT index index
ZRANGEBYSCORE key bound bound range_option+
ZREVRANGEBYSCORE key bound bound
ZREVRANGEBYSCORE key bound bound LIMIT index index WITHSCORES
ZRANGEBYLEX lexkey lex lex
ZRANGEBYLEX lexkey lex lex LIMIT index index
ZRANGEBYLEX lexkey lex lex range_option+
ZREVRANGEBYLEX lexkey lex lex
ZREVRANGEBYLEX lexkey lex lex LIMIT index index
ZLEXCOUNT lexkey lex lex
ZREMRANGEBYRANK key index index
ZREMRANGEBYSCORE key bound bound
ZREMRANGEBYLEX lexkey lex lex
ZPOPMIN key
ZPOPMIN key popped
ZPOPMAX key
ZPOPMAX key popped
ZMPOP 1 key MIN
ZMPOP 2 key key MAX COUNT popped
ZMPOP numkeys key key MIN count_option*
ZRANDMEMBER key
ZRANDMEMBER key chosen
ZRANDMEMBER key chosen WITHSCORES
ZSCAN key 0
ZSCAN key cursor scan_option*
ZUNION 2 source source
ZUNION 2 source source WITHSCORES
ZUNION numkeys source source weigh_option*
ZUNION 3 source source source WEIGHTS weight weight weight AGGREGATE aggregate WITHSCORES
ZINTER 2 source source WITHSCORES
ZINTER numkeys source source weigh_option* WITHSCORES
ZINTER 2 source source AGGREGATE aggregate
ZDIFF 2 source source
ZDIFF 2 source source WITHSCORES
ZDIFF 3 source source source
ZINTERCARD 2 source source
ZINTERCARD 2 source source LIMIT index
ZINTERCARD numkeys source source
ZUNIONSTORE key 2 source source
ZUNIONSTORE key numkeys source source weigh_option*
ZUNIONSTORE key 2 source source WEIGHTS weight weight AGGREGATE aggregate
ZINTERSTORE key 2 source source
ZINTERSTORE key 2 source source weigh_option*
ZDIFFSTORE key 2 source source
ZDIFFSTORE key numkeys source source
SADD set member+
SADD set member+
SADD set member+
SREM set member
ZUNIONSTORE lexkey 1 set
ZUNIONSTORE lexkey 2 set set AGGREGATE MAX
DEL set
DEL lexkey
TYPE key
OBJECT ENCODING key
"""
OFTEN = """
ZADD key small one small one small one
ZADD key small one small one
ZADD key many
ZADD lexkey 1 one 1 one 1 one
ZRANGE key rank rank WITHSCORES
ZRANGE key low high BYSCORE
ZRANGE key high low BYSCORE REV LIMIT rank 5
ZRANGE lexkey [a [f BYLEX
ZRANGEBYSCORE key low high WITHSCORES
ZREVRANGEBYSCORE key high low
ZRANGEBYLEX lexkey - [d
ZREVRANGEBYLEX lexkey [zz (a
ZLEXCOUNT lexkey (a +
ZCOUNT key low high
ZRANK key one
ZSCORE key one
ZREM key one
ZINCRBY key small one
ZRANGESTORE key key 0 20
ZRANGESTORE key key low high BYSCORE
ZREMRANGEBYSCORE key (3 small
ZREMRANGEBYRANK key 30 -10
ZREMRANGEBYLEX lexkey [c (e
ZINTER 2 key key WITHSCORES
ZINTERCARD 2 key key
ZINTERSTORE key 2 key key
ZUNIONSTORE key 2 key key WEIGHTS 1 2
ZDIFF 2 key key
ZPOPMIN key 2
ZPOPMAX key 2
"""
SLOTS: dict[str, Slot] = {
    "key": words("a|a|a|b|b|c|k:1|k:2|\x00\xff\r\n"),
    "one": words("a|b|c|d|e|f|aa|ab|B"),
    "small": words("0|1|2|3|4|5|1.5|-2"),
    "low": words("-inf|0|1|(1|-2|2"),
    "high": words("+inf|3|(4|5|10"),
    "rank": words("0|0|1|2|-1|-1|-3|10"),
    "score": words(
        "0|1|2|3|4|5|-1|-2|0.5|-2.25|1.50|1e3|2e2|0x10|+7|-0|inf|-inf|+inf|1e17|-1e300|9007199254740993|1e-7|"
        "nan|abc|| 1|1 |1e5000|1e-5000"
    ),
    "member": [*words("a|b|c|d|e|f|aa|ab|B|10|9||\x00\xff|a b"), b"x" * 65],
    "many": many,
    "bound": words("0|1|2|5|(0|(1|(3|-1|(-2|0.5|-inf|+inf|inf|(inf|(-inf|20|(30|nan|abc||(| 2|2 |1e400|0x3"),
    "lex": words("-|+|[a|(a|[b|(b|[e|(e|[aa|(|[|[zz|[B|-x|+a|a||[\x00"),
    "index": words("0|0|1|2|3|-1|-1|-2|-3|-5|7|100|-100|9223372036854775807|-9223372036854775808|abc|1.0"),
    "popped": words("0|1|2|3|5|100|-1|abc|9223372036854775807|9223372036854775808"),
    "chosen": words("0|1|2|3|-1|-2|-5|100|9223372036854775807|-9223372036854775808|4611686018427387904|abc"),
    "numkeys": words("2|2|1|3|0|-1|abc"),
    "weight": words("1|2|0|-1|0.5|inf|-inf|1e2|abc|nan|"),
    "aggregate": words("SUM|MIN|MAX|sum|max|AVG|"),
    "source": words("a|b|c|k:1|set:1|set:2|lex:1|missing"),
    "set": words("set:1|set:2"),
    "lexkey": words("lex:1|lex:2|lex:3"),
    "zadd_option": words("NX|XX|GT|LT|CH|CH|INCR|nx|ch"),
    "range_option": words(
        "WITHSCORES|REV|LIMIT index index|LIMIT index index|BYSCORE|BYLEX|LIMIT index|withscores|junk"
    ),
    "store_option": words("REV|LIMIT index index|BYSCORE|BYLEX|WITHSCORES|LIMIT index|rev"),
    "count_option": words("COUNT popped|COUNT|count popped|junk"),
    "weigh_option": words(
        "WEIGHTS weight weight|AGGREGATE aggregate|AGGREGATE|WEIGHTS weight|weights weight weight|WITHSCORES"
    ),
}
SCORES = (
    *("ZADD", "ZINCRBY", "ZSCORE", "ZMSCORE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZPOPMIN"),
    *("ZPOPMAX", "ZMPOP", "ZUNION", "ZINTER", "ZDIFF"),
)
LENIENT = {
    **{name.encode(): (same_scores, "redis-server 7.0 prints 17 digits; 7.2 as many as are needed") for name in SCORES},
    b"ZRANDMEMBER": (same_shape, "chance"),
}
NEVER_SPOILT = {b"ZRANK", b"ZREVRANK"}  # redis-server 7.0 does not know WITHSCORE
REPEATS = {b"ZUNIONSTORE", b"ZINTERSTORE", b"ZDIFFSTORE", b"ZRANGESTORE"}  # they log themselves
