"""Taking a lock: one logical attempt, through lost replies, failovers and long waits.

Pure: see `effects`. In the queue, one REQUEST id stands for one attempt, however often it has to be
sent. The server keeps the place of a client that went away for some seconds, and gives it back to the
same token and REQUEST, with the grant if it was made meanwhile. So a wait is heard in slices: after
each the connection is given up and the same request is sent on another one. An answer that is final
(refused, timed out) is remembered under its REQUEST: what comes after it is a new one.

Invariant: whoever stops waiting without an answer, for whatever reason, gives up the place and a grant
that may have been made.
"""

from __future__ import annotations

import math

import msgspec
from redis.exceptions import LockError, TimeoutError

from resplock import limits
from resplock.client.effects import Call, Sleep, Steps, Words
from resplock.client.pauses import AdvisedPauses, TroublePauses
from resplock.client.settings import ANSWER_S, SLICE_S, Settings, Surroundings
from resplock.client.target import AnyTarget, Ask, Fields, fields
from resplock.client.trouble import TROUBLE, Verdict, cause_of, judge

_WAIT_LEAST_S = 0.001
"""What is asked for when the time is over and the last answer is missing."""
_SLACK_S = 1.0
"""How much later than its wait ends an answer may come."""
_CONFIRMED_AFTER_PART = 0.1
"""Of the TTL. A grant that may be older than this is renewed once before it is relied on: nobody but
the server knows when within a wait it was made."""
_FAREWELL_S = 1.0
"""How long it may take to give up a place."""


class DeadlockError(LockError):
    """Waiting would close a cycle of owners that wait for each other. The text names it."""


class Grant(msgspec.Struct, frozen=True):
    """What was taken. sent_at: on the clock, a moment before the TTL began to count."""

    version: int
    sent_at: float
    ttl_ms: int


