"""Throw mutated requests at a real server, and look whether it stays what it was.

    python -m tests.attacks.fuzz --inputs 100000 --seed 7

Input number n of a seed is always the same bytes, cut in the same places: `--only n` sends that one
alone. For each input a new connection is made; what must hold:

- the server ends the connection once it has answered and we send no more (no hang);
- everything that it sent is whole replies, and an error is one line;
- the same bytes in other pieces get as many replies;
- another client is served all the time, memory and log stay bounded (`Server.watched`).
"""

from __future__ import annotations

import argparse
import random
import select
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis

from resplock.resp.commands import COMMANDS
from tests.attacks.server import DEADLINE_S, Server, array
from tests.replies import parse_replies

NEVER = {b"SHUTDOWN", b"KILL", b"PAUSE", b"FLUSHALL", b"FLUSHDB"}
"""Words of commands that would end the server or the connections that look after it, make others wait,
or take their locks away."""

WORDS = [
    *(b"TTL", b"WAIT", b"META", b"REQUEST", b"VERSION", b"VERSIONS", b"MATCH", b"CURSOR", b"COUNT"),
    *(b"OWNER", b"HELD", b"EXPIRES", b"BEFORE", b"AFTER", b"ON", b"OFF", b"SKIP", b"AUTH", b"ID"),
    *(b"a", b"b", b"me", b"{t}a", b"", b"*", b"?", b"[", b"\\", b"[^", b"0", b"1", b"-1", b"00"),
    *(b"3", b"2", b"16", b"500", b"86400001", b"9223372036854775807", b"9223372036854775808"),
    *(b"1e3", b"+1", b" 1", b"1.5", b"\0", b"\r\n", b"\xff\xfe", b"x" * 200, b"y" * 1_100),
]
PIECES = [
    *(b"*%d\r\n" % count for count in (-2, -1, 0, 1, 2, 3, 10, 1_024, 1_025, 2**31, 2**63 - 1)),
    *(b"$%d\r\n" % size for size in (-2, -1, 0, 1, 4, 1_024, 65_536, 65_537, 2**31, 2**63 - 1)),
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"*",
        b"$",
        b"'",
        b'"',
        b"*01\r\n",
        b"$+4\r\n",
        b"* 1\r\n",
    ),
    *(b"+OK\r\n", b"-ERR x\r\n", b":1\r\n", b"_\r\n", b"#t\r\n", b",1\r\n", b"(1\r\n", b">2\r\n"),
    *(b"%1\r\n", b"~1\r\n", b"|1\r\n", b"=4\r\ntxt:\r\n", b"!1\r\nx\r\n", b"GET / HTTP/1.1\r\n"),
    *(b"\x16\x03\x01", b"PING\r\n", b"ECHO 'a", b'"\\x41"', b"*1\r\n$4\r\nPING\r\n", b"x" * 3_000),
]


def calls() -> list[list[bytes]]:
    """The name of every command that may be called, in words."""
    names = [
        [word.encode() for word in each.words]
        for command in COMMANDS.values()
        for each in command.walk()
    ]
    return [words for words in names if not NEVER & set(words)]


CALLS = calls()


def command(rng: random.Random) -> bytes:
    """A call of a random command with random arguments, mostly well formed."""
    words = list(rng.choice(CALLS))
    if rng.random() < 0.3:
        words = [word.lower() for word in words]
    words += rng.choices(WORDS, k=rng.randrange(6))
    if rng.random() < 0.1:
        return b" ".join(words) + b"\r\n"
    return array(*words)


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One small change."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.randrange(1, 20))
    match rng.randrange(7):
        case 0:
            return data[:at] + rng.randbytes(rng.randrange(1, 5)) + data[at:]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:at] + data[at:to] * rng.randrange(2, 50) + data[to:]
        case 3:
            return data[:at] + rng.choice(PIECES) + data[at:]
        case 4:
            return data[:at] + rng.choice(PIECES) + data[to:]
        case 5:
            return data[:at]
        case _:
            flipped = bytearray(data)
            for place in range(at, min(to, len(data)), 5):
                flipped[place] ^= 1 << rng.randrange(8)
            return bytes(flipped)


