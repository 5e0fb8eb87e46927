"""The rules of string keys that are locks: what is a new grant, who is served, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from resplock.errors import CommandError
from resplock.limits import ARGUMENT_BYTES_MAX, KEYS_PER_ENTRY, VALUES_BYTES_MAX
from resplock.operations import (
    Acquire,
    AcquireAll,
    Append,
    Blocked,
    Bulk,
    Busy,
    ClientId,
    DeleteAll,
    Done,
    Ended,
    GetString,
    Granted,
    Held,
    Number,
    Operation,
    Options,
    Query,
    Refused,
    Release,
    SetAll,
    SetString,
    SetUnixOffset,
    Status,
    Unblocked,
    Values,
    WrongType,
)
from resplock.state import queries, strings
from resplock.state.records import Hold
from resplock.state.table import LockTable
from resplock.strings import GRAMMARS
from resplock.types import LockName, NodeId

K, L = LockName(b"\0k"), LockName(b"\0l")
UNIX_OFFSET_MS = 1_700_000_000_000
CLIENT = ClientId(NodeId("n1"), 1, 1)
NOTHING, NO, YES = Bulk(None), Number(0), Number(1)


class Strings:
    """A table, at a moment that the tests move on, and what it was told to do."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.table.keeps_events = True
        self.index = 1
        self.now_ms = 1_000
        self.events: list[tuple[str, bytes, bytes]] = []
        self.ended: list[Ended] = []
        self.apply(SetUnixOffset(UNIX_OFFSET_MS))

    def apply(self, operation: Operation) -> Any:
        (outcome,) = self.table.apply(self.index, self.now_ms, [operation])
        self.index += 1
        told = self.table.take_events()
        self.events += [(event.kind, event.owner, event.reason) for event in told]
        self.ended += self.table.take_ended()
        self.table.check()
        return outcome

    def __call__(self, text: str) -> Any:
        """Run a command as a client's: an operation of the log, or a query."""
        words = text.encode().split()
        bound = GRAMMARS[words[0]].bind(words, 0)
        if isinstance(bound, Query):
            return queries.answer(self.table, bound, self.now_ms)
        return self.apply(bound)

    def hold(self, name: LockName = K) -> Hold:
        lock = self.table.locks.get(name)
        assert lock is not None
        return lock.holds[0]

    def wait(self, owner: bytes, name: LockName = K, priority: int = 0) -> int:
        options = Options(wait_ms=60_000, priority=priority, client=CLIENT)
        outcome = self.apply(Acquire(name, owner, options=options))
        assert isinstance(outcome, Blocked)
        return outcome.ticket


@pytest.fixture
def run() -> Strings:
    return Strings()


# --- one record, two views -----------------------------------------------------------------------


def test_set_nx_is_an_acquire_and_get_gives_the_owner(run: Strings) -> None:
    assert run("SET k me NX PX 500") == Done()
    hold = run.hold()
    assert (hold.owner, hold.ttl_ms, hold.version) == (b"me", 500, run.index - 1)
    assert run("GET k") == Bulk(b"me")
    held = run.apply(Acquire(K, b"you"))
    assert isinstance(held, Held)
    assert (held.owner, held.version, held.ttl_ms) == (b"me", hold.version, 500)
    assert run.apply(Acquire(K, b"me", 900)) == Granted(hold.version, 900)
    assert run("PTTL k") == Number(900)
    assert run.events == [("acquired", b"me", b""), ("renewed", b"me", b"")]


def test_an_acquired_lock_is_a_key(run: Strings) -> None:
    run.apply(Acquire(K, b"me", 1_500))
    assert run("SET k you NX") == NOTHING
    assert run("SETNX k you") == NO
    assert run("EXISTS k l k") == Number(2)
    assert run("STRLEN k") == Number(2)
    assert run("TYPE k") == Status("string")
    assert run("TYPE l") == Status("none")
    assert run("TTL k") == Number(2)  # rounded, as Redis does
    assert run("PEXPIRETIME k") == Number(UNIX_OFFSET_MS + run.now_ms + 1_500)
    assert run("DELIFEQ k you") == NO
    assert run("DELIFEQ k me") == YES
    assert run.events[-1] == ("released", b"me", b"")
    assert run("TTL k") == run("PTTL k") == run("EXPIRETIME k") == Number(-2)


# --- what is a new grant -------------------------------------------------------------------------


