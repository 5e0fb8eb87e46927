"""WAIT: what it counts, and until when it waits."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from resplock.resp.binding import Call
from resplock.resp.commands import COMMANDS
from resplock.server.local import replication
from resplock.server.local.context import LATER

WAIT = COMMANDS[b"WAIT"]


class Core:
    """A leader, or not, whose followers acknowledge as the test says."""

    def __init__(self, *acknowledged: int, is_leader: bool = True) -> None:
        self.applied_index = 10
        self.is_leader = is_leader
        self.acknowledged = list(acknowledged)
        self.configuration = SimpleNamespace(voters=("n1", *("n2" for _ in acknowledged)))

    def status(self) -> Any:
        peers = [SimpleNamespace(match_index=index) for index in self.acknowledged]
        return SimpleNamespace(peers=peers)


class Asking:
    """A context, and a connection in it."""

    def __init__(self, core: Core) -> None:
        self.engine = SimpleNamespace(node=SimpleNamespace(core=core))
        self.file_descriptor = 7
        self.answers: list[int] = []
        self.work: list[Any] = []

    def begin(self, work: Any) -> None:
        self.work.append(work)

    def hold(self) -> Any:
        return self.answers.append

    def ask(self, wanted: int, timeout_ms: int) -> Any:
        argv = [b"WAIT", b"%d" % wanted, b"%d" % timeout_ms]
        call = WAIT.bind(argv, 0)
        assert isinstance(call, Call)
        return replication.wait(self, self, call)  # type: ignore[arg-type]

    def run(self) -> None:
        for work in self.work:
            asyncio.run(asyncio.wait_for(work, 10))


@pytest.mark.parametrize(("wanted", "count"), [(0, 1), (1, 1), (-1, 1)])
def test_the_leader_counts_who_has_all_that_is_applied(wanted: int, count: int) -> None:
    assert Asking(Core(9, 10)).ask(wanted, 0) == count


def test_others_count_a_majority() -> None:
    assert Asking(Core(0, 0, is_leader=False)).ask(1, 0) == 1
    assert Asking(Core(0, 0, 0, 0, is_leader=False)).ask(0, 0) == 2
    assert Asking(Core(is_leader=False)).ask(0, 0) == 0


def test_it_waits_until_enough_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(9, 10)
    asking = Asking(core)
    assert asking.ask(2, 0) is LATER
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 9:
            core.acknowledged = [11, 12]
            core.applied_index = 13  # what others have written since does not count

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asking.run()
    assert asking.answers == [2]
    assert (slept[0], slept[-1]) == (0.001, 0.064)


def test_it_waits_until_the_time_is_up() -> None:
    asking = Asking(Core(9, 10))
    assert asking.ask(2, 3) is LATER
    asking.run()
    assert asking.answers == [1]


def test_it_ends_with_its_client() -> None:
    asking = Asking(Core(9, 10))
    assert asking.ask(2, 0) is LATER
    asking.file_descriptor = -1
    asking.run()
    assert asking.answers == [1]
