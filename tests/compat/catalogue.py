"""Every suite that is run, by library."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

import redis

from tests.compat import parsing
from tests.compat.servers import ONE_NODE, REDIS, THREE_NODES
from tests.compat.suite import PROGRAMS, Git, Mode, Npm, Pip, Run, Suite

BOTH_SIZES = (Mode("one node", ONE_NODE), Mode("three nodes", THREE_NODES))
BOTH_SIZES_AND_PROTOCOLS = tuple(
    Mode(f"{size}, RESP{protocol}", size, protocol)
    for size in (ONE_NODE, THREE_NODES)
    for protocol in (2, 3)
)


def _pytest(run: Run, *words: str) -> list[str]:
    """Run tests of a library's own with our pytest, which knows nothing of our settings."""
    return [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            "/dev/null",
            "--rootdir=.",
            "-p",
            "no:cacheprovider",
        ),
        *("--timeout=60", f"--junit-xml={run.report}", *words),
    ]


# --- redis-py -------------------------------------------------------------------------------------


def _redis_py_tests(run: Run) -> list[str]:
    return _pytest(
        run,
        *("tests/test_lock.py", "tests/test_asyncio/test_lock.py"),
        *(f"--redis-url={run.url}", f"--redis-mod-url={run.url}"),
        *(f"--protocol={run.mode.protocol}", "--asyncio-mode=auto"),
    )


REDIS_PY = Suite(
    library="redis-py",
    origin=Pip(("redis==8.1.0", "hiredis", "packaging", "numpy"), source=True),
    what="its tests of Lock, synchronous and asyncio",
    modes=BOTH_SIZES_AND_PROTOCOLS,
    command=_redis_py_tests,
    parse=parsing.junit,
)

_CLIENT_PROGRAM = "a program of ours: locks, scripts, MULTI, events; the leader killed meanwhile"
_WAYS = ("standalone", "cluster", "sentinel")


def _ways(*protocols: int) -> tuple[Mode, ...]:
    """Each way to use a client against three nodes, and the plain one against one."""
    three = [
        Mode(f"{way}, {THREE_NODES}, RESP{protocol}", THREE_NODES, protocol, way)
        for way in _WAYS
        for protocol in protocols
    ]
    one = [Mode(f"standalone, {ONE_NODE}, RESP{each}", ONE_NODE, each) for each in protocols]
    return (*one, *three)


REDIS_PY_CLIENTS = Suite(
    library="redis-py",
    origin=Pip(("redis==8.1.0", "hiredis")),
    what=_CLIENT_PROGRAM,
    modes=_ways(2, 3),
    command=lambda run: [sys.executable, str(PROGRAMS / "redis_py.py")],
    parse=parsing.json_lines,
    on_redis=False,
)

# --- resp-compatibility ---------------------------------------------------------------------------

_STRINGS = """
append decr decrby get getdel getex getrange getset incr incrby incrbyfloat lcs mget mset msetnx psetex
set setex setnx setrange strlen substr
"""
_GENERIC = """
copy del dump exists expire expireat expiretime keys migrate move object persist pexpire pexpireat
pexpiretime pttl randomkey rename renamenx restore scan sort sort_ro touch ttl type unlink wait waitaof
"""
_SCRIPTS = "eval evalsha eval_ro evalsha_ro script fcall fcall_ro function"
COMPATIBLE_COMMANDS = frozenset(f"{_STRINGS} {_GENERIC} {_SCRIPTS}".split())
"""Redis's groups of commands for strings, for keys of any type, and for scripts."""


def _select_cases(run: Run) -> None:
    """Keep the cases that use these commands only."""
    cases = json.loads((run.fetched.source / "cts.json").read_text())
    chosen = [
        case
        for case in cases
        if {line.split()[0].lower() for line in case["command"]} <= COMPATIBLE_COMMANDS
    ]
    (run.scratch / "cases.json").write_text(json.dumps(chosen))


def _resp_compatibility(run: Run) -> list[str]:
    return [
        *(sys.executable, "resp_compatibility.py", "--host", run.host, "--port", str(run.port)),
        *("--testfile", str(run.scratch / "cases.json")),
        *("--specific-version", "7.2.0", "--show-failed"),
    ]


RESP_COMPATIBILITY = Suite(
    library="resp-compatibility",
    origin=Git(
        "https://github.com/tair-opensource/resp-compatibility",
        "ed92742275c71141e554230e68b108ea4a91b805",
        ("redis==5.0.8", "pyyaml"),
    ),
    what="its cases for string, generic, expiry and script commands up to Redis 7.2",
    modes=tuple(mode for mode in BOTH_SIZES_AND_PROTOCOLS if mode.protocol == 2),
    command=_resp_compatibility,
    parse=parsing.resp_compatibility,
    known={
        "does not move a lock": "resplock does not move a lock to another key or database",
        "keeps values that are owners": "a value is an owner: it is not cut, patched or added to",
        "scripts and no functions": "resplock has scripts and no functions",
    },
    prepare=_select_cases,
)

# --- other lock libraries for Python, their own tests ---------------------------------------------

