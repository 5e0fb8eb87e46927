"""Who does not belong: a second server with a node's name, settings of another cluster, another cluster's
node, and bytes that are no peer's. Each is told so in words, and the cluster goes on as if nothing was.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.peer_port import bytes_for
from tests.e2e.cluster import ELECTION_TIMEOUT_MS, Cluster, ClusterNode
from tests.e2e.cluster_load import Trial
from tests.e2e.ports import Ports
from tests.e2e.process import START_LINE
from tests.e2e.waiting import DEADLINE_S, eventually
from tests.e2e.wire import Failure

CONNECTIONS = 150
"""How many attackers come to each node, one after the other."""


@pytest.fixture
def ports() -> Iterator[Ports]:
    taken = Ports()
    yield taken
    taken.release()


@pytest.fixture
def make_stranger(tmp_path: Path, ports: Ports) -> Iterator[Any]:
    """Makes a node on ports of its own that none of the cluster's knows."""
    made: list[ClusterNode] = []

    def make(id: str, *options: str) -> ClusterNode:
        directory = tmp_path / f"stranger{len(made)}"
        node = ClusterNode(directory, id, "127.0.0.1", ports.take(), ports.take())
        node.options = (f"--node-id={id}", f"--peer-port={node.peer_port}", *options)
        node.options += (f"--election-timeout-ms={ELECTION_TIMEOUT_MS}",)
        made.append(node)
        return node

    yield make
    for node in made:
        node.discard()
    for node in made:
        node.assert_clean_log()


def view(cluster: Cluster) -> tuple[int, list[tuple[str, str]]]:
    """The term, and the members with their addresses."""
    leader = cluster.leader()
    with leader.wire(protocol=3) as wire:
        status = wire.map("RAFT.STATUS")
    members = [(each[b"id"].decode(), each[b"address"].decode()) for each in status["members"]]
    return status["term"], sorted(members)


def refusal(node: ClusterNode) -> str:
    """Why the node does not start; nothing else may be in its log's end."""
    node.begin()
    assert node.ends_within(DEADLINE_S), "it starts"
    assert node.wait() != 0
    return node.log().splitlines()[-1]


class TestOneNameTwice:
    @pytest.mark.parametrize("how", ["--join", "--cluster"])
    def test_a_second_server_with_the_name_of_a_node(
        self, cluster: Cluster, make_stranger: Any, how: str
    ) -> None:
        """While the first is there, the second is told so, and nothing changes."""
        before = view(cluster)
        named = cluster.followers()[0]
        double = make_stranger(named.id)
        if how == "--join":
            double.options += (f"--join={cluster.leader().address}",)
        else:
            places = {node.id: node.address for node in cluster} | {named.id: double.address}
            double.options += (
                "--cluster=" + ",".join(f"{id}={place}" for id, place in places.items()),
            )
        double.begin()
        eventually(lambda: named.id in double.log(), "it says something")
        double.ends_within(3 * ELECTION_TIMEOUT_MS / 1000)
        assert view(cluster) == before
        status = double.status()
        assert status is None or status["role"] not in ("leader", "candidate")
        reply = double.call("LOCK.ACQUIRE", "double", "me") if status else None
        assert status is None or isinstance(reply, Failure)

    def test_the_first_comes_back_after_it_was_replaced(
        self, cluster: Cluster, make_stranger: Any
    ) -> None:
        """A node that was down while another took its name as the new one is out for good."""
        old = cluster.followers()[0]
        old.kill9()
        new = make_stranger(old.id, f"--join={cluster.leader().address}").start()
        assert cluster.leader().call("RAFT.ADD", new.id, new.address) == "OK"
        eventually(lambda: (new.status() or {}).get("role") == "follower", "it votes")
        old.begin()
        old.shows("removed from the cluster")
        term, members = view(cluster)
        assert (new.id, f"{new.host}:{new.port}") in members
        assert len(members) == 3
        reply = cluster.leader().call("LOCK.ACQUIRE", "replaced", "me")
        assert not isinstance(reply, Failure)
        assert view(cluster)[0] == term
        # Put it right again, for the other tests.
        old.kill9()
        old.wipe()
        new.discard()
        old.start()
        assert cluster.leader().call("RAFT.ADD", old.id, old.address) == "OK"
        cluster.wait_until_whole()


