"""Planted bugs: whole nodes with one thing wrong, each to be noticed by the simulator.

    python -m tests.sim.mutants                    the table: which seed catches which bug, and how
    python -m tests.sim.mutants --search [NAME]    look for seeds anew, and record them

A bug is a function that patches the code under test; its docstring says what it breaks. The seeds are
kept in `mutants.json` beside this file. The tests replay each: with the bug it must end in a
violation, without it must be clean. Every change of the code under test changes all runs, so that a
recorded seed may notice its bug no more: the tests then try others, which takes longer. Record anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from resplock.node import node as node_module
from resplock.node.clock import ReplicatedClock
from resplock.node.links import Link
from resplock.node.messages import Forward
from resplock.node.node import Node
from resplock.node.pipeline import Pipeline
from resplock.operations import Acquire, Granted, InDoubt, NoLeader, Release
from resplock.raft import configurations, elections, following, proposals, replication
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Entry, EntryKind, SnapshotMeta
from resplock.raft.lease import Lease
from resplock.raft.membership import Membership
from resplock.raft.messages import Heartbeat
from resplock.raft.progress import Progress
from resplock.raft.reads import ReadQueue
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.state import ends, table
from resplock.state.groups import Groups
from resplock.state.ledger import Ledger
from resplock.state.records import Hold, Lock
from resplock.state.requests import Requests
from resplock.state.table import LockTable
from resplock.state.timers import Timers
from resplock.types import Index, LockName
from tests.raft import test_planted_bugs as in_core
from tests.sim import mutants_in_line, mutants_of_keys, mutants_of_tries  # noqa: F401  (register their own)
from tests.sim.knobs import Knobs
from tests.sim.linearizable import NEVER
from tests.sim.planting import (
    BUSY,
    MUTANTS,
    NEEDS,
    PAUSES,
    Patch,
    knobs_of,
    mutant,
    mutant_in,
    mutant_of,
    planted,
    restored,
)
from tests.sim.simulation import Report, Simulation
from tests.sim.world import MS, S

RECORD = Path(__file__).with_name("mutants.json")
SEEDS_MAX = 2000
SEEDS_TRIED = 40
"""Where the recorded seed notices nothing any more, the tests try these before they fail."""
SEEDS_COMPARED = 8
"""Of so many, the one that notices a bug first is recorded: it costs least to replay."""
SOON_US = 4 * S
"""That is soon enough."""


class Caught(msgspec.Struct):
    """A seed that notices a bug, and when it does, in virtual time."""

    seed: int
    violation: str
    at_us: int = NEVER


def _has(*faults: str) -> Callable[[Knobs], bool]:
    return lambda knobs: knobs.servers > 1 and all(fault in knobs.faults for fault in faults)


# --- elections -----------------------------------------------------------------------------------


@mutant
def the_vote_is_not_persisted(patch: Patch) -> None:
    """Pitfall 2: a restarted server votes a second time in its term."""
    in_core.forget_the_vote(patch)


@mutant_in(servers=5, faults={"partition": 1500 * MS, "kill": 2000 * MS})
def a_server_votes_twice(patch: Patch) -> None:
    """Raft paper 5.2: the vote of this term is not looked at."""
    in_core.vote_twice(patch)


@mutant_in(servers=5, repeat=0.3, faults={"kill": 2000 * MS})
def a_repeated_vote_counts_again(patch: Patch) -> None:
    """The same voter's answer is counted each time that it arrives."""
    answers: dict[tuple[str, int, str], int] = {}
    real_count, real_won = elections._count, elections._is_won

    def _count(replica: Replica, from_id: Any, granted: bool) -> None:
        if granted:
            key = (replica.config.uuid, replica.term, replica.role.name)
            answers[key] = answers.get(key, 1) + 1
        real_count(replica, from_id, granted)

    def _is_won(replica: Replica) -> bool:
        key = (replica.config.uuid, replica.term, replica.role.name)
        return real_won(replica) or answers.get(key, 1) >= replica.membership.quorum

    patch.setattr(elections, "_count", _count)
    patch.setattr(elections, "_is_won", _is_won)


