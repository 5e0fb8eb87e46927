"""RESP requests: a client's bytes in, commands out. Bounded in memory and in time.

Pure. It accepts what Redis accepts of a client, arrays of bulk strings and inline commands, and no
other type. The exact scanner (`Parser._scan`) is the definition; `take_canonical` is a shortcut for
the bytes that clients do send.

Invariants:

- However the bytes are cut into `feed` calls, the commands and the error are the same. So the byte
  at which each decision falls is a matter of the stream alone, not of what else has arrived.
- No byte is scanned twice on behalf of a command that is still incomplete: `_need` says how many
  bytes must be there before looking again is of use.
- What is kept is at most one incomplete command plus what was fed and not yet taken.

Why the shortcut is exact. `b"\\r\\n".join` undoes `data.split(b"\\r\\n")`. So when the parts that
`split` gives read `*n`, `$length`, argument, `$length`, argument, ..., when each length is written
the one canonical way and equals that of the argument beside it, and when one more part follows (so
that the last argument had its CRLF), the bytes ARE the canonical encoding of those arguments; the
exact scanner would read just them and stop at the same place. Nothing else gets through: a header
of another type or another spelling (`*03`, `$+4`, `>3`, `:1`, `$-1`, an inline command, a blank
line) is in no table, a bulk that CRLF does not end (`$4`, `PINGXX`) has the wrong length, and an
argument that contains CRLF shifts the parts. There the exact scanner goes on. This is also why
hiredis has no part here: on a request, `split` with this check is two to three times as fast as its
Reader, which besides must be guarded against headers that make it allocate memory.

Where it is stricter than Redis 7 on purpose:

- CRLF must follow the count, each length and each bulk (Redis skips two bytes unread, which lets
  the two ends of a proxy disagree about where a command begins).
- The bounds of `resplock.limits` are lower, and hold for inline commands before AUTH too. A count
  or length over its bound has the error text of an invalid one.
- A NUL byte in an inline command is an error (Redis never sees the end of such a line, and stalls).
- Requests of HTTP and the first byte of a TLS handshake are refused with a text that says so.
"""

import re

from resplock.errors import ProtocolError
from resplock.limits import (
    ARGUMENT_BYTES_MAX,
    ARGUMENT_BYTES_UNAUTHENTICATED_MAX,
    ARGUMENTS_MAX,
    ARGUMENTS_UNAUTHENTICATED_MAX,
    COMMAND_BYTES_MAX,
    HEADER_BYTES_MAX,
    INLINE_BYTES_MAX,
    PIPELINE_DEPTH_MAX,
)

CRLF = b"\r\n"
ARRAY, BULK, TLS_HANDSHAKE = b"*$\x16"

INLINE_BYTES_UNAUTHENTICATED_MAX = (
    ARGUMENTS_UNAUTHENTICATED_MAX * ARGUMENT_BYTES_UNAUTHENTICATED_MAX
)
"""The longest inline command before AUTH: what the bounds on arrays allow, about."""

# --- tables: what they buy is that no header of a usual command is ever parsed -------------------

TABLED_BYTES_MAX = 1024
"""The longest argument whose header is in the tables. Arguments up to it are always allowed."""
COUNTS = {b"*%d" % count: count for count in range(1, ARGUMENTS_MAX + 1)}
"""How many arguments follow, by canonical array header."""
SPANS = {b"*%d" % count: 1 + 2 * count for count in range(1, ARGUMENTS_MAX + 1)}
"""How many lines an array has whose arguments are single lines, by canonical header."""
LENGTHS = {b"$%d" % length: length for length in range(TABLED_BYTES_MAX + 1)}
"""The length of a bulk, by canonical header."""
length_header = [b"$%d" % length for length in range(TABLED_BYTES_MAX + 1)].__getitem__
"""The canonical header of a bulk, by length. Raises IndexError over TABLED_BYTES_MAX."""

