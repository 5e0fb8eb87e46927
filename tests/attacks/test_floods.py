"""More than anybody could want: commands, replies, connections, passwords."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from resplock import limits
from tests.attacks.server import DEADLINE_S, LATENCY_S_MAX, Link, Server, array, eventually

LARGE_OWNER = b"o" * limits.OWNER_BYTES_MAX


@pytest.fixture(scope="module")
def full(server: Server) -> Server:
    """The server with some thousand locks whose listing takes megabytes."""
    with server.connect() as link:
        calls = [
            array(b"LOCK.ACQUIRE", b"full:%d" % number, LARGE_OWNER) for number in range(2_000)
        ]
        link.send(b"".join(calls))
        for _ in calls:
            link.read()
    return server


class Reader(threading.Thread):
    """Reads what the server sends on a link, as fast as it comes."""

    def __init__(self, link: Link) -> None:
        super().__init__(daemon=True)
        self.received = 0
        self._link = link
        self.start()

    def run(self) -> None:
        try:
            while data := self._link.socket.recv(1 << 20):
                self.received += len(data)
        except OSError:
            pass  # the server has closed it


FLOODS = {
    "PING": b"PING\r\n" * 300_000,
    "PING as an array": array(b"PING") * 100_000,
    "COMMAND": b"COMMAND\r\n" * 20_000,
    "COMMAND DOCS": array(b"COMMAND", b"DOCS") * 1_000,
    "INFO": b"INFO\r\n" * 10_000,
    "CLIENT LIST": b"CLIENT LIST\r\n" * 10_000,
    "CONFIG GET": b"CONFIG GET *\r\n" * 10_000,
    "unknown commands": b"x\r\n" * 200_000,
    "unknown commands with arguments": array(b"x" * 100, *[b"y" * 100] * 9) * 5_000,
    "large echoes": array(b"ECHO", b"x" * 65_536) * 200,
    "LOCK.GET": array(b"LOCK.GET", b"full:1") * 20_000,
    "LOCK.LIST": array(b"LOCK.LIST", b"COUNT", b"1000") * 500,
    "refusals with large owners": array(b"LOCK.ACQUIRE", b"full:1", b"me") * 20_000,
    "wrong numbers of arguments": array(b"LOCK.ACQUIRE") * 50_000,
    "small letters": array(b"lock.renew", b"a", b"b") * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_client_that_does_not_read(full: Server, flood: bytes) -> None:
    with full.watched(grows_mb_max=24), full.connect() as link:
        taken = link.push(flood, patience_s=0.1)
        assert taken > 0
        link.reset()


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_client_that_reads(full: Server, flood: bytes) -> None:
    """A client that pipelines without end, and takes every reply, does not keep the others waiting."""
    with full.watched(grows_mb_max=40) as bystander, full.connect() as link:
        reader = Reader(link)
        begun = bystander.rounds
        sender = threading.Thread(target=link.push, args=(flood, 5.0), daemon=True)
        sender.start()
        eventually(lambda: bystander.rounds >= begun + 5, "another client is not served")
        link.socket.shutdown(socket.SHUT_RDWR)
        sender.join(DEADLINE_S)
        reader.join(DEADLINE_S)
        assert reader.received > 0


def test_many_clients_that_do_not_read_large_pages(full: Server) -> None:
    page = array(b"LOCK.LIST", b"COUNT", b"1000") * 5
    links = [full.connect() for _ in range(30)]
    with full.watched(grows_mb_max=30 * 2 + 20):
        for link in links:
            link.send(page)
        for link in links:
            assert link.socket.recv(4) == b"*2\r\n"
    for link in links:
        link.reset()
    eventually(lambda: full.clients <= 1, "connections are left over")


def test_pipelined_commands_without_auth(guarded: Server) -> None:
    """CVE-2025-21605: every refusal was kept for a client that never read one."""
    flood = b"PING\r\n" * 3_000_000
    with guarded.watched(grows_mb_max=12), guarded.connect() as link:
        assert link.push(flood, patience_s=0.1) < len(flood)
        link.reset()


def test_refusals_that_are_read(guarded: Server) -> None:
    with guarded.watched(grows_mb_max=12), guarded.connect() as link:
        reader = Reader(link)
        link.push(b"PING\r\n" * 50_000)
        link.shut()
        reader.join(DEADLINE_S)
        assert reader.received == 50_000 * len(b"-NOAUTH Authentication required.\r\n")


def test_guessing_passwords_fills_no_log(guarded: Server) -> None:
    with guarded.watched(grows_mb_max=8, lines_max=2):
        for _ in range(20):
            with guarded.connect() as link:
                guesses = [array(b"AUTH", b"guess%d" % number) for number in range(200)]
                link.send(b"".join(guesses))
                for _ in guesses:
                    assert isinstance(link.read(), hiredis.ReplyError)
    assert guarded.log.count("wrong user or password") == 1
    assert "guess" not in guarded.log


def test_connections_that_are_reset_at_once(server: Server) -> None:
    """Their sockets have no peer name any more when the server looks at them."""
    with server.watched(grows_mb_max=8):
        for _ in range(300):
            server.connect().reset()
        for _ in range(100):
            link = server.connect()
            link.send(b"*3\r\n$12\r\nLOCK.ACQUIRE\r\n")
            link.reset()
    eventually(lambda: server.clients <= 1, "connections are left over")


def test_nonsense_from_a_thousand_connections_fills_no_log(server: Server) -> None:
    with server.watched(grows_mb_max=8, lines_max=1):
        for number in range(1_000):
            with server.connect() as link:
                link.push(b"*%d nonsense\r\n" % number)
                link.shut()
                link.drain()


def test_an_owner_with_many_holds(tmp_path: Path) -> None:
    """A KEEPALIVE costs as much as the owner has holds; a pipeline of them is one entry to apply."""
    with Server(tmp_path) as server, server.connect() as link:
        calls = [array(b"LOCK.ACQUIRE", b"%d" % number, b"holder") for number in range(10_000)]
        for begin in range(0, len(calls), 500):
            link.send(b"".join(calls[begin : begin + 500]))
            for _ in range(500):
                link.read()
        with server.watched(latency_s_max=1):
            link.send(array(b"LOCK.KEEPALIVE", b"holder") * 100)
            for _ in range(100):
                assert link.read() == 10_000


def test_it_stops_in_good_order_whoever_is_connected(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        for flood in (FLOODS["COMMAND"], FLOODS["large echoes"], b"*1\r\n$4\r\nPI"):
            server.connect().push(flood, patience_s=0.05)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < LATENCY_S_MAX
    assert server.process.returncode == 0


# --- connections up to the limit -----------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, "--maxclients", "100") as server:
        yield server


def fill(small: Server, count: int) -> tuple[list[Link], list[Link]]:
    """Open connections; those that were admitted, and those that were refused."""
    links = [small.connect() for _ in range(count)]
    admitted, refused = [], []
    for link in links:
        link.push(array(b"PING"))
        try:
            reply = link.read()
        except ConnectionError:
            reply = None
        (admitted if reply == b"PONG" else refused).append(link)
        if reply != b"PONG":
            assert reply is None or "max number of clients" in str(reply)
    return admitted, refused


def test_maxclients_is_all_and_comes_back(small: Server) -> None:
    with small.watched(grows_mb_max=8, lines_max=2):
        admitted, refused = fill(small, 250)
        assert (len(admitted), len(refused)) == (99, 151)  # and one works all the time
        for link in [*admitted, *refused]:
            link.close()
        eventually(lambda: small.clients == 1, "connections are left over")
        admitted, refused = fill(small, 50)
        assert not refused
        for link in admitted:
            link.close()


def test_half_open_connections(small: Server) -> None:
    """Clients that have shut down one side, or vanished in the middle of a command."""
    with small.watched(grows_mb_max=8, lines_max=2):
        for _ in range(3):
            links = [small.connect() for _ in range(90)]
            for number, link in enumerate(links):
                link.push(array(b"LOCK.ACQUIRE", b"%d" % number, b"me") + b"*2\r\n$4\r\n")
                link.shut()
            for link in links:
                assert b"granted" in link.drain()
                link.close()
            eventually(lambda: small.clients == 1, "connections are left over")


@pytest.mark.parametrize("descriptors", [160, 300])
def test_running_out_of_file_descriptors(tmp_path: Path, descriptors: int) -> None:
    """The log needs some for its own files: clients are refused before there are none left."""
    with (
        Server(tmp_path, constants={"descriptors": descriptors}) as small,
        small.watched(grows_mb_max=16, lines_max=6),
        small.connect() as keeper,
    ):
        assert keeper.call(b"PING") == b"PONG"
        links = []
        for _ in range(3):
            links += [small.connect() for _ in range(descriptors)]
            # It needs new files; and a lock is still granted, and durable.
            assert keeper.call(b"RAFT.SNAPSHOT")[0] == b"index"
            keeper.call(b"LOCK.BREAK", b"kept")
            assert keeper.call(b"LOCK.ACQUIRE", b"kept", b"me")[1] == b"granted"
        for link in links:
            link.close()
        eventually(lambda: small.clients <= 2, "connections are left over")
        assert "client refused" in small.log
        assert "fewer clients than maxclients" in small.log


def test_many_busy_connections_and_none_waits_long(server: Server) -> None:
    links = [server.connect() for _ in range(400)]
    with server.watched(grows_mb_max=32):
        for link in links:
            link.send(array(b"PING") * 200)
        waiting = {link.socket: link for link in links}
        received = dict.fromkeys(waiting, 0)
        while waiting:
            readable, _, _ = select.select(list(waiting), [], [], DEADLINE_S)
            assert readable, "some are never answered"
            for each in readable:
                received[each] += len(each.recv(65_536))
                if received[each] == 200 * len(b"+PONG\r\n"):
                    del waiting[each]
    for link in links:
        link.close()
