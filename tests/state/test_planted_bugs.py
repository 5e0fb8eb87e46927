"""The model comparison is itself tested: each planted bug must make it fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from resplock import limits
from resplock.operations import Executed, Granted, NotHeld, Unblocked
from resplock.state import (
    deadlocks,
    ends,
    granting,
    handover,
    leaving,
    queries,
    queues,
    records,
    snapshots,
    table,
    transactions,
    waiting,
)
from resplock.state.groups import Groups
from resplock.state.ledger import Ledger
from resplock.state.records import Hold, Mode
from resplock.state.requests import Requests
from resplock.state.table import LockTable
from resplock.types import LockName
from tests.planted import fails_its_test, fails_within
from tests.state.transactions import (
    compare_with_single_steps,
    see_what_the_cap_has_left,
    watch_at_random,
)
from tests.state.twin import compare

SEEDS = 150
Plant = Callable[[pytest.MonkeyPatch], None]
PLANTS: dict[str, Plant] = {}


def is_caught() -> bool:
    for seed in range(SEEDS):
        try:
            compare(seed)
        except (AssertionError, KeyError, IndexError, StopIteration, AttributeError):
            return True
    return False


def plant(bug: Plant) -> Plant:
    PLANTS[bug.__name__] = bug
    return bug


def put(patch: pytest.MonkeyPatch, original: Any, changed: Any) -> None:
    """Put a function in the place of another wherever it was imported."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("resplock.state"):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    patch.setattr(module, attribute, changed)


def test_no_bug_no_alarm() -> None:
    assert not is_caught()


# --- holds ---------------------------------------------------------------------------------------


@plant
def renewal_changes_the_version(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._set_ttl

    def set_ttl(self, name, lock, hold, ttl_ms):  # type: ignore[no-untyped-def]
        self.last_version += 1
        newer = replace(hold, version=self.last_version)
        self.put_hold(name, lock, hold, newer)
        return original(self, name, self.locks.get(name), newer, ttl_ms)

    patch.setattr(LockTable, "_set_ttl", set_ttl)


@plant
def version_is_the_index_alone(patch: pytest.MonkeyPatch) -> None:
    """Two grants by one index, as a promotion or a batch makes them, get one version."""
    patch.setattr(Ledger, "next_version", lambda self, index: index)


@plant
def anyone_may_release(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._release

    def release(self, operation, index):  # type: ignore[no-untyped-def]
        lock = self.locks.get(operation.name)
        owner = lock.holds[0].owner if lock and lock.holds else operation.owner
        return original(self, replace(operation, owner=owner), index)

    patch.setattr(LockTable, "_release", release)


@plant
def release_ignores_the_version(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._release
    patch.setattr(
        LockTable,
        "_release",
        lambda self, op, index: original(self, replace(op, version=0), index),
    )


@plant
def holds_never_expire(patch: pytest.MonkeyPatch) -> None:
    put(patch, ends.end_overdue, lambda ledger, name, until_ms, index: 1)
    put(patch, ends.end_due, lambda ledger, index: None)


@plant
def holds_expire_a_millisecond_early(patch: pytest.MonkeyPatch) -> None:
    original = Ledger._deadline_of

    def deadline_of(self, name):  # type: ignore[no-untyped-def]
        return original(self, name) - 1

    patch.setattr(Ledger, "_deadline_of", deadline_of)
    expire = ends.end_overdue
    put(patch, expire, lambda ledger, name, ms, index: expire(ledger, name, ms + 1, index))


@plant
def extension_shortens_the_ttl(patch: pytest.MonkeyPatch) -> None:
    def extend(self, name, lock, hold, operation, *, counts):  # type: ignore[no-untyped-def]
        self._set_ttl(name, lock, hold, operation.ttl_ms)
        return Granted(hold.version, operation.ttl_ms)

    patch.setattr(table, "extend", extend)


@plant
def the_owner_index_forgets_the_second_lock(patch: pytest.MonkeyPatch) -> None:
    def add(self, key, member):  # type: ignore[no-untyped-def]
        self._members.setdefault(key, member)

    patch.setattr(Groups, "add", add)
    patch.setattr(Groups, "remove", lambda self, key, member: self._members.pop(key, None))


@plant
def a_hold_that_is_unclaimed_counts_as_expired(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "ends_ms", property(lambda self: self.deadline_ms))


# --- request ids ---------------------------------------------------------------------------------


@plant
def request_ids_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Requests, "get", lambda self, owner, request: None)


@plant
def a_repeated_request_hides_that_the_grant_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        LockTable, "_same_answer", lambda self, earlier, operation, index: earlier.outcome
    )


@plant
def request_ids_are_lost_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    original = snapshots.restore

    def restore(chunks):  # type: ignore[no-untyped-def]
        restored = original(chunks)
        restored.requests = Requests()
        return restored

    patch.setattr(snapshots, "restore", restore)


@plant
def a_blocked_answer_is_remembered_as_final(patch: pytest.MonkeyPatch) -> None:
    class Never:
        pass

    patch.setattr(table, "Blocked", Never)


@plant
def the_final_answer_is_not_remembered(patch: pytest.MonkeyPatch) -> None:
    put(patch, handover.remember, lambda ledger, place, outcome, index: None)


@plant
def who_did_not_come_back_is_told_so_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "_GIVEN_UP", None)


