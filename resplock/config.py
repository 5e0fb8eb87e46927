"""Settings: defaults, then a TOML file, then RESPLOCK_* variables, then flags; the last one wins.

`cli/options.py` declares each setting once, with its range and help, and click merges the sources;
this module holds the result, checks what the settings mean together, and reads the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from resplock import limits
from resplock.addresses import (
    EVERY_ADDRESS,
    PEER_PORT_OFFSET,
    Address,
    ClusterNode,
)
from resplock.errors import ConfigError

OnFollower: TypeAlias = Literal["forward", "redirect"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `resplock serve` can be told."""

    host: str = "127.0.0.1"
    port: int = 7379
    data_dir: Path = Path("resplock-data")
    node_id: str = "n1"
    cluster: tuple[ClusterNode, ...] = ()
    """The nodes that the cluster begins with, this one among them; empty for a cluster of one."""
    join: Address | None = None
    """A node of the cluster that this one is to be added to."""
    peer_port: int = 0
    """Where the other nodes connect; 0 is the port for clients + PEER_PORT_OFFSET."""
    on_follower: OnFollower = "forward"
    announce_host: str = ""
    """Where others reach this node, when `host` does not tell and `cluster` is empty."""
    announce_cluster: bool = False
    leader_lease: bool = False
    requirepass: str = ""
    protected_mode: bool = True
    maxclients: int = limits.CLIENTS_MAX
    timeout: int = 0
    """Seconds after which an idle connection is closed; 0 is never."""
    snapshot_entries: int = limits.SNAPSHOT_ENTRIES_DEFAULT
    election_timeout_ms: int = limits.ELECTION_TIMEOUT_MS_DEFAULT
    accept_data_loss: bool = False
    enable_debug_command: bool = False
    log_level: str = "info"
    log_format: str = "text"

    @property
    def own_address(self) -> Address | None:
        """This node's address in `cluster`."""
        found = (node.address for node in self.cluster if node.id == self.node_id)
        return next(found, None)

    def peer_port_beside(self, port: int) -> int:
        """The port for nodes when clients connect to `port`; 0, a free one, when there is none."""
        beside = port + PEER_PORT_OFFSET
        return self.peer_port or (beside if port and beside < 2**16 else 0)


def complete(settings: Settings, given: Collection[str]) -> Settings:
    """The settings with what follows from the cluster's list: this node's host and ports.

    given: the names of those that somebody has set. Raises ConfigError for settings that contradict
    each other.
    """
    if settings.cluster and settings.join:
        raise ConfigError(
            "--cluster begins a cluster, and --join adds a node to one that is there: "
            "give only one of them"
        )
    if settings.cluster:
        return _complete_from_list(settings, given)
    if settings.join and settings.port and not settings.peer_port_beside(settings.port):
        raise ConfigError(f"{settings.port} + {PEER_PORT_OFFSET} is no port: give --peer-port")
    if settings.peer_port and settings.peer_port == settings.port:
        raise ConfigError("--port and --peer-port must be two different ports")
    return settings


def _complete_from_list(settings: Settings, given: Collection[str]) -> Settings:
    own = settings.own_address
    if own is None:
        ids = ", ".join(node.id for node in settings.cluster)
        raise ConfigError(f"--node-id {settings.node_id} is not in --cluster, which has {ids}")
    if settings.announce_host:
        raise ConfigError("--announce-host is for a node without --cluster, whose list says it")
    listed: dict[str, Any] = {"host": own.host, "port": own.port, "peer_port": own.peer_port}
    for name, value in listed.items():
        said = getattr(settings, name)
        if name in given and said != value and said not in EVERY_ADDRESS:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{flag} {said} contradicts --cluster, where {settings.node_id} is {own}"
            )
    if settings.host in EVERY_ADDRESS and "host" in given:
        del listed["host"]
    return msgspec.structs.replace(settings, **listed)


def read_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings of a TOML file, by the names of the flags with `_` for `-`.

    Values are text, as in the environment: what each may be is checked with the flags. Raises
    ConfigError for a file that cannot be read or parsed, and for names that are no setting.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ConfigError(
            f"{path} has no such setting: {', '.join(unknown)}; "
            f"the settings are {', '.join(sorted(known))}"
        )
    for name, value in settings.items():
        if not isinstance(value, str | int):
            raise ConfigError(f"{path}: {name} must be text, an integer, true or false")
    return {name: str(value) for name, value in settings.items()}
