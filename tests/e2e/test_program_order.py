"""One connection's commands take effect, and are answered, in the order in which they were sent."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from tests.e2e.process import ServerProcess
from tests.e2e.wire import Failure, Map, Wire, by_field, command

Words = tuple[object, ...]


def statuses(replies: list[Any]) -> list[Any]:
    """Replies in short: the status of an ACQUIRE, the owner of a GET, the code of an error."""
    return [in_short(reply) for reply in replies]


def in_short(reply: Any) -> Any:
    if isinstance(reply, Failure):
        return reply.code
    if isinstance(reply, Map) or (isinstance(reply, list) and len(reply) > 2):
        fields = by_field(reply)
        for name in ("status", "owner", "released", "proto", "version"):
            if name in fields:
                value = fields[name]
                return value.decode() if isinstance(value, bytes) else value
    return reply


class TestMixed:
    def test_kinds_of_commands(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            replies = wire.pipeline(
                ("PING", "0"),
                ("LOCK.ACQUIRE", "m", "a"),
                ("PING", "1"),
                ("LOCK.GET", "m"),
                ("LOCK.ACQUIRE", "m", "b"),
                ("LOCK.NONE",),
                ("LOCK.RELEASE", "m", "a"),
                ("LOCK.GET", "m"),
                ("PING", "2"),
                ("LOCK.ACQUIRE", "m", "b", "TTL", "x"),
                ("LOCK.ACQUIRE", "m"),
                ("LOCK.ACQUIRE", "m", "b"),
                ("CLIENT", "NONE"),
                ("LOCK.RELEASE", "m", "a"),
                ("DBSIZE",),
                ("PING", "3"),
            )
        assert statuses(replies) == [
            *(b"0", "granted", b"1", "a", "held", "ERR", 1, None, b"2"),
            *("ERR", "ERR", "granted", "ERR", "NOTOWNER", replies[-2], b"3"),
        ]

    @pytest.mark.parametrize(
        "kinds",
        [
            ("PING", "LOCK.ACQUIRE o me"),
            ("LOCK.ACQUIRE o me", "PING"),
            ("LOCK.GET o", "PING"),
            ("LOCK.GET o", "LOCK.ACQUIRE o me"),
            ("NONE", "LOCK.ACQUIRE o me"),
            ("RAFT.SNAPSHOT", "PING"),
            ("RAFT.HEALTH", "LOCK.LIST COUNT 1", "SELECT 0", "LOCK.RELEASE o me"),
        ],
        ids=" then ".join,
    )
    def test_any_alternation(self, server: ServerProcess, kinds: tuple[str, ...]) -> None:
        """Each is answered alone, so a hundred of them are, however they meet the log."""
        with server.wire() as wire:
            commands: list[Words] = [tuple(kinds[n % len(kinds)].split()) for n in range(100)]
            replies = wire.pipeline(*commands)
            assert wire.call("PING", "behind") == b"behind"
        for words, reply in zip(commands, replies, strict=True):
            if words[0] == "PING":
                assert reply == "PONG"
            if words[0] == "LOCK.ACQUIRE":
                assert in_short(reply) == "granted"

    def test_another_database_in_the_middle(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            replies = wire.pipeline(
                ("LOCK.ACQUIRE", "d", "a"),
                ("SELECT", 1),
                ("LOCK.ACQUIRE", "d", "b"),
                ("SELECT", 16),
                ("LOCK.GET", "d"),
                ("SELECT", 0),
                ("LOCK.GET", "d"),
            )
        assert statuses(replies) == ["granted", "OK", "granted", "ERR", "b", "OK", "a"]

    def test_another_protocol_in_the_middle(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            ask: Words = ("LOCK.GET", "p")
            replies = wire.pipeline(
                ("LOCK.ACQUIRE", "p", "me"),
                ask,
                ("HELLO", 3),
                ask,
                ("LOCK.ACQUIRE", "p", "me"),
                ("HELLO", 2),
                ask,
                ("LOCK.ACQUIRE", "p", "me"),
            )
        kinds = [type(reply) for reply in replies]
        assert kinds == [list, list, Map, Map, Map, list, list, list]

    def test_everything_put_back_in_the_middle(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            replies = wire.pipeline(
                ("SELECT", 5),
                ("CLIENT", "SETNAME", "me"),
                ("LOCK.ACQUIRE", "r", "me"),
                ("RESET",),
                ("CLIENT", "GETNAME"),
                ("LOCK.GET", "r"),
                ("LOCK.ACQUIRE", "r", "me"),
            )
        assert statuses(replies) == ["OK", "OK", "granted", "RESET", None, None, "granted"]
        assert (type(replies[2]), type(replies[-1])) == (Map, list)


class TestReplies:
    """CLIENT REPLY OFF, SKIP and ON."""

    def test_off_and_on(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            wire.send_bytes(
                b"".join(
                    command(*words.split())
                    for words in (
                        "LOCK.ACQUIRE q1 me",
                        "CLIENT REPLY OFF",
                        "LOCK.ACQUIRE q2 me",
                        "LOCK.GET q2",
                        "NONE",
                        "LOCK.ACQUIRE q2 me TTL x",
                        "PING",
                        "HELLO 3",
                        "CLIENT REPLY SKIP",
                        "CLIENT REPLY ON",
                        "LOCK.GET q2",
                        "PING end",
                    )
                )
            )
            replies = [wire.receive() for _ in range(4)]
        assert statuses(replies) == ["granted", "OK", "me", b"end"]
        assert isinstance(replies[2], Map)

    @pytest.mark.parametrize(
        "skipped",
        ["LOCK.ACQUIRE s me", "LOCK.GET s", "PING", "NONE", "CLIENT NONE", "LOCK.GET", "SELECT 16"],
    )
    @pytest.mark.parametrize("next_one", ["LOCK.ACQUIRE n me", "LOCK.GET n", "PING"])
    def test_skip_leaves_out_one_reply(
        self, server: ServerProcess, skipped: str, next_one: str
    ) -> None:
        with server.wire() as wire:
            alone = wire.call(*next_one.split())
            for pipelined in (True, False):
                words = ["CLIENT REPLY SKIP", skipped, next_one, "PING end"]
                encoded = [command(*each.split()) for each in words]
                for data in [b"".join(encoded)] if pipelined else encoded:
                    wire.send_bytes(data)
                replies = [wire.receive(), wire.receive()]
                assert statuses(replies) == [in_short(alone), b"end"]

    def test_skip_twice_and_skip_then_on(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            for words in ("CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING a", "PING b"):
                wire.send(*words.split())
            assert wire.receive() == b"b"
            wire.send("CLIENT", "REPLY", "SKIP")
            assert wire.call("CLIENT", "REPLY", "ON") == "OK"
            assert wire.call("PING", "c") == b"c"


class TestEnds:
    def test_nothing_behind_quit_is_run(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            wire.send_bytes(
                command("LOCK.ACQUIRE", "before", "me")
                + command("QUIT")
                + command("LOCK.ACQUIRE", "behind", "me")
                + command("PING")
            )
            assert statuses(wire.receive_until_closed()) == ["granted", "OK"]
        assert server.call("LOCK.GET", "behind") is None
        assert server.call("LOCK.GET", "before") is not None

    def test_a_client_that_sends_no_more_is_still_answered(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            commands: list[Words] = []
            for number in range(500):
                commands += [("LOCK.ACQUIRE", f"eof/{number}", "me"), ("PING", number)]
            wire.send_bytes(b"".join(command(*words) for words in commands))
            wire.send_no_more()
            replies = wire.receive_until_closed()
        assert len(replies) == 1000
        assert replies[1::2] == [str(number).encode() for number in range(500)]

    def test_bytes_that_make_no_sense_are_answered_last(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            wire.send_bytes(
                command("LOCK.ACQUIRE", "nonsense", "me")
                + command("LOCK.GET", "nonsense")
                + b"*1\r\n:nonsense\r\n"
                + command("LOCK.RELEASE", "nonsense", "me")
            )
            replies = wire.receive_until_closed()
        assert statuses(replies) == ["granted", "me", "ERR"]
        assert replies[-1].startswith("ERR Protocol error")
        assert server.call("LOCK.GET", "nonsense") is not None

    def test_a_connection_that_is_gone_still_had_its_commands(self, server: ServerProcess) -> None:
        """Bytes that have arrived count, whether or not the client stayed for the reply."""
        with server.wire() as wire:
            wire.send_bytes(b"".join(command("LOCK.ACQUIRE", f"gone/{n}", "me") for n in range(9)))
            wire.send_no_more()
            wire.receive()
        with server.wire() as wire:
            owners = [wire.call("LOCK.GET", f"gone/{number}") for number in range(9)]
        assert None not in owners


class TestDepth:
    def test_ten_thousand_commands_in_one_write(self, server: ServerProcess) -> None:
        with server.wire() as wire:
            data = b"".join(command("LOCK.ACQUIRE", f"deep/{n % 50}", n % 7) for n in range(10_000))
            sender = Thread(target=wire.send_bytes, args=(data,))
            sender.start()
            held: dict[int, bytes] = {}
            for number in range(10_000):
                fields = by_field(wire.receive())
                mine = str(number % 7).encode()
                if fields["status"] == b"granted":
                    assert held.setdefault(number % 50, mine) == mine
                else:
                    assert fields["owner"] == held[number % 50] != mine
            sender.join()
            assert wire.call("PING", "end") == b"end"

    def test_large_replies_among_small_ones(self, server: ServerProcess) -> None:
        """A reply that is too long to be kept is sent at once, ahead of nothing."""
        large = b"x" * 65_536
        commands: list[Words] = [("LOCK.GET", "none"), ("ECHO", large)]
        commands += [("PING", number) for number in range(3_000)]
        commands += [("ECHO", b"%d" % number + large[5:]) for number in range(60)]
        with server.wire() as wire:
            data = b"".join(command(*words) for words in commands)
            sender = Thread(target=wire.send_bytes, args=(data,))
            sender.start()
            replies = [wire.receive() for _ in commands]
            sender.join()
        assert replies[2:3_002] == [b"%d" % number for number in range(3_000)]
        assert [int(reply.partition(b"x")[0]) for reply in replies[3_002:]] == list(range(60))


# --- any pipeline, compared with the same commands one by one -----------------------------------------


class Script:
    """Random commands of one connection, with which of them are answered."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.commands: list[Words] = []
        self.answered: list[bool] = []
        self.off = self.skipping = False
        for _ in range(self.rng.randrange(20, 300)):
            self.add(self.pick())
        self.add(("CLIENT", "REPLY", "ON"))
        self.add(("PING", "end"))

    def pick(self) -> Words:
        rng = self.rng
        key, owner = f"{self.seed}/{rng.randrange(4)}", f"{self.seed}/{rng.randrange(2)}"
        version: Words = rng.choice([(), (), ("VERSION", 1)])
        words: list[Words] = [
            ("LOCK.ACQUIRE", key, owner, "TTL", 0),
            ("lock.acquire", key, owner, "ttl", 0, "REQUEST", rng.randrange(3)),
            ("LOCK.RELEASE", key, owner, *version),
            ("LOCK.RENEW", key, owner, "TTL", 0),
            ("LOCK.KEEPALIVE", owner),
            ("LOCK.GET", key),
            ("LOCK.CHECK", key, 1),
            ("LOCK.LIST", "MATCH", f"{self.seed}/*"),
            ("LOCK.BREAK", key),
            ("PING",),
            ("PING", rng.randrange(1000)),
            ("ECHO", "x" * rng.randrange(0, 20_000)),
            ("SELECT", rng.randrange(3)),
            ("SELECT", 16),
            ("HELLO", rng.choice([2, 3, 4])),
            ("NONE", "a"),
            ("CLIENT", "NONE"),
            ("LOCK.ACQUIRE", key),
            ("LOCK.ACQUIRE", key, owner, "TTL", "x"),
            ("CLIENT", "SETNAME", f"name{rng.randrange(9)}"),
            ("CLIENT", "GETNAME"),
            ("CLIENT", "REPLY", rng.choice(["ON", "ON", "ON", "OFF", "SKIP", "SKIP"])),
        ]
        weights = [9, 3, 6, 3, 1, 9, 2, 1, 2, 4, 4, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2]
        return rng.choices(words, weights)[0]

    def add(self, words: Words) -> None:
        """Add a command, and work out as Redis does whether it is answered."""
        skipped, self.skipping = self.skipping, False
        answered = not self.off and not skipped
        if words[:2] == ("CLIENT", "REPLY"):
            self.off = words[2] == "OFF" or (words[2] == "SKIP" and self.off)
            self.skipping = words[2] == "SKIP" and not self.off
            answered = words[2] == "ON"
        self.commands.append(words)
        self.answered.append(answered)

    def one_by_one(self, wire: Wire) -> list[Any]:
        replies = []
        for words, answered in zip(self.commands, self.answered, strict=True):
            wire.send(*words)
            if answered:
                replies.append(wire.receive())
        wire.send_no_more()
        return replies + wire.receive_until_closed()

    def pipelined(self, wire: Wire) -> list[Any]:
        """All of it, cut anywhere; what is sent is read meanwhile."""
        data = b"".join(command(*words) for words in self.commands)
        cuts = sorted(self.rng.randrange(len(data)) for _ in range(self.rng.randrange(5)))

        def send() -> None:
            for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                wire.send_bytes(data[begin:end])
            wire.send_no_more()

        sender = Thread(target=send)
        sender.start()
        replies = wire.receive_until_closed()
        sender.join()
        return replies


