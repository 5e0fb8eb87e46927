"""Handing over: the ends of places, and who is next.

Pure. Each place has exactly one end: granted, timed out, cancelled, unblocked, or disconnected; and
each command that was answered `Blocked` has exactly one `Ended`: that of its place, or `Unblocked`
when the place goes on without it. A REQUEST's answer is remembered when it is final.

Handing over costs the same however many wait: `promote` looks at the front of a queue only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from resplock.operations import Outcome, TimedOut, Unblocked
from resplock.state.granting import grant, in_the_way, is_up
from resplock.state.ledger import Ledger
from resplock.state.records import Place
from resplock.types import LockName


def promote(ledger: Ledger, names: Iterable[LockName], index: int, before_ms: int) -> bytes | None:
    """Grant these locks to whoever is in front, as far as there is room; gives the first such owner.

    Called whenever a hold, a delay or the front of a queue has ended. before_ms: places that end
    before this moment are over: timed ends are carried out in their order, but no more than so many
    in an entry, so that some may be late.
    """
    first: bytes | None = None
    pending = deque(names)
    while pending:
        name = pending.popleft()
        while (place := ledger.queues.front(name)) is not None:
            if place.ends_ms < before_ms:
                end_by_time(ledger, place, index)
                pending.extend(place.names)
            elif is_up(ledger, place):
                _hand_over(ledger, place, index)
                first = place.owner if first is None else first
            else:
                break
    return first


def _hand_over(ledger: Ledger, place: Place, index: int) -> None:
    """The wait has succeeded. Nobody is attached to a place that has no ticket: see `Terms`."""
    ledger.remove_place(place)
    granted = grant(
        ledger,
        place.names,
        place,
        index,
        is_unheard=bool(place.ticket),
        claim_ms=place.grace_ms,
    )
    _finish(ledger, place, granted, index)


def end_by_time(ledger: Ledger, place: Place, index: int) -> None:
    """The wait has run out, or nobody came back for the place. Whoever is behind is not served yet."""
    if place.has_lost_its_client:
        _leave(ledger, place, Unblocked("disconnected"), b"disconnected", index)
    else:
        time_out(ledger, place, index)


def time_out(ledger: Ledger, place: Place, index: int) -> None:
    """As if the wait had run out. Whoever is behind is not served yet."""
    held = in_the_way(ledger, place.names, place.options, place)
    waiters = held.waiters - 1
    outcome = TimedOut(held.owner, held.version, held.ttl_ms, waiters, held.advice)
    _leave(ledger, place, outcome, b"timeout", index)


def leave(ledger: Ledger, place: Place, reason: str, index: int) -> None:
    """The place is given up for this reason, and whoever is behind is served."""
    unqueue(ledger, place, reason, index)
    promote(ledger, place.names, index, ledger.clock_ms + 1)


def unqueue(ledger: Ledger, place: Place, reason: str, index: int) -> None:
    """The place is given up for this reason. Whoever is behind is not served yet."""
    _leave(ledger, place, Unblocked(reason), reason.encode(), index)


def _leave(ledger: Ledger, place: Place, outcome: Outcome, reason: bytes, index: int) -> None:
    ledger.remove_place(place)
    for name in place.names:
        ledger.tell("cancelled", name, place.owner, 0, reason)
    _finish(ledger, place, outcome, index)


def _finish(ledger: Ledger, place: Place, outcome: Outcome, index: int) -> None:
    """The one end of a place, or of the command that is blocked for it."""
    ledger.end_ticket(place, outcome)
    if outcome != _GIVEN_UP:
        remember(ledger, place, outcome, index)


_GIVEN_UP = Unblocked("disconnected")
"""Nobody was there to be told. Who asks again later, with the same REQUEST, may as well wait anew."""


def remember(ledger: Ledger, place: Place, outcome: Outcome, index: int) -> None:
    if place.request and ledger.requests.get(place.owner, place.request) is None:
        ledger.requests.remember(
            place.owner,
            place.request,
            place.names,
            outcome,
            index=index,
            stamp_ms=ledger.clock_ms,
        )
