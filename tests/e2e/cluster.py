"""A cluster of `resplock serve` processes: starting it, finding its leader, and what a test does to
its nodes.

    cluster.leader()            the node that a majority follows, as soon as there is one
    cluster.wait_until_whole()  every node runs, votes, follows, and has applied what is committed

Waiting is by polling RAFT.STATUS over connections that give up soon, because a node may be stopped,
paused or cut off.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.ports import Ports
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import DEADLINE_S, eventually
from tests.e2e.wire import Closed, Failure, by_field

ELECTION_TIMEOUT_MS = 500
GLANCE_S = 1.0
"""How long a look at a node may take before the node counts as not there."""
VOTERS = ("leader", "follower", "candidate")

Status = dict[str, Any]
"""RAFT.STATUS, its words as text."""


class ClusterNode(ServerProcess):
    """One node. `address` is `host:port@peerport`, as its cluster knows it."""

    def __init__(
        self, directory: Path, id: str, host: str, port: int, peer_port: int, **more: Any
    ) -> None:
        super().__init__(directory, host=host, port=port, **more)
        self.id = id
        self.peer_port = peer_port
        self.paused = False

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}@{self.peer_port}"

    # --- what happens to it ---

    def pause(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self.paused = False

    def kill9(self) -> None:
        super().kill9()
        self.paused = False

    def wipe(self) -> None:
        """Lose the data directory. The node must not run."""
        assert not self.running
        if self.data_dir.exists():
            shutil.rmtree(self.data_dir)

    # --- looking at it ---

    def status(self) -> Status | None:
        """RAFT.STATUS, or None when the node does not answer."""
        return self.glance("RAFT.STATUS")

    def glance(self, *words: object) -> Status | None:
        """A command whose reply is a map, or None when the node does not answer soon."""
        if not self.running or self.paused:
            return None
        try:
            with self.wire(protocol=3, patience_s=GLANCE_S) as wire:
                reply = wire.call(*words)
        except (OSError, Closed):
            return None
        if isinstance(reply, Failure):
            return None
        return {name: _as_text(value) for name, value in by_field(reply).items()}

    def shows(self, text: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until the log says this."""
        eventually(lambda: text in self.log(), f"{self.id} says {text!r}", deadline_s=deadline_s)


def _as_text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


class Cluster:
    """Nodes n1, n2, ... each in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        *options: str,
        hosts: Mapping[str, str] | None = None,
        through: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """A cluster that begins with `size` nodes; `start` starts it.

        options: further flags of every node. hosts, through: for each id where it is reached, and
        the program that it is run by, see ServerProcess; without them it is here on this machine.
        """
        self.directory = directory
        self.options = (f"--election-timeout-ms={ELECTION_TIMEOUT_MS}", *options)
        self.nodes: dict[str, ClusterNode] = {}
        self._ports = Ports()
        self._hosts = hosts or {}
        self._through = through or {}
        for number in range(1, size + 1):
            self._make(f"n{number}")
        self.list = ",".join(f"{node.id}={node.address}" for node in self)
        for node in self:
            node.options += (f"--cluster={self.list}",)

    def _make(self, id: str) -> ClusterNode:
        node = ClusterNode(
            self.directory / id,
            id,
            self._hosts.get(id, "127.0.0.1"),
            self._ports.take(),
            self._ports.take(),
            through=self._through.get(id, ()),
        )
        node.options = (f"--node-id={id}", *self.options)
        self.nodes[id] = node
        return node

    def __iter__(self) -> Iterator[ClusterNode]:
        return iter(list(self.nodes.values()))

    def __getitem__(self, id: str) -> ClusterNode:
        return self.nodes[id]

    # --- starting and ending ---

    def start(self) -> Cluster:
        """Start the nodes that do not run; returns once there is a leader and all follow."""
        self.start_nodes(*self)
        self.wait_until_whole()
        return self

    def start_nodes(self, *nodes: ClusterNode) -> None:
        """Start these at the same time, as far as they do not run; returns once they answer."""
        starting = [node for node in nodes if not node.running]
        for node in starting:
            node.begin()
        for node in starting:
            node.wait_until_it_answers()

    def join(self, id: str) -> ClusterNode:
        """Start a new node that waits to be added."""
        contact = next(node for node in self if node.running)
        node = self._make(id)
        node.options += (f"--join={contact.address}", f"--host={node.host}")
        node.options += (f"--peer-port={node.peer_port}",)
        node.start()
        return node

    def forget(self, node: ClusterNode) -> None:
        """The node is no longer part of the cluster: nobody waits for it."""
        node.discard()
        del self.nodes[node.id]

    def restore(self) -> None:
        """Undo every fault: resume what is paused, start what does not run, wait until all is well."""
        for node in self:
            if node.paused:
                node.resume()
        self.start()

    def discard(self) -> None:
        """End whatever runs, and give the ports back."""
        for node in self:
            node.discard()
        self._ports.release()

    # --- looking at it ---

    def statuses(self) -> dict[str, Status]:
        """RAFT.STATUS of the nodes that answer."""
        found = {node.id: node.status() for node in self}
        return {id: status for id, status in found.items() if status is not None}

    def leader(self, deadline_s: float = DEADLINE_S) -> ClusterNode:
        """The node that leads, as soon as a majority of all nodes follows it in its term."""
        return self[eventually(self._led_by, "a leader", deadline_s=deadline_s)]

    def followers(self) -> list[ClusterNode]:
        """Every node but the leader."""
        leader = self.leader()
        return [node for node in self if node is not leader]

    def _led_by(self) -> str | None:
        statuses = self.statuses()
        learners = sum(status["role"] not in VOTERS for status in statuses.values())
        for id, status in statuses.items():
            view = (id, status["term"])
            agreeing = [each for each in statuses.values() if _view(each) == view]
            if status["role"] == "leader" and len(agreeing) > (len(self.nodes) - learners) // 2:
                return id
        return None

    def wait_until_whole(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until every node votes in one leader's term and has applied what was committed."""

        def whole() -> bool:
            committed = max((each["commit_index"] for each in self.statuses().values()), default=0)
            statuses = self.statuses().values()
            if len(statuses) < len(self.nodes):
                return False
            views = {_view(status) for status in statuses}
            if len(views) != 1 or views.pop()[0] is None:
                return False
            return all(
                status["role"] in VOTERS and status["last_applied"] >= committed
                for status in statuses
            )

        try:
            eventually(whole, "a whole cluster", deadline_s=deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.describe()}") from None

    def describe(self) -> str:
        """What each node says of itself, for a failure's message."""
        lines = []
        for node in self:
            status = node.status() or {}
            shown = {name: value for name, value in status.items() if name != "peers"}
            state = "paused" if node.paused else "runs" if node.running else "does not run"
            lines.append(f"{node.id} {state}: {shown}")
        return "\n".join(lines)

    def assert_clean_logs(self) -> None:
        """No traceback in any node's log."""
        for node in self:
            node.assert_clean_log()


def _view(status: Status) -> tuple[str | None, int]:
    return status["leader_id"], status["term"]
