"""One test for both clients: a sync lock and an asyncio lock, called in the same way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import redis
import redis.asyncio

import resplock


class Program:
    """redis-py with threads or with asyncio, and its locks. Everything that it makes is closed."""

    def __init__(self, kind: str) -> None:
        self.is_async = kind == "asyncio"
        self.module: ModuleType = redis.asyncio if self.is_async else redis
        self._clients: list[Any] = []

    def client(self, port: int, **options: Any) -> Any:
        """A client of one node."""
        return self.keep(self.module.Redis(host="127.0.0.1", port=port, **options))

    def keep(self, client: Any) -> Any:
        """Have it closed at the end."""
        self._clients.append(client)
        return client

    def lock(self, client: Any, name: str, *arguments: Any, kind: str = "", **options: Any) -> Any:
        """A lock; `kind` is the class without `Async`."""
        name_of_class = ("Async" if self.is_async else "") + (kind or "Lock")
        return Adapter(getattr(resplock, name_of_class)(client, name, *arguments, **options))

    async def close(self) -> None:
        for client in self._clients:
            await here(client.aclose() if self.is_async else client.close())


class Adapter:
    """A lock of either kind as an asynchronous one."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.lock, name)
        return _awaited(value) if inspect.ismethod(value) and name != "on_lost" else value

    async def __aenter__(self) -> Adapter:
        enter = getattr(self.lock, "__aenter__", None) or self.lock.__enter__
        await here(enter())
        return self

    async def __aexit__(self, *error: Any) -> None:
        leave = getattr(self.lock, "__aexit__", None) or self.lock.__exit__
        await here(leave(*error))


def _awaited(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*arguments: Any, **options: Any) -> Any:
        return await here(method(*arguments, **options))

    return call


async def here(value: Any) -> Any:
    """What a sync client returns, or an asyncio client's awaitable gives."""
    return await value if inspect.isawaitable(value) else value
