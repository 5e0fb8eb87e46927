"""The tests of waiting are tested: each of these broken nodes is caught, as in `test_planted_bugs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from resplock.node import node as node_module
from resplock.node.departures import Absences, Departures
from resplock.node.node import Node
from resplock.node.pipeline import Pipeline
from resplock.node.runs import Client, Result, Run
from resplock.node.waits import Waits
from resplock.operations import ClientId, Done, Ended
from resplock.raft.core import RaftCore
from resplock.raft.entries import Entry
from resplock.state.table import LockTable
from resplock.types import NodeId
from tests.node import test_waiting, test_waits
from tests.node.schedule import Schedule
from tests.node.test_planted_bugs import SEEDS, on, on_trio
from tests.planted import Plant, fails_its_test, fails_within


def deliver_that_it_waits(patch: pytest.MonkeyPatch) -> None:
    """Answers: Blocked is none."""

    def answers(
        waits: Waits, run: Run, results: Sequence[Result], *, is_applied: bool
    ) -> Iterator[tuple[Client | None, Sequence[Result]]]:
        return run.answers(results)

    patch.setattr(Waits, "answers", answers)


def forget_who_may_wait(patch: pytest.MonkeyPatch) -> None:
    """Answers: what was given back may block as before."""
    real = node_module._own

    def own(runs: Sequence[Run]) -> Run:
        run = real(runs)
        run.may_block = False
        return run

    patch.setattr(node_module, "_own", own)


def tell_who_has_left(patch: pytest.MonkeyPatch) -> None:
    """Leaks: a grant goes to a connection that is closed."""
    patch.setattr(Waits, "left", lambda waits, id: None)


def keep_what_nobody_was_told_of(patch: pytest.MonkeyPatch) -> None:
    """Leaks: the same."""
    patch.setattr(Waits, "_give_back", lambda waits, ended: None)


def leave_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """Leaks: what is held ONCLOSE is held for ever."""

    def left(departures: Departures, id: ClientId) -> None:
        departures._gone[id] = None

    patch.setattr(Departures, "left", left)


def say_goodbye_once(patch: pytest.MonkeyPatch) -> None:
    """Leaks: the leader was lost with it."""

    def deliver(departures: Departures, results: Sequence[Result]) -> None:
        departures._under_way = []
        departures.is_due = bool(departures._to_tell or departures._undelivered)

    patch.setattr(Departures, "deliver", deliver)


def say_goodbye_in_doubt(patch: pytest.MonkeyPatch) -> None:
    """Leaks: whatever the result is, it is taken for done."""
    real = Departures.deliver

    def deliver(departures: Departures, results: Sequence[Result]) -> None:
        real(departures, [Done()] * len(results))

    patch.setattr(Departures, "deliver", deliver)


def miss_nobody(patch: pytest.MonkeyPatch) -> None:
    """Leaks: what was attached to a process stays when it is over."""
    patch.setattr(Absences, "look", lambda absences, attached, linked, now_ms: [])


def believe_every_link(patch: pytest.MonkeyPatch) -> None:
    """Holds: a link that is broken, and not known to be, speaks for a process that is over."""
    real = Absences.look

    def look(
        absences: Absences, attached: Any, linked: dict[NodeId, int], now_ms: int
    ) -> list[Any]:
        for node, incarnation in attached:
            absences._over[node] = incarnation
        return real(absences, attached, linked, now_ms)

    patch.setattr(Absences, "look", look)


def forget_ends_that_come_early(patch: pytest.MonkeyPatch) -> None:
    """Answers: in doubt, though it was seen how it ended."""
    real = Waits.ended

    def ended(waits: Waits, ends: Sequence[Ended], asked: int) -> bool:
        return real(waits, ends, 0)

    patch.setattr(Waits, "ended", ended)


def end_it_before_it_begins(patch: pytest.MonkeyPatch) -> None:
    """Answers: the release is in the same entry as the wait that it ends."""
    real = Node._apply_run

    def apply_run(node: Node, entry: Entry, run: Run | None) -> None:
        table, pipeline = node.table, node._pipeline
        taken: list[Ended] = []
        whole = table.take_ended

        def applied(pipeline: Pipeline, run: Run, results: Sequence[Result]) -> None:
            taken.extend(whole())
            node._waits.ended(taken, 0)
            real_applied(pipeline, run, results)

        real_applied = Pipeline.applied
        Pipeline.applied = applied  # type: ignore[method-assign]
        try:
            real(node, entry, run)
        finally:
            Pipeline.applied = real_applied  # type: ignore[method-assign]
        assert pipeline is node._pipeline

    patch.setattr(Node, "_apply_run", apply_run)


def see_nothing_of_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Answers: an end that came with it is waited for."""

    def installed(waits: Waits, table: LockTable) -> None:
        waits.table = table

    patch.setattr(Waits, "installed", installed)


