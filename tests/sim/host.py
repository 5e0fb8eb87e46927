"""A machine, and the process on it that drives a real Node as `resplock.server.engine` does.

A turn: gather; while there is a Ready: send_now, write, sync, send_after_persist, advance; answer.
While the process syncs or is stopped, what comes in waits. A crash may come between any two of these
steps: `fuse` counts them down.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from resplock.limits import HEARTBEATS_PER_ELECTION_TIMEOUT
from resplock.node import Node, NodeSettings
from resplock.operations import ClientId, Operation, Query
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Member, SnapshotMeta
from resplock.raft.messages import Message
from resplock.raft.ready import Ready
from resplock.state import snapshots
from resplock.state.table import LockTable
from resplock.types import Index, NodeId
from tests.sim.asking import waits
from tests.sim.disk import Damaged, Disk, DiskFull, SnapshotFile
from tests.sim.linearizable import NEVER
from tests.sim.transfer import Incoming
from tests.sim.world import MS, S, Violation

if TYPE_CHECKING:
    from tests.sim.clients import Connection
    from tests.sim.network import Session
    from tests.sim.simulation import Simulation

UNIX_MS = 1_800_000_000_000
_MARK_SYNC = 1 * S
_ROUNDS_MAX = 1_000


class Crashed(Exception):
    """The process has ended in the middle of something."""


class Clock:
    """A machine's two clocks. The monotonic one drifts; the other one also jumps."""

    def __init__(self, rng: random.Random, drift_permille: int) -> None:
        self.rate_permille = 1000 + rng.randint(-drift_permille, drift_permille)
        self._started_ms = rng.randrange(10**6)
        self.unix_offset_ms = UNIX_MS + rng.randint(-2000, 2000)

    def mono_ms(self, now_us: int) -> int:
        return self._started_ms + now_us * self.rate_permille // 1_000_000

    def unix_ms(self, now_us: int) -> int:
        return self.unix_offset_ms + now_us // MS


class Host:
    """A machine with a disk and a clock, on which one server runs, or does not."""

    def __init__(
        self, simulation: Simulation, id: NodeId, uuid: str, bootstrap: Configuration | None
    ) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.id = id
        self.uuid = uuid
        self.disk = Disk(bootstrap)
        self.rng = self.world.rng(f"host/{id}/{uuid}")
        self.clock = Clock(self.rng, simulation.knobs.drift_permille)
        self.process: Process | None = None
        self.incarnation = 0
        self.sync_factor = 1
        self.is_retired = False
        """It was removed, or its data is gone: it never starts again."""
        self.has_lost_entries = False
        """What it has acknowledged may not be on its disk any more."""

    @property
    def member(self) -> Member:
        return Member(self.id, self.uuid, f"{self.id}:7379", f"{self.id}:17379")

    def start(self) -> bool:
        """Start a process, if it is not running and its data can be used."""
        if self.process is not None or self.is_retired or self.disk.is_full:
            return False
        try:
            voting_mark = self.disk.recover()
        except Damaged as damage:
            self.world.note(self.id, f"refuses to start: {damage} is damaged")
            self.simulation.operator.replace(self)
            return False
        self.incarnation = self.simulation.next_incarnation()
        lost = f", has lost entries before {voting_mark}" if voting_mark[1] else ""
        self.world.note(
            self.id,
            f"starts #{self.incarnation}: {self.disk.hard_state}, log {self.disk.first_index}.."
            f"{self.disk.last_index} behind {self.disk.snapshot.index}{lost}",
        )
        self.process = Process(self, voting_mark)
        self.process.start()
        return True

    def kill(self, power: bool = False) -> None:
        """End the process at once; with `power`, what was not synced may be lost."""
        process = self.process
        if process is None:
            return
        self.world.note(self.id, "loses power" if power else "is killed")
        self.process = None
        process.ended_at = self.world.now
        if power:
            self.disk.lose_power(self.rng)
        else:
            self.disk.lose_process()
        self.simulation.process_ended(process, power)


