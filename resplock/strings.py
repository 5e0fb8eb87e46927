"""Redis's commands on string keys: from their words to an Operation or a Query.

Pure. Clients reach it through the command table, and scripts from within `apply`, so that both mean
the same. The errors are Redis's, word for word: clients compare them.

Sources: https://redis.io/docs/latest/commands; `DELIFEQ` is Valkey's, `DELEX` of Redis 8.4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

from resplock.errors import CommandError
from resplock.limits import ARGUMENT_BYTES_MAX, EXPIRY_MS_MAX, INTEGER_MAX, KEY_BYTES_MAX
from resplock.operations import (
    KEEP_TTL,
    Append,
    CountKeys,
    Delete,
    DeleteAll,
    DeleteIf,
    Expire,
    GetDelete,
    GetExpire,
    GetLength,
    GetRange,
    GetString,
    GetStrings,
    GetTtl,
    GetType,
    Increment,
    Operation,
    Persist,
    Query,
    SetAll,
    SetString,
)
from resplock.types import DB_PREFIXES, LockName

Parse: TypeAlias = Callable[[list[bytes], int], Operation | Query]


class Grammar:
    """How the words of one command are read. `arity` is as in Redis."""

    __slots__ = ("_parse", "arity", "name")

    def __init__(self, name: str, arity: int, parse: Parse) -> None:
        self.name = name
        self.arity = arity
        self._parse = parse

    def bind(self, argv: list[bytes], db: int) -> Operation | Query:
        """What the command asks for. `db` is 0 to 15. Raises CommandError."""
        count, arity = len(argv), self.arity
        if count != arity if arity > 0 else count < -arity:
            raise _wrong_arity(self.name)
        return self._parse(argv, db)


# --- words ---------------------------------------------------------------------------------------


def integer(raw: bytes) -> int:
    """A number of 64 bits as Redis takes it (string2ll): no plus sign, spaces or leading zeros."""
    digits = raw.removeprefix(b"-")
    if digits.isdigit() and len(raw) <= _INTEGER_BYTES_MAX and (digits[0] != _ZERO or raw == b"0"):
        number = int(raw)
        if -INTEGER_MAX - 1 <= number <= INTEGER_MAX:
            return number
    raise CommandError("value is not an integer or out of range")


_INTEGER_BYTES_MAX = 20
_ZERO = ord("0")


def lock_of(key: bytes, db: int) -> LockName:
    """The name of the lock that a key is. Raises CommandError for one that is empty or too long."""
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise CommandError(f"key must be 1 to {KEY_BYTES_MAX} bytes, got {len(key)}")
    return LockName(DB_PREFIXES[db] + key)


def _names(argv: list[bytes], db: int) -> tuple[LockName, ...]:
    return tuple([lock_of(key, db) for key in argv[1:]])


def _value(value: bytes) -> bytes:
    """Clients cannot send a longer one, but scripts can build it."""
    if len(value) > ARGUMENT_BYTES_MAX:
        raise CommandError(TOO_LONG)
    return value


TOO_LONG: Final = "string exceeds maximum allowed size (proto-max-bulk-len)"
"""A value or what becomes of it, in Redis's words."""


def _shown(word: bytes) -> str:
    text = word[:_SHOWN_BYTES_MAX].decode("ascii", "replace")
    return "".join([letter if letter.isprintable() else "?" for letter in text])


_SHOWN_BYTES_MAX = 128


def _wrong_arity(command: str) -> CommandError:
    return CommandError(f"wrong number of arguments for '{command.lower()}' command")


def syntax_error() -> CommandError:
    """In Redis's words."""
    return CommandError("syntax error")


def _invalid_expiry(argv: list[bytes]) -> CommandError:
    command = argv[0].decode("latin-1").lower()
    return CommandError(f"invalid expire time in '{command}' command")


# --- SET and its relatives -----------------------------------------------------------------------

_MS_BY_UNIT: Final = {b"EX": 1000, b"PX": 1, b"EXAT": 1000, b"PXAT": 1}


class _Options:
    """What SET and GETEX may be given behind the value or key, in any order and repeatedly."""

    __slots__ = ("amount", "end", "others")

    def __init__(self, words: list[bytes], allowed: frozenset[bytes]) -> None:
        """`allowed`: the words without an amount. Raises the syntax error, not that of an amount."""
        self.end = b""  # EX, PX, EXAT, PXAT, KEEPTTL or PERSIST
        self.amount = b""
        self.others: set[bytes] = set()
        left = iter(words)
        for word in left:
            option = word.upper()
            if option in _MS_BY_UNIT or (option in _ENDS and option in allowed):
                amount = next(left, None) if option in _MS_BY_UNIT else b""
                if amount is None or self.end not in (b"", option):
                    raise syntax_error()
                self.end, self.amount = option, amount
            elif option in allowed:
                self.others.add(option)
            else:
                raise syntax_error()
        if self.others >= _BOTH_CONDITIONS:
            raise syntax_error()

    def times(self, argv: list[bytes]) -> tuple[int, int]:
        """`ttl_ms` and `at_ms` of the operation; (0, 0) when nothing is said of an end."""
        if not self.end or self.end in _ENDS:
            return (KEEP_TTL if self.end == b"KEEPTTL" else 0), 0
        ms = _lifetime(argv, self.amount, _MS_BY_UNIT[self.end])
        return (0, ms) if self.end.endswith(b"AT") else (ms, 0)


