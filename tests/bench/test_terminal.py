from __future__ import annotations

import pytest

from bench.terminal import bar, percentile


class TestPercentile:
    @pytest.mark.parametrize(
        ("percent", "expected"), [(50, 50), (99, 99), (99.1, 100), (100, 100), (0.5, 1)]
    )
    def test_it_is_the_nearest_rank(self, percent: float, expected: float) -> None:
        assert percentile(range(100, 0, -1), percent) == expected

    def test_of_one_value(self) -> None:
        assert percentile([7.0], 1) == percentile([7.0], 100) == 7.0

    def test_of_nothing_there_is_none(self) -> None:
        with pytest.raises(AssertionError):
            percentile([], 50)


def test_the_bar_stays_within_its_ends() -> None:
    assert bar(0, 10) == f"[{'.' * 30}]   0%"
    assert bar(5, 10) == f"[{'#' * 15}{'.' * 15}]  50%"
    assert bar(11, 10) == f"[{'#' * 30}] 100%"
