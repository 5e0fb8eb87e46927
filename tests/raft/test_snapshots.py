"""Snapshots as the core sees them (Raft paper, section 7; thesis chapter 5)."""

from __future__ import annotations

from resplock.raft.entries import Configuration, Entry, EntryKind, Member, SnapshotMeta
from resplock.raft.messages import AppendReply, AppendRequest, Heartbeat
from resplock.raft.progress import PeerState
from resplock.raft.roles import Role
from resplock.types import Index, NodeId
from tests.raft.cluster import Cluster, Snapshot

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def fallen_behind() -> Cluster:
    """n3 has nothing but the no-op, and n1 has compacted all the rest."""
    cluster = Cluster(3, tail_bytes_max=1)
    cluster.elect("n1")
    cluster.tick()
    cluster.isolate("n3")
    for _ in range(10):
        cluster.commit("n1", commands=3)
    cluster.compact("n1")
    return cluster


def test_a_follower_too_far_behind_gets_a_snapshot_and_then_entries() -> None:
    """Section 7: the leader has discarded what it would have to send next."""
    cluster = fallen_behind()
    leader = cluster.core("n1")
    cluster.commit("n1")
    cluster.heal()
    cluster.tick(count=3)
    assert cluster.servers[N3].received
    assert cluster.core("n3").applied_index == leader.commit_index
    assert cluster.servers[N3].applied == cluster.servers[N1].applied
    assert leader.progress[N3].state is PeerState.REPLICATE
    assert cluster.disk("n3").first_index == leader.log.base.index + 1


def test_entries_that_are_still_kept_are_sent_instead() -> None:
    """Section 7: a snapshot is for what is gone, and the runtime keeps a little longer."""
    cluster = Cluster(3, tail_bytes_max=1)
    cluster.elect("n1")
    cluster.isolate("n3")
    for _ in range(10):
        cluster.commit("n1")
    cluster.compact("n1", keep=1000)
    cluster.heal()
    cluster.tick(count=3)
    assert not cluster.servers[N3].received
    assert cluster.core("n3").applied_index == 11


def test_nothing_else_is_sent_while_a_snapshot_is_under_way() -> None:
    """And it is asked for once."""
    cluster = fallen_behind()
    leader = cluster.core("n1")
    cluster.loses = lambda message: isinstance(message, Snapshot)
    cluster._report = lambda snapshot, ok: None  # type: ignore[method-assign]
    cluster.heal()
    cluster.tick(count=3)
    assert leader.status().peers[1].snapshot_in_progress
    sent = len(cluster.of_kind(AppendRequest, "n1", "n3"))
    cluster.commit("n1")
    cluster.tick(count=3)
    assert len(cluster.of_kind(AppendRequest, "n1", "n3")) == sent
    assert leader.snapshots_wanted == []

    leader.report_snapshot(N2, Index(1), True)  # nobody asked
    leader.report_snapshot(NodeId("n9"), Index(1), True)
    assert leader.progress[N3].state is PeerState.SNAPSHOT


def test_a_failed_snapshot_is_tried_again_once_the_follower_shows_itself() -> None:
    """Not at once: the runtime would try and fail in a circle."""
    cluster = fallen_behind()
    cluster.tick("n1", "n2", count=3)
    leader = cluster.core("n1")
    cluster.loses = lambda message: isinstance(message, Snapshot)
    cluster.heal()
    cluster.tick()
    assert leader.progress[N3].state is PeerState.PROBE
    assert not leader.has_ready()
    cluster.loses = lambda _: False
    cluster.tick(count=3)
    assert cluster.core("n3").applied_index == leader.commit_index


def test_no_snapshot_for_a_follower_that_is_not_there() -> None:
    cluster = fallen_behind()
    leader = cluster.core("n1")
    cluster.tick("n1", "n2", count=20)
    leader.report_unreachable(N3)
    cluster.tick("n1", "n2", count=20)
    assert leader.progress[N3].state is PeerState.PROBE
    assert not leader.has_ready()


def test_a_follower_that_catches_up_by_itself_needs_its_snapshot_no_more() -> None:
    """An old append of a pipeline may arrive after all."""
    cluster = fallen_behind()
    leader = cluster.core("n1")
    leader.progress[N3].await_snapshot()
    leader.step(AppendReply(1, N3, N1, True, 4))
    assert leader.progress[N3].state is PeerState.SNAPSHOT, "what follows is gone"
    leader.step(AppendReply(1, N3, N1, True, leader.log.base.index))
    assert leader.progress[N3].state is PeerState.PROBE


# --- the receiving side --------------------------------------------------------------------------


def meta(index: int, term: int, *voters: str) -> SnapshotMeta:
    members = tuple(Member(NodeId(name)) for name in voters or ("n1", "n2", "n3"))
    return SnapshotMeta(index, term, 77, Configuration(members))