_ENDS: Final = frozenset({b"KEEPTTL", b"PERSIST"})
_BOTH_CONDITIONS: Final = {b"NX", b"XX"}
_OF_SET: Final = frozenset({b"NX", b"XX", b"GET", b"KEEPTTL"})
_OF_GETEX: Final = frozenset({b"PERSIST"})


def _lifetime(argv: list[bytes], amount: bytes, unit_ms: int) -> int:
    ms = integer(amount) * unit_ms
    if not 0 < ms <= EXPIRY_MS_MAX:
        raise _invalid_expiry(argv)
    return ms


def _set(argv: list[bytes], db: int) -> SetString:
    name, value = lock_of(argv[1], db), _value(argv[2])
    if len(argv) == 3:
        return SetString(name, value)
    read = _set_options if len(argv) <= _REMEMBERED_WORDS_MAX else _set_options.__wrapped__
    return SetString(name, value, *read(*argv[3:]))


_REMEMBERED_WORDS_MAX = 8


@lru_cache(maxsize=512)
def _set_options(*words: bytes) -> tuple[int, str, int, bool]:
    """`ttl_ms`, `condition`, `at_ms` and `gives_old` of a SET. Clients send the same words again."""
    options = _Options(list(words), _OF_SET)
    ttl_ms, at_ms = options.times([b"set"])
    condition = "NX" if b"NX" in options.others else "XX" if b"XX" in options.others else ""
    return ttl_ms, condition, at_ms, b"GET" in options.others


def _setnx(argv: list[bytes], db: int) -> SetString:
    return SetString(lock_of(argv[1], db), _value(argv[2]), condition="NX", counts=True)


def _setex(argv: list[bytes], db: int) -> SetString:
    return SetString(lock_of(argv[1], db), _value(argv[3]), _lifetime(argv, argv[2], 1000))


def _psetex(argv: list[bytes], db: int) -> SetString:
    return SetString(lock_of(argv[1], db), _value(argv[3]), _lifetime(argv, argv[2], 1))


def _getset(argv: list[bytes], db: int) -> SetString:
    return SetString(lock_of(argv[1], db), _value(argv[2]), gives_old=True)


def _getdel(argv: list[bytes], db: int) -> GetDelete:
    return GetDelete(lock_of(argv[1], db))


def _getex(argv: list[bytes], db: int) -> GetExpire:
    name, options = lock_of(argv[1], db), _Options(argv[2:], _OF_GETEX)
    return GetExpire(name, *options.times(argv)) if options.end else GetExpire(name)


def _mset(if_absent: bool) -> Parse:
    def parse(argv: list[bytes], db: int) -> SetAll:
        if len(argv) % 2 == 0:
            raise _wrong_arity(argv[0].decode())
        names = tuple([lock_of(key, db) for key in argv[1::2]])
        return SetAll(names, tuple(map(_value, argv[2::2])), if_absent)

    return parse


# --- changing values -----------------------------------------------------------------------------


def _count(by: int) -> Parse:
    return lambda argv, db: Increment(lock_of(argv[1], db), by)


def _incrby(argv: list[bytes], db: int) -> Increment:
    return Increment(lock_of(argv[1], db), integer(argv[2]))


def _decrby(argv: list[bytes], db: int) -> Increment:
    by = -integer(argv[2])
    if by > INTEGER_MAX:
        raise CommandError("decrement would overflow")
    return Increment(lock_of(argv[1], db), by)


def _append(argv: list[bytes], db: int) -> Append:
    return Append(lock_of(argv[1], db), argv[2])


# --- deleting ------------------------------------------------------------------------------------


def _delete(argv: list[bytes], db: int) -> Delete | DeleteAll:
    return Delete(lock_of(argv[1], db)) if len(argv) == 2 else DeleteAll(_names(argv, db))


def _delifeq(argv: list[bytes], db: int) -> DeleteIf:
    return DeleteIf(lock_of(argv[1], db), argv[2])


