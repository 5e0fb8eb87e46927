"""Each construct and each function of the subset, and how values convert."""

from __future__ import annotations

import pytest

from resplock.script import Failure, Program, Refusal, Reply, Status
from tests.script.store import Store


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        # values to replies
        ("", None),
        ("return", None),
        ("return nil", None),
        ("return false", None),
        ("return true", 1),
        ("return 3.99", 3),
        ("return -3.99", -3),
        ("return 9007199254740992", 2**53),
        ("return 1e300", -(2**63)),
        ("return 0/0", -(2**63)),
        ("return 'a\\0b'", b"a\0b"),
        ("return {1, 'two', {3.5, true, false}, nil, 5}", [1, b"two", [3, 1, None]]),
        ("return {ok = 'FINE'}", Status(b"FINE")),
        ("return {err = 'MY error'}", Failure(b"MY error")),
        ("return {ok = 1, 2}", [2]),
        ("return type", None),
        ("return 1, 2", 1),
        # literals and comments
        ("return 0x10 + .5e1 -- a comment", 21),
        ("--[[ long\n comment ]] return [[\nx]] .. [==[]]]==]", b"x]]"),
        (r"return '\65\n\'\"' .. " + '"\\q"', b"A\n'\"q"),
        ("return 'one\\\ntwo'", b"one\ntwo"),
        # variables
        ("local a, b, c = 1, 2 return {a, b, c == nil}", [1, 2, 1]),
        ("local a, b = 1, 2 a, b = b, a return {a, b}", [2, 1]),
        ("local a = 1 do local a = 2 end return a", 1),
        ("local a = 1 local a = a + 1 return a", 2),
        ("local i, t = 1, {} i, t[i] = i + 1, 20 return {i, t[1]}", [2, 20]),
        # control
        ("if nil then return 1 elseif 0 then return 2 else return 3 end", 2),
        ("local n = 0 while n < 10 do n = n + 1 if n == 5 then break end end return n", 5),
        ("local n = 0 repeat local done = n > 2 n = n + 1 until done return n", 4),
        ("local s = '' for i = 1, 3 do s = s .. i end return s", b"123"),
        ("local s = '' for i = 3, 1, -1 do s = s .. i end return s", b"321"),
        ("local s = '' for i = 1, 0 do s = s .. i end return s", b""),
        ("for i = 1, 3 do i = i * 2 if i == 4 then return i end end", 4),
        ("local s = '' for i, v in ipairs({'a', 'b', nil, 'd'}) do s = s .. i .. v end return s", b"1a2b"),
        ("local n = 0 for k, v in pairs({1, 2, x = 3}) do n = n + v end return n", 6),
        ("local t = {1, 2, 3} for k in pairs(t) do t[k] = nil end return next(t) == nil", 1),
        ("for i = 1, 2 do for j = 1, 2 do break end if i == 2 then return i end end", 2),
        # operators
        ("return {1 + 2 * 3 - 4 / 2, 7 % 3, -7 % 3, -2 * -3}", [5, 1, 2, 6]),
        ("return '10' + 5 .. ''", b"15"),
        ("return 1 .. 2 .. 'x'", b"12x"),
        ("return #'abc' + #{1, 2, nil, 4}", 7),
        ("return {1 == 1.0, '1' == 1, 'a' < 'b', 'Z' < 'a', 2 >= 2, 1 ~= 2}", [1, None, 1, 1, 1, 1]),
        ("return nil and 1 or 'default'", b"default"),
        ("return false or nil", None),
        ("return not nil == true", 1),
        ("return 2 + 3 == 5 and not (1 > 2)", 1),
        ("return tostring(-2 * 3)", b"-6"),
        # tables
        ("local t = {} t[1] = 'a' t.x = 'b' t['y z'] = 'c' return t[1] .. t.x .. t['y z']", b"abc"),
        ("local t = {[1] = 'a', [3] = 'c'} t[2] = 'b' return #t", 3),
        ("local t = {} t[true] = 'yes' t[1] = 'one' return t[true] .. t[1]", b"yesone"),
        ("local t = {{n = {5}}} return t[1].n[1]", 5),
        ("local t = {1, 2} t[#t] = nil return #t", 1),
        # functions
        ("local function add(a, b) return a + b end return add(1, 2)", 3),
        ("local function f(n) if n < 2 then return 1 end return n * f(n - 1) end return f(5)", 120),
        ("local function f() return 1, 2, 3 end return {f(), (f())}", [1, 1]),
        ("local function f() return 1, 2, 3 end return {0, f()}", [0, 1, 2, 3]),
        ("local function f(a, b) return b == nil end return f(1)", 1),
        ("local n = 0 local function up() n = n + 1 return n end up() return up()", 2),
        ("local fs = {} for i = 1, 3 do fs[i] = function() return i end end return fs[2]()", 2),
        (
            """
            local function outer()
                local n = 0
                return function() n = n + 1 return function() return n end end
            end
            local make = outer() make() return make()()
            """,
            2,
        ),
        ("return ('abc'):sub(2):upper()", b"BC"),
        ("local t = {n = 4} t.get = function(self) return self.n end return t:get()", 4),
        # the library
        ("return type(nil) .. type(1) .. type('') .. type({}) .. type(true) .. type(type)",
         b"nilnumberstringtablebooleanfunction"),
        ("return tonumber('0x1F') + tonumber(' 7 ') + tonumber('ff', 16)", 293),
        ("return {tonumber('inf') > 1e308, tonumber('0x1.8p1'), tonumber('0x' .. ('f'):rep(99))}", [1, 3]),
        ("return 1e2 .. 1", b"1001"),
        ("return {tonumber('x') == nil, tonumber('') == nil, tonumber(nil) == nil}", [1, 1, 1]),
        ("return tostring(1e15) .. ' ' .. tostring(0.1) .. ' ' .. tostring(nil)", b"1e+15 0.1 nil"),
        ("return tostring({})", b"table"),
        ("return {unpack({1, 2, 3}, 2)}", [2, 3]),
        ("return {select('#', 1, nil), (select(2, 'a', 'b')), (select(-1, 'a', 'b'))}", [2, b"b", b"b"]),
        ("local t = {1} table.insert(t, 3) table.insert(t, 2, 2) return t", [1, 2, 3]),
        ("local t = {1, 2} table.insert(t, 1, nil) return {#t, t[2], t[3]}", [3, 1, 2]),
        ("local t = {1, 2} table.insert(t, 0, 9) return {t[0], t[2], t[3], #t}", [9, 1, 2, 3]),
        ("local t = {1, 2} t[4] = 4 table.insert(t, 1, 0) return t", [0, 1, 2, 4]),
        ("local t = {1, 2, 3} local x = table.remove(t, 1) return {x, table.remove(t), #t}", [1, 3, 1]),
        ("return table.concat({1, 'b', 3}, '-')", b"1-b-3"),
        ("return {math.floor(-1.5), math.ceil(1.2), math.max(1, 5, 3), math.min(2, 1), math.abs(-4)}",
         [-2, 2, 5, 1, 4]),
        ("return {string.sub('hello', 2, -2), string.sub('hello', -3), string.sub('hello', 9)}",
         [b"ell", b"llo", b""]),
        ("return string.len('a\\0b') .. string.rep('ab', 3) .. string.lower('AB')", b"3abababab"),
        ("return {string.byte('AB', 1, 2)}", [65, 66]),
        ("return string.char(72, 105) .. string.reverse('ab')", b"Hiba"),
        ("return {pcall(error, 'x')}", [None, b"x"]),
        ("local ok, e = pcall(function() error('x') end) return e", b"user_script:1: x"),
        ("local ok, e = pcall(function() error({code = 7}) end) return e.code", 7),
        ("return assert('value')", b"value"),
        ("return redis.sha1hex('')", b"da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("return redis.error_reply('ERROR')", Failure(b"ERR ERROR")),
        ("return redis.error_reply('MY code')", Failure(b"MY code")),
        ("return redis.error_reply('-MY code')", Failure(b"MY code")),
        ("return redis.status_reply('FINE')", Status(b"FINE")),
        ("if redis.replicate_commands then return redis.replicate_commands() end", 1),
        ("redis.log(redis.LOG_NOTICE, 'x') return 1", 1),
    ],
)  # fmt: skip
def test_a_construct(source: str, reply: Reply) -> None:
    assert Store().run(source) == reply


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        ("return redis.call('GET', KEYS[1])", b"v"),
        ("return redis.call('GET', 'absent')", None),
        ("return type(redis.call('GET', 'absent'))", b"boolean"),
        ("return redis.call('SET', KEYS[1], 'x')", Status(b"OK")),
        ("return redis.call('SET', KEYS[1], 'x').ok", b"OK"),
        ("return redis.call('EXISTS', KEYS[1]) + 1", 2),
        ("return redis.call('MGET', KEYS[1], 'absent', KEYS[1])", [b"v", None, b"v"]),
        ("return #KEYS .. #ARGV .. ARGV[2]", b"12second"),
        ("return redis.pcall('GET', 'list').err",
         b"WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("return redis.pcall('GET', 'list')",
         Failure(b"WRONGTYPE Operation against a key holding the wrong kind of value")),
        ("local ok, e = pcall(redis.call, 'GET', 'list') return e",
         b"WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("return redis.call('SET', KEYS[1], 'x', 'PX', 10 / 2) and redis.call('PTTL', KEYS[1])", 5),
    ],
)  # fmt: skip
def test_a_call_of_redis(source: str, reply: Reply) -> None:
    assert Store(k=b"v").run(source, "k", argv=("first", "second")) == reply


