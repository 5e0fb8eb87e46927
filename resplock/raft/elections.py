"""Elections: asking for votes, giving them, winning.

Pure. Time is ticks; the timeout is drawn anew each time from the injected generator.

Invariants:

- one vote in a term, only for a log that is at least as new as one's own (Raft paper, 5.2, 5.4.1);
- a vote leaves only once it is durable, because it goes out in `Ready.send_after_persist`; so does
  the request of a candidate, who has voted for itself;
- a pre-vote changes nobody's term or vote (thesis 9.6).

The candidate's configuration says whose votes count, so a server answers whoever asks, and as a
learner too: the entry that made it a voter may not have reached it yet, and its vote may be the one
that is missing (thesis 4.1; etcd's raft found this out). A learner never stands. What the candidate
counts is an id with a uuid: a wiped directory has another, and cannot vote a second time.

A server that no configuration names is passive: it does not stand, and takes what a leader sends
until that names it. So a joiner waits.

A removed server may have missed its removal. It asks for pre-votes, and is told.
"""

from __future__ import annotations

from resplock.limits import EARLY_VOTE_JITTER_MS, EARLY_VOTES_MAX
from resplock.raft import replication
from resplock.raft.entries import Member
from resplock.raft.messages import PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs, Term

# --- standing ------------------------------------------------------------------------------------


def tick(replica: Replica) -> None:
    """A tick of a server that does not lead."""
    replica.election_elapsed += 1
    if replica.election_elapsed >= replica.election_timeout:
        replica.restart_election_timer()
        replica.leader_id = None
        if replica.role is Role.LEARNER:
            _ask_whether_removed(replica)
        else:
            campaign(replica)


def campaign(replica: Replica) -> None:
    """Try to be elected: ask for pre-votes first, unless they are off."""
    if not may_stand(replica) or _keeps_lease(replica):
        return
    if replica.config.pre_vote:
        _ask_first(replica)
    else:
        stand(replica)


def may_stand(replica: Replica) -> bool:
    """Whether this server could lead: it does not yet, is no learner, and has lost nothing."""
    return replica.role not in (Role.LEADER, Role.LEARNER) and may_vote(replica)


def _ask_first(replica: Replica) -> None:
    """Become a pre-candidate, in the same term (thesis 9.6)."""
    _begin(replica, Role.PRE_CANDIDATE)
    if _is_won(replica):
        stand(replica)
        return
    _ask_for_pre_votes(replica)


def _ask_for_pre_votes(replica: Replica) -> None:
    log = replica.log
    for voter in _other_voters(replica):
        replica.send(
            PreVoteRequest(
                term=replica.term,
                from_id=replica.id,
                to_id=voter.id,
                last_index=log.last_index,
                last_term=log.last_term,
                voter_uuid=voter.uuid,
                uuid=replica.config.uuid,
            )
        )


def _ask_whether_removed(replica: Replica) -> None:
    """A learner that no leader feeds asks as if it stood, but counts no answers."""
    if replica.membership.has_learner(replica.id, replica.config.uuid):
        _ask_for_pre_votes(replica)


def stand(replica: Replica, transfer: bool = False) -> None:
    """Become a candidate in a new term, and vote for oneself (Raft paper, 5.2).

    transfer: the leader has asked for it (thesis 3.10).
    """
    replica.term = Term(replica.term + 1)
    replica.vote = replica.id
    _begin(replica, Role.CANDIDATE)
    if _is_won(replica):
        become_leader(replica)
        return
    log = replica.log
    for voter in _other_voters(replica):
        replica.send(
            VoteRequest(
                term=replica.term,
                from_id=replica.id,
                to_id=voter.id,
                last_index=log.last_index,
                last_term=log.last_term,
                transfer=transfer,
                voter_uuid=voter.uuid,
            )
        )


def _begin(replica: Replica, role: Role) -> None:
    replica.set_role(role)
    replica.leader_id = None
    replica.stands_soon = False
    replica.tally = {replica.id: True}
    replica.restart_election_timer()


def _other_voters(replica: Replica) -> list[Member]:
    voters = replica.membership.configuration.voters
    return [voter for voter in voters if voter.id != replica.id]


# --- standing early ------------------------------------------------------------------------------


def stand_soon(replica: Replica, not_before_ms: int = 0) -> None:
    """Let the runtime call `stand_now` after a small random time: the leader's link is gone."""
    config = replica.config
    if not config.pre_vote or config.lease or not may_stand(replica):
        return
    if replica.early_votes >= EARLY_VOTES_MAX or (replica.stands_soon and not not_before_ms):
        return
    replica.stands_soon = True
    replica.stand_in_ms = not_before_ms + replica.rng.randrange(EARLY_VOTE_JITTER_MS)


def stand_now(replica: Replica) -> None:
    """The time has come, unless it was called off."""
    if replica.stands_soon:
        replica.stands_soon = False
        replica.early_votes += 1
        campaign(replica)


# --- voting --------------------------------------------------------------------------------------


def hears_leader(replica: Replica) -> bool:
    """Whether candidates are to be ignored: a leader was heard in the shortest election timeout, and
    there is still a link to it.

    Otherwise a server that was removed, or was cut off, could depose a leader that serves everybody
    else (thesis 4.2.3).
    """
    if not replica.config.check_quorum:
        return False
    if replica.role is Role.LEADER:
        return True
    if replica.config.lease:
        return _is_in_lease(replica)
    leader_id = replica.leader_id
    in_time = replica.election_elapsed < replica.config.election_ticks
    return leader_id is not None and in_time and leader_id not in replica.links_down


def _is_in_lease(replica: Replica) -> bool:
    """Whether some leader may rely on this voter, whatever has happened to it since."""
    return replica.now - replica.heard_at < replica.config.election_ticks