# --- snapshots -----------------------------------------------------------------------------------


def restored_with(patch: pytest.MonkeyPatch, change: Callable[[LockTable], None]) -> None:
    original = snapshots.restore

    def restore(chunks):  # type: ignore[no-untyped-def]
        restored = original(chunks)
        change(restored)
        return restored

    patch.setattr(snapshots, "restore", restore)


@plant
def timers_are_not_rebuilt_from_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    def change(restored: LockTable) -> None:
        restored.timers._buckets.clear()
        restored.timers._order.clear()

    restored_with(patch, change)


@plant
def the_last_version_is_lost_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    restored_with(patch, lambda restored: setattr(restored, "last_version", 0))


@plant
def timers_of_places_are_not_rebuilt_from_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    def change(restored: LockTable) -> None:
        restored.queues.timers._buckets.clear()
        restored.queues.timers._order.clear()

    restored_with(patch, change)


@plant
def graces_are_lost_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    def change(restored: LockTable) -> None:
        for place in list(restored.queues.places.values()):
            restored.queues.replace(place, replace(place, grace_ms=0))

    restored_with(patch, change)


@plant
def terms_are_lost_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    original = snapshots._sharing

    def sharing(lock, shared):  # type: ignore[no-untyped-def]
        kept = original(lock, shared)
        return replace(kept, holds=tuple(replace(hold, terms=None) for hold in kept.holds))

    patch.setattr(snapshots, "_sharing", sharing)


# --- the order of places -------------------------------------------------------------------------


@plant
def a_try_passes_those_who_wait(patch: pytest.MonkeyPatch) -> None:
    def is_free_for(ledger, name, options):  # type: ignore[no-untyped-def]
        lock = ledger.locks.get(name)
        if lock is None:
            return True
        return not lock.delayed_until_ms and granting.fits(lock, options)

    put(patch, granting.is_free_for, is_free_for)


@plant
def a_newcomer_passes_its_equals(patch: pytest.MonkeyPatch) -> None:
    original = granting.is_free_for

    def is_free_for(ledger, name, options):  # type: ignore[no-untyped-def]
        return original(ledger, name, replace(options, priority=options.priority + 1))

    put(patch, original, is_free_for)


@plant
def readers_starve_a_waiting_writer(patch: pytest.MonkeyPatch) -> None:
    original = granting.is_free_for

    def is_free_for(ledger, name, options):  # type: ignore[no-untyped-def]
        lock = ledger.locks.get(name)
        reads = options.shared and lock is not None and lock.mode is Mode.SHARED
        return bool(reads and not lock.delayed_until_ms) or original(ledger, name, options)

    put(patch, original, is_free_for)


