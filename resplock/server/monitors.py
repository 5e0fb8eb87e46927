"""MONITOR: the clients of this node that are told what the others ask it.

Nobody pays for it while nobody monitors: a connection looks once for what it has read, not for each
command. What is told is what this node's own clients send, as in Redis: neither commands of operators
nor those that are refused before they are looked at, and no passwords.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from resplock.errors import CommandError
from resplock.resp.commands import Command, Flag, Group, find
from resplock.resp.quoting import escape

_REDACTED = b"(redacted)"


class Monitor(Protocol):
    """A connection that is told."""

    def push(self, data: bytes) -> None:
        """Send it bytes that it did not ask for just now."""


class Monitors:
    """Who is told, and what they are told in this turn of the event loop."""

    def __init__(self, changed: Callable[[], None], soon: Callable[[Callable[[], None]], object]):
        """`changed` is called when somebody begins to monitor and when nobody does any more."""
        self._monitors: dict[Monitor, None] = {}
        self._lines: list[bytes] = []
        self._changed = changed
        self._soon = soon

    def __len__(self) -> int:
        return len(self._monitors)

    def __iter__(self) -> Iterator[Monitor]:
        return iter(self._monitors)

    def __contains__(self, who: object) -> bool:
        return who in self._monitors

    def add(self, who: Monitor) -> None:
        """Tell it of everything from now on."""
        self._monitors[who] = None
        if len(self._monitors) == 1:
            self._changed()

    def leave(self, who: Monitor) -> None:
        """Tell it nothing more."""
        if self._monitors.pop(who, self) is None and not self._monitors:
            self._changed()

    def tell(self, argv: list[bytes], db: int, address: str, *, authenticated: bool) -> None:
        """A client has called a command, on this database, when it was authenticated or not."""
        command = _shown(argv, authenticated=authenticated)
        if command is None:
            return
        words = " ".join(f'"{escape(word)}"' for word in _redacted(command, argv))
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        line = f"+{seconds}.{nanoseconds // 1000:06} [{db} {address}] {words}\r\n"
        if not self._lines:
            self._soon(self._send)
        self._lines.append(line.encode())

    def _send(self) -> None:
        data = b"".join(self._lines)
        self._lines.clear()
        for who in list(self._monitors):
            who.push(data)


def _shown(argv: list[bytes], *, authenticated: bool) -> Command | None:
    """The command, unless it is not shown."""
    try:
        command = find(argv)
    except CommandError:
        return None
    flags = command.flags
    if Flag.ADMIN in flags or not (authenticated or Flag.NO_AUTH in flags):
        return None
    if Flag.SKIP_MONITOR in flags and command.group is not Group.SCRIPTING:
        return None
    if len(argv) < command.least_words or (command.arity > 0 and len(argv) != command.arity):
        return None
    return command


def _redacted(command: Command, argv: list[bytes]) -> list[bytes]:
    """What may be shown of it."""
    if command.name == "AUTH":
        return [argv[0], *[_REDACTED] * (len(argv) - 1)]
    if command.name != "HELLO":
        return argv
    shown = list(argv)
    for at, word in enumerate(argv):
        if word.upper() == b"AUTH":
            shown[at + 1 : at + 3] = [_REDACTED] * len(shown[at + 1 : at + 3])
    return shown
