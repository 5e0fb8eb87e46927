from tests.compat import parsing
from tests.compat.catalogue import SUITES
from tests.compat.page import PAGE, render
from tests.compat.servers import ONE_NODE, THREE_NODES
from tests.compat.suite import FAILED, PASSED, SKIPPED, Case, Mode, Outcome, Pip, Suite

ONE, THREE = Mode("one node", ONE_NODE), Mode("three nodes", THREE_NODES)


def suite(**known: str) -> Suite:
    return Suite(
        library="lockery",
        origin=Pip(("lockery==2.1",)),
        what="its tests",
        modes=(ONE, THREE),
        command=lambda run: [],
        parse=parsing.junit,
        known=known,
    )


def test_a_row_for_each_mode():
    mine = suite()
    outcomes = [
        Outcome(mine, ONE, [Case("a", PASSED), Case("b", PASSED)], 1.0),
        Outcome(mine, THREE, [Case("a", PASSED), Case("b", SKIPPED, "too slow")], 1.0),
    ]
    page = render(outcomes, "resplock 9\n")
    assert "resplock 9" in page
    assert "| lockery | 2.1 | its tests | one node | 2 |  |  |" in page
    assert "| lockery | 2.1 | its tests | three nodes | 1 |  | 1 |" in page
    assert "Nothing.\n" in page
    assert "- lockery, 1: too slow" in page


def test_failures_are_told_once_with_their_reasons():
    mine = suite(waits="It wants lists")
    failures = [Case(name, FAILED, "`late`") for name in ("waits", "polls", "stops")]
    outcomes = [
        Outcome(mine, ONE, failures, 1.0, also_on_redis=frozenset(["polls"])),
        Outcome(mine, THREE, failures[:1], 1.0),
    ]
    page = render(outcomes, "")
    assert "| lockery | 2.1 | its tests | one node | 0 | 3 (1 on Redis too) |  |" in page
    assert "- It wants lists (everywhere): waits\n" in page
    assert "- fails on Redis too (one node): polls\n" in page
    assert "- stops (one node): `'late'`\n" in page


def test_what_could_not_be_fetched_is_said():
    outcomes = [Outcome(suite(), mode, [], 0.0, "npm is not installed") for mode in (ONE, THREE)]
    page = render(outcomes, "")
    assert "| one node | not run |  |  |" in page
    assert page.count("- lockery: npm is not installed") == 1


def test_only_failures_that_nobody_has_explained_are_unexpected():
    mine = suite(waits="It wants lists.")
    cases = [Case(name, FAILED, "?") for name in ("waits", "polls", "stops")]
    outcome = Outcome(mine, ONE, cases, 1.0, also_on_redis=frozenset(["polls"]))
    assert [case.name for case in outcome.unexpected] == ["stops"]


def test_the_page_names_every_suite_with_its_version():
    page = PAGE.read_text()
    for each in SUITES:
        _, version = each.origin.pinned
        for mode in each.modes:
            row = f"| {each.library} | {version} | {each.what} | {mode.name} |"
            assert row in page, f"`make compat` has not written this row: {row}"
