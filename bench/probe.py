"""How long the server's event loop stands still: a PING every millisecond, until stdin closes.

A process of its own, so that the load generator's work does not delay it. Prints `ready`, begins when a
line comes in, and prints one line of JSON at the end.
A PING that was due while an earlier one was unanswered counts with the time since it was due:
otherwise a stall of 50 ms would be one slow PING among thousands of quick ones.

usage: python -m bench.probe PORT
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time

INTERVAL_S = 0.001
PING = b"*1\r\n$4\r\nPING\r\n"


def probe(port: int) -> list[float]:
    """The latency of each PING, in seconds, in ascending order. There is one at least."""
    gc.disable()
    latencies: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        sys.stdin.readline()
        due = time.perf_counter()
        while not (latencies and _ended_by(due)):
            sent = time.perf_counter()
            connection.sendall(PING)
            if connection.recv(64) != b"+PONG\r\n":
                raise SystemExit("probe: the server did not answer PING with PONG")
            answered = time.perf_counter()
            latencies.append(answered - sent)
            due = max(due, sent) + INTERVAL_S
            while due < answered:
                latencies.append(answered - due)
                due += INTERVAL_S
    return sorted(latencies)


def _ended_by(due: float) -> bool:
    """Wait until a PING is due; whether stdin was closed meanwhile."""
    return bool(select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0])


def main() -> None:
    latencies = probe(int(sys.argv[1]))
    count = len(latencies)
    print(
        json.dumps(
            {
                "pings": count,
                "p50_ms": latencies[count // 2] * 1000,
                "p99_ms": latencies[count * 99 // 100] * 1000,
                "max_ms": latencies[-1] * 1000,
            }
        )
    )


if __name__ == "__main__":
    main()
