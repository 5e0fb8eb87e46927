"""What is handed out, in which order, and what may happen between `ready` and `advance`."""

from __future__ import annotations

import pytest

from resplock.raft.entries import Entry, EntryKind, HardState
from resplock.raft.messages import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    VoteReply,
    VoteRequest,
)
from resplock.types import Index, NodeId
from tests.raft.cluster import Cluster

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def run(term: int, first: int, last: int | None = None) -> Entry:
    return Entry(term, first, last or first, EntryKind.RUN, 0)


def test_ready_and_advance_alternate() -> None:
    core = Cluster(1).core("n1")
    with pytest.raises(AssertionError, match="ready"):
        core.advance()
    core.campaign()
    assert core.has_ready()
    core.ready()
    assert not core.has_ready(), "nothing more is given out before this is done"
    with pytest.raises(AssertionError, match="advance"):
        core.ready()
    core.advance()


def test_a_leaders_appends_may_overlap_its_own_write() -> None:
    """Thesis 10.2.1: they are in send_now, and the entries are in the same Ready."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    entry = cluster.propose("n1")
    ready = leader.ready()
    assert [message.entries for message in ready.send_now] == [(entry,), (entry,)]
    assert ready.entries == (entry,)
    assert (ready.hard_state, ready.send_after_persist, ready.committed) == (None, (), ())


def test_an_acknowledgement_waits_for_the_entries_that_it_acknowledges() -> None:
    """Pitfall 2, and figure 2: a follower answers after it has stored them."""
    core = Cluster(3).core("n1")
    core.step(AppendRequest(1, N2, N1, 0, 0, 0, 0, (run(1, 1, 4),)))
    ready = core.ready()
    assert ready.hard_state == HardState(1, "")
    assert ready.entries == (run(1, 1, 4),)
    assert ready.send_now == ()
    assert ready.send_after_persist == (AppendReply(1, N1, N2, True, 4),)


def test_a_vote_waits_for_the_hard_state_that_holds_it() -> None:
    """Pitfall 2."""
    core = Cluster(3).core("n1")
    core.step(VoteRequest(4, N2, N1, 0, 0))
    ready = core.ready()
    assert ready.hard_state == HardState(4, "n2")
    assert (ready.send_now, ready.send_after_persist) == ((), (VoteReply(4, N1, N2, True),))


def test_the_hard_state_is_handed_out_once() -> None:
    cluster = Cluster(3)
    core = cluster.core("n1")
    core.step(Heartbeat(3, N2, N1, 0, 0, 0, 0))
    assert core.ready().hard_state == HardState(3, "")
    core.advance()
    core.step(Heartbeat(3, N2, N1, 0, 0, 0, 0))
    assert core.ready().hard_state is None


def test_what_is_committed_in_a_message_with_its_entries_is_durable_before_it_is_applied() -> None:
    """One Ready: first the batch, then the application."""
    core = Cluster(3).core("n1")
    core.step(AppendRequest(1, N2, N1, 0, 0, 4, 0, (run(1, 1, 4), run(1, 5))))
    ready = core.ready()
    assert len(ready.entries) == 2
    assert ready.committed == (run(1, 1, 4),)
    assert core.applied_index == 0
    core.advance()
    assert core.applied_index == 4


def test_entries_may_overwrite_the_durable_end_of_the_log() -> None:
    """The first of them begins at or before the last index on disk."""
    cluster = Cluster(3)
    core = cluster.core("n1")
    core.step(AppendRequest(1, N2, N1, 0, 0, 0, 0, (run(1, 1), run(1, 2, 5))))
    cluster.work("n1")
    core.step(AppendRequest(2, N3, N1, 1, 1, 0, 0, (run(2, 2),)))
    ready = core.ready()
    assert ready.entries == (run(2, 2),)
    cluster.disk("n1").persist(ready)
    core.advance()
    assert cluster.disk("n1").kept == [run(1, 1), run(2, 2)]
    assert core.log.stable_index == 2


def test_messages_may_arrive_while_a_batch_is_written() -> None:
    """Pitfall 5: the write that ends is not of the entries that are there now."""
    cluster = Cluster(3)
    core, disk = cluster.core("n1"), cluster.disk("n1")
    core.step(AppendRequest(1, N2, N1, 0, 0, 0, 0, (run(1, 1), run(1, 2))))
    first = core.ready()
    core.step(AppendRequest(2, N3, N1, 0, 0, 0, 0, (run(2, 1), run(2, 2))))
    disk.persist(first)
    core.advance()
    assert core.log.stable_index == 0
    second = core.ready()
    assert second.hard_state == HardState(2, "")
    assert second.entries == (run(2, 1), run(2, 2))
    assert second.send_after_persist == (AppendReply(2, N1, N3, True, 2),)
    disk.persist(second)
    core.advance()
    assert core.log.stable_index == 2
    assert disk.kept == [run(2, 1), run(2, 2)]


def test_a_leader_does_not_count_a_write_of_entries_that_it_lost_meanwhile() -> None:
    """Pitfall 5, on a leader: deposed and elected again while its disk was slow."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.propose("n1")
    cluster.begin("n1")
    cluster.flying.clear()
    leader.step(AppendRequest(2, N2, N1, 1, 1, 0, 0, (run(2, 2),)))
    leader.step(VoteRequest(3, N3, N1, 0, 0, transfer=True))
    leader.campaign()
    leader.step(HeartbeatReply(3, N2, N1, 0, 0))
    cluster.finish("n1")
    assert leader.log.stable_index == 1
    assert cluster.shape("n1") == [(1, 1, 1), (2, 2, 2)]
    cluster.work("n1")
    assert leader.log.stable_index == 2


