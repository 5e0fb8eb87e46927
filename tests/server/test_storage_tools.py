"""What the storage tests share: making logs, crashing them, and a model of a power cut."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from resplock.raft.entries import Configuration, Entry, EntryKind, HardState, Member, SnapshotMeta
from resplock.server import rocks
from resplock.server.datadir import DataDirectory
from resplock.server.marks import MarkFile, VoteFile
from resplock.server.snapshots import SnapshotWriter
from resplock.server.storage import Log
from resplock.types import Index, NodeId
from tests import write_ahead_log

NODE = NodeId("n1")
EVERYTHING = 1 << 30


def run(first: int, last: int | None = None, term: int = 1, payload: bytes = b"p") -> Entry:
    """An entry that covers first..last."""
    return Entry(term, first, last or first, EntryKind.RUN, 1000 + first, payload)


def singles(first: int, last: int, term: int = 1) -> list[Entry]:
    """An entry for each index, whose payload names it."""
    return [run(index, index, term, b"%d/%d" % (term, index)) for index in range(first, last + 1)]


def meta_at(index: int, term: int = 1) -> SnapshotMeta:
    """A snapshot's metadata."""
    members = (Member(NODE, "0" * 32, "a:1", "a:2"),)
    return SnapshotMeta(index, term, 7 * index, Configuration(voters=members))


def take_snapshot(directory: Path, meta: SnapshotMeta, chunks: Sequence[bytes] = ()) -> int:
    """Write a snapshot's file."""
    writer = SnapshotWriter(directory, meta)
    for chunk in chunks or [b"chunk one", b"chunk two" * 100]:
        writer.write(chunk)
    return writer.commit()


def make(path: Path) -> Path:
    """A new data directory that nobody holds."""
    DataDirectory.open(path, NODE).close()
    return path


@contextlib.contextmanager
def opened(path: Path, **options: Any) -> Iterator[Log]:
    """The log of a data directory, closed at the end."""
    log = Log.open(path, **options)
    try:
        yield log
    finally:
        log.close()


def all_entries(log: Log) -> list[Entry]:
    """What the log holds."""
    return log.entries(log.first_index, EVERYTHING)


def crashed(path: Path, to: Path) -> Path:
    """What a kill of the process at this moment leaves of a data directory."""
    if to.exists():
        shutil.rmtree(to)
    return Path(shutil.copytree(path, to))


def wal(path: Path) -> Path:
    """The file of the write-ahead log that is being written."""
    return write_ahead_log.newest(path / "log/rocksdb")


def flip(file: Path, offset: int, bit: int = 0) -> None:
    """Turn one bit of a file."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


def _content(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


class Crashes:
    """Collects what a crash would leave, at every step that storage takes.

    Two kinds of crash: a kill leaves all files as they are; a power cut leaves of a file what was
    there when it was last synced, under the names that its directory had when that was last synced.
    RocksDB's own files are taken for durable whenever it says that it has synced. Open the
    log with a MARK_SYNC_EVERY_MS that never comes: this is not for two threads.
    """

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.killed: list[tuple[str, Path]] = []
        self.cut: list[tuple[str, Path]] = []
        self._durable_bytes: dict[int, bytes] = {}
        """Of a file, by its inode."""
        self._durable_names: dict[int, dict[str, int]] = {}
        """Of a directory, by its inode: names and what inodes they are."""
        self._serials = itertools.count()
        self._store = path.with_name(path.name + ".crashes")
        if path.exists():
            self._everything_is_durable(path)
        self._wrap(patch, os, "fsync", self._synced)
        self._wrap(patch, os, "fdatasync", self._synced)
        self._wrap(patch, os, "rename")
        self._wrap(patch, os, "unlink")
        self._wrap(patch, MarkFile, "write")
        self._wrap(patch, VoteFile, "write")
        self._wrap(patch, rocks.Rocks, "write_unsynced")
        self._wrap(patch, rocks.Rocks, "write", self._rocks_synced)
        self._wrap(patch, rocks.Rocks, "put", self._rocks_put)
        self._wrap(patch, rocks.Rocks, "sync", self._rocks_synced)
        self._wrap(patch, rocks.Rocks, "close", self._rocks_synced)

    def _wrap(
        self,
        patch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        after: Callable[..., None] | None = None,
    ) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            if owner is os:  # what came before it was a plain write
                self._kill(f"before {name}")
            result = real(*args, **options)
            if after is not None:
                after(*args, **options)
                self._cut_power(f"after {name}")
            self._kill(f"after {name}")
            return result

        patch.setattr(owner, name, wrapped)

    def _synced(self, fd: int) -> None:
        self._is_durable(Path(os.readlink(f"/proc/self/fd/{fd}")))

    def _rocks_synced(self, database: rocks.Rocks, *_: Any) -> None:
        self._everything_is_durable(database.path)

    def _rocks_put(self, database: rocks.Rocks, *_: Any, sync: bool = True) -> None:
        if sync:
            self._rocks_synced(database)

    def _everything_is_durable(self, under: Path) -> None:
        for path, _, files in os.walk(under):
            for each in (Path(path), *(Path(path) / name for name in files)):
                self._is_durable(each)

    def _is_durable(self, path: Path) -> None:
        inode = path.stat().st_ino
        if path.is_dir():
            self._durable_names[inode] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self._durable_bytes[inode] = path.read_bytes()

    def take(self, label: str) -> None:
        """Keep what a crash now would leave."""
        self._kill(label)
        self._cut_power(label)

    def _kill(self, label: str) -> None:
        if self.path.exists():
            to = self._store / f"{next(self._serials)}-killed"
            self._add(self.killed, label, crashed(self.path, to))

    def _cut_power(self, label: str) -> None:
        if self.path.exists():
            to = self._store / f"{next(self._serials)}-cut"
            self._build(self.path.stat().st_ino, to)
            self._add(self.cut, label, to)

    def _add(self, found: list[tuple[str, Path]], label: str, path: Path) -> None:
        """Add what is not the same as the one before it."""
        if found and _content(found[-1][1]) == _content(path):
            path = found.pop()[1]
        found.append((label, path))

    def _build(self, inode: int, to: Path) -> None:
        to.mkdir(parents=True)
        for name, each in self._durable_names.get(inode, {}).items():
            if each in self._directories():
                self._build(each, to / name)
            else:
                (to / name).write_bytes(self._durable_bytes.get(each, b""))

    def _directories(self) -> set[int]:
        return {os.stat(path).st_ino for path, _, _ in os.walk(self.path)}

    def forget(self) -> None:
        """Begin anew with collecting."""
        self.killed.clear()
        self.cut.clear()
        shutil.rmtree(self._store, ignore_errors=True)


def state_of(log: Log) -> tuple[HardState, list[Entry], SnapshotMeta]:
    """All that a log promises to keep."""
    return log.hard_state, all_entries(log), log.snapshot


def index(value: int) -> Index:
    """An index, for calls that want one."""
    return Index(value)
