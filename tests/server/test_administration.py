"""RAFT.ADD, REMOVE, TRANSFER, STATUS, PROPOSALS and HEALTH, as far as one node answers for them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from resplock.errors import CommandError
from resplock.node.administration import AddServer, RemoveServer, Transfer
from resplock.node.pipeline import Counts
from resplock.operations import Acquire, Done, NoLeader, Options
from resplock.raft.entries import Member
from resplock.server.latencies import Latencies
from resplock.server.peers import Hello, Identity, LinkStatus, Unreachable
from resplock.server.peers.greeting import Kind, Server
from resplock.types import LockName, NodeId
from tests.server.fakes import FakeClient, FakeServer
from tests.server.test_discovery import mapped, server_of
from tests.server.test_topology import core, member

CLUSTER = "c1"


class FakePeers:
    """A transport on which one server answers probes."""

    def __init__(self, server: Server | None, cluster: str = "") -> None:
        self.identity = Identity(member(1), 1, cluster_id=CLUSTER)
        self.probed: list[tuple[str, int]] = []
        self._server = server
        self._cluster = cluster

    def status(self, peer_id: str) -> LinkStatus:
        return LinkStatus(connected=peer_id != "n3", last_error="connection refused")

    async def probe(self, host: str, port: int) -> Hello:
        self.probed.append((host, port))
        await asyncio.sleep(0)
        if self._server is None:
            raise Unreachable("connection refused")
        return Hello(self._cluster, self._server, 1, Kind.PROBE)


NEW = Server(NodeId("n4"), "ab" * 16, "", "")


def server_with(peers: FakePeers) -> tuple[FakeServer, FakeClient]:
    server = FakeServer()
    server.context.peers = peers
    return server, server.connect()


async def added(peers: FakePeers, *words: bytes) -> tuple[FakeServer, list[Any]]:
    """The server, and what it has answered to RAFT.ADD before the cluster decides."""
    server, client = server_with(peers)
    client.call(b"RAFT.ADD", *words)
    for _ in range(5):
        await asyncio.sleep(0)
        server.loop.run()
    return server, client.take()


class TestAdd:
    async def test_a_new_server_is_added_by_its_uuid(self) -> None:
        peers = FakePeers(NEW)
        server, replies = await added(peers, b"n4", b"10.0.0.4:7379")
        assert replies == []
        assert peers.probed == [("10.0.0.4", 17379)]
        assert server.engine.administered == [
            AddServer(Member(NodeId("n4"), "ab" * 16, "10.0.0.4:7379", "10.0.0.4:17379"))
        ]

    async def test_the_reply_comes_when_the_cluster_has_decided(self) -> None:
        server, client = server_with(FakePeers(NEW))
        client.call(b"RAFT.ADD", b"n4", b"[fd00::4]:7379@9000")
        client.call(b"PING")
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.take() == []
        server.engine.deliver([Done()])
        server.loop.run()
        assert client.take() == [b"OK", b"PONG"]
        [request] = server.engine.administered
        assert request.member.peer_address == "[fd00::4]:9000"

    async def test_a_member_may_be_added_again(self) -> None:
        server, _ = await added(FakePeers(NEW, CLUSTER), b"n4", b"10.0.0.4:7379")
        assert len(server.engine.administered) == 1

    @pytest.mark.parametrize(
        ("peers", "words", "error"),
        [
            (FakePeers(NEW), (b"n4", b"10.0.0.4"), "'10.0.0.4' is not an address"),
            (FakePeers(NEW), (b"n4", b"0.0.0.0:7379"), "nobody can be reached at 0.0.0.0"),
            (FakePeers(NEW), (b"n 4", b"10.0.0.4:7379"), "'n 4' is not a node id"),
            (FakePeers(NEW), (b"\xff", b"10.0.0.4:7379"), "is not a node id"),
            (
                FakePeers(None),
                (b"n4", b"10.0.0.4:7379"),
                "n4 cannot be reached at 10.0.0.4:17379: connection refused",
            ),
            (FakePeers(NEW), (b"n5", b"10.0.0.4:7379"), "is called n4, not n5"),
            (FakePeers(NEW, "c2"), (b"n4", b"10.0.0.4:7379"), "belongs to another cluster, c2"),
        ],
    )
    async def test_refusals(self, peers: FakePeers, words: tuple[bytes, ...], error: str) -> None:
        server, [reply] = await added(peers, *words)
        assert str(reply).startswith("ERR ")
        assert error in str(reply)
        assert server.engine.administered == []

    async def test_who_has_gone_meanwhile_is_not_answered(self) -> None:
        server, client = server_with(FakePeers(None))
        client.call(b"RAFT.ADD", b"n4", b"10.0.0.4:7379")
        client.transport.lose()
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.received == b""
        assert not server.engine.administered


class TestRequests:
    @pytest.mark.parametrize(
        ("words", "request_"),
        [
            ((b"RAFT.REMOVE", b"n4"), RemoveServer(NodeId("n4"))),
            ((b"RAFT.TRANSFER",), Transfer()),
            ((b"RAFT.TRANSFER", b"n2"), Transfer(NodeId("n2"))),
        ],
    )
    @pytest.mark.parametrize(
        ("result", "reply"),
        [
            (Done(), "b'OK'"),
            (NoLeader(), "CLUSTERDOWN there is no leader; the command was not proposed"),
            (CommandError("not transferred: why"), "ERR not transferred: why"),
        ],
    )
    def test_they_are_answered_when_done(
        self, words: tuple[bytes, ...], request_: object, result: Any, reply: str
    ) -> None:
        server = FakeServer()
        client = server.connect()
        client.call(*words)
        client.call(b"PING")
        server.loop.run()
        assert client.take() == []
        assert server.engine.administered == [request_]
        server.engine.deliver([result])
        server.loop.run()
        first, second = client.take()
        assert (str(first), second) == (reply, b"PONG")


def ask(server: FakeServer, *argv: bytes) -> dict[str, Any]:
    client = server.connect()
    client.call(*argv)
    server.loop.run()
    [reply] = client.take()
    return mapped(reply)


class TestStatus:
    def test_the_peers_of_a_leader(self) -> None:
        server = server_of("n1", "n1", match={"n2": 40, "n3": 38})
        server.context.peers = FakePeers(None)
        state = server.engine.node.core
        peer = {
            "is_voter": True,
            "next_index": 41,
            "match_index": 38,
            "is_active": False,
            "last_active": 3,
            "snapshot_in_progress": True,
            "replication_lag": 2,
            "consecutive_failures": 4,
            "inflight_messages": 5,
        }
        full = SimpleNamespace(
            id="n1",
            role="leader",
            term=5,
            leader_id="n1",
            last_log_index=40,
            last_log_term=5,
            commit_index=40,
            last_applied=40,
            snapshot_index=0,
            snapshot_term=0,
            removed=False,
            transferring_to="n2",
            peers=(SimpleNamespace(id="n3", **peer),),
        )
        state.status = lambda: full
        shown = ask(server, b"RAFT.STATUS")
        assert (shown["role"], shown["removed"], shown["transferring_to"]) == (b"leader", 0, b"n2")
        assert mapped(shown["peers"][0]) == {
            "id": b"n3",
            "address": b"10.0.0.3:7379",
            "is_voter": 1,
            "next_index": 41,
            "match_index": 38,
            "is_active": 0,
            "last_active": 150,
            "snapshot_in_progress": 1,
            "replication_lag": 2,
            "consecutive_failures": 4,
            "connected": 0,
            "last_error": b"connection refused",
            "pending_rpcs": 5,
        }


class TestProposals:
    def test_what_is_shown(self) -> None:
        server = FakeServer()
        node = server.engine.node
        node.proposals = Counts(
            added=20, successful=8, in_doubt=3, refused=2, unserved=1, given_back=4
        )
        node.unresolved = 2
        server.engine.latencies = SimpleNamespace(average_ms=1.25, max_ms=7.0)
        assert ask(server, b"RAFT.PROPOSALS") == {
            "total": 16,
            "pending": 2,
            "successful": 8,
            "failed": 3,
            "cancelled": 2,
            "expired": 1,
            "average_latency_ms": b"1.25",
            "max_latency_ms": b"7",
        }

    def test_latencies(self) -> None:
        latencies, ms = Latencies(), 1_000_000
        assert (latencies.average_ms, latencies.max_ms) == (0, 0)
        latencies.began(2, 0)
        latencies.began(2, 10 * ms)
        assert latencies.ended(1, 10 * ms) == 0
        assert latencies.max_ms == 0, "a turn's commands count once all of them are answered"
        latencies.began(4, 10 * ms)
        assert latencies.ended(4, 30 * ms) == 30 * ms
        assert latencies.max_ms == 30
        assert latencies.average_ms == (2 * 30 + 2 * 20) / 4
        assert latencies.ended(4, 40 * ms) == 0
        assert latencies.average_ms == 25


class TestHealth:
    def health(self, server: FakeServer) -> tuple[str, str]:
        shown = ask(server, b"RAFT.HEALTH")
        return shown["status"].decode(), shown["message"].decode()

    def follower(self, leader: str | None, **status: Any) -> FakeServer:
        server = server_of("n2", leader)
        server.engine.node.core.status = lambda: SimpleNamespace(
            **{"removed": False, "peers": (), **status}
        )
        return server

    def test_a_leader(self) -> None:
        assert self.health(server_of("n1", "n1")) == ("SERVING", "this node leads")

    def test_it_counts_locks_and_those_who_wait(self) -> None:
        server = server_of("n1", "n1")
        name = LockName(b"\0orders")
        waiting = [Acquire(name, owner, options=Options(wait_ms=1)) for owner in (b"b", b"c")]
        server.engine.node.table.apply(1, 1, [Acquire(name, b"a"), *waiting])
        shown = ask(server, b"RAFT.HEALTH")
        assert (shown["locks"], shown["waiters"]) == (1, 2)

    def test_a_follower(self) -> None:
        server = self.follower("n1")
        assert self.health(server) == ("SERVING", "follows n1")
        server.context.peers = FakePeers(None)
        assert self.health(server) == ("SERVING", "follows n1")

    def test_a_follower_without_a_link_to_its_leader(self) -> None:
        server = self.follower("n3")
        server.context.peers = FakePeers(None)
        assert self.health(server) == (
            "NOT_SERVING",
            "follows n3, and has no link to it: connection refused",
        )

    def test_without_a_leader(self) -> None:
        assert self.health(self.follower(None)) == ("NOT_SERVING", "no leader is known")

    def test_a_node_that_was_removed(self) -> None:
        server = self.follower(None, removed=True)
        assert self.health(server) == ("NOT_SERVING", "this node was removed from the cluster")

    def test_a_node_that_waits(self) -> None:
        server = self.follower(None)
        state = core(None)
        state.is_leader, state.applied_index = False, 0
        state.status = server.engine.node.core.status
        server.engine.node.core = state
        assert self.health(server) == ("NOT_SERVING", "it waits for RAFT.ADD to bring it in")
