"""Feeding just enough followers at once, and the others with the next tick (`RaftCore.feeds_few`)."""

from __future__ import annotations

import pytest

from resplock.raft.messages import AppendRequest
from resplock.types import NodeId
from tests.raft.cluster import Cluster

N1, N2, N3 = (NodeId(f"n{number}") for number in (1, 2, 3))


def fed() -> Cluster:
    """n1 leads, everybody has the same log, and n2 is fed at once."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.core("n1").feeds_few = True
    cluster.tick(count=2)
    assert cluster.core("n1").fed_at_once == {N2}
    return cluster


@pytest.fixture(name="cluster")
def _cluster() -> Cluster:
    return fed()


def appended_to(cluster: Cluster) -> set[NodeId]:
    """Who is sent entries by the leader's next Ready."""
    ready = cluster.core("n1").ready()
    cluster.core("n1").advance()
    return {
        message.to_id
        for message in ready.send_now
        if isinstance(message, AppendRequest) and message.entries
    }


def test_a_majority_commits_and_the_others_get_it_with_the_next_tick() -> None:
    cluster = fed()
    entry = cluster.propose("n1")
    cluster.settle()
    assert cluster.core("n1").commit_index == cluster.core("n2").last_index == entry.last
    assert cluster.core("n3").last_index < entry.last
    cluster.tick()
    assert cluster.core("n3").last_index == entry.last


def test_the_leader_is_one_of_that_majority_so_it_syncs(cluster: Cluster) -> None:
    cluster.propose("n1")
    assert cluster.core("n1").ready().sync


def test_with_much_to_do_everybody_is_fed_and_the_leader_need_not_sync(cluster: Cluster) -> None:
    cluster.core("n1").feeds_few = False
    cluster.propose("n1")
    assert not cluster.core("n1").ready().sync


def test_a_link_that_breaks_lets_everybody_be_fed_at_once(cluster: Cluster) -> None:
    leader = cluster.core("n1")
    leader.report_link_down(N2)
    cluster.propose("n1")
    assert N3 in appended_to(cluster)
    cluster.propose("n1")
    assert N3 in appended_to(cluster), "and not only once"


def test_who_does_not_keep_up_is_fed_at_once_no_longer(cluster: Cluster) -> None:
    cluster.isolate("n2")
    entry = cluster.propose("n1")
    cluster.settle()
    assert cluster.core("n1").commit_index < entry.last
    cluster.tick()
    assert cluster.core("n1").commit_index == entry.last, "n3 was fed with the tick"
    cluster.tick()
    assert cluster.core("n1").fed_at_once == {N3}
    entry = cluster.propose("n1")
    cluster.settle()
    assert cluster.core("n1").commit_index == entry.last, "without waiting for a tick"


def test_while_leadership_is_handed_over_nobody_waits(cluster: Cluster) -> None:
    cluster.propose("n1")
    assert cluster.core("n1").transfer(N3) is None
    cluster.settle()
    assert cluster.core("n3").is_leader


def test_a_new_leader_feeds_everybody_until_it_knows_who_keeps_up(cluster: Cluster) -> None:
    cluster.core("n3").feeds_few = True
    assert cluster.core("n1").transfer(N3) is None
    cluster.settle()
    assert cluster.core("n3").fed_at_once == frozenset()
    cluster.propose("n3")
    cluster.settle()
    assert cluster.core("n1").last_index == cluster.core("n2").last_index
