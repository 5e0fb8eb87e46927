"""What the lock table knows, and the changes that keep its parts consistent.

Pure and deterministic. `table.LockTable` is this with the operations; the rules that need more than a
few lines are in modules of their own (`granting`, `waiting`, `leaving`, `ends`, `deadlocks`), which
take the ledger and change it through the methods below.

Invariants (`check` recomputes them; tests and the simulator call it):

- a lock in the table is held, waited for or delayed: others take no memory;
- its holds are compatible: one exclusive, or all shared, or of a semaphore within its limit;
- an owner has at most one hold of a lock, and no place in its queue then;
- no place in front could be granted: whoever frees a lock grants it in the same entry;
- every version granted is above all earlier ones, over the whole table and for ever;
- timers, owners, queues, clients and counts say what the records say.
"""

from __future__ import annotations

from collections import OrderedDict

from resplock import limits
from resplock.operations import ClientId, Ended, Event, Outcome
from resplock.state.backoff import HoldMeans
from resplock.state.crowded import Scans, Sortings
from resplock.state.groups import ClientGroups, Groups, Holding
from resplock.state.queues import Queues
from resplock.state.rates import Rates
from resplock.state.records import (
    NO_EXTRA,
    NOBODYS,
    Head,
    Hold,
    Lock,
    Mode,
    Place,
    Totals,
    earliest,
    sooner,
    with_changed,
    with_queue,
    without_holds,
)
from resplock.state.requests import Requests
from resplock.state.scripts import ScriptCache
from resplock.state.slotmap import SlotMap
from resplock.state.timers import Timers
from resplock.types import LockName, StampMs

_IN_LINE = ("queued", "cancelled")
"""The events that are about no hold."""

FEATURE_LEVEL = 1
"""The newest rules of `apply` that this release knows. The log says which are in force."""


Slot = dict[LockName, Lock]
"""The locks of one hash slot."""


