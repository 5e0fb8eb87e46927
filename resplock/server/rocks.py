"""RocksDB as the log uses it: options, one synced batch at a time, reads that notice damage.

I/O. The only module that imports rocksdict, whose values are untyped and whose errors are plain
`Exception`s: neither leaves it.

What was measured (rocksdict 0.3.29, RocksDB 9.8, ext4) and decides what is here:

- `WriteOptions.sync = True` holds the interpreter lock while the disk syncs; an unsynced write
  followed by `flush_wal(sync=True)` takes the same time and gives the lock up meanwhile, so that a
  watchdog and a snapshot's writer can run. So the second.
- Options from the directory's own OPTIONS file override ours unless column families are named.
- `items()` ends early without a word at a damaged block; an iterator's `status()` tells.
- One column family is as fast as two and needs no second file to keep the log's files from ageing.
- Write buffer size, WAL preallocation, pipelined writes: no difference above noise.
- A file of the write-ahead log that is overwritten is synced in two thirds of the time of one that
  grows (103 against 161 us for 2,000 bytes): its inode does not change. The server does 6 % more
  with one connection and 10 to 19 % more with many. RocksDB then cannot tell a damaged record from
  an old one, and has no recovery mode that refuses damage: `wal` does that here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteOptions,
)

from resplock.errors import DamagedLog, StorageError
from resplock.server import wal
from resplock.server.durable import DISK_FAILED, DISK_FULL

__all__ = ["Rocks", "WriteBatch", "log_options", "new_batch"]

WRITE_BUFFER_BYTES = 8 << 20
"""What RocksDB keeps in memory and its write-ahead log before it writes a table file. It bounds
what is replayed at a start."""
WRITE_BUFFERS_MAX = 4
"""So many buffers may wait for the disk before a write waits for them."""
RECYCLED_FILES_MAX = WRITE_BUFFERS_MAX
"""So many files of the write-ahead log are kept to be overwritten."""
BLOCK_CACHE_BYTES = 2 << 20
INFO_LOG_BYTES_MAX = 1 << 20
_FILLING_KEY = b"~"
_FILLING_BYTES = 1 << 20


def log_options(*, create: bool) -> Options:
    """The options that a log is opened with."""
    tables = BlockBasedOptions()
    tables.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.set_error_if_exists(create)
    # A torn end is what a crash leaves; what else is wrong `Rocks` finds out before it opens.
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_recycle_log_file_num(RECYCLED_FILES_MAX)
    options.set_paranoid_checks(True)
    options.set_use_fsync(False)
    options.set_compression_type(DBCompressionType.none())
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX)
    options.set_max_background_jobs(2)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX)
    return options


@contextlib.contextmanager
def _rocks_errors(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except (AssertionError, StorageError):
        raise
    except Exception as error:  # rocksdict raises nothing narrower
        raise _translate(path, doing, str(error)) from error


def _translate(path: Path, doing: str, text: str) -> StorageError:
    if "No space left on device" in text or "File too large" in text:
        return StorageError(f"{path}: cannot {doing}: {text}. {DISK_FULL}")
    if text.startswith("Corruption") or "does not exist" in text or "No such file" in text:
        return DamagedLog(f"cannot {doing}: RocksDB says: {text}")
    return StorageError(f"{path}: cannot {doing}: {text}. {DISK_FAILED}")


class Rocks:
    """One RocksDB with plain bytes for keys and values."""

    def __init__(self, path: Path, *, options: Options, accept_loss: bool = False) -> None:
        """Open it. accept_loss: also when the write-ahead log is damaged in the middle, so without
        what is behind the damage. Raises DamagedLog, StorageError."""
        self.path = path
        self._unsynced = WriteOptions()
        with _rocks_errors(path, "open the log"):
            if accept_loss:
                self._drop_write_ahead_log(options)
            elif (path / "CURRENT").exists():
                self._check_write_ahead_log(options)
            self._db = Rdict(str(path), options, column_families={})

    def _check_write_ahead_log(self, options: Options) -> None:
        """Compare what is in it with what RocksDB would recover of it, while nothing is changed."""
        written = wal.newest_sequence(self.path)
        reader = Rdict(
            str(self.path), options, column_families={}, access_type=AccessType.read_only()
        )
        recovered = reader.latest_sequence_number()
        reader.close()
        if recovered < written:
            raise DamagedLog(
                f"its write-ahead log is damaged in the middle: it ends at sequence number {written}, "
                f"and can be read up to {recovered}"
            )

    def _drop_write_ahead_log(self, options: Options) -> None:
        """Put what can be read of it into a table, and remove it with whatever else it holds."""
        database = Rdict(str(self.path), options, column_families={})
        database.flush(True)
        database.close()
        for file in wal.files(self.path):
            file.unlink()

    def make_files_to_overwrite(self) -> None:
        """Fill two files of the write-ahead log, so that the next ones overwrite instead of growing.

        Otherwise only what comes after some 16 MiB of commands is synced that fast. It takes some 50
        ms and leaves nothing in the database.
        """
        filling = bytes(_FILLING_BYTES)
        with _rocks_errors(self.path, "write to the log"):
            for _ in range(2):
                for _ in range(WRITE_BUFFER_BYTES // _FILLING_BYTES - 1):
                    self._db.put(_FILLING_KEY, filling, self._unsynced)
                self._db.delete(_FILLING_KEY, self._unsynced)
                self._db.flush(True)

    def put(self, key: bytes, value: bytes, *, sync: bool = True) -> None:
        """`write`, or `write_unsynced`, with one pair: 5 us less."""
        try:
            self._db.put(key, value, self._unsynced)
            if sync:
                self._db.flush_wal(True)
        except Exception as error:  # rocksdict raises nothing narrower
            raise _translate(self.path, "write to the log", str(error)) from error

    def write(self, batch: WriteBatch) -> None:
        """Write a batch, all or nothing, and sync it. The interpreter lock is free meanwhile."""
        try:
            self._db.write(batch, self._unsynced)
            self._db.flush_wal(True)
        except Exception as error:  # rocksdict raises nothing narrower
            raise _translate(self.path, "write to the log", str(error)) from error

    def write_unsynced(self, batch: WriteBatch) -> None:
        """Write a batch, all or nothing, that the next `write` or `sync` makes durable."""
        with _rocks_errors(self.path, "write to the log"):
            self._db.write(batch, self._unsynced)

    def sync(self) -> None:
        """Make everything durable that was written. The interpreter lock is free meanwhile."""
        with _rocks_errors(self.path, "sync the log"):
            self._db.flush_wal(True)

    def get(self, key: bytes) -> bytes | None:
        """The value under a key."""
        with _rocks_errors(self.path, "read from the log"):
            value = self._db.get(key)
        assert value is None or isinstance(value, bytes)
        return value

    def items(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with begin <= key < end, in order. Raises DamagedLog at a damaged block."""
        with _rocks_errors(self.path, "read from the log"):
            cursor: RdictIter = self._db.iter()
            cursor.seek(begin)
            while cursor.valid():
                key, value = cursor.key(), cursor.value()
                assert isinstance(key, bytes)
                assert isinstance(value, bytes)
                if key >= end:
                    return
                yield key, value
                cursor.next()
            cursor.status()

    def close(self) -> None:
        """Write what is in memory to a table file and let go of the directory."""
        with _rocks_errors(self.path, "close the log"):
            self._db.close()


def new_batch() -> WriteBatch:
    """An empty batch of plain bytes."""
    return WriteBatch(raw_mode=True)
