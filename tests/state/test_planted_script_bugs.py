"""The tests of scripts are tested: each of these bugs is caught.

Beside each bug is what it breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from resplock import limits
from resplock.operations import Evaluate
from resplock.script import Failure, Program, Status
from resplock.script.failures import BudgetExceeded, ScriptFailure
from resplock.script.library import GLOBALS
from resplock.script.run import Run
from resplock.script.values import Function, Value
from resplock.state import native, scripting
from resplock.state.ledger import Ledger
from resplock.state.native import NATIVES
from resplock.state.scripts import ScriptCache
from resplock.types import LockName
from tests.planted import Plant, fails_its_test
from tests.script import test_budgets, test_language
from tests.state import test_native, test_scripting

Caller = scripting._Caller


# --- budgets -------------------------------------------------------------------------------------


def let_the_budget_be_caught(patch: pytest.MonkeyPatch) -> None:
    """A script goes on for ever, in pieces."""
    pcall = GLOBALS["pcall"]
    assert isinstance(pcall, Function)
    real = pcall.call

    def call(run: Run, arguments: list[Value]) -> list[Value]:
        try:
            return real(run, arguments)
        except BudgetExceeded:
            run.steps_left = limits.SCRIPT_STEPS_MAX
            return [False]

    patch.setattr(pcall, "call", call)


def count_no_bytes(patch: pytest.MonkeyPatch) -> None:
    """A script fills the memory of every replica."""
    patch.setattr(Run, "allot", lambda run, count: None)


def let_strings_be_of_any_length(patch: pytest.MonkeyPatch) -> None:
    """One string takes the whole memory at once."""
    patch.setattr(Run, "make", lambda run, count: run.allot(min(count, 1)))
    patch.setattr(limits, "SCRIPT_BYTES_MAX", 1 << 40)


def let_many_scripts_take_what_they_like(patch: pytest.MonkeyPatch) -> None:
    """One entry holds the loop for seconds."""
    patch.setattr(limits, "SCRIPT_STEPS_PER_ENTRY", 10**9)


def compile_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """Long scripts that are no Lua hold the loop, one by one."""
    patch.setattr(limits, "SCRIPT_TOKEN_STEPS", 0)


# --- the scripts that are known ------------------------------------------------------------------


def leave_scripts_out_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    """A follower answers -NOSCRIPT where the others run the script."""
    patch.setattr(ScriptCache, "sources", lambda cache: [])


def forget_which_was_used_last(patch: pytest.MonkeyPatch) -> None:
    """The script that everybody uses makes room for one that nobody does."""
    real = ScriptCache.use

    def use(cache: ScriptCache, sha: bytes) -> Program | None:
        before = dict(cache._sources)
        found = real(cache, sha)
        cache._sources = before
        return found

    patch.setattr(ScriptCache, "use", use)


def know_nothing_of_eval(patch: pytest.MonkeyPatch) -> None:
    """EVALSHA after EVAL, as many clients do."""
    patch.setattr(ScriptCache, "learn", lambda cache, sha, source: Program(source))


# --- what a script may do ------------------------------------------------------------------------


def initialized(**attributes: Any) -> Plant:
    """What redis.call reaches has these attributes, whatever it was made with."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = Caller.__init__

        def init(caller: Any, *arguments: Any) -> None:
            real(caller, *arguments)
            for name, value in attributes.items():
                setattr(caller, name, value)

        patch.setattr(Caller, "__init__", init)

    return plant


class _Everything(frozenset[LockName]):
    def issuperset(self, other: Any) -> bool:
        return True


take_any_key = initialized(_declared=_Everything())
write_when_only_reading = initialized(_read_only=False)


def tell_the_time_of_this_machine(patch: pytest.MonkeyPatch) -> None:
    """Replicas set different ends."""
    patch.setattr(Caller, "_other", lambda caller, words: [b"1700000000", b"0"])


def undo_what_a_failed_script_did(patch: pytest.MonkeyPatch) -> None:
    """Redis keeps it, and libraries count on that."""
    real = Caller.call
    patch.setattr(
        Caller,
        "call",
        lambda caller, words: Status(b"OK") if words[0] == b"SET" else real(caller, words),
    )


def go_on_after_an_error(patch: pytest.MonkeyPatch) -> None:
    """redis.call as redis.pcall: the rest of the script is run."""
    call, pcall = (GLOBALS["redis"].get(name) for name in (b"call", b"pcall"))  # type: ignore[union-attr]
    patch.setattr(call, "call", pcall.call)  # type: ignore[union-attr]


def stop_before_the_end(patch: pytest.MonkeyPatch) -> None:
    """Any failure ends as one without a text."""
    real = Program._reply

    def reply(program: Program, run: Run) -> Any:
        try:
            found = real(program, run)
        except ScriptFailure:
            return None
        return Failure(b"ERR") if isinstance(found, Failure) else found

    patch.setattr(Program, "_reply", reply)


