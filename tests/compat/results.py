"""The outcomes of earlier runs, kept beside the libraries, so that a run can be made in parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.compat.fetching import CACHE
from tests.compat.suite import Case, Mode, Outcome, Suite

DIRECTORY = CACHE / "results"


def keep(outcome: Outcome, directory: Path = DIRECTORY) -> None:
    """Keep it, in place of an earlier one of the same suite and mode."""
    directory.mkdir(parents=True, exist_ok=True)
    told = {
        "cases": outcome.cases,
        "seconds": outcome.seconds,
        "not_run": outcome.not_run,
        "also_on_redis": sorted(outcome.also_on_redis),
    }
    _file(outcome.suite, outcome.mode, directory).write_text(json.dumps(told, indent=1))


def kept(suites: Sequence[Suite], directory: Path = DIRECTORY) -> Iterator[Outcome]:
    """Those of all modes of these suites; what was never run says so."""
    for suite in suites:
        for mode in suite.modes:
            file = _file(suite, mode, directory)
            if not file.exists():
                yield Outcome(suite, mode, [], 0.0, "it was left out of this run")
                continue
            told = json.loads(file.read_text())
            cases = [Case(*case) for case in told["cases"]]
            also = frozenset(told["also_on_redis"])
            yield Outcome(suite, mode, cases, told["seconds"], told["not_run"], also)


def _file(suite: Suite, mode: Mode, directory: Path) -> Path:
    """Another version of the library or other tests of it are another file."""
    _, version = suite.origin.pinned
    words = f"{suite.library} {version} {suite.what} {mode.name}"
    return directory / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', words)}.json"
