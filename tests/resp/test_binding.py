"""Binding: from words to operations, queries and calls; and the text of every error."""

from __future__ import annotations

import itertools
import traceback
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resplock import limits
from resplock import operations as ops
from resplock.errors import CommandError
from resplock.resp import checks
from resplock.resp.arguments import Argument, Block, Count, Integer, Key, OneOf, PureToken, Text
from resplock.resp.binding import Bound, Call
from resplock.resp.checks import parse_integer
from resplock.resp.commands import COMMANDS, Command, Group, find
from resplock.types import LockName, lock_name

DB = 3


def words(text: str | list[bytes]) -> list[bytes]:
    return text if isinstance(text, list) else text.encode().split()


def bind(text: str | list[bytes], db: int = DB) -> Any:
    argv = words(text)
    return find(argv).bind(argv, db)


def error_of(text: str | list[bytes]) -> str:
    with pytest.raises(CommandError) as caught:
        bind(text)
    return f"{caught.value.code} {caught.value.text}"


def name(key: bytes, db: int = DB) -> LockName:
    return lock_name(db, key)


def callable_commands() -> list[Command]:
    every = [command for top in COMMANDS.values() for command in top.walk()]
    return [command for command in every if not command.subcommands or command.bare]


# --- commands for the lock table -----------------------------------------------------------------


def acquiring(wait_ms: int = 0, **options: Any) -> ops.Acquire:
    """LOCK.ACQUIRE k o with these options."""
    return ops.Acquire(name(b"k"), b"o", options=ops.Options(wait_ms, **options))


OPERATIONS: list[tuple[str, ops.Operation | ops.Query]] = [
    ("LOCK.ACQUIRE k o", ops.Acquire(name(b"k"), b"o")),
    ("lock.acquire k o ttl 5", ops.Acquire(name(b"k"), b"o", 5)),
    ("LOCK.ACQUIRE k o TTL 0", ops.Acquire(name(b"k"), b"o", 0)),
    ("LOCK.ACQUIRE k o TTL 86400000", ops.Acquire(name(b"k"), b"o", 86_400_000)),
    ("LOCK.ACQUIRE k o WAIT 0", ops.Acquire(name(b"k"), b"o")),
    ("LOCK.ACQUIRE k o ONCLOSE keep", ops.Acquire(name(b"k"), b"o")),
    ("LOCK.ACQUIRE k o REQUEST r", ops.Acquire(name(b"k"), b"o", request=b"r")),
    ("LOCK.ACQUIRE k o META 0", ops.Acquire(name(b"k"), b"o")),
    (
        "LOCK.ACQUIRE k o META 2 f v TTL 1 REQUEST r",
        ops.Acquire(name(b"k"), b"o", request=b"r", metadata=((b"f", b"v"), (b"TTL", b"1"))),
    ),
    ("LOCK.ACQUIRE TTL META", ops.Acquire(name(b"TTL"), b"META")),
    (
        (
            "lock.acquire k o wait 600000 priority -1000 shared onclose RELEASE delay 86400000 "
            "request r meta 1 f v ttl 7"
        ),
        ops.Acquire(
            name(b"k"),
            b"o",
            7,
            b"r",
            ((b"f", b"v"),),
            ops.Options(600_000, -1000, shared=True, on_close=True, delay_ms=86_400_000),
        ),
    ),
    ("LOCK.ACQUIRE k o WAIT 5", acquiring(wait_ms=5)),
    ("LOCK.ACQUIRE k o PRIORITY 1000", acquiring(priority=1000)),
    ("LOCK.ACQUIRE k o SHARED", acquiring(shared=True)),
    ("LOCK.ACQUIRE k o LIMIT 1", acquiring(limit=1)),
    ("LOCK.ACQUIRE k o LIMIT 1000000 PERMITS 1000000", acquiring(limit=10**6, permits=10**6)),
    ("LOCK.ACQUIRE k o LIMIT 3 PERMITS 2 WAIT 5", acquiring(5, limit=3, permits=2)),
    ("LOCK.ACQUIRE k o REENTRANT", acquiring(reentrant=True)),
    ("LOCK.ACQUIRE k o ONCLOSE release", acquiring(on_close=True)),
    ("LOCK.ACQUIRE k o DELAY 1", acquiring(delay_ms=1)),
    # What says no more than its absence does is not in the log.
    ("LOCK.ACQUIRE k o WAIT 0 PRIORITY 0 ONCLOSE KEEP DELAY 0", ops.Acquire(name(b"k"), b"o")),
    (
        "LOCK.MACQUIRE 2 a b o",
        ops.AcquireAll((name(b"a"), name(b"b")), b"o"),
    ),
    (
        "lock.macquire 1 a o ttl 1 wait 2 priority 3 request r onclose release",
        ops.AcquireAll((name(b"a"),), b"o", 1, b"r", options=ops.Options(2, 3, on_close=True)),
    ),
    ("LOCK.ENQUEUE k o", acquiring(blocking=False)),
    ("LOCK.ENQUEUE k o WAIT 1 SHARED", acquiring(1, shared=True, blocking=False)),
    ("LOCK.ENQUEUE k o ONCLOSE KEEP", acquiring(blocking=False)),
    ("LOCK.CANCEL k o", ops.Cancel(name(b"k"), b"o")),
    ("WATCH k j", ops.Watch((name(b"k"), name(b"j")))),
    ("EXEC", ops.Execute()),
    ("LOCK.RELEASE k o", ops.Release(name(b"k"), b"o")),
    ("LOCK.RELEASE k o VERSION 7", ops.Release(name(b"k"), b"o", 7)),
    ("LOCK.RENEW k o", ops.Renew(name(b"k"), b"o", 0, ops.KEEP_TTL)),
    ("LOCK.RENEW k o TTL 9 VERSION 7", ops.Renew(name(b"k"), b"o", 7, 9)),
    ("LOCK.KEEPALIVE o", ops.KeepAlive(b"o", ops.KEEP_TTL)),
    ("LOCK.KEEPALIVE o TTL 0", ops.KeepAlive(b"o", 0)),
    (
        "LOCK.KEEPALIVE o VERSIONS 2 a 1 b 2 TTL 5",
        ops.KeepAlive(b"o", 5, ((name(b"a"), 1), (name(b"b"), 2))),
    ),
    ("LOCK.BREAK k", ops.Break(name(b"k"))),
    ("LOCK.BREAK k REASON why VERSION 1", ops.Break(name(b"k"), 1, b"why")),
    ("LOCK.GET k", ops.GetLock(name(b"k"))),
    ("LOCK.GET k waiters", ops.GetLock(name(b"k"), waiters=True)),
    ("LOCK.LIST", ops.ListLocks(DB)),
    (
        (
            "LOCK.LIST CURSOR 3-00 MATCH a* OWNER b* HELD CONTESTED EXPIRES BEFORE 9 EXPIRES AFTER 4 "
            "META 1 f v COUNT 1000"
        ),
        ops.ListLocks(DB, b"3-00", b"a*", b"b*", True, True, 9, 4, ((b"f", b"v"),), 1000),
    ),
    ("LOCK.LIST EXPIRES after 4", ops.ListLocks(DB, expires_after=4)),
    ("LOCK.BACKOFF k", ops.GetBackoff(name(b"k"))),
    ("LOCK.CHECK k 9007199254740991", ops.CheckVersion(name(b"k"), limits.VERSION_MAX)),
    ("LOCK.STATS", ops.GetStats()),
    ("DBSIZE", ops.CountLocks(DB)),
]


