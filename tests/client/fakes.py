"""A runtime in virtual time, and a server that says what the test tells it to.

    runtime = FakeRuntime(GRANTED, After(2.0, held()), SILENCE, ConnectionError())
    lock = FakeLock(runtime)
    assert lock.acquire()
    assert runtime.sent == ["LOCK.ACQUIRE lock me TTL 30000 WAIT 600000 REQUEST r1", ...]

Nothing sleeps: `runtime.pass_time` moves the clock, and what is due on the way is done at its moment.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from redis import exceptions

from resplock.client.core import Core
from resplock.client.effects import Call, Sleep, Take
from resplock.client.lost import LostBase
from resplock.client.options import read_options
from resplock.client.settings import Settings, Surroundings
from resplock.client.target import AnyTarget, Target

VERSION = 7


def granted(version: int = VERSION, **more: Any) -> dict[str, Any]:
    return {"status": b"granted", "version": version, "ttl_ms": 30_000, "waiters": 0, **more}


def held(status: str = "held", **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "owner": b"you",
        "version": 3,
        "ttl_ms": 20_000,
        "waiters": 0,
        "retry_after_ms": 100,
        "backoff_initial_ms": 50,
        "backoff_max_ms": 400,
        "backoff_multiplier": 2.0,
        "backoff_jitter": 0.0,
        **more,
    }


def renewed(ttl_ms: int = 30_000, version: int = VERSION) -> dict[str, Any]:
    return {"version": version, "ttl_ms": ttl_ms}


RELEASED = {"released": 1, "holds": 0, "promoted": None}
TIMED_OUT = held("timeout")


def refusal(text: str) -> exceptions.ResponseError:
    return exceptions.ResponseError(text)


NOT_HELD = refusal("NOTHELD nobody holds the lock 'lock'")
NOT_OWNER = refusal("NOTOWNER the lock 'lock' is held by 'you' with version 9")
IN_DOUBT = refusal("INDOUBT the command was proposed and its fate is unknown")
NO_LEADER = exceptions.ClusterDownError("there is no leader; the command was not proposed")
CUT_OFF = exceptions.ConnectionError("connection closed by server")


class After:
    """An answer that takes its time."""

    def __init__(self, seconds: float, answer: Any) -> None:
        self.seconds = seconds
        self.answer = answer


SILENCE = object()
"""No answer: the caller's patience ends."""


class FakeMutex:
    """Of a single thread: nobody ever has to wait for it."""

    def __init__(self) -> None:
        self.is_taken = False

    def acquire(self) -> None:
        assert not self.is_taken
        self.is_taken = True

    def release(self) -> None:
        assert self.is_taken
        self.is_taken = False


class FakeAlarm:
    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class FakeRuntime:
    """See the module. Without answers left, `otherwise` answers: a reply, or a function of the words."""

    def __init__(self, *answers: Any, otherwise: Any = None) -> None:
        self.now = 1000.0
        self.answers = list(answers)
        self.otherwise = otherwise
        self.calls: list[tuple[float, Call]] = []
        self.slept: list[float] = []
        self.told: list[Any] = []
        self._heap: list[tuple[float, int, FakeAlarm]] = []
        self._numbers = itertools.count()

    # --- what tests look at ---

    @property
    def sent(self) -> list[str]:
        """The commands, in words."""
        return [_in_words(call) for _, call in self.calls]

    @property
    def sent_at(self) -> list[float]:
        """When, in seconds since the beginning."""
        return [round(when - 1000.0, 3) for when, _ in self.calls]

    @property
    def patience(self) -> list[float]:
        """How long each reply would be waited for."""
        return [round(call.patience_s, 3) for _, call in self.calls]

    @property
    def alarms(self) -> int:
        """How many are set."""
        return sum(alarm.action is not None for _, _, alarm in self._heap)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            when, _, alarm = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            action, alarm.action = alarm.action, None
            if action is not None:
                action()
        self.now = max(self.now, until)

    def freeze(self, seconds: float) -> None:
        """As SIGSTOP does: time passes and nothing happens."""
        self.now += seconds

    # --- driving ---

    def run(self, steps: Any) -> Any:
        """Carry steps out, in virtual time."""
        answer, error = None, None
        while True:
            try:
                effect = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            answer, error = None, None
            match effect:
                case Sleep(seconds):
                    self.slept.append(round(seconds, 4))
                    self.pass_time(seconds)
                case Take(mutex):
                    mutex.acquire()
                case Call():
                    try:
                        answer = self._answer(effect)
                    except BaseException as raised:  # noqa: BLE001 - for the rule
                        error = raised

    def _answer(self, call: Call) -> Any:
        self.calls.append((self.now, call))
        answer = self.answers.pop(0) if self.answers else self.otherwise
        if isinstance(answer, After):
            self.pass_time(answer.seconds)
            answer = answer.answer
        if callable(answer):
            answer = answer(call.words)
        if answer is SILENCE:
            self.pass_time(call.patience_s)
            raise exceptions.TimeoutError("no reply")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    # --- Runtime ---

    def clock(self) -> float:
        return self.now

    def mutex(self) -> FakeMutex:
        return FakeMutex()

    def call_at(self, when: float, action: Callable[[], None]) -> FakeAlarm:
        alarm = FakeAlarm(action)
        heapq.heappush(self._heap, (when, next(self._numbers), alarm))
        return alarm

    def start(self, steps: Any, then: Callable[[], None]) -> FakeBackground:
        return FakeBackground(self, steps, then)

    def new_lost(self, hold: Any) -> LostBase:
        return LostBase(hold)

    def tell(self, lost: Any, callbacks: list[Callable[[Any], object]]) -> None:
        self.told.append(lost)
        for callback in callbacks:
            callback(lost)


