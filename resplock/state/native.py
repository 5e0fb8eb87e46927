"""The scripts that nearly all lock libraries release and extend with, done without an interpreter.

Pure and deterministic. They are known by their shape. Each does exactly what running the script does,
for what libraries call it with; for anything else it does nothing, and the script is run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from resplock.errors import CommandError
from resplock.operations import Delete, Evaluate, Expire, GetTtl, Number, Scripted
from resplock.script.parser import parse
from resplock.script.shape import shape_of
from resplock.script.values import number_to_argument, to_number
from resplock.state import ends, strings
from resplock.state.ledger import Ledger
from resplock.state.records import Mode
from resplock.strings import GRAMMARS
from resplock.types import LockName, key_of

Native: TypeAlias = Callable[[Ledger, Evaluate, int], "Scripted | None"]
"""(ledger, operation, log index) -> reply, or None when it has done nothing."""

_ONE: Final = Scripted(b":1\r\n")
_ZERO: Final = Scripted(b":0\r\n")
_MINUS_ONE: Final = Scripted(b":-1\r\n")
_PEXPIRE: Final = GRAMMARS[b"PEXPIRE"]


def _is_mine(
    ledger: Ledger, operation: Evaluate, index: int, arguments: int, absent: Scripted
) -> Scripted | None:
    """_ONE if KEYS[1] has the value ARGV[1], `absent` if there is no such key, else _ZERO.

    None when it is no string, or when the script is called with less than it looks at.
    """
    if not operation.names or len(operation.arguments) < arguments:
        return None
    name = operation.names[0]
    ends.settle(ledger, name, index)
    lock = ledger.locks.get(name)
    if lock is None or not lock.holds:
        return absent
    if lock.mode is not Mode.EXCLUSIVE:
        return None
    return _ONE if lock.holds[0].owner == operation.arguments[0] else _ZERO


def _release(absent: Scripted) -> Native:
    def release(ledger: Ledger, operation: Evaluate, index: int) -> Scripted | None:
        names, arguments = operation.names, operation.arguments
        if names and arguments:
            slot = ledger.locks.writable(names[0])
            lock = slot.get(names[0])
            if lock is None:
                return absent
            if lock.extra is None and not 0 < lock.next_deadline_ms <= ledger.clock_ms:
                if lock.holds[0].owner != arguments[0]:
                    return _ZERO
                strings.delete_plain(ledger, slot, names[0], lock)
                return _ONE
        reply = _is_mine(ledger, operation, index, 1, absent)
        if reply is _ONE:
            strings.delete(ledger, Delete(operation.names[0]), index)
        return reply

    return release


def _renew(ledger: Ledger, operation: Evaluate, index: int) -> Scripted | None:
    reply = _is_mine(ledger, operation, index, 2, _ZERO)
    return _expire(ledger, operation, operation.arguments[1], index) if reply is _ONE else reply


def _extend(ledger: Ledger, operation: Evaluate, index: int) -> Scripted | None:
    """ARGV[3] "0": add ARGV[2] to what is left."""
    reply = _is_mine(ledger, operation, index, 3, _ZERO)
    if reply is not _ONE:
        return reply
    left = strings.read(ledger, GetTtl(operation.names[0], unit_ms=1), ledger.clock_ms)
    assert isinstance(left, Number)
    if left.value < 0:
        return _ZERO
    _, ttl, replaces, *_ = operation.arguments
    if replaces != b"0":
        return _expire(ledger, operation, ttl, index)
    added = to_number(ttl)
    if added is None:
        return None
    return _expire(ledger, operation, number_to_argument(added + left.value), index)


def _expire(ledger: Ledger, operation: Evaluate, ttl: bytes, index: int) -> Scripted | None:
    name: LockName = operation.names[0]
    try:
        bound = _PEXPIRE.bind([b"PEXPIRE", key_of(name), ttl], name[0])
    except CommandError:
        return None
    assert isinstance(bound, Expire)
    strings.HANDLERS[Expire](ledger, bound, index)
    return _ONE


_REDLOCK: Final = """
    if redis.call('get', KEYS[1]) == ARGV[1] then
        return redis.call({})
    else
        return 0
    end
"""
_REDLOCK_WITHOUT_ELSE: Final = """
    if redis.call('get', KEYS[1]) == ARGV[1] then
        return redis.call({})
    end
    return 0
"""
_REDSYNC: Final = """
    local value = redis.call('get', KEYS[1])
    if value == ARGV[1] then
        return redis.call('del', KEYS[1])
    elseif value == false then
        return -1
    else
        return 0
    end
"""
_REDIS_PY: Final = """
    local value = redis.call('get', KEYS[1])
    if not value or value ~= ARGV[1] then
        return 0
    end
    redis.call({})
    return 1
"""
_REDIS_PY_EXTEND: Final = """
    local value = redis.call('get', KEYS[1])
    if not value or value ~= ARGV[1] then
        return 0
    end
    local left = redis.call('pttl', KEYS[1])
    if not left then
        left = 0
    end
    if left < 0 then
        return 0
    end
    local ttl = ARGV[2]
    if ARGV[3] == '0' then
        ttl = ARGV[2] + left
    end
    redis.call('pexpire', KEYS[1], ttl)
    return 1
"""
_DEL, _PEXPIRE_2 = "'del', KEYS[1]", "'pexpire', KEYS[1], ARGV[2]"
_KNOWN: Final[tuple[tuple[str, Native], ...]] = (
    (_REDLOCK.format(_DEL), _release(_ZERO)),
    (_REDLOCK_WITHOUT_ELSE.format(_DEL), _release(_ZERO)),
    (_REDIS_PY.format(_DEL), _release(_ZERO)),
    (_REDSYNC, _release(_MINUS_ONE)),
    (_REDLOCK.format(_PEXPIRE_2), _renew),
    (_REDLOCK_WITHOUT_ELSE.format(_PEXPIRE_2), _renew),
    (_REDIS_PY.format(_PEXPIRE_2), _renew),
    (_REDIS_PY_EXTEND, _extend),
)
NATIVES: Final[dict[bytes, Native]] = {
    shape_of(parse(source.encode())[0]): native for source, native in _KNOWN
}
"""By the shape of the script."""
