"""The tests are tested: each of these broken cores is caught.

Random schedules catch most within a few hundred seeds. What they meet too seldom, or what costs time
and not safety, has a test or a script of its own, which has to come out otherwise once the bug is
planted. Beside each bug is what it breaks.
"""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from resplock.raft import (
    configurations,
    elections,
    following,
    leadership,
    membership,
    proposals,
    replication,
    snapshots,
)
from resplock.raft.configurations import refusal_of_change
from resplock.raft.core import RaftCore
from resplock.raft.entries import Entry, EntryKind, HardState, Member, SnapshotMeta
from resplock.raft.lease import Lease
from resplock.raft.log import RaftLog
from resplock.raft.membership import Membership
from resplock.raft.messages import AppendReply, HeartbeatReply, Message, TimeoutNow, VoteRequest
from resplock.raft.progress import Progress
from resplock.raft.reads import ReadQueue
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs, Term
from tests.planted import Plant, fails_its_test, fails_within
from tests.raft import (
    test_elections,
    test_feeding,
    test_leadership,
    test_lease,
    test_links,
    test_membership,
    test_passive,
    test_pitfalls,
    test_reads,
    test_ready,
    test_replication,
)
from tests.raft.schedule import Schedule
from tests.raft.script import rewrite

SEEDS = 300
SCRIPTS = Path(__file__).parent / "golden"


