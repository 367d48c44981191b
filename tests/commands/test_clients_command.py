"""CLIENT: what a client says of itself, sees of the others, and does to them."""

from __future__ import annotations

import re
import time

import pytest
from instances import Bench, Client
from servers import GodisProcess, Raw, encode, parse, wait_until
from tables import for_each

from errors import MAXAGE_NOT_AN_INTEGER, MAXAGE_NOT_POSITIVE, NO_SUCH_CLIENT, CommandError
from replies import HELD_BACK, NO_REPLY, OK, Farewell

REFUSED = [
    "CLIENT",
    "CLIENT NOSUCH",
    "CLIENT ID 3",
    "CLIENT SETNAME",
    "CLIENT SETNAME a\x01b",
    "CLIENT SETNAME é",
    "CLIENT GETNAME x",
    "CLIENT INFO x",
    "CLIENT LIST nosuch",
    "CLIENT LIST TYPE",
    "CLIENT LIST TYPE nosuch",
    "CLIENT LIST TYPE normal x",
    "CLIENT LIST ID",
    "CLIENT LIST ID x",
    "CLIENT LIST ID 1 x",
    "CLIENT KILL",
    "CLIENT KILL 1.2.3.4:5",
    "CLIENT KILL ID",
    "CLIENT KILL ID x",
    "CLIENT KILL ID 0",
    "CLIENT KILL ID -1",
    "CLIENT KILL ID 1 ADDR",
    "CLIENT KILL TYPE nosuch",
    "CLIENT KILL USER nosuch",
    "CLIENT KILL SKIPME perhaps",
    "CLIENT KILL NOSUCH x",
    "CLIENT REPLY",
    "CLIENT REPLY perhaps",
    "CLIENT NO-EVICT",
    "CLIENT NO-EVICT perhaps",
    "CLIENT PAUSE",
    "CLIENT PAUSE x",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE 99999999999999999999",
    "CLIENT PAUSE 0 perhaps",
    "CLIENT pause 0 ALL x",
    "CLIENT UNPAUSE x",
]
ANSWERED = [
    "CLIENT SETNAME me",
    "CLIENT SETNAME !~",
    "CLIENT GETNAME",
    "CLIENT LIST TYPE replica",
    "CLIENT LIST TYPE SLAVE",
    "CLIENT LIST TYPE master",
    "CLIENT LIST TYPE pubsub",
    "CLIENT LIST ID 999999999",
    "CLIENT KILL ID 999999999",
    "CLIENT KILL TYPE pubsub",
    "CLIENT KILL ADDR 1.2.3.4:5 LADDR 1.2.3.4:5 USER default SKIPME NO",
    "CLIENT REPLY ON",
    "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT OFF",
    "CLIENT PAUSE 0",
    "CLIENT PAUSE 0 write",
    "CLIENT UNPAUSE",
]


def fields(line: bytes) -> dict[bytes, bytes]:
    """Take a line of CLIENT LIST apart."""
    assert line.endswith(b"\n")
    return dict(field.split(b"=", 1) for field in line[:-1].split(b" "))


@for_each("line", REFUSED)
def test_a_refusal_is_worded_as_in_redis(line: str, bench: Bench, real: Raw) -> None:
    wire = bench.connect().wire(*line.split(" "))
    assert wire.startswith(b"-")
    assert wire == real.ask(*line.split(" "))


@pytest.mark.parametrize("resp", [2, 3])
def test_answers_are_those_of_redis(resp: int, bench: Bench, real: Raw) -> None:
    client = bench.connect()
    client.wire("HELLO", resp)
    real.ask("HELLO", resp)
    for line in ANSWERED:
        assert client.wire(*line.split(" ")) == real.ask(*line.split(" ")), line


@pytest.mark.parametrize("resp", [2, 3])
def test_a_client_is_described_in_the_fields_of_redis_and_two_of_7_2(resp: int, bench: Bench, real: Raw) -> None:
    client = bench.connect()
    client.wire("HELLO", resp)
    real.ask("HELLO", resp)
    for request in ("INFO", "LIST"):
        ours, theirs = client.wire("CLIENT", request), real.ask("CLIENT", request)
        assert ours[:1] == theirs[:1] == (b"$" if resp == 2 else b"=")
        names = [re.findall(rb"([a-z-]+)=", wire.split(b"\n")[1]) for wire in (ours, theirs)]
        assert names[0] == [*names[1], b"lib-name", b"lib-ver"]


