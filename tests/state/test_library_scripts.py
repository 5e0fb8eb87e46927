"""What lock libraries do in their scripts, on the lock table and on a real redis-server.

Each script is written from what its library does with it; redis-py's are its own. What needs lists,
hashes or sorted sets is not here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import hiredis
import pytest
from redis.lock import Lock

from resplock.operations import Evaluate, LoadScript, Operation, Scripted, SetString
from resplock.script import script_sha1
from resplock.state.table import LockTable
from resplock.types import lock_name
from tests.redis_process import RedisProcess
from tests.script import test_libraries as library

OWNERS = (b"me", b"you")
KEYS = (b"a", b"b", b"c")
TTL_MS = b"500000"
TTL_S = b"500"
STEPS = 30

REDLOCK_RB_LOCK = """
    if (redis.call("exists", KEYS[1]) == 0 and ARGV[3] == "yes")
            or redis.call("get", KEYS[1]) == ARGV[1] then
        return redis.call("set", KEYS[1], ARGV[1], "PX", ARGV[2])
    end
"""
AIOREDLOCK_UNSET = """
    local found = redis.call('get', KEYS[1])
    if not found then
        return redis.status_reply('OK')
    elseif found == ARGV[1] then
        return redis.call('del', KEYS[1])
    else
        return redis.error_reply('ERROR')
    end
"""
AIOREDLOCK_TTL = """
    local found = redis.call('get', KEYS[1])
    if not found then
        return redis.error_reply('ERROR')
    elseif found == ARGV[1] then
        return redis.call('TTL', KEYS[1])
    end
    return redis.error_reply('ERROR')
"""
POTTERY_ACQUIRED = """
    if redis.call('get', KEYS[1]) == ARGV[1] then
        local ttl = redis.call('pttl', KEYS[1])
        return (ttl > 0) and ttl or 0
    else
        return 0
    end
"""
SHERLOCK_RENEW = """
    local result = 0
    if redis.call('GET', KEYS[1]) == ARGV[1] then
        if ARGV[2] ~= 'None' then
            result = redis.call('EXPIRE', KEYS[1], ARGV[2])
        else
            redis.call('PERSIST', KEYS[1])
            result = 1
        end
    end
    return result
"""
NODE_REDLOCK_EXTEND = """
    for i, key in ipairs(KEYS) do
        if redis.call("get", key) ~= ARGV[1] then
            return 0
        end
    end
    for i, key in ipairs(KEYS) do
        redis.call("set", key, ARGV[1], "PX", ARGV[2])
    end
    return #KEYS
"""
REDLOCK_NET_EXTEND = """
    local held = redis.call('get', KEYS[1])
    if held == false then
        return redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2]) and 1 or 0
    elseif held == ARGV[1] then
        return redis.call('pexpire', KEYS[1], ARGV[2])
    else
        return -1
    end
"""
REDSYNC_TOUCH_OR_SET = """
    if redis.call("GET", KEYS[1]) == ARGV[1] then
        return redis.call("PEXPIRE", KEYS[1], ARGV[2])
    elseif redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2], "NX") then
        return 1
    else
        return 0
    end
"""
REDISLOCK_OBTAIN = """
    local function mine()
        local length = tonumber(ARGV[2])
        for i, key in ipairs(KEYS) do
            if redis.call("getrange", key, 0, length - 1) ~= string.sub(ARGV[1], 1, length) then
                return false
            end
        end
        return true
    end
    local pairs_to_set = {}
    for i, key in ipairs(KEYS) do
        table.insert(pairs_to_set, key)
        table.insert(pairs_to_set, ARGV[1])
    end
    if redis.call("msetnx", unpack(pairs_to_set)) ~= 1 then
        if mine() == false then
            return false
        end
        redis.call("mset", unpack(pairs_to_set))
    end
    for _, key in ipairs(KEYS) do
        redis.call("pexpire", key, ARGV[3])
    end
    return redis.status_reply("OK")
"""
REDISLOCK_RELEASE = """
    local values = redis.call("mget", unpack(KEYS))
    for i, _ in ipairs(KEYS) do
        if values[i] ~= ARGV[1] then
            return false
        end
    end
    for _, key in ipairs(KEYS) do
        if redis.call("del", key) ~= 1 then
            return redis.error_reply("cannot delete " .. key)
        end
    end
    return redis.status_reply("OK")
