"""Random scripts: calls of random commands, and expressions on what they reply."""

from __future__ import annotations

from random import Random

from grammars import Command, grammar
from random_commands import FAMILIES, random_command

CALLS = 5
OPERANDS = ("1", "-3", "0.5", "2^53", "1e300", "'10'", "' 7 '", "'x'", "''", "nil", "true", "false", "#ARGV", "#KEYS")
REPLIES = ("r[1]", "r[2]", "r[3]")
BINARY = ("+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", "and", "or")
FUNCTIONS = (
    *("tonumber", "type", "math.floor", "string.len", "string.upper", "unpack", "select", "#", "not ", "string.byte"),
    *("string.rep", "redis.sha1hex", "redis.error_reply", "redis.status_reply", "math.abs", "table.concat"),
)
# Their order is that of a table in C, or they throw dice, or show a clock.
DIFFERENT = frozenset(b"SCAN SSCAN HSCAN ZSCAN RANDOMKEY OBJECT MEMORY DEBUG TIME LASTSAVE SORT DUMP".split())


def random_expression(random: Random, depth: int = 0) -> str:
    """Make up an expression, which may well be an error."""
    if depth > 2 or random.random() < 0.3:
        return random.choice((*OPERANDS, *REPLIES))
    if random.random() < 0.5:
        left, right = (random_expression(random, depth + 1) for _ in range(2))
        return f"({left} {random.choice(BINARY)} {right})"
    function = random.choice(FUNCTIONS)
    return f"{function}({random_expression(random, depth + 1)})"


def is_alike(argv: Command, family: str) -> bool:
    """Return True if a command has the same reply and effect in each server."""
    rules, name = grammar(family), argv[0].upper() if argv else b""
    if any(b"\0" in word for word in argv):  # an error text of Redis ends there
        return False
    return name not in DIFFERENT and name not in rules.lenient and name not in rules.settles


def random_script(random: Random, for_redis: bool = True) -> list[bytes]:
    """Make up an EVAL: some calls, whose words are arguments, and what an expression makes of their replies."""
    commands: list[Command] = []
    while len(commands) < CALLS:
        family = random.choice(FAMILIES)
        argv = random_command(random, family, for_redis)
        if argv and (not for_redis or is_alike(argv, family)):
            commands.append(argv)
    lines, place = ["local r = {}"], 1
    if random.random() < 0.3:
        lines.append("redis.setresp(3)")
    for number, argv in enumerate(commands, 1):
        call = random.choice(("pcall", "pcall", "pcall", "pcall", "call"))
        lines.append(f"r[{number}] = redis.{call}(unpack(ARGV, {place}, {place + len(argv) - 1}))")
        place += len(argv)
    shown = random_expression(random)
    lines.append(f"local ok, shown = pcall(function() return {shown} end)")
    lines += ["r[#r + 1] = tostring(ok)", "r[#r + 1] = shown"]
    lines.append(random.choice(("return r", "return r", f"return {shown}", "return {r, {r[1], r[2]}}")))
    separator = random.choice(("\n", " "))
    return [b"EVAL", separator.join(lines).encode(), b"0", *(word for argv in commands for word in argv)]
