"""Peers as clients: what they asked is answered once, in order, to the link that asked."""

from __future__ import annotations

import pytest

from resplock import limits
from resplock.node.links import Awaited, Link, RemoteReads, RemoteRun
from resplock.node.messages import NodeMessage, NotProposed, Results
from resplock.operations import Done, Granted
from resplock.types import NodeId

N2 = NodeId("n2")


class Fixture:
    def __init__(self) -> None:
        self.outbox: list[tuple[NodeId, NodeMessage]] = []
        self.link = Link(N2, 7, self.outbox)

    def take(self) -> list[NodeMessage]:
        assert all(peer == N2 for peer, _ in self.outbox)
        sent = [message for _, message in self.outbox]
        self.outbox.clear()
        return sent


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_a_run_is_answered_in_one_piece(fixture: Fixture) -> None:
    run = RemoteRun(fixture.link, 9)
    run.deliver([Granted(1, 5), Done()])
    assert fixture.take() == [Results(9, [Granted(1, 5), Done()])]


def test_a_run_of_which_nothing_comes_is_given_back(fixture: Fixture) -> None:
    RemoteRun(fixture.link, 9).give_back()
    assert fixture.take() == [NotProposed(9)]


def test_what_is_sent_to_a_broken_link_goes_nowhere(fixture: Fixture) -> None:
    run, reads = RemoteRun(fixture.link, 9), fixture.link.reads
    reads.expect(10, 1)
    fixture.link.is_up = False
    run.deliver([Done()])
    run.give_back()
    reads.deliver([1])
    fixture.link.give_back_reads()
    assert fixture.take() == []


def test_nothing_is_kept_for_a_peer_that_cannot_be_answered(fixture: Fixture) -> None:
    RemoteRun(fixture.link, 9).abort()
    fixture.link.reads.abort()
    assert fixture.take() == []


# --- queries -------------------------------------------------------------------------------------


def test_the_answers_to_one_message_leave_together(fixture: Fixture) -> None:
    reads = fixture.link.reads
    reads.expect(9, 3)
    reads.deliver([1])
    reads.deliver([None])
    assert fixture.take() == []
    reads.deliver([2])
    assert fixture.take() == [Results(9, [1, None, 2])]


def test_each_message_gets_its_own_answers(fixture: Fixture) -> None:
    reads = fixture.link.reads
    for serial, count in ((9, 2), (10, 1), (11, 2)):
        reads.expect(serial, count)
    reads.deliver([1, 2, 3, 4])
    assert fixture.take() == [Results(9, [1, 2]), Results(10, [3])]
    reads.deliver([5])
    assert fixture.take() == [Results(11, [4, 5])]


def test_unanswered_queries_are_given_back_once(fixture: Fixture) -> None:
    reads = fixture.link.reads
    reads.expect(9, 1)
    reads.expect(10, 2)
    reads.deliver([1, 2])
    fixture.link.give_back_reads()
    fixture.link.give_back_reads()
    assert fixture.take() == [Results(9, [1]), NotProposed(10)]


def test_late_answers_to_what_was_given_back_are_not_taken_for_later_ones(
    fixture: Fixture,
) -> None:
    before = fixture.link.reads
    before.expect(9, 1)
    fixture.link.give_back_reads()
    after: RemoteReads = fixture.link.reads
    after.expect(10, 1)
    before.deliver(["late"])
    after.deliver([1])
    assert fixture.take() == [NotProposed(9), Results(10, [1])]


# --- patience ------------------------------------------------------------------------------------


def test_a_question_is_overdue_when_it_was_the_oldest_for_too_long() -> None:
    awaited, patience_ms = Awaited(), limits.ANSWER_MS_MAX
    assert not awaited.is_overdue(1, 5_000)
    assert not awaited.is_overdue(1, 5_000 + patience_ms - 1)
    assert awaited.is_overdue(1, 5_000 + patience_ms)


def test_any_answer_begins_the_time_anew() -> None:
    awaited, patience_ms = Awaited(), limits.ANSWER_MS_MAX
    assert not awaited.is_overdue(1, 5_000)
    assert not awaited.is_overdue(2, 5_000 + patience_ms)
    assert not awaited.is_overdue(0, 5_000 + 2 * patience_ms)
    assert not awaited.is_overdue(0, 5_000 + 9 * patience_ms)
    assert not awaited.is_overdue(3, 5_000 + 9 * patience_ms)
