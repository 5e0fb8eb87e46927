"""`resplock serve` in a process of its own, as a person or a supervisor runs it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.waiting import DEADLINE_S, now_ms
from tests.e2e.wire import Wire

COMMAND = (sys.executable, "-m", "resplock")

START_LINE = re.compile(
    r"resplock (?P<version>\S+) ready on (?P<host>\S+):(?P<port>\d+) "
    r"\(data (?P<data>\S+), pid (?P<pid>\d+)\); try: (?P<try>redis-cli .*)\n"
)
"""The one line on standard output."""


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with none of resplock's variables but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESPLOCK_")}
    return {**kept, "COLUMNS": "100", **(settings or {})}


def limited(file_bytes_max: int) -> tuple[str, ...]:
    """Run a program with a limit on the size of its files: like a disk that is full."""
    code = (
        "import os, resource, sys; most = int(sys.argv[1]); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    return (sys.executable, "-c", code, str(file_bytes_max))


def unprivileged() -> tuple[str, ...]:
    """Run a program without root's right to write where it may not, which CI often has."""
    code = (
        "import ctypes, os, sys; "
        "drop = ctypes.CDLL(None).prctl; "
        "[drop(24, right, 0, 0, 0) for right in (1, 2)]; "  # PR_CAPBSET_DROP, CAP_DAC_*
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return (sys.executable, "-c", code)


class ServerProcess:
    """A server and its data directory, which outlives the process.

    `start` waits for the start line and for PONG. After `kill9`, `terminate` or `wait`, `start`
    begins another process on the same port and directory.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        settings: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`directory` is made when it is missing; the data are in `data` there, the log in `log`.

        options: further flags. settings: RESPLOCK_ variables. through: a program that takes the
        server's command line as its last arguments and execs it, such as `limited`. host: where
        the server is reached. port: 0 for one that the first start finds.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data_dir = directory / "data"
        self.log_file = directory / "log"
        self.options = options
        self.settings = settings
        self.through = through
        self.host = host
        self.port = port
        self.start_line = ""
        self._process: subprocess.Popen[str] | None = None

    # --- starting ---

    def start(self) -> ServerProcess:
        """Start the server; returns once it answers."""
        self.begin()
        self.wait_until_it_answers()
        return self

    def wait_until_it_answers(self) -> None:
        """Wait for the start line, and for PONG."""
        self.start_line = self.wait_for_start_line()
        match = START_LINE.fullmatch(self.start_line)
        assert match, self.start_line
        self.port = int(match["port"])
        assert int(match["pid"]) == self.pid
        with self.wire() as wire:
            answer = wire.call("PING")
        assert answer == "PONG" or answer.code == "NOAUTH"

    def begin(self) -> None:
        """Start the process, and wait for nothing."""
        assert self._process is None, "it runs already"
        with self.log_file.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *self.through,
                    *COMMAND,
                    "serve",
                    f"--port={self.port}",
                    f"--data-dir={self.data_dir}",
                    *self.options,
                ],
                cwd=self.directory,
                env=environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_for_start_line(self) -> str:
        """The line on standard output. Fails when the process ends or stays silent."""
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
        line = self._process.stdout.readline() if readable else ""
        assert line, f"no start line (exit status {self._process.poll()}):\n{self.log()}"
        return line

    def restart(self) -> ServerProcess:
        """`kill -9`, then start again."""
        self.kill9()
        return self.start()

    # --- ending ---

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill9(self) -> None:
        """`kill -9`: the process gets no chance to do anything."""
        self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the process's end; returns the exit status."""
        process = self._process
        assert process is not None
        try:
            status = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log()}") from None
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return status

    def ends_within(self, seconds: float) -> bool:
        """Whether the process ends by itself within so long. It still has to be waited for."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def discard(self) -> None:
        """End whatever runs. The directory stays, for a look at it after a failure."""
        if self._process is not None:
            if self.running:
                self.signal(signal.SIGKILL)
            self.wait()

    # --- talking to it ---

    def wire(self, **options: Any) -> Wire:
        """A connection of our own making, see `Wire`."""
        return Wire(self.port, host=self.host, **options)

    def call(self, *words: object) -> Any:
        """One command over a connection of its own, in RESP3."""
        with self.wire(protocol=3) as wire:
            return wire.call(*words)

    # --- looking at it ---

    def log(self) -> str:
        """Everything that was written to standard error so far, by all its processes."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def assert_clean_log(self) -> None:
        """No traceback, ever: each is a bug, or something that ought to be said in words."""
        assert "Traceback" not in self.log(), self.log()


class Ended:
    """How a process ended: its exit status, and what it wrote."""

    def __init__(self, status: int, output: str, errors: str, took_ms: int) -> None:
        self.status = status
        self.output = output
        self.errors = errors
        self.took_ms = took_ms

    def __repr__(self) -> str:
        return f"exit status {self.status}\n--- stdout\n{self.output}\n--- stderr\n{self.errors}"


def run(
    *words: str,
    cwd: Path | str | None = None,
    settings: Mapping[str, str] | None = None,
    given: str | None = None,
) -> Ended:
    """Run a program to its end."""
    began = now_ms()
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment(settings),
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 2,
    )
    return Ended(done.returncode, done.stdout, done.stderr, now_ms() - began)
