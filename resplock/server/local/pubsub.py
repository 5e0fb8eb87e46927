"""SUBSCRIBE, UNSUBSCRIBE, PSUBSCRIBE, PUNSUBSCRIBE and PUBSUB: who listens to what on this node.

Each subscription is confirmed by a message of its own, which CLIENT REPLY does not mute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from resplock.resp.binding import Call
from resplock.resp.replies import Push
from resplock.server.connection import Connection
from resplock.server.local.context import NOTHING, Context, Handler


def subscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub, channels = context.clients.pubsub, call.values["channels"]
    pubsub.admit(connection, channels=channels)
    return _each(connection, b"subscribe", channels, pubsub.subscribe)


def unsubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    channels = call.values["channels"] or tuple(pubsub.of(connection).channels)
    if not channels:
        return _nothing_left(context, connection, b"unsubscribe")
    return _each(connection, b"unsubscribe", channels, pubsub.unsubscribe)


def psubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub, patterns = context.clients.pubsub, call.values["patterns"]
    pubsub.admit(connection, patterns=patterns)
    return _each(connection, b"psubscribe", patterns, pubsub.subscribe_pattern)


def punsubscribe(context: Context, connection: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    patterns = call.values["patterns"] or tuple(pubsub.of(connection).patterns)
    if not patterns:
        return _nothing_left(context, connection, b"punsubscribe")
    return _each(connection, b"punsubscribe", patterns, pubsub.unsubscribe_pattern)


def channels(context: Context, _: Connection, call: Call) -> Any:
    return context.clients.pubsub.channels(call.values["pattern"] or b"")


def numsub(context: Context, _: Connection, call: Call) -> Any:
    pubsub = context.clients.pubsub
    return [part for each in call.values["channels"] for part in (each, pubsub.subscribers(each))]


def numpat(context: Context, _: Connection, __: Call) -> Any:
    return context.clients.pubsub.pattern_count


def _each(
    connection: Connection,
    kind: bytes,
    names: Iterable[bytes],
    change: Callable[[Connection, bytes], int],
) -> Any:
    for name in names:
        count = change(connection, name)
        connection.confirm(Push((kind, name, count)), count)
    return NOTHING


def _nothing_left(context: Context, connection: Connection, kind: bytes) -> Any:
    """There was nothing to stop; the answer says how many subscriptions of the other kind are left."""
    count = len(context.clients.pubsub.of(connection))
    connection.confirm(Push((kind, None, count)), count)
    return NOTHING


HANDLERS: dict[str, Handler] = {
    "SUBSCRIBE": subscribe,
    "UNSUBSCRIBE": unsubscribe,
    "PSUBSCRIBE": psubscribe,
    "PUNSUBSCRIBE": punsubscribe,
    "PUBSUB CHANNELS": channels,
    "PUBSUB NUMSUB": numsub,
    "PUBSUB NUMPAT": numpat,
}
