"""Crashes: at every step of every write, by kill -9 in the middle, and that syncs really happen."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resplock.errors import StorageError
from resplock.raft.entries import Entry, HardState
from resplock.server import snapshots, storage, wal
from resplock.server.rocks import Rocks, log_options
from resplock.server.storage import Log
from tests.server.test_storage_tools import (
    Crashes,
    all_entries,
    index,
    make,
    meta_at,
    opened,
    run,
    singles,
    state_of,
    take_snapshot,
)
from tests.tools import find_tool

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def snapshot(at: int, term: int, through: int) -> Callable[[Log], None]:
    def step(log: Log) -> None:
        take_snapshot(log.snapshot_directory, meta_at(at, term))
        log.compact(meta_at(at, term), through=index(through))

    return step


def installed(at: int, term: int) -> Callable[[Log], None]:
    def step(log: Log) -> None:
        take_snapshot(log.snapshot_directory, meta_at(at, term))
        log.install(meta_at(at, term))

    return step


def saved_late(entries: list[Entry]) -> Callable[[Log], None]:
    def step(log: Log) -> None:
        log.save(None, entries, sync=False)
        log.sync()

    return step


STEPS: list[Callable[[Log], None]] = [
    lambda log: log.save(HardState(1, "n1"), singles(1, 1)),
    lambda log: log.save(None, singles(2, 2)),
    lambda log: log.save(None, [run(3, 7), run(8), run(9)]),
    saved_late([run(10, 11)]),
    saved_late([run(12, 12), run(13, 13)]),
    lambda log: log.save(HardState(2, ""), []),
    lambda log: log.save(HardState(2, "n3"), []),
    lambda log: log.save(None, singles(8, 12, 2)),  # a conflicting suffix, longer than before
    snapshot(7, 1, 0),
    lambda log: log.save(HardState(3, "n1"), [run(10, 10, 3)]),  # and one that is shorter
    snapshot(10, 3, 7),
    lambda log: log.save(None, [run(11, 11, 3)]),
    snapshot(11, 3, 11),  # the log is empty now
    lambda log: log.save(None, singles(12, 14, 3)),
    installed(13, 4),  # conflicts with the log
    lambda log: log.save(HardState(4, ""), singles(14, 20, 4)),
    installed(50, 5),  # is ahead of the log
    lambda log: log.save(HardState(5, "n1"), singles(51, 52, 5)),
    lambda log: log.save(None, singles(51, 51, 6)),
    snapshot(51, 6, 51),
]


def test_at_any_step_a_crash_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "data")
    tried = 0
    monkeypatch.setattr(storage, "MARK_SYNC_EVERY_MS", 3_600_000)
    with opened(path) as log:
        for number, step in enumerate(STEPS):
            before = state_of(log)
            with monkeypatch.context() as patch:
                crashes = Crashes(path, patch)
                crashes.take("begin")
                step(log)
                crashes.take("end")
            after = state_of(log)
            for kind, found in (("kill", crashes.killed), ("power cut", crashes.cut)):
                for label, copy in found:
                    where = (number, kind, label)
                    with opened(copy) as again:
                        hard_state, entries, meta = state_of(again)
                        assert hard_state in (before[0], after[0]), where
                        assert meta in (before[2], after[2]), where
                        known = {entry.last: entry for entry in before[1]}
                        known_after = {entry.last: entry for entry in after[1]}
                        for entry in entries:
                            assert entry in (
                                known.get(entry.last),
                                known_after.get(entry.last),
                            ) or (entry.last <= meta.index), where
                        assert again.last_index in (before_end(before), before_end(after)), where
                        if label == "end":
                            assert hard_state == after[0], where
                            assert again.last_index == log.last_index, where
                            assert meta == after[2], where
                            assert [e for e in entries if e.last > meta.index] == [
                                e for e in after[1] if e.last > meta.index
                            ], where
                        again.save(None, [run(again.last_index + 1, term=9)])
                    tried += 1
            crashes.forget()
    assert tried > 80


def before_end(state: tuple) -> int:  # type: ignore[type-arg]
    """The last index of a log in this state."""
    _, entries, meta = state
    return entries[-1].last if entries else int(meta.index)


def test_after_a_power_cut_the_mark_never_names_what_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark as the background thread synced it just before, the log as it was replaced."""
    path = make(tmp_path / "data")
    monkeypatch.setattr(storage, "MARK_SYNC_EVERY_MS", 3_600_000)
    with opened(path) as log:
        log.save(None, [*singles(1, 9), run(10, 10, 3)])
        log.sync_mark()
        with monkeypatch.context() as patch:
            crashes = Crashes(path, patch)
            log.save(None, singles(10, 10, 2))
            crashes.take("end")
        for label, copy in crashes.cut:
            with opened(copy) as again:
                assert again.term_at(index(10)) in (2, 3), label
        assert len(crashes.cut) == 2


