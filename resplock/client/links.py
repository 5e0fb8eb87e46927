"""Where a sync client's commands go: to the node that it knows, or to the leader.

redis.Redis has one pool of connections, to whichever node it was given or, through Sentinel, to the
leader. A node that redirects answers -MOVED, which a plain client does not follow by itself: it is
followed here. RedisCluster has a pool for each node, and learns anew who leads when one fails.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from redis import RedisCluster
from redis.exceptions import ConnectionError, MovedError, RedisClusterException

SomeLink = TypeVar("SomeLink", bound="Fallible")


class Link(Protocol):
    """Of one client."""

    def pool(self) -> Any:
        """The pool of connections to use now."""

    def failed(self, error: Exception) -> None:
        """A command met this error: look elsewhere next time, if there is elsewhere."""


class PlainLink:
    """redis.Redis, with or without Sentinel."""

    def __init__(self, client: Any) -> None:
        self._own_pool = client.connection_pool
        self._leader: Any = None

    def pool(self) -> Any:
        """The leader's, if this client was told where it is."""
        return self._leader or self._own_pool

    def failed(self, error: Exception) -> None:
        """Follow -MOVED; go back to the client's own node when the leader fails."""
        former, self._leader = self._leader, None
        if former is not None:
            former.disconnect()
        if isinstance(error, MovedError):
            self._leader = pool_at(self._own_pool, error.host, error.port)


class ClusterLink:
    """redis.RedisCluster. The leader has all slots."""

    def __init__(self, client: Any) -> None:
        self._client = weakref.proxy(client)
        self._is_stale = False

    def pool(self) -> Any:
        """The leader's."""
        try:
            if self._is_stale:
                self._client.nodes_manager.initialize()
                self._is_stale = False
            node = self._client.get_node_from_key("")
            return self._client.get_redis_connection(node).connection_pool
        except RedisClusterException as error:
            raise ConnectionError(str(error)) from error

    def failed(self, error: Exception) -> None:
        """Ask who leads before the next command."""
        self._is_stale = True


class Fallible(Protocol):
    """What a link is in threads and in tasks."""

    def failed(self, error: Exception) -> None:
        """See Link."""


class OneOf(Generic[SomeLink]):
    """Links to several nodes, of which any one will do."""

    def __init__(self, links: Sequence[SomeLink]) -> None:
        self._links = links
        self._place = 0

    @property
    def present(self) -> SomeLink:
        """To the node that answered last."""
        return self._links[self._place]

    def failed(self, error: Exception) -> None:
        """Go on to the next node, unless this one says where the leader is."""
        self.present.failed(error)
        if not isinstance(error, MovedError):
            self._place = (self._place + 1) % len(self._links)


class AnyLink(OneOf[Link]):
    """Several clients, one for each node."""

    def pool(self) -> Any:
        """Of the node that answered last."""
        return self.present.pool()


def link_of(client: Any) -> Link:
    """The same for all locks of a client; for several clients, a new one."""
    if isinstance(client, list | tuple):
        return AnyLink([link_of(each) for each in client])
    kind = ClusterLink if isinstance(client, RedisCluster) else PlainLink
    return kept(_links, client, kind)


def kept(
    links: weakref.WeakKeyDictionary[Any, SomeLink], client: Any, make: Callable[[Any], SomeLink]
) -> SomeLink:
    """The link of this client, which is made once."""
    link = links.get(client)
    if link is None:
        link = links[client] = make(client)
    return link


def pool_at(pool: Any, host: str, port: int) -> Any:
    """A pool like this one, to another node."""
    settings = settings_at(pool, host, port)
    return type(pool)(connection_class=pool.connection_class, **settings)


def settings_at(pool: Any, host: str, port: int) -> dict[str, Any]:
    """What makes a connection like those of the pool, to another node."""
    return {**pool.connection_kwargs, "host": host, "port": port}


_links: weakref.WeakKeyDictionary[Any, Link] = weakref.WeakKeyDictionary()