def make(rng: random.Random) -> bytes:
    """One input: commands and noise, then changed a few times."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(1, 3_000))
    parts = []
    for _ in range(rng.randrange(1, 8)):
        usual = rng.random() < 0.85
        parts.append(command(rng) if usual else rng.choice(PIECES) * rng.choice([1, 1, 1, 9, 300]))
    data = b"".join(parts)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        data = mutate(rng, data)
    upper = data.upper()
    for word in NEVER:
        if word in upper:
            return array(b"PING")
    return data


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 1, 2, 5])))
    pieces = [
        data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)
    ]
    return [piece for piece in pieces if piece]


class Finding(Exception):
    """The server did what it must not do."""


def converse(server: Server, pieces: list[bytes]) -> tuple[list[object], bool]:
    """Every reply to these bytes, and whether the server may have thrown some away by a reset."""
    with server.connect() as link:
        link.socket.setsockopt(6, 1, 1)  # TCP_NODELAY: each piece by itself
        was_reset = False
        received = b""
        for piece in pieces:
            link.push(piece)
        link.shut()
        deadline = time.monotonic() + DEADLINE_S
        while True:
            readable, _, _ = select.select([link.socket], [], [], deadline - time.monotonic())
            if not readable:
                raise Finding("it neither answers nor closes")
            try:
                data = link.socket.recv(1 << 20)
            except ConnectionResetError:
                was_reset = True
                break
            if not data:
                break
            received += data
    return replies_in(received, whole=not was_reset), was_reset


def replies_in(received: bytes, *, whole: bool) -> list[object]:
    """Every reply, checked. `whole`: half a reply at the end is a finding too."""
    try:
        replies, is_whole = parse_replies(received)
    except hiredis.ProtocolError as error:
        raise Finding(f"its replies are not RESP: {error}: {received[-200:]!r}") from error
    if whole and not is_whole:
        raise Finding(f"half a reply: {received[-200:]!r}")
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError) and set("\r\n\0") & set(str(reply)):
            raise Finding(f"an error of several lines: {reply!s}")
    return replies


def attack(server: Server, seed: int, number: int) -> None:
    """Send one input, twice. Raises Finding."""
    rng = random.Random(f"{seed}/{number}")
    data = make(rng)
    pieces, others = cut(rng, data), cut(rng, data)
    try:
        replies, was_reset = converse(server, pieces)
        if number % 4 == 0:
            again, was_reset_again = converse(server, others)
            if not (was_reset or was_reset_again) and len(again) != len(replies):
                raise Finding(f"{len(replies)} replies, in other pieces {len(again)}")
    except (Finding, OSError) as error:
        raise Finding(f"seed {seed}, input {number}, {pieces!r}: {error}") from error


def campaign(server: Server, seed: int, numbers: range, *, grows_mb_max: float = 64) -> None:
    """Attack with many inputs. Raises Finding or AssertionError at the first that succeeds."""
    for begin in range(numbers.start, numbers.stop, 1_000):
        with server.watched(grows_mb_max=grows_mb_max, lines_max=4):
            for number in range(begin, min(begin + 1_000, numbers.stop)):
                attack(server, seed, number)


def progress(numbers: range) -> Iterator[range]:
    """The numbers in parts, with a line about each."""
    begun = time.monotonic()
    for begin in range(numbers.start, numbers.stop, 10_000):
        part = range(begin, min(begin + 10_000, numbers.stop))
        yield part
        sys.stdout.write(f"{part.stop} inputs, {time.monotonic() - begun:.0f} s\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz a server of its own.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send only this input")
    options = parser.parse_args()
    numbers = range(options.inputs)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    with (
        tempfile.TemporaryDirectory(prefix="resplock-fuzz-") as directory,
        Server(Path(directory)) as server,
    ):
        try:
            for part in progress(numbers):
                campaign(server, options.seed, part)
        except (Finding, AssertionError) as found:
            sys.exit(f"found: {found}\n{server.log[-2_000:]}")


if __name__ == "__main__":
    main()
