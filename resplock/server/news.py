"""What the log says of the cluster: who leads, and how this server stands in it.

I/O layer: it only writes to the log.
"""

from __future__ import annotations

import structlog

from resplock.raft.core import RaftCore
from resplock.types import NodeId, Term

logger = structlog.get_logger()

_VOTER, _LEARNER, _STRANGER = "voter", "learner", "no member"


class News:
    """Looks at the core now and then, and says what is new."""

    def __init__(self, core: RaftCore) -> None:
        self._core = core
        self._standing = ""
        self._led: tuple[NodeId, Term] | None = None

    def look(self) -> None:
        """Say what has changed since the last look."""
        standing = self._find_standing()
        if standing != self._standing:
            was, self._standing = self._standing, standing
            self._say_standing(was)
        leader_id, term = self._core.leader_id, self._core.term
        if leader_id is not None and (leader_id, term) != self._led:
            self._led = leader_id, term
            logger.info(
                "this server leads" if self._core.is_leader else "a leader is there",
                leader=leader_id,
                term=term,
            )

    def _find_standing(self) -> str:
        core = self._core
        if core.told_of_removal:
            return _STRANGER
        if core.is_voter:
            return _VOTER
        is_learner = core.membership.has_learner(core.id, core.config.uuid)
        return _LEARNER if is_learner else _STRANGER

    def _say_standing(self, was: str) -> None:
        if self._standing == _LEARNER:
            logger.info("this server is a learner: it is promoted once it has caught up")
        elif self._standing == _VOTER and was in (_LEARNER, _STRANGER):
            logger.info("this server was promoted: it votes now")
        elif self._standing == _STRANGER and was:
            logger.warning("this server is no member of the cluster any more")
