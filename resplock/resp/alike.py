"""Commands that are like earlier ones of the same client: all but the key is the same again.

Pure. It is what clients mostly send: `LOCK.ACQUIRE key owner TTL 30000` for key after key, one by one
or as a pipeline. So what a command has in common with the next ones is kept, as it is written and as
it is bound, and what is left to do for those is to cut out their keys. Measured, parsing and binding
together: a lone ACQUIRE goes from 1.5 to 0.8 microseconds, one of 16 in a pipeline from 1.7 to 0.5.

It is a shortcut: None says only that the bytes were not found to be of this kind, and the parser and
the binders, which are the definition, must look at them.

Why it is exact. With `head` for all of a command's canonical encoding ahead of the digits of its
key's length, and `tail` for all of it behind the key, it holds by construction that

    data == head + (tail + head).join(bulks) + tail

for the `bulks` that `split` gives, whatever bytes they are. When each of them is also found to be
`length CRLF key`, with the length of just that key written the one canonical way, then `data` IS the
canonical encoding of these commands, and the exact scanner would read just them from it. That a key
contains CRLF, or even `tail + head`, cannot mislead it: at most it finds nothing. And a binder looks
at a key by itself: when it took the other arguments once, it takes them with every key of a length
that is allowed.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, cast

from msgspec.structs import astuple

from resplock.limits import ARGUMENT_BYTES_MAX, KEY_BYTES_MAX, PIPELINE_DEPTH_MAX
from resplock.operations import Acquire, AcquireAll, Operation
from resplock.resp.parser import CRLF
from resplock.types import DB_PREFIXES

ALIKE_BYTES_MAX = 16 * 1024
"""The longest chunk that is tried: it bounds what a search costs that was made to be slow, and how
many commands there are in it (the shortest one with a key has 17 bytes)."""
assert ALIKE_BYTES_MAX < 17 * PIPELINE_DEPTH_MAX
assert ALIKE_BYTES_MAX < ARGUMENT_BYTES_MAX

COMMON_BYTES_MAX = 512
"""How long a command may be, without its key, to be kept."""
LIKENESSES_MAX = 8
"""How many are kept for one client."""
LIKENESS_KEY_BYTES = 16
"""By how many of their first bytes commands are told apart: up to `LOCK.A` and `LOCK.R`."""

_NONE: tuple[bytes, ...] = ()
"""No bytes start with one of these."""


def _length_lines() -> list[bytes | tuple[bytes, ...]]:
    """The line with a key's length, by the length of that line and the key together."""
    by_size: list[bytes | tuple[bytes, ...]] = [_NONE] * (ALIKE_BYTES_MAX + 1)
    for length in range(1, KEY_BYTES_MAX + 1):
        line = b"%d\r\n" % length
        by_size[len(line) + length] = line
    return by_size


_length_line = _length_lines().__getitem__


class Likeness:
    """What commands have in common that differ only in their key, which is their first argument."""

    __slots__ = ("_between", "_common", "_kind", "_tail", "head", "name")

    def __init__(self, arguments: list[bytes], operation: Operation) -> None:
        """arguments: of one such command; operation: what its binder made of it, name first."""
        self.name = arguments[0]
        """The command's, as it is written."""
        self.head = b"*%d\r\n$%d\r\n%b\r\n$" % (len(arguments), len(self.name), self.name)
        bulks = [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments[2:]]
        self._tail = CRLF + b"".join(bulks)
        self._between = self._tail + self.head
        self._kind = cast("type[Any]", type(operation))
        self._common = astuple(operation)[1:]

    def take(self, data: bytes, db: int) -> Operation | list[Operation] | None:
        """What to propose for `data`, if it is one such command or a pipeline of them."""
        head, tail = self.head, self._tail
        if not (data.startswith(head) and data.endswith(tail)) or len(data) > ALIKE_BYTES_MAX:
            return None
        bulk = data[len(head) : -len(tail)]
        line = _length_line(len(bulk))
        if bulk.startswith(line):
            return cast("Operation", self._kind(DB_PREFIXES[db] + bulk[len(line) :], *self._common))
        bulks = bulk.split(self._between)
        lines = list(map(_length_line, map(len, bulks)))
        if not all(map(bytes.startswith, bulks, lines)):
            return None
        keys = map(bytes.removeprefix, bulks, cast("list[bytes]", lines))
        names = map(DB_PREFIXES[db].__add__, keys)
        return list(map(self._kind, names, *map(repeat, self._common)))


def attaches(operation: Operation) -> bool:
    """Does it tie something to its connection, so that `options.client` must say which one it is?"""
    if not isinstance(operation, Acquire | AcquireAll) or operation.options is None:
        return False
    options = operation.options
    return options.on_close or (options.blocking and options.wait_ms > 0)


def learn(likes: dict[bytes, Likeness], arguments: list[bytes], operation: Operation) -> None:
    """Keep what a command, and the operation that its binder made, have in common with later ones.

    likes: by LIKENESS_KEY_BYTES first bytes. The command's first argument is a Key. One that builds
    another operation than one that begins with `name`, such as DEL of several keys, is not kept. Nor
    is one that is tied to its connection: it may block, and then nothing behind it goes on.
    """
    if sum(map(len, arguments)) - len(arguments[1]) > COMMON_BYTES_MAX:
        return
    if operation.__struct_fields__[0] != "name" or attaches(operation):
        return
    if len(likes) >= LIKENESSES_MAX:
        likes.clear()
    likeness = Likeness(arguments, operation)
    likes[likeness.head[:LIKENESS_KEY_BYTES]] = likeness
