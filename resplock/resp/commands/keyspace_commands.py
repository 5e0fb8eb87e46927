"""Redis's commands on all keys of a database, and on what a key is made of.

Pure, and only data. The arguments describe; `resplock.keyspace` reads them.
"""

from __future__ import annotations

from typing import Any

from resplock import limits
from resplock import operations as ops
from resplock.keyspace import GRAMMARS
from resplock.resp.arguments import Argument, Integer, OneOf, Pattern, PureToken, Text
from resplock.resp.command import Command, Flag, Group, Meets, help_of
from resplock.resp.commands.string_commands import KEY
from resplock.resp.shapes import Kind, Reply

_READ = (Flag.READONLY,)
_NO_KEY = Reply("nil", Kind.NIL, "There is no such key.", of=ops.Bulk)
_GLOB = f"A glob of at most {limits.PATTERN_BYTES_MAX} bytes."


def _pattern(token: str = "") -> Pattern:
    return Pattern(
        name="pattern", token=token, least=0, optional=bool(token), summary=_GLOB, absent="any"
    )


def _read(
    name: str,
    summary: str,
    builds: type[Any],
    replies: tuple[Reply, ...],
    *arguments: Argument,
    group: Group = Group.GENERIC,
    complexity: str = "O(1)",
    details: tuple[str, ...] = (),
    errors: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    key_flags: tuple[str, ...] = (),
    tips: tuple[str, ...] = (),
) -> Command:
    return Command(
        name=name,
        summary=summary,
        complexity=complexity,
        group=group,
        meets=Meets.READ,
        flags=_READ,
        arguments=arguments,
        builds=builds,
        replies=replies,
        errors=errors,
        categories=categories,
        details=details,
        key_flags=key_flags,
        tips=tips,
        grammar=GRAMMARS[name],
    )


def _object(name: str, summary: str, reply: Reply) -> Command:
    return _read(
        f"OBJECT {name}",
        summary,
        ops.DescribeKey,
        (reply, _NO_KEY),
        KEY,
        errors=("WRONGTYPE",),
        key_flags=("RO",),
        tips=("nondeterministic_output",),
    )


def _number(when: str) -> Reply:
    return Reply("number", Kind.INTEGER, when, of=ops.Number)


def _flush(name: str, summary: str) -> Command:
    return Command(
        name=name,
        summary=summary,
        complexity="O(N) where N is the number of keys",
        group=Group.SERVER,
        meets=Meets.PROPOSE,
        flags=(Flag.WRITE,),
        categories=("keyspace", "dangerous"),
        tips=("request_policy:all_shards", "response_policy:all_succeeded"),
        arguments=(
            OneOf(
                name="flush-type",
                optional=True,
                absent="SYNC",
                summary="Makes no difference.",
                arguments=(
                    PureToken(name="async", token="ASYNC", summary="As in Redis."),
                    PureToken(name="sync", token="SYNC", summary="As in Redis."),
                ),
            ),
        ),
        builds=ops.Flush,
        grammar=GRAMMARS[name],
        replies=(Reply("ok", Kind.SIMPLE, "OK, when they are gone.", of=ops.Done),),
        details=(
            (
                "It is DEL of each key: who waits for a lock is next, and the event is `deleted`. Up to "
                f"{limits.KEYS_PER_ENTRY} keys in all databases are deleted at once. Of more, all are "
                "deleted that were there when it began, but others may see some of them gone and some not."
            ),
        ),
    )


MEMORY_USAGE = _read(
    "MEMORY USAGE",
    "Tells about how much memory a key takes.",
    ops.DescribeKey,
    (_number("In bytes."), _NO_KEY),
    KEY,
    Integer(
        name="count",
        token="SAMPLES",
        optional=True,
        summary="Makes no difference.",
        absent="0",
    ),
    group=Group.SERVER,
    errors=("WRONGTYPE",),
    key_flags=("RO",),
)
"""Its container is among `observing_commands`."""

COMMANDS = (
    _read(
        "KEYS",
        "Returns the keys that match a glob.",
        ops.ListKeys,
        (
            Reply(
                "keys",
                Kind.ARRAY,
                f"The keys. An error when there are more than {limits.KEYS_LOOKED_AT_MAX} in all "
                f"databases, or more than {limits.VALUES_BYTES_MAX} bytes of them: use SCAN.",
                of=ops.Values,
            ),
        ),
        _pattern(),
        complexity="O(N) where N is the number of keys",
        categories=("dangerous",),
        tips=("request_policy:all_shards", "nondeterministic_output_order"),
    ),
    _read(
        "SCAN",
        "Returns some of the keys, and where to go on.",
        ops.ScanKeys,
        (
            Reply(
                "page",
                Kind.ARRAY,
                "Two elements: the cursor of the next page as a bulk string, `0` after the last one, "
                "and an array of keys, which may be empty before the end.",
                of=ops.KeyPage,
            ),
        ),
        Integer(name="cursor", summary="To begin 0, then what the last page gave."),
        _pattern("MATCH"),
        Integer(
            name="count",
            token="COUNT",
            optional=True,
            least=1,
            summary=f"How many keys to return, about; more than {limits.SCAN_COUNT_MAX} is as many.",
            absent=str(limits.SCAN_COUNT_DEFAULT),
        ),
        Text(
            name="type",
            token="TYPE",
            optional=True,
            summary="With `string`, keys that have one owner. There are no keys of other types.",
            absent="any",
        ),
        complexity="O(1) for every call",
        tips=("nondeterministic_output", "request_policy:special"),
        details=(
            (
                "A key that is there from the first page to the last is returned exactly once. A cursor "
                "stays valid when another node leads."
            ),
        ),
    ),
    _read(
        "RANDOMKEY",
        "Returns one of the keys.",
        ops.RandomKey,
        (
            Reply("key", Kind.BULK, "The key.", of=ops.Bulk),
            Reply("nil", Kind.NIL, "There is none.", of=ops.Bulk),
        ),
        tips=("request_policy:all_shards", "nondeterministic_output"),
    ),
    _flush("FLUSHDB", "Deletes all keys of this database."),
    _flush("FLUSHALL", "Deletes all keys of all databases."),
    Command(
        name="OBJECT",
        summary="A container for commands about what a key is made of.",
        group=Group.GENERIC,
        complexity="Depends on subcommand.",
        subcommands=(
            _object(
                "ENCODING",
                "Tells what Redis would keep a value as.",
                Reply("encoding", Kind.BULK, "`int`, `embstr` or `raw`.", of=ops.Bulk),
            ),
            _object(
                "FREQ",
                "Is refused: how often a key is used is not counted.",
                _number("Never given."),
            ),
            _object(
                "IDLETIME",
                "Tells for how long a key has not changed.",
                _number("In seconds. Reading it counts for nothing."),
            ),
            _object("REFCOUNT", "Is 1.", _number("1")),
            help_of("OBJECT", Group.GENERIC),
        ),
    ),
)
