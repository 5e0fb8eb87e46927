"""A cluster in memory: cores, their disks and state machines, and a network that a test controls.

Nothing here knows time or chance of its own: ticks are given, and one seeded generator decides what
the network loses, repeats and reorders. What is synced survives `crash`, nothing else does. Every
message goes over the wire format. `safety.Safety` looks at everything that happens.

    cluster = Cluster(3, seed=1)
    cluster.elect("n1")
    cluster.propose("n1")
    cluster.settle()
    assert cluster.core("n2").commit_index == cluster.core("n1").commit_index
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable

import msgspec

from resplock.raft import messages
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.entries import (
    Configuration,
    Entry,
    EntryKind,
    Member,
    SnapshotMeta,
    configuration_of,
)
from resplock.raft.messages import Message
from resplock.raft.ready import Ready
from resplock.types import Index, NodeId, StampMs, Term
from tests.raft.memory import MemoryLog
from tests.raft.safety import Safety


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot on its way: all that was applied, and where that stands in the log."""

    from_id: NodeId
    to_id: NodeId
    meta: SnapshotMeta
    applied: tuple[Entry, ...]


class Server:
    """One server: what is durable, what runs, and what it has applied."""

    def __init__(self, id: NodeId, configuration: Configuration | None) -> None:
        self.id = id
        self.uuid = f"u-{id}"
        self.disk = MemoryLog(configuration)
        self.saved: tuple[Entry, ...] = ()
        """The state in the newest durable snapshot: that of `disk.snapshot`."""
        self.received: dict[int, Snapshot] = {}
        """By index. One may come while another is being installed."""
        self.core: RaftCore | None = None
        """None while it is down."""
        self.open: Ready | None = None
        """A Ready whose batch is being written."""
        self.applied: list[Entry] = []
        self.checked = 0
        """How many of these `Safety` has looked at."""
        self.answered: dict[int, Index] = {}
        self.lost: list[int] = []

    @property
    def applied_configuration(self) -> Configuration:
        for entry in reversed(self.applied):
            if entry.kind is EntryKind.CONFIG:
                return configuration_of(entry)
        return self.disk.snapshot.configuration


