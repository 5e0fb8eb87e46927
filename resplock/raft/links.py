"""What the links to the peers tell: who may have lost messages, who runs anew, whose leader is gone.

Pure. The runtime reports; a peer of which nothing is reported counts as linked.

**Early pre-vote.** A leader whose process dies closes its connections. A follower that sees this
does not wait for its election timeout: `stand_in_ms` says in how many milliseconds to call
`stand_now`, a small random time, so that the followers, who all saw the same, do not stand at once.
None of them "hears a leader" any more, so they grant the pre-vote and the vote. It is called off by
a link to the same incarnation of the leader, by another leader, and by a vote given to another; a
pre-vote given to another puts it off. An election that is split is tried again in the same way,
limits.EARLY_VOTES_MAX times before a leader is heard; the election timeout remains behind it all.

It changes who stands when, and no rule of safety. Where only this one link is broken, the others
hear the leader and ignore the question. With a lease it is off: the lease lasts an election timeout.
"""

from __future__ import annotations

from resplock.raft import elections, replication
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import NodeId


def down(replica: Replica, id: NodeId) -> None:
    """The link to a peer broke: what was under way may be lost, and if it led, it may be gone."""
    replica.links_down.add(id)
    if replica.role is Role.LEADER:
        replication.lost_link(replica, id)
        replication.choose_fed(replica)
    elif id == replica.leader_id:
        elections.stand_soon(replica)


def up(replica: Replica, id: NodeId, same_incarnation: bool) -> None:
    """There is a link to a peer, which has or has not been running since the last one."""
    replica.links_down.discard(id)
    if not same_incarnation:
        restarted(replica, id)
    elif replica.role is Role.LEADER:
        replication.link_is_back(replica, id)
    elif id == replica.leader_id:
        replica.call_off_standing()


def restarted(replica: Replica, id: NodeId) -> None:
    """A peer runs anew: it may not have all that it had, and it leads no more."""
    if replica.role is Role.LEADER:
        replication.peer_restarted(replica, id)
    elif id == replica.leader_id:
        replica.leader_id = None
        elections.stand_soon(replica)
