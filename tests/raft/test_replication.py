"""Log replication. Sections are of the Raft paper (extended version) or, where it says so, the thesis."""

from __future__ import annotations

import pytest

from resplock.raft.core import RaftCore
from resplock.raft.entries import Entry, EntryKind, entry_bytes, noop
from resplock.raft.messages import AppendReply, AppendRequest, Heartbeat, HeartbeatReply
from resplock.raft.progress import PeerState, Progress, Window
from resplock.types import Index, NodeId, StampMs, Term
from tests.raft.cluster import Cluster

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def entry(term: int, first: int, last: int | None = None, payload: bytes = b"") -> Entry:
    return Entry(term, first, last or first, EntryKind.RUN, 0, payload)


def entries(*terms: int) -> list[Entry]:
    """A log with entries of one command each, of these terms."""
    return [entry(term, index) for index, term in enumerate(terms, 1)]


def with_logs(**logs: list[Entry]) -> Cluster:
    """A cluster whose servers have these logs on disk, and the term of the last entry."""
    cluster = Cluster(len(logs))
    for id, log in logs.items():
        cluster.crash(id)
        cluster.disk(id).kept = list(log)
        cluster.disk(id).hard_state = type(cluster.disk(id).hard_state)(log[-1].term if log else 0)
        cluster.restart(id)
    return cluster


def follower(log: list[Entry], leader_term: int = 9) -> RaftCore:
    """n1 with a log, following n2."""
    cluster = with_logs(n1=log, n2=[], n3=[])
    core = cluster.core("n1")
    core.step(Heartbeat(leader_term, N2, N1, 0, 0, 0, 0))
    core.to_send_after_persist.clear()
    return core


def append(core: RaftCore, prev: tuple[int, int], *new: Entry, commit: int = 0) -> AppendReply:
    """Let n1 take an append from n2, the leader of its term; its reply."""
    core.step(AppendRequest(core.term, N2, N1, prev[0], prev[1], commit, 0, new))
    reply = core.to_send_after_persist.pop()
    assert isinstance(reply, AppendReply)
    return reply


def shape(core: RaftCore) -> list[tuple[int, int]]:
    """(term, last) of all entries."""
    log, shape = core.log, []
    index = 1
    while (found := log.entry_at(Index(index))) is not None:
        shape.append((found.term, found.last))
        index = found.last + 1
    return shape


# --- the leader commits --------------------------------------------------------------------------


def test_an_entry_is_committed_once_a_majority_has_it_and_then_applied_everywhere() -> None:
    """Section 5.3."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    proposed = cluster.propose("n1", commands=5)
    assert proposed is not None
    assert (proposed.first, proposed.last, proposed.kind) == (2, 6, EntryKind.RUN)
    assert (leader.last_index, leader.commit_index) == (6, 1)
    cluster.settle()
    cluster.tick()
    for id in cluster.servers:
        assert cluster.core(id).applied_index == 6
        assert cluster.servers[id].applied[-1] == proposed


def test_all_that_was_proposed_in_one_turn_goes_in_one_message() -> None:
    """One Ready a turn: consensus is paid for runs and turns, not for commands."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.propose("n1")
    cluster.propose("n1")
    ready = leader.ready()
    assert [len(message.entries) for message in ready.send_now] == [2, 2]
    assert len(ready.entries) == 2


def test_a_minority_commits_nothing() -> None:
    """Section 5.3; thesis 3.3."""
    cluster = Cluster(5)
    leader = cluster.elect("n1")
    cluster.partition(["n1", "n2"])
    cluster.propose("n1")
    cluster.settle()
    assert cluster.core("n2").last_index == 2
    assert leader.commit_index == 1


