"""What a failing disk does to a node's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.cluster import ClusterNode


def write_ahead_log(node: ClusterNode) -> Path:
    """The newest file of the log's records, which has those of the load."""
    files = [path for path in (node.data_dir / "log").rglob("*.log") if path.stat().st_size > 1_000]
    return max(files, key=lambda path: path.stat().st_mtime)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


DAMAGES: dict[str, Callable[[Path], None]] = {"a flipped bit": flip, "the end cut off": _cut}
