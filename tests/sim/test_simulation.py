"""The simulator on a fixed slice of seeds, and what makes its findings worth something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.sim.knobs import FAULTS, Knobs, draw
from tests.sim.planting import LINES, PAUSES, STRINGS
from tests.sim.simulation import Simulation, simulate
from tests.sim.world import MS, S, World

SLICE = range(1, 13)


@pytest.mark.parametrize("seed", SLICE)
def test_a_seed_is_clean(seed: int) -> None:
    report = simulate(seed)
    assert report.violation == ""
    assert report.answered > 100, "clients were served"
    assert report.unknown == 0


def test_clients_that_wait_meet_everything_that_may_happen_to_them() -> None:
    """A checker that sees nothing finds nothing."""
    met: Counter[str] = Counter()
    for seed, faults in enumerate(2 * (PAUSES, {"kill": 1500 * MS}, {"transfer": 1 * S}), 4):
        world = {**LINES, "disturbs": 0.6, "delay": 5 * MS, "has_model": True, "faults": faults}
        report = Simulation(seed, knobs=replace(draw(World(seed).rng("knobs")), **world)).run()
        assert report.violation == ""
        met += report.met
    wanted = {
        "Acquire", "AcquireAll", "Cancel", "Disconnect", "NodeGone", "Unblock",
        "Blocked", "Cancelled", "Deadlock", "Lost", "NotWaiting", "Queued", "Refused",
        "ended: Granted", "ended: TimedOut", "ended: cancelled", "ended: disconnected",
        "ended: replaced", "ended: unblocked",
        "acquired", "broken", "cancelled", "expired", "queued", "renewed",
        "released ", "released disconnected",
    }  # fmt: skip
    assert wanted - set(met) == set()
    assert met["ended: Granted"] > 100


def test_clients_with_keys_and_scripts_meet_everything_too() -> None:
    met: Counter[str] = Counter()
    for seed, faults in enumerate(({"kill": 1500 * MS}, {"transfer": 1 * S}, PAUSES), 1):
        world = {**STRINGS, "has_model": True, "faults": faults}
        report = Simulation(seed, knobs=replace(draw(World(seed).rng("knobs")), **world)).run()
        assert report.violation == ""
        met += report.met
    wanted = {
        "Delete", "DeleteIf", "Evaluate", "Expire", "FlushScripts", "GetDelete", "LoadScript",
        "Execute", "SetAll", "SetString", "Watch", "WrongType",
        "ended: Granted", "ended: replaced", "expired", "deleted", "deleted replaced", "renewed",
    }  # fmt: skip
    assert wanted - set(met) == set()
    assert met["SetString"] > 200
    assert met["Evaluate"] > 80


def _digest(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.sim", "--seeds", "2", "--start", "40", "--jobs", "1"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = re.search(r"^digest (\w+) of seeds 40\.\.41$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return found.group(1)


def test_a_run_is_the_same_under_every_hash_seed() -> None:
    """I12. The digest covers every message, entry, outcome and fault."""
    assert _digest("1") == _digest("2")


def test_reading_along_changes_nothing() -> None:
    knobs = Knobs(faulty=5 * S, healed=8 * S, faults={"kill": 1 * S})
    lines: list[str] = []
    read = Simulation(3, lines.append, knobs).run()
    assert read.digest == Simulation(3, knobs=knobs).run().digest
    assert read.digest != Simulation(4, knobs=knobs).run().digest
    assert any("is killed" in line for line in lines)


def test_every_kind_of_fault_strikes_somewhere() -> None:
    drawn = {kind for seed in range(200) for kind in draw(World(seed).rng("knobs")).faults}
    assert drawn == set(FAULTS)


def test_pauses_make_a_resource_without_fencing_lose_updates() -> None:
    """H8, the control: the fenced one never does (each run checks it), this one does."""
    knobs = Knobs(faults={"pause": 1 * S}, faulty=15 * S, healed=8 * S)
    report = Simulation(5, knobs=knobs).run()
    assert report.violation == ""
    assert report.unfenced_lost > 0


def test_a_campaign_names_the_seeds_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.sim import campaign
    from tests.sim.simulation import Report

    said: list[str] = []
    monkeypatch.setattr(campaign, "_say", lambda text="", end="\n": said.append(text))
    monkeypatch.setattr(
        campaign, "simulate", lambda seed: Report(seed, "d", "wrong" if seed in (3, 5) else "")
    )
    with pytest.raises(SystemExit) as ended:
        campaign.main(["--seeds", "6", "--jobs", "1"])
    assert ended.value.code == 1
    assert "FAILED: 3 5" in said
    with pytest.raises(SystemExit) as ended:
        campaign.main(["--seeds", "2", "--jobs", "1"])
    assert ended.value.code == 0
