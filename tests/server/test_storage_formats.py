"""The durable formats, byte for byte. Bytes that a release has written are never changed here; a new
format gets its own test beside them."""

from pathlib import Path

from resplock.raft.entries import Entry, EntryKind, HardState
from resplock.server import records, snapshots
from resplock.server.datadir import DataDirectory, encode_identity
from resplock.server.marks import Mark, decode_mark, decode_vote, encode_mark, encode_vote
from resplock.server.records import Record
from tests.server.test_storage_tools import NODE, meta_at, take_snapshot


def test_entry_format_1() -> None:
    entry = Entry(3, 70_000, 70_002, EntryKind.RUN, 1_234_567, b"payload")
    key = bytes.fromhex("650000000000011172")
    value = bytes.fromhex(
        "01bde4741c"  # format, CRC32
        "9202"  # the term before
        "9603ce00011170ce0001117200ce0012d687c4077061796c6f6164"
    )
    assert records.encode_entry(entry, 2) == (key, value)
    assert records.decode_entry(key, value) == Record(2, entry)


def test_hard_state_format_1() -> None:
    value = bytes.fromhex("01be4f4b609203a26e32")
    assert records.HARD_STATE_KEY == b"h"
    assert records.encode_hard_state(HardState(3, "n2")) == value
    assert records.decode_hard_state(value) == HardState(3, "n2")


def test_mark_format_1() -> None:
    cell = bytes.fromhex(
        "524c4d4b01000000"
        "0000000000000005"  # serial
        "0000000000000003"  # term
        "0000000000011172"  # last index
        "00000000fa1756ab"
    )
    assert encode_mark(5, 3, 70_002) == cell
    assert decode_mark(cell) == (5, Mark(3, 70_002))


def test_vote_format_1() -> None:
    cell = bytes.fromhex("524c5654010000059203a26e32") + bytes(495) + bytes.fromhex("6bbb7533")
    assert encode_vote(HardState(3, "n2")) == cell
    assert decode_vote(cell) == HardState(3, "n2")


def test_snapshot_format_1(tmp_path: Path) -> None:
    data = bytes.fromhex(
        "524c534e0100000036"  # magic, format, length of the meta
        "9409033f939194a26e31d920"
        "3030303030303030303030303030303030303030303030303030303030303030"
        "a3613a31a3613a329090"
        "562b819f"
        "00000003"  # a chunk of three bytes
        "0af42f73"
        "6f6e65"
        "00000003"
        "615223e4"
        "74776f"
        "00000000"  # the end: chunks, bytes, CRC32 of CRC32s, CRC32
        "0000000000000002"
        "0000000000000006"
        "d937cb2f"
        "b57abc11"
    )
    take_snapshot(tmp_path, meta_at(9, 3), [b"one", b"two"])
    path = tmp_path / "00000000000000000009-00000000000000000003.snapshot"
    assert path.read_bytes() == data
    assert data.startswith(snapshots.encode_header(meta_at(9, 3)))
    assert list(snapshots.read(tmp_path, meta_at(9, 3))) == [b"one", b"two"]


def test_identity_format_1(tmp_path: Path) -> None:
    uuid = "00112233445566778899aabbccddeeff"
    line = b'{"format":1,"node":"n1","uuid":"%s","crc32":1838843187}\n' % uuid.encode()
    assert encode_identity("n1", uuid) == line
    DataDirectory.open(tmp_path / "data", NODE).close()
    (tmp_path / "data" / "identity").write_bytes(line)
    directory = DataDirectory.open(tmp_path / "data", NODE)
    assert (directory.uuid, directory.node_id) == (uuid, "n1")
    directory.close()


def test_names_in_the_data_directory(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path / "data", NODE).close()
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"identity", "lock", "log", "snapshots"}
    assert {path.name for path in (tmp_path / "data/log").iterdir()} == {"mark", "rocksdb", "vote"}
