"""What a node is when it starts: a member of which cluster, or not of any yet.

I/O, but for `decide`. The file `cluster` in the data directory, beside `identity`, says it for good;
one line of JSON, for operators to read, written once. Without it:

- data (of a release that knew one node only), or neither --cluster nor --join: a cluster of one;
- --cluster: `form` waits until every listed member answers that it is as empty and was told of the
  same members; then each of them computes the same cluster id and the same first configuration. A
  member that belongs to a cluster already knows whether this node began it too;
- --join: passive, until a member of a cluster adds this node.

Invariants: a node begins a cluster only together with all of its members, each empty; nobody votes
for a cluster before its file is durable; a server that has lost data comes back as another one, with
a new uuid, which is durable before anything is put in the place of what was lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from resplock import limits
from resplock.addresses import Address, ClusterNode
from resplock.config import Settings
from resplock.errors import (
    ConfigError,
    DamagedLog,
    DamagedSnapshot,
    LostEntries,
    NewerFormat,
    StorageError,
)
from resplock.raft.entries import Member
from resplock.server.datadir import DataDirectory, create_log
from resplock.server.durable import (
    make_directory,
    replace_file,
    storage_errors,
    sync_directory,
)
from resplock.server.peers import Hello, Peers, Unreachable
from resplock.server.storage import Log
from resplock.types import NodeId

logger = structlog.get_logger()

FORMAT = 1
_FILE = "cluster"
_DAMAGED_DIRECTORIES_MAX = 3
_PROBE_EVERY_S = 0.1


class ClusterFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which cluster a node belongs to."""

    cluster_id: str
    """Empty while it belongs to none; that is never written."""
    initial: tuple[Member, ...] = ()
    """Whom the cluster began with, sorted by id; empty for a server that was added later."""
    me: Member | None = None
    """This server, as the others know it."""
    voters: int = 0
    """How many vote since the membership has changed; 0 while it is as it was."""
    format: int = FORMAT
    crc32: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether it is a cluster of one, so that nobody else has its data."""
        return (self.voters or len(self.initial)) == 1


class _Format(msgspec.Struct, frozen=True):
    """The part that every release can read of every release's file."""

    format: int


# --- the file ------------------------------------------------------------------------------------


def read_cluster(directory: Path) -> ClusterFile | None:
    """The file of a data directory; None when there is none. Raises StorageError, NewerFormat."""
    path = directory / _FILE
    with storage_errors(path, "read the cluster file"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version <= FORMAT:
            found = msgspec.json.decode(data, type=ClusterFile)
            if found.crc32 == _crc(found):
                return found
    except msgspec.MsgspecError:
        version = 0
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: has format {version}, this release knows formats up to {FORMAT}. Start the "
            "release that wrote it, or a later one."
        )
    raise StorageError(
        f"{path}: is damaged: it does not match its checksum. Put it back from a backup. If other "
        "nodes have the data: move this directory away, start this node with an empty one, and the "
        "leader gives it everything."
    )


def write_cluster(directory: Path, cluster: ClusterFile) -> None:
    """Make it durable. Raises StorageError."""
    assert cluster.cluster_id, "a node without a cluster has no file"
    path = directory / _FILE
    data = msgspec.json.encode(msgspec.structs.replace(cluster, crc32=_crc(cluster))) + b"\n"
    with storage_errors(path, "write the cluster file"):
        replace_file(path, data)


def _crc(cluster: ClusterFile) -> int:
    return zlib.crc32(msgspec.json.encode(msgspec.structs.replace(cluster, crc32=0)))


def cluster_of(members: tuple[Member, ...], me: Member) -> ClusterFile:
    """The cluster that these begin: the same for each of them."""
    initial = tuple(sorted(members, key=lambda member: member.id))
    names = "\n".join(f"{member.id}/{member.uuid}" for member in initial)
    return ClusterFile(hashlib.sha256(names.encode()).hexdigest()[:32], initial, me)


# --- starting ------------------------------------------------------------------------------------


async def find_cluster(
    directory: Path, settings: Settings, me: Member, peers: Peers, is_empty: bool
) -> ClusterFile:
    """Which cluster this node belongs to. It may take until others have started.

    peers: listens, and is not open yet. is_empty: the log has no entry, no term and no snapshot.
    The answer is durable, unless its id is empty: then the node waits to be added, and whoever does
    it tells it the id. Raises ConfigError for settings that contradict what the directory holds,
    StorageError.
    """
    found = read_cluster(directory)
    if found is not None:
        check_restart(found, settings.cluster, me)
        return found
    if settings.cluster and is_empty:
        found = await form(settings.cluster, me, peers)
    elif settings.join is not None and is_empty:
        found = await join(settings.join, me, peers)
    else:
        found = cluster_of((me,), me)
        check_restart(found, settings.cluster, me)
    if found.cluster_id:
        write_cluster(directory, found)
    return found


