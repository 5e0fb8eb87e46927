"""docs/compatibility.md, from the outcomes of a run. Pure, but for `write`."""

from __future__ import annotations

import itertools
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence

import resplock
from tests.compat.suite import FAILED, PASSED, ROOT, SKIPPED, Case, Outcome, Suite
from tests.tools import find_tool

PAGE = ROOT / "docs" / "compatibility.md"

_HEAD = """\
# What works with resplock

This page is written by `make compat`, which fetches clients and lock libraries, runs their own tests or
a program of ours against one node and against three, and reports what came out. What fails is named
below the table.

- *One node*, *three nodes*: the server. With three nodes, who knows one address talks to a follower.
- *Standalone*, *cluster*, *sentinel*: how the client finds the server.
- *Its tests*: those in the library's own distribution, unchanged but for what the row says.
- *A program of ours*: what an application does with the library (tests/compat/programs). With three
  nodes it also has the leader killed (`kill -9`): a lock that was held must still be held, with the same
  version, and workers that take and release locks must go on, no two of them with the same lock.
- *Fails on Redis too*: so does the same test with the redis-server named here.
"""

_ENTRY = """\
Redlock algorithms that want several independent masters get one: the address of the cluster. Its nodes
are one keyspace, so that a lock taken at one "master" is refused at the next.
"""

_KILLED = "the leader is killed: "
"""How the names of those cases begin."""


def write(outcomes: Sequence[Outcome]) -> None:
    """Write the page, with what it was run on."""
    PAGE.write_text(render(outcomes, _setting()))


def render(outcomes: Sequence[Outcome], setting: str) -> str:
    """The page. setting: what it was run on, one line."""
    parts = [_HEAD, setting, _table(outcomes), _ENTRY]
    parts += [*_failures(outcomes), *_skips(outcomes), *_not_run(outcomes), *_notes(outcomes)]
    return "\n".join(parts)


def _setting() -> str:
    node = _said("node", "--version") if shutil.which("node") else "no Node"
    redis = _said(find_tool("redis-server"), "--version").split()[2].removeprefix("v=")
    day = time.strftime("%d %B %Y", time.gmtime()).lstrip("0")
    return (
        f"resplock {resplock.__version__}, Python {platform.python_version()}, Node {node.lstrip('v')}, "
        f"compared with redis-server {redis}; {day}.\n"
    )


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# --- the table ------------------------------------------------------------------------------------


def _table(outcomes: Sequence[Outcome]) -> str:
    lines = [
        "| library | version | what was run | how | passed | failed | skipped |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for suite, group in _by_suite(outcomes):
        _, version = suite.origin.pinned
        for outcome in group:
            cells = [suite.library, version, suite.what, outcome.mode.name, *_counts(outcome)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _counts(outcome: Outcome) -> list[str]:
    if outcome.not_run:
        return ["not run", "", ""]
    passed, failed, skipped = (len(outcome.those(each)) for each in (PASSED, FAILED, SKIPPED))
    also = sum(case.name in outcome.also_on_redis for case in outcome.those(FAILED))
    on_redis = f" ({also} on Redis too)" if also else ""
    return [str(passed), f"{failed or ''}{on_redis}", str(skipped or "")]


def _by_suite(outcomes: Iterable[Outcome]) -> Iterator[tuple[Suite, list[Outcome]]]:
    """The outcomes of each suite, in their order."""
    for _, group in itertools.groupby(outcomes, key=lambda outcome: id(outcome.suite)):
        members = list(group)
        yield members[0].suite, members


# --- what is below it -----------------------------------------------------------------------------


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## What fails, and why\n"
    found = False
    for suite, group in _by_suite(outcomes):
        if lines := list(_failures_of(group)):
            found = True
            yield f"**{suite.library}**, {suite.what}:\n"
            yield "\n".join([*lines, ""])
    if not found:
        yield "Nothing.\n"


def _failures_of(group: Sequence[Outcome]) -> Iterator[str]:
    """What has one known reason, together; then the others, each with what it says itself."""
    explained: dict[tuple[str, str], list[str]] = {}
    alone = []
    for case, outcome, modes in _in_modes(group, FAILED):
        also = "fails on Redis too" if case.name in outcome.also_on_redis else ""
        why = outcome.explain(case) or also
        if why:
            explained.setdefault((modes, why), []).append(case.name)
        else:
            alone.append(f"- {case.name} ({modes}): `{case.reason.replace('`', chr(39))}`")
    for (modes, why), names in explained.items():
        yield f"- {why} ({modes}): {'; '.join(names)}"
    yield from alone


def _skips(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """How many are skipped for which reason."""
    lines = []
    for suite, group in _by_suite(outcomes):
        reasons: dict[str, set[str]] = {}
        for outcome in group:
            for case in outcome.those(SKIPPED):
                reasons.setdefault(case.reason, set()).add(case.name)
        lines += [
            f"- {suite.library}, {len(names)}: {reason or 'the suite says no reason'}"
            for reason, names in reasons.items()
        ]
    if lines:
        yield "## What the suites skip\n"
        yield "\n".join([*lines, ""])


def _not_run(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What could not be fetched."""
    reasons = {(o.suite.library, o.not_run): None for o in outcomes if o.not_run}
    if reasons:
        yield "## What was not run\n"
        yield "\n".join([*(f"- {library}: {reason}" for library, reason in reasons), ""])


def _notes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What programs noted while the leader was killed."""
    rows = []
    for outcome in outcomes:
        for case in outcome.those(PASSED):
            if case.name.startswith(_KILLED) and case.reason:
                what = case.name.removeprefix(_KILLED)
                cells = [outcome.suite.library, outcome.mode.name, what, case.reason]
                rows.append(f"| {' | '.join(cells)} |")
    if rows:
        yield "## While the leader is killed\n"
        yield "\n".join(
            ["| library | how | what must hold | what was seen |", "| --- " * 4 + "|", *rows, ""]
        )


def _in_modes(group: Sequence[Outcome], kind: str) -> Iterator[tuple[Case, Outcome, str]]:
    """Each case once, with the modes in which it came out so."""
    modes: dict[str, list[str]] = {}
    first: dict[str, tuple[Case, Outcome]] = {}
    for outcome in group:
        for case in outcome.those(kind):
            modes.setdefault(case.name, []).append(outcome.mode.name)
            first.setdefault(case.name, (case, outcome))
    for name, (case, outcome) in first.items():
        everywhere = len(modes[name]) == len(group)
        yield case, outcome, "everywhere" if everywhere else "; ".join(modes[name])
