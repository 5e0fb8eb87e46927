"""Changes of membership (thesis chapter 4)."""

from __future__ import annotations

import random

import pytest

from resplock.limits import TOMBSTONES_MAX
from resplock.raft import configurations
from resplock.raft.config import RaftConfig
from resplock.raft.configurations import (
    Refusal,
    with_addresses,
    with_learner,
    with_replacement,
    with_voter,
    without,
)
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Entry, Member, SnapshotMeta, config
from resplock.raft.membership import Membership, read_membership
from resplock.raft.messages import AppendRequest, Heartbeat, PreVoteReply, PreVoteRequest
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs, Term
from tests.raft.cluster import Cluster
from tests.raft.memory import MemoryLog

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))


def member(id: str) -> Member:
    return Member(NodeId(id), f"u-{id}")


def voters(*names: str) -> Configuration:
    return Configuration(tuple(member(name) for name in names))


def change(cluster: Cluster, id: str, configuration: Configuration) -> Entry:
    entry = cluster.core(id).propose_configuration(configuration)
    assert isinstance(entry, Entry), entry
    return entry


# --- a change, from beginning to end -------------------------------------------------------------


def test_a_server_joins_as_a_learner_and_is_promoted_once_it_has_caught_up() -> None:
    """Thesis 4.2.1: it must not hold up commits while it has no log."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(5):
        cluster.commit("n1")
    cluster.add_server("n4")
    newcomer = cluster.core("n4")
    assert (newcomer.role, newcomer.configuration) == (Role.LEARNER, Configuration())
    change(cluster, "n1", with_learner(leader.configuration, member("n4")))
    assert leader.propose_configuration(with_voter(leader.configuration, N4)) is not None
    cluster.settle()
    cluster.tick()
    assert (newcomer.role, newcomer.applied_index) == (Role.LEARNER, leader.commit_index)
    assert leader.membership.quorum == 2

    change(cluster, "n1", with_voter(leader.configuration, N4))
    assert leader.membership.quorum == 3
    cluster.settle()
    cluster.tick()
    assert newcomer.role is Role.FOLLOWER
    assert cluster.elect("n4").is_leader


def test_a_configuration_is_in_effect_as_soon_as_it_is_in_the_log() -> None:
    """Thesis 4.1: on the leader at once, on a follower on append, committed or not."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    new = without(leader.configuration, N3)
    cluster.partition(["n1", "n2"])
    cluster.loses = lambda message: message.from_id == N2
    change(cluster, "n1", new)
    assert leader.configuration == new
    assert list(leader.progress) == ["n2"]
    cluster.settle()
    assert cluster.core("n2").configuration == new
    assert leader.commit_index < leader.last_index


def test_a_truncated_configuration_is_taken_back() -> None:
    """Thesis 4.1, and pitfall 15."""
    cluster = Cluster(3, learners=1)
    old = cluster.elect("n1")
    before = old.configuration
    cluster.partition(["n1", "n4"])
    change(cluster, "n1", without(before, N4))
    cluster.work("n1")
    assert old.configuration != before
    cluster.elect("n2")
    cluster.commit("n2")
    cluster.heal()
    cluster.tick(count=3)
    assert old.configuration == before
    assert old.role is Role.FOLLOWER
    assert cluster.core("n4").applied_index == cluster.core("n2").commit_index


def test_a_restart_finds_the_configuration_in_the_log() -> None:
    """And the older one too, in case the newest is truncated."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.settle()
    now = leader.configuration
    cluster.crash("n2")
    cluster.restart("n2")
    assert cluster.core("n2").configuration == now
    assert [index for index, _ in cluster.core("n2").membership.steps] == [0, 2]


def test_the_bootstrap_configuration_is_for_a_log_that_has_none() -> None:
    """Pitfall 18: data that exists is never bootstrapped over."""
    disk = MemoryLog()
    core = RaftCore(RaftConfig(N1), disk, random.Random(1), configuration=voters("n1", "n2"))
    assert core.configuration == voters("n1", "n2")
    disk.kept.append(config(Term(1), Index(1), StampMs(0), voters("n1", "n2", "n3")))
    core = RaftCore(RaftConfig(N1), disk, random.Random(1), configuration=voters("n1"))
    assert core.configuration == voters("n1", "n2", "n3")
    disk = MemoryLog(voters("n1", "n2", "n3"))
    core = RaftCore(RaftConfig(N1), disk, random.Random(1), configuration=voters("n1"))
    assert core.configuration == voters("n1", "n2", "n3")


# --- removal -------------------------------------------------------------------------------------


def test_a_leader_removes_itself_and_steps_down_once_that_is_committed() -> None:
    """Thesis 4.2.2: until then it leads on, and counts only the others."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    change(cluster, "n1", without(leader.configuration, N1))
    assert (leader.is_leader, leader.is_voter) == (True, False)
    cluster.partition(["n1", "n2"])
    cluster.settle()
    assert leader.is_leader, "n2 alone is no majority of n2 and n3"
    cluster.heal()
    cluster.tick(count=2)
    assert (leader.role, leader.leader_id) == (Role.LEARNER, None)
    cluster.tick("n2", "n3", count=40)
    assert cluster.leader().id in ("n2", "n3")
    assert cluster.leader().commit_index > 2


