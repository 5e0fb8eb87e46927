from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import waiting
from bench.client import Client
from bench.cluster import Cluster
from bench.lines import Line
from bench.servers import BenchError
from bench.subscribers import listening
from bench.waiters import HandOver
from bench.waiting import cost_percent, latency_lines, measure_chain, measure_expiry


def value_of(lines: list[Line], what: str) -> float:
    (value,) = (line.value for line in lines if what in line.what)
    return value


def test_a_handover_is_measured_from_the_release_and_from_its_acknowledgement() -> None:
    handovers = [HandOver(1.0, 1.002, 1.005), HandOver(2.0, 2.004, 2.003)]
    lines = list(latency_lines("2 waiters", 2.0, handovers))
    assert value_of(lines, "acknowledged to next told, p50") == pytest.approx(-1)
    assert value_of(lines, "acknowledged to next told, p99") == pytest.approx(3)
    assert value_of(lines, "sent to next told, p50") == pytest.approx(3)
    assert value_of(lines, "sent to next told, p99") == pytest.approx(5)
    assert {line.at_most for line in lines} == {None, 4.0}
    assert not any(line.missed for line in lines)


def test_a_cost_is_the_median_of_the_turns() -> None:
    assert cost_percent([100, 200, 100], [90, 100, 120]) == pytest.approx(10)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, 3) as cluster:
        yield cluster


def test_a_short_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ALONE_S", 0.1)
    monkeypatch.setattr(waiting, "LISTEN_S", 0.02)
    options = argparse.Namespace(waiters=12)
    lines = list(measure_chain(lambda: Cluster(tmp_path, 3), options))
    assert [line.value for line in lines if "wakes" in line.what] == [1, 1, 1, 1]
    rates = [line for line in lines if "hand-overs" in line.what]
    assert [line.what for line in rates] == [
        "hand-overs a second, 12 waiters on the leader",
        "hand-overs a second, 12 waiters on all nodes",
    ]
    assert all(line.value > 0 and line.at_least for line in rates)


def test_locks_end_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EXPIRY_AHEAD_MS", 2500)
    options = argparse.Namespace(locks=200)
    lines = list(measure_expiry(lambda: Cluster(tmp_path, 3), options))
    assert 0 <= value_of(lines, "until every node") < 10
    assert value_of(lines, "elections") == 0
    assert value_of(lines, "PING meanwhile, leader: p99") > 0


def test_subscribers_listen_while_the_block_runs(cluster: Cluster) -> None:
    leader = cluster.leader()
    with Client(leader.connect()) as client:
        patterns = [("PSUBSCRIBE", f"__key*{each}") for each in range(3)]
        with listening(leader, patterns):
            assert client.call("PUBSUB", "NUMPAT") == 3
        client.call("LOCK.ACQUIRE", "unheard", "me")


def test_a_subscriber_that_is_cut_off_is_seen(cluster: Cluster) -> None:
    leader = cluster.leader()

    def cut_off() -> None:
        with listening(leader, [("SUBSCRIBE", "heard")]), Client(leader.connect()) as client:
            assert client.call("CLIENT", "KILL", "TYPE", "pubsub") == 1
            for thread in threading.enumerate():
                if thread.name == "subscribers":
                    thread.join(10)

    with pytest.raises(BenchError, match="closed its connection"):
        cut_off()
