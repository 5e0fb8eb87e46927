"""Random schedules of three whole nodes: see `tests.node.schedule`. A seed reproduces a run."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.node.schedule import Schedule

SEEDS_A_PART, PARTS = 75, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_clients_are_answered_truthfully_and_in_order(part: int) -> None:
    for seed in range(part * SEEDS_A_PART, (part + 1) * SEEDS_A_PART):
        try:
            Schedule(seed).run()
        except AssertionError as error:
            raise AssertionError(f"Schedule({seed}).run() fails: {error}") from error


def test_the_schedules_reach_what_they_are_for() -> None:
    """A checker that sees nothing finds nothing."""
    met: Counter[str] = Counter()
    for seed in range(100):
        met += Schedule(seed).run().met
    wanted = {
        "Granted": 1_000,
        "InDoubt": 500,
        "NoLeader": 200,
        "Moved": 500,
        "refused by a read": 80,
        "queries": 200,
        "Forward": 1_000,
        "NotProposed": 200,
        "Ask": 100,
        "Administer": 20,
        "flaps": 20,
        "wipes": 10,
        "snapshots": 3,
    }
    assert {key: met[key] for key in wanted if met[key] < wanted[key]} == {}


def test_a_seed_is_one_run() -> None:
    """The same log, whatever else the process has done."""
    first = Schedule(7).run().history
    random.Random(99).random()
    assert Schedule(7).run().history == first
