"""Redis's commands for looking at a running server: MEMORY, ...

Pure, and only data.
"""

from resplock.resp import shapes
from resplock.resp.command import Command, Flag, Group
from resplock.resp.commands.keyspace_commands import MEMORY_USAGE
from resplock.resp.shapes import Kind, Reply

_ANYTIME = (Flag.LOADING, Flag.STALE)
_OF_EACH_SHARD = ("request_policy:all_shards", "response_policy:special")

_MEMORY_SUBCOMMANDS = (
    Command(
        name="MEMORY DOCTOR",
        summary="Says in words whether this node's memory needs looking at.",
        group=Group.SERVER,
        tips=("nondeterministic_output", *_OF_EACH_SHARD),
        replies=(Reply("report", Kind.VERBATIM, "Text for people."),),
    ),
    Command(
        name="MEMORY HELP",
        summary="Prints this help.",
        group=Group.SERVER,
        flags=_ANYTIME,
        replies=(shapes.HELP,),
    ),
    Command(
        name="MEMORY MALLOC-STATS",
        summary="Returns what the allocator says of itself: nothing.",
        group=Group.SERVER,
        tips=("nondeterministic_output", *_OF_EACH_SHARD),
        replies=(Reply("report", Kind.BULK, "Redis's text for an allocator that does not."),),
    ),
    Command(
        name="MEMORY PURGE",
        summary="Accepted as in Redis: memory that is free is given back without it.",
        group=Group.SERVER,
        tips=("request_policy:all_shards", "response_policy:all_succeeded"),
        replies=(shapes.OK,),
    ),
    Command(
        name="MEMORY STATS",
        summary="Returns what this node's memory is used for, as far as it knows.",
        group=Group.SERVER,
        tips=("nondeterministic_output", *_OF_EACH_SHARD),
        replies=(Reply("stats", Kind.MAP, "Redis's fields that have a meaning here, in bytes."),),
    ),
    MEMORY_USAGE,
)

COMMANDS = (
    Command(
        name="MEMORY",
        summary="Commands about memory.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=_MEMORY_SUBCOMMANDS,
    ),
)
