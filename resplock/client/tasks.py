"""Carrying out the rules with asyncio: redis.asyncio.Redis, Sentinel's masters and RedisCluster.

What `threads.py` does with threads is done here with tasks and the event loop's own timers; see there
for how connections are used.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from redis import RedisError, ResponseError
from redis.asyncio import ConnectionPool, RedisCluster
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError, MovedError, RedisClusterException

from resplock.client.effects import Call, Effect, Heed, Mutex, Sleep, Steps, Take, patience_of
from resplock.client.hold import Hold
from resplock.client.links import OneOf, kept, pool_at, settings_at
from resplock.client.lost import LostBase
from resplock.client.pauses import TROUBLE_MOST_S
from resplock.client.settings import ANSWER_S
from resplock.client.trouble import Unsent, is_of_node, no_reply

Result = TypeVar("Result")

_NEVER_S = 3600.0
"""A timeout for redis-py's reads, which ours always comes before."""


class AsyncLost(LostBase):
    """Whether a hold was lost; what `AsyncLock.lost` gives. Like `Lost`, and `wait` is awaited."""

    def __init__(self, hold: Hold | None) -> None:
        super().__init__(hold)
        self._event = asyncio.Event()

    async def wait(self) -> bool:
        """Return once the hold is lost: True."""
        if not self:
            await self._event.wait()
        return True

    def set(self) -> None:
        """Wake whoever waits."""
        self._event.set()


