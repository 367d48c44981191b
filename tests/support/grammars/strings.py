"""Strings and keys, connections, and what the server says of itself."""

from __future__ import annotations

from comparing import same_fields, same_shape

from grammars import Slot, words

GRAMMAR = """
PING
PING value
ECHO value
SELECT db
HELLO hello_option
HELLO
AUTH value
AUTH key value
RESET
COMMAND COUNT value
COMMAND INFO nosuch
COMMAND GETKEYS SET key value
COMMAND GETKEYS MSET key value key value
COMMAND GETKEYS GET
COMMAND GETKEYS PING
COMMAND GETKEYS nosuch key
COMMAND nosuch
CLIENT SETNAME name
CLIENT GETNAME
CLIENT NO-EVICT onoff
CLIENT REPLY junk
CLIENT KILL ID 99999999
CLIENT KILL ADDR 1.2.3.4:5
CLIENT KILL 1.2.3.4:5
CLIENT KILL word junk
! CLIENT KILL MAXAGE junk
! CLIENT KILL MAXAGE 100000
CLIENT LIST TYPE junk
CLIENT LIST ID junk
CLIENT PAUSE junk
CLIENT UNPAUSE
CLIENT nosuch
SET key value
SET key value
SET key value
SET key value
SET key number
SET key number
SET key value set_option+
SET key value set_option+
SET key value set_option+
!v SET key value IFEQ value set_option*
!v SET key value IFEQ value set_option*
!v SET key value GET IFEQ value
!! SET key value IFNE value set_option*
!! SET key value digest_option set_option*
!! DELEX key
!! DELEX key delex_option
!! DELEX key delex_option
!! DELEX key digest_option
!! DIGEST key
!v DELIFEQ key value
!v MSETEX 1 key value msetex_option*
!v MSETEX 2 key value key value msetex_option*
!v MSETEX numkeys key value key value msetex_option?
SETNX key value
SETEX key seconds value
PSETEX key ms value
GET key
GET key
GETSET key value
GETDEL key
GETEX key
GETEX key getex_option
GETEX key getex_option+
MGET key+
MSET key value key value
MSET key value key
MSETNX key value key value
APPEND key value
STRLEN key
GETRANGE key offset offset
SUBSTR key offset offset
SETRANGE key setoffset value
INCR key
DECR key
INCRBY key number
DECRBY key number
INCRBYFLOAT key float
INCRBYFLOAT key float
LCS key key lcs_option*
DEL key+
UNLINK key+
EXISTS key+
TOUCH key+
TYPE key
TTL key
PTTL key
EXPIRETIME key
PEXPIRETIME key
EXPIRE key seconds expire_option*
PEXPIRE key ms expire_option*
EXPIREAT key at_seconds expire_option*
EXPIREAT key at_seconds
PEXPIREAT key at_ms expire_option*
PEXPIREAT key at_ms
PERSIST key
KEYS pattern
SCAN cursor scan_option*
RANDOMKEY
RENAME key key
RENAMENX key key
COPY key key copy_option*
MOVE key db
OBJECT object key
OBJECT HELP junk
OBJECT nosuch key
DBSIZE
FLUSHDB flush?
SWAPDB db db
CONFIG SET nosuch value
CONFIG GET nosuch
CONFIG nosuch
LASTSAVE
TIME
DEBUG SLEEP 0
MEMORY USAGE nokey
MEMORY nosuch
nosuch name number
"""
SLOTS: dict[str, Slot] = {
    "setoffset": words("0|1|5|10|100|-1|536870912|4294967296|9223372036854775807|x"),
    "hello_option": words("3|2|4|1|abc|3 SETNAME abc|3 AUTH x|3 AUTH a b|3 AUTH default b|3 nosuch"),
    "name": words("n1|n2||with space|new\nline|umlaut\xc3"),
    "onoff": words("on|off|OFF|maybe"),
    "set_option": words("NX|XX|GET|KEEPTTL|nx|keepTTL|EX seconds|PX ms|EXAT at_seconds|PXAT at_ms|EX|px|PXAT|junk"),
    "msetex_option": words("NX|XX|KEEPTTL|EX seconds|PX ms|EXAT at_seconds|PXAT at_ms|EX|GET|junk"),
    "numkeys": words("1|2|3|0|-1|abc|99999999999"),
    "delex_option": words("IFEQ value|IFNE value|ifeq value|IFEQ|junk value"),
    # digests of `hello` and of nothing, and what is none
    "digest_option": words(
        "IFDEQ 9555e8555c62dcfd|IFDNE 9555e8555c62dcfd|IFDEQ 9555E8555C62DCFD|IFDEQ 2d06800538d394c2|IFDNE junk|IFDEQ"
    ),
    "getex_option": words("PERSIST|EX seconds|PX ms|EXAT at_seconds|PXAT at_ms|EX|NX|junk"),
    "lcs_option": words("LEN|IDX|WITHMATCHLEN|MINMATCHLEN number|idx|MINMATCHLEN|junk"),
    "word": words("ID|USER|TYPE|SKIPME|LADDR"),
}
LENIENT = {
    b"TIME": (same_shape, "the clock"),
    b"LASTSAVE": (same_shape, "the clock"),
    b"HELLO": (same_fields, "version and connection id are each server's own"),
    b"OBJECT HELP": (same_shape, "prose"),
}
REPEATS = b"MSETEX SETEX PSETEX GETSET GETEX MSET INCRBY DECRBY INCRBYFLOAT SETRANGE".split()
NEVER_SPOILT = {
    b"COMMAND",  # all of the table; it is compared in a test of its own
    b"DEBUG",  # a long sleep
    b"HELLO",  # Redis keeps the name of a HELLO SETNAME that then fails
}
