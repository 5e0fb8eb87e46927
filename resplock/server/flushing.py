"""FLUSHDB and FLUSHALL, in pieces when there are too many keys for one entry of the log.

A piece is a page of SCAN, and the deletion of the keys on it: no entry has much to do, whatever the
number of keys, and others have their turns in between. What was there in the beginning is gone in the
end; what came meanwhile may be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from resplock.limits import SCAN_COUNT_MAX
from resplock.node.runs import Client, Result
from resplock.operations import (
    Busy,
    DeleteAll,
    Done,
    Flush,
    InDoubt,
    KeyPage,
    Moved,
    NoLeader,
    Number,
    Operation,
    Query,
    ScanKeys,
)
from resplock.types import LockName

_DONE: Final = Done()


class Asked(Protocol):
    """Who decides: the engine."""

    def submit(self, client: Client, operations: Sequence[Operation]) -> None:
        """Propose operations."""

    def ask(self, client: Client, query: Query) -> None:
        """Answer a query."""


class Flushing:
    """One FLUSHDB or FLUSHALL on its way: it asks in the place of its client, whom it answers."""

    def __init__(self, engine: Asked, client: Client, operation: Flush) -> None:
        self._engine = engine
        self._client = client
        self._db = operation.db
        self._piece: Operation = operation
        self._cursor = 0
        self._is_in_pieces = False
        self._has_begun = False

    def begin(self) -> None:
        """Try it at once."""
        self._engine.submit(self, [self._piece])

    def deliver(self, results: Sequence[Result]) -> None:
        """Go on, or answer the client: that it is done, or what is in the way."""
        (result,) = results
        match result:
            case Busy() if self._is_in_pieces:
                self._engine.submit(self, [self._piece])  # others had much to do in the same entry
            case Busy():
                self._is_in_pieces = True
                self._look()
            case KeyPage(cursor, names):
                self._cursor = cursor
                self._delete(names) if names else self._next()
            case Number():
                self._has_begun = True
                self._next()
            case NoLeader() | Moved() if self._has_begun:
                self._client.deliver([InDoubt()])
            case _:
                self._client.deliver([result])

    def abort(self) -> None:
        """It cannot be answered."""
        self._client.abort()

    def _delete(self, names: tuple[LockName, ...]) -> None:
        self._piece = DeleteAll(names)
        self._engine.submit(self, [self._piece])

    def _next(self) -> None:
        if self._cursor:
            self._look()
        else:
            self._client.deliver([_DONE])

    def _look(self) -> None:
        self._engine.ask(self, ScanKeys(self._db, self._cursor, count=SCAN_COUNT_MAX))
