"""Writes that a stale lock cannot spoil: a counter in SQLite that several programs increment.

    resplock serve &
    python examples/fenced_write.py --times 5 & python examples/fenced_write.py --times 5 & wait

Each program takes the lock, reads the counter, thinks, and writes the next number. Stop one of them
while it thinks (kill -STOP), wait until its TTL is over and another has written, and let it go on
(kill -CONT). It believes that it has the lock still, and writes what it had in mind. No lock server can
prevent that. The counter can: each hold has a version above all earlier ones, the counter remembers the
highest that it has seen, and refuses a lower one. With --no-check it does not, and updates are lost.

The version is checked by reads as well. Otherwise the stale write could arrive after the next holder
has read and before it writes, with the highest version that the counter knows of.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from pathlib import Path

import redis

import resplock


class StaleVersion(Exception):
    """Somebody with a higher version has been here."""


class Counter:
    """A number in a file, and the highest version of a lock that it was read or written with."""

    def __init__(self, path: Path, *, checks: bool = True) -> None:
        self._checks = checks
        self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS counter (value INTEGER, version INTEGER)")
        self._db.execute("INSERT INTO counter SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM counter)")

    def read(self, version: int) -> int:
        """The number; from now on lower versions are refused. Raises StaleVersion."""
        self._change("UPDATE counter SET version = :version", version)
        return self.peek()

    def write(self, value: int, version: int) -> None:
        """Store the number. Raises StaleVersion."""
        self._change("UPDATE counter SET version = :version, value = :value", version, value)

    def peek(self) -> int:
        """The number, for whoever does not want to change it."""
        (value,) = self._db.execute("SELECT value FROM counter").fetchone()
        return int(value)

    def _change(self, update: str, version: int, value: int | None = None) -> None:
        """One statement compares and changes: nothing comes between."""
        if self._checks:
            update += " WHERE version <= :version"
        changed = self._db.execute(update, {"version": version, "value": value}).rowcount
        if not changed:
            raise StaleVersion


def increment(counter: Counter, lock: resplock.Lock, think_s: float) -> bool:
    """Whether the increment was stored."""
    is_stored = False
    try:
        with lock:
            assert lock.version is not None
            value = counter.read(lock.version)
            print(f"read {value} with version {lock.version}", flush=True)
            time.sleep(think_s)
            try:
                counter.write(value + 1, lock.version)
            except StaleVersion:
                print("refused: another holder was here", flush=True)
            else:
                print(f"wrote {value + 1} with version {lock.version}", flush=True)
                is_stored = True
    except resplock.LockNotOwnedError as error:
        # What the counter has taken it has taken: nobody with a higher version was there before.
        print(error, flush=True)
    return is_stored


def main() -> None:
    parser = argparse.ArgumentParser(description="Increment a counter under a lock.")
    parser.add_argument("--url", default="redis://127.0.0.1:7379")
    parser.add_argument("--file", type=Path, default=Path("counter.db"))
    parser.add_argument("--lock", default="counter")
    parser.add_argument("--ttl", type=float, default=1.0, help="seconds")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--think", type=float, default=0.1, help="seconds")
    parser.add_argument("--no-check", action="store_true", help="ignore versions")
    options = parser.parse_args()

    counter = Counter(options.file, checks=not options.no_check)
    lock = resplock.Lock(redis.Redis.from_url(options.url), options.lock, ttl=options.ttl)
    stored = 0
    while stored < options.times:
        stored += increment(counter, lock, options.think)


if __name__ == "__main__":
    main()
