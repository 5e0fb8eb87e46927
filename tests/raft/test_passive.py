"""Servers that no configuration names: joiners, and those whose directory was wiped.

They take what a leader sends, and neither stand nor vote until the log or a snapshot names them.
"""

from __future__ import annotations

import random

from resplock.raft.config import RaftConfig
from resplock.raft.configurations import with_learner, with_replacement, with_voter, without
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Entry, EntryKind, HardState, Member, SnapshotMeta
from resplock.raft.messages import (
    AppendRequest,
    Heartbeat,
    PreVoteReply,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from resplock.raft.roles import Role
from resplock.types import Index
from tests.raft.cluster import Cluster
from tests.raft.memory import MemoryLog
from tests.raft.test_membership import N1, N2, N3, N4, change


def test_without_a_configuration_nobody_stands_and_nobody_votes() -> None:
    """Pitfall 19: a wiped directory has lost the vote that was in it."""
    core = RaftCore(RaftConfig(N1, "u"), MemoryLog(), random.Random(1))
    core.campaign()
    for _ in range(100):
        core.tick()
    assert (core.role, core.term, core.is_voter, core.has_ready()) == (
        Role.LEARNER,
        0,
        False,
        False,
    )
    core.step(VoteRequest(1, N2, N1, 9, 9))
    core.step(VoteRequest(1, N3, N1, 9, 9, transfer=True))
    core.step(PreVoteRequest(1, N2, N1, 9, 9))
    assert core.ready().send_after_persist == (
        VoteReply(1, N1, N2, False),
        VoteReply(1, N1, N3, False),
        PreVoteReply(1, N1, N2, 1, False),
    )
    assert core.vote == ""


def test_a_joiner_takes_the_log_and_becomes_what_it_says() -> None:
    """Thesis 4.2.1: passive, then a learner, then a voter, by entries."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1")
    cluster.add_server("n4")
    joiner = cluster.core("n4")
    cluster.tick(count=50)
    assert (joiner.role, joiner.last_index, joiner.configuration) == (
        Role.LEARNER,
        0,
        Configuration(),
    )
    change(cluster, "n1", with_learner(leader.configuration, Member(N4, "u-n4")))
    cluster.tick(count=2)
    assert (joiner.role, joiner.is_voter, joiner.commit_index) == (
        Role.LEARNER,
        False,
        leader.commit_index,
    )
    change(cluster, "n1", with_voter(leader.configuration, N4))
    cluster.tick(count=2)
    assert (joiner.role, joiner.is_voter) == (Role.FOLLOWER, True)


def test_a_joiner_takes_a_snapshot_and_becomes_what_it_says() -> None:
    """Thesis 4.1 and 5: the configuration in effect is part of a snapshot."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(3):
        cluster.commit("n1")
    cluster.add_server("n4")
    change(cluster, "n1", with_learner(leader.configuration, Member(N4, "u-n4")))
    cluster.isolate("n4")
    cluster.settle()
    cluster.compact("n1")
    cluster.heal()
    cluster.commit("n1")
    cluster.tick(count=3)
    assert cluster.servers[N4].received, "it came by snapshot"
    assert cluster.servers[N4].applied == cluster.servers[N1].applied
    assert cluster.core("n4").configuration.learners == (Member(N4, "u-n4"),)


def test_a_passive_server_forgets_a_leader_that_is_silent() -> None:
    """It does not stand, and its clients are to know that nobody leads."""
    core = RaftCore(RaftConfig(N1, "u"), MemoryLog(), random.Random(1))
    core.step(Heartbeat(1, N2, N1, 0, 0, 0, 0))
    assert core.leader_id == N2
    for _ in range(20):
        core.tick()
    assert (core.leader_id, core.role, core.term) == (None, Role.LEARNER, 1)
    core.step(Heartbeat(1, N2, N1, 0, 0, 0, 0))
    assert core.leader_id == N2


def test_a_wiped_server_is_not_the_voter_of_its_id() -> None:
    """Pitfall 19: it has the log again, with itself as a voter in it, but not the vote it gave."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    change(cluster, "n1", with_learner(leader.configuration, Member(N4, "u-n4")))
    cluster.settle()
    cluster.wipe("n3")
    leader.report_restarted(N3)
    cluster.commit("n1")
    cluster.tick(count=3)
    wiped = cluster.core("n3")
    assert wiped.commit_index == leader.commit_index
    assert N3 in wiped.membership.voter_ids
    assert (wiped.role, wiped.is_voter) == (Role.LEARNER, False)
    wiped.step(VoteRequest(5, N2, N3, 99, 9, transfer=True))
    assert wiped.to_send_after_persist == [VoteReply(5, N3, N2, False)]


def test_a_vote_is_asked_of_a_server_not_of_an_id() -> None:
    """Pitfall 19: a candidate that counts the voter of before gets nothing from its successor.

    Not even when the successor's log names it: that entry may not be committed, and the candidate
    may know nothing of it.
    """
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.wipe("n3")
    leader.report_restarted(N3)
    cluster.loses = lambda message: message.to_id == N2
    change(cluster, "n1", with_replacement(leader.configuration, Member(N3, "u-n3+")))
    cluster.settle()
    wiped = cluster.core("n3")
    assert wiped.configuration.learners == (Member(N3, "u-n3+"),)
    assert leader.commit_index < 2
    wiped.step(VoteRequest(7, N2, N3, 99, 9, True, "u-n3"))
    wiped.step(PreVoteRequest(7, N2, N3, 99, 9, "u-n3"))
    assert wiped.vote == ""
    wiped.step(VoteRequest(8, N2, N3, 99, 9, True, "u-n3+"))
    assert wiped.vote == N2


def test_a_vote_is_given_to_who_counts_it_without_any_configuration() -> None:
    """The entry that made it a voter may be on its way, and its vote may be the missing one."""
    core = RaftCore(RaftConfig(N1, "u"), MemoryLog(), random.Random(1))
    core.step(VoteRequest(1, N2, N1, 9, 9, False, "u"))
    assert core.vote == N2


def test_a_wiped_server_comes_back_as_a_learner_and_then_votes() -> None:
    """Pitfall 19: the old one is removed for ever, the new one is added, each by an entry."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.wipe("n3")
    leader.report_restarted(N3)
    change(cluster, "n1", without(leader.configuration, N3))
    cluster.settle()
    change(cluster, "n1", with_learner(leader.configuration, Member(N3, "u-n3+")))
    cluster.tick(count=2)
    wiped = cluster.core("n3")
    assert (wiped.role, wiped.configuration) == (Role.LEARNER, leader.configuration)
    change(cluster, "n1", with_voter(leader.configuration, N3))
    cluster.tick(count=2)
    assert (wiped.role, wiped.is_voter) == (Role.FOLLOWER, True)
    assert leader.configuration.removed == ("n3/u-n3",)
    cluster.crash("n1")
    assert cluster.elect("n3").is_leader


def test_what_is_known_of_a_server_is_not_known_of_its_successor() -> None:
    """Of the same id: it has nothing of the log that the old one had acknowledged."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1")
    cluster.tick()
    known = leader.progress[N2]
    assert leader.progress[N3].match_index == 2
    change(cluster, "n1", with_replacement(leader.configuration, Member(N3, "u-n3+")))
    assert leader.progress[N3].match_index == 0
    assert leader.progress[N2] is known


def test_a_uuid_that_is_not_known_goes_by_the_id() -> None:
    """A cluster string names addresses; who is behind them shows later."""
    for uuid, of_member in (("", "u"), ("u", ""), ("", "")):
        disk = MemoryLog(Configuration((Member(N1, of_member),)))
        core = RaftCore(RaftConfig(N1, uuid), disk, random.Random(1))
        assert core.is_voter
    assert not RaftCore(
        RaftConfig(N1, "v"), MemoryLog(Configuration((Member(N1, "u"),))), random.Random(1)
    ).is_voter


def test_a_snapshot_brings_its_term_with_it() -> None:
    """A log never ends in a term that is to come (section 5.1): it could be led twice."""
    core = RaftCore(RaftConfig(N1, "u"), MemoryLog(), random.Random(1))
    voters = Configuration((Member(N1, "u"), Member(N2, "v")))
    assert core.restore(SnapshotMeta(9, 4, 0, voters))
    assert (core.term, core.vote, core.role) == (4, "", Role.FOLLOWER)
    ready = core.ready()
    assert (ready.installed, ready.hard_state) == (SnapshotMeta(9, 4, 0, voters), HardState(4))


def test_a_crash_between_a_snapshot_and_its_term_is_made_up_for() -> None:
    """The runtime installs the snapshot before it saves the hard state."""
    disk = MemoryLog()
    disk.hard_state = HardState(2, N2)
    disk.snapshot = SnapshotMeta(9, 4, 0, Configuration((Member(N1, "u"), Member(N2, "v"))))
    core = RaftCore(RaftConfig(N1, "u"), disk, random.Random(1))
    assert (core.term, core.vote) == (4, "")
    assert core.ready().hard_state == HardState(4)


def test_a_snapshot_and_what_follows_it_in_one_ready() -> None:
    """Installed first, then one batch behind it, then applied: and the core reads none of it back."""
    disk = MemoryLog()
    core = RaftCore(RaftConfig(N1, "u"), disk, random.Random(1))
    meta = SnapshotMeta(9, 4, 0, Configuration((Member(N1, "u"), Member(N2, "v"))))
    run = Entry(4, 10, 12, EntryKind.RUN, 0, b"abc")
    core.step(Heartbeat(4, N2, N1, 0, 0, 0, 0))
    assert core.restore(meta)
    core.step(AppendRequest(4, N2, N1, 9, 4, 12, 0, (run,)))
    ready = core.ready()
    assert (ready.installed, ready.entries, ready.committed) == (meta, (run,), (run,))
    disk.persist(ready)
    core.advance()
    assert (core.applied_index, core.log.stable_index, core.log.term_at(Index(9))) == (12, 12, 4)
    assert (disk.first_index, disk.last_index) == (10, 12)


def test_a_second_snapshot_comes_while_the_first_and_its_entries_are_written() -> None:
    """Pitfall 20: what was given out for the first counts no more, and the second is installed."""
    disk = MemoryLog()
    core = RaftCore(RaftConfig(N1, "u"), disk, random.Random(1))
    configuration = Configuration((Member(N1, "u"), Member(N2, "v")))
    first, second = (SnapshotMeta(index, 4, 0, configuration) for index in (9, 20))
    core.step(Heartbeat(4, N2, N1, 0, 0, 0, 0))
    core.restore(first)
    run = Entry(4, 10, 12, EntryKind.RUN, 0, b"abc")
    core.step(AppendRequest(4, N2, N1, 9, 4, 12, 0, (run,)))
    written = core.ready()
    assert core.restore(second)
    later = Entry(4, 21, 21, EntryKind.RUN, 0, b"d")
    core.step(AppendRequest(4, N2, N1, 20, 4, 21, 0, (later,)))
    disk.persist(written)
    core.advance()
    assert (core.applied_index, core.log.stable_index) == (20, 20)
    ready = core.ready()
    assert (ready.installed, ready.entries, ready.committed) == (second, (later,), (later,))
    disk.persist(ready)
    core.advance()
    assert (disk.first_index, disk.last_index, core.applied_index) == (21, 21, 21)
    assert core.log.entry_at(Index(21)) == later
