"""Whether one lock can explain what its clients saw: the search of porcupine and of knossos.

Wing and Gong, Testing and verifying concurrent objects (1993), with Lowe's cache of states that were
seen before. A history of one lock is a set of steps, each with the moments at which it was invoked
and returned. It is linearizable if there is an order that puts no step before one that had returned
when it was invoked, and in which each step's reply is what the lock answers.

A step without a reply may take effect at any time after its invocation, or never: so it fits into any
state, and need not be placed. A hold whose grant nobody saw has version 0 until a reply tells it.

The lock is the union of Jepsen's models: owner-aware and fenced, re-entrant, shared, and a semaphore.
Who waited in line is granted the lock by a step of its own ("promote"), which the log tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

NEVER = 1 << 60
"""The return of what did not return."""
STEPS_MAX = 30_000
"""How long to search before giving up."""


class Kind(NamedTuple):
    """What kind of hold is asked for: exclusive unless it says otherwise."""

    shared: bool = False
    limit: int = 0
    permits: int = 1
    reentrant: bool = False


EXCLUSIVE = Kind()


class Step(NamedTuple):
    """One step of one lock's history; replies are listed at `RULES`."""

    kind: str
    invoked: int
    returned: int
    owner: bytes = b""
    version: int = 0
    request: bytes = b""
    reply: tuple[Any, ...] | None = None
    call: int = -1
    after: int = -1
    """The call that came before it on its connection, if both were answered."""
    hold: Kind = EXCLUSIVE


class Hold(NamedTuple):
    """One owner's. Its version is above `floor`, the highest that was known before it."""

    owner: bytes
    version: int
    floor: int = 0
    kind: Kind = EXCLUSIVE
    count: int = 1


class State(NamedTuple):
    """The lock during the search. `last` is the highest version known so far."""

    holds: tuple[Hold, ...] = ()
    last: int = 0
    remembered: tuple[tuple[bytes, tuple[Any, ...]], ...] = ()
    """Answers by (owner and request id), in the order in which they were given."""


UNSEEN = 0


def _of(state: State, owner: bytes) -> Hold | None:
    for hold in state.holds:
        if hold.owner == owner:
            return hold
    return None


def _fits(state: State, kind: Kind) -> bool:
    """Whether there is room for one more hold of this kind."""
    if not state.holds:
        return True
    there = state.holds[0].kind
    if kind.limit:
        used = sum(hold.kind.permits for hold in state.holds)
        return there.limit == kind.limit and used + kind.permits <= kind.limit
    return kind.shared and there.shared


def _added(state: State, step: Step, version: int) -> State:
    hold = Hold(step.owner, version, state.last, step.hold)
    return state._replace(holds=(*state.holds, hold), last=max(state.last, version))


def _changed(state: State, old: Hold, new: Hold | None) -> State:
    holds = tuple(new if hold is old else hold for hold in state.holds)
    return state._replace(holds=tuple(hold for hold in holds if hold is not None))


def _is(state: State, owner: bytes, version: int) -> State | None:
    """The state, if it can have this owner's hold with this version; then it is known to have it."""
    hold = _of(state, owner)
    if hold is None:
        return None
    if hold.version != UNSEEN:
        return state if hold.version == version else None
    if version <= hold.floor:
        return None
    told = ("granted", version)
    remembered = tuple(
        (key, told if reply == ("granted", UNSEEN) and key.startswith(owner + b"/") else reply)
        for key, reply in state.remembered
    )
    known = _changed(state, hold, hold._replace(version=version))
    return known._replace(last=max(state.last, version), remembered=remembered)


def _acquire(state: State, step: Step) -> State | None:
    if not step.request:
        return _take(state, step)
    key = step.owner + b"/" + step.request
    for known, earlier in state.remembered:
        if known == key:
            return _again(state, step, earlier)
    found = _take(state, step)
    if found is None:
        return None
    reply = step.reply or _unseen_reply(state, step)
    return found._replace(remembered=(*found.remembered, (key, reply)))


def _unseen_reply(state: State, step: Step) -> tuple[Any, ...]:
    mine = _of(state, step.owner)
    if mine is not None:
        return ("granted", mine.version)
    if _fits(state, step.hold):
        return ("granted", UNSEEN)
    return ("held", state.holds[0].owner, state.holds[0].version)


def _again(state: State, step: Step, earlier: tuple[Any, ...]) -> State | None:
    """The same REQUEST: the same answer, unless the grant is over."""
    reply = step.reply
    if reply is None:
        return state
    if earlier[0] == "held":
        same = reply[0] == "held" and earlier[1] == reply[1]
        return state if same and earlier[2] in (UNSEEN, reply[2]) else None
    if reply[0] == "granted":
        return _is(state, step.owner, reply[1]) if earlier[1] in (UNSEEN, reply[1]) else None
    if reply[0] == "lost" and earlier[1] in (UNSEEN, reply[1]):
        return _lost(state, step)
    return None


