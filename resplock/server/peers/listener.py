"""The peer port: who connects, until it is known who that is.

I/O layer. Whatever is sent to this port costs little: a stranger has one greeting, of a bounded
length, in a bounded time, and only so many strangers are there at once: the oldest makes way.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from resplock import limits
from resplock.errors import ConfigError
from resplock.server.peers import greeting
from resplock.server.peers.complaints import Complaints
from resplock.server.peers.greeting import (
    PROTOCOL,
    Hello,
    OtherVersion,
    Refusal,
    RefusalCode,
)
from resplock.server.peers.stream import Payload, Stream


class Listener:
    """Accepts connections, and hands those over that have greeted."""

    def __init__(
        self, greeted: Callable[[Stream, Hello], Refusal | None], complaints: Complaints
    ) -> None:
        """greeted: takes the stream, answers and returns None; or says why not."""
        self._greeted = greeted
        self._complaints = complaints
        self._strangers: dict[Stream, int] = {}  # by age; how often the sweep has seen each
        self._server: asyncio.Server | None = None

    def __len__(self) -> int:
        """How many have connected and not said who they are."""
        return len(self._strangers)

    async def open(self, host: str, port: int) -> int:
        """Listen; the port, also when 0 was given. Raises ConfigError."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Stream(self._made, self._lost), host, port, backlog=limits.LISTEN_BACKLOG
            )
        except OSError as error:
            reason = error.strerror or str(error)
            advice = (
                "Another server is running there: choose another peer port, or stop it."
                if error.errno == errno.EADDRINUSE
                else "Give a host of this machine, and a peer port that you may use."
            )
            raise ConfigError(
                f"cannot listen for peers on {host}:{port}: {reason}. {advice}"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def close(self) -> None:
        """Listen no more, and send strangers away."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._strangers):
            stream.abort("the server stops")
        self._strangers.clear()

    def sweep(self, looks_max: int) -> None:
        """Send those away who do not greet. See `Stream.look` for why looks are counted."""
        for stream, looks in list(self._strangers.items()):
            self._strangers[stream] = looks + 1
            if looks >= looks_max:
                self._dismiss(stream, "it did not say who it is")

    def _made(self, stream: Stream) -> None:
        if len(self._strangers) >= limits.PEER_STRANGERS_MAX:
            self._dismiss(next(iter(self._strangers)), "too many connections that say nothing")
        self._strangers[stream] = 0
        stream.on_frame = lambda payload: self._frame(stream, payload)

    def _frame(self, stream: Stream, payload: Payload) -> None:
        try:
            hello = greeting.decode(bytes(payload))
        except OtherVersion as error:
            stream.refuse(
                Refusal(
                    RefusalCode.VERSION,
                    f"this node speaks version {PROTOCOL} of the protocol between nodes",
                )
            )
            self._forget(stream, str(error))
            return
        if isinstance(hello, Refusal):
            self._forget(stream, hello.text)
            stream.abort(hello.text)
            return
        self._strangers.pop(stream, None)
        refusal = self._greeted(stream, hello)
        if refusal is not None:
            stream.refuse(refusal)
            self._complaints.complain(
                "peer refused", hello.server.id, address=stream.address, error=refusal.text
            )

    def _lost(self, stream: Stream, reason: str, strange: bool) -> None:
        """It is gone, or has sent what no node sends."""
        if strange:
            self._forget(stream, reason)
        else:
            self._strangers.pop(stream, None)

    def _dismiss(self, stream: Stream, reason: str) -> None:
        stream.abort(reason)
        self._forget(stream, reason)

    def _forget(self, stream: Stream, reason: str) -> None:
        self._strangers.pop(stream, None)
        self._complaints.complain(
            "peer port: closed a connection that is no peer's", stream.host, error=reason
        )
