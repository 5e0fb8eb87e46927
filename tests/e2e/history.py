"""What clients did and saw, and whether one lock table can explain it.

A history is of one life of the server, from one start to the next, or of one stretch of a cluster's
life; the table was observed at both ends, when nothing was under way. Each connection is sequential:
its commands take effect in the order in which they were sent (pipelined or not), and those that were
not answered before the end took effect up to some point, or not at all. In a cluster a connection is
one client's, whatever nodes it talks to, and two replies need care: what was certainly not done
("refused") must have had no effect, and what has an unknown fate ("unknown") may take effect at any
time after it was sent, or never, whatever became of its client's other commands.

`check` raises Violation unless, for each key, there is an order of the commands, and of the ends that
holds come to by themselves, that

- keeps each connection's order, and puts nothing before what had returned when it was sent;
- gives each command the reply that it got;
- ends no hold before the time that its owner was promised;
- begins and ends with the observed states;

unless nobody was told that he holds a key while another could still rely on it; and unless the
versions are as they must be over the whole table: each belongs to one grant for ever, and a grant that
began after another had returned, or after an earlier life, has a higher one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, NamedTuple


class Violation(AssertionError):
    """No lock table can have done this."""


class Undecided(AssertionError):
    """The search for an order was given up."""


class Hold(NamedTuple):
    """A hold as a client sees it. `until`: it does not end by itself before this time, in seconds."""

    owner: str
    version: int
    until: float = inf


@dataclass(frozen=True)
class Command:
    """A command of one connection, `number`-th there.

    version: the VERSION that was given, 0 for none. invoked, returned: seconds of one clock; without
    a reply `returned` is infinite. reply: see `STEPS`. ttl: the TTL that was given, in seconds.
    """

    connection: int
    number: int
    kind: str
    key: str
    owner: str
    invoked: float
    version: int = 0
    returned: float = inf
    reply: tuple[Any, ...] | None = None
    ttl: float = inf

    @property
    def answered(self) -> bool:
        return self.reply is not None

    def granted_version(self) -> int:
        """The version of the hold that it was granted, or 0."""
        if self.kind == "ACQUIRE" and self.reply is not None and self.reply[0] == "granted":
            return int(self.reply[1])
        return 0


State = dict[str, Hold]
"""Who holds which key."""


@dataclass
class History:
    """One life of the server."""

    before: State
    commands: list[Command]
    after: State
    highest_before: int = 0
    """The highest version that was seen in any earlier life."""
    grants_before: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Every version of earlier lives, with its key and owner."""
    looked: float = inf
    """When `after` was seen, on the clock of the commands."""


