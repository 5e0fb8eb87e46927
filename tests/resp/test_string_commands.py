"""The grammar of Redis's string commands: what their words build, and Redis's own errors."""

from __future__ import annotations

import pytest

from resplock import keyspace
from resplock import operations as ops
from resplock.errors import CommandError
from resplock.limits import ARGUMENT_BYTES_MAX, INTEGER_MAX, KEY_BYTES_MAX, SCAN_COUNT_MAX
from resplock.resp.command import Group
from resplock.resp.commands import COMMANDS, find
from resplock.strings import GRAMMARS
from resplock.types import lock_name
from tests.resp.real_redis import RealRedis

DB = 3
K, L = lock_name(DB, b"k"), lock_name(DB, b"l")

BUILT: list[tuple[str, ops.Operation | ops.Query]] = [
    ("SET k v", ops.SetString(K, b"v")),
    ("set k v nx px 5", ops.SetString(K, b"v", 5, "NX")),
    ("SET k v PX 5 NX", ops.SetString(K, b"v", 5, "NX")),
    ("SET k v XX EX 2 GET", ops.SetString(K, b"v", 2000, "XX", gives_old=True)),
    ("SET k v KEEPTTL", ops.SetString(K, b"v", ops.KEEP_TTL)),
    ("SET k v EXAT 7", ops.SetString(K, b"v", at_ms=7000)),
    ("SET k v PXAT 7 NX GET", ops.SetString(K, b"v", 0, "NX", 7, gives_old=True)),
    ("SET k v PX 5 PX 6 NX NX GET GET", ops.SetString(K, b"v", 6, "NX", gives_old=True)),
    ("SET NX PX", ops.SetString(lock_name(DB, b"NX"), b"PX")),
    ("SETNX k v", ops.SetString(K, b"v", condition="NX", counts=True)),
    ("SETEX k 3 v", ops.SetString(K, b"v", 3000)),
    ("PSETEX k 3 v", ops.SetString(K, b"v", 3)),
    ("GETSET k v", ops.SetString(K, b"v", gives_old=True)),
    ("MSET k v", ops.SetAll((K,), (b"v",))),
    ("MSET k v l w k x", ops.SetAll((K, L, K), (b"v", b"w", b"x"))),
    ("MSETNX k v l w", ops.SetAll((K, L), (b"v", b"w"), if_absent=True)),
    ("INCR k", ops.Increment(K, 1)),
    ("DECR k", ops.Increment(K, -1)),
    ("INCRBY k -9223372036854775808", ops.Increment(K, -INTEGER_MAX - 1)),
    ("DECRBY k 5", ops.Increment(K, -5)),
    ("APPEND k v", ops.Append(K, b"v")),
    ("MGET k l k", ops.GetStrings((K, L, K))),
    ("GETRANGE k 0 -1", ops.GetRange(K, 0, -1)),
    ("KEYS k*", ops.ListKeys(DB, b"k*")),
    ("SCAN 0", ops.ScanKeys(DB)),
    ("scan 17 count 5 match k* type STRING", ops.ScanKeys(DB, 17, b"k*", 5, b"string")),
    ("SCAN 0 COUNT 99999999", ops.ScanKeys(DB, 0, count=SCAN_COUNT_MAX)),
    ("RANDOMKEY", ops.RandomKey(DB)),
    ("FLUSHDB", ops.Flush(DB)),
    ("FLUSHALL sync", ops.Flush(ops.ALL_DATABASES)),
    ("OBJECT ENCODING k", ops.DescribeKey(K, "encoding")),
    ("OBJECT FREQ k", ops.DescribeKey(K, "freq")),
    ("object idletime k", ops.DescribeKey(K, "idletime")),
    ("OBJECT REFCOUNT k", ops.DescribeKey(K, "refcount")),
    ("MEMORY USAGE k", ops.DescribeKey(K, "memory")),
    ("MEMORY USAGE k SAMPLES 3", ops.DescribeKey(K, "memory")),
    ("GET k", ops.GetString(K)),
    ("GETDEL k", ops.GetDelete(K)),
    ("GETEX k", ops.GetExpire(K)),
    ("GETEX k PERSIST", ops.GetExpire(K, 0)),
    ("GETEX k EX 1", ops.GetExpire(K, 1000)),
    ("GETEX k PXAT 9", ops.GetExpire(K, 0, 9)),
    ("STRLEN k", ops.GetLength(K)),
    ("DEL k", ops.Delete(K)),
    ("DEL k l k", ops.DeleteAll((K, L, K))),
    ("UNLINK k", ops.Delete(K)),
    ("DELIFEQ k v", ops.DeleteIf(K, b"v")),
    ("DELEX k", ops.Delete(K)),
    ("DELEX k ifeq v", ops.DeleteIf(K, b"v")),
    ("DELEX k IFNE v", ops.DeleteIf(K, b"v", is_equal=False)),
    ("EXISTS k l k", ops.CountKeys((K, L, K))),
    ("TOUCH k", ops.CountKeys((K,))),
    ("TYPE k", ops.GetType(K)),
    ("EXPIRE k 2", ops.Expire(K, 2000)),
    ("EXPIRE k -2 nx", ops.Expire(K, -2000, conditions=("NX",))),
    ("PEXPIRE k 2 XX GT", ops.Expire(K, 2, conditions=("GT", "XX"))),
    ("EXPIREAT k 2 LT", ops.Expire(K, 2000, is_unix=True, conditions=("LT",))),
    ("PEXPIREAT k 2", ops.Expire(K, 2, is_unix=True)),
    ("PEXPIREAT k -9223372036854775808", ops.Expire(K, -INTEGER_MAX, is_unix=True)),
    ("PERSIST k", ops.Persist(K)),
    ("TTL k", ops.GetTtl(K, 1000)),
    ("PTTL k", ops.GetTtl(K, 1)),
    ("EXPIRETIME k", ops.GetTtl(K, 1000, is_unix=True)),
    ("PEXPIRETIME k", ops.GetTtl(K, 1, is_unix=True)),
]


