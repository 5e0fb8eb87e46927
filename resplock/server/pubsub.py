"""Who subscribes to what on this node, and the messages that go to them.

I/O layer, though it only calls `Subscriber.push`. A message goes to the subscribers of its channel,
then to those of each pattern that matches, as in Redis; who subscribed first gets it first. What is
published together reaches each subscriber in one piece.

There is one shard: a message reaches who has subscribed to its channel by SSUBSCRIBE, too. As in
Redis, these subscriptions are counted apart.

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

    def cut_off(self, reason: str) -> None:
        """Close it, because it was not told of everything."""


_STEPS_PER_PATTERN = 4
"""Of a pattern that takes no longer for a longer channel."""


class Watcher(Protocol):
    """Who is told what anybody listens to."""

    def channel_heard(self, channel: bytes, heard: bool) -> None:
        """Somebody listens to this channel by its name, or nobody does any more."""

    def pattern_heard(self, pattern: bytes, heard: bool) -> None:
        """The same of the channels that match a pattern."""


class Subscriptions:
    """What one subscriber listens to, in the order in which it began to."""

    __slots__ = ("bytes", "channels", "patterns", "shard_channels")

    def __init__(self) -> None:
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.bytes = 0
        """Of their names."""

    def __len__(self) -> int:
        return len(self.channels) + len(self.patterns) + len(self.shard_channels)

    @property
    def plain(self) -> int:
        """How many there are that SUBSCRIBE and PSUBSCRIBE made."""
        return len(self.channels) + len(self.patterns)


NO_SUBSCRIPTIONS = Subscriptions()
"""Of a connection that never subscribed."""


class Listeners:
    """Who listens to each of some names."""

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table: dict[bytes, dict[Subscriber, None]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._table)

    def __contains__(self, name: bytes) -> bool:
        return name in self._table

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
        self._channels = Listeners()
        self._shard_channels = Listeners()
        self._patterns = Listeners()
        self._watcher: Watcher | None = None
        self._matchers: dict[bytes, glob.Matcher] = {}
        self._steps_per_byte = 0
        self._subscriptions: dict[Subscriber, Subscriptions] = {}

    def watch(self, watcher: Watcher) -> None:
        """Tell it of what anybody listens to from now on. There is one watcher."""
        self._watcher = watcher

    # --- subscribing -----------------------------------------------------------------------------

    def of(self, who: Subscriber) -> Subscriptions:
        """What somebody listens to now. Not to be changed."""
        return self._subscriptions.get(who, NO_SUBSCRIPTIONS)

    def admit(
        self,
        who: Subscriber,
        *,
        channels: tuple[bytes, ...] = (),
        patterns: tuple[bytes, ...] = (),
        shard_channels: tuple[bytes, ...] = (),
    ) -> None:
        """Raise BUSY, before anything is done, if these would be more than a bound allows."""
        own = self.of(who)
        wanted_patterns = own.patterns.keys() | patterns
        total = len(own.channels.keys() | channels) + len(wanted_patterns)
        total += len(own.shard_channels.keys() | shard_channels)
        if total > limits.SUBSCRIPTIONS_MAX:
            raise _too_many(f"{limits.SUBSCRIPTIONS_MAX} subscriptions of one connection")
        if len(wanted_patterns) > limits.PATTERN_SUBSCRIPTIONS_MAX:
            raise _too_many(f"{limits.PATTERN_SUBSCRIPTIONS_MAX} patterns of one connection")
        new = self._channels.new_names(channels) + self._shard_channels.new_names(shard_channels)
        if len(self._channels) + len(self._shard_channels) + new > limits.CHANNELS_MAX:
            raise _too_many(f"{limits.CHANNELS_MAX} channels on this node")
        if len(self._patterns) + self._patterns.new_names(patterns) > limits.PATTERNS_MAX:
            raise _too_many(f"{limits.PATTERNS_MAX} patterns on this node")

    def subscribe(self, who: Subscriber, channel: bytes) -> int:
        """Listen to a channel; how many plain subscriptions there are then. `admit` it first."""
        own = self._subscriptions.setdefault(who, Subscriptions())
        if channel not in own.channels:
            own.channels[channel] = None
            self._listen(self._channels, who, own, channel)
        return own.plain

    def unsubscribe(self, who: Subscriber, channel: bytes) -> int:
        """Listen to a channel no more; how many plain subscriptions there are then."""
        own = self.of(who)
        if channel in own.channels:
            del own.channels[channel]
            self._stop_listening(self._channels, who, own, channel)
        return own.plain

    def subscribe_shard(self, who: Subscriber, channel: bytes) -> int:
        """As `subscribe`, and how many subscriptions of this kind there are then."""
        own = self._subscriptions.setdefault(who, Subscriptions())
        if channel not in own.shard_channels:
            own.shard_channels[channel] = None
            self._listen(self._shard_channels, who, own, channel)
        return len(own.shard_channels)

    def unsubscribe_shard(self, who: Subscriber, channel: bytes) -> int:
        """As `unsubscribe`, and how many subscriptions of this kind there are then."""
        own = self.of(who)
        if channel in own.shard_channels:
            del own.shard_channels[channel]
            self._stop_listening(self._shard_channels, who, own, channel)
        return len(own.shard_channels)

    def subscribe_pattern(self, who: Subscriber, pattern: bytes) -> int:
        """As `subscribe`, to every channel that matches."""
        own = self._subscriptions.setdefault(who, Subscriptions())
        if pattern not in own.patterns:
            own.patterns[pattern] = None
            if pattern not in self._matchers:
                self._matchers[pattern] = glob.compile(pattern) if pattern else b"".__eq__
                self._steps_per_byte += glob.steps_per_byte(pattern)
            self._listen(self._patterns, who, own, pattern)
        return own.plain

    def unsubscribe_pattern(self, who: Subscriber, pattern: bytes) -> int:
        """As `unsubscribe`, of a pattern."""
        own = self.of(who)
        if pattern in own.patterns:
            del own.patterns[pattern]
            self._stop_listening(self._patterns, who, own, pattern)
            if not self._patterns.of(pattern):
                del self._matchers[pattern]
                self._steps_per_byte -= glob.steps_per_byte(pattern)
        return own.plain

    def leave(self, who: Subscriber) -> None:
        """It listens to nothing any more."""
        own = self.of(who)
        for channel in list(own.channels):
            self.unsubscribe(who, channel)
        for channel in list(own.shard_channels):
            self.unsubscribe_shard(who, channel)
        for pattern in list(own.patterns):
            self.unsubscribe_pattern(who, pattern)

    def _listen(
        self, listeners: Listeners, who: Subscriber, own: Subscriptions, name: bytes
    ) -> None:
        own.bytes += len(name)
        listeners.add(name, who)
        if self._watcher is not None and len(listeners.of(name)) == 1:
            self._tell(self._watcher, listeners, name, heard=True)

    def _stop_listening(
        self, listeners: Listeners, who: Subscriber, own: Subscriptions, name: bytes
    ) -> None:
        own.bytes -= len(name)
        listeners.remove(name, who)
        if not own:
            del self._subscriptions[who]
        if self._watcher is not None and not listeners.of(name):
            self._tell(self._watcher, listeners, name, heard=False)

    def _tell(self, watcher: Watcher, listeners: Listeners, name: bytes, *, heard: bool) -> None:
        """A channel or pattern has its first listener, or has lost its last one."""
        if listeners is self._patterns:
            watcher.pattern_heard(name, heard)
            return
        other = self._channels if listeners is self._shard_channels else self._shard_channels
        if not other.of(name):
            watcher.channel_heard(name, heard)

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message to who listens to its channel; how many copies were sent."""
        outbox = Outbox()
        self.put(outbox, channel, message)
        return outbox.send()

    def put(self, outbox: Outbox, channel: bytes, message: bytes) -> None:
        """As `publish`, but only when the outbox is sent."""
        if listening := self._channels.of(channel):
            outbox.add(listening, Push((b"message", channel, message)))
        if listening := self._shard_channels.of(channel):
            outbox.add(listening, Push((b"smessage", channel, message)))
        for pattern, matches in self._matchers.items():
            if matches(channel):
                push = Push((b"pmessage", pattern, channel, message))
                outbox.add(self._patterns.of(pattern), push)

    def steps(self, size: int) -> int:
        """What a message costs whose channel has so many bytes, in the steps of `resplock.glob`."""
        return _STEPS_PER_PATTERN * len(self._matchers) + size * self._steps_per_byte

    # --- what PUBSUB shows -----------------------------------------------------------------------

    def everybody(self) -> list[tuple[Subscriber, Subscriptions]]:
        """Who subscribes to anything, and to what."""
        return list(self._subscriptions.items())

    @property
    def channel_count(self) -> int:
        """How many different channels somebody listens to."""
        return len(self._channels)

    @property
    def shard_channel_count(self) -> int:
        """As `channel_count`, of SSUBSCRIBE."""
        return len(self._shard_channels)

    @property
    def pattern_count(self) -> int:
        """How many different patterns somebody listens to."""
        return len(self._patterns)

    def subscribers(self, channel: bytes) -> int:
        """How many listen to a channel by its name."""
        return len(self._channels.of(channel))

    def shard_subscribers(self, channel: bytes) -> int:
        """How many listen to a channel by SSUBSCRIBE."""
        return len(self._shard_channels.of(channel))

    def channels(self, pattern: bytes = b"") -> list[bytes]:
        """Channels that match: not all of them once the list or the search grows too long."""
        return _matching(self._channels, pattern)

    def shard_channels(self, pattern: bytes = b"") -> list[bytes]:
        """As `channels`, of those of SSUBSCRIBE."""
        return _matching(self._shard_channels, pattern)


