"""Probes that run beside a measurement: see `bench.probe`."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import NamedTuple, Self

from bench.servers import ROOT, BenchError, Server


class Pings(NamedTuple):
    """How long the PINGs of one probe waited."""

    pings: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Probe:
    """One probe: ready with its `with` block, under way from `begin` on, and done at the block's end."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process: subprocess.Popen[str] | None = None
        self._found: Pings | None = None

    @property
    def found(self) -> Pings:
        """After the block."""
        assert self._found is not None, "the probe is not done"
        return self._found

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.probe", str(self._server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self._end()
            raise BenchError(f"the probe cannot reach {self._server.name}")
        return self

    def begin(self) -> None:
        """Send PINGs from now on."""
        assert self._process is not None, "the probe is not ready"
        assert self._process.stdin is not None
        self._process.stdin.write("begin\n")
        self._process.stdin.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None, "the probe is not ready"
        try:
            output, _ = self._process.communicate()
        finally:
            self._end()
        if error is not None:
            return
        if self._process.returncode:
            raise BenchError(f"the probe failed with status {self._process.returncode}")
        self._found = Pings(**json.loads(output))

    def _end(self) -> None:
        assert self._process is not None
        with self._process as process:
            if process.poll() is None:
                process.kill()
