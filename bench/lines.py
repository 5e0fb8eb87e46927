"""Results that are shown one a line, each with what is asked of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import NamedTuple

from bench.servers import BenchError, stop_on_sigterm


class Line(NamedTuple):
    """One result, and the most or the least that it may be where there is a target."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def asked(self) -> str:
        """The target in words; empty where there is none."""
        if self.at_most is not None and self.at_most == self.at_least:
            words = f"exactly {figure(self.at_most)}"
        elif self.at_most is not None:
            words = f"at most {figure(self.at_most)}"
        elif self.at_least is not None:
            words = f"at least {figure(self.at_least)}"
        else:
            return ""
        return f"{words} {self.unit}".rstrip()

    @property
    def missed(self) -> bool:
        """Whether it is beyond what is asked."""
        return (self.at_most is not None and self.value > self.at_most) or (
            self.at_least is not None and self.value < self.at_least
        )


def text(line: Line) -> str:
    """What is printed: the result, and the verdict where there is a target."""
    is_short = isinstance(line.value, int) or abs(line.value) >= 1000
    value = f"{line.value:,.0f}" if is_short else f"{line.value:,.2f}"
    shown = f"{line.what:62} {value:>10} {line.unit:2}"
    if line.asked:
        shown += f"   {line.asked}: {'MISSED' if line.missed else 'reached'}"
    return shown.rstrip()


def figure(value: float) -> str:
    """A target: with no more digits than it needs."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def run(program: str, results: Iterable[Line], options: argparse.Namespace) -> int:
    """Show each result as it comes, write them to `options.json`; the program's exit status.

    0; 1 when one is missed and `options.check` is set; 2 when they cannot be had.
    """
    stop_on_sigterm()
    lines: list[Line] = []
    try:
        for line in results:
            print(text(line), flush=True)
            lines.append(line)
    except (BenchError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps([line._asdict() for line in lines], indent=1) + "\n")
    return 1 if options.check and any(line.missed for line in lines) else 0
