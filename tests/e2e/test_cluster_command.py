"""`resplock cluster` and `resplock status`: a cluster on one machine, as a person runs it."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

from tests.e2e.process import COMMAND, Ended, environment, run
from tests.e2e.waiting import DEADLINE_S, eventually
from tests.e2e.wire import Wire
from tests.tools import find_tool

NODE_LINE = re.compile(
    r"(?P<id>n\d)  127\.0\.0\.1:(?P<port>\d+)@(?P<peer_port>\d+)  data (?P<data>\S+)  pid (?P<pid>\d+)"
)


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that are free, and so are those 10000 above them."""
    rng = random.Random()
    for _ in range(200):
        first = rng.randrange(20_000, 30_000)
        wanted = [*range(first, first + count), *range(first + 10_000, first + 10_000 + count)]
        sockets = [socket.socket() for _ in wanted]
        try:
            for each, port in zip(sockets, wanted, strict=True):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return first
    raise AssertionError("no free ports")


class ClusterCommand:
    """`resplock cluster` in a process of its own."""

    def __init__(self, directory: Path, *options: str, nodes: int = 3, port: int = 0) -> None:
        self.directory = directory
        self.nodes = nodes
        self.port = port or free_ports(nodes)
        self.options = options
        self.output: list[str] = []
        self.errors: list[str] = []
        self.process: subprocess.Popen[str]
        self._readers: list[threading.Thread] = []

    def begin(self) -> ClusterCommand:
        self.output, self.errors = [], []
        flags = (f"--nodes={self.nodes}", f"--port={self.port}", f"--data-dir={self.directory}")
        self.process = subprocess.Popen(
            (*COMMAND, "cluster", *flags, "--election-timeout-ms=300", *self.options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for stream, lines in (
                (self.process.stdout, self.output),
                (self.process.stderr, self.errors),
            )
        ]
        for reader in self._readers:
            reader.start()
        return self

    def start(self) -> ClusterCommand:
        """Begin, and wait for the ready line."""
        self.begin()
        eventually(lambda: self.ready_line or self.process.poll() is not None, "the ready line")
        assert self.ready_line, self.everything
        return self

    @property
    def everything(self) -> str:
        return "".join(self.output + self.errors)

    @property
    def ready_line(self) -> str:
        return next((line for line in self.output if line.startswith("ready: ")), "")

    @property
    def leader(self) -> str:
        return self.ready_line.split()[1]

    @property
    def pids(self) -> dict[str, int]:
        found = map(NODE_LINE.fullmatch, map(str.rstrip, self.output))
        return {match["id"]: int(match["pid"]) for match in found if match}

    def port_of(self, id: str) -> int:
        return self.port + int(id[1:]) - 1

    def wire(self, id: str = "n1", **options: object) -> Wire:
        return Wire(self.port_of(id), **options)

    def kill(self, id: str) -> None:
        os.kill(self.pids[id], signal.SIGKILL)
        eventually(lambda: any(line.startswith(f"{id} was killed") for line in self.errors))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it; its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return status

    def discard(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for pid in self.pids.values():
            eventually(lambda pid=pid: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


MakeCluster = Callable[..., ClusterCommand]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    made: list[ClusterCommand] = []

    def make(*options: str, **more: object) -> ClusterCommand:
        made.append(ClusterCommand(tmp_path / f"cluster{len(made)}", *options, **more))
        return made[-1]

    yield make
    for cluster in made:
        cluster.discard()


def status(port: int, *options: str, **settings: str) -> Ended:
    return run(*COMMAND, "status", f"--port={port}", *options, settings=settings)


class TestCluster:
    def test_it_runs_stops_and_keeps_its_locks(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster().start()
        assert cluster.ready_line == (
            f"ready: {cluster.leader} leads; try: redis-cli -p {cluster.port} "
            "LOCK.ACQUIRE orders/42 me TTL 30000\n"
        )
        assert list(cluster.pids) == ["n1", "n2", "n3"]
        assert sorted(path.name for path in cluster.directory.iterdir()) == ["n1", "n2", "n3"]
        words = cluster.ready_line.partition("try: ")[2].split()
        assert "granted" in run(find_tool("redis-cli"), *words[1:]).output
        for id in cluster.pids:
            with cluster.wire(id) as wire:
                assert wire.map("LOCK.ACQUIRE", f"of {id}", "me", "TTL", 0)["status"] == b"granted"
                assert wire.call("HELLO", 3)[b"mode"] == b"standalone"

        assert cluster.stop(signal.SIGINT) == 0
        assert not any(map(is_running, cluster.pids.values()))
        assert not [line for line in cluster.errors if " ended " in line or " killed" in line]
        stopped = [line[:2] for line in cluster.errors if re.search(r"stopped +applied", line)]
        assert len(stopped) == 3

        cluster.start()
        with cluster.wire("n2") as wire:
            for id in cluster.pids:
                assert wire.map("LOCK.GET", f"of {id}")["owner"] == b"me"
        assert cluster.stop() == 0

    def test_any_redis_client_finds_the_leader_and_follows_it(
        self, make_cluster: MakeCluster
    ) -> None:
        cluster = make_cluster("--log-level=warning").start()
        old, entry = cluster.leader, next(id for id in cluster.pids if id != cluster.leader)
        nodes = RedisCluster("127.0.0.1", cluster.port_of(entry))
        assert nodes.get_primaries()[0].port == cluster.port_of(old)
        assert len(nodes.get_replicas()) == 2
        addresses = [("127.0.0.1", cluster.port_of(id)) for id in cluster.pids]
        sentinel = Sentinel(addresses)
        assert sentinel.discover_master("resplock") == ("127.0.0.1", cluster.port_of(old))
        assert len(sentinel.discover_slaves("resplock")) == 2
        master = sentinel.master_for("resplock")
        with redis.Redis(port=cluster.port_of(entry)).pubsub() as listener:
            listener.subscribe("+switch-master")
            assert listener.get_message(timeout=DEADLINE_S)["type"] == "subscribe"
            cluster.kill(old)
            text = listener.get_message(timeout=DEADLINE_S)["data"].decode().split()
        assert text[:3] == ["resplock", "127.0.0.1", str(cluster.port_of(old))]
        new = int(text[4])
        assert nodes.execute_command("LOCK.ACQUIRE", "by the cluster client", "me")
        assert nodes.get_primaries()[0].port == new
        assert master.execute_command("LOCK.ACQUIRE", "by the sentinel client", "me")
        assert sentinel.discover_master("resplock") == ("127.0.0.1", new)

    def test_a_node_that_dies_is_reported_and_can_be_started_again(
        self, make_cluster: MakeCluster
    ) -> None:
        cluster = make_cluster("--log-level=error").start()
        cluster.kill("n2")
        [line] = [line for line in cluster.errors if line.startswith("n2 was killed")]
        how, _, again = line.rstrip().partition("; to start it again: ")
        assert how == "n2 was killed by signal 9"
        with cluster.wire("n1") as wire:
            granted = wire.call("LOCK.ACQUIRE", "still", "me")
            assert b"granted" in granted
        assert again.startswith("resplock serve --node-id n2 ")
        n2 = subprocess.Popen(
            [*COMMAND, *again.split()[1:]], stdout=subprocess.PIPE, env=environment(), text=True
        )
        try:
            assert n2.stdout is not None
            assert " ready on " in n2.stdout.readline()
            with cluster.wire("n2") as wire:
                held = eventually(lambda: wire.map("LOCK.GET", "still"))
                assert held["owner"] == b"me"
        finally:
            n2.terminate()
            n2.communicate(timeout=DEADLINE_S)
        assert cluster.stop() == 0

    def test_what_is_left_of_a_cluster_can_be_read_with_readonly(
        self, make_cluster: MakeCluster
    ) -> None:
        cluster = make_cluster("--log-level=error").start()
        last, *others = sorted(cluster.pids, key=lambda id: id == cluster.leader)
        with cluster.wire(last) as wire:
            assert wire.map("LOCK.ACQUIRE", "k", "me", "TTL", 0)["status"] == b"granted"
            assert wire.call("READONLY") == "OK"
            eventually(lambda: wire.call("GET", "k") is not None)
            for id in others:
                cluster.kill(id)
            assert wire.call("GET", "k") == b"me"
            assert wire.call("LOCK.ACQUIRE", "j", "me").code in ("CLUSTERDOWN", "INDOUBT")
            assert wire.call("LOCK.GET", "k").code == "CLUSTERDOWN", "nobody can tell its version"
            assert wire.call("READWRITE") == "OK"
            assert wire.call("GET", "k").code == "CLUSTERDOWN"

    def test_it_ends_when_no_node_is_left(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster("--log-level=error", nodes=1).start()
        cluster.kill("n1")
        assert cluster.wait() == 1

    def test_a_port_that_is_taken(self, make_cluster: MakeCluster) -> None:
        port = free_ports(1)
        with socket.create_server(("127.0.0.1", port)):
            cluster = make_cluster(nodes=1, port=port).begin()
            assert cluster.wait() == 1
        assert f"n1 | resplock: cannot listen on 127.0.0.1:{port}" in cluster.everything
        assert "n1 ended with status 1" in cluster.everything
        assert not cluster.ready_line

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the children")
    def test_its_nodes_do_not_outlive_it(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster("--log-level=error").start()
        cluster.process.kill()
        for pid in cluster.pids.values():
            eventually(lambda pid=pid: not is_running(pid))

    def test_settings_go_to_every_node_and_a_password_is_not_shown(
        self, make_cluster: MakeCluster
    ) -> None:
        cluster = make_cluster(
            "--requirepass=open sesame", "--on-follower=redirect", "--announce-cluster"
        ).start()
        assert " --askpass " in cluster.ready_line
        follower = next(id for id in cluster.pids if id != cluster.leader)
        with cluster.wire(follower, password="open sesame") as wire:
            moved = wire.call("LOCK.ACQUIRE", "foo", "me")
            assert moved == f"MOVED 12182 127.0.0.1:{cluster.port_of(cluster.leader)}"
            assert b"cluster" in wire.call("HELLO")
        for pid in cluster.pids.values():
            assert b"sesame" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert status(cluster.port).status == 1
        told = status(cluster.port, RESPLOCK_REQUIREPASS="open sesame")
        assert told.output.startswith("3 nodes, 3 up")

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--nodes=0"], ["--nodes", "1<=x<=9"]),
            (["--nodes=two"], ["--nodes", "'two'"]),
            (["--port=0"], ["--port", "1<=x<=65535"]),
            (["--port=60000"], ["60000 + 10000 is no port"]),
            (["--host=0.0.0.0"], ["nobody can be reached at 0.0.0.0"]),
            (["--on-follower=no"], ["'forward', 'redirect'"]),
            (["--join=a:1"], ["--join"]),
        ],
    )
    def test_bad_flags(self, tmp_path: Path, flags: list[str], words: list[str]) -> None:
        done = run(*COMMAND, "cluster", *flags, cwd=tmp_path)
        assert done.status == 2, done
        assert "cluster --help" in done.errors
        for word in words:
            assert word in done.errors
        assert list(tmp_path.iterdir()) == []


class TestStatus:
    def test_a_cluster_and_one_that_has_lost_nodes(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster("--log-level=error").start()
        followers = [id for id in cluster.pids if id != cluster.leader]

        def all_linked() -> Ended | None:
            done = status(cluster.port)
            return done if done.output.count("  up\n") == 2 else None

        done = eventually(all_linked)
        assert done.status == 0
        headline, blank, header, *rows = done.output.splitlines()
        assert headline.startswith(f"3 nodes, 3 up; {cluster.leader} leads term ")
        assert blank == ""
        assert header.split() == [
            *("NODE", "ROLE", "ADDRESS", "TERM", "COMMIT", "APPLIED", "LAG", "LINK")
        ]
        assert [row.split()[:3] for row in rows] == [
            [
                id,
                "leader" if id == cluster.leader else "follower",
                f"127.0.0.1:{cluster.port_of(id)}",
            ]
            for id in ("n1", "n2", "n3")
        ]
        assert "\x1b" not in done.output, "no colors into a pipe"

        cluster.kill(followers[0])
        done = status(cluster.port_of(followers[1]))
        assert done.status == 0
        [down] = [row for row in done.output.splitlines() if row.startswith(followers[0])]
        assert down.split()[1] == "down"
        assert "down: " in down

        cluster.kill(followers[1])
        done = status(cluster.port_of(cluster.leader))
        assert done.status == 1
        assert "3 nodes, 1 up" in done.output

    def test_a_single_server(self, make_cluster: MakeCluster) -> None:
        cluster = make_cluster(nodes=1).start()
        done = status(cluster.port)
        assert done.output.startswith("1 node, 1 up; n1 leads term 1\n")

    def test_nobody_there(self) -> None:
        port = free_ports(1)
        done = status(port)
        assert (done.status, done.output) == (1, "")
        assert done.errors == f"resplock: 127.0.0.1:{port} does not answer: connection refused\n"

    def test_a_server_that_is_no_resplock(self, tmp_path: Path) -> None:
        port = free_ports(1)
        other = subprocess.Popen(
            [find_tool("redis-server"), *f"--port {port} --dir {tmp_path} --save".split(), ""],
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: "unknown command" in status(port).errors)
        finally:
            other.terminate()
            other.wait()
