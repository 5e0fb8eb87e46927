"""The tests are tested: each of these broken nodes is caught.

Random schedules catch what changes an order, an answer or a state. What they meet too seldom, or what
costs time only, has a test of its own. Beside each bug is what it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from resplock import limits
from resplock.errors import CommandError
from resplock.node import node as node_module
from resplock.node.administration import AddServer, RemoveServer, Transfer
from resplock.node.clock import ReplicatedClock
from resplock.node.links import Link, RemoteReads
from resplock.node.membership import MembershipKeeper, Requested
from resplock.node.messages import Administer, Ask, Forward, NotProposed
from resplock.node.node import Node
from resplock.node.pipeline import Pipeline
from resplock.node.reads import Reads, answer
from resplock.node.runs import Answers, Result, Run
from resplock.operations import Done, Moved, NoLeader
from resplock.raft.entries import Entry
from resplock.raft.ready import ReadState
from resplock.state.table import LockTable
from resplock.types import LockName, NodeId, StampMs
from tests.node import (
    test_forwarding,
    test_links,
    test_membership,
    test_node,
    test_pipeline,
    test_reads,
)
from tests.node.schedule import Schedule
from tests.node.servers import Trio
from tests.planted import Plant, fails_its_test, fails_within

SEEDS = range(200)


# --- commands ------------------------------------------------------------------------------------


def give_back_one_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """Order: what was behind comes back later, and is proposed first."""

    def _return_from(pipeline: Pipeline, position: int) -> None:
        pipeline._runs[position].returned = True
        pipeline._settle()

    patch.setattr(Pipeline, "_return_from", _return_from)


def propose_again_behind_what_is_newer(patch: pytest.MonkeyPatch) -> None:
    """Order: what was given back waits its turn."""

    def _take_back(node: Node) -> None:
        for client, operations in node_module._own(node._pipeline.given_back).shares():
            node.gathering.add(client, operations)
        node._pipeline.given_back.clear()

    patch.setattr(Node, "_take_back", _take_back)


def propose_what_is_in_doubt_again(patch: pytest.MonkeyPatch) -> None:
    """Once: when the link broke, the leader may have had it."""

    def doubt(pipeline: Pipeline) -> None:
        for run in pipeline._runs:
            run.returned = run.results is None
        pipeline._settle()

    patch.setattr(Pipeline, "doubt", doubt)


def propose_past_an_earlier_view(patch: pytest.MonkeyPatch) -> None:
    """Order: the next leader takes what came later, while what came first is not resolved."""

    def _may_propose(node: Node) -> bool:
        core = node.core
        return not (core.is_leader and (core.is_busy or core.is_transferring))

    patch.setattr(Node, "_may_propose", _may_propose)


def refuse_at_once(patch: pytest.MonkeyPatch) -> None:
    """Order: a refusal does not wait for the answers to what came before."""

    def refused(pipeline: Pipeline, run: Run, result: Result) -> None:
        pipeline._answers.extend(run.answers(run.all(result)))

    patch.setattr(Pipeline, "refused", refused)


def redirect_at_once(patch: pytest.MonkeyPatch) -> None:
    """Order: the same, of Moved."""

    def _redirect(node: Node, leader_id: NodeId) -> None:
        for client, operations in node.gathering.shares():
            node._answers.append((client, [Moved(0, "") for _ in operations]))
        node.gathering = Run()

    patch.setattr(Node, "_redirect", _redirect)


def know_an_entry_by_its_index(patch: pytest.MonkeyPatch) -> None:
    """State: what this node once proposed there is applied in place of what was committed."""

    def take(pipeline: Pipeline, entry: Entry) -> Run | None:
        run = pipeline._runs[0]
        return run if run.first == entry.first else None

    patch.setattr(Pipeline, "take", take)


def take_what_a_snapshot_covers_for_overwritten(patch: pytest.MonkeyPatch) -> None:
    """Once: it may be in the snapshot."""
    patch.setattr(Pipeline, "doubt_through", lambda pipeline, index: pipeline._return_from(0))


def say_that_nothing_was_done(patch: pytest.MonkeyPatch) -> None:
    """Truth: it was proposed, and may be committed."""

    def doubt(pipeline: Pipeline) -> None:
        for run in pipeline._runs:
            if run.results is None and not run.returned:
                run.results = run.all(NoLeader())
        pipeline._settle()

    patch.setattr(Pipeline, "doubt", doubt)


def believe_that_a_former_leader_is_busy(patch: pytest.MonkeyPatch) -> None:
    """Answers: what was uncommitted when it led keeps it from forwarding for ever."""

    def _may_propose(node: Node) -> bool:
        core, pipeline = node.core, node._pipeline
        if pipeline and pipeline.view != (core.leader_id, core.term):
            return False
        return not (core.is_busy or core.is_transferring)

    patch.setattr(Node, "_may_propose", _may_propose)


def wait_for_ever_for_the_leader(patch: pytest.MonkeyPatch) -> None:
    """Answers: one was lost, though the link is up."""
    patch.setattr(Node, "_resolve_unanswered", lambda node, now_ms: None)


def wait_for_ever_for_the_next_leader(patch: pytest.MonkeyPatch) -> None:
    """Answers: nobody tells what became of the last leader's proposals."""
    patch.setattr(Node, "_resolve_stale", lambda node, now_ms: None)