def test_after_a_power_cut_the_mark_never_names_what_was_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader wrote without a sync, and the next one replaces some of that: the mark goes back to
    what is left, which must be durable first. Otherwise the node would refuse to start."""
    path = make(tmp_path / "data")
    monkeypatch.setattr(storage, "MARK_SYNC_EVERY_MS", 3_600_000)
    with opened(path) as log:
        log.save(None, singles(1, 9))
        with monkeypatch.context() as patch:
            crashes = Crashes(path, patch)
            log.save(None, singles(10, 12), sync=False)
            log.save(HardState(2, ""), singles(12, 12, 2))
            crashes.take("end")
        ends = []
        for _, copy in crashes.cut:
            with opened(copy) as again:
                ends.append((again.last_index, again.term_at(again.last_index)))
        assert set(ends) == {(9, 1), (12, 1), (12, 2)}
        assert ends[-1] == (12, 2)


def test_what_a_start_finds_is_durable_before_the_mark_names_it(tmp_path: Path) -> None:
    """A killed process had written it without a sync: what the log is opened with is in a table."""
    path = make(tmp_path / "data")
    with opened(path) as log:
        log.save(HardState(1, "n1"), singles(1, 9))
        log.save(None, singles(10, 12), sync=False)
        killed = Path(shutil.copytree(path, tmp_path / "killed"))
    with opened(killed):
        cut = Path(shutil.copytree(killed, tmp_path / "cut"))
    for file in wal.files(cut / "log" / "rocksdb"):
        file.unlink()
    with opened(cut) as log:
        assert log.last_index == 12


CHILD = """
import os, sys
from pathlib import Path
import structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from resplock.raft.entries import Entry, EntryKind, HardState
from resplock.server.datadir import DataDirectory
from resplock.server.storage import Log

directory = DataDirectory.open(Path(sys.argv[1]), "n1")
log = Log.open(directory.path)
limit = int(sys.argv[2])
number = max(log.hard_state.term, log.term_at(log.last_index))
while limit:
    number += 1
    limit -= 1
    if number % 50 == 0 and log.last_index > 3:
        # a conflicting suffix, replaced by a shorter one
        first = log.entry_at(log.entry_at(log.last_index).first - 1).first
        entries = [Entry(number, first, first, EntryKind.RUN, 0, b"%d" % number)]
    else:
        first = log.last_index + 1
        entries = [Entry(number, first, first + number % 3, EntryKind.RUN, 0, b"%d" % number)]
    log.save(HardState(number, "n%d" % (number % 3)) if number % 7 == 0 else None, entries)
    os.write(1, b"%d %d %d\\n" % (log.hard_state.term, entries[0].term, entries[0].last))
