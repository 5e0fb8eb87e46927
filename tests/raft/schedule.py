"""Random schedules: one seed is one run of everything that may happen to a cluster.

First faults, with safety checked all the way; then all is healed, and the cluster must come to one
leader and one log in bounded time. How faulty a run is varies with its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from resplock.raft import configurations
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Member
from resplock.types import Index, NodeId
from tests.raft.cluster import Cluster

SERVERS_MAX = 7
TICK_MS = 50


class Schedule:
    """One run. `run` raises AssertionError, or a Violation, when something is wrong."""

    def __init__(self, seed: int, steps: int = 300) -> None:
        self.rng = rng = random.Random(seed)
        self.steps = steps
        check_quorum = rng.random() < 0.5
        self.cluster = cluster = Cluster(
            rng.choice((1, 2, 3, 3, 3, 4, 5)),
            seed,
            election_ticks=4,
            pre_vote=rng.random() < 0.5,
            check_quorum=check_quorum,
            lease=check_quorum and rng.random() < 0.7,
            tick_ms=TICK_MS,
            inflight_messages_max=rng.choice((1, 3, 256)),
            append_bytes_max=rng.choice((1, 150, 1 << 20)),
            committed_bytes_max=rng.choice((1, 1 << 20)),
            tail_bytes_max=rng.choice((1, 300, 1 << 20)),
        )
        cluster.syncs_late = seed % 2 == 0
        cluster.feeds_few = seed % 3 == 0
        for core in cluster.cores():
            core.feeds_few = cluster.feeds_few
        cluster.loss = rng.choice((0.0, 0.0, 0.05, 0.2))
        cluster.repeat = rng.choice((0.0, 0.1))
        cluster.reorder = rng.choice((0.0, 0.3))
        self.pace = rng.choice((1, 2, 4))
        self.paused: set[NodeId] = set()
        self.down: set[tuple[NodeId, NodeId]] = set()  # who sees the link to whom as broken
        self.incarnations = dict.fromkeys(cluster.servers, 0)
        self.seen = dict(self.incarnations)  # when a link to it was last reported as broken
        self.wiped: NodeId | None = None
        self.disk_speeds = {id: rng.choice((0.2, 1.0, 1.0, 1.0)) for id in cluster.servers}
        events: list[tuple[Callable[[], None], float]] = [
            (self.tick, 40),
            (self.propose, 20),
            (self.read, 10),
            (self.campaign, rng.choice((0, 0, 2, 6))),
            (self.crash, rng.choice((0, 1, 3))),
            (self.restart, 10),
            (self.crash_briefly, rng.choice((0, 1, 4))),
            (self.cut, rng.choice((0, 1, 3))),
            (self.heal, 2),
            (self.compact, rng.choice((0, 4))),
            (self.change_membership, rng.choice((0, 0, 8))),
            (self.transfer, rng.choice((0, 1, 3))),
            (self.pause, rng.choice((0, 0, 2, 4))),
            (self.break_links, rng.choice((0, 1, 4))),
            (self.mend_links, 4),
            (self.stand_now, 4),
            (self.wipe, rng.choice((0, 0, 2))),
        ]
        self.events, self.weights = zip(*events, strict=True)

    def run(self) -> Cluster:
        for event in self.rng.choices(self.events, self.weights, k=self.steps):
            for _ in range(self.pace):
                self.work()
                self.deliver()
            event()
        self.cluster.safety.check_logs()
        self.recover()
        return self.cluster

    def up(self) -> NodeId:
        return self.rng.choice([core.id for core in self.cluster.cores()])

    def victim(self) -> NodeId:
        """Somebody who is up, and often leads."""
        leaders = self.cluster.leaders()
        return self.rng.choice(leaders).id if leaders and self.rng.random() < 0.5 else self.up()

    # --- what goes on all the time ---------------------------------------------------------------

    def work(self) -> None:
        """Each server takes up work, or comes to the end of writing a batch."""
        for core in self.cluster.cores():
            if core.id in self.paused:
                continue
            if self.cluster.servers[core.id].open is None:
                self.cluster.begin(core.id)
            elif self.rng.random() < self.disk_speeds.get(core.id, 1.0):
                self.cluster.finish(core.id)

    def deliver(self) -> None:
        flying = self.cluster.flying
        for _ in range(self.rng.randrange(len(flying) + 2)):
            if flying and flying[0].to_id in self.paused:
                flying.append(flying.pop(0))
            elif flying:
                self.cluster.deliver_some(self.paused)

    # --- what may happen -------------------------------------------------------------------------

    def tick(self) -> None:
        """A tick of real time, which a process that counts ticks may miss, and a clock never does."""
        self.cluster.advance_clocks(TICK_MS)
        for core in self.cluster.cores():
            if self.rng.random() < 0.7 and core.id not in self.paused:
                core.tick()
                self.cluster.sync(core.id)

    def campaign(self) -> None:
        """One or two at once."""
        for _ in range(self.rng.randrange(1, 3)):
            self.cluster.core(self.up()).campaign()

    def propose(self) -> None:
        for leader in self.cluster.leaders():
            for _ in range(self.rng.randrange(1, 3)):
                self.cluster.propose(leader.id, self.rng.randrange(1, 6))

    def read(self) -> None:
        for leader in self.cluster.leaders():
            if leader.id not in self.paused:
                self.cluster.read(leader.id)

    def crash(self) -> None:
        """Gone until `restart`."""
        if len(self.cluster.cores()) == 1:
            return
        self.stop(self.victim())

    def crash_briefly(self) -> None:
        """Gone and back before anybody has noticed."""
        id = self.victim()
        self.stop(id)
        self.start(id)

    def stop(self, id: NodeId) -> None:
        """At any moment: before the batch is synced, after it, or after what it lets go is sent."""
        self.paused.discard(id)
        moment = self.rng.choice(("", "persist", "send"))
        if moment and (self.cluster.servers[id].open or self.cluster.begin(id)):
            self.cluster.finish(id, crash_after=moment)
        else:
            self.cluster.crash(id)

    def restart(self) -> None:
        down = [server.id for server in self.cluster.servers.values() if server.core is None]
        if down:
            self.start(self.rng.choice(down))

    def start(self, id: NodeId) -> None:
        """It knows of no links, and some of the others see it come back."""
        self.cluster.restart(id)
        self.began(id)
        for core in self.cluster.cores():
            if core.id != id and self.rng.random() < 0.5:
                core.report_link_up(id, same_incarnation=False)
                self.down.discard((core.id, id))

    def began(self, id: NodeId) -> None:
        self.incarnations[id] += 1
        self.down = {(observer, peer) for observer, peer in self.down if observer != id}

    def cut(self) -> None:
        """One direction between two servers, or two sides, often with a leader in the minority."""
        ids = list(self.cluster.servers)
        if self.rng.random() < 0.2:
            self.cluster.cut.add((self.rng.choice(ids), self.rng.choice(ids)))
        else:
            others = self.rng.sample(ids, self.rng.randrange(len(ids) // 2 + 1))
            self.cluster.partition([self.victim(), *others])

    def heal(self) -> None:
        self.cluster.heal()

    def compact(self) -> None:
        id = self.up()
        server = self.cluster.servers[id]
        if server.open is None and self.cluster.core(id).applied_index > server.disk.snapshot.index:
            self.cluster.compact(id, keep=self.rng.choice((0, 5)))

    def transfer(self) -> None:
        """To anybody, also to who cannot lead."""
        for leader in self.cluster.leaders():
            leader.transfer(self.rng.choice([None, *self.cluster.servers]))

    def pause(self) -> None:
        """A process stands still and its clock does not; or it goes on, and what waited is read."""
        if self.paused:
            self.paused.clear()
            self.read()
            for leader in self.cluster.leaders():
                self.cluster.work(leader.id)
        else:
            self.paused.add(self.victim())

    def break_links(self) -> None:
        """Some see their link to somebody break, rightly or not: messages may arrive all the same."""
        peer = self.victim()
        self.seen[peer] = self.incarnations[peer]
        for core in self.cluster.cores():
            if core.id != peer and self.rng.random() < 0.7:
                core.report_link_down(peer)
                self.down.add((core.id, peer))

    def mend_links(self) -> None:
        for observer, peer in sorted(self.down):
            core = self.cluster.servers[observer].core
            if core is not None and self.rng.random() < 0.5:
                core.report_link_up(peer, self.seen[peer] == self.incarnations[peer])
                self.down.discard((observer, peer))

    def stand_now(self) -> None:
        """Early, or too early."""
        core = self.cluster.core(self.up())
        if core.take_stand_in_ms() is not None or self.rng.random() < 0.2:
            core.stand_now()

    def wipe(self) -> None:
        """One directory at a time is lost, and only where the others are a majority without it.

        The links to the server that was are gone with it, and what it had sent.
        """
        id = self.up()
        if self.wiped is not None or not self.can_do_without(id):
            return
        self.wiped = id
        self.paused.discard(id)
        self.cluster.wipe(id)
        self.began(id)
        flying = self.cluster.flying
        flying[:] = [message for message in flying if message.from_id != id]
        for core in self.cluster.cores():
            if core.id != id:
                core.report_link_up(id, same_incarnation=False)

    def can_do_without(self, id: NodeId) -> bool:
        """Whether every configuration that may be in effect has three voters, and it is one."""
        cores = [server.core for server in self.cluster.servers.values()]
        return all(
            core is not None
            and all(
                len(configuration.voters) >= 3 and id in configurations.ids(configuration.voters)
                for _, configuration in core.membership.steps
                if configuration.voters
            )
            for core in cores
        )

    def change_membership(self) -> None:
        for leader in self.cluster.leaders():
            leader.propose_configuration(self.next_configuration(leader))

    def next_configuration(self, leader: RaftCore) -> Configuration:
        old = leader.configuration
        members = configurations.ids(old.voters + old.learners)
        if self.wiped is not None:
            return self.with_wiped(old, self.wiped)
        if old.learners and self.rng.random() < 0.6:
            return configurations.with_voter(old, self.rng.choice(old.learners).id)
        if len(members) > 1 and self.rng.random() < 0.4:
            return configurations.without(old, self.rng.choice(members))
        if len(self.cluster.servers) >= SERVERS_MAX:
            return old
        id = NodeId(f"n{len(self.cluster.servers) + 1}")
        self.cluster.add_server(id)
        self.incarnations[id] = self.seen[id] = 0
        return configurations.with_learner(old, Member(id, f"u-{id}"))

    def with_wiped(self, old: Configuration, id: NodeId) -> Configuration:
        """It is taken in again, and nothing else is changed until it votes."""
        member = Member(id, self.cluster.servers[id].uuid)
        if member in old.voters:
            self.wiped = None
            return old
        if member in old.learners:
            return configurations.with_voter(old, id)
        return configurations.with_replacement(old, member)

    # --- and how it must end ---------------------------------------------------------------------

    def recover(self, rounds: int = 300) -> None:
        """Once nothing fails any more, all members come to the same log."""
        cluster = self.cluster
        cluster.loss = cluster.repeat = cluster.reorder = 0.0
        cluster.heal()
        self.paused.clear()
        for server in list(cluster.servers.values()):
            if server.core is None:
                self.start(server.id)
        for core in cluster.cores():
            for id in cluster.servers:
                if id != core.id:
                    core.report_link_up(id, same_incarnation=True)
        self.pass_time(rounds, self.is_even)
        assert self.is_even(), "the cluster does not recover"
        for core in cluster.cores():
            core.feeds_few = False  # everybody is to be even without a tick now
        goal = cluster.leader().last_index
        self.pass_time(rounds, lambda: self.go_on(goal))
        assert self.go_on(goal), "the cluster has recovered, but does not go on"
        cluster.safety.check_logs()

    def pass_time(self, rounds: int, is_done: Callable[[], bool]) -> None:
        for _ in range(rounds):
            if is_done():
                return
            self.cluster.advance_clocks(TICK_MS)
            for core in self.cluster.cores():
                core.tick()
                self.cluster.sync(core.id)
            self.cluster.settle()
            self.change_membership_of_wiped()

    def change_membership_of_wiped(self) -> None:
        for leader in self.cluster.leaders():
            if self.wiped is not None and leader.id != self.wiped:
                leader.propose_configuration(self.with_wiped(leader.configuration, self.wiped))

    def go_on(self, goal: Index) -> bool:
        """Propose. Whether something behind `goal` has reached everybody.

        A removed server may depose the leader meanwhile, unless voters ignore it.
        """
        for leader in self.cluster.leaders():
            self.cluster.propose(leader.id)
            self.cluster.settle()
            leader.announce_commit()
            self.cluster.settle()
        return self.is_even() and self.cluster.leader().last_index > goal

    def is_even(self) -> bool:
        """Whether there is a leader, and every member has applied all that it has."""
        if not self.cluster.leaders():
            return False
        leader = self.cluster.leader()
        configuration = leader.configuration
        members = configurations.ids(configuration.voters + configuration.learners)
        applied = {self.cluster.core(id).applied_index for id in members}
        return applied == {leader.last_index}
