"""Events over real sockets: through redis-py in both protocols, on every node of a cluster, through a
failover, and by LOCK.WATCH; and how a subscriber notices that it has missed something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from resplock import limits
from tests.e2e.cluster import Cluster, ClusterNode
from tests.e2e.conftest import MakeCluster
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually, now_ms
from tests.e2e.wire import Pushed, Wire

each_protocol = pytest.mark.parametrize("protocol", [2, 3])

Line = dict[str, str]


def read_line(text: bytes) -> Line:
    """The fields of a message of `__lock__:<key>`."""
    return dict(pair.split("=", 1) for pair in text.decode().split(" "))


class Listener:
    """A connection that subscribes, and reads the lines of events."""

    def __init__(self, node: ServerProcess, pattern: str = "__lock__:*") -> None:
        self.wire = node.wire()
        assert self.wire.call("PSUBSCRIBE", pattern)[0] == b"psubscribe"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def next(self) -> tuple[str, Line]:
        """The next message: a key, and what its line says."""
        kind, _, channel, text = self.wire.receive()
        assert kind == b"pmessage"
        return channel.decode().removeprefix("__lock__:"), read_line(text)

    def until(self, key: str, event: str) -> list[tuple[str, str, int]]:
        """Key, event and version of every message up to that one."""
        seen = []
        while not seen or seen[-1][:2] != (key, event):
            name, line = self.next()
            seen.append((name, line["event"], int(line["version"])))
        return seen


@each_protocol
class TestRedisPy:
    @pytest.fixture
    def client(self, server: ServerProcess, protocol: int) -> Iterator[redis.Redis]:
        with redis.Redis(port=server.port, protocol=protocol) as client:
            yield client

    def messages(self, pubsub: Any, count: int) -> list[tuple[str, bytes, bytes]]:
        found: list[tuple[str, bytes, bytes]] = []

        def look() -> bool:
            message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.2)
            if message is not None:
                found.append((message["type"], message["channel"], message["data"]))
            return len(found) >= count

        eventually(look, f"{count} messages")
        return found

    def test_a_lock_s_life_on_each_of_its_channels(self, client: redis.Redis) -> None:
        key = f"life-{client.get_connection_kwargs()['protocol']}"
        call = client.execute_command
        with client.pubsub() as keyspace, client.pubsub() as keyevent, client.pubsub() as lock:
            keyspace.subscribe(f"__keyspace@0__:{key}")
            keyevent.psubscribe("__keyevent@0__:*")
            lock.subscribe(f"__lock__:{key}")
            for pubsub in (keyspace, keyevent, lock):
                eventually(lambda pubsub=pubsub: pubsub.get_message(timeout=0.2))
            call("LOCK.ACQUIRE", key, "me")
            call("LOCK.ACQUIRE", key, "you")  # refused
            call("LOCK.RENEW", key, "me", "TTL", 60_000)
            call("LOCK.ENQUEUE", key, "you")
            call("LOCK.ENQUEUE", key, "he")
            call("LOCK.CANCEL", key, "he")
            call("LOCK.RELEASE", key, "me")  # granted to the next
            call("LOCK.BREAK", key, "REASON", "late, 100 %")
            call("LOCK.ACQUIRE", key, "me", "TTL", 1)  # runs out
            kinds = [
                *("acquired", "renewed", "queued", "queued", "cancelled"),
                *("released", "acquired", "broken", "acquired", "expired"),
            ]
            expected = [kind.encode() for kind in kinds]
            assert self.messages(keyspace, 10) == [
                ("message", f"__keyspace@0__:{key}".encode(), kind) for kind in expected
            ]
            assert self.messages(keyevent, 10) == [
                ("pmessage", b"__keyevent@0__:" + kind, key.encode()) for kind in expected
            ]
            lines = [read_line(data) for _, _, data in self.messages(lock, 10)]
            assert [line["event"] for line in lines] == kinds
            owners = "me me you he he me you you me me"
            assert " ".join(line["owner"] for line in lines) == owners
            assert lines[7]["reason"] == "late,%20100%20%25"
            assert lines[4]["reason"] == "cancelled"
            versions = [int(line["version"]) for line in lines]
            assert versions[0] == versions[1] == versions[5]
            assert versions[2] == versions[3] == versions[4] == 0
            assert versions[0] < versions[6] == versions[7] < versions[8] == versions[9]

    def test_another_database(self, server: ServerProcess, protocol: int) -> None:
        key = f"database-{protocol}"
        client = redis.Redis(port=server.port, protocol=protocol, db=7)
        with client, client.pubsub() as pubsub:
            pubsub.psubscribe(f"__key*@7__:{key}", "__keyevent@7__:acquired", "*@0__:*")
            for _ in range(3):
                eventually(lambda: pubsub.get_message(timeout=0.2))
            client.execute_command("LOCK.ACQUIRE", key, "me")
            assert self.messages(pubsub, 2) == [
                ("pmessage", f"__keyspace@7__:{key}".encode(), b"acquired"),
                ("pmessage", b"__keyevent@7__:acquired", key.encode()),
            ]


def test_a_shard_channel(server: ServerProcess) -> None:
    with server.wire() as listener, server.wire() as wire:
        assert listener.call("SSUBSCRIBE", "__lock__:shard") == [
            b"ssubscribe",
            b"__lock__:shard",
            1,
        ]
        wire.call("LOCK.ACQUIRE", "shard", "me")
        kind, channel, text = listener.receive()
        assert (kind, channel) == (b"smessage", b"__lock__:shard")
        assert read_line(text)["event"] == "acquired"


def test_a_connection_that_goes_is_heard_of(server: ServerProcess) -> None:
    with Listener(server, "__lock__:closing*") as listener:
        with server.wire() as wire:
            wire.call("LOCK.ACQUIRE", "closing/a", "me", "ONCLOSE", "RELEASE")
            wire.call("LOCK.ACQUIRE", "closing/b", "you")
            wire.send("LOCK.ACQUIRE", "closing/b", "me", "WAIT", 60_000)
            listener.until("closing/b", "queued")
        seen = sorted((listener.next(), listener.next()), key=lambda each: each[0])
        assert [(key, line["event"], line["reason"]) for key, line in seen] == [
            ("closing/a", "released", "disconnected"),
            ("closing/b", "cancelled", "disconnected"),
        ]


class TestWatching:
    def test_a_holder_is_told_of_its_loss_at_once(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as holder, server.wire() as operator:
            assert holder.call("LOCK.WATCH", "watcher", "other") == 2
            versions = [
                operator.map("LOCK.ACQUIRE", key, "watcher", *options)["version"]
                for key, options in (
                    ("watch/ttl", ("TTL", 1)),
                    ("watch/broken", ()),
                    ("watch/fine", ()),
                )
            ]
            told = holder.receive()
            assert type(told) is Pushed
            assert told == [b"lock", b"expired", 0, b"watch/ttl", b"watcher", versions[0], b""]
            assert operator.call("LOCK.BREAK", "watch/broken", "REASON", "late") == 1
            assert holder.receive() == [
                *(b"lock", b"broken", 0, b"watch/broken", b"watcher", versions[1], b"late")
            ]
            assert holder.map("LOCK.RELEASE", "watch/fine", "watcher")["released"] == 1
            assert holder.call("LOCK.UNWATCH") == 0
            assert holder.call("PING") == "PONG"

    def test_while_it_is_blocked(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as waiter, server.wire() as other:
            waiter.call("LOCK.WATCH", "blocked")
            waiter.call("LOCK.ACQUIRE", "blocked/a", "blocked")
            other.call("LOCK.ACQUIRE", "blocked/b", "other")
            waiter.send("LOCK.ACQUIRE", "blocked/b", "blocked", "WAIT", 60_000)
            eventually(lambda: other.map("LOCK.GET", "blocked/b")["waiter_count"])
            other.call("LOCK.BREAK", "blocked/a")
            assert waiter.receive()[:4] == [b"lock", b"broken", 0, b"blocked/a"]
            other.call("LOCK.RELEASE", "blocked/b", "other")
            assert waiter.receive()[b"status"] == b"granted"

    def test_its_connection_s_end_is_told_to_others(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as watcher:
            watcher.call("LOCK.WATCH", "tied")
            with server.wire() as holder:
                holder.call("LOCK.ACQUIRE", "tied/a", "tied", "ONCLOSE", "RELEASE")
            told = watcher.receive()
            assert (told[1], told[3], told[6]) == (b"released", b"tied/a", b"disconnected")


# --- clusters ------------------------------------------------------------------------------------


def cycle(wire: Wire, key: str) -> int:
    """Take a lock and give it back; its version."""
    version = wire.map("LOCK.ACQUIRE", key, "me")["version"]
    assert wire.map("LOCK.RELEASE", key, "me")["released"] == 1
    return int(version)


def test_every_node_tells_the_same_in_the_order_of_the_log(cluster: Cluster) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(node)) for node in cluster]
        wires = [stack.enter_context(node.wire()) for node in cluster]
        versions = [cycle(wires[number % 3], f"order/{number}") for number in range(60)]
        cycle(wires[0], "order/end")
        told = [listener.until("order/end", "released")[:-2] for listener in listeners]
    assert told[0] == told[1] == told[2]
    assert told[0] == [
        (f"order/{number}", event, version)
        for number, version in enumerate(versions)
        for event in ("acquired", "released")
    ]


@pytest.mark.parametrize("fault", ["kill9", "pause"])
def test_a_failover_leaves_nothing_out(make_cluster: MakeCluster, fault: str) -> None:
    """Who stays connected to a node that lives is told of everything, once, in the same order."""
    cluster = make_cluster().start()
    leader, followers = cluster.leader(), cluster.followers()
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(node)) for node in followers]
        wire = stack.enter_context(followers[0].wire())
        for number in range(20):
            cycle(wire, f"before/{number}")
        wire.map("LOCK.ACQUIRE", "runs-out", "me", "TTL", 2_000)
        getattr(leader, fault)()
        until_granted(wire, "meanwhile")
        for number in range(20):
            cycle(wire, f"after/{number}")
        told = [listener.until("runs-out", "expired") for listener in listeners]
        if fault == "pause":
            leader.resume()
    assert told[0] == told[1]
    granted = [(key, version) for key, event, version in told[0] if event == "acquired"]
    released = [(key, version) for key, event, version in told[0] if event == "released"]
    keys = [f"{when}/{number}" for when in ("before", "after") for number in range(20)]
    assert [key for key, _ in granted if key not in ("runs-out", "meanwhile")] == keys
    assert [key for key, _ in released] == keys
    assert [version for _, version in granted] == sorted({version for _, version in granted})


def until_granted(wire: Wire, key: str) -> None:
    """Ask with one REQUEST until it is granted, whatever becomes of the leader meanwhile."""

    def ask() -> bool:
        reply = wire.call("LOCK.ACQUIRE", key, "me", "REQUEST", "r")
        return isinstance(reply, list) and reply[1] == b"granted"

    eventually(ask, f"{key} is granted")


def test_who_loses_a_lock_does_not_wait_for_a_heartbeat(make_cluster: MakeCluster) -> None:
    """However far these are apart: here half a second."""
    cluster = make_cluster(3, "--election-timeout-ms=5000").start()
    took_ms = []
    with (
        cluster.leader().wire() as operator,
        cluster.followers()[0].wire(protocol=3) as watcher,
    ):
        assert watcher.call("LOCK.WATCH", "me") == 1
        for number in range(9):
            assert operator.map("LOCK.ACQUIRE", f"at-once/{number}", "me")["status"] == b"granted"
            began_ms = now_ms()
            assert operator.call("LOCK.BREAK", f"at-once/{number}") == 1
            assert watcher.receive()[1] == b"broken"
            took_ms.append(now_ms() - began_ms)
    assert sorted(took_ms)[4] < 150, took_ms


def test_who_has_missed_a_part_of_the_log_is_disconnected(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, "--snapshot-entries=200").start()
    leader, behind = cluster.leader(), cluster.followers()[0]
    with (
        Listener(behind) as listener,
        behind.wire(protocol=3) as watcher,
        behind.wire() as other,
        leader.wire() as wire,
    ):
        watcher.call("LOCK.WATCH", "me")
        cycle(wire, "told")
        listener.until("told", "released")
        behind.pause()
        known = status_of(leader)["snapshot_index"]
        pairs = [word for n in range(32) for word in (f"{n}", "v" * 256)]
        large = [("LOCK.ACQUIRE", f"missed/{n}", "me", "META", 32, *pairs) for n in range(100)]
        rounds = 3 * limits.INFLIGHT_BYTES_MAX // (100 * 32 * 256)  # more than is sent to it
        for _ in range(rounds):
            wire.pipeline(*large)
        newer = known + (rounds - 3) * len(large)
        eventually(lambda: status_of(leader)["snapshot_index"] > newer, "a newer snapshot")
        behind.resume()
        # What was under way to it is still told.
        assert len(listener.wire.receive_until_closed()) < rounds * len(large)
        assert watcher.receive_until_closed() == []
        assert other.call("PING") == "PONG"
    behind.shows("not all could be told to it")
    with Listener(behind) as listener:
        cluster.wait_until_whole()
        with behind.wire() as wire:
            cycle(wire, "again")
        assert [event for _, event, _ in listener.until("again", "released")][-2:] == [
            "acquired",
            "released",
        ]


def status_of(node: ClusterNode) -> dict[str, Any]:
    status = node.status()
    assert status is not None
    return status


def test_a_burst_is_told_to_who_reads_whatever_another_does(server: ServerProcess) -> None:
    """20,000 locks that run out together, one subscriber reading all the while and one not at all."""
    count = 20_000
    with (
        Listener(server, "__lock__:burst/*") as reader,
        server.wire() as sleeper,
        server.wire() as wire,
    ):
        names = [f"__keyevent@0__:{event}" for event in ("acquired", "expired")]
        assert sleeper.call("SUBSCRIBE", *names)[0] == b"subscribe"
        for begin in range(0, count, 500):
            wire.pipeline(
                *[
                    ("LOCK.ACQUIRE", f"burst/{number}", "me", "TTL", 1_500)
                    for number in range(begin, begin + 500)
                ]
            )
        seen: dict[str, int] = {"acquired": 0, "expired": 0}
        while seen["expired"] < count:
            _, line = reader.next()
            seen[line["event"]] += 1
        assert seen == {"acquired": count, "expired": count}
        assert wire.call("PING") == "PONG"


def test_who_never_reads_is_disconnected(own_server: ServerProcess) -> None:
    """Its messages grow to the limit, and no further; the others notice nothing."""
    key = "k" * (limits.KEY_BYTES_MAX - 10)
    with own_server.wire() as sleeper, own_server.wire() as wire, Listener(own_server) as reader:
        assert sleeper.call("PSUBSCRIBE", "*")[0] == b"psubscribe"
        rounds = limits.PUSHED_BYTES_MAX // (1_000 * 3 * limits.KEY_BYTES_MAX) + 10
        for _ in range(rounds):
            names = [f"{key}{number}" for number in range(500)]
            wire.pipeline(*[("LOCK.ACQUIRE", name, "me") for name in names])
            wire.pipeline(*[("LOCK.RELEASE", name, "me") for name in names])
        for _ in range(rounds * 1_000):
            reader.next()
        assert wire.call("PING") == "PONG"
        # What had reached it before is all that it gets.
        assert len(sleeper.receive_until_closed()) < rounds * 3_000
    assert "it does not read what it is sent" in own_server.log()