@pytest.mark.parametrize(("text", "operation"), OPERATIONS)
def test_operations(text: str, operation: object) -> None:
    assert bind(text) == operation


def test_the_database_is_part_of_the_name() -> None:
    for db in range(limits.DATABASES):
        assert bind("LOCK.RELEASE k o", db).name == name(b"k", db)
        assert bind("LOCK.KEEPALIVE o VERSIONS 1 k 1", db).versions == ((name(b"k", db), 1),)
        assert bind("DBSIZE", db) == ops.CountLocks(db)


def test_any_bytes_are_a_key_and_an_owner() -> None:
    every_byte = bytes(range(256))
    assert bind([b"LOCK.RELEASE", every_byte, every_byte]).owner == every_byte


def test_lengths_up_to_their_bounds() -> None:
    key, owner = b"k" * limits.KEY_BYTES_MAX, b"o" * limits.OWNER_BYTES_MAX
    request = b"r" * limits.REQUEST_BYTES_MAX
    pairs = [
        (b"%062d" % n + b"--", b"v" * limits.METADATA_VALUE_BYTES_MAX)
        for n in range(limits.METADATA_PAIRS_MAX)
    ]
    flat = [word for pair in pairs for word in pair]
    options = [b"REQUEST", request, b"META", b"%d" % len(pairs), *flat]
    acquired = bind([b"LOCK.ACQUIRE", key, owner, *options])
    assert acquired == ops.Acquire(name(key), owner, request=request, metadata=tuple(pairs))


# --- commands for the node -----------------------------------------------------------------------

