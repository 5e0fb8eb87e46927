"""Back-pressure and fairness: what one connection may hold back, and how long it may keep the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from resplock import limits
from tests.server.fakes import FakeClient, FakeServer, array

DEPTH = limits.PIPELINE_DEPTH_MAX
RENEW = array(b"LOCK.RENEW", b"a", b"me")


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def client(server: FakeServer) -> FakeClient:
    return server.connect()


# --- the pipeline's depth ------------------------------------------------------------------------


def test_no_more_than_the_depth_is_proposed(server: FakeServer, client: FakeClient) -> None:
    client.send(RENEW * (3 * DEPTH + 5))
    waited = []
    while server.engine.waiting:
        waited.append(len(server.engine.waiting))
        server.engine.answer()
        server.loop.run()
    assert waited == [DEPTH, DEPTH, DEPTH, 5]
    assert len(client.take()) == 3 * DEPTH + 5


def test_the_depth_is_kept_when_answers_trickle(server: FakeServer, client: FakeClient) -> None:
    client.send(RENEW * (2 * DEPTH))
    while server.engine.waiting:
        assert len(server.engine.waiting) <= DEPTH
        server.engine.answer(100)
        server.loop.run()
    assert len(client.take()) == 2 * DEPTH


def test_reading_stops_at_the_query_buffer_and_nothing_is_lost(
    server: FakeServer, client: FakeClient
) -> None:
    chunk = RENEW * 2_000
    chunks = 2 * limits.QUERY_BUFFER_BYTES_MAX // len(chunk) + 10
    for _ in range(chunks):
        client.send(chunk)
    assert not client.transport.reading
    assert client.transport.held_back > 0
    assert client.connection.unparsed <= limits.QUERY_BUFFER_BYTES_MAX + len(chunk)
    server.settle()
    assert client.transport.reading
    assert client.transport.held_back == 0
    assert len(client.take()) == chunks * 2_000


def test_reading_goes_on_while_a_large_command_comes_in(
    server: FakeServer, client: FakeClient
) -> None:
    """A single command may be larger than the query buffer: nothing would end it otherwise."""
    arguments = [b"x" * 60_000] * 17
    assert sum(map(len, arguments)) > 3 * limits.QUERY_BUFFER_BYTES_MAX
    data = array(b"INFO", *arguments)
    for begin in range(0, len(data), 50_000):
        client.send(data[begin : begin + 50_000])
    assert client.transport.held_back == 0
    server.settle()
    assert client.take() == [b""]


def test_a_large_command_behind_a_full_pipeline(server: FakeServer, client: FakeClient) -> None:
    data = array(b"INFO", *[b"x" * 60_000] * 17)
    client.send(RENEW * DEPTH)
    for begin in range(0, len(data), 50_000):
        client.send(data[begin : begin + 50_000])
    assert client.connection.unparsed < 2 * limits.QUERY_BUFFER_BYTES_MAX
    server.settle()
    assert len(client.take()) == DEPTH + 1
    assert client.transport.reading


def test_reading_stops_while_a_command_waits_for_its_turn(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(RENEW + array(b"PING"))
    assert not client.transport.reading
    client.send(array(b"PING"))
    assert client.transport.held_back > 0
    server.settle()
    assert client.transport.reading
    assert len(client.take()) == 3


# --- unread replies ------------------------------------------------------------------------------


def test_nothing_more_is_run_while_replies_are_not_read(
    server: FakeServer, client: FakeClient
) -> None:
    client.transport.stalled = True
    echo = array(b"ECHO", b"x" * 10_000)
    sent = 0
    while client.transport.reading:
        client.send(echo * 5)
        sent += 5
        server.settle()
    assert limits.OUTPUT_PAUSE_BYTES < client.connection.unsent < limits.OUTPUT_PAUSE_BYTES * 2
    client.send(echo * 100)
    sent += 100
    assert client.transport.held_back == 100 * len(echo)
    before = client.connection.commands_run
    server.settle()
    assert client.connection.commands_run == before
    while client.connection.unsent:
        client.transport.drain()
        server.settle()
    assert client.take() == [b"x" * 10_000] * sent
    assert client.open


def test_a_large_reply_holds_up_the_rest_of_what_was_read_with_it(
    server: FakeServer, client: FakeClient
) -> None:
    client.transport.stalled = True
    client.send(array(b"ECHO", b"x" * 65_536) + array(b"PING") * 3)
    server.settle()
    assert client.connection.commands_run == 1
    client.transport.drain()
    assert client.take() == [b"x" * 65_536]
    server.settle()
    client.transport.drain()
    assert client.take() == [b"PONG"] * 3


def test_operations_wait_as_well(server: FakeServer, client: FakeClient) -> None:
    client.transport.stalled = True
    client.call(b"LOCK.ACQUIRE", b"a", b"o" * limits.OWNER_BYTES_MAX)
    server.settle()
    client.send(array(b"LOCK.ACQUIRE", b"a", b"me") * (3 * DEPTH))
    server.engine.answer()
    server.loop.run()
    assert not server.engine.waiting
    for _ in range(5):
        client.transport.drain()
        server.settle()
    assert len(client.take()) == 1 + 3 * DEPTH


def test_what_waited_for_a_large_answer_waits_until_it_is_read(
    server: FakeServer, client: FakeClient
) -> None:
    for number in range(40):
        client.call(b"LOCK.ACQUIRE", b"%d" % number, b"o" * limits.OWNER_BYTES_MAX)
    server.settle()
    client.take()
    client.transport.stalled = True
    client.send(array(b"LOCK.LIST") + RENEW)
    server.engine.answer()
    server.loop.run()
    assert not server.engine.waiting
    client.transport.drain()
    assert len(server.engine.waiting) == 1
    server.settle()
    client.transport.drain()
    assert len(client.take()) == 2


def test_replies_that_come_at_once_never_close_however_large(
    server: FakeServer, client: FakeClient
) -> None:
    """A client that had no time to read has not left anything unread."""
    client.transport.stalled = True
    owner = b"o" * limits.OWNER_BYTES_MAX
    client.call(b"LOCK.ACQUIRE", b"a", owner)
    server.settle()
    client.send(array(b"LOCK.ACQUIRE", b"a", b"me") * DEPTH)
    for _ in range(8):
        server.engine.answer(DEPTH // 8)
    assert client.connection.unsent > 4 * limits.OUTPUT_BUFFER_BYTES_MAX
    assert client.open
    client.send(array(b"LOCK.LIST"))
    for _ in range(3):
        server.settle()
        client.transport.drain()
    assert len(client.take()) == DEPTH + 2


def test_a_client_that_does_not_read_gets_one_page_at_most(
    server: FakeServer, client: FakeClient
) -> None:
    for number in range(300):
        client.call(b"LOCK.ACQUIRE", b"%d" % number, b"o" * 4_000)
    server.settle()
    client.take()
    client.transport.stalled = True
    client.send(array(b"LOCK.LIST", b"COUNT", b"1000") * 200)
    server.settle()
    assert client.connection.unsent < 2 * limits.LIST_BYTES_MAX
    assert len(server.engine.waiting) == 0


@pytest.mark.parametrize(
    "request_", [array(b"COMMAND", b"DOCS"), array(b"COMMAND"), array(b"ECHO", b"x" * 65_000)]
)
def test_what_a_client_leaves_unread_is_bounded_for_local_commands_too(
    server: FakeServer, client: FakeClient, request_: bytes
) -> None:
    client.transport.stalled = True
    data = request_ * 300
    size = limits.QUERY_BUFFER_BYTES_MAX
    client.send(*(data[begin : begin + size] for begin in range(0, len(data), size)))
    server.settle()
    assert client.connection.unsent < limits.OUTPUT_PAUSE_BYTES + 2 * size
    assert not client.transport.reading


def test_pushes_beyond_the_limit_close(server: FakeServer, client: FakeClient) -> None:
    client.transport.stalled = True
    for _ in range(16):
        client.connection.push(b"x" * (limits.PUSHED_BYTES_MAX // 16))
    assert client.open
    client.connection.push(b"x")
    assert client.transport.aborted


# --- fairness ------------------------------------------------------------------------------------


def test_a_flood_of_local_commands_is_run_over_many_turns(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"PING") * 10_000)
    assert client.connection.commands_run <= 2 * DEPTH
    turns = 0
    while server.loop.soon:
        before = client.connection.commands_run
        server.loop.turn()
        assert client.connection.commands_run - before <= 2 * DEPTH
        turns += 1
    assert turns >= 9
    assert client.take() == [b"PONG"] * 10_000


def test_a_flood_in_many_chunks_is_run_over_many_turns(
    server: FakeServer, client: FakeClient
) -> None:
    """uvloop reads a socket many times in one turn."""
    for _ in range(100):
        client.send(array(b"PING") * 500)
    assert client.connection.commands_run <= 2 * DEPTH
    server.loop.run()
    assert len(client.take()) == 50_000


@pytest.mark.parametrize(
    "argv", [(b"COMMAND",), (b"COMMAND", b"DOCS"), (b"INFO",), (b"CONFIG", b"GET", b"*")]
)
def test_slow_commands_take_a_turn_each(
    server: FakeServer, client: FakeClient, argv: tuple[bytes, ...]
) -> None:
    client.send(array(*argv) * 20)
    assert client.connection.commands_run == 1
    assert server.loop.run() >= 19
    assert len(client.take()) == 20


def test_before_auth_too() -> None:
    server = FakeServer(requirepass="secret")
    client = server.connect()
    client.send(b"PING\r\n" * 20_000)
    assert client.connection.commands_run <= 2 * DEPTH
    server.loop.run()
    replies = client.take()
    assert len(replies) == 20_000
    assert {str(reply) for reply in replies} == {"NOAUTH Authentication required."}


def test_a_turn_that_is_over_does_not_hold_up_operations_under_way(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"CLIENT", b"ID") + RENEW * 3)
    assert client.take() == [1]
    server.loop.run()
    assert len(server.engine.waiting) == 3
    server.engine.answer()
    assert len(client.take()) == 3


def test_the_loop_comes_to_rest_when_a_client_goes_in_the_middle(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"PING") * 10_000)
    client.transport.lose()
    server.loop.run()
    assert len(server.clients) == 0
    assert client.connection.commands_run <= 2 * DEPTH
