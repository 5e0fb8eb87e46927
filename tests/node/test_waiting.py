"""Clients that wait in line on three nodes: who tells them, and when, whatever happens meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from resplock import limits
from resplock.node.messages import Results
from resplock.operations import (
    Blocked,
    Disconnect,
    GetLock,
    Granted,
    InDoubt,
    LockInfo,
    NodeGone,
    NoLeader,
    Options,
    Released,
    TimedOut,
    Unblock,
    Unblocked,
    Undelivered,
)
from resplock.raft.entries import EntryKind
from resplock.state.snapshots import restore
from resplock.types import NodeId
from tests.node.servers import (
    Caller,
    Server,
    Trio,
    acquire,
    image,
    lose_leadership,
    name,
    release,
)

ELECTION_TIMEOUT_MS = limits.ELECTION_TIMEOUT_MS_DEFAULT


class Waiter(Caller):
    """A client that waits in line, or holds ONCLOSE."""

    serials = 0

    def __init__(self, server: Server, owner: str) -> None:
        super().__init__()
        Waiter.serials += 1
        self.server = server
        self.owner = owner
        self.id = server.node.client_id(Waiter.serials)

    def wait(self, key: str = "a", ttl_ms: int = 30_000, **more: Any) -> Waiter:
        request = more.pop("request", b"")
        options = Options(**{"wait_ms": 5_000, "client": self.id, **more})
        operation = acquire(key, self.owner, ttl_ms, request=request, options=options)
        self.server.node.submit_waiting(self, operation)
        return self

    def leave(self) -> None:
        self.server.node.disconnect(self.id)

    @property
    def answer(self) -> Any:
        """The only answer since the last look; None when there is none."""
        results = self.take()
        assert len(results) <= 1
        return results[0] if results else None


@pytest.fixture
def trio() -> Trio:
    trio = Trio()
    trio.elect("n1")
    trio.pass_time(100)
    return trio


def do(trio: Trio, server: str, *operations: Any) -> list[Any]:
    caller = Caller()
    trio[server].node.submit(caller, operations)
    trio.settle()
    return caller.take()


def holder_of(server: Server, key: str = "a") -> bytes | None:
    info = server.node.peek(GetLock(name(key)))
    assert info is None or isinstance(info, LockInfo)
    return info.owner if info else None


def every(trio: Trio) -> list[Waiter]:
    """One who waits on each node, behind the holder `me`."""
    do(trio, "n1", acquire("a"))
    waiters = []
    for server in trio.servers.values():
        waiters.append(Waiter(server, server.id).wait())
        trio.settle()
    assert [waiter.take() for waiter in waiters] == [[], [], []]
    return waiters


# --- one node ------------------------------------------------------------------------------------


def test_a_wait_and_its_end_in_one_entry() -> None:
    """The one who releases sends it in the same turn."""
    server = Server().lead()
    server.do(acquire("a"))
    waiter, caller = Waiter(server, "you").wait(), Caller()
    server.node.submit(caller, [release("a")])
    server.settle()
    assert caller.take() == [Released(promoted=b"you")]
    assert isinstance(waiter.answer, Granted)
    assert server.kinds().count(EntryKind.RUN) == 3


def test_a_wait_that_is_none_is_answered_at_once() -> None:
    server = Server().lead()
    waiter = Waiter(server, "me").wait()
    server.settle()
    assert isinstance(waiter.answer, Granted)


def test_a_deadline_comes_without_any_traffic() -> None:
    """The leader's clock entries carry it."""
    server = Server().lead()
    server.do(acquire("a"))
    waiter = Waiter(server, "you").wait(wait_ms=200)
    server.pass_time(190)
    assert waiter.answer is None
    server.pass_time(30)
    assert isinstance(waiter.answer, TimedOut)


def test_a_hold_that_expires_is_granted_to_who_waits() -> None:
    server = Server().lead()
    server.do(acquire("a", ttl_ms=300))
    waiter = Waiter(server, "you").wait()
    server.pass_time(320)
    assert isinstance(waiter.answer, Granted)


def test_a_restart_ends_what_was_attached_to_the_former_process() -> None:
    server = Server().lead()
    holder, waiter = Waiter(server, "me"), Waiter(server, "you")
    holder.wait(on_close=True)
    waiter.wait(wait_ms=60_000)
    server.settle()
    server.incarnation += 1
    server.start()
    server.lead()
    assert server.node.table.attached_lives() == [("n1", 1)]
    server.pass_time(1_000)
    assert NodeGone(NodeId("n1"), 2) in server.commands()
    assert server.node.table.attached_lives() == []
    assert holder_of(server) is None


