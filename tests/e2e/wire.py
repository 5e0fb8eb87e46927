"""A Redis connection that hides nothing: it tells a simple string from a bulk string and a map from
an array, sends any bytes, and sees the connection's end."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, BinaryIO

from tests.e2e.waiting import DEADLINE_S


class Status(str):
    """A simple string."""


class Failure(str):
    """An error reply. Its code is the first word."""

    @property
    def code(self) -> str:
        return self.partition(" ")[0]


class Verbatim(bytes):
    """A verbatim string, its format taken off."""


class Map(dict[Any, Any]):
    """A RESP3 map."""


class Members(list[Any]):
    """A RESP3 set, in the order in which it came."""


class Pushed(list[Any]):
    """A RESP3 push."""


class Closed(Exception):
    """The server has closed the connection."""


NIL = None


def command(*words: object) -> bytes:
    """A command as clients encode it. Words that are not bytes are written as text."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n%b" % (
        len(encoded),
        b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded),
    )


def by_field(reply: Any) -> dict[str, Any]:
    """A map in either protocol, with its fields as text."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    assert isinstance(reply, dict), reply
    return {field.decode(): value for field, value in reply.items()}


class Wire:
    """A connection. Every read has a deadline, after which it raises TimeoutError."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        protocol: int = 2,
        password: str = "",
        patience_s: float = DEADLINE_S,
    ) -> None:
        self._socket = socket.create_connection((host, port), patience_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file: BinaryIO = self._socket.makefile("rb")
        self.protocol = protocol
        hello = ["HELLO", 3] if protocol == 3 else []
        if password:
            hello = [*hello, "AUTH", "default", password] if hello else ["AUTH", password]
        if hello:
            answer = self.call(*hello)
            assert not isinstance(answer, Failure), answer

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    @property
    def port(self) -> int:
        """Our end's."""
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        """The socket's number, to wait for it."""
        return self._socket.fileno()

    # --- sending ---

    def send(self, *words: object) -> None:
        """Send a command."""
        self._socket.sendall(command(*words))

    def send_bytes(self, data: bytes) -> None:
        """Send these bytes."""
        self._socket.sendall(data)

    def send_no_more(self) -> None:
        """Close our half of the connection."""
        self._socket.shutdown(socket.SHUT_WR)

    # --- receiving ---

    def receive(self) -> Any:
        """The next reply. Raises Closed at the end of the connection."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return Status(rest.decode())
            case b"-":
                return Failure(rest.decode(errors="surrogateescape"))
            case b":":
                return int(rest)
            case b"$":
                return self._bulk(int(rest)) if int(rest) >= 0 else NIL
            case b"*":
                return [self.receive() for _ in range(int(rest))] if int(rest) >= 0 else NIL
            case b"_":
                assert not rest
                return NIL
            case b",":
                return float(rest)
            case b"#":
                return {b"t": True, b"f": False}[rest]
            case b"%":
                pairs = [(self.receive(), self.receive()) for _ in range(int(rest))]
                found = Map(pairs)
                assert len(found) == len(pairs), f"a field twice: {pairs}"
                return found
            case b"=":
                text = self._bulk(int(rest))
                assert text[:4] == b"txt:", text
                return Verbatim(text[4:])
            case b"~":
                return Members(self.receive() for _ in range(int(rest)))
            case b">":
                return Pushed(self.receive() for _ in range(int(rest)))
            case _:
                raise AssertionError(f"not RESP: {line!r}")

    def _line(self) -> bytes:
        try:
            line = self._file.readline()
        except ConnectionResetError:
            raise Closed from None
        if not line.endswith(b"\r\n"):
            assert not line, f"a reply that was cut off: {line!r}"
            raise Closed
        return line[:-2]

    def _bulk(self, size: int) -> bytes:
        try:
            data = self._file.read(size + 2)
        except ConnectionResetError:
            raise Closed from None
        if len(data) < size + 2:
            raise Closed
        assert data.endswith(b"\r\n"), data
        return data[:-2]

    def receive_until_closed(self) -> list[Any]:
        """Every reply up to the end of the connection."""
        replies = []
        while True:
            try:
                replies.append(self.receive())
            except Closed:
                return replies

    # --- both ---

    def call(self, *words: object) -> Any:
        """Send a command and return its reply."""
        self.send(*words)
        return self.receive()

    def map(self, *words: object) -> dict[str, Any]:
        """Call a command that replies with a map, in either protocol."""
        return by_field(self.call(*words))

    def pipeline(self, *commands: tuple[object, ...]) -> list[Any]:
        """Send commands in one write, and return their replies."""
        self.send_bytes(b"".join(command(*words) for words in commands))
        return [self.receive() for _ in commands]
