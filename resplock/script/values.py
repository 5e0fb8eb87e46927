"""Lua's values: how they compare, print and convert.

Pure. A value is None (nil), a bool, a float (every number of Lua 5.1 is a double), bytes, a Table or
a Function. Arithmetic is IEEE 754's, the same on every machine; nothing shows an address, and a
table is walked in the order in which it was filled. So a script does the same on every replica.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from resplock.script.run import Run

Scalar: TypeAlias = None | bool | float | bytes
Value: TypeAlias = "Scalar | Table | Function"
Body: TypeAlias = Callable[["Run", list[Value]], list[Value]]


class Function:
    """A function of the script or of the library. `name` is for messages."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Body) -> None:
        self.name = name
        self.call = call


class Table:
    """A table: `items` holds 1, 2, 3 ... up to the last, which is not nil; `others` everything else.

    A frozen table is the script's to read only.
    """

    __slots__ = ("frozen", "items", "others")

    def __init__(self, items: list[Value] | None = None) -> None:
        self.items: list[Value] = [] if items is None else items
        self.others: dict[Any, Value] = {}
        self.frozen = False
        self._trim()

    def get(self, key: Value) -> Value:
        """The value at `key`, or nil."""
        if type(key) is float:
            items = self.items
            if 1 <= key <= len(items) and key.is_integer():
                return items[int(key) - 1]
            return self.others.get(key)
        if type(key) is bool:
            return self.others.get(_BOOLEANS[key])
        return self.others.get(key)

    def set(self, key: Value, value: Value) -> None:
        """Set, or delete with nil. `key` is neither nil nor NaN."""
        if type(key) is float:
            items = self.items
            if 1 <= key <= len(items) + 1 and key.is_integer():
                self._set_item(int(key) - 1, value)
                return
        own: Any = _BOOLEANS[key] if type(key) is bool else key
        if value is None:
            self.others.pop(own, None)
        else:
            self.others[own] = value

    def _set_item(self, at: int, value: Value) -> None:
        items = self.items
        if at < len(items):
            items[at] = value
            if value is None:
                self._trim()
            return
        if value is None:
            self.others.pop(float(at + 1), None)
            return
        items.append(value)
        self._take_over()

    def insert(self, at: int, value: Value) -> None:
        """Put it in the place of the item `at`, which is there, and moves up with all behind it."""
        self.items.insert(at - 1, value)
        self._take_over()

    def _take_over(self) -> None:
        """What follows the last item is one of the items."""
        if self.others:
            self.others.pop(float(len(self.items)), None)
            while (follows := self.others.pop(float(len(self.items) + 1), None)) is not None:
                self.items.append(follows)

    def _trim(self) -> None:
        items = self.items
        while items and items[-1] is None:
            items.pop()

    def pairs(self) -> list[tuple[Value, Value]]:
        """What it holds now: the items in order, then the others as they were put in."""
        held: list[tuple[Value, Value]] = [
            (float(at), value) for at, value in enumerate(self.items, 1) if value is not None
        ]
        for key, value in self.others.items():
            held.append((key.value if type(key) is _Boolean else key, value))
        return held


class _Boolean:
    """A boolean as a key: in a dict of Python, True and 1.0 are the same one."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


_BOOLEANS: Final = (_Boolean(False), _Boolean(True))


def table_of(**fields: Value) -> Table:
    """A table with these fields."""
    table = Table()
    for name, value in fields.items():
        table.others[name.encode()] = value
    return table


def type_name(value: Value) -> str:
    """What `type` says."""
    if value is None:
        return "nil"
    return _TYPE_NAMES[type(value)]


_TYPE_NAMES: Final[dict[type, str]] = {
    bool: "boolean",
    float: "number",
    bytes: "string",
    Table: "table",
    Function: "function",
}


def is_true(value: Value) -> bool:
    """Everything but nil and false."""
    return value is not None and value is not False


def equals(left: Value, right: Value) -> bool:
    """Lua's `==`: equal numbers, strings and booleans, or the same table or function."""
    return type(left) is type(right) and left == right


# --- numbers and strings -------------------------------------------------------------------------

_NUMERAL_BYTES_MAX = 64
"""A longer numeral is no number; Lua has no such bound."""
_DECIMAL = re.compile(
    rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity|nan)",
    re.IGNORECASE,
)
_HEXADECIMAL = re.compile(
    rb"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]{1,4})?", re.IGNORECASE
)
_SPACE: Final = b" \t\n\v\f\r"


def to_number(value: Value) -> float | None:
    """A number, or the one that a string spells (Lua's coercion); None when it is none."""
    if type(value) is float:
        return value
    if type(value) is not bytes or len(value) > _NUMERAL_BYTES_MAX:
        return None
    numeral = value.strip(_SPACE)
    if _DECIMAL.fullmatch(numeral):
        return float(numeral)
    if not _HEXADECIMAL.fullmatch(numeral):
        return None
    try:
        return float.fromhex(numeral.decode())
    except OverflowError:
        return -math.inf if numeral.startswith(b"-") else math.inf


def to_number_in(numeral: bytes, base: int) -> float | None:
    """What a string spells in this base, 2 to 36; None when it is no number."""
    digits = numeral.strip(_SPACE).lower()
    negative = digits.startswith(b"-")
    digits = digits[1:] if digits[:1] in (b"-", b"+") else digits
    if base == 16:
        digits = digits.removeprefix(b"0x")
    if not digits or len(digits) > _NUMERAL_BYTES_MAX or not digits.isalnum():
        return None
    try:
        total = min(int(digits, base), _UNSIGNED_MAX)
    except ValueError:
        return None
    return float(-total % 2**64 if negative else total)


_UNSIGNED_MAX = 2**64 - 1
"""As C's strtoul, which the real one uses."""


def number_to_bytes(number: float) -> bytes:
    """As `tostring` and `..` print a number: 14 digits."""
    return b"%.14g" % number


def number_to_argument(number: float) -> bytes:
    """As `redis.call` passes a number on: 17 digits."""
    return b"%.17g" % number


def to_text(value: Value) -> bytes | None:
    """A string, or a number as one; None for everything else."""
    if type(value) is bytes:
        return value
    return number_to_bytes(value) if type(value) is float else None


def shown(value: Value) -> bytes:
    """What `tostring` says. Tables and functions do not tell their address: it differs by replica."""
    text = to_text(value)
    if text is not None:
        return text
    if value is None:
        return b"nil"
    if type(value) is bool:
        return b"true" if value else b"false"
    return type_name(value).encode()


def to_integer(number: float) -> int:
    """Toward zero, as C casts to 64 bits; the smallest of them for what does not fit."""
    if math.isfinite(number) and _INTEGER_MIN <= number < -_INTEGER_MIN:
        return int(number)
    return _INTEGER_MIN


_INTEGER_MIN: Final = -(2**63)


# --- arithmetic ----------------------------------------------------------------------------------


def divide(left: float, right: float) -> float:
    """IEEE division: by zero it is infinite, or NaN."""
    if right:
        return left / right
    if left == 0 or math.isnan(left) or math.isnan(right):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def modulo(left: float, right: float) -> float:
    """Lua's `%`: what is left of a division rounded toward minus infinity."""
    quotient = divide(left, right)
    if not math.isfinite(quotient):
        return math.nan
    return left - math.floor(quotient) * right
