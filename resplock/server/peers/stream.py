"""One TCP connection between two nodes: bytes in, frames to whoever has it; frames out, in one write.

I/O layer. A stream is first a stranger's; the greeting decides whose it is. It holds a bounded number
of bytes each way: a frame that is too long breaks it at once, and so does a peer that leaves
PEER_UNSENT_BYTES_MAX unread. However it breaks, `on_lost` is called once, never from within a call of
its owner's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from resplock import limits
from resplock.raft.messages import PeerError
from resplock.server.peers import greeting
from resplock.server.peers.framing import PREFIX_BYTES, Frames
from resplock.server.peers.greeting import Hello, Identity, Kind, Refusal, Refused, Unreachable

Payload = bytes | bytearray | memoryview

_KEEPALIVE_IDLE_S, _KEEPALIVE_EVERY_S, _KEEPALIVE_PROBES = 5, 1, 3


class Stream(asyncio.Protocol):
    """A connection. Its owner sets `on_frame` and `on_lost`, and `hold` while it is not ready."""

    def __init__(
        self, on_made: Callable[[Stream], None], on_lost: Callable[[Stream, str, bool], None]
    ) -> None:
        """on_lost: the stream, why it broke, and whether the peer sent what no node sends."""
        self.on_frame: Callable[[Payload], None] = _refuse
        self.on_lost = on_lost
        self.queue: list[bytes] = []
        """What goes with the next `flush`: prefixes and payloads."""
        self.address = ""
        self.host = ""
        self.broken = ""
        """Why it is over; empty while it is not."""
        self._on_made = on_made
        self._frames = Frames(limits.PEER_GREETING_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._holding = False
        self._partial_looks = 0

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop does not derive from it
        name = transport.get_extra_info("peername") or ("", 0)
        self.host = name[0]
        self.address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        _configure(transport.get_extra_info("socket"))
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        if self.broken:
            return
        frames = self._frames
        try:
            # One whole frame, as a rule: it is not copied.
            size = len(data) - PREFIX_BYTES
            if (
                not frames
                and not self._holding
                and 0 < size <= frames.bytes_max
                and int.from_bytes(data[:PREFIX_BYTES], "big") == size
            ):
                self._partial_looks = 0
                self.on_frame(memoryview(data)[PREFIX_BYTES:])
                return
            frames.feed(data)
            self._deliver()
        except PeerError as error:
            self._lose(str(error), strange=True)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        reason = "it closed the connection" if error is None else _reason(error)
        self._lose(reason, strange=False)
        self.on_frame, self.on_lost = _refuse, _nobody_cares  # cycles

    # --- for its owner ---------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def held(self) -> int:
        """How many bytes wait to be delivered: of a frame that is incomplete, or held."""
        return len(self._frames)

    def allow(self, bytes_max: int) -> None:
        """The longest frame from now on."""
        self._frames.bytes_max = bytes_max

    def hold(self) -> None:
        """Deliver no more frames, and read no more, until `release`."""
        self._holding = True
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self) -> None:
        """Deliver what was held, in the next turn of the loop, and go on."""
        if self._holding:
            self._holding = False
            self._loop.call_soon(self._catch_up)

    def send(self, payload: bytes) -> None:
        """Send a frame at once."""
        self.queue.append(len(payload).to_bytes(PREFIX_BYTES, "big"))
        self.queue.append(payload)
        self.flush()

    def flush(self) -> None:
        """Write what is queued, with one write. It reaches the kernel before this returns."""
        data = b"".join(self.queue)
        self.queue.clear()
        if self._transport is None or self.broken:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > limits.PEER_UNSENT_BYTES_MAX:
            self._loop.call_soon(self._lose, "it does not read what it is sent", True)

    def refuse(self, refusal: Refusal) -> None:
        """Say why not, and close."""
        self.send(greeting.encode(refusal))
        self.close(refusal.text)

    def close(self, reason: str) -> None:
        """Close after what was sent has gone out. `on_lost` is not called any more."""
        self.broken = self.broken or reason
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once. `on_lost` is not called any more."""
        self.broken = self.broken or reason
        if self._transport is not None:
            self._transport.abort()

    def look(self, looks_max: int) -> None:
        """Break the stream when a frame has been incomplete for `looks_max` looks.

        They are counted instead of timed: bytes that could not be read, because this process was
        stopped, are not the peer's fault.
        """
        if not self._frames or self._holding:
            self._partial_looks = 0
            return
        self._partial_looks += 1
        if self._partial_looks > looks_max:
            self._lose("it began a frame and did not finish it", strange=True)

    # --- inside ----------------------------------------------------------------------------------

    def _deliver(self) -> None:
        frames = self._frames
        while not self._holding and not self.broken and (payload := frames.next()) is not None:
            self._partial_looks = 0
            self.on_frame(payload)

    def _catch_up(self) -> None:
        if self.broken or self._holding:
            return
        if self._transport is not None:
            self._transport.resume_reading()
        try:
            self._deliver()
        except PeerError as error:
            self._lose(str(error), strange=True)

    def _lose(self, reason: str, strange: bool) -> None:
        if self.broken:
            return
        self.broken = reason
        if self._transport is not None:
            self._transport.abort()
        self.on_lost(self, reason, strange)


class _Dialed:
    """A stream's owner until the other side has answered the greeting."""

    def __init__(self, mine: Hello) -> None:
        self._mine = mine
        self.answer: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self.stream = Stream(self._made, self._lost)
        self.stream.on_frame = self._answered

    def _made(self, stream: Stream) -> None:
        stream.send(greeting.encode(self._mine))

    def _answered(self, payload: Payload) -> None:
        answer = greeting.decode(bytes(payload))
        self.stream.hold()
        if isinstance(answer, Refusal):
            self._fail(Refused(answer))
            self.stream.abort(answer.text)
        elif not self.answer.done():
            self.answer.set_result(answer)

    def _lost(self, _: Stream, reason: str, __: bool) -> None:
        self._fail(Unreachable(reason))

    def _fail(self, error: Unreachable) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def dial(host: str, port: int, mine: Hello) -> tuple[Stream, Hello]:
    """Connect and greet. The stream is held: set its `on_frame` and `on_lost`, then release it.

    Raises Refused when the other side does not want this node, Unreachable when nobody is there or
    it is no node.
    """
    loop = asyncio.get_running_loop()
    dialed = _Dialed(mine)
    timeout = asyncio.timeout(limits.PEER_CONNECT_MS_MAX / 1000)
    try:
        async with timeout:
            await loop.create_connection(lambda: dialed.stream, host, port)
        timeout = asyncio.timeout(limits.PEER_GREETING_MS_MAX / 1000)
        async with timeout:
            answer = await dialed.answer
    except TimeoutError as error:
        dialed.stream.abort("no answer in time")
        raise Unreachable("no answer in time") from error
    except OSError as error:
        raise Unreachable(_reason(error)) from error
    except BaseException:
        dialed.stream.abort("given up")
        raise
    return dialed.stream, answer


async def probe(host: str, port: int, mine: Identity) -> Hello:
    """Who is there. Raises Unreachable."""
    stream, answer = await dial(host, port, greeting.hello(mine, Kind.PROBE))
    stream.close("probed")
    return answer


def _refuse(_: Payload) -> None:
    raise PeerError("bytes that nobody has asked for")


def _nobody_cares(_: Stream, __: str, ___: bool) -> None:
    pass


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _configure(sock: Any) -> None:
    """Notice soon that the other machine is gone, whether or not there is anything to send.

    uvloop has set TCP_NODELAY already.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", limits.PEER_UNACKED_MS_MAX),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
