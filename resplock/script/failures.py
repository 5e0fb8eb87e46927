"""How scripts fail.

    ScriptFailure            ends in an error reply
        Refusal              when it is loaded: it is no Lua, or outside of the subset
          BadShebang         its first line is no `#!lua flags=...`
        BudgetExceeded       it took too many steps or bytes; it cannot be caught by the script
        Raised               what `error` and `redis.call` raise; `pcall` catches it
        Complaint            as Raised, of the library, which does not know the line

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resplock.script.values import Value


class ScriptFailure(Exception):
    """A script did not come to its end."""


class Refusal(ScriptFailure):
    """The script cannot be loaded. `text` names what was met, on which line."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.text = f"user_script:{line}: {text}"

    @property
    def reply(self) -> str:
        """The error reply, without its code."""
        return f"Error compiling script (new function): {self.text}"


class BadShebang(Refusal):
    """The first line cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(1, text)
        self._said = text

    @property
    def reply(self) -> str:
        """As Redis words it: this is not an error of the compiler's."""
        return self._said


class BudgetExceeded(ScriptFailure):
    """A bound of limits.py was reached. `text` names it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Raised(ScriptFailure):
    """A Lua error. `value` is what `pcall` returns for it; `line` is 0 until it is known."""

    def __init__(self, value: Value, line: int = 0) -> None:
        super().__init__(value)
        self.value = value
        self.line = line


class Complaint(ScriptFailure):
    """A Lua error whose text gets its place in front where the library was called."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def mistake(line: int, text: bytes) -> Raised:
    """An error with its place in front, as the language itself raises them."""
    return Raised(b"user_script:%d: %b" % (line, text), line)
