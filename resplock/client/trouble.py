"""What an error says about the command that met it: was it carried out, and is it worth asking again?

Pure. redis-py turns some error codes into classes, and leaves others in the text.
"""

from __future__ import annotations

from enum import Enum, auto

from redis import exceptions

_NOTHING_DONE = frozenset(
    {"CLUSTERDOWN", "LOADING", "BUSY", "NOQUORUM", "MASTERDOWN", "TRYAGAIN", "READONLY", "MOVED"}
)
_NOT_YOURS = frozenset({"NOTHELD", "NOTOWNER", "STALE"})


class Unsent(Exception):
    """The command was not sent. `error` is why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


TROUBLE = (Unsent, exceptions.RedisError, OSError)
"""Whatever a command may meet."""


class Verdict(Enum):
    """What is known about a command that met an error."""

    NOTHING_DONE = auto()
    """It was not carried out, and may be sent again."""
    IN_DOUBT = auto()
    """Nobody knows. It may be sent again if that has no second effect."""
    NOT_YOURS = auto()
    """The hold that it was about is gone."""
    QUEUE_FULL = auto()
    """Too many wait. It may be sent again as a new request."""
    UNBLOCKED = auto()
    """Somebody has ended the wait."""
    DEADLOCK = auto()
    """Waiting would close a cycle."""
    FINAL = auto()
    """The command or its sender is wrong."""


_BY_CODE = {
    **dict.fromkeys(_NOTHING_DONE, Verdict.NOTHING_DONE),
    **dict.fromkeys(_NOT_YOURS, Verdict.NOT_YOURS),
    "INDOUBT": Verdict.IN_DOUBT,
    "QUEUEFULL": Verdict.QUEUE_FULL,
    "UNBLOCKED": Verdict.UNBLOCKED,
    "DEADLOCK": Verdict.DEADLOCK,
}


def judge(error: Exception) -> Verdict:
    """What the error means."""
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return Verdict.FINAL
        case Unsent():
            return Verdict.FINAL if judge(error.error) is Verdict.FINAL else Verdict.NOTHING_DONE
        case exceptions.BusyLoadingError():
            return Verdict.NOTHING_DONE
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            return Verdict.IN_DOUBT
        case exceptions.ClusterDownError() | exceptions.MovedError() | exceptions.TryAgainError():
            return Verdict.NOTHING_DONE
        case exceptions.MasterDownError() | exceptions.ReadOnlyError():
            return Verdict.NOTHING_DONE
        case exceptions.ResponseError():
            return _BY_CODE.get(code_of(error), Verdict.FINAL)
        case _:
            return Verdict.FINAL


def code_of(error: Exception) -> str:
    """The first word of an error reply whose code has no class of its own in redis-py."""
    return str(error).partition(" ")[0]


def cause_of(error: Exception) -> Exception:
    """The error to show."""
    return error.error if isinstance(error, Unsent) else error


def is_of_node(error: exceptions.ResponseError) -> bool:
    """Whether another node may answer differently."""
    return judge(error) in (Verdict.NOTHING_DONE, Verdict.IN_DOUBT)


def no_reply(command: object, patience_s: float) -> exceptions.TimeoutError:
    """The reply has not come in time."""
    return exceptions.TimeoutError(f"no reply to {command} within {patience_s:g} s")
