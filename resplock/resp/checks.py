"""What the compiled binders call: readers of numbers, and makers of errors.

Pure, but for the memory of the numbers that were met, which changes no result. Each error names the
argument, what is allowed, and what was given, printable and cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from resplock.errors import CommandError
from resplock.resp.arguments import Argument, Conflict, Integer, OneOf, Text, words
from resplock.resp.quoting import quote

INTEGERS_CACHED_MAX = 1024
"""How many numbers of one range are remembered; then the memory begins anew."""
INTEGER_DIGITS_MAX = 19
"""The digits of 2^63 - 1."""
ZERO = ord("0")


def parse_integer(raw: bytes) -> int | None:
    """A plain decimal number as Redis takes it (string2ll), or None. At most 19 digits."""
    digits = raw[1:] if raw.startswith(b"-") else raw
    if not digits.isdigit() or len(digits) > INTEGER_DIGITS_MAX:
        return None
    if digits.startswith(b"0") and len(raw) > 1:
        return None
    return int(raw)


_caches: dict[tuple[int, int], dict[bytes, int]] = {}


def known_integers(argument: Integer) -> dict[bytes, int]:
    """The numbers of its range that were met, by their words.

    One for each range, so that the TTLs of all commands share it: a lookup is faster than reading
    digits, and a million holds with the same TTL share one int.
    """
    return _caches.setdefault((argument.least, argument.most), {})


def integer_parser(argument: Integer, errors: Errors) -> Callable[[bytes], int]:
    """The function that reads such an argument. It raises CommandError."""
    least, most = argument.least, argument.most
    cache = known_integers(argument) if argument.cached else None

    def parse(raw: bytes) -> int:
        if raw.isdigit() and len(raw) < INTEGER_DIGITS_MAX and raw[0] != ZERO:
            number: int | None = int(raw)  # nearly always: saves a call
        else:
            number = parse_integer(raw)
        if number is None or not least <= number <= most:
            raise errors.bad_integer(argument, raw, number)
        if cache is not None:
            if len(cache) >= INTEGERS_CACHED_MAX:
                cache.clear()
            cache[raw] = number
        return number

    return parse


def count_parser(argument: Argument, errors: Errors) -> Callable[[bytes], int]:
    """The function that reads how many items a counted list has."""
    count = argument.counted
    assert count is not None
    label = f"{argument.token} {count.name}".strip()
    as_integer = Integer(name=label, least=count.least, most=count.most)
    return integer_parser(as_integer, errors)


# --- errors --------------------------------------------------------------------------------------

VISIBLE = bytes(range(0x21, 0x7F))
"""What a client's name may be made of."""

Raiser: TypeAlias = Callable[..., CommandError]


def raiser(text: str) -> Raiser:
    """The function that makes an error with this text."""
    return lambda: CommandError(text)


class Errors:
    """Makes the functions that make a command's errors."""

    def __init__(self, command: str) -> None:
        self.command = command

    def make(self, text: str) -> CommandError:
        return CommandError(f"{self.command}: {text}")

    def bad_integer(self, argument: Integer, raw: bytes, number: int | None) -> CommandError:
        wording = argument.wording
        if wording is not None:
            if number is None:
                return CommandError(wording.not_integer)
            return CommandError(wording.out_of_range, wording.out_of_range_code)
        return self.make(f"{argument.label} must be {argument.expects}, got {quote(raw)}")

    def bad_length(self, argument: Text) -> Raiser:
        must = f"{argument.label} must be {argument.expects}"
        return lambda raw: self.make(f"{must}, got {len(raw)}")

    def bad_choice(self, argument: OneOf) -> Raiser:
        must = f"{argument.token or argument.name} must be {argument.expects}"
        return lambda raw: self.make(f"{must}, got {quote(raw)}")

    def missing(self, argument: Argument, label: str = "") -> Raiser:
        text = f"{label or argument.label} must be followed by {argument.expects}"
        return lambda: self.make(text)

    def short(self, argument: Argument, width: int) -> Raiser:
        def error(number: int, left: int) -> CommandError:
            needs = f"{argument.label} {number} must be followed by {number * width} arguments"
            return self.make(f"{needs}, got {max(left, 0)}")

        return error

    def repeated(self, argument: Argument) -> Raiser:
        if argument.parts:
            text = f"{argument.label} has the same {argument.parts[0].name} twice"
        else:
            text = f"the same {argument.name} is given twice"
        return lambda: self.make(text)

    def over(self, argument: Integer, most: Argument) -> Raiser:
        must = f"{argument.label} must be at most {most.label}, which is"
        return lambda number, bound: self.make(f"{must} {bound}, got {number}")

    def unknown(self, labels: list[str]) -> Raiser:
        if not labels:
            return lambda raw: self.make(f"unknown argument {quote(raw)}")
        allowed = words(*labels)
        return lambda raw: self.make(f"unknown argument {quote(raw)}, allowed: {allowed}")

    def twice(self, label: str, labels: list[str]) -> Raiser:
        text = f"{label} is given twice"
        if len(labels) > 1:
            text += f"; {words(*labels, joint='and')} are allowed once each"
        return lambda: self.make(text)

    def misplaced(self, part: Argument, whole: Argument) -> Raiser:
        text = f"{part.label} is allowed only behind {whole.token} {whole.parts[0].name}"
        return lambda: self.make(text)

    def contradiction(self, conflict: Conflict) -> Raiser:
        text = f"{conflict.one} and {conflict.other} contradict each other: {conflict.why}"
        return lambda: self.make(text)