def bind(words: list[bytes]) -> object:
    return find(words).bind(words, DB)


@pytest.mark.parametrize(("text", "built"), BUILT)
def test_what_is_built(text: str, built: object) -> None:
    assert bind(text.encode().split()) == built


def test_every_command_is_built_above_and_declared() -> None:
    tops = {name.split()[0].encode() for name in keyspace.GRAMMARS} | set(GRAMMARS)
    assert {text.split()[0].upper().encode() for text, _ in BUILT} == tops
    strings = (Group.STRING, Group.GENERIC)
    declared = {name for name, command in COMMANDS.items() if command.group in strings}
    assert declared == tops - {b"FLUSHDB", b"FLUSHALL", b"MEMORY"}


WRONG = """
SET k
SET k v NX XX
SET k v XX NX
SET k v PX
SET k v NX PX
SET k v PX 1 EX 1
SET k v PX 1 KEEPTTL
SET k v KEEPTTL EXAT 1
SET k v EXAT 1 PXAT 1
SET k v nonsense
SET k v PERSIST
SET k v PX 0
SET k v PX -1
SET k v PX 1.5
SET k v PX 01
SET k v PX +1
SET k v PX x NX XX
SET k v PX x NX y
SET k v EX 9223372036854775
SET k v EX 9223372036854776
SET k v PX 9223372036854775807
SET k v PX 9223372036854775808
SET k v PX 99999999999999999999999
SET k v PXAT 0
SET k v EXAT -5
SETNX k
SETNX k v w
SETEX k 0 v
SETEX k x v
SETEX k 9223372036854775807 v
PSETEX k -1 v
GETSET k
MSET
MSET k
MSET k v l
MSETNX k v l
INCR
INCR k 1
DECR k 1
INCRBY k
INCRBY k x
INCRBY k 1.5
INCRBY k 9223372036854775808
DECRBY k x
DECRBY k -9223372036854775808
DECRBY k 1 2
APPEND k
KEYS
KEYS a b
SCAN
SCAN x
SCAN 1.5
SCAN 99999999999999999999999
SCAN 0 MATCH
SCAN 0 COUNT 0
SCAN 0 COUNT -1
SCAN 0 COUNT x
SCAN 0 COUNT 5 y
SCAN 0 nonsense 5
SCAN x COUNT y
RANDOMKEY k
FLUSHDB x
FLUSHDB ASYNC SYNC
FLUSHALL x
OBJECT ENCODING
OBJECT ENCODING k l
OBJECT NONSENSE k
OBJECT
MEMORY
MEMORY USAGE
MEMORY USAGE k SAMPLES
MEMORY USAGE k SAMPLES x
MEMORY USAGE k SAMPLES -1
MEMORY USAGE k nonsense 5
MGET
GETRANGE k 0
GETRANGE k x 1
GETRANGE k 0 1.0
GET
GET k l
GETDEL
GETDEL k l
GETEX
GETEX k EX
GETEX k EX 1 NX
GETEX k EX 1 PX 1
GETEX k PERSIST EX 1
GETEX k KEEPTTL
GETEX k NX
STRLEN
DEL
UNLINK
EXISTS
TOUCH
TYPE k l
EXPIRE k
EXPIRE k x
EXPIRE k 1 y
EXPIRE k x y
EXPIRE k 1 NX XX
EXPIRE k 1 LT NX
EXPIRE k 1 GT LT
EXPIRE k 1 GT LT XX
EXPIRE k 9223372036854775807
EXPIRE k -9223372036854775807
EXPIRE k 9223372036854775
PEXPIRE k 9223372036854775807
PEXPIRE k 9223372036854775808
PEXPIRE k -9223372036854775809
EXPIREAT k 9223372036854776
PEXPIREAT k -0
PERSIST
TTL k l
PTTL
EXPIRETIME
PEXPIRETIME k l
""".strip().split("\n")