# ---- the client itself


def test_each_client_has_an_id_that_none_had_before(bench: Bench) -> None:
    ids = [bench.connect().ask("CLIENT", "ID") for _ in range(3)]
    assert ids == [1, 2, 3]


def test_a_client_without_a_name_has_none(bench: Bench) -> None:
    client = bench.connect()
    assert client.ask("CLIENT", "GETNAME") is None
    assert client.ask("CLIENT", "SETNAME", "me") == OK
    assert client.ask("CLIENT", "GETNAME") == b"me"
    assert client.ask("CLIENT", "SETNAME", "") == OK
    assert client.ask("CLIENT", "GETNAME") is None


def test_setinfo_keeps_name_and_version_of_the_library(bench: Bench) -> None:
    client = bench.connect()
    assert client.ask("CLIENT", "SETINFO", "lib-name", "redis-py(x_v1)") == OK
    assert client.ask("CLIENT", "SETINFO", "LIB-VER", "8.0") == OK
    described = fields(client.ask("CLIENT", "INFO"))
    assert (described[b"lib-name"], described[b"lib-ver"]) == (b"redis-py(x_v1)", b"8.0")


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        ("lib-name", "a b", b"ERR lib-name cannot contain spaces, newlines or special characters."),
        ("LIB-VER", "1\n2", b"ERR LIB-VER cannot contain spaces, newlines or special characters."),
        ("colour", "red", b"ERR Unrecognized option 'colour'"),
    ],
)
def test_setinfo_refuses_in_the_words_of_redis_7_2(attribute: str, value: str, text: bytes, bench: Bench) -> None:
    assert bench.connect().ask("CLIENT", "SETINFO", attribute, value).text == text


def test_reply_off_drops_every_reply_until_on(bench: Bench) -> None:
    client = bench.connect()
    requests = ["CLIENT REPLY OFF", "PING", "NOSUCH", "CLIENT REPLY SKIP", "PING", "CLIENT REPLY ON", "PING"]
    wires = [client.wire(*line.split()) for line in requests]
    assert wires == [b"", b"", b"", b"", b"", b"+OK\r\n", b"+PONG\r\n"]


def test_reply_skip_drops_the_next_reply_only(bench: Bench) -> None:
    client = bench.connect()
    requests = ["CLIENT REPLY SKIP", "GET", "PING", "CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING", "PING"]
    assert [client.wire(*line.split()) for line in requests] == [b"", b"", b"+PONG\r\n", b"", b"", b"", b"+PONG\r\n"]
    assert client.ask("CLIENT", "REPLY", "SKIP") is NO_REPLY


def test_reset_behind_reply_skip_is_not_answered_and_ends_it(bench: Bench) -> None:
    client = bench.connect()
    requests = ["CLIENT REPLY SKIP", "RESET", "PING", "CLIENT REPLY OFF", "RESET", "PING"]
    wires = [client.wire(*line.split()) for line in requests]
    assert wires == [b"", b"", b"+PONG\r\n", b"", b"+RESET\r\n", b"+PONG\r\n"]


def test_reply_skip_and_then_on_is_answered(bench: Bench) -> None:
    client = bench.connect()
    assert client.wire("CLIENT", "REPLY", "SKIP") == b""
    assert client.wire("CLIENT", "REPLY", "ON") == b"+OK\r\n"
    assert client.wire("PING") == b"+PONG\r\n"


# ---- seeing the others


def test_a_line_tells_what_is_known(bench: Bench) -> None:
    client = bench.connect("10.0.0.7:4711")
    session = client.session
    session.descriptor = 9
    session.query_bytes, session.output_bytes = (lambda: 100), (lambda: 2000)
    client.ask("HELLO", 3, "SETNAME", "me")
    client.ask("SELECT", 4)
    bench.advance(7)
    session.active_ms = bench.store.now_ms
    bench.advance(2)
    described = fields(client.ask("CLIENT", "INFO"))
    expected = {
        "id": 1, "addr": "10.0.0.7:4711", "laddr": "127.0.0.1:6379", "fd": 9, "name": "me", "age": 9, "idle": 2,
        "flags": "N", "db": 4, "qbuf": 100, "omem": 2000, "tot-mem": 2100, "events": "rw", "cmd": "client|info",
        "user": "default", "resp": 3, "lib-name": "", "lib-ver": "",
    }  # fmt: skip
    assert {name: described[name.encode()].decode() for name in expected} == {
        name: str(value) for name, value in expected.items()
    }


