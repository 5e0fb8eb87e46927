"""What a suite is: where its library comes from, how it is run, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAMS = HERE / "programs"


class Case(NamedTuple):
    """One test of a suite."""

    name: str
    outcome: str
    """PASSED, FAILED or SKIPPED."""
    reason: str = ""
    """One line: why it failed or was skipped."""


class Pip(NamedTuple):
    """From PyPI, installed into a directory of its own."""

    packages: tuple[str, ...]
    """Requirements; the first is the library, its version pinned with ==."""
    source: bool = False
    """Whether its source distribution is wanted as well, for the tests in it."""

    @property
    def pinned(self) -> tuple[str, str]:
        """The library's name and version."""
        name, _, version = self.packages[0].partition("==")
        return name, version


class Npm(NamedTuple):
    """From npm, installed into a directory of its own."""

    packages: tuple[str, ...]
    """The first is the library, its version pinned: name@version."""

    @property
    def pinned(self) -> tuple[str, str]:
        """The library's name and version."""
        name, _, version = self.packages[0].rpartition("@")
        return name, version


class Git(NamedTuple):
    """From its repository, for what no package index has, with what it needs from PyPI."""

    url: str
    commit: str
    packages: tuple[str, ...] = ()

    @property
    def pinned(self) -> tuple[str, str]:
        """The library's name and version."""
        return self.url.rpartition("/")[2], self.commit[:7]


Origin = Pip | Npm | Git


class Fetched(NamedTuple):
    """Where a library lies."""

    packages: Path
    """What PYTHONPATH or NODE_PATH has to name."""
    source: Path
    """The unpacked source distribution, the package's directory, or the clone."""


class Mode(NamedTuple):
    """How the library reaches the server."""

    name: str
    server: str
    """ONE_NODE, THREE_NODES: see servers.py."""
    protocol: int | None = None
    """The RESP version that it is told to speak; None: its own choice."""
    way: str = "standalone"
    """For programs of ours: standalone, cluster or sentinel."""


class Run(NamedTuple):
    """One suite in one mode, about to start."""

    suite: Suite
    mode: Mode
    fetched: Fetched
    host: str
    port: int
    addresses: tuple[tuple[str, int], ...]
    """All nodes."""
    scratch: Path
    """An empty directory, where the suite may leave its report."""

    @property
    def url(self) -> str:
        """Where a client that takes a URL connects to."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def report(self) -> Path:
        """Where a command may write a report for its parser."""
        return self.scratch / "report"


Parser = Callable[[Path, str], list[Case]]
"""Reads the cases from the report, which may be missing, and from what was printed."""


@dataclass(frozen=True)
class Suite:
    """What is run with one library."""

    library: str
    """Its name in the table."""
    origin: Origin
    what: str
    """What is run, for the table."""
    modes: Sequence[Mode]
    command: Callable[[Run], list[str]]
    parse: Parser
    prepare: Callable[[Run], None] | None = None
    """Done before the command is run."""
    environment: Mapping[str, str] = field(default_factory=dict)
    at_6379: bool = False
    """Whether it connects to localhost:6379 whatever it is told; it is led to the server then."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Why cases fail, by a part of their names or reasons, where the reason alone does not tell."""
    on_redis: bool = True
    """Whether it can run on Redis too, to see what fails there as well."""
    deadline_s: float = 300.0


class Outcome(NamedTuple):
    """What came out of one suite in one mode."""

    suite: Suite
    mode: Mode
    cases: list[Case]
    seconds: float
    not_run: str = ""
    """Why there are no cases."""
    also_on_redis: frozenset[str] = frozenset()
    """The names of the cases that Redis fails as well."""

    def those(self, outcome: str) -> list[Case]:
        """The cases with this outcome."""
        return [case for case in self.cases if case.outcome == outcome]

    @property
    def unexpected(self) -> list[Case]:
        """What fails here and not on Redis, and nobody has said why."""
        return [
            case
            for case in self.those(FAILED)
            if case.name not in self.also_on_redis and not self.explain(case)
        ]

    def explain(self, case: Case) -> str:
        """What is known of this failure; empty when nothing is."""
        said = f"{case.name} {case.reason}"
        return next((why for part, why in self.suite.known.items() if part in said), "")
