from __future__ import annotations

import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import hiredis
import pytest

from bench.servers import BenchError
from bench.waiters import Waiters


def as_reply(fields: dict[str, Any]) -> bytes:
    parts = [b"*%d\r\n" % (2 * len(fields))]
    for pair in fields.items():
        for value in pair:
            if isinstance(value, int):
                parts.append(b":%d\r\n" % value)
            elif value is None:
                parts.append(b"$-1\r\n")
            else:
                parts.append(b"$%d\r\n%b\r\n" % (len(value), value.encode()))
    return b"".join(parts)


class FakeNode:
    """As much of a server as Waiters needs, with one lock. `wakes`: how many clients a release wakes."""

    id = "n1"

    def __init__(self, wakes: int = 1) -> None:
        self.wakes = wakes
        self.line: deque[tuple[str, socket.socket]] = deque()
        self.held = False
        self.mutex = threading.Lock()

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(10)
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        with connection, suppress(OSError):  # the other end may close it at any time
            while data := connection.recv(1 << 16):
                if data == b"PING\r\n":
                    connection.sendall(b"+PONG\r\n")
                    continue
                reader.feed(data)
                while (argv := reader.gets()) is not False:
                    with self.mutex:
                        self._run([word.decode() for word in argv], connection)

    def _run(self, argv: list[str], connection: socket.socket) -> None:
        match argv:
            case ["LOCK.ACQUIRE", _, owner, *_]:
                if self.held:
                    self.line.append((owner, connection))
                else:
                    self.held = True
                    connection.sendall(as_reply({"status": "granted"}))
            case ["RAFT.HEALTH"]:
                connection.sendall(as_reply({"waiters": len(self.line)}))
            case ["LOCK.RELEASE", *_]:
                next_owner = self.line[0][0] if self.line else None
                self.held = bool(self.line)
                for _ in range(min(self.wakes, len(self.line))):
                    self.line.popleft()[1].sendall(as_reply({"status": "granted"}))
                connection.sendall(as_reply({"released": 1, "promoted": next_owner}))


def waiters_of(node: FakeNode, count: int) -> Waiters:
    return Waiters([node], count, "line")  # type: ignore[list-item]


class TestWaiters:
    def test_each_release_hands_over_to_one_until_nobody_waits(self) -> None:
        with waiters_of(FakeNode(), 6) as waiters:
            for _ in range(2):
                waiters.line_up()
                assert waiters.hand_over_once(0.02) == 1
                handovers = waiters.hand_over_all()
                assert len(handovers) == 5
                assert all(each.sent_s < each.acknowledged_s for each in handovers)
                assert all(each.sent_s < each.told_s for each in handovers)
                sent = [each.sent_s for each in handovers]
                assert sent == sorted(sent)

    def test_nobody_woken_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with waiters_of(FakeNode(wakes=0), 3) as waiters:
            waiters.line_up()
            monkeypatch.setattr("bench.waiters.DEADLINE_S", 0.05)
            with pytest.raises(BenchError, match="nobody was told"):
                waiters.hand_over_once(0.02)

    def test_two_woken_by_one_release_are_seen(self) -> None:
        with waiters_of(FakeNode(wakes=2), 6) as waiters:
            waiters.line_up()
            with pytest.raises(BenchError, match="out of turn"):
                waiters.hand_over_once(0.2)