def check_restart(found: ClusterFile, told: tuple[ClusterNode, ...], me: Member) -> None:
    """Compare what --cluster says with what the data directory holds.

    Another list is a warning: the cluster may have changed since. Another address of this node is
    refused, because the others would not find it. Raises ConfigError.
    """
    listed = tuple(
        (member.id, member.client_address, member.peer_address) for member in found.initial
    )
    if told and tuple(map(_place, told)) != listed:
        logger.warning(
            "--cluster differs from what this node's cluster began with: it is ignored",
            given=",".join(map(str, told)),
            began_with=",".join(member.id for member in found.initial) or "others",
        )
    known = found.me
    if known is None or found.is_alone:
        return
    if (known.client_address, known.peer_address) != (me.client_address, me.peer_address):
        raise ConfigError(
            f"the cluster knows {me.id} at {known.client_address} (for nodes "
            f"{known.peer_address}), and it was started at {me.client_address} (for nodes "
            f"{me.peer_address}). Start it at the address that the others know; or take it out with "
            f"RAFT.REMOVE {me.id}, and let it join under another id with an empty directory."
        )


async def join(seed: Address, me: Member, peers: Peers) -> ClusterFile:
    """Ask a node of the cluster which one it is; it need not be there now."""
    cluster_id, trouble = "", ""
    try:
        cluster_id = (await peers.probe(seed.host, seed.peer_port)).cluster_id
        if not cluster_id:
            trouble = "it belongs to no cluster yet"
    except Unreachable as error:
        trouble = str(error)
    logger.info(
        "waiting to be added to a cluster",
        command=f"RAFT.ADD {me.id} {me.client_address}@{me.peer_address.rpartition(':')[2]}",
        cluster=cluster_id or f"not known: {seed.for_peers}: {trouble}",
    )
    return ClusterFile(cluster_id, me=me)


async def form(told: tuple[ClusterNode, ...], me: Member, peers: Peers) -> ClusterFile:
    """Begin a cluster together with all listed members, or find the one that has begun."""
    listed = tuple(map(_listed, told))
    peers.identity = msgspec.structs.replace(peers.identity, initial=listed)
    others = [node for node in told if node.id != me.id]
    reported, report_due = "", 0.0
    while True:
        answers = dict(
            zip(
                [node.id for node in others],
                await asyncio.gather(*(_probe(peers, node.address) for node in others)),
                strict=True,
            )
        )
        found = decide(told, me, answers)
        if isinstance(found, ClusterFile):
            _log_found(found, me)
            return found
        if found != reported or time.monotonic() >= report_due:
            logger.info("waiting for the cluster to form", reason=found)
            reported = found
            report_due = time.monotonic() + limits.COMPLAINT_EVERY_MS / 1000
        await asyncio.sleep(_PROBE_EVERY_S * peers.rng.uniform(0.5, 1.0))


async def _probe(peers: Peers, address: Address) -> Hello | str:
    """The answer, or why there is none."""
    try:
        return await peers.probe(address.host, address.peer_port)
    except Unreachable as error:
        return str(error)


def _log_found(found: ClusterFile, me: Member) -> None:
    if found.initial:
        logger.info(
            "cluster formed",
            cluster=found.cluster_id,
            members=",".join(member.id for member in found.initial),
        )
    else:
        logger.warning(
            f"the cluster has begun without this data directory (was it wiped?): {me.id} takes part "
            "as a new server once the leader has added it",
            cluster=found.cluster_id,
            uuid=me.uuid,
        )


# --- the decision, pure --------------------------------------------------------------------------


def decide(
    told: tuple[ClusterNode, ...], me: Member, answers: Mapping[str, Hello | str]
) -> ClusterFile | str:
    """What follows from one round of answers; a text for operators when it is to be waited on.

    answers: by id, of all members that were told of but this one; a text says why there is none.
    """
    problems: list[str] = []
    clusters: dict[str, tuple[Member, ...]] = {}
    members = [
        msgspec.structs.replace(_listed(node), uuid=me.uuid) for node in told if node.id == me.id
    ]
    for node in told:
        answer = answers.get(node.id)
        if node.id == me.id or answer is None:
            continue
        if isinstance(answer, str):
            problems.append(f"{node.id} at {node.address.for_peers}: {answer}")
        elif answer.server.id != node.id:
            problems.append(
                f"{answer.server.id} is at {node.address.for_peers}, where {node.id} should be"
            )
        elif answer.cluster_id:
            clusters[answer.cluster_id] = clusters.get(answer.cluster_id) or answer.initial_members
        elif problem := _mismatch(node, told, answer):
            problems.append(problem)
        else:
            members.append(msgspec.structs.replace(_listed(node), uuid=answer.server.uuid))
    if len(clusters) > 1:
        names = " and ".join(sorted(clusters))
        return f"the members belong to different clusters, {names}: only one can be right"
    for cluster_id, initial in clusters.items():
        if any((member.id, member.uuid) == (me.id, me.uuid) for member in initial):
            return ClusterFile(cluster_id, initial, me)
        if initial or not problems:  # without problems all have answered: who began it is gone
            return ClusterFile(cluster_id, (), me)
        problems.append(f"cluster {cluster_id} is there, but no member that began it answers")
    if problems or len(members) < len(told):
        return "; ".join(problems)
    return cluster_of(tuple(members), me)