@plant
def priorities_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queues, "_number", lambda priority, index: index)


@plant
def the_last_to_come_is_served_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queues.Queue, "front", lambda self: self._order[-1] & queues._INDEX_MASK)


@plant
def a_second_ask_goes_to_the_end(patch: pytest.MonkeyPatch) -> None:
    def replaced(self, old, new):  # type: ignore[no-untyped-def]
        self.remove(old)
        self.add(replace(new, index=max(new.ticket, new.index)))

    patch.setattr(queues.Queues, "replace", replaced)


@plant
def a_second_ask_keeps_the_old_deadline(patch: pytest.MonkeyPatch) -> None:
    original = queues.Queues.replace

    def replaced(self, old, new):  # type: ignore[no-untyped-def]
        original(self, old, replace(new, deadline_ms=old.deadline_ms))

    patch.setattr(queues.Queues, "replace", replaced)


@plant
def the_older_connection_is_not_told_that_its_place_was_taken_over(
    patch: pytest.MonkeyPatch,
) -> None:
    patch.setattr(waiting, "_forsake", lambda ledger, place, newer, index: None)


# --- handing over --------------------------------------------------------------------------------


def without_promotion(patch: pytest.MonkeyPatch, module: Any, function: str) -> None:
    """The function serves nobody."""
    original = getattr(module, function)
    promote = handover.promote

    def changed(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            put(inner, promote, lambda ledger, names, index, before_ms: None)
            return original(*arguments)

    put(patch, original, changed)


@plant
def a_release_serves_nobody(patch: pytest.MonkeyPatch) -> None:
    without_promotion(patch, ends, "release")


@plant
def an_expiry_serves_nobody(patch: pytest.MonkeyPatch) -> None:
    without_promotion(patch, ends, "end_overdue")


@plant
def a_break_serves_nobody(patch: pytest.MonkeyPatch) -> None:
    without_promotion(patch, ends, "break_lock")


@plant
def who_leaves_the_front_blocks_those_behind(patch: pytest.MonkeyPatch) -> None:
    without_promotion(patch, handover, "leave")


@plant
def only_one_reader_is_served(patch: pytest.MonkeyPatch) -> None:
    original = granting.fits

    def fits(lock, options):  # type: ignore[no-untyped-def]
        shared = lock is not None and lock.mode is Mode.SHARED and len(lock.holds) > 0
        return original(lock, options) and not (shared and lock.is_waited_for)

    put(patch, original, fits)


@plant
def waits_never_run_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queues.Queues, "_ends_ms", lambda self, index: 0)


@plant
def a_wait_runs_out_before_the_hold_that_ends_with_it(patch: pytest.MonkeyPatch) -> None:
    original = handover.promote

    def promote(ledger, names, index, before_ms):  # type: ignore[no-untyped-def]
        return original(ledger, names, index, before_ms + 1)

    put(patch, original, promote)


@plant
def a_granted_place_has_a_second_end(patch: pytest.MonkeyPatch) -> None:
    original = handover._hand_over

    def hand_over(ledger, place, index):  # type: ignore[no-untyped-def]
        original(ledger, place, index)
        ledger.end_ticket(place, Unblocked())

    patch.setattr(handover, "_hand_over", hand_over)


@plant
def a_granted_place_has_no_end(patch: pytest.MonkeyPatch) -> None:
    original = Ledger.end_ticket

    def end_ticket(self, place, outcome):  # type: ignore[no-untyped-def]
        if not isinstance(outcome, Granted):
            original(self, place, outcome)

    patch.setattr(Ledger, "end_ticket", end_ticket)


# --- clients -------------------------------------------------------------------------------------


@plant
def a_disconnected_waiter_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaving, "_part", lambda ledger, place, index: None)


