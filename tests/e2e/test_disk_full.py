"""A disk that fills up while the server runs: it ends at once and says why; nothing that it has
acknowledged is lost, and with room it goes on."""

from __future__ import annotations

import resource

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.load import holds_of
from tests.e2e.process import ServerProcess, limited
from tests.e2e.wire import Closed, by_field

MEGABYTE = 1 << 20
OWNER = "o" * 4_000
"""Long, so that the disk fills up soon. The log's files have up to 8 MB each."""
BATCH = 50


def fill(server: ServerProcess, locks_max: int) -> dict[str, int]:
    """Take locks until the connection ends; returns the versions that were acknowledged."""
    granted: dict[str, int] = {}
    with server.wire() as wire:
        try:
            while len(granted) < locks_max:
                keys = [f"k{len(granted) + number}" for number in range(BATCH)]
                replies = wire.pipeline(*[("LOCK.ACQUIRE", key, OWNER, "TTL", 0) for key in keys])
                for key, reply in zip(keys, map(by_field, replies), strict=True):
                    granted[key] = reply["version"]
        except (Closed, ConnectionError):
            return granted
    raise AssertionError(f"{locks_max} locks found room")


def ended_for_want_of_room(server: ServerProcess, what: str) -> None:
    """The process has ended with a message and with status 1."""
    assert server.wait() == 1
    messages = [line for line in server.log().splitlines() if line.startswith("resplock: ")]
    assert len(messages) == 1
    assert str(server.data_dir) in messages[0]
    assert what in messages[0]
    assert "The disk is full: free some space and start again" in messages[0]
    server.assert_clean_log()


@pytest.mark.parametrize(
    ("snapshot_entries", "most", "what"),
    [(1_000_000, 2 * MEGABYTE, "cannot write to the log"), (6_000, 20 * MEGABYTE, "the snapshot")],
    ids=["by the log", "by a snapshot"],
)
def test_it_ends_and_goes_on_with_room(
    make_server: MakeServer, snapshot_entries: int, most: int, what: str
) -> None:
    server = make_server(f"--snapshot-entries={snapshot_entries}").start()
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))
    granted = fill(server, 20_000)
    assert len(granted) > 300
    ended_for_want_of_room(server, what)
    server.start()
    held = {key: hold.version for key, hold in holds_of(server).items()}
    assert granted.items() <= held.items()
    assert len(held) <= len(granted) + BATCH, "only what was under way may be there too"
    assert by_field(server.call("LOCK.ACQUIRE", "next", "me"))["version"] > max(held.values())


def test_a_start_without_room(make_server: MakeServer) -> None:
    server = make_server(through=limited(4096))
    server.begin()
    ended_for_want_of_room(server, "cannot")
    server.through = ()
    assert server.start().call("PING") == "PONG"