NOTHING: dict[str, Any] = {}
KILL = dict.fromkeys(("address", "id", "type", "user", "addr", "laddr", "skipme"))
SHUTDOWN = {"save": None, "now": False, "force": False, "abort": False}
MASTER = {"master_name": b"m"}
HELLO = dict.fromkeys(("protover", "username", "password", "name"))

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("PING", "PING", {"message": None}),
    ("ping hi", "PING", {"message": b"hi"}),
    ("ECHO hi", "ECHO", {"message": b"hi"}),
    ("QUIT", "QUIT", NOTHING),
    ("RESET", "RESET", NOTHING),
    ("HELLO", "HELLO", HELLO),
    ("hello 3", "HELLO", HELLO | {"protover": 3}),
    (
        "HELLO 2 setname me auth u p",
        "HELLO",
        {"protover": 2, "username": b"u", "password": b"p", "name": b"me"},
    ),
    ("AUTH p", "AUTH", {"username": None, "password": b"p"}),
    ("AUTH u p", "AUTH", {"username": b"u", "password": b"p"}),
    ("SELECT 15", "SELECT", {"index": 15}),
    ("CLIENT ID", "CLIENT ID", NOTHING),
    ("CLIENT INFO", "CLIENT INFO", NOTHING),
    ("CLIENT GETNAME", "CLIENT GETNAME", NOTHING),
    ("CLIENT SETNAME me", "CLIENT SETNAME", {"name": b"me"}),
    ("client setinfo lib-name x", "CLIENT SETINFO", {"lib_name": b"x", "lib_ver": None}),
    ("CLIENT SETINFO LIB-VER 1.2", "CLIENT SETINFO", {"lib_name": None, "lib_ver": b"1.2"}),
    ("CLIENT LIST", "CLIENT LIST", {"type": None, "ids": ()}),
    ("CLIENT LIST TYPE normal", "CLIENT LIST", {"type": "NORMAL", "ids": ()}),
    ("CLIENT LIST ID 1 2 3", "CLIENT LIST", {"type": None, "ids": (1, 2, 3)}),
    ("CLIENT LIST id 1 2 type pubsub", "CLIENT LIST", {"type": "PUBSUB", "ids": (1, 2)}),
    ("CLIENT KILL 127.0.0.1:5", "CLIENT KILL", KILL | {"address": b"127.0.0.1:5"}),
    ("CLIENT KILL ID", "CLIENT KILL", KILL | {"address": b"ID"}),  # as in Redis
    (
        "CLIENT KILL ID 5 TYPE slave USER u ADDR a LADDR l SKIPME no",
        "CLIENT KILL",
        {
            "address": None,
            "id": 5,
            "type": "SLAVE",
            "user": b"u",
            "addr": b"a",
            "laddr": b"l",
            "skipme": "NO",
        },
    ),
    ("CLIENT NO-EVICT on", "CLIENT NO-EVICT", {"enabled": "ON"}),
    ("CLIENT NO-TOUCH off", "CLIENT NO-TOUCH", {"enabled": "OFF"}),
    ("CLIENT REPLY skip", "CLIENT REPLY", {"mode": "SKIP"}),
    ("CLIENT UNBLOCK 7", "CLIENT UNBLOCK", {"client_id": 7, "unblock_type": None}),
    ("CLIENT UNBLOCK 7 error", "CLIENT UNBLOCK", {"client_id": 7, "unblock_type": "ERROR"}),
    ("CLIENT HELP", "CLIENT HELP", NOTHING),
    ("CLIENT PAUSE 100", "CLIENT PAUSE", {"timeout": 100, "mode": None}),
    ("CLIENT PAUSE 0 write", "CLIENT PAUSE", {"timeout": 0, "mode": "WRITE"}),
    ("SLOWLOG GET", "SLOWLOG GET", {"count": None}),
    ("SLOWLOG GET -1", "SLOWLOG GET", {"count": -1}),
    ("LATENCY HISTORY command", "LATENCY HISTORY", {"event": b"command"}),
    ("LATENCY HISTOGRAM a b", "LATENCY HISTOGRAM", {"commands": (b"a", b"b")}),
    ("LATENCY RESET", "LATENCY RESET", {"events": ()}),
    ("LATENCY RESET a b", "LATENCY RESET", {"events": (b"a", b"b")}),
    ("DEBUG SLEEP 0.5", "DEBUG SLEEP", {"seconds": b"0.5"}),
    ("CLIENT CAPA redirect x", "CLIENT CAPA", {"capabilities": (b"redirect", b"x")}),
    ("CLIENT TRACKING off", "CLIENT TRACKING", {"status": "OFF", "options": ()}),
    (
        "CLIENT TRACKING ON PREFIX a",
        "CLIENT TRACKING",
        {"status": "ON", "options": (b"PREFIX", b"a")},
    ),
    ("ACL CAT", "ACL CAT", {"category": None}),
    ("ACL CAT lock", "ACL CAT", {"category": b"lock"}),
    ("ACL GETUSER default", "ACL GETUSER", {"username": b"default"}),
    ("BGSAVE", "BGSAVE", {"schedule": False}),
    ("bgsave schedule", "BGSAVE", {"schedule": True}),
    ("COMMAND", "COMMAND", NOTHING),
    ("COMMAND COUNT", "COMMAND COUNT", NOTHING),
    ("COMMAND INFO", "COMMAND INFO", {"names": ()}),
    ("COMMAND INFO a b", "COMMAND INFO", {"names": (b"a", b"b")}),
    ("COMMAND DOCS a", "COMMAND DOCS", {"names": (b"a",)}),
    ("COMMAND LIST", "COMMAND LIST", {"module": None, "aclcat": None, "pattern": None}),
    (
        "COMMAND LIST FILTERBY ACLCAT fast",
        "COMMAND LIST",
        {"module": None, "aclcat": b"fast", "pattern": None},
    ),
    (
        "command list filterby pattern lock.*",
        "COMMAND LIST",
        {"module": None, "aclcat": None, "pattern": b"lock.*"},
    ),
    (
        "COMMAND LIST FILTERBY MODULE m",
        "COMMAND LIST",
        {"module": b"m", "aclcat": None, "pattern": None},
    ),
    ("COMMAND GETKEYS ping", "COMMAND GETKEYS", {"command": b"ping", "arguments": ()}),
    ("COMMAND GETKEYS get k", "COMMAND GETKEYS", {"command": b"get", "arguments": (b"k",)}),
    (
        "COMMAND GETKEYSANDFLAGS get k",
        "COMMAND GETKEYSANDFLAGS",
        {"command": b"get", "arguments": (b"k",)},
    ),
    ("COMMAND HELP", "COMMAND HELP", NOTHING),
    ("CONFIG SET a 1", "CONFIG SET", {"settings": ((b"a", b"1"),)}),
    ("CONFIG SET a 1 b 2", "CONFIG SET", {"settings": ((b"a", b"1"), (b"b", b"2"))}),
    ("CONFIG GET a b*", "CONFIG GET", {"parameters": (b"a", b"b*")}),
    ("CONFIG HELP", "CONFIG HELP", NOTHING),
    ("OBJECT HELP", "OBJECT HELP", NOTHING),
    ("WAIT 1 0", "WAIT", {"numreplicas": 1, "timeout": 0}),
    ("INFO", "INFO", {"sections": ()}),
    ("INFO server clients", "INFO", {"sections": (b"server", b"clients")}),
    ("TIME", "TIME", NOTHING),
    ("ROLE", "ROLE", NOTHING),
    ("SHUTDOWN", "SHUTDOWN", SHUTDOWN),
    ("SHUTDOWN nosave NOW", "SHUTDOWN", SHUTDOWN | {"save": "NOSAVE", "now": True}),
    (
        "SHUTDOWN FORCE SAVE ABORT",
        "SHUTDOWN",
        {"save": "SAVE", "now": False, "force": True, "abort": True},
    ),
    ("LOCK.HELP", "LOCK.HELP", NOTHING),
    ("RAFT.STATUS", "RAFT.STATUS", NOTHING),
    ("RAFT.SNAPSHOT", "RAFT.SNAPSHOT", NOTHING),
    ("RAFT.PROPOSALS", "RAFT.PROPOSALS", NOTHING),
    ("RAFT.ADD n4 h:1@2", "RAFT.ADD", {"id": b"n4", "address": b"h:1@2"}),
    ("RAFT.REMOVE n4", "RAFT.REMOVE", {"id": b"n4"}),
    ("RAFT.TRANSFER", "RAFT.TRANSFER", {"id": None}),
    ("raft.transfer n2", "RAFT.TRANSFER", {"id": b"n2"}),
    ("RAFT.HEALTH", "RAFT.HEALTH", NOTHING),
    ("CLUSTER COUNTKEYSINSLOT 16383", "CLUSTER COUNTKEYSINSLOT", {"slot": 16383}),
    ("CLUSTER GETKEYSINSLOT 0 10", "CLUSTER GETKEYSINSLOT", {"slot": 0, "count": 10}),
    ("CLUSTER HELP", "CLUSTER HELP", NOTHING),
    ("cluster info", "CLUSTER INFO", NOTHING),
    ("CLUSTER KEYSLOT k", "CLUSTER KEYSLOT", {"key": b"k"}),
    ("CLUSTER LINKS", "CLUSTER LINKS", NOTHING),
    ("CLUSTER MYID", "CLUSTER MYID", NOTHING),
    ("CLUSTER MYSHARDID", "CLUSTER MYSHARDID", NOTHING),
    ("CLUSTER NODES", "CLUSTER NODES", NOTHING),
    ("CLUSTER SHARDS", "CLUSTER SHARDS", NOTHING),
    ("cluster SLOTS", "CLUSTER SLOTS", NOTHING),
    ("ASKING", "ASKING", NOTHING),
    ("MULTI", "MULTI", NOTHING),
    ("DISCARD", "DISCARD", NOTHING),
    ("UNWATCH", "UNWATCH", NOTHING),
    ("readonly", "READONLY", NOTHING),
    ("READWRITE", "READWRITE", NOTHING),
    ("SENTINEL CKQUORUM m", "SENTINEL CKQUORUM", MASTER),
    ("sentinel get-master-addr-by-name m", "SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER),
    ("SENTINEL HELP", "SENTINEL HELP", NOTHING),
    ("SENTINEL MASTER m", "SENTINEL MASTER", MASTER),
    ("SENTINEL MASTERS", "SENTINEL MASTERS", NOTHING),
    ("SENTINEL MYID", "SENTINEL MYID", NOTHING),
    ("SENTINEL REPLICAS m", "SENTINEL REPLICAS", MASTER),
    ("SENTINEL SENTINELS m", "SENTINEL SENTINELS", MASTER),
    ("SENTINEL SLAVES m", "SENTINEL SLAVES", MASTER),
    ("SUBSCRIBE a b", "SUBSCRIBE", {"channels": (b"a", b"b")}),
    ("UNSUBSCRIBE", "UNSUBSCRIBE", {"channels": ()}),
    ("PSUBSCRIBE a* b", "PSUBSCRIBE", {"patterns": (b"a*", b"b")}),
    ("PUNSUBSCRIBE a*", "PUNSUBSCRIBE", {"patterns": (b"a*",)}),
    ("SSUBSCRIBE a b", "SSUBSCRIBE", {"channels": (b"a", b"b")}),
    ("SUNSUBSCRIBE", "SUNSUBSCRIBE", {"channels": ()}),
    ("PUBSUB SHARDCHANNELS a*", "PUBSUB SHARDCHANNELS", {"pattern": b"a*"}),
    ("PUBSUB SHARDNUMSUB a", "PUBSUB SHARDNUMSUB", {"channels": (b"a",)}),
    ("LOCK.WATCH a b", "LOCK.WATCH", {"owners": (b"a", b"b")}),
    ("LOCK.UNWATCH", "LOCK.UNWATCH", {"owners": ()}),
    ("PUBSUB CHANNELS", "PUBSUB CHANNELS", {"pattern": None}),
    ("PUBSUB CHANNELS a*", "PUBSUB CHANNELS", {"pattern": b"a*"}),
    ("PUBSUB HELP", "PUBSUB HELP", NOTHING),
    ("PUBSUB NUMPAT", "PUBSUB NUMPAT", NOTHING),
    ("PUBSUB NUMSUB a b", "PUBSUB NUMSUB", {"channels": (b"a", b"b")}),
    *[
        (name.lower(), name, NOTHING)
        for name in (
            *("ACL HELP", "ACL LIST", "ACL USERS", "ACL WHOAMI"),
            *("CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CONFIG RESETSTAT", "CONFIG REWRITE"),
            *(
                "MEMORY DOCTOR",
                "MEMORY HELP",
                "MEMORY MALLOC-STATS",
                "MEMORY PURGE",
                "MEMORY STATS",
            ),
            *("MODULE HELP", "MODULE LIST", "SAVE", "BGREWRITEAOF", "LASTSAVE"),
            *("CLIENT UNPAUSE", "MONITOR", "SLOWLOG HELP", "SLOWLOG LEN", "SLOWLOG RESET"),
            *("LATENCY DOCTOR", "LATENCY HELP", "LATENCY LATEST", "DEBUG HELP"),
        )
    ],
]


