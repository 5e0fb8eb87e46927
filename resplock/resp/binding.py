"""From a client's words to an Operation, a Query or a Call: binders, compiled from declarations.

Pure. Binding is on the hottest path, once for each command of each client. So each declaration is
turned into the source of one straight function when it is imported, as `dataclasses` does for
`__init__`: for `LOCK.RELEASE key owner [VERSION v]` that is in essence

    def bind(argv, db):
        count = len(argv)
        if count < 3:
            raise wrong_arity()
        v_version = 0
        v_key = argv[1]
        if not 1 <= len(v_key) <= 1024:
            raise bad_key(v_key)
        ...
        at = 3
        seen = 0
        while at < count:
            option = options_1.get(argv[at]) or options_1.get(argv[at].upper())
            at += 1
            if option == 1:
                ...
        return Release(prefixes[db] + v_key, v_owner, v_version)

Options that make a struct of their own (`Nested`) cost nothing while none of them is given: their
values are looked at, and what contradicts what, only behind one branch.

Nothing that a client sends gets into the source. `Command.binder_source` shows it, and tracebacks
show its lines. Errors are made by closures, outside the hot path.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from resplock import limits
from resplock.operations import Operation, Query
from resplock.resp.arguments import (
    Argument,
    Block,
    Integer,
    Key,
    OneOf,
    PureToken,
    Text,
    is_option,
    least_size,
    least_size_given,
    words,
)
from resplock.resp.checks import (
    VISIBLE,
    Errors,
    count_parser,
    integer_parser,
    known_integers,
    raiser,
)
from resplock.types import DB_PREFIXES

if TYPE_CHECKING:
    from resplock.resp.command import Command


class Call(msgspec.Struct, frozen=True):
    """A command for the node itself, bound: its values by the names of the declared arguments.

    Text is bytes, numbers are int, a choice among words is a str in capitals, lists are tuples; an
    argument that was not given is None, False for a lone word, or () for a list.
    """

    command: Command
    values: dict[str, Any]
    argv: list[bytes]


Bound: TypeAlias = Operation | Query | Call
Binder: TypeAlias = Callable[[list[bytes], int], Bound]


def default_of(builds: type[Any], argument: Argument) -> object:
    """The value of an argument that was not given: the default of its field in what is built."""
    for field in msgspec.structs.fields(builds):
        if field.name == argument.target and field.default is not msgspec.NODEFAULT:
            return field.default
    raise AssertionError(f"{builds.__name__}.{argument.target} has no default")


def compile_binder(command: Command) -> tuple[Binder, str]:
    """The binder of a command, and its source."""
    writer = _Writer(command)
    writer.write()
    source = "\n".join(writer.lines) + "\n"
    filename = f"<binder of {command.name}>"
    exec(compile(source, filename, "exec"), writer.names)
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    return writer.names["bind"], source


class _Writer:
    """Writes one binder.

    Where the next word is, is either known (`known_at`) or in the variable `at` (`known_at` None).
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.lines: list[str] = []
        self.depth = 0
        self.known_at: int | None = len(command.words)
        self.bits: dict[str, int] = {}  # of `seen`: by each option's label and by its target
        self.bits_used = 0
        self.loops = 0
        self.errors = Errors(command.name)
        self.names: dict[str, Any] = {
            "wrong_arity": command.wrong_arity,
            "prefixes": DB_PREFIXES,
            "command": command,
            "Call": Call,
        }

    # --- the shape of the function ---

    def write(self) -> None:
        command = self.command
        with self.indented("def bind(argv, db):"):
            self.line("count = len(argv)")
            comparison = "!=" if command.arity > 0 else "<"
            with self.indented(f"if count {comparison} {command.least_words}:"):
                self.line("raise wrong_arity()")
            for target, default in self.initial_values(command.arguments, certain=True):
                self.line(f"v_{target} = {default!r}")
            if any(is_option(each) for each in _all_arguments(command.arguments)):
                self.line("seen = 0")
            self.sequence(command.arguments, last=True)
            self.end()

    def end(self) -> None:
        """Refuse what contradicts, and return what is built."""
        nested, conflicts = self.command.nested, self.command.conflicts
        if nested is None:
            assert not conflicts, "only options that make a nested struct are compared"
            self.line(f"return {self.result()}")
            return
        values = {each.target: each for each in _values(self.command.arguments)}
        inside = [name for name in nested.builds.__struct_fields__ if name in values]
        if not nested.always:
            mask = sum(self.bits[target] for target in inside)
            with self.indented(f"if not seen & {mask}:"):
                self.line(f"return {self.result()}")
        for number, conflict in enumerate(conflicts, 1):
            both = self.bits[conflict.one] | self.bits[conflict.other]
            contradiction = self.bound(
                f"contradiction_{number}", self.errors.contradiction(conflict)
            )
            with self.indented(f"if seen & {both} == {both}:"):
                self.line(f"raise {contradiction}()")
        make = self.bound(nested.builds.__name__, nested.builds)
        given = []
        for target in inside:
            default = nested.always.get(target, default_of(nested.builds, values[target]))
            given.append(f"{target}=v_{target} if seen & {self.bits[target]} else {default!r}")
        fixed = {name: value for name, value in nested.always.items() if name not in inside}
        given += [f"{name}={value!r}" for name, value in fixed.items()]
        self.line(f"nested = {make}({', '.join(given)})")
        if not nested.always:
            none_given = self.bound("none_given", nested.builds())
            with self.indented(f"if nested == {none_given}:"):
                self.line(f"return {self.result()}")
        self.line(f"return {self.result({nested.field: 'nested'})}")

    def initial_values(
        self, arguments: tuple[Argument, ...], *, certain: bool
    ) -> Iterator[tuple[str, object]]:
        """What each value is until its argument is met; the positional ones need none."""
        for argument in arguments:
            required = certain and not argument.optional
            if argument.parts and not _has_value(argument):
                inside = required and not isinstance(argument, OneOf)
                yield from self.initial_values(argument.parts, certain=inside)
            elif not required and not self.is_nested(argument):
                yield argument.target, self.default(argument)

    def is_nested(self, argument: Argument) -> bool:
        """Does its value go into the nested struct?"""
        nested = self.command.nested
        return nested is not None and argument.target in nested.builds.__struct_fields__

    def default(self, argument: Argument) -> object:
        """The value of an argument that was not given."""
        builds = self.command.builds
        if builds is not None and argument.target in builds.__struct_fields__:
            return default_of(builds, argument)
        assert builds is None, f"{builds} has no {argument.target}"
        if argument.multiple or argument.counted:
            return ()
        return False if isinstance(argument, PureToken) else None

    def result(self, more: dict[str, str] | None = None) -> str:
        """The expression that makes the Operation, Query or Call from the values, and from `more`."""
        values = {each.target: each for each in _values(self.command.arguments)}
        builds = self.command.builds
        if builds is None:
            pairs = ", ".join(f"{target!r}: v_{target}" for target in values)
            return f"Call(command, {{{pairs}}}, argv)"
        self.names[builds.__name__] = builds
        by_field = {_field_of(each): _as_operand(each) for target, each in values.items()} | {
            "db": "db",
            **(more or {}),
        }
        given: list[str] = []
        skipped = False
        for field in builds.__struct_fields__:
            if field not in by_field:
                skipped = True
            elif skipped:
                given.append(f"{field}={by_field[field]}")
            else:
                given.append(by_field[field])
        return f"{builds.__name__}({', '.join(given)})"

    # --- arguments in a row ---

    def sequence(self, arguments: tuple[Argument, ...], *, last: bool) -> None:
        """Positional arguments, then options. `last`: nothing may follow them."""
        positional = [each for each in arguments if not is_option(each)]
        options = [each for each in arguments if is_option(each)]
        for number, argument in enumerate(positional):
            behind = sum(map(least_size, positional[number + 1 :]))
            ends = last and not options and number == len(positional) - 1
            self.positional(argument, behind, ends=ends)
        if options:
            self.options(options, last=last)
        elif last and not _takes_the_rest(positional) and self.command.arity < 0:
            with self.indented(f"if {self.at()} != count:"):
                self.line("raise wrong_arity()")

    def positional(self, argument: Argument, behind: int, *, ends: bool) -> None:
        """One argument known by its position; at least `behind` words follow it."""
        if not argument.optional:
            self.value(argument, behind, ends=ends)
            return
        self.forget_position()
        with self.indented(f"if count - at > {behind}:"):
            self.value(argument, behind, ends=ends)

    def options(self, options: list[Argument], *, last: bool) -> None:
        """Options, in any order, each at most once."""
        self.forget_position()
        self.loops += 1
        table = f"options_{self.loops}"
        numbers: dict[bytes, int] = {}
        for number, option in enumerate(options, 1):
            for token in _tokens(option):
                numbers[token] = number
        self.names[table] = numbers
        blocks = [each for each in options if isinstance(each, Block) and each.token]
        misplaced = [(part, each) for each in blocks for part in each.parts if part.token]
        for number, (part, _) in enumerate(misplaced, len(options) + 1):
            numbers[part.token.encode()] = number
        labels = [label for each in options for label in _labels(each)]
        with self.indented("while at < count:"):
            self.line(f"option = {table}.get(argv[at]) or {table}.get(argv[at].upper())")
            self.line("at += 1")
            branch = "if"
            for number, option in enumerate(options, 1):
                with self.indented(f"{branch} option == {number}:"):
                    self.option(option, table, labels)
                branch = "elif"
            for number, (part, whole) in enumerate(misplaced, len(options) + 1):
                with self.indented(f"elif option == {number}:"):
                    error = self.errors.misplaced(part, whole)
                    self.line(f"raise {self.bound(f'misplaced_{part.target}', error)}()")
            with self.indented("else:"):
                if last:
                    unknown = self.bound("unknown", self.errors.unknown(labels))
                    self.line(f"raise {unknown}(argv[at - 1])")
                else:
                    self.line("at -= 1")
                    self.line("break")

    def option(self, option: Argument, table: str, labels: list[str]) -> None:
        """One option, its token already read."""
        if not option.multiple or not isinstance(option, OneOf):
            self.once(option, labels)
        if isinstance(option, PureToken):
            self.line(f"v_{option.target} = True")
        elif not option.token:
            # The word is both the token and the value, as in SHUTDOWN [NOSAVE | SAVE].
            self.line("at -= 1")
            self.value(option, 0, ends=False)
        else:
            is_told_later = isinstance(option, OneOf) or option.counted  # by an error of its own
            least = 1 if is_told_later else least_size_given(option) - 1
            missing = self.bound(f"missing_{option.target}", self.errors.missing(option))
            with self.indented("if at == count:" if least == 1 else f"if count - at < {least}:"):
                self.line(f"raise {missing}()")
            self.value(option, 0, ends=False, table=table)

    def once(self, option: Argument, labels: list[str], label: str = "") -> None:
        """Refuse what was given before."""
        bit = 1 << self.bits_used
        self.bits_used += 1
        parts = option.parts if isinstance(option, Block) else ()
        for name in (option.label, option.target, *(each.target for each in parts[:1])):
            self.bits.setdefault(name, bit)
        label = label or words(*_labels(option))
        twice = self.bound(f"twice_{option.target}", self.errors.twice(label, labels))
        with self.indented(f"if seen & {bit}:"):
            self.line(f"raise {twice}()")
        self.line(f"seen |= {bit}")

    # --- one argument's words ---

    def value(self, argument: Argument, behind: int, *, ends: bool, table: str = "") -> None:
        """Read and check what follows the token, if there was one, into the argument's variable."""
        if argument.counted:
            self.counted(argument, behind)
        elif isinstance(argument, Block) and argument.multiple:
            self.tuples(argument)
        elif isinstance(argument, Block):
            self.sequence(argument.arguments, last=ends)
        elif isinstance(argument, OneOf) and argument.of_words:
            self.choice(argument)
        elif isinstance(argument, OneOf) and all(each.token for each in argument.arguments):
            self.alternatives(argument)
        elif isinstance(argument, OneOf):
            self.lone_word_or_options(argument)
        elif argument.multiple:
            self.several(argument, table)
        else:
            self.scalar(argument, self.take(), f"v_{argument.target}")

    def scalar(self, argument: Argument, source: str, variable: str) -> None:
        """One word into one variable."""
        target = argument.target
        if isinstance(argument, Integer):
            parse = self.bound(f"parse_{target}", integer_parser(argument, self.errors))
            if argument.cached:
                known = self.bound(f"known_{target}", known_integers(argument))
                self.line(f"{variable} = {known}.get({source})")
                with self.indented(f"if {variable} is None:"):
                    self.line(f"{variable} = {parse}({source})")
            else:
                self.line(f"{variable} = {parse}({source})")
            if argument.at_most:
                inside = _all_arguments(self.command.arguments)
                most = next(each for each in inside if each.target == argument.at_most)
                over = self.bound(f"over_{target}", self.errors.over(argument, most))
                with self.indented(f"if {variable} > v_{argument.at_most}:"):
                    self.line(f"raise {over}({variable}, v_{argument.at_most})")
            return
        assert isinstance(argument, Text), argument
        self.line(f"{variable} = {source}")
        if argument.least:
            wrong = f"not {argument.least} <= len({variable}) <= {argument.most}"
        else:
            wrong = f"len({variable}) > {argument.most}"
        if (
            argument.least or argument.most < limits.ARGUMENT_BYTES_MAX
        ):  # else the parser sees to it
            bad = self.bound(f"bad_{target}", self.errors.bad_length(argument))
            with self.indented(f"if {wrong}:"):
                self.line(f"raise {bad}({variable})")
        if argument.printable:
            visible = self.bound("visible", VISIBLE)
            unprintable = self.bound(f"unprintable_{target}", raiser(argument.printable))
            with self.indented(f"if {variable}.translate(None, {visible}):"):
                self.line(f"raise {unprintable}()")

    def choice(self, argument: OneOf) -> None:
        """One of some words."""
        variable = f"v_{argument.target}"
        table = self.bound(
            f"words_{argument.target}",
            {part.token.encode(): part.token for part in argument.arguments},
        )
        source = self.take()
        self.line(f"{variable} = {table}.get({source}) or {table}.get({source}.upper())")
        with self.indented(f"if {variable} is None:"):
            bad = self.bound(f"bad_{argument.target}", self.errors.bad_choice(argument))
            self.line(f"raise {bad}({source})")
        if argument.flag:
            self.line(f"{variable} = {variable} == {argument.flag!r}")

    def alternatives(self, argument: OneOf) -> None:
        """One of some options with values, such as EXPIRES <BEFORE t | AFTER t>."""
        table = self.bound(
            f"words_{argument.target}",
            {part.token.encode(): number for number, part in enumerate(argument.arguments, 1)},
        )
        self.forget_position()
        self.line(f"which = {table}.get(argv[at].upper())")
        self.line("at += 1")
        branch = "if"
        for number, part in enumerate(argument.arguments, 1):
            label = f"{argument.token} {part.token}".strip()
            with self.indented(f"{branch} which == {number}:"):
                if argument.multiple:
                    each = [f"{argument.token} {other.token}" for other in argument.arguments]
                    self.once(part, each, label)
                missing = self.bound(f"missing_{part.target}", self.errors.missing(part, label))
                with self.indented("if at == count:"):
                    self.line(f"raise {missing}()")
                self.scalar(part, self.take(), f"v_{part.target}")
            branch = "elif"
        with self.indented("else:"):
            bad = self.bound(f"bad_{argument.target}", self.errors.bad_choice(argument))
            self.line(f"raise {bad}(argv[at - 1])")

    def lone_word_or_options(self, argument: OneOf) -> None:
        """A single last word is the first alternative, more are the second: CLIENT KILL."""
        single, options = argument.arguments
        self.forget_position()
        with self.indented("if count - at == 1:"):
            self.scalar(single, self.take(), f"v_{single.target}")
        with self.indented("else:"):
            self.sequence(options.parts, last=True)

    def several(self, argument: Argument, table: str) -> None:
        """All the words up to the end, or up to the next option's token."""
        self.forget_position()
        items = f"items_{argument.target}"
        self.line(f"{items} = []")
        more = "at < count" + (f" and argv[at].upper() not in {table}" if table else "")
        with self.indented(f"while {more}:"):
            self.scalar(argument, self.take(), "item")
            is_name = isinstance(argument, Key) and self.command.builds
            self.line(f"{items}.append({'prefixes[db] + item' if is_name else 'item'})")
        if table:
            missing = self.bound(f"missing_{argument.target}", self.errors.missing(argument))
            with self.indented(f"if not {items}:"):
                self.line(f"raise {missing}()")
        self.line(f"v_{argument.target} = tuple({items})")

    def tuples(self, argument: Block) -> None:
        """All the words up to the end, so many at a time."""
        self.forget_position()
        with self.indented(f"if (count - at) % {len(argument.parts)}:"):
            self.line("raise wrong_arity()")
        items, variables = f"items_{argument.target}", []
        self.line(f"{items} = []")
        with self.indented("while at < count:"):
            for part in argument.parts:
                variables.append(f"item_{part.target}")
                self.scalar(part, self.take(), variables[-1])
            self.line(f"{items}.append(({', '.join(variables)}))")
        self.line(f"v_{argument.target} = tuple({items})")

    def counted(self, argument: Argument, behind: int) -> None:
        """A number, then so many items."""
        assert argument.counted is not None
        self.forget_position()
        parts = argument.parts or (argument,)
        target, width = argument.target, len(parts)
        items = f"items_{target}"
        parse = self.bound(f"count_{target}", count_parser(argument, self.errors))
        self.line(f"number = {parse}(argv[at])")
        self.line("at += 1")
        self.line(f"end = at + number * {width}" if width > 1 else "end = at + number")
        short = self.bound(f"short_{target}", self.errors.short(argument, width))
        limit = f"count - {behind}" if behind else "count"
        with self.indented(f"if end > {limit}:"):
            self.line(f"raise {short}(number, {limit} - at)")
        self.line(f"{items} = []")
        with self.indented("while at < end:"):
            variables = [f"item_{part.target}" for part in parts]
            for part, variable in zip(parts, variables, strict=True):
                self.scalar(part, self.take(), variable)
            operands = ", ".join(
                f"prefixes[db] + {variable}"
                if isinstance(part, Key) and self.command.builds
                else variable
                for part, variable in zip(parts, variables, strict=True)
            )
            self.line(
                f"{items}.append(({operands}))" if width > 1 else f"{items}.append({operands})"
            )
        if argument.unique:
            repeated = self.bound(f"repeated_{target}", self.errors.repeated(argument))
            first = "item[0]" if argument.parts else "item"
            with self.indented(f"if len({{{first} for item in {items}}}) < number:"):
                self.line(f"raise {repeated}()")
        self.line(f"v_{target} = tuple({items})")

    # --- lines, names and positions ---

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def indented(self, opening: str) -> Iterator[None]:
        self.line(opening)
        self.depth += 1
        yield
        self.depth -= 1

    def bound(self, name: str, value: object) -> str:
        """Let the source use `value` under this name, or a like one when it is taken."""
        name = name.replace("-", "_").replace(":", "_")
        unique, number = name, 1
        while unique in self.names and self.names[unique] is not value:
            number += 1
            unique = f"{name}_{number}"
        self.names[unique] = value
        return unique

    def at(self) -> str:
        """The position of the next word, as an expression."""
        return "at" if self.known_at is None else str(self.known_at)

    def forget_position(self) -> None:
        """From here on the position is only known at run time."""
        if self.known_at is not None:
            self.line(f"at = {self.known_at}")
            self.known_at = None

    def take(self) -> str:
        """The next word, as an expression; the position moves on."""
        if self.known_at is not None:
            self.known_at += 1
            return f"argv[{self.known_at - 1}]"
        self.line("word = argv[at]")
        self.line("at += 1")
        return "word"


