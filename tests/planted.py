"""Tests that are tested: a bug is planted, and they have to notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]


def fails_its_test(plant: Plant, test: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """The test passes, and with the bug it does not."""
    test()
    plant(patch)
    with pytest.raises(AssertionError):
        test()


def fails_within(
    seeds: Iterable[int], plant: Plant, run: Callable[[int], object], patch: pytest.MonkeyPatch
) -> None:
    """With the bug, the run of one of the seeds fails."""
    plant(patch)
    for seed in seeds:
        try:
            run(seed)
        except AssertionError:
            return
    pytest.fail(f"{plant.__name__} was not noticed with any of {seeds}")