@pytest.mark.parametrize(("text", "command", "values"), CALLS)
def test_calls(text: str, command: str, values: dict[str, Any]) -> None:
    call = bind(text)
    assert isinstance(call, Call)
    assert call.command.name == command
    assert call.values == values
    assert call.argv == words(text)


def test_every_command_is_bound_above() -> None:
    bound = {find(words(text)).name for text, _ in OPERATIONS} | {name for _, name, _ in CALLS}
    compiled = {command.name for command in callable_commands() if command.grammar is None}
    assert bound == compiled  # test_string_commands.py has the others


# --- errors --------------------------------------------------------------------------------------

ACQUIRE_USAGE = (
    "LOCK.ACQUIRE key owner [TTL ms] [WAIT ms] [PRIORITY n] [SHARED] [LIMIT n [PERMITS k]] [REENTRANT] "
    "[REQUEST id] [ONCLOSE <RELEASE | KEEP>] [DELAY ms] [META n field value [field value ...]]"
)
MACQUIRE_ALLOWED = "allowed: TTL, WAIT, PRIORITY, REQUEST or ONCLOSE"
CANCEL_USAGE = "usage: LOCK.CANCEL key owner"
ACQUIRE_OPTIONS = "TTL, WAIT, PRIORITY, SHARED, LIMIT, REENTRANT, REQUEST, ONCLOSE, DELAY"
ACQUIRE_ONCE = f"{ACQUIRE_OPTIONS} and META are allowed once each"
TTL_RANGE = "an integer from 0 to 86400000 milliseconds (0 = no expiry)"

