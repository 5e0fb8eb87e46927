"""The command table: that it is consistent, complete, and as Redis where Redis has the command."""

from typing import Any

import msgspec
import pytest

from resplock.resp import introspection
from resplock.resp.arguments import Argument, PureToken, syntax
from resplock.resp.binding import Call
from resplock.resp.command import Command, Flag, Group, Meets
from resplock.resp.commands import COMMANDS, promises
from resplock.resp.failures import ERRORS
from resplock.resp.replies import encode
from resplock.resp.shapes import Kind
from tests.resp.real_redis import RealRedis, parsed

EVERY = [command for top in COMMANDS.values() for command in top.walk()]
CALLABLE = [command for command in EVERY if not command.subcommands or command.bare]

every = pytest.mark.parametrize("command", EVERY, ids=lambda command: command.full_name)
each_callable = pytest.mark.parametrize("command", CALLABLE, ids=lambda each: each.full_name)


def inside(arguments: tuple[Argument, ...]) -> list[Argument]:
    return [each for one in arguments for each in (one, *inside(one.parts))]


def test_names() -> None:
    assert all(name == command.name.encode() for name, command in COMMANDS.items())
    assert all(name == name.upper() for name in COMMANDS)
    names = [command.full_name for command in EVERY]
    assert len(set(names)) == len(names)


@every
def test_sentences(command: Command) -> None:
    arguments = inside(command.arguments)
    texts = [
        command.summary,
        *command.details,
        *(argument.summary for argument in arguments),
        *(reply.when for reply in command.replies),
        *(field.summary for reply in command.replies for field in reply.fields),
    ]
    for text in filter(None, texts):
        assert text == text.strip()
        assert text.endswith((".", "`", "1", "?")), text
        assert text[0].isupper() or text[0] in "`1", text


@every
def test_arguments(command: Command) -> None:
    targets = [each.target for each in inside(command.arguments) if not isinstance(each, PureToken)]
    values = [target for target in targets if target not in ("arguments", "new_format", "version")]
    assert len(set(values)) == len(values), "two values with one name"
    for argument in inside(command.arguments):
        assert argument.token == argument.token.upper()
        assert argument.expects
    optional = [argument.optional for argument in command.arguments]
    if command.name != "AUTH":
        assert optional == sorted(optional), "required arguments come first"


@each_callable
def test_replies_and_errors(command: Command) -> None:
    names = [reply.name for reply in command.replies]
    assert len(set(names)) == len(names)
    assert names
    for reply in command.replies:
        assert reply.fields == () or reply.kind is Kind.MAP
        assert (reply.of is None) == (command.meets is Meets.LOCAL)
    assert set(command.all_errors) <= set(ERRORS)
    assert command.all_errors[0] == "ERR"


@each_callable
def test_flags(command: Command) -> None:
    wanted = {Meets.PROPOSE: {Flag.WRITE}, Meets.READ: {Flag.READONLY}, Meets.LOCAL: set()}
    if command.group is Group.TRANSACTIONS:
        return  # as in Redis, whatever is queued
    if command.group is not Group.SCRIPTING:  # as in Redis, these do not say
        assert {Flag.WRITE, Flag.READONLY} & set(command.flags) == wanted[command.meets]
    # What needs the cluster cannot be served while the node loads.
    assert command.meets is Meets.LOCAL or not {Flag.LOADING, Flag.STALE} & set(command.flags)


def test_every_error_is_declared_by_a_command_or_for_later() -> None:
    given = {code for command in CALLABLE for code in command.all_errors}
    assert given == {code for code, error in ERRORS.items() if not error.later}


def test_what_is_built_has_every_field_from_an_argument_or_its_default() -> None:
    for command in CALLABLE:
        if command.builds is None or command.grammar is not None:
            continue
        targets = {each.target for each in inside(command.arguments)}
        targets = {"name" if target == "key" else target for target in targets} | {"db"}
        fields = {field.name for field in msgspec.structs.fields(command.builds)}
        if command.nested is not None:
            nested = {field.name for field in msgspec.structs.fields(command.nested.builds)}
            fields = (fields | nested) - {command.nested.field, *command.nested.always}
        assert fields - targets <= NOT_GIVEN.get(command.name, set()), command.name


NOT_GIVEN = {
    "LOCK.ACQUIRE": {"client", "blocking"},  # the connection says which client it is
    "LOCK.ENQUEUE": {"client"},
    "EXEC": {"steps", "watched"},  # the connection has queued them
    "LOCK.MACQUIRE": {
        *("client", "blocking"),
        *("metadata", "shared", "limit", "permits", "reentrant", "delay_ms"),
    },
}


@each_callable
def test_what_contradicts_is_declared_with_labels_and_a_reason(command: Command) -> None:
    labels = {each.label for each in command.arguments}
    for conflict in command.conflicts:
        assert {conflict.one, conflict.other} <= labels
        assert conflict.why


