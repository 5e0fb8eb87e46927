"""Linearizable reads (thesis 6.4)."""

from __future__ import annotations

from resplock.raft.messages import Heartbeat, HeartbeatReply
from resplock.raft.reads import ReadQueue
from resplock.raft.ready import ReadState
from resplock.types import Index, NodeId
from tests.raft.cluster import Cluster

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def test_a_read_is_answered_after_a_quorum_has_answered_a_heartbeat() -> None:
    """Thesis 6.4, steps 2 to 4: its index is what was committed when the round began."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1", commands=4)
    context = cluster.read("n1")
    assert context is not None
    cluster.work("n1")
    assert cluster.servers[N1].answered == {}
    cluster.settle()
    assert cluster.servers[N1].answered == {context: 5}
    assert leader.reads.pending == 0


def test_all_reads_since_the_last_ready_share_one_round() -> None:
    """Thesis 6.4: one round of heartbeats for any number of reads."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(10):
        cluster.read("n1")
    heartbeats = leader.ready().send_now
    assert [(message.to_id, message.round) for message in heartbeats] == [("n2", 1), ("n3", 1)]


def test_no_read_before_the_no_op_is_committed() -> None:
    """Thesis 6.4, step 1: until then a leader does not know what is committed."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.commit("n1")
    cluster.loses = lambda message: (
        not isinstance(message, Heartbeat | HeartbeatReply)
        and (message.from_id == N2 and hasattr(message, "entries"))
    )
    leader = cluster.elect("n2")
    assert leader.commit_index < leader.term_start
    assert cluster.read("n2") is None
    cluster.loses = lambda _: False
    cluster.tick(count=2)
    assert cluster.read("n2") is not None


def test_only_a_leader_answers() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    assert cluster.read("n2") is None


def test_a_sole_voter_answers_at_once() -> None:
    """Its own word is a quorum; the Ready of the request has the answer."""
    cluster = Cluster(1)
    leader = cluster.elect("n1")
    assert leader.read_index(7)
    ready = leader.ready()
    assert ready.reads == (ReadState(7, Index(1)),)
    assert ready.send_now == ()


def test_an_old_answer_proves_nothing_for_a_newer_read() -> None:
    """Pitfall 9: each read needs an answer to a heartbeat that left after it was asked for."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.read("n1")
    cluster.work("n1")
    first = leader.reads.round
    cluster.flying.clear()
    second_read = cluster.read("n1")
    cluster.work("n1")
    cluster.flying.clear()
    leader.step(HeartbeatReply(1, N2, N1, 1, first))
    cluster.work("n1")
    assert second_read not in cluster.servers[N1].answered
    assert len(cluster.servers[N1].answered) == 1
    leader.step(HeartbeatReply(1, N3, N1, 1, first + 1))
    cluster.work("n1")
    assert second_read in cluster.servers[N1].answered


def test_a_lost_round_is_made_up_for_by_the_next_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    context = cluster.read("n1")
    cluster.work("n1")
    cluster.flying.clear()
    cluster.tick()
    assert context in cluster.servers[N1].answered


def test_a_read_waits_until_its_index_is_applied() -> None:
    """Thesis 6.4, step 4: so whoever gets the ReadState may answer from the state machine."""
    cluster = Cluster(3, committed_bytes_max=1)
    leader = cluster.elect("n1")
    for _ in range(5):
        cluster.propose("n1")
    cluster.begin("n1")
    cluster.finish("n1")
    while cluster.flying:
        cluster.deliver()
    cluster.work("n2")
    cluster.work("n3")
    while cluster.flying:
        cluster.deliver()
    assert (leader.commit_index, leader.applied_index) == (6, 1)
    cluster.read("n1")
    cluster.settle()  # the cluster asserts that each answer comes after its index
    assert list(cluster.servers[N1].answered.values()) == [6]


def test_a_deposed_leader_answers_no_read() -> None:
    """Pitfall 9: it may not know of what the next leader has committed."""
    cluster = Cluster(3, check_quorum=False)
    old = cluster.elect("n1")
    cluster.isolate("n1")
    cluster.elect("n2")
    cluster.commit("n2")
    assert old.is_leader
    context = cluster.read("n1")
    for _ in range(20):
        old.tick()
        cluster.settle()
    assert cluster.servers[N1].answered == {}
    cluster.heal()
    cluster.tick(count=3)
    assert not old.is_leader
    assert cluster.servers[N1].lost == [context]


def test_every_read_that_was_taken_is_answered_or_lost_once() -> None:
    """Also when the leadership is lost before its round began; who asks again is in a new round."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    begun = cluster.read("n1")
    cluster.work("n1")
    waiting = cluster.read("n1")
    leader.step_down()
    cluster.work("n1")
    assert cluster.servers[N1].lost == [begun, waiting]
    cluster.settle()
    assert cluster.servers[N1].answered == {}
    assert leader.reads.pending == 0


def test_what_a_quorum_has_confirmed_stays_true_after_the_leadership() -> None:
    """Only the application is missing."""
    queue = ReadQueue()
    queue.ask(1)
    queue.begin_round(Index(5))
    queue.confirm(1)
    queue.lose()
    assert not queue.can_answer(Index(4))
    assert queue.take_answered(Index(5)) == (ReadState(1, Index(5)),)
    assert queue.take_lost() == ()


def test_reads_are_bounded() -> None:
    cluster = Cluster(3, reads_pending_max=2)
    cluster.elect("n1")
    assert [cluster.read("n1") is not None for _ in range(3)] == [True, True, False]
    cluster.settle()
    assert cluster.read("n1") is not None


def test_followers_and_learners_do_not_confirm_for_one_another() -> None:
    """A learner's answer is no voter's."""
    cluster = Cluster(3, learners=1)
    cluster.elect("n1")
    cluster.partition(["n1", "n4"])
    cluster.read("n1")
    cluster.settle()
    assert cluster.servers[N1].answered == {}
