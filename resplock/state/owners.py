"""Which locks an owner holds: what KEEPALIVE walks.

Pure, derived: rebuilt from the records on restore. Most owners hold one lock, and a set for each
would cost more than the lock, so one name stands for itself and only two or more make a set (a dict
whose values are None, which the garbage collector need not walk).
"""

from __future__ import annotations

from resplock.types import LockName


class OwnerIndex:
    """owner -> the names of the locks it holds."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[bytes, LockName | dict[LockName, None]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, owner: bytes, name: LockName) -> None:
        """`owner` has come to hold `name`."""
        names = self._names.get(owner)
        if names is None:
            self._names[owner] = name
        elif isinstance(names, dict):
            names[name] = None
        elif names != name:
            self._names[owner] = {names: None, name: None}

    def remove(self, owner: bytes, name: LockName) -> None:
        """`owner` holds `name` no longer."""
        names = self._names[owner]
        if isinstance(names, dict):
            del names[name]
            if names:
                return
        del self._names[owner]

    def names_of(self, owner: bytes) -> list[LockName]:
        """The locks that `owner` holds, sorted."""
        names = self._names.get(owner)
        if names is None:
            return []
        return sorted(names) if isinstance(names, dict) else [names]
