"""The server does without redis-py, and `import resplock` does not load it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import resplock


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import resplock", "import resplock.server.app"])
def test_redis_py_is_not_loaded(code: str) -> None:
    assert "redis" not in loaded_by(code)


def test_it_is_with_the_first_lock() -> None:
    assert {"redis", "resplock.client"} <= loaded_by("import resplock; resplock.Lock")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Key'"):
        _ = resplock.Key


def test_every_name_is_there() -> None:
    assert set(resplock.__all__) <= set(dir(resplock))
    assert all(getattr(resplock, name) is not None for name in resplock.__all__)
