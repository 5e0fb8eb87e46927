"""Tries that are refused by a read: when, with what answer, and when not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resplock import limits
from resplock.node import Result
from resplock.node.messages import Forward
from resplock.operations import (
    AcquireAll,
    AddRefusals,
    Bulk,
    Done,
    Evaluate,
    Granted,
    Held,
    InDoubt,
    LoadScript,
    NoLeader,
    Number,
    Operation,
    Options,
    Released,
    Scripted,
    SetString,
)
from resplock.state.snapshots import restore
from tests.node.servers import Caller, Server, Trio, acquire, image, lose_leadership, name, release


@pytest.fixture
def trio() -> Trio:
    trio = Trio()
    trio.elect("n1")
    trio.pass_time(100)
    return trio


def set_nx(key: str, value: str = "you", **more: bool) -> SetString:
    return SetString(name(key), value.encode(), 30_000, "NX", **more)


def submit(server: Server, *operations: Operation) -> Caller:
    """As a client of its own."""
    caller = Caller()
    server.node.submit(caller, operations)
    return caller


def granted(trio: Trio, server: Server, *operations: Operation) -> Sequence[Result]:
    """What these get, once all have heard of it."""
    caller = submit(server, *operations)
    trio.settle()
    trio.pass_time(100)
    return caller.take()


def replaced(trio: Trio) -> Server:
    """The others' next leader, of which n1, whose clock stands still, learns nothing."""
    trio.alone = {"n1"}
    others = [trio["n2"], trio["n3"]]
    for _ in range(100):
        for server in others:
            server.node.core.tick()
            server.turn()
        trio.carry()
        for server in others:
            if server.node.core.is_leader:
                trio.settle()
                return server
    raise AssertionError("nobody is elected")


def logged(server: Server) -> list[Operation]:
    """Every command in the log, but for what it is told of refusals."""
    return [each for each in server.commands() if not isinstance(each, AddRefusals)]


def is_logged(server: Server, operation: Operation) -> bool:
    return operation in server.commands()


# --- the answer ----------------------------------------------------------------------------------

TRIES: list[Operation] = [
    acquire("a", "you"),
    acquire("a", "you", options=Options(shared=True)),
    acquire("a", "you", options=Options(on_close=True)),
    acquire("waited", "you"),
    acquire("waited", "she", options=Options(priority=3)),
    acquire("delayed", "you"),
    acquire("shared", "you"),
    acquire("semaphore", "you", options=Options(limit=2, permits=2)),
    AcquireAll((name("free"), name("a")), b"you"),
    set_nx("a"),
    set_nx("a", "me"),
    set_nx("a", counts=True),
    set_nx("a", gives_old=True),
    set_nx("waited"),
    set_nx("shared", gives_old=True),
]


def held_locks(server: Server) -> None:
    """Locks of every kind that somebody else has, or comes first for."""
    server.do(
        acquire("a"),
        acquire("waited"),
        acquire("waited", "she", options=Options(wait_ms=60_000, blocking=False)),
        acquire("delayed", ttl_ms=10, options=Options(delay_ms=60_000)),
        acquire("shared", options=Options(shared=True)),
        acquire("semaphore", options=Options(limit=2)),
        acquire("b"),
    )
    server.pass_time(100)
    server.do(release("b"))


@pytest.mark.parametrize("operation", TRIES)
def test_it_is_what_an_entry_would_have_come_to(operation: Operation) -> None:
    """At that moment; and it leaves no trace."""
    server = Server().lead()
    held_locks(server)
    server.now_ms += 7
    before, commands = image(server.node.table), logged(server)
    [result] = server.do(operation)
    assert logged(server) == commands
    assert image(server.node.table) == before
    table = restore(iter(before))
    assert [result] == table.apply(1_000, server.node.core.clock_ms, [operation])
    assert not isinstance(result, Granted | Done)


def test_what_waits_or_is_remembered_is_proposed() -> None:
    server = Server().lead()
    server.do(acquire("a"))
    for operation in (
        acquire("a", "you", request=b"r"),
        acquire("a", "they", options=Options(blocking=False)),
        AcquireAll((name("a"),), b"you", request=b"s"),
        SetString(name("a"), b"you", condition="XX", gives_old=True),
    ):
        server.do(operation)
        assert is_logged(server, operation)