def commit_earlier_terms_by_count(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 1; Raft paper, figure 8."""
    patch.setattr(replication, "may_commit_by_count", lambda replica, index: True)


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 2: the vote is not part of what is made durable."""
    real = RaftCore._unsaved_hard_state

    def without_vote(core: RaftCore) -> HardState | None:
        state = real(core)
        return HardState(state.term) if state is not None else None

    patch.setattr(RaftCore, "_unsaved_hard_state", without_vote)


def count_the_leader_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 2: the leader counts entries that it has not made durable."""

    def majority_match(replica: Replica) -> Index:
        matches = (peer.match_index for peer in replica.voting_peers)
        return Index(replica.majority_has(replica.log.last_index, matches))

    patch.setattr(replication, "majority_match", majority_match)


def acknowledge_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 2: answers leave while the batch is being written."""

    def _take_messages(core: RaftCore, hard_state: HardState | None) -> Any:
        messages = (*core.to_send_now, *core.to_send_after_persist)
        core.to_send_now.clear()
        core.to_send_after_persist.clear()
        return messages, ()

    patch.setattr(RaftCore, "_take_messages", _take_messages)


def acknowledge_what_is_only_written(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 2: a follower's answer does not wait for the sync of entries that it wrote."""
    patch.setattr(RaftCore, "_must_sync", lambda core, hard_state, _: hard_state is not None)


def count_what_is_only_written(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 2: a leader counts entries that it wrote and has not synced."""

    def majority_match(replica: Replica) -> Index:
        matches = (peer.match_index for peer in replica.voting_peers)
        return Index(replica.majority_has(replica.log.written_index, matches))

    patch.setattr(replication, "majority_match", majority_match)


def truncate_on_any_append(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 3: a late, short append shortens the log."""
    patch.setattr(following, "first_missing", lambda replica, entries: 0)


def keep_conflicting_entries(patch: pytest.MonkeyPatch) -> None:
    """Raft paper, 5.3: an entry counts as present by its index alone."""

    def first_missing(replica: Replica, entries: Sequence[Entry]) -> int:
        last = replica.log.last_index
        return sum(entry.last <= last for entry in entries)

    patch.setattr(following, "first_missing", first_missing)


def commit_what_was_not_compared(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 4: commit up to the log's end, not up to the last index that was compared."""
    real = following._commit

    def _commit(replica: Replica, leader_commit: Index, verified: Index) -> None:
        real(replica, leader_commit, replica.log.last_index)

    patch.setattr(following, "_commit", _commit)


def believe_earlier_terms(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 4: an acknowledgement of an earlier term counts in this one."""
    real = RaftCore._step_earlier_term

    def _step_earlier_term(core: RaftCore, message: Message) -> None:
        if isinstance(message, AppendReply):
            core._handle(message)
        else:
            real(core, message)

    patch.setattr(RaftCore, "_step_earlier_term", _step_earlier_term)


def vote_for_anybody(patch: pytest.MonkeyPatch) -> None:
    """Raft paper, 5.4.1: the candidate's log is not looked at."""
    patch.setattr(elections, "is_up_to_date", lambda replica, last_term, last_index: True)


def vote_twice(patch: pytest.MonkeyPatch) -> None:
    """Raft paper, 5.2: more than one vote in a term."""
    real = elections.on_vote_request

    def on_vote_request(replica: Replica, message: VoteRequest) -> None:
        if replica.role is replica.passive_role:
            replica.vote = ""
        real(replica, message)

    patch.setattr(elections, "on_vote_request", on_vote_request)


def win_with_half(patch: pytest.MonkeyPatch) -> None:
    """Raft paper, 5.2: half of the voters is no majority."""
    real = Membership._take_effect

    def _take_effect(membership: Membership) -> None:
        real(membership)
        membership.quorum = max(1, len(membership.voter_ids) // 2)

    patch.setattr(Membership, "_take_effect", _take_effect)


def read_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 9; thesis 6.4: the leader does not make sure that it still leads."""
    patch.setattr(
        replication, "_confirm_reads", lambda replica: replica.reads.confirm(replica.reads.round)
    )


def read_with_an_old_round(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 9: an answer to an older heartbeat proves a newer read."""
    real = ReadQueue.confirm

    def confirm(queue: ReadQueue, round: int) -> None:
        real(queue, queue.round if round else 0)

    patch.setattr(ReadQueue, "confirm", confirm)


def read_before_the_no_op(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 8: a new leader does not know what is committed."""

    def read_index(core: RaftCore, context: int) -> bool:
        if core.role is Role.LEADER:
            core.reads.ask(context)
        return core.role is Role.LEADER

    patch.setattr(RaftCore, "read_index", read_index)


def change_membership_at_any_time(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 14: several changes in flight, and none of the term committed."""
    patch.setattr(
        proposals,
        "_refusal",
        lambda replica, new: (
            None
            if replica.role is Role.LEADER
            and replica.transferee is None
            and refusal_of_change(replica.membership.configuration, new) is None
            else proposals.Refusal.NOT_LEADER
        ),
    )


def keep_a_truncated_configuration(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 15: truncation does not take the configuration back."""

    def truncate(membership: Membership, first: Index) -> None:
        kept = membership.configuration
        while len(membership.steps) > 1 and membership.index >= first:
            membership.steps.pop()
        membership.steps[-1] = (membership.index, kept)

    patch.setattr(Membership, "truncate", truncate)


def trust_a_write_by_its_index(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 5: an entry that was overwritten while its batch was written counts as durable."""

    def written(log: RaftLog, entries: tuple[Entry, ...]) -> None:
        for position, entry in enumerate(log.tail):
            if entry.last == entries[-1].last and position >= log._unwritten_at:
                log._unwritten_at = position + 1
                log.written_index = Index(entry.last)

    patch.setattr(RaftLog, "written", written)


def starve_who_need_not_be_fed(patch: pytest.MonkeyPatch) -> None:
    """Who is not fed at once is not fed at all."""
    real = replication.choose_fed

    def choose_fed(replica: Replica) -> None:
        real(replica)
        replica.rest_due = False

    patch.setattr(replication, "choose_fed", choose_fed)


# --- servers and their directories ---------------------------------------------------------------


def ask_an_id_for_its_vote(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 19: whoever runs under the id votes, on an empty directory too."""
    patch.setattr(elections, "may_vote", lambda replica, voter_uuid="": True)


def be_the_voter_of_the_id(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 19: a server finds its id among the voters, and takes itself for one."""
    patch.setattr(configurations, "is_of", lambda member, id, uuid: member.id == id)
    patch.setattr(membership, "is_of", lambda member, id, uuid: member.id == id)
    real = elections.may_vote
    patch.setattr(elections, "may_vote", lambda replica, voter_uuid="": real(replica))


def know_a_successor_by_its_id(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 19: what the old server had acknowledged counts for the new one."""
    real = Replica._progress_of

    def _progress_of(replica: Replica, member: Member) -> Progress:
        return replica.progress.get(member.id) or real(replica, member)

    patch.setattr(Replica, "_progress_of", _progress_of)


def keep_the_term_when_a_snapshot_comes(patch: pytest.MonkeyPatch) -> None:
    """Section 5.1: a log that ends in a term which its server has not come to."""
    real = snapshots.restore

    def restore(replica: Replica, meta: SnapshotMeta) -> bool:
        term = replica.term
        restored = real(replica, meta)
        replica.term = term
        return restored

    patch.setattr(snapshots, "restore", restore)


def tell_of_a_removal_that_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 17: the server may be needed, and the removal taken back."""
    patch.setattr(Membership, "committed", lambda membership, index: membership.configuration)


def stand_on_after_being_told_of_the_removal(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 17: it asks for ever."""
    patch.setattr(Replica, "learn_of_removal", lambda replica: None)


def remember_every_removal(patch: pytest.MonkeyPatch) -> None:
    """A configuration that grows with the age of the cluster."""
    patch.setattr(configurations, "_remembered", lambda removed, *gone: (*removed, *gone))


# --- leadership ----------------------------------------------------------------------------------


def take_proposals_while_handing_over(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 13; thesis 3.10: the target never has the whole log."""

    def propose_run(
        replica: Replica, payload: bytes, commands: int, stamp_ms: StampMs
    ) -> Entry | None:
        if replica.role is not Role.LEADER:
            return None
        first = replica.log.last_index + 1
        last = first + commands - 1
        entry = Entry(replica.term, first, last, EntryKind.RUN, stamp_ms, payload)
        replication.append(replica, entry)
        return entry

    patch.setattr(proposals, "propose_run", propose_run)


def hand_over_to_a_server_that_lags(patch: pytest.MonkeyPatch) -> None:
    """Thesis 3.10, step 2: it cannot win, and the cluster has no leader meanwhile."""

    def hand_over(replica: Replica) -> None:
        assert replica.transferee is not None
        replica.send_now(TimeoutNow(replica.term, replica.id, replica.transferee))

    patch.setattr(replication, "hand_over", hand_over)


def hand_over_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 13: a transfer that fails stops the cluster."""
    patch.setattr(replication, "_go_on_handing_over", lambda replica: None)


def ask_for_votes_as_anybody(patch: pytest.MonkeyPatch) -> None:
    """Thesis 4.2.3: voters are not told that the leader itself has asked for it."""
    real = elections.stand
    patch.setattr(elections, "stand", lambda replica, transfer=False: real(replica))


def stand_when_anybody_says_so(patch: pytest.MonkeyPatch) -> None:
    """Section 5.1: also when it was not this term's leader."""
    patch.setattr(
        leadership,
        "on_timeout_now",
        lambda replica, message: elections.stand(replica, transfer=True),
    )


# --- links ---------------------------------------------------------------------------------------


def hear_a_leader_without_a_link(patch: pytest.MonkeyPatch) -> None:
    """The others ignore who noticed first, and the election timeout rules after all."""
    real = elections.hears_leader

    def hears_leader(replica: Replica) -> bool:
        links, replica.links_down = replica.links_down, set()
        heard = real(replica)
        replica.links_down = links
        return heard

    patch.setattr(elections, "hears_leader", hears_leader)


def stand_though_the_link_is_back(patch: pytest.MonkeyPatch) -> None:
    """An election for a connection that broke."""
    patch.setattr(elections, "stand_now", elections.campaign)


def wait_for_the_vote_of_the_dead(patch: pytest.MonkeyPatch) -> None:
    """A split vote is not over before a timeout."""
    real = elections._is_lost

    def _is_lost(replica: Replica) -> bool:
        links, replica.links_down = replica.links_down, set()
        lost = real(replica)
        replica.links_down = links
        return lost

    patch.setattr(elections, "_is_lost", _is_lost)


def ask_for_pre_votes_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Early pre-votes without a bound, where no majority is left."""
    patch.setattr(elections, "EARLY_VOTES_MAX", 10**9)


# --- the lease -----------------------------------------------------------------------------------


def believe_the_lease_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 10: as a leader that has no clock."""
    patch.setattr(Lease, "holds", lambda lease, clock_ms: not lease._ended and lease._until_ms)


def count_the_lease_in_ticks(patch: pytest.MonkeyPatch) -> None:
    """Pitfalls 10 and 31: a process that stood still has counted none of them."""
    real_tick, real_holds = replication.tick, Lease.holds
    clocks: dict[int, int] = {}

    def tick(replica: Replica) -> None:
        clocks[id(replica.lease)] = replica.clock_ms
        real_tick(replica)

    def holds(lease: Lease, clock_ms: StampMs) -> bool:
        return real_holds(lease, StampMs(clocks.get(id(lease), clock_ms)))

    patch.setattr(replication, "tick", tick)
    patch.setattr(Lease, "holds", holds)


def count_the_lease_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 10: the voters count from when the heartbeat came, which was before."""
    real = replication.on_heartbeat_reply

    def on_heartbeat_reply(replica: Replica, message: HeartbeatReply) -> None:
        lease = replica.lease
        if lease is not None:
            rounds = [(round, max(replica.clock_ms, sent)) for round, sent in lease._rounds]
            lease._rounds = deque(rounds)
        real(replica, message)

    patch.setattr(replication, "on_heartbeat_reply", on_heartbeat_reply)


def keep_the_lease_through_a_transfer(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 10: voters break it for who was asked to stand."""
    real = leadership._begin

    def _begin(replica: Replica, progress: Progress) -> None:
        lease, replica.lease = replica.lease, None
        real(replica, progress)
        replica.lease = lease

    patch.setattr(leadership, "_begin", _begin)


def forget_the_lease_with_the_term(patch: pytest.MonkeyPatch) -> None:
    """Thesis 6.4.1: a voter that comes to a later term votes, though it has just heard a leader."""
    patch.setattr(elections, "_keeps_lease", lambda replica: False)
    patch.setattr(
        elections,
        "_is_in_lease",
        lambda replica: (
            replica.leader_id is not None
            and replica.election_elapsed < replica.config.election_ticks
        ),
    )


def forget_the_lease_in_a_restart(patch: pytest.MonkeyPatch) -> None:
    """Thesis 6.4.1: a voter has answered a heartbeat, and starts again."""
    real = RaftCore.__init__

    def begin(core: RaftCore, *arguments: Any, **named: Any) -> None:
        real(core, *arguments, **named)
        core.heard_at = -(10**6)

    patch.setattr(RaftCore, "__init__", begin)


def measure_with_a_clock_that_stands(patch: pytest.MonkeyPatch) -> None:
    """A new leader's clock stands until its node has started it, and time passes."""
    real = Lease.begin

    def begin(lease: Lease, clock_ms: StampMs) -> None:
        real(lease, clock_ms)
        lease._began_ms -= 1

    patch.setattr(Lease, "begin", begin)


def acknowledge_what_a_later_term_takes_back(patch: pytest.MonkeyPatch) -> None:
    """Pitfall 2: a stalled server answers the old leader for entries that the new one replaced."""
    real = Replica.become_follower

    def become_follower(self: Replica, term: Term, leader_id: NodeId | None) -> None:
        waiting = list(self.to_send_after_persist)
        real(self, term, leader_id)
        self.to_send_after_persist[:] = waiting

    patch.setattr(Replica, "become_follower", become_follower)


# --- catching them -------------------------------------------------------------------------------

BY_SCHEDULES: list[tuple[Plant, int]] = [
    (truncate_on_any_append, 68),
    (keep_conflicting_entries, 0),
    (vote_for_anybody, 0),
    (vote_twice, 1),
    (win_with_half, 0),
    (read_without_a_round, 49),
    (read_before_the_no_op, 1),
    (change_membership_at_any_time, 74),
    (acknowledge_before_the_disk, 878),
    (acknowledge_what_is_only_written, 0),
    (count_what_is_only_written, 0),
    (believe_the_lease_for_ever, 49),
    (count_the_lease_in_ticks, 49),
    (ask_an_id_for_its_vote, 132),
]
"""With the first seed that caught it, from which the search begins."""

BY_TESTS: list[tuple[Plant, Callable[[], None]]] = [
    (
        commit_earlier_terms_by_count,
        test_pitfalls.test_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting,
    ),
    (forget_the_vote, test_elections.test_a_vote_outlives_a_restart),
    (
        count_the_leader_before_its_disk,
        test_replication.test_the_leader_counts_itself_only_for_what_its_own_disk_has,
    ),
    (truncate_on_any_append, test_pitfalls.test_a_later_short_append_does_not_shorten_the_log),
    (
        commit_what_was_not_compared,
        test_replication.test_only_what_was_compared_is_committed,
    ),
    (
        believe_earlier_terms,
        test_pitfalls.test_an_acknowledgement_of_an_earlier_term_does_not_count,
    ),
    (read_with_an_old_round, test_reads.test_an_old_answer_proves_nothing_for_a_newer_read),
    (keep_a_truncated_configuration, test_membership.test_a_truncated_configuration_is_taken_back),
    (
        acknowledge_what_a_later_term_takes_back,
        test_ready.test_what_a_later_term_takes_back_is_not_acknowledged,
    ),
    (trust_a_write_by_its_index, test_ready.test_messages_may_arrive_while_a_batch_is_written),
    (ask_an_id_for_its_vote, test_passive.test_a_vote_is_asked_of_a_server_not_of_an_id),
    (be_the_voter_of_the_id, test_passive.test_a_wiped_server_is_not_the_voter_of_its_id),
    (
        know_a_successor_by_its_id,
        test_passive.test_what_is_known_of_a_server_is_not_known_of_its_successor,
    ),
    (keep_the_term_when_a_snapshot_comes, test_passive.test_a_snapshot_brings_its_term_with_it),
    (
        tell_of_a_removal_that_is_not_committed,
        test_membership.test_a_removal_that_is_not_committed_is_told_to_nobody,
    ),
    (
        stand_on_after_being_told_of_the_removal,
        test_membership.test_a_removed_server_that_missed_its_removal_is_told,
    ),
    (
        remember_every_removal,
        test_membership.test_tombstones_are_bounded_and_the_oldest_goes_first,
    ),
    (
        take_proposals_while_handing_over,
        test_leadership.test_a_leader_takes_nothing_new_while_it_hands_over,
    ),
    (
        hand_over_to_a_server_that_lags,
        test_leadership.test_a_server_that_lags_is_brought_up_to_date_first,
    ),
    (
        hand_over_for_ever,
        test_leadership.test_a_transfer_that_fails_ends_after_an_election_timeout,
    ),
    (
        stand_when_anybody_says_so,
        test_leadership.test_a_learner_and_a_server_with_losses_do_not_stand_when_they_are_told_to,
    ),
    (
        hear_a_leader_without_a_link,
        test_links.test_a_voter_whose_link_to_the_leader_broke_votes_at_once,
    ),
    (
        stand_though_the_link_is_back,
        test_links.test_a_link_back_to_the_same_incarnation_calls_it_off,
    ),
    (wait_for_the_vote_of_the_dead, test_links.test_a_split_vote_is_tried_again_soon),
    (
        ask_for_pre_votes_for_ever,
        test_links.test_it_ends_and_leaves_the_rest_to_the_election_timeout,
    ),
    (
        count_the_lease_from_the_answer,
        test_lease.test_it_counts_from_when_the_heartbeats_left,
    ),
    (
        starve_who_need_not_be_fed,
        test_feeding.test_a_majority_commits_and_the_others_get_it_with_the_next_tick,
    ),
    (keep_the_lease_through_a_transfer, test_lease.test_a_transfer_ends_the_lease_for_the_term),
    (
        forget_the_lease_with_the_term,
        test_lease.test_a_voter_keeps_the_lease_of_a_leader_whatever_term_it_comes_to,
    ),
    (
        measure_with_a_clock_that_stands,
        test_lease.test_a_clock_that_the_node_has_not_started_yet_measures_nothing,
    ),
]

BY_SCRIPTS: list[tuple[Plant, str]] = [
    (commit_earlier_terms_by_count, "figure_8"),
    (trust_a_write_by_its_index, "append_aba"),
    (truncate_on_any_append, "duplicate_and_reordered_replies"),
    (keep_a_truncated_configuration, "configuration_rolled_back"),
    (hand_over_to_a_server_that_lags, "transfer_to_a_lagging_server"),
    (ask_for_votes_as_anybody, "transfer"),
    (wait_for_the_vote_of_the_dead, "early_pre_vote_split"),
    (keep_the_lease_through_a_transfer, "lease"),
    (forget_the_lease_in_a_restart, "lease_kept_by_voters"),
    (ask_an_id_for_its_vote, "wiped_server_comes_back"),
    (stand_on_after_being_told_of_the_removal, "removed_server_is_told"),
]


@pytest.mark.parametrize(
    ("plant", "first"), BY_SCHEDULES, ids=lambda each: getattr(each, "__name__", each)
)
def test_random_schedules_catch_it(
    plant: Plant, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few hundred seeds."""
    seeds = range(first, first + SEEDS)
    fails_within(seeds, plant, lambda seed: Schedule(seed).run(), monkeypatch)


@pytest.mark.parametrize(("plant", "test"), BY_TESTS, ids=lambda each: each.__name__)
def test_planted_bug_fails_its_test(
    plant: Plant, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which passes without it."""
    fails_its_test(plant, test, monkeypatch)


@pytest.mark.parametrize(
    ("plant", "name"), BY_SCRIPTS, ids=lambda each: getattr(each, "__name__", each)
)
def test_planted_bug_changes_its_script(
    plant: Plant, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which comes out as it did without it."""
    script = (SCRIPTS / f"{name}.txt").read_text()
    assert rewrite(script).rstrip() == script.rstrip()
    plant(monkeypatch)
    try:
        changed = rewrite(script)
    except (AssertionError, ValueError):
        return
    assert changed.rstrip() != script.rstrip()


def test_every_planted_bug_is_caught_somehow() -> None:
    here = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    plants = {
        name for name, value in here if list(inspect.signature(value).parameters) == ["patch"]
    }
    caught = {plant.__name__ for plant, _ in [*BY_SCHEDULES, *BY_TESTS, *BY_SCRIPTS]}
    assert plants == caught
