"""Redis Cluster's commands: how cluster clients find the leader.

Pure, and only data. To them the cluster is one shard: its leader owns every hash slot, and the other
nodes are its replicas.
"""

from resplock import limits
from resplock.resp import shapes
from resplock.resp.arguments import Argument, Integer, Text
from resplock.resp.command import Command, Flag, Group, help_of
from resplock.resp.shapes import Kind, Reply

_STALE = (Flag.STALE,)
_UNSTEADY = ("nondeterministic_output",)
_CONNECTION_FLAGS = (Flag.LOADING, Flag.STALE, Flag.FAST)
_LOCKS_STAY_UP_TO_DATE = (
    "LOCK.GET, LOCK.CHECK and the other commands of locks stay up to date: cluster clients send "
    "READONLY by themselves, and commands that they do not know to any node."
)
_CONNECTION = ("connection",)

_SLOT: Argument = Integer(name="slot", most=limits.SLOTS - 1)

_SUBCOMMANDS = (
    Command(
        name="CLUSTER COUNTKEYSINSLOT",
        summary="Returns how many locks this node has in a hash slot, in all databases.",
        group=Group.CLUSTER,
        flags=_STALE,
        arguments=(_SLOT,),
        replies=(Reply("count", Kind.INTEGER, "How many are held."),),
    ),
    Command(
        name="CLUSTER GETKEYSINSLOT",
        summary="Returns keys of locks that this node has in a hash slot, in any database.",
        complexity="O(N log(N)) where N is the number of keys that are returned",
        group=Group.CLUSTER,
        flags=_STALE,
        tips=_UNSTEADY,
        arguments=(_SLOT, Integer(name="count", most=limits.LIST_COUNT_MAX)),
        replies=(Reply("keys", Kind.ARRAY, "At most so many keys."),),
    ),
    help_of("CLUSTER", Group.CLUSTER),
    Command(
        name="CLUSTER INFO",
        summary="Returns the state of the cluster.",
        group=Group.CLUSTER,
        flags=_STALE,
        tips=_UNSTEADY,
        replies=(
            Reply(
                "info",
                Kind.VERBATIM,
                "Lines of `field:value`, as in Redis. `cluster_state` is `fail` while no leader is "
                "known, and the epochs are the Raft term.",
            ),
        ),
    ),
    Command(
        name="CLUSTER KEYSLOT",
        summary="Returns the hash slot of a key.",
        complexity="O(N) where N is the number of bytes in the key",
        group=Group.CLUSTER,
        flags=_STALE,
        arguments=(Text(name="key"),),
        replies=(Reply("slot", Kind.INTEGER, "From 0 to 16383."),),
    ),
    Command(
        name="CLUSTER LINKS",
        summary="Returns this node's links to the others.",
        complexity="O(N) where N is the number of nodes",
        group=Group.CLUSTER,
        flags=_STALE,
        tips=_UNSTEADY,
        replies=(Reply("links", Kind.ARRAY, "A map for each link that works, as in Redis."),),
    ),
    Command(
        name="CLUSTER MYID",
        summary="Returns the name that this node has for cluster clients.",
        group=Group.CLUSTER,
        flags=_STALE,
        replies=(
            Reply("id", Kind.BULK, "It has 40 hex digits, the same for a data directory's life."),
        ),
    ),
    Command(
        name="CLUSTER MYSHARDID",
        summary="Returns the name of the one shard.",
        group=Group.CLUSTER,
        flags=_STALE,
        replies=(Reply("id", Kind.BULK, "It has 40 hex digits, the same on every node."),),
    ),
    Command(
        name="CLUSTER NODES",
        summary="Returns the nodes, with the leader as the master of all slots.",
        complexity="O(N) where N is the number of nodes",
        group=Group.CLUSTER,
        flags=_STALE,
        tips=_UNSTEADY,
        replies=(Reply("nodes", Kind.VERBATIM, "A line for each node, as in Redis."),),
    ),
    Command(
        name="CLUSTER SHARDS",
        summary="Returns the one shard: its slots and its nodes.",
        complexity="O(N) where N is the number of nodes",
        group=Group.CLUSTER,
        flags=_STALE,
        tips=_UNSTEADY,
        replies=(
            Reply(
                "shards",
                Kind.ARRAY,
                "One map, as in Redis. Offsets are log indexes; 0 where this node does not know.",
            ),
        ),
    ),
    Command(
        name="CLUSTER SLOTS",
        summary="Returns which node serves the hash slots.",
        complexity="O(N) where N is the number of nodes",
        group=Group.CLUSTER,
        flags=_STALE,
        tips=_UNSTEADY,
        details=(
            (
                "Slots 0 to 16383 belong to the leader, or to the last one while no leader is known. "
                "The other voters are its replicas."
            ),
        ),
        replies=(
            Reply(
                "slots",
                Kind.ARRAY,
                "One range, as in Redis. Empty until this node has heard of a leader.",
            ),
        ),
    ),
)

COMMANDS = (
    Command(
        name="CLUSTER",
        summary="Commands for cluster clients.",
        complexity="Depends on subcommand.",
        group=Group.CLUSTER,
        subcommands=_SUBCOMMANDS,
    ),
    Command(
        name="ASKING",
        summary="Accepted as in Redis. Slots never move here one by one.",
        group=Group.CLUSTER,
        flags=(Flag.FAST,),
        categories=_CONNECTION,
        replies=(shapes.OK,),
    ),
    Command(
        name="READONLY",
        summary="Lets Redis's reads on this connection see what a node that does not lead has applied.",
        details=(_LOCKS_STAY_UP_TO_DATE,),
        group=Group.CLUSTER,
        flags=_CONNECTION_FLAGS,
        categories=_CONNECTION,
        replies=(shapes.OK,),
    ),
    Command(
        name="READWRITE",
        summary="Lets the connection read only what is up to date: the opposite of READONLY.",
        group=Group.CLUSTER,
        flags=_CONNECTION_FLAGS,
        categories=_CONNECTION,
        replies=(shapes.OK,),
    ),
)
