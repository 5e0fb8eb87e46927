"""The simulator is tested: each planted bug is noticed by its seed, which is clean without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim import mutants
from tests.sim.mutants import find, record
from tests.sim.planting import MUTANTS, WORLDS, knobs_of
from tests.sim.simulation import Simulation

MUTANTS_MIN = 105
CAUGHT = record()


def _worlds() -> Iterator[tuple[int, str, int]]:
    """Each seed and world once, as far as any bug takes to be noticed in it."""
    names: dict[tuple[int, str], list[str]] = {}
    for name, caught in CAUGHT.items():
        names.setdefault((caught.seed, str(WORLDS.get(name))), []).append(name)
    for (seed, _), alike in names.items():
        yield seed, alike[0], max(CAUGHT[name].at_us for name in alike)


def test_there_is_a_seed_for_every_bug() -> None:
    assert len(MUTANTS) >= MUTANTS_MIN
    assert list(CAUGHT) == sorted(MUTANTS)
    assert all(plant.__doc__ for plant in MUTANTS.values())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    assert find(name), f"nobody noticed: {MUTANTS[name].__doc__}"


@pytest.mark.parametrize(("seed", "name", "until_us"), list(_worlds()))
def test_the_same_seed_is_clean_without_it(seed: int, name: str, until_us: int) -> None:
    assert Simulation(seed, knobs=knobs_of(name, seed)).run(until_us).violation == ""


def test_the_table_names_every_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mutants.main([])
    assert ended.value.code == 0
    table = capsys.readouterr().out
    assert all(name in table for name in MUTANTS)
    assert f"{len(MUTANTS)} of {len(MUTANTS)} planted bugs are caught" in table


def test_a_search_finds_a_seed_and_records_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: mutants.Path
) -> None:
    name = "half_of_the_votes_is_enough"
    monkeypatch.setattr(mutants, "RECORD", tmp_path / "mutants.json")
    with pytest.raises(SystemExit):
        mutants.main(["--search", name])
    assert set(record()) == {name}
    assert 1 <= record()[name].seed <= mutants.SEEDS_COMPARED
