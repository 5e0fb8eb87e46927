"""The checker is checked: it accepts what a lock does, and rejects what none can have done."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.linearizable import NEVER, RULES, Hold, Kind, State, Step, explain

A, B, C = b"a", b"b", b"c"


READER, AGAIN = Kind(shared=True), Kind(reentrant=True)
OF_TWO, BOTH = Kind(limit=2), Kind(limit=2, permits=2)


def acquire(
    owner: bytes,
    invoked: int,
    returned: int,
    *reply: object,
    request: bytes = b"",
    hold: Kind = Kind(),  # noqa: B008
) -> Step:
    return Step(
        "acquire", invoked, returned, owner, request=request, reply=reply or None, hold=hold
    )


def promote(owner: bytes, invoked: int, returned: int, version: int, hold: Kind) -> Step:
    return Step("promote", invoked, returned, owner, version, hold=hold)


def release(owner: bytes, invoked: int, returned: int, *reply: object, version: int = 0) -> Step:
    return Step("release", invoked, returned, owner, version, reply=reply or None)


def get(invoked: int, returned: int, *reply: object) -> Step:
    return Step("get", invoked, returned, reply=reply)


def expire(invoked: int, returned: int, version: int) -> Step:
    return Step("expire", invoked, returned, version=version)


POSSIBLE = {
    "a lock is taken, given back, and taken by another": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, 3, "released"),
        acquire(B, 4, 5, "granted", 2),
    ],
    "who asks at the same time may be second": [
        acquire(A, 0, 9, "granted", 2),
        acquire(B, 1, 3, "granted", 1),
        release(B, 4, 5, "released"),
    ],
    "a release without an answer may have come to pass": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, NEVER),
        acquire(B, 4, 5, "granted", 2),
    ],
    "or not": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, NEVER),
        acquire(B, 4, 5, "held", A, 1),
    ],
    "or later": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, NEVER),
        acquire(B, 4, 5, "held", A, 1),
        acquire(B, 6, 7, "granted", 2),
    ],
    "a grant that nobody saw has the version that others are told": [
        acquire(A, 0, NEVER),
        acquire(B, 2, 3, "held", A, 4),
        get(4, 5, "info", A, 4),
        acquire(A, 6, 7, "granted", 4),
    ],
    "the holder asks again": [acquire(A, 0, 1, "granted", 1), acquire(A, 2, 3, "granted", 1)],
    "a hold ends with time": [
        acquire(A, 0, 1, "granted", 1),
        expire(2, 5, 1),
        acquire(B, 3, 4, "granted", 2),
    ],
    "a repeated request has one effect": [
        acquire(A, 0, 1, "granted", 1, request=b"r"),
        release(A, 2, 3, "released"),
        acquire(A, 4, 5, "lost", 1, request=b"r"),
        acquire(B, 6, 7, "granted", 2),
    ],
    "a repeated request without an answer is answered as it was": [
        acquire(A, 0, NEVER, request=b"r"),
        acquire(A, 2, 3, "granted", 1, request=b"r"),
    ],
    "a refusal is repeated too": [
        acquire(B, 0, 1, "granted", 1),
        acquire(A, 2, 3, "held", B, 1, request=b"r"),
        release(B, 4, 5, "released"),
        acquire(A, 6, 7, "held", B, 1, request=b"r"),
    ],
    "a stale version": [
        acquire(A, 0, 1, "granted", 2),
        release(A, 2, 3, "stale", 2, version=1),
        get(4, 5, "info", A, 2),
    ],
    "readers share": [
        acquire(A, 0, 1, "granted", 1, hold=READER),
        acquire(B, 2, 3, "granted", 2, hold=READER),
        get(4, 5, "info", A, 1, B, 2),
        release(A, 6, 7, "released"),
        acquire(C, 8, 9, "held", B, 2),
    ],
    "permits are counted": [
        acquire(A, 0, 1, "granted", 1, hold=OF_TWO),
        acquire(B, 2, 3, "held", A, 1, hold=BOTH),
        acquire(C, 4, 5, "granted", 2, hold=OF_TWO),
    ],
    "a re-entrant hold is given back as often as it was taken": [
        acquire(A, 0, 1, "granted", 1, hold=AGAIN),
        acquire(A, 2, 3, "granted", 1, hold=AGAIN),
        release(A, 4, 5, "released", 1),
        acquire(B, 6, 7, "held", A, 1),
        release(A, 8, 9, "released", 0),
        acquire(B, 10, 11, "granted", 2),
    ],
    "a repeated request for what was waited for counts once": [
        Step("promote", 0, 1, A, 1, b"r", hold=AGAIN),
        acquire(A, 2, 3, "granted", 1, request=b"r", hold=AGAIN),
        release(A, 4, 5, "released", 0),
        acquire(A, 6, 7, "lost", 1, request=b"r", hold=AGAIN),
    ],
    "who waits in line is next": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, 9, "released"),
        promote(B, 3, 5, 2, Kind()),
        acquire(C, 6, 7, "timedout", B, 2),
    ],
}

IMPOSSIBLE = {
    "two holders": [acquire(A, 0, 1, "granted", 1), acquire(B, 2, 3, "granted", 2)],
    "a stale read": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, 3, "released"),
        get(4, 5, "info", A, 1),
    ],
    "a version that goes back": [
        acquire(A, 0, 1, "granted", 5),
        release(A, 2, 3, "released"),
        acquire(B, 4, 5, "granted", 4),
    ],
    "a version that is given twice": [
        acquire(A, 0, 1, "granted", 5),
        release(A, 2, 3, "released"),
        acquire(B, 4, 5, "granted", 5),
    ],
    "a release that is acknowledged and has no effect": [
        acquire(A, 0, 1, "granted", 1),
        release(A, 2, 3, "released"),
        acquire(B, 4, 5, "held", A, 1),
    ],
    "a release by who does not hold it": [
        acquire(A, 0, 1, "granted", 1),
        release(B, 2, 3, "released"),
    ],
    "a hold that ends before the entry that ends it": [
        acquire(A, 0, 1, "granted", 1),
        acquire(B, 2, 3, "granted", 2),
        expire(4, 5, 1),
    ],
    "a holder who is refused": [acquire(A, 0, 1, "granted", 1), acquire(A, 2, 3, "held", B, 1)],
    "a free lock that is refused": [acquire(A, 0, 1, "held", B, 1)],
    "a lost acquire that comes to pass twice": [
        acquire(A, 0, NEVER),
        acquire(B, 2, 3, "held", A, 1),
        release(A, 4, 5, "released"),
        acquire(B, 6, 7, "held", A, 2),
    ],
    "a repeated request with two effects": [
        acquire(A, 0, 1, "granted", 1, request=b"r"),
        release(A, 2, 3, "released"),
        acquire(A, 4, 5, "granted", 2, request=b"r"),
    ],
    "an effect before it was asked for": [get(0, 1, "info", A, 1), acquire(A, 2, 3, "granted", 1)],
    "a release by a stale version": [
        acquire(A, 0, 1, "granted", 2),
        release(A, 2, 3, "released", version=1),
    ],
    "a grant over a hold that was broken off later": [
        acquire(A, 0, 1, "granted", 1),
        acquire(B, 2, 3, "granted", 2),
        Step("break", 4, 5, version=0, reply=("broken", A, 1)),
    ],
    "a writer beside a reader": [
        acquire(A, 0, 1, "granted", 1, hold=READER),
        acquire(B, 2, 3, "granted", 2),
    ],
    "a writer who is handed the lock beside a reader": [
        acquire(A, 0, 1, "granted", 1, hold=READER),
        promote(B, 2, 3, 2, Kind()),
    ],
    "more permits than there are": [
        acquire(A, 0, 1, "granted", 1, hold=OF_TWO),
        acquire(B, 2, 3, "granted", 2, hold=BOTH),
    ],
    "a re-entrant hold that one release ends": [
        acquire(A, 0, 1, "granted", 1, hold=AGAIN),
        acquire(A, 2, 3, "granted", 1, hold=AGAIN),
        release(A, 4, 5, "released"),
        acquire(B, 6, 7, "granted", 2),
    ],
    "a reader who is not told of": [
        acquire(A, 0, 1, "granted", 1, hold=READER),
        acquire(B, 2, 3, "granted", 2, hold=READER),
        get(4, 5, "info", A, 1),
    ],
}


@pytest.mark.parametrize("steps", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_it_accepts_what_a_lock_does(steps: list[Step]) -> None:
    assert explain(steps) is True


@pytest.mark.parametrize("steps", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_it_rejects_what_no_lock_does(steps: list[Step]) -> None:
    assert explain(steps) is False


def test_the_order_of_a_connection_is_kept() -> None:
    """A pipeline's commands overlap in time, and take effect in their order all the same."""
    first = Step("release", 0, 9, A, reply=("notheld",), call=1)
    second = Step("acquire", 0, 9, A, reply=("granted", 1), call=2, after=1)
    assert explain([first, second]) is True
    first = Step("acquire", 0, 9, A, reply=("granted", 1), call=1)
    second = Step("release", 0, 9, A, reply=("notheld",), call=2, after=1)
    assert explain([first, second]) is False


