"""The same scripts on a real redis-server: the same replies, and the same errors.

Scripts are generated. Ours call the same server, in a database of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock.script import Failure, Program, Refusal, Reply, Status
from tests.redis_process import RedisProcess

budget = settings(max_examples=max(200, settings().max_examples))

KEYS = [b"a", b"b"]
ARGV = [b"1", b"x", b"-2.5", b"0x10"]


class Oracle:
    """A redis-server, and a connection to each of two databases."""

    def __init__(self) -> None:
        self.process = RedisProcess()
        self.links = [self.process.connect(), self.process.connect()]
        self.readers = [hiredis.Reader(), hiredis.Reader()]
        self.ask(1, b"SELECT", b"1")

    def ask(self, db: int, *words: bytes) -> Any:
        self.links[db].sendall(hiredis.pack_command(words))
        while (reply := self.readers[db].gets()) is False:
            self.readers[db].feed(self.links[db].recv(65_536))
        return reply

    def theirs(self, source: bytes) -> Any:
        count = str(len(KEYS)).encode()
        return _plain(self.ask(0, b"EVAL", source, count, *KEYS, *ARGV))

    def ours(self, source: bytes) -> Any:
        return _plain(Program(source).run(KEYS, ARGV, self._call)[0])

    def _call(self, words: list[bytes]) -> Reply:
        reply = self.ask(1, *words)
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply).encode()
            if text.startswith(b"ERR wrong number of arguments"):
                text = b"ERR Wrong number of args calling Redis command from script"
            return Failure(text)
        return Status(reply) if words[0].lower() == b"set" and reply else reply

    def stop(self) -> None:
        for link in self.links:
            link.close()
        self.process.stop()


def _plain(reply: Any) -> Any:
    """A reply of either, without the parts that nobody can rely on."""
    if isinstance(reply, hiredis.ReplyError):
        reply = Failure(str(reply).encode())
    if isinstance(reply, Failure):
        reply = Failure(_plain(reply.text))
        text = re.sub(rb" script: .*", b"", reply.text)
        return (
            "error",
            re.sub(rb"(local|field|upvalue|global|method) '[^']*' \((.*?)\)", rb"\2", text),
        )
    if isinstance(reply, Status):
        return reply.text
    if isinstance(reply, bytes):  # of an error that was caught, too
        reply = re.sub(
            rb"(?<![0-9.e])-0(?![0-9.x])", b"0", reply
        )  # Lua 5.1 takes 0 for -0 at times
        return re.sub(rb"(bad argument #\d to )'[^']*'", rb"\1", reply)
    return [_plain(each) for each in reply] if isinstance(reply, list) else reply


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    found = Oracle()
    yield found
    found.stop()


NUMBERS = st.sampled_from(["3", "1", "2", "-1", "2.5", "10", "1e3", "0.1", "1e15", "0x1F", "1e300"])
STRINGS = st.sampled_from(
    ["''", "'a'", "'b'", "'10'", "' 7 '", "'1e1'", "'0x1f'", "[[a\\n]]", "'abc'"]
)
LEAVES = st.one_of(
    NUMBERS,
    STRINGS,
    st.sampled_from(
        ["nil", "true", "false", "x", "y", "s", "t", "t.k", "t[1]", "t[x]", "#t", "{}"]
    ),
    st.sampled_from([f"ARGV[{at}]" for at in range(1, 6)] + ["KEYS[1]", "#KEYS", "#ARGV"]),
)


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def form(template: str) -> st.SearchStrategy[str]:
        count = template.count("%s")
        return st.tuples(*[inner] * count).map(lambda parts: template % parts)

    operators = ["+", "-", "*", "/", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or"]
    binary = st.tuples(inner, st.sampled_from(operators), inner).map(" ".join)
    templates = """
        (%s);not %s;-(%s);#(%s);{%s, %s};{%s, k = %s};({%s, %s})[1];type(%s);tostring(%s == nil)
        tonumber(%s);tonumber(%s, 16);math.floor(%s);math.max(%s, %s);string.sub(%s, 2)
        string.sub(%s, 1, -2);string.sub('hello', %s, %s);string.rep('ab', 3);string.len(%s)
        string.upper(%s);table.concat({%s, %s}, ',');(select('#', %s, %s));f(%s, %s);({f(%s)})[2]
        redis.call('GET', %s);redis.pcall('EXISTS', %s);redis.call('SET', KEYS[1], %s)
        redis.pcall('GET');redis.call('STRLEN', KEYS[2]);redis.error_reply(%s);redis.status_reply(%s)
        redis.sha1hex(%s);pcall(f, %s);({pcall(error, (%s))})[2];unpack({%s, %s});assert(%s, %s)
        tostring(tonumber(%s));(function(n) return n or x end)(%s);next({%s});math.ceil(%s)
    """
    forms = [each.strip() for line in templates.split("\n") for each in line.split(";")]
    return st.one_of(binary, *[form(each) for each in forms if each])


EXPRESSIONS = st.recursive(LEAVES, _deeper, max_leaves=6)


def _statements(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def form(template: str) -> st.SearchStrategy[str]:
        return st.tuples(EXPRESSIONS, inner).map(
            lambda parts: template.replace("%e", parts[0]).replace("%b", parts[1])
        )

    templates = [
        "x = %e",
        "y, s = %e",
        "t[#t + 1] = %e",
        "t.k = %e",
        "t[(%e)] = 1",
        "local y = %e %b",
        "if %e then %b else x = 1 end",
        "if %e then return %e elseif x then %b end",
        "for i = 1, 3 do %b x = i end",
        "for i = 3, 1, -2 do x = i if %e then break end end",
        "for i, v in ipairs({1, %e, 3}) do x = v %b end",
        "for k, v in pairs({k = %e}) do t[k] = v end",
        "local n = 0 while n < 3 do n = n + 1 %b end",
        "local n = 0 repeat n = n + 1 local z = %e until n > 2 or z",
        "do local x = %e %b end",
        "local function g(a, b) %b return a, %e end x, y = g(x, %e)",
        "table.insert(t, 1, (%e) or 0)",  # with nil there, Lua leaves open how long it is
        "s = 'x' .. tostring(x == %e)",
        "redis.call('SET', KEYS[2], %e)",
        "local ok, e = pcall(function() %b return %e end) x = ok",
        "%b %b",
    ]
    return st.one_of([form(template) for template in templates])


BODIES = st.recursive(EXPRESSIONS.map(lambda e: f"x = {e}"), _statements, max_leaves=4)
SCRIPTS = st.tuples(BODIES, EXPRESSIONS, EXPRESSIONS).map(
    lambda parts: (
        "local x, y, s, t = 1, 'z', 'str', {5, 'six', k = 7} "
        "local f = function(a, b) return b, a, x end "
        f"{parts[0]} return {{{parts[1]}, {parts[2]}, type(x), type(y), type(s), #t > 0}}"
    )
)


@given(SCRIPTS)
@budget
def test_generated_scripts(oracle: Oracle, source: str) -> None:
    for db in (0, 1):
        oracle.ask(db, b"FLUSHDB")
    theirs = oracle.theirs(source.encode())
    assert oracle.ours(source.encode()) == theirs


@given(EXPRESSIONS)
@budget
def test_generated_expressions(oracle: Oracle, expression: str) -> None:
    source = (
        "local x, y, s, t = 1, 'z', 'str', {5, 'six', k = 7} "
        f"local f = function(a, b) return b, a, x end return {expression}"
    ).encode()
    for db in (0, 1):
        oracle.ask(db, b"FLUSHDB")
    theirs = oracle.theirs(source)
    assert oracle.ours(source) == theirs


@pytest.mark.parametrize(
    "source",
    [b"return (", b"local x = = 1", b"if x then", b"return 'a", b"break", b"for i do end", b"x y"],
)
def test_what_is_no_lua_is_refused_by_both(oracle: Oracle, source: bytes) -> None:
    kind, text = oracle.theirs(source)
    assert kind == "error"
    assert text.startswith(b"ERR Error compiling script")
    with pytest.raises(Refusal):
        Program(source)
