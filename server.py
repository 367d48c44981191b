"""The life of a serving instance: recover, listen, serve until a signal or SHUTDOWN, end.

1. The module owns the order of these steps and reports them to the operator. It builds the store, the log, the
   instance, the engine and the server. It does not know the command line.
2. Addresses are bound before the log is read, so that an address in use is reported at once.
3. The server listens after recovery, so every client that can connect finds all keys.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from time import monotonic, time
from typing import TYPE_CHECKING, NoReturn

from aof import AppendOnlyLog, NullLog, ReplayReport, claim_directory, replay
from cli.progress import Progress
from commands.memory_report import resident_bytes
from commands.permissions import catalogue
from config import LOG_LEVELS, Config
from engine import Engine
from errors import DamagedLog, LogError, PoolError, StartError
from keyspace import gc_policy
from log.lock import newest_claimed, written_at
from net import signals
from net.addresses import Bound, bind_all
from net.descriptors import provide_for_clients
from net.listener import GEVENT_VERSION, Server
from net.turn import THREADS, start_threads
from session import Instance
from store import Store
from users.registry import UserFileError
from version import VERSION

if TYPE_CHECKING:
    from log.redis_files import RedisFiles
    from net.tls import ServerTls
    from pool.pool import Pool

# Only some requests need these. An embedded server imports them then; any other has them before the first client.
LATER = ("commands.long_double", "hashlib", "hmac", "platform", "rdb.objects", "rdb.payload", "rdb.writer")
POOL_THREADS = 10  # THREADS, and those for snapshots and for looking up etcd's addresses

logger = logging.getLogger("godis")


def serve(config: Config) -> int:
    """Recover, listen and serve until the process is to stop; return the exit code. Raises LogError, StartError."""
    logger.setLevel(LOG_LEVELS[config.loglevel])
    if not config.embedded:
        for name in LATER:
            import_module(name)
    if config.pool is not None:
        return serve_in_pool(config)
    signals.on_stop(_leave)  # until the event loop takes over
    try:
        log, network = start(config)
    except SystemExit:
        logger.warning("told to stop while loading: stopped, and the log stays as it is")
        return 0
    announce(config)
    network.serve_until_stopped()
    signals.on_stop(signal.SIG_IGN)  # another signal must not interrupt the end
    log.close()
    if network.failure:
        logger.critical("stopped, since %s", network.failure)
    if log.failure is not None:
        logger.error("stopped, but the log could not be written: %s", log.failure.decode(errors="replace"))
        return 1
    logger.info("stopped; everything is in the log" if config.appendonly else "stopped")
    return int(bool(network.failure))


def _leave(_number: int, _frame: object) -> NoReturn:
    signals.on_stop(signal.SIG_IGN)
    raise SystemExit(0)


def start(config: Config) -> tuple[AppendOnlyLog | NullLog, Server]:
    """Recover and listen. Raises LogError, StartError."""
    provide_for_clients(config)
    if config.appendonly:
        start_threads(THREADS)
    with ExitStack() as undo:  # a start that fails leaves no socket and no lock behind
        tls = load_tls(config)
        bound = bind(config, undo)
        log = open_log(config)
        undo.callback(log.close)
        network = recover_and_listen(log, config, tls, bound)
        undo.pop_all()
    return log, network


def bind(config: Config, undo: ExitStack) -> list[Bound]:
    """Bind the addresses of the settings, and register their closing with `undo`. Raises StartError."""
    bound = bind_all(config)
    for address in bound:
        undo.callback(address.socket.close)
    return bound


def recover_and_listen(
    log: AppendOnlyLog | NullLog, config: Config, tls: ServerTls | None, bound: list[Bound]
) -> Server:
    """Recover from an open log and listen. Raises LogError, StartError."""
    store = Store(config.databases, NullLog())
    instance = Instance(
        store, log, config, config.instance_id, run_id=os.urandom(20).hex(), started_ms=int(time() * 1000)
    )
    engine = Engine(instance)
    instance.secret_bytes = os.urandom
    load_users(instance)
    instance.eviction.base_bytes = resident_bytes()
    logger.info("Godis %s, instance %s, pid %d, gevent %s", VERSION, instance.id, os.getpid(), GEVENT_VERSION)
    if isinstance(log, AppendOnlyLog):
        recover(log, config, store, engine)
    shown_ms = load_read_only(instance, engine) if config.read_only else None
    store.log = log
    instance.apply_settings()
    if config.test_commands or shown_ms is not None:
        from net.manual_clock import ManualClock  # noqa: PLC0415

        instance.clock = ManualClock(instance, shown_ms)
    store.tick(int(time() * 1000) if instance.clock is None else instance.clock.now_ms())
    gc_policy.begin()
    network = Server(instance, engine, log, tls)
    for place in network.listen(bound):
        logger.info("serving on %s", place)
    return network


def load_read_only(instance: Instance, engine: Engine) -> int | None:
    """Load the log of --read-only. Return the time at which it is shown, in Unix ms; None: now. Raises LogError."""
    from cli.read_only import load  # noqa: PLC0415  # it imports the tools for logs

    if os.path.isdir(instance.config.log):
        instance.config.log = log_in_directory(instance.config.log)
    return load(instance, engine, loading)


def load_users(instance: Instance) -> None:
    """Read the file of users, if the settings name one. It counts more than --requirepass. Raises StartError."""
    instance.users.follow_password(instance.config.password)
    if instance.config.aclfile:
        try:
            instance.users.load(instance.config.aclfile, catalogue())
        except UserFileError as error:
            raise StartError(f"--aclfile: {error}") from None


def load_tls(config: Config) -> ServerTls | None:
    """Load the certificates if the settings have a TLS port. Raises StartError."""
    if not config.tls_port:
        return None
    from net import tls  # noqa: PLC0415

    return tls.ServerTls(config)


def serve_in_pool(config: Config) -> int:
    """Join the pool, listen and serve until the process is to stop; return the exit code. Raises StartError."""
    signals.on_stop(_leave)
    try:
        pool, network = start_in_pool(config)
    except SystemExit:
        logger.warning("told to stop while catching up with the pool")
        return 0
    announce(config)
    try:
        pool.start()
    except RuntimeError as error:
        raise StartError(f"cannot start a thread ({error}): raise the limit on processes (ulimit -u)") from None
    network.serve_until_stopped()
    signals.on_stop(signal.SIG_IGN)
    pool.stop()
    if network.failure:
        logger.critical("stopped, since %s", network.failure)
    logger.info("stopped; everything is in the pool's log")
    return int(bool(network.failure))


def start_in_pool(config: Config) -> tuple[Pool, Server]:
    """Catch up and listen. Raises StartError."""
    provide_for_clients(config)
    start_threads(POOL_THREADS)
    with ExitStack() as undo:
        tls = load_tls(config)
        pool, network = join_and_listen(config, tls, bind(config, undo))
        undo.pop_all()
    return pool, network


def join_and_listen(config: Config, tls: ServerTls | None, bound: list[Bound]) -> tuple[Pool, Server]:
    """Catch up with the pool and listen. Raises StartError."""
    from pool.network import PoolServer  # noqa: PLC0415
    from pool.pool import Pool  # noqa: PLC0415  # an instance alone does not pay for this import

    log = NullLog()
    store = Store(config.databases, log)
    instance = Instance(
        store, log, config, config.instance_id, run_id=os.urandom(20).hex(), started_ms=int(time() * 1000)
    )
    instance.secret_bytes = os.urandom
    load_users(instance)
    instance.eviction.base_bytes = resident_bytes()
    logger.info("Godis %s, instance %s, pid %d, gevent %s", VERSION, instance.id, os.getpid(), GEVENT_VERSION)
    logger.info("a member of a pool: its log is in etcd, and no log of this machine is locked or written")
    instance.apply_settings()
    pool = Pool(instance, config)
    try:
        pool.join()
    except PoolError as error:
        raise StartError(f"cannot join the pool: {error}") from None
    gc_policy.begin()
    network = PoolServer(instance, log, pool, tls)
    for place in network.listen(bound):
        logger.info("serving on %s", place)
    return pool, network


def open_log(config: Config) -> AppendOnlyLog | NullLog:
    """Open and lock the log that the settings name. Raises LogError."""
    if not config.appendonly:
        return NullLog()
    lock = None
    if os.path.isdir(config.log):
        config.log = log_in_directory(config.log)
    if config.data_dir:
        lock = claim_directory(config.data_dir, config.instance_id)
        config.log = lock.log_path
        warn_of_newer_log(config)
    else:
        refuse_to_leave_claimed_logs(config.log)
    log = AppendOnlyLog(config.log, config.instance_id, lock)
    log.open()
    return log


def log_in_directory(path: str) -> str:
    """Return the path of the log in the data directory of a Redis, and any other path as it is. Raises LogError."""
    from cli.redis_import import LOG_NAME  # noqa: PLC0415
    from log.redis_files import find  # noqa: PLC0415

    log = os.path.join(path, LOG_NAME)
    return log if written_at(log) or find(path) is not None else path


def warn_of_newer_log(config: Config) -> None:
    """Warn if another directory of --data-dir holds a log that was written later than the one this instance locked."""
    newest, seconds = newest_claimed(config.data_dir)
    if seconds <= (own := written_at(config.log)):
        return
    logger.warning(
        "this instance serves %s, which %s, and does not see what is in %s, which was last written %s. With "
        "--data-dir each instance that runs at the same time has a log of its own; a server that is to go on where "
        "another one stopped needs --log with the path of that one's log",
        config.log,
        f"was last written {show_time(own)}" if own else "is empty",
        newest,
        show_time(seconds),
    )


def refuse_to_leave_claimed_logs(path: str) -> None:
    """Refuse to begin a log beside directories of --data-dir, such as those of an older image. Raises LogError."""
    directory = os.path.dirname(path)
    newest, seconds = ("", 0.0) if written_at(path) else newest_claimed(directory)
    if newest:
        raise LogError(
            f"the log {path} is not there yet, but {newest} is, of --data-dir, last written {show_time(seconds)}: "
            f"to go on with it, move it to {path}; or give --data-dir {directory or '.'}; or move it away"
        )


def show_time(unix_seconds: float) -> str:
    """Return a time as text, in local time."""
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromtimestamp(unix_seconds).astimezone().isoformat(sep=" ", timespec="seconds")


@contextmanager
def loading(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a file is read, as a line on a terminal or as entries of the server's log; yield what shows it."""
    line, shown = Progress(f"reading {what}"), monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            line.show(done, total)
        elif monotonic() - shown >= 1:
            shown = monotonic()
            logger.info("reading %s: %d of %d MB", what, done >> 20, total >> 20)

    try:
        yield progress
    finally:
        line.clear()


