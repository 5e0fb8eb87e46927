"""Snapshot files: written in a worker thread, read back only whole.

I/O. A snapshot never goes through RocksDB. Invariants: a file with a snapshot's name is complete
and synced; every byte of it is checked before the first one is believed by `verify`, and again as
`read` hands it out.

The durable format (numbers are big endian):

    <index, 20 digits>-<term, 20 digits>.snapshot
    header   b"RLSN" | format, 1 byte | length of the meta, 4 bytes | msgpack SnapshotMeta | CRC32
    chunk    length, 4 bytes, not 0 | CRC32 of the length and the bytes | the bytes
    trailer  4 zeros | chunks, 8 bytes | bytes in all chunks, 8 bytes | CRC32 of the chunks' CRCs,
             4 bytes each | CRC32 of the trailer
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from resplock.errors import DamagedSnapshot, NewerFormat, StorageError
from resplock.raft.entries import SnapshotMeta
from resplock.server.durable import (
    make_directory,
    storage_errors,
    sync_directory,
    write_all,
)

FORMAT = 1
KEPT = 2
"""So many snapshots are kept: the newest, and one to fall back on."""
CHUNK_BYTES_MAX = 16 << 20
"""The longest chunk: more than any writer uses, and a bound on what a damaged length can cost."""
SYNC_EVERY_BYTES = 4 << 20
"""The writer syncs as it goes, so that the last sync does not hold up the log's for long."""

_SUFFIX = ".snapshot"
_DAMAGED_SUFFIX = ".damaged"
_UNFINISHED_SUFFIX = ".tmp"
_MAGIC = b"RLSN"
_META_BYTES_MAX = 1 << 20
_HEADER = struct.Struct(">4sBI")
_TRAILER = struct.Struct(">IQQI")
_U32 = struct.Struct(">I")

_log = structlog.get_logger(__name__)
_serials = itertools.count()


@dataclass(frozen=True, order=True)
class SnapshotFile:
    """A snapshot by its name alone. Sorts by age, the oldest first."""

    index: int
    term: int
    path: Path


def snapshot_path(directory: Path, meta: SnapshotMeta) -> Path:
    """The file of a snapshot. In this module, `directory` is always that of the snapshots."""
    return directory / f"{meta.index:020d}-{meta.term:020d}{_SUFFIX}"


def listing(directory: Path) -> list[SnapshotFile]:
    """The finished snapshots, the oldest first, by their names: nothing is read of them."""
    found = []
    with storage_errors(directory, "list the snapshots"):
        for path in directory.glob(f"*{_SUFFIX}"):
            index, _, term = path.name.removesuffix(_SUFFIX).partition("-")
            if index.isdecimal() and term.isdecimal():
                found.append(SnapshotFile(int(index), int(term), path))
    return sorted(found)


def encode_header(meta: SnapshotMeta) -> bytes:
    """What a snapshot file begins with."""
    body = msgspec.msgpack.encode(meta)
    header = _HEADER.pack(_MAGIC, FORMAT, len(body)) + body
    return header + _U32.pack(zlib.crc32(header))


