"""CLIENT REPLY, RESET and QUIT against a real Redis: the same bytes, the same replies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.redis_process import RedisProcess
from tests.server.fakes import FakeServer, array

budget = settings(max_examples=max(150, settings().max_examples))


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


CALLS = [
    *([b"CLIENT", b"REPLY", mode] for mode in (b"ON", b"OFF", b"SKIP", b"SKIP", b"skip")),
    [b"CLIENT", b"REPLY"],
    [b"PING"],
    [b"ECHO", b"x"],
    [b"NOSUCH", b"a", b"b"],
    [b"ECHO"],
    [b"CLIENT", b"GETNAME"],
    [b"CLIENT", b"SETNAME", b"joe"],
    [b"CLIENT", b"NOSUCH"],
    [b"SELECT", b"1"],
    [b"SELECT", b"99"],
    [b"RESET"],
]
END = array(b"CLIENT", b"REPLY", b"ON") + array(b"ECHO", b"end") + array(b"QUIT")


def ours(requests: list[bytes]) -> bytes:
    server = FakeServer()
    client = server.connect()
    for request in requests:
        client.send(request)
        server.loop.run()
    return client.received


@budget
@given(calls=st.lists(st.sampled_from(CALLS), max_size=12))
def test_client_reply_is_that_of_redis(redis: RedisProcess, calls: list[list[bytes]]) -> None:
    requests = [*(array(*argv) for argv in calls), END]
    expected = redis.answer(b"".join(requests))
    assert ours(requests) == expected
    assert ours([b"".join(requests)]) == expected


@pytest.mark.parametrize(
    "calls",
    [
        [[b"CLIENT", b"REPLY", b"SKIP"], [b"QUIT"]],
        [[b"CLIENT", b"REPLY", b"OFF"], [b"QUIT"]],
        [[b"QUIT"], [b"PING"]],
        [[b"CLIENT", b"REPLY", b"SKIP"], [b"RESET"], [b"PING"], [b"QUIT"]],
    ],
)
def test_quit_is_that_of_redis(redis: RedisProcess, calls: list[list[bytes]]) -> None:
    requests = [array(*argv) for argv in calls]
    assert ours([b"".join(requests)]) == redis.answer(b"".join(requests))
