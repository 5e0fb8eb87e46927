"""A lock object: what it was told, the hold that the caller has, and what is done with it.

The public classes (`locks.py`) say `self._run(self._acquire(...))` and no more; all that they decide is
decided here, for threads and for asyncio alike. What differs between the two is in a Runtime.
"""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

from redis.exceptions import LockError

from resplock.client.acquiring import Acquiring
from resplock.client.asking import ask
from resplock.client.effects import Mutex, Steps
from resplock.client.hold import Hold
from resplock.client.keeping import Keeping
from resplock.client.options import Told
from resplock.client.settings import Surroundings
from resplock.client.target import AnyTarget, Fields, fields, with_options

logger = logging.getLogger("resplock.client")

LostT = TypeVar("LostT")


class Alarm(Protocol):
    """What `call_at` and `start` return."""

    def cancel(self) -> object: ...


class Runtime(Protocol[LostT]):
    """What threads and asyncio do in different ways."""

    def clock(self) -> float:
        """Monotonic, in seconds."""

    def mutex(self) -> Mutex:
        """Free."""

    def call_at(self, when: float, action: Callable[[], None]) -> Alarm:
        """Have something that does not block done at a moment on the clock."""

    def start(self, steps: Steps[Any], then: Callable[[], None]) -> Alarm:
        """Carry steps out beside the caller, and call `then` unless they were cancelled."""

    def new_lost(self, hold: Hold | None) -> LostT:
        """The object that `lock.lost` gives."""

    def tell(self, lost: LostT, callbacks: list[Callable[[Any], object]]) -> None:
        """Wake whoever waits for the loss, and call back without holding anybody up."""


class Core(Generic[LostT]):
    """Shared by Lock and AsyncLock, and what is built on them."""

    def __init__(self, runtime: Runtime[LostT], target: AnyTarget, told: Told) -> None:
        self._runtime = runtime
        self._target = with_options(target, told.words)
        self._settings = told.settings
        self._raise_on_release_error = told.raise_on_release_error
        self._surroundings = Surroundings(runtime.clock, random.Random(), new_id)
        self._keeping = Keeping(self._target, told.settings, self._surroundings)
        self._callbacks: list[Callable[[Any], object]] = []
        self._local: Any = _ThreadLocal() if told.thread_local else _Shared()

    # --- looking at the hold ---------------------------------------------------------------------

    @property
    def name(self) -> str | bytes:
        """The key, as it was given."""
        return self._target.names[0]

    @property
    def title(self) -> str:
        """The name as text; several, with commas."""
        return self._target.title

    @property
    def version(self) -> int | None:
        """The fencing version of the hold, from its grant to its release; None without one.

        Send it along with each write to what the lock protects, and have a lower one than was seen
        refused: that alone is safe, whatever happens to this process.
        """
        hold: Hold | None = self._local.hold
        return None if hold is None else hold.version

    @property
    def token(self) -> bytes | None:
        """The owner that the server knows the hold by; None without one."""
        hold: Hold | None = self._local.hold
        return None if hold is None else hold.token

    @property
    def lost(self) -> LostT:
        """Whether the hold was lost: false, then true for ever. See `Lost`.

        It is of the hold that was taken last, also after its release; each acquire begins a new one.
        """
        if self._local.lost is None:
            self._local.lost = self._runtime.new_lost(None)
        lost: LostT = self._local.lost
        return lost

    @property
    def remaining(self) -> float:
        """For how many seconds the hold certainly lasts without a further renewal: inf for one without
        expiry, 0 without a hold."""
        hold: Hold | None = self._local.hold
        return max(hold.remaining_s, 0.0) if hold is not None and hold.is_held else 0.0

    def on_lost(self, callback: Callable[[LostT], object]) -> None:
        """Have `callback(lost)` called once for each hold of this lock that is lost.

        A hold is lost when the server says so, or when its local deadline passes without a renewal.
        The callback runs in a thread of its own; for AsyncLock in the event loop, where it may also be
        a coroutine function.
        """
        self._callbacks.append(callback)

    # --- rules: generators, see `effects` --------------------------------------------------------

    def _acquire(
        self, blocking: bool | None, blocking_timeout: float | None, token: str | bytes | None
    ) -> Steps[bool]:
        held: Hold | None = self._local.hold
        if self._target.is_shared and held is not None and held.is_held:
            raise LockError("This object has a hold already: make one for each holder", self.title)
        settings = self._settings
        blocking = settings.blocking if blocking is None else blocking
        seconds = settings.blocking_timeout if blocking_timeout is None else blocking_timeout
        until = self._surroundings.until(seconds) if blocking else 0.0
        owner = new_token() if token is None else _encode(token)
        acquiring = Acquiring(self._target, owner, settings, self._surroundings, until=until)
        grant = yield from acquiring.steps()
        if grant is None:
            return False
        self._take_on(
            Hold(
                title=self.title,
                token=owner,
                version=grant.version,
                ttl_s=grant.ttl_ms / 1000,
                sent_at=grant.sent_at,
                clock=self._runtime.clock,
                mutex=self._runtime.mutex(),
            )
        )
        return True

    def _release(self) -> Steps[None]:
        hold = self._required("Cannot release a lock that's not owned or is already unlocked.")
        self._local.hold = None
        yield from self._keeping.release(hold)

    def _leave(self) -> Steps[None]:
        """The end of a `with` block."""
        try:
            yield from self._release()
        except LockError as error:
            if self._raise_on_release_error:
                raise
            logger.warning("leaving the block of the lock %s: %s", self.title, error)

    def _extend(self, additional_time: float, replace_ttl: bool) -> Steps[Literal[True]]:
        hold = self._required("Cannot extend an unlocked lock")
        if not hold.ttl_s:
            raise LockError("Cannot extend a lock with no timeout", hold.title)
        yield from self._keeping.extend(hold, additional_time, replaces=replace_ttl)
        return True

    def _reacquire(self) -> Steps[Literal[True]]:
        hold = self._required("Cannot reacquire an unlocked lock")
        if not hold.ttl_s:
            raise LockError("Cannot reacquire a lock with no timeout", hold.title)
        yield from self._keeping.extend(hold, hold.ttl_s, replaces=True)
        return True

    def _locked(self) -> Steps[bool]:
        for name in self._target.names:
            reply = yield from self._query("LOCK.GET", name)
            if reply is not None and _is_held(fields(reply)):
                return True
        return False

    def _info(self) -> Steps[Fields | None]:
        reply = yield from self._query("LOCK.GET", self.name)
        return None if reply is None else fields(reply)

    def _owned(self) -> Steps[bool]:
        hold: Hold | None = self._local.hold
        if hold is None or not hold.is_held:
            return False
        for name in self._target.names:
            if not (yield from self._query("LOCK.CHECK", name, hold.version)):
                return False
        return True

    def _query(self, *words: Any) -> Steps[Any]:
        return (yield from ask(words, self._surroundings, self._settings.patience_s))

    # --- from grant to end -----------------------------------------------------------------------

    def _take_on(self, hold: Hold) -> None:
        """The caller has this hold from now on; one that it had before is no longer cared for."""
        earlier: Hold | None = self._local.hold
        if earlier is not None:
            earlier.end()
        lost = self._runtime.new_lost(hold)
        self._local.hold, self._local.lost = hold, lost
        watch = Watch(hold, self._runtime, self._keeping.renew if self._settings.renews else None)

        def over() -> None:
            watch.stop()
            if hold.is_lost:
                self._runtime.tell(lost, list(self._callbacks))

        hold.when_over = over
        watch.begin()

    def _required(self, text: str) -> Hold:
        hold: Hold | None = self._local.hold
        if hold is None:
            raise LockError(text, self.title)
        return hold


