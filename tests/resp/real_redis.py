"""A redis-server of the tests' own, to compare with."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import hiredis
import pytest

from tests.replies import parse_replies
from tests.tools import find_tool


class RealRedis:
    """A running redis-server, and one connection to it for each version of the protocol."""

    def __enter__(self) -> RealRedis:
        # Not tmp_path: the path of a Unix socket may have about 100 bytes.
        self._directory = tempfile.TemporaryDirectory(prefix="resplock-")
        self._path = str(Path(self._directory.name) / "s")
        options = f"--port 0 --unixsocket {self._path} --dir {self._directory.name} --save"
        self._process = subprocess.Popen(
            [find_tool("redis-server"), *options.split(), ""], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            log.append(line)
            if "ready to accept connections" in line.lower():
                break
        else:
            pytest.fail("redis-server did not start:\n" + "".join(log))
        self._links = {2: self._connect(), 3: self._connect()}
        self.ask("HELLO", "3", protocol=3)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for link, _reader in self._links.values():
            link.close()
        self._process.terminate()
        self._process.communicate(timeout=20)
        self._directory.cleanup()

    def _connect(self) -> tuple[socket.socket, hiredis.Reader]:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(20)
        link.connect(self._path)
        return link, hiredis.Reader()

    def ask(self, *words: str | bytes, protocol: int = 2) -> Any:
        """The reply to one command, as hiredis reads it. An error is returned, not raised."""
        link, reader = self._links[protocol]
        link.sendall(hiredis.pack_command(words))
        while (reply := reader.gets()) is False:
            reader.feed(link.recv(65_536))
        return reply


def parsed(reply: bytes) -> Any:
    """One reply as a client sees it. Fails unless the bytes are exactly one reply."""
    [value], whole = parse_replies(reply)
    assert whole
    return value