@plant
def a_disconnected_waiter_with_a_request_loses_its_place(patch: pytest.MonkeyPatch) -> None:
    def part(ledger, place, index):  # type: ignore[no-untyped-def]
        handover.leave(ledger, place, "disconnected", index)

    patch.setattr(leaving, "_part", part)


@plant
def the_grace_counts_from_the_grant(patch: pytest.MonkeyPatch) -> None:
    original = handover._hand_over

    def hand_over(ledger, place, index):  # type: ignore[no-untyped-def]
        if place.grace_ms:
            later = replace(place, grace_ms=ledger.clock_ms + limits.WAITER_GRACE_MS)
            ledger.queues.replace(place, later)
            place = later
        original(ledger, place, index)

    patch.setattr(handover, "_hand_over", hand_over)


@plant
def a_grant_that_nobody_claims_stays(patch: pytest.MonkeyPatch) -> None:
    original = granting.grant

    def grant(ledger, names, operation, index, *, is_unheard=False, claim_ms=0):  # type: ignore[no-untyped-def]
        return original(ledger, names, operation, index, is_unheard=is_unheard)

    put(patch, original, grant)


@plant
def a_grant_that_was_claimed_is_released(patch: pytest.MonkeyPatch) -> None:
    original = granting._renewed_terms

    def renewed_terms(terms, options, *, counts):  # type: ignore[no-untyped-def]
        renewed = original(terms, options, counts=counts)
        if terms is None or not terms.claim_ms:
            return renewed
        return replace(renewed or records.USUAL, claim_ms=terms.claim_ms)

    patch.setattr(granting, "_renewed_terms", renewed_terms)


@plant
def an_undelivered_grant_stays(patch: pytest.MonkeyPatch) -> None:
    put(patch, leaving.undelivered, lambda ledger, operation, index: None)


@plant
def a_grant_is_taken_back_that_its_owner_has_learned_of(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaving, "_is_untold", lambda hold, version: hold.version == version)
    original = leaving._take_back

    def take_back(ledger, name, lock, hold, operation, index):  # type: ignore[no-untyped-def]
        terms = replace(hold.terms or records.USUAL, is_unheard=True)
        untold = replace(hold, terms=terms)
        ledger.put_hold(name, lock, hold, untold)
        original(ledger, name, ledger.locks.get(name), untold, operation, index)

    patch.setattr(leaving, "_take_back", take_back)


@plant
def a_newer_hold_is_taken_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        leaving,
        "_is_untold",
        lambda hold, version: hold.terms is not None and hold.terms.is_unheard,
    )


@plant
def holds_outlive_the_connection_that_they_are_tied_to(patch: pytest.MonkeyPatch) -> None:
    put(patch, ends.lose, lambda ledger, name, owner, index: None)


@plant
def asking_again_does_not_move_the_tie(patch: pytest.MonkeyPatch) -> None:
    original = granting._renewed_terms

    def renewed_terms(terms, options, *, counts):  # type: ignore[no-untyped-def]
        return original(terms, replace(options, on_close=False), counts=counts)

    patch.setattr(granting, "_renewed_terms", renewed_terms)


@plant
def what_one_client_leaves_goes_to_another_that_has_gone_with_it(
    patch: pytest.MonkeyPatch,
) -> None:
    original = leaving._places_of_departing
    patch.setattr(leaving, "_places_of_departing", lambda ledger: original(ledger)[::-1])


@plant
def a_node_that_is_back_loses_its_new_clients(patch: pytest.MonkeyPatch) -> None:
    original = leaving.node_gone

    def node_gone(ledger, operation, index):  # type: ignore[no-untyped-def]
        original(ledger, replace(operation, incarnation=0), index)

    patch.setattr(leaving, "node_gone", node_gone)


@plant
def unblocking_with_an_error_looks_like_a_timeout(patch: pytest.MonkeyPatch) -> None:
    original = waiting.unblock

    def unblock(ledger, operation, index):  # type: ignore[no-untyped-def]
        return original(ledger, replace(operation, error=False), index)

    patch.setattr(waiting, "unblock", unblock)