# --- scripts without an interpreter --------------------------------------------------------------


def natives(change: Callable[[native.Native], native.Native]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(
            scripting, "NATIVES", {shape: change(each) for shape, each in NATIVES.items()}
        )

    return plant


def _of_any_owner(real: native.Native) -> native.Native:
    def run(ledger: Ledger, operation: Evaluate, index: int) -> Any:
        lock = ledger.locks.get(operation.names[0]) if operation.names else None
        if lock is None or not lock.holds or not operation.arguments:
            return real(ledger, operation, index)
        owner = lock.holds[0].owner
        mine = Evaluate(operation.script, operation.names, (owner, *operation.arguments[1:]))
        return real(ledger, mine, index)

    return run


release_for_anybody = natives(_of_any_owner)
take_each_for_a_release = natives(lambda real: native._release(native._ZERO))
answer_absent_as_redsync = natives(
    lambda real: (
        real if real in (native._renew, native._extend) else native._release(native._MINUS_ONE)
    )
)
extend_from_now_on = natives(lambda real: native._renew if real is native._extend else real)


def equal_natives() -> None:
    for seed in range(10):
        test_native.assert_equal(seed)


def attack(source: str, text: str) -> Callable[[], None]:
    return partial(test_budgets.test_an_attack_is_bounded, source, text)


def an_error(source: bytes, reply: bytes) -> Callable[[], None]:
    return partial(test_scripting.test_an_error, source, reply)


UNDECLARED = b"-ERR Script attempted to access a key that it did not declare in KEYS"
BY_TESTS: list[tuple[str, Plant, Callable[[], None]]] = [
    ("budget caught", let_the_budget_be_caught, test_budgets.test_a_budget_cannot_be_caught),
    (
        "no bytes counted",
        count_no_bytes,
        attack(
            "local s = string.rep('x', 60000) while true do local t = s:upper() end",
            test_budgets.BYTES,
        ),
    ),
    (
        "strings of any length",
        let_strings_be_of_any_length,
        attack("return ('x'):rep(100000)", test_budgets.LONG),
    ),
    (
        "no budget for an entry",
        let_many_scripts_take_what_they_like,
        test_scripting.test_the_scripts_of_one_entry_have_a_budget_together,
    ),
    (
        "compiling costs nothing",
        compile_for_nothing,
        test_scripting.test_compiling_takes_steps_of_the_entry,
    ),
    (
        "no scripts in snapshots",
        leave_scripts_out_of_snapshots,
        test_scripting.test_a_snapshot_has_the_scripts_and_their_order,
    ),
    (
        "last use forgotten, at the bound",
        forget_which_was_used_last,
        test_scripting.test_the_script_that_was_used_longest_ago_goes_first,
    ),
    (
        "last use forgotten, in snapshots",
        forget_which_was_used_last,
        test_scripting.test_a_snapshot_has_the_scripts_and_their_order,
    ),
    ("eval is not known", know_nothing_of_eval, test_scripting.test_eval_makes_a_script_known),
    (
        "any key",
        take_any_key,
        an_error(b"return redis.call('GET', 'other')", UNDECLARED),
    ),
    (
        "any second key",
        take_any_key,
        an_error(b"return redis.call('DEL', KEYS[1], 'other')", UNDECLARED),
    ),
    (
        "readers write",
        write_when_only_reading,
        test_scripting.test_a_script_that_only_reads_may_not_write,
    ),
    (
        "flags are nothing",
        write_when_only_reading,
        partial(
            test_scripting.test_the_flags_of_the_first_line,
            b"#!lua flags=no-writes",
            b"-ERR Write commands are not allowed from read-only scripts.",
        ),
    ),
    ("another time", tell_the_time_of_this_machine, test_scripting.test_the_time_is_the_entrys),
    (
        "undone",
        undo_what_a_failed_script_did,
        test_scripting.test_what_was_done_before_an_error_stays_and_is_the_same_on_every_replica,
    ),
    (
        "on after an error",
        go_on_after_an_error,
        partial(
            test_language.test_a_call_of_redis,
            "local ok, e = pcall(redis.call, 'GET', 'list') return e",
            b"WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ),
    (
        "errors without text",
        stop_before_the_end,
        an_error(b"return redis.call('NOTHING')", b"-ERR Unknown Redis command"),
    ),
    ("released for anybody", release_for_anybody, equal_natives),
    ("extended by a release", take_each_for_a_release, equal_natives),
    ("absent as redsync", answer_absent_as_redsync, equal_natives),
    ("extended from now on", extend_from_now_on, equal_natives),
]


@pytest.mark.parametrize(
    ("plant", "test"), [case[1:] for case in BY_TESTS], ids=[case[0] for case in BY_TESTS]
)
def test_planted_bug_fails_its_test(
    plant: Plant, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which passes without it."""
    fails_its_test(plant, test, monkeypatch)
