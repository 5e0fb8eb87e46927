"""Holding a lock: renewals, its loss and its release."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from redis import exceptions

from resplock.client.hold import margin_s
from resplock.client.target import Several
from resplock.client.trouble import Unsent
from tests.client.fakes import (
    CUT_OFF,
    IN_DOUBT,
    NO_LEADER,
    NOT_HELD,
    NOT_OWNER,
    RELEASED,
    SILENCE,
    VERSION,
    After,
    FakeLock,
    FakeRuntime,
    granted,
    refusal,
    renewed,
)

RELEASE = f"LOCK.RELEASE lock me VERSION {VERSION}"


def renew(ttl_ms: int = 30_000) -> str:
    return f"LOCK.RENEW lock me VERSION {VERSION} TTL {ttl_ms}"


def holding(*answers: Any, otherwise: Any = None, **options: Any) -> FakeLock:
    """A lock that is held since now."""
    runtime = FakeRuntime(granted(), *answers, otherwise=otherwise)
    lock = FakeLock(runtime, **options)
    assert lock.acquire()
    runtime.calls.clear()
    return lock


class TestRenewal:
    def test_a_third_of_the_ttl_after_each(self) -> None:
        lock = holding(otherwise=renewed())
        lock.runtime.pass_time(45.0)
        assert lock.runtime.sent == [renew()] * 4
        assert lock.runtime.sent_at == [10.0, 20.0, 30.0, 40.0]
        assert not lock.lost

    def test_it_stops_with_the_lock(self) -> None:
        lock = holding(RELEASED, otherwise=renewed())
        lock.runtime.pass_time(5.0)
        lock.release()
        lock.runtime.pass_time(1000.0)
        assert lock.runtime.sent == [RELEASE]
        assert not lock.lost

    def test_no_alarm_is_left_of_it(self) -> None:
        lock = holding(RELEASED)
        lock.release()
        assert lock.runtime.alarms == 0

    def test_a_hold_that_another_one_follows_is_no_longer_renewed(self) -> None:
        """The same object takes the lock again: its first hold is forgotten."""
        lock = holding(granted(9), otherwise=renewed(version=9))
        lock.acquire()
        lock.runtime.calls.clear()
        lock.runtime.pass_time(35.0)
        assert lock.runtime.sent == ["LOCK.RENEW lock me VERSION 9 TTL 30000"] * 3

    def test_one_under_way_does_not_outlive_the_release(self) -> None:
        """It meets trouble, pauses, and finds that there is nothing to renew."""
        lock = holding(CUT_OFF, RELEASED, otherwise=renewed())
        lock.runtime.pass_time(10.01)
        lock.release()
        lock.runtime.pass_time(1000.0)
        assert lock.runtime.sent == [renew(), RELEASE]

    def test_none_without_auto_renew(self) -> None:
        lock = holding(auto_renew=False)
        lock.runtime.pass_time(1000.0)
        assert lock.runtime.sent == []
        assert lock.lost

    def test_none_without_expiry(self) -> None:
        lock = holding(ttl=None)
        lock.runtime.pass_time(10**6)
        assert lock.runtime.sent == []
        assert not lock.lost
        assert lock.remaining == float("inf")

    def test_a_longer_time_is_not_made_shorter(self) -> None:
        lock = holding(otherwise=renewed())
        lock.extend(100.0)
        lock.runtime.pass_time(150.0)
        extension, *renewals = lock.runtime.sent_at
        assert extension == 0.0
        assert renewals[0] == pytest.approx(130 - 20 - margin_s(30), abs=3)
        assert lock.runtime.sent[1:] == [renew()] * len(renewals)

    def test_nor_when_it_is_made_longer_while_a_renewal_meets_trouble(self) -> None:
        lock = holding(NO_LEADER, otherwise=renewed())
        lock.runtime.pass_time(10.0)
        lock.extend(100.0, replace_ttl=True)
        lock.runtime.pass_time(1.0)
        *_, last = lock.runtime.sent
        assert lock.runtime.sent[:2] == [renew(), renew(100_000)]
        assert int(last.split()[-1]) > 90_000

    @pytest.mark.parametrize("trouble", [CUT_OFF, IN_DOUBT, NO_LEADER, SILENCE, Unsent(CUT_OFF)])
    def test_trouble_is_tried_again(self, trouble: Any) -> None:
        lock = holding(trouble, trouble, otherwise=renewed())
        lock.runtime.pass_time(100.0)
        assert not lock.lost

    def test_one_try_leaves_time_for_others(self) -> None:
        lock = holding(otherwise=SILENCE, ttl=12.0)
        lock.runtime.pass_time(100.0)
        assert set(lock.runtime.patience) == {2.0}
        assert len(lock.runtime.sent) >= 3

    def test_an_error_that_would_be_final_for_a_caller_is_tried_again(self) -> None:
        lock = holding(refusal("NOAUTH authentication required"), otherwise=renewed())
        lock.runtime.pass_time(100.0)
        assert not lock.lost


class TestLoss:
    @pytest.mark.parametrize("word", [NOT_HELD, NOT_OWNER, refusal("STALE another version")])
    def test_the_server_says_so(self, word: Exception) -> None:
        lock = holding(otherwise=word)
        seen: list[Any] = []
        lock.on_lost(seen.append)
        lock.runtime.pass_time(10.0)
        assert lock.lost
        assert seen == [lock.lost]
        assert lock.lost.reason == str(word)
        assert lock.lost.version == VERSION
        lock.runtime.pass_time(100.0)
        assert len(seen) == 1, "once"
        assert len(lock.runtime.sent) == 1, "no renewal after that"

    @pytest.mark.parametrize("trouble", [CUT_OFF, IN_DOUBT, NO_LEADER, SILENCE])
    def test_the_local_deadline_passes_without_a_renewal(self, trouble: Any) -> None:
        lock = holding(otherwise=trouble)
        when: list[float] = []
        lock.on_lost(lambda _: when.append(lock.runtime.now - 1000))
        lock.runtime.pass_time(60.0)
        assert lock.lost
        assert len(when) == 1
        assert 25.0 < when[0] <= 30.0 - margin_s(30.0)

    def test_a_program_that_was_paused_knows_at_its_first_look(self) -> None:
        lock = holding(otherwise=renewed())
        lock.runtime.freeze(29.0)
        assert not lock.lost
        lock.runtime.freeze(0.5)
        assert lock.lost, "although no alarm has rung"
        assert lock.runtime.sent == []

    def test_it_stays_lost(self) -> None:
        """Also when a renewal that was under way comes back with good news."""
        lock = holding(After(25.0, renewed()))
        lock.runtime.pass_time(100.0)
        assert lock.lost
        assert lock.lost.reason == "it was not renewed in time"

    def test_the_deadline_counts_from_the_sending(self) -> None:
        lock = holding(After(4.0, renewed()), auto_renew=False)
        lock.runtime.pass_time(10.0)
        lock.reacquire()
        assert lock.remaining == pytest.approx(30.0 - 4.0 - margin_s(30.0))

    def test_the_version_stays_until_the_release(self) -> None:
        """Writes with it are refused by whoever checks versions, as they should be."""
        lock = holding(otherwise=NOT_HELD)
        lock.runtime.pass_time(10.0)
        assert lock.version == VERSION
        with pytest.raises(exceptions.LockNotOwnedError):
            lock.release()
        assert lock.version is None

    def test_each_hold_is_lost_for_itself(self) -> None:
        lock = holding(NOT_HELD, NOT_HELD, granted(9), NOT_OWNER)
        seen: list[Any] = []
        lock.on_lost(lambda lost: seen.append(lost.version))
        lock.runtime.pass_time(10.0)
        first = lock.lost
        with pytest.raises(exceptions.LockNotOwnedError):
            lock.release()
        lock.acquire()
        assert first
        assert not lock.lost
        lock.runtime.pass_time(10.0)
        assert lock.lost
        assert seen == [VERSION, 9]

    def test_before_any_hold_nothing_is_lost(self) -> None:
        lock = FakeLock(FakeRuntime())
        assert not lock.lost
        assert (lock.lost.name, lock.lost.version, lock.lost.reason) == (None, None, None)
        assert (lock.version, lock.token, lock.remaining) == (None, None, 0.0)


class TestRelease:
    def test_it_names_its_version(self) -> None:
        lock = holding(RELEASED)
        lock.release()
        assert lock.runtime.sent == [RELEASE]

    def test_without_a_hold(self) -> None:
        lock = holding(RELEASED)
        lock.release()
        with pytest.raises(exceptions.LockError, match="not owned or is already unlocked"):
            lock.release()

    @pytest.mark.parametrize("word", [NOT_HELD, NOT_OWNER])
    def test_of_a_hold_that_is_gone(self, word: Exception) -> None:
        lock = holding(word)
        with pytest.raises(exceptions.LockNotOwnedError, match="no longer owned"):
            lock.release()

    @pytest.mark.parametrize("word", [NOT_HELD, NOT_OWNER])
    @pytest.mark.parametrize("trouble", [CUT_OFF, IN_DOUBT, SILENCE])
    def test_again_after_a_lost_reply(self, trouble: Any, word: Exception) -> None:
        """The first one has done it."""
        lock = holding(trouble, word)
        lock.release()
        assert lock.runtime.sent == [RELEASE, RELEASE]

    @pytest.mark.parametrize("trouble", [NO_LEADER, Unsent(CUT_OFF)])
    def test_again_after_one_that_was_not_carried_out(self, trouble: Exception) -> None:
        lock = holding(trouble, NOT_HELD)
        with pytest.raises(exceptions.LockNotOwnedError):
            lock.release()

    def test_trouble_that_lasts_is_raised(self) -> None:
        lock = holding(otherwise=CUT_OFF)
        with pytest.raises(exceptions.ConnectionError):
            lock.release()
        assert lock.version is None

    def test_after_the_loss_it_is_released_all_the_same(self) -> None:
        lock = holding(RELEASED, auto_renew=False)
        lock.runtime.freeze(29.5)
        with pytest.raises(exceptions.LockNotOwnedError, match="not renewed in time"):
            lock.release()
        assert lock.runtime.sent == [RELEASE], "the server may have it for another moment"

    def test_after_the_loss_it_does_not_take_long(self) -> None:
        lock = holding(otherwise=SILENCE, auto_renew=False)
        lock.runtime.freeze(29.5)
        before = lock.runtime.now
        with pytest.raises(exceptions.LockNotOwnedError):
            lock.release()
        assert lock.runtime.now - before <= 1.0

    def test_leaving_the_block_raises(self) -> None:
        lock = holding(NOT_HELD)
        with pytest.raises(exceptions.LockNotOwnedError):
            lock.leave()

    def test_or_logs(self, caplog: pytest.LogCaptureFixture) -> None:
        lock = holding(NOT_HELD, raise_on_release_error=False)
        with caplog.at_level(logging.WARNING):
            lock.leave()
        assert "no longer owned" in caplog.text


class TestExtend:
    def test_it_adds_to_what_is_left(self) -> None:
        lock = holding(renewed(), auto_renew=False)
        lock.runtime.pass_time(10.0)
        assert lock.extend(5.0) is True
        assert lock.runtime.sent == [renew(round((30 - 10 + 5 - margin_s(30)) * 1000))]

    def test_or_replaces_it(self) -> None:
        lock = holding(renewed(), auto_renew=False)
        assert lock.extend(5.0, replace_ttl=True) is True
        assert lock.runtime.sent == [renew(5000)]
        assert lock.remaining == pytest.approx(5.0 - margin_s(5.0))

    def test_reacquire_sets_the_whole_ttl(self) -> None:
        lock = holding(renewed(), auto_renew=False)
        lock.runtime.pass_time(10.0)
        assert lock.reacquire() is True
        assert lock.runtime.sent == [renew(30_000)]

    @pytest.mark.parametrize("method", ["extend", "reacquire"])
    def test_a_hold_that_is_gone(self, method: str) -> None:
        lock = holding(NOT_OWNER)
        with pytest.raises(exceptions.LockNotOwnedError, match="no longer owned"):
            lock.extend(1.0) if method == "extend" else lock.reacquire()
        assert lock.lost

    @pytest.mark.parametrize("method", ["extend", "reacquire"])
    def test_no_hold_and_no_ttl(self, method: str) -> None:
        for lock in (FakeLock(FakeRuntime()), holding(ttl=None)):
            with pytest.raises(exceptions.LockError, match=r"unlocked lock|with no timeout"):
                lock.extend(1.0) if method == "extend" else lock.reacquire()

    def test_a_wrong_command_is_raised_and_loses_nothing(self) -> None:
        lock = holding(refusal("ERR LOCK.RENEW: TTL must be at most 86400000"))
        with pytest.raises(exceptions.ResponseError, match="TTL must be"):
            lock.extend(10**6)
        assert not lock.lost

    def test_a_shorter_ttl_in_doubt_counts_until_the_end(self) -> None:
        """A command that was sent and never answered may be carried out after a later one."""
        lock = holding(SILENCE, renewed(), renewed(), auto_renew=False)
        lock.reacquire()
        lock.extend(100.0)
        assert lock.remaining <= 30.0


class TestLooking:
    def test_locked(self) -> None:
        assert holding({"owner": b"you"}).locked()
        assert holding({"holders": [["a", 1]], "owner": None}).locked()
        assert not holding({"owner": None, "waiter_count": 1}).locked()
        assert not holding(None).locked()

    def test_owned_asks_whether_the_version_counts(self) -> None:
        lock = holding(1, 0)
        assert lock.owned()
        assert lock.runtime.sent == [f"LOCK.CHECK lock {VERSION}"]
        assert not lock.owned()

    def test_what_was_lost_is_not_owned(self) -> None:
        lock = holding(auto_renew=False)
        lock.runtime.freeze(30.0)
        assert not lock.owned()
        assert lock.runtime.sent == []

    def test_trouble_is_tried_again(self) -> None:
        assert holding(CUT_OFF, NO_LEADER, 1).owned()


class TestSeveral:
    TARGET = Several(("a", "b"))

    def test_all_in_one_command(self) -> None:
        lock = FakeLock(FakeRuntime(granted(), RELEASED, RELEASED), self.TARGET)
        lock.acquire()
        lock.release()
        assert lock.runtime.sent == [
            "LOCK.MACQUIRE 2 a b me TTL 30000 WAIT 600000 REQUEST r1",
            f"LOCK.RELEASE a me VERSION {VERSION}",
            f"LOCK.RELEASE b me VERSION {VERSION}",
        ]

    def test_one_that_is_gone_is_the_loss_of_all(self) -> None:
        lock = FakeLock(FakeRuntime(granted(), [], [b"b"]), self.TARGET)
        lock.acquire()
        lock.runtime.pass_time(10.0)
        assert not lock.lost
        assert lock.runtime.sent[1] == (
            f"LOCK.KEEPALIVE me TTL 30000 VERSIONS 2 a {VERSION} b {VERSION}"
        )
        lock.runtime.pass_time(10.0)
        assert lock.lost.reason == "lost b"

    def test_the_others_are_released_all_the_same(self) -> None:
        lock = FakeLock(FakeRuntime(granted(), NOT_HELD, RELEASED), self.TARGET)
        lock.acquire()
        with pytest.raises(exceptions.LockNotOwnedError):
            lock.release()
        assert len(lock.runtime.sent) == 3