def test_the_leader_counts_itself_only_for_what_its_own_disk_has() -> None:
    """Thesis 10.2.1: it sends before it writes, and may even commit before it has written."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.propose("n1")
    cluster.begin("n1")
    cluster.cut = {("n1", "n3")}
    cluster.deliver()
    cluster.work("n2")
    while cluster.flying:
        cluster.deliver()
    assert leader.progress[N2].match_index == 2
    assert leader.commit_index == 1, "one disk is no majority of three"
    cluster.finish("n1")
    assert leader.commit_index == 2

    cluster.heal()
    cluster.tick(count=2)
    cluster.propose("n1")
    cluster.begin("n1")
    for id in ("n2", "n3"):
        cluster.deliver()
        cluster.work(id)
    while cluster.flying:
        cluster.deliver()
    assert leader.commit_index == 3, "the two others are a majority"
    assert leader.log.stable_index == 2


def test_the_commit_index_travels_with_the_next_message_or_at_once_if_asked() -> None:
    """Section 5.3: with appends and heartbeats; at once when a client elsewhere waits for it."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.tick()
    cluster.commit("n1")
    assert (leader.commit_index, cluster.core("n2").commit_index) == (2, 1)
    leader.announce_commit()
    cluster.settle()
    assert cluster.core("n2").commit_index == 2
    cluster.core("n2").announce_commit()
    assert not cluster.core("n2").has_ready()


def test_the_clock_entry_and_the_stamps() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    assert cluster.core("n2").propose_clock(StampMs(5)) is None
    leader.clock_ms = StampMs(70)
    proposed = leader.propose_clock(StampMs(70))
    assert proposed == Entry(1, 2, 2, EntryKind.CLOCK, 70)
    with pytest.raises(AssertionError, match="clock"):
        leader.propose(b"", 1, StampMs(69))


def test_a_leader_takes_no_more_than_its_bound() -> None:
    """Pitfall 30: the uncommitted log is bounded in bytes."""
    cluster = Cluster(3, uncommitted_bytes_max=1000)
    leader = cluster.elect("n1")
    cluster.isolate("n1")
    accepted = 0
    while cluster.propose("n1", size=100):
        accepted += 1
    assert accepted == 8
    assert leader.is_busy
    assert leader.propose_clock(leader.clock_ms) is None
    cluster.heal()
    cluster.tick(count=3)
    assert (leader.is_busy, leader.uncommitted_bytes) == (False, 0)
    assert cluster.propose("n1") is not None


# --- the follower takes --------------------------------------------------------------------------


def test_a_follower_takes_entries_only_behind_one_that_it_has() -> None:
    """Section 5.3: the consistency check."""
    core = follower(entries(1, 1, 2))
    assert append(core, (3, 2), entry(3, 4)) == AppendReply(9, N1, N2, True, 4)
    assert append(core, (6, 3), entry(3, 7)) == AppendReply(9, N1, N2, False, 0, 6, 5, 0)
    assert append(core, (3, 3), entry(3, 4)) == AppendReply(9, N1, N2, False, 0, 3, 3, 2)
    assert shape(core) == [(1, 1), (1, 2), (2, 3), (3, 4)]


def test_a_conflicting_entry_is_dropped_with_all_that_follow_it() -> None:
    """Section 5.3."""
    core = follower(entries(1, 2, 2, 2))
    assert append(core, (1, 1), entry(1, 2), entry(3, 3)).match_index == 3
    assert shape(core) == [(1, 1), (1, 2), (3, 3)]
    assert core.log.stable_index == 1


def test_entries_that_the_log_has_are_not_touched() -> None:
    """Figure 2, AppendEntries 3: only a conflict truncates."""
    core = follower(entries(1, 1, 1, 1))
    assert append(core, (0, 0), entry(1, 1), entry(1, 2)).match_index == 2
    assert append(core, (2, 1)).match_index == 2
    assert len(shape(core)) == 4
    assert core.log.stable_index == 4


def test_only_what_was_compared_is_committed() -> None:
    """Figure 2, AppendEntries 5, with "last new entry" read as "last entry compared"."""
    core = follower(entries(1, 1, 2))
    append(core, (1, 1), entry(1, 2), commit=3)
    assert core.commit_index == 2, "the third may not be the leader's"
    append(core, (2, 1), entry(3, 3), commit=9)
    assert core.commit_index == 3


def test_a_heartbeat_commits_only_an_entry_that_both_have() -> None:
    """Log matching: an index and a term name one entry, and all that is before it."""
    core = follower(entries(1, 1, 2))
    for end, term, commit_index in ((3, 3, 0), (4, 2, 0), (2, 1, 2), (1, 1, 2)):
        core.step(Heartbeat(9, N2, N1, end, term, 0, 7))
        assert core.commit_index == commit_index
    reply = core.to_send_after_persist.pop()
    assert reply == HeartbeatReply(9, N1, N2, 2, 7)


