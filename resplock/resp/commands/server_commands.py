"""Redis's commands about the server: COMMAND, CONFIG, INFO, ...

Pure, and only data.
"""

from resplock import limits
from resplock import operations as ops
from resplock.resp import shapes
from resplock.resp.arguments import Block, OneOf, Pattern, PureToken, Text
from resplock.resp.command import Command, Flag, Group, Meets, help_of
from resplock.resp.shapes import Kind, Reply

_ANYTIME = (Flag.LOADING, Flag.STALE)
_WHOLE_COMMAND = (
    Text(name="command"),
    Text(name="arg", field="arguments", optional=True, multiple=True),
)
_ADMIN_ANYTIME = (Flag.ADMIN, Flag.NOSCRIPT, *_ANYTIME)
_SAVE_FLAGS = (Flag.ADMIN, Flag.NOSCRIPT, Flag.NO_ASYNC_LOADING)
SETTABLE = (
    "latency-monitor-threshold",
    "maxclients",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "timeout",
)
"""What CONFIG SET may change."""
_DETAILS = Reply(
    "details",
    Kind.ARRAY,
    "For each command its name, arity, flags, first key, last key, step, ACL categories, tips, key "
    "specifications and subcommands, as in Redis 7; nil for a name that is unknown.",
)

_COMMAND_SUBCOMMANDS = (
    Command(
        name="COMMAND COUNT",
        summary="Returns the number of commands.",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        replies=(Reply("count", Kind.INTEGER, "Without subcommands."),),
    ),
    Command(
        name="COMMAND DOCS",
        summary="Returns the documentation of commands.",
        complexity="O(N) where N is the number of commands to look up",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        tips=("nondeterministic_output_order",),
        arguments=(
            Text(name="command-name", field="names", optional=True, multiple=True, absent="all"),
        ),
        replies=(Reply("docs", Kind.MAP, "For each name that is known a map, as in Redis 7."),),
    ),
    Command(
        name="COMMAND GETKEYS",
        summary="Extracts the keys of a whole command.",
        complexity="O(N) where N is the number of arguments of the command",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        arguments=_WHOLE_COMMAND,
        replies=(Reply("keys", Kind.ARRAY, "The keys."),),
    ),
    Command(
        name="COMMAND GETKEYSANDFLAGS",
        summary="Extracts the keys of a whole command, and what it does with them.",
        complexity="O(N) where N is the number of arguments of the command",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        arguments=_WHOLE_COMMAND,
        replies=(Reply("keys", Kind.ARRAY, "For each key an array of it and its flags."),),
    ),
    help_of("COMMAND", Group.SERVER, categories=("connection",)),
    Command(
        name="COMMAND INFO",
        summary="Returns the details of commands.",
        complexity="O(N) where N is the number of commands to look up",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        tips=("nondeterministic_output_order",),
        arguments=(
            Text(name="command-name", field="names", optional=True, multiple=True, absent="all"),
        ),
        replies=(_DETAILS,),
    ),
    Command(
        name="COMMAND LIST",
        summary="Returns the names of commands.",
        complexity="O(N) where N is the number of commands",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        tips=("nondeterministic_output_order",),
        arguments=(
            OneOf(
                name="filterby",
                token="FILTERBY",
                optional=True,
                absent="all",
                arguments=(
                    Text(name="module-name", token="MODULE", field="module"),
                    Text(name="category", token="ACLCAT", field="aclcat"),
                    Pattern(name="pattern", token="PATTERN"),
                ),
            ),
        ),
        replies=(Reply("names", Kind.ARRAY, "The names, subcommands included."),),
    ),
)

_CONFIG_SUBCOMMANDS = (
    Command(
        name="CONFIG GET",
        summary="Returns settings.",
        complexity="O(N) where N is the number of settings",
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        arguments=(
            Pattern(
                name="parameter",
                field="parameters",
                multiple=True,
                summary=f"Names or globs: at most {limits.CONFIG_PATTERNS_MAX}, together of at most "
                f"{limits.CONFIG_PATTERNS_BYTES_MAX} bytes.",
            ),
        ),
        replies=(Reply("settings", Kind.MAP, "The settings that match, by name."),),
    ),
    help_of("CONFIG", Group.SERVER),
    Command(
        name="CONFIG RESETSTAT",
        summary="Resets this node's counters, which INFO shows.",
        details=("What the cluster counts, such as the grants in LOCK.STATS, stays.",),
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        replies=(shapes.OK,),
    ),
    Command(
        name="CONFIG REWRITE",
        summary="Refuses: settings come from flags, the environment or a file, which stay as they are.",
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        replies=(Reply("nothing", Kind.NOTHING, "Never: it is an error."),),
    ),
    Command(
        name="CONFIG SET",
        summary="Changes settings of this node, all of them or none, until it ends.",
        details=(
            "These can be changed: " + ", ".join(f"`{name}`" for name in SETTABLE) + ". Any other "
            "may be set to the value that it has, which tools do to be sure.",
        ),
        complexity="O(N) where N is the number of settings",
        group=Group.SERVER,
        flags=_ADMIN_ANYTIME,
        tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
        arguments=(
            Block(
                name="data",
                field="settings",
                multiple=True,
                arguments=(Text(name="parameter"), Text(name="value")),
            ),
        ),
        replies=(shapes.OK,),
    ),
)

