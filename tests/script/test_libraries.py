"""What lock libraries do in their scripts, each by its behaviour."""

from __future__ import annotations

import pytest

from resplock.script import Failure, Reply, Status
from tests.script.store import Store

COMPARE_AND_DELETE = """
if redis.call("get", KEYS[1]) == ARGV[1] then
    return redis.call("del", KEYS[1])
else
    return 0
end
"""
"""Redlock ports, ShedLock, Laravel, and most of the others."""

COMPARE_AND_PEXPIRE = """
if redis.call("get", KEYS[1]) == ARGV[1] then
    return redis.call("pexpire", KEYS[1], ARGV[2])
end
return 0
"""

REDIS_PY_EXTEND = """
local value = redis.call('get', KEYS[1])
if not value or value ~= ARGV[1] then return 0 end
local left = redis.call('pttl', KEYS[1])
if left < 0 then left = 0 end
local wanted = ARGV[2]
if ARGV[3] == '0' then wanted = ARGV[2] + left end
redis.call('pexpire', KEYS[1], wanted)
return 1
"""

REDSYNC_RELEASE = """
local value = redis.call("GET", KEYS[1])
if value == ARGV[1] then
    return redis.call("DEL", KEYS[1])
elseif value == false then
    return -1
else
    return 0
end
"""

NODE_REDLOCK_ACQUIRE = """
for i, key in ipairs(KEYS) do
    if redis.call("exists", key) == 1 then return 0 end
end
for i, key in ipairs(KEYS) do
    redis.call("set", key, ARGV[1], "PX", ARGV[2])
end
return #KEYS
"""

NODE_REDLOCK_RELEASE = """
local count = 0
for i, key in ipairs(KEYS) do
    if redis.call("get", key) == ARGV[1] then
        redis.pcall("del", key)
        count = count + 1
    end
end
return count
"""

AIOREDLOCK_SET = """
local found = redis.call('get', KEYS[1])
if not found or found == ARGV[1] then
    return redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
    return redis.error_reply('ERROR')
end
"""

SHERLOCK_ACQUIRE = """
local got = redis.call('setnx', KEYS[1], ARGV[1])
if got == 1 and tonumber(ARGV[2]) ~= nil then
    redis.call('expire', KEYS[1], ARGV[2])
end
return got
"""

SPRING_OBTAIN = """
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return true
elseif not holder then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return true
end
return false
"""

LOCK_STATE = "return { redis.call('get', KEYS[1]), redis.call('pttl', KEYS[1]) }"

REDISLOCK_MIN_TTL = """
local values = redis.call("mget", unpack(KEYS))
local least = -3
for i, _ in ipairs(KEYS) do
    if values[i] ~= ARGV[1] then return nil end
    local ttl = redis.call("pttl", KEYS[i])
    if least == -3 or ttl < least then least = ttl end
end
return least
"""


def held(ttl_ms: int = 1000) -> Store:
    store = Store(k=b"mine")
    store.ttls_ms[b"k"] = ttl_ms
    return store


@pytest.mark.parametrize(
    ("source", "argv", "reply", "left"),
    [
        (COMPARE_AND_DELETE, ("mine",), 1, None),
        (COMPARE_AND_DELETE, ("other",), 0, 1000),
        (COMPARE_AND_PEXPIRE, ("mine", "7000"), 1, 7000),
        (COMPARE_AND_PEXPIRE, ("other", "7000"), 0, 1000),
        (REDIS_PY_EXTEND, ("mine", "500", "0"), 1, 1500),
        (REDIS_PY_EXTEND, ("mine", "500", "1"), 1, 500),
        (REDIS_PY_EXTEND, ("other", "500", "0"), 0, 1000),
        (REDSYNC_RELEASE, ("mine",), 1, None),
        (REDSYNC_RELEASE, ("other",), 0, 1000),
        (NODE_REDLOCK_ACQUIRE, ("mine", "100"), 0, 1000),
        (NODE_REDLOCK_RELEASE, ("mine",), 1, None),
        (NODE_REDLOCK_RELEASE, ("other",), 0, 1000),
        (AIOREDLOCK_SET, ("mine", "100"), Status(b"OK"), 100),
        (AIOREDLOCK_SET, ("other", "100"), Failure(b"ERR ERROR"), 1000),
        (SHERLOCK_ACQUIRE, ("other", "5"), 0, 1000),
        (SPRING_OBTAIN, ("mine", "400"), 1, 400),
        (SPRING_OBTAIN, ("other", "400"), None, 1000),
        (LOCK_STATE, (), [b"mine", 1000], 1000),
        (REDISLOCK_MIN_TTL, ("mine",), 1000, 1000),
        (REDISLOCK_MIN_TTL, ("other",), None, 1000),
    ],
)
def test_on_a_held_lock(source: str, argv: tuple[str, ...], reply: Reply, left: int | None) -> None:
    store = held()
    assert store.run(source, "k", argv=argv) == reply
    assert store.ttls_ms.get(b"k") == left
    assert store.values.get(b"k") == (None if left is None else b"mine")


@pytest.mark.parametrize(
    ("source", "argv", "reply", "value", "left"),
    [
        (COMPARE_AND_DELETE, ("mine",), 0, None, None),
        (REDIS_PY_EXTEND, ("mine", "500", "0"), 0, None, None),
        (REDSYNC_RELEASE, ("mine",), -1, None, None),
        (NODE_REDLOCK_ACQUIRE, ("mine", "100"), 1, b"mine", 100),
        (NODE_REDLOCK_RELEASE, ("mine",), 0, None, None),
        (AIOREDLOCK_SET, ("mine", "100"), Status(b"OK"), b"mine", 100),
        (SHERLOCK_ACQUIRE, ("mine", "5"), 1, b"mine", 5000),
        (SHERLOCK_ACQUIRE, ("mine", "None"), 1, b"mine", None),
        (SPRING_OBTAIN, ("mine", "400"), 1, b"mine", 400),
        (LOCK_STATE, (), [None, -2], None, None),
    ],
)
def test_on_a_free_lock(
    source: str, argv: tuple[str, ...], reply: Reply, value: bytes | None, left: int | None
) -> None:
    store = Store()
    assert store.run(source, "k", argv=argv) == reply
    assert (store.values.get(b"k"), store.ttls_ms.get(b"k")) == (value, left)
