"""What must hold at every entry that is applied, on every replica, and of every message that leaves.

Raft's own (paper, figure 3): election safety, leader completeness, log matching, state machine
safety; what is committed is on the disks of a majority; what a message promises is durable when it
leaves. The lock table's (RELIABILITY section 3, I1-I12): what each entry brings is by the rules that
`referee` knows, and what a naive model makes of it that was written from the commands' description;
and it is the same on every replica, as is the state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from resplock.operations import Blocked, Ended, Event, Granted, Operation, Outcome
from resplock.raft.entries import (
    Configuration,
    Entry,
    EntryKind,
    SnapshotMeta,
    configuration_of,
)
from resplock.raft.messages import AppendReply, HeartbeatReply, Message, PreVoteRequest, VoteReply
from resplock.raft.ready import Ready
from resplock.state.table import LockTable
from resplock.types import Index, LockName, NodeId, Term
from tests.sim.asking import options_of, waits
from tests.sim.entry import Entry as Applied
from tests.sim.history import Moment, kind_of, tag_of
from tests.sim.linearizable import NEVER
from tests.sim.referee import Held, Referee, Waiting
from tests.sim.world import MS, S, Violation
from tests.state.model import Model
from tests.state.twin import by_lock, numbers_of, plain

if TYPE_CHECKING:
    from tests.sim.host import Process
    from tests.sim.simulation import Simulation

_STATE_EVERY = 8
"""The states are compared at entries whose index is a multiple of this."""
_TABLE_EVERY = 256
"""A table is checked against itself after so many entries."""
_CONFIGURATION_EVERY = 8
"""The configuration in effect is compared with the log after so many entries."""
_LOGS_EVERY = 64
"""Two logs are compared after so many entries."""
_TOLD = 3 * S
"""When all is well, the log knows after so long that a client has gone."""
_DEAF = 0.3
"""How many processes collect no events, as far as somebody else does: they apply alike all the same."""
_PROMPT = 1_000
"""With a cap of so many timed ends in an entry, none is ever late."""
Results = tuple[Sequence[Outcome], Sequence[Ended], Sequence[Event]]
_encoder = msgspec.msgpack.Encoder()


class Safety:
    """The cluster's history, as somebody who sees everything remembers it."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._rng = simulation.world.rng("safety")
        self.leaders: dict[Term, NodeId] = {}
        self.votes: dict[tuple[int, str], str] = {}
        self.history: list[Entry] = []
        """What was applied anywhere, in order."""
        self._lasts: list[int] = []
        self.high_commit = (0, 0, 0)
        """The highest commit index anywhere, its entry's term, and the term in which it was seen."""
        self._configurations: list[tuple[int, Configuration]] = []
        self._appended: dict[tuple[int, int], int] = {}
        """When the entry of this term that begins at this index was appended by its leader."""
        self._last_stamp = (0, 0)
        # The table: what the first replica to apply an entry made of it.
        knobs = simulation.knobs
        self.model = Model()
        ends_are_prompt = knobs.ends_per_entry >= _PROMPT
        self._connections = simulation.connections
        self.calm_since = 0 if not knobs.faults else NEVER
        """Since when nothing fails any more."""
        self._has_model = knobs.has_model and ends_are_prompt
        """It carries out all ends at their time."""
        self.referee = Referee(simulation.history.keys, ends_are_prompt=ends_are_prompt)
        simulation.history.puts = self.referee.puts
        self._applied_first = 0
        self._results: dict[int, Results] = {}
        self._states: dict[int, bytes] = {}
        self._stamps: dict[int, int] = {}
        self.met: Counter[str] = Counter()
        """How often which operation, outcome, end of a wait and event came: what was tested at all."""
        self._blocked: dict[int, int | None] = {}
        """The calls that wait, by their tickets."""

    # --- the log ---------------------------------------------------------------------------------

    def appended(self, process: Process, last: int) -> None:
        """A leader has just appended what is behind `last`."""
        core = process.core
        while last < core.last_index:
            entry = core.log.entry_at(Index(last + 1))
            assert entry is not None
            self._appended[entry.term, entry.first] = self._world.now
            last = entry.last
            if entry.kind is EntryKind.CONFIG:
                self._check_change(process)

    def _check_change(self, process: Process) -> None:
        """One change at a time, in a term that has committed something; voters have caught up."""
        core = process.core
        steps = core.membership.steps
        if len(steps) < 2:
            raise Violation(f"{core.id} appended a configuration, which is not in effect")
        (before_index, before), (_, after) = steps[-2:]
        if max(before_index, core.term_start) > core.commit_index:
            raise Violation(f"{core.id} changes the membership too early, at {core.commit_index}")
        known = {member.uuid for member in before.voters}
        for member in after.voters:
            has = self._simulation.servers[member.uuid].disk.durable_index
            if member.uuid not in known and has < core.term_start:
                raise Violation(f"{member.id} is made a voter and has the log up to {has} only")

    def advanced(self, process: Process, ready: Ready) -> None:
        """A process has done all of a Ready."""
        if ready.committed:
            self._check_applied(process, ready.committed)
        self.committed(process)

    def committed(self, process: Process) -> None:
        """Look at who leads, and at how far a process takes the log for committed."""
        core = process.core
        if core.is_leader and self.leaders.get(core.term) != core.id:
            self._check_leader(process)
        commit_index = core.commit_index
        if commit_index > self.high_commit[0]:
            term = core.log.term_at(commit_index)
            assert term is not None
            if self.leaders.get(core.term) != core.id or term != core.term:
                raise Violation(
                    f"{core.id}, {core.role.name} of term {core.term}, is the first to commit the "
                    f"entry at {commit_index}, of term {term}"
                )
            self.high_commit = (commit_index, term, core.term)
            self._check_durable(process, commit_index, term)

    def _check_applied(self, process: Process, committed: Sequence[Entry]) -> None:
        """State machine safety: all apply the same, in the same order."""
        history = self.history
        for entry in committed:
            if process.position == len(history):
                if (not history or history[-1].term != entry.term) and (
                    entry.kind is not EntryKind.NOOP
                ):
                    raise Violation(f"term {entry.term} begins with {entry}, not with a no-op")
                if entry.kind is EntryKind.CONFIG:
                    self._configurations.append((entry.first, configuration_of(entry)))
                history.append(entry)
                self._lasts.append(entry.last)
            elif history[process.position] != entry:
                raise Violation(
                    f"{process.id} applied {entry}, where {history[process.position]} was applied"
                )
            process.position += 1
        if process.position % _LOGS_EVERY == 0:
            self.check_logs(process)
        if process.position % _CONFIGURATION_EVERY == 0:
            self._check_configuration(process)

    def _check_configuration(self, process: Process) -> None:
        """The configuration in effect is the newest in the log (thesis 4.1)."""
        core = process.core
        tail_first = core.log.tail_first
        on_disk = (entry for entry in reversed(process.host.disk.kept) if entry.last < tail_first)
        expected: Configuration | None = None
        for entry in chain(reversed(core.log.tail), on_disk):
            if entry.kind is EntryKind.CONFIG:
                expected = configuration_of(entry)
                break
        else:
            for index, configuration in reversed(self._configurations):
                if index < tail_first:
                    expected = configuration
                    break
        if expected is not None and core.configuration != expected:
            raise Violation(f"{core.id} goes by {core.configuration}, its log says {expected}")

    def _check_durable(self, process: Process, index: int, term: int) -> None:
        """What is committed is on the disks of a majority of those who vote."""
        servers = self._simulation.servers
        voters = process.core.configuration.voters
        have = []
        for member in voters:
            host = servers[member.uuid]
            if host.has_lost_entries or host.disk.covers(index, term):
                have.append(member.id)
        if len(have) <= len(voters) // 2:
            raise Violation(
                f"{process.id} committed index {index} of term {term}, which of {len(voters)} voters "
                f"only {' '.join(have)} have on their disks"
            )

    def _check_leader(self, process: Process) -> None:
        """Election safety; leader completeness."""
        core = process.core
        if self.leaders.setdefault(core.term, core.id) != core.id:
            raise Violation(f"{self.leaders[core.term]} and {core.id} lead term {core.term}")
        self._world.note(core.id, f"leads term {core.term}")
        self._check_elected(process)
        index, term, seen_in = self.high_commit
        log = core.log
        if seen_in < core.term and index > log.base.index and not log.has(Index(index), Term(term)):
            raise Violation(
                f"{core.id} leads term {core.term} without the committed entry {index} of {term}"
            )

    def _check_elected(self, process: Process) -> None:
        """A majority of its configuration has voted for a leader, each by the uuid that is meant."""
        core = process.core
        voters = core.configuration.voters
        votes = [
            member.id
            for member in voters
            if member.uuid == process.host.uuid
            or self.votes.get((core.term, member.uuid)) == core.id
        ]
        if len(votes) <= len(voters) // 2:
            raise Violation(
                f"{core.id} leads term {core.term} of {len(voters)} voters by the votes of "
                f"{' '.join(votes)}"
            )

    def check_logs(self, process: Process) -> None:
        """Log matching: where two logs have an entry in common, they are alike before it."""
        others = [each for each in self._simulation.processes() if each is not process]
        if not others:
            return
        other = self._rng.choice(others)
        mine = {entry.last: entry for entry in process.core.log.tail[-50:]}
        theirs = {entry.last: entry for entry in other.core.log.tail[-50:]}
        common = [last for last in mine if last in theirs and mine[last].term == theirs[last].term]
        if not common:
            return
        newest = max(common)
        oldest = max(min(mine), min(theirs))
        for last in mine:
            if oldest <= last <= newest and mine[last] != theirs.get(last):
                raise Violation(f"the logs of {process.id} and {other.id} differ at {last}")

    # --- messages --------------------------------------------------------------------------------

    def sent(self, process: Process, message: Message) -> None:
        """What a message says of its sender is durable when it leaves."""
        disk = process.host.disk
        durable = disk.hard_state
        if message.term > durable.term and not isinstance(message, PreVoteRequest):
            raise Violation(f"{message} left before its term was durable: {durable}")
        match message:
            case VoteReply(granted=True):
                self._check_vote(process, message)
            case AppendReply(accepted=True) | HeartbeatReply():
                if message.match_index > disk.durable_index:
                    raise Violation(f"{message} left, and its disk has {disk.durable_index}")

    def _check_vote(self, process: Process, message: VoteReply) -> None:
        disk = process.host.disk
        if disk.has_lost:
            raise Violation(f"{message} left, and its log has lost entries before {disk.mark}")
        durable = disk.hard_state
        if durable.term == message.term and durable.vote != message.to_id:
            raise Violation(f"{message} left before the vote was durable: {durable}")
        key = (message.term, process.host.uuid)
        if self.votes.setdefault(key, message.to_id) != message.to_id:
            raise Violation(f"{process.id} votes for {self.votes[key]} and in {message}")

    # --- the table -------------------------------------------------------------------------------

    def watch(self, process: Process, table: LockTable, meta: SnapshotMeta) -> None:
        """Look at everything that this table applies from now on; it is as of `meta`."""
        if meta.index and self._states.get(meta.index, b"") not in (b"", self._image(table)):
            raise Violation(f"{process.id}: the snapshot at {meta.index} is not the state there")
        known = self._versions_at(meta.index)
        if table.last_version < known:
            raise Violation(f"{process.id}: the snapshot at {meta.index} forgets version {known}")

        is_deaf = self._world.rng(f"deaf/{process.incarnation}").random() < _DEAF

        def apply(first: int, stamp_ms: int, operations: Sequence[Operation]) -> list[Outcome]:
            table.keeps_events = first > self._applied_first or not is_deaf
            outcomes = LockTable.apply(table, first, stamp_ms, operations)
            ended = LockTable.take_ended(table)
            table.take_ended = lambda: ended  # type: ignore[method-assign]
            events = LockTable.take_events(table)
            if not table.keeps_events:
                events = list(self._results[first][2])
            applied = outcomes, ended, events
            self._applied(
                process, table, Applied(first, stamp_ms, operations, *applied, self._world.now)
            )
            return outcomes

        table.apply = apply  # type: ignore[method-assign]
        table.take_events = list  # type: ignore[method-assign]

    def installed(self, process: Process, meta: SnapshotMeta) -> None:
        """The table of this process is now the one at `meta`."""
        process.position = bisect_right(self._lasts, meta.index)

    def _versions_at(self, index: int) -> int:
        return self._stamps.get(index, 0)

    def _applied(self, process: Process, table: LockTable, entry: Applied) -> None:
        first, results = entry.first, (entry.outcomes, entry.ended, entry.events)
        last = first + max(len(entry.operations), 1) - 1
        if first > self._applied_first:
            self._apply_first(process, table, entry)
            self._stamps[last] = table.last_version
            self._results[first] = results
        elif self._results[first] != results:
            raise Violation(
                f"I10: {process.id} made {results} of entry {first}, others {self._results[first]}"
            )
        if self._stamps[last] != table.last_version:
            raise Violation(f"I10: {process.id} is at version {table.last_version} after {last}")
        if last % _STATE_EVERY == 0:
            image = self._image(table)
            if self._states.setdefault(last, image) != image:
                raise Violation(f"I10: the state of {process.id} at index {last} differs")
        if first % _TABLE_EVERY == 0:
            table.check()

    def _apply_first(self, process: Process, table: LockTable, entry: Applied) -> None:
        """An entry that nobody has applied before: the model and the clients' history follow."""
        first, stamp_ms = entry.first, entry.stamp_ms
        self._applied_first = first
        promoted = self.referee.judge(entry, table)
        if self._has_model:
            self._compare_with_model(entry)
        self._world.trace.update(_encoder.encode((first, stamp_ms, entry.outcomes)))
        self._world.trace.update(_encoder.encode((entry.ended, entry.events)))
        appended = self._append_time(process, first)
        self._check_stamp(stamp_ms, appended)
        self._tell_history(entry, promoted, appended)
        self.check_nothing_leaks()

    def _compare_with_model(self, entry: Applied) -> None:
        """Outcomes, ends of waits and events are those that the description of commands gives."""
        model = self.model
        model.numbers = numbers_of(entry.first, entry.outcomes)
        expected = model.apply(entry.first, entry.stamp_ms, list(entry.operations))
        for got, wanted in (
            ([plain(each) for each in entry.outcomes], expected),
            ([_plain_end(each) for each in entry.ended], model.ended),
            (by_lock(entry.events), by_lock(model.events)),
        ):
            if got != wanted:
                raise Violation(
                    f"entry {entry.first}, {entry.operations}: {got}, and should be {wanted}"
                )

    def _tell_history(
        self, entry: Applied, promoted: Sequence[tuple[Waiting, LockName, Held]], appended: int
    ) -> None:
        """What came of which call, and what happened to holds by itself."""
        history = self._simulation.history
        self.met.update(_names_of(entry))
        now = self._world.now
        for event in entry.events:
            if event.kind == "expired" or (event.kind == "released" and event.reason):
                history.moments.append(
                    Moment(event.kind, event.name, event.owner, event.version, appended, now)
                )
        for place, name, hold in promoted:
            kind, request = kind_of(place.first), place.last.request
            history.moments.append(
                Moment("acquired", name, hold.owner, hold.version, appended, now, kind, request)
            )
            for tag in place.tags:
                history.promoted[tag].append(Granted(hold.version, 0))
        for number, (operation, outcome) in enumerate(
            zip(entry.operations, entry.outcomes, strict=True)
        ):
            tag = tag_of(operation)
            if isinstance(outcome, Blocked):
                self._blocked[entry.first + number] = tag
            elif tag is not None:
                history.outcomes[tag].append(outcome)
                history.applied.setdefault(tag, now)
        for ended in entry.ended:
            tag = self._blocked.pop(ended.ticket)
            if tag is not None:
                history.outcomes[tag].append(ended.outcome)
                history.applied.setdefault(tag, now)

    def _append_time(self, process: Process, first: int) -> int:
        entry = process.core.log.entry_at(Index(first))
        assert entry is not None
        return self._appended.get((entry.term, entry.first), 0)

    def _check_stamp(self, stamp_ms: int, appended: int) -> None:
        """I8: the replicated clock never runs faster than the fastest clock."""
        before_ms, before = self._last_stamp
        if not appended:
            return
        rate_max = self._simulation.rate_max
        if before and stamp_ms - before_ms > (appended - before) * rate_max / MS + 2:
            raise Violation(
                f"I8: the clock went from {before_ms} to {stamp_ms} ms in {appended - before} us"
            )
        self._last_stamp = (stamp_ms, appended)

    def _image(self, table: LockTable) -> bytes:
        """The replicated state, as bytes."""
        locks = [table.locks.get(name) for name in self._simulation.history.keys]
        head = (table.clock_ms, table.unix_offset_ms, table.last_version, table.totals)
        answers = list(table.requests._queue.values())
        places = [*table.queues.places.values(), *table.departing]
        means, scripts = list(table.means.means.items()), table.scripts.sources()
        watched = list(table.watched.items())
        return _encoder.encode((head, locks, places, answers, means, scripts, watched))

    # --- at rest ---------------------------------------------------------------------------------

    def check_equal(self, processes: Sequence[Process]) -> None:
        """All replicas are at one index with one state, and each agrees with itself."""
        images = {process.id: self._image(process.node.table) for process in processes}
        if len(set(images.values())) > 1:
            raise Violation(f"the states differ at rest: {images}")
        for process in processes:
            process.node.table.check()

    def check_nobody_waits(self, table: LockTable) -> None:
        """H6: once nobody asks, every wait comes to its end."""
        places = list(table.queues.places.values())
        if places or self.referee.tickets:
            raise Violation(f"H6: {places} wait for ever, and {self.referee.tickets}")

    def check_nothing_leaks(self) -> None:
        """H9: nothing is held for a client that has gone, once there was time to tell the log."""
        knobs = self._simulation.knobs
        since = self._world.now - int(_TOLD * self._simulation.rate_max)
        if since < self.calm_since:
            return
        for name, holds in self.referee.holds.items():
            for hold in holds.values():
                if hold.client is not None:
                    gone = self._connections[hold.client].gone_at
                    if max(gone, self.calm_since) < since - knobs.node_gone_ms * MS:
                        raise Violation(f"H9: {hold} of {name!r} outlives its client")
                elif self._nobody_knows_of(hold, since - knobs.waiter_grace_ms * MS):
                    raise Violation(f"H9: {hold} of {name!r} was granted to who had gone")

    def _nobody_knows_of(self, hold: Held, since: int) -> bool:
        """Whether it was granted to a client that waited, and had left before it could be told."""
        client = options_of(hold.asked).client
        if hold.is_heard or client is None or not waits(hold.asked):
            return False
        connection = self._connections[client]
        if connection.process.is_dead or tag_of(hold.asked) in connection.told:
            return False
        return connection.has_left and max(connection.gone_at, hold.since, self.calm_since) < since


def _names_of(entry: Applied) -> Iterator[str]:
    """What there was in an entry."""
    for each in (*entry.operations, *entry.outcomes):
        yield type(each).__name__
    for ended in entry.ended:
        reason = getattr(ended.outcome, "reason", "")
        yield f"ended: {reason or type(ended.outcome).__name__}"
    for event in entry.events:
        has_reasons = event.kind == "released" or (event.kind == "deleted" and event.reason)
        yield f"{event.kind} {event.reason.decode()}" if has_reasons else event.kind


def _plain_end(ended: Ended) -> Ended:
    return replace(ended, outcome=plain(ended.outcome))
