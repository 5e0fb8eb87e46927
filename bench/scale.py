"""At scale: memory of a million held locks, stalls of the event loop, restart, idle connections.

    memory       loads the locks and reports the server's resident memory; then how long a PING
                 waits: at rest, under light traffic, while a snapshot is taken, during further
                 commands, and while a full garbage collection is forced
    restart      kill -9 after that, then how long a start takes until PING and LOCK.GET are right
    connections  memory of idle connections, in a server of their own

Needs the clone's .venv. `make scale` runs it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.client import Client, ErrorReply, encode
from bench.lines import Line, run
from bench.probing import Probe
from bench.servers import (
    SPARE_FILES,
    BenchError,
    Resplock,
    Server,
    data_parent,
    raise_file_limit,
    setting,
)
from bench.terminal import progress

MEMORY_MB_MAX = 600.0
STALL_MS_MAX = 50.0
RESTART_S_MAX = 5.0
CONNECTIONS_MB_MAX = 150.0
TTL_MS = 3_600_000
FURTHER_BATCH = 50
"""Small, so that a PING between two batches shows a stall and not the batch."""
COLLECTIONS = 5
SAMPLES = 1000
SNAPSHOT_DEADLINE_S = 120.0


class Collecting(Resplock):
    """This project's server, which can be told to collect garbage."""

    module = "bench.collecting"


def owner_of(number: int) -> str:
    return f"me-{number % 1000}"


def load(client: Client, locks: int) -> float:
    """Hold so many locks; commands per second."""
    began = time.monotonic()
    wanted = ((f"lk:{number}", owner_of(number)) for number in range(locks))
    for done in client.hold(wanted, TTL_MS):
        if done % 50_000 == 0:
            progress(f"{done:,} of {locks:,} locks")
    progress("")
    return locks / (time.monotonic() - began)


