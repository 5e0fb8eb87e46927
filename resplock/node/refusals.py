"""Tries that are refused without a log entry.

Pure. A try that finds the lock held changes nothing, and nor does a script that finds nothing to do. So
it is a read: the leader answers what `apply` would, from the state that it has applied, if

- it has applied all that anybody may have been told of (`RaftCore.has_applied_all`);
- no end is overdue on the locks that the try is about, by the replicated clock as of now;
- nothing else of the same client is unresolved that may change something: what the client asked first
  takes effect first. What a follower's clients have outstanding only the follower knows, which
  says it in `Forward.heads`;
- a quorum confirms afterwards that this node led. For a run that is refused as a whole that is a
  ReadIndex round of its own. The refusals of any other run are sent when its entry is applied, which
  proves it as well: in a log that holds an entry of this term, appended after the refusal, nothing of a
  later term's leader that was committed before the refusal can be.

All other tries are proposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resplock.node.links import RemoteRun
from resplock.node.pipeline import Pipeline
from resplock.node.runs import Heads, Run
from resplock.operations import Outcome
from resplock.state.table import LockTable
from resplock.state.trying import TRIES, Trial, looks_refused
from resplock.types import StampMs


def heads_of(run: Run, pipeline: Pipeline, table: LockTable) -> Heads:
    """What of a run may be refused, as far as the clients' order goes and where it looks like it."""
    looked: list[tuple[int, int, int]] = []  # which share, its beginning, its length
    heads: list[tuple[int, int]] = []
    begin = 0
    operations = run.operations
    for share, (client, count) in enumerate(run.clients):
        operation = operations[begin]
        if type(client) is RemoteRun:
            if client.heads:
                heads += _within(client.heads, begin, count)
        elif type(operation) in TRIES and looks_refused(table, operation):
            looked.append((share, begin, count))
        begin += count
    if looked:
        heads += _first(run, pipeline, looked)
    return tuple(heads)


def _within(heads: Heads, begin: int, count: int) -> Heads:
    """A peer's, in its share of the run."""
    return tuple((begin + at, number) for at, number in heads if at + number <= count)


def _first(run: Run, pipeline: Pipeline, looked: Sequence[tuple[int, int, int]]) -> Heads:
    """Those of these shares that are the first of their client which is unresolved."""
    changing = pipeline.changing
    firsts = {client: share for share, (client, _) in reversed(list(enumerate(run.clients)))}
    return tuple(
        (begin, count)
        for share, begin, count in looked
        if firsts[client := run.clients[share][0]] == share and client not in changing
    )


def refused(run: Run, heads: Heads, trial: Trial, stamp_ms: StampMs) -> Mapping[int, Outcome]:
    """What is answered to those operations of a run, by position, that change nothing.

    Of each client these are the ones before the first that may change something.
    """
    trial.begin(stamp_ms)
    outcomes: dict[int, Outcome] = {}
    for begin, count in heads:
        for position in range(begin, begin + count):
            outcome = trial.answer(run.operations[position])
            if outcome is None:
                break
            outcomes[position] = outcome
    return outcomes
