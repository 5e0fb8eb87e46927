"""A script that is loaded, and its runs.

Pure. The same script with the same keys, arguments and replies does the same on every replica.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from resplock import limits
from resplock.script import shebang
from resplock.script.compiler import compile_function
from resplock.script.failures import BudgetExceeded, Raised, Refusal
from resplock.script.parser import parse
from resplock.script.replies import Failure, Reply, from_lua
from resplock.script.run import CallRedis, Run
from resplock.script.shape import shape_of
from resplock.script.values import Table, Value, shown

_SHAPE_TOKENS_MAX: Final = 150


def script_sha1(source: bytes) -> bytes:
    """The digest by which a script is called, in lower case."""
    return sha1(source, usedforsecurity=False).hexdigest().encode()


class Program:
    """A compiled script."""

    __slots__ = ("_body", "flags", "sha", "shape", "tokens")

    def __init__(self, source: bytes) -> None:
        """Raises Refusal when the source is no Lua, or outside of the subset."""
        if len(source) > limits.SCRIPT_SOURCE_BYTES_MAX:
            text = f"the script is longer than {limits.SCRIPT_SOURCE_BYTES_MAX} bytes"
            raise Refusal(1, text)
        self.sha: Final = script_sha1(source)
        flags, code = shebang.split(source)
        self.flags: Final = flags
        """Those of its first line; None when it has no such line."""
        tree, tokens = parse(code)
        self.tokens: Final = tokens
        self.shape: Final = shape_of(tree) if tokens <= _SHAPE_TOKENS_MAX else b""
        """What it does, whatever it is written like; empty when it is too long for this to be told."""
        self._body: Final = compile_function(tree)

    def run(self, keys: list[bytes], argv: list[bytes], call_redis: CallRedis) -> tuple[Reply, int]:
        """Run it, and answer what it returns, and how many steps that took.

        Whatever goes wrong in it is a Failure; what it has done until then stays, as in Redis.
        """
        run = Run(keys, argv, call_redis)
        reply = self._reply(run)
        return reply, limits.SCRIPT_STEPS_MAX - max(run.steps_left, 0)

    def _reply(self, run: Run) -> Reply:
        try:
            values = self._body(run, [])
            return from_lua(run, values[0]) if values else None
        except BudgetExceeded as exceeded:
            return Failure(b"ERR %b script: %b" % (exceeded.text.encode(), self.sha))
        except Raised as raised:
            return self._failure(raised)

    def _failure(self, raised: Raised) -> Failure:
        text = _text_of(raised.value).replace(b"\r", b" ").replace(b"\n", b" ")
        if not raised.line:
            return Failure(text)
        return Failure(b"%b script: %b, on @user_script:%d." % (text, self.sha, raised.line))


def _text_of(error: Value) -> bytes:
    """The reply's text for what was raised: a table with `err`, as redis.call raises, or any value."""
    if isinstance(error, Table):
        text = error.get(b"err")
        return text if type(text) is bytes else b"ERR unknown error"
    return b"ERR " + shown(error)
