"""The wire format of node messages, and bytes that are none."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resplock import limits
from resplock import operations as ops
from resplock.errors import CommandError
from resplock.node import messages
from resplock.node.administration import AddServer, RemoveServer, Transfer
from resplock.node.messages import (
    Administer,
    Ask,
    Forward,
    NodeMessage,
    NotProposed,
    Results,
    pack,
    unpack,
)
from resplock.node.runs import Result
from resplock.operations import (
    Acquire,
    AcquireAll,
    AddRefusals,
    Advice,
    Blocked,
    Break,
    Broken,
    Busy,
    Cancel,
    Cancelled,
    CheckVersion,
    ClientId,
    CountLocks,
    Deadlock,
    Disconnect,
    Done,
    GetBackoff,
    GetLock,
    GetStats,
    Granted,
    Held,
    HoldInfo,
    InDoubt,
    KeepAlive,
    Kept,
    ListLocks,
    LockInfo,
    LockPage,
    Lost,
    Moved,
    NodeGone,
    NoLeader,
    NotHeld,
    NotOwner,
    NotWaiting,
    Operation,
    Options,
    Query,
    Queued,
    QueueFull,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Settle,
    SetUnixOffset,
    Stale,
    Stats,
    TimedOut,
    Unblock,
    Unblocked,
    Undelivered,
    WaiterInfo,
)
from resplock.raft.entries import Member
from resplock.raft.messages import PeerError
from resplock.state import queries
from resplock.state.table import LockTable
from resplock.types import LockName, NodeId, StampMs, UnixMs

A = LockName(b"\0a")
N4 = NodeId("n4")
INFO = LockInfo(A, b"me", "x", 7, UnixMs(1), UnixMs(2), UnixMs(3), 4, 1, 0, ((b"k", b"v"),))
ADVICE = Advice(50)
CLIENT = ClientId(N4, 3, 17)
OPTIONS = Options(5_000, 7, True, 4, 2, True, True, 900, False, CLIENT)
CROWDED = replace(
    INFO,
    holders=(HoldInfo(b"me", 7, UnixMs(1), UnixMs(2), 4, 1, 2, ()),),
    waiters=(WaiterInfo(b"you", CLIENT, UnixMs(1), UnixMs(2), -5, 0, "shared", 1),),
)

OPERATIONS: list[Operation] = [
    Acquire(A, b"me", 5, b"r1", ((b"k", b"v"),)),
    Release(A, b"me", 7),
    Renew(A, b"me", 7, 9),
    KeepAlive(b"me", 9, ((A, 7),)),
    Break(A, 7, b"why"),
    Settle((A,)),
    SetUnixOffset(-3),
    Acquire(A, b"me", options=OPTIONS),
    AcquireAll((A,), b"me", 5, b"r1", ((b"k", b"v"),), OPTIONS),
    Cancel(A, b"me"),
    Disconnect((CLIENT,)),
    NodeGone(N4, 3),
    Unblock(CLIENT, True),
    Undelivered((A,), b"me", 7, b"r1"),
    AddRefusals(3),
]
QUERIES: list[Query] = [
    GetLock(A, True),
    ListLocks(0, b"7", b"a*", b"m*", True, True, 8, 9, ((b"k", b"v"),), 3),
    CheckVersion(A, 7),
    GetBackoff(A),
    GetStats(),
    CountLocks(3),
]
STRING_OPERATIONS: list[Operation] = [
    ops.Evaluate(b"return 1", (LockName(b"\0k"),), (b"me",), by_sha=True, read_only=True),
    ops.Watch((LockName(b"\0k"),)),
    ops.Look(ops.GetString(LockName(b"\0k"))),
    ops.Execute((ops.Delete(LockName(b"\0k")), ops.Look(ops.GetStats())), ((LockName(b"\0k"), 7),)),
    ops.LoadScript(b"return 1"),
    ops.FlushScripts(),
    ops.SetString(LockName(b"\0k"), b"me", 5, "NX", 7, True, True),
    ops.Delete(LockName(b"\0k")),
    ops.DeleteAll((LockName(b"\0k"),)),
    ops.DeleteIf(LockName(b"\0k"), b"me", False),
    ops.GetDelete(LockName(b"\0k")),
    ops.GetExpire(LockName(b"\0k"), 5, 7),
    ops.Expire(LockName(b"\0k"), -5, True, ("GT",)),
    ops.Persist(LockName(b"\0k")),
    ops.SetAll((LockName(b"\0k"),), (b"me",), True),
    ops.Increment(LockName(b"\0k"), -(2**63)),
    ops.Append(LockName(b"\0k"), b"me"),
    ops.Flush(),
    ops.Flush(15),
]
STRING_QUERIES: list[Query] = [
    ops.ScriptsExist((b"e0e1", b"x")),
    ops.GetString(LockName(b"\0k")),
    ops.GetLength(LockName(b"\0k")),
    ops.GetType(LockName(b"\0k")),
    ops.GetTtl(LockName(b"\0k"), 1000, True),
    ops.CountKeys((LockName(b"\0k"),)),
    ops.GetStrings((LockName(b"\0k"),)),
    ops.GetRange(LockName(b"\0k"), -(2**63), 2**63 - 1),
    ops.ListKeys(3, b"*"),
    ops.ScanKeys(-1, 2**53, b"a*", 7, b"string"),
    ops.RandomKey(3),
    ops.DescribeKey(LockName(b"\0k"), "encoding"),
]
RESULTS: list[Result] = [
    Granted(7, 5, 1),
    Held(b"me", 7, 5, 0, ADVICE),
    Lost(7),
    Released(1, b"you"),
    Renewed(7, 5),
    Kept(2, (A,)),
    Kept(2),
    Broken(b"me", 7),
    NotHeld(A),
    NotOwner(A, b"me", 7),
    Stale(A, 6, 7),
    Done(),
    InDoubt(),
    NoLeader(),
    Busy("too much"),
    Moved(12182, "host:1"),
    INFO,
    None,
    LockPage(b"9", (INFO, INFO)),
    0,
    -(2**63),
    2**63 - 1,
    ADVICE,
    Stats(*range(1, 14), clock_ms=StampMs(14)),
    CommandError("no", "NOPERM"),
    Held(None, 0, 5, 3, ADVICE),
    Queued(3, 500),
    Blocked(17),
    TimedOut(b"me", 7, 5, 0, ADVICE),
    Unblocked("cancelled"),
    NotWaiting(A),
    QueueFull(A, 10_000),
    Deadlock(((A, b"you"), (A, b"me"))),
    Cancelled(1),
    Refused("not so"),
    CROWDED,
    ops.Bulk(b"me"),
    ops.Bulk(None),
    ops.Values((b"me", None, b"")),
    ops.KeyPage(2**53, (LockName(b"\0k"),)),
    ops.Number(-2),
    ops.Status("string"),
    ops.WrongType(),
    ops.Scripted(b"$-1\r\n", b"_\r\n"),
    ops.Watched((7, 8)),
    ops.Executed(None),
    ops.Executed((Granted(7, 5, 1), ops.Executed(()), INFO, ops.Advised(ADVICE), 1, None)),
]

RELEASED: list[tuple[NodeMessage, str]] = [
    (
        Forward(5, 9, OPERATIONS[:7]),
        (
            "94010509979601c4020061c4026d6505c40272319192c4016bc401769402c4020061c4026d650795"
            "03c4020061c4026d6507099404c4026d65099192c4020061079405c402006107c403776879920691"
            "c40200619207fd"
        ),
    ),
    (
        Ask(5, 9, QUERIES),
        (
            "94020509969301c4020061c39b0200c40137c402612ac4026d2ac3c308099192c4016bc401760393"
            "03c4020061079204c40200619105920603"
        ),
    ),
    (
        Administer(5, 9, AddServer(Member(N4, "u", "a:1", "a:2"))),
        "94030509920194a26e34a175a3613a31a3613a32",
    ),
    (Administer(5, 9, RemoveServer(N4)), "940305099202a26e34"),
    (Administer(5, 9, Transfer(N4, NodeId("n1"))), "940305099303a26e34a26e31"),
    (Administer(5, 9, Transfer()), "940305099303c0c0"),
    (
        Results(9, pack(RESULTS[:12])),
        (
            "9304099c94010705019602c4026d65070500953232cd03e8cc9614920307930401c403796f759305"
            "070593060291c4020061930602c09307c4026d65079208c40200619409c4020061c4026d6507940a"
            "c40200610607910b"
        ),
    ),
    (
        Results(9, pack(RESULTS[12:25])),
        (
            "9304099d910c910d920ea8746f6f206d756368930fcd2f96a6686f73743a319c14c4020061c4026d"
            "65a178070102030401009192c4016bc40176c09315c40139929c14c4020061c4026d65a178070102"
            "030401009192c4016bc401769c14c4020061c4026d65a178070102030401009192c4016bc4017600"
            "d38000000000000000cf7fffffffffffffff921f953232cd03e8cc96149f16010203040506070809"
            "0a0b0c0d0e931ea64e4f5045524da26e6f"
        ),
    ),
    (NotProposed(9), "920509"),
]


def same(result: Result, other: Result) -> bool:
    """Whether they are alike; errors are not compared by `==`."""
    if isinstance(result, CommandError) and isinstance(other, CommandError):
        return (result.code, result.text) == (other.code, other.text)
    return type(result) is type(other) and result == other


def decoded(released: str) -> object:
    return msgspec.msgpack.decode(bytes.fromhex(released))


def starts_with(longer: object, shorter: object) -> bool:
    """Whether they are equal, but for what arrays have more at their ends."""
    if not isinstance(longer, list) or not isinstance(shorter, list):
        return longer == shorter
    pairs = zip(longer, shorter, strict=False)
    return len(longer) >= len(shorter) and all(starts_with(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("message", "released"), RELEASED, ids=lambda value: str(value)[:14].replace("(", "")
)
def test_the_bytes_of_version_1(message: NodeMessage, released: str) -> None:
    """A peer of an earlier release sends these, and reads what we send: fields come at the end."""
    assert messages.decode(bytes.fromhex(released)) == message
    assert starts_with(msgspec.msgpack.decode(messages.encode(message)), decoded(released))


@pytest.mark.parametrize(
    "operation", OPERATIONS + STRING_OPERATIONS, ids=lambda each: type(each).__name__
)
def test_an_operation_goes_through_unchanged(operation: Operation) -> None:
    message = Forward(5, 9, [operation, operation])
    assert messages.decode(messages.encode(message)) == message


@pytest.mark.parametrize("query", QUERIES + STRING_QUERIES, ids=lambda each: type(each).__name__)
def test_a_query_goes_through_unchanged(query: Query) -> None:
    message = Ask(5, 9, [query, query])
    assert messages.decode(messages.encode(message)) == message


@pytest.mark.parametrize("result", RESULTS, ids=lambda each: type(each).__name__)
def test_a_result_goes_through_unchanged(result: Result) -> None:
    message = messages.decode(messages.encode(Results(9, pack([Done(), result]))))
    assert isinstance(message, Results)
    first, second = unpack(message.packed)
    assert first == Done()
    assert same(second, result)


def test_no_kind_of_result_is_forgotten() -> None:
    """Each has a line above."""
    kinds = {type(result) for result in RESULTS}
    assert kinds >= {kind for kind in Result.__args__ if isinstance(kind, type)}
    assert {type(each) for each in OPERATIONS + STRING_OPERATIONS} == set(Operation.__args__)
    assert {type(each) for each in QUERIES + STRING_QUERIES} == set(Query.__args__)


@pytest.mark.parametrize("serial", [0, 1, 2**32, limits.INTEGER_MAX])
def test_serials_of_any_size(serial: int) -> None:
    for message in (NotProposed(serial), Results(serial, [None])):
        assert messages.decode(messages.encode(message)) == message
    with pytest.raises(PeerError):
        messages.decode(messages.encode(NotProposed(limits.INTEGER_MAX + 1)))
    with pytest.raises(PeerError):
        messages.decode(messages.encode(NotProposed(-1)))


# --- bounds --------------------------------------------------------------------------------------


def test_a_message_has_at_most_so_much_in_it() -> None:
    commands, queries = limits.RUN_COMMANDS_MAX, limits.READS_FORWARDED_MAX
    full: list[NodeMessage] = [
        Forward(5, 9, [Settle(())] * commands),
        Ask(5, 9, [GetStats()] * queries),
        Results(9, [None] * commands),
    ]
    for message in full:
        assert messages.decode(messages.encode(message)) == message
    too_much: list[NodeMessage] = [
        Forward(5, 9, [Settle(())] * (commands + 1)),
        Ask(5, 9, [GetStats()] * (queries + 1)),
        Results(9, [None] * (commands + 1)),
        Forward(5, 9, []),
        Ask(5, 9, []),
        Results(9, []),
    ]
    for message in too_much:
        with pytest.raises(PeerError):
            messages.decode(messages.encode(message))


def test_a_message_has_at_most_so_many_bytes() -> None:
    with pytest.raises(PeerError, match="at most"):
        messages.decode(bytes(limits.PEER_COMMANDS_BYTES_MAX + 1))


LONGEST_KEY = LockName(b"\0" + b"k" * limits.KEY_BYTES_MAX)
LONGEST_VALUE = b"v" * limits.ARGUMENT_BYTES_MAX
ANSWERED_LONG: list[Operation] = [
    Acquire(LONGEST_KEY, b"you"),
    Acquire(LONGEST_KEY, b"you", request=b"1"),
    Acquire(LONGEST_KEY, b"you", options=Options(wait_ms=0, priority=1)),
    Release(LONGEST_KEY, b"you"),
    Renew(LONGEST_KEY, b"you"),
    ops.GetExpire(LONGEST_KEY),
    ops.SetString(LONGEST_KEY, LONGEST_VALUE, gives_old=True),
    ops.SetString(LONGEST_KEY, b"v", condition="NX", gives_old=True),
    ops.Evaluate(b"return redis.call('GET', KEYS[1])", (LONGEST_KEY,)),
    ops.Execute((ops.Look(ops.GetStrings((LONGEST_KEY,) * 15)),) * 2),
    ops.Execute((ops.GetExpire(LONGEST_KEY),) * 20),
    ops.Evaluate(b"local v = redis.call('GET', KEYS[1]) return {v, false}", (LONGEST_KEY,)),
]


@pytest.mark.parametrize("operation", ANSWERED_LONG)
def test_the_answers_to_one_message_fit_into_one(operation: Operation) -> None:
    """Also those of KEEPALIVE, which may have all the names that were asked for."""
    table = LockTable()
    table.apply(1, 1, [ops.SetString(LONGEST_KEY, LONGEST_VALUE)])
    outcomes = table.apply(2, 1, [operation] * limits.FORWARDED_COMMANDS_MAX)
    answers = messages.encode(Results(limits.INTEGER_MAX, messages.pack(outcomes)))
    assert len(answers) + limits.RUN_BYTES_MAX <= limits.PEER_COMMANDS_BYTES_MAX
    last = max(
        2 * limits.SCRIPT_REPLY_BYTES_MAX,
        limits.TRANSACTION_REPLY_BYTES_MAX + limits.VALUES_BYTES_MAX,
    )
    long = limits.ANSWER_BYTES_PER_ENTRY + last
    short = Held(bytes(limits.OWNER_BYTES_MAX), limits.VERSION_MAX, 2**63 - 1, 10_000, ADVICE)
    rest = messages.encode(Results(1, [short] * limits.FORWARDED_COMMANDS_MAX))
    assert long + len(rest) + limits.RUN_BYTES_MAX <= limits.PEER_COMMANDS_BYTES_MAX


def test_values_that_are_taken_away_fit_into_one_message() -> None:
    table = LockTable()
    names = [LockName(b"\0%d" % number) for number in range(limits.FORWARDED_COMMANDS_MAX)]
    table.apply(1, 1, [ops.SetString(name, LONGEST_VALUE) for name in names])
    outcomes = table.apply(5_000, 1, [Break(name) for name in names[:1000]])
    outcomes += table.apply(9_000, 1, [ops.GetDelete(name) for name in names[1000:]])
    assert len(messages.encode(Results(1, messages.pack(outcomes)))) < limits.RUN_BYTES_MAX * 2
    refused = sum(isinstance(outcome, Busy) for outcome in outcomes)
    assert table.locks_by_db[0] == refused > 0, "what was refused was not done"


def test_the_queries_of_one_message_and_their_answers_fit_into_one() -> None:
    names = tuple([LONGEST_KEY] * (limits.COMMAND_BYTES_MAX // limits.KEY_BYTES_MAX))
    longest = Ask(5, 9, [ops.GetStrings(names)] * limits.READS_FORWARDED_MAX)
    assert len(messages.encode(longest)) <= limits.PEER_COMMANDS_BYTES_MAX
    table = LockTable()
    keys = limits.VALUES_BYTES_MAX // 2_000
    table.apply(
        1,
        1,
        [
            ops.SetString(LockName(b"\0%d" % number + b"k" * 1_000), b"v" * 2_000)
            for number in range(keys)
        ],
    )
    values = tuple(name for name, _ in table.locks)
    for query in (
        ops.GetStrings(values),
        ops.ListKeys(0, b"*"),
        ops.ScanKeys(0, count=1_000),
        ListLocks(0, count=1_000),
    ):
        answer = queries.answer(table, query, 1)
        answers = messages.encode(Results(9, messages.pack([answer] * limits.READS_FORWARDED_MAX)))
        assert len(answers) <= limits.PEER_COMMANDS_BYTES_MAX


# --- bytes that are no message -------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        bytes.fromhex("920901"),  # no such message
        bytes.fromhex("9205ff"),  # serial -1
        bytes.fromhex("9205cfffffffffffffffff"),  # serial 2**64 - 1
        bytes.fromhex("9205c0"),  # no serial
        bytes.fromhex("9105"),  # none at all
        bytes.fromhex("94010509ddffffffff"),  # four billion commands
        bytes.fromhex("9401050991920790"),  # a SetUnixOffset of a list
        bytes.fromhex("940305099204a26e34"),  # no such request
        bytes.fromhex("9304099192a16101"),  # a result of no kind
        bytes.fromhex("93040991a161"),  # nor is a string one
        bytes.fromhex("930409") + b"\x91" * 100_000 + b"\x01",  # too deep
        bytes.fromhex("9304099193cc1ea2ffffa178"),  # an error in no UTF-8
    ],
)
def test_bytes_that_are_no_message_are_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        messages.decode(data)


def a_good_one(rng: random.Random) -> NodeMessage:
    kinds: list[NodeMessage] = [
        Forward(5, 9, rng.sample(OPERATIONS, 3)),
        Ask(5, 9, rng.sample(QUERIES, 3)),
        Administer(5, 9, AddServer(Member(N4, "u", "a:1", "a:2"))),
        Results(9, pack(rng.sample(RESULTS, 6))),
        NotProposed(9),
    ]
    return rng.choice(kinds)


def test_damaged_bytes_are_a_message_or_a_peer_error() -> None:
    rng = random.Random(1)
    taken = 0
    for _ in range(5_000):
        data = bytearray(messages.encode(a_good_one(rng)))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            message = messages.decode(data[: rng.randrange(len(data) + 1)])
        except PeerError:
            continue
        taken += 1
        assert isinstance(message, NodeMessage)
        if isinstance(message, Results):
            unpack(message.packed)
    assert taken > 10


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_peer_error(data: bytes) -> None:
    try:
        messages.decode(data)
    except PeerError:
        pass