def doubt_all_that_a_snapshot_brings(patch: pytest.MonkeyPatch) -> None:
    """Answers: in doubt, though the place is in it."""
    patch.setattr(LockTable, "is_waiting", lambda table, wanted, ticket: False)


def wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Answers: a node that is cut off hears of no end."""
    patch.setattr(Waits, "look", lambda waits, now_ms, oldest: None)


def send_the_commit_later(patch: pytest.MonkeyPatch) -> None:
    """Time: another node's client learns of its grant with the next heartbeat."""
    patch.setattr(RaftCore, "announce_commit", lambda core: None)


def send_the_commit_always(patch: pytest.MonkeyPatch) -> None:
    """Time: every end costs a message to every node."""
    real = Waits.ended

    def ended(waits: Waits, ends: Sequence[Ended], asked: int) -> bool:
        real(waits, ends, asked)
        return True

    patch.setattr(Waits, "ended", ended)


def send_the_departures_elsewhere(patch: pytest.MonkeyPatch) -> None:
    """Leaks: a node that redirects its clients redirects itself."""
    real = Node._redirect

    def redirect(node: Node, leader: Any) -> None:
        kept, node._departures = node._departures, Departures()
        try:
            real(node, leader)
        finally:
            node._departures = kept

    patch.setattr(Node, "_redirect", redirect)


BY_SCHEDULES: list[Plant] = [
    deliver_that_it_waits,
    forget_who_may_wait,
    tell_who_has_left,
    keep_what_nobody_was_told_of,
    leave_without_a_word,
    say_goodbye_once,
    say_goodbye_in_doubt,
    miss_nobody,
]

BY_TESTS: list[tuple[Plant, Callable[[], None]]] = [
    (tell_who_has_left, test_waiting.test_a_grant_that_races_with_the_leaving_is_given_back),
    (
        keep_what_nobody_was_told_of,
        test_waiting.test_a_grant_that_races_with_the_leaving_is_given_back,
    ),
    (
        believe_every_link,
        test_waits.test_a_link_alone_does_not_say_which_life_came_later,
    ),
    (
        forget_ends_that_come_early,
        on_trio(test_waiting.test_an_end_comes_before_the_leader_has_answered),
    ),
    (end_it_before_it_begins, test_waiting.test_a_wait_and_its_end_in_one_entry),
    (
        see_nothing_of_a_snapshot,
        on_trio(test_waiting.test_places_are_in_snapshots_and_an_end_that_is_not_seen_is_in_doubt),
    ),
    (
        doubt_all_that_a_snapshot_brings,
        on_trio(test_waiting.test_places_are_in_snapshots_and_an_end_that_is_not_seen_is_in_doubt),
    ),
    (
        wait_for_ever,
        on_trio(test_waiting.test_a_wait_without_an_end_is_in_doubt_after_its_time),
    ),
    (
        wait_for_ever,
        on(test_waits.Fixture, test_waits.test_an_end_is_kept_until_no_answer_can_name_it),
    ),
    (
        send_the_commit_later,
        on_trio(test_waiting.test_each_node_tells_its_own_clients_at_once),
    ),
    (
        send_the_commit_always,
        on_trio(test_waiting.test_the_commit_is_sent_on_only_for_others_clients),
    ),
    (
        send_the_departures_elsewhere,
        test_waiting.test_leaving_is_told_although_clients_are_sent_elsewhere,
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