# --- kinds of locks ------------------------------------------------------------------------------


@plant
def a_semaphore_gives_one_permit_too_many(patch: pytest.MonkeyPatch) -> None:
    original = granting.fits

    def fits(lock, options):  # type: ignore[no-untyped-def]
        if options.limit and lock is not None and lock.mode is Mode.SEMAPHORE:
            return lock.extra.used < lock.limit == options.limit
        return original(lock, options)

    put(patch, original, fits)


@plant
def a_different_limit_is_accepted(patch: pytest.MonkeyPatch) -> None:
    original = granting.contradiction

    def contradiction(lock, hold, options):  # type: ignore[no-untyped-def]
        if lock is not None and options.limit and lock.limit:
            options = replace(options, limit=lock.limit)
        return original(lock, hold, options)

    put(patch, original, contradiction)


@plant
def another_mode_is_accepted_of_the_owner(patch: pytest.MonkeyPatch) -> None:
    put(patch, granting.contradiction, lambda lock, hold, options: None)


@plant
def one_release_ends_a_reentrant_hold(patch: pytest.MonkeyPatch) -> None:
    original = ends.release

    def release(ledger, name, lock, hold, index):  # type: ignore[no-untyped-def]
        if hold.terms is not None and hold.terms.holds > 1:
            once = replace(hold, terms=replace(hold.terms, holds=1))
            ledger.put_hold(name, lock, hold, once)
            return original(ledger, name, ledger.locks.get(name), once, index)
        return original(ledger, name, lock, hold, index)

    patch.setattr(ends, "release", release)


@plant
def every_ask_of_the_holder_counts(patch: pytest.MonkeyPatch) -> None:
    original = granting._renewed_terms

    def renewed_terms(terms, options, *, counts):  # type: ignore[no-untyped-def]
        return original(terms, replace(options, reentrant=True), counts=counts)

    patch.setattr(granting, "_renewed_terms", renewed_terms)


@plant
def several_locks_are_granted_when_the_first_is_free(patch: pytest.MonkeyPatch) -> None:
    def is_up(ledger, place):  # type: ignore[no-untyped-def]
        name = place.names[0]
        lock = ledger.locks.get(name)
        return not lock.delayed_until_ms and granting.fits(lock, place.options)

    put(patch, granting.is_up, is_up)


@plant
def several_locks_get_several_versions(patch: pytest.MonkeyPatch) -> None:
    original = granting.grant

    def grant(ledger, names, operation, index, **others):  # type: ignore[no-untyped-def]
        outcomes = [original(ledger, [name], operation, index, **others) for name in names]
        return outcomes[0]

    put(patch, original, grant)


@plant
def a_place_in_several_queues_blocks_only_one(patch: pytest.MonkeyPatch) -> None:
    original = queues.Queues.front

    def front(self, name):  # type: ignore[no-untyped-def]
        place = original(self, name)
        if place is None or place.names[0] == name:
            return place
        return next((each for each in self.waiters(name) if each.names[0] == name), place)

    patch.setattr(queues.Queues, "front", front)


@plant
def a_delay_keeps_nobody_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ends, "delay", lambda ledger, name, hold: None)


@plant
def a_delay_follows_a_release_too(patch: pytest.MonkeyPatch) -> None:
    original = ends.give_up

    def give_up(ledger, name, lock, hold, reason):  # type: ignore[no-untyped-def]
        original(ledger, name, lock, hold, reason)
        ends._delay(ledger, name, hold)

    patch.setattr(ends, "give_up", give_up)


@plant
def waiters_are_served_during_a_delay(patch: pytest.MonkeyPatch) -> None:
    def is_up(ledger, place):  # type: ignore[no-untyped-def]
        return all(
            granting.fits(ledger.locks.get(name), place.options)
            and ledger.queues.front(name) is place
            for name in place.names
        )

    put(patch, granting.is_up, is_up)


