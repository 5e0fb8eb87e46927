"""What clients ask for when they ask for locks: of which kind, and whether they wait in line.

A world says how often (`Knobs`). Each lock is used as one kind most of the time, and now and then as
another one, which is refused or waits.
"""

from __future__ import annotations

import random

from msgspec.structs import replace

from resplock import limits
from resplock.operations import Acquire, AcquireAll, ClientId, Operation, Options, Query
from resplock.types import LockName
from tests.sim.knobs import Knobs
from tests.sim.world import MS

_STRAY = 0.06
"""How often a lock is asked for as another kind than usual."""
_LIMIT = 3
_PLAIN = Options()


def options_of(command: Operation | Query) -> Options:
    """How it asks for locks."""
    return getattr(command, "options", None) or _PLAIN


def waits(command: Operation | Query) -> bool:
    """Whether its connection is blocked while it waits in line."""
    options = options_of(command)
    return options.blocking and options.wait_ms > 0


def wait_us(command: Operation | Query) -> int:
    """How long its answer may take because it waits in line."""
    return options_of(command).wait_ms * MS if waits(command) else 0


def names_of(command: Operation | Query) -> tuple[LockName, ...]:
    """The locks that it asks for, each once."""
    if isinstance(command, AcquireAll):
        return tuple(dict.fromkeys(command.names))
    return (command.name,) if isinstance(command, Acquire) else ()


def is_exclusive(command: Operation | Query) -> bool:
    """Whether a grant keeps everybody else out."""
    options = options_of(command)
    return not (options.shared or options.limit)


def from_connection(command: Operation | Query, id: ClientId) -> Operation | Query:
    """The same, asked on this connection, if it needs to be known which one that is."""
    options = options_of(command)
    if isinstance(command, Acquire | AcquireAll) and (options.on_close or waits(command)):
        return replace(command, options=replace(options, client=id))
    return command


class Asking:
    """One client's taste."""

    def __init__(self, rng: random.Random, knobs: Knobs, keys: list[LockName]) -> None:
        self._rng = rng
        self._knobs = knobs
        self._keys = keys
        self._usual = {
            name: knobs.kinds[number % len(knobs.kinds)] for number, name in enumerate(keys)
        }

    def of(self, plain: Acquire, *, may_wait: bool) -> Acquire | AcquireAll:
        """An acquisition like this one, as this world has them."""
        rng, knobs = self._rng, self._knobs
        options = self._kind(plain.name)
        delay_ms = rng.choice((200, 1_000)) if rng.random() < knobs.delays else 0
        options = replace(options, delay_ms=delay_ms, on_close=rng.random() < knobs.on_close)
        if may_wait:
            options = self._waiting(options)
        several = len(self._keys) > 1 and rng.random() < knobs.several
        if not several:
            return replace(plain, options=options if options != _PLAIN else None)
        names = rng.sample(self._keys, rng.randrange(2, min(len(self._keys), 4) + 1))
        options = replace(options, shared=False, limit=0, permits=1, reentrant=False)
        return AcquireAll(tuple(names), plain.owner, plain.ttl_ms, plain.request, (), options)

    def again(self, plain: Acquire, former: Options) -> Acquire:
        """An acquisition of a lock that is held already, as what it was asked for."""
        if self._rng.random() < _STRAY:
            return plain
        return replace(plain, options=replace(former, wait_ms=0, blocking=True, client=None))

    def _kind(self, name: LockName) -> Options:
        rng = self._rng
        kind = self._usual[name]
        if rng.random() < _STRAY:
            kind = rng.choice(("exclusive", "reentrant", "shared", "semaphore"))
        if kind == "shared":
            return Options(shared=rng.random() < 0.7)
        if kind == "semaphore":
            limit = _LIMIT - (rng.random() < _STRAY)
            return Options(limit=limit, permits=rng.choice((1, 1, 1, 2, limit)))
        return Options(reentrant=kind == "reentrant")

    def _waiting(self, options: Options) -> Options:
        rng, knobs = self._rng, self._knobs
        dice = rng.random()
        if dice >= knobs.waits + (1 - knobs.waits) * knobs.enqueues:
            return options
        return replace(
            options,
            wait_ms=min(rng.choice(knobs.wait_ms), limits.WAIT_MS_MAX),
            priority=rng.choice(knobs.priorities),
            blocking=dice < knobs.waits,
        )
