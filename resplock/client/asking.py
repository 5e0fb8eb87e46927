"""Asking for what may be asked twice.

Pure: see `effects`.
"""

from __future__ import annotations

import math
from typing import Any

from resplock.client.effects import Call, Sleep, Steps, Words
from resplock.client.pauses import TroublePauses
from resplock.client.settings import ANSWER_S, Surroundings
from resplock.client.trouble import TROUBLE, Verdict, cause_of, judge


def ask(words: Words, surroundings: Surroundings, patience_s: float) -> Steps[Any]:
    """The reply to a command that changes nothing, or nothing more when it is carried out again.

    Trouble is retried for `patience_s`; then it is raised, as is what redis-py raises for a refusal.
    """
    pauses = TroublePauses(surroundings.rng, patience_s=patience_s)
    while True:
        try:
            return (yield Call(words, ANSWER_S))
        except TROUBLE as error:
            if judge(error) not in (Verdict.NOTHING_DONE, Verdict.IN_DOUBT):
                raise cause_of(error) from None
            pause_s = pauses.next_s(surroundings.clock())
            if pause_s == math.inf:
                raise cause_of(error) from None
            yield Sleep(pause_s)
