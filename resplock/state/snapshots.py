"""The lock table as chunks of bytes, and back.

Pure. A snapshot is taken while commands go on: `TableSnapshot` freezes the maps, and `next_chunk`
encodes a little at a time. Chunks are msgpack: first the Head, then any number of Chunk structs.
FORMAT rises when an older release could no longer read what a newer one writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, TypeVar

import msgspec

from resplock.errors import DamagedSnapshot, NewerFormat
from resplock.operations import ClientId
from resplock.script import script_sha1
from resplock.state.ledger import FEATURE_LEVEL
from resplock.state.records import Head, Hold, Lock, Place, Remembered
from resplock.state.slotmap import Frozen
from resplock.state.table import LockTable
from resplock.types import LockName

FORMAT = 2
_CHUNK_SCRIPTS = 16
_SHARED_MAX = 65_536
_CHUNK_RECORDS = 256
"""About how many records one chunk has: a fraction of a millisecond to encode."""


class LocksChunk(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Some of the locks."""

    items: list[tuple[LockName, Lock]]


class AnswersChunk(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Some of the remembered answers to REQUEST ids."""

    items: list[tuple[LockName, Remembered]]


class PlacesChunk(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Some of the places in queues, in the order of their indexes."""

    items: list[Place]


class DepartingChunk(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Clients that have gone, to which something is still attached."""

    items: list[ClientId]


class ScriptsChunk(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Some of the scripts that are known, from the one that was used longest ago on."""

    sources: list[bytes]


class WatchedChunk(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Some of the keys that were watched, from the one watched longest ago on, with their numbers."""

    items: list[tuple[LockName, int]]


class MeansChunk(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The mean hold times in microseconds, in the order of their entries."""

    items: list[tuple[LockName, int]]


Record = TypeVar("Record")
Chunk: TypeAlias = (
    ScriptsChunk
    | LocksChunk
    | AnswersChunk
    | MeansChunk
    | PlacesChunk
    | DepartingChunk
    | WatchedChunk
)

_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(Head)
_chunk_decoder = msgspec.msgpack.Decoder(Chunk)


class TableSnapshot:
    """The table as it was when this was made, given out chunk by chunk."""

    def __init__(self, table: LockTable) -> None:
        self._head = Head(
            format=FORMAT,
            feature_level=table.feature_level,
            clock_ms=table.clock_ms,
            unix_offset_ms=table.unix_offset_ms,
            last_version=table.last_version,
            totals=msgspec.structs.replace(table.totals),
        )
        self._locks = table.locks.freeze()
        self._answers = table.requests.answers.freeze()
        self._places = list(table.queues.places.values())  # bounded: see limits.WAITERS_MAX
        self._departing = list(table.departing)
        self._means = list(table.means.means.items())  # bounded: see limits.HOLD_MEANS_MAX
        self._scripts = table.scripts.sources()  # bounded: see limits.SCRIPTS_BYTES_MAX
        self._watched = list(table.watched.items())  # bounded: see limits.WATCHED_MAX
        self._chunks = self._encoded()

    def next_chunk(self) -> bytes | None:
        """The next chunk; None after the last one."""
        return next(self._chunks, None)

    def close(self) -> None:
        """Give the snapshot up: the table keeps nothing for it any more."""
        self._locks.close()
        self._answers.close()

    def _encoded(self) -> Iterator[bytes]:
        encode = _encoder.encode
        yield encode(self._head)
        for locks in _grouped(self._locks):
            yield encode(LocksChunk(locks))
        for answers in _grouped(self._answers):
            yield encode(AnswersChunk(answers))
        for begin in range(0, len(self._places), _CHUNK_RECORDS):
            yield encode(PlacesChunk(self._places[begin : begin + _CHUNK_RECORDS]))
        if self._departing:
            yield encode(DepartingChunk(self._departing))
        for begin in range(0, len(self._scripts), _CHUNK_SCRIPTS):
            yield encode(ScriptsChunk(self._scripts[begin : begin + _CHUNK_SCRIPTS]))
        yield encode(MeansChunk(self._means))
        for begin in range(0, len(self._watched), _CHUNK_RECORDS):
            yield encode(WatchedChunk(self._watched[begin : begin + _CHUNK_RECORDS]))


def restore(chunks: Iterator[bytes]) -> LockTable:
    """Build a table from a snapshot's chunks.

    Raises NewerFormat when a later release wrote it, DamagedSnapshot when it is not a snapshot.
    """
    table = LockTable()
    answers: list[Remembered] = []
    shared = _Shared()
    try:
        head = _head_decoder.decode(next(chunks, b""))
        if head.format > FORMAT or head.feature_level > FEATURE_LEVEL:
            raise NewerFormat(
                f"the snapshot has format {head.format} and feature level {head.feature_level}; "
                f"this release reads up to {FORMAT} and {FEATURE_LEVEL}"
            )
        table.adopt_head(head)
        for encoded in chunks:
            chunk = _chunk_decoder.decode(encoded)
            match chunk:
                case LocksChunk():
                    for name, lock in chunk.items:
                        table.adopt_lock(name, _sharing(lock, shared))
                case AnswersChunk():
                    answers.extend(answer for _, answer in chunk.items)
                case PlacesChunk():
                    for place in chunk.items:
                        table.queues.add(place)
                case DepartingChunk():
                    table.departing.update(dict.fromkeys(chunk.items))
                case ScriptsChunk():
                    for source in chunk.sources:
                        table.scripts.restore(script_sha1(source), source)
                case MeansChunk():
                    table.means.means.update(chunk.items)
                case WatchedChunk():
                    table.watched.update(chunk.items)
    except msgspec.DecodeError as error:
        raise DamagedSnapshot(f"the snapshot cannot be read: {error}") from error
    table.changes = max(table.watched.values(), default=0)
    for answer in sorted(answers, key=lambda answer: (answer.index, answer.nth)):
        table.requests.restore(answer)
    return table


class _Shared(dict[Any, Any]):
    """Equal values as one object, up to a number of them."""

    def __missing__(self, value: Any) -> Any:
        if len(self) >= _SHARED_MAX:
            self.clear()
        self[value] = value
        return value


def _sharing(lock: Lock, shared: _Shared) -> Lock:
    """The same lock, whose integers and owners are objects that other locks have too.

    What `apply` makes shares them by itself; decoded, a million locks would take a fifth more.
    """
    holds = [
        Hold(
            shared[hold.owner],
            hold.version,
            hold.deadline_ms,
            shared[hold.ttl_ms],
            shared[hold.acquired_ms],
            shared[hold.acquired_at],
            shared[hold.modified_at],
            hold.metadata,
            hold.terms,
        )
        for hold in lock.holds
    ]
    return Lock(tuple(holds), lock.next_deadline_ms, lock.mode, lock.extra)


def _grouped(view: Frozen[Record]) -> Iterator[list[tuple[LockName, Record]]]:
    """The view's records in lists of at least _CHUNK_RECORDS, slots kept whole."""
    records: list[tuple[LockName, Record]] = []
    while (slot := view.next_slot()) is not None:
        records.extend(slot)
        if len(records) >= _CHUNK_RECORDS:
            yield records
            records = []
    if records:
        yield records
