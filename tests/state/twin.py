"""A lock table and the naive model side by side: everything that can be seen must be the same."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from resplock.operations import (
    KEEP_TTL,
    Acquire,
    AcquireAll,
    Break,
    Busy,
    Cancel,
    ClientId,
    Deadlock,
    Disconnect,
    Ended,
    Event,
    Executed,
    GetLock,
    Granted,
    Held,
    KeepAlive,
    LockInfo,
    NodeGone,
    Operation,
    Options,
    Outcome,
    Queued,
    Refused,
    Release,
    Renew,
    Scripted,
    Settle,
    TimedOut,
    Unblock,
    Undelivered,
    Watched,
)
from resplock.state import queries, snapshots
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import LockName, NodeId, lock_name
from tests.state.model import NO_ADVICE, SOME, Edge, Model, ModelHold, mode_of


def image(table: LockTable) -> list[bytes]:
    return list(iter(TableSnapshot(table).next_chunk, None))


def plain(outcome: Outcome) -> Outcome:
    """The outcome without advice, estimates, texts and cycles, which the model does not compute."""
    match outcome:
        case Held() | TimedOut():
            return replace(outcome, advice=NO_ADVICE)
        case Queued():
            return replace(outcome, estimated_wait_ms=0)
        case Refused():
            return SOME
        case Deadlock():
            return Deadlock(())
        case Busy():
            return Busy("")
        case Executed(results) if results is not None:
            return Executed(tuple([plain(result) for result in results]))
        case Scripted(resp2) if resp2.startswith(b"-"):
            return Scripted(resp2.split()[0])
        case _:
            return outcome


def numbers_of(first: int, outcomes: Sequence[Outcome]) -> dict[int, tuple[int, ...]]:
    """What an entry's WATCHes were answered: see `Model.numbers`."""
    return {
        index: outcome.numbers
        for index, outcome in enumerate(outcomes, first)
        if isinstance(outcome, Watched)
    }


class Twin:
    """Apply entries to both; AssertionError as soon as they differ."""

    def __init__(self) -> None:
        self.table, self.model = LockTable(), Model()
        self.table.keeps_events = True
        self.index, self.stamp = 1, 1
        self.owed: set[int] = set()
        """Tickets without an end."""
        self.untold: list[Ended] = []
        """Grants that ended a wait, for `Undelivered`."""

    def step(self, elapsed: int, commands: list[Operation]) -> list[Outcome]:
        table, model = self.table, self.model
        self.stamp += elapsed
        version = table.last_version
        outcomes = table.apply(self.index, self.stamp, commands)
        model.numbers = numbers_of(self.index, outcomes)
        expected = model.apply(self.index, self.stamp, commands)
        self.index += len(commands) or 1
        answered = [plain(outcome) for outcome in outcomes]
        assert answered == expected, f"{answered} is not {expected}"
        self.check_ends(table.take_ended())
        assert by_lock(table.take_events()) == by_lock(model.events)
        self.check_cycles(commands, outcomes)
        self.check_state()
        assert table.last_version == model.last_version >= version
        return outcomes

    def check_ends(self, ended: list[Ended]) -> None:
        """The same ends, in the same order, and one for each ticket."""
        told = [replace(end, outcome=plain(end.outcome)) for end in ended]
        assert told == self.model.ended, f"{told} is not {self.model.ended}"
        open_before = self.owed
        self.owed = {place.ticket for place in self.table.queues.places.values() if place.ticket}
        assert self.owed == {place.ticket for place in self.model.places if place.ticket}
        tickets = [end.ticket for end in ended]
        assert len(set(tickets)) == len(tickets), "two ends of one ticket"
        assert open_before - self.owed <= set(tickets), "a ticket without an end"
        assert not set(tickets) & self.owed, "an end of a ticket that goes on"
        self.untold += [end for end in ended if isinstance(end.outcome, Granted)]

    def check_cycles(self, commands: list[Operation], outcomes: list[Outcome]) -> None:
        """Every cycle that is named is one."""
        first = self.index - len(commands)
        for position, edges in self.model.cycles.items():
            command, outcome = commands[position - first], outcomes[position - first]
            assert isinstance(command, Acquire | AcquireAll)
            assert isinstance(outcome, Deadlock)
            check_cycle(outcome, command.owner, edges)

    def check_state(self) -> None:
        table, model = self.table, self.model
        table.check()
        assert holds(table) == {(hold.name, hold.owner): seen_hold(hold) for hold in model.holds}
        assert table.totals.expired == model.expired
        names = {hold.name for hold in model.holds}
        names |= {name for place in model.places for name in place.names}
        for name in names | set(model.delays):
            assert seen(table, name) == expected_info(model, name)
        assert table.attached_lives() == sorted(
            {(client.node, client.incarnation) for client in model.attached()}
        )
        assert sum(table.locks_by_db) == len({hold.name for hold in model.holds})
        assert {name for name, _ in table.locks} == names | set(model.delays)

    def restore(self) -> None:
        """Go on with a table that was restored from a snapshot."""
        self.table = snapshots.restore(iter(image(self.table)))
        self.table.keeps_events = True
        self.table.check()


