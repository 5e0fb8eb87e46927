"""What commands answer to scripts, and scripts to clients.

Pure. https://redis.io/docs/latest/develop/programmability/lua-api, "Data type conversion", for a
script that does not ask for RESP3: nil is `false` in Lua, and both `false` and `nil` are nil again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from resplock import limits
from resplock.script.failures import Raised
from resplock.script.values import Table, Value, table_of, to_integer

if TYPE_CHECKING:
    from resplock.script.run import Run


class Status(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A status reply: `+OK`."""

    text: bytes


class Failure(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """An error reply, without its minus sign; the first word is its code."""

    text: bytes


Reply: TypeAlias = "None | int | bytes | Status | Failure | list[Reply]"

_TABLE_BYTES = 64
_ELEMENT_BYTES = 16
_ONLY_RESP3: Final = (b"double", b"map", b"set", b"big_number", b"verbatim_string")
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def to_lua(run: Run, reply: Reply) -> Value:
    """A command's reply, as a script sees it."""
    match reply:
        case None:
            return False
        case bytes():
            run.make(len(reply))
            return reply
        case int():
            return float(reply)
        case Status():
            return table_of(ok=reply.text)
        case Failure():
            return table_of(err=reply.text)
        case _:
            run.allot(_TABLE_BYTES + _ELEMENT_BYTES * len(reply))
            return Table([to_lua(run, each) for each in reply])


def from_lua(run: Run, value: Value, depth: int = 0) -> Reply:
    """What a script returns, as a reply. An array ends at its first nil."""
    run.spend(1)
    run.reply(_ELEMENT_BYTES + (len(value) if type(value) is bytes else 0))
    match value:
        case bool():
            return 1 if value else None
        case float():
            return to_integer(value)
        case bytes():
            return value
        case Table():
            return _from_table(run, value, depth)
        case _:
            return None


def _from_table(run: Run, table: Table, depth: int) -> Reply:
    if depth >= limits.SCRIPT_REPLY_DEPTH_MAX:
        raise Raised(table_of(err=b"ERR reached lua stack limit"))
    error = table.get(b"err")
    if type(error) is bytes:
        run.reply(len(error))
        return Failure(error.translate(_ONE_LINE))
    status = table.get(b"ok")
    if type(status) is bytes:
        run.reply(len(status))
        return Status(status.translate(_ONE_LINE))
    for kind in _ONLY_RESP3 if table.others else ():
        if table.get(kind) is not None:
            raise Raised(table_of(err=b"ERR a reply of the type '%b' is not supported" % kind))
    elements: list[Reply] = []
    for item in table.items:
        if item is None:
            break
        elements.append(from_lua(run, item, depth + 1))
    return elements


def encode(reply: Reply, nil: bytes) -> bytes:
    """A reply as it is sent. `nil` is what differs between RESP2 and RESP3."""
    match reply:
        case None:
            return nil
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case Status():
            return b"+%b\r\n" % reply.text
        case Failure():
            return b"-%b\r\n" % reply.text
        case _:
            return b"*%d\r\n" % len(reply) + b"".join([encode(each, nil) for each in reply])
