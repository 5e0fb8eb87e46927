import json

from tests.compat import parsing
from tests.compat.suite import FAILED, PASSED, SKIPPED, Case


def test_junit(tmp_path):
    report = tmp_path / "report"
    report.write_text(
        """<testsuites><testsuite>
        <testcase classname="tests.Lock" name="takes"/>
        <testcase classname="tests.Lock" name="waits"><failure message="assert&#10; 1 == 2"/></testcase>
        <testcase classname="tests.Lock" name="sets up"><error message="no server"/></testcase>
        <testcase classname="tests.Lock" name="pauses"><skipped message="too new"/></testcase>
        </testsuite></testsuites>"""
    )
    assert parsing.junit(report, "") == [
        Case("tests.Lock.takes", PASSED),
        Case("tests.Lock.waits", FAILED, "assert 1 == 2"),
        Case("tests.Lock.sets up", FAILED, "no server"),
        Case("tests.Lock.pauses", SKIPPED, "too new"),
    ]


def test_mocha(tmp_path):
    report = tmp_path / "report"
    told = {
        "passes": [{"fullTitle": "locks"}],
        "pending": [{"fullTitle": "waits"}],
        "failures": [{"fullTitle": "extends", "err": {"message": "no\nlock"}}],
    }
    report.write_text(json.dumps(told))
    assert parsing.mocha(report, "") == [
        Case("locks", PASSED),
        Case("waits", SKIPPED, "pending"),
        Case("extends", FAILED, "no lock"),
    ]


def test_a_report_that_was_never_written_has_no_cases(tmp_path):
    assert parsing.junit(tmp_path / "report", "ImportError") == []
    assert parsing.mocha(tmp_path / "report", "ImportError") == []


def test_json_lines_between_other_output(tmp_path):
    printed = (
        'a warning\n{"case": "takes", "outcome": "passed", "reason": "in 3 ms"}\n'
        '{"ask": "kill leader"}\n{"case": "waits", "outcome": "failed", "reason": "never"}\n'
        '{"end": true}\n'
    )
    assert parsing.json_lines(tmp_path, printed) == [
        Case("takes", PASSED, "in 3 ms"),
        Case("waits", FAILED, "never"),
    ]


def test_a_program_that_breaks_off(tmp_path):
    printed = '{"case": "takes", "outcome": "passed", "reason": ""}\nTypeError: x\n'
    assert parsing.json_lines(tmp_path, printed) == [
        Case("takes", PASSED),
        Case("the program comes to its end", FAILED, f"{printed.splitlines()[0]} TypeError: x"),
    ]


def test_resp_compatibility(tmp_path):
    printed = (
        "connecting to 127.0.0.1:6379 use standalone client\n"
        "test: del command passed\ntest: lcs command failed\ntest: keys command skipped\n"
        "test: waitaof command version skipped\ntest: migrate tags skipped\n"
        "test: set run test error unknown command 'FLUSHALL'\n"
        "This is failed tests for 7.2.0:\n"
        "FailedTest(name='lcs command', reason=ResponseError(\"unknown command 'LCS'\"))\n"
    )
    assert parsing.resp_compatibility(tmp_path, printed) == [
        Case("del command", PASSED),
        Case("lcs command", FAILED, "ResponseError(\"unknown command 'LCS'\")"),
        Case("keys command", SKIPPED, "skipped"),
        Case("waitaof command", SKIPPED, "version skipped"),
        Case("migrate", SKIPPED, "tags skipped"),
        Case("set", FAILED, "unknown command 'FLUSHALL'"),
    ]


def test_reasons_are_one_line_of_bounded_length():
    assert parsing.one_line("a\n   b") == "a b"
    assert len(parsing.one_line("long " * 1000)) == parsing.REASON_CHARS_MAX
