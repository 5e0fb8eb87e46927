"""The greeting: who is at the other end of a connection, and whether to talk to it.

Pure. The dialer sends a Hello, the acceptor answers with its own, or with a Refusal. What both
begin with, and how a refusal looks, is the same for all releases:

    b"RLPL" | protocol version, 1 byte | msgpack

so that a server of another version can be told that it is one.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from resplock.errors import ResplockError
from resplock.limits import PEER_GREETING_BYTES_MAX
from resplock.raft.configurations import tombstone
from resplock.raft.entries import Member
from resplock.raft.messages import PeerError
from resplock.types import Natural, NodeId

PROTOCOL = 1
"""The version of everything that nodes say to each other."""

_MAGIC = b"RLPL"
_HEADER_BYTES = len(_MAGIC) + 1

Id = Annotated[NodeId, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")]
Label = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,64}\Z")]
Address = Annotated[str, Meta(pattern=r"\A[!-~]{0,300}\Z")]
Text = Annotated[str, Meta(pattern=r"\A[ -~]{0,1000}\Z")]


class Kind(enum.IntEnum):
    """What a connection is for."""

    PROBE = 0
    """To learn who is there; closed after the greeting."""
    RAFT = 1
    COMMANDS = 2
    SNAPSHOT = 3


class RefusalCode(enum.IntEnum):
    """Why a connection was refused."""

    VERSION = 1
    CLUSTER = 2
    SAME_ID = 3
    NOT_ME = 4
    REMOVED = 5
    NOT_READY = 6
    BUSY = 7


class Server(msgspec.Struct, frozen=True, array_like=True):
    """`Member`, with everything in it bounded."""

    id: Id
    uuid: Label
    client_address: Address
    peer_address: Address


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Who the sender is, and what it wants."""

    cluster_id: Label
    """Empty while it belongs to none."""
    server: Server
    incarnation: Natural
    """Of this run of its process."""
    kind: Kind
    meant_for: Annotated[str, Meta(max_length=64)] = ""
    """Whom the dialer means to reach; empty when it cannot know."""
    session: Natural = 0
    """Which of the dialer's sessions with the acceptor this connection belongs to: they count up."""
    empty: bool = False
    """Its directory holds no term and no entry."""
    initial: Annotated[tuple[Server, ...], Meta(max_length=32)] = ()
    """Only in the answer to a probe: the members that its cluster began with, or, while it belongs
    to none, is to begin with."""

    @property
    def member(self) -> Member:
        return member_of(self.server)

    @property
    def initial_members(self) -> tuple[Member, ...]:
        return tuple(map(member_of, self.initial))


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The connection is not wanted; it is closed behind this. The same in all releases."""

    code: Natural
    text: Text

    @property
    def is_removal(self) -> bool:
        return self.code == RefusalCode.REMOVED


class Identity(msgspec.Struct, frozen=True):
    """Who this node is, to its peers."""

    member: Member
    incarnation: int
    """Random, 63 bits, made anew by each process."""
    cluster_id: str = ""
    empty: bool = False
    initial: tuple[Member, ...] = ()


class Unreachable(ResplockError):
    """Nobody answered, or something that is no node, or this node does not want its answer."""


class Refused(Unreachable):
    """A node answered, and does not want this one."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"it says: {refusal.text}")
        self.refusal = refusal


def member_of(server: Server) -> Member:
    """The same server, as the consensus core knows it."""
    return Member(server.id, server.uuid, server.client_address, server.peer_address)


def server_of(member: Member) -> Server:
    """The same server, as a greeting names it."""
    return Server(member.id, member.uuid, member.client_address, member.peer_address)


def hello(identity: Identity, kind: Kind, meant_for: str = "", session: int = 0) -> Hello:
    """What this node says of itself. An answer to a probe also tells how its cluster began."""
    return Hello(
        cluster_id=identity.cluster_id,
        server=server_of(identity.member),
        incarnation=identity.incarnation,
        kind=kind,
        meant_for=meant_for,
        session=session,
        empty=identity.empty,
        initial=tuple(map(server_of, identity.initial)) if kind is Kind.PROBE else (),
    )


def encode(greeting: Hello | Refusal) -> bytes:
    """A greeting's bytes, without framing."""
    return _MAGIC + bytes([PROTOCOL]) + msgspec.msgpack.encode(greeting)


class OtherVersion(PeerError):
    """A node, but one that speaks another version of the protocol."""


def decode(payload: bytes | bytearray) -> Hello | Refusal:
    """The greeting that came in. Raises PeerError, or OtherVersion."""
    if payload[: len(_MAGIC)] != _MAGIC or len(payload) <= _HEADER_BYTES:
        raise PeerError("it does not begin as a node does")
    if len(payload) > PEER_GREETING_BYTES_MAX:
        raise PeerError(f"a greeting of {len(payload)} bytes")
    version, body = payload[len(_MAGIC)], payload[_HEADER_BYTES:]
    try:
        if version == PROTOCOL:
            return _decoder.decode(body)
        return _refusal_decoder.decode(body)
    except (ValueError, RecursionError) as error:
        if version != PROTOCOL:
            raise OtherVersion(
                f"it speaks version {version} of the protocol between nodes, this node {PROTOCOL}"
            ) from error
        raise PeerError(f"not a greeting: {error}") from error


def judge(mine: Identity, theirs: Hello, removed: frozenset[str]) -> Refusal | None:
    """Why this node does not talk to a node; None when it does. `removed` are tombstones."""
    me, other = mine.member, theirs.server
    if theirs.kind is Kind.PROBE:
        return None
    if mine.cluster_id and theirs.cluster_id != mine.cluster_id:
        which = f"cluster {theirs.cluster_id}" if theirs.cluster_id else "no cluster yet"
        return Refusal(
            RefusalCode.CLUSTER,
            f"{me.id} belongs to cluster {mine.cluster_id}, and {other.id} to {which}",
        )
    if theirs.meant_for not in ("", me.id):
        return Refusal(RefusalCode.NOT_ME, f"{theirs.meant_for} was called, and this is {me.id}")
    if other.id == me.id:
        return Refusal(
            RefusalCode.SAME_ID,
            f"{other.id} at {other.peer_address} calls {me.id} at {me.peer_address}: two servers "
            "must not have one id",
        )
    if tombstone(theirs.member) in removed:
        return Refusal(
            RefusalCode.REMOVED,
            f"{other.id} (uuid {other.uuid}) was removed from the cluster",
        )
    if not (mine.cluster_id or theirs.cluster_id):
        return Refusal(RefusalCode.NOT_READY, f"{me.id} belongs to no cluster yet")
    return None


_decoder: msgspec.msgpack.Decoder[Hello | Refusal] = msgspec.msgpack.Decoder(Hello | Refusal)
_refusal_decoder = msgspec.msgpack.Decoder(Refusal)
