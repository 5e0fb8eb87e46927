"""What must hold in every run (Raft paper, figure 3; thesis 3, 6.4). Any test that uses the cluster
checks it; `Violation` is what a planted bug has to cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resplock.raft.core import RaftCore
from resplock.raft.entries import Entry
from resplock.types import Index, NodeId, Term

if TYPE_CHECKING:
    from tests.raft.cluster import Cluster, Server


class Violation(AssertionError):
    """The cluster did what Raft says can never happen."""


class Safety:
    """The cluster's history, as somebody who sees everything remembers it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leaders: dict[Term, NodeId] = {}
        self.history: list[Entry] = []
        """What was applied anywhere, in order."""
        self.applied_in: list[Term] = []
        """The term of the server that applied it first: it was committed in this term or before."""
        self.high_commit = Index(0)
        self.reads: dict[int, Index] = {}
        self.checks = 0

    def check(self, server: Server) -> None:
        """Look at a server that has just finished some work."""
        core = server.core
        assert core is not None
        self._check_applied(server, core)
        self.high_commit = max(self.high_commit, core.commit_index)
        if core.is_leader:
            self._check_leader(core)
        self.checks += 1
        if self.checks % 50 == 0:
            self.check_logs()

    def _check_applied(self, server: Server, core: RaftCore) -> None:
        """State machine safety: all apply the same, in the same order."""
        history = self.history
        for position in range(server.checked, len(server.applied)):
            entry = server.applied[position]
            if position == len(history):
                history.append(entry)
                self.applied_in.append(core.term)
            elif history[position] != entry:
                raise Violation(f"{server.id} applied another entry at {entry.first}")
        server.checked = len(server.applied)

    def _check_leader(self, core: RaftCore) -> None:
        """Election safety; leader completeness, when a leader is seen for the first time."""
        if core.term in self.leaders:
            if self.leaders[core.term] != core.id:
                raise Violation(f"two servers lead term {core.term}")
            return
        self.leaders[core.term] = core.id
        for entry, term in zip(self.history, self.applied_in, strict=True):
            if term < core.term and entry.last > core.log.base.index:
                if not core.log.has(Index(entry.last), Term(entry.term)):
                    raise Violation(f"leader {core.id} lacks the committed entry {entry.first}")

    def check_logs(self) -> None:
        """Log matching: logs that have an entry in common are alike before it."""
        ids = [server.id for server in self.cluster.servers.values() if server.core]
        logs = {id: {entry.last: entry for entry in self.cluster.log_of(id)} for id in ids}
        for number, a in enumerate(ids):
            for b in ids[number + 1 :]:
                self._check_pair(a, logs[a], b, logs[b])

    def _check_pair(
        self, a: NodeId, of_a: dict[int, Entry], b: NodeId, of_b: dict[int, Entry]
    ) -> None:
        common = [last for last in of_a if last in of_b and of_a[last].term == of_b[last].term]
        if not common:
            return
        newest = max(common)
        oldest = max(next(iter(of_a.values())).first, next(iter(of_b.values())).first)
        if _between(of_a, oldest, newest) != _between(of_b, oldest, newest):
            raise Violation(f"the logs of {a} and {b} differ before {newest}")

    # --- reads -----------------------------------------------------------------------------------

    def read_asked(self, context: int) -> None:
        for core in self.cluster.cores():
            self.high_commit = max(self.high_commit, core.commit_index)
        self.reads[context] = self.high_commit

    def read_answered(self, context: int, index: Index) -> None:
        """Linearizable: it shows all that was committed anywhere when it was asked for."""
        if index < self.reads.pop(context):
            raise Violation(f"read {context} is stale")


def _between(log: dict[int, Entry], oldest: int, newest: int) -> list[Entry]:
    return [entry for entry in log.values() if oldest <= entry.first and entry.last <= newest]
