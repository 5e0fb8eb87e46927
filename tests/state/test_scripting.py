"""Scripts on the lock table: what they reach, what they may not, and that replicas agree."""

from __future__ import annotations

import pytest

from resplock import limits
from resplock.operations import (
    Acquire,
    Busy,
    Done,
    Evaluate,
    FlushScripts,
    GetLock,
    LoadScript,
    Options,
    Scripted,
    ScriptsExist,
)
from resplock.script import script_sha1
from resplock.state.queries import answer
from resplock.state.snapshots import TableSnapshot, restore
from resplock.state.table import LockTable
from resplock.types import lock_name

K = lock_name(0, b"k")
RELEASE = (
    b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)
NO_SCRIPT = Scripted(b"-NOSCRIPT No matching script. Please use EVAL.\r\n")


class Replica:
    """A table, and the index of its next entry."""

    def __init__(self, table: LockTable | None = None) -> None:
        self.table = table or LockTable()
        self.index = 1

    def apply(self, *operations: object, stamp_ms: int = 1000) -> list[object]:
        outcomes = self.table.apply(self.index, stamp_ms, operations)  # type: ignore[arg-type]
        self.index += len(operations)
        return list(outcomes)

    def run(self, source: bytes, *arguments: bytes, read_only: bool = False) -> bytes:
        (outcome,) = self.apply(Evaluate(source, (K,), arguments, read_only=read_only))
        assert isinstance(outcome, Scripted)
        return outcome.resp2


def chunks(table: LockTable) -> list[bytes]:
    snapshot = TableSnapshot(table)
    return list(iter(snapshot.next_chunk, None))


def test_a_script_takes_and_releases_a_lock_with_a_version() -> None:
    replica = Replica()
    assert (
        replica.run(b"return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', 500)", b"me")
        == b"+OK\r\n"
    )
    info = answer(replica.table, GetLock(K), 1000)
    assert (info.owner, info.version, info.ttl_ms) == (b"me", 1, 500)
    assert replica.run(RELEASE, b"other") == b":0\r\n"
    assert replica.run(RELEASE, b"me") == b":1\r\n"
    assert replica.table.locks.get(K) is None


def test_an_overdue_hold_is_not_seen() -> None:
    replica = Replica()
    replica.apply(Acquire(K, b"me", 500))
    (outcome,) = replica.apply(Evaluate(b"return redis.call('GET', KEYS[1])", (K,)), stamp_ms=1500)
    assert outcome == Scripted(b"$-1\r\n", b"_\r\n")


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        (b"return redis.call('GET', 'other')",
         b"-ERR Script attempted to access a key that it did not declare in KEYS"),
        (b"return redis.call('DEL', KEYS[1], 'other')",
         b"-ERR Script attempted to access a key that it did not declare in KEYS"),
        (b"return redis.call('NOTHING')", b"-ERR Unknown Redis command called from script"),
        (b"return redis.call('EVAL', 'return 1', 0)",
         b"-ERR This Redis command is not allowed from script"),
        (b"return redis.call('GET')", b"-ERR Wrong number of args calling Redis command from script"),
        (b"return redis.call('PEXPIRE', KEYS[1], 1500.7)",
         b"-ERR value is not an integer or out of range"),
        (b"return redis.call('SET', KEYS[1], 'v', 'PX', 0)", b"-ERR invalid expire time in 'set' command"),
        (b"x = 1",
         b"-ERR Error compiling script (new function): user_script:1: an assignment to the global"),
        (b"while true do end", b"-ERR the script takes more than 20000 steps"),
    ],
)  # fmt: skip
def test_an_error(source: bytes, reply: bytes) -> None:
    replica = Replica()
    assert replica.run(source).startswith(reply)
    assert replica.table.locks.get(K) is None


def test_a_shared_lock_is_of_the_wrong_type() -> None:
    replica = Replica()
    replica.apply(Acquire(K, b"me", options=Options(shared=True)))
    reply = replica.run(b"return redis.pcall('GET', KEYS[1])")
    assert reply == b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


def test_a_script_that_only_reads_may_not_write() -> None:
    replica = Replica()
    text = b"-ERR Write commands are not allowed from read-only scripts."
    assert replica.run(b"return redis.call('SET', KEYS[1], 'v')", read_only=True).startswith(text)
    assert replica.run(b"return redis.call('EXISTS', KEYS[1])", read_only=True) == b":0\r\n"


def test_the_time_is_the_entrys() -> None:
    replica = Replica()
    assert replica.run(b"return redis.call('TIME')") == b"*2\r\n$1\r\n1\r\n$1\r\n0\r\n"


