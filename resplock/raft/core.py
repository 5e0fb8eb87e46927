"""The consensus core: messages, ticks and proposals in, `Ready` out.

Pure: no socket, disk, clock or thread, and no randomness but the injected generator. The same
sequence of calls always gives the same results.

    core.tick()                        at a fixed pace
    core.step(message)                 for each message from a peer
    core.propose(payload, 3, stamp)    while leading

    while core.has_ready():
        ready = core.ready()           what to do, in the order that `Ready` prescribes
        ...                            other calls may be made meanwhile
        core.advance()                 all of it was done

This file is the way in; each rule is where its topic is:

    elections    standing, voting, winning            following    a follower's appends, commit
    replication  a leader's appends, acks, commit     reads        ReadIndex rounds
    proposals    what a leader appends                snapshots    adopting and compacting
    leadership   handing it over                      lease        reads without a round
    links        what broken connections tell         log          entries in memory and on disk
    replica      the state, its roles and terms
"""

from __future__ import annotations

import random
from typing import assert_never

from resplock.raft import (
    elections,
    following,
    leadership,
    links,
    proposals,
    replication,
    snapshots,
)
from resplock.raft.config import RaftConfig
from resplock.raft.configurations import Refusal
from resplock.raft.entries import Configuration, Entry, HardState, SnapshotMeta, entry_bytes
from resplock.raft.leadership import TransferRefusal
from resplock.raft.messages import (
    TERM_JUMP_MAX,
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVoteReply,
    PreVoteRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from resplock.raft.ready import Ready
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.raft.status import RaftStatus, status_of
from resplock.raft.storage import LogReader
from resplock.types import Index, NodeId, StampMs, Term

_BEGINNING = Index(0)
_NO_MARK = (Term(0), Index(0))


class RaftCore(Replica):
    """One server of a cluster, also of a cluster of one.

    Besides the properties below there are, to be read: `id`, `term`, `vote`, `role`, `leader_id`,
    `is_voter`, `progress` (by id, while leading) and

    - `clock_ms`: the replicated clock. The core sets it on coming to lead; from then on the node
      advances it, before `tick`, `propose` and `ready`.
    - `feeds_few`: may be set at any time. Each entry costs every server that hears of it a turn and
      a sync, so with little to do a leader is fastest when it feeds only as many followers at once
      as make a majority with it, and the others in larger pieces, with each tick. Who is slow is
      fed at once no longer. With much to do it is better to feed everybody, and to sync its own log
      beside (see `Ready.sync`).
    - `heard_clock_ms`, `heard_clock_term`: the last clock of the leader of the highest term that
      was heard, or led.
    """

    __slots__ = ()

    def __init__(
        self,
        config: RaftConfig,
        log: LogReader,
        rng: random.Random,
        applied: Index = _BEGINNING,
        configuration: Configuration | None = None,
        voting_mark: tuple[Term, Index] = _NO_MARK,
    ) -> None:
        """Start from what is durable.

        applied: the last index that the state machine holds; an entry's end.
        configuration: the bootstrap configuration, in effect until the log has one: give it at
        every start, or keep it as the configuration of `log.snapshot` at index 0.
        voting_mark: the last (term, index) that this server is known to have made durable. If the
        log ends before it, the server neither votes nor stands until a leader has caught it up.
        """
        super().__init__(config, log, rng, applied, configuration, voting_mark)

    # --- what can be seen ------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def is_sole_voter(self) -> bool:
        """Whether nobody else is asked before this server leads and commits."""
        return self.is_voter and len(self.membership.voter_ids) == 1

    @property
    def is_busy(self) -> bool:
        """Whether a leader takes no proposals, because too many bytes are not committed yet."""
        return proposals.is_busy(self)

    @property
    def is_transferring(self) -> bool:
        """Whether a leader takes no proposals, because another server is about to lead.

        What waits to be proposed should wait a little longer: for the new leader, or for this one,
        if nothing comes of it.
        """
        return self.transferee is not None

    @property
    def commit_index(self) -> Index:
        return self.log.commit_index

    @property
    def applied_index(self) -> Index:
        return self.log.applied_index

    @property
    def last_index(self) -> Index:
        return self.log.last_index

    @property
    def last_term(self) -> Term:
        return self.log.last_term

    @property
    def configuration(self) -> Configuration:
        """The one in effect: the log's newest, committed or not."""
        return self.membership.configuration

    @property
    def has_applied_all(self) -> bool:
        """Whether a leader has applied whatever anybody may have been told of, if it still leads.

        That is what it knows to be committed, once it has committed anything in its term.
        """
        log = self.log
        return self.term_start <= log.commit_index == log.applied_index

    def status(self) -> RaftStatus:
        """What RAFT.STATUS shows."""
        return status_of(self)

    # --- time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick pass."""
        self.now += 1
        if self.role is Role.LEADER:
            replication.tick(self)
        else:
            elections.tick(self)

    def campaign(self) -> None:
        """Start an election now, if this server may stand. A sole voter has won when it returns."""
        elections.campaign(self)

    def transfer(self, id: NodeId | None) -> TransferRefusal | None:
        """Hand leadership over to `id`, or to the voter that has most of the log (thesis 3.10).

        None when it began, or when `id` leads already. It is done when `is_leader` is false; it has
        failed when `is_transferring` is false and this server still leads, an election timeout
        later at most.
        """
        return leadership.transfer(self, id)

    def step_down(self) -> None:
        """Stop leading, in the same term: the runtime has lost time, or is about to end."""
        if self.role is Role.LEADER:
            self.become_follower(self.term, None)

    # --- messages --------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Take a message from a peer. Whatever it says, this does not raise."""
        if message.to_id != self.id or message.from_id == self.id:
            return
        if message.term > self.term + TERM_JUMP_MAX:
            return
        if message.term == self.term or isinstance(message, PreVoteRequest):
            self._handle(message)  # a pre-vote is about a term that has not begun
        elif message.term > self.term:
            self._step_later_term(message)
        else:
            self._step_earlier_term(message)

    def _step_later_term(self, message: Message) -> None:
        """Go to the sender's term (Raft paper, 5.1), but not for a candidate who only disturbs."""
        if isinstance(message, VoteRequest):
            if elections.hears_leader(self) and not message.transfer:
                return
        self.become_follower(Term(message.term), None)
        self._handle(message)

    def _step_earlier_term(self, message: Message) -> None:
        """Refuse, with the later term, so that the sender comes to it: it may be stuck without."""
        match message:
            case AppendRequest():
                index = message.prev_index
                self.send(AppendReply(self.term, self.id, message.from_id, False, 0, index))
            case Heartbeat():
                self.send(HeartbeatReply(self.term, self.id, message.from_id, 0, 0))
            case VoteRequest():
                self.send(VoteReply(self.term, self.id, message.from_id, False))
            case PreVoteReply():
                elections.on_pre_vote_reply(self, message)  # from a voter who is behind
            case PreVoteRequest() | VoteReply() | AppendReply() | HeartbeatReply() | TimeoutNow():
                pass
            case _:
                assert_never(message)

    def _handle(self, message: Message) -> None:
        match message:
            case AppendReply():
                replication.on_append_reply(self, message)
            case AppendRequest():
                following.on_append(self, message)
            case HeartbeatReply():
                replication.on_heartbeat_reply(self, message)
            case Heartbeat():
                following.on_heartbeat(self, message)
            case VoteRequest():
                elections.on_vote_request(self, message)
            case VoteReply():
                elections.on_vote_reply(self, message)
            case PreVoteReply():
                elections.on_pre_vote_reply(self, message)
            case PreVoteRequest():
                elections.on_pre_vote_request(self, message)
            case TimeoutNow():
                leadership.on_timeout_now(self, message)
            case _:
                assert_never(message)

    # --- proposals and reads ---------------------------------------------------------------------

    def propose(self, payload: bytes, commands: int, stamp_ms: StampMs) -> Entry | None:
        """Append a run of `commands` commands, one index each.

        stamp_ms: the replicated clock, not before the last entry's. None when this server does not
        lead, is busy (`is_busy`), or is handing over (`is_transferring`): nothing was appended.
        """
        return proposals.propose_run(self, payload, commands, stamp_ms)

    def propose_clock(self, stamp_ms: StampMs) -> Entry | None:
        """Append an entry that only carries the clock. None as for `propose`."""
        return proposals.propose_clock(self, stamp_ms)

    def propose_configuration(self, configuration: Configuration) -> Entry | Refusal:
        """Append a change of membership by one server; `configurations` has the next ones to give.

        It is in effect at once. It is committed when its entry is among `Ready.committed`.
        """
        return proposals.propose_configuration(self, configuration)

    def read_index(self, context: int) -> bool:
        """Ask for a linearizable read; its ReadState comes with a later Ready, or its loss does.

        False when it cannot be had now: this server does not lead, or has committed nothing in its
        term yet (thesis 6.4, step 1), or too many reads wait.
        """
        if self.role is not Role.LEADER or self.log.commit_index < self.term_start:
            return False
        if self.reads.pending >= self.config.reads_pending_max:
            return False
        self.reads.ask(context)
        return True

    def announce_commit(self) -> None:
        """Tell the followers of the commit index with the next Ready, not with the next entries.

        Those that are fed later (`feeds_few`) get what they lack along with it.
        """
        if self.role is Role.LEADER:
            self.heartbeat_due = self.appends_due = self.rest_due = True

    # --- snapshots and links ---------------------------------------------------------------------

    def compacted(self, meta: SnapshotMeta) -> None:
        """A snapshot of the applied state is durable: the log up to `meta.index` may be dropped."""
        snapshots.compacted(self, meta)

    def restore(self, meta: SnapshotMeta) -> bool:
        """Adopt a snapshot that was received, verified and made durable. False when ignored."""
        return snapshots.restore(self, meta)

    def report_snapshot(self, id: NodeId, index: Index, ok: bool) -> None:
        """The snapshot that `Ready.snapshots_wanted` asked for has arrived, or could not be sent."""
        snapshots.report(self, id, index, ok)

    def report_link_up(self, id: NodeId, same_incarnation: bool) -> None:
        """There is a link to a peer. With `same_incarnation` false as for `report_restarted`."""
        links.up(self, id, same_incarnation)

    def report_link_down(self, id: NodeId) -> None:
        """The link to a peer broke: what was under way may be lost; if it led, it may be gone.

        Look at `take_stand_in_ms` afterwards.
        """
        links.down(self, id)

    def report_unreachable(self, id: NodeId) -> None:
        """Messages to a peer were dropped, though its link may work."""
        replication.lost_link(self, id)

    def report_restarted(self, id: NodeId) -> None:
        """A peer has a new incarnation: it may not have all that it had, and it leads no more.

        May be said twice of the same restart, at the cost of a message.
        """
        links.restarted(self, id)

    def take_stand_in_ms(self) -> int | None:
        """In how many milliseconds to call `stand_now`, if that has changed; else None.

        Look here once a turn. A later answer replaces an earlier one. There is no need to cancel:
        `stand_now` does nothing when the reason for it is gone (see `links`).
        """
        stand_in_ms, self.stand_in_ms = self.stand_in_ms, None
        return stand_in_ms

    def stand_now(self) -> None:
        """The time that `take_stand_in_ms` gave has passed."""
        elections.stand_now(self)

    # --- work ------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether `ready` has work to give. Never while some is given out."""
        log = self.log
        return self.outstanding is None and bool(
            log.has_unwritten
            or log.commit_index > log.applied_index
            or self.to_send_after_persist
            or self.appends_due
            or self.heartbeat_due
            or self.to_send_now
            or self.reads.is_asked
            or self.reads.can_answer(log.applied_index)
            or self.term != self.saved.term
            or self.vote != self.saved.vote
            or self.installed is not None
            or self.snapshots_wanted
        )

    def ready(self) -> Ready:
        """Give out what is to be done. `advance` must come before the next call."""
        assert self.outstanding is None, "advance() first"
        if self.role is Role.LEADER:
            replication.flush(self)
        log = self.log
        hard_state = self._unsaved_hard_state()
        self.persisting = log.unwritten()
        committed = log.to_apply(self.config.committed_bytes_max)
        applied = log.applied_index
        if committed:
            self._count_out(committed)
            applied = Index(committed[-1].last)
        send_now, send_after_persist = self._take_messages(hard_state)
        reads, lost = self.reads.take(applied) if self.reads.pending else ((), ())
        self.outstanding = Ready(
            send_now=send_now,
            installed=self.installed,
            hard_state=hard_state,
            entries=self.persisting,
            sync=self._must_sync(hard_state, send_after_persist),
            send_after_persist=send_after_persist,
            committed=committed,
            reads=reads,
            reads_lost=lost,
            snapshots_wanted=tuple(self.snapshots_wanted),
        )
        self.installed = None
        self.snapshots_wanted.clear()
        return self.outstanding

    def advance(self) -> None:
        """Everything in the last Ready was done."""
        ready = self.outstanding
        assert ready is not None, "ready() first"
        self.outstanding = None
        if ready.installed is not None and self.installed is None:
            self.log.reader_was_replaced()
        if self.persisting:
            self.log.written(self.persisting)
            self.persisting = ()
        if ready.sync:
            self.synced()
        if ready.committed:
            self.log.applied(ready.committed)

    @property
    def has_unsynced(self) -> bool:
        """Whether entries were written and are not known to be durable. See `Ready.sync`."""
        return self.log.stable_index < self.log.written_index

    def synced(self) -> None:
        """Everything that the Readys until now had is durable, also where they did not ask for it."""
        if self.log.stable_index == self.log.written_index:
            return
        self.log.synced()
        if self.role is Role.LEADER:
            replication.advance_commit(self)

    def _must_sync(
        self, hard_state: HardState | None, send_after_persist: tuple[Message, ...]
    ) -> bool:
        """Whether the Ready promises anything, or a commit needs this server's own disk.

        A leader is not one of the majority for what it has not synced. Where enough others are
        there, they are the majority, and its own sync keeps nobody waiting.
        """
        if hard_state is not None or send_after_persist:
            return True
        if not self.persisting:
            return False
        return self.role is not Role.LEADER or not replication.others_suffice(self)

    def _unsaved_hard_state(self) -> HardState | None:
        """The term and vote, if they changed since the last Ready."""
        if self.term == self.saved.term and self.vote == self.saved.vote:
            return None
        self.saved = HardState(self.term, self.vote)
        return self.saved

    def _take_messages(
        self, hard_state: HardState | None
    ) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """What to send now, and what after the batch.

        A leader whose term is in the batch waits for it. Only a sole voter, with learners, can be
        one: it could forget that it led this term, and lead it again with other entries.
        """
        now, after = tuple(self.to_send_now), tuple(self.to_send_after_persist)
        self.to_send_now.clear()
        self.to_send_after_persist.clear()
        return (now, after) if hard_state is None else ((), now + after)

    def _count_out(self, committed: tuple[Entry, ...]) -> None:
        """This term's entries among `committed` make room for others."""
        if self.role is Role.LEADER:
            for entry in committed:
                if entry.first >= self.term_start:
                    self.uncommitted_bytes -= entry_bytes(entry)
