"""The real telnet program, as a person would use it."""

from __future__ import annotations

import os
import select
import shutil
import subprocess

from servers import HOST, PATIENCE_SECONDS, require


class Telnet:
    """One run of telnet, typed into a line at a time."""

    def __init__(self, port: int) -> None:
        require(shutil.which("telnet"), "telnet is not installed")
        self.process = subprocess.Popen(
            ["telnet", HOST, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.output = b""
        self.expect(b"Escape character is '^]'.\n")

    def __enter__(self) -> Telnet:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait()

    def type(self, line: str) -> str:
        """Type a line and return the line that comes back."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.expect(b"\n").decode().rstrip("\r\n")

    def expect(self, text: bytes) -> bytes:
        """Read until a text has come; return all up to its end."""
        while text not in self.output:
            chunk = self._receive()
            assert chunk, f"closed after {self.output!r}"
            self.output += chunk
        end = self.output.index(text) + len(text)
        taken, self.output = self.output[:end], self.output[end:]
        return taken

    def _receive(self) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], f"nothing more after {self.output!r}"
        return os.read(descriptor, 65536)
