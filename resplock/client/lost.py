"""Whether a hold was lost, for those who hold it."""

from __future__ import annotations

from resplock.client.hold import Hold


class LostBase:
    """False while the hold lasts, true for ever once it is lost.

    It looks at the clock when it is asked: a program that was paused past its deadline learns of it at
    the first look, before any thread or task had a chance to say so.
    """

    def __init__(self, hold: Hold | None) -> None:
        """hold: None before anything was acquired."""
        self._hold = hold

    def __bool__(self) -> bool:
        return self._hold is not None and self._hold.is_lost

    def is_set(self) -> bool:
        """The same, in the words of an event."""
        return bool(self)

    @property
    def name(self) -> str | None:
        """Of the lock."""
        return None if self._hold is None else self._hold.title

    @property
    def version(self) -> int | None:
        """Of the hold."""
        return None if self._hold is None else self._hold.version

    @property
    def reason(self) -> str | None:
        """Why it was lost; None while it is not."""
        return self._hold.reason if self._hold is not None and self else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.reason or 'not so'}>"
