"""Every promise of the command table is kept by the running server: each command can be called, each
reply it declares was given, each error too; and nothing that was answered is missing in the table.

The calls are below, in the order in which they are made, once in RESP2 and once in RESP3. What cannot
be had from a healthy server of one node is listed with the reason, and must then not occur either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resplock import limits
from resplock.resp.commands import COMMANDS, Command, Flag, Promise, find, promises
from resplock.resp.shapes import Field, Kind, Reply
from tests.e2e.conftest import MakeServer
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.wire import Closed, Failure, Map, Members, Pushed, Status, Verbatim, Wire

PASSWORD = "open sesame"

NEEDS_MORE_NODES = {
    "INDOUBT": "a leader that is lost between a proposal and its commit",
    "CLUSTERDOWN": "a node without a leader; one that is its own listens only once it leads",
    "LOADING": "a node that has not caught up; the same",
    "MOVED": "a node that follows",
}
CANNOT_IN = {
    2: {Promise("LOCK.WATCH", "reply", "count"): "it needs pushes"},
    3: {Promise("PING", "reply", "subscriber"): "a subscriber may do as others there"},
}
NEEDS_MORE_LOAD = {"BUSY": "100,000 commands within one turn of the event loop"}
CANNOT = {
    Promise("ROLE", "reply", "slave"): "a node that follows",
    Promise("RAFT.ADD", "reply", "ok"): "another node",
    Promise("CONFIG REWRITE", "reply", "nothing"): "it is an error",
    Promise("SENTINEL CKQUORUM", "error", "NOQUORUM"): "a cluster most of which is down",
    Promise("OBJECT FREQ", "reply", "number"): "it is always refused",
    # These take any words, as in Redis.
    Promise("INFO", "error", "ERR"): "an unknown section has no fields",
    Promise("SCRIPT EXISTS", "error", "ERR"): "what is no SHA1 is not known",
    Promise("COMMAND INFO", "error", "ERR"): "an unknown name gets a nil",
    Promise("COMMAND DOCS", "error", "ERR"): "an unknown name is left out",
}


TAKE_MANY_WORDS = (
    "CONFIG GET",
    "CLIENT CAPA",
    "LATENCY HISTOGRAM",
    "LATENCY RESET",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "PSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SSUBSCRIBE",
    "SUNSUBSCRIBE",
    "PUBSUB NUMSUB",
    "PUBSUB SHARDNUMSUB",
    "LOCK.WATCH",
    "LOCK.UNWATCH",
    "WATCH",
    "DEL",
    "UNLINK",
    "EXISTS",
    "TOUCH",
    "MGET",
    "MSET",
    "MSETNX",
)


def cannot(promise: Promise, protocol: int) -> bool:
    """Whether a promise cannot be tried here."""
    if promise in CANNOT or promise in CANNOT_IN[protocol]:
        return True
    return promise.kind == "error" and promise.name in NEEDS_MORE_NODES | NEEDS_MORE_LOAD


# --- which of its declared replies a reply is -------------------------------------------------------


IN_RESP2 = {
    Kind.DOUBLE: Kind.BULK,
    Kind.VERBATIM: Kind.BULK,
    Kind.MAP: Kind.ARRAY,
    Kind.PUSH: Kind.ARRAY,
    Kind.SET: Kind.ARRAY,
}


def is_of(kind: Kind, value: Any, protocol: int) -> bool:
    """Whether a value has the declared type."""
    if protocol == 2:
        kind = IN_RESP2.get(kind, kind)
    match kind:
        case Kind.INTEGER:
            return type(value) is int
        case Kind.BULK:
            return type(value) is bytes
        case Kind.DOUBLE:
            return type(value) is float
        case Kind.SIMPLE:
            return type(value) is Status
        case Kind.VERBATIM:
            return type(value) is Verbatim
        case Kind.MAP:
            return type(value) is Map
        case Kind.ARRAY:
            return type(value) is list
        case Kind.SET:
            return type(value) is Members
        case Kind.PUSH:
            return type(value) is Pushed
        case Kind.NIL:
            return value is None
        case Kind.NOTHING:
            return False


def has_field(field: Field, name: bytes, value: Any, protocol: int) -> bool:
    if name != field.name.encode():
        return False
    if field.constant is not None:
        return bool(value == field.constant)
    if field.fields:
        return is_of(field.kind, value, protocol) and all(
            is_of(Kind.MAP, item, protocol) and has_fields(field.fields, item, protocol)
            for item in value
        )
    return (field.nullable and value is None) or is_of(field.kind, value, protocol)


def has_fields(fields: tuple[Field, ...], value: Any, protocol: int) -> bool:
    """Whether a map has these fields in their order; the optional ones may be missing."""
    pairs = (
        list(value.items())
        if protocol == 3
        else list(zip(value[::2], value[1::2], strict=len(value) % 2 == 0))
    )
    names = {name for name, _ in pairs}
    there = [field for field in fields if not field.optional or field.name.encode() in names]
    return len(pairs) == len(there) and all(
        has_field(field, name, given, protocol)
        for field, (name, given) in zip(there, pairs, strict=True)
    )


def is_reply(declared: Reply, value: Any, protocol: int) -> bool:
    """Whether a reply is the declared one: its type, and its fields in their order."""
    if not is_of(declared.kind, value, protocol):
        return False
    return not declared.fields or has_fields(declared.fields, value, protocol)


def kept_by(command: Command, value: Any, protocol: int) -> Promise:
    """The promise that a reply keeps. Fails when the table does not have it."""
    if isinstance(value, Failure):
        assert value.code in command.all_errors, f"{command.name}: undeclared error {value!r}"
        return Promise(command.name, "error", value.code)
    names = [each.name for each in command.replies if is_reply(each, value, protocol)]
    if command.name == "ROLE":
        names = [name for name in names if name == value[0].decode()]
    if command.name == "CLIENT UNBLOCK":
        names = ["unblocked" if value else "not-blocked"]
    assert len(names) == 1, f"{command.name}: {value!r} is {names or 'none'} of its replies"
    return Promise(command.name, "reply", names[0])


class Ledger:
    """The promises that were kept."""

    def __init__(self) -> None:
        self.kept: set[Promise] = set()

    def call(self, wire: Wire, *words: object, command: Command | None = None) -> Any:
        """Call a command and note which promise its reply keeps."""
        reply = wire.call(*words)
        if command is None:
            command = find([str(word).encode() for word in words if not isinstance(word, bytes)])
        self.note(kept_by(command, reply, wire.protocol))
        return reply

    def note(self, promise: Promise) -> None:
        command = Promise(promise.command, "command", promise.command)
        self.kept |= {promise, command}

    def note_silence(self, *name: str) -> None:
        """A command that has no reply."""
        self.note(Promise(" ".join(name), "reply", "nothing"))


def all_commands() -> Iterator[Command]:
    """Every command that can be called."""
    for top in COMMANDS.values():
        for command in top.walk():
            if not command.subcommands or command.bare:
                yield command


# --- the calls ---------------------------------------------------------------------------------------

CALLS = """
LOCK.ACQUIRE a me TTL 60000 REQUEST r1 META 1 host h
LOCK.ACQUIRE a you
LOCK.GET a
LOCK.GET a WAITERS
LOCK.GET nothing
LOCK.CHECK a 1
LOCK.BACKOFF a
LOCK.BACKOFF nothing
LOCK.LIST
LOCK.LIST MATCH a OWNER m* HELD EXPIRES BEFORE 1 EXPIRES AFTER 1 META 1 host h COUNT 5
LOCK.LIST CONTESTED CURSOR 0
LOCK.RENEW a me TTL 50000
LOCK.RENEW a you
LOCK.RENEW a me VERSION 1
LOCK.RENEW nothing me
LOCK.KEEPALIVE me
LOCK.KEEPALIVE me TTL 40000 VERSIONS 2 a 1 nothing 1
LOCK.RELEASE nothing me
LOCK.RELEASE a you
LOCK.RELEASE a me VERSION 1
LOCK.RELEASE a me
LOCK.ACQUIRE a me REQUEST r1
LOCK.ACQUIRE b me
LOCK.BREAK b VERSION 1
LOCK.BREAK b REASON maintenance
LOCK.BREAK b
LOCK.STATS
LOCK.HELP
LOCK.MACQUIRE 2 m1 m2 me REQUEST m
LOCK.MACQUIRE 2 m2 m3 you
LOCK.MACQUIRE 1 m1 you WAIT 1
LOCK.RELEASE m1 me
LOCK.MACQUIRE 2 m1 m2 me REQUEST m
LOCK.ENQUEUE c me REQUEST e
LOCK.ENQUEUE c you WAIT 60000
LOCK.ACQUIRE c he WAIT 1
LOCK.GET c WAITERS
LOCK.CANCEL c you
LOCK.CANCEL c you
LOCK.ENQUEUE c you WAIT 1 REQUEST late
LOCK.ENQUEUE c they REQUEST given-up
LOCK.CANCEL c they
LOCK.ENQUEUE c they REQUEST given-up
LOCK.RELEASE c me
LOCK.ENQUEUE c me REQUEST e
LOCK.ACQUIRE s me SHARED META 1 host h
LOCK.ACQUIRE s you SHARED
LOCK.GET s
LOCK.ACQUIRE p me LIMIT 3 PERMITS 2
LOCK.ACQUIRE p me LIMIT 4
LOCK.GET p WAITERS
LOCK.ACQUIRE r me REENTRANT
LOCK.ACQUIRE r me REENTRANT DELAY 5
LOCK.RELEASE r me
SET k v
SET k v NX PX 5
SET k w XX GET PX 60000
SETNX k v
SETNX k2 v
SETEX k 60 v
PSETEX k 60000 v
GETSET k w
GETSET k3 w
GET k
GET nothing
GETEX k EX 60
GETEX nothing
STRLEN k
MSET m 1 n 2
MSETNX m 1 n 2
MGET m n nothing
INCR m
DECR m
INCRBY m 5
DECRBY m 5
APPEND m 7
GETRANGE m 0 -1
KEYS *
SCAN 0
RANDOMKEY
OBJECT ENCODING m
OBJECT IDLETIME m
OBJECT REFCOUNT m
OBJECT FREQ m
OBJECT ENCODING nothing
OBJECT IDLETIME nothing
OBJECT REFCOUNT nothing
OBJECT FREQ nothing
OBJECT HELP
MEMORY USAGE m
MEMORY USAGE nothing
TYPE k
EXISTS k nothing
TOUCH k
EXPIRE k 60 GT
PEXPIRE k 60000
EXPIREAT k 4000000000
PEXPIREAT k 4000000000000
EXPIRETIME k
PEXPIRETIME k
TTL k
PTTL k
PERSIST k
DELIFEQ k v
DELEX k IFNE w
GETDEL k
GETDEL nothing
DEL k2 k3
UNLINK k
SET s v
SETEX s 60 v
PSETEX s 60000 v
GETSET s v
GET s
GETEX s
GETDEL s
STRLEN s
MSET s v
INCR s
DECR s
INCRBY s 5
DECRBY s 5
APPEND s v
GETRANGE s 0 -1
OBJECT ENCODING s
OBJECT IDLETIME s
OBJECT REFCOUNT s
OBJECT FREQ s
MEMORY USAGE s
TYPE s
EXPIRE s 60
PEXPIRE s 60000
EXPIREAT s 4000000000
PEXPIREAT s 4000000000000
PERSIST s
DELIFEQ s v
DELEX s IFEQ v
SCRIPT LOAD return(ARGV[1])
SCRIPT LOAD return(redis.call('GET',KEYS[1]))
SCRIPT EXISTS c5bb426fae3cfbe52508dff16057f911d4eaa1df
EVAL return(ARGV[1]) 0 x
EVAL_RO return(ARGV[1]) 0 x
EVALSHA c5bb426fae3cfbe52508dff16057f911d4eaa1df 0 x
EVALSHA_RO c5bb426fae3cfbe52508dff16057f911d4eaa1df 0 x
EVAL return(redis.call('GET',KEYS[1])) 1 s
EVAL_RO return(redis.call('GET',KEYS[1])) 1 s
EVALSHA bfef805d9dcd9d3857da9372933ef22c17736f58 1 s
EVALSHA_RO bfef805d9dcd9d3857da9372933ef22c17736f58 1 s
SCRIPT FLUSH
EVALSHA x
EVALSHA_RO x
EVALSHA c5bb426fae3cfbe52508dff16057f911d4eaa1df 0
EVALSHA_RO c5bb426fae3cfbe52508dff16057f911d4eaa1df 0
FLUSHDB
FLUSHALL ASYNC
RANDOMKEY
WATCH t u
UNWATCH
WATCH t
SET t v
MULTI
MULTI
WATCH t
DISCARD x
EXEC
EXEC
UNWATCH t
WATCH t
SET t w
MULTI
EXEC
MULTI
EXEC
MULTI
DISCARD
DISCARD
PING
PING hello
WAIT 0 0
WAIT 1 5
ECHO hello
SELECT 1
SELECT 0
SELECT 16
CLIENT GETNAME
CLIENT SETNAME tester
CLIENT GETNAME
CLIENT ID
CLIENT INFO
CLIENT LIST
CLIENT LIST TYPE NORMAL
CLIENT LIST ID 1
CLIENT SETINFO LIB-NAME tests
CLIENT SETINFO LIB-VER 1
CLIENT NO-EVICT ON
CLIENT NO-TOUCH ON
CLIENT KILL ID 999999
CLIENT KILL 127.0.0.1:1
CLIENT UNBLOCK 999999
CLIENT REPLY ON
CLIENT HELP
CLIENT CAPA redirect
CLIENT GETREDIR
CLIENT TRACKING OFF
CLIENT TRACKING ON
CLIENT TRACKINGINFO
CLIENT PAUSE 0
CLIENT UNPAUSE
SLOWLOG GET
SLOWLOG GET -2
SLOWLOG HELP
SLOWLOG LEN
SLOWLOG RESET
LATENCY DOCTOR
LATENCY HELP
LATENCY HISTOGRAM
LATENCY HISTORY command
LATENCY LATEST
LATENCY RESET
DEBUG HELP
DEBUG SLEEP 0
DEBUG SLEEP x
ACL CAT
ACL CAT lock
ACL CAT nothing
ACL GETUSER default
ACL GETUSER nobody
ACL HELP
ACL LIST
ACL USERS
ACL WHOAMI
MEMORY DOCTOR
MEMORY HELP
MEMORY MALLOC-STATS
MEMORY PURGE
MEMORY STATS
MODULE HELP
MODULE LIST
SAVE
BGSAVE
BGREWRITEAOF
LASTSAVE
COMMAND
COMMAND COUNT
COMMAND DOCS LOCK.ACQUIRE
COMMAND INFO LOCK.ACQUIRE nothing
COMMAND LIST
COMMAND LIST FILTERBY PATTERN lock.*
COMMAND LIST FILTERBY ACLCAT lock
COMMAND LIST FILTERBY MODULE none
COMMAND GETKEYS LOCK.GET a
COMMAND GETKEYS LOCK.STATS
COMMAND GETKEYSANDFLAGS LOCK.GET a
COMMAND GETKEYSANDFLAGS LOCK.STATS
COMMAND HELP
CONFIG GET *
CONFIG GET nothing maxclients
CONFIG HELP
CONFIG RESETSTAT
CONFIG REWRITE
CONFIG SET timeout 0
INFO
INFO server locks
INFO nothing
DBSIZE
TIME
ROLE
RAFT.STATUS
RAFT.SNAPSHOT
RAFT.PROPOSALS
RAFT.ADD n2 127.0.0.1:1
RAFT.REMOVE n2
RAFT.TRANSFER n1
RAFT.TRANSFER n2
RAFT.HEALTH
CLUSTER COUNTKEYSINSLOT 0
CLUSTER COUNTKEYSINSLOT 16384
CLUSTER GETKEYSINSLOT 0 10
CLUSTER HELP
CLUSTER INFO
CLUSTER KEYSLOT a
CLUSTER LINKS
CLUSTER MYID
CLUSTER MYSHARDID
CLUSTER NODES
CLUSTER SHARDS
CLUSTER SLOTS
READONLY
READWRITE
ASKING
SENTINEL CKQUORUM resplock
SENTINEL CKQUORUM other
SENTINEL GET-MASTER-ADDR-BY-NAME resplock
SENTINEL GET-MASTER-ADDR-BY-NAME other
SENTINEL HELP
SENTINEL MASTER resplock
SENTINEL MASTERS
SENTINEL MYID
SENTINEL REPLICAS resplock
SENTINEL SENTINELS resplock
SENTINEL SLAVES resplock
PUBSUB CHANNELS
PUBSUB HELP
PUBSUB NUMPAT
PUBSUB NUMSUB a
PUBSUB SHARDCHANNELS
PUBSUB SHARDNUMSUB a
LOCK.WATCH me you
LOCK.UNWATCH you
SUBSCRIBE
SUBSCRIBE a
PSUBSCRIBE
PSUBSCRIBE a*
SSUBSCRIBE
SSUBSCRIBE a
PING
UNSUBSCRIBE a
PUNSUBSCRIBE
SUNSUBSCRIBE
SHUTDOWN ABORT
HELLO 4
HELLO three
CONFIG GET
"""


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_promise_of_the_command_table_is_kept(make_server: MakeServer, protocol: int) -> None:
    ledger, server = Ledger(), make_server("--enable-debug-command").start()
    with server.wire(protocol=protocol) as wire:
        for line in CALLS.split("\n")[1:-1]:
            ledger.call(wire, *line.split(" "))
        ledger.call(wire, "HELLO", protocol)
    call_while_waiting(ledger, server, protocol)
    call_wrongly(ledger, server, protocol)
    call_what_closes_or_silences(ledger, server, protocol)
    guarded = make_server(f"--requirepass={PASSWORD}").start()
    call_without_password(ledger, guarded)
    shut_down(ledger, guarded, protocol)

    promised = set(promises())
    left_out = {promise for promise in promised if cannot(promise, protocol)}
    assert sorted(promised - ledger.kept - left_out) == [], "promised, and never seen"
    assert sorted(ledger.kept & left_out) == [], "said to be impossible, and seen"
    assert sorted({*CANNOT, *CANNOT_IN[protocol]} - promised) == [], (
        "said to be impossible, and not promised"
    )


def call_while_waiting(ledger: Ledger, server: ServerProcess, protocol: int) -> None:
    """How a wait may end, or not begin."""
    with server.wire(protocol=protocol) as me, server.wire(protocol=protocol) as you:
        asks = (("LOCK.ACQUIRE", "x"), ("LOCK.MACQUIRE", 1, "x"))
        ledger.call(me, "LOCK.ACQUIRE", "x", "me")
        ledger.call(you, "LOCK.ACQUIRE", "y", "you")
        your_id = you.call("CLIENT", "ID")
        for ask in asks:
            you.send(*ask, "you", "WAIT", 60_000)
            eventually(lambda: ledger.call(me, "LOCK.GET", "x", "WAITERS") and waiters(me, "x"))
            blocking = (ask[0], *("y" if word == "x" else word for word in ask[1:]))
            assert ledger.call(me, *blocking, "me", "WAIT", 60_000).code == "DEADLOCK"
            assert ledger.call(me, "CLIENT", "UNBLOCK", your_id, "ERROR") == 1
            unblocked = you.receive()
            assert unblocked.code == "UNBLOCKED"
            ledger.note(kept_by(find([ask[0].encode()]), unblocked, protocol))
        you.pipeline(*[("LOCK.ENQUEUE", "x", n) for n in range(limits.WAITERS_PER_LOCK)])
        for ask in (*asks, ("LOCK.ENQUEUE", "x")):
            wait = () if ask[0] == "LOCK.ENQUEUE" else ("WAIT", 60_000)
            assert ledger.call(you, *ask, "he", *wait).code == "QUEUEFULL"
        # The place that was given a millisecond has timed out long ago.
        ledger.call(you, "LOCK.ENQUEUE", "c", "you", "REQUEST", "late")


def waiters(wire: Wire, key: str) -> int:
    """How many wait for a lock."""
    return int(wire.map("LOCK.GET", key)["waiter_count"])


def call_wrongly(ledger: Ledger, server: ServerProcess, protocol: int) -> None:
    """Every command with far too many words, or with one that is far too long."""
    for command in all_commands():
        with server.wire(protocol=protocol) as wire:
            wrong = ["1"] * 100
            if command.name in TAKE_MANY_WORDS:
                wrong = ["1" * limits.ARGUMENT_BYTES_MAX]
            if not cannot(Promise(command.name, "error", "ERR"), protocol):
                reply = ledger.call(wire, *command.words, *wrong, command=command)
                assert isinstance(reply, Failure), (
                    f"{command.name} takes {len(wrong)} words: {reply!r}"
                )
                assert wire.call("PING") == "PONG", command.name


def call_what_closes_or_silences(ledger: Ledger, server: ServerProcess, protocol: int) -> None:
    with server.wire(protocol=protocol) as wire:
        ledger.call(wire, "QUIT")
        assert wire.receive_until_closed() == []
    with server.wire(protocol=protocol) as wire:
        ledger.call(wire, "MONITOR")
        ledger.call(wire, "RESET")
    with server.wire(protocol=protocol) as wire, server.wire() as victim:
        address = dict(
            pair.split(b"=", 1) for pair in victim.call("CLIENT", "INFO").split() if b"=" in pair
        )[b"addr"]
        ledger.call(wire, "CLIENT", "KILL", address)
        assert victim.receive_until_closed() == []
    with server.wire(protocol=protocol) as wire:
        wire.send("CLIENT", "REPLY", "SKIP")
        wire.send("PING", "skipped")
        wire.send("CLIENT", "REPLY", "OFF")
        wire.send("PING", "silenced")
        assert wire.call("CLIENT", "REPLY", "ON") == "OK"
        ledger.note_silence("CLIENT", "REPLY")


def call_without_password(ledger: Ledger, server: ServerProcess) -> None:
    with server.wire() as wire:
        for command in all_commands():
            if Flag.NO_AUTH not in command.flags:
                ledger.call(wire, *command.words)
        ledger.call(wire, "HELLO")
        ledger.call(wire, "HELLO", 3, "AUTH", "default", "wrong")
        ledger.call(wire, "AUTH", "wrong")
        ledger.call(wire, "AUTH", "default", PASSWORD)


def shut_down(ledger: Ledger, server: ServerProcess, protocol: int) -> None:
    with server.wire(protocol=protocol, password=PASSWORD) as wire:
        wire.send("SHUTDOWN")
        with pytest.raises(Closed):
            wire.receive()
        ledger.note_silence("SHUTDOWN")
    assert server.wait() == 0


def test_a_forged_reply_is_noticed() -> None:
    get, ping = find([b"LOCK.CHECK"]), find([b"PING"])
    with pytest.raises(AssertionError, match="undeclared error"):
        kept_by(ping, Failure("STALE the lock"), 2)
    with pytest.raises(AssertionError, match="none of its replies"):
        kept_by(get, b"1", 2)
    renew = find([b"LOCK.RENEW"])
    assert kept_by(renew, Map({b"version": 1, b"ttl_ms": 2}), 3).name == "renewed"
    assert kept_by(renew, [b"version", 1, b"ttl_ms", 2], 2).name == "renewed"
    for wrong in (
        Map({b"version": 1}),
        Map({b"ttl_ms": 2, b"version": 1}),
        Map({b"version": 1, b"ttl_ms": b"2"}),
        [b"version", 1, b"ttl_ms", 2],
    ):
        with pytest.raises(AssertionError, match="none of its replies"):
            kept_by(renew, wrong, 3)
