"""REQUEST ids: a repeated command has its effect once and gets the same answer.

Pure and deterministic. An answer is remembered for limits.REQUEST_REMEMBERED_MS on the replicated
clock and for the last limits.REQUESTS_PER_OWNER ids of its owner (thesis, section 6.3).

Every answer lives equally long, so the order of their ends is that in which they were given: a
queue, no timer. One command may end several waits; `Remembered.nth` orders the answers that it gave.
(An OrderedDict: taking the first of a plain dict slows down as its front is deleted.)
The queue and the index by owner are derived and rebuilt on restore.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from resplock import limits
from resplock.operations import Outcome
from resplock.state.records import Remembered
from resplock.state.slotmap import SlotMap
from resplock.types import LockName


class Requests:
    """(owner, request id) -> the answer."""

    __slots__ = ("_by_owner", "_index", "_nth", "_queue", "answers")

    def __init__(self) -> None:
        self.answers: SlotMap[Remembered] = SlotMap()
        self._by_owner: dict[bytes, dict[bytes, None]] = {}  # ids, oldest first
        self._queue: OrderedDict[LockName, Remembered] = OrderedDict()  # oldest first
        self._index, self._nth = 0, 0  # of the newest answer

    def __len__(self) -> int:
        return len(self._queue)

    def get(self, owner: bytes, request: bytes) -> Remembered | None:
        """What was answered, if it is still remembered."""
        return self.answers.get(_key(owner, request))

    def remember(
        self,
        owner: bytes,
        request: bytes,
        names: Sequence[LockName],
        outcome: Outcome,
        *,
        index: int,
        stamp_ms: int,
    ) -> None:
        """Keep an answer; the owner's oldest one goes when there are too many."""
        deadline_ms = stamp_ms + limits.REQUEST_REMEMBERED_MS
        nth = self._nth + 1 if index == self._index else 0
        answer = Remembered(
            owner, request, index, deadline_ms, names[0], outcome, tuple(names[1:]), nth
        )
        self.restore(answer)
        ids = self._by_owner[owner]
        if len(ids) > limits.REQUESTS_PER_OWNER:
            self._forget(owner, next(iter(ids)))

    def restore(self, answer: Remembered) -> None:
        """Put an answer in place. On restore they must come in order."""
        key = _key(answer.owner, answer.request)
        self.answers.writable(key)[key] = answer
        self._by_owner.setdefault(answer.owner, {})[answer.request] = None
        self._queue[key] = answer
        self._index, self._nth = answer.index, answer.nth

    def end_due(self, stamp_ms: int, ends_max: int) -> int:
        """Forget up to `ends_max` answers whose time is over; says how many."""
        ended = 0
        while ended < ends_max and 0 < self.next_deadline_ms <= stamp_ms:
            oldest = next(iter(self._queue.values()))
            self._forget(oldest.owner, oldest.request)
            ended += 1
        return ended

    @property
    def next_deadline_ms(self) -> int:
        """When the oldest answer is forgotten; 0 when there is none."""
        for oldest in self._queue.values():
            return oldest.deadline_ms
        return 0

    def _forget(self, owner: bytes, request: bytes) -> None:
        key = _key(owner, request)
        del self.answers.writable(key)[key]
        del self._queue[key]
        ids = self._by_owner[owner]
        del ids[request]
        if not ids:
            del self._by_owner[owner]


def _key(owner: bytes, request: bytes) -> LockName:
    """One byte string for both, in which no two pairs are alike."""
    return LockName(b"%d:%b%b" % (len(owner), owner, request))
