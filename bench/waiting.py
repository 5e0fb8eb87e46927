"""Waiting in line, ends in masses, and subscribers: what they cost a cluster.

Needs the clone's .venv, and gcc for `subscribers`. `make bench-waiting` fetches it and runs this.

    chain        clients that are blocked in LOCK.ACQUIRE ... WAIT for one lock, and release it as
                 soon as they are told that it is theirs: hand-overs a second, beside the cycles of
                 acquire and release of one connection to the leader; whom a release wakes; memory
    latency      how long a hand-over takes, with few in line, beside twice the median of that
                 connection's acquires, each of which is one round trip and one entry that a quorum
                 has on disk
    expiry       locks that end in the same millisecond: PING meanwhile, elections, and how long it
                 takes until every node has ended them
    subscribers  the rate without contention, with and without subscribers to keys outside the load,
                 by turns, and with subscribers to a pattern that matches every key

Three nodes on this machine, with default settings, and a new cluster for each measurement. The clients
in line are connected to the leader, or to all nodes by turns: `chain` and `latency` show both. Absolute
figures depend on the machine and the moment; each is compared with others of the same run, taken right
before and after it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeAlias

from bench.client import Client
from bench.cluster import Cluster, Node
from bench.lines import Line, run
from bench.lockbench import Lockbench, parse_result
from bench.probing import Probe
from bench.report import Point
from bench.servers import (
    SPARE_FILES,
    BenchError,
    data_parent,
    raise_file_limit,
    setting,
)
from bench.subscribers import listening
from bench.terminal import bar, percentile, progress
from bench.waiters import HandOver, Waiters

WAITERS_MAX = 10_000
"""As many as one lock's queue takes."""
ALONE_S = 1.5
"""How long the one connection is measured, before and after."""
SINGLE_HANDOVERS = 20
LISTEN_S = 0.05
"""After each of them, to hear whom it has woken."""
UNITS_MAX = 2
"""How many times as long as an uncontended acquire a hand-over may take."""
OWNERS = 10
TTL_MS = 3_600_000
EXPIRY_AHEAD_MS = 5_000
"""When the locks end, from when that is set: time enough to set it for all owners, and to start the
probes."""
PROBED_BEFORE_S = 0.1
PING_MS_MAX = 50.0
EXPIRED_S_MAX = 10.0
EXPIRY_DEADLINE_S = 60.0
POLL_S = 0.01
COST_PERCENT_MAX = 10.0
WARMUP_S = 0.5

_names = itertools.count(1)


Start: TypeAlias = Callable[[], Cluster]
"""Makes a cluster, for the `with` that starts it."""


class Alone(NamedTuple):
    """What one connection to the leader does, that nobody is in the way of."""

    cycles_per_s: float
    acquire_ms: float
    """The median: a round trip, and an entry that a quorum has on disk."""


def measure_alone(leader: Node, seconds: float) -> Alone:
    """Acquire and release one lock after another, each of its own name."""
    prefix = f"alone-{next(_names)}"
    acquires_ms: list[float] = []
    with Client(leader.connect()) as client:
        began_s = time.perf_counter()
        while (asked_s := time.perf_counter()) - began_s < seconds:
            name = f"{prefix}:{len(acquires_ms)}"
            client.call("LOCK.ACQUIRE", name, "me", "TTL", "30000")
            acquires_ms.append((time.perf_counter() - asked_s) * 1000)
            client.call("LOCK.RELEASE", name, "me")
        took_s = time.perf_counter() - began_s
    return Alone(len(acquires_ms) / took_s, percentile(acquires_ms, 50))


def mean_of(before: Alone, after: Alone) -> Alone:
    """The two measurements that enclose another."""
    return Alone(*(statistics.mean(pair) for pair in zip(before, after, strict=True)))


WHERE: dict[str, Callable[[Cluster], list[Node]]] = {
    "on the leader": lambda cluster: [cluster.leader()],
    "on all nodes": lambda cluster: cluster.nodes,
}
"""Where the clients in line are connected."""


# --- chain ---------------------------------------------------------------------------------------