def test_a_snapshot_replaces_the_log_in_the_next_ready() -> None:
    """Section 7: the entire log is discarded; the runtime does it in the same batch."""
    cluster = Cluster(3)
    core = cluster.core("n2")
    entries = tuple(Entry(1, index, index, EntryKind.RUN, 0) for index in (1, 2, 3))
    core.step(AppendRequest(2, N1, N2, 0, 0, 1, 0, entries))
    ready = core.ready()
    cluster.disk("n2").persist(ready)
    core.advance()
    assert core.restore(meta(10, 2))
    assert (core.commit_index, core.applied_index, core.last_index) == (10, 10, 10)
    assert (core.last_term, core.log.last_stamp_ms) == (2, 77)
    assert core.log.entry_at(Index(2)) is None, "the reader's old log is not looked at"
    assert core.log.term_at(Index(2)) is None
    assert core.log.first_index == 11
    ready = core.ready()
    assert ready.installed == meta(10, 2)
    assert ready.entries == ()
    assert ready.send_after_persist == (AppendReply(2, N2, N1, True, 10),)
    cluster.disk("n2").persist(ready)
    core.advance()
    assert cluster.disk("n2").last_index == 10
    core.step(AppendRequest(2, N1, N2, 10, 2, 11, 0, (Entry(2, 11, 11, EntryKind.RUN, 80),)))
    assert core.commit_index == 11


def test_a_snapshot_that_is_not_newer_is_ignored() -> None:
    """Pitfall 20: it would take committed and applied entries away."""
    cluster = Cluster(3)
    cluster.elect("n1")
    for _ in range(4):
        cluster.commit("n1")
    cluster.tick()
    core = cluster.core("n2")
    assert core.commit_index == 5
    for index in (3, 5):
        assert not core.restore(meta(index, 1))
    assert not core.has_ready()
    assert not cluster.core("n1").restore(meta(99, 9)), "a leader has everything"


def test_a_snapshot_of_what_the_log_has_only_commits() -> None:
    """Section 7: entries that follow a snapshot's are retained."""
    cluster = Cluster(3)
    core = cluster.core("n2")
    entries = tuple(Entry(1, index, index, EntryKind.RUN, 0) for index in (1, 2, 3))
    core.step(AppendRequest(1, N1, N2, 0, 0, 0, 0, entries))
    assert not core.restore(meta(2, 1))
    assert (core.commit_index, core.last_index) == (2, 3)
    ready = core.ready()
    assert (ready.installed, len(ready.committed)) == (None, 2)


def test_two_snapshots_in_quick_succession() -> None:
    """Pitfall 20: the second before the first is taken up, and while it is written."""
    cluster = Cluster(3)
    core, disk = cluster.core("n2"), cluster.disk("n2")
    core.step(Heartbeat(3, N1, N2, 0, 0, 0, 0))
    assert core.restore(meta(10, 1))
    assert core.restore(meta(20, 2))
    first = core.ready()
    assert first.installed == meta(20, 2)
    assert core.restore(meta(30, 3))
    disk.persist(first)
    core.advance()
    assert core.log.term_at(Index(20)) is None, "the reader still has the second one"
    second = core.ready()
    assert second.installed == meta(30, 3)
    disk.persist(second)
    core.advance()
    assert (disk.snapshot.index, core.applied_index, core.last_term) == (30, 30, 3)
    assert not core.restore(meta(20, 2))


def test_entries_that_are_being_written_when_a_snapshot_comes_do_not_count() -> None:
    """They are dropped with the log. The same entries may come again, and are written again."""
    cluster = Cluster(3)
    core, disk = cluster.core("n2"), cluster.disk("n2")
    entries = tuple(Entry(1, index, index, EntryKind.RUN, 0) for index in range(1, 7))
    core.step(AppendRequest(1, N1, N2, 0, 0, 2, 0, entries[:3]))
    ready = core.ready()
    assert len(ready.committed) == 2
    assert core.restore(meta(4, 1))
    core.step(AppendRequest(1, N1, N2, 4, 1, 4, 0, entries[4:]))
    disk.persist(ready)
    core.advance()
    assert (core.log.stable_index, core.applied_index) == (4, 4)
    ready = core.ready()
    assert (ready.installed, ready.entries) == (meta(4, 1), entries[4:])
    disk.persist(ready)
    core.advance()
    assert (core.log.stable_index, disk.last_index) == (6, 6)


def test_the_configuration_of_a_snapshot_is_in_effect() -> None:
    """Thesis 4.1 and pitfall 17: the membership as of the snapshot, tombstones and all."""
    cluster = Cluster(3)
    core = cluster.core("n2")
    assert core.restore(meta(10, 1, "n1", "n3"))
    assert core.role is Role.LEARNER
    assert core.restore(meta(12, 1, "n1", "n2", "n3"))
    assert core.role is Role.FOLLOWER
    assert core.configuration == meta(12, 1).configuration


# --- compaction ----------------------------------------------------------------------------------


def test_compaction_keeps_the_place_in_the_log() -> None:
    """Section 7: the last included index and term serve the next consistency check."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(4):
        cluster.commit("n1")
    cluster.tick()
    for id in cluster.servers:
        cluster.compact(id)
        cluster.crash(id)
        cluster.restart(id)
    assert cluster.core("n2").status().snapshot_index == 5
    leader = cluster.elect("n2")
    cluster.commit("n2")
    cluster.tick()
    assert [core.applied_index for core in cluster.cores()] == [7, 7, 7]
    assert leader.log.base.index == 5


def test_an_older_snapshot_compacts_nothing() -> None:
    cluster = Cluster(1)
    core = cluster.elect("n1")
    cluster.commit("n1")
    cluster.compact("n1")
    before = core.log.base
    core.compacted(SnapshotMeta(1, 1, 0, cluster.bootstrap))
    assert core.log.base == before
