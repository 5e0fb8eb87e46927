"""The `resplock` command. One file for each of its commands:

options.py    the settings of a server, declared once
serve.py      resplock serve
cluster.py    resplock cluster, with supervisor.py and children.py
status.py     resplock status, with asking.py
run.py        resplock run, with children.py
"""

from __future__ import annotations

import click

from resplock import __version__
from resplock.cli.cluster import cluster
from resplock.cli.options import CONTEXT
from resplock.cli.run import run
from resplock.cli.serve import serve
from resplock.cli.status import status

__all__ = ["main"]


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, "--version", "-V", prog_name="resplock")
def main() -> None:
    """resplock: a distributed lock server that speaks the Redis protocol."""


main.add_command(run)
main.add_command(serve)
main.add_command(cluster)
main.add_command(status)
