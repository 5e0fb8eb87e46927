"""What the suites run against: one node, three nodes, and Redis to compare with."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import redis

from tests.e2e.cluster import Cluster, ClusterNode
from tests.e2e.ports import Ports
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually
from tests.tools import find_tool

ONE_NODE, THREE_NODES, REDIS = "one node", "three nodes", "redis-server"

Address = tuple[str, int]


class Server(Protocol):
    """Runs until `stop`."""

    @property
    def address(self) -> Address:
        """Where a client that knows one address connects to."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All nodes."""

    def do(self, what: str) -> None:
        """Carry out what a program asks for: `kill leader` or `restore`."""

    def restore(self) -> None:
        """Undo what was done to it."""

    def stop(self) -> None:
        """End it."""


class OneNode:
    """resplock on a single node. Its death is that of the service, until it is back."""

    def __init__(self, directory: Path) -> None:
        self._process = ServerProcess(directory).start()

    @property
    def address(self) -> Address:
        return self._process.host, self._process.port

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.address,)

    def do(self, what: str) -> None:
        match what:
            case "kill leader":
                self._process.restart()
            case "restore":
                self.restore()
            case _:
                raise ValueError(what)

    def restore(self) -> None:
        if not self._process.running:
            self._process.discard()
            self._process.start()

    def stop(self) -> None:
        self._process.discard()


class ThreeNodes:
    """A cluster. Who knows one address talks to a follower, which has the leader answer."""

    def __init__(self, directory: Path) -> None:
        self._cluster = Cluster(directory)
        try:
            self._cluster.start()
        except BaseException:
            self._cluster.discard()
            raise
        self._entry, *self._others = self._cluster

    @property
    def address(self) -> Address:
        return _address(self._entry)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(map(_address, self._cluster))

    def do(self, what: str) -> None:
        match what:
            case "kill leader":
                self._spared_leader().kill9()
            case "restore":
                self.restore()
            case _:
                raise ValueError(what)

    def restore(self) -> None:
        self._cluster.restore()
        self._spared_leader()

    def stop(self) -> None:
        self._cluster.discard()

    def _spared_leader(self) -> ClusterNode:
        """The leader, after the one address that a client may know has become a follower."""
        if (leader := self._cluster.leader()) is not self._entry:
            return leader
        self._entry.call("RAFT.TRANSFER", self._others[0].id)
        eventually(lambda: self._cluster.leader() is not self._entry, "another node leads")
        return self._cluster.leader()


def _address(node: ClusterNode) -> Address:
    return node.host, node.port


class Redis:
    """redis-server, with nothing on disk."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._ports = Ports()
        port = self._ports.take()
        self.address: Address = ("127.0.0.1", port)
        self.addresses: tuple[Address, ...] = (self.address,)
        self._process = subprocess.Popen(
            [
                *(find_tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--dir", str(directory)),
            ],
            stdout=subprocess.DEVNULL,
        )
        eventually(self._answers, "redis-server answers")

    def _answers(self) -> bool:
        try:
            with redis.Redis(*self.address) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def do(self, what: str) -> None:
        raise ValueError(what)

    def restore(self) -> None:
        """Nothing was done to it."""

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._ports.release()


_KINDS: dict[str, Callable[[Path], Server]] = {
    ONE_NODE: OneNode,
    THREE_NODES: ThreeNodes,
    REDIS: Redis,
}


class Servers:
    """The servers of a run, each started when it is first asked for."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="resplock-compat-")
        self._running: dict[str, Server] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._running.values():
            server.stop()
        self._directory.cleanup()

    def get(self, kind: str) -> Server:
        """The server of this kind, whole and without a key or a script."""
        if kind not in self._running:
            path = Path(self._directory.name) / kind.replace(" ", "-")
            self._running[kind] = _KINDS[kind](path)
        server = self._running[kind]
        server.restore()
        with redis.Redis(*server.address) as client:
            client.flushall()
            client.script_flush()
        return server
