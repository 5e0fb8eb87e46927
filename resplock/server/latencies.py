"""How long commands take, from being proposed or forwarded to being answered.

Pure. Commands are resolved in the order in which they were added, so their
numbers, counted from the start, tell which ones a turn has resolved: one mark for each turn that
added some is enough.
"""

from __future__ import annotations

from collections import deque


class Latencies:
    """The mean and the longest since the start."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque()  # so many were added, and when
        self._added = 0
        self._resolved = 0
        self._total_ns = 0
        self._max_ns = 0

    def began(self, added: int, stamp_ns: int) -> None:
        """So many commands were ever added, at `stamp_ns` of a monotonic clock."""
        if added != self._added:
            self._added = added
            self._marks.append((added, stamp_ns))

    def ended(self, resolved: int, stamp_ns: int) -> int:
        """So many of them are resolved; the longest that one of these took which were not before."""
        marks = self._marks
        if not marks or marks[0][0] > resolved:
            return 0
        longest_ns = stamp_ns - marks[0][1]
        while marks and marks[0][0] <= resolved:
            added, since_ns = marks.popleft()
            self._total_ns += (stamp_ns - since_ns) * (added - self._resolved)
            self._resolved = added
        self._max_ns = max(self._max_ns, longest_ns)
        return longest_ns

    @property
    def average_ms(self) -> float:
        """The mean over all commands; 0 when there were none."""
        return round(self._total_ns / max(self._resolved, 1) / 1e6, 3)

    @property
    def max_ms(self) -> float:
        """The longest."""
        return round(self._max_ns / 1e6, 3)
