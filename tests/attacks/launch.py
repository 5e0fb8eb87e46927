"""Start the server with other constants, so that no test waits for a real deadline.

    python -m tests.attacks.launch '{"limits.PARTIAL_COMMAND_MS_MAX": 300}' serve --port 0 ...

`limits` is changed before anything is imported that copies from it. Other names are modules of
`resplock.server`, changed once they are there. Two more names are no constants: `descriptors` limits
the process's file descriptors for good, and `hang` makes every write to the log hang after that many,
as a broken disk does.
"""

import importlib
import json
import resource
import sys
import threading
from typing import Any

from resplock import limits


def change(constants: dict[str, Any]) -> None:
    """Set each constant, which must be there already."""
    for name, value in constants.items():
        module_name, _, constant = name.rpartition(".")
        module: Any = limits
        if module_name != "limits":
            module = importlib.import_module(f"resplock.server.{module_name}")
        assert hasattr(module, constant), name
        setattr(module, constant, value)


def hang_after(writes: int) -> None:
    """Let the log's writes hang once there were so many."""
    from resplock.server.storage import Log

    save, left = Log.save, [writes]

    def save_or_hang(self: Log, *arguments: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            threading.Event().wait()
        save(self, *arguments, **options)

    Log.save = save_or_hang  # type: ignore[method-assign]


def main() -> None:
    constants = json.loads(sys.argv.pop(1))
    writes = constants.pop("hang", None)
    descriptors = constants.pop("descriptors", None)
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    # The limits first: other modules copy them when they are imported.
    change({name: value for name, value in constants.items() if name.startswith("limits.")})
    change({name: value for name, value in constants.items() if not name.startswith("limits.")})
    if writes is not None:
        hang_after(writes)
    from resplock.cli import main as resplock

    resplock()


if __name__ == "__main__":
    main()
