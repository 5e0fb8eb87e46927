"""How long to wait before the next try.

Pure; the randomness is injected.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

TROUBLE_FIRST_S = 0.02
TROUBLE_MOST_S = 1.0
"""Between tries while there is no leader, or no server: a new leader is elected within a second."""
_TROUBLE_FACTOR = 2.0
_TROUBLE_JITTER = 0.5


class TroublePauses:
    """Pauses between tries that meet no working server: the first is short, each is twice the last."""

    def __init__(
        self, rng: random.Random, *, patience_s: float = math.inf, most_s: float = TROUBLE_MOST_S
    ) -> None:
        """patience_s: from the first trouble; most_s: the longest pause."""
        self._rng = rng
        self._patience_s = patience_s
        self._most_s = most_s
        self.reset()

    def reset(self) -> None:
        """There is a working server: what comes is new trouble."""
        self._next_s = TROUBLE_FIRST_S
        self._until = math.inf

    def next_s(self, now: float) -> float:
        """The pause after trouble that was met at `now`; inf when patience would end within it."""
        self._until = min(self._until, now + self._patience_s)
        pause_s = min(self._next_s, self._most_s)
        self._next_s = pause_s * _TROUBLE_FACTOR
        pause_s *= 1 - _TROUBLE_JITTER * self._rng.random()
        return pause_s if now + pause_s < self._until else math.inf


class AdvisedPauses:
    """Pauses between tries that are refused: the first as the refusal says, then exponential backoff
    with its figures, each pause varied so that clients do not come back together."""

    def __init__(self, rng: random.Random, most_s: float | None = None) -> None:
        """most_s: the caller's own bound on a pause."""
        self._rng = rng
        self._most_s = most_s
        self._last_s = 0.0

    def next_s(self, refusal: Mapping[str, Any]) -> float:
        """The pause after this refusal. `refusal` has the fields of `held`."""
        if not self._last_s:
            pause_s = max(int(refusal["retry_after_ms"]), 1) / 1000
            self._last_s = int(refusal["backoff_initial_ms"]) / 1000
        else:
            pause_s = self._last_s
            longest_s = int(refusal["backoff_max_ms"]) / 1000
            self._last_s = min(pause_s * float(refusal["backoff_multiplier"]), longest_s)
        jitter = float(refusal["backoff_jitter"])
        pause_s *= 1 + jitter * (2 * self._rng.random() - 1)
        return pause_s if self._most_s is None else min(pause_s, self._most_s)
