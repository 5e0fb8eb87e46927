"""The model comparison is itself tested: each planted bug must make it fail."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from resplock.operations import (
    KEEP_TTL,
    Acquire,
    Break,
    KeepAlive,
    Operation,
    Release,
    Renew,
)
from resplock.state import snapshots
from resplock.state.owners import OwnerIndex
from resplock.state.records import Hold
from resplock.state.requests import Requests
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import lock_name
from tests.state.model import Model
from tests.state.test_table_model import holds, plain

SEEDS = 40
NAMES = [lock_name(0, b"a"), lock_name(1, b"a"), lock_name(0, b"b")]
OWNERS = [b"me", b"you"]


def random_operation(rng: random.Random) -> Operation:
    name, owner = rng.choice(NAMES), rng.choice(OWNERS)
    version = rng.choice([0, 0, rng.randint(1, 30)])
    ttl = rng.choice([0, 2, 50, 3000])
    match rng.randint(0, 9):
        case 0 | 1 | 2 | 3:
            return Acquire(name, owner, ttl, rng.choice([b"", b"", b"r"]))
        case 4 | 5 | 6:
            return Release(name, owner, version)
        case 7:
            return Renew(name, owner, version, rng.choice([KEEP_TTL, ttl]))
        case 8:
            return KeepAlive(owner, rng.choice([KEEP_TTL, ttl]), ((name, rng.randint(1, 30)),))
        case _:
            return Break(name, version)


def compare_with_model(seed: int) -> None:
    """Random entries, with a snapshot and restore in the middle; AssertionError on a difference."""
    rng = random.Random(seed)
    table, model = LockTable(), Model()
    index, stamp = 1, 1
    for step in range(40):
        if step == 20:
            table = snapshots.restore(iter(TableSnapshot(table).next_chunk, None))
        stamp += rng.choice([0, 1, 3, 60, 4000])
        commands = [random_operation(rng) for _ in range(rng.randint(0, 4))]
        outcomes = table.apply(index, stamp, commands)
        expected = model.apply(index, stamp, commands)
        assert [plain(o) for o in outcomes] == [plain(o) for o in expected]
        table.check()
        assert holds(table) == {
            name: (hold.owner, hold.version, hold.deadline, hold.ttl, hold.metadata)
            for name, hold in model.held.items()
        }
        index += len(commands) or 1


def is_caught() -> bool:
    for seed in range(SEEDS):
        try:
            compare_with_model(seed)
        except (AssertionError, KeyError):
            return True
    return False


def test_no_bug_no_alarm() -> None:
    assert not is_caught()


Plant = Callable[[pytest.MonkeyPatch], None]
PLANTS: dict[str, Plant] = {}


def plant(bug: Plant) -> Plant:
    PLANTS[bug.__name__] = bug
    return bug


@plant
def renewal_changes_the_version(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._set_ttl

    def set_ttl(self, slot, name, lock, hold, ttl_ms):  # type: ignore[no-untyped-def]
        self.last_version += 1
        newer = msgspec.structs.replace(hold, version=self.last_version)
        self._replace(slot, name, lock, hold, newer)
        return original(self, slot, name, slot[name], newer, ttl_ms)

    patch.setattr(LockTable, "_set_ttl", set_ttl)


@plant
def version_is_the_index_alone(patch: pytest.MonkeyPatch) -> None:
    """Two grants by one index, as a promotion or a batch would make them, get one version."""
    original = LockTable._grant

    def grant(self, slot, operation, index):  # type: ignore[no-untyped-def]
        self.last_version = index // 2
        return original(self, slot, operation, index // 2)

    patch.setattr(LockTable, "_grant", grant)


@plant
def anyone_may_release(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._release

    def release(self, operation, index):  # type: ignore[no-untyped-def]
        lock = self.locks.get(operation.name)
        owner = lock.holds[0].owner if lock else operation.owner
        return original(self, msgspec.structs.replace(operation, owner=owner), index)

    patch.setattr(LockTable, "_release", release)


@plant
def release_ignores_the_version(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._release
    patch.setattr(
        LockTable,
        "_release",
        lambda self, op, index: original(self, msgspec.structs.replace(op, version=0), index),
    )


@plant
def holds_never_expire(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LockTable, "_end_due", lambda self, stamp_ms: None)
    patch.setattr(LockTable, "_settle", lambda self, slot, name, lock: lock)


@plant
def holds_expire_a_millisecond_early(patch: pytest.MonkeyPatch) -> None:
    original = LockTable._end_due
    patch.setattr(LockTable, "_end_due", lambda self, stamp_ms: original(self, stamp_ms + 1))
    patch.setattr(Hold, "overdue", lambda self, stamp_ms: 0 < self.deadline_ms <= stamp_ms + 1)

    def settle(self, slot, name, lock):  # type: ignore[no-untyped-def]
        if lock is not None and 0 < lock.next_deadline_ms <= self.clock_ms + 1:
            return self._end(slot, name, lock, lock.holds[0])
        return lock

    patch.setattr(LockTable, "_settle", settle)


@plant
def extension_shortens_the_ttl(patch: pytest.MonkeyPatch) -> None:
    def extend(self, slot, lock, hold, operation):  # type: ignore[no-untyped-def]
        self._set_ttl(slot, operation.name, lock, hold, operation.ttl_ms)
        from resplock.operations import Granted

        return Granted(hold.version, operation.ttl_ms)

    patch.setattr(LockTable, "_extend", extend)


@plant
def request_ids_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        LockTable,
        "_acquire_once",
        lambda self, op, index: self._acquire(msgspec.structs.replace(op, request=b""), index),
    )


@plant
def a_repeated_request_hides_that_the_grant_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LockTable, "_holds", lambda self, name, owner, version: True)


@plant
def request_ids_are_lost_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Requests, "restore", Requests.restore)
    original = snapshots.restore

    def restore(chunks):  # type: ignore[no-untyped-def]
        table = original(chunks)
        table.requests = Requests()
        return table

    patch.setattr(snapshots, "restore", restore)


@plant
def timers_are_not_rebuilt_from_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    original = snapshots.restore

    def restore(chunks):  # type: ignore[no-untyped-def]
        table = original(chunks)
        table.timers._buckets.clear()
        table.timers._order.clear()
        return table

    patch.setattr(snapshots, "restore", restore)


@plant
def the_last_version_is_lost_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    original = snapshots.restore

    def restore(chunks):  # type: ignore[no-untyped-def]
        table = original(chunks)
        table.last_version = 0
        return table

    patch.setattr(snapshots, "restore", restore)


@plant
def the_owner_index_forgets_the_second_lock(patch: pytest.MonkeyPatch) -> None:
    def add(self, owner, name):  # type: ignore[no-untyped-def]
        self._names.setdefault(owner, name)

    patch.setattr(OwnerIndex, "add", add)
    patch.setattr(OwnerIndex, "remove", lambda self, owner, name: self._names.pop(owner, None))


@pytest.mark.parametrize("bug", PLANTS.values(), ids=PLANTS.keys())
def test_planted_bug_is_caught(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert is_caught()
