"""What one server's consensus core is set up with, and the bounds that only the core needs.

Pure. Time is counted in ticks: the runtime decides how long one is.
"""

from __future__ import annotations

import msgspec

from resplock.errors import ConfigError
from resplock.limits import (
    APPEND_BYTES_MAX,
    CLOCK_DRIFT_PERCENT,
    INFLIGHT_BYTES_MAX,
    INFLIGHT_MESSAGES_MAX,
)
from resplock.types import NodeId

UNCOMMITTED_BYTES_MAX = 64 << 20
"""A leader refuses proposals while so much of its own term is proposed but not given out to apply."""
TAIL_BYTES_MAX = 8 << 20
"""The newest entries kept in memory; more only while they are not yet durable and applied."""
COMMITTED_BYTES_MAX = 4 << 20
"""Bytes of committed entries in one Ready; a single larger entry goes alone."""
READS_PENDING_MAX = 65_536
"""Reads that wait for a quorum before new ones are refused."""


class RaftConfig(msgspec.Struct, frozen=True):
    """Settings of one server. Raises ConfigError when they cannot work together."""

    id: NodeId
    uuid: str = ""
    """Of this server's data directory, as in `Member.uuid`: a wiped directory makes another server,
    which is not the member that its id names. Empty to go by the id alone."""
    election_ticks: int = 10
    """Election timeouts are drawn from [election_ticks, 2 * election_ticks) (thesis 3.4)."""
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    """Ask whether an election could be won before starting one (thesis 9.6)."""
    check_quorum: bool = True
    """A leader that a quorum has left for an election timeout steps down (thesis 6.2), and voters
    that hear a leader ignore candidates (thesis 4.2.3). One is not safe for liveness without the
    other: a voter would stay true to a leader that cannot commit."""
    lease: bool = False
    """Let a leader answer reads without a round while nobody else can lead (see `lease`). All
    servers of a cluster must be set to the same: the others keep the lease."""
    tick_ms: int = 50
    """How long the runtime lets a tick be. Only the lease is computed from it."""
    append_bytes_max: int = APPEND_BYTES_MAX
    inflight_bytes_max: int = INFLIGHT_BYTES_MAX
    inflight_messages_max: int = INFLIGHT_MESSAGES_MAX
    uncommitted_bytes_max: int = UNCOMMITTED_BYTES_MAX
    tail_bytes_max: int = TAIL_BYTES_MAX
    committed_bytes_max: int = COMMITTED_BYTES_MAX
    reads_pending_max: int = READS_PENDING_MAX

    def __post_init__(self) -> None:
        if not self.id:
            raise ConfigError("a node needs an id")
        if not 0 < self.heartbeat_ticks < self.election_ticks:
            raise ConfigError(
                f"heartbeat_ticks is {self.heartbeat_ticks}, election_ticks {self.election_ticks}: "
                "heartbeats must come at least once in an election timeout"
            )
        if self.lease and not self.check_quorum:
            raise ConfigError("a leader lease needs check_quorum: without it voters do not keep it")
        if self.lease and self.lease_ms <= self.heartbeat_ticks * self.tick_ms:
            raise ConfigError(
                f"election_ticks is {self.election_ticks}: too short for a leader lease"
            )

    @property
    def lease_ms(self) -> int:
        """How long a lease lasts, on the leader's clock, from when its heartbeats left."""
        return (self.election_ticks - 2) * self.tick_ms * 100 // (100 + CLOCK_DRIFT_PERCENT)