def test_an_equal_value_keeps_the_version_and_another_is_a_new_grant(run: Strings) -> None:
    run("SET k me PX 500")
    version = run.hold().version
    run("SET k me")
    assert (run.hold().version, run("PTTL k")) == (version, Number(-1))
    run("SET k you PX 70 XX")
    assert run.hold().version == run.index - 1 > version
    assert run("PTTL k") == Number(70)
    assert run.events == [
        ("acquired", b"me", b""),
        ("renewed", b"me", b""),
        ("deleted", b"me", b"replaced"),
        ("acquired", b"you", b""),
    ]


def test_set_nx_on_a_held_key_is_refused_also_when_the_value_is_equal(run: Strings) -> None:
    run("SET k me PX 500")
    before = run.hold()
    run.now_ms += 100
    for refused in ("SET k me NX PX 900", "SET k me NX GET", "SETNX k me"):
        assert run(refused) in (NOTHING, NO, Bulk(b"me"))
        assert run.hold() is before
    assert run.table.totals.refusals == 3


def test_keepttl_keeps_the_end_of_what_was_there(run: Strings) -> None:
    assert run("SET k me KEEPTTL") == Done()
    assert run("PTTL k") == Number(-1)
    run("SET k me PX 500")
    run.now_ms += 100
    run("SET k you KEEPTTL")
    assert run("PTTL k") == Number(400)


def test_get_gives_the_value_before_whether_it_is_set_or_not(run: Strings) -> None:
    assert run("SET k me GET XX") == NOTHING
    assert run("GET k") == NOTHING
    assert run("SET k me GET NX") == NOTHING
    assert run("SET k you GET NX") == Bulk(b"me")
    assert run("SET k you GET") == Bulk(b"me")
    assert run("GETSET k he") == Bulk(b"you")
    assert run("GETDEL k") == Bulk(b"he")
    assert run("GETDEL k") == NOTHING


def test_a_version_in_a_snapshot_of_time_is_never_given_twice(run: Strings) -> None:
    versions = []
    for command in ("SET k a", "SET k b", "SETEX k 5 c", "GETSET k d", "PSETEX k 5 e"):
        run(command)
        versions.append(run.hold().version)
    assert versions == sorted(set(versions))


# --- values that change --------------------------------------------------------------------------


def test_a_number_that_changes_is_a_new_grant_with_the_same_end(run: Strings) -> None:
    assert run("INCR k") == Number(1)
    first = run.hold()
    run("PEXPIRE k 500")
    run.now_ms += 100
    assert run("INCRBY k 41") == Number(42)
    assert (run.hold().version, run("PTTL k")) == (run.index - 1, Number(400))
    assert run.hold().version > first.version
    assert run("DECRBY k 50") == Number(-8)
    assert run("DECR k") == Number(-9)
    assert run("GET k") == Bulk(b"-9")
    assert run.events[-2:] == [("deleted", b"-8", b"replaced"), ("acquired", b"-9", b"")]


def test_what_changes_no_value_is_no_grant(run: Strings) -> None:
    run("SET k 7 PX 500")
    before = run.hold()
    assert run("INCRBY k 0") == Number(7)
    assert run.apply(Append(K, b"")) == Number(1)
    assert run.hold() is before
    assert run.apply(Append(L, b"")) == Number(0)
    assert run("EXISTS l") == YES


def test_numbers_have_64_bits(run: Strings) -> None:
    overflow = Refused("increment or decrement would overflow")
    run("SET k 9223372036854775806")
    assert run("INCR k") == Number(2**63 - 1)
    before = run.hold()
    assert run("INCR k") == overflow
    assert run("DECRBY l 9223372036854775807") == Number(-(2**63) + 1)
    assert run("DECR l") == Number(-(2**63))
    assert run("DECR l") == overflow
    assert run.hold() is before


@pytest.mark.parametrize("value", ["", "x", "1.5", " 1", "01", "+1", "9223372036854775808"])
def test_what_is_no_number_is_not_counted(run: Strings, value: str) -> None:
    run.apply(SetString(K, value.encode()))
    before = run.hold()
    assert run("INCR k") == Refused("value is not an integer or out of range")
    assert run.hold() is before


def test_what_is_appended_is_a_new_grant_with_the_same_end(run: Strings) -> None:
    run("SET k me PX 500")
    assert run("APPEND k too") == Number(5)
    assert (run("GET k"), run("PTTL k")) == (Bulk(b"metoo"), Number(500))
    assert run.hold().version == run.index - 1


def test_a_value_does_not_grow_beyond_its_bound(run: Strings) -> None:
    run.apply(SetString(K, b"v" * (ARGUMENT_BYTES_MAX - 1)))
    assert run("APPEND k v") == Number(ARGUMENT_BYTES_MAX)
    before = run.hold()
    assert run("APPEND k v") == Refused("string exceeds maximum allowed size (proto-max-bulk-len)")
    assert run.hold() is before


