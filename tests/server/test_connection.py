"""One connection: order, ends, and what commands change of it."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import hiredis
import pytest
from structlog.testing import capture_logs

from resplock import limits
from resplock.operations import Busy, Done, InDoubt, NoLeader
from resplock.resp.alike import Likeness
from resplock.server import connection
from resplock.server.snapshotting import SnapshotTaken
from tests.server.fakes import FakeClient, FakeServer, array


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def client(server: FakeServer) -> FakeClient:
    return server.connect()


def granted(version: int) -> list[object]:
    return [b"status", b"granted", b"version", version, b"ttl_ms", 30_000, b"waiters", 0]


def texts(replies: list[object]) -> list[str]:
    return [str(reply) for reply in replies]


ACQUIRE = array(b"LOCK.ACQUIRE", b"a", b"me")
TAKEN = SnapshotTaken(index=7, term=1, bytes=10, duration_ms=1)
RELEASED = [b"released", 1, b"holds", 0, b"promoted", None]


# --- program order -------------------------------------------------------------------------------


def test_operations_are_proposed_together_and_answered_in_order(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + array(b"LOCK.RELEASE", b"a", b"me") + ACQUIRE)
    assert len(server.engine.waiting) == 3
    assert client.take() == []
    server.engine.answer()
    assert client.take() == [granted(1), RELEASED, granted(3)]


def test_a_local_reply_ahead_of_an_operation_does_not_wait_for_it(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"PING") + ACQUIRE)
    assert client.take() == [b"PONG"]
    server.engine.answer()
    assert client.take() == [granted(1)]


def test_a_local_command_waits_for_what_is_ahead_of_it(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + array(b"PING") + ACQUIRE)
    assert len(server.engine.waiting) == 1, "what is behind it waits as well"
    assert client.take() == []
    server.engine.answer()
    assert client.take() == [granted(1), b"PONG"]
    server.engine.answer()
    assert client.take() == [granted(1)]


def test_a_read_waits_for_operations_and_operations_for_a_read(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + array(b"LOCK.CHECK", b"a", b"1"))
    client.send(array(b"LOCK.RELEASE", b"a", b"me"))
    for _ in range(3):
        assert len(server.engine.waiting) == 1
        server.engine.answer()
        server.loop.run()
    assert client.take() == [granted(1), 1, RELEASED]


def test_reads_are_asked_together_up_to_a_bound(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"DBSIZE") * 40)
    asked = []
    while server.engine.waiting:
        asked.append(server.engine.answer())
    assert asked == [16, 16, 8]
    assert client.take() == [0] * 40


def test_a_read_that_may_answer_a_page_goes_alone(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"DBSIZE") + array(b"LOCK.LIST") + array(b"LOCK.LIST") + array(b"DBSIZE"))
    asked = []
    while server.engine.waiting:
        asked.append(server.engine.answer())
        server.loop.run()
    assert asked == [1, 1, 1, 1]
    first, page, same_page, last = client.take()
    assert (first, page[1], same_page, last) == (0, [], page, 0)


def test_an_error_has_its_place_among_the_replies(server: FakeServer, client: FakeClient) -> None:
    client.send(ACQUIRE + array(b"NOSUCH") + array(b"LOCK.ACQUIRE", b"a") + ACQUIRE)
    assert client.take() == []
    server.settle()
    first, unknown, arity, last = client.take()
    assert (first, last) == (granted(1), granted(1))
    assert str(unknown).startswith("ERR unknown command 'NOSUCH'")
    assert str(arity).startswith("ERR wrong number of arguments")


@pytest.mark.parametrize("spelling", [b"LOCK.ACQUIRE", b"lock.acquire"])
def test_operations_flow_in_either_spelling(
    server: FakeServer, client: FakeClient, spelling: bytes
) -> None:
    client.send(array(spelling, b"a", b"me") * 3)
    assert len(server.engine.waiting) == 3


def test_a_mixed_spelling_is_understood_too(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"Lock.Acquire", b"a", b"me") * 3)
    server.settle()
    assert client.take() == [granted(1)] * 3


def test_select_applies_to_what_follows(server: FakeServer, client: FakeClient) -> None:
    client.send(ACQUIRE + array(b"SELECT", b"1") + array(b"DBSIZE") + array(b"SELECT", b"0"))
    client.send(array(b"DBSIZE"))
    server.settle()
    assert client.take() == [granted(1), b"OK", 0, b"OK", 1]


def test_hello_changes_the_protocol_behind_what_is_outstanding(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"LOCK.GET", b"a") + array(b"HELLO", b"3") + array(b"LOCK.GET", b"a"))
    server.settle()
    assert client.received.startswith(b"$-1\r\n%7\r\n")
    assert client.received.endswith(b"_\r\n")


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (InDoubt(), "INDOUBT"),
        (NoLeader(), "CLUSTERDOWN"),
        (Busy("a bound was reached"), "BUSY a bound was reached"),
    ],
)
def test_what_the_node_could_not_do(
    server: FakeServer, client: FakeClient, result: object, text: str
) -> None:
    client.send(ACQUIRE * 2)
    server.engine.deliver([result, result])
    replies = client.take()
    assert len(replies) == 2
    assert all(str(reply).startswith(text) for reply in replies)


def test_two_connections_do_not_wait_for_each_other(server: FakeServer) -> None:
    one, other = server.connect(), server.connect()
    one.send(ACQUIRE)
    other.send(array(b"PING"))
    assert other.take() == [b"PONG"]
    assert one.take() == []


def test_a_command_that_answers_later_holds_up_only_its_connection(
    server: FakeServer, client: FakeClient
) -> None:
    other = server.connect()
    client.send(array(b"RAFT.SNAPSHOT") + array(b"PING") + ACQUIRE)
    other.send(array(b"PING"))
    server.loop.run()
    assert (client.take(), other.take()) == ([], [b"PONG"])
    assert not server.engine.waiting
    [then] = server.engine.snapshot_waiters
    then(TAKEN)
    server.settle()
    snapshot, pong, acquired = client.take()
    assert snapshot[:2] == [b"index", 7]
    assert (pong, acquired) == (b"PONG", granted(1))


def test_a_snapshot_that_outlives_its_client_runs_nothing_more_of_it(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"RAFT.SNAPSHOT") + ACQUIRE * 2 * limits.PIPELINE_DEPTH_MAX)
    client.transport.lose()
    [then] = server.engine.snapshot_waiters
    then(TAKEN)
    server.settle()
    assert server.engine.table.totals.acquisitions == 0
    assert len(server.clients) == 0


# --- commands like earlier ones -------------------------------------------------------------------


@pytest.fixture
def learned(server: FakeServer, client: FakeClient) -> Iterator[mock.Mock]:
    """The client has sent this ACQUIRE often enough; counts what is taken as one like it."""
    for _ in range(connection._LEARN_EVERY):
        client.send(ACQUIRE)
        server.settle()
    client.take()
    with mock.patch.object(Likeness, "take", autospec=True, side_effect=Likeness.take) as take:
        yield take


def names(server: FakeServer) -> list[bytes]:
    return [name for name, _ in server.engine.table.locks]


def test_a_command_like_an_earlier_one_takes_its_own_lock(
    server: FakeServer, client: FakeClient, learned: mock.Mock
) -> None:
    client.call(b"LOCK.ACQUIRE", b"b", b"me")
    server.settle()
    client.send(array(b"LOCK.ACQUIRE", b"c", b"me") + array(b"LOCK.ACQUIRE", b"dd", b"me"))
    server.settle()
    assert learned.call_count == 2
    assert sorted(names(server)) == [b"\0a", b"\0b", b"\0c", b"\0dd"]
    assert [reply[1] for reply in client.take()] == [b"granted"] * 3


def test_a_like_command_is_for_the_database_that_is_selected_now(
    server: FakeServer, client: FakeClient, learned: mock.Mock
) -> None:
    client.call(b"SELECT", b"3")
    client.send(ACQUIRE)
    server.settle()
    client.send(array(b"LOCK.ACQUIRE", b"b", b"me") + array(b"LOCK.ACQUIRE", b"c", b"me"))
    server.settle()
    assert learned.call_count == 2
    assert sorted(names(server)) == [b"\0a", b"\3a", b"\3b", b"\3c"]


def test_of_another_owner_nothing_is_taken_as_like(
    server: FakeServer, client: FakeClient, learned: mock.Mock
) -> None:
    client.call(b"LOCK.ACQUIRE", b"a", b"it")
    server.settle()
    assert learned.call_count == 1
    assert client.take()[0][:4] == [b"status", b"held", b"owner", b"me"]


def test_behind_half_a_command_nothing_is_taken_as_like(
    server: FakeServer, client: FakeClient, learned: mock.Mock
) -> None:
    client.send(array(b"ECHO", ACQUIRE)[: -len(ACQUIRE) - 2], ACQUIRE, b"\r\n")
    assert client.take() == [ACQUIRE]
    assert learned.call_count == 0


def test_a_pipeline_teaches_at_once(server: FakeServer, client: FakeClient) -> None:
    pipeline = b"".join(array(b"LOCK.ACQUIRE", key, b"me") for key in (b"a", b"b"))
    with mock.patch.object(Likeness, "take", autospec=True, side_effect=Likeness.take) as take:
        for calls in (0, 1):
            client.send(pipeline)
            server.settle()
            assert take.call_count == calls
    assert client.take() == [granted(1), granted(2), granted(1), granted(2)]


# --- how it ends ---------------------------------------------------------------------------------


def test_quit_waits_for_its_turn_and_drops_what_is_behind(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + array(b"QUIT") + array(b"LOCK.BREAK", b"a"))
    assert client.open
    server.settle()
    assert client.take() == [granted(1), b"OK"]
    assert not client.open
    assert server.engine.table.totals.broken == 0
    assert len(server.clients) == 0


def test_half_close_answers_everything_then_closes(server: FakeServer, client: FakeClient) -> None:
    client.send(ACQUIRE + array(b"PING") + array(b"DBSIZE") + ACQUIRE * 3 + b"*1\r\n$4\r\nPI")
    client.shut()
    assert client.open
    server.settle()
    assert client.take() == [granted(1), b"PONG", 1, *[granted(1)] * 3]
    assert not client.open


def test_half_close_of_an_idle_connection_closes_it(server: FakeServer, client: FakeClient) -> None:
    client.call(b"PING")
    client.shut()
    server.settle()
    assert client.take() == [b"PONG"]
    assert not client.open
    assert len(server.clients) == 0


def test_half_close_while_replies_are_not_read_loses_none(
    server: FakeServer, client: FakeClient
) -> None:
    client.transport.stalled = True
    echo = array(b"ECHO", b"x" * 1_000)
    client.send(echo * 300)
    client.shut()
    for _ in range(20):
        server.settle()
        client.transport.drain()
    assert client.take() == [b"x" * 1_000] * 300
    assert not client.open
    assert client.transport.closed


def test_half_close_with_more_than_the_pipelines_depth(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"LOCK.RENEW", b"a", b"me") * 3_000)
    client.shut()
    server.settle()
    assert len(client.take()) == 3_000
    assert not client.open


def test_half_close_behind_a_slow_command_loses_nothing(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"CLIENT", b"ID") + array(b"PING") * 3)
    client.shut()
    server.settle()
    assert client.take() == [1, b"PONG", b"PONG", b"PONG"]
    assert not client.open


@pytest.mark.parametrize("garbage", [b"*1\r\n!x\r\n", b"*1025\r\n", b"GET / HTTP/1.1\r\n"])
def test_a_protocol_error_is_told_once_and_last(
    server: FakeServer, client: FakeClient, garbage: bytes
) -> None:
    client.transport.stalled = True  # so that what is written twice is also sent twice
    client.send(ACQUIRE + array(b"PING") + ACQUIRE + garbage + array(b"PING") * 50)
    server.settle()
    client.transport.drain()
    *replies, error = client.take()
    assert replies == [granted(1), b"PONG", granted(1)]
    assert str(error).startswith("ERR Protocol error")
    assert not client.open


def test_a_protocol_error_with_nothing_ahead_of_it(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"PING") + b"*x\r\n" + array(b"PING"))
    server.settle()
    pong, error = client.take()
    assert pong == b"PONG"
    assert str(error) == "ERR Protocol error: invalid multibulk length"
    assert client.transport.closed


def test_a_protocol_error_of_a_muted_client_closes_it_in_silence(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"CLIENT", b"REPLY", b"OFF") + ACQUIRE + b"*x\r\n")
    server.settle()
    assert client.received == b""
    assert client.transport.closed


def test_a_client_that_is_gone_before_its_answer(server: FakeServer, client: FakeClient) -> None:
    """The race between a grant and a disconnect: the grant stands, nobody is told, nothing breaks."""
    client.send(ACQUIRE + array(b"PING") + ACQUIRE)
    client.transport.lose(ConnectionResetError())
    server.settle()
    assert server.engine.table.totals.acquisitions == 1
    assert client.received == b""
    assert len(server.clients) == 0


def test_commands_behind_a_lost_one_are_not_run(server: FakeServer, client: FakeClient) -> None:
    """What was not begun when the client went is dropped as a whole, not with gaps."""
    behind = array(b"LOCK.RELEASE", b"a", b"me") * 2 * limits.PIPELINE_DEPTH_MAX
    client.send(ACQUIRE + array(b"PING") + behind)
    client.transport.lose()
    server.settle()
    assert server.engine.table.totals.acquisitions == 1
    assert server.engine.table.totals.releases == 0


def test_killed_while_its_answer_is_under_way(server: FakeServer, client: FakeClient) -> None:
    other = server.connect()
    client.send(ACQUIRE + array(b"PING"))
    other.send(array(b"CLIENT", b"KILL", b"ID", b"1"))
    server.engine.answer()
    server.settle()
    assert other.take() == [1]
    assert client.transport.closed
    assert len(server.clients) == 1


def test_answers_that_come_when_the_server_stops_are_sent(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + array(b"PING"))
    server.engine.answer(1)
    server.clients.stop()
    server.settle()
    assert client.take()[0] == granted(1)
    assert client.transport.closed


def test_commands_of_a_client_that_is_gone_still_count(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"PING") * 5)
    client.transport.lose()
    server.connect().call(b"PING")
    assert server.clients.commands_run == 6


# --- CLIENT REPLY, RESET, CLIENT LIST ------------------------------------------------------------


def test_skip_leaves_out_one_reply_of_several_operations(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"CLIENT", b"REPLY", b"SKIP") + ACQUIRE * 3 + array(b"PING"))
    server.settle()
    assert client.take() == [granted(1), granted(1), b"PONG"]
    assert server.engine.table.totals.acquisitions == 1


def test_skip_of_an_unknown_command_is_over_behind_it(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + array(b"CLIENT", b"REPLY", b"SKIP") + array(b"NOSUCH"))
    client.send(array(b"NOSUCH") + array(b"PING"))
    server.settle()
    first, error, pong = client.take()
    assert (first, pong) == (granted(1), b"PONG")
    assert str(error).startswith("ERR unknown command")


def test_off_runs_everything_and_says_nothing(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"CLIENT", b"REPLY", b"OFF") + ACQUIRE + array(b"LOCK.GET", b"a"))
    client.send(array(b"PING") + array(b"LOCK.BREAK", b"a") + array(b"CLIENT", b"REPLY", b"ON"))
    client.send(array(b"DBSIZE"))
    server.settle()
    assert client.take() == [b"OK", 0]
    assert server.engine.table.totals.broken == 1


def test_off_and_quit(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"CLIENT", b"REPLY", b"OFF") + array(b"QUIT"))
    server.settle()
    assert client.received == b""
    assert client.transport.closed


def test_off_and_a_snapshot(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"CLIENT", b"REPLY", b"OFF") + array(b"RAFT.SNAPSHOT"))
    client.send(array(b"CLIENT", b"REPLY", b"ON") + array(b"PING"))
    server.settle()
    server.engine.snapshot_waiters[0](TAKEN)
    server.settle()
    assert client.take() == [b"OK", b"PONG"]


def test_reset_is_a_new_connection(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"HELLO", b"3", b"SETNAME", b"joe") + array(b"SELECT", b"3"))
    client.send(array(b"CLIENT", b"NO-EVICT", b"ON") + array(b"CLIENT", b"REPLY", b"OFF"))
    server.settle()
    before = len(client.received)
    client.send(array(b"RESET") + array(b"CLIENT", b"GETNAME") + array(b"LOCK.GET", b"a"))
    client.send(array(b"CLIENT", b"INFO"))
    server.settle()
    assert client.received[before:].startswith(b"+RESET\r\n$-1\r\n$-1\r\n$")
    assert b"flags=N db=0 " in client.received
    assert b" resp=2 " in client.received


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (array(b"PING"), "ping"),
        (array(b"client", b"id"), "client|id"),
        (ACQUIRE, "lock.acquire"),
        (array(b"lock.acquire", b"a", b"me"), "lock.acquire"),
        (array(b"LOCK.GET", b"a"), "lock.get"),
        (array(b"PING") + array(b"evil\nid=1 addr=1.2.3.4:5"), "ping"),
        (b"", "NULL"),
    ],
)
def test_client_list_shows_the_last_command_and_nothing_that_a_client_made_up(
    server: FakeServer, client: FakeClient, command: bytes, shown: str
) -> None:
    client.send(command)
    server.settle()
    other = server.connect()
    other.call(b"CLIENT", b"LIST")
    server.settle()
    [listed] = other.take()
    lines = listed.decode().splitlines()
    assert len(lines) == 2
    assert f" cmd={shown} " in lines[0]
    assert " cmd=client|list " in lines[1]


def test_a_long_unknown_name_is_not_kept(server: FakeServer, client: FakeClient) -> None:
    client.call(b"x" * limits.ARGUMENT_BYTES_MAX)
    server.settle()
    assert client.connection.last_command == "NULL"
    assert client.connection.memory == 0


@pytest.mark.parametrize("nasty", [b"a\r\n+OK\r\n", b"\0\r\n", b"\n\n", b"\r", bytes(range(256))])
def test_error_texts_are_one_line_whatever_is_in_them(
    server: FakeServer, client: FakeClient, nasty: bytes
) -> None:
    calls = [
        (nasty,),
        (b"CLIENT", nasty),
        (b"COMMAND", nasty, nasty),
        (b"PING", nasty, nasty),
        (b"LOCK.ACQUIRE", nasty, nasty, nasty),
        (b"LOCK.ACQUIRE", b"k", b"o", b"TTL", nasty),
        (b"LOCK.RELEASE", nasty, nasty),
        (b"LOCK.LIST", b"CURSOR", nasty),
        (b"HELLO", nasty),
        (b"SELECT", nasty),
        (b"CLIENT", b"SETNAME", nasty),
    ]
    for argv in calls:
        before = len(client.received)
        client.call(*argv)
        server.settle()
        reply = client.received[before:]
        assert reply.startswith(b"-"), argv
        assert reply.count(b"\r\n") == 1, argv
        assert not set(reply[:-2]) & set(b"\r\n\0"), argv
        assert len(reply) <= 1_026
    client.call(b"LOCK.ACQUIRE", nasty, nasty)
    client.call(b"LOCK.RELEASE", nasty, b"other" + nasty)
    client.call(b"LOCK.RELEASE", nasty, nasty, b"VERSION", b"9")
    server.settle()
    _, other, stale = client.take()[-3:]
    assert isinstance(other, hiredis.ReplyError)
    assert isinstance(stale, hiredis.ReplyError)


def test_internal_outcomes_have_a_reply_too(server: FakeServer, client: FakeClient) -> None:
    client.send(ACQUIRE)
    server.engine.deliver([Done()])
    assert client.take() == [b"OK"]
