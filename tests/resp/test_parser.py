"""The request parser by example: each behaviour, each bound, and each attack that it must survive."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from resplock import limits
from resplock.errors import ProtocolError
from resplock.resp.parser import (
    INLINE_BYTES_UNAUTHENTICATED_MAX,
    Parser,
    split_inline,
)

Commands = list[list[bytes]]
PING = b"*1\r\n$4\r\nPING\r\n"
ACQUIRE = b"*3\r\n$12\r\nLOCK.ACQUIRE\r\n$1\r\na\r\n$2\r\nme\r\n"


def array(*arguments: bytes) -> bytes:
    """Encode a command as a client does."""
    bulks = [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"*%d\r\n%b" % (len(arguments), b"".join(bulks))


def take_all(parser: Parser, given: Commands, limit: int = limits.PIPELINE_DEPTH_MAX) -> str | None:
    """Append what the parser can give now, like a connection, and return the error's text."""
    try:
        while True:
            taken = parser.commands(limit)
            assert len(taken) <= limit
            assert taken or not parser.again, "nothing given, yet it asks for another call"
            given += taken
            if not parser.again:
                return None
    except ProtocolError as error:
        return str(error)


def parse(
    pieces: Iterable[bytes], parser: Parser | None = None, limit: int = limits.PIPELINE_DEPTH_MAX
) -> tuple[Commands, str | None]:
    """The commands in the pieces, and the text of the error that ends them."""
    parser = parser or Parser()
    given: Commands = []
    for piece in pieces:
        parser.feed(piece)
        if error := take_all(parser, given, limit):
            return given, error
    return given, None


def error_of(data: bytes, *, authenticated: bool = True) -> str:
    """The error that the bytes end in, the same at once and byte by byte; no command precedes it."""
    at_once = parse([data], Parser(authenticated=authenticated))
    assert at_once == parse(bytewise(data), Parser(authenticated=authenticated))
    assert at_once[0] == []
    assert at_once[1] is not None
    return at_once[1].removeprefix("Protocol error: ")


def bytewise(data: bytes) -> Iterator[bytes]:
    """One byte at a time."""
    return (data[at : at + 1] for at in range(len(data)))