@pytest.mark.parametrize(
    ("argument", "word"),
    [("5", b"5"), ("1.5", b"1.5"), ("1e20", b"1e+20"), ("-0.25", b"-0.25")],
)
def test_a_number_as_an_argument(argument: str, word: bytes) -> None:
    store = Store()
    store.run(f"redis.call('GET', {argument})")
    assert store.calls == [[b"GET", word]]


def test_what_was_done_before_an_error_stays() -> None:
    store = Store(k=b"old")
    reply = store.run("redis.call('SET', KEYS[1], 'new') return redis.call('GET', 'list')", "k")
    assert store.values[b"k"] == b"new"
    assert isinstance(reply, Failure)
    assert reply.text.startswith(
        b"WRONGTYPE Operation against a key holding the wrong kind of value"
    )
    assert reply.text.endswith(b", on @user_script:1.")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("return nil + 1", "attempt to perform arithmetic on a nil value"),
        ("local x return x + 1", "attempt to perform arithmetic on local 'x' (a nil value)"),
        ("local t = {} return 1 - t.y", "attempt to perform arithmetic on field 'y' (a nil value)"),
        ("return 'a' .. {}", "attempt to concatenate a table value"),
        ("local x return x.y", "attempt to index local 'x' (a nil value)"),
        ("local x local f = function() return x.y end return f()",
         "attempt to index upvalue 'x' (a nil value)"),
        ("local t = {} t.x.y = 1", "attempt to index field 'x' (a nil value)"),
        ("local f = 1 f()", "attempt to call local 'f' (a number value)"),
        ("redis.nothing()", "attempt to call field 'nothing' (a nil value)"),
        ("local s = 'x' s:nothing()", "attempt to call method 'nothing' (a nil value)"),
        ("return 1 < 'x'", "attempt to compare number with string"),
        ("return {} < {}", "attempt to compare two table values"),
        ("return nil > 1", "attempt to compare number with nil"),
        ("return #nil", "attempt to get length of a nil value"),
        ("local t = {} t[nil] = 1", "table index is nil"),
        ("local t = {} t[0/0] = 1", "table index is NaN"),
        ("for i = 'x', 2 do end", "'for' initial value must be a number"),
        ("for k in 5 do end", "attempt to call a number value"),
        ("redis.call = nil", "Attempt to modify a readonly table"),
        ("table.insert(redis, 1)", "Attempt to modify a readonly table"),
        ("ipairs(nil)", "bad argument #1 to 'ipairs' (table expected, got nil)"),
        ("tonumber()", "bad argument #1 to 'tonumber' (value expected)"),
        ("string.sub()", "bad argument #1 to 'sub' (string expected, got no value)"),
        ("unpack({}, 1, 1e9)", "too many results to unpack"),
        ("error('mine')", "mine"),
        ("local function f() return f() + 1 end return f()", "stack overflow"),
    ],
)  # fmt: skip
def test_an_error(source: str, text: str) -> None:
    """It names the line, in the text and behind it, as Redis does."""
    reply = Store().run("\n" + source)
    sha = Program(b"\n" + source.encode()).sha.decode()
    expected = f"ERR user_script:2: {text} script: {sha}, on @user_script:2."
    assert reply == Failure(expected.encode())


