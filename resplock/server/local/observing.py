"""MONITOR, SLOWLOG, LATENCY and DEBUG: looking at a running node, and stopping it for a moment."""

from __future__ import annotations

import time
from typing import Any

from resplock import limits
from resplock.errors import CommandError
from resplock.resp.binding import Call
from resplock.resp.replies import Verbatim
from resplock.server.connection import Connection
from resplock.server.local.context import OK, Context, Handler
from resplock.server.observer import COMMAND, COMMIT, TURN

_SLOWLOG_COUNT = 10
_ADVICE = {
    COMMAND: "A command that this node answers by itself: SLOWLOG GET names it. Ask for less at a "
    "time, or more seldom.",
    COMMIT: "From being proposed to being answered. The disks of a majority and the network between "
    "the nodes are on this way: look at RAFT.STATUS for a node that lags.",
    TURN: "A turn of the event loop, with the write and its sync. On a node that leads and has a slow "
    "disk it is the disk; else long scripts, or pages of KEYS and LOCK.LIST.",
}


def monitor(context: Context, connection: Connection, _: Call) -> Any:
    context.clients.monitors.add(connection)
    return OK


# --- SLOWLOG -------------------------------------------------------------------------------------


def slowlog_get(context: Context, _: Connection, call: Call) -> Any:
    count = call.values["count"]
    entries = context.engine.observer.slow_log.latest(_SLOWLOG_COUNT if count is None else count)
    return [
        [each.id, each.unix_s, each.taken_us, each.words, each.address, each.client_name]
        for each in entries
    ]


def slowlog_length(context: Context, _: Connection, __: Call) -> Any:
    return len(context.engine.observer.slow_log)


def slowlog_reset(context: Context, _: Connection, __: Call) -> Any:
    context.engine.observer.slow_log.reset()
    return OK


# --- LATENCY -------------------------------------------------------------------------------------


def latency_latest(context: Context, _: Connection, __: Call) -> Any:
    return [
        [name, *event.samples[-1], event.longest_ms]
        for name, event in context.engine.observer.latency.latest()
    ]


def latency_history(context: Context, _: Connection, call: Call) -> Any:
    event = call.values["event"].decode("latin-1")
    return [list(sample) for sample in context.engine.observer.latency.history(event)]


def latency_reset(context: Context, _: Connection, call: Call) -> Any:
    events = tuple(event.decode("latin-1") for event in call.values["events"])
    return context.engine.observer.latency.reset(events)


def latency_histogram(context: Context, _: Connection, call: Call) -> Any:
    times = context.engine.observer.times
    names = [each.decode("latin-1").upper().replace("|", " ") for each in call.values["commands"]]
    return {
        name.lower().replace(" ", "|"): {
            "calls": times[name].calls,
            "histogram_usec": times[name].histogram(),
        }
        for name in (names or times)
        if name in times
    }


def latency_doctor(context: Context, _: Connection, __: Call) -> Any:
    observer = context.engine.observer
    if not observer.threshold_ms:
        return Verbatim(
            "Nothing is noted: CONFIG SET latency-monitor-threshold <milliseconds> begins to.\n"
        )
    events = observer.latency.latest()
    if not events:
        return Verbatim(f"Nothing took as long as {observer.threshold_ms} ms.\n")
    lines = [f"These took as long as {observer.threshold_ms} ms, or longer:", ""]
    for name, event in events:
        taken = sorted(sample.taken_ms for sample in event.samples)
        middle_ms = taken[len(taken) // 2]
        lines.append(
            f"{name}: {event.longest_ms} ms at most, {middle_ms} ms in the middle "
            f"(samples: {len(taken)})"
        )
        lines.append(f"    {_ADVICE[name]}")
    return Verbatim("\n".join(lines) + "\n")


# --- DEBUG ---------------------------------------------------------------------------------------


def sleep(context: Context, _: Connection, call: Call) -> Any:
    """Stop the whole event loop, as a process that gets no CPU, or a disk that hangs."""
    if not context.settings.enable_debug_command:
        raise CommandError("DEBUG command not allowed: start the node with --enable-debug-command")
    try:
        seconds = float(call.values["seconds"])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= limits.DEBUG_SLEEP_S_MAX:
        raise CommandError(
            f"DEBUG SLEEP: seconds must be a decimal from 0 to {limits.DEBUG_SLEEP_S_MAX}"
        )
    time.sleep(seconds)
    return OK


HANDLERS: dict[str, Handler] = {
    "MONITOR": monitor,
    "SLOWLOG GET": slowlog_get,
    "SLOWLOG LEN": slowlog_length,
    "SLOWLOG RESET": slowlog_reset,
    "LATENCY DOCTOR": latency_doctor,
    "LATENCY HISTOGRAM": latency_histogram,
    "LATENCY HISTORY": latency_history,
    "LATENCY LATEST": latency_latest,
    "LATENCY RESET": latency_reset,
    "DEBUG SLEEP": sleep,
}
