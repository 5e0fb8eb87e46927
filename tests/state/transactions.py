"""Random transactions: against their steps one by one, and against what the events tell of changes."""

from __future__ import annotations

import random
from typing import Any

from msgspec.structs import replace

from resplock import limits
from resplock.operations import (
    Acquire,
    AcquireAll,
    Advice,
    Advised,
    Bulk,
    CountKeys,
    Delete,
    DeleteIf,
    Execute,
    Executed,
    Expire,
    GetBackoff,
    GetDelete,
    GetLock,
    GetString,
    GetTtl,
    Look,
    Operation,
    Options,
    Persist,
    SetString,
    Watch,
)
from resplock.state import queries, snapshots
from resplock.state.table import LockTable
from resplock.types import LockName, lock_name
from tests.state.twin import NAMES, OWNERS, STEPS, TTLS, Chance, image

CHANGES = ("acquired", "released", "expired", "renewed", "broken", "deleted")
"""The events that tell of a change; the others are about places in line."""


class Run:
    """A table, and where its log and its clock are."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.table.keeps_events = True
        self.index = 1
        self.stamp_ms = 1000
        self.changed: set[LockName] = set()
        """Keys of which an event has told a change, since a test has emptied it."""

    def apply(self, *operations: Operation, at_ms: int = 0) -> list[Any]:
        self.stamp_ms = at_ms or self.stamp_ms
        looks = [Execute((each,)) if isinstance(each, Look) else each for each in operations]
        outcomes: list[Any] = self.table.apply(self.index, self.stamp_ms, looks)
        self.index += len(operations)
        self.table.check()
        events = self.table.take_events()
        self.changed.update(event.name for event in events if event.kind in CHANGES)
        return [
            outcome.results[0] if isinstance(each, Look) else outcome
            for each, outcome in zip(operations, outcomes, strict=True)
        ]

    def watch(self, *names: LockName) -> tuple[tuple[LockName, int], ...]:
        [watched] = self.apply(Watch(names))
        return tuple(zip(names, watched.numbers, strict=True))

    def execute(
        self, watched: tuple[tuple[LockName, int], ...], *steps: Operation, at_ms: int = 0
    ) -> Executed:
        [outcome] = self.apply(Execute(steps, watched), at_ms=at_ms)
        assert isinstance(outcome, Executed)
        return outcome

    def enqueue(self, name: LockName, owner: bytes) -> None:
        self.apply(Acquire(name, owner, options=Options(blocking=False)))

    def restored(self) -> LockTable:
        """The table, as it is restored from a snapshot."""
        before = image(self.table)
        table = snapshots.restore(iter(before))
        table.keeps_events = True
        assert image(table) == before
        return table

    def restore(self) -> None:
        """Go on with a table that was restored from a snapshot."""
        self.table = self.restored()


class Steps:
    """Random commands as a transaction may have them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._chance = Chance(rng)

    def step(self) -> Operation:
        pick = self._rng.choice
        name, value = pick(NAMES), pick(OWNERS)
        match self._rng.randint(0, 13):
            case 0 | 1 | 2:
                condition = pick(["", "", "NX", "XX"])
                return SetString(name, value, pick(TTLS), condition, gives_old=pick([True, False]))
            case 3:
                return Expire(name, pick([-1, 0, 5, 900]), conditions=pick([(), ("NX",), ("GT",)]))
            case 4:
                return pick([Delete(name), DeleteIf(name, value), GetDelete(name), Persist(name)])
            case 5 | 6 | 7:
                looks = [GetString(name), GetTtl(name, 1), CountKeys((name, NAMES[0]))]
                return Look(pick([*looks, GetLock(name, waiters=True), GetBackoff(name)]))
            case _:
                return self._lock_command()

    def _lock_command(self) -> Operation:
        command = self._chance.command([])
        if isinstance(command, Acquire | AcquireAll) and command.options is not None:
            return replace(command, options=replace(command.options, wait_ms=0, blocking=True))
        return command


def compare_with_single_steps(seed: int, transactions: int = 25) -> None:
    """A transaction has the answers and the effects of its steps one by one, at its moment."""
    rng = random.Random(seed)
    steps, together, apart = Steps(rng), Run(), Run()
    for _ in range(transactions):
        stamp_ms = together.stamp_ms + rng.choice(STEPS)
        if rng.random() < 0.3:
            together.enqueue(name := rng.choice(NAMES), owner := rng.choice(OWNERS))
            apart.enqueue(name, owner)
        transaction = tuple(steps.step() for _ in range(rng.randint(0, 6)))
        index = together.index
        executed = together.execute((), *transaction, at_ms=stamp_ms)
        assert executed.results == tuple(one_by_one(apart, transaction, index, stamp_ms))
        assert image(together.table) == image(apart.table)


def one_by_one(run: Run, steps: tuple[Operation, ...], index: int, stamp_ms: int) -> list[Any]:
    """The answers, each from an entry of its own with the index and the moment of the transaction."""
    table, answers = run.table, []
    table.apply(index, stamp_ms, [])
    for step in steps:
        if isinstance(step, Look):
            answer = queries.answer(table, step.query, stamp_ms)
            answers.append(Advised(answer) if isinstance(answer, Advice) else answer)
        else:
            answers += table.apply(index, stamp_ms, [step])
    run.index, run.stamp_ms = index + 1, stamp_ms
    return answers


def see_what_the_cap_has_left() -> None:
    """An entry ends so many holds at most; what is overdue behind those has ended for everybody."""
    run, last = Run(), lock_name(0, b"last")
    numbers = run.watch(last)
    many = (lock_name(0, b"%d" % number) for number in range(limits.ENDS_PER_ENTRY + 1))
    run.apply(*(SetString(name, b"v", 4) for name in many), SetString(last, b"v", 5))
    assert run.execute(numbers) == Executed(None)
    numbers = run.watch(last)
    before = run.restored()
    assert run.execute(numbers, at_ms=run.stamp_ms + 5) == Executed(None)
    run.table = before
    look = Look(GetString(last))
    assert run.execute((), look, at_ms=run.stamp_ms) == Executed((Bulk(None),))


def watch_at_random(seed: int, rounds: int = 40) -> None:
    """EXEC does nothing exactly if an event has told of a change of a key that it watches."""
    rng = random.Random(seed)
    steps, run = Steps(rng), Run()
    for _ in range(rounds):
        watched = run.watch(*rng.sample(NAMES, rng.randint(1, 2)))
        run.changed.clear()
        for _ in range(rng.randint(0, 3)):
            between = [steps.step() for _ in range(rng.randint(0, 2))]
            run.apply(*between, at_ms=run.stamp_ms + rng.choice(STEPS))
            if rng.random() < 0.1:
                run.restore()
            if rng.random() < 0.2:
                run.enqueue(rng.choice(NAMES), rng.choice(OWNERS))
        stamp_ms = run.stamp_ms + rng.choice(STEPS)
        run.apply(at_ms=stamp_ms)
        has_changed = any(name in run.changed for name, _ in watched)
        before = image(run.table)
        executed = run.execute(watched, *(steps.step() for _ in range(2)), at_ms=stamp_ms)
        assert (executed.results is None) == has_changed
        if has_changed:
            assert image(run.table)[1:] == before[1:], "something was done"
