"""Elections. Sections are of the Raft paper (extended version) or, where it says so, the thesis."""

from __future__ import annotations

import random

import pytest

from resplock.errors import ConfigError
from resplock.raft.config import RaftConfig
from resplock.raft.core import RaftCore
from resplock.raft.entries import HardState, noop
from resplock.raft.messages import (
    TERM_JUMP_MAX,
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVoteReply,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from resplock.raft.ready import Ready
from resplock.raft.roles import LEGAL_STEPS, Role
from resplock.types import Index, NodeId, StampMs, Term
from tests.raft.cluster import Cluster
from tests.raft.memory import MemoryLog

N1, N2, N3, N4 = (NodeId(f"n{number}") for number in range(1, 5))


def take(cluster: Cluster, id: str) -> Ready:
    """Do one Ready of a server, with nothing sent, and look at it."""
    core = cluster.core(id)
    ready = core.ready()
    cluster.disk(id).persist(ready)
    core.advance()
    return ready


# --- standing ------------------------------------------------------------------------------------


def test_a_server_begins_as_a_follower_in_the_term_that_it_remembers() -> None:
    """Section 5.2: servers start up as followers; figure 2: term and vote are durable."""
    disk = MemoryLog(Cluster(3).bootstrap)
    disk.hard_state = HardState(7, "n3")
    core = RaftCore(RaftConfig(N1), disk, random.Random(1))
    assert (core.role, core.term, core.vote, core.leader_id) == (Role.FOLLOWER, 7, "n3", None)
    assert not core.has_ready()


def test_a_follower_that_hears_nobody_asks_all_voters_for_a_vote() -> None:
    """Section 5.2: it increments its term, votes for itself, and asks the others in parallel."""
    cluster = Cluster(3, pre_vote=False)
    core = cluster.core("n1")
    for _ in range(core.election_timeout):
        assert core.role is Role.FOLLOWER
        core.tick()
    assert (core.role, core.term, core.vote) == (Role.CANDIDATE, 1, "n1")
    ready = take(cluster, "n1")
    assert ready.hard_state == HardState(1, "n1")
    assert ready.send_now == ()
    assert ready.send_after_persist == (
        VoteRequest(1, N1, N2, 0, 0, voter_uuid="u-n2"),
        VoteRequest(1, N1, N3, 0, 0, voter_uuid="u-n3"),
    )


def test_the_election_timeout_is_drawn_anew_each_time_from_one_to_two() -> None:
    """Section 5.2 and thesis 3.4: randomised timeouts keep votes from splitting."""
    core = Cluster(3, election_ticks=10).core("n1")
    drawn = set()
    for _ in range(300):
        core.restart_election_timer()
        drawn.add(core.election_timeout)
    assert drawn == set(range(10, 20))


def test_a_leader_or_a_granted_vote_restarts_the_election_timer_and_nothing_else_does() -> None:
    """Thesis 3.4: not a refused vote, and not a mere later term."""
    core = Cluster(3).core("n1")
    core.step(Heartbeat(1, N2, N1, 0, 0, 0, 0))
    core.tick()
    core.step(Heartbeat(1, N2, N1, 0, 0, 0, 0))
    assert core.election_elapsed == 0

    core = Cluster(3).core("n1")
    core.append(noop(Term(0), Index(1), StampMs(0)))
    core.tick()
    core.step(VoteRequest(3, N2, N1, 0, 0))  # its log is too short
    assert (core.term, core.vote, core.election_elapsed) == (3, "", 1)
    core.step(VoteRequest(3, N3, N1, 5, 1))
    assert (core.vote, core.election_elapsed) == ("n3", 0)


def test_a_candidate_wins_with_a_majority_and_no_less() -> None:
    """Section 5.2."""
    core = Cluster(5, pre_vote=False).core("n1")
    core.campaign()
    core.step(VoteReply(1, N2, N1, True))
    core.step(VoteReply(1, N2, N1, True))  # repeated by the network
    assert core.role is Role.CANDIDATE
    core.step(VoteReply(1, N3, N1, True))
    assert core.role is Role.LEADER
    assert core.leader_id == "n1"


def test_a_candidate_that_cannot_win_any_more_follows() -> None:
    """Section 5.2: it waits for another's victory, or for its next timeout."""
    core = Cluster(3, pre_vote=False).core("n1")
    core.campaign()
    core.step(VoteReply(1, N2, N1, False))
    assert core.role is Role.CANDIDATE
    core.step(VoteReply(1, N3, N1, False))
    assert (core.role, core.term) == (Role.FOLLOWER, 1)


def test_votes_of_others_than_the_voters_do_not_count() -> None:
    """Thesis 4.1: the candidate's configuration says whose votes count."""
    core = Cluster(3, learners=1, pre_vote=False).core("n1")
    core.campaign()
    for stranger in (N4, NodeId("n9")):
        core.step(VoteReply(1, stranger, N1, True))
    assert core.role is Role.CANDIDATE


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    """Section 5.2: the leader is legitimate, and the candidate returns to following."""
    for message in (AppendRequest(1, N2, N1, 0, 0, 0, 0, ()), Heartbeat(1, N2, N1, 0, 0, 0, 0)):
        core = Cluster(3, pre_vote=False).core("n1")
        core.campaign()
        core.step(message)
        assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, 1, "n2")


