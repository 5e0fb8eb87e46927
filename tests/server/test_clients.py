"""Who gets in, who must go, what a password guards, and what the log says of all that."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from resplock import limits
from resplock.resp.commands import COMMANDS, Command
from resplock.server import clients
from tests.server.fakes import FakeClient, FakeServer, array

SECOND_MS = 1_000
ACQUIRE = array(b"LOCK.ACQUIRE", b"a", b"me")


class Clock:
    """This process's monotonic clock, in a test's hands."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(clients, "now_ms", clock)
    return clock


def started(**settings: Any) -> FakeServer:
    server = FakeServer(**{"maxclients": 50, **settings})
    server.clients.start()
    return server


def sweep_for(server: FakeServer, clock: Clock, duration_ms: int) -> None:
    """Let time pass, with about a sweep each second."""
    for _ in range(10 * duration_ms // SECOND_MS):
        clock.now_ms += SECOND_MS // 10
        server.loop.fire()
        server.loop.run()


def text(replies: list[Any]) -> list[str]:
    return [
        reply.decode() if isinstance(reply, bytes) else str(reply).split(" ")[0]
        for reply in replies
    ]


# --- admission -----------------------------------------------------------------------------------

LOOPBACK = [
    ("127.0.0.1", 1),
    ("127.8.9.10", 1),
    ("::1", 1, 0, 0),
    ("::ffff:127.0.0.1", 1, 0, 0),
]
ELSEWHERE = [
    ("10.0.0.1", 1),
    ("192.168.1.1", 1),
    ("8.8.8.8", 1),
    ("::ffff:10.0.0.1", 1, 0, 0),
    ("fe80::1%eth0", 1, 0, 2),
    ("2001:db8::1", 1, 0, 0),
    ("::", 1, 0, 0),
    ("localhost", 1),
    ("", 1),
]


@pytest.mark.parametrize("peer", LOOPBACK)
def test_protected_mode_lets_this_machine_in(peer: Any) -> None:
    client = FakeServer().connect(peer)
    client.call(b"PING")
    assert client.take() == [b"PONG"]


@pytest.mark.parametrize("peer", ELSEWHERE)
def test_protected_mode_refuses_everybody_else(peer: Any) -> None:
    server = FakeServer()
    client = server.connect(peer)
    [refusal] = client.take()
    assert str(refusal).startswith("DENIED resplock is running in protected mode")
    client.send(array(b"PING"))
    server.loop.run()
    assert client.take() == []
    assert client.transport.closed
    assert (len(server.clients), server.clients.refused, server.clients.received) == (0, 1, 1)


@pytest.mark.parametrize("settings", [{"requirepass": "secret"}, {"protected_mode": False}])
@pytest.mark.parametrize("peer", ELSEWHERE)
def test_a_password_or_the_setting_lets_others_in(peer: Any, settings: dict[str, Any]) -> None:
    server = FakeServer(**settings)
    client = server.connect(peer)
    client.call(b"AUTH", b"default", b"secret")
    assert client.take() == [b"OK"]
    assert len(server.clients) == 1


def test_a_client_that_is_gone_before_it_was_looked_at() -> None:
    """Its socket has no peer name any more. It is nobody's loopback either."""
    server = FakeServer()
    client = server.connect(None)
    server.loop.run()
    assert client.transport.closed
    client = FakeServer(protected_mode=False).connect(None)
    assert client.open
    client.transport.lose(ConnectionResetError())


def test_maxclients() -> None:
    server = FakeServer(maxclients=2)
    one, two = server.connect(), server.connect()
    three = server.connect()
    server.loop.run()
    assert text(three.take()) == ["ERR"]
    assert three.transport.closed
    assert (len(server.clients), server.clients.refused) == (2, 1)
    one.call(b"QUIT")
    server.loop.run()
    four = server.connect()
    four.call(b"PING")
    two.call(b"PING")
    assert (four.take(), two.take()) == ([b"PONG"], [b"PONG"])


def test_ids_are_never_used_again() -> None:
    server = FakeServer()
    first = server.connect()
    first.transport.lose()
    second = server.connect()
    assert second.connection.id > first.connection.id
    assert server.clients.get(first.connection.id) is None
    assert server.clients.get(second.connection.id) is second.connection


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "granted", "soft_after"),
    [
        (1024, 1_048_576, 10_000, 10_000, 10_128),
        (1024, 4096, 10_000, 3_968, 4_096),
        (1024, 1024, 500, 500, 1024),
        (100, 100, 500, 1, 100),
        (256, resource.RLIM_INFINITY, 10_000, 10_000, 10_128),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 10_000, 10_000, resource.RLIM_INFINITY),
    ],
)
def test_descriptors_are_kept_for_the_log(
    monkeypatch: pytest.MonkeyPatch,
    log: list[Any],
    soft: int,
    hard: int,
    wanted: int,
    granted: int,
    soft_after: int,
) -> None:
    limit = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limit))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limit.__setitem__(slice(None), new))
    server = started(maxclients=wanted)
    assert server.clients.maxclients == granted
    assert limit == [soft_after, hard]
    assert len(log) == (granted < wanted)


