"""No election without a reason: the term of every node while the leader is under full load.

Needs the clone's .venv and gcc. `make bench-stability` fetches them and runs this.

Three nodes on this machine; lockbench.c keeps the leader busy, and with it both cores. A leader
whose heartbeats come too late is replaced, which raises the term: it must not happen.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.cluster import Cluster
from bench.lockbench import Lockbench, parse_point, parse_result
from bench.report import Point
from bench.servers import BenchError, data_parent, setting, stop_on_sigterm
from bench.terminal import bar, progress

WATCH_S = 1.0
WARMUP_S = 1.0


class Result(NamedTuple):
    """One run."""

    minutes: float
    leaders: tuple[str, str]
    """Before and after."""
    terms: tuple[int, int]
    """The highest of any node, before and after."""
    changes: list[str]
    """Each rise of the term that was seen, with the time since the beginning."""
    load: dict[str, Any]
    """What lockbench printed."""

    @property
    def elections(self) -> int:
        """How often the term rose."""
        return self.terms[1] - self.terms[0]

    @property
    def reached(self) -> bool:
        """Whether nothing happened that should not."""
        return not self.elections and not self.load["errors"]


def measure(cluster: Cluster, lockbench: Lockbench, point: Point, minutes: float) -> Result:
    """Load the leader for so long and watch the terms."""
    leader = cluster.wait_until_whole()
    term = first_term = max(cluster.terms().values())
    changes: list[str] = []
    process = subprocess.Popen(
        lockbench.command(leader, point, minutes * 60, WARMUP_S),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    began = time.monotonic()
    try:
        while process.poll() is None:
            passed_s = time.monotonic() - began
            term_now = max(cluster.terms().values(), default=term)
            if term_now > term:
                changes.append(f"{passed_s:,.0f} s: term {term} -> {term_now}")
                term = term_now
            progress(f"{bar(passed_s, minutes * 60)} term {term}, {len(changes)} elections")
            time.sleep(WATCH_S)
        output, errors = process.communicate()
    finally:
        process.kill()
        process.wait()
        progress("")
    leader_after = cluster.wait_until_whole()
    last_term = max(cluster.terms().values())
    return Result(
        minutes,
        (leader.id, leader_after.id),
        (first_term, last_term),
        changes,
        parse_result(output, errors),
    )


def show(point: Point, result: Result) -> None:
    """The table."""
    load = result.load
    cycles = load["all_cycles"]
    lines = [
        ("connections", str(point)),
        ("minutes of load", f"{result.minutes:g}"),
        ("cycles of acquire and release", f"{cycles:,}"),
        ("cycles a second", f"{load['cycles_per_s']:,.0f}"),
        ("acquire, 99 %", f"{load['acquire_p99_us'] / 1000:,.1f} ms"),
        ("longest time without a reply", f"{load['longest_gap_us'] / 1000:,.1f} ms"),
        ("errors", f"{load['errors']:,}   0 asked: {_word(not load['errors'])}"),
        ("leader, before and after", " ".join(result.leaders)),
        ("term, before and after", " ".join(str(term) for term in result.terms)),
        ("elections", f"{result.elections}   0 asked: {_word(not result.elections)}"),
    ]
    for what, value in lines:
        print(f"{what:34} {value}")
    for change in result.changes:
        print(f"  {change}")


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.stability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30, help="default: 30")
    parser.add_argument("--nodes", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--point",
        type=parse_point,
        default=Point(64),
        help="connections, or connections x pipeline, such as 16x16 (default: 64)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--check", action="store_true", help="exit status 1 after an election")
    options = parser.parse_args()
    if options.minutes <= 0 or options.nodes < 1:
        parser.error("--minutes and --nodes must be positive")
    return options


def main() -> int:
    options = parse_options()
    stop_on_sigterm()
    try:
        lockbench = Lockbench()
        parent = data_parent()
        with Cluster(parent, options.nodes) as cluster:
            print(setting(parent, cluster.version()))
            result = measure(cluster, lockbench, options.point, options.minutes)
    except (BenchError, OSError) as error:
        print(f"bench.stability: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    show(options.point, result)
    if options.json:
        options.json.write_text(json.dumps(result._asdict(), indent=1) + "\n")
    return 1 if options.check and not result.reached else 0


if __name__ == "__main__":
    sys.exit(main())
