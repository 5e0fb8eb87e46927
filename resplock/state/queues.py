"""Who waits for which lock, and in what order.

Pure. Places are the records that snapshots keep (`Queues.places`); all else is derived from them and
rebuilt on restore. A queue has a sorted list with a number for each place: first by priority, the
higher the sooner, then by index. New places nearly always go to its end and leave from its front, so
that both cost the same however many wait; finding, counting who is ahead and leaving from the middle
is a bisection (and a move of some kilobytes of numbers, which takes a microsecond).

Invariants (`check` recomputes them):

- a place is in the queue of each of its locks, once, and under its owner there;
- an owner has at most one place in a queue;
- who is attached to a place, when it ends and whose it is are found where the indexes say.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any

from resplock.limits import PRIORITY_MAX
from resplock.operations import ClientId
from resplock.state.groups import ClientGroups, Groups
from resplock.state.records import Place
from resplock.state.timers import Timers
from resplock.types import LockName

_INDEX_BITS = 64
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_TRIM_AT = 512
"""So many numbers of places that have left the front are kept before the list is cut."""


class Queue:
    """The places of one lock."""

    __slots__ = ("_gone", "_order", "by_owner")

    def __init__(self) -> None:
        self._order: list[int] = []  # `_number` of each place, ascending, after `_gone` stale ones
        self._gone = 0
        self.by_owner: dict[bytes, int] = {}
        """The index of each owner's place."""

    def __len__(self) -> int:
        return len(self.by_owner)

    def add(self, place: Place) -> None:
        number = _number(place.options.priority, place.index)
        order = self._order
        if order and number < order[-1]:
            insort(order, number, lo=self._gone)
        else:
            order.append(number)
        self.by_owner[place.owner] = place.index

    def remove(self, place: Place) -> None:
        position = self._position(place)
        if position == self._gone:
            self._gone += 1
            if self._gone >= _TRIM_AT and 2 * self._gone >= len(self._order):
                del self._order[: self._gone]
                self._gone = 0
        else:
            del self._order[position]
        del self.by_owner[place.owner]

    def front(self) -> int:
        """The index of the place in front."""
        return self._order[self._gone] & _INDEX_MASK

    def position(self, place: Place) -> int:
        """How many places are ahead of one that is in the queue."""
        return self._position(place) - self._gone

    def ahead_of(self, priority: int) -> int:
        """How many places are ahead of a new one with this priority."""
        return bisect_left(self._order, _number(priority - 1, 0), lo=self._gone) - self._gone

    def indexes(self) -> Iterator[int]:
        """The places' indexes in their order."""
        order = self._order
        for position in range(self._gone, len(order)):
            yield order[position] & _INDEX_MASK

    def indexes_ahead(self, place: Place) -> Iterator[int]:
        """The indexes of the places ahead of one that is in the queue, the nearest first."""
        for position in range(self._position(place) - 1, self._gone - 1, -1):
            yield self._order[position] & _INDEX_MASK

    def _position(self, place: Place) -> int:
        number = _number(place.options.priority, place.index)
        position = bisect_left(self._order, number, lo=self._gone)
        assert self._order[position] == number, "a place is not in its queue"
        return position


def _number(priority: int, index: int) -> int:
    """Smaller is sooner."""
    return (PRIORITY_MAX - priority) << _INDEX_BITS | index


