"""Deadlocks: finding the cycle that a wait would close.

Pure. Owners are the nodes. A blocked wait leads from its owner to the holders of the lock, and to
whoever is ahead in its queue. Semaphores lead nowhere (any of their holders may make room), nor do
places that nobody is blocked for (their owners may do something else). Of a queue it is enough to
look at who is next ahead, who is blocked behind all the others: a long queue is a chain.

Places of several locks have one index in all their queues, so they never wait for each other in a
circle. An owner with several connections may wait in one and release in another: for it, a cycle
is only what looks like one, and it is refused all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from resplock import limits
from resplock.state.ledger import Ledger
from resplock.state.records import Mode, Place
from resplock.types import LockName

Step = tuple[LockName, bytes]
"""A lock that is waited for, and whom for."""


def cycle(ledger: Ledger, place: Place) -> tuple[Step, ...] | None:
    """The cycle that a blocked place closes, which is in its queues already; None when it does not.

    From the place's owner back to it. Past limits.DEADLOCK_STEPS_MAX steps nothing is found: the
    wait is admitted, and its deadline is what ends it.
    """
    origin = place.owner
    if not place.ticket or not _is_waited_for(ledger, place):
        return None
    reached_by: dict[bytes, tuple[bytes, LockName]] = {}
    frontier = deque([origin])
    steps = 0
    while frontier:
        waiting = frontier.popleft()
        if ledger.queues.by_owner.count(waiting) > limits.DEADLOCK_STEPS_MAX:
            return None
        for name, other in _waits_for(ledger, waiting):
            steps += 1
            if steps > limits.DEADLOCK_STEPS_MAX:
                return None
            if other == waiting or other in reached_by:
                continue
            reached_by[other] = (waiting, name)
            if other == origin:
                return _path(reached_by, origin)
            frontier.append(other)
    return None


def _is_waited_for(ledger: Ledger, place: Place) -> bool:
    """Whether anybody may wait for the place's owner: nearly always nobody does, and that is cheap.

    Who is behind a place of one lock waits for whatever it waits for, so their cycle would be there
    without it; behind a place of several, it has come to wait for more.
    """
    queues = ledger.queues
    if queues.by_owner.count(place.owner) > 1:
        return True
    if len(place.names) > 1 and any(
        queues.position(name, place) + 1 < queues.count(name) for name in place.names
    ):
        return True
    if ledger.owners.count(place.owner) > limits.DEADLOCK_STEPS_MAX:
        return True
    return any(queues.count(name) for name in ledger.owners.any_of(place.owner))


def _waits_for(ledger: Ledger, owner: bytes) -> Iterator[Step]:
    """Whom an owner waits for, and where."""
    queues = ledger.queues
    for index in queues.by_owner.members_of(owner):
        place = queues.places[index]
        if not place.ticket or place.options.limit:
            continue
        for name in place.names:
            lock = ledger.locks.get(name)
            if lock is not None and lock.mode is not Mode.SEMAPHORE:
                for hold in lock.holds:
                    yield name, hold.owner
            for ahead in queues.waiters_ahead(name, place):
                yield name, ahead.owner
                if ahead.ticket and not ahead.options.limit:
                    break  # it waits for all who are ahead of it


def _path(reached_by: dict[bytes, tuple[bytes, LockName]], origin: bytes) -> tuple[Step, ...]:
    steps: list[Step] = []
    owner = origin
    while True:
        waiting, name = reached_by[owner]
        steps.append((name, owner))
        owner = waiting
        if owner == origin:
            return tuple(reversed(steps))
