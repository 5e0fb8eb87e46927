"""Nodes that die, stand still, or lose their disks, under load: what was acknowledged is there, no
version is given twice, and no lock is held twice. See Trial for what is checked after each test.

RESPLOCK_FAULT_ROUNDS and RESPLOCK_FAULT_SEED make a longer campaign, or another one:

    RESPLOCK_FAULT_ROUNDS=500 RESPLOCK_FAULT_SEED=7 pytest tests/e2e/test_cluster_faults.py -k campaign
"""

from __future__ import annotations

import os
import random
import shutil
import signal

import pytest

from tests.e2e.cluster import ELECTION_TIMEOUT_MS, Cluster, ClusterNode
from tests.e2e.cluster_load import ClusterLoad, Trial
from tests.e2e.conftest import MakeCluster
from tests.e2e.damage import DAMAGES, write_ahead_log
from tests.e2e.history import Violation
from tests.e2e.waiting import eventually

ROUNDS = int(os.environ.get("RESPLOCK_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("RESPLOCK_FAULT_SEED", "1"))
WARM_UP = 300
"""Replies before a fault, and again after it."""
CRASH_S = 2.0
SILENCE_S = 3 * ELECTION_TIMEOUT_MS / 1000 + CRASH_S
"""How long it may take until locks are granted again after a crash of the leader, and after it falls
silent, on a machine that does much else. What it takes on a quiet one is measured in bench/."""


@pytest.fixture
def trial(cluster: Cluster) -> Trial:
    return Trial(cluster, random.Random(SEED))


class TestKill9:
    def test_of_the_leader(self, cluster: Cluster, trial: Trial) -> None:
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            leader = cluster.leader()
            leader.kill9()
            assert load.wait_for_grant() < CRASH_S
            load.run_until_answered(WARM_UP)
            assert cluster.leader() is not leader
            leader.start()
            load.run_until_answered(WARM_UP)

    def test_of_a_follower(self, cluster: Cluster, trial: Trial) -> None:
        """Those at the other nodes notice nothing."""
        follower, other = cluster.followers()
        leader, term = cluster.leader(), cluster.leader().status()["term"]
        with trial.load([leader, other]) as load:
            load.run_until_answered(WARM_UP)
            follower.kill9()
            load.run_until_answered(WARM_UP)
            follower.start()
            load.run_until_answered(WARM_UP)
            assert not load.codes.keys() & {"INDOUBT", "CLUSTERDOWN", "ConnectionError"}
        assert leader.status()["term"] == term

    def test_of_a_majority(self, cluster: Cluster, trial: Trial) -> None:
        """What is left grants nothing, and says whether anything came of what it was asked."""
        leader = cluster.leader()
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            for follower in cluster.followers():
                follower.kill9()
            eventually(lambda: load.codes["CLUSTERDOWN"] >= 10, "refusals without a leader")
            began = load.answered
            eventually(lambda: load.codes["CLUSTERDOWN"] >= 20, "more refusals")
            assert load.answered == began
            assert leader.status()["role"] != "leader"
            cluster.restore()
            load.run_until_answered(WARM_UP)

    def test_of_all_at_once(self, cluster: Cluster, trial: Trial) -> None:
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            for node in cluster:
                node.signal(signal.SIGKILL)
            for node in cluster:
                node.wait()
            cluster.start()
            load.run_until_answered(WARM_UP)

    def test_one_leader_after_the_other(self, cluster: Cluster, trial: Trial) -> None:
        with trial.load() as load:
            for _ in range(3):
                load.run_until_answered(WARM_UP)
                leader = cluster.leader()
                leader.kill9()
                leader.begin()
                load.wait_for_grant()
                leader.wait_until_it_answers()


class TestPause:
    """SIGSTOP: the process is there, its sockets too, and nothing comes from it."""

    def test_of_the_leader(self, cluster: Cluster, trial: Trial) -> None:
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            leader = cluster.leader()
            leader.pause()
            assert load.wait_for_grant() < SILENCE_S
            load.run_until_answered(WARM_UP)
            assert cluster.leader() is not leader
            leader.resume()
            load.run_until_answered(WARM_UP)

    def test_it_knows_at_once_that_it_leads_no_more(self, cluster: Cluster, trial: Trial) -> None:
        """The first thing that a leader is asked after a pause is not answered from the past."""
        leader = cluster.leader()
        with trial.load(cluster.followers()) as load, leader.wire(protocol=3) as wire:
            wire.map("LOCK.ACQUIRE", "paused", "me", "TTL", 0)
            leader.pause()
            wire.send("LOCK.GET", "paused")
            load.wait_for_grant()
            with cluster.leader().wire() as other:
                assert other.call("LOCK.BREAK", "paused") == 1
            leader.resume()
            assert wire.receive() is None

    def test_of_a_follower(self, cluster: Cluster, trial: Trial) -> None:
        follower, other = cluster.followers()
        leader, term = cluster.leader(), cluster.leader().status()["term"]
        with trial.load([leader, other]) as load:
            load.run_until_answered(WARM_UP)
            follower.pause()
            load.run_until_answered(WARM_UP)
            load.run_for(2 * ELECTION_TIMEOUT_MS / 1000)
            follower.resume()
            load.run_until_answered(WARM_UP)
            assert not load.codes.keys() & {"INDOUBT", "CLUSTERDOWN", "ConnectionError"}
        assert leader.status()["term"] == term

    def test_of_all_at_once(self, cluster: Cluster, trial: Trial) -> None:
        """As when a machine sleeps: everybody wakes up late, and nobody may conclude anything."""
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            for node in cluster:
                node.pause()
            load.run_for(1.5 * ELECTION_TIMEOUT_MS / 1000)
            for node in cluster:
                node.resume()
            load.run_until_answered(WARM_UP)


class TestLostDisks:
    """A node that comes back without what it knew takes no part in votes until it knows it again."""

    @pytest.mark.parametrize("whose", ["a follower", "the leader"])
    def test_an_empty_directory(self, cluster: Cluster, trial: Trial, whose: str) -> None:
        node = cluster.leader() if whose == "the leader" else cluster.followers()[0]
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            node.kill9()
            node.wipe()
            load.wait_for_grant()
            node.start()
            load.run_until_answered(WARM_UP)
            eventually(lambda: _is_voter(node), f"{node.id} votes again")
        node.shows("takes part as a new server")

    def test_all_after_each_other(self, cluster: Cluster, trial: Trial) -> None:
        """In the end nobody is left of those who saw the first commands."""
        for node in cluster:
            with trial.load() as load:
                load.run_until_answered(WARM_UP)
                node.kill9()
                node.wipe()
                node.start()
                load.run_until_answered(WARM_UP)

    @pytest.mark.parametrize("damage", ["a flipped bit", "the end cut off"])
    def test_a_damaged_log(self, cluster: Cluster, trial: Trial, damage: str) -> None:
        node = cluster.followers()[0]
        with trial.load() as load:
            load.run_until_answered(WARM_UP)
            node.kill9()
            DAMAGES[damage](write_ahead_log(node))
            load.run_until_answered(WARM_UP)
            node.start()
            load.run_until_answered(WARM_UP)
        node.shows("has lost data that it had acknowledged: it takes part as a new server")


def _is_voter(node: ClusterNode) -> bool:
    status = node.status()
    return status is not None and status["role"] != "learner"


def test_a_follower_that_was_down_for_long_gets_a_snapshot(make_cluster: MakeCluster) -> None:
    """The log that it lacks is no longer kept."""
    cluster = make_cluster(3, "--snapshot-entries=200").start()
    trial = Trial(cluster, random.Random(SEED))
    node = cluster.followers()[0]
    with trial.load() as load:
        load.run_until_answered(WARM_UP)
        node.kill9()
        known = cluster.leader().status()["last_applied"]
        eventually(lambda: cluster.leader().status()["snapshot_index"] > known, "newer snapshots")
        node.start()
        load.run_until_answered(WARM_UP)
    assert node.status()["snapshot_index"] > known
    node.shows("snapshot")


def test_a_follower_is_killed_while_it_gets_a_snapshot(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, "--snapshot-entries=200").start()
    trial = Trial(cluster, random.Random(SEED))
    node, rng = cluster.followers()[0], random.Random(SEED)
    with trial.load() as load:
        node.kill9()
        for _ in range(3):
            node.wipe()
            load.run_until_answered(WARM_UP)
            node.begin()
            assert not node.ends_within(rng.uniform(0.3, 0.9))
            node.kill9()
        node.start()
        load.run_until_answered(WARM_UP)


class Campaign:
    """Faults by chance, several in each round, on one cluster."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.trial = Trial(cluster, rng)
        self.faults = [
            self._kill,
            self._kill,
            self._pause,
            self._kill_all,
            self._wipe,
            self._damage,
            self._stop,
        ]

    def round(self) -> None:
        with self.trial.load() as load:
            for _ in range(self.rng.randrange(1, 4)):
                load.run_until_answered(self.rng.randrange(WARM_UP))
                fault = self.rng.choice(self.faults)
                fault(load, self.rng.choice(list(self.cluster)))
                load.run_for(self.rng.uniform(0, 0.5))
                self.cluster.restore()
            load.run_until_answered(WARM_UP)

    def _kill(self, load: ClusterLoad, node: ClusterNode) -> None:
        node.kill9()
        load.run_for(self.rng.uniform(0, 0.5))
        node.begin()
        if self.rng.random() < 0.3 and not node.ends_within(self.rng.uniform(0.1, 0.8)):
            node.kill9()
            node.begin()
        node.wait_until_it_answers()

    def _pause(self, load: ClusterLoad, node: ClusterNode) -> None:
        node.pause()
        load.run_for(self.rng.uniform(0, 4 * ELECTION_TIMEOUT_MS / 1000))

    def _kill_all(self, _: ClusterLoad, __: ClusterNode) -> None:
        for node in self.cluster:
            node.signal(signal.SIGKILL)
        for node in self.cluster:
            node.wait()

    def _wipe(self, _: ClusterLoad, node: ClusterNode) -> None:
        node.kill9()
        node.wipe()

    def _damage(self, _: ClusterLoad, node: ClusterNode) -> None:
        node.kill9()
        for path in node.data_dir.glob("damaged-*"):
            shutil.rmtree(path)
        self.rng.choice(list(DAMAGES.values()))(write_ahead_log(node))

    def _stop(self, _: ClusterLoad, node: ClusterNode) -> None:
        assert node.terminate() == 0


@pytest.mark.timeout(60 + 30 * ROUNDS)
@pytest.mark.parametrize("snapshot_entries", [300, 1_000_000])
def test_a_campaign(make_cluster: MakeCluster, snapshot_entries: int) -> None:
    cluster = make_cluster(3, f"--snapshot-entries={snapshot_entries}").start()
    campaign = Campaign(cluster, random.Random(SEED * 2 + (snapshot_entries == 300)))
    for _ in range(ROUNDS):
        campaign.round()
    assert campaign.trial.answered > ROUNDS * WARM_UP


def test_the_check_notices_a_cluster_that_forgets(make_cluster: MakeCluster) -> None:
    """The same on disks that lost what they were told: the directories are put back to before."""
    cluster = make_cluster().start()
    trial = Trial(cluster, random.Random(SEED))
    with trial.load() as load:
        load.run_until_answered(WARM_UP)
    for node in cluster:
        node.kill9()
        shutil.copytree(node.data_dir, node.directory / "older")
    cluster.start()

    def forget() -> None:
        with trial.load() as load:
            load.run_until_answered(2 * WARM_UP)
            for node in cluster:
                node.kill9()
                node.wipe()
                shutil.copytree(node.directory / "older", node.data_dir)

    with pytest.raises(Violation):
        forget()
