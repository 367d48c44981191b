"""Parse a row's syntax into the arguments of COMMAND DOCS, from which clients make hints and completions.

    syntax    = sequence { " | " sequence }              a choice, if it is in brackets
    sequence  = element { element }
    element   = WORD | * | $ | = | ~                     a token, such as NX
              | WORD value | WORD value value            a value, or a block of values, after a token
              | WORD "<" syntax ">"                      a choice after a token
              | name                                     a value
              | "<" syntax ">" | "[" syntax "]"          a required, or an optional, choice
              | element "[" the same element "...]"      one or more of the element

This is the notation of Redis's documentation, so one text serves people and programs.

Refused: nested Python literals in the rows, like Redis's JSON files; a SET takes ten lines there.
"""

from __future__ import annotations

import re
from typing import Any

from replies import Members, Status

Argument = dict[bytes, Any]

TYPES = {
    "key": "key key1 key2 newkey source destination destkey sourcekey src dst",
    "integer": "bit bits client-id count cursor db decrement destination-db end entries_added entries_read frequency "
    "increment index index1 index2 len limit milliseconds ms num-matches numkeys numlocal numreplicas offset protover "
    "rank seconds start stop timeout ttl weight",
    "double": "score min max longitude latitude radius width height",
    "unix-time": "unix-time-seconds unix-time-milliseconds",
    "pattern": "pattern",
}
TYPE_OF = {name: kind for kind, names in TYPES.items() for name in names.split()}
CLOSING = ("]", ">", "|")
SIGNS = ("*", "$", "=", "~")  # tokens


def arguments(syntax: str) -> list[Argument]:
    """Return the arguments of a syntax in the format of COMMAND DOCS. Raises ValueError for a malformed syntax."""
    words = re.findall(r"[][<>|]|[^][<>|\s]+", syntax)
    found, _ = _sequence(words)
    if words:
        raise ValueError(f"cannot read {syntax!r} from {words[0]!r} on")
    return found


def _sequence(words: list[str]) -> tuple[list[Argument], bool]:
    """Remove a sequence from `words`; return its elements, and True if it ends in `...`."""
    found: list[Argument] = []
    while words and words[0] not in CLOSING:
        word = words.pop(0)
        if word == "...":
            return found, True
        if word == "[":
            _take_option(words, found)
        elif word == "<":
            found.append(_one(_choice(words)))
        elif word.isupper() or word in SIGNS:
            found.append(_token(word, words))
        else:
            found.append(_value(word))
    return found, False


def _choice(words: list[str]) -> list[Argument]:
    """Remove all up to the closing bracket; return a single sequence's elements, or one argument for a choice."""
    sequences: list[list[Argument]] = []
    while not sequences or words.pop(0) == "|":
        found, repeated = _sequence(words)
        sequences.append([{**_one(found), b"flags": Members([Status(b"multiple")])}] if repeated else found)
    if len(sequences) == 1:
        return sequences[0]
    return [_compound(b"oneof", [_one(found) for found in sequences])]


def _take_option(words: list[str], found: list[Argument]) -> None:
    """Remove a bracket: an optional argument, or the `[key ...]` after `key`, which makes it a repeated one."""
    option = _choice(words)
    one = _one(option)
    repeated = one.get(b"arguments", option) if one[b"type"] == b"block" else [one]
    names = [argument[b"name"] for argument in repeated]
    if b"multiple" in one.get(b"flags", ()) and [argument[b"name"] for argument in found[-len(names) :]] == names:
        found[-len(names) :] = [one]
    else:
        found.append({**one, b"flags": Members([Status(b"optional"), *one.get(b"flags", ())])})


def _token(token: str, words: list[str]) -> Argument:
    """Remove what follows a token, a choice, values or nothing; return the token's argument."""
    if words and words[0] == "<":
        words.pop(0)
        found = [_one(_choice(words))]
    else:
        found = []
        while words and words[0] not in (*CLOSING, "<", "...") and not words[0].isupper():
            if words[0] != "[":
                found.append(_value(words.pop(0)))
            elif any(words[1].encode() == each[b"name"] for each in found):
                words.pop(0)
                _take_option(words, found)
            else:
                break
    if not found:
        return {b"name": token.lower().encode(), b"type": b"pure-token", b"token": token.encode()}
    argument = _one(found)
    return {b"name": argument[b"name"], b"type": argument[b"type"], b"token": token.encode(), **argument}


def _value(name: str) -> Argument:
    kind = TYPE_OF.get(name, "string")
    argument: Argument = {b"name": name.encode(), b"type": kind.encode()}
    if kind == "key":
        argument[b"key_spec_index"] = 0
    return argument


def _one(found: list[Argument]) -> Argument:
    """Return a sequence as one argument: its only element, or a block."""
    return found[0] if len(found) == 1 else _compound(b"block", found)


def _compound(kind: bytes, members: list[Argument]) -> Argument:
    name = b"_".join(member[b"name"] for member in members)
    return {b"name": name, b"type": kind, b"arguments": members}
