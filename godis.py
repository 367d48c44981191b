"""Godis: a Redis-like key-value server in pure Python.

Usage:
  godis.py [options]
  godis.py --read-only [--until=TIME] [options]
  godis.py ping [options]
  godis.py check LOG [--repair | --until=TIME --output=FILE]
  godis.py export LOG
  godis.py log LOG [--key=PATTERN] [--since=TIME] [--until=TIME] [--follow]
  godis.py import REDIS [--replace] [options]
  godis.py (-h | --help | --version)

`--read-only` serves what the log holds, or held at a time: godis.py --log log.txt --read-only --until 2026-11-23T15:04
`ping` asks a running server whether it serves, and exits 0 or 1.
`check` verifies a log and reports what it holds; it exits 0 if it is whole, 1 if not, 2 if it could not be read.
`export` writes a log to stdout as plain commands: godis.py export log.txt | redis-cli --pipe
`log` shows what happened, a command a line: godis.py log log.txt --key 'user:*' --since 2026-11-23T15:04
`import` makes a log of a Redis's snapshot, AOF or data directory: godis.py import dump.rdb

Options:
  --host HOST                Address to listen on, or several in quotes; -ADDRESS: if this machine has it
                             (default: 127.0.0.1).
  --port PORT                TCP port; 0: any free one (default: 6379).
  --unixsocket PATH          Listen on this Unix socket, too; then --port 0 means no port.
  --unixsocketperm MODE      Its permissions, such as 770; 0: what the umask leaves (default: 0).
  --tls-port PORT            Serve TLS on this port; then --port 0 means no other. 0: no TLS (default: 0).
  --tls-cert-file FILE       The server's certificate, and those between it and its authority (PEM).
  --tls-key-file FILE        Its private key (PEM).
  --tls-key-file-pass TEXT   The password of the key; better as an environment variable.
  --tls-ca-cert-file FILE    The authorities that sign the certificates of clients (PEM).
  --tls-ca-cert-dir DIR      The same, as a directory of OpenSSL's with hashed names.
  --tls-auth-clients WHOM    yes: clients must show a certificate; optional: one they show must be good; no
                             (default: yes).
  --tls-protocols VERSIONS   TLSv1.2, TLSv1.3, or both in quotes; both if not given.
  --tls-client-cert-file FILE  What ping shows, if not the server's certificate …
  --tls-client-key-file FILE   … and the key of that.
  --log PATH                 The append-only log, or a Redis's data directory to go on with (default: log.txt).
  --data-dir DIR             Lock the first free numbered directory in DIR, and log there: for instances that run at
                             the same time and share a volume, each with data of its own.
  --no-log                   Keep everything in memory only.
  --appendonly YESNO         no is the same as --no-log (default: yes).
  --appendfsync POLICY       When the log goes to the disk: always, everysec or no (default: everysec).
  --auto-rewrite-percentage N  Rewrite the log when it has grown by so much since it last was; 0: never
                             (default: 100).
  --auto-rewrite-min-size SIZE  But not a log that is smaller (default: 64mb).
  --log-clients YESNO        Note in the log which client asked for a write, for `log` (default: no).
  --keep-rewritten N         Keep so many of the logs that rewrites replaced, for check --until (default: 1).
  --maxmemory SIZE           Evict keys, or refuse writes, rather than take more memory; 0: no limit (default: 0).
  --maxmemory-policy POLICY  What to evict: allkeys-lru, -lfu, -random; volatile-lru, -lfu, -random, -ttl (only keys
                             with an end); or noeviction (default: noeviction).
  --maxmemory-samples N      How many keys to choose from for each that goes (default: 5).
  --lfu-log-factor N         How slowly the counters of LFU grow (default: 10).
  --lfu-decay-time MINUTES   How long until they shrink by one; 0: never (default: 1).
  --notify-keyspace-events CLASSES  Publish what happens to keys: K and E for the two kinds of channel, and classes of
                             events, such as A for nearly all; none if not given.
  --pool ADDRESS             Be a member of a pool, whose log is in etcd: etcd://[user:password@]host:port,…[/prefix],
                             or etcds:// for TLS. There is no local log then.
  --pool-ca-file FILE        The authorities to trust for etcds://; those of the system if not given.
  --pool-cert-file FILE      The certificate that etcd wants of its clients.
  --pool-key-file FILE       Its key, if that is a file of its own.
  --pool-reads MODE          What reads see: local, what this instance has; or linearizable, all that was acknowledged
                             anywhere (default: local).
  --pool-stale-reads YESNO   Serve local reads also when etcd is out of reach (default: yes).
  --pool-snapshot-entries N  Write a snapshot to etcd after so many entries of the log, or more where the data are large
                             (default: 10000).
  --pool-clock-limit TIME    Refuse clients while this clock is further ahead of etcd's; 0: no limit (default: 10m).
  --pool-local-snapshot FILE  Keep a snapshot of the pool in this file, too, so that a restart need not read etcd's.
  --default-ttl TIME         How long a string lives that was set without a TTL: seconds, 30m, 6h; 0: for ever
                             (default: 6h).
  --databases N              How many databases SELECT can choose from (default: 16).
  --maxclients N             How many clients at a time (default: 10000).
  --requirepass PASSWORD     Clients must send AUTH with this password.
  --requirepass-file FILE    The same; the password is the first line of FILE, and so not seen in a list of processes.
  --aclfile FILE             The users and what they may do, a line each, as ACL LIST shows them. ACL SAVE writes it.
  --protected-mode YESNO     Without a password, serve only clients of this machine (default: yes).
  --timeout TIME             Close clients that were idle for so long; 0: never (default: 0).
  --shutdown-timeout TIME    How long clients may take to read their last replies at the end (default: 10).
  --instance-id NAME         What INFO calls this instance; the host's name if not given.
  --loglevel LEVEL           debug, verbose, notice or warning (default: notice).
  --embedded                 For a parent process: write the addresses to stdout, and stop when stdin ends.
  --test-commands            For tests, with --embedded: DEBUG CLOCK moves the time, DEBUG STATE saves all keys.
  --repair                   Drop what is damaged, and keep the original beside the log.
  --read-only                Serve a log that stays as it is, also while another process writes to it. Refuse writes.
  --until TIME               Serve, write or show the log as it was before TIME: Unix seconds or ms, or
                             2026-11-23T15:04:05.
  --output FILE              Write it to this new file.
  --since TIME               Show what is of this TIME or later.
  --key PATTERN              Show what may have changed keys that match, as KEYS has it.
  --follow                   Go on with what is appended, until Ctrl-C.
  --replace                  Put the imported log in the place of one that holds keys, which is kept aside.
  -h --help                  Show this.
  --version                  Show the version.

Each option can be given as an environment variable, too: GODIS_PORT=6380, GODIS_DEFAULT_TTL=30m, GODIS_NO_LOG=yes.
A flag counts more than a variable; an empty variable is as if it were not set.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - before the imports, which an older Python cannot parse
    sys.exit("godis: this is Python {}.{}, and Godis needs 3.10 or newer".format(*sys.version_info))

import gc
import io
import logging
import os
import signal
from importlib.util import find_spec

if __name__ == "__main__":
    gc.disable()  # what is imported stays: `gc_policy.begin` turns the collector on
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else Ctrl-C during the imports prints a traceback

PACKAGES = {"docopt": "docopt-ng", "gevent": "gevent", "hiredis": "hiredis"}  # module -> package

MISSING = [package for module, package in PACKAGES.items() if find_spec(module) is None]
if MISSING:
    sys.exit(
        f"godis: {sys.executable} lacks {', '.join(MISSING)}: `make run` installs what is needed in .venv, "
        "then use .venv/bin/python; README.md, Start, says how to do it without make"
    )

from cli import command_line  # noqa: E402
from cli.command_line import CommandLineError  # noqa: E402
from config import Config, SettingError, UsageError  # noqa: E402
from errors import LogError, StartError  # noqa: E402
from net import signals  # noqa: E402
from net.rate_limit import OneLine, printable  # noqa: E402
from version import VERSION  # noqa: E402

OFFLINE = ("check", "export", "import", "log")  # the commands that work on files

logger = logging.getLogger("godis")


def main(arguments: list[str]) -> int:
    """Run the program; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a path that it cannot encode causes a traceback
            stream.reconfigure(errors="backslashreplace")
    assert __doc__ is not None
    try:
        flags = command_line.parse(__doc__, arguments, f"Godis {VERSION}")
    except CommandLineError as error:
        print(f"godis: {printable(str(error))}; see --help\n\n{command_line.short_usage(__doc__)}", file=sys.stderr)
        return 2
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    logger.setLevel(logging.INFO)
    variables, warnings = command_line.read_variables(os.environ)
    try:
        config = Config(flags, variables)
        # `server` is imported late, because its imports would cost ping, a container's health check, 0.2 s of CPU.
        if any(flags[name] for name in OFFLINE):
            return run_offline(config, flags)
        config.read_password()
        if flags["ping"]:
            from cli import ping  # noqa: PLC0415

            return ping.ping(config)
        for warning in warnings:
            logger.warning("%s", warning)
        signals.ignore_others()
        import server  # noqa: PLC0415

        return server.serve(config)
    except SettingError as error:
        print(f"godis: {printable(str(error))}; see --help", file=sys.stderr)
        return 2 if any(flags[name] for name in OFFLINE) or isinstance(error, UsageError) else 1
    except (LogError, StartError) as error:
        print(f"godis: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the server has set its own handler
        return 130


def run_offline(config: Config, flags: dict[str, str]) -> int:
    """Check, repair, copy, export, show or import a log that this process does not serve; return the exit code."""
    from cli import log_tools  # noqa: PLC0415

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # so that a file written in part is removed
    path = flags["REDIS" if flags["import"] else "LOG"]
    try:
        if flags["import"]:
            from cli import redis_import  # noqa: PLC0415

            code = redis_import.import_redis(config, path, bool(flags["--replace"]))
        elif flags["export"]:
            code = log_tools.export_log(config, path)
        elif flags["log"]:
            from cli import log_view  # noqa: PLC0415

            wanted = flags["--key"], flags["--since"], flags["--until"], bool(flags["--follow"])
            code = log_view.show_log(path, *wanted, config.default_ttl_seconds * 1000)
        elif flags["--until"] is not None:
            code = log_tools.cut(path, flags["--until"], flags["--output"])
        else:
            code = log_tools.check(config, path, bool(flags["--repair"]))
        print(end="", flush=True)
        return code
    except LogError as error:
        print(f"godis: {printable(str(error))}", file=sys.stderr)
        return log_tools.exit_code(error)
    except BrokenPipeError:
        log_tools.silence_stdout()
        return 1
    except OSError as error:
        print(f"godis: cannot read {printable(path)} or write to stdout: {error.strerror}", file=sys.stderr)
        log_tools.silence_stdout()
        return log_tools.UNUSABLE
    except KeyboardInterrupt:
        return 130


def run(arguments: list[str]) -> int:
    """Run the program and flush its output, so that an error of the flush is one line; return the exit code."""
    open_standard_streams()
    try:
        code = main(arguments)
    except SystemExit as end:  # raised by docopt for --help
        code = int(end.code or 0)
    except OSError as error:
        code = report_stdout(error)
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # else Python flushes again, and exits with 120
            if stream is sys.stdout:
                code = report_stdout(error)
    return code


def open_standard_streams() -> None:
    """Open the standard streams that the parent process has closed.

    Otherwise a file such as the log could get the descriptor of stderr. A write to such a stdout fails, and a write to
    such a stderr is lost.
    """
    for descriptor, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:  # print would write to stdout instead
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115


def report_stdout(error: OSError) -> int:
    """Report that stdout cannot be written to, unless its reader has gone; return the exit code."""
    if not isinstance(error, BrokenPipeError):
        print(f"godis: cannot write to stdout: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
