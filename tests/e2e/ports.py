"""TCP ports for servers that are stopped and started again, and must find their own free each time."""

from __future__ import annotations

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import TextIO

PORTS = range(11_000, 20_000)
"""Below those that bench/ uses, and that the kernel gives to outgoing connections: either would take one
in between."""
_ADDRESS = "127.0.0.1"


class Ports:
    """Ports that nobody uses, kept from all other tests on this machine until `release`."""

    def __init__(self) -> None:
        self._locks: list[TextIO] = []
        self._directory = Path(tempfile.gettempdir()) / "resplock-test-ports"
        self._directory.mkdir(exist_ok=True)

    def take(self) -> int:
        """A free port."""
        for port in random.Random().sample(PORTS, len(PORTS)):
            lock = (self._directory / str(port)).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _bind(port)
            except OSError:
                lock.close()
                continue
            self._locks.append(lock)
            return port
        raise AssertionError("no port is free")

    def release(self) -> None:
        """Let others have them."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()


def _bind(port: int) -> None:
    """Raises OSError when somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_ADDRESS, port))
