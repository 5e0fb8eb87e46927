"""Nodes of one cluster on this machine, each a process with a data directory of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.client import Client
from bench.servers import BenchError, Resplock, Server, free_port

STATUS_TIMEOUT_S = 2.0
WHOLE_DEADLINE_S = 60.0
"""Until all nodes agree on a leader and have the same log."""
POLL_S = 0.01


class Status(NamedTuple):
    """RAFT.STATUS of one node, as far as it is needed here."""

    id: str
    role: str
    term: int
    leader_id: str | None
    last_log_index: int
    last_applied: int


class Node(Resplock):
    """One node of a cluster."""

    def __init__(self, parent: Path, node_id: str) -> None:
        super().__init__(parent)
        self.id = node_id
        self.name = f"resplock {node_id}"
        self.port = free_port()
        self.peer_port = free_port()
        self.options: list[str] = []
        """Further flags of `resplock serve`."""

    def command(self) -> list[str]:
        return [*super().command(), "--node-id", self.id, *self.options]

    def status(self) -> Status | None:
        """What it says of itself; None when it does not answer."""
        try:
            with Client(self.connect(STATUS_TIMEOUT_S)) as client:
                return status_of(client.call_map("RAFT.STATUS"))
        except (OSError, BenchError):
            return None


class Cluster:
    """So many nodes, from `with` to the end of its block. All run, and one leads, when it begins."""

    mode = "resplock"

    def __init__(self, parent: Path, nodes: int, *options: str) -> None:
        """options: further flags of `resplock serve`, for each node."""
        self.name = f"resplock, {nodes} nodes"
        self.nodes = [Node(parent, f"n{number + 1}") for number in range(nodes)]
        members = ",".join(
            f"{node.id}=127.0.0.1:{node.port}@{node.peer_port}" for node in self.nodes
        )
        for node in self.nodes:
            node.options = ["--cluster", members, *options]

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.make_directory()
                node.begin()
            for node in self.nodes:
                node.wait_until_it_answers()
            self.wait_until_whole()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self.nodes:
            node.end(signal.SIGTERM)
        for node in self.nodes:
            node.remove_directory()

    def version(self) -> str:
        """One line about the program."""
        return f"{self.nodes[0].version()}, {len(self.nodes)} nodes"

    def processes(self) -> list[Server]:
        """The nodes, the leader first."""
        leader = self.leader()
        return [leader, *(node for node in self.nodes if node is not leader)]

    def leader(self) -> Node:
        """The node that leads, once all of them say so."""
        return self._wait(agreed_leader, "the nodes do not agree on a leader")

    def wait_until_whole(self) -> Node:
        """The leader, once every node has applied the leader's whole log. Nobody may write."""
        return self._wait(leader_of_whole, "the nodes do not have the same log")

    def terms(self) -> dict[str, int]:
        """Each node's term, of those that answer."""
        return {status.id: status.term for status in self._statuses() if status is not None}

    def _statuses(self) -> list[Status | None]:
        return [node.status() for node in self.nodes]

    def _wait(self, leader_in: Callable[[list[Status | None]], str | None], why: str) -> Node:
        deadline = time.monotonic() + WHOLE_DEADLINE_S
        while True:
            statuses = self._statuses()
            leader_id = leader_in(statuses)
            if leader_id is not None:
                return next(node for node in self.nodes if node.id == leader_id)
            if time.monotonic() > deadline:
                raise BenchError(f"{why} after {WHOLE_DEADLINE_S:.0f} s: {statuses}")
            time.sleep(POLL_S)


def status_of(reply: dict[str, Any]) -> Status:
    """RAFT.STATUS from its RESP2 reply."""
    leader_id = reply["leader_id"]
    return Status(
        id=reply["id"].decode(),
        role=reply["role"].decode(),
        term=reply["term"],
        leader_id=None if leader_id is None else leader_id.decode(),
        last_log_index=reply["last_log_index"],
        last_applied=reply["last_applied"],
    )


def agreed_leader(statuses: list[Status | None]) -> str | None:
    """The leader, when every node answers, names it in the same term, and it leads."""
    found = [status for status in statuses if status is not None]
    if len(found) < len(statuses):
        return None
    if len({(status.term, status.leader_id) for status in found}) > 1:
        return None
    return next((status.id for status in found if status.role == "leader"), None)


def leader_of_whole(statuses: list[Status | None]) -> str | None:
    """The agreed leader, when every node has applied the same log to its end."""
    ends = {index for status in statuses if status for index in status[-2:]}
    return agreed_leader(statuses) if len(ends) == 1 else None
