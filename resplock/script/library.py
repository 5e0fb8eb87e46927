"""What scripts can call: `redis.*`, and the part of Lua's library that is the same on every replica.

Pure. What Redis offers besides is refused when a script is loaded: it would differ by replica (time,
randomness, addresses), or one call of it could take for ever (patterns). Lua 5.1 manual, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha1
from typing import Final

from resplock import limits
from resplock.script.failures import Complaint, Raised
from resplock.script.replies import to_lua
from resplock.script.run import Run
from resplock.script.values import (
    Function,
    Table,
    Value,
    is_true,
    number_to_argument,
    shown,
    table_of,
    to_integer,
    to_number,
    to_number_in,
    to_text,
    type_name,
)

Arguments = list[Value]

# --- arguments -----------------------------------------------------------------------------------


def _argument(arguments: Arguments, at: int) -> Value:
    return arguments[at] if at < len(arguments) else None


def _wrong(arguments: Arguments, at: int, name: str, wanted: str) -> Complaint:
    got = type_name(arguments[at]) if at < len(arguments) else "no value"
    return _bad(at, name, f"{wanted} expected, got {got}")


def _bad(at: int, name: str, text: str) -> Complaint:
    return Complaint(f"bad argument #{at + 1} to '{name}' ({text})".encode())


def _table(arguments: Arguments, name: str) -> Table:
    table = _argument(arguments, 0)
    if type(table) is not Table:
        raise _wrong(arguments, 0, name, "table")
    return table


def _number(arguments: Arguments, at: int, name: str, default: float | None = None) -> float:
    given = _argument(arguments, at)
    if given is None and default is not None:
        return default
    number = to_number(given)
    if number is None:
        raise _wrong(arguments, at, name, "number")
    return number


def _integer(arguments: Arguments, at: int, name: str, default: float | None = None) -> int:
    """A number toward zero, as C casts it, within what any string or table may have."""
    return max(-_FAR, min(_FAR, to_integer(_number(arguments, at, name, default))))


_FAR: Final = 2**31


def _string(arguments: Arguments, at: int, name: str) -> bytes:
    text = to_text(_argument(arguments, at))
    if text is None:
        raise _wrong(arguments, at, name, "string")
    return text


def _any(arguments: Arguments, name: str) -> Value:
    if not arguments:
        raise _bad(0, name, "value expected")
    return arguments[0]


def _made(run: Run, text: bytes) -> list[Value]:
    run.make(len(text))
    return [text]


# --- redis.* -------------------------------------------------------------------------------------


def _call(run: Run, arguments: Arguments) -> list[Value]:
    reply = _run_command(run, arguments)
    if isinstance(reply, Table) and reply.get(b"err") is not None:
        raise Raised(reply)
    return [reply]


def _pcall_redis(run: Run, arguments: Arguments) -> list[Value]:
    return [_run_command(run, arguments)]


def _run_command(run: Run, arguments: Arguments) -> Value:
    run.spend(limits.SCRIPT_CALL_STEPS + limits.SCRIPT_WORD_STEPS * len(arguments))
    if not arguments:
        return _error(b"ERR Please specify at least one argument for this redis lib call")
    words: list[bytes] = []
    for argument in arguments:
        if type(argument) is float:
            words.append(number_to_argument(argument))
        elif type(argument) is bytes:
            words.append(argument)
        else:
            return _error(b"ERR Lua redis lib command arguments must be strings or integers")
    return to_lua(run, run.call_redis(words))


def _error(text: bytes) -> Table:
    return table_of(err=text)


def _error_reply(run: Run, arguments: Arguments) -> list[Value]:
    """`CODE text` with a minus sign in front, or text, whose code is ERR."""
    if len(arguments) != 1 or type(arguments[0]) is not bytes:
        return [_error(b"ERR wrong number or type of arguments")]
    code, space, text = arguments[0].removeprefix(b"-").partition(b" ")
    reply = code + space + text if space else b"ERR " + code
    run.make(len(reply))
    return [_error(reply)]


def _status_reply(run: Run, arguments: Arguments) -> list[Value]:
    if len(arguments) != 1 or type(arguments[0]) is not bytes:
        return [_error(b"ERR wrong number or type of arguments")]
    return [table_of(ok=arguments[0])]


def _sha1hex(run: Run, arguments: Arguments) -> list[Value]:
    if len(arguments) != 1:
        raise Raised(_error(b"ERR wrong number of arguments"))
    text = to_text(arguments[0]) or b""
    run.spend(1 + len(text) // limits.SCRIPT_BYTES_PER_STEP)
    return _made(run, sha1(text, usedforsecurity=False).hexdigest().encode())


def _replicate_commands(run: Run, arguments: Arguments) -> list[Value]:
    """Redis has answered so, and done nothing, since 7.0."""
    return [True]


def _log(run: Run, arguments: Arguments) -> list[Value]:
    """Checked as in Redis, and not logged: it would be on every replica, and after each restart."""
    if len(arguments) < 2:
        raise Raised(_error(b"ERR redis.log() requires two arguments or more."))
    if type(arguments[0]) is not float:
        raise Raised(_error(b"ERR First argument must be a number (log level)."))
    if not 0 <= to_integer(arguments[0]) <= _LOG_LEVEL_MAX:
        raise Raised(_error(b"ERR Invalid debug level."))
    return []


_LOG_LEVEL_MAX: Final = 3


# --- the basic functions -------------------------------------------------------------------------


def _type(run: Run, arguments: Arguments) -> list[Value]:
    return [type_name(_any(arguments, "type")).encode()]


def _tostring(run: Run, arguments: Arguments) -> list[Value]:
    return _made(run, shown(_any(arguments, "tostring")))


def _tonumber(run: Run, arguments: Arguments) -> list[Value]:
    base = _integer(arguments, 1, "tonumber", 10.0)
    if base == 10:
        return [to_number(_any(arguments, "tonumber"))]
    digits = _string(arguments, 0, "tonumber")
    if not 2 <= base <= 36:
        raise _bad(1, "tonumber", "base out of range")
    return [to_number_in(digits, base)]


def _ipairs(run: Run, arguments: Arguments) -> list[Value]:
    return [_IPAIRS_NEXT, _table(arguments, "ipairs"), 0.0]


def _ipairs_next(run: Run, arguments: Arguments) -> list[Value]:
    at = _number(arguments, 1, "ipairs") + 1
    value = _table(arguments, "ipairs").get(at)
    return [None] if value is None else [at, value]


_IPAIRS_NEXT: Final = Function("ipairs", _ipairs_next)


def _pairs(run: Run, arguments: Arguments) -> list[Value]:
    """Walks what is there now, without what is deleted meanwhile."""
    table = _table(arguments, "pairs")
    held = table.pairs()
    run.spend(len(held))
    run.allot(_PAIR_BYTES * len(held))
    left = iter(held)

    def following(run: Run, arguments: Arguments) -> list[Value]:
        for key, _ in left:
            value = table.get(key)
            if value is not None:
                return [key, value]
        return [None]

    return [Function("pairs", following), table, None]


_PAIR_BYTES = 80


def _next(run: Run, arguments: Arguments) -> list[Value]:
    held = _table(arguments, "next").pairs()
    run.spend(len(held))
    before = _argument(arguments, 1)
    if before is None:
        return list(held[0]) if held else [None]
    for at, (key, _) in enumerate(held, 1):
        if type(key) is type(before) and key == before:
            return list(held[at]) if at < len(held) else [None]
    raise Raised(b"invalid key to 'next'")


def _unpack(run: Run, arguments: Arguments) -> list[Value]:
    table = _table(arguments, "unpack")
    first = _integer(arguments, 1, "unpack", 1.0)
    last = _integer(arguments, 2, "unpack", float(len(table.items)))
    count = last - first + 1
    if count > limits.SCRIPT_VALUES_MAX:
        raise Complaint(b"too many results to unpack")
    run.spend(max(count, 0))
    return [table.get(float(at)) for at in range(first, last + 1)]


def _select(run: Run, arguments: Arguments) -> list[Value]:
    if _argument(arguments, 0) == b"#":
        return [float(len(arguments) - 1)]
    at = _integer(arguments, 0, "select")
    if at < 0:
        at += len(arguments)
    if at < 1:
        raise _bad(0, "select", "index out of range")
    return arguments[at:]


def _raise(run: Run, arguments: Arguments) -> list[Value]:
    value, level = _argument(arguments, 0), _integer(arguments, 1, "error", 1.0)
    text = to_text(value)
    if text is not None and level > 0:
        raise Complaint(text)
    raise Raised(value)


def _assert(run: Run, arguments: Arguments) -> list[Value]:
    if is_true(_any(arguments, "assert")):
        return arguments
    if _argument(arguments, 1) is None:
        raise Complaint(b"assertion failed!")
    raise Complaint(_string(arguments, 1, "assert"))


def _pcall(run: Run, arguments: Arguments) -> list[Value]:
    function = _any(arguments, "pcall")
    if type(function) is not Function:
        return [False, f"attempt to call a {type_name(function)} value".encode()]
    frames_left = run.frames_left
    run.enter(_PCALL_FRAMES)
    try:
        return [True, *function.call(run, arguments[1:])]
    except Raised as error:
        caught = _caught(error.value)
    except Complaint as complaint:
        caught = complaint.text
    finally:
        run.frames_left = frames_left
    run.spend(limits.SCRIPT_CATCH_STEPS)
    return [False, caught]


_PCALL_FRAMES = 2


def _caught(error: Value) -> Value:
    """What Redis's `pcall` gives: of an error of redis.call, the text."""
    text = error.get(b"err") if type(error) is Table else None
    return error if to_text(text) is None else text


