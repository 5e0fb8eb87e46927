"""Reads what suites say about their cases."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.compat.suite import FAILED, PASSED, SKIPPED, Case

REASON_CHARS_MAX = 240


def one_line(text: str) -> str:
    """The text in one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_CHARS_MAX else line[: REASON_CHARS_MAX - 3] + "..."


def junit(report: Path, printed: str) -> list[Case]:
    """What pytest writes with --junit-xml."""
    if not report.exists():
        return []
    return [_junit_case(element) for element in ElementTree.parse(report).iter("testcase")]


def _junit_case(element: ElementTree.Element) -> Case:
    # The class tells the synchronous test from its asynchronous namesake.
    name = f"{element.get('classname')}.{element.get('name')}"
    for child in element:
        reason = one_line(child.get("message") or child.text or "")
        if child.tag in ("failure", "error"):
            return Case(name, FAILED, reason)
        if child.tag == "skipped":
            return Case(name, SKIPPED, reason)
    return Case(name, PASSED)


def mocha(report: Path, printed: str) -> list[Case]:
    """What mocha writes with --reporter json."""
    if not report.exists():
        return []
    told = json.loads(report.read_text())
    cases = [Case(test["fullTitle"], PASSED) for test in told["passes"]]
    cases += [Case(test["fullTitle"], SKIPPED, "pending") for test in told["pending"]]
    cases += [
        Case(test["fullTitle"], FAILED, one_line(test["err"].get("message", "")))
        for test in told["failures"]
    ]
    return cases


def json_lines(report: Path, printed: str) -> list[Case]:
    """What our programs print: a line `{"case": name, "outcome": ..., "reason": ...}` for each, and
    `{"end": true}` when nothing is left to do."""
    cases = []
    lines = printed.splitlines()
    for line in lines:
        if line.startswith('{"case"'):
            told = json.loads(line)
            cases.append(Case(told["case"], told["outcome"], one_line(told["reason"])))
    if '{"end": true}' not in lines:
        cases.append(Case("the program comes to its end", FAILED, one_line(" ".join(lines[-8:]))))
    return cases


_VERDICT = re.compile(
    r"test: (?P<name>.*?) "
    r"(?P<verdict>passed|failed|(?:(?:tags|version) )?skipped|run test error (?P<error>.*))$",
    re.MULTILINE,
)
_FAILURE = re.compile(r"FailedTest\(name='(?P<name>.*?)', reason=(?P<reason>.*)\)")


def resp_compatibility(report: Path, printed: str) -> list[Case]:
    """What resp-compatibility prints with --show-failed: verdicts, then reasons."""
    reasons = {match["name"]: match["reason"] for match in _FAILURE.finditer(printed)}
    cases = []
    for match in _VERDICT.finditer(printed):
        name, verdict = match["name"], match["verdict"]
        if verdict.endswith(SKIPPED):
            cases.append(Case(name, SKIPPED, verdict))
        elif match["error"] is not None:
            cases.append(Case(name, FAILED, one_line(match["error"])))
        else:
            cases.append(Case(name, verdict, one_line(reasons.get(name, ""))))
    return cases
