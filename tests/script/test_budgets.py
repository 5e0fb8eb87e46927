"""Scripts that would not end, or would fill the memory or the stack: each ends, at the same place."""

from __future__ import annotations

import sys
import time

import pytest

from resplock import limits
from resplock.script import Failure, Program, Refusal, Reply
from tests.script.store import Store

STEPS = "the script takes more than"
BYTES = "the script makes more than"
LONG = "the script makes a string of more than"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("while true do end", STEPS),
        ("repeat until false", STEPS),
        ("for i = 1, 1e9 do end", STEPS),
        ("for i = 2, 1, 0 do end", STEPS),
        ("local function f() end while true do f() end", STEPS),
        ("while true do pcall(error, 'x') end", STEPS),
        ("while true do pcall(function() while true do end end) end", STEPS),
        ("while true do redis.call('GET', 'x') end", STEPS),
        ("local t = {} for i = 1, 1e6 do t[i] = i end", STEPS),
        ("local t = {1} while true do unpack(t, 1, 8000) end", STEPS),
        ("local t = {1} return table.concat(t, '', 1, 1e9)", STEPS),
        ("while true do redis.sha1hex('x') end", STEPS),
        ("local s = 'x' while true do s = s .. s end", LONG),
        ("return string.rep('x', 1e9)", LONG),
        ("return ('x'):rep(1e15)", LONG),
        ("local s = string.rep('x', 60000) while true do local t = s:upper() end", BYTES),
        ("local s = string.rep('x', 60000) while true do local t = s .. 1 end", BYTES),
        ("local s = string.rep('x', 60000) local t = {s, s} return table.concat(t)", LONG),
        ("local t = {} while true do t = {t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t} end", STEPS),
        ("local s = string.rep('x', 60000) return {s, s, s}", "the script returns more than"),
        ("local t = {} t[1] = t return t", "reached lua stack limit"),
        ("local t = {1} for i = 1, 15 do t = {t, t} end return t", "the script returns more than"),
        ("local function f(n) return f(n + 1) + 1 end return f(1)", "stack overflow"),
        ("local function f() return pcall(f) end return f()", None),
        ("local g local function f() return g() end g = f return f()", "stack overflow"),
    ],
)  # fmt: skip
def test_an_attack_is_bounded(source: str, text: str | None) -> None:
    first, again = run_counted(source), run_counted(source)
    assert first == again
    reply, steps = first
    assert steps <= limits.SCRIPT_STEPS_MAX
    if text:
        assert isinstance(reply, Failure)
        assert text.encode() in reply.text


def run_counted(source: str) -> tuple[Reply, int]:
    return Program(source.encode()).run([], [], Store().call)


def test_a_stack_overflow_can_be_caught_and_the_stack_is_whole_again() -> None:
    source = """
    local depth
    local function f(n) depth = n return f(n + 1) + 1 end
    local first = pcall(f, 1)
    local one = depth
    pcall(f, 1)
    return {first == false, one == depth, one > 20}
    """
    assert Store().run(source) == [1, 1, 1]


def test_functions_of_the_library_count_as_depth_too() -> None:
    """`pcall(pcall, pcall, ...)` nests without any function of the script."""
    source = "local t = {} for i = 1, 4000 do t[i] = pcall end return pcall(unpack(t))"
    assert Store().run(source) is not None


def test_a_budget_cannot_be_caught() -> None:
    store = Store()
    reply = store.run("pcall(function() while true do end end) redis.call('SET', 'k', 'v')")
    assert isinstance(reply, Failure)
    assert store.calls == []


def test_the_deepest_script_stays_far_from_the_end_of_the_stack() -> None:
    """What a script may nest, as text and in calls, takes less than two thirds of Python's stack."""
    level = limits.SCRIPT_NESTING_MAX - 4
    deep_text = "return " + "(" * (level // 2) + "1" + ")" * (level // 2)
    deep_run = "local function f(n) return " + "{1, " * 20 + "f(n)" + "}" * 20 + " end return f(1)"
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_depth() + 650)
    try:
        assert Store().run(deep_text) == 1
        reply = Store().run(deep_run)
        with pytest.raises(Refusal, match="nests deeper"):
            Program(b"return " + b"(" * 900 + b"1")
    finally:
        sys.setrecursionlimit(before)
    assert isinstance(reply, Failure)
    assert b"stack overflow" in reply.text


def _depth() -> int:
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


@pytest.mark.parametrize(
    "source",
    [
        "return " + "(" * 100 + "1" + ")" * 100,
        "return " + "{" * 100 + "}" * 100,
        "return " + "not " * 100 + "1",
        "return " + "- " * 100 + "1",
        "return 1" + " + 1" * 100,
        "return 'a'" + " .. 'a'" * 100,
        "local t = {} return t" + ".x" * 100,
        "local f = type f" + "(f)" * 100,
        "do " * 100 + "end " * 100,
        "if true then " * 100 + "end " * 100,
        "local f = " + "function() return " * 100 + "1 " + "end " * 100,
        "local x = 1 " * 201 + "x()",
    ],
)
def test_a_script_that_is_too_deep_is_refused(source: str) -> None:
    with pytest.raises(Refusal, match=r"nests deeper|too many local variables"):
        Program(source.encode())


def test_a_script_that_is_too_long_is_refused() -> None:
    with pytest.raises(Refusal, match="longer than 16384 bytes"):
        Program(b" " * 16385)
    assert Program(b" " * 16384)


def test_a_script_of_too_many_tokens_is_refused() -> None:
    most = b"local a " + b"a=a " * 332
    assert Program(most).tokens == 999
    with pytest.raises(Refusal, match="more than 1000 tokens"):
        Program(most + b"a=a")


@pytest.mark.parametrize(
    "body",
    [
        "x = x * 3 + 1 / 7 - x % 5",
        "local y = '0.12345678901234567' + '0x1F'",
        "pcall(error, 'x')",
        "local y = a == b and a == b and a <= b",
        "local y = t[b]",
        "local y = a:sub(1, 1)",
        "t = {t}",
        "local g = f f = function() return g end",
        "next(many)",
        "math.max(unpack(many))",
        "string.char(unpack(many))",
        "tonumber('zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz', 36)",
        "local y = 0.1 .. 0.2 .. 0.3 .. 0.4",
        "redis.pcall('NOTHING', unpack(many))",
        "a:upper()",
        "redis.sha1hex(a)",
    ],
)
def test_no_step_is_slow(body: str) -> None:
    """The costliest script takes 6 ms of CPU where this was written."""
    program = Program(
        "local x, t, f, many = 1, {}, nil, {} for i = 1, 500 do many[i] = 65 end "
        "local a, b = string.rep('x', 65536), string.rep('x', 65536) t[a] = 1 "
        f"while true do {body} end".encode()
    )
    took_s = []
    for _ in range(3):
        before_s = time.process_time()
        reply, _ = program.run([], [], Store().call)
        took_s.append(time.process_time() - before_s)
    assert isinstance(reply, Failure)
    assert b"the script" in reply.text
    assert min(took_s) < 0.05


def test_steps_do_not_depend_on_what_ran_before() -> None:
    program = Program(b"local n = 0 for i = 1, 100 do n = n + i end return n")
    runs = [program.run([], [], Store().call) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0] == 5050
