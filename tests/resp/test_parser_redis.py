"""The request parser against a real Redis: the same bytes, the same commands, the same errors.

Where ours is stricter on purpose, `test_where_it_is_stricter` shows both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock.resp.parser import Parser
from tests.redis_process import RedisProcess
from tests.replies import parse_replies
from tests.resp.test_parser import Commands, array, parse

budget = settings(max_examples=max(200, settings().max_examples))

ARGV = b"return ARGV"
"""EVAL with this script replies the arguments that Redis parsed."""


class Redis:
    """A redis-server whose replies are given parsed."""

    def __init__(self) -> None:
        self.process = RedisProcess()

    def answer(self, data: bytes) -> list[object]:
        """Every reply to these bytes. Redis has answered them when it sees that we send no more."""
        replies, whole = parse_replies(self.process.answer(data))
        assert whole
        return replies


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.process.stop()


def framing(replies: list[object]) -> tuple[list[object], str | None]:
    """Tell the protocol error, which can only come last, from the replies ahead of it."""
    if replies and isinstance(replies[-1], hiredis.ReplyError):
        text = str(replies[-1])
        if text.startswith("ERR Protocol error: "):
            return replies[:-1], text.removeprefix("ERR ")
    return replies, None


def check_reply(command: list[bytes], reply: object) -> None:
    """Whether a reply is the one to this command, as far as the command's reply tells."""
    name = command[0].upper()
    if name == b"PING" and len(command) <= 2:
        assert reply == (command[1] if len(command) == 2 else b"PONG")
    elif name == b"ECHO" and len(command) == 2:
        assert reply == command[1]
    elif name == b"EVAL" and command[1:3] == [ARGV, b"0"]:
        assert reply == command[3:]
    elif name != b"EVAL":  # a mutated script may reply anything
        assert isinstance(reply, hiredis.ReplyError)


def check(redis: Redis, data: bytes) -> None:
    """Compare commands and error. Redis may be ahead of us only where we are stricter."""
    parser = Parser()
    commands, error = parse([data], parser)
    replies, their_error = framing(redis.answer(data))
    assert len(replies) >= len(commands)
    for command, reply in zip(commands, replies, strict=False):
        check_reply(command, reply)
    if error is None:
        # Redis takes CR and any other byte for the end of a header; ours waits, for some bytes more.
        waiting = data[len(data) - parser.buffered :]
        if not re.match(rb"(?s)\*.*\r[^\n]", waiting):
            assert len(replies) == len(commands)
            assert their_error is None
    elif not stricter(data, error):
        assert len(replies) == len(commands)
        assert their_error == error


def stricter(data: bytes, error: str) -> bool:
    """Whether this is an error that Redis may not have, or not yet, or words otherwise."""
    if "CRLF" in error or "NUL" in error or "HTTP" in error or "TLS" in error or "too big" in error:
        return True
    if "expected '$'" in error:
        # Redis looks at this byte once a CR has come, and writes CR and LF as blanks.
        begun = data[data.rfind(b"*") :].partition(b"\r\n")[2]
        return "\\x" in error or b"\r" not in begun or b"\0" in begun
    # It takes CR and any other byte for the end of a header, and stops looking at a NUL byte.
    return re.search(rb"\r[^\n]|\0", data) is not None or re.search(rb"\d{4}", data) is not None


# --- arrays --------------------------------------------------------------------------------------

arguments = st.one_of(
    st.binary(max_size=8), st.sampled_from([b"", b"\r\n", b"$4\r\nPING\r\n", b"x" * 2000])
)
requests = st.one_of(
    st.just(array(b"PING")),
    st.just(b"PING\r\n"),
    st.just(b"ECHO 'a b'\n"),
    st.sampled_from([b"\r\n", b" \n", b"*0\r\n", b"*-1\r\n", b"*-70\r\n"]),
    arguments.map(lambda argument: array(b"ECHO", argument)),
    st.lists(arguments, max_size=5).map(lambda argv: array(b"EVAL", ARGV, b"0", *argv)),
)
FRAGMENTS = [
    *(b"*1\r\n", b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"*-0\r\n", b"*01\r\n", b"*+1\r\n", b"*\r\n"),
    *(b"$4\r\n", b"$0\r\n", b"$1\r\n", b"$-1\r\n", b"$04\r\n", b"$+4\r\n", b"$\r\n", b"$4 \r\n"),
    *(b"\r\n", b"\r\n", b"\r", b"\n", b" ", b"'", b'"', b"\\", b"PING", b"PING\r\n", b"ECHO a\r\n"),
    *(b":1\r\n", b"+OK\r\n", b">3\r\n", b"%1\r\n", b"#f\r\n", b"=8\r\ntxt:PING\r\n", b"_\r\n"),
    *(b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = b"".join(draw(st.lists(requests, min_size=1, max_size=6)))
    for _ in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 3)))
        data = data[:begin] + draw(st.sampled_from([b"", *FRAGMENTS])) + data[end:]
    return data


