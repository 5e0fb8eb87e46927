"""Random sequences of string commands are answered as a real redis-server answers them.

The table is run in this process, at the moments that the wall clock gives; so what is about time may
differ by as much as passes between the two.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from resplock.errors import CommandError
from resplock.operations import Query, SetUnixOffset
from resplock.resp.binding import Call
from resplock.resp.commands import find
from resplock.resp.replies import encode_answer, encode_error, encode_outcome
from resplock.state import queries
from resplock.state.table import LockTable
from resplock.strings import GRAMMARS
from tests.resp.real_redis import RealRedis, parsed

TOLERANCE_MS = 500
KEYS = ["a", "b", "c"]
VALUES = ["v", "w", "", "12", "-7", "9223372036854775807", "a longer value"]
IN_TIME = {"TTL": 1000, "PTTL": 1, "EXPIRETIME": 1000, "PEXPIRETIME": 1}
"""How many milliseconds one is, of the replies that are times."""


@pytest.fixture(scope="module")
def real_redis() -> Iterator[RealRedis]:
    with RealRedis() as server:
        yield server


class Ours:
    """A table of locks that is asked in Redis's words."""

    def __init__(self) -> None:
        self.table = LockTable()
        self.index = 1
        self._began = time.monotonic()
        self.table.apply(self.index, 1, [SetUnixOffset(int(time.time() * 1000) - 1)])

    def ask(self, words: list[str]) -> Any:
        now_ms = 1 + int((time.monotonic() - self._began) * 1000)
        self.index += 1
        try:
            argv = [word.encode() for word in words]
            bound = find(argv).bind(argv, 0)
            assert not isinstance(bound, Call)
        except CommandError as error:
            return parsed(encode_error(error))
        if isinstance(bound, Query):
            self.table.apply(self.index, now_ms, [])
            return parsed(encode_answer(queries.answer(self.table, bound, now_ms), 2))
        (outcome,) = self.table.apply(self.index, now_ms, [bound])
        return parsed(encode_outcome(outcome, 2))