@pytest.mark.parametrize(
    ("request_line", "letter"),
    [("CLIENT NO-EVICT ON", b"e"), ("CLIENT NO-TOUCH ON", b"T"), ("CLIENT NO-TOUCH OFF", b"N"), ("PING", b"N")],
)
def test_flags_of_a_client(request_line: str, letter: bytes, bench: Bench) -> None:
    client = bench.connect()
    client.ask(*request_line.split())
    assert fields(client.ask("CLIENT", "INFO"))[b"flags"] == letter


def test_a_client_of_the_unix_socket_is_marked() -> None:
    client = Bench(unixsocket="/run/godis.sock").connect("/run/godis.sock:0")
    assert fields(client.ask("CLIENT", "INFO"))[b"flags"] == b"U"


@pytest.mark.parametrize(
    ("last", "shown"), [(b"get", b"get"), (b"GeT", b"get"), (b"no\nsuch id=9", b"NULL"), (b"", b"NULL")]
)
def test_what_a_client_sent_cannot_spoil_the_list(last: bytes, shown: bytes, bench: Bench) -> None:
    client, other = bench.connect(), bench.connect()
    other.session.last_command = last
    lines = client.ask("CLIENT", "LIST").splitlines(keepends=True)
    assert [fields(line)[b"cmd"] for line in lines] == [b"client|list", shown]


def test_list_shows_all_a_type_or_those_asked_for(bench: Bench) -> None:
    clients = [bench.connect() for _ in range(3)]

    def ids(*words: str) -> list[bytes]:
        return [fields(line)[b"id"] for line in clients[0].ask("CLIENT", "LIST", *words).splitlines(keepends=True)]

    assert ids() == ids("TYPE", "normal") == [b"1", b"2", b"3"]
    assert ids("ID", "3", "99", "1") == [b"3", b"1"]
    assert ids("type", "pubsub") == []


# ---- ending them


def test_kill_by_address_closes_that_client(bench: Bench) -> None:
    client, other = bench.connect("10.0.0.1:1"), bench.connect("10.0.0.2:2")
    assert client.ask("CLIENT", "KILL", "10.0.0.2:2") == OK
    assert bench.killed == [other.session]
    assert client.ask("CLIENT", "KILL", "10.0.0.2:2").text == NO_SUCH_CLIENT


def test_kill_of_oneself_is_answered_before_the_end(bench: Bench) -> None:
    client = bench.connect("10.0.0.1:1")
    reply = client.ask("CLIENT", "KILL", "10.0.0.1:1")
    assert type(reply) is Farewell
    assert client.session.closing
    assert bench.killed == []


KILLS = [
    ("ID 2", [2]),
    ("ID 1", []),
    ("ID 1 SKIPME no", [1]),
    ("ID 1 SKIPME yes", []),
    ("MAXAGE 1", []),
    ("ADDR 10.0.0.3:1", [3]),
    ("LADDR 127.0.0.1:6379", [2, 3]),
    ("LADDR 127.0.0.1:6379 SKIPME no", [1, 2, 3]),
    ("TYPE normal", [2, 3]),
    ("TYPE replica", []),
    ("USER default", [2, 3]),
    ("ADDR 10.0.0.3:1 ID 2", []),
    ("ADDR 10.0.0.2:1 ID 2 TYPE normal USER default", [2]),
    ("SKIPME yes SKIPME no ID 1", [1]),
]


@for_each(("words", "closed"), KILLS)
def test_kill_closes_all_that_meet_every_filter(words: str, closed: list[int], bench: Bench) -> None:
    clients = [bench.connect(f"10.0.0.{number}:1") for number in (1, 2, 3)]
    assert clients[0].ask("CLIENT", "KILL", *words.split()) == len(closed)
    assert [session.id for session in bench.killed] == [number for number in closed if number != 1]
    assert clients[0].session.closing == (1 in closed)


