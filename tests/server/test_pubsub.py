"""Subscriptions: the registry, its bounds, and what a connection may do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from resplock import limits
from resplock.errors import CommandError
from resplock.server.pubsub import Outbox, PubSub
from tests.replies import parse_replies
from tests.server.fakes import FakeServer, ask


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


class Listener:
    """A subscriber in a test's hands."""

    def __init__(self, protocol_version: int = 2) -> None:
        self.protocol_version = protocol_version
        self.received = b""
        self.pushes = 0

    def push(self, data: bytes) -> None:
        self.received += data
        self.pushes += 1

    def cut_off(self, reason: str) -> None:
        raise AssertionError(reason)


class TestRegistry:
    def test_counts(self) -> None:
        pubsub, me = PubSub(), Listener()
        assert pubsub.subscribe(me, b"a") == 1
        assert pubsub.subscribe(me, b"a") == 1
        assert pubsub.subscribe_pattern(me, b"a*") == 2
        assert (pubsub.channel_count, pubsub.pattern_count, pubsub.subscribers(b"a")) == (1, 1, 1)
        assert pubsub.unsubscribe(me, b"nothing") == 2
        assert pubsub.unsubscribe(me, b"a") == 1
        assert pubsub.unsubscribe_pattern(me, b"a*") == 0
        assert pubsub.unsubscribe_pattern(me, b"a*") == 0
        assert (pubsub.channel_count, pubsub.pattern_count, pubsub.subscribers(b"a")) == (0, 0, 0)

    def test_a_message_goes_to_the_channel_then_to_each_pattern(self) -> None:
        pubsub, me, other = PubSub(), Listener(), Listener(3)
        pubsub.subscribe_pattern(me, b"n*")
        pubsub.subscribe(me, b"news")
        pubsub.subscribe(other, b"news")
        pubsub.subscribe(other, b"other")
        assert pubsub.publish(b"news", b"hi") == 3
        assert me.received == (
            b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
            b"*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        )
        assert other.received == b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        assert pubsub.publish(b"silence", b"hi") == 0

    def test_who_leaves_gets_nothing_and_is_forgotten(self) -> None:
        pubsub, me, other = PubSub(), Listener(), Listener()
        for who in (me, other):
            pubsub.subscribe(who, b"a")
            pubsub.subscribe_pattern(who, b"*")
        pubsub.leave(me)
        pubsub.leave(me)
        assert pubsub.publish(b"a", b"hi") == 2
        assert me.received == b""
        pubsub.leave(other)
        assert pubsub.publish(b"a", b"hi") == 0
        assert (pubsub.channel_count, pubsub.pattern_count) == (0, 0)
        assert vars(pubsub)["_subscriptions"] == vars(pubsub)["_matchers"] == {}

    def test_a_shard_is_counted_apart_and_hears_the_same(self) -> None:
        pubsub, me = PubSub(), Listener()
        assert pubsub.subscribe_shard(me, b"a") == 1
        assert pubsub.subscribe_shard(me, b"a") == 1
        assert pubsub.subscribe(me, b"a") == 1
        assert len(pubsub.of(me)) == 2
        assert (pubsub.subscribers(b"a"), pubsub.shard_subscribers(b"a")) == (1, 1)
        assert (pubsub.channels(), pubsub.shard_channels(b"?")) == ([b"a"], [b"a"])
        assert pubsub.publish(b"a", b"hi") == 2
        assert me.received == (
            b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
            b"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
        )
        assert pubsub.unsubscribe_shard(me, b"b") == 1
        assert pubsub.unsubscribe_shard(me, b"a") == 0
        assert (pubsub.shard_subscribers(b"a"), pubsub.shard_channels()) == (0, [])
        pubsub.subscribe_shard(me, b"c")
        pubsub.leave(me)
        assert pubsub.publish(b"a", b"hi") == pubsub.publish(b"c", b"hi") == 0

    def test_what_is_put_together_comes_in_one_piece(self) -> None:
        pubsub, me, other = PubSub(), Listener(), Listener(3)
        pubsub.subscribe(me, b"a")
        pubsub.subscribe_pattern(other, b"*")
        outbox = Outbox()
        for number in range(3):
            pubsub.put(outbox, b"a", b"%d" % number)
        assert (me.pushes, other.pushes, outbox.count) == (0, 0, 6)
        assert outbox.bytes > 0
        assert outbox.send() == 6
        assert (me.pushes, other.pushes) == (1, 1)
        assert [each[2] for each in parse_replies(me.received)[0]] == [b"0", b"1", b"2"]
        assert (outbox.send(), outbox.bytes, me.pushes) == (0, 0, 1)

    def test_bytes_are_counted(self) -> None:
        pubsub, me = PubSub(), Listener()
        pubsub.subscribe(me, b"abc")
        pubsub.subscribe(me, b"abc")
        pubsub.subscribe_pattern(me, b"d*")
        assert pubsub.of(me).bytes == 5
        pubsub.unsubscribe(me, b"abc")
        assert pubsub.of(me).bytes == 2

    def test_an_empty_pattern_matches_the_empty_channel_only(self) -> None:
        pubsub, me = PubSub(), Listener()
        pubsub.subscribe_pattern(me, b"")
        assert pubsub.publish(b"a", b"") == 0
        assert pubsub.publish(b"", b"") == 1


class TestBounds:
    @pytest.mark.parametrize(
        ("limit", "wanted", "words"),
        [
            ("SUBSCRIPTIONS_MAX", {"channels": (b"a", b"b", b"c")}, "2 subscriptions of one"),
            ("SUBSCRIPTIONS_MAX", {"channels": (b"a", b"b"), "patterns": (b"c",)}, "2 subscr"),
            ("PATTERN_SUBSCRIPTIONS_MAX", {"patterns": (b"a", b"b", b"c")}, "2 patterns of one"),
            ("CHANNELS_MAX", {"channels": (b"a", b"b", b"c")}, "2 channels on this node"),
            ("CHANNELS_MAX", {"shard_channels": (b"a", b"b", b"c")}, "2 channels on this node"),
            (
                "SUBSCRIPTIONS_MAX",
                {"channels": (b"a", b"b"), "shard_channels": (b"c",)},
                "2 subscriptions of one",
            ),
            ("PATTERNS_MAX", {"patterns": (b"a", b"b", b"c")}, "2 patterns on this node"),
        ],
    )
    def test_admission(
        self, monkeypatch: pytest.MonkeyPatch, limit: str, wanted: dict[str, Any], words: str
    ) -> None:
        monkeypatch.setattr(limits, limit, 2)
        pubsub, me = PubSub(), Listener()
        with pytest.raises(CommandError, match=words) as caught:
            pubsub.admit(me, **wanted)
        assert caught.value.code == "BUSY"
        for names in wanted.values():
            pubsub.admit(me, channels=names[:2] * 5)
            pubsub.admit(me, patterns=names[:2] * 5)
            pubsub.admit(me, shard_channels=names[:2] * 5)

    def test_what_is_there_already_counts_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "SUBSCRIPTIONS_MAX", 2)
        monkeypatch.setattr(limits, "CHANNELS_MAX", 2)
        pubsub, me, other = PubSub(), Listener(), Listener()
        pubsub.subscribe(me, b"a")
        pubsub.subscribe(me, b"b")
        pubsub.admit(me, channels=(b"b", b"a"))
        pubsub.admit(other, channels=(b"a",))
        with pytest.raises(CommandError, match="subscriptions"):
            pubsub.admit(me, channels=(b"c",))
        with pytest.raises(CommandError, match="channels on this node"):
            pubsub.admit(other, channels=(b"c",))

    def test_the_list_of_channels_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pubsub, me = PubSub(), Listener()
        for number in range(100):
            pubsub.subscribe(me, b"%03d" % number)
        assert len(pubsub.channels()) == len(pubsub.channels(b"*")) == 100
        assert pubsub.channels(b"?1[0-1]") == [b"010", b"011"]
        monkeypatch.setattr(limits, "CHANNELS_BYTES_MAX", 30)
        assert len(pubsub.channels()) == 11
        monkeypatch.setattr(limits, "LIST_STEPS_MAX", 40)
        assert len(pubsub.channels(b"?*?")) == 10


