"""Tells the clients of this node what happens to locks, as this node applies it.

I/O layer, though it only calls `Subscriber.push`. Every node tells its own clients, from its own apply:
what is committed, in the order of the log, each event once. Whoever is connected has missed nothing
since its SUBSCRIBE was answered: when this node cannot tell of everything, because it got a part of
the log as a snapshot, or because more happens than it can send, it closes the connections that
listen for events.

While nobody listens, the lock table keeps no events. While somebody does, what nobody can hear costs
a few lookups: the names of channels are taken apart when a client subscribes, not put together when
something happens.

    names       the locks whose `__keyspace@<db>__:<key>` somebody has subscribed to
    keys        the keys of `__lock__:<key>`
    kinds       the kinds, each with its databases, of `__keyevent@<db>__:<kind>`
    prefixes    what the keys begin with that a pattern may match
    owners      whose holds are watched (LOCK.WATCH)

Bounds: what is sent in one turn, and what waits for the next one (limits.py); see `PubSub` for the rest.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.operations import Event
from resplock.resp.events import (
    KEYEVENT_HEADS,
    KEYSPACE_HEADS,
    KINDS,
    LOCK_HEAD,
    ends_unasked,
    line,
    loss,
)
from resplock.server.pubsub import Listeners, Outbox, PubSub, Subscriber
from resplock.types import DB_PREFIXES, LockName, key_of

T = TypeVar("T")

_KEYSPACES = {head.removesuffix(b":"): db for db, head in enumerate(KEYSPACE_HEADS)}
_KEYEVENTS = {head.removesuffix(b":"): db for db, head in enumerate(KEYEVENT_HEADS)}
_LOCKS = LOCK_HEAD.removesuffix(b":")
_SPECIAL = b"*?[\\"
_CHANNELS = 3
_HEAD_BYTES = len(KEYSPACE_HEADS[-1])
_EVERY_KIND = [(kind, db) for kind in KINDS for db in range(limits.DATABASES)]


class Events:
    """What happens to locks, for the clients of one node."""

    def __init__(
        self,
        pubsub: PubSub,
        keep: Callable[[bool], None],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        """keep: tells the node whether to keep the events that it applies."""
        self._pubsub = pubsub
        self._keep = keep
        self._call_soon = call_soon
        self._names: set[LockName] = set()
        self._keys: set[bytes] = set()
        self._kinds: Counter[tuple[str, int]] = Counter()
        self._kinds_heard: frozenset[str] = frozenset()
        self._keyspace_prefixes = _Prefixes(0)
        self._lock_prefixes = _Prefixes(1)
        self._reaches: dict[bytes, _Reach] = {}
        self._owners = Listeners()
        self._watching: dict[Subscriber, dict[bytes, None]] = {}
        self._waiting: deque[Event] = deque()
        pubsub.watch(self)

    # --- who listens to what: Watcher ------------------------------------------------------------

    def channel_heard(self, channel: bytes, heard: bool) -> None:
        head, _, rest = channel.partition(b":")
        if (db := _KEYSPACES.get(head)) is not None:
            _put(self._names, LockName(DB_PREFIXES[db] + rest), heard)
        elif (db := _KEYEVENTS.get(head)) is not None:
            kind = rest.decode("latin-1")
            if kind in KINDS:
                self._count_kinds([(kind, db)], heard)
        elif head == _LOCKS:
            _put(self._keys, rest, heard)
        self._keep(self.are_heard)

    def pattern_heard(self, pattern: bytes, heard: bool) -> None:
        if heard:
            reach = self._reaches[pattern] = _reach_of(pattern)
        else:
            reach = self._reaches.pop(pattern)
        self._keyspace_prefixes.count(reach.keyspaces, heard)
        self._lock_prefixes.count(reach.locks, heard)
        self._count_kinds(reach.kinds, heard)
        self._keep(self.are_heard)

    def _count_kinds(self, kinds: Iterable[tuple[str, int]], heard: bool) -> None:
        _count(self._kinds, kinds, heard)
        self._kinds_heard = frozenset(kind for kind, _ in self._kinds)

    @property
    def are_heard(self) -> bool:
        """Whether anybody can hear any event."""
        return bool(
            self._names
            or self._keys
            or self._kinds
            or self._keyspace_prefixes.by_end
            or self._lock_prefixes.by_end
            or len(self._owners)
        )

    # --- watching owners -------------------------------------------------------------------------

    def watched(self, who: Subscriber) -> tuple[bytes, ...]:
        """The owners that somebody watches, in the order in which it began to."""
        return tuple(self._watching.get(who, ()))

    def watch(self, who: Subscriber, owners: Sequence[bytes]) -> int:
        """Tell somebody when holds of these owners end unasked; how many it watches then.

        Raises BUSY, before anything is done, when these would be more than a bound allows.
        """
        own = self._watching.get(who, {})
        if len(own.keys() | owners) > limits.OWNERS_WATCHED_MAX:
            raise _too_many(f"{limits.OWNERS_WATCHED_MAX} owners watched by one connection")
        if len(self._owners) + self._owners.new_names(owners) > limits.OWNERS_WATCHED_ON_NODE_MAX:
            raise _too_many(f"{limits.OWNERS_WATCHED_ON_NODE_MAX} owners watched on this node")
        for owner in owners:
            if owner not in own:
                own[owner] = None
                self._owners.add(owner, who)
        if own:
            self._watching[who] = own
        self._keep(self.are_heard)
        return len(own)

    def unwatch(self, who: Subscriber, owners: Iterable[bytes]) -> int:
        """Tell of these no more; how many somebody watches then."""
        own = self._watching.get(who, {})
        for owner in owners:
            if owner in own:
                del own[owner]
                self._owners.remove(owner, who)
        if not own:
            self._watching.pop(who, None)
        self._keep(self.are_heard)
        return len(own)

    def bytes_of(self, who: Subscriber) -> int:
        """How long the names are that somebody watches, together."""
        own = self._watching.get(who)
        return sum(map(len, own)) if own else 0

    def leave(self, who: Subscriber) -> None:
        """It watches nobody any more."""
        if who in self._watching:
            self.unwatch(who, self.watched(who))

    # --- telling ---------------------------------------------------------------------------------

    def publish(self, events: Sequence[Event]) -> None:
        """Tell those who listen, of the first events now and of the others in later turns."""
        idle = not self._waiting
        names, kinds = self._names, self._kinds_heard
        rarer = bool(
            self._keys
            or self._keyspace_prefixes.by_end
            or self._lock_prefixes.by_end
            or len(self._owners)
        )
        self._waiting += [
            event
            for event in events
            if event.name in names or event.kind in kinds or (rarer and self._may_be_heard(event))
        ]
        if len(self._waiting) > limits.EVENTS_QUEUED_MAX:
            self.skipped("more happens to locks than it can be told")
        elif idle and self._waiting:
            self._tell_some()

    def _may_be_heard(self, event: Event) -> bool:
        """Whether somebody listens for it by its key, by a pattern or by its owner."""
        name = event.name
        if self._keys and name[1:] in self._keys:
            return True
        # Looked at from outside first, because most often it is empty, and a call costs more.
        if self._keyspace_prefixes.by_end and name in self._keyspace_prefixes:
            return True
        if self._lock_prefixes.by_end and name in self._lock_prefixes:
            return True
        return event.owner in self._owners

    def skipped(self, reason: str = "a part of the log came as a snapshot") -> None:
        """Events cannot be told: whoever listens for some has to learn that it missed them."""
        self._waiting.clear()
        for who in self._listening():
            who.cut_off(reason)

    def _tell_some(self) -> None:
        waiting, outbox, steps = self._waiting, Outbox(), 0
        for _ in range(min(len(waiting), limits.EVENTS_TOLD_MAX)):
            event = waiting.popleft()
            self._tell(outbox, event)
            steps += _CHANNELS * self._pubsub.steps(len(event.name) + _HEAD_BYTES)
            if outbox.bytes > limits.EVENTS_TOLD_BYTES_MAX or steps > limits.EVENTS_TOLD_STEPS_MAX:
                break
        outbox.send()
        if waiting:
            self._call_soon(self._tell_some)

    def _tell(self, outbox: Outbox, event: Event) -> None:
        """In the order of Redis: the key's channel, then the event's; ours come last."""
        name, kind, pubsub = event.name, event.kind, self._pubsub
        db, key = name[0], key_of(name)
        if name in self._names or name in self._keyspace_prefixes:
            pubsub.put(outbox, KEYSPACE_HEADS[db] + key, kind.encode())
        if (kind, db) in self._kinds:
            pubsub.put(outbox, KEYEVENT_HEADS[db] + kind.encode(), key)
        if key in self._keys or name in self._lock_prefixes:
            pubsub.put(outbox, LOCK_HEAD + key, line(event))
        if event.owner in self._owners and ends_unasked(event):
            outbox.add(self._owners.of(event.owner), loss(event))

    def _listening(self) -> list[Subscriber]:
        """Everybody who listens for events."""
        found = dict.fromkeys(self._watching)
        for who, own in self._pubsub.everybody():
            names = (*own.channels, *own.shard_channels)
            if any(map(_is_of_events, names)) or any(self._reaches[each] for each in own.patterns):
                found[who] = None
        return list(found)


class _Reach(NamedTuple):
    """What a pattern may match: what keys begin with behind a database's byte, and by themselves,
    and kinds with their databases."""

    keyspaces: tuple[bytes, ...]
    locks: tuple[bytes, ...]
    kinds: tuple[tuple[str, int], ...]

    def __bool__(self) -> bool:
        return any(map(len, self))


def _reach_of(pattern: bytes) -> _Reach:
    """More than it matches, perhaps, and never less."""
    if not pattern:
        return _Reach((), (), ())
    specials = [at for at, byte in enumerate(pattern) if byte in _SPECIAL]
    literal = pattern[: specials[0]] if specials else pattern
    keyspaces = [
        DB_PREFIXES[db] + prefix
        for db, head in enumerate(KEYSPACE_HEADS)
        if (prefix := _behind(head, literal)) is not None
    ]
    in_locks = _behind(LOCK_HEAD, literal)
    matches = glob.compile(pattern)
    kinds = [(kind, db) for kind, db in _EVERY_KIND if matches(KEYEVENT_HEADS[db] + kind.encode())]
    return _Reach(tuple(keyspaces), () if in_locks is None else (in_locks,), tuple(kinds))


def _behind(head: bytes, literal: bytes) -> bytes | None:
    """How the rest of a channel begins that begins with `head`, when all of it begins with `literal`;
    None when no channel begins with both."""
    if literal.startswith(head):
        return literal[len(head) :]
    return b"" if head.startswith(literal) else None


class _Prefixes:
    """Beginnings of names, counted from a position: is a name among those that begin like this?"""

    __slots__ = ("_at", "_counts", "by_end")

    def __init__(self, at: int) -> None:
        self._at = at
        self._counts: Counter[bytes] = Counter()
        self.by_end: dict[int, frozenset[bytes]] = {}
        """By where the beginning ends in a name."""

    def __contains__(self, name: bytes) -> bool:
        at = self._at
        for end, prefixes in self.by_end.items():  # noqa: SIM110  a loop is much faster
            if name[at:end] in prefixes:
                return True
        return False

    def count(self, prefixes: Iterable[bytes], heard: bool) -> None:
        """Add these, or take them away."""
        prefixes = list(prefixes)
        _count(self._counts, prefixes, heard)
        for length in {len(prefix) for prefix in prefixes}:
            left = frozenset(prefix for prefix in self._counts if len(prefix) == length)
            if left:
                self.by_end[self._at + length] = left
            else:
                self.by_end.pop(self._at + length, None)


def _is_of_events(channel: bytes) -> bool:
    head = channel.partition(b":")[0]
    return head in _KEYSPACES or head in _KEYEVENTS or head == _LOCKS


def _put(names: set[T], name: T, heard: bool) -> None:
    if heard:
        names.add(name)
    else:
        names.discard(name)


def _count(counts: Counter[T], items: Iterable[T], heard: bool) -> None:
    """Count these up, or down; what is counted down to nothing is forgotten."""
    for item in items:
        counts[item] += 1 if heard else -1
        if not counts[item]:
            del counts[item]


def _too_many(bound: str) -> CommandError:
    return CommandError(f"more than {bound}; nothing was done", "BUSY")
