"""A command: declared once, with everything else about it derived from the declaration.

Pure. `Command` holds what a person writes down; its properties are what is derived. How its
arguments are checked is compiled from the declaration when it is made, see `binding.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any

import msgspec

from resplock.errors import CommandError
from resplock.resp.arguments import (
    Argument,
    Conflict,
    Key,
    is_fixed,
    is_option,
    least_size,
    syntax,
)
from resplock.resp.binding import Binder, compile_binder
from resplock.resp.failures import ERRORS
from resplock.resp.shapes import HELP, Reply
from resplock.strings import Grammar


class Meets(Enum):
    """How a command meets Raft."""

    LOCAL = "Answered by the node that was asked, from what it knows itself."
    PROPOSE = "Decided by the cluster: an entry of the Raft log."
    READ = "Read from the lock table, up to date with everything decided before."


class Group(StrEnum):
    """Where a command belongs in the reference."""

    LOCK = "lock"
    STRING = "string"
    GENERIC = "generic"
    SCRIPTING = "scripting"
    TRANSACTIONS = "transactions"
    CONNECTION = "connection"
    SERVER = "server"
    RAFT = "raft"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"
    PUBSUB = "pubsub"


class Flag(StrEnum):
    """Redis's command flags, by the names that COMMAND shows."""

    WRITE = "write"
    DENYOOM = "denyoom"
    READONLY = "readonly"
    ADMIN = "admin"
    NOSCRIPT = "noscript"
    LOADING = "loading"
    STALE = "stale"
    FAST = "fast"
    NO_AUTH = "no_auth"
    NO_MULTI = "no_multi"
    NO_ASYNC_LOADING = "no_async_loading"
    ALLOW_BUSY = "allow_busy"
    BLOCKING = "blocking"
    MOVABLEKEYS = "movablekeys"
    PUBSUB = "pubsub"
    SENTINEL = "sentinel"
    SKIP_MONITOR = "skip_monitor"
    SKIP_SLOWLOG = "skip_slowlog"
    NO_MANDATORY_KEYS = "no_mandatory_keys"


ERRORS_BY_MEETS: dict[Meets, tuple[str, ...]] = {
    Meets.LOCAL: (),
    Meets.PROPOSE: ("INDOUBT", "CLUSTERDOWN", "BUSY", "LOADING", "MOVED"),
    Meets.READ: ("CLUSTERDOWN", "BUSY", "LOADING", "MOVED"),
}
"""The errors that a command may answer because of how it meets Raft."""


class KeySpec(msgspec.Struct, frozen=True):
    """Where keys are, in Redis's terms: where to begin to look, and what is found there.

    keyword    look for this word, from position `index` on; without it the keys begin at `index`
    counted    the first word found is the number of keys
    step       from one key to the next
    many       all from there to the end are keys
    """

    index: int
    keyword: bytes = b""
    counted: bool = False
    step: int = 1
    many: bool = False