ERRORS: list[tuple[str | list[bytes], str]] = [
    # too few and too many words
    (
        "LOCK.ACQUIRE k",
        f"wrong number of arguments for 'lock.acquire' command, usage: {ACQUIRE_USAGE}",
    ),
    (
        "LOCK.STATS x",
        "wrong number of arguments for 'lock.stats' command, usage: LOCK.STATS",
    ),
    (
        "LOCK.CHECK k 1 2",
        "wrong number of arguments for 'lock.check' command, usage: LOCK.CHECK key version",
    ),
    (
        "RAFT.STATUS x",
        "wrong number of arguments for 'raft.status' command, usage: RAFT.STATUS",
    ),
    ("PING a b", "wrong number of arguments for 'ping' command"),
    ("ECHO", "wrong number of arguments for 'echo' command"),
    ("AUTH", "wrong number of arguments for 'auth' command"),
    ("AUTH a b c", "wrong number of arguments for 'auth' command"),
    ("CLIENT ID x", "wrong number of arguments for 'client|id' command"),
    ("CLIENT SETNAME", "wrong number of arguments for 'client|setname' command"),
    ("CLIENT KILL", "wrong number of arguments for 'client|kill' command"),
    ("CONFIG GET", "wrong number of arguments for 'config|get' command"),
    ("CONFIG SET a", "wrong number of arguments for 'config|set' command"),
    ("CONFIG SET a 1 b", "wrong number of arguments for 'config|set' command"),
    ("DBSIZE x", "wrong number of arguments for 'dbsize' command"),
    # lengths
    ([b"LOCK.GET", b""], "LOCK.GET: key must be 1 to 1024 bytes, got 0"),
    ([b"LOCK.GET", b"k" * 1025], "LOCK.GET: key must be 1 to 1024 bytes, got 1025"),
    ([b"LOCK.ACQUIRE", b"k", b""], "LOCK.ACQUIRE: owner must be 1 to 4096 bytes, got 0"),
    (
        [b"LOCK.RELEASE", b"k", b"o" * 4097],
        "LOCK.RELEASE: owner must be 1 to 4096 bytes, got 4097",
    ),
    (
        [b"LOCK.ACQUIRE", b"k", b"o", b"REQUEST", b""],
        "LOCK.ACQUIRE: REQUEST must be 1 to 128 bytes, got 0",
    ),
    (
        [b"LOCK.BREAK", b"k", b"REASON", b"r" * 257],
        "LOCK.BREAK: REASON must be 1 to 256 bytes, got 257",
    ),
    ([b"LOCK.LIST", b"MATCH", b""], "LOCK.LIST: MATCH must be 1 to 1024 bytes, got 0"),
    (
        [b"LOCK.ACQUIRE", b"k", b"o", b"META", b"1", b"", b"v"],
        "LOCK.ACQUIRE: field must be 1 to 64 bytes, got 0",
    ),
    (
        [b"LOCK.ACQUIRE", b"k", b"o", b"META", b"1", b"f", b"v" * 257],
        "LOCK.ACQUIRE: value must be 0 to 256 bytes, got 257",
    ),
    (
        [b"LOCK.KEEPALIVE", b"o", b"VERSIONS", b"1", b"", b"1"],
        "LOCK.KEEPALIVE: key must be 1 to 1024 bytes, got 0",
    ),
    # numbers
    ("LOCK.ACQUIRE k o TTL abc", f"LOCK.ACQUIRE: TTL must be {TTL_RANGE}, got 'abc'"),
    ("LOCK.ACQUIRE k o TTL -1", f"LOCK.ACQUIRE: TTL must be {TTL_RANGE}, got '-1'"),
    ("LOCK.RENEW k o TTL 86400001", f"LOCK.RENEW: TTL must be {TTL_RANGE}, got '86400001'"),
    (
        "LOCK.ACQUIRE k o WAIT 600001",
        (
            "LOCK.ACQUIRE: WAIT must be an integer from 0 to 600000 milliseconds (0 = do not wait), "
            "got '600001'"
        ),
    ),
    (
        "LOCK.RELEASE k o VERSION 0",
        "LOCK.RELEASE: VERSION must be an integer from 1 to 9007199254740991, got '0'",
    ),
    (
        "LOCK.CHECK k 9007199254740992",
        "LOCK.CHECK: version must be an integer from 1 to 9007199254740991, got '9007199254740992'",
    ),
    (
        [b"LOCK.ACQUIRE", b"k", b"o", b"TTL", b"1\r\n" + b"9" * 200],
        rf"LOCK.ACQUIRE: TTL must be {TTL_RANGE}, got '1\r\n" + "9" * 125 + "'...",
    ),
    (
        "LOCK.LIST COUNT 0",
        "LOCK.LIST: COUNT must be an integer from 1 to 1000, got '0'",
    ),
    (
        "LOCK.LIST EXPIRES BEFORE 0",
        (
            "LOCK.LIST: BEFORE must be an integer from 1 to 9223372036854775807 unix milliseconds, "
            "got '0'"
        ),
    ),
    (
        "CLIENT LIST ID 1 x",
        "CLIENT LIST: ID must be an integer from 1 to 9223372036854775807, got 'x'",
    ),
    (
        "CLIENT KILL ID 0 TYPE normal",
        "CLIENT KILL: ID must be an integer from 1 to 9223372036854775807, got '0'",
    ),
    ("SELECT 16", "DB index is out of range"),
    ("SELECT -1", "DB index is out of range"),
    ("SELECT x", "value is not an integer or out of range"),
    ("HELLO x", "Protocol version is not an integer or out of range"),
    # counted lists
    (
        "LOCK.ACQUIRE k o META 33",
        "LOCK.ACQUIRE: META n must be an integer from 0 to 32, got '33'",
    ),
    (
        "LOCK.KEEPALIVE o VERSIONS 0",
        "LOCK.KEEPALIVE: VERSIONS n must be an integer from 1 to 512, got '0'",
    ),
    (
        "LOCK.ACQUIRE k o META 2 f v g",
        "LOCK.ACQUIRE: META 2 must be followed by 4 arguments, got 3",
    ),
    (
        "LOCK.KEEPALIVE o VERSIONS 1 k",
        "LOCK.KEEPALIVE: VERSIONS 1 must be followed by 2 arguments, got 1",
    ),
    ("LOCK.LIST META 2 f v f w", "LOCK.LIST: META has the same field twice"),
    (
        "LOCK.KEEPALIVE o VERSIONS 2 k 1 k 2",
        "LOCK.KEEPALIVE: VERSIONS has the same key twice",
    ),
    # tokens without what they introduce
    ("LOCK.ACQUIRE k o TTL", f"LOCK.ACQUIRE: TTL must be followed by {TTL_RANGE}"),
    (
        "LOCK.ACQUIRE k o REQUEST",
        "LOCK.ACQUIRE: REQUEST must be followed by 1 to 128 bytes",
    ),
    (
        "LOCK.ACQUIRE k o META",
        (
            "LOCK.ACQUIRE: META must be followed by a count from 0 to 32, then so many times "
            "field value"
        ),
    ),
    ("LOCK.LIST EXPIRES", "LOCK.LIST: EXPIRES must be followed by BEFORE or AFTER"),
    (
        "LOCK.LIST EXPIRES BEFORE",
        (
            "LOCK.LIST: EXPIRES BEFORE must be followed by an integer from 1 to "
            "9223372036854775807 unix milliseconds"
        ),
    ),
    ("HELLO 3 AUTH u", "HELLO: AUTH must be followed by username password"),
    (
        "CLIENT LIST ID",
        "CLIENT LIST: ID must be followed by an integer from 1 to 9223372036854775807",
    ),
    (
        "CLIENT LIST ID TYPE normal",
        "CLIENT LIST: ID must be followed by an integer from 1 to 9223372036854775807",
    ),
    (
        "COMMAND LIST FILTERBY",
        "COMMAND LIST: FILTERBY must be followed by MODULE, ACLCAT or PATTERN",
    ),
    # words that are not allowed there
    (
        "LOCK.ACQUIRE k o FOO",
        f"LOCK.ACQUIRE: unknown argument 'FOO', allowed: {ACQUIRE_OPTIONS} or META",
    ),
    ("LOCK.RELEASE k o TTL 5", "LOCK.RELEASE: unknown argument 'TTL', allowed: VERSION"),
    ("LOCK.GET k \x01", r"LOCK.GET: unknown argument '\x01', allowed: WAITERS"),
    (
        "SHUTDOWN x",
        "SHUTDOWN: unknown argument 'x', allowed: NOSAVE, SAVE, NOW, FORCE or ABORT",
    ),
    (
        "CLIENT KILL a b",
        "CLIENT KILL: unknown argument 'a', allowed: ID, TYPE, USER, ADDR, LADDR or SKIPME",
    ),
    ("HELLO 3 x", "HELLO: unknown argument 'x', allowed: AUTH or SETNAME"),
    ("LOCK.ACQUIRE k o ONCLOSE x", "LOCK.ACQUIRE: ONCLOSE must be RELEASE or KEEP, got 'x'"),
    ("LOCK.MACQUIRE 1 k o META 0", f"LOCK.MACQUIRE: unknown argument 'META', {MACQUIRE_ALLOWED}"),
    ("LOCK.MACQUIRE 1 k o SHARED", f"LOCK.MACQUIRE: unknown argument 'SHARED', {MACQUIRE_ALLOWED}"),
    ("LOCK.CANCEL k o x", f"wrong number of arguments for 'lock.cancel' command, {CANCEL_USAGE}"),
    ("LOCK.LIST EXPIRES 5", "LOCK.LIST: EXPIRES must be BEFORE or AFTER, got '5'"),
    ("CLIENT REPLY x", "CLIENT REPLY: mode must be ON, OFF or SKIP, got 'x'"),
    ("CLIENT SETINFO x y", "CLIENT SETINFO: attr must be LIB-NAME or LIB-VER, got 'x'"),
    (
        "CLIENT LIST TYPE x",
        "CLIENT LIST: TYPE must be NORMAL, MASTER, REPLICA, SLAVE or PUBSUB, got 'x'",
    ),
    # what is given twice
    ("LOCK.ACQUIRE k o TTL 1 ttl 1", f"LOCK.ACQUIRE: TTL is given twice; {ACQUIRE_ONCE}"),
    ("LOCK.RELEASE k o VERSION 1 VERSION 1", "LOCK.RELEASE: VERSION is given twice"),
    ("LOCK.GET k WAITERS WAITERS", "LOCK.GET: WAITERS is given twice"),
    (
        "LOCK.LIST EXPIRES BEFORE 1 EXPIRES BEFORE 2",
        (
            "LOCK.LIST: EXPIRES BEFORE is given twice; EXPIRES BEFORE and EXPIRES AFTER are allowed "
            "once each"
        ),
    ),
    (
        "SHUTDOWN SAVE NOSAVE",
        (
            "SHUTDOWN: NOSAVE or SAVE is given twice; NOSAVE, SAVE, NOW, FORCE and ABORT are allowed "
            "once each"
        ),
    ),
    # names of clients
    (
        [b"CLIENT", b"SETNAME", b"a b"],
        "Client names cannot contain spaces, newlines or special characters.",
    ),
    (
        [b"HELLO", b"3", b"SETNAME", b"\xe9"],
        "Client names cannot contain spaces, newlines or special characters.",
    ),
    (
        [b"CLIENT", b"SETINFO", b"LIB-NAME", b"a\n"],
        "lib-name cannot contain spaces, newlines or special characters.",
    ),
    (
        [b"CLIENT", b"SETINFO", b"LIB-VER", b"a b"],
        "lib-ver cannot contain spaces, newlines or special characters.",
    ),
    # kinds, places and their bounds
    (
        "LOCK.ACQUIRE k o PRIORITY 1001",
        "LOCK.ACQUIRE: PRIORITY must be an integer from -1000 to 1000, got '1001'",
    ),
    (
        "LOCK.ACQUIRE k o PRIORITY -1001",
        "LOCK.ACQUIRE: PRIORITY must be an integer from -1000 to 1000, got '-1001'",
    ),
    (
        "LOCK.ACQUIRE k o LIMIT 0",
        "LOCK.ACQUIRE: LIMIT must be an integer from 1 to 1000000, got '0'",
    ),
    (
        "LOCK.ENQUEUE k o LIMIT 1000001",
        "LOCK.ENQUEUE: LIMIT must be an integer from 1 to 1000000, got '1000001'",
    ),
    (
        "LOCK.ACQUIRE k o LIMIT 3 PERMITS 0",
        "LOCK.ACQUIRE: PERMITS must be an integer from 1 to 1000000 (at most LIMIT), got '0'",
    ),
    (
        "LOCK.ACQUIRE k o LIMIT 3 PERMITS 4",
        "LOCK.ACQUIRE: PERMITS must be at most LIMIT, which is 3, got 4",
    ),
    ("LOCK.ACQUIRE k o LIMIT", "LOCK.ACQUIRE: LIMIT must be followed by n [PERMITS k]"),
    (
        "LOCK.ACQUIRE k o LIMIT 3 PERMITS",
        ("LOCK.ACQUIRE: PERMITS must be followed by an integer from 1 to 1000000 (at most LIMIT)"),
    ),
    ("LOCK.ACQUIRE k o PERMITS 2", "LOCK.ACQUIRE: PERMITS is allowed only behind LIMIT n"),
    (
        "LOCK.ACQUIRE k o LIMIT 3 WAIT 5 permits 2",
        "LOCK.ACQUIRE: PERMITS is allowed only behind LIMIT n",
    ),
    ("LOCK.ACQUIRE k o LIMIT 3 PERMITS 2 PERMITS 2", "LOCK.ACQUIRE: PERMITS is given twice"),
    (
        "LOCK.ACQUIRE k o DELAY 86400001",
        ("LOCK.ACQUIRE: DELAY must be an integer from 0 to 86400000 milliseconds, got '86400001'"),
    ),
    (
        "LOCK.ENQUEUE k o WAIT 0",
        "LOCK.ENQUEUE: WAIT must be an integer from 1 to 600000 milliseconds, got '0'",
    ),
    ("LOCK.ACQUIRE k o ONCLOSE", "LOCK.ACQUIRE: ONCLOSE must be followed by RELEASE or KEEP"),
    (
        "LOCK.MACQUIRE 0 o o",
        "LOCK.MACQUIRE: n must be an integer from 1 to 128, got '0'",
    ),
    (
        "LOCK.MACQUIRE 129 a o",
        "LOCK.MACQUIRE: n must be an integer from 1 to 128, got '129'",
    ),
    (
        "LOCK.MACQUIRE 2 a o",
        "LOCK.MACQUIRE: key 2 must be followed by 2 arguments, got 1",
    ),
    ("LOCK.MACQUIRE 3 a b a o", "LOCK.MACQUIRE: the same key is given twice"),
    # what contradicts
    (
        "LOCK.ACQUIRE k o SHARED LIMIT 3",
        (
            "LOCK.ACQUIRE: SHARED and LIMIT contradict each other: a lock is held by readers or as "
            "a semaphore, not as both"
        ),
    ),
    (
        "LOCK.ACQUIRE k o REENTRANT TTL 5 SHARED",
        (
            "LOCK.ACQUIRE: SHARED and REENTRANT contradict each other: only exclusive holds are "
            "counted"
        ),
    ),
    (
        "LOCK.ENQUEUE k o REENTRANT LIMIT 1",
        (
            "LOCK.ENQUEUE: LIMIT and REENTRANT contradict each other: only exclusive holds are "
            "counted"
        ),
    ),
]


