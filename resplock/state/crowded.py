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
from collections.abc import Iterator
from heapq import merge

from resplock.types import LockName

CROWDED = 4096
"""Slots with more locks than this are sorted bit by bit."""
_RUN = 8192
"""Names that are sorted at once: about 2 ms."""
_SORTINGS_MAX = 4
"""Listings that go through crowded slots at the same time; the oldest begins its slot's anew."""


class Sorting:
    """The names of one slot, being sorted."""

    __slots__ = ("_names", "_runs")

    def __init__(self, names: list[LockName]) -> None:
        self._names = names
        self._runs: list[list[LockName]] = []

    def go_on(self) -> bool:
        """Sort some more of them; says whether that was the last."""
        if self._names:
            self._runs.append(sorted(self._names[-_RUN:]))
            del self._names[-_RUN:]
        return not self._names

    def after(self, last: LockName) -> Iterator[LockName]:
        """The names behind this one, sorted, once all are."""
        assert not self._names, "not sorted yet"
        return merge(*(_from(run, bisect_right(run, last)) for run in self._runs))


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
