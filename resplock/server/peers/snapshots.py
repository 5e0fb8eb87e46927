"""Snapshots between nodes: the disk and the sockets of `resplock.raft.transfer`.

I/O layer. Files are read, written, checked and loaded in worker threads. A file that comes in is

    snapshots/incoming/<the name that it will have>

until it is complete, verified and synced; then it is renamed, as one that this node has taken. At
most one is sent to each peer at a time, and one received. A transfer survives broken connections, not
the end of the process: `incoming` is removed at the start.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from resplock import limits
from resplock.errors import DamagedSnapshot, NewerFormat, StorageError
from resplock.raft import transfer
from resplock.raft.entries import Member, SnapshotMeta
from resplock.raft.messages import PeerError
from resplock.raft.transfer import (
    Chunk,
    Decline,
    Done,
    Failed,
    FromReceiver,
    FromSender,
    Offer,
    Outcome,
    Receiving,
    Sending,
    TransferError,
)
from resplock.server import snapshots
from resplock.server.durable import make_directory, storage_errors, sync_directory, write_all
from resplock.server.peers import greeting
from resplock.server.peers.dialer import backoff_ms, dial_member
from resplock.server.peers.greeting import Hello, Kind, Refusal, RefusalCode, Unreachable
from resplock.server.peers.peers import Peers
from resplock.server.peers.stream import Payload, Stream
from resplock.server.peers.tasks import in_thread, report
from resplock.state.snapshots import restore
from resplock.state.table import LockTable
from resplock.types import NodeId

logger = structlog.get_logger()

_END_BYTES = 28
"""The end of a snapshot's file: it has a checksum over all the chunks' checksums."""
_INBOX_MESSAGES_MAX = 2 * limits.SNAPSHOT_WINDOW_BYTES // limits.SNAPSHOT_CHUNK_BYTES_MAX + 4


class SnapshotEvents(Protocol):
    """What the node is told, from the event loop."""

    def snapshot_wanted(self, meta: SnapshotMeta) -> bool:
        """Whether an offered snapshot goes beyond what this node has committed."""

    def snapshot_arrived(self, meta: SnapshotMeta, table: LockTable) -> None:
        """One was received; its file is verified and durable under its name."""

    def snapshot_sent(self, peer_id: NodeId, index: int, ok: bool) -> None:
        """One that `send` was asked for has arrived, or could not be sent."""

    def snapshot_damaged(self, meta: SnapshotMeta) -> None:
        """The file of this node's own snapshot cannot be read: another one is to be taken."""


class _Inbox:
    """What comes in on a stream, for a task to take. An honest peer never fills it."""

    def __init__(self, stream: Stream, decode: Callable[[Payload], FromSender | FromReceiver]):
        self.queue: asyncio.Queue[FromSender | FromReceiver | None] = asyncio.Queue()
        self._decode = decode
        stream.allow(transfer.FRAME_BYTES_MAX)
        stream.on_frame = self._frame
        stream.on_lost = self._lost

    def _frame(self, payload: Payload) -> None:
        if self.queue.qsize() >= _INBOX_MESSAGES_MAX:
            raise PeerError("it sends more of a snapshot than was acknowledged")
        self.queue.put_nowait(self._decode(payload))

    def _lost(self, _: Stream, __: str, ___: bool) -> None:
        self.queue.put_nowait(None)


