"""The log in memory and on disk."""

from __future__ import annotations

import random

import pytest

from resplock.raft.entries import Entry, EntryKind, SnapshotMeta, entry_bytes
from resplock.raft.log import RaftLog
from resplock.types import Index, Term
from tests.raft.memory import MemoryLog


def run(term: int, first: int, last: int, size: int = 0) -> Entry:
    return Entry(term, first, last, EntryKind.RUN, last, bytes(size))


RUNS = [run(1, 1, 3), run(1, 4, 4), run(2, 5, 9), run(4, 10, 20)]


def log_of(disk: list[Entry], tail: list[Entry], tail_bytes_max: int = 1000) -> RaftLog:
    """A log with some entries on disk, and some that are not."""
    reader = MemoryLog()
    reader.kept = list(disk)
    log = RaftLog(reader, Index(0), tail_bytes_max)
    for entry in tail:
        log.append(entry)
    return log


@pytest.fixture(params=range(5))
def log(request: pytest.FixtureRequest) -> RaftLog:
    """RUNS, with the border between disk and tail anywhere."""
    return log_of(RUNS[: request.param], RUNS[request.param :])


def test_an_index_finds_the_entry_that_covers_it(log: RaftLog) -> None:
    for entry in RUNS:
        for index in range(entry.first, entry.last + 1):
            assert log.entry_at(Index(index)) == entry
            assert log.term_at(Index(index)) == entry.term
            assert log.is_end(Index(index)) == (index == entry.last)
            assert log.start_of(Index(index)) == entry.first
            assert log.has(Index(index), Term(entry.term)) == (index == entry.last)
            assert not log.has(Index(index), Term(entry.term + 1))
    assert log.entry_at(Index(21)) is log.term_at(Index(21)) is None
    assert log.start_of(Index(21)) == 21
    assert log.term_at(Index(0)) == 0
    assert log.is_end(Index(0))
    assert (log.last_index, log.last_term, log.last_stamp_ms) == (20, 4, 20)


def test_terms_are_searched_by_halves(log: RaftLog) -> None:
    """For conflict hints (Raft paper, end of 5.3)."""
    for term, last in ((0, 0), (1, 4), (2, 9), (3, 9), (4, 20), (9, 20)):
        assert log.last_of_terms_up_to(Term(term), Index(0), Index(20)) == last
    assert log.last_of_terms_up_to(Term(1), Index(9), Index(20)) == 9


def test_entries_are_read_in_pages_of_bytes(log: RaftLog) -> None:
    read: list[Entry] = []
    first = 1
    while page := log.entries_from(Index(first), 2 * entry_bytes(RUNS[0])):
        assert len(page) <= 2
        read.extend(page)
        first = page[-1].last + 1
    assert read == RUNS
    assert log.entries_from(Index(5), 1) == (RUNS[2],), "at least one"
    assert log.entries_from(Index(21), 1) == ()


@pytest.mark.parametrize("first", [1, 4, 5, 10])
def test_truncation_drops_whole_entries_and_what_was_durable_of_them(
    log: RaftLog, first: int
) -> None:
    stable_before = log.stable_index
    log.truncate(Index(first))
    kept = [entry for entry in RUNS if entry.last < first]
    assert log.last_index == first - 1
    assert log.last_term == (kept[-1].term if kept else 0)
    assert log.last_stamp_ms == (kept[-1].last if kept else 0)
    assert log.stable_index == min(stable_before, first - 1)
    log.append(run(5, first, 30))
    assert log.entry_at(Index(25)) == run(5, first, 30)
    assert log.unwritten()[-1] == run(5, first, 30)
    log.written(log.unwritten())
    log.synced()
    assert log.stable_index == 30


def test_what_is_committed_is_never_truncated() -> None:
    """Pitfall 3, asserted."""
    log = log_of(RUNS[:2], RUNS[2:])
    log.commit_to(Index(9))
    with pytest.raises(AssertionError, match="never change"):
        log.truncate(Index(5))
    with pytest.raises(AssertionError):
        log.commit_to(Index(4))
    with pytest.raises(AssertionError):
        log.commit_to(Index(21))
    log.truncate(Index(10))


def test_entries_are_never_split_nor_put_in_out_of_order() -> None:
    log = log_of([], RUNS)
    with pytest.raises(AssertionError, match="split"):
        log.truncate(Index(7))
    with pytest.raises(AssertionError, match="gap"):
        log.append(run(4, 22, 22))
    with pytest.raises(AssertionError, match="terms"):
        log.append(run(3, 21, 21))


def test_committed_entries_are_applied_once_and_in_order(log: RaftLog) -> None:
    log.commit_to(Index(9))
    applied: list[Entry] = []
    while entries := log.to_apply(bytes_max=1):
        assert len(entries) == 1
        log.applied(entries)
        applied.extend(entries)
    assert applied == RUNS[:3]
    assert log.applied_index == 9
    log.commit_to(Index(20))
    assert log.to_apply(bytes_max=1) == (RUNS[3],)


