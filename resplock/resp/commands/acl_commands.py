"""Redis's ACL, of a node whose only user is `default`, who may do everything.

Pure, and only data.
"""

from resplock.resp.arguments import Text
from resplock.resp.command import Command, Flag, Group, help_of
from resplock.resp.shapes import Field, Kind, Reply

_ANYTIME = (Flag.LOADING, Flag.STALE)
_FLAGS = (Flag.NOSCRIPT, *_ANYTIME)
_ADMIN_FLAGS = (Flag.ADMIN, *_FLAGS)

_SUBCOMMANDS = (
    Command(
        name="ACL CAT",
        summary="Lists the categories of commands, or the commands of one category.",
        complexity="O(N) where N is the number of commands",
        group=Group.SERVER,
        flags=_FLAGS,
        arguments=(Text(name="category", optional=True, absent="the categories"),),
        replies=(Reply("names", Kind.ARRAY, "The names, without an @."),),
    ),
    Command(
        name="ACL GETUSER",
        summary="Returns what a user may do.",
        group=Group.SERVER,
        flags=_ADMIN_FLAGS,
        arguments=(Text(name="username"),),
        replies=(
            Reply(
                "user",
                Kind.MAP,
                "The user `default`.",
                (
                    Field("flags", Kind.SET, "`on`, and `nopass` when no password is required."),
                    Field("passwords", Kind.ARRAY, "The SHA-256 of the password, if there is one."),
                    Field("commands", Kind.BULK, "`+@all`"),
                    Field("keys", Kind.BULK, "`~*`"),
                    Field("channels", Kind.BULK, "`&*`"),
                    Field("selectors", Kind.ARRAY, "Empty."),
                ),
            ),
            Reply("nil", Kind.NIL, "There is no such user."),
        ),
    ),
    help_of("ACL", Group.SERVER),
    Command(
        name="ACL LIST",
        summary="Returns the rules of all users: of `default`.",
        group=Group.SERVER,
        flags=_ADMIN_FLAGS,
        replies=(Reply("rules", Kind.ARRAY, "A line as in Redis's ACL files."),),
    ),
    Command(
        name="ACL USERS",
        summary="Lists the users.",
        group=Group.SERVER,
        flags=_ADMIN_FLAGS,
        replies=(Reply("names", Kind.ARRAY, "`default`."),),
    ),
    Command(
        name="ACL WHOAMI",
        summary="Returns the user of the connection.",
        group=Group.SERVER,
        flags=_FLAGS,
        replies=(Reply("name", Kind.BULK, "`default`."),),
    ),
)

COMMANDS = (
    Command(
        name="ACL",
        summary="Commands about users and what they may do.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=_SUBCOMMANDS,
    ),
)