class Draw:
    """Random commands. Ends are far away or past, so that none falls between the two servers."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def some(self, words: list[str], least: int = 0, most: int = 2) -> list[str]:
        return [self.rng.choice(words) for _ in range(self.rng.randint(least, most))]

    def amount(self, unit: str) -> list[str]:
        now = int(time.time())
        by_unit = {
            "EX": ["100", "200", "99999", "0", "-3", "x", "9223372036854775807"],
            "PX": ["100000", "200001", "0", "-9", "1.5", "9223372036854775807"],
            "EXAT": [str(now + 300), str(now - 5), "1", "0", "-1"],
            "PXAT": [str((now + 400) * 1000), str((now - 5) * 1000), "1", "0"],
        }
        return [unit, self.rng.choice(by_unit[unit])]

    def end(self) -> list[str]:
        unit = self.rng.choice(["EX", "PX", "EXAT", "PXAT", "KEEPTTL", "", ""])
        if unit in ("", "KEEPTTL"):
            return [unit] if unit else []
        return self.amount(unit)

    def command(self) -> list[str]:
        name = self.rng.choice(sorted(NAMES))
        key, value = self.rng.choice(KEYS), self.rng.choice(VALUES)
        match name:
            case "SET":
                options = [
                    self.end(),
                    self.some(["NX", "XX", "GET"], most=1),
                    self.some(["GET"], most=1),
                ]
                self.rng.shuffle(options)
                return [name, key, value, *(word for option in options for word in option)]
            case "SETEX" | "PSETEX":
                return [name, key, self.amount("EX" if name == "SETEX" else "PX")[1], value]
            case "SETNX" | "GETSET" | "APPEND":
                return [name, key, value]
            case "MSET" | "MSETNX":
                pairs = [[self.rng.choice(KEYS), self.rng.choice(VALUES)] for _ in range(3)]
                words = [word for pair in pairs[: self.rng.randint(1, 3)] for word in pair]
                return [name, *words, *self.some(KEYS, most=1)]
            case "INCRBY" | "DECRBY":
                amounts = ["5", "-3", "9223372036854775807", "-9223372036854775808", "x", "1.5"]
                return [name, key, self.rng.choice(amounts)]
            case "GETRANGE":
                ends = ["0", "1", "3", "-1", "-2", "-9", "99", "9223372036854775807"]
                return [name, key, self.rng.choice(ends), self.rng.choice([*ends, "x"])]
            case "KEYS":
                return [name, self.rng.choice(["*", "[ab]", "a", "?", "x*", ""])]
            case "SCAN":
                pattern, kind = (
                    self.rng.choice(["*", "[^a]", ""]),
                    self.rng.choice(["string", "hash"]),
                )
                return [
                    name,
                    "0",
                    "COUNT",
                    "1000",
                    *self.some(["y"], most=1),
                    "MATCH",
                    pattern,
                    "TYPE",
                    kind,
                ]
            case "FLUSHDB" | "FLUSHALL" | "DBSIZE":
                return [name, *self.some(["SYNC", "x"], most=1)]
            case "DEL" | "MGET" | "UNLINK" | "EXISTS" | "TOUCH":
                return [name, *self.some(KEYS, 1, 3)]
            case "EXPIRE" | "PEXPIRE":
                amount = self.amount("EX" if name == "EXPIRE" else "PX")[1]
                return [name, key, amount, *self.some(["NX", "XX", "GT", "LT", "y"], most=1)]
            case "EXPIREAT" | "PEXPIREAT":
                amount = self.amount("EXAT" if name == "EXPIREAT" else "PXAT")[1]
                return [name, key, amount, *self.some(["NX", "XX", "GT", "LT"])]
            case "GETEX":
                unit = self.rng.choice(["EX", "PXAT", "PERSIST", ""])
                if unit in ("", "PERSIST"):
                    return [name, key, *([unit] if unit else [])]
                good = {"EX": "150", "PXAT": str(int(time.time() + 250) * 1000)}
                return [
                    name,
                    key,
                    unit,
                    self.rng.choice([good[unit], "1" if unit == "PXAT" else "9"]),
                ]
            case _:
                return [name, key]


NAMES = {name.decode() for name in GRAMMARS} - {"DELIFEQ", "DELEX"} | {
    *("KEYS", "SCAN", "FLUSHDB", "FLUSHALL", "DBSIZE")
}
"""All but what this Redis does not have."""


def agree(words: list[str], ours: Any, theirs: Any) -> bool:
    """Whether two replies are the same, up to the time that passed between them."""
    unit_ms = IN_TIME.get(words[0])
    if words[0] in ("KEYS", "SCAN") and isinstance(ours, list) and isinstance(theirs, list):
        return in_order(ours) == in_order(theirs)
    if unit_ms is None or min(ours, theirs) < 0:
        return str(ours) == str(theirs) and type(ours) is type(theirs)
    return abs(ours - theirs) * unit_ms <= max(TOLERANCE_MS, unit_ms)


def in_order(reply: list[Any]) -> list[Any]:
    """The keys of KEYS sorted, and those of a page of SCAN."""
    if len(reply) == 2 and isinstance(reply[1], list):
        return [reply[0], sorted(reply[1])]
    return sorted(reply)


@pytest.mark.parametrize("seed", range(20))
def test_the_replies_are_those_of_redis(real_redis: RealRedis, seed: int) -> None:
    real_redis.ask("FLUSHALL")
    ours, draw = Ours(), Draw(seed)
    answered_errors = 0
    for step in range(400):
        words = draw.command()
        our_reply, their_reply = ours.ask(words), real_redis.ask(*words)
        assert agree(words, our_reply, their_reply), (step, words, our_reply, their_reply)
        answered_errors += isinstance(their_reply, hiredis.ReplyError)
        for key in KEYS:
            for look in ("GET", "PTTL"):
                assert agree([look], ours.ask([look, key]), real_redis.ask(look, key)), (
                    step,
                    words,
                )
    ours.table.check()
    assert 0 < answered_errors < 200, "errors are drawn, and are not all"


def test_keys_that_expire_are_gone_on_both(real_redis: RealRedis) -> None:
    real_redis.ask("FLUSHALL")
    ours = Ours()
    for words in (["SET", "a", "v", "PX", "30"], ["SET", "b", "v"], ["PEXPIRE", "b", "40"]):
        assert ours.ask(words) == real_redis.ask(*words)
    deadline = time.monotonic() + 5
    for key in ("a", "b"):
        while real_redis.ask("EXISTS", key) or ours.ask(["EXISTS", key]):
            assert time.monotonic() < deadline
    again = ["SET", "a", "w", "NX", "GET"]
    assert ours.ask(again) is real_redis.ask(*again) is None
    assert ours.ask(["GET", "a"]) == real_redis.ask("GET", "a") == b"w"
