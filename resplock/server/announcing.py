"""What Sentinel clients subscribe to: the changes of leader, as this node learns of them.

I/O layer. Each event is a channel of its own, with Sentinel's text:

    +switch-master   resplock <old host> <old port> <new host> <new port>
    +slave           slave <host:port> <host> <port> @ resplock <new host> <new port>, of the old leader
    +sdown, +odown   master resplock <host> <port>: no leader is known any more
    -sdown, -odown   the same, when it is the same leader again
"""

from __future__ import annotations

from collections.abc import Callable

from resplock.resp.commands.sentinel_commands import MASTER_NAME
from resplock.server.pubsub import PubSub
from resplock.server.topology import NodeView, View


class Announcer:
    """Compares the cluster with what it was when it looked last."""

    def __init__(self, view: Callable[[], View], pubsub: PubSub) -> None:
        """`view`: the cluster as this node knows it now."""
        self._view = view
        self._pubsub = pubsub
        self._seen: View | None = None
        self._owner: NodeView | None = None
        self._is_down = False

    def look(self) -> None:
        """Publish what has changed. Costs nothing while nothing has."""
        view = self._view()
        if view is self._seen:
            return
        self._seen = view
        if view.leader is None:
            self._leader_lost()
        else:
            self._leader_found(view.leader)

    def _leader_lost(self) -> None:
        if self._owner is None or self._is_down:
            return
        self._is_down = True
        for event in (b"+sdown", b"+odown"):
            self._publish(event, f"master {_NAME} {_place(self._owner)}")

    def _leader_found(self, leader: NodeView) -> None:
        old, self._owner = self._owner, leader
        was_down, self._is_down = self._is_down, False
        if old is None:
            return
        if (old.host, old.port) != (leader.host, leader.port):
            self._publish(b"+switch-master", f"{_NAME} {_place(old)} {_place(leader)}")
            replica = f"slave {old.address} {_place(old)}"
            self._publish(b"+slave", f"{replica} @ {_NAME} {_place(leader)}")
        elif was_down:
            for event in (b"-sdown", b"-odown"):
                self._publish(event, f"master {_NAME} {_place(leader)}")

    def _publish(self, event: bytes, text: str) -> None:
        self._pubsub.publish(event, text.encode())


_NAME = MASTER_NAME.decode()


def _place(node: NodeView) -> str:
    return f"{node.host} {node.port}"
