"""Partitions: packets that get lost without a word, between nodes that are all well. Clients reach every
node throughout. See Trial for what is checked of their histories after each test, and `network` for how
it is done. RESPLOCK_FAULT_ROUNDS and RESPLOCK_FAULT_SEED make a longer campaign, or another one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.e2e import network
from tests.e2e.cluster import ELECTION_TIMEOUT_MS, Cluster, ClusterNode
from tests.e2e.cluster_load import Trial
from tests.e2e.network import Network
from tests.e2e.waiting import eventually, now_ms
from tests.e2e.wire import Failure, by_field

WHY_NOT = network.why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"no partitions are tested: {WHY_NOT}")

ROUNDS = int(os.environ.get("RESPLOCK_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("RESPLOCK_FAULT_SEED", "1"))
WARM_UP = 300
SILENCE_S = 3 * ELECTION_TIMEOUT_MS / 1000 + 2.0
"""How long it may take until locks are granted again, on a machine that does much else."""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    made = Network(["n1", "n2", "n3"])
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory, net: Network) -> Iterator[Cluster]:
    """Three nodes, each in its namespace."""
    spread = Cluster(
        tmp_path_factory.mktemp("spread"),
        3,
        "--no-protected-mode",  # the clients are not in the nodes' namespaces
        hosts=net.hosts,
        through=net.through,
    )
    try:
        yield spread
    finally:
        spread.discard()


@pytest.fixture
def trial(spread: Cluster, net: Network) -> Iterator[Trial]:
    net.heal()
    spread.restore()
    yield Trial(spread, random.Random(SEED), net.heal)
    net.heal()
    spread.assert_clean_logs()


def ids(nodes: list[ClusterNode]) -> list[str]:
    return [node.id for node in nodes]


class TestPartitions:
    def test_the_leader_alone(self, spread: Cluster, net: Network, trial: Trial) -> None:
        """The majority goes on without it; it says so, and grants nothing."""
        leader, others = spread.leader(), spread.followers()
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            net.part([leader.id], ids(others))
            assert load.wait_for_grant() < SILENCE_S
            load.run_until_answered(WARM_UP)
            eventually(lambda: leader.status()["role"] != "leader", "it steps down")
            reply = leader.call("LOCK.ACQUIRE", "alone", "me")
            assert isinstance(reply, Failure)
            assert reply.code == "CLUSTERDOWN"
            assert leader.call("LOCK.GET", "alone").code == "CLUSTERDOWN"
            net.heal()
            load.run_until_answered(WARM_UP)

    def test_what_a_leader_proposed_alone_is_undone(
        self, spread: Cluster, net: Network, trial: Trial
    ) -> None:
        """Nobody was told that it had happened."""
        leader, others = spread.leader(), spread.followers()
        net.part([leader.id], ids(others))
        reply = leader.call("LOCK.ACQUIRE", "undone", "me", "TTL", 0)
        assert isinstance(reply, Failure)
        assert reply.code in {"INDOUBT", "CLUSTERDOWN"}, "the latter when it had noticed before"
        with trial.load(others) as load:
            load.wait_for_grant()
            granted = by_field(spread.leader().call("LOCK.ACQUIRE", "undone", "you", "TTL", 0))
            assert granted["status"] == b"granted"
            net.heal()
            spread.wait_until_whole()
            info = by_field(leader.call("LOCK.GET", "undone"))
            assert (info["owner"], info["version"]) == (b"you", granted["version"])
            assert leader.call("LOCK.BREAK", "undone") == 1

    def test_a_follower_alone(self, spread: Cluster, net: Network, trial: Trial) -> None:
        """It disturbs nobody, neither meanwhile nor when it comes back (thesis 9.6)."""
        leader, (alone, other) = spread.leader(), spread.followers()
        term = leader.status()["term"]
        with trial.load([leader, other]) as load:
            net.part([alone.id], [leader.id, other.id])
            load.run_until_answered(WARM_UP)
            load.run_for(4 * ELECTION_TIMEOUT_MS / 1000)
            reply = alone.call("LOCK.GET", "alone")
            assert isinstance(reply, Failure)
            assert reply.code == "CLUSTERDOWN"
            net.heal()
            load.run_until_answered(WARM_UP)
            assert not load.codes.keys() & {"INDOUBT", "CLUSTERDOWN", "ConnectionError"}
        assert leader.status()["term"] == term

    def test_everybody_alone(self, spread: Cluster, net: Network, trial: Trial) -> None:
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            net.part(*([node.id] for node in spread))
            eventually(lambda: load.codes["CLUSTERDOWN"] >= 10, "refusals everywhere")
            assert all(node.status()["role"] != "leader" for node in spread)
            net.heal()
            assert load.wait_for_grant() < SILENCE_S
            load.run_until_answered(WARM_UP)

    def test_two_that_do_not_hear_each_other(
        self, spread: Cluster, net: Network, trial: Trial
    ) -> None:
        """The leader and a follower: the third, which hears both, does not have them take turns."""
        leader, (deaf, bridge) = spread.leader(), spread.followers()
        with trial.load([leader, bridge]) as load:
            load.run_until_answered(WARM_UP)
            net.part([leader.id], [deaf.id])
            load.wait_for_grant()
            load.run_for(6 * ELECTION_TIMEOUT_MS / 1000)
            term = spread.leader().status()["term"]
            load.run_for(4 * ELECTION_TIMEOUT_MS / 1000)
            assert spread.leader().status()["term"] == term
            net.heal()
            load.run_until_answered(WARM_UP)

    @pytest.mark.parametrize("way", ["from the leader", "to the leader"])
    def test_one_way(self, spread: Cluster, net: Network, trial: Trial, way: str) -> None:
        leader, others = spread.leader(), spread.followers()
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            for other in others:
                pair = (leader.id, other.id)
                net.cut(*(pair if way == "from the leader" else reversed(pair)))
            assert load.wait_for_grant() < SILENCE_S
            load.run_until_answered(WARM_UP)
            assert spread.leader() is not leader
            net.heal()
            load.run_until_answered(WARM_UP)

    def test_it_is_over_soon_after(self, spread: Cluster, net: Network, trial: Trial) -> None:
        """A node that was cut off for long serves its clients again soon after."""
        alone = spread.followers()[0]
        with trial.load([node for node in spread if node is not alone]) as load:
            net.part([alone.id], [node.id for node in spread if node is not alone])
            load.run_for(6 * ELECTION_TIMEOUT_MS / 1000)
            net.heal()
            began = now_ms()
            eventually(lambda: not isinstance(alone.call("LOCK.GET", "a"), Failure), "it serves")
            assert now_ms() - began < 1000 * SILENCE_S


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_a_campaign(spread: Cluster, net: Network, trial: Trial) -> None:
    """Random cuts that come and go, now and then with a node that is killed meanwhile."""
    rng = random.Random(SEED)
    for _ in range(ROUNDS):
        with trial.load() as load:
            for _ in range(3):
                load.run_until_answered(rng.randrange(WARM_UP))
                for one, other in rng.sample(pairs(spread), rng.randrange(1, 7)):
                    net.cut(one, other)
                load.run_for(rng.uniform(0, 4 * ELECTION_TIMEOUT_MS / 1000))
                if rng.random() < 0.3:
                    rng.choice(list(spread)).restart()
                net.heal()
            load.run_until_answered(WARM_UP)
    assert trial.answered > ROUNDS * WARM_UP


def pairs(cluster: Cluster) -> list[tuple[str, str]]:
    names = ids(list(cluster))
    return [(one, other) for one in names for other in names if one != other]
