"""Apply is the same everywhere: no hash order, no identity, no chance gets into the table."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

from resplock.operations import encode_run
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from tests.state.test_planted_bugs import random_operation

ROOT = Path(__file__).parents[2]


def digest(seed: int) -> str:
    """Of everything that a run of random entries answers and leaves behind."""
    rng, table, seen = random.Random(seed), LockTable(), hashlib.sha256()
    index, stamp = 1, 1
    for _ in range(400):
        stamp += rng.choice([0, 1, 30, 2_000])
        commands = [random_operation(rng) for _ in range(rng.randint(0, 6))]
        seen.update(encode_run(commands))
        seen.update(repr(table.apply(index, stamp, commands)).encode())
        index += len(commands) or 1
    for chunk in iter(TableSnapshot(table).next_chunk, None):
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
