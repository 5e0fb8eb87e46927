"""A blocking connection that speaks RESP2, for the measurements. Needs hiredis."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import hiredis

from bench.servers import BenchError

HOLD_BATCH = 500
"""Acquires that are sent together."""


class ErrorReply(BenchError):
    """The server answered a command with an error."""


class Client:
    """One blocking RESP2 connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.reader = hiredis.Reader()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def read(self) -> Any:
        """The next reply; an error reply is returned, not raised."""
        while (reply := self.reader.gets()) is False:
            data = self.connection.recv(1 << 16)
            if not data:
                raise BenchError("the server closed the connection")
            self.reader.feed(data)
        return reply

    def call(self, *argv: str) -> Any:
        """Send one command and return its reply. Raises ErrorReply."""
        self.connection.sendall(encode(*argv))
        return checked(self.read(), argv[0])

    def call_map(self, *argv: str) -> dict[str, Any]:
        """As `call`, for a reply of fields and values."""
        reply = self.call(*argv)
        if not isinstance(reply, list):
            raise BenchError(f"{' '.join(argv)} answered {reply!r}, which is not a map")
        return dict(zip((field.decode() for field in reply[::2]), reply[1::2], strict=True))

    def pipeline(self, batches: Iterable[list[bytes]]) -> Iterator[Any]:
        """Send batches of commands, the next one while the last one's replies are read."""
        waiting = 0
        for batch in batches:
            self.connection.sendall(b"".join(batch))
            for _ in range(waiting):
                yield checked(self.read(), "a pipelined command")
            waiting = len(batch)
        for _ in range(waiting):
            yield checked(self.read(), "a pipelined command")

    def hold(self, locks: Iterable[tuple[str, str]], ttl_ms: int) -> Iterator[int]:
        """Acquire these locks, each a name and an owner, pipelined. Yields how many are held."""
        commands = (encode("LOCK.ACQUIRE", *lock, "TTL", str(ttl_ms)) for lock in locks)
        batches = iter(lambda: list(islice(commands, HOLD_BATCH)), [])
        for done, reply in enumerate(self.pipeline(batches), 1):
            if reply[:2] != [b"status", b"granted"]:
                raise BenchError(f"lock {done} was not granted: {reply}")
            yield done


def encode(*argv: str) -> bytes:
    """One command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(argv)]
    for argument in argv:
        raw = argument.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def checked(reply: Any, command: str) -> Any:
    """The reply. Raises ErrorReply when it is an error."""
    if isinstance(reply, hiredis.HiredisError):
        raise ErrorReply(f"{command} answered: {reply}")
    return reply
