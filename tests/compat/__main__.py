"""Fetches the libraries, runs their suites, keeps what comes out, and writes docs/compatibility.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from tests.compat import page, results
from tests.compat.catalogue import SUITES
from tests.compat.running import Runner
from tests.compat.servers import Servers
from tests.compat.suite import FAILED, PASSED, SKIPPED, Mode, Outcome, Suite


def main() -> int:
    """Exit status 1 when something fails that Redis passes and nobody has explained."""
    arguments = _arguments()
    chosen = list(_chosen(arguments.only, arguments.mode))
    if arguments.list:
        for suite, mode in chosen:
            _say(f"{suite.library}: {suite.what} ({mode.name})")
        return 0
    outcomes = []
    with Servers() as servers:
        runner = Runner(servers)
        for suite, mode in chosen:
            outcomes.append(runner.run(suite, mode))
            results.keep(outcomes[-1])
            _tell(outcomes[-1])
    if arguments.page or not (arguments.only or arguments.mode):
        page.write(list(results.kept(SUITES)))
    return int(any(outcome.unexpected for outcome in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("--only", metavar="LIBRARY", help="only libraries with this in their name")
    parser.add_argument("--mode", metavar="TEXT", help="only modes with this in their name")
    parser.add_argument(
        "--page", action="store_true", help="write the page also after a part, with what is kept"
    )
    parser.add_argument("--list", action="store_true", help="show what would be run")
    return parser.parse_args()


def _chosen(library: str | None, name: str | None) -> Iterator[tuple[Suite, Mode]]:
    for suite in SUITES:
        for mode in suite.modes:
            if (library or "") in suite.library and (name or "") in mode.name:
                yield suite, mode


def _tell(outcome: Outcome) -> None:
    suite, mode = outcome.suite, outcome.mode
    head = f"{suite.library} {suite.origin.pinned[1]} ({mode.name}; {suite.what})"
    if outcome.not_run:
        _say(f"{head}: NOT RUN, {outcome.not_run}")
        return
    counts = ", ".join(f"{len(outcome.those(kind))} {kind}" for kind in (PASSED, FAILED, SKIPPED))
    _say(f"{head}: {counts}; {outcome.seconds:.0f} s")
    for case in outcome.those(FAILED):
        also = " [on Redis too]" if case.name in outcome.also_on_redis else ""
        why = outcome.explain(case)
        _say(f"    {case.name}{also}: {case.reason}" + (f" ({why})" if why else ""))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
