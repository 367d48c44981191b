"""A user: how it authenticates, and what it may run, read, write and publish.

1. A user has one root selector, and any number of further ones. A request is allowed if one selector allows all of it:
   the command, each key, and each channel.
2. The module knows neither requests nor the table of commands. Its caller says what a request needs (`Need`). The rules
   that change a user are in `rules.py`.
3. Names of commands are in lower case; a subcommand is `config|get`.

A user with a selector that allows everything is not restricted, and its requests are not checked at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from values.glob import Pattern

READ = 1
WRITE = 2
ACCESS_SIGNS = {READ: b"%R~", WRITE: b"%W~", READ | WRITE: b"~"}
COMMAND, KEY, CHANNEL = REASONS = ("command", "key", "channel")


class Need(NamedTuple):
    """What a request needs. `keys`: with the kinds of access. `channels`: True if the names are patterns."""

    command: bytes
    first_argument: bytes | None
    is_free: bool  # each user may run the command
    keys: Sequence[tuple[bytes, int]]
    channels: Sequence[bytes]
    are_patterns: bool


class Denial(NamedTuple):
    """Why a request is denied, and the command, key or channel that is; `place`: its place among its like."""

    reason: str
    name: bytes
    place: int = 0

    @property
    def progress(self) -> tuple[int, int]:
        """Return how far the check came: of several selectors, the one that came furthest gives the reason."""
        return REASONS.index(self.reason), self.place


class Patterns:
    """A set of glob patterns in the order in which they were added, each with the kinds of access that it grants."""

    def __init__(self) -> None:
        self.allows_all = False
        self.granted: dict[bytes, int] = {}
        self._compiled: dict[bytes, Pattern] = {}

    def add(self, pattern: bytes, access: int) -> None:
        """Add a pattern. Raises CommandError if it is too long."""
        self._compiled[pattern] = Pattern(pattern)
        self.granted[pattern] = self.granted.get(pattern, 0) | access

    def clear(self) -> None:
        """Allow nothing."""
        self.allows_all = False
        self.granted.clear()
        self._compiled.clear()

    def allow_all(self) -> None:
        """Allow everything, without patterns."""
        self.clear()
        self.allows_all = True

    def allow(self, name: bytes, access: int) -> bool:
        """Return True if a pattern that grants this access matches a name."""
        return self.allows_all or any(
            not access & ~granted and self._compiled[pattern].matches(name) for pattern, granted in self.granted.items()
        )

    def allow_pattern(self, pattern: bytes) -> bool:
        """Return True if this very pattern is allowed."""
        return self.allows_all or pattern in self.granted


class Selector:
    """A set of permissions."""

    def __init__(self) -> None:
        self.allows_all_commands = False  # those of later versions, too
        self.begins_with_all = False  # the rules begin with +@all
        self.commands: set[bytes] = set()  # allowed, while not all are
        self.first_arguments: dict[bytes, list[bytes]] = {}  # command -> the first arguments with which it is allowed
        self.command_rules: list[bytes] = []
        self.keys = Patterns()
        self.channels = Patterns()

    @property
    def allows_everything(self) -> bool:
        """Return True if no request is denied."""
        return self.allows_all_commands and self.keys.allows_all and self.channels.allows_all

    def denial(self, need: Need) -> Denial | None:
        """Return why a request is denied, or None if it is allowed."""
        if not self._allows_command(need):
            return Denial(COMMAND, need.command)
        for place, (key, access) in enumerate(need.keys):
            if not self.keys.allow(key, access):
                return Denial(KEY, key, place)
        for place, channel in enumerate(need.channels):
            if not self.allows_channel(channel, is_pattern=need.are_patterns):
                return Denial(CHANNEL, channel, place)
        return None

    def allows_channel(self, channel: bytes, *, is_pattern: bool) -> bool:
        """Return True if the user may use a channel, or subscribe to a pattern."""
        return self.channels.allow_pattern(channel) if is_pattern else self.channels.allow(channel, 0)

    def _allows_command(self, need: Need) -> bool:
        if self.allows_all_commands or need.is_free or need.command in self.commands:
            return True
        allowed = self.first_arguments.get(need.command, ())
        return need.first_argument is not None and need.first_argument.lower() in allowed

    def describe_keys(self) -> bytes:
        """Return the rules of keys, as ACL SETUSER takes them."""
        if self.keys.allows_all:
            return b"~*"
        signs = {**ACCESS_SIGNS, READ | WRITE: b"%RW~"} if b"*" in self.keys.granted else ACCESS_SIGNS  # ~* is allkeys
        return b" ".join(signs[access] + pattern for pattern, access in self.keys.granted.items())

    def describe_channels(self) -> bytes:
        """Return the rules of channels."""
        return b"&*" if self.channels.allows_all else b" ".join(b"&" + pattern for pattern in self.channels.granted)

    def describe_commands(self) -> bytes:
        """Return the rules of commands, in the order in which they were given."""
        return b" ".join([b"+@all" if self.begins_with_all else b"-@all", *self.command_rules])

    def rules(self) -> Iterator[bytes]:
        """Return the rules that make this selector of a new one."""
        if keys := self.describe_keys():
            yield keys
        if not self.channels.allows_all:
            yield b"resetchannels"
        if channels := self.describe_channels():
            yield channels
        yield self.describe_commands()


class User:
    """A user of the server. A change is made to a copy, which then takes its place: see `Users.put`."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.is_on = False
        self.needs_no_password = False
        self.password_hashes: dict[bytes, None] = {}  # SHA-256, in hexadecimal
        self.sanitizing = b""  # the rule about the payloads of RESTORE, which are always checked here
        self.selectors = [Selector()]  # the root selector comes first
        self.is_restricted = True  # some request may be denied; kept by `update`

    @classmethod
    def unrestricted(cls, name: bytes) -> User:
        """Return a user that may do everything, without a password."""
        user = cls(name)
        user.is_on = user.needs_no_password = True
        [root] = user.selectors
        root.allows_all_commands = root.begins_with_all = True
        root.keys.allow_all()
        root.channels.allow_all()
        user.update()
        return user

    def take(self, other: User) -> None:
        """Become as another user is, but for the name. Sessions keep their object, so all of them see the change."""
        self.is_on, self.needs_no_password, self.sanitizing = other.is_on, other.needs_no_password, other.sanitizing
        self.password_hashes, self.selectors = other.password_hashes, other.selectors
        self.update()

    def update(self) -> None:
        """Find out whether a request can be denied at all."""
        self.is_restricted = not any(selector.allows_everything for selector in self.selectors)

    @property
    def lets_everybody_in(self) -> bool:
        """Return True if a client is this user without a password."""
        return self.is_on and self.needs_no_password

    def accepts(self, password: bytes) -> bool:
        """Return True if a client with this password is this user. Takes the same time for any wrong password."""
        from hmac import compare_digest  # noqa: PLC0415

        given = hash_of(password)
        is_known = [compare_digest(given, known) for known in self.password_hashes]
        return self.is_on and (self.needs_no_password or any(is_known))

    def denial(self, need: Need) -> Denial | None:
        """Return why a request is denied, or None if it is allowed."""
        worst: Denial | None = None
        for selector in self.selectors:
            denial = selector.denial(need)
            if denial is None:
                return None
            if worst is None or denial.progress > worst.progress:
                worst = denial
        return worst

    def allows_channel(self, channel: bytes, *, is_pattern: bool) -> bool:
        """Return True if the user may stay subscribed to a channel or a pattern."""
        return any(selector.allows_channel(channel, is_pattern=is_pattern) for selector in self.selectors)

    @property
    def flags(self) -> list[bytes]:
        """Return the rules that are words of their own."""
        flags = [b"on" if self.is_on else b"off"]
        if self.needs_no_password:
            flags.append(b"nopass")
        return [*flags, self.sanitizing] if self.sanitizing else flags

    def permissions(self) -> list[bytes]:
        """Return the rules that give a new user the same permissions."""
        root, *further = self.selectors
        return [*root.rules(), *[b"(%b)" % b" ".join(selector.rules()) for selector in further]]

    def describe(self) -> bytes:
        """Return the user as a line of ACL LIST, which is also one of a file of users."""
        hashes = [b"#" + made for made in self.password_hashes]
        return b" ".join([b"user", self.name, *self.flags, *hashes, *self.permissions()])


def hash_of(password: bytes) -> bytes:
    """Return the hash by which a password is kept."""
    from hashlib import sha256  # noqa: PLC0415

    return sha256(password).hexdigest().encode()
