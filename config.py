"""The settings: one table for flags, environment and CONFIG.

1. The value of a setting is that of its flag, else of its environment variable `GODIS_…`, else the default.
2. A setting that Redis has, too, has Redis's name.
3. The attributes of `Config` hold parsed values, in the unit of their name. A reader of an attribute applies a changed
   value itself, or registers a check in `before_change`.
4. This module does not know docopt (godis.py passes plain strings) or sessions.

The module has more than 500 lines because the table has some fifty settings.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from errors import StartError
from wire.files import host_name, open_regular

UNITS_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_SECONDS = (1 << 31) - 1
UNITS_BYTES = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 10**6, "mb": 1 << 20, "g": 10**9, "gb": 1 << 30}
MAX_INT = (1 << 31) - 1
MAX_LONG = (1 << 63) - 1
MAX_SLOWLOG = 1 << 20  # entries of the slow log, of some kilobytes each
MAX_SAMPLES = 1000  # all are drawn at once; two billion of them would stall the server
MAX_SHOWN_CHARACTERS = 200  # of a bad value, in an error
MAX_PASSWORD_BYTES = 4096  # of a password in a file
ETCD_PORT = 2379
POOL_PREFIX = "/godis"
POLICIES = (  # in Redis's order, which its error text shows
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
)
NO_LOG_VARIABLE = "GODIS_NO_LOG"
EVICTION_IN_POOL = "a pool cannot evict, since each instance would choose other keys; only noeviction"
LOG_LEVELS = {"debug": 10, "verbose": 10, "notice": 20, "warning": 30}


def parse_text(text: str) -> str:
    """Return the text unchanged."""
    return text


class Host(NamedTuple):
    """An address to listen on; an optional one is skipped if the machine does not have it."""

    name: str
    optional: bool


def parse_hosts(text: str) -> str:
    """Parse addresses, separated by spaces; without any, the server has no TCP listener."""
    if "-" in text.split():
        raise ValueError("argument must name an address behind '-'")
    return text


def parse_octal(text: str) -> int:
    """Parse the permissions of a file in octal, as in redis.conf."""
    if not re.fullmatch(r"-?[0-7]{1,19}", text):
        raise ValueError("argument couldn't be parsed as an octal number")
    if not 0 <= int(text, 8) <= 0o777:
        raise ValueError("argument must be between 0 and 777 inclusive")
    return int(text, 8)


def parse_name(text: str) -> str:
    """Parse a name that is shown in lines of text: UTF-8 without control characters."""
    if not text.isprintable():  # false for a surrogate, too, which stands for a byte that is not UTF-8
        raise ValueError("argument must be printable UTF-8")
    return text


def parse_file_name(text: str) -> str:
    """Parse a file name that must not be empty."""
    if not text:
        raise ValueError("argument must be the name of a file")
    return text


def to_text(text: str) -> str:
    """Return the text with a question mark for each byte that is not UTF-8."""
    return text.encode("utf-8", "replace").decode()


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts these words in any case."""

    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"argument(s) must be one of the following: {', '.join(choices)}")
        return text.lower()

    return parse


def parse_yes(text: str) -> bool:
    """Parse yes or no."""
    if text.lower() not in ("yes", "no", "1", "0", "true", "false"):
        raise ValueError("argument must be 'yes' or 'no'")
    return text.lower() in ("yes", "1", "true")


def parse_integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of integers from `low` to `high`, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,19}", text):
            raise ValueError("argument couldn't be parsed into an integer")
        if not low <= int(text) <= high:
            raise ValueError(f"argument must be between {low} and {high} inclusive")
        return int(text)

    return parse


def parse_protocols(text: str) -> str:
    """Parse TLS versions as in redis.conf: TLSv1.2, TLSv1.3, or both; an empty text means both."""
    if not {word.lower() for word in text.split()} <= {"tlsv1.2", "tlsv1.3"}:
        raise ValueError("argument must be TLSv1.2, TLSv1.3 or both, separated by a space")
    return text


def parse_duration(text: str) -> int:
    """Parse seconds, or a number with a unit such as 30m or 6h; return seconds."""
    match = re.fullmatch(r"([0-9]{1,12})([smhd]?)", text.lower())
    if not match:
        raise ValueError("argument must be seconds, or a number with s, m, h or d, such as 6h")
    seconds = int(match[1]) * UNITS_SECONDS[match[2]]
    if seconds > MAX_SECONDS:
        raise ValueError(f"argument must be between 0 and {MAX_SECONDS} inclusive")
    return seconds


