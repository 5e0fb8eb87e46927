"""resplock status: the cluster as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import click
import msgspec

from resplock.addresses import join_host, split_host
from resplock.cli import options
from resplock.cli.asking import NoAnswer, Status, ask_status

_NUMBERS = ("TERM", "COMMIT", "APPLIED", "LAG")
_HEADER = ("NODE", "ROLE", "ADDRESS", *_NUMBERS, "LINK")

Answers: TypeAlias = dict[str, Status | NoAnswer]
"""What each member answered, by its id."""


@click.command(context_settings=options.SETTINGS_CONTEXT)
@click.option("--host", default="127.0.0.1", show_default=True, help="Any node of the cluster.")
@click.option("--port", default=7379, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--password",
    default="",
    envvar=["RESPLOCK_PASSWORD", "RESPLOCK_REQUIREPASS"],
    help="The nodes' --requirepass.",
)
def status(host: str, port: int, password: str) -> None:
    """Show the nodes of a cluster as a table.

    Every member is asked, and found through the one that is named. LAG and LINK are as the leader
    sees them. The exit status is 1 unless the cluster can decide commands.
    """
    try:
        entry = ask_status(host, port, password)
    except NoAnswer as error:
        click.echo(f"resplock: {join_host(host, port)} does not answer: {error}", err=True)
        sys.exit(1)
    answers = _ask_members(entry, password)
    cluster = Cluster(entry, answers)
    click.echo(cluster.headline)
    click.echo()
    for line, color in cluster.table():
        click.secho(line, fg=color)
    sys.exit(0 if cluster.can_decide else 1)


def _ask_members(entry: Status, password: str) -> Answers:
    """Ask them all at the same time."""

    def ask(member: Status) -> Status | NoAnswer:
        if member["id"] == entry["id"]:
            return entry
        try:
            return ask_status(*split_host(member["address"]), password)
        except NoAnswer as error:
            return error

    members = entry["members"]
    with ThreadPoolExecutor(max_workers=max(len(members), 1)) as pool:
        return dict(zip((member["id"] for member in members), pool.map(ask, members), strict=True))


class Row(msgspec.Struct):
    """One node's line. Numbers are None where they are not known."""

    id: str
    role: str
    address: str
    term: int | None = None
    commit: int | None = None
    applied: int | None = None
    lag: int | None = None
    link: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        numbers = (self.term, self.commit, self.applied, self.lag)
        shown = ("-" if number is None else str(number) for number in numbers)
        return (self.id, self.role, self.address, *shown, self.link)


class Cluster:
    """What the members' answers say together."""

    def __init__(self, entry: Status, answers: Answers) -> None:
        self._members: list[Status] = entry["members"]
        self._answers = answers
        self._leader = self._find_leader()

    def _find_leader(self) -> Status | None:
        """The leader of the highest term, if there are two that think they lead."""
        leaders = [
            answer
            for answer in self._answers.values()
            if not isinstance(answer, NoAnswer) and answer["role"] == "leader"
        ]
        return max(leaders, key=lambda leader: int(leader["term"]), default=None)

    @property
    def can_decide(self) -> bool:
        """Whether there is a leader and a majority of the voters answers."""
        voters = [member["id"] for member in self._members if member["is_voter"]]
        up = sum(not isinstance(self._answers[id], NoAnswer) for id in voters)
        return self._leader is not None and up > len(voters) // 2

    @property
    def headline(self) -> str:
        count = len(self._members)
        up = sum(not isinstance(answer, NoAnswer) for answer in self._answers.values())
        nodes = f"{count} node{'s' if count != 1 else ''}, {up} up"
        if self._leader is None:
            return f"{nodes}; no leader is known"
        text = f"{nodes}; {self._leader['id']} leads term {self._leader['term']}"
        return text if self.can_decide else f"{text}, without a majority"

    def rows(self) -> list[Row]:
        """One for each member, in the order of their ids."""
        peers = {peer["id"]: peer for peer in self._leader["peers"]} if self._leader else {}
        return [
            _row(member, self._answers[member["id"]], peers.get(member["id"]))
            for member in self._members
        ]

    def table(self) -> Iterator[tuple[str, str | None]]:
        """Lines, each with its color."""
        rows = self.rows()
        cells = [_HEADER, *(row.cells for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        yield _aligned(_HEADER, widths), None
        colors = {"leader": "green", "down": "red"}
        for row in rows:
            yield _aligned(row.cells, widths), colors.get(row.role)


def _row(member: Status, answer: Status | NoAnswer, peer: Status | None) -> Row:
    row = Row(member["id"], "down", member["address"])
    if peer is not None:
        row.lag = peer["replication_lag"]
        row.link = "up" if peer["connected"] else f"down: {peer['last_error'] or 'no link yet'}"
        if peer["snapshot_in_progress"]:
            row.link += ", receives a snapshot"
    if isinstance(answer, NoAnswer):
        row.link = row.link if row.link not in ("", "up") else str(answer)
        return row
    row.role = "removed" if answer["removed"] else answer["role"]
    row.term, row.commit = answer["term"], answer["commit_index"]
    row.applied = answer["last_applied"]
    return row


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Numbers to the right, words to the left."""
    numbers = range(_HEADER.index(_NUMBERS[0]), _HEADER.index(_NUMBERS[-1]) + 1)
    padded = [
        cell.rjust(width) if place in numbers else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
