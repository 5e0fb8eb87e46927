"""Snapshots between nodes, over real sockets and files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from resplock import limits
from resplock.operations import Acquire
from resplock.raft import transfer
from resplock.raft.entries import Configuration, SnapshotMeta
from resplock.server import snapshots
from resplock.server.durable import make_directory
from resplock.server.peers.dialer import dial_member
from resplock.server.peers.greeting import Hello, Kind
from resplock.server.peers.snapshots import SnapshotTransfers
from resplock.server.peers.stream import Stream
from resplock.server.snapshots import SnapshotWriter
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import Index, NodeId, StampMs, lock_name
from tests.server.peers.nodes import Node, eventually, nodes, on_uvloop

LOCKS = 12_000
"""Some 1.5 MB: a few chunks."""


class Holder(Node):
    """A node with snapshots."""

    def __init__(self, id: str, directory: Path) -> None:
        super().__init__(id)
        self.directory = directory / id / "snapshots"
        make_directory(self.directory)
        self.transfers = SnapshotTransfers(self.peers, self.directory, self, self.fatal)
        self.tables: dict[int, LockTable] = {}
        self.committed = 0

    def fatal(self, error: Exception) -> None:
        raise AssertionError("a write failed") from error

    def take_snapshot(self, index: int, seed: int = 0, locks: int = LOCKS) -> SnapshotMeta:
        """Write one with this many locks."""
        configuration = Configuration(voters=(self.member,))
        meta = SnapshotMeta(index, 1, 5, configuration)
        rng, table = random.Random(seed), LockTable()
        names = [lock_name(0, b"%d/%d" % (number, rng.getrandbits(60))) for number in range(locks)]
        operations = [Acquire(name, rng.randbytes(60), 1000) for name in names]
        table.apply(Index(1), StampMs(1), operations)
        writer = SnapshotWriter(self.directory, meta)
        for chunk in iter(TableSnapshot(table).next_chunk, None):
            writer.write(chunk)
        writer.commit()
        self.tables[index] = table
        return meta

    def file(self, meta: SnapshotMeta) -> Path:
        return snapshots.snapshot_path(self.directory, meta)

    # --- SnapshotEvents --------------------------------------------------------------------------

    def snapshot_wanted(self, meta: SnapshotMeta) -> bool:
        return meta.index > self.committed

    def snapshot_arrived(self, meta: SnapshotMeta, table: LockTable) -> None:
        self.tables[meta.index] = table
        self.events.append(("arrived", meta))

    def snapshot_sent(self, peer_id: NodeId, index: int, ok: bool) -> None:
        self.events.append(("sent", peer_id, index, ok))

    def snapshot_damaged(self, meta: SnapshotMeta) -> None:
        self.events.append(("damaged", meta))


@contextlib.asynccontextmanager
async def holders(directory: Path, *ids: str) -> AsyncIterator[list[Holder]]:
    found = [Holder(id, directory) for id in ids]
    async with nodes(*found):
        try:
            yield found
        finally:
            for holder in found:
                await holder.transfers.close()


def content(table: LockTable) -> list[bytes]:
    return list(iter(TableSnapshot(table).next_chunk, None))


class Cuts:
    """Cuts the stream with the snapshot after so many chunks, for as often as there are numbers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: list[int]) -> None:
        self.left = after
        self.offsets: list[int] = []
        self._seen = 0
        send = Stream.send

        def send_or_cut(stream: Stream, payload: bytes) -> None:
            try:
                message = transfer.decode_from_sender(payload)
            except Exception:  # noqa: BLE001 - other streams are not ours
                return send(stream, payload)
            if isinstance(message, transfer.Chunk):
                self.offsets.append(message.offset)
                self._seen += 1
                if self.left and self._seen > self.left[0]:
                    self.left.pop(0)
                    self._seen = 0
                    assert stream._transport is not None
                    stream._transport.abort()
                    return None
            return send(stream, payload)

        monkeypatch.setattr(Stream, "send", send_or_cut)


@on_uvloop
async def test_a_snapshot_arrives_durably_under_its_name(tmp_path: Path) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        meta = one.take_snapshot(100)
        one.transfers.send(two.member, meta)
        await eventually(lambda: one.told("sent"))
        assert one.told("sent") == [("sent", "n2", 100, True)]
        assert two.told("arrived") == [("arrived", meta)]
        assert two.file(meta).read_bytes() == one.file(meta).read_bytes()
        assert snapshots.verify(two.file(meta)) == meta
        assert content(two.tables[100]) == content(one.tables[100])
        assert not list((two.directory / "incoming").iterdir())
        assert two.file(meta).stat().st_mode & 0o777 == 0o600


@on_uvloop
async def test_it_is_told_to_the_node_before_the_sender_hears_that_it_arrived(
    tmp_path: Path,
) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        order = []
        one.snapshot_sent = lambda *_: order.append("sent")  # type: ignore[method-assign]
        two.snapshot_arrived = lambda *_: order.append("arrived")  # type: ignore[method-assign]
        one.transfers.send(two.member, one.take_snapshot(100, locks=10))
        await eventually(lambda: len(order) == 2)
        assert order == ["arrived", "sent"]


