"""The lock table against a naive model: random entries give the same outcomes and the same state."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    AcquireAll,
    Blocked,
    Break,
    Cancel,
    Disconnect,
    Held,
    KeepAlive,
    NodeGone,
    Operation,
    Options,
    Release,
    Renew,
    Settle,
    Unblock,
    Undelivered,
    decode_run,
    encode_run,
)
from resplock.state import snapshots
from resplock.state.records import Head
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.state.trying import Trial, is_try, looks_refused
from resplock.types import NodeId, StampMs
from tests.state.twin import CLIENTS, NAMES, OWNERS, STEPS, Chance, Twin, image

names = st.sampled_from(NAMES)
owners = st.sampled_from(OWNERS)
ttls = st.sampled_from([0, 1, 5, 40, 700, 30_000])
renewals = st.one_of(st.just(KEEP_TTL), ttls)
versions = st.one_of(st.just(0), st.integers(1, 40))
requests = st.sampled_from([b"", b"", b"r1", b"r2"])
metadata = st.sampled_from([(), ((b"host", b"x"),)])
clients = st.sampled_from(CLIENTS)
waiting = {
    "wait_ms": st.sampled_from([0, 1, 60, 900, 20_000]),
    "priority": st.sampled_from([0, 0, 7, -7]),
    "on_close": st.booleans(),
    "delay_ms": st.sampled_from([0, 0, 30]),
    "blocking": st.sampled_from([True, True, False]),
    "client": clients,
}
options = st.one_of(
    st.none(),
    st.builds(Options, **waiting),
    st.builds(Options, **waiting, shared=st.just(True)),
    st.builds(Options, **waiting, limit=st.sampled_from([2, 3]), permits=st.integers(1, 3)),
    st.builds(Options, **waiting, reentrant=st.just(True)),
)
operations = st.one_of(
    st.builds(Acquire, names, owners, ttls, requests, metadata, options),
    st.builds(
        AcquireAll,
        st.lists(names, min_size=1, max_size=3).map(tuple),
        owners,
        ttls,
        requests,
        metadata,
        st.builds(Options, **waiting),
    ),
    st.builds(Release, names, owners, versions),
    st.builds(Renew, names, owners, versions, renewals),
    st.builds(
        KeepAlive,
        owners,
        renewals,
        st.lists(st.tuples(names, st.integers(1, 40)), max_size=2).map(tuple),
    ),
    st.builds(Break, names, versions),
    st.builds(Settle, st.lists(names, max_size=2).map(tuple)),
    st.builds(Cancel, names, owners),
    st.builds(Disconnect, st.lists(clients, min_size=1, max_size=2).map(tuple)),
    st.builds(NodeGone, st.sampled_from([NodeId("n"), NodeId("m")]), st.integers(0, 2)),
    st.builds(Unblock, clients, st.booleans()),
    st.builds(Undelivered, names.map(lambda name: (name,)), owners, st.integers(1, 40), requests),
)
entries = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3, 60, 900, limits.WAITER_GRACE_MS, limits.REQUEST_REMEMBERED_MS]),
        st.lists(operations, max_size=5),
    ),
    max_size=25,
)
Entries = list[tuple[int, list[Operation]]]


@settings(max_examples=300)
@given(entries)
def test_table_does_what_the_model_does(run: Entries) -> None:
    """After every entry, outcomes, ends of waits, events and all that LOCK.GET shows are the model's.

    So holds are compatible, versions only rise, RELEASE and RENEW need owner and version, no hold
    ends early or is seen late, nobody passes, each wait has one end, a REQUEST has one effect, and
    what is derived is right.
    """
    twin = Twin()
    for elapsed, commands in run:
        twin.step(elapsed, commands)


@settings(max_examples=200)
@given(entries)
def test_a_trial_says_what_comes_of_a_try_that_changes_nothing(run: Entries) -> None:
    """Of those alone, and it changes nothing itself; where no end is due by then, as that is told of
    other locks too."""
    table = LockTable()
    trial = Trial(table)
    index, stamp = 1, 1
    for elapsed, commands in run:
        stamp += elapsed
        table.apply(index, stamp, ())
        index += 1
        for operation in commands:
            before = image(table)
            trial.begin(StampMs(stamp))
            tried = trial.answer(operation)
            assert image(table) == before
            looked = looks_refused(table, operation)
            [outcome] = table.apply(index, stamp, [operation])
            index += 1
            if tried is not None:
                assert tried == outcome
                assert _without_totals(image(table)) == _without_totals(before)
            elif looked and isinstance(outcome, Held):
                assert not is_try(operation) or table.end_due(stamp)


def _without_totals(chunks: list[bytes]) -> list[bytes]:
    head = msgspec.msgpack.decode(chunks[0], type=Head)
    head.totals.refusals = 0
    return [msgspec.msgpack.encode(head), *chunks[1:]]


@settings(max_examples=100)
@given(entries, st.integers(0, 25))
def test_a_restored_snapshot_goes_on_as_the_original(run: Entries, cut: int) -> None:
    """Whatever was applied before, original and copy answer alike ever after."""
    table = LockTable()
    copy: LockTable | None = None
    index, stamp = 1, 1
    for position, (elapsed, commands) in enumerate(run):
        if position == cut:
            copy = snapshots.restore(iter(image(table)))
        stamp += elapsed
        logged = decode_run(encode_run(commands))
        outcomes = table.apply(index, stamp, logged)
        ended = table.take_ended()
        if copy is not None:
            assert copy.apply(index, stamp, logged) == outcomes
            assert copy.take_ended() == ended
            copy.check()
        index += len(commands) or 1
    if copy is not None:
        assert image(copy) == image(table)


@settings(max_examples=100)
@given(entries, entries)
def test_a_snapshot_holds_the_moment_it_was_taken(before: Entries, during: Entries) -> None:
    """What is applied while a snapshot is being encoded does not show in it."""
    table, twin = LockTable(), LockTable()
    index, stamp = 1, 1
    for elapsed, commands in before:
        stamp += elapsed
        table.apply(index, stamp, commands)
        twin.apply(index, stamp, commands)
        index += len(commands) or 1
    snapshot = TableSnapshot(table)
    chunks: list[bytes] = []
    for elapsed, commands in during:
        chunk = snapshot.next_chunk()
        if chunk is not None:
            chunks.append(chunk)
        stamp += elapsed
        table.apply(index, stamp, commands)
        index += len(commands) or 1
    chunks.extend(iter(snapshot.next_chunk, None))
    assert chunks == image(twin)


@pytest.mark.parametrize("ends_max", [0, 3, 20])
@pytest.mark.parametrize("seed", range(8))
def test_a_cap_on_ends_leaves_everything_in_order(
    monkeypatch: pytest.MonkeyPatch, ends_max: int, seed: int
) -> None:
    """What the model does not know: ends that are late. Also a copy from a snapshot has the same."""
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", ends_max)
    monkeypatch.setattr(limits, "WAITERS_PER_LOCK", 3)
    rng = random.Random(seed)
    chance, table, copy = Chance(rng), LockTable(), LockTable()
    index, stamp = 1, 1
    owed: set[int] = set()
    for step in range(150):
        if step % 20 == 19:
            copy = snapshots.restore(iter(image(table)))
        stamp += rng.choice(STEPS)
        commands = [chance.command([]) for _ in range(rng.randint(0, 5))]
        outcomes = table.apply(index, stamp, commands)
        assert copy.apply(index, stamp, commands) == outcomes
        table.check()
        ended = table.take_ended()
        assert copy.take_ended() == ended
        owed |= {outcome.ticket for outcome in outcomes if isinstance(outcome, Blocked)}
        tickets = [end.ticket for end in ended]
        assert len(set(tickets)) == len(tickets)
        assert owed >= set(tickets), "a ticket ended twice, or was never given"
        owed -= set(tickets)
        assert owed == {place.ticket for place in table.queues.places.values() if place.ticket}
        index += len(commands) or 1
    assert image(copy) == image(table)
    monkeypatch.setattr(limits, "ENDS_PER_ENTRY", 1_000)
    stamp += limits.REQUEST_REMEMBERED_MS + limits.WAIT_MS_MAX
    for _ in range(2):
        table.apply(index, stamp, [])
        owed -= {end.ticket for end in table.take_ended()}
    assert not owed, "a wait without an end"
    assert not len(table.queues)
