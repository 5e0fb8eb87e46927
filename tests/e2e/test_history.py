"""The checker of histories, with histories that are right and others that were forged."""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from tests.e2e.history import Command, History, Hold, State, Violation, check, next_life

KEY = "k"


class Story:
    """Commands one after the other, unless their times are given."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.clock = 0.0

    def does(
        self,
        connection: int,
        kind: str,
        *reply: Any,
        key: str = KEY,
        version: int = 0,
        at: tuple[float, float] | None = None,
    ) -> Story:
        """`connection` sends a command as `ownerN`, and gets this reply; none: no reply."""
        self.clock += 1
        invoked, returned = at or (self.clock, self.clock + 0.5)
        number = sum(each.connection == connection for each in self.commands)
        command = Command(connection, number, kind, key, f"owner{connection}", invoked, version)
        if reply:
            command = replace(command, returned=returned, reply=reply)
        self.commands.append(command)
        return self

    def ends(self, after: State, before: State | None = None, **more: Any) -> History:
        return History(before or {}, self.commands, after, **more)


def held(connection: int, version: int, key: str = KEY) -> State:
    return {key: Hold(f"owner{connection}", version)}


def forged(history: History, match: str) -> None:
    with pytest.raises(Violation, match=match):
        check(history)


UNEXPLAINED = "no order of its commands explains"


class TestRight:
    def test_one_by_one(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 5).does(2, "ACQUIRE", "held", "owner1", 5)
        story.does(2, "RELEASE", "NOTOWNER", "owner1", 5).does(2, "GET", "info", "owner1", 5)
        story.does(1, "RENEW", "renewed", 5).does(1, "RENEW", "STALE", 5, version=4)
        story.does(1, "ACQUIRE", "granted", 5).does(1, "RELEASE", "released", version=5)
        story.does(1, "RELEASE", "NOTHELD").does(1, "GET", "nil")
        story.does(2, "ACQUIRE", "granted", 9).does(1, "BREAK", "broken").does(
            1, "BREAK", "NOTHELD"
        )
        check(story.ends({}))

    def test_nothing_at_all(self) -> None:
        check(Story().ends(held(1, 3), before=held(1, 3)))

    def test_overlapping_ones_in_either_order(self) -> None:
        for winner, other in ((1, 2), (2, 1)):
            story = Story().does(winner, "ACQUIRE", "granted", 7, at=(1.0, 5.0))
            story.does(other, "ACQUIRE", "held", f"owner{winner}", 7, at=(0.0, 4.0))
            check(story.ends(held(winner, 7)))

    def test_without_a_reply_it_happened_or_not(self) -> None:
        check(Story().does(1, "ACQUIRE").ends(held(1, 4)))
        check(Story().does(1, "ACQUIRE").ends({}))
        story = Story().does(1, "ACQUIRE", "granted", 4).does(1, "RELEASE")
        check(story.ends({}))
        check(story.ends(held(1, 4)))

    def test_without_a_reply_a_prefix_happened(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(1, "RELEASE").does(1, "ACQUIRE")
        check(story.ends(held(1, 4)))
        check(story.ends({}))
        check(story.ends(held(1, 6)))

    def test_a_grant_that_only_another_client_saw(self) -> None:
        story = Story().does(1, "ACQUIRE", at=(0.0, inf))
        story.does(2, "GET", "info", "owner1", 8)
        check(story.ends(held(1, 8)))


class TestForged:
    def test_a_lost_grant(self) -> None:
        forged(Story().does(1, "ACQUIRE", "granted", 4).ends({}), UNEXPLAINED)

    def test_a_release_that_came_back(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(1, "RELEASE", "released")
        forged(story.ends(held(1, 4)), UNEXPLAINED)

    def test_a_hold_of_an_earlier_life_that_is_gone(self) -> None:
        forged(Story().ends({}, before=held(1, 4)), UNEXPLAINED)

    def test_a_hold_from_nowhere(self) -> None:
        forged(Story().ends(held(1, 4)), UNEXPLAINED)

    def test_a_version_that_changed_over_a_restart(self) -> None:
        forged(Story().does(1, "ACQUIRE", "granted", 4).ends(held(1, 5)), UNEXPLAINED)

    def test_two_holders(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(2, "ACQUIRE", "granted", 5)
        forged(story.ends(held(2, 5)), "k was held twice: owner2 was told so")

    def test_a_read_from_the_past(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(2, "GET", "nil")
        forged(story.ends(held(1, 4)), UNEXPLAINED)

    def test_commands_of_one_connection_that_changed_places(self) -> None:
        story = Story().does(1, "RELEASE", "released", at=(0.0, 9.0))
        story.does(1, "ACQUIRE", "granted", 4, at=(0.0, 9.0))
        forged(story.ends({}), UNEXPLAINED)

    def test_a_later_one_without_an_earlier_one(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4)
        story.does(1, "RELEASE").does(1, "ACQUIRE").does(1, "RELEASE")
        check(story.ends({}))
        forged(story.ends(held(2, 6)), UNEXPLAINED)

    def test_a_release_of_another_version(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(1, "RELEASE", "released", version=3)
        forged(story.ends({}), UNEXPLAINED)

    def test_a_version_given_twice(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(2, "ACQUIRE", "granted", 4, key="l")
        forged(story.ends({**held(1, 4), **held(2, 4, "l")}), "version 4 is")

    def test_the_same_hold_twice_with_one_version(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(1, "RELEASE", "released")
        forged(story.does(1, "ACQUIRE", "granted", 4).ends(held(1, 4)), UNEXPLAINED)

    def test_a_version_that_falls(self) -> None:
        story = Story().does(1, "ACQUIRE", "granted", 4).does(2, "ACQUIRE", "granted", 3, key="l")
        forged(story.ends({**held(1, 4), **held(2, 3, "l")}), "was asked for after 4 had been")

    def test_a_version_of_an_earlier_life_given_anew(self) -> None:
        first = Story().does(1, "ACQUIRE", "granted", 4).does(1, "RELEASE", "released").ends({})
        check(first)
        life = next_life(first)
        life.commands = Story().does(2, "ACQUIRE", "granted", 4, key="l").commands
        life.after = held(2, 4, "l")
        forged(life, "version 4 is")

    def test_a_version_below_those_of_an_earlier_life(self) -> None:
        life = next_life(Story().does(1, "ACQUIRE", "granted", 4).ends(held(1, 4)))
        life.commands = Story().does(2, "ACQUIRE", "granted", 3, key="l").commands
        life.after = {**held(1, 4), **held(2, 3, "l")}
        forged(life, "not above 4")


class Table:
    """A lock table in a few lines, to make long histories with."""

    def __init__(self) -> None:
        self.holds: State = {}
        self.version = 0

    def run(self, each: Command) -> tuple[Any, ...]:
        hold = self.holds.get(each.key)
        mine = hold is not None and hold.owner == each.owner
        match each.kind:
            case "ACQUIRE" if hold is None:
                self.version += 1
                self.holds[each.key] = Hold(each.owner, self.version)
                return ("granted", self.version)
            case "ACQUIRE":
                return ("granted", hold.version) if mine else ("held", *hold)
            case "GET":
                return ("nil",) if hold is None else ("info", *hold)
            case _ if hold is None:
                return ("NOTHELD",)
            case "BREAK":
                del self.holds[each.key]
                return ("broken",)
            case _ if not mine:
                return ("NOTOWNER", *hold)
            case "RELEASE":
                del self.holds[each.key]
                return ("released",)
        return ("renewed", hold.version)


def simulated(seed: int) -> History:
    """Four connections on a table, their commands pipelined; at the end some replies are lost."""
    rng = random.Random(seed)
    table, clock = Table(), 0.0
    waiting: dict[int, list[Command]] = {number: [] for number in range(4)}
    counts = dict.fromkeys(waiting, 0)
    done: list[Command] = []
    for _ in range(400):
        clock += 1
        lane = rng.randrange(4)
        if not waiting[lane]:
            for _ in range(rng.choice([1, 1, 8])):
                kind = rng.choice(["ACQUIRE", "ACQUIRE", "RELEASE", "RENEW", "GET", "BREAK"])
                key, owner = rng.choice("abc"), f"owner{lane}"
                waiting[lane].append(Command(lane, counts[lane], kind, key, owner, clock))
                counts[lane] += 1
        each = waiting[lane].pop(0)
        reply = table.run(each)
        done.append(replace(each, returned=clock + rng.random() * 3, reply=reply))
    for lane, left in waiting.items():
        happened = rng.randrange(len(left) + 1)
        for each in left[:happened]:
            table.run(each)
        done += left
        if happened < len(left) or not left:
            continue
        last = max((each for each in done if each.connection == lane), key=lambda e: e.number)
        done.remove(last)
        done.append(replace(last, returned=inf, reply=None))
    return History({}, done, dict(table.holds))


NEVER = {
    "ACQUIRE": ("held", "nobody", 1),
    "GET": ("info", "nobody", 1),
    "RELEASE": ("NOTOWNER", "nobody", 1),
    "RENEW": ("STALE", 10**6),
}
"""Replies that are wrong whatever else happened."""
OTHERS = {
    "ACQUIRE": ("granted", 10**6),
    "GET": ("nil",),
    "RELEASE": ("released",),
    "RENEW": ("NOTHELD",),
    "BREAK": ("broken",),
}
"""Replies that are wrong nearly anywhere; commands that overlap can make one right."""


def is_forgery(history: History, place: int, reply: tuple[Any, ...]) -> bool:
    """Whether the checker notices another reply to one command."""
    commands = list(history.commands)
    commands[place] = replace(commands[place], reply=reply)
    try:
        check(History(history.before, commands, history.after))
    except Violation:
        return True
    return False


@pytest.mark.parametrize("seed", range(20))
def test_a_long_history_is_explained_and_its_forgeries_are_not(seed: int) -> None:
    history = simulated(seed)
    check(history)
    tried = noticed = 0
    for place, each in enumerate(history.commands):
        if each.reply is None:
            continue
        if place % 10 == 0 and each.kind in NEVER:
            assert is_forgery(history, place, NEVER[each.kind])
        if place % 10 == 5 and OTHERS[each.kind][0] != each.reply[0]:
            tried += 1
            noticed += is_forgery(history, place, OTHERS[each.kind])
    assert noticed > tried * 0.6
