"""The rules of waiting: each wait that this node is told of is answered once, by its ticket."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resplock import limits
from resplock.node.departures import Absences, Departures
from resplock.node.links import Link, RemoteRun
from resplock.node.runs import Answers, Client, Run
from resplock.node.waits import Waits
from resplock.operations import (
    Acquire,
    AcquireAll,
    Blocked,
    Busy,
    ClientId,
    Disconnect,
    Done,
    Ended,
    Granted,
    InDoubt,
    Moved,
    NodeGone,
    NoLeader,
    Options,
    Outcome,
    Unblocked,
    Undelivered,
)
from resplock.types import LockName, NodeId
from tests.node.servers import name

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
LIFE = 11
GRANTED = Granted(70, 1_000)
PATIENCE_MS = 1_000
NOW_MS = 50_000


class Somebody:
    """A client that is only compared."""

    def __init__(self, serial: int) -> None:
        self.id = ClientId(N1, LIFE, serial)

    def deliver(self, results: Any) -> None:
        raise AssertionError("it is not called here")

    abort = deliver


ONE, TWO = Somebody(1), Somebody(2)


def wait_of(somebody: Somebody, wait_ms: int = 5_000, request: bytes = b"") -> Acquire:
    options = Options(wait_ms=wait_ms, client=somebody.id)
    return Acquire(name("a"), b"me", request=request, options=options)


def end_of(
    ticket: int, somebody: Somebody | None, outcome: Outcome = GRANTED, request: bytes = b""
) -> Ended:
    return Ended(ticket, somebody.id if somebody else None, outcome, (name("a"),), b"me", request)


def given_back(request: bytes = b"") -> Undelivered:
    return Undelivered((name("a"),), b"me", GRANTED.version, request)


class Fixture:
    """Waits whose table is a set of tickets."""

    def __init__(self) -> None:
        self.answers: Answers = []
        self.core: Any = SimpleNamespace(id=N1, applied_index=10)
        self.departures = Departures()
        self.waits = Waits(
            self.core, LIFE, self.table(), PATIENCE_MS, self.departures, self.answers
        )
        self.waits.now_ms = NOW_MS

    @staticmethod
    def table(*tickets: int) -> Any:
        return SimpleNamespace(is_waiting=lambda _, ticket: ticket in tickets, locks={})

    def blocks(self, somebody: Somebody, ticket: int, *, is_applied: bool = True) -> None:
        """A client's operation has this ticket."""
        run = Run()
        run.add(somebody, [wait_of(somebody)])
        self.answers += self.waits.answers(run, [Blocked(ticket)], is_applied=is_applied)

    def take(self) -> Answers:
        answers = self.answers[:]
        self.answers.clear()
        return answers

    def leave(self, somebody: Somebody) -> None:
        self.departures.left(somebody.id)
        self.waits.left(somebody.id)

    def told(self) -> list[Any]:
        """What the log is to be told."""
        return list(self.departures.take()) if self.departures.is_due else []


@pytest.fixture
def node() -> Fixture:
    return Fixture()


# --- ends ----------------------------------------------------------------------------------------


def test_a_wait_is_answered_by_the_end_of_its_ticket(node: Fixture) -> None:
    node.blocks(ONE, 11)
    node.blocks(TWO, 12)
    assert node.take() == []
    assert len(node.waits) == 2
    assert not node.waits.ended([end_of(12, TWO, Unblocked())], asked=0)
    assert node.take() == [(TWO, [Unblocked()])]
    node.waits.ended([end_of(12, TWO), end_of(11, ONE)], asked=0)
    assert node.take() == [(ONE, [GRANTED])], "once"


def test_results_that_are_no_waits_pass_through_in_order(node: Fixture) -> None:
    run = Run()
    run.add(TWO, [Acquire(name("a"), b"you")] * 2)
    run.add(ONE, [wait_of(ONE)])
    run.add(TWO, [wait_of(TWO)])
    results = [Granted(1, 5), Granted(2, 5), Blocked(13), GRANTED]
    assert list(node.waits.answers(run, results, is_applied=True)) == [
        (TWO, results[:2]),
        (TWO, [GRANTED]),
    ]


def test_a_follower_is_told_that_its_client_waits(node: Fixture) -> None:
    """The end comes from its own apply."""
    outbox: list[Any] = []
    remote: Client = RemoteRun(Link(N2, 1, outbox), 5)
    run = Run()
    run.add(remote, [wait_of(ONE)])
    run.add(ONE, [wait_of(ONE)])
    [(client, results)] = node.waits.answers(run, [Blocked(13), Blocked(14)], is_applied=True)
    assert (client, results) == (remote, [Blocked(13)])
    assert len(node.waits) == 1


def test_ends_of_other_nodes_clients_are_for_them(node: Fixture) -> None:
    elsewhere = Ended(11, ClientId(N2, 5, 1), GRANTED, (name("a"),), b"me", b"")
    former = Ended(12, ClientId(N1, LIFE - 1, 1), GRANTED, (name("a"),), b"me", b"")
    nobody = end_of(13, None)
    assert node.waits.ended([elsewhere], asked=9)
    assert not node.waits.ended([former, nobody], asked=9)
    node.blocks(ONE, 12, is_applied=False)
    assert node.take() == [], "the end of a former life's wait is none of this one's"