def test_what_is_refused_of_a_run_is_not_in_its_entry() -> None:
    """It is answered with the rest, each client in its own order."""
    server = Server().lead()
    server.do(acquire("a"))
    one = submit(server, acquire("a", "you"), acquire("a", "she"), acquire("b"), set_nx("a"))
    two = submit(server, set_nx("a"))
    server.settle()
    assert [type(result) for result in one.take()] == [Held, Held, Granted, Bulk]
    assert two.take() == [Bulk(None)]
    assert logged(server)[-2:] == [acquire("b"), set_nx("a")]


def test_a_run_too_large_for_an_entry_is_refused_where_it_is_cut() -> None:
    server = Server().lead()
    server.do(acquire("a"))
    callers = [
        submit(server, acquire("a", "you"), *(acquire(f"{at}-{n}") for n in range(3_000)))
        for at in range(3)
    ]
    server.settle()
    for caller in callers:
        held, *others = caller.take()
        assert isinstance(held, Held)
        assert len(others) == 3_000
        assert all(isinstance(other, Granted) for other in others)
    assert not is_logged(server, acquire("a", "you"))


# --- when it may be given ------------------------------------------------------------------------


def test_it_is_answered_once_a_quorum_has_confirmed_the_leader(trio: Trio) -> None:
    leader = trio["n1"]
    leader.do(acquire("a"))
    trio.settle()
    commands = logged(leader)
    caller = submit(leader, acquire("a", "you"), set_nx("a"))
    leader.turn()
    assert caller.take() == []
    trio.settle()
    held, nothing = caller.take()
    assert isinstance(held, Held)
    assert nothing == Bulk(None)
    assert logged(leader) == commands


def test_a_leader_that_was_replaced_refuses_nobody(trio: Trio) -> None:
    """It does not know that the lock was given back."""
    leader, client = trio["n1"], Caller()
    assert isinstance(granted(trio, leader, acquire("a"))[0], Granted)
    another = replaced(trio)
    assert granted(trio, another, release("a")) == [Released()]
    leader.node.submit(client, [acquire("a", "you")])
    leader.turn()
    assert leader.node.core.is_leader
    assert client.take() == []
    trio.alone = set()
    trio.pass_time(500)
    assert [type(result) for result in client.take()] == [Granted]


def test_a_client_is_not_refused_for_what_it_has_given_back(trio: Trio) -> None:
    """Its release is under way, or comes first in the same turn."""
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    client = submit(leader, release("a"))
    leader.turn()
    assert leader.node.unresolved
    leader.node.submit(client, [acquire("a", "you")])
    leader.node.submit(client, [release("a", "you")])
    leader.node.submit(client, [set_nx("a", "she")])
    trio.settle()
    assert [type(result) for result in client.take()] == [Released, Granted, Released, Done]


@pytest.mark.parametrize("turns", [0, 1])
def test_nor_through_a_follower(trio: Trio, turns: int) -> None:
    """Only it knows that its client has something outstanding."""
    granted(trio, trio["n1"], acquire("a"))
    follower = trio["n2"]
    client = submit(follower, release("a"))
    for _ in range(turns):
        follower.turn()
    follower.node.submit(client, [acquire("a", "you")])
    other = submit(follower, acquire("a", "she"))
    trio.settle()
    assert [type(result) for result in client.take()] == [Released, Granted]
    assert [type(result) for result in other.take()] == [Held]


def test_a_follower_says_what_may_be_refused(trio: Trio) -> None:
    """In front of each client's commands, where it looks like it."""
    granted(trio, trio["n1"], acquire("a"))
    follower = trio["n2"]
    submit(follower, acquire("b"), set_nx("a"))
    submit(follower, set_nx("a"), acquire("c"), release("c"))
    submit(follower, acquire("a", "you"))
    follower.turn()
    [(_, forwarded)] = follower.mail
    assert isinstance(forwarded, Forward)
    assert forwarded.heads == ((2, 3), (5, 1))


def test_a_followers_clients_are_refused_without_an_entry(trio: Trio) -> None:
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    commands = logged(leader)
    one = submit(trio["n2"], acquire("a", "you"))
    two = submit(trio["n3"], set_nx("a", counts=True))
    trio.settle()
    assert [type(result) for result in one.take()] == [Held]
    assert two.take() == [Number(0)]
    assert logged(leader) == commands