def _delex(argv: list[bytes], db: int) -> Delete | DeleteIf:
    name = lock_of(argv[1], db)
    if len(argv) == 2:
        return Delete(name)
    condition = argv[2].upper()
    if len(argv) != 4 or condition not in (b"IFEQ", b"IFNE"):
        raise syntax_error()
    return DeleteIf(name, argv[3], condition == b"IFEQ")


# --- when they end -------------------------------------------------------------------------------

_CONDITIONS: Final = {b"NX": "NX", b"XX": "XX", b"GT": "GT", b"LT": "LT"}


def _expire(unit_ms: int, is_unix: bool) -> Parse:
    def parse(argv: list[bytes], db: int) -> Expire:
        name = lock_of(argv[1], db)
        conditions = _conditions(argv[3:]) if len(argv) > 3 else ()
        ms = integer(argv[2]) * unit_ms
        if not -INTEGER_MAX - 1 <= ms <= (INTEGER_MAX if is_unix else EXPIRY_MS_MAX):
            raise _invalid_expiry(argv)
        return Expire(name, max(ms, -INTEGER_MAX), is_unix, conditions)

    return parse


def _conditions(words: list[bytes]) -> tuple[str, ...]:
    given = []
    for word in words:
        condition = _CONDITIONS.get(word.upper())
        if condition is None:
            raise CommandError(f"Unsupported option {_shown(word)}")
        given.append(condition)
    conditions = tuple(sorted(set(given)))
    if "NX" in conditions and len(conditions) > 1:
        raise CommandError("NX and XX, GT or LT options at the same time are not compatible")
    if "GT" in conditions and "LT" in conditions:
        raise CommandError("GT and LT options at the same time are not compatible")
    return conditions


def _persist(argv: list[bytes], db: int) -> Persist:
    return Persist(lock_of(argv[1], db))


def _ttl(unit_ms: int, is_unix: bool) -> Parse:
    return lambda argv, db: GetTtl(lock_of(argv[1], db), unit_ms, is_unix)


# --- looking -------------------------------------------------------------------------------------


def _get(argv: list[bytes], db: int) -> GetString:
    return GetString(lock_of(argv[1], db))


def _strlen(argv: list[bytes], db: int) -> GetLength:
    return GetLength(lock_of(argv[1], db))


def _mget(argv: list[bytes], db: int) -> GetStrings:
    return GetStrings(_names(argv, db))


def _getrange(argv: list[bytes], db: int) -> GetRange:
    return GetRange(lock_of(argv[1], db), integer(argv[2]), integer(argv[3]))


def _type(argv: list[bytes], db: int) -> GetType:
    return GetType(lock_of(argv[1], db))


def _exists(argv: list[bytes], db: int) -> CountKeys:
    return CountKeys(_names(argv, db))


GRAMMARS: Final[dict[bytes, Grammar]] = {
    grammar.name.encode(): grammar
    for grammar in (
        Grammar("SET", -3, _set),
        Grammar("SETNX", 3, _setnx),
        Grammar("SETEX", 4, _setex),
        Grammar("PSETEX", 4, _psetex),
        Grammar("GETSET", 3, _getset),
        Grammar("MSET", -3, _mset(if_absent=False)),
        Grammar("MSETNX", -3, _mset(if_absent=True)),
        Grammar("INCR", 2, _count(1)),
        Grammar("DECR", 2, _count(-1)),
        Grammar("INCRBY", 3, _incrby),
        Grammar("DECRBY", 3, _decrby),
        Grammar("APPEND", 3, _append),
        Grammar("GET", 2, _get),
        Grammar("MGET", -2, _mget),
        Grammar("GETRANGE", 4, _getrange),
        Grammar("GETDEL", 2, _getdel),
        Grammar("GETEX", -2, _getex),
        Grammar("STRLEN", 2, _strlen),
        Grammar("DEL", -2, _delete),
        Grammar("UNLINK", -2, _delete),
        Grammar("DELIFEQ", 3, _delifeq),
        Grammar("DELEX", -2, _delex),
        Grammar("EXISTS", -2, _exists),
        Grammar("TOUCH", -2, _exists),
        Grammar("TYPE", 2, _type),
        Grammar("EXPIRE", -3, _expire(1000, is_unix=False)),
        Grammar("PEXPIRE", -3, _expire(1, is_unix=False)),
        Grammar("EXPIREAT", -3, _expire(1000, is_unix=True)),
        Grammar("PEXPIREAT", -3, _expire(1, is_unix=True)),
        Grammar("PERSIST", 2, _persist),
        Grammar("TTL", 2, _ttl(1000, is_unix=False)),
        Grammar("PTTL", 2, _ttl(1, is_unix=False)),
        Grammar("EXPIRETIME", 2, _ttl(1000, is_unix=True)),
        Grammar("PEXPIRETIME", 2, _ttl(1, is_unix=True)),
    )
}
"""By the command's name in capitals."""
