"""Snapshots on their way from a leader to a follower: `resplock.raft.transfer` over broken links.

An attempt lives as long as its session: one that breaks is followed by another, which goes on where
the receiver stands, until the time is up. What the receiver has taken is lost with its process. Once
it has all, it verifies it, stores it durably and adopts it; only then the leader is told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from resplock.raft import transfer
from resplock.raft.transfer import (
    Acknowledge,
    Decline,
    Done,
    FromReceiver,
    FromSender,
    Offer,
    Outcome,
    Receiving,
    Sending,
)
from resplock.types import Index, NodeId
from tests.sim.disk import SnapshotFile
from tests.sim.network import Session
from tests.sim.world import MS, S

if TYPE_CHECKING:
    from tests.sim.host import Process
    from tests.sim.simulation import Simulation

_PATIENCE = 6 * S
"""How long a sender goes on trying."""
_RETRY = 150 * MS
_STALL = 700 * MS
"""An attempt in which nothing arrives for so long is given up."""


def file_bytes(file: SnapshotFile) -> bytes:
    """A snapshot as the bytes of its file."""
    return msgspec.msgpack.encode(file.chunks)


class Incoming:
    """What a process has of a snapshot that it is being sent."""

    def __init__(self) -> None:
        self.state = Receiving()
        self.data = bytearray()
        self.attempt: Attempt | None = None
        """The one that is heard: a later offer ends an earlier attempt."""


class Attempt:
    """One try to send a file, over one session."""

    def __init__(self, job: Job, session: Session, offer: Offer) -> None:
        self.job = job
        self.session = session
        self.world = job.transfers.world
        self.sender = job.sender
        self.receiver = session.peer_of(job.sender)
        self.sending = Sending(offer, job.transfers.window_bytes)
        self.is_over = False
        self._heard_at = self.world.now
        self._arrives = {self.sender.id: 0, self.receiver.id: 0}
        self._send(offer)
        self.world.after(_STALL, self._look)

    def _look(self) -> None:
        """Give up when nothing comes any more."""
        if self.is_over:
            return
        if self.sender.is_dead or self.world.now - self._heard_at >= _STALL:
            self.end()
        else:
            self.world.after(_STALL, self._look)

    def end(self) -> None:
        """It breaks; the next one goes on."""
        if not self.is_over:
            self.is_over = True
            self.job.again()

    # --- carrying --------------------------------------------------------------------------------

    def _carry(self, source: Process, target: Process, deliver: Callable[[], None]) -> None:
        """In order; what cannot get through ends the attempt."""
        delay = self.job.transfers.network.delay_us()
        arrives = max(self.world.now + delay, self._arrives[source.id])
        self._arrives[source.id] = arrives
        self.world.after(arrives - self.world.now, self._arrive, source, target, deliver)

    def _arrive(self, source: Process, target: Process, deliver: Callable[[], None]) -> None:
        if self.is_over or target.is_dead or self.session.is_over:
            return
        if self.job.transfers.network.passes(source.id, target.id):
            self._heard_at = self.world.now
            target.call(deliver)

    def _send(self, message: FromSender) -> None:
        data = transfer.encode(message)
        self.world.trace.update(data)
        self._carry(self.sender, self.receiver, lambda: self._take(data))

    def _answer(self, message: FromReceiver) -> None:
        data = transfer.encode(message)
        self._carry(self.receiver, self.sender, lambda: self._hear(data))

    # --- the receiver ----------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        message = transfer.decode_from_sender(data)
        incoming = self.receiver.incoming
        if isinstance(message, Offer):
            wanted = message.meta.index > self.receiver.core.commit_index
            answer = incoming.state.offered(message, wanted)
            if not isinstance(answer, Decline):
                incoming.attempt = self
                del incoming.data[answer.offset :]
            self._answer(answer)
            self._complete()
        elif incoming.attempt is self:
            incoming.state.take(message)
            incoming.data += message.data
            self._answer(incoming.state.wrote(message))
            self._complete()

    def _complete(self) -> None:
        """All is there: verify it, and store it, which takes a while."""
        incoming = self.receiver.incoming
        if incoming.attempt is not self or not incoming.state.is_complete:
            return
        offer = incoming.state.offer
        assert offer is not None
        assert crc32(incoming.data) == offer.crc, "a snapshot was put together wrongly"
        chunks = msgspec.msgpack.decode(bytes(incoming.data), type=list[bytes])
        incoming.state.reset()
        incoming.data.clear()
        delay = 2 * self.job.transfers.simulation.sync_us(self.receiver.host)
        file = SnapshotFile(offer.meta, chunks)
        self.world.after(delay, self.receiver.call, self._adopt, file)

    def _adopt(self, file: SnapshotFile) -> None:
        self.receiver.receive_snapshot(file)
        self._answer(Done())

    # --- the sender ------------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        message = transfer.decode_from_receiver(data)
        if self.sending.outcome is not None:
            return
        self.sending.receive(message)
        if self.sending.outcome is not None:
            self.is_over = True
            self.job.ended(self.sending.outcome)
            return
        if isinstance(message, Acknowledge) and self.job.transfers.breaks():
            self.end()
            return
        while (wanted := self.sending.next_range()) is not None:
            offset, length = wanted
            self._send(self.sending.chunk(offset, self.job.data[offset : offset + length]))


class Job:
    """A snapshot that a leader wants a follower to have."""

    def __init__(self, transfers: Transfers, sender: Process, to_id: NodeId, file: SnapshotFile):
        self.transfers = transfers
        self.sender = sender
        self.to_id = to_id
        self.data = file_bytes(file)
        self.offer = Offer(file.meta, len(self.data), crc32(self.data))
        self._deadline = transfers.world.now + _PATIENCE
        self.attempts = 0

    def begin(self) -> None:
        """Try, or try again."""
        if self.sender.is_dead:
            return
        session = self.sender.sessions.get(self.to_id)
        if self.transfers.world.now > self._deadline:
            self.ended(Outcome.FAILED)
        elif session is None or session.is_over:
            self.again()
        else:
            self.attempts += 1
            Attempt(self, session, self.offer)

    def again(self) -> None:
        """After a while."""
        self.transfers.world.after(_RETRY, self.begin)

    def ended(self, outcome: Outcome) -> None:
        """Tell the leader."""
        ok = outcome is Outcome.DONE
        transfers, sender = self.transfers, self.sender
        if ok:
            transfers.finished += 1
            transfers.resumed += self.attempts > 1
        transfers.world.note(
            sender.id, f"snapshot at {self.offer.meta.index} to {self.to_id}: {outcome.value}"
        )
        index = Index(self.offer.meta.index)
        sender.call(lambda: sender.core.report_snapshot(self.to_id, index, ok))


class Transfers:
    """All that are under way."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.network = simulation.network
        self.rng: random.Random = simulation.world.rng("transfers")
        self.window_bytes = simulation.knobs.snapshot_window_bytes
        self.finished = self.resumed = 0

    def breaks(self) -> bool:
        """Whether a stream breaks for no other reason."""
        return self.rng.random() < self.simulation.knobs.stream_breaks

    def begin(self, sender: Process, to_id: NodeId) -> None:
        """Bring the newest snapshot of this leader to that follower."""
        files = sender.host.disk.files
        if not files:
            sender.call(lambda: sender.core.report_snapshot(to_id, Index(0), False))
            return
        self.world.note(sender.id, f"sends {to_id} its snapshot at {files[-1].meta.index}")
        Job(self, sender, to_id, files[-1]).begin()