"""
SPRING_UNLOCK = """
    local holder = redis.call('GET', KEYS[1])
    if holder == ARGV[1] then
        redis.call('UNLINK', KEYS[1])
        return true
    end
    return false
"""
LARAVEL_REFRESH = """
    if redis.call('get', KEYS[1]) == ARGV[1] then
        if tonumber(ARGV[2]) > 0 then
            return redis.call('expire', KEYS[1], ARGV[2])
        end
        redis.call('persist', KEYS[1])
        return 1
    end
    return 0
"""
RQ_SCHEDULER = """
    local held = redis.call('get', KEYS[1])
    if held == ARGV[1] then
        redis.call('expire', KEYS[1], ARGV[2])
        return 2
    elseif not held then
        redis.call('set', KEYS[1], ARGV[1], 'EX', ARGV[2])
        return 1
    end
    return 0
"""
RUEIDISLOCK_EXTEND = """
    if redis.call("GET", KEYS[1]) == ARGV[1] then
        return redis.call("PEXPIREAT", KEYS[1], ARGV[2])
    end
    return 0
"""
NEXT_ID = """
    local now = tonumber(redis.call('get', KEYS[1]))
    local next = tonumber(ARGV[1])
    if now == nil or now < next then
        redis.call('set', KEYS[1], next)
        return next
    end
    return nil
"""
INCREMENT_AND_EXPIRE = """
    local now = redis.call("incrby", KEYS[1], ARGV[1])
    if tonumber(now) == tonumber(ARGV[1]) then
        redis.call("expire", KEYS[1], ARGV[2])
    end
    return now