def _keeps_lease(replica: Replica) -> bool:
    """Whether it must not give a vote, to itself neither. A sole voter has only its own lease."""
    return replica.config.lease and _is_in_lease(replica) and len(replica.membership.voter_ids) > 1


def may_vote(replica: Replica, voter_uuid: str = "") -> bool:
    """Whether this server's vote can be trusted with what it once acknowledged.

    voter_uuid: whose vote the candidate asks for, by the uuid. Where that or the own is not known,
    a configuration in the own log must name this server: else it is new, or its directory was
    wiped, with the vote that was in it.

    Nor when its log ends before its mark: it may have lost entries that were committed with its
    help. A log at least as new as the mark came from a leader that has them all.
    """
    log, uuid = replica.log, replica.config.uuid
    if (log.last_term, log.last_index) < replica.voting_mark:
        return False
    if uuid and voter_uuid:
        return uuid == voter_uuid
    return replica.membership.may_count(replica.id, uuid, log.commit_index)


def is_up_to_date(replica: Replica, last_term: int, last_index: int) -> bool:
    """Whether a candidate's log is at least as new as this one (Raft paper, 5.4.1)."""
    return (last_term, last_index) >= (replica.log.last_term, replica.log.last_index)


def on_pre_vote_request(replica: Replica, message: PreVoteRequest) -> None:
    """Say whether the sender would get a vote in the term after its own, or that it was removed."""
    if _was_removed(replica, message):
        replica.send(
            PreVoteReply(
                replica.term,
                replica.id,
                message.from_id,
                message.term,
                granted=False,
                removed=True,
                uuid=message.uuid,
            )
        )
        return
    if hears_leader(replica):
        return
    granted = (
        message.term >= replica.term
        and is_up_to_date(replica, message.last_term, message.last_index)
        and may_vote(replica, message.voter_uuid)
    )
    if granted and replica.stands_soon:
        stand_soon(replica, EARLY_VOTE_JITTER_MS)  # the other one first
    elif not granted and replica.early_votes:
        stand_soon(replica)  # its log is older, but it does not hear the leader any more either
    replica.send(PreVoteReply(replica.term, replica.id, message.from_id, message.term, granted))


def _was_removed(replica: Replica, message: PreVoteRequest) -> bool:
    """Whether it is committed that the sender is no member any more."""
    removed = replica.membership.committed(replica.log.commit_index).removed
    return bool(message.uuid) and f"{message.from_id}/{message.uuid}" in removed


def on_vote_request(replica: Replica, message: VoteRequest) -> None:
    """Vote for a candidate of this server's term, or do not."""
    granted = (
        replica.vote in ("", message.from_id)
        and is_up_to_date(replica, message.last_term, message.last_index)
        and may_vote(replica, message.voter_uuid)
        and (message.transfer or not _keeps_lease(replica))
    )
    if granted:
        replica.call_off_standing()
        if replica.role is Role.PRE_CANDIDATE:
            replica.become_follower(replica.term, None)
        replica.vote = message.from_id
        replica.restart_election_timer()
    replica.send(VoteReply(replica.term, replica.id, message.from_id, granted))


# --- counting ------------------------------------------------------------------------------------


def on_pre_vote_reply(replica: Replica, message: PreVoteReply) -> None:
    """Count it, if this server still asks in the term in which it asked."""
    if message.removed and replica.role is not Role.LEADER:
        if message.uuid in ("", replica.config.uuid):
            replica.learn_of_removal()
    if replica.role is Role.PRE_CANDIDATE and message.asked_term == replica.term:
        _count(replica, message.from_id, message.granted)


def on_vote_reply(replica: Replica, message: VoteReply) -> None:
    """Count it, if this server still stands."""
    if replica.role is Role.CANDIDATE:
        _count(replica, message.from_id, message.granted)


def _count(replica: Replica, from_id: NodeId, granted: bool) -> None:
    replica.tally.setdefault(from_id, granted)
    if _is_won(replica):
        if replica.role is Role.PRE_CANDIDATE:
            stand(replica)
        else:
            become_leader(replica)
    elif _is_lost(replica):
        replica.become_follower(replica.term, None)
        if replica.early_votes:
            stand_soon(replica, EARLY_VOTE_JITTER_MS)


def _is_won(replica: Replica) -> bool:
    return _votes(replica).count(True) >= replica.membership.quorum


def _is_lost(replica: Replica) -> bool:
    """Whether too many have refused, or cannot answer, for a majority to be left."""
    tally, voters = replica.tally, replica.membership.voter_ids
    left = [id for id in voters if tally.get(id, id not in replica.links_down)]
    return len(left) < replica.membership.quorum


def _votes(replica: Replica) -> list[bool]:
    """The answers of those who count."""
    tally = replica.tally
    return [tally[id] for id in replica.membership.voter_ids if id in tally]


def become_leader(replica: Replica) -> None:
    """Lead this term, and begin it with a no-op that commits what earlier terms left (paper, 8).

    The clock goes on from the later of the last entry's stamp and what the last leader was heard to
    say: time without a leader is given to the holders of locks.
    """
    assert replica.vote == replica.id
    replica.set_role(Role.LEADER)
    replica.leader_id = replica.id
    log = replica.log
    replica.clock_ms = StampMs(max(log.last_stamp_ms, replica.heard_clock_ms))
    replica.heartbeat_elapsed = 0
    replica.uncommitted_bytes = 0
    replica.call_off_standing()
    if replica.lease is not None:
        replica.lease.begin(replica.clock_ms)
    replica.term_start = Index(log.last_index + 1)
    replica.progress = {}
    replica.meet_peers()
    replication.begin_term(replica)
