"""The tests of string keys are themselves tested: with each planted bug, the test of its rule fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resplock.operations import Done
from resplock.state import handover, strings
from tests.planted import Plant, fails_its_test
from tests.state import test_strings as rules
from tests.state.test_strings import Strings

Rule = Callable[[Strings], None]
PLANTS: list[tuple[Plant, Rule]] = []


def breaks(rule: Rule) -> Callable[[Plant], Plant]:
    def plant(bug: Plant) -> Plant:
        PLANTS.append((bug, rule))
        return bug

    return plant


@breaks(rules.test_a_number_that_changes_is_a_new_grant_with_the_same_end)
def a_changed_value_never_ends(patch: pytest.MonkeyPatch) -> None:
    def change(ledger, name, hold, value, index):  # type: ignore[no-untyped-def]
        strings._put(ledger, name, value, 0, index)

    patch.setattr(strings, "_change", change)


@breaks(rules.test_a_number_that_changes_is_a_new_grant_with_the_same_end)
def a_changed_value_keeps_its_version(patch: pytest.MonkeyPatch) -> None:
    put = strings._put

    def same_version(ledger, name, value, deadline_ms, index):  # type: ignore[no-untyped-def]
        put(ledger, name, value, deadline_ms, index)
        lock = ledger.locks.get(name)
        if ledger.totals.acquisitions > 1 and lock is not None:
            hold = lock.holds[0]
            older = strings.replace(hold, version=1)
            ledger.put_hold(name, lock, hold, older)

    patch.setattr(strings, "_put", same_version)


@breaks(rules.test_what_changes_no_value_is_no_grant)
def an_equal_value_is_set_anew(patch: pytest.MonkeyPatch) -> None:
    def change(ledger, name, hold, value, index):  # type: ignore[no-untyped-def]
        strings._put(ledger, name, value, hold.deadline_ms if hold else 0, index)

    patch.setattr(strings, "_change", change)


@breaks(rules.test_who_takes_a_free_lock_by_set_grants_it_to_nobody_behind_his_place)
def the_place_of_who_sets_goes_to_the_next(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(strings, "unqueue", handover.leave)


@breaks(rules.test_numbers_have_64_bits)
def numbers_have_more_bits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(strings, "INTEGER_MAX", 2**70)


@breaks(rules.test_a_value_does_not_grow_beyond_its_bound)
def values_grow_without_a_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(strings, "ARGUMENT_BYTES_MAX", 2**40)


@breaks(rules.test_msetnx_passes_nobody_who_waits)
def msetnx_passes_those_who_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(strings, "is_free_for", lambda *_: True)


@breaks(rules.test_msetnx_sees_no_overdue_hold)
def msetnx_sees_what_is_overdue(patch: pytest.MonkeyPatch) -> None:
    def settled(ledger, name, index):  # type: ignore[no-untyped-def]
        lock = ledger.locks.get(name)
        return lock, strings.hold_of(lock)

    patch.setattr(strings, "_settled", settled)
    patch.setattr("resplock.state.ends.end_due", lambda ledger, index: None)


@breaks(rules.test_one_entry_touches_so_many_keys_at_most)
def an_entry_touches_any_number_of_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(strings, "_may_touch", lambda ledger, names: True)


@breaks(rules.test_msetnx_sets_all_or_none)
def msetnx_sets_what_it_can(patch: pytest.MonkeyPatch) -> None:
    def set_all(ledger, operation, index):  # type: ignore[no-untyped-def]
        for name, value in zip(operation.names, operation.values, strict=True):
            if strings._settled(ledger, name, index)[1] is None:
                strings._put(ledger, name, value, 0, index)
        return strings.NO if operation.if_absent else Done()

    patch.setitem(strings.HANDLERS, strings.SetAll, set_all)


@breaks(rules.test_a_waiter_is_served_when_the_key_is_deleted)
def a_deleted_key_serves_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(strings, "promote", lambda *_: None)


@pytest.mark.parametrize(("bug", "rule"), PLANTS, ids=[bug.__name__ for bug, _ in PLANTS])
def test_a_planted_bug_is_caught(bug: Plant, rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_its_test(bug, lambda: rule(Strings()), monkeypatch)
