"""Redis-style globs on bytes, matched in time that a client cannot blow up.

Pure. `*` is any run of bytes, `?` any one byte, `[abc]`, `[a-z]` and `[^a-z]` one byte of a class,
and a backslash takes the next byte as it is, also inside a class. The corner cases are Redis's
(util.c, stringmatchlen): a class that is never closed ends with the pattern, `[]` matches nothing,
`[^]` matches any byte, and a backslash at the very end stands for itself. One is not: bytes are
unsigned here in the ends of a range, where Redis on x86 takes them as signed.

Redis's own matcher is recursive and polynomial in the number of stars. Here a pattern is compiled
once: without classes and `?` it becomes a chain of `bytes.find`, and with them a set of states in
one integer (Baeza-Yates and Gonnet, "A New Approach to Text Searching", 1992: shift-and), which
reads each byte of the text exactly once whatever the pattern is.
"""

from collections.abc import Callable
from functools import lru_cache

from resplock.limits import PATTERN_BYTES_MAX

_STAR, _ANY, _OPEN, _CLOSE, _RANGE, _ESCAPE = b"*?[]-\\"

_SIGNS = b"*?[\\"
_EVERY_BYTE = frozenset(range(256))

Matcher = Callable[[bytes], bool]


def steps_per_byte(pattern: bytes) -> int:
    """What matching costs at most for each byte of a text, in steps of about 40 ns.

    0 when it is one comparison, however long the text. Otherwise what grows with the pattern is the
    integer of states, or what `find` compares in vain.
    """
    body = pattern.removesuffix(b"*")
    if not any(sign in body for sign in _SIGNS):
        return 0
    return 1 + len(pattern) // 128


@lru_cache(maxsize=64)
def compile(pattern: bytes) -> Matcher:  # named as in `re`
    """A function that tells whether the whole of a text matches. b"" is "no pattern": all match.

    The pattern has at most PATTERN_BYTES_MAX bytes: whoever takes one from a client checks that.
    """
    assert len(pattern) <= PATTERN_BYTES_MAX
    elements = _parse(pattern)
    if not pattern or elements == [None]:
        return lambda _text: True
    segments = _literal_segments(elements)
    if segments is None:
        return _shift_and(elements)
    if len(segments) == 1:
        return segments[0].__eq__
    if len(segments) == 2 and not segments[1]:
        prefix = segments[0]
        return lambda text: text.startswith(prefix)
    return _chain(segments)


def _parse(pattern: bytes) -> list[frozenset[int] | None]:
    """The pattern's elements in order: the bytes that one position may have, or None for a star."""
    elements: list[frozenset[int] | None] = []
    at, end = 0, len(pattern)
    while at < end:
        byte = pattern[at]
        at += 1
        if byte == _STAR:
            if not elements or elements[-1] is not None:
                elements.append(None)
        elif byte == _ANY:
            elements.append(_EVERY_BYTE)
        elif byte == _OPEN:
            wanted, at = _parse_class(pattern, at)
            elements.append(wanted)
        else:
            if byte == _ESCAPE and at < end:
                byte = pattern[at]
                at += 1
            elements.append(frozenset((byte,)))
    return elements


def _parse_class(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """The bytes of the class that begins at `at`, behind its bracket, and where it ends."""
    end = len(pattern)
    negated = pattern[at : at + 1] == b"^"
    at += negated
    wanted: set[int] = set()
    while at < end and pattern[at] != _CLOSE:
        byte = pattern[at]
        if byte == _ESCAPE and at + 1 < end:
            wanted.add(pattern[at + 1])
            at += 2
        elif at + 2 < end and pattern[at + 1] == _RANGE:
            first, last = sorted((byte, pattern[at + 2]))
            wanted.update(range(first, last + 1))
            at += 3
        else:
            wanted.add(byte)
            at += 1
    return (_EVERY_BYTE - wanted if negated else frozenset(wanted)), at + 1


def _literal_segments(elements: list[frozenset[int] | None]) -> list[bytes] | None:
    """What stands between the stars, or None when something there is not a plain byte."""
    segments = [bytearray()]
    for element in elements:
        if element is None:
            segments.append(bytearray())
        elif len(element) == 1:
            segments[-1].extend(element)
        else:
            return None
    return [bytes(segment) for segment in segments]


def _chain(segments: list[bytes]) -> Matcher:
    """Segments with stars between them: each is taken at the first place where it is found."""
    prefix, *middle, suffix = segments
    shortest = sum(map(len, segments))

    def matches(text: bytes) -> bool:
        if len(text) < shortest or not text.startswith(prefix) or not text.endswith(suffix):
            return False
        at, end = len(prefix), len(text) - len(suffix)
        for segment in middle:
            at = text.find(segment, at, end)
            if at < 0:
                return False
            at += len(segment)
        return True

    return matches


def _shift_and(elements: list[frozenset[int] | None]) -> Matcher:
    """Bit n of the state says: the text so far can end before element n. One step for each byte."""
    stars = 0
    mostly = 0  # elements that take most bytes, so that `?` does not cost 256 steps here
    takes, refuses = [0] * 256, [0] * 256  # the exceptions, by byte
    positions = 0
    for element in elements:
        bit = 1 << positions
        if element is None:
            stars |= bit  # a star keeps the state of what follows it, and takes no position
            continue
        positions += 1
        if len(element) > 128:
            mostly |= bit
            for byte in _EVERY_BYTE - element:
                refuses[byte] |= bit
        else:
            for byte in element:
                takes[byte] |= bit
    moves = tuple(mostly & ~refuse | take for take, refuse in zip(takes, refuses, strict=True))
    accepted = 1 << positions
    shortest = positions

    def matches(text: bytes) -> bool:
        if len(text) < shortest:
            return False
        state = 1
        for byte in text:
            state = (state & moves[byte]) << 1 | state & stars
            if not state:
                return False
        return state & accepted != 0

    return matches
