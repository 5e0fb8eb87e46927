"""Who is talked to, and what everybody else is told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resplock.raft.entries import Member
from resplock.raft.messages import PeerError
from resplock.server.peers import greeting
from resplock.server.peers.greeting import Hello, Identity, Kind, OtherVersion, Refusal, RefusalCode
from resplock.types import NodeId


def identity(id: str, cluster: str = "c1", uuid: str = "") -> Identity:
    member = Member(NodeId(id), uuid or f"u-{id}", f"{id}:7379", f"{id}:17379")
    return Identity(member, 42, cluster, True, (member,))


MINE = identity("n1")


def judged(
    theirs: Identity, meant_for: str = "n1", kind: Kind = Kind.RAFT, mine: Identity = MINE
) -> RefusalCode | None:
    hello = greeting.hello(theirs, kind, meant_for)
    refusal = greeting.judge(mine, hello, frozenset({"n3/old"}))
    return None if refusal is None else RefusalCode(refusal.code)


@pytest.mark.parametrize(
    ("theirs", "meant_for", "code"),
    [
        (identity("n2"), "n1", None),
        (identity("n2"), "", None),
        (identity("n2", cluster="c2"), "n1", RefusalCode.CLUSTER),
        (identity("n2", cluster=""), "n1", RefusalCode.CLUSTER),
        (identity("n2"), "n9", RefusalCode.NOT_ME),
        (identity("n1", uuid="other"), "n1", RefusalCode.SAME_ID),
        (identity("n1"), "n1", RefusalCode.SAME_ID),
        (identity("n1"), "n2", RefusalCode.NOT_ME),
        (identity("n3", uuid="old"), "n1", RefusalCode.REMOVED),
        (identity("n3", uuid="new"), "n1", None),
    ],
)
def test_whom_a_member_of_a_cluster_talks_to(
    theirs: Identity, meant_for: str, code: RefusalCode | None
) -> None:
    assert judged(theirs, meant_for) is code
    assert judged(theirs, meant_for, Kind.PROBE) is None


def test_one_without_a_cluster_talks_to_any_that_has_one() -> None:
    mine = identity("n1", cluster="")
    assert judged(identity("n2", cluster="c2"), mine=mine) is None
    assert judged(identity("n2", cluster=""), mine=mine) is RefusalCode.NOT_READY


def test_every_refusal_fits_into_its_frame() -> None:
    long = "x" * 64
    mine = identity(long, cluster=long, uuid=long)
    for theirs, meant_for in (
        (identity("n" * 64, cluster="y" * 64), ""),
        (identity(long, cluster=long), ""),
        (identity("n" * 64, cluster=long), "m" * 64),
    ):
        refusal = greeting.judge(mine, greeting.hello(theirs, Kind.RAFT, meant_for), frozenset())
        assert refusal is not None
        assert greeting.decode(greeting.encode(refusal)) == refusal


def test_only_the_answer_to_a_probe_tells_how_the_cluster_began() -> None:
    assert greeting.hello(MINE, Kind.PROBE).initial_members == (MINE.member,)
    assert greeting.hello(MINE, Kind.RAFT).initial_members == ()


def test_what_is_sent_is_what_arrives() -> None:
    for kind in Kind:
        hello = greeting.hello(MINE, kind, "n2", 7)
        assert greeting.decode(greeting.encode(hello)) == hello
    assert greeting.hello(MINE, Kind.RAFT).member == MINE.member


HELLO = greeting.hello(MINE, Kind.RAFT, "n2", 1)
BAD = {
    "an id with a line end": replace(HELLO, server=replace(HELLO.server, id=NodeId("n1\n"))),
    "no id": replace(HELLO, server=replace(HELLO.server, id=NodeId(""))),
    "an id that is too long": replace(HELLO, server=replace(HELLO.server, id=NodeId("n" * 65))),
    "an escape sequence": replace(HELLO, cluster_id="\x1b[2J"),
    "an address with a space": replace(HELLO, server=replace(HELLO.server, peer_address="a b:1")),
    "a negative incarnation": replace(HELLO, incarnation=-1),
    "an incarnation of 64 bits": replace(HELLO, incarnation=2**63),
    "too many members": replace(HELLO, initial=(HELLO.server,) * 33),
}


@pytest.mark.parametrize("hello", BAD.values(), ids=BAD)
def test_what_is_out_of_range_is_no_greeting(hello: Hello) -> None:
    with pytest.raises(PeerError, match="not a greeting"):
        greeting.decode(greeting.encode(hello))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"RLPL",
        b"RLPL\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"RLPL\x01\xc1",
        b"RLPL\x01" + b"\x91" * 30_000,
    ],
    ids=["nothing", "magic", "version", "http", "never msgpack", "deep"],
)
def test_what_is_none_at_all(payload: bytes) -> None:
    with pytest.raises(PeerError):
        greeting.decode(payload)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_anything_else(data: bytes, begun: bool) -> None:
    try:
        greeting.decode(b"RLPL\x01" + data if begun else data)
    except PeerError:
        pass


def test_another_version_is_told_apart_from_garbage_and_its_refusal_is_understood() -> None:
    later = b"RLPL\x09" + msgspec.msgpack.encode([1, "whatever", "comes", "later"])
    with pytest.raises(OtherVersion, match=r"speaks version 9 of the protocol .*, this node 1"):
        greeting.decode(later)
    refusal = Refusal(RefusalCode.VERSION, "no")
    assert greeting.decode(b"RLPL\x09" + msgspec.msgpack.encode(refusal)) == refusal


def test_the_bytes_of_version_1() -> None:
    """Kept: a change here is another version of the protocol."""
    hello = Hello(
        "c1", greeting.Server(NodeId("n1"), "u1", "a:1", "b:2"), 5, Kind.COMMANDS, "n2", 3
    )
    assert greeting.encode(hello).hex() == (
        "524c504c019901a2633194a26e31a27531a3613a31a3623a320502a26e3203c290"
    )
    assert greeting.encode(Refusal(5, "gone")).hex() == "524c504c01930205a4676f6e65"
