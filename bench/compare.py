"""Speed beside Redis: this server and `redis-server --appendfsync always`, in one run.

Standard library only; needs redis-server and gcc. `make bench` fetches them and runs this.

For each number of connections both servers take the same closed loop of acquire and release from
lockbench.c, by turns and in alternating order, while the other server is idle. Absolute figures
depend on the machine and the moment; the ratio within one pair is what counts, and its median over
the pairs is what is reported.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from bench.servers import (
    ROOT,
    BenchError,
    Redis,
    Resplock,
    Server,
    data_parent,
    file_system,
    find_program,
    stop_on_sigterm,
)

NOISE = 0.9
"""A point may fall this far below what is asked; the geometric mean may not."""


RUN_NUMBERS = itertools.count(1)


class Point(NamedTuple):
    """One load: so many connections with so many cycles in flight on each."""

    connections: int
    pipeline: int = 1

    def __str__(self) -> str:
        return f"{self.connections}" + (f"x{self.pipeline}" if self.pipeline > 1 else "")


ASKED = {Point(1): 0.6, Point(16): 0.75, Point(64): 0.75, Point(256): 0.75, Point(16, 16): 0.7}
"""The least ratio to Redis that one node must reach."""
AIM = {Point(1): 0.75, Point(16): 1.0, Point(64): 1.0, Point(256): 1.0, Point(16, 16): 1.0}


class Run(NamedTuple):
    """What one run of lockbench against one server showed."""

    server: str
    point: str
    cycles_per_s: float
    acquire_p50_ms: float
    acquire_p99_ms: float
    cpu_ms_per_1000: float


def build_lockbench() -> Path:
    """Compile lockbench when it is missing or older than its source."""
    source, binary = ROOT / "bench" / "lockbench.c", ROOT / "bench" / "lockbench"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        compiler = find_program(
            os.environ.get("CC", "gcc"), "run `make bench`, or scripts/fetch-gcc"
        )
        done = subprocess.run(
            [compiler, "-O2", "-o", str(binary), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{compiler} cannot build {source}:\n{done.stderr.strip()}")
    return binary


def measure(lockbench: Path, server: Server, point: Point, seconds: float, warmup_s: float) -> Run:
    """Run lockbench once against one server."""
    # Names of its own: the last run has left the locks held that it was about to release.
    prefix = f"bench-{next(RUN_NUMBERS)}"
    cpu_before = server.cpu_s()
    done = subprocess.run(
        [
            *(str(lockbench), "-m", server.mode, "-p", str(server.port)),
            *("-c", str(point.connections), "-P", str(point.pipeline)),
            *("-d", str(seconds), "-w", str(warmup_s), "-k", prefix),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    cpu_s = server.cpu_s() - cpu_before
    if not done.stdout:
        raise BenchError(f"lockbench at {point} against {server.name}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    if done.returncode or found["errors"] or found["refusals"] or not found["all_cycles"]:
        raise BenchError(f"lockbench at {point} against {server.name} saw errors: {found}")
    return Run(
        server=server.mode,
        point=str(point),
        cycles_per_s=found["cycles_per_s"],
        acquire_p50_ms=found["acquire_p50_us"] / 1000,
        acquire_p99_ms=found["acquire_p99_us"] / 1000,
        cpu_ms_per_1000=cpu_s * 1e6 / found["all_cycles"],
    )


def measure_point(
    lockbench: Path, servers: list[Server], point: Point, options: argparse.Namespace
) -> list[Run]:
    """One point, `pairs` times, the order of the servers alternating."""
    runs = []
    for pair in range(options.pairs):
        for server in servers if pair % 2 == 0 else reversed(servers):
            progress(f"{point} connections, pair {pair + 1} of {options.pairs}: {server.name}")
            runs.append(measure(lockbench, server, point, options.seconds, options.warmup))
    progress("")
    return runs


class Report:
    """The table as it grows, and the verdict."""

    def __init__(self) -> None:
        self.medians: dict[Point, float] = {}
        self.missed = False
        print(
            f"{'connections':>11}  {'server':8} {'cycles/s':>9} {'acquire p50':>12} {'p99':>9}"
            f" {'server CPU':>15}  {'ratio':>5} {'min..max':>11}  {'asked':>5} {'aim':>4}"
        )

    def add(self, point: Point, runs: list[Run]) -> None:
        """Print the lines of one point."""
        ours = [run for run in runs if run.server == "resplock"]
        theirs = [run for run in runs if run.server == "redis"]
        if theirs:
            print(figures(point, theirs), flush=True)
        if not ours:
            return
        line = figures(point, ours)
        if theirs:
            ratios = [a.cycles_per_s / b.cycles_per_s for a, b in zip(ours, theirs, strict=True)]
            self.medians[point] = statistics.median(ratios)
            line += f"  {self.medians[point]:5.2f} {min(ratios):5.2f}..{max(ratios):4.2f}"
            if point in ASKED:
                line += self.judge(self.medians[point], ASKED[point], AIM[point], NOISE)
        print(line, flush=True)

    def finish(self) -> None:
        """Print the geometric mean, when every point that has a target was measured."""
        if set(ASKED) <= set(self.medians):
            mean, asked, aim = (
                statistics.geometric_mean(table[point] for point in ASKED)
                for table in (self.medians, ASKED, AIM)
            )
            print(
                f"{'geometric mean of the ratios':>70}  {mean:5.2f} {'':11}"
                + self.judge(mean, asked, aim, 1.0)
            )
        if self.medians:
            print(
                f"\nEach ratio is the median of its pairs. A point may be down to {NOISE} of what is "
                "asked (noise); the geometric mean may not."
            )

    def judge(self, ratio: float, asked: float, aim: float, noise: float) -> str:
        """What was asked, the aim, and whether the ratio reaches them."""
        if ratio >= aim:
            word = "reached, and the aim"
        elif ratio >= asked:
            word = "reached"
        elif ratio >= asked * noise:
            word = "within noise"
        else:
            word = "MISSED"
            self.missed = True
        return f"  {asked:5.2f} {aim:4.2f}  {word}"


def figures(point: Point, runs: list[Run]) -> str:
    """One server's medians at one point."""
    return (
        f"{point!s:>11}  {runs[0].server:8}"
        f" {statistics.median(run.cycles_per_s for run in runs):9,.0f}"
        f" {statistics.median(run.acquire_p50_ms for run in runs):9.2f} ms"
        f" {statistics.median(run.acquire_p99_ms for run in runs):6.2f} ms"
        f" {statistics.median(run.cpu_ms_per_1000 for run in runs):8.1f} ms/1000"
    )


