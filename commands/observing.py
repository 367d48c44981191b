"""Run requests while others want to know what they read and change: keyspace notifications, client-side caching.

1. `Instance.observer` is an `Observer` while somebody wants to know; else it is None, and a pipeline costs one test of
   it more. With it requests run one by one, never by column.
2. An `Observer` knows which request runs, also where requests in slices take turns, and where a request runs within
   another one (EXEC, scripts, clients that are served).
3. A key of the request that has expired is deleted before the request runs, as in Redis.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial

from commands import READONLY, Command, fold
from keyspace.notifications import Request
from keyspace.tracking import Mode
from replies import Deferred, Reply, Work
from session import Instance, Session
from store import ChangeListener


def attach(instance: Instance) -> None:
    """Let the settings decide whether requests are observed. It is called for each engine of an instance."""
    instance.tracking.follow = partial(follow, instance)
    instance.settings_changed.append(instance.tracking.follow)
    follow(instance)


def follow(instance: Instance) -> None:
    """Begin or end to observe requests, as those want it who listen."""
    listeners: list[ChangeListener] = []
    if instance.notifications.is_on:
        listeners.append(instance.notifications)
    if instance.tracking.ids:
        listeners.append(instance.tracking)
    instance.key_listeners.listen_to_all(listeners)
    instance.observer = Observer(instance) if listeners else None
    instance.update_observed()


def end_caching(session: Session, argv: list[bytes]) -> None:
    """Forget what CLIENT CACHING said, behind a request: it holds for the next one, or for a whole transaction."""
    if session.tracking is not None and session.transaction is None and fold(argv[0]) != b"CLIENT":
        session.tracking.caching = False


class Observer:
    """Runs requests, and reports what they have changed at their end."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def run(self, session: Session, row: Command, argv: list[bytes]) -> Reply:
        """Run a request, whose arity is right. Raises CommandError."""
        named = row.of(argv)
        if session.db.expiry.is_due and named.accepts(len(argv)):
            for key in named.key_arguments(argv):
                session.db.peek(key)
        request = Request(session, named.name, argv)
        reply: Reply = None
        try:
            with self._running(request):
                reply = row.run(session, argv)
        finally:
            if session.tracking is not None and not isinstance(reply, Deferred):
                self._track(session, session.tracking, named, request)
                if self._instance.running.request is None:
                    end_caching(session, argv)
            if not isinstance(reply, Generator):
                self._end(request)
        return self._in_slices(request, reply) if isinstance(reply, Generator) else reply

    def _track(self, session: Session, mode: Mode, row: Command, request: Request) -> None:
        """Remember the keys that a request of a client that tracks has read, or begins to read."""
        if mode.remembers and row.flags & READONLY and row.accepts(len(request.argv)):
            self._instance.tracking.remember(session, row.key_arguments(request.argv))

    def _end(self, request: Request) -> None:
        self._instance.notifications.end(request)
        if self._instance.running.request is None:  # else it is a part of an EXEC, which ends later
            self._instance.tracking.end_request()

    def _in_slices(self, request: Request, work: Work) -> Work:
        """Run the slices of a request."""
        try:
            while True:
                with self._running(request):
                    next(work)
                yield
        except StopIteration as end:
            reply: Reply = end.value
        finally:
            work.close()
            self._end(request)
        return reply

    @contextmanager
    def _running(self, request: Request) -> Iterator[None]:
        running = self._instance.running
        outer, running.request = running.request, request
        try:
            yield
        finally:
            running.request = outer
