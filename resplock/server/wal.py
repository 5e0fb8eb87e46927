"""What RocksDB's write-ahead log holds, read without RocksDB: to know when some of it is lost.

I/O, reading only. RocksDB overwrites old files of its write-ahead log in place (see `rocks`), where
behind the end of the new records old ones follow. So it takes the first record that is wrong for the
end, also when a later one is whole: damage in the middle would look like a torn end, and everything
behind it would vanish without a word. Here the file is read from its other end.

The format is RocksDB's ("Write Ahead Log File Format" in its documentation): blocks of 32 KiB, in
them records that never cross a block, numbers little endian.

    record   masked CRC32C, 4 bytes | length, 2 bytes | type, 1 byte | number of the file, 4 bytes |
             data. The CRC covers everything from the type on
    type     5: a whole batch. 6, 7, 8: the first, a middle, the last part of one
    batch    sequence number of its first key, 8 bytes | number of keys, 4 bytes, 0 in the one that
             RocksDB adds after it has dropped a torn end | ...

A record with the number of its file is not one of an earlier life of the file.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import google_crc32c

BLOCK_BYTES = 32 * 1024
WHOLE, FIRST, MIDDLE, LAST = 5, 6, 7, 8

_HEADER = struct.Struct("<IHBI")
_BATCH_HEADER = struct.Struct("<QI")
_TYPE_OFFSET = 6
_MASK_DELTA = 0xA282EAD8
"""RocksDB stores a CRC rotated and with this added, so that a CRC over CRCs is no weaker."""


def files(directory: Path) -> list[Path]:
    """The files of a database's write-ahead log, by age, also those that wait to be overwritten."""
    return sorted(path for path in directory.glob("*.log") if path.stem.isdigit())


def newest_sequence(directory: Path) -> int:
    """The highest sequence number of any whole batch in a database's write-ahead log; 0 for none."""
    found = (newest_sequence_in(path.read_bytes(), int(path.stem)) for path in files(directory))
    return max(found, default=0)


def newest_sequence_in(data: bytes, number: int) -> int:
    """The sequence number at the end of the last whole batch in the file of this number."""
    of_this_file = re.escape(struct.pack("<I", number & 0xFFFFFFFF))
    begins = [
        match.start() - _TYPE_OFFSET
        for match in re.finditer(rb"[\x05\x06]" + of_this_file, data, re.DOTALL)
    ]
    for begin in reversed(begins):
        batch = _batch_at(data, begin, number)
        if batch is not None and len(batch) >= _BATCH_HEADER.size:
            sequence, count = _BATCH_HEADER.unpack_from(batch)
            return int(sequence) + int(count) - 1
    return 0


def _batch_at(data: bytes, begin: int, number: int) -> bytes | None:
    """The batch whose first record begins there; None when any part of it is not whole."""
    parts = []
    kinds = (WHOLE, FIRST)
    while True:
        record = _record_at(data, begin, number)
        if record is None or record[0] not in kinds:
            return None
        kind, part = record
        parts.append(part)
        if kind in (WHOLE, LAST):
            return b"".join(parts)
        kinds = (MIDDLE, LAST)
        begin += _HEADER.size + len(part)
        if BLOCK_BYTES - begin % BLOCK_BYTES < _HEADER.size:
            begin += BLOCK_BYTES - begin % BLOCK_BYTES  # a header does not fit: zeros are there


def _record_at(data: bytes, begin: int, number: int) -> tuple[int, bytes] | None:
    """Type and data of the record that begins there; None when there is no whole one."""
    if begin < 0 or begin + _HEADER.size > len(data):
        return None
    masked, length, kind, of_file = _HEADER.unpack_from(data, begin)
    end = begin + _HEADER.size + length
    room = BLOCK_BYTES - begin % BLOCK_BYTES
    if of_file != number & 0xFFFFFFFF or _HEADER.size + length > room or end > len(data):
        return None
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    crc = (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
    if google_crc32c.value(data[begin + _TYPE_OFFSET : end]) != crc:
        return None
    return kind, data[begin + _HEADER.size : end]