def _mismatch(node: ClusterNode, told: tuple[ClusterNode, ...], answer: Hello) -> str:
    """Why a server that belongs to no cluster is not the one that is waited for; empty if it is."""
    if not answer.empty:
        return f"{node.id} has data, of no cluster"
    theirs = {_place_of(member) for member in answer.initial_members}
    mine = {_place(each) for each in told}
    if theirs == mine:
        return ""
    if not theirs:
        return f"{node.id} was started without --cluster"
    only_mine, only_theirs = (_places(places) for places in (mine - theirs, theirs - mine))
    return (
        f"{node.id} was started with another --cluster: here {only_mine or 'nothing'} "
        f"where it has {only_theirs or 'nothing'}"
    )


def _listed(node: ClusterNode) -> Member:
    """A member as the list has it: its uuid is not known."""
    return Member(NodeId(node.id), "", node.address.for_clients, node.address.for_peers)


def _place(node: ClusterNode) -> tuple[str, str, str]:
    return _place_of(_listed(node))


def _place_of(member: Member) -> tuple[str, str, str]:
    return member.id, member.client_address, member.peer_address


def _places(places: set[tuple[str, str, str]]) -> str:
    return ",".join(
        f"{id}={clients}@{peers.rpartition(':')[2]}" for id, clients, peers in sorted(places)
    )


# --- damage --------------------------------------------------------------------------------------


def open_log(
    directory: DataDirectory, cluster: ClusterFile | None, accept_loss: bool
) -> tuple[Log, ClusterFile | None]:
    """Open the log. A member of a larger cluster whose log is damaged, or has lost entries, begins
    anew as another server; the leader gives it everything.

    accept_loss: go on without entries that were acknowledged. Only for a cluster of one: in a larger
    one such a server must not vote, and has a better way back. Raises StorageError; of a cluster of
    one, or of one that is not known, also DamagedLog, DamagedSnapshot and LostEntries: nobody else
    may have the data.
    """
    has_others = cluster is not None and not cluster.is_alone
    try:
        return Log.open(directory.path, accept_loss=accept_loss and not has_others), cluster
    except (DamagedLog, DamagedSnapshot, LostEntries) as error:
        if cluster is None or not has_others:
            raise
        cluster = _begin_anew(directory, cluster, error)
        return Log.open(directory.path), cluster


def _begin_anew(directory: DataDirectory, cluster: ClusterFile, error: StorageError) -> ClusterFile:
    """Put what is damaged aside. The new uuid comes first: under the old one this server has voted,
    and has acknowledged entries that it no longer knows."""
    aside = _next_damaged(directory.path)
    old = directory.uuid
    directory.replace_uuid()
    me = cluster.me and msgspec.structs.replace(cluster.me, uuid=directory.uuid)
    cluster = ClusterFile(cluster.cluster_id, (), me)
    write_cluster(directory.path, cluster)
    with storage_errors(aside, "put the damaged data aside"):
        make_directory(aside)
        for name in ("log", "snapshots"):
            if (directory.path / name).exists():
                os.rename(directory.path / name, aside / name)
        sync_directory(aside)
        sync_directory(directory.path)
    create_log(directory.path)
    logger.error(
        f"{directory.node_id} has lost data that it had acknowledged: it takes part as a new server "
        "once the leader has added it, and gets everything from there",
        reason=str(error),
        set_aside=str(aside),
        old_uuid=old,
        uuid=directory.uuid,
    )
    return cluster


def _next_damaged(path: Path) -> Path:
    for number in range(1, _DAMAGED_DIRECTORIES_MAX + 1):
        aside = path / f"damaged-{number}"
        if not aside.exists():
            return aside
    raise StorageError(
        f"{path}: its data has been damaged {_DAMAGED_DIRECTORIES_MAX} times: the disk is failing. "
        f"Look at the kernel's log; then move damaged-1 to {aside.name} away, and start again."
    )
