"""The few error classes, and every error text once.

An error's class says who has to act: `CommandError` is answered to the client and the session goes on,
`ProtocolError` is answered and the connection closes, `LogError` and `StartError` are one line for the operator
and end the program. The texts are Redis 7's, word for word, because client libraries match on them.
A text with `%b` is filled in by the one who raises it.
"""


class CommandError(Exception):
    """A command refused its arguments: answered as `-text`, nothing was changed."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class ProtocolError(Exception):
    """The bytes are no request: answered as `-ERR Protocol error: text`, then the connection closes."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class LogError(Exception):
    """The log cannot be used as it is; the message names file, place, reason and what to do."""


class StartError(Exception):
    """The server cannot start; the message says what to do."""


# arguments
SYNTAX = b"ERR syntax error"
NOT_AN_INTEGER = b"ERR value is not an integer or out of range"
NOT_A_FLOAT = b"ERR value is not a valid float"
WRONG_ARITY = b"ERR wrong number of arguments for '%b' command"
UNKNOWN_COMMAND = b"ERR unknown command '%b', with args beginning with: %b"
UNKNOWN_SUBCOMMAND = b"ERR unknown subcommand '%b'. Try %b HELP."
INTERNAL = b"ERR internal error"

# values
WRONG_TYPE = b"WRONGTYPE Operation against a key holding the wrong kind of value"
NO_SUCH_KEY = b"ERR no such key"
OVERFLOW = b"ERR increment or decrement would overflow"
NAN_OR_INFINITY = b"ERR increment would produce NaN or Infinity"
STRING_TOO_LONG = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_OUT_OF_RANGE = b"ERR offset is out of range"
INVALID_EXPIRE = b"ERR invalid expire time in '%b' command"

# text dialect
TEXT_NO_VALUE = b"ERR value not found or expired"
TEXT_NO_KEY = b"ERR key not found"

# server
NO_AUTH = b"NOAUTH Authentication required."
LOG_FAILED = b"MISCONF Errors writing to the AOF file: %b"
MAX_CLIENTS = b"ERR max number of clients reached"
DENIED = (
    b"DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface. If you want to connect "
    b"from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode "
    b"sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the "
    b"same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. "
    b"2) Start the server with --protected-mode no. 3) Set a password with --requirepass for the default user. "
    b"NOTE: You only need to do one of the above things in order for the server to start accepting connections from "
    b"the outside."
)
