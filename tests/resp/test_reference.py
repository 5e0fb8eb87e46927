"""The reference page: it is what the command table says, and all of it."""

import re
from pathlib import Path

import pytest

from resplock.resp import reference
from resplock.resp.commands import COMMANDS
from resplock.resp.failures import ERRORS

COMMITTED = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == reference.page(), (
        "docs/reference.md is stale: python -m resplock.resp.reference docs/reference.md"
    )


def test_everything_declared_is_on_the_page() -> None:
    page = reference.page()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    every = [command for top in COMMANDS.values() for command in top.walk()]
    assert sorted(headings) == sorted([*(each.name for each in every), *ERRORS])
    for command in every:
        section = page.split(f"\n### {command.name}\n")[1].split("\n### ")[0]
        assert command.summary in section
        for argument in command.arguments:
            assert argument.token in section
            assert argument.summary in section
        for reply in command.replies:
            assert reply.when in section
            for field in reply.fields:
                assert f"`{field.name}`" in section
        for conflict in command.conflicts:
            assert f"- `{conflict.one}` with `{conflict.other}`: {conflict.why}" in section


def test_links_lead_somewhere() -> None:
    page = reference.page()
    headings = re.findall(r"^##+ (.+)$", page, re.MULTILINE)
    anchors = [reference._anchor(heading) for heading in headings]
    assert len(set(anchors)) == len(anchors)
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert set(links) <= set(anchors)


def test_ranges_and_defaults_are_shown() -> None:
    page = reference.page()
    assert "| 0 to 86400000 milliseconds (0 = no expiry) | 30000 |" in page
    assert "| 0 to 86400000 milliseconds (0 = no expiry) | the TTL that the hold has |" in page
    assert "| `COUNT n` | How many locks a page has at most. | 1 to 1000 | 100 |" in page
    assert "| 1 to 1000000 (at most LIMIT) | 1 |" in page
    assert "| `RELEASE` or `KEEP` | KEEP |" in page


def test_it_is_written_checked_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reference.md"
    assert reference.main(["--check", str(path)]) == 1
    assert "is stale" in capsys.readouterr().err
    assert reference.main([str(path)]) == 0
    assert reference.main(["--check", str(path)]) == 0
    path.write_text("old", encoding="utf-8")
    assert reference.main(["--check", str(path)]) == 1
    assert reference.main([]) == 0
    assert capsys.readouterr().out == reference.page()
