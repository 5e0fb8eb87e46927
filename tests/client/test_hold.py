"""A hold by itself: its deadline, and that it ends once, in one way."""

from __future__ import annotations

import pytest

from resplock.client.hold import Hold, margin_s
from tests.client.fakes import FakeRuntime


class Ends:
    """A hold of 10 seconds that was asked for a second ago, and how often it was over."""

    def __init__(self, ttl_s: float = 10.0) -> None:
        self.runtime = FakeRuntime()
        self.count = 0
        self.hold = Hold(
            title="lock",
            token=b"me",
            version=7,
            ttl_s=ttl_s,
            sent_at=self.runtime.now - 1.0,
            clock=self.runtime.clock,
            mutex=self.runtime.mutex(),
        )
        self.hold.when_over = self.over

    def over(self) -> None:
        self.count += 1


def test_it_certainly_lasts_from_the_sending() -> None:
    assert Ends().hold.remaining_s == pytest.approx(9.0 - margin_s(10.0))


def test_it_is_lost_once() -> None:
    ends = Ends()
    ends.hold.lose("first")
    ends.hold.lose("second")
    ends.runtime.freeze(100.0)
    assert ends.hold.is_lost
    assert (ends.count, ends.hold.reason) == (1, "first")


def test_what_was_given_back_cannot_be_lost() -> None:
    ends = Ends()
    ends.hold.end()
    ends.hold.lose("late")
    ends.runtime.freeze(100.0)
    assert not ends.hold.is_lost
    assert not ends.hold.is_held
    assert (ends.count, ends.hold.reason) == (1, None)


def test_what_was_lost_cannot_be_given_back() -> None:
    ends = Ends()
    ends.hold.lose("first")
    ends.hold.end()
    assert ends.hold.is_lost


def test_a_look_at_the_clock_is_enough() -> None:
    ends = Ends()
    ends.runtime.freeze(9.0)
    assert ends.hold.is_lost
    assert ends.count == 1


def test_without_expiry_there_is_no_deadline() -> None:
    ends = Ends(ttl_s=0.0)
    ends.runtime.freeze(10**9)
    assert ends.hold.is_held
    assert ends.hold.renew_at == float("inf")
