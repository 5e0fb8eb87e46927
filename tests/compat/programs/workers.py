"""Threads that take and release the same few locks while the leader is killed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from telling import ask, described

WORKERS, LOCKS = 8, 2
BEFORE_S, AFTER_S = 0.3, 3.0
STILL_S_MAX = 10.0
PATIENCE_S = 30.0

Value = TypeVar("Value")


class Hands(Protocol):
    """How one worker takes and releases locks with its library."""

    def take(self, key: str) -> bool:
        """Try once. May raise when the outcome is unknown."""

    def version(self, key: str) -> int:
        """The fencing version of the hold."""

    def release(self, key: str) -> None:
        """Give it back if it is ours; may be called again, and without having the lock."""


class Workers:
    """All of them."""

    def __init__(self, make: Callable[[], Hands]) -> None:
        self._make = make
        self._inside = Counter[str]()
        self._version = Counter[str]()
        self._errors = Counter[str]()
        self._wrong: list[BaseException] = []
        self._rounds = 0
        self._longest_s = 0.0
        self._over = threading.Event()

    def run(self) -> str:
        """Work, kill the leader, work on. A note on how it went."""
        threads = [
            threading.Thread(target=self._work, args=[f"work:{number % LOCKS}"], daemon=True)
            for number in range(WORKERS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(BEFORE_S)
        before = self._rounds
        ask("kill leader")
        time.sleep(AFTER_S)
        self._over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        ask("restore")
        if self._wrong:
            raise self._wrong[0]
        assert before > 0, "nobody got a lock before"
        assert self._rounds > before, "nobody got a lock after"
        assert self._longest_s < STILL_S_MAX, f"a worker stood still for {self._longest_s:.1f} s"
        return (
            f"{self._rounds} locks taken; the longest wait was {self._longest_s * 1000:.0f} ms; "
            f"{described(self._errors)}"
        )

    def _work(self, key: str) -> None:
        try:
            hands = self._make()
            since = time.monotonic()
            while not self._over.is_set():
                if self._take(hands, key):
                    self._hold(hands, key)
                    self._longest_s = max(self._longest_s, time.monotonic() - since)
                    since = time.monotonic()
                    self._rounds += 1
                # Also after an error, when nobody can tell whether it was taken.
                insist(lambda: hands.release(key), self._errors)
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._wrong.append(error)

    def _take(self, hands: Hands, key: str) -> bool:
        try:
            return hands.take(key)
        except Exception as error:  # noqa: BLE001 - whatever the library raises
            self._errors[type(error).__name__] += 1
            return False

    def _hold(self, hands: Hands, key: str) -> None:
        self._inside[key] += 1
        assert self._inside[key] == 1, "two hold the lock"
        version = insist(lambda: hands.version(key), self._errors)
        assert version > self._version[key], "the version does not rise"
        self._version[key] = version
        self._inside[key] -= 1


def insist(what: Callable[[], Value], errors: Counter[str]) -> Value:
    """Do what may be done twice until it is answered; errors are counted."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return what()
        except Exception as error:
            if time.monotonic() > until:
                raise
            errors[type(error).__name__] += 1
            time.sleep(0.02)
