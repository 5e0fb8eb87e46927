"""Programs that take locks as they do with Redis: SET NX PX, and scripts that compare and delete.

Each hold has a value of its own, by which it is released and extended, through strings, scripts, or
the other view of the same lock: LOCK.RELEASE and LOCK.RENEW by the value's owner. LOCK.GET tells the
fencing version, under which the client then writes.

Also here: what such a command is for the history of each lock that it concerns.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from resplock.operations import (
    Bulk,
    CountKeys,
    Delete,
    DeleteIf,
    Done,
    Evaluate,
    Execute,
    Expire,
    FlushScripts,
    GetDelete,
    GetLock,
    GetString,
    GetTtl,
    LoadScript,
    LockInfo,
    Look,
    Number,
    Operation,
    Query,
    Release,
    Renew,
    Scripted,
    ScriptsExist,
    SetAll,
    SetString,
    Watch,
    Watched,
    WrongType,
)
from resplock.script import script_sha1
from resplock.types import LockName
from tests.state.string_model import EXTEND, MEANINGS, RELEASE, TAKE, TAKE_UNTIL

SCRIPTS = {script_sha1(source): source for source in MEANINGS} | {each: each for each in MEANINGS}
"""Sources, by themselves and by their SHA1."""
NOT_KNOWN = b"-NOSCRIPT"
_TTLS_MS = (150, 400, 400, 1500, 1500, 5000, 20_000)
_VALUE = b"v%d"
_NUMBER = b"#%d"


# --- numbers of calls, which are found again in the log ------------------------------------------


def tagged(command: Any, number: int) -> Any:
    """The command as the call of this number: a new lock's value, or one more argument, says so."""
    match command:
        case SetString(value=b""):
            return replace(command, value=_VALUE % number)
        case SetAll(names=names):
            return replace(command, values=(_VALUE % number,) * len(names))
        case Execute(steps):
            return replace(command, steps=tuple([tagged(step, number) for step in steps]))
        case Evaluate(arguments=(value, *others)):
            value = value or _VALUE % number
            return replace(command, arguments=(value, *others, _NUMBER % number))
    return command


def tag_of(command: Any) -> int | None:
    """The number that it carries. Who sets a key to what it is already carries the first one's."""
    match command:
        case SetString(value=value) | SetAll(values=(value, *_)) if value.startswith(b"v"):
            return int(value[1:])
        case Evaluate(arguments=(*_, number)) if number.startswith(b"#"):
            return int(number[1:])
        case Execute(steps) if steps:
            return tag_of(steps[-1])
    return None


def is_script(command: Any, source: bytes) -> bool:
    """Whether it runs this script."""
    return isinstance(command, Evaluate) and source_of(command) == source


def source_of(command: Evaluate) -> bytes:
    """The script, whether it was sent or named."""
    return SCRIPTS[command.script]


# --- what they ask -------------------------------------------------------------------------------


