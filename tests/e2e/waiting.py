"""Waiting, the only way that these tests do it: until something is so, and never for longer than a
deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

DEADLINE_S = 20.0
"""How long anything may take on a busy machine before it counts as never."""
_POLL_EVERY_S = 0.005


def eventually(
    look: Callable[[], Value], what: str = "", *, deadline_s: float = DEADLINE_S
) -> Value:
    """What `look` returns as soon as that is true; fails when it is not by the deadline."""
    until = time.monotonic() + deadline_s
    while not (value := look()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {deadline_s} s: {what or look.__name__}")
        time.sleep(_POLL_EVERY_S)
    return value


def now_ms() -> int:
    """This machine's monotonic clock."""
    return time.monotonic_ns() // 1_000_000