def test_a_removed_server_that_may_still_be_needed_stands() -> None:
    """Thesis 4.2.2, figure 4.6: only its log may be new enough to win."""
    cluster = Cluster(2)
    leader = cluster.elect("n2")
    change(cluster, "n2", without(leader.configuration, N2))
    cluster.begin("n2")
    cluster.finish("n2")
    cluster.flying.clear()
    cluster.crash("n2")
    cluster.restart("n2")
    assert (cluster.core("n2").is_voter, cluster.core("n2").role) == (False, Role.FOLLOWER)
    cluster.core("n1").election_elapsed = 99
    for _ in range(60):
        cluster.tick()
    assert cluster.leader().id == "n1"
    assert cluster.core("n1").configuration.voters == (member("n1"),)
    assert cluster.core("n2").role is Role.LEARNER


def test_a_removed_server_does_not_disturb_the_others() -> None:
    """Pitfall 17; thesis 4.2.3: voters that hear a leader ignore it, whatever term it is in."""
    cluster = Cluster(3, pre_vote=False)
    leader = cluster.elect("n1")
    cluster.isolate("n3")
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.settle()
    cluster.heal()
    cluster.tick(count=100)
    assert cluster.core("n3").term > 1, "it stands again and again"
    assert (leader.is_leader, leader.term) == (True, 1)


def test_a_removed_server_is_told_as_soon_as_its_removal_is_committed() -> None:
    """It gets no entry more, so it would find out only when it next wants votes."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.partition(["n1", "n3"])
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.settle()
    removed = cluster.core("n3")
    assert not removed.status().removed, "n1 alone is no majority of n1 and n2"
    cluster.heal()
    cluster.tick("n1", count=2)
    assert (removed.role, removed.status().removed) == (Role.LEARNER, True)
    assert removed.configuration.voters[2] == member("n3"), "its own log does not say so"


def test_who_has_the_id_of_a_removed_server_is_not_told_in_its_place() -> None:
    """Pitfall 19."""
    cluster = Cluster(3)
    cluster.elect("n1")
    other = cluster.core("n3")
    other.step(PreVoteReply(1, N1, N3, 1, False, removed=True, uuid="u-n3-"))
    assert not other.status().removed
    other.step(PreVoteReply(1, N1, N3, 1, False, removed=True, uuid="u-n3"))
    assert other.status().removed


def test_a_removed_server_that_missed_its_removal_is_told() -> None:
    """Pitfall 17: by anybody who knows it to be committed; then it stands no more."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.isolate("n3")
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.settle()
    removed = cluster.core("n3")
    cluster.tick(count=30)
    assert (removed.role, removed.status().removed) == (Role.PRE_CANDIDATE, False)
    cluster.heal()
    cluster.tick(count=30)
    assert (removed.role, removed.status().removed) == (Role.LEARNER, True)
    assert removed.configuration.voters[2] == member("n3"), "its own log does not say so"
    cluster.sent.clear()
    cluster.tick(count=100)
    assert cluster.of_kind(PreVoteRequest) == []
    cluster.crash("n3")
    cluster.restart("n3")
    cluster.tick(count=30)
    assert cluster.core("n3").status().removed, "told again after a restart"


def test_a_removed_learner_is_told_too() -> None:
    """It never stands, so it only asks."""
    cluster = Cluster(3, learners=1)
    leader = cluster.elect("n1")
    cluster.isolate("n4")
    change(cluster, "n1", without(leader.configuration, N4))
    cluster.settle()
    cluster.heal()
    learner = cluster.core("n4")
    cluster.tick(count=30)
    assert (learner.role, learner.term, learner.status().removed) == (Role.LEARNER, 1, True)
    assert leader.term == 1


