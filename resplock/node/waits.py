"""Clients of this node that wait in line: the answer to each comes with the end of its place.

Pure. An operation that has to wait has the outcome Blocked, which is delivered to nobody. Its place
ends once, with an `Ended` of the same ticket, which the apply of every replica gives; each node tells
its own clients, from its own apply, whoever leads by then.

- A follower may apply an end before the leader's answer, Blocked, has come: the end is kept until
  then, or until it is known that no such answer comes.
- An end that came with a snapshot is not seen. Its client is told InDoubt: it may have been granted.
- So is one whose place has no end long after its WAIT: this node, or all of them, may be cut off.
- A client that has left is told nothing. A grant that it can no longer receive is given back
  (`Undelivered`), which `Departures` sees to.

Invariant: each operation that was Blocked is answered once, unless its client has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from resplock.node.departures import Departures
from resplock.node.links import Remote
from resplock.node.runs import Answers, Client, Result, Run
from resplock.operations import (
    Acquire,
    AcquireAll,
    Blocked,
    ClientId,
    Ended,
    Granted,
    InDoubt,
    Undelivered,
)
from resplock.raft.core import RaftCore
from resplock.state.granting import names_of
from resplock.state.table import LockTable

_LOOK_EVERY_MS = 500

Wanted: TypeAlias = Acquire | AcquireAll


class Wait:
    """A place in line that a client of this node is answered for."""

    __slots__ = ("client", "deadline_ms", "wanted")

    def __init__(self, client: Client | None, wanted: Wanted, deadline_ms: int) -> None:
        self.client = client
        """None once it has left."""
        self.wanted = wanted
        self.deadline_ms = deadline_ms

    @property
    def id(self) -> ClientId | None:
        """What the log calls the client."""
        options = self.wanted.options
        return None if options is None else options.client


class Waits:
    """The places of one node's clients, by their tickets."""

    __slots__ = (
        "_answers",
        "_by_client",
        "_core",
        "_departures",
        "_early",
        "_incarnation",
        "_next_look_ms",
        "_patience_ms",
        "_waits",
        "now_ms",
        "table",
    )

    def __init__(
        self,
        core: RaftCore,
        incarnation: int,
        table: LockTable,
        patience_ms: int,
        departures: Departures,
        answers: Answers,
    ) -> None:
        """patience_ms: how long after its WAIT a client is told that its fate is unknown."""
        self._core = core
        self._incarnation = incarnation
        self._patience_ms = patience_ms
        self._departures = departures
        self._answers = answers
        self._waits: dict[int, Wait] = {}
        self._by_client: dict[ClientId, Wait] = {}
        self._early: dict[int, tuple[Ended, int]] = {}
        """Ends whose places this node has not heard of, and what it had asked by then."""
        self._next_look_ms = 0
        self.now_ms = 0
        self.table = table
        """The one that is applied to."""

    def __len__(self) -> int:
        return len(self._waits)

    # --- places taken ----------------------------------------------------------------------------

    def answers(
        self, run: Run, results: Sequence[Result], *, is_applied: bool
    ) -> Iterator[tuple[Client | None, Sequence[Result]]]:
        """What to deliver now of the results of a run that may block; its Blocked ones wait.

        is_applied: this node is just applying the run, so that what it ends is yet to be taken.
        Otherwise the results are another node's, which may be ahead of this one, or behind it.
        """
        for (client, share), (_, operations) in zip(
            run.answers(results), run.shares(), strict=True
        ):
            result, wanted = share[0], operations[0]
            if (
                isinstance(result, Blocked)
                and isinstance(wanted, Acquire | AcquireAll)
                and not isinstance(client, Remote)
            ):
                end = self._begin(client, wanted, result.ticket, is_applied)
                if end is not None:
                    yield client, [end]
            else:
                yield client, share

    def _begin(
        self, client: Client | None, wanted: Wanted, ticket: int, is_applied: bool
    ) -> Result | None:
        """A client of this node waits; or how its wait has ended already."""
        wait_ms = wanted.options.wait_ms if wanted.options else 0
        wait = Wait(client, wanted, self.now_ms + wait_ms + self._patience_ms)
        if wait.id in self._departures:
            wait.client = None
        early = self._early.pop(ticket, None)
        if early is not None:
            return self._end(wait, early[0])
        is_known = not is_applied and ticket <= self._core.applied_index
        if is_known and not self.table.is_waiting(wanted, ticket):
            return self._doubt(wait)  # it has ended in a snapshot
        self._waits[ticket] = wait
        if wait.id is not None:
            self._by_client[wait.id] = wait
        return None

    # --- their ends ------------------------------------------------------------------------------

    def ended(self, ends: Sequence[Ended], asked: int) -> bool:
        """An entry has ended these waits. Whether any of them is of another node's client.

        asked: the serial that was last given to what is forwarded; 0 when no answer is outstanding.
        """
        others = False
        for ended in ends:
            id, wait = ended.client, self._waits.pop(ended.ticket, None)
            if wait is not None:
                self._forget(wait)
                client, end = wait.client, self._end(wait, ended)
                if end is not None:
                    self._answers.append((client, [end]))
            elif id is None:
                continue
            elif id.node != self._core.id:
                others = True
            elif id in self._departures:
                self._give_back(ended)
            elif id.incarnation == self._incarnation and asked:
                self._early[ended.ticket] = ended, asked
        return others

    def _end(self, wait: Wait, ended: Ended) -> Result | None:
        """The answer; None when there is nobody any more to receive it."""
        if wait.client is not None:
            return ended.outcome
        self._give_back(ended)
        return None

    def _give_back(self, ended: Ended) -> None:
        if isinstance(ended.outcome, Granted):
            version = ended.outcome.version
            self._departures.undelivered(
                Undelivered(ended.names, ended.owner, version, ended.request)
            )

    def _forget(self, wait: Wait) -> None:
        if wait.id is not None and self._by_client.get(wait.id) is wait:
            del self._by_client[wait.id]

    def installed(self, table: LockTable) -> None:
        """The table is another: what has ended in it meanwhile was not seen."""
        self.table = table
        self._give_up(
            [
                ticket
                for ticket, wait in self._waits.items()
                if not table.is_waiting(wait.wanted, ticket)
            ]
        )

    def look(self, now_ms: int, oldest: int) -> None:
        """Let time pass: give up what has no end, and forget what nobody will ask for.

        oldest: the serial of the oldest question to the leader; 0 when none is outstanding.
        """
        if now_ms < self._next_look_ms:
            return
        self._next_look_ms = now_ms + _LOOK_EVERY_MS
        self._give_up(
            [
                ticket
                for ticket, wait in self._waits.items()
                if wait.client and wait.deadline_ms <= now_ms
            ]
        )
        for ticket, (_, asked) in list(self._early.items()):
            if not oldest or asked < oldest:
                del self._early[ticket]

    def _give_up(self, tickets: Sequence[int]) -> None:
        """Wait no longer for the ends of these."""
        for ticket in tickets:
            wait = self._waits.pop(ticket)
            self._forget(wait)
            if (end := self._doubt(wait)) is not None:
                self._answers.append((wait.client, [end]))

    def _doubt(self, wait: Wait) -> Result | None:
        """The answer to a wait whose end was not seen. Whoever has left may have been granted it."""
        if wait.client is not None:
            return InDoubt()
        wanted = wait.wanted
        names = names_of(wanted)
        lock = self.table.locks.get(names[0])
        hold = lock.hold_of(wanted.owner) if lock is not None else None
        if hold is not None:
            self._departures.undelivered(
                Undelivered(names, wanted.owner, hold.version, wanted.request)
            )
        return None

    # --- clients that leave ----------------------------------------------------------------------

    def left(self, id: ClientId) -> None:
        """A client has gone: nothing is delivered to it any more."""
        wait = self._by_client.pop(id, None)
        if wait is not None:
            wait.client = None
        for ticket, (ended, _) in list(self._early.items()):
            if ended.client == id:
                del self._early[ticket]
                self._give_back(ended)