def _lost(state: State, step: Step) -> State | None:
    assert step.reply is not None
    hold = _of(state, step.owner)
    return state if hold is None or hold.version not in (UNSEEN, step.reply[1]) else None


def _take(state: State, step: Step) -> State | None:
    reply = step.reply
    mine = _of(state, step.owner)
    if reply is None:
        if mine is not None:
            return _counted(state, mine, step)
        return _added(state, step, UNSEEN) if _fits(state, step.hold) else state
    match reply[0]:
        case "granted" if mine is not None:
            found = _is(state, step.owner, reply[1])
            known = _of(found, step.owner) if found is not None else None
            return _counted(found, known, step) if found is not None and known else None
        case "granted":
            fits = _fits(state, step.hold) and reply[1] > state.last
            return _added(state, step, reply[1]) if fits else None
        case "held" | "timedout":
            return _is(state, reply[1], reply[2]) if mine is None else None
        case "lost":
            return _lost(state, step)
    return None


def _counted(state: State, mine: Hold, step: Step) -> State:
    if not step.hold.reentrant:
        return state
    return _changed(state, mine, mine._replace(count=mine.count + 1))


def _on_hold(state: State, step: Step) -> tuple[State | None, bool]:
    """RELEASE and RENEW: the state that fits the reply, and whether the step took effect.

    A version that was given never fits a hold whose grant nobody saw: its owner learnt the version
    from an earlier one.
    """
    reply = step.reply
    mine = _of(state, step.owner)
    if reply is None:
        return state, mine is not None and step.version in (0, mine.version)
    match reply[0]:
        case "notheld":
            return (state if not state.holds else None), False
        case "notowner":
            return (None if mine else _is(state, reply[1], reply[2])), False
        case "stale":
            found = _is(state, step.owner, reply[1])
            return (found if step.version not in (0, reply[1]) else None), False
        case "released" if mine:
            return (_is(state, step.owner, step.version) if step.version else state), True
        case "renewed" if mine and step.version in (0, reply[1]):
            return _is(state, step.owner, reply[1]), True
    return None, False


def _release(state: State, step: Step) -> State | None:
    found, took_effect = _on_hold(state, step)
    mine = _of(found, step.owner) if found is not None else None
    if found is None or mine is None or not took_effect:
        return found
    left = mine.count - 1
    if step.reply is not None and step.reply[1:] not in ((), (left,)):
        return None
    return _changed(found, mine, mine._replace(count=left) if left else None)


def _renew(state: State, step: Step) -> State | None:
    return _on_hold(state, step)[0]


def _break(state: State, step: Step) -> State | None:
    reply = step.reply
    if reply is None:
        return _without(state, step.version)
    match reply[0]:
        case "notheld":
            return state if not state.holds else None
        case "broken" if step.version in (0, reply[2]):
            found = _is(state, reply[1], reply[2])
            return _without(found, step.version) if found is not None else None
        case "stale" if step.version not in (0, reply[1]) and state.holds:
            return _is(state, state.holds[0].owner, reply[1])
    return None


def _without(state: State, version: int) -> State:
    """Without the hold of this version; without any when it is 0."""
    left = tuple(hold for hold in state.holds if version not in (0, hold.version))
    return state._replace(holds=left)


def _keep(state: State, step: Step) -> State | None:
    holds = _is(state, step.owner, step.version)
    if step.reply == ("kept",):
        return holds
    mine = _of(state, step.owner)
    return state if holds is None or mine is None or mine.version == UNSEEN else None


def _get(state: State, step: Step) -> State | None:
    assert step.reply is not None
    told = step.reply[1:]
    if len(told) != 2 * len(state.holds):
        return None
    found: State | None = state
    for owner, version in zip(told[::2], told[1::2], strict=True):
        found = _is(found, owner, version) if found is not None else None
    return found


def _check(state: State, step: Step) -> State | None:
    current = [hold for hold in state.holds if hold.version in (UNSEEN, step.version)]
    if step.reply == (1,):
        return _is(state, current[0].owner, step.version) if current else None
    return state if all(hold.version == UNSEEN for hold in current) else None


def _expire(state: State, step: Step) -> State | None:
    owners = [step.owner] if step.owner else [hold.owner for hold in state.holds]
    for owner in owners:
        found = _is(state, owner, step.version)
        if found is not None:
            return _without(found, step.version)
    return None


def _promote(state: State, step: Step) -> State | None:
    if _of(state, step.owner) or not _fits(state, step.hold) or step.version <= state.last:
        return None
    found = _added(state, step, step.version)
    if not step.request:
        return found
    known = step.owner + b"/" + step.request, ("granted", step.version)
    return found._replace(remembered=(*found.remembered, known))


# --- the same lock as a string key: its value is the owner of an exclusive hold --------------------


def _is_key_of_several(state: State) -> bool:
    """Whether it is shared or a semaphore, and has no one value."""
    return bool(state.holds) and (state.holds[0].kind.shared or state.holds[0].kind.limit > 0)


def _put(state: State, step: Step) -> State:
    """An equal value keeps the hold and its version; another one is a new grant."""
    if _of(state, step.owner) is not None:
        return state
    return _added(state._replace(holds=()), step, UNSEEN)