class Watch:
    """What happens to a hold by itself: it is renewed in time, and noticed to be lost at its deadline.

    One alarm at a time stands for the next of both. Safe to use from several threads.
    """

    def __init__(
        self,
        hold: Hold,
        runtime: Runtime[Any],
        renew: Callable[[Hold], Steps[None]] | None,
    ) -> None:
        """renew: None for a hold that is not renewed by itself."""
        self._hold = hold
        self._runtime = runtime
        self._renew = renew
        self._guard = threading.RLock()
        self._alarm: Alarm | None = None
        self._renewal: Alarm | None = None

    def begin(self) -> None:
        """From now on; `stop` ends it."""
        with self._guard:
            self._set_alarm()

    def stop(self) -> None:
        """No alarm and no renewal any more."""
        with self._guard:
            for each in (self._alarm, self._renewal):
                if each is not None:
                    each.cancel()

    def _set_alarm(self) -> None:
        hold = self._hold
        if self._alarm is not None:
            self._alarm.cancel()
        if not hold.is_held or hold.deadline == math.inf:
            return
        is_next = self._renew is not None and self._renewal is None
        when = min(hold.renew_at, hold.deadline) if is_next else hold.deadline
        self._alarm = self._runtime.call_at(when, self._look)

    def _look(self) -> None:
        """It is time for a renewal, or the deadline has come unless it was moved."""
        with self._guard:
            try:
                self._begin_renewal()
            finally:
                self._set_alarm()

    def _begin_renewal(self) -> None:
        hold = self._hold
        if self._renew is None or self._renewal is not None or not hold.is_held:
            return
        if hold.renew_at <= self._runtime.clock():
            self._renewal = self._runtime.start(self._renew(hold), self._renewed)

    def _renewed(self) -> None:
        with self._guard:
            self._renewal = None
            self._set_alarm()


class _ThreadLocal(threading.local):
    """Each thread has a hold of its own, as in redis-py."""

    hold: Hold | None = None
    lost: Any = None


class _Shared:
    """All threads have one hold."""

    hold: Hold | None = None
    lost: Any = None


def new_id() -> str:
    """96 random bits as text."""
    return os.urandom(12).hex()


def new_token() -> bytes:
    """An owner that nobody else uses; it says to an operator who that is."""
    return f"{socket.gethostname()}:{os.getpid()}:{new_id()}".encode()


def _encode(token: str | bytes) -> bytes:
    return token.encode() if isinstance(token, str) else token


def _is_held(info: Fields) -> bool:
    return bool(info.get("owner") or info.get("holders"))