def test_a_split_vote_ends_with_another_election_in_a_later_term() -> None:
    """Section 5.2: each candidate times out and starts a new election."""
    cluster = Cluster(2, pre_vote=False)
    cluster.core("n1").campaign()
    cluster.core("n2").campaign()
    cluster.settle()
    assert cluster.leaders() == []
    cluster.tick(count=40)
    assert len(cluster.leaders()) == 1
    assert cluster.leader().term > 1


def test_a_new_leader_makes_itself_known_with_the_no_op_of_its_term() -> None:
    """Sections 5.2 and 8."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    assert cluster.shape("n1") == [(1, 1, 1)]
    assert leader.commit_index == 1
    assert {core.leader_id for core in cluster.cores()} == {"n1"}


def test_a_sole_voter_has_won_when_campaign_returns() -> None:
    """No message, and no tick; but nothing is committed before its own disk has it."""
    core = Cluster(1).core("n1")
    core.campaign()
    assert (core.role, core.term, core.commit_index) == (Role.LEADER, 1, 0)
    core.campaign()
    assert core.term == 1


def test_heartbeats_keep_the_others_from_standing() -> None:
    """Section 5.2: a leader keeps its authority with periodic heartbeats."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.tick(count=100)
    assert [core.term for core in cluster.cores()] == [1, 1, 1]


# --- voting --------------------------------------------------------------------------------------


def test_one_vote_in_a_term_first_come_first_served() -> None:
    """Section 5.2."""
    cluster = Cluster(3)
    core = cluster.core("n1")
    for candidate in (N2, N3, N2):
        core.step(VoteRequest(1, candidate, N1, 0, 0))
    ready = take(cluster, "n1")
    assert ready.hard_state == HardState(1, "n2")
    assert ready.send_after_persist == (
        VoteReply(1, N1, N2, True),
        VoteReply(1, N1, N3, False),
        VoteReply(1, N1, N2, True),  # the reply may have been lost: the same vote again
    )


def test_a_vote_outlives_a_restart() -> None:
    """Section 5.2 and figure 2: otherwise there could be two leaders in a term."""
    cluster = Cluster(3)
    cluster.core("n1").step(VoteRequest(1, N2, N1, 0, 0))
    cluster.work("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.core("n1").step(VoteRequest(1, N3, N1, 0, 0))
    assert take(cluster, "n1").send_after_persist == (VoteReply(1, N1, N3, False),)


@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"),
    [(2, 5, True), (2, 6, True), (3, 1, True), (2, 4, False), (1, 9, False), (0, 0, False)],
)
def test_a_vote_goes_only_to_a_log_that_is_at_least_as_new(
    last_term: int, last_index: int, granted: bool
) -> None:
    """Section 5.4.1: the later last term; with equal ones, the longer log."""
    for asks, reply in (
        (VoteRequest(3, N2, N1, last_index, last_term), VoteReply(3, N1, N2, granted)),
        (PreVoteRequest(2, N2, N1, last_index, last_term), PreVoteReply(2, N1, N2, 2, granted)),
    ):
        cluster = Cluster(3)
        disk = cluster.disk("n1")
        disk.hard_state = HardState(2)
        disk.kept = [noop(Term(2), Index(index), StampMs(0)) for index in range(1, 6)]
        cluster.crash("n1")
        cluster.restart("n1")
        cluster.core("n1").step(asks)
        assert take(cluster, "n1").send_after_persist == (reply,)


