"""Running the nodes of a cluster as child processes: start, watch, pass on what they say, stop.

The children are in a session of their own, so that Ctrl-C on the terminal reaches this process alone,
which then stops them in order: the followers first, and the leader when nobody asks it any more. On
Linux they are told to stop as well when this process is killed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from resplock.addresses import ClusterNode
from resplock.cli.asking import NoAnswer, ask_status
from resplock.cli.children import end_with_parent
from resplock.cli.options import ENVIRONMENT_PREFIX

_LEADER_LOOK_EVERY_S = 0.05
_STOP_S = 15.0
"""How long a node may take to stop before it is killed."""
_LINE_BYTES_MAX = 1 << 20


class Supervisor:
    """The nodes of one cluster on this machine."""

    def __init__(
        self, members: Sequence[ClusterNode], data_dir: Path, common: Mapping[str, Any]
    ) -> None:
        """`common`: settings of every node, by their names."""
        self._members = members
        self._data_dir = data_dir
        self._common = common
        self._children: dict[str, Child] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Run until told to stop, or until no node is left; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop_or_kill)
        try:
            await self._start()
            if not await self._unless_stopped(self._become_ready()):
                return 1 if not self._stopping.is_set() else 0
            ends = [child.ended for child in self._children.values()]
            everybody = asyncio.gather(*ends)
            await self._unless_stopped(asyncio.shield(everybody))
            return 0 if self._stopping.is_set() else 1
        finally:
            await self._stop()

    # --- starting --------------------------------------------------------------------------------

    async def _start(self) -> None:
        environment = _environment(self._common)
        everybody = ",".join(map(str, self._members))
        for member in self._members:
            directory = self._data_dir / member.id
            words = ["--node-id", member.id, "--cluster", everybody, "--data-dir", str(directory)]
            child = Child(member, directory, words)
            await child.start(environment)
            self._children[member.id] = child

    async def _become_ready(self) -> bool:
        """Wait for every node to listen and for a leader; False if a node ended before."""
        ends = [child.ended for child in self._children.values()]
        for child in self._children.values():
            await asyncio.wait([child.listening, *ends], return_when="FIRST_COMPLETED")
            if any(end.done() for end in ends):
                return False
            click.echo(child.described)
        leader = await self._find_leader()
        if leader is None:
            return False
        first = self._members[0].address
        where = "" if first.host == "127.0.0.1" else f"-h {first.host} "
        password = " --askpass" if self._common.get("requirepass") else ""
        click.echo(
            f"ready: {leader} leads; try: redis-cli {where}-p {first.port}{password} "
            "LOCK.ACQUIRE orders/42 me TTL 30000"
        )
        return True

    async def _find_leader(self) -> str | None:
        """Who leads, once somebody does; None if a majority of the nodes has ended."""
        while self._running > len(self._members) // 2:
            for child in self._children.values():
                if not child.ended.done() and (leader := await self._leader_known_to(child)):
                    return leader
            await asyncio.sleep(_LEADER_LOOK_EVERY_S)
        return None

    async def _leader_known_to(self, child: Child) -> str | None:
        address = child.member.address
        password = self._common.get("requirepass") or ""
        try:
            status = await asyncio.to_thread(ask_status, address.host, address.port, password)
        except NoAnswer:
            return None
        leader: str | None = status["leader_id"]
        return leader

    @property
    def _running(self) -> int:
        return sum(not child.ended.done() for child in self._children.values())

    # --- stopping --------------------------------------------------------------------------------

    def _stop_or_kill(self) -> None:
        """The first signal stops the nodes, the second one kills them."""
        if self._stopping.is_set():
            for child in self._children.values():
                child.signal(signal.SIGKILL)
        self._stopping.set()

    async def _unless_stopped(self, work: Any) -> Any:
        """What comes of the work; None when this process is told to stop first."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({task, stopping}, return_when="FIRST_COMPLETED")
        stopping.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    async def _stop(self) -> None:
        """The leader last: until then it answers whom it can."""
        running = [child for child in self._children.values() if not child.ended.done()]
        leader = None
        for child in running[:1]:
            leader = await self._leader_known_to(child)
        for child in self._children.values():
            child.is_expected_to_end = True
        followers = [child for child in running if child.member.id != leader]
        await asyncio.gather(*(child.stop() for child in followers))
        await asyncio.gather(*(child.stop() for child in running if child not in followers))


class Child:
    """One node's process."""

    def __init__(self, member: ClusterNode, directory: Path, words: Sequence[str]) -> None:
        """`words`: its settings as flags of `resplock serve`."""
        self.member = member
        self.is_expected_to_end = False
        self._directory = directory
        self._words = words
        loop = asyncio.get_running_loop()
        self.listening: asyncio.Future[Any] = loop.create_future()
        """Done when it has said that it is ready."""
        self.ended: asyncio.Future[Any]
        """Done when it has ended and everything that it has said was passed on."""
        self._process: asyncio.subprocess.Process

    async def start(self, environment: dict[str, str]) -> None:
        """Start it; what it says is passed on from now on."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "resplock", "serve", *self._words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
            limit=_LINE_BYTES_MAX,
        )
        self.ended = asyncio.ensure_future(self._watch())

    @property
    def described(self) -> str:
        """Which node it is and where."""
        return f"{self.member.id}  {self.member.address}  data {self._directory}  pid {self.pid}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Stop it in good order, or kill it when it takes too long."""
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self.ended}, timeout=_STOP_S)
        if not done:
            click.echo(f"{self.member.id} does not stop: killed", err=True)
            self.signal(signal.SIGKILL)
            await self.ended

    async def _watch(self) -> int:
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(
            self._pass_on(process.stdout, to_errors=False),
            self._pass_on(process.stderr, to_errors=True),
        )
        status = await process.wait()
        if not self.is_expected_to_end:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            again = shlex.join(["resplock", "serve", *self._words])
            click.echo(f"{self.member.id} {how}; to start it again: {again}", err=True)
        return status

    async def _pass_on(self, stream: asyncio.StreamReader, *, to_errors: bool) -> None:
        """Each line with the node's name in front; its start line becomes ours."""
        async for line in stream:
            text = line.decode(errors="replace").rstrip("\n")
            if not to_errors and " ready on " in text and not self.listening.done():
                self.listening.set_result(None)
            else:
                click.echo(f"{self.member.id} | {text}", err=to_errors)


def _environment(common: Mapping[str, Any]) -> dict[str, str]:
    """This process's environment, with the common settings as the only ones of resplock's."""
    prefix = ENVIRONMENT_PREFIX + "_"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
    settings = {prefix + name.upper(): str(value) for name, value in common.items()}
    return kept | settings
