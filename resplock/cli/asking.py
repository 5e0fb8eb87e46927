"""Asking a running node how it is, through redis-py."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

Status: TypeAlias = dict[str, Any]
"""The reply to RAFT.STATUS, by field."""

_TIMEOUT_S = 2.0


class NoAnswer(Exception):
    """The node did not answer, or not with its status. The text says why, on one line."""


def ask_status(host: str, port: int, password: str = "") -> Status:
    """What a node says of itself, within seconds. Raises NoAnswer."""
    import redis  # this takes time and memory, which `serve` does not have to spend
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client: Any = redis.Redis(
        host,
        port,
        password=password or None,
        protocol=3,
        decode_responses=True,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        with client:
            return cast(Status, client.execute_command("RAFT.STATUS"))
    except redis.ConnectionError as error:
        raise NoAnswer(_reason(error)) from error
    except redis.TimeoutError as error:
        raise NoAnswer("no answer in time") from error
    except redis.RedisError as error:
        raise NoAnswer(str(error).replace("\n", " ")) from error


def _reason(error: Exception) -> str:
    """What the system said, without redis-py's frame round it."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(error).replace("\n", " ")