"""


class Script(NamedTuple):
    source: str
    arguments: tuple[bytes, ...] = ()
    """After the owner."""
    keys_max: int = 1
    owned: bool = True
    """Its first argument is the owner."""


LIBRARIES: dict[str, list[Script]] = {
    "redis-py": [
        Script(Lock.LUA_RELEASE_SCRIPT),
        Script(Lock.LUA_EXTEND_SCRIPT, (TTL_MS, b"0")),
        Script(Lock.LUA_EXTEND_SCRIPT, (TTL_MS, b"1")),
        Script(Lock.LUA_REACQUIRE_SCRIPT, (TTL_MS,)),
    ],
    "redlock-py, ShedLock, medallion, Laravel": [
        Script(library.COMPARE_AND_DELETE),
        Script(library.COMPARE_AND_PEXPIRE, (TTL_MS,)),
        Script(LARAVEL_REFRESH, (TTL_S,)),
        Script(LARAVEL_REFRESH, (b"0",)),
    ],
    "redlock-rb": [
        Script(REDLOCK_RB_LOCK, (TTL_MS, b"yes")),
        Script(REDLOCK_RB_LOCK, (TTL_MS, b"no")),
        Script(library.LOCK_STATE),
        Script(library.COMPARE_AND_DELETE),
    ],
    "redsync": [
        Script(library.REDSYNC_RELEASE),
        Script(REDSYNC_TOUCH_OR_SET, (TTL_MS,)),
        Script(library.COMPARE_AND_PEXPIRE, (TTL_MS,)),
    ],
    "RedLock.net": [
        Script(REDLOCK_NET_EXTEND, (TTL_MS,)),
        Script(library.COMPARE_AND_DELETE),
    ],
    "node-redlock": [
        Script(library.NODE_REDLOCK_ACQUIRE, (TTL_MS,), 3),
        Script(NODE_REDLOCK_EXTEND, (TTL_MS,), 3),
        Script(library.NODE_REDLOCK_RELEASE, (), 3),
    ],
    "bsm/redislock": [
        Script(REDISLOCK_OBTAIN, (b"2", TTL_MS), 3),
        Script(REDISLOCK_RELEASE, (), 3),
        Script(library.REDISLOCK_MIN_TTL, (), 3),
    ],
    "aioredlock": [
        Script(library.AIOREDLOCK_SET, (TTL_MS,)),
        Script(AIOREDLOCK_UNSET),
        Script(AIOREDLOCK_TTL),
    ],
    "pottery": [
        Script(POTTERY_ACQUIRED),
        Script(library.COMPARE_AND_DELETE),
        Script(NEXT_ID, (b"3",), owned=False),
        Script(NEXT_ID, (b"8",), owned=False),
    ],
    "sherlock": [
        Script(library.SHERLOCK_ACQUIRE, (TTL_S,)),
        Script(library.SHERLOCK_ACQUIRE, (b"None",)),
        Script(SHERLOCK_RENEW, (TTL_S,)),
        Script(SHERLOCK_RENEW, (b"None",)),
    ],
    "Spring Integration": [
        Script(library.SPRING_OBTAIN, (TTL_MS,)),
        Script(SPRING_UNLOCK),
        Script(library.COMPARE_AND_PEXPIRE, (TTL_MS,)),
    ],
    "rq": [Script(RQ_SCHEDULER, (TTL_S,)), Script(library.COMPARE_AND_DELETE)],
    "rueidislock": [Script(RUEIDISLOCK_EXTEND, (b"4102444800000",)), Script(library.LOCK_STATE)],
    "limiters": [
        Script(INCREMENT_AND_EXPIRE, (b"1", TTL_S), owned=False),
        Script(INCREMENT_AND_EXPIRE, (b"-7", TTL_S), owned=False),
    ],
}


class Servers:
    """A lock table, and a redis-server; both know the same time, but for what passes meanwhile."""

    def __init__(self, link: socket.socket) -> None:
        self.link, self.reader = link, hiredis.Reader()
        self.ask(b"FLUSHALL")
        seconds, us = self.ask(b"TIME")
        self.table = LockTable()
        self.table.unix_offset_ms = int(seconds) * 1000 + int(us) // 1000 - 1000
        self.index = 1

    def ask(self, *words: bytes) -> Any:
        self.link.sendall(hiredis.pack_command(words))
        while (reply := self.reader.gets()) is False:
            self.reader.feed(self.link.recv(65_536))
        return reply

    def apply(self, operation: Operation) -> Any:
        (outcome,) = self.table.apply(self.index, 1000, [operation])
        self.index += 1
        return outcome

    def run(self, source: bytes, keys: list[bytes], arguments: list[bytes]) -> tuple[Any, Any]:
        """EVALSHA; both replies."""
        sha = self.ask(b"SCRIPT", b"LOAD", source)
        assert self.apply(LoadScript(source)) == Scripted(b"$40\r\n%b\r\n" % script_sha1(source))
        names = tuple(lock_name(0, key) for key in keys)
        ours = self.apply(Evaluate(script_sha1(source), names, tuple(arguments), by_sha=True))
        reader = hiredis.Reader()
        reader.feed(ours.resp2)
        count = b"%d" % len(keys)
        theirs = self.ask(b"EVALSHA", sha, count, *keys, *arguments)
        return rounded(reader.gets()), rounded(theirs)


def rounded(reply: Any) -> Any:
    """Without what the time between the two makes of a TTL."""
    if isinstance(reply, hiredis.ReplyError):
        return str(reply)
    if isinstance(reply, list):
        return [rounded(each) for each in reply]
    if not isinstance(reply, int) or abs(reply) < 100:
        return reply
    return f"about {round(reply, -1) if reply < 1000 else round(reply, -4)}"


@pytest.fixture(scope="module")
def process() -> Iterator[RedisProcess]:
    found = RedisProcess()
    yield found
    found.stop()


@pytest.fixture
def servers(process: RedisProcess) -> Iterator[Servers]:
    with process.connect() as link:
        yield Servers(link)


LOOK = b"""
    local found = {}
    for i, key in ipairs(KEYS) do
        found[i] = {redis.call('GET', key), redis.call('PTTL', key)}
    end
    return found
"""


@pytest.mark.parametrize("scripts", LIBRARIES.values(), ids=LIBRARIES.keys())
def test_a_librarys_scripts_do_what_they_do_on_redis(
    scripts: list[Script], servers: Servers
) -> None:
    chance = Random(len(scripts))
    replies = set()
    for _ in range(STEPS):
        if chance.random() < 0.4:
            key, owner = chance.choice(KEYS), chance.choice(OWNERS)
            if scripts[0].owned:
                servers.apply(SetString(lock_name(0, key), owner, int(TTL_MS), "NX"))
                servers.ask(b"SET", key, owner, b"NX", b"PX", TTL_MS)
        script = chance.choice(scripts)
        keys = chance.sample(KEYS, chance.randint(1, script.keys_max))
        arguments = [chance.choice(OWNERS)] * script.owned + list(script.arguments)
        ours, theirs = servers.run(script.source.encode(), keys, arguments)
        assert ours == theirs, (script, keys, arguments)
        replies.add(repr(ours))
        ours, theirs = servers.run(LOOK, list(KEYS), [])
        assert ours == theirs, (script, keys, arguments)
    assert len(replies) > 1, "the sequence shows nothing"
