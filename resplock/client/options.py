"""What every kind of lock can be told, beside what it locks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

import msgspec

from resplock.client.effects import Word, Words
from resplock.client.settings import PATIENCE_S, Settings


class LockOptions(TypedDict, total=False):
    """The keyword arguments of every lock; durations are seconds.

    blocking                whether `acquire` waits; True
    blocking_timeout        how long it waits at most; None, for ever
    auto_renew              renew the hold until it is released; True
    queue                   wait in the server's queue; True. Otherwise ask again and again, with the
                            pauses that the server advises: then no connection is kept while waiting
    priority                the place in the queue: higher first, then first come, first served; 0
    delay                   when the hold ends without a release, nobody gets the lock for so long; 0
    metadata                fields to keep with the hold and to find it by
    patience                how long to go on while there is no connection or no leader, before that is
                            raised; 10
    thread_local            each thread has a hold of its own, as in redis-py; True
    raise_on_release_error  leaving the block raises when the lock was lost; True
    timeout                 another word for `ttl`, redis-py's
    sleep                   the longest pause between two tries, without `queue`; None, as advised
    """

    blocking: bool
    blocking_timeout: float | None
    auto_renew: bool
    queue: bool
    priority: int
    delay: float
    metadata: Mapping[str, str]
    patience: float
    thread_local: bool
    raise_on_release_error: bool
    timeout: float | None
    sleep: float | None


class Told(msgspec.Struct, frozen=True):
    """The arguments of a lock, sorted by who wants them.

    words  of the command that acquires
    """

    settings: Settings
    words: Words
    thread_local: bool
    raise_on_release_error: bool


def read_options(ttl: float | None, options: LockOptions) -> Told:
    """Check them and fill in the defaults. Raises ValueError and TypeError."""
    if unknown := sorted(options.keys() - LockOptions.__annotations__.keys()):
        raise TypeError(f"a lock has no argument {unknown[0]!r}")
    seconds = options.get("timeout", ttl)
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"ttl must be a positive number of seconds, or None, got {seconds!r}")
    settings = Settings(
        ttl_s=seconds or 0.0,
        blocking=options.get("blocking", True),
        blocking_timeout=options.get("blocking_timeout"),
        renews=options.get("auto_renew", True),
        queues=options.get("queue", True),
        pause_most_s=options.get("sleep"),
        patience_s=options.get("patience", PATIENCE_S),
    )
    return Told(
        settings,
        _words(options),
        options.get("thread_local", True),
        options.get("raise_on_release_error", True),
    )


def _words(options: LockOptions) -> Words:
    words: list[Word] = []
    if priority := options.get("priority", 0):
        words += ["PRIORITY", priority]
    if delay := options.get("delay", 0.0):
        words += ["DELAY", round(delay * 1000)]
    if metadata := options.get("metadata", {}):
        words += ["META", len(metadata)]
        words += [word for pair in metadata.items() for word in pair]
    return tuple(words)
