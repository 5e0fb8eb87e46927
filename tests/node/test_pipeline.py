"""The rules of a pipeline: order, one view, and what is given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from resplock.node.pipeline import Counts, Pipeline
from resplock.node.runs import Answers, Client, Result, Run
from resplock.node.waits import Waits
from resplock.operations import Bulk, Busy, Granted, InDoubt, NoLeader, Released
from resplock.raft.entries import Entry, EntryKind, noop
from resplock.types import Index, NodeId, StampMs, Term
from tests.node.servers import acquire

N1, N2 = NodeId("n1"), NodeId("n2")
BUSY = Busy("too much")
HELD = Bulk(None)


class Somebody:
    """A client that is only compared."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def deliver(self, results: Sequence[Result]) -> None:
        raise AssertionError("the pipeline calls nobody")

    def abort(self) -> None:
        raise AssertionError("the pipeline calls nobody")


ONE, TWO = Somebody("one"), Somebody("two")


def run_of(*clients: Client | None, commands: int = 1) -> Run:
    run = Run()
    for client in clients:
        run.add(client, [acquire("a")] * commands)
    return run


def entry_of(first: int, term: int = 5, commands: int = 1) -> Entry:
    return Entry(term, first, first + commands - 1, EntryKind.RUN, 70)


def granted(version: int) -> Granted:
    return Granted(version, 1_000)


class Fixture:
    """A pipeline and where its answers go."""

    def __init__(self) -> None:
        self.answers: Answers = []
        self.pipeline = Pipeline(self.answers, cast(Waits, None))  # none of these may block

    def propose(self, first: int, *clients: Client | None, term: int = 5, commands: int = 1) -> Run:
        run = run_of(*clients, commands=commands)
        entry = entry_of(first, term, commands * len(clients))
        self.pipeline.proposed(run, N1, entry)
        return run

    def forward(self, serial: int, *clients: Client | None, commands: int = 1) -> Run:
        run = run_of(*clients, commands=commands)
        self.pipeline.forwarded(run, N2, Term(5), serial)
        return run

    def read(self, context: int, *clients: Client | None, result: Result = HELD) -> Run:
        """All of it is refused, provided that a round proves it."""
        run = run_of(*clients)
        run.refused = dict.fromkeys(range(len(clients)), result)
        self.pipeline.unlogged(run, N1, Term(5), context)
        return run

    def refuse(self, *clients: Client | None, result: Result = BUSY) -> Run:
        run = run_of(*clients)
        self.pipeline.refused(run, result)
        return run

    def apply(self, entry: Entry, *results: Result) -> None:
        run = self.pipeline.take(entry)
        assert run is not None
        self.pipeline.applied(run, results)

    def take(self) -> list[tuple[Client | None, list[Result]]]:
        answers = [(client, list(results)) for client, results in self.answers]
        self.answers.clear()
        return answers


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


# --- what was proposed here ----------------------------------------------------------------------


def test_each_client_gets_its_share_once_the_entry_is_applied(fixture: Fixture) -> None:
    fixture.propose(10, ONE, TWO, None, commands=2)
    assert fixture.pipeline.commands == 6
    entry = entry_of(10, commands=6)
    fixture.apply(entry, *(granted(index) for index in range(10, 16)))
    assert fixture.take() == [
        (ONE, [granted(10), granted(11)]),
        (TWO, [granted(12), granted(13)]),
        (None, [granted(14), granted(15)]),
    ]
    assert not fixture.pipeline
    assert fixture.pipeline.commands == 0


def test_entries_of_others_before_it_concern_it_not(fixture: Fixture) -> None:
    run = fixture.propose(10, ONE)
    assert fixture.pipeline.take(entry_of(8, term=4, commands=2)) is None
    assert fixture.pipeline.take(entry_of(10)) is run
    assert fixture.take() == []


def test_a_run_whose_place_another_entry_has_taken_is_given_back(fixture: Fixture) -> None:
    run = fixture.propose(10, ONE)
    assert fixture.pipeline.take(noop(Term(6), Index(10), StampMs(70))) is None
    assert fixture.pipeline.given_back == [run]
    assert fixture.take() == []
    assert not fixture.pipeline


def test_an_entry_that_covers_its_place_has_taken_it(fixture: Fixture) -> None:
    run = fixture.propose(12, ONE)
    assert fixture.pipeline.take(entry_of(10, term=6, commands=3)) is None
    assert fixture.pipeline.given_back == [run]


def test_nothing_behind_it_can_be_in_the_log_either(fixture: Fixture) -> None:
    """It would have to follow it there. What was refused behind it goes back too, in order."""
    runs = [
        fixture.propose(10, ONE),
        fixture.propose(11, TWO, ONE),
        fixture.refuse(ONE),
        fixture.propose(13, ONE),
    ]
    fixture.pipeline.take(noop(Term(6), Index(10), StampMs(70)))
    assert fixture.pipeline.given_back == runs
    assert fixture.take() == [], "one client's answers would come before earlier ones"
    assert not fixture.pipeline


