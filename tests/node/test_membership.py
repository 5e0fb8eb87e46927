"""Keeping the membership: operators' requests, and what follows from who shows itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resplock import limits
from resplock.errors import CommandError
from resplock.node.administration import AddServer, RemoveServer, Request, Transfer
from resplock.operations import Done, InDoubt, NoLeader
from resplock.raft.configurations import ids
from resplock.raft.entries import Configuration, EntryKind
from resplock.types import NodeId
from tests.node.servers import Caller, Server, Trio, acquire, lose_leadership, member_of

N1, N2, N3, N4, N9 = map(NodeId, ("n1", "n2", "n3", "n4", "n9"))


@pytest.fixture
def trio() -> Trio:
    trio = Trio()
    trio.elect("n1")
    trio.pass_time(100)
    return trio


def ask(trio: Trio, name: str, request: Request, duration_ms: int = 300) -> list[object]:
    operator = Caller()
    trio[name].node.administer(operator, request)
    trio.pass_time(duration_ms)
    return list(operator.take())


def text(answers: list[object]) -> str:
    [refused] = answers
    assert isinstance(refused, CommandError)
    return refused.text


def configuration(trio: Trio, name: str = "n1") -> Configuration:
    return trio[name].node.core.configuration


def join(trio: Trio, name: str) -> Server:
    """A server without a configuration, linked to all."""
    server = trio.servers[name] = Server((), name)
    server.now_ms, server.unix_ms = trio["n1"].now_ms, trio["n1"].unix_ms
    trio.link(server)
    for other in trio.servers.values():
        if other is not server:
            other.node.member_seen(member_of(name))
    return server


# --- adding --------------------------------------------------------------------------------------


def test_a_server_is_a_learner_until_it_has_caught_up(trio: Trio) -> None:
    trio["n1"].node.submit(Caller(), [acquire("a")])
    assert ask(trio, "n1", AddServer(member_of("n4"))) == [Done()]
    assert configuration(trio).learners == (member_of("n4"),), "it is not there"
    server = join(trio, "n4")
    trio.pass_time(500)
    assert ids(configuration(trio).voters) == ("n1", "n2", "n3", "n4")
    assert server.commands() == trio["n1"].commands()


def test_adding_again_changes_nothing(trio: Trio) -> None:
    assert ask(trio, "n1", AddServer(member_of("n4"))) == [Done()]
    before = configuration(trio)
    last = trio["n1"].node.core.membership.index
    assert ask(trio, "n1", AddServer(member_of("n4"))) == [Done()]
    assert ask(trio, "n2", AddServer(member_of("n4"))) == [Done()]
    assert ask(trio, "n1", AddServer(member_of("n2"))) == [Done()], "a voter stays one"
    assert configuration(trio) == before
    assert trio["n1"].node.core.membership.index == last


def test_adding_with_other_addresses_notes_them(trio: Trio) -> None:
    moved = replace(member_of("n2"), peer_address="elsewhere:2")
    assert ask(trio, "n1", AddServer(moved)) == [Done()]
    assert moved in configuration(trio, "n3").voters


def test_adding_a_known_id_with_another_uuid_replaces_the_server(trio: Trio) -> None:
    wiped = trio.wipe("n3")
    assert ask(trio, "n1", AddServer(wiped), 100) == [Done()]
    assert "n3/u-n3" in configuration(trio).removed
    trio["n1"].node.member_seen(wiped)
    trio.pass_time(1_000)
    assert wiped in configuration(trio).voters


def test_a_removed_server_may_not_come_back(trio: Trio) -> None:
    assert ask(trio, "n1", RemoveServer(N3)) == [Done()]
    assert text(ask(trio, "n1", AddServer(member_of("n3")))) == (
        "the membership was not changed: a removed server may not come back, nor be forgotten"
    )


# --- removing ------------------------------------------------------------------------------------


def test_removing_whoever_is_not_there_is_done(trio: Trio) -> None:
    before = trio["n1"].node.core.membership.index
    assert ask(trio, "n1", RemoveServer(N9)) == [Done()]
    assert trio["n1"].node.core.membership.index == before


def test_the_last_voter_is_not_removed() -> None:
    server = Server().lead()
    server.pass_time(100)
    operator = Caller()
    server.node.administer(operator, RemoveServer(N1))
    server.pass_time(100)
    assert text(list(operator.take())) == (
        "the membership was not changed: the configuration is not sorted, names a server twice, "
        "or has no voter"
    )


@pytest.mark.parametrize("asked", ["n1", "n2"])
def test_a_leader_that_is_removed_says_so_and_another_goes_on(trio: Trio, asked: str) -> None:
    """It hears of nobody any more, so it must know by itself that its removal is committed."""
    assert ask(trio, asked, RemoveServer(N1), 2_000) == [Done()]
    assert not trio["n1"].node.core.is_leader
    [leader] = [server for server in trio.servers.values() if server.node.core.is_leader]
    assert ids(leader.node.core.configuration.voters) == ("n2", "n3")
    caller = Caller()
    leader.node.submit(caller, [acquire("a")])
    trio.pass_time(100)
    assert len(caller.take()) == 1


def test_a_follower_removes_itself(trio: Trio) -> None:
    assert ask(trio, "n3", RemoveServer(N3)) == [Done()]
    assert ids(configuration(trio).voters) == ("n1", "n2")


def test_removing_what_is_being_added_waits_for_that(trio: Trio) -> None:
    """Done means that it is not there, nor will be."""
    trio.loses_entries = True
    operator, other = Caller(), Caller()
    trio["n1"].node.administer(operator, AddServer(member_of("n4")))
    trio.pass_time(limits.MEMBERSHIP_CHANGE_MS_MAX + 100)
    assert text(list(operator.take())).startswith("it could not be carried out in time")
    trio["n1"].node.administer(other, RemoveServer(N4))
    trio.pass_time(200)
    assert other.take() == [], "the configuration with it may still be committed"
    trio.loses_entries = False
    trio.pass_time(500)
    assert other.take() == [Done()]
    assert not configuration(trio).learners


# --- one at a time, in time ----------------------------------------------------------------------


def test_requests_are_carried_out_in_their_order(trio: Trio) -> None:
    operator, answered = Caller(), []
    requests: list[Request] = [
        AddServer(member_of("n4")),
        RemoveServer(N4),
        RemoveServer(N3),
        Transfer(N2),
    ]
    for request in requests:
        trio["n1"].node.administer(operator, request)
    for _ in range(100):
        trio.pass_time(10)
        answered += operator.take()
    assert answered == [Done()] * 4
    assert "n4/u-n4" in configuration(trio, "n2").removed
    assert ids(configuration(trio, "n2").voters) == ("n1", "n2")
    assert trio["n2"].node.core.is_leader


def test_a_change_that_is_not_committed_in_time_may_still_be(trio: Trio) -> None:
    trio.loses_entries = True
    operator = Caller()
    trio["n1"].node.administer(operator, RemoveServer(N3))
    trio.pass_time(limits.MEMBERSHIP_CHANGE_MS_MAX - 100)
    assert operator.take() == []
    trio.pass_time(200)
    assert text(list(operator.take())) == (
        "it could not be carried out in time; it may still be: ask again"
    )
    trio.loses_entries = False
    assert ask(trio, "n1", RemoveServer(N3)) == [Done()]


def test_each_has_its_time_from_when_it_is_begun(trio: Trio) -> None:
    trio.loses_entries = True
    operator = Caller()
    trio["n1"].node.administer(operator, RemoveServer(N3))
    trio["n1"].node.administer(operator, RemoveServer(N2))
    trio.pass_time(limits.MEMBERSHIP_CHANGE_MS_MAX + 100)
    assert len(operator.take()) == 1
    trio.loses_entries = False
    trio.pass_time(500)
    assert operator.take() == [Done()]


def test_a_request_outlives_the_leader_that_was_asked(trio: Trio) -> None:
    operators = {name: Caller() for name in ("n1", "n2", "n3")}
    trio.loses_entries = True
    for number, (name, operator) in enumerate(operators.items()):
        trio[name].node.administer(operator, AddServer(member_of(f"n{number + 4}")))
    trio.pass_time(100)
    lose_leadership(trio, trio["n1"])
    trio.loses_entries = False
    trio.elect("n2")
    trio.pass_time(500)
    assert [operator.take() for operator in operators.values()] == [[Done()]] * 3
    assert ids(configuration(trio, "n2").learners) == ("n4", "n5", "n6")


def test_without_a_leader_a_request_that_was_begun_is_in_doubt(trio: Trio) -> None:
    begun = {name: Caller() for name in ("n1", "n2")}
    trio.loses_entries = True
    for name, operator in begun.items():
        trio[name].node.administer(operator, AddServer(member_of("n4")))
    trio.pass_time(100)
    trio.alone = {"n1", "n2", "n3"}
    for server in trio.servers.values():
        trio.unlink(server)
    trio.pass_time(600)
    fresh = Caller()
    trio["n1"].node.administer(fresh, AddServer(member_of("n5")))
    trio.pass_time(3 * 500)
    assert [operator.take() for operator in begun.values()] == [[InDoubt()]] * 2
    assert fresh.take() == [NoLeader()]


def test_a_request_in_the_turn_in_which_the_leader_falls_is_given_back(trio: Trio) -> None:
    operator, leader = Caller(), trio["n1"]
    trio["n2"].node.administer(operator, RemoveServer(N3))
    trio["n2"].turn()
    _, request = trio["n2"].mail.popleft()
    leader.node.receive(N2, request)
    leader.node.core.step_down()
    leader.turn()
    assert [type(message).__name__ for _, message in leader.mail] == ["NotProposed"]
    trio.elect("n2")
    trio.pass_time(200)
    assert operator.take() == [Done()]


# --- handing over --------------------------------------------------------------------------------


def test_a_transfer_to_who_leads_is_done(trio: Trio) -> None:
    term = trio["n1"].node.core.term
    assert ask(trio, "n1", Transfer(N1)) == [Done()]
    assert ask(trio, "n3", Transfer(N1)) == [Done()]
    assert trio["n1"].node.core.term == term


def test_a_transfer_away_from_who_leads_no_more_is_done(trio: Trio) -> None:
    assert ask(trio, "n1", Transfer(None, away_from=N3)) == [Done()]
    assert trio["n1"].node.core.is_leader


def test_transfers_that_want_the_contrary_come_to_an_end(trio: Trio) -> None:
    operators = {"n1": Caller(), "n2": Caller(), "n3": Caller()}
    for name, target in (("n1", N2), ("n2", N1), ("n3", N3)):
        trio[name].node.administer(operators[name], Transfer(target))
    trio.pass_time(1_000)
    assert [operator.take() for operator in operators.values()] == [[Done()]] * 3
    terms = [server.node.core.term for server in trio.servers.values()]
    trio.pass_time(1_000)
    assert [server.node.core.term for server in trio.servers.values()] == terms


def test_a_transfer_that_fails_says_so(trio: Trio) -> None:
    trio.loses_entries = True
    trio["n1"].node.submit(Caller(), [acquire("a")])
    trio["n1"].turn()
    refused = text(ask(trio, "n1", Transfer(N2), 800))
    assert refused == "not transferred: the other node did not take over in time"
    trio.loses_entries = False
    assert ask(trio, "n1", Transfer(N2)) == [Done()]
    assert trio["n2"].node.core.is_leader


def test_a_transfer_to_a_server_that_is_gone_is_refused(trio: Trio) -> None:
    trio.unlink(trio["n2"])
    assert text(ask(trio, "n1", Transfer(N2), 50)) == "not transferred: that node does not answer"


# --- what follows by itself ----------------------------------------------------------------------


def test_who_shows_itself_as_it_is_known_changes_nothing(trio: Trio) -> None:
    before = trio["n1"].node.core.membership.index
    for name in ("n2", "n3"):
        trio["n1"].node.member_seen(member_of(name))
    trio["n1"].node.member_seen(member_of("n9"))  # nobody has asked for it
    trio["n1"].node.member_seen(replace(member_of("n2"), uuid=""))
    trio.pass_time(300)
    assert trio["n1"].node.core.membership.index == before


def test_a_removed_server_that_shows_itself_is_not_taken_in_again(trio: Trio) -> None:
    wiped = trio.wipe("n3")
    trio["n1"].node.member_seen(wiped)
    trio.pass_time(1_000)
    assert wiped in configuration(trio).voters
    before = trio["n1"].node.core.membership.index
    trio["n1"].node.member_seen(member_of("n3"))  # the old directory is back
    trio.pass_time(500)
    assert trio["n1"].node.core.membership.index == before


def test_two_wiped_servers_are_taken_in_one_after_the_other() -> None:
    trio = Trio()
    trio.elect("n1")
    for name in ("n4", "n5"):
        join(trio, name)
        assert ask(trio, "n1", AddServer(member_of(name)), 1_000) == [Done()]
    assert len(configuration(trio).voters) == 5
    wiped = [trio.wipe("n2"), trio.wipe("n4")]
    for member in wiped:
        trio["n1"].node.member_seen(member)
    changes = len(changes_of(trio["n1"]))
    trio.pass_time(2_000)
    assert all(member in configuration(trio).voters for member in wiped)
    assert len(changes_of(trio["n1"])) == changes + 4


def test_what_cannot_be_done_keeps_nothing_else_from_being_done(trio: Trio) -> None:
    """A server with the leader's own id and another uuid is somebody's mistake."""
    trio["n1"].node.member_seen(member_of("n1", "u-other"))
    assert ask(trio, "n1", AddServer(member_of("n4"))) == [Done()]
    join(trio, "n4")
    trio.pass_time(500)
    assert member_of("n1") in configuration(trio).voters
    assert member_of("n4") in configuration(trio).voters


def changes_of(server: Server) -> list[object]:
    return [entry for entry in server.entries if entry.kind is EntryKind.CONFIG]
