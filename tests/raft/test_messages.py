"""The wire format, and what a core makes of messages that no good peer would send."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from resplock.limits import RUN_COMMANDS_MAX
from resplock.raft import messages
from resplock.raft.entries import (
    Configuration,
    Entry,
    EntryKind,
    Member,
    config,
    configuration_of,
)
from resplock.raft.messages import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    PeerError,
    PreVoteReply,
    PreVoteRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from resplock.types import Index, NodeId, StampMs, Term
from tests.raft.cluster import Cluster

N1, N2 = NodeId("n1"), NodeId("n2")
RUN = Entry(3, 8, 9, EntryKind.RUN, 70, b"xy")

RELEASED = {
    PreVoteRequest(3, N1, N2, 7, 2, "z", "y"): "980103a26e31a26e320702a17aa179",
    PreVoteReply(4, N1, N2, 3, False, True, "z"): "980204a26e31a26e3203c2c3a17a",
    VoteRequest(3, N1, N2, 7, 2, True, "z"): "980303a26e31a26e320702c3a17a",
    VoteReply(3, N1, N2, False): "950403a26e31a26e32c2",
    AppendRequest(3, N1, N2, 7, 2, 6, 70, (RUN,)): (
        "990503a26e31a26e320702064691960308090046c4027879"
    ),
    AppendReply(3, N1, N2, False, 0, 7, 5, 2): "990603a26e31a26e32c200070502",
    Heartbeat(3, N1, N2, 6, 2, 70, 5): "980703a26e31a26e3206024605",
    HeartbeatReply(3, N1, N2, 9, 5): "960803a26e31a26e320905",
    TimeoutNow(3, N1, N2): "940903a26e31a26e32",
}


@pytest.mark.parametrize(
    ("message", "released"), RELEASED.items(), ids=lambda value: str(value)[:14]
)
def test_the_bytes_of_version_1(message: Message, released: str) -> None:
    """A peer of an earlier release sends these, and must be able to read ours."""
    assert messages.encode(message).hex() == released
    assert messages.decode(bytes.fromhex(released)) == message


def test_fields_that_a_peer_leaves_out_have_their_defaults() -> None:
    """Fields are only added at the end, with a default that means "as before"."""
    for shorter, message in (
        ("960103a26e31a26e320702", PreVoteRequest(3, N1, N2, 7, 2)),
        ("960204a26e31a26e3203c3", PreVoteReply(4, N1, N2, 3, True)),
        ("970204a26e31a26e3203c2c3", PreVoteReply(4, N1, N2, 3, False, True)),
        ("960303a26e31a26e320702", VoteRequest(3, N1, N2, 7, 2)),
    ):
        assert messages.decode(bytes.fromhex(shorter)) == message


def test_fields_that_a_later_release_adds_are_skipped() -> None:
    longer = bytes.fromhex("960403a26e31a26e32c207")
    assert messages.decode(longer) == VoteReply(3, N1, N2, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        bytes.fromhex("959903a26e31a26e32c2"),  # no such message
        bytes.fromhex("9504ffa26e31a26e32c2"),  # term -1
        bytes.fromhex("9504cfffffffffffffffffa26e31a26e32c2"),  # term 2**64 - 1
        bytes.fromhex("950403a0a26e32c2"),  # nobody
        bytes.fromhex("950403a1ffa26e32c2"),  # not UTF-8
        bytes.fromhex("950403a26e31a26e32"),  # cut off
        bytes.fromhex("960403a26e31a26e32c2") + b"\x91" * 100_000 + b"\x01",  # too deep
        bytes.fromhex("990503a26e31a26e3207020646ddffffffff"),  # four billion entries
        bytes(messages.MESSAGE_BYTES_MAX + 1),
    ],
)
def test_bytes_that_are_no_message_are_a_peer_error(data: bytes) -> None:
    """Pitfall 7: bounded, typed, and nothing is allocated on a peer's word."""
    with pytest.raises(PeerError):
        messages.decode(data)


def no_voters() -> Entry:
    return config(Term(3), Index(8), StampMs(70), Configuration())


