"""What the handlers of local commands may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from resplock.config import Settings
from resplock.resp.binding import Call
from resplock.resp.replies import Simple
from resplock.server.clients import Clients
from resplock.server.clocks import now_ms
from resplock.server.connection import Connection
from resplock.server.engine import Engine


@dataclass
class Context:
    """One server, as its local commands see it."""

    settings: Settings
    clients: Clients
    engine: Engine
    shut_down: Callable[[], None]
    """Begins a shutdown in good order."""
    run_id: str
    """40 hex digits, new with every start, as in Redis."""
    port: int = 0
    """The port that is listened on, which `settings.port` need not be."""
    started_ms: int = field(default_factory=now_ms)

    @property
    def uptime_ms(self) -> int:
        """Milliseconds since the start."""
        return now_ms() - self.started_ms


Handler: TypeAlias = Callable[[Context, Connection, Call], Any]
"""Gives the value of the reply, NOTHING or LATER; raises CommandError."""

OK = Simple("OK")
NOTHING = object()
"""The command has no reply."""
LATER = object()
"""The reply comes through `Connection.hold`."""