def parse_bytes(text: str) -> int:
    """Parse a size such as 1048576, 100k or 64mb, as in redis.conf; return bytes."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?b?)", text.lower())
    if not match:
        raise ValueError("argument must be a memory value")
    return int(match[1]) * UNITS_BYTES[match[2]]


def parse_query_limit(text: str) -> int:
    """Parse a size of at least a mebibyte; return bytes."""
    size = parse_bytes(text)
    if size < 1 << 20:
        raise ValueError(f"argument must be between {1 << 20} and {(1 << 63) - 1} inclusive")
    return size


ALL_EVENT_CLASSES = "g$lshzxetd"  # what A stands for
EVENT_CLASSES = ALL_EVENT_CLASSES + "nKEm"  # in the order of Redis


def parse_event_classes(text: str) -> str:
    """Parse the classes of events, and return them without A, in order."""
    if not set(text) <= {*EVENT_CLASSES, "A"}:
        raise ValueError("Invalid event class character. Use 'Ag$lshzxeKEtdmn'.")
    return "".join(each for each in EVENT_CLASSES if each in text or ("A" in text and each in ALL_EVENT_CLASSES))


def show_event_classes(classes: str) -> str:
    """Format classes as CONFIG GET does. As in Redis 7.0, `n` is not shown beside `A`."""
    is_all = set(ALL_EVENT_CLASSES) <= set(classes)
    return "A" + "".join(each for each in "KEm" if each in classes) if is_all else classes


class OutputLimit(NamedTuple):
    """The unsent bytes at which a client is closed: `hard_bytes`, or `soft_bytes` for some seconds; 0 means never."""

    hard_bytes: int
    soft_bytes: int
    soft_seconds: int


def parse_output_limits(text: str) -> dict[str, OutputLimit]:
    """Parse Redis's `CLASS HARD SOFT SECONDS`, once or more, into a limit for each class."""
    words = text.lower().split(" ") if text else []
    if len(words) % 4:
        raise ValueError("Wrong number of arguments in buffer limit configuration.")
    limits: dict[str, OutputLimit] = {}
    for name, *amounts in zip(*[iter(words)] * 4, strict=True):
        if name not in ("normal", "replica", "slave", "pubsub"):
            raise ValueError("Invalid client class specified in buffer limit configuration.")
        try:
            hard_bytes, soft_bytes = map(parse_bytes, amounts[:2])
            seconds = parse_integer(0, MAX_SECONDS)(amounts[2].removeprefix("+"))
        except ValueError:
            raise ValueError("Error in hard, soft or soft_seconds setting in buffer limit configuration.") from None
        limits["slave" if name == "replica" else name] = OutputLimit(hard_bytes, soft_bytes, seconds)
    return limits


def show_output_limits(limits: dict[str, OutputLimit]) -> str:
    """Format limits as CONFIG GET does."""
    return " ".join(
        f"{name} {limit.hard_bytes} {limit.soft_bytes} {limit.soft_seconds}" for name, limit in limits.items()
    )


def parse_percentiles(text: str) -> tuple[float, ...]:
    """Parse percentages, separated by spaces."""
    try:
        found = tuple(map(float, text.split()))
    except ValueError:
        raise ValueError("Invalid latency-tracking-info-percentiles parameters") from None
    if not all(0 <= percentage <= 100 for percentage in found):
        raise ValueError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
    return found


def show_percentiles(percentages: tuple[float, ...]) -> str:
    """Format percentages as CONFIG GET does."""
    return " ".join(f"{percentage:.15g}" for percentage in percentages)


