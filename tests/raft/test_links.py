"""What broken links tell: early pre-votes, and peers that run anew."""

from __future__ import annotations

import random

import pytest

from resplock.limits import EARLY_VOTE_JITTER_MS, EARLY_VOTES_MAX
from resplock.raft.messages import (
    AppendRequest,
    Heartbeat,
    PreVoteReply,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from resplock.raft.progress import PeerState
from resplock.raft.roles import Role
from resplock.types import Index
from tests.raft.cluster import Cluster
from tests.raft.test_elections import take
from tests.raft.test_membership import N1, N2, N3


def after_a_crash_of_the_leader(seed: int = 1, servers: int = 3) -> Cluster:
    cluster = Cluster(servers, seed)
    cluster.elect("n1")
    cluster.commit("n1")
    cluster.tick()
    cluster.crash("n1")
    cluster.break_links("n1")
    return cluster


@pytest.mark.parametrize("servers", [3, 5])
def test_a_broken_link_to_the_leader_makes_the_others_elect_one_of_them_at_once(
    servers: int,
) -> None:
    """No tick passes: all saw the same, so they grant the pre-vote and the vote."""
    for seed in range(20):
        cluster = after_a_crash_of_the_leader(seed, servers)
        assert cluster.stand_early() < 2 * EARLY_VOTE_JITTER_MS
        assert cluster.leader().term == 2
        cluster.commit(cluster.leader().id)


def test_the_wait_is_random_and_short() -> None:
    """Else the followers, who see the break at the same time, would split the vote."""
    waits = {
        after_a_crash_of_the_leader(seed).core("n2").take_stand_in_ms() or 0 for seed in range(50)
    }
    assert len(waits) > 10
    assert max(waits) < EARLY_VOTE_JITTER_MS
    core = after_a_crash_of_the_leader().core("n2")
    assert core.take_stand_in_ms() is not None
    assert core.take_stand_in_ms() is None, "once"


def test_a_link_back_to_the_same_incarnation_calls_it_off() -> None:
    """A connection broke, and nobody died."""
    cluster = Cluster(3)
    cluster.elect("n1")
    core = cluster.core("n2")
    core.report_link_down(N1)
    assert not core.has_ready()
    core.report_link_up(N1, same_incarnation=True)
    assert core.take_stand_in_ms() is None
    core.stand_now()
    assert (core.role, core.leader_id) == (Role.FOLLOWER, "n1")
    core.step(PreVoteRequest(1, N3, N2, 99, 1))
    assert not core.has_ready(), "it hears its leader"


def test_a_new_incarnation_of_the_leader_leads_no_more() -> None:
    """It came back before anybody had stood, and without its leadership."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    core = cluster.core("n2")
    core.report_link_up(N1, same_incarnation=False)
    assert core.leader_id is None
    core.step(PreVoteRequest(1, N3, N2, 99, 1))
    assert take(cluster, "n2").send_after_persist == (PreVoteReply(1, N2, N3, 1, True),)
    cluster.stand_early()
    assert cluster.core("n2").is_leader


def test_the_others_ignore_a_server_that_lost_only_its_own_link() -> None:
    """A voter hears the leader while its own link to it is up (thesis 4.2.3)."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.core("n3").report_link_down(N1)
    cluster.cut = {(N1, N3), (N3, N1)}
    cluster.stand_early()
    assert cluster.core("n3").role is Role.PRE_CANDIDATE
    assert (leader.is_leader, leader.term) == (True, 1)
    cluster.heal()
    cluster.core("n3").report_link_up(N1, same_incarnation=True)
    cluster.tick()
    assert (cluster.core("n3").role, cluster.core("n3").leader_id) == (Role.FOLLOWER, "n1")


def test_a_voter_whose_link_to_the_leader_broke_votes_at_once() -> None:
    """Within the election timeout in which it heard it."""
    cluster = Cluster(3)
    cluster.elect("n1")
    core = cluster.core("n2")
    core.step(VoteRequest(2, N3, N2, 99, 1))
    assert core.term == 1
    core.report_link_down(N1)
    core.step(VoteRequest(2, N3, N2, 99, 1))
    assert take(cluster, "n2").send_after_persist == (VoteReply(2, N2, N3, True),)
    assert core.take_stand_in_ms() is None, "the vote is given, so it does not stand itself"


def test_a_pre_vote_for_another_puts_its_own_off() -> None:
    """So that two do not stand at once; if nothing comes of it, its own turn comes."""
    cluster = after_a_crash_of_the_leader()
    core = cluster.core("n2")
    core.take_stand_in_ms()
    core.step(PreVoteRequest(1, N3, N2, 99, 1))
    stand_in_ms = core.take_stand_in_ms()
    assert stand_in_ms is not None
    assert EARLY_VOTE_JITTER_MS <= stand_in_ms < 2 * EARLY_VOTE_JITTER_MS


def test_a_split_vote_is_tried_again_soon() -> None:
    """Both stood before either heard of it. The dead leader's vote is not waited for."""
    cluster = after_a_crash_of_the_leader()
    for id in ("n2", "n3"):
        cluster.core(id).stand_now()
        cluster.work(id)
    cluster.settle()
    assert [cluster.core(id).term for id in ("n2", "n3")] == [2, 2]
    assert cluster.leaders() == []
    assert cluster.stand_early() < 3 * EARLY_VOTE_JITTER_MS
    assert cluster.leader().term == 3


def test_whose_log_is_newer_stands_when_another_is_heard_to_miss_the_leader() -> None:
    """It had asked too early: the other still heard the leader."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    cluster.loses = lambda message: isinstance(message, AppendRequest) and message.to_id == N3
    cluster.commit("n1")
    assert leader.commit_index == 2
    cluster.crash("n1")
    cluster.core("n2").report_link_down(N1)
    cluster.stand_early()
    assert cluster.core("n2").role is Role.PRE_CANDIDATE
    cluster.core("n3").report_link_down(N1)
    cluster.stand_early()
    assert cluster.core("n2").is_leader


def test_it_ends_and_leaves_the_rest_to_the_election_timeout() -> None:
    """With no majority left there is no point in asking for ever."""
    cluster = Cluster(5)
    cluster.elect("n1")
    cluster.tick()
    for id in ("n1", "n4", "n5"):
        cluster.crash(id)
        cluster.break_links(id)
    cluster.sent.clear()
    cluster.stand_early()
    assert cluster.leaders() == []
    assert len(cluster.of_kind(PreVoteRequest)) <= 2 * EARLY_VOTES_MAX * 4
    cluster.restart("n4")
    for id in ("n2", "n3"):
        cluster.core(id).report_link_up(cluster.core("n4").id, same_incarnation=False)
    cluster.tick(count=40)
    assert len(cluster.leaders()) == 1


def test_a_link_to_somebody_else_is_no_reason_to_stand() -> None:
    """Nor is a leader's own, nor that of a learner, who never stands."""
    cluster = Cluster(3, learners=1)
    leader = cluster.elect("n1")
    cluster.core("n2").report_link_down(N3)
    cluster.core("n4").report_link_down(N1)
    leader.report_link_down(N2)
    assert [core.take_stand_in_ms() for core in cluster.cores()] == [None] * 4
    for core in cluster.cores():
        core.stand_now()
    assert [core.role.shown for core in cluster.cores()] == [
        "leader",
        "follower",
        "follower",
        "learner",
    ]


@pytest.mark.parametrize("settings", [{"pre_vote": False}, {"lease": True}])
def test_without_pre_votes_or_with_a_lease_it_is_off(settings: dict[str, bool]) -> None:
    """A server that would raise the term at once does more harm; a lease is a promise."""
    cluster = Cluster(3, **settings)
    cluster.elect("n1")
    cluster.core("n2").report_link_down(N1)
    assert cluster.core("n2").take_stand_in_ms() is None


def test_a_leader_that_is_heard_again_calls_it_off() -> None:
    """Another one, elected by the others."""
    cluster = after_a_crash_of_the_leader()
    core = cluster.core("n2")
    core.step(Heartbeat(2, N3, N2, 0, 0, 0, 0))
    assert core.take_stand_in_ms() is None
    core.stand_now()
    assert (core.role, core.leader_id) == (Role.FOLLOWER, "n3")


# --- a leader's links -----------------------------------------------------------------------------


def test_a_leader_sends_again_what_a_broken_link_may_have_lost() -> None:
    """At once when it is back, not with the next heartbeat."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    cluster.cut = {(N1, N2), (N2, N1)}
    cluster.commit("n1")
    leader.report_link_down(N2)
    cluster.settle()
    assert leader.progress[N2].state is PeerState.PROBE
    cluster.heal()
    leader.report_link_up(N2, same_incarnation=True)
    cluster.settle()
    assert leader.progress[N2].match_index == leader.last_index


def test_a_peer_that_runs_anew_may_be_reported_twice() -> None:
    """By its link and by its incarnation: nothing is known of it, and soon all is known again."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1")
    cluster.tick()
    commit_index = leader.commit_index
    for _ in range(2):
        leader.report_restarted(N2)
        leader.report_link_up(N2, same_incarnation=False)
        progress = leader.progress[N2]
        assert (progress.match_index, progress.next_index) == (0, leader.last_index + 1)
        assert leader.commit_index == commit_index
    cluster.settle()
    assert leader.progress[N2].match_index == leader.last_index
    assert leader.progress[N2].state is PeerState.REPLICATE
    leader.report_restarted(N2)
    cluster.commit("n1")
    assert leader.progress[N2].match_index == Index(leader.last_index)
    leader.report_restarted(N1)
    assert leader.is_leader, "its own incarnation is no news"


def test_reports_never_raise_and_never_unseat_anybody() -> None:
    """Whatever the order in which links come and go."""
    rng = random.Random(5)
    cluster = Cluster(3)
    cluster.elect("n1")
    for _ in range(500):
        core = rng.choice(cluster.cores())
        peer = rng.choice([id for id in cluster.servers if id != core.id])
        if rng.random() < 0.5:
            core.report_link_down(peer)
        else:
            core.report_link_up(peer, rng.random() < 0.5)
        if rng.random() < 0.1:
            cluster.settle()
    for core in cluster.cores():
        for peer in cluster.servers:
            if peer != core.id:
                core.report_link_up(peer, same_incarnation=True)
    cluster.tick(count=60)
    cluster.commit(cluster.leader().id)