def test_a_server_that_has_its_removal_in_its_log_knows() -> None:
    """Once it is committed: until then it may be taken back."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    entry = change(cluster, "n1", without(leader.configuration, N3))
    removed = cluster.core("n3")
    removed.step(AppendRequest(1, N1, N3, 1, 1, 1, 0, (entry,)))
    assert (removed.is_voter, removed.role) == (False, Role.FOLLOWER)
    assert not removed.status().removed
    removed.step(Heartbeat(1, N1, N3, 2, 1, 0, 0))
    assert (removed.role, removed.status().removed) == (Role.LEARNER, True)


def test_a_removal_that_is_not_committed_is_told_to_nobody() -> None:
    """It may be taken back, and the server may be needed (thesis 4.2.2, figure 4.6)."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.isolate("n1")
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.work("n1")
    leader.step(PreVoteRequest(1, N3, N1, 9, 9, uuid="u-n3"))
    leader.step(PreVoteRequest(1, N3, N1, 9, 9))
    assert not any(isinstance(message, PreVoteReply) for message in leader.to_send_after_persist)


def test_a_server_of_the_same_id_is_not_the_removed_one() -> None:
    """Pitfall 19: it was made on an empty directory, and may be taken in."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.settle()
    leader.step(PreVoteRequest(1, N3, N1, 9, 9, uuid="u-n3+"))
    assert leader.to_send_after_persist == []
    leader.step(PreVoteRequest(1, N3, N1, 9, 9, uuid="u-n3"))
    assert leader.to_send_after_persist == [
        PreVoteReply(1, N1, N3, 1, False, removed=True, uuid="u-n3")
    ]


def test_tombstones_are_bounded_and_the_oldest_goes_first() -> None:
    """Each wiped directory leaves one, so a refusal would end the changes of a long life."""
    configuration = voters("a")
    for number in range(TOMBSTONES_MAX + 2):
        added = with_learner(configuration, Member(NodeId("b"), f"u{number}"))
        configuration = without(added, NodeId("b"))
        assert configurations.refusal_of_change(added, configuration) is None
    assert len(configuration.removed) == TOMBSTONES_MAX
    assert (configuration.removed[0], configuration.removed[-1]) == (
        "b/u2",
        f"b/u{TOMBSTONES_MAX + 1}",
    )
    forgotten = Configuration(configuration.voters, (), configuration.removed[1:])
    again = with_learner(forgotten, member("c"))
    assert configurations.refusal_of_change(configuration, again) is Refusal.REMOVED
    too_many = Configuration(configuration.voters, (), ("x/x", *configuration.removed))
    assert not configurations.is_well_formed(too_many)


def test_a_follower_takes_entries_from_a_leader_that_it_does_not_know() -> None:
    """Thesis 4.1: the entry that would tell it of that leader may be among them."""
    core = RaftCore(RaftConfig(N1), MemoryLog(), random.Random(1))
    core.step(Heartbeat(1, NodeId("n8"), N1, 0, 0, 0, 0))
    new = voters("n1", "n8")
    entry = config(Term(1), Index(1), StampMs(0), new)
    core.step(AppendRequest(1, NodeId("n8"), N1, 0, 0, 0, 0, (entry,)))
    assert (core.leader_id, core.configuration, core.role) == ("n8", new, Role.FOLLOWER)


# --- what is refused -----------------------------------------------------------------------------


def test_changes_are_made_one_at_a_time() -> None:
    """Thesis 4.1: the majorities of two steps may have nobody in common."""
    cluster = Cluster(4)
    leader = cluster.elect("n1")
    cluster.isolate("n1")
    change(cluster, "n1", without(leader.configuration, N4))
    again = without(leader.configuration, N3)
    assert leader.propose_configuration(again) is Refusal.CHANGE_IN_FLIGHT
    cluster.heal()
    cluster.tick(count=2)
    change(cluster, "n1", again)


def test_no_change_before_the_leader_has_committed_in_its_term() -> None:
    """Pitfall 14: the bug in the thesis's single-server changes, as its errata mend it."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.loses = lambda message: isinstance(message, AppendRequest)
    leader = cluster.elect("n2")
    new = without(leader.configuration, N3)
    assert leader.propose_configuration(new) is Refusal.TERM_NOT_COMMITTED
    cluster.loses = lambda _: False
    cluster.tick(count=2)
    change(cluster, "n2", new)


def test_only_a_leader_changes_the_membership() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    core = cluster.core("n2")
    new = without(core.configuration, N3)
    assert core.propose_configuration(new) is Refusal.NOT_LEADER


