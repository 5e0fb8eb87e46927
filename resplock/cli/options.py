"""The settings of a server: each declared once, with its flag, range, default and help.

A value comes from the flag, else from RESPLOCK_<NAME>, else from the TOML file of --config, else the
default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import click

from resplock import limits
from resplock.addresses import check_node_id, parse_address, parse_cluster
from resplock.config import read_file
from resplock.errors import ConfigError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Of every command."""
ENVIRONMENT_PREFIX = "RESPLOCK"
SETTINGS_CONTEXT = {"auto_envvar_prefix": ENVIRONMENT_PREFIX, **CONTEXT}
"""Of the commands that have settings."""

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def with_options(*options: Option) -> Option:
    """Declares options, which --help shows in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        return reduce(lambda inner, option: option(inner), reversed(options), command)

    return decorate


def given(context: click.Context) -> list[str]:
    """The names of the settings that somebody has set, in whatever way."""
    default = click.core.ParameterSource.DEFAULT
    return [name for name in context.params if context.get_parameter_source(name) is not default]


def _read_config(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Make the file's settings the defaults of the other options."""
    if path is not None:
        known = {
            parameter.name
            for parameter in context.command.params
            if parameter.name and parameter.name != "config"
        }
        try:
            context.default_map = read_file(path, known)
        except ConfigError as error:
            raise click.BadParameter(str(error)) from error
    return path


def _check_host(_: click.Context, __: click.Parameter, host: str) -> str:
    if not host.strip():
        raise click.BadParameter("it is empty; 0.0.0.0 listens on every IPv4 address")
    return host


def _parsed(parse: Callable[[str], Any], absent: Any = None) -> Callable[..., Any]:
    """A callback that parses the text, if there is any."""

    def callback(_: click.Context, __: click.Parameter, text: str | None) -> Any:
        if text is None:
            return absent
        try:
            return parse(text)
        except ConfigError as error:
            raise click.BadParameter(str(error)) from error

    return callback


HOST = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_check_host,
    help="Address to listen on.",
)
PORT = click.option(
    "--port",
    default=7379,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
DATA_DIR = click.option(
    "--data-dir",
    default=Path("resplock-data"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the log and the snapshots are kept; made when it is missing.",
)

OF_ONE_NODE = (
    click.option(
        "--node-id",
        default="n1",
        show_default=True,
        callback=_parsed(check_node_id),
        help="This node's name, for good: a data directory belongs to one node.",
    ),
    click.option(
        "--cluster",
        metavar="ID=HOST:PORT[@PEERPORT],...",
        callback=_parsed(parse_cluster, absent=()),
        help="The nodes that a new cluster begins with, the same list on each of them.",
    ),
    click.option(
        "--join",
        metavar="HOST:PORT[@PEERPORT]",
        callback=_parsed(parse_address),
        help="Wait until RAFT.ADD brings this node into the cluster that this address belongs to.",
    ),
    click.option(
        "--peer-port",
        default=0,
        show_default="port + 10000",
        type=click.IntRange(0, 65535),
        help="Port to which the other nodes connect.",
    ),
    click.option(
        "--announce-host",
        default="",
        help="Host at which others reach this node, if it is not that of --host or --cluster.",
    ),
)
"""What no two nodes of a cluster have in common, beside host, port and directory."""

OF_EVERY_NODE = (
    click.option(
        "--on-follower",
        default="forward",
        show_default=True,
        type=click.Choice(["forward", "redirect"]),
        help="What a node that does not lead does with a command: have the leader answer it, or "
        "answer -MOVED.",
    ),
    click.option(
        "--announce-cluster",
        is_flag=True,
        help="Say in HELLO and INFO that this is a Redis Cluster, for tools that insist on it.",
    ),
    click.option(
        "--leader-lease",
        is_flag=True,
        help="Let the leader answer reads without asking the others, while its lease lasts.",
    ),
    click.option(
        "--requirepass", default="", help="Password that clients must give with AUTH or HELLO."
    ),
    click.option(
        "--protected-mode/--no-protected-mode",
        default=True,
        show_default=True,
        help="Without a password, refuse clients that are not on this machine.",
    ),
    click.option(
        "--maxclients",
        default=limits.CLIENTS_MAX,
        show_default=True,
        type=click.IntRange(1, 1_000_000),
        help="Connections at one time; further ones are refused.",
    ),
    click.option(
        "--timeout",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Close a connection that was idle for so many seconds; 0 never does.",
    ),
    click.option(
        "--snapshot-entries",
        default=limits.SNAPSHOT_ENTRIES_DEFAULT,
        show_default=True,
        type=click.IntRange(1),
        help="Take a snapshot and shorten the log after so many commands.",
    ),
    click.option(
        "--election-timeout-ms",
        default=limits.ELECTION_TIMEOUT_MS_DEFAULT,
        show_default=True,
        type=click.IntRange(50, 60_000),
        help="How long a node waits for its leader before it stands for election.",
    ),
    click.option(
        "--accept-data-loss",
        is_flag=True,
        help="Start although the log ends before commands that were acknowledged; for a node alone.",
    ),
    click.option(
        "--enable-debug-command",
        is_flag=True,
        help="Allow DEBUG SLEEP, which stops a node for a while, to try what clients make of it.",
    ),
    click.option(
        "--log-level",
        default="info",
        show_default=True,
        type=click.Choice(["debug", "info", "warning", "error"]),
    ),
    click.option(
        "--log-format",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json"]),
        help="How log lines are written to standard error.",
    ),
)
"""What the nodes of a cluster usually have in common."""

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=_read_config,
    help="TOML file with any of these settings, such as: port = 7380",
)
