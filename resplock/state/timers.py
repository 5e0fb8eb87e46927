"""Which lock or place has its next end when: a coarse wheel in front of a small exact heap.

Pure, derived: rebuilt from the records on restore, never in a snapshot. Most holds are released
long before they end, so adding and removing must be cheap and leave nothing behind: far ends lie
unsorted in one dict for each quarter of a second, and only the quarter whose time has come goes into
the heap. (The garbage collector does not walk a dict of bytes and integers, but it does walk every
set, which for a million locks is a pause of 50 ms.)

Invariants:

- A name is in the wheel (or, stale or not, in the heap) exactly when `deadline_of(name)` is not 0,
  under that deadline. Names leave the heap lazily: what does not match `deadline_of` is stale.
- `_order` has the number of each bucket once. An empty bucket stays until its time has come: were it
  removed, a quarter's only lock, taken and released, would bring its number into `_order` each time.
- `_filled` is the number of buckets that are not empty.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from resplock import limits
from resplock.types import LockName

_BUCKET_BITS = 8
"""A bucket of the wheel is 2^8 ms."""
_FEW_BITS = 3
"""One for each 2^3 in the heap is pushed sooner than the heap is made anew."""


Name = TypeVar("Name", LockName, int)


class Timers(Generic[Name]):
    """The next end of everything that has one."""

    __slots__ = ("_buckets", "_deadline_of", "_filled", "_near", "_near_end", "_order")

    def __init__(self, deadline_of: Callable[[Name], int]) -> None:
        """`deadline_of(name)` says when the name is due at present, in ms; 0 for never."""
        self._deadline_of: Callable[[Name], int] = deadline_of
        self._buckets: dict[int, dict[Name, int]] = {}  # the deadlines, by bucket and name
        self._filled = 0
        self._order: list[int] = []  # a heap of the buckets' numbers
        self._near: list[tuple[int, Name]] = []  # a heap
        self._near_end = 0  # buckets below this number were moved to the heap

    def __bool__(self) -> bool:
        """Whether anything may still end. Stale names may make it say so a little too long."""
        return self._filled > 0 or bool(self._near)

    def add(self, name: Name, deadline_ms: int) -> None:
        """Watch for an end at `deadline_ms` (> 0)."""
        number = deadline_ms >> _BUCKET_BITS
        if number < self._near_end:
            heappush(self._near, (deadline_ms, name))
            return
        bucket = self._buckets.get(number)
        if bucket:
            bucket[name] = deadline_ms
            return
        self._filled += 1
        if bucket is None:
            self._buckets[number] = {name: deadline_ms}
            heappush(self._order, number)
        else:
            bucket[name] = deadline_ms

    def remove(self, name: Name, deadline_ms: int) -> None:
        """Forget the end that was added at `deadline_ms`; `deadline_of` no longer says so."""
        bucket = self._buckets.get(deadline_ms >> _BUCKET_BITS)
        if bucket:
            bucket.pop(name, None)
            if not bucket:
                self._filled -= 1

    def due(self, stamp_ms: int) -> tuple[int, Name] | None:
        """The first end at or before `stamp_ms`, in the order (deadline, name), left in place."""
        self._open_buckets(stamp_ms)
        near = self._near
        while near and near[0][0] <= stamp_ms:
            deadline_ms, name = near[0]
            if self._deadline_of(name) == deadline_ms:
                return near[0]
            heappop(near)
        return None

    def prepare(self, now_ms: int) -> None:
        """Move a part of what ends in this quarter of a second, or in the next one, to the heap.

        Called every few milliseconds, it leaves little for `due` to move at once, however much ends
        together. It changes nothing of what `due` says. now_ms: about the clock of `due`.
        """
        current = now_ms >> _BUCKET_BITS
        for number in (current, current + 1):
            bucket = self._buckets.get(number)
            if bucket and len(bucket) > limits.ENDS_PREPARED:
                for _ in range(limits.ENDS_PREPARED):
                    name, deadline_ms = bucket.popitem()
                    heappush(self._near, (deadline_ms, name))
                return

    def _open_buckets(self, stamp_ms: int) -> None:
        current = stamp_ms >> _BUCKET_BITS
        if current < self._near_end:
            return
        self._near_end = current + 1
        while self._order and self._order[0] <= current:
            names = self._buckets.pop(heappop(self._order))
            if names:
                self._filled -= 1
                self._put_near(names)

    def _put_near(self, names: dict[Name, int]) -> None:
        near = self._near
        if len(names) < len(near) >> _FEW_BITS:
            for name, deadline_ms in names.items():
                heappush(near, (deadline_ms, name))
        else:
            near += zip(names.values(), names.keys(), strict=True)
            heapify(near)
