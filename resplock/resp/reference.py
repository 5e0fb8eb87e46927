"""Writes the reference page, docs/reference.md, from the command table.

    python -m resplock.resp.reference                            to the standard output
    python -m resplock.resp.reference docs/reference.md          to that file
    python -m resplock.resp.reference --check docs/reference.md  exit status 1 when it is stale

Pure, but for the last step of `main`. Nothing on the page is written by hand, and its order is the
table's: a change of the page is a change of the table.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from resplock import limits
from resplock.resp.arguments import (
    Argument,
    Block,
    Integer,
    OneOf,
    Pattern,
    PureToken,
    Text,
    syntax,
    words,
)
from resplock.resp.binding import default_of
from resplock.resp.command import Command, Group
from resplock.resp.commands import COMMANDS, refused
from resplock.resp.events import KINDS
from resplock.resp.failures import ERRORS
from resplock.resp.shapes import Field, Kind, Reply

_NOT_THERE = "Commands of Redis that are not there"

DEFAULT_PATH = Path("docs/reference.md")

_TITLES = {
    Group.LOCK: ("Locks", "The lock table, the same on every node."),
    Group.STRING: (
        "Strings",
        "As in Redis. A key is a lock and its value the owner; another value is a new grant.",
    ),
    Group.SCRIPTING: (
        "Scripts",
        (
            "As in Redis, in the part of Lua that lock libraries use. Scripts run on every node, so they "
            "have a fixed number of steps and bytes, and touch no key that they do not declare."
        ),
    ),
    Group.TRANSACTIONS: (
        "Transactions",
        "As in Redis: commands queued after MULTI are one command of the log.",
    ),
    Group.GENERIC: ("The keyspace", "As in Redis. A key is a lock, however it was taken."),
    Group.RAFT: ("Raft", "The cluster, for operators and health checks."),
    Group.CLUSTER: (
        "Redis Cluster",
        "How cluster clients find the leader: one shard, whose master is the leader.",
    ),
    Group.SENTINEL: (
        "Redis Sentinel",
        "How Sentinel clients find the leader: every node is a Sentinel, too.",
    ),
    Group.PUBSUB: ("Subscriptions", "As in Redis; the node itself publishes."),
    Group.CONNECTION: ("Connections", "As in Redis, so that its clients feel at home."),
    Group.SERVER: ("Server", "As in Redis."),
}

_PREFACE = f"""
Every command, its arguments, its replies and its errors. This page is generated from the command
table (`python -m resplock.resp.reference docs/reference.md`).

Command names and words in capitals may be written in any case. `[ ]` is optional, `< | >` is a
choice, `...` may be repeated. Options stand behind the other arguments, in any order, each at most
once unless it says otherwise. Numbers are plain decimals: no plus sign, no spaces, no leading
zeros. A command has at most {limits.ARGUMENTS_MAX} arguments of at most
{limits.ARGUMENT_BYTES_MAX} bytes each.

A lock is a key in a database. SELECT chooses one of {limits.DATABASES} databases; the same key in
two databases is two locks.

Replies are given in the types of RESP3. On a connection that uses RESP2, which is how every
connection begins, a double and a verbatim string are bulk strings, a set and a push are arrays, and a
map is an array of its fields and values.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield "# Reference"
    for paragraph in _PREFACE.strip().split("\n\n"):
        yield ""
        yield from wrap(paragraph, 99)
    yield ""
    for group in _TITLES:
        commands = [each for each in COMMANDS.values() if each.group is group]
        yield f"- [{_TITLES[group][0]}](#{_anchor(_TITLES[group][0])}): " + ", ".join(
            f"[{command.name}](#{_anchor(command.name)})" for command in commands
        )
    yield "- [Events](#events)"
    yield "- [Errors](#errors)"
    yield f"- [{_NOT_THERE}](#{_anchor(_NOT_THERE)})"
    for group in _TITLES:
        title, about = _TITLES[group]
        yield from ("", f"## {title}", "", about)
        for command in COMMANDS.values():
            if command.group is group:
                for each in command.walk():
                    yield from _command(each)
    yield from _events()
    yield from _errors()
    yield from _not_there()


