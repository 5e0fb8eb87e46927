"""The few commands that lock scripts call, on a dict: what `redis.call` reaches in these tests."""

from __future__ import annotations

from resplock.script import Failure, Program, Reply, Status


class Store:
    """Strings and their TTLs in milliseconds; time stands still. `calls` keeps what was called."""

    def __init__(self, **values: bytes) -> None:
        self.values = {key.encode(): value for key, value in values.items()}
        self.ttls_ms: dict[bytes, int] = {}
        self.calls: list[list[bytes]] = []

    def run(self, source: str, *keys: str, argv: tuple[str, ...] = ()) -> Reply:
        """What a script answers."""
        words = [each.encode() for each in argv]
        return Program(source.encode()).run([key.encode() for key in keys], words, self.call)[0]

    def call(self, words: list[bytes]) -> Reply:
        """One command."""
        self.calls.append(words)
        name, arguments = words[0].lower().decode(), words[1:]
        if name == "mget":
            return [self.values.get(key) for key in arguments]
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            return Failure(b"ERR Unknown Redis command called from script")
        reply: Reply = handler(*arguments)
        return reply

    def _get(self, key: bytes) -> Reply:
        if key == b"list":
            return Failure(b"WRONGTYPE Operation against a key holding the wrong kind of value")
        return self.values.get(key)

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        words = [option.upper() for option in options]
        if b"NX" in words and key in self.values:
            return None
        self.values[key] = value
        self.ttls_ms.pop(key, None)
        if b"PX" in words:
            self.ttls_ms[key] = int(options[words.index(b"PX") + 1])
        return Status(b"OK")

    def _setnx(self, key: bytes, value: bytes) -> Reply:
        return 0 if self._set(key, value, b"NX") is None else 1

    def _exists(self, key: bytes) -> Reply:
        return int(key in self.values)

    def _del(self, key: bytes) -> Reply:
        self.ttls_ms.pop(key, None)
        return 0 if self.values.pop(key, None) is None else 1

    def _pexpire(self, key: bytes, ttl_ms: bytes) -> Reply:
        if not ttl_ms.isdigit():
            return Failure(b"ERR value is not an integer or out of range")
        if key not in self.values:
            return 0
        self.ttls_ms[key] = int(ttl_ms)
        return 1

    def _expire(self, key: bytes, ttl_s: bytes) -> Reply:
        return self._pexpire(key, ttl_s + b"000")

    def _pttl(self, key: bytes) -> Reply:
        return self.ttls_ms.get(key, -1) if key in self.values else -2
