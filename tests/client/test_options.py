"""What a lock can be told, and how it becomes words of a command."""

from __future__ import annotations

from typing import Any

import pytest

from resplock.client.options import read_options
from tests.client.fakes import FakeLock, FakeRuntime, granted


def sent(**options: Any) -> str:
    runtime = FakeRuntime(granted())
    FakeLock(runtime, **options).acquire(blocking=False)
    return runtime.sent[0]


def test_they_become_words() -> None:
    assert sent(priority=-3, delay=1.5, metadata={"host": "web-1"}) == (
        "LOCK.ACQUIRE lock me TTL 30000 REQUEST r1 PRIORITY -3 DELAY 1500 META 1 host web-1"
    )


def test_what_is_the_default_is_not_sent() -> None:
    assert sent(priority=0, delay=0, metadata={}) == sent()


def test_the_words_of_redis_py_mean_the_same() -> None:
    assert sent(timeout=2.5) == sent(ttl=2.5)
    assert sent(timeout=None) == sent(ttl=None) == "LOCK.ACQUIRE lock me TTL 0 REQUEST r1"


def test_a_ttl_is_never_rounded_to_none() -> None:
    assert "TTL 1 " in sent(ttl=0.0001)


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan")])
def test_a_ttl_that_is_none(ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl must be a positive number of seconds, or None"):
        read_options(ttl, {})


def test_an_argument_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="a lock has no argument 'blocking_time'"):
        read_options(30.0, {"blocking_time": 3})