# --- deadlocks -----------------------------------------------------------------------------------


@plant
def deadlocks_are_not_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deadlocks, "cycle", lambda ledger, place: None)


@plant
def deadlocks_with_who_is_behind_several_are_not_found(patch: pytest.MonkeyPatch) -> None:
    original = deadlocks._is_waited_for

    def is_waited_for(ledger, place):  # type: ignore[no-untyped-def]
        return original(ledger, replace(place, names=place.names[:1]))

    patch.setattr(deadlocks, "_is_waited_for", is_waited_for)


@plant
def waiting_for_a_semaphore_counts_as_a_deadlock(patch: pytest.MonkeyPatch) -> None:
    original = deadlocks._waits_for

    def waits_for(ledger, owner):  # type: ignore[no-untyped-def]
        yield from original(ledger, owner)
        for index in ledger.queues.by_owner.members_of(owner):
            for name in ledger.queues.places[index].names:
                for hold in ledger.locks.get(name).holds:
                    yield name, hold.owner

    patch.setattr(deadlocks, "_waits_for", waits_for)


@plant
def the_cycle_that_is_named_is_none(patch: pytest.MonkeyPatch) -> None:
    original = deadlocks._path
    patch.setattr(deadlocks, "_path", lambda reached, origin: original(reached, origin)[::-1])


@plant
def a_refused_wait_keeps_its_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "remove_place", lambda self, place: None)


# --- events --------------------------------------------------------------------------------------


@plant
def who_is_served_is_not_told_of(patch: pytest.MonkeyPatch) -> None:
    original = Ledger.tell

    def tell(self, kind, name, owner, version, reason=b""):  # type: ignore[no-untyped-def]
        if kind != "acquired" or not self.ended:
            original(self, kind, name, owner, version, reason)

    patch.setattr(Ledger, "tell", tell)


@plant
def events_give_the_wrong_reason(patch: pytest.MonkeyPatch) -> None:
    original = Ledger.tell

    def tell(self, kind, name, owner, version, reason=b""):  # type: ignore[no-untyped-def]
        original(self, kind, name, owner, version, reason and b"timeout")

    patch.setattr(Ledger, "tell", tell)