def test_kill_by_age_spares_who_came_later(bench: Bench) -> None:
    client = bench.connect()
    bench.advance(10)
    bench.connect()
    assert client.ask("CLIENT", "KILL", "MAXAGE", 5) == 0
    assert client.ask("CLIENT", "KILL", "MAXAGE", 5, "SKIPME", "no") == 1
    assert client.session.closing
    assert client.ask("CLIENT", "KILL", "MAXAGE", 0).text == MAXAGE_NOT_POSITIVE
    assert client.ask("CLIENT", "KILL", "MAXAGE", "x").text == MAXAGE_NOT_AN_INTEGER


def test_a_bad_filter_kills_nobody(bench: Bench) -> None:
    client, _ = bench.connect(), bench.connect()
    assert isinstance(client.ask("CLIENT", "KILL", "ID", 2, "USER", "nosuch"), CommandError)
    assert bench.killed == []


# ---- pausing them


def waits(client: Client, *words: str) -> bool:
    return client.ask(*words) is HELD_BACK


def test_a_pause_holds_all_commands_until_it_is_over(bench: Bench) -> None:
    client = bench.connect()
    assert client.ask("CLIENT", "PAUSE", 1500) == OK
    assert waits(client, "GET", "a")
    assert waits(client, "SET", "a", "1")
    bench.advance(1.4)
    assert waits(client, "PING")
    bench.advance(0.1)
    assert client.ask("SET", "a", "1") == OK


