"""Scripts that are done without an interpreter do just what the interpreter does."""

from __future__ import annotations

from random import Random
from unittest.mock import patch

import pytest
from redis.lock import Lock

from resplock.operations import (
    Acquire,
    Delete,
    Evaluate,
    Event,
    GetLock,
    Operation,
    Options,
    Outcome,
    Renew,
    SetString,
)
from resplock.script import Program
from resplock.state import scripting
from resplock.state.native import _KNOWN, NATIVES
from resplock.state.queries import answer
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import lock_name

K, OTHER = lock_name(0, b"k"), lock_name(1, b"k")
REDIS_PY = [Lock.LUA_RELEASE_SCRIPT, Lock.LUA_EXTEND_SCRIPT, Lock.LUA_REACQUIRE_SCRIPT]
SCRIPTS = [source.encode() for source in [*(source for source, _ in _KNOWN), *REDIS_PY]]

TTLS = [b" 7 ", b"0x10", b"1e2", b"1.5", b"0", b"-3", b"x", b"", b"inf", b"9" * 19]
NAMES = [(), (OTHER,), (K, OTHER)]
Steps = list[tuple[int, list[Operation]]]


def steps(seed: int) -> Steps:
    """Changes of one lock, and the scripts on it: (how much later in ms, operations)."""
    chance = Random(seed)
    return [
        (chance.choice([0, 0, 1, 3, 9]), [_operation(chance) for _ in range(chance.randint(1, 3))])
        for _ in range(40)
    ]


def _operation(chance: Random) -> Operation:
    owner = chance.choice([b"me", b"me", b"you"])
    if chance.random() < 0.6:
        ttl = chance.choice([b"5", b"20", chance.choice(TTLS)])
        arguments = (owner, ttl, chance.choice([b"0", b"0", b"1", b""]))
        if chance.random() < 0.2:
            arguments = arguments[: chance.randint(0, 2)]
        names = chance.choice(NAMES) if chance.random() < 0.1 else (K,)
        is_reader = chance.random() < 0.1
        return Evaluate(chance.choice(SCRIPTS), names, arguments, read_only=is_reader)
    return chance.choice(
        [
            SetString(K, owner, chance.choice([0, 5, 20])),
            SetString(K, owner, 20, "NX"),
            Acquire(K, owner, 5, options=Options(shared=True)),
            Acquire(K, owner, 20, options=Options(delay_ms=4)),
            Acquire(K, owner, 0, options=Options(wait_ms=20, blocking=True)),
            Renew(K, owner, 3),
            Delete(K),
            Delete(K),
        ]
    )


def outcome_of(sequence: Steps) -> tuple[list[list[Outcome]], list[list[Event]], list[bytes]]:
    table = LockTable()
    table.keeps_events = True
    index, stamp_ms = 1, 1000
    outcomes, events = [], []
    for later_ms, operations in sequence:
        stamp_ms += later_ms
        outcomes.append(table.apply(index, stamp_ms, operations))
        events.append(list(table.events))
        index += len(operations)
    return outcomes, events, list(iter(TableSnapshot(table).next_chunk, None))


@pytest.mark.parametrize("seed", range(40))
def test_a_native_script_does_what_the_interpreter_does(seed: int) -> None:
    assert_equal(seed)


def assert_equal(seed: int) -> None:
    with patch.object(scripting, "NATIVES", {}):
        interpreted = outcome_of(steps(seed))
    assert outcome_of(steps(seed)) == interpreted


@pytest.mark.parametrize(
    "source",
    [
        *REDIS_PY,
        'if redis.call("GET",KEYS[1])==ARGV[1] then return redis.call("DEL",KEYS[1]) else return 0 end',
        """-- Redlock
        if (redis.call("get", KEYS[1]) == ARGV[1]) then
            return redis.call("pexpire", KEYS[1], ARGV[2]);
        else
            return 0;
        end;""",
        """local val = redis.call("GET", KEYS[1])
        if val == ARGV[1] then
            return redis.call("DEL", KEYS[1])
        elseif val == false then
            return -1
        else
            return 0
        end""",
    ],
)
def test_libraries_scripts_are_known_however_they_are_written(source: str) -> None:
    assert Program(source.encode()).shape in NATIVES


@pytest.mark.parametrize(
    "source",
    [
        "if redis.call('get', KEYS[1]) ~= ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
        "if redis.call('get', KEYS[2]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 1 end",
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return '0'",
        "if redis.call('get', KEYS[1]) == 'ARGV' then return redis.call('del', KEYS[1]) else return 0 end",
        "if redis.pcall('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0",
        """local ARGV = {}
        if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0""",
        """local a, b = redis.call('get', KEYS[1])
        if not b or b ~= ARGV[1] then return 0 end redis.call('del', KEYS[1]) return 1""",
    ],
)
def test_a_script_that_does_something_else_is_not_known(source: str) -> None:
    assert Program(source.encode()).shape not in NATIVES


def test_a_release_serves_who_waits() -> None:
    table = LockTable()
    table.apply(1, 1000, [SetString(K, b"me")])
    table.apply(2, 1000, [Acquire(K, b"you", 900, options=Options(wait_ms=500, blocking=True))])
    table.apply(3, 1000, [Evaluate(SCRIPTS[0], (K,), (b"me",))])
    assert answer(table, GetLock(K), 1000).owner == b"you"