class Process:
    """One life of a server."""

    def __init__(self, host: Host, voting_mark: tuple[Any, Any]) -> None:
        self.host = host
        self.id = host.id
        self.world = host.world
        self.simulation = simulation = host.simulation
        self.incarnation = host.incarnation
        self.ended_at = NEVER
        self.is_busy = False
        """Writing and syncing, which blocks the loop."""
        self.is_stopped = False
        """SIGSTOP."""
        self.fuse: int | None = None
        """Crash at the so-manieth step from now."""
        self.fuse_cuts_power = False
        self.connections: list[Connection] = []
        self._serial = 0
        self.position = 0
        """How many entries of the cluster's history its table has applied."""
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._open: Ready | None = None
        self.sessions: dict[NodeId, Session] = {}
        """By peer."""
        self.incoming = Incoming()
        self._snapshot_runs = False
        self._turn_planned = False

        knobs = simulation.knobs
        disk = host.disk
        meta = disk.snapshot
        file = disk.file_at(meta.index)
        table = snapshots.restore(iter(file.chunks)) if file is not None else LockTable()
        simulation.safety.watch(self, table, meta)
        simulation.safety.installed(self, meta)
        settings = NodeSettings(knobs.snapshot_entries, knobs.election_timeout_ms, knobs.redirects)
        config = RaftConfig(
            id=host.id,
            uuid=host.uuid,
            election_ticks=HEARTBEATS_PER_ELECTION_TIMEOUT,
            lease=knobs.lease,
            tick_ms=settings.tick_ms,
            append_bytes_max=knobs.append_bytes_max,
            inflight_messages_max=knobs.inflight_messages_max,
            tail_bytes_max=knobs.tail_bytes_max,
            committed_bytes_max=knobs.committed_bytes_max,
            uncommitted_bytes_max=knobs.uncommitted_bytes_max,
        )
        rng = random.Random(host.rng.random())
        core = RaftCore(config, disk, rng, Index(meta.index), voting_mark=voting_mark)
        self.node = Node(core, table, settings, meta, self.incarnation)

    @property
    def core(self) -> RaftCore:
        return self.node.core

    def mono_ms(self) -> int:
        return self.host.clock.mono_ms(self.world.now)

    @property
    def is_dead(self) -> bool:
        return self.ended_at < NEVER

    # --- events ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick."""
        self.world.after(self.host.rng.randrange(10 * MS) + 1, self.call, self._tick)
        self.world.after(_MARK_SYNC, self._sync_mark)

    def call(self, action: Callable[..., None], *arguments: Any) -> None:
        """Something happens to the process: it takes notice at once, or when it comes to look.

        While a batch is written it does not look, as the runtime does not, or only notes it.
        """
        if self.is_dead:
            return
        if self.is_stopped or (self.is_busy and not self.simulation.knobs.overlaps):
            self._inbox.append((action, arguments))
        elif self.is_busy:
            with_crash(self, self._take_all, ([(action, arguments)],))
        else:
            with_turn(self, action, arguments)

    def link_up(self, session: Session) -> None:
        """A session with a peer has begun."""
        peer = session.peer_of(self)
        if session.is_over or peer.is_dead:
            return
        self.sessions[peer.id] = session
        self.node.member_seen(peer.host.member)
        self.node.link_up(peer.id, peer.incarnation)

    def link_down(self, session: Session) -> None:
        """A session has broken."""
        peer = session.peer_of(self)
        if self.sessions.get(peer.id) is session:
            del self.sessions[peer.id]
            self.node.link_down(peer.id)

    def _tick(self) -> None:
        rate = self.host.clock.rate_permille
        self.world.after(self.simulation.knobs.tick * 1000 // rate, self.call, self._tick)
        self.node.tick(self.mono_ms())
        if self.node.is_cut_off:
            self._close_tied()
        if self.core.has_unsynced and not self.is_busy:
            self._begin_sync()

    def _sync_mark(self) -> None:
        if not self.is_dead:
            self.host.disk.sync_mark()
            self.world.after(_MARK_SYNC, self._sync_mark)

    def stop(self) -> None:
        """SIGSTOP."""
        self.is_stopped = True

    def go_on(self) -> None:
        """SIGCONT: timers and sockets are due all at once; its clients' are perhaps read first."""
        self.is_stopped = False
        if self.host.rng.random() < 0.5:
            clients = [event for event in self._inbox if event[0] == self._from_client]
            self._inbox = [event for event in self._inbox if event[0] != self._from_client]
            self.call(self._take_all, clients)
        if not self.is_busy:
            self._drain()

    def _drain(self) -> None:
        """Take what has come in meanwhile, and have a turn."""
        if self.is_dead or self.is_stopped:
            return
        inbox, self._inbox = self._inbox, []
        if inbox or self.node.busy or self.simulation.knobs.overlaps:
            with_turn(self, self._take_all, (inbox,))

    def _take_all(self, inbox: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        for action, arguments in inbox:
            action(*arguments)
            self.simulation.safety.committed(self)

    # --- clients ---------------------------------------------------------------------------------

    def client_id(self) -> ClientId:
        """A name in the log for one more connection."""
        self._serial += 1
        return self.node.client_id(self._serial)

    def call_from_client(
        self, connection: Connection, command: Query | Sequence[Operation]
    ) -> None:
        """A client's query, or its operations, arrive."""
        self.call(self._from_client, connection, command)

    def _from_client(self, connection: Connection, command: Query | Sequence[Operation]) -> None:
        if not connection.is_open or connection.has_left:
            return
        if isinstance(command, Query):
            self.node.ask(connection, command)
            return
        connection.arrived(command)
        if waits(command[0]):
            self.node.submit_waiting(connection, command[0])
        else:
            self.node.submit(connection, command)

    def call_closed(self, connection: Connection) -> None:
        """A client's end of its connection is closed."""
        self.call(self._closed, connection)

    def _closed(self, connection: Connection) -> None:
        if connection.is_attached and not connection.has_left:
            connection.left_at = self.world.now
            self.node.disconnect(connection.id)

    def _close_tied(self) -> None:
        """Cut off from any leader, it must believe that its clients' ONCLOSE holds have ended."""
        for connection in list(self.connections):
            if connection.is_tied and not connection.has_left:
                self._closed(connection)
                connection.abort()

    # --- the turn --------------------------------------------------------------------------------

    def turn(self) -> None:
        """One turn of the loop, up to its first sync."""
        now_us = self.world.now
        node = self.node
        self.simulation.safety.committed(self)
        last = node.core.last_index
        node.gather(self.mono_ms(), self.host.clock.unix_ms(now_us))
        if node.core.last_index > last:
            self.simulation.safety.appended(self, last)
        self._work()

    def _work(self) -> None:
        node = self.node
        for _ in range(_ROUNDS_MAX):
            if not node.has_ready():
                self._answer()
                return
            ready = node.ready()
            self._step_done()
            self._send(ready.send_now)
            self._step_done()
            if ready.installed is not None:
                self._install(ready.installed)
            if ready.entries or ready.hard_state is not None or ready.sync:
                self._write(ready)
                if ready.sync:
                    return
            self._finish(ready)
        raise Violation(f"{self.id} has always something to do")

    def _write(self, ready: Ready) -> None:
        host = self.host
        try:
            host.disk.write(ready.hard_state, ready.entries)
        except DiskFull:
            self.world.note(self.id, "cannot write: the disk is full")
            self._crash()
        self._step_done()
        if ready.sync:
            self._open = ready
            self._begin_sync()
        else:
            host.disk.written()

    def _begin_sync(self) -> None:
        """It blocks the loop."""
        self.is_busy = True
        self.world.after(self.simulation.sync_us(self.host), self._synced)

    def _synced(self) -> None:
        if self.is_dead:
            return
        if self.is_stopped:
            self.world.after(1 * MS, self._synced)
            return
        self.host.disk.sync()
        ready, self._open = self._open, None
        self.is_busy = False
        with_crash(self, self._resume, (ready,))
        if not self.is_busy:
            self._drain()

    def _resume(self, ready: Ready | None) -> None:
        self._step_done()
        if ready is not None:
            self._finish(ready)
            self._work()
        else:
            self.core.synced()
            self.turn()

    def _finish(self, ready: Ready) -> None:
        self._send(ready.send_after_persist)
        self._step_done()
        self.node.advance(ready)
        self.simulation.safety.advanced(self, ready)
        for to_id in ready.snapshots_wanted:
            self.simulation.transfers.begin(self, to_id)

    def _answer(self) -> None:
        self._step_done()
        node = self.node
        for connection, results in node.take_answers():
            if connection is not None:
                connection.deliver(results)
        for peer, message in node.take_messages():
            self.simulation.network.send_node(self, peer, message)
        stand_in_ms = node.core.take_stand_in_ms()
        if stand_in_ms is not None:
            self.world.after(stand_in_ms * MS, self.call, node.core.stand_now)
        if node.snapshot_due and not self._snapshot_runs:
            self._begin_snapshot()
        if node.busy and not self._turn_planned:
            self._turn_planned = True
            self.world.after(50, self.call, self._turn_again)

    def _turn_again(self) -> None:
        self._turn_planned = False

    def _send(self, outgoing: Sequence[Message]) -> None:
        network = self.simulation.network
        for message in outgoing:
            self.simulation.safety.sent(self, message)
            network.send(self, message)

    def _step_done(self) -> None:
        """A place where the process may end."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self._crash(self.fuse_cuts_power)

    def _crash(self, power: bool = False) -> None:
        self.host.kill(power)
        raise Crashed

    # --- snapshots -------------------------------------------------------------------------------

    def _begin_snapshot(self) -> None:
        """Freeze the table; encode it while commands go on; write, sync and rename the file."""
        self._snapshot_runs = True
        meta, snapshot = self.node.begin_snapshot()
        self.world.after(1 * MS, self.call, self._encode_snapshot, meta, snapshot, [])

    def _encode_snapshot(
        self, meta: SnapshotMeta, snapshot: snapshots.TableSnapshot, chunks: list[bytes]
    ) -> None:
        chunk = snapshot.next_chunk()
        if chunk is not None:
            chunks.append(chunk)
            self.world.after(1 * MS, self.call, self._encode_snapshot, meta, snapshot, chunks)
            return
        delay = 2 * self.simulation.sync_us(self.host)
        self.world.after(delay, self.call, self._snapshot_written, meta, chunks)

    def _snapshot_written(self, meta: SnapshotMeta, chunks: list[bytes]) -> None:
        self._snapshot_runs = False
        disk = self.host.disk
        if meta.index <= disk.snapshot.index:
            return  # a newer one was installed meanwhile
        self._store(SnapshotFile(meta, chunks))
        self._step_done()
        disk.drop_through(meta, through=self.node.snapshot.index)
        self.node.snapshot_taken(meta)

    def _store(self, file: SnapshotFile) -> None:
        try:
            self.host.disk.store(file)
        except DiskFull:
            self.world.note(self.id, "cannot store a snapshot: the disk is full")
            self._crash()

    def receive_snapshot(self, file: SnapshotFile) -> None:
        """A snapshot came from the leader, whole."""
        self._store(file)
        self._step_done()
        table = snapshots.restore(iter(file.chunks))
        self.simulation.safety.watch(self, table, file.meta)
        self.world.note(self.id, f"received the snapshot at {file.meta.index}")
        self.node.snapshot_received(file.meta, table)

    def _install(self, meta: SnapshotMeta) -> None:
        self.host.disk.install(meta)
        self._step_done()
        self.simulation.safety.installed(self, meta)


def with_turn(
    process: Process, action: Callable[..., None], arguments: tuple[Any, ...] = ()
) -> None:
    """An event and the turn that follows it."""

    def event() -> None:
        action(*arguments)
        if not process.is_busy:
            process.turn()

    with_crash(process, event)


def with_crash(
    process: Process, action: Callable[..., None], arguments: tuple[Any, ...] = ()
) -> None:
    """The rest of a turn."""
    try:
        action(*arguments)
    except Crashed:
        pass
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"{process.id} failed: {type(error).__name__}: {error}") from error
