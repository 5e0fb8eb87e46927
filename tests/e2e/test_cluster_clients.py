"""Any client on any node: redis-py plain, asyncio, RedisCluster and Sentinel, in both protocols; what a
client is told while there is no leader, and when nobody knows what became of its command."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode as Place
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.e2e.cluster import ELECTION_TIMEOUT_MS, Cluster, ClusterNode
from tests.e2e.waiting import DEADLINE_S, eventually, now_ms
from tests.e2e.wire import Failure, Wire, by_field

NODES = ["leader", "follower"]
SLACK_MS = 1_500
"""How much later than it should something may come on a busy machine."""


def named(cluster: Cluster, which: str) -> ClusterNode:
    return cluster.leader() if which == "leader" else cluster.followers()[0]


def client(node: ClusterNode, **options: Any) -> redis.Redis:
    return redis.Redis(host=node.host, port=node.port, **options)


class TestPlain:
    """A client that knows one node, whichever that is."""

    @pytest.mark.parametrize("protocol", [2, 3])
    @pytest.mark.parametrize("which", NODES)
    def test_what_one_node_acknowledges_every_node_knows(
        self, cluster: Cluster, which: str, protocol: int
    ) -> None:
        key = f"known/{which}/{protocol}"
        with closing(client(named(cluster, which), protocol=protocol)) as here:
            granted = by_field(here.execute_command("LOCK.ACQUIRE", key, "me", "META", 1, "a", "b"))
            assert granted["status"] == b"granted"
            for node in cluster:
                info = by_field(node.call("LOCK.GET", key))
                assert (info["owner"], info["version"]) == (b"me", granted["version"])
                assert info["metadata"] == {b"a": b"b"}
                assert node.call("LOCK.CHECK", key, granted["version"]) == 1
            assert by_field(here.execute_command("LOCK.RELEASE", key, "me"))["released"] == 1
            assert [node.call("LOCK.GET", key) for node in cluster] == [None] * 3

    @pytest.mark.parametrize("which", NODES)
    def test_refusals_have_the_same_words(self, cluster: Cluster, which: str) -> None:
        key = f"refused/{which}"
        cluster.leader().call("LOCK.ACQUIRE", key, "me", "TTL", 0)
        with closing(client(named(cluster, which))) as here:
            held = by_field(here.execute_command("LOCK.ACQUIRE", key, "you"))
            assert (held["status"], held["owner"]) == (b"held", b"me")
            with pytest.raises(redis.ResponseError, match=r"^NOTOWNER .*'me' with version"):
                here.execute_command("LOCK.RELEASE", key, "you")
            with pytest.raises(redis.ResponseError, match=r"^STALE "):
                here.execute_command("LOCK.RENEW", key, "me", "VERSION", 10**9)
            with pytest.raises(redis.ResponseError, match=r"^NOTHELD "):
                here.execute_command("LOCK.RELEASE", f"{key}/free", "you")

    @pytest.mark.parametrize("protocol", [2, 3])
    @pytest.mark.parametrize("which", NODES)
    def test_a_pipeline_is_answered_in_its_order(
        self, cluster: Cluster, which: str, protocol: int
    ) -> None:
        """Commands of the node itself, reads and writes, mixed."""
        key = f"pipeline/{which}/{protocol}"
        with closing(client(named(cluster, which), protocol=protocol)) as here:
            pipe = here.pipeline(transaction=False)
            for number in range(100):
                pipe.echo(f"{number}")
                pipe.execute_command("LOCK.ACQUIRE", f"{key}/{number}", "me")
                pipe.execute_command("LOCK.GET", f"{key}/{number}")
                pipe.execute_command("LOCK.RELEASE", f"{key}/{number}", "me")
                pipe.execute_command("LOCK.GET", f"{key}/{number}")
            replies = pipe.execute()
        versions = []
        for number in range(100):
            echo, granted, info, released, gone = replies[5 * number : 5 * number + 5]
            assert echo == str(number).encode()
            versions.append(by_field(granted)["version"])
            assert by_field(info)["version"] == versions[-1]
            assert by_field(released)["released"] == 1
            assert gone is None
        assert versions == sorted(set(versions))

    async def test_asyncio_on_all_nodes_at_once(self, cluster: Cluster) -> None:
        """One owner for each lock, whoever asked where."""
        clients = [redis.asyncio.Redis(host=node.host, port=node.port) for node in cluster]
        winners: dict[int, list[bytes]] = {}
        for number in range(20):
            pipes = [each.pipeline(transaction=False) for each in clients]
            for place, pipe in enumerate(pipes):
                pipe.execute_command("LOCK.ACQUIRE", f"race/{number}", f"owner{place}")
            replies = [by_field((await pipe.execute())[0]) for pipe in pipes]
            winners[number] = [each["status"] for each in replies]
        for each in clients:
            await each.aclose()
        assert all(statuses.count(b"granted") == 1 for statuses in winners.values()), winners

    def test_a_request_is_the_same_on_every_node(self, cluster: Cluster) -> None:
        replies = [
            by_field(node.call("LOCK.ACQUIRE", "request", "me", "REQUEST", "request", "TTL", 0))
            for node in cluster
        ]
        assert len({reply["version"] for reply in replies}) == 1


class TestReadOnly:
    def test_a_follower_answers_from_its_own_table(self, cluster: Cluster) -> None:
        """Also while it cannot ask anybody."""
        leader, (follower, _) = cluster.leader(), cluster.followers()
        follower.call("LOCK.ACQUIRE", "own", "me", "TTL", 0)
        with follower.wire(protocol=3) as wire:
            assert wire.call("READONLY") == "OK"
            eventually(lambda: wire.call("GET", "own") is not None, "it was applied there")
            with paused(leader):
                began = now_ms()
                assert wire.call("GET", "own") == b"me"
                assert now_ms() - began < ELECTION_TIMEOUT_MS
            assert wire.call("READWRITE") == "OK"
            cluster.leader().call("LOCK.RELEASE", "own", "me")
            assert wire.call("GET", "own") is None

    def test_it_is_no_way_round_the_leader_for_writes(self, cluster: Cluster) -> None:
        with cluster.followers()[0].wire(protocol=3) as wire:
            wire.call("READONLY")
            granted = wire.map("LOCK.ACQUIRE", "written", "me")
        info = by_field(cluster.leader().call("LOCK.GET", "written"))
        assert info["version"] == granted["version"]


@contextmanager
def paused(*nodes: ClusterNode) -> Iterator[None]:
    for node in nodes:
        node.pause()
    try:
        yield
    finally:
        for node in nodes:
            node.resume()


class TestWithoutAMajority:
    def test_what_was_not_proposed_is_refused_and_never_happens(self, cluster: Cluster) -> None:
        """A follower holds it for two election timeouts, then says CLUSTERDOWN."""
        leader, (follower, other) = cluster.leader(), cluster.followers()
        with paused(leader, other), follower.wire(protocol=3) as wire:
            eventually(lambda: follower.status()["leader_id"] is None, "no leader is known")
            began = now_ms()
            reply = wire.call("LOCK.ACQUIRE", "down", "me", "TTL", 0)
            took_ms = now_ms() - began
            assert isinstance(reply, Failure)
            assert reply.code == "CLUSTERDOWN"
            assert took_ms < 2 * ELECTION_TIMEOUT_MS + SLACK_MS
            assert wire.call("LOCK.GET", "down").code == "CLUSTERDOWN"
            assert wire.map("RAFT.HEALTH")["status"] == b"NOT_SERVING"
            assert wire.call("PING") == "PONG"
        cluster.restore()
        assert [node.call("LOCK.GET", "down") for node in cluster] == [None] * 3

    def test_it_is_held_until_there_is_a_leader(self, cluster: Cluster) -> None:
        """A short absence of a leader is not the clients' business."""
        leader, (follower, _) = cluster.leader(), cluster.followers()
        with follower.wire(protocol=3) as wire:
            leader.kill9()
            eventually(lambda: follower.status()["leader_id"] != leader.id, "the leader is missed")
            assert wire.map("LOCK.ACQUIRE", "patience", "me")["status"] == b"granted"

    def test_what_was_proposed_is_in_doubt_and_may_be_asked_again(self, cluster: Cluster) -> None:
        """With the same REQUEST it has one effect, whichever node is asked."""
        leader, followers = cluster.leader(), cluster.followers()
        acquire = ("LOCK.ACQUIRE", "doubt", "me", "TTL", 0, "REQUEST", "doubt")
        with leader.wire(protocol=3) as wire:
            with paused(*followers):
                began = now_ms()
                reply = wire.call(*acquire)
                assert isinstance(reply, Failure)
                assert reply.code == "INDOUBT"
                assert now_ms() - began < 4 * ELECTION_TIMEOUT_MS + SLACK_MS
            cluster.leader()
            versions = {by_field(node.call(*acquire))["version"] for node in cluster}
        assert len(versions) == 1
        assert by_field(leader.call("LOCK.GET", "doubt"))["version"] == versions.pop()

    def test_a_question_is_never_in_doubt(self, cluster: Cluster) -> None:
        leader, followers = cluster.leader(), cluster.followers()
        with leader.wire(protocol=3) as wire, paused(*followers):
            reply = wire.call("LOCK.GET", "asked")
            assert isinstance(reply, Failure)
            assert reply.code == "CLUSTERDOWN"


