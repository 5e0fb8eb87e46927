"""Keeping the cluster's membership: what operators ask for, and what follows by itself.

Pure. Works on the leader, one change at a time, as the core demands (thesis 4.1):

1. operators' requests, in their order, each answered once it is committed;
2. a server whose data directory was wiped (a known id with a new uuid) takes the place of the old
   one as a learner: the old one, which may have voted and acknowledged, never counts again; one
   that has moved gets its new addresses;
3. a learner that has caught up is promoted.

Requests are idempotent, so what a change of leader interrupts is asked of the next one. Only what
is committed by then is answered by the old one: it may have removed itself, and hear no other.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

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

_PATIENT = frozenset(
    {
        Refusal.NOT_LEADER,
        Refusal.TERM_NOT_COMMITTED,
        Refusal.CHANGE_IN_FLIGHT,
        Refusal.NOT_CAUGHT_UP,
    }
)
"""Refusals that pass by themselves."""


class Requested(msgspec.Struct):
    """An operator's request, on its way through a node."""

    client: Client
    request: Request
    is_tried: bool = False
    """A leader was asked to carry it out, and may have done so."""
    deadline_ms: int | None = None
    """When this leader gives up."""
    has_begun: bool = False
    """A transfer that the core of this leader has begun."""


class MembershipKeeper:
    """The changes that a node wants while it leads."""

    __slots__ = ("_answers", "_core", "_requests", "_seen", "is_due")

    def __init__(self, core: RaftCore, answers: Answers) -> None:
        self._core = core
        self._answers = answers
        self._requests: deque[Requested] = deque()
        self._seen: dict[NodeId, Member] = {}
        self.is_due = False
        """Whether something has happened that `work` should look at."""

    def ask(self, requested: Requested) -> None:
        """Carry out an operator's request."""
        requested.is_tried, requested.deadline_ms, requested.has_begun = True, None, False
        self._requests.append(requested)
        self.is_due = True

    def seen(self, member: Member) -> None:
        """A server has shown itself."""
        if member.uuid and self._seen.get(member.id) != member:
            self._seen[member.id] = member
            self.is_due = True

    def take_requests(self) -> list[Requested]:
        """The requests that are not answered yet: this node does not lead, another may."""
        core = self._core
        committed = core.membership.committed(core.commit_index)
        taken: list[Requested] = []
        for requested in self._requests:
            if _wanted(committed, requested.request) == committed:
                self._answers.append((requested.client, [Done()]))
            else:
                taken.append(requested)
        self._requests.clear()
        return taken

    # --- on the leader ---------------------------------------------------------------------------

    def work(self, now_ms: int) -> None:
        """Take the next step."""
        self.is_due = False
        if self._requests:
            self._work_on_request(self._requests[0], now_ms)
        elif not self._take_seen():
            self._promote()

    def _work_on_request(self, requested: Requested, now_ms: int) -> None:
        if requested.deadline_ms is None:
            requested.deadline_ms = now_ms + MEMBERSHIP_CHANGE_MS_MAX
        if isinstance(requested.request, Transfer):
            outcome = self._transfer(requested, requested.request)
        else:
            outcome = self._change(requested.request)
        if outcome is None and now_ms >= requested.deadline_ms:
            outcome = CommandError(
                "it could not be carried out in time; it may still be: ask again"
            )
        if outcome is not None:
            self._requests.popleft()
            self._answers.append((requested.client, [outcome]))
            self.is_due = True

    def _transfer(self, requested: Requested, transfer: Transfer) -> Done | CommandError | None:
        """Begin to hand over; when it succeeds, this node leads no longer, and another answers."""
        core = self._core
        if transfer.is_done(core.id):
            return Done()
        if not requested.has_begun:
            requested.has_begun = True
            refusal = core.transfer(transfer.id)
            return None if refusal is None else CommandError(f"not transferred: {refusal.value}")
        if core.is_transferring:
            return None
        return CommandError("not transferred: the other node did not take over in time")

    def _change(self, request: AddServer | RemoveServer) -> Done | CommandError | None:
        """Propose what is wanted unless it is in effect. It is done once that is committed."""
        core = self._core
        wanted = _wanted(core.configuration, request)
        if wanted == core.configuration:
            return Done() if core.membership.index <= core.commit_index else None
        assert wanted is not None
        refusal = core.propose_configuration(wanted)
        if not isinstance(refusal, Refusal) or refusal in _PATIENT:
            return None
        return CommandError(f"the membership was not changed: {refusal.value}")

    def _take_seen(self) -> bool:
        """Put a server that lost its data in the place of the one that it was; note addresses.

        Whether that is under way, or must be before anything else.
        """
        configuration = self._core.configuration
        for _, member in sorted(self._seen.items()):
            known = _find(configuration, member.id)
            if known is None or known == member or not known.uuid or known.id == self._core.id:
                continue
            if configurations.tombstone(member) in configuration.removed:
                continue
            refusal = self._core.propose_configuration(_added(configuration, member))
            if not isinstance(refusal, Refusal) or refusal in _PATIENT:
                return True
        return False

    def _promote(self) -> None:
        """Let a learner vote that has caught up."""
        for learner in self._core.configuration.learners:
            promoted = configurations.with_voter(self._core.configuration, learner.id)
            if not isinstance(self._core.propose_configuration(promoted), Refusal):
                return


def _wanted(configuration: Configuration, request: Request) -> Configuration | None:
    """The next configuration on the way to what is asked for; the same when it is reached.

    None for a transfer, which is no change of membership.
    """
    match request:
        case AddServer(member):
            return _added(configuration, member)
        case RemoveServer(id):
            known = _find(configuration, id)
            return configuration if known is None else configurations.without(configuration, id)
        case Transfer():
            return None
        case _:
            assert_never(request)


def _added(configuration: Configuration, member: Member) -> Configuration:
    """The next configuration on the way to having the server."""
    known = _find(configuration, member.id)
    if known is None:
        return configurations.with_learner(configuration, member)
    if known.uuid != member.uuid:
        return configurations.with_replacement(configuration, member)
    return configurations.with_addresses(configuration, member)


def _find(configuration: Configuration, id: NodeId) -> Member | None:
    for member in configuration.voters + configuration.learners:
        if member.id == id:
            return member
    return None