@pytest.mark.parametrize(("text", "error"), ERRORS)
def test_errors(text: str | list[bytes], error: str) -> None:
    assert error_of(text) == f"ERR {error}"


def test_an_unknown_protocol_has_a_code_of_its_own() -> None:
    assert error_of("HELLO 4") == "NOPROTO unsupported protocol version"
    assert error_of("HELLO 1") == "NOPROTO unsupported protocol version"


def test_an_error_is_new_each_time() -> None:
    # An exception that is raised twice would gather tracebacks.
    argv = words("LOCK.ACQUIRE k o SHARED LIMIT 3")
    caught = []
    for _ in range(2):
        with pytest.raises(CommandError) as error:
            find(argv).bind(argv, 0)
        caught.append(error.value)
    assert caught[0] is not caught[1]


# --- properties ----------------------------------------------------------------------------------


@given(st.binary(max_size=25) | st.integers(-(10**20), 10**20).map(lambda n: b"%d" % n))
@example(b"-0")
@example(b"0")
@example(b"00")
@example(b"+1")
@example(b"-")
@example(b"")
@example(b"1_0")
@example("\u0661".encode())
@example(b"9" * 5000)
def test_integers(raw: bytes) -> None:
    number = parse_integer(raw)
    if number is not None:
        assert b"%d" % number == raw
    else:
        try:
            plain = int(raw[:30])
        except ValueError:
            return
        assert b"%d" % plain != raw or not -(10**19) < plain < 10**19


