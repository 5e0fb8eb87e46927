"""redis-py, sync and asyncio, in both protocols: what a Python program sees without a line of ours."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.e2e.conftest import MakeServer
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import now_ms
from tests.e2e.wire import by_field

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants a password."""
    settings = {"RESPLOCK_REQUIREPASS": PASSWORD}
    shared = ServerProcess(tmp_path_factory.mktemp("guarded"), settings=settings)
    try:
        yield shared.start()
        assert shared.terminate() == 0
        shared.assert_clean_log()
    finally:
        shared.discard()


class Program:
    """redis-py as one of four kinds of program uses it: sync or asyncio, RESP2 or RESP3."""

    def __init__(self, module: Any, protocol: int) -> None:
        self.module = module
        self.protocol = protocol
        self.clients: list[Any] = []

    def client(self, server: ServerProcess, **options: Any) -> Any:
        """A client; it is closed when the test ends."""
        made = self.module.Redis(
            host="127.0.0.1", port=server.port, protocol=self.protocol, **options
        )
        self.clients.append(made)
        return made

    def map(self, reply: Any) -> dict[str, Any]:
        """A reply with fields: a dict in RESP3, a flat list in RESP2, and nothing else."""
        assert isinstance(reply, dict if self.protocol == 3 else list), reply
        return by_field(reply)

    def number(self, reply: Any) -> float:
        """A double in RESP3, text in RESP2."""
        assert isinstance(reply, float if self.protocol == 3 else bytes), reply
        return float(reply)

    async def close(self) -> None:
        for client in self.clients:
            await here(client.aclose() if hasattr(client, "aclose") else client.close())


async def here(value: Any) -> Any:
    """What a sync client returns, or an asyncio client's awaitable gives."""
    return await value if inspect.isawaitable(value) else value


async def call(client: Any, *words: Any) -> Any:
    """One command."""
    return await here(client.execute_command(*words))


