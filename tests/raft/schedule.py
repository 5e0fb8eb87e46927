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


class Schedule:
    """One run. `run` raises AssertionError, or a Violation, when something is wrong."""

    def __init__(self, seed: int, steps: int = 300) -> None:
        self.rng = rng = random.Random(seed)
        self.steps = steps
        self.cluster = cluster = Cluster(
            rng.choice((1, 2, 3, 3, 3, 4, 5)),
            seed,
            election_ticks=4,
            pre_vote=rng.random() < 0.5,
            check_quorum=rng.random() < 0.5,
            inflight_messages_max=rng.choice((1, 3, 256)),
            append_bytes_max=rng.choice((1, 150, 1 << 20)),
            committed_bytes_max=rng.choice((1, 1 << 20)),
            tail_bytes_max=rng.choice((1, 300, 1 << 20)),
        )
        cluster.loss = rng.choice((0.0, 0.0, 0.05, 0.2))
        cluster.repeat = rng.choice((0.0, 0.1))
        cluster.reorder = rng.choice((0.0, 0.3))
        self.pace = rng.choice((1, 2, 4))
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
            if self.cluster.servers[core.id].open is None:
                self.cluster.begin(core.id)
            elif self.rng.random() < self.disk_speeds.get(core.id, 1.0):
                self.cluster.finish(core.id)

    def deliver(self) -> None:
        for _ in range(self.rng.randrange(len(self.cluster.flying) + 2)):
            if self.cluster.flying:
                self.cluster.deliver_some()

    # --- what may happen -------------------------------------------------------------------------

    def tick(self) -> None:
        """A tick each for about half of the servers: their clocks need not agree."""
        for core in self.cluster.cores():
            if self.rng.random() < 0.7:
                core.tick()

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
        self.cluster.restart(id)

    def stop(self, id: NodeId) -> None:
        """At any moment: before the batch is synced, after it, or after what it lets go is sent."""
        moment = self.rng.choice(("", "persist", "send"))
        if moment and (self.cluster.servers[id].open or self.cluster.begin(id)):
            self.cluster.finish(id, crash_after=moment)
        else:
            self.cluster.crash(id)

    def restart(self) -> None:
        down = [server.id for server in self.cluster.servers.values() if server.core is None]
        if down:
            self.cluster.restart(self.rng.choice(down))

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

    def change_membership(self) -> None:
        for leader in self.cluster.leaders():
            leader.propose_configuration(self.next_configuration(leader))

    def next_configuration(self, leader: RaftCore) -> Configuration:
        old = leader.configuration
        members = configurations.ids(old.voters + old.learners)
        if old.learners and self.rng.random() < 0.6:
            return configurations.with_voter(old, self.rng.choice(old.learners).id)
        if len(members) > 1 and self.rng.random() < 0.4:
            return configurations.without(old, self.rng.choice(members))
        if len(self.cluster.servers) >= SERVERS_MAX:
            return old
        id = NodeId(f"n{len(self.cluster.servers) + 1}")
        self.cluster.add_server(id)
        return configurations.with_learner(old, Member(id, f"u-{id}"))

    # --- and how it must end ---------------------------------------------------------------------

    def recover(self, rounds: int = 300) -> None:
        """Once nothing fails any more, all members come to the same log."""
        cluster = self.cluster
        cluster.loss = cluster.repeat = cluster.reorder = 0.0
        cluster.heal()
        for server in list(cluster.servers.values()):
            if server.core is None:
                cluster.restart(server.id)
        self.pass_time(rounds, self.is_even)
        assert self.is_even(), "the cluster does not recover"
        goal = cluster.leader().last_index
        self.pass_time(rounds, lambda: self.go_on(goal))
        assert self.go_on(goal), "the cluster has recovered, but does not go on"
        cluster.safety.check_logs()

    def pass_time(self, rounds: int, is_done: Callable[[], bool]) -> None:
        for _ in range(rounds):
            if is_done():
                return
            for core in self.cluster.cores():
                core.tick()
            self.cluster.settle()

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
