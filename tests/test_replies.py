"""The helper that reads replies for other tests."""

import pytest

from tests.replies import parse_replies


def test_a_reply_of_zero_is_no_end() -> None:
    assert parse_replies(b":1\r\n:0\r\n#f\r\n:2\r\n") == ([1, 0, False, 2], True)


@pytest.mark.parametrize("half", [b"*2\r\n:1\r\n", b"$4\r\nPO", b":1", b"%1\r\n+a\r\n"])
def test_half_a_reply_is_noticed(half: bytes) -> None:
    assert parse_replies(b"+OK\r\n" + half) == ([b"OK"], False)
