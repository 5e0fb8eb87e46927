"""Handing leadership over to another voter (thesis 3.10).

Pure. Also before a graceful shutdown, so that the others need not notice that their leader is gone.

1. The leader takes no proposals any more, and goes on to replicate.
2. Once the other has the whole log, it is told to stand at once (TimeoutNow), without a pre-vote;
   the voters that hear the leader vote all the same, for the request says who asked for it. To a
   server that is up to date this is one round trip, and the vote is another.
3. Its later term makes a follower of the old leader. If that has not happened within an election
   timeout, the old leader takes proposals again.

The other may stand after that as well, when TimeoutNow was only late: that costs an election, never
safety. But a lease may not be relied on any more in this term, since voters would break it.
"""

from __future__ import annotations

import enum

from resplock.raft import elections, replication
from resplock.raft.messages import TimeoutNow
from resplock.raft.progress import PeerState, Progress
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import NodeId


class TransferRefusal(enum.Enum):
    """Why leadership is not handed over. Certain: this server goes on as before."""

    NOT_LEADER = "this node does not lead"
    UNDER_WAY = "leadership is already being handed over to another node"
    NOT_A_VOTER = "only a voter can lead"
    NOT_THERE = "that node does not answer"
    NOT_CAUGHT_UP = "that node needs a snapshot first"
    NOBODY_THERE = "no other voter answers"


def transfer(replica: Replica, id: NodeId | None) -> TransferRefusal | None:
    """Begin to hand over to `id`, or to the voter that has most of the log. None when it began.

    It is over when this server leads no longer, or `RaftCore.is_transferring` is false again.
    """
    if replica.role is not Role.LEADER:
        return TransferRefusal.NOT_LEADER
    if id == replica.id or (replica.transferee is not None and id in (None, replica.transferee)):
        return None
    if replica.transferee is not None:
        return TransferRefusal.UNDER_WAY
    progress = _named(replica, id) if id is not None else replication.successor(replica)
    if progress is None:
        return TransferRefusal.NOBODY_THERE if id is None else TransferRefusal.NOT_A_VOTER
    if not replication.is_there(replica, progress):
        return TransferRefusal.NOT_THERE
    if progress.state is PeerState.SNAPSHOT:
        return TransferRefusal.NOT_CAUGHT_UP
    _begin(replica, progress)
    return None


def _named(replica: Replica, id: NodeId) -> Progress | None:
    progress = replica.progress.get(id)
    return progress if progress in replica.voting_peers else None


def _begin(replica: Replica, progress: Progress) -> None:
    replica.transferee = progress.id
    replica.transfer_began = replica.now
    if replica.lease is not None:
        replica.lease.end()
    replication.hand_over(replica)


def on_timeout_now(replica: Replica, message: TimeoutNow) -> None:
    """The leader of this term wants this server to lead."""
    if replica.leader_id == message.from_id and elections.may_stand(replica):
        elections.stand(replica, transfer=True)
