"""The command line: what it says of itself, where settings come from, and what it says of bad ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from resplock import __version__
from tests.e2e.conftest import MakeServer
from tests.e2e.process import COMMAND, START_LINE, Ended, run
from tests.tools import find_tool

SERVE = (*COMMAND, "serve")


class TestHelp:
    @pytest.mark.parametrize("flag", ["--version", "-V"])
    def test_version(self, flag: str) -> None:
        done = run(*COMMAND, flag)
        assert (done.status, done.output) == (0, f"resplock, version {__version__}\n")

    def test_the_installed_command_is_the_same(self) -> None:
        installed = Path(sys.executable).parent / "resplock"
        done = run(str(installed), "--version")
        assert (done.status, done.output) == (0, f"resplock, version {__version__}\n")

    @pytest.mark.parametrize("flag", ["--help", "-h"])
    def test_help(self, flag: str) -> None:
        done = run(*COMMAND, flag)
        assert done.status == 0
        assert "speaks the Redis protocol" in done.output
        commands = done.output.partition("Commands:\n")[2].splitlines()
        assert [" ".join(line.split()) for line in commands] == [
            "cluster Run a cluster of nodes on this machine.",
            "run Run a command while holding a lock.",
            "serve Run a lock server until it is told to stop.",
            "status Show the nodes of a cluster as a table.",
        ]

    def test_help_for_serve(self) -> None:
        done = run(*SERVE, "--help")
        assert done.status == 0
        for flag, default in {
            "--host": "127.0.0.1",
            "--port": "7379",
            "--data-dir": "resplock-data",
            "--node-id": "n1",
            "--cluster": "",
            "--join": "",
            "--peer-port": "(port + 10000)",
            "--announce-host": "",
            "--on-follower": "forward",
            "--announce-cluster": "",
            "--leader-lease": "",
            "--requirepass": "",
            "--protected-mode / --no-protected-mode": "protected-mode",
            "--maxclients": "10000",
            "--timeout": "0",
            "--snapshot-entries": "1000000",
            "--accept-data-loss": "",
            "--log-level": "info",
            "--log-format": "text",
            "--config": "",
        }.items():
            _, found, rest = done.output.partition(f"\n  {flag}")
            assert found, flag
            described = rest.partition("\n  --")[0]
            assert (
                f"default: {default}" in " ".join(described.split()).replace("- ", "-")
                or not default
            )
        assert "RESPLOCK_<NAME>" in done.output
        assert "A flag wins over" in done.output
        assert max(map(len, done.output.splitlines())) <= 100

    def test_no_command_shows_the_help(self) -> None:
        done = run(*COMMAND)
        assert done.status == 2
        assert "Commands:\n  cluster" in done.output + done.errors


class TestStartLine:
    def test_it_is_one_line_with_everything_to_try_it(self, make_server: MakeServer) -> None:
        server = make_server().start()
        match = START_LINE.fullmatch(server.start_line)
        assert match
        assert match["version"] == __version__
        assert match["host"] == "127.0.0.1"
        assert match["data"] == str(server.data_dir)
        assert match["try"].startswith(f"redis-cli -p {server.port} LOCK.ACQUIRE ")

    def test_what_it_suggests_works_on_another_address(self, make_server: MakeServer) -> None:
        server = make_server("--host=localhost")
        server.begin()
        match = START_LINE.fullmatch(server.wait_for_start_line())
        assert match
        assert match["host"] == "localhost"
        words = match["try"].split()
        assert words[1:3] == ["-h", "localhost"]
        done = run(find_tool("redis-cli"), *words[1:])
        assert "granted" in done.output

    def test_logs_are_structured(self, make_server: MakeServer) -> None:
        server = make_server("--log-format=json", "--log-level=info").start()
        assert server.terminate() == 0
        events = [json.loads(line) for line in server.log().splitlines()]
        assert [event["event"] for event in events] == [
            "log opened",
            "this server leads",
            "stopping",
            "stopped",
        ]
        assert all(event["level"] == "info" and event["timestamp"] for event in events)

    def test_a_quiet_one_logs_nothing(self, make_server: MakeServer) -> None:
        server = make_server("--log-level=error").start()
        assert server.terminate() == 0
        assert server.log() == ""


class TestPrecedence:
    """Defaults, then the file, then the environment, then flags: the last one wins."""

    FILE = "node-id = 'of-the-file'\nmaxclients = 11\ntimeout = 12\nprotected-mode = false\n"

    def test_each_wins_over_the_one_before(self, make_server: MakeServer) -> None:
        server = make_server(
            "--config=settings.toml",
            "--timeout=32",
            settings={"RESPLOCK_TIMEOUT": "22", "RESPLOCK_MAXCLIENTS": "21"},
        )
        (server.directory / "settings.toml").write_text(self.FILE)
        shown = server.start().call("CONFIG", "GET", "*")
        assert shown[b"node-id"] == b"of-the-file"
        assert shown[b"protected-mode"] == b"no"
        assert shown[b"maxclients"] == b"21"
        assert shown[b"timeout"] == b"32"
        assert shown[b"snapshot-entries"] == b"1000000"
        assert shown[b"port"] == str(server.port).encode()

    def test_all_from_the_environment(self, make_server: MakeServer) -> None:
        server = make_server(
            settings={
                "RESPLOCK_CONFIG": "settings.toml",
                "RESPLOCK_REQUIREPASS": "secret",
                "RESPLOCK_SNAPSHOT_ENTRIES": "5",
                "RESPLOCK_PROTECTED_MODE": "yes",
            }
        )
        (server.directory / "settings.toml").write_text(self.FILE)
        server.start()
        with server.wire(protocol=3, password="secret") as wire:
            shown = wire.call("CONFIG", "GET", "*")
        assert shown[b"node-id"] == b"of-the-file"
        assert shown[b"snapshot-entries"] == b"5"
        assert shown[b"protected-mode"] == b"yes"
        assert b"secret" not in shown[b"requirepass"]

    def test_a_file_with_underscores_and_numbers_as_text(self, make_server: MakeServer) -> None:
        server = make_server("--config=settings.toml")
        (server.directory / "settings.toml").write_text("snapshot_entries = '7'\nmaxclients = 8\n")
        shown = server.start().call("CONFIG", "GET", "snapshot-entries", "maxclients")
        assert shown == {b"maxclients": b"8", b"snapshot-entries": b"7"}


def refused(done: Ended, *words: str) -> None:
    """A usage error: status 2, one message with these words, and where to read more."""
    assert done.status == 2, done
    assert done.output == "", done
    assert "Traceback" not in done.errors, done
    assert "serve --help" in done.errors, done
    message = done.errors.partition("Error: ")[2]
    for word in words:
        assert word in message, done


class TestBadSettings:
    @pytest.mark.parametrize(
        ("flag", "value", "words"),
        [
            ("--port", "65536", ["65536", "0<=x<=65535"]),
            ("--port", "-1", ["-1", "0<=x<=65535"]),
            ("--port", "http", ["'http'", "not a valid integer"]),
            ("--node-id", "two words", ["'two words'", "1 to 64 letters"]),
            ("--node-id", "", ["1 to 64 letters"]),
            ("--node-id", "n" * 65, ["1 to 64 letters"]),
            ("--cluster", "n1", ["'n1'", "id=host:port[@peerport]"]),
            ("--cluster", "", ["''", "id=host:port[@peerport]"]),
            ("--cluster", "n1=a:1,n1=b:1", ["the id n1 is there twice"]),
            ("--join", "nowhere", ["'nowhere' is not an address"]),
            ("--peer-port", "70000", ["0<=x<=65535"]),
            ("--on-follower", "ignore", ["'forward', 'redirect'"]),
            ("--maxclients", "0", ["0", "1<=x<=1000000"]),
            ("--timeout", "-1", ["-1", "x>=0"]),
            ("--snapshot-entries", "0", ["x>=1"]),
            ("--snapshot-entries", "many", ["'many'"]),
            ("--log-level", "loud", ["'loud'", "'debug', 'info', 'warning', 'error'"]),
            ("--log-format", "xml", ["'xml'", "'text', 'json'"]),
            ("--config", "nowhere.toml", ["nowhere.toml", "No such file"]),
        ],
    )
    def test_a_flag(self, tmp_path: Path, flag: str, value: str, words: list[str]) -> None:
        refused(run(*SERVE, flag, value, cwd=tmp_path), f"'{flag}'", *words)
        assert list(tmp_path.iterdir()) == [], "nothing was made"

    def test_two_flags_that_contradict_each_other(self, tmp_path: Path) -> None:
        cluster = "--cluster=n1=127.0.0.1:7001,n2=127.0.0.1:7002"
        for flags, words in [
            ((cluster, "--join=127.0.0.1:7001"), ["--cluster", "--join", "only one"]),
            ((cluster, "--node-id=n3"), ["--node-id n3", "which has n1, n2"]),
            ((cluster, "--port=7002"), ["--port 7002", "n1 is 127.0.0.1:7001@17001"]),
        ]:
            refused(run(*SERVE, *flags, cwd=tmp_path), *words)
        assert list(tmp_path.iterdir()) == [], "nothing was made"

    def test_an_unknown_flag_and_a_word_too_many(self, tmp_path: Path) -> None:
        refused(run(*SERVE, "--prot", "1", cwd=tmp_path), "--prot")
        refused(run(*SERVE, "7379", cwd=tmp_path), "7379")

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("RESPLOCK_PORT", "redis", ["--port", "'redis'"]),
            ("RESPLOCK_MAXCLIENTS", "1e6", ["--maxclients", "'1e6'"]),
            ("RESPLOCK_PROTECTED_MODE", "maybe", ["--protected-mode", "'maybe'"]),
            ("RESPLOCK_LOG_LEVEL", "INFORMATIVE", ["--log-level", "'INFORMATIVE'"]),
            ("RESPLOCK_NODE_ID", "a/b", ["--node-id", "'a/b'"]),
            ("RESPLOCK_CLUSTER", "n2=127.0.0.1:1", ["--node-id n1", "which has n2"]),
            ("RESPLOCK_CONFIG", "nowhere.toml", ["--config", "nowhere.toml"]),
        ],
    )
    def test_a_variable(self, tmp_path: Path, name: str, value: str, words: list[str]) -> None:
        refused(run(*SERVE, cwd=tmp_path, settings={name: value}), *words)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("prot = 1", ["no such setting: prot", "settings are", "port"]),
            ("[server]\nport = 1", ["no such setting: server"]),
            ("config = 'other.toml'", ["no such setting: config"]),
            ("port = = 1", ["not valid TOML", "line 1"]),
            ("port = 1\nport = 2", ["not valid TOML", "Cannot overwrite a value"]),
            ("port = 'abc'", ["--port", "'abc'"]),
            ("port = 1.5", ["settings.toml: port must be"]),
            ("port = true", ["--port"]),
            ("port = [1]", ["settings.toml: port must be"]),
            ("data-dir = 2020-01-01", ["settings.toml: data_dir must be"]),
            ("host = ['a', 'b']", ["settings.toml: host must be"]),
            ("protected-mode = 3", ["--protected-mode"]),
            ("maxclients = 0", ["--maxclients", "1<=x<=1000000"]),
            ("node-id = 'a b'", ["--node-id", "'a b'"]),
            ("cluster = 'n1=127.0.0.1:1'\nport = 2", ["--port 2", "127.0.0.1:1"]),
        ],
    )
    def test_a_file(self, tmp_path: Path, text: str, words: list[str]) -> None:
        (tmp_path / "settings.toml").write_text(text)
        refused(run(*SERVE, "--config", "settings.toml", cwd=tmp_path), *words)

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "settings.toml").write_bytes(b"\xff\xfe\x00")
        refused(run(*SERVE, "--config", "settings.toml", cwd=tmp_path), "not valid TOML")
        refused(run(*SERVE, "--config", ".", cwd=tmp_path), "Is a directory")
