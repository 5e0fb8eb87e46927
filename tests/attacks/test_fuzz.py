"""A few thousand mutated requests, always the same ones. `tests.attacks.fuzz` sends more."""

from __future__ import annotations

import random

import pytest

from tests.attacks import fuzz
from tests.attacks.server import Server, array

SEED = 20_240_501


@pytest.mark.parametrize("part", range(4))
def test_a_seeded_campaign(server: Server, part: int) -> None:
    fuzz.campaign(server, SEED, range(part * 750, (part + 1) * 750))


def test_it_is_noticed_when_a_reply_is_broken() -> None:
    """The fuzzer's own checks bite."""
    for received in (b"+OK", b"*2\r\n:1\r\n", b"$3\r\nab", b"?\r\n"):
        with pytest.raises(fuzz.Finding):
            fuzz.replies_in(received, whole=True)
    assert len(fuzz.replies_in(b":0\r\n$-1\r\n_\r\n#f\r\n", whole=True)) == 4


def test_inputs_are_reproducible_and_diverse() -> None:
    inputs = [fuzz.make(random.Random(f"{SEED}/{number}")) for number in range(500)]
    again = [fuzz.make(random.Random(f"{SEED}/{number}")) for number in range(500)]
    assert inputs == again
    assert len(set(inputs)) > 450
    assert any(array(b"PING") in data for data in inputs)
    assert not any(b"SHUTDOWN" in data.upper() for data in inputs)