def test_a_system_that_raises_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert started(maxclients=10_000).clients.maxclients == 128


# --- passwords -----------------------------------------------------------------------------------


def every_command() -> list[Command]:
    return [
        each
        for command in COMMANDS.values()
        for each in command.walk()
        if not each.subcommands or each.bare
    ]


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.name)
def test_without_auth_nothing_but_what_leads_to_it(command: Command) -> None:
    server = FakeServer(requirepass="secret")
    client = server.connect()
    client.call(*(word.encode() for word in command.words))
    server.settle()
    allowed = command.name in {"AUTH", "HELLO", "QUIT", "RESET"}
    replies = client.take()
    assert (text(replies) == ["NOAUTH"]) == (not allowed or command.name == "HELLO")
    assert not server.engine.waiting


def test_auth_in_a_pipeline() -> None:
    server = FakeServer(requirepass="secret")
    client = server.connect()
    large = array(b"ECHO", b"x" * limits.ARGUMENT_BYTES_MAX)
    client.send(
        array(b"PING")
        + array(b"AUTH", b"wrong")
        + ACQUIRE
        + array(b"AUTH", b"nobody", b"secret")
        + array(b"AUTH", b"secret")
        + array(b"PING")
        + large
        + array(b"LOCK.KEEPALIVE", b"me")
        + array(b"RESET")
        + ACQUIRE
        + array(b"AUTH", b"default", b"secret")
        + array(b"DBSIZE")
    )
    server.settle()
    replies = client.take()
    assert text(replies[:4]) == ["NOAUTH", "WRONGPASS", "NOAUTH", "WRONGPASS"]
    assert replies[4:8] == [b"OK", b"PONG", b"x" * limits.ARGUMENT_BYTES_MAX, 0]
    assert replies[8] == b"RESET"
    assert text(replies[9:10]) == ["NOAUTH"]
    assert replies[10:] == [b"OK", 0]


@pytest.mark.parametrize(
    "greeting",
    [
        [b"HELLO", b"2", b"AUTH", b"default", b"secret"],
        [b"HELLO", b"3", b"AUTH", b"default", b"secret", b"SETNAME", b"joe"],
    ],
)
def test_hello_with_auth(greeting: list[bytes]) -> None:
    client = FakeServer(requirepass="secret").connect()
    client.call(*greeting)
    assert client.connection.authenticated
    assert client.connection.protocol_version == int(greeting[1])
    assert client.connection.name == (b"joe" if b"SETNAME" in greeting else b"")


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        ([b"HELLO"], "NOAUTH"),
        ([b"HELLO", b"3"], "NOAUTH"),
        ([b"HELLO", b"3", b"AUTH", b"default", b"wrong", b"SETNAME", b"joe"], "WRONGPASS"),
        ([b"HELLO", b"3", b"AUTH", b"other", b"secret"], "WRONGPASS"),
        ([b"HELLO", b"4", b"AUTH", b"default", b"secret"], "NOPROTO"),
        ([b"HELLO", b"3", b"SETNAME", b"joe"], "NOAUTH"),
    ],
)
def test_hello_that_fails_changes_nothing(greeting: list[bytes], code: str) -> None:
    client = FakeServer(requirepass="secret").connect()
    client.call(*greeting)
    assert text(client.take()) == [code]
    assert not client.connection.authenticated
    assert (client.connection.protocol_version, client.connection.name) == (2, b"")


