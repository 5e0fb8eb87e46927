"""What the consensus core reads back from stable storage. The runtime and the simulator implement it.

Pure: an interface. Writing is not part of it, because the core never writes: it hands out a `Ready`
that says what must be durable before what may be sent.
"""

from __future__ import annotations

from typing import Protocol

from resplock.raft.entries import Entry, HardState, SnapshotMeta
from resplock.types import Index, Term


class LogReader(Protocol):
    """The log as far as it was written. What a start finds of it is durable."""

    @property
    def hard_state(self) -> HardState:
        """The last one that was made durable; HardState() in an empty directory."""

    @property
    def snapshot(self) -> SnapshotMeta:
        """The newest durable snapshot's place in the log; SnapshotMeta() when there is none."""

    @property
    def first_index(self) -> Index:
        """The first index that `entries` can give: the first of the oldest entry kept."""

    @property
    def last_index(self) -> Index:
        """The last index of the newest entry, or the snapshot's index when there are no entries."""

    def entry_at(self, index: Index) -> Entry | None:
        """The entry that covers `index`; None when it was compacted away or is not there yet."""

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry that covers `index`, also of the snapshot's own index; else None."""

    def entries(self, first: Index, limit_bytes: int) -> list[Entry]:
        """The entries from the one that begins at `first` on, at least one, up to about `limit_bytes`.

        Empty when `first` is past the last index. `first` must be an entry's first index that is
        still kept.
        """