def recover(log: AppendOnlyLog, config: Config, store: Store, engine: Engine) -> None:
    """Replay the log into the store, or take over the files of a Redis, and report that. Raises LogError."""
    from cli.redis_import import files_beside  # noqa: PLC0415

    start = monotonic()
    now_ms = int(time() * 1000)
    store.begin_replay(now_ms)
    if (files := files_beside(config)) is not None:
        take_over(log, config, files, engine, now_ms)
    else:
        with loading(config.log) as progress:
            report = replay(
                config.log,
                engine.apply,
                now_ms,
                config.default_ttl_seconds * 1000,
                progress,
                apply_many=engine.apply_many,
            )
        remark(log, config, report)
    logger.info(
        "log %s (appendfsync %s): %d keys recovered in %.2f s",
        os.path.abspath(config.log),
        config.appendfsync,
        sum(map(len, store.databases)),
        monotonic() - start,
    )


def take_over(log: AppendOnlyLog, config: Config, files: RedisFiles, engine: Engine, now_ms: int) -> None:
    """Load the files of a Redis, and make the log of them. Raises LogError."""
    from cli.redis_import import make_log, remarks  # noqa: PLC0415

    logger.info("there is no log %s yet: taking over the files of a Redis, which stay as they are", config.log)
    try:
        with loading(files.parts[0]) as progress:
            report = make_log(log, files, engine.apply, engine.apply_many, now_ms, progress)
    except DamagedLog as error:
        raise DamagedLog(f"{error}. To start without these files, move them away or give another --log") from error
    for part in files.parts:
        logger.info("read %s", part)
    for line in remarks(files, report):
        logger.warning("%s", line)


