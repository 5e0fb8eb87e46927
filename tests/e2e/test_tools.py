"""What tools, browsers and exporters do: they ask a server about itself, through redis-py here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.e2e.conftest import MakeCluster, MakeServer
from tests.e2e.process import ServerProcess, run
from tests.tools import find_tool


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[redis.Redis]:
    with redis.Redis(
        port=server.port, protocol=request.param, decode_responses=True, client_name="tool"
    ) as made:
        yield made


def test_info(client: redis.Redis) -> None:
    client.set("lock", "me")
    every = client.info("everything")
    assert (every["redis_mode"], every["role"], every["loading"]) == ("standalone", "master", 0)
    assert every["db0"]["keys"] >= 1
    assert client.info("commandstats")["cmdstat_info"]["calls"] >= 1
    assert set(client.info("clients")) < set(every)


def test_config(client: redis.Redis) -> None:
    assert client.config_set("timeout", 300, "slowlog-max-len", 64)
    found = client.config_get("timeout", "slowlog-*")
    assert found["timeout"] == "300"
    assert found["slowlog-max-len"] == "64"
    with pytest.raises(redis.ResponseError, match="can't set immutable config"):
        client.config_set("port", 1)
    assert client.config_set("timeout", 0)
    assert client.config_resetstat()
    assert client.info("stats")["total_connections_received"] == 0


def test_users(client: redis.Redis) -> None:
    assert client.acl_whoami() == "default"
    assert client.acl_users() == ["default"]
    assert client.acl_list() == ["user default on nopass ~* &* +@all"]
    user = client.acl_getuser("default")
    assert user["enabled"]
    assert "nopass" in user["flags"]
    assert client.acl_getuser("nobody") is None
    assert {"lock", "string", "admin"} <= set(client.acl_cat())
    assert "lock.acquire" in client.acl_cat("lock")


def test_memory_modules_and_snapshots(client: redis.Redis) -> None:
    stats = client.memory_stats()
    assert stats["peak.allocated"] >= stats["total.allocated"] > 2**20
    assert client.execute_command("MEMORY DOCTOR").startswith("This node takes little memory")
    assert client.memory_purge()
    assert client.module_list() == []
    before = client.lastsave()
    assert client.bgsave()
    assert client.save()
    assert client.lastsave() >= before


def test_connections(client: redis.Redis) -> None:
    [mine] = [each for each in client.client_list() if each["id"] == str(client.client_id())]
    assert mine["name"] == "tool"
    assert client.client_getredir() == -1
    with pytest.raises(redis.ResponseError, match="a lock must not be read from a cache"):
        client.execute_command("CLIENT TRACKING", "ON")


def test_a_pause(client: redis.Redis, server: ServerProcess) -> None:
    client.set("paused", "before")
    assert client.client_pause(60_000, all=False)
    with server.wire() as wire:
        wire.send("SET", "paused", "after")
        assert client.get("paused") == "before"
        assert client.client_unpause()
        assert wire.receive() == "OK"
    assert client.get("paused") == "after"


def test_monitor(client: redis.Redis) -> None:
    with client.monitor() as monitor:
        client.set("watched", "me")
        told = next(each for each in monitor.listen() if each["command"].startswith("SET"))
    assert (told["command"], told["db"]) == ("SET watched me", 0)


def test_slow_commands(make_server: MakeServer) -> None:
    server = make_server("--enable-debug-command").start()
    with redis.Redis(port=server.port, client_name="slow") as client:
        client.config_set("latency-monitor-threshold", 10)
        client.execute_command("DEBUG SLEEP", "0.02")
        [entry] = [each for each in client.slowlog_get(128) if b"DEBUG" in each["command"]]
        assert entry["command"] == b"DEBUG SLEEP 0.02"
        assert entry["duration"] >= 20_000
        assert entry["client_name"] == b"slow"
        longest_ms = {event: longest for event, _, _, longest in client.latency_latest()}
        assert longest_ms[b"command"] >= 20
        # A turn that takes long names one of its commands.
        client.config_set("slowlog-log-slower-than", 0)
        client.set("lock", "me")
        assert any(each["command"].startswith(b"SET") for each in client.slowlog_get())
        assert client.slowlog_reset()
        assert client.latency_reset() >= 1


def test_on_every_node_of_a_cluster(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, "--announce-cluster", "--on-follower=redirect").start()
    cli = find_tool("redis-cli")
    leader = cluster.leader()
    follower = next(node for node in cluster if node is not leader)
    check = run(cli, "--cluster", "check", f"{follower.host}:{follower.port}")
    assert check.status == 0, check
    assert "[OK] All nodes agree about slots configuration." in check.output
    assert "[OK] All 16384 slots covered." in check.output
    assert check.output.count("slots: (0 slots) slave") == 2
    at_follower = (cli, "-h", follower.host, "-p", str(follower.port))
    assert "MOVED" in run(*at_follower, "SET", "lock", "me").output
    assert run(*at_follower, "-c", "SET", "lock", "me").output == "OK\n"
    with redis.Redis(follower.host, follower.port) as client, client.monitor() as monitor:
        assert client.ping()
        told = [next(monitor.listen())["command"]]
        while told[-1] != "PING":  # behind what redis-py says first of itself
            told.append(next(monitor.listen())["command"])
