"""The data directory: whose it is, that nobody else uses it, that it is made whole or not at all.

I/O.

    <data directory>/      mode 0700
      lock                 held by the running process; its pid
      identity             format, node id and uuid: its presence says that the directory was
                           made completely
      cluster              (resplock.server.bootstrap)
      log/  snapshots/     (resplock.server.storage)

The uuid tells a server from one that was started under the same id after its data was wiped. A
directory without an identity becomes a new node only when nothing in it could be anybody's data.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import zlib
from pathlib import Path

import msgspec

from resplock.errors import DirectoryInUse, NewerFormat, StorageError
from resplock.raft.entries import HardState
from resplock.server import records, snapshots
from resplock.server.durable import (
    make_directory,
    replace_file,
    storage_errors,
    sync_directory,
)
from resplock.server.marks import DamagedCell, Mark, MarkFile, VoteFile
from resplock.server.recovery import REJOIN
from resplock.server.rocks import Rocks, log_options, new_batch
from resplock.server.storage import snapshots_directory
from resplock.types import NodeId

FORMAT = 1
"""The format of the directory as a whole."""

_OURS = frozenset(
    {"lock", "identity", "identity.new", "cluster", "cluster.new", "log", "log.new", "snapshots"}
)
_NOT_DATA = frozenset({"lost+found"})
"""What a fresh file system may hold."""


class Identity(msgspec.Struct, frozen=True):
    """What the identity file holds, as one line of JSON, for operators to read."""

    format: int
    node: str
    uuid: str
    crc32: int = 0


class _Format(msgspec.Struct, frozen=True):
    """The part that every release can read of every release's identity file."""

    format: int


class DataDirectory:
    """A data directory that this process holds. Made by `DataDirectory.open`."""

    def __init__(self, path: Path, lock_fd: int, identity: Identity, created: bool) -> None:
        self.path = path
        self.node_id = NodeId(identity.node)
        self.uuid = identity.uuid
        """32 hexadecimal digits, from when the directory was made."""
        self.created = created
        """Whether it was made just now."""
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path, node_id: NodeId) -> DataDirectory:
        """Take the directory for this process; make it, with an empty log, when it is not there.

        Raises DirectoryInUse, NewerFormat, or StorageError with what was found and what to do.
        """
        path = path.absolute()
        if path.exists() and not path.is_dir():
            raise StorageError(
                f"{path}: is not a directory. Give the path of one, or of none: it is then made."
            )
        with storage_errors(path, "use it as the data directory"):
            make_directory(path)
            names = set(os.listdir(path))
        if "identity" not in names and names - _OURS - _NOT_DATA:
            raise StorageError(
                f"{path}: holds {_some(names - _OURS - _NOT_DATA)}, which are not resplock's. Give "
                f"a directory of its own."
            )
        lock_fd = _take_lock(path)
        try:
            created = not (path / "identity").exists()
            if created:
                _make(path, node_id)
            identity = _read_identity(path / "identity")
            if identity.node != node_id:
                raise StorageError(
                    f"{path}: belongs to node {identity.node!r}, and this is node {node_id!r}. "
                    f"Give this node its own directory, or start it as {identity.node!r}."
                )
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd, identity, created)

    def replace_uuid(self) -> None:
        """Become another server of the same id, durably. Raises StorageError."""
        fresh = uuid.uuid4().hex
        with storage_errors(self.path, "write the identity file"):
            replace_file(self.path / "identity", encode_identity(self.node_id, fresh))
        self.uuid = fresh

    def close(self) -> None:
        """Let another process have it. Close the log first. May be called twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def encode_identity(node_id: str, uuid_hex: str) -> bytes:
    """The identity file."""
    identity = Identity(FORMAT, node_id, uuid_hex)
    return msgspec.json.encode(msgspec.structs.replace(identity, crc32=_crc(identity))) + b"\n"


def _crc(identity: Identity) -> int:
    return zlib.crc32(msgspec.json.encode(msgspec.structs.replace(identity, crc32=0)))


def _make(path: Path, node_id: NodeId) -> None:
    """Make what a new node has; the identity last. Begins anew what a crash left half made."""
    if (path / "cluster").exists():
        raise StorageError(
            f"{path}: belongs to a cluster but has no identity file. Put the file `identity` back "
            f"from a backup. {REJOIN}"
        )
    if (path / "log").exists():
        if not _is_untouched(path):
            raise StorageError(
                f"{path}: has a log but no identity file, so it may be any node's. Put the file "
                f"`identity` back from a backup. {REJOIN}"
            )
    elif (path / "snapshots").exists() and os.listdir(path / "snapshots"):
        raise StorageError(
            f"{path}: has snapshots but neither a log nor an identity file. Put them back from a "
            f"backup. {REJOIN}"
        )
    else:
        create_log(path)
    with storage_errors(path, "write the identity file"):
        replace_file(path / "identity", encode_identity(node_id, uuid.uuid4().hex))


def create_log(directory: Path) -> None:
    """Make an empty log in a data directory, all or nothing. A half-made one is begun anew."""
    log, new = directory / "log", directory / "log.new"
    with storage_errors(new, "create the log"):
        if new.exists():
            shutil.rmtree(new)
        make_directory(new)
        make_directory(snapshots_directory(directory))
    rocks = Rocks(new / "rocksdb", options=log_options(create=True))
    batch = new_batch()
    batch.put(records.HARD_STATE_KEY, records.encode_hard_state(HardState()))
    rocks.write(batch)
    rocks.close()
    VoteFile.create(new / "vote")
    MarkFile.create(new / "mark")
    with storage_errors(new, "create the log"):
        sync_directory(new / "rocksdb")
        sync_directory(new)
        os.rename(new, log)
        sync_directory(directory)


def _is_untouched(directory: Path) -> bool:
    """Whether the log in a data directory has never had an entry, a term or a snapshot."""
    log = directory / "log"
    mark, vote = MarkFile(log / "mark"), VoteFile(log / "vote")
    try:
        untouched = mark.read() == Mark() and vote.read() == HardState()
    except DamagedCell:
        return False
    finally:
        mark.close()
        vote.close()
    return untouched and not snapshots.listing(snapshots_directory(directory))


def _read_identity(path: Path) -> Identity:
    with storage_errors(path, "read the identity file"):
        data = path.read_bytes()
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version <= FORMAT:
            identity = msgspec.json.decode(data, type=Identity)
            if identity.crc32 == _crc(identity):
                return identity
    except msgspec.MsgspecError:
        version = 0
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: the data directory has format {version}, this release knows formats up to "
            f"{FORMAT}. Start the release that wrote it, or a later one."
        )
    raise StorageError(
        f"{path}: is damaged: it does not match its checksum. Put it back from a backup. {REJOIN}"
    )


def _take_lock(path: Path) -> int:
    lock = path / "lock"
    with storage_errors(lock, "lock the data directory"):
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise DirectoryInUse(
                f"{path}: is in use by the process with pid {pid}. Two servers cannot share a data "
                f"directory: stop that one, or give this one a directory of its own."
            ) from None
        except OSError:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def _some(names: set[str]) -> str:
    """A few names, for a message."""
    few = sorted(names)[:3]
    rest = len(names) - len(few)
    return ", ".join(map(repr, few)) + (f" and {rest} more" if rest else "")