def blame_the_leader_for_a_late_refusal(patch: pytest.MonkeyPatch) -> None:
    """Answers: a former leader's refusal keeps the next one from being asked."""
    real = Node._take_refusal

    def _take_refusal(node: Node, serial: int) -> None:
        real(node, serial)
        node._rejected_by = node.core.leader_id, node.core.term

    patch.setattr(Node, "_take_refusal", _take_refusal)


def serve_whoever_asks(patch: pytest.MonkeyPatch) -> None:
    """Order: a follower asks the leader of a term; this one may have led another since."""

    def _serve(node: Node, link: Link, message: Forward | Ask | Administer) -> None:
        if not node.core.is_leader:
            link.send(NotProposed(message.serial))
        elif isinstance(message, Forward):
            node.gathering.add(node_module.RemoteRun(link, message.serial), message.operations)

    patch.setattr(Node, "_serve", _serve)


def keep_what_a_follower_asked(patch: pytest.MonkeyPatch) -> None:
    """Once: what is gathered for others is proposed when this node leads again."""

    def _own(runs: Iterable[Run]) -> Run:
        own = Run()
        for run in runs:
            for client, operations in run.shares():
                if isinstance(client, node_module.Remote):
                    client.give_back()
                own.add(client, operations)
        return own

    patch.setattr(node_module, "_own", _own)


def answer_on_a_link_that_broke(patch: pytest.MonkeyPatch) -> None:
    """Its peer, a new process perhaps, takes it for something else."""

    def send(link: Link, message: Any) -> None:
        link._outbox.append((link.peer, message))

    patch.setattr(Link, "send", send)


def forward_a_turn_in_one_piece(patch: pytest.MonkeyPatch) -> None:
    """Bounds: a message that is too long ends the link."""
    patch.setattr(node_module, "_is_too_large", lambda run, payload_bytes, commands_max: False)


# --- queries -------------------------------------------------------------------------------------


def ask_lost_queries_last(patch: pytest.MonkeyPatch) -> None:
    """Order: behind what was asked since."""

    def lose(reads: Reads, contexts: Iterable[int]) -> None:
        for context in contexts:
            reads.asked += reads._rounds.pop(context, [])

    patch.setattr(Reads, "lose", lose)


def answer_what_is_not_overdue_at_once(patch: pytest.MonkeyPatch) -> None:
    """Order: though an earlier query of the same client waits."""

    def finish(
        reads: Reads, read: ReadState, table: LockTable, stamp_ms: StampMs, answers: Answers
    ) -> list[LockName] | None:
        for client, query in reads._rounds.pop(read.context, ()):
            answers.append((client, [answer(table, query, stamp_ms)]))
        return None

    patch.setattr(Reads, "finish", finish)


def take_any_answer_to_a_query(patch: pytest.MonkeyPatch) -> None:
    """Order: though the answer to an earlier one was lost."""

    def _take_results(node: Node, serial: int, results: list[Result]) -> None:
        if serial in node._asking:
            for (client, _), result in zip(node._asking.pop(serial), results, strict=True):
                node._answers.append((client, [result]))
        elif serial in node._requesting:
            node._answers.append((node._requesting.pop(serial).client, results))
        else:
            node._pipeline.answered(serial, results)

    patch.setattr(Node, "_take_results", _take_results)


def answer_what_was_given_back(patch: pytest.MonkeyPatch) -> None:
    """Order: late answers are taken for those of later queries."""
    patch.setattr(Link, "give_back_reads", lambda link: RemoteReads.give_back(link.reads))


def ask_nobody_again(patch: pytest.MonkeyPatch) -> None:
    """Answers: the queries that the last leader was asked."""
    patch.setattr(Node, "_ask_again", lambda node: node._asking.clear())