class Strings:
    """One client's taste, and what it believes to hold."""

    def __init__(self, rng: random.Random, keys: list[LockName], owner: bytes) -> None:
        self.rng = rng
        self._keys = keys
        self._owner = owner
        self._values: dict[LockName, bytes] = {}
        self._unversioned: list[LockName] = []
        self._again: Evaluate | None = None
        self._watched: tuple[tuple[LockName, int], ...] | None = None

    def forget(self) -> None:
        """Another program comes in its place."""
        self._values.clear()
        self._unversioned.clear()
        self._again = self._watched = None

    def choose(self) -> Sequence[Operation | Query]:
        """The next command, or a pipeline of two: a lock is given back, and taken anew."""
        if self._watched is not None:
            return [self._execute()]
        if self.rng.random() < 0.08:
            names = self.rng.sample(self._keys, min(2, len(self._keys)))
            return [Watch(tuple(names[: self.rng.choice((1, 1, 2))]))]
        if self._values and self.rng.random() < 0.05:
            name = self.rng.choice(sorted(self._values))
            again = SetString(name, b"", self.rng.choice(_TTLS_MS), "NX")
            return [DeleteIf(name, self._values[name]), again]
        return [self._choose()]

    def _choose(self) -> Operation | Query:
        rng = self.rng
        if self._again is not None:
            again, self._again = self._again, None
            return again
        if self._unversioned and rng.random() < 0.5:
            return GetLock(self._unversioned.pop())
        dice = rng.random()
        if dice < 0.15:
            return self.query()
        if dice < 0.2:
            return rng.choice((LoadScript(RELEASE), LoadScript(TAKE), FlushScripts()))
        if self._values and dice < 0.7:
            return self._on_a_hold()
        return self._on_any(dice)

    def query(self) -> Query:
        """Look at a key."""
        name = self.rng.choice(self._keys)
        match self.rng.randrange(6):
            case 0 | 1 | 2:
                return GetString(name)
            case 3:
                return GetTtl(name, 1)
            case 4:
                return CountKeys((name,))
            case _:
                return ScriptsExist((script_sha1(RELEASE),))

    def _execute(self) -> Execute:
        """What was watched is taken or given back, if nobody has touched it meanwhile."""
        assert self._watched is not None
        watched, self._watched = self._watched, None
        name = watched[0][0]
        steps: list[Operation] = [Look(GetString(name))]
        if name in self._values:
            steps.append(DeleteIf(name, self._values[name]))
        for each, _ in watched:
            steps.append(SetString(each, b"", self.rng.choice(_TTLS_MS), "NX"))
        return Execute(tuple(steps), watched)

    def _on_a_hold(self) -> Operation:
        rng = self.rng
        name = rng.choice(sorted(self._values))
        value = self._values[name]
        match rng.randrange(12):
            case 0 | 1 | 2 | 3:
                return self._script(RELEASE, (name,), value)
            case 4:
                return DeleteIf(name, value)
            case 5:
                return rng.choice((Delete(name), GetDelete(name)))
            case 6:
                return Release(name, value)
            case 7 | 8:
                return self._script(EXTEND, (name,), value, rng.choice(_TTLS_MS))
            case 9:
                return Renew(name, value, 0, rng.choice(_TTLS_MS))
            case 10:
                return Expire(name, rng.choice(_TTLS_MS), conditions=("GT",))
            case _:
                return SetString(name, value, rng.choice(_TTLS_MS), "XX")

    def _on_any(self, dice: float) -> Operation:
        """Take a lock; now and then somebody else's, or what is held in the other view."""
        rng = self.rng
        name, ttl_ms = rng.choice(self._keys), rng.choice(_TTLS_MS)
        if dice < 0.71:
            return SetString(name, b"", ttl_ms)
        if dice < 0.73:
            return rng.choice((Delete(name), DeleteIf(name, self._owner)))
        if dice < 0.75:
            return SetString(name, self._owner, ttl_ms, rng.choice(("NX", "")))
        if dice < 0.82:
            same_database = [key for key in self._keys if key[0] == name[0]]
            count = min(rng.choice((1, 1, 2, 3)), len(same_database))
            names = tuple(rng.sample(same_database, count))
            if dice < 0.76:
                return SetAll(names, (b"",) * count, if_absent=True)
            return self._script(TAKE, names, b"", ttl_ms)
        if dice < 0.87:
            return self._script(TAKE_UNTIL, (name,), b"", ttl_ms)
        return SetString(name, b"", ttl_ms, "NX", counts=dice > 0.97)

    def _script(
        self, source: bytes, names: tuple[LockName, ...], value: bytes, *numbers: int
    ) -> Evaluate:
        """By its SHA1 first, as libraries do it."""
        arguments = (value, *[b"%d" % number for number in numbers])
        return Evaluate(script_sha1(source), names, arguments, by_sha=True)

    # --- what they are told ----------------------------------------------------------------------

    def learn(self, command: Any, result: Any) -> tuple[LockName, int] | None:
        """The version of a hold of this client's, when it has just learnt it."""
        match command, result:
            case Evaluate(), Scripted(resp2) if resp2.startswith(NOT_KNOWN):
                arguments = command.arguments[:-1]
                source = source_of(command)
                if source in (TAKE, TAKE_UNTIL):
                    arguments = (b"", *arguments[1:])
                self._again = replace(command, script=source, by_sha=False, arguments=arguments)
            case Watch(names), Watched(numbers):
                self._watched = tuple(zip(names, numbers, strict=True))
            case GetLock(name), LockInfo(owner=owner, version=version):
                if owner is not None and owner == self._values.get(name):
                    return name, version
            case _:
                self._learn_holds(command, result)
        return None

    def _learn_holds(self, command: Any, result: Any) -> None:
        for name, step in steps_of(command, result):
            match step["kind"], step["reply"]:
                case "set" | "set nx" | "set xx", ("set",):
                    self._values[name] = step["owner"]
                    self._unversioned.append(name)
                case "delete", _:
                    self._values.pop(name, None)
                case "touch", ("nothing",):
                    self._values.pop(name, None)


