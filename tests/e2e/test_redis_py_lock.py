"""redis-py's own Lock, sync and asyncio, in both protocols, unchanged: on one node, and on a cluster
whose leader is killed. The library's own tests of it run under `make compat`."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import LockError, LockNotOwnedError

from tests.e2e.cluster import Cluster
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import DEADLINE_S
from tests.e2e.wire import by_field


class Program:
    """One of four kinds of program; `do` waits for what an asyncio one is given."""

    def __init__(self, module: Any, protocol: int) -> None:
        self._module = module
        self._protocol = protocol
        self._clients: list[Any] = []

    def client(self, node: ServerProcess) -> Any:
        """A client; it is closed when the test ends."""
        made = self._module.Redis(host=node.host, port=node.port, protocol=self._protocol)
        self._clients.append(made)
        return made

    async def do(self, result: Any) -> Any:
        return await result if inspect.isawaitable(result) else result

    async def version(self, client: Any, name: str) -> int:
        """The fencing version of the hold."""
        reply = await self.do(client.execute_command("LOCK.GET", name))
        return int(by_field(reply)["version"])

    async def close(self) -> None:
        for client in self._clients:
            await self.do(client.aclose() if hasattr(client, "aclose") else client.close())


SYNC_2, SYNC_3, ASYNCIO_2, ASYNCIO_3 = (
    pytest.param((module, protocol), id=f"{kind}-RESP{protocol}")
    for kind, module in (("sync", redis), ("asyncio", redis.asyncio))
    for protocol in (2, 3)
)


@pytest.fixture(params=[SYNC_2, SYNC_3, ASYNCIO_2, ASYNCIO_3])
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    made = Program(*request.param)
    yield made
    await made.close()


@pytest.fixture
def name() -> str:
    """A lock that no other test uses."""
    return f"lock-{uuid.uuid4()}"


async def test_a_lock_is_taken_refused_and_given_back(
    program: Program, server: ServerProcess, name: str
) -> None:
    client, do = program.client(server), program.do
    lock, other = (client.lock(name, timeout=30) for _ in range(2))
    assert await do(lock.acquire(blocking=False))
    assert await do(client.get(name)) == lock.local.token
    assert 0 < await do(client.pttl(name)) <= 30_000
    assert await do(lock.owned())
    assert await do(other.locked())
    assert not await do(other.acquire(blocking=False))
    await do(lock.release())
    assert await do(client.get(name)) is None
    assert await do(other.acquire(blocking=False))


async def test_its_end_is_moved(program: Program, server: ServerProcess, name: str) -> None:
    client, do = program.client(server), program.do
    lock = client.lock(name, timeout=10)
    assert await do(lock.acquire())
    assert await do(lock.extend(10))
    assert 10_000 < await do(client.pttl(name)) <= 20_000
    assert await do(lock.extend(5, replace_ttl=True))
    assert await do(client.pttl(name)) <= 5_000
    assert await do(lock.reacquire())
    assert 5_000 < await do(client.pttl(name)) <= 10_000


async def test_a_lock_without_a_timeout_cannot_be_extended(
    program: Program, server: ServerProcess, name: str
) -> None:
    client, do = program.client(server), program.do
    lock = client.lock(name)
    assert await do(lock.acquire())
    assert await do(client.ttl(name)) == -1
    with pytest.raises(LockError, match="no timeout"):
        await do(lock.extend(10))


async def test_who_has_lost_a_lock_is_told_and_harms_nobody(
    program: Program, server: ServerProcess, name: str
) -> None:
    client, do = program.client(server), program.do
    slow, next_one = client.lock(name, timeout=0.05), client.lock(name, timeout=30)
    assert await do(slow.acquire())
    assert await do(next_one.acquire(blocking_timeout=DEADLINE_S))
    for ask in (slow.release, lambda: slow.extend(10), slow.reacquire):
        slow.local.token = slow.local.token or b"the lost hold's"
        with pytest.raises(LockNotOwnedError):
            await do(ask())
    assert not await do(slow.owned())
    assert await do(next_one.owned())


async def test_each_hold_has_a_fencing_version(
    program: Program, server: ServerProcess, name: str
) -> None:
    client, do = program.client(server), program.do
    versions = []
    for _ in range(2):
        lock = client.lock(name, timeout=30)
        assert await do(lock.acquire())
        versions.append(await program.version(client, name))
        assert await do(lock.reacquire())
        assert await program.version(client, name) == versions[-1]
        await do(lock.release())
    first, second = versions
    assert 0 < first < second


@pytest.mark.parametrize("program", [SYNC_2, ASYNCIO_3], indirect=True)
async def test_a_lock_outlives_the_leader_that_granted_it(
    program: Program, cluster: Cluster, name: str
) -> None:
    client, do = program.client(cluster.followers()[0]), program.do
    lock = client.lock(name, timeout=60)
    assert await do(lock.acquire())
    version = await program.version(client, name)
    cluster.leader().kill9()
    assert not await do(client.lock(name, timeout=60).acquire(blocking=False))
    assert await program.version(client, name) == version
    assert await do(lock.owned())
    await do(lock.release())
    assert await do(client.get(name)) is None
