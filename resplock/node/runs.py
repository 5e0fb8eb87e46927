"""Commands on their way through a node, and whoever waits for their outcomes.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeAlias

from resplock.errors import CommandError
from resplock.operations import Answer, Operation, Outcome, Unapplied
from resplock.types import Index, NodeId, Term

Result: TypeAlias = Outcome | Unapplied | Answer | CommandError


class Client(Protocol):
    """Whoever waits for answers: a connection, another node, or a stand-in for one.

    The node never calls it: answers come out of `Node.take_answers`.
    """

    def deliver(self, results: Sequence[Result]) -> None:
        """Take the answers to the oldest outstanding commands."""

    def abort(self) -> None:
        """It cannot be answered: end it."""


Heads: TypeAlias = tuple[tuple[int, int], ...]
"""(position, number) of operations of one client each, before which nothing of it is unresolved."""

_NONE: Mapping[int, Outcome] = MappingProxyType({})

Answers: TypeAlias = list[tuple[Client | None, Sequence[Result]]]
"""What is to be delivered, in order. A client of None is the node itself: skip it."""


class Run:
    """Commands that become one entry, and who waits for their outcomes.

    `clients` has (client, number of commands) in the order of `operations`: what concerns a client's
    whole pipeline is done once, not per command. A client of None is this node itself.
    """

    __slots__ = (
        "clients",
        "context",
        "first",
        "leader_id",
        "may_block",
        "operations",
        "refused",
        "results",
        "returned",
        "serial",
        "term",
    )

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.clients: list[tuple[Client | None, int]] = []
        self.may_block = False
        """Some of the outcomes may be Blocked: see `resplock.node.waits`."""
        self.refused = _NONE
        """What is answered to the operations, by position, that are not in its entry: see `refusals`."""
        self.context = 0
        """The ReadIndex round that proves the refusals, when all are refused and there is no entry."""
        self.term = Term(0)
        """The term in which it was proposed, or forwarded to `leader_id`."""
        self.first = Index(0)
        """Its entry's first index, when this node proposed it."""
        self.leader_id: NodeId | None = None
        self.serial = 0
        """Names it between this node and `leader_id`, when it was forwarded."""
        self.results: Sequence[Result] | None = None
        """They are known, and wait for those of earlier runs."""
        self.returned = False
        """It was certainly not proposed, so it may be proposed again."""

    def add(self, client: Client | None, operations: Sequence[Operation]) -> None:
        """Append the operations of one client."""
        self.operations += operations
        self.clients.append((client, len(operations)))

    def shares(self) -> Iterator[tuple[Client | None, list[Operation]]]:
        """Each client with its operations."""
        begin = 0
        for client, count in self.clients:
            yield client, self.operations[begin : begin + count]
            begin += count

    @property
    def logged(self) -> list[Operation]:
        """The operations of its entry: all that are not refused."""
        refused = self.refused
        if not refused:
            return self.operations
        return [each for position, each in enumerate(self.operations) if position not in refused]

    def completed(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """The results of all operations, from the outcomes of those that are logged."""
        refused = self.refused
        if not refused:
            return outcomes
        logged = iter(outcomes)
        return [
            refused[position] if position in refused else next(logged)
            for position in range(len(self.operations))
        ]

    def answers(
        self, results: Sequence[Result]
    ) -> Iterator[tuple[Client | None, Sequence[Result]]]:
        """Each client with its share of `results`, which are as many as the operations."""
        begin = 0
        for client, count in self.clients:
            yield client, results[begin : begin + count]
            begin += count

    def all(self, result: Result) -> list[Result]:
        """The same result for every operation."""
        return [result] * len(self.operations)

    def halves(self) -> tuple[Run, Run]:
        """Two runs in its place, cut between two clients."""
        first, second = Run(), Run()
        middle = len(self.clients) // 2
        for position, (client, operations) in enumerate(self.shares()):
            (first if position < middle else second).add(client, operations)
        first.may_block = second.may_block = self.may_block
        return first, second
