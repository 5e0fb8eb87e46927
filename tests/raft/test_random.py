"""Random schedules: safety all the way, and recovery at the end. A seed reproduces a run."""

from __future__ import annotations

import random

import pytest

from resplock.raft.messages import TimeoutNow
from tests.raft.cluster import Cluster
from tests.raft.schedule import Schedule

SEEDS_A_PART, PARTS = 75, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_forbidden_happens_and_everything_recovers(part: int) -> None:
    """Raft paper, figure 3: election safety, log matching, leader completeness, state machine
    safety; thesis 6.4: reads are linearizable."""
    for seed in range(part * SEEDS_A_PART, (part + 1) * SEEDS_A_PART):
        try:
            Schedule(seed).run()
        except AssertionError as error:
            raise AssertionError(f"Schedule({seed}).run() fails: {error}") from error


def test_the_schedules_reach_what_they_are_for() -> None:
    """A checker that sees nothing finds nothing."""
    runs = [Schedule(seed).run() for seed in range(100)]
    assert sum(len(run.safety.leaders) for run in runs) > 150
    assert sum(len(run.safety.history) for run in runs) > 1500
    assert sum(len(server.answered) for run in runs for server in run.servers.values()) > 300
    assert sum(len(server.lost) for run in runs for server in run.servers.values()) > 50
    assert sum(len(server.received) for run in runs for server in run.servers.values()) > 2
    assert sum(len(run.servers) > 5 for run in runs) > 5
    assert sum(len(run.of_kind(TimeoutNow)) for run in runs) > 30
    assert sum(run.settings["lease"] is True for run in runs) > 20
    assert sum(_is_wiped_and_back(run) for run in runs) > 5


def _is_wiped_and_back(run: Cluster) -> bool:
    voters = run.leader().configuration.voters
    return any(voter.uuid.endswith("+") for voter in voters)


def test_a_seed_is_one_run() -> None:
    """The same messages, byte for byte, whatever else the process has done."""
    seed = 7
    first = Schedule(seed).run().sent
    random.Random(99).random()
    assert Schedule(seed).run().sent == first
