"""Planted bugs of locks that are string keys, and of scripts: see `tests.sim.mutants`.

They are looked for without the naive model, as those of waiting in line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from msgspec.structs import replace

from resplock.node.node import Node
from resplock.operations import (
    DeleteIf,
    Done,
    Evaluate,
    Execute,
    Executed,
    Expire,
    FlushScripts,
    GetDelete,
    Number,
    Operation,
    Options,
    SetAll,
    SetString,
)
from resplock.script import Reply
from resplock.state import ends, granting, scripting, strings, table, transactions
from resplock.state.ledger import Ledger
from resplock.state.records import Hold, Lock
from resplock.state.table import LockTable
from resplock.state.trying import Trial
from resplock.types import LockName
from tests.sim.planting import STRINGS, Patch, mutant_in, restored
from tests.sim.world import MS

KILLS = {"kill": 1500 * MS}


def _number_of() -> Callable[[Ledger], int]:
    """Tells replicas apart: they are numbered as they are first seen."""
    numbers: dict[int, int] = {}
    serial = count()
    return lambda ledger: numbers.setdefault(id(ledger), next(serial))


# --- setting -------------------------------------------------------------------------------------


@mutant_in(**STRINGS)
def set_nx_takes_a_held_lock(patch: Patch) -> None:
    """SET NX overwrites, as SET does."""
    real = LockTable._set_string

    def _set_string(self: LockTable, operation: SetString, index: int) -> Any:
        is_nx = operation.condition == "NX"
        return real(self, replace(operation, condition="") if is_nx else operation, index)

    patch.setattr(LockTable, "_set_string", _set_string)


@mutant_in(**STRINGS)
def set_nx_passes_who_waits(patch: Patch) -> None:
    """I6: a lock that is free for a moment goes to a try, not to who is in front of its queue."""

    def is_free_for(ledger: Ledger, name: LockName, options: Options) -> bool:
        return granting.fits(ledger.locks.get(name), options)

    patch.setattr(strings, "is_free_for", is_free_for)
    patch.setattr(strings, "promote", lambda ledger, names, index, before_ms: None)


@mutant_in(**STRINGS)
def set_xx_makes_a_key(patch: Patch) -> None:
    """SET XX takes a lock that has ended meanwhile."""
    real = LockTable._set_string

    def _set_string(self: LockTable, operation: SetString, index: int) -> Any:
        is_xx = operation.condition == "XX"
        return real(self, replace(operation, condition="") if is_xx else operation, index)

    patch.setattr(LockTable, "_set_string", _set_string)


@mutant_in(**STRINGS)
def a_lock_by_set_has_no_fencing_version(patch: Patch) -> None:
    """I2: it begins with version 1, whatever was granted before."""
    real = LockTable._set_string

    def _set_string(self: LockTable, operation: SetString, index: int) -> Any:
        last, self.last_version = self.last_version, 0
        outcome = real(self, operation, 0)
        self.last_version = max(last, self.last_version)
        return outcome

    patch.setattr(LockTable, "_set_string", _set_string)


@mutant_in(**STRINGS)
def another_value_keeps_the_version(patch: Patch) -> None:
    """I2: who overwrites a lock has the version of whom it was taken from."""
    real = strings._take_away

    def _take_away(ledger: Ledger, name: LockName, lock: Lock, reason: bytes) -> Lock:
        if reason == b"replaced":
            ledger.last_version = lock.holds[0].version - 1
        return real(ledger, name, lock, reason)

    patch.setattr(strings, "_take_away", _take_away)
    patch.setattr(Ledger, "next_version", _next_version)


def _next_version(self: Ledger, index: int) -> int:
    self.last_version += 1
    return self.last_version


@mutant_in(**STRINGS)
def who_overwrites_tells_nobody(patch: Patch) -> None:
    """No event says that the former holder has lost the lock."""
    real = strings._take_away

    def _take_away(ledger: Ledger, name: LockName, lock: Lock, reason: bytes) -> Lock:
        events = list(ledger.events)
        without = real(ledger, name, lock, reason)
        if reason == b"replaced":
            ledger.events[:] = events
        return without

    patch.setattr(strings, "_take_away", _take_away)


@mutant_in(**STRINGS | {"strings": 0.5, "waits": 0.1, "enqueues": 0.8, "keys": 2})
def who_has_taken_a_key_still_waits_for_it(patch: Patch) -> None:
    """A waiter takes the lock by SET, and keeps its place: it is granted the lock once more."""
    patch.setattr(strings, "unqueue", lambda ledger, place, reason, index: None)


@mutant_in(**STRINGS)
def several_keys_are_set_as_far_as_they_are_free(patch: Patch) -> None:
    """MSETNX says that it has set all of them, and has set some."""

    def _set_all(ledger: Ledger, operation: SetAll, index: int) -> Any:
        free = [
            name
            for name in operation.names
            if strings._settled(ledger, name, index)[1] is None
            and granting.is_free_for(ledger, name, granting.PLAIN)
        ]
        for name in free:
            strings._put(ledger, name, operation.values[0], 0, index)
        return Number(1 if free else 0)

    patch.setitem(strings.HANDLERS, SetAll, _set_all)


# --- deleting, and when they end -----------------------------------------------------------------


@mutant_in(**STRINGS)
def del_does_not_serve_who_waits(patch: Patch) -> None:
    """I4: the lock is free, and its queue waits for the next release."""
    patch.setattr(strings, "promote", lambda ledger, names, index, before_ms: None)


@mutant_in(**STRINGS)
def delifeq_does_not_compare(patch: Patch) -> None:
    """I7: whoever comes late deletes the next holder's lock."""
    real = strings._delete_if

    def _delete_if(ledger: Ledger, operation: DeleteIf, index: int) -> Any:
        hold = strings._settled(ledger, operation.name, index)[1]
        if isinstance(hold, Hold):
            operation = replace(operation, value=hold.owner)
        return real(ledger, operation, index)

    patch.setitem(strings.HANDLERS, DeleteIf, _delete_if)


