"""`resplock`, which also does a full garbage collection when it gets SIGUSR1.

By itself the collector may not come round in hours; bench.scale asks what clients notice when it does.

usage: python -m bench.collecting serve ...
"""

from __future__ import annotations

import gc
import signal

from resplock.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    main()
