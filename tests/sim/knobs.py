"""What one seed's world is like: how large, how fast, how faulty.

Most worlds have only a few kinds of faults ("swarm testing", Groce and others, 2012): with all of
them at once, each hides what the others would show. The settings of the code under test vary too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from resplock.limits import CLOCK_DRIFT_PERCENT
from tests.sim.world import MS, S, World

FAULTS = {
    "kill": 6 * S,
    "power": 9 * S,
    "blackout": 25 * S,
    "pause": 6 * S,
    "partition": 5 * S,
    "one-way": 6 * S,
    "bad-link": 5 * S,
    "slow-disk": 6 * S,
    "full-disk": 12 * S,
    "damage": 15 * S,
    "wipe": 15 * S,
    "clock-jump": 4 * S,
    "membership": 6 * S,
    "rolling-restart": 20 * S,
    "transfer": 6 * S,
}
"""Every kind of fault, with the mean time between two of its kind where it is of middling rate."""

KINDS = (
    ("exclusive",),
    ("exclusive", "reentrant"),
    ("shared",),
    ("semaphore",),
    ("exclusive", "shared", "semaphore", "reentrant"),
    ("shared", "exclusive"),
)


@dataclass
class Knobs:
    """See the module. Times in microseconds unless they say otherwise."""

    servers: int = 3
    faults: dict[str, int] = field(default_factory=dict)
    """The kinds that strike, with their mean time between."""

    # the network
    delay: int = 300
    jitter: int = 700
    loss: float = 0.0
    repeat: float = 0.0
    reorders: bool = False
    uses_codec: bool = False

    # machines
    sync: int = 500
    sync_jitter: int = 1500
    tick: int = 20 * MS
    drift_permille: int = 0
    """Clocks run up to so much too fast or too slow."""

    overlaps: bool = False
    """Whether messages are noted while a batch is written: the core allows it."""

    # the code under test
    election_timeout_ms: int = 500
    lease: bool = False
    redirects: bool = False
    snapshot_entries: int = 200
    stream_breaks: float = 0.0
    """How often a snapshot's stream breaks, for each chunk."""
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_window_bytes: int = 1 << 20
    append_bytes_max: int = 4 << 20
    inflight_messages_max: int = 256
    tail_bytes_max: int = 8 << 20
    committed_bytes_max: int = 4 << 20
    uncommitted_bytes_max: int = 64 << 20
    request_remembered_ms: int = 600_000
    requests_per_owner: int = 128
    ends_per_entry: int = 10_000

    # clients
    clients: int = 8
    keys: int = 5
    operations_per_s: int = 20
    patience: int = 3 * S
    """How long a client waits for an answer before it goes elsewhere."""
    vanishes: float = 0.0
    """How often a client leaves in the middle of what it does."""

    # waiting in line, and kinds of locks: shares of the acquisitions (see `draw_line`)
    waits: float = 0.0
    enqueues: float = 0.0
    wait_ms: tuple[int, ...] = (300, 2_000, 5_000)
    priorities: tuple[int, ...] = (0,)
    disturbs: float = 0.0
    """How often something happens to a client that waits: it leaves, cancels, asks again, ..."""
    requests: float = 0.3
    on_close: float = 0.0
    delays: float = 0.0
    several: float = 0.0
    """MACQUIRE."""
    kinds: tuple[str, ...] = ("exclusive",)
    """What the locks are used as, in turn: exclusive, reentrant, shared, semaphore."""
    waiters_per_lock: int = 10_000
    waiter_grace_ms: int = 10_000
    node_gone_ms: int = 3_000

    strings: float = 0.0
    """How much of what clients do they do by Redis's string commands and scripts."""

    has_model: bool = True
    """Whether the naive model is there, or the invariants have to do without it."""

    # phases
    faulty: int = 40 * S
    healed: int = 20 * S

    @property
    def has_lines(self) -> bool:
        """Whether clients ask for more than trying for an exclusive lock."""
        return self.waits > 0 or self.enqueues > 0 or self.kinds != ("exclusive",)

    @property
    def longest_wait(self) -> int:
        return max(self.wait_ms) * MS if self.has_lines else 0