class Tasks:
    """The Runtime of an asyncio client. See `core.Runtime`."""

    def __init__(self, client: Any) -> None:
        self._link = link_of(client)

    async def run(self, steps: Steps[Result]) -> Result:
        """Carry the steps out in this task.

        When it is cancelled, what the rule does about that has a task of its own: it is not cut short
        by a second cancellation, and timeouts work in it (in Python 3.11 they do not within a task that
        is being cancelled).
        """
        return await self._drive(steps)

    async def _drive(self, steps: Steps[Result], error: BaseException | None = None) -> Result:
        """From the beginning, or on from an error."""
        try:
            effect = next(steps) if error is None else steps.throw(error)
            while True:
                try:
                    answer = await self._do(effect)
                except asyncio.CancelledError as cancelled:
                    await asyncio.shield(_task(self._leave(steps, cancelled)))
                    raise
                except BaseException as raised:  # noqa: BLE001 - the rule decides, and raises it again
                    effect = steps.throw(raised)
                else:
                    effect = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result

    async def _leave(self, steps: Steps[Any], cancelled: asyncio.CancelledError) -> None:
        """Let the rule clean up. Its last word is the cancellation."""
        with suppress(asyncio.CancelledError):
            await self._drive(steps, cancelled)

    async def _do(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return await call(self._link, effect)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Take(mutex):
                await mutex.acquire()
            case Heed(mailbox, seconds):
                await mailbox.heed(seconds)
        return None

    # --- Runtime ---

    def clock(self) -> float:
        """Monotonic, in seconds."""
        return time.monotonic()

    def mutex(self) -> Mutex:
        """Free."""
        return asyncio.Lock()

    def call_at(self, when: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Have something that does not block done at a moment on the clock."""
        return asyncio.get_running_loop().call_later(max(when - time.monotonic(), 0.0), action)

    def start(self, steps: Steps[Any], then: Callable[[], None]) -> asyncio.Task[None]:
        """Carry steps out in a task of their own."""

        async def work() -> None:
            await self.run(steps)
            then()

        return _task(work())

    def new_lost(self, hold: Hold | None) -> AsyncLost:
        """What `lock.lost` gives."""
        return AsyncLost(hold)

    def mailbox(self, channel: bytes) -> Mailbox:
        """Where the messages of a channel arrive; it has to be closed."""
        return Mailbox(self._link, channel)

    def tell(self, lost: AsyncLost, callbacks: list[Callable[[AsyncLost], object]]) -> None:
        """Wake whoever waits for the loss, and call back."""
        lost.set()
        for callback in callbacks:
            _task(_call_back(callback, lost))


async def _call_back(callback: Callable[[AsyncLost], object], lost: AsyncLost) -> None:
    result = callback(lost)
    if inspect.isawaitable(result):
        await result


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that is kept until it is done: the event loop itself keeps none."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


_tasks: set[asyncio.Task[None]] = set()


async def call(link: AsyncLink, effect: Call) -> Any:
    """One command over one connection, once."""
    try:
        connection = await link.take()
    except (RedisError, OSError) as error:
        link.failed(error)
        raise Unsent(error) from error
    is_answered = False
    try:
        await connection.send_command(*effect.words)
        patience_s = patience_of(effect, connection.socket_timeout)
        try:
            async with asyncio.timeout(patience_s):
                reply = await connection.read_response(timeout=_NEVER_S)
        except TimeoutError:
            raise no_reply(effect.words[0], patience_s) from None
        is_answered = True
    except ResponseError as error:
        is_answered = True
        if is_of_node(error):
            link.failed(error)
        raise
    except (RedisError, OSError) as error:
        link.failed(error)
        raise
    finally:
        if not is_answered:
            await connection.disconnect(nowait=True)
        await link.give_back(connection)
    return reply


class Mailbox:
    """The messages of one channel, over a connection of its own."""

    def __init__(self, link: AsyncLink, channel: bytes) -> None:
        self._link = link
        self._channel = channel
        self._pubsub: Any = None
        self._closes_pool = False

    async def heed(self, timeout_s: float) -> None:
        """Wait for a message and take all that are there; the first time, only subscribe."""
        try:
            if self._pubsub is None:
                pool, self._closes_pool = await self._link.pool()
                self._pubsub = PubSub(pool)
                await self._pubsub.subscribe(self._channel)
                await self._pubsub.get_message(timeout=ANSWER_S)
            elif await self._pubsub.get_message(timeout=timeout_s):
                while await self._pubsub.get_message(timeout=0.0):
                    pass
        except (RedisError, OSError) as error:
            self._link.failed(error)
            await self.aclose()
            await asyncio.sleep(min(timeout_s, TROUBLE_MOST_S))

    async def aclose(self) -> None:
        """Give the connection back."""
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await pubsub.aclose()
            if self._closes_pool:
                await pubsub.connection_pool.disconnect()


# --- where commands go: see `links` --------------------------------------------------------------


class AsyncLink(Protocol):
    """Of one client."""

    async def take(self) -> Any:
        """A connection."""

    async def give_back(self, connection: Any) -> None:
        """One that `take` gave."""

    async def pool(self) -> tuple[Any, bool]:
        """A pool of connections to the same node, and whether the caller is to close it."""

    def failed(self, error: Exception) -> None:
        """A command met this error: look elsewhere next time, if there is elsewhere."""


class PlainLink:
    """redis.asyncio.Redis, with or without Sentinel.

    Where -MOVED leads, each command has a connection of its own: nobody would close a pool.
    """

    def __init__(self, client: Any) -> None:
        self._own_pool = client.connection_pool
        self._leader: tuple[str, int] | None = None
        self._to_close: set[Any] = set()

    async def take(self) -> Any:
        """To the leader, if this client was told where it is."""
        if self._leader is None:
            return await self._own_pool.get_connection()
        settings = settings_at(self._own_pool, *self._leader)
        connection = self._own_pool.connection_class(**settings)
        await connection.connect()
        self._to_close.add(connection)
        return connection

    async def give_back(self, connection: Any) -> None:
        """To the pool that it came from."""
        if connection in self._to_close:
            self._to_close.remove(connection)
            await connection.disconnect()
        else:
            await self._own_pool.release(connection)

    async def pool(self) -> tuple[Any, bool]:
        """The client's own, or a new one to the leader."""
        if self._leader is None:
            return self._own_pool, False
        return pool_at(self._own_pool, *self._leader), True

    def failed(self, error: Exception) -> None:
        """Follow -MOVED; go back to the client's own node when the leader fails."""
        self._leader = (error.host, error.port) if isinstance(error, MovedError) else None


class ClusterLink:
    """redis.asyncio.RedisCluster. The leader has all slots."""

    def __init__(self, client: Any) -> None:
        self._client = weakref.proxy(client)
        self._nodes: dict[Any, Any] = {}
        self._is_stale = True

    async def take(self) -> Any:
        """A connection to the leader."""
        node = await self._find_leader()
        connection = node.acquire_connection()
        try:
            await connection.connect()
        except BaseException:
            node.release(connection)
            raise
        self._nodes[connection] = node
        return connection

    async def give_back(self, connection: Any) -> None:
        """To the node that it came from."""
        self._nodes.pop(connection).release(connection)

    async def pool(self) -> tuple[Any, bool]:
        """A new one: this client has none."""
        node = await self._find_leader()
        settings = node.connection_kwargs
        return ConnectionPool(connection_class=node.connection_class, **settings), True

    async def _find_leader(self) -> Any:
        try:
            if self._is_stale:
                await self._client.initialize()
                await self._client.nodes_manager.initialize()
                self._is_stale = False
            node = self._client.get_node_from_key("")
        except RedisClusterException as error:
            raise ConnectionError(str(error)) from error
        assert node is not None, "the leader has all slots"
        return node

    def failed(self, error: Exception) -> None:
        """Ask who leads before the next command."""
        self._is_stale = True


class AnyLink(OneOf[AsyncLink]):
    """Several clients, one for each node."""

    def __init__(self, links: Sequence[AsyncLink]) -> None:
        super().__init__(links)
        self._taken: dict[Any, AsyncLink] = {}

    async def take(self) -> Any:
        """A connection to the node that answered last."""
        link = self.present
        connection = await link.take()
        self._taken[connection] = link
        return connection

    async def give_back(self, connection: Any) -> None:
        """To the client that it came from."""
        await self._taken.pop(connection).give_back(connection)

    async def pool(self) -> tuple[Any, bool]:
        """Of the node that answered last."""
        return await self.present.pool()


def link_of(client: Any) -> AsyncLink:
    """The same for all locks of a client; for several clients, a new one."""
    if isinstance(client, list | tuple):
        return AnyLink([link_of(each) for each in client])
    kind = ClusterLink if isinstance(client, RedisCluster) else PlainLink
    return kept(_links, client, kind)


_links: weakref.WeakKeyDictionary[Any, AsyncLink] = weakref.WeakKeyDictionary()
