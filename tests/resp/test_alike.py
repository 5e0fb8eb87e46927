"""Pipelines of like commands: the shortcut gives what the parser and the binders give, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.errors import CommandError
from resplock.resp.alike import ALIKE_BYTES_MAX, bind_alike, take_alike
from resplock.resp.arguments import Key
from resplock.resp.commands import COMMANDS
from resplock.server.connection import PROPOSALS
from tests.resp.test_parser import Commands, array, parse
from tests.resp.test_parser_properties import FRAGMENTS, Exact

budget = settings(max_examples=max(400, settings().max_examples))

ACQUIRE = [b"LOCK.ACQUIRE", b"orders/1", b"me", b"TTL", b"30000"]
RELEASE = [b"LOCK.RELEASE", b"orders/1", b"me"]
BREAK = [b"LOCK.BREAK", b"orders/1"]


def alike(command: list[bytes], *keys: bytes) -> Commands:
    """The command with each of these keys."""
    return [[command[0], key, *command[2:]] for key in keys]


def encode(commands: Commands) -> bytes:
    return b"".join(array(*command) for command in commands)


# --- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [ACQUIRE, RELEASE, BREAK])
@pytest.mark.parametrize(
    "keys",
    [
        [b"a", b"b"],
        [b"a", b"a", b"a"],
        [b"k%d" % number for number in range(95, 105)],
        [b"x" * size for size in (1, 8, 9, 10, 11, 98, 99, 100, 101, 998, 999, 1000, 1001, 1024)],
        [
            b"a",
            b"a\r\nb",
            b"\r\n",
            b"\r",
            b"\n",
            b"2",
            b"1\r\na",
            b"$1\r\na\r\n",
            bytes(range(256)),
        ],
        [b"k%d" % number for number in range(150)],
    ],
)
def test_takes_like_commands(command: list[bytes], keys: list[bytes]) -> None:
    commands = alike(command, *keys)
    assert take_alike(encode(commands)) == (commands[0], keys)


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [ACQUIRE],
        [ACQUIRE, RELEASE],
        [ACQUIRE, ACQUIRE, RELEASE],
        [RELEASE, ACQUIRE, RELEASE],
        [[b"LOCK.BREAK"], [b"LOCK.BREAK"]],
        [[*RELEASE[:2], b"me"], [*RELEASE[:2], b"you"]],
        [[*ACQUIRE[:4], b"1"], [*ACQUIRE[:4], b"2"], [*ACQUIRE[:4], b"1"]],
        alike(ACQUIRE, b"a", b"", b"b"),
        alike(ACQUIRE, b"", b""),
        alike(ACQUIRE, b"a", b"x" * (limits.KEY_BYTES_MAX + 1)),
        [[b"PING", b"x", *[b""] * 8]] * 2,
        alike(ACQUIRE, *[b"x" * limits.KEY_BYTES_MAX] * 17),
    ],
    ids=lambda commands: f"{len(commands)} commands",
)
def test_leaves_the_rest_to_the_parser(commands: Commands) -> None:
    assert take_alike(encode(commands)) is None


def test_takes_as_much_as_it_may() -> None:
    like = array(*RELEASE)
    most = ALIKE_BYTES_MAX // len(like)
    assert take_alike(like * most) == (RELEASE, [RELEASE[1]] * most)
    assert take_alike(like * (most + 1)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"$8\r\norders/1", b"$08\r\norders/1"),
        (b"$8\r\norders/1", b"$+8\r\norders/1"),
        (b"$8\r\norders/1", b"$9\r\norders/1"),
        (b"$8\r\norders/1", b"$7\r\norders/1"),
        (b"$8\r\norders/1", b"$8\norders/1\r"),
        (b"$8\r\norders/1", b":8\r\norders/1"),
        (b"$8\r\norders/1", b"$8\r\norders/1\r\n"),
        (b"$8\r\norders/1\r\n", b"$8\r\norders/1xx"),
        (b"*3\r\n", b"*2\r\n"),
        (b"*3\r\n", b"*4\r\n"),
        (b"*3\r\n", b"*03\r\n"),
        (b"*3\r\n", b"%3\r\n"),
        (b"$2\r\nme", b"$3\r\nme"),
        (b"$2\r\nme", b"$02\r\nme"),
        (b"$12", b"$13"),
    ],
)
@pytest.mark.parametrize("where", ["first", "second", "last", "all"])
def test_takes_no_other_spelling(old: bytes, new: bytes, where: str) -> None:
    commands = [array(*RELEASE)] * 4
    for at in {"first": [0], "second": [1], "last": [3], "all": [0, 1, 2, 3]}[where]:
        commands[at] = commands[at].replace(old, new)
    assert take_alike(b"".join(commands)) is None


def test_what_all_have_in_common_may_also_be_in_a_key() -> None:
    """The data is cut within such a key: its pieces are no bulks, even where they end like one."""
    head, _, tail = array(*RELEASE).partition(b"8\r\norders/1")
    for key in (b"a" + tail + head + b"b", b"1\r\na" + tail + head + b"1\r\nb"):
        commands = alike(RELEASE, b"c", key, b"c")
        assert take_alike(encode(commands)) is None
        assert parse([encode(commands)]) == (commands, None)


# --- equivalence ---------------------------------------------------------------------------------

KEYS = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from(
        [b"a", b"\r\n", b"1\r\na", b"me\r\n", b"x" * 99, b"x" * 1024, b"x" * 1025, b""]
    ),
)
WORDS = st.sampled_from(
    [b"me", b"you", b"TTL", b"1", b"30000", b"VERSION", b"REQUEST", b"x", b"", b"\r\n", b"META"]
)
COMMAND = st.one_of(
    st.sampled_from([ACQUIRE, RELEASE, BREAK, [b"LOCK.RENEW", b"a", b"me"], [b"ECHO", b"a"]]),
    st.tuples(st.sampled_from(sorted(PROPOSALS)), st.just(b"a"), WORDS, WORDS, WORDS).map(list),
    st.lists(st.one_of(st.sampled_from(sorted(PROPOSALS)), WORDS), min_size=1, max_size=11),
)


@st.composite
def pipelines(draw: st.DrawFn) -> Commands:
    """Like commands, among which there may be strangers."""
    command = draw(COMMAND)
    commands = alike(command, *draw(st.lists(KEYS, max_size=9)))
    for stranger in draw(st.lists(COMMAND, max_size=1)):
        commands.insert(draw(st.integers(0, len(commands))), stranger)
    return commands


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A pipeline with a few bytes replaced, inserted, removed, or moved from elsewhere in it."""
    data = encode(draw(pipelines()))
    for _ in range(draw(st.integers(1, 3))):
        begin, other = draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([0, 1, 2, 4, 16, 64]))
        patch = draw(
            st.one_of(st.sampled_from(FRAGMENTS), st.just(data[other : other + size]), st.just(b""))
        )
        data = data[:begin] + patch + data[begin + draw(st.integers(0, 8)) :]
    return data


