"""The table of `resplock status`, from what the members answer."""

from __future__ import annotations

from typing import Any

from resplock.cli.asking import NoAnswer
from resplock.cli.status import Answers, Cluster

MEMBERS = [
    {"id": f"n{number}", "address": f"10.0.0.{number}:7379", "is_voter": 1} for number in (1, 2, 3)
]


def answer(id: str, role: str = "follower", term: int = 4, **changes: Any) -> dict[str, Any]:
    numbers = {"commit_index": 100, "last_applied": 99, "removed": 0, "peers": []}
    return {"id": id, "role": role, "term": term, **numbers, **changes}


def peer(id: str, lag: int = 0, **changes: Any) -> dict[str, Any]:
    link = {"connected": 1, "last_error": "", "snapshot_in_progress": 0}
    return {"id": id, "replication_lag": lag, **link, **changes}


def cluster_of(answers: Answers, members: list[dict[str, Any]] = MEMBERS) -> Cluster:
    return Cluster({"members": members}, answers)


def lines(cluster: Cluster) -> list[str]:
    return [line for line, _ in cluster.table()]


class TestHealthy:
    cluster = cluster_of(
        {
            "n1": answer("n1"),
            "n2": answer("n2", "leader", peers=[peer("n1"), peer("n3", 12_345)]),
            "n3": answer("n3", commit_index=7, last_applied=7),
        }
    )

    def test_the_table_is_aligned(self) -> None:
        assert self.cluster.headline == "3 nodes, 3 up; n2 leads term 4"
        assert lines(self.cluster) == [
            "NODE  ROLE      ADDRESS        TERM  COMMIT  APPLIED    LAG  LINK",
            "n1    follower  10.0.0.1:7379     4     100       99      0  up",
            "n2    leader    10.0.0.2:7379     4     100       99      -",
            "n3    follower  10.0.0.3:7379     4       7        7  12345  up",
        ]

    def test_the_leader_stands_out(self) -> None:
        assert [color for _, color in self.cluster.table()] == [None, None, "green", None]

    def test_it_can_decide(self) -> None:
        assert self.cluster.can_decide


class TestTrouble:
    def test_one_is_down(self) -> None:
        down = peer("n3", 5, connected=0, last_error="connection refused")
        cluster = cluster_of(
            {
                "n1": answer("n1", "leader", peers=[peer("n2"), down]),
                "n2": answer("n2"),
                "n3": NoAnswer("connection refused"),
            }
        )
        assert cluster.headline == "3 nodes, 2 up; n1 leads term 4"
        assert cluster.can_decide
        assert lines(cluster)[3].split() == [
            *("n3", "down", "10.0.0.3:7379", "-", "-", "-", "5", "down:", "connection", "refused")
        ]
        assert list(cluster.table())[3][1] == "red"

    def test_clients_cannot_reach_one_that_its_leader_can(self) -> None:
        cluster = cluster_of(
            {
                "n1": answer("n1", "leader", peers=[peer("n2"), peer("n3")]),
                "n2": NoAnswer("no answer in time"),
                "n3": answer("n3"),
            }
        )
        assert lines(cluster)[2].endswith("  no answer in time")

    def test_without_a_leader(self) -> None:
        cluster = cluster_of(
            {
                "n1": answer("n1", "candidate"),
                "n2": NoAnswer("connection refused"),
                "n3": NoAnswer("connection refused"),
            }
        )
        assert cluster.headline == "3 nodes, 1 up; no leader is known"
        assert not cluster.can_decide
        assert lines(cluster)[1].split()[:2] == ["n1", "candidate"]
        assert lines(cluster)[2].endswith("connection refused")

    def test_a_leader_without_a_majority(self) -> None:
        cluster = cluster_of(
            {
                "n1": answer("n1", "leader", peers=[peer("n2"), peer("n3")]),
                "n2": NoAnswer("no"),
                "n3": NoAnswer("no"),
            }
        )
        assert cluster.headline == "3 nodes, 1 up; n1 leads term 4, without a majority"
        assert not cluster.can_decide

    def test_the_leader_of_the_highest_term_counts(self) -> None:
        cluster = cluster_of(
            {
                "n1": answer("n1", "leader", term=9, peers=[peer("n2"), peer("n3", 1)]),
                "n2": answer("n2", "leader", term=10, peers=[peer("n1", 2), peer("n3")]),
                "n3": answer("n3"),
            }
        )
        assert cluster.headline == "3 nodes, 3 up; n2 leads term 10"
        assert [line.split()[6] for line in lines(cluster)[1:]] == ["2", "-", "0"]

    def test_learners_do_not_count_for_a_majority(self) -> None:
        learner = {"id": "n4", "address": "10.0.0.4:7379", "is_voter": 0}
        cluster = cluster_of(
            {
                "n1": answer("n1", "leader", peers=[peer("n4", snapshot_in_progress=1)]),
                "n2": NoAnswer("no"),
                "n3": NoAnswer("no"),
                "n4": answer("n4", "learner"),
            },
            [*MEMBERS, learner],
        )
        assert not cluster.can_decide
        assert lines(cluster)[4].endswith("up, receives a snapshot")

    def test_a_node_alone(self) -> None:
        cluster = cluster_of({"n1": answer("n1", "leader")}, MEMBERS[:1])
        assert cluster.headline == "1 node, 1 up; n1 leads term 4"
        assert cluster.can_decide

    def test_a_removed_node(self) -> None:
        cluster = cluster_of({"n1": answer("n1", removed=1)}, MEMBERS[:1])
        assert lines(cluster)[1].split()[1] == "removed"
