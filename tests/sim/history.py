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
from typing import Any, TypeAlias

import msgspec

from resplock.errors import CommandError
from resplock.node import Result
from resplock.operations import (
    Acquire,
    AcquireAll,
    Break,
    Bulk,
    Busy,
    CheckVersion,
    Evaluate,
    GetLock,
    Granted,
    Held,
    InDoubt,
    KeepAlive,
    Kept,
    ListLocks,
    LockInfo,
    LockPage,
    Lost,
    Metadata,
    Moved,
    NoLeader,
    Number,
    Operation,
    Query,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Scripted,
    SetString,
    Stats,
    TimedOut,
    WrongType,
)
from resplock.types import LockName
from tests.sim import strings
from tests.sim.asking import names_of, options_of
from tests.sim.linearizable import EXCLUSIVE, NEVER, Kind, Step, explain
from tests.sim.world import MS, Violation

Holds: TypeAlias = dict[LockName, tuple[bytes | int, ...]]
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
    is_left: bool = False
    """Its client has gone away on purpose while it waited."""

    @property
    def is_refused(self) -> bool:
        """It certainly did nothing."""
        return isinstance(self.result, Moved | NoLeader | Busy | CommandError)

    @property
    def is_refused_try(self) -> bool:
        """It may have been refused by a read, of which the log knows nothing."""
        match self.command, self.result:
            case (Acquire() | AcquireAll()) as asked, Held() | Refused():
                options = options_of(asked)
                return not asked.request and not options.wait_ms and options.blocking
            case SetString(condition="NX"), Bulk() | Number(0) | WrongType():
                return True
            case Evaluate(), Scripted(resp2):
                return resp2 == b":0\r\n" or resp2.startswith(b"-")
            case _:
                return False

    @property
    def is_answered(self) -> bool:
        return self.returned < NEVER and not (self.is_refused or isinstance(self.result, InDoubt))


@dataclass
class Moment:
    """Something happened to a hold that no call did: in the entry that was appended and first applied
    then. `kind`: expired, released (with its client, or unclaimed), acquired (from a place in line)."""

    kind: str
    name: LockName
    owner: bytes
    version: int
    appended: int
    applied: int
    hold: Kind = EXCLUSIVE
    request: bytes = b""