@pytest.mark.parametrize(
    "message",
    [
        AppendRequest(5, N2, N1, 0, 0, 0, 0, ()),
        AppendReply(5, N2, N1, True, 0),
        Heartbeat(5, N2, N1, 0, 0, 0, 0),
        HeartbeatReply(5, N2, N1, 0, 0),
        VoteRequest(5, N2, N1, 0, 0, transfer=True),
        VoteReply(5, N2, N1, False),
        PreVoteReply(5, N2, N1, 1, False),
    ],
)
@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER])
def test_a_later_term_makes_a_follower_of_everybody(role: Role, message: Message) -> None:
    """Section 5.1."""
    cluster = Cluster(3, pre_vote=role is not Role.CANDIDATE)
    core = cluster.elect("n1") if role is Role.LEADER else cluster.core("n1")
    if role in (Role.PRE_CANDIDATE, Role.CANDIDATE):
        core.campaign()
    assert core.role is role
    core.step(message)
    assert (core.role, core.term) == (Role.FOLLOWER, 5)


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (AppendRequest(2, N2, N1, 4, 1, 0, 0, ()), AppendReply(5, N1, N2, False, 0, 4)),
        (Heartbeat(2, N2, N1, 0, 0, 0, 9), HeartbeatReply(5, N1, N2, 0, 0)),
        (VoteRequest(2, N2, N1, 9, 4), VoteReply(5, N1, N2, False)),
        (PreVoteRequest(2, N2, N1, 9, 4), PreVoteReply(5, N1, N2, 2, False)),
        (AppendReply(2, N2, N1, True, 1), None),
        (HeartbeatReply(2, N2, N1, 1, 1), None),
        (VoteReply(2, N2, N1, True), None),
    ],
)
def test_requests_of_an_earlier_term_are_refused_with_the_later_one(
    message: Message, reply: Message | None
) -> None:
    """Section 5.1; replies of an earlier term are dropped."""
    cluster = Cluster(3)
    cluster.disk("n1").hard_state = HardState(5)
    cluster.crash("n1")
    cluster.restart("n1")
    core = cluster.core("n1")
    core.step(message)
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, 5, None)
    assert core.to_send_after_persist == ([reply] if reply else [])


def test_messages_for_others_or_from_itself_or_from_nowhere_near_are_ignored() -> None:
    """An address that was given to another server, a loop, a damaged term."""
    core = Cluster(3).core("n1")
    core.step(Heartbeat(5, N2, N3, 0, 0, 0, 0))
    core.step(Heartbeat(5, N1, N1, 0, 0, 0, 0))
    core.step(Heartbeat(TERM_JUMP_MAX + 1, N2, N1, 0, 0, 0, 0))
    core.step(PreVoteRequest(TERM_JUMP_MAX + 1, N2, N1, 0, 0))
    assert core.term == 0
    assert not core.has_ready()
    core.step(Heartbeat(TERM_JUMP_MAX, N2, N1, 0, 0, 0, 0))
    assert core.term == TERM_JUMP_MAX


# --- not being disturbed -------------------------------------------------------------------------


def test_voters_that_hear_a_leader_ignore_candidates() -> None:
    """Thesis 4.2.3: for the shortest election timeout since they heard it."""
    cluster = Cluster(3, election_ticks=10)
    cluster.elect("n1")
    for id in ("n1", "n2"):
        core = cluster.core(id)
        core.step(VoteRequest(9, N3, NodeId(id), 99, 9))
        core.step(PreVoteRequest(9, N3, NodeId(id), 99, 9))
        assert (core.term, core.has_ready()) == (1, False)
    follower = cluster.core("n2")
    follower.election_timeout = 99
    for _ in range(10):
        follower.tick()
    follower.step(VoteRequest(9, N3, N2, 99, 9))
    assert (follower.term, follower.vote) == (9, "n3")


def test_a_candidate_that_the_leader_itself_has_asked_to_stand_is_heard() -> None:
    """Thesis 4.2.3 and 3.10: leadership transfer."""
    cluster = Cluster(3)
    cluster.elect("n1")
    follower = cluster.core("n2")
    follower.step(VoteRequest(2, N3, N2, 99, 9, transfer=True))
    assert (follower.term, follower.vote) == (2, "n3")


def test_a_pre_vote_changes_no_term_and_no_vote() -> None:
    """Thesis 9.6: neither the voter's nor the candidate's."""
    cluster = Cluster(3)
    candidate, voter = cluster.core("n1"), cluster.core("n2")
    candidate.campaign()
    assert (candidate.role, candidate.term, candidate.vote) == (Role.PRE_CANDIDATE, 0, "")
    voter.step(PreVoteRequest(0, N1, N2, 0, 0))
    voter.step(PreVoteRequest(0, N3, N2, 0, 0))
    ready = take(cluster, "n2")
    assert ready.hard_state is None
    assert [reply.granted for reply in ready.send_after_persist] == [True, True]
    assert (voter.term, voter.vote) == (0, "")


