"""What each signal does to a serving process.

1. A stopping signal ends the process as SHUTDOWN does: requests that were read are answered, the log is synced, the
   exit code is 0. A second signal ends the wait for clients that do not read. While the log is loaded the first signal
   ends the process. SIGXCPU is a stopping signal, because at the hard limit on CPU time the system kills the process.
2. The signals in LEFT_ALONE keep the action of the system or of Python: faults end the process with a core dump, job
   control stops and continues it, and for SIGPIPE and SIGXFSZ the system call fails with an error.
3. All others are ignored, and a warning names them. Redis ignores SIGHUP; the others would end the process.

SIGKILL and SIGSTOP cannot be caught. Windows has Ctrl-C (SIGINT) and Ctrl-Break (SIGBREAK), which stop the server.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

STOPPING = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGXCPU", "SIGBREAK")
LEFT_ALONE = (
    *("SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT"),
    *("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGEMT", "SIGSTKFLT"),
    *("SIGCHLD", "SIGURG", "SIGWINCH", "SIGINFO", "SIGPIPE", "SIGXFSZ"),
)


def stopping_signals() -> list[int]:
    """Return the numbers of the signals that stop a server."""
    return _numbers(STOPPING)


def ignored_signals() -> list[int]:
    """Return the numbers of the signals that a server ignores."""
    return sorted({*map(int, signal.valid_signals())} - {*_numbers(STOPPING), *_numbers(LEFT_ALONE)})


def name_of(number: int) -> str:
    """Return the name of a signal, or "signal N": only the first and the last real-time signal have names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def on_stop(handler: Callable[[int, object], object] | signal.Handlers) -> None:
    """Set the handler of the stopping signals."""
    for number in stopping_signals():
        signal.signal(number, handler)


def ignore_others() -> None:
    """Ignore the signals that a server ignores. The event loop's handlers, which log them, replace this later."""
    for number in ignored_signals():
        signal.signal(number, signal.SIG_IGN)


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
