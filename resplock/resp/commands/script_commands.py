"""EVAL and its relatives: scripts that are run as one command of the log.

Pure, and only data. The arguments describe; a grammar reads them, as Redis does.
"""

from __future__ import annotations

from resplock import limits
from resplock import operations as ops
from resplock.errors import CommandError
from resplock.resp.arguments import Argument, Count, Key, OneOf, PureToken, Text
from resplock.resp.command import Command, Flag, Group, Meets
from resplock.resp.shapes import Kind, Reply
from resplock.strings import Grammar, Parse, integer
from resplock.types import LockName, lock_name

_KEYS = Key(
    name="key",
    field="names",
    counted=Count(0, limits.ARGUMENTS_MAX, name="numkeys"),
    summary="The locks that it may touch: KEYS.",
)
_ARGUMENTS = Text(name="arg", optional=True, multiple=True, summary="What it is given: ARGV.")
_ANYTHING = Reply("reply", Kind.BULK, "Whatever the script returns.", of=ops.Scripted)
_FLAGS = (Flag.NOSCRIPT, Flag.SKIP_MONITOR, Flag.NO_MANDATORY_KEYS)
_ON_ALL = ("request_policy:all_nodes", "response_policy:all_succeeded")
_DETAILS = (
    (
        "A script is run by every node, so it ends after a fixed number of steps and bytes, with an error. "
        "What it has done until then stays, as in Redis."
    ),
    (
        "The language is the part of Lua 5.1 that lock libraries use. What is outside of it is refused by "
        "its name before anything is run."
    ),
)


def _evaluation(by_sha: bool, read_only: bool) -> Parse:
    def parse(argv: list[bytes], db: int) -> ops.Evaluate:
        names, arguments = _keys_and_arguments(argv, db)
        return ops.Evaluate(argv[1], names, arguments, by_sha, read_only)

    return parse


def _keys_and_arguments(
    argv: list[bytes], db: int
) -> tuple[tuple[LockName, ...], tuple[bytes, ...]]:
    if argv[2] == b"1" and len(argv) > 3 and 0 < len(argv[3]) <= limits.KEY_BYTES_MAX:  # usual
        return (lock_name(db, argv[3]),), tuple(argv[4:])
    count = integer(argv[2])
    if count > len(argv) - 3:
        raise CommandError("Number of keys can't be greater than number of args")
    if count < 0:
        raise CommandError("Number of keys can't be negative")
    keys = argv[3 : 3 + count]
    for key in keys:
        if not 1 <= len(key) <= limits.KEY_BYTES_MAX:
            raise CommandError(f"key must be 1 to {limits.KEY_BYTES_MAX} bytes, got {len(key)}")
    return tuple([lock_name(db, key) for key in keys]), tuple(argv[3 + count :])


def _evaluator(name: str, summary: str, by_sha: bool = False, read_only: bool = False) -> Command:
    what = "sha1" if by_sha else "script"
    said = "The SHA1 of its source, in hex." if by_sha else "Its source."
    return Command(
        name=name,
        summary=summary,
        complexity="O(N) where N is the number of steps that it takes",
        group=Group.SCRIPTING,
        meets=Meets.PROPOSE,
        flags=(*_FLAGS, Flag.READONLY) if read_only else _FLAGS,
        light=True,
        arguments=(Text(name=what, field="script", summary=said), _KEYS, _ARGUMENTS),
        builds=ops.Evaluate,
        grammar=Grammar(name, -3, _evaluation(by_sha, read_only)),
        replies=(_ANYTHING,),
        errors=("NOSCRIPT", "WRONGTYPE") if by_sha else ("WRONGTYPE",),
        details=_DETAILS,
    )


def _flush(argv: list[bytes], db: int) -> ops.FlushScripts:
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError("SCRIPT FLUSH only support SYNC|ASYNC option")
    return ops.FlushScripts()


def _script(
    name: str,
    summary: str,
    arguments: tuple[Argument, ...],
    builds: type,
    grammar: Grammar,
    reply: Reply,
    meets: Meets = Meets.PROPOSE,
    tips: tuple[str, ...] = _ON_ALL,
) -> Command:
    return Command(
        name=f"SCRIPT {name}",
        summary=summary,
        group=Group.SCRIPTING,
        meets=meets,
        flags=(Flag.NOSCRIPT,),
        arguments=arguments,
        builds=builds,
        grammar=grammar,
        replies=(reply,),
        tips=tips,
    )


COMMANDS = (
    _evaluator("EVAL", "Runs a script."),
    _evaluator("EVALSHA", "Runs a script that is known, by its SHA1.", by_sha=True),
    _evaluator("EVAL_RO", "Runs a script that only reads.", read_only=True),
    _evaluator(
        "EVALSHA_RO",
        "Runs a script that only reads and is known, by its SHA1.",
        by_sha=True,
        read_only=True,
    ),
    Command(
        name="SCRIPT",
        summary="A container for commands on scripts.",
        group=Group.SCRIPTING,
        subcommands=(
            _script(
                "LOAD",
                "Makes a script known to all nodes, without running it.",
                (Text(name="script", summary="Its source."),),
                ops.LoadScript,
                Grammar("script|load", 3, lambda argv, db: ops.LoadScript(argv[2])),
                Reply("sha1", Kind.BULK, "The SHA1 of its source, in hex.", of=ops.Scripted),
            ),
            _script(
                "EXISTS",
                "Tells which scripts are known.",
                (Text(name="sha1", field="digests", multiple=True, summary="Their SHA1s."),),
                ops.ScriptsExist,
                Grammar("script|exists", -3, lambda argv, db: ops.ScriptsExist(tuple(argv[2:]))),
                Reply("known", Kind.ARRAY, "1 or 0 for each.", of=ops.Scripted),
                Meets.READ,
                ("request_policy:all_shards", "response_policy:agg_logical_and"),
            ),
            _script(
                "FLUSH",
                "Forgets all scripts.",
                (
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
                ops.FlushScripts,
                Grammar("script|flush", -2, _flush),
                Reply("ok", Kind.SIMPLE, "OK.", of=ops.Done),
            ),
        ),
    ),
)
