"""redis-cli as a person types it: the tour of the README, and the modes that tools use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.process import Ended, ServerProcess, run
from tests.e2e.terminal import Terminal
from tests.e2e.wire import command
from tests.tools import find_tool


@pytest.fixture(scope="module")
def cli() -> str:
    return find_tool("redis-cli")


class Cli:
    """redis-cli on a server."""

    def __init__(self, program: str, server: ServerProcess) -> None:
        self.words = (program, "-p", str(server.port))

    def run(self, *words: str, given: str | None = None) -> Ended:
        """Its exit status and output."""
        return run(*self.words, *words, given=given)

    def shows(self, *words: str) -> str:
        """What a person sees on a terminal, for a command that works."""
        done = self.run("--no-raw", *words)
        assert (done.status, done.errors) == (0, ""), done
        return done.output

    def json(self, *words: str) -> object:
        """The reply as JSON (so in RESP3)."""
        done = self.run("--json", *words)
        assert (done.status, done.errors) == (0, ""), done
        return json.loads(done.output)


@pytest.fixture
def redis_cli(cli: str, server: ServerProcess) -> Cli:
    return Cli(cli, server)


def without_numbers(text: str) -> str:
    """Versions, times and durations as N. `1)` and `1#` in front of a line stay."""
    return re.sub(r"\(integer\) \d{1,}", "(integer) N", text)


GRANTED = """\
1) "status"
2) "granted"
3) "version"
4) (integer) N
5) "ttl_ms"
6) (integer) N
7) "waiters"
8) (integer) N
"""

HELD = """\
 1) "status"
 2) "held"
 3) "owner"
 4) "worker-a"
 5) "version"
 6) (integer) N
 7) "ttl_ms"
 8) (integer) N
 9) "waiters"
10) (integer) N
11) "retry_after_ms"
12) (integer) N
13) "backoff_initial_ms"
14) (integer) N
15) "backoff_max_ms"
16) (integer) N
17) "backoff_multiplier"
18) "1.5"
19) "backoff_jitter"
20) "0.2"
"""

INFO_3 = """\
 1# "key" => "orders/42"
 2# "owner" => "worker-a"
 3# "mode" => "exclusive"
 4# "version" => (integer) N
 5# "acquired_at" => (integer) N
 6# "expires_at" => (integer) N
 7# "last_modified" => (integer) N
 8# "ttl_ms" => (integer) N
 9# "limit" => (integer) N
