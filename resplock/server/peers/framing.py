"""Frames: how a stream of bytes between nodes is cut into messages.

Pure. A frame is the length of its payload, 4 bytes, big endian, and the payload, of at least one
byte. However the bytes are cut as they come in, the same payloads come out.
"""

from __future__ import annotations

from resplock.raft.messages import PeerError

PREFIX_BYTES = 4


def prefix(size: int) -> bytes:
    """What stands before a payload of `size` bytes."""
    return size.to_bytes(PREFIX_BYTES, "big")


def frame(payload: bytes) -> bytes:
    """A whole frame."""
    return prefix(len(payload)) + payload


class Frames:
    """Bytes in, payloads out.

    It never holds more than one frame of `bytes_max` and what came with its end: a length is judged
    as soon as it is there. `bytes_max` may be changed between two frames.
    """

    __slots__ = ("_buffer", "_needed", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()
        self._needed = PREFIX_BYTES

    def __len__(self) -> int:
        """How many bytes wait here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes that came in; then call `next` until it gives None."""
        self._buffer += data

    def next(self) -> bytearray | None:
        """The next payload that is complete. Raises PeerError: nothing can be read behind that."""
        buffer = self._buffer
        if len(buffer) < self._needed:
            return None
        if self._needed == PREFIX_BYTES:
            size = int.from_bytes(buffer[:PREFIX_BYTES], "big")
            if not 0 < size <= self.bytes_max:
                raise PeerError(f"a frame of {size} bytes, 1 to {self.bytes_max} are allowed")
            self._needed += size
            if len(buffer) < self._needed:
                return None
        payload = buffer[PREFIX_BYTES : self._needed]
        del buffer[: self._needed]  # moves the buffer's beginning: no copy
        self._needed = PREFIX_BYTES
        return payload
