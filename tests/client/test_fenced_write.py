"""examples/fenced_write.py: clients that are paused past their TTL lose no update of a counter that
checks versions. The same run without the check does lose some, which shows that the pauses bite."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.fenced_write import Counter, StaleVersion
from tests.e2e.process import ServerProcess, environment
from tests.e2e.waiting import DEADLINE_S, eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "fenced_write.py"
CLIENTS = 3
TIMES = 4
PAUSES = 3
TTL_S = 0.4
THINK_S = 0.15


class Client:
    """The example in a process of its own."""

    def __init__(self, server: ServerProcess, counter: Path, lock: str, *more: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(EXAMPLE), "--url", f"redis://127.0.0.1:{server.port}"),
                *("--file", str(counter), "--lock", lock, "--times", str(TIMES)),
                *("--ttl", str(TTL_S), "--think", str(THINK_S), *more),
            ],
            env=environment({"PYTHONPATH": str(EXAMPLE.parents[1])}),
            stdout=subprocess.PIPE,
            text=True,
        )

    def next_line(self) -> str:
        """What it says next; nothing at its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.lines.append(line)
        return line

    def pause_while_it_thinks(self, until: str, counter: Counter) -> None:
        """SIGSTOP after it has read, until somebody else has written."""
        while not (line := self.next_line()).startswith("read"):
            assert line, f"it has ended before {until}"
        self.process.send_signal(signal.SIGSTOP)
        before = counter.peek()
        eventually(lambda: counter.peek() != before, until)
        self.process.send_signal(signal.SIGCONT)

    def finish(self) -> int:
        """Wait for its end; how many of its writes were stored."""
        while self.next_line():
            pass
        assert self.process.wait(DEADLINE_S) == 0
        return sum(line.startswith("wrote") for line in self.lines)

    def discard(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        client.discard()


@pytest.mark.e2e
@pytest.mark.parametrize("checks", [True, False], ids=["with versions", "without"])
def test_paused_clients(
    server: ServerProcess, tmp_path: Path, clients: list[Client], checks: bool
) -> None:
    path = tmp_path / "counter"
    counter = Counter(path, checks=checks)
    more = () if checks else ("--no-check",)
    clients += [Client(server, path, f"fenced/{checks}", *more) for _ in range(CLIENTS)]
    for pause in range(PAUSES):
        clients[pause].pause_while_it_thinks(f"pause {pause}", counter)
    stored = sum(client.finish() for client in clients)
    assert stored == CLIENTS * TIMES
    lost = stored - counter.peek()
    if checks:
        assert lost == 0
        assert any("refused" in line for client in clients for line in client.lines)
    else:
        assert lost > 0, "the pauses have not bitten: this run proves nothing"


class TestCounter:
    def test_a_lower_version_is_refused(self, tmp_path: Path) -> None:
        counter = Counter(tmp_path / "counter")
        assert counter.read(5) == 0
        counter.write(1, 5)
        with pytest.raises(StaleVersion):
            counter.write(2, 4)
        with pytest.raises(StaleVersion):
            counter.read(4)
        assert counter.peek() == 1

    def test_a_read_is_enough_to_refuse_an_earlier_holder(self, tmp_path: Path) -> None:
        """Its write would come between our read and our write."""
        counter = Counter(tmp_path / "counter")
        counter.read(4)
        counter.read(5)
        with pytest.raises(StaleVersion):
            counter.write(1, 4)

    def test_without_the_check_nothing_is(self, tmp_path: Path) -> None:
        counter = Counter(tmp_path / "counter", checks=False)
        counter.write(1, 5)
        counter.write(2, 4)
        assert counter.peek() == 2
