"""Ends the process when its event loop has stopped turning.

A disk that hangs in fsync hangs the loop with it. Other nodes elect another leader meanwhile; what
must not happen is that this process stays for ever, holding its port and its clients.
"""

from __future__ import annotations

import os
import threading

from resplock.limits import STALL_FATAL_MS

_CHECK_EVERY_S = 1.0
_LAST_WORDS_S = 1.0
_STANDARD_ERROR = 2
EXIT_STALLED = 70


class Watchdog:
    """A thread that looks once a second whether `beat` was called since it last looked.

    It counts its own looks, not time: a process that was paused as a whole (SIGSTOP, a suspended
    machine) and goes on is not mistaken for one whose loop hangs.
    """

    def __init__(self) -> None:
        self._beats = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def beat(self) -> None:
        """The event loop turns."""
        self._beats += 1

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        seen, silent = -1, 0
        while not self._stopped.wait(_CHECK_EVERY_S):
            silent = silent + 1 if self._beats == seen else 0
            seen = self._beats
            if silent * _CHECK_EVERY_S * 1000 >= STALL_FATAL_MS:
                _end(round(silent * _CHECK_EVERY_S))


def _end(silent_s: int) -> None:
    """Say why, and end the process. What hangs may be standard error itself, if nobody reads it."""
    words = (
        f"resplock: the event loop has not turned for {silent_s} s (is the disk hanging?): "
        "ending the process\n"
    )
    # Not sys.stderr: the loop may hang within it, and hold its lock.
    speaker = threading.Thread(
        target=os.write, args=(_STANDARD_ERROR, words.encode()), name="last words", daemon=True
    )
    speaker.start()
    speaker.join(_LAST_WORDS_S)
    os._exit(EXIT_STALLED)
