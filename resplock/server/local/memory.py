"""MEMORY, and what this process takes of the machine's memory."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

from resplock.resp.binding import Call
from resplock.resp.replies import Verbatim
from resplock.server.connection import Connection
from resplock.server.local.context import OK, Context, Handler

_SMALL_BYTES = 256 << 20
"""Nothing is to be said of a process that takes less."""
_PEAK_TIMES_MANY = 1.5
_CLIENTS_MANY = 0.5


def resident_bytes() -> int:
    """What is in memory of this process, where the system tells; else the most that ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_bytes()
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most that ever was in memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def system_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def clients_bytes(context: Context) -> int:
    """What is kept for clients: begun commands, and what they have not read."""
    return sum(connection.memory for connection in context.clients)


def stats(context: Context, _: Connection, __: Call) -> Any:
    resident, peak, start = resident_bytes(), peak_bytes(), context.start_bytes
    locks = sum(context.engine.node.table.locks_by_db)
    dataset = max(resident - start, 0)
    return {
        "peak.allocated": peak,
        "total.allocated": resident,
        "startup.allocated": start,
        "replication.backlog": 0,
        "clients.slaves": 0,
        "clients.normal": clients_bytes(context),
        "overhead.total": start,
        "keys.count": locks,
        "keys.bytes-per-key": dataset // locks if locks else 0,
        "dataset.bytes": dataset,
        "dataset.percentage": round(100 * dataset / resident, 2),
        "peak.percentage": round(100 * resident / peak, 2),
    }


def doctor(context: Context, _: Connection, __: Call) -> Any:
    return Verbatim("\n".join(_findings(context)) + "\n")


def _findings(context: Context) -> list[str]:
    resident, peak, clients = resident_bytes(), peak_bytes(), clients_bytes(context)
    shown = f"{resident / 2**20:.0f} MiB resident"
    if resident < _SMALL_BYTES:
        return [f"This node takes little memory: {shown}. There is nothing to look at."]
    findings = []
    if peak > resident * _PEAK_TIMES_MANY:
        findings.append(
            f"Peak: it once took {peak / 2**20:.0f} MiB. What was freed since is used again before "
            "more is asked for; a restart gives it back."
        )
    if clients > resident * _CLIENTS_MANY:
        findings.append(
            f"Clients: {clients / 2**20:.0f} MiB are replies that they have not read, and commands "
            "that they have begun. CLIENT LIST shows whose (tot-mem)."
        )
    if not findings:
        return [f"Nothing needs looking at: {shown}."]
    return [f"{shown}. Look at:", *(f" * {finding}" for finding in findings)]


def purge(_: Context, __: Connection, ___: Call) -> Any:
    return OK


def allocator_stats(_: Context, __: Connection, ___: Call) -> Any:
    return "Stats not supported for the current allocator"


HANDLERS: dict[str, Handler] = {
    "MEMORY DOCTOR": doctor,
    "MEMORY MALLOC-STATS": allocator_stats,
    "MEMORY PURGE": purge,
    "MEMORY STATS": stats,
}
