"""The leader's side of replication: entries and heartbeats out, acknowledgements in, commit.

Pure. Messages to followers are made in `flush`, when the next Ready is put together, so that what
was proposed in one turn of the runtime's loop goes out in one message.

Invariants:

- an entry is committed once a majority has it durably AND it is of the leader's own term; earlier
  ones are committed with it, never by counting (Raft paper, 5.4.2, figure 8);
- the leader is one of that majority only for what its own disk holds (`RaftLog.stable_index`).
"""

from __future__ import annotations

from resplock.raft.entries import Entry, entry_bytes, noop
from resplock.raft.messages import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    TimeoutNow,
)
from resplock.raft.progress import PeerState, Progress
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, Term

# --- proposing -----------------------------------------------------------------------------------


def begin_term(replica: Replica) -> None:
    """Append the no-op of a new leader (Raft paper, section 8)."""
    append(replica, noop(replica.term, replica.term_start, replica.clock_ms))


def append(replica: Replica, entry: Entry) -> None:
    """Append an entry of the leader's own term."""
    assert replica.role is Role.LEADER
    assert entry.term == replica.term
    assert entry.stamp_ms >= replica.log.last_stamp_ms, "the replicated clock never goes back"
    replica.append(entry)
    replica.uncommitted_bytes += entry_bytes(entry)
    if replica.progress:
        replica.appends_due = True


# --- time ----------------------------------------------------------------------------------------


def tick(replica: Replica) -> None:
    """A tick of a leader: heartbeats, and whether a quorum still hears it (thesis 6.2)."""
    replica.heartbeat_elapsed += 1
    if replica.heartbeat_elapsed >= replica.config.heartbeat_ticks:
        replica.heartbeat_elapsed = 0
        replica.heartbeat_due = True
        for progress in replica.progress.values():
            progress.unanswered += 1
    if replica.feeds_few:
        choose_fed(replica)
    if replica.transferee is not None:
        _go_on_handing_over(replica)
    if replica.config.check_quorum and not _has_quorum_contact(replica):
        replica.become_follower(replica.term, None)


def _has_quorum_contact(replica: Replica) -> bool:
    now = replica.now
    heard = replica.majority_has(now, (peer.last_active for peer in replica.voting_peers))
    return now - heard < replica.config.election_ticks


def is_active(replica: Replica, progress: Progress) -> bool:
    """Whether it was heard within an election timeout."""
    return replica.now - progress.last_active < replica.config.election_ticks


def is_there(replica: Replica, progress: Progress) -> bool:
    """Whether it was heard within an election timeout, and there is a link to it."""
    return is_active(replica, progress) and progress.id not in replica.links_down


# --- whom to feed at once ------------------------------------------------------------------------


def choose_fed(replica: Replica) -> None:
    """Choose anew who is fed at once: those that keep up. The others now get what they lack."""
    there = [
        peer
        for peer in replica.voting_peers
        if peer.state is PeerState.REPLICATE and is_there(replica, peer)
    ]
    there.sort(key=lambda peer: (-peer.match_index, peer.id not in replica.fed_at_once, peer.id))
    replica.fed_at_once = frozenset(peer.id for peer in there[: replica.membership.quorum - 1])
    replica.rest_due = replica.appends_due = True


def _may_wait(replica: Replica, progress: Progress) -> bool:
    """Whether this follower may get its entries with the next tick.

    Only as long as enough others make a majority with the leader, and nobody is about to lead.
    """
    return (
        replica.feeds_few
        and not replica.rest_due
        and progress.id not in replica.fed_at_once
        and progress.state is PeerState.REPLICATE
        and replica.transferee is None
        and len(replica.fed_at_once - replica.links_down) >= replica.membership.quorum - 1
    )


def others_suffice(replica: Replica) -> bool:
    """Whether the followers that are fed at once are a majority without the leader."""
    peers, quorum = replica.voting_peers, replica.membership.quorum
    if replica.feeds_few or len(peers) < quorum:
        return False
    return sum([is_there(replica, peer) for peer in peers]) >= quorum


# --- handing over (see `leadership`) -------------------------------------------------------------


def successor(replica: Replica) -> Progress | None:
    """Of the other voters that are there, the one that has most of the log."""
    there = [peer for peer in replica.voting_peers if is_there(replica, peer)]
    return max(there, key=lambda peer: peer.match_index, default=None)


def hand_over(replica: Replica) -> None:
    """Ask whoever is to lead to stand, once it has the whole log (thesis 3.10)."""
    assert replica.transferee is not None
    if replica.progress[replica.transferee].match_index == replica.log.last_index:
        replica.send_now(TimeoutNow(replica.term, replica.id, replica.transferee))


def _go_on_handing_over(replica: Replica) -> None:
    """Ask again at each tick, as messages may be lost, and give up after an election timeout."""
    if replica.now - replica.transfer_began >= replica.config.election_ticks:
        replica.transferee = None
    else:
        hand_over(replica)


# --- sending -------------------------------------------------------------------------------------


