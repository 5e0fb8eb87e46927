from __future__ import annotations

import pytest

from bench.lines import Line, text


class TestLine:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (Line("memory", 12.345, "MB"), "memory 12.35 MB"),
            (Line("rate", 1234.5, ""), "rate 1,234"),
            (Line("memory", 600.0, "MB", 600), "memory 600.00 MB at most 600 MB: reached"),
            (Line("memory", 600.1, "MB", 600), "memory 600.10 MB at most 600 MB: MISSED"),
            (Line("rate", 999.0, "", at_least=1000), "rate 999.00 at least 1,000: MISSED"),
            (Line("rate", 1000, "", at_least=1000), "rate 1,000 at least 1,000: reached"),
            (Line("woken", 1, "", 1, 1), "woken 1 exactly 1: reached"),
            (Line("woken", 2, "", 1, 1), "woken 2 exactly 1: MISSED"),
            (Line("woken", 0, "", 1, 1), "woken 0 exactly 1: MISSED"),
        ],
    )
    def test_it_says_what_is_asked_and_whether_it_is_reached(
        self, line: Line, expected: str
    ) -> None:
        assert text(line).split() == expected.split()
        assert line.missed == expected.endswith("MISSED")
