"""A redis-server of the tests' own, on a Unix socket: what ours is compared with."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.tools import find_tool


class RedisProcess:
    """Runs until `stop`. It opens no port and keeps nothing on disk."""

    def __init__(self) -> None:
        # Not tmp_path: the path of a Unix socket may have about 100 bytes.
        self._directory = tempfile.TemporaryDirectory(prefix="resplock-")
        self._path = str(Path(self._directory.name) / "s")
        options = f"--port 0 --unixsocket {self._path} --dir {self._directory.name}"
        self._process = subprocess.Popen(
            [find_tool("redis-server"), *options.split(), "--appendonly", "no", "--save", ""],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            log.append(line)
            if "ready to accept connections" in line.lower():
                return
        pytest.fail("redis-server did not start:\n" + "".join(log))

    def connect(self) -> socket.socket:
        """A new connection, with a deadline for each answer."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(20)
        link.connect(self._path)
        return link

    def answer(self, data: bytes) -> bytes:
        """All that it replies to these bytes, until it sees that no more come."""
        received = bytearray()
        # It closes the connection over an error, perhaps with bytes of ours unread.
        with self.connect() as link, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while part := link.recv(65_536):
                received += part
        return bytes(received)

    def stop(self) -> None:
        """End it and remove its directory."""
        self._process.terminate()
        self._process.communicate(timeout=20)
        self._directory.cleanup()
