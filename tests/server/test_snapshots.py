"""Snapshot files: complete or not there, and never believed with a byte changed."""

import os
from pathlib import Path

import msgspec
import pytest

from resplock.errors import DamagedSnapshot, NewerFormat, StorageError
from resplock.raft.entries import SnapshotMeta
from resplock.server import snapshots
from resplock.server.snapshots import SnapshotWriter
from tests.server.test_storage_tools import flip, meta_at, take_snapshot

CHUNKS = [b"first", b"x" * 1000, b"\0", b"last" * 50]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_what_was_written_is_read(directory: Path) -> None:
    written = take_snapshot(directory, meta_at(5), CHUNKS)
    path = snapshots.snapshot_path(directory, meta_at(5))
    assert path.stat().st_size == written
    assert path.stat().st_mode & 0o777 == 0o600
    assert snapshots.verify(path) == meta_at(5)
    assert snapshots.latest(directory) == meta_at(5)
    assert list(snapshots.read(directory, meta_at(5))) == CHUNKS


def test_one_without_chunks(directory: Path) -> None:
    SnapshotWriter(directory, meta_at(5)).commit()
    assert snapshots.latest(directory) == meta_at(5)
    assert list(snapshots.read(directory, meta_at(5))) == []


def test_none(directory: Path) -> None:
    assert snapshots.listing(directory) == []
    assert snapshots.latest(directory) is None
    with pytest.raises(DamagedSnapshot, match="is not there"):
        snapshots.read(directory, meta_at(5))


def test_the_latest_has_the_highest_index(directory: Path) -> None:
    for at, term in ((9, 3), (10, 3), (8, 2)):
        take_snapshot(directory, meta_at(at, term))
    assert snapshots.latest(directory) == meta_at(10, 3)


def test_two_are_kept(directory: Path) -> None:
    for at in (5, 11, 7):
        take_snapshot(directory, meta_at(at))
    assert [file.index for file in snapshots.listing(directory)] == [7, 11]


def test_one_that_is_replaced_while_it_is_read_is_read_to_its_end(directory: Path) -> None:
    take_snapshot(directory, meta_at(5), CHUNKS)
    reading = snapshots.read(directory, meta_at(5))
    assert next(reading) == CHUNKS[0]
    take_snapshot(directory, meta_at(6))
    take_snapshot(directory, meta_at(7))
    assert names(directory) == [f"{at:020d}-{1:020d}.snapshot" for at in (6, 7)]
    assert list(reading) == CHUNKS[1:]


def test_nothing_is_there_before_the_commit(directory: Path) -> None:
    writer = SnapshotWriter(directory, meta_at(5))
    writer.write(b"chunk")
    assert snapshots.listing(directory) == []
    assert snapshots.latest(directory) is None
    writer.abort()
    assert names(directory) == []
    writer.abort()


def test_abort_after_commit_changes_nothing(directory: Path) -> None:
    writer = SnapshotWriter(directory, meta_at(5))
    writer.commit()
    writer.abort()
    assert snapshots.latest(directory) == meta_at(5)


def test_two_writers_of_one_snapshot_do_not_meet(directory: Path) -> None:
    one, two = SnapshotWriter(directory, meta_at(5)), SnapshotWriter(directory, meta_at(5))
    one.write(b"one")
    two.write(b"two")
    one.commit()
    two.commit()
    assert list(snapshots.read(directory, meta_at(5))) == [b"two"]


def test_what_a_crash_left_is_removed(directory: Path) -> None:
    take_snapshot(directory, meta_at(5))
    SnapshotWriter(directory, meta_at(6)).write(b"chunk")
    assert len(names(directory)) == 2
    snapshots.remove_unfinished(directory)
    assert [file.index for file in snapshots.listing(directory)] == [5]
    assert len(names(directory)) == 1


def test_other_files_are_not_taken_for_snapshots(directory: Path) -> None:
    directory.mkdir()
    for name in ("notes.txt", "x-y.snapshot", "12.snapshot"):
        (directory / name).touch()
    assert snapshots.listing(directory) == []
    snapshots.remove_old(directory)
    assert len(names(directory)) == 3


