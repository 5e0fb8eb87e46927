"""Redis's commands about the connection itself: PING, HELLO, AUTH, ...

Pure, and only data.
"""

from resplock import limits
from resplock.resp import shapes
from resplock.resp.arguments import Block, Integer, Text, Wording
from resplock.resp.command import Command, Flag, Group
from resplock.resp.commands.client_commands import CLIENT_NAME_ERROR
from resplock.resp.shapes import Field, Kind, Reply

_FAST_ANYTIME = (Flag.NOSCRIPT, Flag.LOADING, Flag.STALE, Flag.FAST, Flag.NO_AUTH, Flag.ALLOW_BUSY)

COMMANDS = (
    Command(
        name="PING",
        summary="Tells that the node is there.",
        group=Group.CONNECTION,
        flags=(Flag.FAST,),
        tips=("request_policy:all_shards", "response_policy:all_succeeded"),
        arguments=(Text(name="message", optional=True, summary="What to answer instead."),),
        replies=(
            Reply("pong", Kind.SIMPLE, "PONG, without a message."),
            Reply("message", Kind.BULK, "The message."),
            Reply(
                "subscriber",
                Kind.ARRAY,
                "`pong` and the message, on a RESP2 connection with subscriptions.",
            ),
        ),
    ),
    Command(
        name="ECHO",
        summary="Returns what it was given.",
        group=Group.CONNECTION,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        arguments=(Text(name="message"),),
        replies=(Reply("message", Kind.BULK, "The message."),),
    ),
    Command(
        name="QUIT",
        summary="Closes the connection.",
        group=Group.CONNECTION,
        flags=_FAST_ANYTIME,
        replies=(shapes.OK,),
    ),
    Command(
        name="RESET",
        summary="Puts the connection back to how it began: RESP2, database 0, no name, no user.",
        group=Group.CONNECTION,
        flags=_FAST_ANYTIME,
        replies=(Reply("reset", Kind.SIMPLE, "RESET."),),
    ),
    Command(
        name="HELLO",
        summary="Chooses the version of the protocol, and introduces the client.",
        group=Group.CONNECTION,
        flags=_FAST_ANYTIME,
        arguments=(
            Block(
                name="arguments",
                optional=True,
                arguments=(
                    Integer(
                        name="protover",
                        least=2,
                        most=3,
                        summary="The version: 2 for RESP2, 3 for RESP3.",
                        absent="as it is",
                        wording=Wording(
                            "Protocol version is not an integer or out of range",
                            "unsupported protocol version",
                            "NOPROTO",
                        ),
                    ),
                    Block(
                        name="username-password",
                        token="AUTH",
                        optional=True,
                        summary="As AUTH.",
                        arguments=(Text(name="username"), Text(name="password")),
                    ),
                    Text(
                        name="clientname",
                        token="SETNAME",
                        field="name",
                        optional=True,
                        most=limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
                        printable=CLIENT_NAME_ERROR,
                        summary="As CLIENT SETNAME.",
                    ),
                ),
            ),
        ),
        replies=(
            Reply(
                "greeting",
                Kind.MAP,
                "The node and the connection.",
                (
                    Field("server", Kind.BULK, "`redis`, because clients look for it."),
                    Field("version", Kind.BULK, "The version of Redis that it behaves like."),
                    Field("proto", Kind.INTEGER, "The version of the protocol from now on."),
                    Field("id", Kind.INTEGER, "The id of the connection."),
                    Field("mode", Kind.BULK, "`standalone`; `cluster` with --announce-cluster."),
                    Field("role", Kind.BULK, "`master`, or `replica`."),
                    Field("modules", Kind.ARRAY, "Empty."),
                ),
            ),
        ),
        errors=("NOPROTO", "NOAUTH", "WRONGPASS"),
    ),
    Command(
        name="AUTH",
        summary="Authenticates the connection.",
        group=Group.CONNECTION,
        complexity="O(N) where N is the number of passwords defined for the user",
        flags=_FAST_ANYTIME,
        arguments=(
            Text(name="username", optional=True, absent="default"),
            Text(name="password"),
        ),
        replies=(shapes.OK,),
        errors=("WRONGPASS",),
    ),
    Command(
        name="SELECT",
        summary="Chooses the database of the connection. A lock belongs to one database.",
        group=Group.CONNECTION,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        arguments=(
            Integer(
                name="index",
                most=limits.DATABASES - 1,
                wording=Wording(
                    "value is not an integer or out of range", "DB index is out of range"
                ),
            ),
        ),
        replies=(shapes.OK,),
    ),
    Command(
        name="WAIT",
        summary="Waits until other nodes have what this connection had decided.",
        group=Group.CONNECTION,
        flags=(Flag.NOSCRIPT,),
        tips=("request_policy:all_shards", "response_policy:agg_min"),
        arguments=(
            Integer(
                name="numreplicas",
                least=-limits.INTEGER_MAX - 1,
                wording=Wording(
                    "value is not an integer or out of range",
                    "value is not an integer or out of range",
                ),
            ),
            Integer(
                name="timeout",
                unit="milliseconds",
                note="0 = for ever",
                wording=Wording("timeout is not an integer or out of range", "timeout is negative"),
            ),
        ),
        replies=(Reply("count", Kind.INTEGER, "How many other nodes have it on disk."),),
        details=(
            (
                "What was answered is on the disks of a majority already, with or without it. Only the "
                "leader knows of more; any other node counts a majority."
            ),
        ),
    ),
)
