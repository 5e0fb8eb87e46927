"""Storage in memory: a LogReader that keeps, over a crash, exactly what was synced to it."""

from __future__ import annotations

from bisect import bisect_left

from resplock.raft.entries import Configuration, Entry, HardState, SnapshotMeta, entry_bytes
from resplock.raft.ready import Ready
from resplock.types import Index, Term


class MemoryLog:
    """What a server finds again after a crash."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        self.hard_state = HardState()
        self.snapshot = SnapshotMeta(configuration=configuration or Configuration())
        self.kept: list[Entry] = []
        self.unsynced: list[Entry] = []
        """Of `kept`, the last ones, which a crash may lose."""
        self.reads = 0
        """How often the core came here for an entry."""

    # --- LogReader -------------------------------------------------------------------------------

    @property
    def first_index(self) -> Index:
        return Index(self.kept[0].first if self.kept else self.snapshot.index + 1)

    @property
    def last_index(self) -> Index:
        return Index(self.kept[-1].last if self.kept else self.snapshot.index)

    def entry_at(self, index: Index) -> Entry | None:
        self.reads += 1
        return self._find(index)

    def term_at(self, index: Index) -> Term | None:
        self.reads += 1
        if index == self.snapshot.index:
            return Term(self.snapshot.term)
        entry = self._find(index)
        return None if entry is None else Term(entry.term)

    def entries(self, first: Index, limit_bytes: int) -> list[Entry]:
        self.reads += 1
        if first > self.last_index:
            return []
        at = self._position(first)
        assert self.kept[at].first == first, "not the first index of an entry that is kept"
        page: list[Entry] = []
        size = 0
        for entry in self.kept[at:]:
            size += entry_bytes(entry)
            if page and size > limit_bytes:
                break
            page.append(entry)
        return page

    # --- the runtime's side ----------------------------------------------------------------------

    def persist(self, ready: Ready) -> None:
        """One batch, synced if it has to be."""
        if ready.installed is not None:
            self.snapshot = ready.installed
            self.kept.clear()
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.entries:
            self.cut(Index(ready.entries[0].first))
            assert ready.entries[0].first == self.last_index + 1, "a gap on disk"
            self.kept.extend(ready.entries)
            self.unsynced.extend(ready.entries)
        if ready.sync:
            self.sync()

    def sync(self) -> None:
        """What was written is durable."""
        self.unsynced.clear()

    def crash(self) -> None:
        """Lose what was not synced."""
        if self.unsynced:
            self.cut(Index(self.unsynced[0].first))
            self.unsynced.clear()

    def cut(self, first: Index) -> None:
        """Drop the entries from `first` on."""
        if self.kept and first <= self.last_index:
            at = self._position(first)
            assert self.kept[at].first == first, "half an entry overwritten"
            del self.kept[at:]
            self.unsynced = [entry for entry in self.unsynced if entry.last < first]

    def compact(self, meta: SnapshotMeta, keep: int = 0) -> None:
        """A snapshot is durable: drop what is before it, but for about `keep` indexes."""
        self.snapshot = meta
        self.kept = [entry for entry in self.kept if entry.last > meta.index - keep]

    def _position(self, index: Index) -> int:
        return bisect_left(self.kept, index, key=lambda entry: entry.last)

    def _find(self, index: Index) -> Entry | None:
        if not self.first_index <= index <= self.last_index or not self.kept:
            return None
        return self.kept[self._position(index)]
