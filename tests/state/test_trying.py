"""What comes of scripts that change nothing, without an entry. (For other tries see
`test_table_model`, and `tests.node.test_refusals`.)"""

from __future__ import annotations

import pytest

from resplock import limits
from resplock.operations import (
    Acquire,
    Evaluate,
    LoadScript,
    Operation,
    Options,
    Scripted,
    SetString,
)
from resplock.script import script_sha1
from resplock.state import trying
from resplock.state.snapshots import restore
from resplock.state.table import LockTable
from resplock.state.trying import Trial, looks_refused
from resplock.types import LockName, StampMs, lock_name
from tests.state.string_model import EXTEND, RELEASE, TAKE, TAKE_UNTIL
from tests.state.twin import image

MINE, YOURS, FREE, SHARED, OVERDUE = (
    lock_name(0, key) for key in (b"mine", b"yours", b"free", b"shared", b"overdue")
)
NOW_MS = StampMs(2_000)
LOOK = b"return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), redis.call('TIME')[1]}"
TRY = b"return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', 1000) and 1 or 0"
SOURCES = (RELEASE, EXTEND, TAKE, TAKE_UNTIL, LOOK, TRY)


def known_table(*sources: bytes) -> LockTable:
    """`mine` has the value `me`, and an entry is due that ends `overdue`."""
    table = LockTable()
    setup: list[Operation] = [
        *(LoadScript(source) for source in (*SOURCES, *sources)),
        SetString(MINE, b"me", 60_000),
        SetString(YOURS, b"you", 60_000),
        Acquire(SHARED, b"they", options=Options(shared=True)),
        SetString(OVERDUE, b"late", 500),
    ]
    table.apply(1, 1_000, setup)
    return table


def by_sha(source: bytes, *names: LockName, value: bytes = b"me") -> Evaluate:
    return Evaluate(script_sha1(source), names, (value, b"1000"), by_sha=True)


def tried(table: LockTable, operation: Operation) -> object:
    trial = Trial(table)
    trial.begin(NOW_MS)
    before = image(table)
    outcome = trial.answer(operation)
    assert image(table) == before, "not even which script was used last"
    return outcome


IDLE = [
    by_sha(RELEASE, YOURS),
    by_sha(RELEASE, FREE),
    by_sha(RELEASE, SHARED),
    by_sha(EXTEND, YOURS),
    by_sha(TAKE, YOURS),
    by_sha(TAKE, FREE, YOURS),
    by_sha(TAKE_UNTIL, YOURS),
    by_sha(TRY, YOURS),
    by_sha(TRY, SHARED),
    by_sha(LOOK, YOURS),
    by_sha(LOOK, FREE),
    by_sha(b"not known", YOURS),
    by_sha(TRY, YOURS, FREE),
    Evaluate(TRY, (YOURS,), (b"me",)),
    Evaluate(LOOK, (YOURS,), (b"me",), read_only=True),
    Evaluate(TRY, (YOURS,), (b"me",), read_only=True),
]


@pytest.mark.parametrize("operation", IDLE)
def test_a_script_that_changes_nothing_is_answered_as_in_an_entry(operation: Evaluate) -> None:
    table = known_table()
    outcome = tried(table, operation)
    copy = restore(iter(image(table)))
    assert [outcome] == copy.apply(100, NOW_MS, [operation])
    assert isinstance(outcome, Scripted)


CHANGING = [
    by_sha(RELEASE, MINE),
    by_sha(EXTEND, MINE),
    by_sha(TAKE, FREE),
    by_sha(TAKE_UNTIL, FREE),
    by_sha(TRY, FREE),
    by_sha(TRY, OVERDUE),
    by_sha(TAKE, OVERDUE),
    by_sha(LOOK, OVERDUE),
    Evaluate(b"return 7", (YOURS,), (b"me",)),  # it is to be known from then on
]


@pytest.mark.parametrize("operation", CHANGING)
def test_nothing_is_known_of_one_that_may_change_something(operation: Evaluate) -> None:
    assert tried(known_table(), operation) is None


@pytest.mark.parametrize(
    "call",
    [
        "'SET', KEYS[1], 'x'",
        "'SET', KEYS[2], 'x', 'NX'",
        "'DEL', KEYS[1]",
        "'GETDEL', KEYS[1]",
        "'APPEND', KEYS[1], 'x'",
        "'SETNX', KEYS[2], 'x'",
        "'MSET', KEYS[1], 'x', KEYS[2], 'x'",
        "'MSETNX', KEYS[2], 'x'",
        "'GETSET', KEYS[1], 'you'",
        "'GETEX', KEYS[1], 'PX', '7'",
        "'EXPIRE', KEYS[1], '7'",
        "'PERSIST', KEYS[1]",
        "'INCR', KEYS[2]",
        "'DELIFEQ', KEYS[1], 'you'",
    ],
)
def test_no_script_hides_a_change(call: str) -> None:
    """By catching what it is stopped with; and what it has found out before is not kept."""
    source = (
        f"local before = redis.pcall('GET', KEYS[1]) pcall(redis.call, {call}) return 1".encode()
    )
    assert tried(known_table(source), by_sha(source, YOURS, FREE)) is None


def test_scripts_are_tried_within_a_budget() -> None:
    """A long one may be; then no more of that turn."""
    source = b"local n = 0 for i = 1, 2000 do n = n + i end return n"
    table = known_table(source)
    trial = Trial(table)
    for _ in range(2):
        trial.begin(NOW_MS)
        answers = [trial.answer(by_sha(source, YOURS)) for _ in range(100)]
        count = answers.index(None)
        assert all(answers[:count])
        assert not any(answers[count:])
        steps = limits.SCRIPT_STEPS_TRIED - trial.script_steps_left
        assert limits.SCRIPT_STEPS_TRIED <= steps < 2 * limits.SCRIPT_STEPS_TRIED


def test_totals_count_as_an_entry_would() -> None:
    """Refused tries; nothing of what was given up."""
    trial = Trial(known_table(b"redis.call('SETNX', KEYS[1], 1) return redis.call('DEL', KEYS[1])"))
    trial.begin(NOW_MS)
    both = b"redis.call('SETNX', KEYS[1], 1) return redis.call('DEL', KEYS[1])"
    answers = [trial.answer(by_sha(source, YOURS)) for source in (TRY, RELEASE, both)]
    assert answers == [Scripted(b":0\r\n"), Scripted(b":0\r\n"), None]
    assert trial.totals.refusals == 1


@pytest.mark.parametrize(
    ("operation", "looks"),
    [
        (by_sha(TRY, YOURS), True),
        (by_sha(TRY, MINE, YOURS), True),
        (by_sha(TRY, FREE), False),
        (by_sha(RELEASE, MINE), False),
        (Evaluate(LOOK, (FREE,), (b"me",), read_only=True), True),
    ],
)
def test_what_is_worth_a_trial(operation: Evaluate, looks: bool) -> None:
    """One for a lock whose owner it does not name, or that only looks."""
    assert looks_refused(known_table(), operation) is looks


def test_the_tests_notice_a_change_that_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: all of each part is lent."""
    monkeypatch.setattr(trying, "_Lent", lambda part, *_: part)
    with pytest.raises(AssertionError, match="not even which script"):
        tried(known_table(), by_sha(RELEASE, MINE))
