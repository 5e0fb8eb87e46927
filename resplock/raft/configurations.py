"""Configurations: what makes one usable, and which may follow which.

Pure. Changes touch one server at a time, so that any majority of the old configuration and any of
the new have a server in common (thesis 4.1). A server is an id with a uuid: a wiped data directory
makes another server of the same id, so it is removed and added in two changes.
"""

from __future__ import annotations

import enum
from itertools import pairwise

from msgspec.structs import replace

from resplock.limits import TOMBSTONES_MAX
from resplock.raft.entries import Configuration, Member
from resplock.types import NodeId


class Refusal(enum.Enum):
    """Why a leader did not propose a change of membership. Certain: nothing will come of it."""

    NOT_LEADER = "this node does not lead"
    TRANSFERRING = "the leader is handing leadership over"
    TERM_NOT_COMMITTED = "the leader has not committed an entry of its term yet"
    CHANGE_IN_FLIGHT = "an earlier change of membership is not committed yet"
    NOT_ONE_SERVER = "a change must add, promote, demote, update or remove exactly one server"
    NOT_CAUGHT_UP = "a new voter must be a learner that has caught up"
    REMOVED = "a removed server may not come back, nor be forgotten"
    MALFORMED = "the configuration is not sorted, names a server twice, or has no voter"


def is_well_formed(configuration: Configuration) -> bool:
    """At least one voter, no server twice, members sorted, every server named."""
    voters, learners = ids(configuration.voters), ids(configuration.learners)
    return (
        bool(voters)
        and _is_sorted(voters)
        and _is_sorted(learners)
        and len(set(configuration.removed)) == len(configuration.removed) <= TOMBSTONES_MAX
        and not set(voters) & set(learners)
        and "" not in voters + learners
    )


def ids(members: tuple[Member, ...]) -> tuple[NodeId, ...]:
    """The members' names, in the same order."""
    return tuple(member.id for member in members)


def is_of(member: Member, id: NodeId, uuid: str) -> bool:
    """Whether `member` is the server (id, uuid). Where either has no uuid, the id decides."""
    return member.id == id and (uuid == member.uuid or not (uuid and member.uuid))


def tombstone(member: Member) -> str:
    """How a removed server is remembered."""
    return f"{member.id}/{member.uuid}"


# --- the next configuration ----------------------------------------------------------------------


def with_learner(configuration: Configuration, member: Member) -> Configuration:
    """The next one when `member` is added: it listens first (thesis 4.2.1)."""
    return replace(configuration, learners=_put(configuration.learners, member))


def with_voter(configuration: Configuration, id: NodeId) -> Configuration:
    """The next one when the learner `id` is promoted. Raises KeyError."""
    member = _find(configuration.learners, id)
    return replace(
        configuration,
        voters=_put(configuration.voters, member),
        learners=_drop(configuration.learners, id),
    )


def with_replacement(configuration: Configuration, member: Member) -> Configuration:
    """The next one when the server of this id is now another, of another uuid: the old one is gone
    for ever, and the new one listens first. Raises KeyError.

    One change is enough: the voters lose one server at most, and a learner counts for nothing.
    """
    return with_learner(without(configuration, member.id), member)


def with_addresses(configuration: Configuration, member: Member) -> Configuration:
    """The next one when the server has other addresses. Raises KeyError."""
    if member.id in ids(configuration.voters):
        return replace(configuration, voters=_put(configuration.voters, member))
    _find(configuration.learners, member.id)
    return with_learner(configuration, member)


def without(configuration: Configuration, id: NodeId) -> Configuration:
    """The next one when `id` is removed, for ever. Raises KeyError."""
    member = _find(configuration.voters + configuration.learners, id)
    return Configuration(
        voters=_drop(configuration.voters, id),
        learners=_drop(configuration.learners, id),
        removed=_remembered(configuration.removed, tombstone(member)),
    )


def _remembered(removed: tuple[str, ...], *gone: str) -> tuple[str, ...]:
    """With those that go now, and without the oldest when they are too many.

    Forgetting is safe. Once a removal is committed no majority needs the removed server, and should
    it be added again, on somebody's order, then as a learner with a log and votes of its own that
    are still true: a directory that has lost them has another uuid. A tombstone is for people and
    for the keeping of the membership: a server that comes back after a removal is told so instead
    of being taken in again, for as long as the next limits.TOMBSTONES_MAX removals.
    """
    return (*removed, *gone)[-TOMBSTONES_MAX:]


# --- judging a change ----------------------------------------------------------------------------


def refusal_of_change(old: Configuration, new: Configuration) -> Refusal | None:
    """What is wrong with going from `old` to `new`, whoever leads; None when nothing is."""
    if not is_well_formed(new):
        return Refusal.MALFORMED
    before, after = _servers(old), _servers(new)
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    if len(changed) != 1 and not _is_replacement(before, after, changed):
        return Refusal.NOT_ONE_SERVER
    gone = before.keys() - after.keys()
    if new.removed != _remembered(old.removed, *gone) or after.keys() & set(new.removed):
        return Refusal.REMOVED
    return None


def _is_replacement(
    before: dict[str, tuple[bool, Member]],
    after: dict[str, tuple[bool, Member]],
    changed: list[str],
) -> bool:
    """Whether one server went, and a learner of the same id came in its place."""
    went = [key for key in changed if key not in after]
    came = [key for key in changed if key not in before]
    if len(changed) != 2 or len(went) != 1 or len(came) != 1:
        return False
    votes, member = after[came[0]]
    return not votes and member.id == before[went[0]][1].id


def new_voter(old: Configuration, new: Configuration) -> NodeId | None:
    """Who votes in `new` and not in `old`: one at most, when the change is legal."""
    added = set(ids(new.voters)) - set(ids(old.voters))
    return added.pop() if added else None


def _servers(configuration: Configuration) -> dict[str, tuple[bool, Member]]:
    """Every server by the name of its tombstone, with whether it votes."""
    return {tombstone(member): (True, member) for member in configuration.voters} | {
        tombstone(member): (False, member) for member in configuration.learners
    }


def _is_sorted(words: tuple[str, ...]) -> bool:
    return all(a < b for a, b in pairwise(words))


def _find(members: tuple[Member, ...], id: NodeId) -> Member:
    for member in members:
        if member.id == id:
            return member
    raise KeyError(id)


def _put(members: tuple[Member, ...], member: Member) -> tuple[Member, ...]:
    return tuple(sorted((*_drop(members, member.id), member), key=lambda each: each.id))


def _drop(members: tuple[Member, ...], id: NodeId) -> tuple[Member, ...]:
    return tuple(member for member in members if member.id != id)
