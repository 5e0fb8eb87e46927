"""The files of RocksDB's write-ahead log, for tests that damage them."""

from __future__ import annotations

import re
import struct
from pathlib import Path


def newest(rocksdb: Path) -> Path:
    """The file that is being written."""
    return max(file for file in rocksdb.glob("*.log") if file.stat().st_size)


def end(file: Path) -> int:
    """Where its records end: behind it zeros follow, or records of the file's earlier life."""
    data, number, found = file.read_bytes(), int(file.stem), 0
    header = re.compile(rb"[\5-\x08]" + re.escape(struct.pack("<I", number)), re.DOTALL)
    for match in header.finditer(data):
        begin = match.start() - 6
        found = max(found, begin + 11 + int.from_bytes(data[begin + 4 : begin + 6], "little"))
    return found


def damage(file: Path) -> None:
    """Turn one bit in the middle of its records."""
    data = bytearray(file.read_bytes())
    data[end(file) // 2] ^= 16
    file.write_bytes(data)


def cut(file: Path) -> None:
    """Lose the second half of its records."""
    file.write_bytes(file.read_bytes()[: end(file) // 2])