def measure_chain(start: Start, options: argparse.Namespace) -> Iterator[Line]:
    """Many in line: hand-overs a second, whom each wakes, memory of nodes that did nothing else."""
    for where, nodes_of in WHERE.items():
        with start() as cluster:
            yield from measure_chain_on(cluster, nodes_of(cluster), where, options)


def measure_chain_on(
    cluster: Cluster, nodes: list[Node], where: str, options: argparse.Namespace
) -> Iterator[Line]:
    count, who = options.waiters, f"{options.waiters:,} waiters {where}"
    leader = cluster.leader()
    before = measure_alone(leader, ALONE_S)
    empty_mb = memory_mb(cluster)
    progress(f"{who}: connecting")
    with Waiters(nodes, count, f"chain-{next(_names)}") as waiters:
        connected_mb = memory_mb(cluster)
        progress(f"{who}: lining up")
        waiters.line_up()
        waiting_mb = memory_mb(cluster)
        woken = [waiters.hand_over_once(LISTEN_S) for _ in range(min(SINGLE_HANDOVERS, count // 2))]
        progress(f"{who}: handing over")
        began_s = time.perf_counter()
        handovers = waiters.hand_over_all()
        took_s = time.perf_counter() - began_s
    progress("")
    alone = mean_of(before, measure_alone(leader, ALONE_S))
    yield Line("cycles a second, one connection to the leader", alone.cycles_per_s, "")
    yield Line(
        f"hand-overs a second, {who}", len(handovers) / took_s, "", at_least=alone.cycles_per_s
    )
    for word, most in (("fewest", min(woken)), ("most", max(woken))):
        yield Line(f"clients that a release wakes, {word} of {len(woken)}", most, "", 1, 1)
    for node in cluster.nodes:
        role = role_of(node, leader)
        place_kb = (waiting_mb[node.id] - connected_mb[node.id]) * 1000 / count
        yield Line(f"memory of each of {who}: {role}", place_kb, "kB")
        if node in nodes:
            connection_kb = (connected_mb[node.id] - empty_mb[node.id]) * 1000 / count * len(nodes)
            yield Line(f"  and of its connection, while idle: {role}", connection_kb, "kB")


def memory_mb(cluster: Cluster) -> dict[str, float]:
    """The resident memory of each node, by its id, once all have applied everything."""
    cluster.wait_until_whole()
    return {node.id: node.memory_mb() for node in cluster.nodes}


def role_of(node: Node, leader: Node) -> str:
    return "leader" if node is leader else f"follower {node.id}"


# --- latency -------------------------------------------------------------------------------------


def measure_latency(start: Start, options: argparse.Namespace) -> Iterator[Line]:
    """Few in line, again and again: how long each hand-over takes."""
    count = options.line
    for where, nodes_of in WHERE.items():
        who = f"{count} waiters {where}"
        handovers: list[HandOver] = []
        with start() as cluster:
            leader = cluster.leader()
            before = measure_alone(leader, ALONE_S)
            with Waiters(nodes_of(cluster), count, f"latency-{next(_names)}") as waiters:
                for number in range(options.rounds):
                    progress(f"{who}: {bar(number, options.rounds)}")
                    waiters.line_up()
                    handovers += waiters.hand_over_all()
            progress("")
            alone = mean_of(before, measure_alone(leader, ALONE_S))
        yield from latency_lines(who, alone.acquire_ms, handovers)


def latency_lines(who: str, unit_ms: float, handovers: list[HandOver]) -> Iterator[Line]:
    """The lines of one place; unit_ms: an uncontended acquire."""
    acknowledged_ms = [(each.told_s - each.acknowledged_s) * 1000 for each in handovers]
    sent_ms = [(each.told_s - each.sent_s) * 1000 for each in handovers]
    most_ms = UNITS_MAX * unit_ms
    yield Line("uncontended acquire, one connection to the leader: p50", unit_ms, "ms")
    for what, times_ms in (("acknowledged", acknowledged_ms), ("sent", sent_ms)):
        what = f"{who}: release {what} to next told"
        yield Line(f"{what}, p50", percentile(times_ms, 50), "ms", most_ms)
        yield Line(f"{what}, p99", percentile(times_ms, 99), "ms")


# --- expiry --------------------------------------------------------------------------------------


def measure_expiry(start: Start, options: argparse.Namespace) -> Iterator[Line]:
    """Many locks that end at one moment: what it does to PING, and to the term."""
    with start() as cluster:
        yield from measure_expiry_on(cluster, options)


def measure_expiry_on(cluster: Cluster, options: argparse.Namespace) -> Iterator[Line]:
    leader = cluster.leader()
    wanted = ((f"end:{number}", owner_of(number)) for number in range(options.locks))
    with Client(leader.connect()) as client:
        for held in client.hold(wanted, TTL_MS):
            if held % 10_000 == 0:
                progress(f"{held:,} of {options.locks:,} locks")
        cluster.wait_until_whole()
        progress("setting when they end")
        end_s = end_together(client, min(OWNERS, options.locks))
    terms = cluster.terms()
    probes = [Probe(node) for node in cluster.nodes]
    with ExitStack() as stack:
        for probe in probes:
            stack.enter_context(probe)
        time.sleep(max(0.0, end_s - PROBED_BEFORE_S - time.perf_counter()))
        for probe in probes:
            probe.begin()
        took_s = wait_until_empty(cluster, end_s)
    progress("")
    elections = max(cluster.terms().values()) - max(terms.values())
    yield Line("locks that end in one millisecond", options.locks, "")
    yield Line("  until every node has ended all of them", took_s, "s", EXPIRED_S_MAX)
    yield Line("  elections meanwhile", elections, "", 0, 0)
    for node, probe in zip(cluster.nodes, probes, strict=True):
        found = probe.found
        what = f"  PING meanwhile, {role_of(node, leader)}"
        yield Line(f"{what}: p99 of {found.pings:,}", found.p99_ms, "ms", PING_MS_MAX)
        yield Line(f"{what}: longest", found.max_ms, "ms")


def owner_of(number: int) -> str:
    return f"owner-{number % OWNERS}"


def end_together(client: Client, owners: int) -> float:
    """Have all locks of these owners end in one millisecond; when, on time.perf_counter.

    One command renews all that an owner holds, to one moment. For the others it is repeated until
    it has met the first one's, which is a matter of few attempts.
    """
    client.call("LOCK.KEEPALIVE", owner_of(0), "TTL", str(EXPIRY_AHEAD_MS))
    first = client.call_map("LOCK.GET", "end:0")
    end_s: float = time.perf_counter() + first["ttl_ms"] / 1000
    for number in range(1, owners):
        late_ms = 0
        while True:
            left_ms = round((end_s - time.perf_counter()) * 1000) - late_ms
            if left_ms < EXPIRY_AHEAD_MS // 5:
                raise BenchError("renewing the locks takes too long for them to end together")
            client.call("LOCK.KEEPALIVE", owner_of(number), "TTL", str(left_ms))
            found = client.call_map("LOCK.GET", f"end:{number}")
            off_ms: int = found["expires_at"] - first["expires_at"]
            if off_ms == 0:
                break
            late_ms += off_ms
    return end_s


def wait_until_empty(cluster: Cluster, end_s: float) -> float:
    """How long after `end_s` no node holds a lock any more."""
    deadline_s = end_s + EXPIRY_DEADLINE_S
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(node.connect())) for node in cluster.nodes]
        while any(client.call_map("RAFT.HEALTH")["locks"] for client in clients):
            if time.perf_counter() > deadline_s:
                raise BenchError(f"not all locks ended in {EXPIRY_DEADLINE_S:.0f} s")
            time.sleep(POLL_S)
    return time.perf_counter() - end_s


# --- subscribers ---------------------------------------------------------------------------------


def measure_subscribers(start: Start, options: argparse.Namespace) -> Iterator[Line]:
    """What those who listen cost those who lock: by turns, so that both have the same machine."""
    lockbench = Lockbench()
    with start() as cluster:
        yield from measure_subscribers_on(cluster, lockbench, options)


def measure_subscribers_on(
    cluster: Cluster, lockbench: Lockbench, options: argparse.Namespace
) -> Iterator[Line]:
    count = options.subscribers
    point = Point(options.connections)
    kinds = {
        "none": [],
        "outside": [("SUBSCRIBE", f"__keyspace@0__:outside:{each}") for each in range(count)],
        "every": [("PSUBSCRIBE", "__keyspace@0__:*")] * count,
    }
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.pairs):
        for kind in list(kinds) if number % 2 == 0 else reversed(kinds):
            progress(f"subscribers, {number + 1} of {options.pairs}: {kind}")
            leader = cluster.leader()
            with listening(leader, kinds[kind]):
                rates[kind].append(cycles_per_s(lockbench, leader, point, options.seconds))
    progress("")
    yield Line(
        f"cycles a second, {point} connections, no subscriber: median",
        statistics.median(rates["none"]),
        "",
    )
    what = f"cost of {count} subscribers,"
    outside = cost_percent(rates["none"], rates["outside"])
    yield Line(f"{what} each to a key outside the load", outside, "%", COST_PERCENT_MAX)
    yield Line(f"{what} each to every key", cost_percent(rates["none"], rates["every"]), "%")


