"""Globs: against examples, against a real Redis, and against a slow matcher that is plainly right."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resplock import glob
from resplock.limits import PATTERN_BYTES_MAX
from tests.resp.real_redis import RealRedis

# --- examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (b"", b"anything", True),  # no pattern
        (b"", b"", True),
        (b"*", b"", True),
        (b"**", b"anything", True),
        (b"orders", b"orders", True),
        (b"orders", b"orders:1", False),
        (b"orders", b"order", False),
        (b"orders:*", b"orders:", True),
        (b"orders:*", b"orders:1", True),
        (b"orders:*", b"order", False),
        (b"*:1", b"orders:1", True),
        (b"*:1", b"orders:12", False),
        (b"a*b*c", b"abc", True),
        (b"a*b*c", b"a.b.b.c", True),
        (b"a*b*c", b"acb", False),
        (b"aba*ba", b"aba", False),  # the prefix and the suffix may not overlap
        (b"*aa*aa*", b"aaa", False),
        (b"?", b"a", True),
        (b"?", b"", False),
        (b"?*?", b"a", False),
        (b"?*?", b"ab", True),
        (b"h[ae]llo", b"hello", True),
        (b"h[ae]llo", b"hillo", False),
        (b"h[^e]llo", b"hallo", True),
        (b"h[^e]llo", b"hello", False),
        (b"h[a-e]llo", b"hcllo", True),
        (b"h[e-a]llo", b"hcllo", True),  # a range may be given backwards
        (b"h[a-e]llo", b"hfllo", False),
        (rb"\*", b"*", True),
        (rb"\*", b"a", False),
        (rb"a\?*", b"a?b", True),
        (rb"a\?*", b"abc", False),
        (b"a\\", b"a\\", True),  # a backslash at the end stands for itself
        (rb"[\]]", b"]", True),
        (rb"[\^a]", b"^", True),
        (b"[a-]", b"a", True),  # a range up to the bracket, in a class that is never closed
        (b"[a-]", b"]", True),
        (b"[a-]", b"-", False),
        (b"[abc", b"b", True),
        (b"[]", b"a", False),
        (b"[]", b"", False),
        (b"[^]", b"a", True),
        (b"[", b"[", False),
        (b"[^", b"a", True),
        (b"*[0-9]*[0-9]", b"a1b2", True),
        (b"*[0-9]*[0-9]", b"a1b", False),
        (b"[\x80-\xff]", b"\xe9", True),
        (b"[\x80-\xff]", b"e", False),
        (b"\n*", b"\nx", True),
        (b"?", b"\n", True),
    ],
)
def test_examples(pattern: bytes, text: bytes, matches: bool) -> None:
    assert glob.compile(pattern)(text) is matches


def test_a_pattern_has_a_bound() -> None:
    glob.compile(b"a" * PATTERN_BYTES_MAX)
    with pytest.raises(AssertionError):
        glob.compile(b"a" * (PATTERN_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("pattern", "steps"),
    [
        (b"", 0),
        (b"*", 0),
        (b"orders", 0),
        (b"orders:*", 0),
        (b"a" * 1024, 0),
        (b"*:1", 1),
        (b"orders:?*", 1),
        (rb"orders\*", 1),
        (b"?" * 128, 2),
        (b"*a" * 512, 9),
    ],
)
def test_what_matching_costs(pattern: bytes, steps: int) -> None:
    assert glob.steps_per_byte(pattern) == steps


@pytest.mark.parametrize(
    "pattern",
    [b"*a" * 512, b"*a?" * 340, b"*[ab]" * 204, b"*a*a*a*a*a*a*a*a*a*a*a*a?b", b"a?" * 512],
)
def test_patterns_that_backtracking_never_finishes(pattern: bytes) -> None:
    # The time limit of the test is the check: in Redis's matcher some of these take for ever.
    matches = glob.compile(pattern)
    assert not matches(b"a" * 1024 + b"cc")
    assert not matches(b"a" * 65_536 + b"cc")


# --- the slow matcher ----------------------------------------------------------------------------


def plain_match(pattern: bytes, text: bytes) -> bool:
    """A transcription of Redis 7's stringmatchlen, with unsigned bytes, exponential and all."""
    if not pattern:
        return not text
    byte, rest = pattern[:1], pattern[1:]
    if byte == b"*":
        return any(plain_match(rest, text[at:]) for at in range(len(text) + 1))
    if not text:
        return False
    if byte == b"?":
        return plain_match(rest, text[1:])
    if byte == b"[":
        matched, rest = plain_class(rest, text[0])
        return matched and plain_match(rest, text[1:])
    if byte == b"\\" and rest:
        byte, rest = rest[:1], rest[1:]
    return byte == text[:1] and plain_match(rest, text[1:])


def plain_class(pattern: bytes, byte: int) -> tuple[bool, bytes]:
    negated = pattern.startswith(b"^")
    pattern = pattern.removeprefix(b"^")
    matched = False
    while True:
        if len(pattern) >= 2 and pattern[:1] == b"\\":
            matched |= pattern[1] == byte
            pattern = pattern[2:]
        elif pattern[:1] == b"]":
            return matched != negated, pattern[1:]
        elif not pattern:
            return matched != negated, b""
        elif len(pattern) >= 3 and pattern[1:2] == b"-":
            first, last = sorted((pattern[0], pattern[2]))
            matched |= first <= byte <= last
            pattern = pattern[3:]
        else:
            matched |= pattern[0] == byte
            pattern = pattern[1:]


# Few letters and many signs, so that things happen.
pieces = st.sampled_from(
    [
        b"*",
        b"?",
        b"a",
        b"b",
        b"ab",
        b"[ab]",
        b"[^a]",
        b"[a-b]",
        b"[",
        b"]",
        b"^",
        b"-",
        b"\\",
        b"\\*",
    ]
)
patterns = st.lists(pieces, max_size=6).map(b"".join).filter(bool)
texts = st.text("ab*?[]^-\\c", min_size=1, max_size=8).map(str.encode)


@given(pattern=patterns, text=texts)
@example(pattern=b"*[^a]*b", text=b"bab")
def test_as_the_slow_matcher(pattern: bytes, text: bytes) -> None:
    assert glob.compile(pattern)(text) is plain_match(pattern, text)


@given(pattern=st.binary(min_size=1, max_size=6), text=st.binary(min_size=1, max_size=6))
def test_any_bytes_as_the_slow_matcher(pattern: bytes, text: bytes) -> None:
    assert glob.compile(pattern)(text) is plain_match(pattern, text)


# --- the real Redis ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_with_keys() -> Iterator[tuple[RealRedis, list[bytes]]]:
    letters = b"ab*?[]^-\\c"
    keys = [bytes([one]) for one in letters]
    keys += [bytes([one, two]) for one in letters for two in letters]
    keys += [b"aba", b"abab", b"bab]", b"a-b", b"[ab]", b"aaaaaaaa", b"a\\*b", b"cab", b"\n"]
    with RealRedis() as server:
        for key in keys:
            server.ask("SET", key, "")
        yield server, keys


@given(pattern=patterns)
def test_as_redis(redis_with_keys: tuple[RealRedis, list[bytes]], pattern: bytes) -> None:
    server, keys = redis_with_keys
    matches = glob.compile(pattern)
    assert sorted(filter(matches, keys)) == sorted(server.ask("KEYS", pattern))