class Queues:
    """All places, and the queue of each lock that is waited for."""

    __slots__ = ("_by_lock", "by_client", "by_owner", "places", "timers")

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        """By index, in the order of the indexes."""
        self._by_lock: dict[LockName, Queue] = {}
        self.by_owner: Groups[bytes, int] = Groups()
        self.by_client: ClientGroups[int] = ClientGroups()
        """The places that end when this client goes away."""
        self.timers: Timers[int] = Timers(self._ends_ms)

    def __len__(self) -> int:
        """How many places there are."""
        return len(self.places)

    @property
    def locks(self) -> int:
        """How many locks are waited for."""
        return len(self._by_lock)

    def add(self, place: Place) -> None:
        """A new place, with a higher index than all others of its priority in its queues."""
        self.places[place.index] = place
        for name in place.names:
            queue = self._by_lock.get(name)
            if queue is None:
                queue = self._by_lock[name] = Queue()
            queue.add(place)
        self.by_owner.add(place.owner, place.index)
        self._watch(place)

    def remove(self, place: Place) -> None:
        """The place is given up, or its owner got what it waited for."""
        del self.places[place.index]
        for name in place.names:
            queue = self._by_lock[name]
            queue.remove(place)
            if not queue:
                del self._by_lock[name]
        self.by_owner.remove(place.owner, place.index)
        self._forget(place)

    def replace(self, old: Place, new: Place) -> None:
        """Change a place that stays where it is in its queues."""
        self.places[new.index] = new
        self._forget(old)
        self._watch(new)

    def _watch(self, place: Place) -> None:
        self.timers.add(place.index, place.ends_ms)
        if (client := place.client) is not None:
            self.by_client.add(client, place.index)

    def _forget(self, place: Place) -> None:
        self.timers.remove(place.index, place.ends_ms)
        if (client := place.client) is not None:
            self.by_client.remove(client, place.index)

    def front(self, name: LockName) -> Place | None:
        """Who comes next, or None when nobody waits."""
        queue = self._by_lock.get(name)
        return self.places[queue.front()] if queue is not None else None

    def place_of(self, names: Sequence[LockName], owner: bytes) -> Place | None:
        """The owner's place in the first of these queues in which it has one."""
        for name in names:
            queue = self._by_lock.get(name)
            index = queue.by_owner.get(owner) if queue is not None else None
            if index is not None:
                return self.places[index]
        return None

    def count(self, name: LockName) -> int:
        """How many wait for this lock."""
        queue = self._by_lock.get(name)
        return len(queue) if queue is not None else 0

    def position(self, name: LockName, place: Place) -> int:
        """How many places are ahead of this one in the lock's queue."""
        return self._by_lock[name].position(place)

    def ahead_of(self, name: LockName, priority: int) -> int:
        """How many places would be ahead of a new one."""
        queue = self._by_lock.get(name)
        return queue.ahead_of(priority) if queue is not None else 0

    def waiters(self, name: LockName) -> Iterator[Place]:
        """The places of a queue, from the front."""
        queue = self._by_lock.get(name)
        if queue is not None:
            for index in queue.indexes():
                yield self.places[index]

    def waiters_ahead(self, name: LockName, place: Place) -> Iterator[Place]:
        """The places ahead of this one in the lock's queue, the nearest first."""
        for index in self._by_lock[name].indexes_ahead(place):
            yield self.places[index]

    def _ends_ms(self, index: int) -> int:
        place = self.places.get(index)
        return place.ends_ms if place is not None else 0

    def check(self) -> None:
        """Recompute what is derived and compare; raises AssertionError. Slow: for tests."""
        by_lock: dict[LockName, list[tuple[int, int, bytes]]] = {}
        by_owner: dict[bytes, list[int]] = {}
        by_client: dict[ClientId, list[int]] = {}
        for index, place in self.places.items():
            assert index == place.index, "a place under another's index"
            assert place.names, "a place in no queue"
            assert place.deadline_ms > 0, "a place without an end"
            for name in place.names:
                key = (-place.options.priority, index, place.owner)
                by_lock.setdefault(name, []).append(key)
            by_owner.setdefault(place.owner, []).append(index)
            if place.client is not None:
                by_client.setdefault(place.client, []).append(index)
        assert by_lock.keys() == self._by_lock.keys(), "queues of locks that nobody waits for"
        for name, keys in by_lock.items():
            queue = self._by_lock[name]
            assert [index for _, index, _ in sorted(keys)] == list(queue.indexes()), "queue order"
            assert {owner: index for _, index, owner in keys} == queue.by_owner, "queue owners"
            assert len(keys) == len(queue), "two places of one owner"
        _check_groups(self.by_owner, by_owner)
        _check_groups(self.by_client, by_client)


def _check_groups(
    groups: Groups[bytes, int] | Groups[ClientId, int], expected: dict[Any, list[int]]
) -> None:
    assert groups.keyed == expected.keys(), "an index of places has strangers or gaps"
    for key, indexes in expected.items():
        assert groups.members_of(key) == sorted(indexes), "an index of places is off"
