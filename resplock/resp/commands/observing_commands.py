"""Redis's commands for looking at a running server: MONITOR, SLOWLOG, LATENCY, MEMORY, DEBUG.

Pure, and only data.
"""

import msgspec

from resplock import limits
from resplock.resp import shapes
from resplock.resp.arguments import Integer, Text, Wording
from resplock.resp.command import Command, Flag, Group, help_of
from resplock.resp.commands.keyspace_commands import MEMORY_USAGE
from resplock.resp.shapes import Kind, Reply

_EVENT_BYTES_MAX = 64
_ANYTIME = (Flag.LOADING, Flag.STALE)
_ADMIN_ANYTIME = (Flag.ADMIN, *_ANYTIME)
_ADMIN_NO_SCRIPT = (Flag.ADMIN, Flag.NOSCRIPT, *_ANYTIME)
_OF_EACH_SHARD = ("request_policy:all_shards", "response_policy:special")
_OF_EACH_NODE = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")
_DONE_ON_EACH_NODE = ("request_policy:all_nodes", "response_policy:all_succeeded")

_OF_THE_OTHERS = (
    "Of the others a turn is noted in which one was under way for longer than "
    "`slowlog-log-slower-than`, from being proposed or forwarded to being answered, or which took that "
    "long itself: with the name of one of its commands, and how many others there were."
)
_KINDS = (
    "`command`: a command that the node answers by itself. `commit`: the slowest command of a turn, "
    "from being proposed or forwarded to being answered. `event-loop`: a turn."
)

_SLOWLOG_SUBCOMMANDS = (
    Command(
        name="SLOWLOG GET",
        summary="Returns the slowest commands of late on this node, the newest first.",
        details=(
            "A command that the node answers by itself, and is not flagged FAST, is timed by itself.",
            _OF_THE_OTHERS,
        ),
        complexity="O(N) where N is the number of entries returned",
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        tips=("request_policy:all_nodes", "nondeterministic_output"),
        arguments=(
            Integer(
                name="count",
                least=-1,
                optional=True,
                absent="10",
                wording=Wording(
                    "count should be greater than or equal to -1",
                    "count should be greater than or equal to -1",
                ),
                summary="All of them when it is -1.",
            ),
        ),
        replies=(
            Reply(
                "entries",
                Kind.ARRAY,
                "For each an array: its id, unix seconds, microseconds, an array of the command's "
                "words, the client's address and its name.",
            ),
        ),
    ),
    help_of("SLOWLOG", Group.SERVER),
    Command(
        name="SLOWLOG LEN",
        summary="Returns how many entries there are.",
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        tips=("request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"),
        replies=(Reply("count", Kind.INTEGER, "The number of entries."),),
    ),
    Command(
        name="SLOWLOG RESET",
        summary="Forgets all entries.",
        complexity="O(N) where N is the number of entries",
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        tips=_DONE_ON_EACH_NODE,
        replies=(shapes.OK,),
    ),
)

_EVENT = Text(name="event", most=_EVENT_BYTES_MAX)

_LATENCY_SUBCOMMANDS = (
    Command(
        name="LATENCY DOCTOR",
        summary="Says in words what was slow on this node.",
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        tips=_OF_EACH_NODE,
        replies=(Reply("report", Kind.VERBATIM, "Text for people."),),
    ),
    help_of("LATENCY", Group.SERVER),
    Command(
        name="LATENCY HISTOGRAM",
        summary="Returns how long the commands took that this node answers by itself.",
        details=("Those that are flagged FAST, and those that go through the log, are not timed.",),
        complexity="O(N) where N is the number of commands with latency data",
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        tips=_OF_EACH_NODE,
        arguments=(
            Text(
                name="command",
                field="commands",
                optional=True,
                multiple=True,
                most=_EVENT_BYTES_MAX,
                absent="all",
            ),
        ),
        replies=(
            Reply(
                "times",
                Kind.MAP,
                "For each command that was timed a map: `calls`, and `histogram_usec`, how many took "
                "less than so many microseconds.",
            ),
        ),
    ),
    Command(
        name="LATENCY HISTORY",
        summary="Returns the samples of one kind of event.",
        complexity="O(N) where N is the number of samples",
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        tips=_OF_EACH_NODE,
        arguments=(_EVENT,),
        replies=(
            Reply(
                "samples",
                Kind.ARRAY,
                "For each an array of unix seconds and the milliseconds of the longest in it.",
            ),
        ),
    ),
    Command(
        name="LATENCY LATEST",
        summary="Returns the last sample of each kind of event.",
        details=(
            _KINDS,
            "What takes as long as `latency-monitor-threshold` is noted, once that is set.",
        ),
        complexity="O(N) where N is the number of kinds",
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        tips=_OF_EACH_NODE,
        replies=(
            Reply(
                "events",
                Kind.ARRAY,
                "For each kind an array: its name, unix seconds and milliseconds of the last sample, "
                "and the longest ever.",
            ),
        ),
    ),
    Command(
        name="LATENCY RESET",
        summary="Forgets the samples of all kinds of events, or of some.",
        complexity="O(N) where N is the number of kinds",
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        tips=_DONE_ON_EACH_NODE,
        arguments=(
            msgspec.structs.replace(
                _EVENT, field="events", optional=True, multiple=True, absent="all"
            ),
        ),
        replies=(Reply("count", Kind.INTEGER, "How many kinds there were."),),
    ),
)

_MEMORY_SUBCOMMANDS = (
    Command(
        name="MEMORY DOCTOR",
        summary="Says in words whether this node's memory needs looking at.",
        group=Group.SERVER,
        tips=("nondeterministic_output", *_OF_EACH_SHARD),
        replies=(Reply("report", Kind.VERBATIM, "Text for people."),),
    ),
    help_of("MEMORY", Group.SERVER),
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

_DEBUG_SUBCOMMANDS = (
    help_of("DEBUG", Group.SERVER, flags=_ADMIN_NO_SCRIPT),
    Command(
        name="DEBUG SLEEP",
        summary="Stops this node for a while: it hears and says nothing, also to the other nodes.",
        details=("Refused unless the node was started with --enable-debug-command.",),
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        arguments=(
            Text(
                name="seconds",
                summary=f"A decimal from 0 to {limits.DEBUG_SLEEP_S_MAX}, such as 0.5.",
            ),
        ),
        replies=(shapes.OK,),
    ),
)

COMMANDS = (
    Command(
        name="MONITOR",
        summary="Sends a line for each command that this node's clients call, from now on.",
        details=(
            'As in Redis: `unix-seconds.microseconds [database address] "word" ...`.',
            "Without commands of operators, and with passwords left out.",
        ),
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        replies=(shapes.OK,),
    ),
    Command(
        name="SLOWLOG",
        summary="Commands about slow commands.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=_SLOWLOG_SUBCOMMANDS,
    ),
    Command(
        name="LATENCY",
        summary="Commands about what took long.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=_LATENCY_SUBCOMMANDS,
    ),
    Command(
        name="DEBUG",
        summary="Commands to try how clients take trouble.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        flags=_ADMIN_NO_SCRIPT,
        subcommands=_DEBUG_SUBCOMMANDS,
    ),
    Command(
        name="MEMORY",
        summary="Commands about memory.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=_MEMORY_SUBCOMMANDS,
    ),
)
