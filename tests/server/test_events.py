"""Events: who is told of what, what is not looked at, and what happens when not all can be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.operations import Event
from resplock.resp.events import KEYEVENT_HEADS, KEYSPACE_HEADS, KINDS, LOCK_HEAD, line
from resplock.server.events import Events
from resplock.server.pubsub import PubSub
from resplock.types import key_of, lock_name
from tests.redis_process import RedisProcess
from tests.replies import parse_replies
from tests.server.fakes import FakeServer, array, ask

budget = settings(max_examples=max(300, settings().max_examples))


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


def event(kind: str, key: bytes = b"k", db: int = 0, owner: bytes = b"me") -> Event:
    return Event(kind, lock_name(db, key), owner, 7)


class Listener:
    """A subscriber in a test's hands."""

    protocol_version = 2

    def __init__(self) -> None:
        self.received = b""
        self.pushes = 0
        self.why_cut_off = ""

    def push(self, data: bytes) -> None:
        self.received += data
        self.pushes += 1

    def cut_off(self, reason: str) -> None:
        self.why_cut_off = reason

    def take(self) -> list[Any]:
        replies, whole = parse_replies(self.received)
        assert whole
        self.received = b""
        return replies


class Node:
    """A publisher, and what it asks of its node and of its loop."""

    def __init__(self) -> None:
        self.keeps = False
        self.soon: list[Callable[[], None]] = []
        self.pubsub = PubSub()
        self.events = Events(self.pubsub, self._keep, self.soon.append)

    def _keep(self, keep: bool) -> None:
        self.keeps = keep

    def turn(self) -> None:
        soon = self.soon[:]
        self.soon.clear()
        for callback in soon:
            callback()


class TestChannels:
    def test_an_event_on_each_of_its_channels_in_order(self) -> None:
        node, me = Node(), Listener()
        node.pubsub.subscribe(me, b"__lock__:k")
        node.pubsub.subscribe(me, b"__keyevent@0__:acquired")
        node.pubsub.subscribe(me, b"__keyspace@0__:k")
        node.pubsub.subscribe_shard(me, b"__keyspace@0__:k")
        node.events.publish([event("acquired")])
        assert me.take() == [
            [b"message", b"__keyspace@0__:k", b"acquired"],
            [b"smessage", b"__keyspace@0__:k", b"acquired"],
            [b"message", b"__keyevent@0__:acquired", b"k"],
            [b"message", b"__lock__:k", b"event=acquired db=0 owner=me version=7 reason="],
        ]
        assert me.pushes == 1

    def test_patterns(self) -> None:
        node, me = Node(), Listener()
        node.pubsub.subscribe_pattern(me, b"__key*__:*")
        node.events.publish([event("broken", b"a", 15)])
        assert me.take() == [
            [b"pmessage", b"__key*__:*", b"__keyspace@15__:a", b"broken"],
            [b"pmessage", b"__key*__:*", b"__keyevent@15__:broken", b"a"],
        ]

    @pytest.mark.parametrize(
        "channel",
        [
            b"__keyspace@0__:other",
            b"__keyspace@1__:k",
            b"__keyspace@16__:k",
            b"__keyspace@00__:k",
            b"__keyspace@0__",
            b"__keyevent@0__:released",
            b"__keyevent@1__:acquired",
            b"__keyevent@0__:no such kind",
            b"__lock__:other",
            b"__lock__",
            b"k",
            b"",
        ],
    )
    def test_others_hear_nothing(self, channel: bytes) -> None:
        node, me = Node(), Listener()
        node.pubsub.subscribe(me, channel)
        node.pubsub.subscribe_shard(me, channel)
        node.events.publish([event("acquired")])
        assert me.received == b""

    def test_the_order_is_that_of_the_log(self) -> None:
        node, me = Node(), Listener()
        node.pubsub.subscribe_pattern(me, b"__keyspace@*")
        kinds = ["acquired", "renewed", "released", "acquired", "expired"]
        node.events.publish([event(kind) for kind in kinds[:2]])
        node.events.publish([event(kind) for kind in kinds[2:]])
        assert [each[3].decode() for each in me.take()] == kinds
        assert me.pushes == 2

    def test_a_key_of_any_bytes(self) -> None:
        node, me = Node(), Listener()
        key = bytes(range(256))
        node.pubsub.subscribe(me, b"__keyspace@0__:" + key)
        node.pubsub.subscribe(me, b"__keyevent@0__:expired")
        node.events.publish([event("expired", key)])
        assert [each[2] for each in me.take()] == [b"expired", key]


KEYS = st.sampled_from([b"", b"k", b"k:1", b":", b"__:", b"a*", b"abc", b"[", b"\xff\x00"])
CHANNELS = st.one_of(
    st.tuples(st.sampled_from([*KEYSPACE_HEADS, LOCK_HEAD]), KEYS).map(b"".join),
    st.tuples(
        st.sampled_from(KEYEVENT_HEADS), st.sampled_from([kind.encode() for kind in KINDS])
    ).map(b"".join),
    st.binary(max_size=20),
)


