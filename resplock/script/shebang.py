"""The first line of a script, when it is `#!lua flags=...`, as Redis 7 has it.

Pure. https://redis.io/docs/latest/develop/programmability/eval-intro, "Script flags".
"""

from __future__ import annotations

from typing import Final

from resplock.script.failures import BadShebang

NO_WRITES: Final = "no-writes"
_FLAGS: Final = (NO_WRITES, "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
"""All but the first make no difference here."""


def split(source: bytes) -> tuple[frozenset[str] | None, bytes]:
    """Its flags, and the script without what is in its first line; None when it begins otherwise.

    Raises BadShebang.
    """
    if not source.startswith(b"#!"):
        return None, source
    line, newline, rest = source.partition(b"\n")
    if not newline:
        raise BadShebang("Invalid script shebang")
    engine, *options = line.decode(errors="replace").split() or [""]
    if engine != "#!lua":
        raise BadShebang(f"Unexpected engine in script shebang: {engine}")
    flags = frozenset(flag for option in options for flag in _flags_of(option))
    return flags, newline + rest


def _flags_of(option: str) -> list[str]:
    name, equals, value = option.partition("=")
    if name != "flags" or not equals:
        raise BadShebang(f"Unknown lua shebang option: {option}")
    flags = value.split(",") if value else []
    for flag in flags:
        if flag not in _FLAGS:
            raise BadShebang(f"Unexpected flag in script shebang: {flag}")
    return flags