class SnapshotWriter:
    """Writes one snapshot, in a worker thread. Nothing is kept in memory between calls.

    Until `commit` returns there is no snapshot: a crash leaves a file that `prune` removes.
    """

    def __init__(self, directory: Path, meta: SnapshotMeta) -> None:
        self._directory = directory
        self._path = snapshot_path(directory, meta)
        name = f"{self._path.name}.{next(_serials)}{_UNFINISHED_SUFFIX}"
        self._unfinished = self._path.with_name(name)
        self._chunks = 0
        self._chunk_bytes = 0
        self._crc_of_crcs = 0
        self._bytes = 0
        self._unsynced_bytes = 0
        self._fd = -1
        with self._errors():
            make_directory(self._unfinished.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._fd = os.open(self._unfinished, flags, 0o600)
        try:
            self._append(encode_header(meta))
        except StorageError:
            self.abort()
            raise

    def write(self, chunk: bytes) -> None:
        """Append a chunk of 1 to CHUNK_BYTES_MAX bytes. Raises StorageError; then call `abort`."""
        assert 0 < len(chunk) <= CHUNK_BYTES_MAX, "an empty or oversized chunk"
        length = _U32.pack(len(chunk))
        crc = _U32.pack(zlib.crc32(chunk, zlib.crc32(length)))
        self._append(length + crc)
        self._append(chunk)
        self._chunks += 1
        self._chunk_bytes += len(chunk)
        self._crc_of_crcs = zlib.crc32(crc, self._crc_of_crcs)

    def commit(self) -> int:
        """Make the snapshot durable under its name; remove what it replaces. Returns its bytes."""
        trailer = _TRAILER.pack(0, self._chunks, self._chunk_bytes, self._crc_of_crcs)
        self._append(trailer + _U32.pack(zlib.crc32(trailer)))
        with self._errors():
            os.fsync(self._fd)
            fd, self._fd = self._fd, -1
            os.close(fd)
            os.rename(self._unfinished, self._path)
            sync_directory(self._path.parent)
        remove_old(self._directory)
        _remove(sorted(self._path.parent.glob(f"*{_DAMAGED_SUFFIX}")))
        return self._bytes

    def abort(self) -> None:
        """Give the snapshot up and remove its file. Safe to call at any time, also twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                os.unlink(self._unfinished)

    def _append(self, data: bytes) -> None:
        assert self._fd >= 0, "the snapshot was committed or aborted"
        with self._errors():
            write_all(self._fd, data)
            self._bytes += len(data)
            self._unsynced_bytes += len(data)
            if self._unsynced_bytes >= SYNC_EVERY_BYTES:
                os.fdatasync(self._fd)
                self._unsynced_bytes = 0

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return storage_errors(self._path, "write the snapshot")


def read(directory: Path, meta: SnapshotMeta) -> Iterator[bytes]:
    """The chunks of a snapshot, each checked. The file is opened at once, so a later snapshot may
    replace it meanwhile. Raises DamagedSnapshot: before the iterator has ended, what it gave must
    not be used."""
    path = snapshot_path(directory, meta)
    file = _open(path)
    try:
        found = _read_header(file, path)
        if found != meta:
            raise _damaged(path, f"its header says {found}, not {meta}")
    except BaseException:
        file.close()
        raise
    return _chunks(file, path)


def verify(path: Path) -> SnapshotMeta:
    """Read a whole snapshot file, a chunk at a time. Raises DamagedSnapshot or NewerFormat."""
    with _open(path) as file:
        meta = _read_header(file, path)
        if path.name != snapshot_path(path.parent, meta).name:
            raise _damaged(path, f"its header says index {meta.index}, term {meta.term}")
        for _ in _chunks(file, path):
            pass
    return meta


def latest(directory: Path) -> SnapshotMeta | None:
    """The newest snapshot that is whole; None when there is no file.

    Raises DamagedSnapshot when there are files and none of them is whole. Which snapshot a node may
    start from also depends on its log: `Log.snapshot` is that one.
    """
    damage: DamagedSnapshot | None = None
    for file in reversed(listing(directory)):
        try:
            return verify(file.path)
        except DamagedSnapshot as error:
            _log.warning("damaged snapshot", path=str(file.path), reason=str(error))
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def remove_old(directory: Path) -> None:
    """Remove all but the newest snapshots."""
    _remove([file.path for file in listing(directory)[:-KEPT]])


def remove_unfinished(directory: Path) -> None:
    """Remove what a crash left behind. Only while no writer is at work: when opening."""
    _remove(sorted(directory.glob(f"*{_UNFINISHED_SUFFIX}")))


def set_aside(path: Path) -> None:
    """Rename a damaged snapshot, so that it is not taken for one, until the next one is made."""
    with storage_errors(path, "rename the damaged snapshot"):
        os.rename(path, path.with_name(path.name + _DAMAGED_SUFFIX))
        sync_directory(path.parent)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with storage_errors(path, "remove it"):
            path.unlink(missing_ok=True)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise _damaged(path, "the file is not there") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot open the snapshot: {error.strerror}.") from error


def _damaged(path: Path, what: str) -> DamagedSnapshot:
    return DamagedSnapshot(f"{path}: the snapshot is damaged: {what}.")


def _exactly(file: BinaryIO, count: int, path: Path) -> bytes:
    try:
        data = file.read(count)
    except OSError as error:
        raise _damaged(path, f"the disk says: {error.strerror}") from error
    if len(data) != count:
        raise _damaged(path, "it ends too early")
    return data


def _read_header(file: BinaryIO, path: Path) -> SnapshotMeta:
    fixed = _exactly(file, _HEADER.size, path)
    magic, version, length = _HEADER.unpack(fixed)
    if magic != _MAGIC or length > _META_BYTES_MAX:
        raise _damaged(path, "it does not begin as a snapshot does")
    body = _exactly(file, length, path)
    if _exactly(file, _U32.size, path) != _U32.pack(zlib.crc32(fixed + body)):
        raise _damaged(path, "its header does not match its checksum")
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: the snapshot has format {version}, this release knows formats up to "
            f"{FORMAT}. Start the release that wrote it, or a later one."
        )
    try:
        return msgspec.msgpack.decode(body, type=SnapshotMeta)
    except msgspec.MsgspecError as error:
        raise _damaged(path, f"its header cannot be decoded: {error}") from error


def _chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    chunks = chunk_bytes = crc_of_crcs = 0
    with file:
        while True:
            prefix = _exactly(file, _U32.size, path)
            (length,) = _U32.unpack(prefix)
            if length == 0:
                break
            if length > CHUNK_BYTES_MAX:
                raise _damaged(path, f"chunk {chunks} claims {length} bytes")
            crc = _exactly(file, _U32.size, path)
            chunk = _exactly(file, length, path)
            if _U32.pack(zlib.crc32(chunk, zlib.crc32(prefix))) != crc:
                raise _damaged(path, f"chunk {chunks} does not match its checksum")
            chunks += 1
            chunk_bytes += length
            crc_of_crcs = zlib.crc32(crc, crc_of_crcs)
            yield chunk
        trailer = prefix + _exactly(file, _TRAILER.size - _U32.size, path)
        if _exactly(file, _U32.size, path) != _U32.pack(zlib.crc32(trailer)):
            raise _damaged(path, "its end does not match its checksum")
        if _TRAILER.unpack(trailer) != (0, chunks, chunk_bytes, crc_of_crcs):
            raise _damaged(path, "it does not have the chunks that its end lists")
        if file.read(1):
            raise _damaged(path, "bytes follow its end")
