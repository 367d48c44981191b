"""The rules of users, and what they permit; against_redis/test_permissions.py compares it with Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import errors
from errors import CommandError
from users.registry import LogEntry, UserFileError, Users
from users.rules import RuleError, changed
from users.user import READ, WRITE, Need, User, hash_of

COMMANDS = {
    b"get": [b"@read", b"@fast"],
    b"set": [b"@write"],
    b"select": [b"@connection"],
    b"config": [b"@slow"],
    b"config|get": [b"@admin"],
    b"config|set": [b"@admin"],
}
HASH = hash_of(b"secret")


def user(*rules: str) -> User:
    return changed(User(b"u"), [rule.encode() for rule in rules], COMMANDS)


def allows(
    of: User, command: str, *keys: tuple[str, int], first: str | None = None, channels: tuple[str, ...] = ()
) -> bool:
    wanted = [(key.encode(), access) for key, access in keys]
    names = [name.encode() for name in channels]
    need = Need(command.encode(), first.encode() if first is not None else None, False, wanted, names, False)
    return of.denial(need) is None


@pytest.mark.parametrize(
    ("rules", "allowed", "denied"),
    [
        ("+get", "get", "set config|get"),
        ("+@all", "get set config|get nosuch", ""),
        ("+@all -get", "set config|get config", "get nosuch"),
        ("+@all -@all", "", "get set"),
        ("+@read", "get", "set"),
        ("+@READ +SET", "get set", "select"),
        ("+config", "config config|get config|set", "get"),
        ("+config|get", "config|get", "config config|set"),
        ("+config -config|set", "config|get config", "config|set"),
        ("+@slow", "config config|get config|set", "get"),
        ("+@all -@admin +config|get", "get config|get", "config|set"),
        ("allcommands nocommands", "", "get"),
        ("+get reset", "", "get"),
        ("(+get) (+set)", "get set", "select"),
        ("(+get) clearselectors", "", "get"),
    ],
)
def test_commands_are_allowed_by_the_last_rule_about_them(rules: str, allowed: str, denied: str) -> None:
    made = user(*rules.split())
    assert [name for name in allowed.split() if not allows(made, name)] == []
    assert [name for name in denied.split() if allows(made, name)] == []


def test_a_command_may_be_allowed_with_one_first_argument() -> None:
    made = user("+select|0")
    assert allows(made, "select", first="0")
    assert not allows(made, "select", first="1")
    assert not allows(made, "select")
    assert not allows(user("+select|0", "-select"), "select", first="0")


def test_keys_are_allowed_by_the_kind_of_access() -> None:
    made = user("+get", "~both*", "%R~read*", "%W~write*", "%R~ab", "%W~ab")
    for key, access, is_allowed in [
        ("both1", READ | WRITE, True),
        ("read1", READ, True),
        ("read1", WRITE, False),
        ("read1", 0, True),
        ("write1", WRITE, True),
        ("write1", READ, False),
        ("ab", READ | WRITE, True),
        ("other", 0, False),
    ]:
        assert allows(made, "get", (key, access)) == is_allowed, key
    assert not allows(made, "get", ("both1", READ), ("other", READ))
    assert allows(user("+get", "allkeys"), "get", ("x", READ | WRITE))
    assert not allows(user("+get", "allkeys", "resetkeys"), "get", ("x", READ))


def test_all_of_a_request_must_be_allowed_by_one_selector() -> None:
    made = user("+get", "~a", "(+set ~b)", "(+get", "~c)")
    assert allows(made, "get", ("a", READ))
    assert allows(made, "set", ("b", WRITE))
    assert allows(made, "get", ("c", READ))
    assert not allows(made, "set", ("a", WRITE))
    assert not allows(made, "get", ("a", READ), ("c", READ))


def test_channels_are_matched_and_patterns_must_be_those_allowed() -> None:
    made = user("+get", "&news.*")
    assert allows(made, "get", channels=("news.a",))
    assert not allows(made, "get", channels=("news.a", "other"))
    assert made.allows_channel(b"news.*", is_pattern=True)
    assert not made.allows_channel(b"news.a*", is_pattern=True)
    assert user("&*").allows_channel(b"anything*", is_pattern=True)


def test_passwords_let_in_who_is_on() -> None:
    made = user("on", ">secret", ">other", "<other", f"#{hash_of(b'third').decode()}")
    assert [made.accepts(password) for password in (b"secret", b"other", b"third", b"")] == [True, False, True, False]
    assert not user(">secret").accepts(b"secret"), "it is off"
    assert user("on", "nopass").accepts(b"anything")
    assert not user("on", "nopass", ">secret").accepts(b"anything")
    assert not user("on", "nopass", "resetpass").accepts(b"")


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("foo", errors.RULE_SYNTAX),
        ("+nosuch", errors.RULE_UNKNOWN_COMMAND),
        ("-nosuch", errors.RULE_UNKNOWN_COMMAND),
        ("-select|0", errors.RULE_UNKNOWN_COMMAND),
        ("+@nosuch", errors.RULE_UNKNOWN_COMMAND),
        ("+config|nosuch", errors.RULE_UNKNOWN_COMMAND),
        ("+config|get|x", errors.RULE_OF_SUBCOMMAND),
        ("+get|", errors.RULE_SYNTAX),
        ("~* ~a", errors.RULE_AFTER_ALL_KEYS),
        ("&* &a", errors.RULE_AFTER_ALL_CHANNELS),
        ("%X~a", errors.RULE_SYNTAX),
        ("%RR~a", errors.RULE_SYNTAX),
        ("%~a", errors.RULE_SYNTAX),
        ("#12", errors.RULE_BAD_HASH),
        ("!12", errors.RULE_BAD_HASH),
        ("<nosuch", errors.RULE_NO_PASSWORD),
        ("(on)", errors.RULE_SYNTAX),
        ("~" + "a" * 2000, errors.PATTERN_TOO_LONG.removeprefix(b"ERR ")),
    ],
)
def test_a_rule_that_does_not_apply_changes_nothing(rules: str, reason: bytes) -> None:
    before = user("on", "+get")
    with pytest.raises(RuleError) as raised:
        changed(before, [b"+set", *rules.encode().split()], COMMANDS)
    assert raised.value.reason == reason
    assert not allows(before, "set")


def test_a_selector_must_be_closed() -> None:
    with pytest.raises(CommandError, match="Unmatched"):
        user("+get", "(+set", "~a")
    with pytest.raises(CommandError, match="Unmatched"):
        user("nosuch", "(+set")


RULES = """
    on off nopass resetpass >a >b +get -get +@admin -@admin +config|get -config|get +select|0 allcommands nocommands ~a*
    %R~b %W~b %RW~* resetkeys &c resetchannels allchannels reset skip-sanitize-payload clearselectors