@pytest.mark.parametrize(
    "entry",
    [
        Entry(3, 9, 9, EntryKind.RUN, 70),  # a gap
        Entry(3, 7, 7, EntryKind.RUN, 70),  # over what it follows
        Entry(3, 8, 7, EntryKind.RUN, 70),  # backwards
        Entry(3, 8, 8 + RUN_COMMANDS_MAX, EntryKind.RUN, 70),  # endless
        Entry(4, 8, 8, EntryKind.RUN, 70),  # of a term to come
        Entry(1, 8, 8, EntryKind.RUN, 70),  # of a term before
        Entry(3, 8, 9, EntryKind.NOOP, 70),
        Entry(3, 8, 8, EntryKind.CONFIG, 70, b"\xc1"),
        no_voters(),
    ],
)
def test_entries_out_of_sequence_are_a_peer_error(entry: Entry) -> None:
    with pytest.raises(PeerError):
        messages.decode(messages.encode(AppendRequest(3, N1, N2, 7, 2, 6, 70, (entry,))))


def test_a_stamp_that_falls_is_a_peer_error() -> None:
    entries = (RUN, Entry(3, 10, 10, EntryKind.RUN, 69))
    with pytest.raises(PeerError, match="stamped"):
        messages.decode(messages.encode(AppendRequest(3, N1, N2, 7, 2, 6, 70, entries)))


def test_a_configuration_goes_through_an_entry_unchanged() -> None:
    configuration = Configuration((Member(N1, "u", "a:1", "b:2"),), (Member(N2),), ("n9/u9",))
    entry = config(Term(1), Index(1), StampMs(0), configuration)
    assert configuration_of(entry) == configuration


# --- lying peers ---------------------------------------------------------------------------------


def claim(rng: random.Random, to_id: NodeId) -> Message:
    """A message of good form that claims anything."""
    kind: Any = rng.choice(messages.Message.__args__)
    fields = {
        field.name: rng.choice((False, True) if field.type is bool else ("", "u-n1", "u-n2"))
        if field.type is bool or field.default == ""
        else rng.choice((0, 1, 2, 3, 5, 8, 11, 14, 99, 2**62))
        for field in msgspec.structs.fields(kind)
    }
    fields["term"] = rng.choice((0, 1, 2, 3, 4, 5, 2**62))
    fields["from_id"] = rng.choice((N1, N2, NodeId("n3"), NodeId("n9")))
    fields["to_id"] = to_id
    if kind is AppendRequest:
        fields["entries"] = tuple(claimed_entries(rng, fields["prev_index"], fields["term"]))
    message: Message = kind(**fields)
    return message


def claimed_entries(rng: random.Random, last: int, term: int) -> list[Entry]:
    entries = []
    for _ in range(rng.randrange(4)):
        first, last = last + 1, last + rng.randrange(1, 4)
        kind = EntryKind.RUN if last > first else rng.choice(list(EntryKind))
        members = tuple(Member(NodeId(name)) for name in sorted(rng.sample(["n1", "n2", "n9"], 2)))
        payload = msgspec.msgpack.encode(Configuration(members))
        entries.append(Entry(rng.randrange(1, 5), first, last, kind, 0, payload))
    return sorted(entries, key=lambda entry: (entry.first, min(entry.term, term)))


def test_whatever_peers_claim_a_core_does_not_raise() -> None:
    """No promise is made on what becomes of the cluster: Raft trusts its members not to lie."""
    taken = 0
    rngs = [random.Random(seed) for seed in range(100)]
    for rng in rngs:
        cluster = Cluster(3, election_ticks=4)
        cluster.safety.check = lambda server: None  # type: ignore[method-assign]
        cluster.elect("n1")
        cluster.commit("n1", commands=3)
        for _ in range(60):
            target = cluster.core(rng.choice(("n1", "n2")))
            try:
                message = messages.decode(messages.encode(claim(rng, target.id)))
            except PeerError:
                continue
            taken += 1
            target.step(message)
            if rng.random() < 0.3:
                target.tick()
            if rng.random() < 0.3:
                cluster.propose(target.id)
            cluster.work(target.id)
    assert taken > 1000


def test_damaged_bytes_are_a_message_or_a_peer_error() -> None:
    rng = random.Random(1)
    good = [bytes.fromhex(released) for released in RELEASED.values()]
    for _ in range(5000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            message = messages.decode(data[: rng.randrange(len(data) + 1)])
        except PeerError:
            continue
        assert isinstance(message, messages.Message)