# --- what it is in the history of a lock ---------------------------------------------------------


def ttls_of(command: Any) -> Iterator[tuple[LockName, bytes, int]]:
    """The holds that may end so many milliseconds after it was asked for, by their values."""
    match command:
        case SetString(name=name, value=value, ttl_ms=ttl_ms):
            yield name, value, ttl_ms
        case Execute(steps):
            for step in steps:
                yield from ttls_of(step)
        case Evaluate(arguments=(value, ttl_ms, *_)) if source_of(command) != RELEASE:
            for name in command.names:
                yield name, value, int(ttl_ms)


def steps_of(command: Any, result: Any) -> Iterator[tuple[LockName, dict[str, Any]]]:
    """The steps, without their times: see `linearizable.RULES`. `result` is None when unanswered."""
    match command:
        case SetString(name=name, value=value):
            kind = f"set {command.condition.lower()}".rstrip()
            yield name, _step(kind, value, _reply(result, "set", "not set"))
        case SetAll(names, (value, *_)):
            reply = _reply(result, "set", "not set")
            if reply != ("not set",) or len(names) == 1:  # it does not say which
                for name in names:
                    yield name, _step("set nx", value, reply)
        case Delete(name) | GetDelete(name):
            yield name, _step("delete", b"", _reply(result, "deleted", "nothing"))
        case DeleteIf(name, value):
            yield name, _step("delete", value, _reply(result, "deleted", "nothing"))
        case Expire(name) if result is not None and not command.conditions:
            yield name, _step("touch", b"", _reply(result, "there", "nothing"))
        case GetString(name) if result is not None:
            yield name, _step("look", b"", _reply(result, "there", "nothing"))
        case CountKeys((name,)) | GetTtl(name) if result is not None:
            is_there = result.value > 0 or result.value == -1
            is_there = is_there or (isinstance(command, GetTtl) and result.value == 0)
            yield name, _step("look", b"", ("there",) if is_there else ("nothing",))
        case Evaluate():
            yield from _steps_of_script(command, result)
        case Execute(steps) if result is not None and result.results is not None:
            for step, came_of_it in zip(steps, result.results, strict=True):
                yield from steps_of(step.query if isinstance(step, Look) else step, came_of_it)


def _step(kind: str, owner: bytes, reply: tuple[Any, ...] | None) -> dict[str, Any]:
    return {"kind": kind, "owner": owner, "reply": reply}


def _reply(result: Any, done: str, not_done: str) -> tuple[Any, ...] | None:
    match result:
        case None:
            return None
        case WrongType():
            return ("wrong type",)
        case Bulk(None) | Number(0):
            return (not_done,)
        case Bulk(value):
            return done, value
        case Done() | Number():
            return (done,)
    raise AssertionError(f"no answer to a string command: {result}")


def _steps_of_script(command: Evaluate, result: Any) -> Iterator[tuple[LockName, dict[str, Any]]]:
    source, value = source_of(command), command.arguments[0]
    answer = None if result is None else result.resp2
    if answer is not None and answer.startswith(NOT_KNOWN):
        return
    if answer is not None and answer.startswith(b"-WRONGTYPE"):
        yield command.names[0], _step("look", b"", ("wrong type",))
        return
    is_done = answer != b":0\r\n"
    if source in (RELEASE, EXTEND):
        kind, done = ("delete", "deleted") if source == RELEASE else ("touch", "there")
        if result is not None or source == RELEASE:
            reply = None if result is None else (done if is_done else "nothing",)
            yield command.names[0], _step(kind, value, reply)
        return
    if result is None or (not is_done and len(command.names) > 1):
        return  # the log tells what came of it; a refusal does not say whose
    for name in command.names:
        yield name, _step("set nx", value, ("set" if is_done else "not set",))
