"""What subscribers are told of events: the texts, and what reads them back."""

from __future__ import annotations

from typing import get_type_hints
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resplock.operations import Event
from resplock.resp.events import KINDS, ends_unasked, line, loss
from resplock.resp.replies import encode
from resplock.types import lock_name
from tests.resp.real_redis import parsed


def test_the_kinds_are_those_that_the_vocabulary_names() -> None:
    assert get_type_hints(Event)["kind"] is str
    assert Event.__doc__ is not None
    for name, kind in KINDS.items():
        assert name == kind.name
        assert name in Event.__doc__
    assert len(KINDS) == 8


def test_a_line() -> None:
    event = Event("expired", lock_name(3, b"k"), b"me", 7)
    assert line(event) == b"event=expired db=3 owner=me version=7 reason="
    event = Event("broken", lock_name(0, b"k"), b"a b=%\r\n\xff", 7, b"it is late")
    assert line(event) == (
        b"event=broken db=0 owner=a%20b=%25%0D%0A%FF version=7 reason=it%20is%20late"
    )


@given(st.sampled_from(sorted(KINDS)), st.binary(), st.integers(0, 2**53), st.binary())
def test_a_line_is_read_back_exactly(kind: str, owner: bytes, version: int, reason: bytes) -> None:
    text = line(Event(kind, lock_name(15, b"k"), owner, version, reason))
    assert all(0x20 <= byte < 0x7F for byte in text)
    fields = dict(pair.split(b"=", 1) for pair in text.split(b" "))
    assert list(fields) == [b"event", b"db", b"owner", b"version", b"reason"]
    assert fields[b"event"] == kind.encode()
    assert (fields[b"db"], int(fields[b"version"])) == (b"15", version)
    assert unquote_to_bytes(fields[b"owner"]) == owner
    assert unquote_to_bytes(fields[b"reason"]) == reason


def test_a_loss() -> None:
    push = encode(loss(Event("broken", lock_name(2, b"k"), b"me", 7, b"why")), 3)
    assert push.startswith(b">7\r\n")
    assert parsed(b"*" + push[1:]) == [b"lock", b"broken", 2, b"k", b"me", 7, b"why"]


@pytest.mark.parametrize(
    ("kind", "reason", "unasked"),
    [
        ("expired", b"", True),
        ("broken", b"", True),
        ("broken", b"why", True),
        ("deleted", b"", True),
        ("released", b"", False),
        ("released", b"disconnected", True),
        ("released", b"unclaimed", True),
        ("acquired", b"", False),
        ("renewed", b"", False),
        ("queued", b"", False),
        ("cancelled", b"timeout", False),
    ],
)
def test_what_ends_unasked(kind: str, reason: bytes, unasked: bool) -> None:
    assert ends_unasked(Event(kind, lock_name(0, b"k"), b"me", 7, reason)) == unasked