def test_a_pause_of_writes_lets_others_read(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CLIENT", "PAUSE", 1500, "WRITE")
    assert waits(client, "SET", "a", "1")
    assert client.ask("GET", "a") is None
    assert client.ask("PING") == b"PONG"


def test_unpause_ends_a_pause_and_wakes_who_waits(bench: Bench) -> None:
    client = bench.connect()
    woken: list[int] = []
    bench.instance.resumed = lambda: woken.append(bench.store.now_ms)
    client.ask("CLIENT", "PAUSE", 1500)
    woken.clear()
    assert client.ask("CLIENT", "UNPAUSE") == OK
    assert woken == [bench.store.now_ms]
    assert client.ask("PING") == b"PONG"


def test_a_pause_that_holds_can_only_become_longer_and_stricter(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CLIENT", "PAUSE", 2000, "WRITE")
    client.ask("CLIENT", "PAUSE", 100, "ALL")
    bench.advance(1.9)
    assert waits(client, "GET", "a")
    bench.advance(0.1)
    assert client.ask("GET", "a") is None
    client.ask("CLIENT", "PAUSE", 100, "WRITE")
    assert client.ask("GET", "a") is None


def test_the_longest_pause_lasts_until_it_is_ended(bench: Bench) -> None:
    """Redis 7.0 takes it too, but lets the sum overflow, and does not pause at all."""
    client = bench.connect()
    assert client.ask("CLIENT", "PAUSE", 2**63 - 1) == OK
    bench.advance(3e9)
    assert waits(client, "PING")
    assert client.ask("CLIENT", "UNPAUSE") == OK
    assert client.ask("PING") == b"PONG"


def test_a_command_with_a_wrong_number_of_words_is_refused_even_in_a_pause(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CLIENT", "PAUSE", 1500)
    assert isinstance(client.ask("GET"), CommandError)


def test_help_names_every_subcommand(bench: Bench) -> None:
    first, *lines = bench.connect().ask("CLIENT", "HELP")
    assert first.startswith(b"CLIENT <subcommand>")
    assert {line.split()[0] for line in lines[::2]} >= {b"ID", b"KILL", b"PAUSE", b"NO-TOUCH"}
    assert all(line.startswith(b"    ") for line in lines[1::2])


# ---- with the server


@pytest.mark.parametrize("packets", ["one", "many"])
def test_reply_modes_hold_however_the_requests_arrive(packets: str, godis: GodisProcess) -> None:
    requests = [
        "CLIENT REPLY SKIP",
        "GET",
        "ECHO 1",
        "CLIENT REPLY OFF",
        "SET a 1",
        "NOSUCH",
        "CLIENT REPLY ON",
        "GET a",
    ]
    wires = [encode(*line.split()) for line in requests]
    with godis.raw() as client:
        for data in [b"".join(wires)] if packets == "one" else wires:
            client.send(data)
        assert client.read_exactly(19) == b"$1\r\n1\r\n+OK\r\n$1\r\n1\r\n"


def test_a_client_that_ends_itself_is_answered_first(godis: GodisProcess) -> None:
    for form in (["{addr}"], ["ADDR", "{addr}", "SKIPME", "no"], ["ID", "{id}", "SKIPME", "no"]):
        with godis.raw() as client:
            me = fields(client.ask("CLIENT", "INFO").split(b"\r\n")[1])
            words = [word.format(addr=me[b"addr"].decode(), id=me[b"id"].decode()) for word in form]
            client.send(encode("CLIENT", "KILL", *words) + encode("PING"))
            assert client.read_all() == (b"+OK\r\n" if len(form) == 1 else b":1\r\n")


def test_a_killed_client_is_not_listed_any_more(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        number = parse(other.ask("CLIENT", "ID"))
        client.send(encode("CLIENT", "KILL", "ID", number) + encode("CLIENT", "LIST", "ID", number))
        assert (client.read_reply(), client.read_reply()) == (b":1\r\n", b"$0\r\n\r\n")
        assert other.is_closed()


def test_the_list_shows_addresses_descriptors_and_what_is_not_read_yet(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        other.ask("PING")
        other.send(encode("SET", "a", "x" * 1000)[:500])

        def described() -> dict[bytes, bytes]:
            (line,) = [
                line
                for line in parse(client.ask("CLIENT", "LIST")).splitlines(keepends=True)
                if fields(line)[b"addr"] == b"127.0.0.1:%d" % other.sock.getsockname()[1]
            ]
            return fields(line)

        wait_until(lambda: described()[b"qbuf"] == b"500", what="500 bytes of half a request are shown")
        assert described()[b"laddr"] == b"127.0.0.1:%d" % godis.port
        assert int(described()[b"fd"]) > 2


def test_debug_sleep_holds_up_all_clients(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        other.ask("PING")
        start = time.monotonic()
        client.send(encode("DEBUG", "SLEEP", "0.3"))
        assert client.read_reply() == b"+OK\r\n"
        assert other.ask("PING") == b"+PONG\r\n"
        assert time.monotonic() - start >= 0.3


def test_errors_are_counted_by_the_server(godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.ask("NOSUCH")
        client.ask("HELLO", 9)
        assert b"errorstat_ERR:count=1\r\nerrorstat_NOPROTO:count=1\r\n" in client.ask("INFO", "errorstats")


# ---- a clock that is set

HOUR_MS = 3_600_000


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_clock_that_is_set_makes_nobody_idle_and_no_pause_longer_or_shorter(bench: Bench, jump_ms: int) -> None:
    early, late = bench.connect(), bench.connect()
    bench.advance(7)
    early.session.active_ms = bench.store.now_ms
    early.ask("CLIENT", "PAUSE", 5000)
    looked_ms = bench.store.now_ms
    bench.store.tick(looked_ms + jump_ms + 400)  # the jump, and 0.4 s until somebody looks
    late.session.active_ms = bench.store.now_ms
    bench.instance.follow_clock(jump_ms, looked_ms + jump_ms)
    lines = dict(zip(("early", "late"), early.ask("CLIENT", "LIST").decode().splitlines(), strict=True))
    assert " age=7 idle=0 " in lines["early"]
    assert " age=7 idle=0 " in lines["late"]
    bench.advance(4.5)
    assert waits(early, "GET", "a")
    bench.advance(0.1)
    assert early.ask("GET", "a") is None
    assert "uptime_in_seconds:12\r" in early.ask("INFO", "server").decode()


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_pause_set_between_a_jump_of_the_clock_and_the_look_at_it_is_right_as_it_is(
    bench: Bench, jump_ms: int
) -> None:
    client = bench.connect()
    looked_ms = bench.store.now_ms
    bench.store.tick(looked_ms + jump_ms + 100)
    client.ask("CLIENT", "PAUSE", 5000)
    bench.advance(0.3)
    bench.instance.follow_clock(jump_ms, looked_ms + jump_ms)
    bench.advance(4.6)
    assert waits(client, "GET", "a")
    bench.advance(0.1)
    assert client.ask("GET", "a") is None
