"""The durable formats of the log's commands and of snapshots: bytes that were written must be read.

The bytes of a released version stay here for ever; a new version adds its own beside them.
"""

from __future__ import annotations

import msgspec
import pytest

from resplock.errors import DamagedSnapshot, NewerFormat
from resplock.operations import (
    Acquire,
    AcquireAll,
    AddRefusals,
    Append,
    Break,
    Cancel,
    ClientId,
    Delete,
    DeleteAll,
    DeleteIf,
    Disconnect,
    Evaluate,
    Execute,
    Expire,
    Flush,
    FlushScripts,
    GetDelete,
    GetExpire,
    GetString,
    Increment,
    KeepAlive,
    LoadScript,
    Look,
    NodeGone,
    Operation,
    Options,
    Persist,
    Release,
    Renew,
    SetAll,
    SetString,
    Settle,
    SetUnixOffset,
    Unblock,
    Undelivered,
    Watch,
    decode_run,
    encode_run,
)
from resplock.state import snapshots
from resplock.state.ledger import FEATURE_LEVEL
from resplock.state.snapshots import TableSnapshot
from resplock.state.table import LockTable
from resplock.types import LockName, NodeId

ORDERS = LockName(b"\0orders/42")
B, D, E, F = (LockName(name) for name in (b"\1b", b"\0d", b"\0e", b"\0f"))
CLIENT = ClientId(NodeId("n2"), 3, 17)
OPTIONS = Options(5_000, 7, True, 4, 2, True, True, 900, False, CLIENT)
RUN_OF_0_1_0: list[Operation] = [
    Acquire(ORDERS, b"worker-a", 30_000, b"req-1", ((b"host", b"web-1"),)),
    Release(ORDERS, b"worker-a", 7),
    Renew(ORDERS, b"worker-a", 7, 60_000),
    KeepAlive(b"worker-a", -1, ((ORDERS, 7),)),
    Break(ORDERS, 7, b"stuck"),
    Settle((ORDERS,)),
    SetUnixOffset(1_700_000_000_000),
]
RUN: list[Operation] = [
    Acquire(ORDERS, b"worker-a", 30_000, b"req-1", ((b"host", b"web-1"),), OPTIONS),
    *RUN_OF_0_1_0[1:],
    AcquireAll((ORDERS,), b"worker-a", 30_000, b"req-2", ((b"host", b"web-1"),), OPTIONS),
    Cancel(ORDERS, b"worker-a"),
    Disconnect((CLIENT,)),
    NodeGone(NodeId("n2"), 3),
    Unblock(CLIENT, True),
    Undelivered((ORDERS,), b"worker-a", 7, b"req-1"),
]
STRINGS: list[Operation] = [
    SetString(ORDERS, b"worker-a", 30_000, "NX", 1_700_000_000_000, True, True),
    Delete(ORDERS),
    DeleteAll((ORDERS, B)),
    DeleteIf(ORDERS, b"worker-a", False),
    GetDelete(ORDERS),
    GetExpire(ORDERS, 30_000, 1_700_000_000_000),
    Expire(ORDERS, -7, True, ("GT", "XX")),
    Persist(ORDERS),
    SetAll((ORDERS, B), (b"worker-a", b""), True),
    Increment(ORDERS, -7),
    Append(ORDERS, b"worker-a"),
    Flush(),
    Flush(3),
]
STRINGS_0_2_0 = bytes.fromhex(
    "9d9814c40a006f72646572732f3432c408776f726b65722d61cd7530a24e58cf0000018bcfe56800c3c39215"
    "c40a006f72646572732f3432921692c40a006f72646572732f3432c40201629417c40a006f72646572732f34"
    "32c408776f726b65722d61c29218c40a006f72646572732f34329419c40a006f72646572732f3432cd7530cf"
    "0000018bcfe56800951ac40a006f72646572732f3432f9c392a24754a25858921bc40a006f72646572732f34"
    "32941c92c40a006f72646572732f3432c402016292c408776f726b65722d61c400c3931dc40a006f72646572"
    "732f3432f9931ec40a006f72646572732f3432c408776f726b65722d61921fff921f03"
)
TOTALS: list[Operation] = [AddRefusals(9)]
TOTALS_0_2_0 = bytes.fromhex("91920e09")
SCRIPTS: list[Operation] = [
    Evaluate(b"return 1"),
    Evaluate(b"e0e1", (ORDERS,), (b"me", b"5"), by_sha=True, read_only=True),
    LoadScript(b"return 1"),
    FlushScripts(),
]
SCRIPTS_0_2_0 = bytes.fromhex(
    "949628c40872657475726e20319090c2c29628c4046530653191c40a006f72646572732f343292c4"
    "026d65c40135c3c39229c40872657475726e2031912a"
)
TRANSACTIONS: list[Operation] = [
    Watch((ORDERS, B)),
    Look(GetString(ORDERS)),
    Execute((Delete(ORDERS), Look(GetString(ORDERS))), ((ORDERS, 7), (B, 300))),
]
TRANSACTIONS_0_2_0 = bytes.fromhex(
    "93925192c40a006f72646572732f3432c402016292509214c40a006f72646572732f34329352929215c40a00"
    "6f72646572732f343292509214c40a006f72646572732f34329292c40a006f72646572732f34320792c40201"
    "62cd012c"
)
RUN_0_1_0 = bytes.fromhex(
    "979601c40a006f72646572732f3432c408776f726b65722d61cd7530c4057265712d319192c404686f7374c4"
    "057765622d319402c40a006f72646572732f3432c408776f726b65722d61079503c40a006f72646572732f34"
    "32c408776f726b65722d6107cdea609404c408776f726b65722d61ff9192c40a006f72646572732f34320794"
    "05c40a006f72646572732f343207c405737475636b920691c40a006f72646572732f34329207cf0000018bcf"
    "e56800"
)
RUN_0_2_0 = bytes.fromhex(
    "9d9701c40a006f72646572732f3432c408776f726b65722d61cd7530c4057265712d319192c404686f7374c4"
    "057765622d319acd138807c30402c3c3cd0384c293a26e3203119402c40a006f72646572732f3432c408776f"
    "726b65722d61079503c40a006f72646572732f3432c408776f726b65722d6107cdea609404c408776f726b65"
    "722d61ff9192c40a006f72646572732f3432079405c40a006f72646572732f343207c405737475636b920691"
    "c40a006f72646572732f34329207cf0000018bcfe56800970891c40a006f72646572732f3432c408776f726b"
    "65722d61cd7530c4057265712d329192c404686f7374c4057765622d319acd138807c30402c3c3cd0384c293"
    "a26e3203119309c40a006f72646572732f3432c408776f726b65722d61920a9193a26e320311930ba26e3203"
    "930c93a26e320311c3950d91c40a006f72646572732f3432c408776f726b65722d6107c4057265712d31"
)
SNAPSHOT_0_2_0 = [
    bytes.fromhex("960201cd038ecf0000018bcfe568000c97060002000001cd157c"),
    bytes.fromhex(
        "92019592c40a006f72646572732f3432949199c408776f726b65722d6102cd7535cd753005cf0000018b"
        "cfe56805cf0000018bcfe568059192c404686f7374c4057765622d31c0cd75350094000000c392c40200"
        "66949199c4026d650ccd78bdcd7530cd038dcf0000018bcfe56b8dcf0000018bcfe56b8d9096010200c0"
        "c200cd78bd0094000000c292c40200649490cd071000940000cd0710c292c40200659490cd0712009400"
        "00cd0712c292c4020162949199c4026d65030000cd0384cf0000018bcfe56b84cf0000018bcfe56b8490"
        "c0000094000000c3"
    ),
    bytes.fromhex(
        "92029292c409323a6d657265712d3398c4026d65c4057265712d330cce00092b4dc4020064962ac000cd"
        "03830095cd038306cd03e8cc9614900092c40f383a776f726b65722d617265712d3198c408776f726b65"
        "722d61c4057265712d3102ce000927c5c40a006f72646572732f3432940102cd7530009000"
    ),
    bytes.fromhex(
        "9204929b0692c40a006f72646572732f3432c4020162c403796f75cdc6da0007c4057265712d32909acd"
        "c35003c20001c2c200c3c0cf0000018bcfe56b8acd2a9e9b0791c4020162c40474686579ce00092b4a00"
        "cd7530c400909a0000c20001c2c200c2c0cf0000018bcfe56b8a00"
    ),
    bytes.fromhex("92059193a26e320311"),
    bytes.fromhex("920390"),
]
SNAPSHOT_0_1_0 = [
    bytes.fromhex("960101cd0389cf0000018bcfe568000497030001000000cd157c"),
    bytes.fromhex(
        "92019292c40a006f72646572732f3432939198c408776f726b65722d6102cd7535cd753005cf0000018bcfe5"
        "6805cf0000018bcfe568059192c404686f7374c4057765622d31cd75350092c4020162939198c4026d650300"
        "00cd0384cf0000018bcfe56b84cf0000018bcfe56b84900000"
    ),
    bytes.fromhex(
        "92029192c40f383a776f726b65722d617265712d3196c408776f726b65722d61c4057265712d3102ce000927"
        "c5c40a006f72646572732f3432940102cd753000"
    ),
    bytes.fromhex("920390"),
]


