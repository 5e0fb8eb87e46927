"""A process whose event loop hangs ends itself; one that was paused as a whole goes on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resplock.server.watchdog import EXIT_STALLED
from tests.attacks.server import DEADLINE_S, ROOT, Server, eventually

BEATING = """
import asyncio, sys, threading
from resplock.server import watchdog as module
module._CHECK_EVERY_S, module.STALL_FATAL_MS = 0.05, 500
module._LAST_WORDS_S = 0.2

async def main():
    watchdog = module.Watchdog()
    watchdog.start()
    for number in range(1_000_000):
        watchdog.beat()
        print(number, flush=True)
        await asyncio.sleep(0.01)
        {each}

asyncio.run(main())
"""
SHORT = {"limits.STALL_FATAL_MS": 500, "watchdog._CHECK_EVERY_S": 0.05}


@contextmanager
def running(each: str = "pass", **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a watchdog that is looked after every 10 ms, until `each` hangs."""
    with subprocess.Popen(
        [sys.executable, "-c", BEATING.replace("{each}", each)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        **{"stderr": subprocess.PIPE, **options},
    ) as process:
        yield process
        process.kill()


def read_beats(process: subprocess.Popen[bytes], count: int) -> None:
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline()


HANGS = {
    "a wait that lets other threads run": "number < 20 or threading.Event().wait()",
    "a loop that computes": "while number == 20: pass",
}


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_loop_that_hangs(hang: str) -> None:
    with running(hang) as process:
        read_beats(process, 20)
        assert process.wait(DEADLINE_S) == EXIT_STALLED
        assert process.stderr is not None
        words = process.stderr.read().decode()
        assert "the event loop has not turned for" in words
        assert words.count("\n") == 1


def test_a_loop_that_hangs_on_standard_error_which_nobody_reads() -> None:
    """Then there is nobody to tell either: the process ends all the same."""
    hang = "number < 20 or [sys.stderr.write('x' * 100_000) for _ in range(100)]"
    with running(hang) as process:
        read_beats(process, 20)
        assert process.wait(DEADLINE_S) == EXIT_STALLED


def test_a_process_that_is_paused_and_goes_on() -> None:
    with running() as process:
        read_beats(process, 20)
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert process.stdout is not None
            while select.select([process.stdout], [], [], 0.7)[0]:  # longer than a stall may be
                os.read(process.stdout.fileno(), 65_536)  # from before
            process.send_signal(signal.SIGCONT)
            for _ in range(20):
                assert select.select([process.stdout], [], [], DEADLINE_S)[0]
                assert os.read(process.stdout.fileno(), 65_536), "it has ended"
        assert process.poll() is None


def test_a_server_whose_disk_hangs(tmp_path: Path) -> None:
    with Server(tmp_path, constants={**SHORT, "hang": 20}) as server:
        link = server.connect()
        for _ in range(40):
            try:
                link.call(b"LOCK.ACQUIRE", b"a", b"me")
            except ConnectionError:
                break
        else:
            pytest.fail("the log does not hang")
        assert server.process.wait(DEADLINE_S) == EXIT_STALLED
        assert "the event loop has not turned for" in server.log


def test_a_server_that_is_paused_and_goes_on(tmp_path: Path) -> None:
    with Server(tmp_path, constants=SHORT) as server, server.connect() as link:
        version = link.call(b"LOCK.ACQUIRE", b"a", b"me", b"TTL", b"0")[3]
        for _ in range(2):
            server.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.pid, os.WSTOPPED)
            link.send(b"PING\r\n")
            assert not select.select([link.socket], [], [], 0.7)[0], "it was not paused"
            server.process.send_signal(signal.SIGCONT)
            assert link.read() == b"PONG"
        assert link.call(b"LOCK.CHECK", b"a", b"%d" % version) == 1
        eventually(lambda: server.clients == 1, "it serves no more")
