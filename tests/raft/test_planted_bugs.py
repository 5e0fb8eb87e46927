"""The tests are tested: each of these broken cores is caught.

Random schedules catch most within a few hundred seeds. What they meet too seldom has a test of its
own, which has to fail once the bug is planted. Beside each bug is what it breaks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from resplock.raft import elections, following, proposals, replication
from resplock.raft.configurations import refusal_of_change
from resplock.raft.core import RaftCore
from resplock.raft.entries import Entry, HardState
from resplock.raft.log import RaftLog
from resplock.raft.membership import Membership
from resplock.raft.messages import AppendReply, Message, VoteRequest
from resplock.raft.reads import ReadQueue
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index
from tests.raft import (
    test_elections,
    test_membership,
    test_pitfalls,
    test_reads,
    test_ready,
    test_replication,
)
from tests.raft.schedule import Schedule

Plant = Callable[[pytest.MonkeyPatch], None]
SEEDS = 300


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

    def persisted(log: RaftLog, entries: tuple[Entry, ...]) -> None:
        for position, entry in enumerate(log.tail):
            if entry.last == entries[-1].last and position >= log._unstable_at:
                log._unstable_at = position + 1
                log.stable_index = Index(entry.last)

    patch.setattr(RaftLog, "persisted", persisted)


# --- catching them -------------------------------------------------------------------------------

BY_SCHEDULES: list[Plant] = [
    truncate_on_any_append,
    keep_conflicting_entries,
    vote_for_anybody,
    vote_twice,
    win_with_half,
    read_without_a_round,
    read_before_the_no_op,
    change_membership_at_any_time,
    acknowledge_before_the_disk,
]

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
    (trust_a_write_by_its_index, test_ready.test_messages_may_arrive_while_a_batch_is_written),
]


@pytest.mark.parametrize("plant", BY_SCHEDULES, ids=lambda plant: plant.__name__)
def test_random_schedules_catch_it(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few hundred seeds."""
    plant(monkeypatch)
    for seed in range(SEEDS):
        try:
            Schedule(seed).run()
        except AssertionError:
            return
    pytest.fail(f"{plant.__name__} was not noticed in {SEEDS} schedules")


@pytest.mark.parametrize(("plant", "test"), BY_TESTS, ids=lambda each: each.__name__)
def test_planted_bug_fails_its_test(
    plant: Plant, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which passes without it."""
    test()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        test()


def test_every_planted_bug_is_caught_somehow() -> None:
    here = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    plants = {
        name for name, value in here if list(inspect.signature(value).parameters) == ["patch"]
    }
    caught = {plant.__name__ for plant in [*BY_SCHEDULES, *(plant for plant, _ in BY_TESTS)]}
    assert plants == caught
