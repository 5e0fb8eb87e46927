"""The load generator, lockbench.c: built when needed, and what it prints."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from typing import Any

from redis.lock import Lock

from bench.report import Point
from bench.servers import ROOT, BenchError, Server, find_program


class Lockbench:
    """The program, compiled when it is missing or older than its source."""

    def __init__(self) -> None:
        self._binary = ROOT / "bench" / "lockbench"
        self._numbers = itertools.count(1)
        source = ROOT / "bench" / "lockbench.c"
        if self._binary.exists() and self._binary.stat().st_mtime >= source.stat().st_mtime:
            return
        compiler = find_program(
            os.environ.get("CC", "gcc"), "run `make bench`, or scripts/fetch-gcc"
        )
        done = subprocess.run(
            [compiler, "-O2", "-o", str(self._binary), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{compiler} cannot build {source}:\n{done.stderr.strip()}")

    def command(
        self,
        server: Server,
        point: Point,
        seconds: float,
        warmup_s: float,
        by_script: bool = False,
    ) -> list[str]:
        """The command line of one run against a server.

        by_script: as redis-py's Lock does, SET NX PX and a script that releases.
        """
        # Names of its own: the last run has left the locks held that it was about to release.
        prefix = f"bench-{next(self._numbers)}"
        mode = ("script", "-S", Lock.LUA_RELEASE_SCRIPT) if by_script else (server.mode,)
        return [
            *(str(self._binary), "-m", *mode, "-p", str(server.port)),
            *("-c", str(point.connections), "-P", str(point.pipeline)),
            *("-d", str(seconds), "-w", str(warmup_s), "-k", prefix),
        ]


def parse_result(output: str, errors: str) -> dict[str, Any]:
    """The JSON that one run printed. Raises BenchError when it printed none."""
    if not output:
        raise BenchError(f"lockbench failed: {errors.strip()}")
    found: dict[str, Any] = json.loads(output)
    return found


def parse_points(text: str) -> list[Point]:
    """`1,64,16x16` as points. Raises ValueError, which argparse reports."""
    return [parse_point(word) for word in text.split(",")]


def parse_point(text: str) -> Point:
    """`64`, or `16x16` with a pipeline. Raises ValueError, which argparse reports."""
    connections, _, pipeline = text.strip().partition("x")
    point = Point(int(connections), int(pipeline or 1))
    if not (1 <= point.connections <= 10_000 and 1 <= point.pipeline <= 1024):
        raise ValueError(text)
    return point
