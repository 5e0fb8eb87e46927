"""What a node's log holds after a start: read all of it, judge it, change nothing.

I/O, reading only. `recover` either says from where the node may go on or refuses with a text for
the operator. The rules, in the order in which they are checked:

1. Every record has the bytes that were written, follows the one before it and names its term.
2. Term and vote are the newer of the log's and the vote file's.
3. The newest snapshot that is whole is continued by the log, or supersedes it: a snapshot that the
   leader sent is the truth, and the process ended before it had replaced the log. An older snapshot
   serves when the newer is damaged and the log has everything behind the older.
4. The entry that the mark names is in the log, or the snapshot covers it.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from resplock.errors import DamagedLog, DamagedSnapshot, LostEntries, NewerFormat
from resplock.raft.entries import Entry, HardState, SnapshotMeta
from resplock.server import records, snapshots
from resplock.server.marks import DamagedCell, Mark, MarkFile, VoteFile, newer
from resplock.server.records import ENTRIES_END, HARD_STATE_KEY, Record, entry_key
from resplock.server.rocks import Rocks

_log = structlog.get_logger(__name__)

REJOIN = (
    "If other nodes have the data: move this directory away, start this node with an empty one, "
    "and the leader gives it everything. If this is the only node: restore a backup of the whole "
    "directory."
)
DAMAGED = (
    "The disk may be failing: look at the kernel's log, and copy the directory before anything "
    f"else. {REJOIN}"
)


@contextlib.contextmanager
def located(path: Path) -> Iterator[None]:
    """Add to errors that only say what is wrong with a record where it is and what can be done."""
    try:
        yield
    except DamagedLog as error:
        if DAMAGED in str(error):
            raise
        raise DamagedLog(f"{path}: the log is damaged: {error}. {DAMAGED}") from error
    except NewerFormat as error:
        if str(path) in str(error):
            raise
        text = f"{path}: {error}. Start the release that wrote it, or a later one."
        raise NewerFormat(text) from error


def read_records(rocks: Rocks, index: int) -> Iterator[Record]:
    """The stored records from the one that covers `index` on, each checked."""
    with located(rocks.path.parent):
        for key, value in rocks.items(entry_key(index), ENTRIES_END):
            yield records.decode_entry(key, value)


class Recovered(msgspec.Struct, frozen=True):
    """From where a node goes on."""

    hard_state: HardState
    hard_state_everywhere: bool
    """Whether log and vote file both have it. Otherwise it must be written again before it is used,
    so that damage to one of them never loses a vote."""
    snapshot: SnapshotMeta
    superseded: bool
    """The snapshot replaces the log, which is still there."""
    first_index: int
    last_index: int
    last_term: int
    damaged_snapshots: list[Path]
    """Newer ones that cannot be used, to be set aside."""
    lost: Mark | None
    """The mark of entries that were acknowledged and are gone; only with accept_loss."""


class _Entries(msgspec.Struct):
    """What the log's records are, all checked. Empty when first_index > last_index."""

    first_index: int = 1
    last_index: int = 0
    last_term: int = 0
    previous_term: int = 0
    """The term before the first entry, as that one's record says."""


class _Fit(enum.Enum):
    """How a log stands to a snapshot."""

    CONTINUES = enum.auto()
    """It has the snapshot's entry, or begins right behind it, or is empty."""
    SUPERSEDED = enum.auto()
    """It ends before the snapshot, or conflicts with it."""
    GAP = enum.auto()
    """It begins behind the snapshot, and entries between them are missing."""


class _Snapshots(msgspec.Struct):
    """The newest snapshot that is whole, and what is wrong with newer ones."""

    meta: SnapshotMeta
    damage: list[DamagedSnapshot]
    paths: list[Path]


def recover(
    rocks: Rocks, mark_file: MarkFile, vote_file: VoteFile, directory: Path, accept_loss: bool
) -> Recovered:
    """Read the log and the snapshots in `directory`. accept_loss: see `Log.open`.

    Raises DamagedLog, DamagedSnapshot, LostEntries, NewerFormat.
    """
    log_path = rocks.path.parent
    with located(log_path):
        entries = _check_entries(rocks)
        in_log, in_file = _read_hard_states(rocks, vote_file)
        found = _newest_whole_snapshot(directory)
        fit = _fit(rocks, entries, found.meta)
        if fit is _Fit.GAP:
            raise _unusable(directory, entries, found)
        mark = _read_mark(mark_file, entries, accept_loss)
        lost = None
        if not _reaches(rocks, entries, found.meta, mark):
            if found.damage and not accept_loss:
                raise _unusable(directory, entries, found)
            text = _loss(log_path, max(entries.last_index, found.meta.index), mark)
            if not accept_loss:
                raise LostEntries(
                    f"{text} The disk has lost or damaged them. {REJOIN} To start without them, "
                    f"so that locks which were granted may be granted again: --accept-data-loss."
                )
            _log.warning("starting without lost entries", reason=text)
            lost = mark
        hard_state = newer(in_log, in_file)
    use_snapshot = fit is _Fit.SUPERSEDED or entries.first_index > entries.last_index
    meta = found.meta
    return Recovered(
        hard_state=hard_state,
        hard_state_everywhere=in_log == in_file and not vote_file.damaged_cells,
        snapshot=meta,
        superseded=fit is _Fit.SUPERSEDED,
        first_index=meta.index + 1 if use_snapshot else entries.first_index,
        last_index=meta.index if use_snapshot else entries.last_index,
        last_term=meta.term if use_snapshot else entries.last_term,
        damaged_snapshots=found.paths,
        lost=lost,
    )