"""


@given(st.lists(st.sampled_from([*RULES.split(), "(+get ~x &y)", "(+@all ~*)"]), max_size=12))
def test_the_description_of_a_user_makes_the_same_user(rules: list[str]) -> None:
    try:
        made = user(*rules)
    except RuleError:
        return
    words = made.describe().split(b" ", 2)[2]
    again = changed(User(b"u"), words.split(), COMMANDS)
    assert again.describe() == made.describe()
    assert again.is_restricted == made.is_restricted
    for name in (*COMMANDS, b"nosuch"):
        for key in (b"a1", b"b", b"x"):
            need = Need(name, b"0", False, [(key, READ)], [], False)
            assert (made.denial(need) is None) == (again.denial(need) is None)


# ---- the file


def test_a_file_of_users_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = str(tmp_path / "users.acl")
    users = Users()
    users.put(changed(User(b"bob"), [b"on", b">x", b"~a*", b"+get", b"(+set ~b)"], COMMANDS))
    users.save(path)
    assert (tmp_path / "users.acl").stat().st_mode & 0o77 == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["users.acl"], "no copy is left"
    others = Users()
    assert others.load(path, COMMANDS) == []
    assert others.describe() == users.describe()


def test_loading_returns_who_has_changed_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    users = Users()
    bob, eve, ann = (changed(User(name), [b"on", b"+get"], COMMANDS) for name in (b"bob", b"eve", b"ann"))
    for each in (bob, eve, ann):
        users.put(each)
    path.write_text("# some users\n\nuser bob on +get\nuser eve on +set\n")
    assert users.load(str(path), COMMANDS) == [eve, ann]
    assert sorted(users.by_name) == [b"bob", b"default", b"eve"]


def test_a_file_without_the_default_user_leaves_it_its_password(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user bob on +get\n")
    users = Users()
    users.follow_password(b"secret")
    users.load(str(path), COMMANDS)
    assert users.default.accepts(b"secret")
    assert not users.default.accepts(b"")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"usr x", "users.acl:1: should start with user keyword"),
        (b"user", "users.acl:1: should start with user keyword"),
        (b"user a on\nuser a off", "users.acl:2: Duplicate user 'a' found"),
        (b"user a on +nosuch", "Error in applying operation +nosuch: Unknown command or category name in ACL"),
        (b"user a on ( +get", "Unmatched parenthesis in acl selector starting at '('"),
        (b"user a foo\nuser b bar", "users.acl:2: Error in applying operation bar: Syntax error"),
        (b"user \xff on +\xff", "Unknown command"),
    ],
)
def test_a_file_with_an_error_changes_nothing(tmp_path: Path, text: bytes, problem: str) -> None:
    path = tmp_path / "users.acl"
    path.write_bytes(text)
    users = Users()
    before = users.describe()
    with pytest.raises(UserFileError) as raised:
        users.load(str(path), COMMANDS)
    assert problem in str(raised.value)
    assert users.describe() == before


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nosuch", tmp_path):
        with pytest.raises(UserFileError, match=str(path)):
            Users().load(str(path), COMMANDS)


# ---- the log


def entry(name: bytes, at_ms: int) -> LogEntry:
    return LogEntry("key", "toplevel", name, b"u", b"", at_ms, at_ms, 0)


def test_the_same_denial_is_counted_for_a_minute() -> None:
    users = Users()
    for name, at_ms in [(b"a", 0), (b"b", 1000), (b"a", 60_000), (b"a", 130_000)]:
        users.log_denial(entry(name, at_ms), 10)
    assert [(each.name, each.count, each.created_ms) for each in users.log] == [
        (b"a", 1, 130_000),
        (b"a", 2, 0),
        (b"b", 1, 1000),
    ]
    users.log_denial(entry(b"c", 130_000), 2)
    assert [each.name for each in users.log] == [b"c", b"a"]
