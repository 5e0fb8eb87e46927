"""Bytes that are no commands: lengths, nesting, other protocols, endless lines."""

from __future__ import annotations

import random

import pytest

from tests.attacks.server import Server, array

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))
MILLION = 1_000_000

BOMBS = {
    "push of 100 million": b">100000000\r\n",
    "array of 100 million": b"*100000000\r\n",
    "array of 1000 million": b"*1000000000\r\n",
    "array of 2^31": b"*2147483648\r\n",
    "array of 2^63-1": b"*9223372036854775807\r\n",
    "array of 2^63": b"*9223372036854775808\r\n",
    "array just above the bound": b"*1025\r\n",
    "bulk of 2^63-1": b"*1\r\n$9223372036854775807\r\n",
    "bulk of 512 MB": b"*1\r\n$536870912\r\n",
    "bulk just above the bound": b"*1\r\n$65537\r\n",
    "negative bulk": b"*1\r\n$-1\r\n",
    "bare bulk": b"$9223372036854775807\r\n" + b"x" * MILLION,
    "nested arrays": b"*1\r\n" * MILLION,
    "nested large arrays": b"*1024\r\n*1024\r\n" * 8,
    "a map with an array for a key": b"%1\r\n*1\r\n$1\r\na\r\n:1\r\n",
    "a boolean": b"*1\r\n#f\r\n",
    "a set": b"~100000000\r\n" + b"\n" * 100,
    "an attribute": b"|100000000\r\n",
    "a count without an end": b"*" + b"1" * 8 * MILLION,
    "a length without an end": b"*1\r\n$" + b"1" * 8 * MILLION,
    "a line without an end": b"x" * 8 * MILLION,
    "a line of NULs": b"\0" * 8 * MILLION,
    "a bulk that CRLF does not end": b"*1\r\n$4\r\nPINGXX*1\r\n$4\r\nPING\r\n",
    "a command of 64 MB": b"*1024\r\n" + b"$65536\r\n%b\r\n" % (b"x" * 65_536) * 1_024,
    "HTTP GET": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP POST": b"POST /x HTTP/1.1\r\nContent-Length: 20\r\n\r\nLOCK.BREAK bystander\r\n",
    "a Host header": b"PING\r\nHost: localhost\r\nLOCK.BREAK bystander\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": TLS_HELLO,
    "unbalanced quotes": b'ECHO "a\r\n',
    "noise": random.Random(1).randbytes(MILLION),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused(server: Server, bomb: bytes) -> None:
    with server.watched():
        with server.connect() as link:
            taken = link.push(bomb)
            link.shut()
            replies = link.drain()
        # When it was closed with bytes of ours under way, the system may have thrown the text away.
        assert replies or len(bomb) > 100_000
        assert all(line.startswith((b"-ERR ", b"+PONG")) for line in replies.splitlines())
        assert replies.count(b"Protocol error") <= 1
        assert taken <= max(len(bomb), 4 * MILLION)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_the_same_before_auth(guarded: Server, bomb: bytes) -> None:
    with guarded.watched(grows_mb_max=8), guarded.connect() as link:
        link.push(bomb)
        link.shut()
        link.drain()


@pytest.mark.parametrize(
    "nothing",
    [b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n", b" \t\r\n", b"*0\r\n\r\n*-1\r\n \r\n", b"*-5\r\n\n"],
)
@pytest.mark.parametrize("which", ["server", "guarded"])
def test_requests_that_ask_nothing(
    request: pytest.FixtureRequest, which: str, nothing: bytes
) -> None:
    """Valkey 9.0 crashed on a request behind an empty one, before AUTH (CVE-2026-27623)."""
    attacked: Server = request.getfixturevalue(which)
    with attacked.watched(grows_mb_max=8), attacked.connect() as link:
        link.push(nothing * (2 * MILLION // len(nothing)))
        link.send(array(b"PING") + nothing + array(b"QUIT"))
        replies = link.drain()
    assert replies == (b"+PONG\r\n" if which == "server" else NOAUTH) + b"+OK\r\n"


NOAUTH = b"-NOAUTH Authentication required.\r\n"


def test_large_commands_within_the_bounds_are_served(server: Server) -> None:
    with server.watched(), server.connect() as link:
        assert link.call(b"ECHO", b"x" * 65_536) == b"x" * 65_536
        assert link.call(b"INFO", *[b"x" * 1_000] * 1_023) == b""
        pairs = [b"f%d" % number for number in range(33)]
        assert "META" in str(link.call(b"LOCK.ACQUIRE", b"a", b"me", b"META", b"33", *pairs * 2))


def test_many_arguments_in_one_line(server: Server) -> None:
    with server.watched(), server.connect() as link:
        link.send(b"INFO " + b"x " * 30_000 + b"\r\n")
        assert b"Protocol error" in link.drain()