def moved_to(reply: Any) -> tuple[int, str]:
    """The slot and the address of a redirection."""
    assert isinstance(reply, Failure), reply
    match = re.fullmatch(r"MOVED (\d+) (\S+:\d+)", reply)
    assert match, reply
    return int(match[1]), match[2]


def owner_in_slots(node: ClusterNode) -> str:
    """The node to which CLUSTER SLOTS gives all slots."""
    [[first, last, owner, *replicas]] = node.call("CLUSTER", "SLOTS")
    assert (first, last, len(replicas)) == (0, 16383, 2)
    return f"{owner[0].decode()}:{owner[1]}"


@pytest.fixture(scope="module")
def redirecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes whose followers redirect."""
    cluster = Cluster(tmp_path_factory.mktemp("redirecting"), 3, "--on-follower=redirect")
    try:
        yield cluster.start()
        cluster.assert_clean_logs()
    finally:
        cluster.discard()


class TestRedirection:
    def test_a_follower_names_the_leader(self, redirecting: Cluster) -> None:
        redirecting.restore()
        leader = redirecting.leader()
        address = f"{leader.host}:{leader.port}"
        for follower in redirecting.followers():
            with follower.wire(protocol=3) as wire:
                slot = wire.call("CLUSTER", "KEYSLOT", "moved")
                for words in (("LOCK.ACQUIRE", "moved", "me"), ("LOCK.GET", "moved")):
                    assert moved_to(wire.call(*words)) == (slot, address)
                assert owner_in_slots(follower) == address
                assert wire.call("READONLY") == "OK"
                assert moved_to(wire.call("LOCK.GET", "moved")) == (slot, address), "never stale"
                assert wire.call("GET", "moved") is None
        assert owner_in_slots(leader) == address
        assert by_field(leader.call("LOCK.ACQUIRE", "moved", "me"))["status"] == b"granted"

    def test_it_follows_a_failover(self, redirecting: Cluster) -> None:
        redirecting.restore()
        old = redirecting.leader()
        old.kill9()
        new = redirecting.leader()
        [follower] = [node for node in redirecting if node not in (old, new)]
        address = f"{new.host}:{new.port}"
        assert moved_to(follower.call("LOCK.GET", "moved"))[1] == address
        assert owner_in_slots(follower) == address
        old.start()
        eventually(lambda: isinstance(old.call("LOCK.GET", "moved"), Failure), "it follows")
        assert moved_to(old.call("LOCK.GET", "moved"))[1] == address


def follows_a_failover(cluster: Cluster, prefix: str, acquire: Callable[[str], Any]) -> None:
    """A client that was made once goes on after the leader was killed."""
    assert by_field(acquire(f"{prefix}/before"))["status"] == b"granted"
    leader = cluster.leader()
    leader.kill9()

    def acquired() -> bool:
        try:
            return by_field(acquire(f"{prefix}/after"))["status"] == b"granted"
        except redis.RedisError:
            return False

    eventually(acquired, "a grant after the failover")
    info = by_field(cluster.leader().call("LOCK.GET", f"{prefix}/after"))
    assert info["owner"] == b"me"
    leader.start()


class TestRedisCluster:
    @pytest.mark.parametrize("protocol", [2, 3])
    @pytest.mark.parametrize("mode", ["forward", "redirect"])
    def test_it_follows_a_failover(
        self, request: pytest.FixtureRequest, mode: str, protocol: int
    ) -> None:
        cluster = request.getfixturevalue("redirecting" if mode == "redirect" else "cluster")
        cluster.restore()
        places = [Place(node.host, node.port) for node in cluster.followers()]
        retry = Retry(ConstantBackoff(0.05), 3)
        with redis.RedisCluster(startup_nodes=places, protocol=protocol, retry=retry) as program:
            primary = program.get_node_from_key("any")
            assert (primary.host, primary.port) == (cluster.leader().host, cluster.leader().port)
            assert len(program.get_replicas()) == 2
            prefix = f"{protocol}/{mode}"
            follows_a_failover(
                cluster, prefix, lambda key: program.execute_command("LOCK.ACQUIRE", key, "me")
            )


class TestSentinel:
    @pytest.mark.parametrize("protocol", [2, 3])
    def test_it_follows_a_failover(self, cluster: Cluster, protocol: int) -> None:
        places = [(node.host, node.port) for node in cluster]
        options = {"protocol": protocol, "retry": Retry(ConstantBackoff(0.05), 3)}
        sentinel = Sentinel(places, sentinel_kwargs={"protocol": protocol}, **options)
        leader = cluster.leader()
        assert sentinel.discover_master("resplock") == (leader.host, leader.port)
        followers = sorted((node.host, node.port) for node in cluster.followers())
        assert sorted(sentinel.discover_slaves("resplock")) == followers
        with closing(sentinel.master_for("resplock")) as program:
            follows_a_failover(
                cluster,
                f"sentinel/{protocol}",
                lambda key: program.execute_command("LOCK.ACQUIRE", key, "me"),
            )

    def test_a_switch_is_published(self, cluster: Cluster) -> None:
        leader, (follower, _) = cluster.leader(), cluster.followers()
        with closing(client(follower, socket_timeout=DEADLINE_S)) as program:
            listener = program.pubsub(ignore_subscribe_messages=True)
            listener.subscribe("+switch-master")
            assert listener.get_message(timeout=DEADLINE_S) is None, "the subscription"
            leader.kill9()
            message = eventually(lambda: listener.get_message(timeout=1), "the message")
            listener.close()
        new = cluster.leader()
        assert message["data"] == (
            f"resplock {leader.host} {leader.port} {new.host} {new.port}".encode()
        )


class TestTruth:
    """What the nodes say of themselves."""

    def test_roles(self, cluster: Cluster) -> None:
        leader = cluster.leader()
        role, _, replicas = leader.call("ROLE")
        assert role == b"master"
        assert len(replicas) == 2
        for follower in cluster.followers():
            role, host, port, state, _ = follower.call("ROLE")
            assert (role, state) == (b"slave", b"connected")
            assert (host.decode(), port) == (leader.host, leader.port)

    def test_info_replication(self, cluster: Cluster) -> None:
        leader = cluster.leader()
        with closing(client(leader)) as program:
            info = program.info("replication")
        assert (info["role"], info["connected_slaves"]) == ("master", 2)
        with closing(client(cluster.followers()[0])) as program:
            info = program.info("replication")
        assert (info["role"], info["master_link_status"]) == ("slave", "up")
        assert (info["master_host"], info["master_port"]) == (leader.host, leader.port)

    def test_health(self, cluster: Cluster) -> None:
        leader = cluster.leader()
        for node in cluster:
            health = by_field(node.call("RAFT.HEALTH"))
            assert health["status"] == b"SERVING"
            assert health["leader"] == leader.id.encode()

    def test_a_leader_that_lost_its_followers_says_so(self, cluster: Cluster) -> None:
        leader = cluster.leader()
        with paused(*cluster.followers()), leader.wire(protocol=3) as wire:
            eventually(lambda: wire.map("RAFT.HEALTH")["status"] == b"NOT_SERVING", "not serving")
            assert wire.map("RAFT.STATUS")["role"] != b"leader"


def test_many_connections_to_a_follower(cluster: Cluster) -> None:
    """Each gets its own replies."""
    follower = cluster.followers()[0]
    wires = [Wire(follower.port, host=follower.host) for _ in range(100)]
    try:
        for number, wire in enumerate(wires):
            wire.send_bytes(
                b"".join(
                    b"*3\r\n$12\r\nLOCK.ACQUIRE\r\n$7\r\nm/%05d\r\n$2\r\nme\r\n"
                    % (number * 5 + part)
                    for part in range(5)
                )
            )
        versions = [
            [by_field(wire.receive())["version"] for _ in range(5)] for wire in reversed(wires)
        ]
    finally:
        for wire in wires:
            wire.close()
    assert all(each == sorted(set(each)) for each in versions)
    assert len({version for each in versions for version in each}) == 500
