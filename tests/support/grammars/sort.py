"""Random calls of SORT, on lists, sets and sorted sets, with keys to sort by and to get.

No call leaves the order open: texts of other keys may be equal, and a set has no order of its own, so neither is what
is sorted by here. test_sort.py has them.
"""

from __future__ import annotations

from grammars import Slot, make_many, words

GRAMMAR = """
RPUSH list number_element+
RPUSH list number_element+
RPUSH list element+
RPUSH list many
SADD set number_element+
SADD set many
ZADD zset score element
DEL list
DEL set
MSET weight number_element weight number_element
SET weight element
HSET hash_weight f number_element g element
DEL weight
SORT source
SORT source sort_option*
SORT source sort_option+
SORT source sort_option+
SORT source by_option get_option* sort_option*
SORT source by_option get_option+ STORE key
SORT source sort_option* STORE list
SORT source ALPHA alpha_option*
SORT source ALPHA alpha_option* STORE key
SORT source STORE key
SORT ordered BY nosort sort_option* get_option*
SORT ordered BY nosort sort_option* STORE key
SORT set BY nosort sort_option* STORE key
SORT_RO source sort_option*
SORT_RO source by_option get_option+
SORT_RO source STORE key
LRANGE key 0 -1
LRANGE list 0 -1
PEXPIRE list ms
"""
SLOTS: dict[str, Slot] = {
    # redis-server 7.0 does not reset errno before it reads a number to sort by, and a cursor out of range sets it
    "cursor": words("0|0|0|0|abc||1.5"),
    "list": words("l1|l2"),
    "set": words("s1|s2"),
    "zset": words("z1|z2"),
    "ordered": words("l1|l2|z1|z2|none"),
    "source": words("l1|l2|l1|l2|s1|s2|z1|z2|none|a|b"),
    "number_element": words("1|2|3|10|-1|2.5|-0|1e3|0x10| 7|inf|4"),
    "element": words("a|b|c|A||ab|nan|1|1x|\xff|3 "),
    "score": words("1|2|3|-1|0.5|inf"),
    "many": make_many("", 300),
    "weight": words("w_1|w_2|w_3|w_10|w_a|w_b|1|2|w_1_x"),
    "hash_weight": words("h_1|h_2|h_3|h_a|h_b"),
    "by_option": words("BY w_*|BY w_*|BY h_*->f|BY h_*->g|BY *|BY w_*_x|BY h_*->|by w_*|BY|BY h_*->f->g"),
    "get_option": words("GET #|GET w_*|GET h_*->f|GET h_*->none|GET *|GET nosuch|GET h_*->|get w_*_x|GET"),
    "alpha_option": words("ASC|DESC|desc|LIMIT 0 2|LIMIT 1 -1|LIMIT 2 1|LIMIT 100 1|GET #|GET w_*"),
    "sort_option": words(
        "ASC|DESC|desc|LIMIT 0 2|LIMIT 1 -1|LIMIT 2 1|LIMIT -1 3|LIMIT 100 1|LIMIT 1 0|LIMIT x 1|LIMIT 1|junk|DESC"
    ),
}
LENIENT = {}  # type: ignore[var-annotated]
REPEATS = [b"SORT"]
