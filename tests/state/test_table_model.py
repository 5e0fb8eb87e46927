"""The lock table against a naive model: random entries give the same outcomes and the same state."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    Break,
    Held,
    KeepAlive,
    Operation,
    Outcome,
    Release,
    Renew,
    Settle,
    decode_run,
    encode_run,
)
from resplock.state import snapshots
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import lock_name
from tests.state.model import NO_ADVICE, Model

names = st.sampled_from([lock_name(0, b"a"), lock_name(0, b"b{a}"), lock_name(3, b"a")])
owners = st.sampled_from([b"me", b"you", b"they"])
ttls = st.sampled_from([0, 1, 5, 40, 700, 30_000])
renewals = st.one_of(st.just(KEEP_TTL), ttls)
versions = st.one_of(st.just(0), st.integers(1, 40))
requests = st.sampled_from([b"", b"", b"r1", b"r2"])
metadata = st.sampled_from([(), ((b"host", b"x"),)])

operations = st.one_of(
    st.builds(Acquire, names, owners, ttls, requests, metadata),
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
)
entries = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3, 60, 900, limits.REQUEST_REMEMBERED_MS]),
        st.lists(operations, max_size=5),
    ),
    max_size=25,
)
Entries = list[tuple[int, list[Operation]]]


def plain(outcome: Outcome) -> Outcome:
    """The outcome without its advice, which the model does not compute."""
    if isinstance(outcome, Held):
        return msgspec.structs.replace(outcome, advice=NO_ADVICE)
    return outcome


def holds(table: LockTable) -> dict[bytes, tuple[object, ...]]:
    return {
        name: (hold.owner, hold.version, hold.deadline_ms, hold.ttl_ms, hold.metadata)
        for name, lock in table.locks
        for hold in lock.holds
    }


def image(table: LockTable) -> list[bytes]:
    return list(iter(TableSnapshot(table).next_chunk, None))


@settings(max_examples=300)
@given(entries)
def test_table_does_what_the_model_does(run: Entries) -> None:
    """After every entry, outcomes and state are the model's.

    So a lock has one holder at most, versions only rise, RELEASE and RENEW need owner and version,
    no hold ends early or is seen late, a REQUEST has one effect, and what is derived is right.
    """
    table, model = LockTable(), Model()
    index, stamp = 1, 1
    granted: set[int] = set()
    for elapsed, commands in run:
        stamp += elapsed
        before = table.last_version
        outcomes = table.apply(index, stamp, commands)
        assert [plain(o) for o in outcomes] == [
            plain(o) for o in model.apply(index, stamp, commands)
        ]
        table.check()
        assert holds(table) == {
            name: (hold.owner, hold.version, hold.deadline, hold.ttl, hold.metadata)
            for name, hold in model.held.items()
        }
        assert table.totals.expired == model.expired
        assert table.last_version == model.last_version >= before
        new = {int(str(hold[1])) for hold in holds(table).values()} - granted
        assert all(version > before for version in new), "a version below an earlier one"
        granted |= new
        index += len(commands) or 1


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
        if copy is not None:
            assert copy.apply(index, stamp, logged) == outcomes
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
