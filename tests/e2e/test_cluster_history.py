"""The checker of histories with what only a cluster's have: unknown fates, refusals, and holds that end
by themselves. The rest of it is tested in test_history.py."""

from __future__ import annotations

import random
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from tests.e2e import history
from tests.e2e.history import Command, History, Hold, State, Undecided, Violation, check, next_life

KEY = "k"
TTL_S = 10.0
UNKNOWN = ("unknown",)
REFUSED = ("refused", "CLUSTERDOWN")
UNEXPLAINED = "no order of its commands explains"
TWICE = "was held twice"


class Story:
    """Commands with their times, in the order in which each client sends them."""

    def __init__(self, ttl: float = inf) -> None:
        self.commands: list[Command] = []
        self.ttl = ttl

    def at(
        self,
        invoked: float,
        client: int,
        kind: str,
        *reply: Any,
        until: float | None = None,
        key: str = KEY,
        version: int = 0,
        ttl: float | None = None,
    ) -> Story:
        """`client` sends a command as `ownerN`; the reply is there half a second later, or `until`."""
        number = sum(each.connection == client for each in self.commands)
        returned = invoked + 0.5 if until is None else until
        if reply == UNKNOWN:
            returned = inf
        self.commands.append(
            Command(
                client,
                number,
                kind,
                key,
                f"owner{client}",
                invoked,
                version,
                returned,
                reply,
                self.ttl if ttl is None else ttl,
            )
        )
        return self

    def ends(self, after: State, before: State | None = None, **more: Any) -> History:
        return History(before or {}, self.commands, after, **more)


def held(client: int, version: int, key: str = KEY, until: float = inf) -> State:
    return {key: Hold(f"owner{client}", version, until)}


def forged(found: History, match: str) -> None:
    with pytest.raises(Violation, match=match):
        check(found)


