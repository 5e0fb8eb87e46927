"""However a client's bytes are cut, whenever the answers come and whenever it reads: same replies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from resplock.server import connection
from tests.replies import parse_replies
from tests.server.fakes import FakeClient, FakeServer, array


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture(autouse=True, params=[1, 17])
def _learning(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Connections learn from every lone operation, or from some as they do."""
    monkeypatch.setattr(connection, "_LEARN_EVERY", request.param)


budget = settings(max_examples=max(400, settings().max_examples))

KEYS = st.sampled_from([b"a", b"b"])
OWNERS = st.sampled_from([b"me", b"you"])


def call(*words: str | st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A command, some of whose words vary."""
    each = [st.just(word.encode()) if isinstance(word, str) else word for word in words]
    return st.tuples(*each).map(lambda argv: array(*argv))


operations = st.one_of(
    call("LOCK.ACQUIRE", KEYS, OWNERS),
    call("LOCK.ACQUIRE", KEYS, OWNERS, "TTL", "500"),
    call("lock.acquire", KEYS, OWNERS, "REQUEST", OWNERS),
    call("Lock.Acquire", KEYS, OWNERS),
    call("LOCK.RELEASE", KEYS, OWNERS),
    call("LOCK.RENEW", KEYS, OWNERS),
    call("LOCK.KEEPALIVE", OWNERS),
    call("LOCK.BREAK", KEYS),
)
reads = st.one_of(
    call("LOCK.GET", KEYS),
    call("LOCK.CHECK", KEYS, "1"),
    call("lock.backoff", KEYS),
    call("LOCK.LIST"),
    call("LOCK.LIST", "CURSOR", "nonsense"),
    call("DBSIZE"),
)
locals_ = st.one_of(
    call("PING"),
    call("ping", OWNERS),
    call("ECHO", st.sampled_from([b"", b"x", b"y" * 65_536])),
    call("SELECT", st.sampled_from([b"0", b"1", b"16"])),
    call("CLIENT", "SETNAME", OWNERS),
    call("CLIENT", "GETNAME"),
    call("CLIENT", "ID"),
    call("HELLO", st.sampled_from([b"2", b"3", b"4"])),
    call("RESET"),
)
muting = call("CLIENT", "REPLY", st.sampled_from([b"ON", b"OFF", b"SKIP", b"SKIP", b"ON", b"x"]))
wrong = st.one_of(
    call("NOSUCH", KEYS),
    call("LOCK.ACQUIRE", KEYS),
    call("LOCK.ACQUIRE", KEYS, OWNERS, "TTL", "x"),
    call("LOCK.GET"),
    call("CLIENT"),
    call("CLIENT", "NOSUCH"),
    st.just(b"\r\n"),
    st.just(b"LOCK.ACQUIRE a 'me'\r\n"),
)
ALIKE = st.sampled_from(
    [
        ("LOCK.ACQUIRE", "me"),
        ("LOCK.ACQUIRE", "me", "TTL", "500"),
        ("LOCK.RELEASE", "me"),
        ("LOCK.ACQUIRE", "me", "TTL", "x"),
        ("ECHO",),
    ]
)


@st.composite
def pipelines(draw: st.DrawFn) -> bytes:
    """Like commands, for key after key."""
    name, *rest = (word.encode() for word in draw(ALIKE))
    keys = draw(st.lists(st.sampled_from([b"a", b"b", b"c", b"x" * 1025]), min_size=1, max_size=8))
    return b"".join(array(name, key, *rest) for key in keys)


commands = st.lists(
    st.one_of(
        operations,
        operations,
        operations,
        pipelines(),
        pipelines(),
        reads,
        reads,
        locals_,
        locals_,
        muting,
        wrong,
    ),
    min_size=1,
    max_size=25,
)
endings = st.sampled_from([b"", array(b"QUIT"), b"*1\r\n!\r\n", b"*5\r\n$4\r\nLOCK", None])


@st.composite
def cut(draw: st.DrawFn, parts: list[bytes]) -> list[bytes]:
    """The same bytes in other pieces, some of which may be whole commands."""
    data = b"".join(parts)
    ends = list(accumulate(map(len, parts)))
    anywhere = st.one_of(st.integers(0, len(data)), st.sampled_from(ends))
    places = sorted(draw(st.lists(anywhere, max_size=20)))
    return [
        data[begin:end]
        for begin, end in zip([0, *places], [*places, len(data)], strict=True)
        if begin < end
    ]


class Schedule:
    """What happens between two pieces of a client's bytes."""

    def __init__(self, server: FakeServer, client: FakeClient) -> None:
        self.server = server
        self.client = client

    def run(self, action: int) -> None:
        transport = self.client.transport
        match action:
            case 0:
                self.server.loop.turn()
            case 1 | 2 | 3 | 4:
                self.server.engine.answer(action)
            case 5:
                transport.stalled = True
            case 6:
                transport.drain(20_000)
            case 7:
                transport.stalled = False
                transport.drain()
            case _:
                self.server.settle()


schedules = st.lists(st.lists(st.integers(0, 8), max_size=4), max_size=20)


def one_at_a_time(requests: list[bytes], ending: bytes | None) -> FakeClient:
    """The replies to what was each sent once all before was answered, and nothing learned from it."""
    server = FakeServer()
    client = server.connect()
    with mock.patch.object(connection, "learn"):
        for request in [*requests, ending]:
            if client.open and request is not None:
                client.send(request)
            elif client.open:
                client.shut()
            server.settle()
    return client


@budget
@given(commands, endings, schedules, st.data())
def test_any_cut_any_delay(
    requests: list[bytes], ending: bytes | None, schedule: list[list[int]], data: st.DataObject
) -> None:
    expected = one_at_a_time(requests, ending)

    server = FakeServer()
    client = server.connect()
    actions = Schedule(server, client)
    pieces: list[bytes | None] = [*data.draw(cut([*requests, ending or b""]))]
    if ending is None:
        pieces.append(None)
    for number, piece in enumerate(pieces):
        if client.open:
            client.transport.feed(piece)
        for action in schedule[number % len(schedule)] if schedule else ():
            actions.run(action)
    client.transport.stalled = False
    for _ in range(3):
        server.settle()
        client.transport.drain()
    server.settle()

    assert client.received == expected.received
    assert client.open == expected.open
    assert not server.engine.waiting
    assert client.transport.held_back == 0 or not client.open
    assert client.connection.idle
    assert client.transport.reading == client.open
    assert len(server.clients) == client.open
    assert parse_replies(client.received)[1]


@budget
@given(commands, st.integers(0, 60), schedules)
def test_a_client_that_goes_at_any_moment_takes_nothing_with_it(
    requests: list[bytes], when: int, schedule: list[list[int]]
) -> None:
    """Another client is served in full; of the lost one a prefix of its commands took effect."""
    server = FakeServer()
    lost, other = server.connect(), server.connect()
    actions = Schedule(server, lost)
    steps = 0
    for number, request in enumerate(requests):
        if steps <= when and lost.open:
            lost.send(request)
        other.send(array(b"LOCK.ACQUIRE", b"other", b"o"))
        for action in schedule[number % len(schedule)] if schedule else ():
            steps += 1
            if steps == when and not lost.transport.closed:
                lost.transport.lose(ConnectionResetError())
            if not lost.transport.closed:
                actions.run(action)
            else:
                server.loop.turn()
    lost.transport.lose()
    server.settle()
    assert len(other.take()) == len(requests)
    assert not server.engine.waiting
    assert len(server.clients) == 1
    assert lost.connection.idle