"""


def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "data")
    for number in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), "1000000"],
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        ) as child:
            assert child.stdout is not None
            output = b""
            while output.count(b"\n") < 60 + 37 * number:
                more = os.read(child.stdout.fileno(), 200)
                assert more, "the child ended by itself"
                output += more
            child.send_signal(signal.SIGKILL)
            output += child.stdout.read()
        acknowledged = output[: output.rindex(b"\n")].splitlines()[-1]
        voted, term, last = map(int, acknowledged.split())
        with opened(path) as log:
            assert log.hard_state.term >= voted
            entries = all_entries(log)
            assert (entries[-1].term, entries[-1].last) >= (term, last)
            assert term in [entry.term for entry in entries]
            assert all(entry.payload == b"%d" % entry.term for entry in entries)


def test_a_file_that_may_not_grow_ends_the_writer_and_loses_nothing(tmp_path: Path) -> None:
    path = make(tmp_path / "data")
    limits = (256 * 1024, resource.RLIM_INFINITY)
    program = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, {limits})\n" + CHILD
    )
    child = subprocess.run(
        [sys.executable, "-c", program.replace(', b"%d"', ', b"%5000d"'), str(path), "1000"],
        capture_output=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert child.returncode == 1
    assert b"StorageError" in child.stderr
    assert b"File too large" in child.stderr
    assert b"The disk is full" in child.stderr
    acknowledged = [tuple(map(int, line.split())) for line in child.stdout.splitlines()]
    assert len(acknowledged) > 20
    with opened(path) as log:
        assert log.term_at(index(acknowledged[-1][2])) == acknowledged[-1][1]


class TestSyncs:
    def test_are_counted_by_rocksdb(self, tmp_path: Path) -> None:
        options = log_options(create=True)
        options.enable_statistics()
        database = Rocks(tmp_path / "rocksdb", options=options)
        for number in range(30):
            database.put(b"%d" % number, b"value")
        statistics = options.get_statistics() or ""
        found = re.search(r"rocksdb\.wal\.synced COUNT : (\d+)", statistics)
        database.close()
        assert found is not None
        assert int(found[1]) == 30

    def test_are_seen_by_the_kernel(self, tmp_path: Path) -> None:
        """One fdatasync of the write-ahead log for each save, and one of the vote file for each new
        term or vote; the mark is not synced in between."""
        strace = find_tool("strace")
        path = make(tmp_path / "data")
        trace = tmp_path / "trace"
        command = [sys.executable, "-c", CHILD, str(path), "60"]
        child = subprocess.run(
            [strace, "-f", "-y", "-e", "trace=fdatasync,write", "-o", trace, *command],
            capture_output=True,
            env=ENVIRONMENT,
            check=False,
        )
        if b"PTRACE" in child.stderr or b"ptrace" in child.stderr:
            pytest.skip("strace may not trace here")
        assert child.returncode == 0, child.stderr
        events = []
        for line in trace.read_text().splitlines():
            if re.search(r"fdatasync\(\d+<.*\.log>\)\s+= 0", line):
                events.append("log")
            elif re.search(r"fdatasync\(\d+<.*/log/vote>\)\s+= 0", line):
                events.append("vote")
            elif re.search(r'write\(1<.*>, "\d+ \d+ \d+\\n"', line):
                events.append("ack")
        # Before each acknowledgement there is a sync of the log since the one before it.
        assert events.count("ack") == 60
        assert events.count("vote") == 60 // 7
        since: list[str] = []
        for number, event in enumerate(events):
            if event == "ack":
                assert "log" in since, number
                assert "vote" not in since or since.index("vote") < since.index("log")
                since = []
            else:
                since.append(event)


def test_a_snapshot_is_whole_or_absent_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "data")
    monkeypatch.setattr(storage, "MARK_SYNC_EVERY_MS", 3_600_000)
    with opened(path) as log:
        log.save(None, singles(1, 9))
        take_snapshot(log.snapshot_directory, meta_at(5))
        with monkeypatch.context() as patch:
            patch.setattr(snapshots, "SYNC_EVERY_BYTES", 100)
            crashes = Crashes(path, patch)
            take_snapshot(log.snapshot_directory, meta_at(8), [b"x" * 90] * 5)
            crashes.take("end")
    for kind, found in (("kill", crashes.killed), ("power cut", crashes.cut)):
        seen = set()
        for label, copy in found:
            latest = snapshots.latest(copy / "snapshots")
            assert latest in (meta_at(5), meta_at(8)), (kind, label)
            seen.add(latest.index)
        assert seen == {5, 8}, kind
        assert label == "end"
        assert latest == meta_at(8)


def test_the_error_of_a_full_disk_names_the_path(tmp_path: Path) -> None:
    path = make(tmp_path / "data")
    with opened(path) as log:
        log._rocks._db.close()
        with pytest.raises(StorageError, match=re.escape(str(path))):
            log.save(None, singles(1, 1))