def test_committed_entries_are_handed_out_in_bounded_portions() -> None:
    """So that applying them does not stall the runtime's loop, even after a restart."""
    cluster = Cluster(1, committed_bytes_max=100)
    cluster.elect("n1")
    for _ in range(10):
        cluster.propose("n1", size=10)
    cluster.begin("n1")
    cluster.finish("n1")
    core = cluster.core("n1")
    portions = []
    while core.has_ready():
        portions.append(len(core.ready().committed))
        core.advance()
    assert portions == [2] * 5
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.elect("n1")
    assert cluster.core("n1").applied_index == 12


def test_what_a_later_term_takes_back_is_not_acknowledged() -> None:
    """Pitfall 2: a loop that stalled takes the messages of two leaders before it writes anything."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.tick()
    core = cluster.core("n2")
    core.step(AppendRequest(1, N1, N2, 1, 1, 1, 0, (run(1, 2), run(1, 3))))
    core.step(AppendRequest(2, N3, N2, 1, 1, 1, 0, (run(2, 2),)))
    ready = core.ready()
    assert ready.entries == (run(2, 2),)
    assert ready.send_after_persist == (AppendReply(2, N2, N3, True, 2),)


def test_an_idle_core_has_nothing_to_do() -> None:
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.tick()
    assert not any(core.has_ready() for core in cluster.cores())


def test_a_batch_that_was_not_written_leaves_nothing_behind() -> None:
    """A crash at each moment: what was sent was durable, what was not durable was not sent."""
    for moment, durable in (("", False), ("persist", True), ("send", True)):
        cluster = Cluster(3)
        leader = cluster.elect("n1")
        cluster.tick()
        cluster.propose("n1")
        cluster.begin("n1")
        cluster.deliver()
        cluster.begin("n2")
        cluster.flying.clear()
        if moment:
            cluster.finish("n2", crash_after=moment)
        else:
            cluster.crash("n2")
        sent = len(cluster.flying)
        cluster.restart("n2")
        assert (cluster.core("n2").last_index == 2) is durable
        assert sent == (moment == "send")
        assert leader.is_leader
        assert cluster.core("n2").commit_index == Index(0)
