"""Snapshots as the core sees them: a place in the log, and the configuration there.

Pure. The runtime takes, sends, receives and verifies them (Raft paper, section 7; thesis 5). A
snapshot holds what is committed, so taking one from whoever led when it was taken is always right.
"""

from __future__ import annotations

from resplock.raft import replication
from resplock.raft.entries import SnapshotMeta
from resplock.raft.messages import AppendReply
from resplock.raft.progress import PeerState
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index, NodeId, Term


def compacted(replica: Replica, meta: SnapshotMeta) -> None:
    """This server's own snapshot at `meta` is durable; older ones than the last are ignored."""
    if meta.index <= replica.log.base.index:
        return
    assert replica.log.term_at(Index(meta.index)) in (meta.term, None), "not of this log"
    replica.log.compact(meta)
    replica.membership.compact(Index(meta.index))


def restore(replica: Replica, meta: SnapshotMeta) -> bool:
    """Adopt a snapshot that the runtime has received, verified and made durable.

    True when the log and the state machine are to be replaced: the next Ready says so. False when
    the snapshot has nothing new, or the log has it all and can be applied instead.
    """
    index = Index(meta.index)
    if replica.role is Role.LEADER or index <= replica.log.commit_index:
        return False
    if meta.term > replica.term:
        replica.become_follower(Term(meta.term), None)  # no log ends in a term that is to come
    replaces = not replica.log.has(index, Term(meta.term))
    if replaces:
        _replace_log(replica, meta)
    else:
        replica.commit_to(index)
    _tell_leader(replica, index)
    return replaces


def _replace_log(replica: Replica, meta: SnapshotMeta) -> None:
    """The log ends with the snapshot. Entries on their way to the disk count no more."""
    replica.log.replace_by(meta)
    replica.membership.restart(Index(meta.index), meta.configuration)
    replica.installed = meta
    replica.persisting = ()
    replica.configuration_changed()


def _tell_leader(replica: Replica, index: Index) -> None:
    """What is committed agrees with any leader's log, and the snapshot is durable."""
    replica.verified_index = Index(max(replica.verified_index, index))
    if replica.leader_id is not None:
        replica.send(
            AppendReply(replica.term, replica.id, replica.leader_id, True, replica.verified_index)
        )


def report(replica: Replica, id: NodeId, index: Index, ok: bool) -> None:
    """A snapshot at `index` that was wanted has arrived, or has failed to.

    After a failure the next attempt waits until the follower shows itself.
    """
    progress = replica.progress.get(id)
    if progress is None or progress.state is not PeerState.SNAPSHOT:
        return
    if ok:
        progress.probe_from(Index(index + 1))
        replication.feed(replica, progress)
    else:
        progress.probe_from(Index(progress.match_index + 1))
        progress.pause()
