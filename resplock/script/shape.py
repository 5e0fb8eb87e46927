"""What a script does, whatever it is written like: by this, the ones that everybody sends are known.

Pure. Two scripts have one shape when they differ at most in spaces, comments, quotes, parentheses, the
names of variables, and capital letters in the names of commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from hashlib import sha1
from typing import Any, Final

from resplock.script import syntax

_UNSEEN: Final = frozenset({"height", "line", "cost", "size"})
"""What a node says of its text or its compiled form only."""


def shape_of(tree: syntax.FunctionBody) -> bytes:
    """A digest of the shape of a whole script."""
    seen = ",".join(_parts(tree, {}))
    return sha1(seen.encode(), usedforsecurity=False).digest()


def _parts(node: Any, names: dict[syntax.Local, int]) -> Iterator[str]:
    match node:
        case syntax.Local():
            yield f"#{names.setdefault(node, len(names))}"
        case syntax.Parenthesized(inner=inner) if not isinstance(inner, syntax.Call):
            yield from _parts(inner, names)
        case syntax.Call(
            function=syntax.Field(
                of=syntax.ReadGlobal(name="redis"), key=syntax.Constant(value=b"call")
            ),
            arguments=[syntax.Constant(value=bytes() as command), *arguments],
        ):
            yield f"redis.call({command.lower()!r}"
            yield from _parts(arguments, names)
            yield ")"
        case list() | tuple():
            yield "["
            for each in node:
                yield from _parts(each, names)
            yield "]"
        case _ if is_dataclass(node):
            yield f"{type(node).__name__}("
            for field in fields(node):
                if field.name not in _UNSEEN:
                    yield from _parts(getattr(node, field.name), names)
            yield ")"
        case _:
            yield repr(node)
