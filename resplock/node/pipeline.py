"""Runs that were proposed or forwarded, in order, until it is known what came of them.

Pure. A run is resolved by what is applied, by the leader's answer, or, when neither can come in time,
as in doubt.

Invariants:
- results leave in the order in which the runs were added;
- all runs in it belong to one view, a leader and its term; until they are resolved nothing is
  proposed or forwarded in another view, so that a client's commands cannot pass each other;
- a run of refused tries has no entry. A ReadIndex round proves that they were rightly refused, and so
  does the application of any entry that was proposed behind them (see `resplock.node.refusals`);
- a run is given back only if it certainly never takes effect: its entry was overwritten, or its
  leader says that it was not proposed;
- then nothing behind it takes effect either, in that view: what would have to follow it in the log
  cannot be there, and a leader that leads no longer takes nothing more. So all of it is given back,
  and a client's commands are proposed again in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

import msgspec

from resplock.node.runs import Answers, Client, Result, Run
from resplock.node.waits import Waits
from resplock.operations import Busy, InDoubt, NoLeader
from resplock.raft.entries import Entry
from resplock.types import Index, NodeId, Term


class Counts(msgspec.Struct):
    """What came of the commands that were ever added to a pipeline, the node's own included."""

    added: int = 0
    successful: int = 0
    """Decided, whatever was decided."""
    in_doubt: int = 0
    refused: int = 0
    """A bound was reached."""
    unserved: int = 0
    """There was no leader in time."""
    given_back: int = 0
    """To be added once more."""

    def count(self, results: Sequence[Result]) -> None:
        """These are the results of one run."""
        match results[0]:
            case InDoubt():
                self.in_doubt += len(results)
            case Busy():
                self.refused += len(results)
            case NoLeader():
                self.unserved += len(results)
            case _:
                self.successful += len(results)


