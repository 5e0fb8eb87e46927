"""Keeping the cluster's membership: what operators ask for, and what follows by itself.

Pure. Works on the leader, one change at a time, as the core demands (thesis 4.1):

1. operators' requests, in their order, each answered once it is committed;
2. a server whose data directory was wiped (a known id with a new uuid) takes the place of the old
   one as a learner: the old one, which may have voted and acknowledged, never counts again; one
   that has moved gets its new addresses;
3. a learner that has caught up is promoted.

Requests are idempotent, so what a change of leader interrupts is asked of the next one.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import msgspec

from resplock.errors import CommandError
from resplock.limits import MEMBERSHIP_CHANGE_MS_MAX
from resplock.node.administration import AddServer, RemoveServer, Request, Transfer
from resplock.node.runs import Answers, Client
from resplock.operations import Done
from resplock.raft import configurations
from resplock.raft.configurations import Refusal
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Member
from resplock.types import NodeId

Asked: TypeAlias = tuple[Client, Request]

_PATIENT = frozenset(
    {
        Refusal.NOT_LEADER,
        Refusal.TERM_NOT_COMMITTED,
        Refusal.CHANGE_IN_FLIGHT,
        Refusal.NOT_CAUGHT_UP,
    }
)
"""Refusals that pass by themselves."""


class _Pending(msgspec.Struct):
    client: Client
    request: Request
    deadline_ms: int | None = None
    started: bool = False
    """A transfer that the core has begun."""


class MembershipKeeper:
    """The changes that a node wants while it leads."""

    __slots__ = ("_answers", "_core", "_pending", "_seen", "is_due")

    def __init__(self, core: RaftCore, answers: Answers) -> None:
        self._core = core
        self._answers = answers
        self._pending: deque[_Pending] = deque()
        self._seen: dict[NodeId, Member] = {}
        self.is_due = False
        """Whether something has happened that `work` should look at."""

    def ask(self, client: Client, request: Request) -> None:
        """Carry out an operator's request."""
        self._pending.append(_Pending(client, request))
        self.is_due = True

    def seen(self, member: Member) -> None:
        """A server has shown itself."""
        if member.uuid and self._seen.get(member.id) != member:
            self._seen[member.id] = member
            self.is_due = True

    def take_requests(self) -> list[Asked]:
        """The requests that are not answered yet: this node does not lead, another may."""
        taken = [(pending.client, pending.request) for pending in self._pending]
        self._pending.clear()
        return taken

    # --- on the leader ---------------------------------------------------------------------------

    def work(self, now_ms: int, committed: Configuration) -> None:
        """Take the next step. `committed`: the configuration that was applied last."""
        self.is_due = False
        if self._pending:
            self._work_on_request(self._pending[0], now_ms, committed)
        elif not self._take_seen():
            self._promote()

    def _work_on_request(self, pending: _Pending, now_ms: int, committed: Configuration) -> None:
        if pending.deadline_ms is None:
            pending.deadline_ms = now_ms + MEMBERSHIP_CHANGE_MS_MAX
        outcome: Done | CommandError | None
        match pending.request:
            case Transfer() as transfer:
                outcome = self._transfer(pending, transfer)
            case AddServer(member):
                added = _added(self._core.configuration, member)
                outcome = Done() if _has(committed, member) else self._change(added)
            case RemoveServer(id):
                removed = _removed(self._core.configuration, id)
                outcome = self._change(removed) if _find(committed, id) else Done()
        if outcome is None and now_ms >= pending.deadline_ms:
            outcome = CommandError(
                "it could not be carried out in time; it may still be: ask again"
            )
        if outcome is not None:
            self._pending.popleft()
            self._answers.append((pending.client, [outcome]))
            self.is_due = True

    def _transfer(self, pending: _Pending, transfer: Transfer) -> Done | CommandError | None:
        """Begin to hand over; when it succeeds, this node leads no longer, and another answers."""
        core = self._core
        if transfer.id == core.id or (transfer.id is None and transfer.away_from != core.id):
            return Done()
        if not pending.started:
            pending.started = True
            refusal = core.transfer(transfer.id)
            return None if refusal is None else CommandError(f"not transferred: {refusal.value}")
        if core.is_transferring:
            return None
        return CommandError("not transferred: the other node did not take over in time")

    def _change(self, wanted: Configuration) -> CommandError | None:
        """Propose `wanted` unless it is in effect. An error if it never can be."""
        if wanted == self._core.configuration:
            return None
        refusal = self._core.propose_configuration(wanted)
        if not isinstance(refusal, Refusal) or refusal in _PATIENT:
            return None
        return CommandError(f"the membership was not changed: {refusal.value}")

    def _take_seen(self) -> bool:
        """Put a server that lost its data in the place of the one that it was; note addresses."""
        configuration = self._core.configuration
        for _, member in sorted(self._seen.items()):
            known = _find(configuration, member.id)
            if known is None or known == member or not known.uuid:
                continue
            if configurations.tombstone(member) not in configuration.removed:
                self._core.propose_configuration(_added(configuration, member))
                return True
        return False

    def _promote(self) -> None:
        """Let a learner vote that has caught up."""
        for learner in self._core.configuration.learners:
            promoted = configurations.with_voter(self._core.configuration, learner.id)
            if not isinstance(self._core.propose_configuration(promoted), Refusal):
                return


def _added(configuration: Configuration, member: Member) -> Configuration:
    """The next configuration on the way to having the server."""
    known = _find(configuration, member.id)
    if known is None:
        return configurations.with_learner(configuration, member)
    if known.uuid != member.uuid:
        return configurations.with_replacement(configuration, member)
    return configurations.with_addresses(configuration, member)


def _removed(configuration: Configuration, id: NodeId) -> Configuration:
    return configurations.without(configuration, id) if _find(configuration, id) else configuration


def _has(configuration: Configuration, member: Member) -> bool:
    return member in configuration.voters + configuration.learners


def _find(configuration: Configuration, id: NodeId) -> Member | None:
    for member in configuration.voters + configuration.learners:
        if member.id == id:
            return member
    return None
