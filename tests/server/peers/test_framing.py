"""However the bytes are cut, the same payloads come out."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resplock.raft.messages import PeerError
from resplock.server.peers.framing import Frames, frame

payloads = st.lists(st.binary(min_size=1, max_size=200), max_size=20)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def read(frames: Frames, pieces: list[bytes], found: list[bytes] | None = None) -> list[bytes]:
    found = [] if found is None else found
    for piece in pieces:
        frames.feed(piece)
        while (payload := frames.next()) is not None:
            found.append(bytes(payload))
    return found


@given(payloads, st.lists(st.integers(min_value=0), max_size=30))
def test_however_the_bytes_are_cut(wanted: list[bytes], cuts: list[int]) -> None:
    frames = Frames(200)
    assert read(frames, cut(b"".join(map(frame, wanted)), cuts)) == wanted
    assert len(frames) == 0


@given(payloads, st.integers(min_value=0), st.lists(st.integers(min_value=0), max_size=10))
def test_what_stands_before_a_bad_frame_is_read_however_it_is_cut(
    wanted: list[bytes], size: int, cuts: list[int]
) -> None:
    bad = 0 if size % 3 == 0 else 201 + size % (2**32 - 201)
    data = b"".join(map(frame, wanted)) + bad.to_bytes(4, "big") + b"whatever follows"
    found: list[bytes] = []
    with pytest.raises(PeerError, match=f"a frame of {bad} bytes"):
        read(Frames(200), cut(data, cuts), found)
    assert found == wanted


def test_a_length_is_judged_before_its_bytes_are_there() -> None:
    frames = Frames(1000)
    frames.feed(b"GET ")
    with pytest.raises(PeerError):
        frames.next()


def test_the_longest_frame_and_one_byte_more() -> None:
    assert read(Frames(5), [frame(b"12345")]) == [b"12345"]
    with pytest.raises(PeerError):
        read(Frames(5), [frame(b"123456")])


def test_the_bound_may_change_between_two_frames() -> None:
    frames = Frames(5)
    frames.feed(frame(b"12345") + frame(b"x" * 500))
    assert frames.next() == b"12345"
    frames.bytes_max = 500
    assert frames.next() == b"x" * 500


def test_a_long_frame_in_many_pieces_takes_time_in_proportion() -> None:
    """Twice the bytes, about twice the time; were it quadratic, it would be four times."""

    def measure(size: int) -> float:
        data = frame(bytes(size))
        pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
        best = 1e9
        for _ in range(5):
            frames = Frames(size)
            begun = time.perf_counter()
            assert len(read(frames, pieces)) == 1
            best = min(best, time.perf_counter() - begun)
        return best

    assert measure(16 << 20) < 12 * measure(2 << 20) + 0.05
