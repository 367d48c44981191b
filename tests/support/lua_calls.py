"""Random calls of the libraries of scripts, as Lua source, and the script that runs them and spells their results."""

from __future__ import annotations

import math
import struct
from random import Random

# Runs each of ARGV as a chunk, and returns what it returned, or its error, in letters. A table is spelled in the order
# of `pairs`, unless tables are keys, whose order follows from their addresses. No key is longer than 31 characters: of
# a longer one the Lua of a Redis hashes all characters, and Lua's own half of them, so that the order is another.
RUN_ALL = rb"""
local function show(value)
    local kind, entries, addresses = type(value), {}, false
    if kind == "string" then
        return '"' .. string.gsub(value, "%W", function(c) return string.format("\\%02x", c:byte()) end) .. '"'
    elseif kind == "number" then
        return string.format("%.17g", value)
    elseif kind == "function" then
        return kind
    elseif kind ~= "table" then
        return tostring(value)
    end
    for key, entry in pairs(value) do
        addresses = addresses or type(key) == "table"
        entries[#entries + 1] = show(key) .. "=" .. show(entry)
    end
    if addresses then
        table.sort(entries)
    end
    return "{" .. table.concat(entries, ",") .. "}"
end
local all = {}
for place = 1, #ARGV do
    local results, spelled = {pcall(loadstring(ARGV[place], "@call"))}, {}
    for index = 1, table.maxn(results) do
        spelled[index] = show(results[index])
    end
    all[place] = table.concat(spelled, " ")
end
return all
"""
EDGES = [0, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63, 2**64]
ODD_NUMBERS = ["1/0", "-1/0", "0/0", "-(0/0)", "-0.0", "1e308", "5e-324", "2.5", "3.5", "-0.5"]
ODD_STRINGS = [b"", b"\0", b'"', b"\\/", b"\x7f\x80", b"\n\t\r\b\f\x1f", "é☃".encode(), b"1", b"12.5", b"0x10", b" 7 "]
JSON_NUMBERS = """
0 1 -1 1e5 1.5 -0 007 0x1F +1 inf -inf nan NaN Infinity 1e 1. .5 - -.5 1e+3 0x 0x1p4 0x.8 nan(1) infin 1e400 -nan 0e
"""
JSON_PIECES = r"a é \n \t \/ \" \\ \u00e9 \u2603 \ud83d\ude00 \b\f\r \u0000 \u0800 \u07ff"
BAD_PIECES = r" \ud800 \x \u12 \udc00 \ud800\u0041"
JSON_WORDS = ["true", "false", "null", "[]", "{ }"]
BIT_FUNCTIONS = "tobit tohex bnot band bor bxor lshift rshift arshift rol ror bswap"
SETTINGS = (
    *("encode_sparse_array", "encode_max_depth", "decode_max_depth", "encode_number_precision"),
    *("encode_keep_buffer", "encode_invalid_numbers", "decode_invalid_numbers"),
)
SET_TO = ["true", "false", "nil", '"on"', '"off"', '"null"', '"x"', "1", "2", "5", "0", "-1", "14", "2.7", "{}", "2^40"]
FORMATS = "b B h H l L i I i1 i2 i4 i8 I3 I5 i7 i16 I9 f d s c0 c1 c3 x < > ! !4 !2 !1 !8 T"
ODD_FORMATS = ["z", "k", "!3", "i33", "i0", "c99999999999", "5", "!0", "\0", "i32", " "]
STARTS = ["", "", ",1", ",2", ",0", ",-3", ",99", ",nil", ',"2"', ",{}"]


def literal(text: bytes) -> str:
    """Spell a string as Lua source."""
    return '"' + "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:03}" for c in text) + '"'


