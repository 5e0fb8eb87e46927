"""Clients that go away: their waits, and the holds that they tied to their connection.

Pure. A place without a REQUEST goes at once. With one it stays, with nobody attached to it, for
limits.WAITER_GRACE_MS from the disconnect: who asks again in time goes on where it was, and takes the
grant if it was made meanwhile; else the place, or the grant, is given up.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from resplock import limits
from resplock.operations import ClientId, Granted, NodeGone, Unblocked, Undelivered
from resplock.state import ends
from resplock.state.handover import leave, promote
from resplock.state.ledger import Ledger
from resplock.state.records import Hold, Lock, Place
from resplock.types import LockName


def disconnect(ledger: Ledger, clients: Iterable[ClientId], index: int) -> None:
    """End what is still attached to these connections: now, or in later entries if it is too much."""
    for client in clients:
        if ledger.queues.by_client.count(client) or ledger.tied.count(client):
            ledger.departing[client] = None
    go_on(ledger, index)


def node_gone(ledger: Ledger, operation: NodeGone, index: int) -> None:
    """Disconnect all clients of a node but those of its present incarnation."""
    attached = {*ledger.queues.by_client.keyed, *ledger.tied.keyed}
    gone = sorted(
        client
        for client in attached
        if client.node == operation.node
        and (not operation.incarnation or client.incarnation != operation.incarnation)
    )
    disconnect(ledger, gone, index)


def go_on(ledger: Ledger, index: int) -> None:
    """End what is attached to clients that have gone, as far as `ledger.ends_left` goes.

    What one of them leaves is not for another one that has gone with it: first all their waits end,
    the last in line first, then what they hold.
    """
    for place in _places_of_departing(ledger):
        if ledger.ends_left <= 0:
            return
        if ledger.queues.places.get(place.index) is place:
            ledger.ends_left -= limits.PLACE_END_COST
            _part(ledger, place, index)
    for client in list(ledger.departing):
        for name, owner in ledger.tied.members_of(client):
            if ledger.ends_left <= 0:
                return
            ends.settle(ledger, name, index)
            if ledger.tied.has(client, (name, owner)):
                ledger.ends_left -= limits.PLACE_END_COST
                ends.lose(ledger, name, owner, index)
        del ledger.departing[client]


def _places_of_departing(ledger: Ledger) -> list[Place]:
    """The places whose clients have gone, the last in line first."""
    queues = ledger.queues
    places = [
        queues.places[number]
        for client in ledger.departing
        for number in queues.by_client.any_of(client)
    ]
    return sorted(places, key=lambda place: (place.options.priority, -place.index))


def _part(ledger: Ledger, place: Place, index: int) -> None:
    """A place's client has gone."""
    if not place.request:
        leave(ledger, place, "disconnected", index)
        return
    ledger.end_ticket(place, Unblocked("disconnected"))
    alone = replace(
        place,
        ticket=0,
        options=replace(place.options, client=None),
        grace_ms=ledger.clock_ms + limits.WAITER_GRACE_MS,
    )
    ledger.queues.replace(place, alone)


def undelivered(ledger: Ledger, operation: Undelivered, index: int) -> None:
    """The end of a wait was a grant, and its client has gone before it was told."""
    for name in operation.names:
        ends.settle(ledger, name, index)
        lock = ledger.locks.get(name)
        hold = lock.hold_of(operation.owner) if lock is not None else None
        if lock is not None and hold is not None and _is_untold(hold, operation.version):
            _take_back(ledger, name, lock, hold, operation, index)


def _is_untold(hold: Hold, version: int) -> bool:
    """Whether this is the grant, and its owner has not learned of it in another way."""
    return hold.version == version and hold.terms is not None and hold.terms.is_unheard


def _take_back(
    ledger: Ledger, name: LockName, lock: Lock, hold: Hold, operation: Undelivered, index: int
) -> None:
    answer = ledger.requests.get(operation.owner, operation.request) if operation.request else None
    if answer is not None and isinstance(answer.outcome, Granted):
        assert hold.terms is not None, "a hold that its owner has not heard of has terms"
        claim_ms = ledger.clock_ms + limits.WAITER_GRACE_MS
        claimable = replace(hold, terms=replace(hold.terms, is_unheard=False, claim_ms=claim_ms))
        ledger.put_hold(name, lock, hold, claimable)
        return
    ends.give_up(ledger, name, lock, hold, b"unclaimed")
    promote(ledger, (name,), index, ledger.clock_ms + 1)