def test_a_pre_candidate_stands_only_with_a_majority_behind_it() -> None:
    """Thesis 9.6."""
    core = Cluster(3).core("n1")
    core.campaign()
    core.step(PreVoteReply(0, N2, N1, 7, True))  # an answer to another question
    assert core.role is Role.PRE_CANDIDATE
    core.step(PreVoteReply(0, N2, N1, 0, True))
    assert (core.role, core.term) == (Role.CANDIDATE, 1)


def test_a_pre_candidate_that_is_refused_follows_and_one_that_is_behind_catches_up() -> None:
    """Thesis 9.6; section 5.1 for the later term in the refusal."""
    core = Cluster(3).core("n1")
    core.campaign()
    core.step(PreVoteReply(0, N2, N1, 0, False))
    core.step(PreVoteReply(0, N3, N1, 0, False))
    assert core.role is Role.FOLLOWER
    core.campaign()
    core.step(PreVoteReply(4, N2, N1, 0, False))
    assert (core.role, core.term) == (Role.FOLLOWER, 4)


def test_a_pre_candidate_takes_the_word_of_a_voter_that_is_behind() -> None:
    """Its term is lower than the question's, and it grants all the same."""
    cluster = Cluster(3)
    cluster.disk("n1").hard_state = HardState(5)
    cluster.crash("n1")
    cluster.restart("n1")
    core = cluster.elect("n1")
    assert core.term == 6


def test_a_pre_candidate_that_votes_for_another_stands_back() -> None:
    """It would only split the vote in the next term."""
    core = Cluster(3).core("n1")
    core.campaign()
    core.step(VoteRequest(1, N2, N1, 0, 0))
    assert (core.role, core.vote) == (Role.FOLLOWER, "n2")
    core.step(PreVoteReply(1, N3, N1, 0, True))
    assert core.term == 1


def test_a_server_that_was_cut_off_comes_back_without_an_election() -> None:
    """Thesis 9.6: what PreVote is for."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.isolate("n3")
    cluster.tick(count=100)
    assert cluster.core("n3").term == 1
    cluster.heal()
    cluster.tick(count=5)
    assert [core.term for core in cluster.cores()] == [1, 1, 1]
    assert cluster.core("n3").leader_id == "n1"


def test_a_server_that_is_stuck_in_a_later_term_comes_back() -> None:
    """Section 5.1: the leader's messages are answered with the later term, and it gives way.

    Otherwise voters that hear the leader would ignore the stuck one for ever, and it them.
    """
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.crash("n3")
    cluster.disk("n3").hard_state = HardState(8)
    cluster.restart("n3")
    cluster.tick(count=60)
    assert len({(core.term, core.leader_id) for core in cluster.cores()}) == 1
    assert cluster.leader().term > 8


def test_a_leader_that_a_quorum_has_left_steps_down() -> None:
    """Thesis 6.2: after an election timeout, so that its clients can go elsewhere."""
    cluster = Cluster(3, election_ticks=10)
    leader = cluster.elect("n1")
    cluster.isolate("n2")
    cluster.tick(count=30)
    assert leader.is_leader, "one follower is enough"
    cluster.isolate("n1")
    for _ in range(9):
        leader.tick()
        cluster.work("n1")
        assert leader.is_leader
    leader.tick()
    assert (leader.role, leader.term, leader.leader_id) == (Role.FOLLOWER, 1, None)


def test_without_check_quorum_a_leader_stays_and_voters_listen_to_candidates() -> None:
    """The two belong together: a voter must not be true to a leader that cannot commit."""
    cluster = Cluster(3, check_quorum=False)
    leader = cluster.elect("n1")
    cluster.isolate("n1")
    for _ in range(50):
        leader.tick()
    assert leader.is_leader
    cluster.core("n2").step(VoteRequest(2, N3, N2, 99, 9))
    assert cluster.core("n2").vote == "n3"


def test_a_leader_can_be_told_to_step_down() -> None:
    """A runtime that has lost an election timeout must not answer as if it led."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    leader.step_down()
    assert (leader.role, leader.term, leader.leader_id) == (Role.FOLLOWER, 1, None)
    leader.step_down()
    assert cluster.propose("n1") is None


# --- who may not -----------------------------------------------------------------------------------


