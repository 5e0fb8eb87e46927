"""Queries on the leader: one ReadIndex round for all of a turn, and no sight of an overdue hold.

Pure. A query is answered from applied state once a quorum has confirmed the leader after it was
asked (thesis 6.4). If it meets a hold that is over by the clock but not in the log, it is answered
after an entry has ended that hold: what one client saw end has ended for everybody.

Invariant: the answers to one client are in the order in which it asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from resplock.errors import CommandError
from resplock.node.runs import Answers, Client, Result
from resplock.operations import (
    CheckVersion,
    DescribeKey,
    GetBackoff,
    GetLock,
    Query,
    StringQuery,
)
from resplock.raft.core import RaftCore
from resplock.raft.ready import ReadState
from resplock.state import queries
from resplock.state.strings import names_of_query
from resplock.state.table import LockTable
from resplock.types import LockName, StampMs

Asked: TypeAlias = tuple[Client, Query]


class Reads:
    """The queries of one node that are not answered yet."""

    __slots__ = ("_deferred", "_rounds", "_serial", "asked")

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        """Waiting for a round of this node, or to be forwarded to the leader."""
        self._rounds: dict[int, list[Asked]] = {}
        self._serial = 0
        self._deferred: dict[Client, deque[tuple[Query, StampMs]]] = {}

    @property
    def are_deferred(self) -> bool:
        """Whether any wait for an overdue hold to be ended."""
        return bool(self._deferred)

    def start(self, core: RaftCore) -> None:
        """One ReadIndex round for everything that was asked since the last turn."""
        if core.read_index(self._serial + 1):
            self._serial += 1
            self._rounds[self._serial], self.asked = self.asked, []

    def prove(self, core: RaftCore) -> int:
        """A round for the sake of what it proves: its context, or 0 when none can be had."""
        if not core.read_index(self._serial + 1):
            return 0
        self._serial += 1
        return self._serial

    def finish(
        self, read: ReadState, table: LockTable, stamp_ms: StampMs, answers: Answers
    ) -> list[LockName] | None:
        """Answer the queries of a round. The locks to settle for those that met an overdue hold;
        None when there were none."""
        names: list[LockName] | None = None
        for client, query in self._rounds.pop(read.context, ()):
            overdue = _overdue(table, query, stamp_ms)
            if overdue is not None:
                names = [*(names or ()), *overdue]
            if overdue is not None or client in self._deferred:
                self._deferred.setdefault(client, deque()).append((query, stamp_ms))
            else:
                answers.append((client, [answer(table, query, stamp_ms)]))
        return names

    def finish_deferred(self, table: LockTable, stamp_ms: StampMs, answers: Answers) -> None:
        """Answer those that waited for overdue holds, as far as these have been ended."""
        for client in list(self._deferred):
            waiting = self._deferred[client]
            while waiting and _overdue(table, *waiting[0]) is None:
                answers.append((client, [answer(table, waiting.popleft()[0], stamp_ms)]))
            if not waiting:
                del self._deferred[client]

    def lose(self, contexts: Iterable[int]) -> None:
        """These rounds were lost: ask again, before what was asked since."""
        again = [asked for context in contexts for asked in self._rounds.pop(context, ())]
        self.asked[:0] = again

    def lose_all(self) -> None:
        """This node leads no longer: ask again for everything, in the old order."""
        deferred = [
            (client, query) for client, waiting in self._deferred.items() for query, _ in waiting
        ]
        self._deferred.clear()
        self.lose(list(self._rounds))
        self.asked[:0] = deferred


def answer(table: LockTable, query: Query, stamp_ms: StampMs) -> Result:
    """The answer from applied state, or the error that the query met."""
    try:
        return queries.answer(table, query, stamp_ms)
    except CommandError as refused:
        return refused


def _overdue(table: LockTable, query: Query, stamp_ms: StampMs) -> Sequence[LockName] | None:
    """The locks to settle before the query may be answered; None when nothing is overdue.

    For a query about many locks an entry alone does it: it ends what is due, up to its cap.
    """
    if isinstance(query, GetLock | CheckVersion | GetBackoff | DescribeKey):
        return (query.name,) if table.overdue(query.name, stamp_ms) else None
    if isinstance(query, StringQuery):
        return [name for name in names_of_query(query) if table.overdue(name, stamp_ms)] or None
    return () if table.end_due(stamp_ms) else None
