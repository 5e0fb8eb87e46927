"""RocksDB's write-ahead log, read without RocksDB: the same as RocksDB says."""

import random
from pathlib import Path

import pytest

from resplock.server import wal
from resplock.server.rocks import Rocks, log_options, new_batch


@pytest.fixture
def database(tmp_path: Path) -> Rocks:
    return Rocks(tmp_path / "rocksdb", options=log_options(create=True))


@pytest.mark.parametrize("overwrites", [False, True])
def test_the_newest_batch_is_the_one_that_was_written_last(
    database: Rocks, overwrites: bool
) -> None:
    if overwrites:
        database.make_files_to_overwrite()
    rng = random.Random(7)
    sequence = wal.newest_sequence(database.path)
    for number in range(200):
        batch = new_batch()
        keys = rng.randint(1, 5)
        for key in range(keys):
            size = rng.choice([0, 1, 100, 5_000, 32_700, 100_000]) + rng.randint(0, 80)
            batch.put(b"%d/%d" % (number, key), rng.randbytes(size))
        database.write(batch)
        sequence += keys
        if number % 8 == 0:
            assert wal.newest_sequence(database.path) == sequence
    assert wal.newest_sequence(database.path) == sequence


def test_a_batch_that_lacks_any_part_does_not_count(database: Rocks) -> None:
    database.put(b"a", b"1")
    database.put(b"b", bytes(100_000))
    (file,) = database.path.glob("*.log")
    data, number = file.read_bytes(), int(file.stem)
    assert wal.newest_sequence_in(data, number) == 2
    for offset in range(60, len(data), 4_999):
        damaged = bytearray(data)
        damaged[offset] ^= 16
        assert wal.newest_sequence_in(bytes(damaged), number) == 1
    for length in (60, 32_768, 65_536, 99_000, len(data) - 1):
        assert wal.newest_sequence_in(data[:length], number) == 1


@pytest.mark.parametrize("data", [b"", b"\0" * 70_000, b"\5" * 70_000, b"\6\1\0\0\0" * 9_000])
def test_what_has_no_batch_has_no_sequence_number(data: bytes) -> None:
    assert wal.newest_sequence_in(data, 1) == 0


def test_records_of_the_files_earlier_life_do_not_count(database: Rocks) -> None:
    database.put(b"a", b"1")
    (file,) = database.path.glob("*.log")
    assert wal.newest_sequence_in(file.read_bytes(), int(file.stem)) == 1
    assert wal.newest_sequence_in(file.read_bytes(), int(file.stem) + 1) == 0


def test_a_directory_without_one_has_no_sequence_number(tmp_path: Path) -> None:
    assert wal.newest_sequence(tmp_path) == 0
