"""The table of bench.compare: medians, ratios to Redis, and whether they reach what is asked.

Pure, but for printing.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

NOISE = 0.9
"""A point may fall this far below what is asked; the geometric mean may not."""
MISSED = "MISSED"


class Point(NamedTuple):
    """One load: so many connections with so many cycles in flight on each."""

    connections: int
    pipeline: int = 1

    def __str__(self) -> str:
        return f"{self.connections}" + (f"x{self.pipeline}" if self.pipeline > 1 else "")


class Run(NamedTuple):
    """What one run of lockbench against one server showed."""

    server: str
    point: str
    cycles_per_s: float
    acquire_p50_ms: float
    acquire_p99_ms: float
    cpu_ms_per_1000: list[float]
    """Of each process, user and system, for 1,000 cycles; of a cluster the leader's first."""


class Targets(NamedTuple):
    """The ratios to Redis that are asked for."""

    asked: dict[Point, float]
    """The least."""
    aim: dict[Point, float]
    rivals: dict[str, dict[Point, float]]
    """What others reach under the same load; measured on such a machine, not in this run."""


def _per_point(*values: float) -> dict[Point, float]:
    points = (Point(1), Point(16), Point(64), Point(256), Point(16, 16))
    return dict(zip(points, values, strict=False))


TARGETS = {
    1: Targets(_per_point(0.6, 0.75, 0.75, 0.75, 0.7), _per_point(0.75, 1.0, 1.0, 1.0, 1.0), {}),
    3: Targets(
        _per_point(0.40, 0.38, 0.42, 0.58, 0.45),
        _per_point(0.56, 0.64, 0.60, 0.75, 0.60),
        {
            "RedisRaft": _per_point(0.56, 0.64, 0.56, 0.65, 0.09),
            "etcd": _per_point(0.26, 0.20, 0.14, 0.15),
            "ZooKeeper": _per_point(0.37, 0.29, 0.29, 0.28),
        },
    ),
}
"""By the number of nodes."""


class Report:
    """The table as it grows, and the verdict."""

    def __init__(self, targets: Targets | None) -> None:
        """targets: None for a number of nodes of which nothing is asked."""
        self.targets = targets or Targets({}, {}, {})
        self.medians: dict[Point, float] = {}
        self.missed = False
        header = (
            f"{'connections':>11}  {'server':8} {'cycles/s':>9} {'acquire p50':>12} {'p99':>9}"
            f" {'CPU, ms/1000':>15}  {'ratio':>5} {'min..max':>11}"
        )
        if self.targets.asked:
            header += f"  {'asked':>5} {'aim':>4}"
        print(header + "".join(f"  {rival}" for rival in self.targets.rivals))

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
            if point in self.targets.asked:
                line += self._verdict([point], NOISE)
        print(line, flush=True)

    def finish(self) -> None:
        """Print the geometric mean, when every point that has a target was measured."""
        points = list(self.targets.asked)
        if points and set(points) <= set(self.medians):
            mean = geometric_mean(self.medians, points)
            what = "geometric mean of the ratios"
            print(f"{what:>70}  {mean:5.2f} {'':11}{self._verdict(points, 1.0)}")
        if self.medians:
            print(
                f"\nEach ratio is the median of its pairs. A point may be down to {NOISE} of what is "
                "asked (noise); the geometric mean may not."
            )
        if self.targets.rivals:
            print(
                f"{', '.join(self.targets.rivals)}: their ratios with three nodes, from such a "
                "machine and not from this run. CPU: leader/follower/follower."
            )

    def _verdict(self, points: list[Point], noise: float) -> str:
        """The columns of what is asked, at one point or as a mean over some, and the word for it."""
        ratio, asked, aim = (
            geometric_mean(table, points)
            for table in (self.medians, self.targets.asked, self.targets.aim)
        )
        word = judge(ratio, asked, aim, noise)
        self.missed |= word == MISSED
        rivals = "".join(
            f"  {geometric_mean(table, points):{len(rival)}.2f}"
            if set(points) <= set(table)
            else f"  {'':{len(rival)}}"
            for rival, table in self.targets.rivals.items()
        )
        return f"  {asked:5.2f} {aim:4.2f}{rivals}  {word}"


def geometric_mean(table: dict[Point, float], points: list[Point]) -> float:
    """Of the table's values at these points."""
    return statistics.geometric_mean(table[point] for point in points)


def judge(ratio: float, asked: float, aim: float, noise: float) -> str:
    """The word for a ratio; it may be down to `noise` times what is asked."""
    if ratio >= aim:
        return "reached, and the aim"
    if ratio >= asked:
        return "reached"
    return "within noise" if ratio >= asked * noise else MISSED


def figures(point: Point, runs: list[Run]) -> str:
    """One server's medians at one point."""
    cpu = [
        statistics.median(process)
        for process in zip(*(run.cpu_ms_per_1000 for run in runs), strict=True)
    ]
    return (
        f"{point!s:>11}  {runs[0].server:8}"
        f" {statistics.median(run.cycles_per_s for run in runs):9,.0f}"
        f" {statistics.median(run.acquire_p50_ms for run in runs):9.2f} ms"
        f" {statistics.median(run.acquire_p99_ms for run in runs):6.2f} ms"
        f" {'/'.join(f'{each:.1f}' for each in cpu):>15}"
    )