def by_lock(events: Iterable[Event]) -> dict[LockName, list[Event]]:
    """Events of one lock come in order; between locks, ends of one entry have none."""
    sorted_out: dict[LockName, list[Event]] = {}
    for event in events:
        sorted_out.setdefault(event.name, []).append(event)
    return sorted_out


def check_cycle(outcome: Deadlock, asker: bytes, edges: set[Edge]) -> None:
    waiting = asker
    for name, owner in outcome.cycle:
        assert (waiting, name, owner) in edges
        waiting = owner
    assert waiting == asker, "the cycle is not closed"
    assert len({owner for _, owner in outcome.cycle}) == len(outcome.cycle)


def holds(table: LockTable) -> dict[tuple[LockName, bytes], object]:
    return {
        (name, hold.owner): (
            hold.version,
            hold.deadline_ms,
            hold.ttl_ms,
            hold.metadata,
            hold.terms.holds if hold.terms else 1,
            hold.terms.client if hold.terms else None,
            hold.terms.claim_ms if hold.terms else 0,
        )
        for name, lock in table.locks
        for hold in lock.holds
    }


def seen_hold(hold: ModelHold) -> object:
    return (
        hold.version,
        hold.deadline,
        hold.ttl,
        hold.metadata,
        hold.count,
        hold.client,
        hold.claim,
    )


def seen(table: LockTable, name: LockName) -> object:
    """What LOCK.GET WAITERS shows of what the model knows."""
    info = queries.answer(table, GetLock(name, waiters=True), table.clock_ms)
    if info is None:
        return None
    assert isinstance(info, LockInfo)
    assert info.waiters is not None
    return (
        info.owner,
        info.mode,
        info.version,
        info.ttl_ms,
        info.limit,
        info.waiter_count,
        [(each.owner, each.version, each.permits, each.holds) for each in info.holders],
        [
            (each.owner, each.client, each.timeout_at, each.priority, each.position, each.mode)
            for each in info.waiters
        ],
    )


def expected_info(model: Model, name: LockName) -> object:
    held, queue = model.held(name), model.queue(name)
    if not held and not queue:
        return None
    mode = held[0].mode if held else mode_of(queue[0].options)
    limit = held[0].limit if held else queue[0].options.limit
    return (
        held[0].owner if held and mode == "exclusive" else None,
        mode,
        held[0].version if held else 0,
        model.left(held[0]) if held else 0,
        1 if mode == "exclusive" else limit,
        len(queue),
        [(h.owner, h.version, h.permits, h.count) for h in held] if mode != "exclusive" else [],
        [
            (
                place.owner,
                place.client if place.ticket else None,
                place.end(),
                place.options.priority,
                position,
                mode_of(place.options),
            )
            for position, place in enumerate(queue)
        ],
    )


# --- random commands -----------------------------------------------------------------------------

