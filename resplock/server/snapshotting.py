"""Taking a snapshot while commands go on.

I/O layer. The event loop encodes the table in slices of limits.SNAPSHOT_SLICE_MS; a thread writes
and syncs the chunks. When the file is durable, the log up to it is dropped.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from resplock import limits
from resplock.errors import StorageError
from resplock.node import Node
from resplock.raft.entries import SnapshotMeta
from resplock.server.clocks import unix_ms
from resplock.server.snapshots import SnapshotWriter
from resplock.server.storage import Log
from resplock.state.snapshots import TableSnapshot
from resplock.types import Index

logger = structlog.get_logger()

_QUEUED_CHUNKS = 64
_WRITER_BEHIND_S = 0.002


class SnapshotTaken(msgspec.Struct, frozen=True):
    """What RAFT.SNAPSHOT reports."""

    index: int
    term: int
    bytes: int
    duration_ms: int


class SnapshotJob:
    """At most one snapshot at a time."""

    def __init__(self, node: Node, log: Log, fatal: Callable[[Exception], None]) -> None:
        self.running = False
        self.last: SnapshotTaken | None = None
        self.last_unix_ms = 0
        """When `last` was taken."""
        self._node = node
        self._log = log
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Callable[[SnapshotTaken], None]] = []

    def start(self, then: Callable[[SnapshotTaken], None] | None = None) -> None:
        """Take a snapshot of what is applied now, or join the one that is being taken.

        `then` is called once it is durable. A failure to write it ends the process.
        """
        if then is not None:
            self._waiting.append(then)
        if self.running:
            return
        self.running = True
        self._started = time.monotonic()
        self._meta, self._snapshot = self._node.begin_snapshot()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        threading.Thread(
            target=self._write, args=(self._meta, self._chunks), name="snapshot", daemon=True
        ).start()
        self._slice(self._snapshot)

    def _slice(self, snapshot: TableSnapshot) -> None:
        """Encode for a moment, then let the loop turn."""
        until = time.monotonic() + limits.SNAPSHOT_SLICE_MS / 1000
        while time.monotonic() < until:
            if self._chunks.full():
                self._loop.call_later(_WRITER_BEHIND_S, self._slice, snapshot)
                return
            chunk = snapshot.next_chunk()
            self._chunks.put_nowait(chunk)
            if chunk is None:
                return
        self._loop.call_soon(self._slice, snapshot)

    def _write(self, meta: SnapshotMeta, chunks: queue.Queue[bytes | None]) -> None:
        """The writer's thread."""
        try:
            writer = SnapshotWriter(self._log.snapshot_directory, meta)
            while (chunk := chunks.get()) is not None:
                writer.write(chunk)
            written = writer.commit()
        except (OSError, StorageError) as error:
            self._tell(self._fatal, error)
        else:
            self._tell(self._finish, meta, written)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back on the event loop. A server that has stopped meanwhile need not know."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            assert self._loop.is_closed()

    def _finish(self, meta: SnapshotMeta, written: int) -> None:
        if (
            meta.index > self._node.snapshot.index
        ):  # else a newer one came from the leader meanwhile
            self._adopt(meta)
        duration_ms = round((time.monotonic() - self._started) * 1000)
        taken = SnapshotTaken(meta.index, meta.term, written, duration_ms)
        self.last = taken
        self.last_unix_ms = unix_ms()
        logger.info("snapshot taken", **msgspec.structs.asdict(taken))
        self.running = False
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(taken)

    def _adopt(self, meta: SnapshotMeta) -> None:
        # One snapshot's entries more than needed: should this file turn out damaged, the one before
        # it and these entries still give the whole table.
        self._log.compact(meta, through=Index(self._node.snapshot.index))
        self._node.snapshot_taken(meta)
