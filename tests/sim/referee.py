"""The rules of the lock table, checked from outside, entry by entry (RELIABILITY I1, I2, I4-I6).

The referee knows what was asked for, and follows what is told: outcomes, ends of waits, events. From
these alone it keeps who holds what and who waits where, by rules of its own, and compares that with
the table after every entry. So what events tell is all that happened, and nothing else.

    I1  holds of one lock are compatible, by what was asked for
    I2  every grant has a version above all before it, and not below its log index
    I4  who is in front of a queue could not be granted the lock
    I5  a wait that was answered Blocked has exactly one end, and it is true
    I6  grants are made in the order (priority, log index); nobody passes; delays are kept
    I9  one REQUEST gets one grant, and the same answer again
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from resplock import limits
from resplock.operations import (
    Blocked,
    Busy,
    ClientId,
    Disconnect,
    Ended,
    Event,
    Execute,
    Executed,
    Granted,
    Lost,
    NodeGone,
    Options,
    Outcome,
    Queued,
    QueueFull,
    Release,
    TimedOut,
    Unblock,
    Unblocked,
    Watch,
    Watched,
)
from resplock.state.table import LockTable
from resplock.types import LockName
from tests.sim.asking import names_of, options_of
from tests.sim.entry import Asked, Entry
from tests.sim.history import tag_of
from tests.sim.world import Violation

_REPLACED = Unblocked("replaced")
_INVOLUNTARY = ("expired", "broken", "deleted")


@dataclass(eq=False)
class Held:
    """A hold. `ticket`: the wait that it ended, 0 when there was none."""

    owner: bytes
    version: int
    asked: Asked
    since: int
    """When it was granted, in virtual time."""

    ticket: int = 0
    delay_ms: int = 0
    client: ClientId | None = None
    """The hold ends with it."""
    is_heard: bool = False
    """Its owner has done something with it since."""


@dataclass(eq=False)
class Waiting:
    """A place in line. `last` is the command that has it now, `since` when that was asked."""

    index: int
    first: Asked
    last: Asked
    since_ms: int
    tags: list[int] = field(default_factory=list)
    is_alone: bool = False
    """Its client has gone, and may come back."""

    @property
    def order(self) -> tuple[int, int]:
        return -options_of(self.first).priority, self.index


class Referee:
    """See the module."""

    def __init__(self, names: Sequence[LockName], *, ends_are_prompt: bool) -> None:
        """`names` are all the locks that there are.

        ends_are_prompt: an entry carries out every timed end that is due by its stamp.
        """
        self._names = names
        self._ends_are_prompt = ends_are_prompt
        self.holds: dict[LockName, dict[bytes, Held]] = defaultdict(dict)
        self.queues: dict[LockName, list[Waiting]] = defaultdict(list)
        self.delays: dict[LockName, int] = {}
        self.tickets: dict[int, tuple[Asked, int]] = {}
        """The waits that are open: what was asked, and when."""
        self.last_version = 0
        self.puts: dict[int, int | None] = {}
        """The versions of grants by string commands and scripts: the number of the call."""
        self._changed: dict[LockName, int] = {}
        """The last entry that changed the holds of a lock."""
        self._watched: dict[tuple[LockName, int], int] = {}
        """The entry in which a WATCH was answered with this number."""
        self._answered: dict[bytes, dict[bytes, tuple[int, int]]] = defaultdict(dict)
        """By owner and REQUEST: the version that was granted, or 0, and when. The oldest come first."""
        self._clients: dict[ClientId, bool] = {}
        """Who was ever attached, and whether it is said to have gone."""
        self._promoted: list[tuple[Waiting, LockName, Held]] = []
        self._gone: set[ClientId] = set()
        """Who has gone by this entry."""
        self._ever_gone: set[ClientId] = set()
        """Whose waits and holds may still be ended for it."""
        self._taken: set[int] = set()
        self._taken_places: Counter[tuple[LockName, bytes]] = Counter()
        self._places: Collection[int] = ()
        self._entry = Entry(0, 0, (), (), (), ())

    def judge(self, entry: Entry, table: LockTable) -> list[tuple[Waiting, LockName, Held]]:
        """Raise Violation unless the entry obeys the rules. Gives the grants out of a queue."""
        self._entry = entry
        self._places = table.queues.places.keys()
        self._promoted = []
        self._taken = set()
        self._taken_places = Counter()
        try:
            self._see_departures()
            self._see_asks()
            self._check_watches()
            for event in entry.events:
                self._follow(event)
            for ended in entry.ended:
                self._check_end(ended)
            self._check_departures()
            self._check_puts()
            self._check_versions()
            self._check_fronts()
            self._compare(table)
        except Violation as found:
            told = f"{entry.outcomes}, ended {entry.ended}, events {entry.events}"
            raise Violation(f"entry {entry.first}, {entry.operations}: {told}: {found}") from None
        return self._promoted

    # --- what was asked --------------------------------------------------------------------------

    def _see_asks(self) -> None:
        for index, asked, outcome in self._entry.asked():
            options = options_of(asked)
            if options.client is not None:
                if self._clients.get(options.client):
                    raise Violation(f"{options.client} asks after it has gone")
                self._clients[options.client] = False
                if options.client not in self._gone:
                    self._ever_gone.discard(options.client)
            if isinstance(outcome, Blocked):
                if outcome.ticket != index:
                    raise Violation(f"ticket {outcome.ticket} for the command at {index}")
                self.tickets[index] = asked, self._entry.stamp_ms
            if isinstance(outcome, Blocked | Queued) and not self._is_queued_now(asked):
                self._see_place(index, asked)
            elif isinstance(outcome, Granted):
                self._see_hold_again(asked, outcome.version)
            if asked.request:
                self._check_request(asked, outcome)

    def _check_watches(self) -> None:
        """EXEC does nothing once a watched lock has changed since, whatever has changed it."""
        first = self._entry.first
        for operation, outcome in zip(self._entry.operations, self._entry.outcomes, strict=True):
            if isinstance(operation, Watch) and isinstance(outcome, Watched):
                for name, number in zip(operation.names, outcome.numbers, strict=True):
                    self._watched[name, number] = first
            elif isinstance(operation, Execute) and outcome != Executed(None):
                for name, number in operation.watched:
                    if self._changed.get(name, 0) > self._watched[name, number]:
                        raise Violation(f"{name!r} has changed, and {operation} was done")
        for event in self._entry.events:
            if event.kind not in ("queued", "cancelled"):
                self._changed[event.name] = first

    def _check_request(self, asked: Asked, outcome: Outcome) -> None:
        """I9."""
        version, at_ms = self._answered[asked.owner].get(asked.request, (0, 0))
        if version and at_ms + limits.REQUEST_REMEMBERED_MS > self._entry.stamp_ms:
            if not isinstance(outcome, Granted | Lost) or outcome.version != version:
                raise Violation(f"I9: {asked} was granted version {version}, and now {outcome}")
        elif not isinstance(outcome, Blocked | Queued | Busy | QueueFull):
            self._remember(asked, outcome.version if isinstance(outcome, Granted) else 0)

    def _remember(self, asked: Asked, version: int) -> None:
        """Only as many as the table surely has still: it may have others, too."""
        if not asked.request:
            return
        answers = self._answered[asked.owner]
        answers.pop(asked.request, None)
        answers[asked.request] = version, self._entry.stamp_ms
        if len(answers) > limits.REQUESTS_PER_OWNER // 2:
            del answers[next(iter(answers))]

    def _is_queued_now(self, asked: Asked) -> bool:
        """Whether its owner takes a new place in this entry."""
        name = names_of(asked)[0]
        return any(
            event.kind == "queued" and event.name == name and event.owner == asked.owner
            for event in self._entry.events
        )

    def _see_hold_again(self, asked: Asked, version: int) -> None:
        """The holder has asked again: what it says now counts."""
        options = options_of(asked)
        for name in names_of(asked):
            hold = self.holds[name].get(asked.owner)
            if hold is not None and hold.version == version:
                hold.is_heard = hold.is_heard or asked is not hold.asked
                hold.delay_ms = options.delay_ms or hold.delay_ms
                if options.on_close:
                    hold.client = options.client

    def _see_departures(self) -> None:
        """Note who is said to have gone. A place with a REQUEST may stay, with nobody attached."""
        self._gone = set()
        for operation in self._entry.operations:
            match operation:
                case Disconnect(clients):
                    self._gone.update(clients)
                case NodeGone(node, incarnation):
                    self._gone.update(
                        client
                        for client in self._clients
                        if client.node == node
                        and (not incarnation or client.incarnation != incarnation)
                    )
        self._ever_gone |= self._gone
        for queue in self.queues.values() if self._gone else ():
            for place in queue:
                place.is_alone = place.is_alone or self._leaves_alone(place.last)

    def _leaves_alone(self, asked: Asked) -> bool:
        return bool(asked.request) and options_of(asked).client in self._gone

    def _check_departures(self) -> None:
        """Who is said to have gone holds and waits for nothing any more."""
        for operation in self._entry.operations:
            if isinstance(operation, Disconnect):
                self._clients.update(dict.fromkeys(operation.clients, True))
        if not self._gone or not self._ends_are_prompt:
            return
        for name, holds in self.holds.items():
            for hold in holds.values():
                if hold.client is not None and hold.client in self._gone:
                    raise Violation(f"{hold.owner} still holds {name!r}, and {hold.client} is gone")
        for asked, _ in self.tickets.values():
            if options_of(asked).client in self._gone:
                raise Violation(f"{asked.owner} is blocked still, and its client is gone")

    # --- what is told ----------------------------------------------------------------------------

    def _follow(self, event: Event) -> None:
        name, owner = event.name, event.owner
        match event.kind:
            case "queued":
                self._queued(name, owner)
            case "cancelled":
                self._cancelled(event)
            case "acquired":
                self._acquired(event)
            case "renewed":
                self._holds_it(event).is_heard = True
            case "released" | "expired" | "broken" | "deleted":
                hold = self._holds_it(event)
                self._check_taken_away(event)
                del self.holds[name][owner]
                is_involuntary = event.kind in _INVOLUNTARY or event.reason == b"disconnected"
                if is_involuntary and hold.delay_ms and event.reason != b"replaced":
                    until_ms = self._entry.stamp_ms + hold.delay_ms
                    self.delays[name] = max(until_ms, self.delays.get(name, 0))
            case _:
                raise Violation(f"an event of no kind: {event}")

    def _check_taken_away(self, event: Event) -> None:
        """I7: it is given back by who knows its owner; it is deleted by who may."""
        entry, name, owner = self._entry, event.name, event.owner
        if event.kind == "deleted" and not entry.takes_away(name, owner, event.reason):
            raise Violation(f"nobody deletes {event}")
        if event.kind == "released" and not event.reason:
            is_released = any(
                isinstance(operation, Release)
                and (operation.name, operation.owner) == (name, owner)
                for operation in entry.operations
            )
            if not is_released and not entry.takes_away(name, owner, b""):
                raise Violation(f"I7: nobody gives back {event}")

    def _check_puts(self) -> None:
        """Who is told that a key is set has set it: a new grant, or a new end of the same hold."""
        if not self._entry.puts:
            return
        told = {
            (event.name, event.owner)
            for event in self._entry.events
            if event.kind in ("acquired", "renewed")
        }
        for put in self._entry.puts:
            if put.is_done and (put.name, put.value) not in told:
                raise Violation(f"{put} is done, and nobody was told")

    def _holds_it(self, event: Event) -> Held:
        hold = self.holds[event.name].get(event.owner)
        if hold is None or hold.version != event.version:
            raise Violation(f"{event} of {hold}")
        return hold

    def _queued(self, name: LockName, owner: bytes) -> None:
        if self._place(name, owner) is not None or owner in self.holds[name]:
            raise Violation(f"{owner} is queued at {name!r}, where it is already")
        candidates = [
            (index, asked)
            for index, asked, outcome in self._entry.asked()
            if asked.owner == owner and name in names_of(asked)
            if isinstance(outcome, Blocked | Queued)
        ]
        new = [each for each in candidates if each[0] not in self._taken or self._known(each[0])]
        if not new:
            raise Violation(f"{owner} is queued at {name!r} and has not asked for it")
        taken = self._taken_places[name, owner]
        self._taken_places[name, owner] += 1
        told = [event for event in self._entry.events if event.kind == "queued"]
        to_come = sum((event.name, event.owner) == (name, owner) for event in told) - taken
        if to_come < len(new):
            new = self._without_takeovers(new)
        index, asked = new[0]
        if to_come < len(new):  # some of them have taken over a place
            index, asked = next((each for each in new if each[0] in self._places), new[0])
        place = self._known(index)
        if place is None:
            tag = tag_of(asked)
            tags = [tag] if tag is not None else []
            alone = self._leaves_alone(asked)
            place = Waiting(index, asked, asked, self._entry.stamp_ms, tags, alone)
        self._taken.add(index)
        self.queues[name].append(place)
        self.queues[name].sort(key=lambda each: each.order)

    def _without_takeovers(self, asked: list[tuple[int, Asked]]) -> list[tuple[int, Asked]]:
        """Of one owner's in an entry, those whose predecessor was not told that it is replaced."""
        replaced = {each.ticket for each in self._entry.ended if each.outcome == _REPLACED}
        return [
            each
            for position, each in enumerate(asked)
            if not position or asked[position - 1][0] not in replaced
        ]

    def _known(self, index: int) -> Waiting | None:
        for queue in self.queues.values():
            for place in queue:
                if place.index == index:
                    return place
        return None

    def _place(self, name: LockName, owner: bytes) -> Waiting | None:
        for place in self.queues[name]:
            if place.first.owner == owner:
                return place
        return None

    def _cancelled(self, event: Event) -> None:
        place = self._place(event.name, event.owner)
        if place is None:
            raise Violation(f"{event} without a place")
        self.queues[event.name].remove(place)
        self._remember(place.last, 0)
        if event.reason == b"timeout":
            self._check_timeout(place)
        elif event.reason == b"disconnected":
            clients = {options_of(asked).client for asked, _ in self._takes(place)}
            if not place.is_alone and not clients & self._ever_gone:
                raise Violation(f"{place} is given up, and its client has not gone")

    def _check_timeout(self, place: Waiting) -> None:
        """I8: no wait ends before its time, on the replicated clock, unless it is unblocked."""
        takes = self._takes(place)
        until_ms = min(since_ms + options_of(asked).wait_ms for asked, since_ms in takes)
        if until_ms > self._entry.stamp_ms and not self._unblocks():
            raise Violation(f"{place} timed out before {until_ms}")

    def _takes(self, place: Waiting) -> list[tuple[Asked, int]]:
        """The commands that may have had this place when it ended, and when those were asked."""
        return [(place.last, place.since_ms)] + [
            (asked, self._entry.stamp_ms)
            for _, asked, outcome in self._entry.asked()
            if asked.owner == place.first.owner and isinstance(outcome, Blocked | Queued)
        ]

    def _unblocks(self) -> bool:
        return any(isinstance(operation, Unblock) for operation in self._entry.operations)

    # --- grants ----------------------------------------------------------------------------------

    def _acquired(self, event: Event) -> None:
        name, owner = event.name, event.owner
        place = self._place(name, owner)
        if place is None:
            asked, overwrites = self._asked_for(event)
            if not overwrites:
                self._check_direct(name, asked)
            hold = self._hold(owner, event.version, asked)
        else:
            self._check_next(name, place)
            self.queues[name].remove(place)
            hold = self._hold(owner, event.version, place.last)
            if place.is_alone:
                hold.client = None
            self._promoted.append((place, name, hold))
            if name == names_of(place.last)[-1]:
                self._remember(place.last, event.version)
        if owner in self.holds[name]:
            raise Violation(f"{owner} is granted {name!r}, which it holds")
        self.holds[name][owner] = hold
        for _, asked, outcome in self._entry.asked():
            if isinstance(outcome, Granted):
                self._see_hold_again(asked, outcome.version)
        self._check_compatible(name)
        if event.version != self.last_version:
            if event.version < max(self.last_version + 1, self._entry.first):
                raise Violation(f"I2: version {event.version} after {self.last_version}")
            self.last_version = event.version

    def _asked_for(self, event: Event) -> tuple[Asked, bool]:
        """What it is the grant of, and whether that overwrites whatever is there."""
        for _, asked, outcome in self._entry.asked():
            if asked.owner == event.owner and event.name in names_of(asked):
                if isinstance(outcome, Granted) and outcome.version == event.version:
                    return asked, False
        for put in self._entry.puts:
            if (put.name, put.value) == (event.name, event.owner) and put.is_done:
                self.puts[event.version] = put.tag
                return put.asked, put.overwrites
        raise Violation(f"nobody asked for {event}")

    def _hold(self, owner: bytes, version: int, asked: Asked) -> Held:
        options = options_of(asked)
        client = options.client if options.on_close else None
        return Held(owner, version, asked, self._entry.now, 0, options.delay_ms, client)

    def _check_direct(self, name: LockName, asked: Asked) -> None:
        """I6: a new ask passes nobody."""
        priority = options_of(asked).priority
        for place in self.queues[name]:
            if options_of(place.first).priority >= priority:
                raise Violation(f"I6: {asked.owner} passes {place} at {name!r}")
        self._check_delay(name)

    def _check_next(self, name: LockName, place: Waiting) -> None:
        """I6: it is the first in each of its queues in which it still is."""
        for each in names_of(place.first):
            queue = self.queues[each]
            if place in queue and queue[0] is not place:
                raise Violation(f"I6: {place} passes {queue[0]} at {each!r}")
        self._check_delay(name)

    def _check_delay(self, name: LockName) -> None:
        if self._delayed(name):
            raise Violation(f"{name!r} is granted before {self.delays[name]}, the end of its DELAY")

    def _delayed(self, name: LockName) -> bool:
        return self.delays.get(name, 0) > self._entry.stamp_ms

    def _check_compatible(self, name: LockName) -> None:
        """I1."""
        asked = [options_of(hold.asked) for hold in self.holds[name].values()]
        if not _is_compatible(asked):
            raise Violation(f"I1: {name!r} is held by {list(self.holds[name].values())}")

    def _check_versions(self) -> None:
        """I2: one version for one grant, however many locks it is of."""
        grants = [
            (event.version, event.owner) for event in self._entry.events if event.kind == "acquired"
        ]
        for (before, former), (version, owner) in pairwise(grants):
            if version < before or (version == before and owner != former):
                raise Violation(f"I2: version {version} of {owner} after {before} of {former}")

    def _check_fronts(self) -> None:
        """I4: a lock that somebody could be granted is granted."""
        for name in list(self.queues):
            if self.queues[name]:
                place = self.queues[name][0]
                if all(self._could_be_granted(each, place) for each in names_of(place.first)):
                    raise Violation(f"I4: {place} waits, and nothing is in its way")

    def _could_be_granted(self, name: LockName, place: Waiting) -> bool:
        if self.queues[name][0] is not place or self._delayed(name):
            return False
        if name in self.delays and not self._ends_are_prompt:
            return False
        asked = [options_of(hold.asked) for hold in self.holds[name].values()]
        return _is_compatible([*asked, options_of(place.first)])

    # --- ends of waits ---------------------------------------------------------------------------

    def _check_end(self, ended: Ended) -> None:
        """I5."""
        asked, since_ms = self.tickets.pop(ended.ticket, (None, 0))
        if asked is None:
            raise Violation(f"I5: {ended} ends a wait that is over, or never was")
        options = options_of(asked)
        told = (ended.client, ended.names, ended.owner, ended.request)
        if told != (options.client, names_of(asked), asked.owner, asked.request):
            raise Violation(f"I5: {ended} is not the end of {asked}")
        match ended.outcome:
            case Granted(version=version):
                self._check_granted(ended, asked, version)
            case TimedOut():
                early = self._entry.stamp_ms < since_ms + options.wait_ms
                if (early and not self._unblocks()) or not self._was_told(ended, b"timeout"):
                    raise Violation(f"I5: {ended} did not run out")
            case Unblocked(reason="replaced"):
                if asked.owner not in self._entry.askers():
                    raise Violation(f"I5: {ended}, and nobody has asked again")
                self._remember(asked, 0)
            case Unblocked(reason="disconnected") if asked.request:
                pass
            case Unblocked(reason=reason) if self._was_told(ended, reason.encode()):
                pass
            case _:
                raise Violation(f"I5: {ended} is no end")

    def _check_granted(self, ended: Ended, asked: Asked, version: int) -> None:
        granted = [
            (name, hold)
            for place, name, hold in self._promoted
            if hold.version == version and place.first.owner == ended.owner
        ]
        if sorted(name for name, _ in granted) != sorted(names_of(asked)):
            raise Violation(f"I5: {ended}, and granted was {granted}")
        for _, hold in granted:
            hold.ticket = ended.ticket

    def _was_told(self, ended: Ended, reason: bytes) -> bool:
        """Whether its place was given up in this entry, in all its queues, for this reason."""
        given_up = [
            event.name
            for event in self._entry.events
            if event.kind == "cancelled" and event.owner == ended.owner and event.reason == reason
        ]
        return all(name in given_up for name in ended.names)

    # --- the table -------------------------------------------------------------------------------

    def _compare(self, table: LockTable) -> None:
        """I5, I11: the table has the holds and places that follow from what was told."""
        for index, asked, outcome in self._entry.asked():
            if isinstance(outcome, Blocked | Queued) and self._is_queued_now(asked):
                self._see_place(index, asked)
        for name, until_ms in list(self.delays.items()):
            lock = table.locks.get(name)
            delayed_ms = lock.delayed_until_ms if lock is not None else 0
            if delayed_ms != until_ms:
                if until_ms > self._entry.stamp_ms or delayed_ms:
                    raise Violation(f"{name!r} is delayed until {delayed_ms}, not {until_ms}")
                del self.delays[name]
        for name in self._names:
            lock = table.locks.get(name)
            held = {hold.owner: hold.version for hold in lock.holds} if lock is not None else {}
            mine = {hold.owner: hold.version for hold in self.holds[name].values()}
            if held != mine:
                raise Violation(f"{name!r} has the holds {held}, and was told of {mine}")
            there = [place.index for place in table.queues.waiters(name)]
            if there != [place.index for place in self.queues[name]]:
                raise Violation(f"the queue of {name!r} is {there}, not {self.queues[name]}")
        tickets = {place.ticket for place in table.queues.places.values() if place.ticket}
        if tickets != self.tickets.keys():
            raise Violation(f"I5: blocked are {sorted(self.tickets)}, and places have {tickets}")

    def _see_place(self, index: int, asked: Asked) -> None:
        """The last command that has taken a place over decides when it ends, and whose it is."""
        place = self._place(names_of(asked)[0], asked.owner)
        if place is None or index < place.index:
            return
        place.last, place.since_ms = asked, self._entry.stamp_ms
        place.is_alone = self._leaves_alone(asked)
        tag = tag_of(asked)
        if tag is not None and tag not in place.tags:
            place.tags.append(tag)


def _is_compatible(asked: Sequence[Options]) -> bool:
    """I1: one, or readers only, or permits within one limit."""
    if len(asked) <= 1:
        return True
    if any(options.limit for options in asked):
        used = sum(options.permits for options in asked)
        return len({options.limit for options in asked}) == 1 and used <= asked[0].limit
    return all(options.shared for options in asked)
