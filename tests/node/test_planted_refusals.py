"""The tests of refusals are tested: each of these broken nodes is caught.

Beside each bug is what it breaks. The simulator has some of them too: see `tests.sim.mutants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from resplock.node import node as node_module
from resplock.node import refusals
from resplock.node.pipeline import Pipeline
from resplock.node.runs import Heads, Run
from resplock.operations import Outcome
from resplock.raft.core import RaftCore
from resplock.state.trying import Trial
from resplock.types import StampMs
from tests.node import test_pipeline, test_refusals
from tests.node.servers import Trio
from tests.planted import Plant, fails_its_test


def refuse_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A leader that was replaced refuses by what it remembers."""
    real = Pipeline.unlogged

    def unlogged(pipeline: Pipeline, run: Run, *arguments: Any) -> None:
        real(pipeline, run, *arguments)
        pipeline.proved(run.context)

    patch.setattr(Pipeline, "unlogged", unlogged)


def refuse_past_what_is_under_way(patch: pytest.MonkeyPatch) -> None:
    """Order: what the client asked before may free the lock."""
    patch.setattr(Pipeline, "changing", frozenset())


def take_every_share_for_the_first(patch: pytest.MonkeyPatch) -> None:
    """Order: what came first of a client in the same turn is overlooked."""

    def _first(run: Run, pipeline: Pipeline, looked: Sequence[tuple[int, int, int]]) -> Heads:
        return tuple((begin, count) for _, begin, count in looked)

    patch.setattr(refusals, "_first", _first)


def refuse_behind_what_succeeds(patch: pytest.MonkeyPatch) -> None:
    """Order: within a pipeline, what is proposed may change what comes of the rest."""

    def refused(run: Run, heads: Heads, trial: Trial, stamp_ms: StampMs) -> Mapping[int, Outcome]:
        trial.begin(stamp_ms)
        answers = {
            at: trial.answer(run.operations[at])
            for begin, count in heads
            for at in range(begin, begin + count)
        }
        return {at: outcome for at, outcome in answers.items() if outcome is not None}

    patch.setattr(node_module, "refused", refused)


def refuse_while_behind(patch: pytest.MonkeyPatch) -> None:
    """What is committed and not applied here may have been told to somebody."""
    patch.setattr(
        RaftCore,
        "has_applied_all",
        property(lambda core: core.term_start <= core.commit_index),
    )


def refuse_before_the_term_has_begun(patch: pytest.MonkeyPatch) -> None:
    """A new leader does not know what the last one has committed."""
    patch.setattr(
        RaftCore, "has_applied_all", property(lambda core: core.commit_index == core.applied_index)
    )


def refuse_by_what_is_overdue(patch: pytest.MonkeyPatch) -> None:
    """A hold ends when its time is over, though no entry has said so yet."""
    real = refusals.refused

    def refused(run: Run, heads: Heads, trial: Trial, stamp_ms: StampMs) -> Mapping[int, Outcome]:
        return real(run, heads, trial, trial._table.clock_ms)

    patch.setattr(node_module, "refused", refused)


def keep_what_is_not_proved(patch: pytest.MonkeyPatch) -> None:
    """It is nobody's fate that is unknown: it can be asked again."""
    patch.setattr(Pipeline, "unproved", lambda pipeline: None)


def give_back_what_was_forwarded(patch: pytest.MonkeyPatch) -> None:
    """Once: its leader may have proposed it."""
    patch.setattr(Pipeline, "unproved", lambda pipeline: pipeline._return_from(0))


def on_trio(test: Callable[[Trio], None]) -> Callable[[], None]:
    def run() -> None:
        trio = Trio()
        trio.elect("n1")
        trio.pass_time(100)
        test(trio)

    return run


def on_pipeline(test: Callable[[test_pipeline.Fixture], None]) -> Callable[[], None]:
    return lambda: test(test_pipeline.Fixture())


def through_a_follower(turns: int) -> Callable[[], None]:
    return on_trio(lambda trio: test_refusals.test_nor_through_a_follower(trio, turns))


BY_TESTS: list[tuple[Plant, Callable[[], None]]] = [
    (
        refuse_without_a_round,
        on_trio(test_refusals.test_it_is_answered_once_a_quorum_has_confirmed_the_leader),
    ),
    (
        refuse_without_a_round,
        on_trio(test_refusals.test_a_leader_that_was_replaced_refuses_nobody),
    ),
    (
        refuse_past_what_is_under_way,
        on_trio(test_refusals.test_a_client_is_not_refused_for_what_it_has_given_back),
    ),
    (refuse_past_what_is_under_way, through_a_follower(1)),
    (take_every_share_for_the_first, through_a_follower(0)),
    (
        refuse_behind_what_succeeds,
        test_refusals.test_what_is_refused_of_a_run_is_not_in_its_entry,
    ),
    (
        refuse_while_behind,
        on_trio(test_refusals.test_a_leader_that_has_not_applied_all_refuses_nobody),
    ),
    (
        refuse_before_the_term_has_begun,
        on_trio(test_refusals.test_a_leader_that_has_committed_nothing_in_its_term_refuses_nobody),
    ),
    (refuse_by_what_is_overdue, test_refusals.test_a_hold_that_is_overdue_refuses_nobody),
    (
        keep_what_is_not_proved,
        on_trio(test_refusals.test_without_a_leader_it_is_refused_as_not_proposed),
    ),
    (
        give_back_what_was_forwarded,
        on_pipeline(test_pipeline.test_a_lost_round_gives_back_nothing_that_was_forwarded),
    ),
]


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