POTTERY = Suite(
    library="pottery",
    origin=Pip(("pottery==3.0.1", "redis==7.0.1", "hiredis"), source=True),
    what="its tests of Redlock, synchronous and asyncio",
    modes=BOTH_SIZES,
    command=lambda run: _pytest(
        run,
        *("-p", "pottery_fixtures", "--asyncio-mode=auto"),
        *("tests/test_redlock.py", "tests/test_aioredlock.py"),
    ),
    parse=parsing.junit,
    at_6379=True,
)

REDLOCK = Suite(
    library="redlock",
    origin=Pip(("redlock==1.2.0", "redis==8.1.0", "mock"), source=True),
    what="its tests",
    modes=BOTH_SIZES,
    command=lambda run: _pytest(run, "tests"),
    parse=parsing.junit,
    at_6379=True,
)

REDLOCK_PY = Suite(
    library="redlock-py",
    origin=Pip(("redlock-py==1.0.8", "redis==8.1.0"), source=True),
    what="its tests",
    modes=BOTH_SIZES,
    command=lambda run: _pytest(run, "tests"),
    parse=parsing.junit,
    at_6379=True,
)

DJANGO_REDIS = Suite(
    library="django-redis",
    origin=Pip(
        (
            "django-redis==7.0.0",
            "redis==7.0.1",
            "django",
            "pytest-xdist",
            "msgpack",
            "lz4",
            "pyzstd",
        ),
        source=True,
    ),
    what="its tests of cache.lock",
    modes=BOTH_SIZES,
    command=lambda run: _pytest(run, "tests/test_backend.py", "-k", "test_lock and sqlite]"),
    parse=parsing.junit,
    at_6379=True,
)

# --- and those that bring none --------------------------------------------------------------------


def _lock_library(name: str, *packages: str, known: Mapping[str, str] | None = None) -> Suite:
    """What programs do with a lock library, see programs/lock_libraries.py."""
    return Suite(
        library=name,
        origin=Pip(packages),
        what="a program of ours: take, refuse, release, extend, expire; the leader killed meanwhile",
        modes=BOTH_SIZES,
        command=lambda run: [sys.executable, str(PROGRAMS / "lock_libraries.py"), name],
        parse=parsing.json_lines,
        known=known or {},
        on_redis=False,
    )


LOCK_LIBRARIES = (
    _lock_library("aioredlock", "aioredlock==0.7.3", "redis==8.1.0"),
    _lock_library("celery-once", "celery-once==3.0.1", "redis==8.1.0"),
    _lock_library(
        *("python-redis-lock", "python-redis-lock==4.0.1", "redis==8.1.0"),
        known={"Unknown Redis command": "it signals who waits through a list (LPUSH, BLPOP)"},
    ),
    _lock_library("redlock-ng", "redlock-ng==2.0.4"),
    _lock_library("sherlock", "sherlock==0.4.1", "redis==8.1.0"),
)

# --- Node -----------------------------------------------------------------------------------------


_EDITED = "test.without-sets.js"
_NO_LOCK = "Redlock:test:error"


def _without_sets(run: Run) -> None:
    """A copy of the tests that finds the key which is no lock of theirs, and does not make it a set."""
    tests = (run.fetched.source / "test.js").read_text()
    added = "sadd(error, 'having a set here should cause a failure', cb)"
    assert added in tests
    (run.fetched.source / _EDITED).write_text(tests.replace(added, "ping(cb)"))
    for db in range(4):
        with redis.Redis(run.host, run.port, db=db) as client:
            if run.mode.server == REDIS:
                client.sadd(_NO_LOCK, "a set")
            else:
                client.execute_command(
                    "LOCK.ACQUIRE", _NO_LOCK, "a semaphore", "LIMIT", 2, "TTL", 0
                )


def _mocha(run: Run) -> list[str]:
    return [
        *("node", str(run.fetched.packages / "mocha" / "bin" / "mocha.js"), "--exit"),
        *("--reporter", "json", "--reporter-option", f"output={run.report}", _EDITED),
    ]


NODE_REDLOCK = Suite(
    library="node-redlock",
    origin=Npm(("redlock@4.2.0", "mocha@11", "chai@4", "ioredis@4.30.1", "redis@3.1.2")),
    what="its tests with node-redis 3 and ioredis 4, one set in them being a semaphore",
    modes=BOTH_SIZES,
    command=_mocha,
    parse=parsing.mocha,
    prepare=_without_sets,
    at_6379=True,
)


def _node_client(name: str, program: str, package: str) -> Suite:
    """What programs do with a client for Node, and what it does when the leader is killed."""
    return Suite(
        library=name,
        origin=Npm((package,)),
        what=_CLIENT_PROGRAM,
        modes=_ways(2, 3),
        command=lambda run: ["node", str(PROGRAMS / "clients.cjs"), program],
        parse=parsing.json_lines,
        on_redis=False,
    )


IOREDIS = _node_client("ioredis", "ioredis", "ioredis@6.0.0")
NODE_REDIS = _node_client("node-redis", "node_redis", "redis@6.3.1")

SUITES: Sequence[Suite] = (
    REDIS_PY,
    REDIS_PY_CLIENTS,
    RESP_COMPATIBILITY,
    POTTERY,
    REDLOCK,
    REDLOCK_PY,
    DJANGO_REDIS,
    *LOCK_LIBRARIES,
    IOREDIS,
    NODE_REDIS,
    NODE_REDLOCK,
)
