"""Slots with very many locks, in the order of their names, without a pause to sort them.

Pure; local to a node, and no part of what replicas share. A {tag} puts as many locks as it likes
into one slot, and a listing goes through it page by page: sorting a million names takes a second. So
a listing that comes to such a slot gets a `Sorting` of the names that are there at that moment, and
each page carries on with it a little. Locks that come later need not be listed, and those that went
are not found when they are looked up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import merge
from typing import Any, TypeAlias

from resplock.types import LockName

Key: TypeAlias = Callable[[LockName], int]

CROWDED = 4096
"""Slots with more locks than this are sorted bit by bit."""
_RUN = 8192
"""Names that are sorted at once: about 2 ms."""
SCAN_NUMBER_MAX = 15
"""What the number of a scan's sorting is at most: more than there are at a time."""
_SORTINGS_MAX = 4
"""Listings that go through crowded slots at the same time; the oldest begins its slot's anew."""


class Sorting:
    """The names of one slot, being sorted: by themselves, or by what `key` makes of them."""

    __slots__ = ("_key", "_names", "_runs")

    def __init__(self, names: list[LockName], key: Key | None = None) -> None:
        self._names = names
        self._key = key
        self._runs: list[list[LockName]] = []

    def go_on(self) -> bool:
        """Sort some more of them; says whether that was the last."""
        if self._names:
            self._runs.append(sorted(self._names[-_RUN:], key=self._key))
            del self._names[-_RUN:]
        return not self._names

    def after(self, last: Any) -> Iterator[LockName]:
        """The names behind this one, or this key, sorted, once all are."""
        assert not self._names, "not sorted yet"
        key = self._key
        runs = [_from(run, bisect_right(run, last, key=key)) for run in self._runs]
        return merge(*runs, key=key)


def _from(run: list[LockName], begin: int) -> Iterator[LockName]:
    for position in range(begin, len(run)):
        yield run[position]


class Sortings:
    """Those that listings are using, by a number that their cursors carry."""

    __slots__ = ("_last", "_sortings")

    def __init__(self) -> None:
        self._sortings: OrderedDict[int, Sorting] = OrderedDict()
        self._last = 0

    def get(self, number: int) -> Sorting | None:
        """One that is still there. Numbers of other nodes, and of long ago, are not."""
        return self._sortings.get(number)

    def add(self, names: list[LockName]) -> tuple[int, Sorting]:
        """Begin one."""
        if len(self._sortings) >= _SORTINGS_MAX:
            self._sortings.popitem(last=False)
        self._last += 1
        sorting = self._sortings[self._last] = Sorting(names)
        return self._last, sorting

    def drop(self, number: int) -> None:
        """Its listing has come to the end of the slot."""
        self._sortings.pop(number, None)


class Scans:
    """Those that scans are using, by a small number that their cursors have room for.

    A number is given again and again; whoever finds a later one under it finds all that it looks for.
    """

    __slots__ = ("_last", "_sortings")

    def __init__(self) -> None:
        self._sortings: OrderedDict[int, tuple[int, Sorting]] = OrderedDict()
        self._last = 0

    def get(self, number: int, slot: int) -> Sorting | None:
        """The one of this slot that is still there."""
        of_slot, sorting = self._sortings.get(number, (-1, None))
        return sorting if of_slot == slot else None

    def begin(self, slot: int, names: list[LockName], key: Key) -> tuple[int, Sorting]:
        """One for a scan that comes to this slot, and its number: not 0."""
        if len(self._sortings) >= _SORTINGS_MAX:
            self._sortings.popitem(last=False)
        self._last = self._last % SCAN_NUMBER_MAX + 1
        sorting = Sorting(names, key)
        self._sortings[self._last] = slot, sorting
        return self._last, sorting

    def end(self, number: int) -> None:
        """Its scan has come to the end of the slot."""
        self._sortings.pop(number, None)
