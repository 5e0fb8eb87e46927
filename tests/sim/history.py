"""What clients asked and were told, and what must hold of it (RELIABILITY section 3, H1 to H8).

Times are the world's, in microseconds. A call that was never answered, or answered InDoubt, may have
taken effect at any time after it was sent, or never. A call that was refused certainly did not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from resplock.errors import CommandError
from resplock.node import Result
from resplock.operations import (
    Acquire,
    Break,
    Busy,
    CheckVersion,
    GetLock,
    Granted,
    InDoubt,
    KeepAlive,
    Kept,
    ListLocks,
    LockPage,
    Moved,
    NoLeader,
    Operation,
    Query,
    Release,
    Released,
    Renew,
    Renewed,
    Stats,
)
from resplock.types import LockName
from tests.sim.linearizable import NEVER, Step, explain
from tests.sim.world import MS, Violation

TAG = b"op"
"""Acquires carry their call's number in their metadata, so that it is found again in the log."""


@dataclass(eq=False, slots=True)
class Call:
    """One command of one client. `previous`: the call before it in its pipeline."""

    number: int
    client: int
    command: Operation | Query
    invoked: int
    previous: Call | None = None
    returned: int = NEVER
    result: Result | None = None

    @property
    def is_refused(self) -> bool:
        """It certainly did nothing."""
        return isinstance(self.result, Moved | NoLeader | Busy | CommandError)

    @property
    def is_answered(self) -> bool:
        return self.returned < NEVER and not (self.is_refused or isinstance(self.result, InDoubt))


@dataclass
class Expiry:
    """A hold ended with time: in the entry that was appended and first applied at these moments."""

    name: LockName
    version: int
    appended: int
    applied: int


