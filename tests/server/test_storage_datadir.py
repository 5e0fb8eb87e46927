"""The data directory: made whole, taken by one process, recognised, refused with a clear text."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resplock.errors import DirectoryInUse, NewerFormat, StorageError
from resplock.raft.entries import HardState
from resplock.server.datadir import DataDirectory, encode_identity
from resplock.server.storage import Log
from resplock.types import NodeId
from tests.server.test_storage_tools import (
    NODE,
    Crashes,
    make,
    meta_at,
    opened,
    singles,
    take_snapshot,
)


def refusal(path: Path, node: str = NODE) -> str:
    """Why a directory is refused."""
    with pytest.raises(StorageError) as caught:
        DataDirectory.open(path, NodeId(node))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_is_made_with_what_is_missing_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "data"
    directory = DataDirectory.open(path, NODE)
    assert directory.created
    assert directory.path == path
    assert directory.node_id == NODE
    assert path.stat().st_mode & 0o777 == 0o700
    assert len(bytes.fromhex(directory.uuid)) == 16
    directory.close()
    directory.close()


def test_is_recognised(tmp_path: Path) -> None:
    first = DataDirectory.open(tmp_path / "data", NODE)
    first.close()
    again = DataDirectory.open(tmp_path / "data", NODE)
    assert not again.created
    assert again.uuid == first.uuid
    again.close()


def test_two_directories_have_two_uuids(tmp_path: Path) -> None:
    one, two = (DataDirectory.open(tmp_path / name, NODE) for name in ("one", "two"))
    assert one.uuid != two.uuid
    one.close()
    two.close()


def test_may_exist_empty_or_as_a_new_file_system(tmp_path: Path) -> None:
    for name in ("empty", "mounted"):
        (tmp_path / name).mkdir()
    (tmp_path / "mounted" / "lost+found").mkdir()
    for name in ("empty", "mounted"):
        directory = DataDirectory.open(tmp_path / name, NODE)
        assert directory.created
        directory.close()


def test_of_another_node_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "data")
    text = refusal(tmp_path / "data", "n2")
    assert "belongs to node 'n1', and this is node 'n2'" in text
    DataDirectory.open(tmp_path / "data", NODE).close()  # the refusal has let go of it


def test_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    assert "'letters.txt', which are not resplock's" in refusal(tmp_path)
    assert os.listdir(tmp_path) == ["letters.txt"]


def test_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in refusal(tmp_path / "file")
    assert "Not a directory" in refusal(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EACCES, "Let the user that runs resplock (uid"),
        (errno.EROFS, "Let the user that runs resplock (uid"),
        (errno.ENOSPC, "The disk is full"),
        (errno.EIO, "Look at the kernel's log"),
    ],
)
def test_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
) -> None:
    path = make(tmp_path / "data")
    real = os.open

    def fail(name: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise OSError(code, os.strerror(code), str(name))
        return real(name, flags, mode)

    monkeypatch.setattr("os.open", fail)
    text = refusal(path)
    assert os.strerror(code) in text
    assert expected in text


class TestIdentity:
    def test_is_readable_by_people(self, tmp_path: Path) -> None:
        path = make(tmp_path / "data")
        assert b'"format":1,"node":"n1","uuid":"' in (path / "identity").read_bytes()

    def test_of_a_later_release_is_refused(self, tmp_path: Path) -> None:
        path = make(tmp_path / "data")
        (path / "identity").write_bytes(b'{"format":2,"what":"ever"}\n')
        with pytest.raises(NewerFormat, match="has format 2, this release knows formats up to 1"):
            DataDirectory.open(path, NODE)

    def test_with_any_byte_changed_is_refused(self, tmp_path: Path) -> None:
        path = make(tmp_path / "data")
        good = (path / "identity").read_bytes()
        for offset in range(len(good) - 1):  # the last byte is a newline
            data = bytearray(good)
            data[offset] ^= 4
            (path / "identity").write_bytes(data)
            with pytest.raises(StorageError):
                DataDirectory.open(path, NODE)
        (path / "identity").write_bytes(good[:20])
        assert "is damaged" in refusal(path)

    def test_lost_next_to_a_log_that_was_used_is_refused(self, tmp_path: Path) -> None:
        for number, use in enumerate(
            (
                lambda log: log.save(None, singles(1, 1)),
                lambda log: log.save(HardState(1, ""), []),
                lambda log: take_snapshot(log.snapshot_directory, meta_at(5)),
            )
        ):
            path = make(tmp_path / str(number))
            with opened(path) as log:
                use(log)
            (path / "identity").unlink()
            assert "has a log but no identity file" in refusal(path)

    def test_and_log_lost_next_to_snapshots_is_refused(self, tmp_path: Path) -> None:
        path = make(tmp_path / "data")
        take_snapshot(path / "snapshots", meta_at(5))
        (path / "identity").unlink()
        (path / "log").rename(tmp_path / "elsewhere")
        assert "has snapshots but neither" in refusal(path)


class TestLock:
    def test_names_the_process_that_holds_it(self, tmp_path: Path) -> None:
        directory = DataDirectory.open(tmp_path / "data", NODE)
        with pytest.raises(DirectoryInUse, match=f"in use by the process with pid {os.getpid()}"):
            DataDirectory.open(tmp_path / "data", NODE)
        directory.close()
        DataDirectory.open(tmp_path / "data", NODE).close()

    def test_keeps_another_process_out_and_ends_with_it(self, tmp_path: Path) -> None:
        program = (
            "import sys; from pathlib import Path\n"
            "from resplock.server.datadir import DataDirectory\n"
            "directory = DataDirectory.open(Path(sys.argv[1]), 'n1')\n"
            "print('held', flush=True); sys.stdin.read()\n"
        )
        path = tmp_path / "data"
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"held\n"
            with pytest.raises(DirectoryInUse, match=f"pid {child.pid}"):
                DataDirectory.open(path, NODE)
            child.kill()
            child.wait()
        DataDirectory.open(path, NODE).close()


def test_a_crash_at_any_step_of_making_it_leaves_it_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        crashes = Crashes(tmp_path / "data", patch)
        made = DataDirectory.open(tmp_path / "data", NODE)
        made.close()
        crashes.take("made")
    assert len(crashes.killed) >= 8
    for kind, found in (("killed", crashes.killed), ("cut", crashes.cut)):
        for number, (label, path) in enumerate(found):
            finished = (path / "identity").exists()
            directory = DataDirectory.open(path, NODE)
            assert directory.created == (not finished), (kind, number, label)
            log = Log.open(path)
            assert (log.last_index, log.hard_state) == (0, HardState()), (kind, number, label)
            log.save(HardState(1, "n1"), singles(1, 2))
            log.close()
            directory.close()
    label, path = crashes.cut[-1]
    again = DataDirectory.open(path, NODE)
    assert (label, again.uuid) == ("made", made.uuid)
    again.close()


def test_an_identity_is_written_with_its_checksum() -> None:
    assert encode_identity("n1", "0" * 32) != encode_identity("n2", "0" * 32)