@pytest.mark.parametrize("bug", PLANTS.values(), ids=PLANTS.keys())
def test_planted_bug_is_caught(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert is_caught()


# --- transactions --------------------------------------------------------------------------------

IN_TRANSACTIONS: list[Plant] = []
IN_WATCHES: list[Plant] = []


def plant_in(plants: list[Plant]) -> Callable[[Plant], Plant]:
    def note(bug: Plant) -> Plant:
        plants.append(bug)
        return bug

    return note


@plant_in(IN_TRANSACTIONS)
def time_goes_on_between_two_steps(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._do

    def do(self, step, index):  # type: ignore[no-untyped-def]
        result = original(self, step, index)
        self.clock_ms += 1
        return result

    patch.setattr(LockTable, "_do", do)


def a_look_sees_what_is_overdue(patch: pytest.MonkeyPatch) -> None:
    def look(table, query, index):  # type: ignore[no-untyped-def]
        return queries.answer(table, query, table.clock_ms)

    patch.setattr(transactions, "look", look)


def exec_looks_past_what_is_overdue(patch: pytest.MonkeyPatch) -> None:
    """As long as the cap on ends has left it behind, a watched key seems unchanged."""
    patch.setattr(
        transactions,
        "_is_unchanged",
        lambda ledger, name, number, index: ledger.watched.get(name) == number,
    )


@plant_in(IN_TRANSACTIONS)
def the_steps_behind_an_error_are_left_out(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._do

    def do(self, step, index):  # type: ignore[no-untyped-def]
        result = original(self, step, index)
        if isinstance(result, NotHeld):
            self.transaction_steps_left = 0
        return result if self.transaction_steps_left else NotHeld(LockName(b""))

    patch.setattr(LockTable, "_do", do)


@plant_in(IN_TRANSACTIONS)
def the_steps_are_run_in_another_order(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._execute

    def execute(self, operation, index):  # type: ignore[no-untyped-def]
        done = original(self, replace(operation, steps=operation.steps[::-1]), index)
        return done if done.results is None else Executed(done.results[::-1])

    patch.setattr(LockTable, "_execute", execute)


@plant_in(IN_WATCHES)
def a_watch_does_not_see_deletions(patch: pytest.MonkeyPatch) -> None:
    """A key that was deleted and set again is not noticed then."""
    original = Ledger.changed

    def changed(self, name):  # type: ignore[no-untyped-def]
        if name in self.locks.writable(name):
            original(self, name)

    patch.setattr(Ledger, "changed", changed)


@plant_in(IN_WATCHES)
def a_watch_compares_what_is_there(patch: pytest.MonkeyPatch) -> None:
    """The fencing version alone: 0 before and after is an absent key that was there meanwhile."""

    def version(ledger, name, index):  # type: ignore[no-untyped-def]
        ends.settle(ledger, name, index)
        lock = ledger.locks.get(name)
        return lock.holds[-1].version if lock and lock.holds else 0

    patch.setattr(transactions, "_number", version)
    patch.setattr(
        transactions, "_is_unchanged", lambda ledger, name, was, i: version(ledger, name, i) == was
    )


@plant_in(IN_WATCHES)
def a_watch_does_not_see_that_time_is_up(patch: pytest.MonkeyPatch) -> None:
    original = ends.expire_plain

    def expire(ledger, slot, name, lock):  # type: ignore[no-untyped-def]
        number = ledger.watched.get(name)
        original(ledger, slot, name, lock)
        if number is not None:
            ledger.watched[name] = number

    put(patch, original, expire)


@plant_in(IN_WATCHES)
def a_watch_does_not_see_renewals(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._renew_plain

    def renew(self, slot, name, lock, ttl_ms):  # type: ignore[no-untyped-def]
        numbers = dict(self.watched)
        left_ms = original(self, slot, name, lock, ttl_ms)
        self.watched.update(numbers)
        return left_ms

    patch.setattr(LockTable, "_renew_plain", renew)


@plant_in(IN_WATCHES)
def a_place_in_line_counts_as_a_change(patch: pytest.MonkeyPatch) -> None:
    original = Ledger.add_place

    def add_place(self, place):  # type: ignore[no-untyped-def]
        original(self, place)
        for name in place.names:
            self.changed(name)

    patch.setattr(Ledger, "add_place", add_place)


@plant_in(IN_WATCHES)
def a_transaction_that_is_given_up_has_begun(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._execute

    def execute(self, operation, index):  # type: ignore[no-untyped-def]
        outcome = original(self, operation, index)
        if outcome.results is None and operation.steps:
            self._do(operation.steps[0], index)
        return outcome

    patch.setattr(LockTable, "_execute", execute)


@plant_in(IN_WATCHES)
def watched_keys_are_not_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    original = snapshots.restore

    def restore(chunks):  # type: ignore[no-untyped-def]
        restored = original(chunks)
        restored.watched.clear()
        restored.changes = 0
        return restored

    patch.setattr(snapshots, "restore", restore)


@pytest.mark.parametrize("bug", IN_TRANSACTIONS, ids=lambda bug: bug.__name__)
def test_planted_bug_in_transactions_is_caught(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_within(range(40), bug, compare_with_single_steps, monkeypatch)


@pytest.mark.parametrize("bug", IN_WATCHES, ids=lambda bug: bug.__name__)
def test_planted_bug_in_watches_is_caught(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_within(range(30), bug, watch_at_random, monkeypatch)


@pytest.mark.parametrize("bug", [a_look_sees_what_is_overdue, exec_looks_past_what_is_overdue])
def test_planted_bug_beyond_the_cap_of_ends_is_caught(
    bug: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_its_test(bug, see_what_the_cap_has_left, monkeypatch)
