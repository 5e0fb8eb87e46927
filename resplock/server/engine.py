"""The engine: one turn of the event loop becomes one entry, one synced write, one pass of replies.

    sockets of clients and peers -> what they ask and say
    a turn: gather -> send to the followers, who write while this node does -> write and sync
            -> acknowledge -> apply what is committed -> answer

I/O layer; everything here runs on the event loop. Connections submit commands as their bytes come
in; the first one schedules a turn, which runs once all sockets that were readable have been read.
A synced write is made inline: a hand-off to a thread and back costs more than the overlap gains,
also where the thread lets go of the interpreter while it syncs (measured on two cores, thousands of
cycles/s, inline against in a thread: 68 and 64 at 16 x pipeline 16, 33 and 32 at 256 connections).
Meanwhile the next commands gather in the sockets, which is group commit. A leader whose followers are
a majority without it syncs once a tick, beside the path of the commands: see `resplock.raft.ready`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from resplock.errors import StorageError
from resplock.node import Client, Node, Result
from resplock.node.administration import Request, Transfer
from resplock.node.messages import NodeMessage
from resplock.operations import (
    Acquire,
    AcquireAll,
    ClientId,
    Event,
    Granted,
    Operation,
    Query,
)
from resplock.raft.entries import Configuration, Member, SnapshotMeta
from resplock.raft.messages import Message
from resplock.raft.ready import Ready
from resplock.server.clocks import now_ms, unix_ms
from resplock.server.latencies import Latencies
from resplock.server.news import News
from resplock.server.observer import Observer
from resplock.server.peers import Peers
from resplock.server.peers.snapshots import SnapshotTransfers
from resplock.server.snapshotting import SnapshotJob
from resplock.server.storage import Log
from resplock.server.watchdog import Watchdog
from resplock.state.table import LockTable
from resplock.types import Index, NodeId

logger = structlog.get_logger()

_TICK_S = 0.01
"""How often the engine looks whether a hold has ended or a Raft tick is due."""
_LOOKS_MAX = 4
"""How often a turn looks at the sockets again for clients that keep coming."""
_LOOK_CLIENTS_MAX = 32
"""With more clients than this, the sync is a small part of what a turn costs, and looking is not."""


class _Promise:
    """A client that is a future."""

    def __init__(self, future: asyncio.Future[Result]) -> None:
        self._future = future

    def deliver(self, results: Sequence[Result]) -> None:
        if not self._future.done():
            self._future.set_result(results[0])

    def abort(self) -> None:
        self._future.cancel()


class Engine:
    """Runs a node: its turns, its ticks, its snapshots. Hears the links (PeerEvents, SnapshotEvents)."""

    def __init__(
        self,
        node: Node,
        log: Log,
        peers: Peers,
        adopt: Callable[[str], None],
        watchdog: Watchdog,
        fatal: Callable[[Exception], None],
    ) -> None:
        """`adopt` makes durable which cluster has taken this node in. `fatal` ends the process: no
        write or sync is tried again after it failed."""
        self.node = node
        self.log = log
        self.peers = peers
        self.adopt_cluster = adopt
        self._configuration = Configuration()
        self._applied_configuration = Configuration()
        self._was_removed = False
        self.snapshots = SnapshotJob(node, log, fatal)
        self._news = News(node.core)
        self.transfers = SnapshotTransfers(peers, log.snapshot_directory, self, fatal)
        self.latencies = Latencies()
        self.observer = Observer()
        self._watchdog = watchdog
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._losses = 0
        self._gathered = 0
        self._looks = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._parted: asyncio.Future[None] | None = None
        self.on_tick: Callable[[], None] = _nothing
        """Called at every tick, to look at what the turns have changed."""
        self.on_events: Callable[[list[Event]], None] = _drop
        """Called with what happened to locks, after the answers, while `node.keeps_events`."""
        self.on_skipped: Callable[[], None] = _nothing
        """Called when a snapshot took the place of events."""

    # --- what connections call -------------------------------------------------------------------

    def submit(self, client: Client, operations: Sequence[Operation]) -> None:
        """Propose operations in this turn; their outcomes are delivered to the client."""
        self.node.submit(client, operations)
        self.schedule()

    def submit_one(self, alone: tuple[Client, int], operation: Operation) -> None:
        """Propose one operation; `alone` is (client, 1). As `submit`, on the hottest path."""
        run = self.node.gathering
        run.operations.append(operation)
        run.clients.append(alone)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def submit_waiting(self, client: Client, operation: Operation) -> None:
        """Propose an operation that may have to wait in line: see `Node.submit_waiting`."""
        self.node.submit_waiting(client, operation)
        self.schedule()

    def disconnect(self, id: ClientId) -> None:
        """A client that was named in an operation's options has gone."""
        self.node.disconnect(id)
        self.schedule()

    def give_back(self, wanted: Acquire | AcquireAll, granted: Granted) -> None:
        """The client that was granted this, after a wait, has gone and cannot be told."""
        self.node.give_back(wanted, granted)
        self.schedule()

    def ask(self, client: Client, query: Query) -> None:
        """Answer a query in this turn."""
        self.node.ask(client, query)
        self.schedule()

    def administer(self, client: Client, request: Request) -> None:
        """Have an operator's request carried out; its result is delivered to the client."""
        self.node.administer(client, request)
        self.schedule()

    def schedule(self) -> None:
        """Have a turn once what is readable was read."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    # --- what the links tell: PeerEvents ---------------------------------------------------------

    def link_up(self, peer_id: NodeId, incarnation: int) -> None:
        self.node.link_up(peer_id, incarnation)
        self.schedule()

    def link_down(self, peer_id: NodeId) -> None:
        self.node.link_down(peer_id)
        self.schedule()

    def raft_message(self, message: Message) -> None:
        self.node.step(message)
        if self.node.has_ready():
            self.schedule()

    def node_message(self, peer_id: NodeId, message: NodeMessage) -> None:
        self.node.receive(peer_id, message)
        self.schedule()

    def member_seen(self, member: Member) -> None:
        self.node.member_seen(member)
        self.schedule()

    def removed(self, text: str) -> None:
        if not self._was_removed:
            logger.warning("this server was removed from the cluster", reason=text)
        self._was_removed = True

    # --- what the transfers of snapshots tell: SnapshotEvents ------------------------------------

    def snapshot_wanted(self, meta: SnapshotMeta) -> bool:
        return meta.index > self.node.core.commit_index

    def snapshot_arrived(self, meta: SnapshotMeta, table: LockTable) -> None:
        self.node.snapshot_received(meta, table)
        self.schedule()

    def snapshot_sent(self, peer_id: NodeId, index: int, ok: bool) -> None:
        self.node.core.report_snapshot(peer_id, Index(index), ok)
        self.schedule()

    def snapshot_damaged(self, meta: SnapshotMeta) -> None:
        self.snapshots.start()

    # --- running ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick."""
        self._news.look()
        self._ticking = self._loop.call_later(_TICK_S, self._tick)

    async def lead(self) -> None:
        """Elect the sole voter, and apply everything that its log holds."""
        self.node.core.campaign()
        self._turn()
        assert self.node.core.is_leader
        while self.node.core.applied_index < self.node.core.last_index:
            self._turn()
            await asyncio.sleep(0)

    async def hand_over(self) -> None:
        """Let another node lead before this one ends, if this one leads and there is another."""
        if not self.node.core.is_leader or len(self._configuration.voters) < 2:
            return
        done = self._loop.create_future()
        self.administer(_Promise(done), Transfer())
        await asyncio.wait([done], timeout=2 * self.node.settings.election_timeout_ms / 1000)

    async def part(self) -> None:
        """Let the log know of the clients that have gone, as long as that can be had soon.

        Where it cannot, the leader sees to it: see limits.NODE_GONE_MS.
        """
        self._parted = self._loop.create_future()
        await asyncio.wait(
            [self._parted], timeout=2 * self.node.settings.election_timeout_ms / 1000
        )

    def stop(self) -> None:
        """Stop ticking, after a last turn for what was submitted."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._looks = _LOOKS_MAX
        self._turn()
        self._sync()

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(_TICK_S, self._tick)
        self._watchdog.beat()
        self._sync()
        self.node.tick(now_ms())
        self._news.look()
        self.on_tick()
        if self._parted is not None and not self.node.departing and not self._parted.done():
            self._parted.set_result(None)
        self.schedule()

    def _sync(self) -> None:
        """What a leader has written while its followers made the majority becomes durable."""
        if self.node.core.has_unsynced:
            try:
                self.log.sync()
            except StorageError as error:
                self._fatal(error)
                raise
            self.node.core.synced()

    def _turn(self) -> None:
        self._scheduled = False
        node = self.node
        if self._more_come():
            self.schedule()
            return
        start_ns = time.monotonic_ns()
        try:
            node.gather(now_ms(), unix_ms())
            self.latencies.began(node.proposals.added, start_ns)
            while node.has_ready():
                self._work(node.ready())
            self._announce_losses()
        except Exception as error:
            self._fatal(error)
            raise
        answers = node.take_answers()
        for client, results in answers:
            if client is not None:
                try:
                    client.deliver(results)
                except Exception:
                    logger.exception("a client could not be answered")
                    client.abort()
        end_ns = time.monotonic_ns()
        turn_ns = end_ns - start_ns
        commit_ns = self.latencies.ended(node.proposals.added - node.unresolved, end_ns)
        if turn_ns > self.observer.slow_ns or commit_ns > self.observer.slow_ns:
            self.observer.turned(turn_ns, commit_ns, answers)
        if node.keeps_events and (events := node.take_events()):
            self.on_events(events)
        for peer_id, message in node.take_messages():
            self.peers.send_node(peer_id, message)
        self.peers.flush()
        stand_in_ms = node.core.take_stand_in_ms()
        if stand_in_ms is not None:
            self._loop.call_later(stand_in_ms / 1000, self._stand)
        if (
            node.core.configuration is not self._configuration
            or node.applied_configuration is not self._applied_configuration
        ):
            self._meet_members()
        if node.snapshot_due and not self.snapshots.running:
            self.snapshots.start()
        if node.busy:
            self.schedule()

    def _announce_losses(self) -> None:
        """Tell the followers at once of an end that nobody asked for.

        Else they learn with the next heartbeat or entry that it is committed, and their clients who
        watch have to be told without delay.
        """
        node = self.node
        losses = node.table.totals.expired + node.table.totals.broken
        if losses == self._losses:
            return
        self._losses = losses
        node.core.announce_commit()
        while node.has_ready():
            self._work(node.ready())

    def _work(self, ready: Ready) -> None:
        """One round, in the order that `Ready` prescribes."""
        peers = self.peers
        if ready.send_now:
            for message in ready.send_now:
                peers.send(message)
            peers.flush()
        if ready.installed is not None:
            self.log.install(ready.installed)
        if ready.entries or ready.sync:
            self.log.save(ready.hard_state, ready.entries, sync=ready.sync)
        if ready.send_after_persist:
            for message in ready.send_after_persist:
                peers.send(message)
            peers.flush()
        self.node.advance(ready)
        if ready.installed is not None:
            self.on_skipped()
        for id in ready.snapshots_wanted:
            self._send_snapshot(id)

    def _send_snapshot(self, id: NodeId) -> None:
        members = self._configuration.voters + self._configuration.learners
        for member in members:
            if member.id == id:
                self.transfers.send(member, self.node.snapshot)

    def _stand(self) -> None:
        self.node.core.stand_now()
        self.schedule()

    def _meet_members(self) -> None:
        """Dial who is in the configuration in effect; send away whose removal is committed."""
        self._configuration = configuration = self.node.core.configuration
        self._applied_configuration = self.node.applied_configuration
        self.peers.set_members(
            configuration.voters + configuration.learners, self._applied_configuration.removed
        )

    def _more_come(self) -> bool:
        """Whether to look at the sockets once more before the write, because clients keep coming.

        While a write is synced and answered, the clients send again, one after the other. Without
        another look the first of them would make an entry of their own and the others would wait
        for its sync; with it, most of them share one (6 % more cycles at 16 connections, 9 % at 16 x
        pipeline 16). A client that is alone never waits.
        """
        gathered = len(self.node.gathering.clients)
        if max(self._gathered, 1) < gathered <= _LOOK_CLIENTS_MAX and self._looks < _LOOKS_MAX:
            self._gathered = gathered
            self._looks += 1
            return True
        self._gathered = self._looks = 0
        return False


def _nothing() -> None:
    pass


def _drop(_: list[Event]) -> None:
    pass