@st.composite
def patterns(draw: st.DrawFn) -> bytes:
    """A channel, parts of which may have become signs of a glob."""
    pattern = draw(CHANNELS)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(pattern)))
        sign = draw(st.sampled_from([b"*", b"?", b"[a-z0-9]", b"\\", b""]))
        pattern = pattern[:at] + sign + pattern[at + draw(st.integers(0, 9)) :]
    return pattern


EVENTS = st.builds(
    event, st.sampled_from(sorted(KINDS)), KEYS.filter(bool), st.sampled_from([0, 1, 10, 15])
)


@budget
@given(st.lists(CHANNELS), st.lists(CHANNELS), st.lists(patterns()), st.lists(EVENTS), st.data())
def test_everybody_hears_just_what_a_naive_publisher_would_say(
    channels: list[bytes],
    shard: list[bytes],
    globs: list[bytes],
    events: list[Event],
    data: st.DataObject,
) -> None:
    node, me = Node(), Listener()
    left: list[Callable[[], Any]] = []
    for channel in channels:
        node.pubsub.subscribe(me, channel)
        left.append(lambda channel=channel: node.pubsub.unsubscribe(me, channel))
    for channel in shard:
        node.pubsub.subscribe_shard(me, channel)
        left.append(lambda channel=channel: node.pubsub.unsubscribe_shard(me, channel))
    for pattern in globs:
        node.pubsub.subscribe_pattern(me, pattern)
        left.append(lambda pattern=pattern: node.pubsub.unsubscribe_pattern(me, pattern))

    def expected() -> list[list[bytes]]:
        own = node.pubsub.of(me)
        said = []
        for each in events:
            db, key, kind = each.name[0], key_of(each.name), each.kind.encode()
            for channel, text in [
                (KEYSPACE_HEADS[db] + key, kind),
                (KEYEVENT_HEADS[db] + kind, key),
                (LOCK_HEAD + key, line(each)),
            ]:
                said += [[b"message", channel, text]] if channel in own.channels else []
                said += [[b"smessage", channel, text]] if channel in own.shard_channels else []
                for pattern in own.patterns:
                    if pattern and glob.compile(pattern)(channel):
                        said.append([b"pmessage", pattern, channel, text])
        return said

    while True:
        node.events.publish(events)
        said = me.take()
        assert said == expected()
        assert node.keeps == node.events.are_heard
        assert node.keeps or not said
        if not left:
            break
        left.pop(data.draw(st.integers(0, len(left) - 1)))()
    assert not node.keeps
    assert node.pubsub.everybody() == []


class TestCost:
    def test_nothing_is_kept_while_nobody_can_hear_it(self) -> None:
        node, me = Node(), Listener()
        for channel in (b"news", b"+switch-master", b"__keyspace@16__:k", b"__keyevent@0__:x"):
            node.pubsub.subscribe(me, channel)
        node.pubsub.subscribe_pattern(me, b"n*")
        node.pubsub.subscribe_pattern(me, b"__keyevent@*:e?")
        assert not node.keeps
        for channel in (b"__keyspace@0__:k", b"__keyevent@3__:expired", b"__lock__:k"):
            node.pubsub.subscribe(me, channel)
            assert node.keeps
            node.pubsub.unsubscribe(me, channel)
            assert not node.keeps
            node.pubsub.subscribe_shard(me, channel)
            assert node.keeps
            node.pubsub.leave(me)
            assert not node.keeps
        node.pubsub.subscribe_pattern(me, b"*")
        assert node.keeps
        node.pubsub.leave(me)
        assert not node.keeps

    def test_it_is_kept_until_the_last_listener_goes(self) -> None:
        node, one, two = Node(), Listener(), Listener()
        node.pubsub.subscribe(one, b"__lock__:k")
        node.pubsub.subscribe_shard(two, b"__lock__:k")
        node.pubsub.leave(one)
        node.events.publish([event("expired")])
        assert node.keeps
        assert len(two.take()) == 1
        node.pubsub.leave(two)
        assert not node.keeps

    def test_no_channel_is_named_that_nobody_can_hear(self) -> None:
        """What a hundred subscribers to other keys cost is a lookup for each event."""
        node = Node()
        for number in range(100):
            me = Listener()
            node.pubsub.subscribe(me, b"__keyspace@0__:other/%d" % number)
            node.pubsub.subscribe(me, b"__lock__:other/%d" % number)
            node.pubsub.subscribe_pattern(me, b"__keyspace@0__:others/%d*" % number)
        with mock.patch.object(node.pubsub, "put", side_effect=AssertionError):
            node.events.publish([event(kind, b"k/%d" % n) for kind in KINDS for n in range(10)])
        assert not node.soon


