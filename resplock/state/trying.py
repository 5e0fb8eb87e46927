"""What `apply` would answer to a try that changes nothing.

Pure. A `Trial` is the lock table with everything out of reach that could change it: the operations run on
it as they are, and whichever would change anything is given up there. So there is one set of rules, and
a part that an operation comes to use in future is out of reach until it is lent here.

The table itself is not changed, its totals included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, cast

from resplock import limits
from resplock.operations import Acquire, AcquireAll, Evaluate, Operation, Outcome, SetString
from resplock.state import scripting
from resplock.state.records import Lock, Totals
from resplock.state.scripts import ScriptCache
from resplock.state.slotmap import SlotMap
from resplock.state.table import LockTable
from resplock.types import LockName, StampMs

TRIES: Final = frozenset({Acquire, SetString, AcquireAll, Evaluate})
"""The operations that may change nothing because a lock is held."""


def looks_refused(table: LockTable, operation: Operation) -> bool:
    """Whether a `Trial` is worth its while: a quick look, which most tries that succeed do not pass."""
    kind = type(operation)
    if kind is Acquire:
        operation = cast(Acquire, operation)
        lock = table.locks.get(operation.name)
        if lock is None:
            return False
        return lock.extra is not None or lock.holds[0].owner != operation.owner
    if kind is SetString:
        operation = cast(SetString, operation)
        return operation.condition == "NX" and table.locks.get(operation.name) is not None
    if kind is AcquireAll:
        operation = cast(AcquireAll, operation)
        return any(table.locks.get(name) is not None for name in operation.names)
    if kind is Evaluate:
        return _looks_idle(table, cast(Evaluate, operation))
    return False


def _looks_idle(table: LockTable, script: Evaluate) -> bool:
    """Whether it may not write, or is about a lock whose owner it does not name."""
    if script.read_only:
        return True
    for name in script.names:
        lock = table.locks.get(name)
        if lock is not None and lock.holds and lock.holds[0].owner not in script.arguments:
            return True
    return False


def is_try(operation: Operation) -> bool:
    """Whether it may be one that changes nothing: it neither waits in line nor is remembered."""
    if isinstance(operation, Acquire | AcquireAll):
        options = operation.options
        if options is not None and (options.wait_ms or not options.blocking):
            return False
        return not operation.request
    if isinstance(operation, SetString):
        return operation.condition == "NX"
    return isinstance(operation, Evaluate)


class _Change(Exception):
    """An operation is about to change the table."""


class _Lent:
    """Some methods of a part of the table, of which the others are out of reach."""

    def __init__(self, part: object, *methods: str) -> None:
        for method in methods:
            setattr(self, method, getattr(part, method))

    def __getattr__(self, _: str) -> NoReturn:
        raise _Change

    def __len__(self) -> NoReturn:
        raise _Change


class _LentLocks(_Lent):
    """The locks, none of which can be changed."""

    def __init__(self, locks: SlotMap[Lock]) -> None:
        super().__init__(locks, "get")
        self._slot = _LentSlot(locks)

    def writable(self, _: LockName) -> _LentSlot:
        return self._slot


class _LentSlot(_Lent):
    """Every slot at once."""

    def __init__(self, locks: SlotMap[Lock]) -> None:
        super().__init__(locks, "get")

    def __setitem__(self, name: LockName, _: Lock) -> NoReturn:
        raise _Change

    def __delitem__(self, name: LockName) -> NoReturn:
        raise _Change


class _LentScripts(_Lent):
    """The scripts that are known; those that are run on a `Trial` do not count as used."""

    def __init__(self, scripts: ScriptCache) -> None:
        super().__init__(scripts)
        self.use = scripts.look


class Trial(LockTable):
    """A lock table for operations that change nothing, at the moments of entries that never come."""

    def __init__(self, table: LockTable) -> None:
        self._table = table
        self.begin(StampMs(0))
        lent: dict[str, Any] = {
            "locks": _LentLocks(table.locks),
            "means": _Lent(table.means, "advice"),
            "owners": _Lent(table.owners, "has"),
            "tied": _Lent(table.tied, "count"),
            "scripts": _LentScripts(table.scripts),
            "queues": _Lent(table.queues, "ahead_of", "count", "front", "place_of", "position"),
        }
        self.__dict__.update(lent)
        self.queues.by_client = cast(Any, _Lent(table.queues.by_client, "count"))
        self._answers: dict[type, Callable[[Any, int], Outcome]] = {
            Acquire: self._acquire,
            AcquireAll: self._acquire_all,
            SetString: self._set_string,
            Evaluate: partial(self._answer_long, scripting.evaluate),
        }

    def __getattr__(self, _: str) -> NoReturn:
        raise _Change  # what is not lent

    def begin(self, stamp_ms: StampMs) -> None:
        """Have an entry come at this moment. `totals` counts as its `apply` would, from 0 on."""
        self.clock_ms = stamp_ms
        self.unix_offset_ms = self._table.unix_offset_ms
        self.now_unix_ms = stamp_ms + self.unix_offset_ms
        self.script_steps_left = limits.SCRIPT_STEPS_TRIED
        self.answer_bytes_left = limits.ANSWER_BYTES_PER_ENTRY
        self.totals = Totals()

    def answer(self, operation: Operation) -> Outcome | None:
        """What `apply` would answer to a try; None when that might change anything.

        Nor is more known of scripts once they have taken limits.SCRIPT_STEPS_TRIED steps.
        """
        if not is_try(operation) or self.script_steps_left <= 0 or self.answer_bytes_left <= 0:
            return None
        refusals = self.totals.refusals
        try:
            return self._answers[type(operation)](operation, 0)
        except _Change:
            self.totals.refusals = refusals
            return None
