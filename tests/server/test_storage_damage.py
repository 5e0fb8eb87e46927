"""Damage to a log at rest: after it, either everything that was acknowledged is there or the start is
refused. Never silently fewer."""

import collections
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resplock.errors import DamagedLog, DamagedSnapshot, LostEntries, NewerFormat, StorageError
from resplock.raft.entries import Entry, HardState, SnapshotMeta
from resplock.server import records, snapshots
from resplock.server.datadir import create_log
from resplock.server.marks import (
    Mark,
    MarkFile,
    VoteFile,
    decode_mark,
    decode_vote,
    encode_mark,
    encode_vote,
)
from resplock.server.rocks import Rocks, WriteBatch, log_options, new_batch
from resplock.server.storage import Log
from tests.server.test_storage_tools import (
    all_entries,
    crashed,
    flip,
    index,
    make,
    meta_at,
    opened,
    run,
    singles,
    take_snapshot,
    wal,
)
from tests.write_ahead_log import damage, end

SAVED = [*singles(1, 20), *singles(21, 40, 2)]
VOTED = HardState(2, "n1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A node that was killed: 40 entries in its write-ahead log, and a vote."""
    live = make(tmp_path / "live")
    with opened(live) as log:
        log.save(HardState(1, "n2"), SAVED[:1])
        for entry in SAVED[1:20]:
            log.save(None, [entry])
        log.save(VOTED, SAVED[20:30])
        log.save(None, SAVED[30:39])
        log.save(None, SAVED[39:])
        return crashed(live, tmp_path / "data")


def after(path: Path, **options: bool) -> tuple[HardState, list[Entry]]:
    """What a start finds, or the error that it is refused with."""
    with opened(path, **options) as log:
        return log.hard_state, all_entries(log)


def refusal(path: Path, *kinds: type[StorageError]) -> str:
    """Why the log is refused: twice the same, and with what an operator can do."""
    texts = []
    for _ in range(2):
        with pytest.raises(kinds) as caught:
            Log.open(path)
        assert type(caught.value) in kinds
        texts.append(str(caught.value))
    assert str(path) in texts[0]
    assert "restore a backup of the whole directory" in texts[0]
    assert texts[0] == texts[1]
    return texts[0]


def test_undamaged_it_is_all_there(path: Path) -> None:
    assert after(path) == (VOTED, SAVED)


@pytest.fixture
def overwriting(tmp_path: Path) -> Path:
    """A node whose power was cut, 40 entries in a file of the write-ahead log that had an earlier
    life. Its mark is of the time before, as it is when it had not been synced since."""
    live = make(tmp_path / "live")
    with opened(live) as log:
        log.make_ready_to_write()
        mark = (live / "log/mark").read_bytes()
        log.save(VOTED, SAVED[:1])
        for entry in SAVED[1:]:
            log.save(None, [entry])
        path = crashed(live, tmp_path / "data")
    (path / "log/mark").write_bytes(mark)
    return path


class TestOverwrittenWriteAheadLog:
    def test_is_what_is_tested_here(self, overwriting: Path) -> None:
        assert 2000 < end(wal(overwriting)) < 4000
        assert wal(overwriting).stat().st_size > 1 << 20
        assert after(overwriting) == (VOTED, SAVED)

    def test_damaged_in_the_middle_is_refused(self, overwriting: Path, tmp_path: Path) -> None:
        outcomes = self.outcomes_of_flips(overwriting, tmp_path)
        assert set(outcomes) <= {"whole", "refused", "the last one torn"}
        assert outcomes["refused"] > 50
        assert outcomes["the last one torn"] > 0

    def test_damaged_would_lose_entries_without_the_check(
        self, overwriting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resplock.server.wal.newest_sequence", lambda _: 0)
        outcomes = self.outcomes_of_flips(overwriting, tmp_path)
        assert outcomes["lost"] > 50

    def outcomes_of_flips(self, path: Path, tmp_path: Path) -> collections.Counter[str]:
        outcomes: collections.Counter[str] = collections.Counter()
        size = end(wal(path))
        for number, offset in enumerate({*range(0, size, 37), *range(size - 40, size, 3)}):
            copy = crashed(path, tmp_path / "copy")
            flip(wal(copy), offset, number % 8)
            try:
                entries = after(copy)[1]
            except DamagedLog:
                outcomes["refused"] += 1
            else:
                kinds = {40: "whole", 39: "the last one torn"}
                outcomes[kinds.get(len(entries), "lost")] += 1
        return outcomes

    def test_torn_at_its_end_is_accepted(self, overwriting: Path, tmp_path: Path) -> None:
        """What the last batch would have overwritten is there in part, as it was before."""
        size = end(wal(overwriting))
        for torn in range(1, 40, 3):
            copy = crashed(overwriting, tmp_path / "copy")
            data = bytearray(wal(copy).read_bytes())
            data[size - torn : size] = bytes(torn)
            wal(copy).write_bytes(data)
            assert after(copy) == (VOTED, SAVED[:39])

    def test_damaged_may_be_accepted(self, overwriting: Path) -> None:
        damage(wal(overwriting))
        text = refusal(overwriting, DamagedLog)
        assert "its write-ahead log is damaged in the middle" in text
        hard_state, entries = after(overwriting, accept_loss=True)
        assert hard_state == VOTED
        assert entries == SAVED[: len(entries)]
        assert after(overwriting) == (hard_state, entries)  # accepted for good


class TestWriteAheadLog:
    def test_with_a_bit_flipped_is_refused_or_harmless(self, path: Path, tmp_path: Path) -> None:
        size = wal(path).stat().st_size
        kinds = {"whole": 0, "damaged": 0, "lost": 0}
        for number, offset in enumerate({*range(0, size, 37), *range(size - 90, size)}):
            copy = crashed(path, tmp_path / "copy")
            flip(wal(copy), offset, number % 8)
            try:
                assert after(copy) == (VOTED, SAVED)
                kinds["whole"] += 1
            except LostEntries:
                kinds["lost"] += 1
            except DamagedLog:
                kinds["damaged"] += 1
        assert kinds["damaged"] > kinds["lost"] > 0

    def test_cut_short_is_refused_and_may_be_accepted(self, path: Path, tmp_path: Path) -> None:
        size = wal(path).stat().st_size
        for length in (*range(size - 90, size, 3), size // 2, 1, 0):
            copy = crashed(path, tmp_path / "copy")
            with wal(copy).open("rb+") as file:
                file.truncate(length)
            text = refusal(copy, LostEntries)
            assert "written up to index 40" in text
            assert "--accept-data-loss" in text
            with capture_logs() as logs:
                hard_state, entries = after(copy, accept_loss=True)
            assert hard_state == VOTED
            assert entries == SAVED[: len(entries)]
            assert len(entries) < 40
            assert f"{40 - len(entries)} commands that were acknowledged are missing" in text
            warnings = [each["event"] for each in logs if each["log_level"] == "warning"]
            assert "starting without lost entries" in warnings
            assert after(copy) == (hard_state, entries)  # accepted for good

    def test_torn_in_what_was_never_synced_is_accepted(self, path: Path, tmp_path: Path) -> None:
        """A power cut: the mark is that of a second ago, the log's end is torn."""
        size = wal(path).stat().st_size
        old = encode_mark(90, 2, 39)
        data = old.ljust(4096, b"\0") + encode_mark(91, 2, 39).ljust(4096, b"\0")
        for length in range(size - 40, size, 3):
            copy = crashed(path, tmp_path / "copy")
            (copy / "log/mark").write_bytes(data)
            with wal(copy).open("rb+") as file:
                file.truncate(length)
            assert after(copy) == (VOTED, SAVED[:39])

    def test_deleted_is_refused(self, path: Path) -> None:
        wal(path).unlink()
        text = refusal(path, LostEntries)
        assert "40 commands that were acknowledged are missing" in text
        assert after(path, accept_loss=True) == (VOTED, [])

    def test_says_what_was_lost_to_whoever_accepts_it(self, path: Path) -> None:
        wal(path).unlink()
        with opened(path, accept_loss=True) as log:
            assert log.lost == Mark(2, 40)
            log.save(None, singles(1, 1, 3))
        with opened(path) as log:
            assert log.lost is None

    def test_that_lost_a_replaced_suffix_is_refused(self, tmp_path: Path) -> None:
        """The batch that replaced 8..10 is gone, and the log ends at the same index as before."""
        live = make(tmp_path / "live")
        with opened(live) as log:
            log.save(None, singles(1, 10))
            before = crashed(live, tmp_path / "before")
            log.save(None, singles(8, 10, 2))
            shutil.copy(live / "log/mark", before / "log/mark")
        assert "of term 2 that was acknowledged there is missing" in refusal(before, LostEntries)


class TestFiles:
    @pytest.mark.parametrize("name", ["mark", "vote", "rocksdb/CURRENT", "rocksdb"])
    def test_missing_are_refused(self, path: Path, name: str) -> None:
        (path / "log" / name).rename(path / "elsewhere")
        assert "not there" in refusal(path, DamagedLog)

    def test_all_missing_are_refused(self, path: Path) -> None:
        shutil.rmtree(path / "log")
        refusal(path, DamagedLog)

    @pytest.mark.parametrize("pattern", ["MANIFEST-*", "*.sst"])
    def test_of_rocksdb_missing_are_refused(self, path: Path, pattern: str) -> None:
        for file in (path / "log/rocksdb").glob(pattern):
            file.unlink()
        refusal(path, DamagedLog)

    def test_of_another_rocksdb_are_refused(self, path: Path, tmp_path: Path) -> None:
        shutil.rmtree(path / "log/rocksdb")
        Rocks(path / "log/rocksdb", options=log_options(create=True)).close()
        assert "not even that of a new log" in refusal(path, DamagedLog)
        shutil.rmtree(path / "log/rocksdb")
        (tmp_path / "new").mkdir()
        create_log(tmp_path / "new")
        shutil.copytree(tmp_path / "new/log/rocksdb", path / "log/rocksdb")
        refusal(path, LostEntries)

    @pytest.mark.parametrize("content", [b"", b"\0" * 16, b"junk\n", b"MANIFEST-999999\n"])
    def test_current_damaged_is_refused(self, path: Path, content: bytes) -> None:
        (path / "log/rocksdb/CURRENT").write_bytes(content)
        refusal(path, DamagedLog)

    def test_that_rocksdict_writes_at_every_start_do_not_matter(self, path: Path) -> None:
        (path / "log/rocksdb/rocksdict-config.json").write_bytes(b"")
        for file in (path / "log/rocksdb").glob("OPTIONS-*"):
            file.write_bytes(b"junk")
        assert after(path) == (VOTED, SAVED)

    def test_of_tables_and_manifest_with_a_bit_flipped_are_refused_or_harmless(
        self, path: Path, tmp_path: Path
    ) -> None:
        after(path)  # the entries are in a table file now
        refused = 0
        files = [*(path / "log/rocksdb").glob("*.sst"), *(path / "log/rocksdb").glob("MANIFEST-*")]
        for file in files:
            size = file.stat().st_size
            for offset in range(0, size, max(1, size // 25)):
                copy = crashed(path, tmp_path / "copy")
                flip(copy / "log/rocksdb" / file.name, offset, offset % 8)
                try:
                    assert after(copy) == (VOTED, SAVED)
                except DamagedLog:
                    refused += 1
                except LostEntries:  # the end of the manifest can look torn, a table cannot
                    assert file.name.startswith("MANIFEST")
                    refused += 1
        assert refused > 10


def rewrite(path: Path, changes: dict[bytes, bytes | None]) -> None:
    """Change RocksDB's content behind the log's back."""
    database = Rocks(path / "log/rocksdb", options=log_options(create=False))
    batch = new_batch()
    for key, value in changes.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    database.write(batch)
    database.close()


def _removal(key: bytes) -> WriteBatch:
    batch = new_batch()
    batch.delete(key)
    return batch


class TestRecords:
    """What RocksDB's own checksums do not see."""

    def test_missing_in_the_middle_are_refused(self, path: Path) -> None:
        rewrite(path, {records.entry_key(10): None})
        text = refusal(path, DamagedLog)
        assert "ends at index 9 is followed by one that begins at 11" in text

    def test_missing_at_the_beginning_are_refused(self, path: Path) -> None:
        rewrite(path, {records.entry_key(1): None})
        assert "a snapshot is missing" in refusal(path, DamagedSnapshot)

    def test_missing_at_the_end_are_refused(self, path: Path) -> None:
        rewrite(path, {records.entry_key(40): None, records.entry_key(39): None})
        assert "2 commands that were acknowledged are missing" in refusal(path, LostEntries)

    def test_of_an_older_history_are_refused(self, path: Path) -> None:
        """As if the batch that replaced entry 30 had vanished, and later ones had not."""
        rewrite(path, dict([records.encode_entry(run(30), 1)]))
        assert "has term 2, and the next one, of term 1" in refusal(path, DamagedLog)
        rewrite(path, dict([records.encode_entry(SAVED[29], 2)]))
        assert after(path) == (VOTED, SAVED)
        rewrite(path, dict([records.encode_entry(SAVED[20], 2)]))
        assert "has term 1, and the next one, of term 2, was written behind one of term 2" in (
            refusal(path, DamagedLog)
        )

    def test_with_any_bit_flipped_are_refused(self, path: Path, tmp_path: Path) -> None:
        key, value = records.encode_entry(SAVED[9], 1)
        for offset in range(len(value)):
            data = bytearray(value)
            data[offset] ^= 1 << offset % 8
            with pytest.raises(DamagedLog):
                records.decode_entry(key, bytes(data))
        with pytest.raises(DamagedLog):
            records.decode_entry(records.entry_key(11), value)
        with pytest.raises(DamagedLog):
            records.decode_entry(key, value[:4])
        rewrite(path, {key: value[:-1] + b"?"})
        assert "index 10 does not match its checksum" in refusal(path, DamagedLog)

    def test_of_a_later_format_are_refused(self, path: Path) -> None:
        key = records.entry_key(40)
        crc = records.zlib.crc32(key + b"\x02" + b"body")
        rewrite(path, {key: b"\x02" + crc.to_bytes(4, "big") + b"body"})
        with pytest.raises(NewerFormat, match="has format 2, this release knows formats up to 1"):
            Log.open(path)

    def test_damaged_while_running_are_not_given_out(self, path: Path) -> None:
        key, value = records.encode_entry(SAVED[6], 1)
        with opened(path) as log:
            log._rocks.put(key, value[:-1] + b"?")
            for read in (lambda: log.entry_at(index(7)), lambda: log.entries(index(1), 1 << 20)):
                with pytest.raises(DamagedLog, match="index 7 does not match") as caught:
                    read()
                assert str(path / "log") in str(caught.value)
            log._rocks.write(_removal(key))
            with pytest.raises(DamagedLog, match="covers index 7 is gone"):
                log.entry_at(index(7))


class TestTermAndVote:
    def test_survive_the_log(self, path: Path) -> None:
        """A damaged last record can pass for a torn one: the vote in it must not be forgotten."""
        rewrite(path, {records.HARD_STATE_KEY: records.encode_hard_state(HardState(1, "n2"))})
        assert after(path)[0] == VOTED

    def test_survive_the_vote_file(self, path: Path) -> None:
        cell = encode_vote(HardState(1, "n2")).ljust(4096, b"\0")
        (path / "log/vote").write_bytes(cell + cell)
        assert after(path)[0] == VOTED

    def test_are_in_both_places_again_after_a_start(self, path: Path) -> None:
        """So that damage to the other one does not lose them either."""
        old = records.encode_hard_state(HardState(1, "n2"))
        rewrite(path, {records.HARD_STATE_KEY: old})
        after(path)
        cell = encode_vote(HardState(1, "n2")).ljust(4096, b"\0")
        (path / "log/vote").write_bytes(cell + cell)
        assert after(path)[0] == VOTED
        rewrite(path, {records.HARD_STATE_KEY: old})
        assert after(path)[0] == VOTED

    def test_with_a_bit_flipped_in_one_copy_are_kept(self, path: Path, tmp_path: Path) -> None:
        for start in (0, 4096):
            for offset in (*range(start, start + 20), *range(start + 20, start + 512, 61)):
                copy = crashed(path, tmp_path / "copy")
                flip(copy / "log/vote", offset, offset % 8)
                assert after(copy)[0] == VOTED

    def test_are_never_written_over_their_only_copy(self, path: Path) -> None:
        """So that a power cut in the middle of a write leaves what was there before it."""
        with opened(path) as log:
            for term in range(3, 8):
                before = VoteFile(path / "log/vote").read()
                log.save(HardState(term, "n1"), [])
                data = (path / "log/vote").read_bytes()
                cells = [decode_vote(data[at : at + 512]) for at in (0, 4096)]
                assert before in cells
                assert HardState(term, "n1") in cells

    def test_with_both_copies_damaged_are_refused(self, path: Path) -> None:
        flip(path / "log/vote", 10)
        flip(path / "log/vote", 4096 + 10)
        assert "vote file" in refusal(path, DamagedLog)
        (path / "log/vote").write_bytes(b"")
        assert "vote file" in refusal(path, DamagedLog)

    def test_that_contradict_each_other_are_refused(self, path: Path) -> None:
        cell = encode_vote(HardState(2, "n3")).ljust(4096, b"\0")
        (path / "log/vote").write_bytes(cell + cell)
        assert "term 2 has two votes on record" in refusal(path, DamagedLog)

    def test_of_a_later_format_are_refused(self, path: Path) -> None:
        cell = bytearray(encode_vote(HardState(9, "n3"))[:-4])
        cell[4] = 2
        whole = bytes(cell) + records.zlib.crc32(cell).to_bytes(4, "big")
        (path / "log/vote").write_bytes(whole.ljust(4096, b"\0") * 2)
        with pytest.raises(NewerFormat):
            Log.open(path)


class TestMark:
    def test_with_a_bit_flipped_in_one_copy_changes_nothing(
        self, path: Path, tmp_path: Path
    ) -> None:
        for start in (0, 4096):
            for offset in range(start, start + 40):
                copy = crashed(path, tmp_path / "copy")
                flip(copy / "log/mark", offset, offset % 8)
                assert after(copy) == (VOTED, SAVED)

    def test_with_both_copies_damaged_is_refused_and_may_be_accepted(self, path: Path) -> None:
        flip(path / "log/mark", 10)
        flip(path / "log/mark", 4096 + 10)
        text = refusal(path, DamagedLog)
        assert "--accept-data-loss starts with what it has" in text
        assert after(path, accept_loss=True) == (VOTED, SAVED)
        assert after(path) == (VOTED, SAVED)

    def test_moved_back_does_not_name_what_is_replaced_in_its_older_copy(self, path: Path) -> None:
        mark = MarkFile(path / "log/mark")
        assert mark.read() == Mark(2, 40)
        mark.write_durably(2, 37)
        mark.close()
        data = (path / "log/mark").read_bytes()
        assert [decode_mark(data[at : at + 40])[1] for at in (0, 4096)] == [Mark(2, 37)] * 2

    @pytest.mark.parametrize("size", [0, 39, 4096, 8193])
    def test_of_the_wrong_size_is_refused(self, path: Path, size: int) -> None:
        data = (path / "log/mark").read_bytes().ljust(size, b"\0")[:size]
        (path / "log/mark").write_bytes(data)
        assert "does not have 8192 bytes" in refusal(path, DamagedLog)

    def test_reaches_as_far_as_the_log_after_every_save(self, tmp_path: Path) -> None:
        path = make(tmp_path / "data")
        with opened(path) as log:
            for entries in (singles(1, 9), singles(10, 10), singles(4, 5, 2), [run(6, 20, 3)]):
                log.save(None, entries)
                assert log._mark.read() == Mark(entries[-1].term, entries[-1].last)


class TestSnapshots:
    """Logs that continue snapshots at 10 and 20, with entries up to 40."""

    def node(self, path: Path, through: int) -> Path:
        take_snapshot(path / "snapshots", meta_at(10))
        take_snapshot(path / "snapshots", meta_at(20))
        with opened(path) as log:
            log.compact(meta_at(20), through=index(through))
        return path

    def damage(self, path: Path, at: int) -> None:
        flip(snapshots.snapshot_path(path / "snapshots", meta_at(at)), 100)

    def test_damaged_newest_is_replaced_by_the_older(self, path: Path) -> None:
        self.node(path, through=10)
        self.damage(path, 20)
        with opened(path) as log:
            assert log.snapshot == meta_at(10)
            assert all_entries(log) == SAVED[10:]
        with opened(path) as log:
            assert log.snapshot == meta_at(10)
            log.compact(meta_at(10), through=index(10))
            take_snapshot(path / "snapshots", meta_at(30, 2))
            log.compact(meta_at(30, 2), through=index(10))
        assert [f.index for f in snapshots.listing(path / "snapshots")] == [10, 30]

    def test_damaged_newest_is_not_needed_when_the_log_is_complete(self, path: Path) -> None:
        self.node(path, through=0)
        self.damage(path, 20)
        self.damage(path, 10)
        with opened(path) as log:
            assert log.snapshot == SnapshotMeta()
            assert all_entries(log) == SAVED

    @pytest.mark.parametrize("through", [11, 15, 20])
    def test_damaged_newest_is_refused_without_the_entries(self, path: Path, through: int) -> None:
        self.node(path, through)
        self.damage(path, 20)
        text = refusal(path, DamagedSnapshot)
        assert f"The log holds the indexes {through + 1} to 40" in text
        assert "the newest whole snapshot ends at index 10" in text

    def test_damaged_newest_of_an_empty_log_is_refused(self, path: Path) -> None:
        take_snapshot(path / "snapshots", meta_at(10))
        take_snapshot(path / "snapshots", meta_at(40, 2))
        with opened(path) as log:
            log.compact(meta_at(40, 2))
            assert (log.first_index, log.last_index) == (41, 40)
        flip(snapshots.snapshot_path(path / "snapshots", meta_at(40, 2)), 100)
        refusal(path, DamagedSnapshot)

    def test_damaged_that_was_installed_is_refused(self, path: Path) -> None:
        self.node(path, through=10)
        take_snapshot(path / "snapshots", meta_at(90, 2))
        with opened(path) as log:
            log.install(meta_at(90, 2))
        flip(snapshots.snapshot_path(path / "snapshots", meta_at(90, 2)), 100)
        refusal(path, DamagedSnapshot)

    def test_damaged_before_it_was_installed_is_not_needed(self, path: Path) -> None:
        self.node(path, through=10)
        take_snapshot(path / "snapshots", meta_at(90, 2))
        flip(snapshots.snapshot_path(path / "snapshots", meta_at(90, 2)), 100)
        with opened(path) as log:
            assert log.snapshot == meta_at(20)
            assert all_entries(log) == SAVED[10:]

    def test_damaged_newest_may_leave_an_older_one_that_supersedes_the_log(
        self, path: Path
    ) -> None:
        """Neither was installed, so nothing that is behind the log's end was acknowledged."""
        take_snapshot(path / "snapshots", meta_at(60, 2))
        take_snapshot(path / "snapshots", meta_at(90, 2))
        flip(snapshots.snapshot_path(path / "snapshots", meta_at(90, 2)), 100)
        with opened(path) as log:
            assert (log.snapshot, log.last_index, all_entries(log)) == (meta_at(60, 2), 60, [])

    def test_all_deleted_are_refused(self, path: Path) -> None:
        self.node(path, through=20)
        shutil.rmtree(path / "snapshots")
        assert "a snapshot is missing" in refusal(path, DamagedSnapshot)

    def test_alone_without_the_log_are_refused(self, path: Path) -> None:
        self.node(path, through=10)
        shutil.rmtree(path / "log")
        refusal(path, DamagedLog)
        (path.parent / "new").mkdir()
        create_log(path.parent / "new")
        shutil.copytree(path.parent / "new/log/rocksdb", path / "log/rocksdb")
        refusal(path, DamagedLog)

    def test_do_not_hide_that_the_log_lost_what_is_behind_them(self, path: Path) -> None:
        self.node(path, through=20)
        keys = [records.entry_key(at) for at in range(21, 41)]
        rewrite(path, dict.fromkeys(keys))
        assert "20 commands that were acknowledged are missing" in refusal(path, LostEntries)
        with opened(path, accept_loss=True) as log:
            assert (log.last_index, log.snapshot) == (20, meta_at(20))

    def test_of_another_term_than_the_log_continues_are_refused(self, path: Path) -> None:
        self.node(path, through=20)
        shutil.rmtree(path / "snapshots")
        take_snapshot(path / "snapshots", meta_at(20, 2))
        assert "and the snapshot at index 20 has term 2" in refusal(path, DamagedLog)

    def test_unfinished_and_older_ones_are_removed(self, path: Path) -> None:
        directory = path / "snapshots"
        for at in (10, 20):
            take_snapshot(directory, meta_at(at))
        shutil.copy(snapshots.snapshot_path(directory, meta_at(10)), directory / "x.snapshot.0.tmp")
        for at in (1, 2):
            writer = snapshots.SnapshotWriter(directory, meta_at(at))
            writer._path.write_bytes(b"old")
        after(path)
        assert [file.index for file in snapshots.listing(directory)] == [10, 20]
        assert len(list(directory.iterdir())) == 2