def test_an_error_without_a_place() -> None:
    assert Store().run("error('x', 0)") == Failure(
        b"ERR x script: " + Program(b"error('x', 0)").sha + b", on @user_script:1."
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1", "an assignment to the global variable 'x'"),
        ("redis = 1", "an assignment to the global variable 'redis'"),
        ("local a a, x = 1, 2", "there is no variable 'x'"),
        ("KEYS = {}", "an assignment to the global variable 'KEYS'"),
        ("function f() end", "a global function is not supported"),
        ("return undefined", "there is no variable 'undefined'"),
        ("return cjson.encode({})", "'cjson' is not supported"),
        ("coroutine.wrap(print)", "'coroutine' is not supported"),
        ("setmetatable({}, {})", "'setmetatable' is not supported"),
        ("return os.time()", "'os' is not supported"),
        ("return string.find('a', 'a')", "string.find is not supported"),
        ("return ('a'):gsub('a', 'b')", "string.gsub is not supported"),
        ("return math.random()", "math.random is not supported"),
        ("redis.setresp(3)", "redis.setresp is not supported"),
        ("return 2 ^ 3", "the operator '^' is not supported"),
        ("return ...", "'...' is not supported"),
        ("local f = function(...) end", "'...' is not supported"),
        ("return )", "unexpected symbol near ')'"),
        ("if x", "there is no variable 'x'"),
        ("if true return 1", "'then' expected near 'return'"),
        ("if true then", "'end' expected near '<eof>'"),
        ("return 1 return 2", "'<eof>' expected near 'return'"),
        ("break", "no loop to break"),
        ("while true do local f = function() break end end", "no loop to break"),
        ("local 1", "'<name>' expected near '1'"),
        ("1 = 2", "unexpected symbol near '1'"),
        ("return 'x", "unfinished string"),
        ("return [[x", "unfinished long string"),
        ("return '\\300'", "escape sequence too large"),
        ("return 3x", "malformed number near"),
        ("return @", "unexpected symbol near"),
        ("local x 5", "unexpected symbol near '5'"),
        ("local x x.y", "syntax error near '<eof>'"),
    ],
)
def test_a_script_that_is_refused(source: str, text: str) -> None:
    with pytest.raises(Refusal) as refused:
        Program(b"\n" + source.encode())
    assert refused.value.text.startswith(f"user_script:2: {text}")


def test_only_the_last_of_a_constructor_expands() -> None:
    assert Store().run("local function f() return 1, 2 end return #{f(), k = f()}") == 1
    assert Store().run("local function f() return 1, 2 end return #{k = f(), f()}") == 2
