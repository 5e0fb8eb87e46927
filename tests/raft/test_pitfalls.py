"""The pitfalls of Raft that this core has to avoid, by their numbers in the project's list.

Each has a test here or beside its topic, named in its docstring as "Pitfall N"; the last test looks
whether all are there. Those of the runtime and the clients are tested with them.
"""

from __future__ import annotations

import re
from pathlib import Path

from resplock.raft.messages import AppendReply, AppendRequest, Message
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, StampMs
from tests.raft.cluster import Cluster, Snapshot

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))

OF_THE_CORE = {*range(1, 22), 26, 28, 30, 31}

CITED = {
    "thesis": {
        "3.4",
        "3.10",
        "4.1",
        "4.2.1",
        "4.2.2",
        "4.2.3",
        "6.2",
        "6.4",
        "6.4.1",
        "9.6",
        "10.2.1",
    },
    "section": {"5.1", "5.2", "5.3", "5.4.1", "5.4.2", "7", "8"},
    "figure": {"2", "3", "4", "4.6", "7", "8"},
}
"""What the core implements of the thesis and of the paper, by section and figure."""


def test_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    """Pitfall 1; Raft paper, section 5.4.2 and figure 8, whose steps are (a) to (d)."""
    cluster = Cluster(5, append_bytes_max=1)
    cluster.elect("n1")
    cluster.tick()

    # (a) n1 leads, and an entry of its term reaches n2 only.
    cluster.partition(["n1", "n2"])
    early = cluster.propose("n1")
    assert early is not None
    cluster.settle()
    cluster.crash("n1")

    # (b) n5 leads the next term with n3 and n4, and its no-op reaches nobody.
    cluster.partition(["n3", "n4", "n5"])
    cluster.loses = lambda message: isinstance(message, AppendRequest)
    cluster.elect("n5")
    cluster.crash("n5")

    # (c) n1 leads again, and brings the early entry to the others, but nothing of its own term.
    def is_of_term_3(message: Message | Snapshot) -> bool:
        if not isinstance(message, AppendRequest) or message.prev_index < early.last:
            return False
        return message.to_id == N5 or cluster.core(message.to_id).last_index >= early.last

    cluster.restart("n1")
    cluster.heal()
    cluster.loses = is_of_term_3
    assert cluster.elect("n1").term == 3
    cluster.tick(count=2)
    assert [core.last_index >= early.last for core in cluster.cores()] == [True] * 4
    assert cluster.core("n1").commit_index < early.last, "a majority has it, and it is not safe"

    # (d) n1 crashes, n5 comes back, wins with its later term, and overwrites the early entry.
    cluster.crash("n1")
    cluster.restart("n5")
    cluster.loses = lambda _: False
    cluster.elect("n5")
    cluster.commit("n5")
    assert early not in cluster.servers[N5].applied


