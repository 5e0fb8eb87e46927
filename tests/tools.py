"""The programs that tests run beside the server: redis-cli, redis-server, strace."""

import os
import shutil
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / ".tools" / "bin"
"""Where scripts/fetch-redis puts what the system does not have."""


def find_tool(name: str) -> str:
    """The path of a program, from PATH or .tools/bin. The test fails when it is in neither."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(TOOLS)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.fail(
            f"this test needs {name}, which is neither on PATH nor in .tools/bin. `make test` "
            f"fetches it where it can (scripts/fetch-redis says why it could not); or install it: "
            f"redis-tools, redis-server and strace on Debian and Ubuntu, redis and strace elsewhere.",
            pytrace=False,
        )
    return found