def test_an_end_is_applied_before_the_leader_has_answered(node: Fixture) -> None:
    node.waits.ended([end_of(9, ONE)], asked=4)
    assert node.take() == []
    node.blocks(ONE, 9, is_applied=False)
    assert node.take() == [(ONE, [GRANTED])]
    assert len(node.waits) == 0


def test_an_end_is_kept_until_no_answer_can_name_it(node: Fixture) -> None:
    node.waits.ended([end_of(9, ONE)], asked=4)
    node.waits.look(NOW_MS, oldest=4)
    node.waits.look(NOW_MS + 1_000, oldest=5)  # what was asked up to 4 has its answers
    node.blocks(ONE, 9, is_applied=False)
    assert node.take() == [(ONE, [InDoubt()])]
    node.waits.ended([end_of(10, ONE)], asked=0)  # and nothing is asked here
    node.blocks(ONE, 10, is_applied=False)
    assert node.take() == [(ONE, [InDoubt()])]


def test_the_leaders_answer_is_ahead_of_what_is_applied_here(node: Fixture) -> None:
    node.blocks(ONE, 11, is_applied=False)
    assert node.take() == []
    node.waits.ended([end_of(11, ONE)], asked=1)
    assert node.take() == [(ONE, [GRANTED])]


def test_an_end_that_came_in_a_snapshot_is_in_doubt(node: Fixture) -> None:
    node.blocks(ONE, 8)
    node.blocks(TWO, 9)
    node.waits.installed(node.table(9))
    assert node.take() == [(ONE, [InDoubt()])]
    node.blocks(ONE, 7, is_applied=False)
    assert node.take() == [(ONE, [InDoubt()])], "the answer comes after the snapshot"
    node.waits.ended([end_of(9, TWO)], asked=0)
    assert node.take() == [(TWO, [GRANTED])]


def test_a_wait_without_an_end_is_in_doubt_at_last(node: Fixture) -> None:
    node.blocks(ONE, 11)
    node.waits.look(NOW_MS + 5_000 + PATIENCE_MS - 1, oldest=0)
    assert node.take() == []
    node.waits.look(NOW_MS + 5_000 + PATIENCE_MS + 1_000, oldest=0)
    assert node.take() == [(ONE, [InDoubt()])]
    node.waits.ended([end_of(11, ONE)], asked=0)
    assert node.take() == []


# --- clients that leave --------------------------------------------------------------------------


def test_who_has_left_is_told_nothing_and_gives_the_grant_back(node: Fixture) -> None:
    node.blocks(ONE, 11)
    node.leave(ONE)
    assert node.told() == [Disconnect((ONE.id,))]
    node.waits.ended([end_of(11, ONE, request=b"r")], asked=0)
    assert node.take() == []
    node.departures.deliver([Done()])
    node.departures.look(NOW_MS)
    assert node.told() == [given_back(b"r")]


def test_who_has_left_has_nothing_to_give_back(node: Fixture) -> None:
    node.blocks(ONE, 11)
    node.leave(ONE)
    node.waits.ended([end_of(11, ONE, Unblocked("disconnected"))], asked=0)
    assert node.take() == []
    assert node.told() == [Disconnect((ONE.id,))]


def test_who_leaves_before_the_wait_is_known_gives_the_grant_back(node: Fixture) -> None:
    """In each order of: it leaves, its wait ends, the leader's answer comes."""
    node.leave(ONE)
    node.blocks(ONE, 11, is_applied=False)
    node.waits.ended([end_of(11, ONE)], asked=1)
    assert node.told() == [Disconnect((ONE.id,)), given_back()]
    early = Fixture()
    early.waits.ended([end_of(9, ONE)], asked=1)
    early.leave(ONE)
    early.blocks(ONE, 9, is_applied=False)
    assert early.told() == [Disconnect((ONE.id,)), given_back()]
    late = Fixture()
    late.leave(ONE)
    late.waits.ended([end_of(9, ONE)], asked=1)
    late.blocks(ONE, 9, is_applied=False)
    assert late.told() == [Disconnect((ONE.id,)), given_back()]
    assert node.take() == early.take() == late.take() == []


def test_a_follower_that_is_behind_still_knows_who_has_left(node: Fixture) -> None:
    """The leader's answer may come long before the follower applies what it is about."""
    node.departures.look(NOW_MS)
    node.leave(ONE)
    node.told()
    node.departures.deliver([Done()])
    node.departures.look(NOW_MS)
    node.waits.ended([end_of(11, ONE)], asked=0)
    assert node.told() == [given_back()]
    node.departures.look(NOW_MS + 2 * limits.ANSWER_MS_MAX)
    assert ONE.id not in node.departures


