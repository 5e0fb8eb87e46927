"""Clients that keep a server busy, and write down what they did and saw."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Thread
from typing import Any

from tests.e2e.history import Command, Hold, State
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.wire import Closed, Failure, Wire, by_field, command

DAY_MS = 24 * 3600 * 1000
KINDS = ("ACQUIRE", "RELEASE", "RENEW", "BREAK", "GET")
WEIGHTS = (10, 6, 2, 1, 3)

_HOLDER = re.compile(r"'(?P<owner>[^']*)' with version (?P<version>\d+)")
_CURRENT = re.compile(r"is held with version (?P<version>\d+), not")


def outcome_of(kind: str, reply: Any) -> tuple[Any, ...]:
    """A reply as `history` writes it."""
    if isinstance(reply, Failure):
        match reply.code:
            case "NOTHELD":
                return ("NOTHELD",)
            case "NOTOWNER":
                found = _HOLDER.search(reply)
                assert found, reply
                return ("NOTOWNER", found["owner"], int(found["version"]))
            case "STALE":
                found = _CURRENT.search(reply)
                assert found, reply
                return ("STALE", int(found["version"]))
        raise AssertionError(f"{kind}: {reply!r}")
    if kind == "BREAK":
        assert reply == 1
        return ("broken",)
    if reply is None:
        return ("nil",)
    fields = by_field(reply)
    match kind:
        case "ACQUIRE" if fields["status"] == b"granted":
            return ("granted", fields["version"])
        case "ACQUIRE":
            return ("held", fields["owner"].decode(), fields["version"])
        case "RELEASE":
            assert fields["released"] == 1
            return ("released",)
        case "RENEW":
            return ("renewed", fields["version"])
    return ("info", fields["owner"].decode(), fields["version"])


def words_of(each: Command, ttl_ms: int) -> tuple[object, ...]:
    """The command as it is sent; `ttl_ms` is for those that set one."""
    words: list[object] = [f"LOCK.{each.kind}", each.key]
    if each.kind in ("ACQUIRE", "RELEASE", "RENEW"):
        words.append(each.owner)
    if each.version:
        words += ["VERSION", each.version]
    if each.kind in ("ACQUIRE", "RENEW"):
        words += ["TTL", ttl_ms]
    return tuple(words)


class Client(Thread):
    """One connection, in a thread: sends `depth` commands, reads their replies, and so on, until it
    is stopped or the connection ends."""

    def __init__(
        self, wire: Wire, number: int, keys: list[str], depth: int, rng: random.Random
    ) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.number = number
        self.owner = f"owner{number}"
        self.answered = 0
        self.commands: list[Command] = []
        self.failure: Exception | None = None
        self.stopped = False
        self._wire = wire
        self._keys = keys
        self._depth = depth
        self._rng = rng
        self._versions: dict[str, int] = {}

    def run(self) -> None:
        try:
            while not self.stopped:
                self._batch()
        except (Closed, ConnectionError):
            pass
        except Exception as error:  # noqa: BLE001 - raised where the thread is joined
            self.failure = error
        finally:
            self._wire.close()

    def _batch(self) -> None:
        batch = [self._choose(len(self.commands) + place) for place in range(self._depth)]
        self.commands += batch
        words = [words_of(each, 0 if each.number % 3 else DAY_MS) for each in batch]
        self._wire.send_bytes(b"".join(command(*each) for each in words))
        for place in range(-len(batch), 0):
            reply = self._wire.receive()
            self._note(len(self.commands) + place, reply, time.monotonic())

    def _choose(self, number: int) -> Command:
        rng = self._rng
        kind, key = rng.choices(KINDS, WEIGHTS)[0], rng.choice(self._keys)
        version = 0
        if kind in ("RELEASE", "RENEW") and rng.random() < 0.5:
            version = self._versions.get(key, 0)
        return Command(self.number, number, kind, key, self.owner, time.monotonic(), version)

    def _note(self, number: int, reply: Any, returned: float) -> None:
        asked = self.commands[number]
        outcome = outcome_of(asked.kind, reply)
        self.commands[number] = replace(asked, returned=returned, reply=outcome)
        if asked.kind == "ACQUIRE" and outcome[0] == "granted":
            self._versions[asked.key] = outcome[1]
        self.answered += 1


DEPTHS = (1, 1, 4, 16)
"""How deep each client's pipeline is."""


class Load:
    """Several clients on one server."""

    def __init__(self, server: ServerProcess, keys: list[str], rng: random.Random) -> None:
        self.clients = [
            Client(
                server.wire(protocol=2 + number % 2),
                number,
                keys,
                depth,
                random.Random(rng.getrandbits(64)),
            )
            for number, depth in enumerate(DEPTHS)
        ]
        for client in self.clients:
            client.start()

    @property
    def answered(self) -> int:
        """How many commands were answered so far."""
        return sum(client.answered for client in self.clients)

    def run_until_answered(self, count: int) -> None:
        """Wait for so many replies."""

        def enough() -> bool:
            self._assert_well()
            return self.answered >= count

        eventually(enough, f"{count} replies under load")

    def end(self, ending: Callable[[], object]) -> list[Command]:
        """End the server under the load, wait for the clients, and return all that they did."""
        ending()
        for client in self.clients:
            client.stopped = True
        for client in self.clients:
            client.join(20)
            assert not client.is_alive(), f"{client.name} hangs"
        self._assert_well()
        return [each for client in self.clients for each in client.commands]

    def _assert_well(self) -> None:
        for client in self.clients:
            if client.failure is not None:
                raise client.failure


def holds_of(server: ServerProcess) -> State:
    """Every lock that is held, from LOCK.LIST."""
    found: State = {}
    with server.wire(protocol=3) as wire:
        cursor = b"0"
        while True:
            cursor, locks = wire.call("LOCK.LIST", "CURSOR", cursor, "COUNT", 1000)
            for lock in locks:
                key = lock[b"key"].decode()
                assert key not in found, f"{key} is listed twice"
                found[key] = Hold(lock[b"owner"].decode(), lock[b"version"])
            if cursor == b"0":
                return found