def test_a_voter_must_have_been_a_learner_that_has_caught_up() -> None:
    """Pitfall 16."""
    cluster = Cluster(3, learners=1)
    leader = cluster.elect("n1")
    cluster.isolate("n4")
    old = leader.configuration
    at_once = configurations.replace(old, voters=(*old.voters, member("n5")))
    assert leader.propose_configuration(at_once) is Refusal.NOT_CAUGHT_UP
    leader.progress[N4].probe_from(Index(1))
    leader.progress[N4].match_index = Index(0)
    assert leader.propose_configuration(with_voter(old, N4)) is Refusal.NOT_CAUGHT_UP
    cluster.heal()
    cluster.tick(count=2)
    change(cluster, "n1", with_voter(old, N4))


OLD = Configuration((member("a"), member("b"), member("c")), (member("d"),), ("x/u-x",))


@pytest.mark.parametrize(
    ("new", "refusal"),
    [
        (with_learner(OLD, member("e")), None),
        (with_voter(OLD, NodeId("d")), None),
        (without(OLD, NodeId("a")), None),
        (without(OLD, NodeId("d")), None),
        (with_learner(OLD, Member(NodeId("d"), "u-d", "new:1")), None),
        (OLD, Refusal.NOT_ONE_SERVER),
        (with_learner(with_learner(OLD, member("e")), member("f")), Refusal.NOT_ONE_SERVER),
        (without(without(OLD, NodeId("a")), NodeId("b")), Refusal.NOT_ONE_SERVER),
        (with_learner(OLD, Member(NodeId("d"), "another")), Refusal.REMOVED),
        (with_replacement(OLD, Member(NodeId("d"), "another")), None),
        (with_replacement(OLD, Member(NodeId("a"), "another")), None),
        (with_addresses(OLD, Member(NodeId("a"), "u-a", "new:1")), None),
        (
            with_voter(with_replacement(OLD, Member(NodeId("a"), "another")), NodeId("a")),
            Refusal.NOT_ONE_SERVER,
        ),
        (with_learner(OLD, member("x")), Refusal.REMOVED),
        (with_learner(OLD, Member(NodeId("x"), "another")), None),
        (Configuration(OLD.voters[1:], OLD.learners, OLD.removed), Refusal.REMOVED),
        (Configuration(OLD.voters, (*OLD.learners, member("e"))), Refusal.REMOVED),
        (Configuration((), OLD.learners, OLD.removed), Refusal.MALFORMED),
        (Configuration(OLD.voters[::-1], OLD.learners, OLD.removed), Refusal.MALFORMED),
        (Configuration(OLD.voters, (member("a"),), OLD.removed), Refusal.MALFORMED),
        (Configuration(OLD.voters, (member("d"),) * 2, OLD.removed), Refusal.MALFORMED),
        (Configuration((member(""), *OLD.voters), (), OLD.removed), Refusal.MALFORMED),
    ],
)
def test_a_change_touches_one_server_and_never_a_removed_one(
    new: Configuration, refusal: Refusal | None
) -> None:
    """Thesis 4.1; an id is never used again with the uuid that was removed with it."""
    assert configurations.refusal_of_change(OLD, new) is refusal


def test_next_configurations_are_made_from_members_that_are_there() -> None:
    for make in (with_voter, without):
        with pytest.raises(KeyError):
            make(OLD, NodeId("nobody"))
    assert without(OLD, NodeId("a")).removed == ("x/u-x", "a/u-a")


# --- the steps -----------------------------------------------------------------------------------


def test_membership_goes_back_step_by_step_and_forgets_what_cannot_come_back() -> None:
    membership = Membership(Index(0), voters("a"))
    for index, names in ((3, "ab"), (5, "abc"), (9, "bc")):
        membership.put(Index(index), voters(*names))
    assert (membership.quorum, membership.index) == (2, 9)
    membership.truncate(Index(10))
    assert membership.index == 9
    membership.truncate(Index(4))
    assert (membership.voter_ids, membership.quorum, membership.index) == (("a", "b"), 2, 3)
    membership.put(Index(6), voters("b"))
    membership.compact(Index(5))
    assert [index for index, _ in membership.steps] == [3, 6]
    assert membership.may_need(NodeId("a"), "u-a", Index(5))
    assert not membership.may_need(NodeId("a"), "u-a", Index(6))
    membership.restart(Index(20), voters("z"))
    assert membership.steps == [(20, voters("z"))]


def test_membership_is_read_from_behind_the_snapshot() -> None:
    disk = MemoryLog()
    disk.snapshot = SnapshotMeta(4, 1, 0, voters("a", "b"))
    disk.kept = [
        config(Term(1), Index(4), StampMs(0), voters("a", "b")),  # kept for slow followers
        config(Term(1), Index(5), StampMs(0), voters("a", "b", "c")),
    ]
    membership = read_membership(disk, None)
    assert [index for index, _ in membership.steps] == [4, 5]
