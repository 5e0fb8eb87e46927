"""Where nodes are: `host:port@peerport`, as settings and RAFT.ADD give it.

Pure. Clients connect to `port`, the other nodes to `peer_port`. A host is a name or an address, an
IPv6 address in brackets: `[::1]:7379`.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from resplock.errors import ConfigError

PEER_PORT_OFFSET = 10_000
"""From the port for clients to the port for nodes, where nothing else is said: as in Redis Cluster."""

EVERY_ADDRESS = ("0.0.0.0", "::")
"""Hosts to listen on, at which nobody can be reached."""

_PORT_MAX = 65_535
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9_.-]+))"
    r":(?P<port>[0-9]{1,5})(?:@(?P<peer_port>[0-9]{1,5}))?"
)


class Address(msgspec.Struct, frozen=True):
    """Where one node is."""

    host: str
    """Without brackets."""
    port: int
    peer_port: int

    @property
    def for_clients(self) -> str:
        """`host:port`, as Member.client_address has it."""
        return join_host(self.host, self.port)

    @property
    def for_peers(self) -> str:
        """`host:port`, as Member.peer_address has it."""
        return join_host(self.host, self.peer_port)

    def __str__(self) -> str:
        return f"{self.for_clients}@{self.peer_port}"


class ClusterNode(msgspec.Struct, frozen=True):
    """One node of the list that a cluster begins with."""

    id: str
    address: Address

    def __str__(self) -> str:
        return f"{self.id}={self.address}"


def join_host(host: str, port: int) -> str:
    """`host:port`, with brackets round an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host(address: str) -> tuple[str, int]:
    """The host, without brackets, and the port of `host:port`; ("", 0) of an empty address."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port or 0)


def check_node_id(text: str) -> str:
    """A node's name. Raises ConfigError."""
    if not _NODE_ID.fullmatch(text):
        raise ConfigError(
            f"{text!r} is not a node id: 1 to 64 letters, digits, '_', '.' or '-', "
            "beginning with a letter or digit"
        )
    return text


def parse_address(text: str) -> Address:
    """`host:port[@peerport]`. Raises ConfigError."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not an address: it has the form host:port[@peerport]")
    host = match["six"] or match["host"]
    if host in EVERY_ADDRESS:
        raise ConfigError(f"{text!r}: nobody can be reached at {host}; give the host's own address")
    port = _port(text, match["port"])
    if match["peer_port"]:
        peer_port = _port(text, match["peer_port"])
    else:
        peer_port = port + PEER_PORT_OFFSET
        if peer_port > _PORT_MAX:
            raise ConfigError(f"{text!r}: {port} + {PEER_PORT_OFFSET} is no port: add @peerport")
    if port == peer_port:
        raise ConfigError(f"{text!r}: clients and nodes need two different ports")
    return Address(host, port, peer_port)


def parse_cluster(text: str) -> tuple[ClusterNode, ...]:
    """`id=host:port[@peerport],...`, sorted by id. Raises ConfigError.

    No id and no address may be there twice, whether for clients or for nodes.
    """
    nodes = []
    for part in text.split(","):
        name, equals, address = part.strip().partition("=")
        if not equals:
            raise ConfigError(f"{part.strip()!r} does not have the form id=host:port[@peerport]")
        nodes.append(ClusterNode(check_node_id(name), parse_address(address)))
    if twice := _first_twice([node.id for node in nodes]):
        raise ConfigError(f"the id {twice} is there twice")
    addresses = [each.address for each in nodes]
    taken = [address.for_clients for address in addresses] + [
        address.for_peers for address in addresses
    ]
    if twice := _first_twice(taken):
        raise ConfigError(f"the address {twice} is there twice")
    return tuple(sorted(nodes, key=lambda node: node.id))


def _port(text: str, digits: str) -> int:
    port = int(digits)
    if not 1 <= port <= _PORT_MAX:
        raise ConfigError(f"{text!r}: {port} is no port: they are 1 to {_PORT_MAX}")
    return port


def _first_twice(words: list[str]) -> str | None:
    return next((word for word, count in Counter(words).items() if count > 1), None)
