"""What one entry of the log was, and what the first replica to apply it made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from resplock.operations import Acquire, AcquireAll, Ended, Event, Operation, Outcome
from resplock.types import LockName
from tests.sim.strings import is_script, steps_of, tag_of
from tests.state.string_model import TAKE

Asked = Acquire | AcquireAll


@dataclass
class Put:
    """A key that is given a value. `overwrites`: also one that is there, or waited for."""

    name: LockName
    value: bytes
    ttl_ms: int
    is_done: bool
    overwrites: bool
    tag: int | None

    @property
    def asked(self) -> Acquire:
        """The same in the other view."""
        return Acquire(self.name, self.value, self.ttl_ms)


@dataclass
class Entry:
    """See the module."""

    first: int
    stamp_ms: int
    operations: Sequence[Operation]
    outcomes: Sequence[Outcome]
    ended: Sequence[Ended]
    events: Sequence[Event]
    now: int = 0
    """When that was, in virtual time."""

    def asked(self) -> Iterator[tuple[int, Asked, Outcome]]:
        """Its acquisitions, with their log indexes and outcomes."""
        for number, operation in enumerate(self.operations):
            if isinstance(operation, Acquire | AcquireAll):
                yield self.first + number, operation, self.outcomes[number]

    def askers(self) -> set[bytes]:
        """The owners for whom it asks for locks, in either way."""
        return {asked.owner for _, asked, _ in self.asked()} | {put.value for put in self.puts}

    @cached_property
    def steps(self) -> list[tuple[Operation, LockName, dict[str, Any]]]:
        """What its string commands and scripts are for each lock."""
        return [
            (operation, name, step)
            for operation, outcome in zip(self.operations, self.outcomes, strict=True)
            for name, step in steps_of(operation, outcome)
        ]

    @cached_property
    def puts(self) -> list[Put]:
        """The values that these give to keys, or try to."""
        return [
            Put(
                name,
                step["owner"],
                max(getattr(operation, "ttl_ms", 0), 0),
                step["reply"][0] == "set",
                step["kind"] != "set nx" or is_script(operation, TAKE),
                tag_of(operation),
            )
            for operation, name, step in self.steps
            if step["kind"].startswith("set")
        ]

    def takes_away(self, name: LockName, owner: bytes, reason: bytes) -> bool:
        """Whether a string command or script may have taken this key from that owner."""
        if reason == b"replaced":
            return any(
                put.name == name and put.value != owner and put.overwrites for put in self.puts
            )
        return any(
            key == name and step["reply"][0] == "deleted" and step["owner"] in (b"", owner)
            for _, key, step in self.steps
        )
