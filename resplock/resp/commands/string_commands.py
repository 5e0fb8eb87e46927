"""Redis's commands on string keys: each key is a lock, and its value the owner.

Pure, and only data. The arguments describe; `resplock.strings` reads them, as scripts do too.
"""

from typing import Any

from resplock import operations as ops
from resplock.limits import ARGUMENT_BYTES_MAX, EXPIRY_MS_MAX, INTEGER_MAX, VALUES_BYTES_MAX
from resplock.resp.arguments import Argument, Block, Integer, Key, OneOf, PureToken, Text
from resplock.resp.command import Command, Flag, Group, Meets
from resplock.resp.shapes import Kind, Reply
from resplock.strings import GRAMMARS

_WRITE = (Flag.WRITE, Flag.FAST)
_SET = (Flag.WRITE, Flag.DENYOOM)
_SET_FAST = (*_SET, Flag.FAST)
_READ = (Flag.READONLY, Flag.FAST)
_WRONG_TYPE = ("WRONGTYPE",)
_MANY_KEYS = ("request_policy:multi_shard", "response_policy:agg_sum")

_MOST = {"seconds": EXPIRY_MS_MAX // 1000, "milliseconds": EXPIRY_MS_MAX}

KEY = Key(name="key", summary="The lock.")
KEYS = Key(name="key", field="names", multiple=True, summary="The locks.")
PAIRS = Block(
    name="data",
    multiple=True,
    arguments=(
        Key(name="key", summary="The lock."),
        Text(name="value", summary="Its owner."),
    ),
)
VALUE = Text(name="value", summary=f"The owner: 0 to {ARGUMENT_BYTES_MAX} bytes.")

OK = Reply("ok", Kind.SIMPLE, "OK, when it was set.", of=ops.Done)
NOT_SET = Reply("not-set", Kind.NIL, "The condition does not hold.", of=ops.Bulk)
OLD = Reply("old", Kind.BULK, "With GET: the value before, whether it was set or not.", of=ops.Bulk)
GOT = Reply("value", Kind.BULK, "The value.", of=ops.Bulk)
NO_KEY = Reply("nil", Kind.NIL, "There is no such key.", of=ops.Bulk)


def _number(when: str) -> Reply:
    return Reply("number", Kind.INTEGER, when, of=ops.Number)


def _word(name: str, summary: str) -> PureToken:
    return PureToken(name=name, token=name.upper(), summary=summary)


def _amount(token: str, summary: str) -> Integer:
    unit = "milliseconds" if token.startswith("P") else "seconds"
    name = f"unix-time-{unit}" if token.endswith("AT") else unit
    return Integer(
        name=name,
        field=token.lower(),
        token=token,
        least=1,
        most=_MOST[unit],
        unit=unit,
        unix_time=token.endswith("AT"),
        summary=summary,
    )


_AMOUNTS: tuple[Argument, ...] = (
    _amount("EX", "How long it lasts."),
    _amount("PX", "How long it lasts."),
    _amount("EXAT", "When it ends."),
    _amount("PXAT", "When it ends."),
)


def _expiry(other: PureToken, absent: str) -> OneOf:
    return OneOf(name="expiration", optional=True, absent=absent, arguments=(*_AMOUNTS, other))


_CONDITIONS = OneOf(
    name="condition",
    optional=True,
    absent="always",
    summary="Whether to.",
    arguments=(
        _word("nx", "Only a key that never ends."),
        _word("xx", "Only a key that ends."),
        _word("gt", "Only to a later end than it has."),
        _word("lt", "Only to an earlier end than it has."),
    ),
)


def _command(
    name: str,
    summary: str,
    arguments: tuple[Argument, ...],
    builds: type[Any],
    replies: tuple[Reply, ...],
    *,
    group: Group = Group.STRING,
    flags: tuple[Flag, ...] = _WRITE,
    errors: tuple[str, ...] = _WRONG_TYPE,
    complexity: str = "O(1)",
    details: tuple[str, ...] = (),
    key_flags: str = "",
    tips: tuple[str, ...] = (),
    heavy: bool = False,
) -> Command:
    return Command(
        name=name,
        summary=summary,
        complexity=complexity,
        group=group,
        meets=Meets.PROPOSE if Flag.WRITE in flags else Meets.READ,
        flags=flags,
        arguments=arguments,
        builds=builds,
        replies=replies,
        errors=errors,
        details=details,
        key_flags=tuple(key_flags.split()),
        tips=tips,
        light=Flag.WRITE in flags and not heavy,
        heavy=heavy,
        grammar=GRAMMARS[name.encode()],
    )


def _expire(name: str, amount: str, summary: str) -> Command:
    unit = amount.split("-")[-1]
    return _command(
        name,
        summary,
        (
            KEY,
            Integer(
                name=amount,
                least=-_MOST[unit],
                most=_MOST[unit],
                unit=unit,
                unix_time=amount.startswith("unix"),
            ),
            _CONDITIONS,
        ),
        ops.Expire,
        (_number("1, or 0 when there is no key or the condition does not hold."),),
        group=Group.GENERIC,
        details=("An end that is past deletes the key.",),
        key_flags="RW update",
    )


def _lifetime(name: str, summary: str) -> Command:
    return _command(
        name,
        summary,
        (KEY,),
        ops.GetTtl,
        (_number("How long or when; -1 when the key never ends, -2 when there is none."),),
        group=Group.GENERIC,
        flags=_READ,
        errors=(),
        tips=("nondeterministic_output",) if name in ("TTL", "PTTL") else (),
    )


def _increment(name: str, summary: str, *amount: Argument) -> Command:
    return _command(
        name,
        summary,
        (KEY, *amount),
        ops.Increment,
        (_number("The sum."),),
        flags=_SET_FAST,
        details=(_NEW_GRANT,),
    )


_NEW_GRANT = "Another value is a new grant, with a new fencing version; when the key ends stays."


def _amount_of(name: str, least: int) -> Integer:
    return Integer(name=name, field="by", least=least)


def _set_all(name: str, summary: str, reply: Reply, policy: str, *errors: str) -> Command:
    return _command(
        name,
        summary,
        (PAIRS,),
        ops.SetAll,
        (reply,),
        flags=_SET,
        errors=errors,
        complexity="O(N) where N is the number of keys",
        details=("All are set at once, or none is. They never end.",),
        key_flags="OW insert" if name == "MSETNX" else "OW update",
        tips=("request_policy:multi_shard", f"response_policy:{policy}"),
        heavy=True,
    )


def _delete(name: str) -> Command:
    return _command(
        name,
        "Deletes keys: takes locks from their holders.",
        (KEYS,),
        ops.Delete,
        (_number("How many keys were there."),),
        group=Group.GENERIC,
        errors=(),
        complexity="O(N) where N is the number of keys",
        key_flags="RM delete",
        flags=_WRITE if name == "UNLINK" else (Flag.WRITE,),
        tips=_MANY_KEYS,
        details=("Who waits for the lock is next. The event is `deleted`, not `released`.",),
    )


def _count(name: str, summary: str) -> Command:
    return _command(
        name,
        summary,
        (KEYS,),
        ops.CountKeys,
        (_number("How many keys are there; one that is named twice counts twice."),),
        group=Group.GENERIC,
        flags=_READ,
        errors=(),
        complexity="O(N) where N is the number of keys",
        key_flags="RO",
        tips=_MANY_KEYS,
    )


COMMANDS = (
    _command(
        "SET",
        "Sets a key to a value: takes a lock for an owner.",
        (
            KEY,
            VALUE,
            OneOf(
                name="condition",
                optional=True,
                absent="always",
                arguments=(
                    _word("nx", "Only a key that is not there: a try for the lock."),
                    _word("xx", "Only a key that is there."),
                ),
            ),
            PureToken(name="get", token="GET", optional=True, summary="Return the value before."),
            _expiry(_word("keepttl", "When it would have ended."), "never"),
        ),
        ops.SetString,
        (OK, NOT_SET, OLD),
        details=(
            (
                "A value that differs is a new grant with a new fencing version, which `LOCK.GET` shows; "
                "an equal one keeps the hold and its version, and only its end changes."
            ),
            (
                "With NX it is a try for the lock: it passes nobody who waits, and it is refused on a key "
                "that is there, also when the value is equal. Without NX it takes the lock from whoever "
                "holds it; those who wait go on waiting."
            ),
        ),
        flags=_SET,
        key_flags="RW access update variable_flags",
    ),
    _command(
        "SETNX",
        "Sets a key that is not there.",
        (KEY, VALUE),
        ops.SetString,
        (_number("1 when it was set, else 0."),),
        errors=(),
        flags=_SET_FAST,
        key_flags="OW insert",
    ),
    _command(
        "SETEX",
        "Sets a key for some seconds.",
        (KEY, Integer(name="seconds", least=1, most=_MOST["seconds"], unit="seconds"), VALUE),
        ops.SetString,
        (OK,),
        flags=_SET,
        key_flags="OW update",
    ),
    _command(
        "PSETEX",
        "Sets a key for some milliseconds.",
        (
            KEY,
            Integer(name="milliseconds", least=1, most=_MOST["milliseconds"], unit="milliseconds"),
            VALUE,
        ),
        ops.SetString,
        (OK,),
        flags=_SET,
        key_flags="OW update",
    ),
    _command(
        "GETSET",
        "Sets a key and returns the value before.",
        (KEY, VALUE),
        ops.SetString,
        (Reply("old", Kind.BULK, "The value before.", of=ops.Bulk), NO_KEY),
        flags=_SET_FAST,
    ),
    _set_all("MSET", "Sets several keys.", OK, "all_succeeded", "WRONGTYPE"),
    _set_all(
        "MSETNX",
        "Sets several keys that are not there.",
        _number("1 when they were set; 0 when one is there, or is waited for."),
        "agg_min",
    ),
    _increment("INCR", "Adds 1 to the number that a value is."),
    _increment("DECR", "Takes 1 from the number that a value is."),
    _increment(
        "INCRBY", "Adds to the number that a value is.", _amount_of("increment", -INTEGER_MAX - 1)
    ),
    _increment(
        "DECRBY", "Takes from the number that a value is.", _amount_of("decrement", -INTEGER_MAX)
    ),
    _command(
        "APPEND",
        "Adds to the end of a value.",
        (KEY, VALUE),
        ops.Append,
        (_number("The bytes of the whole value."),),
        flags=_SET_FAST,
        details=(_NEW_GRANT,),
        key_flags="RW insert",
    ),
    _command(
        "GET",
        "Returns the value of a key: the owner of a lock.",
        (KEY,),
        ops.GetString,
        (GOT, NO_KEY),
        flags=_READ,
    ),
    _command(
        "MGET",
        "Returns the values of several keys.",
        (KEYS,),
        ops.GetStrings,
        (
            Reply(
                "values",
                Kind.ARRAY,
                "The value of each, or nil: there is no such key, or it is a shared lock or a "
                f"semaphore. An error when they have more than {VALUES_BYTES_MAX} bytes.",
                of=ops.Values,
            ),
        ),
        flags=_READ,
        errors=(),
        complexity="O(N) where N is the number of keys",
        tips=("request_policy:multi_shard",),
        heavy=True,
    ),
    _command(
        "GETRANGE",
        "Returns a part of a value.",
        (
            KEY,
            Integer(name="start", field="first", least=-INTEGER_MAX - 1),
            Integer(
                name="end",
                field="last",
                least=-INTEGER_MAX - 1,
                summary="Both are included, and count from the end of the value below 0.",
            ),
        ),
        ops.GetRange,
        (Reply("part", Kind.BULK, "The part; empty when there is none.", of=ops.Bulk),),
        flags=(Flag.READONLY,),
        complexity="O(N) where N is the length of the part",
    ),
    _command(
        "GETDEL",
        "Deletes a key and returns its value.",
        (KEY,),
        ops.GetDelete,
        (GOT, NO_KEY),
        key_flags="RW access delete",
    ),
    _command(
        "GETEX",
        "Returns the value of a key and sets when it ends.",
        (KEY, _expiry(_word("persist", "Never."), "as it is")),
        ops.GetExpire,
        (GOT, NO_KEY),
    ),
    _command(
        "STRLEN",
        "Returns the length of a value.",
        (KEY,),
        ops.GetLength,
        (_number("In bytes; 0 when there is no key."),),
        flags=_READ,
        key_flags="RO",
    ),
    _command(
        "DELIFEQ",
        "Deletes a key if its value is equal: its owner's release.",
        (KEY, VALUE),
        ops.DeleteIf,
        (_number("1 when it was deleted, else 0."),),
        key_flags="RW access delete",
    ),
    _command(
        "DELEX",
        "Deletes a key, if its value is or is not equal.",
        (
            KEY,
            OneOf(
                name="condition",
                optional=True,
                absent="always",
                arguments=(
                    Text(name="equal", token="IFEQ", summary="If this is the value."),
                    Text(name="unequal", token="IFNE", summary="If this is not the value."),
                ),
            ),
        ),
        ops.DeleteIf,
        (_number("1 when it was deleted, else 0."),),
        details=("With IFEQ it is the release of its owner.",),
        key_flags="RW access delete",
    ),
    _delete("DEL"),
    _delete("UNLINK"),
    _count("EXISTS", "Counts which keys are there."),
    _count("TOUCH", "Counts which keys are there."),
    _command(
        "TYPE",
        "Tells the type of a key.",
        (KEY,),
        ops.GetType,
        (Reply("type", Kind.SIMPLE, "`string`, or `none` when there is no key.", of=ops.Status),),
        group=Group.GENERIC,
        flags=_READ,
        key_flags="RO",
    ),
    _expire("EXPIRE", "seconds", "Sets how many seconds a key lasts."),
    _expire("PEXPIRE", "milliseconds", "Sets how many milliseconds a key lasts."),
    _expire("EXPIREAT", "unix-time-seconds", "Sets when a key ends."),
    _expire("PEXPIREAT", "unix-time-milliseconds", "Sets when a key ends."),
    _command(
        "PERSIST",
        "Lets a key last for ever.",
        (KEY,),
        ops.Persist,
        (_number("1, or 0 when there is no key or it never ended."),),
        group=Group.GENERIC,
        key_flags="RW update",
    ),
    _lifetime("TTL", "Tells how many seconds a key lasts."),
    _lifetime("PTTL", "Tells how many milliseconds a key lasts."),
    _lifetime("EXPIRETIME", "Tells when a key ends, in unix seconds."),
    _lifetime("PEXPIRETIME", "Tells when a key ends, in unix milliseconds."),
)
