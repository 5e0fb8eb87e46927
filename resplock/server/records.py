"""What a key and a value in the log's RocksDB look like.

Pure. A durable format; `FORMAT` is in every value, and a later release that changes the body gives
it a new number and goes on reading the old ones.

    key of an entry        b"e" + its LAST index, 8 bytes, big endian
    key of the hard state  b"h"
    value                  format, 1 byte | CRC32, 4 bytes, big endian | body
                           the CRC covers the key, the format byte and the body
    body of an entry       msgpack [term of the entry before, Entry]
    body of the hard state msgpack HardState

An entry's key is its last index, so the entry that covers an index is the first key at or after
that index: one seek. The term of the entry before chains the records: by Raft's log matching
property (index, term) names one entry, so a record that follows the right index and term follows
the right entry, and a batch that vanished from the middle cannot go unnoticed.
"""

from __future__ import annotations

import zlib

import msgspec

from resplock.errors import DamagedLog, NewerFormat
from resplock.raft.entries import Entry, HardState
from resplock.types import Natural

FORMAT = 1
HARD_STATE_KEY = b"h"
ENTRIES_BEGIN = b"e"
ENTRIES_END = b"f"
"""Half open: every entry's key k has ENTRIES_BEGIN <= k < ENTRIES_END."""

_HEADER_BYTES = 5
_FORMAT_BYTE = bytes([FORMAT])
_FORMAT_CRC_BYTES = 4


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An entry as it is stored. `previous_term` is 0 before the log's very first entry."""

    previous_term: Natural
    entry: Entry


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_hard_state_decoder = msgspec.msgpack.Decoder(HardState)


def entry_key(last: int) -> bytes:
    """The key of the entry that ends at `last`, and where to seek for the one that covers it."""
    return b"e" + last.to_bytes(8, "big")


def _seal(key: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(key + _FORMAT_BYTE))
    return b"".join((_FORMAT_BYTE, crc.to_bytes(_FORMAT_CRC_BYTES, "big"), body))


def _unseal(key: bytes, value: bytes, what: str) -> memoryview:
    view = memoryview(value)
    body = view[_HEADER_BYTES:]
    crc = zlib.crc32(body, zlib.crc32(key + value[:1]))
    if len(value) < _HEADER_BYTES or crc.to_bytes(_FORMAT_CRC_BYTES, "big") != view[1:5]:
        raise DamagedLog(f"{what} does not match its checksum")
    if value[0] > FORMAT:
        raise NewerFormat(
            f"{what} has format {value[0]}, this release knows formats up to {FORMAT}"
        )
    return body


def encode_entry(entry: Entry, previous_term: int) -> tuple[bytes, bytes]:
    """An entry's key and value."""
    key = entry_key(entry.last)
    return key, _seal(key, _encoder.encode(Record(previous_term, entry)))


def decode_entry(key: bytes, value: bytes) -> Record:
    """The record under `key`. Raises DamagedLog or NewerFormat; the caller adds where it is."""
    what = f"the record of the entry that ends at index {int.from_bytes(key[1:], 'big')}"
    try:
        record = _record_decoder.decode(_unseal(key, value, what))
    except msgspec.MsgspecError as error:
        raise DamagedLog(f"{what} cannot be decoded: {error}") from error
    entry = record.entry
    if key != entry_key(entry.last) or entry.first > entry.last:
        raise DamagedLog(f"{what} is under the key {key.hex()}, which is not its own")
    return record


def encode_hard_state(hard_state: HardState) -> bytes:
    """The value under HARD_STATE_KEY."""
    return _seal(HARD_STATE_KEY, _encoder.encode(hard_state))


def decode_hard_state(value: bytes) -> HardState:
    """The hard state. Raises DamagedLog or NewerFormat; the caller adds where it is."""
    what = "the record of term and vote"
    try:
        return _hard_state_decoder.decode(_unseal(HARD_STATE_KEY, value, what))
    except msgspec.MsgspecError as error:
        raise DamagedLog(f"{what} cannot be decoded: {error}") from error
