"""Encoding replies: exact bytes, and what hiredis reads back from them in both protocols."""

from __future__ import annotations

import math
from typing import Any, get_args

import hiredis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resplock import operations as ops
from resplock.errors import CommandError
from resplock.resp import replies, shapes
from resplock.resp.replies import (
    ENCODERS,
    ERROR_BYTES_MAX,
    PIPELINE_ENCODERS,
    Failure,
    Members,
    Push,
    Simple,
    Verbatim,
    encode,
    encode_answer,
    encode_error,
    encode_outcome,
    encode_results,
)
from resplock.resp.shapes import Field, Kind, Reply
from resplock.types import LockName, NodeId, StampMs, UnixMs, lock_name
from tests.resp.real_redis import parsed

K = lock_name(5, b"k")
ADVICE = ops.Advice(12, 50, 1000, 150, 20)

# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "two", "three"),
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (0, b":0\r\n", b":0\r\n"),
        (-7, b":-7\r\n", b":-7\r\n"),
        (1023, b":1023\r\n", b":1023\r\n"),
        (1024, b":1024\r\n", b":1024\r\n"),
        (2**63 - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (2.0, b"$1\r\n2\r\n", b",2\r\n"),
        (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
        (-math.inf, b"$4\r\n-inf\r\n", b",-inf\r\n"),
        (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
        (b"a\r\nb\0", b"$5\r\na\r\nb\0\r\n", b"$5\r\na\r\nb\0\r\n"),
        ("\u00e9", b"$2\r\n\xc3\xa9\r\n", b"$2\r\n\xc3\xa9\r\n"),
        (Simple("OK"), b"+OK\r\n", b"+OK\r\n"),
        (Simple("a\r\nb"), b"+a  b\r\n", b"+a  b\r\n"),
        (Failure("ERR", "no"), b"-ERR no\r\n", b"-ERR no\r\n"),
        (Verbatim("hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ((1, [None]), b"*2\r\n:1\r\n*1\r\n$-1\r\n", b"*2\r\n:1\r\n*1\r\n_\r\n"),
        ({}, b"*0\r\n", b"%0\r\n"),
        ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        ({2, 1}, b"*2\r\n:1\r\n:2\r\n", b"~2\r\n:1\r\n:2\r\n"),
        (frozenset({b"b", b"a"}), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"~2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        (Members((2, {})), b"*2\r\n:2\r\n*0\r\n", b"~2\r\n:2\r\n%0\r\n"),
        (Push(("message", 1)), b"*2\r\n$7\r\nmessage\r\n:1\r\n", b">2\r\n$7\r\nmessage\r\n:1\r\n"),
    ],
)
def test_values(value: object, two: bytes, three: bytes) -> None:
    assert encode(value, 2) == two
    assert encode(value, 3) == three


def test_what_has_no_encoding() -> None:
    with pytest.raises(KeyError):
        encode(object(), 3)
    with pytest.raises(AssertionError):
        encode(2**63, 3)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


def as_resp2(value: Any) -> Any:
    """What a RESP2 client gets instead."""
    match value:
        case bool():
            return int(value)
        case float():
            return replies._decimal(value)
        case list():
            return [as_resp2(each) for each in value]
        case dict():
            return [as_resp2(each) for pair in value.items() for each in pair]
        case _:
            return value


@given(values)
def test_hiredis_reads_back_what_was_encoded(value: Any) -> None:
    assert parsed(encode(value, 3)) == value
    assert parsed(encode(value, 2)) == as_resp2(value)


@given(st.floats())
def test_doubles_are_exact(value: float) -> None:
    assert float(parsed(encode(value, 2))) == value or math.isnan(value)
    again = parsed(encode(value, 3))
    assert again == value or math.isnan(value)


@given(st.sets(st.binary(max_size=5)))
def test_sets(value: set[bytes]) -> None:
    # hiredis gives a list for a set.
    assert set(parsed(encode(value, 3))) == value
    assert set(parsed(encode(value, 2))) == value


@given(st.text())
def test_text(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    assert parsed(encode(raw, 3)) == raw
    if raw.decode("utf-8", "ignore") == text:
        assert parsed(encode(Verbatim(text), 3)) == raw
        assert parsed(encode(Verbatim(text), 2)) == raw


@given(st.text(alphabet=st.characters() | st.sampled_from("\r\n\0\udc80")), st.integers(0, 3000))
def test_an_error_is_one_bounded_line(text: str, padding: int) -> None:
    reply = encode_error(CommandError(text + "x" * padding, "CODE"))
    assert reply.startswith(b"-CODE ")
    assert reply.endswith(b"\r\n")
    line = reply[1:-2]
    assert not any(byte in line for byte in b"\r\n\0")
    assert len(line) <= ERROR_BYTES_MAX
    assert isinstance(parsed(reply), hiredis.ReplyError)


# --- outcomes ------------------------------------------------------------------------------------

HELD = {
    b"status": b"held",
    b"owner": b"o\r\n%d",
    b"version": 7,
    b"ttl_ms": 250,
    b"waiters": 3,
    b"retry_after_ms": 12,
    b"backoff_initial_ms": 50,
    b"backoff_max_ms": 1000,
    b"backoff_multiplier": 1.5,
    b"backoff_jitter": 0.2,
}

NOBODY = {b"owner": None, b"version": 0, b"ttl_ms": 70}

OUTCOMES: list[tuple[ops.Outcome | ops.Unapplied, Any]] = [
    (
        ops.Granted(9, 30_000),
        {b"status": b"granted", b"version": 9, b"ttl_ms": 30_000, b"waiters": 0},
    ),
    (
        ops.Granted(2**53 - 1, 0, 2),
        {b"status": b"granted", b"version": 2**53 - 1, b"ttl_ms": 0, b"waiters": 2},
    ),
    (ops.Held(b"o\r\n%d", 7, 250, 3, ADVICE), HELD),
    (
        ops.Held(b"o\r\n%d", 7, 250, 3, ops.Advice(12, 50, 1000, 90_001, 0)),
        HELD | {b"backoff_multiplier": 900.01, b"backoff_jitter": 0.0},
    ),
    (ops.Held(None, 0, 70, 0, ADVICE), HELD | NOBODY | {b"waiters": 0}),
    (ops.TimedOut(b"o\r\n%d", 7, 250, 3, ADVICE), HELD | {b"status": b"timeout"}),
    (ops.TimedOut(None, 0, 70, 3, ADVICE), HELD | NOBODY | {b"status": b"timeout"}),
    (ops.Queued(2, 75), {b"status": b"queued", b"position": 2, b"estimated_wait_ms": 75}),
    (ops.Watched((7, 8)), b"OK"),
    (ops.Executed(None), None),
    (ops.Executed(()), []),
    (ops.Executed((ops.Bulk(None), ops.Number(1), ops.Done(), None)), [None, 1, b"OK", None]),
    (ops.Cancelled(1), 1),
    (ops.Cancelled(0), 0),
    (ops.Lost(9), {b"status": b"lost", b"version": 9}),
    (ops.Released(), {b"released": 1, b"holds": 0, b"promoted": None}),
    (ops.Released(2), {b"released": 1, b"holds": 2, b"promoted": None}),
    (ops.Released(0, b"p"), {b"released": 1, b"holds": 0, b"promoted": b"p"}),
    (ops.Renewed(9, 5), {b"version": 9, b"ttl_ms": 5}),
    (ops.Kept(0), 0),
    (ops.Kept(5000), 5000),
    (ops.Kept(3, ()), []),
    (ops.Kept(3, (K, lock_name(5, b"\r\n"))), [b"k", b"\r\n"]),
    (ops.Broken(b"o", 9), 1),
    (ops.Done(), b"OK"),
]
FAILURES: list[tuple[ops.Outcome | ops.Unapplied, str]] = [
    (ops.NotHeld(K), "NOTHELD nobody holds the lock 'k'"),
    (
        ops.NotOwner(lock_name(5, b"k\n"), b"o\r\n" + b"x" * 500, 7),
        r"NOTOWNER the lock 'k\n' is held by 'o\r\n" + "x" * 125 + "'... with version 7",
    ),
    (ops.Stale(K, 6, 7), "STALE the lock 'k' is held with version 7, not 6"),
    (ops.Unblocked(), "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    (ops.Unblocked("cancelled"), "UNBLOCKED the place was given up by LOCK.CANCEL"),
    (
        ops.Unblocked("replaced"),
        "UNBLOCKED the same owner asked again and has taken the place over",
    ),
    (ops.Unblocked("disconnected"), "UNBLOCKED the connection was taken for closed"),
    (
        ops.NotWaiting(lock_name(5, b"k\r")),
        r"NOTWAITING the owner does not wait for the lock 'k\r'",
    ),
    (ops.QueueFull(K, 10_000), "QUEUEFULL 10000 wait for the lock 'k' already"),
    (
        ops.Deadlock(((K, b"you\n"), (lock_name(5, b"j"), b"me"))),
        (
            r"DEADLOCK this would close a cycle: the asker waits for 'you\n' (lock 'k'), "
            "who waits for 'me' (lock 'j')"
        ),
    ),
    (
        ops.Deadlock(tuple((lock_name(5, b"k%d" % n), b"o%d" % n) for n in range(20))),
        (
            "DEADLOCK this would close a cycle: the asker waits for 'o0' (lock 'k0'), "
            + "".join(f"who waits for 'o{n}' (lock 'k{n}'), " for n in range(1, 7))
            + "who ... 12 more ..., who waits for 'o19' (lock 'k19')"
        ),
    ),
    (ops.Refused("the lock is a semaphore\r\n"), "ERR the lock is a semaphore  "),
    (
        ops.InDoubt(),
        (
            "INDOUBT the command was proposed and its fate is unknown: ask again with the same "
            "REQUEST, or look with LOCK.GET"
        ),
    ),
    (ops.NoLeader(), "CLUSTERDOWN there is no leader; the command was not proposed"),
    (
        ops.Busy("100000 commands are queued"),
        "BUSY 100000 commands are queued; nothing was done, try again later",
    ),
    (ops.Moved(12182, "10.0.0.1:7379"), "MOVED 12182 10.0.0.1:7379"),
]


STRINGS: list[tuple[ops.Replied, Any]] = [
    (ops.Bulk(b"v\r\n%d"), b"v\r\n%d"),
    (ops.Bulk(b""), b""),
    (ops.Bulk(None), None),
    (ops.Values((b"v", None, b"")), [b"v", None, b""]),
    (ops.Number(-2), -2),
    (ops.Number(2**63 - 1), 2**63 - 1),
    (ops.Status("string"), b"string"),
]
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.mark.parametrize(("outcome", "value"), OUTCOMES)
def test_outcomes(outcome: ops.Outcome, value: Any) -> None:
    assert parsed(encode_outcome(outcome, 3)) == value
    assert parsed(encode_outcome(outcome, 2)) == as_resp2(value)


@pytest.mark.parametrize(("outcome", "error"), FAILURES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_failures(outcome: ops.Outcome, error: str, protocol: int) -> None:
    reply = parsed(encode_outcome(outcome, protocol))
    assert isinstance(reply, hiredis.ReplyError)
    assert str(reply) == error


@pytest.mark.parametrize(("reply", "value"), STRINGS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_to_string_commands(reply: ops.Replied, value: Any, protocol: int) -> None:
    assert parsed(encode_outcome(reply, protocol)) == value
    assert parsed(encode_answer(reply, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_wrong_type(protocol: int) -> None:
    for encoded in (
        encode_outcome(ops.WrongType(), protocol),
        encode_answer(ops.WrongType(), protocol),
    ):
        assert str(parsed(encoded)) == WRONG_TYPE


GRANTS = st.builds(ops.Granted, st.integers(0, 2**53), st.integers(0, 99), st.integers(0, 2))
RELEASES = st.builds(ops.Released, st.integers(0, 1), st.sampled_from([None, b"x", b"%d"]))


@given(
    st.one_of(
        st.lists(GRANTS, min_size=1),
        st.lists(RELEASES, min_size=1),
        st.lists(st.one_of(GRANTS, RELEASES, st.just(ops.NotHeld(K))), min_size=1),
    )
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_outcomes_of_a_pipeline_are_those_of_its_commands(
    protocol: int, outcomes: list[ops.Outcome]
) -> None:
    encoders, alike = ENCODERS[protocol], PIPELINE_ENCODERS[protocol]
    one_by_one = b"".join(encode_outcome(outcome, protocol) for outcome in outcomes)
    assert encode_results(outcomes, encoders, alike) == one_by_one
    assert encode_results(outcomes, encoders, {}) == one_by_one


def test_the_bytes_of_a_grant() -> None:
    granted = ops.Granted(9, 30_000)
    fields = b"$6\r\nstatus\r\n$7\r\ngranted\r\n$7\r\nversion\r\n:9\r\n"
    fields += b"$6\r\nttl_ms\r\n:30000\r\n$7\r\nwaiters\r\n:0\r\n"
    assert encode_outcome(granted, 3) == b"%4\r\n" + fields
    assert encode_outcome(granted, 2) == b"*8\r\n" + fields


def test_a_key_and_an_owner_of_greatest_length_leave_an_error_bounded() -> None:
    outcome = ops.NotOwner(LockName(b"\0" + b"\xff" * 1024), b"\xff" * 4096, 2**53 - 1)
    reply = encode_outcome(outcome, 3)
    assert len(reply) <= ERROR_BYTES_MAX + 3
    assert reply.startswith(b"-NOTOWNER ")


# --- answers -------------------------------------------------------------------------------------

INFO = ops.LockInfo(
    name=K,
    owner=b"o",
    mode="exclusive",
    version=9,
    acquired_at=UnixMs(1),
    expires_at=UnixMs(2),
    last_modified=UnixMs(3),
    ttl_ms=4,
    limit=1,
    waiter_count=0,
    metadata=((b"f", b"v%d"), (b"g", b"")),
)
INFO_FIELDS = {
    b"key": b"k",
    b"owner": b"o",
    b"mode": b"exclusive",
    b"version": 9,
    b"acquired_at": 1,
    b"expires_at": 2,
    b"last_modified": 3,
    b"ttl_ms": 4,
    b"limit": 1,
    b"waiter_count": 0,
    b"metadata": {b"f": b"v%d", b"g": b""},
}
ADVICE_FIELDS = {
    b"retry_after_ms": 12,
    b"backoff_initial_ms": 50,
    b"backoff_max_ms": 1000,
    b"backoff_multiplier": 1.5,
    b"backoff_jitter": 0.2,
}
STATS = ops.Stats(*range(100, 113), clock_ms=StampMs(113))

HOLD = ops.HoldInfo(b"o%d", 9, UnixMs(1), UnixMs(0), 0, 2, 1, ((b"f", b"v"),))
HOLD_FIELDS = {
    b"owner": b"o%d",
    b"version": 9,
    b"acquired_at": 1,
    b"expires_at": 0,
    b"ttl_ms": 0,
    b"permits": 2,
    b"holds": 1,
    b"metadata": {b"f": b"v"},
}
CLIENT = ops.ClientId(NodeId("n1"), 5, 42)
WAITER = ops.WaiterInfo(b"w", CLIENT, UnixMs(1), UnixMs(2), -3, 0, "shared", 1)
WAITER_FIELDS = {
    b"owner": b"w",
    b"client_id": b"n1:42",
    b"enqueued_at": 1,
    b"timeout_at": 2,
    b"priority": -3,
    b"position": 0,
    b"mode": b"shared",
    b"permits": 1,
}
UNATTACHED = msgspec.structs.replace(WAITER, client=None)

ANSWERS: list[tuple[ops.Answer | ops.Advised, Any]] = [
    (
        msgspec.structs.replace(INFO, holders=(HOLD, HOLD), waiters=(WAITER, UNATTACHED)),
        INFO_FIELDS
        | {
            b"holders": [HOLD_FIELDS, HOLD_FIELDS],
            b"waiters": [WAITER_FIELDS, WAITER_FIELDS | {b"client_id": None}],
        },
    ),
    (msgspec.structs.replace(INFO, holders=(HOLD,)), INFO_FIELDS | {b"holders": [HOLD_FIELDS]}),
    (msgspec.structs.replace(INFO, waiters=()), INFO_FIELDS | {b"waiters": []}),
    (INFO, INFO_FIELDS),
    (msgspec.structs.replace(INFO, owner=None), INFO_FIELDS | {b"owner": None}),
    (None, None),
    (ops.KeyPage(7, (LockName(b"\0k"), LockName(b"\1l"))), [b"7", [b"k", b"l"]]),
    (ops.LockPage(b"0", ()), [b"0", []]),
    (ops.LockPage(b"7-6b", (INFO, INFO)), [b"7-6b", [INFO_FIELDS, INFO_FIELDS]]),
    (0, 0),
    (1, 1),
    (True, 1),
    (123_456, 123_456),
    (ADVICE, ADVICE_FIELDS),
    (ops.Advised(ADVICE), ADVICE_FIELDS),
    (STATS, {name.encode(): getattr(STATS, name) for name in ops.Stats.__struct_fields__}),
]


@pytest.mark.parametrize(("answer", "value"), ANSWERS)
def test_answers(answer: ops.Answer | ops.Advised, value: Any) -> None:
    assert parsed(encode_answer(answer, 3)) == value
    assert parsed(encode_answer(answer, 2)) == as_resp2(value)


# --- declarations and encoders -------------------------------------------------------------------


def test_every_outcome_and_answer_has_an_encoder_and_is_tested() -> None:
    unapplied = set(get_args(ops.Unapplied))
    outcomes = (set(get_args(ops.Outcome)) | unapplied) - {ops.Blocked}  # nobody is told of it
    answers = set(get_args(ops.Answer)) | {bool, ops.Advised}
    for protocol in (2, 3):
        assert set(replies.OUTCOME_ENCODERS[protocol]) == outcomes
        assert set(replies.ANSWER_ENCODERS[protocol]) == answers | unapplied
        assert set(ENCODERS[protocol]) == outcomes | answers
    strings = {*get_args(ops.Replied), ops.Scripted}
    assert {type(reply) for reply, _ in STRINGS} | {ops.WrongType, ops.Scripted} == strings
    assert {type(outcome) for outcome, _ in OUTCOMES + FAILURES} == outcomes - strings
    assert {type(answer) for answer, _ in ANSWERS} == answers - strings


def test_encoders_can_be_reached_by_type() -> None:
    for outcome, _ in OUTCOMES + FAILURES:
        for protocol in (2, 3):
            encoder = ENCODERS[protocol][type(outcome)]
            assert encoder(outcome) == encode_outcome(outcome, protocol)


def declared() -> list[Reply]:
    return [each for each in vars(shapes).values() if isinstance(each, Reply) and each.of]


@pytest.mark.parametrize("reply", declared(), ids=lambda reply: reply.name)
def test_replies_are_as_declared(reply: Reply) -> None:
    """The field names and types that the reference page shows are those that clients see."""
    samples = [value for value, _ in [*OUTCOMES, *ANSWERS] if type(value) is reply.of]
    assert samples
    kinds = {
        Kind.INTEGER: int,
        Kind.BULK: bytes,
        Kind.DOUBLE: float,
        Kind.MAP: dict,
        Kind.ARRAY: list,
        Kind.NIL: type(None),
    }
    fitting = 0
    for sample in samples:
        seen = parsed(ENCODERS[3][type(sample)](sample))
        if type(seen) is not kinds[reply.kind]:
            continue  # LOCK.KEEPALIVE has two replies from one outcome
        fitting += 1
        if reply.kind is Kind.MAP:
            assert_declared(reply.fields, seen, kinds)
    assert fitting


def assert_declared(
    fields: tuple[Field, ...], seen: dict[bytes, Any], kinds: dict[Any, type]
) -> None:
    given = [field for field in fields if not field.optional or field.name.encode() in seen]
    assert list(seen) == [field.name.encode() for field in given]
    for field in given:
        value = seen[field.name.encode()]
        assert type(value) is kinds[field.kind] or (field.nullable and value is None)
        for item in value if field.fields else ():
            assert_declared(field.fields, item, kinds)


def test_what_a_script_answers_is_sent_as_it_is() -> None:
    for scripted, resp2, resp3 in [
        (ops.Scripted(b":1\r\n"), b":1\r\n", b":1\r\n"),
        (ops.Scripted(b"$-1\r\n", b"_\r\n"), b"$-1\r\n", b"_\r\n"),
    ]:
        for encoded in (encode_outcome, encode_answer):
            assert encoded(scripted, 2) == resp2
            assert encoded(scripted, 3) == resp3
