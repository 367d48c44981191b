r"""Telnet's commands (RFC 854) in text lines: removed from the input, and answered.

1. A command is answered when it arrives, not when its line ends. Ctrl-C in telnet sends IAC IP, IAC DO TM, and telnet
   shows no output before TM is answered.
2. Every option is refused: the answer to DO is WONT, to WILL it is DONT. The answer to "are you there" is a line. Any
   other command is dropped. IAC IAC is the byte 0xFF.
3. 0xFF before a byte that begins no command is kept, because a client that sends it does not speak telnet.

Telnet sends commands inside values, too: it doubles the byte 0xFF. If its input is a pipe, telnet replaces the byte
0x80, which many UTF-8 characters contain, by Ctrl-C, and the byte is lost.

Refused: parsing of subnegotiation (SB). It begins only after both sides have agreed on an option.
"""

from __future__ import annotations

import re

IAC = b"\xff"
IP, AYT, WILL, WONT, DO, DONT = (bytes([code]) for code in (244, 246, 251, 252, 253, 254))
REFUSALS = {DO: IAC + WONT, WILL: IAC + DONT}
HERE = b"[Yes]\r\n"

# A command of two bytes (EOF, 236, and above), one of three bytes with an option, a doubled 0xFF, or a plain 0xFF.
_COMMAND = re.compile(rb"\xff(?:([\xfb-\xfe])(.)|([\xec-\xfa])|(\xff)|(?=[^\xec-\xff]))", re.DOTALL)


def take_out(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a text without its commands, the answers to them, and an incomplete command at the end."""
    kept: list[bytes] = []
    answers: list[bytes] = []
    position = 0
    while (start := text.find(IAC, position)) >= 0:
        kept.append(text[position:start])
        match = _COMMAND.match(text, start)
        if match is None:
            return b"".join(kept), b"".join(answers), text[start:]
        verb, option, command, _ = match.groups()
        if verb in REFUSALS:
            answers.append(REFUSALS[verb] + option)
        elif command == AYT:
            answers.append(HERE)
        elif verb is None and command is None:
            kept.append(IAC)
        position = match.end()
    kept.append(text[position:])
    return b"".join(kept), b"".join(answers), b""