def test_what_is_committed_is_not_compared_again() -> None:
    """A late message that begins before the commit index is taken from there on."""
    core = follower(entries(1, 1, 2))
    append(core, (3, 2), commit=3)
    assert append(core, (0, 0), entry(1, 1)).match_index == 3
    assert append(core, (1, 1), entry(1, 2), entry(2, 3), entry(3, 4)).match_index == 4
    assert core.commit_index == 3


def test_the_inside_of_an_entry_is_no_place_to_append() -> None:
    """Entries are never split: the hint is where the entry begins, or its term."""
    core = follower([entry(1, 1, 4), entry(2, 5, 9)])
    assert append(core, (7, 3)) == AppendReply(9, N1, N2, False, 0, 7, 5, 2)
    assert append(core, (7, 2)) == AppendReply(9, N1, N2, False, 0, 7, 5, 2)
    assert append(core, (2, 1)) == AppendReply(9, N1, N2, False, 0, 2, 1, 1)


def test_a_term_has_one_leader() -> None:
    """Section 5.2, election safety: whoever else claims to lead is not believed."""
    core = follower(entries(1))
    core.step(AppendRequest(9, N3, N1, 1, 1, 0, 0, (entry(9, 2),)))
    core.step(Heartbeat(9, N3, N1, 0, 0, 0, 0))
    assert (core.leader_id, core.last_index, core.has_ready()) == ("n2", 1, True)
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    leader.step(AppendRequest(1, N2, N1, 0, 0, 0, 0, ()))
    assert leader.is_leader
    assert not leader.has_ready()


# --- bringing logs into agreement ----------------------------------------------------------------


