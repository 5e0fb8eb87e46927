"""CLIENT REPLY, RESET and QUIT against a real Redis: the same bytes, the same replies."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.server.fakes import FakeServer, array
from tests.tools import find_tool

budget = settings(max_examples=max(150, settings().max_examples))


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


class Redis:
    """A redis-server of the tests' own, on a Unix socket."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "s")
        options = f"--port 0 --unixsocket {self.path} --dir {directory} --appendonly no --save"
        self.process = subprocess.Popen(
            [find_tool("redis-server"), *options.split(), ""], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        log = []
        for line in self.process.stdout:
            log.append(line)
            if "ready to accept connections" in line.lower():
                return
        pytest.fail("redis-server did not start:\n" + "".join(log))

    def answer(self, data: bytes) -> bytes:
        """What it replies to these bytes until it sees that no more come."""
        received = b""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(20)
            link.connect(self.path)
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while chunk := link.recv(65_536):
                received += chunk
        return received

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    # Not tmp_path: the path of a Unix socket may have about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="resplock-") as directory:
        server = Redis(Path(directory))
        yield server
        server.stop()


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
def test_client_reply_is_that_of_redis(redis: Redis, calls: list[list[bytes]]) -> None:
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
def test_quit_is_that_of_redis(redis: Redis, calls: list[list[bytes]]) -> None:
    requests = [array(*argv) for argv in calls]
    assert ours([b"".join(requests)]) == redis.answer(b"".join(requests))
