"""A naive model of the lock table: one dict, no derived structures, nothing clever.

It is written from COMMANDS as users read them, not from the code, and is compared with the table
after every entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from resplock import limits
from resplock.operations import (
    KEEP_TTL,
    Acquire,
    Advice,
    Break,
    Broken,
    Done,
    Granted,
    Held,
    KeepAlive,
    Kept,
    Lost,
    Metadata,
    NotHeld,
    NotOwner,
    Operation,
    Outcome,
    Release,
    Released,
    Renew,
    Renewed,
    Settle,
    SetUnixOffset,
    Stale,
)

NO_ADVICE = Advice(0)
"""The model computes no advice; tests compare outcomes without it."""


@dataclass
class ModelHold:
    owner: bytes
    version: int
    deadline: int
    ttl: int
    metadata: Metadata


class Model:
    def __init__(self) -> None:
        self.now = 0
        self.held: dict[bytes, ModelHold] = {}
        self.remembered: dict[tuple[bytes, bytes], tuple[int, bytes, Outcome]] = {}
        self.last_version = 0
        self.expired = 0

    def apply(self, first: int, stamp: int, operations: list[Operation]) -> list[Outcome]:
        self.now = stamp
        for name, hold in list(self.held.items()):
            if hold.deadline and hold.deadline <= stamp:
                del self.held[name]
                self.expired += 1
        self.remembered = {
            key: value
            for key, value in self.remembered.items()
            if value[0] + limits.REQUEST_REMEMBERED_MS > stamp
        }
        return [self.run(operation, first + i) for i, operation in enumerate(operations)]

    def run(self, operation: Operation, index: int) -> Outcome:
        match operation:
            case Acquire(request=b""):
                return self.acquire(operation, index)
            case Acquire():
                return self.acquire_once(operation, index)
            case Release():
                refusal = self.refusal(operation)
                if refusal is None:
                    del self.held[operation.name]
                return refusal or Released()
            case Renew():
                refusal = self.refusal(operation)
                if refusal is not None:
                    return refusal
                hold = self.held[operation.name]
                return Renewed(hold.version, self.set_ttl(hold, operation.ttl_ms))
            case KeepAlive():
                mine = {n: h for n, h in self.held.items() if h.owner == operation.owner}
                for hold in mine.values():
                    self.set_ttl(hold, operation.ttl_ms)
                lost = tuple(
                    name
                    for name, version in operation.versions
                    if name not in mine or mine[name].version != version
                )
                return Kept(len(mine), lost if operation.versions else None)
            case Break():
                held = self.held.get(operation.name)
                if held is None:
                    return NotHeld(operation.name)
                if operation.version and operation.version != held.version:
                    return Stale(operation.name, operation.version, held.version)
                del self.held[operation.name]
                return Broken(held.owner, held.version)
            case Settle() | SetUnixOffset():
                return Done()

    def refusal(self, operation: Release | Renew) -> Outcome | None:
        hold = self.held.get(operation.name)
        if hold is None:
            return NotHeld(operation.name)
        if hold.owner != operation.owner:
            return NotOwner(operation.name, hold.owner, hold.version)
        if operation.version and operation.version != hold.version:
            return Stale(operation.name, operation.version, hold.version)
        return None

    def acquire_once(self, operation: Acquire, index: int) -> Outcome:
        key = (operation.owner, operation.request)
        if key in self.remembered:
            _, name, outcome = self.remembered[key]
            if isinstance(outcome, Granted):
                hold = self.held.get(name)
                if not hold or hold.version != outcome.version:
                    return Lost(outcome.version)
            return outcome
        outcome = self.acquire(operation, index)
        self.remembered[key] = (self.now, operation.name, outcome)
        mine = [k for k in self.remembered if k[0] == operation.owner]
        if len(mine) > limits.REQUESTS_PER_OWNER:
            del self.remembered[mine[0]]
        return outcome

    def acquire(self, operation: Acquire, index: int) -> Outcome:
        hold = self.held.get(operation.name)
        if hold is None:
            self.last_version = max(self.last_version + 1, index)
            self.held[operation.name] = ModelHold(
                operation.owner,
                self.last_version,
                self.now + operation.ttl_ms if operation.ttl_ms else 0,
                operation.ttl_ms,
                operation.metadata,
            )
            return Granted(self.last_version, operation.ttl_ms)
        if hold.owner != operation.owner:
            return Held(hold.owner, hold.version, self.left(hold), 0, NO_ADVICE)
        if hold.deadline and (not operation.ttl_ms or self.now + operation.ttl_ms >= hold.deadline):
            self.set_ttl(hold, operation.ttl_ms)
        hold.metadata = operation.metadata or hold.metadata
        return Granted(hold.version, self.left(hold))

    def set_ttl(self, hold: ModelHold, ttl: int) -> int:
        if ttl == KEEP_TTL:
            ttl = hold.ttl
        hold.ttl = ttl
        hold.deadline = self.now + ttl if ttl else 0
        return ttl

    def left(self, hold: ModelHold) -> int:
        return hold.deadline - self.now if hold.deadline else 0
