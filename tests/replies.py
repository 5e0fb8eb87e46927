"""Reading replies as clients do, with hiredis, whose two traps are known here and nowhere else."""

from __future__ import annotations

from typing import Any

import hiredis


def parse_replies(data: bytes) -> tuple[list[Any], bool]:
    """Every reply in these bytes, and whether they end with a whole one."""
    missing = object()  # hiredis's own sentinel is False, which equals the reply 0
    reader = hiredis.Reader(notEnoughData=missing)
    end = b"the end of the replies"  # hiredis forgets half an array when asked whether it has data
    reader.feed(data)
    replies = []
    while (reply := reader.gets()) is not missing:
        replies.append(reply)
    reader.feed(b"+%b\r\n" % end)
    try:
        return replies, reader.gets() == end
    except hiredis.ProtocolError:  # half an integer went on with the end
        return replies, False
