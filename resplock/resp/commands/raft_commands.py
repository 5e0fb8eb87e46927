"""RAFT.*: the cluster, for operators and health checks.

Pure, and only data.
"""

from resplock.resp import shapes
from resplock.resp.arguments import Text
from resplock.resp.command import Command, Flag, Group
from resplock.resp.shapes import Field, Kind, Reply

_INTEGER, _BULK, _DOUBLE = Kind.INTEGER, Kind.BULK, Kind.DOUBLE

_ADMIN = (Flag.ADMIN, Flag.NOSCRIPT)
_NO_LEADER = ("CLUSTERDOWN",)


def _id(summary: str, *, optional: bool = False) -> Text:
    return Text(name="id", least=1, most=64, summary=summary, optional=optional)


COMMANDS = (
    Command(
        name="RAFT.STATUS",
        summary="Shows this node's view of the cluster.",
        group=Group.RAFT,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        details=(
            (
                "Of each peer: `id`, `address`, `is_voter`, `next_index` and `match_index`, "
                "`is_active` (heard of within an election timeout) and `last_active` (milliseconds "
                "ago), `snapshot_in_progress`, `replication_lag` (commands that it does not have "
                "yet), `consecutive_failures` (heartbeats without an answer), and of the link to "
                "it `connected`, `last_error` and `pending_rpcs` (appends under way)."
            ),
        ),
        replies=(
            Reply(
                "status",
                Kind.MAP,
                "The state of Raft on this node.",
                (
                    Field("id", _BULK, "This node."),
                    Field("role", _BULK, "`leader`, `follower`, `candidate` or `learner`."),
                    Field("term", _INTEGER, "The current term."),
                    Field("leader_id", _BULK, "The leader, if one is known.", nullable=True),
                    Field("last_log_index", _INTEGER, "The last command in the log."),
                    Field("last_log_term", _INTEGER, "Its term."),
                    Field("commit_index", _INTEGER, "The last command known to be committed."),
                    Field("last_applied", _INTEGER, "The last command applied to the lock table."),
                    Field("snapshot_index", _INTEGER, "The last command in the newest snapshot."),
                    Field("snapshot_term", _INTEGER, "Its term."),
                    Field("removed", _INTEGER, "1 once this node was removed, for ever; else 0."),
                    Field(
                        "transferring_to",
                        _BULK,
                        "Who is being made leader in this one's place.",
                        nullable=True,
                    ),
                    Field(
                        "members",
                        Kind.ARRAY,
                        "A map for each node of the cluster, this one too: `id`, `address`, "
                        "`is_voter`.",
                    ),
                    Field(
                        "peers",
                        Kind.ARRAY,
                        "On the leader a map for each other node, else empty; its fields are below.",
                    ),
                ),
            ),
        ),
    ),
    Command(
        name="RAFT.PROPOSALS",
        summary="Shows what came of the commands that this node proposed or forwarded.",
        group=Group.RAFT,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        replies=(
            Reply(
                "proposals",
                Kind.MAP,
                "Since the node was started. The node's own are counted with those of clients.",
                (
                    Field("total", _INTEGER, "All of them."),
                    Field("pending", _INTEGER, "Not answered yet."),
                    Field("successful", _INTEGER, "Decided, whatever was decided."),
                    Field("failed", _INTEGER, "In doubt: the leader was lost meanwhile."),
                    Field("cancelled", _INTEGER, "Refused because a bound was reached."),
                    Field("expired", _INTEGER, "Not proposed: there was no leader in time."),
                    Field(
                        "average_latency_ms",
                        _DOUBLE,
                        "From being proposed or forwarded to being answered, in milliseconds.",
                    ),
                    Field("max_latency_ms", _DOUBLE, "The longest."),
                ),
            ),
        ),
    ),
    Command(
        name="RAFT.ADD",
        summary="Adds a node that was started with --join, or changes a node's address.",
        complexity="Depends on the cluster's round trip.",
        group=Group.RAFT,
        flags=_ADMIN,
        arguments=(
            _id("The new node's --node-id."),
            Text(
                name="address",
                least=1,
                most=300,
                summary="Its `host:port[@peerport]`, as clients and the other nodes reach it; the "
                "peer port is port + 10000 unless it is given.",
            ),
        ),
        details=(
            (
                "It is answered once the node is a member that listens, which is committed by the "
                "others; it votes as soon as it has caught up, by itself. It may be repeated."
            ),
        ),
        replies=(shapes.OK,),
        errors=_NO_LEADER,
    ),
    Command(
        name="RAFT.REMOVE",
        summary="Removes a node for ever: its data directory cannot come back.",
        complexity="Depends on the cluster's round trip.",
        group=Group.RAFT,
        flags=_ADMIN,
        arguments=(_id("The node. OK also when there is none of this name."),),
        replies=(shapes.OK,),
        errors=_NO_LEADER,
    ),
    Command(
        name="RAFT.TRANSFER",
        summary="Hands the leadership over.",
        complexity="Depends on the cluster's round trip.",
        group=Group.RAFT,
        flags=_ADMIN,
        arguments=(_id("To this node; without it to the one that is furthest.", optional=True),),
        replies=(Reply("ok", Kind.SIMPLE, "OK, when the other node leads."),),
        errors=_NO_LEADER,
    ),
    Command(
        name="RAFT.SNAPSHOT",
        summary="Takes a snapshot of the lock table on this node.",
        complexity="O(N) where N is the number of locks, off the path of other commands",
        group=Group.RAFT,
        flags=(Flag.ADMIN, Flag.NOSCRIPT),
        replies=(
            Reply(
                "snapshot",
                Kind.MAP,
                "When it is on disk.",
                (
                    Field("index", _INTEGER, "The last command that is in it."),
                    Field("term", _INTEGER, "Its term."),
                    Field("bytes", _INTEGER, "Its size."),
                    Field("duration_ms", _INTEGER, "How long it took."),
                ),
            ),
        ),
    ),
    Command(
        name="RAFT.HEALTH",
        summary="Tells whether this node can serve commands.",
        group=Group.RAFT,
        flags=(Flag.LOADING, Flag.STALE, Flag.FAST),
        replies=(
            Reply(
                "health",
                Kind.MAP,
                "The health of this node.",
                (
                    Field("status", _BULK, "`SERVING` or `NOT_SERVING`."),
                    Field("message", _BULK, "Why."),
                    Field("leader", _BULK, "The leader, if one is known.", nullable=True),
                    Field("term", _INTEGER, "The current term."),
                    Field("applied", _INTEGER, "The last command applied to the lock table."),
                    Field("locks", _INTEGER, "How many locks are held."),
                    Field("waiters", _INTEGER, "How many clients wait."),
                    Field("uptime_ms", _INTEGER, "Milliseconds since the node was started."),
                ),
            ),
        ),
    ),
)
