"""A simulated disk: what a server finds again after a crash, and what may have become of it.

It follows `resplock.server.storage`. A batch of the log is written, then synced, or synced later with
others; before it, term and vote are durable in their own file. The mark of the log's end is written
after each sync, and synced itself once in a while. Snapshots are files, durable when they appear
under their name.

When a process is killed, what it has written stays, synced or not. When the power fails, what was
not synced may be gone, each part for itself; a batch is there whole or not at all, because a torn
record at the log's end is dropped on recovery.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from resplock.raft.entries import Configuration, Entry, HardState, SnapshotMeta
from resplock.types import Index, Term
from tests.raft.memory import MemoryLog

SNAPSHOTS_KEPT = 2
_NO_MARK = (Term(0), Index(0))


class Damaged(Exception):
    """Recovery refuses: bytes in the log or in the snapshots that it needs are wrong."""


class DiskFull(Exception):
    """A write failed. The process ends."""


@dataclass
class SnapshotFile:
    """A durable snapshot."""

    meta: SnapshotMeta
    chunks: list[bytes]
    is_damaged: bool = False

    @property
    def crc(self) -> int:
        """Over all chunks."""
        crc = 0
        for chunk in self.chunks:
            crc = crc32(chunk, crc)
        return crc


class Disk(MemoryLog):
    """One server's disk. As a LogReader it shows what is written."""

    def __init__(self, bootstrap: Configuration | None) -> None:
        super().__init__(bootstrap)
        self._bootstrap = self.snapshot
        self.files: list[SnapshotFile] = []
        """Oldest first."""
        self.mark = self._synced_mark = _NO_MARK
        self.is_full = False
        self.is_damaged = False
        """Somewhere in the middle of the log."""
        self.has_lost = False
        """Entries that were acknowledged are gone: those before the mark."""
        self._written: tuple[HardState | None, Sequence[Entry]] | None = None
        self._unsynced: list[Entry] = []
        """The end of `kept` that a power failure may take."""
        self._dropped: list[Entry] = []

    # --- what a running process does -------------------------------------------------------------

    def write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """A batch: not durable before `sync`. Raises DiskFull."""
        assert self._written is None
        if self.is_full:
            raise DiskFull
        self._written = (hard_state, entries)

    def written(self) -> None:
        """The batch that was written can be read, and outlives the process."""
        assert self._written is not None
        (hard_state, entries), self._written = self._written, None
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            self._append(entries)
            self._unsynced.extend(entries)

    def sync(self) -> None:
        """All that was written is durable."""
        if self._written is not None:
            self.written()
        self._dropped.clear()
        if self._unsynced:
            last = self._unsynced[-1]
            self._unsynced.clear()
            self._move_mark((Term(last.term), Index(last.last)))

    def _append(self, entries: Sequence[Entry]) -> None:
        first = Index(entries[0].first)
        if first <= self.last_index:
            self.cut(first)
            self._unsynced.clear()
            self._set_mark()
        assert first == self.last_index + 1, "a gap on disk"
        self.kept.extend(entries)

    def sync_mark(self) -> None:
        """The mark's own sync, once in a while."""
        self._synced_mark = self.mark

    def store(self, file: SnapshotFile) -> None:
        """A snapshot's file appears. Raises DiskFull."""
        if self.is_full:
            raise DiskFull
        self.files.append(file)
        self.files.sort(key=lambda each: each.meta.index)
        del self.files[:-SNAPSHOTS_KEPT]

    def drop_through(self, meta: SnapshotMeta, through: int) -> None:
        """Continue the snapshot `meta`; the log up to `through` is no longer needed. Not synced."""
        kept = [entry for entry in self.kept if entry.last > through]
        self._dropped = self.kept[: len(self.kept) - len(kept)]
        self.kept, self.snapshot = kept, meta

    def install(self, meta: SnapshotMeta) -> None:
        """The log is replaced by a durable snapshot that came from elsewhere."""
        self.snapshot = meta
        self.kept.clear()
        self._dropped.clear()
        self._unsynced.clear()
        self._set_mark()

    def file_at(self, index: int) -> SnapshotFile | None:
        """The snapshot's file, if it is still there."""
        return next((file for file in self.files if file.meta.index == index), None)

    def _set_mark(self) -> None:
        """Durably, to where the log ends now."""
        last = self.last_index
        term = self.term_at(last)
        assert term is not None
        self._move_mark((term, last))
        self._synced_mark = self.mark

    def _move_mark(self, end: tuple[Term, Index]) -> None:
        """A mark whose entries were lost stays until the log is as new again."""
        if not self.has_lost or end >= self.mark:
            self.mark, self.has_lost = end, False

    # --- how it ends -----------------------------------------------------------------------------

    def lose_process(self) -> None:
        """Killed: the system still has all that was written."""
        if self._written is not None:
            self.written()

    def lose_power(self, rng: random.Random) -> None:
        """What was not synced may be gone."""
        written, self._written = self._written, None
        if written is not None:
            hard_state, entries = written
            fate = rng.randrange(3)
            if fate:  # term and vote are durable before the batch is
                self._written = (hard_state, entries if fate == 2 else ())
                self.written()
        if self._unsynced:
            lost = rng.randrange(len(self._unsynced) + 1)
            del self.kept[len(self.kept) - lost :]
            self._unsynced.clear()
        if self._dropped and rng.random() < 0.5:
            self.kept[:0] = self._dropped
        self._dropped.clear()
        if rng.random() < 0.5:
            self.mark = self._synced_mark

    def lose_tail(self, count: int) -> bool:
        """Damage to the newest records, which recovery takes for a torn end. Whether any is gone."""
        self._unsynced.clear()
        gone = self.kept[max(len(self.kept) - count, 0) :]
        del self.kept[len(self.kept) - len(gone) :]
        return bool(gone)

    # --- and begins again ------------------------------------------------------------------------

    def recover(self) -> tuple[Term, Index]:
        """Judge what is there, as `resplock.server.recovery` does.

        The voting mark: (0, 0), or the place of acknowledged entries that are gone. Raises Damaged.
        """
        if self.is_damaged:
            raise Damaged("the log")
        whole = [file.meta for file in self.files if not file.is_damaged]
        meta = whole[-1] if whole else self._bootstrap
        if self.kept and self.kept[0].first > meta.index + 1:
            raise Damaged("the newest snapshot")
        self.files = [file for file in self.files if not file.is_damaged]
        self.snapshot = meta
        if self.kept and not self._continues(meta):
            self.kept.clear()
        self._unsynced.clear()  # what is found is put into a table before the log is open
        if not self.has_lost:
            self.has_lost = self.mark[1] > meta.index and not self.has_end(
                self.mark[1], self.mark[0]
            )
        self._set_mark()
        return self.mark if self.has_lost else _NO_MARK

    def _continues(self, meta: SnapshotMeta) -> bool:
        return self.kept[0].first == meta.index + 1 or self.has_end(meta.index, meta.term)

    def has_end(self, index: int, term: int) -> bool:
        """Whether an entry of `term` ends at `index`, durably."""
        entry = self._find(Index(index))
        return entry is not None and (entry.last, entry.term) == (index, term)

    @property
    def durable_index(self) -> int:
        """Everything up to here would be found again."""
        synced = self._unsynced[0].first - 1 if self._unsynced else self.last_index
        return max(synced, self.files[-1].meta.index if self.files else 0)

    def covers(self, index: int, term: int) -> bool:
        """Whether the log has that entry, or a snapshot what it did."""
        if self.files and index <= self.files[-1].meta.index:
            return True
        return index <= self.durable_index and self.has_end(index, term)
