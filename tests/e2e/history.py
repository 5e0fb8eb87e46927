"""What clients did and saw, and whether one lock table can explain it.

A history is of one life of the server: from one start to the next, with the table as it was observed
at both ends, when nothing was under way. Nothing in it expires. Each connection is sequential: its
commands take effect in the order in which they were sent (pipelined or not), and those that were not
answered before the end took effect up to some point, or not at all.

`check` raises Violation unless, for each key, there is an order of the commands that

- keeps each connection's order, and puts nothing before what had returned when it was sent;
- gives each command the reply that it got;
- begins and ends with the observed states;

and unless the versions are as they must be over the whole table: each belongs to one grant for ever,
and a grant that began after another had returned, or after an earlier life, has a higher one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple


class Violation(AssertionError):
    """No lock table can have done this."""


class Hold(NamedTuple):
    """A hold as a client sees it."""

    owner: str
    version: int


@dataclass(frozen=True)
class Command:
    """A command of one connection, `number`-th there.

    version: the VERSION that was given, 0 for none. invoked, returned: seconds of one clock; without
    a reply `returned` is infinite. reply: see the functions in `REPLIES`.
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


# --- one key ---------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """A key's state during the search.

    version: 0 for a grant whose reply nobody saw; the first reply that tells it fixes it.
    last: the highest version of this key so far.
    """

    owner: str
    version: int
    last: int


FREE = ""


def _is(cell: Cell, owner: str, version: int) -> Cell | None:
    """The cell, if it can be a hold of this owner with this version."""
    if cell.owner != owner or owner == FREE:
        return None
    if cell.version == 0:
        return Cell(owner, version, version) if version > cell.last else None
    return cell if cell.version == version else None


def _free(cell: Cell) -> Cell:
    return Cell(FREE, 0, cell.last)


def _acquire(cell: Cell, command: Command) -> Cell | None:
    reply = command.reply
    if cell.owner == FREE:
        if reply is None:
            return Cell(command.owner, 0, cell.last)
        if reply[0] != "granted" or reply[1] <= cell.last:
            return None
        return Cell(command.owner, reply[1], reply[1])
    if reply is None:
        return cell
    if cell.owner == command.owner:
        return _is(cell, command.owner, reply[1]) if reply[0] == "granted" else None
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
    return _on_a_hold(cell, command)[0]


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
BREAK ("broken",) ("NOTHELD",); GET ("nil",) ("info", owner, version).
"""


def explain(commands: list[Command], before: Hold | None, after: Hold | None, last: int) -> bool:
    """Whether one key's commands have an order that explains them (see the module's docstring)."""
    by_connection: dict[int, list[Command]] = defaultdict(list)
    for each in sorted(commands, key=lambda each: (each.connection, each.number)):
        by_connection[each.connection].append(each)
    lanes = list(by_connection.values())
    first = Cell(before.owner, before.version, max(last, before.version)) if before else None
    start = first or Cell(FREE, 0, last)
    seen: set[tuple[tuple[int, ...], Cell]] = set()

    def ends_here(at: tuple[int, ...], cell: Cell) -> bool:
        for lane, position in zip(lanes, at, strict=True):
            if position < len(lane) and lane[position].answered:
                return False
        if after is None:
            return cell.owner == FREE
        return _is(cell, after.owner, after.version) is not None

    stack = [((0,) * len(lanes), start)]
    while stack:
        at, cell = stack.pop()
        if (at, cell) in seen:
            continue
        seen.add((at, cell))
        if ends_here(at, cell):
            return True
        heads = [
            lane[position].returned if position < len(lane) else inf
            for lane, position in zip(lanes, at, strict=True)
        ]
        # The last one pushed is tried first: the command that returned first.
        for number in sorted(range(len(lanes)), key=lambda number: -heads[number]):
            if at[number] == len(lanes[number]):
                continue
            command = lanes[number][at[number]]
            others = (each for lane, each in enumerate(heads) if lane != number)
            if min(others, default=inf) < command.invoked:
                continue
            found = STEPS[command.kind](cell, command)
            if found is not None:
                stack.append(((*at[:number], at[number] + 1, *at[number + 1 :]), found))
    return False


# --- all keys ----------------------------------------------------------------------------------------


def check(history: History) -> None:
    """Raise Violation unless the history can be explained."""
    _check_versions(history)
    by_key: dict[str, list[Command]] = defaultdict(list)
    for command in history.commands:
        by_key[command.key].append(command)
    for key in sorted({*by_key, *history.before, *history.after}):
        last = max(
            (version for version, (of, _) in history.grants_before.items() if of == key), default=0
        )
        before, after = history.before.get(key), history.after.get(key)
        if not explain(by_key[key], before, after, last):
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
    # Real time: a grant that was asked for after another had returned has the higher version.
    new: dict[int, tuple[float, float]] = {}
    known = {*history.grants_before, *(hold.version for hold in history.before.values())}
    for command in history.commands:
        version = command.granted_version()
        if version and version not in known:
            invoked, returned = new.get(version, (inf, inf))
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