class Comparable:
    """Makes replies of two runs equal: versions become the order in which they were seen."""

    CHANGING = frozenset(
        b"id acquired_at expires_at last_modified retry_after_ms backoff_initial_ms "
        b"backoff_max_ms".split()
    )

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}

    def rank(self, version: int) -> int:
        return self.versions.setdefault(version, len(self.versions))

    def of(self, reply: Any) -> Any:
        if isinstance(reply, Failure):
            return re.sub(r"(?<=version )\d+", lambda m: str(self.rank(int(m[0]))), reply)
        if isinstance(reply, Map):
            return self.fields(reply.items())
        if isinstance(reply, list) and reply[:1] in (
            [b"status"],
            [b"key"],
            [b"version"],
            [b"server"],
        ):
            return self.fields(zip(reply[::2], reply[1::2], strict=True))
        if isinstance(reply, list):
            return [self.of(each) for each in reply]
        return reply

    def fields(self, pairs: Any) -> list[Any]:
        return [
            (field, self.rank(value) if field == b"version" and type(value) is int else value)
            for field, value in pairs
            if field not in self.CHANGING
        ]


def comparable(replies: list[Any]) -> list[Any]:
    """The replies of one run, to be compared with another's."""
    made = Comparable()
    return [made.of(reply) for reply in replies]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Another server, for the same commands."""
    shared = ServerProcess(tmp_path_factory.mktemp("twin"))
    try:
        yield shared.start()
        assert shared.terminate() == 0
        shared.assert_clean_log()
    finally:
        shared.discard()


@pytest.mark.parametrize("seed", range(40))
def test_any_pipeline_is_as_if_one_by_one(
    server: ServerProcess, twin: ServerProcess, seed: int
) -> None:
    script = Script(seed)
    with server.wire() as wire:
        expected = script.one_by_one(wire)
    with twin.wire() as wire:
        given = script.pipelined(wire)
    wanted, got = comparable(expected), comparable(given)
    assert len(wanted) == sum(script.answered)
    for number, (want, have) in enumerate(zip(wanted, got, strict=False)):
        assert have == want, f"seed {seed}: reply {number}"
    assert len(got) == len(wanted)
    assert got[-1] == b"end"


def test_the_comparison_notices_a_swap(server: ServerProcess) -> None:
    with server.wire() as wire:
        replies = wire.pipeline(*[("LOCK.ACQUIRE", f"swap/{n % 2}", "me") for n in range(4)])
    first, second, *rest = replies
    assert comparable([first, second, *rest]) != comparable([second, first, *rest])
