"""A cluster of one: the same code, and its hot path."""

from __future__ import annotations

from resplock.raft.entries import HardState
from resplock.raft.messages import AppendReply, Heartbeat, PreVoteRequest, VoteRequest
from resplock.raft.ready import Ready
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs
from tests.raft.cluster import Cluster

N1, N2 = NodeId("n1"), NodeId("n2")


def test_an_entry_takes_two_readys() -> None:
    """propose, ready with entries, advance, ready with committed, advance."""
    cluster = Cluster(1)
    core = cluster.elect("n1")
    entry = core.propose(b"abc", 3, StampMs(0))
    assert core.has_ready()
    assert core.ready() == Ready(entries=(entry,))
    assert core.commit_index == 1
    core.advance()
    assert core.commit_index == 4
    assert core.ready() == Ready(committed=(entry,), sync=False)
    core.advance()
    assert core.applied_index == 4
    assert not core.has_ready()


def test_new_entries_and_committed_ones_share_a_ready() -> None:
    """Under load there is one Ready a turn."""
    cluster = Cluster(1)
    core = cluster.elect("n1")
    previous = core.propose(b"1", 1, StampMs(0))
    core.ready()
    core.advance()
    for number in range(5):
        entry = core.propose(b"%d" % number, 1, StampMs(0))
        assert core.ready() == Ready(entries=(entry,), committed=(previous,))
        core.advance()
        previous = entry


def test_it_never_reads_its_log_back() -> None:
    """Commit and apply come from memory, also when the tail is bounded and evicts."""
    cluster = Cluster(1, tail_bytes_max=1000)
    cluster.elect("n1")
    disk = cluster.disk("n1")
    disk.reads = 0
    for _ in range(100):
        cluster.propose("n1", size=50)
        cluster.work("n1")
    assert disk.reads == 0
    assert len(cluster.core("n1").log.tail) < 20
    assert len(cluster.servers[N1].applied) == 101


def test_nothing_is_committed_before_its_own_disk_has_it() -> None:
    """Pitfall 2."""
    cluster = Cluster(1)
    core = cluster.elect("n1")
    cluster.propose("n1")
    cluster.begin("n1")
    for _ in range(50):
        core.tick()
    assert core.commit_index == 1
    cluster.crash("n1")
    cluster.restart("n1")
    assert cluster.core("n1").last_index == 1


def test_it_finds_everything_again_after_a_crash() -> None:
    cluster = Cluster(1)
    cluster.elect("n1")
    for _ in range(5):
        cluster.commit("n1", commands=3)
    before = list(cluster.servers[N1].applied)
    cluster.crash("n1")
    cluster.restart("n1")
    core = cluster.elect("n1")
    assert (core.term, core.commit_index) == (2, 17)
    assert cluster.servers[N1].applied[:-1] == before


def test_it_leads_on_whatever_strangers_say() -> None:
    cluster = Cluster(1)
    core = cluster.elect("n1")
    core.step(AppendReply(1, N2, N1, True, 99))
    core.step(VoteRequest(3, N2, N1, 99, 3))
    core.step(PreVoteRequest(3, N2, N1, 99, 3))
    core.step(Heartbeat(1, N2, N1, 1, 1, 0, 0))
    for _ in range(50):
        core.tick()
    assert (core.role, core.term, core.status().peers) == (Role.LEADER, 1, ())


def test_a_term_is_durable_before_it_is_led_in_front_of_a_learner() -> None:
    """Else it could forget that it led the term, and lead it again with other entries."""
    cluster = Cluster(1, learners=1)
    core = cluster.core("n1")
    core.campaign()
    ready = core.ready()
    assert ready.hard_state == HardState(1, "n1")
    assert ready.send_now == ()
    assert [message.to_id for message in ready.send_after_persist] == ["n2"]
    cluster.disk("n1").persist(ready)
    core.advance()
    core.propose(b"", 1, StampMs(0))
    assert core.ready().send_now == (), "a probe is under way"
    core.advance()
    core.step(AppendReply(1, N2, N1, True, 1))
    assert core.commit_index == Index(2), "the learner is not waited for"
    assert [message.to_id for message in core.ready().send_now] == ["n2"]
