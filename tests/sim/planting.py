"""How bugs are planted: each is a function that patches the code under test.

Some show themselves in some worlds only: those are tried, or made, when a seed is looked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest

from resplock.state import snapshots
from resplock.state.table import LockTable
from tests.sim.knobs import Knobs, draw
from tests.sim.world import MS, S, World

Patch: TypeAlias = pytest.MonkeyPatch
Plant: TypeAlias = Callable[[Patch], None]

MUTANTS: dict[str, Plant] = {}
NEEDS: dict[str, Callable[[Knobs], bool]] = {}
"""Which worlds a search tries: those in which the bug can show itself at all."""
WORLDS: dict[str, dict[str, Any]] = {}
PAUSES = {"pause": 1500 * MS}
BUSY = {
    "servers": 3,
    "clients": 12,
    "operations_per_s": 40,
    "keys": 4,
    "election_timeout_ms": 500,
    "faulty": 25 * S,
    "healed": 10 * S,
}
LINES = {
    "servers": 3,
    "clients": 12,
    "operations_per_s": 40,
    "keys": 4,
    "election_timeout_ms": 500,
    "redirects": False,
    "drift_permille": 0,
    "ends_per_entry": 10_000,
    "requests_per_owner": 128,
    "vanishes": 0.05,
    "waits": 0.7,
    "enqueues": 0.1,
    "wait_ms": (300, 2_000),
    "disturbs": 0.3,
    "requests": 0.4,
    "on_close": 0.3,
    "delays": 0.2,
    "several": 0.1,
    "kinds": ("exclusive", "shared", "semaphore", "reentrant"),
    "priorities": (0, 0, 5),
    "waiter_grace_ms": 800,
    "node_gone_ms": 1_000,
    "has_model": False,
    "faults": {},
    "faulty": 12 * S,
    "healed": 10 * S,
}
"""A world in which everybody waits in line. The invariants must do without the naive model, which
notices whatever a command does wrong."""
STRINGS = LINES | {
    "strings": 0.7,
    "waits": 0.4,
    "kinds": ("exclusive", "exclusive", "exclusive", "shared"),
    "delays": 0.0,
}
"""A world in which most locks are taken by string commands and scripts, and some are waited for."""


def mutant(plant: Plant) -> Plant:
    """Register a planted bug."""
    MUTANTS[plant.__name__] = plant
    return plant


def mutant_of(needs: Callable[[Knobs], bool]) -> Callable[[Plant], Plant]:
    """Register a planted bug that shows itself in some worlds only."""

    def register(plant: Plant) -> Plant:
        NEEDS[plant.__name__] = needs
        return mutant(plant)

    return register


def mutant_in(**world: Any) -> Callable[[Plant], Plant]:
    """Register a planted bug that needs a world of its own: these settings replace those drawn."""

    def register(plant: Plant) -> Plant:
        WORLDS[plant.__name__] = world
        return mutant(plant)

    return register


def knobs_of(name: str, seed: int) -> Knobs:
    """The world of this seed in which to look for this bug: a short one."""
    world = {"faulty": 20 * S, "healed": 10 * S} | WORLDS.get(name, {})
    return dataclasses.replace(draw(World(seed).rng("knobs")), **world)


def restored(patch: Patch, change: Callable[[LockTable], None]) -> None:
    """Let `change` break every table that comes from a snapshot."""
    real = snapshots.restore

    def restore(chunks: Iterator[bytes]) -> LockTable:
        table = real(chunks)
        change(table)
        return table

    patch.setattr(snapshots, "restore", restore)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The code under test with this bug in it."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        yield
