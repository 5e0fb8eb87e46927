"""Subscriptions against a real Redis: the same calls, the same bytes, in both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.redis_process import RedisProcess
from tests.replies import parse_replies
from tests.server.fakes import FakeServer, array

budget = settings(max_examples=max(200, settings().max_examples))

NAMES = (b"a", b"b", b"a*", b"", b"[ab]")


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


SUBSCRIBING = st.tuples(
    st.sampled_from(
        [
            *(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE"),
            *(b"SSUBSCRIBE", b"SUNSUBSCRIBE"),
        ]
    ),
    st.lists(st.sampled_from(NAMES), max_size=3),
).map(lambda call: [call[0], *call[1]])
OTHERS = st.sampled_from(
    [
        [b"PING"],
        [b"ping", b"x"],
        [b"ECHO", b"x"],
        [b"ECHO"],
        [b"NOSUCH"],
        [b"SELECT", b"1"],
        [b"CLIENT", b"GETNAME"],
        [b"RESET"],
        [b"CLIENT", b"REPLY", b"SKIP"],
        [b"CLIENT", b"REPLY", b"OFF"],
        [b"CLIENT", b"REPLY", b"ON"],
        [b"PUBSUB", b"NUMSUB", b"a", b"b"],
        [b"PUBSUB", b"NUMSUB"],
        [b"PUBSUB", b"NUMPAT"],
        [b"PUBSUB", b"CHANNELS", b"b"],
        [b"PUBSUB", b"SHARDNUMSUB", b"a", b"b"],
        [b"PUBSUB", b"SHARDCHANNELS", b"b"],
    ]
)
END = [[b"RESET"], [b"ECHO", b"end"], [b"QUIT"]]


def in_any_order(received: bytes) -> list[Any]:
    """The replies; what one UNSUBSCRIBE ends is sorted, because Redis has it in a hash's order."""
    replies, whole = parse_replies(received)
    assert whole
    begin = 0
    for end in range(1, len(replies) + 1):
        if end == len(replies) or kind_of(replies[end]) != kind_of(replies[begin]):
            if kind_of(replies[begin]) in (b"unsubscribe", b"punsubscribe", b"sunsubscribe"):
                names = sorted(reply[1] or b"" for reply in replies[begin:end])
                for reply, name in zip(replies[begin:end], names, strict=True):
                    reply[1] = name
            begin = end
    return [str(each) if isinstance(each, hiredis.ReplyError) else each for each in replies]


def kind_of(reply: Any) -> Any:
    return reply[0] if isinstance(reply, list) and reply else None


def ours(requests: list[bytes]) -> bytes:
    server = FakeServer()
    client = server.connect()
    for request in requests:
        client.send(request)
        server.loop.run()
    return client.received


@budget
@given(protocol=st.sampled_from([b"2", b"3"]), calls=st.lists(SUBSCRIBING | OTHERS, max_size=12))
def test_subscribing_is_that_of_redis(
    redis: RedisProcess, protocol: bytes, calls: list[list[bytes]]
) -> None:
    # What HELLO itself answers is another test's.
    hello = array(b"CLIENT", b"REPLY", b"SKIP") + array(b"HELLO", protocol)
    requests = [hello, *(array(*argv) for argv in calls + END)]
    expected = redis.answer(b"".join(requests))
    received = ours(requests)
    assert len(received) == len(expected)
    assert in_any_order(received) == in_any_order(expected)
    assert ours([b"".join(requests)]) == received


@pytest.mark.parametrize("protocol", [b"2", b"3"])
def test_messages_are_those_of_redis(redis: RedisProcess, protocol: bytes) -> None:
    hello = array(b"CLIENT", b"REPLY", b"SKIP") + array(b"HELLO", protocol)
    subscribe = array(b"SUBSCRIBE", b"news", b"other") + array(b"PSUBSCRIBE", b"n*", b"o?her", b"x")
    server = FakeServer()
    client = server.connect()
    client.send(hello, subscribe)
    server.loop.run()
    with redis.connect() as link, redis.connect() as publisher:
        link.sendall(hello + subscribe)
        received = b""
        for channel, text in [
            (b"news", b"hi"),
            (b"n", b""),
            (b"nobody", b"x"),
            (b"other", b"\r\n"),
        ]:
            while len(received) < len(client.received):
                received += link.recv(65_536)
            assert received == client.received
            publisher.sendall(array(b"PUBLISH", channel, text))
            sent = server.clients.pubsub.publish(channel, text)
            assert publisher.recv(100) == b":%d\r\n" % sent
        link.sendall(array(b"QUIT"))
        while part := link.recv(65_536):
            received += part
    client.call(b"QUIT")
    server.loop.run()
    assert received == client.received
