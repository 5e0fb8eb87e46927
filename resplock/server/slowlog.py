"""SLOWLOG: the commands that took longest of late.

Pure. What is kept of a command is bounded, as in Redis: some of its words, and some bytes of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from resplock import limits


class SlowCommand(msgspec.Struct, frozen=True):
    """A command that was slow. `words`: as it was called, shortened."""

    id: int
    unix_s: int
    taken_us: int
    words: tuple[bytes, ...]
    address: str
    client_name: bytes


class SlowLog:
    """The last ones, the newest first. Their ids go on when the log is reset."""

    def __init__(self) -> None:
        self._entries: deque[SlowCommand] = deque(maxlen=limits.SLOWLOG_ENTRIES_DEFAULT)
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._entries)

    def note(
        self,
        unix_s: int,
        taken_us: int,
        words: Sequence[bytes],
        address: str,
        client_name: bytes,
    ) -> None:
        """Keep a command."""
        kept = tuple(_shorten(words))
        entry = SlowCommand(self._next_id, unix_s, taken_us, kept, address, client_name)
        self._entries.appendleft(entry)
        self._next_id += 1

    def latest(self, count: int) -> list[SlowCommand]:
        """The newest `count`; all of them when it is negative."""
        entries = list(self._entries)
        return entries if count < 0 else entries[:count]

    def reset(self) -> None:
        """Forget them."""
        self._entries.clear()

    @property
    def entries_max(self) -> int:
        """How many are kept. A change keeps the newest."""
        assert self._entries.maxlen is not None
        return self._entries.maxlen

    @entries_max.setter
    def entries_max(self, most: int) -> None:
        self._entries = deque(list(self._entries)[:most], maxlen=most)


def _shorten(words: Sequence[bytes]) -> list[bytes]:
    """At most so many words of so many bytes, and how much is missing, in Redis's words."""
    most, bytes_max = limits.SLOWLOG_WORDS_MAX, limits.SLOWLOG_WORD_BYTES_MAX
    kept = words if len(words) <= most else words[: most - 1]
    shown = [
        word
        if len(word) <= bytes_max
        else b"%b... (%d more bytes)" % (word[:bytes_max], len(word) - bytes_max)
        for word in kept
    ]
    if len(kept) < len(words):
        shown.append(b"... (%d more arguments)" % (len(words) - len(kept)))
    return shown
