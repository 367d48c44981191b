"""PING, ECHO, AUTH, HELLO, SELECT, QUIT, RESET: alone, and beside the real Redis."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator

import pytest
from instances import Bench
from servers import Raw, RedisProcess
from tables import for_each

from commands import TABLE
from errors import HELLO_UNAUTHENTICATED, NO_AUTH, WRONG_PASSWORD
from replies import OK, Farewell, Status
from users.user import hash_of
from version import HELLO_VERSION

# Each is what one client asks, one request after the other.
CONVERSATIONS = [
    ["PING", "ping hello", "PING a b"],
    ["ECHO hello", "ECHO", "ECHO a b"],
    ["SELECT 0", "SELECT 15", "SELECT 16", "SELECT -1", "SELECT x", "SELECT 01", "SELECT +1", "SELECT"],
    ["SELECT 2147483647", "SELECT 2147483648", "SELECT -2147483649", "SELECT 99999999999999999999"],
    ["AUTH", "AUTH x", "AUTH default x", "AUTH other x", "AUTH a b c"],
    ["HELLO", "HELLO 2", "HELLO 3", "HELLO", "HELLO 2"],
    ["HELLO 1", "HELLO 4", "HELLO x", "HELLO 3x", "HELLO 99999999999999999999"],
    ["HELLO 3 AUTH default", "HELLO 3 auth default x", "HELLO 2 AUTH other x", "HELLO 2 SETNAME", "HELLO 2 nosuch"],
    [
        "HELLO 3 SETNAME me",
        "CLIENT GETNAME",
        "HELLO 2 SETNAME a\x01b",
        "CLIENT GETNAME",
        "HELLO 3 AUTH other x SETNAME b",
    ],
    ["HELLO 3", "SELECT 3", "CLIENT SETNAME me", "RESET", "CLIENT GETNAME", "HELLO", "RESET now"],
    ["QUIT now"],
    ["QUIT"],
]
# The same before AUTH, on a server whose password is "secret".
LOCKED_CONVERSATIONS = [
    ["PING", "NOSUCH", "GET", "HELLO", "HELLO 3", "HELLO 9", "HELLO 3 nosuch", "HELLO 2 SETNAME me"],
    ["AUTH wrong", "AUTH default wrong", "AUTH other secret", "AUTH secret", "PING", "AUTH wrong", "PING"],
    ["HELLO 3 AUTH default wrong", "HELLO 3 AUTH default secret", "PING", "RESET", "PING"],
    ["AUTH a b c", "AUTH default secret", "PING"],
    ["RESET", "QUIT"],
]


def without_ids(wire: bytes) -> bytes:
    """Make the answers of HELLO on two servers the same where they may differ."""
    wire = wire.replace(b"$6\r\n7.0.15\r\n", b"$5\r\n%b\r\n" % HELLO_VERSION.encode())
    return re.sub(rb"\r\nid\r\n:\d+", b"\r\nid\r\n:0", wire)


@pytest.fixture
def locked_real(redis_server: RedisProcess) -> Iterator[Raw]:
    """A client that comes when the real Redis has a password."""
    with redis_server.raw() as operator, redis_server.raw() as spare:
        operator.ask("CONFIG", "SET", "requirepass", "secret")
        try:
            with redis_server.raw() as client:
                yield client
        finally:
            spare.ask("AUTH", "secret")
            spare.ask("CONFIG", "SET", "requirepass", "")


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids="; ".join)
def test_a_conversation_goes_as_with_redis(conversation: list[str], real: Raw) -> None:
    client = Bench().connect()
    for line in conversation:
        words = line.split(" ")
        assert without_ids(client.wire(*words)) == without_ids(real.ask(*words)), line


@pytest.mark.parametrize("conversation", LOCKED_CONVERSATIONS, ids="; ".join)
def test_a_conversation_before_auth_goes_as_with_redis(conversation: list[str], locked_real: Raw) -> None:
    client = Bench(requirepass="secret").connect()
    for line in conversation:
        words = line.split(" ")
        assert without_ids(client.wire(*words)) == without_ids(locked_real.ask(*words)), line


def test_before_auth_each_command_is_refused_as_by_redis(locked_real: Raw) -> None:
    client = Bench(requirepass="secret").connect()
    refused = 0
    for name, row in sorted(TABLE.items()):
        if name in (b"EXIT", b"POOL", b"READMODE", b"QUIT"):  # ours alone; QUIT closes: see the conversations
            continue
        for count in {1, abs(row.arity), abs(row.arity) + 1}:
            words = [name, *[b"1"] * (count - 1)]
            answer, expected = client.wire(*words), locked_real.ask(*words)
            if name in (b"ZRANK", b"ZREVRANK") or expected.startswith(b"-ERR unknown command"):  # a later Redis's
                continue
            assert answer == expected, words
            refused += answer.startswith(b"-NOAUTH")
    assert refused > 50


def test_hello_tells_what_the_server_is() -> None:
    client = Bench().connect()
    assert client.ask("HELLO", 3) == {
        b"server": b"redis",
        b"version": HELLO_VERSION.encode(),
        b"proto": 3,
        b"id": client.session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
    assert client.session.resp3


GREETINGS = [
    [],
    ["2"],
    ["x", "NOSUCH"],
    ["4", "NOSUCH"],
    ["3", "NOSUCH", "AUTH", "default", "wrong"],
    ["3", "SETNAME", "a", "NOSUCH"],
    ["3", "SETNAME", "a", "SETNAME", "b c"],
    ["3", "SETNAME", "a", "AUTH", "default", "wrong"],
    ["3", "SETNAME", "a", "SETNAME", "b"],
    ["3", "AUTH", "default", "wrong", "NOSUCH"],
    ["3", "AUTH", "other", "secret", "SETNAME", "a"],
    ["3", "AUTH", "default", "secret", "NOSUCH"],
    ["3", "AUTH", "default", "secret", "SETNAME", "b c"],
    ["3", "AUTH", "default", "secret", "AUTH", "default", "wrong"],
    ["3", "AUTH", "default", "secret", "SETNAME", "a"],
    ["3", "AUTH", "default"],
]


@for_each("password", ["", "secret"])
@for_each("words", GREETINGS, ids=" ".join)
def test_hello_checks_and_takes_its_options_in_redis_order(
    words: list[str], password: str, redis_server: RedisProcess
) -> None:
    """What stands before a wrong option holds: the next questions show what did."""
    after = [("CLIENT", "GETNAME"), ("AUTH", "secret"), ("CLIENT", "GETNAME")]
    client = Bench(requirepass=password).connect()
    with redis_server.raw() as operator:
        operator.ask("CONFIG", "SET", "requirepass", password)
        try:
            with redis_server.raw() as real:
                for question in [("HELLO", *words), *after]:
                    assert without_ids(client.wire(*question)) == without_ids(real.ask(*question))
        finally:
            operator.ask("CONFIG", "SET", "requirepass", "")


def test_a_hello_without_the_password_agrees_on_nothing() -> None:
    client = Bench(requirepass="secret").connect()
    client.ask("HELLO", 3)
    assert not client.session.resp3
    assert not client.session.lines_in_resp


def test_hello_and_password_in_one_request() -> None:
    client = Bench(requirepass="secret").connect()
    assert client.ask("HELLO", 3).text == HELLO_UNAUTHENTICATED
    assert client.ask("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "me")[b"proto"] == 3
    assert client.session.name == b"me"
    assert client.ask("PING") == b"PONG"


def test_the_password_may_be_any_bytes() -> None:
    client = Bench(requirepass=b"\xff\xc3\xa9".decode("utf-8", "surrogateescape")).connect()
    assert client.ask("AUTH", b"\xff\xc3").text == WRONG_PASSWORD
    assert client.ask("AUTH", b"\xff\xc3\xa9") == OK


def test_passwords_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, required: bytes) -> bool:
        compared.append((given, required))
        return given == required

    monkeypatch.setattr(hmac, "compare_digest", compare)
    client = Bench(requirepass="secret").connect()
    assert client.ask("AUTH", "wrong").text == WRONG_PASSWORD
    assert client.ask("AUTH", "secret") == OK
    assert compared == [(hash_of(b"wrong"), hash_of(b"secret")), (hash_of(b"secret"), hash_of(b"secret"))]


def test_a_wrong_password_does_not_log_out() -> None:
    client = Bench(requirepass="secret").connect()
    client.ask("AUTH", "secret")
    assert client.ask("AUTH", "wrong").text == WRONG_PASSWORD
    assert client.ask("GET", "a") is None


def test_a_select_is_for_one_client_only() -> None:
    bench = Bench()
    one, other = bench.connect(), bench.connect()
    one.ask("SELECT", 3)
    one.ask("SET", "a", "1")
    assert other.ask("GET", "a") is None
    other.ask("SELECT", 3)
    assert other.ask("GET", "a") == b"1"


@pytest.mark.parametrize("name", ["QUIT", "quit", "EXIT", "exit"])
def test_quit_and_exit_say_farewell_and_close(name: str) -> None:
    client = Bench().connect()
    reply = client.ask(name)
    assert type(reply) is Farewell
    assert reply == b"OK"
    assert client.session.closing


def test_reset_forgets_all_that_was_agreed() -> None:
    client = Bench(requirepass="secret").connect()
    client.ask("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "me")
    client.ask("SELECT", 3)
    client.ask("CLIENT", "NO-EVICT", "ON")
    client.ask("CLIENT", "SETINFO", "LIB-NAME", "kept")
    assert client.ask("RESET") == Status(b"RESET")
    session = client.session
    assert (session.resp3, session.name, session.db.index, session.no_evict) == (False, b"", 0, False)
    assert session.library_name == b"kept"
    assert client.ask("GET", "a").text == NO_AUTH


def test_reset_makes_a_muted_client_hear_again() -> None:
    client = Bench().connect()
    client.ask("CLIENT", "REPLY", "OFF")
    assert client.wire("PING") == b""
    assert client.wire("RESET") == b"+RESET\r\n"
    assert client.wire("PING") == b"+PONG\r\n"
