"""String commands and scripts, among locks of every kind, against the naive model."""

from __future__ import annotations

import random

import pytest

from resplock.operations import (
    KEEP_TTL,
    Append,
    Delete,
    DeleteAll,
    DeleteIf,
    Ended,
    Evaluate,
    Expire,
    FlushScripts,
    GetDelete,
    GetExpire,
    Increment,
    LoadScript,
    Operation,
    Persist,
    SetAll,
    SetString,
)
from resplock.script import script_sha1
from tests.state.string_model import EXTEND, MEANINGS, RELEASE, TAKE
from tests.state.twin import NAMES, STEPS, TTLS, Chance, Twin

DATABASE = [name for name in NAMES if name[0] == 0]


class StringChance(Chance):
    """Random commands, most of which know keys and values."""

    def command(self, untold: list[Ended]) -> Operation:
        pick = self.rng.choice
        name, value, ttl = pick(self.names), pick(self.owners), pick(TTLS)
        at = pick([0, 0, 0, self.rng.randint(1, 100_000)])
        match self.rng.randint(0, 29):
            case kind if kind < 12:
                return super().command(untold)
            case kind if kind < 17:
                gives_old, counts = pick([(False, False), (True, False), (False, True)])
                condition = pick(["", "NX", "NX", "XX"])
                ttl = pick([KEEP_TTL, ttl])
                return SetString(name, value, 0 if at else ttl, condition, at, gives_old, counts)
            case 17 | 18:
                return Delete(name)
            case 19:
                return pick([DeleteAll((name, pick(self.names))), Persist(name)])
            case 20:
                return DeleteIf(name, value, pick([True, True, False]))
            case 21:
                return pick([GetDelete(name), GetExpire(name, pick([KEEP_TTL, ttl]), at)])
            case 22 | 23:
                condition = pick([(), ("NX",), ("XX",), ("GT",), ("LT",), ("GT", "XX")])
                ms, is_unix = (at, True) if at else (pick([-5, *TTLS]), False)
                return Expire(name, ms, is_unix, condition)
            case 24:
                return pick([FlushScripts(), LoadScript(pick(list(MEANINGS)))])
            case 25:
                values = pick([(b"7", value), (value, value)])
                names = tuple(self.rng.sample(NAMES, 2))
                return pick([Increment(name, -3), Append(name, b"1"), SetAll(names, values, True)])
            case 26:
                return SetAll((name,), (b"12",))
            case _:
                return self.script()

    def script(self) -> Operation:
        source = self.rng.choice([RELEASE, *MEANINGS])
        names = [self.rng.choice(DATABASE)]
        if source == TAKE:
            names = self.rng.sample(DATABASE, self.rng.randint(1, 3))
        arguments = [self.rng.choice(self.owners)]
        if source != RELEASE:
            arguments.append(b"%d" % self.rng.choice(TTLS if source == EXTEND else TTLS[1:]))
        by_sha = self.rng.random() < 0.5
        script = script_sha1(source) if by_sha else source
        return Evaluate(script, tuple(names), tuple(arguments), by_sha)


@pytest.mark.parametrize("seeds", [range(12), range(12, 24)], ids=str)
def test_keys_and_locks_are_the_models(seeds: range) -> None:
    """After every entry outcomes, ends of waits, events and all that LOCK.GET shows are the model's."""
    for seed in seeds:
        rng = random.Random(seed)
        chance, twin = StringChance(rng), Twin()
        for step in range(60):
            if step % 12 == 11:
                twin.restore()
            commands = [chance.command(twin.untold) for _ in range(rng.randint(0, 4))]
            twin.step(rng.choice(STEPS), commands)
