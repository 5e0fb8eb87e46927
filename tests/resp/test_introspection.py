"""COMMAND and HELP: their shapes are those of a real Redis, in both protocols."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from resplock.errors import CommandError
from resplock.resp import introspection
from resplock.resp.commands import COMMANDS, Flag, find
from resplock.resp.replies import encode, encode_error
from tests.resp.real_redis import RealRedis, parsed

EVERY = [command for top in COMMANDS.values() for command in top.walk()]
SHARED = ["ping", "select", "echo", "info", "dbsize", "client|list", "command|docs", "config|get"]

protocols = pytest.mark.parametrize("protocol", [2, 3])


def ask(*words: str, protocol: int = 3) -> Any:
    """What a client would read."""
    argv = [word.encode() for word in words]
    command = find(argv)
    try:
        return parsed(encode(introspection.answer(command.bind(argv, 0)), protocol))
    except CommandError as error:
        return parsed(encode_error(error))


def as_map(flat: Any) -> dict[bytes, Any]:
    """A map of RESP2."""
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


def shape(value: Any) -> Any:
    """The types within a value, without what they hold."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value)


# --- COMMAND, COMMAND INFO -----------------------------------------------------------------------


@protocols
@pytest.mark.parametrize("name", SHARED)
def test_info_is_what_redis_says(real_redis: RealRedis, name: str, protocol: int) -> None:
    (ours,) = ask("COMMAND", "INFO", name, protocol=protocol)
    (theirs,) = real_redis.ask("COMMAND", "INFO", name, protocol=protocol)
    for place in (2, 6, 7):  # sets: flags, ACL categories, tips
        ours[place], theirs[place] = sorted(ours[place]), sorted(theirs[place])
    assert ours == theirs


def test_the_bytes_of_an_info_are_those_of_redis(real_redis: RealRedis) -> None:
    # hiredis reads sets, arrays, simple and bulk strings alike: here are the types on the wire.
    select = COMMANDS[b"SELECT"]
    names = b"$6\r\nselect\r\n:2\r\n"
    flags = b"+loading\r\n+stale\r\n+fast\r\n"
    categories = b"+@fast\r\n+@connection\r\n"
    zeros = b":0\r\n:0\r\n:0\r\n"
    two = b"*10\r\n%b*3\r\n%b%b*2\r\n%b*0\r\n*0\r\n*0\r\n" % (names, flags, zeros, categories)
    three = b"*10\r\n%b~3\r\n%b%b~2\r\n%b~0\r\n~0\r\n~0\r\n" % (names, flags, zeros, categories)
    assert encode(introspection.command_info(select), 2) == two
    assert encode(introspection.command_info(select), 3) == three
    assert real_redis.ask("COMMAND", "INFO", "select") == [parsed(two)]


@protocols
def test_key_specifications_have_the_shape_of_redis(real_redis: RealRedis, protocol: int) -> None:
    for ours_name, theirs_name in (
        ("lock.get", "get"),  # a key at a fixed place
        ("lock.macquire", "zintercard"),  # counted keys at a fixed place
    ):
        (ours,) = ask("COMMAND", "INFO", ours_name, protocol=protocol)
        (theirs,) = real_redis.ask("COMMAND", "INFO", theirs_name, protocol=protocol)
        assert ours[3:6] == theirs[3:6]
        (our_spec,), (their_spec,) = ours[8], theirs[8]
        our_spec, their_spec = as_map(our_spec), as_map(their_spec)
        assert our_spec[b"begin_search"] == their_spec[b"begin_search"]
        assert our_spec[b"find_keys"] == their_spec[b"find_keys"]
        assert list(our_spec) == list(their_spec)


def test_keys_behind_a_word() -> None:
    (info,) = ask("COMMAND", "INFO", "LOCK.KEEPALIVE")
    assert info[1:6] == [-2, [b"write", b"movablekeys"], 0, 0, 0]
    assert info[8] == [
        {
            b"flags": [b"RW", b"access", b"update"],
            b"begin_search": {
                b"type": b"keyword",
                b"spec": {b"keyword": b"VERSIONS", b"startfrom": 2},
            },
            b"find_keys": {
                b"type": b"keynum",
                b"spec": {b"keynumidx": 0, b"firstkey": 1, b"keystep": 2},
            },
        }
    ]


