"""What a lock takes: one key or several, in which way; the commands for it, and their replies read.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from resplock.client.effects import Word, Words

Name: TypeAlias = str | bytes
Fields: TypeAlias = dict[str, Any]


class Ask(msgspec.Struct, frozen=True):
    """One ACQUIRE. Times in milliseconds; a wait of 0 is a try."""

    token: bytes
    ttl_ms: int
    request: str
    wait_ms: int = 0

    @property
    def words(self) -> Words:
        waiting: Words = ("WAIT", self.wait_ms) if self.wait_ms else ()
        return (self.token, "TTL", self.ttl_ms, *waiting, "REQUEST", self.request)


class Target(msgspec.Struct, frozen=True):
    """One key. `options` are the words of ACQUIRE that say in which way it is held; `is_shared` says
    that others may hold it at the same time."""

    name: Name
    options: Words = ()
    is_shared: bool = False

    @property
    def names(self) -> tuple[Name, ...]:
        """Every key that is taken."""
        return (self.name,)

    @property
    def title(self) -> str:
        """For messages."""
        return text(self.name)

    def acquire(self, ask: Ask) -> Words:
        """Take it."""
        return ("LOCK.ACQUIRE", self.name, *ask.words, *self.options)

    def renew(self, token: bytes, version: int, ttl_ms: int) -> Words:
        """Make the hold end so long from now."""
        return ("LOCK.RENEW", self.name, token, "VERSION", version, "TTL", ttl_ms)

    def missing(self, reply: Any) -> str | None:
        """What a reply to `renew` that is no error says of a hold that is gone."""
        return None


class Several(msgspec.Struct, frozen=True):
    """Several keys, all or none, under one version."""

    names: tuple[Name, ...]
    options: Words = ()
    is_shared: bool = False

    @property
    def title(self) -> str:
        """For messages."""
        return ", ".join(map(text, self.names))

    def acquire(self, ask: Ask) -> Words:
        """Take them."""
        return ("LOCK.MACQUIRE", len(self.names), *self.names, *ask.words, *self.options)

    def renew(self, token: bytes, version: int, ttl_ms: int) -> Words:
        """Make the holds end so long from now: the token is of these holds alone."""
        pairs: list[Word] = [word for name in self.names for word in (name, version)]
        return ("LOCK.KEEPALIVE", token, "TTL", ttl_ms, "VERSIONS", len(self.names), *pairs)

    def missing(self, reply: Any) -> str | None:
        """What a reply to `renew` that is no error says of holds that are gone."""
        return f"lost {', '.join(map(text, reply))}" if reply else None


AnyTarget: TypeAlias = Target | Several


def with_options(target: AnyTarget, words: Words) -> AnyTarget:
    """The same, and these words of ACQUIRE with it."""
    return replace(target, options=(*target.options, *words))


def release(name: Name, token: bytes, version: int) -> Words:
    """Give one key back."""
    return ("LOCK.RELEASE", name, token, "VERSION", version)


def fields(reply: Any) -> Fields:
    """A reply with fields, whichever way redis-py was set up: a dict of RESP3 or a flat list, with
    names in bytes or text. Statuses become text; owners stay as they came."""
    pairs = reply.items() if isinstance(reply, dict) else _pairs(reply)
    found = {text(name): value for name, value in pairs}
    if "status" in found:
        found["status"] = text(found["status"])
    return found


def _pairs(reply: Sequence[Any]) -> Any:
    return zip(reply[::2], reply[1::2], strict=True)


def text(word: Any) -> str:
    """A word of a reply, as text."""
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