@pytest.mark.parametrize("command", ["INCR k", "APPEND k 5", "MSET l 1 k 5"])
def test_a_waiter_goes_on_waiting_when_the_value_changes(run: Strings, command: str) -> None:
    run("SET k 7")
    run.wait(b"you")
    run(command)
    assert run("GET k") != Bulk(b"you")
    assert run.ended == []
    run("DEL k")
    assert run("GET k") == Bulk(b"you")


# --- several at once -----------------------------------------------------------------------------


def test_several_are_set_at_once(run: Strings) -> None:
    run("SET k old PX 500")
    assert run("MSET k me l you k they") == Done()
    assert run("MGET k l none") == Values((b"they", b"you", None))
    assert run("PTTL k") == Number(-1)
    versions = [run.hold(name).version for name in (K, L)]
    assert len(set(versions)) == 2


def test_msetnx_sets_all_or_none(run: Strings) -> None:
    run("SET l me")
    assert run("MSETNX k you l you") == NO
    assert run("EXISTS k") == NO
    run("DEL l")
    assert run("MSETNX k you l you") == YES
    assert run("MGET k l") == Values((b"you", b"you"))
    assert run.table.totals.refusals == 1


def test_msetnx_passes_nobody_who_waits(run: Strings) -> None:
    """The first in line waits for two locks, of which one is free."""
    run("SET l me")
    run.apply(AcquireAll((K, L), b"you", options=Options(wait_ms=60_000, client=CLIENT)))
    assert run("MSETNX a he k he") == NO
    assert run("EXISTS a k") == NO


def test_msetnx_sees_no_overdue_hold(run: Strings) -> None:
    run("SET k me PX 100")
    run.now_ms += 100
    assert run("MSETNX k you l you") == YES