class TestUnknownFates:
    """What was sent and not answered, or answered -INDOUBT."""

    def test_it_happened_or_not(self) -> None:
        check(Story().at(1, 1, "ACQUIRE", *UNKNOWN).ends(held(1, 4)))
        check(Story().at(1, 1, "ACQUIRE", *UNKNOWN).ends({}))

    def test_later_commands_of_the_client_do_not_wait_for_it(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", *UNKNOWN).at(2, 1, "GET", "nil")
        check(story.at(3, 2, "GET", "info", "owner1", 7).ends(held(1, 7)))

    def test_of_a_pipeline_the_second_may_happen_without_the_first(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4)
        story.at(2, 1, "RELEASE", *UNKNOWN).at(2, 1, "ACQUIRE", *UNKNOWN)
        check(story.ends(held(1, 4)))
        check(story.ends({}))
        check(story.ends(held(1, 6)))

    def test_it_happens_at_most_once(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, 1, "RELEASE", *UNKNOWN)
        story.at(3, 2, "ACQUIRE", "granted", 5).at(4, 2, "RELEASE", "released")
        story.at(5, 1, "ACQUIRE", "granted", 6).at(6, 2, "GET", "nil")
        forged(story.ends({}), UNEXPLAINED)

    def test_the_version_is_of_when_it_happened(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", *UNKNOWN).at(2, 2, "ACQUIRE", "granted", 9, key="l")
        story.at(3, 1, "ACQUIRE", "granted", 4)
        check(story.ends({**held(1, 4), **held(2, 9, "l")}))

    def test_not_before_it_was_sent(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4)
        story.at(2, 2, "GET", "nil").at(3, 1, "RELEASE", *UNKNOWN)
        forged(story.ends({}), UNEXPLAINED)

    def test_a_grant_that_nobody_asked_for(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", *UNKNOWN)
        forged(story.ends(held(2, 4)), UNEXPLAINED)

    def test_a_question_without_an_answer_explains_nothing(self) -> None:
        story = Story().at(1, 1, "GET", *UNKNOWN).at(2, 2, "GET", "nil")
        check(story.ends({}))
        forged(story.ends(held(1, 4)), UNEXPLAINED)

    def test_a_release_of_an_older_hold_does_not_end_a_newer_one(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, 2, "BREAK", "broken")
        story.at(3, 1, "ACQUIRE", "granted", 5).at(4, 1, "RELEASE", *UNKNOWN, version=4)
        forged(story.ends({}), UNEXPLAINED)


class TestRefusals:
    """Errors that promise that nothing was done."""

    @pytest.mark.parametrize("kind", ["ACQUIRE", "RELEASE", "RENEW", "BREAK", "GET"])
    def test_it_had_no_effect(self, kind: str) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, 1, kind, *REFUSED)
        check(story.ends(held(1, 4)))

    def test_an_acquire_that_took_effect(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", *REFUSED).at(2, 2, "GET", "info", "owner1", 4)
        forged(story.ends(held(1, 4)), UNEXPLAINED)

    def test_a_release_that_took_effect(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, 1, "RELEASE", *REFUSED)
        forged(story.ends({}), UNEXPLAINED)


class TestEnds:
    """Holds with a TTL of ten seconds."""

    def test_from_the_last_moment_that_was_promised(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).at(10.8, 2, "GET", "nil")
        check(story.ends({}))
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).at(11, 2, "ACQUIRE", "granted", 5)
        check(story.ends(held(2, 5)))

    def test_it_may_last_longer(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4)
        check(story.at(99, 2, "ACQUIRE", "held", "owner1", 4).ends(held(1, 4)))
        check(story.ends({}, looked=100))

    def test_too_soon(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).at(10.4, 2, "GET", "nil")
        forged(story.ends({}), UNEXPLAINED)

    def test_too_soon_for_another_to_be_granted_it(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).at(9, 2, "ACQUIRE", "granted", 5)
        forged(story.ends(held(2, 5)), TWICE)

    def test_too_soon_in_what_was_found(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4)
        check(story.ends({}, looked=11.1))
        forged(story.ends({}, looked=10.9), UNEXPLAINED)

    def test_a_renewal_moves_it(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).at(9, 1, "RENEW", "renewed", 4)
        forged(story.ends({}, looked=18.9), UNEXPLAINED)
        check(story.ends({}, looked=19.1))
        story.at(18, 2, "ACQUIRE", "granted", 5)
        forged(story.ends(held(2, 5)), TWICE)

    def test_a_renewal_can_shorten_it(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4)
        story.at(2, 1, "RENEW", "renewed", 4, ttl=1).at(5, 2, "ACQUIRE", "granted", 5)
        check(story.ends(held(2, 5)))

    def test_asking_again_never_shortens_it(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4)
        story.at(2, 1, "ACQUIRE", "granted", 4, ttl=1).at(5, 2, "ACQUIRE", "granted", 5)
        forged(story.ends(held(2, 5)), TWICE)

    def test_a_renewal_of_an_unknown_fate_may_have_shortened_it(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4)
        story.at(2, 1, "RENEW", *UNKNOWN, ttl=1).at(5, 2, "ACQUIRE", "granted", 5)
        check(story.ends(held(2, 5)))

    def test_a_renewal_of_what_had_ended(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).at(12, 2, "GET", "nil")
        story.at(13, 1, "RENEW", "renewed", 4)
        forged(story.ends(held(1, 4)), UNEXPLAINED)

    def test_nothing_happens_before_an_end_that_was_seen(self) -> None:
        """What returned at 5 cannot have happened after the end of 11 that another reply needs."""
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4)
        story.at(2, 2, "ACQUIRE", "granted", 5, until=12).at(3, 3, "GET", "info", "owner2", 5)
        forged(story.ends(held(2, 5)), UNEXPLAINED)

    def test_a_hold_of_an_earlier_stretch(self) -> None:
        before = held(1, 4, until=20)
        check(Story(TTL_S).at(21, 2, "GET", "nil").ends({}, before))
        forged(Story(TTL_S).at(18, 2, "GET", "nil").ends({}, before), UNEXPLAINED)

    def test_a_stretch_goes_on_with_what_was_found(self) -> None:
        first = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4).ends(held(1, 4, until=11))
        check(first)
        second = next_life(first)
        second.commands = Story(TTL_S).at(9, 2, "ACQUIRE", "granted", 5).commands
        second.after = held(2, 5)
        forged(second, UNEXPLAINED)


class TestHeldTwice:
    def test_an_end_that_may_have_come_first(self) -> None:
        for end in ("RELEASE", "BREAK"):
            client = 1 if end == "RELEASE" else 3
            story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, client, end, *UNKNOWN)
            check(story.at(3, 2, "ACQUIRE", "granted", 5).ends(held(2, 5)))

    def test_a_refused_end_is_none(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, 1, "RELEASE", *REFUSED)
        forged(story.at(3, 2, "ACQUIRE", "granted", 5).ends(held(2, 5)), TWICE)

    def test_the_longest_hold_so_far_counts(self) -> None:
        story = Story(TTL_S).at(1, 1, "ACQUIRE", "granted", 4, ttl=50)
        story.at(2, 2, "ACQUIRE", "granted", 5, ttl=1).at(40, 3, "ACQUIRE", "granted", 6)
        forged(story.ends(held(3, 6)), TWICE)

    def test_of_two_keys_each_has_its_holder(self) -> None:
        story = Story().at(1, 1, "ACQUIRE", "granted", 4).at(2, 2, "ACQUIRE", "granted", 5, key="l")
        check(story.ends({**held(1, 4), **held(2, 5, "l")}))