def table_of_0_1_0() -> LockTable:
    """A little of everything that a snapshot could hold."""
    made = LockTable()
    made.apply(1, 5, [SetUnixOffset(1_700_000_000_000), RUN_OF_0_1_0[0]])
    made.apply(3, 900, [Acquire(LockName(b"\1b"), b"me", 0), Acquire(LockName(b"\0c"), b"me", 10)])
    made.apply(5, 905, [Release(LockName(b"\0c"), b"me")])
    return made


def table() -> LockTable:
    """A little of everything that a snapshot can hold."""
    made = table_of_0_1_0()
    several = AcquireAll((ORDERS, B), b"you", 7, b"req-2", (), Options(50_000, 3, client=CLIENT))
    permits = Options(limit=4, permits=2, on_close=True, delay_ms=900, client=CLIENT)
    made.apply(6, 906, [several, Acquire(B, b"they", options=Options(blocking=False))])
    made.apply(8, 907, [Acquire(D, b"me", 10, options=permits), Acquire(E, b"me", options=permits)])
    made.apply(10, 908, [Break(D), Acquire(D, b"me", 5, b"req-3", (), Options(wait_ms=1))])
    made.apply(12, 909, [Acquire(F, b"me", options=Options(reentrant=True))] * 2)
    made.apply(14, 910, [Disconnect((CLIENT,))])
    made.departing[CLIENT] = None
    return made


