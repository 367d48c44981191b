"""Godis: a Redis-like key-value server in pure Python.

Usage:
  godis.py [options]
  godis.py ping [options]
  godis.py check LOG [--repair | --until=TIME --output=FILE]
  godis.py export LOG
  godis.py (-h | --help | --version)

`ping` asks a running server whether it serves, and exits 0 or 1.
`check` verifies a log and says what it holds; it exits 0 if it is whole, 1 if not, 2 if it could not be looked at.
`export` writes a log to stdout as plain commands: godis.py export log.txt | redis-cli --pipe

Options:
  --host HOST                Address to listen on, or several in quotes (default: 127.0.0.1).
  --port PORT                TCP port; 0: any free one (default: 6379).
  --unixsocket PATH          Listen on this Unix socket, too.
  --log PATH                 The append-only log (default: log.txt).
  --data-dir DIR             Claim the first free numbered directory in DIR, and log there: for containers that
                             share a volume.
  --no-log                   Keep everything in memory only.
  --appendonly YESNO         no is the same as --no-log (default: yes).
  --appendfsync POLICY       When the log goes to the disk: always, everysec or no (default: everysec).
  --auto-rewrite-percentage N  Rewrite the log when it has grown by so much since it last was; 0: never
                             (default: 100).
  --auto-rewrite-min-size SIZE  But not a log that is smaller (default: 64mb).
  --default-ttl TIME         How long a string lives that was set without a TTL: seconds, 30m, 6h; 0: for ever
                             (default: 6h).
  --databases N              How many databases SELECT can choose from (default: 16).
  --maxclients N             How many clients at a time (default: 10000).
  --requirepass PASSWORD     Clients must send AUTH with this password.
  --protected-mode YESNO     Without a password, serve only clients of this machine (default: yes).
  --timeout TIME             Close clients that were idle for so long; 0: never (default: 0).
  --shutdown-timeout TIME    How long clients may take to read their last replies at the end (default: 10).
  --instance-id NAME         What INFO calls this instance; the host's name if not given.
  --loglevel LEVEL           debug, verbose, notice or warning (default: notice).
  --repair                   Drop what is damaged, and keep the original beside the log.
  --until TIME               Write the log as it was before TIME: Unix seconds or ms, or 2026-11-23T15:04:05 …
  --output FILE              … to this new file.
  -h --help                  Show this.
  --version                  Show the version.

Each option can be given as an environment variable, too: GODIS_PORT=6380, GODIS_DEFAULT_TTL=30m, GODIS_NO_LOG=yes.
A flag counts more than a variable.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import socket
import sys
from time import monotonic, time

import gevent
from docopt import DocoptExit, docopt

import offline
import server
from aof import AppendOnlyLog, NullLog, ReplayReport, claim_directory, replay
from config import LOG_LEVELS, Config, SettingError
from engine import Engine
from errors import LogError, StartError
from session import Instance
from store import Store
from version import VERSION

logger = logging.getLogger("godis")


def main(arguments: list[str]) -> int:
    """Run the program; return its exit code."""
    try:  # the usage has no `[default: …]` of docopt's: it would hide the environment's value
        flags = docopt(__doc__, arguments, version=f"Godis {VERSION}")
    except DocoptExit as error:
        print(f"godis: cannot read this command line: {' '.join(arguments)}\n\n{error.usage}", file=sys.stderr)
        return 2
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    logger.setLevel(logging.INFO)
    try:
        config = Config(flags, os.environ)
        if flags["check"] or flags["export"]:
            return run_offline(config, flags)
        if flags["ping"]:
            return ping(config)
        return serve(config)
    except SettingError as error:
        print(f"godis: {error}; see --help", file=sys.stderr)
        return offline.UNUSABLE if flags["check"] or flags["export"] else 1
    except (LogError, StartError) as error:
        print(f"godis: {error}", file=sys.stderr)
        return 1


def run_offline(config: Config, flags: dict[str, str]) -> int:
    """Check, mend, copy or export a log that this process does not serve; return the exit code."""
    path = flags["LOG"]
    try:
        if flags["export"]:
            return offline.export_log(config, path)
        if flags["--until"] is not None:
            return offline.cut(path, flags["--until"], flags["--output"])
        return offline.check(config, path, bool(flags["--repair"]))
    except LogError as error:
        print(f"godis: {error}", file=sys.stderr)
        return offline.exit_code(error)
    except BrokenPipeError:
        offline.say_nothing_more()
        return 1
    except OSError as error:
        print(f"godis: {path}: {error.strerror}", file=sys.stderr)
        return offline.UNUSABLE
    except KeyboardInterrupt:
        return 130


def serve(config: Config) -> int:
    """Recover, listen, serve until told to stop; return the exit code."""
    logger.setLevel(LOG_LEVELS[config.loglevel])
    log = open_log(config)
    store = Store(config.databases, NullLog())
    instance = Instance(
        store, log, config, config.instance_id, run_id=secrets.token_hex(20), started_ms=int(time() * 1000)
    )
    engine = Engine(instance)
    logger.info("Godis %s, instance %s, pid %d, gevent %s", VERSION, instance.id, os.getpid(), gevent.__version__)
    if isinstance(log, AppendOnlyLog):
        recover(log, config, store, engine)
    store.log = log
    instance.apply_settings()
    store.tick(int(time() * 1000))
    gc.collect()
    gc.freeze()  # what was loaded stays: the collector need not look at it again
    network = server.Server(instance, engine, log)
    for place in network.listen():
        logger.info("serving on %s", place)
    announce(config)
    network.serve_until_stopped()
    log.close()
    if log.failure is not None:
        logger.error("stopped, but the log could not be written: %s", log.failure.decode(errors="replace"))
        return 1
    logger.info("stopped; everything is in the log" if config.appendonly else "stopped")
    return 0


def open_log(config: Config) -> AppendOnlyLog | NullLog:
    """Open and lock the log that the settings name. Raises LogError."""
    if not config.appendonly:
        return NullLog()
    lock = None
    if config.data_dir:
        lock = claim_directory(config.data_dir, config.instance_id)
        config.log = lock.log_path
    log = AppendOnlyLog(config.log, config.instance_id, lock)
    log.open()
    return log


def recover(log: AppendOnlyLog, config: Config, store: Store, engine: Engine) -> ReplayReport:
    """Replay the log into the store, and say so. Raises LogError."""
    start = monotonic()
    shown = start

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if monotonic() - shown >= 1:
            shown = monotonic()
            logger.info("reading %s: %d of %d MB", config.log, done >> 20, total >> 20)

    now_ms = int(time() * 1000)
    store.begin_replay(now_ms)
    report = replay(config.log, engine.apply, now_ms, config.default_ttl_seconds * 1000, progress)
    if report.torn_bytes:
        logger.warning(
            "the last %d bytes of %s were no whole batch: cut off, and kept in %s",
            report.torn_bytes,
            config.log,
            report.torn_path,
        )
    if report.skipped_lines:
        logger.warning("%d lines of %s were no commands and are ignored", report.skipped_lines, config.log)
    keys = sum(map(len, store.databases))
    logger.info(
        "log %s (appendfsync %s): %d keys recovered in %.2f s",
        os.path.abspath(config.log),
        config.appendfsync,
        keys,
        monotonic() - start,
    )
    return report


def announce(config: Config) -> None:
    """Tell the operator what is easily overlooked."""
    if config.default_ttl_seconds:
        logger.info(
            "a SET without a TTL lives %s; --default-ttl 0 for no end", show_duration(config.default_ttl_seconds)
        )
    local = all(host in ("127.0.0.1", "::1", "localhost") for host in config.host.split())
    if not local and not config.requirepass:
        logger.warning(
            "listening on %s without a password: anybody who can reach this port can read and delete everything"
            "%s; set --requirepass",
            config.host,
            " (protected mode refuses clients of other machines)" if config.protected_mode else "",
        )


def show_duration(seconds: int) -> str:
    """Write seconds as people say them."""
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}{'s' if seconds != size else ''}"
    return f"{seconds} seconds"


def ping(config: Config) -> int:
    """Ask a running server whether it serves."""
    host = config.host.split()[0]
    host = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(host, host)
    request = b"*1\r\n$4\r\nPING\r\n"
    if config.requirepass:
        password = config.requirepass.encode()
        request = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(password), password) + request
    try:
        with socket.create_connection((host, config.port), timeout=3) as connection:
            connection.sendall(request)
            reply = b""
            while not reply.endswith(b"+PONG\r\n"):
                received = connection.recv(1024)
                if not received or b"-" in received:
                    raise OSError(received.decode(errors="replace").split("\r\n")[0] or "connection closed")
                reply += received
    except OSError as error:
        print(f"godis: no answer from {host}:{config.port}: {error}", file=sys.stderr)
        return 1
    print("PONG")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