def test_what_a_snapshot_covers_is_in_doubt_and_the_rest_is_not(fixture: Fixture) -> None:
    fixture.propose(10, ONE)
    fixture.propose(11, TWO)
    kept = fixture.propose(12, ONE)
    fixture.pipeline.doubt_through(Index(11))
    assert fixture.take() == [(ONE, [InDoubt()]), (TWO, [InDoubt()])]
    assert fixture.pipeline.take(entry_of(12)) is kept


# --- what was forwarded --------------------------------------------------------------------------


def test_answers_come_in_order(fixture: Fixture) -> None:
    for serial in (1, 2, 3):
        fixture.forward(serial, ONE)
        fixture.pipeline.answered(serial, [granted(serial)])
        assert fixture.take() == [(ONE, [granted(serial)])]


def test_an_answer_without_the_earlier_ones_shows_that_they_were_lost(fixture: Fixture) -> None:
    for serial in (1, 2, 3):
        fixture.forward(serial, ONE)
    fixture.pipeline.answered(2, [granted(11)])
    assert fixture.take() == [(ONE, [InDoubt()]), (ONE, [granted(11)])]
    fixture.pipeline.answered(1, [granted(10)])
    fixture.pipeline.answered(3, [granted(12)])
    assert fixture.take() == [(ONE, [granted(12)])]


def test_only_the_first_answer_counts(fixture: Fixture) -> None:
    fixture.forward(1, ONE)
    fixture.forward(2, ONE)
    fixture.pipeline.answered(1, [granted(10)])
    fixture.pipeline.answered(1, [Released()])
    assert fixture.pipeline.not_proposed(1) is None
    fixture.pipeline.answered(2, [granted(11)])
    assert fixture.take() == [(ONE, [granted(10)]), (ONE, [granted(11)])]


def test_an_answer_to_nothing_is_nothing(fixture: Fixture) -> None:
    fixture.propose(10, ONE)
    for serial in (0, 7):
        fixture.pipeline.answered(serial, [granted(11)])
        assert fixture.pipeline.not_proposed(serial) is None
    assert fixture.take() == []
    assert fixture.pipeline.commands == 1


def test_an_answer_of_another_length_says_nothing(fixture: Fixture) -> None:
    fixture.forward(1, ONE, TWO)
    fixture.pipeline.answered(1, [granted(10)])
    assert fixture.take() == [(ONE, [InDoubt()]), (TWO, [InDoubt()])]


def test_what_the_leader_did_not_propose_is_given_back_with_all_behind_it(fixture: Fixture) -> None:
    """Its refusals may be on their way one by one: each given back when it arrives, what came
    first would be proposed last."""
    first, second, third = (fixture.forward(serial, ONE) for serial in (1, 2, 3))
    assert fixture.pipeline.not_proposed(1) is first
    assert fixture.pipeline.given_back == [first, second, third]
    assert fixture.pipeline.not_proposed(2) is None
    assert fixture.pipeline.given_back == [first, second, third]


def test_it_waits_for_those_before_it(fixture: Fixture) -> None:
    fixture.forward(1, ONE)
    second, third = fixture.forward(2, ONE), fixture.forward(3, ONE)
    fixture.pipeline.not_proposed(2)
    assert fixture.pipeline.given_back == []
    fixture.pipeline.answered(1, [granted(10)])
    assert fixture.pipeline.given_back == [second, third]
    assert fixture.take() == [(ONE, [granted(10)])]


def test_what_is_not_proposed_is_not_in_doubt(fixture: Fixture) -> None:
    fixture.forward(1, ONE)
    second, third = fixture.forward(2, ONE), fixture.forward(3, ONE)
    fixture.pipeline.not_proposed(2)
    fixture.pipeline.doubt()
    assert fixture.take() == [(ONE, [InDoubt()])]
    assert fixture.pipeline.given_back == [second, third]


def test_a_broken_link_leaves_what_is_unanswered_in_doubt(fixture: Fixture) -> None:
    fixture.forward(1, ONE)
    fixture.forward(2, TWO)
    fixture.refuse(ONE)
    fixture.pipeline.answered(1, [granted(11)])
    fixture.pipeline.doubt()
    assert fixture.take() == [(ONE, [granted(11)]), (TWO, [InDoubt()]), (ONE, [BUSY])]


# --- what is refused -----------------------------------------------------------------------------


def test_a_refusal_alone_is_answered_at_once(fixture: Fixture) -> None:
    fixture.refuse(ONE, TWO)
    assert fixture.take() == [(ONE, [BUSY]), (TWO, [BUSY])]
    assert not fixture.pipeline


def test_a_refusal_waits_for_what_came_before(fixture: Fixture) -> None:
    fixture.propose(10, ONE)
    fixture.refuse(ONE)
    assert fixture.take() == []
    fixture.apply(entry_of(10), granted(10))
    assert fixture.take() == [(ONE, [granted(10)]), (ONE, [BUSY])]


