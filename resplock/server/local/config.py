"""CONFIG: what this node's settings are, and those of them that can be changed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from resplock import glob, limits
from resplock.errors import CommandError
from resplock.resp.binding import Call
from resplock.resp.quoting import printable
from resplock.server.connection import Connection
from resplock.server.local.context import OK, Context, Handler

Change: TypeAlias = Callable[[], object]
"""Carries a change out."""


class Setting(msgspec.Struct, frozen=True):
    """A name that CONFIG knows.

    show     its value
    prepare  the change to a text, or ValueError with Redis's reason; None for what cannot change
    """

    show: Callable[[Context], object]
    prepare: Callable[[Context, str], Change] | None = None


def _integer(
    least: int, most: int, change: Callable[[Context, int], object]
) -> Callable[[Context, str], Change]:
    """A setting that is an integer from `least` to `most`."""

    def prepare(context: Context, text: str) -> Change:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()):
            raise ValueError("argument couldn't be parsed into an integer")
        value = int(text)
        if not least <= value <= most:
            raise ValueError(f"argument must be between {least} and {most} inclusive")
        return lambda: change(context, value)

    return prepare


def _prepare_maxclients(context: Context, text: str) -> Change:
    clients = context.clients
    change = _integer(1, limits.CONFIG_INTEGER_MAX, _set_maxclients)
    prepared = change(context, text)
    possible = clients.possible(int(text))
    if possible < int(text):
        raise ValueError(
            "The operating system is not able to handle the specified number of clients, "
            f"try with {possible}"
        )
    return prepared


def _set_maxclients(context: Context, most: int) -> None:
    context.clients.maxclients = most


def _set_timeout(context: Context, seconds: int) -> None:
    context.clients.timeout_s = seconds


def _prepare_events(_: Context, text: str) -> Change:
    """Events are always on: to ask for any of Redis's classes changes nothing."""
    classes = "Ag$lshzxeKEtmdn"
    if set(text) - set(classes):
        raise ValueError(f"Invalid event class character. Use '{classes}'.")
    return lambda: None


def _set_slower_than(context: Context, microseconds: int) -> None:
    context.engine.observer.slower_than_us = microseconds


def _set_slowlog_length(context: Context, most: int) -> None:
    context.engine.observer.slow_log.entries_max = most


def _set_latency_threshold(context: Context, milliseconds: int) -> None:
    context.engine.observer.threshold_ms = milliseconds


SETTINGS: dict[str, Setting] = {
    "appendfsync": Setting(lambda _: "always"),
    "appendonly": Setting(lambda _: "yes"),
    "bind": Setting(lambda context: context.settings.host),
    "data-dir": Setting(lambda context: context.settings.data_dir.absolute()),
    "databases": Setting(lambda _: limits.DATABASES),
    "dir": Setting(lambda context: context.settings.data_dir.absolute()),
    "election-timeout-ms": Setting(lambda context: context.settings.election_timeout_ms),
    "latency-monitor-threshold": Setting(
        lambda context: context.engine.observer.threshold_ms,
        _integer(0, limits.CONFIG_INTEGER_MAX, _set_latency_threshold),
    ),
    "maxclients": Setting(lambda context: context.clients.maxclients, _prepare_maxclients),
    "maxmemory": Setting(lambda _: 0),
    "maxmemory-policy": Setting(lambda _: "noeviction"),
    "node-id": Setting(lambda context: context.settings.node_id),
    "notify-keyspace-events": Setting(lambda _: "AKE", _prepare_events),
    "port": Setting(lambda context: context.port),
    "proto-max-bulk-len": Setting(lambda _: limits.ARGUMENT_BYTES_MAX),
    "protected-mode": Setting(lambda context: "yes" if context.settings.protected_mode else "no"),
    "replica-read-only": Setting(lambda _: "yes"),
    "requirepass": Setting(lambda context: "********" if context.settings.requirepass else ""),
    "save": Setting(lambda _: ""),
    "slave-read-only": Setting(lambda _: "yes"),
    "slowlog-log-slower-than": Setting(
        lambda context: context.engine.observer.slower_than_us,
        _integer(-1, limits.CONFIG_INTEGER_MAX, _set_slower_than),
    ),
    "slowlog-max-len": Setting(
        lambda context: context.engine.observer.slow_log.entries_max,
        _integer(0, limits.SLOWLOG_ENTRIES_MAX, _set_slowlog_length),
    ),
    "snapshot-entries": Setting(lambda context: context.settings.snapshot_entries),
    "tcp-keepalive": Setting(lambda _: 300),
    "timeout": Setting(
        lambda context: context.clients.timeout_s,
        _integer(0, limits.CONFIG_INTEGER_MAX, _set_timeout),
    ),
}
"""Redis's names that clients and tools ask for, and our own."""


def get(context: Context, _: Connection, call: Call) -> Any:
    patterns: tuple[bytes, ...] = call.values["parameters"]
    count_max, bytes_max = limits.CONFIG_PATTERNS_MAX, limits.CONFIG_PATTERNS_BYTES_MAX
    if len(patterns) > count_max or sum(map(len, patterns)) > bytes_max:
        raise CommandError(
            f"CONFIG GET: at most {count_max} parameters, together of at most {bytes_max} bytes"
        )
    matchers = [glob.compile(pattern.lower()) for pattern in patterns]
    return {
        name: str(setting.show(context))
        for name, setting in SETTINGS.items()
        if any(matches(name.encode()) for matches in matchers)
    }


def set_(context: Context, _: Connection, call: Call) -> Any:
    """All of them or none: what may fail is done before the first change."""
    changes: dict[str, Change] = {}
    for parameter, value in call.values["settings"]:
        name = parameter.decode("latin-1").lower()
        setting = SETTINGS.get(name)
        if setting is None:
            shown = printable(parameter)
            raise CommandError(f"Unknown option or number of arguments for CONFIG SET - '{shown}'")
        try:
            if name in changes:
                raise ValueError("duplicate parameter")
            changes[name] = _prepare(context, setting, value.decode("latin-1"))
        except ValueError as error:
            raise CommandError(
                f"CONFIG SET failed (possibly related to argument '{name}') - {error}"
            ) from None
    for change in changes.values():
        change()
    return OK


def _prepare(context: Context, setting: Setting, text: str) -> Change:
    if setting.prepare is not None:
        return setting.prepare(context, text)
    if text != str(setting.show(context)):
        raise ValueError("can't set immutable config")
    return lambda: None


def reset_statistics(context: Context, _: Connection, __: Call) -> Any:
    context.clients.reset_statistics()
    context.engine.observer.reset_statistics()
    return OK


def rewrite(_: Context, __: Connection, ___: Call) -> Any:
    raise CommandError(
        "what CONFIG SET changes is not kept: give flags, RESPLOCK_* variables or a TOML file, and "
        "start the node again"
    )


HANDLERS: dict[str, Handler] = {
    "CONFIG GET": get,
    "CONFIG RESETSTAT": reset_statistics,
    "CONFIG REWRITE": rewrite,
    "CONFIG SET": set_,
}
