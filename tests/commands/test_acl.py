"""ACL, and users as clients meet them: AUTH, what is refused, and what a change of a user does to its clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from instances import Bench, Client
from servers import GodisProcess, Raw, parse

import errors
from errors import CommandError

NOPERM_KEY = b"NOPERM " + errors.NOT_PERMITTED["key"]
NOPERM_CHANNEL = b"NOPERM " + errors.NOT_PERMITTED["channel"]


def noperm(command: bytes) -> bytes:
    return b"NOPERM " + errors.NOT_PERMITTED["command"] % command


def text(reply: Any) -> Any:
    return reply.text if isinstance(reply, CommandError) else reply


@pytest.fixture
def admin(bench: Bench) -> Client:
    """A client of the default user."""
    return bench.connect()


def as_user(bench: Bench, admin: Client, rules: str, name: str = "lim") -> Client:
    """Return a client that is a new user with these rules."""
    assert admin.ask("ACL", "SETUSER", name, "reset", "on", ">pw", *rules.split()) == b"OK"
    client = bench.connect()
    assert client.ask("AUTH", name, "pw") == b"OK"
    return client


LIMITED = (
    "-@all +get +set +mget +copy +sort +publish +psubscribe +config|get +select|0 +multi +exec +discard ~a* %R~r* &c*"
)
CASES: list[tuple[str, Any]] = [
    ("GET a1", None),
    ("GET b", NOPERM_KEY),
    ("GET r1", None),
    ("SET a1 x", b"OK"),
    ("SET r1 x", NOPERM_KEY),
    ("SET a1 x GET", None),
    ("MGET a r b", NOPERM_KEY),
    ("COPY r1 a1", 0),
    ("COPY a1 r1", NOPERM_KEY),
    ("DEL a", noperm(b"del")),
    ("CONFIG GET save", {b"save": b""}),
    ("CONFIG SET save x", noperm(b"config|set")),
    ("CONFIG NOSUCH", errors.UNKNOWN_SUBCOMMAND % (b"NOSUCH", b"CONFIG")),
    ("CLIENT ID", noperm(b"client|id")),
    ("SELECT 0", b"OK"),
    ("SELECT 1", noperm(b"select")),
    ("PUBLISH c1 x", 0),
    ("PUBLISH x c1", NOPERM_CHANNEL),
    ("SORT a1 BY w_*", errors.SORT_PATTERN_DENIED % b"BY"),
    ("SORT a1 BY nosort", []),
    ("SORT a1 BY nosort GET w_*", errors.SORT_PATTERN_DENIED % b"GET"),
    ("SORT a1 GET w_*", errors.SORT_PATTERN_DENIED % b"GET"),
    ("AUTH default x", b"OK"),
    ("ACL WHOAMI", noperm(b"acl|whoami")),
]


@pytest.mark.parametrize(("request_line", "reply"), CASES)
def test_a_user_may_do_what_its_rules_say(bench: Bench, admin: Client, request_line: str, reply: Any) -> None:
    client = as_user(bench, admin, LIMITED)
    assert text(client.ask(*request_line.split())) == reply


UNREADABLE = [
    ("", "+get"),
    ("u", "+get|x y"),
    ("u", "+get| "),
    ("u", "(~a) +get)"),
]


@pytest.mark.parametrize(("name", "rule"), UNREADABLE)
def test_a_user_that_a_file_could_not_hold_is_refused(admin: Client, name: str, rule: str) -> None:
    assert text(admin.ask("ACL", "SETUSER", name, rule)) == errors.USER_CANNOT_BE_SAVED
    assert admin.ask("ACL", "USERS") == [b"default"]


def test_an_empty_rule_changes_nothing(admin: Client) -> None:
    assert admin.ask("ACL", "SETUSER", "default", "") == b"OK"


def test_a_script_reads_no_keys_that_its_user_may_not(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, "+@all ~a*")
    admin.ask("RPUSH", "a", "1")
    admin.ask("SET", "secret1", "x")
    for request in ("'GET', 'secret1'", "'SORT', 'a', 'GET', 'secret*'", "'SORT_RO', 'a', 'BY', 'secret*'"):
        assert isinstance(client.ask("EVAL", f"return redis.call({request})", 0), CommandError)
    assert client.ask("EVAL", "return redis.call('SORT', 'a', 'BY', 'nosort')", 0) == [b"1"]


def test_a_pipeline_by_column_is_checked(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, LIMITED)
    requests = [[b"SET", b"a1", b"x"], [b"SET", b"b1", b"x"], [b"SET", b"a2", b"x"]]
    replies: list[Any] = []
    while len(replies) < len(requests):
        replies += bench.engine.run(client.session, requests[len(replies) :])
    assert [text(reply) for reply in replies] == [b"OK", NOPERM_KEY, b"OK"]


def test_a_transaction_is_checked_when_it_is_queued_and_when_it_runs(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, LIMITED)
    client.ask("MULTI")
    assert text(client.ask("GET", "b")) == NOPERM_KEY
    assert text(client.ask("EXEC")) == errors.EXEC_ABORTED
    client.ask("MULTI")
    client.ask("SET", "a1", "x")
    client.ask("GET", "r1")
    admin.ask("ACL", "SETUSER", "lim", "-set")
    first, second = client.ask("EXEC")
    assert (text(first), second) == (noperm(b"set"), None)
    assert bench.log.records == []


def test_a_change_of_a_user_holds_at_once(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, "+@all allkeys allchannels")
    assert not client.session.restricted
    admin.ask("ACL", "SETUSER", "lim", "-set")
    assert text(client.ask("SET", "k", "v")) == noperm(b"set")
    admin.ask("ACL", "SETUSER", "lim", "+@all")
    assert client.ask("SET", "k", "v") == b"OK"
    assert not client.session.restricted, "it costs nothing again"


def test_clients_of_a_deleted_user_are_closed(bench: Bench, admin: Client) -> None:
    client, other = as_user(bench, admin, "+@all", "bob"), as_user(bench, admin, "+@all", "eve")
    assert admin.ask("ACL", "DELUSER", "bob", "nosuch") == 1
    assert bench.killed == [client.session]
    assert other.ask("ACL", "DELUSER", "eve") == 1
    assert other.session.closing
    assert text(admin.ask("ACL", "DELUSER", "default")) == errors.DEFAULT_USER_STAYS


def test_a_subscriber_is_closed_when_its_channel_is_no_longer_allowed(bench: Bench, admin: Client) -> None:
    stays, goes = as_user(bench, admin, "+subscribe &c*"), as_user(bench, admin, "+subscribe &c* &d", "eve")
    stays.ask("SUBSCRIBE", "c1")
    goes.ask("SUBSCRIBE", "c1", "d")
    admin.ask("ACL", "SETUSER", "eve", "resetchannels", "&c*")
    admin.ask("ACL", "SETUSER", "lim", "resetchannels", "&c1")
    assert bench.killed == [goes.session]


def test_the_default_user_without_a_password_needs_no_auth(bench: Bench, admin: Client) -> None:
    assert text(admin.ask("AUTH", "x")) == errors.AUTH_WITHOUT_PASSWORD
    assert admin.ask("AUTH", "default", "x") == b"OK"
    admin.ask("ACL", "SETUSER", "default", ">pw")
    new = bench.connect()
    assert text(new.ask("GET", "k")) == errors.NO_AUTH
    assert text(new.ask("AUTH", "x")) == errors.WRONG_PASSWORD
    assert new.ask("AUTH", "pw") == b"OK"
    assert admin.ask("GET", "k") is None, "who is in stays in"


def test_requirepass_is_the_password_of_the_default_user(bench: Bench, admin: Client) -> None:
    admin.ask("CONFIG", "SET", "requirepass", "pw")
    assert b"nopass" not in admin.ask("ACL", "GETUSER", "default")[b"flags"]
    assert text(bench.connect().ask("PING")) == errors.NO_AUTH
    admin.ask("CONFIG", "SET", "maxclients", "100")
    admin.ask("ACL", "SETUSER", "default", ">second")
    admin.ask("CONFIG", "SET", "maxclients", "101")
    assert bench.connect().ask("AUTH", "second") == b"OK", "another setting does not take it away"
    admin.ask("CONFIG", "SET", "requirepass", "")
    assert bench.connect().ask("PING") == b"PONG"


def test_a_user_that_is_off_cannot_log_in_and_reset_ends_a_login(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, "+@all")
    client.ask("RESET")
    assert client.ask("ACL", "WHOAMI") == b"default"
    admin.ask("ACL", "SETUSER", "lim", "off")
    assert text(client.ask("AUTH", "lim", "pw")) == errors.WRONG_PASSWORD
    assert text(client.ask("HELLO", "3", "AUTH", "lim", "pw")) == errors.WRONG_PASSWORD


def test_the_log_has_what_was_denied(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, LIMITED)
    client.ask("GET", "b")
    client.ask("GET", "b")
    client.ask("DEL", "a")
    client.ask("PUBLISH", "x", "y")
    client.ask("MULTI")
    client.ask("GET", "zzz")
    client.ask("DISCARD")
    client.ask("AUTH", "nosuch", "pw")
    shown = [
        (each[b"reason"], each[b"context"], each[b"object"], each[b"username"], each[b"count"])
        for each in admin.ask("ACL", "LOG")
    ]
    assert shown == [
        (b"auth", b"toplevel", b"AUTH", b"nosuch", 1),
        (b"key", b"multi", b"zzz", b"lim", 1),
        (b"channel", b"toplevel", b"x", b"lim", 1),
        (b"command", b"toplevel", b"del", b"lim", 1),
        (b"key", b"toplevel", b"b", b"lim", 2),
    ]
    assert len(admin.ask("ACL", "LOG", "2")) == 2
    assert admin.ask("ACL", "LOG", "RESET") == b"OK"
    assert admin.ask("ACL", "LOG") == []


def test_the_password_of_a_user_is_in_no_reply(bench: Bench, admin: Client) -> None:
    as_user(bench, admin, "+get ~a (+set ~b)")
    [described] = [line for line in admin.ask("ACL", "LIST") if b"lim" in line]
    assert described.startswith(b"user lim on sanitize-payload #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4f")
    user = admin.ask("ACL", "GETUSER", "lim")
    assert user[b"commands"] == b"-@all +get"
    assert user[b"selectors"] == [{b"commands": b"-@all +set", b"keys": b"~b", b"channels": b""}]


def test_genpass_makes_as_many_digits_as_asked(admin: Client) -> None:
    for bits, digits in [(1, 1), (4, 1), (5, 2), (256, 64), (4096, 1024)]:
        made = admin.ask("ACL", "GENPASS", bits)
        assert len(made) == digits
        int(made, 16)
    assert admin.ask("ACL", "GENPASS") != admin.ask("ACL", "GENPASS")
    for bits in (0, -1, 4097):
        assert text(admin.ask("ACL", "GENPASS", bits)) == errors.GENPASS_BITS


def test_without_a_file_nothing_is_loaded_or_saved(admin: Client) -> None:
    for subcommand in ("LOAD", "SAVE"):
        assert text(admin.ask("ACL", subcommand)) == errors.NO_ACL_FILE


def test_users_come_from_a_file_and_go_to_it(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user default on >root ~* &* +@all\nuser bob on >pw ~a* +get +set\n")
    with GodisProcess(tmp_path, "--aclfile", str(path)) as process:
        with process.client(password="root") as admin, process.client(username="bob", password="pw") as bob:
            assert bob.set("a1", "x")
            with pytest.raises(redis.exceptions.NoPermissionError):
                bob.set("b1", "x")
            assert admin.acl_setuser("eve", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get"])
            assert admin.acl_save()
            path.write_text(path.read_text() + "user eve off\n")
            with pytest.raises(redis.exceptions.ResponseError, match=r"users.acl:4: Duplicate user 'eve' found"):
                admin.acl_load()
            path.write_text("\n".join(path.read_text().splitlines()[1:3]))
            assert admin.acl_load()
            assert admin.acl_users() == ["default", "eve"]
        assert b"bob" not in (tmp_path / "log.txt").read_bytes(), "the log has no users"


def test_rules_may_name_each_command_of_redis_and_its_categories_hold_them(admin: Client, real: Raw) -> None:
    for name in parse(real.ask("COMMAND", "LIST")):
        assert admin.ask("ACL", "SETUSER", "x", b"+" + name) == b"OK", name
    for category in parse(real.ask("ACL", "CAT")):
        assert set(parse(real.ask("ACL", "CAT", category))) <= set(admin.ask("ACL", "CAT", category))


def test_what_is_refused_here_is_denied_by_the_rules_of_redis(bench: Bench, admin: Client) -> None:
    client = as_user(bench, admin, "+@all -cluster")
    assert text(client.ask("CLUSTER", "INFO")) == noperm(b"cluster")
    assert text(client.ask("READONLY")) == errors.NO_CLUSTER