class Endpoint(NamedTuple):
    """A member of etcd."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PoolAddress(NamedTuple):
    """The address of a pool's log: etcd's members, the prefix of its keys in etcd, and the login."""

    endpoints: tuple[Endpoint, ...]
    prefix: str
    user: str
    password: str
    tls: bool


# A host, in brackets if it is an IPv6 address, and a port. urlsplit refuses a list of them since CVE-2025-0938.
ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[^][@/]+)?)\]|([^][:@%\s]+))(?::([0-9]{0,5}))?")
POOL_FORM = "argument must be like etcd://host1:2379,host2:2379/prefix (etcds:// for TLS)"


def parse_pool(text: str) -> PoolAddress | None:
    """Parse etcd://[user:password@]host1:port,host2:port[/prefix], or etcds:// for TLS; an empty text is no pool."""
    if not text:
        return None
    from urllib.parse import unquote  # noqa: PLC0415

    scheme, _, rest = text.strip().partition("://")
    place, slash, path = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    if scheme.lower() not in ("etcd", "etcds") or re.search(r"[?#]", rest):
        raise ValueError(POOL_FORM)
    prefix = unquote(slash + path).rstrip("/") or POOL_PREFIX
    endpoints = tuple(map(parse_endpoint, hosts.split(",")))
    return PoolAddress(endpoints, prefix, unquote(user), unquote(password), scheme.lower() == "etcds")


def parse_endpoint(text: str) -> Endpoint:
    """Parse `host`, `host:port` or `[address]:port`."""
    match = ENDPOINT.fullmatch(text)
    if not match or int(match[3] or 0) > 65535:
        raise ValueError(POOL_FORM)
    return Endpoint((match[1] or match[2]).lower(), int(match[3] or ETCD_PORT))


def show_pool(address: PoolAddress | None) -> str:
    """Format the address of the pool's log, without user and password."""
    if address is None:
        return ""
    return f"etcd{'s' * address.tls}://{','.join(map(str, address.endpoints))}{address.prefix}"


