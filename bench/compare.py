"""Speed beside Redis: this server and `redis-server --appendfsync always`, in one run.

Needs the clone's .venv, redis-server and gcc. `make bench` fetches them and runs this; `make
bench-cluster` does so with three nodes, of which the leader takes the load.

For each number of connections both servers take the same closed loop of acquire and release from
lockbench.c, by turns and in alternating order, while the other server is idle. Absolute figures
depend on the machine and the moment; the ratio within one pair is what counts, and its median over
the pairs is what is reported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from bench.cluster import Cluster
from bench.lockbench import Lockbench, parse_points, parse_result
from bench.report import TARGETS, Point, Report, Run
from bench.servers import (
    BenchError,
    Redis,
    Resplock,
    Server,
    data_parent,
    setting,
    stop_on_sigterm,
)
from bench.terminal import progress

Measured: TypeAlias = Server | Cluster


def measure(
    lockbench: Lockbench, server: Measured, point: Point, options: argparse.Namespace
) -> Run:
    """Run lockbench once against one server, or against the leader of a cluster."""
    processes = server.processes()
    cpu_s = [-process.cpu_s() for process in processes]
    done = subprocess.run(
        lockbench.command(
            processes[0], point, options.seconds, options.warmup, by_script=options.script
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    cpu_s = [before + process.cpu_s() for before, process in zip(cpu_s, processes, strict=True)]
    found = parse_result(done.stdout, done.stderr)
    if done.returncode or found["errors"] or found["refusals"] or not found["all_cycles"]:
        raise BenchError(f"lockbench at {point} against {server.name} saw errors: {found}")
    if server.processes()[0] is not processes[0]:
        raise BenchError(f"at {point} the leader of {server.name} changed: not a fair run")
    return Run(
        server=server.mode,
        point=str(point),
        cycles_per_s=found["cycles_per_s"],
        acquire_p50_ms=found["acquire_p50_us"] / 1000,
        acquire_p99_ms=found["acquire_p99_us"] / 1000,
        cpu_ms_per_1000=[each * 1e6 / found["all_cycles"] for each in cpu_s],
    )


def measure_point(
    lockbench: Lockbench, servers: list[Measured], point: Point, options: argparse.Namespace
) -> list[Run]:
    """One point, `pairs` times, the order of the servers alternating."""
    runs = []
    for pair in range(options.pairs):
        for server in servers if pair % 2 == 0 else reversed(servers):
            progress(f"{point} connections, pair {pair + 1} of {options.pairs}: {server.name}")
            runs.append(measure(lockbench, server, point, options))
    progress("")
    return runs


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--nodes", type=int, default=1, help="of resplock (default: 1)")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each server (default: 5)")
    parser.add_argument("--seconds", type=float, default=3, help="of each run (default: 3)")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before (default: 1)")
    parser.add_argument(
        "--points",
        type=parse_points,
        default=list(TARGETS[1].asked),
        metavar="LIST",
        help="connections, or connections x pipeline (default: 1,16,64,256,16x16)",
    )
    parser.add_argument(
        "--script",
        action="store_true",
        help="take locks as redis-py does on both servers: SET NX PX, and EVALSHA to release",
    )
    parser.add_argument("--only", choices=["redis", "resplock"], help="run one server alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there too")
    parser.add_argument("--check", action="store_true", help="exit status 1 when one is missed")
    options = parser.parse_args()
    if options.nodes < 1 or options.pairs < 1 or options.seconds <= 0 or options.warmup < 0:
        parser.error("--nodes, --pairs, --seconds and --warmup must be positive")
    return options


def main() -> int:
    options = parse_options()
    stop_on_sigterm()
    runs: list[Run] = []
    try:
        lockbench = Lockbench()
        parent = data_parent()
        ours = Resplock(parent) if options.nodes == 1 else Cluster(parent, options.nodes)
        both: list[Measured] = [Redis(parent), ours]
        servers = [server for server in both if options.only in (None, server.mode)]
        with ExitStack() as stack:
            for server in servers:
                stack.enter_context(server)
            print(
                f"{setting(parent, *(server.version() for server in servers))}; "
                f"{options.pairs} pairs of {options.seconds:g} s in alternating order"
            )
            report = Report(None if options.script else TARGETS.get(options.nodes))
            for point in options.points:
                found = measure_point(lockbench, servers, point, options)
                report.add(point, found)
                runs += found
    except BenchError as error:
        print(f"bench.compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    report.finish()
    if options.json:
        options.json.write_text(json.dumps([run._asdict() for run in runs], indent=1) + "\n")
    return 1 if options.check and report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
