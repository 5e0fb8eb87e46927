"""What an operator asks of the cluster's membership and leadership: RAFT.ADD, REMOVE, TRANSFER.

Pure. Each is idempotent, so that a request whose fate is unknown is simply made again. The answer is
`Done` once it is committed, or a CommandError that says why nothing came of it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from resplock.raft.entries import Member
from resplock.types import NodeId


class AddServer(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Take the server in as a learner, which is promoted once it has caught up.

    A server of the same id with another uuid is replaced by it: its data directory was wiped.
    """

    member: Member


class RemoveServer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Remove the server for ever. Done when there is none of this id."""

    id: NodeId


class Transfer(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Hand the leadership to a voter; None is the one that is furthest.

    `away_from` is who led when it was asked: once another does, a transfer to whomever is done.
    """

    id: NodeId | None = None
    away_from: NodeId | None = None

    def is_done(self, leader_id: NodeId | None) -> bool:
        """Whether nothing is left to do, now that `leader_id` leads."""
        if self.id is None:
            return leader_id not in (None, self.away_from)
        return leader_id == self.id


Request: TypeAlias = AddServer | RemoveServer | Transfer