def _all_arguments(arguments: tuple[Argument, ...]) -> Iterator[Argument]:
    for argument in arguments:
        yield argument
        yield from _all_arguments(argument.parts)


def _has_value(argument: Argument) -> bool:
    """Does it have a value of its own, rather than its parts?"""
    if isinstance(argument, OneOf):
        return argument.of_words
    return not isinstance(argument, Block) or argument.multiple or argument.counted is not None


def _values(arguments: tuple[Argument, ...]) -> Iterator[Argument]:
    """The arguments that have a value, in order."""
    for argument in arguments:
        if _has_value(argument):
            yield argument
        else:
            yield from _values(argument.parts)


def _field_of(argument: Argument) -> str:
    """Where its value goes in an Operation."""
    is_one_key = isinstance(argument, Key) and not (argument.counted or argument.multiple)
    return "name" if is_one_key else argument.target


def _as_operand(argument: Argument) -> str:
    """Its value in an Operation. `types.lock_name` is written out: a call costs as much as a bind
    of one argument."""
    variable = f"v_{argument.target}"
    return f"prefixes[db] + {variable}" if _field_of(argument) == "name" else variable


def _labels(argument: Argument) -> list[str]:
    """The words that introduce an option, for an error."""
    return [argument.token] if argument.token else [part.token for part in argument.parts]


def _tokens(argument: Argument) -> list[bytes]:
    """The words that introduce an option, as they come from clients."""
    return [label.encode() for label in _labels(argument)]


def _takes_the_rest(positional: list[Argument]) -> bool:
    """Has the last of them already seen to it that nothing follows?"""
    if not positional:
        return False
    final = positional[-1]
    if isinstance(final, Block):
        return final.counted is None
    if isinstance(final, OneOf):
        return not final.of_words and not all(part.token for part in final.arguments)
    return final.multiple