@pytest.mark.parametrize(
    "request_",
    [
        array(*[b"PING"] * (limits.ARGUMENTS_UNAUTHENTICATED_MAX + 1)),
        array(b"AUTH", b"x" * (limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX + 1)),
        b"*1000000\r\n",
        b"*2\r\n$1000000\r\n",
        b"x" * 20_000,
    ],
)
def test_the_bounds_are_narrow_before_auth(request_: bytes) -> None:
    server = FakeServer(requirepass="secret")
    client = server.connect()
    client.send(request_)
    server.settle()
    assert str(client.take()[-1]).startswith("ERR Protocol error: ")
    assert client.transport.closed


def test_reset_makes_them_narrow_again() -> None:
    server = FakeServer(requirepass="secret")
    client = server.connect()
    client.send(array(b"AUTH", b"secret") + array(b"RESET"))
    client.send(array(*[b"PING"] * (limits.ARGUMENTS_UNAUTHENTICATED_MAX + 1)))
    server.settle()
    assert str(client.take()[-1]).startswith("ERR Protocol error: ")


def test_auth_where_no_password_is_set() -> None:
    client = FakeServer().connect()
    client.send(array(b"AUTH", b"x") + array(b"AUTH", b"default", b"x"))
    client.send(array(b"AUTH", b"other", b"x"))
    error, ok, wrong = client.take()
    assert str(error).startswith("ERR AUTH <password> called without any password configured")
    assert ok == b"OK"
    assert str(wrong).startswith("WRONGPASS")


def test_a_password_of_any_bytes() -> None:
    client = FakeServer(requirepass=b"\xff\xfe\xe2\x82".decode(errors="surrogateescape")).connect()
    client.send(array(b"AUTH", b"\xff\xfe\xe2") + array(b"AUTH", b"\xff\xfe\xe2\x82"))
    assert text(client.take()) == ["WRONGPASS", "OK"]


# --- CLIENT KILL ---------------------------------------------------------------------------------


@pytest.fixture
def three() -> tuple[FakeServer, list[FakeClient]]:
    server = FakeServer()
    return server, [server.connect(("127.0.0.1", 5_000 + number)) for number in range(3)]


@pytest.mark.parametrize(
    ("arguments", "reply", "survivors"),
    [
        ([b"127.0.0.1:5001"], b"OK", {1, 3}),
        ([b"127.0.0.1:9"], "ERR No such client", {1, 2, 3}),
        ([b"ID", b"2"], 1, {1, 3}),
        ([b"ID", b"9"], 0, {1, 2, 3}),
        ([b"ADDR", b"127.0.0.1:5002"], 1, {1, 2}),
        ([b"LADDR", b"127.0.0.1:7379"], 2, {1}),
        ([b"LADDR", b"127.0.0.1:1"], 0, {1, 2, 3}),
        ([b"TYPE", b"normal"], 2, {1}),
        ([b"TYPE", b"pubsub"], 0, {1, 2, 3}),
        ([b"USER", b"default"], 2, {1}),
        ([b"USER", b"nobody"], 0, {1, 2, 3}),
        ([b"ID", b"2", b"USER", b"nobody"], 0, {1, 2, 3}),
        ([b"ID", b"1"], 0, {1, 2, 3}),
        ([b"ID", b"1", b"SKIPME", b"no"], 1, {2, 3}),
        ([b"SKIPME", b"no"], 3, set()),
        ([b"127.0.0.1:5000"], b"OK", {2, 3}),
    ],
)
def test_kill(
    three: tuple[FakeServer, list[FakeClient]],
    arguments: list[bytes],
    reply: Any,
    survivors: set[int],
) -> None:
    server, [one, _, _] = three
    one.send(array(b"CLIENT", b"KILL", *arguments) + array(b"LOCK.ACQUIRE", b"a", b"me"))
    server.settle()
    replies = one.take()
    assert replies[0] == reply or str(replies[0]) == reply
    assert len(replies) == 1 + (1 in survivors), "one that has killed itself runs nothing more"
    assert server.engine.table.totals.acquisitions == (1 in survivors)
    assert {connection.id for connection in server.clients} == survivors