class TestWrongSettings:
    """An existing data directory, started with what is not its own."""

    @pytest.fixture
    def stopped(self, cluster: Cluster) -> Iterator[ClusterNode]:
        """A node that is down, with its options as they were put back at the end."""
        node = cluster.followers()[0]
        assert node.terminate() == 0
        options = node.options
        yield node
        node.options = options

    def test_another_name(self, cluster: Cluster, stopped: ClusterNode) -> None:
        [other] = [node.id for node in cluster.followers() if node is not stopped]
        stopped.options = tuple(
            option.replace(f"--node-id={stopped.id}", f"--node-id={other}").replace(
                f"{stopped.id}={stopped.address}", f"{stopped.id}=127.0.0.1:1@2"
            )
            for option in stopped.options
        )
        stopped.options = tuple(
            option.replace(f"{other}={cluster[other].address}", f"{other}={stopped.address}")
            for option in stopped.options
        )
        assert f"belongs to node {stopped.id!r}" in refusal(stopped).replace('"', "'")

    def test_another_address_of_its_own(
        self, cluster: Cluster, stopped: ClusterNode, ports: Ports
    ) -> None:
        port, peer_port = ports.take(), ports.take()
        there = f"{stopped.id}=127.0.0.1:{port}@{peer_port}"
        stopped.options = tuple(
            option.replace(f"{stopped.id}={stopped.address}", there) for option in stopped.options
        )
        known, stopped.port = stopped.port, port
        try:
            assert f"the cluster knows {stopped.id} at 127.0.0.1:{known}" in refusal(stopped)
        finally:
            stopped.port = known

    def test_other_members_are_a_warning(self, cluster: Cluster, stopped: ClusterNode) -> None:
        """The list is for the first start: the cluster may have changed since."""
        stopped.options = tuple(
            f"{option},n9=127.0.0.1:1@2" if option.startswith("--cluster=") else option
            for option in stopped.options
        )
        stopped.start()
        assert "--cluster differs from what this node's cluster began with" in stopped.log()
        cluster.wait_until_whole()
        assert "n9" not in dict(view(cluster)[1])


class TestAnotherCluster:
    def test_its_node_cannot_be_added(self, cluster: Cluster, make_stranger: Any) -> None:
        before = view(cluster)
        foreign = make_stranger("n9").start()
        reply = cluster.leader().call("RAFT.ADD", foreign.id, foreign.address)
        assert isinstance(reply, Failure)
        assert "belongs to another cluster" in reply
        assert view(cluster) == before
        assert not isinstance(foreign.call("LOCK.ACQUIRE", "a", "me"), Failure)

    def test_an_empty_node_with_the_wrong_list_waits(
        self, cluster: Cluster, make_stranger: Any
    ) -> None:
        """Its list names nodes of a cluster that began without it: it does not become a member."""
        before = view(cluster)
        lost = make_stranger("n9")
        lost.options += (f"--cluster={cluster.list},n9={lost.address}",)
        lost.begin()
        eventually(lambda: "the cluster has begun without" in lost.log(), "it says so")
        lost.ends_within(2 * ELECTION_TIMEOUT_MS / 1000)
        assert view(cluster) == before

    def test_a_cluster_does_not_begin_with_a_node_of_another(
        self, cluster: Cluster, make_stranger: Any
    ) -> None:
        """Nodes whose lists differ do not find together; each says what is in the way."""
        one, two = make_stranger("m1"), make_stranger("m2")
        one.options += (f"--cluster=m1={one.address},m2={two.address}",)
        two.options += (f"--cluster=m1={one.address},m2={two.address},m3=127.0.0.1:1@2",)
        one.begin()
        two.begin()
        one.shows("m2 was started with another --cluster")
        two.shows("m1 was started with another --cluster")
        assert not START_LINE.search(one.log() + two.log())
        assert [node.terminate() for node in (one, two)] == [0, 0]


class TestGarbage:
    def test_on_the_peer_ports_under_load(self, cluster: Cluster) -> None:
        """Also from somebody who knows the cluster's id."""
        trial, term = Trial(cluster, random.Random(1)), view(cluster)[0]
        logs = {node.id: len(node.log().splitlines()) for node in cluster}
        with trial.load() as load:
            for node in cluster:
                file = json.loads((node.data_dir / "cluster").read_text())
                for number in range(CONNECTIONS):
                    rng = random.Random(f"{node.id}/{number}")
                    attack(node.peer_port, bytes_for(rng, file["cluster_id"]))
            load.run_until_answered(300)
            assert not load.codes.keys() & {"INDOUBT", "CLUSTERDOWN", "ConnectionError"}
        assert view(cluster)[0] == term
        for node in cluster:
            assert len(node.log().splitlines()) - logs[node.id] < 100


def attack(port: int, pieces: list[bytes]) -> None:
    """Send it, piece by piece, unless the node closes the connection before."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as attacker:
        try:
            for piece in pieces:
                attacker.sendall(piece)
        except ConnectionError:
            pass
