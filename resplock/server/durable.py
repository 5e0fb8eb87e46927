"""Files that must outlive a power cut: create, replace, sync; and what to say when a disk refuses.

I/O. Everything that the data directory holds outside RocksDB is written through here.

Invariants: a replaced file has either its old or its new bytes, whenever the power goes; no write
or sync is tried again after it failed, because the kernel may have dropped the pages and marked
them clean (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from resplock.errors import StorageError

DISK_FULL = (
    "The disk is full: free some space and start again. Nothing that was acknowledged is lost."
)
NOT_PERMITTED = "Let the user that runs resplock (uid {uid}) read and write it, then start again."
CHECK_PATH = "Is the path right?"
DISK_FAILED = (
    "What the disk holds of it is now unknown, so it is not tried again. Look at the kernel's log "
    "for the device, then start again."
)


def advice(code: int | None) -> str:
    """What an operator can do about an OSError with this errno."""
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DISK_FULL
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NOT_PERMITTED.format(uid=os.geteuid())
    if code in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP):
        return CHECK_PATH
    return DISK_FAILED


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that says the path, what failed and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"{path}: cannot {doing}: {reason}. {advice(error.errno)}"
        raise StorageError(text) from error


def write_all(fd: int, data: bytes) -> None:
    """Write every byte at the file's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: files created in it, renamed or removed."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_file(path: Path, data: bytes) -> None:
    """Write a new file and sync it, mode 0600. Its name is durable once its directory is synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Give a file new bytes, all or nothing, and durably."""
    new = path.with_name(path.name + ".new")
    create_file(new, data)
    os.rename(new, path)
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Create a directory, mode 0700, durably; what is missing above it too."""
    if path.is_dir():
        return
    if not path.parent.exists():
        make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)
