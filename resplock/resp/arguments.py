"""What a command's arguments are: the types in which the command table is written.

Pure, and only data: arity, syntax, checks, key positions, COMMAND DOCS and the reference page are
all derived from these (`command.py`, `binding.py`, `introspection.py`, `reference.py`).

An argument without a token is known by its position; one with a token (`TTL ms`) is an option,
which may stand anywhere behind the positional ones when it is optional.
"""

import msgspec

from resplock import limits


class Count(msgspec.Struct, frozen=True):
    """How many items a counted list has: its first argument says the number."""

    least: int
    most: int
    name: str = "n"


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind of argument has.

    name     as the syntax shows it: `key`, or `ms` in `TTL ms`
    field    the name of its value, in the Operation or in Call.values (default: from `name`)
    token    the word that introduces it
    multiple it may be repeated: `section [section ...]`, and with a token also that token
    counted  a list with its length in front: `META n k v ...`
    unique   no item of that list is there twice; of pairs, no first part is
    absent   what holds when it is not given, where the default value alone does not say it
    known_as what an error calls it, when that is neither its token nor its name
    """

    name: str
    summary: str = ""
    token: str = ""
    field: str = ""
    optional: bool = False
    multiple: bool = False
    counted: Count | None = None
    unique: bool = False
    absent: str = ""
    known_as: str = ""

    @property
    def label(self) -> str:
        """What an error calls it."""
        return self.known_as or self.token or self.name

    @property
    def target(self) -> str:
        """The name of its value."""
        return self.field or self.name.replace("-", "_")

    @property
    def expects(self) -> str:
        """What it may be, as in "must be an integer from 0 to 15"."""
        raise NotImplementedError

    @property
    def parts(self) -> "tuple[Argument, ...]":
        """The arguments inside a OneOf or a Block."""
        return ()


class Text(Argument, frozen=True, kw_only=True):
    """Any bytes, within a length. `printable`: the error for bytes outside `!`..`~`, if it counts."""

    least: int = 0
    most: int = limits.ARGUMENT_BYTES_MAX
    printable: str = ""

    @property
    def expects(self) -> str:
        return f"{self.least} to {self.most} bytes"


class Key(Text, frozen=True, kw_only=True):
    """The key of a lock. In an Operation it becomes the lock's full name."""

    least: int = 1
    most: int = limits.KEY_BYTES_MAX


class Pattern(Text, frozen=True, kw_only=True):
    """A glob, see resplock.glob."""

    least: int = 1
    most: int = limits.PATTERN_BYTES_MAX


class Wording(msgspec.Struct, frozen=True):
    """Redis's own texts for a wrong number, where clients may look for them."""

    not_integer: str
    out_of_range: str
    out_of_range_code: str = "ERR"


class Integer(Argument, frozen=True, kw_only=True):
    """A plain decimal number from `least` to `most`: no plus sign, spaces or leading zeros.

    cached   the same few values come again and again, such as TTLs
    at_most  the field of an argument ahead of it that it may not exceed
    """

    least: int = 0
    most: int = limits.INTEGER_MAX
    unit: str = ""
    note: str = ""
    unix_time: bool = False
    cached: bool = False
    at_most: str = ""
    wording: Wording | None = None

    @property
    def expects(self) -> str:
        text = f"an integer from {self.least} to {self.most}"
        if self.unit:
            text += f" {self.unit}"
        return f"{text} ({self.note})" if self.note else text


class PureToken(Argument, frozen=True, kw_only=True):
    """A word that stands for itself, such as WAITERS: True when given. The name is the word."""

    @property
    def expects(self) -> str:
        return self.token


class OneOf(Argument, frozen=True, kw_only=True):
    """Exactly one of the arguments in it.

    Words (`RELEASE | KEEP`) give the value of this argument, as a str in capitals; anything else
    gives its own value under its own name. With `flag`, one of the words, the value is whether it
    is this one.
    """

    arguments: tuple[Argument, ...]
    flag: str = ""

    @property
    def parts(self) -> tuple[Argument, ...]:
        return self.arguments

    @property
    def expects(self) -> str:
        return words(*(part.label for part in self.arguments))

    @property
    def of_words(self) -> bool:
        """Are the alternatives plain words?"""
        return all(isinstance(part, PureToken) for part in self.arguments)


class Block(Argument, frozen=True, kw_only=True):
    """Arguments that belong together.

    Counted, or repeated up to the end, it is a list: the value is a tuple of tuples.
    """

    arguments: tuple[Argument, ...]

    @property
    def parts(self) -> tuple[Argument, ...]:
        return self.arguments

    @property
    def expects(self) -> str:
        inner = " ".join(syntax(part) for part in self.arguments)
        if self.counted is None:
            return inner
        count = self.counted
        return f"a count from {count.least} to {count.most}, then so many times {inner}"


class Conflict(msgspec.Struct, frozen=True):
    """Two options, by their labels, that are not given together, and why."""

    one: str
    other: str
    why: str


def words(*alternatives: str, joint: str = "or") -> str:
    """`A`, `A or B`, `A, B or C`."""
    if len(alternatives) < 2:
        return "".join(alternatives)
    return f"{', '.join(alternatives[:-1])} {joint} {alternatives[-1]}"


def is_option(argument: Argument) -> bool:
    """Is it known by a token, and so free to stand anywhere behind the positional arguments?"""
    return argument.optional and starts_with_token(argument)


def starts_with_token(argument: Argument) -> bool:
    """Does it begin with a word of its own?"""
    if argument.token:
        return True
    return isinstance(argument, OneOf) and all(map(starts_with_token, argument.arguments))


def least_size(argument: Argument) -> int:
    """The smallest number of words on the wire that it takes."""
    if argument.optional:
        return 0
    return least_size_given(argument)


def least_size_given(argument: Argument) -> int:
    """The smallest number of words on the wire that it takes when it is given."""
    token = 1 if argument.token else 0
    if isinstance(argument, PureToken):
        return 1
    if isinstance(argument, OneOf):
        return token + min(map(least_size_given, argument.arguments))
    inner = max(sum(map(least_size, argument.parts)), 1)
    if argument.counted:
        return token + 1 + argument.counted.least * inner
    return token + inner


def is_fixed(argument: Argument) -> bool:
    """Does it always take the same number of words on the wire?"""
    if argument.optional or argument.multiple or argument.counted:
        return False
    sizes = set(map(least_size_given, argument.parts))
    return all(map(is_fixed, argument.parts)) and (isinstance(argument, Block) or len(sizes) < 2)


def syntax(argument: Argument) -> str:
    """As a manual page shows it: `[TTL ms]`, `<RELEASE | KEEP>`, `META n field value [...]`."""
    parts = list(map(syntax, argument.parts))
    if isinstance(argument, PureToken):
        text = argument.token
    elif isinstance(argument, OneOf):
        text = " | ".join(parts)
        if argument.token or not argument.optional:
            text = f"<{text}>"
    else:
        text = " ".join(parts) or argument.name
    if argument.counted:
        text = f"{argument.counted.name} {text} [{text} ...]"
    elif argument.multiple and not argument.token:
        text = f"{text} [{text} ...]"
    if argument.token and not isinstance(argument, PureToken):
        text = f"{argument.token} {text}"
        if argument.multiple:
            text = f"{text} [{repeated(argument, text)} ...]"
    return f"[{text}]" if argument.optional else text


def repeated(argument: Argument, text: str) -> str:
    """What is repeated: with its token when each item needs it, else the item alone."""
    return text if isinstance(argument, OneOf) else text.removeprefix(argument.token + " ")
