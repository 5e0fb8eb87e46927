"""Redis's commands about the connection itself: PING, HELLO, AUTH, CLIENT, ...

Pure, and only data.
"""

from resplock import limits
from resplock.resp import shapes
from resplock.resp.arguments import (
    Argument,
    Block,
    Integer,
    OneOf,
    PureToken,
    Text,
    Wording,
)
from resplock.resp.command import Command, Flag, Group
from resplock.resp.shapes import Field, Kind, Reply

_FAST_ANYTIME = (Flag.NOSCRIPT, Flag.LOADING, Flag.STALE, Flag.FAST, Flag.NO_AUTH, Flag.ALLOW_BUSY)
_CLIENT_FLAGS = (Flag.NOSCRIPT, Flag.LOADING, Flag.STALE)
_CLIENT_ADMIN_FLAGS = (Flag.ADMIN, *_CLIENT_FLAGS)

_CLIENT_NAME_ERROR = "Client names cannot contain spaces, newlines or special characters."


def _words(*names: str) -> tuple[Argument, ...]:
    return tuple(PureToken(name=name.lower(), token=name) for name in names)


_CLIENT_TYPE = OneOf(
    name="client-type",
    token="TYPE",
    field="type",
    optional=True,
    absent="any",
    summary="Connections of this type.",
    arguments=_words("NORMAL", "MASTER", "REPLICA", "SLAVE", "PUBSUB"),
)

_CLIENT_SUBCOMMANDS = (
    Command(
        name="CLIENT GETNAME",
        summary="Returns the name of the current connection.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        replies=(
            Reply("name", Kind.BULK, "The name."),
            Reply("nil", Kind.NIL, "The connection has no name."),
        ),
    ),
    Command(
        name="CLIENT HELP",
        summary="Prints this help.",
        group=Group.CONNECTION,
        flags=(Flag.LOADING, Flag.STALE),
        replies=(shapes.HELP,),
    ),
    Command(
        name="CLIENT ID",
        summary="Returns the id of the current connection.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        replies=(Reply("id", Kind.INTEGER, "Unique on this node since it was started."),),
    ),
    Command(
        name="CLIENT INFO",
        summary="Returns information about the current connection.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        tips=("nondeterministic_output",),
        replies=(Reply("info", Kind.VERBATIM, "One line of `field=value` pairs, as in Redis."),),
    ),
    Command(
        name="CLIENT KILL",
        summary="Closes connections.",
        complexity="O(N) where N is the number of connections",
        group=Group.CONNECTION,
        flags=_CLIENT_ADMIN_FLAGS,
        arguments=(
            OneOf(
                name="filter",
                arguments=(
                    Text(
                        name="ip:port",
                        field="address",
                        least=1,
                        summary="The address of the one connection to close.",
                    ),
                    Block(
                        name="new-format",
                        arguments=(
                            Integer(
                                name="client-id",
                                token="ID",
                                field="id",
                                least=1,
                                optional=True,
                                absent="any",
                                summary="The connection with this id.",
                            ),
                            _CLIENT_TYPE,
                            Text(
                                name="username",
                                token="USER",
                                field="user",
                                optional=True,
                                absent="any",
                                summary="Connections authenticated as this user.",
                            ),
                            Text(
                                name="ip:port",
                                token="ADDR",
                                field="addr",
                                optional=True,
                                absent="any",
                                summary="Connections from this address.",
                            ),
                            Text(
                                name="ip:port",
                                token="LADDR",
                                field="laddr",
                                optional=True,
                                absent="any",
                                summary="Connections to this address of the node.",
                            ),
                            OneOf(
                                name="skipme",
                                token="SKIPME",
                                optional=True,
                                absent="YES",
                                summary="Spare the connection that asks.",
                                arguments=_words("YES", "NO"),
                            ),
                        ),
                    ),
                ),
            ),
        ),
        replies=(
            Reply("ok", Kind.SIMPLE, "OK, when the connection with this address was closed."),
            Reply("count", Kind.INTEGER, "How many connections were closed, with options."),
        ),
    ),
    Command(
        name="CLIENT LIST",
        summary="Lists the connections of this node.",
        complexity="O(N) where N is the number of connections",
        group=Group.CONNECTION,
        flags=_CLIENT_ADMIN_FLAGS,
        tips=("nondeterministic_output",),
        arguments=(
            _CLIENT_TYPE,
            Integer(
                name="client-id",
                token="ID",
                field="ids",
                least=1,
                optional=True,
                multiple=True,
                absent="any",
                summary="Connections with these ids.",
            ),
        ),
        replies=(
            Reply("list", Kind.VERBATIM, "A line of `field=value` pairs for each, as in Redis."),
        ),
    ),
    Command(
        name="CLIENT NO-EVICT",
        summary="Accepted as in Redis: no connection is closed to free memory.",
        group=Group.CONNECTION,
        flags=_CLIENT_ADMIN_FLAGS,
        arguments=(OneOf(name="enabled", arguments=_words("ON", "OFF")),),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT NO-TOUCH",
        summary="Accepted as in Redis: reading a lock never changes when it ends.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        arguments=(OneOf(name="enabled", arguments=_words("ON", "OFF")),),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT REPLY",
        summary="Tells the node whether to reply to this connection.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        arguments=(
            OneOf(
                name="mode",
                arguments=_words("ON", "OFF", "SKIP"),
                summary="SKIP leaves out the reply to the next command.",
            ),
        ),
        replies=(
            Reply("ok", Kind.SIMPLE, "OK, to ON."),
            Reply("nothing", Kind.NOTHING, "To OFF and SKIP."),
        ),
    ),
    Command(
        name="CLIENT SETINFO",
        summary="Tells the node the client library's name or version.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        arguments=(
            OneOf(
                name="attr",
                arguments=(
                    Text(
                        name="libname",
                        token="LIB-NAME",
                        field="lib_name",
                        most=limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
                        printable="lib-name cannot contain spaces, newlines or special characters.",
                    ),
                    Text(
                        name="libver",
                        token="LIB-VER",
                        field="lib_ver",
                        most=limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
                        printable="lib-ver cannot contain spaces, newlines or special characters.",
                    ),
                ),
            ),
        ),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT SETNAME",
        summary="Names the current connection.",
        group=Group.CONNECTION,
        flags=_CLIENT_FLAGS,
        arguments=(
            Text(
                name="connection-name",
                field="name",
                most=limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
                printable=_CLIENT_NAME_ERROR,
                summary="Without spaces and special characters; empty takes the name away.",
            ),
        ),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT UNBLOCK",
        summary="Ends the wait of a connection of this node that waits in line.",
        details=("Its place is given up, unless it is granted the lock at the same moment.",),
        group=Group.CONNECTION,
        flags=_CLIENT_ADMIN_FLAGS,
        arguments=(
            Integer(name="client-id", least=1, summary="As CLIENT ID gives it."),
            OneOf(
                name="unblock-type",
                optional=True,
                absent="TIMEOUT",
                arguments=_words("TIMEOUT", "ERROR"),
                summary="What it is answered: that its WAIT ran out, or -UNBLOCKED.",
            ),
        ),
        replies=(
            Reply("unblocked", Kind.INTEGER, "Its wait is over: 1."),
            Reply("not-blocked", Kind.INTEGER, "It is not there, or does not wait: 0."),
        ),
    ),
)

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
                        printable=_CLIENT_NAME_ERROR,
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
        name="CLIENT",
        summary="Commands about connections.",
        complexity="Depends on subcommand.",
        group=Group.CONNECTION,
        subcommands=_CLIENT_SUBCOMMANDS,
    ),
)