class Outbox:
    """Messages to subscribers, in order, until they are sent: in one piece to each.

    What goes to the same subscribers in a row is put together once for all of them: a hundred who
    listen to everything cost a tenth of what they would one by one.
    """

    __slots__ = ("_parts", "_receivers", "_run", "bytes", "count")

    def __init__(self) -> None:
        self._parts: dict[Subscriber, list[bytes]] = {}
        self._receivers: Collection[Subscriber] = ()
        self._run: list[Push] = []
        """What goes to `_receivers` next."""
        self.count = 0
        """How many messages there are, each copy counted."""
        self.bytes = 0
        """How long they are together, about."""

    def add(self, receivers: Collection[Subscriber], push: Push) -> None:
        """Send it to these, who stay the same until everything is sent."""
        if receivers is not self._receivers:
            self._end_run()
            self._receivers = receivers
        self._run.append(push)
        self.count += len(receivers)
        size = sum(len(item) for item in push.items if type(item) is bytes)
        self.bytes += (size + 10 * len(push.items)) * len(receivers)

    def send(self) -> int:
        """Send everything; how many messages these were."""
        self._end_run()
        parts, self._parts, self._receivers = self._parts, {}, ()
        for who, waiting in parts.items():
            who.push(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        count, self.count, self.bytes = self.count, 0, 0
        return count

    def _end_run(self) -> None:
        """Encode it, once for each protocol."""
        run, self._run = self._run, []
        if not run:
            return
        encoded: dict[int, bytes] = {}
        for who in self._receivers:
            protocol = who.protocol_version
            if protocol not in encoded:
                encoded[protocol] = b"".join([encode(push, protocol) for push in run])
            self._parts.setdefault(who, []).append(encoded[protocol])


def _matching(names: Listeners, pattern: bytes) -> list[bytes]:
    """Names that match: not all of them once the list or the search grows too long."""
    matches, steps_per_byte = glob.compile(pattern), glob.steps_per_byte(pattern)
    found, steps, size = [], 0, 0
    for name in names:
        steps += 1 + len(name) * steps_per_byte
        if steps > limits.LIST_STEPS_MAX or size > limits.CHANNELS_BYTES_MAX:
            break
        if matches(name):
            found.append(name)
            size += len(name)
    return found


def _too_many(bound: str) -> CommandError:
    return CommandError(f"more than {bound}; nothing was done", "BUSY")
