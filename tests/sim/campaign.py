"""Many seeds: a progress bar, the rate, the seeds that failed, and one digest of all traces."""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.sim.simulation import Report, simulate
from tests.sim.world import S

_BAR = 30


def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="replay this one, with its trace")
    parser.add_argument("--seeds", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--start", type=int, default=1, help="the first (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(argv)
    if options.seed is not None:
        sys.exit(_replay(options.seed))
    sys.exit(_campaign(range(options.start, options.start + options.seeds), options.jobs))


def _say(text: str = "", end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _replay(seed: int) -> int:
    report = simulate(seed, _say)
    _say(_summary(report))
    return 1 if report.violation else 0


def _campaign(seeds: range, jobs: int) -> int:
    started = time.monotonic()
    digest = hashlib.blake2b(digest_size=16)
    failed: list[Report] = []
    virtual_us = calls = faults = unknown = 0
    for done, report in enumerate(_reports(seeds, jobs), 1):
        digest.update(f"{report.seed} {report.digest}\n".encode())
        virtual_us += report.virtual_us
        calls += report.calls
        faults += report.faults
        unknown += report.unknown
        if report.violation:
            failed.append(report)
            _say(f"\r{'':<{_BAR + 60}}\rseed {report.seed}: {report.violation.splitlines()[0]}")
        _progress(done, len(seeds), virtual_us, time.monotonic() - started, len(failed))
    _say()
    _say(
        f"{calls} client commands, {faults} faults, {virtual_us // S} virtual seconds; "
        f"{unknown} locks not decided"
    )
    if failed:
        _say(f"FAILED: {' '.join(str(report.seed) for report in failed)}")
    _say(f"digest {digest.hexdigest()} of seeds {seeds.start}..{seeds.stop - 1}")
    return 1 if failed else 0


def _reports(seeds: range, jobs: int) -> Iterator[Report]:
    """In the order of the seeds."""
    if jobs <= 1:
        yield from map(simulate, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(simulate, seeds)


def _progress(done: int, total: int, virtual_us: int, elapsed_s: float, failed: int) -> None:
    """A bar for people at a terminal."""
    if not sys.stdout.isatty() and done < total:
        return
    filled = _BAR * done // total
    rate = virtual_us / S / max(elapsed_s, 1e-9)
    bar = "#" * filled + "." * (_BAR - filled)
    _say(f"\r[{bar}] {done}/{total}  {rate:,.0f} virtual s/s  {failed} failed ", end="")


def _summary(report: Report) -> str:
    state = f"VIOLATION: {report.violation}" if report.violation else "clean"
    return (
        f"seed {report.seed}: {state}\n{report.calls} calls, {report.answered} answered, "
        f"{report.entries} entries, {report.faults} faults, {report.terms} terms, "
        f"{report.transfers} snapshots sent, {report.resumed} of them resumed, "
        f"{report.unfenced_lost} unfenced updates lost\n"
        f"digest {report.digest}"
    )