FIGURE_7 = {
    "leader": entries(1, 1, 1, 4, 4, 5, 5, 6, 6, 6),
    "a": entries(1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": entries(1, 1, 1, 4),
    "c": entries(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": entries(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": entries(1, 1, 1, 4, 4, 4, 4),
    "f": entries(1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("name", "abcdef")
def test_figure_7_every_follower_comes_to_the_leaders_log(name: str) -> None:
    """Section 5.3 and figure 7: missing entries, entries too many, or both, over several terms."""
    cluster = with_logs(n1=FIGURE_7["leader"], n2=FIGURE_7["a"], n3=FIGURE_7[name])
    cluster.core("n1").term = Term(7)
    cluster.partition(["n1", "n2"])
    cluster.elect("n1")
    cluster.heal()
    cluster.tick(count=3)
    assert cluster.shape("n3") == cluster.shape("n1")
    assert cluster.core("n3").commit_index == 11


def test_agreement_is_found_a_term_at_a_time() -> None:
    """End of section 5.3: one rejection for each conflicting term, not for each entry."""
    cluster = with_logs(
        n1=entries(1, 1, *[4] * 300),
        n2=entries(1, 1, *[4] * 300),
        n3=entries(1, 1, *[2] * 100, *[3] * 200),
    )
    cluster.elect("n1")
    cluster.tick(count=3)
    assert cluster.shape("n3") == cluster.shape("n1")
    rejections = [m for m in cluster.of_kind(AppendReply, "n3") if not m.accepted]
    assert len(rejections) <= 3


def test_the_leader_skips_to_its_own_end_of_the_conflicting_term() -> None:
    """End of section 5.3: if it has entries of that term, they agree up to its last one."""
    cluster = with_logs(
        n1=entries(1, *[2] * 50, *[3] * 20),
        n2=entries(1, *[2] * 50, *[3] * 20),
        n3=entries(1, *[2] * 100),
    )
    cluster.elect("n1")
    cluster.tick(count=3)
    appends = cluster.of_kind(AppendRequest, "n1", "n3")
    assert 51 in [message.prev_index for message in appends]
    assert min(message.prev_index for message in appends) == 51
    assert cluster.shape("n3") == cluster.shape("n1")


def test_hints_inside_the_leaders_entries_are_rounded_down_to_where_they_begin() -> None:
    """Entries are never split, and the follower's indexes are those of other entries."""
    cluster = with_logs(
        n1=[entry(1, 1, 3), entry(3, 4, 9), entry(3, 10, 20)],
        n2=[entry(1, 1, 3), entry(3, 4, 9), entry(3, 10, 20)],
        n3=[entry(1, 1, 3), entry(2, 4, 5), entry(2, 6, 7), entry(2, 8, 14)],
    )
    cluster.elect("n1")
    cluster.tick(count=3)
    assert cluster.shape("n3") == cluster.shape("n1")


# --- flow control --------------------------------------------------------------------------------


def test_appends_are_pipelined_up_to_a_window_of_messages() -> None:
    """Thesis 10.2.1, and pitfall 30: bounded."""
    cluster = Cluster(3, inflight_messages_max=3, append_bytes_max=1)
    leader = cluster.elect("n1")
    for _ in range(9):
        cluster.propose("n1")
    ready = leader.ready()
    assert sum(message.to_id == N2 for message in ready.send_now) == 3
    cluster.disk("n1").persist(ready)
    leader.advance()
    assert not [m for m in leader.ready().send_now if m.to_id == N2], "the window is full"
    leader.advance()
    leader.step(AppendReply(1, N2, N1, True, 3))
    assert sum(message.to_id == N2 for message in leader.ready().send_now) == 2
    assert leader.status().peers[0].inflight_messages == 3


def test_the_window_is_bounded_in_bytes_too() -> None:
    cluster = Cluster(3, inflight_bytes_max=500, append_bytes_max=200)
    leader = cluster.elect("n1")
    for _ in range(20):
        cluster.propose("n1", size=100)
    ready = leader.ready()
    to_n2 = [message for message in ready.send_now if message.to_id == N2]
    sizes = [sum(map(entry_bytes, message.entries)) for message in to_n2]
    assert max(sizes) <= 200
    assert 500 <= sum(sizes) < 700
    cluster.disk("n1").persist(ready)
    cluster.send(ready.send_now)
    leader.advance()
    cluster.settle()
    assert cluster.core("n2").last_index == leader.last_index


def test_an_entry_over_the_bound_goes_alone() -> None:
    cluster = Cluster(3, append_bytes_max=100, inflight_bytes_max=100)
    cluster.elect("n1")
    cluster.propose("n1", size=5000)
    cluster.commit("n1")
    assert cluster.core("n2").last_index == 3


def test_a_probe_is_one_message_until_it_is_answered() -> None:
    """To a follower whose log is not known, or who does not answer."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.isolate("n3")
    leader.report_unreachable(N3)
    leader.report_unreachable(N3)
    assert leader.progress[N3].state is PeerState.PROBE
    for _ in range(5):
        cluster.commit("n1")
    assert len(cluster.of_kind(AppendRequest, "n1", "n3")) == 2, "the no-op's, and one probe"
    cluster.heal()
    cluster.tick(count=2)
    assert leader.progress[N3].state is PeerState.REPLICATE
    assert cluster.core("n3").last_index == leader.last_index


def test_a_lost_append_is_found_out_by_heartbeats() -> None:
    """By two that find the pipeline in the same place: the leader retries for ever (section 5.3)."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.loses = lambda message: isinstance(message, AppendRequest) and message.to_id == N3
    for _ in range(3):
        cluster.commit("n1")
    cluster.loses = lambda _: False
    cluster.tick(count=3)
    assert cluster.core("n3").last_index == leader.last_index == leader.progress[N3].match_index


def test_a_pipeline_that_moves_is_not_asked_where_it_is() -> None:
    """Reads bring a heartbeat in every turn; they must not double the messages under load."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    sent = len(cluster.of_kind(AppendRequest, "n1", "n2"))
    for _ in range(10):
        cluster.read("n1")
        cluster.propose("n1")
        cluster.settle()
    assert leader.commit_index == 11
    assert len(cluster.of_kind(AppendRequest, "n1", "n2")) == sent + 10


def test_a_lost_acknowledgement_is_made_up_for_by_the_next_heartbeat() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.loses = lambda message: isinstance(message, AppendReply)
    cluster.propose("n1")
    cluster.settle()
    assert leader.commit_index == 1
    cluster.tick()
    assert leader.commit_index == 2


def test_late_and_impossible_replies_change_nothing() -> None:
    """Pitfall 4: match_index never goes back; and a peer may be wrong."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    cluster.commit("n1", commands=5)
    cluster.commit("n1", commands=5)
    progress = leader.progress[N2]

    def state() -> tuple[object, ...]:
        return progress.match_index, progress.next_index, progress.state, leader.commit_index

    before = state()
    assert before == (11, 12, PeerState.REPLICATE, 11)
    for reply in (
        AppendReply(1, N2, N1, True, 6),  # late
        AppendReply(1, N2, N1, True, 99),  # more than there is
        AppendReply(1, N2, N1, False, 0, 6, 2, 0),  # late: it agrees there by now
        AppendReply(1, NodeId("n9"), N1, True, 11),  # a stranger
        HeartbeatReply(1, NodeId("n9"), N1, 11, 5),
        HeartbeatReply(1, N2, N1, 8, 2**60),
    ):
        leader.step(reply)
        assert state() == before
    cluster.settle()
    entry = cluster.propose("n1", commands=5)
    assert entry is not None
    leader.step(AppendReply(1, N2, N1, True, entry.first))  # inside an entry
    assert progress.match_index == 11
    progress.probe_from(Index(12))
    leader.step(AppendReply(1, N2, N1, False, 0, 14, 13, 0))  # not what was asked
    assert progress.next_index == 12


def test_a_rejected_pipeline_goes_back_to_the_last_agreement() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(3):
        cluster.propose("n1")
        cluster.begin("n1")
        cluster.finish("n1")
    progress = leader.progress[N2]
    assert (progress.next_index, len(progress.window)) == (5, 3)
    leader.step(AppendReply(1, N2, N1, False, 0, 3, 2, 0))
    assert (progress.state, progress.next_index, len(progress.window)) == (PeerState.PROBE, 2, 0)
    cluster.settle()
    assert progress.match_index == 4


def test_a_peer_that_restarted_with_less_is_caught_up_again() -> None:
    """Pitfall 26: a log that was damaged on disk, under a leader that goes on."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(5):
        cluster.commit("n1")
    cluster.crash("n3")
    cluster.disk("n3").cut(Index(3))
    cluster.restart("n3", voting_mark=(Term(1), Index(6)))
    leader.report_restarted(N3)
    assert leader.progress[N3].match_index == 0
    cluster.commit("n1")
    assert cluster.core("n3").last_index == leader.last_index == 7
    assert leader.progress[N3].match_index == 7


def test_status_shows_every_peer() -> None:
    cluster = Cluster(3, learners=1)
    leader = cluster.elect("n1")
    cluster.isolate("n3")
    for _ in range(3):
        cluster.tick("n1")
    cluster.commit("n1")
    status = leader.status()
    assert (status.role, status.leader_id, status.term) == ("leader", "n1", 1)
    assert (status.last_log_index, status.last_log_term, status.commit_index) == (2, 1, 2)
    assert (status.last_applied, status.snapshot_index, status.snapshot_term) == (2, 0, 0)
    n2, n3, n4 = status.peers
    assert (n2.id, n2.is_voter, n2.match_index, n2.next_index) == ("n2", True, 2, 3)
    assert (n2.state, n2.is_active, n2.replication_lag) == ("replicate", True, 0)
    assert (n3.last_active, n3.replication_lag, n3.consecutive_failures) == (3, 1, 2)
    assert (n4.id, n4.is_voter) == ("n4", False)
    assert cluster.core("n2").status().peers == ()
    assert cluster.core("n4").status().role == "learner"


# --- progress and window, alone ------------------------------------------------------------------


def test_the_window_frees_what_has_arrived() -> None:
    window = Window(bytes_max=100, messages_max=3)
    window.add(Index(5), 60)
    window.add(Index(9), 60)
    assert window.is_full
    window.free(Index(8))
    assert (len(window), window.bytes, window.is_full) == (1, 60, False)
    with pytest.raises(AssertionError):
        window.add(Index(9), 1)
    window.clear()
    assert (len(window), window.bytes) == (0, 0)


def test_progress_never_sends_while_paused() -> None:
    progress = Progress(N2, Index(4), 0, Window(10, 1))
    progress.sent(Index(6), 5)
    with pytest.raises(AssertionError):
        progress.sent(Index(6), 5)
    progress.await_snapshot()
    assert progress.is_paused
    assert noop(Term(1), Index(1), StampMs(0)).last == 1
