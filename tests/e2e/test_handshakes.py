"""What client libraries send when they connect, byte for byte in their order, and what they can live
with in reply. No library in another language runs here: each is replayed from what a recording proxy
saw of it, or from its source.

Two kinds of answer are told apart for each command: one that the client needs, and one whatever it
is; none may end the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.e2e.process import ServerProcess
from tests.e2e.wire import Closed, Failure, Map, Pushed, Status, Verbatim, Wire, by_field, command

PASSWORD = "open sesame"

Check = Callable[[Any], None]


# --- what a client needs -------------------------------------------------------------------------


def ok(reply: Any) -> None:
    assert isinstance(reply, Status), reply
    assert reply == "OK"


def pong(reply: Any) -> None:
    assert isinstance(reply, Status), reply
    assert reply == "PONG"


def hello(protocol: int) -> Check:
    """The greeting, with every field that a client reads."""

    def check(reply: Any) -> None:
        assert isinstance(reply, Map if protocol == 3 else list), reply
        fields = by_field(reply)
        assert fields.pop("id") > 0
        major, minor, _ = fields.pop("version").split(b".")
        assert (int(major), int(minor)) == (7, 2), "rueidis asks an 8 for CLUSTER SHARDS"
        assert fields == {
            "server": b"redis",
            "proto": protocol,
            "mode": b"standalone",
            "role": b"master",
            "modules": [],
        }

    return check


def text(protocol: int, *lines: bytes) -> Check:
    """INFO: a verbatim string in RESP3, with these lines."""

    def check(reply: Any) -> None:
        assert isinstance(reply, Verbatim if protocol == 3 else bytes), reply
        for line in lines:
            assert line in reply.split(b"\r\n"), line

    return check


def any_reply(reply: Any) -> None:
    """The client goes on whatever the answer is, an error included."""


def exactly(wanted: Any) -> Check:
    def check(reply: Any) -> None:
        assert reply == wanted, reply

    return check


def an_integer(reply: Any) -> None:
    assert isinstance(reply, int), reply


def settings(*names: bytes) -> Check:
    """A CONFIG GET that finds these."""

    def check(reply: Any) -> None:
        assert {name.encode() for name in by_field(reply)} == set(names)

    return check


def all_slots(reply: Any) -> None:
    """One node owns everything."""
    [[first, last, owner]] = reply
    assert (first, last) == (0, 16383)
    assert owner[0] == b"127.0.0.1"


def all_nodes(reply: Any) -> None:
    """This node, which owns everything."""
    [line] = reply.splitlines()
    words = line.split(b" ")
    assert len(words[0]) == 40
    assert words[2:4] == [b"myself,master", b"-"]
    assert words[-2:] == [b"connected", b"0-16383"]


def masters(reply: Any) -> None:
    """One master, its fields text."""
    [master] = map(by_field, reply)
    assert master["name"] == b"resplock"
    assert all(isinstance(value, bytes) for value in master.values())


def subscribed(reply: Any) -> None:
    assert isinstance(reply, Pushed), reply
    assert reply[0] == b"subscribe"


class Step(NamedTuple):
    """A command, and what its reply must be."""

    words: tuple[object, ...]
    check: Check


class Handshake(NamedTuple):
    """What a client sends. `pipelined`: in one write, before it reads."""

    client: str
    steps: tuple[Step, ...]
    pipelined: bool = False


def steps(*pairs: tuple[str, Check] | tuple[tuple[object, ...], Check]) -> tuple[Step, ...]:
    """Steps, the words of each as one text where none has a blank in it."""
    return tuple(
        Step(tuple(words.split()) if isinstance(words, str) else words, check)
        for words, check in pairs
    )


MAINTENANCE = "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip"

HANDSHAKES = [
    Handshake(
        "redis-py 8",
        steps(
            ("HELLO 3", hello(3)),
            (MAINTENANCE, any_reply),
            ("CLIENT SETNAME worker", ok),
            ("CLIENT SETINFO LIB-NAME redis-py", ok),
            ("CLIENT SETINFO LIB-VER 8.1.0", ok),
            ("SELECT 3", ok),
            ("PING", pong),
        ),
    ),
    Handshake(
        "redis-py 8 in RESP2",
        steps(
            ("CLIENT SETNAME worker", ok),
            ("CLIENT SETINFO LIB-NAME redis-py", ok),
            ("CLIENT SETINFO LIB-VER 8.1.0", ok),
            ("SELECT 3", ok),
            ("PING", pong),
        ),
    ),
    Handshake("hiredis", steps(("PING", pong))),
    Handshake(
        "ioredis 6",
        steps(
            ("hello 3", hello(3)),
            ("select 3", ok),
            ("client setname worker", ok),
            ("readonly", ok),
            ("client SETINFO LIB-NAME ioredis", ok),
            ("client SETINFO LIB-VER 6.0.0", ok),
            ("info", text(3, b"loading:0", b"role:master")),
        ),
    ),
    Handshake(
        "node-redis 6",
        steps(
            ("HELLO 3 SETNAME worker", hello(3)),
            ("SELECT 3", ok),
            ("CLIENT SETINFO LIB-VER 6.3.1", ok),
            ("CLIENT SETINFO LIB-NAME node-redis", ok),
            (MAINTENANCE, any_reply),
            ("PING", pong),
        ),
        pipelined=True,
    ),
    Handshake(
        "go-redis 9, first write",
        steps(("HELLO 3 SETNAME worker", hello(3))),
    ),
    Handshake(
        "go-redis 9, what follows",
        steps(
            ("SELECT 3", ok),
            ("READONLY", ok),
            ("CLIENT SETNAME worker", ok),
            ("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type external-ip", any_reply),
            (("CLIENT", "SETINFO", "LIB-NAME", "go-redis(,go1.24)"), ok),
            ("CLIENT SETINFO LIB-VER 9.18.0", ok),
            ("PING", pong),
        ),
        pipelined=True,
    ),
    Handshake(
        "jedis",
        steps(
            ("HELLO 3", hello(3)),
            ("CLIENT SETNAME worker", ok),
            ("CLIENT SETINFO LIB-NAME jedis", ok),
            ("CLIENT SETINFO LIB-VER 7.0.0", ok),
            ("SELECT 3", ok),
            ("PING", pong),
        ),
        pipelined=True,
    ),
    Handshake(
        "jedis in RESP2",
        steps(("HELLO 2", hello(2)), ("CLIENT SETINFO LIB-NAME jedis", ok), ("PING", pong)),
    ),
    Handshake(
        "lettuce",
        steps(
            ("HELLO 3 SETNAME worker", hello(3)),
            ("SELECT 3", ok),
            (("CLIENT", "SETINFO", "lib-name", "Lettuce"), ok),
            (("CLIENT", "SETINFO", "lib-ver", "7.0.0.RELEASE/abcdef0"), ok),
            (MAINTENANCE, any_reply),
            ("PING", pong),
        ),
        pipelined=True,
    ),
    Handshake(
        "lettuce in RESP2",
        steps(("PING", pong), ("CLIENT SETNAME worker", ok), ("SELECT 3", ok)),
    ),
    Handshake(
        "lettuce, topology",
        steps(("CLUSTER NODES", all_nodes)),  # its cluster client only
    ),
    Handshake(
        "StackExchange.Redis 3.1",
        steps(
            ("HELLO 3 SETNAME worker", hello(3)),
            ("CLIENT SETNAME worker", ok),
            ("CLIENT SETINFO lib-name SE.Redis", ok),
            ("CLIENT SETINFO lib-ver 3.1.0", ok),
            ("CLIENT ID", an_integer),
            ("CONFIG GET timeout", settings(b"timeout")),
            ("CONFIG GET slave-read-only", settings(b"slave-read-only")),
            ("CONFIG GET replica-read-only", settings(b"replica-read-only")),
            ("CONFIG GET databases", settings(b"databases")),
            # A scalar, or INFO's redis_mode, would make it a mere Sentinel.
            ("SENTINEL MASTERS", masters),
            ("INFO replication", text(3, b"role:master", b"connected_slaves:0")),
            ("INFO server", text(3, b"redis_mode:standalone")),
            ("CLUSTER NODES", all_nodes),
            # String keys are for later; this one is asked for without a need.
            ("GET __Booksleeve_TieBreak", any_reply),
            (("ECHO", bytes(range(256))), exactly(bytes(range(256)))),
            ("SUBSCRIBE __Booksleeve_MasterChanged", subscribed),
        ),
        pipelined=True,
    ),
    Handshake(
        "redis-rs",
        steps(
            ("SELECT 3", ok),
            ("CLIENT SETINFO LIB-NAME redis-rs", ok),
            ("CLIENT SETINFO LIB-VER 1.0.0", ok),
            ("PING", pong),
        ),
        pipelined=True,
    ),
    Handshake(
        "redis-rs in RESP3",
        steps(("HELLO 3", hello(3)), ("SELECT 3", ok), ("CLIENT SETINFO LIB-NAME redis-rs", ok)),
        pipelined=True,
    ),
    Handshake(
        "rueidis with DisableCache",  # else it needs CLIENT TRACKING, which is for later
        steps(
            ("HELLO 3 SETNAME worker", hello(3)),
            ("SELECT 3", ok),
            ("CLIENT CAPA redirect", any_reply),
            ("CLIENT SETINFO LIB-NAME rueidis", ok),
            ("CLIENT SETINFO LIB-VER 1.0.67", ok),
            ("CLUSTER SLOTS", all_slots),  # it tries a cluster first
        ),
        pipelined=True,
    ),
]


def play(wire: Wire, handshake: Handshake) -> None:
    """Send the handshake as the client does, and check each reply."""
    if handshake.pipelined:
        wire.send_bytes(b"".join(command(*step.words) for step in handshake.steps))
    for step in handshake.steps:
        if not handshake.pipelined:
            wire.send(*step.words)
        reply = wire.receive()
        try:
            step.check(reply)
        except AssertionError as error:
            raise AssertionError(f"{handshake.client}: {step.words}: {error}") from error


@pytest.mark.parametrize("handshake", HANDSHAKES, ids=lambda handshake: handshake.client)
def test_a_client_connects_and_takes_a_lock(server: ServerProcess, handshake: Handshake) -> None:
    with server.wire() as wire:
        play(wire, handshake)
        key = f"lock of {handshake.client}"
        assert wire.map("LOCK.ACQUIRE", key, "me")["status"] == b"granted"
        assert wire.map("LOCK.RELEASE", key, "me")["released"] == 1


@pytest.mark.parametrize("handshake", HANDSHAKES, ids=lambda handshake: handshake.client)
def test_it_is_the_same_byte_by_byte(server: ServerProcess, handshake: Handshake) -> None:
    with server.wire() as wire:
        for step in handshake.steps:
            for byte in command(*step.words):
                wire.send_bytes(bytes([byte]))
        for step in handshake.steps:
            step.check(wire.receive())


class TestFallingBack:
    """Clients that want RESP3 and meet a server without it, or ask for a version to come."""

    def test_hello_4_is_refused_with_the_code_that_clients_know(
        self, server: ServerProcess
    ) -> None:
        with server.wire() as wire:
            reply = wire.call("HELLO", 4)
            assert reply == "NOPROTO unsupported protocol version"
            assert wire.call("PING") == "PONG"
            assert isinstance(wire.call("HELLO"), list), "still RESP2"

    def test_hello_2_after_hello_3(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            hello(3)(wire.call("HELLO", 3))
            hello(2)(wire.call("HELLO", 2))
            assert wire.call("LOCK.GET", "nothing") is None

    def test_an_unknown_subcommand_leaves_the_connection_be(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            assert wire.call(*MAINTENANCE.split()).startswith("ERR unknown subcommand")
            assert wire.call("CLIENT", "CAPA", "redirect") == "OK", "whatever it may be"
            assert "LOCK.WATCH" in wire.call("CLIENT", "TRACKING", "ON", "OPTIN")
            assert wire.call("CLIENT", "SETINFO", "LIB-LOGO", "x").code == "ERR"
            assert wire.call("PING") == "PONG"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants a password."""
    shared = ServerProcess(tmp_path_factory.mktemp("guarded"), f"--requirepass={PASSWORD}")
    try:
        yield shared.start()
        assert shared.terminate() == 0
        shared.assert_clean_log()
    finally:
        shared.discard()


