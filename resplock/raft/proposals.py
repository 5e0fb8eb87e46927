"""What a leader is asked to append: runs of commands, the clock, changes of membership.

Pure. What is refused was certainly not appended.
"""

from __future__ import annotations

from resplock.limits import RUN_COMMANDS_MAX
from resplock.raft import replication
from resplock.raft.configurations import Refusal, new_voter, refusal_of_change
from resplock.raft.entries import Configuration, Entry, EntryKind, clock, config
from resplock.raft.replica import Replica
from resplock.raft.roles import Role
from resplock.types import Index, StampMs


def is_busy(replica: Replica) -> bool:
    """Whether too much of this term's log waits to be committed and applied."""
    return replica.uncommitted_bytes >= replica.config.uncommitted_bytes_max


def propose_run(replica: Replica, payload: bytes, commands: int, stamp_ms: StampMs) -> Entry | None:
    """One entry for a run of commands."""
    assert 1 <= commands <= RUN_COMMANDS_MAX
    if replica.role is not Role.LEADER or replica.transferee is not None or is_busy(replica):
        return None
    first = replica.log.last_index + 1
    entry = Entry(replica.term, first, first + commands - 1, EntryKind.RUN, stamp_ms, payload)
    replication.append(replica, entry)
    return entry


def propose_clock(replica: Replica, stamp_ms: StampMs) -> Entry | None:
    """One entry that only carries the clock."""
    if replica.role is not Role.LEADER or replica.transferee is not None or is_busy(replica):
        return None
    entry = clock(replica.term, Index(replica.log.last_index + 1), stamp_ms)
    replication.append(replica, entry)
    return entry


def propose_configuration(replica: Replica, configuration: Configuration) -> Entry | Refusal:
    """One change of membership, in effect at once."""
    refusal = _refusal(replica, configuration)
    if refusal is not None:
        return refusal
    index = Index(replica.log.last_index + 1)
    entry = config(replica.term, index, replica.clock_ms, configuration)
    replication.append(replica, entry)
    return entry


def _refusal(replica: Replica, configuration: Configuration) -> Refusal | None:
    """Why the change may not be made now.

    Without the second rule, two leaders that each change the membership once could commit with
    majorities that have nobody in common (the bug in the thesis's chapter 4, and its mending).
    """
    if replica.role is not Role.LEADER:
        return Refusal.NOT_LEADER
    if replica.transferee is not None:
        return Refusal.TRANSFERRING
    if replica.log.commit_index < replica.term_start:
        return Refusal.TERM_NOT_COMMITTED
    if replica.membership.index > replica.log.commit_index:
        return Refusal.CHANGE_IN_FLIGHT
    refusal = refusal_of_change(replica.membership.configuration, configuration)
    return refusal or _refusal_of_new_voter(replica, configuration)


def _refusal_of_new_voter(replica: Replica, configuration: Configuration) -> Refusal | None:
    """A new voter must have caught up, so that commits go on without a pause (thesis 4.2.1).

    That means here: it is there, and its log agrees with this leader's up to this term and to the
    configuration that made it a learner. Without any configuration it would not vote.
    """
    id = new_voter(replica.membership.configuration, configuration)
    if id is None:
        return None
    progress = replica.progress.get(id)
    if (
        progress is None
        or not replication.is_active(replica, progress)
        or progress.match_index < max(replica.term_start, replica.membership.index)
    ):
        return Refusal.NOT_CAUGHT_UP
    return None