@dataclass
class History:
    """See the module. `keys` are all locks that clients know of."""

    keys: list[LockName]
    calls: list[Call] = field(default_factory=list)
    expiries: list[Expiry] = field(default_factory=list)
    outcomes: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """By call number: what each entry that carried it came to."""
    applied: dict[int, int] = field(default_factory=dict)
    """By call number: when an entry that carried it was first applied."""
    unknown: int = 0
    """Locks for which the search was given up."""

    def call(self, client: int, command: Operation | Query, now: int) -> Call:
        """A client is about to send a command."""
        call = Call(len(self.calls), client, command, now)
        self.calls.append(call)
        return call

    # --- all checks ------------------------------------------------------------------------------

    def check(self, final: dict[LockName, tuple[bytes, int]], now: int, rate_max: float) -> None:
        """Raise Violation unless all of it can be explained.

        final: who holds what at the end, with which version. rate_max: how fast a clock may run.
        """
        self._check_log()
        self._check_versions()
        self._check_released()
        self._check_ttls(rate_max)
        self._check_totals()
        self._check_linearizable(final, now)

    def _check_log(self) -> None:
        """H5, I9: what was refused is not in the log; what was answered is, once, with that answer."""
        sent: Counter[int] = Counter()
        for call in self.calls:
            tag = tag_of(call.command)
            if tag is not None and not call.is_refused:
                sent[tag] += 1
        for call in self.calls:
            tag = tag_of(call.command)
            if tag is None:
                continue
            outcomes = self.outcomes.get(tag, [])
            if len(outcomes) > sent[tag]:
                raise Violation(f"call {call.number} {call.command} took effect {outcomes}")
            if call.is_answered and call.result not in outcomes:
                raise Violation(
                    f"call {call.number} {call.command} was answered {call.result}, and the log "
                    f"says {outcomes}"
                )

    def _check_versions(self) -> None:
        """H2: a grant that was asked for after another had returned has the higher version."""
        first_returned: dict[int, int] = {}
        first_invoked: dict[int, int] = {}
        owners: dict[int, tuple[LockName, bytes]] = {}
        for call in self.calls:
            if isinstance(call.result, Granted) and isinstance(call.command, Acquire):
                version = call.result.version
                whose = (call.command.name, call.command.owner)
                if owners.setdefault(version, whose) != whose:
                    raise Violation(f"version {version} was given to {whose} and {owners[version]}")
                first_returned[version] = min(first_returned.get(version, NEVER), call.returned)
        for call in self.calls:
            tag = tag_of(call.command)
            for outcome in self.outcomes.get(tag, ()) if tag is not None else ():
                if isinstance(outcome, Granted):
                    version = outcome.version
                    first_invoked[version] = min(first_invoked.get(version, NEVER), call.invoked)
        returned = sorted((when, version) for version, when in first_returned.items())
        highest = list(accumulate((version for _, version in returned), max))
        times = [when for when, _ in returned]
        for version, invoked in first_invoked.items():
            before = bisect_right(times, invoked - 1)
            if before and highest[before - 1] > version:
                raise Violation(
                    f"version {version} was asked for after {highest[before - 1]} was granted"
                )

    def _check_released(self) -> None:
        """H4: no success by a version after its release was acknowledged."""
        released: dict[tuple[LockName, int], int] = {}
        for call in self.calls:
            match call.command, call.result:
                case Release(name=name, version=version), Released() if version:
                    released[name, version] = min(
                        released.get((name, version), NEVER), call.returned
                    )
        for call in self.calls:
            match call.command, call.result:
                case (Renew(name=name), Renewed(version=version)) | (
                    Acquire(name=name, request=b""),
                    Granted(version=version),
                ):
                    if released.get((name, version), NEVER) < call.invoked:
                        raise Violation(f"version {version} is used after its release: {call}")

    def _check_ttls(self, rate_max: float) -> None:
        """H7: no hold ends before its TTL has passed since it was asked for."""
        asked: dict[int, list[tuple[int, int]]] = defaultdict(list)
        unsure: set[tuple[LockName, bytes]] = set()  # may have been given a shorter TTL
        whose: dict[int, tuple[LockName, bytes]] = {}
        for call in self.calls:
            match call.command, call.result:
                case Renew(name=name, owner=owner), _ if not (call.is_answered or call.is_refused):
                    unsure.add((name, owner))
                case Acquire(name=name, owner=owner), Granted(version=version):
                    whose[version] = name, owner
            match call.command, call.result:
                case Acquire(request=b""), Granted(version=version, ttl_ms=ttl_ms):
                    asked[version].append((call.invoked, ttl_ms))
                case Renew(), Renewed(version=version, ttl_ms=ttl_ms):
                    asked[version].append((call.invoked, ttl_ms))
        for expiry in self.expiries:
            ends = [at + ttl_ms * MS / rate_max for at, ttl_ms in asked[expiry.version] if ttl_ms]
            if whose.get(expiry.version) in unsure or not ends:
                continue
            if expiry.applied < min(ends) - 2 * MS:
                raise Violation(f"{expiry} came before {min(ends)}, the end of its TTL")

    def _check_totals(self) -> None:
        """STATS never shows less than what had returned before it was asked for."""
        granted = sorted(
            (call.returned, call.result.version)
            for call in self.calls
            if isinstance(call.result, Granted)
        )
        times = [when for when, _ in granted]
        highest = list(accumulate((version for _, version in granted), max))
        for call in self.calls:
            if isinstance(call.result, Stats):
                before = bisect_right(times, call.invoked - 1)
                if before and call.result.last_version < highest[before - 1]:
                    raise Violation(f"{call} is stale: {highest[before - 1]} had been granted")

    # --- H1 --------------------------------------------------------------------------------------

    def _check_linearizable(self, final: dict[LockName, tuple[bytes, int]], now: int) -> None:
        by_key: dict[LockName, list[Step]] = {name: [] for name in self.keys}
        for call in self._told_by_the_log():
            for name, step in steps_of(call, self.keys):
                by_key[name].append(step)
        for expiry in self.expiries:
            step = Step("expire", expiry.appended, expiry.applied, version=expiry.version)
            by_key[expiry.name].append(step)
        for name in self.keys:
            owner, version = final.get(name, (b"", 0))
            reply = ("info", owner, version) if owner else ("nil",)
            by_key[name].append(Step("get", now, now, reply=reply))
            explained = explain(by_key[name])
            if explained is None:
                self.unknown += 1
            elif not explained:
                raise Violation(f"{name!r} is not linearizable:\n{table(by_key[name])}")

    def _told_by_the_log(self) -> Iterator[Call]:
        """The calls that may have done something. Of an unanswered one that carries a number, and
        was sent once, the log tells whether it did, and what came of it: the search is shorter."""
        sent = Counter(tag_of(call.command) for call in self.calls if not call.is_refused)
        for call in self.calls:
            tag = tag_of(call.command)
            if call.is_refused:
                continue
            if call.is_answered or tag is None or sent[tag] > 1:
                yield call
            elif tag in self.outcomes:
                yield replace(call, result=self.outcomes[tag][0], returned=self.applied[tag])


