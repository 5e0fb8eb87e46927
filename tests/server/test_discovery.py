"""CLUSTER, SENTINEL, ROLE, HELLO and INFO on a leader, on a follower, and on a node without a leader."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resplock.server.clocks import now_ms, unix_ms
from resplock.server.peers import LinkStatus
from resplock.types import hash_slot, lock_name
from tests.server.fakes import FakeClient, FakeServer
from tests.server.test_topology import THREE, core, member


class FakePeers:
    """Links whose state a test sets."""

    def __init__(self, **links: LinkStatus) -> None:
        self.links = links

    def status(self, peer_id: str) -> LinkStatus:
        return self.links.get(peer_id, LinkStatus())


def server_of(
    me: str, leader: str | None, *, match: dict[str, int] | None = None, **more: Any
) -> FakeServer:
    """A node of three. `match`: on the leader, what each peer that works has of the log."""
    learners = more.pop("learners", ())
    server = FakeServer(node_id=me, **more)
    peers = tuple(
        SimpleNamespace(id=each.id, is_active=each.id in (match or {}), match_index=index)
        for each in (*THREE, *learners)
        if each.id != me
        for index in [(match or {}).get(each.id, 0)]
    )
    state = core(leader, *THREE, term=5, learners=learners)
    state.is_leader = leader == me
    state.applied_index = state.commit_index = 40
    status = SimpleNamespace(role="leader", peers=peers if state.is_leader else ())
    state.status = lambda: status
    server.engine.node.core = state
    return server


def ask(server: FakeServer, *argv: bytes, client: FakeClient | None = None) -> Any:
    client = client or server.connect()
    client.call(*argv)
    server.loop.run()
    [reply] = client.take()
    return reply


def mapped(reply: list[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def fields(text: bytes) -> dict[str, str]:
    lines = text.decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


@pytest.fixture
def leader() -> FakeServer:
    return server_of("n1", "n1", match={"n2": 40, "n3": 38})


@pytest.fixture
def follower() -> FakeServer:
    return server_of("n2", "n1")


@pytest.fixture
def lost() -> FakeServer:
    """A follower whose leader has gone."""
    server = server_of("n2", "n1")
    ask(server, b"ROLE")
    server.engine.node.core.leader_id = None
    return server


@pytest.fixture
def newborn() -> FakeServer:
    """A node that has never heard of a leader."""
    return server_of("n2", None)


class TestCluster:
    def test_slots_are_the_leaders_on_every_node(
        self, leader: FakeServer, follower: FakeServer, lost: FakeServer
    ) -> None:
        [[first, last, *nodes]] = ask(leader, b"CLUSTER", b"SLOTS")
        assert (first, last) == (0, 16383)
        assert [node[:2] for node in nodes] == [
            [b"10.0.0.1", 7379],
            [b"10.0.0.2", 7379],
            [b"10.0.0.3", 7379],
        ]
        assert all(len(name) == 40 and metadata == [] for _, _, name, metadata in nodes)
        assert ask(follower, b"CLUSTER", b"SLOTS") == ask(lost, b"CLUSTER", b"SLOTS")
        assert ask(follower, b"CLUSTER", b"SLOTS") == [[first, last, *nodes]]

    def test_slots_of_nobody(self, newborn: FakeServer) -> None:
        assert ask(newborn, b"CLUSTER", b"SLOTS") == []

    def test_the_metadata_is_a_map(self, leader: FakeServer) -> None:
        client = leader.connect()
        ask(leader, b"HELLO", b"3", client=client)
        before = len(client.received)
        client.call(b"CLUSTER", b"SLOTS")
        leader.loop.run()
        assert client.received[before:].endswith(b"\r\n%0\r\n")

    def test_a_learner_is_no_replica(self) -> None:
        server = server_of("n1", "n1", match={"n2": 1}, learners=(member(4),))
        [[_, _, *nodes]] = ask(server, b"CLUSTER", b"SLOTS")
        assert len(nodes) == 3
        [shard] = ask(server, b"CLUSTER", b"SHARDS")
        shown = [mapped(node) for node in mapped(shard)["nodes"]]
        assert [node["health"] for node in shown] == [b"online", b"online", b"fail", b"fail"]

    def test_shards(self, leader: FakeServer, lost: FakeServer, newborn: FakeServer) -> None:
        [shard] = ask(leader, b"CLUSTER", b"SHARDS")
        assert mapped(shard)["slots"] == [0, 16383]
        shown = [mapped(node) for node in mapped(shard)["nodes"]]
        name = ask(leader, b"CLUSTER", b"MYID")
        assert shown[0] == {
            "id": name,
            "port": 7379,
            "ip": b"10.0.0.1",
            "endpoint": b"10.0.0.1",
            "role": b"master",
            "replication-offset": 40,
            "health": b"online",
        }
        assert [node["replication-offset"] for node in shown] == [40, 40, 38]
        assert [node["role"] for node in shown] == [b"master", b"replica", b"replica"]
        assert mapped(ask(lost, b"CLUSTER", b"SHARDS")[0])["slots"] == [0, 16383]
        assert mapped(ask(newborn, b"CLUSTER", b"SHARDS")[0])["slots"] == []

    def test_nodes(self, follower: FakeServer) -> None:
        follower.context.peers = FakePeers(n1=LinkStatus(True), n3=LinkStatus(last_error="refused"))
        lines = ask(follower, b"CLUSTER", b"NODES").decode().splitlines()
        [one, two, three] = [line.split(" ") for line in lines]
        assert one[1:4] == ["10.0.0.1:7379@17379", "master", "-"]
        assert one[4:] == ["0", "0", "5", "connected", "0-16383"]
        assert two[1:3] == ["10.0.0.2:7379@17379", "myself,slave"]
        assert two[3] == three[3] == one[0]
        assert two[0] == ask(follower, b"CLUSTER", b"MYID").decode()
        assert three[2] == "slave,fail"
        assert three[7:] == ["disconnected"]

    def test_nodes_without_a_leader(self, newborn: FakeServer) -> None:
        lines = ask(newborn, b"CLUSTER", b"NODES").decode().splitlines()
        assert [line.split(" ")[3] for line in lines] == ["-"] * 3
        assert not any("0-16383" in line or "master" in line for line in lines)

    @pytest.mark.parametrize(
        ("which", "state", "assigned", "ok"),
        [
            ("leader", "ok", "16384", "16384"),
            ("follower", "ok", "16384", "16384"),
            ("lost", "fail", "16384", "0"),
            ("newborn", "fail", "0", "0"),
        ],
    )
    def test_info(
        self, request: pytest.FixtureRequest, which: str, state: str, assigned: str, ok: str
    ) -> None:
        shown = fields(ask(request.getfixturevalue(which), b"CLUSTER", b"INFO"))
        assert shown["cluster_state"] == state
        assert shown["cluster_slots_assigned"] == assigned
        assert shown["cluster_slots_ok"] == ok
        assert shown["cluster_known_nodes"] == "3"
        assert shown["cluster_size"] == "1"
        assert shown["cluster_current_epoch"] == "5"

    def test_links(self, leader: FakeServer) -> None:
        assert ask(leader, b"CLUSTER", b"LINKS") == []
        leader.context.peers = FakePeers(n2=LinkStatus(True, since_ms=now_ms(), unsent_bytes=7))
        [link] = map(mapped, ask(leader, b"CLUSTER", b"LINKS"))
        assert (link["direction"], link["send-buffer-used"]) == (b"to", 7)
        assert 0 <= unix_ms() - link["create-time"] < 20_000

    def test_ids(self, leader: FakeServer, follower: FakeServer) -> None:
        assert ask(leader, b"CLUSTER", b"MYID") != ask(follower, b"CLUSTER", b"MYID")
        shard = ask(leader, b"CLUSTER", b"MYSHARDID")
        assert shard == ask(follower, b"CLUSTER", b"MYSHARDID")
        assert len(shard) == 40

    @pytest.mark.parametrize(
        ("key", "slot"),
        [(b"foo", 12182), (b"", 0), (b"{user1000}.following", 3443), (b"123456789", 12739)],
    )
    def test_keyslot(self, leader: FakeServer, key: bytes, slot: int) -> None:
        assert ask(leader, b"CLUSTER", b"KEYSLOT", key) == slot

    def test_keys_in_a_slot(self, leader: FakeServer) -> None:
        client = leader.connect()
        for number in range(5):
            client.call(b"LOCK.ACQUIRE", b"{t}%d" % number, b"me")
        leader.settle()
        slot = b"%d" % hash_slot(lock_name(0, b"t"))
        assert ask(leader, b"CLUSTER", b"COUNTKEYSINSLOT", slot) == 5
        assert ask(leader, b"CLUSTER", b"COUNTKEYSINSLOT", b"0") == 0
        assert ask(leader, b"CLUSTER", b"GETKEYSINSLOT", slot, b"3") == [b"{t}0", b"{t}1", b"{t}2"]
        assert ask(leader, b"CLUSTER", b"GETKEYSINSLOT", slot, b"0") == []
        assert "from 0 to 16383" in str(ask(leader, b"CLUSTER", b"COUNTKEYSINSLOT", b"16384"))

    def test_what_would_change_the_cluster_is_refused(self, leader: FakeServer) -> None:
        for name in (b"MEET", b"FAILOVER", b"ADDSLOTS", b"RESET"):
            reply = str(ask(leader, b"CLUSTER", name))
            assert reply.startswith("ERR resplock is one shard")
            assert f"no CLUSTER {name.decode()}, see" in reply

    def test_readonly_is_kept_until_reset(self, follower: FakeServer) -> None:
        client = follower.connect()
        for words, read_only in [
            ([b"READONLY"], True),
            ([b"READWRITE"], False),
            ([b"READONLY"], True),
            ([b"ASKING"], True),
            ([b"RESET"], False),
        ]:
            assert ask(follower, *words, client=client) in (b"OK", b"RESET")
            assert client.connection.read_only is read_only


class TestReadonly:
    def test_reads_are_of_the_nodes_own_state(self, follower: FakeServer) -> None:
        client = follower.connect()
        ask(follower, b"READONLY", client=client)
        for words, expected in [([b"GET", b"k"], None), ([b"MGET", b"k"], [None])]:
            assert ask(follower, *words, client=client) == expected
        assert not follower.engine.waiting, "nobody else was asked"

    def test_reads_of_locks_stay_up_to_date(self, follower: FakeServer) -> None:
        client = follower.connect()
        ask(follower, b"READONLY", client=client)
        client.call(b"LOCK.CHECK", b"k", b"1")
        follower.loop.run()
        assert client.take() == [], "the leader is asked"

    def test_errors_too(self, follower: FakeServer) -> None:
        client = follower.connect()
        ask(follower, b"READONLY", client=client)
        reply = ask(follower, b"SCAN", b"nonsense", client=client)
        assert "invalid cursor" in str(reply)

    def test_in_the_order_of_the_pipeline(self, follower: FakeServer) -> None:
        client = follower.connect()
        for words in (
            [b"LOCK.ACQUIRE", b"k", b"me"],
            [b"GET", b"k"],
            [b"READONLY"],
            [b"GET", b"k"],
            [b"LOCK.RELEASE", b"k", b"me"],
            [b"GET", b"k"],
            [b"READWRITE"],
            [b"GET", b"k"],
        ):
            client.call(*words)
        assert client.take() == []
        follower.settle()
        granted, *rest = client.take()
        assert granted[1] == b"granted"
        assert rest[:3] == [b"me", b"OK", b"me"]
        assert rest[4:] == [None, b"OK", None]

    def test_what_is_read_at_once_waits_for_what_the_leader_is_asked(
        self, follower: FakeServer
    ) -> None:
        client = follower.connect()
        client.call(b"LOCK.ACQUIRE", b"k", b"me")
        follower.settle()
        client.take()
        ask(follower, b"READONLY", client=client)
        for words in ([b"GET", b"k"], [b"LOCK.CHECK", b"k", b"1"], [b"GET", b"k"]):
            client.call(*words)
        follower.settle()
        assert client.take() == [b"me", 1, b"me"]

    def test_muted_with_everything_else(self, follower: FakeServer) -> None:
        client = follower.connect()
        ask(follower, b"READONLY", client=client)
        client.call(b"CLIENT", b"REPLY", b"SKIP")
        client.call(b"GET", b"k")
        client.call(b"PING")
        follower.loop.run()
        assert client.take() == [b"PONG"]


class TestSentinel:
    MASTER = b"resplock"

    def test_the_address(
        self, leader: FakeServer, follower: FakeServer, lost: FakeServer, newborn: FakeServer
    ) -> None:
        words = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME")
        for server in (leader, follower, lost):
            assert ask(server, *words, self.MASTER) == [b"10.0.0.1", b"7379"]
        assert ask(newborn, *words, self.MASTER) is None
        assert ask(leader, *words, b"mymaster") is None

    def test_the_master(self, leader: FakeServer, follower: FakeServer, lost: FakeServer) -> None:
        master = mapped(ask(leader, b"SENTINEL", b"MASTER", self.MASTER))
        assert (master["name"], master["ip"], master["port"]) == (b"resplock", b"10.0.0.1", b"7379")
        assert master["flags"] == b"master"
        assert (master["num-slaves"], master["num-other-sentinels"]) == (b"2", b"2")
        assert (master["quorum"], master["config-epoch"]) == (b"2", b"5")
        assert all(isinstance(value, bytes) for value in master.values())
        assert [mapped(each) for each in ask(leader, b"SENTINEL", b"MASTERS")] == [master]
        assert mapped(ask(follower, b"SENTINEL", b"MASTER", self.MASTER)) == master
        assert mapped(ask(lost, b"SENTINEL", b"MASTER", self.MASTER))["flags"] == (
            b"s_down,o_down,master"
        )

    def test_before_a_leader_is_known_this_node_stands_in_as_down(
        self, newborn: FakeServer
    ) -> None:
        [master] = map(mapped, ask(newborn, b"SENTINEL", b"MASTERS"))
        assert (master["ip"], master["flags"]) == (b"10.0.0.2", b"s_down,o_down,master")

    @pytest.mark.parametrize("name", [b"REPLICAS", b"SLAVES"])
    def test_the_replicas(self, leader: FakeServer, name: bytes) -> None:
        two, three = map(mapped, ask(leader, b"SENTINEL", name, self.MASTER))
        assert (two["name"], two["ip"], two["port"]) == (b"10.0.0.2:7379", b"10.0.0.2", b"7379")
        assert (two["flags"], two["master-link-status"]) == (b"slave", b"ok")
        assert (two["master-host"], two["slave-repl-offset"]) == (b"10.0.0.1", b"40")
        assert three["slave-repl-offset"] == b"38"

    def test_a_replica_that_is_down(self) -> None:
        server = server_of("n1", "n1", match={"n2": 40})
        two, three = map(mapped, ask(server, b"SENTINEL", b"REPLICAS", self.MASTER))
        assert two["flags"] == b"slave"
        assert three["flags"] == b"s_down,slave,disconnected"
        assert three["master-link-status"] == b"err"

    def test_the_other_sentinels(self, follower: FakeServer) -> None:
        shown = [mapped(each) for each in ask(follower, b"SENTINEL", b"SENTINELS", self.MASTER)]
        assert [each["ip"] for each in shown] == [b"10.0.0.1", b"10.0.0.3"]
        assert ask(follower, b"SENTINEL", b"MYID") not in [each["runid"] for each in shown]

    def test_the_quorum(self) -> None:
        words = (b"SENTINEL", b"CKQUORUM", self.MASTER)
        good = server_of("n1", "n1", match={"n2": 1})
        assert ask(good, *words) == (
            b"OK 2 usable Sentinels. Quorum and failover authorization can be reached"
        )
        reply = str(ask(server_of("n1", "n1", match={}), *words))
        assert reply.startswith("NOQUORUM 1 usable Sentinels. Not enough")

    @pytest.mark.parametrize("name", [b"MASTER", b"REPLICAS", b"SLAVES", b"SENTINELS", b"CKQUORUM"])
    def test_another_name(self, leader: FakeServer, name: bytes) -> None:
        assert str(ask(leader, b"SENTINEL", name, b"mymaster")) == (
            "ERR No such master with that name"
        )


class TestRoles:
    def test_role(
        self, leader: FakeServer, follower: FakeServer, lost: FakeServer, newborn: FakeServer
    ) -> None:
        replicas = [[b"10.0.0.2", b"7379", b"40"], [b"10.0.0.3", b"7379", b"38"]]
        assert ask(leader, b"ROLE") == [b"master", 40, replicas]
        assert ask(follower, b"ROLE") == [b"slave", b"10.0.0.1", 7379, b"connected", 40]
        assert ask(lost, b"ROLE") == [b"slave", b"10.0.0.1", 7379, b"connect", 40]
        assert ask(newborn, b"ROLE") == [b"slave", b"", 0, b"connect", 40]

    def test_a_replica_that_is_down_is_none(self) -> None:
        server = server_of("n1", "n1", match={"n3": 7})
        assert ask(server, b"ROLE")[2] == [[b"10.0.0.3", b"7379", b"7"]]
        shown = fields(ask(server, b"INFO", b"replication"))
        assert shown["connected_slaves"] == "1"

    def test_info_replication(self, leader: FakeServer, follower: FakeServer) -> None:
        shown = fields(ask(leader, b"INFO", b"replication"))
        assert (shown["role"], shown["connected_slaves"]) == ("master", "2")
        assert shown["slave1"] == "ip=10.0.0.3,port=7379,state=online,offset=38,lag=0"
        assert shown["master_repl_offset"] == "40"
        other = fields(ask(follower, b"INFO", b"replication"))
        assert (other["role"], other["master_link_status"]) == ("slave", "up")
        assert (other["master_host"], other["master_port"]) == ("10.0.0.1", "7379")
        assert other["slave_repl_offset"] == "40"
        assert other["master_replid"] == shown["master_replid"]

    def test_info_replication_without_a_leader(self, lost: FakeServer, newborn: FakeServer) -> None:
        assert fields(ask(lost, b"INFO", b"replication"))["master_link_status"] == "down"
        shown = fields(ask(newborn, b"INFO", b"replication"))
        assert (shown["master_host"], shown["master_port"]) == ("", "0")

    @pytest.mark.parametrize(
        ("announce", "mode", "enabled"), [(False, b"standalone", "0"), (True, b"cluster", "1")]
    )
    def test_what_it_says_it_is(self, announce: bool, mode: bytes, enabled: str) -> None:
        for me in ("n1", "n2"):
            server = server_of(me, "n1", match={}, announce_cluster=announce)
            greeting = mapped(ask(server, b"HELLO", b"2"))
            assert greeting["mode"] == mode
            assert greeting["role"] == (b"master" if me == "n1" else b"replica")
            info = fields(ask(server, b"INFO"))
            assert info["redis_mode"] == mode.decode()
            assert info["cluster_enabled"] == enabled
            assert ask(server, b"CLUSTER", b"SLOTS") != []