10# "waiter_count" => (integer) N
11# "metadata" => (empty hash)
"""

RELEASED = """\
1) "released"
2) (integer) N
3) "holds"
4) (integer) N
5) "promoted"
6) (nil)
"""


class TestTour:
    """What a new user types, line by line."""

    def test_acquire_refuse_look_release(self, redis_cli: Cli) -> None:
        shows = redis_cli.shows
        take = ("LOCK.ACQUIRE", "orders/42")
        assert without_numbers(shows(*take, "worker-a", "TTL", "30000")) == GRANTED
        assert without_numbers(shows(*take, "worker-b")) == HELD
        assert without_numbers(shows("-3", "LOCK.GET", "orders/42")) == INFO_3
        assert without_numbers(shows("LOCK.RELEASE", "orders/42", "worker-a")) == RELEASED
        assert shows("LOCK.GET", "orders/42") == "(nil)\n"
        assert shows("-3", "LOCK.GET", "orders/42") == "(nil)\n"

    def test_the_command_of_the_start_line(self, cli: str, server: ServerProcess) -> None:
        words = server.start_line.partition("; try: ")[2].split()
        done = run(cli, *words[1:], "META", "1", "from", "the start line")
        assert done.status == 0
        assert done.output.splitlines()[:3] == ["status", "granted", "version"]

    def test_in_json(self, redis_cli: Cli) -> None:
        granted = redis_cli.json("LOCK.ACQUIRE", "json", "me", "TTL", "5000", "META", "1", "a", "b")
        assert isinstance(granted, dict)
        version = granted.pop("version")
        assert granted == {"status": "granted", "ttl_ms": 5000, "waiters": 0}
        info = redis_cli.json("LOCK.GET", "json")
        assert isinstance(info, dict)
        assert (info["version"], info["metadata"]) == (version, {"a": "b"})
        advice = redis_cli.json("LOCK.BACKOFF", "json")
        assert isinstance(advice, dict)
        assert (advice["backoff_multiplier"], advice["backoff_jitter"]) == (1.5, 0.2)

    def test_an_error(self, redis_cli: Cli) -> None:
        error = "(error) NOTHELD nobody holds the lock 'nothing'\n"
        assert redis_cli.run("--no-raw", "LOCK.RELEASE", "nothing", "me").output == error
        refused = redis_cli.run("-e", "LOCK.ACQUIRE", "lock", "me", "TTL", "-5")
        assert refused.status == 1
        assert "TTL" in refused.errors
        assert "0 to 86400000" in refused.errors

    def test_the_documentation(self, redis_cli: Cli) -> None:
        docs = redis_cli.json("COMMAND", "DOCS", "LOCK.ACQUIRE")
        assert isinstance(docs, dict)
        acquire = docs["lock.acquire"]
        assert acquire["group"] == "lock"
        assert acquire["summary"].startswith("Takes a lock")
        tokens = [argument.get("token") for argument in acquire["arguments"]]
        assert tokens[:3] == [None, None, "TTL"]
        assert {"REQUEST", "META"} <= set(tokens)
        assert set(docs) == {"lock.acquire"}
        every = redis_cli.json("COMMAND", "DOCS")
        assert isinstance(every, dict)
        assert len(every) == redis_cli.json("COMMAND", "COUNT")
        assert redis_cli.shows("COMMAND", "DOCS", "LOCK.ACQUIRE").startswith('1) "lock.acquire"\n')

    def test_help(self, redis_cli: Cli) -> None:
        lines = redis_cli.json("LOCK.HELP")
        assert isinstance(lines, list)
        assert any(line.startswith("ACQUIRE key owner [TTL ms]") for line in lines)


class TestConnecting:
    def test_another_database(self, redis_cli: Cli) -> None:
        redis_cli.shows("-n", "3", "LOCK.ACQUIRE", "elsewhere", "me")
        assert redis_cli.shows("LOCK.GET", "elsewhere") == "(nil)\n"
        assert '"me"' in redis_cli.shows("-n", "3", "LOCK.GET", "elsewhere")
        assert redis_cli.shows("-n", "3", "DBSIZE") == "(integer) 1\n"
        assert "DB index is out of range" in redis_cli.run("-n", "16", "PING").errors

    @pytest.mark.parametrize("protocol", [[], ["-3"]])
    def test_with_a_password(self, cli: str, make_server: MakeServer, protocol: list[str]) -> None:
        redis_cli = Cli(cli, make_server("--requirepass", "open sesame").start())
        assert redis_cli.run(*protocol, "PING").output.startswith("NOAUTH ")
        wrong = redis_cli.run(*protocol, "--no-auth-warning", "-a", "no", "PING")
        assert "WRONGPASS" in wrong.output + wrong.errors
        right = ["--no-auth-warning", "-a", "open sesame"]
        assert redis_cli.run(*protocol, *right, "PING").output == "PONG\n"
        assert redis_cli.run(*protocol, *right, "--user", "default", "PING").output == "PONG\n"


class TestModes:
    def test_a_file_of_commands(self, redis_cli: Cli) -> None:
        done = redis_cli.run(given="LOCK.ACQUIRE typed me\nLOCK.CHECK typed 1\nPING\n")
        assert done.status == 0
        assert done.output.splitlines()[-2:] == ["0", "PONG"]

    def test_pipe_mixes_inline_and_arrays(self, redis_cli: Cli) -> None:
        lines = [
            f"LOCK.ACQUIRE piped/{number} pipe\r\n"
            if number % 2
            else command("LOCK.ACQUIRE", f"piped/{number}", "pipe").decode()
            for number in range(5_000)
        ]
        done = redis_cli.run("--pipe", given="".join(lines))
        assert done.status == 0, done
        assert "errors: 0, replies: 5000" in done.output
        assert redis_cli.json("LOCK.KEEPALIVE", "pipe") == 5_000

    def test_latency(self, redis_cli: Cli) -> None:
        done = redis_cli.run("--latency", "-i", "0.2")
        least, most, mean, samples = done.output.split()
        assert done.status == 0
        assert 0 <= int(least) <= float(mean) <= int(most)
        assert int(samples) > 0

    def test_stat(self, redis_cli: Cli) -> None:
        redis_cli.shows("-n", "5", "LOCK.ACQUIRE", "counted", "me")
        with Terminal(*redis_cli.words, "--stat", "-i", "0.1") as terminal:
            head = terminal.read_until("^keys .*\n")
            assert head.split()[-6:-1] == ["keys", "mem", "clients", "blocked", "requests"]
            keys, memory, clients, blocked, *_ = terminal.read_until(r"^\d.*\n").split()
        assert int(keys) >= 1
        assert memory.endswith(("M", "K"))
        assert (int(clients), int(blocked)) == (1, 0)

    def test_interactive(self, redis_cli: Cli, server: ServerProcess) -> None:
        prompt = rf"^127\.0\.0\.1:{server.port}(\[\d+\])?> "
        with Terminal(*redis_cli.words) as terminal:
            terminal.read_until(prompt)
            terminal.type("LOCK.ACQUIRE by-hand me")
            assert '2) "granted"' in terminal.read_until(prompt)
            terminal.type("HELLO 3")
            assert '3# "proto" => (integer) 3' in terminal.read_until(prompt)
            terminal.type("lock.get by-hand")
            assert '"owner" => "me"' in terminal.read_until(prompt)
            terminal.type("select 2")
            assert "OK" in terminal.read_until(prompt)
            terminal.type("LOCK.GET by-hand")
            answer = terminal.read_until(prompt)
            assert "(nil)" in answer
            assert f"{server.port}[2]> " in answer
            terminal.type("help LOCK.RELEASE")  # from COMMAND DOCS, read when it connected
            answer = re.sub(r"\x1b\[\d+m", "", terminal.read_until(prompt))
            assert "LOCK.RELEASE key owner [VERSION version]" in answer
            assert "summary: Gives a lock back." in answer
            terminal.type("FLY ME")
            assert "(error) ERR unknown command 'FLY'" in terminal.read_until(prompt)

    def test_latency_history(self, redis_cli: Cli) -> None:
        with Terminal(*redis_cli.words, "--latency-history", "-i", "0.1") as terminal:
            line = terminal.read_until(r"seconds range")
        assert re.search(r"min: \d+, max: \d+, avg: [\d.]+ \(\d+ samples\)", line)

    def test_the_keys(self, redis_cli: Cli) -> None:
        for key in ("scanned/1", "scanned/2", "other"):
            redis_cli.shows("-n", "7", "SET", key, "v" * 100, "PX", "600000")
        found = redis_cli.run("-n", "7", "--scan", "--pattern", "scanned/*").output.split()
        assert sorted(found) == ["scanned/1", "scanned/2"]
        for mode, unit in (("--bigkeys", "has 100 bytes"), ("--memkeys", "bytes")):
            done = redis_cli.run("-n", "7", mode)
            assert (done.status, done.errors) == (0, ""), done
            assert "Sampled 3 keys in the keyspace!" in done.output
            assert re.search(rf"Biggest string found .* {unit}", done.output)

    def test_a_script_from_a_file(self, redis_cli: Cli, tmp_path: Path) -> None:
        script = tmp_path / "take.lua"
        script.write_text("return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', 60000)\n")
        words = ("--eval", str(script), "by-script", ",", "me")
        assert redis_cli.run(*words).output == "OK\n"
        assert redis_cli.run(*words).output == "\n"  # nil: it is held

    def test_csv_and_repeats(self, redis_cli: Cli) -> None:
        assert redis_cli.run("-r", "3", "-i", "0.01", "INCR", "counter").output == "1\n2\n3\n"
        done = redis_cli.run("--csv", "MGET", "counter", "nothing")
        assert done.output == '"3",NULL\n'

    def test_monitor(self, redis_cli: Cli, server: ServerProcess) -> None:
        with Terminal(*redis_cli.words, "MONITOR") as terminal:
            terminal.read_until("^OK\n")
            redis_cli.shows("-n", "2", "SET", "watched", 'a "word"')
            line = terminal.read_until('"SET".*\n').splitlines()[-1]
        assert re.fullmatch(
            r'\d{10}\.\d{6} \[2 127\.0\.0\.1:\d+\] "SET" "watched" "a \\"word\\""', line
        )

    def test_what_a_lock_server_has_not(self, redis_cli: Cli) -> None:
        redis_cli.shows("SET", "not-hot", "me")
        assert redis_cli.run("--rdb", "-").status == 1
        assert "ERR An LFU maxmemory policy is not selected" in redis_cli.run("--hotkeys").errors
