"""(P|S)SUBSCRIBE, (P|S)UNSUBSCRIBE, PUBSUB and LOCK.WATCH: who listens to what on this node.

Each subscription is confirmed by a message of its own, which CLIENT REPLY does not mute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from resplock.errors import CommandError
from resplock.resp.binding import Call
from resplock.resp.replies import Push
from resplock.server.connection import Connection
from resplock.server.local.context import NOTHING, Context, Handler


def subscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub, channels = context.clients.pubsub, call.values["channels"]
    pubsub.admit(connection, channels=channels)
    return _each(context, connection, b"subscribe", channels, pubsub.subscribe)


def unsubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    channels = call.values["channels"] or tuple(pubsub.of(connection).channels)
    if not channels:
        return _nothing_left(context, connection, b"unsubscribe", pubsub.of(connection).plain)
    return _each(context, connection, b"unsubscribe", channels, pubsub.unsubscribe)


def psubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub, patterns = context.clients.pubsub, call.values["patterns"]
    pubsub.admit(connection, patterns=patterns)
    return _each(context, connection, b"psubscribe", patterns, pubsub.subscribe_pattern)


def punsubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    patterns = call.values["patterns"] or tuple(pubsub.of(connection).patterns)
    if not patterns:
        return _nothing_left(context, connection, b"punsubscribe", pubsub.of(connection).plain)
    return _each(context, connection, b"punsubscribe", patterns, pubsub.unsubscribe_pattern)


def ssubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub, channels = context.clients.pubsub, call.values["channels"]
    pubsub.admit(connection, shard_channels=channels)
    return _each(context, connection, b"ssubscribe", channels, pubsub.subscribe_shard)


def sunsubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    channels = call.values["channels"] or tuple(pubsub.of(connection).shard_channels)
    if not channels:
        return _nothing_left(context, connection, b"sunsubscribe", 0)
    return _each(context, connection, b"sunsubscribe", channels, pubsub.unsubscribe_shard)


def channels(context: Context, _: Connection, call: Call) -> Any:
    return context.clients.pubsub.channels(call.values["pattern"] or b"")


def numsub(context: Context, _: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    return [part for each in call.values["channels"] for part in (each, pubsub.subscribers(each))]


def numpat(context: Context, _: Connection, __: Call) -> Any:
    return context.clients.pubsub.pattern_count


def shard_channels(context: Context, _: Connection, call: Call) -> Any:
    return context.clients.pubsub.shard_channels(call.values["pattern"] or b"")


def shard_numsub(context: Context, _: Connection, call: Call) -> Any:
    count = context.clients.pubsub.shard_subscribers
    return [part for each in call.values["channels"] for part in (each, count(each))]


def watch(context: Context, connection: Connection, call: Call) -> Any:
    if connection.protocol_version == 2:
        raise CommandError(
            "LOCK.WATCH needs RESP3: say HELLO 3 first, or SUBSCRIBE to __lock__:<key>"
        )
    return context.clients.events.watch(connection, call.values["owners"])


def unwatch(context: Context, connection: Connection, call: Call) -> Any:
    events = context.clients.events
    return events.unwatch(connection, call.values["owners"] or events.watched(connection))


def _each(
    context: Context,
    connection: Connection,
    kind: bytes,
    names: Iterable[bytes],
    change: Callable[[Connection, bytes], int],
) -> Any:
    pubsub = context.clients.pubsub
    for name in names:
        count = change(connection, name)
        connection.confirm(Push((kind, name, count)), len(pubsub.of(connection)))
    return NOTHING


def _nothing_left(context: Context, connection: Connection, kind: bytes, count: int) -> Any:
    """There was nothing to stop; `count` says how many subscriptions are left that it stands for."""
    total = len(context.clients.pubsub.of(connection))
    connection.confirm(Push((kind, None, count)), total)
    return NOTHING


HANDLERS: dict[str, Handler] = {
    "SUBSCRIBE": subscribe,
    "UNSUBSCRIBE": unsubscribe,
    "PSUBSCRIBE": psubscribe,
    "PUNSUBSCRIBE": punsubscribe,
    "SSUBSCRIBE": ssubscribe,
    "SUNSUBSCRIBE": sunsubscribe,
    "PUBSUB CHANNELS": channels,
    "PUBSUB NUMSUB": numsub,
    "PUBSUB NUMPAT": numpat,
    "PUBSUB SHARDCHANNELS": shard_channels,
    "PUBSUB SHARDNUMSUB": shard_numsub,
    "LOCK.WATCH": watch,
    "LOCK.UNWATCH": unwatch,
}
