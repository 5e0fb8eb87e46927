"""A client's bytes inside a message for people: printable, and never long.

Pure.
"""

from typing import Final

QUOTED_BYTES_MAX: Final = 128
"""How many bytes of an argument an error shows, as in Redis."""

_ESCAPES: Final[dict[int, str]] = {
    byte: f"\\x{byte:02x}" for byte in range(256) if not 0x20 <= byte < 0x7F
} | {ord("\\"): "\\\\", ord("'"): "\\'", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}

_DOUBLE_QUOTED: Final[dict[int, str]] = {
    **_ESCAPES,
    ord('"'): '\\"',
    ord("'"): "'",
    ord("\a"): "\\a",
    ord("\b"): "\\b",
}


def printable(raw: bytes, most: int = QUOTED_BYTES_MAX) -> str:
    """The first `most` bytes, with what is not printable ASCII escaped as Redis escapes it."""
    return raw[:most].decode("latin-1").translate(_ESCAPES)


def escape(raw: bytes) -> str:
    """All of it, as Redis writes what it puts between double quotes."""
    return raw.decode("latin-1").translate(_DOUBLE_QUOTED)


def quote(raw: bytes, most: int = QUOTED_BYTES_MAX) -> str:
    """`raw` between quotes; dots follow when it was longer than `most` bytes."""
    return f"'{printable(raw, most)}'" + ("..." if len(raw) > most else "")