# --- telling the log -----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [InDoubt(), NoLeader(), Busy("full"), Moved(0, "n2:1")])
def test_it_is_told_again_until_it_is_known_to_be_applied(node: Fixture, failure: Any) -> None:
    node.leave(ONE)
    node.departures.undelivered(given_back())
    told = node.told()
    assert told == [Disconnect((ONE.id,)), given_back()]
    node.leave(TWO)
    assert not node.departures.is_due, "one after the other"
    assert len(node.departures) == 2
    node.departures.deliver([failure] * 2)
    assert not node.departures.is_due, "a little later, or it would be in vain"
    node.departures.look(NOW_MS)
    assert node.told() == [Disconnect((ONE.id, TWO.id)), given_back()]
    node.departures.deliver([Done()] * 2)
    node.departures.look(NOW_MS + 10)
    assert not node.departures.is_due
    assert len(node.departures) == 0


def test_so_many_are_told_at_once(node: Fixture) -> None:
    somebodies = [Somebody(serial) for serial in range(limits.DISCONNECTS_PER_COMMAND + 1)]
    for somebody in somebodies:
        node.leave(somebody)
    for _ in range(limits.UNDELIVERED_AT_ONCE):
        node.departures.undelivered(given_back())
    first, *rest = node.told()
    assert len(first.clients) == limits.DISCONNECTS_PER_COMMAND
    assert len(rest) == limits.UNDELIVERED_AT_ONCE - 1
    assert len(node.departures) == len(somebodies)
    node.departures.deliver([Done()] * limits.UNDELIVERED_AT_ONCE)
    node.departures.look(NOW_MS)
    assert node.told() == [Disconnect((somebodies[-1].id,)), given_back()]


def test_a_grant_of_several_locks_is_given_back_as_one() -> None:
    names: tuple[LockName, ...] = (name("a"), name("b"))
    operation = AcquireAll(names, b"me", options=Options(wait_ms=5, client=ONE.id))
    node = Fixture()
    run = Run()
    run.add(ONE, [operation])
    assert list(node.waits.answers(run, [Blocked(11)], is_applied=True)) == []
    node.leave(ONE)
    node.waits.ended([Ended(11, ONE.id, GRANTED, names, b"me", b"")], asked=0)
    assert node.told()[1:] == [Undelivered(names, b"me", GRANTED.version)]


# --- nodes that are gone -------------------------------------------------------------------------


def gone(absences: Absences, now_ms: int, *attached: tuple[str, int], **linked: int) -> list[Any]:
    lives = [(NodeId(node), life) for node, life in attached]
    return absences.look(lives, {NodeId(node): life for node, life in linked.items()}, now_ms)


def test_a_node_without_a_link_is_gone_after_a_while() -> None:
    absences = Absences(N1, LIFE)
    assert gone(absences, 0, ("n1", LIFE), ("n2", 5), ("n3", 6), n3=6) == []
    assert gone(absences, limits.NODE_GONE_MS - 1, ("n2", 5), ("n3", 6), n3=6) == []
    assert gone(absences, limits.NODE_GONE_MS, ("n2", 5), ("n3", 6), n3=6) == [NodeGone(N2, 0)]
    assert gone(absences, limits.NODE_GONE_MS + 10, ("n2", 5)) == [], "it was just proposed"
    again = 2 * limits.NODE_GONE_MS
    assert gone(absences, again, ("n2", 5)) == [NodeGone(N2, 0)], "that was lost"


def test_a_link_that_comes_back_in_time_ends_nothing() -> None:
    absences = Absences(N1, LIFE)
    assert gone(absences, 0, ("n2", 5)) == []
    assert gone(absences, 2_000, ("n2", 5), n2=5) == []
    assert gone(absences, 2_010, ("n2", 5)) == []
    assert gone(absences, limits.NODE_GONE_MS + 500, ("n2", 5)) == []


def test_another_life_is_known_to_have_followed() -> None:
    absences = Absences(N1, LIFE)
    assert gone(absences, 0, ("n2", 5)) == []
    absences.followed(N2, 5)
    assert gone(absences, 10, ("n2", 5), ("n2", 6), n2=6) == [NodeGone(N2, 6)]


def test_a_link_alone_does_not_say_which_life_came_later() -> None:
    """It may be the old one, broken, while another leader had the new one's clients attached."""
    absences = Absences(N1, LIFE)
    assert gone(absences, 0, ("n2", 6), n2=5) == []
    assert gone(absences, 100, ("n2", 6), n2=6) == []
    assert gone(absences, 200, ("n2", 6), n2=5) == []
    late = 200 + limits.NODE_GONE_MS
    assert gone(absences, late, ("n2", 6), n2=5) == [NodeGone(N2, 5)]


def test_a_node_knows_its_own_former_lives() -> None:
    absences = Absences(N1, LIFE)
    assert gone(absences, 0, ("n1", LIFE - 1), ("n1", LIFE)) == [NodeGone(N1, LIFE)]


def test_the_next_leader_looks_for_itself() -> None:
    absences = Absences(N1, LIFE)
    assert gone(absences, 0, ("n2", 5)) == []
    absences.forget()
    assert gone(absences, limits.NODE_GONE_MS, ("n2", 5)) == []
    assert gone(absences, 2 * limits.NODE_GONE_MS, ("n2", 5)) == [NodeGone(N2, 0)]