NAMES = [lock_name(0, b"a"), lock_name(1, b"a"), lock_name(0, b"b{a}"), lock_name(0, b"c")]
OWNERS = [b"me", b"you", b"they", b"it"]
CLIENTS = [
    ClientId(NodeId(node), life, serial) for node in "nm" for life in (1, 2) for serial in (1, 2)
]
TTLS = [0, 2, 50, 700, 3000, 20_000]
STEPS = [0, 0, 1, 3, 60, 900, 4000, 10_000]


KINDS = ["exclusive", "shared", "semaphore", "reentrant"]


class Chance:
    """Random commands, of few locks, owners and kinds, so that they meet."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = NAMES[: rng.choice([1, 2, 4])]
        self.owners = OWNERS[: rng.choice([2, 3, 4])]
        self.kinds = rng.sample(KINDS, rng.choice([1, 2, 4]))
        self.clients = CLIENTS[: rng.choice([2, 8])]
        self.requests = [b"", *([b"", b"r", b"s"] if rng.random() < 0.7 else [])]

    def options(self) -> Options:
        pick = self.rng.choice
        kind = pick(self.kinds)
        return Options(
            wait_ms=pick([0, 1, 40, 800, 5000, 30_000]),
            priority=pick([0, 0, 0, 0, 5, -5]),
            shared=kind == "shared",
            limit=pick([2, 3, 3]) if kind == "semaphore" else 0,
            permits=pick([1, 1, 2, 3]) if kind == "semaphore" else 1,
            reentrant=kind == "reentrant",
            on_close=pick([False, False, True]),
            delay_ms=pick([0, 0, 0, 30, 2000]),
            blocking=pick([True, True, True, False]),
            client=pick(self.clients),
        )

    def acquire(self) -> Operation:
        pick = self.rng.choice
        owner, ttl, request = pick(self.owners), pick(TTLS), pick(self.requests)
        metadata = pick([(), (), ((b"host", b"x"),)])
        kind = self.rng.randint(0, 9)
        if kind < 3:
            return Acquire(pick(self.names), owner, ttl, request, metadata)
        if kind < 8:
            return Acquire(pick(self.names), owner, ttl, request, metadata, self.options())
        names = tuple(pick(self.names) for _ in range(self.rng.randint(1, 3)))
        options = replace(
            self.options(), shared=False, limit=0, permits=1, reentrant=False, delay_ms=0
        )
        return AcquireAll(names, owner, ttl, request, metadata, options)

    def command(self, untold: list[Ended]) -> Operation:
        pick = self.rng.choice
        name, owner = pick(self.names), pick(self.owners)
        version = pick([0, 0, self.rng.randint(1, 60)])
        match self.rng.randint(0, 25):
            case kind if kind < 12:
                return self.acquire()
            case 12 | 13 | 14 | 15:
                return Release(name, owner, version)
            case 16:
                return Renew(name, owner, version, pick([KEEP_TTL, *TTLS]))
            case 17:
                return KeepAlive(owner, pick([KEEP_TTL, *TTLS]), ((name, self.rng.randint(1, 60)),))
            case 18:
                return Break(name, version, b"why")
            case 19:
                return Cancel(name, owner)
            case 20 | 24 | 25:
                return Disconnect(tuple(pick(self.clients) for _ in range(self.rng.randint(1, 2))))
            case 21:
                return NodeGone(NodeId(pick("nm")), pick([0, 1, 2]))
            case 22:
                return pick([Unblock(pick(self.clients), pick([True, False])), Settle((name,))])
            case _:
                if not untold:
                    return Settle((name,))
                end = pick(untold)
                assert isinstance(end.outcome, Granted)
                return Undelivered(end.names, end.owner, end.outcome.version, end.request)


def compare(seed: int, steps: int = 60, restored_every: int = 12) -> None:
    """A random run, with snapshots and restores in between."""
    rng = random.Random(seed)
    chance, twin = Chance(rng), Twin()
    for step in range(steps):
        if step % restored_every == restored_every - 1:
            twin.restore()
        commands = [chance.command(twin.untold) for _ in range(rng.randint(0, 4))]
        twin.step(rng.choice(STEPS), commands)
