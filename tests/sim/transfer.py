"""Snapshots on their way from a leader to a follower, chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from resplock.types import Index, NodeId
from tests.sim.disk import SnapshotFile
from tests.sim.world import MS

if TYPE_CHECKING:
    from tests.sim.host import Process
    from tests.sim.simulation import Simulation

_STALLED = 2_000 * MS
"""A transfer that cannot go on for so long has failed."""
_RETRY = 20 * MS


class Transfers:
    """All that are under way. At most one to each follower, from each leader."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._rng = simulation.world.rng("transfers")
        self.finished = self.failed = 0

    def begin(self, sender: Process, to_id: NodeId) -> None:
        """Bring the newest snapshot of this leader to that follower."""
        files = sender.host.disk.files
        receiver = self._simulation.process_of(to_id)
        if not files or receiver is None:
            self._world.after(1 * MS, self._report, sender, to_id, 0, False)
            return
        self._world.note(sender.id, f"sends {to_id} its snapshot at {files[-1].meta.index}")
        self._chunk(sender, receiver, files[-1], 0, [], self._world.now + _STALLED)

    def _chunk(
        self,
        sender: Process,
        receiver: Process,
        file: SnapshotFile,
        position: int,
        taken: list[bytes],
        deadline: int,
    ) -> None:
        """One chunk arrives; a lost one is sent again until the time is up."""
        world = self._world
        if sender.is_dead or receiver.is_dead or world.now > deadline:
            self._fail(sender, receiver, file)
            return
        network = self._simulation.network
        both = network.pass_both(sender.id, receiver.id)
        if not both or receiver.is_stopped or sender.is_stopped:
            world.after(_RETRY, self._chunk, sender, receiver, file, position, taken, deadline)
            return
        if position < len(file.chunks):
            taken.append(file.chunks[position])
            deadline = world.now + _STALLED
            delay = network.delay_us()
            world.after(delay, self._chunk, sender, receiver, file, position + 1, taken, deadline)
            return
        self._arrived(sender, receiver, file, taken)

    def _arrived(
        self, sender: Process, receiver: Process, file: SnapshotFile, taken: list[bytes]
    ) -> None:
        crc = 0
        for chunk in taken:
            crc = crc32(chunk, crc)
        assert crc == file.crc
        world = self._world
        delay = 2 * self._simulation.sync_us(receiver.host)
        copy = SnapshotFile(file.meta, taken)
        world.after(delay, receiver.call, receiver.receive_snapshot, copy)
        world.after(
            delay + self._simulation.network.delay_us(),
            self._confirm, sender, receiver, file,
        )  # fmt: skip

    def _confirm(self, sender: Process, receiver: Process, file: SnapshotFile) -> None:
        """Only what is durable there is reported as arrived."""
        if receiver.is_dead:
            self._fail(sender, receiver, file)
        elif receiver.host.disk.file_at(file.meta.index) is None:
            self._world.after(_RETRY, self._confirm, sender, receiver, file)
        else:
            self.finished += 1
            self._report(sender, receiver.id, file.meta.index, True)

    def _fail(self, sender: Process, receiver: Process, file: SnapshotFile) -> None:
        self.failed += 1
        self._world.note(sender.id, f"could not send its snapshot to {receiver.id}")
        self._report(sender, receiver.id, file.meta.index, False)

    def _report(self, sender: Process, to_id: NodeId, index: int, ok: bool) -> None:
        sender.call(lambda: sender.core.report_snapshot(to_id, Index(index), ok))
