"""Keeping a hold and giving it back.

Pure: see `effects`. All of it names the hold's token and version, so that a command that comes late,
or twice, can never touch another hold.
"""

from __future__ import annotations

from collections.abc import Callable

from redis.exceptions import LockNotOwnedError

from resplock.client.effects import Call, Sleep, Steps, Take
from resplock.client.hold import Hold
from resplock.client.pauses import TroublePauses
from resplock.client.settings import ANSWER_S, Settings, Surroundings
from resplock.client.target import AnyTarget, release
from resplock.client.trouble import TROUBLE, Verdict, cause_of, judge

_TRY_PART = 1 / 6
"""Of the TTL: how long one try of a renewal may take, so that there is time for others."""
_PAUSE_PART = 1 / 12
_TRY_LEAST_S = 0.05
_FAREWELL_S = 1.0
"""How long it may take to release a hold that is lost anyway."""


class Keeping:
    """The rules for the holds of one lock."""

    def __init__(self, target: AnyTarget, settings: Settings, surroundings: Surroundings) -> None:
        self._target = target
        self._settings = settings
        self._surroundings = surroundings
        self._clock = surroundings.clock

    # --- time ------------------------------------------------------------------------------------

    def renew(self, hold: Hold) -> Steps[None]:
        """Renew the hold to its own TTL; it never becomes shorter. Tries again, whatever the trouble,
        until that is done or the hold is lost."""
        yield from self._set_ttl(hold, lambda: max(hold.ttl_s, hold.remaining_s))

    def extend(self, hold: Hold, seconds: float, *, replaces: bool) -> Steps[None]:
        """Add to the time that the hold certainly lasts, or replace it. Raises LockNotOwnedError, and
        what redis-py raises when the command itself is wrong."""
        trouble = yield from self._set_ttl(
            hold, lambda: seconds if replaces else hold.remaining_s + seconds, is_final=_is_final
        )
        if trouble is not None:
            raise trouble
        if not hold.is_held:
            text = f"Cannot extend a lock that's no longer owned: {hold.reason}"
            raise LockNotOwnedError(text, hold.title)

    def _set_ttl(
        self,
        hold: Hold,
        ttl: Callable[[], float],
        is_final: Callable[[Exception], bool] = lambda _: False,
    ) -> Steps[Exception | None]:
        """Try until it is done or the hold is lost; or until trouble is final, which is returned."""
        pauses = TroublePauses(self._surroundings.rng, most_s=hold.ttl_s * _PAUSE_PART)
        while hold.is_held:
            yield Take(hold.mutex)
            try:
                trouble = yield from self._try_to_set_ttl(hold, ttl())
            finally:
                hold.mutex.release()
            if trouble is None or is_final(trouble):
                return trouble
            pause_s = pauses.next_s(self._clock())
            if pause_s >= hold.remaining_s:
                hold.lose(f"it could not be renewed in time: {trouble}")
                break
            yield Sleep(pause_s)
        return None

    def _try_to_set_ttl(self, hold: Hold, ttl_s: float) -> Steps[Exception | None]:
        """The trouble that there was, if another try may do better."""
        if not hold.is_held:
            return None
        sent_at, ttl_ms = self._clock(), max(round(ttl_s * 1000), 1)
        patience_s = min(max(hold.ttl_s * _TRY_PART, _TRY_LEAST_S), ANSWER_S)
        try:
            reply = yield Call(self._target.renew(hold.token, hold.version, ttl_ms), patience_s)
        except TROUBLE as error:
            verdict = judge(error)
            if verdict is Verdict.NOT_YOURS:
                hold.lose(str(error))
                return None
            if verdict is Verdict.IN_DOUBT:
                hold.renewal_in_doubt(ttl_ms / 1000)
            return cause_of(error)
        if missing := self._target.missing(reply):
            hold.lose(missing)
        else:
            hold.renewed(sent_at, ttl_ms / 1000)
        return None

    # --- its end ---------------------------------------------------------------------------------

    def release(self, hold: Hold) -> Steps[None]:
        """Give the hold back. Raises LockNotOwnedError when it was lost."""
        if hold.is_lost:
            yield from self._take_leave(hold)
            raise _not_owned(hold.title, hold.reason)
        hold.end()
        gone: Exception | None = None
        for name in self._target.names:
            words = release(name, hold.token, hold.version)
            gone = (yield from self._release_one(Call(words, ANSWER_S), hold)) or gone
        if gone is not None:
            raise _not_owned(hold.title, str(gone)) from gone

    def _release_one(self, call: Call, hold: Hold) -> Steps[Exception | None]:
        """The server's word that this was no hold of ours, if it says so."""
        pauses = TroublePauses(self._surroundings.rng, patience_s=self._settings.patience_s)
        in_doubt = False
        while True:
            try:
                yield call
            except TROUBLE as error:
                verdict = judge(error)
                if verdict is Verdict.NOT_YOURS:
                    # After a lost reply it is: the first try has released it.
                    return None if in_doubt else error
                if verdict not in (Verdict.NOTHING_DONE, Verdict.IN_DOUBT):
                    raise cause_of(error) from None
                in_doubt = in_doubt or verdict is Verdict.IN_DOUBT
                pause_s = pauses.next_s(self._clock())
                if pause_s >= hold.remaining_s:
                    raise cause_of(error) from None
                yield Sleep(pause_s)
            else:
                return None

    def _take_leave(self, hold: Hold) -> Steps[None]:
        """Release it all the same: the server may have it for a moment still."""
        for name in self._target.names:
            try:
                yield Call(release(name, hold.token, hold.version), _FAREWELL_S)
            except TROUBLE as error:
                if judge(error) is not Verdict.NOT_YOURS:
                    return


def _is_final(trouble: Exception) -> bool:
    return judge(trouble) is Verdict.FINAL


def _not_owned(title: str, reason: str | None) -> LockNotOwnedError:
    return LockNotOwnedError(f"Cannot release a lock that's no longer owned: {reason}", title)