class Nested(msgspec.Struct, frozen=True):
    """A struct inside of what a command builds, made from the options that are named as its fields.

    field   where it is in what the command builds, whose default is that none of them is given
    builds  its type
    always  fields that no argument gives, or their values when none does: then it is always there
    """

    field: str
    builds: type[Any]
    always: dict[str, Any] = {}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Command:
    """A declared command.

    name        in capitals; a subcommand has its container's name in front: `CLIENT ID`
    builds      the Operation or Query that its arguments make; without it they make a Call
    flags       Redis's flags; key positions and what follows from `meets` are derived
    errors      codes beyond ERR, what authentication gives and what `meets` implies
    categories  ACL categories beyond those that its group and flags imply
    tips        Redis's command tips, for cluster clients
    details     more paragraphs for the reference page
    key_flags   what it does with its keys, in Redis's words, where its flags do not say it all
    light       it may go into one entry with many others though it is not FAST: Redis's values are
                long, and locks are not
    heavy       it goes alone though it is FAST: it names many keys, or its answer may be long
    nested      what a part of the arguments makes, inside of what the command builds
    conflicts   options that contradict each other
    bare        a container that is a command also without a subcommand
    grammar     how the words are read instead of by the declared arguments, which then only describe
    """

    name: str
    summary: str
    group: Group
    complexity: str = "O(1)"
    since: str = "0.1.0"
    meets: Meets = Meets.LOCAL
    arguments: tuple[Argument, ...] = ()
    builds: type[Any] | None = None
    flags: tuple[Flag, ...] = ()
    replies: tuple[Reply, ...] = ()
    errors: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    tips: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    nested: Nested | None = None
    conflicts: tuple[Conflict, ...] = ()
    key_flags: tuple[str, ...] = ()
    light: bool = False
    heavy: bool = False
    bare: bool = False
    grammar: Grammar | None = None
    subcommands: tuple[Command, ...] = ()

    bind: Binder = field(init=False)
    """bind(argv, db) -> Operation, Query or Call. Raises CommandError. `db` is 0 to 15."""
    binder_source: str = field(init=False)
    """The source of `bind`, to look at; empty when it is a grammar's."""
    children: dict[bytes, Command] = field(init=False)
    """The subcommands, by their own word in capitals."""

    def __post_init__(self) -> None:
        if self.grammar is None:
            bind, source = compile_binder(self)
        else:
            bind, source = self.grammar.bind, ""
            assert self.grammar.arity == self.arity, self.name
        object.__setattr__(self, "bind", bind)
        object.__setattr__(self, "binder_source", source)
        children = {sub.words[-1].encode(): sub for sub in self.subcommands}
        object.__setattr__(self, "children", children)
        assert (self.builds is None) == (self.meets is Meets.LOCAL), self.name
        assert len(children) == len(self.subcommands), self.name
        assert all(sub.words[:-1] == self.words for sub in self.subcommands), self.name

    def __repr__(self) -> str:
        return f"<Command {self.name}>"

    # --- names ---

    @cached_property
    def words(self) -> list[str]:
        """The words of its name: `["CLIENT", "ID"]`."""
        return self.name.split()

    @cached_property
    def full_name(self) -> str:
        """As COMMAND shows it: `client|id`."""
        return self.name.lower().replace(" ", "|")

    def walk(self) -> Iterator[Command]:
        """This command, then its subcommands."""
        yield self
        yield from self.subcommands

    # --- syntax and arity ---

    @cached_property
    def syntax(self) -> str:
        """As a manual page shows it."""
        return " ".join((self.name, *map(syntax, self.arguments)))

    @cached_property
    def least_words(self) -> int:
        """The smallest number of words that a call has, its name included."""
        if self.subcommands and not self.bare:
            return len(self.words) + 1
        return len(self.words) + sum(map(least_size, self.arguments))

    def has_arity(self, argv: list[bytes]) -> bool:
        """Whether a call has a number of words that it may have."""
        count, arity = len(argv), self.arity
        return count == arity if arity > 0 else count >= -arity

    @cached_property
    def arity(self) -> int:
        """As in Redis: the number of words, or minus the smallest number when it may vary."""
        fixed = all(map(is_fixed, self.arguments)) and not self.subcommands
        return self.least_words if fixed else -self.least_words

    def wrong_arity(self) -> CommandError:
        """The error for too few or too many words.

        For Redis's own commands it is Redis's text and nothing more: clients compare it.
        """
        text = f"wrong number of arguments for '{self.full_name}' command"
        if self.group in (Group.LOCK, Group.RAFT):
            text += f", usage: {self.syntax}"
        if self.name == "EXEC":
            return CommandError(f"Transaction discarded because of: {text}", "EXECABORT")
        return CommandError(text)

    # --- what COMMAND and the access rules show ---

    @cached_property
    def all_flags(self) -> tuple[Flag, ...]:
        """The declared flags, and `movablekeys` when keys are not at fixed positions."""
        movable = any(spec.keyword or spec.counted for spec in self.key_specs)
        return (*self.flags, Flag.MOVABLEKEYS) if movable else self.flags

    @cached_property
    def acl_categories(self) -> tuple[str, ...]:
        """ACL categories, without their @, as Redis derives them, and @lock and @raft."""
        flags, is_container = self.flags, bool(self.subcommands) and not self.bare
        found = []
        if self.group is Group.LOCK:
            found.append("lock")
        if self.group is Group.RAFT:
            found.append("raft")
        if self.group is Group.STRING:
            found.append("string")
        if self.group is Group.GENERIC and not is_container:
            found.append("keyspace")
        if self.group is Group.SCRIPTING and not is_container:
            found.append("scripting")
        if self.group is Group.TRANSACTIONS:
            found.append("transaction")
        if Flag.READONLY in flags and self.group is not Group.SCRIPTING:
            found.append("read")
        if Flag.WRITE in flags:
            found.append("write")
        if Flag.ADMIN in flags:
            found.extend(("admin", "dangerous"))
        if Flag.PUBSUB in flags:
            found.append("pubsub")
        found.append("fast" if Flag.FAST in flags else "slow")
        if Flag.BLOCKING in flags:
            found.append("blocking")
        if self.group is Group.CONNECTION and not is_container:
            found.append("connection")
        found.extend(each for each in self.categories if each not in found)
        return tuple(found)

    @cached_property
    def all_errors(self) -> tuple[str, ...]:
        """The code of every error that it may answer in this version."""
        access = () if Flag.NO_AUTH in self.flags else ("NOAUTH", "NOPERM")
        codes = ("ERR", *self.errors, *ERRORS_BY_MEETS[self.meets], *access)
        return tuple(code for code in dict.fromkeys(codes) if not ERRORS[code].later)

    @cached_property
    def goes_along(self) -> bool:
        """Whether it need not go alone: others of its client may be under way with it."""
        return (Flag.FAST in self.flags or self.light) and not self.heavy

    # --- keys ---

    @cached_property
    def key_specs(self) -> tuple[KeySpec, ...]:
        """Where its keys are, from the declared arguments."""
        return tuple(_key_specs(self.arguments, len(self.words)))

    def keys(self, argv: list[bytes]) -> list[bytes]:
        """The keys in `argv`, which has the command's arity. Raises CommandError as GETKEYS does."""
        found: list[bytes] = []
        for spec in self.key_specs:
            at = spec.index
            if spec.keyword:
                tokens = [word.upper() for word in argv]
                if spec.keyword not in tokens[at:]:
                    continue
                at = tokens.index(spec.keyword, at) + 1
            if not spec.counted:
                found.extend(argv[at :: spec.step] if spec.many else [argv[at]])
                continue
            number = argv[at] if at < len(argv) else b""
            count = int(number) if number.isdigit() and len(number) < 10 else 0
            if not 0 < count <= (len(argv) - at - 1) // spec.step:
                raise CommandError("Invalid arguments specified for command")
            found.extend(argv[at + 1 : at + 1 + count * spec.step : spec.step])
        return found


def help_of(
    container: str,
    group: Group,
    *,
    flags: tuple[Flag, ...] = (Flag.LOADING, Flag.STALE),
    categories: tuple[str, ...] = (),
) -> Command:
    """The subcommand HELP of a container."""
    return Command(
        name=f"{container} HELP",
        summary="Prints this help.",
        group=group,
        flags=flags,
        categories=categories,
        replies=(HELP,),
    )


def _key_specs(arguments: tuple[Argument, ...], index: int) -> Iterator[KeySpec]:
    """`index`: the position of the first of the arguments."""
    for argument in arguments:
        group = (argument, *argument.parts)
        keys = [part for part in group if isinstance(part, Key)]
        if keys:
            assert len(keys) == 1, "one key in a block"
            keyword = argument.token.encode()
            step = max(len(argument.parts), 1)
            yield KeySpec(index, keyword, argument.counted is not None, step, argument.multiple)
        if not is_option(argument):
            index += least_size(argument)