def remark(log: AppendOnlyLog, config: Config, report: ReplayReport) -> None:
    """Take note of where a replay has ended, and report what it left out."""
    log.link = report.link
    if report.torn_bytes:
        logger.warning(
            "the last %d bytes of %s were no whole batch: cut off, and kept in %s",
            report.torn_bytes,
            config.log,
            report.torn_path,
        )
    if report.skipped_lines:
        logger.warning("%d lines of %s were no commands and are ignored", report.skipped_lines, config.log)


def announce(config: Config) -> None:
    """Log the settings that an operator easily overlooks."""
    if config.default_ttl_seconds and not config.read_only:
        logger.info(
            "a SET without a TTL lives %s; --default-ttl 0 for no end", show_duration(config.default_ttl_seconds)
        )
    if config.requirepass != config.requirepass.strip():
        logger.warning("the password begins or ends with white space, and clients have to send that, too")
    local = all(host.name in ("127.0.0.1", "::1", "localhost") for host in config.hosts)
    by_certificate = config.tls_port and not config.port and config.tls_auth_clients == "yes"
    if not local and not config.requirepass and not by_certificate:
        logger.warning(
            "listening on %s without a password: anybody who can reach this port can read and delete everything"
            "%s; set --requirepass",
            config.host,
            " (protected mode refuses clients of other machines)" if config.protected_mode else "",
        )


def show_duration(seconds: int) -> str:
    """Return a duration as text, in the largest unit that divides it."""
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}{'s' if seconds != size else ''}"
    return f"{seconds} seconds"
