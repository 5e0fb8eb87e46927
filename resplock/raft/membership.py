"""The configuration in effect, and the earlier ones that may come back.

Pure. A configuration is in effect on a server as soon as it is in its log, committed or not, and is
taken back when its entry is truncated (thesis 4.1).

Invariant of `Membership`: `steps` are the configurations of the snapshot and of the CONFIG entries
in the log, oldest first; the last one is in effect.
"""

from __future__ import annotations

from collections.abc import Iterator

from resplock.raft.configurations import ids, is_of
from resplock.raft.entries import Configuration, EntryKind, configuration_of
from resplock.raft.storage import LogReader
from resplock.types import Index, NodeId

_SCAN_BYTES = 4 << 20


class Membership:
    """The configuration in effect, and those to go back to should its entry be truncated."""

    __slots__ = ("configuration", "quorum", "steps", "voter_ids")

    configuration: Configuration
    voter_ids: tuple[NodeId, ...]
    quorum: int
    """How many voters are a majority."""

    def __init__(self, index: Index, configuration: Configuration) -> None:
        self.steps: list[tuple[Index, Configuration]] = []
        self.put(index, configuration)

    @property
    def index(self) -> Index:
        """Where the configuration in effect stands in the log."""
        return self.steps[-1][0]

    def has_voter(self, id: NodeId, uuid: str) -> bool:
        """Whether the server votes."""
        return any(is_of(member, id, uuid) for member in self.configuration.voters)

    def has_learner(self, id: NodeId, uuid: str) -> bool:
        """Whether the server is a learner."""
        return any(is_of(member, id, uuid) for member in self.configuration.learners)

    def committed(self, commit_index: Index) -> Configuration:
        """The newest configuration that is committed."""
        *_, configuration = self._possible(commit_index)
        return configuration

    def may_need(self, id: NodeId, uuid: str, commit_index: Index) -> bool:
        """Whether the server votes, or did until a change that may not be committed yet.

        Such a removed server may be the only one whose log lets it win, so it still stands, until
        it knows better (thesis 4.2.2, figure 4.6).
        """
        return any(
            is_of(member, id, uuid)
            for configuration in self._possible(commit_index)
            for member in configuration.voters
        )

    def may_count(self, id: NodeId, uuid: str, commit_index: Index) -> bool:
        """Whether a configuration may count the server's vote, as far as this log can tell.

        Not that of a server which is in none: its directory was wiped, with the votes that the
        member of the same id has given, or it is new.
        """
        return any(
            is_of(member, id, uuid)
            for configuration in self._possible(commit_index)
            for member in configuration.voters + configuration.learners
        )

    def _possible(self, commit_index: Index) -> Iterator[Configuration]:
        """Those that may turn out to be in effect: back to the last one that is committed."""
        for index, configuration in reversed(self.steps):
            yield configuration
            if index <= commit_index:
                return

    def put(self, index: Index, configuration: Configuration) -> None:
        """The log now has `configuration` at `index`, its end."""
        assert not self.steps or index > self.index
        self.steps.append((index, configuration))
        self._take_effect()

    def truncate(self, first: Index) -> None:
        """The log lost what it had from `first` on."""
        if self.index < first:
            return
        while self.index >= first:
            self.steps.pop()
            assert self.steps, "the log was truncated below its snapshot"
        self._take_effect()

    def compact(self, index: Index) -> None:
        """The log may not be truncated up to `index` any more, so older steps are not needed."""
        while len(self.steps) > 1 and self.steps[1][0] <= index:
            del self.steps[0]

    def restart(self, index: Index, configuration: Configuration) -> None:
        """A snapshot replaced the log."""
        self.steps.clear()
        self.put(index, configuration)

    def _take_effect(self) -> None:
        self.configuration = self.steps[-1][1]
        self.voter_ids = ids(self.configuration.voters)
        self.quorum = len(self.voter_ids) // 2 + 1


def read_membership(log: LogReader, bootstrap: Configuration | None) -> Membership:
    """The configurations of a log on disk; `bootstrap` is for one that has none of its own."""
    snapshot = log.snapshot
    base = snapshot.configuration
    membership = Membership(Index(snapshot.index), base if base.voters else bootstrap or base)
    first = snapshot.index + 1
    while page := log.entries(Index(first), _SCAN_BYTES):
        for entry in page:
            if entry.kind is EntryKind.CONFIG:
                membership.put(Index(entry.first), configuration_of(entry))
        first = page[-1].last + 1
    return membership
