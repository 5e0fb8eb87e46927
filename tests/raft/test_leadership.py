"""Leadership transfer (thesis 3.10)."""

from __future__ import annotations

import pytest

from resplock.raft.configurations import Refusal, with_learner, without
from resplock.raft.entries import Entry, Member
from resplock.raft.leadership import TransferRefusal
from resplock.raft.messages import AppendRequest, PreVoteRequest, TimeoutNow, VoteRequest
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs
from tests.raft.cluster import Cluster
from tests.raft.test_membership import N1, N2, N3, N4, change


def test_a_server_that_is_up_to_date_leads_after_a_round_trip_and_a_vote() -> None:
    """Thesis 3.10: the target stands at once, without a pre-vote, and voters listen to it."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1")
    cluster.tick()
    cluster.sent.clear()
    assert leader.transfer(N2) is None
    assert leader.is_transferring
    assert leader.ready().send_now == (TimeoutNow(1, N1, N2),)
    leader.advance()
    cluster.core("n2").step(TimeoutNow(1, N1, N2))
    cluster.settle()
    assert cluster.core("n2").is_leader
    assert (leader.role, leader.term, leader.is_transferring) == (Role.FOLLOWER, 2, False)
    assert all(request.transfer for request in cluster.of_kind(VoteRequest, "n2"))
    assert cluster.of_kind(PreVoteRequest) == []


def test_a_server_that_lags_is_brought_up_to_date_first() -> None:
    """Thesis 3.10, steps 1 and 2: no more proposals, then replication to the end of the log."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    cluster.loses = lambda message: isinstance(message, AppendRequest) and message.to_id == N2
    cluster.commit("n1")
    assert leader.transfer(N2) is None
    cluster.settle()
    assert cluster.of_kind(TimeoutNow) == []
    cluster.loses = lambda _: False
    cluster.tick(count=3)
    assert cluster.leader().id == "n2"
    assert cluster.core("n2").log.entry_at(Index(2)) in cluster.servers[N2].applied


def test_a_leader_takes_nothing_new_while_it_hands_over() -> None:
    """Thesis 3.10, step 1: else the target might never have the whole log."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1")
    end = leader.last_index
    assert leader.transfer(N2) is None
    assert cluster.propose("n1") is None
    assert leader.propose_clock(StampMs(9)) is None
    change_now = without(leader.configuration, N3)
    assert leader.propose_configuration(change_now) is Refusal.TRANSFERRING
    assert (leader.last_index, leader.is_busy, leader.is_transferring) == (end, False, True)


def test_a_transfer_that_fails_ends_after_an_election_timeout() -> None:
    """Pitfall 13; thesis 3.10: the leader resumes, and the cluster has lost no more than that."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    cluster.loses = lambda message: isinstance(message, TimeoutNow)
    assert leader.transfer(N2) is None
    cluster.tick(count=9)
    assert leader.is_transferring
    assert len(cluster.of_kind(TimeoutNow)) == 10, "asked again at each tick: messages may be lost"
    cluster.tick()
    assert (leader.is_leader, leader.is_transferring, leader.term) == (True, False, 1)
    cluster.commit("n1")
    cluster.loses = lambda _: False
    assert leader.transfer(N2) is None
    cluster.settle()
    assert cluster.leader().id == "n2"


def test_the_voter_that_has_most_of_the_log_is_chosen() -> None:
    """It can stand soonest."""
    cluster = Cluster(5)
    leader = cluster.elect("n1")
    cluster.tick()
    cluster.loses = lambda message: message.to_id in (N2, N3)
    cluster.commit("n1")
    leader.report_link_down(N4)
    assert leader.transfer(None) is None
    assert leader.transferee == "n5"
    assert leader.transfer(None) is None, "under way"


def test_who_cannot_take_over_is_refused_at_once() -> None:
    """A transfer stops the world for an election timeout, so it is not begun in vain."""
    cluster = Cluster(3, learners=1)
    leader = cluster.elect("n1")
    assert cluster.core("n2").transfer(N1) is TransferRefusal.NOT_LEADER
    assert leader.transfer(N4) is TransferRefusal.NOT_A_VOTER
    assert leader.transfer(NodeId("n9")) is TransferRefusal.NOT_A_VOTER
    assert leader.transfer(N1) is None
    assert not leader.is_transferring, "it leads already"
    leader.report_link_down(N2)
    assert leader.transfer(N2) is TransferRefusal.NOT_THERE
    leader.report_link_down(N3)
    assert leader.transfer(None) is TransferRefusal.NOBODY_THERE
    leader.report_link_up(N2, same_incarnation=True)
    leader.progress[N2].await_snapshot()
    assert leader.transfer(N2) is TransferRefusal.NOT_CAUGHT_UP
    leader.report_link_up(N3, same_incarnation=True)
    assert leader.transfer(N3) is None
    assert leader.transfer(N2) is TransferRefusal.UNDER_WAY


def test_a_sole_voter_has_nobody_to_hand_over_to() -> None:
    cluster = Cluster(1)
    assert cluster.elect("n1").transfer(None) is TransferRefusal.NOBODY_THERE


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (TimeoutNow(1, N3, N2), "not its leader"),
        (TimeoutNow(0, N1, N2), "an earlier term"),
        (TimeoutNow(2, N3, N2), "a later term, whose leader it has not heard"),
    ],
)
def test_only_its_leader_can_tell_a_server_to_stand(message: TimeoutNow, why: str) -> None:
    """Section 5.1; and the leader knows that this server has its whole log."""
    cluster = Cluster(3)
    cluster.elect("n1")
    core = cluster.core("n2")
    core.step(message)
    assert core.role is Role.FOLLOWER, why
    assert core.vote in ("", "n1"), why


def test_a_learner_and_a_server_with_losses_do_not_stand_when_they_are_told_to() -> None:
    """Thesis 4.2.1, and pitfall 26."""
    cluster = Cluster(3, learners=1)
    cluster.elect("n1")
    cluster.core("n4").step(TimeoutNow(1, N1, N4))
    assert cluster.core("n4").role is Role.LEARNER
    cluster.core("n3").voting_mark = (cluster.core("n3").term, Index(99))
    cluster.core("n3").step(TimeoutNow(1, N1, N3))
    assert cluster.core("n3").role is Role.FOLLOWER


def test_a_leader_that_removes_itself_asks_another_to_stand() -> None:
    """Thesis 4.2.2 and 3.10: the others need not notice that it has gone."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    change(cluster, "n1", without(leader.configuration, N1))
    cluster.settle()
    assert cluster.leader().id in ("n2", "n3")
    assert leader.role is Role.LEARNER
    assert isinstance(cluster.propose(cluster.leader().id), Entry)


def test_a_learner_that_was_added_meanwhile_changes_nothing() -> None:
    """A configuration that is not committed yet goes to the target with the rest of the log."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.add_server("n4")
    change(cluster, "n1", with_learner(leader.configuration, Member(N4, "u-n4")))
    assert leader.transfer(N3) is None
    cluster.settle()
    assert cluster.core("n3").is_leader
    assert cluster.core("n3").configuration.learners == (Member(N4, "u-n4"),)
