"""How a program of ours says what came out of its cases, and asks for faults."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

RUN: dict[str, Any] = json.loads(os.environ["COMPAT_RUN"])
"""host and port for who knows one address, addresses of all nodes, way, protocol, nodes."""


def ask(what: str) -> None:
    """Have something done to the server; returns when it is."""
    _print({"ask": what})
    sys.stdin.readline()


def judge(name: str, body: Callable[[], str | None]) -> None:
    """Run a case. What it returns is a note for the page."""
    try:
        note = body()
    except Exception as error:  # noqa: BLE001 - a case may fail in any way
        traceback.print_exc()
        _print({"case": name, "outcome": "failed", "reason": f"{type(error).__name__}: {error}"})
    else:
        _print({"case": name, "outcome": "passed", "reason": note or ""})


def described(errors: Counter[str]) -> str:
    """The errors that reached the program, as a note."""
    if not errors:
        return "no error reached the program"
    parts = ", ".join(f"{times} {text}" for text, times in sorted(errors.items()))
    return f"errors that reached the program: {parts}"


def end() -> None:
    """All cases were run."""
    _print({"end": True})


def _print(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
