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

import structlog
import uvloop

from resplock import __version__, limits
from resplock.config import Settings
from resplock.errors import ConfigError, StorageError
from resplock.node import Node, NodeSettings
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Member
from resplock.server import logs, snapshots
from resplock.server.clients import Clients
from resplock.server.datadir import DataDirectory
from resplock.server.engine import Engine
from resplock.server.local import Context, LocalCommands
from resplock.server.storage import Log
from resplock.server.watchdog import Watchdog
from resplock.state.snapshots import restore
from resplock.state.table import LockTable
from resplock.types import Index, NodeId

logger = structlog.get_logger()

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
        log = Log.open(directory.path, accept_loss=settings.accept_data_loss)
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
        self._stopping: asyncio.Event | None = None

    async def serve(self) -> None:
        """Serve until told to stop. The port is opened once this node leads and has applied."""
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        watchdog = Watchdog()
        engine = Engine(self._recover(), self._log, watchdog, end_process)
        await engine.lead()
        _spare_the_collector()

        clients = Clients(self._settings, engine)
        context = Context(
            settings=self._settings,
            clients=clients,
            engine=engine,
            shut_down=self._stopping.set,
            run_id=secrets.token_hex(20),
        )
        clients.local = LocalCommands(context)
        listener = await self._listen(clients)
        context.port = listener.sockets[0].getsockname()[1]
        engine.start()
        clients.start()
        watchdog.start()
        self._greet(context)
        try:
            await self._stopping.wait()
            logger.info("stopping")
        finally:
            listener.close()
            engine.stop()
            clients.stop()
            watchdog.stop()
        logger.info("stopped", applied=engine.node.core.applied_index)

    def _recover(self) -> Node:
        """The node as its data directory has it: the snapshot in use, then the log."""
        log, settings = self._log, self._settings
        meta = log.snapshot
        table = restore(snapshots.read(log.snapshot_directory, meta)) if meta.index else LockTable()
        me = Member(NodeId(settings.node_id), self._directory.uuid)
        core = RaftCore(
            RaftConfig(
                id=NodeId(settings.node_id), election_ticks=limits.HEARTBEATS_PER_ELECTION_TIMEOUT
            ),
            log,
            random.Random(),
            applied=Index(meta.index),
            configuration=Configuration(voters=(me,)),
        )
        node_settings = NodeSettings(
            snapshot_entries=settings.snapshot_entries,
            election_timeout_ms=settings.election_timeout_ms,
        )
        return Node(core, table, node_settings, meta)

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
