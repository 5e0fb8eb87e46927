from __future__ import annotations

from typing import Any

import pytest

from bench.cluster import Status, agreed_leader, leader_of_whole, status_of
from bench.servers import free_port


class TestLeader:
    def test_status_is_read_from_a_reply(self) -> None:
        reply: dict[str, Any] = {
            "id": b"n2",
            "role": b"follower",
            "term": 4,
            "leader_id": b"n1",
            "last_log_index": 9,
            "last_applied": 8,
            "peers": [],
        }
        assert status_of(reply) == Status("n2", "follower", 4, "n1", 9, 8)
        assert status_of({**reply, "leader_id": None}).leader_id is None

    LEADER = Status("n1", "leader", 4, "n1", 9, 9)
    FOLLOWER = Status("n2", "follower", 4, "n1", 9, 9)

    def test_all_name_one_in_one_term(self) -> None:
        assert agreed_leader([self.LEADER, self.FOLLOWER]) == "n1"
        assert leader_of_whole([self.LEADER, self.FOLLOWER]) == "n1"

    @pytest.mark.parametrize(
        "other",
        [
            None,
            Status("n2", "follower", 5, "n1", 9, 9),
            Status("n2", "follower", 4, None, 9, 9),
            Status("n2", "leader", 5, "n2", 9, 9),
        ],
    )
    def test_otherwise_there_is_none(self, other: Status | None) -> None:
        assert agreed_leader([self.LEADER, other]) is None

    def test_nobody_leads_though_all_name_the_same(self) -> None:
        assert agreed_leader([self.FOLLOWER, self.FOLLOWER._replace(id="n3")]) is None

    @pytest.mark.parametrize("lag", [{"last_log_index": 8}, {"last_applied": 8}])
    def test_a_node_that_lags_is_waited_for(self, lag: dict[str, int]) -> None:
        behind = self.FOLLOWER._replace(**lag)
        assert agreed_leader([self.LEADER, behind]) == "n1"
        assert leader_of_whole([self.LEADER, behind]) is None


def test_no_port_is_given_twice_to_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.servers.PORTS", range(20_000, 20_040))
    ports = [free_port() for _ in range(14)]  # of seven nodes, for clients and for peers
    assert len(set(ports)) == 14