@dataclass
class History:
    """See the module. `keys` are all locks that clients know of."""

    keys: list[LockName]
    calls: list[Call] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    outcomes: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """By call number: what each entry that carried it came to, in the end if it had to wait."""
    promoted: dict[int, list[Granted]] = field(default_factory=lambda: defaultdict(list))
    """By call number: grants to the place that it took."""
    applied: dict[int, int] = field(default_factory=dict)
    """By call number: when an entry that carried it was first applied."""
    puts: dict[int, int | None] = field(default_factory=dict)
    """The grants by string commands and scripts: by version, the number of the call."""
    has_lines: bool = False
    """Whether a lock that nobody holds may be refused: somebody waits for it, or a DELAY runs."""
    unknown: int = 0
    """Locks for which the search was given up."""

    def tagged(self, command: Any) -> Any:
        """The command with the number of the next call, if it is of a kind that can carry it."""
        number = len(self.calls)
        match command:
            case Acquire() | AcquireAll() if not command.metadata:
                return msgspec.structs.replace(command, metadata=((TAG, b"%d" % number),))
            case Break():
                return msgspec.structs.replace(command, reason=b"%d" % number)
        return strings.tagged(command, number)

    def call(self, client: int, command: Operation | Query, now: int) -> Call:
        """A client is about to send a command."""
        call = Call(len(self.calls), client, command, now)
        self.calls.append(call)
        return call

    # --- all checks ------------------------------------------------------------------------------

    def check(self, final: Holds, now: int, rate_max: float) -> None:
        """Raise Violation unless all of it can be explained.

        final: owners and versions, in turn, that hold each lock at the end. rate_max: how fast a
        clock may run.
        """
        self._check_log()
        self._check_versions()
        self._check_released()
        self._check_ttls(rate_max)
        self._check_totals()
        self._check_linearizable(final, now)

    def _check_log(self) -> None:
        """H5, I9: what was refused is not in the log; what was answered is, once, with that answer.

        A refused try need not be.
        """
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
            if call.is_answered and call.result not in outcomes and not call.is_refused_try:
                raise Violation(
                    f"call {call.number} {call.command} was answered {call.result}, and the log "
                    f"says {outcomes}"
                )

    def _check_versions(self) -> None:
        """H2: a grant that was asked for after another had returned has the higher version."""
        first_returned: dict[int, int] = {}
        first_invoked: dict[int, int] = {}
        owners: dict[int, bytes] = {}
        for call in self.calls:
            match call.command, call.result:
                case ((Acquire(owner=owner) | AcquireAll(owner=owner)), Granted(version=version)):
                    if owners.setdefault(version, owner) != owner:
                        raise Violation(f"{owner} and {owners[version]} have version {version}")
                    first_returned[version] = min(first_returned.get(version, NEVER), call.returned)
        for call in self.calls:
            tag = tag_of(call.command)
            if tag is None:
                continue
            for outcome in (*self.outcomes.get(tag, ()), *self.promoted.get(tag, ())):
                if isinstance(outcome, Granted):
                    version = outcome.version
                    first_invoked[version] = min(first_invoked.get(version, NEVER), call.invoked)
        for version, tag in self.puts.items():
            # An owner may set its own name, more than once: then it is not known when.
            first_invoked[version] = self.calls[tag].invoked if tag is not None else NEVER
        returned = sorted((when, version) for version, when in first_returned.items())
        highest = list(accumulate((version for _, version in returned), max))
        times = [when for when, _ in returned]
        for version, invoked in first_invoked.items():
            before = bisect_right(times, invoked - 1) if invoked < NEVER else 0
            if before and highest[before - 1] > version:
                raise Violation(
                    f"version {version} was asked for after {highest[before - 1]} was granted"
                )

    def _check_released(self) -> None:
        """H4: no success by a version after its release was acknowledged."""
        released: dict[tuple[LockName, int], int] = {}
        for call in self.calls:
            match call.command, call.result:
                case Release(name=name, version=version), Released(holds=0) if version:
                    released[name, version] = min(
                        released.get((name, version), NEVER), call.returned
                    )
        for call in self.calls:
            match call.command, call.result:
                case (Renew(name=name), Renewed(version=version)) | (
                    Acquire(name=name, request=b"", options=None),
                    Granted(version=version),
                ):
                    if released.get((name, version), NEVER) < call.invoked:
                        raise Violation(f"version {version} is used after its release: {call}")

    def _check_ttls(self, rate_max: float) -> None:
        """H7: no hold ends before its TTL has passed since it was asked for."""
        asked: dict[tuple[LockName, int], list[tuple[int, int]]] = defaultdict(list)
        by_value: dict[tuple[LockName, bytes], list[tuple[int, int]]] = defaultdict(list)
        unsure: set[tuple[LockName, bytes]] = set()  # may have been given a shorter TTL
        for call in self.calls:
            for name, value, ttl_ms in strings.ttls_of(call.command):
                is_unique = tag_of(call.command) is not None
                if not (is_unique and (call.is_answered or call.is_refused)):
                    unsure.add((name, value))
                elif call.is_answered:
                    by_value[name, value].append((call.invoked, ttl_ms))
            match call.command, call.result:
                case Renew(name=name, owner=owner), _ if not (call.is_answered or call.is_refused):
                    unsure.add((name, owner))
            match call.command, call.result:
                case ((Acquire(request=b"") | AcquireAll(request=b"")), Granted(version, ttl_ms)):
                    for name in names_of(call.command):
                        asked[name, version].append((call.invoked, ttl_ms))
                case Renew(name=name), Renewed(version=version, ttl_ms=ttl_ms):
                    asked[name, version].append((call.invoked, ttl_ms))
        granted = {each.version: each.appended for each in self.moments if each.kind == "acquired"}
        for moment in self.moments:
            if moment.kind != "expired" or (moment.name, moment.owner) in unsure:
                continue
            since = granted.get(moment.version, 0)
            ends = [
                max(at, since) + ttl_ms * MS / rate_max
                for at, ttl_ms in (
                    *asked[moment.name, moment.version],
                    *by_value[moment.name, moment.owner],
                )
                if ttl_ms
            ]
            if ends and moment.applied < min(ends) - 2 * MS:
                raise Violation(f"{moment} came before {min(ends)}, the end of its TTL")

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

    def _check_linearizable(self, final: Holds, now: int) -> None:
        by_key: dict[LockName, list[Step]] = {name: [] for name in self.keys}
        promoted = {each.version for each in self.moments if each.kind == "acquired"}
        for call in self._told_by_the_log():
            if isinstance(call.result, Granted) and call.result.version in promoted:
                if tag_of(call.command) in self.promoted:
                    continue  # its place was granted the lock: see below
            for name, step in steps_of(call, self.keys):
                if step.reply != ("not set",) or not self.has_lines:
                    by_key[name].append(step)
        for moment in self.moments:
            kind = "promote" if moment.kind == "acquired" else "expire"
            step = Step(
                kind,
                moment.appended,
                moment.applied,
                owner=moment.owner,
                version=moment.version,
                request=moment.request,
                hold=moment.hold,
            )
            by_key[moment.name].append(step)
        for name in self.keys:
            by_key[name].append(Step("get", now, now, reply=("info", *final.get(name, ()))))
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
        case Acquire() | AcquireAll():
            return tag_in(command.metadata)
        case Break(reason=reason) if reason:
            return int(reason)
    return strings.tag_of(command)


