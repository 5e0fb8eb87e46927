"""resplock cluster: several nodes on one machine, each in a process of its own.

The nodes are `resplock serve` with a list of each other. Whatever a node has of its own (id, ports,
directory) is given to it by flags, and what they have in common through its environment, where a
password is not for everybody to see.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from resplock.addresses import Address, ClusterNode, parse_address
from resplock.cli import options
from resplock.cli.supervisor import Supervisor
from resplock.errors import ConfigError

_NODES_MAX = 9


@click.command(context_settings=options.SETTINGS_CONTEXT)
@click.option(
    "--nodes",
    default=3,
    show_default=True,
    type=click.IntRange(1, _NODES_MAX),
    help="How many nodes; an odd number is best.",
)
@options.with_options(options.HOST)
@click.option(
    "--port",
    default=7379,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port of the first node; the others have those that follow.",
)
@click.option(
    "--data-dir",
    default=Path("resplock-cluster"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Each node has a directory in it: n1, n2, ...",
)
@options.with_options(*options.OF_EVERY_NODE, options.CONFIG)
@click.pass_context
def cluster(
    context: click.Context,
    /,
    nodes: int,
    host: str,
    port: int,
    data_dir: Path,
    config: Path | None,
    **common: Any,
) -> None:
    """Run a cluster of nodes on this machine.

    Client ports are --port and those that follow, and each node's peer port is 10000 above its own.
    Ctrl-C stops all nodes in good order. A node that ends by itself is reported, and the others go
    on. Any other option is as in serve, and goes to every node.
    """
    try:
        members = [
            ClusterNode(f"n{number + 1}", _address(host, port + number)) for number in range(nodes)
        ]
    except ConfigError as error:
        raise click.UsageError(str(error), context) from error
    supervisor = Supervisor(members, data_dir, common)
    sys.exit(asyncio.run(supervisor.run()))


def _address(host: str, port: int) -> Address:
    return parse_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
