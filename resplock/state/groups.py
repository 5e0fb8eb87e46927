"""What belongs to whom: the locks that an owner holds, the places that a client waits in.

Pure, derived: rebuilt from the records on restore. Most owners hold one lock, and a set for each
would cost more than the lock, so one member stands for itself and only two or more make a set (a
dict whose values are None, which the garbage collector need not walk).
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from resplock.operations import ClientId
from resplock.types import LockName, NodeId

Holding: TypeAlias = tuple[LockName, bytes]
"""A hold, by its lock and its owner."""


class Sortable(Protocol):
    """Whatever has an order."""

    def __lt__(self, other: Any, /) -> bool: ...


Key = TypeVar("Key")
Member = TypeVar("Member", bound=Sortable)


class Groups(Generic[Key, Member]):
    """key -> its members. A key without members is not there."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: dict[Key, Member | dict[Member, None]] = {}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def keyed(self) -> KeysView[Key]:
        """Who has members. Their order differs from replica to replica: sort them."""
        return self._members.keys()

    def add(self, key: Key, member: Member) -> None:
        """`member` belongs to `key` now."""
        members = self._members.get(key)
        if members is None:
            self._members[key] = member
        elif isinstance(members, dict):
            members[member] = None
        elif members != member:
            self._members[key] = {members: None, member: None}

    def remove(self, key: Key, member: Member) -> None:
        """`member` belongs to `key` no longer."""
        members = self._members[key]
        if isinstance(members, dict):
            del members[member]
            if members:
                return
        del self._members[key]

    def has(self, key: Key, member: Member) -> bool:
        """Whether `member` belongs to `key`."""
        members = self._members.get(key)
        return member in members if isinstance(members, dict) else member == members

    def count(self, key: Key) -> int:
        """How many members `key` has."""
        members = self._members.get(key)
        if members is None:
            return 0
        return len(members) if isinstance(members, dict) else 1

    def members_of(self, key: Key) -> list[Member]:
        """The members of `key`, sorted."""
        members = self._members.get(key)
        if members is None:
            return []
        return sorted(members) if isinstance(members, dict) else [members]

    def any_of(self, key: Key) -> Iterable[Member]:
        """The members of `key` in an order that differs from replica to replica."""
        members = self._members.get(key)
        if members is None:
            return ()
        return members if isinstance(members, dict) else (members,)


class ClientGroups(Groups[ClientId, Member]):
    """What is attached to which client, and to how many in each life of a node."""

    __slots__ = ("lives",)

    def __init__(self) -> None:
        super().__init__()
        self.lives: dict[tuple[NodeId, int], int] = {}
        """(node, incarnation) -> how many of its clients have members."""

    def add(self, key: ClientId, member: Member) -> None:
        if not self.count(key):
            life = (key.node, key.incarnation)
            self.lives[life] = self.lives.get(life, 0) + 1
        super().add(key, member)

    def remove(self, key: ClientId, member: Member) -> None:
        super().remove(key, member)
        if self.count(key):
            return
        life = (key.node, key.incarnation)
        self.lives[life] -= 1
        if not self.lives[life]:
            del self.lives[life]
