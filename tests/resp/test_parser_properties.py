"""The request parser by property: how the bytes are cut and which path reads them changes nothing."""

from __future__ import annotations

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.errors import ProtocolError
from resplock.resp.parser import CRLF, Parser, take_canonical
from tests.resp.test_parser import Commands, array, bytewise, parse, take_all

budget = settings(max_examples=max(300, settings().max_examples))


class Exact(Parser):
    """The exact scanner alone, without shortcuts: the definition."""

    __slots__ = ()

    def _set_direct(self) -> None:
        self._direct = False

    def _take_window(self, found: Commands, limit: int) -> bool:
        return False


# --- streams -------------------------------------------------------------------------------------

FRAGMENTS = [
    *(b"*%d\r\n" % count for count in (-1, 0, 1, 1, 1, 2, 2, 3, 10, 11, 100, 100_000_000)),
    *(b"$%d\r\n" % length for length in (-1, 0, 0, 1, 2, 3, 4, 4, 4, 6, 10, 1024, 1025, 100_000)),
    *(b"*03\r\n", b"*+1\r\n", b"*-0\r\n", b"$+4\r\n", b"$04\r\n", b"$-0\r\n", b"*\r\n", b"$\r\n"),
    *(b"\r", b"\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"*", b"$", b"'", b'"'),
    *(b"PING", b"PING\r\n", b"XX", b"X", b"PINGXX", b"\r\nPI", b"$4\r\nPING\r\n", b"$0\r\n\r\n"),
    *(b"$1\r\n\r\r\n", b"$1\r\n\n\r\n", b"$2\r\n\r\n\r\n", b"$10\r\n$4\r\nPING\r\n\r\n"),
    *(b"+PING\r\n", b"-ERR\r\n", b":1\r\n", b"_\r\n", b"#f\r\n", b"#t\r\n", b",1.5\r\n", b"(1\r\n"),
    *(b">3\r\n", b"%1\r\n", b"~1\r\n", b"|1\r\n", b"=8\r\ntxt:PING\r\n", b"!4\r\nPING\r\n"),
    *(b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n", b"x" * 1024, b"1" * 30),
    *(b"GET / HTTP/1.1\r\n", b"\x16", b"ECHO 'a b'\r\n", b"*1\n$4\nPING\n", b"*1\r\r\n"),
]
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)

arguments = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"LOCK.ACQUIRE", b"", b"\r\n", b"a\r\nb", b"\r", b"\n", b"$4\r\nPING"]),
    st.integers(1000, 1100).map(lambda size: b"x" * size),
)
commands = st.lists(arguments, min_size=1, max_size=12)
pipelines = st.lists(commands, max_size=12)
words = st.lists(st.sampled_from([b"PING", b"a", b"'b c'", b'"\\x41\\n"', b"\\"]), min_size=1)
requests = st.one_of(
    commands.map(lambda command: array(*command)),
    words.map(lambda line: b" ".join(line) + b"\r\n"),
    st.sampled_from([b"\r\n", b"*0\r\n", b"*-1\r\n", b" \n"]),
)
valid = st.lists(requests, max_size=12).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid stream with a few bytes replaced, inserted, removed or repeated."""
    data = draw(valid)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 4)))
        patch = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([*FRAGMENTS, data[begin:end] * 2]))
        )
        data = data[:begin] + patch + data[end:]
    return data


streams = st.one_of(valid, mutated(), fragments, st.binary(max_size=60))


@st.composite
def pieces(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, and the same stream cut into pieces, some of them empty."""
    if draw(st.booleans()):  # cut where commands end, and perhaps elsewhere
        parts = draw(st.lists(st.one_of(valid, requests, fragments), min_size=1, max_size=6))
        return b"".join(parts), parts
    data = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return data, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# --- properties ----------------------------------------------------------------------------------


@budget
@given(pieces(), st.booleans(), st.integers(1, 20))
def test_cuts_change_nothing(
    cut: tuple[bytes, list[bytes]], authenticated: bool, limit: int
) -> None:
    data, parts = cut
    at_once = parse([data], Parser(authenticated=authenticated))
    assert parse(parts, Parser(authenticated=authenticated)) == at_once
    assert parse(parts, Parser(authenticated=authenticated), limit) == at_once
    assert parse(bytewise(data), Parser(authenticated=authenticated)) == at_once


@budget
@given(pieces(), st.lists(st.integers(0, 3), min_size=9, max_size=9))
def test_taking_late_changes_nothing(cut: tuple[bytes, list[bytes]], takes: list[int]) -> None:
    # A connection under back-pressure feeds without taking, and takes a few at a time.
    data, parts = cut
    parser = Parser()
    given_out: Commands = []
    for part, take in zip(parts, takes, strict=False):
        parser.feed(part)
        if take:
            try:
                given_out += parser.commands(take)
            except ProtocolError:
                break  # the same again below
    error = take_all(parser, given_out)
    assert (given_out, error) == parse([data])


@budget
@given(pieces())
def test_buffered_is_what_is_not_in_the_commands(cut: tuple[bytes, list[bytes]]) -> None:
    # Fed again from where `buffered` says, a fresh parser goes on as the first one does.
    data, parts = cut
    first = Parser()
    head = parts[0]
    _, error = parse([head], first)
    assert 0 <= first.buffered <= len(head)
    assert first.partial == (error is None and first.buffered > 0)
    if error is None:
        assert parse([data[len(head) - first.buffered :]]) == parse(parts[1:], first)


@budget
@given(pieces())
def test_the_shortcut_equals_the_exact_scanner(cut: tuple[bytes, list[bytes]]) -> None:
    data, parts = cut
    assert parse([data]) == parse([data], Exact())
    assert parse(parts) == parse(parts, Exact())


@budget
@given(streams, st.integers(1, 20))
def test_the_shortcut_stops_between_two_commands(data: bytes, limit: int) -> None:
    found: Commands = []
    rest = take_canonical(data.split(CRLF), found, limit)
    assert len(found) <= limit
    exact = Exact()
    assert parse([data[: len(data) - rest]], exact) == (found, None)
    assert not exact.partial


@budget
@given(pipelines)
def test_round_trip_with_the_encoder_of_hiredis(pipeline: Commands) -> None:
    data = b"".join(hiredis.pack_command(tuple(command)) for command in pipeline)
    assert parse([data]) == (pipeline, None)
    assert parse([data], Exact()) == (pipeline, None)


@budget
@given(streams)
def test_every_command_is_within_bounds(data: bytes) -> None:
    for authenticated in (True, False):
        given_out, error = parse([data], Parser(authenticated=authenticated))
        for command in given_out:
            assert type(command) is list
            assert 1 <= len(command) <= limits.ARGUMENTS_MAX
            assert all(type(argument) is bytes for argument in command)
            if not authenticated:
                assert len(command) <= limits.ARGUMENTS_UNAUTHENTICATED_MAX
                assert max(map(len, command)) <= limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX
        if error is not None:
            assert error.startswith("Protocol error: ")
            assert error.isascii()
            assert error.isprintable()