@given(st.integers(-5, limits.TTL_MS_MAX + 5))
def test_ttls(ttl: int) -> None:
    argv = words(f"LOCK.ACQUIRE k o TTL {ttl}")
    if 0 <= ttl <= limits.TTL_MS_MAX:
        assert bind(argv).ttl_ms == ttl
        assert bind(argv).ttl_ms is bind(argv).ttl_ms  # equal TTLs share one int
    else:
        assert "TTL must be" in error_of(argv)


def test_the_numbers_remembered_are_bounded() -> None:
    for ttl in range(3 * checks.INTEGERS_CACHED_MAX):
        assert bind(f"LOCK.ACQUIRE k o TTL {ttl}").ttl_ms == ttl
    assert all(len(known) <= checks.INTEGERS_CACHED_MAX for known in checks._caches.values())
    assert "got '99999999999'" in error_of("LOCK.ACQUIRE k o TTL 99999999999")
    assert not any(b"99999999999" in known for known in checks._caches.values())


def test_options_may_stand_in_any_order() -> None:
    options = ["TTL 5", "REQUEST r", "META 1 f v", "WAIT 0", "ONCLOSE KEEP"]
    expected = bind("LOCK.ACQUIRE k o " + " ".join(options))
    for order in itertools.permutations(options):
        assert bind("LOCK.ACQUIRE k o " + " ".join(order)) == expected


def arguments_of(command: Command) -> list[Argument]:
    found: list[Argument] = []
    pending = list(command.arguments)
    while pending:
        argument = pending.pop()
        found.append(argument)
        pending.extend(argument.parts)
    return found


def vocabulary(command: Command) -> list[bytes]:
    """Words that may mean something to the command, and some that do not."""
    tokens = [each.token.encode() for each in arguments_of(command) if each.token]
    return [
        *tokens,
        *(token.lower() for token in tokens),
        b"0",
        b"1",
        b"2",
        b"-1",
        b"x",
        b"",
        b"\0",
    ]


