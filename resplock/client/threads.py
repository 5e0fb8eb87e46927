"""Carrying out the rules with threads: redis.Redis, Sentinel's masters and RedisCluster.

A connection is taken from the client's own pool, for one command. redis-py's retries are not used for
commands (establishing a connection has them): a command that was sent twice without our knowing could
not be told from one that was refused.

Threads, all of them daemons: one for all alarms of this process, one for each renewal while it is under
way (a lock that is given back before its first renewal has none), one for each callback.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from redis import RedisError, ResponseError
from redis.client import PubSub

from resplock.client.effects import Call, Effect, Heed, Mutex, Sleep, Steps, Take, patience_of
from resplock.client.hold import Hold
from resplock.client.links import Link, link_of
from resplock.client.lost import LostBase
from resplock.client.pauses import TROUBLE_MOST_S
from resplock.client.settings import ANSWER_S
from resplock.client.trouble import Unsent, is_of_node, no_reply

Result = TypeVar("Result")
logger = logging.getLogger("resplock.client")


class Lost(LostBase):
    """Whether a hold was lost; what `Lock.lost` gives. See LostBase; it is a threading.Event, too."""

    def __init__(self, hold: Hold | None) -> None:
        super().__init__(hold)
        self._event = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the hold is lost, for at most `timeout` seconds; whether it is."""
        return bool(self) or self._event.wait(timeout) or bool(self)

    def set(self) -> None:
        """Wake whoever waits."""
        self._event.set()


class Threads:
    """The Runtime of a sync client. See `core.Runtime`."""

    def __init__(self, client: Any) -> None:
        self._link = link_of(client)

    def run(self, steps: Steps[Result]) -> Result:
        """Carry the steps out in this thread."""
        try:
            effect = next(steps)
            while True:
                try:
                    answer = self._do(effect)
                except BaseException as error:  # noqa: BLE001 - the rule decides, and raises it again
                    effect = steps.throw(error)
                else:
                    effect = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result

    def _do(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return call(self._link, effect)
            case Sleep(seconds):
                time.sleep(seconds)
            case Take(mutex):
                mutex.acquire()
            case Heed(mailbox, seconds):
                mailbox.heed(seconds)
        return None

    # --- Runtime ---

    def clock(self) -> float:
        """Monotonic, in seconds."""
        return time.monotonic()

    def mutex(self) -> Mutex:
        """Free."""
        return threading.Lock()

    def call_at(self, when: float, action: Callable[[], None]) -> Alarm:
        """Have something that does not block done at a moment on the clock."""
        return alarms().add(when, action)

    def start(self, steps: Steps[Any], then: Callable[[], None]) -> Background:
        """Carry steps out in a thread of their own."""
        return Background(self, steps, then)

    def new_lost(self, hold: Hold | None) -> Lost:
        """What `lock.lost` gives."""
        return Lost(hold)

    def mailbox(self, channel: bytes) -> Mailbox:
        """Where the messages of a channel arrive; it has to be closed."""
        return Mailbox(self._link, channel)

    def tell(self, lost: Lost, callbacks: list[Callable[[Lost], object]]) -> None:
        """Wake whoever waits for the loss, and call back."""
        lost.set()
        for callback in callbacks:
            _daemon("resplock-lost", partial(callback, lost))


def call(link: Link, effect: Call) -> Any:
    """One command over one connection, once."""
    try:
        pool = link.pool()
        connection = pool.get_connection()
    except (RedisError, OSError) as error:
        link.failed(error)
        raise Unsent(error) from error
    is_answered = False
    try:
        connection.send_command(*effect.words)
        patience_s = patience_of(effect, connection.socket_timeout)
        if not connection.can_read(timeout=patience_s):
            raise no_reply(effect.words[0], patience_s)
        reply = connection.read_response()
        is_answered = True
    except ResponseError as error:
        is_answered = True
        if is_of_node(error):
            link.failed(error)
        raise
    except (RedisError, OSError) as error:
        link.failed(error)
        raise
    finally:
        if not is_answered:
            connection.disconnect()
        pool.release(connection)
    return reply


class Background:
    """Steps that are carried out in a thread."""

    def __init__(self, threads: Threads, steps: Steps[Any], then: Callable[[], None]) -> None:
        self._is_cancelled = False

        def work() -> None:
            threads.run(steps)
            if not self._is_cancelled:
                then()

        _daemon("resplock-renewal", work)

    def cancel(self) -> None:
        """The steps notice by themselves that their hold has ended."""
        self._is_cancelled = True


def _daemon(name: str, work: Callable[[], object]) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()


class Mailbox:
    """The messages of one channel, over a connection of its own."""

    def __init__(self, link: Link, channel: bytes) -> None:
        self._link = link
        self._channel = channel
        self._pubsub: PubSub | None = None

    def heed(self, timeout_s: float) -> None:
        """Wait for a message and take all that are there; the first time, only subscribe."""
        try:
            if self._pubsub is None:
                self._pubsub = PubSub(self._link.pool())
                self._pubsub.subscribe(self._channel)
                self._pubsub.get_message(timeout=ANSWER_S)
            elif self._pubsub.get_message(timeout=timeout_s):
                while self._pubsub.get_message(timeout=0.0):
                    pass
        except (RedisError, OSError) as error:
            self._link.failed(error)
            self.close()
            time.sleep(min(timeout_s, TROUBLE_MOST_S))

    def close(self) -> None:
        """Give the connection back."""
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            pubsub.close()


# --- alarms --------------------------------------------------------------------------------------


class Alarm:
    """Something to be done at a moment."""

    __slots__ = ("_alarms", "action")

    def __init__(self, alarms: Alarms, action: Callable[[], None]) -> None:
        self._alarms = alarms
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Not any more."""
        if self.action is not None:
            self.action = None
            self._alarms.note_cancelled()


class Alarms:
    """Does things at their moments, in one thread."""

    _CANCELLED_MOST = 256
    """How many cancelled alarms are kept before they are swept out, if they are the greater part."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._cancelled = 0
        _daemon("resplock-alarms", self._run)

    def add(self, when: float, action: Callable[[], None]) -> Alarm:
        """when: on time.monotonic()."""
        alarm = Alarm(self, action)
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._numbers), alarm))
            if self._heap[0][2] is alarm:
                self._changed.notify()
        return alarm

    def note_cancelled(self) -> None:
        """One more of the alarms is none any more."""
        with self._changed:
            self._cancelled += 1
            if self._cancelled > max(self._CANCELLED_MOST, len(self._heap) // 2):
                self._heap = [each for each in self._heap if each[2].action is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _run(self) -> None:
        while True:
            try:
                self._next()()
            except Exception:
                logger.exception("an alarm of a lock failed")

    def _next(self) -> Callable[[], None]:
        """Wait for the next alarm; what it says is to be done."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._heap and self._heap[0][0] <= now:
                    alarm = heapq.heappop(self._heap)[2]
                    action, alarm.action = alarm.action, None
                    if action is not None:
                        return action
                    self._cancelled -= 1
                    continue
                self._changed.wait(self._heap[0][0] - now if self._heap else None)


_alarms: Alarms | None = None
_alarms_guard = threading.Lock()


def alarms() -> Alarms:
    """Those of this process."""
    global _alarms
    with _alarms_guard:
        if _alarms is None:
            _alarms = Alarms()
        return _alarms


def _forget_alarms() -> None:
    """In the child of a fork, which has no thread of its parent's, and none of its locks."""
    global _alarms, _alarms_guard
    _alarms = None
    _alarms_guard = threading.Lock()


os.register_at_fork(after_in_child=_forget_alarms)