class SnapshotTransfers:
    """Sends snapshots to peers that need them, and receives them."""

    def __init__(
        self,
        peers: Peers,
        directory: Path,
        events: SnapshotEvents,
        fatal: Callable[[Exception], None],
    ) -> None:
        """directory: where this node's snapshots are. fatal: ends the process, because what was
        received could not be written."""
        self._peers = peers
        self._directory = directory
        self._events = events
        self._fatal = fatal
        self._sending: dict[NodeId, asyncio.Task[None]] = {}
        self._incoming = _Incoming(directory)
        self._receiver: asyncio.Task[None] | None = None
        self._adopting = False
        peers.on_snapshot_stream = self._accept
        self._incoming.remove()

    def send(self, member: Member, meta: SnapshotMeta) -> None:
        """Send this node's snapshot `meta` to a member; `snapshot_sent` tells how it ended.

        Nothing happens while one is being sent to it: that one's end will be told.
        """
        if member.id in self._sending:
            return
        task = asyncio.get_running_loop().create_task(self._send(member, meta))
        self._sending[member.id] = task
        task.add_done_callback(report)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [*self._sending.values(), *([self._receiver] if self._receiver else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- sending ---------------------------------------------------------------------------------

    async def _send(self, member: Member, meta: SnapshotMeta) -> None:
        ok = False
        try:
            ok = await self._send_file(member, meta)
        except (DamagedSnapshot, StorageError) as error:
            logger.error("a snapshot cannot be sent", peer=member.id, error=str(error))
            self._events.snapshot_damaged(meta)
        finally:
            del self._sending[member.id]
        self._events.snapshot_sent(member.id, meta.index, ok)

    async def _send_file(self, member: Member, meta: SnapshotMeta) -> bool:
        """All attempts. Raises DamagedSnapshot, StorageError."""
        path = snapshots.snapshot_path(self._directory, meta)
        file, offer = await in_thread(_open_to_send, path, meta)
        attempts, reached = 0, 0
        try:
            while True:
                sending = Sending(offer)
                try:
                    await self._attempt(member, sending, file)
                except (Unreachable, TransferError, TimeoutError) as error:
                    self._peers.complaints.complain(
                        "a snapshot was not sent",
                        member.id,
                        error=str(error) or "no answer in time",
                    )
                if sending.outcome is not None:
                    return self._judge(member, sending)
                attempts = attempts + 1 if sending.acknowledged <= reached else 1
                reached = max(reached, sending.acknowledged)
                if attempts >= limits.SNAPSHOT_ATTEMPTS_MAX:
                    return False
                await asyncio.sleep(backoff_ms(attempts, self._peers.rng.uniform) / 1000)
        finally:
            os.close(file)

    def _judge(self, member: Member, sending: Sending) -> bool:
        meta = sending.offer.meta
        if sending.outcome is Outcome.FAILED:
            self._peers.complaints.complain(
                "a snapshot was of no use to its receiver", member.id, error=sending.failure
            )
        elif sending.outcome is Outcome.DONE:
            logger.info("snapshot sent", peer=member.id, index=meta.index, bytes=sending.offer.size)
        return sending.outcome is Outcome.DONE

    async def _attempt(self, member: Member, sending: Sending, file: int) -> None:
        """Connect and send until it is over. Raises Unreachable, TransferError, TimeoutError."""
        stream, _ = await dial_member(self._peers, member, Kind.SNAPSHOT)
        try:
            inbox = _Inbox(stream, transfer.decode_from_receiver)
            stream.release()
            stream.send(transfer.encode(sending.offer))
            while sending.outcome is None:
                while (wanted := sending.next_range()) is not None:
                    chunk = await in_thread(_read_chunk, file, sending, *wanted)
                    stream.send(chunk)
                    while not inbox.queue.empty():
                        _take(sending, inbox.queue.get_nowait())
                patience_ms = (
                    limits.SNAPSHOT_FINISH_MS_MAX
                    if sending.is_sent
                    else limits.SNAPSHOT_SILENT_MS_MAX
                )
                if sending.outcome is None:
                    async with asyncio.timeout(patience_ms / 1000):
                        _take(sending, await inbox.queue.get())
        finally:
            stream.abort("the transfer is over")

    # --- receiving -------------------------------------------------------------------------------

    def _accept(self, stream: Stream, theirs: Hello) -> Refusal | None:
        """A peer has connected to send a snapshot. A newer connection replaces an older one."""
        if self._adopting:
            return Refusal(RefusalCode.BUSY, "a snapshot is being loaded")
        stream.hold()
        inbox = _Inbox(stream, transfer.decode_from_sender)
        before = self._receiver
        if before is not None:
            before.cancel()
        stream.send(greeting.encode(greeting.hello(self._peers.identity, Kind.SNAPSHOT)))
        self._receiver = asyncio.get_running_loop().create_task(
            self._receive(stream, inbox, theirs.server.id, before)
        )
        self._receiver.add_done_callback(report)
        return None

    async def _receive(
        self, stream: Stream, inbox: _Inbox, peer: NodeId, before: asyncio.Task[None] | None
    ) -> None:
        try:
            if before is not None:
                await asyncio.gather(before, return_exceptions=True)
            stream.release()
            await self._receive_file(stream, inbox, peer)
        except (TransferError, DamagedSnapshot, NewerFormat) as error:
            self._peers.complaints.complain("a snapshot cannot be used", peer, error=str(error))
            stream.send(transfer.encode(Failed(str(error)[:1000])))
        except StorageError as error:
            self._fatal(error)
            raise
        except TimeoutError:
            stream.abort("it sends no more of the snapshot")
        finally:
            stream.close("the transfer is over")

    async def _receive_file(self, stream: Stream, inbox: _Inbox, peer: NodeId) -> None:
        incoming = self._incoming
        while True:
            async with asyncio.timeout(limits.SNAPSHOT_SILENT_MS_MAX / 1000):
                message = await inbox.queue.get()
            match message:
                case None:
                    return
                case Offer():
                    answer = incoming.state.offered(
                        message, self._events.snapshot_wanted(message.meta)
                    )
                    if isinstance(answer, Decline):
                        stream.send(transfer.encode(answer))
                        return
                    logger.info(
                        "receiving a snapshot",
                        peer=peer,
                        index=message.meta.index,
                        bytes=message.size,
                        offset=answer.offset,
                    )
                    await in_thread(incoming.open, message, answer.offset)
                    stream.send(transfer.encode(answer))
                case Chunk():
                    incoming.state.take(message)
                    await in_thread(incoming.write, message)
                    stream.send(transfer.encode(incoming.state.wrote(message)))
                case _:
                    raise TransferError("a message of a receiver's")
            if incoming.state.is_complete:
                await self._adopt(peer)
                stream.send(transfer.encode(Done()))
                return

    async def _adopt(self, peer: NodeId) -> None:
        """The file is complete: check it, give it its name, load it, and tell the node."""
        offer = self._incoming.state.offer
        assert offer is not None
        self._adopting = True
        try:
            table = await in_thread(self._incoming.commit, offer.meta)
        finally:
            self._adopting = False
            self._incoming.state.reset()
        logger.info("snapshot received", peer=peer, index=offer.meta.index, bytes=offer.size)
        self._events.snapshot_arrived(offer.meta, table)


class _Incoming:
    """The file that is being received. Its methods block: they run in worker threads, one by one."""

    def __init__(self, directory: Path) -> None:
        self.state = Receiving()
        self._final = directory
        self._directory = directory / "incoming"
        self._path = self._directory

    def open(self, offer: Offer, offset: int) -> None:
        """Go on at `offset`; 0 begins anew."""
        if offset == 0:
            self.remove()
        self._path = snapshots.snapshot_path(self._directory, offer.meta)
        with storage_errors(self._path, "write a snapshot that is received"):
            make_directory(self._directory)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, offset)
            finally:
                os.close(fd)

    def write(self, chunk: Chunk) -> None:
        """Write a chunk; sync now and then, so that the last sync does not hold up the log's."""
        end, every = chunk.offset + len(chunk.data), snapshots.SYNC_EVERY_BYTES
        with storage_errors(self._path, "write a snapshot that is received"):
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.lseek(fd, chunk.offset, os.SEEK_SET)
                write_all(fd, chunk.data)
                if chunk.offset // every != end // every:
                    os.fdatasync(fd)
            finally:
                os.close(fd)

    def commit(self, meta: SnapshotMeta) -> LockTable:
        """Load the table, which checks every byte, and give the file its name, durably.

        Raises DamagedSnapshot, NewerFormat, StorageError. What is of no use is removed.
        """
        try:
            table = restore(snapshots.read(self._directory, meta))
        except (DamagedSnapshot, NewerFormat):
            self.remove()
            raise
        with storage_errors(self._path, "sync a snapshot that was received"):
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(self._path, snapshots.snapshot_path(self._final, meta))
            sync_directory(self._final)
        snapshots.remove_old(self._final)
        return table

    def remove(self) -> None:
        """Remove what is left of a transfer."""
        with storage_errors(self._directory, "remove it"):
            if self._directory.exists():
                shutil.rmtree(self._directory)


def _open_to_send(path: Path, meta: SnapshotMeta) -> tuple[int, Offer]:
    """The file, open, and what to say of it. It is checked first. Raises DamagedSnapshot."""
    found = snapshots.verify(path)
    if found != meta:
        raise DamagedSnapshot(f"{path}: its header says {found}, not {meta}.")
    with storage_errors(path, "open the snapshot"):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            end = os.pread(file, _END_BYTES, size - _END_BYTES)
        except BaseException:
            os.close(file)
            raise
    return file, Offer(meta, size, zlib.crc32(end))


def _read_chunk(file: int, sending: Sending, offset: int, length: int) -> bytes:
    """The message with a range of the file. Raises TransferError."""
    try:
        data = os.pread(file, length, offset)
    except OSError as error:
        raise TransferError(f"the snapshot's file cannot be read: {error.strerror}") from error
    if len(data) != length:
        raise TransferError("the snapshot's file has become shorter")
    return transfer.encode(sending.chunk(offset, data))


def _take(sending: Sending, message: FromSender | FromReceiver | None) -> None:
    """Have the attempt take what came in; None is the connection's end."""
    if message is None:
        raise Unreachable("the connection broke")
    assert not isinstance(message, Offer | Chunk), "it was decoded as a receiver's"
    sending.receive(message)
