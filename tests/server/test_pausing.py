"""CLIENT PAUSE: what waits, and what ends it."""

from __future__ import annotations

from tests.server.fakes import FakeClient, FakeServer, array

SET = array(b"SET", b"k", b"v")


def ask(server: FakeServer, client: FakeClient, *words: bytes) -> list[object]:
    """What is answered for now."""
    client.call(*words)
    return settle(server, client)


def settle(server: FakeServer, client: FakeClient) -> list[object]:
    for _ in range(4):  # a command behind another goes on its way once that is answered
        server.loop.run()
        server.engine.answer()
    return client.take()


def test_writes_wait_and_reads_do_not(server: FakeServer) -> None:
    operator, before = server.connect(), server.connect()
    assert ask(server, operator, b"CLIENT", b"PAUSE", b"60000", b"WRITE") == [b"OK"]
    after = server.connect()
    for client in (before, after):
        assert ask(server, client, b"GET", b"k") == [None]
        client.send(SET * 2 + array(b"GET", b"k"))
        assert settle(server, client) == []
    assert ask(server, operator, b"CLIENT", b"UNPAUSE") == [b"OK"]
    for client in (before, after):
        assert settle(server, client) == [b"OK", b"OK", b"v"]


def test_everything_waits_but_the_end_of_the_pause(server: FakeServer) -> None:
    operator, client = server.connect(), server.connect()
    ask(server, operator, b"CLIENT", b"PAUSE", b"60000")
    assert ask(server, client, b"PING") == []
    assert ask(server, operator, b"PING") == []
    assert ask(server, server.connect(), b"CLIENT", b"UNPAUSE") == [b"OK"]
    assert settle(server, client) == settle(server, operator) == [b"PONG"]
    assert ask(server, client, b"SET", b"k", b"v") == [b"OK"]


def test_a_pause_ends_by_itself_and_the_longer_one_counts(server: FakeServer) -> None:
    client = server.connect()
    ask(server, client, b"CLIENT", b"PAUSE", b"60000", b"WRITE")
    ask(server, client, b"CLIENT", b"PAUSE", b"1", b"WRITE")
    client.send(SET)
    assert settle(server, client) == []
    timers = [timer for timer in server.loop.timers if not timer.cancelled]
    [unpause] = [timer for timer in timers if timer.callback == server.clients.unpause]
    assert 59 < unpause.delay_s <= 60
    unpause.callback()
    assert settle(server, client) == [b"OK"]


def test_who_leaves_meanwhile_is_forgotten(server: FakeServer) -> None:
    operator, client = server.connect(), server.connect()
    ask(server, operator, b"CLIENT", b"PAUSE", b"60000", b"WRITE")
    client.send(SET)
    client.transport.lose()
    ask(server, operator, b"CLIENT", b"UNPAUSE")
    assert not server.engine.waiting
    assert ask(server, operator, b"GET", b"k") == [None]
