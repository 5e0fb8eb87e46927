"""Two things that asyncio leaves open: a task that fails unseen, and a thread that outlives its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def report(task: asyncio.Task[None]) -> None:
    """Done callback: have the event loop say what should not have happened."""
    if not task.cancelled():
        task.result()


async def in_thread(
    function: Callable[_Arguments, _Result],
    *arguments: _Arguments.args,
    **named: _Arguments.kwargs,
) -> _Result:
    """Call in a worker thread. Also when this is cancelled, the call has ended when it returns."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