def _anchor(heading: str) -> str:
    """The anchor that GitHub makes from a heading."""
    kept = "".join(char for char in heading.lower() if char.isalnum() or char in "-_ ")
    return kept.replace(" ", "-")


# --- a command -----------------------------------------------------------------------------------


def _command(command: Command) -> Iterator[str]:
    yield from ("", f"### {command.name}", "")
    if command.subcommands and not command.bare:
        subcommands = (f"[{each.name}](#{_anchor(each.name)})" for each in command.subcommands)
        yield f"{command.summary} {', '.join(subcommands)}."
        return
    yield from ("```", *_wrapped_syntax(command), "```", "", command.summary)
    for paragraph in command.details:
        yield from ("", paragraph)
    yield from _arguments(command)
    yield from _replies(command)
    codes = ", ".join(f"[{code}](#{_anchor(code)})" for code in command.all_errors)
    categories = " ".join(f"@{category}" for category in command.acl_categories)
    yield from (
        "",
        f"- Errors: {codes}",
        f"- Where: {command.meets.value}",
        f"- Complexity: {command.complexity}",
        f"- Since {command.since}; access categories {categories}",
    )


def _wrapped_syntax(command: Command) -> list[str]:
    """The syntax, an argument never broken over two lines unless it is longer than a line."""
    lines = [command.name]
    for argument in command.arguments:
        part = syntax(argument)
        if len(lines[-1]) + len(part) > 95:
            lines.append(" ")
        lines[-1] += f" {part}"
    return lines


# --- arguments -----------------------------------------------------------------------------------


def _arguments(command: Command) -> Iterator[str]:
    rows = [row for argument in command.arguments for row in _rows(command, argument)]
    if rows:
        yield from _table(("argument", "what", "range", "default"), rows)
    if command.conflicts:
        yield from ("", "An error, because they contradict each other:", "")
    for conflict in command.conflicts:
        yield f"- `{conflict.one}` with `{conflict.other}`: {conflict.why}"


