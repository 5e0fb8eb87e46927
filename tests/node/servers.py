"""Nodes for tests: the real core and table, a log in memory, and clocks and a network of the test's."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from resplock.node import Node, NodeSettings, Result
from resplock.node.messages import NodeMessage, decode, encode
from resplock.operations import (
    Acquire,
    Operation,
    Query,
    Release,
    decode_run,
)
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Entry, EntryKind, Member
from resplock.state.snapshots import TableSnapshot, restore
from resplock.state.table import LockTable
from resplock.types import Index, LockName, NodeId, lock_name
from tests.raft.memory import MemoryLog

TICK_MS = 10
"""How often the runtime lets time pass."""
UNIX_MS = 1_800_000_000_000


def member_of(name: str, uuid: str = "") -> Member:
    """A server of the test, by default with its first uuid."""
    return Member(NodeId(name), uuid or f"u-{name}", f"host-{name}:1", f"host-{name}:2")


class Caller:
    """Whoever waits for answers."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def deliver(self, results: Sequence[Result]) -> None:
        self.results += results

    def take(self) -> list[Result]:
        results, self.results = self.results, []
        return results


class Server:
    """A node, its disk, and the loop that drives it."""

    def __init__(self, voters: Sequence[str] = ("n1",), id: str = "n1", **config: Any) -> None:
        self.id = NodeId(id)
        self.voters = tuple(member_of(name) for name in voters)
        self.log = MemoryLog()
        self.chunks: list[bytes] = []
        self.now_ms = 50_000
        self.unix_ms = UNIX_MS
        self.settings = NodeSettings(
            snapshot_entries=config.pop("snapshot_entries", 1_000_000),
            redirects=config.pop("redirects", False),
        )
        self.outbox: deque[Any] = deque()
        self.mail: deque[tuple[NodeId, NodeMessage]] = deque()
        self.incarnation = config.pop("incarnation", 1)
        self.config = RaftConfig(id=self.id, **config)
        self.start()

    def start(self) -> None:
        """Recover from the disk, as a process does."""
        meta = self.log.snapshot
        table = restore(iter(self.chunks)) if meta.index else LockTable()
        core = RaftCore(
            self.config,
            self.log,
            random.Random(self.id),
            applied=Index(meta.index),
            configuration=Configuration(voters=self.voters),
        )
        self.node = Node(core, table, self.settings, meta, self.incarnation)

    def work(self) -> None:
        """Do what is ready, and answer."""
        node = self.node
        while node.has_ready():
            ready = node.ready()
            self.outbox.extend(ready.send_now)
            self.log.persist(ready)
            self.outbox.extend(ready.send_after_persist)
            node.advance(ready)
        for caller, results in node.take_answers():
            if caller is not None:
                caller.deliver(results)
        self.mail.extend(node.take_messages())

    def sync(self) -> None:
        """What was written becomes durable, though no Ready asks for it."""
        self.log.sync()
        self.node.core.synced()

    def turn(self) -> None:
        """One turn of the loop."""
        self.node.gather(self.now_ms, self.unix_ms)
        self.work()

    def settle(self) -> None:
        """Turn until nothing waits for another turn."""
        self.turn()
        for _ in range(100):
            if not self.node.busy:
                return
            self.turn()
        raise AssertionError("always busy")

    def lead(self) -> Server:
        self.node.core.campaign()
        self.settle()
        assert self.node.core.is_leader
        return self

    def pass_time(self, duration_ms: int, *, tick_ms: int = TICK_MS) -> None:
        """Let time pass as the runtime does."""
        for _ in range(duration_ms // tick_ms):
            self.now_ms += tick_ms
            self.unix_ms += tick_ms
            self.node.tick(self.now_ms)
            self.turn()

    def do(self, *operations: Operation) -> list[Result]:
        """Submit as one client, and wait for the outcomes."""
        caller = Caller()
        self.node.submit(caller, operations)
        self.settle()
        return caller.take()

    def look(self, query: Query) -> Result:
        caller = Caller()
        self.node.ask(caller, query)
        self.settle()
        [result] = caller.take()
        return result

    @property
    def entries(self) -> list[Entry]:
        return self.log.kept

    def commands(self) -> list[Operation]:
        """Every command in the log."""
        runs = [entry for entry in self.entries if entry.kind is EntryKind.RUN]
        return [operation for entry in runs for operation in decode_run(entry.payload)]

    def kinds(self) -> list[EntryKind]:
        return [entry.kind for entry in self.entries]

    def snapshot(self) -> None:
        """Take a snapshot, at once."""
        meta, chunks = self.node.begin_snapshot()
        self.chunks = list(iter(chunks.next_chunk, None))
        self.log.compact(meta)
        self.node.snapshot_taken(meta)


def image(table: LockTable) -> list[bytes]:
    """All of a table's state."""
    return list(iter(TableSnapshot(table).next_chunk, None))


def name(key: str) -> LockName:
    return lock_name(0, key.encode())


def acquire(key: str, owner: str = "me", ttl_ms: int = 30_000, **more: Any) -> Acquire:
    return Acquire(name(key), owner.encode(), ttl_ms, **more)


def release(key: str, owner: str = "me") -> Release:
    return Release(name(key), owner.encode())


class Trio:
    """Three servers and a network that a test can cut."""

    def __init__(self, **config: Any) -> None:
        names = ("n1", "n2", "n3")
        self.servers = {name: Server(names, name, **config) for name in names}
        self.alone: set[str] = set()
        """Servers whose messages get lost, both ways, though their links are up."""
        self.loses_entries = False
        for server in self.servers.values():
            self.link(server)

    def link(self, server: Server) -> None:
        """Have the server's links come up, with the incarnations as they are."""
        for other in self.servers.values():
            if other is not server:
                server.node.link_up(other.id, other.incarnation)
                other.node.link_up(server.id, server.incarnation)

    def wipe(self, name: str) -> Member:
        """Start the server anew with an empty disk, another uuid, and no configuration."""
        old = self.servers[name]
        self.unlink(old)
        server = self.servers[name] = Server((), name, incarnation=old.incarnation + 1)
        server.now_ms, server.unix_ms = old.now_ms, old.unix_ms
        self.link(server)
        return member_of(name, f"u-{name}-wiped")

    def unlink(self, server: Server) -> None:
        """Break the server's links: what is on its way is lost."""
        for other in self.servers.values():
            if other is not server:
                server.node.link_down(other.id)
                other.node.link_down(server.id)
                other.mail = deque(mail for mail in other.mail if mail[0] != server.id)
        server.mail.clear()

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def carry(self) -> bool:
        """Take every message that was sent to where it goes."""
        moved = False
        for name, server in self.servers.items():
            while server.outbox:
                message = server.outbox.popleft()
                moved = True
                if self.loses_entries and getattr(message, "entries", ()):
                    continue
                if message.to_id in self.servers and not {name, message.to_id} & self.alone:
                    self.servers[message.to_id].node.step(message)
            while server.mail and name not in self.alone:
                to_id, mail = server.mail.popleft()
                moved = True
                if to_id not in self.alone:
                    self.servers[to_id].node.receive(server.id, decode(encode(mail)))
        return moved

    def settle(self) -> None:
        for _ in range(1_000):
            for server in self.servers.values():
                server.turn()
            if not self.carry() and not any(
                server.node.has_ready() or server.node.busy for server in self.servers.values()
            ):
                return
        raise AssertionError("the network never comes to rest")

    def pass_time(self, duration_ms: int) -> None:
        for _ in range(duration_ms // TICK_MS):
            for server in self.servers.values():
                server.now_ms += TICK_MS
                server.unix_ms += TICK_MS
                server.sync()
                server.node.tick(server.now_ms)
                server.turn()
            self.carry()

    def elect(self, name: str) -> Server:
        server = self.servers[name]
        server.node.core.campaign()
        self.settle()
        assert server.node.core.is_leader
        return server


def lose_leadership(trio: Trio, leader: Server) -> None:
    """Cut everybody off until the leader steps down; nobody is elected meanwhile."""
    trio.alone = {"n1", "n2", "n3"}
    while leader.node.core.is_leader:
        for server in trio.servers.values():
            server.node.core.tick()
    for server in trio.servers.values():
        server.outbox.clear()
    trio.alone = set()
