"""What happens to locks, as subscribers are told: the channels, the kinds of events, their texts.

Pure. The channels are those of Redis's keyspace notifications, and one more for each key:

    __keyspace@<db>__:<key>        the event's kind
    __keyevent@<db>__:<kind>       the key
    __lock__:<key>                 event=expired db=0 owner=me version=7 reason=

Source: https://redis.io/docs/latest/develop/pubsub/keyspace-notifications
"""

from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from resplock.limits import DATABASES
from resplock.operations import Event
from resplock.resp.replies import Push
from resplock.types import key_of


class Kind(NamedTuple):
    """A kind of event; `reasons`: what `reason` may be."""

    name: str
    meaning: str
    reasons: str = ""


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("acquired", "The lock was granted, at once or to the next in line."),
        Kind(
            "released",
            "A hold was given back.",
            "empty when its owner did it; `disconnected`: the connection that it was tied to by "
            "ONCLOSE RELEASE has closed; `unclaimed`: it was granted to a client that had gone.",
        ),
        Kind("expired", "A hold ran out."),
        Kind("renewed", "The end of a hold was set anew; its version stays."),
        Kind("broken", "An operator took the lock away.", "what the operator gave as REASON."),
        Kind(
            "deleted",
            "A hold was ended by DEL of its key, or the like, without its owner.",
            "empty, or `replaced`: SET, INCR or APPEND gave the key another value.",
        ),
        Kind("queued", "An owner has taken a place in line. The version is 0."),
        Kind(
            "cancelled",
            "A place in line was given up without a grant. The version is 0.",
            "`timeout`, `cancelled` (LOCK.CANCEL), `disconnected` or `unblocked` (CLIENT UNBLOCK).",
        ),
    )
}
"""Every kind of event, in the order of the reference page."""

KEYSPACE_HEADS: Final = tuple(b"__keyspace@%d__:" % db for db in range(DATABASES))
KEYEVENT_HEADS: Final = tuple(b"__keyevent@%d__:" % db for db in range(DATABASES))
"""What the channels of each database begin with."""
LOCK_HEAD: Final = b"__lock__:"

_PLAIN = "".join(chr(byte) for byte in range(0x21, 0x7F) if chr(byte) != "%")

NOT_ASKED_FOR: Final = frozenset({"expired", "broken", "deleted"})
"""The kinds that end a hold without its owner's doing, whatever their reason."""


def ends_unasked(event: Event) -> bool:
    """Has a hold ended that its owner did not give back?"""
    return event.kind in NOT_ASKED_FOR or (event.kind == "released" and event.reason != b"")


def line(event: Event) -> bytes:
    """The text on a lock's own channel: `field=value` pairs with a space between them.

    In values, a percent sign and bytes outside of `!` to `~` are written %XX, as in URLs.
    """
    owner = quote_from_bytes(event.owner, _PLAIN)
    reason = quote_from_bytes(event.reason, _PLAIN)
    return (
        f"event={event.kind} db={event.name[0]} owner={owner} version={event.version} "
        f"reason={reason}"
    ).encode()


def loss(event: Event) -> Push:
    """What a connection is sent that watches the hold's owner."""
    kind = event.kind.encode()
    db, key = event.name[0], key_of(event.name)
    return Push((b"lock", kind, db, key, event.owner, event.version, event.reason))