COMMANDS = (
    Command(
        name="COMMAND",
        summary="Returns the details of all commands.",
        complexity="O(N) where N is the number of commands",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("connection",),
        tips=("nondeterministic_output_order",),
        replies=(_DETAILS,),
        bare=True,
        subcommands=_COMMAND_SUBCOMMANDS,
    ),
    Command(
        name="CONFIG",
        summary="Commands about settings.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=_CONFIG_SUBCOMMANDS,
    ),
    Command(
        name="INFO",
        summary="Returns information about the node, in Redis's sections.",
        group=Group.SERVER,
        flags=_ANYTIME,
        categories=("dangerous",),
        tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
        arguments=(
            Text(
                name="section",
                field="sections",
                optional=True,
                multiple=True,
                absent="the usual ones",
                summary="The sections to return.",
            ),
        ),
        replies=(Reply("info", Kind.VERBATIM, "Lines of `field:value` under `# Section` lines."),),
    ),
    Command(
        name="MODULE",
        summary="Commands about modules, of which there are none.",
        complexity="Depends on subcommand.",
        group=Group.SERVER,
        subcommands=(
            help_of("MODULE", Group.SERVER),
            Command(
                name="MODULE LIST",
                summary="Returns the modules that are loaded: none.",
                group=Group.SERVER,
                flags=(Flag.ADMIN, Flag.NOSCRIPT),
                tips=("nondeterministic_output_order",),
                replies=(Reply("none", Kind.ARRAY, "Empty."),),
            ),
        ),
    ),
    Command(
        name="SAVE",
        summary="Takes a snapshot on this node, as RAFT.SNAPSHOT does. Grants are durable without.",
        complexity="O(N) where N is the number of locks",
        group=Group.SERVER,
        flags=(*_SAVE_FLAGS, Flag.NO_MULTI),
        replies=(Reply("ok", Kind.SIMPLE, "OK, when it is durable."),),
    ),
    Command(
        name="BGSAVE",
        summary="Begins to take a snapshot on this node.",
        complexity="O(N) where N is the number of locks",
        group=Group.SERVER,
        flags=_SAVE_FLAGS,
        arguments=(
            PureToken(
                name="schedule",
                token="SCHEDULE",
                optional=True,
                summary="Accepted as in Redis.",
            ),
        ),
        replies=(Reply("started", Kind.SIMPLE, "Redis's text."),),
    ),
    Command(
        name="BGREWRITEAOF",
        summary="Begins to take a snapshot on this node, after which the log is shorter.",
        complexity="O(N) where N is the number of locks",
        group=Group.SERVER,
        flags=_SAVE_FLAGS,
        replies=(Reply("started", Kind.SIMPLE, "Redis's text."),),
    ),
    Command(
        name="LASTSAVE",
        summary="Returns when the last snapshot was taken, or else this node was started.",
        group=Group.SERVER,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        categories=("admin", "dangerous"),
        tips=("nondeterministic_output",),
        replies=(Reply("time", Kind.INTEGER, "Unix seconds."),),
    ),
    Command(
        name="DBSIZE",
        summary="Returns the number of locks that are held in this database.",
        group=Group.SERVER,
        meets=Meets.READ,
        flags=(Flag.READONLY, Flag.FAST),
        categories=("keyspace",),
        tips=("request_policy:all_shards", "response_policy:agg_sum"),
        builds=ops.CountLocks,
        replies=(shapes.COUNTED,),
    ),
    Command(
        name="TIME",
        summary="Returns the node's time of day.",
        group=Group.SERVER,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        tips=("nondeterministic_output",),
        replies=(
            Reply("time", Kind.ARRAY, "Two bulk strings: unix seconds, and microseconds in it."),
        ),
    ),
    Command(
        name="ROLE",
        summary="Returns the node's role as Redis would name it.",
        group=Group.SERVER,
        flags=(Flag.NOSCRIPT, Flag.LOADING, Flag.STALE, Flag.FAST),
        categories=("admin", "dangerous"),
        replies=(
            Reply(
                "master",
                Kind.ARRAY,
                "On the leader: `master`, the offset, and for each other voter its host, port and "
                "acknowledged offset. Offsets are log indexes.",
            ),
            Reply(
                "slave",
                Kind.ARRAY,
                "Elsewhere: `slave`, the leader's host and port, the state of the link, an offset.",
            ),
        ),
    ),
    Command(
        name="SHUTDOWN",
        summary="Stops the node. What was acknowledged is on disk already.",
        group=Group.SERVER,
        flags=(
            Flag.ADMIN,
            Flag.NOSCRIPT,
            Flag.LOADING,
            Flag.STALE,
            Flag.NO_MULTI,
            Flag.ALLOW_BUSY,
        ),
        arguments=(
            OneOf(
                name="save-selector",
                field="save",
                optional=True,
                summary="Accepted as in Redis; there is nothing to save.",
                arguments=(
                    PureToken(name="nosave", token="NOSAVE"),
                    PureToken(name="save", token="SAVE"),
                ),
            ),
            PureToken(name="now", token="NOW", optional=True, summary="Do not wait for anything."),
            PureToken(name="force", token="FORCE", optional=True, summary="Stop whatever happens."),
            PureToken(name="abort", token="ABORT", optional=True, summary="Call off a shutdown."),
        ),
        replies=(
            Reply("nothing", Kind.NOTHING, "The connection is closed."),
            Reply("ok", Kind.SIMPLE, "OK, to ABORT."),
        ),
    ),
)
