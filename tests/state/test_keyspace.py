"""KEYS, SCAN, RANDOMKEY, FLUSHDB and OBJECT: what they find, and how little they do at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from resplock import limits
from resplock.errors import CommandError
from resplock.operations import (
    Acquire,
    AcquireAll,
    Blocked,
    Bulk,
    Busy,
    DescribeKey,
    Done,
    Flush,
    Granted,
    KeyPage,
    ListKeys,
    Number,
    Options,
    Query,
    RandomKey,
    ScanKeys,
    SetAll,
    SetString,
    Values,
    WrongType,
)
from resplock.state import keyspace, queries
from resplock.state.crowded import Scans
from resplock.state.table import LockTable
from resplock.types import LockName, lock_name
from tests.planted import fails_its_test

SHARED = Options(shared=True)
WAITS = Options(wait_ms=60_000)
A, B, C = (lock_name(0, key) for key in (b"a", b"b", b"c"))


class Keyspace:
    """A table, and the log that it applies."""

    def __init__(self, *keys: bytes) -> None:
        self.table = LockTable()
        self.table.keeps_events = True
        self.index = 1
        self.now_ms = 1_000
        if keys:
            names = tuple(lock_name(0, key) for key in keys)
            self.apply(SetAll(names, (b"v",) * len(names)))

    def apply(self, *operations: Any) -> Any:
        outcomes = self.table.apply(self.index, self.now_ms, operations)
        self.index += len(operations)
        return outcomes[0] if len(outcomes) == 1 else outcomes

    def ask(self, query: Query) -> Any:
        return queries.answer(self.table, query, self.now_ms)

    def keys(self, pattern: bytes = b"*", db: int = 0) -> list[bytes | None]:
        found = self.ask(ListKeys(db, pattern))
        assert isinstance(found, Values)
        return sorted(found.values, key=lambda key: key or b"")

    def pages(
        self, between: Callable[[], None] | None = None, **query: Any
    ) -> list[tuple[LockName, ...]]:
        """A whole scan, page by page. `between` is called before each but the first."""
        found: list[tuple[LockName, ...]] = []
        cursor = 0
        while not found or cursor:
            if found and between is not None:
                between()
            page = self.ask(ScanKeys(**{"db": 0, **query, "cursor": cursor}))
            assert isinstance(page, KeyPage)
            assert page.cursor < 2**53 + 1, "clients may have doubles only"
            found.append(page.names)
            cursor = page.cursor
        return found

    def scanned(self, **query: Any) -> list[LockName]:
        return sorted(name for page in self.pages(**query) for name in page)


def many(count: int, tag: bytes = b"") -> list[bytes]:
    return [b"%b%d" % (tag, number) for number in range(count)]


# --- which keys there are ------------------------------------------------------------------------


def test_keys_are_locks_that_are_held() -> None:
    space = Keyspace(b"a", b"ab", b"b")
    space.apply(Acquire(lock_name(0, b"shared"), b"me", options=SHARED))
    space.apply(Acquire(lock_name(1, b"ab"), b"me"))
    assert space.keys() == [b"a", b"ab", b"b", b"shared"]
    assert space.keys(b"a*") == space.keys(b"[a]*") == [b"a", b"ab"]
    assert space.keys(db=1) == [b"ab"]
    assert space.keys(b"") == space.keys(b"x") == space.keys(db=2) == []


def test_a_lock_that_is_only_waited_for_is_no_key() -> None:
    space = Keyspace(b"b")
    assert isinstance(space.apply(AcquireAll((A, B), b"me", options=WAITS)), Blocked)
    assert space.keys() == [b"b"]
    assert space.scanned() == [B]
    assert space.ask(RandomKey(0)) == Bulk(b"b")


def test_keys_is_refused_when_it_would_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Keyspace(*many(10))
    monkeypatch.setattr(limits, "KEYS_STEPS_MAX", 19)
    with pytest.raises(CommandError, match="the pattern takes too long to match: use SCAN"):
        space.keys(b"*[0-9]*")
    monkeypatch.setattr(limits, "VALUES_BYTES_MAX", 19)
    with pytest.raises(CommandError, match="they are together longer than 19 bytes: use SCAN"):
        space.keys()
    space.keys(b"1")
    monkeypatch.setattr(limits, "KEYS_LOOKED_AT_MAX", 9)
    with pytest.raises(CommandError, match="there are more than 9 keys: use SCAN"):
        space.keys(b"x", db=1)


def test_random_keys_are_all_keys_in_the_long_run() -> None:
    space = Keyspace(*many(5))
    space.apply(Acquire(lock_name(1, b"other"), b"me"))
    drawn = {space.ask(RandomKey(0)).value for _ in range(300)}
    assert drawn == set(many(5))
    assert space.ask(RandomKey(2)) == Bulk(None)


def test_a_random_key_is_not_looked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Keyspace(*many(50))
    space.apply(Acquire(lock_name(1, b"other"), b"me"))
    assert space.ask(RandomKey(1)) == Bulk(b"other")
    monkeypatch.setattr(limits, "SCAN_LOOKED_AT_MAX", 0)
    with pytest.raises(CommandError, match="use SCAN"):
        space.ask(RandomKey(1))


# --- page by page --------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [b"", b"{t}"])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_a_scan_finds_every_key_once(tag: bytes, count: int) -> None:
    space = Keyspace(*many(300, tag))
    space.apply(Acquire(lock_name(1, b"other"), b"me"))
    pages = space.pages(count=count)
    assert sorted(name for page in pages for name in page) == sorted(
        lock_name(0, key) for key in many(300, tag)
    )
    assert max(map(len, pages)) == min(count, 300)


def test_a_scan_finds_what_it_is_asked_for() -> None:
    space = Keyspace(*many(20))
    space.apply(Acquire(lock_name(0, b"shared"), b"me", options=SHARED))
    space.apply(Acquire(lock_name(1, b"1"), b"me"))
    assert space.scanned(pattern=b"1?") == [lock_name(0, b"%d" % n) for n in range(10, 20)]
    assert space.scanned(pattern=b"") == space.scanned(kind=b"hash") == []
    assert len(space.scanned(kind=b"string")) == 20
    assert len(space.scanned()) == 21
    assert len(space.scanned(db=-1)) == 22


def test_a_page_ends_after_so_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Keyspace(*many(100))
    monkeypatch.setattr(limits, "SCAN_LOOKED_AT_MAX", 10)
    assert len(space.pages(pattern=b"x")) == 10
    monkeypatch.setattr(limits, "SCAN_LOOKED_AT_MAX", 1000)
    monkeypatch.setattr(limits, "LIST_STEPS_MAX", 30)
    assert len(space.pages(pattern=b"*[x]*")) > 5


def scan_while_keys_come_and_go(tag: bytes = b"") -> None:
    """What is there from the first page to the last is found once; a crowded slot is no different."""
    for seed in range(20):
        rng = random.Random(seed)
        stay = many(60, tag + b"s")
        space = Keyspace(*stay, *many(60, tag))

        def change(rng: random.Random = rng, space: Keyspace = space) -> None:
            come = [SetString(lock_name(0, b"%bc%d" % (tag, rng.randrange(10**6))), b"v")] * 2
            go = [
                SetString(lock_name(0, b"%b%d" % (tag, rng.randrange(60))), b"v", at_ms=1)
                for _ in range(3)
            ]
            space.apply(*come, *go)
            if rng.random() < 0.3:
                other = space.ask(ScanKeys(0, count=rng.randint(1, 30)))
                space.ask(ScanKeys(0, other.cursor))
            if rng.random() < 0.1:
                space.table.scans = Scans()  # another node leads

        found = [name for page in space.pages(change, count=7) for name in page]
        assert len(set(found)) == len(found), "a key was found twice"
        assert {lock_name(0, key) for key in stay} <= set(found), "a key was not found"


def test_a_scan_while_keys_come_and_go() -> None:
    scan_while_keys_come_and_go()


def scan_a_crowded_slot() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyspace, "CROWDED", 10)
        patch.setattr("resplock.state.crowded._RUN", 16)
        scan_while_keys_come_and_go(b"{t}")


def test_a_scan_of_a_crowded_slot_while_keys_come_and_go() -> None:
    scan_a_crowded_slot()


def test_keys_at_one_place_are_on_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyspace, "_number_of", lambda name: int(name[4:]) % 3)
    space = Keyspace(*many(30, b"{t}"))
    assert sorted(map(len, space.pages(count=1))) == [10, 10, 10]


def test_a_cursor_that_no_page_gave_finds_something_or_nothing() -> None:
    space = Keyspace(*many(30))
    for cursor in (1, 2**52 + 17, 2**53, 2**63 - 1):
        page = space.ask(ScanKeys(0, cursor))
        assert set(page.names) <= {lock_name(0, key) for key in many(30)}
    assert space.ask(ScanKeys(0, 2**53)) == KeyPage(0, ())


# --- flushing ------------------------------------------------------------------------------------


def test_flushdb_deletes_the_keys_of_one_database() -> None:
    space = Keyspace(b"a", b"b")
    space.apply(Acquire(lock_name(0, b"shared"), b"me", options=SHARED))
    space.apply(Acquire(lock_name(1, b"a"), b"me"))
    space.table.take_events()
    assert space.apply(Flush(0)) == Done()
    assert (space.keys(), space.keys(db=1)) == ([], [b"a"])
    events = [(event.kind, event.owner, event.reason) for event in space.table.take_events()]
    assert sorted(events) == sorted([("deleted", b"v", b"")] * 2 + [("deleted", b"me", b"")])
    assert space.apply(Flush(0)) == Done()
    space.table.check()


def test_flushall_deletes_the_keys_of_all_databases() -> None:
    space = Keyspace(b"a")
    space.apply(Acquire(lock_name(15, b"a"), b"me"))
    assert space.apply(Flush()) == Done()
    assert sum(space.table.locks_by_db) == len(space.table.locks) == 0


def flush_serves_who_waits() -> None:
    space = Keyspace(b"a", b"b")
    ticket = space.apply(Acquire(A, b"me", options=WAITS)).ticket
    both = space.apply(AcquireAll((B, C), b"you", options=WAITS)).ticket
    space.table.take_ended()
    assert space.apply(Flush(0)) == Done()
    ended = space.table.take_ended()
    assert {end.ticket for end in ended} == {ticket, both}
    assert all(isinstance(end.outcome, Granted) for end in ended)
    assert space.keys() == [b"a", b"b", b"c"]
    space.table.check()


def test_flush_serves_who_waits() -> None:
    flush_serves_who_waits()


def flush_does_so_much_in_one_entry() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "KEYS_PER_ENTRY", 5_000)
        space = Keyspace(*many(2_000))
        outcomes = space.apply(Flush(0), *[SetString(A, b"v"), Flush(0)] * 3)
        assert outcomes[:5] == [Done()] * 5
        assert isinstance(outcomes[-1], Busy)
        patch.setattr(limits, "KEYS_PER_ENTRY", 1_999)
        space = Keyspace(b"x")
        space.apply(*[SetString(lock_name(0, key), b"v") for key in many(1_999)])
        assert isinstance(space.apply(Flush(1)), Done), "nothing to do"
        assert isinstance(space.apply(Flush(0)), Busy)
        assert len(space.keys()) == 2_000, "nothing is done when it is too much"


def test_flush_does_so_much_in_one_entry() -> None:
    flush_does_so_much_in_one_entry()


# --- what a key is made of -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (b"12", b"int"),
        (b"-9223372036854775808", b"int"),
        (b"9223372036854775808", b"embstr"),
        (b"", b"embstr"),
        (b"v" * 44, b"embstr"),
        (b"v" * 45, b"raw"),
    ],
)
def test_encodings_are_those_of_redis(value: bytes, encoding: bytes) -> None:
    space = Keyspace()
    space.apply(SetString(A, value))
    assert space.ask(DescribeKey(A, "encoding")) == Bulk(encoding)


def test_what_is_told_of_a_key() -> None:
    space = Keyspace(b"a")
    space.now_ms += 2_999
    assert space.ask(DescribeKey(A, "idletime")) == Number(2)
    space.apply(SetString(A, b"v", 60_000))
    assert space.ask(DescribeKey(A, "idletime")) == Number(0)
    assert space.ask(DescribeKey(A, "refcount")) == Number(1)
    small = space.ask(DescribeKey(A, "memory")).value
    space.apply(SetString(A, b"v" * 1001))
    assert space.ask(DescribeKey(A, "memory")) == Number(small + 1000)
    with pytest.raises(CommandError, match="An LFU maxmemory policy is not selected"):
        space.ask(DescribeKey(A, "freq"))


@pytest.mark.parametrize("aspect", ["encoding", "idletime", "refcount", "memory", "freq"])
def test_what_is_told_of_others(aspect: str) -> None:
    space = Keyspace()
    space.apply(Acquire(A, b"me", options=SHARED))
    assert space.ask(DescribeKey(A, aspect)) == WrongType()
    assert space.ask(DescribeKey(B, aspect)) == Bulk(None)


# --- planted bugs --------------------------------------------------------------------------------


def test_a_flush_that_serves_nobody_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("resplock.state.strings.promote", lambda *_: None)

    fails_its_test(plant, flush_serves_who_waits, monkeypatch)


def test_a_flush_without_a_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(keyspace, "_BUSY", Done())

    fails_its_test(plant, flush_does_so_much_in_one_entry, monkeypatch)


def test_a_page_that_begins_behind_its_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = keyspace._Place.of

    def behind(cursor: int) -> Any:
        place = original(cursor)
        place.number += 1
        return place

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(keyspace._Place, "of", behind)

    fails_its_test(plant, test_a_scan_while_keys_come_and_go, monkeypatch)


def test_a_scan_that_goes_on_with_an_earlier_scans_names_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[tuple[int, Any]] = []
    begin = Scans.begin

    def begin_once(self, slot, names, key):  # type: ignore[no-untyped-def]
        kept.append(kept[0] if kept else begin(self, slot, names, key))
        return kept[0]

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Scans, "begin", begin_once)

    fails_its_test(plant, test_the_second_scan_of_a_crowded_slot, monkeypatch)


def test_the_second_scan_of_a_crowded_slot() -> None:
    """It finds what came after the first had begun."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyspace, "CROWDED", 10)
        space = Keyspace(*many(50, b"{t}"))
        first = space.ask(ScanKeys(0, count=7))
        assert len(first.names) == 7
        space.apply(SetString(lock_name(0, b"{t}new"), b"v"))
        assert len(space.scanned(count=7)) == 51
