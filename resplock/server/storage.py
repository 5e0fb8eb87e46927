"""The durable log of one node: entries, hard state, and which snapshot they continue.

I/O, blocking, for one thread: the event loop calls `save` inline. One more thread syncs the mark.

Invariants, each checked when the log is opened (resplock.server.recovery):

- `save` with sync returns only after its batch, and all before it, is on the disk, and term and vote
  in the vote file before it.
- The entries are contiguous: each begins behind the one before it and names that one's term.
- They continue the snapshot in use: first_index <= snapshot.index + 1.
- The entry that the mark names is in the log, or the snapshot covers it. Before anything that would
  break this (a conflicting suffix replaced, a snapshot installed) the mark is moved back, durably.

So a log is never silently shorter than what was acknowledged. After a write or sync has failed
nothing is tried again, and the process is expected to end.

    <data directory>/
      log/rocksdb/   entries and hard state (resplock.server.records)
      log/vote       term and vote again, and
      log/mark       the last entry's place (resplock.server.marks)
      snapshots/     (resplock.server.snapshots)
"""

from __future__ import annotations

import bisect
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from resplock.errors import DamagedLog, StorageError
from resplock.limits import MARK_SYNC_EVERY_MS
from resplock.raft.entries import Entry, HardState, SnapshotMeta, entry_bytes
from resplock.server import records, snapshots
from resplock.server.marks import MarkFile, VoteFile
from resplock.server.records import ENTRIES_BEGIN, ENTRIES_END, HARD_STATE_KEY, entry_key
from resplock.server.recovery import DAMAGED, Recovered, located, read_records, recover
from resplock.server.rocks import Rocks, WriteBatch, log_options, new_batch
from resplock.types import Index, Term

TAIL_BYTES_MAX = 8 << 20
"""Entries kept in memory, the newest ones: what the leader sends and what is applied next."""

_log = structlog.get_logger(__name__)


def end_process(error: StorageError) -> None:
    """What a failed sync in the background leads to, unless the runtime has something better."""
    _log.critical("the log's mark cannot be synced, ending", reason=str(error))
    os._exit(1)


def snapshots_directory(directory: Path) -> Path:
    """Where a data directory keeps its snapshots."""
    return directory / "snapshots"