def cycles_per_s(lockbench: Lockbench, leader: Node, point: Point, seconds: float) -> float:
    """Run lockbench once. Raises BenchError when it saw errors."""
    done = subprocess.run(
        lockbench.command(leader, point, seconds, WARMUP_S),
        capture_output=True,
        text=True,
        check=False,
    )
    found = parse_result(done.stdout, done.stderr)
    if done.returncode or found["errors"] or found["refusals"] or not found["all_cycles"]:
        raise BenchError(f"lockbench saw errors: {found}")
    return float(found["cycles_per_s"])


def cost_percent(without: list[float], with_them: list[float]) -> float:
    """By how much the rate is lower with them: the median over the turns."""
    ratios = [b / a for a, b in zip(without, with_them, strict=True)]
    return (1 - statistics.median(ratios)) * 100


# --- the command ---------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[Start, argparse.Namespace], Iterator[Line]]] = {
    "chain": measure_chain,
    "latency": measure_latency,
    "expiry": measure_expiry,
    "subscribers": measure_subscribers,
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.waiting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=3, help="default: 3")
    parser.add_argument("--waiters", type=int, default=10_000, help="of chain (default: 10000)")
    parser.add_argument("--line", type=int, default=64, help="waiters of latency (default: 64)")
    parser.add_argument("--rounds", type=int, default=20, help="of latency (default: 20)")
    parser.add_argument("--locks", type=int, default=100_000, help="of expiry (default: 100000)")
    parser.add_argument("--subscribers", type=int, default=100, help="default: 100")
    parser.add_argument(
        "--connections", type=int, default=64, help="of the load beside subscribers (default: 64)"
    )
    parser.add_argument("--pairs", type=int, default=5, help="of subscribers (default: 5)")
    parser.add_argument(
        "--seconds", type=float, default=2, help="of each run beside subscribers (default: 2)"
    )
    parser.add_argument("--only", choices=list(MEASURES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--check", action="store_true", help="exit status 1 when one is missed")
    options = parser.parse_args()
    if not 2 <= options.waiters <= WAITERS_MAX or options.line < 1:
        parser.error(f"--waiters must be 2 to {WAITERS_MAX}, --line at least 1")
    if min(options.rounds, options.locks, options.subscribers, options.pairs) < 1:
        parser.error("--rounds, --locks, --subscribers and --pairs must be at least 1")
    if options.nodes < 1 or options.connections < 1 or options.seconds <= 0:
        parser.error("--nodes, --connections and --seconds must be positive")
    return options


def measure(options: argparse.Namespace) -> Iterator[Line]:
    """Everything that is asked for."""
    parent = data_parent()
    # All who wait may be connected to one node, and this process has their other ends.
    raise_file_limit(options.waiters + 2 * SPARE_FILES, "--waiters")

    def start() -> Cluster:
        return Cluster(parent, options.nodes, "--maxclients", str(WAITERS_MAX + SPARE_FILES))

    print(setting(parent, start().version()))
    for name, each in MEASURES.items():
        if options.only in (None, name):
            yield from each(start, options)


def main() -> int:
    options = parse_options()
    return run("bench.waiting", measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