def test_a_later_short_append_does_not_shorten_the_log() -> None:
    """Pitfall 3: delayed by the network, it finds its entries there and drops nothing."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.loses = lambda message: isinstance(message, AppendReply)
    for _ in range(3):
        cluster.propose("n1")
        cluster.work("n1")
    late = next(message for message in cluster.flying if message.to_id == N2)
    cluster.settle()
    cluster.flying.append(late)
    cluster.settle()
    core = cluster.core("n2")
    assert (core.last_index, core.log.stable_index, core.commit_index) == (4, 4, 1)


def test_an_acknowledgement_of_an_earlier_term_does_not_count() -> None:
    """Pitfall 4: the log that it speaks of may have been overwritten since."""
    cluster = Cluster(3)
    cluster.elect("n1").step_down()
    leader = cluster.elect("n1")
    assert leader.term == 2
    cluster.isolate("n1")
    entry = cluster.propose("n1")
    assert entry is not None
    cluster.work("n1")
    leader.step(AppendReply(1, N2, N1, True, entry.last))
    assert leader.commit_index < entry.last
    leader.step(AppendReply(2, N2, N1, True, entry.last))
    assert leader.commit_index == entry.last


def test_a_message_for_another_server_is_not_taken() -> None:
    """Pitfall 6: its address was given to this one. (The link checks cluster and incarnation.)"""
    core = Cluster(3).core("n1")
    core.step(AppendRequest(4, N2, NodeId("n7"), 0, 0, 0, 0, ()))
    assert core.term == 0


def test_a_leader_that_was_cut_off_lets_its_proposals_go() -> None:
    """Pitfall 11: it steps down, and what it proposed is decided by the next leader, either way."""
    cluster = Cluster(3)
    old = cluster.elect("n1")
    cluster.isolate("n1")
    lost = cluster.propose("n1")
    cluster.tick(count=40)
    assert old.role is not Role.LEADER
    assert cluster.propose("n1") is None
    kept = cluster.commit(cluster.leader().id)
    cluster.heal()
    cluster.tick(count=3)
    applied = cluster.servers[N1].applied
    assert kept in applied
    assert lost not in applied


def test_a_server_that_stands_in_a_later_term_does_not_depose_a_leader_that_others_hear() -> None:
    """Pitfall 12: PreVote changes no term, and voters that hear a leader ignore candidates."""
    cluster = Cluster(3)
    leader = cluster.elect("n1")
    for _ in range(5):
        cluster.core("n3").campaign()
        cluster.settle()
    assert leader.is_leader
    assert [core.term for core in cluster.cores()] == [1, 1, 1]


def test_a_snapshot_is_durable_before_the_log_is_cut_at_every_step() -> None:
    """Pitfall 21: a crash after each leaves a log that is whole from its snapshot on."""
    for crash_before_cut in (True, False):
        cluster = Cluster(3)
        cluster.elect("n1")
        for _ in range(5):
            cluster.commit("n1")
        cluster.tick()
        cluster.compact("n2", keep=1000 if crash_before_cut else 0)
        cluster.crash("n2")
        cluster.restart("n2")
        core = cluster.core("n2")
        assert (core.applied_index, core.log.base.index) == (6, 6)
        cluster.commit("n1")
        cluster.tick()
        assert core.applied_index == 7
        assert cluster.servers[N2].applied == cluster.servers[N1].applied


def test_lost_time_counts_as_no_more_than_the_ticks_that_are_given() -> None:
    """Pitfall 28: a stalled runtime drains its sockets first, and then gives a tick, not many."""
    cluster = Cluster(3)
    cluster.elect("n1")
    follower = cluster.core("n2")
    for _ in range(3):
        cluster.core("n1").tick()
        cluster.work("n1")
    while cluster.flying:
        cluster.deliver()
    follower.tick()
    assert follower.role is Role.FOLLOWER
    assert follower.leader_id == "n1"


def test_a_follower_holds_no_more_than_its_leader_may_propose() -> None:
    """Pitfall 30: what is not committed is bounded everywhere by the leader's bound."""
    cluster = Cluster(3, uncommitted_bytes_max=500, tail_bytes_max=1)
    leader = cluster.elect("n1")
    cluster.loses = lambda message: isinstance(message, AppendReply)
    while cluster.propose("n1", size=50):
        cluster.work("n1")
    while cluster.flying:
        cluster.deliver()
    cluster.work("n2")
    assert leader.commit_index == 1
    assert sum(len(entry.payload) for entry in cluster.core("n2").log.tail) <= 500


def test_an_entry_of_the_term_commits_what_earlier_leaders_left() -> None:
    """Pitfall 8; Raft paper, section 8: that is what the no-op is for."""
    cluster = Cluster(3)
    cluster.elect("n1")
    cluster.tick()
    cluster.loses = lambda message: message.to_id == N1
    left = cluster.propose("n1")
    assert left is not None
    cluster.settle()
    assert cluster.core("n1").commit_index == 1
    cluster.loses = lambda _: False
    cluster.crash("n1")
    leader = cluster.elect("n2")
    assert leader.commit_index == leader.term_start == 3
    assert left in cluster.servers[N2].applied
    assert leader.log.last_stamp_ms == StampMs(0)
    assert leader.last_index == Index(3)


def docstrings() -> str:
    """Of all tests of consensus, and what the scripts say about themselves."""
    here = Path(__file__).parent
    paths = [*sorted(here.glob("test_*.py")), *sorted(here.glob("golden/*.txt"))]
    return "".join(path.read_text() for path in paths if path != Path(__file__)) + "".join(
        test.__doc__ or "" for name, test in globals().items() if name.startswith("test_")
    )


def test_every_pitfall_of_the_core_has_a_test() -> None:
    """By its number, in a docstring in this directory."""
    named: set[int] = set()
    for numbers in re.findall(r"[Pp]itfalls? ((?:\d+(?:, | and )?)+)", docstrings()):
        named.update(map(int, re.findall(r"\d+", numbers)))
    assert named >= OF_THE_CORE


def test_every_section_that_the_core_implements_is_cited_by_a_test() -> None:
    """Each statement has a test, which says where it stands."""
    text = docstrings().lower()
    for kind, numbers in CITED.items():
        runs = re.findall(kind + r"s? ((?:\d+(?:\.\d+)*(?:, | and )?)+)", text)
        cited = {number for run in runs for number in re.findall(r"\d+(?:\.\d+)*", run)}
        assert numbers - cited == set(), f"no test cites this {kind}"
