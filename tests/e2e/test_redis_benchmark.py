"""redis-benchmark, which ends at the first error reply and at the first reply that it cannot read."""

from __future__ import annotations

import csv

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.process import Ended, ServerProcess, run
from tests.tools import find_tool

RESP = [pytest.param([], id="resp2"), pytest.param(["-3"], id="resp3")]


def acquire(prefix: str) -> tuple[str, ...]:
    """A command for redis-benchmark, with random keys."""
    return ("LOCK.ACQUIRE", f"{prefix}:__rand_int__", "me", "TTL", "30000")


def benchmark(server: ServerProcess, *words: str) -> Ended:
    """Run it to its end, which is a good one."""
    program = find_tool("redis-benchmark")
    done = run(program, "-p", str(server.port), "--csv", *words)
    assert done.status == 0, done
    assert "rror" not in done.output + done.errors, done
    assert "WARNING" not in done.output + done.errors, done
    return done


def names_of_tests(done: Ended) -> list[str]:
    """What it measured, each above zero."""
    rows = list(csv.DictReader(done.output.splitlines()))
    assert all(float(row["rps"]) > 0 for row in rows), done
    return [row["test"] for row in rows]


@pytest.mark.parametrize("protocol", RESP)
@pytest.mark.parametrize("pipeline", [[], ["-P", "16"]], ids=["one by one", "pipelined"])
def test_it_takes_locks(server: ServerProcess, protocol: list[str], pipeline: list[str]) -> None:
    """Keys of its own: two runs may draw the same numbers, from the time and the process's id."""
    take = acquire("lk" + "".join(protocol + pipeline))
    before = server.call("LOCK.STATS")
    done = benchmark(server, *protocol, *pipeline, "-n", "20000", "-r", "100000", *take)
    assert names_of_tests(done) == [" ".join(take)]
    after = server.call("LOCK.STATS")
    change = {name: after[name] - before[name] for name in after}
    assert 0 < change[b"acquisitions"] <= 20_000
    assert change[b"active_locks"] == change[b"acquisitions"] - change[b"expired"]
    assert change[b"refusals"] == change[b"releases"] == 0


@pytest.mark.parametrize("protocol", RESP)
def test_it_pings(server: ServerProcess, protocol: list[str]) -> None:
    done = benchmark(server, *protocol, "-n", "5000", "-t", "ping")
    assert names_of_tests(done) == ["PING_INLINE", "PING_MBULK"]


def test_its_own_tests_of_strings(server: ServerProcess) -> None:
    done = benchmark(server, "-n", "1000", "-P", "4", "-t", "set,get,incr,mset")
    assert names_of_tests(done) == ["SET", "GET", "INCR", "MSET (10 keys)"]


def test_it_refuses_nothing_under_contention(server: ServerProcess) -> None:
    """A refusal is a reply: 50 clients that try for ten locks see no error."""
    take = ("LOCK.ACQUIRE", "few:__rand_int__", "__rand_int__", "TTL", "5")
    benchmark(server, "-n", "5000", "-r", "10", *take)
    assert server.call("LOCK.STATS")[b"refusals"] > 0


def test_with_a_password_and_a_database(make_server: MakeServer) -> None:
    server = make_server("--requirepass", "open sesame").start()
    benchmark(server, "-a", "open sesame", "--dbnum", "7", "-n", "500", *acquire("lk"))
    with server.wire(protocol=3, password="open sesame") as wire:
        assert wire.call("DBSIZE") == 0
        wire.call("SELECT", 7)
        assert wire.call("DBSIZE") == 1