def test_who_leaves_gives_up_the_place() -> None:
    server = Server().lead()
    server.do(acquire("a"))
    first, second = Waiter(server, "first").wait(), Waiter(server, "second").wait()
    server.settle()
    first.leave()
    server.do(release("a"))
    assert first.take() == []
    assert isinstance(second.answer, Granted)


def test_a_grant_that_races_with_the_leaving_is_given_back() -> None:
    """The lock is released and its client leaves in one turn, in this order."""
    server = Server().lead()
    server.do(acquire("a"))
    first, second = Waiter(server, "first").wait(), Waiter(server, "second").wait()
    server.settle()
    server.node.submit(Caller(), [release("a")])
    first.leave()
    server.settle()
    assert first.take() == []
    assert any(isinstance(each, Undelivered) for each in server.commands())
    assert isinstance(second.answer, Granted)


def test_what_could_not_be_delivered_is_given_back() -> None:
    server = Server().lead()
    server.do(acquire("a"))
    first, second = Waiter(server, "first").wait(), Waiter(server, "second").wait()
    server.settle()
    server.do(release("a"))
    granted = first.answer
    assert isinstance(granted, Granted)
    server.node.give_back(acquire("a", "first"), granted)
    server.settle()
    assert isinstance(second.answer, Granted)


def test_a_thousand_wait_and_each_release_wakes_one() -> None:
    server = Server().lead()
    server.do(acquire("a", "w-1"))
    waiters = [Waiter(server, f"w{number}").wait() for number in range(1_000)]
    server.settle()
    for number, waiter in enumerate(waiters):
        assert server.do(release("a", f"w{number - 1}")) == [Released(promoted=b"w%d" % number)]
        assert isinstance(waiter.answer, Granted)
        assert not any(later.results for later in waiters[number + 1 : number + 3])
    assert not any(waiter.results for waiter in waiters)


# --- three nodes ---------------------------------------------------------------------------------


def test_each_node_tells_its_own_clients_at_once(trio: Trio) -> None:
    """No tick passes: the leader sends the commit on when it concerns another node's client."""
    waiters, owner = every(trio), "me"
    for waiter in waiters:
        assert do(trio, "n1", release("a", owner)) == [Released(promoted=waiter.owner.encode())]
        assert isinstance(waiter.answer, Granted)
        owner = waiter.owner


def test_the_commit_is_sent_on_only_for_others_clients(trio: Trio) -> None:
    waiter = every(trio)[0]
    do(trio, "n1", release("a"))
    assert isinstance(waiter.answer, Granted)
    assert trio["n2"].node.core.commit_index < trio["n1"].node.core.commit_index


def test_an_end_comes_before_the_leader_has_answered(trio: Trio) -> None:
    """The answer, Blocked, is late: Raft's messages do not queue behind those of clients."""
    do(trio, "n1", acquire("a"))
    leader, follower = trio["n1"], trio["n2"]
    waiter = Waiter(follower, "you").wait()
    follower.turn()
    trio.carry()
    trio.carry()
    leader.turn()
    trio.carry()
    for _ in range(3):
        for server in trio.servers.values():
            server.turn()
        late = [mail for mail in leader.mail if isinstance(mail[1], Results)]
        for mail in late:
            leader.mail.remove(mail)
        trio.carry()
        if late:
            break
    [(_, results)] = late
    assert isinstance(results, Results)
    assert isinstance(results.packed[0], Blocked)
    do(trio, "n1", release("a"))
    trio.pass_time(2_000)
    assert waiter.answer is None
    follower.node.receive(NodeId("n1"), results)
    trio.settle()
    assert isinstance(waiter.answer, Granted)


def test_a_deadline_of_a_followers_client(trio: Trio) -> None:
    do(trio, "n1", acquire("a"))
    waiter = Waiter(trio["n2"], "you").wait(wait_ms=200)
    trio.pass_time(300)
    assert isinstance(waiter.answer, TimedOut)


def test_places_survive_the_leader(trio: Trio) -> None:
    """Also those of its own clients, while its process lives."""
    former, second, third = every(trio)
    trio.unlink(trio["n1"])
    trio.alone = {"n1"}
    trio.pass_time(2 * ELECTION_TIMEOUT_MS)
    leader = next(each for each in trio.servers.values() if each.node.core.is_leader)
    assert leader is not trio["n1"]
    assert do(trio, leader.id, release("a")) == [Released(promoted=b"n1")]
    assert former.answer is None, "it is cut off"
    assert do(trio, leader.id, release("a", "n1")) == [Released(promoted=b"n2")]
    assert isinstance(second.answer, Granted)
    trio.alone = set()
    trio.link(trio["n1"])
    trio.pass_time(ELECTION_TIMEOUT_MS)
    assert isinstance(former.answer, Granted), "as it was, at that place in the log"
    assert third.answer is None


