"""Bytes for the peer port that no node sends, all made from a seed.

bytes_for(random.Random("1/7"))     what one attacker sends, and how it is cut
"""

from __future__ import annotations

import random

from resplock.raft import messages
from resplock.raft.entries import Entry, EntryKind, Member
from resplock.raft.messages import AppendRequest, Heartbeat, VoteRequest
from resplock.server.peers import Identity, greeting
from resplock.server.peers.framing import frame
from resplock.server.peers.greeting import Kind
from resplock.types import NodeId

STRANGERS = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x00" * 64,
    b"\xff" * 64,
    b"\x00\x00\x00\x05RLPL\x01",
    b"\x7f\xff\xff\xffRLPL",
]


def hello(rng: random.Random, cluster: str, id: str = "evil") -> bytes:
    """A greeting as a node of this cluster would send it."""
    member = Member(NodeId(id), "u", "x:1", "x:2")
    identity = Identity(member, rng.getrandbits(63), cluster)
    kind = rng.choice([Kind.RAFT, Kind.RAFT, Kind.COMMANDS, Kind.SNAPSHOT, Kind.PROBE])
    return frame(greeting.encode(greeting.hello(identity, kind, "n1", rng.randrange(3))))


def honest(rng: random.Random, cluster: str, id: str = "evil") -> list[bytes]:
    """Frames as a node sends them, with claims of every kind."""
    from_id, to_id = NodeId(id), NodeId(rng.choice(["n1", id, "n2"]))
    term, index = rng.choice([0, 1, 5, 2**40, 2**63 - 1]), rng.choice([0, 1, 9, 2**62])
    entry = Entry(term, index + 1, index + 1, EntryKind.RUN, 5, rng.randbytes(rng.randrange(300)))
    said = [
        messages.encode(VoteRequest(term, from_id, to_id, index, term)),
        messages.encode(AppendRequest(term, from_id, to_id, index, term, index, 3, (entry,))),
        messages.encode(Heartbeat(term, from_id, to_id, index, term, 1, 1)),
    ]
    rng.shuffle(said)
    return [hello(rng, cluster, id), *map(frame, said)]


def bytes_for(rng: random.Random, cluster: str, id: str = "evil") -> list[bytes]:
    """What one attacker sends, piece by piece."""
    match rng.randrange(5):
        case 0:
            data = rng.choice(STRANGERS) + rng.randbytes(rng.randrange(200))
        case 1:
            data = rng.randbytes(rng.randrange(1, 3000))
        case 2:
            data = b"".join(honest(rng, cluster, id))
        case 3:
            data = _mutated(rng, b"".join(honest(rng, cluster, id)))
        case _:
            frames = honest(rng, cluster, id)
            frames[rng.randrange(len(frames))] = frame(rng.randbytes(rng.randrange(1, 400)))
            data = b"".join(frames)
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data)) + 1]
    return _cut(rng, data)


def _mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + rng.randrange(1, 9)]
            case _:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        if not changed:
            return b"\0"
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> list[bytes]:
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 4])))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]