assert TABLED_BYTES_MAX <= ARGUMENT_BYTES_UNAUTHENTICATED_MAX <= ARGUMENT_BYTES_MAX
assert INLINE_BYTES_MAX <= ARGUMENT_BYTES_MAX <= COMMAND_BYTES_MAX

LONE_SPLITS_MAX = 2 * 9 + 1
"""How often `Parser.lone` splits. What has more lines is rarely one command, and on a pipelined
connection each chunk would be split in vain before it is done again."""
WINDOW_BYTES = 64 * 1024
"""How much is split at once for `take_canonical`."""
assert WINDOW_BYTES <= COMMAND_BYTES_MAX

# --- patterns ------------------------------------------------------------------------------------

integer = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch
"""A decimal integer as Redis's string2ll reads it: no plus sign, no leading zero, no minus zero."""

ignored_run = re.compile(rb"(?:[ \t\r\x0b\x0c]{0,64}\n|\*(?:0|-[1-9])\r\n){1,256}").match
"""Blank lines and empty arrays, many at once, so that a flood of them is not parsed one by one."""

foreign_request = re.compile(
    rb"(?i)\s*(?:HOST:|POST(?:\s|$)"
    rb"|(?:GET|HEAD|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE|PRI)\s+\S+\s+HTTP/)"
).match
"""A line of an HTTP request, which a browser can be made to send here. `GET key` is none."""

inline_argument = re.compile(
    rb"[ \t\n\r\x0b\x0c]*(?![ \t\n\r\x0b\x0c])"
    rb"([^ \t\n\r\"']*)"
    rb"(?:\"((?:\\.|[^\"\\])*)\"(?=[ \t\n\r\x0b\x0c]|\Z)"
    rb"|'((?:\\'|[^'\\]|\\(?!'))*)'(?=[ \t\n\r\x0b\x0c]|\Z)"
    rb"|(?=[ \t\n\r]|\Z))",
    re.DOTALL,
).match
"""One argument of an inline command: a plain part, then at most one quoted part, which ends it.

No two of its parts can match the same byte, so it takes linear time. (Possessive quantifiers would
say that, but Python 3.11.2 matches them wrongly.)"""

