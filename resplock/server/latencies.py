"""How long commands take, from being proposed or forwarded to being answered.

Pure, with an injected clock. Commands are resolved in the order in which they were added, so their
numbers, counted from the start, tell which ones a turn has resolved: one mark for each turn that
added some is enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Latencies:
    """The mean and the longest since the start."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._marks: deque[tuple[int, int]] = deque()  # so many were added, and when
        self._added = 0
        self._resolved = 0
        self._total_ns = 0
        self._max_ns = 0

    def began(self, added: int) -> None:
        """So many commands were ever added."""
        if added != self._added:
            self._added = added
            self._marks.append((added, self._clock_ns()))

    def ended(self, resolved: int) -> None:
        """So many of them are resolved."""
        marks = self._marks
        if not marks or marks[0][0] > resolved:
            return
        now_ns = self._clock_ns()
        while marks and marks[0][0] <= resolved:
            added, since_ns = marks.popleft()
            taken_ns = now_ns - since_ns
            self._total_ns += taken_ns * (added - self._resolved)
            self._resolved = added
            self._max_ns = max(self._max_ns, taken_ns)

    @property
    def average_ms(self) -> float:
        """The mean over all commands; 0 when there were none."""
        return round(self._total_ns / max(self._resolved, 1) / 1e6, 3)

    @property
    def max_ms(self) -> float:
        """The longest."""
        return round(self._max_ns / 1e6, 3)
