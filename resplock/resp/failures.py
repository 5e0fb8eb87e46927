"""Error replies: every code that a client may meet, what it means and what to do about it.

Pure, and only data. `replies.py` words the ones that outcomes become; the others are raised as
CommandError. Clients retry some of Redis's codes by themselves, with the command unchanged: such a
code is given only when the command certainly had no effect.
"""

import msgspec


class ErrorCode(msgspec.Struct, frozen=True):
    """The first word of an error reply. `later`: no command gives it in this version."""

    code: str
    meaning: str
    remedy: str
    later: bool = False


ERRORS: dict[str, ErrorCode] = {
    error.code: error
    for error in (
        ErrorCode(
            "ERR",
            "The command or an argument is wrong. The text names the argument, its range and what "
            "was given.",
            "Correct the call. Nothing was done.",
        ),
        ErrorCode(
            "NOTHELD",
            "Nobody holds the lock: it was released, it ran out, or it never was.",
            "Treat the lock as lost. Acquire it again, and expect a new version.",
        ),
        ErrorCode(
            "NOTOWNER",
            "Somebody else holds the lock. The text names the holder and the version.",
            "Treat the lock as lost.",
        ),
        ErrorCode(
            "STALE",
            "The VERSION that was given is not the hold's: the same owner has acquired it anew.",
            "The hold that you mean is lost. Drop it, or look with LOCK.GET.",
        ),
        ErrorCode(
            "INDOUBT",
            "The command was proposed, and its fate is unknown: the leader was lost.",
            "Ask again with the same REQUEST id, or look with LOCK.GET. Do not take it for a "
            "failure.",
        ),
        ErrorCode(
            "CLUSTERDOWN",
            "There is no leader. The command was certainly not proposed.",
            "Try again after a pause.",
        ),
        ErrorCode(
            "BUSY",
            "A bound or a rate limit was reached. Nothing was done; the text names the bound.",
            "Try again after a pause.",
        ),
        ErrorCode(
            "LOADING",
            "This node is starting and has not caught up yet.",
            "Try again after a pause, or ask another node.",
        ),
        ErrorCode(
            "MOVED",
            "This node does not lead and is set to redirect: slot and address of the leader.",
            "Ask there. Cluster-aware clients do so by themselves.",
        ),
        ErrorCode(
            "NOQUORUM",
            "This node knows of too few nodes that work to elect a leader.",
            "Start the others, or look at their network.",
        ),
        ErrorCode(
            "NOSCRIPT",
            "No script with this SHA1 is known: it was never loaded, or it has been forgotten.",
            "Send its source with EVAL. Nothing was done.",
        ),
        ErrorCode(
            "EXECABORT",
            "A command was refused when it was queued, so EXEC has run none of them.",
            "Correct the command that was refused. Nothing was done.",
        ),
        ErrorCode("NOAUTH", "A password is required.", "AUTH or HELLO with AUTH first."),
        ErrorCode(
            "WRONGPASS", "The user or the password is wrong.", "Correct it; nothing has changed."
        ),
        ErrorCode("NOPERM", "This user may not run the command.", "Use another user.", later=True),
        ErrorCode(
            "NOPROTO", "HELLO asked for a version of the protocol other than 2 or 3.", "Use these."
        ),
        ErrorCode(
            "NOTWAITING",
            "The owner has no place in the queue.",
            "Nothing: it was granted, it ran out, or it never was.",
        ),
        ErrorCode("QUEUEFULL", "The lock's queue is full.", "Try again after a pause."),
        ErrorCode(
            "DEADLOCK",
            "Waiting would close a cycle of owners that wait for each other. The text names it.",
            "Release something, then try again.",
        ),
        ErrorCode(
            "UNBLOCKED",
            "The wait was ended by CLIENT UNBLOCK or LOCK.CANCEL, or taken over by the same owner's "
            "second ask.",
            "Ask again if you still want the lock.",
        ),
        ErrorCode(
            "WRONGTYPE",
            "A string command on a shared lock or a semaphore.",
            "Use the LOCK commands on it.",
        ),
    )
}
"""Every code of an error reply, in the order of the reference page."""