@pytest.mark.parametrize("text", WRONG)
def test_errors_are_those_of_redis(real_redis: RealRedis, text: str) -> None:
    theirs = real_redis.ask(*text.split())
    with pytest.raises(CommandError) as caught:
        bind(text.encode().split())
    assert f"{caught.value.code} {caught.value.text}" == str(theirs)


@pytest.mark.parametrize("amount", ["0", "x", "-1", "9223372036854775807"])
def test_errors_of_getex(real_redis: RealRedis, amount: str) -> None:
    """Ours do not depend on whether the key is there."""
    real_redis.ask("SET", "there", "v")
    theirs = real_redis.ask("GETEX", "there", "EX", amount)
    with pytest.raises(CommandError) as caught:
        bind([b"GETEX", b"k", b"EX", amount.encode()])
    assert f"{caught.value.code} {caught.value.text}" == str(theirs)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("DELIFEQ k", "wrong number of arguments for 'delifeq' command"),
        ("DELEX k IFEQ", "syntax error"),
        ("DELEX k IFXX v", "syntax error"),
        ("DELEX k IFEQ v w", "syntax error"),
    ],
)
def test_errors_of_commands_that_this_redis_does_not_have(text: str, error: str) -> None:
    with pytest.raises(CommandError, match=error):
        bind(text.encode().split())


@pytest.mark.parametrize("name", sorted(GRAMMARS))
def test_keys_have_the_length_of_a_locks(name: bytes) -> None:
    arity = abs(GRAMMARS[name].arity)
    for key in (b"", b"k" * (KEY_BYTES_MAX + 1)):
        with pytest.raises(CommandError, match=f"key must be 1 to 1024 bytes, got {len(key)}"):
            bind([name, key, *[b"1"] * (arity - 2)])


@pytest.mark.parametrize("text", ["SET k v", "SETNX k v", "SETEX k 1 v", "PSETEX k 1 v"])
def test_values_that_only_scripts_can_build_are_too_long(text: str) -> None:
    words = text.encode().split()
    bind([*words[:-1], b"v" * ARGUMENT_BYTES_MAX])
    with pytest.raises(CommandError, match="string exceeds maximum allowed size"):
        bind([*words[:-1], b"v" * (ARGUMENT_BYTES_MAX + 1)])