def test_all_commands_and_some() -> None:
    everything = ask("COMMAND")
    assert [info[0] for info in everything] == [name.lower() for name in COMMANDS]
    assert all(len(info) == 10 for info in everything)
    assert ask("COMMAND", "INFO") == everything
    assert ask("COMMAND", "COUNT") == len(everything)
    some = ask("command", "info", "LOCK.ACQUIRE", "nope", "client|id")
    assert [info and info[0] for info in some] == [b"lock.acquire", None, b"client|id"]
    flags = [b"write", b"fast", b"blocking"]
    categories = [b"@lock", b"@write", b"@fast", b"@blocking"]
    assert some[0][1:8] == [-3, flags, 1, 1, 1, categories, []]


def test_a_name_is_answered_as_often_as_it_is_asked() -> None:
    some = ask("COMMAND", "INFO", *["client", "nope"] * 500)
    assert len(some) == 1_000
    assert some[0] == some[998] == ask("COMMAND", "INFO", "client")[0]
    assert some[999] is None
    assert ask("COMMAND", "DOCS", *["client", "nope"] * 500) == ask("COMMAND", "DOCS", "client")


def test_what_is_said_of_a_command_is_encoded_once() -> None:
    select = COMMANDS[b"SELECT"]
    for protocol in (2, 3):
        for describe in (introspection.command_info, introspection.command_docs):
            assert encode(describe(select), protocol) is encode(describe(select), protocol)


# --- COMMAND DOCS --------------------------------------------------------------------------------


@protocols
def test_docs_have_the_shape_of_redis(real_redis: RealRedis, protocol: int) -> None:
    for name in SHARED:
        ours = as_map(ask("COMMAND", "DOCS", name, protocol=protocol))[name.encode()]
        theirs = as_map(real_redis.ask("COMMAND", "DOCS", name, protocol=protocol))[name.encode()]
        ours, theirs = as_map(ours), as_map(theirs)
        theirs.pop(b"history", None)
        assert list(ours) == list(theirs), name
        assert ours[b"group"] == theirs[b"group"]
        for key in (b"summary", b"since", b"group", b"complexity"):
            assert type(ours[key]) is type(theirs[key])
        assert type(ours.get(b"arguments")) is type(theirs.get(b"arguments"))


@pytest.mark.parametrize("name", ["auth", "ping", "echo", "client|setname", "shutdown", "hello"])
def test_arguments_are_described_as_redis_does(real_redis: RealRedis, name: str) -> None:
    ours = ask("COMMAND", "DOCS", name)[name.encode()][b"arguments"]
    theirs = real_redis.ask("COMMAND", "DOCS", name, protocol=3)[name.encode()][b"arguments"]

    def bare(arguments: list[dict[bytes, Any]]) -> list[Any]:
        """Without names, which are free, and since when."""
        shown = []
        for argument in arguments:
            parts = bare(argument.get(b"arguments", []))
            flags = sorted(argument.get(b"flags", []))
            shown.append((argument[b"type"], argument.get(b"token"), flags, parts))
        return shown

    assert bare(ours) == bare(theirs)


def test_every_command_has_docs() -> None:
    docs = ask("COMMAND", "DOCS")
    assert list(docs) == [name.lower() for name in COMMANDS]
    subcommands = docs[b"client"][b"subcommands"]
    assert list(subcommands) == [sub.full_name.encode() for sub in COMMANDS[b"CLIENT"].subcommands]
    assert list(ask("COMMAND", "DOCS", "nope", "PING", "Client|Id")) == [b"ping", b"client|id"]


