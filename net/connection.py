"""One client's connection: receive bytes, have their requests run, spell the replies for the turn.

It must not know listeners or other connections. What a request means is the engine's business, what bytes mean is
protocol's, when replies leave is the turn's, how they are sent is the outbox's.

    _receive      bytes are there: parse, run, answer; in the hub, for what never waits
    _answer_all   the rest of it, in the connection's greenlet: _run_part -> _settle what is not ready -> _spell

- A connection has one read watcher for as long as it lives. (gevent's `socket.recv` instead costs a failed recv, an
  exception and two watcher calls a request.) When bytes are there, `_receive` runs in the hub and answers what is
  plain. The connection's greenlet, which parks meanwhile, is switched to for whatever may have to wait.
- All connections share one receive buffer: its bytes are parsed before anything else runs.
- No client keeps the others waiting for longer than its slowest request: once a turn is late, a connection goes on in
  a later one. What it has executed is sent first (`_drain`); a long list goes out in parts (`_pass_turn`). Of all who
  were late one goes on a turn, so that a hundred of them delay the others no more than one.

Whoever parks a greenlet for anything but bytes stops the read watcher first: it would wake it in the wrong place.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic, time
from types import GeneratorType

import gevent
from gevent.event import Event

from commands import LONGEST_NAME_BYTES, fold
from commands.help import with_hint
from engine import Engine
from errors import QUERY_TOO_BIG, CommandError
from net.outbox import Outbox
from net.scheduler import SLICE_SECONDS
from net.turn import Turn
from protocol import (
    BLOCK_BYTES,
    TEXT_BLOCK_BYTES,
    HugeRequest,
    LongLine,
    RequestParser,
    TextRequest,
    aggregate,
    encode,
    encode_head,
    encode_short,
    text_pieces,
)
from replies import Deferred, LongArray, Reply, Work
from session import Session
from wire.columns import Columns

TURN_OUTPUT_BYTES = 1 << 20  # a connection that made so many bytes of replies has to send them before it goes on
OWN_SECONDS = 0.0003  # what a connection may take even if the turn is late: to wait for the next costs a tenth of it
MEMBERS = 500  # of a list that are encoded at once

logger = logging.getLogger("godis")


class Connection(Outbox):
    """One client: it receives requests, has them run, and answers them."""

    __slots__ = ("engine", "logged", "parser", "run")

    def __init__(self, turn: Turn, engine: Engine, sock: socket.socket, session: Session) -> None:
        super().__init__(turn, sock, session)
        self.engine = engine
        self.parser = RequestParser(turn.config.max_bulk_bytes, turn.config.query_buffer_bytes)
        self.parser.authenticated = session.authenticated
        self.run = engine.run
        self.logged = 0  # how many pieces this turn's log had when this connection's part of the turn began
        session.query_bytes = lambda: self.parser.pending_bytes
        session.output_bytes = lambda: self.outbox_bytes

    # ---- reading: in the connection's greenlet, if not said otherwise

    def serve(self, shake_hands: Callable[[], bool] | None = None) -> None:
        """Receive, execute, again, until either side is done. Runs in the connection's own greenlet.

        `shake_hands`: what comes before; False if nothing comes after it.
        """
        try:
            if shake_hands is None or shake_hands():
                self._serve()
                self._finish()
        except gevent.GreenletExit:
            pass
        except MemoryError:
            self.parser.forget()  # first: to tell of it takes memory, too
            logger.warning("dropped %s: no memory for its request", self.session.address)
        finally:
            self.readable.stop()
            self.readable.close()
            if self.writable is not None:
                self.writable.stop()
                self.writable.close()
            # The session must not hold this object, which holds it: such a cycle waits for the collector.
            self.session.query_bytes = self.session.output_bytes = int

    def _serve(self) -> None:
        session, parser = self.session, self.parser
        park = gevent.get_hub().switch
        self._start_reading()
        while True:
            requests, replies = park()  # from `_receive`
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
                self.turn.replies.append((self, pieces, self._has_logged()))
            if session.closing:
                return

    def _receive(self) -> None:
        """Receive, and answer what is plain; wake the greenlet for the rest. Runs in the hub, whenever bytes are there.

        Plain are requests that have run to their end and have short replies. The plain way is to let the greenlet do
        it all, as it does whatever else comes. Two switches a time, which copy its stack, are 1.7 µs of 12.5 of a SET
        at P=1, 8 % of one at P=16, and 3.8 µs of 26 with 5000 clients, whose stacks are in no cache.
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
            if time() < turn.instance.turn_ends:  # else the next poll tells of it once more: thousands may hang up
                self.greenlet.switch((None, None))
            return
        session.active_ms = turn.store.now_ms
        statistics.input_bytes += size
        self.logged = logged = len(turn.log.pieces)
        replies: Sequence[Reply] | None = None
        if (type(requests) is list or type(requests) is Columns) and not (
            parser.text_seen or parser.error or session.muted or not requests
        ):
            replies = self.run(session, requests)
            if len(replies) == len(requests) and not session.closing:
                pieces = encode_short(replies, session.resp3)
                if pieces is not None:
                    statistics.commands_processed += len(requests)
                    session.last_command = requests[-1][0]
                    turn.replies.append((self, pieces, len(turn.log.pieces) != logged))
                    return
        self.greenlet.switch((requests, replies))

    def _answer_all(self, requests: Iterable[list[bytes]], replies: Sequence[Reply] | None) -> list[bytes]:
        """Answer requests in order, and return what is still to be sent. `replies`: of the first ones, which have run.

        Requests that are no sequence are parsed one by one, each when the one before it has run.
        """
        session = self.session
        if isinstance(requests, (list, Columns)):
            return self._answer(requests, [], replies)
        pieces: list[bytes] = []
        if type(requests) is LongLine and time() > self.turn.instance.turn_ends:
            pieces = self._drain(pieces, in_line=True)
        until = time() + OWN_SECONDS
        for argv in requests:
            pieces = self._answer([argv], pieces, None)
            if session.closing or self.turn.instance.shutdown:
                break
            self.parser.authenticated = session.authenticated
            if (now := time()) > until and now > self.turn.instance.turn_ends:
                pieces, until = self._drain(pieces, in_line=True), time() + OWN_SECONDS
        self.parser.authenticated = session.authenticated
        return pieces

    def _answer(
        self, requests: Sequence[list[bytes]], pieces: list[bytes], replies: Sequence[Reply] | None
    ) -> list[bytes]:
        """Run requests part by part, settle what is not ready, and spell the replies behind `pieces`."""
        session, instance = self.session, self.turn.instance
        done = 0
        until = time() + OWN_SECONDS
        while done < len(requests):
            if replies is None:
                replies = self._run_part(requests[done:] if done else requests, until)
            deferred = replies[-1]
            if type(deferred) is GeneratorType or isinstance(deferred, Deferred):
                replies = replies[:-1]
                pieces = self._spell(requests[done : done + len(replies)], replies, pieces)
                done += len(replies)
                settled, pieces = self._settle(requests[done:], deferred, pieces)
                done += settled
            else:
                pieces = self._spell(requests[done : done + len(replies)], replies, pieces)
                done += len(replies)
            if session.closing or instance.shutdown:
                break
            replies = None
            if done < len(requests) and (now := time()) > until and now > instance.turn_ends:
                pieces, until = self._drain(pieces, in_line=True), time() + OWN_SECONDS
        return pieces

    def _run_part(self, requests: Sequence[list[bytes]], until: float) -> Sequence[Reply]:
        """Run the first of some requests, one of them while replies are muted: see `Session.suppress`."""
        if type(requests[0]) is HugeRequest:
            return [self.engine.run_huge(self.session, requests[0])]
        return self.run(self.session, requests[:1] if self.session.muted else requests, until)

    def _settle(self, requests: Sequence[list[bytes]], deferred: Reply, pieces: list[bytes]) -> tuple[int, list[bytes]]:
        """Do what the first request waits for; return how many requests were answered, and their pieces.

        None is where it did not run: then it is to run again, which may show that it waits for something else.
        """
        argv, reply = requests[0], deferred
        while isinstance(reply, Generator):
            pieces, reply = self._work(pieces, argv, reply)
        if isinstance(reply, Deferred):
            return 0, self._wait(pieces)
        return 1, self._spell([argv], [reply], pieces)

    def _spell(self, requests: Sequence[list[bytes]], replies: Sequence[Reply], pieces: list[bytes]) -> list[bytes]:
        """Put the replies of requests that ran behind `pieces`; return what is still to be sent."""
        if not replies:
            return pieces
        session = self.session
        self.statistics.commands_processed += len(replies)
        session.last_command = requests[-1][0][:LONGEST_NAME_BYTES]  # else a huge one stays
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
                pieces, made_bytes, until = self._drain(pieces, in_line=late), 0, time() + OWN_SECONDS
        return pieces

    def _spell_one(self, argv: list[bytes], reply: Reply, pieces: list[bytes]) -> list[bytes]:
        """Put one reply behind `pieces`, as the dialect of its request spells it."""
        session = self.session
        is_text = type(argv) is TextRequest and not session.lines_in_resp
        if session.muted and session.suppress():
            return pieces
        if type(reply) is LongArray:
            return self._send_long(reply, pieces, is_text)
        if not is_text:
            return self._encode(reply, pieces)
        row = self.engine.table.get(fold(argv[0]))
        if row is None:
            return self._spell_text(text_pieces(reply), pieces)
        return self._spell_text(text_pieces(with_hint(row, argv, reply), row.text_null, row.text_signs), pieces)

    def _spell_text(self, lines: Iterator[bytes], pieces: list[bytes]) -> list[bytes]:
        """Put lines for people behind `pieces`; what takes long goes on in later turns."""
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
                pieces, sum_bytes, until = self._drain(pieces, in_line=late), 0, time() + OWN_SECONDS
        return pieces

    def _encode(self, reply: Reply, pieces: list[bytes]) -> list[bytes]:
        """Spell any reply behind `pieces`; a long or large list in parts, a turn each."""
        resp3 = self.session.resp3
        if not isinstance(reply, (list, dict)):
            encode(reply, pieces.append, resp3)
            return self._drain(pieces) if isinstance(reply, memoryview) else pieces
        head, members = aggregate(reply, resp3)
        pieces.append(head)
        rest, made, own_end, passed = iter(members), 0, time() + OWN_SECONDS, False
        while part := list(islice(rest, MEMBERS)):
            before = len(pieces)
            for member in part:
                encode(member, pieces.append, resp3)
            made += sum(map(len, pieces[before:]))
            late = (now := time()) > own_end and now > self.turn.instance.turn_ends
            if late or made > TURN_OUTPUT_BYTES:
                pieces = self._pass_turn(pieces, in_line=late)
                made, own_end, passed = 0, time() + OWN_SECONDS, True
        return self._drain(pieces) if passed or made > BLOCK_BYTES else pieces

    def _finish(self) -> None:
        """Wait until all replies are sent, then let the socket be closed."""
        self.stop_reading()
        self.done = Event()
        self.turn.replies.append((self, [], False))  # behind all that is still on its way: see `_end`
        self.done.wait()
        if self.closing and not self.turn.ending:
            self.discard_input()

    def _wait(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, wait for the end of the pause, and return a new list for what follows."""
        if pieces:
            self.turn.replies.append((self, pieces, self._has_logged()))
        self.stop_reading()
        self.session.waiting = True
        self.turn.scheduler.wait_for_resume()
        self.session.waiting = False
        return self._go_on()

    def _work(self, pieces: list[bytes], argv: list[bytes], work: Work) -> tuple[list[bytes], Reply]:
        """Send what there is, make the reply that is made in slices, and return it with a new list for what follows."""
        self.session.last_command = argv[0]
        if pieces:
            self.turn.replies.append((self, pieces, self._has_logged()))
        self.stop_reading()
        try:
            reply = self.turn.scheduler.run(work, self._begin_slice)
        except CommandError as error:
            reply = self.engine.refuse(error)
        except MemoryError:
            reply = self.engine.no_memory(argv[0])
        except Exception:
            reply = self.engine.internal_error(argv[0])
        observer = self.turn.instance.read_observer
        if observer is not None:  # once more: the work has read what came since it began
            observer.note_long(self.session)
        self._start_reading()
        return [], reply

    def _begin_slice(self) -> None:
        self.logged = len(self.turn.log.pieces)  # the reply belongs to what its last slice logs

    def _send_long(self, reply: LongArray, pieces: list[bytes], is_text: bool) -> list[bytes]:
        """Encode an array in slices, each when the client has taken what was before; return what is still to be sent.

        So the reply takes no more memory than a slice of it, however slow its reader is.
        """
        turn, resp3 = self.turn, self.session.resp3
        turn.scheduler.working += 1
        try:
            encode_head(reply, pieces.append, is_text)
            reply.chunks.reverse()
            self._check_limit(reply.held_bytes)
            while reply.chunks:
                self._drain(pieces)
                self.stop_reading()
                turn.scheduler.wait_for_slice()
                pieces = self._go_on()
                end, made = monotonic() + SLICE_SECONDS, 0
                while reply.chunks and made < TURN_OUTPUT_BYTES and monotonic() < end:
                    chunk = reply.chunks.pop()
                    made += sum(map(len, filter(None, chunk)))
                    for member in chunk:
                        if is_text:
                            pieces = self._spell_text(text_pieces(member), pieces)
                        else:
                            encode(member, pieces.append, resp3)
            return pieces
        finally:
            turn.store.garbage.append(reply.chunks)
            turn.scheduler.working -= 1

    def _drain(self, pieces: list[bytes], in_line: bool = False) -> list[bytes]:
        """Send what there is, wait until the client has taken it, and return a new list for what follows."""
        return self._pass_turn(pieces, in_line, until_empty=True)

    def _pass_turn(self, pieces: list[bytes], in_line: bool, until_empty: bool = False) -> list[bytes]:
        """Send what there is at the end of this turn, and return a new list for what follows in a later one.

        `in_line`: not before the others who kept a turn for too long and have waited for longer.
        """
        self.stop_reading()
        self.passed, self.until_empty = Event(), until_empty
        self.turn.replies.append((self, pieces, self._has_logged()))
        self.passed.wait()
        self.passed = None
        if in_line:
            self.turn.scheduler.wait_for_slice()
        return self._go_on()

    def _has_logged(self) -> bool:
        """Return True if this turn's log holds effects of this connection's requests."""
        return len(self.turn.log.pieces) != self.logged

    def _go_on(self) -> list[bytes]:
        self.logged = len(self.turn.log.pieces)
        self._start_reading()
        return []

    def follow_settings(self) -> None:
        """Take over what CONFIG SET changed."""
        self.parser.max_query_bytes = self.turn.config.query_buffer_bytes

    @property
    def waits_for_us(self) -> bool:
        """Return True if the client has asked for something, and it is not its fault that nothing comes."""
        return not self.outbox and (not self.parked or self.turn.pending.holds(self))
