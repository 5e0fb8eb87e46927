"""One node: the consensus core, the lock table, and the clients that wait for answers.

See the package for how it is driven.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec

from resplock import limits
from resplock.node.administration import Request, Transfer
from resplock.node.clock import ReplicatedClock
from resplock.node.departures import Absences, Departures
from resplock.node.links import Awaited, Link, Remote, RemoteReads, RemoteRun
from resplock.node.membership import MembershipKeeper, Requested
from resplock.node.messages import (
    Administer,
    Ask,
    Forward,
    NodeMessage,
    NotProposed,
    Results,
    unpack,
)
from resplock.node.pipeline import Counts, Pipeline
from resplock.node.reads import Asked, Reads, answer
from resplock.node.refusals import heads_of, refused
from resplock.node.runs import Answers, Client, Result, Run
from resplock.node.waits import Waits
from resplock.operations import (
    Acquire,
    AcquireAll,
    AddRefusals,
    Busy,
    ClientId,
    Done,
    Event,
    Granted,
    InDoubt,
    Moved,
    NoLeader,
    Operation,
    Query,
    Settle,
    SetUnixOffset,
    Undelivered,
    decode_run,
    encode_run,
)
from resplock.raft.core import RaftCore
from resplock.raft.entries import (
    Configuration,
    Entry,
    EntryKind,
    Member,
    SnapshotMeta,
    configuration_of,
)
from resplock.raft.messages import AppendReply, HeartbeatReply, Message
from resplock.raft.ready import Ready
from resplock.state.granting import names_of
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.state.trying import Trial
from resplock.types import LockName, NodeId, StampMs, Term, hash_slot

_ACKNOWLEDGEMENTS = (AppendReply, HeartbeatReply)
_NO_NAME = LockName(b"\0")


class NodeSettings(msgspec.Struct, frozen=True):
    """What the node itself is set to. None of it changes what `apply` does."""

    snapshot_entries: int = limits.SNAPSHOT_ENTRIES_DEFAULT
    election_timeout_ms: int = limits.ELECTION_TIMEOUT_MS_DEFAULT
    redirects: bool = False
    """Answer -MOVED with the leader's address instead of forwarding to it."""

    @property
    def tick_ms(self) -> int:
        """A Raft tick: a heartbeat's interval."""
        return max(self.election_timeout_ms // limits.HEARTBEATS_PER_ELECTION_TIMEOUT, 1)


class Node:
    """See the package's docstring for how it is driven."""

    def __init__(
        self,
        core: RaftCore,
        table: LockTable,
        settings: NodeSettings,
        snapshot: SnapshotMeta,
        incarnation: int,
    ) -> None:
        """`table` is as of `snapshot`, which is also where the core's log begins.

        incarnation: tells this life of the process from every other one; not 0.
        """
        self.core = core
        self.table = table
        self._trial = Trial(table)
        self.settings = settings
        self.snapshot = snapshot
        self.incarnation = incarnation
        self.applied_term = snapshot.term
        self.applied_configuration: Configuration = core.membership.steps[0][1]
        self._now_ms = 0
        self._clock = ReplicatedClock()
        self._next_tick_ms: int | None = None
        self._unserved_since_ms: int | None = None
        self._stale_since_ms: int | None = None
        self._answers: Answers = []
        # What waits, and what is under way.
        self.gathering = Run()
        """What `submit` adds to. The runtime may add to it by itself: see Engine.submit_one."""
        self._departures = Departures()
        patience_ms = 2 * settings.election_timeout_ms
        self._waits = Waits(core, incarnation, table, patience_ms, self._departures, self._answers)
        self._pipeline = Pipeline(self._answers, self._waits)
        self._reads = Reads()
        self._keeper = MembershipKeeper(core, self._answers)
        self._clock_entries = 0
        self._offset_under_way = False
        self._refusals = 0
        self._refusals_told_ms = 0
        self._refusals_seen = 0
        self._contended_ms = 0
        self._events: list[Event] = []
        # Other nodes.
        self._absences = Absences(core.id, incarnation)
        self._links: dict[NodeId, Link] = {}
        self._incarnations: dict[NodeId, int] = {}
        self._uuids: dict[NodeId, str] = {}
        self._outbox: list[tuple[NodeId, NodeMessage]] = []
        self._asking: dict[int, list[Asked]] = {}
        self._requesting: dict[int, Requested] = {}
        self._requests: list[Requested] = []
        self._serial = 0
        self._forwarded = Awaited()
        self._asked = Awaited()
        self._asking_view: tuple[NodeId | None, Term] = (None, core.term)
        self._rejected_by: tuple[NodeId | None, Term] | None = None
        self._installing: list[tuple[SnapshotMeta, LockTable]] = []

    # --- events ----------------------------------------------------------------------------------

    def submit(self, client: Client | None, operations: Sequence[Operation]) -> None:
        """Queue one client's operations for the next entry. The outcomes come in `take_answers`.

        They stay together: at most limits.PIPELINE_DEPTH_MAX of them.
        """
        self.gathering.add(client, operations)

    def submit_waiting(self, client: Client, operation: Operation) -> None:
        """Queue an operation that may have to wait in line.

        Its options name the client (`client_id`), which submits nothing more until it is answered.
        """
        self.gathering.add(client, [operation])
        self.gathering.may_block = True

    def client_id(self, serial: int) -> ClientId:
        """The name in the log of one of this node's clients: each `serial` is given once."""
        return ClientId(self.core.id, self.incarnation, serial)

    def disconnect(self, id: ClientId) -> None:
        """A client has gone: what it waits for and what it holds ONCLOSE ends.

        To be said once of each that was named in an operation's options.
        """
        self._departures.left(id)
        self._waits.left(id)
        self._tell_of_departures()

    def give_back(self, wanted: Acquire | AcquireAll, granted: Granted) -> None:
        """What `take_answers` gave to a client that had waited could not be delivered to it."""
        self._departures.undelivered(
            Undelivered(names_of(wanted), wanted.owner, granted.version, wanted.request)
        )

    def ask(self, client: Client, query: Query) -> None:
        """Queue a query for this turn's read."""
        self._reads.asked.append((client, query))

    def peek(self, query: Query) -> Result:
        """Answer a query from this node's own state, which may be behind (READONLY)."""
        return answer(self.table, query, self.clock_ms)

    def administer(self, client: Client, request: Request) -> None:
        """Have an operator's request carried out. The answer comes in `take_answers`."""
        self._requests.append(Requested(client, request))

    def step(self, message: Message) -> None:
        """Take a Raft message from a peer.

        What a server acknowledges counts only if it is the one that the configuration names: one
        whose data directory was wiped has the id, and none of what its predecessor acknowledged.
        """
        if type(message) in _ACKNOWLEDGEMENTS and self._is_stranger(message.from_id):
            return
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
            self._keeper.is_due = True
            self._next_tick_ms = max(
                self._next_tick_ms + self.settings.tick_ms, now_ms + self.settings.tick_ms // 2
            )
        self._resolve_stale(now_ms)
        self._resolve_unanswered(now_ms)
        self._give_up_unserved(now_ms)
        self._departures.look(now_ms)
        self._waits.look(now_ms, self._pipeline.serial)
        core = self.core
        self.table.prepare(core.clock_ms if core.is_leader else core.heard_clock_ms)
        if self.core.is_leader and self._absences.is_due(now_ms):
            self._look_for_absent(now_ms)

    # --- other nodes -----------------------------------------------------------------------------

    def link_up(self, peer: NodeId, incarnation: int) -> None:
        """A link to a peer works. `incarnation` tells its process from an earlier one."""
        self.link_down(peer)
        self._links[peer] = Link(peer, incarnation, self._outbox)
        former = self._incarnations.get(peer, incarnation)
        self._incarnations[peer] = incarnation
        if former != incarnation:
            self._absences.followed(peer, former)
        self.core.report_link_up(peer, former == incarnation)

    def link_down(self, peer: NodeId) -> None:
        """The link broke. The fate of what was sent on it and not answered is unknown."""
        link = self._links.pop(peer, None)
        if link is None:
            return
        link.is_up = False
        self.core.report_link_down(peer)
        if self._pipeline and self._pipeline.view[0] == peer:
            self._pipeline.doubt()
        if self._asking_view[0] == peer:
            self._ask_again()

    def member_seen(self, member: Member) -> None:
        """A server has shown itself in a handshake: the next `link_up` with its id is its."""
        self._uuids[member.id] = member.uuid
        self._keeper.seen(member)

    def _is_stranger(self, id: NodeId) -> bool:
        """Whether the server of this id is another than the one that this leader replicates to."""
        progress = self.core.progress.get(id)
        uuid = self._uuids.get(id)
        return bool(uuid and progress and progress.uuid and progress.uuid != uuid)

    def receive(self, peer: NodeId, message: NodeMessage) -> None:
        """Take a message from another node, over the link that is up."""
        link = self._links.get(peer)
        if link is None:
            return
        match message:
            case Results(serial, packed):
                self._take_results(serial, unpack(packed))
            case NotProposed(serial):
                self._take_refusal(serial)
            case Forward() | Ask() | Administer():
                self._serve(link, message)

    def take_messages(self) -> list[tuple[NodeId, NodeMessage]]:
        """What to send to other nodes, in order, after the answers were delivered."""
        messages, self._outbox[:] = self._outbox[:], []
        return messages

    # --- the turn --------------------------------------------------------------------------------

    def gather(self, now_ms: int, unix_ms: int) -> None:
        """Propose or forward what was submitted, start the reads, carry the clock on where due."""
        self._now_ms = self._waits.now_ms = now_ms
        self._watch_leadership(now_ms)
        self._take_back()
        self._tell_of_departures()
        if self.core.is_leader:
            self._gather_as_leader(now_ms, unix_ms)
        else:
            self._gather_as_follower()

    def _gather_as_leader(self, now_ms: int, unix_ms: int) -> None:
        core = self.core
        stamp_ms = core.clock_ms = self._clock.read(now_ms)
        self._watch_unix_offset(stamp_ms, unix_ms)
        if self._refusals:
            self._tell_of_refusals(stamp_ms)
        if self._reads.asked:
            self._reads.start(core)
        if self._requests:
            for requested in self._requests:
                requested.request = self._addressed(requested.request)
                self._keeper.ask(requested)
            self._requests.clear()
        if self._keeper.is_due:
            self._keeper.work(now_ms)
        if self.gathering.clients:
            if self._may_propose() and not self._lets_gather:
                run, self.gathering = self.gathering, Run()
                self._propose(run, stamp_ms)
            else:
                self._bound_what_waits()
        elif not self._clock_entries and self._clock_is_due(stamp_ms):
            if core.propose_clock(stamp_ms) is not None:
                self._clock_entries += 1

    def _gather_as_follower(self) -> None:
        view = self.core.leader_id, self.core.term
        if view != self._asking_view:
            self._ask_again()
            self._asking_view = view
        leader = self._leader_link()
        if leader is None or view == self._rejected_by:
            self._bound_what_waits()
        else:
            self._forward_requests(leader)
            if self.settings.redirects:
                self._redirect(leader)
            else:
                self._forward(leader)
            self._bound_what_waits()

    def has_ready(self) -> bool:
        """Whether `ready` has anything to hand out."""
        return self.core.has_ready()

    def ready(self) -> Ready:
        """What to do next, in the order that `Ready` prescribes."""
        return self.core.ready()

    def advance(self, ready: Ready) -> None:
        """Everything in `ready` was made durable and sent: apply what it committed."""
        if ready.installed is not None:
            self._install(ready.installed)
        for entry in ready.committed:
            self._apply(entry)
        self.core.advance()
        for read in ready.reads:
            assert self.core.applied_index >= read.index, "a read before its index was applied"
            self._pipeline.proved(read.context)
            names = self._reads.finish(read, self.table, self.clock_ms, self._answers)
            if names is not None:
                self.submit(None, [Settle(tuple(names))])
        if ready.reads_lost:
            self._reads.lose(ready.reads_lost)

    def take_answers(self) -> Answers:
        """The answers since the last call, in order. A client of None is nobody: skip it."""
        answers = self._answers[:]
        self._answers.clear()
        return answers

    @property
    def keeps_events(self) -> bool:
        """Whether `take_events` has any. It may be set at any time."""
        return self.table.keeps_events

    @keeps_events.setter
    def keeps_events(self, keeps: bool) -> None:
        self.table.keeps_events = keeps

    def take_events(self) -> list[Event]:
        """What happened to locks since the last call, in the order of the log, as applied here.

        What an installed snapshot holds is missing.
        """
        events, self._events = self._events, []
        return events

    @property
    def proposals(self) -> Counts:
        """What came of the commands that were proposed or forwarded so far."""
        return self._pipeline.counts

    @property
    def unresolved(self) -> int:
        """Commands that were proposed or forwarded, and are not answered yet."""
        return self._pipeline.commands

    @property
    def busy(self) -> bool:
        """Whether another turn has work to do at once."""
        if self._pipeline.given_back or self._departures.is_due:
            return True
        if self.gathering.clients and self._may_propose() and self._can_serve:
            return not (self.core.is_leader and self._lets_gather)
        return bool(self._reads.asked) and not self.core.is_leader and self._can_serve

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
        if meta.index > self.snapshot.index:
            self.snapshot = meta
            self.core.compacted(meta)

    def snapshot_received(self, meta: SnapshotMeta, table: LockTable) -> bool:
        """Adopt a snapshot from the leader that was verified and made durable, with its table.

        The next Ready has it as `installed`. False when this node needs it no more.
        """
        if not self.core.restore(meta):
            return False
        self._installing.append((meta, table))
        return True

    def _install(self, meta: SnapshotMeta) -> None:
        """The log now begins behind `meta`: so does the table."""
        while self._installing[0][0] != meta:
            del self._installing[0]
        keeps_events = self.table.keeps_events
        self.snapshot, self.table = self._installing.pop(0)
        self.table.keeps_events = keeps_events
        self._trial = Trial(self.table)
        self._waits.installed(self.table)
        self.applied_term, self.applied_configuration = meta.term, meta.configuration
        if self._pipeline:
            self._pipeline.doubt_through(self.core.applied_index)

    # --- leadership and time ---------------------------------------------------------------------

    @property
    def clock_ms(self) -> StampMs:
        """The replicated clock as far as this node knows it."""
        return self._clock.read(self._now_ms) if self._clock.term else self.table.clock_ms

    def _watch_leadership(self, now_ms: int) -> None:
        """Start the clock on coming to lead; let others go on what was asked on ceasing to."""
        core = self.core
        leading = core.term if core.is_leader else 0
        if leading == self._clock.term:
            return
        if self._clock.term:
            self._lose_leadership()
        if leading:
            self._ask_again()
            self.table.begin_to_lead()
            self._clock.start(leading, core.clock_ms, now_ms)

    def _lose_leadership(self) -> None:
        """What was not proposed may be elsewhere. What was may still be committed: see Pipeline."""
        self._clock.stop()
        self._absences.forget()
        self._clock_entries = 0
        self._offset_under_way = False
        self.gathering = _own([self.gathering])
        self._reads.lose_all()
        self._pipeline.unproved()
        self._reads.asked = [
            (client, query)
            for client, query in self._reads.asked
            if not isinstance(client, RemoteReads)
        ]
        for link in self._links.values():
            link.give_back_reads()
        requests, self._requests = self._keeper.take_requests() + self._requests, []
        for requested in requests:
            if isinstance(requested.client, Remote):
                requested.client.give_back()
            else:
                self._requests.append(requested)

    def _resolve_stale(self, now_ms: int) -> None:
        """Bound how long what was proposed or forwarded in an earlier view holds up the rest.

        A former leader's own proposals are resolved by what the next leader commits. A former
        leader answers what was forwarded to it at once, if it still can.
        """
        core, pipeline = self.core, self._pipeline
        if not pipeline or pipeline.view == (core.leader_id, core.term):
            self._stale_since_ms = None
            return
        if self._stale_since_ms is None:
            self._stale_since_ms = now_ms
        mine = pipeline.view[0] == core.id
        patience_ms = 2 * self.settings.election_timeout_ms if mine else self.settings.tick_ms
        if now_ms - self._stale_since_ms >= patience_ms:
            pipeline.doubt()

    def _resolve_unanswered(self, now_ms: int) -> None:
        """Bound how long the leader's answer is waited for: it may be lost, though the link is up.

        A link has two connections. What was sent on one of them that breaks is lost; this end may
        notice that, and ask anew, before the other end has noticed and sends its answer there.
        """
        if self._forwarded.is_overdue(self._pipeline.serial, now_ms):
            self._pipeline.doubt()
        questions = [*islice(self._asking, 1), *islice(self._requesting, 1)]
        if self._asked.is_overdue(min(questions, default=0), now_ms):
            self._ask_again()

    @property
    def _can_serve(self) -> bool:
        """Whether this node leads, or can ask the node that does."""
        if self.core.is_leader:
            return True
        rejected = (self.core.leader_id, self.core.term) == self._rejected_by
        return not rejected and self._leader_link() is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether there has been no leader for so long that it may believe that this node is gone."""
        since_ms = self._unserved_since_ms
        return since_ms is not None and self._now_ms - since_ms >= limits.NODE_GONE_MS

    @property
    def departing(self) -> int:
        """How many clients have gone of which the log does not know yet."""
        return len(self._departures)

    def _look_for_absent(self, now_ms: int) -> None:
        linked = {peer: link.incarnation for peer, link in self._links.items()}
        for gone in self._absences.look(self.table.attached_lives(), linked, now_ms):
            self.submit(None, [gone])

    def _give_up_unserved(self, now_ms: int) -> None:
        """Hold commands for up to two election timeouts; then say that there is no leader."""
        if self._can_serve:
            self._unserved_since_ms = None
            return
        if self._unserved_since_ms is None:
            self._unserved_since_ms = now_ms
        if now_ms - self._unserved_since_ms < 2 * self.settings.election_timeout_ms:
            return
        self._refuse_gathered(NoLeader())
        self._answers.extend((client, [NoLeader()]) for client, _ in self._reads.asked)
        self._reads.asked = []
        for requested in self._requests:
            result = InDoubt() if requested.is_tried else NoLeader()
            self._answers.append((requested.client, [result]))
        self._requests = []

    def _watch_unix_offset(self, stamp_ms: int, unix_ms: int) -> None:
        """Renew the logged offset to unix time when it is off, once at a time."""
        offset_ms = unix_ms - stamp_ms
        if abs(offset_ms - self.table.unix_offset_ms) <= limits.UNIX_OFFSET_DRIFT_MS:
            return
        if not self._offset_under_way:
            self._offset_under_way = True
            self.submit(None, [SetUnixOffset(offset_ms)])

    def _tell_of_refusals(self, stamp_ms: StampMs) -> None:
        """Have the totals count what the log does not know. A leader that is lost takes some along."""
        if stamp_ms - self._refusals_told_ms >= limits.REFUSALS_TOLD_EVERY_MS:
            self.submit(None, [AddRefusals(self._refusals)])
            self._refusals, self._refusals_told_ms = 0, stamp_ms

    def _clock_is_due(self, stamp_ms: int) -> bool:
        """Whether an end is due that no command carries the clock to, or the stamp grows old."""
        if self.table.end_due(stamp_ms):
            return True
        age_ms = stamp_ms - self.table.clock_ms
        return age_ms >= limits.STAMP_LOGGED_EVERY_MS and self.table.has_deadlines

    # --- proposing and applying ------------------------------------------------------------------

    def _may_propose(self) -> bool:
        """Whether nothing of an earlier view is unresolved, and the core takes proposals."""
        core, pipeline = self.core, self._pipeline
        if pipeline and pipeline.view != (core.leader_id, core.term):
            return False
        return not (core.is_leader and (core.is_busy or core.is_transferring))

    @property
    def _lets_gather(self) -> bool:
        """Whether a leader waits for more before it proposes, because enough is under way already.

        What an entry costs leader, followers and disks hardly depends on how many commands are in
        it, so while some are under way the next ones gather until they are twice as many, or enough
        (limits.GATHERED_ENOUGH), or until those are done. One client alone never waits. (With three
        nodes on two cores it takes a tenth to a third off what a command costs.)
        """
        enough = min(2 * self._pipeline.commands, limits.GATHERED_ENOUGH)
        return len(self.gathering.operations) < enough

    def _take_back(self) -> None:
        """Propose again, before anything newer, what was certainly not proposed."""
        if not self._pipeline.given_back:
            return
        again = _own(self._pipeline.given_back)
        self._pipeline.given_back.clear()
        for client, operations in self.gathering.shares():
            again.add(client, operations)
        again.may_block = again.may_block or self.gathering.may_block
        self.gathering = again

    def _tell_of_departures(self) -> None:
        """Propose what the log does not know of clients that have gone, behind what they asked."""
        if self._departures.is_due:
            self.submit(self._departures, self._departures.take())

    def _bound_what_waits(self) -> None:
        """While nothing can be proposed, refuse what is gathered once it is too much."""
        if len(self.gathering.operations) > limits.PROPOSALS_QUEUED_MAX:
            self._refuse_gathered(Busy("too many commands wait to be proposed"))

    def _refuse_gathered(self, result: Result) -> None:
        """Refuse what waits to be proposed, and what was given back before it."""
        self._take_back()
        if self.gathering.clients:
            refused, self.gathering = self.gathering, Run()
            self._pipeline.refused(refused, result)
            self._end_of(refused)

    def _propose(self, run: Run, stamp_ms: StampMs) -> None:
        if self._refuses_all(run, stamp_ms):
            return
        payload = encode_run(run.logged)
        if _is_too_large(run, len(payload), limits.RUN_COMMANDS_MAX):
            for half in run.halves():
                self._propose(half, stamp_ms)
            return
        self.core.feeds_few = len(run.clients) <= limits.FEW_CLIENTS
        entry = self.core.propose(payload, len(run.operations) - len(run.refused), stamp_ms)
        if entry is None:
            self._pipeline.refused(run, Busy("too much waits to be committed"))
            self._end_of(run)
            return
        if run.refused:
            self._refusals += self._trial.totals.refusals
        self._pipeline.proposed(run, self.core.id, entry)

    def _refuses_all(self, run: Run, stamp_ms: StampMs) -> bool:
        """Refuse the tries of a run that need no entry; whether nothing is left to be proposed."""
        core = self.core
        if not core.has_applied_all or not self._is_worth_searching(run, stamp_ms):
            return False
        heads = heads_of(run, self._pipeline, self.table)
        if not heads:
            return False
        run.refused = refused(run, heads, self._trial, stamp_ms)
        context = 0
        if len(run.refused) == len(run.operations) and not (context := self._reads.prove(core)):
            run.refused = {}
        if not context:
            return False
        self._refusals += self._trial.totals.refusals
        self._pipeline.unlogged(run, core.id, core.term, context)
        return True

    def _is_worth_searching(self, run: Run, stamp_ms: StampMs) -> bool:
        """Whether tries of a run may find locks held: see limits.SEARCHED_ALWAYS."""
        refusals = self.table.totals.refusals + self._refusals
        if refusals != self._refusals_seen:
            self._refusals_seen, self._contended_ms = refusals, stamp_ms
        if len(run.operations) <= limits.SEARCHED_ALWAYS:
            return True
        return stamp_ms - self._contended_ms < limits.CONTENDED_MS

    def _apply(self, entry: Entry) -> None:
        """Apply one committed entry and answer whoever this node proposed it for."""
        self.applied_term = entry.term
        run = self._pipeline.take(entry) if self._pipeline else None
        if entry.kind is EntryKind.RUN:
            self._apply_run(entry, run)
        else:
            self.table.apply(entry.first, entry.stamp_ms, ())
            if entry.kind is EntryKind.CONFIG:
                self.applied_configuration = configuration_of(entry)
                self._keeper.is_due = True
            elif entry.kind is EntryKind.CLOCK:
                self._clock_entries = 0
        if ends := self.table.take_ended():
            asked = self._serial if self._pipeline.serial else 0
            if self._waits.ended(ends, asked):
                self.core.announce_commit()
        if self.table.keeps_events:
            self._events += self.table.take_events()
        if self._reads.are_deferred:
            self._reads.finish_deferred(self.table, self.clock_ms, self._answers)

    def _apply_run(self, entry: Entry, run: Run | None) -> None:
        if run is None:
            self.table.apply(entry.first, entry.stamp_ms, decode_run(entry.payload))
            return
        outcomes = self.table.apply(entry.first, entry.stamp_ms, run.logged)
        self._pipeline.applied(run, run.completed(outcomes))
        self._end_of(run)

    def _end_of(self, run: Run) -> None:
        """A run was applied or refused: an offset in it is no longer under way."""
        if self._offset_under_way:
            if any(isinstance(operation, SetUnixOffset) for operation in run.operations):
                self._offset_under_way = False

    # --- asking the leader -----------------------------------------------------------------------

    def _leader_link(self) -> Link | None:
        """The link to the leader that this node knows of, if it is up."""
        leader_id = self.core.leader_id
        return None if leader_id is None else self._links.get(leader_id)

    def _forward(self, leader: Link) -> None:
        """Send what waits to the leader, one message of each kind."""
        term = self.core.term
        asked = self._reads.asked
        while asked:
            part, asked = asked[: limits.READS_FORWARDED_MAX], asked[limits.READS_FORWARDED_MAX :]
            serial = self._next_serial()
            self._asking[serial] = part
            leader.send(Ask(term, serial, [query for _, query in part]))
        self._reads.asked = []
        if self.gathering.clients and self._may_propose():
            run, self.gathering = self.gathering, Run()
            self._forward_run(run, leader)

    def _forward_requests(self, leader: Link) -> None:
        """Operators are not sent elsewhere, whatever clients are.

        Who leads is seen from here. The new leader might be busy handing over again, for somebody
        who wants the contrary, and the two requests would move the leadership to and fro for ever.
        """
        for requested in self._requests:
            request = requested.request = self._addressed(requested.request)
            if isinstance(request, Transfer) and request.is_done(leader.peer):
                self._answers.append((requested.client, [Done()]))
                continue
            serial = self._next_serial()
            requested.is_tried = True
            self._requesting[serial] = requested
            leader.send(Administer(self.core.term, serial, request))
        self._requests = []

    def _forward_run(self, run: Run, leader: Link) -> None:
        if self._pipeline.commands + len(run.operations) > limits.PROPOSALS_QUEUED_MAX:
            self._pipeline.refused(run, Busy("too many commands wait for the leader"))
        elif _is_too_large(run, len(encode_run(run.operations)), limits.FORWARDED_COMMANDS_MAX):
            for half in run.halves():
                self._forward_run(half, leader)
        else:
            serial = self._next_serial()
            heads = heads_of(run, self._pipeline, self.table)
            self._pipeline.forwarded(run, leader.peer, self.core.term, serial)
            leader.send(Forward(self.core.term, serial, run.operations, heads))

    def _redirect(self, leader: Link) -> None:
        """Tell clients where the leader is, once they know what came of their earlier commands.

        Only what this node has to say of those who have gone is forwarded.
        """
        address = self._client_address(leader.peer)
        if self._may_propose():
            own = Run()
            for client, operations in self.gathering.shares():
                if client is self._departures:
                    own.add(client, operations)
                    continue
                moved = [Moved(_slot_of(operation), address) for operation in operations]
                self._answers.append((client, moved))
            self.gathering = Run()
            if own.clients:
                self._forward_run(own, leader)
        for client, query in self._reads.asked:
            self._answers.append((client, [Moved(_slot_of(query), address)]))
        self._reads.asked = []

    def _client_address(self, id: NodeId) -> str:
        configuration = self.core.configuration
        for member in configuration.voters + configuration.learners:
            if member.id == id:
                return member.client_address
        return ""

    def _addressed(self, request: Request) -> Request:
        """The request with the leader that it is made of, so that it can be made again."""
        if isinstance(request, Transfer) and request.away_from is None:
            return Transfer(request.id, self.core.leader_id)
        return request

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _ask_again(self) -> None:
        """Nothing will come of the questions under way, or it is unknown: they can be repeated."""
        again = [asked for part in self._asking.values() for asked in part]
        self._reads.asked[:0] = again
        self._asking.clear()
        self._requests[:0] = self._requesting.values()
        self._requesting.clear()

    def _take_results(self, serial: int, results: list[Result]) -> None:
        """The leader's answer. One that does not fit says nothing.

        It answers queries in their order: when the answer to an earlier one is missing, it was lost,
        and all are asked again.
        """
        if serial in self._asking:
            if serial != next(iter(self._asking)):
                self._ask_again()
                return
            asked = self._asking.pop(serial)
            if len(results) != len(asked):
                results = [InDoubt()] * len(asked)
            self._answers.extend(
                (client, [result]) for (client, _), result in zip(asked, results, strict=True)
            )
        elif serial in self._requesting:
            client = self._requesting.pop(serial).client
            self._answers.append((client, results if len(results) == 1 else [InDoubt()]))
        else:
            self._pipeline.answered(serial, results)

    def _take_refusal(self, serial: int) -> None:
        """The node that was asked does not lead in the term that was named: do not ask it again."""
        if serial in self._asking or serial in self._requesting:
            self._rejected_by = self._asking_view
            self._ask_again()
        elif run := self._pipeline.not_proposed(serial):
            self._rejected_by = run.leader_id, run.term

    # --- being asked as the leader ---------------------------------------------------------------

    def _serve(self, link: Link, message: Forward | Ask | Administer) -> None:
        """Take what a peer asks for its clients, if it asks the leader of this term."""
        if not self.core.is_leader or message.term != self.core.term:
            link.send(NotProposed(message.serial))
            return
        match message:
            case Forward(_, serial, operations, heads):
                self.gathering.add(RemoteRun(link, serial, heads), operations)
            case Ask(_, serial, asked):
                link.reads.expect(serial, len(asked))
                self._reads.asked += [(link.reads, query) for query in asked]
            case Administer(_, serial, request):
                self._requests.append(Requested(RemoteRun(link, serial), request))


def _own(runs: Sequence[Run]) -> Run:
    """What this node's own clients have in the runs; other nodes are told to ask elsewhere.

    What the node itself had in them was for a leadership that is over.
    """
    own = Run()
    own.may_block = any(run.may_block for run in runs)
    for run in runs:
        for client, operations in run.shares():
            if isinstance(client, Remote):
                client.give_back()
            elif client is not None:
                own.add(client, operations)
    return own


def _is_too_large(run: Run, payload_bytes: int, commands_max: int) -> bool:
    """Whether the run is to be cut in two, which it can be between clients only."""
    return len(run.clients) > 1 and (
        len(run.operations) > commands_max or payload_bytes > limits.RUN_BYTES_MAX
    )


def _slot_of(command: Operation | Query) -> int:
    """The hash slot that a redirection names; 0 for what concerns no single lock."""
    return hash_slot(getattr(command, "name", _NO_NAME))
