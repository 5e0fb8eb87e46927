"""`resplock run`: a command that runs while a lock is held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeCluster, MakeServer
from tests.e2e.ports import Ports
from tests.e2e.process import COMMAND, ServerProcess, environment
from tests.e2e.process import run as run_to_its_end
from tests.e2e.waiting import DEADLINE_S, eventually, now_ms
from tests.e2e.wire import by_field

pytestmark = pytest.mark.e2e

SAY = (sys.executable, "-c")
FOR_EVER = "import time; print('started', flush=True); time.sleep(1000)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOR_EVER}"
TELLS_SIGNALS = """
import signal, sys, time
def told(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, told)
print('started', flush=True)
while True:
    time.sleep(1000)
"""


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}"


def words(server: ServerProcess, name: str, *more: str) -> tuple[str, ...]:
    return (*COMMAND, "run", "--url", url(server.port), "--lock", name, *more)


class Running:
    """A `resplock run` under way."""

    def __init__(self, *words: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            words,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def says(self, line: str) -> None:
        """Wait for a line of the command."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: exit status, the rest of the output, and of the errors."""
        output, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output, errors


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a `resplock run`, and ends it with the test."""
    made: list[Running] = []

    def begin(*words: str, **options: Any) -> Running:
        made.append(Running(*words, **options))
        return made[-1]

    yield begin
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"run/{request.node.name}"


def holder(server: ServerProcess, name: str) -> Any:
    info = server.call("LOCK.GET", name)
    return by_field(info)["owner"] if info is not None else None


class TestCommand:
    def test_it_runs_with_the_lock_and_its_version(self, server: ServerProcess, name: str) -> None:
        code = (
            "import os, redis; "
            f"r = redis.Redis(port={server.port}, protocol=3, decode_responses=True); "
            "info = r.execute_command('LOCK.GET', os.environ['RESPLOCK_LOCK']); "
            "print(info['version'] == int(os.environ['RESPLOCK_VERSION']), "
            "info['owner'] == os.environ['RESPLOCK_OWNER'])"
        )
        done = run_to_its_end(*words(server, name, "--", *SAY, code))
        assert (done.status, done.output, done.errors) == (0, "True True\n", "")
        assert holder(server, name) is None

    @pytest.mark.parametrize("status", [0, 1, 42, 255])
    def test_its_exit_status_is_ours(self, server: ServerProcess, name: str, status: int) -> None:
        done = run_to_its_end(*words(server, name, "--", *SAY, f"exit({status})"))
        assert (done.status, done.errors) == (status, "")

    def test_a_signal_that_ended_it_is_told_as_the_shell_does(
        self, server: ServerProcess, name: str
    ) -> None:
        code = "import os; os.kill(os.getpid(), 9)"
        assert run_to_its_end(*words(server, name, "--", *SAY, code)).status == 128 + 9

    def test_input_and_arguments_are_passed_on(self, server: ServerProcess, name: str) -> None:
        code = "import sys; print(sys.stdin.read() + sys.argv[1])"
        done = run_to_its_end(*words(server, name, "--", *SAY, code, "--lock"), given="one ")
        assert done.output == "one --lock\n"

    def test_options_of_the_command_need_no_dashes_before_it(
        self, server: ServerProcess, name: str
    ) -> None:
        done = run_to_its_end(*words(server, name, *SAY, "print(1)"))
        assert (done.status, done.output) == (0, "1\n")

    def test_the_url_may_come_from_the_environment(self, server: ServerProcess, name: str) -> None:
        command = (*COMMAND, "run", "--lock", name, "--", *SAY, "print(1)")
        done = run_to_its_end(*command, settings={"RESPLOCK_URL": url(server.port)})
        assert (done.status, done.output) == (0, "1\n")

    def test_one_that_is_not_there(self, server: ServerProcess, name: str) -> None:
        done = run_to_its_end(*words(server, name, "--", "no-such-command"))
        assert (done.status, done.errors) == (127, "resplock: no-such-command: not found\n")
        assert holder(server, name) is None

    def test_one_that_cannot_be_run(self, server: ServerProcess, name: str, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no program")
        done = run_to_its_end(*words(server, name, "--", str(tmp_path / "text")))
        assert done.status == 126
        assert done.errors == f"resplock: {tmp_path / 'text'}: Permission denied\n"
        assert holder(server, name) is None


class TestLock:
    def test_a_try_that_fails(self, server: ServerProcess, name: str) -> None:
        server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
        done = run_to_its_end(*words(server, name, "--wait", "0", "--", *SAY, "print(1)"))
        assert (done.status, done.output) == (124, "")
        assert done.errors == (
            f"resplock: the lock {name!r} was not had in time: it is held by 'somebody'\n"
        )

    def test_a_wait_that_fails(self, server: ServerProcess, name: str) -> None:
        server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
        began = now_ms()
        done = run_to_its_end(*words(server, name, "--wait", "0.5", "--", *SAY, "print(1)"))
        assert done.status == 124
        assert now_ms() - began >= 500
        assert server.call("LOCK.RELEASE", name, "somebody"), "and nobody is left in the queue"
        assert holder(server, name) is None

    def test_a_wait_that_is_worth_it(self, server: ServerProcess, name: str, start: Start) -> None:
        server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
        running = start(*words(server, name, "--", *SAY, FOR_EVER))
        eventually(lambda: by_field(server.call("LOCK.GET", name))["waiter_count"] == 1)
        server.call("LOCK.RELEASE", name, "somebody")
        running.says("started")

    def test_a_signal_while_it_waits_gives_the_place_up(
        self, server: ServerProcess, name: str, start: Start
    ) -> None:
        server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
        running = start(*words(server, name, "--", *SAY, FOR_EVER))
        eventually(lambda: by_field(server.call("LOCK.GET", name))["waiter_count"] == 1)
        running.signal(signal.SIGTERM)
        assert running.end() == (128 + signal.SIGTERM, "", "")
        assert by_field(server.call("LOCK.GET", name))["waiter_count"] == 0

    def test_it_is_renewed_for_longer_than_its_ttl(
        self, server: ServerProcess, name: str, start: Start
    ) -> None:
        code = "import time; print('started', flush=True); time.sleep(1.5)"
        running = start(*words(server, name, "--ttl", "0.4", "--", *SAY, code))
        running.says("started")
        version = by_field(server.call("LOCK.GET", name))["version"]
        status, _, errors = running.end()
        assert (status, errors) == (0, "")
        assert server.call("LOCK.CHECK", name, version) == 0

    def test_when_it_is_broken_the_command_is_ended(
        self, server: ServerProcess, name: str, start: Start
    ) -> None:
        running = start(*words(server, name, "--ttl", "0.5", "--", *SAY, FOR_EVER))
        running.says("started")
        server.call("LOCK.BREAK", name)
        status, _, errors = running.end()
        assert status == 123
        assert errors.startswith(
            f"resplock: the lock {name!r} was lost, ending the command: NOTHELD"
        )
        assert errors.count("\n") == 1

    def test_one_that_does_not_want_to_is_killed(
        self, server: ServerProcess, name: str, start: Start
    ) -> None:
        running = start(
            *words(server, name, "--ttl", "0.5", "--grace", "0.2", "--", *SAY, STUBBORN)
        )
        running.says("started")
        server.call("LOCK.BREAK", name)
        assert running.end()[0] == 123

    def test_a_server_that_dies_loses_the_lock(
        self, make_server: MakeServer, name: str, start: Start
    ) -> None:
        """Before the TTL is over on the server: nobody else can have the lock by then."""
        server = make_server().start()
        running = start(*words(server, name, "--ttl", "1", "--", *SAY, FOR_EVER))
        running.says("started")
        began = now_ms()
        server.kill9()
        status, _, errors = running.end()
        assert status == 123
        assert "not be renewed in time" in errors or "not renewed in time" in errors
        assert now_ms() - began < 3_000

    def test_a_server_that_comes_back_does_not(
        self, make_server: MakeServer, name: str, start: Start
    ) -> None:
        server = make_server().start()
        running = start(*words(server, name, "--ttl", "6", "--", *SAY, TELLS_SIGNALS))
        running.says("started")
        server.restart()
        version = by_field(server.call("LOCK.GET", name))["version"]
        renewed = by_field(server.call("LOCK.GET", name))["last_modified"]
        eventually(lambda: by_field(server.call("LOCK.GET", name))["last_modified"] > renewed)
        assert server.call("LOCK.CHECK", name, version) == 1
        running.signal(signal.SIGTERM)
        assert running.end()[0] == 7

    def test_after_a_pause_past_the_ttl_the_command_is_ended(
        self, server: ServerProcess, name: str, start: Start
    ) -> None:
        """SIGSTOP of all, as a suspended machine: somebody else has the lock, and a higher version."""
        running = start(
            *words(server, name, "--ttl", "0.5", "--", *SAY, FOR_EVER), start_new_session=True
        )
        running.says("started")
        group = os.getpgid(running.process.pid)
        os.killpg(group, signal.SIGSTOP)
        eventually(lambda: holder(server, name) is None)
        server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
        os.killpg(group, signal.SIGCONT)
        assert running.end()[0] == 123
        assert holder(server, name) == b"somebody"


class TestSignals:
    def test_they_are_passed_on(self, server: ServerProcess, name: str, start: Start) -> None:
        running = start(*words(server, name, "--", *SAY, TELLS_SIGNALS), start_new_session=True)
        running.says("started")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
            running.signal(number)
            running.says(number.name)
        assert running.end() == (7, "", "")
        assert holder(server, name) is None

    def test_when_this_process_is_killed_the_command_ends_too(
        self, server: ServerProcess, name: str, start: Start
    ) -> None:
        """Nobody would renew the lock; on Linux the kernel tells the command."""
        code = "import os; print(os.getpid(), flush=True); import time; time.sleep(1000)"
        running = start(*words(server, name, "--", *SAY, code))
        assert running.process.stdout is not None
        command = int(running.process.stdout.readline())
        running.signal(signal.SIGKILL)
        running.end()
        eventually(lambda: not _runs(command))


class TestServers:
    def test_without_one(self, name: str) -> None:
        ports = Ports()
        port = ports.take()
        done = run_to_its_end(
            *COMMAND, "run", "--url", url(port), "--lock", name, "--", *SAY, "print(1)"
        )
        ports.release()
        assert (done.status, done.output) == (125, "")
        assert done.errors.startswith(f"resplock: cannot take the lock {name!r}: ")
        assert "Connection refused" in done.errors
        assert "Traceback" not in done.errors

    def test_a_password(self, make_server: MakeServer, name: str) -> None:
        server = make_server("--requirepass=secret").start()
        done = run_to_its_end(*words(server, name, "--", *SAY, "print(1)"))
        assert done.status == 125
        assert "authenticate" in done.errors
        with_it = f"redis://:secret@127.0.0.1:{server.port}"
        done = run_to_its_end(
            *COMMAND, "run", "--url", with_it, "--lock", name, "--", *SAY, "print(1)"
        )
        assert (done.status, done.output) == (0, "1\n")

    def test_any_of_several(self, make_cluster: MakeCluster, name: str, start: Start) -> None:
        """The leader dies, and the lock stays."""
        cluster = make_cluster(3).start()
        leader = cluster.leader()
        nodes = [leader, *(node for node in cluster if node is not leader)]
        urls = [word for node in nodes for word in ("--url", url(node.port))]
        running = start(
            *COMMAND, "run", *urls, "--lock", name, "--ttl", "3", "--", *SAY, TELLS_SIGNALS
        )
        running.says("started")
        leader.kill9()
        eventually(lambda: cluster.leader() is not leader)
        other = cluster.leader()
        info = by_field(other.call("LOCK.GET", name))
        eventually(
            lambda: by_field(other.call("LOCK.GET", name))["last_modified"] > info["last_modified"]
        )
        running.signal(signal.SIGTERM)
        assert running.end() == (7, "SIGTERM\n", "")

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (("--url", "http://localhost", "--lock", "a", "--", "true"), "--url"),
            (("--lock", "a", "--ttl", "0", "--", "true"), "--ttl"),
            (("--lock", "a", "--wait", "-1", "--", "true"), "--wait"),
            (("--lock", "a"), "COMMAND"),
            (("--", "true"), "--lock"),
        ],
    )
    def test_wrong_options(self, wrong: tuple[str, ...], said: str) -> None:
        done = run_to_its_end(*COMMAND, "run", *wrong)
        assert done.status == 2
        assert said in done.errors
        assert "Traceback" not in done.errors

    def test_help(self) -> None:
        done = run_to_its_end(*COMMAND, "run", "--help")
        assert done.status == 0
        for said in ("RESPLOCK_VERSION", "123  the lock was lost", "-- COMMAND"):
            assert said in done.output
        assert max(map(len, done.output.splitlines())) <= 100


def _runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
