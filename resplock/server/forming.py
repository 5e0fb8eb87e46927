"""A cluster's beginning: its members find each other, and agree on who they are.

I/O layer.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import structlog

from resplock.addresses import ClusterNode
from resplock.raft.entries import Configuration, Member
from resplock.server.durable import replace_file
from resplock.server.peers import Peers, Unreachable
from resplock.types import NodeId

logger = structlog.get_logger()


class ClusterFile(msgspec.Struct, frozen=True):
    cluster_id: str
    initial: tuple[Member, ...] = ()


def read_cluster(directory: Path) -> ClusterFile | None:
    path = directory / "cluster"
    return msgspec.json.decode(path.read_bytes(), type=ClusterFile) if path.exists() else None


def write_cluster(directory: Path, cluster: ClusterFile) -> None:
    replace_file(directory / "cluster", msgspec.json.encode(cluster) + b"\n")


def cluster_of(members: tuple[Member, ...]) -> ClusterFile:
    names = "\n".join(f"{member.id}/{member.uuid}" for member in members)
    return ClusterFile(hashlib.sha256(names.encode()).hexdigest()[:32], members)


async def form(nodes: tuple[ClusterNode, ...], me: Member, peers: Peers) -> ClusterFile:
    """Wait for all listed members, or for a cluster that is there already."""
    found = {me.id: me}
    while len(found) < len(nodes):
        for node in nodes:
            if node.id in found:
                continue
            try:
                hello = await peers.probe(node.address.host, node.address.peer_port)
            except Unreachable:
                continue
            if hello.cluster_id:
                known = me in hello.initial_members
                return ClusterFile(hello.cluster_id, hello.initial_members if known else ())
            if hello.server.id == node.id and hello.empty:
                found[NodeId(node.id)] = hello.member
        await asyncio.sleep(0.05)
    return cluster_of(tuple(found[id] for id in sorted(found)))


def configuration_of(cluster: ClusterFile) -> Configuration:
    return Configuration(voters=cluster.initial)
