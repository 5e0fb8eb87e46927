"""WAIT: how many other nodes have what was decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from resplock.resp.binding import Call
from resplock.server.clocks import now_ms
from resplock.server.connection import Connection
from resplock.server.local.context import LATER, Context, Handler
from resplock.types import Index

_LOOK_EVERY_MS_MIN, _LOOK_EVERY_MS_MAX = 1, 64


def wait(context: Context, connection: Connection, call: Call) -> Any:
    """Answer once enough nodes have it, or the time is up. A timeout of 0 is none, as in Redis."""
    index = context.engine.node.core.applied_index
    wanted, timeout_ms = call.values["numreplicas"], call.values["timeout"]
    count = _count(context, index)
    if count >= wanted:
        return count
    until_ms = now_ms() + timeout_ms if timeout_ms else None
    answer = connection.hold()
    context.begin(_wait(context, connection, answer, index, wanted, until_ms))
    return LATER


async def _wait(
    context: Context,
    connection: Connection,
    answer: Callable[[Any], None],
    index: Index,
    wanted: int,
    until_ms: int | None,
) -> None:
    """Look again and again, ever less often, while the client is there."""
    pause_ms = _LOOK_EVERY_MS_MIN
    while (count := _count(context, index)) < wanted and connection.file_descriptor >= 0:
        left_ms = pause_ms if until_ms is None else until_ms - now_ms()
        if left_ms <= 0:
            break
        await asyncio.sleep(min(pause_ms, left_ms) / 1000)
        pause_ms = min(2 * pause_ms, _LOOK_EVERY_MS_MAX)
    answer(count)


def _count(context: Context, index: Index) -> int:
    """How many other nodes have the log up to there.

    The leader knows. Any other node knows that what it has seen decided is on a majority.
    """
    core = context.engine.node.core
    if core.is_leader:
        return sum(peer.match_index >= index for peer in core.status().peers)
    return len(core.configuration.voters) // 2


HANDLERS: dict[str, Handler] = {"WAIT": wait}