def test_a_wait_whose_fate_is_unknown_is_in_doubt(trio: Trio) -> None:
    """The leader's link breaks before it answers."""
    do(trio, "n1", acquire("a"))
    waiter = Waiter(trio["n2"], "you").wait()
    trio["n2"].turn()
    trio.unlink(trio["n1"])
    trio["n2"].turn()
    assert waiter.answer == InDoubt()


def test_a_wait_that_nobody_took_has_no_leader() -> None:
    trio = Trio()
    trio.alone = {"n1", "n2", "n3"}
    waiter = Waiter(trio["n2"], "you").wait()
    trio.pass_time(3 * ELECTION_TIMEOUT_MS)
    assert waiter.answer == NoLeader()


def test_a_wait_without_an_end_is_in_doubt_after_its_time(trio: Trio) -> None:
    do(trio, "n1", acquire("a"))
    waiter = Waiter(trio["n2"], "you").wait(wait_ms=1_000)
    trio.settle()
    trio.alone = {"n2"}
    trio.pass_time(1_000 + 2 * ELECTION_TIMEOUT_MS - 100)
    assert waiter.answer is None
    trio.pass_time(1_000)
    assert waiter.answer == InDoubt()


def test_a_second_ask_on_another_node_takes_the_place_over(trio: Trio) -> None:
    do(trio, "n1", acquire("a"))
    first = Waiter(trio["n2"], "you").wait(request=b"r1")
    trio.settle()
    second = Waiter(trio["n3"], "you").wait(request=b"r1")
    trio.settle()
    assert first.answer == Unblocked("replaced")
    do(trio, "n1", release("a"))
    assert isinstance(second.answer, Granted)


def test_a_wait_is_unblocked(trio: Trio) -> None:
    do(trio, "n1", acquire("a"))
    one, two = Waiter(trio["n2"], "one").wait(), Waiter(trio["n2"], "two").wait()
    trio.settle()
    do(trio, "n2", Unblock(one.id, error=False))
    assert isinstance(one.answer, TimedOut)
    do(trio, "n3", Unblock(two.id, error=True))
    assert two.answer == Unblocked("unblocked")
    assert do(trio, "n1", release("a")) == [Released()]


# --- snapshots -----------------------------------------------------------------------------------


def test_places_are_in_snapshots_and_an_end_that_is_not_seen_is_in_doubt(trio: Trio) -> None:
    """One of two waits ends while its node cannot hear it, and the log of that is compacted."""
    leader, follower = trio["n1"], trio["n3"]
    do(trio, "n1", acquire("a"), acquire("b"))
    ended, waits = Waiter(follower, "one").wait("a"), Waiter(follower, "two").wait("b")
    trio.settle()
    trio.alone = {"n3"}
    do(trio, "n1", release("a"))
    leader.snapshot()
    meta = leader.log.snapshot
    trio.alone = set()
    assert follower.node.snapshot_received(meta, restore(iter(leader.chunks)))
    trio.settle()
    assert ended.answer == InDoubt()
    assert waits.answer is None
    do(trio, "n1", release("b"))
    trio.pass_time(100)
    assert isinstance(waits.answer, Granted)
    assert image(follower.node.table) == image(leader.node.table)


def test_a_grant_in_a_snapshot_is_given_back_when_its_client_has_left(trio: Trio) -> None:
    leader, follower = trio["n1"], trio["n3"]
    do(trio, "n1", acquire("a"))
    waiter = Waiter(follower, "you").wait(ttl_ms=0)
    trio.settle()
    trio.alone = {"n3"}
    do(trio, "n1", release("a"))
    waiter.leave()
    leader.snapshot()
    trio.alone = set()
    assert follower.node.snapshot_received(leader.log.snapshot, restore(iter(leader.chunks)))
    trio.settle()
    trio.pass_time(3_000)
    assert waiter.take() == []
    assert holder_of(leader) is None


# --- leaving -------------------------------------------------------------------------------------


