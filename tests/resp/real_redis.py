"""A redis-server of the tests' own, to compare with."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import hiredis

from tests.redis_process import RedisProcess
from tests.replies import parse_replies


class RealRedis:
    """A running redis-server, and one connection to it for each version of the protocol."""

    def __enter__(self) -> RealRedis:
        self._process = RedisProcess()
        self._links = {protocol: (self._process.connect(), hiredis.Reader()) for protocol in (2, 3)}
        self.ask("HELLO", "3", protocol=3)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for link, _reader in self._links.values():
            link.close()
        self._process.stop()

    def ask(self, *words: str | bytes, protocol: int = 2) -> Any:
        """The reply to one command, as hiredis reads it. An error is returned, not raised."""
        link, reader = self._links[protocol]
        link.sendall(hiredis.pack_command(words))
        while (reply := reader.gets()) is False:
            reader.feed(link.recv(65_536))
        return reply


def parsed(reply: bytes) -> Any:
    """One reply as a client sees it. Fails unless the bytes are exactly one reply."""
    [value], whole = parse_replies(reply)
    assert whole
    return value
