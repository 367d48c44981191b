"""The rules that change a user, as ACL SETUSER and a file of users have them.

    on off nopass resetpass >password <password #hash !hash reset       how the user authenticates
    +command -command +command|subcommand +@category -@category        what it may run; +command|argument also allows
    allcommands nocommands                                              a command with this first argument only
    ~pattern %R~pattern %W~pattern allkeys resetkeys                    keys it may use, or only read, or only write
    &pattern allchannels resetchannels                                  channels
    (rule rule ...) clearselectors                                      a further selector

A rule is applied to a copy of the user, so that all of a request's rules apply or none (`changed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy

from errors import (
    RULE_AFTER_ALL_CHANNELS,
    RULE_AFTER_ALL_KEYS,
    RULE_BAD_HASH,
    RULE_NO_PASSWORD,
    RULE_OF_SUBCOMMAND,
    RULE_SYNTAX,
    RULE_UNKNOWN_COMMAND,
    UNMATCHED_PARENTHESIS,
    CommandError,
)
from users.user import READ, WRITE, Selector, User, hash_of

CATEGORIES = (
    b"keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking "
    b"dangerous connection transaction scripting"
).split()
HASH_DIGITS = 64
ACCESS_LETTERS = {ord("R"): READ, ord("W"): WRITE}
SPACES = frozenset(b" \t\n\v\f\r\0")
# name -> its ACL categories, in lower case; a subcommand is `config|get`
Commands = Mapping[bytes, Sequence[bytes]]


class RuleError(Exception):
    """A rule that does not apply, and why."""

    def __init__(self, rule: bytes, reason: bytes) -> None:
        super().__init__(rule, reason)
        self.rule = rule
        self.reason = reason


def changed(user: User, rules: Sequence[bytes], commands: Commands) -> User:
    """Return a copy of a user after some rules. Raises RuleError, and CommandError for an unmatched parenthesis."""
    copied = deepcopy(user)
    for rule in list(merged(rules)):  # a parenthesis that is not closed is what is wrong first
        try:
            _apply(copied, rule, commands)
        except CommandError as error:  # a pattern that is too long
            raise RuleError(rule, error.text.removeprefix(b"ERR ")) from None
    copied.update()
    return copied


def merged(rules: Iterable[bytes]) -> Iterator[bytes]:
    """Return the rules with those of a selector as one. Raises CommandError if a parenthesis is not closed."""
    words: list[bytes] = []
    for rule in rules:
        if words or (rule.startswith(b"(") and not rule.endswith(b")")):
            words.append(rule)
            if rule.endswith(b")"):
                yield b" ".join(words)
                words = []
        else:
            yield rule
    if words:
        raise CommandError(UNMATCHED_PARENTHESIS % words[0])


def _apply(user: User, rule: bytes, commands: Commands) -> None:
    word = rule.lower()
    if not rule:
        return  # as Redis has it
    if word in (b"on", b"off"):
        user.is_on = word == b"on"
    elif word == b"nopass":
        user.needs_no_password = True
        user.password_hashes.clear()
    elif word == b"resetpass":
        user.needs_no_password = False
        user.password_hashes.clear()
    elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
        user.sanitizing = word
    elif word == b"clearselectors":
        del user.selectors[1:]
    elif word == b"reset":
        user.take(User(user.name))
        user.sanitizing = b"sanitize-payload"
    elif rule[:1] in (b">", b"#"):
        user.password_hashes[_hash(rule, rule[:1] == b"#")] = None
        user.needs_no_password = False
    elif rule[:1] in (b"<", b"!"):
        known = _hash(rule, rule[:1] == b"!")
        if known not in user.password_hashes:
            raise RuleError(rule, RULE_NO_PASSWORD)
        del user.password_hashes[known]
    elif rule.startswith(b"(") and rule.endswith(b")"):
        user.selectors.append(_selector(rule, commands))
    else:
        _apply_to_selector(user.selectors[0], rule, commands)


def _hash(rule: bytes, is_hash: bool) -> bytes:
    if not is_hash:
        return hash_of(rule[1:])
    if len(rule) != HASH_DIGITS + 1 or not set(rule[1:]) <= set(b"0123456789abcdef"):
        raise RuleError(rule, RULE_BAD_HASH)
    return rule[1:]


def _selector(rule: bytes, commands: Commands) -> Selector:
    selector = Selector()
    for word in rule[1:-1].split():
        try:
            _apply_to_selector(selector, word, commands)
        except RuleError as error:
            raise RuleError(rule, error.reason) from None
    return selector


def _apply_to_selector(selector: Selector, rule: bytes, commands: Commands) -> None:
    word = rule.lower()
    if word in (b"allkeys", b"~*"):
        selector.keys.allow_all()
    elif word == b"resetkeys":
        selector.keys.clear()
    elif word in (b"allchannels", b"&*"):
        selector.channels.allow_all()
    elif word == b"resetchannels":
        selector.channels.clear()
    elif word in (b"allcommands", b"+@all", b"nocommands", b"-@all"):
        _allow_all(selector, is_allowed=word in (b"allcommands", b"+@all"))
    elif rule[:1] in (b"~", b"%"):
        _add_keys(selector, rule)
    elif rule[:1] == b"&":
        if selector.channels.allows_all:
            raise RuleError(rule, RULE_AFTER_ALL_CHANNELS)
        selector.channels.add(_without_spaces(rule, rule[1:]), 0)
    elif rule[:1] in (b"+", b"-"):
        _change_commands(selector, rule, commands)
    else:
        raise RuleError(rule, RULE_SYNTAX)


def _without_spaces(rule: bytes, pattern: bytes) -> bytes:
    if not SPACES.isdisjoint(pattern):
        raise RuleError(rule, RULE_SYNTAX)
    return pattern


def _add_keys(selector: Selector, rule: bytes) -> None:
    if selector.keys.allows_all:
        raise RuleError(rule, RULE_AFTER_ALL_KEYS)
    letters, _, pattern = rule[1:].partition(b"~") if rule[:1] == b"%" else (b"RW", b"~", rule[1:])
    granted = 0
    for letter in letters.upper():
        access = ACCESS_LETTERS.get(letter, 0)
        if not access or granted & access:
            raise RuleError(rule, RULE_SYNTAX)
        granted |= access
    if not granted:
        raise RuleError(rule, RULE_SYNTAX)
    selector.keys.add(_without_spaces(rule, pattern), granted)


# ---- commands


def _allow_all(selector: Selector, *, is_allowed: bool) -> None:
    selector.allows_all_commands = selector.begins_with_all = is_allowed
    selector.commands.clear()
    selector.first_arguments.clear()
    selector.command_rules.clear()


def _change_commands(selector: Selector, rule: bytes, commands: Commands) -> None:
    name, is_allowed = rule[1:].lower(), rule[:1] == b"+"
    if name.startswith(b"@"):
        if name[1:] not in CATEGORIES:
            raise RuleError(rule, RULE_UNKNOWN_COMMAND)
        chosen = [each for each, categories in commands.items() if name in categories]
    elif name in commands:
        chosen = [name]
    elif is_allowed and b"|" in name:
        _allow_first_argument(selector, rule, commands)
        chosen = []
    else:
        raise RuleError(rule, RULE_UNKNOWN_COMMAND)
    for each in chosen:
        _change(selector, each, commands, is_allowed=is_allowed)
    _note(selector, rule[:1] + name)


def _change(selector: Selector, name: bytes, commands: Commands, *, is_allowed: bool) -> None:
    """Allow or deny a command, with all of its subcommands."""
    names = {name} | {each for each in commands if each.startswith(name + b"|")}
    if is_allowed:
        selector.commands |= names
    else:
        known = set(commands) if selector.allows_all_commands else selector.commands
        selector.commands = known - names
        selector.allows_all_commands = False
    for each in names:
        selector.first_arguments.pop(each, None)


def _allow_first_argument(selector: Selector, rule: bytes, commands: Commands) -> None:
    name, _, argument = rule[1:].lower().rpartition(b"|")
    if name not in commands:
        raise RuleError(rule, RULE_UNKNOWN_COMMAND)
    if b"|" in name:
        raise RuleError(rule, RULE_OF_SUBCOMMAND)
    if not argument:
        raise RuleError(rule, RULE_SYNTAX)
    if any(each.startswith(name + b"|") for each in commands):
        raise RuleError(rule, RULE_UNKNOWN_COMMAND)
    words = selector.first_arguments.setdefault(name, [])
    if argument not in words:
        words.append(argument)


def _note(selector: Selector, rule: bytes) -> None:
    """Add a rule to the description, and remove those that it replaces."""
    name = rule[1:]
    selector.command_rules = [
        each for each in selector.command_rules if each[1:] != name and not each[1:].startswith(name + b"|")
    ]
    selector.command_rules.append(rule)