class TestPassword:
    WITH_PASSWORD = (
        Handshake(
            "HELLO AUTH SETNAME (redis-py, node-redis, go-redis, lettuce, SE.Redis)",
            steps(
                (("HELLO", 3, "AUTH", "default", PASSWORD, "SETNAME", "worker"), hello(3)),
                ("CLIENT SETINFO LIB-NAME lib", ok),
            ),
        ),
        Handshake(
            "lower case (ioredis)",
            steps((("hello", "3", "auth", "default", PASSWORD), hello(3)), ("select 3", ok)),
        ),
        Handshake(
            "AUTH password (redis-cli, redis-rs, redis-py in RESP2)",
            steps((("AUTH", PASSWORD), ok), ("SELECT 3", ok)),
        ),
        Handshake(
            "AUTH user password, then HELLO 2 (jedis, SE.Redis)",
            steps((("AUTH", "default", PASSWORD), ok), ("HELLO 2", hello(2))),
            pipelined=True,
        ),
    )

    @pytest.mark.parametrize("handshake", WITH_PASSWORD, ids=lambda handshake: handshake.client)
    def test_the_right_one(self, guarded: ServerProcess, handshake: Handshake) -> None:
        with guarded.wire() as wire:
            play(wire, handshake)
            assert wire.map("LOCK.ACQUIRE", "lock", "me")["status"] == b"granted"

    def test_none_gets_noauth_for_everything_but_the_door(self, guarded: ServerProcess) -> None:
        with guarded.wire() as wire:
            for words in ("PING", "LOCK.ACQUIRE lock me", "INFO", "CLIENT ID", "LOCK.GET lock"):
                assert wire.call(*words.split()) == "NOAUTH Authentication required.", words
            assert wire.call("HELLO", 3).startswith("NOAUTH HELLO must be called")
            assert wire.call("HELLO").code == "NOAUTH"
            assert wire.call("RESET") == "RESET"
            assert wire.call("QUIT") == "OK"
            with pytest.raises(Closed):
                wire.receive()

    def test_a_pipeline_without_it_is_refused_in_order(self, guarded: ServerProcess) -> None:
        with guarded.wire() as wire:
            replies = wire.pipeline(
                ("LOCK.ACQUIRE", "early", "me"),
                ("AUTH", "wrong"),
                ("LOCK.ACQUIRE", "early", "me"),
                ("AUTH", PASSWORD),
                ("LOCK.GET", "early"),
            )
            codes = [reply.code if isinstance(reply, Failure) else reply for reply in replies]
            assert codes == ["NOAUTH", "WRONGPASS", "NOAUTH", "OK", None]

    def test_a_wrong_one_does_not_take_the_right_one_away(self, guarded: ServerProcess) -> None:
        with guarded.wire(password=PASSWORD) as wire:
            assert wire.call("AUTH", "wrong").code == "WRONGPASS"
            assert wire.call("HELLO", 3, "AUTH", "default", "wrong").code == "WRONGPASS"
            assert wire.call("AUTH", "nobody", PASSWORD).code == "WRONGPASS"
            assert wire.call("PING") == "PONG"
            assert isinstance(wire.call("HELLO"), list), "still RESP2"

    def test_reset_asks_for_it_again(self, guarded: ServerProcess) -> None:
        with guarded.wire(password=PASSWORD, protocol=3) as wire:
            assert wire.call("RESET") == "RESET"
            assert wire.call("PING").code == "NOAUTH"

    def test_where_none_is_set(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            assert wire.call("AUTH", "anything").startswith("ERR AUTH <password> called without")
            assert wire.call("AUTH", "default", "anything") == "OK"
            assert wire.call("AUTH", "somebody", "anything").code == "WRONGPASS"