def test_the_promises() -> None:
    kept = list(promises())
    assert len(set(kept)) == len(kept)
    assert ("LOCK.ACQUIRE", "command", "LOCK.ACQUIRE") in kept
    assert ("LOCK.ACQUIRE", "reply", "held") in kept
    assert ("LOCK.RELEASE", "error", "STALE") in kept
    assert {promise.command for promise in kept} == {command.name for command in CALLABLE}
    assert {promise.kind for promise in kept} == {"command", "reply", "error"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LOCK.RELEASE", "LOCK.RELEASE key owner [VERSION version]"),
        ("LOCK.MACQUIRE", "LOCK.MACQUIRE n key [key ...] owner [TTL ms] [WAIT ms] [PRIORITY n] "),
        ("LOCK.KEEPALIVE", "LOCK.KEEPALIVE owner [TTL ms] [VERSIONS n key version [key version"),
        ("AUTH", "AUTH [username] password"),
        ("HELLO", "HELLO [protover [AUTH username password] [SETNAME clientname]]"),
        ("SHUTDOWN", "SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]"),
        ("INFO", "INFO [section [section ...]]"),
    ],
)
def test_syntax(name: str, expected: str) -> None:
    assert COMMANDS[name.encode()].syntax.startswith(expected)


def test_syntax_of_a_repeated_option() -> None:
    expires = next(each for each in COMMANDS[b"LOCK.LIST"].arguments if each.token == "EXPIRES")
    one = "EXPIRES <BEFORE unix-ms | AFTER unix-ms>"
    assert syntax(expires) == f"[{one} [{one} ...]]"


def test_only_raft_and_lock_commands_are_our_own() -> None:
    for command in EVERY:
        own = command.group in (Group.LOCK, Group.RAFT)
        assert own == command.name.startswith(("LOCK.", "RAFT.")), command.name


def test_calls_know_their_command() -> None:
    argv = [b"client", b"id"]
    call = COMMANDS[b"CLIENT"].children[b"ID"].bind(argv, 0)
    assert isinstance(call, Call)
    assert repr(call.command) == "<Command CLIENT ID>"


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (b"LOCK.ACQUIRE k o TTL 5", [b"k"]),
        (b"LOCK.MACQUIRE 2 a b o", [b"a", b"b"]),
        (b"LOCK.KEEPALIVE o", []),
        (b"LOCK.KEEPALIVE o VERSIONS 2 a 1 b 2", [b"a", b"b"]),
        (b"LOCK.KEEPALIVE o ttl 5 versions 1 a 1", [b"a"]),
        (b"LOCK.KEEPALIVE VERSIONS TTL 5 VERSIONS 1 a 1", [b"a"]),
        (b"LOCK.LIST MATCH a", []),
        (b"PING k", []),
        (b"SET k v PX 5", [b"k"]),
        (b"DEL a b c", [b"a", b"b", b"c"]),
    ],
)
def test_keys(words: bytes, keys: list[bytes]) -> None:
    argv = words.split()
    assert COMMANDS[argv[0]].keys(argv) == keys


# --- as Redis ------------------------------------------------------------------------------------

DIFFERENT = {
    "quit": "Redis takes and ignores arguments",
    "command|getkeys": "Redis 7.0 says 4 words at least, later ones 3",
    "command|getkeysandflags": "the same",
}


def in_any_order(info: list[object]) -> list[object]:
    """One element of COMMAND INFO, without its subcommands, with its sets sorted."""
    return [sorted(each) if isinstance(each, list) else each for each in info[:9]]


def as_map(spec: list[Any]) -> dict[Any, Any]:
    """A key specification without Redis's notes."""
    pairs = dict(zip(spec[::2], spec[1::2], strict=True))
    return {**pairs, b"flags": sorted(pairs[b"flags"]), b"notes": None}


def test_shared_commands_have_the_attributes_of_redis(real_redis: RealRedis) -> None:
    compared = 0
    for command in EVERY:
        (theirs,) = real_redis.ask("COMMAND", "INFO", command.full_name)
        if theirs is None:
            # Sentinel's are there only in a redis-sentinel.
            assert command.group in (Group.LOCK, Group.RAFT, Group.SENTINEL) or command.name in (
                "CLIENT CAPA",  # Valkey's
                "DEBUG HELP",  # Redis has DEBUG as a whole
                "DEBUG SLEEP",
                "CLIENT SETINFO",  # since Redis 7.2
                "CLIENT NO-TOUCH",
                "CLUSTER MYSHARDID",
                "DELIFEQ",  # Valkey's
                "DELEX",  # since Redis 8.4
            )
            continue
        compared += 1
        name, arity, flags, first, last, step, categories, tips, specs = in_any_order(theirs)
        assert name == command.full_name.encode()
        if command.group is Group.SCRIPTING:  # Redis's run on a replica that is stale, too
            flags = [flag for flag in flags if flag != b"stale"]
        assert sorted(str(flag).encode() for flag in command.all_flags) == flags
        if command.name not in ("SSUBSCRIBE", "SUNSUBSCRIBE"):  # whose channels are keys to it
            ours = in_any_order(parsed(encode(introspection.command_info(command), 2)))
            assert [first, last, step] == ours[3:6]
            assert list(map(as_map, specs)) == list(map(as_map, ours[8])), command
        assert sorted(b"@" + each.encode() for each in command.acl_categories) == categories
        assert sorted(tip.encode() for tip in command.tips) == tips
        assert (command.arity == arity) == (command.full_name not in DIFFERENT), command
    assert compared > 25
