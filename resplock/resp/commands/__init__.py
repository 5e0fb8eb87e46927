"""The command table: every command, by its name.

Pure. `find` and `Command.bind` turn a client's words into an Operation, a Query or a Call.
"""

from collections.abc import Iterator
from typing import NamedTuple

from resplock.errors import CommandError
from resplock.resp.binding import Bound, Call
from resplock.resp.command import Command, Flag, Group, Meets
from resplock.resp.commands import (
    acl_commands,
    client_commands,
    cluster_commands,
    connection_commands,
    keyspace_commands,
    lock_commands,
    observing_commands,
    pubsub_commands,
    raft_commands,
    script_commands,
    sentinel_commands,
    server_commands,
    string_commands,
    transaction_commands,
)
from resplock.resp.commands.refused import refusal
from resplock.resp.quoting import QUOTED_BYTES_MAX, printable

__all__ = [
    "COMMANDS",
    "Bound",
    "Call",
    "Command",
    "Flag",
    "Group",
    "Meets",
    "Promise",
    "find",
    "look_up",
    "promises",
]

COMMANDS: dict[bytes, Command] = {
    command.name.encode(): command
    for module in (
        lock_commands,
        string_commands,
        keyspace_commands,
        script_commands,
        transaction_commands,
        connection_commands,
        client_commands,
        acl_commands,
        server_commands,
        observing_commands,
        raft_commands,
        cluster_commands,
        sentinel_commands,
        pubsub_commands,
    )
    for command in module.COMMANDS
}
"""Every command by its name in capitals; subcommands are within their containers."""


def find(argv: list[bytes]) -> Command:
    """The command that `argv`, which is not empty, calls: a subcommand where it names one.

    Raises CommandError for a command or subcommand that is unknown, in Redis's words, or that Redis
    has and we do not (`refused`).
    """
    # Most clients write names in capitals: `upper` is a second lookup for the others.
    command = COMMANDS.get(argv[0]) or COMMANDS.get(argv[0].upper())
    if command is None:
        raise _unknown_command(argv)
    if command.children:
        return _find_subcommand(command, argv)
    return command


def _find_subcommand(container: Command, argv: list[bytes]) -> Command:
    if len(argv) == 1:
        if container.bare:
            return container
        raise container.wrong_arity()
    command = container.children.get(argv[1]) or container.children.get(argv[1].upper())
    if command is None:
        if (refused := refusal(b"%b %b" % (argv[0], argv[1]))) is not None:
            raise CommandError(refused)
        name = printable(argv[1])
        raise CommandError(f"unknown subcommand '{name}'. Try {container.name} HELP.")
    return command


def _unknown_command(argv: list[bytes]) -> CommandError:
    if b" " not in argv[0] and (refused := refusal(argv[0])) is not None:
        return CommandError(refused)
    arguments = ""
    for word in argv[1:]:
        left = QUOTED_BYTES_MAX - len(arguments)
        if left <= 0:
            break
        arguments += f"'{printable(word, left)}' "
    name = printable(argv[0])
    return CommandError(f"unknown command '{name}', with args beginning with: {arguments}")


def look_up(full_name: bytes) -> Command | None:
    """The command with the name that COMMAND shows, such as `client|id`, in any case."""
    name, bar, subcommand = full_name.upper().partition(b"|")
    command = COMMANDS.get(name)
    if command is None or not bar:
        return command
    return command.children.get(subcommand)


class Promise(NamedTuple):
    """Something that the table says a command does: `kind` is "command", "reply" or "error"."""

    command: str
    kind: str
    name: str


def promises() -> Iterator[Promise]:
    """All that the table promises: each command that can be called, each of its replies and errors.

    For the test that every promise is kept: it collects what its calls were answered and compares.
    """
    for top in COMMANDS.values():
        for command in top.walk():
            if command.subcommands and not command.bare:
                continue
            yield Promise(command.name, "command", command.name)
            for reply in command.replies:
                yield Promise(command.name, "reply", reply.name)
            for code in command.all_errors:
                yield Promise(command.name, "error", code)
