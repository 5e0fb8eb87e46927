"""A real server under attack, and what must stay true of it meanwhile.

    with Server(tmp_path) as server, server.watched(grows_mb_max=50):
        link = server.connect()
        ...

`watched` has another client work all the time: it must be served within LATENCY_S_MAX at any moment,
the process must live and not have grown by more than it may, and its log must stay short.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis

LATENCY_S_MAX = 2.0
"""What another client may have to wait. Milliseconds in truth; the machine that tests is busy."""
DEADLINE_S = 20.0
"""When a test gives up waiting for something that must come."""
ROOT = Path(__file__).parent.parent.parent

_STARTED = re.compile(r"ready on \S*:(\d+) \(")


class Link:
    """A client's socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._missing = object()
        self._reader = hiredis.Reader(notEnoughData=self._missing)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close it so that the server sees an error, not an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def push(self, data: bytes, patience_s: float = 0.3) -> int:
        """Send as much as the server takes; how much that was. It may close the connection."""
        view = memoryview(data)
        sent = 0
        while sent < len(data):
            _, writable, _ = select.select([], [self.socket], [], patience_s)
            if not writable:
                return sent
            try:
                self.socket.setblocking(False)
                sent += self.socket.send(view[sent : sent + 1_000_000])
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return sent
            finally:
                self.socket.settimeout(DEADLINE_S)
        return sent

    def shut(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> Any:
        """The next reply. Raises ConnectionError when the server closes instead."""
        while (reply := self._reader.gets()) is self._missing:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("closed")
            self._reader.feed(data)
        return reply

    def call(self, *argv: bytes) -> Any:
        self.send(array(*argv))
        return self.read()

    def drain(self) -> bytes:
        """Everything until the server closes the connection."""
        received = bytearray()
        try:
            while data := self.socket.recv(1 << 20):
                received += data
        except ConnectionResetError:
            pass  # it closed while bytes of ours were under way
        return bytes(received)

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection; what it has sent is thrown away."""
        try:
            while select.select([self.socket], [], [], 0)[0]:
                if not self.socket.recv(1 << 20):
                    return True
        except OSError:
            return True
        return False


class Bystander:
    """Another client, who takes and releases a lock and pings all the time."""

    def __init__(self, link: Link) -> None:
        self.slowest_s = 0.0
        self.rounds = 0
        self.error: BaseException | None = None
        self._link = link
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bystander", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while not self._stopped.wait(0.005):
                self._time(b"PING")
                assert self._time(b"LOCK.ACQUIRE", b"bystander", b"me")[1] == b"granted"
                assert self._time(b"LOCK.RELEASE", b"bystander", b"me")[1] == 1
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - a thread's error is raised by `check`
            self.error = error

    def _time(self, *argv: bytes) -> Any:
        begun = time.monotonic()
        reply = self._link.call(*argv)
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
        return reply

    def check(self, latency_s_max: float) -> None:
        """It was served all the time, and is still."""
        rounds, deadline = self.rounds, time.monotonic() + DEADLINE_S
        while self.rounds < rounds + 2 and self.error is None:
            assert time.monotonic() < deadline, "another client is no longer served"
            self._stopped.wait(0.002)
        if self.error is not None:
            raise AssertionError("another client was not served") from self.error
        assert self.slowest_s < latency_s_max, f"another client waited {self.slowest_s:.1f} s"

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(DEADLINE_S)
        self._link.close()


class Server:
    """A server process of the tests' own."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        constants: dict[str, Any] | None = None,
        password: bytes = b"",
    ) -> None:
        self.password = password
        self._bystander: Bystander | None = None
        self._links: list[Link] = []
        self.log_path = directory / "log.txt"
        options = ["--port", "0", "--data-dir", str(directory / "data"), *arguments]
        if password:
            options += ["--requirepass", password.decode()]
        module = ["resplock"]
        if constants is not None:
            module = ["tests.attacks.launch", json.dumps(constants)]

        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *module, "serve", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        started = _STARTED.search(line)
        assert started is not None, f"the server did not start: {line}{self.log}"
        self.port = int(started[1])
        self.pid = self.process.pid

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it in good order, whoever is connected, unless it has ended by itself."""
        if self._bystander is not None:
            self._bystander.stop()
        lives = self.process.poll() is None
        try:
            if lives:
                self.process.send_signal(signal.SIGCONT)
                self.process.terminate()
                assert self.process.wait(DEADLINE_S) == 0, self.log
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            for link in self._links:
                link.close()

    def connect(self) -> Link:
        link = Link(self.port)
        self._links.append(link)
        return link

    def authenticated(self) -> Link:
        link = self.connect()
        if self.password:
            assert link.call(b"AUTH", self.password) == b"OK"
        return link

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Resident memory now, or its peak with `VmHWM`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no such field")

    @property
    def peak_mb(self) -> float:
        return self.memory_mb("VmHWM")

    @property
    def clients(self) -> int:
        """How many connections the server has, this one not counted."""
        with self.authenticated() as link:
            info = link.call(b"INFO", b"clients").decode()
        return int(re.search(r"connected_clients:(\d+)", info)[1]) - 1  # type: ignore[index]

    @contextlib.contextmanager
    def watched(
        self,
        *,
        grows_mb_max: float = 32,
        lines_max: int = 3,
        latency_s_max: float = LATENCY_S_MAX,
    ) -> Iterator[Bystander]:
        """Check what must stay true of a server under attack."""
        if self._bystander is None:
            self._bystander = Bystander(self.authenticated())
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # begin to measure the peak anew
        before_mb, lines = self.memory_mb(), self.log.count("\n")
        self._bystander.slowest_s = 0.0
        yield self._bystander
        assert self.process.poll() is None, self.log
        self._bystander.check(latency_s_max)
        grown_mb = self.peak_mb - before_mb
        assert grown_mb < grows_mb_max, f"grew by {grown_mb:.0f} MB"
        new = [line for line in self.log.splitlines()[lines:] if "snapshot taken" not in line]
        assert len(new) <= lines_max, "\n".join(new[:50])
        assert "Traceback" not in self.log, self.log


def array(*argv: bytes) -> bytes:
    """A command as clients send it."""
    parts = [b"*%d\r\n" % len(argv)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in argv]
    return b"".join(parts)


def eventually(condition: Any, what: str) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.01)
