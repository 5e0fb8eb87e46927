"""Taking a lock: what is sent, when it is sent again, and when it is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import exceptions

from resplock.client import DeadlockError
from resplock.client.trouble import Unsent
from tests.client.fakes import (
    CUT_OFF,
    IN_DOUBT,
    NO_LEADER,
    NOT_HELD,
    SILENCE,
    TIMED_OUT,
    VERSION,
    After,
    FakeLock,
    FakeRuntime,
    granted,
    held,
    refusal,
    renewed,
)

TRY = "LOCK.ACQUIRE lock me TTL 30000 REQUEST"
WAIT = "LOCK.ACQUIRE lock me TTL 30000 WAIT"
CANCEL = "LOCK.CANCEL lock me"
LEAVE = "LOCK.RELEASE lock me"
RENEW = f"LOCK.RENEW lock me VERSION {VERSION} TTL 30000"

Attempt = Callable[..., tuple[FakeRuntime, bool]]


def attempt(*answers: Any, **options: Any) -> tuple[FakeRuntime, bool]:
    runtime = FakeRuntime(*answers)
    return runtime, FakeLock(runtime, **options).acquire()


def failed_attempt(error: type[BaseException], *answers: Any, **options: Any) -> FakeRuntime:
    runtime = FakeRuntime(*answers, otherwise=NOT_HELD)
    with pytest.raises(error):
        FakeLock(runtime, **options).acquire()
    return runtime


class TestTry:
    def test_a_free_lock(self) -> None:
        runtime, got = attempt(granted(), blocking=False)
        assert got
        assert runtime.sent == [f"{TRY} r1"]

    def test_a_lock_that_is_held_is_refused_at_once(self) -> None:
        runtime, got = attempt(held(), blocking=False)
        assert not got
        assert len(runtime.sent) == 1

    def test_no_time_to_wait_is_a_try(self) -> None:
        runtime, got = attempt(held(), blocking_timeout=0)
        assert not got
        assert runtime.sent == [f"{TRY} r1"]

    @pytest.mark.parametrize("trouble", [NO_LEADER, IN_DOUBT, CUT_OFF, SILENCE, Unsent(CUT_OFF)])
    def test_trouble_sends_the_same_request_again(self, trouble: Any) -> None:
        answers = (trouble, trouble, granted(), renewed())
        runtime, got = attempt(*answers, blocking=False, patience=20.0)
        assert got
        assert runtime.sent[:3] == [f"{TRY} r1"] * 3

    def test_pauses_between_tries_grow(self) -> None:
        runtime, _ = attempt(*[NO_LEADER] * 8, granted(), blocking=False)
        assert runtime.slept == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]

    def test_trouble_that_lasts_is_raised(self) -> None:
        runtime = FakeRuntime(otherwise=NO_LEADER)
        with pytest.raises(exceptions.ClusterDownError, match="no leader"):
            FakeLock(runtime, blocking=False, patience=3.0).acquire()
        assert 2.0 < runtime.now - 1000 < 3.5

    def test_the_error_of_a_command_that_was_not_sent_is_the_one_raised(self) -> None:
        runtime = FakeRuntime(otherwise=Unsent(exceptions.ConnectionError("refused")))
        with pytest.raises(exceptions.ConnectionError, match="refused"):
            FakeLock(runtime, blocking=False).acquire()

    def test_what_may_have_been_taken_is_given_back_when_that_is_raised(self) -> None:
        runtime = FakeRuntime(*[IN_DOUBT] * 3, otherwise=NOT_HELD)
        with pytest.raises(exceptions.ResponseError, match="INDOUBT"):
            FakeLock(runtime, blocking=False, patience=0.1).acquire()
        assert runtime.sent[-1] == LEAVE

    @pytest.mark.parametrize(
        "error",
        [
            refusal("ERR LOCK.ACQUIRE: TTL must be an integer"),
            exceptions.AuthenticationError("invalid username-password pair"),
            Unsent(exceptions.AuthenticationError("invalid username-password pair")),
        ],
    )
    def test_a_refusal_for_good_is_raised_at_once(self, error: Exception) -> None:
        runtime = FakeRuntime(error)
        with pytest.raises((exceptions.ResponseError, exceptions.AuthenticationError)):
            FakeLock(runtime).acquire()
        assert len(runtime.sent) == 1


class TestQueue:
    def test_one_command_waits(self) -> None:
        runtime, got = attempt(After(2.0, granted()), blocking_timeout=5.0)
        assert got
        assert runtime.sent == [f"{WAIT} 5000 REQUEST r1"]

    def test_for_ever_is_the_longest_wait_there_is(self) -> None:
        runtime, _ = attempt(granted())
        assert runtime.sent == [f"{WAIT} 600000 REQUEST r1"]

    def test_it_is_heard_in_slices_and_keeps_its_place(self) -> None:
        """Each slice asks on another connection, with the same request and the rest of the wait."""
        runtime, got = attempt(
            SILENCE, SILENCE, After(4.0, granted()), renewed(), blocking_timeout=60.0
        )
        assert got
        assert runtime.sent[:3] == [
            f"{WAIT} 60000 REQUEST r1",
            f"{WAIT} 45000 REQUEST r1",
            f"{WAIT} 30000 REQUEST r1",
        ]
        assert runtime.slept == []

    def test_slices_without_end_are_no_trouble(self) -> None:
        runtime, got = attempt(*[SILENCE] * 50, granted(), renewed())
        assert got
        assert {words.split()[-1] for words in runtime.sent[:51]} == {"r1"}

    def test_time_runs_out(self) -> None:
        runtime, got = attempt(After(5.0, TIMED_OUT), blocking_timeout=5.0)
        assert not got
        assert len(runtime.sent) == 1

    def test_a_wait_that_was_cut_short_by_the_operator_is_over(self) -> None:
        """CLIENT UNBLOCK ... TIMEOUT."""
        _, got = attempt(After(5.0, TIMED_OUT), blocking_timeout=60.0)
        assert not got

    def test_the_longest_wait_is_followed_by_another(self) -> None:
        """Under a new request: the answer to the first is final."""
        runtime, got = attempt(After(600.0, TIMED_OUT), granted())
        assert got
        assert runtime.sent == [f"{WAIT} 600000 REQUEST r1", f"{WAIT} 600000 REQUEST r2"]

    @pytest.mark.parametrize("trouble", [CUT_OFF, IN_DOUBT, NO_LEADER])
    def test_a_failover_takes_the_place_back(self, trouble: Exception) -> None:
        runtime, got = attempt(
            After(2.0, trouble),
            After(1.0, trouble),
            After(1.0, granted()),
            renewed(),
            blocking_timeout=30,
        )
        assert got
        assert [words.split()[-1] for words in runtime.sent[:3]] == ["r1"] * 3
        assert [round(int(words.split()[6]), -1) for words in runtime.sent[:3]] == [
            30000,
            27980,
            26940,
        ]

    def test_silence_at_the_end_is_asked_about_once_more(self) -> None:
        """The answer to a wait may come late: a leader that is new gives time back."""
        runtime, got = attempt(SILENCE, TIMED_OUT, blocking_timeout=5.0)
        assert not got
        assert runtime.sent == [f"{WAIT} 5000 REQUEST r1", f"{WAIT} 1 REQUEST r1"]
        assert runtime.patience == [6.0, 1.001]

    def test_trouble_after_a_long_wait_is_new_trouble(self) -> None:
        """Patience counts from the first trouble, not from when the waiting began."""
        runtime, got = attempt(After(14.0, CUT_OFF), After(14.0, CUT_OFF), granted(), renewed())
        assert got
        assert runtime.slept == [0.02, 0.02]

    def test_silence_after_that_is_raised_and_the_place_given_up(self) -> None:
        runtime = failed_attempt(exceptions.TimeoutError, SILENCE, SILENCE, blocking_timeout=5.0)
        assert runtime.sent[2:] == [CANCEL, LEAVE]

    def test_a_full_queue_is_asked_again_with_a_new_request(self) -> None:
        runtime, got = attempt(refusal("QUEUEFULL the queue is full"), granted())
        assert got
        assert [words.split()[-1] for words in runtime.sent] == ["r1", "r2"]

    def test_unblocked(self) -> None:
        runtime = failed_attempt(exceptions.LockError, refusal("UNBLOCKED the wait was ended"))
        assert len(runtime.sent) == 1

    def test_deadlock(self) -> None:
        runtime = failed_attempt(DeadlockError, refusal("DEADLOCK 'a' waits for 'b'"))
        assert len(runtime.sent) == 1

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
    def test_an_interruption_gives_the_place_up(self, interruption: type[BaseException]) -> None:
        runtime = failed_attempt(interruption, After(3.0, interruption()))
        assert runtime.sent == [f"{WAIT} 600000 REQUEST r1", CANCEL, LEAVE]

    def test_giving_up_does_not_take_long_without_a_server(self) -> None:
        runtime = FakeRuntime(KeyboardInterrupt(), SILENCE, SILENCE)
        with pytest.raises(KeyboardInterrupt):
            FakeLock(runtime).acquire()
        assert runtime.now - 1000 <= 1.0

    def test_an_interruption_between_tries_gives_up_only_what_is_in_doubt(self) -> None:
        runtime = FakeRuntime(held(), After(0.0, KeyboardInterrupt()), otherwise=NOT_HELD)
        with pytest.raises(KeyboardInterrupt):
            FakeLock(runtime, queue=False).acquire()
        assert runtime.sent[2:] == [LEAVE], "no place was asked for"


class TestGrant:
    def test_a_wait_that_took_long_is_confirmed_before_it_counts(self) -> None:
        """Only the server knows when within the wait it was granted."""
        runtime = FakeRuntime(After(20.0, granted()), After(0.5, renewed()))
        lock = FakeLock(runtime, auto_renew=False)
        assert lock.acquire()
        assert runtime.sent[1] == RENEW
        assert lock.remaining == pytest.approx(30.0 - 0.5 - 0.602)

    def test_one_that_did_not_needs_no_second_round_trip(self) -> None:
        runtime = FakeRuntime(After(2.0, granted()))
        lock = FakeLock(runtime, auto_renew=False)
        assert lock.acquire()
        assert len(runtime.sent) == 1
        assert lock.remaining == pytest.approx(30.0 - 2.0 - 0.602)

    def test_a_grant_that_is_gone_when_it_is_confirmed_is_asked_for_anew(self) -> None:
        runtime, got = attempt(After(20.0, granted()), NOT_HELD, granted(9))
        assert got
        assert runtime.sent[2] == f"{WAIT} 600000 REQUEST r2"

    def test_a_replayed_grant_that_has_ended_is_asked_for_anew(self) -> None:
        runtime, got = attempt(CUT_OFF, {"status": "lost", "version": 5}, granted(9))
        assert got
        assert [words.split()[-1] for words in runtime.sent] == ["r1", "r1", "r2"]

    def test_trouble_while_it_is_confirmed(self) -> None:
        runtime, got = attempt(After(20.0, granted()), CUT_OFF, renewed())
        assert got
        assert runtime.sent[1:] == [RENEW, RENEW]

    def test_without_expiry_there_is_nothing_to_confirm(self) -> None:
        runtime, got = attempt(After(20.0, granted()), ttl=None)
        assert got
        assert runtime.sent == ["LOCK.ACQUIRE lock me TTL 0 WAIT 600000 REQUEST r1"]

    def test_resp2_and_decoded_replies_say_the_same(self) -> None:
        flat = [item for pair in granted().items() for item in pair]
        in_bytes = [item.encode() if isinstance(item, str) else item for item in flat]
        for reply in (flat, in_bytes, {**granted(), "status": "granted"}):
            _, got = attempt(reply)
            assert got


class TestWithoutTheQueue:
    def test_it_backs_off_as_advised(self) -> None:
        """The first pause is the advised one, then exponential up to the longest."""
        runtime, got = attempt(*[held()] * 6, granted(), queue=False)
        assert got
        assert runtime.slept == [0.1, 0.05, 0.1, 0.2, 0.4, 0.4]
        assert [words.split()[-1] for words in runtime.sent] == [f"r{n}" for n in range(1, 8)]

    def test_numbers_of_resp2_are_text(self) -> None:
        runtime, got = attempt(
            *[held(backoff_multiplier=b"2", backoff_jitter="0")] * 3, granted(), queue=False
        )
        assert got
        assert runtime.slept == [0.1, 0.05, 0.1]

    def test_the_callers_longest_pause_counts(self) -> None:
        runtime, _ = attempt(*[held()] * 3, granted(), queue=False, sleep=0.06)
        assert runtime.slept == [0.06, 0.05, 0.06]

    def test_it_does_not_sleep_past_the_end(self) -> None:
        runtime, got = attempt(*[held()] * 9, queue=False, blocking_timeout=0.2)
        assert not got
        assert runtime.now - 1000 <= 0.2
