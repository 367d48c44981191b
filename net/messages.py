"""Messages to clients in RESP, encoded once for all who receive them."""

from __future__ import annotations

from protocol import HEADERS, bulk_header, encode, encode_command
from replies import Published, Push
from wire.columns import CRLF


def encoded_once(message: Push, resp3: bool) -> list[bytes]:
    """Encode a message, as one piece that all receivers share, and return it."""
    if type(message) is Published:
        data = _encode_published(message, resp3)
    elif set(map(type, message)) == {bytes}:
        data = encode_command(message)  # a quarter of the time of `encode`
        data = b">" + data[1:] if resp3 else data
    else:
        made: list[bytes] = []
        encode(message, made.append, resp3)
        data = b"".join(made)
    pieces = message.pieces[resp3] = [data]
    return pieces


def _encode_published(message: Published, resp3: bool) -> bytes:
    """Join the texts by the bytes that all messages share. It takes 0.1 µs a message; one by one 0.8."""
    channel, *texts = message
    head = b"%b3\r\n$7\r\nmessage\r\n%b%b\r\n" % (b">" if resp3 else b"*", bulk_header(len(channel)), channel)
    try:
        texts = [HEADERS[len(text)] + text for text in texts]
    except IndexError:  # a size is beyond the table
        texts = [bulk_header(len(text)) + text for text in texts]
    return head + (CRLF + head).join(texts) + CRLF


def send_nothing(message: Push) -> None:
    """Drop a message to a client that is gone."""