class Cluster:
    """See the module. Servers are called n1, n2, ..., and learners continue the count."""

    def __init__(self, voters: int, seed: int = 1, learners: int = 0, **settings: object) -> None:
        self.feeds_few = False
        """Let leaders feed no more followers at once than they need."""
        self.syncs_late = False
        """Sync what no Ready asks to have synced with the next tick, instead of at once."""
        self.rng = random.Random(seed)
        self.settings = settings
        names = [NodeId(f"n{number + 1}") for number in range(voters + learners)]
        members = tuple(Member(name, f"u-{name}") for name in names)
        self.bootstrap = Configuration(members[:voters], members[voters:])
        self.servers = {name: Server(name, self.bootstrap) for name in names}
        self.safety = Safety(self)
        self.flying: list[Message | Snapshot] = []
        self.sent: list[Message] = []
        """Every message ever sent, for tests that look at one."""
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.loses: Callable[[Message | Snapshot], bool] = lambda _: False
        self.loss = self.repeat = self.reorder = 0.0
        self.payloads = 0
        self.contexts = 0
        for name in names:
            self.restart(name)

    # --- looking ---------------------------------------------------------------------------------

    def core(self, id: str) -> RaftCore:
        core = self.servers[NodeId(id)].core
        assert core is not None, f"{id} is down"
        return core

    def disk(self, id: str) -> MemoryLog:
        return self.servers[NodeId(id)].disk

    def cores(self) -> list[RaftCore]:
        return [server.core for server in self.servers.values() if server.core is not None]

    def leaders(self) -> list[RaftCore]:
        return [core for core in self.cores() if core.is_leader]

    def leader(self) -> RaftCore:
        """The leader of the latest term."""
        leaders = self.leaders()
        assert leaders, "nobody leads"
        return max(leaders, key=lambda core: core.term)

    def log_of(self, id: str) -> list[Entry]:
        """The whole log as the core sees it: what is on disk before the tail, and the tail."""
        log = self.core(id).log
        before = self.disk(id).kept if not log._replaced else []
        return [entry for entry in before if entry.first < log.tail_first] + log.tail

    def shape(self, id: str) -> list[tuple[int, int, int]]:
        """The log as (term, first, last), to compare with."""
        return [(entry.term, entry.first, entry.last) for entry in self.log_of(id)]

    def of_kind(self, kind: type[Message], from_id: str = "", to_id: str = "") -> list[Message]:
        """The messages that were sent, of a kind, from and to somebody."""
        return [
            message
            for message in self.sent
            if isinstance(message, kind)
            and from_id in ("", message.from_id)
            and to_id in ("", message.to_id)
        ]

    # --- servers ---------------------------------------------------------------------------------

    def add_server(self, id: str) -> None:
        """A new, empty server that nobody has told anything."""
        self.servers[NodeId(id)] = Server(NodeId(id), None)
        self.restart(id)

    def crash(self, id: str) -> None:
        """It loses all that was not synced. What it has sent flies on."""
        server = self.servers[NodeId(id)]
        server.core = server.open = None
        server.disk.crash()
        server.received.clear()

    def restart(self, id: str, voting_mark: tuple[Term, Index] = (Term(0), Index(0))) -> None:
        server = self.servers[NodeId(id)]
        assert server.core is None
        server.applied = list(server.saved)
        server.checked = 0
        server.core = RaftCore(
            RaftConfig(NodeId(id), server.uuid, **self.settings),
            server.disk,
            random.Random(self.rng.random()),
            Index(server.disk.snapshot.index),
            voting_mark=voting_mark,
        )
        server.core.feeds_few = self.feeds_few

    def wipe(self, id: str) -> None:
        """Its directory is lost, and it starts with an empty one: it is another server now."""
        if self.servers[NodeId(id)].core is not None:
            self.crash(id)
        wiped = Server(NodeId(id), None)
        wiped.uuid = self.servers[NodeId(id)].uuid + "+"
        self.servers[NodeId(id)] = wiped
        self.restart(id)

    def compact(self, id: str, keep: int = 0) -> None:
        """Take a snapshot of what is applied, and drop the log before it."""
        server, core = self.servers[NodeId(id)], self.core(id)
        index = core.applied_index
        term = core.log.term_at(index)
        assert term is not None
        meta = SnapshotMeta(index, term, core.clock_ms, server.applied_configuration)
        server.saved = tuple(server.applied)
        server.disk.compact(meta, keep)
        core.compacted(meta)

    # --- the work of one server ------------------------------------------------------------------

    def begin(self, id: str) -> bool:
        """Take a Ready, send what may go now, and leave its batch unwritten."""
        server, core = self.servers[NodeId(id)], self.core(id)
        if server.open is not None or not core.has_ready():
            return False
        server.open = ready = core.ready()
        self.send(ready.send_now)
        return True

    def finish(self, id: str, crash_after: str = "") -> None:
        """Write the batch, send the rest, apply. crash_after: "persist" or "send"."""
        server, core = self.servers[NodeId(id)], self.core(id)
        ready = server.open
        assert ready is not None
        server.open = None
        self._persist(server, ready)
        if crash_after == "persist":
            return self.crash(id)
        self.send(ready.send_after_persist)
        if crash_after == "send":
            return self.crash(id)
        server.applied.extend(ready.committed)
        core.advance()
        if not self.syncs_late:
            self.sync(id)
        for read in ready.reads:
            assert read.index <= core.applied_index, "answered before it was applied"
            server.answered[read.context] = read.index
            self.safety.read_answered(read.context, read.index)
        server.lost.extend(ready.reads_lost)
        for to_id in ready.snapshots_wanted:
            self.send_snapshot(id, to_id)
        self.safety.check(server)
        return None

    def work(self, id: str) -> None:
        """All that one server has to do."""
        if self.servers[NodeId(id)].open is not None:
            self.finish(id)
        while self.begin(id):
            self.finish(id)

    def _persist(self, server: Server, ready: Ready) -> None:
        if ready.installed is not None:
            received = server.received[ready.installed.index]
            assert received.meta == ready.installed
            server.saved = received.applied
            server.applied = list(received.applied)
            server.checked = 0
        server.disk.persist(ready)

    # --- the network -----------------------------------------------------------------------------

    def send(self, outgoing: Iterable[Message]) -> None:
        for message in outgoing:
            self.sent.append(message)
            self._launch(message)

    def _launch(self, message: Message | Snapshot) -> None:
        lost = (
            (message.from_id, message.to_id) in self.cut
            or self.loses(message)
            or self.rng.random() < self.loss
        )
        if not lost:
            self.flying.append(message)
            if self.rng.random() < self.repeat:
                self.flying.append(message)
        elif isinstance(message, Snapshot):
            self._report(message, False)

    def send_snapshot(self, id: str, to_id: NodeId) -> None:
        """The newest one is on its way."""
        server = self.servers[NodeId(id)]
        self._launch(Snapshot(server.id, to_id, server.disk.snapshot, server.saved))

    def deliver(self, position: int = 0) -> None:
        """Let one message arrive, also at a server that is writing its batch."""
        message = self.flying.pop(position)
        server = self.servers.get(message.to_id)
        is_cut = (message.from_id, message.to_id) in self.cut
        if server is None or server.core is None or is_cut:
            if isinstance(message, Snapshot):
                self._report(message, False)
        elif isinstance(message, Snapshot):
            self._receive_snapshot(server, server.core, message)
        else:
            server.core.step(messages.decode(messages.encode(message)))

    def _receive_snapshot(self, server: Server, core: RaftCore, snapshot: Snapshot) -> None:
        if core.restore(snapshot.meta):
            server.received[snapshot.meta.index] = snapshot
        self._report(snapshot, True)

    def _report(self, snapshot: Snapshot, ok: bool) -> None:
        sender = self.servers[snapshot.from_id].core
        if sender is not None:
            sender.report_snapshot(snapshot.to_id, Index(snapshot.meta.index), ok)

    def deliver_some(self, paused: Container[NodeId] = ()) -> None:
        """Let one arrive, the oldest unless the network reorders, or its addressee is paused."""
        position = 0
        if self.rng.random() < self.reorder:
            position = self.rng.randrange(len(self.flying))
        if self.flying[position].to_id not in paused:
            self.deliver(position)

    def settle(self, limit: int = 10_000) -> None:
        """Deliver and work until nothing is left to do. Time stands still."""
        for _ in range(limit):
            for server in self.servers.values():
                if server.core is not None:
                    self.work(server.id)
            if not self.flying:
                return
            self.deliver_some()
        raise AssertionError("the cluster does not come to rest")

    def isolate(self, id: str) -> None:
        """Nothing goes to or from it."""
        self.partition([id])

    def partition(self, *groups: Iterable[str]) -> None:
        """Nothing goes between these groups, nor between them and the rest."""
        side = {NodeId(id): number for number, group in enumerate(groups, 1) for id in group}
        self.cut = {
            (a, b) for a in self.servers for b in self.servers if side.get(a, 0) != side.get(b, 0)
        }

    def heal(self) -> None:
        self.cut = set()

    # --- links -----------------------------------------------------------------------------------

    def break_links(self, id: str) -> None:
        """All others see their links to it break, and it sees the same if it is up."""
        for server in self.servers.values():
            if server.core is not None and server.id != id:
                server.core.report_link_down(NodeId(id))
        down = self.servers[NodeId(id)].core
        if down is not None:
            for other in self.servers:
                if other != id:
                    down.report_link_down(other)

    def stand_early(self, limit: int = 50) -> int:
        """Let early pre-votes come due, in order, settling after each. How many ms that took."""
        now_ms = 0
        due_ms: dict[NodeId, int] = {}
        for _ in range(limit):
            for core in self.cores():
                stand_in_ms = core.take_stand_in_ms()
                if stand_in_ms is not None:
                    due_ms[core.id] = now_ms + stand_in_ms
            if not due_ms:
                return now_ms
            id = min(due_ms, key=lambda each: (due_ms[each], each))
            now_ms = due_ms.pop(id)
            self.core(id).stand_now()
            self.settle()
        raise AssertionError("early pre-votes without end")

    # --- what tests do ---------------------------------------------------------------------------

    def tick(self, *ids: str, count: int = 1) -> None:
        """Let ticks pass at these servers, or at all, with everything settled after each."""
        for _ in range(count):
            for id in ids or [server.id for server in self.servers.values() if server.core]:
                self.core(id).tick()
                self.sync(id)
            self.settle()

    def sync(self, id: str) -> None:
        """What was written becomes durable, though no Ready asks for it."""
        self.servers[NodeId(id)].disk.sync()
        self.core(id).synced()

    def advance_clocks(self, by_ms: int) -> None:
        """Let the nodes that lead advance the replicated clock."""
        for core in self.leaders():
            core.clock_ms = StampMs(core.clock_ms + by_ms)

    def elect(self, id: str) -> RaftCore:
        """Make it leader: the others have not heard one for long enough.

        The first attempt may do no more than bring it to a later term that others know of.
        """
        for core in self.cores():
            if not core.is_leader:
                core.election_elapsed = core.config.election_ticks
                core.heard_at = core.now - core.config.election_ticks
        for _ in range(2):
            self.core(id).campaign()
            self.settle()
        assert self.core(id).is_leader
        return self.core(id)

    def propose(self, id: str, commands: int = 1, size: int = 8) -> Entry | None:
        """Propose a run of commands, each time another payload. Nothing is sent yet."""
        core = self.core(id)
        self.payloads += 1
        payload = b"%*d" % (size, self.payloads)
        return core.propose(payload, commands, core.clock_ms)

    def commit(self, id: str, commands: int = 1) -> Entry:
        """Propose and settle."""
        entry = self.propose(id, commands)
        assert entry is not None
        self.settle()
        assert self.core(id).commit_index >= entry.last
        return entry

    def read(self, id: str) -> int | None:
        """Ask for a read; its context, or None if it was refused."""
        self.contexts += 1
        if not self.core(id).read_index(self.contexts):
            return None
        self.safety.read_asked(self.contexts)
        return self.contexts
