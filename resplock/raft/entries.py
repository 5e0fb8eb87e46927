"""What the log is made of: entries, the hard state, the cluster's configuration, snapshot metadata.

Pure. These are durable and wire formats: msgspec structs encoded as msgpack arrays, with their
integers constrained. Fields are only ever added at the end, with a default that means "as before".

An entry is a run of commands that were proposed together. The log index counts commands, so an
entry covers the indexes `first..last`, both included. Entries are never split or merged, so every
prev_index, commit_index and snapshot index is the last index of some entry.
"""

from __future__ import annotations

import enum

import msgspec

from resplock.types import Index, Natural, NodeId, StampMs, Term


class EntryKind(enum.IntEnum):
    """What an entry carries. All but RUN take exactly one index."""

    RUN = 0
    """Commands of the lock table."""
    NOOP = 1
    """The first entry of a leader's term: commits what earlier terms left (Raft paper, section 8)."""
    CLOCK = 2
    """Nothing but the stamp: carries the clock to a deadline when no command does."""
    CONFIG = 3
    """A new cluster configuration, in effect as soon as it is appended (thesis, section 4.1)."""


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A run of commands. `stamp_ms` is the leader's replicated clock when it was proposed."""

    term: Natural
    first: Natural
    last: Natural
    kind: EntryKind
    stamp_ms: Natural
    payload: bytes = b""


class HardState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Durable before any message that depends on it leaves (Raft paper, figure 2)."""

    term: Natural = 0
    vote: str = ""
    """Who got this node's vote in `term`; empty for nobody."""


class Member(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One server. `uuid` is written in its data directory when that is made (hex, 32 digits)."""

    id: NodeId
    uuid: str = ""
    client_address: str = ""
    peer_address: str = ""


class Configuration(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who votes, who only listens (each sorted by id), and who may not come back."""

    voters: tuple[Member, ...] = ()
    learners: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()
    """Tombstones: `id/uuid` of the last servers that were removed, oldest first."""


class SnapshotMeta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a snapshot stands in the log: the state after every command up to `index`."""

    index: Natural = 0
    term: Natural = 0
    stamp_ms: Natural = 0
    configuration: Configuration = Configuration()


def noop(term: Term, index: Index, stamp_ms: StampMs) -> Entry:
    """The entry that a new leader begins its term with."""
    return Entry(term, index, index, EntryKind.NOOP, stamp_ms)


def entry_bytes(entry: Entry) -> int:
    """How much an entry counts towards a bound in bytes."""
    return len(entry.payload) + 32


def clock(term: Term, index: Index, stamp_ms: StampMs) -> Entry:
    """An entry that only carries the clock."""
    return Entry(term, index, index, EntryKind.CLOCK, stamp_ms)


def config(term: Term, index: Index, stamp_ms: StampMs, configuration: Configuration) -> Entry:
    """An entry that puts `configuration` into effect."""
    return Entry(term, index, index, EntryKind.CONFIG, stamp_ms, _encoder.encode(configuration))


def configuration_of(entry: Entry) -> Configuration:
    """What a CONFIG entry puts into effect. Raises msgspec.MsgspecError when it is not one."""
    assert entry.kind is EntryKind.CONFIG
    return _decoder.decode(entry.payload)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Configuration)
