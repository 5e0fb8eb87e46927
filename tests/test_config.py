"""Addresses and settings: what is understood, what follows, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest

from resplock.addresses import (
    Address,
    ClusterNode,
    join_host,
    parse_address,
    parse_cluster,
    split_host,
)
from resplock.config import Settings, complete
from resplock.errors import ConfigError

THREE = "n1=10.0.0.1:7379,n2=10.0.0.2:7379@9000,n3=[::1]:7379"


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("10.0.0.1:7379", Address("10.0.0.1", 7379, 17379)),
            ("db-1.example:1@2", Address("db-1.example", 1, 2)),
            ("[::1]:7379", Address("::1", 7379, 17379)),
            ("[fe80::1%eth0]:7379@65535", Address("fe80::1%eth0", 7379, 65535)),
            ("a:55535", Address("a", 55535, 65535)),
        ],
    )
    def test_good(self, text: str, expected: Address) -> None:
        assert parse_address(text) == expected
        assert parse_address(str(expected)) == expected

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "'' is not an address: it has the form host:port[@peerport]"),
            ("n1", "'n1' is not an address"),
            (":7379", "is not an address"),
            ("::1:7379", "is not an address"),
            ("a:b", "is not an address"),
            ("a:1@", "is not an address"),
            ("a:1@2@3", "is not an address"),
            ("a b:1", "is not an address"),
            ("a:0", "0 is no port: they are 1 to 65535"),
            ("a:65536@1", "65536 is no port"),
            ("a:1@99999", "99999 is no port"),
            ("a:55536", "'a:55536': 55536 + 10000 is no port: add @peerport"),
            ("a:5@5", "clients and nodes need two different ports"),
            ("0.0.0.0:7379", "nobody can be reached at 0.0.0.0"),
            ("[::]:7379", "nobody can be reached at ::"),
        ],
    )
    def test_bad(self, text: str, words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_address(text)
        assert words in str(caught.value)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "name"])
    def test_joined_and_split(self, host: str) -> None:
        assert split_host(join_host(host, 7379)) == (host, 7379)

    def test_an_empty_one_is_nowhere(self) -> None:
        assert split_host("") == ("", 0)

    def test_as_members_have_them(self) -> None:
        address = parse_address("[::1]:7379@8000")
        assert (address.for_clients, address.for_peers) == ("[::1]:7379", "[::1]:8000")


class TestClusterLists:
    def test_in_the_order_of_the_ids(self) -> None:
        assert parse_cluster(" n2=b:2 , n1=a:1@5") == (
            ClusterNode("n1", Address("a", 1, 5)),
            ClusterNode("n2", Address("b", 2, 10002)),
        )
        assert [str(node) for node in parse_cluster(THREE)] == [
            "n1=10.0.0.1:7379@17379",
            "n2=10.0.0.2:7379@9000",
            "n3=[::1]:7379@17379",
        ]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "'' does not have the form id=host:port[@peerport]"),
            ("n1=a:1,", "'' does not have the form"),
            ("a:1", "'a:1' does not have the form"),
            ("=a:1", "'' is not a node id"),
            ("n 1=a:1", "'n 1' is not a node id"),
            ("n1=a", "'a' is not an address"),
            ("n1=a:1,n1=b:1", "the id n1 is there twice"),
            ("n1=a:1@5,n2=a:1@6", "the address a:1 is there twice"),
            ("n1=a:1@5,n2=a:2@5", "the address a:5 is there twice"),
            ("n1=a:1@5,n2=a:5", "the address a:5 is there twice"),
        ],
    )
    def test_bad(self, text: str, words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_cluster(text)
        assert words in str(caught.value)


def completed(**values: Any) -> Settings:
    """Settings of which all that are named here were given."""
    if isinstance(values.get("cluster"), str):
        values["cluster"] = parse_cluster(values["cluster"])
    return complete(Settings(**values), values)


class TestTogether:
    def test_host_and_ports_come_from_the_list(self) -> None:
        settings = completed(cluster=THREE, node_id="n2")
        assert (settings.host, settings.port, settings.peer_port) == ("10.0.0.2", 7379, 9000)

    def test_the_same_once_more_is_no_contradiction(self) -> None:
        said = {"host": "10.0.0.2", "port": 7379, "peer_port": 9000}
        settings = completed(cluster=THREE, node_id="n2", **said)
        assert {name: getattr(settings, name) for name in said} == said

    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])
    def test_every_address_is_no_contradiction(self, host: str) -> None:
        settings = completed(cluster=THREE, node_id="n2", host=host)
        assert (settings.host, settings.port, settings.peer_port) == (host, 7379, 9000)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"cluster": THREE, "node_id": "n4"}, "n4 is not in --cluster, which has n1, n2, n3"),
            ({"cluster": THREE, "port": 1}, "--port 1 contradicts --cluster, where n1 is 10.0.0.1"),
            ({"cluster": THREE, "port": 0}, "--port 0 contradicts --cluster"),
            ({"cluster": THREE, "peer_port": 1}, "--peer-port 1 contradicts --cluster"),
            ({"cluster": THREE, "host": "10.0.0.2"}, "--host 10.0.0.2 contradicts --cluster"),
            ({"cluster": THREE, "join": Address("a", 1, 2)}, "give only one of them"),
            ({"cluster": THREE, "announce_host": "a"}, "--announce-host is for a node without"),
            ({"join": Address("a", 1, 2), "port": 60_000}, "give --peer-port"),
            ({"port": 5, "peer_port": 5}, "two different ports"),
        ],
    )
    def test_contradictions(self, values: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            completed(**values)
        assert words in str(caught.value)

    def test_the_port_for_nodes(self) -> None:
        assert Settings().peer_port_beside(7379) == 17379
        assert Settings(peer_port=5).peer_port_beside(7379) == 5
        assert Settings().peer_port_beside(60_000) == 0
        assert Settings().peer_port_beside(0) == 0
        join = Address("a", 1, 2)
        assert completed(join=join, port=60_000, peer_port=9000).peer_port == 9000
        assert completed(join=join, port=0).join == join
