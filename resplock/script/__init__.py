"""Lua scripts as lock libraries use them: a subset of Lua 5.1, with fixed budgets.

Scripts run within `apply`, on every replica, so they are deterministic: no time, no randomness, no
addresses, and an end after so many steps and bytes. What is outside of the subset is refused when a
script is loaded, and is named. An embedded Lua has neither property (coroutines and patterns escape
its hooks, and one script that fills its memory ends the process: each replica's, and again when the
log is replayed).

    lexer -> parser (scopes, syntax) -> compiler -> Program.run

Pure. It knows no command and no lock: `redis.call` is a callback.
"""

from resplock.script.failures import Refusal
from resplock.script.program import Program, script_sha1
from resplock.script.replies import Failure, Reply, Status, encode

__all__ = ["Failure", "Program", "Refusal", "Reply", "Status", "encode", "script_sha1"]