class Log:
    """The durable log. Implements `resplock.raft.storage.LogReader`; made by `Log.open`."""

    def __init__(
        self, directory: Path, rocks: Rocks, mark: MarkFile, vote: VoteFile, found: Recovered
    ) -> None:
        self._directory = directory
        self._rocks = rocks
        self._mark = mark
        self._vote = vote
        self._hard_state = found.hard_state
        self._snapshot = found.snapshot
        self._first_index = found.first_index
        self._last_index = found.last_index
        self._last_term = found.last_term
        self._tail = _Tail()
        self._is_synced = True
        self._failure: StorageError | None = None
        self._closed = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = found.lost
        """With accept_loss: the mark of the entries that were lost, or None. A node of a larger
        cluster that has lost entries must not vote until its leader has caught it up."""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        accept_loss: bool = False,
        fatal: Callable[[StorageError], None] = end_process,
    ) -> Log:
        """Open the log of a data directory that `DataDirectory.open` made, and check all of it.

        accept_loss: start even when the log ends before its mark, so without entries that were
        acknowledged. fatal: called in a background thread when the mark cannot be synced.
        Raises DamagedLog, DamagedSnapshot, LostEntries, NewerFormat, StorageError.
        """
        path = directory / "log"
        parts = [path / "rocksdb" / "CURRENT", path / "mark", path / "vote"]
        missing = [str(part) for part in parts if not part.exists()]
        if missing:
            text = f"{path}: the log is damaged: {', '.join(missing)}: not there."
            raise DamagedLog(f"{text} {DAMAGED}")
        with contextlib.ExitStack() as stack:
            stack.enter_context(located(path))
            mark = MarkFile(path / "mark")
            stack.callback(mark.close)
            vote = VoteFile(path / "vote")
            stack.callback(vote.close)
            rocks = Rocks(
                path / "rocksdb", options=log_options(create=False), accept_loss=accept_loss
            )
            stack.callback(rocks.close)
            found = recover(rocks, mark, vote, snapshots_directory(directory), accept_loss)
            log = cls(directory, rocks, mark, vote, found)
            log._settle(found)
            log._start_mark_thread(fatal)
            stack.pop_all()
        return log

    @property
    def snapshot_directory(self) -> Path:
        """Where `resplock.server.snapshots` reads and writes."""
        return snapshots_directory(self._directory)

    # --- what the consensus core reads -----------------------------------------------------------

    @property
    def hard_state(self) -> HardState:
        """The last one that was made durable."""
        return self._hard_state

    @property
    def snapshot(self) -> SnapshotMeta:
        """The snapshot that this log continues; SnapshotMeta() when there is none."""
        return self._snapshot

    @property
    def first_index(self) -> Index:
        """The first index of the oldest entry kept; one past the last index when none is."""
        return Index(self._first_index)

    @property
    def last_index(self) -> Index:
        """The last index of the newest entry, or the snapshot's index when there are none."""
        return Index(self._last_index)

    def entry_at(self, index: Index) -> Entry | None:
        """The entry that covers `index`; None when it was compacted away or is not there yet."""
        if not self._first_index <= index <= self._last_index:
            return None
        entry = self._tail.covering(index)
        if entry is not None:
            return entry
        record = next(read_records(self._rocks, index), None)
        if record is None or not record.entry.first <= index <= record.entry.last:
            path = self._rocks.path.parent
            raise DamagedLog(f"{path}: the entry that covers index {index} is gone. {DAMAGED}")
        return record.entry

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry that covers `index`, or of the snapshot that ends there."""
        if index == self._last_index:
            return Term(self._last_term)
        if index == self._snapshot.index:
            return Term(self._snapshot.term)
        entry = self.entry_at(index)
        return None if entry is None else Term(entry.term)

    def entries(self, first: Index, limit_bytes: int) -> list[Entry]:
        """The entries from the one that begins at `first` on, at least one, up to about
        `limit_bytes`. Empty when `first` is past the last index."""
        if first > self._last_index:
            return []
        assert first >= self._first_index, "the entry was compacted away"
        found: list[Entry] = []
        room = limit_bytes
        for entry in self._entries_from(first):
            room -= entry_bytes(entry)
            if found and room < 0:
                break
            found.append(entry)
        assert found, "the log has entries up to last_index"
        assert found[0].first == first, "not the first index of an entry"
        return found

    # --- writing ---------------------------------------------------------------------------------

    def save(
        self, hard_state: HardState | None, entries: Sequence[Entry], *, sync: bool = True
    ) -> None:
        """Write a hard state and entries: one batch, one sync, nothing when there is none.

        The entries are contiguous and continue the log, or replace everything from entries[0].first
        on. Without `sync` entries wait for the next save with it, or for `sync`, to be durable; a
        hard state never waits. Raises StorageError: whether they are durable is then unknown, and
        the process must end without acknowledging anything more.
        """
        self._assert_usable()
        if hard_state == self._hard_state:
            hard_state = None
        if hard_state is None and not entries:
            if sync:
                self.sync()
            return
        sync = sync or hard_state is not None
        try:
            if (
                hard_state is None
                and len(entries) == 1
                and entries[0].first == self._last_index + 1
            ):
                record = self._encode(entries[0], self._last_index, self._last_term)
                self._rocks.put(*record, sync=sync)
            else:
                batch = new_batch()
                if hard_state is not None:
                    self._put_hard_state(batch, hard_state)
                if entries:
                    self._put_entries(batch, entries)
                if sync:
                    self._rocks.write(batch)
                else:
                    self._rocks.write_unsynced(batch)
        except StorageError as error:
            self._failure = error
            raise
        if hard_state is not None:
            self._hard_state = hard_state
        if entries:
            last = entries[-1]
            self._last_index, self._last_term = last.last, last.term
            self._tail.append(entries)
        self._is_synced = sync
        if sync:
            self._mark.write(self._last_term, self._last_index)

    def sync(self) -> None:
        """Make everything durable that was saved. Raises StorageError, as `save` does."""
        if not self._is_synced:
            self._assert_usable()
            self._sync()

    def _sync(self) -> None:
        try:
            self._rocks.sync()
        except StorageError as error:
            self._failure = error
            raise
        self._is_synced = True
        self._mark.write(self._last_term, self._last_index)

    def compact(self, meta: SnapshotMeta, *, through: Index | None = None) -> None:
        """Use the durable snapshot `meta`, and drop the entries that end at or before `through`.

        through: by default the snapshot's index. With the index of the snapshot before it, a
        damaged newest snapshot can be survived, and followers that lag little need no snapshot.
        Nothing is synced: after a crash the entries may be there again.
        """
        self._assert_usable()
        through = Index(meta.index if through is None else min(through, meta.index))
        assert meta.index >= self._snapshot.index, "an older snapshot"
        assert self.term_at(Index(meta.index)) == meta.term, "the snapshot is not of this log"
        self._snapshot = meta
        if through < self._first_index:
            return
        kept = self.entry_at(Index(through + 1))
        batch = new_batch()
        batch.delete_range(ENTRIES_BEGIN, entry_key(through + 1))
        try:
            self._rocks.write_unsynced(batch)
        except StorageError as error:
            self._failure = error
            raise
        self._first_index = self._last_index + 1 if kept is None else kept.first
        self._tail.forget_through(through)

    def install(self, meta: SnapshotMeta) -> None:
        """Replace the whole log by the durable snapshot `meta`, which came from the leader."""
        self._assert_usable()
        assert meta.index >= self._snapshot.index, "an older snapshot"
        try:
            self._replace_by(meta)
        except StorageError as error:
            self._failure = error
            raise

    def make_ready_to_write(self) -> None:
        """Let the first commands be written as fast as later ones. Takes some 50 ms."""
        self._assert_usable()
        try:
            self._rocks.make_files_to_overwrite()
        except StorageError as error:
            self._failure = error
            raise

    def sync_mark(self) -> None:
        """Make the mark durable. The background thread calls this; it blocks for one sync."""
        self._mark.sync()

    def close(self) -> None:
        """Stop the background thread, sync the mark, close the files. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.ExitStack() as stack:
            stack.callback(self._mark.close)
            stack.callback(self._vote.close)
            if self._failure is not None:
                stack.enter_context(contextlib.suppress(StorageError))
            stack.callback(self._rocks.close)
            if self._failure is None:
                if not self._is_synced:
                    self._sync()
                self._mark.sync()

    # --- inside ----------------------------------------------------------------------------------

    def _assert_usable(self) -> None:
        assert not self._closed, "the log is closed"
        if self._failure is not None:
            raise self._failure

    def _entries_from(self, first: int) -> Iterator[Entry]:
        if self._tail.has(first):
            return self._tail.beginning_at(first)
        return (record.entry for record in read_records(self._rocks, first))

    def _put_hard_state(self, batch: WriteBatch, hard_state: HardState) -> None:
        """Make it durable in the vote file at once, and put it into the batch."""
        assert hard_state.term >= self._hard_state.term, "terms only rise"
        self._vote.write(hard_state)
        batch.put(HARD_STATE_KEY, records.encode_hard_state(hard_state))

    def _put_entries(self, batch: WriteBatch, entries: Sequence[Entry]) -> None:
        first = entries[0].first
        if first <= self._last_index:
            self.sync()  # the mark must not name what is not durable
            self._cut(Index(first - 1))
            batch.delete_range(entry_key(first), ENTRIES_END)
        previous_index, previous_term = self._last_index, self._last_term
        for entry in entries:
            batch.put(*self._encode(entry, previous_index, previous_term))
            previous_index, previous_term = entry.last, entry.term

    def _encode(self, entry: Entry, previous_index: int, previous_term: int) -> tuple[bytes, bytes]:
        assert entry.first == previous_index + 1, "entries are not contiguous"
        assert entry.first <= entry.last
        assert entry.term >= previous_term, "terms only rise"
        return records.encode_entry(entry, previous_term)

    def _cut(self, index: Index) -> None:
        """Take `index` for the log's end, in memory and durably in the mark: the batch that follows
        replaces what is behind it."""
        assert index >= self._snapshot.index, "entries that the snapshot covers would be replaced"
        kept = self.entry_at(index)
        assert kept is None or kept.last == index, "an entry would be split"
        term = self._snapshot.term if kept is None else kept.term
        assert kept is not None or index == self._snapshot.index, "the entry before them is gone"
        self._mark.write_durably(term, index)
        self._tail.cut(index)
        self._last_index, self._last_term = index, term

    def _replace_by(self, meta: SnapshotMeta) -> None:
        self._mark.write_durably(meta.term, meta.index)
        batch = new_batch()
        batch.delete_range(ENTRIES_BEGIN, ENTRIES_END)
        self._rocks.write(batch)
        self._snapshot = meta
        self._first_index = meta.index + 1
        self._last_index, self._last_term = meta.index, meta.term
        self._tail = _Tail()

    def _settle(self, found: Recovered) -> None:
        """Finish what a crash interrupted, and write again what must be in two places."""
        if not found.hard_state_everywhere:
            _log.warning("term and vote repaired", path=str(self._vote.path))
            batch = new_batch()
            self._put_hard_state(batch, found.hard_state)
            self._rocks.write(batch)
        if found.superseded:
            self._replace_by(found.snapshot)
        else:
            self._mark.write_durably(self._last_term, self._last_index)
        for path in found.damaged_snapshots:
            snapshots.set_aside(path)
        snapshots.remove_unfinished(self.snapshot_directory)
        snapshots.remove_old(self.snapshot_directory)
        _log.info(
            "log opened",
            path=str(self._rocks.path.parent),
            first_index=self._first_index,
            last_index=self._last_index,
            snapshot_index=self._snapshot.index,
            term=self._hard_state.term,
        )

    def _start_mark_thread(self, fatal: Callable[[StorageError], None]) -> None:
        def run() -> None:
            while not self._stop.wait(MARK_SYNC_EVERY_MS / 1000):
                try:
                    self.sync_mark()
                except StorageError as error:
                    self._failure = error
                    fatal(error)
                    return

        self._thread = threading.Thread(target=run, name="resplock-mark", daemon=True)
        self._thread.start()


