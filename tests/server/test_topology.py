"""The view of the cluster that discovery is made from, and what is published when it changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from resplock.config import Settings
from resplock.raft.entries import Configuration, Member
from resplock.server.announcing import Announcer
from resplock.server.pubsub import PubSub
from resplock.server.topology import Topology, View
from resplock.types import NodeId


def member(number: int, **changes: str) -> Member:
    given = {
        "id": f"n{number}",
        "uuid": str(number) * 32,
        "client_address": f"10.0.0.{number}:7379",
        "peer_address": f"10.0.0.{number}:17379",
    }
    return Member(**{**given, **changes})


def core(leader: str | None, *voters: Member, term: int = 1, learners: Any = ()) -> Any:
    return SimpleNamespace(
        term=term,
        leader_id=leader,
        configuration=Configuration(voters=voters, learners=tuple(learners)),
    )


THREE = (member(1), member(2), member(3))


class TestTopology:
    def view(self, core: Any, **settings: Any) -> View:
        return Topology(Settings(**settings)).view(core, 7379)

    def test_a_follower_knows_its_leader(self) -> None:
        view = self.view(core("n2", *THREE, term=7), node_id="n3")
        assert (view.term, view.me.id, view.leads) == (7, "n3", False)
        assert view.leader is view.owner is view.nodes[1]
        assert view.owner.address == "10.0.0.2:7379"
        assert view.owner.peer_port == 17379
        assert [node.id for node in view.replicas] == ["n1", "n3"]
        assert [node.id for node in view.others] == ["n1", "n2"]
        assert view.quorum == 2

    def test_the_leader_knows_itself(self) -> None:
        view = self.view(core("n1", *THREE))
        assert view.leads
        assert view.me is view.leader is view.owner

    def test_a_learner_is_a_node_but_no_replica(self) -> None:
        view = self.view(core("n1", *THREE, learners=[member(4)]))
        assert [node.id for node in view.nodes] == ["n1", "n2", "n3", "n4"]
        assert [node.id for node in view.replicas] == ["n2", "n3"]
        assert view.quorum == 2

    def test_names_are_those_of_a_data_directory(self) -> None:
        names = [node.name for node in self.view(core("n1", *THREE)).nodes]
        again = [node.name for node in self.view(core("n2", *THREE), node_id="n2").nodes]
        wiped = [
            node.name for node in self.view(core("n1", member(1, uuid="ab"), *THREE[1:])).nodes
        ]
        assert names == again
        assert all(len(name) == 40 and int(name, 16) >= 0 for name in names)
        assert wiped[0] != names[0]
        assert wiped[1:] == names[1:]

    def test_without_a_leader_the_last_one_owns(self) -> None:
        topology = Topology(Settings(node_id="n3"))
        assert topology.view(core(None, *THREE), 7379).owner is None
        assert topology.view(core("n2", *THREE), 7379).owner.id == "n2"
        view = topology.view(core(None, *THREE), 7379)
        assert (view.leader, view.owner.id) == (None, "n2")
        without = topology.view(core(None, THREE[0], THREE[2]), 7379)
        assert without.owner is None

    def test_a_node_that_waits_to_be_added(self) -> None:
        view = self.view(core(None), node_id="n4", host="10.0.0.4")
        assert (view.me.id, view.me.address, view.me.is_voter) == ("n4", "10.0.0.4:7379", False)
        assert view.nodes == (view.me,)
        assert (view.leader, view.owner, view.replicas) == (None, None, ())

    def test_it_is_made_once_for_each_change(self) -> None:
        topology = Topology(Settings())
        one, other = core("n1", *THREE), core("n2", *THREE)
        first = topology.view(one, 7379)
        assert topology.view(one, 7379) is first
        assert topology.view(core("n1", *THREE), 7379) is first
        assert topology.view(other, 7379) is not first
        assert topology.view(core("n1", *THREE, term=2), 7379).term == 2

    def test_an_ipv6_address(self) -> None:
        view = self.view(core("n2", member(1), member(2, client_address="[::1]:7380")))
        assert (view.owner.host, view.owner.port) == ("::1", 7380)
        assert view.owner.address == "[::1]:7380"


class TestOwnHost:
    """Of a node that is alone."""

    ALONE = core("n1", Member(NodeId("n1"), "0" * 32))

    def host(self, asked_at: str = "", **settings: Any) -> tuple[str, int, int]:
        me = Topology(Settings(**settings)).view(self.ALONE, 7001, asked_at).me
        return me.host, me.port, me.peer_port

    def test_it_is_what_it_listens_on(self) -> None:
        assert self.host("127.0.0.9:1", host="10.0.0.1") == ("10.0.0.1", 7001, 17001)

    def test_or_where_it_was_asked_when_it_listens_on_all(self) -> None:
        assert self.host("192.168.1.5:7001", host="0.0.0.0") == ("192.168.1.5", 7001, 17001)
        assert self.host("[fd00::5]:7001", host="::") == ("fd00::5", 7001, 17001)

    def test_or_what_it_was_told(self) -> None:
        assert self.host("10.0.0.9:1", host="0.0.0.0", announce_host="db") == ("db", 7001, 17001)

    def test_where_it_listened_before_does_not_matter(self) -> None:
        alone = core("n1", member(1, client_address="10.0.0.9:1"))
        me = Topology(Settings(host="10.0.0.1")).view(alone, 7001).me
        assert me.address == "10.0.0.1:7001"

    def test_two_clients_may_have_reached_it_at_two_addresses(self) -> None:
        topology = Topology(Settings(host="0.0.0.0"))
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
            assert topology.view(self.ALONE, 7001, f"{host}:7001").me.host == host


class TestAnnouncements:
    def run(self, *leaders: str | None, voters: tuple[Member, ...] = THREE) -> list[str]:
        """What is published while one leader follows the other, None for none."""
        published: list[str] = []

        class Listener:
            protocol_version = 2

            def push(self, data: bytes) -> None:
                words = data.split(b"\r\n")
                published.append(f"{words[6].decode()}: {words[8].decode()}")

        pubsub, topology = PubSub(), Topology(Settings(node_id="n3"))
        pubsub.subscribe_pattern(Listener(), b"*")
        now: list[Any] = []
        announcer = Announcer(lambda: topology.view(now[-1], 7379), pubsub)
        for term, leader in enumerate(leaders):
            now.append(core(leader, *voters, term=term))
            announcer.look()
            announcer.look()
        return published

    def test_a_new_leader(self) -> None:
        assert self.run("n1", "n2") == [
            "+switch-master: resplock 10.0.0.1 7379 10.0.0.2 7379",
            "+slave: slave 10.0.0.1:7379 10.0.0.1 7379 @ resplock 10.0.0.2 7379",
        ]

    def test_the_first_leader_that_is_heard_of_is_no_change(self) -> None:
        assert self.run(None, None, "n1", "n1") == []

    def test_a_loss_and_a_new_leader(self) -> None:
        assert self.run("n1", None, None, "n2") == [
            "+sdown: master resplock 10.0.0.1 7379",
            "+odown: master resplock 10.0.0.1 7379",
            "+switch-master: resplock 10.0.0.1 7379 10.0.0.2 7379",
            "+slave: slave 10.0.0.1:7379 10.0.0.1 7379 @ resplock 10.0.0.2 7379",
        ]

    def test_a_loss_and_the_same_leader(self) -> None:
        assert self.run("n1", None, "n1")[2:] == [
            "-sdown: master resplock 10.0.0.1 7379",
            "-odown: master resplock 10.0.0.1 7379",
        ]
