"""What the log says of peers: at most one line a minute of each kind about each of them."""

from __future__ import annotations

import structlog

from resplock import limits
from resplock.server.clocks import now_ms

logger = structlog.get_logger()


class _Complaint:
    __slots__ = ("count", "fields", "logged_ms")

    def __init__(self) -> None:
        self.count = 0
        self.fields: dict[str, object] = {}
        self.logged_ms = -limits.COMPLAINT_EVERY_MS


class Complaints:
    """Counts trouble by kind and peer, and logs it now and then.

    `kind` is one of a few texts; `peer` is a node's id or a host. There may be many hosts: beyond
    PEER_COMPLAINTS_MAX they are counted together.
    """

    def __init__(self) -> None:
        self._complaints: dict[tuple[str, str], _Complaint] = {}

    def complain(self, kind: str, peer: str, **fields: object) -> None:
        """Log trouble with a peer; `count` tells how often it was met since the last line."""
        key = (kind, peer)
        if key not in self._complaints and len(self._complaints) >= limits.PEER_COMPLAINTS_MAX:
            key = (kind, "")
        complaint = self._complaints.setdefault(key, _Complaint())
        complaint.count += 1
        complaint.fields = {"peer": peer, **fields}
        if now_ms() - complaint.logged_ms >= limits.COMPLAINT_EVERY_MS:
            self._log(kind, complaint)

    def sweep(self) -> None:
        """Log what has gathered and is due; forget what has not come again."""
        stamp_ms = now_ms()
        for (kind, peer), complaint in list(self._complaints.items()):
            if stamp_ms - complaint.logged_ms < limits.COMPLAINT_EVERY_MS:
                continue
            if complaint.count:
                self._log(kind, complaint)
            else:
                del self._complaints[kind, peer]

    def _log(self, kind: str, complaint: _Complaint) -> None:
        logger.warning(kind, count=complaint.count, **complaint.fields)
        complaint.count = 0
        complaint.logged_ms = now_ms()
