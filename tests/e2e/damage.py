"""What a failing disk does to a node's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.process import ServerProcess
from tests.write_ahead_log import cut, damage, newest

DAMAGES: dict[str, Callable[[Path], None]] = {"a flipped bit": damage, "the end cut off": cut}


def write_ahead_log(node: ServerProcess) -> Path:
    """The file of the log that is being written, which has the last of the load."""
    return newest(node.data_dir / "log" / "rocksdb")
