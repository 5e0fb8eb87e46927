"""resplock serve: one node in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from resplock.cli import options
from resplock.config import Settings, complete
from resplock.errors import ConfigError, ResplockError


@click.command(context_settings=options.SETTINGS_CONTEXT)
@options.with_options(
    options.HOST,
    options.PORT,
    options.DATA_DIR,
    *options.OF_ONE_NODE,
    *options.OF_EVERY_NODE,
    options.CONFIG,
)
@click.pass_context
def serve(context: click.Context, /, config: Path | None, **values: Any) -> None:
    """Run a lock server until it is told to stop.

    Each option can also be set as RESPLOCK_<NAME> in the environment (RESPLOCK_PORT=7380), or in
    the file of --config. A flag wins over the environment, and that over the file.

    SIGTERM and SIGINT stop the server in good order; what it has acknowledged is on disk at any
    moment, so that kill -9 loses nothing either.
    """
    from resplock.server.app import run  # starting up is slow: not for --help

    try:
        settings = complete(Settings(**values), options.given(context))
    except ConfigError as error:
        raise click.UsageError(str(error), context) from error
    try:
        run(settings)
    except ResplockError as error:
        click.echo(f"resplock: {error}", err=True)
        sys.exit(1)