def flush(replica: Replica) -> None:
    """Put what the followers should hear now into `send_now`."""
    if replica.reads.is_asked and not _answer_by_lease(replica):
        _begin_round(replica)
    elif replica.heartbeat_due and replica.lease is not None:
        _begin_round(replica)  # so that the answers tell when the heartbeats left
    if replica.heartbeat_due:
        replica.heartbeat_due = False
        _send_heartbeats(replica)
    if replica.appends_due:
        replica.appends_due = False
        for progress in replica.progress.values():
            if not _may_wait(replica, progress):
                _send_appends(replica, progress)
        replica.rest_due = False


def _answer_by_lease(replica: Replica) -> bool:
    """Answer the reads without a round, if nobody else can lead just now (thesis 6.4.1)."""
    if replica.lease is None or not replica.lease.holds(replica.clock_ms):
        return False
    replica.reads.answer_asked(replica.log.commit_index)
    return True


def _begin_round(replica: Replica) -> None:
    replica.reads.begin_round(replica.log.commit_index)
    if replica.lease is not None:
        replica.lease.sent(replica.reads.round, replica.clock_ms)
    _confirm_reads(replica)  # a sole voter needs nobody else
    replica.heartbeat_due = True


def feed(replica: Replica, progress: Progress) -> None:
    """Something changed for this follower: let the next Ready look at it if there is a reason."""
    if replica.role is Role.LEADER and not progress.is_paused:
        if progress.has_to_send(replica.log.last_index):
            replica.appends_due = True


def _send_heartbeats(replica: Replica) -> None:
    if not replica.progress:
        return
    commit_index = replica.log.commit_index
    commit_term = replica.log.term_at(commit_index)
    assert commit_term is not None
    for id in replica.progress:
        replica.send_now(
            Heartbeat(
                term=replica.term,
                from_id=replica.id,
                to_id=id,
                commit_index=commit_index,
                commit_term=commit_term,
                clock_ms=replica.clock_ms,
                round=replica.reads.round,
            )
        )


def _send_appends(replica: Replica, progress: Progress) -> None:
    """Send until there is nothing more, or the follower must answer first."""
    log = replica.log
    while not progress.is_paused and progress.has_to_send(log.last_index):
        prev_index = Index(progress.next_index - 1)
        prev_term = log.term_at(prev_index)
        entries = log.entries_from(progress.next_index, replica.config.append_bytes_max)
        if prev_term is None or entries is None:
            _want_snapshot(replica, progress)
            return
        _send_append(replica, progress, prev_term, entries)
        last = Index(entries[-1].last) if entries else prev_index
        progress.sent(last, sum(map(entry_bytes, entries)))


def _send_append(
    replica: Replica, progress: Progress, prev_term: Term, entries: tuple[Entry, ...]
) -> None:
    replica.send_now(
        AppendRequest(
            term=replica.term,
            from_id=replica.id,
            to_id=progress.id,
            prev_index=progress.next_index - 1,
            prev_term=prev_term,
            commit_index=replica.log.commit_index,
            clock_ms=replica.clock_ms,
            entries=entries,
        )
    )


def _want_snapshot(replica: Replica, progress: Progress) -> None:
    """What it needs is compacted away: ask the runtime for a snapshot, if it is there to get it."""
    if is_active(replica, progress):
        progress.await_snapshot()
        replica.snapshots_wanted.append(progress.id)
    else:
        progress.pause()


# --- hearing -------------------------------------------------------------------------------------


def on_append_reply(replica: Replica, message: AppendReply) -> None:
    """A follower's log agrees, or does not."""
    progress = replica.progress.get(message.from_id)
    if progress is None:
        return
    progress.heard(replica.now)
    if message.accepted:
        _on_match(replica, progress, Index(message.match_index))
    else:
        _on_conflict(replica, progress, message)


def on_heartbeat_reply(replica: Replica, message: HeartbeatReply) -> None:
    """A follower follows still."""
    progress = replica.progress.get(message.from_id)
    if progress is None:
        return
    progress.heard(replica.now)
    progress.acked_round = max(progress.acked_round, min(message.round, replica.reads.round))
    _confirm_reads(replica)
    if message.match_index > progress.match_index:
        _on_match(replica, progress, Index(message.match_index))
    if replica.role is Role.LEADER:
        _make_up_for_loss(replica, progress)


def _confirm_reads(replica: Replica) -> None:
    rounds = (peer.acked_round for peer in replica.voting_peers)
    confirmed = replica.majority_has(replica.reads.round, rounds)
    replica.reads.confirm(confirmed)
    if replica.lease is not None:
        replica.lease.confirm(confirmed)


def _make_up_for_loss(replica: Replica, progress: Progress) -> None:
    """Something may have been lost on the way: probe again, or ask where the pipeline stands."""
    match progress.state:
        case PeerState.PROBE:
            progress.probe_sent = False
            feed(replica, progress)
        case PeerState.REPLICATE:
            if progress.answered_heartbeat():
                _ask_where(replica, progress)
        case PeerState.SNAPSHOT:
            pass


