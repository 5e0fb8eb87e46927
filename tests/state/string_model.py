"""The naive model's string commands and scripts: a key's value is the owner of an exclusive hold.

Written from COMMANDS, as `tests.state.model` is. Of a script the model knows what it means: what the
lock libraries send is in `MEANINGS`, by its source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from resplock.operations import (
    KEEP_TTL,
    Append,
    Bulk,
    Delete,
    DeleteAll,
    DeleteIf,
    Done,
    Evaluate,
    Execute,
    Executed,
    Expire,
    FlushScripts,
    GetDelete,
    GetExpire,
    GetString,
    Increment,
    LoadScript,
    Look,
    Number,
    Options,
    Outcome,
    Persist,
    Query,
    Refused,
    Scripted,
    SetAll,
    SetString,
    Unblocked,
    Watch,
    Watched,
    WrongType,
)
from resplock.script import script_sha1
from resplock.types import LockName

if TYPE_CHECKING:
    from tests.state.model import Model, ModelHold

StringOperation = (
    SetString
    | Delete
    | DeleteAll
    | DeleteIf
    | GetDelete
    | GetExpire
    | Expire
    | Persist
    | SetAll
    | Increment
    | Append
    | Evaluate
    | LoadScript
    | FlushScripts
    | Watch
    | Execute
    | Look
)
Answer: TypeAlias = int | bytes | None


class WrongTypeError(Exception):
    """What redis.call raises."""


def run(model: Model, operation: StringOperation) -> Outcome:
    match operation:
        case SetString():
            return set_string(model, operation)
        case SetAll():
            return set_all(model, operation)
        case Increment(name, by):
            return change(model, name, lambda value: b"%d" % (int(value or b"0") + by), int)
        case Append(name, more):
            return change(model, name, lambda value: value + more, len)
        case Delete(name):
            return Number(int(delete(model, name)))
        case DeleteAll(names):
            return Number(sum([delete(model, name) for name in names]))
        case LoadScript(script):
            model.scripts[script_sha1(script)] = script
            return Scripted(b"$40\r\n%b\r\n" % script_sha1(script))
        case FlushScripts():
            model.scripts.clear()
            return Done()
        case Evaluate():
            return evaluate(model, operation)
        case Watch(names):
            return watch(model, names)
        case Execute():
            return execute(model, operation)
        case Look(query):
            return look(model, query)
        case _:
            return run_on_value(model, operation)


def run_on_value(
    model: Model, operation: DeleteIf | GetDelete | GetExpire | Expire | Persist
) -> Outcome:
    """What needs a key that has a value."""
    hold = value_of(model, operation.name)
    if isinstance(hold, WrongType):
        return hold
    match operation:
        case DeleteIf(name, value, is_equal):
            return Number(delete_if(model, name, value, is_equal))
        case GetDelete(name):
            delete(model, name)
            return Bulk(hold and hold.owner)
        case GetExpire():
            if hold is not None:
                deadline = deadline_of(model, hold, operation)
                if deadline != hold.deadline:
                    move_end(model, hold, deadline)
            return Bulk(hold and hold.owner)
        case Expire():
            return expire(model, operation)
        case Persist():
            if hold is None or not hold.deadline:
                return Number(0)
            set_deadline(model, hold, 0)
            return Number(1)


def watch(model: Model, names: tuple[LockName, ...]) -> Watched:
    """The numbers are the table's: the model asks for them, and knows what has changed since."""
    numbers = model.numbers[model.index]
    for name, number in zip(names, numbers, strict=True):
        model.watched[name, number] = model.changes[name]
    return Watched(numbers)


def execute(model: Model, operation: Execute) -> Executed:
    for each in operation.watched:
        if model.watched.get(each) != model.changes[each[0]]:
            return Executed(None)
    return Executed(tuple([model.run(step) for step in operation.steps]))


def look(model: Model, query: Query) -> Bulk | WrongType:
    """GET: the model knows no other."""
    assert isinstance(query, GetString)
    hold = value_of(model, query.name)
    return hold if isinstance(hold, WrongType) else Bulk(hold and hold.owner)