def draw(rng: random.Random) -> Knobs:
    """A seed's world."""
    knobs = Knobs(
        servers=rng.choice((1, 2, 3, 3, 3, 3, 3, 4, 5, 5)),
        delay=rng.choice((100, 300, 2 * MS)),
        jitter=rng.choice((50, 700, 700, 10 * MS)),
        loss=rng.choice((0.0, 0.0, 0.0, 0.01, 0.1)),
        repeat=rng.choice((0.0, 0.0, 0.05)),
        reorders=rng.random() < 0.4,
        uses_codec=rng.random() < 0.25,
        sync=rng.choice((200, 500, 4 * MS)),
        sync_jitter=rng.choice((500, 1500, 8 * MS)),
        tick=rng.choice((10 * MS, 20 * MS, 25 * MS)),
        drift_permille=rng.choice((0, 0, 5, 100)),
        election_timeout_ms=rng.choice((200, 500, 500, 1000)),
        snapshot_entries=rng.choice((20, 60, 200, 1_000_000)),
        append_bytes_max=rng.choice((1, 400, 4 << 20, 4 << 20)),
        inflight_messages_max=rng.choice((4, 16, 256, 256)),
        tail_bytes_max=rng.choice((1, 2000, 8 << 20, 8 << 20)),
        committed_bytes_max=rng.choice((1, 4 << 20)),
        uncommitted_bytes_max=rng.choice((1000, 64 << 20, 64 << 20)),
        request_remembered_ms=rng.choice((20_000, 600_000)),
        requests_per_owner=rng.choice((8, 128)),
        ends_per_entry=rng.choice((1, 10_000)),
        keys=rng.choice((2, 4, 8)),
        vanishes=rng.choice((0.0, 0.02, 0.1)),
    )
    knobs.lease = 2 * knobs.drift_permille <= 10 * CLOCK_DRIFT_PERCENT and rng.random() < 0.2
    knobs.snapshot_chunk_bytes = rng.choice((64, 500, 256 << 10))
    knobs.snapshot_window_bytes = knobs.snapshot_chunk_bytes * rng.choice((1, 3, 16))
    knobs.stream_breaks = rng.choice((0.0, 0.02, 0.1))
    knobs.overlaps = rng.random() < 0.3
    knobs.redirects = rng.random() < 0.1
    knobs.faults = _draw_faults(rng)
    return knobs


def draw_world(world: World) -> Knobs:
    """All of a seed's world."""
    knobs = draw_line(world.rng("line"), draw(world.rng("knobs")))
    rng = world.rng("strings")
    return replace(knobs, strings=rng.choice((0.2, 0.5, 0.9))) if rng.random() < 0.5 else knobs


def draw_line(rng: random.Random, knobs: Knobs) -> Knobs:
    """The same world, in which clients wait in line and use every kind of lock; or do not.

    It is drawn from a stream of its own, so that the worlds in which they do not stay as they are.
    """
    if rng.random() < 0.2:
        return knobs
    return replace(
        knobs,
        waits=rng.choice((0.3, 0.6, 0.9)),
        enqueues=rng.choice((0.0, 0.1, 0.3)),
        wait_ms=rng.choice(((300, 2_000, 5_000), (1_500,), (20, 200, 4_000))),
        priorities=rng.choice(((0,), (0,), (-5, 0, 0, 7))),
        disturbs=rng.choice((0.0, 0.2, 0.5)),
        requests=rng.choice((0.1, 0.3, 0.8)),
        on_close=rng.choice((0.0, 0.2, 0.7)),
        delays=rng.choice((0.0, 0.0, 0.3)),
        several=rng.choice((0.0, 0.1, 0.4)),
        kinds=rng.choice(KINDS),
        waiters_per_lock=rng.choice((2, 10_000, 10_000)),
        waiter_grace_ms=rng.choice((500, 2_000)),
        node_gone_ms=rng.choice((1_000, 3_000)),
    )


def _draw_faults(rng: random.Random) -> dict[str, int]:
    """A few kinds, each at a rate of its own; sometimes none, sometimes all."""
    kinds = list(FAULTS)
    mood = rng.random()
    if mood < 0.05:
        chosen = []
    elif mood < 0.1:
        chosen = kinds
    else:
        chosen = [kind for kind in rng.sample(kinds, rng.choice((1, 2, 3, 5))) if kind]
    return {kind: int(FAULTS[kind] * rng.choice((0.4, 1.0, 1.0, 2.0))) for kind in chosen}
