"""The intricate cases as scripts: commands, and what came of each (see `script`).

To be read by a person, who must agree with every line. After a change that is meant, run

    python -m pytest tests/raft/test_golden.py --rewrite

and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raft.script import rewrite

SCRIPTS = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_comes_out_as_it_did(path: Path, request: pytest.FixtureRequest) -> None:
    before = path.read_text()
    after = rewrite(before).rstrip("\n") + "\n"
    if request.config.getoption("--rewrite"):
        path.write_text(after)
    else:
        assert after.splitlines() == before.splitlines()


def test_there_are_scripts() -> None:
    """A wrong path would test nothing."""
    assert len(SCRIPTS) >= 15


def test_what_no_script_may_say() -> None:
    """A slip of the pen is an error, not a line that does nothing."""
    with pytest.raises(ValueError, match="no such command: deliberate n1"):
        rewrite("deliberate n1\n")
    with pytest.raises(ValueError, match="no append is under way from n1 to n2"):
        rewrite("cluster 3\n\ndeliver n1 n2 append\n")
    with pytest.raises(ValueError, match="no such change: dismiss"):
        rewrite("cluster 3\n\nchange n1 dismiss n2\n")