class Ledger:
    """All locks and places, and everything that is derived from them."""

    def __init__(self) -> None:
        self.locks: SlotMap[Lock] = SlotMap()
        self.queues = Queues()
        self.requests = Requests()
        self.scripts = ScriptCache()
        self.script_steps_left = 0
        """How many steps the scripts of the present entry may still take."""
        self.keys_left = 0
        """How many keys the present entry's commands on several may still name."""
        self.answer_bytes_left = 0
        """How many bytes of values its commands may still be answered."""
        self.watched: OrderedDict[LockName, int] = OrderedDict()
        """The number of the last change of each key that was watched lately; see `transactions`."""
        self.changes = 0
        """The largest of these numbers ever given."""
        self.transaction_steps_left = 0
        """How many steps the transactions of the present entry may still take."""
        self.totals = Totals()
        self.means = HoldMeans(self.totals)
        self.rates = Rates(self.totals)
        self.owners: Groups[bytes, LockName] = Groups()
        """The locks that an owner holds."""
        self.tied: ClientGroups[Holding] = ClientGroups()
        """The holds that end when this client goes away."""
        self.departing: dict[ClientId, None] = {}
        """Clients that have gone, to which something is still attached; in the order of their going."""
        self.ends_left = 0
        """How many ends the present entry may still carry out."""
        self.timers: Timers[LockName] = Timers(self._deadline_of)
        self.locks_by_db = [0] * limits.DATABASES
        """How many locks are held."""
        self.clock_ms = StampMs(0)
        self.unix_offset_ms = 0
        self.now_unix_ms = 0  # the entry's stamp in unix time: one object for all that it grants
        self.last_version = 0
        self.feature_level = FEATURE_LEVEL
        self.keeps_events = False
        """Whether `events` are collected. It changes nothing that replicas share."""
        self.sortings = Sortings()
        """What LOCK.LIST keeps between pages. It changes nothing that replicas share."""
        self.scans = Scans()
        """And what SCAN keeps. See `begin_to_lead`."""
        self.draws = 0
        """How many random keys were drawn. It changes nothing that replicas share."""
        self.events: list[Event] = []
        self.ended: list[Ended] = []

    # --- changes ---------------------------------------------------------------------------------

    def next_version(self, index: int) -> int:
        """A fencing version above every earlier one, and not below the log index."""
        version = self.last_version + 1
        if version < index:
            version = index
        self.last_version = version
        return version

    def put(self, name: LockName, before: Lock | None, after: Lock) -> None:
        """Replace a lock's record, with its timer. A lock that is nobody's concern leaves."""
        slot = self.locks.writable(name)
        after_ms = after.next_deadline_ms
        before_ms = before.next_deadline_ms if before is not None else 0
        if after.holds or after.is_waited_for or after.delayed_until_ms:
            slot[name] = after
        elif before is not None:
            del slot[name]
        was_held = before is not None and bool(before.holds)
        self.locks_by_db[name[0]] += bool(after.holds) - was_held
        if before_ms == after_ms:
            return
        if before_ms:
            self.timers.remove(name, before_ms)
        if after_ms:
            self.timers.add(name, after_ms)

    def put_hold(self, name: LockName, lock: Lock, old: Hold, new: Hold) -> None:
        """Replace a hold, for the same owner and permits."""
        if old.terms != new.terms:
            self._untie(name, old)
            self._tie(name, new)
        self.put(name, lock, with_changed(lock, old, new))

    def add_hold(self, name: LockName, before: Lock | None, after: Lock, hold: Hold) -> None:
        """`after` has a hold that `before` did not have."""
        self.put(name, before, after)
        self.owners.add(hold.owner, name)
        self._tie(name, hold)
        self.totals.acquisitions += 1
        self.tell("acquired", name, hold.owner, hold.version)

    def take_holds(self, name: LockName, lock: Lock, gone: list[Hold]) -> Lock:
        """Take holds out of a lock; gives the lock without them."""
        for hold in gone:
            self.owners.remove(hold.owner, name)
            self._untie(name, hold)
        after = without_holds(lock, gone)
        self.put(name, lock, after)
        return after

    def drop_plain(self, slot: Slot, name: LockName, lock: Lock) -> None:
        """A plain lock (`Lock.extra` is None) leaves the table with its hold."""
        if lock.next_deadline_ms:
            self.timers.remove(name, lock.next_deadline_ms)
        self.owners.remove(lock.holds[0].owner, name)
        del slot[name]
        self.locks_by_db[name[0]] -= 1

    def add_place(self, place: Place) -> None:
        """Put a new place into its queues."""
        for name in place.names:
            if not self.queues.count(name):
                lock = self.locks.get(name)
                self.put(name, lock, with_queue(lock or NOBODYS, is_waited_for=True))
        self.queues.add(place)

    def remove_place(self, place: Place) -> None:
        """Take a place out of its queues."""
        self.queues.remove(place)
        for name in place.names:
            if not self.queues.count(name):
                lock = self.locks.get(name)
                assert lock is not None, "a lock with a queue is not in the table"
                self.put(name, lock, with_queue(lock, is_waited_for=False))

    def end_ticket(self, place: Place, outcome: Outcome) -> None:
        """Answer the command that is blocked for a place, if one is."""
        if place.ticket:
            self.ended.append(
                Ended(
                    place.ticket,
                    place.options.client,
                    outcome,
                    place.names,
                    place.owner,
                    place.request,
                )
            )

    def changed(self, name: LockName) -> None:
        """A key's holds have changed: who watches it is to notice."""
        if name in self.watched:
            self.changes += 1
            self.watched[name] = self.changes

    def tell(
        self, kind: str, name: LockName, owner: bytes, version: int, reason: bytes = b""
    ) -> None:
        """Collect an event, if anybody wants them, and count a change of what is watched.

        The hottest paths call it only if `keeps_events` or `watched`.
        """
        if self.watched and kind not in _IN_LINE:
            self.changed(name)
        if self.keeps_events:
            self.events.append(Event(kind, name, owner, version, reason))

    def _tie(self, name: LockName, hold: Hold) -> None:
        if hold.terms is not None and hold.terms.client is not None:
            self.tied.add(hold.terms.client, (name, hold.owner))

    def _untie(self, name: LockName, hold: Hold) -> None:
        if hold.terms is not None and hold.terms.client is not None:
            self.tied.remove(hold.terms.client, (name, hold.owner))

    def _deadline_of(self, name: LockName) -> int:
        lock = self.locks.get(name)
        return lock.next_deadline_ms if lock else 0

    # --- for restore and for tests ---------------------------------------------------------------

    def adopt_head(self, head: Head) -> None:
        """Take over what a snapshot says of the table as a whole."""
        self.clock_ms = head.clock_ms
        self.unix_offset_ms = head.unix_offset_ms
        self.last_version = head.last_version
        self.feature_level = head.feature_level
        self.totals = head.totals
        self.means = HoldMeans(head.totals)
        self.rates = Rates(head.totals)

    def adopt_lock(self, name: LockName, lock: Lock) -> None:
        """Put a lock from a snapshot in its place, and into everything that is derived from it."""
        self.put(name, None, lock)
        for hold in lock.holds:
            self.owners.add(hold.owner, name)
            self._tie(name, hold)

    def check(self) -> None:
        """Recompute what is derived and compare; raises AssertionError. Slow: for tests."""
        assert len(self.watched) <= limits.WATCHED_MAX, "too many keys are watched"
        assert self.changes == max(self.watched.values(), default=0), "the last change is not known"
        owned: dict[bytes, list[LockName]] = {}
        tied: dict[ClientId, list[Holding]] = {}
        by_db = [0] * limits.DATABASES
        granted: dict[int, bytes] = {}
        for name, lock in self.locks:
            self._check_lock(name, lock)
            by_db[name[0]] += bool(lock.holds)
            for hold in lock.holds:
                owned.setdefault(hold.owner, []).append(name)
                if hold.terms is not None and hold.terms.client is not None:
                    tied.setdefault(hold.terms.client, []).append((name, hold.owner))
                assert hold.version <= self.last_version, "a version above the last one"
                same = granted.setdefault(hold.version, hold.owner)
                assert same == hold.owner, "two owners with one version"
        assert by_db == self.locks_by_db, "the counts by database are off"
        assert owned.keys() == self.owners.keyed, "the owner index has strangers or gaps"
        for owner, names in owned.items():
            assert self.owners.members_of(owner) == sorted(names), "the owner index is off"
        assert tied.keys() == self.tied.keyed, "holds are tied to strangers, or not tied"
        for client, holdings in tied.items():
            assert self.tied.members_of(client) == sorted(holdings), "the ties are off"
        self.queues.check()
        for place in self.queues.places.values():
            for name in place.names:
                waited_for = self.locks.get(name)
                assert waited_for is not None, "a lock with a queue is not in the table"
                assert waited_for.is_waited_for, "a queue that its lock does not know of"

    def _check_lock(self, name: LockName, lock: Lock) -> None:
        extra, holds = lock.extra or NO_EXTRA, lock.holds
        assert holds or extra.is_waited_for or extra.delayed_until_ms, "a free lock is kept"
        assert extra.is_waited_for == bool(self.queues.count(name)), "a queue that is not there"
        assert sooner(earliest(holds), extra.delayed_until_ms) == lock.next_deadline_ms, "the end"
        assert len({hold.owner for hold in holds}) == len(holds), "two holds of one owner"
        if lock.mode is Mode.EXCLUSIVE:
            assert len(holds) <= 1, "two exclusive holders"
        if lock.mode is Mode.SEMAPHORE:
            used = sum(hold.permits for hold in holds)
            assert used == extra.used <= extra.limit, "more permits than there are"
        else:
            assert extra.used == extra.limit == 0, "permits without a semaphore"
        if extra == NO_EXTRA and len(holds) == 1 and lock.mode is Mode.EXCLUSIVE:
            assert (lock.extra is None) == (holds[0].terms is None), "a plain lock is not short"
        for hold in holds:
            assert self.queues.place_of((name,), hold.owner) is None, "a holder waits"
