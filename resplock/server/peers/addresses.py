"""Addresses as text: `host:port`, an IPv6 host in brackets. Pure."""

from __future__ import annotations

from resplock.errors import ConfigError

_PORT_MAX = 65_535


def split_address(text: str) -> tuple[str, int]:
    """The host and the port. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{text!r} is not an address: put an IPv6 host into brackets")
    if not (colon and host and port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ConfigError(f"{text!r} is not an address: host:port is")
    number = int(port)
    if not 1 <= number <= _PORT_MAX:
        raise ConfigError(f"{text!r} is not an address: a port is 1 to {_PORT_MAX}")
    return host, number


def join_address(host: str, port: int) -> str:
    """The opposite of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
