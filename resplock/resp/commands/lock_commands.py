"""LOCK.*: the commands of the lock table.

Pure, and only data.
"""

from resplock import limits
from resplock import operations as ops
from resplock.resp import shapes
from resplock.resp.arguments import (
    Argument,
    Block,
    Conflict,
    Count,
    Integer,
    Key,
    OneOf,
    Pattern,
    PureToken,
    Text,
)
from resplock.resp.command import Command, Flag, Group, Meets, Nested
from resplock.resp.shapes import Kind, Reply

KEY = Key(name="key", summary="The lock.")
OWNER = Text(
    name="owner",
    summary="Who asks: any bytes that no other client uses, such as a random id.",
    least=1,
    most=limits.OWNER_BYTES_MAX,
)
_WATCH_FLAGS = (Flag.PUBSUB, Flag.NOSCRIPT, Flag.LOADING, Flag.STALE)
_KEYS_MAX = limits.ARGUMENTS_MAX // 2
"""The parser's bound on the arguments of a command comes first."""


def _ttl(absent: str) -> Integer:
    return Integer(
        name="ms",
        token="TTL",
        field="ttl_ms",
        most=limits.TTL_MS_MAX,
        unit="milliseconds",
        note="0 = no expiry",
        optional=True,
        cached=True,
        absent=absent,
        summary="How long the hold lasts without a renewal.",
    )


def _version(summary: str) -> Integer:
    return Integer(
        name="version",
        token="VERSION",
        least=1,
        most=limits.VERSION_MAX,
        optional=True,
        absent="any version",
        summary=summary,
    )


def _metadata(summary: str) -> Block:
    return Block(
        name="metadata",
        token="META",
        optional=True,
        counted=Count(0, limits.METADATA_PAIRS_MAX),
        unique=True,
        summary=summary,
        arguments=(
            Text(name="field", least=1, most=limits.METADATA_KEY_BYTES_MAX),
            Text(name="value", most=limits.METADATA_VALUE_BYTES_MAX),
        ),
    )


_TTL = _ttl(absent=str(limits.TTL_MS_DEFAULT))
_TTL_KEPT = _ttl(absent="the TTL that the hold has")
_REQUEST = Text(
    name="id",
    token="REQUEST",
    field="request",
    least=1,
    most=limits.REQUEST_BYTES_MAX,
    optional=True,
    summary="Makes a retry safe: the same owner and id get the same answer, with one effect. "
    "Refusals are remembered too: a new attempt needs a new id.",
)


def _wait(summary: str, *, least: int = 0, note: str = "", absent: str) -> Integer:
    return Integer(
        name="ms",
        token="WAIT",
        field="wait_ms",
        least=least,
        most=limits.WAIT_MS_MAX,
        unit="milliseconds",
        note=note,
        optional=True,
        cached=True,
        absent=absent,
        summary=summary,
    )


_WAIT = _wait(
    "How long to wait in the queue for a lock that is not to be had now. The connection is blocked "
    "meanwhile: what is sent behind runs afterwards.",
    note="0 = do not wait",
    absent="0",
)
_PLACE_WAIT = _wait(
    "How long the place lasts, unless the same owner asks again.",
    least=1,
    absent=str(limits.WAIT_MS_MAX),
)
_PRIORITY = Integer(
    name="n",
    token="PRIORITY",
    field="priority",
    least=limits.PRIORITY_MIN,
    most=limits.PRIORITY_MAX,
    optional=True,
    absent="0",
    summary="The place in the queue: higher first, then first come, first served. A try without "
    "WAIT passes only waiters of lower priority.",
)
_ONCLOSE = OneOf(
    name="onclose",
    token="ONCLOSE",
    field="on_close",
    flag="RELEASE",
    optional=True,
    absent="KEEP",
    summary="What happens to the hold when the connection closes.",
    arguments=(
        PureToken(name="release", token="RELEASE"),
        PureToken(name="keep", token="KEEP"),
    ),
)
_MODES: tuple[Argument, ...] = (
    PureToken(
        name="shared",
        token="SHARED",
        optional=True,
        summary="Hold it together with other shared holds, as a reader.",
    ),
    Block(
        name="semaphore",
        optional=True,
        token="LIMIT",
        summary="Make it a semaphore: up to n permits, of which this hold takes k. The first hold "
        "sets the limit.",
        arguments=(
            Integer(name="n", field="limit", known_as="LIMIT", least=1, most=limits.LIMIT_MAX),
            Integer(
                name="k",
                token="PERMITS",
                field="permits",
                least=1,
                most=limits.LIMIT_MAX,
                note="at most LIMIT",
                at_most="limit",
                optional=True,
                absent="1",
            ),
        ),
    ),
    PureToken(
        name="reentrant",
        token="REENTRANT",
        optional=True,
        summary="Count the holds of the same owner; RELEASE counts them down.",
    ),
)
_CONFLICTS = (
    Conflict("SHARED", "LIMIT", "a lock is held by readers or as a semaphore, not as both"),
    Conflict("SHARED", "REENTRANT", "only exclusive holds are counted"),
    Conflict("LIMIT", "REENTRANT", "only exclusive holds are counted"),
)
_DELAY = Integer(
    name="ms",
    token="DELAY",
    field="delay_ms",
    unit="milliseconds",
    most=limits.TTL_MS_MAX,
    optional=True,
    absent="0",
    summary="When the hold ends without a RELEASE (it expires, is broken, or its connection "
    "closes), nobody is granted the lock for so long.",
)