class Pipeline:
    """The unresolved runs of one node."""

    __slots__ = ("_answers", "_runs", "_waits", "commands", "counts", "given_back")

    def __init__(self, answers: Answers, waits: Waits) -> None:
        """`answers` is where the results go, but for those of operations that wait in line."""
        self._runs: deque[Run] = deque()
        self._answers = answers
        self._waits = waits
        self.counts = Counts()
        self.commands = 0
        """How many commands are in it."""
        self.given_back: list[Run] = []
        """Runs that may be proposed again, in order."""

    def __bool__(self) -> bool:
        return bool(self._runs)

    @property
    def view(self) -> tuple[NodeId | None, Term]:
        """The leader and term of all the runs in it. Not to be asked for when there are none."""
        return self._runs[0].leader_id, self._runs[0].term

    @property
    def serial(self) -> int:
        """What the oldest run waits for the leader to answer; 0 when it waits for no other node."""
        return self._runs[0].serial if self._runs else 0

    @property
    def changing(self) -> set[Client | None]:
        """Whose commands in it may change something: what they ask next must not be decided first."""
        return {client for run in self._runs if not run.context for client, _ in run.clients}

    # --- in --------------------------------------------------------------------------------------

    def proposed(self, run: Run, leader_id: NodeId, entry: Entry) -> None:
        """This node appended the run as `entry`."""
        run.leader_id, run.term, run.first = leader_id, Term(entry.term), Index(entry.first)
        self._add(run)

    def forwarded(self, run: Run, leader_id: NodeId, term: Term, serial: int) -> None:
        """The run is sent to the leader of `term`, which will answer to `serial`."""
        run.leader_id, run.term, run.serial = leader_id, term, serial
        self._add(run)

    def unlogged(self, run: Run, leader_id: NodeId, term: Term, context: int) -> None:
        """All of the run is refused by this node, provided that the ReadIndex round proves it."""
        run.leader_id, run.term, run.context = leader_id, term, context
        self._add(run)

    def refused(self, run: Run, result: Result) -> None:
        """Nothing is done with the run: answer `result` once the earlier ones are answered.

        Those before it that wait to be given back are refused with it.
        """
        for earlier in self._runs:
            if earlier.returned:
                earlier.returned = False
                earlier.results = earlier.all(result)
        run.results = run.all(result)
        if self._runs:
            run.leader_id, run.term = self.view
        self._add(run)
        self._settle()

    def _add(self, run: Run) -> None:
        self._runs.append(run)
        self.commands += len(run.operations)
        self.counts.added += len(run.operations)

    # --- out -------------------------------------------------------------------------------------

    def take(self, entry: Entry) -> Run | None:
        """The run that became `entry`, which is being applied; None when it is not this node's.

        When another entry has taken its place it will never be applied: it is given back. Not to
        be called when there are no runs.
        """
        run = self._runs[0]
        if run.context:
            run = next((each for each in self._runs if each.first), run)
        if not 0 < run.first <= entry.last:
            return None
        if run.first == entry.first and run.term == entry.term:
            if run is not self._runs[0]:
                self._prove(takewhile(lambda each: each is not run, self._runs))
            return run
        self._return_from(0)
        return None

    def applied(self, run: Run, results: Sequence[Result]) -> None:
        """The run that `take` gave has these results."""
        self._pop()
        self._answer(run, results, is_applied=True)
        self.counts.successful += len(results)
        if self._runs:
            self._settle()

    def proved(self, context: int) -> None:
        """This ReadIndex round has shown that the node led when it refused."""
        self._prove(run for run in self._runs if run.context == context != 0)

    def unproved(self) -> None:
        """Rounds are lost with the leadership: what has nothing proposed behind it is given back.

        The rest is proved by what is behind it, or given back with that.
        """
        count = 0
        for run in reversed(self._runs):
            if run.first or run.serial:
                break
            count += 1
        if count:
            self._return_from(len(self._runs) - count)

    def answered(self, serial: int, results: Sequence[Result]) -> None:
        """The leader has answered a forwarded run. It answers in order: earlier answers were lost."""
        run = self._find(serial)
        if run is not None:
            for earlier in takewhile(lambda each: each is not run, self._runs):
                if earlier.results is None:
                    earlier.results = earlier.all(InDoubt())
            fits = len(results) == len(run.operations)
            run.results = results if fits else run.all(InDoubt())
            self._settle()

    def not_proposed(self, serial: int) -> Run | None:
        """The leader says that nothing will come of a forwarded run; None when it says so too late."""
        run = self._find(serial)
        if run is not None:
            self._return_from(self._runs.index(run))
        return run

    def doubt(self) -> None:
        """It will not be known in time what came of the runs: say so for those that are unresolved."""
        for run in self._runs:
            if run.results is None and not run.returned:
                run.results = run.all(InDoubt())
        self._settle()

    def doubt_through(self, index: Index) -> None:
        """What was applied up to `index` came with a snapshot, so it cannot be seen what it was."""
        for run in self._runs:
            if 0 < run.first <= index and run.results is None:
                run.results = run.all(InDoubt())
        self._settle()

    def _prove(self, runs: Iterable[Run]) -> None:
        for run in runs:
            if run.results is None and not run.returned:
                run.results = run.completed(())
        self._settle()

    def _find(self, serial: int) -> Run | None:
        """The forwarded run of that serial, while nothing is known of it."""
        for run in self._runs:
            if run.serial == serial != 0 and run.results is None and not run.returned:
                return run
        return None

    def _return_from(self, position: int) -> None:
        """Nothing from here on takes effect. What was refused behind it need not be, any more."""
        for run in islice(self._runs, position, None):
            run.returned = True
            run.results = None
        self._settle()

    def _settle(self) -> None:
        """Let go of the runs that are resolved, up to the first that is not."""
        while self._runs:
            run = self._runs[0]
            if run.returned:
                self._give_back(run)
            elif run.results is not None:
                self._answer(run, run.results, is_applied=False)
                self.counts.count(run.results)
            else:
                return
            self._pop()

    def _answer(self, run: Run, results: Sequence[Result], *, is_applied: bool) -> None:
        if run.may_block:
            self._answers.extend(self._waits.answers(run, results, is_applied=is_applied))
        else:
            self._answers.extend(run.answers(results))

    def _give_back(self, run: Run) -> None:
        self.given_back.append(run)
        self.counts.given_back += len(run.operations)

    def _pop(self) -> None:
        self.commands -= len(self._runs.popleft().operations)