def test_leaving_is_told_when_there_is_a_leader_again(trio: Trio) -> None:
    _, second, third = every(trio)
    trio.alone = {"n1", "n2", "n3"}
    trio.pass_time(100)
    second.leave()
    trio.pass_time(5 * ELECTION_TIMEOUT_MS)
    assert trio["n2"].node.departing == 1
    assert not any(server.node.core.is_leader for server in trio.servers.values())
    trio.alone = set()
    trio.pass_time(6 * ELECTION_TIMEOUT_MS)
    assert trio["n2"].node.departing == 0
    [info] = [trio["n1"].node.peek(GetLock(name("a"), waiters=True))]
    assert isinstance(info, LockInfo)
    assert b"n2" not in [waiter.owner for waiter in info.waiters or ()]
    assert second.take() == []
    assert third.answer is None


@pytest.mark.parametrize("lost", ["question", "answer"])
def test_leaving_is_told_again_when_the_leader_is_lost(trio: Trio, lost: str) -> None:
    _, second, _ = every(trio)
    second.leave()
    trio["n2"].turn()
    if lost == "answer":
        trio.carry()
        trio["n1"].turn()
    trio.unlink(trio["n1"])
    trio.alone = {"n1"}
    trio.pass_time(4 * ELECTION_TIMEOUT_MS)
    leader = next(trio[each] for each in ("n2", "n3") if trio[each].node.core.is_leader)
    assert Disconnect((second.id,)) in leader.commands()
    assert trio["n2"].node.departing == 0


def test_leaving_is_told_although_clients_are_sent_elsewhere() -> None:
    """They may have been attached when this node led."""
    trio = Trio(redirects=True)
    trio.elect("n1")
    waiter = Waiter(trio["n1"], "me").wait(on_close=True)
    trio.settle()
    assert isinstance(waiter.answer, Granted)
    lose_leadership(trio, trio["n1"])
    trio.elect("n2")
    waiter.leave()
    trio.pass_time(100)
    assert holder_of(trio["n2"]) is None


# --- nodes that are gone -------------------------------------------------------------------------


def test_a_node_that_is_gone_leaves_nothing_behind(trio: Trio) -> None:
    tied, waiter = Waiter(trio["n3"], "tied"), Waiter(trio["n2"], "waits")
    tied.wait(on_close=True, ttl_ms=0)
    trio.settle()
    waiter.wait(wait_ms=60_000)
    trio.settle()
    trio.unlink(trio["n3"])
    trio.alone = {"n3"}
    trio.pass_time(limits.NODE_GONE_MS - 500)
    assert waiter.answer is None
    assert not trio["n3"].node.is_cut_off
    trio.pass_time(1_000)
    assert isinstance(waiter.answer, Granted)
    assert trio["n3"].node.is_cut_off
    assert trio["n1"].commands().count(NodeGone(NodeId("n3"), 0)) == 1


def test_a_node_that_starts_again_has_new_clients_only(trio: Trio) -> None:
    leader, old = trio["n1"], trio["n3"]
    former = Waiter(old, "former").wait(on_close=True, ttl_ms=0)
    trio.settle()
    assert isinstance(former.answer, Granted)
    trio.unlink(old)
    old.log.crash()
    old.incarnation += 1
    old.start()
    trio.link(old)
    trio.pass_time(1_000)
    assert leader.commands().count(NodeGone(NodeId("n3"), 2)) == 1
    assert holder_of(leader) is None
    present = Waiter(old, "present").wait(on_close=True, ttl_ms=0)
    trio.settle()
    assert isinstance(present.answer, Granted)
    trio.pass_time(2 * limits.NODE_GONE_MS)
    assert holder_of(leader) == b"present"


def test_the_next_leader_ends_what_the_last_one_could_not(trio: Trio) -> None:
    """It is the leader itself that is gone."""
    tied = Waiter(trio["n1"], "tied").wait(on_close=True, ttl_ms=0)
    trio.settle()
    assert isinstance(tied.answer, Granted)
    trio.unlink(trio["n1"])
    trio.alone = {"n1"}
    trio.pass_time(limits.NODE_GONE_MS + 4 * ELECTION_TIMEOUT_MS)
    assert holder_of(trio["n2"]) is None


# --- events --------------------------------------------------------------------------------------


def test_events_are_given_out_in_the_order_of_the_log_on_every_node(trio: Trio) -> None:
    for server in trio.servers.values():
        server.node.keeps_events = True
    waiter = Waiter(trio["n2"], "you")
    do(trio, "n1", acquire("a"))
    waiter.wait()
    trio.settle()
    do(trio, "n1", release("a"))
    trio.pass_time(100)
    kinds = [[each.kind for each in server.node.take_events()] for server in trio.servers.values()]
    assert kinds == [["acquired", "queued", "released", "acquired"]] * 3
    assert trio["n1"].node.take_events() == []
