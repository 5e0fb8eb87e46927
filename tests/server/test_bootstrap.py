"""What a node is when it starts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from resplock.addresses import parse_address, parse_cluster
from resplock.config import Settings
from resplock.errors import ConfigError, DamagedLog, NewerFormat, StorageError
from resplock.raft.entries import Entry, EntryKind, HardState, Member
from resplock.server import bootstrap
from resplock.server.bootstrap import ClusterFile, cluster_of, decide
from resplock.server.datadir import DataDirectory
from resplock.server.marks import MarkFile
from resplock.server.peers import Hello, Identity, greeting
from resplock.server.peers.greeting import Kind
from resplock.server.storage import Log
from resplock.types import NodeId
from tests.server.peers.nodes import Node, nodes, on_uvloop

TOLD = parse_cluster("n1=a:1@11,n2=b:2@12,n3=c:3@13")
OTHER = parse_cluster("n1=a:1@11,n2=b:2@12,n4=c:3@13")
MEMBERS = tuple(
    Member(NodeId(node.id), f"u{node.id}", node.address.for_clients, node.address.for_peers)
    for node in TOLD
)
ME = MEMBERS[0]
CLUSTER = cluster_of(MEMBERS, ME).cluster_id


def answer(
    id: str,
    cluster: str = "",
    initial: tuple[Member, ...] = MEMBERS,
    empty: bool = True,
    uuid: str = "",
) -> Hello:
    identity = Identity(Member(NodeId(id), uuid or f"u{id}"), 1, cluster, empty, initial)
    return greeting.hello(identity, Kind.PROBE)


# --- the decision --------------------------------------------------------------------------------

WIPED_ME = (replace(ME, uuid="before"), *MEMBERS[1:])
FORMED, NEWCOMER, WAIT = "formed", "newcomer", "wait"

KINDS: dict[str, Callable[[str], Hello | str]] = {
    "silent": lambda id: "connection refused",
    "ready": answer,
    "begun with me": lambda id: answer(id, CLUSTER),
    "begun with my old uuid": lambda id: answer(id, CLUSTER, WIPED_ME),
    "begun without me": lambda id: answer(id, CLUSTER, MEMBERS[1:]),
    "added later": lambda id: answer(id, CLUSTER, ()),
    "with data": lambda id: answer(id, empty=False),
    "told of others": lambda id: answer(id, initial=tuple(map(bootstrap._listed, OTHER))),
    "told of nobody": lambda id: answer(id, initial=()),
    "somebody else": lambda id: answer("n9", CLUSTER),
    "of another cluster": lambda id: answer(id, "f" * 32, WIPED_ME),
}
KNOWS = {"begun with me", "begun with my old uuid", "begun without me"}


def expected(one: str, other: str) -> str:
    """What must follow from what two other members answer, said in another way than `decide`."""
    if "of another cluster" in (one, other):
        return WAIT if {one, other} & (KNOWS | {"added later"}) else NEWCOMER
    for kind in (one, other):
        if kind in KNOWS:  # all who began a cluster say the same of it
            return FORMED if kind == "begun with me" else NEWCOMER
    if "added later" in (one, other) and {one, other} <= {"added later", "ready"}:
        return NEWCOMER  # nobody is left who began it
    return FORMED if one == other == "ready" else WAIT


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, repeat=2)))
def test_whatever_two_others_answer(one: str, other: str) -> None:
    found = decide(TOLD, ME, {"n2": KINDS[one]("n2"), "n3": KINDS[other]("n3")})
    match expected(one, other):
        case "formed":
            assert found == ClusterFile(CLUSTER, MEMBERS, ME)
        case "newcomer":
            assert isinstance(found, ClusterFile)
            assert (found.initial, found.me) == ((), ME)
            assert found.cluster_id
        case _:
            assert isinstance(found, str)
            assert found


def test_all_members_come_to_the_same_cluster() -> None:
    found = []
    for me in MEMBERS:
        others = {member.id: answer(member.id) for member in MEMBERS if member is not me}
        one = decide(TOLD, me, others)
        assert isinstance(one, ClusterFile)
        assert one.me == me
        found.append((one.cluster_id, one.initial))
    assert found == [(CLUSTER, MEMBERS)] * 3


def test_another_uuid_makes_another_cluster() -> None:
    found = decide(TOLD, ME, {"n2": answer("n2", uuid="new"), "n3": answer("n3")})
    assert isinstance(found, ClusterFile)
    assert found.cluster_id != CLUSTER


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("silent", "n3 at c:13: connection refused"),
        ("with data", "n3 has data, of no cluster"),
        ("told of nobody", "n3 was started without --cluster"),
        ("somebody else", "n9 is at c:13, where n3 should be"),
        (
            "told of others",
            "n3 was started with another --cluster: here n3=c:3@13 where it has n4=c:3@13",
        ),
    ],
)
def test_it_is_said_what_is_waited_for(kind: str, text: str) -> None:
    assert decide(TOLD, ME, {"n2": answer("n2"), "n3": KINDS[kind]("n3")}) == text


def test_a_member_that_began_the_cluster_is_waited_for_while_it_is_silent() -> None:
    assert decide(TOLD, ME, {"n2": KINDS["added later"]("n2"), "n3": "connection refused"}) == (
        f"n3 at c:13: connection refused; cluster {CLUSTER} is there, but no member that began it "
        "answers"
    )


def test_a_list_with_this_node_only_is_a_cluster_of_one() -> None:
    found = decide(TOLD[:1], ME, {})
    assert found == cluster_of((ME,), ME)


# --- the file ------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert bootstrap.read_cluster(tmp_path) is None
    for written in (cluster_of(MEMBERS, ME), ClusterFile("x", (), ME), ClusterFile("x")):
        bootstrap.write_cluster(tmp_path, written)
        found = bootstrap.read_cluster(tmp_path)
        assert found is not None
        assert replace(found, crc32=0) == written
    assert (tmp_path / "cluster").stat().st_mode & 0o777 == 0o600


def test_bytes_kept_from_format_1(tmp_path: Path) -> None:
    (tmp_path / "cluster").write_bytes(
        b'{"cluster_id":"c","initial":[["n1","u","a:1","a:11"]],"me":["n1","u","a:1","a:11"],'
        b'"voters":3,"format":1,"crc32":3168568769}\n'
    )
    found = bootstrap.read_cluster(tmp_path)
    member = Member(NodeId("n1"), "u", "a:1", "a:11")
    assert found is not None
    assert (found.cluster_id, found.initial, found.me) == ("c", (member,), member)
    assert found.voters == 3


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    bootstrap.write_cluster(tmp_path, cluster_of(MEMBERS[:1], ME))
    path = tmp_path / "cluster"
    data = path.read_bytes()
    for place in range(len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(StorageError):
            bootstrap.read_cluster(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="damaged"):
        bootstrap.read_cluster(tmp_path)


def test_a_later_format(tmp_path: Path) -> None:
    (tmp_path / "cluster").write_bytes(b'{"format":2,"whatever":1}\n')
    with pytest.raises(NewerFormat, match="format 2"):
        bootstrap.read_cluster(tmp_path)


def test_a_directory_of_a_cluster_without_its_identity_is_refused(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, NodeId("n1"))
    bootstrap.write_cluster(tmp_path, cluster_of((ME,), ME))
    directory.close()
    (tmp_path / "identity").unlink()
    with pytest.raises(StorageError, match="belongs to a cluster but has no identity"):
        DataDirectory.open(tmp_path, NodeId("n1"))


# --- starting again ------------------------------------------------------------------------------


def test_another_list_is_a_warning_and_the_same_is_not() -> None:
    found = cluster_of(MEMBERS, ME)
    with capture_logs() as logs:
        bootstrap.check_restart(found, TOLD, ME)
        bootstrap.check_restart(found, (), ME)
    assert logs == []
    with capture_logs() as logs:
        bootstrap.check_restart(found, OTHER, ME)
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "--cluster differs" in line["event"]


@pytest.mark.parametrize("initial", [MEMBERS, ()], ids=["began it", "added later"])
def test_another_own_address_is_refused(initial: tuple[Member, ...]) -> None:
    found = ClusterFile("c", initial, ME)
    for moved in (replace(ME, client_address="z:1"), replace(ME, peer_address="z:11")):
        with pytest.raises(ConfigError, match="the cluster knows n1 at a:1"):
            bootstrap.check_restart(found, (), moved)


def test_a_cluster_of_one_may_move() -> None:
    bootstrap.check_restart(cluster_of((ME,), ME), (), replace(ME, client_address="z:1"))


# --- over real sockets ---------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def starting(*ids: str) -> AsyncIterator[list[Node]]:
    """Nodes that listen, and belong to no cluster yet."""
    async with nodes(*(Node(id, cluster="", open=False) for id in ids), acquainted=False) as found:
        for node in found:
            node.member = replace(node.member, client_address=f"127.0.0.1:{node.port - 1}")
            node.peers.identity = replace(node.identity, member=node.member)
        yield found


def settings_of(node: Node, *others: Node, **more: object) -> Settings:
    listed = sorted((node, *others), key=lambda one: one.id)
    text = ",".join(f"{one.id}={one.member.client_address}@{one.port}" for one in listed)
    return Settings(node_id=node.id, cluster=parse_cluster(text), **more)  # type: ignore[arg-type]


async def find(node: Node, path: Path, settings: Settings, empty: bool = True) -> ClusterFile:
    directory = path / node.id
    directory.mkdir(exist_ok=True)
    return await bootstrap.find_cluster(directory, settings, node.member, node.peers, empty)


@on_uvloop
async def test_three_empty_nodes_form_a_cluster(tmp_path: Path) -> None:
    async with starting("n1", "n2", "n3") as found:
        first = asyncio.ensure_future(find(found[0], tmp_path, settings_of(*found)))
        second = asyncio.ensure_future(find(found[1], tmp_path, settings_of(*found)))
        second.set_name("n2")
        third = replace(settings_of(*found), node_id="n3")
        clusters = await asyncio.gather(first, second, find(found[2], tmp_path, third))
        assert len({cluster.cluster_id for cluster in clusters}) == 1
        assert len({cluster.initial for cluster in clusters}) == 1
        assert clusters[0].initial == tuple(node.member for node in found)
        for node, cluster in zip(found, clusters, strict=True):
            stored = bootstrap.read_cluster(tmp_path / node.id)
            assert stored is not None
            assert stored.initial == cluster.initial
            assert stored.me == node.member


@on_uvloop
async def test_one_that_ended_before_it_wrote_adopts_what_the_others_began(tmp_path: Path) -> None:
    async with starting("n1", "n2") as (one, two):
        begun = cluster_of((one.member, two.member), two.member)
        two.peers.identity = replace(
            two.peers.identity, cluster_id=begun.cluster_id, initial=begun.initial, empty=False
        )
        found = await find(one, tmp_path, settings_of(one, two))
        assert (found.cluster_id, found.initial) == (begun.cluster_id, begun.initial)


@on_uvloop
async def test_a_wiped_one_waits_to_be_added_and_says_so(tmp_path: Path) -> None:
    async with starting("n1", "n2") as (one, two):
        initial = (replace(one.member, uuid="before"), two.member)
        two.peers.identity = replace(two.peers.identity, cluster_id="c7", initial=initial)
        with capture_logs() as logs:
            found = await find(one, tmp_path, settings_of(one, two))
        assert (found.cluster_id, found.initial) == ("c7", ())
        (line,) = [line for line in logs if line["log_level"] == "warning"]
        assert "n1 takes part as a new server" in line["event"]
        again = await find(one, tmp_path, settings_of(one, two))
        assert (again.cluster_id, again.initial) == ("c7", ())


@on_uvloop
async def test_alone_or_with_data_it_is_a_cluster_of_one(tmp_path: Path) -> None:
    async with starting("n1", "n2") as (one, two):
        found = await find(one, tmp_path, Settings(node_id="n1"))
        assert found.initial == (one.member,)
        with capture_logs() as logs:
            other = await find(two, tmp_path, settings_of(two, one), empty=False)
        assert other.initial == (two.member,)
        assert "--cluster differs" in logs[0]["event"]


@on_uvloop
async def test_one_that_joins_learns_which_cluster_it_is_or_goes_on_without(
    tmp_path: Path,
) -> None:
    async with starting("n1", "n4") as (one, joiner):
        seed = parse_address(f"127.0.0.1:1@{one.port}")
        settings = Settings(node_id="n4", join=seed)
        with capture_logs() as logs:
            found = await find(joiner, tmp_path, settings)
        assert (found.cluster_id, found.initial) == ("", ())
        command = f"RAFT.ADD n4 {joiner.member.client_address}@{joiner.port}"
        assert logs[0]["command"] == command
        assert bootstrap.read_cluster(tmp_path / "n4") is None
        one.peers.identity = replace(one.peers.identity, cluster_id="c7", initial=(one.member,))
        found = await find(joiner, tmp_path, settings)
        assert (found.cluster_id, found.initial) == ("c7", ())
        stored = bootstrap.read_cluster(tmp_path / "n4")
        assert stored is not None
        assert stored.me == joiner.member


@on_uvloop
async def test_a_wait_is_logged_once(tmp_path: Path) -> None:
    async with starting("n1", "n2") as (one, two):
        settings = settings_of(one, two)
        two.peers.close()
        with capture_logs() as logs:
            forming = asyncio.ensure_future(find(one, tmp_path, settings))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.shield(forming)
            forming.cancel()
        lines = [line for line in logs if line["event"] == "waiting for the cluster to form"]
        assert len(lines) == 1
        assert "n2 at 127.0.0.1" in lines[0]["reason"]


# --- damage --------------------------------------------------------------------------------------


def with_entries(path: Path, count: int = 20) -> DataDirectory:
    """A data directory with a log."""
    directory = DataDirectory.open(path, NodeId("n1"))
    log = Log.open(path)
    for index in range(1, count + 1):
        log.save(HardState(1, "n1"), [Entry(1, index, index, EntryKind.RUN, 5, b"x" * 100)])
    log.close()
    return directory


def damage(path: Path) -> None:
    """Overwrite the mark: nobody can say any more how much of the log was acknowledged."""
    mark = path / "log" / "mark"
    mark.write_bytes(bytes(mark.stat().st_size))


def lose(path: Path) -> None:
    """Have the mark name an entry that the log does not have."""
    mark = MarkFile(path / "log" / "mark")
    mark.read()
    mark.write_durably(1, 99)
    mark.close()


def of_three(uuid: str) -> ClusterFile:
    return cluster_of((replace(ME, uuid=uuid), *MEMBERS[1:]), ME)


def grown_to_three(uuid: str) -> ClusterFile:
    return replace(cluster_of((replace(ME, uuid=uuid),), ME), voters=3)


@pytest.mark.parametrize("accept_loss", [False, True], ids=["", "accept loss"])
@pytest.mark.parametrize("harm", [damage, lose])
@pytest.mark.parametrize("began", [of_three, grown_to_three])
def test_a_member_with_a_damaged_log_begins_anew_as_another_server(
    tmp_path: Path,
    began: Callable[[str], ClusterFile],
    harm: Callable[[Path], None],
    accept_loss: bool,
) -> None:
    directory = with_entries(tmp_path)
    cluster = began(directory.uuid)
    bootstrap.write_cluster(tmp_path, cluster)
    harm(tmp_path)
    old = directory.uuid
    with capture_logs() as logs:
        log, found = bootstrap.open_log(directory, cluster, accept_loss=accept_loss)
    assert log.last_index == 0
    assert log.hard_state == HardState()
    log.close()
    assert found is not None
    assert (found.cluster_id, found.initial) == (cluster.cluster_id, ())
    assert directory.uuid != old
    assert sorted(os.listdir(tmp_path / "damaged-1")) == ["log", "snapshots"]
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert "takes part as a new server" in line["event"]
    assert (line["old_uuid"], line["uuid"]) == (old, directory.uuid)
    directory.close()
    again = DataDirectory.open(tmp_path, NodeId("n1"))
    assert again.uuid == directory.uuid
    stored = bootstrap.read_cluster(tmp_path)
    assert stored is not None
    assert stored.me is not None
    assert (stored.initial, stored.me.uuid) == ((), again.uuid)
    again.close()


@pytest.mark.parametrize(
    "cluster",
    [None, cluster_of((ME,), ME), replace(cluster_of(MEMBERS, ME), voters=1)],
    ids=["no file", "of one", "shrunk to one"],
)
def test_the_only_node_refuses_to_start_as_before(
    tmp_path: Path, cluster: ClusterFile | None
) -> None:
    directory = with_entries(tmp_path)
    old = directory.uuid
    damage(tmp_path)
    with pytest.raises(DamagedLog):
        bootstrap.open_log(directory, cluster, accept_loss=False)
    assert directory.uuid == old
    assert not (tmp_path / "damaged-1").exists()
    directory.close()


@pytest.mark.parametrize("step", range(12))
def test_a_crash_at_any_step_never_leaves_an_empty_log_under_the_old_uuid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Under the old uuid this server has voted: it must not be able to do so again."""
    directory = with_entries(tmp_path)
    old, cluster = directory.uuid, cluster_of(MEMBERS, ME)
    bootstrap.write_cluster(tmp_path, cluster)
    damage(tmp_path)
    done, rename = 0, os.rename

    class Crash(BaseException):
        pass

    def rename_or_crash(*names: Path) -> None:
        nonlocal done
        if done * 2 == step:
            raise Crash
        rename(*names)
        done += 1
        if done * 2 - 1 == step:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename_or_crash)
        with contextlib.suppress(Crash):
            bootstrap.open_log(directory, cluster, accept_loss=False)[0].close()
    directory.close()
    again = DataDirectory.open(tmp_path, NodeId("n1"))
    log, found = bootstrap.open_log(again, bootstrap.read_cluster(tmp_path), accept_loss=False)
    assert log.last_index == 0
    assert again.uuid != old
    assert found is not None
    assert (found.cluster_id, found.initial) == (cluster.cluster_id, ())
    log.close()
    again.close()


def test_a_disk_that_goes_on_failing_is_given_up(tmp_path: Path) -> None:
    directory = with_entries(tmp_path)
    damage(tmp_path)
    for number in range(1, 4):
        (tmp_path / f"damaged-{number}").mkdir()
    with pytest.raises(StorageError, match="the disk is failing"):
        bootstrap.open_log(directory, cluster_of(MEMBERS, ME), accept_loss=False)
    directory.close()
