"""The log: what it keeps, replaces, drops and gives back. No damage here."""

import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from resplock.errors import StorageError
from resplock.raft.entries import Entry, EntryKind, HardState, SnapshotMeta, entry_bytes
from resplock.raft.storage import LogReader
from resplock.server import rocks, storage
from resplock.server.datadir import DataDirectory
from resplock.server.durable import DISK_FULL
from resplock.server.storage import Log
from tests.server.test_storage_tools import (
    EVERYTHING,
    NODE,
    all_entries,
    crashed,
    index,
    make,
    meta_at,
    opened,
    run,
    singles,
    state_of,
    take_snapshot,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "data")


def reopened(path: Path, tmp_path: Path) -> Log:
    """The log as a new process would find it after a kill."""
    return Log.open(crashed(path, tmp_path / "crashed"))


def test_an_empty_log(path: Path) -> None:
    with opened(path) as log:
        reader: LogReader = log
        assert reader.hard_state == HardState()
        assert reader.snapshot == SnapshotMeta()
        assert (reader.first_index, reader.last_index) == (1, 0)
        assert reader.entry_at(index(1)) is None
        assert reader.term_at(index(0)) == 0
        assert reader.term_at(index(1)) is None
        assert reader.entries(index(1), 100) == []


def test_entries_and_hard_state_are_there_after_a_kill(path: Path, tmp_path: Path) -> None:
    saved = [run(1, 3), run(4), Entry(2, 5, 5, EntryKind.NOOP, 9), run(6, 9, 2, b"x" * 100_000)]
    with opened(path) as log:
        log.save(HardState(1, "n1"), saved[:2])
        log.save(HardState(2, "n2"), saved[2:])
        again = reopened(path, tmp_path)
        for each in (log, again):
            assert all_entries(each) == saved
            assert each.hard_state == HardState(2, "n2")
            assert (each.first_index, each.last_index) == (1, 9)
        again.close()


def test_entries_are_there_after_a_close(path: Path) -> None:
    with opened(path) as log:
        log.save(HardState(1, "n1"), singles(1, 5))
    with opened(path) as log:
        assert all_entries(log) == singles(1, 5)
        assert log.hard_state == HardState(1, "n1")


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_index_inside_a_run_finds_its_entry(path: Path, in_memory: bool) -> None:
    saved = [run(1, 3), run(4, 4, 2), run(5, 300, 3), run(301, 301, 3)]
    log = Log.open(path)
    log.save(None, saved)
    if not in_memory:
        log.close()
        log = Log.open(path)
    for at in range(302):
        covering = [entry for entry in saved if entry.first <= at <= entry.last]
        assert log.entry_at(index(at)) == (covering[0] if covering else None)
        assert log.term_at(index(at)) == (covering[0].term if covering else 0)
    assert log.term_at(index(302)) is None
    log.close()


@pytest.mark.parametrize("in_memory", [True, False])
def test_entries_ends_at_the_limit_but_gives_at_least_one(path: Path, in_memory: bool) -> None:
    saved = [run(at, at, 1, b"x" * 68) for at in range(1, 11)]
    assert entry_bytes(saved[0]) == 100
    log = Log.open(path)
    log.save(None, saved)
    if not in_memory:
        log.close()
        log = Log.open(path)
    assert log.entries(index(1), 300) == saved[:3]
    assert log.entries(index(4), 299) == saved[3:5]
    assert log.entries(index(4), 0) == saved[3:4]
    assert log.entries(index(10), EVERYTHING) == saved[9:]
    assert log.entries(index(11), EVERYTHING) == []
    log.close()


def test_reads_reach_from_the_disk_to_the_entries_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "TAIL_BYTES_MAX", 1000)
    saved = singles(1, 200)
    with opened(path) as log:
        for entry in saved:
            log.save(None, [entry])
        assert all_entries(log) == saved
        assert log.entries(index(150), EVERYTHING) == saved[149:]
        assert [log.entry_at(index(at)) for at in range(1, 201)] == saved
        log.save(None, [run(201, 201, 1, b"x" * 5000)])
        assert log.entries(index(1), EVERYTHING)[-1] == log.entry_at(index(201))


