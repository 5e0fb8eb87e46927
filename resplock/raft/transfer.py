"""Sending a snapshot's file to a server that needs it, in chunks, also over links that break.

Pure. The sender offers a file, the receiver says from which offset it wants it, chunks follow within
a window that the receiver's acknowledgements move, and the receiver says how it ended:

    Offer  ->                       what it is: a place in the log, a size, a CRC that identifies it
           <-  Accept | Decline     go on at this offset; or it is not wanted
    Chunk  ->
           <-  Acknowledge          written up to here
           <-  Done | Failed        the whole file is verified, durable and loaded; or it is not

A link that breaks ends an attempt, and `Sending`. `Receiving` outlives it: an offer of the same file
goes on where the last attempt ended. Who reads, writes, verifies and renames is the runtime.
"""

from __future__ import annotations

import enum
import zlib
from typing import Annotated

import msgspec
from msgspec import Meta

from resplock.errors import ResplockError
from resplock.limits import SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_WINDOW_BYTES
from resplock.raft.configurations import is_well_formed
from resplock.raft.entries import SnapshotMeta
from resplock.raft.messages import PeerError
from resplock.types import Natural

FRAME_BYTES_MAX = SNAPSHOT_CHUNK_BYTES_MAX + 64 * 1024
"""The longest message: a chunk, or an offer with a large configuration."""

_Crc = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Data = Annotated[bytes, Meta(min_length=1, max_length=SNAPSHOT_CHUNK_BYTES_MAX)]
_Text = Annotated[str, Meta(max_length=1000)]


class TransferError(ResplockError):
    """The other side of a transfer has broken its rules, or a chunk was damaged on its way."""


class Offer(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A file to have. Two offers are of the same file exactly when they are equal."""

    meta: SnapshotMeta
    size: Natural
    crc: _Crc


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Bytes of the file, from `offset` on."""

    offset: Natural
    crc: _Crc
    data: _Data


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Begin at `offset`: what is before it is here already."""

    offset: Natural


class Decline(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """It is not wanted: the receiver has all of it, or is being sent a newer one."""

    has_it: bool


class Acknowledge(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Written up to `offset`."""

    offset: Natural


class Done(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The receiver has the snapshot, durably."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The receiver could not use what it was sent."""

    text: _Text


FromSender = Offer | Chunk
FromReceiver = Accept | Decline | Acknowledge | Done | Failed


def encode(message: FromSender | FromReceiver) -> bytes:
    """The message's bytes, without framing."""
    return _encoder.encode(message)


def decode_from_sender(data: bytes | bytearray | memoryview) -> FromSender:
    """What a sender sent. Raises PeerError."""
    try:
        message = _sender_decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"not a message of a snapshot's sender: {error}") from error
    if isinstance(message, Offer) and not is_well_formed(message.meta.configuration):
        raise PeerError("a snapshot with a configuration that cannot be used")
    return message


def decode_from_receiver(data: bytes | bytearray | memoryview) -> FromReceiver:
    """What a receiver sent. Raises PeerError."""
    try:
        return _receiver_decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"not a message of a snapshot's receiver: {error}") from error


class Outcome(enum.Enum):
    """How an attempt ended."""

    DONE = "done"
    """The receiver has the snapshot, or has had more already."""
    DECLINED = "declined"
    FAILED = "failed"