# --- table.* -------------------------------------------------------------------------------------


def _changeable(arguments: Arguments, name: str) -> Table:
    table = _table(arguments, name)
    if table.frozen:
        raise Complaint(b"Attempt to modify a readonly table")
    return table


def _insert(run: Run, arguments: Arguments) -> list[Value]:
    table = _changeable(arguments, "insert")
    items = table.items
    run.allot(limits.SCRIPT_ELEMENT_BYTES)
    if len(arguments) == 2:
        table.set(float(len(items) + 1), arguments[1])
        return []
    if len(arguments) != 3:
        raise Complaint(b"wrong number of arguments to 'insert'")
    at, value = _integer(arguments, 1, "insert"), arguments[2]
    if 1 <= at <= len(items):
        run.spend(1 + len(items) // limits.SCRIPT_BYTES_PER_STEP)
        table.insert(at, value)
        return []
    run.spend(max(len(items) + 1 - at, 0))
    for to in range(len(items) + 1, at, -1):  # from a place before the first one on, one by one
        table.set(float(to), table.get(float(to - 1)))
    table.set(float(at), value)
    return []


def _remove(run: Run, arguments: Arguments) -> list[Value]:
    table = _changeable(arguments, "remove")
    items = table.items
    at = _integer(arguments, 1, "remove", float(len(items)))
    if not 1 <= at <= len(items):
        return []
    run.spend(1 + len(items) // limits.SCRIPT_BYTES_PER_STEP)
    value = items[at - 1]
    if at < len(items):
        del items[at - 1]
    else:
        table.set(float(at), None)
    return [value]


def _join(run: Run, arguments: Arguments) -> list[Value]:
    table = _table(arguments, "concat")
    between = b"" if _argument(arguments, 1) is None else _string(arguments, 1, "concat")
    first = _integer(arguments, 2, "concat", 1.0)
    last = _integer(arguments, 3, "concat", float(len(table.items)))
    run.spend(max(last - first + 1, 0))
    pieces: list[bytes] = []
    for at in range(first, last + 1):
        value = table.get(float(at))
        piece = to_text(value)
        if piece is None:
            text = f"invalid value ({type_name(value)}) at index {at} in table for 'concat'"
            raise Complaint(text.encode())
        pieces.append(piece)
    run.make(sum(map(len, pieces)) + len(between) * max(len(pieces) - 1, 0))
    return [between.join(pieces)]


# --- string.* ------------------------------------------------------------------------------------


def _sub(run: Run, arguments: Arguments) -> list[Value]:
    text = _string(arguments, 0, "sub")
    first, last = _integer(arguments, 1, "sub"), _integer(arguments, 2, "sub", -1.0)
    return _made(run, text[slice(*_span(text, first, last))])


def _span(text: bytes, first: int, last: int) -> tuple[int, int]:
    """Lua's positions, from 1 on or from -1 backwards, as a half open range."""
    begin = first if first > 0 else max(len(text) + first + 1, 1) if first else 1
    end = last if last >= 0 else len(text) + last + 1
    return begin - 1, max(end, 0)


def _len(run: Run, arguments: Arguments) -> list[Value]:
    return [float(len(_string(arguments, 0, "len")))]


def _rep(run: Run, arguments: Arguments) -> list[Value]:
    text, count = _string(arguments, 0, "rep"), max(_integer(arguments, 1, "rep"), 0)
    run.make(len(text) * count)
    return [text * count]


def _changed(name: str, change: Callable[[bytes], bytes]) -> Function:
    return Function(name, lambda run, arguments: _made(run, change(_string(arguments, 0, name))))


def _byte(run: Run, arguments: Arguments) -> list[Value]:
    text = _string(arguments, 0, "byte")
    first = _integer(arguments, 1, "byte", 1.0)
    begin, end = _span(text, first, _integer(arguments, 2, "byte", float(first)))
    codes = text[begin:end]
    if len(codes) > limits.SCRIPT_VALUES_MAX:
        raise Complaint(b"string slice too long")
    run.spend(len(codes))
    return [float(code) for code in codes]


def _char(run: Run, arguments: Arguments) -> list[Value]:
    run.spend(len(arguments))
    codes = [_integer(arguments, at, "char") for at in range(len(arguments))]
    for at, code in enumerate(codes):
        if not 0 <= code <= 255:
            raise _bad(at, "char", "invalid value")
    return _made(run, bytes(codes))


# --- math.* --------------------------------------------------------------------------------------


def _rounded(name: str, rounding: Callable[[float], int]) -> Function:
    def body(run: Run, arguments: Arguments) -> list[Value]:
        number = _number(arguments, 0, name)
        return [float(rounding(number)) if math.isfinite(number) else number]

    return Function(name, body)


def _extreme(name: str, is_better: Callable[[float, float], bool]) -> Function:
    def body(run: Run, arguments: Arguments) -> list[Value]:
        run.spend(len(arguments))
        best = _number(arguments, 0, name)
        for at in range(1, len(arguments)):
            number = _number(arguments, at, name)
            if is_better(number, best):
                best = number
        return [best]

    return Function(name, body)


def _absolute(run: Run, arguments: Arguments) -> list[Value]:
    return [abs(_number(arguments, 0, "abs"))]


# --- the whole -----------------------------------------------------------------------------------


def _frozen(**fields: Value) -> Table:
    table = table_of(**fields)
    table.frozen = True
    return table


STRING: Final = _frozen(
    sub=Function("sub", _sub),
    len=Function("len", _len),
    rep=Function("rep", _rep),
    lower=_changed("lower", bytes.lower),
    upper=_changed("upper", bytes.upper),
    reverse=_changed("reverse", lambda text: text[::-1]),
    byte=Function("byte", _byte),
    char=Function("char", _char),
)
"""Also what `("text"):sub(1)` finds."""

GLOBALS: Final[dict[str, Value]] = {
    "redis": _frozen(
        call=Function("call", _call),
        pcall=Function("pcall", _pcall_redis),
        error_reply=Function("error_reply", _error_reply),
        status_reply=Function("status_reply", _status_reply),
        sha1hex=Function("sha1hex", _sha1hex),
        replicate_commands=Function("replicate_commands", _replicate_commands),
        log=Function("log", _log),
        LOG_DEBUG=0.0,
        LOG_VERBOSE=1.0,
        LOG_NOTICE=2.0,
        LOG_WARNING=3.0,
    ),
    "string": STRING,
    "table": _frozen(
        insert=Function("insert", _insert),
        remove=Function("remove", _remove),
        concat=Function("concat", _join),
    ),
    "math": _frozen(
        floor=_rounded("floor", math.floor),
        ceil=_rounded("ceil", math.ceil),
        abs=Function("abs", _absolute),
        max=_extreme("max", lambda number, best: number > best),
        min=_extreme("min", lambda number, best: number < best),
        huge=math.inf,
    ),
    "type": Function("type", _type),
    "tostring": Function("tostring", _tostring),
    "tonumber": Function("tonumber", _tonumber),
    "ipairs": Function("ipairs", _ipairs),
    "pairs": Function("pairs", _pairs),
    "next": Function("next", _next),
    "unpack": Function("unpack", _unpack),
    "select": Function("select", _select),
    "error": Function("error", _raise),
    "assert": Function("assert", _assert),
    "pcall": Function("pcall", _pcall),
    "KEYS": None,  # the run's
    "ARGV": None,
}
"""The global variables. Scripts cannot change them, nor add to them."""

_REFUSED_NAMES = """
    _G bit cjson cmsgpack collectgarbage coroutine debug dofile getfenv getmetatable load loadfile
    loadstring module newproxy os package print rawequal rawget rawset require setfenv setmetatable
    struct xpcall
"""
REFUSED_GLOBALS: Final = frozenset(_REFUSED_NAMES.split())
"""Global variables of Redis or Lua that scripts here do not have."""

_REFUSED_BY_LIBRARY: Final = {
    "redis": "setresp set_repl REPL_NONE REPL_AOF REPL_SLAVE REPL_REPLICA REPL_ALL breakpoint debug "
    "acl_check_cmd register_function REDIS_VERSION REDIS_VERSION_NUM",
    "string": "dump find format gmatch gsub match",
    "table": "foreach foreachi getn maxn setn sort",
    "math": "acos asin atan atan2 cos cosh deg exp fmod frexp ldexp log log10 modf pi pow rad random "
    "randomseed sin sinh sqrt tan tanh",
}
REFUSED_FIELDS: Final = frozenset(
    f"{library}.{name}" for library, names in _REFUSED_BY_LIBRARY.items() for name in names.split()
)
"""Fields of the library that Redis has and scripts here do not."""
