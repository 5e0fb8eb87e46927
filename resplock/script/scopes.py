"""Which variable a name means: blocks, functions and what functions capture of each other.

Pure. A frame of a function is a list: slot 0 is the run, then come its variables. A variable that an
inner function uses is captured: its slot has a cell, which both share.
"""

from __future__ import annotations

from resplock.script.syntax import Local

LOCALS_MAX = 200
"""Local variables of one function, as in Lua."""


class TooManyLocals(Exception):
    """A function has more than LOCALS_MAX."""


class FunctionScope:
    """The variables of one function."""

    def __init__(self, outer: FunctionScope | None) -> None:
        self.outer = outer
        self.size = 1
        self.upvalues: list[tuple[int, int]] = []
        self._blocks: list[dict[str, Local]] = []
        self._captured: dict[Local, Local] = {}

    def open_block(self) -> None:
        """The variables that are declared from here on end with the block."""
        self._blocks.append({})

    def close_block(self) -> None:
        """Forget the variables of the block."""
        self._blocks.pop()

    def declare(self, name: str) -> Local:
        """A new variable of the innermost block. Raises TooManyLocals."""
        local = Local(name, self._new_slot())
        self._blocks[-1][name] = local
        return local

    def find(self, name: str) -> Local | None:
        """The variable that the name means here; None when it is global. Raises TooManyLocals."""
        for block in reversed(self._blocks):
            if name in block:
                return block[name]
        if self.outer is None:
            return None
        outer = self.outer.find(name)
        return None if outer is None else self._capture(outer)

    def _capture(self, outer: Local) -> Local:
        """This function's own view of a variable of the one around it."""
        known = self._captured.get(outer)
        if known is None:
            outer.captured = True
            known = Local(outer.name, self._new_slot(), captured=True, is_upvalue=True)
            self._captured[outer] = known
            self.upvalues.append((outer.slot, known.slot))
        return known

    def _new_slot(self) -> int:
        if self.size > LOCALS_MAX:
            raise TooManyLocals
        self.size += 1
        return self.size - 1
