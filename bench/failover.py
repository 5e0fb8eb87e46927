"""How long nobody gets a lock when the leader is killed, stops, or hands over.

Needs the clone's .venv. `make bench-failover` runs it.

    kill      kill -9 of the leader, to the first grant that was asked for after it
    pause     SIGSTOP of the leader, as in a silent partition, to the same
    transfer  RAFT.TRANSFER: the longest time without a grant

Three nodes on this machine, with some clients on each that take and release locks without a pause,
before, during and after. The time begins right before the signal is sent, and only clients of the
other nodes count. After each round the node is started again on its directory (or continued), and
the next round begins when all nodes have the same log.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.client import Client, checked, encode
from bench.cluster import Cluster, Node
from bench.load import GRANTED, Load, longest_gap
from bench.servers import BenchError, data_parent, setting, stop_on_sigterm
from bench.terminal import bar, percentile, progress

LOADED_S = (0.2, 0.7)
"""Under load before the event, at random, so that it comes at any moment between two heartbeats."""
AFTER_S = 0.2
"""Under load after the first grant."""
ROUND_DEADLINE_S = 30.0
DRAIN_S = 10.0
TIMEOUTS_MAX = 3
"""Election timeouts in which a leader that fell silent must be replaced."""


class Limit(NamedTuple):
    """What is asked of one percentile."""

    percent: float
    at_most_ms: float

    def __str__(self) -> str:
        name = "max" if self.percent == 100 else f"p{self.percent:g}"
        return f"{name} at most {self.at_most_ms:,.0f} ms"


class Result(NamedTuple):
    """The rounds of one kind."""

    what: str
    times_ms: list[float]
    limits: list[Limit]
    outcomes: dict[str, int]
    """How many acquires ended how, from the first round's load to the last's."""

    @property
    def reached(self) -> bool:
        """Whether all that is asked is kept."""
        return all(
            percentile(self.times_ms, limit.percent) <= limit.at_most_ms for limit in self.limits
        )


class Rounds:
    """One cluster, its load, and one function for each kind of round, which returns seconds."""

    def __init__(self, cluster: Cluster, load: Load, rng: random.Random) -> None:
        self.cluster = cluster
        self.load = load
        self.rng = rng

    def kill(self) -> float:
        """`kill -9` of the leader."""
        leader = self._leader_under_load()
        took_s = self._until_grant(leader, signal.SIGKILL)
        self.load.run(AFTER_S)
        self.load.drain(DRAIN_S)
        leader.end(signal.SIGKILL)
        leader.start()
        return took_s

    def pause(self) -> float:
        """SIGSTOP of the leader."""
        leader = self._leader_under_load()
        try:
            took_s = self._until_grant(leader, signal.SIGSTOP)
            self.load.run(AFTER_S)
        finally:
            os.kill(leader.pid, signal.SIGCONT)
        self.load.drain(DRAIN_S)
        return took_s

    def transfer(self) -> float:
        """RAFT.TRANSFER to whom the leader chooses."""
        leader = self._leader_under_load()
        with Client(leader.connect()) as admin:
            began_s = time.perf_counter()
            admin.connection.sendall(encode("RAFT.TRANSFER"))
            self.load.run_until(lambda: _readable(admin), ROUND_DEADLINE_S)
            checked(admin.read(), "RAFT.TRANSFER")
        self.load.run(AFTER_S)
        gap_s = longest_gap(self.load.grants, began_s, time.perf_counter())
        self.load.drain(DRAIN_S)
        if self.cluster.leader() is leader:
            raise BenchError(f"RAFT.TRANSFER was answered, and {leader.id} still leads")
        return gap_s

    def _leader_under_load(self) -> Node:
        """The leader of a whole cluster, after some time under load."""
        leader = self.cluster.wait_until_whole()
        self.load.connect()
        self.load.forget()
        self.load.run(self.rng.uniform(*LOADED_S))
        if not self.load.grants:
            raise BenchError(f"no lock was granted before the event: {self.load.outcomes}")
        return leader

    def _until_grant(self, leader: Node, number: signal.Signals) -> float:
        """Send the leader a signal; how long it took until another node's client got a lock."""
        self.load.forget()
        began_s = time.perf_counter()
        os.kill(leader.pid, number)
        sent_s = time.perf_counter()

        def granted() -> bool:
            return any(
                grant.node is not leader and grant.asked_s > sent_s for grant in self.load.grants
            )

        if not self.load.run_until(granted, ROUND_DEADLINE_S):
            raise BenchError(
                f"no lock was granted in {ROUND_DEADLINE_S:.0f} s after {number.name} of "
                f"{leader.id}; so far: {dict(self.load.outcomes)}"
            )
        return time.perf_counter() - began_s