@contextmanager
def at_most(peak_bytes: int) -> Iterator[None]:
    """Fail when more than this is allocated at any moment inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= peak_bytes
    finally:
        tracemalloc.stop()


class Counting(Parser):
    """Counts the bytes that are copied when waiting bytes are joined."""

    __slots__ = ("copied", "refills")

    def __init__(self) -> None:
        self.copied = self.refills = 0
        super().__init__()

    def _refill(self) -> None:
        super()._refill()
        self.refills += 1
        self.copied += len(self._data)


# --- arrays --------------------------------------------------------------------------------------


def test_gives_a_command() -> None:
    parser = Parser()
    parser.feed(ACQUIRE)
    assert parser.commands() == [[b"LOCK.ACQUIRE", b"a", b"me"]]
    assert (parser.buffered, parser.partial, parser.again) == (0, False, False)
    assert parser.commands() == []


def test_one_command_alone() -> None:
    parser = Parser()
    assert parser.lone(ACQUIRE) == [b"LOCK.ACQUIRE", b"a", b"me"]
    assert parser.lone(ACQUIRE * 2) is None
    assert parser.lone(b"PING\r\n") is None
    parser.feed(ACQUIRE[:5])
    assert parser.lone(ACQUIRE) is None, "something waits"


def test_a_command_of_many_arguments_is_not_looked_for_alone() -> None:
    few, many = array(*[b"x" * 1024] * 9), array(*[b"x"] * 10)
    assert Parser().lone(few) == parse([few])[0][0]
    assert Parser().lone(many) is None
    assert len(parse([many])[0]) == 1


def test_is_idle_while_nothing_waits() -> None:
    parser = Parser()
    assert parser.idle
    parser.feed(ACQUIRE + ACQUIRE[:5])
    assert not parser.idle
    parser.commands()
    assert not parser.idle, "half a command waits"
    parser.feed(ACQUIRE[5:])
    parser.commands()
    assert parser.idle
    assert not Parser(authenticated=False).idle, "tight bounds hold"


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n$4\r\nPING",
        b"*1",
        b"$4",
        b"\0",
        bytes(range(256)),
        b"x" * 1024,
        b"x" * 1025,
        b"x" * limits.ARGUMENT_BYTES_MAX,
    ],
    ids=lambda argument: repr(argument[:16]),
)
def test_arguments_are_binary_safe(argument: bytes) -> None:
    commands = [[b"ECHO", argument], [argument, b"b"], [b"PING"], [b"", argument, b""]]
    data = b"".join(array(*command) for command in commands)
    assert parse([data]) == (commands, None)
    assert parse([data[at : at + 1000] for at in range(0, len(data), 1000)]) == (commands, None)


def test_many_arguments() -> None:
    command = [b"%d" % number for number in range(limits.ARGUMENTS_MAX)]
    assert parse([array(*command)]) == ([command], None)


@pytest.mark.parametrize(
    "nothing", [b"*0\r\n", b"*-1\r\n", b"*-12\r\n", b"\r\n", b"\n", b" \t\r\n"]
)
def test_empty_requests_are_passed_over(nothing: bytes) -> None:
    # CVE-2026-27623: state left behind by an empty request, before AUTH.
    for authenticated in (True, False):
        for data in (
            nothing,
            nothing * 3,
            PING + nothing * 2 + PING,
            nothing + b"PING\r\n" + nothing,
        ):
            for pieces in ([data], bytewise(data)):
                parser = Parser(authenticated=authenticated)
                given, error = parse(pieces, parser)
                assert error is None
                assert given == [[b"PING"]] * data.count(b"PING")
                assert (parser.buffered, parser.partial, parser.again) == (0, False, False)


@pytest.mark.parametrize(
    "count", [b"", b"-", b"+1", b"01", b"-0", b"00", b"1 ", b" 1", b"1_0", b"x"]
)
def test_counts_are_plain_decimal(count: bytes) -> None:
    # As string2ll of Redis: no plus sign, no leading zero.
    assert error_of(b"*%b\r\n$4\r\nPING\r\n" % count) == "invalid multibulk length"
    assert error_of(b"*1\r\n$%b\r\n\r\n" % count) == "invalid bulk length"


def test_a_nil_is_no_argument() -> None:
    assert error_of(b"*1\r\n$-1\r\n") == "invalid bulk length"


@pytest.mark.parametrize(
    ("byte", "shown"),
    [(b"P", "P"), (b"*", "*"), (b":", ":"), (b"\r", "\\x0d"), (b"\n", "\\x0a"), (b"\xff", "\\xff")],
)
def test_only_bulks_in_an_array(byte: bytes, shown: str) -> None:
    assert error_of(b"*1\r\n" + byte) == f"expected '$', got '{shown}'"
    assert error_of(b"*2\r\n$1\r\na\r\n" + byte + b"1\r\n") == f"expected '$', got '{shown}'"


@pytest.mark.parametrize("end", [b"XX", b"\r\r", b"\n\n", b"\n\r", b"\0\0", b"*1"])
def test_each_bulk_ends_in_crlf(end: bytes) -> None:
    # Redis does not look at these two bytes.
    assert error_of(b"*1\r\n$4\r\nPING" + end) == "expected CRLF after bulk"
    assert error_of(b"*2\r\n$4\r\nECHO%b$1\r\na\r\n" % end) == "expected CRLF after bulk"
    assert error_of(b"*1\r\n$2000\r\n%b%b" % (b"x" * 2000, end)) == "expected CRLF after bulk"


def test_headers_end_in_crlf() -> None:
    # Redis takes any byte after CR.
    assert error_of(b"*1\rX$4\r\nPING\r\n") == "invalid multibulk length"
    assert error_of(b"*1\r\n$4\rXPING\r\n") == "invalid bulk length"
    assert error_of(b"*1\n$4\n" + b"PING\n" * 6) == "too big mbulk count string"


def test_a_long_pipeline_cut_anywhere() -> None:
    commands = [
        [b"LOCK.ACQUIRE", b"key-%d" % number, b"x" * (number % 90)] for number in range(5000)
    ]
    commands[2000] = [b"ECHO", b"a\r\nb"]
    data = b"".join(array(*command) for command in commands)
    assert parse([data]) == (commands, None)
    for size in (limits.QUERY_BUFFER_BYTES_MAX, 65_536, 10_007):
        assert parse([data[at : at + size] for at in range(0, len(data), size)]) == (commands, None)


# --- inline commands -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_inline_commands(end: bytes) -> None:
    data = end.join([b"PING", b"", b"  ECHO\ta  ", b"GET key", b"$4", b">3", b"=8", b""])
    expected = [[b"PING"], [b"ECHO", b"a"], [b"GET", b"key"], [b"$4"], [b">3"], [b"=8"]]
    assert parse([data]) == (expected, None)
    assert parse(bytewise(data)) == (expected, None)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"", []),
        (b" \t\r\x0b\x0c", []),
        (b'""', [b""]),
        (b"''", [b""]),
        (b"a\\n\\x41", [b"a\\n\\x41"]),
        (b'"a\\n\\r\\t\\b\\a\\\\\\"\\q"', [b'a\n\r\t\b\a\\"q']),
        (b'"\\x41\\xfF\\x4\\xg0"', [b"A\xffx4xg0"]),
        (b"'a\\'b\\n\\\\\\x41'", [b"a'b\\n\\\\\\x41"]),
        (b"'a\\\\'b'", [b"a\\'b"]),
        (b"'\"' \"'\"", [b'"', b"'"]),
        (b'a"b c"', [b"ab c"]),
        (b"a'b c' d", [b"ab c", b"d"]),
        (b"a\x0bb\x0c \x0b'c'\x0bd", [b"a\x0bb\x0c", b"c", b"d"]),
        (b"a\rb", [b"a", b"b"]),
        (b"a\x0bb", [b"a\x0bb"]),
        (b"a\x0c \x0cb", [b"a\x0c", b"b"]),
    ],
)
def test_inline_quotes_and_escapes(line: bytes, arguments: list[bytes]) -> None:
    assert split_inline(line) == arguments


@pytest.mark.parametrize(
    "line", [b'"', b"'", b'"a"b', b"'a'b", b'"a""b"', b'"a\\"', b"'a\\'", b'x "\\']
)
def test_unbalanced_quotes(line: bytes) -> None:
    assert error_of(line + b"\r\n") == "unbalanced quotes in request"


def test_a_nul_byte_in_an_inline_command() -> None:
    # Redis never sees the end of such a line.
    assert error_of(b"PING\0\r\n") == "NUL byte in inline request"


# --- bounds --------------------------------------------------------------------------------------


def test_bound_on_arguments() -> None:
    assert error_of(b"*%d\r\n" % (limits.ARGUMENTS_MAX + 1)) == "invalid multibulk length"
    assert error_of(b"a " * (limits.ARGUMENTS_MAX + 1) + b"\n") == (
        "too many arguments in inline request"
    )


def test_bound_on_one_argument() -> None:
    header = b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % (limits.ARGUMENT_BYTES_MAX + 1)
    assert error_of(header) == "invalid bulk length"


def test_bound_on_one_command() -> None:
    full = limits.COMMAND_BYTES_MAX // limits.ARGUMENT_BYTES_MAX
    argument = b"x" * limits.ARGUMENT_BYTES_MAX
    assert parse([array(*[argument] * full)]) == ([[argument] * full], None)
    assert parse([array(*[argument] * full, b"")]) == ([[argument] * full + [b""]], None)
    too_big = parse([array(*[argument] * full, b"x"), PING])
    assert too_big == ([], "Protocol error: too big command")


def test_bound_on_an_inline_command() -> None:
    words = (b"a" * 1000 + b" ") * 66
    line = words[: limits.INLINE_BYTES_MAX]
    assert parse([line + b"\n"]) == ([line.split()], None)
    assert parse([line, b"\n"]) == ([line.split()], None)
    assert parse([line[:-1] + b"\r\n"]) == ([line[:-1].split()], None)
    assert error_of(line + b"a") == "too big inline request"
    assert error_of(line + b"a\n") == "too big inline request"


@pytest.mark.parametrize(
    ("header", "text"),
    [(b"*", "too big mbulk count string"), (b"*1\r\n$", "too big bulk count string")],
)
def test_bound_on_a_header(header: bytes, text: str) -> None:
    # With its CRLF it is at most HEADER_BYTES_MAX bytes long, whether the CRLF has come or not.
    digits = limits.HEADER_BYTES_MAX - 1
    assert parse([header + b"1" * (digits - 1)]) == ([], None)
    assert error_of(header + b"1" * digits) == text
    assert error_of(header + b"1" * (digits - 1) + b"\r\n") == text
    assert "invalid" in error_of(header + b"1" * (digits - 2) + b"\r\n")


def test_default_limit_is_the_pipeline_depth() -> None:
    parser = Parser()
    parser.feed(PING * (limits.PIPELINE_DEPTH_MAX + 1))
    assert len(parser.commands()) == limits.PIPELINE_DEPTH_MAX
    assert parser.again
    assert len(parser.commands()) == 1
    assert not parser.again


# --- before AUTH ---------------------------------------------------------------------------------


def test_bounds_before_auth() -> None:
    # CVE-2021-32675: an unauthenticated client made Redis hold memory by announcing lengths.
    arguments = limits.ARGUMENTS_UNAUTHENTICATED_MAX
    size = limits.ARGUMENT_BYTES_UNAUTHENTICATED_MAX
    full = array(*[b"x" * size] * arguments)
    assert parse([full], Parser(authenticated=False)) == ([[b"x" * size] * arguments], None)
    errors = {
        b"*%d\r\n" % (arguments + 1): "unauthenticated multibulk length",
        b"*%d\r\n" % (limits.ARGUMENTS_MAX + 1): "invalid multibulk length",
        b"*1\r\n$%d\r\n" % (size + 1): "unauthenticated bulk length",
        b"*1\r\n$%d\r\n" % (limits.ARGUMENT_BYTES_MAX + 1): "invalid bulk length",
        b"a " * (arguments + 1) + b"\n": "too many arguments in inline request",
        b"a" * (size + 1) + b"\n": "too big inline request",
        b" " * (INLINE_BYTES_UNAUTHENTICATED_MAX + 1): "too big inline request",
    }
    for data, text in errors.items():
        assert error_of(data, authenticated=False) == text


@pytest.mark.parametrize("limit", [1, limits.PIPELINE_DEPTH_MAX])
def test_auth_widens_the_bounds_of_what_follows_it(limit: int) -> None:
    big = [b"x" * 2000] * 20
    parser = Parser(authenticated=False)
    parser.feed(array(b"AUTH", b"secret") + array(*big) + array(*big))
    assert parser.commands(limit) == [[b"AUTH", b"secret"]]
    assert parser.again
    parser.authenticated = True
    given: Commands = []
    assert take_all(parser, given) is None
    assert given == [big, big]


def test_a_failed_auth_leaves_the_bounds() -> None:
    parser = Parser(authenticated=False)
    parser.feed(array(b"AUTH", b"wrong") + array(*[b"x"] * 11))
    assert parser.commands() == [[b"AUTH", b"wrong"]]
    with pytest.raises(ProtocolError, match="unauthenticated multibulk length"):
        parser.commands()


# --- errors --------------------------------------------------------------------------------------


def test_commands_ahead_of_an_error_are_given_first() -> None:
    parser = Parser()
    parser.feed(PING * 3 + b"*x\r\n" + PING)
    assert parser.commands(2) == [[b"PING"]] * 2
    assert parser.again
    assert parser.commands() == [[b"PING"]]
    assert parser.again
    for _ in range(3):
        with pytest.raises(ProtocolError, match=r"^Protocol error: invalid multibulk length$"):
            parser.commands()
        parser.feed(PING)
    assert (parser.buffered, parser.partial, parser.again) == (0, False, False)


def test_an_argument_is_never_taken_for_a_command() -> None:
    # The command ahead of the error comes from the bytes before; what is left begins in an array.
    parser = Parser()
    parser.feed(PING + b"*2\r\n$4\r\nECHO\r\n")
    parser.feed(PING)
    assert parser.commands() == [[b"PING"]]
    assert parser.again
    with pytest.raises(ProtocolError, match=r"expected '\$', got '\*'"):
        parser.commands()


def test_a_dead_parser_keeps_nothing() -> None:
    parser = Parser()
    parser.feed(b"*x\r\n")
    with pytest.raises(ProtocolError):
        parser.commands()
    with at_most(2000):
        for _ in range(1000):
            parser.feed(PING * 100)
    assert parser.buffered == 0


def test_error_texts_carry_no_control_bytes() -> None:
    # CVE-2025-67733: a reply injected through the text of an error.
    for byte in range(256):
        for data in (b"*1\r\n%c", b"*%c\r\n", b"*1\r\n$%c\r\n", b"'%c\n", b"*1\r\n$1\r\na%c\r"):
            _, text = parse([data % byte, b"\r\n"])
            assert text is None or (text.isascii() and text.isprintable())


# --- the state that a connection watches ---------------------------------------------------------


def test_buffered_counts_what_was_not_given_out() -> None:
    data = PING + b"\r\nECHO 1\r\n" + array(b"ECHO", b"a\r\nb", b"c" * 2000)
    parser = Parser()
    for fed, piece in enumerate(bytewise(data), start=1):
        parser.feed(piece)
        parser.commands()
        done = max(
            end for end in (0, len(PING), len(PING) + 2, len(PING) + 10, len(data)) if end <= fed
        )
        assert parser.buffered == fed - done
        assert parser.partial == (fed > done)


def test_buffered_after_a_limit() -> None:
    parser = Parser()
    parser.feed(PING * 5 + PING[:6])
    assert parser.buffered == 5 * len(PING) + 6
    assert parser.commands(2) == [[b"PING"]] * 2
    assert parser.buffered == 3 * len(PING) + 6
    parser.feed(PING[6:])
    assert parser.buffered == 4 * len(PING)
    assert parser.commands(3) == [[b"PING"]] * 3
    assert parser.again
    assert parser.commands(3) == [[b"PING"]]
    assert (parser.buffered, parser.partial, parser.again) == (0, False, False)


def test_pieces_that_wait_stay_in_order() -> None:
    parser = Parser()
    given: Commands = []
    for number in range(4):
        parser.feed(array(b"ECHO", b"%d" % number))
        if number != 1:
            assert take_all(parser, given) is None
    assert given == [[b"ECHO", b"%d" % number] for number in range(4)]


@pytest.mark.parametrize("begun", [b"*", b"*1\r", b"*1\r\n", b"*1\r\n$4\r\nPING\r", b"PING", b"\r"])
def test_slowloris_a_begun_command_is_partial(begun: bytes) -> None:
    parser = Parser()
    parser.feed(PING + begun)
    assert parser.commands() == [[b"PING"]]
    assert parser.partial
    assert not parser.again
    assert parser.commands() == []
    assert parser.buffered == len(begun)


def test_a_large_command_in_small_pieces_is_scanned_once() -> None:
    argument = b"x" * limits.ARGUMENT_BYTES_MAX
    arguments = [argument] * 15 + [b"y" * 50] * 1000
    data = array(*arguments)
    parser = Counting()
    given: Commands = []
    for at in range(0, len(data), 13):
        parser.feed(data[at : at + 13])
        given += parser.commands()
    assert given == [arguments]
    assert parser.copied < 1.1 * len(data)


def test_an_inline_command_in_small_pieces_is_scanned_once() -> None:
    line = b"ECHO '" + b"x" * 60_000 + b"'\r\n"
    parser = Counting()
    assert parse(bytewise(line), parser) == ([[b"ECHO", b"x" * 60_000]], None)
    assert parser.refills <= 3


def test_a_small_limit_does_not_copy_what_waits() -> None:
    parser = Counting()
    parser.feed(PING * 20_000)
    with at_most(20_000):  # each call splits a window in proportion to its limit
        for _ in range(200):
            assert parser.commands(1) == [[b"PING"]]
    assert parser.copied == 0


# --- what the Reader of hiredis, a client's parser, does with hostile bytes -----------------------


def test_hiredis_push_of_100_million() -> None:
    # 12 bytes made it allocate 763 MB. To a server they are an unknown command's name.
    with at_most(20_000):
        assert parse([b">100000000\r\n"]) == ([[b">100000000"]], None)


def test_hiredis_array_of_100_million() -> None:
    with at_most(20_000):
        assert error_of(b"*100000000\r\n") == "invalid multibulk length"


def test_hiredis_large_arrays_nested() -> None:
    with at_most(20_000):
        assert error_of(b"*1024\r\n" * 8) == "expected '$', got '*'"


def test_hiredis_array_of_a_billion() -> None:
    with at_most(20_000):
        assert error_of(b"*1000000000\r\n") == "invalid multibulk length"


@pytest.mark.parametrize("header", [b"*", b"$", b"*1\r\n$", b":"])
def test_hiredis_64_mb_of_digits(header: bytes) -> None:
    piece = b"1" * 65_536
    with at_most(400_000):
        given, error = parse([header, *[piece] * 1024])
    assert given == []
    assert error is not None
    assert "too big" in error


def test_hiredis_bulk_of_9_exabytes() -> None:
    assert error_of(b"*1\r\n$9223372036854775807\r\n") == "invalid bulk length"
    assert error_of(b"*1\r\n$9223372036854775808\r\n") == "invalid bulk length"


def test_hiredis_map_with_an_aggregate_key() -> None:
    # It raised TypeError. At top level `%1` is an inline command, as in Redis; below it is an error.
    assert parse([b"%1\r\n*1\r\n$4\r\nPING\r\n"]) == ([[b"%1"], [b"PING"]], None)
    assert error_of(b"*1\r\n%1\r\n*1\r\n$4\r\nPING\r\n") == "expected '$', got '%'"


def test_hiredis_false_is_the_sentinel() -> None:
    assert parse([b"#f\r\n" + PING]) == ([[b"#f"], [b"PING"]], None)
    assert error_of(b"*1\r\n#f\r\n") == "expected '$', got '#'"


def test_hiredis_bulk_without_crlf() -> None:
    assert error_of(b"*1\r\n$4\r\nPINGXX" + PING) == "expected CRLF after bulk"


def test_hiredis_inline_command() -> None:
    assert parse([b"PING\r\n" + PING]) == ([[b"PING"], [b"PING"]], None)


def test_hiredis_a_million_nested_arrays() -> None:
    with at_most(20_000_000):  # the bytes themselves are 4 MB
        parsed = parse([b"*1\r\n" * 1_000_000])
    assert parsed == ([], "Protocol error: expected '$', got '*'")


# --- other attacks on RESP servers ---------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**60, 2**63 - 1, 2**63, 2**64 + 1, -(2**63) - 1],
)
def test_cve_2021_32765_counts_that_overflow(number: int) -> None:
    assert error_of(b"*%d\r\n$4\r\nPING\r\n" % number) == "invalid multibulk length"
    assert error_of(b"*1\r\n$%d\r\nPING\r\n" % number) == "invalid bulk length"


def test_cve_2021_32675_length_headers_hold_no_memory() -> None:
    with at_most(4_000_000):
        parsers = [Parser(authenticated=False) for _ in range(1000)]
        for parser in parsers:
            parser.feed(b"*10\r\n$1024\r\n")
            assert parser.commands() == []
    assert all(parser.partial for parser in parsers)


def test_cve_2025_21605_a_pipeline_is_taken_in_steps() -> None:
    # The connection takes so many commands as it has room for replies; the rest stays as bytes.
    parser = Parser(authenticated=False)
    parser.feed(PING * 4000)
    for left in range(3999, 3899, -1):
        assert parser.commands(1) == [[b"PING"]]
        assert parser.buffered == left * len(PING)


@pytest.mark.parametrize(
    "nothing",
    [
        b"\n",
        b"\r\n",
        b" \n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*-1234567\r\n",
        b"\n*0\r\n",
        b" " * 70 + b"\n",
    ],
)
def test_a_flood_of_empty_requests_holds_no_memory(nothing: bytes) -> None:
    data = nothing * (262_144 // len(nothing))
    parser = Parser()
    with at_most(3_000_000):
        parser.feed(data)
        assert parser.commands() == []
    assert parser.buffered == 0


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1",
        b"get /a?b='c HTTP/1.0",
        b"HEAD / HTTP/1.1",
        b"POST / HTTP/1.1",
        b"POST",
        b"  post x",
        b"OPTIONS * HTTP/1.1",
        b"PUT /x HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"Host: localhost:6379",
        b"host:x",
    ],
)
def test_http_is_refused(request_line: bytes) -> None:
    assert error_of(request_line + b"\r\n") == "this port speaks RESP, not HTTP"
    rest = b"\r\nContent-Length: 40\r\n\r\n" + array(b"LOCK.BREAK", b"a")
    assert parse([request_line + rest])[0] == []


@pytest.mark.parametrize(
    "line", [b"GET key", b"GET HTTP/1.1", b"HEAD", b"POSTS x", b"ECHO POST", b"SET a HTTP/1.1"]
)
def test_commands_that_look_like_http(line: bytes) -> None:
    assert parse([line + b"\r\n"]) == ([line.split()], None)


def test_a_tls_handshake_is_refused_at_its_first_byte() -> None:
    text = "TLS handshake on a port that does not expect TLS"
    assert error_of(b"\x16") == text
    assert error_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == text
    assert parse([PING + b"\x16\x03"]) == ([[b"PING"]], "Protocol error: " + text)
