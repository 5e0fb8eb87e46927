"""A naive model of the lock table: a list of holds and a list of places, nothing derived or clever.

It is written from COMMANDS as users read them, not from the code, and is compared with the table
after every entry. Every question is answered by looking through everything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from resplock import limits
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    AcquireAll,
    AddRefusals,
    Advice,
    Blocked,
    Break,
    Broken,
    Busy,
    Cancel,
    Cancelled,
    ClientId,
    Deadlock,
    Disconnect,
    Done,
    Ended,
    Event,
    Granted,
    Held,
    KeepAlive,
    Kept,
    Lost,
    Metadata,
    NodeGone,
    NotHeld,
    NotOwner,
    NotWaiting,
    Operation,
    Options,
    Outcome,
    Queued,
    QueueFull,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Settle,
    SetUnixOffset,
    Stale,
    TimedOut,
    Unblock,
    Unblocked,
    Undelivered,
)
from resplock.types import LockName
from tests.state import string_model

NO_ADVICE = Advice(0)
"""The model computes no advice; tests compare outcomes without it."""
SOME = Refused("")
"""The model words no refusals."""
FOREVER = 1 << 62

Edge = tuple[bytes, LockName, bytes]
"""An owner waits at a lock for another owner."""


@dataclass
class ModelHold:
    name: LockName
    owner: bytes
    version: int
    deadline: int
    ttl: int
    metadata: Metadata
    mode: str
    limit: int
    permits: int
    delay: int
    client: ClientId | None
    count: int = 1
    unheard: bool = False
    claim: int = 0

    def end(self) -> int:
        return min(self.deadline or FOREVER, self.claim or FOREVER)


@dataclass(frozen=True)
class ModelPlace:
    index: int
    names: tuple[LockName, ...]
    owner: bytes
    deadline: int
    ticket: int
    ttl: int
    request: bytes
    metadata: Metadata
    options: Options
    client: ClientId | None
    grace: int = 0

    def end(self) -> int:
        return min(self.deadline, self.grace or FOREVER)

    def order(self) -> tuple[int, int]:
        return -self.options.priority, self.index


@dataclass
class Answer:
    at: int
    names: tuple[LockName, ...]
    outcome: Outcome


@dataclass
class Model:
    now: int = 0
    index: int = 0
    holds: list[ModelHold] = field(default_factory=list)
    places: list[ModelPlace] = field(default_factory=list)
    delays: dict[LockName, int] = field(default_factory=dict)
    remembered: dict[tuple[bytes, bytes], Answer] = field(default_factory=dict)
    last_version: int = 0
    expired: int = 0
    ended: list[Ended] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    cycles: dict[int, set[Edge]] = field(default_factory=dict)
    """Who waited for whom when a wait was refused, by the index of its command."""
    unix_offset: int = 0
    scripts: dict[bytes, bytes] = field(default_factory=dict)
    """Sources, by their SHA1."""
    changes: Counter[LockName] = field(default_factory=Counter)
    """How often the holds of a lock have changed."""
    watched: dict[tuple[LockName, int], int] = field(default_factory=dict)
    """How often they had, when a WATCH was answered with this number."""
    numbers: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """What each Watch of this entry was answered, by its index: to be set before it is applied."""

    # --- entries ---------------------------------------------------------------------------------

    def apply(self, first: int, stamp: int, operations: list[Operation]) -> list[Outcome]:
        self.now, self.index = stamp, first
        self.ended, self.events, self.cycles = [], [], {}
        while self.end_next():
            pass
        self.remembered = {
            key: answer
            for key, answer in self.remembered.items()
            if answer.at + limits.REQUEST_REMEMBERED_MS > stamp
        }
        outcomes: list[Outcome] = []
        for position, operation in enumerate(operations):
            self.index = first + position
            outcomes.append(self.run(operation))
        return outcomes

    def end_next(self) -> bool:
        """Carry out what ends first, if it is due."""
        locks = [(hold.end(), hold.name) for hold in self.holds]
        locks += [(until, name) for name, until in self.delays.items()]
        moment = min([end for end, _ in locks] + [place.end() for place in self.places], default=0)
        if not moment or moment > self.now:
            return False
        names = [name for end, name in locks if end == moment]
        if not names:
            over = [place for place in self.places if place.end() == moment]
            self.time_out(min(over, key=lambda place: place.index))
            return True
        name = min(names)
        for hold in [hold for hold in self.held(name) if hold.end() == moment]:
            self.holds.remove(hold)
            if hold.deadline == moment:
                self.expired += 1
                self.tell("expired", name, hold.owner, hold.version)
                self.delay(hold)
            else:
                self.tell("released", name, hold.owner, hold.version, b"unclaimed")
        if self.delays.get(name) == moment:
            del self.delays[name]
        self.serve([name])
        return True

    def time_out(self, place: ModelPlace) -> None:
        if place.grace and place.grace < place.deadline:
            self.leave(place, Unblocked("disconnected"), b"disconnected")
            return
        self.leave(place, TimedOut(*self.obstacle(place)), b"timeout")

    def run(self, operation: Operation) -> Outcome:
        match operation:
            case Acquire() | AcquireAll():
                return self.ask_once(operation) if operation.request else self.ask(operation)
            case Release():
                return self.release(operation)
            case Renew():
                hold = self.hold_for(operation)
                if not isinstance(hold, ModelHold):
                    return hold
                return Renewed(hold.version, self.renew(hold, operation.ttl_ms))
            case KeepAlive():
                return self.keep_alive(operation)
            case Break():
                return self.break_lock(operation)
            case Settle() | SetUnixOffset() | AddRefusals():
                self.unix_offset = getattr(operation, "offset_ms", self.unix_offset)
                return Done()
            case Cancel():
                for place in self.places:
                    if operation.name in place.names and place.owner == operation.owner:
                        self.leave(place, Unblocked("cancelled"), b"cancelled")
                        return Cancelled(1)
                return NotWaiting(operation.name)
            case Disconnect():
                self.disconnect(list(operation.clients))
                return Done()
            case NodeGone():
                gone = [
                    client
                    for client in self.attached()
                    if client.node == operation.node
                    if operation.incarnation == 0 or client.incarnation != operation.incarnation
                ]
                self.disconnect(sorted(gone))
                return Done()
            case Unblock():
                return self.unblock(operation)
            case Undelivered():
                return self.undelivered(operation)
            case _:
                return string_model.run(self, operation)

    # --- looking ---------------------------------------------------------------------------------

    def held(self, name: LockName) -> list[ModelHold]:
        return [hold for hold in self.holds if hold.name == name]

    def hold_of(self, name: LockName, owner: bytes) -> ModelHold | None:
        return next((hold for hold in self.held(name) if hold.owner == owner), None)

    def queue(self, name: LockName) -> list[ModelPlace]:
        waiting = [place for place in self.places if name in place.names]
        return sorted(waiting, key=ModelPlace.order)

    def waiters(self, names: tuple[LockName, ...]) -> int:
        return sum(len(self.queue(name)) for name in names)

    def has_room(self, name: LockName, options: Options) -> bool:
        holds = self.held(name)
        if not holds:
            return True
        if options.shared:
            return all(hold.mode == "shared" for hold in holds)
        if options.limit:
            used = sum(hold.permits for hold in holds)
            alike = all(hold.limit == options.limit for hold in holds)
            return alike and used + options.permits <= options.limit
        return False

    def ahead(self, name: LockName, asker: Options | ModelPlace) -> list[ModelPlace]:
        """Who comes before a new ask, or before a place."""
        if isinstance(asker, ModelPlace):
            return [other for other in self.queue(name) if other.order() < asker.order()]
        return [other for other in self.queue(name) if other.options.priority >= asker.priority]

    def is_free(self, name: LockName, asker: Options | ModelPlace) -> bool:
        options = asker.options if isinstance(asker, ModelPlace) else asker
        if name in self.delays or self.ahead(name, asker):
            return False
        return self.has_room(name, options)

    def obstacle(
        self, asker: Options | ModelPlace, names: tuple[LockName, ...] = ()
    ) -> tuple[bytes | None, int, int, int, Advice]:
        """What is in the way: owner, version, ttl, waiters (but for the place itself)."""
        options, itself = asker, 0
        if isinstance(asker, ModelPlace):
            names, options, itself = asker.names, asker.options, 1
        assert isinstance(options, Options)
        name = next(name for name in names if not self.is_free(name, asker))
        waiters = len(self.queue(name)) - itself
        if not self.has_room(name, options):
            hold = self.held(name)[0]
            return hold.owner, hold.version, self.left(hold), waiters, NO_ADVICE
        ahead = self.ahead(name, asker)
        if ahead:
            return ahead[0].owner, 0, max(ahead[0].end() - self.now, 1), waiters, NO_ADVICE
        return None, 0, max(self.delays[name] - self.now, 1), waiters, NO_ADVICE

    # --- asking ----------------------------------------------------------------------------------

    def ask_once(self, operation: Acquire | AcquireAll) -> Outcome:
        answer = self.remembered.get((operation.owner, operation.request))
        if answer is None:
            outcome = self.ask(operation)
            if not isinstance(outcome, Blocked | Queued | QueueFull | Busy):
                self.remember(operation.owner, operation.request, names_of(operation), outcome)
            return outcome
        if not isinstance(answer.outcome, Granted):
            return answer.outcome
        holds = [self.hold_of(name, operation.owner) for name in answer.names]
        if any(hold is None or hold.version != answer.outcome.version for hold in holds):
            return Lost(answer.outcome.version)
        for hold in holds:
            assert hold is not None
            self.heard(hold, operation.options or Options())
        return answer.outcome

    def remember(
        self, owner: bytes, request: bytes, names: tuple[LockName, ...], outcome: Outcome
    ) -> None:
        self.remembered[owner, request] = Answer(self.now, names, outcome)
        mine = [key for key in self.remembered if key[0] == owner]
        if len(mine) > limits.REQUESTS_PER_OWNER:
            del self.remembered[mine[0]]

    def ask(self, operation: Acquire | AcquireAll) -> Outcome:
        names, options = names_of(operation), operation.options or Options()
        for place in self.places:
            if place.owner == operation.owner and set(names) & set(place.names):
                return self.ask_again(self.first_place(names, operation.owner), operation)
        mine = [hold for name in names if (hold := self.hold_of(name, operation.owner))]
        if self.contradicts(names, mine, options):
            return SOME
        if mine:
            for hold in mine:
                self.extend(hold, operation)
            left = min((self.left(hold) for hold in mine if hold.deadline), default=0)
            return Granted(mine[0].version, left, self.waiters(names))
        if all(self.is_free(name, options) for name in names):
            unheard = options.blocking and options.wait_ms > 0
            return self.grant(names, operation, unheard=unheard)
        if not options.wait_ms and options.blocking:
            return Held(*self.obstacle(options, names))
        if len(self.places) >= limits.WAITERS_MAX:
            return Busy("")
        for name in names:
            if len(self.queue(name)) >= limits.WAITERS_PER_LOCK:
                return QueueFull(name, len(self.queue(name)))
        place = self.new_place(operation)
        if self.closes_cycle(place):
            return Deadlock(())
        self.places.append(place)
        for name in names:
            self.tell("queued", name, place.owner, 0)
        return self.answer(place)

    def contradicts(
        self, names: tuple[LockName, ...], mine: list[ModelHold], options: Options
    ) -> bool:
        if options.limit and options.permits > options.limit:
            return True
        limits_held = {hold.limit for name in names for hold in self.held(name)} - {0}
        if options.limit and limits_held - {options.limit}:
            return True
        for hold in mine:
            if (hold.mode, hold.limit) != (mode_of(options), options.limit):
                return True
            if options.limit and hold.permits != options.permits:
                return True
        return bool(mine) and (len(mine) < len(names) or len({h.version for h in mine}) > 1)

    def first_place(self, names: tuple[LockName, ...], owner: bytes) -> ModelPlace:
        for name in names:
            for place in self.queue(name):
                if place.owner == owner:
                    return place
        raise AssertionError("no place")

    def new_place(self, operation: Acquire | AcquireAll) -> ModelPlace:
        options = operation.options or Options()
        return ModelPlace(
            self.index,
            names_of(operation),
            operation.owner,
            self.now + (options.wait_ms or limits.WAIT_MS_MAX),
            self.index if options.blocking else 0,
            operation.ttl_ms,
            operation.request,
            operation.metadata,
            options,
            options.client,
        )

    def answer(self, place: ModelPlace) -> Outcome:
        if place.ticket:
            return Blocked(place.ticket)
        return Queued(max(len(self.ahead(name, place)) for name in place.names), 0)

    def ask_again(self, place: ModelPlace, operation: Acquire | AcquireAll) -> Outcome:
        options = operation.options or Options()
        if names_of(operation) != place.names:
            return SOME
        if not options.wait_ms and options.blocking:
            return Held(*self.obstacle(place)[:3], len(self.ways(place)), NO_ADVICE)
        if (mode_of(options), options.limit) != (mode_of(place.options), place.options.limit):
            return SOME
        if options.limit and options.permits != place.options.permits:
            return SOME
        asked = self.new_place(operation)
        newer = replace(
            asked,
            index=place.index,
            metadata=asked.metadata or place.metadata,
            options=Options(
                options.wait_ms,
                place.options.priority,
                options.shared,
                options.limit,
                options.permits,
                options.reentrant,
                options.on_close,
                options.delay_ms,
                options.blocking,
                options.client,
            ),
        )
        position = self.places.index(place)
        del self.places[position]
        if newer.ticket and not place.ticket and self.closes_cycle(newer):
            self.places.insert(position, place)
            return Deadlock(())
        self.places.insert(position, newer)
        self.end_ticket(place, Unblocked("replaced"))
        if place.request != newer.request:
            self.remember_end(place, Unblocked("replaced"))
        return self.answer(newer)

    def ways(self, place: ModelPlace) -> list[ModelPlace]:
        """The queue of the lock that keeps a place waiting."""
        return self.queue(next(name for name in place.names if not self.is_free(name, place)))

    # --- deadlocks -------------------------------------------------------------------------------

    def edges(self) -> set[Edge]:
        found: set[Edge] = set()
        for place in self.places:
            if not place.ticket or place.options.limit:
                continue
            for name in place.names:
                others = [hold.owner for hold in self.held(name) if hold.mode != "semaphore"]
                others += [ahead.owner for ahead in self.ahead(name, place)]
                found |= {(place.owner, name, other) for other in others if other != place.owner}
        return found

    def closes_cycle(self, place: ModelPlace) -> bool:
        if not place.ticket:
            return False
        self.places.append(place)
        edges = self.edges()
        self.places.remove(place)
        reached: set[bytes] = set()
        while True:
            more = {to for by, _, to in edges if by == place.owner or by in reached}
            if more <= reached:
                break
            reached |= more
        if place.owner in reached:
            self.cycles[self.index] = edges
        return place.owner in reached

    # --- holds -----------------------------------------------------------------------------------

    def grant(
        self,
        names: tuple[LockName, ...],
        asked: Acquire | AcquireAll | ModelPlace,
        *,
        unheard: bool = False,
        claim: int = 0,
    ) -> Granted:
        self.last_version = max(self.last_version + 1, self.index)
        options = asked.options or Options()
        ttl = asked.ttl if isinstance(asked, ModelPlace) else asked.ttl_ms
        client = asked.client if isinstance(asked, ModelPlace) else options.client
        for name in names:
            self.holds.append(
                ModelHold(
                    name,
                    asked.owner,
                    self.last_version,
                    self.now + ttl if ttl else 0,
                    ttl,
                    asked.metadata,
                    mode_of(options),
                    options.limit,
                    options.permits if options.limit else 1,
                    options.delay_ms,
                    client if options.on_close else None,
                    unheard=unheard,
                    claim=claim,
                )
            )
            self.tell("acquired", name, asked.owner, self.last_version)
        return Granted(self.last_version, ttl, self.waiters(names))

    def take(self, name: LockName, owner: bytes, deadline: int) -> None:
        """A plain hold that ends then, whoever waits."""
        self.grant((name,), Acquire(name, owner, max(deadline - self.now, 1) if deadline else 0))
        self.holds[-1].deadline = deadline

    def heard(self, hold: ModelHold, options: Options) -> None:
        hold.unheard, hold.claim = False, 0
        hold.delay = options.delay_ms or hold.delay
        if options.on_close:
            hold.client = options.client

    def extend(self, hold: ModelHold, operation: Acquire | AcquireAll) -> None:
        options, ttl = operation.options or Options(), operation.ttl_ms
        self.heard(hold, options)
        hold.count += options.reentrant
        if hold.deadline and (not ttl or self.now + ttl >= hold.deadline):
            self.set_ttl(hold, ttl)
        hold.metadata = operation.metadata or hold.metadata
        self.tell("renewed", hold.name, hold.owner, hold.version)

    def renew(self, hold: ModelHold, ttl: int) -> int:
        self.heard(hold, Options())
        self.tell("renewed", hold.name, hold.owner, hold.version)
        return self.set_ttl(hold, ttl)

    def set_ttl(self, hold: ModelHold, ttl: int) -> int:
        if ttl == KEEP_TTL:
            ttl = hold.ttl
        hold.ttl = ttl
        hold.deadline = self.now + ttl if ttl else 0
        return ttl

    def left(self, hold: ModelHold) -> int:
        return max(hold.deadline - self.now, 1) if hold.deadline else 0

    def hold_for(self, operation: Release | Renew) -> ModelHold | NotHeld | NotOwner | Stale:
        holds = self.held(operation.name)
        if not holds:
            return NotHeld(operation.name)
        hold = self.hold_of(operation.name, operation.owner)
        if hold is None:
            return NotOwner(operation.name, holds[0].owner, holds[0].version)
        if operation.version and operation.version != hold.version:
            return Stale(operation.name, operation.version, hold.version)
        return hold

    def release(self, operation: Release) -> Outcome:
        hold = self.hold_for(operation)
        if not isinstance(hold, ModelHold):
            return hold
        if hold.count > 1:
            hold.count -= 1
            self.heard(hold, Options())
            return Released(hold.count)
        self.holds.remove(hold)
        self.tell("released", hold.name, hold.owner, hold.version)
        return Released(0, self.serve([hold.name]))

    def keep_alive(self, operation: KeepAlive) -> Kept:
        mine = [hold for hold in self.holds if hold.owner == operation.owner]
        for hold in sorted(mine, key=lambda hold: hold.name):
            self.renew(hold, operation.ttl_ms)
        kept = {(hold.name, hold.version) for hold in mine}
        lost = tuple(each[0] for each in operation.versions if each not in kept)
        return Kept(len(mine), lost if operation.versions else None)

    def break_lock(self, operation: Break) -> Outcome:
        holds = self.held(operation.name)
        if not holds:
            return NotHeld(operation.name)
        gone = [hold for hold in holds if operation.version in (0, hold.version)]
        if not gone:
            return Stale(operation.name, operation.version, holds[0].version)
        for hold in gone:
            self.holds.remove(hold)
            self.tell("broken", hold.name, hold.owner, hold.version, operation.reason)
            self.delay(hold)
        self.serve([operation.name])
        return Broken(gone[0].owner, gone[0].version)

    def delay(self, hold: ModelHold) -> None:
        if hold.delay:
            until = self.now + hold.delay
            self.delays[hold.name] = max(until, self.delays.get(hold.name, 0))

    # --- places ----------------------------------------------------------------------------------

    def serve(self, names: list[LockName]) -> bytes | None:
        served: list[bytes] = []
        for name in names:
            while waiting := self.queue(name):
                place = waiting[0]
                if not all(self.is_free(each, place) for each in place.names):
                    break
                self.places.remove(place)
                unheard = bool(place.ticket)
                granted = self.grant(place.names, place, unheard=unheard, claim=place.grace)
                self.end_ticket(place, granted)
                self.remember_end(place, granted)
                served.append(place.owner)
        return served[0] if served else None

    def leave(self, place: ModelPlace, outcome: Outcome, reason: bytes) -> None:
        self.unqueue(place, outcome, reason)
        self.serve(list(place.names))

    def unqueue(self, place: ModelPlace, outcome: Outcome, reason: bytes) -> None:
        self.places.remove(place)
        for name in place.names:
            self.tell("cancelled", name, place.owner, 0, reason)
        self.end_ticket(place, outcome)
        if reason != b"disconnected":
            self.remember_end(place, outcome)

    def end_ticket(self, place: ModelPlace, outcome: Outcome) -> None:
        if place.ticket:
            self.ended.append(
                Ended(place.ticket, place.client, outcome, place.names, place.owner, place.request)
            )

    def remember_end(self, place: ModelPlace, outcome: Outcome) -> None:
        if place.request and (place.owner, place.request) not in self.remembered:
            self.remember(place.owner, place.request, place.names, outcome)

    # --- clients ---------------------------------------------------------------------------------

    def attached(self) -> set[ClientId]:
        clients = {place.client for place in self.places if self.is_attached(place)}
        return {client for client in clients | {hold.client for hold in self.holds} if client}

    def is_attached(self, place: ModelPlace) -> bool:
        return bool(place.ticket) or place.options.on_close

    def disconnect(self, clients: list[ClientId]) -> None:
        places = [each for each in self.places if each.client in clients and self.is_attached(each)]
        for place in sorted(places, key=lambda each: (each.options.priority, -each.index)):
            if place in self.places:
                self.part(place)
        for client in clients:
            tied = [(hold.name, hold.owner) for hold in self.holds if hold.client == client]
            for name, owner in sorted(tied):
                hold = self.hold_of(name, owner)
                if hold is not None and hold.client == client:
                    self.holds.remove(hold)
                    self.tell("released", name, owner, hold.version, b"disconnected")
                    self.delay(hold)
                    self.serve([name])

    def part(self, place: ModelPlace) -> None:
        if not place.request:
            self.leave(place, Unblocked("disconnected"), b"disconnected")
            return
        self.end_ticket(place, Unblocked("disconnected"))
        grace = self.now + limits.WAITER_GRACE_MS
        position = self.places.index(place)
        self.places[position] = replace(place, ticket=0, client=None, grace=grace)

    def unblock(self, operation: Unblock) -> Outcome:
        for place in self.places:
            if place.ticket and place.client == operation.client:
                if operation.error:
                    self.leave(place, Unblocked("unblocked"), b"unblocked")
                else:
                    self.leave(place, TimedOut(*self.obstacle(place)), b"timeout")
                return Cancelled(1)
        return Cancelled(0)

    def undelivered(self, operation: Undelivered) -> Done:
        answer = self.remembered.get((operation.owner, operation.request))
        for name in operation.names:
            hold = self.hold_of(name, operation.owner)
            if hold is None or hold.version != operation.version or not hold.unheard:
                continue
            if operation.request and answer and isinstance(answer.outcome, Granted):
                hold.unheard, hold.claim = False, self.now + limits.WAITER_GRACE_MS
                continue
            self.holds.remove(hold)
            self.tell("released", name, hold.owner, hold.version, b"unclaimed")
            self.serve([name])
        return Done()

    def tell(
        self, kind: str, name: LockName, owner: bytes, version: int, reason: bytes = b""
    ) -> None:
        self.events.append(Event(kind, name, owner, version, reason))
        if kind not in ("queued", "cancelled"):
            self.changes[name] += 1


def names_of(operation: Acquire | AcquireAll) -> tuple[LockName, ...]:
    if isinstance(operation, Acquire):
        return (operation.name,)
    return tuple(dict.fromkeys(operation.names))


def mode_of(options: Options) -> str:
    if options.shared:
        return "shared"
    return "semaphore" if options.limit else "exclusive"