class Acquiring:
    """One call of `acquire`."""

    def __init__(
        self,
        target: AnyTarget,
        token: bytes,
        settings: Settings,
        surroundings: Surroundings,
        *,
        until: float,
    ) -> None:
        """until: on the clock, when to stop waiting; a try has to be answered, however late it is."""
        self._target = target
        self._token = token
        self._settings = settings
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._until = until
        self._blocks = settings.blocking and until > self._clock()
        self._waits = self._blocks and settings.queues
        self._advised = AdvisedPauses(surroundings.rng, settings.pause_most_s)
        self._new_request()

    def steps(self) -> Steps[Grant | None]:
        """The grant, or None when it was not had in time.

        Raises LockError (DeadlockError among them) when the wait was ended, and what redis-py raises
        when the command is refused or no server has answered for `patience_s`.
        """
        try:
            return (yield from self._ask_until_answered())
        except GeneratorExit:
            raise
        except BaseException:
            if self._in_doubt:
                yield from self._give_up()
            raise

    def _ask_until_answered(self) -> Steps[Grant | None]:
        while True:
            reply = yield from self._ask()
            match reply["status"]:
                case "granted":
                    if grant := (yield from self._confirmed(reply)):
                        return grant
                    self._new_request()
                case "lost":
                    self._new_request()
                case "held":
                    if not (yield from self._pause_as_advised(reply)):
                        return None
                    self._new_request()
                case _:
                    if not self._may_go_on_after_timeout:
                        return None
                    self._new_request()

    # --- one request -----------------------------------------------------------------------------

    def _new_request(self) -> None:
        self._request = self._surroundings.new_id()
        self._first_sent_at = math.nan
        self._in_doubt = False
        """Whether a place or a hold may be there that no answer has told of."""

    def _ask(self) -> Steps[Fields]:
        """Send the request until there is an answer."""
        pauses = self._trouble_pauses()
        while True:
            began = self._clock()
            try:
                reply = yield (call := self._call(began))
            except TROUBLE as error:
                if self._is_quiet(error, call, began):
                    pauses.reset()
                    continue
                if self._clock() - began > ANSWER_S:
                    pauses.reset()  # this wait was going well until now
                yield from self._get_over(error, pauses)
            else:
                self._in_doubt = False
                return fields(reply)

    def _call(self, now: float) -> Call:
        wait_s = self._wait_s(now)
        if math.isnan(self._first_sent_at):
            self._first_sent_at = now
        wait_ms = math.ceil(wait_s * 1000)
        self._asked_until = now + wait_s
        self._in_doubt = True  # until there is an answer, also when this thread is interrupted
        ask = Ask(self._token, self._settings.ttl_ms, self._request, wait_ms)
        patience_s = min(wait_s + _SLACK_S, SLICE_S) if wait_s else ANSWER_S
        return Call(self._target.acquire(ask), patience_s, waits=bool(wait_s))

    def _wait_s(self, now: float) -> float:
        """How long the server shall keep the place: until the end, for the slices only are short."""
        if not self._waits:
            return 0.0
        return min(max(self._until - now, _WAIT_LEAST_S), limits.WAIT_MS_MAX / 1000)

    def _is_quiet(self, error: Exception, call: Call, began: float) -> bool:
        """Whether a slice of a wait has passed without an answer, as most do: that is no trouble."""
        return (
            isinstance(error, TimeoutError)
            and call.waits
            and began < self._until
            and self._clock() - began > call.patience_s * 0.9
        )

    def _trouble_pauses(self) -> TroublePauses:
        return TroublePauses(self._surroundings.rng, patience_s=self._settings.patience_s)

    def _get_over(self, error: Exception, pauses: TroublePauses) -> Steps[None]:
        """Pause, so that the request is sent again; or raise the error."""
        cause = cause_of(error)
        match judge(error):
            case Verdict.NOTHING_DONE | Verdict.IN_DOUBT:
                pass
            case Verdict.QUEUE_FULL:
                self._new_request()
            case Verdict.DEADLOCK:
                self._in_doubt = False
                raise DeadlockError(str(cause), self._target.title) from cause
            case Verdict.UNBLOCKED:
                self._in_doubt = False
                raise LockError(
                    "The wait was ended by CLIENT UNBLOCK", self._target.title
                ) from cause
            case _:
                self._in_doubt = False
                raise cause
        now = self._clock()
        pause_s = pauses.next_s(now)
        if pause_s == math.inf or now + pause_s >= self._last_try_at:
            raise cause
        yield Sleep(pause_s)

    @property
    def _last_try_at(self) -> float:
        """A try has no end of its own, only patience has."""
        return self._until if self._blocks else math.inf

    # --- its answers -----------------------------------------------------------------------------

    def _confirmed(self, reply: Fields) -> Steps[Grant | None]:
        """The grant with a moment from which its TTL certainly counts; None if it has ended."""
        version, ttl_ms = int(reply["version"]), self._settings.ttl_ms
        age_s = self._clock() - self._first_sent_at
        if not ttl_ms or age_s * 1000 <= ttl_ms * _CONFIRMED_AFTER_PART:
            return Grant(version, self._first_sent_at, ttl_ms)
        self._in_doubt = True
        pauses = self._trouble_pauses()
        while True:
            sent_at = self._clock()
            try:
                kept = yield Call(self._target.renew(self._token, version, ttl_ms), ANSWER_S)
            except TROUBLE as error:
                if judge(error) is Verdict.NOT_YOURS:
                    return None
                yield from self._get_over(error, pauses)
            else:
                return None if self._target.missing(kept) else Grant(version, sent_at, ttl_ms)

    def _pause_as_advised(self, refusal: Fields) -> Steps[bool]:
        """Whether there is time for another try."""
        if not self._blocks:
            return False
        left_s = self._until - self._clock()
        pause_s = self._advised.next_s(refusal)
        if pause_s > left_s:
            return False
        yield Sleep(pause_s)
        return True

    @property
    def _may_go_on_after_timeout(self) -> bool:
        """Whether only the longest WAIT that the server takes has run out. Else the time is over, or an
        operator has said that it is (CLIENT UNBLOCK)."""
        now = self._clock()
        return now < self._until and now >= self._asked_until

    # --- leaving ---------------------------------------------------------------------------------

    def _give_up(self) -> Steps[None]:
        """Give up the place, and what was granted meanwhile. What fails here ends by itself: a place
        without a connection after a grace, a hold with its TTL."""
        first, *_ = self._target.names
        calls: list[Words] = [("LOCK.CANCEL", first, self._token)] if self._waits else []
        calls += [("LOCK.RELEASE", name, self._token) for name in self._target.names]
        for words in calls:
            try:
                yield Call(words, _FAREWELL_S)
            except TROUBLE as error:
                if judge(error) in (Verdict.NOTHING_DONE, Verdict.IN_DOUBT):
                    return