# --- membership ----------------------------------------------------------------------------------


def count_what_a_stranger_acknowledges(patch: pytest.MonkeyPatch) -> None:
    """Safety: a wiped server has the id, and none of what its predecessor had."""
    patch.setattr(Node, "_is_stranger", lambda node, id: False)


def be_done_when_it_is_in_effect(patch: pytest.MonkeyPatch) -> None:
    """Truth: a configuration that is not committed may be taken back."""
    real = MembershipKeeper._change

    def _change(
        keeper: MembershipKeeper, request: AddServer | RemoveServer
    ) -> Done | CommandError | None:
        return real(keeper, request) or Done()

    patch.setattr(MembershipKeeper, "_change", _change)


def deny_what_was_begun(patch: pytest.MonkeyPatch) -> None:
    """Truth: the last leader may have carried it out."""
    real = Node._give_up_unserved

    def _give_up_unserved(node: Node, now_ms: int) -> None:
        for requested in node._requests:
            requested.is_tried = False
        real(node, now_ms)

    patch.setattr(Node, "_give_up_unserved", _give_up_unserved)


def forget_requests_with_the_leadership(patch: pytest.MonkeyPatch) -> None:
    """Answers: an operator waits for ever."""

    def take_requests(keeper: MembershipKeeper) -> list[Requested]:
        keeper._requests.clear()
        return []

    patch.setattr(MembershipKeeper, "take_requests", take_requests)


def have_another_leader_tell_of_the_removal(patch: pytest.MonkeyPatch) -> None:
    """Answers: who is removed hears of no other leader."""

    def take_requests(keeper: MembershipKeeper) -> list[Requested]:
        taken = list(keeper._requests)
        keeper._requests.clear()
        return taken

    patch.setattr(MembershipKeeper, "take_requests", take_requests)


def have_every_leader_hand_over(patch: pytest.MonkeyPatch) -> None:
    """Liveness: two that want the contrary move the leadership for ever."""
    real = Transfer.is_done

    def is_done(transfer: Transfer, leader_id: NodeId | None) -> bool:
        return transfer.id is None and real(transfer, leader_id)

    patch.setattr(Transfer, "is_done", is_done)


# --- the clock -----------------------------------------------------------------------------------


def propose_at_once(patch: pytest.MonkeyPatch) -> None:
    """Speed: many small entries."""
    patch.setattr(Node, "_lets_gather", False)


def never_find_it_enough(patch: pytest.MonkeyPatch) -> None:
    """Speed: with many clients, all of them are in one entry, and the leader waits beside it."""
    patch.setattr(limits, "GATHERED_ENOUGH", 1_000_000)


def forget_what_has_gathered(patch: pytest.MonkeyPatch) -> None:
    """Time: nobody has another turn, until something else comes."""
    patch.setattr(Node, "busy", False)


def go_on_with_the_own_clock(patch: pytest.MonkeyPatch) -> None:
    """Holds: a leader that comes back takes time without a leader from the holders."""
    real = ReplicatedClock.start

    def start(clock: ReplicatedClock, term: int, stamp_ms: int, now_ms: int) -> None:
        if clock._since_ms:
            clock.term = term
        else:
            real(clock, term, stamp_ms, now_ms)

    patch.setattr(ReplicatedClock, "start", start)


# --- catching them -------------------------------------------------------------------------------

BY_SCHEDULES: list[Plant] = [
    give_back_one_at_a_time,
    propose_again_behind_what_is_newer,
    propose_what_is_in_doubt_again,
    propose_past_an_earlier_view,
    redirect_at_once,
    say_that_nothing_was_done,
    believe_that_a_former_leader_is_busy,
    keep_what_a_follower_asked,
    take_any_answer_to_a_query,
    ask_nobody_again,
    have_every_leader_hand_over,
    forget_requests_with_the_leadership,
]


def on_trio(test: Callable[[Trio], None]) -> Callable[[], None]:
    def run() -> None:
        trio = Trio()
        trio.elect("n1")
        trio.pass_time(100)
        test(trio)

    return run


def on(make: Callable[[], Any], test: Callable[[Any], None]) -> Callable[[], None]:
    return lambda: test(make())


def remove_the_leader(trio: Trio) -> None:
    test_membership.test_a_leader_that_is_removed_says_so_and_another_goes_on(trio, "n1")