def test_an_overwritten_entry_is_not_durable_when_its_old_version_is() -> None:
    """Pitfall 5: what is there now has the same index, and was never written."""
    log = log_of([], RUNS[:3])
    writing = log.unwritten()
    log.truncate(Index(5))
    log.append(run(3, 5, 9))
    log.written(writing)
    log.synced()
    assert log.stable_index == 0
    assert log.unwritten() == (*RUNS[:2], run(3, 5, 9))


def test_an_entry_that_came_back_is_durable() -> None:
    """The same term and index is the same entry, with the same before it: log matching."""
    log = log_of(RUNS[:1], RUNS[1:3])
    writing = log.unwritten()
    log.truncate(Index(5))
    log.append(RUNS[2])
    log.append(RUNS[3])
    log.written(writing)
    log.synced()
    assert log.stable_index == 9
    assert log.unwritten() == (RUNS[3],)


def test_a_shorter_log_is_not_durable_beyond_its_end() -> None:
    log = log_of([], RUNS)
    writing = log.unwritten()
    log.truncate(Index(5))
    log.append(run(5, 5, 5))
    log.written(writing)
    log.synced()
    assert log.stable_index == 0


def test_the_tail_is_bounded_and_keeps_what_is_needed() -> None:
    """The newest entries stay; those not yet durable or applied stay whatever their size."""
    reader = MemoryLog()
    log = RaftLog(reader, Index(0), tail_bytes_max=1000)
    for index in range(1, 101):
        log.append(run(1, index, index, size=68))
    assert len(log.tail) == 100
    log.commit_to(Index(50))
    log.applied(log.to_apply(10**6))
    assert len(log.tail) == 100, "nothing of it is durable"
    reader.kept = list(log.unwritten())
    log.written(log.unwritten())
    log.synced()
    log.commit_to(Index(51))
    log.applied(log.to_apply(10**6))
    assert log.tail_first == 52, "the rest is not applied"
    log.commit_to(Index(100))
    log.applied(log.to_apply(10**6))
    assert len(log.tail) == 9
    assert log.first_index == 1
    reader.reads = 0
    assert log.entries_from(Index(10), 250) == (run(1, 10, 10, 68), run(1, 11, 11, 68))
    assert reader.reads == 1
    assert log.entries_from(Index(92), 10**6) is not None
    assert reader.reads == 1


def test_what_was_compacted_is_gone() -> None:
    log = log_of(RUNS, [])
    log.commit_to(Index(20))
    log.applied(log.to_apply(10**6))
    meta = SnapshotMeta(9, 2, 9)
    log.compact(meta)
    reader = log._reader
    assert isinstance(reader, MemoryLog)
    reader.compact(meta)
    assert (log.base.index, log.first_index) == (9, 10)
    assert log.term_at(Index(9)) == 2
    assert log.has(Index(9), Term(2))
    assert log.term_at(Index(8)) is None
    assert log.entries_from(Index(5), 1) is None
    assert log.entries_from(Index(10), 1) == (RUNS[3],)
    assert log.last_of_terms_up_to(Term(1), Index(0), Index(20)) == 8, "the past counts as old"


def test_a_log_that_is_missing_applied_entries_is_refused() -> None:
    """Our own runtime would have lost them."""
    with pytest.raises(AssertionError, match="applied"):
        RaftLog(MemoryLog(), Index(5), 1000)


def test_the_log_agrees_with_a_plain_list() -> None:
    """Random appends, truncations, writes, commits and applications, against the obvious model."""
    for seed in range(30):
        rng = random.Random(seed)
        reader = MemoryLog()
        log = RaftLog(reader, Index(0), tail_bytes_max=rng.choice((1, 200, 10_000)))
        model: list[Entry] = []
        committed = applied = 0
        writing: tuple[Entry, ...] = ()
        for _ in range(150):
            action = rng.randrange(6)
            if action <= 1:
                first = model[-1].last + 1 if model else 1
                term = (model[-1].term if model else 1) + rng.randrange(2)
                entry = run(term, first, first + rng.randrange(4))
                log.append(entry)
                model.append(entry)
            elif action == 2 and len(model) > committed:
                at = rng.randrange(committed, len(model))
                first, term = model[at].first, model[-1].term + 1
                del model[at:]
                log.truncate(Index(first))
                model.append(run(term, first, first))
                log.append(model[-1])
            elif action == 3 and log.has_unwritten:
                if not writing:
                    writing = log.unwritten()
                else:
                    reader.cut(Index(writing[0].first))
                    reader.kept.extend(writing)
                    log.written(writing)
                    log.synced()
                    writing = ()
            elif action == 4 and model:
                stable = [n for n, entry in enumerate(model, 1) if entry.last <= log.stable_index]
                committed = max(committed, rng.choice(stable or [0]))
                if committed:
                    log.commit_to(Index(model[committed - 1].last))
            elif action == 5 and (entries := log.to_apply(rng.choice((1, 10_000)))):
                assert list(entries) == model[applied : applied + len(entries)]
                log.applied(entries)
                applied += len(entries)
            assert log.last_index == (model[-1].last if model else 0)
            probe = rng.randrange(1, log.last_index + 3)
            covering = [e for e in model if e.first <= probe <= e.last]
            assert log.entry_at(Index(probe)) == (covering[0] if covering else None)
