"""Clients that take locks without a pause and count what becomes of each request.

One thread and one selector for all of them, so that the moment at which a request was sent and the
moment at which its reply was read are on one clock. Each connection has one request under way:
LOCK.ACQUIRE of a name of its own, then LOCK.RELEASE when it was granted.
"""

from __future__ import annotations

import itertools
import selectors
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis

from bench.client import encode
from bench.cluster import Node

TTL_MS = 30_000
RETRY_S = 0.002
"""After an error: an outage must not become a flood."""
GRANTED = "granted"
LOST = "connection lost"
UNANSWERED = "unanswered"


class Grant(NamedTuple):
    """One lock that was granted; times are those of time.perf_counter."""

    node: Node
    """Whom the client asked."""
    asked_s: float
    granted_s: float


class _Asker:
    """One connection and its request."""

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.connection = node.connect()
        self.connection.setblocking(False)
        self.reader = hiredis.Reader()
        self.owner = f"asker-{number}"
        self.names = itertools.count()
        self.name = ""
        self.holding = False
        self.acquiring = False
        """Whether the last request was an acquire."""
        self.waiting = False
        """Whether its reply is still to come."""
        self.asked_s = 0.0

    def ask(self) -> None:
        """Send the next request: release what is held, or acquire."""
        self.acquiring = not self.holding
        if self.acquiring:
            self.name = f"{self.owner}:{next(self.names)}"
            request = encode("LOCK.ACQUIRE", self.name, self.owner, "TTL", str(TTL_MS))
        else:
            request = encode("LOCK.RELEASE", self.name, self.owner)
        self.holding = False
        self.waiting = True
        self.asked_s = time.perf_counter()
        self.connection.sendall(request)  # it is small and the only one: it fits into the buffer

    def take_reply(self) -> Any:
        """The reply, or False while it is incomplete. Raises OSError when the connection is lost."""
        data = self.connection.recv(1 << 16)
        if not data:
            raise ConnectionResetError
        self.reader.feed(data)
        return self.reader.gets()


class Load:
    """So many clients on each node, from `with` to the end of its block."""

    def __init__(self, nodes: list[Node], clients_per_node: int) -> None:
        self.outcomes: Counter[str] = Counter()
        """How many acquires were granted, refused (by the error's code), lost and unanswered."""
        self.grants: list[Grant] = []
        """Since `forget`, in the order of their replies."""
        self._nodes = nodes
        self._clients_per_node = clients_per_node
        self._numbers = itertools.count()
        self._askers: list[_Asker] = []
        self._selector = selectors.DefaultSelector()
        self._retries: list[tuple[float, _Asker]] = []
        self._stopping = False

    def __enter__(self) -> Load:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        for asker in list(self._askers):
            self._drop(asker)
        self._selector.close()

    def connect(self) -> None:
        """Connect the clients whose connections were lost."""
        for node in self._nodes:
            there = sum(asker.node is node for asker in self._askers)
            for _ in range(self._clients_per_node - there):
                asker = _Asker(node, next(self._numbers))
                self._askers.append(asker)
                self._selector.register(asker.connection, selectors.EVENT_READ, asker)

    def forget(self) -> None:
        """Forget the grants so far."""
        self.grants.clear()

    def run(self, seconds: float) -> None:
        """Ask for so long."""
        self.run_until(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], seconds_max: float) -> bool:
        """Ask until it is done; False when that takes longer than `seconds_max`."""
        self._stopping = False
        self._retries.clear()
        for asker in list(self._askers):
            if not asker.waiting:
                self._ask(asker)
        deadline = time.perf_counter() + seconds_max
        while not done():
            left = deadline - time.perf_counter()
            if left <= 0:
                return False
            self._turn(left)
        return True

    def drain(self, seconds_max: float) -> None:
        """Ask nothing new, and wait for the replies; what stays unanswered is given up."""
        self._stopping = True
        deadline = time.perf_counter() + seconds_max
        while any(asker.waiting for asker in self._askers):
            left = deadline - time.perf_counter()
            if left <= 0:
                break
            self._turn(left)
        self._retries.clear()
        for asker in [asker for asker in self._askers if asker.waiting]:
            self._lose(asker, UNANSWERED)

    def _turn(self, seconds_max: float) -> None:
        if self._retries:
            seconds_max = min(seconds_max, max(0.0, self._retries[0][0] - time.perf_counter()))
        for key, _ in self._selector.select(seconds_max):
            self._receive(key.data)
        while self._retries and self._retries[0][0] <= time.perf_counter():
            _, asker = self._retries.pop(0)
            self._ask(asker)

    def _ask(self, asker: _Asker) -> None:
        try:
            asker.ask()
        except OSError:
            self._lose(asker, LOST)

    def _receive(self, asker: _Asker) -> None:
        try:
            reply = asker.take_reply()
        except OSError:
            self._lose(asker, LOST)
            return
        if reply is False:
            return
        asker.waiting = False
        if asker.acquiring:
            outcome = outcome_of(reply)
            self.outcomes[outcome] += 1
            asker.holding = outcome == GRANTED
            if asker.holding:
                self.grants.append(Grant(asker.node, asker.asked_s, time.perf_counter()))
        if self._stopping:
            return
        if isinstance(reply, hiredis.HiredisError):
            self._retries.append((time.perf_counter() + RETRY_S, asker))
        else:
            self._ask(asker)

    def _lose(self, asker: _Asker, outcome: str) -> None:
        if asker.waiting and asker.acquiring:
            self.outcomes[outcome] += 1
        self._drop(asker)

    def _drop(self, asker: _Asker) -> None:
        self._selector.unregister(asker.connection)
        asker.connection.close()
        self._askers.remove(asker)
        self._retries = [(at, other) for at, other in self._retries if other is not asker]


def outcome_of(reply: Any) -> str:
    """What became of an acquire: `granted`, another status, or the code of the error."""
    if isinstance(reply, hiredis.HiredisError):
        return str(reply).split(" ", 1)[0]
    status: bytes = reply[1]
    return status.decode()


def longest_gap(grants: list[Grant], began_s: float, ended_s: float) -> float:
    """The longest time without a grant between two moments, each of which counts as one."""
    inside = [grant.granted_s for grant in grants if began_s < grant.granted_s < ended_s]
    moments = [began_s, *inside, ended_s]
    return max(later - earlier for earlier, later in itertools.pairwise(moments))
