"""Locks over three nodes, whose leader dies: with every kind of client that finds its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from tests.client.programs import Program
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import MakeCluster
from tests.e2e.waiting import eventually
from tests.e2e.wire import by_field

pytestmark = pytest.mark.e2e

TTL_S = 6.0
"""Longer than a failover with the slowest client takes."""

Connect = Callable[[Program, Cluster], Any]


def follower(program: Program, cluster: Cluster) -> Any:
    """One client, of a node that stays."""
    return program.client(cluster.followers()[0].port)


def every_node(program: Program, cluster: Cluster) -> Any:
    """A client for each node, the leader first."""
    nodes = [cluster.leader(), *cluster.followers()]
    return [program.client(node.port, retry=retry(program)) for node in nodes]


def cluster_client(program: Program, cluster: Cluster) -> Any:
    module = redis.asyncio.cluster if program.is_async else redis.cluster
    nodes = [module.ClusterNode(node.host, node.port) for node in cluster]
    return program.keep(module.RedisCluster(startup_nodes=nodes))


def sentinel_client(program: Program, cluster: Cluster) -> Any:
    module = redis.asyncio.sentinel if program.is_async else redis.sentinel
    nodes = [(node.host, node.port) for node in cluster]
    once = {"retry": retry(program)}  # else redis-py tries a dead node for seconds
    sentinel = module.Sentinel(nodes, sentinel_kwargs=once)
    for each in sentinel.sentinels:
        program.keep(each)
    return program.keep(sentinel.master_for("resplock", **once))


def retry(program: Program) -> Any:
    module: Any = redis.asyncio.retry if program.is_async else redis.retry
    return module.Retry(NoBackoff(), 0)


CONNECT = [follower, every_node, cluster_client, sentinel_client]


async def in_background(program: Program, lock: Any) -> bool:
    if program.is_async:
        return await lock.lock.acquire()
    return await asyncio.to_thread(lock.lock.acquire)


@pytest.mark.parametrize("connect", CONNECT)
async def test_the_leader_dies_and_the_lock_stays(
    cluster: Cluster, program: Program, name: str, connect: Connect
) -> None:
    """It is renewed at the new leader, a waiter keeps its place there, and versions go on rising."""
    client = connect(program, cluster)
    holder, waiter = (program.lock(client, name, TTL_S, thread_local=False) for _ in range(2))
    assert await holder.acquire()
    version = holder.version
    waiting = asyncio.create_task(in_background(program, waiter))
    leader, witness = cluster.leader(), cluster.followers()[0]

    def info() -> dict[str, Any]:
        return by_field(witness.call("LOCK.GET", name))

    await asyncio.to_thread(eventually, lambda: info()["waiter_count"] == 1)
    leader.kill9()
    await asyncio.to_thread(eventually, lambda: cluster.leader() is not leader)
    at_failover = info()["last_modified"]
    await asyncio.to_thread(eventually, lambda: info()["last_modified"] > at_failover)
    assert not holder.lost
    assert await holder.owned()
    assert not waiting.done()
    await holder.release()
    assert await waiting
    assert waiter.version > version
    await waiter.release()


@pytest.mark.parametrize("connect", [follower, every_node, cluster_client])
async def test_nodes_that_redirect_are_followed(
    make_cluster: MakeCluster, program: Program, name: str, connect: Connect
) -> None:
    cluster = make_cluster(3, "--on-follower=redirect").start()
    client = connect(program, cluster)
    async with program.lock(client, name) as lock:
        assert await lock.owned()
        assert await lock.extend(5)
    cluster.leader().call("RAFT.TRANSFER")
    async with program.lock(client, name) as lock:
        assert await lock.owned()
