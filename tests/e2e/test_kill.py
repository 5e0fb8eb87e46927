"""`kill -9` at any moment, under load: what was acknowledged is there, and nothing else is.

RESPLOCK_KILL_ROUNDS and RESPLOCK_KILL_SEED make a longer campaign, or another one:

    RESPLOCK_KILL_ROUNDS=1000 RESPLOCK_KILL_SEED=7 pytest tests/e2e/test_kill.py -k any_moment
"""

from __future__ import annotations

import os
import random
import shutil

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.history import History, Violation, check, next_life
from tests.e2e.load import Load, holds_of
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually, now_ms
from tests.e2e.wire import Closed, by_field, command

ROUNDS = int(os.environ.get("RESPLOCK_KILL_ROUNDS", "12"))
SEED = int(os.environ.get("RESPLOCK_KILL_SEED", "1"))
KEYS = [f"key/{number}" for number in range(30)]
REPLIES_MAX = 2_500
"""A round ends after up to so many replies."""


class Campaign:
    """Lives of one server, one after the other, each checked."""

    def __init__(self, server: ServerProcess, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.life = History(before=holds_of(server), commands=[], after={})
        self.commands = 0

    def round(self) -> None:
        """Load, the end of the process, a start that may be killed too, and the check."""
        load = Load(self.server, KEYS, self.rng)
        load.run_until_answered(self.rng.randrange(REPLIES_MAX))
        self.life.commands = load.end(self._end)
        self.commands += sum(each.answered for each in self.life.commands)
        if self.rng.random() < 0.3:
            self._kill_while_starting()
        self.server.start()
        self.life.after = holds_of(self.server)
        check(self.life)
        stats = self.server.call("LOCK.STATS")
        life = next_life(self.life)
        assert stats[b"active_locks"] == len(life.before)
        assert stats[b"last_version"] >= life.highest_before
        self.life = life

    def _end(self) -> None:
        if self.rng.random() < 0.15:
            assert self.server.terminate() == 0
        else:
            self.server.kill9()

    def _kill_while_starting(self) -> None:
        self.server.begin()
        if not self.server.ends_within(self.rng.uniform(0.1, 0.6)):
            self.server.kill9()
        else:
            raise AssertionError(f"it ended by itself:\n{self.server.log()}")


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize("snapshot_entries", [200, 1_000_000])
def test_at_any_moment(make_server: MakeServer, snapshot_entries: int) -> None:
    server = make_server(f"--snapshot-entries={snapshot_entries}").start()
    campaign = Campaign(server, random.Random(SEED * 2 + (snapshot_entries == 200)))
    for _ in range(ROUNDS):
        campaign.round()
    assert campaign.commands > ROUNDS * 100
    snapshots = server.call("RAFT.STATUS")[b"snapshot_index"]
    assert bool(snapshots) == (snapshot_entries == 200)


def test_the_check_notices_a_server_that_forgets(make_server: MakeServer) -> None:
    """The same round on a disk that lost it: the directory is put back to what it was before."""
    server = make_server().start()
    rng = random.Random(SEED)
    Load(server, KEYS, rng).end(server.kill9)
    older = server.directory / "older"
    shutil.copytree(server.data_dir, older)
    campaign = Campaign(server.start(), rng)
    load = Load(server, KEYS, rng)
    load.run_until_answered(1_000)
    campaign.life.commands = load.end(server.kill9)
    shutil.rmtree(server.data_dir)
    shutil.copytree(older, server.data_dir)
    server.start()
    campaign.life.after = holds_of(server)
    with pytest.raises(Violation):
        check(campaign.life)


class TestRequests:
    """A REQUEST id makes a retry safe, over a restart too."""

    @pytest.mark.parametrize("snapshot", [False, True], ids=["from the log", "from a snapshot"])
    def test_the_same_answers(self, make_server: MakeServer, snapshot: bool) -> None:
        server = make_server().start()
        with server.wire(protocol=3) as wire:
            granted = wire.map("LOCK.ACQUIRE", "a", "me", "REQUEST", "r1", "TTL", 0)
            refused = wire.map("LOCK.ACQUIRE", "a", "you", "REQUEST", "r1")
            gone = wire.map("LOCK.ACQUIRE", "b", "me", "REQUEST", "r2")
            wire.call("LOCK.RELEASE", "b", "me")
            if snapshot:
                wire.call("RAFT.SNAPSHOT")
        server.restart()
        with server.wire(protocol=3) as wire:
            assert wire.map("LOCK.ACQUIRE", "a", "me", "REQUEST", "r1", "TTL", 0) == granted
            lost = wire.map("LOCK.ACQUIRE", "b", "me", "REQUEST", "r2")
            assert lost == {"status": b"lost", "version": gone["version"]}
            assert wire.call("LOCK.GET", "b") is None
            wire.call("LOCK.RELEASE", "a", "me")
            again = wire.map("LOCK.ACQUIRE", "a", "you", "REQUEST", "r1")
            assert (again["status"], again["version"]) == (b"held", refused["version"])
            assert wire.map("LOCK.ACQUIRE", "a", "you", "REQUEST", "r2")["status"] == b"granted"

    @pytest.mark.parametrize("seed", range(3))
    def test_retried_after_a_kill_each_has_one_effect(
        self, make_server: MakeServer, seed: int
    ) -> None:
        """All is sent, some is answered; then all is sent again, whatever became of it."""
        server = make_server("--snapshot-entries=50").start()
        asked = [
            command("LOCK.ACQUIRE", f"r/{n}", "me", "TTL", 0, "REQUEST", n) for n in range(1_000)
        ]
        answered = random.Random(seed).randrange(1_000)
        first: list[int] = []
        with server.wire() as wire:
            wire.send_bytes(b"".join(asked))
            first += [by_field(wire.receive())["version"] for _ in range(answered)]
            server.kill9()
            try:
                while True:
                    first.append(by_field(wire.receive())["version"])
            except Closed:
                pass
        server.start()
        with server.wire() as wire:
            wire.send_bytes(b"".join(asked))
            replies = [by_field(wire.receive()) for _ in asked]
        assert {reply["status"] for reply in replies} == {b"granted"}
        versions = [reply["version"] for reply in replies]
        assert versions[: len(first)] == first
        assert versions == sorted(set(versions))
        assert server.call("LOCK.STATS")[b"acquisitions"] == len(asked)


class TestTime:
    """Time without a server belongs to the holder: a hold is never shortened by it. What the log had
    not been told of the time before a kill, at most 5 s, is given back."""

    def test_a_ttl_goes_on_where_the_log_has_it(self, make_server: MakeServer) -> None:
        server, ttl_ms = make_server().start(), 60_000
        with server.wire(protocol=3) as wire:
            asked = now_ms()
            wire.call("LOCK.ACQUIRE", "a", "me", "TTL", ttl_ms)
            granted = now_ms()
            stamp_ms = wire.map("LOCK.STATS")["clock_ms"]
            looked = granted

            def moved() -> bool:
                """Whether the clock was logged. Without commands that is due every 5 s."""
                nonlocal looked
                now = now_ms()
                if wire.map("LOCK.STATS")["clock_ms"] == stamp_ms:
                    looked = now
                    return False
                return True

            eventually(moved, "a clock in the log")
            assert now_ms() - granted < 7_000
        server.kill9()
        killed = now_ms()
        eventually(lambda: now_ms() > killed + 1_500, "time without a server")
        began = now_ms()
        left_ms = by_field(server.start().call("LOCK.GET", "a"))["ttl_ms"]
        alive_ms = (killed - asked) + (now_ms() - began)
        assert left_ms >= ttl_ms - alive_ms - 2
        assert left_ms <= ttl_ms - (looked - granted), "the log knew better"

    def test_a_short_hold_outlives_a_long_absence(self, make_server: MakeServer) -> None:
        server, ttl_ms = make_server().start(), 1_000
        version = by_field(server.call("LOCK.ACQUIRE", "a", "me", "TTL", ttl_ms))["version"]
        server.kill9()
        killed = now_ms()
        eventually(lambda: now_ms() > killed + ttl_ms, "time without a server")
        server.start()
        started = now_ms()
        with server.wire(protocol=3) as wire:
            assert wire.map("LOCK.GET", "a")["version"] == version
            asked = now_ms()
            while wire.call("LOCK.GET", "a") is not None:
                assert asked - started <= ttl_ms, "it was given more time than it had"
                asked = now_ms()
            assert wire.call("LOCK.CHECK", "a", version) == 0
            assert wire.map("LOCK.ACQUIRE", "a", "you")["version"] > version

    def test_one_that_never_ends(self, make_server: MakeServer) -> None:
        server = make_server().start()
        server.call("LOCK.ACQUIRE", "a", "me", "TTL", 0)
        server.restart()
        info = by_field(server.call("LOCK.GET", "a"))
        assert (info["ttl_ms"], info["expires_at"]) == (0, 0)


def test_metadata_names_and_databases_survive(make_server: MakeServer) -> None:
    """Everything that LOCK.GET shows, from the log and from a snapshot."""
    server = make_server().start()
    odd = bytes(range(256))
    for db in (0, 15):
        with server.wire(protocol=3) as wire:
            wire.call("SELECT", db)
            pairs = ("META", 2, b"\r\n", odd, "empty", "")
            wire.call("LOCK.ACQUIRE", odd * 4, odd * 16, "TTL", 0, *pairs)
    shown = []
    for _ in range(3):
        for db in (0, 15):
            with server.wire(protocol=3) as wire:
                wire.call("SELECT", db)
                info = wire.map("LOCK.GET", odd * 4)
            # These move by the time without a server, because the clock stood still meanwhile.
            del info["acquired_at"], info["last_modified"]
            shown.append(info)
            assert (info["key"], info["owner"]) == (odd * 4, odd * 16)
            assert info["metadata"] == {b"\r\n": odd, b"empty": b""}
        server.call("RAFT.SNAPSHOT")
        server.restart()
    assert shown[0] == shown[2] == shown[4]
    assert shown[1] == shown[3] == shown[5]
    assert shown[0]["version"] < shown[1]["version"]


def test_the_totals_and_the_clock_go_on(make_server: MakeServer) -> None:
    server = make_server("--snapshot-entries=20").start()
    for number in range(50):
        server.call("LOCK.ACQUIRE", f"k{number}", "me")
        server.call("LOCK.RELEASE", f"k{number}", "me")
    before = by_field(server.call("LOCK.STATS"))
    server.restart()
    after = by_field(server.call("LOCK.STATS"))
    rates = {"acquisitions_per_s", "releases_per_s"}
    assert after["clock_ms"] >= before["clock_ms"]
    assert {name: after[name] for name in after.keys() - rates - {"clock_ms"}} == {
        name: before[name] for name in before.keys() - rates - {"clock_ms"}
    }
