"""One node: the consensus core, the lock table, and the clients that wait for answers.

Pure: events come in, work comes out. The runtime (`server/`) or the simulator calls, in one turn of
its loop:

    node.submit(client, operations)     for the commands that change the table (PROPOSE)
    node.ask(client, query)             for each command that looks at it (READ)
    node.step(message)                  for each message from a peer
    node.tick(now_ms)                   when time has passed

    node.gather(now_ms, unix_ms)        once: stamps, and proposes what was submitted as one entry
    while node.has_ready():
        ready = node.ready()            what must be durable before what may be sent
        ... send, write and sync, send ...
        node.advance(ready)             applies what is committed
    for client, results in node.take_answers(): ...

Everything is paid per turn rather than per command where it can be: one entry, one encoding, one
synced write, one pass over the outcomes.

Invariants:
- answers to one client leave in the order in which it asked, as long as it does not mix reads with
  operations that are still outstanding (the connection sees to that);
- a stamp is never below the last entry's, and only a leader's monotonic clock advances it;
- a client is told that an operation failed only if it was certainly never proposed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import msgspec

from resplock import limits
from resplock.errors import CommandError
from resplock.operations import (
    Answer,
    Busy,
    CheckVersion,
    GetBackoff,
    GetLock,
    InDoubt,
    NoLeader,
    Operation,
    Outcome,
    Query,
    Settle,
    SetUnixOffset,
    Unapplied,
    decode_run,
    encode_run,
)
from resplock.raft.core import RaftCore
from resplock.raft.entries import Configuration, Entry, EntryKind, SnapshotMeta
from resplock.raft.messages import Message
from resplock.raft.ready import ReadState, Ready
from resplock.state import queries
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import LockName, StampMs

Result: TypeAlias = Outcome | Unapplied | Answer | CommandError


class Client(Protocol):
    """Whoever waits for answers: a connection, or a stand-in for one. The node never calls it."""

    def deliver(self, results: Sequence[Result]) -> None:
        """Take the answers to the oldest outstanding commands."""

    def abort(self) -> None:
        """It cannot be answered: end it."""


class NodeSettings(msgspec.Struct, frozen=True):
    """What the node itself is set to. None of it changes what `apply` does."""

    snapshot_entries: int = limits.SNAPSHOT_ENTRIES_DEFAULT
    election_timeout_ms: int = limits.ELECTION_TIMEOUT_MS_DEFAULT

    @property
    def tick_ms(self) -> int:
        """A Raft tick: a heartbeat's interval."""
        return max(self.election_timeout_ms // limits.HEARTBEATS_PER_ELECTION_TIMEOUT, 1)


class ReplicatedClock:
    """The leader's clock: the log's last stamp plus the time since this node came to lead.

    Time without a leader is added to nobody's deadline: it belongs to the holders.
    """

    __slots__ = ("_base_ms", "_since_ms", "term")

    def __init__(self) -> None:
        self._base_ms = 0
        self._since_ms = 0
        self.term = 0
        """The term for which the clock was started; 0 when this node does not lead."""

    def start(self, term: int, stamp_ms: int, now_ms: int) -> None:
        """Begin to advance from `stamp_ms`, as the leader of `term`."""
        self.term, self._base_ms, self._since_ms = term, stamp_ms, now_ms

    def stop(self) -> None:
        """This node leads no longer."""
        self.term = 0

    def read(self, now_ms: int) -> StampMs:
        """The replicated clock at `now_ms` of this process's monotonic clock."""
        return StampMs(self._base_ms + now_ms - self._since_ms)


class Run:
    """Commands that become one entry, and who waits for their outcomes.

    `clients` has (client, number of commands) in the order of `operations`: what concerns a client's
    whole pipeline is done once, not per command. A client of None is this node itself.
    """

    __slots__ = ("clients", "first", "operations", "term")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.clients: list[tuple[Client | None, int]] = []
        self.term = 0
        self.first = 0

    def add(self, client: Client | None, operations: Sequence[Operation]) -> None:
        """Append the operations of one client."""
        self.operations += operations
        self.clients.append((client, len(operations)))

    def answers(
        self, results: Sequence[Result]
    ) -> Iterator[tuple[Client | None, Sequence[Result]]]:
        """Each client with its share of `results`, which are as many as the operations."""
        begin = 0
        for client, count in self.clients:
            yield client, results[begin : begin + count]
            begin += count

    def refuse(self, result: Result) -> Iterator[tuple[Client | None, Sequence[Result]]]:
        """Each client with the same answer to all of its operations."""
        return self.answers([result] * len(self.operations))

    def halves(self) -> tuple[Run, Run]:
        """Two runs in its place, cut between two clients."""
        first, second = Run(), Run()
        middle, begin = len(self.clients) // 2, 0
        for position, (client, count) in enumerate(self.clients):
            half = first if position < middle else second
            half.add(client, self.operations[begin : begin + count])
            begin += count
        return first, second


class Node:
    """See the module's docstring for how it is driven."""

    def __init__(
        self,
        core: RaftCore,
        table: LockTable,
        settings: NodeSettings,
        snapshot: SnapshotMeta,
    ) -> None:
        """`table` is as of `snapshot`, which is also where the core's log begins."""
        self.core = core
        self.table = table
        self.settings = settings
        self.snapshot = snapshot
        self.applied_term = snapshot.term
        self.applied_configuration: Configuration = snapshot.configuration
        self._now_ms = 0
        self._clock = ReplicatedClock()
        self._next_tick_ms: int | None = None
        self._leaderless_since_ms: int | None = None
        # submitted and not proposed yet
        self.gathering = Run()
        """What `submit` adds to. The runtime may add to it by itself: see Engine.submit_one."""
        # proposed and not applied yet, in log order
        self._runs: deque[Run] = deque()
        self._clock_entries = 0
        self._offset_under_way = False
        # reads: asked; waiting for their ReadIndex; waiting for an overdue hold to be ended
        self._asked: list[tuple[Client, Query]] = []
        self._reads: dict[int, list[tuple[Client, Query]]] = {}
        self._read_serial = 0
        self._deferred: dict[Client, deque[tuple[Query, StampMs]]] = {}
        self._answers: list[tuple[Client | None, Sequence[Result]]] = []

    # --- events ----------------------------------------------------------------------------------

    def submit(self, client: Client | None, operations: Sequence[Operation]) -> None:
        """Queue one client's operations for the next entry. The outcomes come in `take_answers`.

        They stay together: at most limits.PIPELINE_DEPTH_MAX of them.
        """
        self.gathering.add(client, operations)

    def ask(self, client: Client, query: Query) -> None:
        """Queue a query for this turn's read."""
        self._asked.append((client, query))

    def step(self, message: Message) -> None:
        """Take a message from a peer."""
        self.core.step(message)

    def tick(self, now_ms: int) -> None:
        """Let time pass. Calls may be irregular; a long gap counts as one tick, not as many.

        A node whose loop stalled must look at what arrived meanwhile before it may conclude that
        its leader is silent.
        """
        if self._next_tick_ms is None:
            self._next_tick_ms = now_ms + self.settings.tick_ms
        if now_ms >= self._next_tick_ms:
            self.core.tick()
            self._next_tick_ms = max(
                self._next_tick_ms + self.settings.tick_ms, now_ms + self.settings.tick_ms // 2
            )
        self._give_up_without_leader(now_ms)

    # --- the turn --------------------------------------------------------------------------------

    def gather(self, now_ms: int, unix_ms: int) -> None:
        """Propose what was submitted, start the reads, and carry the clock on where it is due."""
        self._now_ms = now_ms
        self._watch_leadership(now_ms)
        if not self.core.is_leader:
            self._bound_what_waits()
            return
        stamp_ms = self.core.clock_ms = self._clock.read(now_ms)
        self._watch_unix_offset(stamp_ms, unix_ms)
        self._start_reads()
        if self.gathering.clients:
            run, self.gathering = self.gathering, Run()
            self._propose(run, stamp_ms)
        elif not self._clock_entries and self._clock_is_due(stamp_ms):
            if self.core.propose_clock(stamp_ms) is not None:
                self._clock_entries += 1

    def has_ready(self) -> bool:
        """Whether `ready` has anything to hand out."""
        return self.core.has_ready()

    def ready(self) -> Ready:
        """What to do next, in the order that `Ready` prescribes."""
        return self.core.ready()

    def advance(self, ready: Ready) -> None:
        """Everything in `ready` was made durable and sent: apply what it committed."""
        for entry in ready.committed:
            self._apply(entry)
        self.core.advance()
        for read in ready.reads:
            self._finish_reads(read)
        for context in reversed(ready.reads_lost):
            self._asked[:0] = self._reads.pop(context, ())

    def take_answers(self) -> list[tuple[Client | None, Sequence[Result]]]:
        """The answers since the last call, in order. A client of None is nobody: skip it."""
        answers, self._answers = self._answers, []
        return answers

    @property
    def busy(self) -> bool:
        """Whether commands or reads wait for the next turn."""
        return bool(self.gathering.clients or self._asked)

    # --- snapshots -------------------------------------------------------------------------------

    @property
    def snapshot_due(self) -> bool:
        """Whether enough was applied since the last snapshot to take another."""
        applied = self.core.applied_index - self.snapshot.index
        return applied >= self.settings.snapshot_entries

    def begin_snapshot(self) -> tuple[SnapshotMeta, TableSnapshot]:
        """Freeze the table as it is applied now. Call `snapshot_taken` once it is durable."""
        meta = SnapshotMeta(
            self.core.applied_index,
            self.applied_term,
            self.table.clock_ms,
            self.applied_configuration,
        )
        return meta, TableSnapshot(self.table)

    def snapshot_taken(self, meta: SnapshotMeta) -> None:
        """The snapshot is durable: the log up to it is no longer needed."""
        self.snapshot = meta
        self.core.compacted(meta)

    # --- leadership and time ---------------------------------------------------------------------

    @property
    def clock_ms(self) -> StampMs:
        """The replicated clock as far as this node knows it."""
        return self._clock.read(self._now_ms) if self._clock.term else self.table.clock_ms

    def _watch_leadership(self, now_ms: int) -> None:
        """Start the clock on coming to lead; answer what is in doubt on ceasing to."""
        core = self.core
        leading = core.term if core.is_leader else 0
        if leading == self._clock.term:
            return
        if self._clock.term:
            self._lose_leadership()
        if leading:
            self._clock.start(leading, core.clock_ms, now_ms)

    def _lose_leadership(self) -> None:
        """What was proposed may or may not be committed by the next leader: its fate is unknown."""
        self._clock.stop()
        self._clock_entries = 0
        self._offset_under_way = False
        for run in self._runs:
            self._answers.extend(run.refuse(InDoubt()))
        self._runs.clear()
        again = [
            (client, query) for client, waiting in self._deferred.items() for query, _ in waiting
        ]
        for asked in self._reads.values():
            again += asked
        self._asked[:0] = again
        self._deferred.clear()
        self._reads.clear()

    def _give_up_without_leader(self, now_ms: int) -> None:
        """Hold commands for up to two election timeouts; then say that there is no leader."""
        if self.core.leader_id is not None:
            self._leaderless_since_ms = None
            return
        if self._leaderless_since_ms is None:
            self._leaderless_since_ms = now_ms
        if now_ms - self._leaderless_since_ms < 2 * self.settings.election_timeout_ms:
            return
        self._answers.extend(self.gathering.refuse(NoLeader()))
        self._answers.extend((client, [NoLeader()]) for client, _ in self._asked)
        self.gathering, self._asked = Run(), []

    def _watch_unix_offset(self, stamp_ms: int, unix_ms: int) -> None:
        """Renew the logged offset to unix time when it is off, once at a time."""
        offset_ms = unix_ms - stamp_ms
        if abs(offset_ms - self.table.unix_offset_ms) <= limits.UNIX_OFFSET_DRIFT_MS:
            return
        if not self._offset_under_way:
            self._offset_under_way = True
            self.submit(None, [SetUnixOffset(offset_ms)])

    def _clock_is_due(self, stamp_ms: int) -> bool:
        """Whether an end is due that no command carries the clock to, or the stamp grows old."""
        if self.table.end_due(stamp_ms):
            return True
        age_ms = stamp_ms - self.table.clock_ms
        return age_ms >= limits.STAMP_LOGGED_EVERY_MS and self.table.has_deadlines

    # --- proposing and applying ------------------------------------------------------------------

    def _bound_what_waits(self) -> None:
        """Without a leader, refuse what is gathered once it is too much."""
        if len(self.gathering.operations) > limits.PROPOSALS_QUEUED_MAX:
            refused, self.gathering = self.gathering, Run()
            self._answers.extend(refused.refuse(Busy("too many commands wait to be proposed")))

    def _propose(self, run: Run, stamp_ms: StampMs) -> None:
        payload = encode_run(run.operations)
        if len(run.clients) > 1 and (
            len(run.operations) > limits.RUN_COMMANDS_MAX or len(payload) > limits.RUN_BYTES_MAX
        ):
            for half in run.halves():
                self._propose(half, stamp_ms)
            return
        entry = self.core.propose(payload, len(run.operations), stamp_ms)
        if entry is None:
            self._answers.extend(run.refuse(Busy("too much waits to be committed")))
            self._end_of(run)
            return
        run.term, run.first = entry.term, entry.first
        self._runs.append(run)

    def _apply(self, entry: Entry) -> None:
        """Apply one committed entry and answer whoever this node proposed it for."""
        self.applied_term = entry.term
        match entry.kind:
            case EntryKind.RUN:
                self._apply_run(entry)
            case EntryKind.CONFIG:
                self.applied_configuration = msgspec.msgpack.decode(
                    entry.payload, type=Configuration
                )
                self.table.apply(entry.first, entry.stamp_ms, ())
            case EntryKind.CLOCK:
                self._clock_entries = 0
                self.table.apply(entry.first, entry.stamp_ms, ())
            case EntryKind.NOOP:
                self.table.apply(entry.first, entry.stamp_ms, ())
        if self._deferred:
            self._finish_deferred()

    def _apply_run(self, entry: Entry) -> None:
        runs = self._runs
        if not runs or runs[0].first != entry.first:
            self.table.apply(entry.first, entry.stamp_ms, decode_run(entry.payload))
            return
        run = runs.popleft()
        assert run.term == entry.term, "a run survived the loss of its leadership"
        outcomes = self.table.apply(entry.first, entry.stamp_ms, run.operations)
        self._answers.extend(run.answers(outcomes))
        self._end_of(run)

    def _end_of(self, run: Run) -> None:
        """A run was applied or refused: an offset in it is no longer under way."""
        if self._offset_under_way:
            if any(isinstance(operation, SetUnixOffset) for operation in run.operations):
                self._offset_under_way = False

    # --- reads -----------------------------------------------------------------------------------

    def _start_reads(self) -> None:
        """One ReadIndex round for everything that was asked since the last turn (thesis, 6.4)."""
        if not self._asked or not self.core.read_index(self._read_serial + 1):
            return
        self._read_serial += 1
        self._reads[self._read_serial], self._asked = self._asked, []

    def _finish_reads(self, read: ReadState) -> None:
        """Answer what was asked, except reads of holds that are over by the clock but not in the log.

        Such a read is answered after an entry has ended the hold, so that what a client saw end has
        ended for everybody; the client's later reads wait behind it.
        """
        assert self.core.applied_index >= read.index, "a read before its index was applied"
        stamp_ms = self.clock_ms
        for client, query in self._reads.pop(read.context, ()):
            overdue = self._overdue(query, stamp_ms)
            if overdue is not None:
                self.submit(None, [Settle(overdue)])
            if overdue is not None or client in self._deferred:
                self._deferred.setdefault(client, deque()).append((query, stamp_ms))
            else:
                self._answer(client, query)

    def _overdue(self, query: Query, stamp_ms: StampMs) -> tuple[LockName, ...] | None:
        """The locks to settle before the query may be answered; None when nothing is overdue.

        For a query about many locks an entry alone does it: it ends what is due, up to its cap.
        """
        if isinstance(query, GetLock | CheckVersion | GetBackoff):
            return (query.name,) if self.table.overdue(query.name, stamp_ms) else None
        return () if self.table.end_due(stamp_ms) else None

    def _finish_deferred(self) -> None:
        """Answer the reads that waited for overdue holds to be ended, as far as they have been."""
        for client in list(self._deferred):
            waiting = self._deferred[client]
            while waiting and self._overdue(*waiting[0]) is None:
                self._answer(client, waiting.popleft()[0])
            if not waiting:
                del self._deferred[client]

    def _answer(self, client: Client, query: Query) -> None:
        try:
            result: Result = queries.answer(self.table, query, self.clock_ms)
        except CommandError as refused:
            result = refused
        self._answers.append((client, [result]))
