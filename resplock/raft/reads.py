"""Linearizable reads without a log entry: ReadIndex rounds (thesis 6.4).

Pure. A leader that is asked for a read notes its commit index, makes sure that it still leads by
hearing from a quorum, and answers once that index is applied.

- A read is asked for, and waits for the next round to begin. One round serves all that wait.
- A round is a number in heartbeats that leave after it began. Only an answer to such a heartbeat
  counts for it, so an answer to an older one, however late, proves nothing for a newer read.
  A lost heartbeat is made up for by the next, which carries the newest round's number.
- A read is answered or lost, once. Nothing carries over: who asks again is in a newer round.
"""

from __future__ import annotations

from collections import deque

from resplock.raft.ready import ReadState
from resplock.types import Index


class ReadQueue:
    """Reads on their way from being asked for to being answered, in order."""

    __slots__ = ("_answerable", "_asked", "_lost", "_rounds", "pending", "round")

    def __init__(self) -> None:
        self.round = 0
        """The newest round. Never goes back, so that no two rounds are taken for one another."""
        self.pending = 0
        """Reads that are neither answered nor lost."""
        self._asked: list[int] = []
        self._rounds: deque[tuple[int, Index, list[int]]] = deque()  # round, read index, contexts
        self._answerable: deque[ReadState] = deque()  # once their index is applied
        self._lost: list[int] = []

    @property
    def is_asked(self) -> bool:
        """Whether a round should begin."""
        return bool(self._asked)

    def ask(self, context: int) -> None:
        """Take a read into the next round."""
        self._asked.append(context)
        self.pending += 1

    def answer_asked(self, commit_index: Index) -> None:
        """Nobody else can lead just now: the reads that were asked for need no round.

        Nor do those whose round is under way, which are answered first: whoever asks twice takes the
        answers for those to its questions in their order.
        """
        self.confirm(self.round)
        self._answerable.extend(ReadState(context, commit_index) for context in self._asked)
        self._asked = []

    def begin_round(self, commit_index: Index) -> None:
        """Let the reads that were asked for until now be proved by heartbeats that leave later."""
        self.round += 1
        self._rounds.append((self.round, commit_index, self._asked))
        self._asked = []

    def confirm(self, round: int) -> None:
        """A quorum has answered heartbeats of `round` or later ones."""
        assert round <= self.round
        while self._rounds and self._rounds[0][0] <= round:
            _, index, contexts = self._rounds.popleft()
            self._answerable.extend(ReadState(context, index) for context in contexts)

    def can_answer(self, applied: Index) -> bool:
        """Whether `take_answered` or `take_lost` has anything."""
        return bool(self._lost or (self._answerable and self._answerable[0].index <= applied))

    def take(self, applied: Index) -> tuple[tuple[ReadState, ...], tuple[int, ...]]:
        """What `take_answered` and `take_lost` have."""
        return self.take_answered(applied), self.take_lost()

    def take_answered(self, applied: Index) -> tuple[ReadState, ...]:
        """The confirmed reads whose index is applied when `applied` is."""
        answerable = self._answerable
        taken: list[ReadState] = []
        while answerable and answerable[0].index <= applied:
            taken.append(answerable.popleft())
        self.pending -= len(taken)
        return tuple(taken)

    def lose(self) -> None:
        """The leadership is lost. What a quorum has confirmed is still true."""
        for _, _, contexts in self._rounds:
            self._lost.extend(contexts)
        self._lost.extend(self._asked)
        self._rounds.clear()
        self._asked = []

    def take_lost(self) -> tuple[int, ...]:
        """The contexts that were lost since the last call."""
        lost, self._lost = self._lost, []
        self.pending -= len(lost)
        return tuple(lost)
