"""Two small files beside the log: the vote file and the mark.

I/O. RocksDB recovers a write-ahead log whose end is torn by dropping that end, and a damaged last
record can look like a torn one. These files are what such a loss is noticed by:

- `vote` holds the term and the vote. It is written and synced before the batch that holds them, so
  before any vote leaves; when the log has an older one, the newer one rules.
- `mark` names the log's last entry, {term, last index}, and is written after each synced batch. A
  thread syncs it about once a second, so a crash of the process loses nothing of it and a power cut
  a second. Invariant: the entry that it names is in the log, or the newest snapshot covers it.

Both are durable formats, made of two cells that are overwritten in turn, so that a cell torn by a
power cut is never the only one. A cell lies within one sector (at 0 and at 4096), never changes its
size, and ends with a CRC32 over every byte before it. Numbers are big endian.

    mark, 40 bytes   b"RLMK" | format, 1 byte | 3 zeros | serial, 8 bytes | term, 8 bytes |
                     last index, 8 bytes | 4 zeros | CRC32. The higher serial is the newer
    vote, 512 bytes  b"RLVT" | format, 1 byte | 1 zero | length, 2 bytes | msgpack HardState |
                     zeros | CRC32. The later hard state is the newer

The mark is written through a memory mapping: a write() marks the file's inode as changed each time,
and the log's sync then has to log that too (measured: 15 us of 130).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path

import msgspec

from resplock.errors import DamagedLog, NewerFormat, StorageError
from resplock.raft.entries import HardState
from resplock.server.durable import create_file, storage_errors
from resplock.types import Natural

FORMAT = 1

_MARK = struct.Struct(">4sB3xQQQ4xI")
_MARK_MAGIC = b"RLMK"
_VOTE_HEADER = struct.Struct(">4sBxH")
_VOTE_MAGIC = b"RLVT"
_VOTE_CELL_BYTES = 512
_OFFSETS = (0, 4096)
_FILE_BYTES = 8192
_CRC_BYTES = 4

VOTE_BYTES_MAX = _VOTE_CELL_BYTES - _VOTE_HEADER.size - _CRC_BYTES
"""The longest hard state, encoded."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """An entry that was durable: its term, and its last index. Zeros before the first entry."""

    term: Natural = 0
    index: Natural = 0


class DamagedCell(DamagedLog):
    """A cell whose bytes are not the ones that were written. Never leaves this package."""


def encode_mark(serial: int, term: int, index: int) -> bytes:
    """The mark's cell. Of two, the one with the higher serial was written later."""
    body = _MARK.pack(_MARK_MAGIC, FORMAT, serial, term, index, 0)[:-_CRC_BYTES]
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "big")


def decode_mark(cell: bytes) -> tuple[int, Mark]:
    """The serial and the mark in a cell. Raises DamagedCell or NewerFormat."""
    _check_cell(cell, _MARK.size, _MARK_MAGIC)
    _, _, serial, term, index, _ = _MARK.unpack(cell)
    return serial, Mark(term, index)


def encode_vote(hard_state: HardState) -> bytes:
    """A vote cell. Raises StorageError when the node's id is too long for one."""
    body = msgspec.msgpack.encode(hard_state)
    if len(body) > VOTE_BYTES_MAX:
        raise StorageError(f"the node id {hard_state.vote[:64]!r}... is too long for the vote file")
    cell = _VOTE_HEADER.pack(_VOTE_MAGIC, FORMAT, len(body)) + body
    cell = cell.ljust(_VOTE_CELL_BYTES - _CRC_BYTES, b"\0")
    return cell + zlib.crc32(cell).to_bytes(_CRC_BYTES, "big")


def decode_vote(cell: bytes) -> HardState:
    """The hard state in a cell. Raises DamagedCell or NewerFormat."""
    _check_cell(cell, _VOTE_CELL_BYTES, _VOTE_MAGIC)
    _, _, length = _VOTE_HEADER.unpack_from(cell)
    body = cell[_VOTE_HEADER.size : _VOTE_HEADER.size + length]
    try:
        return msgspec.msgpack.decode(body, type=HardState)
    except msgspec.MsgspecError as error:
        raise DamagedCell(str(error)) from error


def _check_cell(cell: bytes, size: int, magic: bytes) -> None:
    if len(cell) != size:
        raise DamagedCell(f"it has {len(cell)} bytes where {size} are due")
    crc = zlib.crc32(cell[:-_CRC_BYTES])
    if cell[:4] != magic or crc.to_bytes(_CRC_BYTES, "big") != cell[-_CRC_BYTES:]:
        raise DamagedCell("it does not match its checksum")
    if cell[4] > FORMAT:
        raise NewerFormat(f"it has format {cell[4]}, this release knows formats up to {FORMAT}")


