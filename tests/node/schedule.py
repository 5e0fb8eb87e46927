"""Random schedules of three whole nodes and their clients: one seed is one run.

First faults, then all is healed. Checked is what clients rely on:

- every command is answered, each once, in the order in which its client asked;
- NoLeader, Busy and Moved are true: such a command is never in the committed log;
- every other result is what a replay of the committed log gives, and no command is in it twice;
- a try that was refused and is not in the log was refused by what held the lock meanwhile, after all
  that its client had asked before;
- one client's commands are in the log in the order in which it asked;
- a query sees the state somewhere between what was committed when it was asked and when it was
  answered;
- a client that waits in line is answered once, as its place ended in that replay, and nothing that it
  is granted after it has left stays held;
- nothing stays attached to processes that are over;
- all replicas apply one log, and end with one state.

Each command's encoding occurs once in a run, so that it can be found in the log.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from resplock import limits
from resplock.node import Result
from resplock.node.administration import Transfer
from resplock.node.messages import NodeMessage, decode, encode
from resplock.operations import (
    Acquire,
    Blocked,
    Break,
    Busy,
    CheckVersion,
    ClientId,
    Disconnect,
    GetLock,
    Granted,
    Held,
    InDoubt,
    KeepAlive,
    LockInfo,
    Moved,
    NoLeader,
    Operation,
    Options,
    Query,
    Renew,
    Unblock,
    Undelivered,
    decode_run,
    encode_run,
)
from resplock.raft.entries import Entry, EntryKind, Member
from resplock.raft.messages import Message
from resplock.state.snapshots import restore
from resplock.state.table import LockTable
from resplock.types import Index, NodeId
from tests.node.servers import TICK_MS, Server, image, member_of, name

NAMES = ("n1", "n2", "n3")
KEYS = ("a", "b", "c")
CLIENTS = 3
"""Of each server."""
HEALED_MS_MAX = 3 * limits.ANSWER_MS_MAX
GONE_MS_MAX = limits.WAITER_GRACE_MS + 2 * limits.NODE_GONE_MS
"""Within so long after all is healed, nothing is left of who has gone."""
CERTAIN = (NoLeader, Busy, Moved)
"""Answers that say that nothing was done."""


class Asked:
    """What one client asked at once, and what came of it."""

    def __init__(
        self, commands: Sequence[Operation] | Query, committed: int, waits: bool = False
    ) -> None:
        self.commands = commands
        self.waits = waits
        """It is one operation that may wait in line."""
        self.since = committed
        """What was committed when it was asked."""
        self.results: list[Result] = []
        self.until = 0
        """And when it was answered."""


class Asker:
    """A client, which goes when its server's process does."""

    def __init__(self, schedule: Schedule, label: str, id: ClientId) -> None:
        self.schedule = schedule
        self.label = label
        self.id = id
        self.has_left = False
        self.outstanding: deque[Asked] = deque()
        self.asked: list[Asked] = []

    @property
    def may_submit(self) -> bool:
        if not self.outstanding:
            return True
        last = self.outstanding[-1]
        return not last.waits and not isinstance(last.commands, Query)

    @property
    def may_ask(self) -> bool:
        return not self.outstanding or isinstance(self.outstanding[-1].commands, Query)

    @property
    def waits(self) -> bool:
        return bool(self.outstanding) and self.outstanding[-1].waits

    def begin(self, commands: Sequence[Operation] | Query, *, waits: bool = False) -> None:
        asked = Asked(commands, self.schedule.committed_index, waits)
        self.asked.append(asked)
        self.outstanding.append(asked)

    def deliver(self, results: Sequence[Result]) -> None:
        """What was submitted together is answered together."""
        assert self.outstanding, f"{self.label} was answered twice: {results}"
        asked = self.outstanding.popleft()
        wanted = 1 if isinstance(asked.commands, Query) else len(asked.commands)
        assert len(results) == wanted, f"{self.label}: {len(results)} answers to {wanted} commands"
        asked.results = [] if self.has_left else list(results)
        asked.until = self.schedule.committed_index

    def abort(self) -> None:
        raise AssertionError("its answer could be delivered")


