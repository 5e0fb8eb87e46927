"""The follower's side of replication: taking a leader's entries and heartbeats.

Pure. Invariants:

- the log is truncated only where an entry of another term is in the way, never because a message
  was short or late, and never at or below the commit index (Raft paper, 5.3);
- what is said to agree was compared with this term's leader and is durable when the answer leaves;
- the commit index never passes what was compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from resplock.raft.entries import Entry
from resplock.raft.messages import AppendReply, AppendRequest, Heartbeat, HeartbeatReply
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index, StampMs, Term


def on_heartbeat(replica: Replica, message: Heartbeat) -> None:
    """The leader is there."""
    if not _hear_leader(replica, message):
        return
    end, term = Index(message.commit_index), Term(message.commit_term)
    if end > replica.log.commit_index and replica.log.has(end, term):
        _commit(replica, end, end)
    replica.send(
        HeartbeatReply(
            replica.term, replica.id, message.from_id, replica.verified_index, message.round
        )
    )


def on_append(replica: Replica, message: AppendRequest) -> None:
    """Take entries, if the log has the one that they follow."""
    if not _hear_leader(replica, message):
        return
    log = replica.log
    prev_index = Index(message.prev_index)
    if prev_index == log.last_index and message.prev_term == log.last_term:
        _extend(replica, message)
        return
    # What is committed agrees with every leader's log, so a late message is taken from there on.
    agreed = max(prev_index, log.commit_index)
    if agreed == prev_index and not log.has(prev_index, Term(message.prev_term)):
        _reject(replica, message)
        return
    entries = [entry for entry in message.entries if entry.last > agreed]
    if entries and not _may_follow(replica, agreed, entries[0]):
        return
    _take(replica, entries)
    verified = Index(entries[-1].last) if entries else agreed
    _commit(replica, Index(message.commit_index), verified)
    replica.send(
        AppendReply(replica.term, replica.id, message.from_id, True, replica.verified_index)
    )


def _extend(replica: Replica, message: AppendRequest) -> None:
    """The usual case: the entries go on where the log ends."""
    for entry in message.entries:
        if not _may_follow(replica, replica.log.last_index, entry):
            return
        replica.append(entry)
    _commit(replica, Index(message.commit_index), replica.log.last_index)
    replica.send(
        AppendReply(replica.term, replica.id, message.from_id, True, replica.verified_index)
    )


def _may_follow(replica: Replica, agreed: Index, entry: Entry) -> bool:
    """Whether it fits behind what is agreed. It always does, unless the sender is no good leader."""
    term = replica.log.term_at(agreed)
    assert term is not None, "what is behind the commit index is not compacted"
    return entry.first == agreed + 1 and entry.term >= term


def _hear_leader(replica: Replica, message: AppendRequest | Heartbeat) -> bool:
    """Follow the sender, who leads this term. False when somebody else does: then it lies."""
    if replica.leader_id is None or replica.role is not replica.passive_role:
        if replica.role is Role.LEADER:
            return False
        replica.become_follower(replica.term, message.from_id)
    elif replica.leader_id != message.from_id:
        return False
    replica.election_elapsed = 0
    replica.heard_at = replica.now
    _hear_clock(replica, Term(message.term), StampMs(message.clock_ms))
    return True


def _hear_clock(replica: Replica, term: Term, clock_ms: StampMs) -> None:
    """Keep the newest clock of the newest leader: a later term's counts even when it is behind."""
    if term > replica.heard_clock_term:
        replica.heard_clock_term, replica.heard_clock_ms = term, clock_ms
    elif term == replica.heard_clock_term:
        replica.heard_clock_ms = StampMs(max(replica.heard_clock_ms, clock_ms))


def _take(replica: Replica, entries: Sequence[Entry]) -> None:
    """Append those that are missing, after dropping what conflicts with them."""
    position = first_missing(replica, entries)
    if position == len(entries):
        return
    first = Index(entries[position].first)
    if first <= replica.log.last_index:
        replica.truncate(first)
    for entry in entries[position:]:
        replica.append(entry)


def first_missing(replica: Replica, entries: Sequence[Entry]) -> int:
    """The position of the first entry that the log does not have; their number if it has all."""
    log = replica.log
    for position, entry in enumerate(entries):
        if not log.has(Index(entry.last), Term(entry.term)):
            return position
    return len(entries)


def _commit(replica: Replica, leader_commit: Index, verified: Index) -> None:
    """The log agrees with the leader's up to `verified`; commit what the leader has committed."""
    log = replica.log
    replica.verified_index = Index(max(replica.verified_index, verified))
    end = Index(min(leader_commit, verified))
    if end > log.commit_index and log.is_end(end):
        replica.commit_to(end)


def _reject(replica: Replica, message: AppendRequest) -> None:
    """Tell the leader how far back to go (Raft paper, end of 5.3).

    The first index of the conflicting entry's term, or of the entry itself if the leader asked for
    the inside of one; never below what is committed, which cannot conflict.
    """
    log = replica.log
    prev_index = Index(message.prev_index)
    conflict_index, conflict_term = Index(log.last_index + 1), Term(0)
    if prev_index <= log.last_index:
        found = log.term_at(prev_index)
        assert found is not None, "what is behind the commit index is not compacted"
        conflict_term = found
        older = log.last_of_terms_up_to(Term(found - 1), log.commit_index, prev_index)
        conflict_index = Index(older + 1)
    replica.send(
        AppendReply(
            term=replica.term,
            from_id=replica.id,
            to_id=message.from_id,
            accepted=False,
            match_index=0,
            prev_index=prev_index,
            conflict_index=conflict_index,
            conflict_term=conflict_term,
        )
    )
