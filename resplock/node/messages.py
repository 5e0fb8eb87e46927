"""What nodes say to each other besides Raft: forwarded commands, and the answers to them.

Pure. These are delivered in order and at most once while a link is up; when it breaks, the fate of
what was not answered is unknown. `decode` gives only messages whose fields are in range, or raises
PeerError.

The tags and the order of the fields are the wire format: fields are only added at the end, with a
default that means "as before".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from resplock.errors import CommandError
from resplock.limits import PEER_COMMANDS_BYTES_MAX, READS_FORWARDED_MAX, RUN_COMMANDS_MAX
from resplock.node.administration import Request
from resplock.node.runs import Result
from resplock.operations import (
    Advice,
    Advised,
    Operation,
    Query,
    Told,
    Unapplied,
)
from resplock.raft.messages import PeerError
from resplock.types import Natural


class _Ask(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Every question names the leader's term, and is answered by its serial."""

    term: Natural
    serial: Natural


class Forward(_Ask, frozen=True, gc=False, array_like=True, tag=1):
    """Propose these, in this order, as the leader of `term`, or refuse some.

    `heads` has (position, number) of operations that may be refused: see `resplock.node.refusals`.
    """

    operations: Annotated[list[Operation], Meta(min_length=1, max_length=RUN_COMMANDS_MAX)]
    heads: Annotated[tuple[tuple[Natural, Natural], ...], Meta(max_length=RUN_COMMANDS_MAX)] = ()


class Ask(_Ask, frozen=True, gc=False, array_like=True, tag=2):
    """Answer these, in this order, as the leader of `term`."""

    queries: Annotated[list[Query], Meta(min_length=1, max_length=READS_FORWARDED_MAX)]


class Administer(_Ask, frozen=True, gc=False, array_like=True, tag=3):
    """Carry out an operator's request, as the leader of `term`."""

    request: Request


class Refused(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=30):
    """A CommandError on the wire."""

    code: str
    text: str


_Packed: TypeAlias = Told | Unapplied | Refused


class Results(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """What came of the question `serial`; see `pack` and `unpack`."""

    serial: Natural
    packed: Annotated[list[_Packed], Meta(min_length=1, max_length=RUN_COMMANDS_MAX)]


class NotProposed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """Nothing comes of the question `serial`: its term is not the one that I lead.

    That is certain of commands and queries; an operator's request may have been begun.
    """

    serial: Natural


NodeMessage: TypeAlias = Forward | Ask | Administer | Results | NotProposed


def pack(results: Sequence[Result]) -> list[_Packed]:
    """Results as they are sent."""
    return [_pack(result) for result in results]


def unpack(packed: Sequence[_Packed]) -> list[Result]:
    """Results as they were before `pack`."""
    return [_unpack(result) for result in packed]


def _pack(result: Result) -> _Packed:
    if isinstance(result, CommandError):
        return Refused(result.code, result.text)
    return Advised(result) if isinstance(result, Advice) else result


def _unpack(packed: _Packed) -> Result:
    if isinstance(packed, Refused):
        return CommandError(packed.text, packed.code)
    return packed.advice if isinstance(packed, Advised) else packed


def encode(message: NodeMessage) -> bytes:
    """The message's bytes, without framing."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview) -> NodeMessage:
    """The message that a peer sent. Raises PeerError."""
    if len(data) > PEER_COMMANDS_BYTES_MAX:
        raise PeerError(
            f"a message of {len(data)} bytes, at most {PEER_COMMANDS_BYTES_MAX} are allowed"
        )
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors and bad UTF-8 are ValueErrors
        raise PeerError(f"not a node's message: {error}") from error


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[NodeMessage] = msgspec.msgpack.Decoder(NodeMessage)
