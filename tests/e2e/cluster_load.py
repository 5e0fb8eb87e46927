"""redis-py clients on all nodes of a cluster, which write down what they did and saw.

Each client is one connection at a time. When its node fails it, it notes what it does not know and
goes on at another node, as a program with a list of nodes does. Nothing is sent twice.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.e2e.cluster import Cluster, ClusterNode
from tests.e2e.history import Command, History, Hold, State, check, next_life
from tests.e2e.load import KINDS, WEIGHTS, outcome_of, words_of
from tests.e2e.waiting import DEADLINE_S, eventually
from tests.e2e.wire import Failure, by_field

PATIENCE_S = 2.5
"""How long a client waits for a reply before it goes to another node: longer than a node holds a
command while there is no leader."""
PACE_S = 0.002
"""How long a client pauses between two batches, on average."""
REFUSALS = frozenset({"CLUSTERDOWN", "LOADING", "BUSY", "MOVED"})
"""The codes of errors that promise that nothing was done."""
DEPTHS = (1, 1, 4, 1, 1, 16)
"""How deep each client's pipeline is."""


class Key(NamedTuple):
    """A key, and the TTL that all its holds have, in seconds."""

    name: str
    ttl_s: float

    @property
    def ttl_ms(self) -> int:
        return 0 if self.ttl_s == float("inf") else round(self.ttl_s * 1000)


KEYS = [Key(f"long/{number}", float("inf")) for number in range(20)] + [
    Key(f"short/{number}", 0.3 + 0.1 * number) for number in range(8)
]
_SHORT_WEIGHTS = (10, 2, 2, 0, 4)
"""Holds that end by themselves are rarely released."""


