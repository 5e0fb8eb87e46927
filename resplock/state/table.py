"""The lock table's `apply`: how each operation changes it.

Pure and deterministic: two replicas that apply the same entries hold the same table. What it holds,
and the invariants, are in `ledger`. Here are the operations; those on plain locks (one exclusive hold
without anything special, nobody waiting: `Lock.extra` is None) are all that most clients need, and
are short.

Time is the entry's stamp. A command first ends whatever is overdue on the locks that it touches, so
that no command ever sees an overdue hold, whatever the cap on ends per entry has left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from resplock import limits
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    AcquireAll,
    AddRefusals,
    Blocked,
    Break,
    Bulk,
    Busy,
    Cancel,
    Delete,
    Disconnect,
    Done,
    Ended,
    Evaluate,
    Event,
    Execute,
    Executed,
    GetDelete,
    GetExpire,
    Granted,
    Held,
    KeepAlive,
    Kept,
    Look,
    Lost,
    NodeGone,
    NotHeld,
    NotOwner,
    Number,
    Operation,
    Outcome,
    Queued,
    QueueFull,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Scripted,
    SetString,
    Settle,
    SetUnixOffset,
    Stale,
    Told,
    Unblock,
    Undelivered,
    Watch,
)
from resplock.state import ends, keyspace, leaving, scripting, strings, transactions, waiting
from resplock.state.crowded import Scans, Sortings
from resplock.state.granting import PLAIN, claim, extend, is_up, names_of
from resplock.state.ledger import Ledger, Slot
from resplock.state.records import Hold, Lock, Remembered, heard
from resplock.types import LockName, NodeId, StampMs


class LockTable(Ledger):
    """All locks, and everything that decides about them.

    Read by `queries` and `snapshots`; changed by `apply` and, as a whole, by `snapshots.restore`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[type, Callable[[Any, int], Outcome]] = {
            Acquire: self._acquire,
            Release: self._release,
            Renew: self._renew,
            KeepAlive: self._keep_alive,
            Break: self._break,
            Settle: self._settle_all,
            SetUnixOffset: self._set_unix_offset,
            AcquireAll: self._acquire_all,
            Cancel: self._cancel,
            Disconnect: self._disconnect,
            NodeGone: self._node_gone,
            Unblock: self._unblock,
            Undelivered: self._undelivered,
            AddRefusals: self._add_refusals,
            **{kind: partial(handler, self) for kind, handler in strings.HANDLERS.items()},
            **{kind: partial(handler, self) for kind, handler in keyspace.HANDLERS.items()},
            **{kind: partial(handler, self) for kind, handler in scripting.HANDLERS.items()},
            **{kind: partial(self._answer_long, handler) for kind, handler in _LONG.items()},
            SetString: self._set_string,
            Delete: self._delete,
            Watch: partial(transactions.watch, self),
            Execute: self._execute,
        }

    # --- what the node asks ----------------------------------------------------------------------

    def apply(self, first: int, stamp_ms: int, operations: Sequence[Operation]) -> list[Outcome]:
        """Apply one entry: `operations[i]` has the log index `first + i`. One outcome for each.

        stamp_ms: the entry's replicated clock. An entry without operations only moves the clock.
        """
        assert stamp_ms >= self.clock_ms, "the replicated clock never goes back"
        self.clock_ms = StampMs(stamp_ms)
        self.now_unix_ms = stamp_ms + self.unix_offset_ms
        if self.ended or self.events:
            self.ended, self.events = [], []
        self.ends_left = limits.ENDS_PER_ENTRY
        self.script_steps_left = limits.SCRIPT_STEPS_PER_ENTRY
        self.keys_left = limits.KEYS_PER_ENTRY
        self.transaction_steps_left = limits.TRANSACTION_STEPS_PER_ENTRY
        self.answer_bytes_left = limits.ANSWER_BYTES_PER_ENTRY
        ends.end_due(self, first)
        if self.departing:
            leaving.go_on(self, first)
        self.rates.sample(stamp_ms)
        handlers = self._handlers
        return [
            handlers[type(operation)](operation, index)
            for index, operation in enumerate(operations, first)
        ]

    def take_ended(self) -> list[Ended]:
        """The waits that the last entry ended, in the order of the log. To be taken after each."""
        ended, self.ended = self.ended, []
        return ended

    def take_events(self) -> list[Event]:
        """What the last entry did, in the order of the log. Empty unless `keeps_events`."""
        events, self.events = self.events, []
        return events

    def is_waiting(self, wanted: Acquire | AcquireAll, ticket: int) -> bool:
        """Whether the wait for this, which was answered Blocked with this ticket, has not ended."""
        place = self.queues.place_of(names_of(wanted), wanted.owner)
        return place is not None and place.ticket == ticket

    def attached_lives(self) -> list[tuple[NodeId, int]]:
        """The nodes, and their incarnations, to whose clients places or holds are attached; sorted."""
        return sorted({*self.queues.by_client.lives, *self.tied.lives})

    def end_due(self, now_ms: int) -> bool:
        """Whether an end is due by `now_ms`: the leader then carries the clock there."""
        if self.departing or self.timers.due(now_ms) is not None:
            return True
        if self.queues.timers.due(now_ms) is not None:
            return True
        return 0 < self.requests.next_deadline_ms <= now_ms

    def prepare(self, now_ms: int) -> None:
        """Put in order a part of what ends soon. To be called at every tick; see `Timers.prepare`."""
        self.timers.prepare(now_ms)
        self.queues.timers.prepare(now_ms)

    def begin_to_lead(self) -> None:
        """What is kept for those who go through it page by page was for an earlier leadership."""
        self.sortings, self.scans = Sortings(), Scans()

    @property
    def has_deadlines(self) -> bool:
        """Whether anything in the table ends with time, so that the clock must not be lost."""
        return bool(self.timers) or bool(self.queues.timers) or bool(self.requests)

    def overdue(self, name: LockName, now_ms: int) -> bool:
        """Whether a read of this lock at `now_ms` would show a hold that has ended by then."""
        lock = self.locks.get(name)
        return lock is not None and 0 < lock.next_deadline_ms <= now_ms

    # --- operations ------------------------------------------------------------------------------

    def _acquire(self, operation: Acquire, index: int) -> Outcome:
        if operation.request:
            return self._ask_once(operation, index)
        name = operation.name
        slot = self.locks.writable(name)
        lock = slot.get(name)
        if operation.options is not None:
            return waiting.ask(self, operation, index)
        if lock is None:
            return self._grant(slot, operation, index)
        if lock.extra is not None:
            return waiting.ask(self, operation, index)
        if 0 < lock.next_deadline_ms <= self.clock_ms:
            ends.expire_plain(self, slot, name, lock)
            return self._grant(slot, operation, index)
        if lock.holds[0].owner != operation.owner:
            return self._refuse(name, lock)
        return extend(self, name, lock, lock.holds[0], operation, counts=True)

    def _acquire_all(self, operation: AcquireAll, index: int) -> Outcome:
        if operation.request:
            return self._ask_once(operation, index)
        return waiting.ask(self, operation, index)

    def _ask_once(self, operation: Acquire | AcquireAll, index: int) -> Outcome:
        """The same REQUEST id gets the same answer, and has no second effect."""
        owner, request = operation.owner, operation.request
        earlier = self.requests.get(owner, request)
        if earlier is not None:
            return self._same_answer(earlier, operation, index)
        if operation.options is None and isinstance(operation, Acquire):
            outcome = self._acquire(replace(operation, request=b""), index)  # a try takes no place
        else:
            outcome = waiting.ask(self, operation, index)
        if not isinstance(outcome, Blocked | Queued | Busy | QueueFull):  # those are not final
            names = names_of(operation)
            self.requests.remember(
                owner, request, names, outcome, index=index, stamp_ms=self.clock_ms
            )
        return outcome

    def _same_answer(
        self, earlier: Remembered, operation: Acquire | AcquireAll, index: int
    ) -> Outcome:
        """What was answered; but a grant that has ended since is lost, and else is claimed now."""
        outcome = earlier.outcome
        if not isinstance(outcome, Granted):
            return outcome
        held: list[tuple[LockName, Hold]] = []
        for name in earlier.names:
            hold = self._held(name, operation.owner, outcome.version, index)
            if hold is None:
                return Lost(outcome.version)
            held.append((name, hold))
        for name, hold in held:
            claim(self, name, hold, operation.options or PLAIN)
        return outcome

    def _grant(self, slot: Slot, operation: Acquire, index: int) -> Granted:
        """Give a free lock away, with a version above every earlier one and not below `index`."""
        name, owner, ttl_ms = operation.name, operation.owner, operation.ttl_ms
        stamp_ms = self.clock_ms
        version = self.last_version + 1
        if version < index:
            version = index
        self.last_version = version
        if ttl_ms:
            deadline_ms = stamp_ms + ttl_ms
            self.timers.add(name, deadline_ms)
        else:
            deadline_ms = 0
        now = self.now_unix_ms
        hold = Hold(owner, version, deadline_ms, ttl_ms, stamp_ms, now, now, operation.metadata)
        slot[name] = Lock((hold,), deadline_ms)
        self.owners.add(owner, name)
        self.locks_by_db[name[0]] += 1
        self.totals.acquisitions += 1
        if self.keeps_events or self.watched:
            self.tell("acquired", name, owner, version)
        return Granted(version, ttl_ms)

    def _refuse(self, name: LockName, lock: Lock) -> Held:
        self.totals.refusals += 1
        hold = lock.holds[0]
        advice = self.means.advice(name, lock, 0, self.clock_ms)
        return Held(hold.shown_owner, hold.version, hold.remaining_ms(self.clock_ms), 0, advice)

    def _release(self, operation: Release, index: int) -> Outcome:
        name = operation.name
        slot = self.locks.writable(name)
        lock = slot.get(name)
        if lock is None:
            return NotHeld(name)
        if lock.extra is not None:
            return self._release_special(operation, index)
        if 0 < lock.next_deadline_ms <= self.clock_ms:
            ends.expire_plain(self, slot, name, lock)
            return NotHeld(name)
        hold = lock.holds[0]
        if hold.owner != operation.owner:
            return NotOwner(name, hold.quoted_owner, hold.version)
        if operation.version and operation.version != hold.version:
            return Stale(name, operation.version, hold.version)
        self.means.observe(name, self.clock_ms - hold.acquired_ms)
        self.drop_plain(slot, name, lock)
        self.totals.releases += 1
        if self.keeps_events or self.watched:
            self.tell("released", name, hold.owner, hold.version)
        return _RELEASED

    def _release_special(self, operation: Release, index: int) -> Outcome:
        """Release a lock that is waited for, or is not one exclusive hold."""
        found = self._hold_for(operation, index)
        if not isinstance(found, tuple):
            return found
        lock, hold = found
        return ends.release(self, operation.name, lock, hold, index)

    def _renew(self, operation: Renew, index: int) -> Outcome:
        name = operation.name
        slot = self.locks.writable(name)
        lock = slot.get(name)
        if lock is not None and lock.extra is not None:
            return self._renew_special(operation, index)
        if lock is not None and 0 < lock.next_deadline_ms <= self.clock_ms:
            ends.expire_plain(self, slot, name, lock)
            lock = None
        if lock is None:
            return NotHeld(name)
        hold = lock.holds[0]
        if hold.owner != operation.owner:
            return NotOwner(name, hold.quoted_owner, hold.version)
        if operation.version and operation.version != hold.version:
            return Stale(name, operation.version, hold.version)
        ttl_ms = self._renew_plain(slot, name, lock, operation.ttl_ms)
        return Renewed(hold.version, ttl_ms)

    def _renew_special(self, operation: Renew, index: int) -> Outcome:
        """Renew a hold of a lock that is waited for, or is not one exclusive hold."""
        found = self._hold_for(operation, index)
        if not isinstance(found, tuple):
            return found
        lock, hold = found
        ttl_ms = self._set_ttl(operation.name, lock, hold, operation.ttl_ms)
        return Renewed(hold.version, ttl_ms)

    def _keep_alive(self, operation: KeepAlive, index: int) -> Kept | Refused:
        holds = self.owners.count(operation.owner)
        if holds > limits.KEEPALIVE_HOLDS_MAX:
            return Refused(
                f"the owner holds {holds} locks, and KEEPALIVE renews {limits.KEEPALIVE_HOLDS_MAX} "
                "at most"
            )
        names = self.owners.members_of(operation.owner)
        renewed = sum(self._keep(name, operation, index) for name in names)
        if not operation.versions:
            return Kept(renewed)
        lost = tuple(
            name
            for name, version in operation.versions
            if self._held(name, operation.owner, version, index) is None
        )
        return Kept(renewed, lost)

    def _keep(self, name: LockName, operation: KeepAlive, index: int) -> bool:
        """Renew one of an owner's holds; says whether it had not ended."""
        slot = self.locks.writable(name)
        lock = slot[name]
        if lock.extra is None and not 0 < lock.next_deadline_ms <= self.clock_ms:
            self._renew_plain(slot, name, lock, operation.ttl_ms)
            return True
        ends.settle(self, name, index)
        left = slot.get(name)
        hold = left.hold_of(operation.owner) if left else None
        if left is None or hold is None:
            return False
        self._set_ttl(name, left, hold, operation.ttl_ms)
        return True

    def _break(self, operation: Break, index: int) -> Outcome:
        return ends.break_lock(self, operation, index)

    def _settle_all(self, operation: Settle, index: int) -> Done:
        for name in operation.names:
            ends.settle(self, name, index)
        return _DONE

    def _set_unix_offset(self, operation: SetUnixOffset, index: int) -> Done:
        self.unix_offset_ms = operation.offset_ms
        self.now_unix_ms = self.clock_ms + operation.offset_ms
        return _DONE

    def _add_refusals(self, operation: AddRefusals, index: int) -> Done:
        self.totals.refusals += operation.count
        return _DONE

    def _cancel(self, operation: Cancel, index: int) -> Outcome:
        return waiting.cancel(self, operation, index)

    def _unblock(self, operation: Unblock, index: int) -> Outcome:
        return waiting.unblock(self, operation, index)

    def _disconnect(self, operation: Disconnect, index: int) -> Done:
        leaving.disconnect(self, operation.clients, index)
        return _DONE

    def _node_gone(self, operation: NodeGone, index: int) -> Done:
        leaving.node_gone(self, operation, index)
        return _DONE

    def _undelivered(self, operation: Undelivered, index: int) -> Done:
        leaving.undelivered(self, operation, index)
        return _DONE

    # --- transactions ----------------------------------------------------------------------------

    def _execute(self, operation: Execute, index: int) -> Executed | Busy:
        return transactions.execute(self, operation, index, self._do)

    def _do(self, step: Operation, index: int) -> Told:
        """Carry out one step of a transaction."""
        if isinstance(step, Look):
            return transactions.look(self, step.query, index)
        if type(step) in _LONG:  # the transaction counts its answers itself
            return _LONG[type(step)](self, step, index)
        return self._handlers[type(step)](step, index)

    # --- string keys -----------------------------------------------------------------------------

    def _set_string(self, operation: SetString, index: int) -> Outcome:
        """SET: here as lock libraries use it, for a key that is not there or, with NX, that is."""
        slot = self.locks.writable(operation.name)
        lock = slot.get(operation.name)
        if operation.gives_old:
            return self._answer_long(strings.set_string, operation, index)
        if operation.at_ms or operation.condition == "XX":
            return strings.set_string(self, operation, index)
        if lock is None:
            ttl_ms = 0 if operation.ttl_ms == KEEP_TTL else operation.ttl_ms
            self._grant(slot, Acquire(operation.name, operation.value, ttl_ms), index)
            return strings.YES if operation.counts else strings.DONE
        is_over = 0 < lock.next_deadline_ms <= self.clock_ms
        if lock.extra is not None or is_over or not operation.condition:
            return strings.set_string(self, operation, index)
        self.totals.refusals += 1
        return strings.NO if operation.counts else strings.NOTHING

    def _delete(self, operation: Delete, index: int) -> Number:
        """DEL of a key: here of a plain lock."""
        name = operation.name
        slot = self.locks.writable(name)
        lock = slot.get(name)
        if lock is None:
            return strings.NO
        if lock.extra is not None or 0 < lock.next_deadline_ms <= self.clock_ms:
            return strings.delete(self, operation, index)
        strings.delete_plain(self, slot, name, lock)
        return strings.YES

    def _answer_long(
        self, handler: Callable[[Ledger, Any, int], Outcome], operation: Any, index: int
    ) -> Outcome:
        """What may be answered with a whole value, as long as those of the entry are not too many."""
        if self.answer_bytes_left <= 0:
            return _TOO_MUCH
        outcome = handler(self, operation, index)
        if isinstance(outcome, Bulk):
            self.answer_bytes_left -= len(outcome.value or b"")
        elif isinstance(outcome, Scripted):
            self.answer_bytes_left -= len(outcome.resp2) + len(outcome.resp3)
        return outcome

    # --- shared steps ----------------------------------------------------------------------------

    def _hold_for(
        self, operation: Release | Renew, index: int
    ) -> tuple[Lock, Hold] | NotHeld | NotOwner | Stale:
        """The hold that an operation is about, or why it has none."""
        name = operation.name
        ends.settle(self, name, index)
        lock = self.locks.get(name)
        if lock is None or not lock.holds:
            return NotHeld(name)
        hold = lock.hold_of(operation.owner)
        if hold is None:
            holder = lock.holds[0]
            return NotOwner(name, holder.quoted_owner, holder.version)
        if operation.version and operation.version != hold.version:
            return Stale(name, operation.version, hold.version)
        return lock, hold

    def _set_ttl(self, name: LockName, lock: Lock, hold: Hold, ttl_ms: int) -> int:
        """Make the hold end `ttl_ms` from now, exactly; KEEP_TTL means its own TTL."""
        if ttl_ms == KEEP_TTL:
            ttl_ms = hold.ttl_ms
        stamp_ms = self.clock_ms
        deadline_ms = stamp_ms + ttl_ms if ttl_ms else 0
        terms = hold.terms and heard(hold.terms)
        renewed = replace(
            hold,
            ttl_ms=ttl_ms,
            deadline_ms=deadline_ms,
            modified_at=self.now_unix_ms,
            terms=terms,
        )
        self.put_hold(name, lock, hold, renewed)
        self.totals.renewals += 1
        self.tell("renewed", name, hold.owner, hold.version)
        return ttl_ms

    def _renew_plain(self, slot: Slot, name: LockName, lock: Lock, ttl_ms: int) -> int:
        """As `_set_ttl`, for the hold of a plain lock."""
        hold = lock.holds[0]
        if ttl_ms == KEEP_TTL:
            ttl_ms = hold.ttl_ms
        deadline_ms = self.clock_ms + ttl_ms if ttl_ms else 0
        renewed = replace(
            hold, ttl_ms=ttl_ms, deadline_ms=deadline_ms, modified_at=self.now_unix_ms
        )
        slot[name] = Lock((renewed,), deadline_ms)
        before_ms = lock.next_deadline_ms
        if before_ms != deadline_ms:
            if before_ms:
                self.timers.remove(name, before_ms)
            if deadline_ms:
                self.timers.add(name, deadline_ms)
        self.totals.renewals += 1
        self.tell("renewed", name, hold.owner, hold.version)
        return ttl_ms

    def _held(self, name: LockName, owner: bytes, version: int, index: int) -> Hold | None:
        """The owner's hold with this version, if it has not ended."""
        ends.settle(self, name, index)
        lock = self.locks.get(name)
        hold = lock.hold_of(owner) if lock else None
        return hold if hold is not None and hold.version == version else None

    # --- for tests -------------------------------------------------------------------------------

    def check(self) -> None:
        """Recompute what is derived and compare; raises AssertionError. Slow: for tests."""
        super().check()
        for place in self.queues.places.values():
            assert not is_up(self, place), "a place that could be granted waits"


_LONG: dict[type, Callable[[Ledger, Any, int], Outcome]] = {
    GetDelete: strings.HANDLERS[GetDelete],
    GetExpire: strings.HANDLERS[GetExpire],
    Evaluate: scripting.HANDLERS[Evaluate],
}
"""What may be answered with a whole value; and so may SET with GET."""
_TOO_MUCH = Busy(f"more than {limits.ANSWER_BYTES_PER_ENTRY} bytes of values are asked for at once")
_RELEASED = Released()
_DONE = Done()