@pytest.mark.parametrize("which", ["n1", "n2"])
def test_a_script_that_changes_nothing_has_no_entry(trio: Trio, which: str) -> None:
    leader, source = trio["n1"], b"return redis.call('SET', KEYS[1], ARGV[1], 'NX') and 1 or 0"
    granted(trio, leader, acquire("a"), LoadScript(source))
    commands = logged(leader)
    script = Evaluate(source, (name("a"),), (b"you",))
    caller = submit(trio[which], script, set_nx("a"), script)
    trio.settle()
    assert caller.take() == [Scripted(b":0\r\n"), Bulk(None), Scripted(b":0\r\n")]
    assert logged(leader) == commands
    caller = submit(trio[which], release("a"), script, script)
    trio.settle()
    assert caller.take() == [Released(), Scripted(b":1\r\n"), Scripted(b":0\r\n")]
    assert logged(leader)[-3:] == [release("a"), script, script]


@pytest.mark.parametrize("heads", [((0, 3),), ((2, 1),), ((5, 1),), ((0, 2**53),)])
def test_what_a_peer_says_is_believed_within_its_message(
    trio: Trio, heads: tuple[tuple[int, int], ...]
) -> None:
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    operations: list[Operation] = [acquire("a", "you"), acquire("a", "she")]
    forwarded = Forward(leader.node.core.term, 77, operations, heads)
    leader.node.receive(trio["n2"].id, forwarded)
    caller = submit(leader, acquire("a", "they"))
    trio.settle()
    assert all(is_logged(leader, each) for each in operations)
    assert [type(result) for result in caller.take()] == [Held]


def test_a_leader_that_has_not_applied_all_refuses_nobody(trio: Trio) -> None:
    """It knows since a moment ago that the release is committed, which its client was told long ago."""
    client, new = told_of_a_release(trio)
    while new.node.core.commit_index < new.node.core.term_start:
        go_round(trio, new)
    assert new.node.core.applied_index < new.node.core.commit_index
    new.node.submit(client, [acquire("a", "you")])
    trio.settle()
    assert [type(result) for result in client.take()] == [Granted]


def test_a_leader_that_has_committed_nothing_in_its_term_refuses_nobody(trio: Trio) -> None:
    """Nor together with what it proposes: it does not know that the release is committed."""
    client, new = told_of_a_release(trio)
    assert new.node.core.applied_index == new.node.core.commit_index
    new.node.submit(client, [acquire("a", "you"), acquire("b")])
    trio.settle()
    assert [type(result) for result in client.take()] == [Granted, Granted]


def told_of_a_release(trio: Trio) -> tuple[Caller, Server]:
    """A client that has given `a` back and was told so by n1, which is cut off; and the next leader,
    just elected, which has the entry and does not know that it is committed."""
    old = trio["n1"]
    granted(trio, old, acquire("a"))
    client = submit(old, release("a"))
    old.turn()
    old.sync()
    trio.carry()
    new = fed(trio)
    new.turn()
    trio.carry()
    old.turn()
    assert client.take() == [Released()]
    old.outbox.clear()
    trio.alone = {"n1"}
    for server in (trio["n2"], trio["n3"]):
        for _ in range(30):
            server.node.core.tick()
        server.outbox.clear()
    new.node.core.campaign()
    while not new.node.core.is_leader:
        go_round(trio, new)
    return client, new


def fed(trio: Trio) -> Server:
    """The follower that has all of n1's log: with little to do a leader feeds one at once."""
    last = trio["n1"].node.core.last_index
    return next(each for each in (trio["n2"], trio["n3"]) if each.node.core.last_index == last)


def go_round(trio: Trio, server: Server) -> None:
    """The server's turn, then the others', and what they have for it reaches it."""
    for each in (server, *(other for other in trio.servers.values() if other is not server)):
        each.turn()
        each.sync()
        trio.carry()


def test_a_hold_that_is_overdue_refuses_nobody() -> None:
    """Though no entry has ended it."""
    server = Server().lead()
    server.do(acquire("a", ttl_ms=100), acquire("b", ttl_ms=100), acquire("c", ttl_ms=100))
    server.now_ms += 99
    assert [type(each) for each in server.do(acquire("a", "you"))] == [Held]
    server.now_ms += 1
    assert [type(each) for each in server.do(acquire("b", "you"))] == [Granted]
    assert server.do(set_nx("c")) == [Done()]