class Session(Thread):
    """One client, in a thread, until it is stopped."""

    def __init__(
        self,
        number: int,
        nodes: Callable[[], Sequence[ClusterNode]],
        depth: int,
        rng: random.Random,
    ) -> None:
        """`nodes`: where it may go, as it is at the moment."""
        super().__init__(name=f"client {number}", daemon=True)
        self.number = number
        self.owner = f"owner{number}"
        self.commands: list[Command] = []
        self.codes: Counter[str] = Counter()
        self.answered = 0
        self.granted_at = 0.0
        """When the last command was sent that got a new hold."""
        self.failure: Exception | None = None
        self._stopped = Event()
        self._nodes = nodes
        self._protocol = 2 + number % 2
        self._depth = depth
        self._rng = rng
        self._connection: redis.Connection | None = None
        self._versions: dict[str, int] = {}

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        try:
            nodes = self._nodes()
            node = nodes[self.number % len(nodes)]
            while not self._stopped.is_set():
                if self._connection is None and not self._connect(node):
                    node = self._rng.choice(self._nodes())
                    self._stopped.wait(0.02)
                    continue
                self._batch()
                self._stopped.wait(self._rng.uniform(0, 2 * PACE_S))
        except Exception as error:  # noqa: BLE001 - raised where the thread is joined
            self.failure = error
        finally:
            self._disconnect()

    def _connect(self, node: ClusterNode) -> bool:
        connection = redis.Connection(
            host=node.host,
            port=node.port,
            protocol=self._protocol,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            connection.connect()
        except redis.RedisError:
            connection.disconnect()
            return False
        self._connection = connection
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _batch(self) -> None:
        """Send some commands and note their replies, or that there are none."""
        connection, begin = self._connection, len(self.commands)
        assert connection is not None
        self.commands += [self._choose(begin + place) for place in range(self._depth)]
        batch = self.commands[begin:]
        try:
            words = [words_of(each, _TTLS_MS[each.key]) for each in batch]
            connection.send_packed_command(connection.pack_commands(words))
            for number in range(begin, begin + len(batch)):
                self._note(number, _read(connection))
        except redis.RedisError as error:
            self.codes[type(error).__name__] += 1
            self._disconnect()
            for number in range(begin, begin + len(batch)):
                if not self.commands[number].answered:
                    self._set(number, float("inf"), ("unknown",))

    def _choose(self, number: int) -> Command:
        rng, key = self._rng, self._rng.choice(KEYS)
        weights = WEIGHTS if key.ttl_ms == 0 else _SHORT_WEIGHTS
        kind, version = rng.choices(KINDS, weights)[0], 0
        if kind in ("RELEASE", "RENEW") and rng.random() < 0.5:
            version = self._versions.get(key.name, 0)
        now = time.monotonic()
        return Command(self.number, number, kind, key.name, self.owner, now, version, ttl=key.ttl_s)

    def _note(self, number: int, reply: Any) -> None:
        returned, asked = time.monotonic(), self.commands[number]
        code = reply.code if isinstance(reply, Failure) else "OK"
        self.codes[code] += 1
        if code == "INDOUBT":
            self._set(number, float("inf"), ("unknown",))
            return
        if code in REFUSALS:
            self._set(number, returned, ("refused", code))
            return
        outcome = outcome_of(asked.kind, reply)
        self._set(number, returned, outcome)
        self.answered += 1
        if asked.kind == "ACQUIRE" and outcome[0] == "granted":
            if self._versions.get(asked.key) != outcome[1]:
                self.granted_at = asked.invoked
            self._versions[asked.key] = outcome[1]

    def _set(self, number: int, returned: float, reply: tuple[Any, ...]) -> None:
        self.commands[number] = replace(self.commands[number], returned=returned, reply=reply)


_TTLS_MS = {key.name: key.ttl_ms for key in KEYS}


def _read(connection: redis.Connection) -> Any:
    """The next reply, an error reply as Wire gives it."""
    try:
        return connection.read_response()
    except redis.RedisError as error:
        if error.status_code is not None:
            return Failure(f"{error.status_code} {error}")
        if isinstance(error, redis.ResponseError):
            return Failure(str(error))
        raise


class ClusterLoad:
    """Several clients, spread over the nodes."""

    def __init__(self, nodes: Callable[[], Sequence[ClusterNode]], rng: random.Random) -> None:
        self.sessions = [
            Session(number, nodes, depth, random.Random(rng.getrandbits(64)))
            for number, depth in enumerate(DEPTHS)
        ]
        for session in self.sessions:
            session.start()

    @property
    def answered(self) -> int:
        """How many commands were answered so far, refusals apart."""
        return sum(session.answered for session in self.sessions)

    @property
    def codes(self) -> Counter[str]:
        """How often each code of an error came, `OK` for replies that are none."""
        return sum((session.codes for session in self.sessions), Counter())

    def run_until_answered(self, more: int) -> None:
        """Wait for so many further replies."""
        enough = self.answered + more
        eventually(lambda: self._well() and self.answered >= enough, f"{more} replies under load")

    def run_for(self, seconds: float) -> None:
        """Let the clients go on for a while, whether they are answered or not."""
        until = time.monotonic() + seconds
        eventually(lambda: self._well() and time.monotonic() >= until, "a while under load")

    def wait_for_grant(self, deadline_s: float = DEADLINE_S) -> float:
        """Wait for a new hold that was asked for from now on; returns how many seconds it took."""
        began = time.monotonic()

        def granted() -> bool:
            self._well()
            return any(session.granted_at > began for session in self.sessions)

        eventually(granted, "a new grant under load", deadline_s=deadline_s)
        return time.monotonic() - began

    def end(self) -> list[Command]:
        """Stop the clients, and return all that they did."""
        for session in self.sessions:
            session.stop()
        for session in self.sessions:
            session.join(DEADLINE_S)
            assert not session.is_alive(), f"{session.name} hangs"
        self._well()
        return [each for session in self.sessions for each in session.commands]

    def _well(self) -> bool:
        for session in self.sessions:
            if session.failure is not None:
                raise session.failure
        return True


class Trial:
    """A cluster under load, time and again; after each time its history is checked.

    Use it as `with trial.load() as load: ...`. The body may do anything to the nodes; what it has not
    undone is undone at the end, and then every node must know what was acknowledged.
    """

    def __init__(
        self, cluster: Cluster, rng: random.Random, heal: Callable[[], None] = lambda: None
    ) -> None:
        """`heal` undoes what was done to anything but the nodes."""
        self.cluster = cluster
        self.rng = rng
        self._heal = heal
        self.stretch = History(before=holds_at(cluster.leader()), commands=[], after={})
        self.answered = 0

    @contextmanager
    def load(self, nodes: Sequence[ClusterNode] = ()) -> Iterator[ClusterLoad]:
        """Clients on these nodes, or on whatever nodes the cluster has."""
        load = ClusterLoad(lambda: nodes or list(self.cluster), self.rng)
        try:
            yield load
        finally:
            self.stretch.commands = load.end()
        self._heal()
        self.cluster.restore()
        self.answered += load.answered
        self._check()

    def _check(self) -> None:
        """Compare the nodes, and explain the history."""
        for node in self.cluster:
            _flush(node)
        self.stretch.after = holds_at(self.cluster.leader())
        self.stretch.looked = time.monotonic()
        check(self.stretch)
        self.stretch = next_life(self.stretch)
        eventually(self._replicas_agree, "every node has the same locks")

    def _replicas_agree(self) -> bool:
        tables = [_table(holds_at(node, own=True)) for node in self.cluster]
        return all(table == tables[0] for table in tables)


def _flush(node: ClusterNode) -> None:
    """Have the node finish what it was asked before: clients that went away may have left much."""
    with node.wire() as wire:
        assert by_field(wire.call("LOCK.ACQUIRE", f"flush/{node.id}", "me"))["status"] == b"granted"
        assert by_field(wire.call("LOCK.RELEASE", f"flush/{node.id}", "me"))["released"] == 1


def holds_at(node: ClusterNode, *, own: bool = False) -> State:
    """Every lock that is held, asked of this node. own: as its own table has it, perhaps behind."""
    found: State = {}
    with node.wire(protocol=3) as wire:
        if own:
            assert wire.call("READONLY") == "OK"
        cursor = b"0"
        while True:
            asked = time.monotonic()
            cursor, locks = wire.call("LOCK.LIST", "CURSOR", cursor, "COUNT", 1000)
            for lock in locks:
                key, ttl_ms = lock[b"key"].decode(), lock[b"ttl_ms"]
                assert key not in found, f"{key} is listed twice"
                until = asked + ttl_ms / 1000 if ttl_ms else float("inf")
                found[key] = Hold(lock[b"owner"].decode(), lock[b"version"], until)
            if cursor == b"0":
                return found


def _table(state: State) -> dict[str, tuple[str, int]]:
    return {key: (hold.owner, hold.version) for key, hold in state.items()}