def _set(state: State, step: Step) -> State | None:
    is_wrong = _is_key_of_several(state)
    if step.reply is None:
        return state if is_wrong else _put(state, step)
    if step.reply == ("wrong type",):
        return state if is_wrong else None
    return None if is_wrong else _put(state, step)


def _set_nx(state: State, step: Step) -> State | None:
    if step.reply is None:
        return state if state.holds else _put(state, step)
    if step.reply == ("not set",):
        return state if state.holds else None
    return None if state.holds else _put(state, step)


def _set_xx(state: State, step: Step) -> State | None:
    if step.reply == ("not set",):
        return None if state.holds else state
    if step.reply is None and not state.holds:
        return state
    return _set(state, step) if state.holds else None


def _has_value(state: State, owner: bytes) -> bool:
    """Whether the key is there; with an owner, whether that is its value."""
    if not owner:
        return bool(state.holds)
    return not _is_key_of_several(state) and _of(state, owner) is not None


def _look(state: State, step: Step) -> State | None:
    match step.reply:
        case ("nothing",):
            fits = not _has_value(state, step.owner)
        case ("there",) | ("deleted",):
            fits = _has_value(state, step.owner)
        case (_, value):
            fits = _has_value(state, value)
        case _:
            fits = _is_key_of_several(state)
    return state if fits else None


def _delete(state: State, step: Step) -> State | None:
    if step.reply is None:
        return state._replace(holds=()) if _has_value(state, step.owner) else state
    found = _look(state, step)
    return found._replace(holds=()) if found and step.reply[0] == "deleted" else found


RULES: dict[str, Callable[[State, Step], State | None]] = {
    "acquire": _acquire,
    "release": _release,
    "renew": _renew,
    "break": _break,
    "keep": _keep,
    "get": _get,
    "check": _check,
    "expire": _expire,
    "promote": _promote,
    "set": _set,
    "set nx": _set_nx,
    "set xx": _set_xx,
    "delete": _delete,
    "touch": _look,
    "look": _look,
}
"""How each kind of step goes on from a state; None where its reply is impossible.

acquire: granted v, held owner v, timedout owner v, lost v. release: released (holds left). renew:
renewed v. Both: notheld, notowner holder v, stale v. break: broken owner v, notheld, stale v. keep:
kept, lost. get: info owner v (owner v ...), nil. check: 1, 0. expire and promote: no reply, but they
certainly happened. Of string keys, all but set nx: wrong type. set, set nx, set xx: set, not set.
delete (with an owner: only if it is the value): deleted (value), nothing. touch and look: there
(value), nothing.
"""


def explain(steps: list[Step], steps_max: int = STEPS_MAX) -> bool | None:
    """Whether the steps are linearizable, from a free lock; None when the search was given up."""
    certain = sorted((step for step in steps if _is_certain(step)), key=lambda step: step.invoked)
    perhaps = sorted(
        (step for step in steps if not _is_certain(step)), key=lambda step: step.invoked
    )
    return _Search(certain, perhaps, steps_max).run()


def _is_certain(step: Step) -> bool:
    return step.reply is not None or step.kind in ("expire", "promote")


class _Search:
    """Depth first. `done` and `tried` are sets of positions, as bits."""

    def __init__(self, certain: list[Step], perhaps: list[Step], steps_max: int) -> None:
        self.certain = certain
        self.perhaps = perhaps
        self.left = steps_max
        self.all = (1 << len(certain)) - 1
        self.place = {step.call: 1 << at for at, step in enumerate(certain) if step.call >= 0}
        self.seen: set[tuple[int, int, State]] = set()

    def run(self) -> bool | None:
        stack = [self.next_of(0, 0, State())]
        if not self.all:
            return True
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            self.left -= 1
            if self.left < 0:
                return None
            if found[0] == self.all:
                return True
            if found not in self.seen:
                self.seen.add(found)
                stack.append(self.next_of(*found))
        return False

    def next_of(self, done: int, tried: int, state: State) -> Iterator[tuple[int, int, State]]:
        """Every way to go on: the certain steps first, in the order of their invocation."""
        earliest = NEVER
        at = (~done & (done + 1)).bit_length() - 1
        while at < len(self.certain):
            step = self.certain[at]
            if step.invoked > earliest:
                break
            bit = 1 << at
            if not done & bit:
                earliest = min(earliest, step.returned)
            at += 1
        limit = at
        for at in range((~done & (done + 1)).bit_length() - 1, limit):
            step, bit = self.certain[at], 1 << at
            if done & bit or step.invoked > earliest:
                continue
            if step.after in self.place and not done & self.place[step.after]:
                continue
            found = RULES[step.kind](state, step)
            if found is not None:
                yield done | bit, tried, found
        for at, step in enumerate(self.perhaps):
            bit = 1 << at
            if tried & bit or step.invoked > earliest:
                continue
            found = RULES[step.kind](state, step)
            if found is not None and found != state:
                yield done, tried | bit, found
