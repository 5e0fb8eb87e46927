"""What strikes, when, and for how long; and the operator, who mends what does not mend itself.

Faults lose no more than what Raft promises to survive: the data of at most one voter, and only of
three or more, may be damaged or wiped before its replacement votes, and nobody shrinks the cluster
meanwhile. All else may strike at any time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from resplock.node import Result
from resplock.node.administration import AddServer, RemoveServer, Request, Transfer
from resplock.raft import configurations
from resplock.raft.entries import Configuration
from resplock.types import NodeId
from tests.sim.host import Host, Process
from tests.sim.world import MS, chance

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

SERVERS_MAX = 5
_FUSE_MAX = 40


class Faults:
    """Lets each kind of fault that this world has strike at random."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self.rng: random.Random = simulation.world.rng("faults")
        self.is_over = False
        self.count = 0
        self._kinds: dict[str, Callable[[], None]] = {
            "kill": self.kill,
            "power": self.cut_power,
            "blackout": self.black_out,
            "pause": self.pause,
            "partition": self.partition,
            "one-way": self.cut_one_way,
            "bad-link": self.worsen_links,
            "slow-disk": self.slow_disk,
            "full-disk": self.fill_disk,
            "damage": self.damage,
            "wipe": self.wipe,
            "clock-jump": self.jump_clock,
            "membership": self.change_membership,
            "rolling-restart": self.restart_all,
            "transfer": self.transfer,
        }

    def start(self) -> None:
        """Begin."""
        for kind, mean in self._simulation.knobs.faults.items():
            self._world.after(chance(self.rng, mean), self._strike, kind, mean)

    def _strike(self, kind: str, mean: int) -> None:
        if not self.is_over:
            self.count += 1
            self._kinds[kind]()
            self._world.after(chance(self.rng, mean), self._strike, kind, mean)

    def _lasts(self, least: int = 50 * MS, mean: int = 1500 * MS) -> int:
        return least + chance(self.rng, mean)

    def _victim(self) -> Process | None:
        """A process that is up; often the leader."""
        processes = self._simulation.processes()
        if not processes:
            return None
        leaders = [process for process in processes if process.core.is_leader]
        return self.rng.choice(leaders if leaders and self.rng.random() < 0.5 else processes)

    # --- processes -------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9, now or at some step of a turn; then a restart."""
        self._end(power=False)

    def cut_power(self) -> None:
        """As `kill`, and what was not synced may be gone."""
        self._end(power=True)

    def _end(self, power: bool) -> None:
        process = self._victim()
        if process is None:
            return
        if self.rng.random() < 0.7:
            process.fuse, process.fuse_cuts_power = self.rng.randrange(1, _FUSE_MAX), power
        else:
            process.host.kill(power)

    def black_out(self) -> None:
        """The power fails for all at once."""
        for process in self._simulation.processes():
            process.host.kill(power=True)

    def pause(self) -> None:
        """SIGSTOP and, later, SIGCONT."""
        process = self._victim()
        if process is not None and not process.is_stopped:
            self._world.note(process.id, "is stopped")
            process.stop()
            self._world.after(self._lasts(), self._go_on, process)

    def _go_on(self, process: Process) -> None:
        if not process.is_dead and process.is_stopped:
            self._world.note(process.id, "goes on")
            process.go_on()

    def restart_all(self) -> None:
        """One after the other."""
        for number, host in enumerate(self._simulation.hosts()):
            self._world.after(number * self._lasts(300 * MS, 500 * MS) + 1, host.kill)

    # --- the network -----------------------------------------------------------------------------

    def partition(self) -> None:
        """Two sides; one of them is often the leader alone."""
        process = self._victim()
        ids = [host.id for host in self._simulation.hosts()]
        if process is None or len(ids) < 2:
            return
        others = [id for id in ids if id != process.id]
        friends = self.rng.sample(others, self.rng.randrange(len(others)))
        side = {process.id, *friends}
        self._block([(a, b) for a in ids for b in ids if (a in side) != (b in side)])

    def cut_one_way(self) -> None:
        """Nothing passes from one to another, or from one to all."""
        process = self._victim()
        ids = [host.id for host in self._simulation.hosts() if process and host.id != process.id]
        if process is None or not ids:
            return
        chosen = ids if self.rng.random() < 0.5 else [self.rng.choice(ids)]
        if self.rng.random() < 0.5:
            self._block([(process.id, id) for id in chosen])
        else:
            self._block([(id, process.id) for id in chosen])

    def _block(self, directions: list[tuple[NodeId, NodeId]]) -> None:
        self._world.note("net", "cut " + " ".join(f"{a}>{b}" for a, b in directions))
        self._simulation.network.block(directions)
        self._world.after(self._lasts(), self._unblock, directions)

    def _unblock(self, directions: list[tuple[NodeId, NodeId]]) -> None:
        if not self.is_over:
            self._simulation.network.unblock(directions)

    def worsen_links(self) -> None:
        """Loss and long delays for everybody, for a while."""
        network, knobs = self._simulation.network, self._simulation.knobs
        network.loss = self.rng.choice((0.05, 0.3))
        network.jitter = self.rng.choice((50 * MS, 400 * MS))
        self._world.note("net", f"loses {network.loss}, delays up to {network.jitter} us")

        def mend() -> None:
            network.loss = 0.0 if self.is_over else knobs.loss
            network.jitter = knobs.jitter

        self._world.after(self._lasts(), mend)

    # --- disks and clocks ------------------------------------------------------------------------

    def slow_disk(self) -> None:
        """Every sync takes much longer, for a while."""
        host = self.rng.choice(self._simulation.hosts())
        host.sync_factor = self.rng.choice((10, 100))
        self._world.note(host.id, f"syncs {host.sync_factor} times as slowly")

        def mend() -> None:
            host.sync_factor = 1

        self._world.after(self._lasts(), mend)

    def fill_disk(self) -> None:
        """The next write fails, and the process ends; there is room again after a while."""
        host = self.rng.choice(self._simulation.hosts())
        host.disk.is_full = True

        def mend() -> None:
            host.disk.is_full = False

        self._world.after(self._lasts(), mend)

    def damage(self) -> None:
        """A bit flips: in the log, at its end, or in the newest snapshot. The process is killed."""
        host = self._expendable()
        if host is None:
            return
        host.kill()
        host.has_lost_entries = True
        dice = self.rng.randrange(3)
        if dice == 0 and host.disk.files:
            host.disk.files[-1].is_damaged = True
            self._world.note(host.id, "has a damaged snapshot")
        elif dice == 1 and host.disk.kept:
            host.disk.lose_tail(self.rng.randrange(1, 5))
            self._world.note(host.id, "has lost the end of its log")
        else:
            host.disk.is_damaged = True
            self._world.note(host.id, "has a damaged log")

    def wipe(self) -> None:
        """The data directory is gone."""
        host = self._expendable()
        if host is not None:
            host.kill()
            self._simulation.operator.replace(host)

    def _expendable(self) -> Host | None:
        """Whose data may be lost without losing what was acknowledged."""
        hosts = self._simulation.hosts()
        voters = self._simulation.operator.voters()
        if len(voters) < 3 or any(host.has_lost_entries for host in hosts):
            return None
        if self._simulation.operator.is_busy:
            return None
        return self.rng.choice([host for host in hosts if host.id in voters] or [None])

    def jump_clock(self) -> None:
        """Unix time jumps: nothing may depend on it."""
        host = self.rng.choice(self._simulation.hosts())
        jump_ms = self.rng.choice((-3_600_000, -5_000, 700, 5_000, 3_600_000))
        host.clock.unix_offset_ms += jump_ms
        self._world.note(host.id, f"has its unix time moved by {jump_ms} ms")

    # --- the operator's work ---------------------------------------------------------------------

    def change_membership(self) -> None:
        """One more server, or one fewer."""
        operator = self._simulation.operator
        voters = operator.voters()
        if operator.is_busy or any(host.has_lost_entries for host in self._simulation.hosts()):
            return
        if len(voters) > 1 and (len(voters) >= SERVERS_MAX or self.rng.random() < 0.5):
            operator.remove(self.rng.choice(voters))
        else:
            operator.add()

    def transfer(self) -> None:
        """Another server is to lead."""
        voters = self._simulation.operator.voters()
        chosen = self.rng.choice((None, *voters))
        self._simulation.operator.request(Transfer(chosen))


