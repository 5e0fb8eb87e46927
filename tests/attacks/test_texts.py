"""A client's bytes inside texts: they may not become replies, log lines, or endless work."""

from __future__ import annotations

from pathlib import Path

import hiredis
import pytest

from resplock import limits
from tests.attacks.server import Link, Server, array
from tests.replies import parse_replies

INJECTIONS = [
    b"a\r\n+OK\r\n",
    b"a\r\n:1\r\n$-1\r\n",
    b"\r\n\r\n",
    b"\0\0\0",
    b"a\nb",
    b"\x1b[2J\x1b]0;title\x07",
    bytes(range(256)),
    b"%s%n{0}{}%d",
    "\u2028\u202e\U0001f512".encode(),
    b"x" * 65_000,
    b"\xff\xfe" * 500,
]


def every_use(text: bytes) -> list[list[bytes]]:
    """Calls with the text wherever a client may put one."""
    return [
        [text],
        [b"CLIENT", text],
        [b"CONFIG", text],
        [b"COMMAND", text],
        [b"COMMAND", b"DOCS", text],
        [b"COMMAND", b"GETKEYS", text, text],
        [b"PING", text, text],
        [b"LOCK.ACQUIRE", text, text],
        [b"LOCK.ACQUIRE", text, b"other"],
        [b"LOCK.ACQUIRE", b"k", b"o", text],
        [b"LOCK.ACQUIRE", b"k", b"o", b"TTL", text],
        [b"LOCK.ACQUIRE", b"k", b"o", b"META", b"1", text, text],
        [b"LOCK.RELEASE", text, b"other"],
        [b"LOCK.RELEASE", text + b"?", b"other"],
        [b"LOCK.RELEASE", text, text, b"VERSION", b"1"],
        [b"LOCK.GET", text, text],
        [b"LOCK.LIST", b"CURSOR", text],
        [b"LOCK.LIST", b"MATCH", text, b"OWNER", text],
        [b"LOCK.BREAK", text, b"REASON", text],
        [b"LOCK.KEEPALIVE", text, b"VERSIONS", b"1", text, text],
        [b"HELLO", b"3", b"SETNAME", text],
        [b"HELLO", text],
        [b"AUTH", text],
        [b"AUTH", text, text],
        [b"SELECT", text],
        [b"CLIENT", b"SETNAME", text],
        [b"CLIENT", b"SETINFO", b"LIB-NAME", text],
        [b"CLIENT", b"KILL", text],
        [b"CLIENT", b"REPLY", text],
        [b"CONFIG", b"GET", text],
        [b"INFO", text],
    ]


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_a_text_stays_a_text(server: Server, text: bytes) -> None:
    with server.watched(grows_mb_max=16, lines_max=1):
        for argv in every_use(text):
            with server.connect() as link:
                link.send(array(*argv) + array(b"ECHO", b"end") + array(b"QUIT"))
                received = link.drain()
            replies, whole = parse_replies(received)
            assert whole, argv
            assert replies[1:] == [b"end", b"OK"], argv
            if isinstance(replies[0], hiredis.ReplyError):
                line = received.split(b"\r\n")[0]
                assert not set(line) & set(b"\r\n\0")
                assert len(line) <= 1 + 1_024
    assert text.strip()[:20].decode("latin-1") not in server.log or not text.strip()
    assert "\x1b" not in server.log


def test_what_one_client_calls_itself_is_no_line_of_client_list(server: Server) -> None:
    with server.connect() as evil, server.connect() as operator:
        evil.call(b"x\nid=1 addr=10.0.0.1:1 name=root")
        evil.call(b"CLIENT", b"SETNAME", b"a\nid=2 addr=10.0.0.1:1")
        evil.call(b"CLIENT", b"SETINFO", b"LIB-NAME", b"a\nid=3 addr=10.0.0.1:1")
        listed = operator.call(b"CLIENT", b"LIST")
    assert b"10.0.0.1" not in listed


# --- globs ---------------------------------------------------------------------------------------

NASTY = [
    b"*a" * 512,
    b"a*" * 512,
    b"*?" * 512,
    b"[^b]" * 256,
    b"*[a-z]" * 170,
    b"*" + b"?" * 500 + b"[^a]*x",
    b"\\" * 1024,
    b"[" * 1024,
    b"[\x00-\xff]" * 204,
    b"*" * 1024,
]


@pytest.fixture(scope="module")
def long_keys(server: Server) -> Server:
    """Some locks with keys as long as may be, made to match nearly."""
    with server.connect() as link:
        fill(link, b"long", 200)
    return server


def fill(link: Link, name: bytes, count: int) -> None:
    owner = b"a" * 1_000
    calls = [
        array(b"LOCK.ACQUIRE", b"a" * 1_000 + name + b"%d" % number, owner)
        for number in range(count)
    ]
    for begin in range(0, count, 100):
        link.send(b"".join(calls[begin : begin + 100]))
        for _ in calls[begin : begin + 100]:
            link.read()


def walk(link: Link, *filters: bytes) -> int:
    """List to the end; how many locks were found."""
    cursor, found = b"0", 0
    while True:
        cursor, locks = link.call(b"LOCK.LIST", b"CURSOR", cursor, *filters, b"COUNT", b"1000")
        found += len(locks)
        if cursor == b"0":
            return found


@pytest.mark.parametrize("glob", NASTY, ids=range(len(NASTY)))
def test_globs_that_take_long_elsewhere(long_keys: Server, glob: bytes) -> None:
    """CVE-2022-36021 and CVE-2024-31228."""
    with long_keys.watched(), long_keys.connect() as link:
        walk(link, b"MATCH", glob)
        walk(link, b"MATCH", b"*", b"OWNER", glob)
        link.send(array(b"LOCK.LIST", b"MATCH", glob, b"OWNER", glob) * 5)
        for _ in range(5):
            link.read()
        link.call(b"CONFIG", b"GET", glob)
        link.call(b"COMMAND", b"LIST", b"FILTERBY", b"PATTERN", glob)


def test_a_page_of_long_keys(tmp_path: Path) -> None:
    slow = b"*" + b"?" * 500 + b"[^b]*"  # matches after a quarter of a millisecond
    with Server(tmp_path) as server, server.connect() as link:
        fill(link, b"many", limits.LIST_LOOKED_AT_MAX)
        with server.watched(latency_s_max=1):
            link.call(b"LOCK.LIST", b"MATCH", slow, b"OWNER", slow + b"x")


def test_globs_that_are_too_long(server: Server) -> None:
    with server.connect() as link:
        for argv in (
            (b"LOCK.LIST", b"MATCH"),
            (b"LOCK.LIST", b"OWNER"),
            (b"CONFIG", b"GET"),
            (b"COMMAND", b"LIST", b"FILTERBY", b"PATTERN"),
        ):
            reply = link.call(*argv, b"*" * (limits.PATTERN_BYTES_MAX + 1))
            assert isinstance(reply, hiredis.ReplyError), argv


def test_a_thousand_globs_at_once(server: Server) -> None:
    globs = [b"[\x01-\xfe]" * 200 + b"%d" % number for number in range(1_000)]
    with server.watched(latency_s_max=1), server.connect() as link:
        link.call(b"CONFIG", b"GET", *globs)


def test_a_thousand_names_at_once(server: Server) -> None:
    with server.watched(), server.connect() as link:
        for argv in ([b"COMMAND", b"DOCS"], [b"COMMAND", b"INFO"]):
            link.call(*argv, *[b"client"] * 1_000)
            link.call(*argv, *[b"nosuch"] * 1_000)
