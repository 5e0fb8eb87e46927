"""A program on a terminal, as a person runs it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from types import TracebackType

from tests.e2e.process import environment
from tests.e2e.waiting import DEADLINE_S


class Terminal:
    """Runs a program on a pseudo-terminal without line editing. Use it as a context manager."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({"TERM": "dumb", "HOME": "/nonexistent"}),
            start_new_session=True,
        )
        os.close(theirs)
        self._unread = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._ours)

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        os.write(self._ours, line.encode() + b"\n")

    def read_until(self, pattern: str) -> str:
        """What it prints up to the end of a match of the pattern, with plain line ends."""
        until = time.monotonic() + DEADLINE_S
        while not (match := re.search(pattern, self._unread, re.MULTILINE)):
            left = until - time.monotonic()
            readable, _, _ = select.select([self._ours], [], [], max(left, 0))
            assert readable, f"no {pattern!r} in {self._unread!r}"
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # the program is gone
                data = b""
            assert data, f"it ended without {pattern!r}: {self._unread!r}"
            self._unread = (self._unread + data.decode(errors="replace")).replace("\r\n", "\n")
        read, self._unread = self._unread[: match.end()], self._unread[match.end() :]
        return read
