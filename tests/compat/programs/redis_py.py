"""What programs do with redis-py's clients: locks, scripts, MULTI, events; the leader killed meanwhile."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import LockNotOwnedError, NoScriptError
from redis.lock import Lock
from redis.sentinel import Sentinel
from telling import RUN, ask, described, end, judge
from workers import Workers, insist

Client = Any


def connect() -> Client:
    """A client of the kind that is asked for."""
    options = {"protocol": RUN["protocol"], "decode_responses": True}
    match RUN["way"]:
        case "cluster":
            nodes = [ClusterNode(host, port) for host, port in RUN["addresses"]]
            return RedisCluster(startup_nodes=nodes, **options)
        case "sentinel":
            nodes = [(host, port) for host, port in RUN["addresses"]]
            return Sentinel(nodes).master_for("resplock", **options)
        case _:
            return redis.Redis(RUN["host"], RUN["port"], **options)


def version(client: Client, key: str) -> int:
    """The fencing version of the hold."""
    reply = client.execute_command("LOCK.GET", key)
    fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return int(fields["version"])


class Hands:
    """A worker with redis-py's Lock."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock: Lock | None = None

    def take(self, key: str) -> bool:
        self._lock = Lock(self._client, key, timeout=30, thread_local=False)
        self._lock.local.token = None
        self._token = uuid.uuid1().hex.encode()
        if self._lock.acquire(blocking=False, token=self._token):
            return True
        # redis-py repeats a SET whose reply was lost, and is refused its own lock then.
        return insist(lambda: self._client.get(key), Counter()) == self._token.decode()

    def version(self, key: str) -> int:
        return version(self._client, key)

    def release(self, key: str) -> None:
        assert self._lock is not None
        self._lock.local.token = self._token
        try:
            self._lock.release()
        except LockNotOwnedError:
            self._lock.local.token = None


# --- the cases ------------------------------------------------------------------------------------


def take_and_refuse(client: Client) -> None:
    mine = client.lock("try", timeout=30)
    assert mine.acquire(blocking=False)
    assert not client.lock("try", timeout=30).acquire(blocking=False)
    assert mine.owned()
    assert 0 < client.pttl("try") <= 30_000
    mine.release()
    assert client.get("try") is None


def extend_and_reacquire(client: Client) -> None:
    lock = client.lock("extend", timeout=10)
    assert lock.acquire()
    assert lock.extend(50)
    assert client.pttl("extend") > 50_000
    assert lock.reacquire()
    assert client.pttl("extend") <= 10_000
    lock.release()


def ends_with_ttl(client: Client) -> None:
    lost = client.lock("brief", timeout=0.05)
    assert lost.acquire()
    assert client.lock("brief", timeout=30).acquire(blocking_timeout=10)
    try:
        lost.release()
    except LockNotOwnedError:
        return
    raise AssertionError("somebody else's lock was released")


def scripts(client: Client) -> None:
    body = "return redis.call('get', KEYS[1])"
    client.set("script", "me")
    assert client.eval(body, 1, "script") == "me"
    assert client.evalsha(client.script_load(body), 1, "script") == "me"
    try:
        client.evalsha("0" * 40, 1, "script")
    except NoScriptError:
        return
    raise AssertionError("an unknown script was known")


def pipeline(client: Client) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(100):
            pipe.set(f"many:{number}", number, nx=True, px=30_000)
        assert all(pipe.execute())
        for number in range(100):
            pipe.get(f"many:{number}")
        assert pipe.execute() == [str(number) for number in range(100)]


def transaction(client: Client) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.set("multi", "me", nx=True, px=30_000)
        pipe.get("multi")
        taken, owner = pipe.execute()
        # RedisCluster hands out the reply as it came.
        assert taken in (True, "OK")
        assert owner == "me"


def same_lock_in_both_views(client: Client) -> None:
    assert client.set("own", "me", nx=True, px=30_000)
    assert version(client, "own") > 0
    reply = client.execute_command("LOCK.ACQUIRE", "own", "you")
    status = reply["status"] if isinstance(reply, dict) else reply[1]
    assert status == "held"


def events(client: Client) -> None:
    with client.pubsub() as channel:
        channel.subscribe("__keyspace@0__:heard")
        client.set("heard", "me", px=30_000)
        client.delete("heard")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            message = channel.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if message is not None:
                return
    raise AssertionError("no event")


def held_lock_survives(client: Client) -> str:
    errors = Counter[str]()
    lock = client.lock("kept", timeout=600)
    assert lock.acquire()
    before = version(client, "kept")
    ask("kill leader")
    began = time.monotonic()
    after = insist(lambda: version(client, "kept"), errors)
    took_ms = (time.monotonic() - began) * 1000
    assert after == before
    assert lock.owned()
    assert not client.lock("kept", timeout=1).acquire(blocking=False)
    lock.release()
    ask("restore")
    return f"answered after {took_ms:.0f} ms; {described(errors)}"


CASES: dict[str, Callable[[Client], str | None]] = {
    "Lock takes what is free, and nothing that is held": take_and_refuse,
    "Lock.extend and Lock.reacquire": extend_and_reacquire,
    "a lock ends with its TTL, and its owner does not release the next one's": ends_with_ttl,
    "EVAL, SCRIPT LOAD, EVALSHA, NOSCRIPT": scripts,
    "a hundred commands in a pipeline": pipeline,
    "MULTI and EXEC": transaction,
    "SET and LOCK.ACQUIRE see the same lock": same_lock_in_both_views,
    "a subscriber hears of a lock that was released": events,
}
CASES_WITH_A_KILLED_LEADER: dict[str, Callable[[Client], str | None]] = {
    "the leader is killed: a lock that was held still is, with its version": held_lock_survives,
    "the leader is killed: eight workers go on, and no two ever hold one lock": (
        lambda client: Workers(lambda: Hands(client)).run()
    ),
}


def main() -> None:
    """Run every case that this server allows."""
    with connect() as client:
        for name, body in CASES.items():
            judge(name, lambda body=body: body(client))
        if RUN["nodes"] > 1:
            for name, body in CASES_WITH_A_KILLED_LEADER.items():
                judge(name, lambda body=body: body(client))
    end()


main()