def test_acquire_and_its_options() -> None:
    docs = ask("COMMAND", "DOCS", "LOCK.ENQUEUE", "LOCK.ACQUIRE")
    for name in (b"lock.enqueue", b"lock.acquire"):
        arguments = docs[name][b"arguments"]
        tokens = b"TTL WAIT PRIORITY SHARED LIMIT REENTRANT REQUEST ONCLOSE DELAY META".split()
        assert [each.get(b"token") for each in arguments] == [None, None, *tokens]
    semaphore = next(each for each in arguments if each[b"name"] == b"semaphore")
    assert [each[b"name"] for each in semaphore[b"arguments"]] == [b"n", b"k"]


def test_who_may_block_says_so() -> None:
    for command in EVERY:
        blocks = command.name in ("LOCK.ACQUIRE", "LOCK.MACQUIRE")
        assert (Flag.BLOCKING in command.flags) == blocks
        assert ("blocking" in command.acl_categories) == blocks


def test_counted_lists_are_an_integer_and_the_items() -> None:
    docs = ask("COMMAND", "DOCS", "LOCK.MACQUIRE", "LOCK.KEEPALIVE")
    macquire = docs[b"lock.macquire"][b"arguments"]
    assert macquire[:3] == [
        {b"name": b"n", b"type": b"integer"},
        {b"name": b"key", b"type": b"key", b"key_spec_index": 0, b"flags": [b"multiple"]},
        {b"name": b"owner", b"type": b"string"},
    ]
    versions = docs[b"lock.keepalive"][b"arguments"][-1]
    assert versions[b"token"] == b"VERSIONS"
    assert versions[b"flags"] == [b"optional"]
    count, items = versions[b"arguments"]
    assert count == {b"name": b"n", b"type": b"integer"}
    assert items[b"flags"] == [b"multiple"]
    assert [each[b"type"] for each in items[b"arguments"]] == [b"key", b"integer"]


# --- COMMAND LIST --------------------------------------------------------------------------------


def test_list() -> None:
    assert ask("COMMAND", "LIST") == [command.full_name.encode() for command in EVERY]
    assert ask("COMMAND", "LIST", "FILTERBY", "PATTERN", "LOCK.R*") == [
        b"lock.release",
        b"lock.renew",
    ]
    assert ask("COMMAND", "LIST", "FILTERBY", "MODULE", "any") == []
    assert ask("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nope") == []
    assert ask("COMMAND", "LIST", "FILTERBY", "ACLCAT", "Lock") == [
        command.full_name.encode() for command in EVERY if command.name.startswith("LOCK.")
    ]


def test_list_by_category_is_as_in_redis(real_redis: RealRedis) -> None:
    shared = set(real_redis.ask("COMMAND", "LIST")) & set(ask("COMMAND", "LIST"))
    for category in ("connection", "admin", "dangerous", "fast", "slow", "read", "keyspace"):
        words = ("COMMAND", "LIST", "FILTERBY", "ACLCAT", category)
        assert set(ask(*words)) & shared == set(real_redis.ask(*words)) & shared


# --- COMMAND GETKEYS -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("LOCK.ACQUIRE k o", [b"k"]),
        ("lock.keepalive o VERSIONS 2 a 1 b 2", [b"a", b"b"]),
        ("LOCK.MACQUIRE 2 a b o", [b"a", b"b"]),
        ("LOCK.KEEPALIVE o TTL 5", "ERR The command has no key arguments"),
        ("PING a", "ERR The command has no key arguments"),
        ("PING", "ERR The command has no key arguments"),
        ("CLIENT ID", "ERR The command has no key arguments"),
        ("CLIENT nope", "ERR Invalid command specified"),
        ("nope a", "ERR Invalid command specified"),
        ("LOCK.GET", "ERR Invalid number of arguments specified for command"),
        ("LOCK.BACKOFF a b", "ERR Invalid number of arguments specified for command"),
        ("LOCK.MACQUIRE 3 a b o", [b"a", b"b", b"o"]),
        ("LOCK.MACQUIRE 4 a b o", "ERR Invalid arguments specified for command"),
        ("LOCK.MACQUIRE x a b o", "ERR Invalid arguments specified for command"),
        ("LOCK.MACQUIRE 0 a b o", "ERR Invalid arguments specified for command"),
        ("LOCK.KEEPALIVE o VERSIONS", "ERR Invalid arguments specified for command"),
    ],
)
def test_getkeys(words: str, keys: list[bytes] | str) -> None:
    answer = ask("COMMAND", "GETKEYS", *words.split())
    assert (str(answer) if isinstance(answer, hiredis.ReplyError) else answer) == keys


