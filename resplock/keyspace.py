"""Redis's commands on all keys of a database, and about what a key is made of: what they ask for.

Pure. As in `resplock.strings` the errors are Redis's, word for word. Scripts do not reach these: they
declare their keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from resplock.errors import CommandError
from resplock.limits import INTEGER_MAX, PATTERN_BYTES_MAX, SCAN_COUNT_MAX
from resplock.operations import (
    ALL_DATABASES,
    DescribeKey,
    Flush,
    ListKeys,
    RandomKey,
    ScanKeys,
)
from resplock.strings import Grammar, integer, lock_of, syntax_error


def _keys(argv: list[bytes], db: int) -> ListKeys:
    return ListKeys(db, _pattern(argv[1]))


def _pattern(pattern: bytes) -> bytes:
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(
            f"pattern must be 0 to {PATTERN_BYTES_MAX} bytes, got {len(pattern)} bytes"
        )
    return pattern


def _scan(argv: list[bytes], db: int) -> ScanKeys:
    cursor, options = _cursor(argv[1]), argv[2:]
    pattern, count, kind = b"*", None, b""
    for option, value in zip(options[::2], options[1::2], strict=False):
        match option.upper():
            case b"MATCH":
                pattern = _pattern(value)
            case b"COUNT":
                count = integer(value)
                if count < 1:
                    raise syntax_error()
            case b"TYPE":
                kind = value.lower()
            case _:
                raise syntax_error()
    if len(options) % 2:
        raise syntax_error()
    if count is None:
        return ScanKeys(db, cursor, pattern, kind=kind)
    return ScanKeys(db, cursor, pattern, min(count, SCAN_COUNT_MAX), kind)


def _cursor(raw: bytes) -> int:
    if raw.isdigit() and len(raw) < 20 and (cursor := int(raw)) <= INTEGER_MAX:
        return cursor
    raise CommandError("invalid cursor")


def _flush(db_alone: bool) -> Callable[[list[bytes], int], Flush]:
    def parse(argv: list[bytes], db: int) -> Flush:
        if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() not in (b"ASYNC", b"SYNC")):
            raise syntax_error()
        return Flush(db if db_alone else ALL_DATABASES)

    return parse


def _describe(aspect: str) -> Callable[[list[bytes], int], DescribeKey]:
    return lambda argv, db: DescribeKey(lock_of(argv[2], db), aspect)


def _memory(argv: list[bytes], db: int) -> DescribeKey:
    options = argv[3:]
    if options and (len(options) != 2 or options[0].upper() != b"SAMPLES"):
        raise syntax_error()
    if options and integer(options[1]) < 0:
        raise syntax_error()
    return DescribeKey(lock_of(argv[2], db), "memory")


GRAMMARS: Final[dict[str, Grammar]] = {
    grammar.name.upper().replace("|", " "): grammar
    for grammar in (
        Grammar("keys", 2, _keys),
        Grammar("scan", -2, _scan),
        Grammar("randomkey", 1, lambda _, db: RandomKey(db)),
        Grammar("flushdb", -1, _flush(db_alone=True)),
        Grammar("flushall", -1, _flush(db_alone=False)),
        Grammar("object|encoding", 3, _describe("encoding")),
        Grammar("object|freq", 3, _describe("freq")),
        Grammar("object|idletime", 3, _describe("idletime")),
        Grammar("object|refcount", 3, _describe("refcount")),
        Grammar("memory|usage", -3, _memory),
    )
}
"""By the command's name, as the command table has it."""