class Operator:
    """Whoever wants a transfer: answered once, whatever the answer is."""

    def __init__(self) -> None:
        self.answers = 0

    def deliver(self, results: Sequence[Result]) -> None:
        self.answers += len(results)

    def abort(self) -> None:
        raise AssertionError("its answer could be delivered")


class Machine(Server):
    """A server of a schedule: its process may be restarted, and its directory lost."""

    def __init__(
        self,
        schedule: Schedule,
        id: str,
        voters: Sequence[str],
        uuid: str,
        incarnation: int = 1,
    ) -> None:
        self.schedule = schedule
        self.member = member_of(id, uuid)
        self.files: dict[int, list[bytes]] = {}
        self.clients: list[Asker] = []
        self.stands = False
        super().__init__(voters, id, uuid=uuid, incarnation=incarnation, **schedule.config)
        self.meet_clients()

    def meet_clients(self) -> None:
        self.clients = [self.meet_client() for _ in range(CLIENTS)]

    def meet_client(self) -> Asker:
        serial = self.schedule.next_serial()
        id = ClientId(self.id, self.incarnation, serial)
        client = Asker(self.schedule, f"{self.id}/{self.incarnation}/{serial}", id)
        self.schedule.clients.append(client)
        return client

    def work(self) -> None:
        node = self.node
        while node.has_ready():
            ready = node.ready()
            self.outbox.extend(ready.send_now)
            if ready.installed is not None:
                self.chunks = self.files[ready.installed.index]
            self.log.persist(ready)
            self.outbox.extend(ready.send_after_persist)
            self.schedule.saw(ready.committed)
            node.advance(ready)
            for id in ready.snapshots_wanted:
                self.schedule.transfers.append((self, id))
        for client, results in node.take_answers():
            if client is not None:
                client.deliver(results)
        self.mail.extend(node.take_messages())
        self.stands = self.stands or node.core.take_stand_in_ms() is not None

    def pass_tick(self, tick_ms: int = TICK_MS) -> None:
        self.now_ms += tick_ms
        self.unix_ms += tick_ms
        self.sync()
        if self.stands:
            self.stands = False
            self.node.core.stand_now()
        self.node.tick(self.now_ms)
        self.turn()

    def snapshot(self) -> None:
        super().snapshot()
        self.files[self.log.snapshot.index] = self.chunks
        unsynced = self.log.unsynced
        self.log.unsynced = [each for each in unsynced if each.last > self.log.snapshot.index]

    def restart(self) -> None:
        self.log.crash()
        self.incarnation += 1
        self.outbox.clear()
        self.mail.clear()
        self.stands = False
        self.meet_clients()
        self.start()