def tag_of(command: Operation | Query) -> int | None:
    """The number that the command carries into the log, if it is of a kind that can."""
    match command:
        case Acquire(metadata=((field, value), *_)) if field == TAG:
            return int(value)
        case Break(reason=reason) if reason:
            return int(reason)
    return None


def steps_of(call: Call, keys: list[LockName]) -> list[tuple[LockName, Step]]:
    """What a call is for each lock that it concerns. Without an answer, what it may have done."""
    command, result = call.command, call.result
    answered = call.is_answered
    returned = call.returned if answered else NEVER
    common: dict[str, Any] = {"invoked": call.invoked, "returned": returned, "call": call.number}
    if call.previous is not None and answered and call.previous.is_answered:
        common["after"] = call.previous.number
    match command:
        case Acquire():
            reply = reply_of(result) if answered else None
            step = Step(
                "acquire", owner=command.owner, request=command.request, reply=reply, **common
            )
            return [(command.name, step)]
        case Renew() if not answered:
            return []  # whether it took effect shows in no reply
        case Release() | Renew() | Break():
            reply = reply_of(result) if answered else None
            kind = type(command).__name__.lower()
            owner = b"" if isinstance(command, Break) else command.owner
            step = Step(kind, owner=owner, version=command.version, reply=reply, **common)
            return [(command.name, step)]
        case KeepAlive() if isinstance(result, Kept) and result.lost is not None:
            return [
                (name, Step("keep", owner=command.owner, version=version,
                            reply=("lost" if name in result.lost else "kept",), **common))
                for name, version in command.versions
            ]  # fmt: skip
        case GetLock() if answered:
            return [(command.name, Step("get", reply=_info(result), **common))]
        case CheckVersion() if answered:
            step = Step("check", version=command.version, reply=(result,), **common)
            return [(command.name, step)]
        case ListLocks() if isinstance(result, LockPage):
            found = {info.name: info for info in result.locks}
            return [
                (name, Step("get", reply=_info(found.get(name)), **common))
                for name in keys
                if name[0] == command.db
            ]
    return []


def reply_of(result: Any) -> tuple[Any, ...]:
    """An outcome as the model of one lock knows it: its kind, and whom and which version it names."""
    kind = type(result).__name__.lower()
    fields = [getattr(result, each, None) for each in ("owner", "holder", "current", "version")]
    return (kind, *(value for value in fields if value is not None))


def _info(result: Any) -> tuple[Any, ...]:
    return ("info", result.owner, result.version) if result is not None else ("nil",)


def table(steps: list[Step]) -> str:
    """For people."""
    lines = [
        f"  {step.invoked / 1e6:10.6f} {step.returned / 1e6 if step.returned < NEVER else NEVER:10.6f} "
        f"{step.kind:<8} {step.owner.decode()} v{step.version} {step.request.decode()} -> {step.reply}"
        for step in sorted(steps, key=lambda step: step.invoked)
    ]
    return "\n".join(lines)
