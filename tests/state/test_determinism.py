"""Apply is the same everywhere: no hash order, no identity, no chance gets into the table."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

from resplock.operations import Ended, Granted, encode_run
from resplock.state.table import LockTable
from tests.state.twin import STEPS, Chance, image

ROOT = Path(__file__).parents[2]


def digest(seed: int) -> str:
    """Of everything that a run of random entries answers and leaves behind."""
    rng, table, seen = random.Random(seed), LockTable(), hashlib.sha256()
    table.keeps_events = True
    chance, index, stamp = Chance(rng), 1, 1
    untold: list[Ended] = []
    for _ in range(600):
        stamp += rng.choice(STEPS)
        commands = [chance.command(untold) for _ in range(rng.randint(0, 6))]
        seen.update(encode_run(commands))
        seen.update(repr(table.apply(index, stamp, commands)).encode())
        ended = table.take_ended()
        untold += [end for end in ended if isinstance(end.outcome, Granted)]
        seen.update(repr((ended, table.take_events())).encode())
        index += len(commands) or 1
    for chunk in image(table):
        seen.update(chunk)
    return seen.hexdigest()


def test_the_hash_seed_changes_nothing() -> None:
    program = "from tests.state.test_determinism import digest; print(digest(7))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert digests == {digest(7) + "\n"}


def test_collecting_events_changes_nothing_that_replicas_share() -> None:
    tables = [LockTable(), LockTable()]
    tables[1].keeps_events = True
    rng = random.Random(3)
    chance, index, stamp = Chance(rng), 1, 1
    for _ in range(200):
        stamp += rng.choice(STEPS)
        commands = [chance.command([]) for _ in range(rng.randint(0, 6))]
        outcomes = [table.apply(index, stamp, commands) for table in tables]
        assert outcomes[0] == outcomes[1]
        assert tables[0].take_ended() == tables[1].take_ended()
        assert tables[0].take_events() == []
        index += len(commands) or 1
    assert image(tables[0]) == image(tables[1])
