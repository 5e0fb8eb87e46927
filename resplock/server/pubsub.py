"""Who subscribes to what on this node, and the messages that go to them.

I/O layer, though it only calls `Subscriber.push`. A message goes to the subscribers of its channel,
then to those of each pattern that matches, as in Redis; who subscribed first gets it first.

Bounds: a connection's subscriptions and patterns, and the node's different channels and patterns
(limits.py). A subscriber that does not read is closed by its connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.resp.replies import Push, encode


class Subscriber(Protocol):
    """A connection that subscribes."""

    @property
    def protocol_version(self) -> int: ...

    def push(self, data: bytes) -> None:
        """Send it bytes that it did not ask for just now."""


class Subscriptions:
    """What one subscriber listens to, in the order in which it began to."""

    __slots__ = ("bytes", "channels", "patterns")

    def __init__(self) -> None:
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.bytes = 0
        """Of their names."""

    def __len__(self) -> int:
        return len(self.channels) + len(self.patterns)


NO_SUBSCRIPTIONS = Subscriptions()
"""Of a connection that never subscribed."""


class _Listeners:
    """Who listens to each channel, or to each pattern."""

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table: dict[bytes, dict[Subscriber, None]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._table)

    def of(self, name: bytes) -> Collection[Subscriber]:
        return self._table.get(name, ())

    def add(self, name: bytes, who: Subscriber) -> None:
        self._table.setdefault(name, {})[who] = None

    def remove(self, name: bytes, who: Subscriber) -> None:
        listening = self._table[name]
        del listening[who]
        if not listening:
            del self._table[name]

    def new_names(self, names: Iterable[bytes]) -> int:
        """How many of them nobody listens to yet."""
        return sum(name not in self._table for name in set(names))


class PubSub:
    """The subscriptions of one node's connections."""

    def __init__(self) -> None:
        self._channels = _Listeners()
        self._patterns = _Listeners()
        self._matchers: dict[bytes, glob.Matcher] = {}
        self._subscriptions: dict[Subscriber, Subscriptions] = {}

    # --- subscribing -----------------------------------------------------------------------------

    def of(self, who: Subscriber) -> Subscriptions:
        """What somebody listens to now. Not to be changed."""
        return self._subscriptions.get(who, NO_SUBSCRIPTIONS)

    def admit(
        self, who: Subscriber, *, channels: tuple[bytes, ...] = (), patterns: tuple[bytes, ...] = ()
    ) -> None:
        """Raise BUSY, before anything is done, if these would be more than a bound allows."""
        own = self.of(who)
        wanted_patterns = own.patterns.keys() | patterns
        total = len(own.channels.keys() | channels) + len(wanted_patterns)
        if total > limits.SUBSCRIPTIONS_MAX:
            raise _too_many(f"{limits.SUBSCRIPTIONS_MAX} subscriptions of one connection")
        if len(wanted_patterns) > limits.PATTERN_SUBSCRIPTIONS_MAX:
            raise _too_many(f"{limits.PATTERN_SUBSCRIPTIONS_MAX} patterns of one connection")
        if len(self._channels) + self._channels.new_names(channels) > limits.CHANNELS_MAX:
            raise _too_many(f"{limits.CHANNELS_MAX} channels on this node")
        if len(self._patterns) + self._patterns.new_names(patterns) > limits.PATTERNS_MAX:
            raise _too_many(f"{limits.PATTERNS_MAX} patterns on this node")

    def subscribe(self, who: Subscriber, channel: bytes) -> int:
        """Listen to a channel; how many subscriptions there are then. `admit` it first."""
        own = self._subscriptions.setdefault(who, Subscriptions())
        if channel not in own.channels:
            own.channels[channel] = None
            own.bytes += len(channel)
            self._channels.add(channel, who)
        return len(own)

    def unsubscribe(self, who: Subscriber, channel: bytes) -> int:
        """Listen to a channel no more; how many subscriptions there are then."""
        own = self.of(who)
        if channel in own.channels:
            del own.channels[channel]
            own.bytes -= len(channel)
            self._channels.remove(channel, who)
            self._forget_if_empty(who, own)
        return len(own)

    def subscribe_pattern(self, who: Subscriber, pattern: bytes) -> int:
        """As `subscribe`, to every channel that matches."""
        own = self._subscriptions.setdefault(who, Subscriptions())
        if pattern not in own.patterns:
            own.patterns[pattern] = None
            own.bytes += len(pattern)
            self._patterns.add(pattern, who)
            if pattern not in self._matchers:
                self._matchers[pattern] = glob.compile(pattern) if pattern else b"".__eq__
        return len(own)

    def unsubscribe_pattern(self, who: Subscriber, pattern: bytes) -> int:
        """As `unsubscribe`, of a pattern."""
        own = self.of(who)
        if pattern in own.patterns:
            del own.patterns[pattern]
            own.bytes -= len(pattern)
            self._patterns.remove(pattern, who)
            if not self._patterns.of(pattern):
                del self._matchers[pattern]
            self._forget_if_empty(who, own)
        return len(own)

    def leave(self, who: Subscriber) -> None:
        """It listens to nothing any more."""
        own = self.of(who)
        for channel in list(own.channels):
            self.unsubscribe(who, channel)
        for pattern in list(own.patterns):
            self.unsubscribe_pattern(who, pattern)

    def _forget_if_empty(self, who: Subscriber, own: Subscriptions) -> None:
        if not own:
            del self._subscriptions[who]

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message to who listens to its channel; how many copies were sent."""
        sent = 0
        if listening := self._channels.of(channel):
            sent += _send(listening, Push((b"message", channel, message)))
        for pattern, matches in self._matchers.items():
            if matches(channel):
                push = Push((b"pmessage", pattern, channel, message))
                sent += _send(self._patterns.of(pattern), push)
        return sent

    # --- what PUBSUB shows -----------------------------------------------------------------------

    @property
    def channel_count(self) -> int:
        """How many different channels somebody listens to."""
        return len(self._channels)

    @property
    def pattern_count(self) -> int:
        """How many different patterns somebody listens to."""
        return len(self._patterns)

    def subscribers(self, channel: bytes) -> int:
        """How many listen to a channel by its name."""
        return len(self._channels.of(channel))

    def channels(self, pattern: bytes = b"") -> list[bytes]:
        """Channels that match: not all of them once the list or the search grows too long."""
        matches, steps_per_byte = glob.compile(pattern), glob.steps_per_byte(pattern)
        found, steps, size = [], 0, 0
        for channel in self._channels:
            steps += 1 + len(channel) * steps_per_byte
            if steps > limits.LIST_STEPS_MAX or size > limits.CHANNELS_BYTES_MAX:
                break
            if matches(channel):
                found.append(channel)
                size += len(channel)
        return found


def _send(listening: Collection[Subscriber], push: Push) -> int:
    """Encode a message once for each protocol, and send it."""
    encoded: dict[int, bytes] = {}
    for who in (receivers := list(listening)):
        protocol = who.protocol_version
        if protocol not in encoded:
            encoded[protocol] = encode(push, protocol)
        who.push(encoded[protocol])
    return len(receivers)


def _too_many(bound: str) -> CommandError:
    return CommandError(f"more than {bound}; nothing was done", "BUSY")