def value_of(model: Model, name: LockName) -> ModelHold | WrongType | None:
    holds = model.held(name)
    if not holds:
        return None
    return holds[0] if holds[0].mode == "exclusive" else WrongType()


# --- setting -------------------------------------------------------------------------------------


def set_string(model: Model, operation: SetString) -> Outcome:
    hold = value_of(model, operation.name)
    if isinstance(hold, WrongType) and operation.gives_old:
        return hold
    former = hold.owner if hold is not None and not isinstance(hold, WrongType) else None
    if operation.condition == "NX":
        may = hold is None and model.is_free(operation.name, Options())
    else:
        may = hold is not None or operation.condition != "XX"
    if not may:
        if operation.counts:
            return Number(0)
        return Bulk(former if operation.gives_old else None)
    if isinstance(hold, WrongType):
        return hold
    put(model, operation.name, operation.value, deadline_of(model, hold, operation))
    if operation.gives_old:
        return Bulk(former)
    return Number(1) if operation.counts else Done()


def set_all(model: Model, operation: SetAll) -> Outcome:
    names = operation.names
    if operation.if_absent:
        if any(model.held(name) or not model.is_free(name, Options()) for name in names):
            return Number(0)
    elif any(isinstance(value_of(model, name), WrongType) for name in names):
        return WrongType()
    for name, value in zip(names, operation.values, strict=True):
        put(model, name, value, 0)
    return Number(1) if operation.if_absent else Done()


def change(
    model: Model,
    name: LockName,
    changed: Callable[[bytes], bytes],
    told: Callable[[bytes], int],
) -> Outcome:
    hold = value_of(model, name)
    if isinstance(hold, WrongType):
        return hold
    value = hold.owner if hold is not None else b""
    try:
        value = changed(value)
    except ValueError:
        return Refused("")
    if hold is None or hold.owner != value:
        put(model, name, value, hold.deadline if hold is not None else 0)
    return Number(told(value))


def deadline_of(model: Model, hold: ModelHold | None, operation: SetString | GetExpire) -> int:
    if operation.at_ms:
        return max(operation.at_ms - model.unix_offset, 1)
    if operation.ttl_ms == KEEP_TTL:
        return hold.deadline if hold is not None else 0
    return model.now + operation.ttl_ms if operation.ttl_ms else 0


def put(model: Model, name: LockName, value: bytes, deadline: int) -> None:
    hold = model.hold_of(name, value)
    if hold is not None:
        set_deadline(model, hold, deadline)
    else:
        replaced = [place for place in model.queue(name) if place.owner == value]
        for place in replaced:
            model.unqueue(place, Unblocked("replaced"), b"replaced")
        for other in model.held(name):
            model.holds.remove(other)
            model.tell("deleted", name, other.owner, other.version, b"replaced")
        model.take(name, value, deadline)
        for place in replaced:
            model.serve(list(place.names))
    while model.end_next():
        pass


def set_deadline(model: Model, hold: ModelHold, deadline: int) -> None:
    model.heard(hold, Options())
    hold.deadline = deadline
    hold.ttl = max(deadline - model.now, 1) if deadline else 0
    model.tell("renewed", hold.name, hold.owner, hold.version)


# --- deleting, and when they end -----------------------------------------------------------------


def delete(model: Model, name: LockName) -> bool:
    gone = model.held(name)
    for hold in gone:
        model.holds.remove(hold)
        model.tell("deleted", name, hold.owner, hold.version)
        model.delay(hold)
    if gone:
        model.serve([name])
    return bool(gone)


def delete_if(model: Model, name: LockName, value: bytes, is_equal: bool) -> int:
    hold = value_of(model, name)
    assert not isinstance(hold, WrongType)
    if hold is None or (hold.owner == value) is not is_equal:
        return 0
    if not is_equal:
        return int(delete(model, name))
    model.holds.remove(hold)
    model.tell("released", name, hold.owner, hold.version)
    model.serve([name])
    return 1