class TestConnections:
    def test_a_subscriber_in_resp2_proposes_nothing(self, server: FakeServer) -> None:
        client = server.connect()
        assert ask(server, client, b"SUBSCRIBE", b"a") == [[b"subscribe", b"a", 1]]
        [error] = ask(server, client, b"LOCK.ACQUIRE", b"k", b"me")
        assert str(error).startswith("ERR Can't execute 'lock.acquire': only (P|S)SUBSCRIBE")
        errors = ask(server, client, b"LOCK.RELEASE", b"k", b"me")
        assert str(errors[0]).startswith("ERR Can't execute 'lock.release'")
        assert not server.engine.waiting
        ask(server, client, b"UNSUBSCRIBE")
        [reply] = ask(server, client, b"LOCK.ACQUIRE", b"k", b"me")
        assert reply[1] == b"granted"

    def test_a_shard_subscriber_in_resp2_proposes_nothing(self, server: FakeServer) -> None:
        client = server.connect()
        assert ask(server, client, b"SSUBSCRIBE", b"a") == [[b"ssubscribe", b"a", 1]]
        assert ask(server, client, b"SUBSCRIBE", b"a") == [[b"subscribe", b"a", 1]]
        assert ask(server, client, b"UNSUBSCRIBE") == [[b"unsubscribe", b"a", 0]]
        [error] = ask(server, client, b"LOCK.ACQUIRE", b"k", b"me")
        assert str(error).startswith("ERR Can't execute 'lock.acquire': only (P|S)SUBSCRIBE")
        [info] = ask(server, server.connect(), b"CLIENT", b"LIST", b"TYPE", b"PUBSUB")
        assert b" sub=0 psub=0 ssub=1 " in info
        assert ask(server, client, b"SUNSUBSCRIBE") == [[b"sunsubscribe", b"a", 0]]
        assert ask(server, client, b"SUNSUBSCRIBE") == [[b"sunsubscribe", None, 0]]
        [reply] = ask(server, client, b"LOCK.ACQUIRE", b"k", b"me")
        assert reply[1] == b"granted"

    def test_a_pipeline_keeps_its_order(self, server: FakeServer) -> None:
        client = server.connect()
        for argv in ([b"LOCK.CHECK", b"k", b"1"], [b"SUBSCRIBE", b"a"], [b"PING"], [b"PING", b"x"]):
            client.call(*argv)
        server.settle()
        assert client.take() == [0, [b"subscribe", b"a", 1], [b"pong", b""], [b"pong", b"x"]]

    def test_a_subscriber_in_resp3_does_what_it_likes(self, server: FakeServer) -> None:
        client = server.connect()
        ask(server, client, b"HELLO", b"3")
        ask(server, client, b"SUBSCRIBE", b"a")
        assert ask(server, client, b"PING") == [b"PONG"]
        ask(server, client, b"LOCK.ACQUIRE", b"k", b"me")
        before = client.received
        server.clients.pubsub.publish(b"a", b"hi")
        assert client.received[len(before) :].startswith(b">3\r\n$7\r\nmessage\r\n")

    def test_client_list_and_info_show_it(self, server: FakeServer) -> None:
        subscriber, asker = server.connect(), server.connect()
        ask(server, subscriber, b"SUBSCRIBE", b"a", b"b")
        ask(server, subscriber, b"PSUBSCRIBE", b"c*")
        [shown] = ask(server, asker, b"CLIENT", b"LIST", b"TYPE", b"PUBSUB")
        assert b" flags=P " in shown
        assert b" sub=2 psub=1 " in shown
        assert shown.count(b"\n") == 1
        [normal] = ask(server, asker, b"CLIENT", b"LIST", b"TYPE", b"NORMAL")
        assert normal.count(b"\n") == 1
        ask(server, subscriber, b"SSUBSCRIBE", b"d")
        [stats] = ask(server, asker, b"INFO", b"stats")
        assert b"pubsubshard_channels:1\r\n" in stats
        assert b"pubsub_channels:2\r\npubsub_patterns:1\r\n" in stats
        assert ask(server, asker, b"CLIENT", b"KILL", b"TYPE", b"PUBSUB") == [1]
        server.settle()
        assert server.clients.pubsub.channel_count == 0

    def test_reset_ends_it_without_a_word(self, server: FakeServer) -> None:
        client = server.connect()
        ask(server, client, b"SUBSCRIBE", b"a")
        assert ask(server, client, b"RESET") == [b"RESET"]
        assert ask(server, client, b"PING") == [b"PONG"]
        assert server.clients.pubsub.publish(b"a", b"hi") == 0

    def test_who_is_gone_is_forgotten(self, server: FakeServer) -> None:
        client = server.connect()
        ask(server, client, b"SUBSCRIBE", b"a")
        client.transport.lose()
        assert server.clients.pubsub.publish(b"a", b"hi") == 0

    def test_who_does_not_read_is_closed(self, server: FakeServer, log: list[Any]) -> None:
        client = server.connect()
        ask(server, client, b"SUBSCRIBE", b"a")
        client.transport.stalled = True
        message = b"x" * 100_000
        for _ in range(limits.PUSHED_BYTES_MAX // len(message) + 1):
            assert client.open
            server.clients.pubsub.publish(b"a", message)
        assert not client.open
        assert log[-1]["event"] == "client closed: it does not read what it is sent"

    def test_a_refusal_does_nothing(self, server: FakeServer) -> None:
        client = server.connect()
        patterns = [b"%d*" % number for number in range(limits.PATTERN_SUBSCRIPTIONS_MAX + 1)]
        [error] = ask(server, client, b"PSUBSCRIBE", *patterns)
        assert str(error) == "BUSY more than 64 patterns of one connection; nothing was done"
        assert ask(server, client, b"PUBSUB", b"NUMPAT") == [0]
        assert len(ask(server, client, b"PSUBSCRIBE", *patterns[1:])) == len(patterns) - 1

    def test_its_names_count_as_memory(self, server: FakeServer) -> None:
        client = server.connect()
        before = client.connection.memory
        ask(server, client, b"SUBSCRIBE", b"c" * 1_000)
        assert client.connection.memory == before + 1_000
