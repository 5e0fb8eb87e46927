"""A network of our own, with a namespace for each node: packets between any two can be lost without a
word, one way or both.

    this machine --- router --- n1, n2, n3 ...

Each node is in a namespace with one link to the router, also a namespace, which forwards between them
and to this machine, where the clients are. A cut is a routing rule at the router that drops what one
node sends to another. It needs root and Linux; `why_not` says what is missing. Everything goes when the
namespaces are deleted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import TextIO

SUBNETS = range(256)
"""198.18.N.0/24, of the range that RFC 2544 keeps for such tests."""


def why_not() -> str:
    """Why there can be no such network here; empty when there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "making network namespaces needs `ip`, of the package iproute2"
    network = Network(["probe"])
    try:
        network.up()
    except subprocess.CalledProcessError as error:
        return f"this kernel or container refuses `{' '.join(error.cmd)}`: {error.stderr.strip()}"
    finally:
        network.down()
    return ""


class Network:
    """`up` makes it, `down` deletes it, however far it was made."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = list(ids)
        self._subnet, self._lock = _take_subnet()
        self._name = f"resplock{self._subnet}"
        self._cuts: set[tuple[str, str]] = set()

    def up(self) -> None:
        """Raises CalledProcessError where this is not possible."""
        router = self._router
        _ip("netns", "add", router)
        forward = "/proc/sys/net/ipv4/ip_forward"
        _run(*self._inside(router), "sh", "-c", f"echo 1 > {forward}")
        _ip("-n", router, "link", "set", "lo", "up")
        here = f"{self._name}c"
        self._link(router, here, "", 0)
        _ip("route", "add", f"{self._prefix}.0/24", "via", self._gateway(0))
        for number, id in enumerate(self.ids, 1):
            namespace = self._namespace(id)
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            self._link(router, "eth0", namespace, number)
            _ip("-n", namespace, "route", "add", "default", "via", self._gateway(number))

    def _link(self, router: str, name: str, namespace: str, number: int) -> None:
        """A pair of ends, one at the router, the other in a namespace, or here when that is empty."""
        end = f"to{number}"
        there = ("-n", namespace) if namespace else ()
        place = namespace or str(os.getpid())
        _ip("-n", router, "link", "add", end, "type", "veth", "peer", "name", name, "netns", place)
        _ip("-n", router, "address", "add", f"{self._gateway(number)}/30", "dev", end)
        _ip("-n", router, "link", "set", end, "up")
        _ip(*there, "address", "add", f"{self._address(number)}/30", "dev", name)
        _ip(*there, "link", "set", name, "up")

    def down(self) -> None:
        for namespace in [*map(self._namespace, self.ids), self._router]:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)
        self._lock.close()

    # --- where nodes are ---

    @property
    def hosts(self) -> dict[str, str]:
        """The address of each node."""
        return {id: self._address(number) for number, id in enumerate(self.ids, 1)}

    @property
    def through(self) -> dict[str, Sequence[str]]:
        """The program that runs another in a node's namespace, for each node."""
        return {id: self._inside(self._namespace(id)) for id in self.ids}

    @property
    def _prefix(self) -> str:
        return f"198.18.{self._subnet}"

    def _gateway(self, number: int) -> str:
        return f"{self._prefix}.{4 * number + 1}"

    def _address(self, number: int) -> str:
        return f"{self._prefix}.{4 * number + 2}"

    @property
    def _router(self) -> str:
        return f"{self._name}r"

    def _namespace(self, id: str) -> str:
        return f"{self._name}{id}"

    def _inside(self, namespace: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", namespace)

    # --- faults ---

    def cut(self, from_id: str, to_id: str) -> None:
        """From now on what the one sends to the other is lost."""
        if (from_id, to_id) not in self._cuts:
            self._cuts.add((from_id, to_id))
            self._rule("add", from_id, to_id)

    def part(self, *groups: Iterable[str]) -> None:
        """Lose whatever goes from one of these groups to another."""
        sides = {id: number for number, group in enumerate(groups) for id in group}
        for one, other in permutations(sides, 2):
            if sides[one] != sides[other]:
                self.cut(one, other)

    def heal(self) -> None:
        """Undo all cuts."""
        while self._cuts:
            self._rule("delete", *self._cuts.pop())

    def _rule(self, verb: str, from_id: str, to_id: str) -> None:
        hosts = self.hosts
        words = ("from", hosts[from_id], "to", hosts[to_id], "blackhole")
        _ip("-n", self._router, "rule", verb, *words)


def _take_subnet() -> tuple[int, TextIO]:
    """A subnet that no other test on this machine uses, and what has to be closed to give it back."""
    directory = Path(tempfile.gettempdir()) / "resplock-test-subnets"
    directory.mkdir(exist_ok=True)
    for number in SUBNETS:
        lock = (directory / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return number, lock
    raise AssertionError("no subnet is free")


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
