"""What the rules of a lock ask for: each rule is a generator that yields these and gets the answers.

Pure: no socket, no clock, no thread. The drivers carry them out: `threads.py` by blocking the calling
thread, `tasks.py` by awaiting. So the sync and the asyncio classes share every decision, and tests
drive the rules with a clock and answers of their own.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

Word: TypeAlias = bytes | str | int
Words: TypeAlias = tuple[Word, ...]
"""One command."""

Result = TypeVar("Result")


class Mutex(Protocol):
    """Taken by the effect `Take`, given back directly."""

    def acquire(self) -> Any: ...

    def release(self) -> None: ...


class Mailbox(Protocol):
    """Where the messages of one channel arrive. Some may be missing; what they say is of no interest."""

    def heed(self, timeout_s: float) -> Any: ...


class Call(msgspec.Struct, frozen=True):
    """Send a command once; the answer is its reply.

    Raises what redis-py raises: the error reply, or ConnectionError or TimeoutError when nobody knows
    whether the command was carried out, and `Unsent` when it certainly was not sent.

    patience_s  how long to wait for the reply; then the connection is given up
    waits       the command itself takes its time: the client's own socket timeout does not count
    """

    words: Words
    patience_s: float
    waits: bool = False


class Sleep(msgspec.Struct, frozen=True):
    """Do nothing for so long."""

    seconds: float


class Take(msgspec.Struct, frozen=True):
    """Wait for a mutex and take it."""

    mutex: Mutex


class Heed(msgspec.Struct, frozen=True):
    """Wait for a message in a mailbox, for so long at most. The first time, only subscribe."""

    mailbox: Mailbox
    seconds: float


Effect: TypeAlias = Call | Sleep | Take | Heed
Steps: TypeAlias = Generator[Effect, Any, Result]
"""A rule under way; what it returns is its result."""


def patience_of(call: Call, socket_timeout_s: float | None) -> float:
    """How long a driver waits for the reply, with the client's own socket timeout."""
    if call.waits or socket_timeout_s is None:
        return call.patience_s
    return min(call.patience_s, socket_timeout_s)
