from __future__ import annotations

from pathlib import Path
from typing import Any

import hiredis
import pytest

from bench.cluster import Node
from bench.failover import Limit, Result, replies, times
from bench.load import Grant, longest_gap, outcome_of


class TestGap:
    @pytest.mark.parametrize(
        ("granted_s", "expected"),
        [
            ([], 10.0),
            ([1.0, 2.0, 9.5], 7.5),
            ([4.0], 6.0),
            ([-3.0, 5.0, 12.0], 5.0),  # what lies outside does not count
        ],
    )
    def test_it_is_the_longest_time_without_a_grant(
        self, granted_s: list[float], expected: float
    ) -> None:
        node = Node(Path(), "n1")
        grants = [Grant(node, at - 0.1, at) for at in granted_s]
        assert longest_gap(grants, 0.0, 10.0) == expected


class TestOutcome:
    @pytest.mark.parametrize(
        ("reply", "expected"),
        [
            ([b"status", b"granted", b"version", 3], "granted"),
            ([b"status", b"held", b"owner", b"a"], "held"),
            (hiredis.ReplyError("INDOUBT its fate is unknown"), "INDOUBT"),
            (hiredis.ReplyError("CLUSTERDOWN no leader"), "CLUSTERDOWN"),
        ],
    )
    def test_it_is_the_status_or_the_code(self, reply: Any, expected: str) -> None:
        assert outcome_of(reply) == expected


class TestFailover:
    RESULT = Result(
        "kill", [40.0, 60.0, 90.0, 2000.0], [Limit(50, 100), Limit(99, 1000)], {"granted": 12345}
    )

    def test_percentiles_and_what_is_asked(self) -> None:
        assert times(self.RESULT).split() == [
            *("kill", "4", "60", "ms", "2,000", "ms", "2,000", "ms"),
            *["p50", "at", "most", "100", "ms,", "p99", "at", "most", "1,000", "ms:", "MISSED"],
        ]
        kept = self.RESULT._replace(limits=[Limit(50, 60), Limit(100, 2000)])
        assert times(kept).endswith("max at most 2,000 ms: reached")

    def test_replies_of_every_kind_have_a_column(self) -> None:
        other = self.RESULT._replace(what="pause", outcomes={"INDOUBT": 2, "granted": 1})
        header, *lines = (line.split() for line in replies([self.RESULT, other]))
        assert header[-2:] == ["granted", "INDOUBT"]
        assert lines == [["kill", "12,345", "0"], ["pause", "1", "2"]]
