"""Runs one suite in one mode.

A program of ours may ask for a fault on its standard output, with a line `{"ask": "kill leader"}`,
and goes on when it reads a line from standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tests.compat.fetching import CannotFetch, fetch
from tests.compat.servers import REDIS, Server, Servers
from tests.compat.suite import FAILED, PROGRAMS, Case, Fetched, Mode, Npm, Outcome, Run, Suite


class Runner:
    """Runs suites; what Redis makes of one is found out once for each protocol."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._on_redis: dict[tuple[str, str, int | None], frozenset[str]] = {}

    def run(self, suite: Suite, mode: Mode) -> Outcome:
        """The cases of the suite against the server of this mode, and which fail on Redis too."""
        try:
            fetched = fetch(suite.origin)
        except CannotFetch as error:
            return Outcome(suite, mode, [], 0.0, str(error))
        began = time.monotonic()
        cases = self._cases(suite, mode, fetched, mode.server)
        seconds = time.monotonic() - began
        failing = any(case.outcome == FAILED for case in cases)
        also = self._fail_on_redis(suite, mode, fetched) if failing and suite.on_redis else None
        return Outcome(suite, mode, cases, seconds, "", also or frozenset())

    def _fail_on_redis(self, suite: Suite, mode: Mode, fetched: Fetched) -> frozenset[str]:
        key = (suite.library, suite.what, mode.protocol)
        if key not in self._on_redis:
            cases = self._cases(suite, mode, fetched, REDIS)
            self._on_redis[key] = frozenset(c.name for c in cases if c.outcome == FAILED)
        return self._on_redis[key]

    def _cases(self, suite: Suite, mode: Mode, fetched: Fetched, kind: str) -> list[Case]:
        server = self._servers.get(kind)
        host, port = server.address
        with tempfile.TemporaryDirectory(prefix="resplock-compat-run-") as scratch:
            run = Run(
                suite,
                mode._replace(server=kind),
                fetched,
                host,
                port,
                server.addresses,
                Path(scratch),
            )
            if suite.prepare is not None:
                suite.prepare(run)
            printed, error = _converse(run, server)
            cases = suite.parse(run.report, printed)
        if error:
            cases.append(Case("the suite ends by itself", FAILED, error))
        if not cases:
            cases.append(Case("the suite starts", FAILED, _last_line(printed)))
        return cases


def _converse(run: Run, server: Server) -> tuple[str, str]:
    """What the suite printed, and what was wrong with how it ended."""
    process = subprocess.Popen(
        run.suite.command(run),
        cwd=run.fetched.source,
        env=_environment(run),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        process.kill()

    deadline = threading.Timer(run.suite.deadline_s, end)
    deadline.start()
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if asked := _asked(line):
                server.do(asked)
                assert process.stdin is not None
                process.stdin.write("done\n")
                process.stdin.flush()
        process.wait()
    finally:
        deadline.cancel()
        process.kill()
        process.wait()
    late = f"it did not end within {run.suite.deadline_s:.0f} s" if overdue.is_set() else ""
    return "".join(lines), late


def _asked(line: str) -> str:
    """What a program asks for in this line; empty when it does not."""
    if not line.startswith('{"ask"'):
        return ""
    return str(json.loads(line)["ask"])


def _environment(run: Run) -> dict[str, str]:
    """This process's, with the library in reach and ours as the program needs them."""
    variables = {name: value for name, value in os.environ.items() if name[:9] != "RESPLOCK_"}
    variables["COMPAT_RUN"] = json.dumps(
        {
            "host": run.host,
            "port": run.port,
            "addresses": run.addresses,
            "way": run.mode.way,
            "protocol": run.mode.protocol,
            "nodes": len(run.addresses),
        }
    )
    if isinstance(run.suite.origin, Npm):
        variables["NODE_PATH"] = str(run.fetched.packages)
        if run.suite.at_6379:
            variables["NODE_OPTIONS"] = f"--require={PROGRAMS / 'port_6379' / 'redirect.cjs'}"
    else:
        path = [str(run.fetched.packages), str(PROGRAMS)]
        if run.suite.at_6379:
            path.insert(0, str(PROGRAMS / "port_6379"))
        variables["PYTHONPATH"] = os.pathsep.join(path)
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
    return {**variables, **run.suite.environment}


def _last_line(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
