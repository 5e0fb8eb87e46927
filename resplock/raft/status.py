"""What RAFT.STATUS shows of the consensus core.

Pure. Times are in ticks, which only the runtime can turn into milliseconds.
"""

from __future__ import annotations

import msgspec

from resplock.raft.progress import PeerState, Progress
from resplock.raft.replica import Replica
from resplock.raft.replication import is_active
from resplock.types import Index, NodeId, Term


class PeerStatus(msgspec.Struct, frozen=True):
    """One other server, as the leader sees it."""

    id: NodeId
    is_voter: bool
    state: str
    """probe, replicate or snapshot."""
    next_index: Index
    match_index: Index
    is_active: bool
    """Heard within an election timeout."""
    last_active: int
    """Ticks since it was last heard."""
    snapshot_in_progress: bool
    replication_lag: int
    """Commands in the leader's log that it is not known to have."""
    consecutive_failures: int
    """Heartbeats without an answer since, not counting the one under way."""
    inflight_messages: int
    inflight_bytes: int


class RaftStatus(msgspec.Struct, frozen=True):
    """One server."""

    id: NodeId
    role: str
    """leader, follower, candidate or learner."""
    term: Term
    leader_id: NodeId | None
    last_log_index: Index
    last_log_term: Term
    commit_index: Index
    last_applied: Index
    snapshot_index: Index
    snapshot_term: Term
    removed: bool
    """It is no member any more, and its directory cannot become one again."""
    transferring_to: NodeId | None
    """Who is being made leader in this one's place."""
    peers: tuple[PeerStatus, ...]
    """Sorted by id; empty unless this server leads."""


def status_of(replica: Replica) -> RaftStatus:
    """The server's state at the moment."""
    log = replica.log
    return RaftStatus(
        id=replica.id,
        role=replica.role.shown,
        term=replica.term,
        leader_id=replica.leader_id,
        last_log_index=log.last_index,
        last_log_term=log.last_term,
        commit_index=log.commit_index,
        last_applied=log.applied_index,
        snapshot_index=Index(log.base.index),
        snapshot_term=Term(log.base.term),
        removed=replica.is_removed,
        transferring_to=replica.transferee,
        peers=tuple(_peer_status(replica, peer) for peer in replica.progress.values()),
    )


def _peer_status(replica: Replica, peer: Progress) -> PeerStatus:
    return PeerStatus(
        id=peer.id,
        is_voter=peer in replica.voting_peers,
        state=peer.state.value,
        next_index=peer.next_index,
        match_index=peer.match_index,
        is_active=is_active(replica, peer),
        last_active=replica.now - peer.last_active,
        snapshot_in_progress=peer.state is PeerState.SNAPSHOT,
        replication_lag=replica.log.last_index - peer.match_index,
        consecutive_failures=max(0, peer.unanswered - 1),
        inflight_messages=len(peer.window),
        inflight_bytes=peer.window.bytes,
    )
