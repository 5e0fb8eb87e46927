"""MULTI and WATCH on the lock table: a transaction is one command of the log.

Pure and deterministic. `execute` carries out the steps of a transaction within the `apply` of one
entry, on every replica: they see one moment of the clock, and nothing comes between them. As in Redis
an error of one step is its answer, and the others are carried out.

WATCH gives each key a number that rises with every change of its holds of which events tell: a grant, a
renewal, an end of whatever kind, by time too. EXEC brings the numbers back, and does nothing unless all
are the same.

- An absent key has a number like any other, so one that was set and deleted meanwhile has changed.
- No number is given twice. Of the keys that have one the log forgets the one watched longest ago (see
  limits.WATCHED_MAX); its transactions are given up, and it gets another number when it is watched again.
- What is overdue has ended, at WATCH as at EXEC.
- Who waits in line changes nothing.

A watch is nobody's: no entry is needed when a connection closes, and UNWATCH only forgets numbers.

The work of an entry is bounded: once its transactions have taken so many steps, the others are answered
Busy, before anything of them was done. So is what one of them takes and answers: the steps behind that
are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from resplock import limits
from resplock.errors import CommandError
from resplock.operations import (
    Advice,
    Advised,
    Busy,
    CheckVersion,
    DescribeKey,
    Execute,
    Executed,
    GetBackoff,
    GetLock,
    GetStats,
    KeepAlive,
    ListKeys,
    ListLocks,
    Look,
    Operation,
    Query,
    RandomKey,
    Refused,
    ScanKeys,
    StringQuery,
    Told,
    Watch,
    Watched,
)
from resplock.state import ends, queries, strings
from resplock.state.ledger import Ledger
from resplock.types import LockName

if TYPE_CHECKING:
    from resplock.state.table import LockTable

Do: TypeAlias = Callable[[Operation, int], Told]
"""Carries out one step: (step, log index) -> answer."""

_ABORTED: Final = Executed(None)
_BUSY: Final = Busy("transactions, scripts or commands on many keys take too much at once")
_TOO_LONG: Final = Refused(
    f"not run: the replies of this transaction are longer than {limits.TRANSACTION_REPLY_BYTES_MAX} "
    "bytes"
)
_TOO_MUCH: Final = Refused(
    f"not run: this transaction takes more than {limits.TRANSACTION_STEPS_PER_ENTRY} steps"
)
_PAGES: Final = (ListLocks, ListKeys, ScanKeys)
"""Queries about many keys."""
_PAGE_BYTES: Final = max(limits.LIST_BYTES_MAX, limits.VALUES_BYTES_MAX)
_SHORT_BYTES: Final = 2 * limits.KEY_BYTES_MAX
_encode = msgspec.msgpack.Encoder().encode


def watch(ledger: Ledger, operation: Watch, index: int) -> Watched:
    """WATCH: from now on the changes of these keys are counted."""
    return Watched(tuple([_number(ledger, name, index) for name in operation.names]))


def _number(ledger: Ledger, name: LockName, index: int) -> int:
    ends.settle(ledger, name, index)
    watched = ledger.watched
    if name in watched:
        watched.move_to_end(name)
        return watched[name]
    ledger.changes += 1
    watched[name] = ledger.changes
    if len(watched) > limits.WATCHED_MAX:
        watched.popitem(last=False)
    return ledger.changes


def execute(ledger: Ledger, operation: Execute, index: int, do: Do) -> Executed | Busy:
    """EXEC."""
    if ledger.transaction_steps_left <= 0 or ledger.keys_left <= 0 or ledger.script_steps_left <= 0:
        return _BUSY
    if ledger.answer_bytes_left <= 0:
        return _BUSY
    ledger.transaction_steps_left -= len(operation.watched)
    if not all(_is_unchanged(ledger, *each, index) for each in operation.watched):
        return _ABORTED
    results: list[Told] = []
    room, steps_left = limits.TRANSACTION_REPLY_BYTES_MAX, limits.TRANSACTION_STEPS_PER_ENTRY
    for step in operation.steps:
        if room <= 0 or steps_left <= 0:
            results.append(_TOO_LONG if room <= 0 else _TOO_MUCH)
            continue
        steps = _steps(ledger, step)
        steps_left -= steps
        ledger.transaction_steps_left -= steps
        result = do(step, index)
        room -= _size(step, result)
        results.append(result)
    ledger.answer_bytes_left -= limits.TRANSACTION_REPLY_BYTES_MAX - room
    return Executed(tuple(results))


def _is_unchanged(ledger: Ledger, name: LockName, number: int, index: int) -> bool:
    ends.settle(ledger, name, index)
    return ledger.watched.get(name) == number


def _steps(ledger: Ledger, step: Operation) -> int:
    """About how much work it is: one for each key."""
    if isinstance(step, KeepAlive):
        return 1 + ledger.owners.count(step.owner)
    what = step.query if isinstance(step, Look) else step
    if isinstance(what, (*_PAGES, RandomKey)):
        return limits.TRANSACTION_PAGE_STEPS
    return len(getattr(what, "names", ())) or 1


def _size(step: Operation, result: Told) -> int:
    """About how long the reply is. Where replicas may answer differently, as long as it may be."""
    query = step.query if isinstance(step, Look) else None
    if isinstance(query, _PAGES):
        return _PAGE_BYTES
    if isinstance(query, GetStats | RandomKey):
        return _SHORT_BYTES
    return len(_encode(result))


def look(table: LockTable, query: Query, index: int) -> Told:
    """Answer a query, without what is overdue."""
    if isinstance(query, GetLock | CheckVersion | GetBackoff | DescribeKey):
        ends.settle(table, query.name, index)
    elif isinstance(query, StringQuery):
        for name in strings.names_of_query(query):
            ends.settle(table, name, index)
    try:
        answer = queries.answer(table, query, table.clock_ms)
    except CommandError as error:
        return Refused(error.text)
    return Advised(answer) if isinstance(answer, Advice) else answer
