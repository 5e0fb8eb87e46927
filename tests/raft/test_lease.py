"""A leader's lease (thesis 6.4.1)."""

from __future__ import annotations

import pytest

from resplock.errors import ConfigError
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.lease import Lease
from resplock.raft.messages import (
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    PreVoteRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from resplock.raft.reads import ReadQueue
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs
from tests.raft.cluster import Cluster
from tests.raft.test_elections import take
from tests.raft.test_membership import N1, N2, N3

LEASE_MS = RaftConfig(N1, lease=True).lease_ms


def leased(**settings: bool) -> tuple[Cluster, RaftCore]:
    """A cluster whose leader has a lease since its clock showed 50."""
    cluster = Cluster(3, lease=True, **settings)
    leader = cluster.elect("n1")
    leader.clock_ms = StampMs(50)
    cluster.tick()
    return cluster, leader


def test_a_leader_with_a_lease_answers_without_a_round() -> None:
    """In the same Ready, with the commit index as of now."""
    cluster, leader = leased()
    entry = cluster.commit("n1")
    context = cluster.read("n1")
    assert context is not None
    cluster.cut = {(N1, N2), (N1, N3)}
    cluster.work("n1")
    assert cluster.servers[N1].answered == {context: entry.last}
    assert not leader.has_ready()


def test_reads_whose_round_is_under_way_are_answered_before_those_of_the_lease() -> None:
    """A lease may come while a round is under way; a client takes its answers in its order."""
    reads = ReadQueue()
    reads.ask(1)
    reads.begin_round(Index(5))
    reads.ask(2)
    reads.answer_asked(Index(6))
    assert [(read.context, read.index) for read in reads.take_answered(Index(6))] == [
        (1, 5),
        (2, 6),
    ]


def test_a_lease_lasts_for_less_than_an_election_timeout_by_any_clock() -> None:
    """Pitfall 10: at most the election timeout divided by the drift, two ticks spared."""
    assert LEASE_MS == (10 - 2) * 50 * 100 // 110
    cluster, leader = leased()
    cluster.isolate("n1")
    leader.clock_ms = StampMs(50 + LEASE_MS - 1)
    context = cluster.read("n1")
    cluster.work("n1")
    assert context in cluster.servers[N1].answered
    leader.clock_ms = StampMs(50 + LEASE_MS)
    late = cluster.read("n1")
    cluster.work("n1")
    assert late not in cluster.servers[N1].answered
    cluster.heal()
    cluster.tick()
    assert late in cluster.servers[N1].answered, "by a round"


def test_it_counts_from_when_the_heartbeats_left() -> None:
    """Not from when they were answered: the voters count from when they came."""
    cluster, leader = leased()
    cluster.loses = lambda message: isinstance(message, HeartbeatReply)
    leader.clock_ms = StampMs(200)
    leader.tick()
    cluster.settle()
    leader.clock_ms = StampMs(300)
    leader.step(HeartbeatReply(1, N2, N1, 1, leader.reads.round))
    assert leader.lease is not None
    assert leader.lease.holds(StampMs(200 + LEASE_MS - 1))
    assert not leader.lease.holds(StampMs(200 + LEASE_MS))


def test_an_answer_of_one_voter_of_five_is_no_quorum() -> None:
    cluster = Cluster(5, lease=True)
    leader = cluster.elect("n1")
    leader.clock_ms = StampMs(50)
    cluster.loses = lambda message: isinstance(message, HeartbeatReply) and message.from_id != N2
    cluster.tick()
    assert leader.lease is not None
    assert not leader.lease.holds(leader.clock_ms)


def test_a_clock_that_the_node_has_not_started_yet_measures_nothing() -> None:
    """A new leader's clock stands still until its node advances it."""
    cluster = Cluster(3, lease=True)
    leader = cluster.elect("n1")
    cluster.tick(count=2)
    assert leader.lease is not None
    assert not leader.lease.holds(leader.clock_ms)
    context = cluster.read("n1")
    assert context not in cluster.servers[N1].answered
    cluster.settle()
    assert context in cluster.servers[N1].answered


def test_a_process_that_stood_still_has_no_lease() -> None:
    """Pitfall 31: its ticks say that no time has passed, its clock says how much."""
    cluster, leader = leased()
    cluster.isolate("n1")
    cluster.tick("n2", "n3", count=40)
    new = cluster.leader()
    assert new.id != "n1"
    cluster.commit(new.id)
    leader.clock_ms = StampMs(50 + 2000)
    leader.tick()
    context = cluster.read("n1")
    assert context is not None
    cluster.work("n1")
    assert context not in cluster.servers[N1].answered


def test_a_transfer_ends_the_lease_for_the_term() -> None:
    """Pitfall 10: voters break it for who was asked to stand, and TimeoutNow may be late."""
    cluster, leader = leased()
    cluster.loses = lambda message: isinstance(message, TimeoutNow)
    assert leader.transfer(N2) is None
    context = cluster.read("n1")
    cluster.work("n1")
    assert context not in cluster.servers[N1].answered
    for clock_ms in range(100, 1200, 50):
        leader.clock_ms = StampMs(clock_ms)
        cluster.tick()
    assert (leader.is_leader, leader.is_transferring) == (True, False)
    assert leader.lease is not None
    assert not leader.lease.holds(leader.clock_ms)
    cluster.loses = lambda _: False
    cluster.core("n2").step(TimeoutNow(1, N1, N2))
    cluster.settle()
    assert cluster.core("n2").is_leader


# --- the voters keep it -------------------------------------------------------------------------


def test_a_voter_keeps_the_lease_of_a_leader_whatever_term_it_comes_to() -> None:
    """It would else forget, with the leader's term, that it has just heard it."""
    cluster, _ = leased()
    core = cluster.core("n2")
    core.step(PreVoteReply(7, N3, N2, 1, False))
    assert (core.term, core.leader_id) == (7, None)
    core.step(VoteRequest(7, N3, N2, 99, 7))
    assert take(cluster, "n2").send_after_persist == (VoteReply(7, N2, N3, False),)
    core.step(VoteRequest(8, N3, N2, 99, 7))
    core.step(PreVoteRequest(8, N3, N2, 99, 7))
    core.campaign()
    assert (core.term, core.role, core.has_ready()) == (7, Role.FOLLOWER, False)
    for _ in range(10):
        core.election_elapsed = 0
        core.tick()
    core.step(VoteRequest(8, N3, N2, 99, 7))
    assert take(cluster, "n2").send_after_persist == (VoteReply(8, N2, N3, True),)


def test_a_voter_that_has_just_started_keeps_it_too() -> None:
    """It may have answered a heartbeat before."""
    cluster, _ = leased()
    cluster.crash("n2")
    cluster.restart("n2")
    core = cluster.core("n2")
    core.step(VoteRequest(2, N3, N2, 99, 7))
    core.campaign()
    assert (core.term, core.role) == (1, Role.FOLLOWER)
    for _ in range(10):
        core.election_elapsed = 0
        core.tick()
    core.step(VoteRequest(2, N3, N2, 99, 7))
    assert core.vote == "n3"


def test_a_broken_link_does_not_break_a_lease() -> None:
    """Early pre-vote is off, and a voter hears a leader for its time."""
    cluster, _ = leased()
    core = cluster.core("n2")
    core.report_link_down(N1)
    core.report_link_up(N1, same_incarnation=False)
    core.step(VoteRequest(2, N3, N2, 99, 7))
    assert core.term == 1


def test_a_sole_voter_stands_at_once() -> None:
    """There is nobody else's lease to keep."""
    cluster = Cluster(1, lease=True)
    cluster.core("n1").campaign()
    assert cluster.core("n1").is_leader


def test_a_lease_needs_check_quorum_and_time() -> None:
    """Pitfall 10: without check_quorum voters listen to candidates at any time."""
    with pytest.raises(ConfigError, match="check_quorum"):
        RaftConfig(N1, lease=True, check_quorum=False)
    with pytest.raises(ConfigError, match="election_ticks"):
        RaftConfig(N1, lease=True, election_ticks=3)


def test_a_lease_remembers_one_round_for_a_millisecond() -> None:
    """Reads bring a round in every turn; what is remembered is bounded by time."""
    lease = Lease(100)
    lease.begin(StampMs(10))
    for round in range(1, 50):
        lease.sent(round, StampMs(11))
    lease.sent(50, StampMs(12))
    assert len(lease._rounds) == 2
    lease.confirm(49)
    assert lease.holds(StampMs(110))
    assert not lease.holds(StampMs(111))
    lease.confirm(50)
    assert lease.holds(StampMs(111))
    lease.end()
    lease.sent(51, StampMs(13))
    lease.confirm(51)
    assert not lease.holds(StampMs(50))


def test_heartbeats_have_a_round_each_only_with_a_lease() -> None:
    """Without one, a round begins only for reads."""
    for lease, rounds in ((True, [1, 2, 3]), (False, [0, 0, 0])):
        cluster = Cluster(3, lease=lease)
        cluster.elect("n1")
        for _ in range(3):
            cluster.core("n1").tick()
            cluster.work("n1")
        sent = [
            message.round
            for message in cluster.of_kind(Heartbeat, "n1", NodeId("n2"))
            if isinstance(message, Heartbeat)
        ]
        assert sent == rounds