class Operator:
    """Whoever looks after the cluster: restarts, replaces, adds and removes servers.

    Works towards `_wanted`, the members that there should be, one change of membership at a time.
    """

    _EVERY = 150 * MS
    _PATIENCE = 2_000 * MS

    def __init__(self, simulation: Simulation, members: Sequence[Host]) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._rng = simulation.world.rng("operator")
        self._wanted: dict[NodeId, str] = {host.id: host.uuid for host in members}
        self._made = len(members)
        self._replaced = 0
        self._asked_until = 0
        self.restarts_at_once = False

    def start(self) -> None:
        """Begin to look after it."""
        self._world.after(self._EVERY, self._look)

    # --- what is wanted --------------------------------------------------------------------------

    def voters(self) -> list[NodeId]:
        """Who should vote in the end."""
        return list(self._wanted)

    @property
    def is_busy(self) -> bool:
        """Whether the membership is not yet, everywhere it counts, what it should be."""
        leader = self._leader()
        if leader is None:
            return True
        configuration = leader.core.configuration
        committed = leader.core.membership.index <= leader.core.commit_index
        return not committed or not self._is_reached(configuration)

    def _is_reached(self, configuration: Configuration) -> bool:
        voters = {member.id: member.uuid for member in configuration.voters}
        return voters == self._wanted and not configuration.learners

    def add(self) -> None:
        """One more server."""
        self._made += 1
        id = NodeId(f"n{self._made}")
        host = self._simulation.add_host(id, f"u-{id}")
        self._wanted[id] = host.uuid
        self._world.note(id, "is to be added")

    def remove(self, id: NodeId) -> None:
        """One fewer."""
        del self._wanted[id]
        self._world.note(id, "is to be removed")

    def replace(self, host: Host) -> None:
        """Its data is of no use: an empty server takes its place, under the same id."""
        if host.is_retired:
            return
        host.is_retired = True
        self._replaced += 1
        uuid = f"u-{host.id}-{self._replaced}"
        if host.id in self._wanted:
            self._wanted[host.id] = uuid
        self._world.note(host.id, "gets an empty data directory")
        self._simulation.add_host(host.id, uuid)

    # --- working towards it ----------------------------------------------------------------------

    def _look(self) -> None:
        self._world.after(self._EVERY, self._look)
        for host in self._simulation.hosts():
            if host.process is None and (self.restarts_at_once or self._rng.random() < 0.2):
                host.start()
        leader = self._leader()
        if leader is not None:
            self._ask_for_change(leader)
            self._notice(leader)

    def _ask_for_change(self, leader: Process) -> None:
        """The next request that brings the membership closer to what is wanted."""
        if self._asked_until > self._world.now:
            return
        request = self._next(leader.core.configuration)
        if request is not None:
            self._asked_until = self._world.now + self._PATIENCE
            self.request(request)

    def _next(self, now: Configuration) -> Request | None:
        members = {member.id: member.uuid for member in now.voters + now.learners}
        for id in sorted(members):
            if id not in self._wanted and len(members) > 1:
                return RemoveServer(id)
        for id, uuid in sorted(self._wanted.items()):
            host = self._simulation.network.hosts.get(id)
            if members.get(id) != uuid and host is not None and host.uuid == uuid:
                return AddServer(host.member)
        return None

    def request(self, request: Request) -> None:
        """Ask any node."""
        processes = self._simulation.processes()
        if processes:
            process = self._rng.choice(processes)
            self._world.note(process.id, f"is asked for {request}")
            process.call(process.node.administer, self, request)

    def deliver(self, results: Sequence[Result]) -> None:
        """The answer to a request."""
        self._asked_until = 0
        self._world.note("op", f"is answered {results[0]!r}")

    def abort(self) -> None:
        """There is no answer."""

    def _leader(self) -> Process | None:
        """The leader of the latest term."""
        leaders = [each for each in self._simulation.processes() if each.core.is_leader]
        return max(leaders, key=lambda each: each.core.term, default=None)

    def _notice(self, leader: Process) -> None:
        """Servers that were removed are switched off; who has caught up has lost nothing."""
        core = leader.core
        if core.membership.index > core.commit_index:
            return
        configuration = core.configuration
        members = configurations.ids(configuration.voters + configuration.learners)
        for host in self._simulation.hosts():
            is_removed = f"{host.id}/{host.uuid}" in configuration.removed
            if is_removed or (host.id not in self._wanted and host.id not in members):
                host.kill()
                host.is_retired = True
                self._simulation.remove_host(host)
            elif host.has_lost_entries and not host.disk.has_lost and not host.disk.is_damaged:
                if host.disk.last_index >= core.commit_index and host.process is not None:
                    host.has_lost_entries = False