class FakeBackground:
    """Steps beside the others: each of their sleeps is an alarm."""

    def __init__(self, runtime: FakeRuntime, steps: Any, then: Callable[[], None]) -> None:
        self._runtime = runtime
        self._steps = steps
        self._then = then
        self._is_cancelled = False
        runtime.call_at(runtime.now, lambda: self._go_on(None, None))

    def cancel(self) -> None:
        self._is_cancelled = True

    def _go_on(self, answer: Any, error: BaseException | None) -> None:
        runtime = self._runtime
        while not self._is_cancelled:
            try:
                steps = self._steps
                effect = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                self._then()
                return
            answer, error = None, None
            match effect:
                case Sleep(seconds):
                    runtime.call_at(runtime.now + seconds, lambda: self._go_on(None, None))
                    return
                case Take(mutex):
                    mutex.acquire()
                case Call():
                    try:
                        answer = runtime._answer(effect)
                    except BaseException as raised:  # noqa: BLE001 - for the rule
                        error = raised


class FakeLock(Core[LostBase]):
    """A lock over such a runtime, with the methods that tests use. Its token is `me`."""

    def __init__(
        self,
        runtime: FakeRuntime,
        target: AnyTarget | None = None,
        ttl: float | None = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(runtime, target or Target("lock"), read_options(ttl, options))
        self.runtime = runtime
        self._surroundings = surroundings(runtime)

    def acquire(self, blocking: bool | None = None, blocking_timeout: float | None = None) -> bool:
        return self.runtime.run(self._acquire(blocking, blocking_timeout, b"me"))

    def release(self) -> None:
        self.runtime.run(self._release())

    def leave(self) -> None:
        self.runtime.run(self._leave())

    def extend(self, seconds: float, replace_ttl: bool = False) -> bool:
        return self.runtime.run(self._extend(seconds, replace_ttl))

    def reacquire(self) -> bool:
        return self.runtime.run(self._reacquire())

    def locked(self) -> bool:
        return self.runtime.run(self._locked())

    def owned(self) -> bool:
        return self.runtime.run(self._owned())


def surroundings(runtime: FakeRuntime) -> Surroundings:
    """Its clock, ids r1, r2, ..., and pauses without chance: the longest that they may be."""
    numbers = itertools.count(1)
    return Surroundings(runtime.clock, NoChance(), lambda: f"r{next(numbers)}")


def settings(ttl: float | None = 30.0, **options: Any) -> Settings:
    return read_options(ttl, options).settings


class NoChance(random.Random):
    def random(self) -> float:
        return 0.0


def _in_words(call: Call) -> str:
    return " ".join(word.decode() if isinstance(word, bytes) else str(word) for word in call.words)