def progress(text: str) -> None:
    """Show on a terminal what is going on, on one line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def parse_points(text: str) -> list[Point]:
    """`1,64,16x16` as points. Raises ValueError, which argparse reports."""
    points = []
    for word in text.split(","):
        connections, _, pipeline = word.strip().partition("x")
        point = Point(int(connections), int(pipeline or 1))
        if not (1 <= point.connections <= 10_000 and 1 <= point.pipeline <= 1024):
            raise ValueError(word)
        points.append(point)
    return points


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pairs", type=int, default=5, help="runs of each server (default: 5)")
    parser.add_argument("--seconds", type=float, default=3, help="of each run (default: 3)")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before (default: 1)")
    parser.add_argument(
        "--points",
        type=parse_points,
        default=list(ASKED),
        metavar="LIST",
        help="connections, or connections x pipeline (default: 1,16,64,256,16x16)",
    )
    parser.add_argument("--only", choices=["redis", "resplock"], help="run one server alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there too")
    parser.add_argument("--check", action="store_true", help="exit status 1 when one is missed")
    options = parser.parse_args()
    if options.pairs < 1 or options.seconds <= 0 or options.warmup < 0:
        parser.error("--pairs, --seconds and --warmup must be positive")
    return options


def main() -> int:
    options = parse_options()
    stop_on_sigterm()
    runs: list[Run] = []
    try:
        lockbench = build_lockbench()
        parent = data_parent()
        kinds: list[type[Server]] = [Redis, Resplock]
        with ExitStack() as stack:
            servers = [
                stack.enter_context(kind(parent))
                for kind in kinds
                if options.only in (None, kind.mode)
            ]
            print(
                f"{', '.join(server.version() for server in servers)}; Python "
                f"{platform.python_version()}; {os.cpu_count()} cores; {file_system(parent)}; "
                f"{options.pairs} pairs of {options.seconds:g} s in alternating order"
            )
            report = Report()
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