def test_a_learner_never_stands_but_answers_who_may_count_it() -> None:
    """Thesis 4.1 and 4.2.1: a newer configuration may have made it a voter."""
    cluster = Cluster(3, learners=1)
    learner = cluster.core("n4")
    assert learner.role is Role.LEARNER
    learner.campaign()
    for _ in range(50):
        learner.tick()
    assert (learner.role, learner.term) == (Role.LEARNER, 0)
    take(cluster, "n4")
    learner.step(VoteRequest(1, N2, N4, 0, 0))
    assert take(cluster, "n4").send_after_persist == (VoteReply(1, N4, N2, True),)
    assert learner.role is Role.LEARNER


def test_a_server_that_may_have_lost_entries_neither_votes_nor_stands_until_it_has_caught_up() -> (
    None
):
    """Pitfall 26: its log ends before its mark, and the missing part may be committed."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.commit("n1")
    cluster.commit("n1")
    cluster.crash("n3")
    cluster.disk("n3").cut(Index(3))
    cluster.restart("n3", voting_mark=(Term(1), Index(3)))
    damaged = cluster.core("n3")
    damaged.step(VoteRequest(5, N2, N3, 99, 4))
    damaged.step(PreVoteRequest(5, N2, N3, 99, 4))
    assert [reply.granted for reply in take(cluster, "n3").send_after_persist] == [False, False]
    damaged.campaign()
    assert damaged.role is Role.FOLLOWER

    cluster.core("n1").report_restarted(N3)
    cluster.tick(count=60)
    assert damaged.last_index >= 3
    damaged.step(VoteRequest(damaged.term + 1, N2, N3, 99, 99, transfer=True))
    assert damaged.vote == "n2"


# --- roles, settings -----------------------------------------------------------------------------


def test_roles_change_only_along_the_drawing() -> None:
    """Figure 4, with pre-candidates and learners: a step outside it is our own bug."""
    for old in Role:
        for new in Role:
            core = Cluster(3).core("n1")
            core.role = old
            if new is old or new in LEGAL_STEPS[old]:
                core.set_role(new)
            else:
                with pytest.raises(AssertionError, match="from"):
                    core.set_role(new)
    assert [role.shown for role in Role] == [
        "follower",
        "candidate",
        "candidate",
        "leader",
        "learner",
    ]


@pytest.mark.parametrize(("election", "heartbeat"), [(10, 0), (10, 10), (1, 1)])
def test_heartbeats_must_fit_into_an_election_timeout(election: int, heartbeat: int) -> None:
    with pytest.raises(ConfigError, match="heartbeat_ticks"):
        RaftConfig(N1, election_ticks=election, heartbeat_ticks=heartbeat)
    with pytest.raises(ConfigError, match="id"):
        RaftConfig(NodeId(""))


# --- the replicated clock ------------------------------------------------------------------------


def test_a_follower_keeps_the_newest_clock_of_the_newest_leader() -> None:
    """A later term's replaces it even when it is behind; within a term it only grows."""
    core = Cluster(3).core("n1")
    heard = []
    for term, clock_ms in ((1, 500), (1, 700), (1, 600), (2, 300), (2, 350)):
        core.step(Heartbeat(term, N2, N1, 0, 0, clock_ms, 0))
        heard.append((core.heard_clock_term, core.heard_clock_ms))
    assert heard == [(1, 500), (1, 700), (1, 700), (2, 300), (2, 350)]
    core.step(AppendRequest(2, N2, N1, 0, 0, 0, 400, ()))
    assert core.heard_clock_ms == 400


def test_a_new_leader_goes_on_from_the_later_of_its_last_stamp_and_what_it_heard() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    assert leader.clock_ms == 0
    leader.clock_ms = StampMs(1000)
    cluster.commit("n1")
    leader.clock_ms = StampMs(1500)
    cluster.tick()
    assert {core.heard_clock_ms for core in cluster.cores() if not core.is_leader} == {1500}
    heard = cluster.elect("n2")
    assert heard.clock_ms == 1500
    assert heard.log.last_stamp_ms == 1500

    cluster.crash("n3")
    cluster.restart("n3")
    stamped = cluster.elect("n3")
    assert stamped.clock_ms == 1500, "from its log, after a restart"


def test_a_leader_that_steps_down_has_heard_its_own_clock() -> None:
    leader = Cluster(3).elect("n1")
    leader.clock_ms = StampMs(900)
    leader.step(Heartbeat(1 + leader.term, N2, N1, 0, 0, 200, 0))
    assert (leader.heard_clock_term, leader.heard_clock_ms) == (2, 200)
    leader = Cluster(3).elect("n1")
    leader.clock_ms = StampMs(900)
    leader.step_down()
    assert (leader.heard_clock_term, leader.heard_clock_ms) == (1, 900)
