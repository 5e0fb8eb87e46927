"""import-linter's contracts hold: imports point one way, and the pure packages stay pure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_layers_are_kept() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-logo"] if program.exists() else ["lint-imports", "--no-logo"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
