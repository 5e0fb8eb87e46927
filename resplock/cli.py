"""The `resplock` command.

Every setting of `serve` is declared once, here: its flag, range, default and help. A value comes
from the flag, else from RESPLOCK_<NAME>, else from the TOML file of --config, else the default.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from resplock import __version__, limits
from resplock.config import Settings, read_file
from resplock.errors import ConfigError, ResplockError

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, "--version", "-V", prog_name="resplock")
def main() -> None:
    """resplock: a distributed lock server that speaks the Redis protocol."""


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


def _check_node_id(_: click.Context, __: click.Parameter, node_id: str) -> str:
    if not _NODE_ID.fullmatch(node_id):
        raise click.BadParameter(
            f"{node_id!r} is not a node id: 1 to 64 letters, digits, '_', '.' or '-', "
            "beginning with a letter or digit"
        )
    return node_id


@main.command(context_settings={"auto_envvar_prefix": "RESPLOCK", **_CONTEXT})
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_check_host,
    help="Address to listen on.",
)
@click.option(
    "--port",
    default=7379,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--data-dir",
    default=Path("resplock-data"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the log and the snapshots are kept; made when it is missing.",
)
@click.option(
    "--node-id",
    default="n1",
    show_default=True,
    callback=_check_node_id,
    help="This node's name, for good: a data directory belongs to one node.",
)
@click.option(
    "--requirepass", default="", help="Password that clients must give with AUTH or HELLO."
)
@click.option(
    "--protected-mode/--no-protected-mode",
    default=True,
    show_default=True,
    help="Without a password, refuse clients that are not on this machine.",
)
@click.option(
    "--maxclients",
    default=limits.CLIENTS_MAX,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Connections at one time; further ones are refused.",
)
@click.option(
    "--timeout",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Close a connection that was idle for so many seconds; 0 never does.",
)
@click.option(
    "--snapshot-entries",
    default=limits.SNAPSHOT_ENTRIES_DEFAULT,
    show_default=True,
    type=click.IntRange(1),
    help="Take a snapshot and shorten the log after so many commands.",
)
@click.option(
    "--election-timeout-ms",
    default=limits.ELECTION_TIMEOUT_MS_DEFAULT,
    show_default=True,
    type=click.IntRange(50, 60_000),
    help="How long a node waits for its leader before it stands for election.",
)
@click.option(
    "--accept-data-loss",
    is_flag=True,
    help="Start although the log ends before commands that were acknowledged.",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
)
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How log lines are written to standard error.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=_read_config,
    help="TOML file with any of these settings, such as: port = 7380",
)
def serve(config: Path | None, **values: Any) -> None:
    """Run a lock server until it is told to stop.

    Each option can also be set as RESPLOCK_<NAME> in the environment (RESPLOCK_PORT=7380), or in
    the file of --config. A flag wins over the environment, and that over the file.

    SIGTERM and SIGINT stop the server in good order; what it has acknowledged is on disk at any
    moment, so that kill -9 loses nothing either.
    """
    from resplock.server.app import run  # starting up is slow: not for --help

    try:
        run(Settings(**values))
    except ResplockError as error:
        click.echo(f"resplock: {error}", err=True)
        sys.exit(1)
