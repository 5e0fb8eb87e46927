"""Settings: defaults, then a TOML file, then RESPLOCK_* variables, then flags; the last one wins.

`cli.py` declares each setting once, with its range and help, and click merges the sources; this
module holds the result and reads the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from resplock import limits
from resplock.errors import ConfigError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `resplock serve` can be told."""

    host: str = "127.0.0.1"
    port: int = 7379
    data_dir: Path = Path("resplock-data")
    node_id: str = "n1"
    requirepass: str = ""
    protected_mode: bool = True
    maxclients: int = limits.CLIENTS_MAX
    timeout: int = 0
    """Seconds after which an idle connection is closed; 0 is never."""
    snapshot_entries: int = limits.SNAPSHOT_ENTRIES_DEFAULT
    election_timeout_ms: int = limits.ELECTION_TIMEOUT_MS_DEFAULT
    accept_data_loss: bool = False
    log_level: str = "info"
    log_format: str = "text"


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
