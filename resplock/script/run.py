"""One run of a script: what it was given, and what is left of its budgets.

Pure. The budgets are constants of the format: a script that runs out of one does so at the same
place on every replica. None of them depends on time, memory or the stack of this process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from resplock import limits
from resplock.script.failures import BudgetExceeded, Complaint
from resplock.script.replies import Reply
from resplock.script.values import Table, Value

CallRedis: TypeAlias = Callable[[list[bytes]], Reply]
"""Runs a command, its name first. An error is a Failure, not an exception."""


class Run:
    """The state of one run. `frames_left` is how much deeper calls may nest."""

    __slots__ = (
        "argv",
        "bytes_left",
        "call_redis",
        "frames_left",
        "keys",
        "reply_left",
        "steps_left",
    )

    def __init__(self, keys: list[bytes], argv: list[bytes], call_redis: CallRedis) -> None:
        self.keys = Table(list[Value](keys))
        self.argv = Table(list[Value](argv))
        self.call_redis = call_redis
        self.steps_left = limits.SCRIPT_STEPS_MAX
        self.bytes_left = limits.SCRIPT_BYTES_MAX
        self.reply_left = limits.SCRIPT_REPLY_BYTES_MAX
        self.frames_left = limits.SCRIPT_FRAMES_MAX

    def spend(self, steps: int) -> None:
        """Take so many steps, or raise BudgetExceeded."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise BudgetExceeded(f"the script takes more than {limits.SCRIPT_STEPS_MAX} steps")

    def allot(self, count: int) -> None:
        """Make so many bytes, or raise BudgetExceeded. They are never given back."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise BudgetExceeded(f"the script makes more than {limits.SCRIPT_BYTES_MAX} bytes")

    def make(self, count: int) -> None:
        """Make a string of so many bytes, or raise BudgetExceeded."""
        if count > limits.SCRIPT_STRING_BYTES_MAX:
            raise BudgetExceeded(
                f"the script makes a string of more than {limits.SCRIPT_STRING_BYTES_MAX} bytes"
            )
        self.allot(count)

    def reply(self, count: int) -> None:
        """Answer so many bytes, or raise BudgetExceeded."""
        self.reply_left -= count
        if self.reply_left < 0:
            raise BudgetExceeded(
                f"the script returns more than {limits.SCRIPT_REPLY_BYTES_MAX} bytes"
            )

    def enter(self, frames: int) -> None:
        """Go so much deeper, or raise Lua's error. `leave` comes back."""
        if self.frames_left < frames:
            raise Complaint(b"stack overflow")
        self.frames_left -= frames

    def leave(self, frames: int) -> None:
        """Come back. Who catches an error comes back by himself, from wherever it was raised."""
        self.frames_left += frames