class Schedule:
    """One run. `run` raises AssertionError when something is wrong."""

    def __init__(self, seed: int, steps: int = 500) -> None:
        self.rng = rng = random.Random(seed)
        self.steps = steps
        self.config: dict[str, Any] = {
            "uncommitted_bytes_max": rng.choice((1, 300, 1 << 20)),
            "inflight_messages_max": rng.choice((1, 256)),
            "committed_bytes_max": rng.choice((1, 1 << 20)),
            "redirects": rng.random() < 0.15,
        }
        self.clients: list[Asker] = []
        self.operators: list[Operator] = []
        self.history: dict[int, Entry] = {}
        self.committed_index = 0
        self.transfers: list[tuple[Machine, NodeId]] = []
        self.met: Counter[str] = Counter()
        self.has_installed: set[str] = set()
        """Servers that have seen a snapshot instead of a stretch of the log."""
        self.serial = 0
        self.lives = 1
        self.servers = {id: Machine(self, id, NAMES, f"u-{id}") for id in NAMES}
        self.wires: dict[tuple[str, str], deque[Message | NodeMessage]] = {}
        """Of the links that are up, one way each."""
        self.mutes: set[str] = set()
        """Servers of whom nobody hears, though their links are up."""
        self.pairs = [("n1", "n2"), ("n1", "n3"), ("n2", "n3")]
        for pair in self.pairs:
            self.link(*pair)
        self.events: list[tuple[Callable[[], object], int]] = [
            (self.submit, 30),
            (self.ask, rng.choice((0, 10))),
            (self.wait, rng.choice((0, 10, 20))),
            (self.leave, rng.choice((0, 1, 3))),
            (self.unblock, rng.choice((0, 1))),
            (self.turn, 30),
            (self.move, 120),
            (self.tick, 20),
            (self.pass_time, 1),
            (self.lose, rng.choice((0, 0, 5))),
            (self.cut, rng.choice((0, 2, 5))),
            (self.mend, rng.choice((4, 20))),
            (self.mute, rng.choice((0, 0, 1))),
            (self.unmute, 2),
            (self.flap, rng.choice((0, 0, 1))),
            (self.campaign, rng.choice((0, 1, 3))),
            (self.step_down, rng.choice((0, 1, 3))),
            (self.hand_over, rng.choice((0, 1))),
            (self.snapshot, rng.choice((0, 6))),
            (self.send_snapshot, 5),
            (self.restart, rng.choice((0, 0, 1))),
            (self.wipe, rng.choice((0, 0, 1))),
        ]

    def run(self) -> Schedule:
        self.servers["n1"].node.core.campaign()
        self.quieten()
        events, weights = zip(*self.events, strict=True)
        for _ in range(self.steps):
            self.rng.choices(events, weights)[0]()
        self.heal()
        self.wait_for_the_gone()
        self.judge()
        return self

    # --- clients ---------------------------------------------------------------------------------

    def submit(self) -> None:
        server = self.server()
        client = self.rng.choice(server.clients)
        if client.may_submit:
            commands = [self.command() for _ in range(self.rng.choice((1, 1, 2, 4)))]
            client.begin(commands)
            server.node.submit(client, commands)

    def command(self) -> Operation:
        """One that was never given before."""
        rng, serial = self.rng, self.next_serial()
        key, owner = rng.choice(KEYS), rng.choice(("me", "you"))
        match rng.randrange(4):
            case 0:
                return Break(name(key), reason=b"%d" % serial)
            case 1:
                return Renew(name(key), owner.encode(), ttl_ms=20_000 + serial)
            case 2:
                return KeepAlive(owner.encode(), versions=((name(key), 10**9 + serial),))
        ttl_ms = rng.choice((0, 100, 500, 5_000))
        return Acquire(name(key), owner.encode(), ttl_ms, metadata=((b"id", b"%d" % serial),))

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    def wait(self) -> None:
        """Wait in line, under a name of its own; or take over the wait of one that has that name."""
        server = self.server()
        client = self.rng.choice(server.clients)
        if not client.may_submit:
            return
        rng, serial = self.rng, self.next_serial()
        earlier = [each for other in self.clients for each in other.asked if each.waits]
        options = Options(
            wait_ms=rng.choice((50, 500, 5_000)),
            priority=rng.choice((0, 0, 1)),
            on_close=rng.random() < 0.3,
            client=client.id,
        )
        owner, key, request = b"w%d" % serial, name(rng.choice(KEYS)), b""
        if earlier and rng.random() < 0.2:
            again = rng.choice(earlier).commands[0]
            assert isinstance(again, Acquire)
            owner, key, request = again.owner, again.name, again.request
        elif rng.random() < 0.4:
            request = b"r%d" % serial
        metadata = ((b"id", b"%d" % serial),)
        operation = Acquire(key, owner, rng.choice((0, 0, 500)), request, metadata, options)
        client.begin([operation], waits=True)
        server.node.submit_waiting(client, operation)

    def leave(self) -> None:
        """A client closes its connection, and another comes."""
        server = self.server()
        waiting = [client for client in server.clients if client.waits]
        candidates = waiting if waiting and self.rng.random() < 0.5 else server.clients
        client = self.rng.choice(candidates)
        server.clients.remove(client)
        server.clients.append(server.meet_client())
        client.has_left = True
        if any(asked.waits for asked in client.asked):
            self.met["leaves while it waits"] += client.waits
            server.node.disconnect(client.id)

    def unblock(self) -> None:
        waiting = [client for client in self.present() if client.waits]
        if waiting:
            operator, id = Operator(), self.rng.choice(waiting).id
            self.operators.append(operator)
            self.server().node.submit(operator, [Unblock(id, self.rng.random() < 0.5)])

    def ask(self) -> None:
        server = self.server()
        client = self.rng.choice(server.clients)
        if client.may_ask:
            key = name(self.rng.choice(KEYS))
            version = self.rng.randint(max(self.committed_index - 20, 1), self.committed_index + 1)
            query = self.rng.choice((GetLock(key), CheckVersion(key, version)))
            client.begin(query)
            server.node.ask(client, query)

    # --- what nodes do ---------------------------------------------------------------------------

    def server(self) -> Machine:
        return self.servers[self.rng.choice(NAMES)]

    def turn(self) -> None:
        self.server().turn()

    def move(self) -> None:
        """Put on the wire what servers send, and let some of it arrive."""
        for _ in range(self.rng.choice((1, 1, 4))):
            self.collect()
            ways = [way for way, wire in self.wires.items() if wire and way[0] not in self.mutes]
            if not ways:
                return
            way = self.rng.choice(ways)
            self.arrive(*way, self.wires[way].popleft())
            if self.rng.random() < 0.5:
                self.servers[way[1]].turn()

    def collect(self) -> None:
        for server in self.servers.values():
            while server.outbox:
                message = server.outbox.popleft()
                wire = self.wires.get((server.id, message.to_id))
                if wire is not None:
                    wire.append(message)
            while server.mail:
                to_id, mail = server.mail.popleft()
                wire = self.wires.get((server.id, to_id))
                if wire is not None:
                    wire.append(decode(encode(mail)))

    def arrive(self, from_id: str, to_id: str, message: Message | NodeMessage) -> None:
        node = self.servers[to_id].node
        if isinstance(message, Message):
            node.step(message)
        else:
            self.met[type(message).__name__] += 1
            node.receive(NodeId(from_id), message)

    def lose(self) -> None:
        """A Raft message on its way is lost: unlike a node's, it may be."""
        wire = self.rng.choice(list(self.wires.values()) or [deque()])
        for position, message in enumerate(wire):
            if isinstance(message, Message):
                del wire[position]
                return

    def tick(self) -> None:
        for server in self.servers.values():
            server.pass_tick()

    def pass_time(self) -> None:
        """One server is alone with the time, or nobody hears anything."""
        servers = self.rng.choice((list(self.servers.values()), [self.server()]))
        for _ in range(self.rng.choice((5, 30, 60))):
            for server in servers:
                server.pass_tick()

    def saw(self, entries: Sequence[Entry]) -> None:
        """A server applies these: they are what any other has applied there."""
        for entry in entries:
            known = self.history.setdefault(entry.first, entry)
            assert known == entry, f"two entries at {entry.first}: {known} and {entry}"
            self.committed_index = max(self.committed_index, entry.last)

    # --- links and leaders -----------------------------------------------------------------------

    def link(self, one: str, two: str) -> None:
        for from_id, to_id in ((one, two), (two, one)):
            self.wires[from_id, to_id] = deque()
            server = self.servers[from_id]
            self.servers[to_id].node.member_seen(server.member)
            self.servers[to_id].node.link_up(NodeId(from_id), server.incarnation)

    def unlink(self, one: str, two: str) -> None:
        self.collect()
        for from_id, to_id in ((one, two), (two, one)):
            if self.wires.pop((from_id, to_id), None) is not None:
                self.servers[to_id].node.link_down(NodeId(from_id))

    def cut(self) -> None:
        self.unlink(*self.rng.choice(self.pairs))

    def mend(self) -> None:
        down = [pair for pair in self.pairs if pair not in self.wires]
        if down:
            self.link(*self.rng.choice(down))

    def mute(self) -> None:
        """A server hears the others, and is not heard, until `unmute`."""
        self.mutes.add(self.server().id)

    def unmute(self) -> None:
        self.mutes.clear()

    def flap(self) -> None:
        """One of a link's connections breaks, and one end has noticed that long ago: what it asked
        since came over the other connection, and what it is answered is lost."""
        one, two = self.rng.choice(self.pairs)
        if (one, two) in self.wires:
            self.collect()
            self.wires[one, two].clear()
            self.servers[one].node.link_down(NodeId(two))
            self.servers[one].node.link_up(NodeId(two), self.servers[two].incarnation)
            self.met["flaps"] += 1

    def campaign(self) -> None:
        self.server().node.core.campaign()

    def step_down(self) -> None:
        for server in self.leaders():
            server.node.core.step_down()
            if self.rng.random() < 0.5:
                server.turn()

    def leaders(self) -> list[Machine]:
        return [server for server in self.servers.values() if server.node.core.is_leader]

    def hand_over(self) -> None:
        operator = Operator()
        self.operators.append(operator)
        server, wanted = self.server(), self.rng.choice((None, *NAMES))
        server.node.administer(operator, Transfer(None if wanted is None else NodeId(wanted)))

    # --- disks -----------------------------------------------------------------------------------

    def snapshot(self) -> None:
        server = self.server()
        if server.node.core.applied_index > server.log.snapshot.index:
            server.snapshot()

    def send_snapshot(self) -> None:
        if not self.transfers:
            return
        sender, to_id = self.transfers.pop(self.rng.randrange(len(self.transfers)))
        if self.servers[sender.id] is not sender or not sender.log.snapshot.index:
            return
        meta, receiver = sender.log.snapshot, self.servers[to_id]
        ok = (sender.id, to_id) in self.wires and self.rng.random() < 0.8
        if ok:
            receiver.files[meta.index] = sender.chunks
            if receiver.node.snapshot_received(meta, restore(iter(sender.chunks))):
                self.met["snapshots"] += 1
                self.has_installed.add(to_id)
            receiver.turn()
        sender.node.core.report_snapshot(to_id, Index(meta.index), ok)

    def restart(self) -> None:
        """Lose what was not synced, and whoever was connected."""
        server = self.server()
        pairs = self.pairs_of(server)
        for pair in pairs:
            self.unlink(*pair)
        server.restart()
        self.operators.clear()
        for pair in pairs:
            self.link(*pair)

    def wipe(self) -> None:
        """Lose a directory, when the last one that was lost has its place again."""
        server = self.server()
        members = {each.member for each in self.servers.values()}
        if not any(self.has_committed(leader, members) for leader in self.leaders()):
            return
        pairs = self.pairs_of(server)
        for pair in pairs:
            self.unlink(*pair)
        self.lives += 1
        uuid = f"u-{server.id}-{self.lives}"
        wiped = Machine(self, server.id, (), uuid, server.incarnation + 1)
        wiped.now_ms, wiped.unix_ms = server.now_ms, server.unix_ms
        self.servers[server.id] = wiped
        self.operators.clear()
        for pair in pairs:
            self.link(*pair)
        self.met["wipes"] += 1

    @staticmethod
    def has_committed(leader: Machine, members: set[Member]) -> bool:
        core = leader.node.core
        return (
            set(core.configuration.voters) == members
            and core.membership.index <= core.commit_index
            and core.commit_index >= core.term_start
        )

    def pairs_of(self, server: Machine) -> list[tuple[str, str]]:
        return [pair for pair in self.pairs if server.id in pair and pair in self.wires]

    # --- the end ---------------------------------------------------------------------------------

    def quieten(self) -> None:
        """Turn, and carry everything, until nothing moves."""
        for _ in range(2_000):
            for server in self.servers.values():
                server.turn()
            while self.transfers:
                self.send_snapshot()
            self.collect()
            moved = False
            for way, wire in self.wires.items():
                while wire:
                    moved = True
                    self.arrive(*way, wire.popleft())
            if not moved and not any(server.node.busy for server in self.servers.values()):
                return
        raise AssertionError("it never comes to rest")

    def heal(self) -> None:
        """Mend everything: in bounded time all are answered, and all have applied one log."""
        self.unmute()
        for pair in self.pairs:
            if pair not in self.wires:
                self.link(*pair)
        for _ in range(HEALED_MS_MAX // TICK_MS):
            self.tick()
            self.quieten()
            if self.is_at_rest():
                return
        waiting = [client.label for client in self.present() if client.outstanding]
        leaders = [server.id for server in self.leaders()]
        raise AssertionError(f"it does not recover: waiting {waiting}, leaders {leaders}")

    def wait_for_the_gone(self) -> None:
        """Time passes, until nothing is left of clients and processes that have gone."""
        for _ in range(GONE_MS_MAX // (10 * TICK_MS)):
            for server in self.servers.values():
                server.pass_tick(10 * TICK_MS)
            self.quieten()
        self.heal()
        lives = {(server.id, server.incarnation) for server in self.servers.values()}
        for server in self.servers.values():
            attached = set(server.node.table.attached_lives())
            assert attached <= lives, f"{server.id} has {attached - lives} attached"

    def present(self) -> list[Asker]:
        return [client for server in self.servers.values() for client in server.clients]

    def is_at_rest(self) -> bool:
        cores = [server.node.core for server in self.servers.values()]
        return (
            len(self.leaders()) == 1
            and not any(client.outstanding for client in self.present())
            and all(operator.answers for operator in self.operators)
            and len({(core.applied_index, core.last_index) for core in cores}) == 1
            and len(cores[0].configuration.voters) == len(NAMES)
        )

    def judge(self) -> None:
        """Compare what clients were told with the log."""
        tables = [image(server.node.table) for server in self.servers.values()]
        assert tables[0] == tables[1] == tables[2], "the replicas differ"
        assert all(operator.answers == 1 for operator in self.operators)
        replay = Replay(self.history)
        assert image(replay.table) == tables[0], "the replicas are not what their log says"
        for client in self.clients:
            last = 0
            for asked in client.asked:
                if asked.waits and (client.has_left or client not in self.present()):
                    self.judge_the_gone(client, asked, replay)
                if isinstance(asked.commands, Query):
                    self.judge_query(client, asked, replay)
                else:
                    last = self.judge_commands(client, asked, replay, last)

    def judge_commands(self, client: Asker, asked: Asked, replay: Replay, last: int) -> int:
        assert not isinstance(asked.commands, Query)
        results = asked.results or [InDoubt()] * len(asked.commands)
        for command, result in zip(asked.commands, results, strict=True):
            self.met[type(result).__name__] += 1
            where = replay.places.get(encode_run([command]), 0)
            if where:
                assert where > last, f"{client.label}: {command} passed an earlier one"
                last = where
            if isinstance(result, CERTAIN):
                assert not where, f"{client.label}: {result} for {command}, which is at {where}"
            elif isinstance(result, Held) and not where:
                self.judge_refusal(client, asked, command, result, replay, last)
            elif not isinstance(result, InDoubt):
                assert where, f"{client.label}: {result} for {command}, which never happened"
                expected = replay.outcomes[where]
                if isinstance(expected, Blocked):
                    expected = replay.ends.get(where, expected)
                    self.met[f"wait ends {type(expected).__name__}"] += 1
                assert result == expected, f"{client.label}: {command} at {where}"
        return last

    def judge_refusal(
        self,
        client: Asker,
        asked: Asked,
        command: Operation,
        held: Held,
        replay: Replay,
        last: int,
    ) -> None:
        """A try that is not in the log was refused by a hold of that time, or for who comes first."""
        self.met["refused by a read"] += 1
        said = f"{client.label}: {held} for {command}, after {last}"
        assert isinstance(command, Acquire), said
        assert not command.request, said
        if held.version:
            states = replay.between(max(asked.since, last), asked.until)
            assert (held.owner, held.version) in [state.get(command.name) for state in states], said
        else:
            assert held.waiters, said

    def judge_the_gone(self, client: Asker, asked: Asked, replay: Replay) -> None:
        """The log knows that it has gone, and that it was not told of what it was granted.

        A process that is over cannot say so; nor can one that has seen only a snapshot of the grant.
        """
        assert not isinstance(asked.commands, Query)
        where = replay.places.get(encode_run(asked.commands), 0)
        present = self.servers[client.id.node].incarnation
        if where and client.has_left and client.id.incarnation == present:
            assert client.id in replay.gone, f"{client.label} has left, and the log does not know"
            end = replay.ends.get(where)
            if isinstance(end, Granted) and not asked.results:
                self.met["given back"] += 1
                is_known = client.id.node in self.has_installed or end.version in replay.undelivered
                assert is_known, f"{client.label} has left, and keeps {end}"
        [operation] = asked.commands
        assert isinstance(operation, Acquire)
        if operation.options is not None and operation.options.on_close:
            lock = replay.table.locks.get(operation.name)
            hold = lock.hold_of(operation.owner) if lock is not None else None
            clients = [hold.terms.client] if hold is not None and hold.terms is not None else []
            assert client.id not in clients, f"{client.label} has left, and holds for ever"

    def judge_query(self, client: Asker, asked: Asked, replay: Replay) -> None:
        if not asked.results or isinstance(asked.results[0], CERTAIN):
            return
        [result] = asked.results
        self.met["queries"] += 1
        said = f"{client.label}: {result} for {asked.commands}"
        states = replay.between(asked.since, asked.until)
        match asked.commands:
            case GetLock(lock):
                assert result is None or isinstance(result, LockInfo), said
                is_held = result is not None and result.owner is not None
                found = (result.owner, result.version) if result and is_held else None
                assert found in [state.get(lock) for state in states], said
            case CheckVersion(lock, version):
                assert result in (0, 1), said
                held = [state.get(lock, (b"", 0))[1] == version for state in states]
                assert bool(result) in held, said


class Replay:
    """What a table makes of the committed log."""

    def __init__(self, history: dict[int, Entry]) -> None:
        self.table = LockTable()
        self.places: dict[bytes, int] = {}
        """Where a command is, by its encoding."""
        self.outcomes: dict[int, Result] = {}
        self.ends: dict[int, Result] = {}
        """How the wait with each ticket ended."""
        self.gone: set[ClientId] = set()
        """Who has left, as the log knows."""
        self.undelivered: set[int] = set()
        """Versions of grants that found nobody."""
        self._ends: list[int] = [0]
        self._states: list[dict[bytes, tuple[bytes, int]]] = [{}]
        last = 0
        for first, entry in sorted(history.items()):
            assert first == last + 1, f"nobody has applied what is at {last + 1}"
            last = entry.last
            self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        run = decode_run(entry.payload) if entry.kind is EntryKind.RUN else []
        outcomes = self.table.apply(Index(entry.first), entry.stamp_ms, run)
        for ended in self.table.take_ended():
            assert ended.ticket not in self.ends, f"{ended} is an end again"
            self.ends[ended.ticket] = ended.outcome
        for position, (command, outcome) in enumerate(zip(run, outcomes, strict=True)):
            index = entry.first + position
            self.outcomes[index] = outcome
            if isinstance(command, Disconnect):
                self.gone.update(command.clients)
            elif isinstance(command, Undelivered):
                self.undelivered.add(command.version)
            if isinstance(command, Acquire | Break | Renew | KeepAlive):
                key = encode_run([command])
                assert key not in self.places, f"{command} is at {self.places[key]} and {index}"
                self.places[key] = index
        self._ends.append(entry.last)
        self._states.append(
            {
                key: (lock.holds[0].owner, lock.holds[0].version)
                for key in map(name, KEYS)
                if (lock := self.table.locks.get(key)) is not None and lock.holds
            }
        )

    def between(self, since: int, until: int) -> list[dict[bytes, tuple[bytes, int]]]:
        """The states that were reached in that stretch of the log, its beginning's too."""
        pairs = list(zip(self._ends, self._states, strict=True))
        begin = [state for end, state in pairs if end <= since][-1:]
        return begin + [state for end, state in pairs if since < end <= until]
