"""What servers say to each other: one struct for each kind of message, and their bytes.

Pure. Every message names its sender, its addressee and the sender's current term, also a pre-vote:
that one asks about the next term without saying that it has begun.

Two boundaries meet here. `decode` turns a peer's bytes into a message whose integers are in range
and whose entries are in sequence, or raises PeerError. Behind it the core believes the form of a
message but never its claims: a peer may be behind, partitioned, restarted or wrong.

The tags and the order of the fields are the wire format: fields are only added at the end, with a
default that means "as before".
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from resplock.errors import ResplockError
from resplock.limits import APPEND_BYTES_MAX, RUN_BYTES_MAX, RUN_COMMANDS_MAX
from resplock.raft.configurations import is_well_formed
from resplock.raft.entries import Entry, EntryKind, configuration_of
from resplock.types import Natural, NodeId

MESSAGE_BYTES_MAX = 2 * max(APPEND_BYTES_MAX, RUN_BYTES_MAX)
"""The longest message: as many entries as go together, or the largest entry, and room to spare."""
NODE_ID_CHARACTERS_MAX = 255
TERM_JUMP_MAX = 1 << 32
"""How far ahead of its own a server believes a term. Terms rise about once in an election timeout,
so an honest one is never so far ahead; a damaged one must not use up the 63 bits for everybody."""

UUID_CHARACTERS_MAX = 64

Name = Annotated[NodeId, Meta(min_length=1, max_length=NODE_ID_CHARACTERS_MAX)]

Uuid = Annotated[str, Meta(max_length=UUID_CHARACTERS_MAX)]


class PeerError(ResplockError):
    """A peer's bytes are no message: too long, not msgpack, out of range or out of sequence."""


class _Message(msgspec.Struct, frozen=True, gc=False, array_like=True):
    term: Natural
    from_id: Name
    to_id: Name


class PreVoteRequest(_Message, frozen=True, gc=False, array_like=True, tag=1):
    """Would you vote for me in the term after `term`? Changes nobody's term (thesis 9.6)."""

    last_index: Natural
    last_term: Natural
    voter_uuid: Uuid = ""
    """As in VoteRequest."""
    uuid: Uuid = ""
    """The sender's own: whoever knows that it was removed says so."""


class PreVoteReply(_Message, frozen=True, gc=False, array_like=True, tag=2):
    """`asked_term` is the request's term; `term` is the voter's own."""

    asked_term: Natural
    granted: bool
    removed: bool = False
    """The server `uuid` is no member any more, and never will be: that is committed. The leader that
    commits it says so unasked."""
    uuid: Uuid = ""
    """Of a removal: the server that is meant, if known. Another one may have its id by now."""


class VoteRequest(_Message, frozen=True, gc=False, array_like=True, tag=3):
    """The sender stands for `term` (RequestVote, Raft paper, figure 2)."""

    last_index: Natural
    last_term: Natural
    transfer: bool = False
    """The leader itself asked the sender to stand, so hearing a leader is no reason to refuse
    (thesis 4.2.3)."""
    voter_uuid: Uuid = ""
    """Which server of the id `to_id` the sender's configuration counts: not the one that runs on a
    directory made anew, for it has lost the votes and entries of its predecessor."""


class VoteReply(_Message, frozen=True, gc=False, array_like=True, tag=4):
    granted: bool


class AppendRequest(_Message, frozen=True, gc=False, array_like=True, tag=5):
    """Entries that follow the entry which ends at `prev_index` (AppendEntries, figure 2)."""

    prev_index: Natural
    prev_term: Natural
    commit_index: Natural
    clock_ms: Natural
    """The leader's replicated clock when this was sent."""
    entries: tuple[Entry, ...]


class AppendReply(_Message, frozen=True, gc=False, array_like=True, tag=6):
    """Where the sender's log agrees with the leader's, durably, or a hint where it may.

    Accepted: the logs agree up to `match_index`. Rejected: they do not at `prev_index`, which is
    the request's; the conflicting entry has `conflict_term`, whose entries begin at
    `conflict_index`. A log that is too short gives term 0 and the index after its end
    (Raft paper, section 5.3, the optimisation at its end).
    """

    accepted: bool
    match_index: Natural
    prev_index: Natural = 0
    conflict_index: Natural = 0
    conflict_term: Natural = 0


class Heartbeat(_Message, frozen=True, gc=False, array_like=True, tag=7):
    """The sender leads. Committed is the entry that ends at `commit_index`, of `commit_term`.

    The two name one entry of all logs, so a follower that has it has everything before it too, and
    no view of the leader's on how far the follower is needs to be right.
    """

    commit_index: Natural
    commit_term: Natural
    clock_ms: Natural
    round: Natural
    """The leader's newest ReadIndex round; the reply gives it back (thesis 6.4)."""


class HeartbeatReply(_Message, frozen=True, gc=False, array_like=True, tag=8):
    """`match_index` as in AppendReply, which may have been lost; 0 when nothing is known yet."""

    match_index: Natural
    round: Natural


class TimeoutNow(_Message, frozen=True, gc=False, array_like=True, tag=9):
    """The sender, who leads, wants the addressee to stand at once (thesis 3.10)."""


Message = (
    PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | AppendRequest
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
)


def encode(message: Message) -> bytes:
    """The message's bytes, without framing."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview) -> Message:
    """The message that a peer sent. Raises PeerError."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise PeerError(f"a message of {len(data)} bytes, at most {MESSAGE_BYTES_MAX} are allowed")
    try:
        message = _decoder.decode(data)
        if type(message) is AppendRequest:
            _check_sequence(message)
    except (ValueError, RecursionError) as error:  # msgspec's errors and bad UTF-8 are ValueErrors
        raise PeerError(f"not a Raft message: {error}") from error
    return message


def _check_sequence(message: AppendRequest) -> None:
    """Indexes without gaps, terms and stamps that never fall, configurations that can be used."""
    last, term, stamp_ms = message.prev_index, message.prev_term, 0
    for entry in message.entries:
        if entry.first != last + 1 or entry.last < entry.first:
            raise PeerError(f"an entry covers {entry.first}..{entry.last}, after {last}")
        if entry.last - entry.first >= RUN_COMMANDS_MAX:
            raise PeerError(f"an entry covers {entry.first}..{entry.last}: too many commands")
        if not max(term, 1) <= entry.term <= message.term:
            raise PeerError(f"an entry of term {entry.term} after {term} in term {message.term}")
        if entry.stamp_ms < stamp_ms:
            raise PeerError(f"an entry stamped {entry.stamp_ms} after {stamp_ms}")
        if entry.kind is not EntryKind.RUN and entry.last != entry.first:
            raise PeerError(f"a {entry.kind.name} entry that covers several indexes")
        if entry.kind is EntryKind.CONFIG and not is_well_formed(configuration_of(entry)):
            raise PeerError(f"the configuration at index {entry.first} cannot be used")
        last, term, stamp_ms = entry.last, entry.term, entry.stamp_ms


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