def _check_entries(rocks: Rocks) -> _Entries:
    """Read every record once."""
    found = _Entries()
    previous: Entry | None = None
    for record in read_records(rocks, 0):
        entry = record.entry
        if previous is None:
            found.first_index = entry.first
            found.previous_term = record.previous_term
        elif entry.first != previous.last + 1:
            raise DamagedLog(
                f"the entry that ends at index {previous.last} is followed by one that begins at "
                f"{entry.first}: what was between them is gone"
            )
        elif record.previous_term != previous.term or entry.term < previous.term:
            raise DamagedLog(
                f"the entry that ends at index {previous.last} has term {previous.term}, and the "
                f"next one, of term {entry.term}, was written behind one of term "
                f"{record.previous_term}: what was between them is gone"
            )
        previous = entry
    if previous is not None:
        found.last_index, found.last_term = previous.last, previous.term
    return found


def _read_hard_states(rocks: Rocks, vote_file: VoteFile) -> tuple[HardState, HardState]:
    """Term and vote as the log has them and as the vote file has them."""
    value = rocks.get(HARD_STATE_KEY)
    if value is None:
        raise DamagedLog("it has no record of term and vote, not even that of a new log")
    try:
        return records.decode_hard_state(value), vote_file.read()
    except DamagedCell as error:
        raise DamagedLog(f"the vote file {vote_file.path} is damaged: {error}") from error


def _newest_whole_snapshot(directory: Path) -> _Snapshots:
    found = _Snapshots(SnapshotMeta(), [], [])
    for file in reversed(snapshots.listing(directory)):
        try:
            found.meta = snapshots.verify(file.path)
            break
        except DamagedSnapshot as error:
            _log.warning("damaged snapshot", path=str(file.path), reason=str(error))
            found.damage.append(error)
            found.paths.append(file.path)
    return found


def _fit(rocks: Rocks, entries: _Entries, meta: SnapshotMeta) -> _Fit:
    if entries.first_index > entries.last_index:
        return _Fit.CONTINUES
    if entries.first_index > meta.index + 1:
        return _Fit.GAP
    if entries.first_index == meta.index + 1:
        if entries.previous_term != meta.term:
            raise DamagedLog(
                f"its first entry was written behind one of term {entries.previous_term}, and the "
                f"snapshot at index {meta.index} has term {meta.term}"
            )
        return _Fit.CONTINUES
    has_it = _has_end(rocks, entries, meta.index, meta.term)
    return _Fit.CONTINUES if has_it else _Fit.SUPERSEDED


def _has_end(rocks: Rocks, entries: _Entries, index: int, term: int) -> bool:
    """Whether an entry of this term ends at this index."""
    if index > entries.last_index:
        return False
    record = next(read_records(rocks, index), None)
    return record is not None and (record.entry.last, record.entry.term) == (index, term)


def _read_mark(mark_file: MarkFile, entries: _Entries, accept_loss: bool) -> Mark:
    try:
        return mark_file.read()
    except DamagedCell as error:
        if accept_loss:
            _log.warning("damaged mark replaced", path=str(mark_file.path), reason=str(error))
            return Mark()
        raise DamagedLog(
            f"its mark {mark_file.path} is damaged: {error}. So it cannot be told whether the log, "
            f"which ends at index {entries.last_index}, still has everything that was "
            f"acknowledged; --accept-data-loss starts with what it has"
        ) from error


def _reaches(rocks: Rocks, entries: _Entries, meta: SnapshotMeta, mark: Mark) -> bool:
    return mark.index <= meta.index or _has_end(rocks, entries, mark.index, mark.term)


def _loss(path: Path, last: int, mark: Mark) -> str:
    """What is missing, in words."""
    if mark.index > last:
        missing = f"{mark.index - last} commands that were acknowledged are missing"
    else:
        missing = f"the entry of term {mark.term} that was acknowledged there is missing"
    return (
        f"{path}: the log ends at index {last}, but had been written up to index {mark.index}: "
        f"{missing}."
    )


def _unusable(directory: Path, entries: _Entries, found: _Snapshots) -> DamagedSnapshot:
    what = " ".join(str(error) for error in found.damage) or f"{directory}: a snapshot is missing."
    index = found.meta.index
    return DamagedSnapshot(
        f"{what} The log holds the indexes {entries.first_index} to {entries.last_index}, and "
        f"{f'the newest whole snapshot ends at index {index}' if index else 'there is no other'}: "
        f"what is between them is gone. {DAMAGED}"
    )
