"""Transactions on the lock table: as their steps one by one, at one moment; and what WATCH notices."""

from __future__ import annotations

import pytest

from resplock import limits
from resplock.operations import (
    Acquire,
    Bulk,
    Busy,
    CountKeys,
    Delete,
    Done,
    Evaluate,
    Execute,
    Executed,
    GetLock,
    GetStats,
    GetString,
    GetTtl,
    KeepAlive,
    ListLocks,
    LockInfo,
    Look,
    Number,
    Options,
    Refused,
    Release,
    SetString,
    Watch,
)
from resplock.types import lock_name
from tests.state.transactions import (
    Run,
    compare_with_single_steps,
    see_what_the_cap_has_left,
    watch_at_random,
)

A, B = lock_name(0, b"a"), lock_name(0, b"b")


@pytest.mark.parametrize("seed", range(40))
def test_a_transaction_is_its_steps_one_by_one(seed: int) -> None:
    compare_with_single_steps(seed)


@pytest.mark.parametrize("seed", range(30))
def test_exec_does_nothing_exactly_if_a_watched_key_has_changed(seed: int) -> None:
    watch_at_random(seed)


def test_an_acquisition_that_is_counted_less_changes_nothing_that_is_watched() -> None:
    run = Run()
    again = Acquire(A, b"me", options=Options(reentrant=True))
    run.apply(again, again)
    watched = run.watch(A)
    run.apply(Release(A, b"me"))
    assert run.execute(watched, Look(GetString(A))) == Executed((Bulk(b"me"),))
    watched = run.watch(A)
    run.apply(Release(A, b"me"))
    assert run.execute(watched, Look(GetString(A))) == Executed(None)


def test_what_is_overdue_has_ended_whatever_the_cap_has_left() -> None:
    see_what_the_cap_has_left()


def test_all_steps_see_one_moment() -> None:
    run = Run()
    run.apply(SetString(A, b"v", 10))
    steps = (Look(GetString(A)), Look(GetTtl(A, 1)), SetString(B, b"w", 5), Look(GetTtl(B, 1)))
    [executed] = run.apply(Execute(steps), at_ms=run.stamp_ms + 9)
    assert executed == Executed((Bulk(b"v"), Number(1), Done(), Number(5)))
    [executed] = run.apply(Execute(steps), at_ms=run.stamp_ms + 1)
    assert executed == Executed((Bulk(None), Number(-2), Done(), Number(5)))


def test_an_error_of_one_step_is_its_answer() -> None:
    run = Run()
    wrong = Evaluate(b"return redis.call('INCR', KEYS[1])", (A,))
    [executed] = run.apply(Execute((SetString(A, b"v"), wrong, SetString(B, b"w"))))
    assert executed.results[1].resp2.startswith(b"-")
    assert run.apply(Look(CountKeys((A, B)))) == [Number(2)]


def test_a_key_that_is_deleted_and_set_again_has_changed() -> None:
    run = Run()
    run.apply(SetString(A, b"v"))
    numbers = run.watch(A, B)
    run.apply(Delete(A), SetString(A, b"v"))
    assert run.execute(numbers, SetString(B, b"w")) == Executed(None)
    assert run.table.locks.get(B) is None
    numbers = run.watch(A, B)
    run.apply(SetString(B, b"v"), Delete(B))
    assert run.execute(numbers) == Executed(None), "it was absent, and is absent again"


def test_a_key_that_runs_out_has_changed() -> None:
    run = Run()
    run.apply(SetString(A, b"v", 10))
    numbers = run.watch(A)
    assert run.execute(numbers, at_ms=run.stamp_ms + 9) == Executed(())
    assert run.execute(numbers, at_ms=run.stamp_ms + 1) == Executed(None)


