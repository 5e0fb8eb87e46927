"""Clients that take their time, with deadlines lowered so that the test need not take its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from resplock import limits
from tests.attacks.conftest import PASSWORD
from tests.attacks.server import Link, Server, array, eventually

SWEEP_S = 0.05
DEADLINES = {
    "limits.PARTIAL_COMMAND_MS_MAX": 400,
    "limits.UNAUTHENTICATED_MS_MAX": 400,
    "limits.OUTPUT_BUFFER_BYTES_MAX": limits.OUTPUT_PAUSE_BYTES,
    "limits.UNREAD_MS_MAX": 400,
    "limits.CLIENTS_BYTES_MAX": 24 << 20,
    "clients._CHARGED_BYTES_MAX": 4 << 20,
    "clients._SWEEP_EVERY_S": SWEEP_S,
}


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose deadlines are short."""
    with Server(tmp_path_factory.mktemp("hurried"), constants=DEADLINES) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that also asks for a password."""
    directory = tmp_path_factory.mktemp("guarded")
    with Server(directory, constants=DEADLINES, password=PASSWORD) as server:
        yield server


def trickle(links: list[Link], piece: bytes) -> None:
    """Send a piece on every link now and then, until all of them were closed."""
    left = list(links)
    pause = threading.Event()

    def all_closed() -> bool:
        left[:] = [link for link in left if not link.closed]
        for link in left:
            link.push(piece, patience_s=0)
        pause.wait(SWEEP_S)
        return not left

    eventually(all_closed, "a connection that never finishes its command is still open")


@pytest.mark.parametrize(
    "begun",
    [
        b"*2\r\n$4\r\nECHO\r\n$60000\r\n",
        b"*1000\r\n",
        b"*3\r\n$12\r\nLOCK.ACQUIRE\r\n$1",
        b"PI",
        b"*",
    ],
)
def test_slow_loris(hurried: Server, begun: bytes) -> None:
    """Bytes that come one by one keep no connection open."""
    with hurried.watched(grows_mb_max=8, lines_max=2):
        links = [hurried.connect() for _ in range(40)]
        for link in links:
            link.send(begun)
        trickle(links, b"1")
        eventually(lambda: hurried.clients == 1, "connections are left over")


def test_slow_loris_before_auth(guarded: Server) -> None:
    with guarded.watched(grows_mb_max=8, lines_max=2):
        links = [guarded.connect() for _ in range(40)]
        for link in links:
            link.send(b"*1\r\n$4\r\nPING\r\n")
        trickle(links, b"*1\r\n$4\r\nPING\r\n")


def test_a_patient_client_is_left_alone(guarded: Server) -> None:
    silent, member, working = (guarded.connect() for _ in range(3))
    member.call(b"AUTH", PASSWORD)
    working.call(b"AUTH", PASSWORD)
    other = guarded.connect()
    other.send(b"*1\r\n")
    working.send(b"*1\r\n$4\r\nPI")
    working.send(b"NG\r\n")
    eventually(lambda: other.closed, "a deadline was not kept")
    assert working.read() == b"PONG"
    assert member.call(b"PING") == b"PONG"
    assert silent.call(b"AUTH", PASSWORD) == b"OK"


def test_one_that_never_reads_much(hurried: Server) -> None:
    with hurried.connect() as link:
        link.call(b"LOCK.ACQUIRE", b"large", b"o" * limits.OWNER_BYTES_MAX)
    with hurried.watched(grows_mb_max=40, lines_max=3), hurried.connect() as link:
        link.push(array(b"LOCK.ACQUIRE", b"large", b"me") * 30_000, patience_s=0.1)
        eventually(lambda: hurried.clients == 1, "it is still connected")


READ_AHEAD_MB = 96
"""What a turn of the loop may read, and the allocator keep, before the bound is looked at again.
Without the bound these two grow by more than 150 and 400 MB."""


def test_large_commands_that_many_begin_and_nobody_ends(hurried: Server) -> None:
    """Each is within its bounds; together they may not take more than CLIENTS_BYTES_MAX."""
    large = array(b"INFO", *[b"x" * 60_000] * 17)[:-1]
    with hurried.watched(grows_mb_max=24 + READ_AHEAD_MB, lines_max=4):
        links = [hurried.connect() for _ in range(150)]
        for link in links:
            link.push(large)
        eventually(lambda: hurried.clients <= 30, "they are still connected")


def test_large_replies_that_many_ask_for_and_nobody_reads(hurried: Server) -> None:
    with hurried.connect() as link:
        for number in range(300):
            link.call(b"LOCK.ACQUIRE", b"page:%d" % number, b"o" * limits.OWNER_BYTES_MAX)
    with hurried.watched(grows_mb_max=24 + READ_AHEAD_MB, lines_max=4):
        for _ in range(60):
            hurried.connect().push(array(b"LOCK.LIST", b"COUNT", b"1000") * 8)
        eventually(lambda: hurried.clients == 1, "they are still connected")
