"""EVAL and its relatives on the lock table.

Pure and deterministic. What a script calls are the string commands, within the `apply` of the one
entry: nothing comes between its steps. Errors are Redis's, word for word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, assert_never

from resplock import limits
from resplock.errors import CommandError
from resplock.operations import (
    Bulk,
    Busy,
    Done,
    Evaluate,
    FlushScripts,
    LoadScript,
    Number,
    Refused,
    Scripted,
    ScriptsExist,
    Status,
    Values,
    WrongType,
)
from resplock.script import Failure, Program, Refusal, Reply, encode, script_sha1
from resplock.script import Status as StatusReply
from resplock.script.shebang import NO_WRITES
from resplock.state import strings
from resplock.state.ledger import Ledger
from resplock.state.native import NATIVES
from resplock.strings import GRAMMARS
from resplock.types import LockName, key_of

_NIL_2: Final = b"$-1\r\n"
_NIL_3: Final = b"_\r\n"
_MAY_WRITE: Final = Scripted(
    b"-ERR Can not execute a script with write flag using *_ro command.\r\n"
)
_NO_SCRIPT: Final = Scripted(b"-NOSCRIPT No matching script. Please use EVAL.\r\n")
_DONE: Final = Done()
_OK: Final = StatusReply(b"OK")
_BUSY: Final = Busy(f"scripts take more than {limits.SCRIPT_STEPS_PER_ENTRY} steps at once")

_UNKNOWN: Final = Failure(b"ERR Unknown Redis command called from script")
_ARITY: Final = Failure(b"ERR Wrong number of args calling Redis command from script")
_UNDECLARED: Final = Failure(
    b"ERR Script attempted to access a key that it did not declare in KEYS"
)
_NOT_ALLOWED: Final = Failure(b"ERR This Redis command is not allowed from script")
_NOT_FOR_SCRIPTS: Final = frozenset(
    b"""
    AUTH BLPOP BRPOP CLIENT CONFIG DBSIZE DEBUG DISCARD ECHO EVAL EVALSHA EVAL_RO EVALSHA_RO EXEC
    FLUSHALL FLUSHDB HELLO INFO KEYS MEMORY MONITOR MULTI OBJECT PING PSUBSCRIBE PUBLISH PUNSUBSCRIBE
    QUIT RANDOMKEY RESET SCAN SCRIPT SELECT SHUTDOWN SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE
    UNWATCH WAIT WATCH
    """.split()
)
"""Commands that are known, and not for scripts: some in Redis too, some because no KEYS bound them."""
_READ_ONLY: Final = Failure(b"ERR Write commands are not allowed from read-only scripts.")
_WRONG_TYPE: Final = Failure(b"WRONGTYPE Operation against a key holding the wrong kind of value")


def evaluate(ledger: Ledger, operation: Evaluate, index: int) -> Scripted | Busy:
    """Run a script, and know it from then on."""
    if ledger.script_steps_left <= 0:
        return _BUSY
    try:
        if operation.by_sha:
            program = ledger.scripts.use(operation.script.lower())
        else:
            program = _learned(ledger, script_sha1(operation.script), operation.script)
    except Refusal as refusal:
        return _refused(refusal)
    if program is None:
        return _NO_SCRIPT
    flags = program.flags
    native = NATIVES.get(program.shape)
    if native is not None and flags is None and not operation.read_only:
        done = native(ledger, operation, index)
        if done is not None:
            ledger.script_steps_left -= limits.SCRIPT_NATIVE_STEPS
            return done
    if operation.read_only and flags is not None and NO_WRITES not in flags:
        return _MAY_WRITE
    keys = [key_of(name) for name in operation.names]
    is_reader = operation.read_only or (flags is not None and NO_WRITES in flags)
    caller = _Caller(ledger, operation, is_reader, index)
    reply, steps = program.run(keys, list(operation.arguments), caller.call)
    ledger.script_steps_left -= steps
    return scripted(reply)


def load(ledger: Ledger, operation: LoadScript, index: int) -> Scripted | Busy:
    """SCRIPT LOAD."""
    if ledger.script_steps_left <= 0:
        return _BUSY
    sha = script_sha1(operation.script)
    try:
        _learned(ledger, sha, operation.script)
    except Refusal as refusal:
        return _refused(refusal)
    return scripted(sha)


def flush(ledger: Ledger, operation: FlushScripts, index: int) -> Done:
    """SCRIPT FLUSH."""
    ledger.scripts.clear()
    return _DONE


def exist(ledger: Ledger, query: ScriptsExist) -> Scripted:
    """SCRIPT EXISTS."""
    return scripted([int(digest.lower() in ledger.scripts) for digest in query.digests])


Handler: TypeAlias = Callable[[Ledger, Any, int], Scripted | Busy | Done]
HANDLERS: Final[dict[type, Handler]] = {Evaluate: evaluate, LoadScript: load, FlushScripts: flush}


def scripted(reply: Reply) -> Scripted:
    """A reply in both protocols."""
    resp2, resp3 = encode(reply, _NIL_2), encode(reply, _NIL_3)
    return Scripted(resp2) if resp2 == resp3 else Scripted(resp2, resp3)


def _refused(refusal: Refusal) -> Scripted:
    text = f"ERR {refusal.reply}"
    return scripted(Failure(text.encode().replace(b"\r", b" ").replace(b"\n", b" ")))


def _learned(ledger: Ledger, sha: bytes, source: bytes) -> Program:
    """A script that is known from now on. Compiling a new one takes steps of the entry's.

    One that is refused takes as many as the longest.
    """
    known = ledger.scripts.use(sha)
    if known is not None:
        return known
    try:
        program = ledger.scripts.learn(sha, source)
    except Refusal:
        ledger.script_steps_left -= limits.SCRIPT_TOKEN_STEPS * limits.SCRIPT_TOKENS_MAX
        raise
    ledger.script_steps_left -= limits.SCRIPT_TOKEN_STEPS * program.tokens
    return program


class _Caller:
    """What `redis.call` reaches."""

    def __init__(self, ledger: Ledger, operation: Evaluate, read_only: bool, index: int) -> None:
        self._ledger = ledger
        self._declared = frozenset(operation.names)
        self._db = operation.names[0][0] if operation.names else 0
        self._read_only = read_only
        self._index = index

    def call(self, words: list[bytes]) -> Reply:
        """Run one command."""
        grammar = GRAMMARS.get(words[0].upper())
        if grammar is None:
            return self._other(words)
        arity = grammar.arity
        if len(words) != arity if arity > 0 else len(words) < -arity:
            return _ARITY
        try:
            bound: Any = grammar.bind(words, self._db)
        except CommandError as error:
            return Failure(b"ERR " + error.text.encode())
        if self._read_only and type(bound) in strings.HANDLERS:
            return _READ_ONLY
        names: tuple[LockName, ...] = bound.names if hasattr(bound, "names") else (bound.name,)
        if not self._declared.issuperset(names):
            return _UNDECLARED
        return _reply(strings.execute(self._ledger, bound, self._index))

    def _other(self, words: list[bytes]) -> Reply:
        """TIME is that of the entry: in seconds, and microseconds within the second."""
        name = words[0].upper()
        if name in _NOT_FOR_SCRIPTS or name.startswith(b"LOCK."):
            return _NOT_ALLOWED
        if name != b"TIME":
            return _UNKNOWN
        if len(words) != 1:
            return _ARITY
        seconds, ms = divmod(self._ledger.now_unix_ms, 1000)
        return [b"%d" % seconds, b"%d" % (ms * 1000)]


def _reply(outcome: strings.Answer) -> Reply:
    match outcome:
        case Done():
            return _OK
        case Bulk():
            return outcome.value
        case Number():
            return outcome.value
        case Status():
            return StatusReply(outcome.text.encode())
        case Values():
            return list(outcome.values)
        case WrongType():
            return _WRONG_TYPE
        case Busy():
            return Failure(b"BUSY " + outcome.what.encode())
        case Refused():
            return Failure(b"ERR " + outcome.text.encode())
        case _:
            assert_never(outcome)
