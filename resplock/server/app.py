"""The server process: recover, elect, listen, serve, stop.

I/O layer. `run` is what `resplock serve` calls; it returns when the server was told to stop.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import secrets
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
import uvloop
from msgspec.structs import replace

from resplock import __version__, limits
from resplock.addresses import Address
from resplock.config import Settings
from resplock.errors import ConfigError, StorageError
from resplock.node import Node, NodeSettings
from resplock.node.messages import decode, encode
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, HardState, Member
from resplock.server import bootstrap, logs, snapshots
from resplock.server.announcing import Announcer
from resplock.server.bootstrap import ClusterFile
from resplock.server.clients import Clients
from resplock.server.datadir import DataDirectory
from resplock.server.engine import Engine
from resplock.server.local import Context, LocalCommands
from resplock.server.local.memory import resident_bytes
from resplock.server.peers import Identity, Peers
from resplock.server.storage import Log
from resplock.server.watchdog import Watchdog
from resplock.state.snapshots import restore
from resplock.state.table import LockTable
from resplock.types import Index, NodeId

logger = structlog.get_logger()
T = TypeVar("T")

EXIT_STORAGE = 1
_REACHED_WITHOUT_NAME = ("127.0.0.1", "0.0.0.0")
"""What --host may be for redis-cli to find the server on its own."""


def run(settings: Settings) -> None:
    """Run a server until SIGTERM, SIGINT or SHUTDOWN.

    Raises StorageError for a data directory that cannot be used, ConfigError for an address.
    """
    logs.configure(settings.log_level, settings.log_format)
    directory = DataDirectory.open(settings.data_dir, NodeId(settings.node_id))
    try:
        known = bootstrap.read_cluster(directory.path)
        log, _ = bootstrap.open_log(directory, known, settings.accept_data_loss)
        try:
            uvloop.run(Server(settings, directory, log).serve())
        finally:
            log.close()
    finally:
        directory.close()


class Server:
    """One node in one process."""

    def __init__(self, settings: Settings, directory: DataDirectory, log: Log) -> None:
        self._settings = settings
        self._directory = directory
        self._log = log
        self._identity = Identity(Member(NodeId(settings.node_id), directory.uuid), 0)
        self._cluster = ClusterFile("")
        self._stopping: asyncio.Event | None = None

    async def serve(self) -> None:
        """Serve until told to stop.

        A cluster of one opens its port once it leads and has applied its log. A member of a larger
        one opens it at once: until there is a leader, it holds what it is asked, then says so.
        """
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        peers = Peers(self._identity, encode, decode, random.Random())
        try:
            await self._listen_to_peers(peers)
            cluster = await self._unless_stopped(self._find_cluster(peers))
            if cluster is not None:
                await self._serve(peers, cluster)
        finally:
            peers.close()
        logger.info("stopped", applied=self._log.last_index)

    async def _serve(self, peers: Peers, cluster: ClusterFile) -> None:
        assert self._stopping is not None
        self._log.make_ready_to_write()
        watchdog = Watchdog()
        engine = Engine(
            self._recover(cluster), self._log, peers, self._adopt, watchdog, end_process
        )
        peers.open(self._identity, engine)
        if engine.node.core.is_sole_voter:
            await engine.lead()
        _spare_the_collector()

        clients = Clients(self._settings, engine)
        context = Context(
            settings=self._settings,
            clients=clients,
            engine=engine,
            shut_down=self._stopping.set,
            run_id=secrets.token_hex(20),
            start_bytes=resident_bytes(),
            peers=peers,
        )
        clients.local = LocalCommands(context)
        listener = await self._listen(clients)
        context.port = listener.sockets[0].getsockname()[1]
        engine.on_events, engine.on_skipped = clients.events.publish, clients.events.skipped
        announcer = Announcer(context.view, clients.pubsub)

        def look() -> None:
            announcer.look()
            self._note_voters(len(engine.node.applied_configuration.voters))

        engine.on_tick = look
        engine.start()
        clients.start()
        watchdog.start()
        self._greet(context)
        try:
            await self._stopping.wait()
            logger.info("stopping")
            await engine.hand_over()
            listener.close()
            clients.turn_away()
            await engine.part()
        finally:
            listener.close()
            engine.stop()
            clients.stop()
            watchdog.stop()
            await engine.transfers.close()

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What comes of the work; None when the server is told to stop first."""
        assert self._stopping is not None
        task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    async def _find_cluster(self, peers: Peers) -> ClusterFile:
        """Which cluster this node belongs to, and how it began."""
        cluster = await bootstrap.find_cluster(
            self._directory.path,
            self._settings,
            self._identity.member,
            peers,
            self._identity.empty,
        )
        self._cluster = cluster
        self._identity = replace(
            self._identity, cluster_id=cluster.cluster_id, initial=cluster.initial, empty=False
        )
        return cluster

    def _adopt(self, cluster_id: str) -> None:
        """A member of a cluster has taken this node in."""
        self._remember(ClusterFile(cluster_id, (), self._identity.member))
        self._identity = replace(self._identity, cluster_id=cluster_id)

    def _note_voters(self, voters: int) -> None:
        """The next start must know whether somebody else has this node's data."""
        cluster = self._cluster
        if cluster.cluster_id and voters and voters != (cluster.voters or len(cluster.initial)):
            self._remember(replace(cluster, voters=voters))

    def _remember(self, cluster: ClusterFile) -> None:
        """Make it durable. A failure ends the process, as that of any write."""
        try:
            bootstrap.write_cluster(self._directory.path, cluster)
        except StorageError as error:
            end_process(error)
        self._cluster = cluster

    async def _listen_to_peers(self, peers: Peers) -> None:
        """A node that is to be alone is heard on this machine only: the peer port asks for no
        password, so that it opens to the network only where somebody has asked for peers."""
        settings = self._settings
        wants_peers = settings.cluster or settings.join or settings.peer_port
        host = settings.host if wants_peers else "127.0.0.1"
        port = await peers.listen(host, settings.peer_port_beside(settings.port))
        announced = settings.announce_host or settings.host
        own = settings.own_address or Address(announced, settings.port, port)
        member = Member(
            NodeId(settings.node_id), self._directory.uuid, own.for_clients, own.for_peers
        )
        self._identity = Identity(
            member,
            incarnation=secrets.randbits(63) | 1,
            empty=self._log.last_index == 0 and self._log.hard_state == HardState(),
        )
        peers.identity = self._identity

    def _recover(self, cluster: ClusterFile) -> Node:
        """The node as its data directory has it: the snapshot in use, then the log."""
        log, settings = self._log, self._settings
        meta = log.snapshot
        table = restore(snapshots.read(log.snapshot_directory, meta)) if meta.index else LockTable()
        node_settings = NodeSettings(
            snapshot_entries=settings.snapshot_entries,
            election_timeout_ms=settings.election_timeout_ms,
            redirects=settings.on_follower == "redirect",
        )
        core = RaftCore(
            RaftConfig(
                id=NodeId(settings.node_id),
                uuid=self._directory.uuid,
                election_ticks=limits.HEARTBEATS_PER_ELECTION_TIMEOUT,
                lease=settings.leader_lease,
                tick_ms=node_settings.tick_ms,
            ),
            log,
            random.Random(),
            applied=Index(meta.index),
            configuration=Configuration(voters=cluster.initial),
        )
        return Node(core, table, node_settings, meta, self._identity.incarnation)

    async def _listen(self, clients: Clients) -> asyncio.Server:
        host, port = self._settings.host, self._settings.port
        try:
            return await asyncio.get_running_loop().create_server(
                clients.connect, host, port, backlog=limits.LISTEN_BACKLOG
            )
        except OSError as error:
            reason = error.strerror or str(error)
            advice = (
                "Another server is running there: choose another --port, or stop it."
                if error.errno == errno.EADDRINUSE
                else "Give a --host of this machine, and a --port that you may use."
            )
            raise ConfigError(f"cannot listen on {host}:{port}: {reason}. {advice}") from error

    def _greet(self, context: Context) -> None:
        """The one start line: what runs where, and how to try it."""
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        where = "" if host in _REACHED_WITHOUT_NAME else f"-h {host} "
        password = " --askpass" if self._settings.requirepass else ""
        sys.stdout.write(
            f"resplock {__version__} ready on {address}:{context.port} "
            f"(data {self._directory.path}, pid {os.getpid()}); "
            f"try: redis-cli {where}-p {context.port}{password} "
            "LOCK.ACQUIRE orders/42 me TTL 30000\n"
        )
        sys.stdout.flush()


def end_process(error: Exception) -> None:
    """No write or sync is tried again after it failed: say why, and end at once."""
    logger.critical("cannot go on", reason=str(error), exc_info=not isinstance(error, StorageError))
    sys.stderr.write(f"resplock: {error}\n")
    sys.stderr.flush()
    os._exit(EXIT_STORAGE)


def _spare_the_collector() -> None:
    """Keep the garbage collector from the lock table.

    The table's records cannot form cycles and are not tracked; what else lives long (code, the
    restored table's dicts) is frozen here, so that a collection looks at what came since.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
