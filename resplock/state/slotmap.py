"""A dict divided by Redis Cluster hash slot, which can be frozen without a pause.

Pure. A copy of one big dict stops the event loop for as long as it takes (28 to 94 ms for a million
locks); a copy of one of 16384 small ones does not. While a `Frozen` view is being read, the first
write to a slot that it has not read yet keeps that slot's old content for it.

Invariant: a `Frozen` view gives exactly what the map held when it was made, because records are
immutable and every write goes through `writable`.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator
from itertools import compress, islice
from typing import Generic, TypeVar

from resplock.limits import SLOTS
from resplock.types import LockName, hash_slot

Record = TypeVar("Record")
_BRACE = ord("{")


class SlotMap(Generic[Record]):
    """name -> record, with a dict for each hash slot."""

    __slots__ = ("_frozen", "_slots")

    def __init__(self) -> None:
        self._slots: list[dict[LockName, Record] | None] = [None] * SLOTS
        self._frozen: Frozen[Record] | None = None

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots if slot)

    def __iter__(self) -> Iterator[tuple[LockName, Record]]:
        """Every record, slot by slot, in the order of the names within a slot."""
        for slot in self._slots:
            if slot:
                yield from sorted(slot.items())

    def get(self, name: LockName) -> Record | None:
        """The record, or None."""
        slot = self._slots[hash_slot(name)]
        return slot.get(name) if slot else None

    def writable(self, name: LockName) -> dict[LockName, Record]:
        """The dict of this name's slot, to be read and changed at once, not kept."""
        # As hash_slot, without its call for names that have no tag: this is on every command's way.
        number = hash_slot(name) if _BRACE in name else crc_hqx(name, 0) % SLOTS
        slot = self._slots[number]
        if slot is None:
            slot = self._slots[number] = {}
        if self._frozen is not None:
            self._frozen.preserve(number, slot)
        return slot

    def sorted_slot(self, number: int) -> list[tuple[LockName, Record]]:
        """The records of one slot, sorted by name."""
        slot = self._slots[number]
        return sorted(slot.items()) if slot else []

    def records(self, number: int) -> list[tuple[LockName, Record]]:
        """The records of one slot, in an order that differs from replica to replica."""
        return list((self._slots[number] or {}).items())

    def count(self, number: int) -> int:
        """How many records one slot has."""
        return len(self._slots[number] or ())

    def names(self, number: int) -> list[LockName]:
        """The names in one slot, in an order that differs from replica to replica."""
        return list(self._slots[number] or ())

    def some(self, number: int, most: int) -> list[LockName]:
        """Up to `most` names in one slot, sorted; which ones may differ from replica to replica."""
        return sorted(islice(self._slots[number] or (), most))

    def freeze(self) -> Frozen[Record]:
        """A view of the map as it is now. There can be one at a time: call its `close` to end it."""
        assert self._frozen is None, "the map is already frozen"
        self._frozen = Frozen(self)
        return self._frozen

    def thaw(self, view: Frozen[Record]) -> None:
        """End a view: writes stop keeping old content for it."""
        if self._frozen is view:
            self._frozen = None

    def next_used(self, first: int) -> int:
        """The first slot from `first` on that has records; SLOTS when none has."""
        slots = self._slots
        for number in range(first, SLOTS):
            if slots[number]:
                return number
        return SLOTS

    def used_slots(self, first: int = 0) -> list[int]:
        """The numbers of the slots that have records, from `first` on."""
        return list(compress(range(first, SLOTS), self._slots[first:]))


class Frozen(Generic[Record]):
    """What a SlotMap held at one moment, read once, slot by slot."""

    __slots__ = ("_kept", "_map", "_numbers", "_reached")

    def __init__(self, slots: SlotMap[Record]) -> None:
        self._map = slots
        self._numbers = iter(slots.used_slots())
        self._reached = -1  # the slots up to this one have been read
        self._kept: dict[int, list[tuple[LockName, Record]]] = {}

    def preserve(self, number: int, slot: dict[LockName, Record]) -> None:
        """Keep the content of a slot that is about to be changed, unless it was read already."""
        if number > self._reached and number not in self._kept:
            self._kept[number] = list(slot.items())

    def next_slot(self) -> list[tuple[LockName, Record]] | None:
        """The records of the next slot that had any, sorted by name; None after the last one."""
        number = next(self._numbers, None)
        if number is None:
            self.close()
            return None
        self._reached = number
        kept = self._kept.pop(number, None)
        return self._map.sorted_slot(number) if kept is None else sorted(kept)

    def close(self) -> None:
        """Let the map go on without this view."""
        self._reached = SLOTS
        self._numbers = iter(())
        self._kept.clear()
        self._map.thaw(self)
