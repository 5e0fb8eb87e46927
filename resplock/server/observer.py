"""What this node notes of how long its work takes: for SLOWLOG, LATENCY and INFO commandstats.

Two things are timed, so that it costs nothing for each command that goes through the log:

- a command that this node answers by itself and that is not flagged FAST, by itself;
- a turn of the engine: how long it took, and how long the slowest command that it has answered was
  under way, from being proposed or forwarded to being answered. It does not know which command took
  so long, so that what is noted is one of them, and how many others there were.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from resplock import limits
from resplock.server.latency_events import LatencyEvents
from resplock.server.slowlog import SlowLog

COMMAND, COMMIT, TURN = "command", "commit", "event-loop"
"""The kinds of events that LATENCY knows."""
_NEVER_NS = 2**63


@runtime_checkable
class Asker(Protocol):
    """A connection, as far as it is shown."""

    address: str
    name: bytes

    @property
    def last_command(self) -> str: ...


class CommandTimes:
    """How long the calls of one command took."""

    __slots__ = ("calls", "longest_under_us", "total_ns")

    def __init__(self) -> None:
        self.calls = 0
        self.total_ns = 0
        self.longest_under_us: dict[int, int] = {}
        """How many took less than so many microseconds, a power of two, and not less than half."""

    def note(self, taken_ns: int) -> None:
        self.calls += 1
        self.total_ns += taken_ns
        under_us = 1 << (taken_ns // 1000).bit_length()
        self.longest_under_us[under_us] = self.longest_under_us.get(under_us, 0) + 1

    def histogram(self) -> dict[int, int]:
        """How many took less than so many microseconds: of each power of two that adds some."""
        found, total = {}, 0
        for under_us, calls in sorted(self.longest_under_us.items()):
            total += calls
            found[under_us] = total
        return found


class Observer:
    """Keeps what was slow."""

    def __init__(self) -> None:
        self.slow_log = SlowLog()
        self.latency = LatencyEvents()
        self.times: dict[str, CommandTimes] = {}
        """Of the commands that were timed by themselves, by their names in capitals."""
        self._slower_than_us = limits.SLOWLOG_SLOWER_THAN_US_DEFAULT
        self._threshold_ms = 0
        self.slow_ns = 0
        """What takes no longer than this need not be told of."""
        self._follow()

    # --- settings --------------------------------------------------------------------------------

    @property
    def slower_than_us(self) -> int:
        """What SLOWLOG keeps took longer than this; negative: nothing is kept."""
        return self._slower_than_us

    @slower_than_us.setter
    def slower_than_us(self, microseconds: int) -> None:
        self._slower_than_us = microseconds
        self._follow()

    @property
    def threshold_ms(self) -> int:
        """What LATENCY notes took as long as this or longer; 0: nothing is noted."""
        return self._threshold_ms

    @threshold_ms.setter
    def threshold_ms(self, milliseconds: int) -> None:
        self._threshold_ms = milliseconds
        self._follow()

    def _follow(self) -> None:
        slower, threshold = self._slower_than_us, self._threshold_ms
        self.slow_ns = min(
            slower * 1000 if slower >= 0 else _NEVER_NS,
            threshold * 1_000_000 - 1 if threshold else _NEVER_NS,
        )

    def reset_statistics(self) -> None:
        """Forget how long commands took."""
        self.times.clear()

    # --- what is told ----------------------------------------------------------------------------

    def ran(self, name: str, words: Sequence[bytes], who: Asker, taken_ns: int) -> None:
        """A command was run by this node itself."""
        times = self.times.get(name)
        if times is None:
            times = self.times[name] = CommandTimes()
        times.note(taken_ns)
        if taken_ns > self.slow_ns:
            self._note(COMMAND, taken_ns)
            self._keep(taken_ns, words, who)

    def turned(self, turn_ns: int, commit_ns: int, answers: Sequence[tuple[Any, Any]]) -> None:
        """A turn took longer than `slow_ns`, or the slowest command that it has answered did.

        commit_ns: 0 when it has answered none that went through the log. answers: (client, results)
        """
        if commit_ns:
            self._note(COMMIT, commit_ns)
        self._note(TURN, turn_ns)
        who = next((client for client, _ in answers if isinstance(client, Asker)), None)
        if who is not None:
            others = sum(len(results) for _, results in answers) - 1
            words = [who.last_command.replace("|", " ").upper().encode()]
            if others:
                words.append(b"... (%d more commands in this turn)" % others)
            self._keep(max(turn_ns, commit_ns), words, who)

    def _note(self, event: str, taken_ns: int) -> None:
        taken_ms = taken_ns // 1_000_000
        if self._threshold_ms and taken_ms >= self._threshold_ms:
            self.latency.note(event, int(time.time()), taken_ms)

    def _keep(self, taken_ns: int, words: Sequence[bytes], who: Asker) -> None:
        taken_us = taken_ns // 1000
        if 0 <= self._slower_than_us < taken_us:
            self.slow_log.note(int(time.time()), taken_us, words, who.address, who.name)