@budget
@given(st.lists(requests, max_size=20).map(b"".join))
def test_valid_streams(redis: Redis, data: bytes) -> None:
    assert parse([data])[1] is None
    check(redis, data)


@budget
@given(st.one_of(mutated(), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join)))
def test_mutated_streams(redis: Redis, data: bytes) -> None:
    check(redis, data)


@pytest.mark.parametrize("count", [b"", b"-", b"+1", b"01", b"-0", b"1 ", b"0", b"-1", b"-5", b"x"])
def test_spelling_of_headers(redis: Redis, count: bytes) -> None:
    check(redis, b"*%b\r\n" % count + array(b"PING"))
    check(redis, b"*1\r\n$%b\r\n\r\n" % count + array(b"PING"))


@pytest.mark.parametrize(
    "number", [2**31, 2**32 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1]
)
def test_numbers_at_the_edges(redis: Redis, number: int) -> None:
    for data in (b"*%d\r\n" % number, b"*1\r\n$%d\r\n" % number):
        ours, theirs = parse([data + array(b"PING")]), framing(redis.answer(data + array(b"PING")))
        assert ours[1] == theirs[1]
        assert len(ours[0]) == len(theirs[0])


# --- inline commands -----------------------------------------------------------------------------

INLINE_FRAGMENTS = [
    *(b" ", b" ", b"\t", b"\r", b"\x0b", b"\x0c", b"a", b"bc", b"n", b"x", b"*", b"\xff"),
    *(b"'", b"'", b'"', b'"', b"\\", b"\\'", b'\\"', b"\\n", b"\\x4", b"\\x41", b"\\xfg", b"\\\\"),
]
inline_text = st.lists(st.sampled_from(INLINE_FRAGMENTS), max_size=12).map(b"".join)


@settings(max_examples=max(400, settings().max_examples))
@given(inline_text, st.sampled_from([b"\n", b"\r\n"]))
def test_inline_quotes_and_escapes(redis: Redis, text: bytes, end: bytes) -> None:
    data = b"EVAL '%b' 0 %b%b" % (ARGV, text, end) + array(b"PING")
    commands, error = parse([data])
    replies, their_error = framing(redis.answer(data))
    assert error == their_error
    assert len(commands) == len(replies)
    for command, reply in zip(commands, replies, strict=True):
        check_reply(command, reply)


@pytest.mark.parametrize("text", [b"a\x0bb", b"a\x0c", b"\x0ca", b"a\r", b"\\n", b"''", b"a\r\r"])
def test_inline_blanks(redis: Redis, text: bytes) -> None:
    check(redis, b"ECHO %b\r\n" % text + array(b"PING"))


# --- the differences -----------------------------------------------------------------------------

Outcome = tuple[Commands, str | None]


@pytest.mark.parametrize(
    ("data", "theirs", "ours"),
    [
        (b"*1\r\n$4\r\nPINGXX", [b"PONG"], "expected CRLF after bulk"),
        (b"*1\rX$4\r\nPING\r\n", [b"PONG"], "invalid multibulk length"),
        (b"*1\r\n$4\rXPING\r\n", [b"PONG"], "invalid bulk length"),
        (b"PING\0\r\n", [], "NUL byte in inline request"),
        (b"*1025\r\n", [], "invalid multibulk length"),
        (b"*1\r\n$65537\r\n", [], "invalid bulk length"),
        (b"*1\n$4\nPING\n" + b" " * 30, [], "too big mbulk count string"),
        (b"*1\r\nP", [], "expected '$', got 'P'"),
        (b"POST / HTTP/1.1\r\n", [], "this port speaks RESP, not HTTP"),
        (b"Host: a\r\n", [], "this port speaks RESP, not HTTP"),
        (b"\x16\x03\x01", [], "TLS handshake on a port that does not expect TLS"),
    ],
)
def test_where_it_is_stricter(redis: Redis, data: bytes, theirs: list[object], ours: str) -> None:
    assert redis.answer(data) == theirs
    assert parse([data]) == ([], "Protocol error: " + ours)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_redis_runs_what_follows_these_http_requests(redis: Redis, method: bytes) -> None:
    data = method + b" / HTTP/1.1\r\n" + array(b"PING")
    assert redis.answer(data)[-1] == b"PONG"
    assert parse([data])[0] == []


def test_before_auth(redis: Redis) -> None:
    redis.answer(array(b"CONFIG", b"SET", b"requirepass", b"secret"))
    try:
        for data in (b"*11\r\n", b"*1\r\n$16385\r\n"):
            _, their_error = framing(redis.answer(data))
            assert parse([data], Parser(authenticated=False)) == ([], their_error)
        auth = array(b"AUTH", b"secret")
        big = array(b"EVAL", ARGV, b"0", *[b"x" * 2000] * 12)
        assert redis.answer(auth + big) == [b"OK", [b"x" * 2000] * 12]
    finally:
        redis.answer(array(b"AUTH", b"secret") + array(b"CONFIG", b"SET", b"requirepass", b""))
