"""The servers that are measured: started on a free loopback port with a data directory of their own.

Servers are ended by their process id, also when a measurement fails.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent
PORTS = range(20_000, 22_700)
"""With their peer ports (10,000 above) below those that the kernel gives to outgoing connections, one of
which could otherwise take the port of a server before that listens."""
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
SPARE_FILES = 200
"""File descriptors that a server needs beside its connections."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measurement that cannot be made; the text says why and what to do."""


def find_program(name: str, advice: str) -> str:
    """A program from PATH, or from where scripts/fetch-redis puts what the system lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(ROOT / ".tools" / "bin")])
    found = shutil.which(name, path=path)
    if found is None:
        raise BenchError(f"{name} is missing: {advice}")
    return found


def data_parent() -> Path:
    """Where data directories are made: inside the clone, because /tmp is memory on many machines."""
    parent = ROOT / "build" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, and that was not given lately."""
    for port in random.Random().sample(PORTS, len(PORTS)):
        if port in _given_lately:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given_lately.append(port)
        return port
    raise BenchError(f"no free port from {PORTS.start} to {PORTS.stop - 1}")


_given_lately: deque[int] = deque(maxlen=100)
"""The servers of a cluster are named before the first of them listens."""


class Server:
    """One server process, from `with` to the end of its block."""

    name = ""
    mode = ""
    """What lockbench calls this kind of server."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.port = 0
        self.directory = Path()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What to run, on `self.port` with the data in `self.directory`."""
        raise NotImplementedError

    def version(self) -> str:
        """One line about the program."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.make_directory()
        self.port = free_port()
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(signal.SIGTERM)
        self.remove_directory()

    def make_directory(self) -> None:
        """An empty directory for its data."""
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.mode}-", dir=self.parent))

    def remove_directory(self) -> None:
        """Leave nothing of it behind."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._output().unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server has not been started"
        return self.process.pid

    def start(self) -> float:
        """Start the process; how many seconds it took until it answered PING."""
        began = time.monotonic()
        self.begin()
        self.wait_until_it_answers()
        return time.monotonic() - began

    def begin(self) -> None:
        """Start the process, and wait for nothing."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RESPLOCK_")}
        with self._output().open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=ROOT,
            )

    def wait_until_it_answers(self) -> None:
        """Return once it answers PING."""
        assert self.process is not None, "the server has not been started"
        output = self._output()
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            status = self.process.poll()
            if status is not None:
                raise BenchError(f"{self.name} ended with status {status}:\n{tail(output)}")
            if self._answers_ping():
                return
            time.sleep(0.005)
        raise BenchError(f"{self.name} did not answer in {START_DEADLINE_S:.0f} s:\n{tail(output)}")

    def end(self, signum: signal.Signals) -> None:
        """End the process, harder when it does not go."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def connect(self, timeout_s: float = 60) -> socket.socket:
        """A blocking connection to the server."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def cpu_s(self) -> float:
        """CPU time so far, user and system, of all threads. See proc(5), /proc/PID/stat."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def processes(self) -> list[Server]:
        """The servers that do the work, the one that clients connect to first."""
        return [self]

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Resident memory now, or its highest value so far with `VmHWM`, in units of 10^6 bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise BenchError(f"/proc/{self.pid}/status has no {field}")

    def _output(self) -> Path:
        return self.directory.with_suffix(".log")

    def _answers_ping(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


class Redis(Server):
    """The yardstick: Redis that syncs its append-only file before it answers."""

    name = "Redis, appendfsync always"
    mode = "redis"

    def command(self) -> list[str]:
        return [
            self._program(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--auto-aof-rewrite-percentage", "0"),  # no rewrite in the middle of a measurement
        ]

    def version(self) -> str:
        # "Redis server v=7.0.15 sha=00000000:0 malloc=..."
        return "redis-server " + output_of([self._program(), "--version"]).split()[2][2:]

    def _program(self) -> str:
        return find_program("redis-server", "run `make bench`, or scripts/fetch-redis")


class Resplock(Server):
    """This project's server, with its default settings."""

    name = "resplock"
    mode = "resplock"
    module = "resplock"
    """What python runs: the clone's code, wherever another one is installed."""

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", self.module),
            *("serve", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--data-dir", str(self.directory)),
        ]

    def version(self) -> str:
        return output_of([sys.executable, "-m", "resplock", "--version"])


def output_of(command: list[str]) -> str:
    """What a command prints. Raises BenchError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, such as ext4. Raises BenchError for memory."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        point, found = line.split()[1:3]
        if path.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    if kind in ("tmpfs", "ramfs"):
        raise BenchError(f"{path} is in memory ({kind}), where syncing costs nothing")
    return kind


def setting(parent: Path, *programs: str) -> str:
    """One line: what is measured, and on what."""
    return (
        f"{', '.join(programs)}; Python {platform.python_version()}; {os.cpu_count()} cores; "
        f"{file_system(parent)}"
    )


def raise_file_limit(files: int, option: str) -> None:
    """Let this process, and the servers that it starts, open so many files each.

    option: which of the command's is to be smaller when they may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise BenchError(
            f"{files:,} open files are needed and the limit is {hard:,}: raise it (ulimit -Hn), "
            f"or ask for fewer with {option}"
        )
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def stop_on_sigterm() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the servers are ended too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
