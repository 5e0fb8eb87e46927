"""Commands of Redis that will not be there: each says why, and where to look."""

from __future__ import annotations

from pathlib import Path

import pytest

from resplock.errors import CommandError
from resplock.resp.commands import COMMANDS, find
from resplock.resp.commands.refused import KINDS, REFERENCE, WHY
from tests.resp.real_redis import RealRedis

GROUPS = {
    *("list", "hash", "set", "sorted-set", "stream", "bitmap", "hyperloglog", "geo"),
    *("string", "generic", "pubsub", "scripting"),
}
"""Redis's, of which each command is there or refused."""


def is_there(name: str) -> bool:
    command = COMMANDS.get(name.split()[0].encode())
    return command is not None and (" " not in name or name.split()[1].encode() in command.children)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("LPUSH k v", "resplock has no lists: no LPUSH, see docs/reference.md"),
        ("hset", "resplock has no hashes: no HSET, see docs/reference.md"),
        (
            "Cluster Meet 127.0.0.1 1",
            (
                "resplock is one shard whose members are changed by RAFT.ADD and RAFT.REMOVE: no CLUSTER "
                "MEET, see docs/reference.md"
            ),
        ),
        ("MODULE LOAD x", "resplock has no modules: no MODULE LOAD, see docs/reference.md"),
        ("CLUSTER NONSENSE", "unknown subcommand 'NONSENSE'. Try CLUSTER HELP."),
        ("NONSENSE a", "unknown command 'NONSENSE', with args beginning with: 'a' "),
        ("CLUSTER\\x20MEET", "unknown command 'CLUSTER MEET', with args beginning with: "),
    ],
)
def test_who_calls_one_is_told_why(call: str, error: str) -> None:
    with pytest.raises(CommandError) as caught:
        find([word.replace("\\x20", " ").encode() for word in call.split()])
    assert (caught.value.code, caught.value.text) == ("ERR", error)


def test_none_of_them_is_there() -> None:
    names = [name for kind in KINDS for name in kind.names]
    assert len(set(names)) == len(names) == len(WHY)
    assert [name for name in names if is_there(name)] == []
    assert {name.split()[0] for name in names if " " in name} <= {
        top.decode() for top, command in COMMANDS.items() if command.subcommands
    }


def test_what_redis_has_is_there_or_refused(real_redis: RealRedis) -> None:
    documented = real_redis.ask("COMMAND", "DOCS", protocol=3)
    theirs = {
        name.decode().upper()
        for name, docs in documented.items()
        if docs[b"group"].decode() in GROUPS
    }
    assert {name for name in theirs if not is_there(name) and name.encode() not in WHY} == set()


def test_they_are_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / REFERENCE).read_text()
    section = page.partition("\n## Commands of Redis that are not there\n")[2]
    assert all(name.decode() in section for name in WHY)