class Sending:
    """One attempt to send a file. The runtime sends `offer`, and then what `next_range` asks for."""

    def __init__(self, offer: Offer, window_bytes: int = SNAPSHOT_WINDOW_BYTES) -> None:
        self.offer = offer
        self.outcome: Outcome | None = None
        self.failure = ""
        self.acknowledged = 0
        """The receiver has everything before this offset."""
        self._window_bytes = window_bytes
        self._sent = 0
        self._accepted = False

    @property
    def is_sent(self) -> bool:
        """Whether the receiver has the whole file, and checks it."""
        return self._accepted and self.acknowledged == self.offer.size

    def receive(self, message: FromReceiver) -> None:
        """Take the receiver's word. Raises TransferError when it makes no sense."""
        if self.outcome is not None:
            raise TransferError("the transfer is over")
        match message:
            case Accept(offset):
                if self._accepted or offset > self.offer.size:
                    raise TransferError(
                        f"the offer was accepted at {offset}, twice or past its end"
                    )
                self._accepted = True
                self._sent = self.acknowledged = offset
            case Decline(has_it):
                self.outcome = Outcome.DONE if has_it else Outcome.DECLINED
            case Acknowledge(offset):
                if not self.acknowledged <= offset <= self._sent:
                    raise TransferError(f"{offset} was acknowledged, {self._sent} sent")
                self.acknowledged = offset
            case Done():
                if not self.is_sent:
                    raise TransferError("it claims to have what was not sent")
                self.outcome = Outcome.DONE
            case Failed(text):
                self.outcome, self.failure = Outcome.FAILED, text

    def next_range(self) -> tuple[int, int] | None:
        """The offset and length of what to send next; None while the window is full, before the
        offer is accepted, and behind the end."""
        if not self._accepted or self.outcome is not None:
            return None
        length = min(self.offer.size - self._sent, SNAPSHOT_CHUNK_BYTES_MAX)
        if length == 0 or self._sent + length > self.acknowledged + self._window_bytes:
            return None
        return self._sent, length

    def chunk(self, offset: int, data: bytes) -> Chunk:
        """The message with the bytes of `next_range`, which is then sent."""
        assert offset == self._sent
        self._sent += len(data)
        return Chunk(offset, zlib.crc32(data), data)


class Receiving:
    """What a server has of a snapshot that it is being sent, over all attempts."""

    def __init__(self) -> None:
        self.offer: Offer | None = None
        self.offset = 0
        """Written: the runtime has everything before this offset in its file."""
        self._taken = 0

    @property
    def is_complete(self) -> bool:
        """Whether the whole file is there, to be verified."""
        return self.offer is not None and self.offset == self.offer.size

    def offered(self, offer: Offer, wanted: bool) -> Accept | Decline:
        """Answer an offer. wanted: it goes beyond what this server has.

        The same file again is gone on with. A newer one replaces it: then the offset is 0, and what
        the runtime has of the old one is to be dropped. An older one is declined.
        """
        if not wanted:
            return Decline(has_it=True)
        if self.offer is not None and offer.meta.index < self.offer.meta.index:
            return Decline(has_it=False)
        if offer != self.offer:
            self.offer, self.offset = offer, 0
        self._taken = self.offset
        return Accept(self.offset)

    def take(self, chunk: Chunk) -> None:
        """Check a chunk that came in: the runtime writes it next. Raises TransferError."""
        if self.offer is None:
            raise TransferError("a chunk of a snapshot that was not offered")
        if chunk.offset != self._taken or chunk.offset + len(chunk.data) > self.offer.size:
            raise TransferError(f"a chunk at {chunk.offset}, where {self._taken} is next")
        if zlib.crc32(chunk.data) != chunk.crc:
            raise TransferError(f"the chunk at {chunk.offset} does not match its checksum")
        self._taken += len(chunk.data)

    def wrote(self, chunk: Chunk) -> Acknowledge:
        """A chunk is in the runtime's file."""
        assert chunk.offset == self.offset
        self.offset += len(chunk.data)
        return Acknowledge(self.offset)

    def reset(self) -> None:
        """It is over: adopted, or of no use."""
        self.offer = None
        self.offset = self._taken = 0


_encoder = msgspec.msgpack.Encoder()
_sender_decoder: msgspec.msgpack.Decoder[FromSender] = msgspec.msgpack.Decoder(FromSender)
_receiver_decoder: msgspec.msgpack.Decoder[FromReceiver] = msgspec.msgpack.Decoder(FromReceiver)