def test_the_totals_are_told_of_them_once_a_second(trio: Trio) -> None:
    """So that all replicas count the same."""
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    for _ in range(20):
        submit(leader, acquire("a", "you"), set_nx("a"))
        submit(trio["n2"], set_nx("a"), acquire("b"))
        trio.pass_time(100)
    trio.pass_time(1_500)
    told = [each.count for each in leader.commands() if isinstance(each, AddRefusals)]
    assert sum(told) == 60
    assert len(told) <= 4
    assert [each.node.table.totals.refusals for each in trio.servers.values()] == [60] * 3


# --- when the leadership is lost -----------------------------------------------------------------


def test_what_was_not_confirmed_is_asked_again(trio: Trio) -> None:
    """Of the next leader, in the client's order, and answered once."""
    leader = trio["n1"]
    granted(trio, leader, acquire("a"), acquire("b"))
    trio.alone = {"n1"}
    client = submit(leader, set_nx("a"))
    leader.turn()
    leader.node.submit(client, [acquire("a", "she"), set_nx("b")])
    leader.turn()
    assert granted(trio, replaced(trio), release("a")) == [Released()]
    assert client.take() == []
    trio.alone = set()
    trio.pass_time(500)
    assert [type(result) for result in client.take()] == [Done, Held, Bulk]


def test_without_a_leader_it_is_refused_as_not_proposed(trio: Trio) -> None:
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    trio.alone = {"n1", "n2", "n3"}
    client = submit(leader, set_nx("a"))
    trio.pass_time(5_000)
    assert client.take() == [NoLeader()]


def test_one_with_a_proposal_behind_it_waits_for_what_comes_of_that(trio: Trio) -> None:
    """If the entry is in the log, the refusal was right, whoever leads."""
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    client = submit(leader, set_nx("a"))
    leader.turn()
    leader.outbox.clear()
    leader.node.submit(client, [release("a"), acquire("b")])
    leader.turn()
    trio.carry()
    follower = fed(trio)
    follower.turn()
    follower.outbox.clear()
    lose_leadership(trio, leader)
    leader.turn()
    assert client.take() == []
    trio.elect(follower.id)
    trio.pass_time(100)
    assert [type(result) for result in client.take()] == [Bulk, Released, Granted]


def test_and_is_given_back_with_it(trio: Trio) -> None:
    leader = trio["n1"]
    granted(trio, leader, acquire("a"))
    trio.alone = {"n1"}
    client = submit(leader, set_nx("a"))
    leader.turn()
    leader.node.submit(client, [release("a"), acquire("b")])
    leader.turn()
    assert granted(trio, replaced(trio), release("a")) == [Released()]
    trio.alone = set()
    trio.pass_time(500)
    results = client.take()
    assert [type(result) for result in results[:1]] == [Done]
    assert len(results) == 3
    assert InDoubt() not in results


def test_refusals_of_a_run_that_is_cut_in_two_count_once(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = trio["n1"]
    granted(trio, leader, acquire("k", ttl_ms=0))
    monkeypatch.setattr(limits, "RUN_BYTES_MAX", 40)
    before = leader.node.proposals.added
    callers = [submit(leader, acquire(key, "you")) for key in ("k", "a", "b", "c", "k")]
    leader.turn()
    assert leader.node.proposals.added - before == len(callers)
    trio.settle()
    trio.pass_time(2 * limits.REFUSALS_TOLD_EVERY_MS)
    kinds = [type(caller.take()[0]) for caller in callers]
    assert kinds == [Held, Granted, Granted, Granted, Held]
    assert [each.node.table.totals.refusals for each in trio.servers.values()] == [2] * 3


# --- what is searched ----------------------------------------------------------------------------


def test_many_commands_are_searched_for_tries_only_while_some_are_refused(trio: Trio) -> None:
    leader = trio["n1"]
    assert isinstance(granted(trio, leader, acquire("k", ttl_ms=0))[0], Granted)
    trio.pass_time(2 * limits.CONTENDED_MS)
    many = [acquire("k", "you") for _ in range(limits.SEARCHED_ALWAYS + 1)]
    before = len(logged(leader))
    for entries in (len(many), 0):  # the first are found to be held when they are applied
        results = granted(trio, leader, *many)
        assert [type(each) for each in results] == [Held] * len(many)
        assert len(logged(leader)) - before == entries
        before = len(logged(leader))