@mutant_in(**STRINGS | {"strings": 0.9, "kinds": ("exclusive",), "operations_per_s": 80})
def getdel_leaves_the_key(patch: Patch) -> None:
    """H1: it is told the value, and the lock is held on."""

    def _get_delete(ledger: Ledger, operation: GetDelete, index: int) -> Any:
        hold = strings._settled(ledger, operation.name, index)[1]
        return strings._bulk(hold) if isinstance(hold, Hold | None) else hold

    patch.setitem(table._LONG, GetDelete, _get_delete)


@mutant_in(**STRINGS)
def pexpire_counts_from_when_the_hold_began(patch: Patch) -> None:
    """H7: an extended hold ends too early."""
    real = strings._expire

    def _expire(ledger: Ledger, operation: Expire, index: int) -> Any:
        hold = strings._settled(ledger, operation.name, index)[1]
        if isinstance(hold, Hold):
            age_ms = ledger.clock_ms - hold.acquired_ms
            operation = replace(operation, ms=operation.ms - age_ms)
        return real(ledger, operation, index)

    patch.setitem(strings.HANDLERS, Expire, _expire)


# --- scripts -------------------------------------------------------------------------------------


@mutant_in(**STRINGS)
def a_script_runs_on_one_replica_only(patch: Patch) -> None:
    """I10: the others take its answer for done."""
    number_of = _number_of()
    real = scripting.evaluate

    def evaluate(ledger: Ledger, operation: Evaluate, index: int) -> Any:
        if number_of(ledger) % 3 == 0:
            return real(ledger, operation, index)
        return scripting.scripted(1)

    patch.setitem(table._LONG, Evaluate, evaluate)


@mutant_in(**STRINGS)
def a_script_asks_the_replica_s_own_clock(patch: Patch) -> None:
    """I12: TIME is not that of the entry."""
    number_of = _number_of()
    real = scripting._Caller.call

    def call(self: scripting._Caller, words: list[bytes]) -> Reply:
        told = real(self, words)
        if words[0] != b"time":
            return told
        assert isinstance(told, list)
        return [b"%d" % (int(told[0]) + number_of(self._ledger)), told[1]]  # type: ignore[arg-type]

    patch.setattr(scripting._Caller, "call", call)


@mutant_in(**STRINGS | {"snapshot_entries": 20, "faults": KILLS})
def a_snapshot_forgets_the_scripts(patch: Patch) -> None:
    """I10: EVALSHA is answered NOSCRIPT on a replica that was restored."""
    restored(patch, lambda table: table.scripts.clear())


@mutant_in(**STRINGS)
def scripts_are_flushed_on_one_replica_only(patch: Patch) -> None:
    """I10: SCRIPT FLUSH is answered by the node that was asked."""
    number_of = _number_of()
    real = scripting.flush

    def flush(ledger: Ledger, operation: FlushScripts, index: int) -> Done:
        return real(ledger, operation, index) if number_of(ledger) % 3 == 0 else Done()

    patch.setitem(scripting.HANDLERS, FlushScripts, flush)


# --- tries that are refused without a log entry ----------------------------------------------------


@mutant_in(**STRINGS)
def a_follower_refuses_by_what_it_has_applied(patch: Patch) -> None:
    """H1: a refusal is stale: no leader says that the lock is held still."""
    real = Node.submit

    def submit(self: Node, client: Any, operations: Sequence[Operation]) -> None:
        if not self.core.is_leader and client is not None and len(operations) == 1:
            outcome = Trial(self.table, self.table.clock_ms).answer(operations[0])
            if outcome is not None:
                self._answers.append((client, [outcome]))
                return
        real(self, client, operations)

    patch.setattr(Node, "submit", submit)


# --- transactions --------------------------------------------------------------------------------


@mutant_in(**STRINGS)
def exec_leaves_out_its_last_step(patch: Patch) -> None:
    """It is not atomic: a step is answered, and not carried out."""
    real = transactions.execute

    def execute(ledger: Ledger, operation: Execute, index: int, do: transactions.Do) -> Any:
        shorter = replace(operation, steps=operation.steps[:-1])
        done = real(ledger, shorter, index, do)
        if isinstance(done, Executed) and done.results is not None:
            return Executed((*done.results, Done()))
        return done

    patch.setattr(transactions, "execute", execute)


@mutant_in(**STRINGS)
def exec_does_not_look_at_what_is_watched(patch: Patch) -> None:
    """The lock that it was to take while free has been taken and given back since."""
    patch.setattr(transactions, "_is_unchanged", lambda ledger, name, number, index: True)


@mutant_in(**STRINGS | {"strings": 0.9})
def watch_misses_that_a_hold_expires(patch: Patch) -> None:
    """What ends by time has changed nothing."""
    real = ends.end_due

    def end_due(ledger: Ledger, index: int) -> None:
        watched, changes = ledger.watched.copy(), ledger.changes
        real(ledger, index)
        ledger.watched, ledger.changes = watched, changes

    patch.setattr(ends, "end_due", end_due)


@mutant_in(**STRINGS | {"snapshot_entries": 20, "faults": KILLS})
def a_snapshot_forgets_what_is_watched(patch: Patch) -> None:
    """I10: EXEC is given up on a replica that was restored, and done on the others."""

    def change(table: LockTable) -> None:
        table.watched.clear()
        table.changes = 0

    restored(patch, change)
