r"""Telnet's commands (RFC 854) inside lines of text: taken out of what a client sends, and answered.

1. Ctrl-C in telnet sends IAC IP, IAC DO TM, and telnet shows no output before TM is answered. So a command is answered
   when it comes, and not when its line ends.
2. Every option is refused: DO is answered by WONT, WILL by DONT. "Are you there" is answered by a line. Any other
   command is dropped. IAC IAC is the byte 0xFF.
3. 0xFF in front of a byte that begins no command is kept, because the client that sent it does not speak telnet.

Telnet sends such commands inside values, too: it doubles 0xFF. Where its input is a pipe, it takes the byte 0x80, which
many characters have in UTF-8, for Ctrl-C, and the byte is lost.

Refused: to read subnegotiation (SB). It begins only when both sides have agreed on an option.
"""

from __future__ import annotations

import re

IAC = b"\xff"
IP, AYT, WILL, WONT, DO, DONT = (bytes([code]) for code in (244, 246, 251, 252, 253, 254))
REFUSALS = {DO: IAC + WONT, WILL: IAC + DONT}
HERE = b"[Yes]\r\n"

# A command of two bytes from EOF on (236), or of three with an option; or 0xFF doubled, or that is none of these.
_COMMAND = re.compile(rb"\xff(?:([\xfb-\xfe])(.)|([\xec-\xfa])|(\xff)|(?=[^\xec-\xff]))", re.DOTALL)


def take_out(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Take all commands out of a text; return what is left, the answers, and an incomplete command at the end."""
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