@pytest.fixture(
    params=[
        pytest.param((module, protocol), id=f"{name}-resp{protocol}")
        for name, module in (("sync", redis), ("asyncio", redis.asyncio))
        for protocol in (2, 3)
    ]
)
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    made = Program(*request.param)
    yield made
    await made.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A lock that no other test touches."""
    return f"lock of {request.node.name}"


async def test_the_one_line_of_the_readme(server: ServerProcess) -> None:
    with redis.Redis(port=server.port) as client:
        reply = client.execute_command("LOCK.ACQUIRE", "a", "me")
    assert by_field(reply)["status"] == b"granted"


class TestCommands:
    async def test_acquire_and_release(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client, fields = program.client(server), program.map
        granted = fields(await call(client, "LOCK.ACQUIRE", key, "a", "TTL", 30_000))
        version = granted.pop("version")
        assert granted == {"status": b"granted", "ttl_ms": 30_000, "waiters": 0}
        held = fields(await call(client, "LOCK.ACQUIRE", key, "b"))
        assert (held["status"], held["owner"], held["version"]) == (b"held", b"a", version)
        assert 0 < held["ttl_ms"] <= 30_000
        assert held["retry_after_ms"] > 0
        assert program.number(held["backoff_multiplier"]) == 1.5
        assert program.number(held["backoff_jitter"]) == 0.2
        again = fields(await call(client, "LOCK.ACQUIRE", key, "a", "TTL", 1_000))
        assert again["version"] == version
        assert again["ttl_ms"] > 1_000, "the same owner's TTL is never shortened"
        released = fields(await call(client, "LOCK.RELEASE", key, "a", "VERSION", version))
        assert released == {"released": 1, "holds": 0, "promoted": None}
        next_one = fields(await call(client, "LOCK.ACQUIRE", key, "b"))
        assert next_one["version"] > version

    async def test_renew_and_keepalive(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client, fields = program.client(server), program.map
        owner = f"owner of {key}"
        one = fields(await call(client, "LOCK.ACQUIRE", key, owner))["version"]
        two = fields(await call(client, "LOCK.ACQUIRE", key + "2", owner, "TTL", 0))["version"]
        renewed = fields(await call(client, "LOCK.RENEW", key, owner, "TTL", 5_000))
        assert renewed == {"version": one, "ttl_ms": 5_000}
        assert await call(client, "LOCK.KEEPALIVE", owner, "TTL", 7_000) == 2
        pairs = (key, one, key + "2", two + 1, "never", 1)
        lost = await call(client, "LOCK.KEEPALIVE", owner, "VERSIONS", 3, *pairs)
        assert lost == [f"{key}2".encode(), b"never"]
        assert await call(client, "LOCK.KEEPALIVE", f"nobody of {key}") == 0

    async def test_get_and_check(self, server: ServerProcess, program: Program, key: str) -> None:
        client, fields = program.client(server), program.map
        assert await call(client, "LOCK.GET", key) is None
        granted = await call(client, "LOCK.ACQUIRE", key, "me", "META", 2, "pid", 7, "host", b"\0x")
        version = fields(granted)["version"]
        info = fields(await call(client, "LOCK.GET", key, "WAITERS"))
        assert list(info) == [
            "key",
            "owner",
            "mode",
            "version",
            "acquired_at",
            "expires_at",
            "last_modified",
            "ttl_ms",
            "limit",
            "waiter_count",
            "metadata",
            "waiters",
        ]
        assert list(fields(await call(client, "LOCK.GET", key))) == list(info)[:-1]
        assert info["waiters"] == []
        assert info["key"] == key.encode()
        assert (info["owner"], info["mode"]) == (b"me", b"exclusive")
        assert info["version"] == version
        assert info["expires_at"] == info["acquired_at"] + 30_000
        assert fields(info["metadata"]) == {"pid": b"7", "host": b"\0x"}
        assert await call(client, "LOCK.CHECK", key, version) == 1
        assert await call(client, "LOCK.CHECK", key, version + 1) == 0

    async def test_backoff_break_and_stats(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client, fields = program.client(server), program.map
        free = fields(await call(client, "LOCK.BACKOFF", key))
        assert (free["backoff_initial_ms"], free["backoff_max_ms"]) == (50, 1_000)
        assert program.number(free["backoff_multiplier"]) == 1.5
        version = fields(await call(client, "LOCK.ACQUIRE", key, "me"))["version"]
        before = fields(await call(client, "LOCK.STATS"))
        broken = await call(client, "LOCK.BREAK", key, "VERSION", version, "REASON", "it hangs")
        assert broken == 1
        after = fields(await call(client, "LOCK.STATS"))
        assert after["broken"] == before["broken"] + 1
        assert after["active_locks"] == before["active_locks"] - 1
        assert after["last_version"] >= version
        assert all(isinstance(value, int) for value in after.values())

    async def test_list(self, server: ServerProcess, program: Program, key: str) -> None:
        client, fields = program.client(server), program.map
        names = {f"{key}/{number}".encode() for number in range(25)}
        for name in names:
            await call(client, "LOCK.ACQUIRE", name, key)
        found: list[bytes] = []
        cursor: bytes = b"0"
        while True:
            words = ("LOCK.LIST", "CURSOR", cursor, "OWNER", "lock of *", "COUNT", 10)
            page = await call(client, *words, "MATCH", f"{key.replace('[', '?')}/*")
            cursor, locks = page
            assert len(locks) <= 10
            found += [fields(lock)["key"] for lock in locks]
            if cursor == b"0":
                break
        assert sorted(found) == sorted(names)

    async def test_help_lists_every_command(self, server: ServerProcess, program: Program) -> None:
        lines = await call(program.client(server), "LOCK.HELP")
        first_words = {line.split()[0] for line in lines if not line.startswith(b" ")}
        assert {b"ACQUIRE", b"RELEASE", b"RENEW", b"KEEPALIVE", b"GET", b"LIST"} <= first_words
        assert {b"BACKOFF", b"CHECK", b"BREAK", b"STATS", b"HELP"} <= first_words

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (("SHARED", "LIMIT", 2), "SHARED and LIMIT contradict each other"),
            (("REENTRANT", "SHARED"), "SHARED and REENTRANT contradict each other"),
            (("LIMIT", 2, "REENTRANT"), "LIMIT and REENTRANT contradict each other"),
            (("LIMIT", 2, "PERMITS", 3), "PERMITS must be at most LIMIT, which is 2, got 3"),
            (("PERMITS", 3), "PERMITS is allowed only behind LIMIT n"),
            (("WAIT", -1), "WAIT must be an integer from 0 to 600000 milliseconds"),
        ],
        ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
    )
    async def test_what_contradicts_says_which(
        self, server: ServerProcess, program: Program, words: tuple[Any, ...], error: str
    ) -> None:
        with pytest.raises(redis.ResponseError, match=error):
            await call(program.client(server), "LOCK.ACQUIRE", "key", "me", *words)

    async def test_redis_commands_through_their_methods(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client = program.client(server, client_name="tester")
        assert await here(client.ping()) is True
        assert await here(client.echo("hello")) == b"hello"
        assert (await here(client.client_info()))["name"] == "tester"
        mine = await here(client.client_id())
        listed = await here(client.client_list())
        assert str(mine) in {each["id"] for each in listed}
        assert int(await here(client.dbsize())) >= 0
        seconds, microseconds = await here(client.time())
        assert seconds > 1_700_000_000
        assert 0 <= microseconds < 1_000_000
        info = await here(client.info())
        assert info["redis_version"].startswith("7.2.")
        assert (info["role"], info["loading"], info["cluster_enabled"]) == ("master", 0, 0)
        assert (await here(client.config_get("databases")))["databases"] == "16"
        assert (await here(client.role()))[0] == b"master"
        assert await here(client.command_count()) > 20
        assert "lock.acquire" in await here(client.command())
        docs = await call(client, "COMMAND DOCS", "lock.get")  # else it is read as COMMAND's reply
        assert program.map(docs).keys() == {"lock.get"}
        keys = await here(client.command_getkeys("LOCK.ACQUIRE", key, "me", "TTL", "5"))
        assert keys in ([key], [key.encode()])  # redis-py decodes them in RESP2 only


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (("LOCK.RELEASE", "free", "me"), "NOTHELD nobody holds the lock 'free'"),
            (("LOCK.RENEW", "free", "me"), "NOTHELD nobody holds the lock 'free'"),
            (("LOCK.BREAK", "free"), "NOTHELD nobody holds the lock 'free'"),
            (
                ("LOCK.RELEASE", "taken", "other"),
                "NOTOWNER the lock 'taken' is held by 'holder' with version ",
            ),
            (("LOCK.RENEW", "taken", "other"), "NOTOWNER the lock 'taken' is held by 'holder'"),
            (("LOCK.RELEASE", "taken", "holder", "VERSION", 1), "STALE the lock 'taken' is held"),
            (("LOCK.RENEW", "taken", "holder", "VERSION", 1), "STALE the lock 'taken' is held"),
            (("LOCK.BREAK", "taken", "VERSION", 1), "STALE the lock 'taken' is held"),
        ],
        ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value)),
    )
    async def test_an_error_keeps_its_code(
        self, server: ServerProcess, program: Program, words: tuple[Any, ...], text: str
    ) -> None:
        client = program.client(server)
        await call(client, "LOCK.ACQUIRE", "taken", "holder", "TTL", 0)
        with pytest.raises(redis.ResponseError) as caught:
            await call(client, *words)
        assert type(caught.value) is redis.ResponseError
        assert str(caught.value).startswith(text)

    async def test_a_wrong_call_is_an_err(self, server: ServerProcess, program: Program) -> None:
        client = program.client(server)
        with pytest.raises(redis.ResponseError, match="wrong number of arguments") as caught:
            await call(client, "LOCK.ACQUIRE", "key")
        assert "LOCK.ACQUIRE key owner [TTL ms]" in str(caught.value)
        with pytest.raises(redis.ResponseError, match=r"unknown command 'LOCK\.FLY'"):
            await call(client, "LOCK.FLY", "key")
        with pytest.raises(redis.ResponseError, match=r"TTL .*0 to 86400000"):
            await call(client, "LOCK.ACQUIRE", "key", "me", "TTL", 86_400_001)
        with pytest.raises(redis.ResponseError, match="CURSOR"):
            await call(client, "LOCK.LIST", "CURSOR", "nonsense")
        assert await here(client.ping()) is True

    async def test_a_line_end_in_an_argument_stays_out_of_the_error(
        self, server: ServerProcess, program: Program
    ) -> None:
        client = program.client(server)
        with pytest.raises(redis.ResponseError, match="NOTHELD"):
            await call(client, "LOCK.RELEASE", b"a\r\n+OK\r\n\0", "me")
        assert await here(client.echo("in step")) == b"in step"


class TestPipelines:
    async def test_without_a_transaction(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client, fields = program.client(server), program.map
        async with AsyncPipeline(client) as pipeline:
            for number in range(300):
                pipeline.execute_command("LOCK.ACQUIRE", f"{key}/{number}", "me")
            pipeline.execute_command("LOCK.GET", f"{key}/7")
            pipeline.execute_command("LOCK.RELEASE", f"{key}/7", "me")
            pipeline.execute_command("LOCK.GET", f"{key}/7")
            pipeline.execute_command("PING")
            replies = await here(pipeline.execute())
        *granted, info, released, gone, pong = replies
        versions = [fields(each)["version"] for each in granted]
        assert versions == sorted(set(versions))
        assert fields(info)["version"] == versions[7]
        assert fields(released)["released"] == 1
        assert gone is None
        assert pong in (True, b"PONG")

    async def test_an_error_in_the_middle_is_one_reply(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client, fields = program.client(server), program.map
        async with AsyncPipeline(client) as pipeline:
            pipeline.execute_command("LOCK.ACQUIRE", key, "me")
            pipeline.execute_command("LOCK.RELEASE", key, "not me")
            pipeline.execute_command("LOCK.ACQUIRE", key, "me", "TTL", "soon")
            pipeline.execute_command("LOCK.RELEASE", key, "me")
            first, refused, wrong, last = await here(pipeline.execute(raise_on_error=False))
        assert fields(first)["status"] == b"granted"
        assert str(refused).startswith("NOTOWNER ")
        assert isinstance(wrong, redis.ResponseError)
        assert fields(last)["released"] == 1


class AsyncPipeline:
    """`with` or `async with` on a pipeline of either kind of client."""

    def __init__(self, client: Any) -> None:
        self._pipeline = client.pipeline(transaction=False)

    async def __aenter__(self) -> Any:
        return self._pipeline

    async def __aexit__(self, *_: object) -> None:
        await here(self._pipeline.reset())


class TestOptions:
    async def test_decode_responses(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client = program.client(server, decode_responses=True)
        owner = "größe"
        granted = await call(client, "LOCK.ACQUIRE", key, owner)
        info = await call(client, "LOCK.GET", key)
        if program.protocol == 3:
            assert granted["status"] == "granted"
            assert (info["owner"], info["metadata"]) == (owner, {})
        else:
            assert granted[:2] == ["status", "granted"]
            assert info[:4] == ["key", key, "owner", owner]

    async def test_health_checks(self, server: ServerProcess, program: Program, key: str) -> None:
        client = program.client(server, health_check_interval=1, single_connection_client=True)
        await call(client, "LOCK.ACQUIRE", key, "me")
        connection = client.connection
        assert connection is not None
        connection.next_health_check = 1e-9  # due long ago
        processed = (await here(client.info("stats")))["total_commands_processed"]
        connection.next_health_check = 1e-9
        later = (await here(client.info("stats")))["total_commands_processed"]
        assert later - processed == 2, "a PING ahead of the command"

    async def test_name_library_and_database(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client = program.client(server, client_name="worker-7", db=3)
        await call(client, "LOCK.ACQUIRE", key, "me")
        info = await here(client.client_info())
        assert (info["name"], int(info["db"])) == ("worker-7", 3)
        assert int(info["resp"]) == program.protocol
        assert info["lib-name"].startswith("redis-py")
        assert info["lib-ver"] == redis.__version__
        assert await call(program.client(server), "LOCK.GET", key) is None
        assert await call(program.client(server, db=3), "LOCK.GET", key) is not None
        with pytest.raises(redis.ResponseError, match="DB index is out of range"):
            await here(program.client(server, db=16).ping())

    async def test_a_url(self, server: ServerProcess, program: Program) -> None:
        url = f"redis://127.0.0.1:{server.port}/2?protocol={program.protocol}"
        client = program.module.from_url(url)
        program.clients.append(client)
        assert int((await here(client.client_info()))["db"]) == 2

    async def test_after_the_server_closed_the_connection(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client = program.client(server)
        mine = await here(client.client_id())
        assert server.call("CLIENT", "KILL", "ID", mine) == 1
        assert program.map(await call(client, "LOCK.ACQUIRE", key, "me"))["status"] == b"granted"

    async def test_many_at_once(self, server: ServerProcess, key: str) -> None:
        """A hundred tasks want one lock: one has it, the others learn who."""
        async with redis.asyncio.Redis(port=server.port, protocol=3) as client:
            asked = [client.execute_command("LOCK.ACQUIRE", key, f"t{n}") for n in range(100)]
            replies = await asyncio.gather(*asked)
        granted = [reply for reply in replies if reply[b"status"] == b"granted"]
        assert len(granted) == 1
        versions = {reply[b"version"] for reply in replies}
        assert versions == {granted[0][b"version"]}


class TestPassword:
    async def test_the_right_one(self, guarded: ServerProcess, program: Program, key: str) -> None:
        for options in ({"password": PASSWORD}, {"password": PASSWORD, "username": "default"}):
            client = program.client(guarded, client_name="in", db=1, **options)
            assert program.map(await call(client, "LOCK.ACQUIRE", key, "me"))["version"] > 0
            assert (await here(client.client_info()))["user"] == "default"
            await call(client, "LOCK.RELEASE", key, "me")

    async def test_none(self, guarded: ServerProcess, program: Program, key: str) -> None:
        client = program.client(guarded, retry=None)
        with pytest.raises(redis.AuthenticationError):
            await call(client, "LOCK.ACQUIRE", key, "me")

    @pytest.mark.parametrize("user", [None, "default", "somebody"])
    async def test_a_wrong_one(
        self, guarded: ServerProcess, program: Program, key: str, user: str | None
    ) -> None:
        password = PASSWORD if user == "somebody" else "sesame"
        client = program.client(guarded, username=user, password=password, retry=None)
        with pytest.raises(redis.AuthenticationError, match="invalid username-password pair"):
            await call(client, "LOCK.ACQUIRE", key, "me")

    async def test_a_password_where_none_is_needed(
        self, server: ServerProcess, program: Program, key: str
    ) -> None:
        client = program.client(server, username="default", password="anything")
        assert program.map(await call(client, "LOCK.ACQUIRE", key, "me"))["version"] > 0


async def test_a_lock_survives_kill_9_under_the_same_client(
    make_server: MakeServer, program: Program
) -> None:
    server = make_server().start()
    client = program.client(server)
    granted = program.map(await call(client, "LOCK.ACQUIRE", "a", "me", "TTL", 60_000))
    began = now_ms()
    server.restart()
    info = program.map(await call(client, "LOCK.GET", "a"))
    assert (info["owner"], info["version"]) == (b"me", granted["version"])
    assert info["ttl_ms"] > 60_000 - (now_ms() - began)
    again = program.map(await call(client, "LOCK.ACQUIRE", "a", "me"))
    assert again["version"] == granted["version"]
