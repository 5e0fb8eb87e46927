"""COMMAND, COMMAND DOCS, ... and the HELP commands: the command table, as Redis 7 shows its own.

Pure. `answer` gives the whole reply to any of these commands; the functions below it make the
pieces. Shapes and texts are those of Redis 7, which its clients read: redis-cli takes its hints
from COMMAND DOCS, cluster clients take key positions from COMMAND.

What is said of one command is made and encoded once: a client may ask for it a thousand times in
one call, and gets it as often.
"""

from collections.abc import Callable
from functools import cache
from textwrap import wrap
from typing import Any

import msgspec

from resplock import glob
from resplock.errors import CommandError
from resplock.resp.arguments import (
    Argument,
    Block,
    Integer,
    Key,
    OneOf,
    Pattern,
    PureToken,
    syntax,
)
from resplock.resp.binding import Call
from resplock.resp.command import Command, Flag, KeySpec
from resplock.resp.commands import COMMANDS, find, look_up
from resplock.resp.replies import Lasting, Members, Simple


def answer(call: Call) -> Any:
    """The reply to COMMAND and its subcommands, and to HELP: a value for `replies.encode`.

    Raises CommandError, and KeyError for any other command: `ANSWERS` has those that it knows.
    """
    return ANSWERS[call.command.name](call)


# --- COMMAND -------------------------------------------------------------------------------------


@cache
def command_info(command: Command) -> Lasting:
    """One element of COMMAND's reply."""
    return Lasting(_command_info(command))


def _command_info(command: Command) -> list[Any]:
    specs = command.key_specs
    first, last, step = _fixed_keys(specs)
    return [
        command.full_name,
        command.arity,
        _simple_set(command.all_flags),
        first,
        last,
        step,
        _simple_set("@" + category for category in command.acl_categories),
        Members(command.tips),
        Members(tuple(_key_spec(spec, command) for spec in specs)),
        [command_info(sub) for sub in command.subcommands] or Members(()),  # as Redis has it
    ]


def _simple_set(words: Any) -> Members:
    return Members(tuple(Simple(str(word)) for word in words))


def _fixed_keys(specs: tuple[KeySpec, ...]) -> tuple[int, int, int]:
    """First key, last key and step; zeros when positions vary, as in Redis."""
    if len(specs) != 1 or specs[0].keyword or specs[0].counted:
        return 0, 0, 0
    return specs[0].index, -1 if specs[0].many else specs[0].index, specs[0].step


def _key_spec(spec: KeySpec, command: Command) -> dict[str, Any]:
    if spec.keyword:
        begin = {"keyword": spec.keyword, "startfrom": spec.index}
    else:
        begin = {"index": spec.index}
    if spec.counted:
        found = {"keynumidx": 0, "firstkey": 1, "keystep": spec.step}
    else:
        found = {"lastkey": -1 if spec.many else 0, "keystep": spec.step, "limit": 0}
    return {
        "flags": _key_flags(command),
        "begin_search": {"type": "keyword" if spec.keyword else "index", "spec": begin},
        "find_keys": {"type": "keynum" if spec.counted else "range", "spec": found},
    }


def _key_flags(command: Command) -> Members:
    """What a command does with its keys."""
    reads = Flag.READONLY in command.flags
    implied = ("RO", "access") if reads else ("RW", "access", "update")
    return _simple_set(command.key_flags or implied)


def all_info() -> list[Lasting]:
    """COMMAND's reply."""
    return [command_info(command) for command in COMMANDS.values()]


def info(names: tuple[bytes, ...]) -> list[Lasting | None]:
    """COMMAND INFO's reply: nil for an unknown name."""
    if not names:
        return [*all_info()]
    found = map(look_up, names)
    return [command_info(command) if command else None for command in found]


# --- COMMAND DOCS --------------------------------------------------------------------------------


def docs(names: tuple[bytes, ...]) -> dict[str, Lasting]:
    """COMMAND DOCS's reply: unknown names are left out."""
    found = map(look_up, names) if names else COMMANDS.values()
    return {command.full_name: command_docs(command) for command in found if command}


@cache
def command_docs(command: Command) -> Lasting:
    """One value of COMMAND DOCS's reply."""
    return Lasting(_command_docs(command))


def _command_docs(command: Command) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "summary": command.summary,
        "since": command.since,
        "group": str(command.group),
        "complexity": command.complexity,
    }
    if command.arguments:
        shown["arguments"] = _docs_of_all(command.arguments)
    if command.subcommands:
        shown["subcommands"] = {sub.full_name: command_docs(sub) for sub in command.subcommands}
    return shown


def _docs_of_all(arguments: tuple[Argument, ...]) -> list[dict[str, Any]]:
    return [shown for argument in arguments for shown in _argument_docs(argument)]


def _argument_docs(argument: Argument) -> list[dict[str, Any]]:
    """An argument in Redis's terms. It has no counted lists: those are an integer and the items."""
    if not argument.counted:
        return [_flagged(argument, _typed(argument))]
    items = _typed(argument)
    number = {"name": argument.counted.name, "type": "integer"}
    inner = items.pop("arguments", None)
    items["flags"] = _simple_set(("multiple",))
    if inner:
        items["arguments"] = inner
    if not argument.token:
        return [number, items]
    block = {"name": argument.name, "type": "block"}
    return [_flagged(argument, block | {"arguments": [number, items]})]


