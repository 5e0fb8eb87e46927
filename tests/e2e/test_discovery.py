"""redis-py's cluster and Sentinel clients and redis-cli find the leader, here of one node, and lock."""

from __future__ import annotations

import pytest
import redis
import redis.asyncio
from redis.cluster import RedisCluster
from redis.sentinel import MasterNotFoundError, Sentinel

from tests.e2e.conftest import MakeServer
from tests.e2e.process import ServerProcess, run
from tests.e2e.waiting import eventually
from tests.tools import find_tool

each_protocol = pytest.mark.parametrize("protocol", [2, 3])


@each_protocol
class TestCluster:
    def test_redis_py(self, server: ServerProcess, protocol: int) -> None:
        with RedisCluster("127.0.0.1", server.port, protocol=protocol) as client:
            [node] = client.get_nodes()
            assert (node.host, node.port, node.server_type) == ("127.0.0.1", server.port, "primary")
            key = f"cluster-{protocol}"
            granted = client.execute_command("LOCK.ACQUIRE", key, "me")
            assert b"granted" in (granted if protocol == 2 else granted.values())
            assert client.keyslot(key) == client.execute_command("CLUSTER KEYSLOT", key)

    async def test_redis_py_asyncio(self, server: ServerProcess, protocol: int) -> None:
        client = redis.asyncio.RedisCluster("127.0.0.1", server.port, protocol=protocol)
        async with client:
            held = await client.execute_command("LOCK.ACQUIRE", f"async-{protocol}", "me")
            assert b"granted" in (held if protocol == 2 else held.values())

    def test_what_redis_py_reads(self, server: ServerProcess, protocol: int) -> None:
        client = redis.Redis(port=server.port, protocol=protocol, decode_responses=True)
        with client:
            slots = client.execute_command("CLUSTER SLOTS")
            nodes = client.execute_command("CLUSTER NODES")
            [(address, node)] = nodes.items()
            assert address == f"127.0.0.1:{server.port}"
            assert node["node_id"] == client.execute_command("CLUSTER MYID")
            assert node["flags"] == "myself,master"
            assert node["slots"] == [["0", "16383"]]
            [[first, last, [host, port, name, _]]] = slots
            assert (first, last, host, port) == (0, 16383, "127.0.0.1", server.port)
            assert name == node["node_id"]
            info = client.execute_command("CLUSTER INFO")
            assert info["cluster_state"] == "ok"
            [shard] = client.execute_command("CLUSTER SHARDS")
            if protocol == 2:  # redis-py leaves this as it comes
                shard = dict(zip(shard[::2], shard[1::2], strict=True))
            assert shard["slots"] == [0, 16383]


@each_protocol
class TestSentinel:
    def test_redis_py(self, server: ServerProcess, protocol: int) -> None:
        sentinel = Sentinel([("127.0.0.1", server.port)], protocol=protocol)
        assert sentinel.discover_master("resplock") == ("127.0.0.1", server.port)
        assert sentinel.discover_slaves("resplock") == []
        with pytest.raises(MasterNotFoundError):
            sentinel.discover_master("mymaster")
        with sentinel.master_for("resplock", protocol=protocol) as master:
            held = master.execute_command("LOCK.ACQUIRE", f"sentinel-{protocol}", "me")
            assert b"granted" in (held if protocol == 2 else held.values())

    def test_a_subscription_to_its_events(self, server: ServerProcess, protocol: int) -> None:
        with (
            redis.Redis(port=server.port, protocol=protocol) as client,
            client.pubsub() as listener,
        ):
            listener.subscribe("+switch-master")
            listener.psubscribe("*down")
            kinds = [listener.get_message(timeout=20)["type"] for _ in range(2)]
            assert kinds == ["subscribe", "psubscribe"]
            assert client.pubsub_numsub("+switch-master")[0][1] >= 1


class TestRedisCli:
    def cli(self, server: ServerProcess, *words: str) -> str:
        done = run(find_tool("redis-cli"), "-p", str(server.port), *words)
        return done.output + done.errors

    def test_cluster_mode(self, server: ServerProcess) -> None:
        assert "granted" in self.cli(server, "-c", "LOCK.ACQUIRE", "cli", "me")

    def test_cluster_check_wants_the_announcement(self, make_server: MakeServer) -> None:
        plain, announced = make_server().start(), make_server("--announce-cluster").start()
        for server, works in [(plain, False), (announced, True)]:
            output = self.cli(server, "--cluster", "check", f"127.0.0.1:{server.port}")
            assert ("[OK] All 16384 slots covered." in output) is works, output

    def test_a_subscriber_that_is_killed_is_forgotten(self, server: ServerProcess) -> None:
        with redis.Redis(port=server.port) as client, client.pubsub() as listener:
            listener.subscribe("gone")
            assert listener.get_message(timeout=20) is not None
            assert client.pubsub_channels("gone") == [b"gone"]
            listener.connection._sock.close()
            eventually(lambda: client.pubsub_channels("gone") == [])