def test_a_search_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STATES_MAX", 100)
    story = Story()
    for client in range(12):
        story.at(1, client, "ACQUIRE", *UNKNOWN)
    for _ in range(12):
        story.at(2, 20, "GET", "nil", until=9)
    with pytest.raises(Undecided, match="gave up after 100 states"):
        check(story.at(10, 20, "BREAK", "NOTHELD").ends(held(30, 5)))


class Table:
    """A lock table with TTLs in a few lines, to make long histories with."""

    def __init__(self) -> None:
        self.holds: State = {}
        self.version = 0

    def run(self, each: Command, now: float) -> tuple[Any, ...]:
        for key in [key for key, hold in self.holds.items() if hold.until <= now]:
            del self.holds[key]
        hold, until = self.holds.get(each.key), now + each.ttl
        mine = hold is not None and hold.owner == each.owner
        match each.kind:
            case "ACQUIRE" if hold is None:
                self.version += 1
                self.holds[each.key] = Hold(each.owner, self.version, until)
                return ("granted", self.version)
            case "ACQUIRE" if mine:
                self.holds[each.key] = hold._replace(until=max(hold.until, until))
                return ("granted", hold.version)
            case "ACQUIRE":
                return ("held", hold.owner, hold.version)
            case "GET":
                return ("nil",) if hold is None else ("info", hold.owner, hold.version)
            case _ if hold is None:
                return ("NOTHELD",)
            case "BREAK":
                del self.holds[each.key]
                return ("broken",)
            case _ if not mine:
                return ("NOTOWNER", hold.owner, hold.version)
            case "RELEASE":
                del self.holds[each.key]
                return ("released",)
        self.holds[each.key] = hold._replace(until=until)
        return ("renewed", hold.version)


KINDS = ("ACQUIRE", "ACQUIRE", "ACQUIRE", "RELEASE", "RENEW", "GET", "BREAK")
TTLS = {"a": inf, "b": 8.0, "c": 30.0}


def simulated(seed: int) -> History:
    """Five clients on one table, in virtual seconds. Some commands are refused; of others nobody
    learns what became of them, and they take effect at once, or much later, or never."""
    rng, table, now = random.Random(seed), Table(), 0.0
    done: list[Command] = []
    late: list[tuple[float, Command]] = []
    counts = [0] * 5
    for _ in range(400):
        now += rng.random()
        client, key = rng.randrange(5), rng.choice("abc")
        each = Command(
            client, counts[client], rng.choice(KINDS), key, f"owner{client}", now, ttl=TTLS[key]
        )
        counts[client] += 1
        now += rng.random()
        for due, command in sorted(late, key=lambda pair: pair[0]):
            if due <= now:
                table.run(command, now)
                late.remove((due, command))
        fate = rng.random()
        if fate < 0.06:
            done.append(replace(each, reply=UNKNOWN))
            if rng.random() < 0.7:
                late.append((now + rng.choice([0, 0, 5, 20]), each))
        elif fate < 0.1:
            done.append(replace(each, reply=REFUSED, returned=now))
        else:
            reply = table.run(each, now)
            done.append(replace(each, reply=reply, returned=now + rng.random()))
        now = max(now, done[-1].returned if done[-1].reply != UNKNOWN else now)
    for _, command in late:
        table.run(command, now)
    table.run(Command(9, 0, "GET", "a", "", now), now)
    return History({}, done, dict(table.holds), looked=now)


OTHERS = {
    "granted": ("held", "nobody", 1),
    "held": ("granted", 10**6),
    "released": ("NOTOWNER", "nobody", 1),
    "renewed": ("STALE", 10**6),
    "info": ("info", "nobody", 1),
    "nil": ("info", "nobody", 1),
    "broken": ("NOTHELD",),
    "NOTHELD": ("released",),
    "NOTOWNER": ("released",),
}
"""For each reply one that it could be mistaken for."""


@pytest.mark.parametrize("seed", range(10))
def test_a_long_history_is_explained_and_its_forgeries_are_not(seed: int) -> None:
    found = simulated(seed)
    check(found)
    tried = noticed = 0
    for place in range(0, len(found.commands), 12):
        each = found.commands[place]
        if each.reply is None or each.reply[0] not in OTHERS:
            continue
        forgery = list(found.commands)
        forgery[place] = replace(each, reply=OTHERS[each.reply[0]])
        tried += 1
        try:
            check(History({}, forgery, found.after, looked=found.looked))
        except Violation:
            noticed += 1
    assert noticed > tried * 0.7
