"""Random commands of lists."""

from __future__ import annotations

from grammars import Slot, make_many, words

GRAMMAR = """
LPUSH key element+
LPUSH key element+
LPUSH key element+
LPUSH key many
RPUSH key element+
RPUSH key element+
RPUSH key element+
RPUSH key many
RPUSH key numbers
LPUSHX key element+
RPUSHX key element+
RPUSHX key many
LPOP key
LPOP key
LPOP key pop_count
RPOP key
RPOP key
RPOP key pop_count
LLEN key
LINDEX key index
LINDEX key index
LRANGE key index index
LRANGE key index index
LRANGE key 0 -1
LRANGE key 0 -1
LSET key index element
LSET key index element
LINSERT key side_of element element
LINSERT key side_of element element
LREM key rem_count element
LREM key rem_count element
LREM key 0 element
LTRIM key index index
LTRIM key 1 -2
LTRIM key 0 -10
LPOS key element pos_option*
LPOS key element pos_option+
LPOS key element COUNT 0
LMOVE key key side side
LMOVE key key side side
LMOVE key key LEFT RIGHT
RPOPLPUSH key key
RPOPLPUSH key key
LMPOP 1 key side mpop_option?
LMPOP 2 key key side mpop_option?
LMPOP numkeys key key side mpop_option*
OBJECT ENCODING key
"""
OFTEN = """
RPUSH key one one one
LPUSH key one one
RPUSH key one
LINSERT key BEFORE one value
LINSERT key AFTER one one
LPOS key one
LPOS key one COUNT 0
LPOS key one RANK -1 COUNT 2
LREM key 1 one
LREM key -1 one
LREM key 0 one
LSET key place value
LINDEX key place
LRANGE key 0 place
LTRIM key 0 30
LMOVE key key LEFT RIGHT
LPOP key 2
RPOP key
LMPOP 2 key key LEFT COUNT 3
"""
SLOTS: dict[str, Slot] = {
    "one": words("a|b|c|d|1|2"),
    "place": words("0|1|2|3|5|-1|-2|-5"),
    "element": [*words("|a|b|c|a|b|10|-1|element:5|element:7|n3|n4|\x00\r\n\xff"), b"x" * 60, b"y" * 700, b"z" * 9000],
    "many": make_many("element:", 260),
    "numbers": make_many("n", 40),
    "index": words("0|1|2|5|-1|-2|-5|100|-100|150|-150|9223372036854775807|-9223372036854775808|abc|1.0|+1"),
    "pop_count": words("0|1|2|3|100|200|-1|abc|9223372036854775807|9223372036854775808"),
    "rem_count": words("0|1|2|-1|-2|100|-100|abc|9223372036854775807"),
    "side": words("LEFT|RIGHT|LEFT|RIGHT|left|Right|UP"),
    "side_of": words("BEFORE|AFTER|BEFORE|AFTER|before|after|AMID"),
    "pos_option": words(
        "RANK 1|RANK 2|RANK -1|RANK -3|RANK 0|rank x|COUNT 0|COUNT 1|COUNT 2|count -1|MAXLEN 0|MAXLEN 3|MAXLEN 150|"
        "MAXLEN -1|MAXLEN x|RANK|junk"
    ),
    "mpop_option": words("COUNT 1|COUNT 2|COUNT 150|count 1|COUNT 0|COUNT x|COUNT|junk"),
    "numkeys": words("1|2|3|0|-1|abc"),
}
LENIENT: dict[bytes, tuple[object, str]] = {}
