"""One server's state (Raft paper, figure 2), and the steps that several topics share.

Pure. `RaftCore` is the way in; elections, following, replication, proposals and snapshots are
functions over a `Replica`. What changes the role, the term or the configuration is here, so that it
is in one place:

- the term never falls; the vote changes at most once in a term;
- role transitions are those of `roles.LEGAL_STEPS`;
- the configuration in effect is always the log's newest, and `is_voter` and `progress` follow it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from resplock.raft.config import RaftConfig
from resplock.raft.entries import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    SnapshotMeta,
    configuration_of,
)
from resplock.raft.lease import Lease
from resplock.raft.log import RaftLog
from resplock.raft.membership import read_membership
from resplock.raft.messages import Message
from resplock.raft.progress import Progress, Window
from resplock.raft.reads import ReadQueue
from resplock.raft.ready import Ready
from resplock.raft.roles import Role, may_become
from resplock.raft.storage import LogReader
from resplock.types import Index, NodeId, StampMs, Term

NOBODY = ""
"""`vote` when this server has not voted in its term."""


class Replica:
    """The state that the topics work on. Others read it through `RaftCore`, and write only the clock."""

    __slots__ = (
        "appends_due",
        "clock_ms",
        "config",
        "early_votes",
        "election_elapsed",
        "election_timeout",
        "fed_at_once",
        "feeds_few",
        "heard_at",
        "heard_clock_ms",
        "heard_clock_term",
        "heartbeat_due",
        "heartbeat_elapsed",
        "id",
        "installed",
        "is_voter",
        "leader_id",
        "lease",
        "links_down",
        "log",
        "membership",
        "now",
        "outstanding",
        "persisting",
        "progress",
        "reads",
        "rest_due",
        "rng",
        "role",
        "saved",
        "snapshots_wanted",
        "stand_in_ms",
        "stands_soon",
        "tally",
        "term",
        "term_start",
        "to_send_after_persist",
        "to_send_now",
        "told_of_removal",
        "transfer_began",
        "transferee",
        "uncommitted_bytes",
        "verified_index",
        "vote",
        "voting_mark",
        "voting_peers",
    )

    def __init__(
        self,
        config: RaftConfig,
        log: LogReader,
        rng: random.Random,
        applied: Index,
        configuration: Configuration | None,
        voting_mark: tuple[Term, Index],
    ) -> None:
        self.config = config
        self.id = config.id
        self.rng = rng

        # Durable (figure 2): the term, the vote, the log. `saved` is what is written, or being so.
        self.saved: HardState = log.hard_state
        self.term = Term(self.saved.term)
        self.vote: str = self.saved.vote
        self.log = RaftLog(log, applied, config.tail_bytes_max)
        if self.log.last_term > self.term:
            # A crash between a snapshot of a later term and the hard state that goes with it.
            self.term, self.vote = self.log.last_term, NOBODY
        self.membership = read_membership(log, configuration)
        self.voting_mark = voting_mark
        """This server once had a log that ended with this term and index, and may have lost some."""

        self.role = Role.LEARNER
        self.leader_id: NodeId | None = None
        self.is_voter = False
        self.told_of_removal = False
        """Others have said that it was removed, though its own log does not."""

        # Time. `now` counts ticks; the replicated clock is the node's business, see RaftCore.
        self.now = 0
        self.election_elapsed = 0
        self.election_timeout = 0
        self.heartbeat_elapsed = 0
        self.heard_at = 0
        """The tick at which any leader was last heard; a lease counts a start as that too."""
        self.clock_ms = StampMs(0)
        self.heard_clock_ms = StampMs(0)
        self.heard_clock_term = Term(0)

        # What links tell (see `links`).
        self.links_down: set[NodeId] = set()
        """Peers without a link. Never iterated."""
        self.stands_soon = False
        """Whether `stand_now` is awaited."""
        self.stand_in_ms: int | None = None
        self.early_votes = 0

        # Of a candidate: the answers so far, its own included.
        self.tally: dict[NodeId, bool] = {}
        # Of a follower: where its log is known to agree with its present leader's.
        self.verified_index = Index(0)
        # Of a leader.
        self.progress: dict[NodeId, Progress] = {}
        self.voting_peers: list[Progress] = []
        self.term_start = Index(0)
        """The index of its no-op: exactly the entries from here on are of its term."""
        self.uncommitted_bytes = 0
        """Proposed in its term and not yet given out to apply."""
        self.reads = ReadQueue()
        self.lease = Lease(config.lease_ms) if config.lease else None
        self.transferee: NodeId | None = None
        """Who is to lead in its place."""
        self.transfer_began = 0
        self.heartbeat_due = False
        self.appends_due = False
        self.rest_due = False
        """Whether the appends that are due are for everybody, whoever is fed at once."""
        self.feeds_few = False
        """Feed just enough followers at once, the others with the next tick; see RaftCore."""
        self.fed_at_once: frozenset[NodeId] = frozenset()

        # For the next Ready.
        self.to_send_now: list[Message] = []
        self.to_send_after_persist: list[Message] = []
        self.snapshots_wanted: list[NodeId] = []
        self.installed: SnapshotMeta | None = None
        # The Ready that was given out and not taken back, and its entries while they still count.
        self.outstanding: Ready | None = None
        self.persisting: tuple[Entry, ...] = ()

        self.restart_election_timer()
        self.configuration_changed()

    # --- talking ---------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send it once everything that was decided until now is durable."""
        self.to_send_after_persist.append(message)

    def send_now(self, message: Message) -> None:
        """Send it without waiting for the disk: only a leader may, once its term is durable."""
        self.to_send_now.append(message)

    # --- majorities ------------------------------------------------------------------------------

    def majority_has(self, own: int, of_peers: Iterable[int]) -> int:
        """The largest value that a majority of the voters has reached.

        own: this server's value, which counts if it is a voter; of_peers: `voting_peers`' values.
        """
        values = [*of_peers, own] if self.is_voter else [*of_peers]
        values.sort()
        return values[-self.membership.quorum]

    # --- roles and terms -------------------------------------------------------------------------

    def set_role(self, role: Role) -> None:
        """Take a step of the drawing in `roles`."""
        assert may_become(self.role, role), f"from {self.role} to {role}"
        self.role = role

    @property
    def passive_role(self) -> Role:
        """What this server is while it neither leads nor stands."""
        if self.told_of_removal:
            return Role.LEARNER
        needed = self.is_voter or self.membership.may_need(
            self.id, self.config.uuid, self.log.commit_index
        )
        return Role.FOLLOWER if needed else Role.LEARNER

    def become_follower(self, term: Term, leader_id: NodeId | None) -> None:
        """Follow `leader_id` in `term`; None when the leader of that term is not known.

        The election timer starts anew only for a leader, or for who stood or led until now: a mere
        later term is no reason to wait longer (thesis 3.4).
        """
        assert term >= self.term, "the term never falls"
        assert leader_id != self.id
        if self.role is Role.LEADER:
            self._stop_leading()
        if term > self.term:
            self.term = term
            self.vote = NOBODY
            # Nor say any more what was decided in an earlier term: before the next batch is durable,
            # this term's leader may have taken entries back that an answer acknowledges.
            self.to_send_after_persist.clear()
        if leader_id is not None or self.role is not self.passive_role:
            self.restart_election_timer()
        if leader_id is not None:
            self.call_off_standing()
        self.leader_id = leader_id
        self.verified_index = Index(0)
        self.tally.clear()
        self.set_role(self.passive_role)

    def _stop_leading(self) -> None:
        """Forget what only a leader knows. Its own clock is the last that it has heard."""
        assert self.heard_clock_term <= self.term
        self.heard_clock_term, self.heard_clock_ms = self.term, self.clock_ms
        self.reads.lose()
        self.progress = {}
        self.voting_peers = []
        self.snapshots_wanted.clear()
        self.heartbeat_due = self.appends_due = self.rest_due = False
        self.fed_at_once = frozenset()
        self.transferee = None
        if self.lease is not None:
            self.lease.end()

    def restart_election_timer(self) -> None:
        """Wait for a newly drawn time: that is what keeps elections from splitting (thesis 3.4)."""
        ticks = self.config.election_ticks
        self.election_elapsed = 0
        self.election_timeout = self.rng.randrange(ticks, 2 * ticks)

    def call_off_standing(self) -> None:
        """There is a leader after all, or will be: no early pre-vote."""
        self.stands_soon = False
        self.stand_in_ms = None
        self.early_votes = 0

    # --- the log and the configuration in it -----------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Put `entry` at the log's end; a configuration is in effect from here on (thesis 4.1)."""
        self.log.append(entry)
        if entry.kind is EntryKind.CONFIG:
            self.membership.put(Index(entry.first), configuration_of(entry))
            self.configuration_changed()

    def truncate(self, first: Index) -> None:
        """Drop the log from `first` on, and go back to the configuration before."""
        self.log.truncate(first)
        self.membership.truncate(first)
        self.configuration_changed()

    def configuration_changed(self) -> None:
        """Let the role and the peers follow the configuration in effect.

        A leader that is not in it leads on until it is committed (thesis 4.2.2).
        """
        self.told_of_removal = False
        self.is_voter = self.membership.has_voter(self.id, self.config.uuid)
        if self.role is Role.LEADER:
            self.meet_peers()
        else:
            self.settle_role()

    def commit_to(self, end: Index) -> None:
        """Everything up to `end` is committed, and with it perhaps this server's removal."""
        self.log.commit_to(end)
        if not self.is_voter and self.role is not Role.LEADER:
            self.settle_role()

    def learn_of_removal(self) -> None:
        """Stand no more: that this server is removed is committed, only it has not got that far."""
        self.told_of_removal = True
        self.become_follower(self.term, None)

    @property
    def is_removed(self) -> bool:
        """Whether this server is no member any more, for ever, as far as it knows."""
        committed = self.membership.committed(self.log.commit_index)
        return self.told_of_removal or f"{self.id}/{self.config.uuid}" in committed.removed

    def settle_role(self) -> None:
        """Be a learner, or be one no more, as the configurations say."""
        if (self.role is Role.LEARNER) != (self.passive_role is Role.LEARNER):
            self.set_role(self.passive_role)

    def meet_peers(self) -> None:
        """Keep a Progress for every other member, old ones as they are."""
        configuration = self.membership.configuration
        members = sorted(configuration.voters + configuration.learners, key=lambda each: each.id)
        self.progress = {
            member.id: self._progress_of(member) for member in members if member.id != self.id
        }
        self.voting_peers = [self.progress[id] for id in self.membership.voter_ids if id != self.id]

    def _progress_of(self, member: Member) -> Progress:
        """What is known of it, and nothing when it replaces another server of its id."""
        known = self.progress.get(member.id)
        if known is not None and known.uuid == member.uuid:
            return known
        window = Window(self.config.inflight_bytes_max, self.config.inflight_messages_max)
        next_index = Index(self.log.last_index + 1)
        return Progress(member.id, next_index, self.now, window, member.uuid)