class TestBursts:
    def test_a_turn_tells_of_so_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "EVENTS_TOLD_MAX", 3)
        node, me = Node(), Listener()
        node.pubsub.subscribe(me, b"__keyevent@0__:expired")
        node.events.publish([event("expired", b"%d" % n) for n in range(7)])
        assert len(node.soon) == 1
        node.events.publish([event("expired", b"7")])
        assert len(node.soon) == 1
        told = [me.take()]
        while node.soon:
            node.turn()
            told.append(me.take())
        assert list(map(len, told)) == [3, 3, 2]
        assert [each[2] for part in told for each in part] == [b"%d" % n for n in range(8)]

    def test_a_turn_tells_of_so_many_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "EVENTS_TOLD_BYTES_MAX", 100)
        node, me = Node(), Listener()
        node.pubsub.subscribe(me, b"__keyevent@0__:expired")
        node.events.publish([event("expired", b"x" * 90) for _ in range(3)])
        assert len(me.take()) == 1
        node.turn()
        assert len(me.take()) == 1

    def test_a_turn_takes_so_many_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Patterns that are slow to match make a turn tell of less, not last longer."""
        monkeypatch.setattr(limits, "EVENTS_TOLD_STEPS_MAX", 1_000)
        node, me = Node(), Listener()
        for number in range(20):
            node.pubsub.subscribe_pattern(me, b"__keyspace@0__:?*%d" % number)
        assert node.pubsub.steps(50) == 20 * 4 + 20 * 50
        node.events.publish([event("expired", b"x3")] * 3)
        assert len(me.take()) == 1
        node.turn()
        assert len(me.take()) == 1
        node.pubsub.leave(me)
        assert node.pubsub.steps(50) == 0

    def test_what_is_too_much_ends_the_connections_that_listen(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "EVENTS_TOLD_MAX", 2)
        monkeypatch.setattr(limits, "EVENTS_QUEUED_MAX", 5)
        node, me = Node(), Listener()
        node.pubsub.subscribe(me, b"__keyevent@0__:expired")
        node.events.publish([event("expired")] * 5)
        assert (len(me.take()), me.why_cut_off) == (2, "")
        node.events.publish([event("expired")] * 3)
        assert me.why_cut_off == "more happens to locks than it can be told"
        node.turn()
        assert me.take() == []
        node.events.publish([event("expired")])
        assert len(me.take()) == 1

    def test_who_listens_for_events_is_cut_off_when_some_are_skipped(self) -> None:
        node = Node()
        channel, shard, pattern, watcher, news = (Listener() for _ in range(5))
        node.pubsub.subscribe(channel, b"__lock__:k")
        node.pubsub.subscribe_shard(shard, b"__keyevent@0__:expired")
        node.pubsub.subscribe_pattern(pattern, b"__keyspace@0__:*")
        node.events.watch(watcher, [b"me"])
        node.pubsub.subscribe(news, b"+switch-master")
        node.pubsub.subscribe_pattern(news, b"+*")
        node.events.skipped()
        for who in (channel, shard, pattern, watcher):
            assert who.why_cut_off == "a part of the log came as a snapshot"
        assert not news.why_cut_off


class TestWatching:
    def test_a_hold_that_ends_unasked(self) -> None:
        node, me = Node(), Listener()
        assert node.events.watch(me, [b"me", b"I"]) == 2
        assert node.events.watch(me, [b"me"]) == 2
        assert node.events.watched(me) == (b"me", b"I")
        assert (node.keeps, node.events.bytes_of(me)) == (True, 3)
        node.events.publish(
            [
                event("acquired"),
                event("expired"),
                event("expired", owner=b"you"),
                event("released"),
                Event("released", lock_name(3, b"j"), b"I", 9, b"disconnected"),
            ]
        )
        assert me.take() == [
            [b"lock", b"expired", 0, b"k", b"me", 7, b""],
            [b"lock", b"released", 3, b"j", b"I", 9, b"disconnected"],
        ]
        assert node.events.unwatch(me, [b"me", b"nobody"]) == 1
        node.events.publish([event("expired")])
        assert me.take() == []
        node.events.leave(me)
        node.events.leave(me)
        assert (node.keeps, node.events.watched(me), node.events.bytes_of(me)) == (False, (), 0)

    def test_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "OWNERS_WATCHED_MAX", 3)
        monkeypatch.setattr(limits, "OWNERS_WATCHED_ON_NODE_MAX", 4)
        node, me, other = Node(), Listener(), Listener()
        node.events.watch(me, [b"a", b"b", b"a"])
        with pytest.raises(CommandError, match="more than 3 owners watched by one") as caught:
            node.events.watch(me, [b"c", b"d"])
        assert caught.value.code == "BUSY"
        assert node.events.watched(me) == (b"a", b"b")
        assert node.events.watch(other, [b"b", b"c", b"d"]) == 3
        with pytest.raises(CommandError, match="more than 4 owners watched on this node"):
            node.events.watch(me, [b"e"])


# --- through connections -------------------------------------------------------------------------


class TestConnections:
    def test_the_node_keeps_events_while_somebody_listens(self, server: FakeServer) -> None:
        client, node = server.connect(), server.engine.node
        node.take_events = mock.Mock()
        ask(server, client, b"SUBSCRIBE", b"__lock__:k")
        assert node.keeps_events
        node.take_events.assert_not_called()
        ask(server, client, b"UNSUBSCRIBE")
        assert not node.keeps_events
        node.take_events.assert_called()
        ask(server, client, b"PSUBSCRIBE", b"*")
        client.transport.lose()
        assert not node.keeps_events

    def test_watching_needs_resp3(self, server: FakeServer) -> None:
        client = server.connect()
        [error] = ask(server, client, b"LOCK.WATCH", b"me")
        assert str(error).startswith("ERR LOCK.WATCH needs RESP3: say HELLO 3 first")
        ask(server, client, b"HELLO", b"3")
        assert ask(server, client, b"LOCK.WATCH", b"me", b"I") == [2]
        assert ask(server, client, b"LOCK.UNWATCH", b"I") == [1]
        before = client.received
        server.clients.events.publish([event("expired")])
        assert client.received[len(before) :] == (
            b">7\r\n$4\r\nlock\r\n$7\r\nexpired\r\n:0\r\n$1\r\nk\r\n$2\r\nme\r\n:7\r\n$0\r\n\r\n"
        )
        assert ask(server, client, b"PING")[-1] == b"PONG"
        assert ask(server, client, b"LOCK.UNWATCH") == [0]
        assert ask(server, client, b"LOCK.UNWATCH") == [0]

    @pytest.mark.parametrize("end", [[b"RESET"], [b"HELLO", b"2"], [b"QUIT"]])
    def test_watching_ends(self, server: FakeServer, end: list[bytes]) -> None:
        client = server.connect()
        ask(server, client, b"HELLO", b"3")
        ask(server, client, b"LOCK.WATCH", b"me" * 100)
        before = client.connection.memory
        ask(server, client, *end)
        assert not server.engine.node.keeps_events
        assert client.connection.memory == before - 200

    def test_who_missed_something_is_closed(self, server: FakeServer, log: list[Any]) -> None:
        listener, other = server.connect(), server.connect()
        ask(server, listener, b"SUBSCRIBE", b"__lock__:k")
        server.clients.events.skipped()
        assert not listener.open
        assert other.open
        assert log[-1]["event"] == (
            "client closed: not all could be told to it: a part of the log came as a snapshot"
        )

    def test_it_is_said_to_be_on(self, server: FakeServer) -> None:
        client = server.connect()
        name = b"notify-keyspace-events"
        assert ask(server, client, b"CONFIG", b"GET", name) == [[name, b"AKE"]]


@pytest.mark.parametrize("protocol", [b"2", b"3"])
@pytest.mark.parametrize("db", [0, 11])
def test_the_messages_are_those_of_redis(redis: RedisProcess, protocol: bytes, db: int) -> None:
    key = b"k\r\n:*"
    subscribe = [
        array(b"SUBSCRIBE", b"__keyevent@%d__:expired" % db, b"__keyspace@%d__:%b" % (db, key)),
        array(b"PSUBSCRIBE", b"__key*@%d__:[ek]*" % db, b"__keyevent@1?__*"),
    ]
    server = FakeServer()
    client = server.connect()
    client.call(b"HELLO", protocol)
    client.send(*subscribe)
    server.loop.run()
    client.take()
    ours = len(client.received)
    server.clients.events.publish([event("expired", key, db)])
    expected = Counter(map(tuple, parse_replies(client.received[ours:])[0]))

    with redis.connect() as link, redis.connect() as writer:
        writer.sendall(array(b"CONFIG", b"SET", b"notify-keyspace-events", b"AKE"))
        assert writer.recv(100) == b"+OK\r\n"
        link.sendall(array(b"HELLO", protocol) + b"".join(subscribe))
        theirs = b""
        while theirs.count(b"subscribe\r\n") < 4:
            theirs += link.recv(65_536)
        writer.sendall(array(b"SELECT", b"%d" % db) + array(b"SET", key, b"v", b"PX", b"1"))
        while True:
            said = [each for each in parse_replies(theirs)[0] if b"message" in repr(each).encode()]
            told = Counter(map(tuple, (each for each in said if b"expired" in b"".join(each[1:]))))
            if told.total() >= expected.total():
                break
            theirs += link.recv(65_536)
    assert told == expected
