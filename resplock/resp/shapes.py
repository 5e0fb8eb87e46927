"""What commands answer: the declared replies, their fields and their types.

Pure, and only data. A command lists its replies; the encoders of outcomes and answers
(`replies.py`) and the reference page (`reference.py`) are both made from the ones below, so that a
field's name, order and type are stated once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from resplock import limits
from resplock import operations as ops


class Kind(StrEnum):
    """The RESP3 type of a reply or of a field."""

    INTEGER = "integer"
    BULK = "bulk string"
    DOUBLE = "double"
    SIMPLE = "simple string"
    VERBATIM = "verbatim string"
    MAP = "map"
    ARRAY = "array"
    SET = "set"
    PUSH = "push"
    NIL = "nil"
    NOTHING = "nothing"


class Field(msgspec.Struct, frozen=True):
    """One field of a map.

    source    the attribute of the outcome or answer (default: the field's name), dots descend
    constant  it always has this value
    fields    of each map in an array
    optional  it is left out while its value is the default of what it is made from
    """

    name: str
    kind: Kind
    summary: str
    nullable: bool = False
    source: str = ""
    constant: bytes | int | None = None
    fields: tuple[Field, ...] = ()
    optional: bool = False

    @property
    def attribute(self) -> str:
        """Where the encoder finds its value."""
        return self.source or self.name


class Reply(msgspec.Struct, frozen=True):
    """One of the replies that a command may give.

    name    short and unique within the command: `granted`
    of      the outcome or answer that it is made from, for commands that reach the lock table
    """

    name: str
    kind: Kind
    when: str
    fields: tuple[Field, ...] = ()
    of: type[Any] | None = None


OK = Reply("ok", Kind.SIMPLE, "OK, when it took effect.")
HELP = Reply("help", Kind.ARRAY, "Lines of text.")
NOT_THERE = Reply("nil", Kind.NIL, "Nobody holds the lock and nobody waits for it.", of=type(None))


def _status(value: str) -> Field:
    return Field("status", Kind.BULK, f"`{value}`", constant=value.encode())


_VERSION = Field("version", Kind.INTEGER, "The fencing version of the hold.")
_TTL = Field("ttl_ms", Kind.INTEGER, "Milliseconds until the hold ends; 0 is never.")
_WAITERS = Field("waiters", Kind.INTEGER, "How many wait for the lock.")
_ACQUIRED_AT = Field("acquired_at", Kind.INTEGER, "When it was granted, in unix milliseconds.")
_EXPIRES_AT = Field("expires_at", Kind.INTEGER, "When it ends, in unix milliseconds; 0 is never.")
_METADATA = Field("metadata", Kind.MAP, "What META gave when it was acquired.")


def _advice(path: str) -> tuple[Field, ...]:
    """When to try again. Multiplier and jitter come in hundredths and leave as decimals."""
    return (
        Field(
            "retry_after_ms",
            Kind.INTEGER,
            "How long to wait before the next try: from how long this lock is usually held, the "
            "places ahead and the TTL that is left.",
            source=f"{path}retry_after_ms",
        ),
        Field(
            "backoff_initial_ms",
            Kind.INTEGER,
            "The first pause of an exponential backoff, if that try fails too.",
            source=f"{path}initial_ms",
        ),
        Field(
            "backoff_max_ms",
            Kind.INTEGER,
            "The longest pause.",
            source=f"{path}max_ms",
        ),
        Field(
            "backoff_multiplier",
            Kind.DOUBLE,
            "Each pause is so many times the last one.",
            source=f"{path}multiplier_pct",
        ),
        Field(
            "backoff_jitter",
            Kind.DOUBLE,
            "Vary each pause by up to this fraction, so that clients do not return together.",
            source=f"{path}jitter_pct",
        ),
    )


# --- what operations answer ----------------------------------------------------------------------

GRANTED = Reply(
    "granted",
    Kind.MAP,
    "The owner has the lock now, or had it and has extended it.",
    (_status("granted"), _VERSION, _TTL, _WAITERS),
    ops.Granted,
)
_IN_THE_WAY = (
    Field(
        "owner",
        Kind.BULK,
        "Who has it, or waits in front when nobody has; nil while only a DELAY is in the way. Of a "
        f"value that was set, the first {limits.OWNER_BYTES_MAX} bytes.",
        nullable=True,
    ),
    Field("version", Kind.INTEGER, "The fencing version of the hold in the way; 0 when none is."),
    Field(
        "ttl_ms",
        Kind.INTEGER,
        "Milliseconds until that hold ends, 0 is never; else what is left of the wait or delay.",
    ),
    _WAITERS,
    *_advice("advice."),
)
HELD = Reply(
    "held",
    Kind.MAP,
    "Somebody else has the lock, or comes first, and WAIT was not given. This is not an error.",
    (_status("held"), *_IN_THE_WAY),
    ops.Held,
)
TIMEOUT = Reply(
    "timeout",
    Kind.MAP,
    "The WAIT has run out (LOCK.ENQUEUE: of this REQUEST). This is not an error.",
    (_status("timeout"), *_IN_THE_WAY),
    ops.TimedOut,
)
QUEUED = Reply(
    "queued",
    Kind.MAP,
    "The owner has a place in the queue.",
    (
        _status("queued"),
        Field("position", Kind.INTEGER, "How many places are ahead: 0 is the front."),
        Field(
            "estimated_wait_ms",
            Kind.INTEGER,
            "About how long it will take, from how long this lock is usually held.",
        ),
    ),
    ops.Queued,
)
CANCELLED = Reply("cancelled", Kind.INTEGER, "1: the place is given up.", of=ops.Cancelled)
LOST = Reply(
    "lost",
    Kind.MAP,
    "The answer to a repeated REQUEST whose grant has ended since.",
    (_status("lost"), Field("version", Kind.INTEGER, "The fencing version that it had.")),
    ops.Lost,
)
RELEASED = Reply(
    "released",
    Kind.MAP,
    "The lock was given back.",
    (
        Field("released", Kind.INTEGER, "1", constant=1),
        Field("holds", Kind.INTEGER, "How many holds the owner still has (re-entrant locks)."),
        Field("promoted", Kind.BULK, "Who has the lock next, when somebody waited.", nullable=True),
    ),
    ops.Released,
)
RENEWED = Reply("renewed", Kind.MAP, "The hold's end was set.", (_VERSION, _TTL), of=ops.Renewed)
KEPT = Reply(
    "count", Kind.INTEGER, "How many holds were renewed, when VERSIONS was not given.", of=ops.Kept
)
KEPT_LOST = Reply(
    "lost",
    Kind.ARRAY,
    "With VERSIONS: those of its keys that the owner no longer holds with that version.",
    of=ops.Kept,
)
BROKEN = Reply("broken", Kind.INTEGER, "1: the lock was taken away.", of=ops.Broken)

# --- what queries answer -------------------------------------------------------------------------

LOCK_INFO = Reply(
    "info",
    Kind.MAP,
    "The lock.",
    (
        Field("key", Kind.BULK, "The key.", source="name"),
        Field(
            "owner",
            Kind.BULK,
            "Who holds it; nil when nobody does, or several may (see `holders`).",
            nullable=True,
        ),
        Field("mode", Kind.BULK, "`exclusive`, `shared` or `semaphore`."),
        Field(
            "version", Kind.INTEGER, "The fencing version of the hold, of the oldest of several."
        ),
        _ACQUIRED_AT,
        _EXPIRES_AT,
        Field("last_modified", Kind.INTEGER, "When it was last changed, in unix milliseconds."),
        _TTL,
        Field("limit", Kind.INTEGER, "How many permits there are; 0 when it is shared."),
        Field("waiter_count", Kind.INTEGER, "How many wait for it."),
        _METADATA,
        Field(
            "holders",
            Kind.ARRAY,
            "The holds of a shared lock or of a semaphore, the oldest first. Left out of the others.",
            fields=(
                Field("owner", Kind.BULK, "Who holds it."),
                _VERSION,
                _ACQUIRED_AT,
                _EXPIRES_AT,
                _TTL,
                Field("permits", Kind.INTEGER, "How many permits it takes."),
                Field("holds", Kind.INTEGER, "How often its owner has to release it."),
                _METADATA,
            ),
            optional=True,
        ),
        Field(
            "waiters",
            Kind.ARRAY,
            "With WAITERS: who waits, in the order of the queue, at most "
            f"{limits.WAITERS_LISTED_MAX} of them.",
            fields=(
                Field("owner", Kind.BULK, "Who waits."),
                Field(
                    "client_id",
                    Kind.BULK,
                    "The connection, as `node:id`; nil when the place has none.",
                    nullable=True,
                    source="client",
                ),
                Field("enqueued_at", Kind.INTEGER, "Since when, in unix milliseconds."),
                Field("timeout_at", Kind.INTEGER, "Until when, in unix milliseconds."),
                Field("priority", Kind.INTEGER, "Higher goes first."),
                Field("position", Kind.INTEGER, "How many places are ahead."),
                Field("mode", Kind.BULK, "What it waits for: `exclusive`, `shared`, `semaphore`."),
                Field("permits", Kind.INTEGER, "How many permits it waits for."),
            ),
            optional=True,
        ),
    ),
    ops.LockInfo,
)
LOCK_PAGE = Reply(
    "page",
    Kind.ARRAY,
    "Two elements: the cursor of the next page as a bulk string, `0` after the last one, and an "
    "array of locks, each a map as LOCK.GET gives it. A page may be empty and not be the last.",
    of=ops.LockPage,
)
CHECKED = Reply("checked", Kind.INTEGER, "1 if this version is the current grant, else 0.", of=int)
COUNTED = Reply("counted", Kind.INTEGER, "How many locks are held in this database.", of=int)
ADVICE = Reply("advice", Kind.MAP, "When to try again.", _advice(""), of=ops.Advice)
STATS = Reply(
    "stats",
    Kind.MAP,
    "The present, and totals since the cluster began.",
    (
        Field("active_locks", Kind.INTEGER, "How many locks are held now."),
        Field("waiters", Kind.INTEGER, "How many clients wait now."),
        Field("contested_locks", Kind.INTEGER, "How many locks have waiters now."),
        Field("average_hold_ms", Kind.INTEGER, "How long locks were held of late, on average."),
        Field("acquisitions_per_s", Kind.INTEGER, "Grants a second over the last seconds."),
        Field("releases_per_s", Kind.INTEGER, "Releases a second over the last seconds."),
        Field("acquisitions", Kind.INTEGER, "Grants, in total."),
        Field(
            "refusals",
            Kind.INTEGER,
            "Tries that found the lock held, in total, up to about a second ago.",
        ),
        Field("releases", Kind.INTEGER, "Releases, in total."),
        Field("renewals", Kind.INTEGER, "Renewals, in total."),
        Field("expired", Kind.INTEGER, "Holds that ran out, in total."),
        Field("broken", Kind.INTEGER, "Locks that an operator took away, in total."),
        Field("last_version", Kind.INTEGER, "The highest fencing version given so far."),
        Field("clock_ms", Kind.INTEGER, "The replicated clock, in milliseconds."),
    ),
    ops.Stats,
)