def test_kill_itself_without_a_reply(three: tuple[FakeServer, list[FakeClient]]) -> None:
    server, [one, _, _] = three
    one.send(array(b"CLIENT", b"REPLY", b"OFF"))
    one.send(array(b"CLIENT", b"KILL", b"SKIPME", b"no", b"ID", b"1"))
    server.settle()
    assert one.received == b""
    assert one.transport.closed


def test_kill_a_client_in_the_middle_of_a_flood(
    three: tuple[FakeServer, list[FakeClient]],
) -> None:
    server, [one, two, _] = three
    two.send(array(b"PING") * 20_000)
    one.call(b"CLIENT", b"KILL", b"ID", b"2")
    server.settle()
    assert two.transport.closed
    assert two.connection.commands_run < 5_000


# --- deadlines -----------------------------------------------------------------------------------


def test_a_command_must_be_finished_in_time(clock: Clock) -> None:
    server = started()
    slow, quick = server.connect(), server.connect()
    slow.send(b"*2\r\n$4\r\nECHO\r\n$100\r\n")
    for _ in range(30):
        quick.send(b"*1\r\n$4\r\nPI")
        slow.send(b"x")
        sweep_for(server, clock, SECOND_MS)
        quick.send(b"NG\r\n")
    assert slow.transport.closed
    assert quick.open
    assert quick.take() == [b"PONG"] * 30


def test_an_inline_command_must_be_finished_in_time_too(clock: Clock) -> None:
    server = started()
    client = server.connect()
    for _ in range(30):
        if client.open:
            client.send(b"x")
        sweep_for(server, clock, SECOND_MS)
    assert client.transport.closed