@mutant
def half_of_the_votes_is_enough(patch: Patch) -> None:
    """Raft paper 5.2: half of an even number of voters is no majority."""
    real = Membership._take_effect

    def _take_effect(self: Membership) -> None:
        real(self)
        self.quorum = max(1, len(self.voter_ids) // 2)

    patch.setattr(Membership, "_take_effect", _take_effect)


@mutant_in(servers=3, faults={"partition": 1500 * MS, "kill": 2000 * MS})
def anybody_gets_the_vote(patch: Patch) -> None:
    """Raft paper 5.4.1: the candidate's log is not looked at."""
    patch.setattr(elections, "is_up_to_date", lambda replica, last_term, last_index: True)


@mutant_of(_has("damage"))
def who_has_lost_entries_votes(patch: Patch) -> None:
    """Pitfall 26: a log that ends before its mark is taken for what it once was."""
    real = RaftCore.__init__

    def init(self: RaftCore, *arguments: Any, **options: Any) -> None:
        options.pop("voting_mark", None)
        real(self, *arguments, **options)

    patch.setattr(RaftCore, "__init__", init)


@mutant
def a_new_leader_appends_no_no_op(patch: Patch) -> None:
    """Raft paper 8: what earlier terms left stays uncommitted, and reads wait for ever."""
    patch.setattr(replication, "begin_term", lambda replica: None)


# --- the log -------------------------------------------------------------------------------------


@mutant_of(_has("kill", "partition"))
def entries_of_earlier_terms_are_committed_by_counting(patch: Patch) -> None:
    """Pitfall 1; Raft paper, figure 8."""
    in_core.commit_earlier_terms_by_count(patch)


@mutant_of(lambda knobs: knobs.overlaps and knobs.servers > 2)
def the_leader_counts_itself_before_its_sync(patch: Patch) -> None:
    """Pitfall 2: entries that only the followers have are committed."""
    in_core.count_the_leader_before_its_disk(patch)


@mutant
def answers_leave_before_the_sync(patch: Patch) -> None:
    """Pitfall 2: votes and acknowledgements promise what a crash can take back."""
    in_core.acknowledge_before_the_disk(patch)


@mutant_of(lambda knobs: knobs.reorders and knobs.servers > 1)
def a_short_append_truncates_the_log(patch: Patch) -> None:
    """Pitfall 3: a late, shorter append drops what came after it."""
    patch.setattr(following, "first_missing", lambda replica, entries: 0)


@mutant
def conflicting_entries_are_kept(patch: Patch) -> None:
    """Raft paper 5.3: an entry counts as present by its index alone."""

    def first_missing(replica: Replica, entries: Sequence[Entry]) -> int:
        last = replica.log.last_index
        return sum(entry.last <= last for entry in entries)

    patch.setattr(following, "first_missing", first_missing)


@mutant_in(
    servers=3,
    operations_per_s=60,
    lease=False,
    delay=2 * MS,
    loss=0.1,
    faults={"partition": 1000 * MS, "kill": 2000 * MS},
)
def a_heartbeat_commits_whatever_is_there(patch: Patch) -> None:
    """Pitfall 4: the entry at the leader's commit index is not compared by its term."""
    real = following.on_heartbeat

    def on_heartbeat(replica: Replica, message: Heartbeat) -> None:
        entry = replica.log.entry_at(Index(message.commit_index))
        if entry is not None and entry.last == message.commit_index:
            message = replace(message, commit_term=entry.term)
        real(replica, message)

    patch.setattr(following, "on_heartbeat", on_heartbeat)


@mutant
def a_sent_entry_counts_as_acknowledged(patch: Patch) -> None:
    """The leader takes what is under way to a follower for what it has."""
    real = Progress.sent

    def sent(self: Progress, last: Index, size: int) -> None:
        real(self, last, size)
        if last + 1 <= self.next_index:
            self.match_index = last

    patch.setattr(Progress, "sent", sent)


@mutant_of(_has("damage"))
def a_restarted_follower_keeps_its_match_index(patch: Patch) -> None:
    """A follower that lost the end of its log is believed to have it still, and never gets it."""
    patch.setattr(replication, "peer_restarted", lambda replica, id: None)


# --- reads ---------------------------------------------------------------------------------------


@mutant_in(**BUSY, lease=False, faults=PAUSES)
def reads_need_no_round(patch: Patch) -> None:
    """Pitfall 9: a leader that was deposed answers from its old state."""
    patch.setattr(
        replication, "_confirm_reads", lambda replica: replica.reads.confirm(replica.reads.round)
    )


@mutant_in(**BUSY, lease=False, delay=10 * MS, faults=PAUSES)
def an_old_answer_confirms_a_new_read(patch: Patch) -> None:
    """Pitfall 9: an answer to an older heartbeat proves a newer read."""
    real = ReadQueue.confirm

    def confirm(self: ReadQueue, round: int) -> None:
        real(self, self.round if round else 0)

    patch.setattr(ReadQueue, "confirm", confirm)


@mutant_of(_has("kill"))
def reads_do_not_wait_for_the_no_op(patch: Patch) -> None:
    """Pitfall 8: a new leader does not know what is committed."""

    def read_index(core: RaftCore, context: int) -> bool:
        if core.role is Role.LEADER:
            core.reads.ask(context)
        return core.role is Role.LEADER

    patch.setattr(RaftCore, "read_index", read_index)


@mutant_in(**BUSY, lease=True, drift_permille=0, faults=PAUSES)
def the_lease_outlasts_the_election_timeout(patch: Patch) -> None:
    """Pitfall 10: another leader may be elected while the old one reads without a round."""
    real = Lease.__init__

    def init(self: Lease, lease_ms: int) -> None:
        real(self, 20 * lease_ms)

    patch.setattr(Lease, "__init__", init)


@mutant
def followers_answer_queries_themselves(patch: Patch) -> None:
    """A query is answered from what this node has applied, however old that is."""
    real = Node._forward

    def _forward(self: Node, leader: Link) -> None:
        for client, query in self._reads.asked:
            self._answers.append((client, [self.peek(query)]))
        self._reads.asked = []
        real(self, leader)

    patch.setattr(Node, "_forward", _forward)


# --- membership ----------------------------------------------------------------------------------


@mutant_in(servers=3, jitter=10 * MS, faults={"membership": 2000 * MS, "slow-disk": 500 * MS})
def learners_count(patch: Patch) -> None:
    """Pitfall 16: who only listens helps to commit."""
    real = Replica.meet_peers

    def meet_peers(self: Replica) -> None:
        real(self)
        self.voting_peers = list(self.progress.values())

    patch.setattr(Replica, "meet_peers", meet_peers)


@mutant_of(_has("membership"))
def membership_changes_at_any_time(patch: Patch) -> None:
    """Pitfall 14: several changes in flight, and none of this term committed."""
    patch.setattr(
        proposals,
        "_refusal",
        lambda replica, new: (
            None
            if replica.role is Role.LEADER
            and configurations.refusal_of_change(replica.membership.configuration, new) is None
            else proposals.Refusal.NOT_LEADER
        ),
    )


@mutant_in(servers=3, faults={"membership": 700 * MS, "partition": 1000 * MS})
def a_truncated_configuration_stays(patch: Patch) -> None:
    """Pitfall 15: truncation does not take the configuration back."""

    def truncate(self: Membership, first: Index) -> None:
        kept = self.configuration
        while len(self.steps) > 1 and self.index >= first:
            self.steps.pop()
        self.steps[-1] = (self.index, kept)

    patch.setattr(Membership, "truncate", truncate)


@mutant_of(_has("membership"))
def a_configuration_waits_for_its_commit(patch: Patch) -> None:
    """Pitfall 15: it takes effect when it is applied, not when it is appended."""
    real = Node._apply

    def append(self: Replica, entry: Entry) -> None:
        self.log.append(entry)

    def _apply(self: Node, entry: Entry) -> None:
        core = self.core
        if entry.kind is EntryKind.CONFIG and entry.first > core.membership.index:
            core.membership.put(Index(entry.first), node_module.configuration_of(entry))
            core.configuration_changed()
        real(self, entry)

    patch.setattr(Replica, "append", append)
    patch.setattr(Node, "_apply", _apply)


@mutant_in(servers=3, faults={"wipe": 2000 * MS, "kill": 2000 * MS, "partition": 2000 * MS})
def a_wiped_server_votes(patch: Patch) -> None:
    """Pitfall 19: the uuid of whom the candidate means is not compared."""
    real = elections.may_vote

    def may_vote(replica: Replica, voter_uuid: str = "") -> bool:
        return real(replica, replica.config.uuid if voter_uuid else "")

    patch.setattr(elections, "may_vote", may_vote)


@mutant_of(_has("membership"))
def learners_are_promoted_before_they_have_caught_up(patch: Patch) -> None:
    """Pitfall 16: an empty voter makes a majority that has nothing."""
    patch.setattr(proposals, "_refusal_of_new_voter", lambda replica, configuration: None)
    patch.setattr(elections, "is_up_to_date", _nearly_up_to_date)


def _nearly_up_to_date(replica: Replica, last_term: int, last_index: int) -> bool:
    log = replica.log
    return (last_term, last_index) >= (log.last_term, log.last_index - 1)


# --- snapshots -----------------------------------------------------------------------------------


@mutant_in(servers=3, snapshot_entries=20, faults={"membership": 2000 * MS, "wipe": 4000 * MS})
def a_snapshot_forgets_the_membership(patch: Patch) -> None:
    """Pitfall 17: whoever installs it goes by the membership that it knew before."""

    def restart(self: Membership, index: Index, configuration: Configuration) -> None:
        known = self.configuration
        self.steps.clear()
        self.put(index, known)

    patch.setattr(Membership, "restart", restart)


@mutant
def a_snapshot_forgets_the_last_version(patch: Patch) -> None:
    """I3: versions may be given again."""

    def change(table: LockTable) -> None:
        table.last_version = 0

    restored(patch, change)


@mutant
def a_snapshot_forgets_the_requests(patch: Patch) -> None:
    """I9: a repeated REQUEST has a second effect on this replica."""

    def change(table: LockTable) -> None:
        table.requests = Requests()

    restored(patch, change)


@mutant
def a_snapshot_forgets_a_lock(patch: Patch) -> None:
    """Pitfall 23: one hold is missing on this replica."""

    def change(table: LockTable) -> None:
        for name, lock in [each for each in table.locks if each[1].holds][:1]:
            table.take_holds(name, lock, list(lock.holds))

    restored(patch, change)


@mutant
def a_snapshot_forgets_the_timers(patch: Patch) -> None:
    """Pitfall 23: holds that came with it never end by themselves."""

    def change(table: LockTable) -> None:
        table.timers._buckets.clear()
        table.timers._order.clear()
        table.timers._near.clear()

    restored(patch, change)


@mutant
def a_snapshot_is_dated_too_late(patch: Patch) -> None:
    """Pitfall 22: it claims the last entry of the log, which is not applied yet."""
    real = Node.begin_snapshot

    def begin_snapshot(self: Node) -> Any:
        meta, table = real(self)
        core = self.core
        return replace(meta, index=core.last_index, term=core.last_term), table

    patch.setattr(Node, "begin_snapshot", begin_snapshot)


@mutant_of(_has("wipe"))
def an_installed_snapshot_leaves_the_table(patch: Patch) -> None:
    """Pitfall 20: the log is replaced, and the table is not."""
    real = Node._install

    def _install(self: Node, meta: SnapshotMeta) -> None:
        table = self.table
        real(self, meta)
        self.table = table

    patch.setattr(Node, "_install", _install)


# --- time ----------------------------------------------------------------------------------------


@mutant
def the_clock_goes_back_on_a_change_of_leader(patch: Patch) -> None:
    """A new leader begins where its own clock stood, not at the last stamp."""
    real = ReplicatedClock.start

    def start(self: ReplicatedClock, term: int, stamp_ms: int, now_ms: int) -> None:
        real(self, term, max(stamp_ms - 100, 0), now_ms)

    patch.setattr(ReplicatedClock, "start", start)


@mutant
def time_without_a_leader_is_taken_from_holders(patch: Patch) -> None:
    """The clock jumps ahead on a change of leader: holds end early."""
    real = ReplicatedClock.start

    def start(self: ReplicatedClock, term: int, stamp_ms: int, now_ms: int) -> None:
        real(self, term, stamp_ms + 3000 if term > 1 else stamp_ms, now_ms)

    patch.setattr(ReplicatedClock, "start", start)


@mutant
def unix_time_decides(patch: Patch) -> None:
    """Pitfall 31: the leader stamps with wall-clock time, which jumps."""
    real = Node.gather
    first: dict[int, int] = {}

    def gather(self: Node, now_ms: int, unix_ms: int) -> None:
        started = first.setdefault(id(self), unix_ms - now_ms)
        real(self, max(unix_ms - started, 0), unix_ms)

    patch.setattr(Node, "gather", gather)


@mutant
def each_replica_ends_holds_by_its_own_clock(patch: Patch) -> None:
    """I8, I12: a hold ends when this replica thinks so, not when the log says it."""
    real = ends.end_due
    skews: dict[int, int] = {}

    def end_due(ledger: Ledger, index: int) -> None:
        clock_ms = ledger.clock_ms
        skew = skews.setdefault(id(ledger.locks), len(skews) % 3 * 40)
        ledger.clock_ms = type(clock_ms)(clock_ms + skew)
        real(ledger, index)
        ledger.clock_ms = clock_ms

    patch.setattr(ends, "end_due", end_due)


# --- the node ------------------------------------------------------------------------------------


@mutant
def in_doubt_is_reported_as_failed(patch: Patch) -> None:
    """H5: a client is told that nothing was done, and it was."""
    real = Pipeline.doubt

    def doubt(self: Pipeline) -> None:
        for run in self._runs:
            if run.results is None and not run.returned:
                run.results = run.all(NoLeader())
        real(self)

    patch.setattr(Pipeline, "doubt", doubt)


@mutant
def in_doubt_is_reported_as_granted(patch: Patch) -> None:
    """A client is told that it has a lock, and nobody knows."""
    real = Pipeline.doubt

    def doubt(self: Pipeline) -> None:
        for run in self._runs:
            if run.results is None and not run.returned:
                run.results = [
                    Granted(1_000_000, 0) if isinstance(operation, Acquire) else InDoubt()
                    for operation in run.operations
                ]
        real(self)

    patch.setattr(Pipeline, "doubt", doubt)


@mutant
def what_is_in_doubt_is_proposed_again(patch: Patch) -> None:
    """Pitfall 33: commands whose link broke are forwarded a second time."""

    def doubt(self: Pipeline) -> None:
        for run in self._runs:
            if run.results is None:
                run.returned = True
        self._settle()

    patch.setattr(Pipeline, "doubt", doubt)


@mutant
def a_forwarded_command_is_proposed_twice(patch: Patch) -> None:
    """The leader takes every forwarded run twice, and answers once."""
    real = Node._serve

    def _serve(self: Node, link: Link, message: Any) -> None:
        real(self, link, message)
        if isinstance(message, Forward) and self.core.is_leader:
            self.gathering.add(None, message.operations)

    patch.setattr(Node, "_serve", _serve)


@mutant_in(servers=3, redirects=False, faults={**PAUSES, "partition": 1500 * MS})
def an_overwritten_run_counts_as_applied(patch: Patch) -> None:
    """A proposal is recognised by its index alone: another entry's outcomes answer it."""

    def take(self: Pipeline, entry: Entry) -> Any:
        runs = self._runs
        while runs and 0 < runs[0].first < entry.first:
            self.given_back.append(runs[0])
            self._pop()
        if runs and runs[0].first == entry.first and entry.kind is EntryKind.RUN:
            if len(runs[0].operations) == entry.last - entry.first + 1:
                return runs[0]
        return None

    patch.setattr(Pipeline, "take", take)


@mutant_in(servers=3, faults={"partition": 1500 * MS, **PAUSES})
def proposals_are_given_back_with_the_leadership(patch: Patch) -> None:
    """A deposed leader proposes again what its successor may have committed."""
    real = Node._lose_leadership

    def _lose_leadership(self: Node) -> None:
        for run in self._pipeline._runs:
            if run.first:
                run.returned, run.first = True, Index(0)
        self._pipeline._settle()
        real(self)

    patch.setattr(Node, "_lose_leadership", _lose_leadership)


@mutant
def answers_are_crossed(patch: Patch) -> None:
    """RedisRaft 26: an answer goes to the oldest run that waits, whichever it is of."""

    def _find(self: Pipeline, serial: int) -> Any:
        for run in reversed(self._runs):
            if run.serial and run.results is None and not run.returned:
                return run
        return None

    patch.setattr(Pipeline, "_find", _find)


@mutant_in(
    servers=3, redirects=False, delay=30 * MS, operations_per_s=40, faults={"transfer": 3000 * MS}
)
def a_former_leader_takes_forwarded_commands(patch: Patch) -> None:
    """A forwarded run is proposed in another term than the one that it names, or given back too."""
    real = Node._serve

    def _serve(self: Node, link: Link, message: Any) -> None:
        if isinstance(message, Forward) and message.term != self.core.term:
            self.gathering.add(None, message.operations)
        real(self, link, message)

    patch.setattr(Node, "_serve", _serve)


# --- the lock table ------------------------------------------------------------------------------


@mutant
def versions_begin_again_on_a_free_lock(patch: Patch) -> None:
    """I2: a version is that of the lock's last holder plus one, not above all before it."""
    real = LockTable._grant

    def _grant(self: LockTable, slot: Any, operation: Acquire, index: int) -> Granted:
        self.last_version = index // 2
        return real(self, slot, operation, index // 2)

    patch.setattr(LockTable, "_grant", _grant)


@mutant
def a_renewal_changes_the_version(patch: Patch) -> None:
    """DESIGN 3: renewal keeps the version."""
    real = LockTable._set_ttl

    def _set_ttl(self: LockTable, name: Any, lock: Any, hold: Hold, ttl_ms: int) -> int:
        self.last_version += 1
        newer = replace(hold, version=self.last_version)
        self.put_hold(name, lock, hold, newer)
        return real(self, name, self.locks.writable(name)[name], newer, ttl_ms)

    patch.setattr(LockTable, "_set_ttl", _set_ttl)
    patch.setattr(
        LockTable,
        "_renew_plain",
        lambda self, slot, name, lock, ttl_ms: self._set_ttl(name, lock, lock.holds[0], ttl_ms),
    )


@mutant
def release_does_not_look_at_the_version(patch: Patch) -> None:
    """I7: a stale version releases a newer hold of the same owner."""
    real = LockTable._release
    patch.setattr(
        LockTable, "_release", lambda self, op, index: real(self, replace(op, version=0), index)
    )


@mutant
def anybody_may_release(patch: Patch) -> None:
    """I7: the owner is not looked at."""
    real = LockTable._release

    def _release(self: LockTable, operation: Release, index: int) -> Any:
        lock = self.locks.get(operation.name)
        owner = lock.holds[0].owner if lock and lock.holds else operation.owner
        return real(self, replace(operation, owner=owner), index)

    patch.setattr(LockTable, "_release", _release)


@mutant
def an_expiry_ends_a_newer_hold(patch: Patch) -> None:
    """I8, pitfall 34: the end of an earlier hold of the same lock ends this one."""
    real, real_add = ends.end_due, Timers.add
    watched: dict[int, list[tuple[int, Any]]] = {}

    def add(self: Timers[Any], name: Any, deadline_ms: int) -> None:
        watched.setdefault(id(self), []).append((deadline_ms, name))
        real_add(self, name, deadline_ms)

    def end_due(ledger: Ledger, index: int) -> None:
        earlier = watched.setdefault(id(ledger.timers), [])
        for each in [each for each in earlier if each[0] <= ledger.clock_ms]:
            earlier.remove(each)
            lock = ledger.locks.get(each[1])
            if lock is not None and lock.holds:
                ends.give_up(ledger, each[1], lock, lock.holds[0], b"unclaimed")
        real(ledger, index)

    patch.setattr(Timers, "add", add)
    patch.setattr(ends, "end_due", end_due)


@mutant
def holds_never_end(patch: Patch) -> None:
    """A TTL means nothing."""
    patch.setattr(ends, "end_due", lambda ledger, index: None)
    patch.setattr(ends, "end_overdue", lambda ledger, name, until_ms, index: 0)


@mutant
def asking_again_shortens_the_ttl(patch: Patch) -> None:
    """The holder asks again with a smaller TTL, and its hold ends sooner."""

    def extend(
        self: LockTable, name: LockName, lock: Lock, hold: Hold, operation: Acquire, *, counts: bool
    ) -> Granted:
        self._set_ttl(name, lock, hold, operation.ttl_ms)
        return Granted(hold.version, operation.ttl_ms)

    patch.setattr(table, "extend", extend)


@mutant_in(servers=3, operations_per_s=40, faults={"kill": 1200 * MS})
def requests_are_not_remembered(patch: Patch) -> None:
    """I9: a repeated REQUEST has a second effect."""
    patch.setattr(
        LockTable,
        "_ask_once",
        lambda self, op, index: self._acquire(replace(op, request=b""), index),
    )


@mutant
def a_repeated_grant_hides_that_it_is_over(patch: Patch) -> None:
    """etcd 11456: a repeated REQUEST is told of a grant whose hold has ended."""
    patch.setattr(
        LockTable, "_same_answer", lambda self, earlier, operation, index: earlier.outcome
    )


@mutant
def keep_alive_forgets_all_but_one_lock(patch: Patch) -> None:
    """I11: the index of owners has one lock of each."""

    def add(self: Groups[Any, Any], owner: Any, name: Any) -> None:
        self._members.setdefault(owner, name)

    patch.setattr(Groups, "add", add)
    patch.setattr(Groups, "remove", lambda self, owner, name: self._members.pop(owner, None))


@mutant
def break_does_not_look_at_the_version(patch: Patch) -> None:
    """An operator who means an earlier hold takes away a newer one."""
    real = LockTable._break
    patch.setattr(
        LockTable, "_break", lambda self, op, index: real(self, replace(op, version=0), index)
    )


@mutant
def advice_is_drawn_at_random(patch: Patch) -> None:
    """I12: what is answered is not a function of the log."""
    real = LockTable._refuse
    counts = iter(range(10**9))

    def _refuse(self: LockTable, name: Any, lock: Any) -> Any:
        held = real(self, name, lock)
        return replace(held, advice=replace(held.advice, retry_after_ms=next(counts)))

    patch.setattr(LockTable, "_refuse", _refuse)


# --- looking for them ----------------------------------------------------------------------------


def replay(name: str, seed: int) -> Report:
    """One seed with one bug."""
    with planted(name):
        return Simulation(seed, knobs=knobs_of(name, seed)).run()


def record() -> dict[str, Caught]:
    """The seeds that were found, by bug."""
    if not RECORD.exists():
        return {}
    return msgspec.json.decode(RECORD.read_bytes(), type=dict[str, Caught])


def find(name: str) -> Caught | None:
    """A seed that notices a bug: the recorded one, or, as the code changes, one of the next best."""
    recorded = record()[name].seed
    report = replay(name, recorded)
    if report.violation:
        return Caught(recorded, report.violation, report.virtual_us)
    return search(name, SEEDS_TRIED, soon_us=NEVER)


def search(name: str, seeds_max: int = SEEDS_MAX, soon_us: int = SOON_US) -> Caught | None:
    """A seed that notices a bug: one of the first that does so soon, or else the soonest of them."""
    needs = NEEDS.get(name, lambda knobs: True)
    found: list[Caught] = []
    for seed in range(1, seeds_max + 1):
        if not needs(knobs_of(name, seed)):
            continue
        report = replay(name, seed)
        if report.violation:
            violation = report.violation.splitlines()[0][:200]
            found.append(Caught(seed, violation, report.virtual_us))
        if found and (found[-1].at_us <= soon_us or seed >= SEEDS_COMPARED):
            break
    return min(found, key=lambda caught: caught.at_us, default=None)


def _write(found: dict[str, Caught]) -> None:
    encoded = msgspec.json.format(msgspec.json.encode(dict(sorted(found.items()))), indent=1)
    RECORD.write_bytes(encoded + b"\n")


def _print_table(found: dict[str, Caught]) -> None:
    for name, plant in MUTANTS.items():
        caught = found.get(name)
        seed = f"seed {caught.seed:>3}" if caught else "NOT YET "
        sys.stdout.write(f"{name:<52} {seed}  {(plant.__doc__ or '').splitlines()[0]}\n")
        if caught:
            sys.stdout.write(f"{'':<52}           -> {caught.violation[:110]}\n")
    caught = sum(name in found for name in MUTANTS)
    sys.stdout.write(f"{caught} of {len(MUTANTS)} planted bugs are caught\n")


def main(argv: list[str] | None = None) -> None:
    """Exit status 1 when a bug is not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants")
    parser.add_argument("--search", action="store_true", help="look for seeds anew")
    parser.add_argument("names", nargs="*", help="only these (default: all)")
    options = parser.parse_args(argv)
    found = record()
    if options.search:
        for name in options.names or MUTANTS:
            caught = search(name)
            sys.stdout.write(f"{name}: {caught}\n")
            sys.stdout.flush()
            found.pop(name, None)
            if caught is not None:
                found[name] = caught
            _write({name: found[name] for name in MUTANTS if name in found})
    _print_table(found)
    sys.exit(0 if all(name in found for name in MUTANTS) else 1)


if __name__ == "__main__":
    main()