def show(value: Any) -> str:
    """Format a value as CONFIG GET does."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


class Setting(NamedTuple):
    """A row: Redis's name, the attribute of Config, default, parser and formatter; `live` if CONFIG SET may change it.

    `flag` is the name on the command line if that differs; None means that there is no flag.
    """

    name: str
    attribute: str
    default: str
    parse: Callable[[str], Any]
    live: bool = False
    flag: str | None = ""
    show: Callable[[Any], str] = show

    @property
    def option(self) -> str | None:
        """The flag on the command line, such as --port."""
        return None if self.flag is None else "--" + (self.flag or self.name)

    @property
    def variable(self) -> str | None:
        """The environment variable, such as GODIS_PORT."""
        return None if self.option is None else "GODIS_" + self.option[2:].upper().replace("-", "_")


# What clients, tests and redis-benchmark ask for, and nobody can change. OBJECT ENCODING goes by the limits.
CONSTANTS = {
    "save": "",
    "hash-max-listpack-entries": "512",
    "hash-max-listpack-value": "64",
    "hash-max-ziplist-entries": "512",
    "hash-max-ziplist-value": "64",
    "set-max-intset-entries": "512",
    "set-max-listpack-entries": "128",
    "set-max-listpack-value": "64",
    "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64",
    "zset-max-ziplist-entries": "128",
    "zset-max-ziplist-value": "64",
    "hll-sparse-max-bytes": "3000",
}
SETTINGS = [
    Setting("bind", "host", "127.0.0.1", parse_hosts, flag="host"),
    Setting("port", "port", "6379", parse_integer(0, 65535)),
    Setting("unixsocket", "unixsocket", "", parse_text),
    Setting("unixsocketperm", "unixsocketperm", "0", parse_octal, show="{:o}".format),
    Setting("tls-port", "tls_port", "0", parse_integer(0, 65535)),
    Setting("tls-cert-file", "tls_cert_file", "", parse_text, live=True),
    Setting("tls-key-file", "tls_key_file", "", parse_text, live=True),
    Setting("tls-key-file-pass", "tls_key_file_pass", "", parse_text, live=True),
    Setting("tls-ca-cert-file", "tls_ca_cert_file", "", parse_text, live=True),
    Setting("tls-ca-cert-dir", "tls_ca_cert_dir", "", parse_text, live=True),
    Setting("tls-auth-clients", "tls_auth_clients", "yes", parse_choice("no", "yes", "optional"), live=True),
    Setting("tls-protocols", "tls_protocols", "", parse_protocols, live=True),
    Setting("tls-client-cert-file", "tls_client_cert_file", "", parse_text, live=True),
    Setting("tls-client-key-file", "tls_client_key_file", "", parse_text, live=True),
    Setting("appendfilename", "log", "log.txt", parse_file_name, flag="log"),
    Setting("data-dir", "data_dir", "", parse_text),
    Setting("appendonly", "appendonly", "yes", parse_yes),
    Setting("appendfsync", "appendfsync", "everysec", parse_choice("always", "everysec", "no"), live=True),
    Setting(
        "auto-aof-rewrite-percentage",
        "rewrite_percentage",
        "100",
        parse_integer(0, MAX_INT),
        live=True,
        flag="auto-rewrite-percentage",
    ),
    Setting(
        "auto-aof-rewrite-min-size", "rewrite_min_bytes", "64mb", parse_bytes, live=True, flag="auto-rewrite-min-size"
    ),
    Setting("log-clients", "log_clients", "no", parse_yes, live=True),
    Setting("keep-rewritten", "keep_rewritten", "1", parse_integer(0, MAX_INT), live=True),
    Setting("maxmemory", "maxmemory", "0", parse_bytes, live=True),
    Setting("maxmemory-policy", "maxmemory_policy", "noeviction", parse_choice(*POLICIES), live=True),
    Setting("maxmemory-samples", "maxmemory_samples", "5", parse_integer(1, MAX_SAMPLES), live=True),
    Setting("lfu-log-factor", "lfu_log_factor", "10", parse_integer(0, MAX_INT), live=True),
    Setting("lfu-decay-time", "lfu_decay_minutes", "1", parse_integer(0, MAX_INT), live=True),
    Setting(
        "notify-keyspace-events",
        "event_classes",
        "",
        parse_event_classes,
        live=True,
        show=show_event_classes,
    ),
    Setting("pool", "pool", "", parse_pool, show=show_pool),
    Setting("pool-ca-file", "pool_ca_file", "", parse_text),
    Setting("pool-cert-file", "pool_cert_file", "", parse_text),
    Setting("pool-key-file", "pool_key_file", "", parse_text),
    Setting("pool-reads", "pool_reads", "local", parse_choice("local", "linearizable")),
    Setting("pool-stale-reads", "pool_stale_reads", "yes", parse_yes, live=True),
    Setting("pool-clock-limit", "pool_clock_limit_seconds", "10m", parse_duration, live=True),
    Setting("pool-local-snapshot", "pool_local_snapshot", "", parse_text),
    Setting("pool-snapshot-entries", "pool_snapshot_entries", "10000", parse_integer(1, MAX_INT), live=True),
    Setting("default-ttl", "default_ttl_seconds", "6h", parse_duration, live=True),
    Setting("databases", "databases", "16", parse_integer(1, 100_000)),
    Setting("maxclients", "maxclients", "10000", parse_integer(1, 1_000_000), live=True),
    Setting("requirepass", "requirepass", "", parse_text, live=True),
    Setting("requirepass-file", "requirepass_file", "", parse_text),
    Setting("aclfile", "aclfile", "", parse_text),
    Setting("acllog-max-len", "acllog_max_len", "128", parse_integer(0, MAX_INT), live=True, flag=None),
    Setting("timeout", "timeout_seconds", "0", parse_duration, live=True),
    Setting("tcp-keepalive", "tcp_keepalive_seconds", "300", parse_integer(0, MAX_SECONDS), live=True, flag=None),
    Setting("protected-mode", "protected_mode", "yes", parse_yes, live=True),
    Setting("instance-id", "instance_id", "", parse_name),
    Setting("loglevel", "loglevel", "notice", parse_choice(*LOG_LEVELS), live=True),
    Setting("shutdown-timeout", "shutdown_timeout_seconds", "10", parse_duration, live=True),
    Setting(
        "client-output-buffer-limit",
        "output_limits",
        "normal 1gb 256mb 60 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
        parse_output_limits,
        live=True,
        flag=None,
        show=show_output_limits,
    ),
    Setting("slowlog-log-slower-than", "slowlog_slower_than_us", "10000", parse_integer(-1, MAX_LONG), True, None),
    Setting("slowlog-max-len", "slowlog_max_len", "128", parse_integer(0, MAX_SLOWLOG), True, None),
    Setting("latency-monitor-threshold", "latency_threshold_ms", "0", parse_integer(0, MAX_LONG), True, None),
    Setting("latency-tracking", "latency_tracking", "yes", parse_yes, True, None),
    Setting(
        "latency-tracking-info-percentiles",
        "latency_percentiles",
        "50 99 99.9",
        parse_percentiles,
        live=True,
        flag=None,
        show=show_percentiles,
    ),
    Setting("client-query-buffer-limit", "query_buffer_bytes", "1gb", parse_query_limit, live=True, flag=None),
    Setting(
        "tracking-table-max-keys", "tracking_most_keys", "1000000", parse_integer(0, MAX_INT), live=True, flag=None
    ),
    Setting("proto-max-bulk-len", "max_bulk_bytes", "512mb", parse_bytes, flag=None),
    Setting("enable-debug-command", "debug_command", "local", parse_choice("yes", "no", "local"), flag=None),
    Setting("busy-reply-threshold", "busy_ms", "5000", parse_integer(0, MAX_INT), live=True, flag=None),
    Setting("lua-time-limit", "busy_ms", "5000", parse_integer(0, MAX_INT), live=True, flag=None),
    *(Setting(name, name.replace("-", "_"), value, parse_text, flag=None) for name, value in CONSTANTS.items()),
]
BY_NAME = {setting.name: setting for setting in SETTINGS}


class SettingError(Exception):
    """An invalid value; the message names the setting (or its flag) and the valid values."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class UsageError(SettingError):
    """Two settings exclude each other."""