def test_one_entry_touches_so_many_keys_at_most(run: Strings) -> None:
    names = tuple(LockName(b"\0%d" % number) for number in range(KEYS_PER_ENTRY // 4))
    full = [SetAll(names, (b"v",) * len(names)), DeleteAll(names)] * 2
    refused = [SetAll((K,), (b"v",)), SetAll((K,), (b"v",), if_absent=True), DeleteAll((K,))]
    outcomes = run.table.apply(run.index, run.now_ms, [*full, *refused])
    run.index += len(outcomes)
    assert outcomes[:4] == [Done(), Number(len(names))] * 2
    assert all(isinstance(outcome, Busy) for outcome in outcomes[4:])
    assert run("MSET k v") == Done()


def test_the_values_of_several_keys_are_not_too_long(run: Strings) -> None:
    run.apply(SetString(K, b"v" * ARGUMENT_BYTES_MAX))
    most = VALUES_BYTES_MAX // ARGUMENT_BYTES_MAX
    run("MGET" + " k" * most)
    with pytest.raises(CommandError, match="the values are together longer than"):
        run("MGET" + " k" * (most + 1))


# --- when they end -------------------------------------------------------------------------------


def test_a_key_ends_with_its_time(run: Strings) -> None:
    run("SET k me PX 100")
    run.now_ms += 99
    assert run("SET k you NX") == NOTHING
    run.now_ms += 1
    assert run("SET k you NX") == Done()
    assert run.events[1:] == [("expired", b"me", b""), ("acquired", b"you", b"")]


@pytest.mark.parametrize(
    "command", ["EXPIRE k 0", "PEXPIRE k -1", "PEXPIREAT k 1", "EXPIREAT k -5"]
)
def test_an_end_that_is_past_deletes(run: Strings, command: str) -> None:
    assert run(command) == NO
    run("SET k me")
    assert run(command) == YES
    assert run("GET k") == NOTHING
    assert run.events[-1] == ("deleted", b"me", b"")


def test_a_value_that_is_set_until_a_time_that_is_past_is_never_seen(run: Strings) -> None:
    for _ in range(2):
        assert run("SET k me PXAT 1") == Done()
        assert run("GET k") == NOTHING
        run("SET k me")
    assert [kind for kind, _, _ in run.events] == [
        *("acquired", "expired", "acquired"),
        *("renewed", "expired", "acquired"),
    ]


def test_moments_are_in_unix_time(run: Strings) -> None:
    run(f"SET k me PXAT {UNIX_OFFSET_MS + run.now_ms + 70}")
    assert run("PTTL k") == Number(70)
    run(f"PEXPIREAT k {UNIX_OFFSET_MS + run.now_ms + 80}")
    assert run("PTTL k") == Number(80)
    run(f"GETEX k EXAT {UNIX_OFFSET_MS // 1000 + 5}")
    assert run("EXPIRETIME k") == Number(UNIX_OFFSET_MS // 1000 + 5)


def test_the_conditions_of_expire(run: Strings) -> None:
    run("SET k me")
    assert run("PEXPIRE k 100 XX") == run("PEXPIRE k 100 GT") == NO
    assert run("PEXPIRE k 100 LT") == YES
    assert run("PEXPIRE k 200 NX") == run("PEXPIRE k 200 LT") == run("PEXPIRE k 100 GT") == NO
    assert run("PEXPIRE k 200 GT XX") == YES
    assert run("PEXPIRE k 150 LT XX") == YES
    assert run("PTTL k") == Number(150)
    assert run("PERSIST k") == YES
    assert run("PERSIST k") == run("PERSIST l") == NO
    assert run("PEXPIRE k 100 NX") == YES


def test_getex_changes_the_end_and_nothing_else(run: Strings) -> None:
    run("SET k me PX 100")
    version, renewals = run.hold().version, run.table.totals.renewals
    assert run("GETEX k") == Bulk(b"me")
    assert run.table.totals.renewals == renewals
    assert run("GETEX k PX 900") == Bulk(b"me")
    assert run("PTTL k") == Number(900)
    assert run("GETEX k PERSIST") == Bulk(b"me")
    assert run("PTTL k") == Number(-1)
    assert run.hold().version == version
    assert run("GETEX k PXAT 1") == Bulk(b"me")
    assert run("GETEX k PX 5") == NOTHING


# --- those who wait ------------------------------------------------------------------------------


def test_a_waiter_is_served_when_the_key_is_deleted(run: Strings) -> None:
    run("SET k me")
    ticket = run.wait(b"you")
    assert run("DEL k l") == YES
    (ended,) = run.ended
    assert (ended.ticket, ended.outcome) == (ticket, Granted(run.hold().version, 30_000))
    assert run("GET k") == Bulk(b"you")
    assert [kind for kind, _, _ in run.events] == ["acquired", "queued", "deleted", "acquired"]


@pytest.mark.parametrize("command", ["DELIFEQ k me", "DELEX k IFNE x", "GETDEL k", "PEXPIRE k 0"])
def test_a_waiter_is_served_when_the_key_ends(run: Strings, command: str) -> None:
    run("SET k me")
    run.wait(b"you")
    run(command)
    assert run("GET k") == Bulk(b"you")


def test_a_waiter_is_served_when_the_key_expires(run: Strings) -> None:
    run("SET k me PX 100")
    run.wait(b"you")
    run.now_ms += 100
    assert run("SET k he NX") == NOTHING
    assert run("GET k") == Bulk(b"you")


def test_a_waiter_goes_on_waiting_when_the_key_is_set(run: Strings) -> None:
    run("SET k me")
    run.wait(b"you")
    assert run("SET k he") == Done()
    assert (run("GET k"), run.ended) == (Bulk(b"he"), [])
    run("DEL k")
    assert run("GET k") == Bulk(b"you")


def test_who_sets_the_key_to_a_waiter_ends_its_wait(run: Strings) -> None:
    run("SET k me")
    ticket = run.wait(b"you")
    run("SET k you")
    (ended,) = run.ended
    assert (ended.ticket, ended.outcome) == (ticket, Unblocked("replaced"))
    assert run("GET k") == Bulk(b"you")


def test_who_takes_a_free_lock_by_set_grants_it_to_nobody_behind_his_place(run: Strings) -> None:
    """His place gone, the next would be granted the lock, and lose it, in the same command."""
    run("SET l me")
    run.apply(AcquireAll((K, L), b"you", options=Options(wait_ms=60_000, client=CLIENT)))
    run.wait(b"third")
    run.wait(b"fourth", L)
    run.events.clear()
    run("SET k you")
    assert run.events == [
        ("cancelled", b"you", b"replaced"),
        ("cancelled", b"you", b"replaced"),
        ("acquired", b"you", b""),
    ]
    run("DEL l")
    assert run("GET l") == Bulk(b"fourth")
    run("DEL k")
    assert run("GET k") == Bulk(b"third")


def test_set_nx_passes_nobody_who_waits(run: Strings) -> None:
    """The first in line waits for two locks, of which one is free."""
    run("SET l me")
    both = AcquireAll((K, L), b"you", options=Options(wait_ms=60_000, client=CLIENT))
    assert isinstance(run.apply(both), Blocked)
    assert run("EXISTS k") == NO
    assert run("SET k he NX") == NOTHING
    run("DEL l")
    assert run("GET k") == run("GET l") == Bulk(b"you")


def test_set_without_nx_takes_a_lock_that_others_wait_for(run: Strings) -> None:
    run("SET l me")
    run.apply(AcquireAll((K, L), b"you", options=Options(wait_ms=60_000, client=CLIENT)))
    assert run("SET k he") == Done()
    run("DEL l")
    assert run("GET l") == NOTHING
    run("DEL k")
    assert run("GET l") == run("GET k") == Bulk(b"you")


def test_a_delay_keeps_the_lock_from_tries_after_a_delete(run: Strings) -> None:
    run.apply(Acquire(K, b"me", options=Options(delay_ms=500)))
    run("DEL k")
    assert run("SET k you NX") == NOTHING
    run.now_ms += 500
    assert run("SET k you NX") == Done()


def test_who_knows_the_value_releases_without_a_delay(run: Strings) -> None:
    run.apply(Acquire(K, b"me", options=Options(delay_ms=500)))
    run("DELIFEQ k me")
    assert run("SET k you NX") == Done()


# --- other kinds of locks ------------------------------------------------------------------------

WRONG = ["GET", "STRLEN", "TYPE", "GETDEL", "GETEX", "PERSIST", "INCR", "DECR"]


@pytest.mark.parametrize("options", [Options(shared=True), Options(limit=2)])
def test_locks_that_may_have_several_holders_have_no_value(run: Strings, options: Options) -> None:
    run.apply(Acquire(K, b"me", 500, options=options))
    run.apply(Acquire(K, b"you", 700, options=options))
    wrong = [f"{command} k" for command in WRONG]
    wrong += ["SET k v", "SET k v XX", "SET k v GET NX", "GETSET k v", "EXPIRE k 5", "DELIFEQ k me"]
    wrong += ["APPEND k v", "INCRBY k 5", "GETRANGE k 0 1", "MSET l v k v"]
    for command in wrong:
        assert run(command) == WrongType(), command
    assert run("SET k v NX") == NOTHING
    assert run("SETNX k v") == run("MSETNX l v k v") == run("EXISTS l") == NO
    assert run("MGET k") == Values((None,))
    assert run("EXISTS k") == YES
    assert run("PTTL k") == Number(700)
    assert run("DEL k") == YES
    assert run("EXISTS k") == NO
    assert [event for event in run.events if event[0] == "deleted"] == [
        ("deleted", b"me", b""),
        ("deleted", b"you", b""),
    ]


def test_the_ttl_of_several_holds_is_that_of_the_last(run: Strings) -> None:
    run.apply(Acquire(K, b"me", 500, options=Options(shared=True)))
    run.apply(Acquire(K, b"you", 0, options=Options(shared=True)))
    assert run("PTTL k") == Number(-1)


def test_a_reentrant_hold_is_deleted_whole(run: Strings) -> None:
    for _ in range(2):
        run.apply(Acquire(K, b"me", options=Options(reentrant=True)))
    assert run("DELIFEQ k me") == YES
    assert run("EXISTS k") == NO


def test_a_hold_that_goes_with_its_client_still_does_after_set(run: Strings) -> None:
    run.apply(Acquire(K, b"me", options=Options(on_close=True, client=CLIENT)))
    run("SET k me")
    assert run.table.tied.members_of(CLIENT) == [(K, b"me")]
    run("SET k you")
    assert run.table.tied.members_of(CLIENT) == []


def test_what_was_set_can_be_released(run: Strings) -> None:
    run("SET k me")
    assert run.apply(Release(K, b"me")).holds == 0
    assert run("GET k") == NOTHING


# --- from scripts --------------------------------------------------------------------------------


def test_scripts_run_the_same_commands(run: Strings) -> None:
    def execute(text: str) -> Any:
        words = text.encode().split()
        return strings.execute(run.table, GRAMMARS[words[0].upper()].bind(words, 0), run.index)

    assert execute("set k me px 100") == Done()
    assert execute("SET k you NX") == NOTHING
    assert execute("get k") == Bulk(b"me")
    assert execute("pttl k") == Number(100)
    assert execute("del k") == YES
    assert execute("del k") == NO
    assert execute("SET k me") == Done()
    assert run.hold().version == run.index + 1, "the second grant of one command"
    assert execute("SET k me PXAT 1") == Done()
    assert execute("GET k") == NOTHING
    assert execute("MGET k k") == Values((None, None))
    run.table.check()


def test_scripts_see_no_overdue_hold(run: Strings) -> None:
    run("SET k me PX 100")
    run.table.clock_ms = run.table.clock_ms.__class__(run.now_ms + 100)
    assert strings.execute(run.table, GetString(K), run.index) == NOTHING
