"""Whether one lock can explain what its clients saw: the search of porcupine and of knossos.

Wing and Gong, Testing and verifying concurrent objects (1993), with Lowe's cache of states that were
seen before. A history of one lock is a set of steps, each with the moments at which it was invoked
and returned. It is linearizable if there is an order that puts no step before one that had returned
when it was invoked, and in which each step's reply is what the lock answers.

A step without a reply may take effect at any time after its invocation, or never: so it fits into any
state, and need not be placed. A hold whose grant nobody saw has version 0 until a reply tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

NEVER = 1 << 60
"""The return of what did not return."""
STEPS_MAX = 30_000
"""How long to search before giving up."""


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


class State(NamedTuple):
    """The lock during the search. `last` is the highest version known so far."""

    owner: bytes = b""
    version: int = 0
    last: int = 0
    remembered: tuple[tuple[bytes, tuple[Any, ...]], ...] = ()
    """Answers by (owner and request id), in the order in which they were given."""


UNSEEN = 0


def _is(state: State, owner: bytes, version: int) -> State | None:
    """The state, if it can be this owner's hold with this version; then it is known to be."""
    if state.owner != owner or not owner:
        return None
    if state.version != UNSEEN:
        return state if state.version == version else None
    if version <= state.last:
        return None
    told = ("granted", version)
    remembered = tuple(
        (key, told if reply == ("granted", UNSEEN) else reply) for key, reply in state.remembered
    )
    return State(owner, version, version, remembered)


def _free(state: State) -> State:
    return state._replace(owner=b"", version=UNSEEN)


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
    if state.owner in (b"", step.owner):
        return ("granted", state.version)
    return ("held", state.owner, state.version)


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
        over = state.owner != step.owner or state.version not in (UNSEEN, reply[1])
        return state if over else None
    return None


def _take(state: State, step: Step) -> State | None:
    reply = step.reply
    if not state.owner:
        if reply is None:
            return state._replace(owner=step.owner, version=UNSEEN)
        if reply[0] != "granted" or reply[1] <= state.last:
            return None
        return state._replace(owner=step.owner, version=reply[1], last=reply[1])
    if reply is None:
        return state
    if state.owner == step.owner:
        return _is(state, step.owner, reply[1]) if reply[0] == "granted" else None
    return _is(state, reply[1], reply[2]) if reply[0] == "held" else None


def _on_hold(state: State, step: Step) -> tuple[State | None, bool]:
    """RELEASE and RENEW: the state that fits the reply, and whether the step took effect.

    A version that was given never fits a hold whose grant nobody saw: its owner learnt the version
    from an earlier one.
    """
    reply = step.reply
    mine = state.owner == step.owner
    if reply is None:
        return state, mine and step.version in (0, state.version)
    match reply[0]:
        case "notheld":
            return (state if not state.owner else None), False
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
    return _free(found) if found is not None and took_effect else found


def _renew(state: State, step: Step) -> State | None:
    return _on_hold(state, step)[0]


def _break(state: State, step: Step) -> State | None:
    reply = step.reply
    if reply is None:
        return _free(state) if step.version in (0, state.version) else state
    match reply[0]:
        case "notheld":
            return state if not state.owner else None
        case "broken" if step.version in (0, reply[2]):
            found = _is(state, reply[1], reply[2])
            return _free(found) if found is not None else None
        case "stale" if step.version not in (0, reply[1]):
            return _is(state, state.owner, reply[1])
    return None


def _keep(state: State, step: Step) -> State | None:
    holds = _is(state, step.owner, step.version)
    if step.reply == ("kept",):
        return holds
    return state if holds is None or state.version == UNSEEN else None


def _get(state: State, step: Step) -> State | None:
    assert step.reply is not None
    if step.reply[0] == "nil":
        return state if not state.owner else None
    return _is(state, step.reply[1], step.reply[2])


def _check(state: State, step: Step) -> State | None:
    is_current = state.owner != b"" and state.version in (UNSEEN, step.version)
    if step.reply == (1,):
        return _is(state, state.owner, step.version) if is_current else None
    return state if not is_current or state.version == UNSEEN else None


def _expire(state: State, step: Step) -> State | None:
    found = _is(state, state.owner, step.version)
    return _free(found) if found is not None else None


RULES: dict[str, Callable[[State, Step], State | None]] = {
    "acquire": _acquire,
    "release": _release,
    "renew": _renew,
    "break": _break,
    "keep": _keep,
    "get": _get,
    "check": _check,
    "expire": _expire,
}
"""How each kind of step goes on from a state; None where its reply is impossible.

acquire: granted v, held owner v, lost v. release: released. renew: renewed v. Both: notheld,
notowner holder v, stale v. break: broken owner v, notheld, stale v. keep: kept, lost. get: info owner
v, nil. check: 1, 0. expire: no reply, but it certainly happened.
"""


def explain(steps: list[Step], steps_max: int = STEPS_MAX) -> bool | None:
    """Whether the steps are linearizable, from a free lock; None when the search was given up."""
    certain = sorted((step for step in steps if _is_certain(step)), key=lambda step: step.invoked)
    perhaps = sorted(
        (step for step in steps if not _is_certain(step)), key=lambda step: step.invoked
    )
    return _Search(certain, perhaps, steps_max).run()


def _is_certain(step: Step) -> bool:
    return step.reply is not None or step.kind == "expire"


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