def _rows(command: Command, argument: Argument, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """A row for the argument, and one for each argument inside it that has a value of its own."""
    of_words = isinstance(argument, OneOf) and argument.of_words
    if not argument.parts or argument.token or argument.summary or of_words:
        yield (
            f"{prefix}`{_name(argument)}`",
            argument.summary,
            _range(argument),
            _default(command, argument),
        )
        prefix += "... "
    if not of_words:
        for part in argument.parts:
            yield from _rows(command, part, prefix)


def _name(argument: Argument) -> str:
    if isinstance(argument, PureToken):
        return argument.token
    if argument.counted:
        return f"{argument.token} {argument.counted.name}".strip()
    if argument.parts:
        return argument.token or argument.name
    return f"{argument.token} {argument.name}".strip()


def _range(argument: Argument) -> str:
    if argument.counted:
        return f"{argument.counted.least} to {argument.counted.most} items"
    match argument:
        case PureToken() | Block():
            return ""
        case OneOf():
            return words(*(f"`{part.label}`" for part in argument.arguments))
        case Pattern():
            return f"a glob of {argument.expects}"
        case Text(least=0, most=limits.ARGUMENT_BYTES_MAX):
            return "any bytes"
        case Integer():
            return argument.expects.removeprefix("an integer from ")
        case _:
            return argument.expects


def _default(command: Command, argument: Argument) -> str:
    """What holds when it is not given: as declared, or else the default of the built struct."""
    if argument.absent:
        return argument.absent
    if argument.optional and isinstance(argument, Integer) and command.builds:
        return str(default_of(command.builds, argument))
    return ""


# --- replies and errors --------------------------------------------------------------------------


def _replies(command: Command) -> Iterator[str]:
    if command.replies:
        yield from ("", "Replies:", "")
    for reply in command.replies:
        yield f"- {_kind(reply)}: {reply.when}"
        yield from _fields(reply.fields, "    ")


def _fields(fields: tuple[Field, ...], indent: str) -> Iterator[str]:
    for field in fields:
        yield f"{indent}- `{field.name}` ({_field_kind(field)}): {field.summary}"
        yield from _fields(field.fields, indent + "    ")


def _kind(reply: Reply) -> str:
    return "no reply" if reply.kind is Kind.NOTHING else str(reply.kind)


def _field_kind(field: Field) -> str:
    if field.fields:
        return f"{field.kind} of maps"
    return f"{field.kind} or nil" if field.nullable else str(field.kind)


_EVENTS = f"""
What happens to locks is published on channels, the same on every node: each tells its own clients,
once it has applied what is committed, in the order of the log, each event once. Nothing is told that
did not happen. `CONFIG GET notify-keyspace-events` says `AKE`.

| channel | text |
| --- | --- |
| `__keyspace@<db>__:<key>` | the event |
| `__keyevent@<db>__:<event>` | the key |
| `__lock__:<key>` | `event=expired db=0 owner=me version=7 reason=` |

In the values of a `__lock__` line, a percent sign and bytes outside of `!` to `~` are written as `%XX`,
as in URLs. Three messages of one event come in the order of this table.

What a subscriber can miss, and how it notices: from the reply to SUBSCRIBE on it is told of everything,
for as long as its connection is open. The messages of a change of leader come late, and none is left
out or told twice. Who has lost the connection has missed what happened meanwhile: subscribe again,
then look with LOCK.GET, and compare versions. A node that cannot tell of everything closes the
connections that listen for events: when it was away for so long that it got a part of the log as a
snapshot, when a client does not read, or when more than {limits.EVENTS_QUEUED_MAX} events wait to be
told. A node that is cut off from the others tells of nothing until it is back: `+odown` is published
there once it knows of no leader, and `-odown` or `+switch-master` when it does again.

A message may tell of what LOCK.GET has shown already, when a node that is behind publishes it: the
version says which is newer. A message is not a promise for now: a lock that was just released may
be held again.
"""


def _events() -> Iterator[str]:
    yield from ("", "## Events")
    for paragraph in _EVENTS.strip().split("\n\n"):
        yield ""
        yield from [paragraph] if paragraph.startswith("|") else wrap(paragraph, 99)
    rows = ((f"`{kind.name}`", kind.meaning, kind.reasons) for kind in KINDS.values())
    yield from _table(("event", "what", "reason"), list(rows))


def _errors() -> Iterator[str]:
    yield from ("", "## Errors", "")
    yield "The first word of an error is its code. Texts are for people and may change."
    for error in ERRORS.values():
        yield from ("", f"### {error.code}", "", error.meaning, "", f"What to do: {error.remedy}")
        if error.later:
            yield from ("", "Not given in this version.")


def _not_there() -> Iterator[str]:
    yield from ("", f"## {_NOT_THERE}", "")
    yield "They are answered `-ERR` and why."
    rows = [(f"It {kind.why}.", ", ".join(kind.names)) for kind in refused.KINDS]
    yield from _table(("why", "commands"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table, without the columns that are empty."""
    used = [place for place in range(len(head)) if any(row[place] for row in rows)]
    yield ""
    for row in (head, ("---",) * len(head), *rows):
        cells = (row[place].replace("|", "\\|") for place in used)
        yield f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    check = "--check" in arguments
    paths = [Path(each) for each in arguments if each != "--check"]
    if not check:
        if not paths:
            sys.stdout.write(page())
            return 0
        paths[0].write_text(page(), encoding="utf-8")
        return 0
    path = paths[0] if paths else DEFAULT_PATH
    if path.is_file() and path.read_text(encoding="utf-8") == page():
        return 0
    print(f"{path} is stale: python -m resplock.resp.reference {path}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
