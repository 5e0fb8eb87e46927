"""Servers that must not be linked, over real sockets: each is told why, and nobody else suffers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resplock.raft.configurations import tombstone
from resplock.server.peers import Refused, Unreachable, greeting
from resplock.server.peers.greeting import Kind
from resplock.server.peers.stream import dial
from tests.server.peers.nodes import Node, eventually, nodes, on_uvloop


def error_of(one: Node, other: Node) -> str:
    return one.peers.status(other.id).last_error


@on_uvloop
async def test_another_cluster() -> None:
    async with nodes("n1", Node("n2", cluster="c2")) as (one, two):
        await eventually(lambda: "cluster c2" in error_of(one, two))
        await eventually(lambda: "cluster c1" in error_of(two, one))
        assert one.events == two.events == []


@on_uvloop
async def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        other = greeting._MAGIC + bytes([9]) + b"\x93\x01\x02\x03"
        hello = greeting.hello(one.identity, Kind.RAFT, "n2", 1)
        with monkeypatch.context() as patched:
            patched.setattr(greeting, "encode", lambda _: patched.undo() or other)
            with pytest.raises(Refused, match="speaks version 1 of the protocol"):
                await dial("127.0.0.1", two.port, hello)
        assert two.events == []


@on_uvloop
async def test_one_who_was_meant_to_be_at_the_address_of_another() -> None:
    """What is meant for a server that is dead must not reach the one that has its address now."""
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        three = Node("n3")
        three.member = replace(three.member, peer_address=two.member.peer_address)
        one.knows(three)
        await eventually(lambda: "n3 was called, and this is n2" in error_of(one, three))
        assert one.events == two.events == []
        three.peers.close()


@on_uvloop
async def test_one_with_this_nodes_own_id() -> None:
    async with nodes("n1", Node("n1", uuid="another"), "n2", acquainted=False) as (one, twin, two):
        one.knows(two)
        two.knows(one)
        await two.linked(one)
        with pytest.raises(Refused, match="two servers must not have one id"):
            await dial("127.0.0.1", one.port, greeting.hello(twin.identity, Kind.RAFT, "n1", 1))
        assert two.told("down") == []


@on_uvloop
async def test_two_with_one_id_and_the_member_is_connected() -> None:
    """The one that the configuration names stays; the other is refused while that one is there."""
    async with nodes("n1", "n2", Node("n2", uuid="another"), acquainted=False) as (one, two, twin):
        one.knows(two)
        two.knows(one)
        await one.linked(two)
        twin.knows(one)
        await eventually(lambda: "two servers must not have one id" in error_of(twin, one))
        assert one.say(two, 1)
        await eventually(lambda: two.heard("n1") == [1])
        assert twin.told("up") == one.told("down") == []
        two.peers.close()
        await eventually(lambda: ("up", "n2", twin.identity.incarnation) in one.events)
        assert one.told("seen")[-1] == ("seen", twin.member)


@on_uvloop
async def test_a_wiped_member_is_seen_with_its_new_uuid_before_its_link_is_up() -> None:
    async with nodes("n1", Node("n2", uuid="new"), acquainted=False) as (one, two):
        old = Node("n2", uuid="old")
        old.member = replace(old.member, peer_address=two.member.peer_address)
        one.knows(old)
        await one.linked(two)
        assert one.events[:2] == [("seen", two.member), ("up", "n2", two.identity.incarnation)]
        assert one.peers.status(two.id).uuid == "new"
        old.peers.close()


@on_uvloop
async def test_a_removed_server_is_told_so() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        one.knows(removed=(tombstone(two.member),))
        two.knows(one)
        await eventually(lambda: two.told("removed"))
        assert two.told("removed")[0][1] == "n2 (uuid uuid-n2) was removed from the cluster"
        assert one.events == []


@on_uvloop
async def test_one_without_a_cluster_adopts_that_of_the_first_that_dials_it() -> None:
    async with nodes("n1", Node("n2", cluster=""), Node("n3", cluster="c3"), acquainted=False) as (
        one,
        two,
        three,
    ):
        one.knows(two)
        await one.linked(two)
        assert two.told("adopt") == [("adopt", "c1")]
        three.knows(two)
        await eventually(lambda: "n2 belongs to cluster c1" in error_of(three, two))
        assert len(two.told("adopt")) == 1


@on_uvloop
async def test_one_that_is_starting_answers_probes_and_nothing_else() -> None:
    async with nodes("n1", Node("n2", cluster="", open=False), acquainted=False) as (one, two):
        answer = await one.peers.probe("127.0.0.1", two.port)
        assert (answer.member, answer.cluster_id, answer.empty) == (two.member, "", True)
        one.knows(two)
        await eventually(lambda: "n2 is starting" in error_of(one, two))
        two.peers.open(two.identity, two)
        await one.linked(two)


@on_uvloop
async def test_a_probe_of_nobody_and_of_something_else() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        port = two.port
        two.peers.close()
        with pytest.raises(Unreachable, match="refused"):
            await one.peers.probe("127.0.0.1", port)


@on_uvloop
async def test_too_many_servers_that_are_no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resplock.limits.PEER_GUESTS_MAX", 2)
    found = ["n1", "g1", "g2", "g3", "n2"]
    async with nodes(*found, acquainted=False) as (one, first, second, third, two):
        one.knows(two)
        for guest in (first, second):
            guest.knows(one)
            await guest.linked(one)
        third.knows(one)
        await eventually(lambda: "too many servers" in error_of(third, one))
        two.knows(one)
        await two.linked(one)


@on_uvloop
async def test_a_message_in_the_name_of_another_ends_the_link() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        one.knows(two)
        await one.linked(two)
        one.peers.send(replace(one.message(two, 1), from_id="n3"))
        one.peers.flush()
        await eventually(lambda: ("down", "n1") in two.events)
        assert two.told("raft") == []
