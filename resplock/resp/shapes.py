"""What commands answer: the declared replies, their fields and their types.

Pure, and only data. A command lists its replies; the encoders of outcomes and answers
(`replies.py`) and the reference page (`reference.py`) are both made from the ones below, so that a
field's name, order and type are stated once.
"""

from enum import StrEnum
from typing import Any

import msgspec

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
    PUSH = "push"
    NIL = "nil"
    NOTHING = "nothing"


class Field(msgspec.Struct, frozen=True):
    """One field of a map.

    source    the attribute of the outcome or answer (default: the field's name), dots descend
    constant  it always has this value
    """

    name: str
    kind: Kind
    summary: str
    nullable: bool = False
    source: str = ""
    constant: bytes | int | None = None

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
HELD = Reply(
    "held",
    Kind.MAP,
    "Somebody else has the lock. This is not an error.",
    (
        _status("held"),
        Field("owner", Kind.BULK, "Who has it."),
        Field("version", Kind.INTEGER, "The fencing version of that hold."),
        _TTL,
        _WAITERS,
        *_advice("advice."),
    ),
    ops.Held,
)
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
        Field("owner", Kind.BULK, "Who holds it; nil when it is only waited for.", nullable=True),
        Field("mode", Kind.BULK, "`exclusive`, `shared` or `semaphore`."),
        Field("version", Kind.INTEGER, "The fencing version of the hold."),
        Field("acquired_at", Kind.INTEGER, "When it was granted, in unix milliseconds."),
        Field("expires_at", Kind.INTEGER, "When it ends, in unix milliseconds; 0 is never."),
        Field("last_modified", Kind.INTEGER, "When it was last changed, in unix milliseconds."),
        _TTL,
        Field("limit", Kind.INTEGER, "How many may hold it at a time."),
        Field("waiter_count", Kind.INTEGER, "How many wait for it."),
        Field("metadata", Kind.MAP, "What META gave when it was acquired."),
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
        Field("refusals", Kind.INTEGER, "Tries that found the lock held, in total."),
        Field("releases", Kind.INTEGER, "Releases, in total."),
        Field("renewals", Kind.INTEGER, "Renewals, in total."),
        Field("expired", Kind.INTEGER, "Holds that ran out, in total."),
        Field("broken", Kind.INTEGER, "Locks that an operator took away, in total."),
        Field("last_version", Kind.INTEGER, "The highest fencing version given so far."),
        Field("clock_ms", Kind.INTEGER, "The replicated clock, in milliseconds."),
    ),
    ops.Stats,
)
