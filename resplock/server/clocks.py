"""The two clocks of a process, in milliseconds."""

from __future__ import annotations

import time


def now_ms() -> int:
    """This process's monotonic clock."""
    return time.monotonic_ns() // 1_000_000


def unix_ms() -> int:
    """Wall-clock time, for people: nothing is decided by it."""
    return time.time_ns() // 1_000_000