def test_a_key_that_had_run_out_at_watch_has_not_changed() -> None:
    run = Run()
    run.apply(
        *(SetString(lock_name(0, b"%d" % n), b"v", 5) for n in range(2000)), SetString(A, b"v", 5)
    )
    run.stamp_ms += 5
    numbers = run.watch(A)
    assert run.table.locks.get(A) is None
    assert run.execute(numbers) == Executed(())


def test_a_change_in_the_entry_of_the_watch_is_noticed() -> None:
    run = Run()
    watched, *_ = run.apply(Watch((A,)), SetString(A, b"v"))
    assert run.execute(((A, watched.numbers[0]),)) == Executed(None)


def test_a_transaction_changes_what_others_watch() -> None:
    run = Run()
    numbers = run.watch(A)
    one, other = run.apply(
        Execute((SetString(A, b"1"),), numbers), Execute((SetString(A, b"2"),), numbers)
    )
    assert one == Executed((Done(),))
    assert other == Executed(None)


def test_waiting_in_line_changes_nothing() -> None:
    run = Run()
    run.apply(Acquire(A, b"me"))
    numbers = run.watch(A)
    run.enqueue(A, b"you")
    assert run.execute(numbers) == Executed(())
    run.apply(Release(A, b"me"))
    assert run.execute(numbers) == Executed(None)


def test_of_too_many_watched_keys_the_oldest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHED_MAX", 3)
    run = Run()
    first = run.watch(A)
    second = run.watch(B)
    for other in b"cd":
        run.watch(lock_name(0, bytes([other])))
    assert run.execute(first) == Executed(None)
    assert run.execute(second) == Executed(())
    run.watch(B)
    run.watch(A)
    assert run.execute(first) == Executed(None), "it has another number now"
    assert run.execute(second) == Executed(()), "who is watched again stays"


def test_watched_keys_are_in_a_snapshot() -> None:
    run = Run()
    numbers = run.watch(A, B)
    run.apply(SetString(A, b"v"))
    run.restore()
    assert run.execute(numbers) == Executed(None)
    assert run.execute(run.watch(A, B)) == Executed(())


def test_what_a_step_may_be_told() -> None:
    run = Run()
    looks = [GetLock(A), GetStats(), ListLocks(0), ListLocks(0, b"nonsense"), CountKeys((A, A))]
    info, stats, page, refused, count = run.execute(
        (), SetString(A, b"v"), *map(Look, looks)
    ).results[1:]
    assert isinstance(info, LockInfo)
    assert info.owner == b"v"
    assert stats.active_locks == 1
    assert [lock.name for lock in page.locks] == [A]
    assert isinstance(refused, Refused)
    assert count == Number(2)


# --- bounds ----------------------------------------------------------------------------------------


def test_replies_are_bounded() -> None:
    run = Run()
    run.apply(SetString(A, b"x" * 65_536))
    results = run.execute((), *[Look(GetString(A))] * 80).results
    answered = [result for result in results if isinstance(result, Bulk)]
    assert len(answered) * 65_536 <= limits.TRANSACTION_REPLY_BYTES_MAX
    assert results[len(answered) :] == (results[-1],) * (80 - len(answered))
    assert "not run" in results[-1].text


def test_the_work_of_one_is_bounded() -> None:
    run = Run()
    run.apply(*(Acquire(lock_name(1, b"%d" % n), b"me") for n in range(2000)))
    results = run.execute((), *[KeepAlive(b"me")] * 12, SetString(A, b"v")).results
    kept = sum(not isinstance(result, Refused) for result in results)
    assert kept == 1 + limits.TRANSACTION_STEPS_PER_ENTRY // 2001
    assert "steps" in results[-1].text


def test_the_work_of_an_entry_is_bounded() -> None:
    run = Run()
    one = Execute((Look(CountKeys((A,) * 4096)), SetString(A, b"v")))
    outcomes = run.apply(*[one] * 6)
    assert [isinstance(outcome, Executed) for outcome in outcomes] == [True] * 4 + [False] * 2
    assert isinstance(outcomes[-1], Busy)
    assert isinstance(run.apply(one)[0], Executed)