@contextmanager
def _naming(source: str, text: str) -> Iterator[None]:
    """Turn a parser's ValueError into a SettingError that names the source of the value."""
    try:
        yield
    except ValueError as error:
        shown = re.sub("//.*@", "//...@", text[:MAX_SHOWN_CHARACTERS])  # a password stays out of the terminal
        raise SettingError(f"{source} {shown!r}", str(error)) from None


def _why_no_password(line: bytes) -> str:
    """Return the reason why the first line of a file is no valid password, or an empty string."""
    if not line:
        return "its first line is empty"
    if len(line) > MAX_PASSWORD_BYTES:
        return "its first line is too long"
    # UTF-16 begins with FF FE or FE FF. Without this mark, every second byte of Latin text is NUL.
    low, high = line[::2].strip(b"\0"), line[1::2].strip(b"\0")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(line) > 1 and not (low and high)):
        return "it is UTF-16; save it as UTF-8"
    if line.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte-order mark; save it as UTF-8 without one"
    return ""


class Config:
    """The settings of an instance, as attributes named in SETTINGS."""

    host: str
    port: int
    unixsocket: str
    unixsocketperm: int
    tls_port: int
    tls_cert_file: str
    tls_key_file: str
    tls_key_file_pass: str
    tls_ca_cert_file: str
    tls_ca_cert_dir: str
    tls_auth_clients: str
    tls_protocols: str
    tls_client_cert_file: str
    tls_client_key_file: str
    log: str
    data_dir: str
    appendonly: bool
    appendfsync: str
    rewrite_percentage: int
    rewrite_min_bytes: int
    keep_rewritten: int
    maxmemory: int
    maxmemory_policy: str
    maxmemory_samples: int
    lfu_log_factor: int
    lfu_decay_minutes: int
    event_classes: str
    pool: PoolAddress | None
    pool_ca_file: str
    pool_cert_file: str
    pool_key_file: str
    pool_reads: str
    pool_stale_reads: bool
    pool_clock_limit_seconds: int
    pool_local_snapshot: str
    pool_snapshot_entries: int
    default_ttl_seconds: int
    databases: int
    maxclients: int
    requirepass: str
    requirepass_file: str
    aclfile: str
    acllog_max_len: int
    timeout_seconds: int
    tcp_keepalive_seconds: int
    protected_mode: bool
    instance_id: str
    loglevel: str
    shutdown_timeout_seconds: int
    output_limits: dict[str, OutputLimit]
    slowlog_slower_than_us: int
    slowlog_max_len: int
    latency_threshold_ms: int
    latency_tracking: bool
    latency_percentiles: tuple[float, ...]
    query_buffer_bytes: int
    tracking_most_keys: int
    max_bulk_bytes: int
    debug_command: str
    busy_ms: int
    log_clients: bool
    embedded: bool
    test_commands: bool
    read_only: bool
    until: str | None  # the time of --read-only, as it was given

    def __init__(self, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> None:
        """Parse every setting. Raises SettingError for the first invalid one."""
        # Each is called with the proposed settings and the changed names, and raises SettingError to refuse them.
        self.before_change: list[Callable[[Config, Collection[str]], None]] = []
        for setting in SETTINGS:
            source, text = setting.name, setting.default
            if setting.variable and environment.get(setting.variable) is not None:
                source, text = setting.variable, environment[setting.variable]
            if setting.option and (given := flags.get(setting.option)) is not None:
                source, text = setting.option, given
            with _naming(source, text):
                self._take(setting, text)
        self.embedded = bool(flags.get("--embedded"))
        self.test_commands = bool(flags.get("--test-commands"))
        if self.test_commands and (self.pool is not None or not self.embedded):
            raise UsageError("--test-commands", "they are for a server that a test has started by --embedded, no pool")
        self.read_only = bool(flags.get("--read-only"))
        self.until = flags.get("--until")
        no_log = environment.get(NO_LOG_VARIABLE, "no")
        with _naming(NO_LOG_VARIABLE, no_log):
            if flags.get("--no-log") or parse_yes(no_log):
                self.appendonly = False
        self.instance_id = self.instance_id or to_text(host_name())
        if self.pool is not None:
            self._check_pool()
        if self.read_only and (self.data_dir or not self.appendonly):
            raise UsageError("--read-only", "it shows the log that --log names: no pool, no --data-dir, no --no-log")
        if self.read_only:
            self.appendonly = False
        if self.requirepass and self.requirepass_file:
            raise UsageError("--requirepass-file", "the password cannot be given by --requirepass as well")

    def _check_pool(self) -> None:
        """Raise UsageError for settings that exclude a pool. Turn the local log off, because the pool has the log."""
        assert self.pool is not None
        self.appendonly = False
        if self.maxmemory_policy != "noeviction":
            raise UsageError("--maxmemory-policy", EVICTION_IN_POOL)
        if not self.pool.tls and (self.pool_ca_file or self.pool_cert_file or self.pool_key_file):
            raise UsageError("--pool", "certificates are for etcds://, and this is etcd://")

    @property
    def hosts(self) -> list[Host]:
        """The addresses to listen on."""
        return [Host(word.removeprefix("-"), word.startswith("-")) for word in self.host.split()]

    @property
    def password(self) -> bytes:
        """The password of the default user; empty: none."""
        return self.requirepass.encode("utf-8", "surrogateescape")

    def read_password(self) -> None:
        """Read the password from the first line of `requirepass_file`, if that is set. Raises StartError.

        It is not part of `__init__`, because `godis.py check` and `export` need no password.
        """
        if not self.requirepass_file:
            return
        try:
            with open_regular(self.requirepass_file) as file:
                line = file.readline(MAX_PASSWORD_BYTES + 1).rstrip(b"\r\n")
        except OSError as error:
            reason = error.strerror or "unreadable"
            if isinstance(error, PermissionError) and hasattr(os, "getuid"):
                reason += f": it must be readable by the user that this runs as (id {os.getuid()})"
        else:
            reason = _why_no_password(line)
            if not reason:
                self.requirepass = line.decode("utf-8", "surrogateescape")
                return
        raise StartError(f"no password in --requirepass-file {self.requirepass_file}: {reason}")

    def _take(self, setting: Setting, text: str) -> None:
        value = setting.parse(text)
        if isinstance(value, dict):  # parts that the text does not name keep their values
            value = getattr(self, setting.attribute, {}) | value
        setattr(self, setting.attribute, value)

    def get(self, name: str) -> str:
        """Return the value of a setting as CONFIG GET shows it."""
        setting = BY_NAME[name]
        return setting.show(getattr(self, setting.attribute))

    def change(self, values: Mapping[str, str]) -> None:
        """Change settings, all or none. Raises KeyError for an unknown name, SettingError for an invalid value.

        A setting that is not live accepts only its present value.
        """
        proposed = copy.copy(self)
        # As in Redis, immutable settings are refused first.
        for name in sorted(values, key=lambda name: BY_NAME[name].live):
            setting = BY_NAME[name]
            try:
                proposed._take(setting, values[name])
            except ValueError as error:
                raise SettingError(name, str(error)) from None
            if not setting.live and getattr(proposed, setting.attribute) != getattr(self, setting.attribute):
                raise SettingError(name, "can't set immutable config")
        if self.pool is not None and proposed.maxmemory_policy != "noeviction":
            raise SettingError("maxmemory-policy", EVICTION_IN_POOL)
        for check in self.before_change:
            check(proposed, values)
        vars(self).update(vars(proposed))