def _ask_where(replica: Replica, progress: Progress) -> None:
    """Send an append without entries behind all that was sent: a gap before it gets a rejection."""
    prev_term = replica.log.term_at(Index(progress.next_index - 1))
    if prev_term is None:
        progress.probe_from(Index(progress.match_index + 1))
        feed(replica, progress)
    else:
        _send_append(replica, progress, prev_term, ())


def _on_match(replica: Replica, progress: Progress, match_index: Index) -> None:
    """Its log is durable and agrees up to `match_index`."""
    if not _may_be_end(replica, match_index):
        return
    if progress.accepted(match_index):
        if progress.state is PeerState.SNAPSHOT and match_index + 1 >= replica.log.first_index:
            progress.probe_from(Index(match_index + 1))
        if replica.transferee == progress.id:
            hand_over(replica)
        if match_index > replica.log.commit_index:
            advance_commit(replica)
    feed(replica, progress)


def _may_be_end(replica: Replica, index: Index) -> bool:
    """Whether an entry of this log ends there, as far as it is still kept: peers may be wrong."""
    log = replica.log
    if index >= log.last_index:
        return index == log.last_index
    entry = log.entry_at(index)
    return entry is None or entry.last == index


def _on_conflict(replica: Replica, progress: Progress, message: AppendReply) -> None:
    """Its log does not agree at the rejected `prev_index`: go back."""
    if message.prev_index <= progress.match_index:
        return  # late: it agrees there by now
    match progress.state:
        case PeerState.REPLICATE:
            progress.probe_from(Index(progress.match_index + 1))
        case PeerState.PROBE:
            if message.prev_index != progress.next_index - 1:
                return  # late: this is not what was last asked
            progress.probe_from(_backed_up(replica, progress, message))
        case PeerState.SNAPSHOT:
            return
    feed(replica, progress)


def _backed_up(replica: Replica, progress: Progress, message: AppendReply) -> Index:
    """Where to probe next: a term at a time, not an entry at a time (Raft paper, end of 5.3).

    Behind the leader's own last entry of the conflicting term, if it has any, else at the start of
    the follower's entries of that term. The follower's indexes may lie inside the leader's entries,
    which are never split, so the result is rounded down to the start of one.
    """
    log = replica.log
    rejected = Index(message.prev_index)
    behind = Index(message.conflict_index)
    if message.conflict_term:
        low, term = progress.match_index, Term(message.conflict_term)
        last = log.last_of_terms_up_to(term, low, Index(rejected - 1))
        if log.term_at(last) == term:
            behind = Index(last + 1)
    behind = Index(max(min(behind, rejected), progress.match_index + 1))
    return log.start_of(behind)


def lost_link(replica: Replica, id: NodeId) -> None:
    """What was under way to it may be lost."""
    progress = replica.progress.get(id)
    if progress is not None and progress.state is PeerState.REPLICATE:
        progress.probe_from(Index(progress.match_index + 1))
        feed(replica, progress)


def link_is_back(replica: Replica, id: NodeId) -> None:
    """What was sent without a link was lost, so send it again at once."""
    progress = replica.progress.get(id)
    if progress is not None and progress.state is PeerState.PROBE:
        progress.probe_sent = False
        feed(replica, progress)


def peer_restarted(replica: Replica, id: NodeId) -> None:
    """It runs anew: a damaged log may have lost what it had acknowledged, so ask from the end."""
    progress = replica.progress.get(id)
    if progress is not None:
        progress.restarted(Index(replica.log.last_index + 1))
        feed(replica, progress)


# --- committing ----------------------------------------------------------------------------------


def advance_commit(replica: Replica) -> None:
    """Commit what a majority has. A leader outside the configuration that this commits is done."""
    log = replica.log
    index = majority_match(replica)
    if index <= log.commit_index or not may_commit_by_count(replica, index):
        return
    if log.commit_index < replica.membership.index <= index:
        _tell_removed(replica)
    replica.commit_to(index)
    if not replica.is_voter and replica.membership.index <= index:
        _send_heartbeats(replica)  # the others learn of the commit, and elect one of them
        heir = successor(replica)
        if heir is not None:
            replica.send_now(TimeoutNow(replica.term, replica.id, heir.id))
        replica.become_follower(replica.term, None)


def _tell_removed(replica: Replica) -> None:
    """The configuration in effect is committed now: let those that it removes know at once.

    Nothing more is replicated to them. Whom this does not reach is told when it asks for votes.
    """
    membership = replica.membership
    before = membership.committed(replica.log.commit_index).removed
    for gone in membership.configuration.removed:
        id, _, uuid = gone.rpartition("/")
        if gone not in before and id != replica.id:
            replica.send_now(
                PreVoteReply(
                    replica.term,
                    replica.id,
                    NodeId(id),
                    replica.term,
                    granted=False,
                    removed=True,
                    uuid=uuid,
                )
            )


def majority_match(replica: Replica) -> Index:
    """The end up to which a majority has the log durably."""
    matches = (peer.match_index for peer in replica.voting_peers)
    return Index(replica.majority_has(replica.log.stable_index, matches))


def may_commit_by_count(replica: Replica, index: Index) -> bool:
    """Whether the entry at `index` is of the leader's term (Raft paper, 5.4.2)."""
    return index >= replica.term_start