# --- one key ---------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """A key's state during the search.

    version: 0 for a grant whose reply nobody saw; the first reply that tells it fixes it.
    last: the highest version of this key so far. until: the hold does not end by itself before.
    now: nothing that follows took effect before.
    """

    owner: str
    version: int
    last: int
    until: float = inf
    now: float = -inf


FREE = ""
EARLY_S = 0.002
"""How much sooner than promised an end may seem to come: stamps are whole milliseconds."""
STATES_MAX = 1_000_000
"""States of one key that the search looks at before it gives up."""


def _is(cell: Cell, owner: str, version: int) -> Cell | None:
    """The cell, if it can be a hold of this owner with this version."""
    if cell.owner != owner or owner == FREE:
        return None
    if cell.version == 0:
        return cell._replace(version=version, last=version) if version > cell.last else None
    return cell if cell.version == version else None


def _free(cell: Cell) -> Cell:
    return Cell(FREE, 0, cell.last, now=cell.now)


def _ended(cell: Cell, before: float) -> Cell | None:
    """The cell once its hold has ended by itself, if that can be before this time."""
    if cell.owner == FREE or cell.until - EARLY_S >= before:
        return None
    return Cell(FREE, 0, cell.last, now=max(cell.now, cell.until - EARLY_S))


def _without_the_past(cell: Cell, returned: float) -> Cell:
    """The cell without times that matter no more to what returns from `returned` on.

    So that what differs in nothing else is looked at once.
    """
    until = -inf if cell.until - EARLY_S <= returned else cell.until
    return cell._replace(until=until, now=-inf if cell.now <= returned else cell.now)


def _acquire(cell: Cell, command: Command) -> Cell | None:
    reply = command.reply
    until = command.invoked + command.ttl
    if cell.owner == FREE:
        if reply is None:
            return Cell(command.owner, 0, cell.last, until, cell.now)
        if reply[0] != "granted" or reply[1] <= cell.last:
            return None
        return Cell(command.owner, reply[1], reply[1], until, cell.now)
    if cell.owner == command.owner:
        extended = cell._replace(until=max(cell.until, until))
        if reply is None:
            return extended
        return _is(extended, command.owner, reply[1]) if reply[0] == "granted" else None
    if reply is None:
        return cell
    return _is(cell, reply[1], reply[2]) if reply[0] == "held" else None


def _on_a_hold(cell: Cell, command: Command) -> tuple[Cell | None, bool]:
    """RELEASE and RENEW: the cell that the reply fits, and whether it took effect.

    A VERSION never fits a hold that nobody saw: its owner has learnt the VERSION from an older one.
    """
    reply = command.reply
    mine = cell.owner == command.owner != FREE
    if reply is None:
        fits = mine and command.version in (0, cell.version)
        return cell, fits
    match reply[0]:
        case "NOTHELD":
            return (cell if cell.owner == FREE else None), False
        case "NOTOWNER":
            return (_is(cell, reply[1], reply[2]) if not mine else None), False
        case "STALE":
            found = _is(cell, command.owner, reply[1])
            return (found if command.version not in (0, reply[1]) else None), False
        case "released" if mine:
            version = command.version
            return (_is(cell, command.owner, version) if version else cell), True
        case "renewed" if mine and command.version in (0, reply[1]):
            return _is(cell, command.owner, reply[1]), True
    return None, False


def _release(cell: Cell, command: Command) -> Cell | None:
    found, mine = _on_a_hold(cell, command)
    return _free(found) if found is not None and mine else found


def _renew(cell: Cell, command: Command) -> Cell | None:
    found, mine = _on_a_hold(cell, command)
    if found is None or not mine:
        return found
    return found._replace(until=command.invoked + command.ttl)


def _break(cell: Cell, command: Command) -> Cell | None:
    reply = command.reply
    if reply is None:
        return _free(cell)
    if reply[0] == "NOTHELD":
        return cell if cell.owner == FREE else None
    return _free(cell) if cell.owner != FREE else None


def _get(cell: Cell, command: Command) -> Cell | None:
    reply = command.reply
    if reply is None:
        return cell
    if reply[0] == "nil":
        return cell if cell.owner == FREE else None
    return _is(cell, reply[1], reply[2])


STEPS = {
    "ACQUIRE": _acquire,
    "RELEASE": _release,
    "RENEW": _renew,
    "BREAK": _break,
    "GET": _get,
}
"""How each kind of command goes on from a cell, or None where its reply is impossible there.

