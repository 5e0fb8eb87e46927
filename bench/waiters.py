"""Clients that wait in line for one lock, blocked in LOCK.ACQUIRE ... WAIT, and release it at once.

One thread and one selector for all of them, so that the moments at which a release was sent, was
acknowledged, and at which the next owner was told, are on one clock. The first client holds the lock
and the others wait: a release tells the next one, who releases, and so on: one hand-over after
another, never two at a time.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import hiredis

from bench.client import Client, checked, encode
from bench.cluster import Node
from bench.servers import BenchError

TTL_MS = 3_600_000
WAIT_MS = 600_000
DEADLINE_S = 60.0
"""For anything that is waited for here."""
QUEUED_AT_ONCE = 500
"""So that the lock is asked for by many, and not all of their requests wait at one time."""
POLL_S = 0.002


class HandOver(NamedTuple):
    """One hand-over; times are those of time.perf_counter."""

    sent_s: float
    """The release was sent."""
    acknowledged_s: float
    """Its reply was read."""
    told_s: float
    """The next owner read that the lock is granted."""


class Waiter:
    """One connection, and what it has asked for."""

    __slots__ = ("acknowledged_s", "connection", "node", "owner", "reader", "release", "sent_s")

    def __init__(self, node: Node, number: int, name: str) -> None:
        self.node = node
        self.owner = f"waiter-{number}"
        self.connection = node.connect()
        self.reader = hiredis.Reader()
        self.release = encode("LOCK.RELEASE", name, self.owner)
        self.sent_s = 0.0
        """When it sent its release; 0 before."""
        self.acknowledged_s = 0.0

    def ask(self, name: str) -> None:
        """Ask for the lock, and wait in line for it."""
        self.sent_s = self.acknowledged_s = 0.0
        times = ("TTL", str(TTL_MS), "WAIT", str(WAIT_MS))
        self.connection.sendall(encode("LOCK.ACQUIRE", name, self.owner, *times))

    def replies(self) -> Iterator[dict[str, Any]]:
        """The replies that have come, each a map. Raises ErrorReply."""
        data = self.connection.recv(1 << 16)
        if not data:
            raise BenchError(f"{self.node.id} closed the connection of {self.owner}")
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            found = checked(reply, f"to {self.owner} {self.node.id}")
            yield dict(zip((field.decode() for field in found[::2]), found[1::2], strict=True))


class Waiters:
    """Waiters and the holder before them, on these nodes by turns, from `with` to its block's end."""

    def __init__(self, nodes: list[Node], count: int, name: str) -> None:
        """name: of the lock that they wait for, which nobody else uses."""
        self.count = count
        self._nodes = nodes
        self._name = name
        self._all: list[Waiter] = []
        self._selector = selectors.DefaultSelector()
        self._holder: Waiter | None = None
        self._releasing: Waiter | None = None
        """Who has released last."""
        self._handed_over: list[tuple[Waiter, float]] = []
        """Who has released, and when the next one was told."""
        self._promised: set[bytes] = set()
        """Whom the replies to releases have named as the next owner."""
        self._is_over = False
        """Whether one of them has named nobody."""
        self._told: set[bytes] = set()

    def __enter__(self) -> Waiters:
        for number in range(self.count + 1):
            node = self._nodes[number % len(self._nodes)]
            waiter = Waiter(node, number, self._name)
            self._all.append(waiter)
            self._selector.register(waiter.connection, selectors.EVENT_READ, waiter)
            waiter.connection.sendall(b"PING\r\n")
            if waiter.connection.recv(64) != b"+PONG\r\n":
                raise BenchError(f"{node.id} does not serve {waiter.owner}")
        return self

    def __exit__(self, *_: object) -> None:
        for waiter in self._all:
            waiter.connection.close()
        self._selector.close()

    def line_up(self) -> None:
        """The first one takes the lock, and the others wait for it; on every node, when this ends."""
        first, *others = self._all
        first.ask(self._name)
        (granted,) = first.replies()
        if granted["status"] != b"granted":
            raise BenchError(f"the lock is not free: {granted}")
        self._holder = first
        self._releasing, self._is_over = None, False
        self._handed_over, self._promised, self._told = [], set(), set()
        for begin in range(0, len(others), QUEUED_AT_ONCE):
            part = others[begin : begin + QUEUED_AT_ONCE]
            for waiter in part:
                waiter.ask(self._name)
            self._wait_until_they_are(begin + len(part))

    def hand_over_once(self, listen_s: float) -> int:
        """The holder releases; how many are told anything until `listen_s` after the first is."""
        self._release()
        told = 0
        until_s = time.perf_counter() + DEADLINE_S
        while (left_s := until_s - time.perf_counter()) > 0:
            for key, _ in self._selector.select(left_s):
                if (more := self._receive(key.data)) and not told:
                    until_s = time.perf_counter() + listen_s
                told += more
        if not told:
            raise BenchError(f"nobody was told of a release in {DEADLINE_S:.0f} s")
        return told

    def hand_over_all(self) -> list[HandOver]:
        """Whoever holds releases, until the last one in line has. The hand-overs of this call."""
        done = len(self._handed_over)
        self._release()
        deadline_s = time.perf_counter() + DEADLINE_S
        while not self._is_over:
            for key, _ in self._selector.select(1.0):
                if self._receive(key.data) and self._holder is not None:
                    self._release()
            if time.perf_counter() > deadline_s:
                raise BenchError(f"{len(self._told)} of {self.count} in {DEADLINE_S:.0f} s")
        if self._promised != self._told or len(self._told) != self.count:
            raise BenchError(f"{len(self._promised)} were promoted and {len(self._told)} told")
        return [
            HandOver(waiter.sent_s, waiter.acknowledged_s, told_s)
            for waiter, told_s in self._handed_over[done:]
        ]

    def _release(self) -> None:
        waiter, self._holder = self._holder, None
        assert waiter is not None, "nobody holds the lock"
        self._releasing = waiter
        waiter.sent_s = time.perf_counter()
        waiter.connection.sendall(waiter.release)

    def _receive(self, waiter: Waiter) -> int:
        """Take what has come for one waiter; how many times it was told that it has the lock."""
        told = 0
        for reply in waiter.replies():
            if waiter.sent_s:
                self._take_acknowledgement(waiter, reply)
            else:
                self._take_grant(waiter, reply)
                told += 1
        return told

    def _take_acknowledgement(self, waiter: Waiter, reply: dict[str, Any]) -> None:
        waiter.acknowledged_s = time.perf_counter()
        if reply.get("released") != 1:
            raise BenchError(f"the release of {waiter.owner} was answered {reply}")
        if reply["promoted"] is None:
            self._is_over = True
        else:
            self._promised.add(reply["promoted"])

    def _take_grant(self, waiter: Waiter, reply: dict[str, Any]) -> None:
        now_s = time.perf_counter()
        owner = waiter.owner.encode()
        if reply["status"] != b"granted" or owner in self._told or self._holder is not None:
            raise BenchError(f"{waiter.owner} was told out of turn: {reply}")
        assert self._releasing is not None
        self._handed_over.append((self._releasing, now_s))
        self._told.add(owner)
        self._holder = waiter

    def _wait_until_they_are(self, count: int) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        for node in self._nodes:
            with Client(node.connect()) as client:
                while (found := client.call_map("RAFT.HEALTH")["waiters"]) != count:
                    if time.monotonic() > deadline_s:
                        raise BenchError(f"{found} of {count} wait, as {node.id} sees it")
                    time.sleep(POLL_S)
