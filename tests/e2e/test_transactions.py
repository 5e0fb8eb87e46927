"""Transactions for real: two connections against a redis-server, redis-py's pipelines on one node and
through the nodes of a cluster, and counters that stay exact while the leader is killed."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.e2e.cluster import Cluster, ClusterNode
from tests.e2e.conftest import MakeCluster
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import DEADLINE_S, eventually
from tests.e2e.wire import by_field
from tests.redis_process import RedisProcess

# --- as a redis-server -----------------------------------------------------------------------------


class Link:
    """A connection to either server, over which replies are read as clients read them."""

    def __init__(self, stack: ExitStack, link: socket.socket) -> None:
        self._socket = stack.enter_context(closing(link))
        self._reader = hiredis.Reader()

    def ask(self, *words: str) -> Any:
        self._socket.sendall(hiredis.pack_command(words))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65_536))
        return reply

    def let_run_out(self, key: str) -> None:
        """Set a key for a moment, until it is over."""
        self.ask("SET", key, "short", "PX", "1")
        eventually(lambda: self.ask("EXISTS", key) == 0)


def connected(server: ServerProcess) -> socket.socket:
    link = socket.create_connection((server.host, server.port), DEADLINE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


@pytest.fixture(scope="module")
def real_redis() -> Iterator[RedisProcess]:
    process = RedisProcess()
    yield process
    process.stop()


KEYS = ["a", "b"]
CHANGES = ["SET", "SET", "DEL", "INCR", "EXPIRE", "PERSIST", "APPEND", "MSET", "GETEX", "EVAL"]
READS = ["GET", "EXISTS", "TTL", "MGET"]
MODES = ["MULTI", "EXEC", "EXEC", "DISCARD", "WATCH", "WATCH", "UNWATCH"]
SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1])"


def draw(rng: random.Random) -> list[str]:
    """A command; `EXPIRING` is none, but tells to let a key run out."""
    key, value = rng.choice(KEYS), rng.choice(["1", "22", "x"])
    name = rng.choice(rng.choice([CHANGES, CHANGES, READS, MODES, MODES, ["EXPIRING"]]))
    match name:
        case "SET":
            return [
                name,
                key,
                value,
                *rng.choice([[], [], ["NX"], ["XX"], ["EX", "99"], ["WRONG"]]),
            ]
        case "EXPIRE":
            return [name, key, rng.choice(["100", "-1"]), *rng.choice([[], ["NX"], ["GT"]])]
        case "MSET":
            return [name, "a", value, "b", value]
        case "APPEND":
            return [name, key, value]
        case "GETEX":
            return [name, key, *rng.choice([[], ["PERSIST"], ["EX", "88"]])]
        case "EVAL":
            return [name, SCRIPT, "1", key, value]
        case "WATCH" | "MGET" | "EXISTS" | "DEL":
            return [name, *rng.sample(KEYS, rng.randint(1, 2))]
        case "MULTI" | "EXEC" | "DISCARD" | "UNWATCH":
            return [name]
        case _:
            return [name, key]


@pytest.mark.parametrize("seed", range(5))
def test_two_connections_are_answered_as_by_redis(
    server: ServerProcess, real_redis: RedisProcess, seed: int
) -> None:
    rng = random.Random(seed)
    with ExitStack() as stack:
        ours = [Link(stack, connected(server)) for _ in range(3)]
        theirs = [Link(stack, real_redis.connect()) for _ in range(3)]
        for link in (ours[2], theirs[2]):
            link.ask("FLUSHALL")
        for step in range(150):
            which, words = rng.randrange(2), draw(rng)
            if words[0] == "EXPIRING":
                for link in (ours[2], theirs[2]):
                    link.let_run_out(words[1])
                continue
            our_reply, their_reply = ours[which].ask(*words), theirs[which].ask(*words)
            assert repr(our_reply) == repr(their_reply), (step, which, words)


# --- redis-py --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_pipelines_of_redis_py(server: ServerProcess, protocol: int) -> None:
    key = f"pipeline/{protocol}"
    with (
        redis.Redis(port=server.port, protocol=protocol) as client,
        redis.Redis(port=server.port) as other,
        client.pipeline(transaction=True) as pipe,
    ):
        assert pipe.set(key, 1).incr(key).get(key).execute() == [True, 2, b"2"]
        pipe.watch(key)
        assert pipe.get(key) == b"2"
        pipe.multi()
        assert pipe.incr(key).execute() == [3]
        pipe.watch(key)
        other.set(key, "7")
        pipe.multi()
        pipe.incr(key)
        with pytest.raises(redis.WatchError):
            pipe.execute()
        assert client.get(key) == b"7"
        pipe.set(key, "words").incr(key).get(key)
        with pytest.raises(redis.ResponseError, match=r"Command # 2 .* not an integer"):
            pipe.execute()
        assert client.get(key) == b"words"
        pipe.delete(key).execute_command("NOSUCH")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            pipe.execute()
        assert client.get(key) == b"words", "it was not run"
        _, info = pipe.set(key, "me").execute_command("LOCK.GET", key).execute()
        assert by_field(info)["owner"] == b"me"
        assert client.transaction(lambda each: (each.multi(), each.set(key, "9")), key) == [True]


async def test_a_pipeline_of_redis_py_in_asyncio(server: ServerProcess) -> None:
    async with (
        redis.asyncio.Redis(port=server.port) as client,
        client.pipeline(transaction=True) as pipe,
    ):
        assert await pipe.set("asyncio", 1).incr("asyncio").execute() == [True, 2]


def count_up(node: ClusterNode, key: str, times: int, told: list[str]) -> None:
    """Increment as the documentation of redis-py shows it; note what came of each."""
    retry = Retry(NoBackoff(), 0)
    with redis.Redis(host=node.host, port=node.port, retry=retry) as client:
        for _ in range(times):
            try:
                client.transaction(
                    lambda pipe: (
                        value := pipe.get(key),
                        pipe.multi(),
                        pipe.set(key, int(value) + 1),
                    ),
                    key,
                )
                told.append("done")
            except redis.ResponseError as error:
                told.append(str(error).split()[0])
            except redis.ConnectionError:
                told.append("lost")


def run(
    counters: list[tuple[ClusterNode, list[str]]], key: str, times: int
) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=count_up, args=(node, key, times, told)) for node, told in counters
    ]
    for thread in threads:
        thread.start()
    return threads


def test_counters_on_all_nodes_lose_no_increment(cluster: Cluster) -> None:
    """Each reads, computes and writes; WATCH makes that one step, whichever node is asked."""
    cluster.leader().call("SET", "counter", 0)
    counters: list[tuple[ClusterNode, list[str]]] = [(node, []) for node in cluster]
    for thread in run(counters, "counter", 15):
        thread.join()
    assert [told for _, told in counters] == [["done"] * 15] * 3
    assert [node.call("GET", "counter") for node in cluster] == [b"45"] * 3


def test_a_killed_leader_leaves_a_transaction_whole(make_cluster: MakeCluster) -> None:
    """Two keys that are always set together are equal on every node, and no increment is lost."""
    cluster = make_cluster().start()
    leader, *others = cluster.leader(), *cluster.followers()
    leader.call("MSET", "one", 0, "other", 0)
    told: list[str] = []
    began = threading.Event()

    def write(node: ClusterNode) -> None:
        retry = Retry(NoBackoff(), 0)
        with redis.Redis(host=node.host, port=node.port, retry=retry) as client:
            for _ in range(150):
                try:
                    client.pipeline(transaction=True).incr("one").incr("other").execute()
                    told.append("done")
                except redis.RedisError as error:
                    told.append(str(error).split()[0])
                began.set()

    threads = [threading.Thread(target=write, args=(node,)) for node in others]
    for thread in threads:
        thread.start()
    assert began.wait(20)
    leader.kill9()
    for thread in threads:
        thread.join()
    done = told.count("done")
    in_doubt = told.count("INDOUBT")
    assert done > 150, told
    assert done + in_doubt + told.count("CLUSTERDOWN") == len(told)
    values = {tuple(node.call("MGET", "one", "other")) for node in others}
    [(one, other)] = values
    assert one == other
    assert done <= int(one) <= done + in_doubt
