"""Starts that cannot be: each says on standard error what is wrong and what to do, with exit status 1
and no traceback, and changes nothing that a later start would miss."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.damage import write_ahead_log
from tests.e2e.process import COMMAND, Ended, ServerProcess, run, unprivileged
from tests.e2e.wire import by_field
from tests.write_ahead_log import cut, damage, end


def refused(done: Ended, *words: str) -> str:
    """A start that was refused with a message that has these words; returns the message."""
    assert done.status == 1, done
    assert done.output == "", done
    assert "Traceback" not in done.errors, done
    messages = [line for line in done.errors.splitlines() if line.startswith("resplock: ")]
    assert len(messages) == 1, done
    for word in words:
        assert word in messages[0], done
    return messages[0]


def serve(data_dir: Path, *options: str, port: int = 0, through: tuple[str, ...] = ()) -> Ended:
    """A start that is expected to end."""
    words = (*through, *COMMAND, "serve", f"--port={port}", f"--data-dir={data_dir}", *options)
    return run(*words, cwd="/")


@pytest.fixture
def stopped(make_server: MakeServer) -> ServerProcess:
    """A server that was killed with 300 locks in its log, none of it in a table file yet."""
    server = make_server().start()
    with server.wire() as wire:
        wire.pipeline(*[("LOCK.ACQUIRE", f"k{n}", "me", "TTL", 0) for n in range(100)])
        for number in range(100, 300):
            wire.call("LOCK.ACQUIRE", f"k{number}", "me", "TTL", 0)
    server.kill9()
    return server


class TestPlace:
    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        refused(serve(file), str(file), "is not a directory")
        refused(serve(file / "data"), str(file / "data"), "Not a directory", "Is the path right?")

    def test_a_place_where_nothing_can_be_made(self) -> None:
        refused(serve(Path("/proc/resplock-data")), "/proc/resplock-data", "Is the path right?")

    def test_a_directory_that_is_not_ours_to_write(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir()
        closed.chmod(0o500)
        for place in (closed, closed / "data"):
            message = refused(serve(place, through=unprivileged()), str(place))
            assert "Permission denied" in message
            assert "Let the user that runs resplock (uid " in message
        assert list(closed.iterdir()) == []
        closed.chmod(0o700)

    def test_a_log_that_is_not_ours_to_write(self, stopped: ServerProcess) -> None:
        for path in (stopped.data_dir / "log", *(stopped.data_dir / "log").rglob("*")):
            path.chmod(0o500)
        message = refused(serve(stopped.data_dir, through=unprivileged()), str(stopped.data_dir))
        assert "Permission denied" in message
        for path in (stopped.data_dir / "log", *(stopped.data_dir / "log").rglob("*")):
            path.chmod(0o700)
        assert stopped.start().call("DBSIZE") == 300

    def test_somebody_elses_files(self, tmp_path: Path) -> None:
        place = tmp_path / "home"
        place.mkdir()
        (place / "thesis.tex").touch()
        refused(serve(place), str(place), "'thesis.tex'", "a directory of its own")
        assert [path.name for path in place.iterdir()] == ["thesis.tex"]

    def test_in_use(self, own_server: ServerProcess) -> None:
        message = refused(serve(own_server.data_dir), str(own_server.data_dir), "is in use")
        assert f"pid {own_server.pid}" in message
        assert "Two servers cannot share a data directory" in message
        assert own_server.call("PING") == "PONG"

    def test_another_node(self, stopped: ServerProcess) -> None:
        done = serve(stopped.data_dir, "--node-id=n2")
        refused(done, str(stopped.data_dir), "belongs to node 'n1'", "this is node 'n2'")

    def test_a_newer_format(self, stopped: ServerProcess) -> None:
        path = stopped.data_dir / "identity"
        identity = json.loads(path.read_text())
        path.write_text(json.dumps({**identity, "format": 99, "news": True}))
        message = refused(serve(stopped.data_dir), str(path), "format 99")
        assert "Start the release that wrote it, or a later one" in message


class TestPort:
    def test_in_use(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            message = refused(serve(tmp_path / "data", port=port), f"127.0.0.1:{port}")
        assert "in use" in message
        assert "choose another --port" in message

    def test_not_of_this_machine(self, tmp_path: Path) -> None:
        message = refused(serve(tmp_path / "data", "--host=192.0.2.1"), "192.0.2.1")
        assert "Give a --host of this machine" in message


class TestDamage:
    """What a disk did to the log. Never fewer locks without a word."""

    def test_a_flipped_bit_in_the_middle(self, stopped: ServerProcess) -> None:
        path = write_ahead_log(stopped)
        whole = path.read_bytes()
        damage(path)
        for _ in range(2):
            message = refused(serve(stopped.data_dir), str(stopped.data_dir / "log"))
            assert "damaged" in message
            assert "restore a backup of the whole directory" in message
        path.write_bytes(whole)
        assert stopped.start().call("DBSIZE") == 300

    def test_a_flipped_bit_can_be_accepted(self, stopped: ServerProcess) -> None:
        damage(write_ahead_log(stopped))
        stopped.options = ("--accept-data-loss",)
        left = stopped.start().call("DBSIZE")
        assert 0 < left < 300
        stopped.options = ()
        assert stopped.restart().call("DBSIZE") == left

    def test_a_missing_log_is_noticed_and_can_be_accepted(self, stopped: ServerProcess) -> None:
        write_ahead_log(stopped).unlink()
        message = refused(serve(stopped.data_dir), "commands that were acknowledged are missing")
        assert "--accept-data-loss" in message
        assert "may be granted again" in message
        stopped.options = ("--accept-data-loss",)
        stopped.start()
        assert "starting without lost entries" in stopped.log()
        assert stopped.call("DBSIZE") == 0
        assert by_field(stopped.call("LOCK.ACQUIRE", "k1", "you"))["status"] == b"granted"
        stopped.options = ()
        assert stopped.restart().call("DBSIZE") == 1

    def test_a_log_that_lost_its_end(self, stopped: ServerProcess) -> None:
        cut(write_ahead_log(stopped))
        message = refused(serve(stopped.data_dir), "had been written up to index")
        assert "--accept-data-loss" in message
        stopped.options = ("--accept-data-loss",)
        assert 100 <= stopped.start().call("DBSIZE") < 300

    def test_a_torn_record_behind_the_last_one_is_no_damage(self, stopped: ServerProcess) -> None:
        path = write_ahead_log(stopped)
        data = bytearray(path.read_bytes())
        torn = b"\x01\x02\x03\x04\x40\x00\x05%btorn" % int(path.stem).to_bytes(4, "little")
        data[end(path) : end(path) + len(torn)] = torn
        path.write_bytes(data)
        assert stopped.start().call("DBSIZE") == 300

    @pytest.mark.parametrize("name", ["identity", "log/vote", "log/mark", "log/rocksdb/CURRENT"])
    def test_a_missing_or_damaged_file(self, stopped: ServerProcess, name: str) -> None:
        path = stopped.data_dir / name
        kept = path.read_bytes()
        path.unlink()
        refused(serve(stopped.data_dir), str(stopped.data_dir))
        path.write_bytes(bytes(byte ^ 0x55 for byte in kept))
        refused(serve(stopped.data_dir), str(stopped.data_dir))
        path.write_bytes(kept)
        assert stopped.start().call("DBSIZE") == 300

    def test_a_snapshot_whose_log_is_gone(self, make_server: MakeServer) -> None:
        """Without its newest snapshot, the one before it and the log have everything."""
        server = make_server().start()
        for number in range(3):
            server.call("LOCK.ACQUIRE", f"k{number}", "me", "TTL", 0)
            server.call("RAFT.SNAPSHOT")
        server.kill9()
        snapshots = sorted((server.data_dir / "snapshots").iterdir())
        newest = snapshots[-1]
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
        assert server.start().call("DBSIZE") == 3
        assert "damaged snapshot" in server.log()
        server.kill9()
        for path in (server.data_dir / "snapshots").iterdir():
            path.write_bytes(b"nothing")
        message = refused(serve(server.data_dir), str(server.data_dir / "snapshots"))
        assert "what is between them is gone" in message


def test_a_start_that_was_refused_changes_nothing(stopped: ServerProcess, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(stopped.data_dir, before)
    for options in (["--node-id=other"], ["--port=99999"], ["--log-level=none"]):
        assert serve(stopped.data_dir, *options).status != 0
    names = sorted(path.relative_to(before) for path in before.rglob("*"))
    assert names == sorted(
        path.relative_to(stopped.data_dir) for path in stopped.data_dir.rglob("*")
    )
    for name in names:
        if (before / name).is_file() and name != Path("lock"):
            assert (before / name).read_bytes() == (stopped.data_dir / name).read_bytes(), name
