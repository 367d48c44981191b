"""The first line of a script: `#!lua flags=no-writes,allow-oom`.

A script without one runs in the compatible mode of EVAL: it may write, and each of its writes is checked for memory.
"""

from __future__ import annotations

from typing import NamedTuple

from errors import SHEBANG_ENGINE, SHEBANG_FLAG, SHEBANG_OPTION, SHEBANG_UNFINISHED, CommandError

FLAGS = frozenset((b"no-writes", b"allow-oom", b"allow-stale", b"no-cluster", b"allow-cross-slot-keys"))
MARK = b"#!"


class Script(NamedTuple):
    """A script: what EVAL was sent, what Lua compiles, and its flags; None: it has no first line that says them."""

    sha: bytes
    text: bytes
    body: bytes
    flags: frozenset[bytes] | None


def parse(sha: bytes, text: bytes) -> Script:
    """Return a script. Raises CommandError if its first line is wrong."""
    if not text.startswith(MARK):
        return Script(sha, text, text, None)
    line, newline, rest = text.partition(b"\n")
    if not newline:
        raise CommandError(SHEBANG_UNFINISHED)
    words = line.split()
    if words[0] != MARK + b"lua":
        raise CommandError(SHEBANG_ENGINE % words[0])
    flags: set[bytes] = set()
    for word in words[1:]:
        name, _, value = word.partition(b"=")
        if name != b"flags":
            raise CommandError(SHEBANG_OPTION % word)
        for flag in filter(None, value.split(b",")):
            if flag not in FLAGS:
                raise CommandError(SHEBANG_FLAG % flag)
            flags.add(flag)
    return Script(sha, text, b"\n" + rest, frozenset(flags))  # the lines keep their numbers