class Calls:
    """Makes up calls; `of(library)` returns a chunk that returns the results of one."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def of(self, library: str) -> str:
        """Return a call of a library."""
        return str(getattr(self, library)())

    def number(self) -> str:
        """Return a number of one of the kinds that are represented or rounded in their own way."""
        random = self.random
        kind = random.randrange(8)
        if kind == 0:
            return random.choice(ODD_NUMBERS)
        if kind == 1:
            return str(random.choice([1, -1]) * random.choice(EDGES) + random.choice([-1, 0, 0, 0]))
        if kind == 2:
            return repr(random.uniform(-1, 1) * 10.0 ** random.randrange(-320, 308))
        if kind == 3:
            return repr(struct.unpack("<f", struct.pack("<I", random.getrandbits(32) & 0xFF7FFFFF))[0])
        if kind == 4:
            number = struct.unpack("<d", struct.pack("<Q", random.getrandbits(64)))[0]
            return repr(number) if math.isfinite(number) else "7"
        if kind == 5:
            return repr(random.randrange(-(2**33), 2**33) + random.choice([0.5, 0.25, 0.75, 0.0]))
        return str(random.randrange(-300, 300))

    def string(self, longest: int = 33) -> str:
        """Return a string."""
        kind = self.random.randrange(3)
        if kind == 0:
            return literal(self.random.choice(ODD_STRINGS))
        length = min(self.random.choice([1, 2, 3, 5, 10, 31, 32, 33]), longest)
        return literal(
            self.random.randbytes(length) if kind == 1 else bytes(self.random.choices(b"abcXY 09", k=length))
        )

    def value(self, depth: int = 0) -> str:
        """Return a value, of tables in each other too."""
        random = self.random
        kind = random.randrange(10 if depth < 4 else 6)
        if kind < 2:
            return self.number()
        if kind < 4:
            return self.string()
        if kind < 6:
            return random.choice(["true", "false", "nil", "cjson.null", "{}", "{1,2,3}"])
        if kind < 8:
            return "{" + ",".join(self.value(depth + 1) for _ in range(random.choice([0, 1, 2, 3, 5, 17]))) + "}"
        count = random.choice([1, 2, 3, 6, 16, 20])
        return "{" + ",".join(f"[{self.key()}]={self.value(depth + 1)}" for _ in range(count)) + "}"

    def key(self) -> str:
        """Return a key of a table."""
        kind = self.random.randrange(8)
        if kind < 4:
            return self.string(31)
        if kind == 4:
            return self.random.choice(["-1", "1.5", "2^31", "1e10", "100", "true", "0", "2^40", "1/0"])
        return str(self.random.randrange(0, 30))

    def values(self, counts: list[int]) -> str:
        """Return some values."""
        return ",".join(self.value() for _ in range(self.random.choice(counts)))

    def bit(self) -> str:
        """Return a call of bit."""
        random = self.random
        name = random.choice(BIT_FUNCTIONS.split())
        count = 1 if name in ("tobit", "bnot", "bswap") else random.choice([2, 2, 2, 1, 3])
        arguments = [self.value(4) if random.random() < 0.05 else self.number() for _ in range(count)]
        return f"local x=bit.{name}({','.join(arguments)}) return x"

    def json(self, depth: int = 0) -> str:
        """Return a JSON document, some with numbers and escapes that are none."""
        random = self.random
        space = random.choice(["", "", "", " ", "\n\t"])
        kind = random.randrange(8 if depth < 4 else 5)
        if kind == 0:
            text = random.choice(JSON_NUMBERS.split())
        elif kind == 1:
            text = self.number()
        elif kind == 2:
            pieces = JSON_PIECES + BAD_PIECES if random.random() < 0.1 else JSON_PIECES
            text = '"' + "".join(random.choices(pieces.split(), k=random.randrange(7))) + '"'
        elif kind < 5:
            text = random.choice(JSON_WORDS)
        elif kind < 7:
            text = "[" + ",".join(self.json(depth + 1) for _ in range(random.randrange(5))) + "]"
        else:
            names = [random.choice(["a", "b", "key", f"x{random.randrange(99)}"]) for _ in range(random.randrange(6))]
            text = "{" + ",".join(f'"{name}"{space}:{self.json(depth + 1)}' for name in names) + "}"
        return space + text + space

    def spoilt(self, text: str) -> str:
        """Return a text in which a character or two are others, missing or added."""
        for _ in range(self.random.randrange(1, 3)):
            place = self.random.randrange(len(text) + 1)
            added = self.random.choice(["", *'{}[]",:\\ tfn0123-+.eE\0xI'])
            text = text[:place] + added + text[place + self.random.randrange(2) :]
        return text

    def cjson(self) -> str:
        """Return a call of cjson."""
        random = self.random
        kind = random.randrange(8)
        if kind < 3:
            return f"local x=cjson.encode({self.value()}) return x"
        document = self.json() if kind < 5 else self.spoilt(self.json())
        decode = f"decode({literal(document.encode())})"
        if kind < 7:
            return f"local x=cjson.{decode} return x"
        name = random.choice(SETTINGS)
        arguments = ",".join(random.choices(SET_TO, k=random.choice([0, 1, 1, 1, 2, 4])))
        set_it = f"local c=cjson.new() local a,b,d=c.{name}({arguments})"
        return f"{set_it} local x=c.encode({self.value()}) local y=c.{decode} return a,b,d,x,y"

    def cmsgpack(self) -> str:
        """Return a call of cmsgpack."""
        random = self.random
        kind = random.randrange(6)
        if kind < 2:
            return f"local x=cmsgpack.pack({self.values([0, 1, 1, 2])}) return x"
        text = f"cmsgpack.pack({self.values([1, 1, 2, 3])})"
        if kind == 2:
            kinds = [random.getrandbits(8), random.randrange(0xC0, 0xDD), random.randrange(0x80, 0x95)]
            text = literal(bytes(random.choices(kinds, k=random.randrange(14))))
        name = random.choice(["unpack", "unpack", "unpack_one", "unpack_limit"])
        start = random.choice(STARTS) if name != "unpack" else ""
        start = random.choice(STARTS) + start if name == "unpack_limit" else start
        return f"local a,b,c,d=cmsgpack.{name}({text}{start}) return a,b,c,d"

    def struct(self) -> str:
        """Return a call of struct."""
        random = self.random
        letters = [
            random.choice(ODD_FORMATS if random.random() < 0.05 else FORMATS.split())
            for _ in range(random.randrange(1, 7))
        ]
        text = literal("".join(letters).encode())
        kind = random.randrange(4)
        if kind == 0:
            return f"local x=struct.size({text}) return x"
        if kind == 1:
            data = literal(bytes(random.choices([random.getrandbits(8), 0, 1, 2, 255, 49], k=random.randrange(40))))
            return f"local a,b,c,d,e,f,g=struct.unpack({text},{data}{random.choice(STARTS)}) return a,b,c,d,e,f,g"
        given = [
            self.string() if letter[0] in "sc" else self.number() for letter in letters if letter[0] not in "x<>! "
        ]
        given = given[:-1] if random.random() < 0.05 else given
        pack = f"local x=struct.pack({','.join([text, *given])})"
        return (
            f"{pack} local a,b,c,d,e,f,g=struct.unpack({text},x) return x,a,b,c,d,e,f,g"
            if kind == 2
            else f"{pack} return x"
        )