def test_the_time_counts_from_the_command_not_from_the_connection(clock: Clock) -> None:
    server = started()
    client = server.connect()
    sweep_for(server, clock, 60 * SECOND_MS)
    client.send(b"*1\r\n")
    sweep_for(server, clock, limits.PARTIAL_COMMAND_MS_MAX // 2)
    assert client.open
    sweep_for(server, clock, limits.PARTIAL_COMMAND_MS_MAX)
    assert client.transport.closed


def test_what_asks_nothing_is_finished_too(clock: Clock) -> None:
    server = started()
    client = server.connect()
    client.send(b"*0\r")
    sweep_for(server, clock, 2 * SECOND_MS)
    client.send(b"\n")
    sweep_for(server, clock, 60 * SECOND_MS)
    client.send(b"*1\r\n")
    sweep_for(server, clock, 2 * SECOND_MS)
    assert client.open


def test_a_client_that_waits_for_its_answer_is_never_overdue(clock: Clock) -> None:
    server = started(timeout=5)
    client = server.connect()
    client.send(ACQUIRE + array(b"PING") + b"*1\r\n")
    sweep_for(server, clock, 60 * SECOND_MS)
    assert client.open
    server.settle()
    assert len(client.take()) == 2


@pytest.mark.parametrize("first", [b"*1\r\n", b"PING\r\n", array(b"AUTH", b"wrong"), b"x"])
def test_who_sends_something_must_authenticate_in_time(clock: Clock, first: bytes) -> None:
    server = started(requirepass="secret")
    client = server.connect()
    client.send(first)
    sweep_for(server, clock, limits.UNAUTHENTICATED_MS_MAX)
    assert client.open
    sweep_for(server, clock, 3 * SECOND_MS)
    assert client.transport.closed


def test_who_keeps_sending_must_authenticate_as_well(clock: Clock) -> None:
    server = started(requirepass="secret")
    client = server.connect()
    for _ in range(10):
        if client.open:
            client.send(b"PING\r\n")
        sweep_for(server, clock, SECOND_MS)
    assert client.transport.closed


def test_silence_before_auth_is_allowed(clock: Clock) -> None:
    """A pool opens connections ahead of their use; one is not overdue the moment that it begins."""
    server = started(requirepass="secret")
    client = server.connect()
    sweep_for(server, clock, 3_600 * SECOND_MS)
    assert client.open
    client.send(b"*2\r\n$4\r\nAUTH\r\n$6\r\n")
    sweep_for(server, clock, 2 * SECOND_MS)
    client.send(b"secret\r\n")
    sweep_for(server, clock, 3_600 * SECOND_MS)
    assert client.take() == [b"OK"]
    assert client.open


def test_a_pool_may_reset_its_connections(clock: Clock) -> None:
    server = started(requirepass="secret")
    client = server.connect()
    client.send(array(b"AUTH", b"secret") + array(b"RESET"))
    sweep_for(server, clock, 3_600 * SECOND_MS)
    assert client.open


def test_idle_connections_stay_unless_there_is_a_timeout(clock: Clock) -> None:
    forever, limited = started(), started(timeout=30)
    patient, idle, busy = forever.connect(), limited.connect(), limited.connect()
    subscriber, watcher = limited.connect(), limited.connect()
    subscriber.call(b"SUBSCRIBE", b"a")
    watcher.send(array(b"HELLO", b"3") + array(b"LOCK.WATCH", b"me"))
    limited.settle()
    for _ in range(60):
        busy.call(b"PING")
        sweep_for(forever, clock, SECOND_MS)
        sweep_for(limited, clock, SECOND_MS)
    assert patient.open
    assert busy.open
    assert subscriber.open
    assert watcher.open
    assert not idle.open


def test_idle_time_as_client_list_has_it(clock: Clock) -> None:
    server = started()
    client = server.connect()
    client.call(b"PING")
    sweep_for(server, clock, SECOND_MS)
    clock.now_ms += 7_000
    assert 7_000 <= server.clients.idle_ms(client.connection) <= 8_000
    client.call(b"PING")
    assert server.clients.idle_ms(client.connection) == 0


# --- replies that are not read -------------------------------------------------------------------


def much_unread(server: FakeServer) -> FakeClient:
    client = server.connect()
    client.transport.stalled = True
    client.call(b"LOCK.ACQUIRE", b"a", b"o" * 4_000)
    client.send(array(b"LOCK.ACQUIRE", b"a", b"me") * 1_000)
    server.settle()
    return client


def test_too_much_unread_for_too_long(clock: Clock) -> None:
    server = started()
    client = much_unread(server)
    assert client.connection.unsent > limits.OUTPUT_BUFFER_BYTES_MAX
    sweep_for(server, clock, limits.UNREAD_MS_MAX)
    assert client.open
    sweep_for(server, clock, 3 * SECOND_MS)
    assert client.transport.aborted
    assert len(server.clients) == 0


def test_a_slow_reader_is_no_non_reader(clock: Clock) -> None:
    server = started()
    client = much_unread(server)
    for _ in range(50):
        client.transport.drain(10_000)
        sweep_for(server, clock, SECOND_MS)
    assert client.open
    client.transport.drain()
    assert len(client.take()) == 1_001


def test_a_little_unread_may_stay(clock: Clock) -> None:
    server = started()
    client = server.connect()
    client.transport.stalled = True
    client.send(array(b"ECHO", b"x" * 10_000) * 50)
    sweep_for(server, clock, 3_600 * SECOND_MS)
    assert client.open


@pytest.mark.parametrize("how", ["quit", "half-close", "garbage"])
def test_who_has_ended_must_read_the_rest_in_time(clock: Clock, how: str) -> None:
    server = started()
    client = server.connect()
    client.transport.stalled = True
    client.call(b"ECHO", b"x" * 1_000)
    match how:
        case "quit":
            client.call(b"QUIT")
        case "half-close":
            client.send(ACQUIRE)
            client.shut()
        case "garbage":
            client.send(b"*x\r\n")
    server.settle()
    assert not client.transport.closed
    sweep_for(server, clock, limits.UNREAD_MS_MAX + 3 * SECOND_MS)
    assert client.transport.closed
    assert len(server.clients) == 0


# --- memory --------------------------------------------------------------------------------------


def test_who_holds_most_back_goes_first(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, log: list[Any]
) -> None:
    monkeypatch.setattr(limits, "CLIENTS_BYTES_MAX", 3_000_000)
    server = started()
    small = server.connect()
    small.send(b"*2\r\n$4\r\nECHO\r\n$1000\r\nx")
    large = [server.connect() for _ in range(5)]
    for client in large:
        client.send(array(b"INFO", *[b"x" * 60_000] * 12)[:-1])
    sweep_for(server, clock, SECOND_MS)
    assert small.open
    assert sum(client.open for client in large) == 2
    assert sum(client.connection.memory for client in large if client.open) < 3_000_000
    assert {entry["event"] for entry in log} == {
        "client closed: clients hold too much memory, and it the most"
    }


def test_much_at_once_does_not_wait_for_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS_BYTES_MAX", 20 << 20)
    server = started(maxclients=200)
    crowd = [server.connect() for _ in range(150)]
    data = array(b"INFO", *[b"x" * 60_000] * 17)[:-1]
    for client in crowd:
        for begin in range(0, len(data), 200_000):
            if client.open:
                client.send(data[begin : begin + 200_000])
    held = sum(client.connection.memory for client in crowd if client.open)
    assert held < (20 << 20) + (34 << 20)


def test_unread_replies_count_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS_BYTES_MAX", 20 << 20)
    server = started()
    crowd = [much_unread(server) for _ in range(20)]
    assert sum(client.connection.memory for client in crowd if client.open) < (20 << 20) + (
        34 << 20
    )
    assert 0 < sum(client.open for client in crowd) < 20


def test_usual_clients_hold_nothing_back() -> None:
    server = started()
    client = server.connect()
    client.send(ACQUIRE * 100)
    server.settle()
    assert client.connection.memory == 0


# --- the log -------------------------------------------------------------------------------------


def test_a_kind_of_trouble_is_logged_once_a_minute_with_a_count(
    clock: Clock, log: list[Any]
) -> None:
    server = started(requirepass="secret")
    for _ in range(200):
        client = server.connect()
        client.call(b"AUTH", b"wrong")
        client.transport.lose()
    assert [(entry["event"], entry["count"]) for entry in log] == [("wrong user or password", 1)]
    sweep_for(server, clock, 59 * SECOND_MS)
    assert len(log) == 1
    sweep_for(server, clock, 2 * SECOND_MS)
    assert [entry["count"] for entry in log] == [1, 199]
    sweep_for(server, clock, 3_600 * SECOND_MS)
    assert len(log) == 2, "nothing more has happened"
    client = server.connect()
    client.call(b"AUTH", b"wrong")
    assert [entry["count"] for entry in log] == [1, 199, 1]
    assert log[2]["address"] == "127.0.0.1:50000"


def test_kinds_are_counted_apart_and_hold_nothing_of_a_client(log: list[Any]) -> None:
    server = FakeServer(maxclients=1, requirepass="secret")
    for _ in range(50):
        client = server.connect()
        client.send(array(b"AUTH", b"evil\n[error] forged") + b"*evil\n\r\n")
        server.connect()
        server.settle()
    assert sorted(entry["event"] for entry in log) == [
        "client closed: its bytes are not RESP",
        "client refused: there are maxclients already",
        "wrong user or password",
    ]
    assert "evil" not in str(log)


def test_every_reason_to_close_is_a_kind(clock: Clock, log: list[Any]) -> None:
    server = started(requirepass="secret")
    for _ in range(40):
        server.connect().send(b"*1\r\n")
    sweep_for(server, clock, 50 * SECOND_MS)
    assert len(server.clients) == 0
    assert [entry["event"] for entry in log] == ["client closed: it did not authenticate"]
