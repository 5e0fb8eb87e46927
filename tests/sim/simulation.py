"""One seed: a cluster lives through faults, is healed, serves again, and comes to rest.

First only safety is demanded. Then everything is mended, or all but a minority, and within bounded
time new clients must get and give back locks on every lock (liveness). In the end nobody asks any
more, and all replicas must hold the same, which is what the clients' histories say.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from resplock import limits
from resplock.operations import ClientId, InDoubt
from resplock.raft import transfer
from resplock.raft.entries import Configuration, Member
from resplock.types import LockName, NodeId
from tests.sim import knobs as knobs_module
from tests.sim.asking import wait_us
from tests.sim.clients import Client, Connection, Resource, first_keys
from tests.sim.faults import Faults, Operator
from tests.sim.history import Call, History
from tests.sim.host import Host, Process
from tests.sim.knobs import Knobs
from tests.sim.linearizable import NEVER
from tests.sim.network import Network
from tests.sim.safety import Safety
from tests.sim.transfer import Transfers
from tests.sim.world import MS, S, Violation, World

_SETTLE = 5 * S


@dataclass
class Report:
    """What came of a seed."""

    seed: int
    digest: str
    violation: str = ""
    virtual_us: int = 0
    calls: int = 0
    answered: int = 0
    entries: int = 0
    faults: int = 0
    terms: int = 0
    transfers: int = 0
    resumed: int = 0
    unknown: int = 0
    unfenced_lost: int = 0
    met: Counter[str] = field(default_factory=Counter)


class Simulation:
    """See the module."""

    def __init__(
        self, seed: int, tell: Callable[[str], None] | None = None, knobs: Knobs | None = None
    ) -> None:
        self.world = World(seed, tell)
        self.knobs = knobs or knobs_module.draw_world(self.world)
        self.rng: random.Random = self.world.rng("simulation")
        self.history = History(first_keys(self.knobs.keys), has_lines=self.knobs.has_lines)
        self.resources: dict[LockName, Resource] = {key: Resource() for key in self.history.keys}
        self.network = Network(self.world, self.knobs)
        self.servers: dict[str, Host] = {}
        """Every server that ever was, by its uuid."""
        self.connections: dict[ClientId, Connection] = {}
        """Every one that ever was."""
        self.safety = Safety(self)
        self.transfers = Transfers(self)
        self._incarnations = 0
        self.rate_max = (1000 + self.knobs.drift_permille) / 1000
        ids = [NodeId(f"n{number + 1}") for number in range(self.knobs.servers)]
        bootstrap = Configuration(
            tuple(Member(id, f"u-{id}", f"{id}:7379", f"{id}:17379") for id in ids)
        )
        for id in ids:
            self._make_host(id, f"u-{id}", bootstrap)
        self.operator = Operator(self, self.hosts())
        self.faults = Faults(self)
        self.clients = [Client(self, number) for number in range(self.knobs.clients)]
        self.world.note("sim", f"seed {seed}: {self.knobs}")

    # --- hosts -----------------------------------------------------------------------------------

    def hosts(self) -> list[Host]:
        """Every machine that is in use, in the order of the ids."""
        return list(self.network.hosts.values())

    def processes(self) -> list[Process]:
        """Every process that is up."""
        return [host.process for host in self.network.hosts.values() if host.process is not None]

    def next_incarnation(self) -> int:
        """A number for a process: later ones have higher numbers."""
        self._incarnations += 1
        return self._incarnations

    def add_host(self, id: NodeId, uuid: str) -> Host:
        """An empty server that belongs to no configuration."""
        return self._make_host(id, uuid, None)

    def _make_host(self, id: NodeId, uuid: str, bootstrap: Configuration | None) -> Host:
        host = self.network.hosts[id] = self.servers[uuid] = Host(self, id, uuid, bootstrap)
        return host

    def remove_host(self, host: Host) -> None:
        """It is gone for good."""
        if self.network.hosts.get(host.id) is host:
            del self.network.hosts[host.id]

    def process_ended(self, process: Process, power: bool) -> None:
        """Its connections break, if its machine still runs to close them."""
        self.network.process_ended(process, is_seen=not power)
        if not power:
            for connection in process.connections:
                self.world.after(self.network.delay_us(), connection.break_off)

    def sync_us(self, host: Host) -> int:
        """How long a sync takes."""
        knobs = self.knobs
        return (knobs.sync + int(host.rng.random() * knobs.sync_jitter)) * host.sync_factor

    # --- the phases ------------------------------------------------------------------------------

    def run(self, until_us: int = NEVER) -> Report:
        """All of it, or its faulty phase up to a moment. What is wrong is in the report."""
        violation = ""
        with _constants(self.knobs):
            try:
                self._begin()
                self.world.run(min(until_us, self.knobs.faulty))
                if until_us > self.knobs.faulty:
                    self._finish()
            except Violation as found:
                violation = str(found)
                self.world.note("sim", f"VIOLATION {violation}")
        return self._report(violation)

    def _begin(self) -> None:
        for host in self.hosts():
            host.start()
        self.operator.start()
        self.faults.start()
        for client in self.clients:
            client.start()

    def _finish(self) -> None:
        self._heal()
        self._demand_progress()
        self._come_to_rest()
        self._check_all()

    def _heal(self) -> None:
        """Nothing fails any more."""
        self.world.note("sim", "all is mended")
        self.safety.calm_since = min(self.safety.calm_since, self.world.now + 5 * S)
        self.faults.is_over = True
        self.operator.restarts_at_once = True
        self.network.heal()
        self.network.jitter = min(self.knobs.jitter, 10 * MS)
        for host in self.hosts():
            host.disk.is_full = False
            host.sync_factor = 1
            if host.process is not None:
                host.process.fuse = None
                host.process.go_on()

    def _demand_progress(self) -> None:
        """A leader, soon; the membership that is wanted; and answers for everybody who asks."""
        start = self.world.now
        bound = start + self.knobs.healed
        answered = sum(call.is_answered for call in self.history.calls)
        while self.world.now < bound:
            self.world.run(self.world.now + 500 * MS)
        if self.operator.is_busy:
            raise Violation(f"the membership is not what it should be: {self._states()}")
        unanswered = [
            call
            for call in self.history.calls
            if start + 5 * S <= call.invoked + wait_us(call.command) < bound - S
            and call.invoked >= max(start, bound - 5 * S - wait_us(call.command))
            and not (call.is_answered or call.is_refused or self._is_excused(call))
        ]
        if unanswered:
            raise Violation(f"{unanswered[0]} was not answered in a healed cluster")
        if sum(call.is_answered for call in self.history.calls) <= answered:
            raise Violation(f"no answers in a healed cluster: {self._states()}")

    def _is_excused(self, call: Call) -> bool:
        """Whether its client did not stay for the answer, or may have been told too early that there
        is none: its node's clock may run so much faster than the leader's."""
        if call.is_left or self.clients[call.client].is_watcher:
            return True
        drift_ms = 2 * self.knobs.drift_permille * wait_us(call.command) // (1000 * MS)
        return isinstance(call.result, InDoubt) and drift_ms > self.knobs.election_timeout_ms

    def _states(self) -> str:
        return ", ".join(
            f"{each.id} {each.core.role.name} term {each.core.term} "
            f"{each.core.applied_index}/{each.core.commit_index}/{each.core.last_index}"
            for each in self.processes()
        )

    def _come_to_rest(self) -> None:
        """Nobody asks, and everybody catches up."""
        for client in self.clients:
            client.stop()
        self.world.run(self.world.now + self.knobs.patience + self._longest_end())
        end = self.world.now + _SETTLE
        while self.world.now < end:
            self.world.run(self.world.now + 100 * MS)
            applied = {process.core.applied_index for process in self.processes()}
            if len(applied) == 1 and len(self.processes()) == len(self.hosts()):
                if not any(process.node.departing for process in self.processes()):
                    return
        raise Violation(f"the replicas do not come to one state: {self._states()}")

    def _longest_end(self) -> int:
        """How long the wait or the grace that ends last may take, with an errand for it."""
        knobs = self.knobs
        if not knobs.has_lines:
            return 0
        longest = 2 * knobs.longest_wait + knobs.patience + knobs.waiter_grace_ms * MS
        return int(longest * self.rate_max) + S

    def _check_all(self) -> None:
        processes = self.processes()
        self.safety.check_equal(processes)
        for process in processes:
            self.safety.check_logs(process)
        table = processes[0].node.table
        self.safety.check_nobody_waits(table)
        self.safety.check_nothing_leaks()
        final = {
            name: tuple(chain.from_iterable((hold.owner, hold.version) for hold in lock.holds))
            for name, lock in table.locks
        }
        self.history.check(final, self.world.now, self.rate_max)
        for name, resource in self.resources.items():
            if resource.lost:
                raise Violation(f"H8: {resource.lost} fenced updates of {name!r} were lost")

    def _report(self, violation: str) -> Report:
        calls = self.history.calls
        return Report(
            seed=self.world.seed,
            digest=self.world.trace.digest(),
            violation=violation,
            virtual_us=self.world.now,
            calls=len(calls),
            answered=sum(call.is_answered for call in calls),
            entries=len(self.safety.history),
            faults=self.faults.count,
            terms=len(self.safety.leaders),
            transfers=self.transfers.finished,
            resumed=self.transfers.resumed,
            unknown=self.history.unknown,
            unfenced_lost=sum(resource.unfenced_lost for resource in self.resources.values()),
            met=self.safety.met,
        )


@contextmanager
def _constants(knobs: Knobs) -> Iterator[None]:
    """Constants are smaller in some worlds, for all replicas alike."""
    wanted: list[tuple[Any, str, int]] = [
        (limits, "REQUEST_REMEMBERED_MS", knobs.request_remembered_ms),
        (limits, "REQUESTS_PER_OWNER", knobs.requests_per_owner),
        (limits, "ENDS_PER_ENTRY", knobs.ends_per_entry),
        (limits, "WAITERS_PER_LOCK", knobs.waiters_per_lock),
        (limits, "WAITER_GRACE_MS", knobs.waiter_grace_ms),
        (limits, "NODE_GONE_MS", knobs.node_gone_ms),
        (transfer, "SNAPSHOT_CHUNK_BYTES_MAX", knobs.snapshot_chunk_bytes),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    try:
        for module, name, value in wanted:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> Report:
    """Run one seed."""
    return Simulation(seed, tell).run()