def _acquire_arguments(wait: Integer) -> tuple[Argument, ...]:
    return (
        KEY,
        OWNER,
        _TTL,
        wait,
        _PRIORITY,
        *_MODES,
        _REQUEST,
        _ONCLOSE,
        _DELAY,
        _metadata("Fields to keep with the hold and to find it by."),
    )


_CLOSED_WHILE_WAITING = (
    "A connection that closes while it waits gives its place up at once; with REQUEST its owner may "
    f"ask again for it, on any connection, within {limits.WAITER_GRACE_MS} ms. An owner has one place "
    "in a queue: who asks a second time takes it over, with the new WAIT, and the connection that "
    "waited is answered UNBLOCKED."
)
_QUEUE_ERRORS = ("QUEUEFULL", "DEADLOCK", "UNBLOCKED")

COMMANDS = (
    Command(
        name="LOCK.ACQUIRE",
        summary="Takes a lock, or extends it when its owner asks again.",
        details=(
            "A lock that somebody else holds is no error: the reply says who has it, and advises.",
            "Its owner, asking again, gets the same version, and the TTL is never shortened.",
            (
                "With WAIT it blocks until the lock is granted or the time is up. Nobody passes: a try "
                "or a late waiter never overtakes one of equal or higher priority, also when the lock "
                "is free at that moment."
            ),
            _CLOSED_WHILE_WAITING,
            (
                "Send the version along with each write to what the lock protects, and let that "
                "refuse a version lower than one it has seen: so a client that was paused past "
                "its TTL does no harm."
            ),
        ),
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.FAST, Flag.BLOCKING),
        arguments=_acquire_arguments(_WAIT),
        builds=ops.Acquire,
        nested=Nested("options", ops.Options),
        conflicts=_CONFLICTS,
        replies=(shapes.GRANTED, shapes.HELD, shapes.TIMEOUT, shapes.LOST),
        errors=_QUEUE_ERRORS,
    ),
    Command(
        name="LOCK.MACQUIRE",
        summary="Takes several locks, all or none, with one version for all.",
        complexity="O(N) where N is the number of keys",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.BLOCKING),
        arguments=(
            Key(
                name="key",
                field="names",
                counted=Count(1, limits.ACQUIRE_ALL_KEYS_MAX),
                unique=True,
                summary="The locks.",
            ),
            OWNER,
            _TTL,
            _WAIT,
            _PRIORITY,
            _REQUEST,
            _ONCLOSE,
        ),
        builds=ops.AcquireAll,
        nested=Nested("options", ops.Options),
        replies=(shapes.GRANTED, shapes.HELD, shapes.TIMEOUT, shapes.LOST),
        errors=_QUEUE_ERRORS,
        details=(
            (
                "One command takes them all at one moment, so that those who take several this way "
                "never wait for each other in a circle. A waiter has one place in all the queues, and "
                "is granted when it is first in each."
            ),
            "The holds are exclusive. Each is released, renewed and lost by itself.",
        ),
    ),
    Command(
        name="LOCK.RELEASE",
        summary="Gives a lock back.",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.FAST),
        arguments=(KEY, OWNER, _version("Only the hold with this fencing version.")),
        builds=ops.Release,
        replies=(shapes.RELEASED,),
        errors=("NOTHELD", "NOTOWNER", "STALE"),
    ),
    Command(
        name="LOCK.RENEW",
        summary="Sets the end of a hold to TTL from now, exactly; its version stays.",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.FAST),
        arguments=(KEY, OWNER, _version("Only the hold with this fencing version."), _TTL_KEPT),
        builds=ops.Renew,
        replies=(shapes.RENEWED,),
        errors=("NOTHELD", "NOTOWNER", "STALE"),
    ),
    Command(
        name="LOCK.KEEPALIVE",
        summary="Renews every hold of an owner.",
        complexity="O(N) where N is the number of holds of this owner",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE,),
        arguments=(
            OWNER,
            _TTL_KEPT,
            Block(
                name="versions",
                token="VERSIONS",
                optional=True,
                counted=Count(1, _KEYS_MAX),
                unique=True,
                summary="The holds that the owner believes it has, to learn which were lost.",
                arguments=(
                    Key(name="key"),
                    Integer(name="version", least=1, most=limits.VERSION_MAX),
                ),
            ),
        ),
        builds=ops.KeepAlive,
        replies=(shapes.KEPT, shapes.KEPT_LOST),
        details=(
            "An owner is the same in every database: its holds are renewed in all of them.",
            "The keys behind VERSIONS are of the connection's own database.",
        ),
    ),
    Command(
        name="LOCK.GET",
        summary="Shows a lock.",
        group=Group.LOCK,
        meets=Meets.READ,
        flags=(Flag.READONLY, Flag.FAST),
        arguments=(
            KEY,
            PureToken(
                name="waiters",
                token="WAITERS",
                optional=True,
                summary="Also show who waits, in the order of the queue.",
            ),
        ),
        builds=ops.GetLock,
        replies=(shapes.LOCK_INFO, shapes.NOT_THERE),
    ),
    Command(
        name="LOCK.LIST",
        summary="Lists the locks of this database, a page at a time.",
        details=(
            "Begin with cursor 0, and go on with the cursor of each page until it is 0 again.",
            "A lock that is there the whole time is listed exactly once, whatever else changes.",
        ),
        complexity="O(N) where N is the number of locks on a page; a page is bounded",
        group=Group.LOCK,
        meets=Meets.READ,
        flags=(Flag.READONLY,),
        arguments=(
            Text(
                name="cursor",
                token="CURSOR",
                least=1,
                most=4 * limits.KEY_BYTES_MAX,
                optional=True,
                absent="0",
                summary="What the last page gave, 0 to begin.",
            ),
            Pattern(
                name="glob",
                token="MATCH",
                field="match",
                optional=True,
                absent="any",
                summary="The keys to list.",
            ),
            Pattern(
                name="glob",
                token="OWNER",
                field="owner",
                optional=True,
                absent="any",
                summary="The owners whose locks to list.",
            ),
            PureToken(
                name="held", token="HELD", optional=True, summary="Only locks that are held."
            ),
            PureToken(
                name="contested",
                token="CONTESTED",
                optional=True,
                summary="Only locks that somebody waits for.",
            ),
            OneOf(
                name="expires",
                token="EXPIRES",
                optional=True,
                multiple=True,
                absent="any",
                summary="Only holds that end before or after a moment; both may be given.",
                arguments=(
                    Integer(
                        name="unix-ms",
                        token="BEFORE",
                        field="expires_before",
                        least=1,
                        unit="unix milliseconds",
                        unix_time=True,
                    ),
                    Integer(
                        name="unix-ms",
                        token="AFTER",
                        field="expires_after",
                        least=1,
                        unit="unix milliseconds",
                        unix_time=True,
                    ),
                ),
            ),
            _metadata("Only locks with all these fields in their metadata."),
            Integer(
                name="n",
                token="COUNT",
                field="count",
                least=1,
                most=limits.LIST_COUNT_MAX,
                optional=True,
                cached=True,
                summary="How many locks a page has at most.",
            ),
        ),
        builds=ops.ListLocks,
        replies=(shapes.LOCK_PAGE,),
    ),
    Command(
        name="LOCK.ENQUEUE",
        summary="Takes a place in a lock's queue without blocking the connection.",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.FAST),
        arguments=_acquire_arguments(_PLACE_WAIT),
        builds=ops.Acquire,
        nested=Nested(
            "options",
            ops.Options,
            always={"blocking": False},
        ),
        conflicts=_CONFLICTS,
        replies=(shapes.GRANTED, shapes.QUEUED, shapes.TIMEOUT, shapes.LOST),
        errors=("QUEUEFULL", "UNBLOCKED"),
        details=(
            (
                "The grant comes by itself when its turn is there, with its TTL counted from then. It "
                "is seen as the event `acquired`, in LOCK.GET, and by LOCK.ACQUIRE of the same owner, "
                "which is granted the version."
            ),
            "A repeated REQUEST is told how its place has ended: granted, `timeout` or UNBLOCKED.",
        ),
    ),
    Command(
        name="LOCK.CANCEL",
        summary="Gives up a place in a lock's queue.",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.FAST),
        arguments=(KEY, OWNER),
        builds=ops.Cancel,
        replies=(shapes.CANCELLED,),
        errors=("NOTWAITING",),
        details=(
            (
                "A connection that is blocked in this place is answered UNBLOCKED. A grant that was made "
                "just before is not taken back: release it."
            ),
        ),
    ),
    Command(
        name="LOCK.BACKOFF",
        summary="Tells when to try again for a lock.",
        group=Group.LOCK,
        meets=Meets.READ,
        flags=(Flag.READONLY, Flag.FAST),
        arguments=(KEY,),
        builds=ops.GetBackoff,
        replies=(shapes.ADVICE,),
    ),
    Command(
        name="LOCK.CHECK",
        summary="Tells whether a fencing version is a lock's current grant.",
        details=(
            "For what the lock protects: has the client that sends this write still the lock?",
        ),
        group=Group.LOCK,
        meets=Meets.READ,
        flags=(Flag.READONLY, Flag.FAST),
        arguments=(
            KEY,
            Integer(
                name="version",
                least=1,
                most=limits.VERSION_MAX,
                summary="The fencing version to check.",
            ),
        ),
        builds=ops.CheckVersion,
        replies=(shapes.CHECKED,),
    ),
    Command(
        name="LOCK.BREAK",
        summary="Takes a lock away from whoever holds it, as an operator.",
        group=Group.LOCK,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE, Flag.ADMIN, Flag.FAST),
        arguments=(
            KEY,
            _version("Only the hold with this fencing version."),
            Text(
                name="text",
                token="REASON",
                field="reason",
                least=1,
                most=limits.REASON_BYTES_MAX,
                optional=True,
                summary="Why, for the event and the log.",
            ),
        ),
        builds=ops.Break,
        replies=(shapes.BROKEN,),
        errors=("NOTHELD", "STALE"),
    ),
    Command(
        name="LOCK.STATS",
        summary="Shows totals of the lock table.",
        group=Group.LOCK,
        meets=Meets.READ,
        flags=(Flag.READONLY, Flag.FAST),
        builds=ops.GetStats,
        replies=(shapes.STATS,),
    ),
    Command(
        name="LOCK.WATCH",
        summary="Tells this connection when a hold of an owner ends without its asking.",
        complexity="O(N) where N is the number of owners",
        group=Group.LOCK,
        flags=_WATCH_FLAGS,
        arguments=(
            Text(
                name="owner",
                field="owners",
                multiple=True,
                least=1,
                most=limits.OWNER_BYTES_MAX,
                summary=f"At most {limits.OWNERS_WATCHED_MAX} a connection.",
            ),
        ),
        replies=(Reply("count", Kind.INTEGER, "How many owners this connection watches."),),
        errors=("BUSY",),
        details=(
            (
                "For RESP3 only. A push comes for each hold that expires, is broken or deleted, or is "
                "released because its connection closed: `lock`, the kind of [event](#events), the "
                "database, the key, the owner, the version and the reason."
            ),
            (
                "A lock has been lost for a moment when the push arrives: what it protects is safe "
                "only if it refuses old versions. A connection that closes, or RESET, or HELLO 2, ends "
                "the watching."
            ),
        ),
    ),
    Command(
        name="LOCK.UNWATCH",
        summary="Stops to tell this connection of owners.",
        complexity="O(N) where N is the number of owners",
        group=Group.LOCK,
        flags=_WATCH_FLAGS,
        arguments=(
            Text(
                name="owner",
                field="owners",
                optional=True,
                multiple=True,
                most=limits.OWNER_BYTES_MAX,
                absent="all",
            ),
        ),
        replies=(Reply("count", Kind.INTEGER, "How many owners this connection still watches."),),
    ),
    Command(
        name="LOCK.HELP",
        summary="Lists the LOCK commands.",
        group=Group.LOCK,
        flags=(Flag.LOADING, Flag.STALE),
        replies=(shapes.HELP,),
    ),
)
