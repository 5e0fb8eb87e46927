"""Links between nodes, over real sockets."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from resplock import limits
from resplock.server.peers.greeting import Kind
from tests.server.peers.nodes import Node, eventually, nodes, on_uvloop


@on_uvloop
async def test_nodes_that_know_each_other_are_linked_and_talk() -> None:
    async with nodes("n1", "n2", "n3") as found:
        for one, other in itertools.permutations(found, 2):
            await one.linked(other)
            assert one.say(other, 7)
            assert one.forward(other, f"{one.id} to {other.id}")
        for one, other in itertools.permutations(found, 2):
            await eventually(lambda one=one, other=other: other.heard(one.id) == [7])
            text = ("node", one.id, f"{one.id} to {other.id}")
            await eventually(lambda other=other, text=text: text in other.events)


@on_uvloop
async def test_the_link_is_up_before_its_first_message_and_the_server_seen_before_that() -> None:
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        one.say(two, 1)
        await eventually(lambda: two.heard("n1"))
        incarnation = one.identity.incarnation
        kinds = [event[0] for event in two.events]
        assert two.events[0] == ("seen", one.member)
        assert two.told("up") == [("up", "n1", incarnation)]
        assert kinds.index("up") < kinds.index("raft")


@on_uvloop
async def test_one_that_is_dialed_answers_without_knowing_any_address() -> None:
    """As a server does that has just been added."""
    async with nodes("n1", "n4", acquainted=False) as (one, joiner):
        one.knows(joiner)
        await joiner.linked(one)
        assert joiner.say(one, 3)
        assert joiner.forward(one, "hello")
        await eventually(lambda: one.heard("n4") == [3] and one.told("node"))


@on_uvloop
async def test_messages_keep_their_order_while_the_second_session_comes_up() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        one.knows(two)
        await two.linked(one)
        two.knows(one)
        for number in range(2000):
            assert two.say(one, number)
            if number % 20 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: len(one.heard("n2")) == 2000)
        assert one.heard("n2") == list(range(2000))
        await eventually(lambda: two.peers.link(one.id).dialed is not None)
        assert len(two.told("up")) == 1
        assert two.told("down") == []


@on_uvloop
async def test_many_messages_of_one_turn_arrive_whatever_their_size() -> None:
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        texts = [str(size) * size for size in (1, 100, 70_000, 3, 300_000, 1_000_000, 2)]
        for text in texts:
            assert one.peers.send_node(two.id, text)
        for number in range(100):
            assert one.peers.send(one.message(two, number))
        assert two.events == [event for event in two.events if event[0] in ("seen", "up")]
        one.peers.flush()
        await eventually(lambda: len(two.told("node")) == len(texts))
        assert [event[2] for event in two.told("node")] == texts
        assert two.heard("n1") == list(range(100))


@on_uvloop
async def test_a_node_that_ends_is_noticed_at_once() -> None:
    async with nodes("n1", "n2", "n3") as (one, two, three):
        await two.linked(one, three)
        await three.linked(one, two)
        one.peers.close()
        await eventually(lambda: ("down", "n1") in two.events and ("down", "n1") in three.events)
        assert not two.say(one, 1)
        assert not two.forward(one, "x")
        assert two.say(three, 1)
        assert two.peers.status(one.id).last_error
        assert ("down", "n2") not in three.events


@on_uvloop
async def test_one_that_comes_back_is_linked_again_with_its_new_incarnation() -> None:
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        two.peers.close()
        await eventually(lambda: ("down", "n2") in one.events)
        again = Node("n2")
        try:
            await again.start(two.port)
            again.knows(one)
            await one.linked(again)
            assert one.told("up")[-1] == ("up", "n2", again.identity.incarnation)
            one.say(again, 5)
            await eventually(lambda: again.heard("n1") == [5])
        finally:
            again.peers.close()


@on_uvloop
async def test_a_new_incarnation_ends_the_link_to_the_old_one() -> None:
    """The old process's connections may still look alive: its machine lost power."""
    async with nodes("n1", "n2", acquainted=False) as (one, old):
        old.knows(one)
        await one.linked(old)
        again = Node("n2")
        try:
            await again.start()
            again.knows(one)
            new = again.identity.incarnation
            await eventually(lambda: ("up", "n2", new) in one.events)
            before = one.events[: one.events.index(("up", "n2", new))]
            assert ("down", "n2") in before
        finally:
            again.peers.close()


@on_uvloop
async def test_any_broken_stream_ends_the_session_and_another_takes_over() -> None:
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        await two.linked(one)
        await eventually(lambda: one.peers.link(two.id).dialed and one.peers.link(two.id).accepted)
        session = one.peers.link(two.id).sending
        assert session is not None
        session.streams[Kind.COMMANDS]._transport.abort()  # as if the network had cut it
        await eventually(lambda: ("down", "n2") in one.events)
        assert session.streams[Kind.RAFT].broken
        await one.linked(two)
        await eventually(lambda: ("down", "n1") in two.events)
        await two.linked(one)
        one.say(two, 9)
        two.say(one, 8)
        await eventually(lambda: two.heard("n1") == [9] and one.heard("n2") == [8])
        kinds = [event[0] for event in one.told("up", "down")]
        assert kinds[:3] == ["up", "down", "up"]


@on_uvloop
async def test_one_that_is_no_member_any_more_keeps_its_link_for_a_moment() -> None:
    async with nodes("n1", "n2", "n3") as (one, two, three):
        await one.linked(two, three)
        one.knows(three)
        assert one.say(two, 1)
        await eventually(lambda: two.heard("n1") == [1])
        two.knows()  # it has learned that it is alone
        await eventually(lambda: ("down", "n2") in one.events)
        assert ("down", "n3") not in one.events


@on_uvloop
async def test_a_new_address_is_dialed() -> None:
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        two.peers.close()
        again = Node("n2", open=False)
        again.identity = replace(again.identity)
        try:
            await again.start()
            again.peers.open(again.identity, again)
            one.knows(again)
            await eventually(lambda: again.told("up") and one.peers.status(again.id).connected)
        finally:
            again.peers.close()


@on_uvloop
async def test_trouble_is_logged_once_a_minute() -> None:
    with capture_logs() as logs:
        async with nodes("n1", "n2", acquainted=False) as (one, two):
            two.identity = replace(two.identity, cluster_id="c2")
            two.peers.open(two.identity, two)
            one.knows(two)
            await eventually(lambda: "c2" in one.peers.status(two.id).last_error)
            first = one.peers.next_session()
            await eventually(lambda: one.peers.next_session() > first + 8)
    refused = [line for line in logs if line["event"] == "peer refuses this node"]
    assert len(refused) == 1
    assert refused[0]["peer"] == "n2"
    assert refused[0]["error"] == "it says: n2 belongs to cluster c2, and n1 to cluster c1"
    assert len([line for line in logs if line["event"] == "peer refused"]) == 1


@on_uvloop
async def test_a_peer_that_dials_is_dialed_back_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when the attempt before has just failed and the next would be long in coming."""
    monkeypatch.setattr(limits, "PEER_BACKOFF_MS_MIN", 3_600_000)
    monkeypatch.setattr(limits, "PEER_BACKOFF_MS_MAX", 3_600_000)
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        port, member = two.port, two.member
        two.peers.close()
        one.peers.set_members([member])
        await eventually(lambda: one.peers.status(member.id).last_error)
        again = Node("n2")
        try:
            await again.start(port)
            again.knows(one)
            await eventually(lambda: one.peers.link(again.id).dialed)
        finally:
            again.peers.close()
