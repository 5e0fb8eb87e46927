"""What operators do to a cluster that is in use: restarts, hand-overs, nodes that come and go. See Trial
for what is checked of the clients' histories after each test."""

from __future__ import annotations

import random

import pytest

from tests.e2e.cluster import ELECTION_TIMEOUT_MS, Cluster, ClusterNode
from tests.e2e.cluster_load import ClusterLoad, Trial
from tests.e2e.conftest import MakeCluster
from tests.e2e.damage import write_ahead_log
from tests.e2e.waiting import eventually
from tests.e2e.wire import Failure
from tests.write_ahead_log import damage

WARM_UP = 300
HAND_OVER_S = 1.0
"""How long a planned change of leader may keep clients waiting on a busy machine. On a quiet one it is
measured in bench/."""
UNTOLD = {"INDOUBT", "CLUSTERDOWN"}
"""What clients are told when something went wrong. Nothing does in a planned change."""


@pytest.fixture
def trial(cluster: Cluster) -> Trial:
    return Trial(cluster, random.Random(1))


def assert_nobody_noticed(load: ClusterLoad) -> None:
    assert not load.codes.keys() & UNTOLD, load.codes


class TestHandingOver:
    def test_a_rolling_restart(self, cluster: Cluster, trial: Trial) -> None:
        """Every node once, under load: clients only see their connections close."""
        with trial.load() as load:
            for node in cluster:
                load.run_until_answered(WARM_UP)
                assert node.terminate() == 0
                load.run_until_answered(WARM_UP)
                node.start()
                cluster.wait_until_whole()
            load.run_until_answered(WARM_UP)
            assert_nobody_noticed(load)

    def test_a_leader_that_is_told_to_stop_hands_over_first(
        self, cluster: Cluster, trial: Trial
    ) -> None:
        leader = cluster.leader()
        term = leader.status()["term"]
        others = cluster.followers()
        with trial.load(others) as load:
            load.run_until_answered(WARM_UP)
            assert leader.terminate() == 0
            assert load.wait_for_grant() < HAND_OVER_S
            load.run_until_answered(WARM_UP)
            assert_nobody_noticed(load)
            assert cluster.leader().status()["term"] == term + 1
            leader.start()

    @pytest.mark.parametrize("asked", ["the leader", "the heir", "the third"])
    def test_a_transfer(self, cluster: Cluster, trial: Trial, asked: str) -> None:
        leader, (heir, third) = cluster.leader(), cluster.followers()
        node = {"the leader": leader, "the heir": heir, "the third": third}[asked]
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            assert node.call("RAFT.TRANSFER", heir.id) == "OK"
            assert load.wait_for_grant() < HAND_OVER_S
            assert cluster.leader() is heir
            load.run_until_answered(WARM_UP)
            assert_nobody_noticed(load)

    def test_a_transfer_to_whomever(self, cluster: Cluster, trial: Trial) -> None:
        with trial.load() as load:
            for _ in range(5):
                leader = cluster.leader()
                assert leader.call("RAFT.TRANSFER") == "OK"
                assert cluster.leader() is not leader
                load.run_until_answered(WARM_UP // 3)
            assert_nobody_noticed(load)

    def test_a_transfer_to_a_node_that_is_down_changes_nothing(
        self, cluster: Cluster, trial: Trial
    ) -> None:
        leader, (heir, _) = cluster.leader(), cluster.followers()
        with trial.load([leader]) as load:
            heir.kill9()
            reply = leader.call("RAFT.TRANSFER", heir.id)
            assert isinstance(reply, Failure)
            assert "does not answer" in reply
            assert load.wait_for_grant() < HAND_OVER_S
            assert cluster.leader() is leader
            assert_nobody_noticed(load)

    def test_a_transfer_to_nobody(self, cluster: Cluster) -> None:
        leader = cluster.leader()
        assert isinstance(leader.call("RAFT.TRANSFER", "n9"), Failure)
        assert cluster.leader() is leader


def join(cluster: Cluster, id: str, asked: ClusterNode) -> ClusterNode:
    """Start a node, and have it added through another; it votes when this returns."""
    node = cluster.join(id)
    assert asked.call("RAFT.ADD", node.id, node.address) == "OK"
    eventually(lambda: votes(node), f"{id} votes")
    return node


def votes(node: ClusterNode) -> bool:
    status = node.status()
    return status is not None and status["role"] in ("leader", "follower")


def members(cluster: Cluster) -> set[str]:
    """The voters, as the leader has them."""
    leader = cluster.leader()
    with leader.wire(protocol=3) as wire:
        peers = wire.map("RAFT.STATUS")["peers"]
    return {leader.id, *(peer[b"id"].decode() for peer in peers if peer[b"is_voter"])}


class TestMembership:
    def test_growing_from_one_to_five_and_shrinking_back(self, make_cluster: MakeCluster) -> None:
        """Under load, through whatever node; in the end the first one is alone, and knows all."""
        cluster = make_cluster(1).start()
        first, rng, trial = cluster["n1"], random.Random(1), Trial(cluster, random.Random(1))
        with trial.load() as load:
            for id in ("n2", "n3", "n4", "n5"):
                load.run_until_answered(WARM_UP // 3)
                join(cluster, id, asked=rng.choice(list(cluster)))
            assert members(cluster) == {"n1", "n2", "n3", "n4", "n5"}
            load.run_until_answered(WARM_UP)
            assert_nobody_noticed(load)
        with trial.load([first]) as load:
            for id in ("n5", "n4", "n3", "n2"):
                load.run_until_answered(WARM_UP // 3)
                leaving = cluster[id]
                asked = rng.choice([node for node in cluster if node is not leaving])
                assert asked.call("RAFT.REMOVE", id) == "OK"
                leaving.shows("removed from the cluster")
                cluster.forget(leaving)
            assert members(cluster) == {"n1"}
            load.run_until_answered(WARM_UP)
        first.restart()
        assert members(cluster) == {"n1"}

    def test_a_node_that_began_alone_is_one_of_three_for_good(
        self, make_cluster: MakeCluster
    ) -> None:
        """It starts again as one of them, and comes back from damage as any of them does."""
        cluster = make_cluster(1).start()
        first, trial = cluster["n1"], Trial(cluster, random.Random(1))
        for id in ("n2", "n3"):
            join(cluster, id, asked=first)
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            first.kill9()
            first.start()
            cluster.wait_until_whole()
            load.run_until_answered(WARM_UP)
            first.kill9()
            damage(write_ahead_log(first))
            first.start()
            load.run_until_answered(WARM_UP)
        first.shows("has lost data that it had acknowledged: it takes part as a new server")

    def test_five_bear_the_loss_of_two(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster(5).start()
        trial = Trial(cluster, random.Random(1))
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            cluster.leader().kill9()
            load.wait_for_grant()
            cluster.leader().kill9()
            load.wait_for_grant()
            load.run_until_answered(WARM_UP)

    def test_the_leader_is_removed(self, make_cluster: MakeCluster) -> None:
        """It hands over to another, says that it is no member any more, and troubles nobody."""
        cluster = make_cluster().start()
        trial, leader = Trial(cluster, random.Random(1)), cluster.leader()
        others = cluster.followers()
        with trial.load(others) as load:
            load.run_until_answered(WARM_UP)
            assert others[0].call("RAFT.REMOVE", leader.id) == "OK"
            load.wait_for_grant()
            leader.shows("removed from the cluster")
            eventually(lambda: members_without(cluster, leader), "it is out")
            term = others[0].status()["term"]
            load.run_for(3 * ELECTION_TIMEOUT_MS / 1000)
            assert others[0].status()["term"] == term
            cluster.forget(leader)
            assert_nobody_noticed(load)

    def test_a_removed_node_does_not_come_back(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster().start()
        leader, (leaving, _) = cluster.leader(), cluster.followers()
        leaving.kill9()
        assert leader.call("RAFT.REMOVE", leaving.id) == "OK"
        term = leader.status()["term"]
        leaving.begin()
        leaving.shows("removed from the cluster")
        status = leaving.glance("RAFT.STATUS")
        assert status is None or status["role"] not in ("leader", "candidate")
        reply = leader.call("LOCK.ACQUIRE", "a", "me")
        assert not isinstance(reply, Failure)
        assert leader.status()["term"] == term
        leaving.discard()
        cluster.forget(leaving)
        assert members(cluster) == {node.id for node in cluster}

    def test_a_dead_node_is_replaced_by_one_of_another_name(
        self, cluster: Cluster, trial: Trial
    ) -> None:
        dead = cluster.followers()[0]
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            dead.kill9()
            join(cluster, f"{dead.id}b", asked=cluster.leader())
            assert cluster.leader().call("RAFT.REMOVE", dead.id) == "OK"
            cluster.forget(dead)
            load.run_until_answered(WARM_UP)
        assert members(cluster) == {node.id for node in cluster}

    def test_changes_may_be_asked_for_again(self, cluster: Cluster) -> None:
        follower = cluster.followers()[0]
        before = members(cluster)
        assert follower.call("RAFT.ADD", follower.id, follower.address) == "OK"
        assert follower.call("RAFT.REMOVE", "n9") == "OK"
        assert members(cluster) == before

    @pytest.mark.parametrize(
        ("id", "address"),
        [("n 9", "127.0.0.1:1"), ("n9", "nowhere"), ("n9", "127.0.0.1:0"), ("n9", "0.0.0.0:7379")],
    )
    def test_what_cannot_be_added(self, cluster: Cluster, id: str, address: str) -> None:
        before = members(cluster)
        assert isinstance(cluster.leader().call("RAFT.ADD", id, address), Failure)
        assert members(cluster) == before

    def test_a_node_that_is_not_there_cannot_be_added(self, cluster: Cluster) -> None:
        before = members(cluster)
        free = cluster.followers()[0].port
        reply = cluster.leader().call("RAFT.ADD", "n9", f"127.0.0.1:{free}@1")
        assert isinstance(reply, Failure)
        assert "cannot be reached" in reply
        assert members(cluster) == before

    def test_the_last_node_stays(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster(1).start()
        assert isinstance(cluster["n1"].call("RAFT.REMOVE", "n1"), Failure)
        assert not isinstance(cluster["n1"].call("LOCK.ACQUIRE", "a", "me"), Failure)


def members_without(cluster: Cluster, node: ClusterNode) -> bool:
    """Whether the others lead themselves without the node."""
    for other in cluster:
        status = other.status() if other is not node else None
        if status is not None and status["role"] == "leader":
            with other.wire(protocol=3) as wire:
                peers = wire.map("RAFT.STATUS")["peers"]
            return node.id.encode() not in {peer[b"id"] for peer in peers}
    return False