def tag_in(metadata: Metadata) -> int | None:
    """The number of a call in the metadata of an acquisition."""
    return int(metadata[0][1]) if metadata and metadata[0][0] == TAG else None


def steps_of(call: Call, keys: list[LockName]) -> list[tuple[LockName, Step]]:
    """What a call is for each lock that it concerns. Without an answer, what it may have done."""
    command, result = call.command, call.result
    answered = call.is_answered
    returned = call.returned if answered else NEVER
    common: dict[str, Any] = {"invoked": call.invoked, "returned": returned, "call": call.number}
    if call.previous is not None and answered and call.previous.is_answered:
        common["after"] = call.previous.number
    match command:
        case Acquire() | AcquireAll():
            if answered and not _says_something(command, result):
                return []
            common |= {"owner": command.owner, "request": command.request}
            common |= {"hold": kind_of(command), "reply": reply_of(result) if answered else None}
            return [(name, Step("acquire", **common)) for name in names_of(command)]
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
    return [
        (name, Step(**step, **common))
        for name, step in strings.steps_of(command, result if answered else None)
    ]


def _says_something(command: Acquire | AcquireAll, result: Any) -> bool:
    """Whether the answer tells of a hold, and of one of when it was given.

    A refusal of several locks does not say of which, nor whether all of them are lost. One may name a
    place in line, or nobody, instead
    of a hold. That a wait has run out may have been said before, to the same REQUEST.
    """
    match result:
        case Granted():
            return True
        case Lost():
            return isinstance(command, Acquire)
        case Held(version=version):
            return version > 0 and isinstance(command, Acquire)
        case TimedOut(version=version):
            return version > 0 and isinstance(command, Acquire) and not command.request
    return False


def kind_of(command: Operation | Query) -> Kind:
    """The kind of hold that an acquisition asks for."""
    options = options_of(command)
    permits = options.permits if options.limit else 1
    return Kind(options.shared, options.limit, permits, options.reentrant)


def reply_of(result: Any) -> tuple[Any, ...]:
    """An outcome as the model of one lock knows it: its kind, and whom and which version it names."""
    kind = type(result).__name__.lower()
    if isinstance(result, Released):
        return kind, result.holds
    fields = [getattr(result, each, None) for each in ("owner", "holder", "current", "version")]
    return (kind, *(value for value in fields if value is not None))


def _info(result: LockInfo | None) -> tuple[Any, ...]:
    if result is None:
        return ("nil",)
    if result.owner is not None:
        return ("info", result.owner, result.version)
    return ("info", *(each for hold in result.holders for each in (hold.owner, hold.version)))


def table(steps: list[Step]) -> str:
    """For people."""
    lines = [
        f"  {step.invoked / 1e6:10.6f} {step.returned / 1e6 if step.returned < NEVER else NEVER:10.6f} "
        f"{step.kind:<8} {step.owner.decode()} v{step.version} {step.request.decode()} -> {step.reply}"
        for step in sorted(steps, key=lambda step: step.invoked)
    ]
    return "\n".join(lines)