Replies: ACQUIRE ("granted", version) ("held", owner, version); RELEASE ("released",); RENEW
("renewed", version); both of them ("NOTHELD",) ("NOTOWNER", holder, version) ("STALE", version);
BREAK ("broken",) ("NOTHELD",); GET ("nil",) ("info", owner, version). Each of them in a cluster:
("refused", code) ("unknown",).
"""


def _lanes(commands: list[Command]) -> list[list[Command]]:
    """The commands that may have an effect or tell something, in the orders that they keep.

    One whose fate is unknown is alone, without a reply: it waits for nothing, and nothing for it.
    """
    by_connection: dict[int, list[Command]] = defaultdict(list)
    alone = []
    for each in sorted(commands, key=lambda each: (each.connection, each.number)):
        if each.reply == ("unknown",):
            if each.kind != "GET":
                alone.append([replace(each, reply=None, returned=inf)])
        elif each.reply is None or each.reply[0] != "refused":
            by_connection[each.connection].append(each)
    return [*by_connection.values(), *alone]


Place = tuple[tuple[int, ...], Cell]
"""How many commands of each lane have taken effect, and the state that they left."""


def explain(
    commands: list[Command],
    before: Hold | None,
    after: Hold | None,
    last: int,
    looked: float = inf,
) -> bool:
    """Whether one key's commands have an order that explains them (see the module's docstring).

    Raises Undecided when there are too many orders to try.
    """
    lanes = _lanes(commands)
    start = Cell(FREE, 0, last)
    if before:
        start = Cell(before.owner, before.version, max(last, before.version), before.until)
    seen: set[Place] = set()
    stack: list[Place] = [((0,) * len(lanes), start)]
    while stack:
        place = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        if len(seen) > STATES_MAX:
            raise Undecided(f"gave up after {STATES_MAX} states of {len(commands)} commands")
        if _ends_here(lanes, place, after, looked):
            return True
        stack += _ways_on(lanes, place)
    return False


def _ends_here(lanes: list[list[Command]], place: Place, after: Hold | None, looked: float) -> bool:
    """Whether all that was answered is explained, and the state is the one that was found."""
    at, cell = place
    for lane, position in zip(lanes, at, strict=True):
        if position < len(lane) and lane[position].answered:
            return False
    if after is None:
        return cell.owner == FREE or _ended(cell, looked) is not None
    return _is(cell, after.owner, after.version) is not None


def _ways_on(lanes: list[list[Command]], place: Place) -> Iterator[Place]:
    """What one more command can lead to. The likeliest, the one that returned first, comes last."""
    at, cell = place
    heads = [
        lane[position].returned if position < len(lane) else inf
        for lane, position in zip(lanes, at, strict=True)
    ]
    cell = _without_the_past(cell, min(heads, default=inf))
    for number in sorted(range(len(lanes)), key=lambda number: -heads[number]):
        if at[number] == len(lanes[number]):
            continue
        command = lanes[number][at[number]]
        others = (each for lane, each in enumerate(heads) if lane != number)
        if min(others, default=inf) < command.invoked or command.returned < cell.now:
            continue
        for reading in (_ended(cell, command.returned), cell):
            found = STEPS[command.kind](reading, command) if reading is not None else None
            if found is None:
                continue
            # What nobody saw, and changes nothing, need not have happened.
            if command.answered or len(lanes[number]) > 1 or found != reading:
                yield (*at[:number], at[number] + 1, *at[number + 1 :]), found


# --- all keys ----------------------------------------------------------------------------------------


def check(history: History) -> None:
    """Raise Violation unless the history can be explained."""
    _check_versions(history)
    by_key: dict[str, list[Command]] = defaultdict(list)
    for command in history.commands:
        by_key[command.key].append(command)
    lasts: dict[str, int] = defaultdict(int)
    for version, (key, _) in history.grants_before.items():
        lasts[key] = max(lasts[key], version)
    for key in sorted({*by_key, *history.before, *history.after}):
        _check_exclusion(key, by_key[key])
        before, after = history.before.get(key), history.after.get(key)
        if not explain(by_key[key], before, after, lasts[key], history.looked):
            raise Violation(
                f"{key}: no order of its commands explains their replies and the state that was "
                f"found, {after}, from {before}:\n{_table(by_key[key])}"
            )


def grants(history: History) -> Iterator[tuple[int, str, str]]:
    """Every version that anybody saw, with its key and owner; some more than once."""
    for command in history.commands:
        if version := command.granted_version():
            yield version, command.key, command.owner
        elif command.reply is not None and command.reply[0] in ("held", "info", "NOTOWNER"):
            yield command.reply[2], command.key, command.reply[1]
    for key, hold in [*history.before.items(), *history.after.items()]:
        yield hold.version, key, hold.owner


def _check_versions(history: History) -> None:
    whose = dict(history.grants_before)
    for version, key, owner in grants(history):
        if whose.setdefault(version, (key, owner)) != (key, owner):
            raise Violation(f"version {version} is {(key, owner)}'s and {whose[version]}'s")
        if version not in history.grants_before and version <= history.highest_before:
            raise Violation(
                f"version {version} of {key} is new and not above {history.highest_before}, "
                f"which was seen before the restart"
            )
    _check_that_versions_rise(history)


def _check_that_versions_rise(history: History) -> None:
    """A grant that was asked for after another had returned has the higher version.

    A grant that its owner was told of when asking again may be that of an earlier command, whose fate
    was unknown.
    """
    asked: dict[tuple[str, str], float] = {}
    for command in history.commands:
        if command.kind == "ACQUIRE" and command.reply in (None, ("unknown",)):
            whose = command.key, command.owner
            asked[whose] = min(asked.get(whose, inf), command.invoked)
    new: dict[int, tuple[float, float]] = {}
    known = {*history.grants_before, *(hold.version for hold in history.before.values())}
    for command in history.commands:
        version = command.granted_version()
        if version and version not in known:
            earliest = asked.get((command.key, command.owner), inf)
            invoked, returned = new.get(version, (earliest, inf))
            new[version] = (min(invoked, command.invoked), min(returned, command.returned))
    highest_returned = 0
    by_return = sorted((returned, version) for version, (_, returned) in new.items())
    position = 0
    for invoked, version in sorted((invoked, version) for version, (invoked, _) in new.items()):
        while position < len(by_return) and by_return[position][0] < invoked:
            highest_returned = max(highest_returned, by_return[position][1])
            position += 1
        if version < highest_returned:
            raise Violation(
                f"version {version} was asked for after {highest_returned} had been granted"
            )


WITHOUT_EFFECT = frozenset({"refused", "NOTHELD", "NOTOWNER", "STALE"})
"""Replies of commands that did nothing."""


class Certain(NamedTuple):
    """A time in which a client could rely on a hold: from its reply to the earliest end."""

    begin: float
    end: float
    owner: str
    version: int


def _check_exclusion(key: str, commands: list[Command]) -> None:
    """Nobody was told that he holds the key while another could rely on it.

    `explain` finds this too, among much else; this one says it in a sentence.
    """
    by_version: dict[int, list[Command]] = defaultdict(list)
    for each in commands:
        if each.reply is not None and each.reply[0] in ("granted", "renewed"):
            by_version[each.reply[1]].append(each)
    certain = [_certain(told, commands) for _, told in sorted(by_version.items())]
    reached: Certain | None = None
    for hold in sorted(each for each in certain if each.begin < each.end):
        if reached is not None and hold.begin < reached.end:
            raise Violation(
                f"{key} was held twice: {hold.owner} was told so, with version {hold.version}, "
                f"{reached.end - hold.begin:.3f} s before the hold of {reached.owner} with "
                f"version {reached.version} could end"
            )
        if reached is None or hold.end > reached.end:
            reached = hold


def _certain(told: list[Command], commands: list[Command]) -> Certain:
    """When the hold was certain of which its owner was told by these commands.

    It is up to the last promise, unless a command may have ended or shortened it.
    """
    told = sorted(told, key=lambda each: (each.connection, each.number))
    owner, version = told[0].owner, told[0].granted_version() or told[0].reply[1]
    begin, end = min(each.returned for each in told), 0.0
    for each in told:
        promised = each.invoked + each.ttl
        end = promised if each.kind == "RENEW" else max(end, promised)
    granted = min(each.invoked for each in told)
    for each in commands:
        if each.returned < granted or (each.reply is not None and each.reply[0] in WITHOUT_EFFECT):
            continue
        mine = each.owner == owner and each.version in (0, version)
        if each.kind == "BREAK" or (each.kind == "RELEASE" and mine):
            end = min(end, each.invoked)
        elif each.kind == "RENEW" and mine and each not in told:
            end = min(end, each.invoked + each.ttl)
    return Certain(begin, end - EARLY_S, owner, version)


def next_life(history: History, after: State | None = None) -> History:
    """The beginning of the history that follows, with the state that was found."""
    whose = dict(history.grants_before)
    whose.update({version: (key, owner) for version, key, owner in grants(history)})
    return History(
        before=history.after if after is None else after,
        commands=[],
        after={},
        highest_before=max(whose, default=0),
        grants_before=whose,
    )


def _table(commands: Iterable[Command]) -> str:
    """The commands in the order in which they were sent, for people."""
    lines = []
    ordered = sorted(commands, key=lambda each: each.invoked)
    begin = ordered[0].invoked if ordered else 0.0
    for each in ordered[-60:]:
        returned = f"{each.returned - begin:9.6f}" if each.answered else "        -"
        lines.append(
            f"  {each.invoked - begin:9.6f} {returned}  {each.connection}#{each.number} "
            f"{each.kind} {each.owner} {each.version or ''} -> {each.reply}"
        )
    return "\n".join(lines)