def image(of: LockTable) -> list[bytes]:
    return list(iter(TableSnapshot(of).next_chunk, None))


def test_a_run_is_written_as_in_0_2_0() -> None:
    assert encode_run(RUN) == RUN_0_2_0


def test_a_run_of_0_2_0_is_read() -> None:
    assert decode_run(RUN_0_2_0) == RUN


def test_a_run_of_0_1_0_is_read() -> None:
    assert decode_run(RUN_0_1_0) == RUN_OF_0_1_0


def test_what_came_later_is_written_and_read_as_they_first_were() -> None:
    assert encode_run(STRINGS) == STRINGS_0_2_0
    assert decode_run(STRINGS_0_2_0) == STRINGS
    assert encode_run(TOTALS) == TOTALS_0_2_0
    assert decode_run(TOTALS_0_2_0) == TOTALS
    assert encode_run(SCRIPTS) == SCRIPTS_0_2_0
    assert decode_run(SCRIPTS_0_2_0) == SCRIPTS
    assert encode_run(TRANSACTIONS) == TRANSACTIONS_0_2_0
    assert decode_run(TRANSACTIONS_0_2_0) == TRANSACTIONS


def test_every_operation_is_in_the_kept_runs() -> None:
    kept = RUN + STRINGS + TOTALS + SCRIPTS + TRANSACTIONS
    assert {type(operation) for operation in kept} == set(Operation.__args__)  # type: ignore[attr-defined]


def test_a_snapshot_is_written_as_in_0_2_0() -> None:
    assert image(table()) == SNAPSHOT_0_2_0


def test_a_snapshot_of_0_2_0_is_read() -> None:
    restored = snapshots.restore(iter(SNAPSHOT_0_2_0))
    restored.check()
    assert image(restored) == SNAPSHOT_0_2_0


def test_a_snapshot_of_0_1_0_is_read() -> None:
    restored = snapshots.restore(iter(SNAPSHOT_0_1_0))
    restored.check()
    assert image(restored) == image(table_of_0_1_0())
    assert len(restored.locks) == 2
    assert len(restored.requests) == 1
    assert restored.last_version == 4


def test_fields_that_were_added_later_may_be_missing() -> None:
    """What makes adding a field at the end safe: absent ones have their default."""
    shorter = msgspec.msgpack.encode([[1, ORDERS, b"me"], [2, ORDERS, b"me"]])
    assert decode_run(shorter) == [Acquire(ORDERS, b"me"), Release(ORDERS, b"me")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([[99, ORDERS]]),
        msgspec.msgpack.encode([[1, ORDERS, b"me", -5]]),
        msgspec.msgpack.encode([[1, ORDERS, b"me", 2**63]]),
        RUN_0_1_0[:-1],
    ],
)
def test_bytes_that_are_no_run_are_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_run(payload)


@pytest.mark.parametrize(("position", "value"), [(0, snapshots.FORMAT + 1), (1, FEATURE_LEVEL + 1)])
def test_a_snapshot_of_a_later_release_is_refused(position: int, value: int) -> None:
    head = msgspec.msgpack.decode(SNAPSHOT_0_1_0[0])
    head[position] = value
    with pytest.raises(NewerFormat, match="this release reads up to"):
        snapshots.restore(iter([msgspec.msgpack.encode(head), *SNAPSHOT_0_1_0[1:]]))


@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [b"\x90"], [SNAPSHOT_0_1_0[0], b"\xff"], [SNAPSHOT_0_1_0[0], b"\x92\x7f\x90"]],
)
def test_chunks_that_are_no_snapshot_are_refused(chunks: list[bytes]) -> None:
    with pytest.raises(DamagedSnapshot):
        snapshots.restore(iter(chunks))