def test_a_conflicting_suffix_is_replaced(path: Path, tmp_path: Path) -> None:
    with opened(path) as log:
        log.save(None, singles(1, 10))
        log.save(HardState(2, ""), [run(7, 7, 2), run(8, 9, 2)])
        expected = [*singles(1, 6), run(7, 7, 2), run(8, 9, 2)]
        again = reopened(path, tmp_path)
        for each in (log, again):
            assert all_entries(each) == expected
            assert each.last_index == 9
            assert each.entry_at(index(10)) is None
            assert [each.term_at(index(at)) for at in (6, 7, 9)] == [1, 2, 2]
        again.save(None, singles(10, 12, 3))
        assert all_entries(again) == [*expected, *singles(10, 12, 3)]
        again.close()


def test_the_whole_log_is_replaced(path: Path, tmp_path: Path) -> None:
    with opened(path) as log:
        log.save(None, singles(1, 5))
        log.save(None, singles(1, 2, 2))
        again = reopened(path, tmp_path)
        assert all_entries(log) == all_entries(again) == singles(1, 2, 2)
        again.close()


def test_a_suffix_may_be_replaced_by_entries_of_a_smaller_term(path: Path, tmp_path: Path) -> None:
    # A deposed leader's own entry of term 3 gives way to what a leader of term 4 has of term 2.
    with opened(path) as log:
        log.save(None, [*singles(1, 4), run(5, 5, 3)])
        log.save(None, singles(5, 6, 2))
        again = reopened(path, tmp_path)
        assert all_entries(again) == [*singles(1, 4), *singles(5, 6, 2)]
        again.close()


