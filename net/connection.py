"""One client's connection: receive bytes, run the requests in them, encode the replies for the turn.

1. Replies are in the order of the requests.
2. A client delays the others by no more than its slowest request takes. Once a turn is late, the connection continues
   in a later turn: it first sends the replies that it has (`_drain`), and a long list in parts (`_pass_turn`). Of all
   connections that were late one continues a turn, so a hundred of them delay the others no more than one does.
3. The engine executes requests, `protocol` parses and encodes, the turn decides when replies leave, and the outbox
   sends them. The module does not know listeners or other connections.

    _receive      in the hub, when bytes can be read: parse, run, encode; for requests that never wait
    _answer_all   in the connection's greenlet, for all others: _run_part -> _settle what is not ready -> _spell

A connection has one read watcher as long as it lives. Its greenlet parks, and `_receive` switches to it only for
requests that may have to wait. A greenlet that parks for anything but bytes stops the read watcher first; otherwise the
watcher would wake it in the wrong place. All connections share one receive buffer, whose bytes are parsed before
anything else runs.

Refused: gevent's `socket.recv`, which costs a failed recv, an exception and two watcher calls a request.

The module has more than 500 lines because the way in the hub and the way in the greenlet answer alike, and change
together.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic, time
from typing import Any

import gevent
from gevent.event import Event

from commands import LONGEST_NAME_BYTES
from commands.execution import execute
from commands.help import with_hint
from commands.measured import finish_work
from engine import Engine
from errors import QUERY_TOO_BIG, CommandError
from log.reader import client_note
from net.messages import encoded_once, send_nothing
from net.outbox import Outbox
from net.scheduler import SLICE_SECONDS
from net.turn import Turn
from net.waiting import Wait
from protocol import (
    BLOCK_BYTES,
    OK_PIECES,
    TEXT_BLOCK_BYTES,
    HugeRequest,
    LongLine,
    RequestParser,
    TextRequest,
    aggregate,
    encode,
    encode_chunk,
    encode_head,
    encode_short,
    entries_parts,
    text_pieces,
)
from replies import (
    OK,
    QUEUED,
    Blocked,
    Deferred,
    Entries,
    LongArray,
    LongBulk,
    LongPairs,
    Messages,
    Pairs,
    Push,
    Replies,
    Reply,
    Work,
)
from session import Session
from wire.columns import Columns

TURN_OUTPUT_BYTES = 1 << 20  # a connection sends its replies before it makes more than this
OWN_SECONDS = 0.0003  # a connection may take so long even in a late turn: waiting for the next costs a tenth of it
NEVER = -1  # no length of the log's batch
MEMBERS = 500  # members of a list that are encoded before the clock is read
MEMBERS_OF_EXEC = 4  # the same of EXEC's reply, where each may be a list

logger = logging.getLogger("godis")


class Connection(Outbox):
    """One client: receives its requests, runs them, and answers them in order."""

    __slots__ = ("as_text", "engine", "logged", "messages", "messages_bytes", "parser", "run", "run_one", "wait")

    def __init__(self, turn: Turn, engine: Engine, sock: socket.socket, session: Session) -> None:
        super().__init__(turn, sock, session)
        self.engine = engine
        self.parser = RequestParser(turn.config.max_bulk_bytes, turn.config.query_buffer_bytes)
        self.parser.authenticated = session.authenticated
        self.run = engine.run
        self.run_one = engine.run_one
        self.logged = 0  # length of the log's batch when this connection began to run in this turn
        self.as_text = False  # messages go out as lines, because the client has subscribed by one
        self.messages: list[bytes] = []  # encoded, that came amid a reply; sent behind it
        self.messages_bytes = 0
        self.wait: Wait | None = None  # the last one
        session.push = self.push
        session.query_bytes = lambda: self.parser.pending_bytes
        session.output_bytes = lambda: self.outbox_bytes

    # ---- all of it runs in the connection's greenlet, except `_receive`

    def serve(self, shake_hands: Callable[[], bool] | None = None) -> None:
        """Serve the client until one side closes. Runs in the connection's own greenlet.

        `shake_hands` is called first; it returns False if the client is not to be served.
        """
        try:
            if shake_hands is None or shake_hands():
                self._serve()
                self._finish()
        except gevent.GreenletExit:
            pass
        except MemoryError:
            self.parser.forget()  # first, because logging takes memory, too
            logger.warning("dropped %s: no memory for its request", self.session.address)
        finally:
            if self.wait is not None:
                self.wait.cancel()
                self.wait = None
            self.readable.stop()
            self.readable.close()
            if self.writable is not None:
                self.writable.stop()
                self.writable.close()
            # The session must not refer to this object, which refers to it: only the collector would free that cycle.
            self.session.query_bytes = self.session.output_bytes = int
            self.session.push = send_nothing

    def _serve(self) -> None:
        session, parser = self.session, self.parser
        park = gevent.get_hub().switch
        self._start_reading()
        while True:
            requests, replies = park()  # until `_receive` switches back
            if requests is None:
                return
            pieces = self._answer_all(requests, replies)
            if parser.telnet_answers:
                pieces.append(parser.telnet_answers)
                parser.telnet_answers = b""
            if parser.error is not None and not session.closing:
                if not session.muted:
                    pieces.append(b"-%b\r\n" % parser.error)
                self.statistics.query_limit_disconnections += parser.error.endswith(QUERY_TOO_BIG)
                session.closing = True
            if pieces:
                self._queue_replies(pieces)
            if session.closing:
                return
            self._send_messages()

    def _receive(self) -> None:
        """Receive and run requests; switch to the greenlet if one waits. Runs in the hub when bytes can be read.

        It answers requests that ran to their end and have short replies; the greenlet handles all others. The greenlet
        alone would be enough. But the two switches, which copy its stack, cost 1.7 of the 12.5 µs of a SET at P=1, 8 %
        of one at P=16, and 3.8 of 26 µs with 5000 clients, whose stacks are in no cache.
        """
        turn, session, parser, statistics = self.turn, self.session, self.parser, self.statistics
        try:
            size = self.sock.recv_into(turn.receive_buffer)
            requests = parser.feed(turn.receive_buffer, size)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        except MemoryError as error:
            self.greenlet.throw(error)
            return
        if not size:
            if time() < turn.instance.turn_ends:  # else the next poll reports it again: thousands may close at once
                self.greenlet.switch((None, None))
            return
        session.active_ms = turn.store.now_ms
        statistics.input_bytes += size
        if turn.log.noted is not None:
            turn.log.begin_client()
        self.logged = logged = len(turn.log.pieces)
        replies: Sequence[Reply] | None = None
        if (type(requests) is list or type(requests) is Columns) and not (
            parser.text_seen or parser.error or session.muted or not requests
        ):
            pieces: list[bytes] | None = None
            if len(requests) == 1:
                reply = self.run_one(session, requests[0])
                replies = [reply]
                pieces = OK_PIECES if reply is OK else encode_short(replies, session.resp3)
            else:
                replies = self.run(session, requests)
                if len(replies) == len(requests):
                    pieces = encode_short(replies, session.resp3)
            if pieces is not None and not session.closing:
                statistics.commands_processed += len(replies)
                session.last_command = requests[-1][0]
                has_logged = len(turn.log.pieces) != logged
                if has_logged and turn.log.noted is not None:
                    self._note_client()
                turn.replies.append((self, pieces, has_logged))
                return
            if (
                isinstance(replies[-1], Blocked)
                and len(replies) == len(requests)
                and not session.closing
                and self._block_in_hub(requests[-1], replies[:-1], replies[-1])
            ):
                return
        self.greenlet.switch((requests, replies))

    def push(self, message: Push) -> None:
        """Send a message: at once, or behind the reply that is being made. It leaves at the end of the turn."""
        if self.as_text:
            pieces = [piece for each in message.each() for piece in text_pieces(each)]
        else:
            pieces = message.pieces.get(self.session.resp3) or encoded_once(message, self.session.resp3)
        if self.parked or self.session.unblock is not None:
            turn = self.turn
            turn.replies.append((self, pieces, False))
            turn.has_messages = True
        else:
            self.messages += pieces
            self.messages_bytes += sum(map(len, pieces))
            self._check_limit(self.messages_bytes)

    def _send_messages(self) -> None:
        if self.messages:
            self.turn.replies.append((self, self.messages, False))
            self.messages, self.messages_bytes = [], 0

    def _answer_all(self, requests: Iterable[list[bytes]], replies: Sequence[Reply] | None) -> list[bytes]:
        """Answer requests in order, and return what is still to be sent. `replies` are those of requests that have run.

        Requests that are not a sequence are parsed one by one, each after the one before it has run.
        """
        session = self.session
        if isinstance(requests, (list, Columns)):
            return self._answer(requests, [], replies)
        pieces: list[bytes] = []
        if type(requests) is LongLine and time() > self.turn.instance.turn_ends:
            pieces = self._drain(pieces, queued=True)
        until = time() + OWN_SECONDS
        for argv in requests:
            pieces = self._answer([argv], pieces, None)
            if session.closing or self.turn.instance.shutdown:
                break
            self.parser.authenticated = session.authenticated
            if (now := time()) > until and now > self.turn.instance.turn_ends:
                pieces, until = self._drain(pieces, queued=True), time() + OWN_SECONDS
        self.parser.authenticated = session.authenticated
        return pieces

    def _answer(
        self, requests: Sequence[list[bytes]], pieces: list[bytes], replies: Sequence[Reply] | None
    ) -> list[bytes]:
        """Run requests part by part, settle replies that are not ready, and append the encoded replies to `pieces`."""
        session, instance = self.session, self.turn.instance
        done = 0
        until = time() + OWN_SECONDS
        while done < len(requests):
            if replies is None:
                replies = self._run_part(requests[done:] if done else requests, until)
            last = replies[-1]
            is_ready = not isinstance(last, (Generator, Deferred))
            ready = replies if is_ready else replies[:-1]
            pieces = self._spell(requests[done : done + len(ready)], ready, pieces)
            done += len(ready)
            if not is_ready:
                settled, pieces = self._settle(requests[done:], last, pieces)
                done += settled
            if session.closing or instance.shutdown:
                break
            replies = None
            if done < len(requests) and (now := time()) > until and now > instance.turn_ends:
                pieces, until = self._drain(pieces, queued=True), time() + OWN_SECONDS
        return pieces

    def _run_part(self, requests: Sequence[list[bytes]], until: float) -> Sequence[Reply]:
        """Run the first of some requests; only one while replies are muted: see `Session.suppress`."""
        if type(requests[0]) is HugeRequest:
            return [self.engine.run_huge(self.session, requests[0])]
        return self.run(self.session, requests[:1] if self.session.muted else requests, until)

    def _settle(self, requests: Sequence[list[bytes]], deferred: Reply, pieces: list[bytes]) -> tuple[int, list[bytes]]:
        """Wait for what the first request needs; return how many requests were answered, and what is still to be sent.

        If the number is 0, the request did not run. It runs again, and may then have to wait for something else.
        """
        argv, reply = requests[0], deferred
        while isinstance(reply, Generator):
            pieces, reply = self._work(pieces, argv, reply)
        if isinstance(reply, Blocked):
            pieces, reply = self._block(pieces, reply, reply.timeout_seconds)
        if isinstance(reply, Deferred):
            return 0, self._wait(pieces)
        return 1, self._spell([argv], [reply], pieces)

    def _spell(self, requests: Sequence[list[bytes]], replies: Sequence[Reply], pieces: list[bytes]) -> list[bytes]:
        """Encode the replies of requests that ran, append them to `pieces`, and return what is still to be sent."""
        if not replies:
            return pieces
        session = self.session
        self.statistics.commands_processed += len(replies)
        session.last_command = requests[-1][0][:LONGEST_NAME_BYTES]  # a huge name would keep its memory
        if not (self.parser.text_seen or session.muted):
            short = encode_short(replies, session.resp3)
            if short is not None:
                pieces += short
                return pieces
        made_bytes = sum(map(len, pieces))
        until = time() + OWN_SECONDS
        for argv, reply in zip(requests, replies, strict=True):
            before = len(pieces)
            pieces = self._spell_one(argv, reply, pieces)
            made_bytes += sum(map(len, pieces[before:]))
            late = (now := time()) > until and now > self.turn.instance.turn_ends
            if (late or made_bytes > TURN_OUTPUT_BYTES) and not session.closing:
                pieces, made_bytes, until = self._drain(pieces, queued=late), 0, time() + OWN_SECONDS
        return pieces

    def _spell_one(self, argv: list[bytes], reply: Reply, pieces: list[bytes]) -> list[bytes]:
        """Append one reply to `pieces`, in the dialect of its request: RESP or text."""
        session = self.session
        is_text = type(argv) is TextRequest and not session.lines_in_resp
        if session.muted and session.suppress():
            if not isinstance(reply, Messages):
                return pieces
            reply = Messages([message for message in reply.messages if isinstance(message, Push)])
        if isinstance(reply, LongArray):
            return self._send_long(reply, pieces, is_text)
        if isinstance(reply, Messages) or (is_text and session.is_subscribed):  # also by EXEC
            self.as_text = is_text
        if not is_text:
            return self._encode(reply, pieces)
        row = self.engine.find(argv[0])
        if row is None:
            return self._spell_text(text_pieces(reply), pieces)
        return self._spell_text(
            text_pieces(with_hint(row, argv, reply), row.text_null, row.text_signs and reply is not QUEUED), pieces
        )

    def _spell_text(self, lines: Iterator[bytes], pieces: list[bytes]) -> list[bytes]:
        """Append lines of text to `pieces`; long text continues in later turns."""
        made_bytes = sum_bytes = 0
        until = time() + OWN_SECONDS
        for piece in lines:
            pieces.append(piece)
            made_bytes += len(piece)
            if made_bytes < TEXT_BLOCK_BYTES:
                continue
            made_bytes, sum_bytes = 0, sum_bytes + made_bytes
            late = (now := time()) > until and now > self.turn.instance.turn_ends
            if late or sum_bytes > TURN_OUTPUT_BYTES:
                pieces, sum_bytes, until = self._drain(pieces, queued=late), 0, time() + OWN_SECONDS
        return pieces

    def _encode(self, reply: Reply, pieces: list[bytes]) -> list[bytes]:
        """Append any reply in RESP to `pieces`; a long or large list in parts, one a turn."""
        resp3 = self.session.resp3
        if not isinstance(reply, (list, dict, Messages, Entries)):
            encode(reply, pieces.append, resp3)
            return self._drain(pieces) if isinstance(reply, (memoryview, LongBulk)) else pieces
        made, own_end, passed = 0, time() + OWN_SECONDS, False
        for part in parts_of(reply, resp3):
            pieces += part
            made += sum(map(len, part))
            late = (now := time()) > own_end and now > self.turn.instance.turn_ends
            if late or made > TURN_OUTPUT_BYTES:
                pieces = self._pass_turn(pieces, queued=late)
                made, own_end, passed = 0, time() + OWN_SECONDS, True
        return self._drain(pieces) if passed or made > BLOCK_BYTES else pieces

    def _finish(self) -> None:
        """Wait until all replies are sent, then discard input. The listener closes the socket afterwards."""
        self.stop_reading()
        self.done = Event()
        self.turn.replies.append((self, [], False))  # no pieces: the end, after all replies; see `_end`
        self.done.wait()
        if self.closing and not self.turn.ending:
            self.discard_input()

    def _wait(self, pieces: list[bytes]) -> list[bytes]:
        """Send `pieces`, wait until deferred requests may run again, and return a list for the next replies."""
        if pieces:
            self._queue_replies(pieces)
        self.stop_reading()
        self.session.waiting = True
        self.turn.scheduler.wait_for_resume()
        self.session.waiting = False
        return self._go_on()

    def _block(self, pieces: list[bytes], blocked: Blocked, seconds: float) -> tuple[list[bytes], Reply]:
        """Send `pieces`, let a request wait, and return a list for the next replies and its reply."""
        if pieces:
            self._queue_replies(pieces)
        self._send_messages()
        replies: list[Reply] = []
        served = Event()

        def answer(reply: Reply) -> None:
            replies.append(reply)
            served.set()
            self.turn.wake()

        self.wait = Wait(self, blocked, seconds, self.retry, answer)
        served.wait()
        self._go_on()
        self.logged = NEVER  # what it found was logged in a turn that may have ended, and may be unsynced
        return [], replies[0]

    def _block_in_hub(self, argv: list[bytes], ready: Sequence[Reply], blocked: Blocked) -> bool:
        """Let the last request of a pipeline wait without the greenlet; `ready` are the replies of those before it.

        Return False, and do nothing, if one of these needs the greenlet.
        """
        if ready:
            pieces = encode_short(ready, self.session.resp3)
            if pieces is None:
                return False
            self._queue_replies(pieces)
        self.statistics.commands_processed += len(ready)
        self.session.last_command = argv[0]

        def answer(reply: Reply) -> None:
            pieces = encode_short((reply,), self.session.resp3)
            if pieces is None:
                gevent.get_hub().loop.run_callback(self._spell_in_greenlet, argv, reply)
                self.turn.wake()
            else:
                self.statistics.commands_processed += 1
                self.turn.replies.append((self, pieces, True))  # True: as in `_block`
                self._start_reading()

        self.wait = Wait(self, blocked, blocked.timeout_seconds, self.retry, answer)
        return True

    def _spell_in_greenlet(self, argv: list[bytes], reply: Reply) -> None:
        """Let the greenlet, which waits for bytes, encode a reply that may be long. Runs in the hub."""
        if not self.session.closing:
            self.logged = NEVER
            self._start_reading()
            self.greenlet.switch(([argv], [reply]))

    def retry(self, argv: list[bytes]) -> Reply:
        """Run the request of a client that waits again, within the request of another client or at the turn's end."""
        return execute(self.session, argv)

    def follow_waiting(self) -> None:
        """Drop a client that waits for a key and is gone. Called each second."""
        if self.wait is not None:
            self.wait.follow()

    def _work(self, pieces: list[bytes], argv: list[bytes], work: Work) -> tuple[list[bytes], Reply]:
        """Send `pieces`, run the work in slices, and return a list for the next replies and the work's reply."""
        self.session.last_command = argv[0]
        if pieces:
            self._queue_replies(pieces)
        self.stop_reading()
        try:
            # Before each slice, as the reply waits for the effects of the last one.
            reply = self.turn.scheduler.run(work, self._begin_effects)
        except CommandError as error:
            reply = self.engine.refuse(error)
        except MemoryError:
            reply = self.engine.no_memory(argv[0])
        except Exception:
            reply = self.engine.internal_error(argv[0])
        finish_work(self.session, argv, self.turn.scheduler.work_seconds, reply)
        observer = self.turn.instance.read_observer
        if observer is not None:  # again, because the work may have read keys that were written since it began
            observer.observe_any_key(self.session)
        if self.session.logged_elsewhere:
            self.session.logged_elsewhere = False
            self.logged = NEVER  # as in `_block`
        self._start_reading()
        return [], reply

    def _send_long(self, reply: LongArray, pieces: list[bytes], is_text: bool) -> list[bytes]:
        """Encode an array in slices, each after the client has read the last; return what is still to be sent.

        The encoded reply never takes more memory than a slice of it, however slow the client is.
        """
        turn, resp3 = self.turn, self.session.resp3
        turn.scheduler.working += 1
        try:
            encode_head(reply, pieces.append, is_text, resp3)
            reply.chunks.reverse()
            self._check_limit(reply.held_bytes)
            while reply.chunks:
                self._drain(pieces)
                self.stop_reading()
                turn.scheduler.wait_for_slice()
                pieces = self._go_on()
                end, made = monotonic() + SLICE_SECONDS, 0
                while reply.chunks and made < TURN_OUTPUT_BYTES and monotonic() < end:
                    chunk = reply.take()
                    made += sum([len(member) for member in chunk if type(member) is bytes])
                    if is_text:
                        members = Pairs(chunk) if isinstance(reply, LongPairs) else chunk
                        pieces = self._spell_text(text_pieces(members), pieces)
                    else:
                        encode_chunk(reply, chunk, pieces.append, resp3)
            return pieces
        finally:
            turn.store.garbage.append(reply.chunks)
            turn.scheduler.working -= 1

    def _drain(self, pieces: list[bytes], queued: bool = False) -> list[bytes]:
        """Send `pieces`, wait until the client has read them, and return a list for the next replies."""
        return self._pass_turn(pieces, queued, until_empty=True)

    def _pass_turn(self, pieces: list[bytes], queued: bool, until_empty: bool = False) -> list[bytes]:
        """Send `pieces` at the end of this turn, continue in a later one, and return a list for the next replies.

        `queued`: queue behind the other connections that were late.
        """
        self.stop_reading()
        self.passed, self.until_empty = Event(), until_empty
        self._queue_replies(pieces)
        self.passed.wait()
        self.passed = None
        if queued:
            self.turn.scheduler.wait_for_slice()
        return self._go_on()

    def _queue_replies(self, pieces: list[bytes]) -> None:
        """Send `pieces` at the end of the turn: once the effects of this connection's requests are in the log."""
        has_logged = len(self.turn.log.pieces) != self.logged
        if has_logged and self.turn.log.noted is not None:
            self._note_client()
        self.turn.replies.append((self, pieces, has_logged))

    def _note_client(self) -> None:
        """Note in the log that what was logged since `_begin_effects` is of this client."""
        if self.logged != NEVER:
            session = self.session
            note = client_note(session.address, session.user.name, session.name)
            self.turn.log.end_client(self.logged, note)

    def _begin_effects(self) -> None:
        if self.turn.log.noted is not None:
            self.turn.log.begin_client()
        self.logged = len(self.turn.log.pieces)

    def _go_on(self) -> list[bytes]:
        self._begin_effects()
        self._start_reading()
        return []

    def follow_settings(self) -> None:
        """Update the copies of settings after CONFIG SET."""
        self.parser.max_query_bytes = self.turn.config.query_buffer_bytes

    @property
    def waits_for_server(self) -> bool:
        """Return True if the client waits for a reply that the server has yet to make or to send."""
        return not self.outbox and (not self.parked or self.turn.pending.holds(self))


def parts_of(reply: list[Any] | dict[Any, Any] | Messages | Entries, resp3: bool) -> Iterator[list[bytes]]:
    """Encode a list in parts of some members; a long member of EXEC's reply in parts of its own."""
    if isinstance(reply, Entries):
        yield from entries_parts(reply)
        return
    if isinstance(reply, Messages):
        members: Iterable[Any] = reply.messages
    else:
        head, members = aggregate(reply, resp3)
        yield [head]
    rest = iter(members)
    while some := list(islice(rest, MEMBERS_OF_EXEC if type(reply) is Replies else MEMBERS)):
        pieces: list[bytes] = []
        for member in some:
            if type(reply) is Replies and isinstance(member, (list, dict, Entries)) and len(member) > MEMBERS:
                yield pieces
                yield from parts_of(member, resp3)
                pieces = []
            else:
                encode(member, pieces.append, resp3)
        yield pieces