def test_it_is_synced_before_it_has_its_name(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    writer = SnapshotWriter(directory, meta_at(5))
    writer.write(b"chunk")
    for name in ("fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, r=real, n=name: (calls.append(n), r(*args)))
    writer.commit()
    assert calls == ["fsync", "rename", "fsync"]


def test_a_long_one_is_synced_on_the_way(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(snapshots, "SYNC_EVERY_BYTES", 10_000)
    monkeypatch.setattr("os.fdatasync", synced.append)
    take_snapshot(directory, meta_at(5), [b"x" * 1000] * 45)
    assert len(synced) == 4


@pytest.mark.parametrize("code", [5, 28])
def test_a_write_that_fails_is_said(
    directory: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    writer = SnapshotWriter(directory, meta_at(5))

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", fail)
        with pytest.raises(StorageError, match=os.strerror(code)):
            writer.write(b"chunk")
        with pytest.raises(StorageError, match=os.strerror(code)):
            SnapshotWriter(directory, meta_at(6))
    writer.abort()
    assert names(directory) == []


def test_a_sync_that_fails_leaves_no_snapshot(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SnapshotWriter(directory, meta_at(5))

    def fail(_: int) -> None:
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            writer.commit()
    assert snapshots.listing(directory) == []


class TestDamage:
    @pytest.fixture
    def path(self, directory: Path) -> Path:
        take_snapshot(directory, meta_at(5), [b"one", b"two", b"three"])
        return snapshots.snapshot_path(directory, meta_at(5))

    def test_any_bit_flipped_is_noticed(self, path: Path) -> None:
        good = path.read_bytes()
        for offset in range(len(good)):
            flip(path, offset, offset % 8)
            with pytest.raises((DamagedSnapshot, NewerFormat)) as caught:
                snapshots.verify(path)
            assert str(path) in str(caught.value)
            with pytest.raises((DamagedSnapshot, NewerFormat)):
                list(snapshots.read(path.parent, meta_at(5)))
            path.write_bytes(good)
        assert snapshots.verify(path) == meta_at(5)

    def test_any_cut_is_noticed(self, path: Path) -> None:
        good = path.read_bytes()
        for length in range(len(good)):
            path.write_bytes(good[:length])
            with pytest.raises(DamagedSnapshot):
                snapshots.verify(path)
        path.write_bytes(good + b"\0")
        with pytest.raises(DamagedSnapshot, match="bytes follow its end"):
            snapshots.verify(path)

    def test_chunks_that_changed_places_are_noticed(self, directory: Path) -> None:
        take_snapshot(directory, meta_at(5), [b"one", b"two"])
        path = snapshots.snapshot_path(directory, meta_at(5))
        good = path.read_bytes()
        at = good.index(b"one") - 8
        path.write_bytes(good[:at] + good[at + 11 : at + 22] + good[at : at + 11] + good[at + 22 :])
        with pytest.raises(DamagedSnapshot, match="does not have the chunks that its end lists"):
            snapshots.verify(path)

    def test_one_under_the_name_of_another_is_noticed(self, path: Path) -> None:
        other = path.rename(snapshots.snapshot_path(path.parent, meta_at(6)))
        with pytest.raises(DamagedSnapshot, match="its header says index 5"):
            snapshots.verify(other)

    def test_another_configuration_than_asked_for_is_noticed(self, path: Path) -> None:
        with pytest.raises(DamagedSnapshot, match="its header says"):
            snapshots.read(path.parent, SnapshotMeta(5, 1))

    def test_an_older_one_is_the_latest_that_is_whole(self, path: Path) -> None:
        take_snapshot(path.parent, meta_at(8))
        flip(snapshots.snapshot_path(path.parent, meta_at(8)), 100)
        assert snapshots.latest(path.parent) == meta_at(5)
        flip(path, 100)
        with pytest.raises(DamagedSnapshot, match="00008-"):
            snapshots.latest(path.parent)

    def test_one_that_was_set_aside_stays_until_the_next(self, path: Path) -> None:
        snapshots.set_aside(path)
        assert snapshots.listing(path.parent) == []
        assert names(path.parent) == [path.name + ".damaged"]
        snapshots.remove_old(path.parent)
        assert len(names(path.parent)) == 1
        take_snapshot(path.parent, meta_at(8))
        assert names(path.parent) == [snapshots.snapshot_path(path.parent, meta_at(8)).name]

    def test_of_a_later_format_is_not_called_damage(self, directory: Path) -> None:
        directory.mkdir()
        path = snapshots.snapshot_path(directory, meta_at(5))
        body = msgspec.msgpack.encode(meta_at(5))
        header = b"RLSN\x02" + len(body).to_bytes(4, "big") + body
        path.write_bytes(header + snapshots.zlib.crc32(header).to_bytes(4, "big") + b"whatever")
        with pytest.raises(NewerFormat, match="has format 2, this release knows formats up to 1"):
            snapshots.verify(path)
