"""What the core hands out to be done, in the order in which it must be done.

Pure. The order of the fields is the rule (Raft paper, figure 2: durable before an answer; thesis
10.2.1: a leader may write to its disk while its followers write to theirs):

    send_now             may leave at once, before or while the next three become durable
    installed            the log is dropped and begins behind this snapshot, durable and verified
    hard_state, entries  written together, in ONE batch
    sync                 if it is set, what is written now and before becomes durable
    send_after_persist   may leave only then
    committed            applied to the state machine, loaded from `installed` first if there is one
    reads                answered from the state machine as it is now
    then RaftCore.advance()

Everything that `send_after_persist` promises is in this Ready's batch or in an earlier one. Nothing
in `send_now` promises more than an earlier one holds.

A Ready that need not be synced is a leader's whose followers are a majority without it: they sync
before they acknowledge, so what is committed is durable on a majority. The runtime syncs it soon
(a tick is soon) and says so with `RaftCore.synced`; until then the leader does not count itself.
"""

from __future__ import annotations

import msgspec

from resplock.raft.entries import Entry, HardState, SnapshotMeta
from resplock.raft.messages import Message
from resplock.types import Index, NodeId


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """A read that may be answered: the node led when `context` was asked for, or later."""

    context: int
    index: Index
    """Committed when it was asked for, and applied once this Ready's `committed` are."""


class Ready(msgspec.Struct, frozen=True, gc=False):
    """One round of work; see the module for its order."""

    send_now: tuple[Message, ...] = ()
    """From a leader whose term is durable: appends and heartbeats."""
    installed: SnapshotMeta | None = None
    """From `RaftCore.restore`. A newer one may be given to it before this one is taken up."""
    hard_state: HardState | None = None
    """None when it did not change."""
    entries: tuple[Entry, ...] = ()
    """Contiguous. When the first of them begins at or before the written log's last index, they
    replace everything from there on."""
    sync: bool = True
    send_after_persist: tuple[Message, ...] = ()
    """Votes and answers, from whatever role."""
    committed: tuple[Entry, ...] = ()
    """Each entry once, in the log's order: written here, and durable on a majority."""
    reads: tuple[ReadState, ...] = ()
    reads_lost: tuple[int, ...] = ()
    """Contexts that will get no ReadState, because the leadership was lost: ask again. Every
    context that `read_index` took appears in one of these two, once."""
    snapshots_wanted: tuple[NodeId, ...] = ()
    """These need a snapshot: send the newest and say so with `RaftCore.report_snapshot`."""