def test_keys_and_what_is_done_with_them(real_redis: RealRedis) -> None:
    for words in ("GET k", "DEL a b", "EVAL x 2 a b c", "PEXPIRE k 5"):
        argv = words.split()
        theirs = real_redis.ask("COMMAND", "GETKEYSANDFLAGS", *argv, protocol=3)
        assert ask("COMMAND", "GETKEYSANDFLAGS", *argv) == theirs, words
    error = ask("COMMAND", "GETKEYSANDFLAGS", "PING")
    assert str(error) == "ERR The command has no key arguments"


def test_categories(real_redis: RealRedis) -> None:
    ours = introspection.categories()
    assert set(ours) - {name.decode() for name in real_redis.ask("ACL", "CAT")} == {"lock", "raft"}
    assert all(introspection.names(each.encode()) for each in ours)


def test_getkeys_words_its_errors_as_redis(real_redis: RealRedis) -> None:
    for ours, theirs in (
        ("LOCK.GET k", "GET k"),
        ("LOCK.BACKOFF a b", "GET a b"),
        ("LOCK.MACQUIRE x a b", "ZINTERCARD x a b"),
        ("LOCK.MACQUIRE 2 a b c", "ZINTERCARD 2 a b c"),
        ("nope a", "nope a"),
        ("PING a", "PING a"),
    ):
        mine = ask("COMMAND", "GETKEYS", *ours.split())
        other = real_redis.ask("COMMAND", "GETKEYS", *theirs.split())
        assert str(mine) == str(other)


# --- HELP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["ACL", "CLIENT", "COMMAND", "CONFIG"])
def test_help_has_the_form_of_redis(real_redis: RealRedis, container: str) -> None:
    ours, theirs = ask(container, "HELP"), real_redis.ask(container, "HELP")
    assert ours[0] == theirs[0]
    assert (ours[1] == theirs[1]) == (container == "COMMAND")  # "(no subcommand)"
    assert theirs[-2:] == [b"HELP", b"    Prints this help."]
    assert ours[ours.index(b"HELP") + 1] == theirs[-1]
    for sub in COMMANDS[container.encode()].subcommands:
        place = ours.index(sub.syntax.removeprefix(container + " ").encode())
        assert ours[place + 1] == b"    " + sub.summary.encode()


def test_help_is_of_simple_strings() -> None:
    assert encode(introspection.help_of(COMMANDS[b"CLIENT"]), 2).startswith(b"*")
    assert b"\r\n$" not in encode(introspection.help_of(COMMANDS[b"CLIENT"]), 2)


def test_lock_help_lists_what_can_be_used() -> None:
    lines = [line.decode() for line in ask("LOCK.HELP")]
    assert lines[0] == "LOCK.<command> [<arg> [value] [opt] ...]. Commands are:"
    heads = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    available = [each for each in EVERY if each.name.startswith("LOCK.")]
    assert heads == [each.name.removeprefix("LOCK.") for each in available]
    assert "    * TTL ms" in lines
    assert "    * LIMIT n [PERMITS k]" in lines


def test_answer_knows_these_commands_only() -> None:
    helps = {command.name for command in EVERY if command.name.endswith("HELP")}
    commands = {command.name for command in EVERY if command.name.startswith("COMMAND")}
    assert set(introspection.ANSWERS) == helps | commands


@protocols
def test_every_command_can_be_encoded(protocol: int) -> None:
    for command in EVERY:
        parsed(encode(introspection.command_info(command), protocol))
        parsed(encode(introspection.command_docs(command), protocol))
