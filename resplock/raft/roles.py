"""The roles of a server and the steps between them (Raft paper, figure 4; thesis 4.2.1, 9.6).

Pure.

               times out            pre-vote won          election won
    FOLLOWER ------------> PRE_CANDIDATE ------> CANDIDATE ------> LEADER
       ^  ^                  |   ^                 |  |              |
       |  +------------------+   +-----------------+  |              |
       |    lost, or a leader      times out again    |              |
       +----------------------------------------------+--------------+
       |                  a leader, or a later term, is heard
       v
    LEARNER: whoever is not a voter of the configuration in effect, and does not lead
"""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """What a server does at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    """Asks whether it would be elected, in its current term."""
    CANDIDATE = "candidate"
    LEADER = "leader"
    LEARNER = "learner"
    """Receives the log and never stands: a learner, a passive server (one that no configuration
    names: a joiner, a wiped directory), or a removed one."""

    @property
    def shown(self) -> str:
        """The word for it in RAFT.STATUS, which does not tell the two kinds of candidate apart."""
        return Role.CANDIDATE.value if self is Role.PRE_CANDIDATE else self.value


LEGAL_STEPS: dict[Role, frozenset[Role]] = {
    Role.FOLLOWER: frozenset({Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEARNER}),
    Role.PRE_CANDIDATE: frozenset({Role.FOLLOWER, Role.CANDIDATE, Role.LEARNER}),
    Role.CANDIDATE: frozenset({Role.FOLLOWER, Role.PRE_CANDIDATE, Role.LEADER, Role.LEARNER}),
    Role.LEADER: frozenset({Role.FOLLOWER, Role.LEARNER}),
    Role.LEARNER: frozenset({Role.FOLLOWER}),
}
"""Where each role may lead. Staying in a role is always legal."""


def may_become(old: Role, new: Role) -> bool:
    """Whether the step is one of the drawing's."""
    return new is old or new in LEGAL_STEPS[old]