def test_what_waits_to_be_given_back_is_refused_with_what_comes_after_it(fixture: Fixture) -> None:
    fixture.forward(1, ONE)
    fixture.forward(2, ONE)
    fixture.pipeline.not_proposed(2)
    fixture.refuse(ONE, result=NoLeader())
    assert fixture.take() == []
    fixture.pipeline.answered(1, [granted(10)])
    assert fixture.take() == [(ONE, [granted(10)]), (ONE, [NoLeader()]), (ONE, [NoLeader()])]
    assert fixture.pipeline.given_back == []


def test_a_refusal_belongs_to_the_view_of_what_it_waits_for(fixture: Fixture) -> None:
    fixture.propose(10, ONE)
    fixture.refuse(ONE)
    view = fixture.pipeline.view
    assert view == (N1, 5)
    fixture.apply(entry_of(10), granted(10))
    assert not fixture.pipeline, "so it never decides the view"


# --- what is refused without an entry ------------------------------------------------------------


def test_it_is_answered_once_its_round_has_proved_it(fixture: Fixture) -> None:
    fixture.read(1, ONE, TWO)
    fixture.read(2, ONE)
    fixture.pipeline.proved(0)
    assert fixture.take() == []
    fixture.pipeline.proved(1)
    assert fixture.take() == [(ONE, [HELD]), (TWO, [HELD])]
    fixture.pipeline.proved(2)
    assert fixture.take() == [(ONE, [HELD])]
    assert not fixture.pipeline


def test_it_waits_for_what_was_proposed_before_it(fixture: Fixture) -> None:
    fixture.propose(10, ONE)
    fixture.read(1, TWO)
    fixture.pipeline.proved(1)
    assert fixture.take() == []
    fixture.apply(entry_of(10), granted(10))
    assert fixture.take() == [(ONE, [granted(10)]), (TWO, [HELD])]


def test_an_entry_that_was_proposed_behind_it_proves_it(fixture: Fixture) -> None:
    fixture.read(1, ONE)
    fixture.refuse(TWO)
    fixture.propose(10, ONE)
    late = fixture.read(2, TWO)
    assert fixture.pipeline.take(entry_of(8, commands=2)) is None
    assert fixture.take() == []
    fixture.apply(entry_of(10), granted(10))
    assert fixture.take() == [(ONE, [HELD]), (TWO, [BUSY]), (ONE, [granted(10)])]
    fixture.pipeline.unproved()
    assert fixture.pipeline.given_back == [late]


def test_with_an_entry_that_was_overwritten_it_is_given_back(fixture: Fixture) -> None:
    runs = [fixture.read(1, ONE), fixture.propose(10, ONE), fixture.read(2, TWO)]
    assert fixture.pipeline.take(noop(Term(6), Index(10), StampMs(70))) is None
    assert fixture.pipeline.given_back == runs
    assert fixture.take() == []


def test_a_lost_round_gives_back_what_has_nothing_proposed_behind_it(fixture: Fixture) -> None:
    fixture.read(1, ONE)
    fixture.propose(10, ONE)
    lost = [fixture.read(2, TWO), fixture.refuse(TWO)]
    fixture.pipeline.unproved()
    assert fixture.pipeline.given_back == []
    fixture.pipeline.proved(2)
    fixture.apply(entry_of(10), granted(10))
    assert fixture.pipeline.given_back == lost
    assert fixture.take() == [(ONE, [HELD]), (ONE, [granted(10)])]


def test_a_lost_round_gives_back_nothing_that_was_forwarded(fixture: Fixture) -> None:
    """In an earlier view: the leader of that time may have proposed it."""
    fixture.forward(1, ONE)
    fixture.pipeline.unproved()
    fixture.pipeline.answered(1, [granted(10)])
    assert fixture.take() == [(ONE, [granted(10)])]
    assert fixture.pipeline.given_back == []


def test_who_has_only_been_refused_changes_nothing(fixture: Fixture) -> None:
    fixture.read(1, ONE)
    assert fixture.pipeline.changing == set()
    fixture.propose(10, TWO)
    fixture.forward(1, None)
    assert fixture.pipeline.changing == {TWO, None}


def test_in_doubt_are_refusals_that_are_not_proved(fixture: Fixture) -> None:
    fixture.read(1, ONE)
    fixture.propose(10, TWO)
    fixture.pipeline.doubt()
    assert fixture.take() == [(ONE, [InDoubt()]), (TWO, [InDoubt()])]


# --- counts --------------------------------------------------------------------------------------


def test_every_command_is_counted_once_by_what_came_of_it(fixture: Fixture) -> None:
    pipeline = fixture.pipeline
    fixture.propose(10, ONE, commands=2)
    fixture.refuse(ONE)
    fixture.apply(entry_of(10, commands=2), granted(10), granted(11))
    fixture.refuse(ONE, TWO, result=NoLeader())
    fixture.propose(12, ONE)
    fixture.pipeline.take(noop(Term(6), Index(12), StampMs(70)))
    fixture.forward(1, ONE, TWO)
    pipeline.doubt()
    assert pipeline.counts == Counts(
        added=8, successful=2, in_doubt=2, refused=1, unserved=2, given_back=1
    )
