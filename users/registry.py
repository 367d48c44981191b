"""All users of an instance, and the log of what was denied to them.

    file of users      user NAME RULE ...      a line a user, as ACL LIST shows it; `#` begins a comment

1. The user `default` always exists. A client that has not authenticated is this user.
2. A user is changed by `put`, which keeps its object: sessions hold it.
3. A file is loaded as a whole, or not at all, and is saved by a rename, so that a crash leaves the old or the new one.

Users are never in the data log: who may read a log need not learn the hashes of passwords.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from errors import CommandError
from users.rules import Commands, RuleError, changed
from users.user import User
from wire.files import open_regular

DEFAULT_USER = b"default"
MAX_FILE_BYTES = 16 << 20
GROUPED_MS = 60_000  # within this time the same denial is counted, not added


class UserFileError(Exception):
    """A file of users cannot be read or has errors: the text names each of them."""


@dataclass(eq=False, repr=False)
class LogEntry:
    """A denial for ACL LOG, or several of the same kind."""

    reason: str
    context: str
    name: bytes
    user: bytes
    client: bytes
    created_ms: int
    updated_ms: int
    id: int
    count: int = 1


class Users:
    """The users by their names. `default` is one of them."""

    def __init__(self) -> None:
        self.default = User.unrestricted(DEFAULT_USER)
        self.by_name = {DEFAULT_USER: self.default}
        self.log: deque[LogEntry] = deque()  # the newest first
        self._logged = 0
        self._password = b""  # that CONFIG has given the default user

    def follow_password(self, password: bytes) -> None:
        """Give the default user a password, if CONFIG's has changed; an empty one lets everybody in."""
        if password != self._password:
            self._password = password
            self.put(self._with_password(self.default))

    def _with_password(self, user: User) -> User:
        return changed(user, [b"resetpass", b">" + self._password] if self._password else [b"nopass"], {})

    def put(self, user: User) -> None:
        """Add a user, or let the one of this name become as this."""
        if user.name in self.by_name:
            self.by_name[user.name].take(user)
        else:
            self.by_name[user.name] = user

    def delete(self, name: bytes) -> User | None:
        """Remove a user and return it; None if there is none."""
        return self.by_name.pop(name, None)

    def describe(self) -> list[bytes]:
        """Return the lines of ACL LIST, in the order of the names."""
        return [user.describe() for _, user in sorted(self.by_name.items())]

    # ---- the file

    def load(self, path: str, commands: Commands) -> list[User]:
        """Replace all users by those of a file. Returns the users of before that it changed or removed.

        Raises UserFileError, and changes nothing then. A file without the user `default` leaves it as CONFIG has it.
        """
        loaded = {user.name: user for user in read(path, commands)}
        before = {name: user.describe() for name, user in self.by_name.items()}
        users = list(self.by_name.values())
        for name in [name for name in self.by_name if name not in loaded and name != DEFAULT_USER]:
            self.delete(name)
        if DEFAULT_USER not in loaded:
            self.put(self._with_password(User.unrestricted(DEFAULT_USER)))
        for user in loaded.values():
            self.put(user)
        return [user for user in users if user.name not in self.by_name or user.describe() != before[user.name]]

    def save(self, path: str) -> None:
        """Write all users to a file. Raises OSError."""
        copy = f"{path}.tmp-{os.getpid()}"
        try:
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(b"".join(line + b"\n" for line in self.describe()))
                file.flush()
                os.fsync(file.fileno())
            os.replace(copy, path)
        except OSError:
            with suppress(OSError):
                os.unlink(copy)
            raise

    # ---- the log

    def log_denial(self, entry: LogEntry, longest: int) -> None:
        """Log a denial, as one more of the same if there was one lately. O(length of the log)."""
        self._logged += 1
        entry.id = self._logged - 1
        for other in self.log:
            if (other.reason, other.context, other.name, other.user) == (
                entry.reason,
                entry.context,
                entry.name,
                entry.user,
            ) and entry.updated_ms - other.updated_ms <= GROUPED_MS:
                self.log.remove(other)
                entry.count, entry.created_ms, entry.id = other.count + 1, other.created_ms, other.id
                break
        self.log.appendleft(entry)
        while len(self.log) > longest:
            self.log.pop()


def can_be_saved(user: User, commands: Commands) -> bool:
    """Return True if the user's line in a file makes the same user: not with a space, or a parenthesis amid a rule."""
    line = user.describe()
    try:
        return _user_of(line.split(), (), commands).describe() == line
    except UserFileError:
        return False


def read(path: str, commands: Commands) -> list[User]:
    """Return the users of a file. Raises UserFileError, which names all lines that are wrong."""
    try:
        with open_regular(path) as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserFileError(f"{path}: {error.strerror or error}") from None
    if len(text) > MAX_FILE_BYTES:
        raise UserFileError(f"{path}: a file of users has at most {MAX_FILE_BYTES} bytes")
    users: dict[bytes, User] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        try:
            user = _user_of(words, users, commands)
        except UserFileError as error:
            problems.append(f"{path}:{number}: {error}")
        else:
            users[user.name] = user
    if problems:
        raise UserFileError(". ".join(problems) + ".")
    return list(users.values())


def _user_of(words: list[bytes], known: Iterable[bytes], commands: Commands) -> User:
    if words[0] != b"user" or len(words) < 2:
        raise UserFileError("should start with user keyword followed by the name of the user")
    name, rules = words[1], words[2:]
    if name in known:
        raise UserFileError(f"Duplicate user '{name.decode(errors='backslashreplace')}' found")
    try:
        return changed(User(name), rules, commands)
    except RuleError as error:
        shown = (error.rule + b": " + error.reason).decode(errors="backslashreplace")
        raise UserFileError(f"Error in applying operation {shown}") from None
    except CommandError as error:
        raise UserFileError(error.text.removeprefix(b"ERR ").decode(errors="backslashreplace")) from None