BY_TESTS: list[tuple[Plant, Callable[[], None]]] = [
    (
        refuse_at_once,
        on(test_pipeline.Fixture, test_pipeline.test_a_refusal_waits_for_what_came_before),
    ),
    (
        give_back_one_at_a_time,
        on_trio(test_forwarding.test_refusals_that_arrive_one_by_one_change_no_order),
    ),
    (
        give_back_one_at_a_time,
        on_trio(test_forwarding.test_what_was_overwritten_is_proposed_again_in_order),
    ),
    (
        know_an_entry_by_its_index,
        on(
            test_pipeline.Fixture,
            test_pipeline.test_a_run_whose_place_another_entry_has_taken_is_given_back,
        ),
    ),
    (
        take_what_a_snapshot_covers_for_overwritten,
        on(
            test_pipeline.Fixture,
            test_pipeline.test_what_a_snapshot_covers_is_in_doubt_and_the_rest_is_not,
        ),
    ),
    (
        refuse_at_once,
        on(test_pipeline.Fixture, test_pipeline.test_a_refusal_waits_for_what_came_before),
    ),
    (
        redirect_at_once,
        test_forwarding.test_nobody_is_redirected_before_the_earlier_commands_are_answered,
    ),
    (
        wait_for_ever_for_the_leader,
        on_trio(test_forwarding.test_a_lost_answer_is_not_waited_for_for_ever),
    ),
    (
        wait_for_ever_for_the_next_leader,
        on_trio(test_forwarding.test_a_silent_leader_leaves_commands_in_doubt_once_another_leads),
    ),
    (
        blame_the_leader_for_a_late_refusal,
        on_trio(test_forwarding.test_a_refusal_that_comes_too_late_concerns_nobody),
    ),
    (
        serve_whoever_asks,
        on_trio(test_forwarding.test_a_question_of_another_term_is_not_served),
    ),
    (
        answer_on_a_link_that_broke,
        on_trio(test_forwarding.test_answers_for_an_earlier_link_go_nowhere),
    ),
    (
        forward_a_turn_in_one_piece,
        on_trio(test_forwarding.test_a_forwarded_message_has_so_many_commands_and_bytes),
    ),
    (
        ask_lost_queries_last,
        on(
            test_reads.Fixture,
            test_reads.test_a_lost_round_is_asked_again_before_what_was_asked_since,
        ),
    ),
    (
        answer_what_is_not_overdue_at_once,
        on(test_reads.Fixture, test_reads.test_one_clients_queries_wait_for_those_before_them),
    ),
    (
        take_any_answer_to_a_query,
        on_trio(test_forwarding.test_a_lost_answer_to_a_query_changes_no_order),
    ),
    (
        answer_what_was_given_back,
        on(
            test_links.Fixture,
            test_links.test_late_answers_to_what_was_given_back_are_not_taken_for_later_ones,
        ),
    ),
    (
        count_what_a_stranger_acknowledges,
        on_trio(test_forwarding.test_nor_while_it_cannot_be_replaced_yet),
    ),
    (
        be_done_when_it_is_in_effect,
        on_trio(test_membership.test_removing_what_is_being_added_waits_for_that),
    ),
    (
        deny_what_was_begun,
        on_trio(test_membership.test_without_a_leader_a_request_that_was_begun_is_in_doubt),
    ),
    (have_another_leader_tell_of_the_removal, on_trio(remove_the_leader)),
    (
        have_every_leader_hand_over,
        on_trio(test_membership.test_transfers_that_want_the_contrary_come_to_an_end),
    ),
    (propose_at_once, on_trio(test_node.test_commands_gather_while_others_are_under_way)),
    (
        never_find_it_enough,
        on_trio(test_node.test_what_has_gathered_is_enough_however_much_is_under_way),
    ),
    (
        forget_what_has_gathered,
        on_trio(test_node.test_what_has_gathered_goes_once_nothing_is_under_way),
    ),
    (
        go_on_with_the_own_clock,
        on(Trio, test_node.test_time_without_a_leader_belongs_to_the_holders),
    ),
]


@pytest.mark.parametrize("plant", BY_SCHEDULES, ids=lambda plant: plant.__name__)
def test_random_schedules_catch_it(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few hundred seeds."""
    fails_within(SEEDS, plant, lambda seed: Schedule(seed).run(), monkeypatch)


@pytest.mark.parametrize(
    ("plant", "test"),
    BY_TESTS,
    ids=[f"{plant.__name__}-{at}" for at, (plant, _) in enumerate(BY_TESTS)],
)
def test_planted_bug_fails_its_test(
    plant: Plant, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which passes without it."""
    fails_its_test(plant, test, monkeypatch)
