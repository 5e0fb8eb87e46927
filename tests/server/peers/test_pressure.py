"""Peers that do not read, do not finish, or flap."""

from __future__ import annotations

import asyncio
import random

import pytest

from resplock import limits
from resplock.server.peers.dialer import backoff_ms
from resplock.server.peers.greeting import Kind
from tests.server.peers.nodes import eventually, nodes, on_uvloop


@on_uvloop
async def test_a_peer_that_does_not_read_loses_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_UNSENT_BYTES_MAX", 1_000_000)
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        one.knows(two)
        await one.linked(two)
        await two.linked(one)
        for stream in two.peers.link(one.id).accepted.streams.values():
            stream.hold()
        sent = 0
        while one.forward(two, "x" * 100_000) and sent < 1000:
            sent += 1
            assert one.peers.status(two.id).unsent_bytes < 1_200_000
            await asyncio.sleep(0)
        assert sent < 1000
        assert one.events[-1] == ("down", "n2")
        assert one.peers.status(two.id).last_error == "it does not read what it is sent"


@on_uvloop
async def test_votes_do_not_queue_behind_forwarded_commands() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        one.knows(two)
        await one.linked(two)
        await two.linked(one)
        two.peers.link(one.id).accepted.streams[Kind.COMMANDS].hold()
        for _ in range(10):
            assert one.forward(two, "x" * 1_000_000)
        assert one.peers.status(two.id).unsent_bytes > 1_000_000
        one.say(two, 7)
        await eventually(lambda: two.heard("n1") == [7])
        assert two.told("node") == []
        two.peers.link(one.id).accepted.streams[Kind.COMMANDS].release()
        await eventually(lambda: len(two.told("node")) == 10)


@on_uvloop
async def test_a_frame_that_does_not_end_breaks_the_link() -> None:
    async with nodes("n1", "n2", acquainted=False) as (one, two):
        one.knows(two)
        await one.linked(two)
        await two.linked(one)
        stream = one.peers.link(two.id).sending.streams[Kind.RAFT]
        stream.queue.append(b"\x00\x00\x10\x00and no more")
        stream.flush()
        arrived = two.peers.link(one.id).accepted.streams[Kind.RAFT]
        await eventually(lambda: arrived.held > 0)
        for _ in range(20):
            arrived.look(20)
        assert two.told("down") == []
        arrived.look(20)
        assert two.told("down") == [("down", "n1")]


@on_uvloop
async def test_a_message_that_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_COMMANDS_BYTES_MAX", 1000)
    async with nodes("n1", "n2") as (one, two):
        await one.linked(two)
        assert one.forward(two, "x" * 1000)
        assert not one.forward(two, "x" * 1001)
        await eventually(lambda: ("down", "n2") in one.events)
        await one.linked(two)


def test_the_backoff_doubles_up_to_its_cap_and_is_jittered() -> None:
    shortest = [backoff_ms(n, lambda low, _: low) for n in range(10)]
    longest = [backoff_ms(n, lambda _, high: high) for n in range(10)]
    assert longest[:4] == [20, 40, 80, 160]
    assert longest[-1] == backoff_ms(10**9, lambda _, high: high) == 1000
    assert shortest == [wait / 2 for wait in longest]
    drawn = [backoff_ms(3, random.Random(seed).uniform) for seed in range(50)]
    assert len(set(drawn)) == 50