@budget
@given(st.one_of(pipelines().map(encode), mutated()))
def test_what_is_taken_is_what_the_exact_scanner_reads(data: bytes) -> None:
    found = take_alike(data)
    if found is not None:
        arguments, keys = found
        exact = Exact()
        assert parse([data], exact) == (alike(arguments, *keys), None)
        assert not exact.partial


@budget
@given(
    st.sampled_from([ACQUIRE, RELEASE, BREAK]),
    st.lists(KEYS.filter(lambda key: 1 <= len(key) <= 1024 and b"\r\n" not in key), min_size=2),
)
def test_like_commands_are_found(command: list[bytes], keys: list[bytes]) -> None:
    data = encode(alike(command, *keys))
    expected = ([command[0], keys[0], *command[2:]], keys)
    assert take_alike(data) == (expected if len(data) <= ALIKE_BYTES_MAX else None)


@budget
@given(pipelines(), st.integers(0, 15))
def test_what_is_bound_is_what_the_binders_give(commands: Commands, db: int) -> None:
    found = take_alike(encode(commands))
    if found is None or (bind := PROPOSALS.get(found[0][0])) is None:
        return
    try:
        expected = [bind(command, db) for command in commands]
    except CommandError:
        expected = []
    if expected:
        assert bind_alike(bind, *found, db) == expected
    else:
        with pytest.raises(CommandError):
            bind_alike(bind, *found, db)


def test_what_is_proposed_begins_with_a_key() -> None:
    """As `bind_alike` takes for granted."""
    for spelling in PROPOSALS:
        command = COMMANDS[spelling.upper()]
        first = command.arguments[0]
        assert isinstance(first, Key), command
        assert (first.least, first.most, first.printable) == (1, limits.KEY_BYTES_MAX, "")
        assert not any((first.optional, first.multiple, first.counted, first.token))
        if not command.later:
            assert command.builds is not None
            assert command.builds.__struct_fields__[0] == "name"
        assert len(command.words) == 1