class _Tail:
    """The newest entries in memory: contiguous, up to the log's last index, bounded in bytes."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lasts: list[int] = []
        self._bytes = 0

    def has(self, index: int) -> bool:
        """Whether an entry that covers `index` is here, if the log has one."""
        return bool(self._entries) and self._entries[0].first <= index

    def covering(self, index: int) -> Entry | None:
        """The entry that covers `index`; None when it is not here."""
        if not self.has(index):
            return None
        position = bisect.bisect_left(self._lasts, index)
        return self._entries[position] if position < len(self._entries) else None

    def beginning_at(self, first: int) -> Iterator[Entry]:
        """The entries from the one that covers `first` on."""
        for position in range(bisect.bisect_left(self._lasts, first), len(self._entries)):
            yield self._entries[position]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow. Above TAIL_BYTES_MAX the older half goes."""
        for entry in entries:
            self._entries.append(entry)
            self._lasts.append(entry.last)
            self._bytes += entry_bytes(entry)
        if self._bytes > TAIL_BYTES_MAX:
            gone, left = 0, self._bytes
            while left > TAIL_BYTES_MAX // 2 and gone < len(self._entries) - 1:
                left -= entry_bytes(self._entries[gone])
                gone += 1
            self._remove(0, gone)

    def cut(self, index: int) -> None:
        """Remove what ends behind `index`."""
        self._remove(bisect.bisect_right(self._lasts, index), len(self._entries))

    def forget_through(self, index: int) -> None:
        """Remove what ends at or before `index`."""
        self._remove(0, bisect.bisect_right(self._lasts, index))

    def _remove(self, begin: int, end: int) -> None:
        self._bytes -= sum(map(entry_bytes, self._entries[begin:end]))
        del self._entries[begin:end]
        del self._lasts[begin:end]