def test_it_gives_up_rather_than_search_for_ever() -> None:
    steps = [acquire(b"%d" % number, 0, NEVER) for number in range(30)]
    steps += [release(b"%d" % number, 0, NEVER) for number in range(30)]
    steps.append(get(100, 101, "info", b"nobody", 1))
    assert explain(steps, steps_max=1000) is None


class _Lock:
    """A real lock, to draw histories from."""

    def __init__(self) -> None:
        self.owner, self.version, self.last = b"", 0, 0

    def run(self, kind: str, owner: bytes) -> tuple[object, ...]:
        if kind == "acquire":
            if not self.owner:
                self.last += 1
                self.owner, self.version = owner, self.last
            mine = self.owner == owner
            return ("granted", self.version) if mine else ("held", self.owner, self.version)
        if kind == "release":
            if not self.owner:
                return ("notheld",)
            if self.owner != owner:
                return ("notowner", self.owner, self.version)
            self.owner = b""
            return ("released",)
        return ("info", self.owner, self.version) if self.owner else ("nil",)


def _history(rng: random.Random, count: int, lock: _Lock | None = None) -> list[Step]:
    """Concurrent clients of one lock; some of them never hear what came of it."""
    lock, steps = lock or _Lock(), []
    free_at = dict.fromkeys((b"a", b"b", b"c"), 0)
    for moment in range(10, 10 + 10 * count, 10):
        owner = rng.choice([each for each, at in free_at.items() if at < moment] or [b"d"])
        kind = rng.choice(("acquire", "acquire", "release", "get"))
        reply: tuple[object, ...] | None = lock.run(kind, owner)
        invoked, returned = moment - rng.randrange(0, 9), moment + rng.randrange(0, 25)
        if rng.random() < 0.1 and kind != "get":
            reply, returned = None, NEVER
        free_at[owner] = returned if returned != NEVER else moment + 30
        steps.append(Step(kind, invoked, returned, owner, reply=reply))
    return steps


@given(st.integers(0, 10_000))
def test_it_accepts_every_history_of_a_real_lock(seed: int) -> None:
    assert explain(_history(random.Random(seed), 40)) is True


class _LockForTwo(_Lock):
    """Sometimes grants what is held."""

    def run(self, kind: str, owner: bytes) -> tuple[object, ...]:
        if kind == "acquire" and self.owner not in (b"", owner) and self.last % 3 == 0:
            self.last += 1
            self.owner, self.version = owner, self.last
        return super().run(kind, owner)


def test_it_rejects_most_histories_of_a_lock_that_two_can_hold() -> None:
    """All but those in which a release that nobody heard of explains the second grant."""
    judged = [
        explain(_history(random.Random(seed), 60, _LockForTwo())) is False for seed in range(50)
    ]
    assert sum(judged) > 25


def test_every_rule_leaves_the_state_alone_without_need() -> None:
    """Rules give new states, or the same one; they never change one in place."""
    state = State((Hold(A, 3),), 3)
    for kind, rule in RULES.items():
        reply = ("nil",) if kind == "get" else (1,) if kind == "check" else None
        rule(state, Step(kind, 0, 1, A, 3, reply=reply))
        assert state == State((Hold(A, 3),), 3)
