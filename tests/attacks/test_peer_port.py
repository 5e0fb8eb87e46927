"""The peer port under attack: it stays up, grows by nothing, and two honest nodes go on talking."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import tracemalloc

import pytest
from structlog.testing import capture_logs

from resplock import limits
from resplock.raft.entries import Member
from resplock.server.peers import Identity, greeting
from resplock.server.peers.framing import frame
from resplock.server.peers.greeting import Kind
from resplock.types import NodeId
from tests.attacks.peer_port import STRANGERS, bytes_for
from tests.server.peers.nodes import CLUSTER, Node, eventually, nodes, on_uvloop

SEED = 20_261_124
GROWTH_BYTES_MAX = 100_000


async def attack(port: int, pieces: list[bytes], patience_s: float = 0.01) -> bytes:
    """Send what there is; what comes back until the other side closes, or is silent for long."""
    loop, answer = asyncio.get_running_loop(), b""
    with socket.socket() as attacker:
        attacker.setblocking(False)
        await loop.sock_connect(attacker, ("127.0.0.1", port))
        with contextlib.suppress(ConnectionError, TimeoutError):
            for piece in pieces:
                await loop.sock_sendall(attacker, piece)
            async with asyncio.timeout(patience_s):
                while data := await loop.sock_recv(attacker, 65536):
                    answer += data
    return answer


async def still_talk(one: Node, two: Node, number: int) -> None:
    assert one.say(two, number)
    assert two.say(one, number)
    await eventually(lambda: number in two.heard("n1") and number in one.heard("n2"))


@pytest.mark.parametrize("part", range(3))
@on_uvloop
async def test_a_seeded_campaign(part: int) -> None:
    with capture_logs() as logs:
        async with nodes("n1", "n2") as (one, two):
            await one.linked(two)
            await two.linked(one)
            await eventually(lambda: one.peers.link(two.id).dialed)
            await eventually(lambda: one.peers.link(two.id).accepted)
            downs = len(one.told("down"))
            for number in range(part * 200, part * 200 + 200, 10):
                rngs = [random.Random(f"{SEED}/{number + n}") for n in range(10)]
                await asyncio.gather(*(attack(one.port, bytes_for(r, CLUSTER)) for r in rngs))
                await still_talk(one, two, number + 1)
            assert len([event for event in one.told("down") if event[1] == "n2"]) == downs
            assert not [event for event in one.told("raft") if event[1] not in ("n2", "evil")]
    assert len([line for line in logs if line["log_level"] != "info"]) < 20


@pytest.mark.parametrize("kind", [Kind.RAFT, Kind.COMMANDS])
@on_uvloop
async def test_a_server_that_was_let_in_and_then_sends_garbage(kind: Kind) -> None:
    """It is a guest of the right cluster: only its own link ends."""
    async with nodes("n1", "n2", Node("evil"), acquainted=False) as (one, two, evil):
        two.knows(one)
        await two.linked(one)
        for number in range(25):
            rng = random.Random(f"{SEED}/{kind}/{number}")
            evil.knows()
            evil.knows(one)  # it dials anew, without a pause
            await evil.linked(one)
            session = evil.peers.link(one.id).sending
            assert session is not None
            garbage = [frame(rng.randbytes(rng.randrange(1, 200))) for _ in range(3)]
            session.streams[kind].queue += [*garbage, b"\0\0\0\0"]
            session.streams[kind].flush()
            await eventually(session.ended.is_set)
        await still_talk(one, two, 1)
        assert ("down", "n2") not in one.events
        assert one.told("down").count(("down", "evil")) >= 25


@on_uvloop
async def test_nothing_is_kept_of_those_who_were_closed() -> None:
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)

        async def flood(first: int) -> None:
            for number in range(first, first + 100):
                await attack(one.port, bytes_for(random.Random(f"{SEED}/{number}"), "c2", "x"))

        await flood(0)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.take_snapshot()
            await flood(1000)
            gc.collect()
            grown = tracemalloc.take_snapshot().compare_to(before, "filename")
        finally:
            tracemalloc.stop()
        ours = sum(line.size_diff for line in grown if "/resplock/" in line.traceback[0].filename)
        assert ours < GROWTH_BYTES_MAX
        await still_talk(one, two, 1)


@pytest.mark.parametrize("data", STRANGERS)
@on_uvloop
async def test_other_protocols_are_closed_at_once_and_logged_once(data: bytes) -> None:
    with capture_logs() as logs:
        async with nodes("n1") as (one,):
            for _ in range(5):
                assert await attack(one.port, [data], patience_s=5) == b""
    assert [line["event"] for line in logs] == ["peer port: closed a connection that is no peer's"]
    assert logs[0]["peer"] == "127.0.0.1"


@on_uvloop
async def test_those_who_say_nothing_make_way_and_are_closed_in_the_end() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        silent = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(50)]
        try:
            await eventually(lambda: len(one.peers._listener) == limits.PEER_STRANGERS_MAX)
            two.knows(one)
            await two.linked(one)
            await eventually(lambda: len(one.peers._listener) == 0)
            for one_of_them in silent:
                one_of_them.setblocking(False)
                received = asyncio.get_running_loop().sock_recv(one_of_them, 10)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(received, 5) == b""
        finally:
            for one_of_them in silent:
                one_of_them.close()


@on_uvloop
async def test_a_session_that_is_never_completed_is_closed() -> None:
    async with nodes("n1") as (one,):
        member = Member(NodeId("n2"), "u", "x:1", "x:2")
        mine = greeting.hello(Identity(member, 1, CLUSTER), Kind.RAFT, "n1", 1)
        answer = await attack(one.port, [frame(greeting.encode(mine))], patience_s=10)
        assert greeting.decode(answer[4:]) == greeting.hello(one.identity, Kind.RAFT)
        assert one.told("up") == []
        await eventually(lambda: not one.peers._links)


@on_uvloop
async def test_a_length_within_the_bound_does_not_reserve_memory() -> None:
    async with nodes("n1") as (one,):
        found = []
        for _ in range(limits.PEER_STRANGERS_MAX):
            link = socket.create_connection(("127.0.0.1", one.port))
            link.sendall(limits.PEER_GREETING_BYTES_MAX.to_bytes(4, "big") + b"RLPL\x01")
            found.append(link)
        await eventually(lambda: len(one.peers._listener) == len(found))
        held = sum(stream.held for stream in one.peers._listener._strangers)
        assert held < 200 * len(found)
        for link in found:
            link.close()