def test_known_scripts() -> None:
    replica = Replica()
    sha = script_sha1(RELEASE)
    assert replica.apply(Evaluate(sha, (K,), (b"me",), by_sha=True)) == [NO_SCRIPT]
    assert replica.apply(LoadScript(RELEASE)) == [Scripted(b"$40\r\n%b\r\n" % sha)]
    assert replica.apply(Evaluate(sha.upper(), (K,), (b"me",), by_sha=True)) == [
        Scripted(b":0\r\n")
    ]
    assert answer(replica.table, ScriptsExist((sha, b"x")), 1000) == Scripted(b"*2\r\n:1\r\n:0\r\n")
    assert replica.apply(FlushScripts()) == [Done()]
    assert replica.apply(Evaluate(sha, (K,), (b"me",), by_sha=True)) == [NO_SCRIPT]


def test_eval_makes_a_script_known() -> None:
    replica = Replica()
    replica.run(RELEASE, b"me")
    assert replica.apply(Evaluate(script_sha1(RELEASE), (K,), (b"me",), by_sha=True)) == [
        Scripted(b":0\r\n")
    ]


def test_the_script_that_was_used_longest_ago_goes_first() -> None:
    replica = Replica()
    sources = [b"return %d" % at for at in range(limits.SCRIPTS_MAX)]
    for source in sources:
        replica.apply(LoadScript(source))
    replica.apply(Evaluate(script_sha1(sources[0]), by_sha=True))
    replica.apply(LoadScript(b"return 'one more'"))
    known = [script_sha1(source) in replica.table.scripts for source in sources[:3]]
    assert known == [True, False, True]


def test_a_snapshot_has_the_scripts_and_their_order() -> None:
    replica = Replica()
    for source in (b"return 1", b"return 2", RELEASE):
        replica.apply(LoadScript(source))
    replica.run(b"return 1")
    again = restore(iter(chunks(replica.table)))
    assert again.scripts.sources() == [b"return 2", RELEASE, b"return 1"]
    assert chunks(again) == chunks(replica.table)


def test_the_scripts_of_one_entry_have_a_budget_together() -> None:
    replica, twin = Replica(), Replica()
    entry = [Evaluate(b"while true do end", (K,))] * 28
    outcomes = replica.apply(*entry)
    assert outcomes == twin.apply(*entry)
    assert isinstance(outcomes[0], Scripted)
    assert isinstance(outcomes[-1], Busy)
    assert sum(isinstance(each, Busy) for each in outcomes) == 3
    assert replica.run(b"return 1") == b":1\r\n"


def test_what_was_done_before_an_error_stays_and_is_the_same_on_every_replica() -> None:
    source = b"redis.call('SET', KEYS[1], 'v') while true do end"
    replicas = [Replica(), Replica()]
    assert len({replica.run(source) for replica in replicas}) == 1
    assert len({tuple(chunks(replica.table)) for replica in replicas}) == 1
    lock = replicas[0].table.locks.get(K)
    assert lock is not None
    assert lock.holds[0].owner == b"v"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"#!lua", b"$3\r\nnew\r\n"),
        (b"#!lua\r", b"$3\r\nnew\r\n"),
        (b"#!lua flags=", b"$3\r\nnew\r\n"),
        (b"#!lua flags=allow-stale,no-cluster", b"$3\r\nnew\r\n"),
        (b"#!lua flags=no-writes", b"-ERR Write commands are not allowed from read-only scripts."),
        (b"#!lua flags=bad", b"-ERR Unexpected flag in script shebang: bad\r\n"),
        (b"#!lua name=x", b"-ERR Unknown lua shebang option: name=x\r\n"),
        (b"#!python", b"-ERR Unexpected engine in script shebang: #!python\r\n"),
        (b"#!", b"-ERR Unexpected engine in script shebang: #!\r\n"),
    ],
)
def test_the_flags_of_the_first_line(line: bytes, reply: bytes) -> None:
    source = line + b"\nredis.call('SET', KEYS[1], 'new') return redis.call('GET', KEYS[1])"
    assert Replica().run(source).startswith(reply)


def test_a_first_line_without_an_end() -> None:
    assert Replica().run(b"#!lua return 1") == b"-ERR Invalid script shebang\r\n"


def test_a_script_with_flags_has_to_say_that_it_only_reads() -> None:
    text = b"-ERR Can not execute a script with write flag using *_ro command.\r\n"
    assert Replica().run(b"#!lua\nreturn 1", read_only=True) == text
    assert Replica().run(b"#!lua flags=no-writes\nreturn 1", read_only=True) == b":1\r\n"


def test_lines_are_counted_from_the_first_one() -> None:
    reply = Replica().run(b"#!lua\nerror('x')")
    assert reply.startswith(b"-ERR user_script:2: x script: ")


def test_compiling_takes_steps_of_the_entry() -> None:
    """Also of what is refused: whoever sends such scripts without end holds nobody up for long."""
    wrong = [Evaluate(b"return (%d" % at, (K,)) for at in range(25)]
    outcomes = Replica().apply(*wrong)
    assert [isinstance(each, Busy) for each in outcomes] == [False] * 20 + [True] * 5
