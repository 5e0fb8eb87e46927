"""What is shown on a terminal while something is measured, and percentiles of what was."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

BAR_WIDTH = 30


def progress(text: str) -> None:
    """Show what is going on, on one line that the next call replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def bar(done: float, total: float) -> str:
    """How far it is: `[######........]  37 %`."""
    share = min(1.0, done / total)
    filled = int(share * BAR_WIDTH)
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {share:4.0%}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that so many percent of them do not exceed (nearest rank)."""
    assert values
    assert 0 < percent <= 100
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
