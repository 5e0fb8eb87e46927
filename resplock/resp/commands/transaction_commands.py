"""MULTI and its relatives: several commands as one command of the log.

Pure, and only data.
"""

from __future__ import annotations

from resplock import limits
from resplock import operations as ops
from resplock.resp import shapes
from resplock.resp.arguments import Key
from resplock.resp.command import Command, Flag, Group, Meets
from resplock.resp.shapes import Kind, Reply

_FLAGS = (Flag.NOSCRIPT, Flag.LOADING, Flag.STALE)
_FAST_FLAGS = (*_FLAGS, Flag.FAST, Flag.ALLOW_BUSY)

COMMANDS = (
    Command(
        name="MULTI",
        summary="Begins a transaction: what follows is queued until EXEC.",
        group=Group.TRANSACTIONS,
        flags=_FAST_FLAGS,
        replies=(shapes.OK,),
        details=(
            (
                "A command that is queued answers `+QUEUED`. One that does not exist, has the wrong "
                "number of arguments or may not be queued gets its error at once, and EXEC then runs "
                "none of them; every other error is an element of EXEC's reply, as in Redis."
            ),
            (
                "What may be queued: all commands on keys and scripts, and PING, ECHO, SELECT, HELLO, "
                "AUTH, TIME, INFO, ROLE, COMMAND, CONFIG GET, LOCK.HELP, READONLY, READWRITE, ASKING "
                "and most of CLIENT. DISCARD, RESET and QUIT are run at once. A transaction does not "
                "wait: LOCK.ACQUIRE and LOCK.MACQUIRE with WAIT, and LOCK.ENQUEUE, are refused, and "
                "so are subscriptions and whatever else answers later."
            ),
            (
                f"At most {limits.TRANSACTION_COMMANDS_MAX} commands of "
                f"{limits.TRANSACTION_BYTES_MAX >> 20} MiB together, "
                f"{limits.TRANSACTION_ARGUMENT_BYTES} bytes counted for each argument besides its "
                f"own, and at most {limits.TRANSACTION_SLOW_MAX} of those that are usually alone in "
                "an entry, such as LOCK.KEEPALIVE and LOCK.LIST."
            ),
        ),
    ),
    Command(
        name="EXEC",
        summary="Runs what was queued since MULTI, unless a watched key has changed.",
        complexity="Depends on the commands",
        group=Group.TRANSACTIONS,
        meets=Meets.PROPOSE,
        builds=ops.Execute,
        flags=(*_FLAGS, Flag.SKIP_SLOWLOG),
        replies=(
            Reply("replies", Kind.ARRAY, "The reply to each command.", of=ops.Executed),
            Reply("nil", Kind.NIL, "A watched key has changed: nothing was done.", of=ops.Executed),
        ),
        errors=("EXECABORT",),
        details=(
            (
                "It is one command of the log: either all of it takes effect or nothing, on all nodes, "
                "at one moment, also when the leader is lost meanwhile; `-INDOUBT` when it is not known "
                "which. Commands about the connection are run by the node that was asked, when the "
                "outcome is known. All keys are unwatched, whatever the reply."
            ),
            (
                "Commands behind the first "
                f"{limits.TRANSACTION_REPLY_BYTES_MAX >> 20} MiB of replies, or behind "
                f"{limits.TRANSACTION_STEPS_PER_ENTRY} commands and keys that they name, are not run, "
                "and say so."
            ),
        ),
    ),
    Command(
        name="DISCARD",
        summary="Gives up a transaction, and unwatches all keys.",
        group=Group.TRANSACTIONS,
        flags=_FAST_FLAGS,
        replies=(shapes.OK,),
    ),
    Command(
        name="WATCH",
        summary="Makes EXEC do nothing if one of these keys changes meanwhile.",
        complexity="O(1) for each key",
        group=Group.TRANSACTIONS,
        meets=Meets.PROPOSE,
        builds=ops.Watch,
        flags=_FAST_FLAGS,
        arguments=(Key(name="key", field="names", multiple=True, summary="They need not exist."),),
        replies=(Reply("ok", Kind.SIMPLE, "OK, when it took effect.", of=ops.Watched),),
        key_flags=("RO",),
        details=(
            (
                "A key changes with every grant, renewal and end, whoever asked for it, by time too; also "
                "when it is as before in the end, as a key that was deleted and set again. Who waits in "
                "line does not change it."
            ),
            (
                f"A connection watches at most {limits.WATCHED_PER_CONNECTION} keys. The log counts the "
                f"changes of the {limits.WATCHED_MAX} keys that were watched last: a transaction that "
                "relies on another one is given up."
            ),
        ),
    ),
    Command(
        name="UNWATCH",
        summary="Unwatches all keys.",
        group=Group.TRANSACTIONS,
        flags=_FAST_FLAGS,
        replies=(shapes.OK,),
    ),
)