@pytest.mark.parametrize("seed", range(6))
@on_uvloop
async def test_after_a_break_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("resplock.raft.transfer.SNAPSHOT_CHUNK_BYTES_MAX", 16 * 1024)
    rng = random.Random(seed)
    cuts = Cuts(monkeypatch, [rng.randrange(1, 30) for _ in range(3)])
    async with holders(tmp_path, "n1", "n2") as (one, two):
        meta = one.take_snapshot(100, seed)
        one.transfers.send(two.member, meta)
        await eventually(lambda: one.told("sent"))
        assert one.told("sent") == [("sent", "n2", 100, True)]
        assert not cuts.left
        assert two.file(meta).read_bytes() == one.file(meta).read_bytes()
        size = one.file(meta).stat().st_size
        assert len(cuts.offsets) < 2 * size / (16 * 1024) + 3 * 40
        assert cuts.offsets.count(0) <= 2  # it was not begun from the start each time


@on_uvloop
async def test_a_newer_one_replaces_an_older_one_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with holders(tmp_path, "n1", "n2", "n3") as (one, two, three):
        with monkeypatch.context() as patched:
            patched.setattr(limits, "SNAPSHOT_ATTEMPTS_MAX", 1)
            cuts = Cuts(patched, [2])
            one.transfers.send(two.member, one.take_snapshot(100))
            await eventually(lambda: one.told("sent"))
            assert one.told("sent") == [("sent", "n2", 100, False)]
            assert not cuts.left
        assert len(list((two.directory / "incoming").iterdir())) == 1
        newer = three.take_snapshot(200, seed=2)
        three.transfers.send(two.member, newer)
        await eventually(lambda: three.told("sent"))
        assert three.told("sent") == [("sent", "n2", 200, True)]
        assert [file.index for file in snapshots.listing(two.directory)] == [200]
        assert not list((two.directory / "incoming").iterdir())


@on_uvloop
async def test_one_that_is_not_wanted_counts_as_arrived(tmp_path: Path) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        two.committed = 100
        one.transfers.send(two.member, one.take_snapshot(100, locks=10))
        await eventually(lambda: one.told("sent"))
        assert one.told("sent") == [("sent", "n2", 100, True)]
        assert two.told("arrived") == []
        assert snapshots.listing(two.directory) == []


@on_uvloop
async def test_this_nodes_damaged_file_is_not_sent(tmp_path: Path) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        meta = one.take_snapshot(100)
        data = bytearray(one.file(meta).read_bytes())
        data[len(data) // 2] ^= 1
        one.file(meta).write_bytes(data)
        one.transfers.send(two.member, meta)
        await eventually(lambda: one.told("sent"))
        assert one.told("damaged", "sent") == [("damaged", meta), ("sent", "n2", 100, False)]
        assert two.told("arrived") == []


@on_uvloop
async def test_a_file_that_arrives_damaged_is_not_adopted_and_the_next_is_sent_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged on the sender's disk after it was checked: each chunk's checksum is right."""
    async with holders(tmp_path, "n1", "n2") as (one, two):
        meta, read = one.take_snapshot(100), os.pread

        def read_damaged(file: int, length: int, offset: int) -> bytes:
            data = bytearray(read(file, length, offset))
            if offset == limits.SNAPSHOT_CHUNK_BYTES_MAX:
                data[77] ^= 16
            return bytes(data)

        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(os, "pread", read_damaged)
            one.transfers.send(two.member, meta)
            await eventually(lambda: one.told("sent"))
        assert one.told("sent") == [("sent", "n2", 100, False)]
        assert two.told("arrived") == []
        assert snapshots.listing(two.directory) == []
        assert not (two.directory / "incoming").exists()
        assert {"a snapshot cannot be used", "a snapshot was of no use to its receiver"} <= {
            line["event"] for line in logs
        }
        one.transfers.send(two.member, meta)
        await eventually(lambda: len(one.told("sent")) == 2)
        assert one.told("sent")[1] == ("sent", "n2", 100, True)


@on_uvloop
async def test_a_peer_that_is_not_there(tmp_path: Path) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        meta, member = one.take_snapshot(100, locks=10), two.member
        two.peers.close()
        one.transfers.send(member, meta)
        one.transfers.send(member, meta)
        await eventually(lambda: one.told("sent"))
        assert one.told("sent") == [("sent", "n2", 100, False)]
        assert one.told("damaged") == []


@on_uvloop
async def test_links_work_while_a_snapshot_is_sent(tmp_path: Path) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        await one.linked(two)
        one.transfers.send(two.member, one.take_snapshot(100))
        number = 0
        while not one.told("sent"):
            assert one.say(two, number)
            number += 1
            await asyncio.sleep(0)
        await eventually(lambda: two.heard("n1") == list(range(number)))
        assert one.told("down") == two.told("down") == []


@on_uvloop
async def test_what_a_crash_left_is_removed_at_the_start(tmp_path: Path) -> None:
    incoming = tmp_path / "n1" / "snapshots" / "incoming"
    make_directory(incoming)
    (incoming / "00000000000000000007-00000000000000000001.snapshot").write_bytes(b"half")
    async with holders(tmp_path, "n1"):
        assert not incoming.exists()


@on_uvloop
async def test_garbage_on_a_snapshot_stream(tmp_path: Path) -> None:
    async with holders(tmp_path, "n1", "n2") as (one, two):
        await one.linked(two)
        for number in range(30):
            rng = random.Random(number)
            stream, _ = await stream_to(one, two)
            for _ in range(3):
                stream.send(rng.randbytes(rng.randrange(1, 2000)))
            stream.release()
            await eventually(lambda stream=stream: stream.broken)
        assert two.told("arrived", "down") == []
        one.transfers.send(two.member, one.take_snapshot(100, locks=10))
        await eventually(lambda: one.told("sent"))
        assert one.told("sent") == [("sent", "n2", 100, True)]


async def stream_to(one: Holder, two: Holder) -> tuple[Stream, Hello]:
    return await dial_member(one.peers, two.member, Kind.SNAPSHOT)