def newer(one: HardState, other: HardState) -> HardState:
    """The later of two hard states: terms only rise, and within a term a vote is given once."""
    if one.term == other.term and one.vote and other.vote and one.vote != other.vote:
        raise DamagedLog(
            f"term {one.term} has two votes on record, for {one.vote!r} and for {other.vote!r}"
        )
    return max(one, other, key=lambda state: (state.term, state.vote != ""))


def _two_cells(one: bytes, other: bytes) -> bytes:
    data = bytearray(_FILE_BYTES)
    for offset, cell in zip(_OFFSETS, (one, other), strict=True):
        data[offset : offset + len(cell)] = cell
    return bytes(data)


class MarkFile:
    """The mark's file, kept open. `write` is for the hot path; `sync` may run in another thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path, "open the log's mark"):
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if os.fstat(self._fd).st_size != _FILE_BYTES:
                    raise DamagedCell(f"the mark {path} does not have {_FILE_BYTES} bytes")
                self._bytes = mmap.mmap(self._fd, _FILE_BYTES)
            except BaseException:
                os.close(self._fd)
                raise
        self._serial = 0
        self._unsynced = False

    @staticmethod
    def create(path: Path) -> None:
        """Make the file, with the mark of an empty log."""
        with storage_errors(path, "create the log's mark"):
            create_file(path, _two_cells(encode_mark(0, 0, 0), encode_mark(1, 0, 0)))

    def read(self) -> Mark:
        """The newest mark that is whole. Raises DamagedCell when none is, or NewerFormat."""
        marks = []
        for offset in _OFFSETS:
            try:
                marks.append(decode_mark(self._bytes[offset : offset + _MARK.size]))
            except DamagedCell:
                continue
        if not marks:
            raise DamagedCell("neither of its two copies matches its checksum")
        self._serial, mark = max(marks, key=lambda pair: pair[0])
        return mark

    def write(self, term: int, index: int) -> None:
        """Put the mark into the kernel's hands: it survives this process, not yet a power cut."""
        self._serial = serial = self._serial + 1
        offset = _OFFSETS[serial & 1]
        self._bytes[offset : offset + _MARK.size] = encode_mark(serial, term, index)
        self._unsynced = True

    def write_durably(self, term: int, index: int) -> None:
        """Write the mark over both cells and sync them, whatever another thread syncs meanwhile."""
        self.write(term, index)
        self.write(term, index)
        self._sync()

    def sync(self) -> None:
        """Make what was written durable; nothing to do when nothing was written since."""
        if self._unsynced:
            self._sync()

    def _sync(self) -> None:
        self._unsynced = False  # before the sync: a mark written during it needs the next one
        with storage_errors(self.path, "sync the log's mark"):
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close without a sync."""
        self._bytes.close()
        os.close(self._fd)


class VoteFile:
    """The vote's file, kept open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path, "open the vote file"):
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._next_cell = 0
        self.damaged_cells = 0
        """How many cells `read` could not use: 1 after a power cut during a write, at most."""

    @staticmethod
    def create(path: Path) -> None:
        """Make the file, with the hard state of a node that has never voted."""
        cell = encode_vote(HardState())
        with storage_errors(path, "create the vote file"):
            create_file(path, _two_cells(cell, cell))

    def read(self) -> HardState:
        """The newest hard state; `write` will use the other cell. Raises DamagedCell when no cell
        is whole, DamagedLog when they contradict each other, NewerFormat."""
        states: dict[int, HardState] = {}
        for number, offset in enumerate(_OFFSETS):
            with storage_errors(self.path, "read the vote file"):
                cell = os.pread(self._fd, _VOTE_CELL_BYTES, offset)
            try:
                states[number] = decode_vote(cell)
            except DamagedCell:
                self.damaged_cells += 1
        if not states:
            raise DamagedCell("neither of its two copies matches its checksum")
        if len(states) == 1:
            (number,) = states
            self._next_cell = 1 - number
            return states[number]
        newest = newer(states[0], states[1])
        self._next_cell = 1 if newest == states[0] else 0
        return newest

    def write(self, hard_state: HardState) -> None:
        """Make a hard state durable. One sync: the file's size never changes."""
        cell = encode_vote(hard_state)
        with storage_errors(self.path, "write and sync the vote file"):
            written = os.pwrite(self._fd, cell, _OFFSETS[self._next_cell])
            os.fdatasync(self._fd)
        if written != len(cell):
            raise StorageError(f"{self.path}: only {written} bytes of the vote were written")
        self._next_cell = 1 - self._next_cell

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
