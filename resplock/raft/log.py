"""The log of one server: the newest entries in memory, the older ones through a LogReader.

Pure. Nothing is written here: `unwritten` is what the runtime must write next.

        base             applied            commit             last
    ------|-----------------|------------------|-----------------|
          .                 .     stable       .   written
    ------------------------------|            .     .              durable
    -------------------------------------------------|              written, the reader has it
                     [=========== tail ==========================]  in memory

Invariants:

- `base <= applied_index <= commit_index <= last_index`, `stable_index <= written_index <=
  last_index`; these are ends of entries.
- `tail` is the contiguous end of the log from `tail_first` on. It has every entry that is not
  written or not applied yet, but for those that a restart found on disk. What the reader has from
  `tail_first` on is a copy or overwritten: it is never read.
- Committed entries are never truncated (leader completeness, Raft paper, figure 3).

So a server that keeps up never reads its log back: entries are replicated, committed and applied
from the tail, which is bounded in bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

from resplock.raft.entries import Entry, SnapshotMeta, entry_bytes
from resplock.raft.storage import LogReader
from resplock.types import Index, StampMs, Term

_last_of = attrgetter("last")
_EVICT_SHARE = 16
"""A tail over its bound gives up a sixteenth of it at once: cheap for each entry, no long pause."""


class RaftLog:
    """See the module. An index that is called an end must be the last index of an entry."""

    __slots__ = (
        "_apply_at",
        "_reader",
        "_replaced",
        "_tail_bytes",
        "_tail_bytes_max",
        "_unwritten_at",
        "applied_index",
        "base",
        "commit_index",
        "last_index",
        "last_stamp_ms",
        "last_term",
        "stable_index",
        "tail",
        "tail_first",
        "written_index",
    )

    def __init__(self, reader: LogReader, applied: Index, tail_bytes_max: int) -> None:
        self._reader = reader
        self.base = reader.snapshot
        """The newest snapshot's place: the log is complete from behind it."""
        self.last_index = self.stable_index = self.written_index = reader.last_index
        self.applied_index = self.commit_index = Index(max(applied, self.base.index))
        assert self.commit_index <= self.last_index, "applied entries are not in the log"
        self.tail: list[Entry] = []
        self.tail_first = Index(self.last_index + 1)
        self._tail_bytes = 0
        self._tail_bytes_max = tail_bytes_max
        self._unwritten_at = 0  # where in the tail the first entry is that is not written
        self._apply_at = 0  # where in the tail the first entry is that is not applied
        self._replaced = False  # a snapshot replaced the log, and the reader has the old one
        self._read_end()

    # --- reading ---------------------------------------------------------------------------------

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry that covers `index`; None when it was compacted, or never was."""
        if index == self.last_index:
            return self.last_term
        if index == self.base.index:
            return Term(self.base.term)
        if index >= self.tail_first or self._replaced:
            entry = self.entry_at(index)
            return Term(entry.term) if entry is not None else None
        return self._reader.term_at(index)

    def entry_at(self, index: Index) -> Entry | None:
        """The entry that covers `index`; None when it was compacted, or never was."""
        if index >= self.tail_first:
            return self.tail[self._position(index)] if index <= self.last_index else None
        return self._reader.entry_at(index) if not self._replaced else None

    def has(self, end: Index, term: Term) -> bool:
        """Whether an entry of `term` ends there: all logs that have it are alike up to it."""
        return self.term_at(end) == term and self.is_end(end)

    def is_end(self, index: Index) -> bool:
        """Whether `index` is the last one of the snapshot or of an entry that is still kept."""
        if index == self.last_index or index == self.base.index:
            return True
        entry = self.entry_at(index)
        return entry is not None and entry.last == index

    @property
    def first_index(self) -> Index:
        """The first index of the oldest entry that is still kept; behind the end when none is."""
        return self.tail_first if self._replaced else min(self._reader.first_index, self.tail_first)

    def start_of(self, index: Index) -> Index:
        """The first index of the entry that covers `index`; `index` itself when there is none."""
        entry = self.entry_at(index)
        return Index(entry.first) if entry is not None else index

    def entries_from(self, first: Index, bytes_max: int) -> tuple[Entry, ...] | None:
        """The entries from the one that begins at `first`, about `bytes_max`, at least one.

        Empty behind the log's end, None when they were compacted away.
        """
        if first > self.last_index:
            assert first == self.last_index + 1
            return ()
        if first >= self.tail_first:
            return self._from_tail(self._position(first), self.last_index, bytes_max)
        if self._replaced or first < self._reader.first_index:
            return None
        return self._from_reader(first, self.last_index, bytes_max)

    def last_of_terms_up_to(self, term: Term, low: Index, high: Index) -> Index:
        """The largest index in [low, high] whose term is at most `term`; `low` if none is.

        Terms never fall along a log, so this is a binary search. What was compacted counts as old.
        """
        while low < high:
            middle = Index((low + high + 1) // 2)
            found = self.term_at(middle)
            if found is None or found <= term:
                low = middle
            else:
                high = Index(middle - 1)
        return low

    # --- growing and shrinking -------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Put `entry` behind the last one."""
        assert entry.first == self.last_index + 1, "a gap in the log"
        assert entry.term >= self.last_term, "terms never fall along a log"
        self.tail.append(entry)
        self._tail_bytes += entry_bytes(entry)
        self._end_at(entry)

    def truncate(self, first: Index) -> None:
        """Drop the entry that begins at `first` and all behind it: the leader has others there."""
        assert self.commit_index < first <= self.last_index, "committed entries never change"
        position = 0
        if first >= self.tail_first:
            position = self._position(first)
            assert self.tail[position].first == first, "entries are never split"
        else:
            self.tail_first = first
        self._tail_bytes -= sum(map(entry_bytes, self.tail[position:]))
        del self.tail[position:]
        self._unwritten_at = min(self._unwritten_at, position)
        self.written_index = Index(min(self.written_index, first - 1))
        self.stable_index = Index(min(self.stable_index, first - 1))
        self.last_index = Index(first - 1)
        self._read_end()

    def replace_by(self, meta: SnapshotMeta) -> None:
        """The log is now empty and begins behind a snapshot that is newer than the commit index."""
        assert meta.index > self.commit_index
        self.tail.clear()
        self._tail_bytes = self._unwritten_at = self._apply_at = 0
        self.base = meta
        self._replaced = True
        self.last_index = self.stable_index = self.written_index = Index(meta.index)
        self.commit_index = self.applied_index = self.last_index
        self.tail_first = Index(meta.index + 1)
        self._read_end()

    def reader_was_replaced(self) -> None:
        """The reader has the log that `replace_by` made."""
        self._replaced = False

    def compact(self, meta: SnapshotMeta) -> None:
        """A newer snapshot is durable: the reader may lose what is before its end at any time."""
        assert self.base.index <= meta.index <= self.applied_index
        self.base = meta

    # --- becoming durable ------------------------------------------------------------------------

    @property
    def has_unwritten(self) -> bool:
        """Whether entries wait to be written."""
        return self._unwritten_at < len(self.tail)

    def unwritten(self) -> tuple[Entry, ...]:
        """All entries that are not written. They may overwrite an older end of the durable log."""
        return tuple(self.tail[self._unwritten_at :])

    def written(self, entries: tuple[Entry, ...]) -> None:
        """`entries`, which `unwritten` gave out, are written; durable only with `synced`.

        The log may have changed meanwhile. If the last of them is still in its place, by term and
        index, then so are all before it (log matching, Raft paper, section 5.3). If not, nothing is
        concluded, even where the same indexes exist again, and `unwritten` gives out all of it anew.
        """
        last = entries[-1]
        position = self._unwritten_at + len(entries) - 1
        if position >= len(self.tail):
            return
        found = self.tail[position]
        if found.last == last.last and found.term == last.term:
            self._unwritten_at = position + 1
            self.written_index = Index(last.last)

    def synced(self) -> None:
        """Everything that was written is durable."""
        self.stable_index = self.written_index

    # --- commit and apply ------------------------------------------------------------------------

    def commit_to(self, end: Index) -> None:
        """Everything up to `end` is committed. Never goes back."""
        assert self.commit_index <= end <= self.last_index
        self.commit_index = end

    def to_apply(self, bytes_max: int) -> tuple[Entry, ...]:
        """The next committed entries, about `bytes_max`, at least one if there are any."""
        commit_index = self.commit_index
        if self.applied_index == commit_index:
            return ()
        first = Index(self.applied_index + 1)
        if first >= self.tail_first:
            return self._from_tail(self._apply_at, commit_index, bytes_max)
        return self._from_reader(first, commit_index, bytes_max)

    def applied(self, entries: tuple[Entry, ...]) -> None:
        """`entries`, which `to_apply` gave out, are applied."""
        last = Index(entries[-1].last)
        if last <= self.applied_index:
            return  # a snapshot replaced the log meanwhile
        assert entries[0].first == self.applied_index + 1
        self.applied_index = last
        if last >= self.tail_first:
            self._apply_at += len(entries)
        if self._tail_bytes > self._tail_bytes_max:
            self._evict()

    def _evict(self) -> None:
        """Drop the oldest entries of the tail that are written and applied, but for the last."""
        evictable = min(self._apply_at, self._unwritten_at, len(self.tail) - 1)
        bytes_wanted = self._tail_bytes_max - self._tail_bytes_max // _EVICT_SHARE
        count = 0
        while count < evictable and self._tail_bytes > bytes_wanted:
            self._tail_bytes -= entry_bytes(self.tail[count])
            count += 1
        del self.tail[:count]
        self._apply_at -= count
        self._unwritten_at -= count
        self.tail_first = Index(self.tail[0].first)

    # --- the tail, the reader, the end -----------------------------------------------------------

    def _position(self, index: Index) -> int:
        """Where in the tail the entry is that covers `index`."""
        return bisect_left(self.tail, index, key=_last_of)

    def _from_tail(self, position: int, up_to: Index, bytes_max: int) -> tuple[Entry, ...]:
        tail = self.tail
        end, size = position, 0
        while end < len(tail) and tail[end].last <= up_to:
            size += entry_bytes(tail[end])
            if size > bytes_max and end > position:
                break
            end += 1
        return tuple(tail[position:end])

    def _from_reader(self, first: Index, up_to: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Without what the tail has, or has instead."""
        up_to = Index(min(up_to, self.tail_first - 1))
        read = self._reader.entries(first, bytes_max)
        return tuple(entry for entry in read if entry.last <= up_to)

    def _end_at(self, entry: Entry) -> None:
        self.last_index = Index(entry.last)
        self.last_term = Term(entry.term)
        self.last_stamp_ms = StampMs(entry.stamp_ms)

    def _read_end(self) -> None:
        """Find the last term and stamp again: `last_index` was set or went back."""
        if self.last_index == self.base.index:
            self.last_term = Term(self.base.term)
            self.last_stamp_ms = StampMs(self.base.stamp_ms)
            return
        entry = self.tail[-1] if self.tail else self._reader.entry_at(self.last_index)
        assert entry is not None, "the log's end is missing"
        assert entry.last == self.last_index
        self._end_at(entry)
