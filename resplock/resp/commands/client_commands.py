"""Redis's CLIENT: what a connection says of itself, and what is done to others.

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
from resplock.resp.command import Command, Flag, Group, help_of
from resplock.resp.shapes import Kind, Reply

_FLAGS = (Flag.NOSCRIPT, Flag.LOADING, Flag.STALE)
_ADMIN_FLAGS = (Flag.ADMIN, *_FLAGS)

CLIENT_NAME_ERROR = "Client names cannot contain spaces, newlines or special characters."


def _words(*names: str) -> tuple[Argument, ...]:
    return tuple(PureToken(name=name.lower(), token=name) for name in names)


_TYPE = OneOf(
    name="client-type",
    token="TYPE",
    field="type",
    optional=True,
    absent="any",
    summary="Connections of this type.",
    arguments=_words("NORMAL", "MASTER", "REPLICA", "SLAVE", "PUBSUB"),
)

_SUBCOMMANDS = (
    Command(
        name="CLIENT CAPA",
        summary="Accepted as in Valkey: no capability of a client changes what it is answered.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        arguments=(
            Text(
                name="capability",
                field="capabilities",
                multiple=True,
                most=limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
            ),
        ),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT GETNAME",
        summary="Returns the name of the current connection.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        replies=(
            Reply("name", Kind.BULK, "The name."),
            Reply("nil", Kind.NIL, "The connection has no name."),
        ),
    ),
    Command(
        name="CLIENT GETREDIR",
        summary="Returns where invalidations are sent: nowhere, because keys are not tracked.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        replies=(Reply("off", Kind.INTEGER, "The number -1."),),
    ),
    help_of("CLIENT", Group.CONNECTION),
    Command(
        name="CLIENT ID",
        summary="Returns the id of the current connection.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        replies=(Reply("id", Kind.INTEGER, "Unique on this node since it was started."),),
    ),
    Command(
        name="CLIENT INFO",
        summary="Returns information about the current connection.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        tips=("nondeterministic_output",),
        replies=(Reply("info", Kind.VERBATIM, "One line of `field=value` pairs, as in Redis."),),
    ),
    Command(
        name="CLIENT KILL",
        summary="Closes connections.",
        complexity="O(N) where N is the number of connections",
        group=Group.CONNECTION,
        flags=_ADMIN_FLAGS,
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
                            _TYPE,
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
        flags=_ADMIN_FLAGS,
        tips=("nondeterministic_output",),
        arguments=(
            _TYPE,
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
        flags=_ADMIN_FLAGS,
        arguments=(OneOf(name="enabled", arguments=_words("ON", "OFF")),),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT NO-TOUCH",
        summary="Accepted as in Redis: reading a lock never changes when it ends.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        arguments=(OneOf(name="enabled", arguments=_words("ON", "OFF")),),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT PAUSE",
        summary="Lets the commands of this node's clients wait. Time goes on: holds may end meanwhile.",
        details=(
            "CLIENT UNPAUSE goes on at any time, from a connection that sends nothing ahead.",
        ),
        group=Group.CONNECTION,
        flags=_ADMIN_FLAGS,
        arguments=(
            Integer(
                name="timeout",
                most=limits.CONFIG_INTEGER_MAX,
                unit="ms",
                wording=Wording(
                    "timeout is not an integer or out of range",
                    "timeout is not an integer or out of range",
                ),
                summary="The longer of two pauses counts.",
            ),
            OneOf(
                name="mode",
                optional=True,
                absent="ALL",
                arguments=_words("WRITE", "ALL"),
                summary="WRITE: only commands that go through the log.",
            ),
        ),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT REPLY",
        summary="Tells the node whether to reply to this connection.",
        group=Group.CONNECTION,
        flags=_FLAGS,
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
        flags=_FLAGS,
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
        flags=_FLAGS,
        arguments=(
            Text(
                name="connection-name",
                field="name",
                most=limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
                printable=CLIENT_NAME_ERROR,
                summary="Without spaces and special characters; empty takes the name away.",
            ),
        ),
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT TRACKING",
        summary="Refuses client-side caching: a lock must not be read from a cache.",
        details=(
            "LOCK.WATCH tells a connection when holds end.",
            "Clients that ask for it by themselves can be told not to: rueidis by `DisableCache`.",
        ),
        group=Group.CONNECTION,
        flags=_FLAGS,
        arguments=(
            OneOf(name="status", arguments=_words("ON", "OFF"), summary="ON is refused."),
            Text(
                name="option",
                field="options",
                optional=True,
                multiple=True,
                summary="Redis's options, without effect.",
            ),
        ),
        replies=(Reply("ok", Kind.SIMPLE, "OK, to OFF."),),
    ),
    Command(
        name="CLIENT TRACKINGINFO",
        summary="Returns, as in Redis, that the connection tracks no keys.",
        group=Group.CONNECTION,
        flags=_FLAGS,
        replies=(Reply("info", Kind.MAP, "`flags` with `off`, `redirect` -1, no `prefixes`."),),
    ),
    Command(
        name="CLIENT UNPAUSE",
        summary="Ends CLIENT PAUSE.",
        complexity="O(N) where N is the number of connections",
        group=Group.CONNECTION,
        flags=_ADMIN_FLAGS,
        replies=(shapes.OK,),
    ),
    Command(
        name="CLIENT UNBLOCK",
        summary="Ends the wait of a connection of this node that waits in line.",
        details=("Its place is given up, unless it is granted the lock at the same moment.",),
        group=Group.CONNECTION,
        flags=_ADMIN_FLAGS,
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
        name="CLIENT",
        summary="Commands about connections.",
        complexity="Depends on subcommand.",
        group=Group.CONNECTION,
        subcommands=_SUBCOMMANDS,
    ),
)
