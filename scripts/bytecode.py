"""Compiled Lua 5.1: the calls of a script that leave no line on the stack are made ordinary calls.

`return redis.call(…)` is a tail call: when the command fails, the line is no longer known, because redis.call, a
function of Lua around one of Python, has taken the place of the script on the stack. In Redis it is a function of C,
which does not. So a tail call of a global, or of a field of a global, is made a call and a return, which is the same
but for the stack. These are never functions of the script itself, because a script cannot set a global.

Refused: the same for all tail calls, which would take stack for each step of a recursion that needs none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEAD_BYTES = 12
GETGLOBAL, GETTABLE, CALL, TAILCALL = 5, 6, 28, 29
# Set a global, an upvalue, or members of a table; jump, compare, test, return, close: they change no register.
SETS_NO_REGISTER = frozenset((7, 8, 9, 22, 23, 24, 25, 26, 30, 34, 35))
FIXED_BYTES = {0: 0, 1: 1, 3: 8}  # of a constant, by its type; 4 is a string
STRING = 4


class _Reader:
    def __init__(self, code: bytes) -> None:
        self.code = bytearray(code)
        self.place = HEAD_BYTES
        is_little, int_bytes, self.size_bytes = code[6], code[7], code[8]
        self.order = "<" if is_little else ">"
        assert int_bytes == 4

    def integer(self) -> int:
        (number,) = struct.unpack_from(self.order + "i", self.code, self.place)
        self.place += 4
        return int(number)

    def string(self) -> None:
        (size,) = struct.unpack_from(self.order + ("Q" if self.size_bytes == 8 else "I"), self.code, self.place)
        self.place += self.size_bytes + size

    def constants(self) -> None:
        for _ in range(self.integer()):
            kind = self.code[self.place]
            self.place += 1
            if kind == STRING:
                self.string()
            else:
                self.place += FIXED_BYTES[kind]

    def function(self) -> None:
        """Pass over a function, and change its tail calls."""
        self.string()
        self.place += 12  # two lines, and four bytes
        count, start = self.integer(), self.place
        self.place += 4 * count
        code = list(struct.unpack_from(f"{self.order}{count}I", self.code, start))
        self.constants()
        for number in _tail_calls(code):
            struct.pack_into(self.order + "I", self.code, start + 4 * number, code[number] - TAILCALL + CALL)
        for _ in range(self.integer()):
            self.function()
        lines = self.integer()
        self.place += 4 * lines
        for _ in range(self.integer()):
            self.string()
            self.place += 8
        for _ in range(self.integer()):
            self.string()


def _tail_calls(code: list[int]) -> Iterator[int]:
    """Yield the places of the tail calls of globals, and of fields of globals."""
    of_global: dict[int, bool] = {}  # register -> whether the last instruction that begins with it left such a function
    for number, instruction in enumerate(code):
        operation, register, table = instruction & 0x3F, instruction >> 6 & 0xFF, instruction >> 23
        if operation == TAILCALL and of_global.get(register):
            yield number
        if operation in SETS_NO_REGISTER:
            continue
        of_global[register] = operation == GETGLOBAL or (operation == GETTABLE and of_global.get(table, False))


def traceable(code: bytes) -> bytes:
    """Return compiled code in which the tail calls of globals and their fields are ordinary calls."""
    reader = _Reader(code)
    reader.function()
    return bytes(reader.code)