def run_further(client: Client, commands: int) -> None:
    """Acquire and release other locks, `commands` commands in all."""
    batches = (
        [
            encode(*argv)
            for number in range(first, min(first + FURTHER_BATCH, commands // 2))
            for argv in (
                ("LOCK.ACQUIRE", f"further:{number}", "me", "TTL", str(TTL_MS)),
                ("LOCK.RELEASE", f"further:{number}", "me"),
            )
        ]
        for first in range(0, commands // 2, FURTHER_BATCH)
    )
    for _ in client.pipeline(batches):
        pass


@contextmanager
def light_traffic(server: Server) -> Iterator[None]:
    """Acquire and release one lock after another, about 500 a second, until the block ends."""
    stopped = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with Client(server.connect()) as client:
                number = 0
                while not stopped.wait(0.002):
                    client.call("LOCK.ACQUIRE", f"light:{number}", "me", "TTL", str(TTL_MS))
                    client.call("LOCK.RELEASE", f"light:{number}", "me")
                    number += 1
        except (BenchError, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="light traffic")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if failures:
        raise BenchError(f"the light traffic failed: {failures[0]}")


@contextmanager
def probed(server: Server, lines: list[Line], when: str, limit: float | None) -> Iterator[None]:
    """Report how long PINGs waited while the block ran."""
    probe = Probe(server)
    with probe:
        probe.begin()
        time.sleep(0.5)
        yield
        time.sleep(0.5)
    found = probe.found
    lines.append(Line(f"PING {when}: median of {found.pings:,}", found.p50_ms, "ms"))
    lines.append(Line(f"PING {when}: 99 %", found.p99_ms, "ms"))
    lines.append(Line(f"PING {when}: longest", found.max_ms, "ms", limit))


def take_snapshot(client: Client) -> dict[str, Any]:
    """RAFT.SNAPSHOT, again while the server is busy with one of its own."""
    deadline = time.monotonic() + SNAPSHOT_DEADLINE_S
    while True:
        try:
            return client.call_map("RAFT.SNAPSHOT")
        except ErrorReply:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def measure_memory(server: Server, options: argparse.Namespace) -> Iterator[Line]:
    """Load the locks; memory, then stalls."""
    stalls: list[Line] = []
    yield Line("resident memory, empty", server.memory_mb(), "MB")
    with Client(server.connect()) as client:
        yield Line(
            "acquires a second while loading, one connection", load(client, options.locks), ""
        )
        yield Line(
            f"resident memory, {options.locks:,} locks", server.memory_mb(), "MB", MEMORY_MB_MAX
        )
        with probed(server, stalls, "at rest", None):
            time.sleep(1)
        with light_traffic(server), probed(server, stalls, "under light traffic", None):
            time.sleep(2)
        with light_traffic(server), probed(server, stalls, "during a snapshot", STALL_MS_MAX):
            began = time.monotonic()
            snapshot = take_snapshot(client)
            took = time.monotonic() - began
        yield Line("snapshot", took, "s")
        yield Line("snapshot file", snapshot["bytes"] / 1e6, "MB")
        with probed(server, stalls, f"during {options.further:,} commands", STALL_MS_MAX):
            run_further(client, options.further)
        with (
            light_traffic(server),
            probed(server, stalls, "during full garbage collections", STALL_MS_MAX),
        ):
            for _ in range(COLLECTIONS):
                os.kill(server.pid, signal.SIGUSR1)
                time.sleep(0.5)
    yield from stalls
    yield Line("resident memory after all that", server.memory_mb(), "MB", MEMORY_MB_MAX)
    yield Line("resident memory, its peak", server.memory_mb("VmHWM"), "MB")


def measure_restart(server: Server, options: argparse.Namespace) -> Iterator[Line]:
    """kill -9, start again; when it answers, and that the locks are what they were."""
    step = max(1, options.locks // SAMPLES)
    names = [f"lk:{number}" for number in range(0, options.locks, step)]
    with Client(server.connect()) as client:
        before = [client.call_map("LOCK.GET", name) for name in names]
    server.end(signal.SIGKILL)
    began = time.monotonic()
    answered_s = server.start()
    with Client(server.connect()) as client:
        first = client.call_map("LOCK.GET", names[-1])
        right_s = time.monotonic() - began
        after = [client.call_map("LOCK.GET", name) for name in names]
    after[-1] = first
    for name, old, new in zip(names, before, after, strict=True):
        if (old["owner"], old["version"]) != (new["owner"], new["version"]):
            raise BenchError(f"after the restart {name} is {new}, and was {old}")
    after_what = f"{options.locks:,} locks and {options.further:,} log entries"
    yield Line(f"restart until PING, {after_what}", answered_s, "s", RESTART_S_MAX)
    yield Line("restart until the first LOCK.GET is right", right_s, "s", RESTART_S_MAX)
    yield Line("locks compared with before", len(names), "")
    yield Line("resident memory after the restart", server.memory_mb(), "MB", MEMORY_MB_MAX)


def measure_connections(server: Server, options: argparse.Namespace) -> Iterator[Line]:
    """Memory of connections that do nothing after one PING."""
    before = server.memory_mb()
    with ExitStack() as stack:
        for number in range(options.connections):
            client = stack.enter_context(Client(server.connect()))
            if client.call("PING") != b"PONG":
                raise BenchError(f"connection {number} was refused")
        after = server.memory_mb()
    yield Line("resident memory, no connection", before, "MB")
    yield Line(
        f"resident memory, {options.connections:,} idle connections",
        after,
        "MB",
        CONNECTIONS_MB_MAX,
    )
    yield Line("each connection", (after - before) * 1e3 / options.connections, "kB")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--locks", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument(
        "--further", type=int, default=100_000, help="commands after the snapshot, default: 100000"
    )
    parser.add_argument("--connections", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--only", choices=["memory", "restart", "connections"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--check", action="store_true", help="exit status 1 when one is missed")
    options = parser.parse_args()
    if options.locks < 1 or options.further < 2 or options.connections < 1:
        parser.error("--locks and --connections must be at least 1, --further at least 2")
    return options


def measure(options: argparse.Namespace) -> Iterator[Line]:
    parent = data_parent()
    if options.only != "connections":
        with Collecting(parent) as server:
            print(setting(parent, server.version()))
            # restart needs what memory has loaded
            yield from measure_memory(server, options)
            if options.only != "memory":
                yield from measure_restart(server, options)
    if options.only in (None, "connections"):
        raise_file_limit(options.connections + SPARE_FILES, "--connections")
        with Resplock(parent) as server:
            yield from measure_connections(server, options)


def main() -> int:
    options = parse_options()
    return run("bench.scale", measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