class Kind(NamedTuple):
    """One kind of round."""

    what: str
    run: Callable[[Rounds], float]
    limits: list[Limit]


def kinds(election_timeout_ms: int) -> dict[str, Kind]:
    """All kinds, by the name that --only takes."""
    return {
        "kill": Kind(
            "kill -9 of the leader, to the first grant",
            Rounds.kill,
            [Limit(50, 100), Limit(99, 1000)],
        ),
        "pause": Kind(
            "SIGSTOP of the leader, to the first grant",
            Rounds.pause,
            [Limit(100, TIMEOUTS_MAX * election_timeout_ms)],
        ),
        "transfer": Kind(
            "transfer of leadership, longest time without a grant",
            Rounds.transfer,
            [Limit(99, 50)],
        ),
    }


def measure(kind: Kind, rounds: Rounds, number: int) -> Result:
    """So many rounds of one kind."""
    load = rounds.load
    load.outcomes.clear()
    times_ms: list[float] = []
    for done in range(number):
        median = f", median {percentile(times_ms, 50):,.0f} ms" if times_ms else ""
        progress(f"{kind.what} {bar(done, number)}{median}")
        times_ms.append(kind.run(rounds) * 1000)
    progress("")
    return Result(kind.what, times_ms, kind.limits, dict(load.outcomes))


def _readable(client: Client) -> bool:
    return bool(select.select([client.connection], [], [], 0)[0])


def times_header() -> str:
    """The header of the lines of `times`."""
    return f"{'':54} {'rounds':>6} {'p50':>9} {'p99':>9} {'max':>9}"


def times(result: Result) -> str:
    """One kind's line: percentiles, what is asked, and whether it is kept."""
    shown = " ".join(
        f"{percentile(result.times_ms, percent):6,.0f} ms" for percent in (50, 99, 100)
    )
    asked = ", ".join(str(limit) for limit in result.limits)
    word = "reached" if result.reached else "MISSED"
    return f"{result.what:54} {len(result.times_ms):6} {shown}   {asked}: {word}"


def replies(results: list[Result]) -> list[str]:
    """A table of how the acquires ended, those that were granted first."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.outcomes)
    names = [GRANTED, *sorted(set(total) - {GRANTED})]
    width = max(9, *(len(name) for name in names))
    return [
        f"{'replies to LOCK.ACQUIRE':54} " + " ".join(f"{name:>{width}}" for name in names),
        *(
            f"{result.what:54} "
            + " ".join(f"{result.outcomes.get(name, 0):{width},}" for name in names)
            for result in results
        ),
    ]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.failover",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=100, help="of each kind (default: 100)")
    parser.add_argument("--nodes", type=int, default=3, help="default: 3")
    parser.add_argument("--clients", type=int, default=8, help="on each node (default: 8)")
    parser.add_argument("--election-timeout-ms", type=int, default=500, help="default: 500")
    parser.add_argument("--seed", type=int, default=1, help="of when in a round (default: 1)")
    parser.add_argument("--only", choices=list(kinds(500)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--check", action="store_true", help="exit status 1 when one is missed")
    options = parser.parse_args()
    if options.rounds < 1 or options.clients < 1 or options.nodes < 3:
        parser.error("--rounds and --clients must be at least 1, --nodes at least 3")
    return options


def measure_all(options: argparse.Namespace) -> list[Result]:
    """Every kind that is asked for, on one cluster."""
    parent = data_parent()
    timeout_ms = options.election_timeout_ms
    cluster = Cluster(parent, options.nodes, "--election-timeout-ms", str(timeout_ms))
    results = []
    with cluster, Load(cluster.nodes, options.clients) as load:
        print(
            f"{setting(parent, cluster.version())}; election timeout {timeout_ms} ms; "
            f"{options.clients} clients on each node"
        )
        print(times_header())
        rounds = Rounds(cluster, load, random.Random(options.seed))
        for name, kind in kinds(timeout_ms).items():
            if options.only in (None, name):
                results.append(measure(kind, rounds, options.rounds))
                print(times(results[-1]), flush=True)
    return results


def main() -> int:
    options = parse_options()
    stop_on_sigterm()
    gc.disable()  # a collection here would look like an outage there
    try:
        results = measure_all(options)
    except (BenchError, OSError) as error:
        print(f"bench.failover: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print("", *replies(results), sep="\n")
    if options.json:
        options.json.write_text(json.dumps([each._asdict() for each in results], indent=1) + "\n")
    return 1 if options.check and not all(result.reached for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