def test_nothing_is_written_when_there_is_nothing_new(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as log:
        log.save(HardState(3, "n2"), [])
        for name in ("write", "put"):
            monkeypatch.setattr(rocks.Rocks, name, lambda *_: pytest.fail("written"))
        log.save(None, [])
        log.save(HardState(3, "n2"), [])


def test_entries_with_a_gap_are_a_bug(path: Path) -> None:
    with opened(path) as log:
        log.save(None, singles(1, 3))
        with pytest.raises(AssertionError, match="not contiguous"):
            log.save(None, [run(5)])
        with pytest.raises(AssertionError, match="not contiguous"):
            log.save(None, [run(4), run(6)])


def test_an_entry_that_would_be_split_is_a_bug(path: Path) -> None:
    with opened(path) as log:
        log.save(None, [run(1, 3), run(4)])
        with pytest.raises(AssertionError, match="would be split"):
            log.save(None, [run(3, 3, 2)])


class TestCompaction:
    def test_drops_what_the_snapshot_covers(self, path: Path, tmp_path: Path) -> None:
        with opened(path) as log:
            log.save(None, singles(1, 10))
            take_snapshot(log.snapshot_directory, meta_at(6))
            log.compact(meta_at(6))
            log.save(None, singles(11, 11))  # the compaction itself is not synced
            again = reopened(path, tmp_path)
            for each in (log, again):
                assert each.snapshot == meta_at(6)
                assert (each.first_index, each.last_index) == (7, 11)
                assert all_entries(each) == singles(7, 11)
                assert [each.term_at(index(at)) for at in (5, 6, 7)] == [None, 1, 1]
                assert each.entry_at(index(6)) is None
            again.close()

    def test_keeps_a_tail(self, path: Path) -> None:
        with opened(path) as log:
            log.save(None, singles(1, 10))
            take_snapshot(log.snapshot_directory, meta_at(6))
            log.compact(meta_at(6), through=index(2))
            assert log.snapshot == meta_at(6)
            assert all_entries(log) == singles(3, 10)
            assert log.term_at(index(3)) == 1
        with opened(path) as log:
            assert all_entries(log) == singles(3, 10)
            assert log.snapshot == meta_at(6)

    def test_keeps_an_entry_that_it_would_have_to_split(self, path: Path) -> None:
        with opened(path) as log:
            log.save(None, [run(1, 5), run(6, 10), run(11)])
            take_snapshot(log.snapshot_directory, meta_at(10))
            log.compact(meta_at(10), through=index(7))
            assert log.first_index == 6
            assert all_entries(log) == [run(6, 10), run(11)]

    @pytest.mark.parametrize("close_first", [True, False])
    def test_of_everything_leaves_a_log_that_goes_on(
        self, path: Path, tmp_path: Path, close_first: bool
    ) -> None:
        log = Log.open(path)
        log.save(HardState(2, "n1"), singles(1, 10))
        take_snapshot(log.snapshot_directory, meta_at(10))
        log.compact(meta_at(10))
        assert (log.first_index, log.last_index) == (11, 10)
        assert log.term_at(index(10)) == 1
        if close_first:
            log.close()
            log = Log.open(path)
            assert (log.first_index, log.last_index) == (11, 10)
            assert log.term_at(index(10)) == 1
        log.save(None, singles(11, 12, 2))
        again = reopened(path, tmp_path)
        assert state_of(again) == (HardState(2, "n1"), singles(11, 12, 2), meta_at(10))
        again.close()
        log.close()

    def test_twice_uses_the_newer_snapshot(self, path: Path) -> None:
        with opened(path) as log:
            log.save(None, singles(1, 10))
            for at, through in ((4, 0), (8, 4)):
                take_snapshot(log.snapshot_directory, meta_at(at))
                log.compact(meta_at(at), through=index(through))
        with opened(path) as log:
            assert log.snapshot == meta_at(8)
            assert all_entries(log) == singles(5, 10)

    def test_lost_in_a_crash_is_no_damage(self, path: Path, tmp_path: Path) -> None:
        with opened(path) as log:
            log.save(None, singles(1, 10))
            take_snapshot(log.snapshot_directory, meta_at(6))
            again = reopened(path, tmp_path)
            assert all_entries(again) == singles(1, 10)
            assert again.snapshot == meta_at(6)
            again.close()

    def test_by_a_snapshot_of_another_history_is_a_bug(self, path: Path) -> None:
        with opened(path) as log:
            log.save(None, singles(1, 10))
            with pytest.raises(AssertionError, match="not of this log"):
                log.compact(meta_at(6, term=2))
            with pytest.raises(AssertionError, match="not of this log"):
                log.compact(meta_at(11))


class TestInstallation:
    @pytest.mark.parametrize("before", [[], singles(1, 10), singles(1, 200)])
    def test_replaces_the_log(self, path: Path, tmp_path: Path, before: list[Entry]) -> None:
        with opened(path) as log:
            log.save(HardState(5, "n2"), before)
            take_snapshot(log.snapshot_directory, meta_at(100, term=5))
            log.install(meta_at(100, term=5))
            again = reopened(path, tmp_path)
            for each in (log, again):
                assert state_of(each) == (HardState(5, "n2"), [], meta_at(100, term=5))
                assert (each.first_index, each.last_index) == (101, 100)
                assert each.term_at(index(100)) == 5
                assert each.entry_at(index(10)) is None
            again.save(None, singles(101, 103, 5))
            assert all_entries(again) == singles(101, 103, 5)
            again.close()

    @pytest.mark.parametrize("before", [singles(1, 10), singles(1, 200)])
    def test_interrupted_is_finished_at_the_next_start(
        self, path: Path, tmp_path: Path, before: list[Entry]
    ) -> None:
        """The snapshot's file is there; the log still ends before it, or conflicts with it."""
        with opened(path) as log:
            log.save(None, before)
            take_snapshot(log.snapshot_directory, meta_at(100, term=5))
            again = reopened(path, tmp_path)
            assert all_entries(again) == []
            assert again.snapshot == meta_at(100, term=5)
            assert again.last_index == 100
            again.save(None, singles(101, 102, 5))
            again.close()
            with opened(tmp_path / "crashed") as once_more:
                assert all_entries(once_more) == singles(101, 102, 5)

    def test_inside_an_entry_of_another_history_conflicts(self, path: Path, tmp_path: Path) -> None:
        with opened(path) as log:
            log.save(None, [run(1, 50), run(51, 150)])
            take_snapshot(log.snapshot_directory, meta_at(100, term=1))
            again = reopened(path, tmp_path)
            assert (all_entries(again), again.last_index) == ([], 100)
            again.close()


class TestFailures:
    def fail(self, patch: pytest.MonkeyPatch, text: str) -> None:
        class Broken:
            def __init__(self, database: Any) -> None:
                self.close = database.close

            def _fail(self, *_: Any) -> None:
                raise Exception(text)  # what rocksdict raises

            put = write = flush_wal = _fail

        real = rocks.Rocks.__init__

        def broken(self: rocks.Rocks, path: Path, **options: Any) -> None:
            real(self, path, **options)
            self.breakdown = lambda: setattr(self, "_db", Broken(self._db))  # type: ignore[attr-defined]

        patch.setattr(rocks.Rocks, "__init__", broken)

    @pytest.mark.parametrize("entries", [singles(1, 1), singles(1, 2)])
    def test_a_full_disk_is_said_and_nothing_is_tried_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, entries: list[Entry]
    ) -> None:
        self.fail(monkeypatch, "IO error: No space left on device: While appending to file: x.log")
        with opened(path) as log:
            log._rocks.breakdown()  # type: ignore[attr-defined]
            with pytest.raises(StorageError, match="No space left") as first:
                log.save(None, entries)
            assert DISK_FULL in str(first.value)
            assert str(path / "log") in str(first.value)
            assert log.last_index == 0
            with pytest.raises(StorageError) as second:
                log.save(HardState(1, "n1"), [])
            assert second.value is first.value

    def test_a_failed_sync_is_said(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail(monkeypatch, "IO error: Input/output error: While fdatasync: x.log")
        with opened(path) as log:
            log._rocks.breakdown()  # type: ignore[attr-defined]
            with pytest.raises(StorageError, match="What the disk holds of it is now unknown"):
                log.save(None, singles(1, 1))

    def test_a_vote_that_is_not_durable_is_not_given(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        with opened(path) as log:
            with monkeypatch.context() as patch:
                patch.setattr("os.fdatasync", fail)
                with pytest.raises(StorageError, match="vote file: Input/output error"):
                    log.save(HardState(1, "n1"), [])
            assert log.hard_state == HardState()

    def test_a_mark_that_cannot_be_synced_is_fatal(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failed = threading.Event()
        seen: list[StorageError] = []

        def fatal(error: StorageError) -> None:
            seen.append(error)
            failed.set()

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(storage, "MARK_SYNC_EVERY_MS", 1)
        with opened(path, fatal=fatal) as log:
            with monkeypatch.context() as patch:
                patch.setattr("os.fdatasync", fail)
                log.save(None, singles(1, 1))
                assert failed.wait(30)
            assert str(path / "log/mark") in str(seen[0])
            with pytest.raises(StorageError):
                log.save(None, singles(2, 2))

    def test_ending_the_process_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ended: list[int] = []
        monkeypatch.setattr("os._exit", ended.append)
        with capture_logs() as logs:
            storage.end_process(StorageError("the reason"))
        assert ended == [1]
        assert (logs[0]["log_level"], logs[0]["reason"]) == ("critical", "the reason")


def test_the_mark_is_synced_in_the_background(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    monkeypatch.setattr(storage, "MARK_SYNC_EVERY_MS", 1)
    with opened(path) as log:
        monkeypatch.setattr("os.fdatasync", lambda fd: synced.set())
        log.save(None, singles(1, 1))
        assert synced.wait(30)


def test_close_ends_the_thread_and_may_be_repeated(path: Path) -> None:
    log = Log.open(path)
    log.save(None, singles(1, 1))
    log.close()
    log.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "resplock-mark"]
    with pytest.raises(AssertionError, match="closed"):
        log.save(None, singles(2, 2))


def test_a_refused_start_lets_go_of_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(storage, "recover", lambda *_: (_ for _ in ()).throw(StorageError("no")))
        with pytest.raises(StorageError, match="no"):
            Log.open(path)
    with opened(path) as log:
        assert log.last_index == 0


def test_a_log_is_opened_through_its_directory(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "data", NODE)
    with opened(directory.path) as log:
        log.save(None, singles(1, 2))
    directory.close()
    directory = DataDirectory.open(tmp_path / "data", NODE)
    with opened(directory.path) as log:
        assert all_entries(log) == singles(1, 2)
    directory.close()
