"""Commands like earlier ones: the shortcut gives what the parser and the binders give, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.operations import Acquire, AcquireAll, Evaluate, Operation, Options
from resplock.resp.alike import (
    ALIKE_BYTES_MAX,
    COMMON_BYTES_MAX,
    LIKENESS_KEY_BYTES,
    LIKENESSES_MAX,
    Likeness,
    attaches,
    learn,
)
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


def take(command: list[bytes], data: bytes, db: int = 0) -> Operation | list[Operation] | None:
    """What is taken of the data by one who knows this command."""
    return Likeness(command, PROPOSALS[command[0]](command, 0)).take(data, db)


def bound(commands: Commands, db: int = 0) -> list[Operation]:
    """What the binders make of the commands."""
    return [PROPOSALS[command[0]](command, db) for command in commands]


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
    assert take(command, encode(commands)) == bound(commands)
    assert take(command, encode(commands), 15) == bound(commands, 15)
    for one in commands:
        assert [take(command, encode([one]))] == bound([one])


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [RELEASE],
        [[b"lock.acquire", *ACQUIRE[1:]]],
        [ACQUIRE[:3]],
        [ACQUIRE, RELEASE],
        [ACQUIRE, ACQUIRE, RELEASE],
        [RELEASE, ACQUIRE, RELEASE],
        [[*ACQUIRE[:2], b"you", *ACQUIRE[3:]]],
        [ACQUIRE, [*ACQUIRE[:2], b"you", *ACQUIRE[3:]], ACQUIRE],
        [ACQUIRE, [*ACQUIRE[:4], b"30001"], ACQUIRE],
        alike(ACQUIRE, b""),
        alike(ACQUIRE, b"x" * (limits.KEY_BYTES_MAX + 1)),
        alike(ACQUIRE, b"a", b"", b"b"),
        alike(ACQUIRE, b"", b""),
        alike(ACQUIRE, b"a", b"x" * (limits.KEY_BYTES_MAX + 1)),
        alike(ACQUIRE, *[b"x" * limits.KEY_BYTES_MAX] * 17),
    ],
    ids=lambda commands: f"{len(commands)} commands",
)
def test_leaves_the_rest_to_the_parser(commands: Commands) -> None:
    assert take(ACQUIRE, encode(commands)) is None


def test_takes_as_much_as_it_may() -> None:
    most = ALIKE_BYTES_MAX // len(array(*RELEASE))
    assert take(RELEASE, array(*RELEASE) * most) == bound([RELEASE] * most)
    assert take(RELEASE, array(*RELEASE) * (most + 1)) is None


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
    assert take(RELEASE, b"".join(commands)) is None
    assert take(RELEASE, array(*RELEASE).replace(old, new)) is None


@pytest.mark.parametrize("command", [ACQUIRE, RELEASE, BREAK])
def test_takes_no_part_of_a_command(command: list[bytes]) -> None:
    data = array(*command)
    for size in range(1, len(data)):
        assert take(command, data[:size]) is None
        assert take(command, data + data[:size]) is None
        assert take(command, data[size:]) is None


def test_what_all_have_in_common_may_also_be_in_a_key() -> None:
    """The data is cut within such a key: its pieces are no bulks, even where they end like one."""
    head, _, tail = array(*RELEASE).partition(b"8\r\norders/1")
    for key in (b"a" + tail + head + b"b", b"1\r\na" + tail + head + b"1\r\nb"):
        commands = alike(RELEASE, b"c", key, b"c")
        assert take(RELEASE, encode(commands)) is None
        assert parse([encode(commands)]) == (commands, None)


# --- equivalence ---------------------------------------------------------------------------------

KEYS = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from(
        [b"a", b"\r\n", b"1\r\na", b"me\r\n", b"x" * 99, b"x" * 1024, b"x" * 1025, b""]
    ),
)
KNOWN = st.sampled_from(
    [
        ACQUIRE,
        ACQUIRE[:3],
        RELEASE,
        [*RELEASE, b"VERSION", b"7"],
        [*ACQUIRE, b"SHARED"],
        [b"LOCK.ENQUEUE", *ACQUIRE[1:]],
        BREAK,
        [b"lock.renew", b"a", b"me"],
        [*ACQUIRE[:3], b"REQUEST", b"\r\n", b"META", b"1", b"k", b"$1\r\na\r\n"],
    ]
)
STRANGERS = st.one_of(KNOWN, st.sampled_from([[b"PING"], [b"ECHO", b"a"], [b"LOCK.BREAK"], [b""]]))


@st.composite
def pipelines(draw: st.DrawFn, known: list[bytes]) -> Commands:
    """Like commands, among which there may be strangers."""
    commands = alike(known, *draw(st.lists(KEYS, min_size=1, max_size=9)))
    for stranger in draw(st.lists(STRANGERS, max_size=1)):
        commands.insert(draw(st.integers(0, len(commands))), stranger)
    return commands


@st.composite
def streams(draw: st.DrawFn, known: list[bytes]) -> bytes:
    """A pipeline with a few bytes replaced, inserted, removed, or moved from elsewhere in it."""
    data = encode(draw(pipelines(known)))
    for _ in range(draw(st.integers(0, 2))):
        begin, other = draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([0, 1, 2, 4, 16, 64]))
        patch = draw(
            st.one_of(st.sampled_from(FRAGMENTS), st.just(data[other : other + size]), st.just(b""))
        )
        data = data[:begin] + patch + data[begin + draw(st.integers(0, 8)) :]
    return data


@budget
@given(st.data(), KNOWN, st.integers(0, 15))
def test_what_is_taken_is_what_the_parser_and_the_binders_give(
    data: st.DataObject, known: list[bytes], db: int
) -> None:
    stream = data.draw(streams(known))
    taken = take(known, stream, db)
    if taken is not None:
        exact = Exact()
        commands, error = parse([stream], exact)
        assert (error, exact.partial) == (None, False)
        assert (taken if isinstance(taken, list) else [taken]) == bound(commands, db)
        assert isinstance(taken, list) == (len(commands) > 1)


@budget
@given(
    KNOWN,
    st.lists(KEYS.filter(lambda key: 1 <= len(key) <= 1024 and b"\r\n" not in key), min_size=2),
)
def test_like_commands_are_found(known: list[bytes], keys: list[bytes]) -> None:
    commands = alike(known, *keys)
    stream = encode(commands)
    assert take(known, stream) == (bound(commands) if len(stream) <= ALIKE_BYTES_MAX else None)


# --- what is learned -----------------------------------------------------------------------------


def test_is_known_by_its_first_bytes() -> None:
    likes: dict[bytes, Likeness] = {}
    for command in (ACQUIRE, RELEASE, BREAK):
        learn(likes, command, *bound([command]))
        assert likes[array(*command)[:LIKENESS_KEY_BYTES]].name == command[0]
    assert len(likes) == 3


def test_the_latest_is_known() -> None:
    likes: dict[bytes, Likeness] = {}
    other = [*ACQUIRE[:2], b"you", *ACQUIRE[3:]]
    for command in (ACQUIRE, other):
        learn(likes, command, *bound([command]))
    (known,) = likes.values()
    assert known.take(array(*ACQUIRE), 0) is None
    taken = known.take(array(*other), 0)
    assert isinstance(taken, Acquire)
    assert taken.owner == b"you"


def test_what_is_kept_is_bounded() -> None:
    likes: dict[bytes, Likeness] = {}
    for size in range(1, 5 * LIKENESSES_MAX):
        known = [b"x" * size, b"k" * 1000, b"me"]
        learn(likes, known, *bound([RELEASE]))
        assert 1 <= len(likes) <= LIKENESSES_MAX
    likes.clear()
    spare = COMMON_BYTES_MAX - len(RELEASE[0])
    learn(likes, [*RELEASE[:2], b"x" * (spare + 1)], *bound([RELEASE]))
    assert not likes
    learn(likes, [*RELEASE[:2], b"x" * spare], *bound([RELEASE]))
    assert likes


@pytest.mark.parametrize(
    ("options", "tied"),
    [
        ([], False),
        ([b"WAIT", b"0"], False),
        ([b"WAIT", b"1"], True),
        ([b"ONCLOSE", b"KEEP"], False),
        ([b"ONCLOSE", b"RELEASE"], True),
        ([b"SHARED", b"PRIORITY", b"5", b"DELAY", b"9"], False),
    ],
)
def test_what_is_tied_to_its_connection_is_not_kept(options: list[bytes], tied: bool) -> None:
    likes: dict[bytes, Likeness] = {}
    command = [*ACQUIRE, *options]
    learn(likes, command, *bound([command]))
    assert bool(likes) != tied
    assert attaches(bound([command])[0]) == tied


def test_a_place_without_a_blocked_connection_is_tied_only_with_onclose() -> None:
    enqueue = [b"LOCK.ENQUEUE", *ACQUIRE[1:], b"WAIT", b"5"]
    assert not attaches(*bound([enqueue]))
    assert attaches(*bound([[*enqueue, b"ONCLOSE", b"RELEASE"]]))
    assert not attaches(*bound([RELEASE]))
    assert attaches(AcquireAll((), b"me", options=Options(wait_ms=1)))


def test_what_builds_another_operation_for_several_keys_is_not_learned() -> None:
    likes: dict[bytes, Likeness] = {}
    several = [b"DEL", b"a", b"b"]
    learn(likes, several, *bound([several]))
    assert not likes
    one = [b"DEL", b"a"]
    learn(likes, one, *bound([one]))
    (like,) = likes.values()
    assert like.take(b"*2\r\n$3\r\nDEL\r\n$2\r\nbc\r\n", 0) == bound([[b"DEL", b"bc"]])[0]
    assert like.take(b"*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\nb\r\n", 0) is None


def test_a_script_is_not_learned() -> None:
    likes: dict[bytes, Likeness] = {}
    script = [b"EVAL", b"return 1", b"1", b"k"]
    learn(likes, script, *bound([script]))
    assert not likes


def test_what_is_proposed_begins_with_a_key() -> None:
    """As `Likeness` takes for granted. Scripts are not learned: an Evaluate has no `name` in front."""
    for spelling in PROPOSALS:
        command = COMMANDS[spelling.upper()]
        if command.builds is Evaluate:
            continue
        first = command.arguments[0]
        assert isinstance(first, Key), command
        assert (first.least, first.most, first.printable) == (1, limits.KEY_BYTES_MAX, "")
        assert not any((first.optional, first.counted, first.token))
        assert command.builds is not None
        assert command.builds.__struct_fields__[0] == "name"
        assert len(command.words) == 1