@st.composite
def calls(draw: st.DrawFn) -> list[bytes]:
    command = draw(st.sampled_from(callable_commands()))
    rest = draw(st.lists(st.sampled_from(vocabulary(command)) | st.binary(max_size=5), max_size=9))
    return [word.encode() for word in command.words] + rest


def attempt(argv: list[bytes]) -> Bound | CommandError:
    try:
        return bind(argv)
    except CommandError as error:
        return error


@given(calls())
def test_anything_is_bound_or_refused_with_a_command_error(argv: list[bytes]) -> None:
    as_given = list(argv)
    bound = attempt(argv)
    if isinstance(bound, CommandError):
        assert len(bound.text) <= 1024
        assert bound.text.isprintable()
    else:
        command = find(argv)
        if command.grammar is None:  # one of those may build several kinds
            assert isinstance(bound, command.builds or Call)
        assert len(argv) >= command.least_words
        assert command.arity < 0 or len(argv) == command.arity
    assert argv == as_given


def instances(argument: Argument) -> list[list[bytes]]:
    """Some right ways to write an argument, from its declaration alone."""
    token = [argument.token.encode()] if argument.token else []
    match argument:
        case PureToken():
            return [token]
        case Integer():
            most = argument.least if argument.at_most else argument.most
            values = sorted({argument.least, most})
            inner = [[b"%d" % value] for value in values]
        case Text():
            lengths = sorted({argument.least, min(argument.most, 2000)})
            inner = [[b"x" * length] for length in lengths]
        case OneOf():
            inner = [way for part in argument.parts for way in instances(part)]
        case Block():
            ways = [instances(part) for part in argument.parts]
            inner = [list(itertools.chain(*combined)) for combined in itertools.product(*ways)]
        case _:
            raise AssertionError(argument)
    if argument.counted:
        inner = [[b"1", *way] for way in inner]
    return [[*token, *way] for way in inner]


def test_what_is_declared_is_accepted() -> None:
    for command in callable_commands():
        head = [word.encode() for word in command.words]
        required = [each for each in command.arguments if not each.optional]
        optional = [each for each in command.arguments if each.optional]
        minimal = [*head, *itertools.chain(*(instances(each)[0] for each in required))]
        assert len(minimal) >= command.least_words
        bind(minimal)
        for argument in command.arguments:
            for way in instances(argument):
                rest = [instances(each)[0] for each in required if each is not argument]
                if argument in optional:
                    behind = [*rest, way]
                    if argument is command.arguments[0] and required:  # AUTH [username] password
                        behind = [way, *rest]
                else:
                    place = required.index(argument)
                    behind = [*rest[:place], way, *rest[place:]]
                bind([*head, *itertools.chain(*behind)])


def test_too_few_words_are_an_arity_error() -> None:
    for command in callable_commands():
        head = [word.encode() for word in command.words]
        for count in range(len(head), command.least_words):
            argv = [*head, *[b"1"] * (count - len(head))]
            expected = f"wrong number of arguments for '{command.full_name}' command"
            assert error_of(argv).startswith(f"ERR {expected}")


def test_tracebacks_show_the_binder() -> None:
    with pytest.raises(CommandError) as caught:
        bind("LOCK.ACQUIRE k o TTL x")
    shown = "".join(traceback.format_tb(caught.value.__traceback__))
    assert "<binder of LOCK.ACQUIRE>" in shown
    assert "v_ttl_ms = parse_ttl_ms(word)" in shown


# --- forms by themselves --------------------------------------------------------------------------


def bind_declared(arguments: tuple[Argument, ...], text: str) -> dict[str, Any]:
    command = Command(name="TEST", summary="", group=Group.SERVER, arguments=arguments)
    bound = command.bind(words("TEST " + text), 0)
    assert isinstance(bound, Call)
    return bound.values


SEMAPHORE = Block(
    name="semaphore",
    token="LIMIT",
    optional=True,
    arguments=(
        Integer(name="n", field="limit", least=1),
        Integer(name="k", token="PERMITS", field="permits", least=1, optional=True),
    ),
)
SHARED = PureToken(name="shared", token="SHARED", optional=True)


@pytest.mark.parametrize(
    ("text", "limit", "permits", "shared"),
    [
        ("", None, None, False),
        ("LIMIT 3", 3, None, False),
        ("LIMIT 3 SHARED", 3, None, True),
        ("LIMIT 3 PERMITS 2", 3, 2, False),
        ("SHARED LIMIT 3 PERMITS 2", 3, 2, True),
        ("limit 3 permits 2 shared", 3, 2, True),
    ],
)
def test_options_within_an_option(
    text: str, limit: int | None, permits: int | None, shared: bool
) -> None:
    values = bind_declared((SEMAPHORE, SHARED), text)
    assert values == {"limit": limit, "permits": permits, "shared": shared}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("LIMIT", "TEST: LIMIT must be followed by n [PERMITS k]"),
        ("LIMIT 3 PERMITS", "TEST: PERMITS must be followed by an integer from 1 to"),
        ("PERMITS 2", "TEST: PERMITS is allowed only behind LIMIT n"),
        ("LIMIT 3 SHARED PERMITS 2", "TEST: PERMITS is allowed only behind LIMIT n"),
        ("LIMIT 3 PERMITS 2 PERMITS 2", "TEST: PERMITS is given twice"),
    ],
)
def test_errors_of_options_within_an_option(text: str, error: str) -> None:
    with pytest.raises(CommandError) as caught:
        bind_declared((SEMAPHORE, SHARED), text)
    assert caught.value.text.startswith(error)


COUNTED_KEYS = (Key(name="key", counted=Count(1, 3)), Text(name="owner"), SHARED)


def test_a_counted_list_may_come_first() -> None:
    values = bind_declared(COUNTED_KEYS, "2 a b o SHARED")
    assert values == {"key": (b"a", b"b"), "owner": b"o", "shared": True}
    for text, error in (
        ("2 a b", "TEST: key 2 must be followed by 2 arguments, got 1"),
        ("4 a b c d o", "TEST: n must be an integer from 1 to 3, got '4'"),
        ("x a o", "TEST: n must be an integer from 1 to 3, got 'x'"),
    ):
        with pytest.raises(CommandError) as caught:
            bind_declared(COUNTED_KEYS, text)
        assert caught.value.text == error
