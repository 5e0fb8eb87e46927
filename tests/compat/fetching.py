"""Brings libraries into .tools/compat with the ordinary package clients; what is there stays."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.compat.suite import ROOT, Fetched, Git, Npm, Origin, Pip

CACHE = ROOT / ".tools" / "compat"
_DEADLINE_S = 300.0


class CannotFetch(Exception):
    """The library is not to be had here; says why."""


def fetch(origin: Origin) -> Fetched:
    """The library, from the cache or else from where it comes from. Raises CannotFetch."""
    name, version = origin.pinned
    # What else is installed beside it may change while the version stays.
    digest = hashlib.sha256(repr(origin).encode()).hexdigest()[:8]
    place = CACHE / f"{name.replace('/', '+')}-{version}-{digest}"
    done = place / "fetched.json"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        found = _fetch(origin, place)
        done.write_text(json.dumps([str(path.relative_to(place)) for path in found]))
    packages, source = json.loads(done.read_text())
    return Fetched(place / packages, place / source)


def _fetch(origin: Origin, place: Path) -> Fetched:
    match origin:
        case Pip():
            packages = _pip_install(origin.packages, place / "packages")
            return Fetched(packages, _source(origin, place) if origin.source else packages)
        case Npm():
            return _npm_install(origin, place)
        case Git():
            source = _clone(origin, place / "source")
            return Fetched(_pip_install(origin.packages, place / "packages"), source)


def _pip_install(packages: Sequence[str], target: Path) -> Path:
    if packages:
        _pip("install", "--target", str(target), *packages)
    return target


def _source(origin: Pip, place: Path) -> Path:
    """The unpacked source distribution."""
    name, version = origin.pinned
    _pip(
        *("download", "--no-deps", "--no-binary", name),
        *("--dest", str(place / "sdist"), f"{name}=={version}"),
    )
    archive = next((place / "sdist").glob("*.tar.gz"))
    shutil.unpack_archive(archive, place / "source")
    return next((place / "source").iterdir())


def _npm_install(origin: Npm, place: Path) -> Fetched:
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise CannotFetch("node and npm are not installed")
    (place / "package.json").write_text('{"private": true}\n')
    _client(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *origin.packages],
        place,
    )
    modules = place / "node_modules"
    return Fetched(modules, modules / origin.pinned[0])


def _clone(origin: Git, target: Path) -> Path:
    if shutil.which("git") is None:
        raise CannotFetch("git is not installed")
    target.mkdir()
    _client(["git", "init", "--quiet", "."], target)
    _client(["git", "fetch", "--quiet", "--depth=1", origin.url, origin.commit], target)
    _client(["git", "checkout", "--quiet", "FETCH_HEAD"], target)
    return target


def _pip(*words: str) -> None:
    _client([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *words], ROOT)


def _client(command: list[str], directory: Path) -> None:
    """Run a package client. Raises CannotFetch with the last line that it wrote."""
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=_DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        raise CannotFetch(f"{command[0]} did not end within {_DEADLINE_S:.0f} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
        raise CannotFetch(f"{Path(command[0]).name} could not fetch it: {said.strip()}")
