"""Redis Sentinel's commands: how Sentinel clients find the leader.

Pure, and only data. Every node answers as a Sentinel that watches one master, the leader.
"""

from resplock.resp.arguments import Text
from resplock.resp.command import Command, Flag, Group, help_of
from resplock.resp.shapes import Kind, Reply

MASTER_NAME = b"resplock"

_FLAGS = (Flag.ADMIN, Flag.SENTINEL, Flag.LOADING, Flag.STALE)
_NAME = Text(name="master-name", summary=f"`{MASTER_NAME.decode()}`: there is no other.")
_REPLICAS = Reply("replicas", Kind.ARRAY, "A map for each other voter, as Sentinel's.")

_SUBCOMMANDS = (
    Command(
        name="SENTINEL CKQUORUM",
        summary="Tells whether this node knows of enough nodes to elect a leader.",
        group=Group.SENTINEL,
        flags=_FLAGS,
        arguments=(_NAME,),
        replies=(Reply("ok", Kind.SIMPLE, "OK, and how many there are."),),
        errors=("NOQUORUM",),
    ),
    Command(
        name="SENTINEL GET-MASTER-ADDR-BY-NAME",
        summary="Returns the address of the leader, or of the last one while none is known.",
        group=Group.SENTINEL,
        flags=_FLAGS,
        arguments=(_NAME,),
        details=(
            (
                "On a change of leader every node publishes `+switch-master`, to which Sentinel "
                "clients subscribe, with the text `resplock old-host old-port new-host new-port`."
            ),
        ),
        replies=(
            Reply("address", Kind.ARRAY, "Two bulk strings: host and port."),
            Reply("nil", Kind.NIL, "Another name, or no leader was heard of yet."),
        ),
    ),
    help_of("SENTINEL", Group.SENTINEL, flags=_FLAGS),
    Command(
        name="SENTINEL MASTER",
        summary="Returns what this node knows of the leader.",
        group=Group.SENTINEL,
        flags=_FLAGS,
        arguments=(_NAME,),
        replies=(
            Reply(
                "master",
                Kind.MAP,
                "As Sentinel's, all values bulk strings. While no leader is known, `flags` has "
                "`s_down` and `o_down`.",
            ),
        ),
    ),
    Command(
        name="SENTINEL MASTERS",
        summary="Returns the one master, as SENTINEL MASTER does.",
        group=Group.SENTINEL,
        flags=_FLAGS,
        replies=(Reply("masters", Kind.ARRAY, "One map."),),
    ),
    Command(
        name="SENTINEL MYID",
        summary="Returns the name that this node has as a Sentinel.",
        group=Group.SENTINEL,
        flags=_FLAGS,
        replies=(Reply("id", Kind.BULK, "It has 40 hex digits, as CLUSTER MYID."),),
    ),
    Command(
        name="SENTINEL REPLICAS",
        summary="Returns the other voters, as replicas of the leader.",
        complexity="O(N) where N is the number of nodes",
        group=Group.SENTINEL,
        flags=_FLAGS,
        arguments=(_NAME,),
        replies=(_REPLICAS,),
    ),
    Command(
        name="SENTINEL SENTINELS",
        summary="Returns the other nodes, as Sentinels.",
        complexity="O(N) where N is the number of nodes",
        group=Group.SENTINEL,
        flags=_FLAGS,
        arguments=(_NAME,),
        replies=(Reply("sentinels", Kind.ARRAY, "A map for each, as Sentinel's."),),
    ),
    Command(
        name="SENTINEL SLAVES",
        summary="As SENTINEL REPLICAS, by its old name.",
        complexity="O(N) where N is the number of nodes",
        group=Group.SENTINEL,
        flags=_FLAGS,
        arguments=(_NAME,),
        replies=(_REPLICAS,),
    ),
)

COMMANDS = (
    Command(
        name="SENTINEL",
        summary="Commands for Sentinel clients.",
        complexity="Depends on subcommand.",
        group=Group.SENTINEL,
        subcommands=_SUBCOMMANDS,
    ),
)
