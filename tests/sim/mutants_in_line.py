"""Planted bugs of waiting in line and of the kinds of locks: see `tests.sim.mutants`.

All but a few are looked for without the naive model, so that the invariants and the histories notice
them, not only a second description of what every command does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from resplock.node.departures import Absences, Departures
from resplock.node.node import Node
from resplock.node.runs import Run
from resplock.node.waits import Waits
from resplock.operations import Disconnect, Operation, Options, Unblocked, Undelivered
from resplock.state import ends, granting, handover, leaving, queues, waiting
from resplock.state.ledger import Ledger
from resplock.state.queues import Queue, Queues
from resplock.state.records import Hold, Lock, Place
from resplock.state.table import LockTable
from resplock.types import LockName
from tests.sim.planting import LINES, Patch, mutant_in, restored
from tests.sim.world import MS

KILLS = {"kill": 1500 * MS}
CHANGES = {"transfer": 800 * MS, "partition": 2000 * MS}
QUIET = LINES | {
    "operations_per_s": 12,
    "keys": 8,
    "waits": 0.4,
    "on_close": 0.8,
    "faulty": 15_000 * MS,
}
"""A world in which what has leaked is not soon broken by somebody."""

# --- snapshots -----------------------------------------------------------------------------------


@mutant_in(**LINES | {"snapshot_entries": 20, "faults": KILLS})
def a_snapshot_forgets_who_waits(patch: Patch) -> None:
    """Pitfall 23: a place in line is missing on this replica."""

    def change(table: LockTable) -> None:
        for place in list(table.queues.places.values())[:1]:
            table.remove_place(place)

    restored(patch, change)


@mutant_in(**LINES | {"snapshot_entries": 20, "faults": KILLS})
def a_snapshot_forgets_when_waits_run_out(patch: Patch) -> None:
    """Pitfall 23: places that came with it are never given up by time."""

    def change(table: LockTable) -> None:
        table.queues.timers._buckets.clear()
        table.queues.timers._order.clear()
        table.queues.timers._near.clear()

    restored(patch, change)


@mutant_in(**LINES | {"snapshot_entries": 20, "faults": KILLS})
def a_snapshot_forgets_what_is_tied_to_clients(patch: Patch) -> None:
    """Holds ONCLOSE that came with it outlive their connections."""

    def change(table: LockTable) -> None:
        table.tied._members.clear()

    restored(patch, change)


# --- the order of grants -------------------------------------------------------------------------


@mutant_in(**LINES)
def the_last_in_line_is_served_first(patch: Patch) -> None:
    """I6: a queue is a stack."""
    patch.setattr(Queue, "front", lambda self: self._order[-1] & queues._INDEX_MASK)


@mutant_in(**LINES)
def priority_means_nothing(patch: Patch) -> None:
    """I6: first come, first served, whatever was asked for."""
    patch.setattr(queues, "_number", lambda priority, index: index)


@mutant_in(**LINES)
def readers_pass_a_writer_that_waits(patch: Patch) -> None:
    """I6: a writer starves while readers come and go."""
    real = granting.is_free_for

    def is_free_for(ledger: Ledger, name: LockName, options: Options) -> bool:
        lock = ledger.locks.get(name)
        if options.shared and lock is not None and not lock.delayed_until_ms:
            return granting.fits(lock, options)
        return real(ledger, name, options)

    patch.setattr(waiting, "is_free_for", is_free_for)


@mutant_in(**LINES)
def who_gives_up_is_not_followed_by_the_next(patch: Patch) -> None:
    """I4: a place in front is given up, and nobody looks who could be granted the lock now."""
    patch.setattr(
        handover,
        "leave",
        lambda ledger, place, reason, index: handover._leave(
            ledger, place, Unblocked(reason), reason.encode(), index
        ),
    )
    patch.setattr(waiting, "leave", handover.leave)
    patch.setattr(leaving, "leave", handover.leave)


@mutant_in(**LINES)
def one_end_makes_room_for_one_only(patch: Patch) -> None:
    """I4: of several readers in front, the first is granted the lock, and the others wait on."""
    real = handover.promote

    def promote(ledger: Ledger, names: Any, index: int, before_ms: int) -> bytes | None:
        done: list[Place] = []

        def is_up(ledger: Ledger, place: Place) -> bool:
            if done or not granting.is_up(ledger, place):
                return False
            done.append(place)
            return True

        with patch.context() as inner:
            inner.setattr(handover, "is_up", is_up)
            return real(ledger, names, index, before_ms)

    for module in (handover, ends, waiting, leaving):
        patch.setattr(module, "promote", promote)


# --- who may hold a lock beside whom -------------------------------------------------------------


@mutant_in(**LINES)
def a_reader_is_let_in_beside_a_writer(patch: Patch) -> None:
    """I1: a shared hold beside an exclusive one."""
    real = granting.fits

    def fits(lock: Lock | None, options: Options) -> bool:
        return real(lock, options) or options.shared

    patch.setattr(granting, "fits", fits)


@mutant_in(**LINES)
def permits_are_counted_as_one(patch: Patch) -> None:
    """I1: holds of a semaphore are counted, not their permits."""
    real = granting.fits

    def fits(lock: Lock | None, options: Options) -> bool:
        if lock is None or not lock.holds or not options.limit or lock.limit != options.limit:
            return real(lock, options)
        return len(lock.holds) < lock.limit

    patch.setattr(granting, "fits", fits)


@mutant_in(**LINES | {"several": 0.5})
def several_locks_are_granted_by_halves(patch: Patch) -> None:
    """A MACQUIRE that waits is granted the first of its locks, and told that it has all."""
    real = handover.grant

    def grant(ledger: Ledger, names: Sequence[LockName], *arguments: Any, **options: Any) -> Any:
        return real(ledger, names[:1], *arguments, **options)

    patch.setattr(handover, "grant", grant)


@mutant_in(**LINES | {"several": 0.5})
def several_locks_are_granted_when_the_first_is_free(patch: Patch) -> None:
    """I1: a MACQUIRE that waits looks at one of its locks only."""
    real = granting.is_up

    def is_up(ledger: Ledger, place: Place) -> bool:
        lock = ledger.locks.get(place.names[0])
        is_first = ledger.queues.front(place.names[0]) is place
        if len(place.names) == 1 or not is_first or lock is None:
            return real(ledger, place)
        return not lock.holds and not lock.delayed_until_ms

    patch.setattr(handover, "is_up", is_up)


@mutant_in(**LINES | {"delays": 0.8, "kinds": ("exclusive",)})
def a_delay_is_ignored_when_a_hold_expires(patch: Patch) -> None:
    """DELAY counts after a BREAK only."""
    real = ends.delay

    def delay(ledger: Ledger, name: LockName, hold: Hold) -> None:
        if hold.ends_ms == 0 or hold.ends_ms > ledger.clock_ms:
            real(ledger, name, hold)

    patch.setattr(ends, "delay", delay)


@mutant_in(**LINES | {"kinds": ("reentrant",)})
def a_re_entrant_hold_ends_with_the_first_release(patch: Patch) -> None:
    """Its acquisitions are not counted."""
    real = ends.release

    def release(ledger: Ledger, name: LockName, lock: Lock, hold: Hold, index: int) -> Any:
        if hold.terms is not None and hold.terms.holds > 1:
            once = replace(hold, terms=replace(hold.terms, holds=1))
            ledger.put_hold(name, lock, hold, once)
            lock, hold = ledger.locks.writable(name)[name], once
        return real(ledger, name, lock, hold, index)

    patch.setattr(ends, "release", release)


@mutant_in(**LINES | {"has_model": True, "waits": 0.9})
def a_deadlock_is_admitted(patch: Patch) -> None:
    """Nobody looks whether a wait closes a cycle."""
    patch.setattr(waiting.deadlocks, "cycle", lambda ledger, place: None)


# --- ends of waits -------------------------------------------------------------------------------


@mutant_in(**LINES)
def a_wait_ends_twice(patch: Patch) -> None:
    """I5: it is told twice that a wait has run out."""
    real = Ledger.end_ticket

    def end_ticket(self: Ledger, place: Place, outcome: Any) -> None:
        real(self, place, outcome)
        if outcome.__class__.__name__ == "TimedOut":
            real(self, place, outcome)

    patch.setattr(Ledger, "end_ticket", end_ticket)


@mutant_in(**LINES)
def an_answer_to_a_wait_is_given_twice(patch: Patch) -> None:
    """A client is told the end of its wait, and then told it once more."""
    real = Waits._end

    def _end(self: Waits, wait: Any, ended: Any) -> Any:
        if wait.client is not None:
            self._answers.append((wait.client, [ended.outcome]))
        return real(self, wait, ended)

    patch.setattr(Waits, "_end", _end)


@mutant_in(**LINES)
def that_it_waits_is_taken_for_the_answer(patch: Patch) -> None:
    """A client is told Blocked, which is no answer."""

    def answers(
        self: Waits, run: Run, results: Sequence[Any], *, is_applied: bool
    ) -> Iterator[tuple[Any, Sequence[Any]]]:
        return run.answers(results)

    patch.setattr(Waits, "answers", answers)


@mutant_in(**LINES | {"delay": 1 * MS, "jitter": 10 * MS, "wait_ms": (1, 5), "disturbs": 0.0})
def an_end_that_comes_before_the_answer_is_lost(patch: Patch) -> None:
    """A follower applies the end of a wait of which the leader has not told it yet."""
    real = Waits.ended
    patch.setattr(Waits, "ended", lambda self, ended, asked: real(self, ended, 0))


@mutant_in(**LINES | {"disturbs": 0.7})
def who_is_replaced_is_not_told(patch: Patch) -> None:
    """I5: the owner asks again, and its older connection stays blocked for ever."""
    patch.setattr(waiting, "_forsake", lambda ledger, place, newer, index: None)


@mutant_in(**LINES)
def waits_run_out_by_each_replica_s_own_clock(patch: Patch) -> None:
    """I8, I12: a wait ends when this replica thinks so, not when the log says it."""
    real = Place.__dict__["ends_ms"].fget
    skews: dict[int, int] = {}

    def _ends_ms(self: Queues, index: int) -> int:
        skew = skews.setdefault(id(self), len(skews) % 3 * 40)
        place = self.places.get(index)
        return real(place) - skew if place is not None else 0

    patch.setattr(Queues, "_ends_ms", _ends_ms)

    def _watch(self: Queues, place: Place) -> None:
        self.timers.add(place.index, self._ends_ms(place.index))
        if (client := place.client) is not None:
            self.by_client.add(client, place.index)

    patch.setattr(Queues, "_watch", _watch)


# --- clients that come back, and clients that do not ---------------------------------------------


@mutant_in(**LINES | {"disturbs": 0.7, "requests": 0.9, "faults": KILLS, "has_model": True})
def the_end_of_a_wait_is_not_remembered(patch: Patch) -> None:
    """I9: whoever asks again after a failover, with the same REQUEST, is answered anew."""
    patch.setattr(handover, "remember", lambda ledger, place, outcome, index: None)


@mutant_in(**LINES | {"disturbs": 0.7, "requests": 0.9})
def a_place_stays_with_the_client_that_it_was_taken_over_from(patch: Patch) -> None:
    """Who asks again elsewhere loses its place when its former connection closes."""
    real = Queues.replace

    def replace_place(self: Queues, old: Place, new: Place) -> None:
        if old.ticket and new.ticket:
            new = replace(new, options=replace(new.options, client=old.options.client))
        real(self, old, new)

    patch.setattr(Queues, "replace", replace_place)


@mutant_in(**LINES | {"on_close": 0.8, "vanishes": 0.2})
def a_hold_outlives_its_connection(patch: Patch) -> None:
    """ONCLOSE RELEASE: places end with a client, and holds do not."""
    patch.setattr(ends, "lose", lambda ledger, name, owner, index: None)


@mutant_in(**LINES | {"disturbs": 0.9, "requests": 0.0, "delay": 5 * MS, "sync": 10 * MS})
def a_grant_to_who_has_left_is_kept(patch: Patch) -> None:
    """H9: nobody gives back what a client that has gone was granted meanwhile."""
    patch.setattr(Departures, "undelivered", lambda self, operation: None)


@mutant_in(**LINES | {"disturbs": 0.9, "requests": 0.9, "delay": 5 * MS, "has_model": True})
def a_grant_that_nobody_comes_back_for_is_kept(patch: Patch) -> None:
    """H9: a client left, and its REQUEST was granted what it waits for; it is not given up."""
    real = handover.grant

    def grant(*arguments: Any, claim_ms: int = 0, **options: Any) -> Any:
        return real(*arguments, claim_ms=0, **options)

    patch.setattr(handover, "grant", grant)


@mutant_in(**QUIET | {"vanishes": 0.4, "node_gone_ms": 8_000, "faults": CHANGES})
def who_left_during_a_change_of_leader_is_forgotten(patch: Patch) -> None:
    """H9: that a client has gone is proposed once, and lost with the leader."""

    def deliver(self: Departures, results: Sequence[Any]) -> None:
        self._under_way = []

    patch.setattr(Departures, "deliver", deliver)


@mutant_in(**QUIET | {"faults": KILLS})
def a_node_that_has_died_still_holds_for_its_clients(patch: Patch) -> None:
    """H9: nobody tells the log that a node is gone."""
    patch.setattr(Absences, "look", lambda self, attached, linked, now_ms: [])


@mutant_in(
    **QUIET
    | {"waits": 0.9, "wait_ms": (300,), "disturbs": 0.9, "node_gone_ms": 8_000, "faults": CHANGES}
)
def who_leaves_is_told_of_before_what_it_asked(patch: Patch) -> None:
    """Its last command is applied after its Disconnect, and what that takes is held for ever."""
    real = Node._propose

    def _propose(self: Node, run: Run, stamp_ms: Any) -> None:
        shares = sorted(run.shares(), key=lambda share: not _tells_of_departures(share[1]))
        ordered = Run()
        ordered.may_block = run.may_block
        for client, operations in shares:
            ordered.add(client, operations)
        real(self, ordered, stamp_ms)

    patch.setattr(Node, "_propose", _propose)


def _tells_of_departures(operations: Sequence[Operation]) -> bool:
    return any(isinstance(each, Disconnect | Undelivered) for each in operations)