def expire(model: Model, operation: Expire) -> Outcome:
    hold = value_of(model, operation.name)
    if isinstance(hold, WrongType):
        return hold
    if hold is None:
        return Number(0)
    moment = operation.ms + (-model.unix_offset if operation.is_unix else model.now)
    fits = {
        "NX": not hold.deadline,
        "XX": bool(hold.deadline),
        "GT": 0 < hold.deadline < moment,
        "LT": not hold.deadline or moment < hold.deadline,
    }
    if not all(fits[condition] for condition in operation.conditions):
        return Number(0)
    move_end(model, hold, max(moment, 1))
    return Number(1)


def move_end(model: Model, hold: ModelHold, deadline: int) -> None:
    if 0 < deadline <= model.now:
        delete(model, hold.name)
    else:
        set_deadline(model, hold, deadline)


# --- scripts -------------------------------------------------------------------------------------


def evaluate(model: Model, operation: Evaluate) -> Outcome:
    source: bytes | None = operation.script
    if operation.by_sha:
        source = model.scripts.get(operation.script.lower())
    if source is None:
        return Scripted(b"-NOSCRIPT")
    model.scripts[script_sha1(source)] = source
    try:
        answer = MEANINGS[source](model, operation.names, operation.arguments)
    except WrongTypeError:
        return Scripted(b"-WRONGTYPE")
    match answer:
        case None:
            return Scripted(b"$-1\r\n", b"_\r\n")
        case int():
            return Scripted(b":%d\r\n" % answer)
        case _:
            return Scripted(b"$%d\r\n%b\r\n" % (len(answer), answer))


RELEASE = b"""
if redis.call("get", KEYS[1]) == ARGV[1] then
    return redis.call("del", KEYS[1])
else
    return 0
end
"""
"""Redis's documentation, redis-py, and everybody else."""

EXTEND = b"""
if redis.call("get", KEYS[1]) == ARGV[1] then
    return redis.call("pexpire", KEYS[1], ARGV[2])
end
return 0
"""

TAKE = b"""
for i, key in ipairs(KEYS) do
    if redis.call("exists", key) == 1 then
        return 0
    end
end
for i, key in ipairs(KEYS) do
    redis.call("set", key, ARGV[1], "PX", ARGV[2])
end
return #KEYS
"""
"""node-redlock: all of these locks, or none."""

TAKE_UNTIL = b"""
local now = redis.call("time")
local ends = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
if redis.call("set", KEYS[1], ARGV[1], "NX", "PXAT", ends) then
    return 1
end
return 0
"""
"""It looks at the clock: the end is a moment of unix time."""


def is_value(model: Model, name: LockName, value: bytes) -> bool:
    hold = value_of(model, name)
    if isinstance(hold, WrongType):
        raise WrongTypeError
    return hold is not None and hold.owner == value


def release(model: Model, names: Sequence[LockName], arguments: Sequence[bytes]) -> Answer:
    return int(is_value(model, names[0], arguments[0]) and delete(model, names[0]))


def extend(model: Model, names: Sequence[LockName], arguments: Sequence[bytes]) -> Answer:
    if not is_value(model, names[0], arguments[0]):
        return 0
    outcome = expire(model, Expire(names[0], int(arguments[1])))
    assert isinstance(outcome, Number)
    return outcome.value


def take(model: Model, names: Sequence[LockName], arguments: Sequence[bytes]) -> Answer:
    if any(model.held(name) for name in names):
        return 0
    for name in names:
        set_string(model, SetString(name, arguments[0], int(arguments[1])))
    return len(names)


def take_until(model: Model, names: Sequence[LockName], arguments: Sequence[bytes]) -> Answer:
    at_ms = model.now + model.unix_offset + int(arguments[1])
    outcome = set_string(model, SetString(names[0], arguments[0], condition="NX", at_ms=at_ms))
    return int(outcome == Done())


MEANINGS: dict[bytes, Callable[[Model, Sequence[LockName], Sequence[bytes]], Answer]] = {
    RELEASE: release,
    EXTEND: extend,
    TAKE: take,
    TAKE_UNTIL: take_until,
}
