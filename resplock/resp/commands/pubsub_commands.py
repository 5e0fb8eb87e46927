"""Redis's subscriptions, as far as the node itself publishes.

Pure, and only data.
"""

from resplock import limits
from resplock.resp.arguments import Pattern, Text
from resplock.resp.command import Command, Flag, Group, help_of
from resplock.resp.shapes import Kind, Reply

_FLAGS = (Flag.PUBSUB, Flag.NOSCRIPT, Flag.LOADING, Flag.STALE)
_PUBSUB_FLAGS = (Flag.PUBSUB, Flag.LOADING, Flag.STALE)
_BYTES = limits.CHANNEL_BYTES_MAX
_CHANNELS_MAX, _PATTERNS_MAX = limits.SUBSCRIPTIONS_MAX, limits.PATTERN_SUBSCRIPTIONS_MAX


def _confirmed(kind: str, what: str) -> Reply:
    return Reply(
        kind,
        Kind.PUSH,
        f"For each {what}: `{kind}`, the {what}, and how many subscriptions the connection has.",
    )


def _channels(name: str, *, absent: str = "", summary: str = "") -> Text:
    """Channels; without any of them if `absent` says what that means."""
    return Text(
        name=name,
        field="channels",
        optional=bool(absent),
        multiple=True,
        most=_BYTES,
        absent=absent,
        summary=summary,
    )


_LISTED = (Pattern(name="pattern", optional=True, absent="all", summary="Those that match it."),)
_LISTING = (Reply("channels", Kind.ARRAY, "The channels; a part of them if there are very many."),)
_COUNTS = (Reply("counts", Kind.ARRAY, "Each channel, and its number of connections."),)

_SUBCOMMANDS = (
    Command(
        name="PUBSUB CHANNELS",
        summary="Returns the channels that somebody subscribes to.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_PUBSUB_FLAGS,
        arguments=_LISTED,
        replies=_LISTING,
    ),
    help_of("PUBSUB", Group.PUBSUB),
    Command(
        name="PUBSUB NUMPAT",
        summary="Returns how many different patterns are subscribed to.",
        group=Group.PUBSUB,
        flags=_PUBSUB_FLAGS,
        replies=(Reply("count", Kind.INTEGER, "The number of patterns."),),
    ),
    Command(
        name="PUBSUB NUMSUB",
        summary="Returns how many connections subscribe to channels.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_PUBSUB_FLAGS,
        arguments=(_channels("channel", absent="none"),),
        replies=_COUNTS,
    ),
    Command(
        name="PUBSUB SHARDCHANNELS",
        summary="Returns the channels that somebody subscribes to by SSUBSCRIBE.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_PUBSUB_FLAGS,
        arguments=_LISTED,
        replies=_LISTING,
    ),
    Command(
        name="PUBSUB SHARDNUMSUB",
        summary="Returns how many connections subscribe to channels by SSUBSCRIBE.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_PUBSUB_FLAGS,
        arguments=(_channels("shardchannel", absent="none"),),
        replies=_COUNTS,
    ),
)

COMMANDS = (
    Command(
        name="SUBSCRIBE",
        summary="Listens to channels of this node.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_FLAGS,
        arguments=(_channels("channel", summary=f"At most {_CHANNELS_MAX} a connection."),),
        details=(
            (
                "What is published arrives as `message`, the channel and the text. On a RESP2 "
                "connection with subscriptions only (P|S)SUBSCRIBE, (P|S)UNSUBSCRIBE, PING, QUIT and "
                "RESET may be called. A connection that does not read is closed once "
                f"{limits.PUSHED_BYTES_MAX} bytes wait for it, or when more than "
                f"{limits.OUTPUT_BUFFER_BYTES_MAX} have waited for {limits.UNREAD_MS_MAX} ms and it "
                "has read nothing."
            ),
            "What happens to locks is published as [events](#events).",
        ),
        replies=(_confirmed("subscribe", "channel"),),
        errors=("BUSY",),
    ),
    Command(
        name="UNSUBSCRIBE",
        summary="Stops to listen to channels.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_FLAGS,
        arguments=(_channels("channel", absent="all"),),
        replies=(_confirmed("unsubscribe", "channel"),),
    ),
    Command(
        name="PSUBSCRIBE",
        summary="Listens to the channels of this node that match patterns.",
        complexity="O(N) where N is the number of patterns",
        group=Group.PUBSUB,
        flags=_FLAGS,
        arguments=(
            Pattern(
                name="pattern",
                field="patterns",
                multiple=True,
                least=0,
                summary=f"At most {_PATTERNS_MAX} a connection.",
            ),
        ),
        details=("What is published arrives as `pmessage`, pattern, channel and text.",),
        replies=(_confirmed("psubscribe", "pattern"),),
        errors=("BUSY",),
    ),
    Command(
        name="PUNSUBSCRIBE",
        summary="Stops to listen to channels that match patterns.",
        complexity="O(N) where N is the number of patterns",
        group=Group.PUBSUB,
        flags=_FLAGS,
        arguments=(
            Pattern(
                name="pattern",
                field="patterns",
                optional=True,
                multiple=True,
                least=0,
                absent="all",
            ),
        ),
        replies=(_confirmed("punsubscribe", "pattern"),),
    ),
    Command(
        name="SSUBSCRIBE",
        summary="Listens to channels of this node. There is one shard, and every node has it.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_FLAGS,
        arguments=(
            _channels(
                "shardchannel",
                summary=f"At most {_CHANNELS_MAX} a connection, with those of SUBSCRIBE.",
            ),
        ),
        details=("As SUBSCRIBE, counted apart. What is published arrives as `smessage`.",),
        replies=(_confirmed("ssubscribe", "channel"),),
        errors=("BUSY",),
    ),
    Command(
        name="SUNSUBSCRIBE",
        summary="Stops to listen to channels of SSUBSCRIBE.",
        complexity="O(N) where N is the number of channels",
        group=Group.PUBSUB,
        flags=_FLAGS,
        arguments=(_channels("shardchannel", absent="all"),),
        replies=(_confirmed("sunsubscribe", "channel"),),
    ),
    Command(
        name="PUBSUB",
        summary="Commands about subscriptions.",
        complexity="Depends on subcommand.",
        group=Group.PUBSUB,
        subcommands=_SUBCOMMANDS,
    ),
)