replace_escapes = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL).sub
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class Parser:
    """The commands of one connection: `feed` takes bytes, `commands` gives what is complete.

    It is the caller that stops reading the socket when `buffered` is over its bound, and that ends
    a connection which stays `partial` for too long.
    """

    __slots__ = (
        "_argument_bytes_max",
        "_arguments",
        "_arguments_max",
        "_authenticated",
        "_begun",
        "_data",
        "_direct",
        "_error",
        "_inline_bytes_max",
        "_left",
        "_more",
        "_need",
        "_position",
        "_room",
        "_searched",
        "again",
    )

    def __init__(self, *, authenticated: bool = True) -> None:
        self.again = False
        """The last `commands` call stopped at its limit or ahead of an error: call it again."""
        self._data = b""
        self._position = 0
        """What is before it in `_data` is done with."""
        self._more = bytearray()
        """Was fed while `_data` was not done with; follows it."""
        self._need = 0
        """How many bytes from `_position` on there must be to get on; 0 between two commands."""
        self._searched = -1
        """How many bytes of `_more` have no LF; -1 unless the end of an inline command is awaited."""
        self._begun = 0
        """Where the incomplete array begins in `_data`; negative when its first bytes are gone."""
        self._arguments: list[bytes] = []
        """Those of the incomplete array that are complete."""
        self._left = 0
        """How many arguments the incomplete array lacks; 0 when there is none."""
        self._room = 0
        """How many bytes they may have together."""
        self._error: str | None = None
        self.authenticated = authenticated

    @property
    def authenticated(self) -> bool:
        """Which bounds hold for what has not been given out. May be set between two commands."""
        return self._authenticated

    @authenticated.setter
    def authenticated(self, value: bool) -> None:
        self._authenticated = value
        self._arguments_max = ARGUMENTS_MAX if value else ARGUMENTS_UNAUTHENTICATED_MAX
        self._argument_bytes_max = (
            ARGUMENT_BYTES_MAX if value else ARGUMENT_BYTES_UNAUTHENTICATED_MAX
        )
        self._inline_bytes_max = INLINE_BYTES_MAX if value else INLINE_BYTES_UNAUTHENTICATED_MAX
        self._set_direct()

    def _set_direct(self) -> None:
        # `_direct`: `_data` is all there is, a command begins where it begins, and no tight bounds
        # hold, so that `commands` may try the shortcut and `feed` may set `_data` if it is empty.
        self._direct = (
            self._authenticated
            and not (self._need or self._left or self._position or self._more)
            and self._error is None
        )

    @property
    def buffered(self) -> int:
        """How many bytes were fed and belong to commands that were not given out."""
        begun = self._begun if self._left else self._position
        return len(self._data) - begun + len(self._more)

    @property
    def partial(self) -> bool:
        """Whether the last `commands` call ended inside a command, so that bytes are missing."""
        return self._need > 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and no tight bounds hold, so that shortcuts may be tried on a chunk."""
        return self._direct and not self._data

    def feed(self, data: bytes) -> None:
        """Take what the socket gave. Nothing is parsed yet. A dead parser ignores it."""
        if self._direct and not self._data:
            self._data = data
        elif self._error is None:
            self._more += data
            self._direct = False

    def lone(self, data: bytes) -> list[bytes] | None:
        """The arguments, if `data` is just one command in canonical encoding and nothing waits.

        The usual case on a connection without pipelining, and half as long as `feed` and `commands`.
        None says only that it was not found to be so: then `feed` the data.
        """
        if not self._direct or self._data:
            return None
        parts = data.split(CRLF, LONE_SPLITS_MAX)
        if SPANS.get(parts[0]) != len(parts) - 1 or parts[-1]:
            return None
        arguments = parts[2::2]
        try:
            if list(map(length_header, map(len, arguments))) == parts[1:-1:2]:
                return arguments
        except IndexError:
            pass  # an argument longer than the table
        return None

    def commands(self, limit: int = PIPELINE_DEPTH_MAX) -> list[list[bytes]]:
        """The complete commands that were not given out, in order, at most `limit` (over 0).

        Each is a list of at least one argument. Raises ProtocolError once the bytes are wrong, and
        then always; commands ahead of the error are given out first (see `again`).
        """
        found: list[list[bytes]] = []
        canonical = self._authenticated
        data = self._data
        if self._direct and len(data) <= WINDOW_BYTES:
            parts = data.split(CRLF)
            rest = take_canonical(parts, found, limit)
            if rest == 0:
                self._data = b""
                return found
            self._position = len(data) - rest
            canonical = False
        if self._error is not None:
            raise ProtocolError(self._error)
        try:
            self._scan(found, limit, canonical)
        except ProtocolError as error:
            # Judged again by the next call: if what was found is an AUTH, under wider bounds.
            self.again = True
            if not found:
                self._die(str(error))
                raise
        self._set_direct()
        return found

    def _die(self, text: str) -> None:
        self._error = text
        self.again = self._direct = False
        self._data, self._more, self._arguments = b"", bytearray(), []
        self._position = self._left = self._need = 0

    # --- the exact scanner ---------------------------------------------------------------------

    def _scan(self, found: list[list[bytes]], limit: int, canonical: bool) -> None:
        """Append to `found` until it has `limit` commands or bytes are missing.

        canonical: whether to try `take_canonical`. It is tried once for the same bytes, or again
        while there is a further window.
        """
        if self._need:
            if not self._enough():
                return
            self._refill()
        while len(found) < limit:
            if self._need or (self._position == len(self._data) and not self._left):
                if not self._more:
                    break
                self._refill()
                canonical = self._authenticated
            if self._left:
                self._read_bulks()
                if not self._left:
                    found.append(self._arguments)
            elif self._data[self._position] != ARRAY:
                self._read_inline(found)
            elif canonical:
                canonical = self._take_window(found, limit)
            else:
                self._read_count()
        if self._need or self._position == len(self._data):
            self._drop_done()
        self.again = not self._need and bool(self._data or self._more)

    def _take_window(self, found: list[list[bytes]], limit: int) -> bool:
        """Try `take_canonical` on a window, small for a small `limit`; whether to try on the next."""
        begin = self._position
        window = self._data[begin : begin + min(WINDOW_BYTES, 512 * (limit - len(found)))]
        self._position += len(window) - take_canonical(window.split(CRLF), found, limit)
        return self._position > begin and len(self._data) - begin > WINDOW_BYTES

    def _enough(self) -> bool:
        """Whether the bytes that the last call missed have come."""
        have = len(self._data) - self._position + len(self._more)
        if self._searched < 0 or have > self._inline_bytes_max:
            return have >= self._need
        searched, self._searched = self._searched, len(self._more)
        return self._more.find(b"\n", searched) >= 0

    def _drop_done(self) -> None:
        self._data = self._data[self._position :]
        self._begun -= self._position
        self._position = 0

    def _refill(self) -> None:
        self._drop_done()
        self._data += self._more
        self._more = bytearray()
        self._need = 0
        self._searched = -1

    def _read_count(self) -> None:
        """Read `*N`: begin an array, or pass over an empty one."""
        data, begin = self._data, self._position
        end = data.find(CRLF, begin, begin + HEADER_BYTES_MAX)
        if end < 0:
            if len(data) - begin >= HEADER_BYTES_MAX:
                raise ProtocolError("Protocol error: too big mbulk count string")
            self._need = len(data) - begin + 1
            return
        count = COUNTS.get(data[begin:end])
        if count is None:
            count = parse_integer(data[begin + 1 : end])
            if count is None or count > ARGUMENTS_MAX:
                raise ProtocolError("Protocol error: invalid multibulk length")
        if count > self._arguments_max:
            raise ProtocolError("Protocol error: unauthenticated multibulk length")
        self._position = end + 2
        if count > 0:
            self._begun = begin
            self._arguments = []
            self._left = count
            self._room = COMMAND_BYTES_MAX
        elif ignored := ignored_run(data, end + 2):
            self._position = ignored.end()

    def _read_bulks(self) -> None:
        """Read `$length`, argument, ... until the array is complete or bytes are missing."""
        data, position = self._data, self._position
        append, left, room = self._arguments.append, self._left, self._room
        try:
            while left:
                end = data.find(CRLF, position, position + HEADER_BYTES_MAX)
                length = LENGTHS.get(data[position:end]) if end >= 0 else None
                if length is None:
                    length = self._read_length(data, position, end)
                    if length is None:
                        self._need = len(data) - position + 1
                        break
                if length > room:
                    raise ProtocolError("Protocol error: too big command")
                stop = end + 2 + length
                if data[stop : stop + 2] != CRLF:
                    if stop + 2 > len(data):
                        self._need = stop + 2 - position
                        break
                    raise ProtocolError("Protocol error: expected CRLF after bulk")
                append(data[end + 2 : stop])
                room -= length
                left -= 1
                position = stop + 2
        finally:
            self._position, self._left, self._room = position, left, room

    def _read_length(self, data: bytes, begin: int, end: int) -> int | None:
        """The length in a header that no table has, or None when the header is incomplete."""
        if begin < len(data) and data[begin] != BULK:
            raise ProtocolError(f"Protocol error: expected '$', got '{printable(data[begin])}'")
        if end < 0:
            if len(data) - begin >= HEADER_BYTES_MAX:
                raise ProtocolError("Protocol error: too big bulk count string")
            return None
        length = parse_integer(data[begin + 1 : end])
        if length is None or not 0 <= length <= ARGUMENT_BYTES_MAX:
            raise ProtocolError("Protocol error: invalid bulk length")
        if length > self._argument_bytes_max:
            raise ProtocolError("Protocol error: unauthenticated bulk length")
        return length

    def _read_inline(self, found: list[list[bytes]]) -> None:
        """Read one line: append the command in it, or pass over a blank one."""
        data, begin = self._data, self._position
        if data[begin] == TLS_HANDSHAKE:
            raise ProtocolError("Protocol error: TLS handshake on a port that does not expect TLS")
        if ignored := ignored_run(data, begin):
            self._position = ignored.end()
            return
        end = data.find(b"\n", begin, begin + self._inline_bytes_max + 1)
        if end < 0:
            if len(data) - begin > self._inline_bytes_max:
                raise ProtocolError("Protocol error: too big inline request")
            self._need = len(data) - begin + 1
            self._searched = 0
            return
        line = data[begin:end]  # a CR at its end is one more blank
        if foreign_request(line):
            raise ProtocolError("Protocol error: this port speaks RESP, not HTTP")
        if b"\0" in line:
            raise ProtocolError("Protocol error: NUL byte in inline request")
        arguments = split_inline(line)
        if len(arguments) > self._arguments_max:
            raise ProtocolError("Protocol error: too many arguments in inline request")
        if any(len(argument) > self._argument_bytes_max for argument in arguments):
            raise ProtocolError("Protocol error: too big inline request")
        self._position = end + 1
        if arguments:
            found.append(arguments)


def take_canonical(parts: list[bytes], found: list[list[bytes]], limit: int) -> int:
    """Append commands in canonical encoding to `found` while it has fewer than `limit`.

    parts: bytes that begin a command, split at each CRLF. Returns how many of the bytes are left
    over. All of them are when one argument is longer than the table or contains CRLF.
    """
    last = len(parts) - 1
    before = len(found)
    bulks: list[bytes] = []  # header, argument, header, argument, ...
    at = 0
    while at < last and len(found) < limit:
        end = at + SPANS.get(parts[at], len(parts))
        if end > last:
            break
        bulks += parts[at + 1 : end]
        found.append(parts[at + 2 : end : 2])
        at = end
    try:
        exact = list(map(length_header, map(len, bulks[1::2]))) == bulks[::2]
    except IndexError:
        exact = False
    if not exact:
        del found[before:]
        at = 0
    return sum(map(len, parts[at:])) + 2 * (last - at)


def split_inline(line: bytes) -> list[bytes]:
    """Split an inline command into arguments, as sdssplitargs of Redis does; [] when it is blank.

    Blanks separate. In double quotes \\n, \\r, \\t, \\b, \\a and \\xHH are escapes and any other
    escaped byte is itself. In single quotes only \\' is one, also behind another backslash. Raises
    ProtocolError when a quote is not closed, or not followed by a blank.
    """
    if not (b'"' in line or b"'" in line or b"\x0b" in line or b"\x0c" in line):
        return line.split()
    arguments = []
    position = 0
    end = len(line.rstrip())
    while position < end:
        match = inline_argument(line, position)
        if match is None:
            raise ProtocolError("Protocol error: unbalanced quotes in request")
        plain, double, single = match.groups()
        if double is not None:
            plain += replace_escapes(unescaped, double)
        elif single is not None:
            plain += single.replace(b"\\'", b"'")
        arguments.append(plain)
        position = match.end()
    return arguments


def unescaped(match: re.Match[bytes]) -> bytes:
    """The byte that an escape in double quotes stands for."""
    if match[1] is not None:
        return bytes.fromhex(match[1].decode())
    return ESCAPES.get(match[2], match[2])


def parse_integer(text: bytes) -> int | None:
    """A signed 64-bit integer in canonical decimal form, or None, as string2ll of Redis."""
    if integer(text) is None:
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def printable(byte: int) -> str:
    """A client's byte as it may stand in an error text."""
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
