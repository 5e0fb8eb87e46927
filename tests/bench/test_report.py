from __future__ import annotations

import pytest

from bench.lockbench import parse_point, parse_points, parse_result
from bench.report import TARGETS, Point, Report, Run, judge
from bench.servers import BenchError


class TestPoints:
    def test_good(self) -> None:
        assert parse_points("1, 64,16x16") == [Point(1), Point(64), Point(16, 16)]
        assert [str(point) for point in parse_points("64,16x16,8x1")] == ["64", "16x16", "8"]

    @pytest.mark.parametrize("text", ["", "a", "0", "10001", "1x0", "1x1025", "1x2x3"])
    def test_bad(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"invalid literal|^\d"):
            parse_point(text)

    def test_a_load_generator_that_printed_nothing_failed(self) -> None:
        assert parse_result('{"errors": 0}\n', "") == {"errors": 0}
        with pytest.raises(BenchError, match="connect: Connection refused"):
            parse_result("", "connect: Connection refused\n")


class TestReport:
    @pytest.mark.parametrize(
        ("ratio", "word"),
        [
            (1.0, "reached, and the aim"),
            (0.8, "reached"),
            (0.73, "within noise"),
            (0.71, "MISSED"),
        ],
    )
    def test_the_verdict(self, ratio: float, word: str) -> None:
        assert judge(ratio, asked=0.8, aim=1.0, noise=0.9) == word

    def test_three_nodes(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = Report(TARGETS[3])
        for point in TARGETS[3].asked:
            report.add(point, runs(point, redis=[1000, 2000, 1000], resplock=[550, 1200, 700]))
        report.finish()
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].split()[-5:] == ["asked", "aim", "RedisRaft", "etcd", "ZooKeeper"]
        assert shown[1].split() == [
            *("1", "redis", "1,000", "0.50", "ms", "1.00", "ms", "9.0/3.0/2.0")
        ]
        # The median of the ratios of pairs, not the ratio of the medians (0.70).
        assert shown[2].split()[8:] == [
            *("0.60", "0.55..0.70", "0.40", "0.56", "0.56", "0.26", "0.37"),
            *("reached,", "and", "the", "aim"),
        ]
        assert shown[10].split()[8:] == [
            "0.60",
            "0.55..0.70",
            "0.45",
            "0.60",
            "0.09",
            "reached,",
            "and",
            "the",
            "aim",
        ]
        assert shown[11].split()[5:] == ["0.60", "0.44", "0.63", "0.41", "reached"]
        assert not report.missed

    def test_a_miss_is_remembered(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = Report(TARGETS[1])
        report.add(Point(1), runs(Point(1), redis=[1000], resplock=[100]))
        report.add(Point(16), runs(Point(16), redis=[1000], resplock=[900]))
        report.finish()
        assert report.missed
        out = capsys.readouterr().out
        assert "geometric mean of" not in out, "not every point was measured"

    def test_nothing_is_asked_of_five_nodes(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = Report(TARGETS.get(5))
        report.add(Point(1), runs(Point(1), redis=[1000], resplock=[100]))
        report.finish()
        assert not report.missed
        assert capsys.readouterr().out.splitlines()[2].split()[-2:] == ["0.10", "0.10..0.10"]


def runs(point: Point, *, redis: list[float], resplock: list[float]) -> list[Run]:
    """One run for each rate, with the same latencies and CPU times."""
    return [
        Run(server, str(point), rate, 0.5, 1.0, [9.0, 3.0, 2.0])
        for server, rates in (("redis", redis), ("resplock", resplock))
        for rate in rates
    ]
