"""From the source of a script to tokens.

Pure. Sources are bytes, as scripts carry binary strings. Lua 5.1 manual, section 2.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from resplock import limits
from resplock.script.failures import Refusal
from resplock.script.values import Scalar, to_number

NAME: Final = "name"
NUMBER: Final = "number"
STRING: Final = "string"
SYMBOL: Final = "symbol"
END: Final = "<eof>"


class Token(NamedTuple):
    """`kind` is one of the above or a keyword; `text` is as written, for people; `value` of literals."""

    kind: str
    text: str
    line: int
    value: Scalar = None


_WORDS = """
    and break do else elseif end false for function if in local nil not or repeat return then true
    until while
"""
KEYWORDS: Final = frozenset(_WORDS.split())

_TOKEN = re.compile(
    rb"""
      (?P<space>[ \t\r\f\v\n]+)
    | (?P<comment>--)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<long>\[=*\[)
    | (?P<quote>["'])
    | (?P<symbol>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^\#<>=(){}\[\];:,.])
    """,
    re.VERBOSE,
)
_PLAIN = {quote: re.compile(rb"[^\\\n" + quote + rb"]*") for quote in (b'"', b"'")}
_LONG = re.compile(rb"\[(=*)\[")
_DECIMAL = re.compile(rb"[0-9]{1,3}")
_ESCAPES: Final = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


def tokens(source: bytes) -> list[Token]:
    """The tokens of a script; the last one is END. Raises Refusal."""
    found = list(islice(_tokens(source), limits.SCRIPT_TOKENS_MAX + 1))
    if found[-1].kind != END:
        text = f"the script has more than {limits.SCRIPT_TOKENS_MAX} tokens"
        raise Refusal(found[-1].line, text)
    return found


def _tokens(source: bytes) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise Refusal(line, f"unexpected symbol near {_shown(source[at : at + 1])}")
        kind, raw, at = found.lastgroup, found.group(), found.end()
        match kind:
            case "space":
                line += raw.count(b"\n")
            case "comment":
                end = _end_of_comment(source, at, line)
                line += source.count(b"\n", at, end)
                at = end
            case "name":
                text = raw.decode()
                yield Token(text if text in KEYWORDS else NAME, text, line)
            case "number":
                yield _number(source, raw, at, line)
            case "long":
                end = _end_of_long(source, found.start(), line)
                value = _inside(source[found.start() : end])
                yield Token(STRING, "string", line, value)
                line += source.count(b"\n", at, end)
                at = end
            case "quote":
                value, at = _quoted(source, raw, at, line)
                yield Token(STRING, "string", line, value)
                line += source.count(b"\n", found.end(), at)
            case _:
                yield Token(SYMBOL, raw.decode(), line)
    yield Token(END, END, line)


def _shown(raw: bytes) -> str:
    return repr(raw)[1:]


def _number(source: bytes, raw: bytes, at: int, line: int) -> Token:
    follows = source[at : at + 1]
    value = to_number(raw)
    has_exponent = b"e" in raw.lower()  # behind one, dots are no part of a number
    if (
        value is None
        or follows == b"_"
        or follows.isalnum()
        or (follows == b"." and not has_exponent)
    ):
        raise Refusal(line, f"malformed number near {_shown(raw + follows)}")
    return Token(NUMBER, raw.decode(), line, value)


def _end_of_comment(source: bytes, at: int, line: int) -> int:
    """`at` is behind the dashes."""
    if _LONG.match(source, at):
        return _end_of_long(source, at, line)
    end = source.find(b"\n", at)
    return len(source) if end < 0 else end


def _end_of_long(source: bytes, start: int, line: int) -> int:
    """Behind the closing bracket of the long one that begins at `start`."""
    opened = _LONG.match(source, start)
    assert opened is not None
    closing = b"]" + opened.group(1) + b"]"
    end = source.find(closing, opened.end())
    if end < 0:
        raise Refusal(line, "unfinished long string/comment near '<eof>'")
    return end + len(closing)


def _inside(raw: bytes) -> bytes:
    """What is between long brackets; a newline directly behind the first one does not count."""
    level = raw.index(b"[", 1) + 1
    return raw[level:-level].removeprefix(b"\r").removeprefix(b"\n")


def _quoted(source: bytes, quote: bytes, at: int, line: int) -> tuple[bytes, int]:
    """A quoted string from behind its first quote, and where it ends."""
    pieces: list[bytes] = []
    while True:
        plain = _PLAIN[quote].match(source, at)
        assert plain is not None
        pieces.append(plain.group())
        at = plain.end()
        stop = source[at : at + 1]
        if stop == quote:
            return b"".join(pieces), at + 1
        if stop != b"\\" or at + 1 >= len(source):
            near = END if at >= len(source) or stop == b"\\" else "string"
            raise Refusal(line, f"unfinished string near '{near}'")
        piece, at = _escaped(source, at + 1, line)
        pieces.append(piece)


def _escaped(source: bytes, at: int, line: int) -> tuple[bytes, int]:
    """What an escape stands for; `at` is behind its backslash."""
    decimal = _DECIMAL.match(source, at)
    if decimal is None:
        letter = source[at : at + 1]
        return _ESCAPES.get(letter, letter), at + 1
    code = int(decimal.group())
    if code > 255:
        raise Refusal(line, "escape sequence too large")
    return bytes([code]), decimal.end()