def _typed(argument: Argument) -> dict[str, Any]:
    name = argument.name
    match argument:
        case Key():
            return {"name": name, "type": "key", "key_spec_index": 0}
        case Pattern():
            return {"name": name, "type": "pattern"}
        case Integer(unix_time=True):
            return {"name": name, "type": "unix-time"}
        case Integer():
            return {"name": name, "type": "integer"}
        case PureToken():
            return {"name": name, "type": "pure-token"}
        case OneOf():
            return {"name": name, "type": "oneof", "arguments": _docs_of_all(argument.arguments)}
        case Block():
            return {"name": name, "type": "block", "arguments": _docs_of_all(argument.arguments)}
        case _:
            return {"name": name, "type": "string"}


def _flagged(argument: Argument, shown: dict[str, Any]) -> dict[str, Any]:
    """Adds what is said of an argument beyond its type, in Redis's order."""
    inner = shown.pop("arguments", None)
    if argument.token:
        shown["token"] = argument.token
    flags = []
    if argument.optional:
        flags.append("optional")
    if argument.multiple:
        flags.append("multiple")
        if argument.token and isinstance(argument, OneOf):
            flags.append("multiple_token")
    if flags:
        shown["flags"] = _simple_set(flags)
    if inner:
        shown["arguments"] = inner
    return shown


# --- COMMAND LIST, GETKEYS, HELP -----------------------------------------------------------------


def names(category: bytes | None = None, pattern: bytes | None = None) -> list[str]:
    """COMMAND LIST's reply: all names, those of an ACL category, or those that match a glob."""
    commands = [each for command in COMMANDS.values() for each in command.walk()]
    if category is not None:
        wanted = category.decode("latin-1").lower()
        commands = [each for each in commands if wanted in each.acl_categories]
    if pattern is not None:
        matches = glob.compile(pattern.lower())
        commands = [each for each in commands if matches(each.full_name.encode())]
    return [each.full_name for each in commands]


def categories() -> list[str]:
    """Every ACL category that a command has."""
    commands = [each for command in COMMANDS.values() for each in command.walk()]
    return list(dict.fromkeys(name for each in commands for name in each.acl_categories))


def _list(call: Call) -> list[str]:
    values = call.values
    if values["module"] is not None:
        return []  # there are no modules
    return names(values["aclcat"], values["pattern"])


def keys(argv: list[bytes]) -> list[bytes]:
    """COMMAND GETKEYS's reply for a whole command. Raises CommandError in Redis's words."""
    return _keys(argv)[1]


def keys_and_flags(argv: list[bytes]) -> list[list[Any]]:
    """COMMAND GETKEYSANDFLAGS's reply. Raises as `keys`."""
    command, found = _keys(argv)
    return [[key, _key_flags(command)] for key in found]


def _keys(argv: list[bytes]) -> tuple[Command, list[bytes]]:
    try:
        command = find(argv)
    except CommandError:
        raise CommandError("Invalid command specified") from None
    if not command.key_specs:
        raise CommandError("The command has no key arguments")
    given = len(argv)
    if given < command.least_words or (command.arity > 0 and given != command.arity):
        raise CommandError("Invalid number of arguments specified for command")
    found = command.keys(argv)
    if not found:
        raise CommandError("The command has no key arguments")
    return command, found


def help_of(container: Command) -> list[Simple]:
    """The reply to a container's HELP, such as CLIENT HELP."""
    lines = [f"{container.name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    if container.bare:
        lines += ["(no subcommand)", f"    {container.summary}"]
    for sub in container.subcommands:
        lines += _help_lines(sub, sub.syntax.removeprefix(container.name + " "))
    return [Simple(line) for line in lines]


def lock_help() -> list[Simple]:
    """The reply to LOCK.HELP."""
    lines = ["LOCK.<command> [<arg> [value] [opt] ...]. Commands are:"]
    for command in COMMANDS.values():
        if command.name.startswith("LOCK."):
            lines += _help_lines(command, command.syntax.removeprefix("LOCK."))
    return [Simple(line) for line in lines]


def _help_lines(command: Command, usage: str) -> list[str]:
    lines = [usage, f"    {command.summary}"]
    for argument in command.arguments:
        if argument.optional and argument.summary:
            shown = msgspec.structs.replace(argument, optional=False, multiple=False)
            lines.append(f"    * {syntax(shown)}")
            lines += wrap(argument.summary, 80, initial_indent="      ", subsequent_indent="      ")
    return lines


def _help(call: Call) -> list[Simple]:
    container = call.command.name.removesuffix(" HELP").encode()
    return help_of(COMMANDS[container])


ANSWERS: dict[str, Callable[[Call], Any]] = {
    "COMMAND": lambda _call: all_info(),
    "COMMAND COUNT": lambda _call: len(COMMANDS),
    "COMMAND DOCS": lambda call: docs(call.values["names"]),
    "COMMAND GETKEYS": lambda call: keys(call.argv[2:]),
    "COMMAND GETKEYSANDFLAGS": lambda call: keys_and_flags(call.argv[2:]),
    "COMMAND HELP": _help,
    "COMMAND INFO": lambda call: info(call.values["names"]),
    "COMMAND LIST": _list,
    "ACL HELP": _help,
    "CLIENT HELP": _help,
    "CONFIG HELP": _help,
    "DEBUG HELP": _help,
    "LATENCY HELP": _help,
    "SLOWLOG HELP": _help,
    "MEMORY HELP": _help,
    "MODULE HELP": _help,
    "OBJECT HELP": _help,
    "CLUSTER HELP": _help,
    "SENTINEL HELP": _help,
    "PUBSUB HELP": _help,
    "LOCK.HELP": lambda _call: lock_help(),
}
"""The commands that `answer` knows."""
